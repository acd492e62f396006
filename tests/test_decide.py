"""What a comparison decides: intervals, draws that would decide, the best of several, tests together."""
import json
import math
import re
from pathlib import Path

import pytest
from comparison_files import cell, write

from scripts import decide
from scripts.comparing import deciding
from scripts.comparing.deciding import (
    Decision,
    best_of_others,
    clear_together,
    distinct,
    draws_needed,
    stays_clear,
)
from scripts.comparing.read import read_comparison
from utils.metrics import student_t_p

pytest_plugins = ["stage_fixtures"]
ROOT = Path(__file__).parents[1]


# ---------------------------------------------------------------- Student's t

def test_p_is_that_of_closed_forms_and_of_the_tables_quantiles():
    for t in (0.0, 0.3, 1.0, 4.0, 60.0):
        assert student_t_p(t, 1) == pytest.approx(1 - 2 / math.pi * math.atan(t), abs=1e-12)
        assert student_t_p(-t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), abs=1e-12)
    for freedom, quantile in {1: 12.706, 3: 3.182, 4: 2.776, 9: 2.262, 29: 2.045, 40: 2.021}.items():
        assert student_t_p(quantile, freedom) == pytest.approx(0.05, abs=1e-4)  # of three decimals
    assert student_t_p(4.604, 4) == pytest.approx(0.01, abs=3e-5)
    assert student_t_p(1.959964, 10**5) == pytest.approx(0.05, abs=1e-5)


def test_p_is_the_area_of_the_density():
    freedom, t, steps = 7, 1.7, 20000
    scale = math.gamma(4) / math.sqrt(freedom * math.pi) / math.gamma(3.5)
    inside = sum((1 + ((i + 0.5) * t / steps) ** 2 / freedom) ** -4 for i in range(steps)) * t / steps
    assert student_t_p(t, freedom) == pytest.approx(1 - 2 * scale * inside, abs=1e-8)


# ---------------------------------------------------------------- one decision

def decision(*each: float) -> Decision:
    return Decision(pair=("a", "b"), ipc=10, kind="common", each=dict(enumerate(each)))


def test_a_difference_is_decided_where_its_interval_leaves_out_zero():
    # 1, 2, 3: mean 2, s.e. 1/sqrt(3); t(2) = 4.303: half a width of 2.48, so open, p = 1 - sqrt(12 / 14).
    found = decision(1, 2, 3)
    assert not found.decided and found.p == pytest.approx(1 - math.sqrt(12 / 14))
    assert found.needed == 4  # 3.182 / 2 < 2 < 4.303 / sqrt(3)
    found = decision(4, 5, 6)
    assert found.decided and found.values()["draws_needed"] is None and found.values()["low"] > 0
    assert decision(-6, -5, -4).decided
    one = decision(7)
    assert one.found is None and one.p is None and not one.decided and one.needed is None


def test_equal_differences_have_no_spread_to_judge_by():
    for found in (decision(2, 2), decision(0, 0), decision(-0.1, -0.1, 0.2 - 0.3)):  # equal but for rounding
        assert found.alike and not found.decided and found.p is None and found.needed is None
    assert not decision(2, 2.001).alike and not decision(2).alike
    # Neither is a test: p of 2, 3, 4 is 1 - 27 ** 0.5 / 29 ** 0.5 = 0.035, clear alone.
    assert clear_together([decision(2, 2), decision(2, 3, 4), decision(0, 0)]) == [False, True, False]


def test_the_draws_that_would_decide_are_the_least():
    # 1 against a spread of 2: 2.120 * 2 / sqrt(17) = 1.028 of n = 17, 2.110 * 2 / sqrt(18) = 0.995 of 18.
    assert draws_needed(1, 2) == draws_needed(-1, 2) == 18
    assert draws_needed(0, 1) is None
    assert draws_needed(1.96, 31) == 964  # t(963) = 1.9625, (1.9625 * 31 / 1.96)^2 = 963.4
    assert draws_needed(1, 17) is None  # (1.96 * 17)^2 = 1110


def test_holm_compares_the_smallest_with_all_and_the_next_with_fewer():
    assert stays_clear([0.04, 0.001, 0.02, 0.012]) == [True, True, True, True]  # 0.05 / 4, / 3, / 2, / 1
    assert stays_clear([0.04, 0.013, 0.02, 0.9]) == [False] * 4  # the smallest is above 0.0125
    assert stays_clear([0.012, 0.02, 0.001, 0.03]) == [True, True, True, True]
    assert stays_clear([0.026, 0.012, 0.9]) == [False, True, False]  # 0.012 < 0.05 / 3, 0.026 > 0.05 / 2
    assert stays_clear([]) == []


def test_the_same_figures_compared_twice_are_one_test(tmp_path):
    made = [cell("random", "usual", [70.0, 71.0, 72.0], hard=[50.0, 51.0, 52.0])]
    for name in ("prism", "half", "same", "int8"):
        shift = {"half": 0.5}.get(name, 0.0)
        made.append(cell(name, "usual", [74.0, 76.0, 78.0 + shift], hard=[51.0, 51.0, 54.0]))
    path = write(tmp_path / "a.json", made, variants={
        name: {"method": "prism", "relabel": {"label_format": "int8"}} for name in ("half", "same", "int8")})
    pairs = ["prism:random", "same:random", "half:random", "random:int8"]
    found = decide.main([path, "--pairs", *pairs, "--kinds", "common,hard"])
    assert [found[i].kind for i in (0, 1)] == ["common", "hard"]
    # Soft: prism, same and int8 (the other way round) are one, half is another.  Hard: all are one.
    assert distinct(found) == {0: 0, 1: 1, 2: 0, 3: 1, 4: 4, 5: 1, 6: 0, 7: 1}
    # p of 4, 5, 6 is 0.013: below 0.05 / 3 tests, and not below 0.05 / 8.
    assert clear_together(found) == [True, False, True, False, True, False, True, False]


# ---------------------------------------------------------------- the best of several

def test_the_best_is_chosen_by_the_other_draws():
    # Means 50 and 51: the lucky draw 0 alone makes b the best, and in draw 0 it must not count.
    top1 = {"a": dict(enumerate([50.0, 50.0, 50.0])), "b": dict(enumerate([60.0, 47.0, 46.0]))}
    assert best_of_others(top1) == ({0: "a", 1: "b", 2: "b"}, [])
    naive = [max(own[draw] for own in top1.values()) for draw in range(3)]
    assert naive == [60, 50, 50]  # while the chosen have 50, 47 and 46


def test_who_lacks_draws_is_not_the_best_and_says_so():
    full = dict(enumerate([1.0, 2.0, 3.0]))
    chosen, absent = best_of_others({"a": full, "b": {**full, 3: 9.0}, "c": {0: 99.0}, "d": {}})
    assert chosen == {0: "a", 1: "a", 2: "a"} and absent == ["c", "d"]
    assert best_of_others({"a": {0: 1.0}}) == ({}, [])  # one draw has no others
    assert best_of_others({}) == ({}, [])


def test_of_three_sets_of_teachers_the_best_is_chosen_by_the_other_sets():
    # b is lucky with the teachers of draws 0 and 1: without draw 0 alone b has 61 and a 60, without both 52.
    top1 = {"a": dict(enumerate([60.0, 60.0, 60.0, 60.0])), "b": dict(enumerate([79.0, 79.0, 52.0, 52.0]))}
    three = {0: "aa", 1: "aa", 2: "bb", 3: "cc"}
    assert best_of_others(top1, three) == ({0: "a", 1: "a", 2: "b", 3: "b"}, [])
    two = {0: "aa", 1: "aa", 2: "bb", 3: "bb"}
    assert best_of_others(top1, two)[0] == best_of_others(top1)[0] == dict.fromkeys(range(4), "b")
    own = dict(enumerate("abcd"))  # teachers of its own: leaving them out is leaving the draw out
    assert best_of_others(top1, own) == best_of_others(top1)


@pytest.mark.parametrize("teachers, chosen_by", [
    ("aabb", "over the *other* draws, which may share its teachers, as fewer than 3 sets are there, since"),
    ("aabc", "over the draws of the *other* sets of teachers, since"),
    ("abcd", "over the *other* draws, since"),
    ("aaaa", "over the *other* draws, which may share its teachers, as fewer than 3 sets are there, since")])
def test_the_page_says_what_shared_teachers_mean(teachers, chosen_by, tmp_path, capsys):
    made = [cell("random", "usual", [50.0] * 4), cell("prism", "usual", [60.0] * 4),
            cell("sre2l", "usual", [79.0, 78.0, 52.0, 52.0])]
    found = found_of(write(tmp_path / "a.json", made, teachers=dict(zip("0123", teachers, strict=True))))
    text, own = capsys.readouterr().out, found["sre2l:random", "common"]
    assert chosen_by in text
    sets = len(set(teachers))
    assert own.by_teachers == {2: {"a": 28.5, "b": 2}, 3: {"a": 28.5, "b": 2, "c": 2}}.get(sets, {})
    assert own.values()["by_teachers"] == own.by_teachers
    assert ("By teachers: a +28.5, b +2.0." in text) == (sets == 2)
    assert ("they say nothing of others" in text) == (sets == 1)
    assert ("are not independent" in text) == (sets < 4)
    best = found["best-distilled:random", "common"]
    assert best.values()["left_out"] == {"best-distilled": "teachers" if sets > 2 else "draw"}
    assert best.chosen["best-distilled"][0] == ("prism" if teachers == "aabc" else "sre2l")


def test_the_page_says_at_which_ipc_a_draw_alone_is_left_out(tmp_path, capsys):
    made = [cell(name, "usual", [value + draw**2 for draw in range(4)]) for name, value in (
        ("random", 50), ("prism", 60), ("sre2l", 70))]
    few = [own | {"ipc": 50, "draws": {draw: own["draws"][draw] for draw in "01"}} for own in made]
    path = write(tmp_path / "a.json", made + few, teachers=dict(zip("0123", "abca", strict=True)))
    found = decide.main([path, "--pairs", "best-distilled:random", "--kinds", "common"])
    assert [own.left_out["best-distilled"] for own in found] == ["teachers", "draw"]
    assert "the *other* sets of teachers (IPC 50: the *other* draws, which may share its teachers, as " \
        "fewer than 3 sets are there), since" in capsys.readouterr().out


# ---------------------------------------------------------------- whole comparisons

def cells() -> list[dict]:
    """Two methods, random and two selected kinds of real images; hard labels 20 points less."""
    def both(method: str, usual: list, own: list) -> list[dict]:
        hard = [value - 20 for value in usual]
        return [cell(method, "usual", usual, hard=hard), cell(method, method, own, hard=hard)]
    return [*both("random", [70.0, 71.0, 72.0], [75.0, 75.0, 75.0]),
            *both("herding", [72.0, 72.0, 75.0], [70.0, 70.0, 70.0]),
            *both("k-centre", [71.0, 74.0, 72.0], [71.0, 71.0, 71.0]),
            *both("prism", [74.0, 76.0, 78.0], [80.0, 81.0, 82.0]),
            cell("random", "prism", [79.0, 78.0, 80.0]),
            *both("sre2l", [70.0, 77.0, 71.0], [60.0, 60.0, 60.0]),
            cell("random", "sre2l", [61.0, 61.0, 61.0])]


def found_of(path: str, *flags: str) -> dict[tuple[str, str], Decision]:
    return {(":".join(own.pair), own.kind): own for own in decide.main([path, *flags])}


def test_pairs_are_of_one_protocol_and_random_images_of_the_others_own(tmp_path, capsys):
    found = found_of(write(tmp_path / "a.json", cells()))
    each = {key: list(own.each.values()) for key, own in found.items()}
    assert {pair for pair, _ in found} == {
        "prism:sre2l", "prism:random", "sre2l:random", "best-distilled:best-selected",
        "best-distilled:random"}
    assert each["prism:random", "common"] == [4, 5, 6] == each["prism:random", "hard"]
    assert each["prism:random", "own"] == [1, 3, 2] and each["sre2l:random", "own"] == [-1, -1, -1]
    assert each["prism:sre2l", "own"] == [20, 21, 22]
    # Selected: sums 219 and 217; without the draw herding has 147, 147, 144 and k-centre 146, 143, 145.
    assert found["best-distilled:best-selected", "common"].chosen == {
        "best-distilled": {0: "prism", 1: "prism", 2: "prism"},
        "best-selected": {0: "herding", 1: "herding", 2: "k-centre"}}
    assert each["best-distilled:best-selected", "common"] == [2, 4, 6]
    assert each["best-distilled:random", "own"] == [1, 3, 2]  # random under the chosen one's protocol
    text = capsys.readouterr().out
    for line in ("prism - random on digits at IPC 10, soft labels under usual: +5.0 points (95 % +2.5 to "
                 "+7.5, n = 3 draws): decided.",
                 "prism - random on digits at IPC 10, soft labels under prism's own protocol: +2.0 points "
                 "(95 % -0.5 to +4.5, n = 3 draws): open; about 4 draws would decide it with an even chance.",
                 "best-selected is herding in draws 0 1, k-centre in draw 2.",
                 "11 different intervals are here, the figures of 3 more are those of one of them; were "
                 "there no differences, about 0.6 of them would leave out 0"):
        assert line in text
    assert "| sre2l - random | soft labels under sre2l's own protocol | -1.0 (-1.0 to -1.0) | 3 | - | open " \
           "| - |" in text
    assert "under sre2l's own protocol: -1.0 points in all 3 draws: open; no spread to judge by." in text


def test_named_pairs_kinds_and_variants(tmp_path, capsys):
    variants = {"half": {"method": "prism", "recover": {"iteration": 5}, "why": "less"},
                "same": {"method": "prism"},
                "more-random": {"method": "random"}}
    path = write(tmp_path / "a.json", [*cells(), cell("half", "usual", [73.0, 75.0, None]),
                                       cell("same", "usual", [74.0, 76.0, 78.0]),
                                       cell("more-random", "usual", [90.0, 90.0, 90.0])], variants=variants)
    found = found_of(path, "--pairs", "half:prism", "random:half", "--kinds", "common,own")
    assert list(found) == [("half:prism", "common"), ("half:prism", "own"), ("random:half", "common"),
                           ("random:half", "own")]
    assert found["half:prism", "common"].each == {0: -1, 1: -1} and not found["half:prism", "own"].each
    assert "No draw has both sides of: half - prism (soft labels under each's own protocol)" \
        in capsys.readouterr().out
    decide.main([path])
    text = capsys.readouterr().out
    assert "best-distilled cannot be half, same (under its own protocol, with hard labels): draws are " \
        "missing." in text and "best-selected cannot be" not in text
    compared = read_comparison([path])
    assert compared.distilled == ["prism", "sre2l", "half", "same"] and "more-random" not in compared.selected
    assert compared.changes("half") == "recover --iteration 5" and compared.changes("prism") == ""
    assert ("half", "random") in deciding.default_pairs(compared)


def test_one_draw_decides_nothing(tmp_path, capsys):
    path = write(tmp_path / "a.json", [cell("random", "usual", [70.0]), cell("prism", "usual", [72.0])])
    found = found_of(path)
    assert found["prism:random", "common"].values()["difference"] is None
    text = capsys.readouterr().out
    assert "soft labels under usual: +2.0 points in draw 0, one draw decides nothing." in text
    assert "| +2.0 | 1 | - | no answer | - |" in text and "0 different intervals are here" in text
    found_of(path, "--pairs", "best-distilled:random", "--kinds", "common")
    assert "No draw has both sides of: best-distilled - random (soft labels under usual; the best of " \
        "others needs two draws)." in capsys.readouterr().out


def test_files_are_pooled_by_the_draws_numbers(tmp_path):
    first = [cell("random", "usual", [70.0, None, None]), cell("prism", "usual", [72.0, None, None])]
    more = [cell("random", "usual", [70.0, 71.0, 75.0]), cell("prism", "usual", [72.0, 74.0, 76.0])]
    paths = [write(tmp_path / f"{i}.json", own, teacher_sets=1) for i, own in enumerate((first, more))]
    found = decide.main([*paths, "--pairs", "prism:random", "--kinds", "common"])
    assert found[0].each == {0: 2, 1: 3, 2: 1}
    assert read_comparison(paths[:1]).teachers.endswith("all with one set of teachers")
    assert "sets of teachers in the files: 1, 1" in read_comparison(paths).teachers
    whole = [cell("prism", "usual", [72.0], hard=[30.0])]  # hard labels, which come after soft ones
    compared = read_comparison([paths[0], write(tmp_path / "c.json", whole)])
    assert compared.top1("prism", ipc=10, kind="hard") == {0: 30}
    # Those of the own protocol count where the common one has none, draw by draw.
    third = write(tmp_path / "d.json", [cell("prism", "prism", [60.0, 61.0, 62.0], hard=[30.0, 31.0, 32.0])])
    found = read_comparison([paths[1], third])
    assert found.top1("prism", ipc=10, kind="hard") == {0: 30, 1: 31, 2: 32}
    some = write(tmp_path / "e.json", [cell("prism", "usual", [72.0, 74.0], hard=[40.0, 41.0])])
    assert read_comparison([some, third]).top1("prism", ipc=10, kind="hard") == {0: 40, 1: 41, 2: 32}


@pytest.mark.parametrize("teachers, words", [
    ({"0": "aa", "1": "bb", "2": "cc"}, "teachers, images, labels and students"),
    ({"0": "aa", "1": "bb", "2": "aa", "3": "bb"},
     "images, labels and students, with 2 sets of teachers (aa in draws 0 2, bb in draw 1)"),
    ({"0": "aa", "1": "aa", "2": "aa"}, "images, labels and students, all with one set of teachers"),
    ({"0": "aa", "2": "bb"}, "images, labels and students, 2 sets of teachers in turn")])
def test_draws_that_share_teachers_are_named(teachers, words, tmp_path):
    own = cell("prism", "usual", [1.0, 2.0, 3.0])
    compared = read_comparison([write(tmp_path / "a.json", [own], teachers=teachers, teacher_sets=2)])
    assert compared.teachers == words
    assert compared.sets == ({draw: teachers[str(draw)] for draw in range(3)} if "1" in teachers else {})


@pytest.mark.parametrize("change, error", [
    ({"data": {"train_images": 9, "test_images": 100}},
     "b.json: data is {'train_images': 9, 'test_images': 100}, "),
    ({"teachers": {"0": "bb"}}, "draw 0 has teachers bb, in a file before it aa: draws with other teachers"),
    ({"teachers": {"x": "bb"}}, "teachers of draw x, expected a number")])
def test_files_of_other_data_or_teachers_are_refused(change, error, tmp_path, refused):
    own = [cell("prism", "usual", [72.0]), cell("random", "usual", [71.0])]
    basis = {"teachers": {"0": "aa"}, "data": {"train_images": 9, "test_images": 450}}
    paths = [write(tmp_path / "a.json", own, **basis), write(tmp_path / "old.json", own)]
    assert len(decide.main(paths)) == 3  # the older one does not say
    assert error in refused(decide.main, [*paths, write(tmp_path / "b.json", own, **(basis | change))])


@pytest.mark.parametrize("change, error", [
    ({"cells": [cell("prism", "usual", [72.5])]},
     "prism under usual, IPC 10, draw 0: top1 is 72.5, in a file before it 72.0: other draws need other"),
    ({"cells": [cell("prism", "usual", [72.0], work=(9, 0, 0))]}, "is 9 TFLOP, in a file before it 2"),
    ({"cells": [], "common": "rd3"}, "common is rd3"), ({"cells": [], "dataset": "cifar10"}, "dataset is"),
    ({"cells": [], "variants": {"half": {"method": "sre2l"}}}, "variant half has other settings")])
def test_files_that_disagree_are_refused(change, error, tmp_path, refused):
    first = write(tmp_path / "a.json", [cell("prism", "usual", [72.0])],
                  variants={"half": {"method": "prism"}})
    other = write(tmp_path / "b.json", **change)
    assert error in refused(decide.main, [first, other])


@pytest.mark.parametrize("text, error", [
    ("{", "a.json: damaged, not JSON"), ("[]", "it is [], expected an object; expected a comparison's JSON"),
    ('{"format": "prism-run"}', "cells is missing; expected a comparison's JSON: scripts/compare.sh writes"),
    (json.dumps({"dataset": "digits", "common": "c", "students": 1, "cells": [{"method": "m"}]}),
     "cells.0.draws is missing")])
def test_what_no_comparison_wrote_is_refused(text, error, tmp_path, refused):
    (tmp_path / "a.json").write_text(text)
    assert error in refused(decide.main, [tmp_path / "a.json", "--out", tmp_path / "b.md"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_damaged_cells_are_refused(tmp_path, refused):
    made = cell("prism", "usual", [72.0])
    for change, error in (({"draws": {"x": made["draws"]["0"]}}, "draws of prism are x, expected numbers"),
                          ({"tflops_by_stage": {"recover": 1}}, "a stage is missing of prism"),
                          ({"draws": {"0": {"top1": "72"}}}, "cells.0.draws.0.best is missing")):
        assert error in refused(decide.main, [write(tmp_path / "a.json", [made | change])])


def test_bad_words_are_refused(tmp_path, refused):
    path = write(tmp_path / "a.json", cells())
    for words, error in ((["--pairs", "prism"], "--pairs prism: expected two names, A:B"),
                         (["--pairs", "prism:nobody"], "nobody is not in the comparison, expected two of"),
                         (["--kinds", "soft"], "--kinds soft: expected some of common, own, hard"),
                         (["--out", "a.txt"], "--out a.txt: expected FILE.md"),
                         (["--out", tmp_path / "a.md"], "a comparison has that name")):
        assert error in refused(decide.main, [path, *words])
    assert "no file given" in refused(decide.main, [])
    assert "nothing.json: no such file" in refused(decide.main, [tmp_path / "nothing.json"])
    only = write(tmp_path / "b.json", [cell("random", "usual", [1.0])])
    assert "no distilled method is in it; name --pairs" in refused(decide.main, [only])


def test_the_page_and_its_numbers_are_written_with_their_command(tmp_path, capsys):
    path, out = write(tmp_path / "a.json", cells()), tmp_path / "new" / "b.md"
    found = decide.main([path, "--kinds", "hard", "--out", str(out)])
    command = f"python -m scripts.decide {path} --out {out} --kinds hard"
    assert f"    {command}\n" in out.read_text() and out.read_text() == capsys.readouterr().out
    told = json.loads(out.with_suffix(".json").read_text())
    assert told["format"] == "prism-decisions" and told["command"] == command
    assert [own["each"] for own in told["decisions"]] == [
        {str(draw): value for draw, value in own.each.items()} for own in found]
    assert {own["holm"] for own in told["decisions"]} <= {True, False}


def test_the_published_decisions_are_what_the_published_comparison_says(monkeypatch, tmp_path, capsys):
    """Where it fails, run the command that stands in docs/results/compare/decisions.md."""
    shown = (ROOT / "docs" / "results" / "compare" / "decisions.md").read_text(encoding="utf-8")
    words = re.findall(r"^    python -m scripts.decide (.*) --out (\S+)$", shown, re.MULTILINE)
    monkeypatch.chdir(ROOT)
    decide.main([*words[0][0].split(), "--out", str(tmp_path / "new.md")])
    assert capsys.readouterr().out.replace(str(tmp_path / "new.md"), words[0][1]) == shown
