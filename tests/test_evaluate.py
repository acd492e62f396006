"""Scores against hand-computed values, the sets and labels of an evaluation, and the command on tiny runs."""
import dataclasses
import json
import math
import os
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from helpers import CLASSES, POOL, PROCESS, modification_times, words
from torch import nn

from recover import data_synthesis
from relabel import generate_soft_label
from utils import verify
from utils.augment import CROPS
from utils.flags import parse_config, to_words
from utils.formats import open_labels
from utils.image_sets import open_images
from utils.interrupts import Interrupted
from utils.measures import read_measures
from utils.metrics import confusion
from utils.pieces import piece_name
from utils.views import MIXES
from validate import cells, controls, evaluate, evaluation, evaluation_text, inherited, scores
from validate.cells import HARD, PLAIN_SOFT, SOFT
from validate.features import teachers_of

pytest_plugins = ["stage_fixtures"]
STAGES = {"recover.data_synthesis": data_synthesis.main,
          "relabel.generate_soft_label": generate_soft_label.main}


# ---------------------------------------------------------------- scores

def test_label_robustness_by_hand():
    hlr, ior = scores.hard_label_recovery(0.90, 0.25), scores.improvement_over_random(0.525, 0.55)
    assert (hlr, ior) == (pytest.approx(0.65), pytest.approx(-0.025))
    # a = 0.5 * -0.025 - 0.5 * 0.65 = -0.3375;  e^a = 0.713552;  (0.713552 - 0.367879) / 2.350402
    assert scores.label_robustness(hlr, ior) == pytest.approx(0.147070, abs=1e-6)
    assert scores.label_robustness(hlr, ior, weight=1.0) == pytest.approx(0.258437, abs=1e-6)  # a = IOR
    assert scores.label_robustness(0.0, 0.0) == pytest.approx((1 - 1 / math.e) / (math.e - 1 / math.e))
    assert scores.label_robustness(-1.0, 1.0) == 1.0 and scores.label_robustness(1.0, -1.0) == 0.0


def test_augmentation_robustness_by_hand():
    # b = 0.5 * 0.10 + 0.5 * -0.04 = 0.03;  e^b = 1.030455;  (1.030455 - 0.367879) / 2.350402
    assert scores.augmentation_robustness(0.10, -0.04) == pytest.approx(0.281899, abs=1e-6)
    # b = 0.8 * 0.10 + 0.2 * -0.04 = 0.072;  e^b = 1.074655
    assert scores.augmentation_robustness(0.10, -0.04, weight=0.8) == pytest.approx(0.300704, abs=1e-6)


def test_the_public_packages_percentages_say_the_floor():
    floor = scores.stretch(0.5 * -2.5 - 0.5 * 65)  # ddranking 0.2.0: HLR 65, IOR -2.5, its LRS -0.1565
    assert floor == pytest.approx(-0.1565, abs=5e-5)
    assert scores.label_robustness(0.65, -0.025) == pytest.approx(0.147070, abs=1e-6)
    with pytest.raises(ValueError, match="expected -1 to 1, got -2.5: percentages"):
        scores.label_robustness(65, -2.5)


FOUND = {("distilled", "a", SOFT): [50.0, 54.0], ("distilled", "a", HARD): [20.0, 30.0],
         ("random", "a", SOFT): [52.0, 50.0], ("distilled", "a", PLAIN_SOFT): [40.0, 40.0],
         ("random", "a", PLAIN_SOFT): [30.0, 44.0], ("full", "a", HARD): [90.0, 80.0]}


def test_scores_are_of_each_seed():
    own = evaluation.score(FOUND, "a", [90.0, 80.0])
    assert own["hlr"]["each"] == pytest.approx([0.7, 0.5])
    assert own["ior"]["each"] == pytest.approx([-0.02, 0.04])
    each = [scores.label_robustness(0.7, -0.02), scores.label_robustness(0.5, 0.04)]
    assert own["lrs"]["each"] == pytest.approx(each) and own["lrs"]["mean"] == pytest.approx(sum(each) / 2)
    assert own["lrs"]["std"] == pytest.approx(abs(each[0] - each[1]) / math.sqrt(2))
    assert own["ars"]["each"] == pytest.approx([scores.stretch(0.5 * -0.02 + 0.5 * 0.10),
                                                scores.stretch(0.5 * 0.04 - 0.5 * 0.04)])


def test_a_known_full_accuracy_serves_all_seeds_and_what_is_not_measured_is_none():
    assert evaluation.score(FOUND, "a", [70.0])["hlr"]["each"] == pytest.approx([0.5, 0.4])
    own = evaluation.score({key: FOUND[key] for key in FOUND if PLAIN_SOFT not in key}, "a", None)
    assert own["hlr"] is own["lrs"] is own["ars"] is None and own["ior"]["mean"] == pytest.approx(0.01)
    one = evaluation.score({key: each[:1] for key, each in FOUND.items()}, "a", [90.0])
    assert one["hlr"] == {"mean": pytest.approx(0.7), "std": None, "each": [pytest.approx(0.7)]}


def test_a_difference_is_decided_by_its_interval():
    row = evaluation.difference([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])  # 1, 2, 3: s.e. 1 / sqrt(3), t = 4.302653
    half = 4.302653 / math.sqrt(3)
    assert (row["mean"], row["n"], row["decided"]) == (2.0, 3, False)
    assert row["interval"] == pytest.approx([2 - half, 2 + half])
    assert evaluation.difference([5.0, 6.1, 7.0], [1.0, 2.0, 3.0])["decided"]
    assert evaluation.difference([1.0, 2.0, 3.0], [5.0, 6.1, 7.0])["decided"]
    one = evaluation.difference([5.0], [1.0])
    assert (one["mean"], one["interval"], one["standard_error"], one["decided"]) == (4.0, None, None, False)
    rows = evaluation.differences(FOUND)
    assert [(row["labels"], row["against"], row["each"]) for row in rows] == [
        (SOFT, "random", [-2.0, 4.0]), (PLAIN_SOFT, "random", [10.0, -4.0])]


# ---------------------------------------------------------------- classes

class Told(nn.Module):
    """A network that answers what is written in each image's first pixel, counted in 10s."""

    def forward(self, x):
        return nn.functional.one_hot((x[:, 0, 0, 0] * 255 / 10).round().long(), 3).float()


def test_confusion_of_a_hand_made_case():
    answers, truth = torch.tensor([0, 1, 1, 2, 0]), torch.tensor([0, 1, 0, 2, 2])
    pixels = (answers * 10).to(torch.uint8)[:, None, None, None].expand(5, 3, 2, 2)
    model = Told().train()
    counts = confusion(model, [(pixels[:2], truth[:2]), (pixels[2:], truth[2:])], num_classes=3,
                       mean=(0.0,) * 3, std=(1.0,) * 3, device=torch.device("cpu"))
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]] and model.training
    names = ("a", "b", "c")
    assert evaluation.class_accuracies(counts, names) == {"a": 50.0, "b": 100.0, "c": 50.0}
    assert evaluation.confused(counts, names) == {"matrix": counts.tolist(), "worst": [
        {"true": "a", "predicted": "b", "share": 0.5}, {"true": "c", "predicted": "a", "share": 0.5}]}


def test_a_class_without_test_images_has_no_accuracy_and_a_large_matrix_is_not_written():
    assert evaluation.class_accuracies(torch.tensor([[2, 0], [0, 0]]), ("a", "b")) == {"a": 100.0, "b": None}
    counts = torch.eye(101, dtype=torch.int64)
    assert evaluation.confused(counts, [str(k) for k in range(101)]) == {"matrix": None, "worst": []}


# ---------------------------------------------------------------- processes, what is inherited

@pytest.mark.parametrize(("status", "kind"), [(2, ValueError), (1, RuntimeError), (75, Interrupted)])
def test_a_stage_that_ends_badly_is_told_by_its_last_line(tmp_path, monkeypatch, status, kind):
    (tmp_path / "ends_so.py").write_text(f"import sys\nprint('first', file=sys.stderr)\n"
                                         f"print('error: no such file', file=sys.stderr)\nsys.exit({status})")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(kind, match="no such file"):
        controls.run_stage("ends_so", [])


def test_without_augmentation_leaves_no_option_of_a_mix():
    taken = inherited.without_augmentation({"epochs": 3, "mix_type": "mixup", "mix_alpha": 0.4,
                                            "crop": "padded", "crop_padding": 2, "flip": True})
    assert taken == {"epochs": 3, "mix_type": "none", "flip": False, "crop": "resized", "augment": "none",
                     "min_scale_crops": 1.0}


def test_a_set_scales_its_controls(made):
    beside = inherited.inherit(open_images(str(made), flag="--data"), 2, "prism")
    assert beside.labels is not None and beside.relabel["epochs"] == 3 and beside.relabel["batch_size"] == 5
    assert beside.relabel.keys() == {*beside.labels.protocol["changed"], "seed"}
    assert beside.validate == {"gradient_accumulation_steps": 1, "eval_every": 1}
    assert beside.teachers == {"arch_name": POOL[0], "pool": list(POOL)}
    other = inherited.inherit(open_images(str(made), flag="--data"), 2, "rd3")
    assert other.labels is None and other.validate == {}
    assert set(other.relabel) <= {*inherited.BUDGET, "seed"} and other.relabel["epochs"] == 3


def test_students_on_all_real_images_stand_in_the_order_of_the_others(made, tmp_path, monkeypatch):
    images = open_images(str(made), flag="--data")
    monkeypatch.setattr(evaluate.full_data, "train_on_all", lambda *args, seed, **about: ({"a": seed}, ""))
    config = evaluate.EvaluateConfig(data=str(made), seeds=(2, 0, 1), full_data=True)
    found, _ = evaluate.full_accuracies(config, images, inherited.Inherited({}, {}, {}, None, ()),
                                        models=("a",), out=tmp_path)
    assert found == {"a": [0, 1, 2]}  # as `measured` sorts the sets' students


def relabelled(made, tmp_path, monkeypatch, *, images=None, **flags):
    """The words of every relabel of an evaluation, by what it would make; nothing is run."""
    asked = []

    def remember(self, module, values, more, where, done):
        asked.append((where["fkd_path"], [*to_words({**values, **where}), *more]))
    monkeypatch.setattr(controls.Maker, "_stage", remember)
    monkeypatch.setattr(controls, "open_labels", lambda folder, ipc: None)
    monkeypatch.setattr(controls, "check_same_teachers", lambda labelled: None)
    monkeypatch.setattr(cells, "cells_of", lambda *args, **about: [])
    config = evaluate.EvaluateConfig(data=str(made), controls=("random",), **flags)
    images = images or open_images(str(made), flag="--data")
    maker = controls.Maker(images, 2, tmp_path, places={"threads": 1}, real={}, memory={},
                           teachers={})
    sets = [controls.ImageSet(controls.DISTILLED, str(made), (0,))]
    scaled = inherited.Inherited({}, {"epochs": 3, "batch_size": 5}, {}, None, ())
    evaluate.all_cells(config, sets, maker, scaled, models=("a",), out=tmp_path)
    return [(folder, parse_config(generate_soft_label.RelabelConfig, words,
                                  presets=generate_soft_label.presets)) for folder, words in asked]


def test_more_words_for_relabel_do_not_augment_what_has_no_augmentation(made, tmp_path, monkeypatch):
    (_, usual), (_, plain) = relabelled(
        made, tmp_path, monkeypatch, robustness=True,
        relabel_flags="--mix-type cutmix --mix-alpha 0.4 --min-scale-crops 0.3 --crop padded --epochs 7")
    assert (piece_name(MIXES, usual.mix_type), usual.min_scale_crops, usual.epochs) == ("cutmix", 0.3, 7)
    assert (piece_name(MIXES, plain.mix_type), plain.min_scale_crops, plain.epochs) == ("none", 1.0, 7)
    assert not plain.flip and piece_name(CROPS, plain.crop) == "resized"


def test_labels_of_other_images_or_of_another_size_are_taken_over_by_nobody(made):
    images = open_images(str(made), flag="--data")
    assert teachers_of(images) >= {POOL[3]}
    first, *rest = images.entries
    remade = dataclasses.replace(images, entries=(first._replace(sha256="0"), *rest))
    for other in (remade, dataclasses.replace(images, size=12), dataclasses.replace(images, ipc=1)):
        beside = inherited.inherit(other, 1, "prism")
        assert (beside.labels, beside.relabel, beside.validate, beside.where) == (None, {}, {}, ())
    only_labels = dataclasses.replace(remade, saved={**images.saved, "weights": {}})
    assert teachers_of(only_labels) == set()


def test_other_images_get_labels_in_a_folder_of_their_own(made, tmp_path, monkeypatch):
    images = open_images(str(made), flag="--data")
    first, *rest = images.entries
    remade = dataclasses.replace(images, entries=(first._replace(sha256="0"), *rest))
    (one, _), = relabelled(made, tmp_path, monkeypatch)
    (again, _), = relabelled(made, tmp_path, monkeypatch)
    (other, _), = relabelled(made, tmp_path, monkeypatch, images=remade)
    assert one == again != other


# ---------------------------------------------------------------- the command

@pytest.fixture
def in_process(monkeypatch):
    """Stages in this process, where importing torch takes no seconds; which ran."""
    ran = []

    def run_stage(module, argv):
        ran.append(module)
        STAGES[module](argv)
    monkeypatch.setattr(controls, "run_stage", run_stage)
    return ran


@pytest.fixture
def evaluated(made, tmp_path) -> Path:
    """The finished run, for a command that writes its measure beside it."""
    return shutil.copytree(made, tmp_path / "evaluated")


def flags(tiny, run, *more):
    return words(run, "--seeds", 0, 1, *PROCESS, *more)


def test_the_command_on_a_tiny_run(tiny, evaluated, tmp_path, in_process, capsys):
    argv = flags(tiny, evaluated, "--controls", "random,herding", "--robustness", "--full-accuracy", 95,
                 "--out", tmp_path / "out")
    values = evaluate.main(argv)
    assert in_process.count("recover.data_synthesis") == 3  # random twice, herding
    assert in_process.count("relabel.generate_soft_label") == 6  # the run has its own; three without views
    found = {(row["set"], row["labels"]): row for row in values["accuracies"]}
    assert {key[0] for key in found} == {"distilled", "random", "herding", "full"}
    assert all(len(row["each"]) == 2 for key, row in found.items() if key[0] != "full")
    assert {(row["labels"], row["against"]) for row in values["differences"]} == {
        (SOFT, "random"), (HARD, "random"), (PLAIN_SOFT, "random"), (SOFT, "herding"), (HARD, "herding")}
    own = values["scores"][POOL[0]]
    assert own["hlr"]["each"] == pytest.approx([
        (95 - value) / 100 for value in found["distilled", HARD]["each"]])
    assert all(own[name] is not None for name in ("ior", "lrs", "ars"))
    assert list(values["classes"][POOL[0]][SOFT]) == list(CLASSES)
    mean = sum(values["classes"][POOL[0]][SOFT].values()) / len(CLASSES)  # as many images of each
    assert mean == pytest.approx(found["distilled", SOFT]["mean"])
    assert sum(map(sum, values["confusion"][POOL[0]][HARD]["matrix"])) == 2 * 3 * len(CLASSES)
    assert "relabel epochs 3" in values["changed"] and "validate eval_every 1" in values["changed"]

    shown = capsys.readouterr().out
    assert "distilled - herding" in shown and "on one set a side" in shown and "HLR" in shown
    assert shown.count(f" --data {evaluated} ") == 1
    measure = read_measures(open_images(str(evaluated), flag="--data"), "evaluation")["evaluation_prism_ipc2"]
    assert measure["values"] == json.loads(json.dumps(values))

    random = {path.name.split("_")[0]: path for path in (tmp_path / "out" / "sets").iterdir()}
    assert random.keys() == {"random-0", "random-1", "herding-0"}
    pictures = [[path.read_bytes() for path in sorted(random[name].glob("syn/*/*"))]
                for name in ("random-0", "random-1")]
    assert pictures[0] != pictures[1]
    plain = [open_labels(str(folder), 2).load(0)[0] for folder in (tmp_path / "out").glob("labels_*")]
    assert len(plain) == 1  # the others are the run's own
    assert plain[0].crop.tolist() == [[0, 0, 16, 16]] * 8 and not plain[0].flip.any()
    assert plain[0].mix_lam.tolist() == [1.0, 1.0]
    assert {what for what, _ in verify.verify(tmp_path / "out")} == {"whole"}

    in_process.clear()
    before = modification_times(tmp_path / "out")
    assert evaluate.main(argv)["accuracies"] == values["accuracies"]
    assert not in_process and modification_times(tmp_path / "out") == before


def test_full_data_is_trained_as_the_teachers_were(tiny, evaluated, tmp_path, capsys):
    values = evaluate.main(flags(tiny, evaluated, "--controls", "none", "--full-data",
                                 "--out", tmp_path / "out", "--seeds", 0, "--models", POOL[0], POOL[1]))
    shown = " ".join(capsys.readouterr().out.split())
    assert f"| top-1 [%], soft | {POOL[0]} | {POOL[1]} |" in shown  # a row a set, a column a network
    taught = json.loads(next((tmp_path / "out" / "full").glob(f"seed0_*/{POOL[0]}.json")).read_text())
    record = json.loads((tiny.teachers / f"{POOL[0]}.json").read_text())
    assert taught["recipe"] == record["recipe"]
    found = {(row["set"], row["model"], row["labels"]): row["mean"] for row in values["accuracies"]}
    assert found["full", POOL[0], HARD] == pytest.approx(100 * taught["accuracy"])
    own = values["scores"][POOL[0]]
    assert own["ior"] is own["lrs"] is own["ars"] is None and own["hlr"]["std"] is None
    assert own["hlr"]["mean"] == pytest.approx(taught["accuracy"] - found["distilled", POOL[0], HARD] / 100)


def test_a_folder_of_others_images_is_evaluated(tiny, made, tmp_path, in_process, monkeypatch, capsys):
    shutil.copytree(made / "syn", tmp_path / "theirs")
    monkeypatch.chdir(tmp_path)  # what is made goes to out/theirs-<digest of its path>
    before = modification_times(tmp_path / "theirs")
    argv = [tmp_path / "theirs", "--dataset", f"folder:{tiny.data}", "--weights-dir", tiny.teachers,
            "--arch-name", POOL[0], "--pool", POOL[0], POOL[1], "--controls", "random",
            "--relabel-flags", "--epochs 2 --batch-size 5", "--seeds", 0, *PROCESS,
            "--validate-flags", "--gradient-accumulation-steps 1 --eval-every 2"]
    values = evaluate.main(words(*argv))
    assert modification_times(tmp_path / "theirs") == before
    assert {row["set"] for row in values["accuracies"]} == {"distilled", "random"}
    assert in_process == ["recover.data_synthesis", *["relabel.generate_soft_label"] * 2]
    assert len(list(tmp_path.glob("out/theirs-*/measured/evaluation_prism_ipc2.json"))) == 1
    assert "relabel epochs 2" in values["changed"] and values["models"] == [POOL[0]]
    line = next(line for line in capsys.readouterr().out.splitlines() if " validate.evaluate " in line)
    again = evaluate.main(shlex.split(line)[3:])  # the command that it says
    assert again["accuracies"] == values["accuracies"] and len(in_process) == 3


def test_the_default_architecture_is_the_runs_primary_where_its_networks_are_narrow(made):
    beside = inherited.inherit(open_images(str(made), flag="--data"), 2, "prism")
    assert evaluate.models_of(evaluate.EvaluateConfig(data=str(made)), beside) == (POOL[0],)
    large = inherited.Inherited({}, {}, {}, None, ())
    assert evaluate.models_of(evaluate.EvaluateConfig(), large) == ("resnet18",)
    assert evaluate.models_of(evaluate.EvaluateConfig(models=("resnet50",)), beside) == ("resnet50",)


def test_one_seed_decides_nothing_in_words():
    row = {"model": "a", "labels": SOFT, "set": "distilled", "against": "random", "mean": -1.0,
           "interval": None, "decided": False, "n": 1}
    assert "nothing is decided" in evaluation_text.difference_in_words(row)
    row |= {"interval": [-1.5, -0.5], "decided": True, "n": 3}
    assert evaluation_text.difference_in_words(row) == (
        "a, soft: distilled - random -1.0 points (95 % -1.5 to -0.5 over n = 3 draws of the real images and "
        "students' seeds): decided")


def test_what_cannot_be_is_refused_before_anything_is_written(tiny, made, tmp_path, refused):
    def line(*more):
        return refused(evaluate.main, flags(tiny, made, "--out", tmp_path / "out", *more))
    assert "--controls best: expected some of random, herding" in line("--controls", "best")
    assert "--full-accuracy must be in (1, 100], got 0.9" in line("--full-accuracy", 0.9)
    assert "--full-accuracy gives 2 numbers" in line("--full-accuracy", 90, 91)
    assert "leave one out" in line("--full-accuracy", 90, "--full-data")
    assert "give --controls random" in line("--controls", "herding", "--robustness")
    assert "--ipc 9: the run has 2" in line("--ipc", 9)
    assert "no soft labels" in line("--protocol", "recovery-only")
    assert "unrecognized arguments: --nonsense" in line("--validate-flags", "--nonsense 1")
    assert "contradicts --dataset folder:" in line("--train-data-path", tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_stages_run_as_processes(tiny, evaluated, tmp_path):
    values = evaluate.main(flags(tiny, evaluated, "--controls", "random", "--out", tmp_path / "out",
                                 "--seeds", 0))
    assert [row["set"] for row in values["accuracies"]] == ["distilled", "distilled", "random", "random"]
