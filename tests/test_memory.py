"""Memory beyond the device: the same bits with less kept, networks there in their turn alone, figures."""
import ctypes
import dataclasses
import itertools
import json
import sys
from types import SimpleNamespace

import pytest
import torch
from helpers import POOL, contents
from torch import nn
from torchvision.models.convnext import LayerNorm2d

from benchmarks import memory as benchmark
from models.preflight import check_teachers
from models.registry import MODELS, Teacher, build_model
from models.segments import choose_cuts, find_cuts, split, trace
from recover import data_synthesis
from recover.alignments import ALIGNMENTS, BNAlignment, FusedBNAlignment
from recover.alignments.alignment import Alignment
from recover.data_synthesis import RecoverConfig
from recover.memory import MemoryOptions, Meter, largest
from recover.objective import Objective
from recover.selection import Draw
from utils.flags import build_config
from utils.memory import Offloaded, SavedBytes, num_bytes
from utils.pieces import identity
from utils.runtime import keep_freed_memory

pytest_plugins = ["stage_fixtures"]
N, SIZE = 3, 16
NAMES = ("narrow_resnet", "narrow_efficientnet", "narrow_shufflenet", "narrow_alexnet")
ENGINES = {"reference": BNAlignment, "fused": FusedBNAlignment}
CPU = torch.device("cpu")


def network(name: str) -> nn.Module:
    """A frozen network whose running statistics are far from a batch's."""
    torch.manual_seed(0)
    model = build_model(name, num_classes=5, stem="small")
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return model.eval().requires_grad_(False)


def aligned(engine: str, names=NAMES) -> dict[str, BNAlignment]:
    return {name: ENGINES[engine](network(name), first_multiplier=10.0) for name in names}


def step(networks: dict, engine: str = "fused", **settings):
    """Gradient (S, N, 3, H, W) and terms of three slices: aligned, cross-entropy alone, several of both."""
    torch.manual_seed(2)
    images = torch.randn(3, N, 3, SIZE, SIZE).requires_grad_()
    a, b, c, silent = NAMES
    draws = [Draw({a: 1.0}, {a: 0.5, b: 0.25, silent: 0.25}), Draw({c: 1.0}, {}),
             Draw({silent: 0.3, a: 0.7}, {c: 1.0, b: 2.0})]
    objective = Objective(networks, weight=0.1, keep_graphs=engine == "reference", **settings)
    terms = objective.backward([slice_ * 1.5 for slice_ in images], torch.arange(N), draws)
    return images.grad, [{name: value.item() for name, value in own.items()} for own in terms]


@pytest.fixture
def plain():
    """The same step with everything kept and nothing moved, by engine."""
    return {engine: step(aligned(engine), engine) for engine in ENGINES}


# ---------------------------------------------------------------- recomputed

@pytest.mark.parametrize("engine", ENGINES)
def test_recomputed_networks_give_the_same_bits(engine, plain):
    networks = aligned(engine)
    for own in networks.values():
        own.recompute(SIZE)
    for _ in range(2):  # the tape of a second step is not that of the first
        gradient, terms = step(networks, engine)
        assert gradient.abs().max() > 0
        assert torch.equal(gradient, plain[engine][0]) and terms == plain[engine][1]


@pytest.mark.parametrize("engine", ENGINES)
def test_layers_report_once_though_they_run_twice(engine):
    own = ENGINES[engine](network("narrow_resnet"), first_multiplier=10.0)
    own.recompute(SIZE)
    ran = []
    for layer in own._model.modules():
        layer.register_forward_hook(lambda *args: ran.append(None))
    images = torch.randn(2 * N, 3, SIZE, SIZE, requires_grad=True)
    logits, distances = own(images, torch.arange(N), slices=2, aligned=1)
    once = len(ran)
    assert distances.shape == (1,) and (own.terms, own.aligned) == ([], 0)
    own.terms, own.aligned, own.per_slice = ["another's"], 7, 8  # whatever the tape holds meanwhile
    (logits.sum() + distances.sum()).backward()
    assert once < len(ran) < 2 * once  # the last segment is kept
    assert (own.terms, own.aligned, own.per_slice) == (["another's"], 7, 8)


@pytest.mark.parametrize("engine, most", [("reference", 0.5), ("fused", 0.6)])
def test_recomputing_keeps_less(engine, most):
    kept = []
    for recomputed in (False, True):
        own = ENGINES[engine](network("narrow_efficientnet"), first_multiplier=10.0)
        if recomputed:
            own.recompute(32)
        images = torch.randn(N, 3, 32, 32, requires_grad=True)
        with SavedBytes([*own.tensors(), images]) as saved:
            graph = own(images, torch.arange(N), slices=1, aligned=1)
        kept.append(saved.alive)
        del graph
        assert saved.alive == 0
    assert kept[1] < most * kept[0]


def test_cuts_of_a_chain_of_equals_are_at_its_root():
    assert choose_cuts(list(range(15)), [2] * 16, [2] * 16) == [3, 7, 11]
    kept, values = [8, 1, 1, 2, 4, 2, 1, 1], [8, 2, 1, 9, 1, 4, 1, 1]
    allowed = [1, 2, 4, 6]

    def needed(cuts):
        ends = [0, *(cut + 1 for cut in cuts), 8]
        return sum(values[cut] for cut in cuts) + max(sum(kept[a:b]) for a, b in itertools.pairwise(ends))
    every = [cuts for k in range(1, 5) for cuts in itertools.combinations(allowed, k)]
    assert needed(choose_cuts(allowed, kept, values)) == min(map(needed, every))


class Branches(nn.Module):
    """conv a, ReLU in place, a block with a way around it, a view that is written into, a head."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = torch.relu_(self.a(x))
        x = x + self.b(x)
        return self.head(x.view(x.shape[0], 4, -1).mul_(2).mean(2))


def test_segments_start_where_one_tensor_is_alive_and_stays_as_it_was():
    torch.manual_seed(0)
    model = Branches().eval().requires_grad_(False)
    nodes = list(trace(model).graph.nodes)
    assert [nodes[i].name for i in find_cuts(trace(model))] == ["a", "relu_", "add", "view", "mul_", "mean"]
    segments = split(model, size=SIZE)
    starts = {list(segment.graph.nodes)[1].name for segment in segments}  # behind its placeholder
    assert len(segments) > 1 and not starts & {"relu_", "view", "getattr_1", "mul_"}
    x = images = torch.randn(N, 3, SIZE, SIZE)
    for segment in segments:
        x = segment(x)
    assert torch.equal(x, model(images))


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("narrow")])
def test_every_narrow_network_is_its_segments(name):
    model, images = network(name), torch.randn(N, 3, SIZE, SIZE)
    x = images
    for segment in split(model, size=SIZE):
        x = segment(x)
    assert torch.equal(x, model(images))


class Untraceable(nn.Module):
    """Whose way depends on the pixels."""

    def forward(self, x):
        return x if x.mean() > 0 else -x


class Uncut(nn.Module):
    """Whose input is alive until the end."""

    def forward(self, x):
        return x.exp() * x


@pytest.mark.parametrize("model, reason", [(Untraceable(), r"it cannot be traced \(TraceError\)"),
                                           (Uncut(), "it has no place where a single tensor is alive")])
def test_networks_that_cannot_be_split_are_named(model, reason):
    options = MemoryOptions(recompute=("odd", "elsewhere"))
    with pytest.raises(ValueError, match=f"--recompute odd: {reason}; leave it out"):
        options.check_splits({"odd": model, "narrow_resnet": network("narrow_resnet")})


def test_the_largest_is_the_one_that_keeps_most_not_the_heaviest():
    networks = aligned("fused")
    heaviest = max(NAMES, key=lambda name: num_bytes(networks[name].tensors()))
    assert heaviest == "narrow_alexnet" or heaviest != largest(networks, SIZE)
    kept = {}
    for name, own in networks.items():
        image = torch.zeros(1, 3, SIZE, SIZE, requires_grad=True)
        with SavedBytes([*own.tensors(), image]) as saved:
            own(image, torch.zeros(1, dtype=torch.long), slices=1, aligned=min(1, len(own)))
        kept[name] = saved.peak
    assert largest(networks, SIZE) == max(kept, key=kept.__getitem__)


# ---------------------------------------------------------------- offloaded

def test_offloaded_networks_are_on_the_device_in_their_turn_alone(plain):
    """The device is the CPU: its copies have other addresses than the host's."""
    networks, events = aligned("fused"), []
    for own in networks.values():
        own.offload(CPU)
    host = {name: [t.data_ptr() for t in own.tensors()] for name, own in networks.items()}

    def away() -> set[str]:
        moved = {name for name, own in networks.items()
                 if all(t.data_ptr() != p for t, p in zip(own.tensors(), host[name], strict=True))}
        assert all([t.data_ptr() for t in own.tensors()] == host[name]
                   for name, own in networks.items() if name not in moved)
        return moved

    def watch(name, run):
        def watched(images):
            events.append((name, away()))
            images.register_hook(lambda grad: events.append((name, away())))  # the end of its backward
            return run(images)
        return watched
    for name, own in networks.items():
        own._run = watch(name, own._run)
    gradient, terms = step(networks)
    order = [NAMES[0], NAMES[1], NAMES[3], NAMES[2]]
    assert sorted(events) == sorted((name, {name}) for name in order for _ in range(2)) and not away()
    assert torch.equal(gradient, plain["fused"][0]) and terms == plain["fused"][1]


def test_offloaded_and_recomputed_at_once(plain):
    networks = aligned("fused")
    for own in networks.values():
        own.recompute(SIZE)
        own.offload(CPU)
    gradient, terms = step(networks, meter=Meter())
    assert torch.equal(gradient, plain["fused"][0]) and terms == plain["fused"][1]


def test_a_turn_that_fails_leaves_the_network_on_the_host():
    weight = torch.arange(4.0)
    pointer, away = weight.data_ptr(), Offloaded([weight], CPU)
    with pytest.raises(ArithmeticError), away:
        assert weight.data_ptr() != pointer and weight.tolist() == [0, 1, 2, 3]
        raise ArithmeticError
    assert weight.data_ptr() == pointer and num_bytes([weight, weight[1:]]) == 16


def test_a_teacher_on_the_host_visits_the_device_for_its_check():
    moves = []

    class Stub(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1), requires_grad=False)

        def to(self, device):
            moves.append(str(device))
            return self

        def forward(self, x):
            moves.append("runs")
            return torch.zeros(len(x), 2)
    teacher = Teacher("stub", Stub(), "0" * 64, None, None)
    batch = torch.zeros(3, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.long)
    check_teachers({"stub": teacher}, [batch], split="training", num_classes=2, floor=0.0, mean=(0.5,) * 3,
                   std=(0.5,) * 3, device=torch.device("cpu", 0))
    assert moves == ["cpu:0", "runs", "cpu"]


# ---------------------------------------------------------------- what each takes

def test_saved_bytes_are_distinct_storages_without_constants():
    x, weight = torch.ones(1000, requires_grad=True), torch.ones(1000)
    with SavedBytes([x, weight]) as saved:
        y = (x * weight).exp()  # keeps weight, a constant, and its own value
        z = y.sin() + y[:10].sum()  # keeps that value again
    assert saved.alive == saved.peak == 4000
    del y, z
    assert (saved.alive, saved.peak) == (0, 4000)


def test_a_fused_layer_keeps_its_normalised_output_and_weighs_what_it_runs():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
                          nn.Linear(8 * 14 * 14, 5)).eval().requires_grad_(False)
    meter = Meter()
    objective = Objective({"net": FusedBNAlignment(model, first_multiplier=1.0)}, weight=1.0, meter=meter)
    views, draw = [torch.randn(N, 3, SIZE, SIZE, requires_grad=True)], Draw({"net": 1.0}, {"net": 1.0})
    for _ in range(2):  # measured once
        objective.backward(views, torch.arange(N), [draw])
    row, = objective.measured()
    folded = 8 * 3 * 9 + 8 + 4 * 8  # weight and bias; gamma, beta, scale, running variance
    assert row["network"] == "net" and row["weights_mb"] == 4 * (folded + 8 * 14 * 14 * 5 + 5) / 1e6
    u = 4 * N * 8 * 14 * 14
    assert u <= row["kept_mb"] * 1e6 <= u + 1000  # and the cross-entropy's few numbers
    assert "turn_peak_mb" not in row and not meter.take() and not objective.measured()


# ---------------------------------------------------------------- a run

def read_log(run) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("flags", [("--engine", "reference"), ("--slices-per-batch", 2)])
def test_a_run_makes_the_same_images_and_logs_each_network(flags, tiny, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("recover.memory.HOST", "elsewhere")  # so that a CPU counts as a device
    common = ("--iteration", 2, "--teachers", "multi", "--selection", "intra", *flags)
    whole = tiny.recover(tmp_path / "whole", *common)
    said = capfd.readouterr().err
    away = () if flags == ("--engine", "reference") else ("--offload",)
    run = tiny.recover(tmp_path / "less", *common, *away, "--recompute", POOL[1], "largest")
    assert {k: v for k, v in contents(run).items() if k.startswith("syn/")} \
        == {k: v for k, v in contents(whole).items() if k.startswith("syn/")}
    before, after = ({row["network"]: row for row in read_log(own) if "network" in row}
                     for own in (whole, run))
    assert before.keys() == after.keys() and POOL[0] in before
    assert all(row.keys() == {"network", "weights_mb", "kept_mb", "elapsed_s"} for row in before.values())
    assert sum(row["kept_mb"] for row in after.values()) < sum(row["kept_mb"] for row in before.values())
    assert f"memory [MB], weights / kept for the backward: {POOL[0]} " in said
    assert "recomputed in the backward: " in capfd.readouterr().err
    assert tiny.recover(tmp_path / "less", *common) == run  # the flags are no part of its identity


def test_on_a_cpu_offloading_says_that_it_does_nothing(capsys, monkeypatch):
    monkeypatch.setattr("utils.runtime._said", set())
    networks = aligned("fused", NAMES[:1])
    MemoryOptions(offload=True).fit(networks, device=CPU, size=SIZE, host=NAMES[:1])
    assert "warning: --offload has no effect on a cpu" in capsys.readouterr().err
    assert not isinstance(networks[NAMES[0]].turn, Offloaded)


@pytest.mark.parametrize("flags, message", [
    (("--offload", "--engine", "reference"), "--offload is not possible with this alignment; expected "
     "--alignment bn without --compile, and --engine fused"),
    (("--offload", "--compile"), "--offload is not possible with this alignment"),
    (("--recompute", "largest", "--compile"), "--recompute is not possible with this alignment; expected "
     "--alignment bn without --compile"),
    (("--recompute", "resnet50"), "--recompute resnet50: expected largest, or of this run's networks "
     + ", ".join(POOL))])
def test_what_is_not_possible_is_refused(flags, message, tiny, tmp_path, refused):
    assert message in refused(data_synthesis.main, tiny.recover_flags(tmp_path, *flags))
    assert not list(tmp_path.iterdir())


def test_an_alignment_of_somebodys_own_saves_no_memory_unless_it_says_so(monkeypatch):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Own(Alignment):
        """Nothing yet."""
    monkeypatch.setitem(ALIGNMENTS, "own", Own)
    with pytest.raises(ValueError, match="--offload is not possible with this alignment"):
        build_config(RecoverConfig, {"alignment": "own", "offload": True})


def test_networks_that_others_run_too_stay_on_the_device():
    config = build_config(RecoverConfig, {"offload": True, "verifier": True, "verifier_arch": "mobilenet_v2"})
    assert set(config.pool) - set(config.on_host) == {"mobilenet_v2"}
    assert build_config(RecoverConfig, {}).on_host == ()
    assert identity(config) == identity(build_config(RecoverConfig, {}))


def test_the_benchmark_counts_both_ways(capsys):
    benchmark.main(["--size", "32", "--batch-size", "2", "--threads", "1", "--networks",
                    "narrow_efficientnet"])
    row = json.loads(capsys.readouterr().out)
    assert row["same_bits"] and row["kept_ratio"] < 0.7
    assert row["plain"]["kept_mb"] <= row["plain"]["peak_mb"]
    assert row["recomputed"]["kept_mb"] <= row["recomputed"]["peak_mb"] < row["plain"]["peak_mb"]
    with benchmark.LiveBytes() as live:
        a = torch.ones(1000)
        b = a.view(10, 100) * 2  # a view takes nothing
        del a
        b = b + 1
    assert live.peak == 8000


def test_a_larger_turn_is_measured_again_and_a_smaller_one_is_not():
    meter, own, measured = Meter(), aligned("fused", NAMES[:1])[NAMES[0]], []
    for num in (1, 4, 2):
        leaf = torch.rand(num, 3, SIZE, SIZE, requires_grad=True)
        with meter.turn("a", own, [leaf]):
            own(leaf, torch.zeros(num, dtype=torch.long), slices=1, aligned=1)[0].sum().backward()
        measured.append([row["kept_mb"] for row in meter.take()])
    assert [len(rows) for rows in measured] == [1, 1, 0] and measured[1] > measured[0]


def test_layers_that_are_hooked_stay_whole_in_a_trace():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), LayerNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))
    seen = []
    model[1].register_forward_pre_hook(lambda layer, inputs: seen.append(layer))
    trace(model)(torch.rand(1, 3, 8, 8))
    assert seen == [model[1]]


def test_freed_memory_is_kept_where_the_c_library_can(monkeypatch):
    asked = []
    for library in (SimpleNamespace(mallopt=lambda *values: asked.append(values)), SimpleNamespace()):
        monkeypatch.setattr(ctypes, "CDLL", lambda name, library=library: library)
        monkeypatch.setattr(sys, "platform", "linux")
        keep_freed_memory()
    assert asked == [(-3, 32 * 2**20), (-1, 2**30)]  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h [bytes]
