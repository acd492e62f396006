"""What a GPU would refuse, and what the CPU would wait for: on one that is not there, pretended_cuda.py's."""
import pytest
import torch
from helpers import contents
from pretended_cuda import DEVICE, Lent, pretended_cuda
from test_cuda import CHAINS, CPU, TEACHERS, assert_same_draws, chain, step
from torch import nn

from utils.records import read_json
from validate import training

pytest_plugins = ["stage_fixtures"]


# ---------------------------------------------------------------- the device that is lent

@pytest.fixture
def waits():
    """The device, for one test: operation -> how often it was waited for."""
    with pretended_cuda() as counted:
        yield counted


@pytest.mark.parametrize("mixed", [
    lambda there, here: there + here, lambda there, here: torch.cat([here, there]),
    lambda there, here: there.mul_(here), lambda there, here: here.clamp_(there),
    lambda there, here: torch.where(there > 0, there, here), lambda there, here: here[there.long()],
    lambda there, here: there.__setitem__(there > 0, here),
    lambda there, here: there.__setitem__([0, 1, 2], here),
    lambda there, here: nn.Linear(3, 2)(there), lambda there, here: nn.Linear(3, 2).to(DEVICE)(here)])
def test_devices_do_not_mix(mixed, waits):
    with pytest.raises(RuntimeError, match="same device|indices on cuda:0"):
        mixed(torch.ones(3, device="cuda"), torch.ones(3))


def test_a_generator_is_of_the_device(waits):
    for draw in (lambda own: torch.randn(3, device="cuda", generator=own),
                 lambda own: torch.ones(3).to("cuda").uniform_(generator=own)):
        with pytest.raises(RuntimeError, match="'cuda' device type for generator"):
            draw(torch.Generator())


def test_what_may_mix_does(waits):
    there = torch.arange(3.0).to("cuda")
    there[1:] = torch.tensor(5.0)  # one number of the CPU's
    assert (there * torch.tensor(2.0)).tolist() == [0, 10, 10] and there[torch.tensor([2])].item() == 5
    assert there[[0, 2]].tolist() == [0, 5] and there[None, [2, 0]].tolist() == [[5, 0]]
    with pytest.raises(TypeError, match="convert cuda:0 device type tensor to numpy"):
        there.numpy()


def test_an_operation_is_the_cpus_and_its_result_is_there(waits):
    x, layer = torch.randn(2, 3, 8, 8), nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    found = []
    for device in (CPU, DEVICE):
        images = x.to(device, copy=True).requires_grad_()
        out = layer.to(device, memory_format=torch.channels_last)(images)
        out.square().sum().backward()
        assert {images.device, out.device, images.grad.device, layer[0].weight.grad.device} == {device}
        found.append([images.grad.cpu(), out.detach().cpu(), layer[1].running_var.to(CPU, copy=True)])
        layer.zero_grad()
        layer[1].reset_running_stats()
    assert all(map(torch.equal, *found)) and isinstance(layer[0].weight, Lent)


def test_waiting_is_counted(waits):
    there = torch.ones(4).to("cuda", non_blocking=True)
    assert (there * 2 + 1).sum().device == DEVICE and not waits
    for waiting in (lambda: there.sum().item(), lambda: there.cpu(), lambda: torch.ones(2).to("cuda"),
                    lambda: there[there > 0], lambda: bool((there > 0).all()), lambda: there.nonzero(),
                    lambda: torch.tensor([1.0], device="cuda"), lambda: there.copy_(torch.zeros(4)),
                    lambda: there[[0, 1]], lambda: there.long().bincount(),
                    lambda: torch.linalg.eigvalsh(there[:, None] @ there[None])):
        before = waits.total()
        waiting()
        assert waits.total() == before + 1, waiting


# ---------------------------------------------------------------- steps and stages

@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_a_step_is_the_cpus(engine, waits):
    names = TEACHERS["cpu"]
    ours, theirs = (step(engine, names, r_bn=0.1, device=device) for device in (DEVICE, CPU))
    assert torch.equal(ours[0], theirs[0]) and ours[1] == theirs[1] and len(ours[1]) == 6


@pytest.mark.parametrize("name", CHAINS)
def test_all_stages_have_their_tensors_there(name, made, tiny, tmp_path):
    with pretended_cuda():
        run, summary = chain(tiny, tmp_path, name, torch.device("cuda"))
    assert [own["device"] for own in summary["results"]] == ["cuda"] * 2
    assert all(read_json(path)["device"] == "cuda" for path in run.glob("units/*.json"))
    if name == "plain":  # and the CPU's bytes: the operations are the CPU's
        assert_same_draws(run, made)
        ours, theirs = contents(run), contents(made)
        same = [path for path in theirs if path.endswith((".jpg", ".png", ".pt"))]
        assert len(same) > 10 and all(ours[path] == theirs[path] for path in same)


def test_no_iteration_and_no_batch_waits(tiny, tmp_path, waits, monkeypatch):
    """Logs, saves, tests and ends of epochs wait: as often for more iterations and for smaller batches."""
    seen = {"top1": 0.5, "top5": 1.0, "images": 1}  # whose epochs are alike: one is saved as the best
    monkeypatch.setattr(training, "evaluate", lambda *_, **__: seen)
    where, counts = ("--device", "cuda"), []
    for iterations, batch in ((3, 4), (3, 4), (9, 2)):  # the first fills caches
        run = tiny.recover(tmp_path / str(len(counts)), *where, "--iteration", iterations, "--log-every", 100)
        recovered = waits.total()
        tiny.relabel(run, *where, "--batch-size", batch)
        labelled = waits.total()
        tiny.validate(run, *where)
        counts.append((recovered, labelled - recovered, waits.total() - labelled))
        waits.clear()
    assert counts[1] == counts[2] and min(counts[1]) > 0
