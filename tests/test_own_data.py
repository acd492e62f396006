"""A new user's road: the commands of docs/own-data.md, what stages take from a run, what they show."""
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import POOL, PROCESS, modification_times, words, write_data

from models import train_teachers
from models.places import inherited_places, inherited_pool
from recover import data_synthesis
from relabel import generate_soft_label
from relabel.generate_soft_label import RelabelConfig
from utils import runtime
from utils.augment import normalize
from utils.files import write_json
from utils.flags import flags_of, parse_config
from utils.formats import assemble_manifest, open_labels
from utils.loading import load_distilled
from utils.methods import METHODS
from utils.records import Run, find_record, read_json
from validate import diversity, results, train_FKD

pytest_plugins = ["stage_fixtures"]
ROOT = Path(__file__).parents[1]


def block(page: str, name: str) -> str:
    """The code that stands between a page's markers."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found, = re.findall(rf"<!-- {name} -->\n```\w+\n(.*?)```\n<!-- end of {name} -->", text, re.DOTALL)
    return found


@pytest.fixture
def no_flags(made, tmp_path) -> Path:
    """A finished run, its labels and students gone."""
    run = shutil.copytree(made, tmp_path / "run")
    for folder in ("fkd", "validate"):
        shutil.rmtree(run / folder)
    return run


# ---------------------------------------------------------------- the pages' code

def commands_of(script: str, folder: Path, **env) -> list[tuple[str, list[str]]]:
    """(module, words) of every `python -m` that a script would run."""
    stub = folder / "python"
    stub.write_text('#!/bin/sh\nfor word; do printf "%s\\t" "$word"; done\necho\n')
    stub.chmod(0o755)
    kept = {"PATH": f"{folder}:{os.environ['PATH']}", **{name: str(value) for name, value in env.items()}}
    done = subprocess.run(["sh", "-eu", "-c", script], env=kept, capture_output=True, text=True, check=True)
    lines = [line.split("\t")[:-1] for line in done.stdout.splitlines()]
    assert all(line[0] == "-m" for line in lines) and not done.stderr
    return [(module, argv) for _, module, *argv in lines]


def test_the_commands_for_ones_own_photographs(tmp_path, capfd):
    data, out = write_data(tmp_path / "photos", classes=("apple", "pear", "plum"), size=20), tmp_path / "out"
    script = block("docs/own-data.md", "commands")
    assert 8 <= script.count("python -m") <= 12
    commands = commands_of(script, tmp_path, DATA=data, OUT=out, SIZE=16, IPC=2, DRAWS="0 1", ITERATIONS=2,
                           EPOCHS=2, TEACHER_EPOCHS=15)
    assert [module for module, _ in commands].count("validate.train_FKD") == 4
    for module, argv in commands:
        if module == "validate.results" and "A0,A1" not in (results.__doc__ or ""):
            continue  # it does not read several draws yet
        importlib.import_module(module).main(argv)
    shown, told = capfd.readouterr()
    assert "train, of narrow_resnet narrow_mobilenet" in shown and "at 16 px" in shown
    assert "every check passed" in told and "of 9 test images right after 2 of 2 epochs" in told
    for run in ("prism0", "prism1", "real0", "real1"):
        assert read_json(out / run / "fkd" / "2" / "config.json")["teachers"][0] == "narrow_resnet"
        assert read_json(out / run / "validate" / "narrow_resnet" / "results.json")["n"] == 1
    files = {run: [p.read_bytes() for p in sorted((out / run).glob("syn/*/*"))] for run in ("real0", "real1")}
    assert files["real0"] != files["real1"] and len(files["real0"]) == 6


def test_links_of_the_page_lead_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "docs/own-data.md").read_text(encoding="utf-8"))
    assert len(links) > 3 and all((ROOT / "docs" / link).exists() for link in links)


def test_the_loader_of_the_readme_is_what_students_are_shown(tiny, made, tmp_path):
    space: dict = {}
    exec(block("relabel/README.md", "loader"), space)
    tiny.relabel(made, "--fkd-path", tmp_path / "fkd", "--ipc", 1, "--epochs", 1, "--batch-size", 3)
    run = shutil.copytree(made, tmp_path / "run")
    shutil.copytree(tmp_path / "fkd" / "1", run / "fkd" / "1")
    images = assemble_manifest(run)
    for ipc, epochs in ((2, 3), (1, 1)):
        labels = open_labels(str(run / "fkd"), ipc)
        pixels, classes = load_distilled(run, images.select(ipc), size=images.size)
        for epoch in range(epochs):
            drawn, stored = labels.load(epoch)
            assert len(drawn) == 2
            for batch in range(len(drawn)):
                index = drawn.index[drawn.rows(batch)].long()
                views, targets, logits = space["stored_batch"](str(run), ipc, epoch, batch)
                expected = drawn.render(pixels[index], batch, mean=images.mean, std=images.std)
                torch.testing.assert_close(views, expected, rtol=0, atol=1e-5)
                assert torch.equal(targets, classes[index])
                assert torch.equal(logits, stored["logits"][drawn.rows(batch)].float())


def test_a_small_student_loads_in_the_readmes_three_lines(tiny, made, monkeypatch):
    monkeypatch.chdir(made / "validate" / "narrow_resnet")
    space = {"torch": torch}
    code = block("validate/README.md", "student")
    assert len(code.splitlines()) == 3
    exec(code, space)
    real = train_FKD.RealSet(f"folder:{tiny.data}", "", "val", size=16)
    about = read_json(made / "manifest.json")
    images = normalize(torch.stack([real[i][0] for i in range(len(real))]), about["mean"], about["std"])
    right = (space["student"](images).argmax(1) == torch.tensor(real.labels)).float().mean().item()
    assert right == pytest.approx(read_json(Path("seed0/result.json"))["last"]["top1"])


# ---------------------------------------------------------------- what stages take from a run

def test_relabel_and_validate_take_pool_and_weights_from_the_run(tiny, no_flags, monkeypatch, capfd):
    assert read_json(no_flags / "places.json") == {"weights": [], "weights_dir": str(tiny.teachers)}
    assert "places.json" not in json.dumps(read_json(no_flags / "config.json"))
    short = words("--epochs", 2, "--batch-size", 5, *PROCESS)
    monkeypatch.setattr(runtime, "_said", set())
    folder = generate_soft_label.main(words("--data", no_flags / "syn", *short))
    assert read_json(folder / "config.json")["teachers"] == list(POOL)
    told = capfd.readouterr().err
    assert f"by {' + '.join(POOL)}, equal-norm" in told and "one step an epoch" not in told
    online = generate_soft_label.main(words("--data", no_flags, "--fkd-path", no_flags / "online", *short,
                                            "--label-format", "online", "--batch-size", 8))
    assert "all 8 images make one batch of 8, so a student takes one step" in capfd.readouterr().err
    summary = train_FKD.main(words("--train-dir", no_flags, "--fkd-path", online, "--model", POOL[0],
                                   *PROCESS))
    assert summary["n"] == 1
    assert diversity.main(words("--data", no_flags, "--arch-name", POOL[2], *PROCESS))["mean"] <= 1


def test_flags_win_over_what_the_run_says(tiny, no_flags, refused, tmp_path):
    def parsed(*flags) -> RelabelConfig:
        return parse_config(RelabelConfig, words("--data", no_flags, *flags),
                            presets=generate_soft_label.presets)
    pairs = (f"{POOL[1]}=there.pt",)
    assert parsed("--pool", *POOL[:2]).teacher_names == POOL[:2]
    assert parsed("--arch-name", POOL[1]).teacher_names == (POOL[1], POOL[0], *POOL[2:])
    config = parsed("--weights", *pairs)
    assert (config.weights, config.weights_dir) == (pairs, str(tiny.teachers))
    assert parsed("--weights-dir", "x").weights_dir == "x"
    assert parse_config(RelabelConfig, flags_of(config, presets=generate_soft_label.presets),
                        presets=generate_soft_label.presets) == config
    tiny.recover(tmp_path, "--exp-name", "paired", "--weights", f"{POOL[0]}={tiny.teachers / POOL[0]}.pt")
    assert inherited_places(str(tmp_path / "paired"), {})["weights"] == (
        f"{POOL[0]}={tiny.teachers / POOL[0]}.pt",)
    assert inherited_places(str(tmp_path / "paired"), {"weights_dir": "x"}) == {}
    line = refused(generate_soft_label.main, words("--data", no_flags, "--weights-dir", tmp_path))
    assert f"no weights for {POOL[0]}" in line and f"{tmp_path / POOL[0]}.pt" in line


def test_what_a_run_does_not_say_is_asked_for(no_flags, refused):
    gone = read_json(no_flags / "places.json") | {"weights_dir": "/gone"}
    write_json(no_flags / "places.json", gone)
    line = refused(generate_soft_label.main, words("--data", no_flags))
    assert f"expected /gone/{POOL[0]}.pt" in line and "--weights-dir" in line and "places.json" in line
    (no_flags / "places.json").unlink()
    assert "expected --weights-dir;" in refused(generate_soft_label.main, words("--data", no_flags))
    for damage in ("{}", "[]", '{"weights": {}, "weights_dir": ""}', '{"weights": [1], "weights_dir": ""}'):
        (no_flags / "places.json").write_text(damage)
        line = refused(generate_soft_label.main, words("--data", no_flags))
        assert re.search(r"places.json: (weights|it)\S* is .*--weights-dir", line)


def test_the_papers_pools_are_relabels_own(tmp_path):
    """A run whose pool shares a network with the protocol's has the protocol's: ImageNet's identity stays."""
    recipe = METHODS["prism"].relabel
    for pool in (METHODS["prism"].recover["pool"], ("resnet18", "resnet34", "mnasnet1_0")):
        write_json(tmp_path / "config.json", {
            "format": "prism-images", "version": 1, "class_names": ["a"], "weights": {}, "config": {
                "dataset": "d", "size": 8, "mean": [0.5] * 3, "std": [0.5] * 3, "stem": "small",
                "pool": list(pool), "arch_name": "resnet18"}})
        assert find_record(tmp_path / "config.json", Run)
        assert inherited_pool(str(tmp_path), RelabelConfig.pool) == {}
        config = parse_config(RelabelConfig, ["--data", str(tmp_path)], presets=generate_soft_label.presets)
        assert (config.arch_name, config.pool) == (recipe["arch_name"], recipe["pool"])
        assert config == RelabelConfig(data=str(tmp_path))
    assert inherited_pool(str(tmp_path / "nowhere"), RelabelConfig.pool) == {}


# ---------------------------------------------------------------- what is shown

def test_accuracy_is_shown_while_networks_train(tiny, no_flags, tmp_path, capfd):
    generate_soft_label.main(words("--data", no_flags, "--epochs", 3, "--batch-size", 5, *PROCESS))
    capfd.readouterr()
    train_FKD.main(words("--train-dir", no_flags, "--fkd-path", no_flags / "fkd", "--model", POOL[0],
                         "--eval-every", 2, *PROCESS))
    told = capfd.readouterr().err
    rows = [json.loads(line) for line in
            (no_flags / "validate" / POOL[0] / "seed0" / "log.jsonl").read_text().splitlines()]
    for row in (rows[0], rows[2]):
        assert f"student, seed 0: {row['top1']:.1%} of 12 test images right after {row['epoch'] + 1} of 3 " \
            f"epochs\n" in told
    assert "after 2 of 3" not in told
    record, = (no_flags / "validate" / POOL[0] / "results.jsonl").read_text().splitlines()
    assert json.loads(record)["wall_s"] > 0 and "elapsed_s" not in record
    made = train_teachers.main(tiny.teacher_flags(tmp_path / "t", "--models", POOL[2], "--eval-every", 4))
    told = capfd.readouterr().err
    assert re.search(rf"{POOL[2]}: [\d.]+% of 12 test images right after 4 of 6 epochs\n", told)
    assert f"{POOL[2]}: {made[POOL[2]]:.1%} of 12 test images right after 6 of 6 epochs\n" in told
    assert (tmp_path / "t" / f"{POOL[2]}.pt").read_bytes() == (tiny.teachers / f"{POOL[2]}.pt").read_bytes()


def test_teachers_have_a_dry_run_that_checks_what_the_run_does(tiny, tmp_path, dry_run, refused):
    out = tmp_path / "teachers"
    plan, line = dry_run(train_teachers.main, tiny.teacher_flags(out))
    assert line == "" and not out.exists()
    for text in (f"{' '.join(POOL)} to train", "24 of 4 classes at 16 px, 12 test images", "small stem",
                 "6, 18 steps", str(out)):
        assert text in plan
    before = modification_times(tiny.teachers)
    plan, line = dry_run(train_teachers.main, tiny.teacher_flags(tiny.teachers))
    assert line == "" and "none to train" in plan
    for flags in (("--epochs", 3), ("--val-dir", "/nowhere"), ("--memory-limit", 1e-9),
                  ("--dataset", "cifar10", "--train-data-path", str(tiny.data))):
        argv = tiny.teacher_flags(tiny.teachers, *flags)
        _, line = dry_run(train_teachers.main, argv)
        assert line and line == refused(train_teachers.main, argv)
    assert modification_times(tiny.teachers) == before


@pytest.mark.parametrize("flags, total", [(("--iteration", 0), 4), ((), 12)])
def test_the_bar_counts_iterations_or_units(flags, total, tiny, tmp_path, monkeypatch, capfd):
    bars, progress = [], runtime.progress

    def keep(*args, **kwargs):
        bars.append(progress(*args, **kwargs))
        return bars[-1]
    monkeypatch.setattr(runtime, "progress", keep)
    tiny.recover(tmp_path, *flags)
    bar, = bars
    assert (bar.total, bar.n) == (total, total)
    assert "4 groups of units made now" in capfd.readouterr().err


HELP = {"recover.data_synthesis": ("--dataset", "cifar10"), "relabel.generate_soft_label": (),
        "validate.train_FKD": ("--protocol", "sre2l"), "models.train_teachers": ("--dataset", "folder:x"),
        "validate.diversity": (), "validate.evaluate": (), "validate.export": ("--to", "hub"),
        "validate.figures": (), "validate.membership": (), "validate.memorisation": (),
        "validate.report": (), "utils.convert_log": (), "scripts.privacy": (), "scripts.reproduce": ()}


@pytest.mark.parametrize("module, flags", HELP.items())
@pytest.mark.parametrize("columns", [80, 120])
def test_help_is_no_wider_than_the_terminal(module, flags, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        importlib.import_module(module).main([*flags, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert any(line.startswith("    ") and line[4] != " " for line in lines)  # its example, as it was


@pytest.mark.parametrize("main, flags, shown", [
    (data_synthesis.main, ("--dataset", "cifar10"), ("(here: 32; default: 224; data set", "(here: png;",
                                                     "(here: 0.4914 0.4822 0.4465; default: 0.485")),
    (data_synthesis.main, (), ("(default: 224; data set", "(default: jpg;")),
    (data_synthesis.main, ("--dataset", "folder:x", "--size", 64), ("(here: 64; default: 224;",
                                                                    "(here: small; default: imagenet;")),
    (train_teachers.main, ("--dataset", "folder:x"), ("(here: 224; default: 32;", "(here: imagenet;")),
    (train_FKD.main, ("--protocol", "sre2l"), ("(here: kl; default: mse_gt;", "(here: cosine;"))])
def test_help_shows_the_values_of_its_command_line(main, flags, shown, capsys):
    with pytest.raises(SystemExit):
        main(words(*flags, "--help"))
    text = " ".join(capsys.readouterr().out.split())
    assert all(part in text for part in shown)


@pytest.mark.parametrize("end", [lambda: None, lambda: print("more", flush=True), lambda: sys.exit(0)],
                         ids=["at the end", "in between", "help"])
def test_a_reader_that_leaves_is_no_error(end, monkeypatch, capfd):
    there, here = os.pipe()
    os.close(there)

    def main(argv):
        print("a line")
        end()
    with open(here, "w") as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        with pytest.raises(SystemExit) as ended:
            runtime.command_line(main)
    assert ended.value.code == 141 and capfd.readouterr().err == ""


def test_a_pipe_that_breaks_elsewhere_is_a_failure(capfd):
    def main(argv):
        raise BrokenPipeError("a worker")
    with pytest.raises(SystemExit) as ended:
        runtime.command_line(main)
    assert ended.value.code == 1 and "BrokenPipeError: a worker" in capfd.readouterr().err
