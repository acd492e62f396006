"""Units of recover: which there are, what is planned of one, the hot loop against one written out here."""
import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recover.alignments import BNAlignment
from recover.objective import Objective
from recover.plans import Block, UnitLaws, UnitPlan, describe_plan
from recover.selection import Draw, Multi, Pool
from recover.synthesis import synthesize_batch
from recover.units import Unit, unit_groups
from utils.augment import plan_shared_views
from utils.schedule import CROP_LAWS
from utils.unfinished import StopSignals, Unfinished

POOL = Pool(("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet"))


# ---------------------------------------------------------------- which units there are

def outline(groups):
    """(IPC index, chunk, classes) of every unit of every group."""
    return [[(unit.ipc_id, unit.chunk, unit.classes) for unit in group] for group in groups]


def test_a_group_is_one_chunk_of_consecutive_indices():
    assert outline(unit_groups(5, ipc_start=2, ipc_end=6, chunk_size=2, slices=2)) == [
        [(2, 0, [0, 1]), (3, 0, [0, 1])], [(2, 1, [2, 3]), (3, 1, [2, 3])], [(2, 2, [4]), (3, 2, [4])],
        [(4, 0, [0, 1]), (5, 0, [0, 1])], [(4, 1, [2, 3]), (5, 1, [2, 3])], [(4, 2, [4]), (5, 2, [4])]]
    assert outline(unit_groups(3, ipc_start=0, ipc_end=2, chunk_size=100, slices=1)) == [
        [(0, 0, [0, 1, 2])], [(1, 0, [0, 1, 2])]]


def test_every_image_is_a_member_of_exactly_one_unit():
    groups = unit_groups(7, ipc_start=0, ipc_end=6, chunk_size=3, slices=3)
    members = [member for group in groups for unit in group for member in unit.members]
    assert sorted(members) == [(i, k) for i in range(6) for k in range(7)]


def test_classes_without_an_image_are_left_out_and_named():
    there = {0: 2, 1: 1, 2: 9, 3: 0, 4: float("inf")}
    groups = unit_groups(5, ipc_start=0, ipc_end=3, chunk_size=2, slices=1, available=there.__getitem__)
    assert outline(groups) == [
        [(0, 0, [0, 1])], [(0, 1, [2])], [(0, 2, [4])],
        [(1, 0, [0])], [(1, 1, [2])], [(1, 2, [4])],
        [(2, 0, [])], [(2, 1, [2])], [(2, 2, [4])]]
    assert [unit.short for unit, in groups] == [(), (3,), (), (1,), (3,), (), (0, 1), (3,), ()]


def test_a_unit_knows_its_files_and_its_name(tmp_path):
    (unit, _), = unit_groups(2, ipc_start=12, ipc_end=14, chunk_size=2, slices=2)
    assert unit.members == ((12, 0), (12, 1)) and str(unit) == "IPC index 12, chunk 0"
    assert unit.record(tmp_path) == tmp_path / "units" / "ipc0012_chunk00.json"
    assert unit.unfinished(tmp_path) == tmp_path / "unfinished" / "ipc0012_chunk00.pt"


# ---------------------------------------------------------------- what is planned of one

def laws(**settings) -> UnitLaws:
    return UnitLaws(**{
        "seed": 0, "iterations": lambda ipc_id: 6, "lr": 0.05, "size": 64, "min_scale": 0.08, "flip": True,
        "jitter": 5, "crops": CROP_LAWS["none"](), "selection": Multi(selection="intra"), "pool": POOL,
        **settings})


# Views and teachers of the units below, as commit 22d38e5 planned them: images that exist depend on these.
PLANNED_SO_FAR = {("none", True): "d77b1803c31a5b6c", ("none", False): "3da46a1d3c71a522",
                  ("cosine", True): "01180e5e974f88d4", ("cosine", False): "4d1e5ea1e380b574"}


@pytest.mark.parametrize("crops, flip", PLANNED_SO_FAR)
def test_a_seed_plans_what_it_always_planned(crops, flip):
    rows = []
    for seed, ipc_id, chunk, num in ((0, 0, 0, 12), (0, 3, 2, 9), (1, 3, 2, 9), (7, 12, 0, 1)):
        own = laws(seed=seed, iterations={ipc_id: num}.__getitem__, crops=CROP_LAWS[crops](), flip=flip)
        plan = own.plan(Unit(ipc_id, chunk, ((ipc_id, 0),)))
        block, = plan.blocks
        rows.append([plan.iterations, block.views.boxes, block.views.flips, block.views.rolls,
                     [[*draw.ce, *draw.align] for draw in plan.draws]])
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16] == PLANNED_SO_FAR[crops, flip]


def test_the_rate_falls_from_its_base_along_a_cosine():
    plan = laws(iterations=lambda ipc_id: 10 - ipc_id, lr=0.3).plan(Unit(2, 0, ()))
    assert plan.iterations == len(plan.draws) == 8
    assert plan.blocks[0].rates == pytest.approx([0.15 * (1 + math.cos(math.pi * t / 8)) for t in range(8)])
    assert plan.blocks[0].rates[0] == 0.3


def test_a_plan_depends_on_seed_index_and_chunk_alone():
    def boxes(seed, ipc_id, chunk, members=()):
        return laws(seed=seed).plan(Unit(ipc_id, chunk, members)).blocks[0].views.boxes

    plans = [boxes(0, 0, 0), boxes(1, 0, 0), boxes(0, 1, 0), boxes(0, 0, 1)]
    assert all(a != b for i, a in enumerate(plans) for b in plans[:i])
    assert boxes(0, 0, 0, ((0, 4),)) == plans[0]


def test_a_plan_without_iterations_is_empty():
    plan = laws(iterations=lambda ipc_id: 0, crops=CROP_LAWS["cosine"]()).plan(Unit(0, 0, ()))
    assert plan.iterations == 0 and plan.draws == []


def test_a_dry_run_shows_who_supervises():
    groups = unit_groups(5, ipc_start=0, ipc_end=2, chunk_size=3, slices=1)
    text = describe_plan(groups, groups[:3], run=Path("nowhere"), num_classes=5, needed=4_000_000, rate=0.5,
                         laws=laws(selection=Multi(selection="pre")), anew=False)
    first, second = (" + ".join(Multi().plan(POOL, i, 0, 1, seed=0)[0].align) for i in range(2))
    assert [line.split(None, 1) for line in text.splitlines()[1:]] == [
        ["images", "10 (2 IPC indices x 5 classes), about 4.0 MB"],
        ["units", "4 in all, 3 of this shard, 3 to do"], ["iterations", "18 to do"],
        ["index", f"0     6 iterations, resnet18 <- {first}"],
        ["index", f"1     6 iterations, resnet18 <- {second}"],
        ["time", "9 s at the 0.500 s per iteration measured here"]]


# ---------------------------------------------------------------- the hot loop

N, K, SMALL, LARGE, R_BN, BETAS = 4, 7, 8, 12, 0.3, (0.5, 0.9)
BOUNDS = (torch.full((1, 3, 1, 1), -1.25), torch.tensor([0.875, 1.0, 1.125]).view(1, 3, 1, 1))
DRAWS = [Draw({"a": 1.0}, {"a": 0.5, "b": 0.5}), Draw({"b": 0.7, "a": 0.3}, {"b": 1.0}), Draw({"a": 1.0}, {})]
LENGTHS = ((5, 4), (3, 7))  # iterations of both blocks, of each slice


def enlarged(images, start):
    """To the second block's size, a quarter of the start among it."""
    larger, other = (F.interpolate(x, size=(LARGE, LARGE), mode="nearest") for x in (images, start))
    return 0.75 * larger + 0.25 * other


def darkened(images, start):
    """A first block's beginning counts too."""
    return images - 0.125 * start


@pytest.fixture
def plans(gen):
    """Two slices, each of a block at 8 pixels and one at 12."""
    def block(num, size, rate, before, shift):
        views = plan_shared_views(num, size=size, min_scale=0.3, flip=True, jitter=3, generator=gen)
        return Block([rate / (t + 1) for t in range(num)], views,
                     [DRAWS[(t + shift) % 3] for t in range(num)], before)
    return [UnitPlan(Unit(s, 0, tuple((s, k) for k in range(N))), (
        block(first, SMALL, 0.2, darkened, s), block(second, LARGE, 0.1, enlarged, s + 1)))
        for s, (first, second) in enumerate(LENGTHS)]


@pytest.fixture
def starts(gen):
    return [torch.randn(N, 3, SMALL, SMALL, generator=gen) for _ in LENGTHS]


class Remembering(BNAlignment):
    """R_BN that counts a little more at every step."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.steps = 0

    def __call__(self, images, targets, *, slices, aligned):
        logits, distances = super().__call__(images, targets, slices=slices, aligned=aligned)
        self.steps += 1
        return logits, distances * (1 + self.steps / 8)

    def state(self):
        return self.steps

    def load(self, state):
        self.steps = state


class Never(Unfinished):
    """Work that is not interrupted."""

    def __init__(self):
        super().__init__(Path("nowhere"), minutes=1e9, stop=StopSignals())


@pytest.fixture
def make(tiny_teacher, plans, starts):
    """f(): the finished slices and their last terms; settings of `synthesize_batch` win."""
    def run(*, dtype=torch.float32, alignment=BNAlignment, **settings):
        aligned = {name: alignment(tiny_teacher(seed).to(dtype), first_multiplier=10.0)
                   for seed, name in enumerate("ab")}
        objective = Objective(aligned, weight=R_BN)
        return synthesize_batch([x.to(dtype) for x in starts], torch.arange(N), objective, **{
            "plans": plans, "betas": BETAS, "bounds": [bound.to(dtype) for bound in BOUNDS],
            "unfinished": Never(), "saved": None, "log_every": 100, "report": lambda *_: None,
            "precision": "fp32", **settings})
    return run


def walk(model, x):
    """The logits and R_BN of one network, layer by layer."""
    total, weight = 0.0, 10.0
    for layer in model:
        if isinstance(layer, nn.BatchNorm2d):
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
            total = total + weight * ((mean - layer.running_mean).norm() + (var - layer.running_var).norm())
            weight = 1.0
        x = layer(x)
    return x, total


def loss_by_hand(models, x, views, step, draw):
    top, left, height, width = views.boxes[step]
    view = F.interpolate(x[:, :, top:top + height, left:left + width], size=x.shape[2:], mode="bilinear")
    view = view.flip(3) if views.flips[step] else view
    view = view.roll(tuple(views.rolls[step]), (2, 3))
    seen = {name: walk(models[name], view) for name in draw.names}
    ce = sum(-w * torch.log_softmax(seen[name][0], 1)[range(N), range(N)].mean()
             for name, w in draw.ce.items())
    return ce + R_BN * sum(w * seen[name][1] for name, w in draw.align.items())


def slice_by_hand(models, start, plan):
    """One slice by itself, Adam written out.   Returns: its images, its last loss."""
    x, (low, high) = start, (bound.double() for bound in BOUNDS)
    for block in plan.blocks:
        x = block.before(x, start)
        first, second = torch.zeros_like(x), torch.zeros_like(x)
        for t, rate in enumerate(block.rates):
            leaf = x.detach().requires_grad_()
            loss = loss_by_hand(models, leaf, block.views, t, block.draws[t])
            grad, = torch.autograd.grad(loss, leaf)
            first = BETAS[0] * first + (1 - BETAS[0]) * grad
            second = BETAS[1] * second + (1 - BETAS[1]) * grad**2
            mean, square = first / (1 - BETAS[0]**(t + 1)), second / (1 - BETAS[1]**(t + 1))
            x = (x - rate * mean / (square.sqrt() + 1e-8)).clamp(low, high)
    return x, loss.item()


def test_the_hot_loop_is_adam_block_by_block_each_slice_by_itself(make, plans, starts, tiny_teacher):
    models = {name: tiny_teacher(seed).double() for seed, name in enumerate("ab")}
    images, final = make(dtype=torch.float64)
    assert [x.shape for x in images] == [(N, 3, LARGE, LARGE)] * 2
    for x, own, start, plan in zip(images, final, starts, plans, strict=True):
        expected, loss = slice_by_hand(models, start.double(), plan)
        torch.testing.assert_close(x, expected, rtol=1e-9, atol=1e-9)
        assert own["loss"].item() == pytest.approx(loss, rel=1e-9) and not x.requires_grad
    limits = [bound.flatten().tolist() for bound in BOUNDS]
    assert (images[0].amin((0, 2, 3)).tolist(), images[0].amax((0, 2, 3)).tolist()) == tuple(limits)


def test_a_plan_counts_the_iterations_and_draws_of_all_blocks(plans):
    assert [plan.iterations for plan in plans] == [len(plan.draws) for plan in plans] == [9, 10]
    assert plans[1].draws == [*plans[1].blocks[0].draws, *plans[1].blocks[1].draws]


def test_reports_are_of_the_slices_that_still_run(make):
    seen, counted = [], []

    def report(block, step, active, terms, skipped):
        assert all({"loss", "ce"} <= own.keys() for own in terms) and len(terms) == len(active)
        assert skipped == [0] * len(active)
        seen.append([plan.unit.ipc_id for plan in active])
        counted.append([plan.until(block, step) for plan in active])

    make(log_every=2, report=report)
    assert seen == [[0, 1], [0, 1], [0], [0, 1], [0, 1], [1], [1]]
    assert counted == [[0, 0], [2, 2], [4], [5, 3], [7, 5], [7], [9]]  # through all blocks of a unit


def test_a_memory_of_the_alignment_begins_with_every_unit(make):
    (first, _), (again, _), (plain, _) = make(alignment=Remembering), make(alignment=Remembering), make()
    assert all(map(torch.equal, first, again)) and not torch.equal(first[0], plain[0])


class Killed(BaseException):
    """What a kill -9 looks like from inside."""


class Dying(Unfinished):
    """Saves after every step; the process ends with the last of `lives` saves."""

    def __init__(self, path, *, lives):
        super().__init__(path, minutes=0, stop=StopSignals())
        self._lives = lives

    def save(self, state):
        super().save(state)
        self._lives -= 1
        if not self._lives:
            raise Killed


@pytest.mark.parametrize("steps, block", [(2, 0), (4, 0), (5, 0), (6, 1), (8, 1), (10, 1), (12, 1)])
def test_a_killed_unit_goes_on_in_its_block_and_ends_in_the_same_bytes(make, tmp_path, steps, block):
    expected, terms = make(alignment=Remembering)
    with pytest.raises(Killed):
        make(alignment=Remembering, unfinished=Dying(tmp_path / "unit.pt", lives=steps))
    saved = Never.load(Dying(tmp_path / "unit.pt", lives=1))
    assert (saved["block"], saved["step"]) == (block, steps - 5 * block)
    images, final = make(alignment=Remembering, saved=saved)
    assert all(map(torch.equal, images, expected)) and final == terms


def test_a_unit_killed_after_every_step_ends_in_the_same_bytes(make, tmp_path):
    expected, terms = make(alignment=Remembering)
    saved, kills = None, 0
    while True:
        unfinished = Dying(tmp_path / "unit.pt", lives=1)
        try:
            images, final = make(alignment=Remembering, unfinished=unfinished, saved=saved)
            break
        except Killed:
            saved, kills = unfinished.load(), kills + 1
    assert kills == 12 and all(map(torch.equal, images, expected)) and final == terms
