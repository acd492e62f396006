"""The laws of teacher draws, by their empirical frequencies under fixed seeds."""
import itertools
import math
import random
from collections import Counter

import pytest

from recover.selection import SELECTIONS, Teachers, plan_selection

POOL = ("phi", "m", "e", "s", "plain")
WITH_BN = ["phi", "m", "e", "s"]
DRAWS = 24000
THREE_SLOTS = {0: 1 / 8, 1: 3 / 8, 2: 3 / 8, 3: 1 / 8}  # further teachers: three slots, each with p = 0.5


def draws(law, *, pool=POOL, max_bn=4, with_bn=WITH_BN, num=DRAWS):
    rng = random.Random(7)
    return [SELECTIONS[law](rng, pool=pool, primary="phi", max_bn=max_bn, with_bn=with_bn)
            for _ in range(num)]


def assert_frequencies(seen, expected: dict, num=DRAWS):
    """Every outcome is expected, and within four standard deviations of its probability."""
    counts = Counter(seen)
    assert set(counts) <= set(expected)
    for outcome, p in expected.items():
        assert abs(counts[outcome] - num * p) <= 4 * math.sqrt(num * p * (1 - p)), (outcome, counts[outcome])


def test_bernoulli_fills_three_further_slots_with_a_half_each():
    seen = draws("bernoulli")
    assert all(aligned[0] == "phi" and len(set(aligned)) == len(aligned) for aligned in seen)
    assert_frequencies([len(aligned) - 1 for aligned in seen], THREE_SLOTS)
    for name in POOL[1:]:
        assert_frequencies([name in aligned for aligned in seen], {True: 0.375, False: 0.625})


def test_bernoulli_subsets_of_one_size_are_equally_likely():
    expected = {frozenset(chosen): p / math.comb(4, k) for k, p in THREE_SLOTS.items()
                for chosen in itertools.combinations(POOL[1:], k)}
    assert_frequencies([frozenset(aligned[1:]) for aligned in draws("bernoulli")], expected)


def test_bernoulli_slots_are_bounded_by_k_max_and_by_the_pool():
    assert set(draws("bernoulli", max_bn=1, num=100)) == {("phi",)}
    assert_frequencies([len(a) for a in draws("bernoulli", max_bn=2)], {1: 1 / 2, 2: 1 / 2})
    of_three = draws("bernoulli", pool=POOL[:3], max_bn=9)
    assert_frequencies([len(a) for a in of_three], {1: 1 / 4, 2: 1 / 2, 3: 1 / 4})


@pytest.mark.parametrize("max_bn", [1, 2, 4, 9])
def test_uniform_takes_every_subset_up_to_k_max_equally_often(max_bn):
    subsets = [chosen for k in range(1, min(max_bn, 5) + 1) for chosen in itertools.combinations(POOL, k)]
    assert_frequencies(draws("uniform", max_bn=max_bn), {chosen: 1 / len(subsets) for chosen in subsets})


def test_dual_takes_one_other_teacher_with_batchnorm():
    assert_frequencies(draws("dual"), {(name,): 1 / 3 for name in ("m", "e", "s")})


def test_dual_without_another_teacher_is_refused():
    with pytest.raises(ValueError, match="--teachers dual.*phi plain"):
        draws("dual", pool=("phi", "plain"), num=1)


def test_single_takes_phi_alone():
    assert set(draws("single", num=50)) == {("phi",)}


def plan(ipc_id=0, chunk=0, iterations=5, *, seed=0, selection="pre", law="bernoulli", drawn=False):
    return plan_selection(seed, ipc_id, chunk, iterations, selection=selection, law=law, pool=POOL,
                          primary="phi", primary_drawn=drawn, max_bn=4, with_bn=WITH_BN)


def test_pre_shares_one_draw_among_iterations_and_chunks_of_an_index():
    for ipc_id in range(8):
        once = {teachers for chunk in range(3) for teachers in plan(ipc_id, chunk, drawn=True)}
        assert len(once) == 1
    assert len({plan(ipc_id)[0] for ipc_id in range(40)}) > 5
    assert [plan(i, seed=0)[0] for i in range(40)] != [plan(i, seed=1)[0] for i in range(40)]


def test_pre_draws_follow_the_law_over_the_indices():
    num = 4000
    further = [len(plan(ipc_id, iterations=1)[0].aligned) - 1 for ipc_id in range(num)]
    assert_frequencies(further, THREE_SLOTS, num)


def test_intra_redraws_at_every_iteration_and_for_every_chunk():
    first, second = (plan(0, chunk, 8000, selection="intra") for chunk in (0, 1))
    for teachers in (first, second):
        assert_frequencies([len(t.aligned) - 1 for t in teachers], THREE_SLOTS, 8000)
    assert first != second and first != plan(1, 0, 8000, selection="intra")
    assert first == plan(0, 0, 8000, selection="intra")


def test_a_drawn_primary_is_uniform_over_the_pool_and_aligned_under_the_published_law():
    teachers = plan(0, 0, DRAWS, selection="intra", drawn=True)
    assert_frequencies([t.primary for t in teachers], {name: 1 / 5 for name in POOL})
    assert all(t.aligned[0] == t.primary for t in teachers)


def test_a_drawn_primary_is_not_its_own_dual():
    for teachers in plan(0, 0, 2000, selection="intra", law="dual", drawn=True):
        assert teachers.primary not in teachers.aligned and teachers.aligned[0] in WITH_BN


def test_a_fixed_primary_stays():
    assert {t.primary for t in plan(0, 0, 500, selection="intra")} == {"phi"}


def test_names_lists_each_network_once_with_the_primary_first():
    assert Teachers("s", ("m", "s", "e")).names == ("s", "m", "e")
    assert Teachers("s", ("m",)).names == ("s", "m")
