"""Accuracy against cost: shares, the frontier, what can be a preset `fast`, the picture."""
import json
from pathlib import Path

import pytest
from comparison_files import cell, write

from scripts import frontier
from scripts.comparing import frontier_picture
from scripts.comparing.frontier_picture import Box, place_names
from scripts.comparing.pareto import Frontier

pytest_plugins = ["stage_fixtures"]
VARIANTS = {"half": {"method": "prism", "recover": {"iteration": 4}},
            "tenth": {"method": "prism", "recover": {"iteration": 1}, "relabel": {"label_epochs": 2}},
            "int8": {"method": "prism", "relabel": {"label_format": "int8"}},
            "ruined": {"method": "prism", "recover": {"iteration": 0}}}


def cells(**more) -> list[dict]:
    """PRISM at 10 TFLOP with 80, 82 and 84 %, four variants, SRe2L and random real images."""
    def own(name: str, top1: list, work: tuple, **even_more) -> dict:
        return cell(name, name, top1, work=work, hard=[value - 20 for value in top1], **even_more, **more)
    return [own("random", [60.0, 60.0, 60.0], (0.0, 1.0, 1.0)),
            cell("random", "prism", [70.0, 70.0, 70.0], work=(0.0, 1.0, 1.0), hard=[50.0] * 3, **more),
            own("prism", [80.0, 82.0, 84.0], (8.0, 1.0, 1.0)),
            own("sre2l", [70.0, 71.0, 72.0], (6.0, 1.0, 1.0)),
            own("half", [80.0, 83.0, 84.0], (4.0, 1.0, 1.0)),
            own("int8", [79.0, 81.0, 83.0], (8.0, 1.0, 1.0), label_bytes=500),
            own("tenth", [79.0, 82.5, 84.0], (0.8, 0.2, 1.0)),
            own("ruined", [77.0, 79.0, 81.0], (0.1, 1.0, 1.0))]


def found_of(path: str, *flags: str) -> Frontier:
    return frontier.main([path, *flags])


def test_shares_differences_and_the_frontier(tmp_path, capsys):
    found = found_of(write(tmp_path / "a.json", cells(), variants=VARIANTS))
    points = {own.name: own for own in found.points}
    assert list(points) == ["random", "tenth", "random, as random", "ruined", "half", "sre2l", "prism",
                            "int8"]
    assert points["random"].top1 == {0: 70, 1: 70, 2: 70}  # under the base's protocol
    assert points["half"].gain == pytest.approx(1 / 3) and points["prism"].gain == 0
    # Tenth: as much work as random, and better; half beats all above it.
    assert [own.name for own in found.best] == ["tenth", "half"]
    # Tenth: -1, +0.5, 0: mean -1/6, s.e. sqrt(7/12) / sqrt(3) = 0.44. Ruined: -3 with no spread.
    assert points["tenth"].holds and not points["ruined"].holds and points["half"].holds
    assert [own.name for own in found.fast] == ["tenth"]
    text = capsys.readouterr().out
    assert "| tenth | recover --iteration 1; relabel --label-epochs 2 | 0.8 | 0.2 | 1 | 2 | 20 % | 1.0 kB " \
           "| 100 % | 3.0, 2.0, 1.0 | 81.8 +- 2.6 | -0.2 (-2.1 to +1.7) | 3 | yes |" in text
    assert "| int8 | relabel --label-format int8 | 8 | 1 | 1 | 10 | 100 % | 500 B | 50 % |" in text
    assert "The most accurate, **tenth** (20 % of the work, -0.2 points, s.e. 0.4, 95 % -2.1 to +1.7, n = " \
           "3 draws), is a candidate for a preset `fast`; chosen by these draws among 4 variants" in text


def test_random_real_images_stand_with_every_protocol_that_there_is(tmp_path, capsys):
    """Those of `int8` have other labels; `half` and PRISM share labels and students, and so one point."""
    def own(protocol: str, top1: list) -> dict:
        return cell("random", protocol, top1, work=(0.0, 0.5, 1.0))
    made = [*cells()[2:], own("prism", [70.0, 70.0, None]), own("half", [70.0, 70.0, 73.0]),
            own("ruined", [70.0, 70.5, 73.0]), own("int8", [90.0, 90.0, 90.0]),
            cell("random", "random", [70.0, 70.0, 70.0], work=(0.0, 9.0, 1.0))]
    found = found_of(write(tmp_path / "a.json", made, variants=VARIANTS))
    points = {own.name: own for own in found.points if own.control}
    assert {name: dict(own.top1) for name, own in points.items()} == {
        "random": {0: 70, 1: 70}, "random, as ruined": {0: 70, 1: 70.5, 2: 73},  # other figures: not shared
        "random, as int8": {0: 90, 1: 90, 2: 90}, "random, as random": {0: 70, 1: 70, 2: 70}}
    assert points["random, as int8"].gain == pytest.approx(8)
    assert [own.name for own in found.best] == ["random, as int8"]
    assert "| random, as int8 | real images, with its labels and students | 0 | 0.5 | 1 | 1.5 | 15 % |" \
        in capsys.readouterr().out
    hard = found_of(write(tmp_path / "b.json", made, variants=VARIANTS), "--kind", "hard", "--base", "half")
    assert not [own.name for own in hard.points if own.like]


def test_a_quarter_of_the_work_is_enough_and_more_is_not(tmp_path, capsys):
    def own(work: float) -> Frontier:
        made = [cell("prism", "prism", [80.0, 82.0, 81.0], work=(8.0, 0, 0)),
                cell("half", "half", [80.0, 82.0, 81.0], work=(work, 0, 0))]
        return found_of(write(tmp_path / "a.json", made, variants=VARIANTS))
    assert [point.name for point in own(2.0).fast] == ["half"]
    capsys.readouterr()
    assert own(2.01).fast == []
    assert "No variant is at most 25 % of prism's work and within one standard error of its accuracy, as a " \
           "paired difference over 3 draws at least: the cheapest takes 25.1 %." in capsys.readouterr().out
    ruined = [cell("prism", "prism", [80.0, 82.0], work=(8.0, 0, 0)),
              cell("half", "half", [79.0, 81.0], work=(1.0, 0, 0)),
              cell("tenth", "tenth", [80.0], work=(1.0, 0, 0))]
    found_of(write(tmp_path / "a.json", ruined, variants=VARIANTS))
    text = capsys.readouterr().out
    assert ": half (12.5 % of the work, -1.0 points, s.e. 0.0, 95 % -1.0 to -1.0, n = 2 draws), tenth " \
           "(12.5 % of the work, +0.0 points in one draw, which has no standard error)." in text
    assert "since not all have the same draws" in text


def test_one_lucky_draw_displaces_nobody_who_has_more(tmp_path):
    made = [cell("prism", "prism", [80.0, 80.0, 80.0], work=(8.0, 0, 0)),
            cell("half", "half", [90.0, None, None], work=(1.0, 0, 0)),
            cell("tenth", "tenth", [85.0, 85.0, 85.0], work=(2.0, 0, 0)),
            cell("int8", "int8", [84.0, None, None], work=(3.0, 0, 0))]
    found = found_of(write(tmp_path / "a.json", made, variants=VARIANTS))
    assert [own.name for own in found.best] == ["half", "tenth"]  # one draw at its own place; int8 is beaten


def test_two_draws_do_not_make_a_candidate(tmp_path, capsys):
    def own(draws: int) -> Frontier:
        """The variant's differences are -3, 3, 0: within one standard error over 2 draws and over 3."""
        made = [cell("prism", "prism", [80.0, 80.0, 80.0][:draws], work=(8.0, 0, 0)),
                cell("half", "half", [77.0, 83.0, 80.0][:draws], work=(1.0, 0, 0))]
        return found_of(write(tmp_path / "a.json", made, variants=VARIANTS))
    assert own(2).fast == [] and [point.name for point in own(3).fast] == ["half"]
    assert "over 3 draws at least: half (12.5 % of the work, +0.0 points, s.e. 3.0, 95 % -38.1 to +38.1, " \
           "n = 2 draws)." in capsys.readouterr().out


def test_the_method_of_a_base_is_no_variant_of_it(tmp_path, capsys):
    made = [*cells(), cell("prism", "half", [70.0, 70.0, 70.0])]
    found = found_of(write(tmp_path / "a.json", made, variants=VARIANTS), "--base", "half")
    assert {own.name for own in found.variants} == {"tenth", "int8", "ruined"}
    assert "| prism | nothing | 8 | 1 | 1 |" in capsys.readouterr().out


def test_work_is_of_the_stages_asked_for_and_hard_labels_need_recover_alone(tmp_path, refused):
    path = write(tmp_path / "a.json", cells(), variants=VARIANTS)
    found = found_of(path, "--stages", "relabel,recover")
    assert found.stages == ["recover", "relabel"] and found.base.work == 9
    hard = found_of(path, "--kind", "hard")
    assert hard.stages == ["recover"] and hard.base.work == 8 and hard.base.top1 == {0: 60, 1: 62, 2: 64}
    assert hard.points[0].name == "random" and hard.points[0].work == 0
    assert "--stages: of hard labels recover alone" in refused(
        frontier.main, [path, "--kind", "hard", "--stages", "validate"])


def test_a_file_without_stages_has_sums_alone(tmp_path, refused, capfd):
    path = write(tmp_path / "a.json", cells(staged=False), variants=VARIANTS)
    assert found_of(path).base.work == 10
    assert "| prism | the base | - | - | - | 10 | 100 % |" in capfd.readouterr().out
    assert "run scripts/compare.sh again" in refused(frontier.main, [path, "--kind", "hard"])


def test_bad_words_are_refused(tmp_path, refused):
    path = write(tmp_path / "a.json", cells(), variants=VARIANTS)
    for words, error in ((["--base", "edc"], "--base edc: expected one of random, prism"),
                         (["--ipc", 1], "--ipc 1: the comparison has 10"),
                         (["--kind", "soft"], "--kind soft: expected one of common, own, hard"),
                         (["--kind", "common"], "--base prism: has no draw with counted work at IPC 10"),
                         (["--base", "random", "--kind", "hard"], "--base random: takes no work in recover"),
                         (["--stages", "all"], "--stages all: expected some of recover, relabel, validate")):
        assert error in refused(frontier.main, [path, *words])


def test_the_page_its_numbers_and_its_picture_are_written(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    path, out = write(tmp_path / "a.json", cells(), variants=VARIANTS), tmp_path / "new" / "b.md"
    found = found_of(path, "--out", str(out))
    told = json.loads(out.with_suffix(".json").read_text())
    assert told["format"] == "prism-frontier" and told["fast"] == ["tenth"]
    assert told["command"] == f"python -m scripts.frontier {path} --out {out}"
    assert f"    {told['command']}\n" in out.read_text()
    points = {own["name"]: own for own in told["points"]}
    assert points["half"]["of_base"] == pytest.approx(0.6) and points["half"]["on_frontier"]
    assert len(points) == len(found.points) and "![accuracy against work](b.png)" in out.read_text()
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")

    def none(*args, **more):
        raise ImportError("no matplotlib")
    monkeypatch.setattr(frontier, "draw_frontier", none)
    found_of(path, "--out", str(tmp_path / "c.md"))
    assert "requirements-figures.txt" in capsys.readouterr().err
    assert not Path(tmp_path / "c.png").exists() and "![" not in (tmp_path / "c.md").read_text()


# ---------------------------------------------------------------- names in the picture

def test_boxes_share_an_area():
    assert Box(0, 0, 4, 2).shared(Box(3, 1, 9, 9)) == 1 and Box(0, 0, 1, 1).shared(Box(2, 0, 3, 1)) == 0
    assert Box(1, 1, 4, 3).area == 6


def test_names_stand_near_their_points_off_each_other_and_inside():
    points = [(100.0, 50.0 + 2 * i) for i in range(6)]
    frame = Box(0, 0, 300, 200)
    placed = place_names(points, [(60.0, 10.0)] * 6, avoid=[], frame=frame)
    assert all(a.shared(b) == 0 for i, a in enumerate(placed) for b in placed[:i])
    assert all(box.shared(frame) == pytest.approx(box.area) for box in placed)
    alone, = place_names([(298.0, 100.0)], [(60.0, 10.0)], avoid=[], frame=frame)
    assert alone.right <= 298 and alone.right > 270  # at the left, where the frame ends at the right
    wall = Box(102, 0, 300, 200)
    beside, = place_names([(100.0, 100.0)], [(60.0, 10.0)], avoid=[wall], frame=frame)
    assert beside.shared(wall) == 0


def test_a_picture_of_one_point_and_of_one_draw_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    found = found_of(write(tmp_path / "a.json", [cell("prism", "prism", [80.0])]))
    assert frontier_picture.draw_frontier(found, title="one").startswith(b"\x89PNG")
