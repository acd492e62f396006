"""The moving average of a student's weights against numpy, by itself and through a stopped training."""
import json
import math

import numpy as np
import pytest
import torch
from helpers import CLASSES, POOL, contents, run_through_stops
from test_pipeline import torchrun
from torch import nn

from models.registry import build_model
from utils.data import RealSet
from utils.loading import EvaluationBatches
from utils.metrics import evaluate
from utils.pieces import build_piece, identity
from utils.records import read_json
from validate import training
from validate.averages import AVERAGES, EMA
from validate.train_FKD import ValidateConfig
from validate.training import Learner

pytest_plugins = ["stage_fixtures"]
CPU = torch.device("cpu")
FLAGS = ("--average", "ema", "--average-decay", 0.6)


def network() -> nn.Module:
    """A linear layer behind a BatchNorm."""
    torch.manual_seed(3)
    return nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))


def tensors(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy().astype(np.float64) for name, value in model.state_dict().items()}


def follow(decay: float, history: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The moving average at the end of a history that begins with the first weights."""
    average, *later = history
    for now in later:
        average = {name: decay * average[name] + (1 - decay) * now[name] for name in now}
    return average


def learner_of(student: nn.Module, precision: str = "fp32", **options) -> Learner:
    return Learner(student, torch.optim.SGD(student.parameters(), lr=0.1), precision=precision, device=CPU,
                   average=EMA(**options))


def step(learner: Learner, inputs: torch.Tensor) -> None:
    learner.scaler.scale(learner.student(inputs).square().sum()).backward()
    learner.step()


@pytest.mark.parametrize("buffers", ["online", "averaged"])
def test_after_three_steps_it_is_numpys(buffers, gen):
    learner = learner_of(network(), average_decay=0.7, average_buffers=buffers)
    history = [tensors(learner.student)]
    for name, value in tensors(learner.evaluated).items():
        assert np.array_equal(value, history[0][name])  # before any step: the first weights
    for _ in range(3):
        step(learner, torch.randn(8, 3, generator=gen))
        history.append(tensors(learner.student))
    expected, found = follow(0.7, history), tensors(learner.evaluated)
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5)
        assert found[name] != pytest.approx(history[-1][name], rel=1e-3)
    for name in ("0.running_mean", "0.running_var"):
        own = expected[name] if buffers == "averaged" else history[-1][name]
        assert found[name] == pytest.approx(own, rel=1e-5)
    assert found["0.num_batches_tracked"] == (3 if buffers == "online" else 0)  # 0.3, 0.6, 0.9 rounded down


def test_without_an_average_the_student_itself_is_evaluated():
    student = network()
    learner = Learner(student, torch.optim.SGD(student.parameters(), lr=0.1), precision="fp32", device=CPU,
                      average=AVERAGES["none"]())
    assert learner.evaluated is student and "average" not in learner.state()


def test_a_step_that_is_skipped_is_none_of_the_averages():
    learner = learner_of(network().eval(), "fp16", average_decay=0.7)
    history = [tensors(learner.student)]
    for value in (1.0, math.inf, 2.0):
        step(learner, torch.full((2, 3), value))
        history.append(tensors(learner.student))
    assert np.array_equal(history[1]["1.weight"], history[2]["1.weight"])
    del history[2]
    expected = follow(0.7, history)
    assert tensors(learner.evaluated)["1.weight"] == pytest.approx(expected["1.weight"], rel=1e-5)
    assert int(learner.average.n_averaged) == 3  # the first weights and two steps


def test_a_learner_goes_on_with_the_average_of_its_state(gen):
    inputs = [torch.randn(8, 3, generator=gen) for _ in range(4)]
    one, other = learner_of(network()), learner_of(network())
    for batch in inputs[:2]:
        step(one, batch)
    other.load(one.state())
    for batch in inputs[2:]:
        step(one, batch)
        step(other, batch)
    assert all(np.array_equal(value, tensors(other.evaluated)[name])
               for name, value in tensors(one.evaluated).items())


# ---------------------------------------------------------------- through the stage

def test_the_average_is_what_is_evaluated_and_saved_and_training_goes_on_without_it(made, tiny, tmp_path,
                                                                                   monkeypatch):
    history, take = [], Learner.step

    def recorded(learner):
        history.extend([tensors(learner.student)] * (not history))
        take(learner)
        history.append(tensors(learner.student))
    monkeypatch.setattr(Learner, "step", recorded)
    summary = tiny.validate(made, "--output-dir", tmp_path, "--seeds", 0, *FLAGS)
    rows, plain = ([json.loads(line) for line in (folder / "seed0" / "log.jsonl").read_text().splitlines()]
                   for folder in (tmp_path, made / "validate" / POOL[0]))
    assert [row["loss"] for row in rows] == [row["loss"] for row in plain]  # the same student trains
    saved = torch.load(tmp_path / "seed0" / "student_last.pt", weights_only=True)
    expected, online = follow(0.6, history), history[-1]
    for name, value in saved.items():
        buffer = "running" in name or "num_batches" in name
        assert value.numpy() == pytest.approx((online if buffer else expected)[name], rel=1e-4, abs=1e-6)
    model = build_model(POOL[0], num_classes=4, stem="small")
    model.load_state_dict(saved)
    config = read_json(made / "config.json")["config"]
    real = RealSet(f"folder:{tiny.data}", "", "val", size=16)
    seen = evaluate(model, EvaluationBatches(real, batch_size=5, device=CPU, resident_gb=1, workers=0),
                    mean=tuple(config["mean"]), std=tuple(config["std"]), device=CPU)
    result = summary["results"][0]
    assert result["last"]["top1"] == seen["top1"] == rows[-1]["top1"] and seen["images"] == 3 * len(CLASSES)
    assert (result["config"]["average"], result["config"]["average_decay"],
            result["config"]["average_buffers"]) == ("ema", 0.6, "online")
    assert {"average", "average_decay"} <= set(result["protocol"]["changed"])


def test_a_stopped_training_goes_on_with_its_average(made, tiny, tmp_path, monkeypatch):
    flags = ("--seeds", 0, "--average-buffers", "averaged", *FLAGS, "--save-every", 0)
    tiny.validate(made, "--output-dir", tmp_path / "whole", *flags)
    run_through_stops(monkeypatch, training, "train_batch", {2, 5},
                      lambda: tiny.validate(made, "--output-dir", tmp_path / "out", *flags))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_keep_the_average_of_one(made, tiny, tmp_path):
    flags = ("--gradient-accumulation-steps", 2, "--seeds", 0, *FLAGS)
    tiny.validate(made, "--output-dir", tmp_path / "one", *flags)
    done = torchrun(tmp_path, "validate.train_FKD",
                    tiny.validate_flags(made, "--output-dir", tmp_path / "two", *flags))
    assert done.wait(120) == 0, done.stderr.read()
    ours, theirs = (torch.load(tmp_path / name / "seed0" / "student_last.pt", weights_only=True)
                    for name in ("two", "one"))
    weights = [name for name in ours if "running" not in name and "num_batches" not in name]
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in weights)


# ---------------------------------------------------------------- what names a run

def test_no_average_is_no_part_of_a_run():
    plain = identity(ValidateConfig(fkd_path="labels"))
    assert not {"average", "average_decay", "average_buffers", "eval_from", "training"} & set(plain)
    assert identity(ValidateConfig(fkd_path="labels", average=EMA()))["average_decay"] == 0.99


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_that_makes_no_average_is_refused(decay):
    with pytest.raises(ValueError, match=r"--average-decay must be in \[0, 1\)"):
        build_piece(AVERAGES, "ema", {"average_decay": decay})


# ---------------------------------------------------------------- when it is evaluated

@pytest.mark.parametrize("start, every, epochs, expected", [
    (0.0, 3, 8, [0, 3, 6, 7]), (0.5, 3, 8, [6, 7]), (0.8, 10, 300, [240, 250, 260, 270, 280, 290, 299]),
    (0.7, 1, 10, [7, 8, 9]), (0.99, 1, 5, [4])])
def test_nothing_is_evaluated_before_a_share_of_the_epochs_but_the_last_always(start, every, epochs, expected,
                                                                               monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(training, "evaluate", lambda *args, **kwargs: {"top1": 0.5, "top5": 0.5, "images": 4})
    monkeypatch.setattr(training, "save_weights", lambda path, student: seen.append(path.name))
    recipe = training.Recipe(loss=None, micro_batches=1, mean=(0,), std=(1,), epochs=epochs,
                             rate=lambda _: 0.1)
    journal = training.Journal(tmp_path / "seed0", (), seed=0, eval_every=every, eval_from=start,
                               recipe=recipe, about={})
    journal.begin(0, None)
    for epoch in range(epochs):
        journal.after_epoch(nn.Linear(2, 2), epoch, torch.tensor(1.0), 0.1)
    rows = [json.loads(line) for line in (tmp_path / "seed0" / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if "top1" in row] == expected and seen == ["student_best.pt"]


def test_the_stage_evaluates_from_there_on(made, tiny, tmp_path):
    summary = tiny.validate(made, "--output-dir", tmp_path, "--seeds", 0, "--eval-from", 0.5)
    rows = [json.loads(line) for line in (tmp_path / "seed0" / "log.jsonl").read_text().splitlines()]
    assert ["top1" in row for row in rows] == [False, False, True]
    assert summary["results"][0]["config"]["eval_from"] == 0.5
