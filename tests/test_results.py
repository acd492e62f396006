"""What validate reports: results.jsonl, tables beside the paper's figures, and the difference of two runs."""
import csv
import io
import json
import math
import re
import shutil
from pathlib import Path

import numpy
import pytest
from helpers import POOL, contents

from scripts.reproducing.tables import peak_memory, table_row, tables_of
from utils.files import sha256_bytes, write_json
from utils.formats import assemble_manifest
from utils.metrics import student_t
from utils.records import read_json
from validate import results
from validate.results import config_differences, describe_students, paired_difference, read_results

pytest_plugins = ["stage_fixtures"]


def write_students(folder: Path, top1: dict[int, float], *, best: float = 0.0, **config) -> Path:
    """result.json of students by hand.   Args: top1: seed -> the last epoch's;  best: the best's above it."""
    for seed, value in top1.items():
        write_json(folder / f"seed{seed}" / "result.json", {
            "seed": seed, "last": {"epoch": 299, "top1": value, "top5": 0.9},
            "best": {"epoch": 10, "top1": value + best, "top5": 0.9}, "config": {"model": "m", **config},
            "protocol": {"name": "prism", "changed": []}, "images": "i", "labels": "l"})
    return folder


def entry(*folders: Path, **changes) -> dict:
    return {"table": "1", "key": "1/a", "label": "A", "paper": 49.4, "paper_std": 0.2, "protocol": "prism",
            "ipc": 10, "model": "resnet18", "wanted": 3, "folders": folders, **changes}


# ---------------------------------------------------------------- tables

def test_a_complete_row(tmp_path):
    values = {0: 0.481, 1: 0.502, 2: 0.493}
    row = table_row(entry(write_students(tmp_path, values, best=0.01)), comparable=True)
    percent = 100 * numpy.array(list(values.values()))
    assert row == {"row": "1/a: A", "IPC": "10", "student": "resnet18", "protocol": "prism",
                   "top-1": f"{percent.mean():.1f} +- {percent.std(ddof=1):.1f}", "n": "3",
                   "best epoch": f"{percent.mean() + 1:.1f}", "paper": "49.4 +- 0.2",
                   "difference": f"{percent.mean() - 49.4:+.1f}"}
    assert (row["top-1"], row["best epoch"], row["difference"]) == ("49.2 +- 1.1", "50.2", "-0.2")


def test_rows_of_several_draws_pool_their_students(tmp_path):
    a, b = write_students(tmp_path / "a", {0: 0.1, 1: 0.2}), write_students(tmp_path / "b", {0: 0.6, 1: 0.5})
    row = table_row(entry(a, b, wanted=4), comparable=True)
    assert (row["top-1"], row["n"]) == ("35.0 +- 23.8", "4")


def test_incomplete_and_missing_students_are_named(tmp_path):
    one = table_row(entry(write_students(tmp_path / "one", {1: 0.5})), comparable=True)
    assert (one["top-1"], one["n"], one["difference"]) == ("50.0", "1 of 3, incomplete", "+0.6")
    two = table_row(entry(write_students(tmp_path / "two", {0: 0.5, 2: 0.6})), comparable=True)
    assert (two["top-1"], two["n"]) == ("55.0 +- 7.1", "2 of 3, incomplete")
    (tmp_path / "none" / "seed0").mkdir(parents=True)
    for folder in (tmp_path / "none", tmp_path / "nowhere"):
        none = table_row(entry(folder), comparable=True)
        assert (none["top-1"], none["n"], none["best epoch"], none["difference"]) \
            == ("-", "0 of 3, not run", "-", "-")
        assert none["paper"] == "49.4 +- 0.2"


def test_a_difference_is_taken_of_one_data_set_only(tmp_path):
    folder = write_students(tmp_path, {0: 0.5})
    assert table_row(entry(folder), comparable=False)["difference"] == "-"
    ours = table_row(entry(folder, paper=None, paper_std=None, wanted=1), comparable=True)
    assert (ours["paper"], ours["difference"], ours["top-1"], ours["n"]) == ("-", "-", "50.0", "1")
    on_digits, on_imagenet = (tables_of([entry(folder)], dataset=name) for name in ("digits", "imagenet-1k"))
    for ending in ("md", "csv", "tex"):
        assert "paper, on ImageNet-1K" in on_digits[ending] and "+0.6" not in on_digits[ending]
        assert "on ImageNet-1K" not in on_imagenet[ending] and "+0.6" in on_imagenet[ending]
    assert "Data set: digits." in on_digits["md"] and "no difference" in on_digits["md"]


def test_a_figure_of_another_ipc_or_origin_is_named_and_no_difference_is_taken(tmp_path):
    folder = write_students(tmp_path, {0: 0.2, 1: 0.2, 2: 0.2})
    row = table_row(entry(folder, paper=39.1, paper_std=None, other="another IPC"), comparable=True)
    assert (row["paper"], row["difference"]) == ("39.1 (another IPC)", "-")
    note = "To a figure of another IPC or origin no difference is taken."
    tables = [tables_of([entry(folder, other=other)], dataset="imagenet-1k")["md"] for other in ("", "x")]
    assert note not in tables[0] and note in tables[1]


def test_peak_memory_stands_beside_the_papers(tmp_path):
    for name, values in (("a", (2.5, 6.25)), ("b", (6.04,)), ("cpu", (None,))):
        (tmp_path / name).mkdir()
        lines = [json.dumps({"step": 4, "done": True, "peak_memory_gb": value}) for value in values]
        (tmp_path / name / "log.jsonl").write_text("\n".join((*lines, '{"peak_memory_gb": 9')))
    assert peak_memory([tmp_path / "a", tmp_path / "b"]) == 6.25
    assert peak_memory([tmp_path / "cpu"]) is None is peak_memory([tmp_path / "none"])
    of = {"vram_gb": 6.5, "runs": [tmp_path / "a"]}
    students = write_students(tmp_path / "s", {0: 0.5})
    entries = [entry(students, **of), entry(students, **of | {"runs": [tmp_path / "cpu"]}), entry(students)]
    heads, *rows = csv.reader(io.StringIO(tables_of(entries, dataset="imagenet-1k")["csv"]))
    assert heads[-2:] == ["recover [GB]", "paper [GB]"]
    assert [row[-2:] for row in rows] == [["6.2", "6.5"], ["-", "6.5"], ["-", "-"]]


@pytest.fixture
def rendered(tmp_path) -> tuple[list[dict], dict[str, str]]:
    """Three rows with labels that need care, and their tables."""
    full = write_students(tmp_path, {0: 0.5, 1: 0.4, 2: 0.6})
    entries = [entry(full, label='phi = theta_1 != theta_>1, "so"'),
               entry(tmp_path / "none", key="3b/both", label=r"R&D 50% #1 {x} a~b c^d \e $5 <f", paper=30.89,
                     paper_std=None),
               entry(full, key="x/y", label="+ MAE (GT=0.05)", paper=None, paper_std=None)]
    return entries, tables_of(entries, dataset="imagenet-1k")


def test_csv_parses_back(rendered):
    entries, texts = rendered
    heads, *rows = csv.reader(io.StringIO(texts["csv"]))
    assert heads == ["row", "IPC", "student", "protocol", "top-1", "n", "best epoch", "paper", "difference"]
    assert [dict(zip(heads, row, strict=True)) for row in rows] == [
        table_row(own, comparable=True) for own in entries]
    assert rows[0][0] == '1/a: phi = theta_1 != theta_>1, "so"' and rows[0][4] == "50.0 +- 10.0"


def test_markdown_has_a_cell_for_every_column(rendered):
    entries, texts = rendered
    note, _, heads, rule, *rows = texts["md"].splitlines()
    assert "mean +- standard deviation (n - 1)" in note and set(rule) == {"|", "-"}
    assert len(rows) == 3 and {line.count("|") for line in (heads, rule, *rows)} == {10}
    assert rows[1].endswith(" | - | 0 of 3, not run | - | 30.9 | - |")


def test_latex_is_escaped(rendered):
    _, texts = rendered
    comment, begin, heads, *rows, end = texts["tex"].splitlines()
    assert comment.startswith("% Data set") and begin == r"\begin{tabular}{lllllllll}"
    assert end == r"\end{tabular}" and heads.endswith(r"\\ \hline") and len(rows) == 3
    assert all(row.endswith(r" \\") and len(re.findall(r"(?<!\\)&", row)) == 8 for row in rows)
    assert rows[0].startswith(r'1/a: phi = theta\_1 != theta\_$>$1, "so" & 10 & resnet18 & prism & '
                              r"50.0 $\pm$ 10.0 & 3 & ")
    assert rows[1].startswith(r"3b/both: R\&D 50\% \#1 \{x\} a\textasciitilde{}b c\textasciicircum{}d "
                              r"\textbackslash{}e \$5 $<$f & ")
    for line in (heads, *rows):
        bare = re.sub(r"\\[&%$#_{}\\]", "", line)
        assert not set(bare) & set("%#^~") and "_" not in bare and bare.count("$") % 2 == 0


# ---------------------------------------------------------------- did it help?

def density(t: numpy.ndarray, freedom: int) -> numpy.ndarray:
    """Student's t."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    return scale * (1 + t**2 / freedom) ** (-(freedom + 1) / 2)


def test_the_quantiles_leave_a_fortieth_above():
    for freedom in (*range(1, 35), 99, 1000):
        middle = numpy.linspace(0, student_t(freedom), 20001)
        inside = numpy.trapezoid(density(middle, freedom), middle)
        assert inside == pytest.approx(0.475, abs=1e-7), freedom
    assert student_t(1) == pytest.approx(math.tan(0.475 * math.pi))
    assert student_t(2) == pytest.approx(0.95 * (2 / (1 - 0.95**2)) ** 0.5)
    for freedom, quantile in {3: 3.182, 4: 2.776, 9: 2.262, 29: 2.045, 31: 2.040, 40: 2.021}.items():
        assert round(student_t(freedom), 3) == quantile  # of printed tables


def test_paired_differences_by_hand(tmp_path):
    a = read_results(write_students(tmp_path / "a", {0: 0.40, 1: 0.44, 2: 0.42, 5: 0.9}))
    b = read_results(write_students(tmp_path / "b", {2: 0.46, 0: 0.41, 1: 0.47, 7: 0.1}))
    found = paired_difference(a, b)
    each = numpy.array([1.0, 3.0, 4.0])
    error = each.std(ddof=1) / 3**0.5
    assert found.n == 3 and found.each == pytest.approx(each)
    assert found.mean == pytest.approx(each.mean()) and found.standard_error == pytest.approx(error)
    assert found.interval == pytest.approx((each.mean() - 4.302653 * error, each.mean() + 4.302653 * error))
    back = paired_difference(b, a)
    assert back.mean == pytest.approx(-found.mean)
    assert back.interval == pytest.approx([-edge for edge in reversed(found.interval)])


@pytest.mark.parametrize("num, quantile", [(2, 12.706205), (10, 2.262157), (31, 2.042272), (41, 2.021075)])
def test_the_interval_follows_the_number_of_seeds(num, quantile):
    def students(shift):
        return [{"seed": seed, "last": {"top1": shift * (seed % 2)}} for seed in range(num)]
    found = paired_difference(students(0.0), students(0.02))
    error = numpy.std([2.0 * (seed % 2) for seed in range(num)], ddof=1) / num**0.5
    assert (found.interval[1] - found.mean) / error == pytest.approx(quantile)


@pytest.mark.parametrize("a, b", [({0: 0.5, 1: 0.5}, {2: 0.5, 3: 0.5}), ({0: 0.5, 1: 0.5}, {1: 0.5}),
                                  ({}, {0: 0.5})])
def test_fewer_than_two_common_seeds_are_refused(a, b, tmp_path):
    runs = [read_results(write_students(tmp_path / name, seeds)) for name, seeds in (("a", a), ("b", b))]
    with pytest.raises(ValueError, match=f"the runs share {len(a.keys() & b.keys())} finished seeds"):
        paired_difference(*runs)


def test_what_differs_is_named():
    a = {"config": {"model": "resnet18", "epochs": 300, "old": 1}, "images": "i", "labels": "l"}
    b = {"config": {"model": "resnet18", "epochs": 100, "new": 2}, "images": "i", "labels": None}
    assert config_differences(a, a) == []
    assert config_differences(a, b) == ["epochs: 300 -> 100", "new: None -> 2", "old: 1 -> None",
                                        "labels: others"]


def test_two_runs_are_compared_on_the_command_line(tmp_path, capsys):
    a = write_students(tmp_path / "a", {0: 0.40, 1: 0.42, 2: 0.41}, loss_type="kl", temperature=20)
    b = write_students(tmp_path / "b", {0: 0.50, 1: 0.52, 2: 0.515}, loss_type="kl", temperature=4,
                       momentum=0.9)  # of an optimiser that is not chosen
    found = results.main([str(a), str(b)])
    first, second, difference, settings, caveat = capsys.readouterr().out.splitlines()
    assert first == f"A  41.0 +- 1.0  (n = 3)  {a}, protocol prism"
    assert second == f"B  51.2 +- 1.0  (n = 3)  {b}, protocol prism"
    assert difference == ("B - A  +10.17 points, standard error 0.17, 95 % interval +9.45 to +10.88 over 3 "
                          "common seeds: decided for these images: students' seeds alone")
    assert settings == "they differ in  temperature: 20 -> 4" and "A0,A1,A2 B0,B1,B2" in caveat
    assert found.mean == pytest.approx(61 / 6)
    results.main([str(a), str(a)])
    out = capsys.readouterr().out
    assert "common seeds: not decided: the interval holds 0\nthey differ in  nothing recorded\n" in out


@pytest.mark.parametrize("names, error", [
    (["a"], "expected two folders of students, got 1: python -m validate.results A B"), ([], "got 0"),
    (["a", "b", "a"], "got 3"), (["a", "none"], "none: no finished students there (seed*/result.json)"),
    (["a", "b"], "the runs share 1 finished seeds ([0, 1] and [1, 2])")])
def test_bad_words_are_refused(names, error, tmp_path, refused):
    write_students(tmp_path / "a", {0: 0.5, 1: 0.5})
    write_students(tmp_path / "b", {1: 0.5, 2: 0.5})
    assert error in refused(results.main, [tmp_path / name for name in names])


MADE = {"iteration": 4000, "iteration_step": 500, "init": "real", "bn_reduce": "mean", "seed": 0}


def made_by(folder: Path, top1: dict[int, float], images: str, changed=(), labels=None, **config) -> Path:
    """Students whose results say how their images (of that digest) and labels were made."""
    write_students(folder, top1)
    for path in folder.glob("seed*/result.json"):
        write_json(path, {**read_json(path), "images": images, "labels": images,
                          "images_config": MADE | config,
                          "images_protocol": {"name": "prism", "changed": list(changed)},
                          "images_teachers": {"net": "aa"}, "labels_teachers": {"net": "aa"},
                          "labels_protocol": {"name": "prism", "changed": ["batch_size"]},
                          "labels_config": {"batch_size": 16, "seed": 0, **(labels or {})}})
    return folder


def test_students_on_different_images_decide_nothing(tmp_path, capsys):
    a = made_by(tmp_path / "a", {0: 0.40, 1: 0.42, 2: 0.41}, "i")
    b = made_by(tmp_path / "b", {0: 0.50, 1: 0.52, 5: 0.51}, "j", ["bn_reduce"], {"batch_size": 50},
                bn_reduce="sum")
    assert results.main([str(a), str(b)]) is None
    first, second, difference, settings = capsys.readouterr().out.splitlines()
    assert first.endswith("protocol prism; images prism; labels prism (changed: batch_size)")
    assert second.endswith("images prism (changed: bn_reduce); labels prism (changed: batch_size)")
    assert difference == (
        "B - A  +10.00 points, standard error 0.82 by the students' seeds alone: nothing is decided, the "
        "image sets' spread is not measured: n = 1 image set a side (draws measure it: "
        "python -m validate.results A0,A1,A2 B0,B1,B2)")
    assert settings == ("they differ in  recover bn_reduce: mean -> sum; images: others; "
                        "relabel batch_size: 16 -> 50; labels: others")
    one = made_by(tmp_path / "one", {0: 0.5}, "k")
    assert results.main([str(a), str(one)]) is None
    assert "B - A  +9.00 points: nothing is decided" in capsys.readouterr().out


def test_real_images_and_what_is_not_recorded_are_named(tmp_path, capsys):
    real = made_by(tmp_path / "real", {0: 0.4}, "r", iteration=0, iteration_step=0, init="random")
    noise = made_by(tmp_path / "noise", {0: 0.4}, "n", iteration=0, iteration_step=0, init="noise")
    older = write_students(tmp_path / "older", {0: 0.4})
    results.main([str(real), str(noise)])
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert "; real images (recover --iteration 0 --init random); labels" in first
    assert "; starting images (recover --iteration 0 --init noise); labels" in second
    results.main([str(real), str(older)])
    assert "recover: not recorded; images: others; relabel: not recorded; labels: others" \
        in capsys.readouterr().out
    trained = read_results(older)[0] | {"images_config": MADE, "images_protocol": None}
    assert describe_students(trained) == "protocol prism; images of an unrecorded protocol"
    again = trained | {"images_teachers": {"net": "bb", "own": "c"}}
    assert config_differences(trained | {"images_teachers": {"net": "aa"}}, again) \
        == ["recover teachers' weights: others"]


def test_draws_are_paired_in_order(tmp_path, capsys):
    a = [made_by(tmp_path / f"a{i}", {0: 0.4 + i / 10, 1: 0.5 + i / 10}, f"a{i}", seed=i) for i in range(3)]
    b = [made_by(tmp_path / f"b{i}", {1: 0.53 + i / 9, 2: 0.1}, f"b{i}", seed=i, bn_reduce="sum")
         for i in range(3)]
    found = results.main([",".join(map(str, side)) for side in (a, b)])
    each = [100 * (0.03 + i / 9 - i / 10) for i in range(3)]  # of the seed that both have
    assert found.each == pytest.approx(each) and found.n == 3
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"A  55.0 +- 10.0  (n = 3 draws)  {a[0]}, {a[1]}, {a[2]}, protocol prism")
    assert out[2].endswith("over 3 draws (+3.00, +4.11, +5.22): decided over draws of the images")
    assert out[3] == ("they differ in  recover bn_reduce: mean -> sum; images: others; labels: others")
    assert len(out) == 4
    same = [made_by(tmp_path / f"r{i}", {0: 0.4}, "r", seed=i, jitter=i) for i in range(2)]
    results.main([",".join(map(str, side)) for side in (a[:2], same)])
    out = capsys.readouterr().out
    assert "not decided: the interval holds 0" in out
    assert "\nB's folders hold the same images: over its images nothing is varied\n" in out
    assert "\nB's draws differ in more than the draw: recover jitter: 0 -> 1\n" in out


@pytest.mark.parametrize("a, b, error", [
    ("a0,a1", "b0", "A lists 2 folders and B 1: expected one of each a draw, in order"),
    ("a0,a1", "b1,b0", "draw 0 pairs images of recover --seed 0 and 1: list the folders of both sides in"),
    ("a0,a0", "b0,b1", "a folder is listed twice"), ("a0,none", "b0,b1", "none: no finished students there"),
    ("a0,a1", "b0,c1", "draw 1: the runs share no finished seed ([0] and [4])"),
    ("a0,d1", "a0,d1", "the folders of a side hold students on the same images, which are no draws")])
def test_lists_that_pair_no_draws_are_refused(a, b, error, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    for name in ("a0", "a1", "b0", "b1"):
        made_by(Path(name), {0: 0.5}, name, seed=int(name[1]))
    made_by(Path("c1"), {4: 0.5}, "c1", seed=1)
    made_by(Path("d1"), {0: 0.5}, "a0", seed=1)
    assert error in refused(results.main, [a, b])


def test_help_says_how_to_call_it(capsys):
    assert results.main(["--help"]) is None
    out = capsys.readouterr().out
    assert "python -m validate.results A B" in out and "python -m validate.results A0,A1,A2 B0,B1,B2" in out


# ---------------------------------------------------------------- what validate records

def test_every_student_is_a_line_of_results_jsonl(made):
    out = made / "validate" / POOL[0]
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [line["seed"] for line in lines] == [0, 1]
    files = [[str(path.relative_to(made)), sha256_bytes(path.read_bytes())]
             for path in sorted(made.glob("syn/*/*"))]
    images = sha256_bytes(json.dumps(files, separators=(",", ":")).encode())
    own = json.loads((made / "fkd" / "2" / "config.json").read_text())
    labels = sha256_bytes(json.dumps(own, sort_keys=True, separators=(",", ":")).encode())
    for line in lines:
        assert line["row"] == "" and line["protocol"]["name"] == "prism"
        assert (line["images"], line["labels"]) == (images, labels)
        for epoch in ("last", "best"):
            assert set(line[epoch]) == {"epoch", "top1", "top5", "images"}
            assert 0 <= line[epoch]["top1"] <= line[epoch]["top5"] <= 1 and line[epoch]["images"] == 12
        assert line["last"]["epoch"] == 2 and 0 <= line["best"]["epoch"] <= 2
        assert line["best"]["top1"] >= line["last"]["top1"]
        assert line["device"] == "cpu" and line["device_name"] and line["peak_memory_gb"] is None
        assert 0 < line["wall_s"] < 600 and line["world"] == 1
        assert (line["config"]["model"], line["config"]["epochs"], line["config"]["batch_size"]) \
            == (POOL[0], 3, 5)
        assert {"python", "torch", "torchvision", "numpy", "pillow"} <= set(line["versions"])
        saved = json.loads((out / f"seed{line['seed']}" / "result.json").read_text())
        assert {name: line[name] for name in saved if name not in ("last", "best")} \
            == {name: value for name, value in saved.items() if name not in ("last", "best")}
        assert line["last"]["top1"] == pytest.approx(saved["last"]["top1"], abs=1e-6)


def test_a_later_student_adds_a_line_and_its_row(made, tiny, tmp_path):
    run = shutil.copytree(made, tmp_path / "run")
    tiny.validate(run, "--row", "2/x", "--seeds", 1, 4)
    lines = [json.loads(line)
             for line in (run / "validate" / POOL[0] / "results.jsonl").read_text().splitlines()]
    assert [(line["row"], line["seed"]) for line in lines] == [("", 0), ("", 1), ("2/x", 4)]
    found = results.main([str(run / "validate" / POOL[0])] * 2)
    assert found.n == 3 and found.each == [0, 0, 0]


def test_a_result_says_who_made_its_images_and_what_was_changed_in_all_three_stages(made, tiny, tmp_path):
    run = tiny.recover(tmp_path, "--primary", "drawn", "--bn-reduce", "sum", "--ipc-end", 4, "--iteration", 1)
    labels = tiny.relabel(run, "--batch-size", 3, "--steps-per-epoch", 2, "--no-flip", "--ipc", 2)
    result = tiny.validate(run, "--seeds", 0, "--allow-fewer-epochs", "--epochs", 2)["results"][0]
    units = [read_json(path) for path in run.glob("units/ipc000[01]*.json")]
    assert len(units) == 4 and result["primary"] == {
        name: sum(unit["primary"].get(name, 0) for unit in units) for name in sorted(
            {name for unit in units for name in unit["primary"]})}
    assert sum(result["primary"].values()) == 4
    assert result["images_protocol"]["name"] == "prism" and set(result["images_protocol"]["changed"]) == {
        "arch_name", "pool", "primary", "bn_reduce", "size", "iteration", "iteration_step", "batch_size"}
    assert set(result["labels_protocol"]["changed"]) \
        == {"epochs", "batch_size", "steps_per_epoch", "flip", "arch_name", "pool"}
    assert set(result["protocol"]["changed"]) == {
        "epochs", "allow_fewer_epochs", "gradient_accumulation_steps", "eval_every"}
    config = read_json(run / "config.json")
    assert result["images_config"] == config["config"] and result["images_teachers"] == config["weights"]
    assert result["labels_config"] == read_json(labels / "config.json")["config"]
    assert read_json(run / "manifest.json")["protocol"] == config["protocol"] == result["images_protocol"]


def test_hard_labels_say_what_they_changed(made, tiny, tmp_path):
    flags = ("--fkd-path", "", "--loss-type", "ce", "--output-dir", tmp_path / "out", "--seeds", 0)
    tiny.validate(made, *flags, "--epochs", 1, "--batch-size", 8, "--protocol", "recovery-only")
    result = read_results(tmp_path / "out")[0]
    assert result["labels_protocol"] is None and set(result["protocol"]["changed"]) \
        == {"epochs", "batch_size", "eval_every"}


def test_a_run_from_before_recover_recorded_its_protocol_is_gone_on_with(made, tiny, tmp_path):
    """Its students and labels are the same ones, and say that it is not recorded."""
    run = shutil.copytree(made, tmp_path / "run")
    saved = read_json(run / "config.json")
    del saved["protocol"]
    write_json(run / "config.json", saved)
    (run / "manifest.json").unlink()
    images = assemble_manifest(run)
    assert "protocol" not in read_json(run / "manifest.json") and "protocol" not in images.saved
    before = contents(run)
    tiny.recover(tmp_path)
    tiny.relabel(run)
    found = tiny.validate(run, "--seeds", 0, 1, 2)
    assert {path: digest for path, digest in contents(run).items() if path in before
            and not path.endswith("results.json")} == {
        path: digest for path, digest in before.items() if not path.endswith("results.json")}
    older, newer = found["results"][0], found["results"][2]
    assert older["config"] == newer["config"] and older["images"] == newer["images"]
    assert older["labels"] == newer["labels"] and newer["images_protocol"] is None


def test_last_and_best_epochs_are_summarized_each_by_itself(tmp_path):
    found = results.report(write_students(tmp_path, {0: 0.4, 1: 0.5, 4: 0.3}, best=0.05))
    spread = numpy.std([0.4, 0.5, 0.3], ddof=1)
    assert found["last_top1"] == {"mean": pytest.approx(0.4), "std": pytest.approx(spread)}
    assert found["best_top1"] == {"mean": pytest.approx(0.45), "std": pytest.approx(spread)}
    assert found["last_top5"] == found["best_top5"] == {"mean": pytest.approx(0.9), "std": pytest.approx(0)}
    assert (found["n"], found["seeds"]) == (3, [0, 1, 4])
