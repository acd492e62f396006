"""Drills: what a new method brings registers from outside, runs through the stages, and touches no other run.

One drill a slot that was hard: a loss with options of its own, a start that is prepared once from whole
classes and a network, an alignment measured on real data whose state survives a kill, and a draw in which the
logit teacher changes at every step.
"""
import dataclasses
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import POOL, contents, pixels_of

from recover import synthesis
from recover.alignments import ALIGNMENTS
from recover.alignments.alignment import Aligned, Alignment
from recover.data_synthesis import RecoverConfig
from recover.selection import SELECTIONS, Draw, Selection
from recover.starts import STARTS
from recover.starts.start import Start
from relabel.generate_soft_label import RelabelConfig
from utils.augment import normalize
from utils.files import sha256_json
from utils.methods import METHODS
from utils.pieces import identity, option
from utils.records import read_json
from validate.losses import CE, LOSSES
from validate.train_FKD import ValidateConfig

pytest_plugins = ["stage_fixtures"]
PAGE = Path(__file__).parents[1] / "docs" / "add-a-method.md"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Huber(CE):
    """A loss with two options of its own."""

    soft = True
    delta: float = option(1.0, "where it turns linear", range="> 0")
    truth: float = option(0.0, "weight of the ground truth", range=">= 0")

    def __call__(self, logits, soft_labels, targets):
        return F.huber_loss(logits, soft_labels, delta=self.delta) \
            + self.truth * F.cross_entropy(logits, targets)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Surest(Start):
    """A class's images that the primary is surest of, the surest first: needs whole classes and a network."""

    prepared = []  # how often, and what was at hand
    least: float = option(0.0, "probability below which an image is no start", range="in [0, 1]")

    def networks(self, pool):
        return pool.names[:1]

    def prepare(self, inputs):
        network = inputs.networks[inputs.pool.names[0]]
        self.prepared.append(sorted(inputs.networks))
        ranked = {}
        for k, positions in enumerate(inputs.real.by_class):
            pixels = torch.stack([inputs.real[i][0] for i in positions])
            with torch.no_grad():
                sure = network(normalize(pixels, inputs.mean, inputs.std)).softmax(1)[:, k]
            ranked[k] = pixels[sure.argsort(descending=True, stable=True)]
        return lambda unit: normalize(torch.stack([ranked[k][i] for i, k in unit.members]),
                                      inputs.mean, inputs.std)


class MovingLogits(Aligned):
    """How far the moving average of a batch's mean logits is from the real images' mean logits."""

    def __init__(self, network, target, momentum):
        self._network, self._target, self._momentum = network, target, momentum
        self._average = torch.zeros_like(target)

    def __len__(self):
        return 1

    def __call__(self, images, targets, *, slices, aligned):
        logits = self._network(images)
        if not aligned:
            return logits, logits.new_zeros(0)
        mean = self._momentum * self._average + (1 - self._momentum) * logits.mean(0)
        self._average = mean.detach()
        return logits, (mean - self._target).norm().expand(1)

    def state(self):
        return self._average.clone()

    def load(self, state):
        self._average = state.clone()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Logits(Alignment):
    """Mean logits of real images, measured once; a moving average of the batches'."""

    momentum: float = option(0.9, "of the moving average", range="in [0, 1)")

    def prepare(self, inputs, names):
        pixels = torch.stack([inputs.real[i][0] for i in range(len(inputs.real))])
        real = normalize(pixels, inputs.mean, inputs.std)
        with torch.no_grad():
            means = {name: inputs.networks[name](real).mean(0) for name in names}
        return {name: MovingLogits(inputs.networks[name], means[name], self.momentum) for name in names}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relay(Selection):
    """Every step asks the next network, for its logits and half of its alignment."""

    def plan(self, pool, ipc_id, chunk, iterations, *, seed):
        names = [pool.names[t % len(pool.names)] for t in range(iterations)]
        return [Draw({name: 1.0}, {name: 0.5}) for name in names]


DRILLS = {"loss": (LOSSES, "huber", Huber), "start": (STARTS, "surest", Surest),
          "alignment": (ALIGNMENTS, "logits", Logits), "selection": (SELECTIONS, "half-in-turn", Relay)}


def default_configs() -> tuple:
    return RecoverConfig(), RelabelConfig(), ValidateConfig(fkd_path="labels")


@pytest.fixture
def register(monkeypatch):
    """f(drill): registers one of DRILLS for a test."""
    def add(drill: str) -> None:
        registry, name, piece = DRILLS[drill]
        monkeypatch.setitem(registry, name, piece)
    return add


# ---------------------------------------------------------------- nobody else notices

@pytest.mark.parametrize("drill", DRILLS)
def test_registering_a_piece_leaves_every_other_digest_and_byte(drill, register, made, tiny, tmp_path):
    before = [sha256_json(identity(config)) for config in default_configs()]
    register(drill)
    assert [sha256_json(identity(config)) for config in default_configs()] == before
    run = tiny.recover(tmp_path)
    tiny.relabel(run)
    tiny.validate(run)
    assert contents(run) == contents(made)
    assert tiny.recover(tmp_path) == run  # the folder is still this configuration's


# ---------------------------------------------------------------- each through the three stages

def test_a_loss_with_options_of_its_own(register, made, tiny, tmp_path, refused):
    register("loss")
    summary = tiny.validate(made, "--output-dir", tmp_path / "a", "--loss-type", "huber", "--delta", 0.5)
    saved = read_json(tmp_path / "a" / "config.json")["config"]
    assert (saved["loss_type"], saved["delta"], saved["truth"], summary["n"]) == ("huber", 0.5, 0.0, 2)
    assert "ce_weight" not in saved and "temperature" not in saved
    again = tiny.validate(made, "--output-dir", tmp_path / "b", "--config", tmp_path / "a" / "config.json")
    assert again["results"][0]["config"] == summary["results"][0]["config"]
    text = refused(lambda argv: tiny.validate(made, *argv), ("--delta", 0.5))
    assert "--delta is of --loss-type huber, this run has --loss-type mse_gt" in text
    text = refused(lambda argv: tiny.validate(made, *argv), ("--loss-type", "huber", "--delta", 0))
    assert "--delta must be > 0, got 0.0" in text


def test_a_start_from_whole_classes_and_a_network_prepared_once(register, tiny, tmp_path):
    register("start")
    Surest.prepared.clear()
    run = tiny.recover(tmp_path, "--init", "surest", "--iteration", 0)
    assert Surest.prepared == [[POOL[0]]]  # once for all units, and no network that nobody uses
    plain = tiny.recover(tmp_path, "--iteration", 0, "--exp-name", "plain", "--ipc-end", 6)
    sorted_images = sorted(image.tobytes() for image in pixels_of(run))
    everything = [image.tobytes() for image in pixels_of(plain)]
    assert set(sorted_images) <= set(everything) and pixels_of(run).tolist() != pixels_of(plain)[:8].tolist()
    assert list(read_json(run / "config.json")["weights"]) == [POOL[0]]
    assert read_json(plain / "config.json")["weights"] == {}
    optimised = tiny.recover(tmp_path, "--init", "surest", "--exp-name", "optimised")
    tiny.relabel(optimised)
    assert tiny.validate(optimised)["n"] == 2


def test_an_alignment_measured_on_real_data_survives_a_kill(register, tiny, tmp_path, monkeypatch):
    register("alignment")
    flags = ("--alignment", "logits", "--momentum", 0.5, "--teachers", "single", "--iteration", 9)
    whole = tiny.recover(tmp_path / "whole", *flags)
    assert read_json(whole / "units" / "ipc0000_chunk00.json")["final"].keys() >= {f"logits/{POOL[0]}", "ce"}
    seen = []

    def kill(*args):
        seen.append(None)
        if len(seen) in (5, 12):
            raise KeyboardInterrupt
        return step(*args)
    step = synthesis.shared_view
    monkeypatch.setattr(synthesis, "shared_view", kill)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            tiny.recover(tmp_path / "killed", *flags, "--save-every", 0)
    run = tiny.recover(tmp_path / "killed", *flags, "--save-every", 0)
    assert contents(run) == contents(whole)
    stateless = tiny.recover(tmp_path / "stateless", *flags, "--momentum", 0)
    assert contents(stateless)["syn/ant/ant_ipc0000.png"] != contents(whole)["syn/ant/ant_ipc0000.png"]
    tiny.relabel(run)
    assert tiny.validate(run)["n"] == 2


def test_a_draw_whose_logit_teacher_changes_at_every_step(register, tiny, tmp_path):
    register("selection")
    run = tiny.recover(tmp_path, "--teachers", "half-in-turn", "--iteration", 8)
    unit = read_json(run / "units" / "ipc0000_chunk00.json")
    assert unit["primary"] == unit["aligned"] == dict.fromkeys(POOL, 2)
    reference = tiny.recover(tmp_path, "--teachers", "half-in-turn", "--iteration", 8, "--engine",
                             "reference", "--exp-name", "reference")
    assert abs(pixels_of(run) - pixels_of(reference)).max() <= 2  # equal to rounding
    tiny.relabel(run)
    assert tiny.validate(run)["n"] == 2


# ---------------------------------------------------------------- the page for whoever adds a method

def test_the_worked_example_of_the_page_runs(tiny, tmp_path, monkeypatch):
    example, = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    lines = [line for line in example.splitlines() if line.strip()]
    assert len(lines) <= 30
    monkeypatch.setitem(SELECTIONS, "relay", None)  # both are forgotten afterwards
    monkeypatch.setitem(METHODS, "mine", None)
    exec(compile(example, str(PAGE), "exec"), {"__name__": "example"})
    run = tiny.recover(tmp_path, "--protocol", "mine", "--iteration", 8)
    unit = read_json(run / "units" / "ipc0000_chunk00.json")
    assert unit["primary"] == dict.fromkeys(POOL, 2) and read_json(run / "config.json")["config"]["stay"] == 2
    labels = tiny.relabel(run, "--protocol", "mine")
    assert read_json(labels / "manifest.json")["config"]["ensemble"] == "mean"
    result = tiny.validate(run, "--protocol", "mine")["results"][0]
    assert result["config"]["temperature"] == 4.0 and result["protocol"]["name"] == "mine"
