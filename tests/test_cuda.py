"""What a CUDA device must do as a CPU does.  Tests run on the CPU too, smaller: they are known to run.

The truth is the readable reference in float64 on the CPU, or the same stage on the CPU.
"""
import copy
import csv
import dataclasses
import functools
import itertools
import json

import pytest
import torch
from helpers import POOL, contents, pixels_of, run_through_stops, words, write_data
from test_pipeline import torchrun
from torch import nn

from benchmarks import augment, memory, recover_step
from models import train_teachers
from models.registry import build_model
from recover import synthesis
from recover.alignments import ALIGNMENTS
from recover.objective import Objective
from recover.selection import Draw, Pool
from recover.units import Inputs
from relabel import generate_soft_label
from scripts import compare
from scripts.reproducing import small_recipes
from utils.precision import LOSS_SCALE, set_precision
from utils.records import read_json
from validate import training

pytest_plugins = ["stage_fixtures"]
CPU = torch.device("cpu")
# Five networks with BatchNorm, the first of which is phi.
TEACHERS = {"cpu": ("narrow_resnet", "narrow_mobilenet", "narrow_efficientnet", "narrow_shufflenet",
                    "narrow_plain"),
            "cuda": recover_step.POOL}
N = 4
# Largest ||gradient - truth|| / ||truth||, where CE and R_BN have gradients of one length: half of R_BN
# lost is 0.35 of it.  Rounding moves activations across the kink of a ReLU: on a CPU the fused engine was
# 0.001 off in float32, 0.23 in bf16, and 0.08 in fp16, with tf32's 10 bits (torchvision's five networks).
FARTHEST = {"fp32": 0.01, "tf32": 0.2, "bf16": 0.3}
# Largest relative difference of ce and of each R_BN, which no kink moves: 3e-7, 3e-3 and 8e-4 (fp16) there.
TERMS = {"fp32": 1e-5, "tf32": 4e-3, "bf16": 1e-2}
EXACT = 1e-9  # of both in float64: a multiplier, a weight, a layer that is missing
FORMATS = (torch.contiguous_format, torch.channels_last)


def set_precision_or_skip(name: str, device: torch.device) -> None:
    """`set_precision`; on a CPU a test in tf32 would be the one in fp32 again."""
    if name == "tf32" and device == CPU:
        pytest.skip("tf32 is fp32 on a CPU")
    set_precision(name, device)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request):
    """Where a test runs; torch's switches are put back."""
    yield torch.device(request.param)
    set_precision("fp32", CPU)


# ---------------------------------------------------------------- the fused engine

@functools.cache
def network(name: str) -> nn.Module:
    """Frozen, its running statistics those of random images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(name, num_classes=5, stem="small")
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias)
        with torch.no_grad():
            for _ in range(5):
                model.train()(torch.randn(8, 3, 32, 32) + 0.3)
    return model.eval().requires_grad_(False)


def step(engine: str, names: tuple[str, ...], *, r_bn: float, device=CPU, dtype=torch.float32,
         precision="fp32", layout=torch.contiguous_format) -> tuple[torch.Tensor, dict[str, float]]:
    """The gradient on the images of one step, (N, 3, H, W) float64 on the CPU, and its terms."""
    models = {name: copy.deepcopy(network(name)).to(device, dtype, memory_format=layout) for name in names}
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(N, 3, 32, 32, generator=generator).to(device, dtype, memory_format=layout)
    alignment = ALIGNMENTS["bn"](engine=engine.removeprefix("compiled "), first_bn_multiplier=10.0, r_bn=r_bn,
                                 compile=engine.startswith("compiled"))
    inputs = Inputs(real=None, pool=Pool(names), networks=models, seed=0, size=32, mean=(0.5,) * 3,
                    std=(0.2,) * 3, device=device, precision=precision)
    objective = Objective(alignment.prepare(inputs, names), weight=alignment.r_bn,
                          keep_graphs=alignment.keeps_graphs, loss_scale=LOSS_SCALE.get(precision, 1.0))
    images.requires_grad_()
    terms, = objective.backward([images * 1.5], torch.arange(N, device=device),
                                [Draw({names[0]: 1.0}, dict.fromkeys(names, 1 / len(names)))])
    return images.grad.cpu().double(), {name: own.item() for name, own in terms.items() if name != "loss"}


@functools.cache
def truth(names: tuple[str, ...]) -> tuple[float, torch.Tensor, dict[str, float]]:
    """The lambda under which CE and R_BN have gradients of one length, and the step with it, in float64."""
    ce, one = (step("reference", names, r_bn=r_bn, dtype=torch.float64)[0] for r_bn in (0.0, 1.0))
    r_bn = (ce.norm() / (one - ce).norm()).item()
    return r_bn, *step("reference", names, r_bn=r_bn, dtype=torch.float64)


def error(engine: str, names: tuple[str, ...], *, largest: float, **how) -> float:
    """||gradient - truth|| / ||truth||; NaN is no small one.   largest: of a term, relative."""
    r_bn, exact, wanted = truth(names)
    found, terms = step(engine, names, r_bn=r_bn, **how)
    assert terms == pytest.approx(wanted, rel=largest, abs=0), (engine, names, how)
    return ((found - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("precision", FARTHEST)
def test_the_fused_engine_is_as_near_to_the_truth_as_the_reference(precision, device, record_property):
    set_precision_or_skip(precision, device)
    every = [(1, FORMATS[0]), (1, FORMATS[1]), (5, FORMATS[1])]
    for k, layout in every if device == CPU else itertools.product(range(1, 6), FORMATS):
        names = TEACHERS[device.type][:k]
        how = {"device": device, "precision": precision, "layout": layout, "largest": TERMS[precision]}
        reference, fused = (error(engine, names, **how) for engine in ("reference", "fused"))
        record_property(f"{k} networks, {layout}: fused, reference", (fused, reference))
        assert fused <= FARTHEST[precision], (k, layout, fused)
        assert fused <= max(2 * reference, FARTHEST["fp32"]), (k, layout, fused, reference)


@pytest.mark.parametrize("precision", [*FARTHEST, "float64"])
def test_the_compiled_engine_is_as_near(precision, device, monkeypatch, record_property):
    if device == CPU:  # the same tracing, without minutes in a C compiler
        monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    exact = precision == "float64"
    how = {"dtype": torch.float64} if exact else {"precision": precision}
    set_precision_or_skip(how.get("precision", "fp32"), device)
    pool = TEACHERS["cpu"]
    for names in [pool[-1:]] if device == CPU else [pool[:k] for k in range(1, 6)]:
        torch._dynamo.reset()
        found = error("compiled fused", names, device=device, **how,
                      largest=EXACT if exact else TERMS[precision])
        record_property(f"{len(names)} networks", found)
        assert found <= (EXACT if exact else FARTHEST[precision]), names


def test_float64_agrees_to_its_rounding(device):
    names = TEACHERS[device.type][:3]
    for engine in ("reference", "fused"):
        assert error(engine, names, device=device, dtype=torch.float64, largest=EXACT) < EXACT


# ---------------------------------------------------------------- the stages

# What each stage is given beside tiny budgets: workers that are forked, streams, pinned memory and casts too.
CHAINS = {
    "plain": {},
    "streamed": {"recover": ("--offload", "--recompute", "largest", "--precision", "bf16"),
                 "relabel": ("--resident-gb", 0, "--workers", 2, "--label-format", "int8",
                             "--augment", "randaugment", "--precision", "bf16"),
                 "validate": ("--resident-gb", 0, "--workers", 2, "--average", "ema",
                              "--precision", "bf16", "--model", "narrow_alexnet")},
    "measured": {"recover": ("--alignment", "bn-conv", "--patch", 4, "--init", "mosaic", "--factor", 1,
                             "--precision", "fp16"),
                 "relabel": ("--label-format", "online", "--teacher-statistics", "batch",
                             "--mix-type", "mixup"),
                 "validate": ("--precision", "fp16", "--weights-dir")}}


def chain(tiny, out, name: str, device: torch.device) -> tuple:
    """All three stages: the run, and the students' summary."""
    flags = {stage: list(CHAINS[name].get(stage, ())) for stage in ("recover", "relabel", "validate")}
    if "--weights-dir" in flags["validate"]:
        flags["validate"].append(tiny.teachers)
    where = ("--device", device.type)
    run = tiny.recover(out, *flags["recover"], *where)
    tiny.relabel(run, *flags["relabel"], *where)
    return run, tiny.validate(run, *flags["validate"], *where)


def assert_same_draws(ours, theirs) -> None:
    """Units have the same teachers, and labels show the same views; pixels and logits are not looked at."""
    for path in sorted(theirs.glob("units/*.json")):
        one, other = read_json(path), read_json(ours / path.relative_to(theirs))
        assert all(one[name] == other[name] for name in ("ipc_id", "iterations", "primary", "aligned"))
    for path in sorted(theirs.glob("fkd/*/epoch_*.pt")):
        one, other = (torch.load(own, weights_only=True) for own in (path, ours / path.relative_to(theirs)))
        views = {"index", "crop", "flip", "mix_index", "mix_box", "mix_lam", "ops", "levels"} & one.keys()
        assert len(views) > 5 and all(torch.equal(one[key], other[key]) for key in views)


def assert_near(ours, theirs) -> None:
    """Pixels are the same to rounding, of which Adam's first steps make much where a gradient is about 0."""
    difference = abs(pixels_of(ours) - pixels_of(theirs))
    assert (difference <= 2).mean() > 0.97 and difference.mean() < 1


@pytest.mark.parametrize("name", CHAINS)
def test_all_stages_run_and_draw_what_the_cpu_draws(name, device, tiny, tmp_path):
    run, summary = chain(tiny, tmp_path / "here", name, device)
    assert [own["device"] for own in summary["results"]] == [device.type] * 2
    assert all(read_json(path)["device"] == device.type for path in run.glob("units/*.json"))
    if device != CPU:
        there, _ = chain(tiny, tmp_path / "there", name, CPU)
        assert_same_draws(run, there)
        if name == "plain":
            assert_near(run, there)


def test_a_device_goes_on_with_what_it_saved(device, tiny, tmp_path, monkeypatch):
    where = ("--device", device.type, "--save-every", 0)
    whole, _ = chain(tiny, tmp_path / "whole", "plain", device)
    run_through_stops(monkeypatch, synthesis, "shared_view", {2, 5, 9},
                      lambda: tiny.recover(tmp_path, *where))
    run = tmp_path / "run"
    run_through_stops(monkeypatch, generate_soft_label, "label_epoch", {2},
                      lambda: tiny.relabel(run, "--device", device.type))
    run_through_stops(monkeypatch, training, "train_batch", {2, 5},
                      lambda: tiny.validate(run, "--model", "narrow_alexnet", *where))  # it has dropout
    tiny.validate(whole, "--model", "narrow_alexnet", *where)
    if device == CPU:
        ours, theirs = (contents(folder) for folder in (run, whole))
        assert all(theirs[path] == digest for path, digest in ours.items())
    assert_same_draws(run, whole)
    assert_near(run, whole)
    losses = [[json.loads(line)["loss"] for line in path.read_text().splitlines()] for path in (
        folder / "validate" / "narrow_alexnet" / "seed0" / "log.jsonl" for folder in (run, whole))]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)  # images that rounding changed


def test_teachers_learn_there(device, tiny, tmp_path):
    train_teachers.main(tiny.teacher_flags(tmp_path, "--models", POOL[0], "--device", device.type))
    assert read_json(tmp_path / f"{POOL[0]}.json")["accuracy"] > 0.5  # one class of four is 0.25


@pytest.mark.cuda
def test_two_devices_train_the_student_of_one(made, tiny, tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device: two ranks need two")
    losses, flags = {}, ("--gradient-accumulation-steps", 2, "--seeds", 0, "--device", "cuda")
    tiny.validate(made, "--output-dir", tmp_path / "one", *flags)
    done = torchrun(tmp_path, "validate.train_FKD",
                    tiny.validate_flags(made, "--output-dir", tmp_path / "two", *flags))
    assert done.wait(300) == 0, done.stderr.read()
    for name in ("one", "two"):
        rows = (tmp_path / name / "seed0" / "log.jsonl").read_text().splitlines()
        losses[name] = [json.loads(row)["loss"] for row in rows]
    assert losses["one"] == pytest.approx(losses["two"], rel=1e-3)


@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow),
                                    pytest.param("cuda", marks=pytest.mark.cuda)])
def test_methods_are_compared_on_full_size_networks(device, tmp_path, monkeypatch):
    own, none = small_recipes.RECIPES["cifar10-full"], {"min_teacher_accuracy": 0.0}
    monkeypatch.setitem(small_recipes.RECIPES, "cifar10-full", dataclasses.replace(
        own, iterations=4 / 4000, epochs=2 / 300, teachers={**own.teachers, "epochs": 1, "batch_size": 10},
        recover={**own.recover, **none}, relabel=none))
    data = write_data(tmp_path / "data", classes=[f"c{k}" for k in range(10)], size=32)
    table = compare.main(words("prism", "--dataset", "cifar10-full", "--ipc", 2, "--draws", 1,
                               "--train-data-path", data, "--out", tmp_path, "--threads", 1,
                               "--device", device))
    rows = list(csv.DictReader(table.with_suffix(".csv").open(encoding="utf-8")))
    assert table.parent == tmp_path / "cifar10-full" / "comparison" and all(row["n"] == "1" for row in rows)
    assert {row["method"] for row in rows} >= {"prism", "random", "herding"}


# ---------------------------------------------------------------- the benchmarks

def test_the_benchmarks_run_there(device, capsys, monkeypatch):
    monkeypatch.setattr(recover_step, "POOL", TEACHERS[device.type])
    where = ["--device", device.type, "--threads", "1"]
    step = ["--size", "16", "--size64", "16", "--batch-size", "2", "--rounds", "1", "--teachers", "1",
            "--gradients", "1"]
    recover_step.main([*where, *step, "--precision", "bf16"])
    memory.main([*where, "--networks", "narrow_resnet", "--batch-size", "2", "--size", "32"])
    augment.main([*where, "--images", "8", "--size", "16", "--batch-size", "4", "--rounds", "1",
                  "--model", "narrow_resnet", "--steps", "2", "--train-batch-size", "2"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["benchmark"] for row in rows] == ["recover_step"] * 2 + ["memory"] + ["augment"] * 2
    assert all(row["device"] == device.type for row in rows)
