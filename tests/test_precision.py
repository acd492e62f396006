"""Lower precision and compiled networks: the same objective to their rounding, statistics in float32."""
import itertools
import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from helpers import POOL, contents

from models.registry import load_teachers
from models.train_teachers import TeacherConfig
from recover.data_synthesis import RecoverConfig
from recover.objective import Objective
from recover.selection import Draw, Pool
from recover.units import Inputs
from utils.flags import build_config
from utils.precision import LOSS_SCALE, PixelAdam, lowered, set_precision
from utils.records import read_json
from utils.session import open_session
from validate import diversity
from validate.training import Learner

pytest_plugins = ["stage_fixtures"]
CPU = torch.device("cpu")
NAMES = POOL[:3]


@pytest.fixture
def step(tiny):
    """f(engine, precision): terms and image gradient of one step over three trained teachers, two slices."""
    teachers = load_teachers(NAMES, weights=(), weights_dir=str(tiny.teachers), dataset="x", num_classes=4,
                             stem="small", device=CPU)

    def run(engine: str, precision: str = "fp32", **settings):
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(2, 8, 3, 16, 16, generator=generator).requires_grad_()
        models = {name: teacher.model for name, teacher in teachers.items()}
        if engine == "reference":
            models = {name: load_teachers([name], weights=(), weights_dir=str(tiny.teachers), dataset="x",
                                          num_classes=4, stem="small", device=CPU)[name].model
                      for name in NAMES}
        config = build_config(RecoverConfig, {
            "pool": NAMES, "arch_name": NAMES[0], "engine": engine, "first_bn_multiplier": 10.0, "r_bn": 0.3,
            "precision": precision, **settings})
        objective = config.objective(Inputs(
            real=None, pool=Pool(tuple(models)), networks=models, seed=0, size=16, mean=config.mean,
            std=config.std, device=CPU, precision=config.precision))
        terms = objective.backward([image * 1.5 for image in images], torch.arange(8) % 4,
                                   [Draw({NAMES[0]: 1.0}, dict.fromkeys(NAMES, 1 / 3)),
                                    Draw({NAMES[1]: 1.0}, dict.fromkeys(NAMES[:2], 1 / 2))])
        return terms, images.grad
    return run


def cosine(a, b) -> float:
    return F.cosine_similarity(a.flatten().double(), b.flatten().double(), 0).item()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_lower_precision_keeps_terms_and_gradients_near(engine, precision, step):
    exact, expected = step(engine)
    terms, gradient = step(engine, precision)
    assert 0.97 < cosine(gradient, expected) < 1 - 1e-9  # it did round
    assert gradient.norm() == pytest.approx(expected.norm().item(), rel=0.1)  # the loss's scale is undone
    for own, other in zip(terms, exact, strict=True):
        for name, value in own.items():
            assert value.dtype == torch.float32
            assert value.item() == pytest.approx(other[name].item(), rel=0.05)


@pytest.mark.parametrize("prior", ["tv_l2", "l2_scale"])
def test_the_losss_scale_leaves_the_priors_alone(prior, step):
    def of_prior(precision):
        without, weighted = (step("fused", precision, **{prior: weight})[1] for weight in (0.0, 0.05))
        return weighted - without
    assert cosine(of_prior("fp16"), of_prior("fp32")) > 0.99
    assert of_prior("fp16").norm() == pytest.approx(of_prior("fp32").norm().item(), rel=0.05)


def test_fp32_and_tf32_are_set_and_not_left_to_a_default(capfd, monkeypatch):
    monkeypatch.setattr("utils.runtime._said", set())
    set_precision("tf32", torch.device("cuda"))
    assert torch.backends.cudnn.allow_tf32 and torch.backends.cuda.matmul.allow_tf32
    set_precision("fp32", CPU)
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    set_precision("tf32", CPU)
    assert "no effect" in capfd.readouterr().err
    set_precision("fp32", CPU)


def test_commands_without_a_choice_of_precision_are_fp32(monkeypatch, tmp_path):
    def is_tf32(run) -> bool:
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # torch's own default
        run()
        return torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32

    def measure_diversity():
        with pytest.raises(FileNotFoundError):
            diversity.main(["--data", str(tmp_path / "none"), "--threads", "1", "--device", "cpu"])
    config = TeacherConfig(threads=1, device="cpu")
    assert not is_tf32(lambda: open_session(config)) and not is_tf32(measure_diversity)


def test_only_the_half_precisions_change_what_networks_compute():
    x = torch.randn(2, 3, 8, 8)
    weight = torch.randn(4, 3, 3, 3)
    for name, dtype in (("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16),
                        ("fp16", torch.float16)):
        with lowered(name, CPU):
            assert F.conv2d(x, weight).dtype == dtype
    assert list(LOSS_SCALE) == ["fp16"]


def test_only_fp16_scales_the_students_loss():
    student = torch.nn.Linear(2, 2)
    for name in ("fp32", "tf32", "bf16", "fp16"):
        learner = Learner(student, torch.optim.SGD(student.parameters(), lr=0.1), precision=name, device=CPU)
        assert learner.scaler.is_enabled() == (name == "fp16")
        other = Learner(student, learner.optimizer, precision=name, device=CPU)
        other.load(learner.state())
        assert other.scaler.state_dict() == learner.scaler.state_dict()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_stages_run_and_say_their_precision(precision, made, tiny, tmp_path):
    flags = ("--precision", precision)
    run = tiny.recover(tmp_path, *flags)
    ours, exact = (read_json(folder / "units" / "ipc0000_chunk01.json")["final"] for folder in (run, made))
    assert ours == pytest.approx(exact, rel=0.1) and ours != exact
    tiny.relabel(run, *flags)
    assert tiny.validate(run, *flags)["n"] == 2
    with pytest.raises(ValueError, match=f"config.precision is \"{precision}\" there and \"fp32\" here"):
        tiny.recover(tmp_path)


@pytest.mark.slow
def test_compiled_networks_compute_the_same(step, made, tiny, tmp_path):
    if not shutil.which("g++"):
        pytest.skip("torch.compile on a CPU needs a C++ compiler")
    (exact, expected), (terms, gradient) = step("fused"), step("fused", compile=True)
    assert cosine(gradient, expected) > 1 - 1e-9
    for own, other in zip(terms, exact, strict=True):
        assert {name: value.item() for name, value in own.items()} \
            == pytest.approx({name: value.item() for name, value in other.items()}, rel=1e-4)
    run = tiny.recover(tmp_path, "--compile", "--pool", *NAMES)
    assert len(list(run.glob("syn/*/*.png"))) == 8
    assert tiny.validate(made, "--compile", "--output-dir", tmp_path / "out", "--seeds", 0)["n"] == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_recovers_loss_is_scaled_in_fp16_alone(precision):
    seen = []

    class Listening(torch.nn.Module):
        def forward(self, x):
            logits = x.float().mean((2, 3)) @ torch.eye(3, 4)
            logits.register_hook(lambda grad: seen.append(grad.abs().max().item()))
            return logits
    config = build_config(RecoverConfig, {"pool": POOL[:1], "arch_name": POOL[0], "engine": "reference",
                                          "precision": precision})
    objective = config.objective(Inputs(
        real=None, pool=Pool(POOL[:1]), networks={POOL[0]: Listening()}, seed=0, size=8, mean=config.mean,
        std=config.std, device=CPU, precision=precision))
    images = torch.zeros(2, 3, 8, 8, requires_grad=True)
    objective.backward([images * 1.0], torch.tensor([0, 1]), [Draw({POOL[0]: 1.0}, {})])
    scale = 2.0**14 if precision == "fp16" else 1.0  # all logits are 0: the largest gradient is 3/4 over 2
    assert seen == [pytest.approx(scale * 0.375)]
    assert images.grad[0, 0].sum().item() == pytest.approx(-0.375, rel=1e-5)  # the scale is undone


def test_labels_and_students_are_computed_in_the_precision_that_is_said(made, tiny, tmp_path):
    folder = tiny.relabel(made, "--fkd-path", tmp_path / "fkd", "--precision", "bf16")
    ours, exact = (torch.load(path / "epoch_000.pt", weights_only=True) for path in (folder, made / "fkd/2"))
    assert all(torch.equal(ours[name], exact[name]) for name in exact if name != "logits")
    difference = (ours["logits"] - exact["logits"]).abs().max()
    assert 0.001 < difference < 0.1 * exact["logits"].abs().max()  # bfloat16 has 8 bits, float16 11
    losses = []
    for name in ("fp32", "bf16"):
        tiny.validate(made, "--output-dir", tmp_path / name, "--precision", name, "--seeds", 0)
        log = (tmp_path / name / "seed0" / "log.jsonl").read_text().splitlines()
        losses.append(json.loads(log[0])["loss"])
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.05)


# ---------------------------------------------------------------- gradients that float16 does not hold

def steps_of(gradients, precision: str):
    """The images, optimiser and terms after a step on each of these gradients."""
    images, terms = torch.zeros(3, requires_grad=True), {}
    optimizer = PixelAdam(images, betas=(0.5, 0.9), precision=precision)
    for i, gradient in enumerate(gradients):
        images.grad = torch.tensor(gradient)
        terms = optimizer.take(0.1, {"loss": torch.tensor(float("nan") if i == 1 else float(i))}, terms)
        assert images.grad is None
    return images.detach(), optimizer, terms


def test_a_step_that_overflows_is_skipped_under_fp16_as_gradscaler_does():
    good, bad = [1.0, -2.0, 3.0], [1.0, float("inf"), 0.0]
    images, optimizer, terms = steps_of([good, bad], "fp16")
    once, alone, _ = steps_of([good], "fp16")
    assert torch.equal(images, once) and terms["loss"] == 0.0 and optimizer.skipped(2) == 1
    for name, value in optimizer.state_dict()["state"][0].items():
        assert torch.equal(value, alone.state_dict()["state"][0][name])
    images, optimizer, _ = steps_of([bad, good], "fp16")
    assert torch.equal(images, once) and optimizer.skipped(2) == 1
    assert steps_of([bad], "fp16")[1].skipped(1) == 1  # the first step alone says nothing yet
    with pytest.raises(RuntimeError, match="2 of 3 steps overflowed in float16: use --precision bf16"):
        steps_of([bad, bad, good], "fp16")[1].skipped(3)


def test_other_precisions_skip_nothing_and_are_plain_adam():
    gradients = [[1.0, -2.0, 3.0], [0.5, 0.1, 0.0]]
    images = torch.zeros(3, requires_grad=True)
    plain = torch.optim.Adam([images], lr=0.1, betas=(0.5, 0.9), eps=1e-8)
    for gradient in gradients:
        images.grad = torch.tensor(gradient)
        plain.step()
    ours, optimizer, terms = steps_of(gradients, "fp32")
    assert torch.equal(ours, images) and optimizer.skipped(2) == 0 and terms["loss"].isnan()
    assert steps_of([*gradients, [float("inf")] * 3], "bf16")[0].isnan().all()


def overflowing(monkeypatch, at) -> None:
    """Makes the gradient overflow at these calls of the objective, and its terms with it."""
    calls, backward = itertools.count(), Objective.backward

    def run(objective, views, targets, draws):
        terms = backward(objective, views, targets, draws)
        if next(calls) in at:
            overflow.append(views[0].sum() * float("inf"))
            overflow[-1].backward()
            terms[0]["loss"] = terms[0]["loss"] * float("inf")
        return terms
    overflow: list[torch.Tensor] = []
    monkeypatch.setattr(Objective, "backward", run)


def test_recover_under_fp16_goes_on_past_overflows_and_says_so(tiny, tmp_path, monkeypatch, capfd):
    overflowing(monkeypatch, at=(0, 6, 7))
    run = tiny.recover(tmp_path, "--iteration", 12, "--ipc-end", 1, "--precision", "fp16", "--save-every", 0)
    rows = [json.loads(row) for row in (run / "log.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row.get("chunk") == 0]
    assert [row.get("skipped") for row in rows] == [1] * 6 + [2] + [3] * 5 + [None]
    assert "loss" not in rows[0] and rows[6]["loss"] == rows[7]["loss"] == rows[5]["loss"] != rows[8]["loss"]
    assert capfd.readouterr().err.count("a gradient overflowed in float16") == 1


def test_a_state_that_is_not_finite_ends_the_run_and_a_rerun_goes_on(tiny, tmp_path, monkeypatch, capfd):
    flags = ("--iteration", 12, "--ipc-end", 1, "--save-every", 0, "--log-every", 50)
    whole = tiny.recover(tmp_path / "whole", *flags)
    with monkeypatch.context() as patch:
        overflowing(patch, at=(6,))
        with pytest.raises(RuntimeError, match="ipc0000_chunk00.pt: not saved, state.images.0 is not finite"):
            tiny.recover(tmp_path, *flags)
    capfd.readouterr()
    run = tiny.recover(tmp_path, *flags)
    assert "goes on from its save, 6 of 12 iterations are done" in capfd.readouterr().err
    assert contents(run) == contents(whole)
