"""Batchings, blocks, perturbed networks, committees, crop curricula: against hand computations."""
import dataclasses
import itertools
import math

import numpy
import pytest
import torch
import torch.nn.functional as F
from helpers import POOL, contents, pixels_of
from torch import nn

from recover import synthesis
from recover.batchings import CrossClass, IntraClass, Rounds
from recover.blocks import OneBlock, Residual, resize
from recover.perturbation import Directed
from recover.plans import UnitLaws
from recover.selection import InTurn, Multi, Pool, Single, Votes
from recover.units import Unit
from utils.augment import Padded, plan_shared_views, shared_view
from utils.formats import assemble_manifest
from utils.records import read_json
from utils.schedule import CosineCrops, CropLaw, LinearCrops, StepCrops

pytest_plugins = ["stage_fixtures"]


# ---------------------------------------------------------------- batchings

def groups_of(batching, num_classes, ipc, size):
    groups = batching.groups(num_classes, ipc_start=0, ipc_end=ipc, chunk_size=size, slices=1)
    return [unit for group in groups for unit in group]


def test_intra_class_batches_are_images_in_order_of_class():
    units = groups_of(IntraClass(), 3, 4, 5)  # 12 images: class 0's four and one of class 1, ...
    assert [unit.members for unit in units] == [
        ((0, 0), (1, 0), (2, 0), (3, 0), (0, 1)), ((1, 1), (2, 1), (3, 1), (0, 2), (1, 2)), ((2, 2), (3, 2))]
    assert [(unit.ipc_id, unit.chunk) for unit in units] == [(0, 0), (0, 1), (0, 2)]
    assert IntraClass.whole_set and not CrossClass.whole_set


@pytest.mark.parametrize("ipc, counts", [  # baselines.md 7.2
    (10, [2, 2, 1, 1, 1, 1, 1, 1]), (50, [7, 7, 6, 6, 6, 6, 6, 6]), (100, [13, 13, 13, 13, 12, 12, 12, 12]),
    (1, [1, 0, 0, 0, 0, 0, 0, 0])])
def test_rounds_share_a_classs_images_evenly_the_early_ones_first(ipc, counts):
    joined = [Rounds().round_of(i, ipc) for i in range(ipc)]
    assert [joined.count(r) for r in range(8)] == counts and joined == sorted(joined)


@pytest.mark.parametrize("ipc, mean", [(10, 2550), (50, 2310), (100, 2290)])  # baselines.md 7.2
def test_rounds_give_the_published_mean_iterations(ipc, mean):
    unit, = groups_of(Rounds(), 1, ipc, 1000)
    num, entries = Rounds().entries(unit, ipc, 4000)
    assert num == 4000 and sum(num - entry for entry in entries) / ipc == mean
    assert list(entries) == sorted(entries) and set(entries) == set(range(0, 4000, 500))


def test_a_round_that_brings_a_batch_nothing_is_left_out():
    first, second = groups_of(Rounds(rounds=4), 1, 6, 4)  # rounds of 2, 2, 1, 1 images; batches of 4 and 2
    assert Rounds(rounds=4).entries(first, 6, 40) == (20, (0, 0, 10, 10))
    assert Rounds(rounds=4).entries(second, 6, 40) == (20, (0, 10))


def test_a_unit_of_rounds_lists_those_first_who_join_first():
    unit, = groups_of(Rounds(rounds=2), 2, 3, 9)
    assert unit.members == ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 1))


def laws(**settings):
    return UnitLaws(**{"seed": 0, "iterations": lambda _: 8, "lr": 0.1, "size": 16, "min_scale": 0.3,
                       "flip": True, "jitter": 2, "crops": CropLaw(), "selection": Single(),
                       "pool": Pool(("a",)), **settings})


def test_a_plan_says_who_has_joined_at_every_step():
    unit, = groups_of(Rounds(rounds=2), 2, 3, 9)
    plan = laws(batching=Rounds(rounds=2), ipc=3).plan(unit)
    assert [len(range(6)[plan.joined(0, t)]) for t in range(8)] == [4, 4, 4, 4, 6, 6, 6, 6]
    assert laws().plan(Unit(0, 0, ((0, 0),))).joined(0, 3) == slice(None)


@pytest.mark.parametrize("flags", [("--batching", "intra-class"), ("--batching", "rounds", "--rounds", 2)])
def test_other_batchings_through_the_stages(flags, tiny, tmp_path, refused, capfd):
    flags = (*flags, "--batch-size", 5, "--iteration", 4, "--ipc-end", 3)
    run = tiny.recover(tmp_path, *flags)
    manifest = assemble_manifest(run)
    assert manifest.ipc == 3 and len(pixels_of(run)) == 12
    unit = read_json(run / "units" / "ipc0000_chunk00.json")
    assert unit["indices"] == [0, 1, 2] and len(unit["files"]) == 5
    assert read_json(run / "config.json")["whole_set"] == 3
    assert contents(tiny.recover(tmp_path / "again", *flags)) == contents(run)
    text = refused(lambda argv: tiny.recover(tmp_path, *flags, *argv), ("--ipc-end", 4))
    assert "whole_set is 3 there and 4 here" in text
    text = refused(lambda argv: tiny.recover(tmp_path, *flags, *argv), ("--slices-per-batch", 3))
    assert "--batching takes no --ipc-start, --slices-per-batch" in text
    tiny.relabel(run)
    assert tiny.validate(run, "--fkd-path", run / "fkd" / "3")["n"] == 2
    assert manifest.saved["whole_set"] == 3 and len(manifest.select(2)) == 8
    assert "made for IPC 3" in capfd.readouterr().err  # its first two are no set of IPC 2


def test_a_unit_of_one_image_is_finished(tiny, tmp_path):
    run = tiny.recover(tmp_path, "--batching", "intra-class", "--batch-size", 11, "--iteration", 2,
                       "--iteration-step", 7, "--ipc-end", 3)  # a step that has no effect
    assert assemble_manifest(run).ipc == 3
    assert read_json(run / "units" / "ipc0000_chunk01.json")["indices"] == [2]


def test_chunks_of_several_indices_draw_teachers_each():
    law = laws(batching=IntraClass(), selection=Multi(), pool=Pool(POOL, "small"), ipc=3)
    drawn = {tuple(law.plan(unit).draws[0].align) for unit in groups_of(IntraClass(), 40, 3, 3)}
    assert len(drawn) > 3


def test_images_stay_as_they_start_until_they_join(tiny, tmp_path, monkeypatch):
    flags = ("--batching", "rounds", "--rounds", 2, "--batch-size", 12, "--iteration", 4, "--ipc-end", 3)
    start = pixels_of(tiny.recover(tmp_path / "start", "--iteration", 0, "--ipc-end", 3))
    seen, view = [], synthesis.shared_view

    def watched(images, views, step):
        seen.append(len(images))
        return view(images, views, step)
    monkeypatch.setattr(synthesis, "shared_view", watched)
    plain = tiny.recover(tmp_path, *flags)
    assert seen == [8, 8, 12, 12]
    late = [i for i in range(12) if i % 3 == 2]  # of every class's three the last joins in the second round
    moved = abs(pixels_of(plain) - start).reshape(12, -1).max(1)
    assert (moved > 0).all() and moved[late].mean() < moved[[i for i in range(12) if i not in late]].mean()


# ---------------------------------------------------------------- blocks

def test_fadrms_blocks(gen):
    cuts = Residual(block_sizes=(200, 224)).cut(2000, 224)
    assert [(cut.iterations, cut.size) for cut in cuts] == [(500, 200), (500, 224), (500, 200), (500, 224)]
    rates = [block.rates[0] for block in laws(
        iterations=lambda _: 2000, lr=0.25, blocks=Residual()).plan(Unit(0, 0, ((0, 0),))).blocks]
    assert rates == pytest.approx([0.25, 0.2134, 0.125, 0.0366], abs=5e-5)  # facts-2026.md 1.1
    start, images = torch.rand(2, 3, 12, 12, generator=gen), torch.rand(2, 3, 8, 8, generator=gen)
    first, second = Residual(num_blocks=2, block_sizes=(8, 12), keep=0.75).cut(4, 12)
    assert torch.equal(first.before(start, start), resize(start, 8))
    expected = 0.75 * F.interpolate(images, size=12, mode="bilinear") + 0.25 * start
    torch.testing.assert_close(second.before(images, start), expected)
    assert OneBlock().cut(7, 16) == [(7, 16, None)]


def test_the_resize_is_bilinear_at_half_pixels_without_antialiasing():
    row = numpy.array([0.0, 4, 8, 2, 6, 1, 3, 7])
    places = (numpy.arange(5) + 0.5) * 8 / 5 - 0.5
    expected = numpy.interp(places, numpy.arange(8), row)
    image = torch.tensor(row).view(1, 1, 1, 8).repeat(1, 1, 8, 1)
    numpy.testing.assert_allclose(resize(image, 5)[0, 0, 2], expected, rtol=1e-6)


def test_what_does_not_divide_goes_to_the_first_blocks():
    assert [cut.iterations for cut in Residual(num_blocks=3).cut(8, 16)] == [3, 3, 2]


def test_blocks_through_recover_and_their_refusal(tiny, tmp_path, refused):
    flags = ("--blocks", "residual", "--num-blocks", 3, "--block-sizes", 16, 12, "--iteration", 6)
    run = tiny.recover(tmp_path, *flags)
    assert read_json(run / "units" / "ipc0000_chunk00.json")["iterations"] == 6
    flat = tiny.recover(tmp_path / "flat", "--iteration", 6, "--exp-name", "flat")
    assert (pixels_of(run) != pixels_of(flat)).any()
    kept = tiny.recover(tmp_path, *flags, "--keep", 0, "--lr", 1e-8, "--exp-name", "kept")
    start = tiny.recover(tmp_path, "--iteration", 0, "--exp-name", "start")
    assert abs(pixels_of(kept) - pixels_of(start)).max() <= 1  # nothing is kept of the optimised image
    text = refused(lambda argv: tiny.recover(tmp_path, *flags, *argv), ("--iteration", 2))
    assert "--num-blocks 3 needs as many iterations or more, got 2" in text
    text = refused(lambda argv: tiny.recover(tmp_path, *flags, *argv), ("--num-blocks", 2))
    assert "the last of --num-blocks 2 has 12 pixels, the images have --size 16" in text


# ---------------------------------------------------------------- perturbation

def test_directed_adjustment_is_an_ascent_of_given_length():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).double().eval().requires_grad_(False)
    views, targets = torch.randn(4, 3, 2, 2).double(), torch.tensor([0, 1, 2, 0])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    moved = Directed(rho=0.3, ascents=3).apply({"a": network, "b": network}, ("a",), lambda: views, targets)
    weight, bias = (value.numpy().copy() for value in before.values())
    x, onehot = views.flatten(1).numpy(), numpy.eye(5)[targets]
    for _ in range(3):
        logits = x @ weight.T + bias
        p = numpy.exp(logits - logits.max(1, keepdims=True))
        error = (p / p.sum(1, keepdims=True) - onehot) / 4
        gradients = error.T @ x, error.sum(0)
        norm = math.sqrt(sum((g**2).sum() for g in gradients))
        weight, bias = (w + 0.1 * g / (norm + 1e-12) for w, g in zip((weight, bias), gradients, strict=True))
    numpy.testing.assert_allclose(moved["a"][1].weight, weight, rtol=1e-9)
    numpy.testing.assert_allclose(moved["a"][1].bias, bias, rtol=1e-9)
    assert moved["b"] is network and all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert not any(p.requires_grad for p in moved["a"].parameters())


def test_every_unit_begins_with_the_trained_weights(tiny, tmp_path, refused):
    flags = ("--perturbation", "directed", "--rho", 2.0, "--ascents", 2, "--teachers", "single",
             "--iteration", 5)
    whole = tiny.recover(tmp_path / "whole", *flags)
    for share in ("1/2", "0/2"):
        run = tiny.recover(tmp_path / "shards", *flags, "--shard", share)
    assert {k: v for k, v in contents(run).items() if k.startswith("syn")} \
        == {k: v for k, v in contents(whole).items() if k.startswith("syn")}
    plain = tiny.recover(tmp_path / "plain", "--teachers", "single", "--iteration", 5)
    assert (pixels_of(plain) != pixels_of(whole)).any()
    text = refused(lambda argv: tiny.recover(tmp_path, *flags, *argv), ("--slices-per-batch", 2))
    assert "--perturbation needs --slices-per-batch 1" in text


# ---------------------------------------------------------------- committees

def test_in_turn_asks_one_network_after_another():
    draws = InTurn().plan(Pool(("a", "b", "c")), 4, 1, 7, seed=9)
    assert [draw.ce for draw in draws] == [draw.align for draw in draws] \
        == [{name: 1.0} for name in "abcabca"]


def test_cv_dds_pairs_and_weights():
    names, law = ("r18", "r50", "sh", "mb", "de"), Votes(vote_priors=(56.4, 42.3, 52.5, 44.2, 40.6))
    pool = Pool(names)
    expected = [.944, .686, .920, .959, .115, .406, .584, .840, .915, .673]  # facts-2026.md 2.2, ImageNet-1K
    for i, (a, b) in enumerate(itertools.combinations(names, 2)):
        first, *others = law.plan(pool, i, 3, 5, seed=i)
        assert list(first.ce) == [a, b] and all(draw == first for draw in others)
        assert first.ce == first.align and sum(first.ce.values()) == pytest.approx(1)
        assert first.ce[a] == pytest.approx(expected[i], abs=5e-4)
    assert law.plan(pool, 10, 0, 1, seed=0) == law.plan(pool, 0, 0, 1, seed=0)
    best, = dataclasses.replace(law, pairs="best").plan(pool, 7, 0, 1, seed=0)
    assert list(best.ce) == ["r18", "sh"]
    assert Votes().plan(pool, 1, 0, 1, seed=0)[0].ce == {"r18": 0.5, "sh": 0.5}
    with pytest.raises(ValueError, match="order of --pool r50 r18, but --arch-name r18 is not its first"):
        Votes(vote_priors=(1.0, 2.0)).check(Pool(("r18", "r50"), listed=("r50", "r18")))


def test_drawn_pairs_are_uniform_and_shared_by_the_chunks_of_an_index():
    votes = Votes(pairs="drawn", vote_priors=(1.0, 2.0, 3.0))
    pool = Pool(("a", "b", "c"))
    pairs = [votes.pair_of(pool, i, 0) for i in range(3000)]
    assert all(abs(pairs.count(pair) - 1000) < 120 for pair in itertools.combinations(range(3), 2))
    assert votes.plan(pool, 5, 0, 1, seed=2) == votes.plan(pool, 5, 8, 1, seed=2)
    with pytest.raises(ValueError, match=r"a prior for each: got 2 \(a b\) and --vote-priors 1.0 2.0 3.0"):
        votes.check(Pool(("a", "b")))


def test_committees_through_recover(tiny, tmp_path):
    run = tiny.recover(tmp_path, "--teachers", "votes", "--vote-priors", 60, 50, 40, 30, "--iteration", 4)
    unit = read_json(run / "units" / "ipc0001_chunk00.json")
    assert set(unit["primary"]) == set(unit["aligned"]) == {POOL[0], POOL[2]}  # the second pair
    turn = tiny.recover(tmp_path, "--teachers", "in-turn", "--iteration", 8, "--exp-name", "turn")
    assert read_json(turn / "units" / "ipc0000_chunk00.json")["primary"] == dict.fromkeys(POOL, 2)


# ---------------------------------------------------------------- CDA's curricula

@pytest.mark.parametrize("law, way", [
    (CosineCrops, lambda t: (1 + math.cos(math.pi * t / 8)) / 2), (LinearCrops, lambda t: 1 - t / 8),
    (StepCrops, lambda t: 1.0)])
def test_crop_curricula_end_at_their_milestone(law, way):
    least = law(milestone=0.8)(10, 0.08)
    assert least.tolist() == pytest.approx([0.08 + 0.92 * way(t) for t in range(8)] + [0.08, 0.08])
    assert torch.equal(law()(10, 0.08), law(milestone=1.0)(10, 0.08))


# ---------------------------------------------------------------- padded crops

def test_a_padded_view_is_the_shifted_image_over_zeros(gen):
    images = torch.rand(2, 3, 8, 8, generator=gen) + 1
    views = plan_shared_views(40, size=8, min_scale=0.1, flip=False, jitter=0, generator=gen,
                              crop=Padded(crop_padding=3))
    padded = numpy.pad(images.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)))
    shifts = set()
    for step, (top, left, height, width) in enumerate(views.boxes):
        assert (height, width) == (8, 8)
        expected = padded[:, :, top + 3:top + 11, left + 3:left + 11]
        numpy.testing.assert_allclose(shared_view(images, views, step), expected, rtol=1e-6)
        shifts |= {top, left}
    assert shifts == set(range(-3, 4))


def test_padded_crops_through_recover(tiny, tmp_path):
    run = tiny.recover(tmp_path, "--crop", "padded", "--crop-padding", 2, "--iteration", 4)
    plain = tiny.recover(tmp_path / "plain", "--iteration", 4)
    assert (pixels_of(run) != pixels_of(plain)).any()
    assert "crop" not in read_json(plain / "config.json")["config"]
