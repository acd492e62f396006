"""The laws of teacher draws, by their empirical frequencies under fixed seeds, and what they drew so far."""
import hashlib
import itertools
import json
import math
import random
from collections import Counter

import pytest

from models.registry import primary_first
from recover.data_synthesis import RecoverConfig
from recover.selection import SELECTIONS, Draw, Dual, Multi, Pool, Single
from utils.flags import build_config, parse_config
from utils.pieces import identity

PHI, PLAIN = "resnet18", "alexnet"
POOL = Pool((PHI, "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", PLAIN))
WITH_BN = POOL.names[:4]
DRAWS = 24000
THREE_SLOTS = {0: 1 / 8, 1: 3 / 8, 2: 3 / 8, 3: 1 / 8}  # further teachers: three slots, each with p = 0.5


def draws(piece, *, pool=POOL, num=DRAWS):
    rng = random.Random(7)
    return [piece.align(rng, pool, PHI) for _ in range(num)]


def bernoulli(most=4):
    return Multi(subset_law="bernoulli", max_bn_teachers=most)


def uniform(most=4):
    return Multi(subset_law="uniform", max_bn_teachers=most)


def assert_frequencies(seen, expected: dict, num=DRAWS):
    """Every outcome is expected, and within four standard deviations of its probability."""
    counts = Counter(seen)
    assert set(counts) <= set(expected)
    for outcome, p in expected.items():
        assert abs(counts[outcome] - num * p) <= 4 * math.sqrt(num * p * (1 - p)), (outcome, counts[outcome])


# ---------------------------------------------------------------- which networks align

def test_bernoulli_fills_three_further_slots_with_a_half_each():
    seen = draws(bernoulli())
    assert all(aligned[0] == PHI and len(set(aligned)) == len(aligned) for aligned in seen)
    assert_frequencies([len(aligned) - 1 for aligned in seen], THREE_SLOTS)
    for name in POOL.names[1:]:
        assert_frequencies([name in aligned for aligned in seen], {True: 0.375, False: 0.625})


def test_bernoulli_subsets_of_one_size_are_equally_likely():
    expected = {frozenset(chosen): p / math.comb(4, k) for k, p in THREE_SLOTS.items()
                for chosen in itertools.combinations(POOL.names[1:], k)}
    assert_frequencies([frozenset(aligned[1:]) for aligned in draws(bernoulli())], expected)


def test_bernoulli_slots_are_bounded_by_k_max_and_by_the_pool():
    assert set(draws(bernoulli(1), num=100)) == {(PHI,)}
    assert_frequencies([len(a) for a in draws(bernoulli(2))], {1: 1 / 2, 2: 1 / 2})
    of_three = draws(bernoulli(9), pool=Pool(POOL.names[:3]))
    assert_frequencies([len(a) for a in of_three], {1: 1 / 4, 2: 1 / 2, 3: 1 / 4})


@pytest.mark.parametrize("most", [1, 2, 4, 9])
def test_uniform_takes_every_subset_up_to_k_max_equally_often(most):
    subsets = [chosen for k in range(1, min(most, 5) + 1) for chosen in itertools.combinations(POOL.names, k)]
    assert_frequencies(draws(uniform(most)), {chosen: 1 / len(subsets) for chosen in subsets})


def test_dual_takes_one_other_teacher_with_batchnorm():
    assert_frequencies(draws(Dual()), {(name,): 1 / 3 for name in WITH_BN[1:]})


def test_single_takes_phi_alone():
    assert set(draws(Single(), num=50)) == {(PHI,)}


def test_the_published_law_is_the_default():
    assert set(SELECTIONS) == {"single", "dual", "multi", "in-turn", "votes"}
    assert SELECTIONS["multi"] is Multi and Multi() == bernoulli(4)
    assert Multi().draw(random.Random(3), POOL) == bernoulli().draw(random.Random(3), POOL)


# ---------------------------------------------------------------- weights

@pytest.mark.parametrize("piece", [Single, Dual, Multi])
def test_teachers_share_one_in_the_mean_and_count_fully_in_the_sum(piece):
    mean, total = (piece(selection="intra", primary="drawn", bn_reduce=reduce).plan(POOL, 0, 0, 200, seed=0)
                   for reduce in ("mean", "sum"))
    for own, other in zip(mean, total, strict=True):
        assert list(own.ce.values()) == [1.0] and own.ce == other.ce
        assert list(own.align) == list(other.align)
        assert set(own.align.values()) == {1 / len(own.align)} and set(other.align.values()) == {1.0}
    assert len({len(own.align) for own in mean}) == (4 if piece is Multi else 1)


def test_names_lists_each_network_once_those_with_a_cross_entropy_first():
    assert Draw({"s": 1.0}, {"m": 0.5, "s": 0.5, "e": 0.5}).names == ("s", "m", "e")
    assert Draw({"s": 1.0}, {"m": 1.0}).names == ("s", "m")
    assert Draw({"s": 1.0, "e": 0.5}, {"m": 1.0, "e": 2.0}).names == ("s", "e", "m")


# ---------------------------------------------------------------- when they are drawn

def plan(ipc_id=0, chunk=0, iterations=5, *, seed=0, piece=Multi, drawn=False, **settings):
    laws = piece(primary="drawn" if drawn else "fixed", **settings)
    return laws.plan(POOL, ipc_id, chunk, iterations, seed=seed)


def primary(draw: Draw) -> str:
    name, = draw.ce
    return name


def test_pre_shares_one_draw_among_iterations_and_chunks_of_an_index():
    for ipc_id in range(8):
        own = plan(ipc_id, 0, drawn=True)
        assert all(draw == own[0] for chunk in range(3) for draw in plan(ipc_id, chunk, drawn=True))
        assert len(own) == 5
    assert len({tuple(plan(ipc_id)[0].align) for ipc_id in range(40)}) > 5
    assert [plan(i, seed=0)[0] for i in range(40)] != [plan(i, seed=1)[0] for i in range(40)]


def test_pre_draws_follow_the_law_over_the_indices():
    num = 4000
    further = [len(plan(ipc_id, iterations=1)[0].align) - 1 for ipc_id in range(num)]
    assert_frequencies(further, THREE_SLOTS, num)


def test_intra_redraws_at_every_iteration_and_for_every_chunk():
    first, second = (plan(0, chunk, 8000, selection="intra") for chunk in (0, 1))
    for own in (first, second):
        assert_frequencies([len(draw.align) - 1 for draw in own], THREE_SLOTS, 8000)
    assert first != second and first != plan(1, 0, 8000, selection="intra")
    assert first == plan(0, 0, 8000, selection="intra")


def test_a_drawn_primary_is_uniform_over_the_pool_and_aligned_under_the_published_law():
    own = plan(0, 0, DRAWS, selection="intra", drawn=True)
    assert_frequencies(map(primary, own), {name: 1 / 5 for name in POOL.names})
    assert all(next(iter(draw.align)) == primary(draw) for draw in own)


def test_a_drawn_primary_is_not_its_own_dual():
    for draw in plan(0, 0, 2000, selection="intra", piece=Dual, drawn=True):
        assert primary(draw) not in draw.align and set(draw.align) < set(WITH_BN)


def test_a_fixed_primary_stays():
    assert {primary(draw) for draw in plan(0, 0, 500, selection="intra")} == {PHI}


# ---------------------------------------------------------------- the same as ever

# [phi, theta_1, ...] of the plans below, as commit 22d38e5 drew them: images that exist depend on these.
DRAWN_SO_FAR = {
    ("single", "pre", "fixed"): "c6182e825fd2fa69", ("single", "pre", "drawn"): "5321c841e275f278",
    ("single", "intra", "fixed"): "c6182e825fd2fa69", ("single", "intra", "drawn"): "79965e7287494921",
    ("dual", "pre", "fixed"): "c561e890edb5ec87", ("dual", "pre", "drawn"): "d44d3850efb240be",
    ("dual", "intra", "fixed"): "7144708a6816f550", ("dual", "intra", "drawn"): "bcbba492215ebcb4",
    ("bernoulli", "pre", "fixed"): "d39af387cd2e30b1", ("bernoulli", "pre", "drawn"): "8c76e0f458370450",
    ("bernoulli", "intra", "fixed"): "9d3598cf947bdc6b", ("bernoulli", "intra", "drawn"): "e4ef949be865cc75",
    ("uniform", "pre", "fixed"): "77068735380c79bf", ("uniform", "pre", "drawn"): "ac82b2048c7a7356",
    ("uniform", "intra", "fixed"): "37d48970bd1ec05f", ("uniform", "intra", "drawn"): "028717bc6e11b9be"}


@pytest.mark.parametrize("law, selection, phi", DRAWN_SO_FAR)
def test_a_seed_draws_what_it_always_drew(law, selection, phi):
    rows = []
    for seed in range(3):
        settings = {"selection": selection, "primary": phi}
        if law in ("bernoulli", "uniform"):
            settings |= {"subset_law": law, "max_bn_teachers": 3 if seed == 2 else 4}
        piece = SELECTIONS["multi" if "subset_law" in settings else law](**settings)
        rows += [[primary(draw), *draw.align] for ipc_id in range(12) for chunk in range(3)
                 for draw in piece.plan(POOL, ipc_id, chunk, 7, seed=seed)]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    assert digest[:16] == DRAWN_SO_FAR[law, selection, phi]


@pytest.mark.parametrize("law, pre, intra", [
    ("bernoulli", "rsme r raem ra rame rem rase ra rm ra", "s<sma r<r m<me a<ams m<ms m<mr s<sr a<ame"),
    ("uniform", "es rsa rs ms s rmsa ms mes rms sa", "s<rm a<rmea m<rm a<rme a<ms a<resa m<a a<rmes")])
def test_a_few_of_them_in_clear(law, pre, intra):
    fixed = [plan(ipc_id, iterations=1, subset_law=law)[0].align for ipc_id in range(10)]
    assert " ".join("".join(name[0] for name in align) for align in fixed) == pre
    redrawn = [(primary(draw), draw.align)
               for draw in plan(3, 2, 8, selection="intra", subset_law=law, drawn=True)]
    assert " ".join(f"{phi[0]}<{''.join(name[0] for name in align)}" for phi, align in redrawn) == intra


# ---------------------------------------------------------------- the pool and the flags

def test_the_pool_knows_who_has_batchnorm():
    assert POOL.with_bn == set(WITH_BN)
    assert Pool(("narrow_alexnet", "narrow_plain"), stem="small").with_bn == {"narrow_plain"}


def test_a_run_loads_only_what_its_draws_can_need():
    assert Single().networks(POOL) == (PHI,)
    for piece in (Single(primary="drawn"), Dual(), Multi(), Multi(primary="drawn")):
        assert piece.networks(POOL) == POOL.names


def test_dual_without_another_teacher_is_refused():
    with pytest.raises(ValueError, match="--teachers dual needs a network with BatchNorm other than the "
                                         f"primary in --pool, got {PHI} {PLAIN}$"):
        Dual().check(Pool((PHI, PLAIN)))
    Dual().check(Pool((PLAIN, PHI)))  # a primary without BatchNorm
    with pytest.raises(ValueError, match=f"other than the primary in --pool, got {PLAIN} {PHI}"):
        Dual(primary="drawn").check(Pool((PLAIN, PHI)))  # phi, when it is drawn, has no other
    with pytest.raises(ValueError, match="--teachers dual needs"):
        build_config(RecoverConfig, {"teachers": "dual", "pool": (PHI, PLAIN)})
    for piece in (Single(), Multi()):
        piece.check(Pool((PHI, PLAIN)))


def test_k_max_is_positive():
    with pytest.raises(ValueError, match="--max-bn-teachers must be > 0, got 0"):
        Multi(max_bn_teachers=0)


def test_flags_of_another_selection_are_refused_unless_it_was_chosen_before():
    with pytest.raises(ValueError, match="--subset-law is of --teachers multi, this run has --teachers "
                                         "single; choose that, or leave --subset-law out$"):
        parse_config(RecoverConfig, ["--teachers", "single", "--subset-law", "uniform"])
    config = parse_config(RecoverConfig, ["--teachers", "multi", "--subset-law", "uniform", "--selection",
                                          "intra", "--teachers", "single"])
    assert config.teachers == Single(selection="intra")
    assert "subset_law" not in identity(config) and identity(config)["selection"] == "intra"
    assert config.supervisors == (PHI,)


def test_the_pool_of_a_run_has_its_primary_first():
    config = build_config(RecoverConfig, {"pool": POOL.names[1:], "arch_name": "efficientnet_b0"})
    assert config.teacher_pool.names == ("efficientnet_b0", "mobilenet_v2", "shufflenet_v2_x0_5", PLAIN)
    assert build_config(RecoverConfig, {"arch_name": PHI, "pool": (PLAIN, PHI)}).teacher_pool.names[0] == PHI


def test_a_primary_outside_the_pool_takes_its_first_place():
    assert primary_first(("resnet18", "alexnet", "mobilenet_v2"), "resnet50") \
        == ("resnet50", "alexnet", "mobilenet_v2")
    assert primary_first(("alexnet", "resnet18"), "resnet18") == ("resnet18", "alexnet")
