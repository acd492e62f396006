"""The report: its numbers are the records', nothing in it is anybody's markup, it stays below its size."""
import hashlib
import html.parser
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy
import pytest
from report_runs import write_evaluation, write_lines, write_measures, write_run, write_students

from utils import verify
from utils.files import write_json
from utils.image_sets import open_images
from utils.metrics import student_t
from utils.records import read_json
from validate import report
from validate.reporting import facts, scores
from validate.reporting import page as pages
from validate.reporting import sets as found_sets
from validate.reporting.parts import Axis
from validate.reporting.scores import signed

pytest_plugins = ["stage_fixtures"]
pytest.importorskip("jinja2", reason="jinja2: scripts/setup.sh report")


class Parsed(html.parser.HTMLParser):
    """A page's elements with their attributes, and its text."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    @property
    def plain(self) -> str:
        return " ".join(self.text.split())  # no-break spaces are spaces to str.split


@pytest.fixture
def draws(tmp_path):
    """Three draws of a set and of as many random real images, the names misleading on purpose."""
    accuracies = {"real": (0.70, 0.72, 0.77), "ours": (0.61, 0.60, 0.62)}
    for draw in range(3):
        distilled = write_run(tmp_path / f"draw{draw}" / "real", seed=draw)
        control = write_run(tmp_path / f"draw{draw}" / "ours", seed=draw, control="random")
        for run, name in ((distilled, "real"), (control, "ours")):
            write_students(run, {0: accuracies[name][draw]})
    write_students(tmp_path / "draw0" / "real", {0: 0.31}, soft=False)
    return tmp_path


def read(*words) -> Parsed:
    return Parsed(report.main([str(word) for word in words]).read_text(encoding="utf-8"))


def test_sets_are_told_apart_by_their_config_and_draws_by_their_seed(draws):
    sets = found_sets.group(found_sets.find_runs([str(draws)], dataset="", val_dir=""))
    assert [(own.name, own.kind, len(own.draws)) for own in sets] == [
        ("real", "distilled", 3), ("ours (real images)", "real", 3)]
    write_run(draws / "draw0" / "other", lr=0.5)
    sets = found_sets.group(found_sets.find_runs([str(draws)], dataset="", val_dir=""))
    assert [own.name for own in sets] == ["other", "real", "ours (real images)"]
    folder = draws / "pictures"
    write_run(draws / "all" / "x", dataset=f"folder:{folder}", control="real")
    shutil.copytree(draws / "all" / "x" / "syn", folder)
    one, = found_sets.group(found_sets.find_runs([str(draws / "all")], dataset="", val_dir=""))
    assert one.kind == "whole"


def test_scores_and_what_they_decide_are_those_of_the_records(draws):
    text = read(draws).plain
    a, b = numpy.array([70, 72, 77.0]), numpy.array([61, 60, 62.0])
    for each in (a, b):
        assert f"{each.mean():.1f} ± {each.std(ddof=1):.1f} %" in text
    difference = a - b
    half = student_t(2) * difference.std(ddof=1) / 3**0.5
    assert "Decided: real ahead by 12.0 points" in text
    assert f"95 % interval {signed(difference.mean() - half)} to {signed(difference.mean() + half)} " \
           f"over 3 draws" in text
    assert "of 200 test images" in text and "in place of 1,281,167 real training images" in text
    assert "75.0 ± 0.0" in text and "held-out test images" in text  # the teachers
    assert "31.0 % (real)" in text  # hard labels


def test_real_images_that_win_are_said_to_win_and_one_draw_decides_nothing(tmp_path):
    write_students(write_run(tmp_path / "a"), {0: 0.5, 1: 0.52})
    write_students(write_run(tmp_path / "b", control="herding"), {0: 0.75, 1: 0.77})
    text = read(tmp_path).plain
    assert "Not decided: b (real images) ahead by 25.0 points" in text
    assert "one draw says nothing of the spread" in text
    for draw in (1, 2):
        write_students(write_run(tmp_path / f"draw{draw}" / "a", seed=draw), {0: 0.50 + 0.02 * (draw == 2)})
        write_students(write_run(tmp_path / f"draw{draw}" / "b", seed=draw, control="herding"), {0: 0.76})
    assert "Decided: b (real images) ahead by 25.0 points" in read(tmp_path).plain


@pytest.mark.parametrize(("other", "says"), [
    (0.5, ("Not decided: no difference seen", "0.0 points in both draws alike: no spread to judge by")),
    (0.7, ("Not decided: b (real images) ahead by 20.0 points", "−20.0 points in both draws alike"))])
def test_two_draws_alike_have_no_spread_to_judge_by(tmp_path, other, says):
    for draw in range(2):
        write_students(write_run(tmp_path / f"draw{draw}" / "a", seed=draw), {0: 0.5})
        write_students(write_run(tmp_path / f"draw{draw}" / "b", seed=draw, control="random"), {0: other})
    text = read(tmp_path).plain
    assert all(own in text for own in says) and "with n = 2 the interval reaches 12.7 standard errors" in text
    assert "0.0 to 0.0" not in text.split("Contents")[0].split("Skip to")[0]


def test_measures_are_shown_with_their_commands(draws):
    for draw in range(3):
        write_measures(draws / f"draw{draw}" / "real", cosine=0.5 + draw / 10)
    text = read(draws).plain
    shown = ("0.600 ± 0.100", "4,321 real images", "0.111", "7.750", "0.625 (0.550 to 0.700)", "0.031",
             "51.2", "0.043", "62.5", "37.5", "t-SNE of features of vgg", "HLR (lower is better)",
             "distances between groups, and the size of a group, mean nothing",
             "validate.measure --data 'a & b'")
    assert [value for value in shown if value not in text] == []
    missing = text.split("Not measured")[-1]
    assert "memorisationours (real images), draw 0; ours (real images), draw 1" in missing
    assert f"DD-Ranking's scores, all of themreal, draw 0; real, draw 1; real, draw 2python -m " \
           f"validate.evaluate {draws / 'draw0' / 'real'} --full-data --robustness" in missing
    assert "privacy" not in missing and "the plane" not in missing  # which real images need not
    (draws / "draw1" / "real" / "measured" / "diversity_vgg.json").unlink()
    assert "diversityreal, draw 1; ours" in read(draws).plain.split("Not measured")[-1]


def test_memorisation_is_told_apart_by_k_and_says_who_measures(tmp_path):
    for name, k, taught in (("a", 5, False), ("b", 3, True)):
        run = write_run(tmp_path / name, lr=k / 10)
        write_measures(run)
        path = run / "measured" / "memorisation_vgg.json"
        saved = read_json(path)
        saved["values"] |= {"k": k, "taught": taught}
        write_json(path, saved)
    page = read(tmp_path)
    for name, k, says in (("a", 5, "taught none of these images"), ("b", 3, "no judge from outside")):
        part = page.plain.split(f"Against 4,321 real images, by vgg, k = {k}")[1]
        assert part.split("real images ")[1].startswith(f"{name}20.1110.222") and says in part[:400]


def test_without_controls_a_measure_decides_and_without_both_a_command_is_named(tmp_path):
    run = write_run(tmp_path / "run")
    text = read(run).plain
    assert f"no student was trained yet. python -m validate.evaluate {run} trains some" in text
    assert "imagenet-1k in 4 images: the set run" in text and "run: the recipe prism, 1 setting" in text
    (run / "export.json").write_text("{}")
    assert "this is an export: its accuracies are in its export.json and README.md" in read(run).plain
    (run / "export.json").unlink()
    write_students(run, {0: 0.5})
    assert f"python -m validate.evaluate {run}" in read(run).plain
    write_measures(run)
    text = read(run).plain
    assert "Decided: random real images (resnet18, soft labels) ahead by 4.2 points" in text
    assert "over 3 draws of the real images and students' seeds" in text
    assert "protocol rd3, IPC 2: run − random" in text


def test_without_controls_the_first_screen_is_of_the_evaluations_students_alone(tmp_path):
    for draw, top1 in enumerate((0.875, 0.9)):
        run = write_run(tmp_path / f"draw{draw}" / "x", seed=draw)
        write_students(run, {0: top1})
        if not draw:
            write_evaluation(run)
    text = read(tmp_path).plain
    first = text.split("Skip to the report")[-1].split("From what")[0]
    assert "is right on 51.2 % of the test images" in first and "as many real ones, random: 55.5 %" in first
    assert "Decided: random real images (resnet18, soft labels) ahead by 4.2 points" in first
    assert "88.8" not in first.split("Students")[0] and "IPC 2, draw 0 of 2 alone" in first


def test_other_labels_are_shown_of_students_that_are_else_alike(tmp_path):
    run = write_run(tmp_path / "x")
    write_students(run, {0: 0.75})
    hard = write_students(run, {0: 0.25}, soft=False)
    assert "With hard labels instead: 25.0 %" in read(run).plain
    saved = read_json(hard / "seed0" / "result.json")
    saved["config"]["epochs"] = 1
    write_json(hard / "seed0" / "result.json", saved)
    assert "With hard labels instead" not in read(run).plain


def test_every_distilled_set_is_judged_against_real_images(draws):
    for draw in range(3):
        write_students(write_run(draws / f"draw{draw}" / "third", seed=draw, lr=0.5), {0: 0.4 + draw / 100})
    text = read(draws).plain
    assert "third − ours (real images): −20.0 points" in text
    assert "Decided: ours (real images) ahead by 20.0 points" in text


def test_students_of_fewer_images_are_a_test_of_their_own(tmp_path):
    run, real = write_run(tmp_path / "prism"), write_run(tmp_path / "real", control="random")
    write_students(run, {0: 0.25}, name="one", ipc=1)
    write_students(real, {0: 0.5})
    text = read(tmp_path).plain
    assert "trained from scratch on prism's 2 images" in text and "on prism's 4 images" not in text
    assert "ahead by" not in text  # 2 images against 4 decide nothing
    write_students(run, {0: 0.75}, name="whole")
    text = read(tmp_path).plain
    assert "trained from scratch on prism's 4 images and their soft labels, is right on 75.0 %" in text
    assert "Not decided: prism ahead by 25.0 points" in text
    assert "resnet18, soft labels, protocol prism, IPC 1" in text
    write_students(real, {0: 0.625}, name="one", ipc=1)
    sets = found_sets.group(found_sets.find_runs([str(tmp_path)], dataset="", val_dir=""))
    tests = scores.find_tests(sets)
    assert [test.ipc for test in tests] == [2, 1]
    assert [[(own.mean, own.size) for own in found_sets_scores] for found_sets_scores in (
        [scores.score(own, test) for own in sets] for test in tests)] == [
            [(75, 4), (50, 4)], [(25, 2), (62.5, 2)]]


def test_all_real_images_stand_beside_a_test_of_any_ipc(tmp_path):
    folder = tmp_path / "pictures"
    whole = write_run(tmp_path / "runs" / "whole", dataset=f"folder:{folder}", control="real", ipc=4)
    shutil.copytree(whole / "syn", folder)
    write_students(whole, {0: 0.875})
    write_students(write_run(tmp_path / "runs" / "prism", dataset=f"folder:{folder}"), {0: 0.5})
    text = read(tmp_path / "runs").plain
    assert "on prism's 4 images" in text and "on all 8 real training images: 87.5 %" in text


def test_a_copy_is_no_draw(tmp_path, capsys):
    run, real = write_run(tmp_path / "prism"), write_run(tmp_path / "real", control="random")
    write_students(run, {0: 0.5})
    write_students(real, {0: 0.75})
    open_images(str(run), flag="")  # which writes its manifest
    shutil.copytree(run, tmp_path / "prism_backup")
    shutil.copytree(run, tmp_path / "a-hub")
    (tmp_path / "a-hub" / "config.json").unlink()  # an export has a manifest alone
    text = read(tmp_path).plain
    assert "Not decided: real ahead" in text and "over 2 draws" not in text
    said = capsys.readouterr().err
    assert f"{tmp_path / 'a-hub'} holds the images of {run}" in said and "prism_backup holds" in said
    sets = found_sets.group(found_sets.find_runs([str(tmp_path)], dataset="", val_dir=""))
    assert [(own.name, [draw.path for draw in own.draws]) for own in sets] == [
        ("prism", [run]), ("real", [real])]


def test_draws_of_controls_may_have_the_same_images(tmp_path):
    for draw in range(2):
        run = write_run(tmp_path / f"draw{draw}" / "first", control="real", teachers=False)
        saved = read_json(run / "config.json")
        saved["config"]["seed"] = draw  # of which the choice of the first images does not depend
        write_json(run / "config.json", saved)
    one, = found_sets.group(found_sets.find_runs([str(tmp_path)], dataset="", val_dir=""))
    assert [draw.seed for draw in one.draws] == [0, 1]


def test_a_set_holds_one_run_of_a_seed(tmp_path):
    paths = [write_run(tmp_path / name / "x", seed=seed) for name, seed in (("a", 0), ("b", 1), ("c", 0))]
    saved = read_json(paths[2] / "config.json")
    saved["config"]["threads"] = 7
    write_json(paths[2] / "config.json", saved)
    picture = next((paths[2] / "syn").rglob("*.png"))
    for unit in (paths[2] / "units").glob("*.json"):  # other threads, other images
        record = read_json(unit)
        record["files"] = {name: hashlib.sha256(b"other").hexdigest() for name in record["files"]}
        for name in record["files"]:
            (paths[2] / name).write_bytes(b"other")
        write_json(unit, record)
    assert picture.read_bytes() == b"other"
    sets = found_sets.group(found_sets.find_runs([str(tmp_path)], dataset="", val_dir=""))
    assert [[draw.seed for draw in own.draws] for own in sets] == [[0, 1], [0]]


def test_the_first_screen_takes_the_evaluation_of_the_whole_set_and_says_which(tmp_path):
    run = write_run(tmp_path / "run")
    write_evaluation(run, protocol="aaa", ipc=1, mean=30)
    write_evaluation(run, protocol="prism", ipc=2, mean=-4.5)
    write_measures(run, ipc=1)
    page = read(run)
    assert "Decided: random real images (resnet18, soft labels) ahead by 4.5 points" in page.plain
    assert "protocol prism, IPC 2: run − random" in page.plain and "IPC 1, seed 0" in page.plain
    for caption in ("Intra-class cosine by vgg", "Membership inference", "k = 5"):
        table = page.plain.split(caption, 2)[-1]
        assert "setIPC" in table[:200].replace(" ", ""), caption


def test_over_draws_an_evaluation_has_one_control_for_all(tmp_path):
    for draw in range(2):
        write_evaluation(write_run(tmp_path / f"draw{draw}" / "x", seed=draw), mean=-4 - draw)
    text = read(tmp_path).plain
    assert "over 2 draws, all against the same random real images" in text
    assert "over draws; their real images are the same" in text
    text = read(tmp_path / "draw0").plain
    assert "draws of real images and student seeds55.5" in text
    assert "over student seeds; of random, each on a draw of real images of its own" in text


def test_curves_say_of_each_set_what_they_are_over(tmp_path):
    for draw in range(2):
        write_students(write_run(tmp_path / f"draw{draw}" / "a", seed=draw), {0: 0.5})
    write_students(write_run(tmp_path / "draw0" / "b", control="random"), {0: 0.5, 1: 0.6, 2: 0.7})
    bands = [dict(attributes) for tag, attributes in read(tmp_path).elements if tag == "polygon"]
    assert len(bands) == 1 and len(bands[0]["points"].split()) == 4  # b's, of two epochs; a's draws are alike
    how = "mean and standard deviation (n − 1) over"
    assert f"a: {how} 2 draws; b (real images): {how} 3 seeds." in read(tmp_path).plain


def test_settings_that_sets_share_are_said_once(tmp_path):
    for name, lr in (("a", 0.125), ("b", 0.5)):
        run = write_run(tmp_path / name, lr=lr)
        saved = read_json(run / "config.json")
        saved["protocol"]["changed"] = ["iteration", "lr"]
        write_json(run / "config.json", saved)
    made = read(tmp_path).plain.split("Settings that differ from the protocol in every set")[-1]
    made = made.split("every setting")[0]
    assert made.count("--iteration") == 1 and "a: further settings" in made and "--lr0.125" in made


def test_a_network_without_batchnorm_aligned_nothing(tmp_path):
    run = write_run(tmp_path / "run")
    for path in (run / "units").glob("*.json"):
        unit = read_json(path)
        final = {f"bn/{name}": 3.5 * (name == "resnet18") for name in unit["aligned"]}
        write_json(path, {**unit, "final": final})
    text = read(run).plain
    assert "Drawn, but aligned nothing, having no BatchNorm: mobilenet_v2." in text
    assert "drawn for its statistics, of which it has none (no BatchNorm)" in text
    assert "optimised against resnet18." in text and "statistics of mobilenet_v2" not in text


def test_a_restart_is_known_by_units_that_go_back(tmp_path):
    def row(ipc_id: int, step: int, seconds: float) -> dict:
        return {"ipc_id": ipc_id, "chunk": 0, "step": step, "elapsed_s": seconds}
    run = write_run(tmp_path / "run")
    draw = found_sets.open_draw(open_images(str(run), flag="", write=False))
    for rows, seconds in (([row(0, 0, 10), row(0, 0, 30), row(0, 9, 60)], 70),
                          ([row(0, 0, 10), row(1, 0, 10), row(0, 5, 20), row(1, 5, 20)], 20),
                          ([row(0, 0, 10), row(0, 5, 20), row(1, 0, 3), {"elapsed_s": 4}], 24)):
        write_lines(run / "log.jsonl", rows)
        assert facts.recover_seconds(draw) == seconds


def test_commands_survive_spaces_and_pair_the_common_draws(tmp_path):
    for draw in range(3):
        run = write_run(tmp_path / "my runs" / f"draw{draw}" / "a", seed=draw)
        write_students(run, {0: 0.5 + draw / 10})
        if draw:
            real = write_run(tmp_path / "my runs" / f"draw{draw}" / "b", seed=draw, control="random")
            write_students(real, {0: 0.6})
    text = read(tmp_path / "my runs", "--val-dir", "my data").plain
    first = tmp_path / "my runs" / "draw0" / "a"
    sides = [",".join(str(first.parents[1] / f"draw{draw}" / name / "validate/soft") for draw in (1, 2))
             for name in "ba"]
    assert shlex.join(["python", "-m", "validate.results", *sides]) in text
    assert f"python -m validate.evaluate '{first}'" in text
    assert f"--data '{first}' --student '{first}/validate/soft/seed0'" in text
    assert f"validate.report '{tmp_path / 'my runs'}' --val-dir 'my data'" in text
    runs = ",".join(str(tmp_path / "my runs" / f"draw{draw}" / "a") for draw in range(3))
    assert f"python -m validate.figures terms '{runs}'" in text
    for side in sides:
        assert all((Path(folder) / "seed0").is_dir() for folder in side.split(","))


def test_commands_name_the_data_of_sets_of_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what is made of them goes to out/
    run = write_run(tmp_path / "run", control="real", dataset=f"folder:{tmp_path / 'real data'}")
    for copy in ("real data", "theirs"):
        shutil.copytree(run / "syn", tmp_path / copy)
    dataset = f"folder:{tmp_path / 'real data'}"
    text = read("theirs", "--dataset", dataset, "--out", tmp_path / "x.html").plain
    for command in ("validate.diversity --data", "validate.figures embedding", "validate.evaluate"):
        assert f"python -m {command} theirs --dataset '{dataset}'" in text


def test_real_images_are_counted_once(tmp_path, monkeypatch):
    seen: list[str] = []
    monkeypatch.setattr(found_sets, "RealSet", lambda dataset, *_, **__: seen.append(dataset) or range(3))
    dataset = f"folder:{tmp_path}"
    assert [found_sets.count_real(dataset) for _ in range(2)] == [3, 3] and seen == [dataset]


def test_tables_leave_room_for_images(tmp_path, monkeypatch):
    classes = [f"class {i:04d}" for i in range(400)]
    run = write_run(tmp_path / "run", classes=classes, ipc=1)
    write_measures(run)
    rest = len(report.main([str(run)]).read_bytes())
    monkeypatch.setattr(pages, "MOST_BYTES", int(0.6 * rest))
    page = report.main([str(run)])
    assert page.stat().st_size <= 0.6 * rest
    assert "rows, spread evenly)" in Parsed(page.read_text(encoding="utf-8")).plain


def test_real_images_alone_decide_nothing(tmp_path):
    run = write_run(tmp_path / "run", control="random")
    write_students(run, {0: 0.5})
    assert "not decided: these runs are real images alone" in read(run).plain


def test_names_of_others_are_text_and_nothing_else(tmp_path):
    classes = ('"onload="alert(1)', "<img src=x onerror=alert(1)>", "<script>alert(1)<", "{{ 7 * 7 }}",
               "a&amp;b")
    run = write_run(tmp_path / 'a & "b" <b>', classes=sorted(classes))
    write_students(run, {0: 0.5})
    write_measures(run)
    page = read(run)
    assert not [tag for tag, _ in page.elements if tag in ("script", "b", "iframe", "object")]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert all(name in page.text for name in classes)
    assert 'a & "b" <b>' in page.text


def test_nothing_is_fetched_and_images_are_links_that_open_them(draws):
    page = read(draws)
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    links = [attributes[name] for _, attributes in page.elements for name in ("href", "src")
             if name in attributes]
    assert all(link.startswith("data:") or link[0] == "#" and link[1:] in targets for link in links)
    images = [attributes["alt"] for tag, attributes in page.elements if tag == "img"]
    assert images == ["ant", "bee", *[""] * 8]  # one a class on the first screen, then the links' own
    style = (pages.FOLDER / "style.css").read_text()
    assert "url(" not in style and "@import" not in style
    every = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(every) == len(set(every))


def test_a_thousand_classes_stay_below_five_megabytes(tmp_path):
    classes = [f"n{i:08d} <of a longer name>" for i in range(1000)]
    run = write_run(tmp_path / "run", classes=classes, ipc=1, size=80)
    write_students(run, {0: 0.5})
    write_measures(run)
    path = report.main([str(run)])
    assert 3_000_000 < path.stat().st_size < 5_000_000
    page = Parsed(path.read_text(encoding="utf-8"))
    assert sum(tag == "img" for tag, _ in page.elements) > 300
    assert "of 1,000 classes, spread evenly" in page.plain


def test_a_report_lies_beside_what_it_is_about(tmp_path):
    homes = [tmp_path / "a" / "x", tmp_path / "a" / "y" / "z"]
    assert report.default_path(["x"], homes[:1]) == homes[0] / "report.html"
    assert report.default_path([str(tmp_path)], homes) == tmp_path / "report.html"
    assert report.default_path(["x", "y"], homes) == tmp_path / "a" / "report.html"


def test_what_cannot_be_a_report_is_one_line_and_nothing_is_written(tmp_path, refused, monkeypatch):
    (tmp_path / "empty").mkdir()
    assert "say which runs" in refused(report.main, [])
    assert "empty" in refused(report.main, [tmp_path / "empty"])
    run, other = write_run(tmp_path / "run"), write_run(tmp_path / "other", classes=("x", "y"))
    assert "a report is about one data set" in refused(report.main, [run, other])
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert "bash scripts/setup.sh report" in refused(report.main, [run])
    assert not list(tmp_path.rglob("report.html"))


def test_runs_of_the_stages_are_reported_where_they_lie(made, tmp_path, capsys):
    run = shutil.copytree(made, tmp_path / "a run")
    path = report.main([str(run / "syn")])
    assert path == run / "report.html" and str(path) in capsys.readouterr().out
    page = Parsed(path.read_text(encoding="utf-8"))
    text, before = page.plain, path.read_bytes()
    assert "Students over the epochs" in text and "The loss while images were made" in text
    assert "narrow_shufflenet" in text and re.search(r"24 real training images", text)
    assert report.main([str(run)]).read_bytes().replace(b"/syn", b"") == before.replace(b"/syn", b"")
    assert ("whole", path) in verify.verify(run)
    assert report.main([str(run), "--out", str(tmp_path / "x.html")]).is_file()


@pytest.mark.parametrize(("low", "high", "ticks"), [
    (0, 100, ["0", "20", "40", "60", "80", "100"]), (88, 97, ["88", "90", "92", "94", "96"]),
    (0.5, 0.62, ["0.50", "0.52", "0.54", "0.56", "0.58", "0.60", "0.62"])])
def test_ticks_are_round(low, high, ticks):
    axis = Axis(low=low, high=high)
    assert [text for _, text in axis.ticks] == ticks
    assert all(abs(axis.place(float(text)) - place) < 0.01 for place, text in axis.ticks)
