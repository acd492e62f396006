"""Methods side by side: what is compared with what, that nothing runs twice, and what the tables say."""
import csv
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PROCESS, modification_times, words, write_data

from models import train_teachers
from recover.data_synthesis import RecoverConfig, presets
from scripts import compare
from scripts.comparing import basis, cells, comparison, figures, picture, summary
from scripts.comparing.cells import Cell, cells_of, compared_methods
from scripts.comparing.figures import Figures
from scripts.reproducing import launch, small_recipes
from scripts.reproducing.costs import Cost
from scripts.reproducing.plans import with_hard_labels
from scripts.reproducing.small_recipes import RECIPES, folder_of, recipe_of
from utils.flags import build_config, flags_of, parse_config
from utils.methods import METHODS, Method
from utils.pieces import flatten
from utils.records import read_json

pytest_plugins = ["stage_fixtures"]
LABELS = {"ensemble": "primary", "batch_size": 10}
STUDENTS = {"loss_type": "kl", "schedule": "cosine", "gradient_accumulation_steps": 1}


def method(name: str, recover: dict | None, **more) -> Method:
    return Method(name=name, source=f"{name}'s paper", code="none", absent="it is a protocol",
                  recover=recover, relabel=LABELS | more, validate=STUDENTS)


SINGLE = {"teachers": "single", "iteration_step": 0, "arch_name": "resnet18", "pool": ("resnet18",)}
FAKES = {
    "random": method("random", SINGLE | {"init": "random", "iteration": 0}),
    "herding": method("herding", SINGLE | {"init": "real", "iteration": 0}),
    "drawn": method("drawn", SINGLE | {"init": "noise"}, min_scale_crops=0.7),
    "usual": method("usual", None), "too-large": method("too-large", SINGLE | {"arch_name": "resnet101"}),
    # Whose weights are nowhere:
    "unseen": method("unseen", SINGLE | {"verifier": True, "verifier_arch": "narrow_mobilenet"})}


@pytest.fixture
def fakes(monkeypatch):
    """Methods of a single teacher, random real images the only control, budgets of moments."""
    for name, own in FAKES.items():
        monkeypatch.setitem(METHODS, name, own)
    monkeypatch.setattr(cells, "CONTROLS", ("random",))
    monkeypatch.setattr(compare, "STRANGER", "narrow_plain")
    for name, recipe in {"digits": RECIPES["digits"], "folder": small_recipes.FOLDER}.items():
        networks = {own: "" if own == "resnet101" else "narrow_plain" for own in recipe.networks}
        small = dataclasses.replace(
            recipe, networks=networks, iterations=2 / 4000, epochs=2 / 300, recover=recipe.recover | {
                "size": 16}, teachers=recipe.teachers | {"epochs": 6, "batch_size": 8, "size": 16})
        if name == "digits":
            monkeypatch.setitem(RECIPES, "digits", small)
        else:
            monkeypatch.setattr(small_recipes, "FOLDER", small)


# ---------------------------------------------------------------- which cells

def test_every_method_runs_under_its_own_and_the_common_protocol_and_random_under_all(fakes):
    found = cells_of(["random", "drawn", "unseen"], common="usual", ipcs=[10, 1])
    expected = [("random", "usual"), ("random", "random"), ("drawn", "usual"), ("drawn", "drawn"),
                ("random", "drawn"), ("unseen", "usual"), ("unseen", "unseen"), ("random", "unseen")]
    assert found == [Cell(*pair, ipc) for ipc in (1, 10) for pair in expected]
    assert {cell.reference for cell in found} <= set(found)  # every difference has its counterpart
    assert len(cells_of(["random", "drawn"], common="drawn", ipcs=[1])) == 3  # its own is the common one


def test_methods_are_what_makes_images_with_soft_labels(fakes):
    assert compared_methods(["drawn", "drawn"]) == ["random", "drawn"]
    every = compared_methods()
    assert every[0] == "random" and {"prism", "sre2l", "drawn"} < set(every)
    assert not {"usual", "recovery-only"} & set(every)
    for name, error in {"usual": "usual makes no images: it is a protocol", "x": "expected one of",
                        "recovery-only": "has no soft labels"}.items():
        with pytest.raises(ValueError, match=error):
            compared_methods([name])


def config_of(out, *flags) -> compare.CompareConfig:
    words_, own = compare.split_words(words("--out", out, *flags))
    assert words_ == []
    return compare.parse_config(compare.CompareConfig, own)


def test_a_cells_plan_shares_what_the_protocols_share(fakes, tmp_path):
    config = config_of(tmp_path, "--ipc", "4", "--common", "usual", "--draws", "2")
    usual, own = (config.plan(Cell("drawn", name, 4), 1) for name in ("usual", "drawn"))
    assert usual.run == own.run and usual.labels != own.labels and usual.students != own.students
    assert usual.recover.protocol == "drawn" and usual.recover.seed == 1 == usual.relabel.seed
    assert usual.validate.seeds == (1,) and usual.recover.slices_per_batch == 2  # gcd of 10 and 4
    assert config.plan(Cell("drawn", "usual", 4), 0).run != usual.run
    hard = with_hard_labels(own)
    assert hard.run == own.run and hard.relabel is None
    assert hard.students not in (usual.students, own.students)
    values = flatten(hard.validate)
    assert (values["loss_type"], values["fkd_path"], values["epochs"], values["batch_size"],
            values["min_scale_crops"], values["mix_type"]) == ("ce", "", 2, 10, 0.7, None)
    same = flatten(own.validate)
    assert all(values[name] == same[name] for name in ("optimizer", "adamw_lr", "schedule", "seeds", "model"))
    assert with_hard_labels(hard) is hard


def test_indices_are_made_one_by_one_where_a_method_wants_that(fakes, monkeypatch, tmp_path):
    monkeypatch.setitem(METHODS, "alone", method("alone", SINGLE | {"allow_short_classes": True}))
    assert config_of(tmp_path).plan(Cell("alone", "usual", 10), 0).recover.slices_per_batch == 1
    with pytest.raises(ValueError, match="needs resnet101"):  # the reason, not that of a second try
        config_of(tmp_path).plan(Cell("too-large", "usual", 10), 0)


def test_commands_hold_where_a_methods_settings_go_with_the_ipc(fakes, monkeypatch):
    def vary(stage, case):
        return {"lr": 0.3 if case.ipc == RecoverConfig.ipc_end else 0.1} if stage == "recover" else {}
    monkeypatch.setitem(METHODS, "varied", dataclasses.replace(FAKES["drawn"], name="varied", vary=vary))
    for given in ({}, {"lr": 0.3}):
        own = build_config(RecoverConfig, {"protocol": "varied", "ipc_end": 4, "slices_per_batch": 4} | given,
                           presets=presets)
        assert own.lr == given.get("lr", 0.1)
        assert parse_config(RecoverConfig, flags_of(own, presets=presets), presets=presets) == own


def test_a_start_of_the_whole_set_has_a_run_of_its_own_for_every_ipc(fakes, tmp_path, monkeypatch):
    def runs():
        return {config_of(tmp_path, "--slices", 1).plan(Cell("random", "random", ipc), 0).run
                for ipc in (1, 10)}
    assert len(runs()) == 1
    monkeypatch.setattr("recover.starts.real.RandomImage.whole_set", True)
    assert len(runs()) == 2


def test_real_starts_of_methods_are_not_replaced(fakes, tmp_path):
    plan = config_of(tmp_path).plan(Cell("random", "random", 10), 0)
    assert flatten(plan.recover)["init"] == "random" and not plan.recover.optimises


def test_a_folder_of_pictures_has_a_recipe_and_a_name(tmp_path):
    here, there = (folder_of(f"folder:{tmp_path}/{name}/pets") for name in ("a", "b"))
    assert here.startswith("folder-pets-") and here != there and folder_of("digits") == "digits"
    assert recipe_of("folder:x").recover["size"] == recipe_of("folder:x").teachers["size"] == 32
    assert recipe_of("digits") is RECIPES["digits"]


@pytest.mark.parametrize("argv, methods, rest", [
    (["prism", "sre2l", "--draws", "5"], ["prism", "sre2l"], ["--draws", "5"]),
    (["--out", "o", "--ipc", "1,10", "prism"], ["prism"], ["--out", "o", "--ipc", "1,10"]),
    (["--dry-run", "prism", "sre2l"], ["prism", "sre2l"], ["--dry-run"]),
    (["--draws", "5", "--common", "prism"], [], ["--draws", "5", "--common", "prism"]),
    (["--ipc", "1", "10"], [], ["--ipc", "1", "10"]), ([], [], [])])
def test_methods_stand_before_or_behind_the_flags(argv, methods, rest):
    assert compare.split_words(argv) == (methods, rest)


@pytest.mark.parametrize("argv, error", [
    (["--ipc", "1,x"], "--ipc must be numbers in [1, 10000], got 1 x"), (["--ipc", "0"], "--ipc must be"),
    (["--under", "hard"], "--under hard: expected some of common, own, hard, common or own among them"),
    (["--under", "own,soft"], "--under own soft: expected"),
    (["--only-draws", "3"], "--only-draws (3,): there are 3, from 0"),
    (["--common", "recovery-only"], "--common recovery-only: expected a protocol with soft labels"),
    (["--dataset", "imagenet-1k"], "expected digits, cifar10, cifar10-full or folder:PATH"),
    (["nobody"], "--protocol nobody: expected one of"), (["--draws", "0"], "--draws must be in [1, 1000]")])
def test_bad_words_are_refused(argv, error, refused, tmp_path):
    assert error in refused(compare.main, [*argv, "--out", tmp_path])
    assert not list(tmp_path.iterdir())


def test_the_script_passes_methods_places_and_flags_in_order(tmp_path):
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    done = subprocess.run(
        ["sh", str(Path(__file__).parents[1] / "scripts" / "compare.sh"), "prism", "edc", "--ipc", "1,10"],
        env={"PATH": os.environ["PATH"], "PYTHON": str(stub), "OUT": "/o", "IMAGENET": "/a b"}, text=True,
        capture_output=True, check=True)
    assert done.stdout.splitlines() == ["-m", "scripts.compare", "prism", "edc", "--out", "/o",
                                        "--train-data-path", "/a b", "--ipc", "1,10"]


# ---------------------------------------------------------------- figures and tables

def made(top1: float, *, hard: float | None = 50.0) -> Figures:
    return Figures(top1=top1, best=top1 + 1, hard=hard, cosine=0.5, image_bytes=2000, label_bytes=30000,
                   seconds={"recover": 10.0, "relabel": 2.0, "validate": 3.0})


def draws(*top1: float) -> dict[int, Figures]:
    return {draw: made(value) for draw, value in enumerate(top1)}


def test_a_difference_is_paired_by_draw_with_students_t():
    # Differences 1, 2, 3 and 6: mean 3, variance 14/3, standard error sqrt(14/12); t(3) = 3.182446.
    reference = draws(80, 70, 60, 50)
    found = summary.difference(draws(81, 72, 63, 56), reference)
    half = 3.182446 * (14 / 12) ** 0.5
    assert found.mean == pytest.approx(3) and found.interval == pytest.approx((3 - half, 3 + half))
    assert summary.difference_text(found) == "+3.0 (-0.4 to +6.4)"
    others = {2: made(63), 0: made(81), 7: made(0)}  # in any order; a draw that one of them lacks is left out
    assert summary.difference(others, reference).each == pytest.approx([1, 3])
    assert summary.difference({1: made(72)}, reference) == pytest.approx(2)
    assert summary.difference_text(2.0) == "+2.0"
    assert summary.difference({9: made(1)}, reference) is None and summary.difference_text(None) == "-"


def a_cost(tflops: float) -> Cost:
    own = {field.name: 0 for field in dataclasses.fields(Cost)}
    return Cost(**own | {"recover_flops": tflops * 1e12})


def some_tables() -> summary.Tables:
    """Three methods at IPC 10, of which one could not run."""
    lines = {}
    for protocol in ("usual", "random", "drawn", "unseen"):
        lines[Cell("random", protocol, 10)] = (draws(70, 72), "")
    for protocol in ("usual", "drawn"):
        lines[Cell("drawn", protocol, 10)] = (draws(80, 83) if protocol == "usual" else draws(60), "")
    for protocol in ("usual", "unseen"):
        lines[Cell("unseen", protocol, 10)] = ({}, "needs 100 % more")
    return summary.Tables(common="usual", dataset="digits", draws=2, students=1, stranger="narrow_plain",
                          scales="Scaled.", lines={
                              cell: summary.Line(cell=cell, draws=own, why=why, cost=a_cost(2.5),
                                                 reference=lines[cell.reference][0])
                              for cell, (own, why) in lines.items()})


def test_tables_are_sorted_by_the_common_protocol_and_say_what_they_are_of(fakes):
    common, own = some_tables().markdown().split("\n## ")
    rows = [line.split(" | ") for line in common.splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in rows] == ["method", "drawn", "random", "unseen"]
    assert rows[1][1:] == [
        "81.5 +- 2.1", "+10.5 (+4.1 to +16.9)", "2", "82.5 +- 2.1", "50.0 +- 0.0", "0.500 +- 0.000",
        "10.0, 2.0, 3.0", "2.5", "2.0 kB", "30.0 kB |"]
    assert rows[2][1:3] == ["71.0 +- 1.4", "-"] and rows[3][1:4] == ["-", "-", "0"]
    for text in ("Data set digits, IPC 10, n up to 2: draws", "usual for all, usual's paper", "Scaled.",
                 "Left out: unseen: needs 100 % more."):
        assert text in common
    rows = [line.split(" | ") for line in own.splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in rows] == ["method", "drawn", "random", "unseen"]
    assert rows[0][-1] == "random, same protocol |" and rows[1][-1] == "71.0 +- 1.4 |"
    assert rows[1][1:4] == ["60.0", "-10.0", "1"]  # one draw has neither spread nor interval


def test_every_form_holds_every_cell(fakes):
    tables = some_tables()
    rows = list(csv.DictReader(tables.csv().splitlines()))
    assert [(row["method"], row["protocol"]) for row in rows] == [
        (cell.method, cell.protocol) for cell in tables.lines]
    found = next(row for row in rows if row["method"] == row["protocol"] == "drawn")
    assert (found["top1"], found["top1_std"], found["n"], found["to_random_low"]) == ("60.0", "", "1", "")
    assert float(found["to_random"]) == -10
    assert float(rows[0]["tflops"]) == 2.5 and rows[-1]["left_out"] == "needs 100 % more"
    told = json.loads(json.dumps(tables.json()))
    assert told["cells"][4]["draws"]["1"]["top1"] == 83 and len(told["cells"]) == len(rows)
    text = tables.latex()
    assert text.count(r"\begin{tabular}") == 2 and r"81.5 $\pm$ 2.1" in text and "100 %" in text
    assert all(line.startswith("%") for line in text.splitlines() if "needs 100" in line)


def test_seconds_are_of_every_session_and_of_the_indices_asked_for(tmp_path):
    rows = [(0, 0.5), (0, 2.0), (3, 5.0), (3, 1.0), (1, 4.0)]  # a kill lies before the fourth line
    (tmp_path / "log.jsonl").write_text("".join(
        json.dumps({"ipc_id": ipc_id, "elapsed_s": now}) + "\n" for ipc_id, now in rows) + '{"half')
    assert figures.recover_seconds(tmp_path, 4) == pytest.approx(5 + 4)
    assert figures.recover_seconds(tmp_path, 2) == pytest.approx(2 + 3)
    epochs = [{"epoch": 0, "seconds_per_epoch": 9.0}, {"epoch": 0, "seconds_per_epoch": 2.0},
              {"epoch": 1, "seconds_per_epoch": 3.0}]  # an epoch that was made again
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in epochs))
    assert figures.relabel_seconds(tmp_path) == 5 and figures.relabel_seconds(None) == 0


def test_names_in_a_picture_keep_their_order_and_their_distance():
    heights = picture.name_heights([5, 1, 1.1, 9.9], low=0, high=10, gap=1)
    assert heights == pytest.approx([5, 0.55, 1.55, 9.9])
    heights = picture.name_heights([9.9, 9.8, 9.7], low=0, high=10, gap=1)
    assert heights == pytest.approx([10, 9, 8])


def test_a_picture_has_a_panel_a_table(fakes):
    pytest.importorskip("matplotlib")
    assert picture.draw_picture(some_tables()).startswith(b"\x89PNG")


# ---------------------------------------------------------------- variants, kinds of labels, sets of teachers

def write_variants(tmp_path, **variants) -> str:
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(variants or {
        "drawn-longer": {"method": "drawn", "recover": {"iteration": 7}, "why": "cost"},
        "drawn-cropped": {"method": "drawn", "relabel": {"min_scale_crops": 0.3, "epochs": 5}}}))
    return str(path)


def test_a_variant_is_its_method_with_its_own_settings_unscaled(fakes, tmp_path):
    config = config_of(tmp_path, "--common", "usual", "--variants", write_variants(tmp_path))
    assert compared_methods((), config.known) == ["random", "drawn", "drawn-longer", "drawn-cropped"]
    assert compared_methods(["drawn-longer"], config.known) == ["random", "drawn-longer"]

    def planned(method: str, protocol: str):
        return config.plan(Cell(method, protocol, 2), 0)
    base, longer = planned("drawn", "drawn"), planned("drawn-longer", "drawn-longer")
    assert base.recover.iteration == 2 and longer.recover.iteration == 7  # the recipe scales by 2 / 4000
    assert base.run != longer.run and base.relabel.epochs == longer.relabel.epochs == 2
    cropped = planned("drawn-cropped", "drawn-cropped")
    assert cropped.run == base.run and cropped.labels != base.labels  # the same images, labelled otherwise
    assert (cropped.relabel.epochs, cropped.relabel.min_scale_crops) == (5, 0.3)
    assert planned("drawn-cropped", "usual").students == planned("drawn", "usual").students
    half = config_of(tmp_path, "--common", "usual", "--variants", write_variants(tmp_path, half={
        "method": "drawn", "recover": {"precision": "bf16"}})).plan(Cell("half", "half", 2), 0)
    assert half.recover.precision == "bf16" and half.run != base.run and half.validate.precision == "fp32"
    reference = planned("random", "drawn-cropped")  # real images under the variant's own labels
    assert reference.relabel.epochs == 5 and reference.recover.protocol == "random"


@pytest.mark.parametrize("under, pairs", [
    (("common", "hard"), [("random", "usual"), ("drawn-longer", "usual")]),
    (("own",), [("random", "random"), ("drawn-longer", "drawn-longer"), ("random", "drawn-longer")])])
def test_kinds_of_labels_are_chosen(fakes, tmp_path, under, pairs):
    config = config_of(tmp_path, "--common", "usual", "--under", *under, "--variants",
                       write_variants(tmp_path))
    found = comparison.Comparison(config, compared_methods(["drawn-longer"], config.known))
    assert [(cell.method, cell.protocol) for cell in found.cells] == pairs
    assert (found.hard_plan(found.cells[-1], 0) is not None) is ("hard" in under)
    tables = found.tables()
    assert len(tables.titled()) == 1 and list(tables.variants) == ["drawn-longer"]
    assert "drawn-longer is drawn with recover --iteration 7." in tables.markdown()
    assert tables.json()["variants"] == {
        "drawn-longer": {"method": "drawn", "recover": {"iteration": 7}, "why": "cost"}}
    name = compare.name_of(config, ["drawn-longer"]).split("-")
    assert "-".join(name[:2] + name[3:]) == "-".join(
        ["usual", "changed", "drawn-longer", *sorted(under), "ipc", "10"])
    write_variants(tmp_path, **{"drawn-longer": {"method": "drawn", "recover": {"iteration": 8}}})
    other = config_of(tmp_path, "--common", "usual", "--under", *under, "--variants", config.variants)
    assert compare.name_of(other, ["drawn-longer"]) != "-".join(name)  # another file of the same name


@pytest.mark.parametrize("variants, error", [
    ({"prism": {"method": "drawn"}}, "prism: expected a name of small letters"),
    ({"a b": {"method": "drawn"}}, "a b: expected a name"),
    ({"x": {"recover": {}}}, "x: expected an object with a method"),
    ({"x": {"method": "drawn", "recovery": {}}}, "x: got recovery, expected some of method, recover"),
    ({"x": {"method": "usual"}}, "x: usual makes no images"),
    ({"x": {"method": "nobody"}}, "--protocol nobody: expected one of"),
    ({"x": {"method": "drawn", "recover": [1]}}, "x: expected option -> value"),
    ({"best-selected": {"method": "drawn"}}, "best-selected: expected a name"),
    ({"x": {"method": "drawn", "recover": {"protocol": "random"}, "validate": {"seeds": [1]}}},
     "x: got protocol, seeds, which the comparison says itself"),
    ({"x": {"method": "drawn", "recover": {"iterations": 3}}}, "x under usual, IPC 10: .*iterations"),
    ({"x": {"method": "drawn", "recover": {"iteration": -3}}}, "x under usual, IPC 10: .*iteration")])
def test_bad_variants_are_refused_in_one_line(fakes, tmp_path, refused, variants, error):
    line = refused(compare.main, ["--out", tmp_path, "--common", "usual", "--dry-run", "--variants",
                                  write_variants(tmp_path, **variants)])
    assert re.search(error, line), line


def test_names_beside_a_file_name_some_of_its_variants(fakes, tmp_path, refused):
    line = refused(compare.main, ["drawn", "--out", tmp_path, "--common", "usual", "--dry-run", "--variants",
                                  write_variants(tmp_path, half={"method": "drawn"})])
    assert "drawn: no variant of --variants" in line and "name some of half" in line, line


def test_draws_take_sets_of_teachers_in_turn(fakes, tmp_path):
    config = config_of(tmp_path, "--common", "usual", "--weights-dir", "a", "b")
    assert [config.teachers_dir(draw) for draw in range(3)] == ["a", "b", "a"]
    assert config.plan(Cell("drawn", "drawn", 2), 1).recover.weights_dir == "b"
    with pytest.raises(ValueError, match="--weights-dir a b/../a: one set twice"):
        config_of(tmp_path, "--weights-dir", "a", "b/../a")
    words = comparison.Comparison(config, ["random"]).tables().markdown()
    assert "draws (2 sets of teachers in turn) of images, labels and students" in words


# ---------------------------------------------------------------- end to end

@pytest.fixture
def calls(fakes, monkeypatch) -> list[str]:
    """The stages whose mains were called."""
    called: list[str] = []
    mains = dict(launch.MAINS) | {"teachers": train_teachers.main, "diversity": figures.diversity.main}

    def counted(name):
        def run(argv):
            called.append(name)
            return mains[name](argv)
        return run
    for stage in launch.MAINS:
        monkeypatch.setitem(launch.MAINS, stage, counted(stage))
    monkeypatch.setattr(figures.diversity, "main", counted("diversity"))
    return called


def test_a_comparison_runs_once_goes_on_after_a_kill_and_leaves_out_what_cannot_run(
        calls, tmp_path, capsys, monkeypatch):
    data = write_data(tmp_path / "pets")
    argv = ["drawn", "unseen", "too-large", "--dataset", f"folder:{data}", "--out", str(tmp_path / "out"),
            "--ipc", "2", "--draws", "2", "--common", "usual", *PROCESS]
    tables = tmp_path / "out" / folder_of(f"folder:{data}") / "comparison"
    name = "usual-drawn-unseen-too-large-ipc-2"
    relabel = launch.MAINS["relabel"]

    def killed(argv):
        if calls.count("recover") == 2:
            raise KeyboardInterrupt
        return relabel(argv)
    monkeypatch.setitem(launch.MAINS, "relabel", killed)
    with pytest.raises(KeyboardInterrupt):
        compare.main([*argv, "--only-draws", "0"])
    monkeypatch.setitem(launch.MAINS, "relabel", relabel)
    assert "| random | " in (tables / f"{name}.md").read_text()  # the rows appear as they finish
    # Random real images with soft labels and hard ones (its own protocol is the usual one); drawn's images.
    first = ["recover", "relabel", "validate", "validate", "diversity"]
    assert calls == [*first, "recover"]
    calls.clear()
    compare.main([*argv, "--only-draws", "0"])
    own = ["relabel", "validate"]
    assert calls == [*first[1:], *own, *own, "recover", "recover"]  # the last two refuse: unseen under both
    said = capsys.readouterr()
    assert f"draw 0: {Cell('unseen', 'usual', 2)} is left out: " in said.err
    assert "Left out: too-large: needs resnet101, which has no counterpart on this data set." in said.out
    calls.clear()
    compare.main(argv)
    assert calls.count("recover") == 2 + 2 + 2  # unseen's in both draws, and draw 1's two other image sets
    rows = {(row["method"], row["protocol"]): row for row in csv.DictReader(
        (tables / f"{name}.csv").read_text().splitlines())}
    assert {row["n"] for pair, row in rows.items() if pair[0] in ("random", "drawn")} == {"2"}
    assert "narrow_mobilenet" in rows["unseen", "usual"]["left_out"]
    check_cell(rows["drawn", "drawn"], tables / f"{name}.json")

    argv.remove("unseen")
    compare.main(argv)
    files = modification_times(tmp_path)
    calls.clear()
    compare.main(argv)
    assert calls == []  # nothing that exists is run again
    changed = {path for path, when in modification_times(tmp_path).items() if files.get(path) != when}
    assert {Path(path).parent.as_posix() for path in changed} == {tables.relative_to(tmp_path).as_posix()}
    capsys.readouterr()
    compare.main([*argv, "--list"])
    assert capsys.readouterr().out.count(" done; hard labels done") == 2 * 6
    compare.main([*argv, "--dry-run", "--only-draws", "1"])
    shown = capsys.readouterr().out
    assert shown.count("-m recover.data_synthesis") == 6 and shown.count("-m validate.train_FKD") == 12
    assert "8 images, 0 iterations" in shown and "8 images, 4 iterations of 1.0 networks" in shown


def check_cell(row: dict[str, str], told: Path) -> None:
    """A cell's numbers against the results on disk, read anew."""
    every = read_json(told)["cells"]
    own, other = (next(cell for cell in every if cell["method"] == name and cell["protocol"] == "drawn")
                  for name in ("drawn", "random"))
    results = [read_json(path) for path in told.parents[1].glob("images_*/students_*/seed*/result.json")]
    mine = {result["seed"]: 100 * result["last"]["top1"] for result in results
            if result["protocol"]["name"] == "drawn" and result["images_protocol"]["name"] == "drawn"
            and result["config"]["loss_type"] == "kl"}
    assert {int(draw): figures["top1"] for draw, figures in own["draws"].items()} == pytest.approx(mine)
    assert float(row["top1"]) == pytest.approx(sum(mine.values()) / 2)
    each = [mine[draw] - other["draws"][str(draw)]["top1"] for draw in (0, 1)]
    half = 12.706205 * abs(each[0] - each[1]) / 2  # standard error of two: half their distance
    assert float(row["to_random"]) == pytest.approx(sum(each) / 2)
    assert float(row["to_random_high"]) - float(row["to_random"]) == pytest.approx(half)
    pictures = sorted(told.parents[1].glob("images_*/syn/*/*"))
    assert int(row["image_bytes"]) < sum(path.stat().st_size for path in pictures)
    assert all(float(row[name]) > 0 for name in ("recover_s", "relabel_s", "validate_s", "tflops", "hard"))


def test_a_folder_is_of_one_set_of_data_and_each_draw_of_one_set_of_teachers(tmp_path):
    data, more = write_data(tmp_path / "pets"), write_data(tmp_path / "more")
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "narrow_plain.pt").write_text(name)

    def bound(draw: int, *weights: str, where=data):
        folders = [tmp_path / name for name in weights]
        config = config_of(tmp_path, "--dataset", "cifar10", "--weights-dir", *folders)
        return basis.bind(tmp_path / "tables" / "basis.json", dataclasses.replace(
            config, dataset=f"folder:{where}"), draw)
    first = bound(0, "a", "b")
    assert first["data"]["train_images"] > 4 and bound(0, "a") == first
    second = bound(1, "a", "b")["teachers"]
    assert second["0"] == first["teachers"]["0"] != second["1"]
    with pytest.raises(ValueError, match="is of other teachers of draw 1: .*; choose another --out"):
        bound(1, "a")
    next((more / "train").rglob("*.png")).unlink()
    with pytest.raises(ValueError, match="is of other data: .*; choose another --out"):
        bound(2, "a", where=more)
    assert read_json(tmp_path / "tables" / "basis.json")["teachers"] == second


def test_diversity_is_left_out_with_its_network(calls, tmp_path):
    data = write_data(tmp_path / "pets")
    argv = ["drawn", "--dataset", f"folder:{data}", "--out", str(tmp_path / "out"), "--ipc", "2", "--draws",
            "1", "--common", "usual", "--under", "own", *PROCESS]
    compare.main([*argv, "--no-diversity"])
    assert "diversity" not in calls and not list(tmp_path.glob("out/*/stranger"))
    calls.clear()
    compare.main([*argv, "--no-diversity"])
    assert calls == []
    compare.main(argv)
    assert calls == ["diversity", "diversity"]  # random's and drawn's, of what is there


def test_without_matplotlib_one_line_says_so(fakes, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    config = config_of(tmp_path, "--common", "usual")
    comparison.Comparison(config, ["random"]).write("x", drawn=True)
    assert "requirements-figures.txt" in capsys.readouterr().err
    assert {path.suffix for path in config.comparison.iterdir()} == {".md", ".csv", ".tex", ".json"}
