"""Teachers by the statistics of the batch at hand: numpy by hand, what stays, and the same bytes anew."""
import dataclasses

import numpy as np
import pytest
import torch
from helpers import POOL, contents, pixels_of
from torch import nn

from models.ensemble import Weighted
from models.registry import MODELS, load_teachers
from models.teacher_statistics import TEACHER_STATISTICS, BatchStatistics, Running, split
from relabel import generate_soft_label
from utils.augment import Padded
from utils.flags import parse_config
from utils.formats import open_labels
from utils.records import read_json
from validate import train_FKD
from validate.soft_labels import open_teaching
from validate.train_FKD import ValidateConfig

pytest_plugins = ["stage_fixtures"]
CPU, BATCH = torch.device("cpu"), (3, 1, 2)
FLAGS = ("--teacher-statistics", "batch", "--ensemble", "weighted", "--label-priors", 40, 55, 62.5)


@pytest.fixture
def network(gen):
    """Linear, BatchNorm, ReLU, linear; its running statistics are far from any batch's."""
    made = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.BatchNorm1d(6), nn.ReLU(),
                         nn.Linear(6, 4)).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=gen))
        made[2].running_mean.fill_(100)
    return made.eval()


@pytest.fixture
def views(gen):
    return torch.randn(7, 3, 2, 2, generator=gen, dtype=torch.float64)


def by_hand(network: nn.Module, images: torch.Tensor) -> np.ndarray:
    """The network's logits with the mean and the biased variance of these images."""
    first, norm, last = (network[i] for i in (1, 2, 4))
    weight, bias, scale, shift, out, end = (p.detach().numpy() for p in (
        first.weight, first.bias, norm.weight, norm.bias, last.weight, last.bias))
    x = images.numpy().reshape(len(images), -1) @ weight.T + bias
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + norm.eps) * scale + shift
    return np.maximum(x, 0) @ out.T + end


# ---------------------------------------------------------------- one batch

def test_every_part_is_normalised_by_itself(network, views):
    halves, = BatchStatistics().ask([network], views, BATCH)
    np.testing.assert_allclose(halves.detach(), np.concatenate(
        [by_hand(network, views[:3]), by_hand(network, views[3:])]), rtol=1e-9)  # at floor(7 / 2)
    whole, = BatchStatistics(label_splits=1).ask([network], views, BATCH)
    np.testing.assert_allclose(whole.detach(), by_hand(network, views), rtol=1e-9)
    assert not torch.allclose(halves, whole)
    plain, = Running().ask([network], views, BATCH)
    assert torch.equal(plain, network(views))


def test_one_part_does_not_see_the_other(network, views):
    before, = BatchStatistics().ask([network], views, BATCH)
    views[5] += 3
    after, = BatchStatistics().ask([network], views, BATCH)
    assert torch.equal(before[:3], after[:3]) and (before[3:] != after[3:]).any(1).all()


def test_running_statistics_are_neither_read_nor_written(network, views):
    network[2].running_var.fill_(torch.nan)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert "2.num_batches_tracked" in before
    logits, = BatchStatistics().ask([network], views, BATCH)
    assert torch.isfinite(logits).all()
    assert all(torch.equal(tensor, before[name]) or name == "2.running_var"
               for name, tensor in network.state_dict().items())
    assert not any(layer.training for layer in network.modules()) and network[2].track_running_stats
    with pytest.raises(RuntimeError):
        BatchStatistics().ask([network], views[:, :2], BATCH)  # a shape that the network does not take
    assert not any(layer.training for layer in network.modules()) and network[2].track_running_stats


@pytest.mark.parametrize("num, parts, lengths", [
    (16, 2, [8, 8]), (8, 2, [4, 4]), (7, 2, [3, 4]), (5, 2, [2, 3]), (3, 2, [3]), (2, 2, [2]), (1, 2, [1]),
    (16, 1, [16]), (11, 3, [3, 4, 4]), (5, 4, [2, 3]), (9, 32767, [2, 2, 2, 3])])
def test_where_a_batch_is_cut(num, parts, lengths):
    cut = split(num, parts)
    assert [part.stop - part.start for part in cut] == lengths
    assert [i for part in cut for i in range(num)[part]] == list(range(num))


def test_dropout_is_live_and_belongs_to_its_batch():
    ones, dropout = torch.ones(4, 500), nn.Dropout(0.25).eval()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    drawn, second = BatchStatistics().ask([dropout, dropout], ones, BATCH)
    assert torch.equal(torch.get_rng_state(), state)  # of the students
    np.testing.assert_allclose(drawn.unique(), [0, 4 / 3], rtol=1e-6)
    assert (drawn == 0).double().mean().item() == pytest.approx(0.25, abs=0.03)
    assert not torch.equal(drawn[:2], drawn[2:]) and not torch.equal(drawn, second)
    torch.manual_seed(6)
    assert torch.equal(BatchStatistics().ask([dropout], ones, BATCH)[0], drawn)
    for other in ((4, 1, 2), (3, 2, 2), (3, 1, 1), (1, 3, 2)):
        assert not torch.equal(BatchStatistics().ask([dropout], ones, other)[0], drawn)


def test_a_single_view_has_no_statistics():
    for num, size in ((8, 7), (1, 5), (13, 4)):
        with pytest.raises(ValueError, match=f"of {num} views in batches of {size} the last has one view"):
            BatchStatistics().check(num, size)
        Running().check(num, size)
    for num, size in ((8, 4), (8, 6), (2, 5)):
        BatchStatistics().check(num, size)
    assert TEACHER_STATISTICS == {"running": Running, "batch": BatchStatistics}


# ---------------------------------------------------------------- through the stages

def teaching(tiny, run, folder, *flags):
    """What teaches students of a folder of labels."""
    config = parse_config(ValidateConfig, tiny.validate_flags(
        run, "--fkd-path", folder, "--weights-dir", tiny.teachers, *flags))
    labels = open_labels(str(folder), 0)
    return open_teaching(labels, config, CPU, labels.views.batch_size)


def rendered(run, drawn, batch):
    """The views of one batch."""
    config = read_json(run / "config.json")["config"]
    images = torch.from_numpy(pixels_of(run)[drawn.index[drawn.rows(batch)]]).to(torch.uint8)
    return drawn.render(images.permute(0, 3, 1, 2), batch, mean=config["mean"], std=config["std"])


@pytest.fixture
def forgetful(monkeypatch):
    """The last network of the pool drops half of its logits in train mode."""
    def build(num_classes, stem):
        network = MODELS[POOL[0]].build(num_classes, stem)
        network.dropout = nn.Dropout()
        network.register_forward_hook(lambda module, _, logits: module.dropout(logits))
        return network
    monkeypatch.setitem(MODELS, POOL[3], dataclasses.replace(MODELS[POOL[3]], build=build))


def test_stored_and_online_labels_are_the_same(forgetful, made, tiny, tmp_path):
    flags = (*FLAGS, "--seed", 2, "--epochs", 2, "--pool", POOL[3], *POOL[:2], "--arch-name", POOL[3],
             "--weights", f"{POOL[3]}={tiny.teachers / POOL[0]}.pt", "--min-teacher-accuracy", 0)
    stored = tiny.relabel(made, "--fkd-path", tmp_path / "stored", *flags)
    assert contents(tiny.relabel(made, "--fkd-path", tmp_path / "again", *flags)) == contents(stored)
    online = tiny.relabel(made, "--fkd-path", tmp_path / "online", "--label-format", "online", *flags)
    saved = read_json(online / "config.json")["config"]
    assert (saved["teacher_statistics"], saved["label_splits"], saved["label_priors"]) \
        == ("batch", 2, [40.0, 55.0, 62.5])
    running = tiny.relabel(made, "--fkd-path", tmp_path / "running", *flags, "--teacher-statistics",
                           "running")
    plain = read_json(running / "config.json")["config"]
    assert "teacher_statistics" not in plain and "label_splits" not in plain
    source = teaching(tiny, made, online, "--weights", f"{POOL[3]}={tiny.teachers / POOL[0]}.pt")
    assert source._ensemble == Weighted(label_priors=(40.0, 55.0, 62.5))  # a tuple again
    before = [{name: tensor.clone() for name, tensor in teacher.state_dict().items()}
              for teacher in source._teachers]
    state = torch.get_rng_state()
    for epoch in range(2):
        drawn, teach = source.epoch(epoch)
        rows, others = (torch.load(folder / f"epoch_{epoch:03d}.pt", weights_only=True)["logits"]
                        for folder in (stored, running))
        for batch in range(2):
            labels = teach(batch, rendered(made, drawn, batch))
            assert torch.equal(labels.half(), rows[drawn.rows(batch)])
            _, elsewhere = source.epoch(epoch + 1)
            assert not torch.equal(labels, elsewhere(batch, rendered(made, drawn, batch)))  # other dropout
            assert not torch.allclose(labels, others[drawn.rows(batch)].float(), rtol=0.01)
    assert torch.equal(torch.get_rng_state(), state)
    for teacher, tensors in zip(source._teachers, before, strict=True):
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in teacher.state_dict().items())


def test_a_weighted_sum_of_the_teachers_of_the_pool(made, tiny, tmp_path):
    flags = ("--ensemble", "weighted", "--label-priors", 30, 50, 40, "--label-temperature", 20, "--epochs", 1)
    stored = open_labels(str(tiny.relabel(made, "--fkd-path", tmp_path, *flags)), 0)
    drawn, rows = stored.load(0)
    views = rendered(made, drawn, 1)
    teachers = load_teachers((POOL[0], POOL[1], POOL[3]), weights=(), weights_dir=str(tiny.teachers),
                             dataset=stored.dataset, num_classes=4, stem="small", device=CPU)
    with torch.no_grad():
        logits = [teacher.model(views).double().numpy() for teacher in teachers.values()]
    weights = np.exp(np.array([30, 50, 40]) / 20)
    expected = np.einsum("t,tnk->nk", weights / weights.sum(), np.stack(logits))
    np.testing.assert_allclose(rows["logits"][drawn.rows(1)].double(), expected, rtol=3e-3, atol=3e-3)


@pytest.mark.parametrize("flags, message", [
    (("--ensemble", "weighted"), "--label-priors: got 0, expected 3, one of each teacher: narrow_resnet "),
    (("--ensemble", "weighted", "--label-priors", 1, 2, 3, 4), "--label-priors: got 4, expected 3"),
    (("--ensemble", "weighted", "--label-priors", 1, 2, "--candidate-number", 3),
     "--label-priors: got 2, expected 3"),
    (("--ensemble", "weighted", "--label-priors", 1, 2, 3, "--arch-name", POOL[1]),
     "--label-priors are in the order of --pool narrow_resnet narrow_shufflenet narrow_alexnet, but "
     "--arch-name narrow_shufflenet is not its first"),
    (("--ensemble", "weighted", "--label-priors", 1, 2, 300), r"--label-priors must be in [0, 100], got 300"),
    (("--label-priors", 1, 2, 3), "--label-priors is of --ensemble weighted"),
    (("--label-splits", 2), "--label-splits is of --teacher-statistics batch"),
    (("--teacher-statistics", "batch", "--label-splits", 0), "--label-splits must be in [1, 32767], got 0"),
    (("--teacher-statistics", "batch", "--batch-size", 7), "of 8 views in batches of 7 the last has one"),
    (("--augment", "patch-shuffle", "--shuffle-factor", 3), "images of 16 pixels a side do not fall into"),
])
def test_what_cannot_be_is_refused_before_anything_is_written(flags, message, made, tiny, tmp_path, refused):
    argv = tiny.relabel_flags(made, "--fkd-path", tmp_path / "labels", *flags)
    assert message in refused(generate_soft_label.main, argv[0:])
    assert not (tmp_path / "labels").exists()


def test_a_students_own_batch_may_leave_no_single_view_either(made, tiny, tmp_path, refused):
    online = tiny.relabel(made, "--fkd-path", tmp_path, "--label-format", "online", *FLAGS)
    argv = tiny.validate_flags(made, "--fkd-path", online, "--weights-dir", tiny.teachers, "--batch-size", 7,
                               "--output-dir", tmp_path / "students")
    assert "of 8 views in batches of 7 the last has one view" in refused(train_FKD.main, argv)
    assert not (tmp_path / "students").exists()


def test_the_recipe_of_sre2l_on_small_data_goes_through(made, tiny, tmp_path):
    labels = tiny.relabel(
        made, "--fkd-path", tmp_path / "labels", "--label-format", "online", "--mix-type", "mixup", "--crop",
        "padded", "--teacher-statistics", "batch", "--label-splits", 1, "--ensemble", "primary")
    manifest = read_json(labels / "manifest.json")
    assert manifest["views"]["crop"] == "padded" and manifest["views"]["crop_padding"] == 4
    assert manifest["config"]["mix_alpha"] == 0.8
    drawn, teach = teaching(tiny, made, labels).epoch(0)
    assert drawn.laws.crop == Padded() and ((drawn.mix_lam > 0) & (drawn.mix_lam < 1)).all()
    summary = tiny.validate(made, "--fkd-path", labels, "--weights-dir", tiny.teachers, "--loss-type", "kl",
                            "-T", 30, "--schedule", "cosine", "--output-dir", tmp_path / "students")
    config = summary["results"][0]["config"]
    assert summary["n"] == 2 and (config["temperature"], config["crop"], config["crop_padding"],
                                  config["mix_type"]) == (30.0, "padded", 4, "mixup")


def test_tiles_and_strengths_are_stored_and_replayed(made, tiny, tmp_path):
    for name, flags in {"tiles": ("--augment", "patch-shuffle", "--crop", "padded", "--crop-padding", 2),
                        "strong": ("--augment", "randaugment", "--magnitude", 9, "--operations", 3)}.items():
        stored = tiny.relabel(made, "--fkd-path", tmp_path / name, *flags)
        online = tiny.relabel(made, "--fkd-path", tmp_path / f"{name} online", "--label-format", "online",
                              *flags)
        drawn, teach = teaching(tiny, made, online).epoch(1)
        again, rows = open_labels(str(stored), 0).load(1)
        assert all(torch.equal(tensor, drawn.tensors()[key]) for key, tensor in again.tensors().items())
        assert torch.equal(teach(0, rendered(made, drawn, 0)).half(), rows["logits"][:5])
        students = tmp_path / f"{name} students"
        assert tiny.validate(made, "--fkd-path", stored, "--output-dir", students)["n"] == 2


# ---------------------------------------------------------------- the crops of students

def test_the_crop_of_hard_labels_and_its_identity(made, tiny, tmp_path):
    hard = ("--fkd-path", "", "--loss-type", "ce", "--epochs", 1, "--batch-size", 4, "--seeds", 0)
    for name, flags in {"plain": (), "resized": ("--crop", "resized"), "padded": ("--crop", "padded"),
                        "two": ("--crop", "padded", "--crop-padding", 2)}.items():
        tiny.validate(made, "--output-dir", tmp_path / name, *hard, *flags)
    saved = {name: read_json(tmp_path / name / "config.json")["config"]
             for name in ("plain", "resized", "padded", "two")}
    assert not {"crop", "crop_padding"} & saved["plain"].keys()
    assert [(saved[name]["crop"], saved[name]["crop_padding"]) for name in ("padded", "two")] \
        == [("padded", 4), ("padded", 2)]
    students = {name: contents(tmp_path / name)["seed0/student_last.pt"] for name in saved}
    assert students["plain"] == students["resized"] and len(set(students.values())) == 3
    changed = {name: read_json(tmp_path / name / "seed0" / "result.json")["protocol"]["changed"]
               for name in saved}
    assert "crop" in changed["padded"] and "crop_padding" in changed["two"] and "crop" not in changed["plain"]


def test_a_crop_that_contradicts_the_labels_is_refused(made, tiny, tmp_path, refused):
    padded = tiny.relabel(made, "--fkd-path", tmp_path, "--crop", "padded", "--epochs", 1)
    for folder, flags, message in (
            (padded, ("--crop", "resized"), "--crop resized contradicts the labels, made with padded"),
            (padded, ("--crop", "padded", "--crop-padding", 3), "--crop-padding 3 contradicts the labels"),
            (made / "fkd" / "2", ("--crop", "padded"), "--crop padded contradicts the labels, made with "),
            (padded, ("--crop-padding", 3), "--crop-padding is of --crop padded"),
            (padded, ("--crop", "round"), "--crop round: expected one of resized, padded")):
        argv = tiny.validate_flags(made, "--fkd-path", folder, "--output-dir", tmp_path / "out", *flags)
        assert message in refused(train_FKD.main, argv)
    summary = tiny.validate(made, "--fkd-path", padded, "--output-dir", tmp_path / "out", "--crop", "padded",
                            "--crop-padding", 4)
    assert summary["n"] == 2
