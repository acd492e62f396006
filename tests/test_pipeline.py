"""The three stages one after the other, through their mains, on 16-pixel data and narrow networks."""
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
import torch
from helpers import CLASSES, POOL, PROCESS, contents, modification_times, pixels_of, words, write_data
from PIL import Image
from torchvision.datasets import ImageFolder

from models import train_teachers
from models.ensemble import ENSEMBLES
from models.registry import build_model, load_teachers
from recover import data_synthesis
from relabel import generate_soft_label
from utils.files import sha256_file, write_json
from utils.flags import WeightFlags
from utils.formats import assemble_manifest, open_labels
from utils.loading import load_distilled
from utils.pieces import build_piece
from utils.schedule import SCHEDULES
from utils.views import VIEW_DTYPES
from validate import diversity, train_FKD
from validate.losses import LOSSES
from validate.soft_labels import OnlineLabels, StoredLabels, open_label_teachers

pytest_plugins = ["stage_fixtures"]
ROOT = Path(__file__).parents[1]
STAGES = {"recover": data_synthesis.main, "relabel": generate_soft_label.main, "validate": train_FKD.main}


def read_json(path: Path):
    return json.loads(path.read_text())


def read_log(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def units_of(run: Path) -> dict[str, dict]:
    return {path.stem: read_json(path) for path in sorted((run / "units").iterdir())}


@pytest.fixture
def copied(made, tmp_path) -> Path:
    """The finished run, to be altered."""
    return shutil.copytree(made, tmp_path / "copied")


def interrupt(monkeypatch, where: str, *, call: int) -> None:
    """Makes the `call`-th call of a function (module.name) a Ctrl-C instead."""
    module, name = where.rsplit(".", 1)
    function, calls = getattr(sys.modules[module], name), itertools.count(1)

    def interrupted(*args, **kwargs):
        if next(calls) == call:
            raise KeyboardInterrupt
        return function(*args, **kwargs)
    monkeypatch.setattr(where, interrupted)


# ---------------------------------------------------------------- files

def test_distilled_images_lie_as_an_imagefolder_in_label_order(made):
    folder = ImageFolder(str(made / "syn"))
    assert folder.classes == list(CLASSES) and folder.targets == [0, 0, 1, 1, 2, 2, 3, 3]
    expected = {f"syn/{name}/{name}_ipc{i:04d}.png" for name in CLASSES for i in range(2)}
    assert {str(path.relative_to(made)) for path in made.glob("syn/*/*")} == expected
    assert {(picture.size, picture.mode) for picture, _ in folder} == {((16, 16), "RGB")}


def test_units_and_manifest_record_what_was_made(made, tiny):
    units, manifest = units_of(made), read_json(made / "manifest.json")
    assert list(units) == [f"ipc{i:04d}_chunk{chunk:02d}" for i in range(2) for chunk in range(2)]
    assert list(units["ipc0001_chunk01"]["files"]) == ["syn/cat/cat_ipc0001.png", "syn/dog/dog_ipc0001.png"]
    assert [unit["files"] for unit in manifest["units"]] == [unit["files"] for unit in units.values()]
    for unit in units.values():
        assert unit["files"] == {path: sha256_file(made / path) for path in unit["files"]}
        assert unit["iterations"] == 3 and unit["primary"] == {"narrow_resnet": 3}
        assert unit["short_classes"] == [] and set(unit["final"]) >= {"loss", "ce", "bn/narrow_resnet"}
    assert (manifest["class_names"], manifest["ipc"], manifest["size"]) == (list(CLASSES), 2, 16)
    assert manifest["weights"] == {name: sha256_file(tiny.teachers / f"{name}.pt") for name in POOL}
    assert manifest["config"]["seed"] == 0 and manifest["dataset"] == f"folder:{tiny.data}"


def test_labels_have_the_documented_tensors_and_name_their_images(made):
    manifest = read_json(made / "fkd" / "2" / "manifest.json")
    assert manifest["class_names"] == list(CLASSES) and manifest["num_images"] == 8
    assert manifest["weights"].keys() == {POOL[0], POOL[1], POOL[3]}
    assert manifest["weights"].items() <= read_json(made / "manifest.json")["weights"].items()
    assert {path.name for path in (made / "fkd" / "2").glob("*.pt")} == {f"epoch_00{i}.pt" for i in range(3)}
    for epoch in range(3):
        labels = torch.load(made / "fkd" / "2" / f"epoch_{epoch:03d}.pt", weights_only=True, mmap=True)
        assert {name: tensor.dtype for name, tensor in labels.items()} \
            == VIEW_DTYPES | {"logits": torch.float16}
        shapes = {name: tuple(tensor.shape) for name, tensor in labels.items()}
        assert shapes == {"index": (8,), "crop": (8, 4), "flip": (8,), "mix_index": (8,), "mix_box": (2, 4),
                          "mix_lam": (2,), "logits": (8, 4)}  # batches of 5 and 3
        assert sorted(labels["index"].tolist()) == list(range(8))


def test_stored_logits_are_the_ensembles_on_the_stored_views(made, tiny):
    manifest = assemble_manifest(made, write=False)
    pixels, targets = load_distilled(made, manifest.select(2), size=16)
    assert targets.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    drawn, stored = open_labels(str(made / "fkd" / "2"), 0, write=False).load(1)
    teachers = load_teachers((POOL[0], POOL[1], POOL[3]), weights=(), weights_dir=tiny.teachers, dataset="x",
                             num_classes=4, stem="small", device=torch.device("cpu"))
    views = drawn.render(pixels[drawn.index[5:].long()], 1, mean=manifest.mean, std=manifest.std)
    with torch.no_grad():
        logits = torch.stack([teacher.model(views) for teacher in teachers.values()])
    assert torch.equal(stored["logits"][5:], ENSEMBLES["equal-norm"]()(logits).half())


def test_results_are_mean_and_spread_over_the_seeds(made):
    folder = made / "validate" / "narrow_resnet"
    summary = read_json(folder / "results.json")
    each = [read_json(folder / f"seed{seed}" / "result.json") for seed in (0, 1)]
    for epoch in ("last", "best"):
        top1 = [result[epoch]["top1"] for result in each]
        assert summary[f"{epoch}_top1"] == {"mean": statistics.mean(top1), "std": statistics.stdev(top1)}
    assert summary["n"] == 2 and summary["seeds"] == [0, 1]
    assert all(result["best"]["top1"] >= result["last"]["top1"] for result in each)
    assert each[0]["last"]["epoch"] == 2 and each[0]["last"]["images"] == 12


def test_students_load_with_plain_torch_and_reproduce_their_accuracy(made, tiny):
    config = read_json(made / "config.json")["config"]
    mean, std = (torch.tensor(config[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    real = ImageFolder(str(tiny.data / "val"))
    pixels = torch.stack([torch.from_numpy(numpy.array(picture)).permute(2, 0, 1) for picture, _ in real])
    for seed, kind in itertools.product((0, 1), ("last", "best")):
        folder = made / "validate" / "narrow_resnet" / f"seed{seed}"
        student = build_model("narrow_resnet", num_classes=4, stem="small")
        student.load_state_dict(torch.load(folder / f"student_{kind}.pt", weights_only=True))
        hits = student.eval()((pixels / 255 - mean) / std).argmax(1) == torch.tensor(real.targets)
        assert hits.float().mean().item() == pytest.approx(read_json(folder / "result.json")[kind]["top1"])


def test_the_log_holds_every_term_over_the_iterations(made):
    rows = [row for row in read_log(made / "log.jsonl") if not row.get("done") and "network" not in row]
    assert [(row["ipc_id"], row["chunk"], row["step"]) for row in rows] \
        == list(itertools.product((0, 1), (0, 1), (0, 1, 2)))
    for row in rows:
        alignment = [value for name, value in row.items() if name.startswith("bn/")]
        assert row["bn/narrow_resnet"] > 0
        assert row["loss"] == pytest.approx(row["ce"] + 0.01 * statistics.mean(alignment), rel=1e-5)


def test_a_longer_run_learns(tiny, tmp_path):
    """Recover lowers its own loss, and a student of its images recognises real ones."""
    run = tiny.recover(tmp_path, "--iteration", 40, "--lr", 0.1, "--init", "noise", "--r-bn", 0.1,
                       "--batch-size", 4, "--log-every", 39)
    for ipc_id in (0, 1):
        rows = [row for row in read_log(run / "log.jsonl") if row.get("ipc_id") == ipc_id]
        assert rows[-1]["ce"] < 0.2 * rows[0]["ce"] and rows[-1]["loss"] < 0.6 * rows[0]["loss"]
    tiny.relabel(run, "--epochs", 25, "--batch-size", 8)
    summary = tiny.validate(run, "--adamw-lr", 0.01, "--eval-every", 25)
    assert summary["last_top1"]["mean"] > 0.7  # chance is 0.25


# ---------------------------------------------------------------- the same bytes

def test_the_same_seed_makes_the_same_bytes(made, tiny, tmp_path):
    run = tiny.recover(tmp_path)
    tiny.relabel(run / "syn")
    tiny.validate(run / "syn", "--fkd-path", run / "fkd", "--ipc", 2)
    assert contents(run) == contents(made)


def test_another_seed_makes_other_images_labels_and_students(made, tiny, copied, tmp_path):
    other = tiny.recover(tmp_path, "--seed", 1)
    assert (pixels_of(other) != pixels_of(made)).mean() > 0.5
    tiny.relabel(copied, "--seed", 1, "--overwrite")
    stored, again = (stored_labels(run / "fkd" / "2") for run in (made, copied))
    assert not torch.equal(stored["crop"], again["crop"])
    folder = made / "validate" / "narrow_resnet"
    assert len({sha256_file(path) for path in folder.glob("seed*/student_last.pt")}) == 2


@pytest.mark.parametrize("how", ["flag", "torchrun"])
def test_sharded_is_unsharded(how, made, tiny, tmp_path, monkeypatch):
    def in_shards(stage, *where):
        for index in (1, 0):  # the later shard first
            if how == "torchrun":
                monkeypatch.setenv("RANK", str(index))
                monkeypatch.setenv("WORLD_SIZE", "2")
            path = stage(*where, *(("--shard", f"{index}/2") if how == "flag" else ()))
        monkeypatch.delenv("RANK", raising=False)
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        return path

    run = in_shards(tiny.recover, tmp_path)
    for i in (0, 1):
        assert len([row for row in read_log(run / f"log_{i}of2.jsonl") if "network" not in row]) == 2 * 4
    in_shards(tiny.relabel, run)
    tiny.validate(run)
    assert contents(run) == contents(made)


def test_one_shard_alone_leaves_no_manifest(tiny, tmp_path):
    run = tiny.recover(tmp_path, "--shard", "0/2")
    assert len(units_of(run)) == 2 and not (run / "manifest.json").exists()


def test_interrupted_recover_goes_on_to_the_same_bytes(made, tiny, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, "recover.images.write_json", call=3)  # images there, their record not
        tiny.recover(tmp_path)
    run = tmp_path / "run"
    before = modification_times(run)
    assert len(list(run.glob("units/*"))) == 2 and len(list(run.glob("syn/*/*"))) == 6
    tiny.recover(tmp_path)
    after = modification_times(run)
    kept = [path for path in before if path.startswith(("units", "syn")) and "ipc0000" in path]
    assert len(kept) == 6 and all(before[path] == after[path] for path in kept)
    tiny.relabel(run)
    tiny.validate(run)
    assert contents(run) == contents(made)


def test_interrupted_relabel_goes_on_to_the_same_bytes(made, tiny, copied, monkeypatch):
    shutil.rmtree(copied / "fkd")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, "relabel.labels.ensemble_logits", call=4)  # within the second epoch
        tiny.relabel(copied)
    folder = copied / "fkd" / "2"
    assert [p.name for p in folder.glob("*.pt")] == ["epoch_000.pt"]
    assert not (folder / "manifest.json").exists()
    before = modification_times(folder)["epoch_000.pt"]
    tiny.relabel(copied)
    assert contents(copied) == contents(made) and modification_times(folder)["epoch_000.pt"] == before


def test_interrupted_validate_goes_on_to_the_same_bytes(made, tiny, copied, monkeypatch):
    folder = copied / "validate" / "narrow_resnet"
    shutil.rmtree(folder)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, "validate.training.train_epoch", call=5)  # the second seed's second epoch
        tiny.validate(copied)
    assert (folder / "seed0" / "result.json").exists() and not (folder / "seed1" / "result.json").exists()
    before = modification_times(folder / "seed0")
    tiny.validate(copied)
    assert contents(copied) == contents(made) and modification_times(folder / "seed0") == before


@pytest.mark.parametrize("where, call", [("train_epoch", 10), ("evaluate", 2)])
def test_interrupted_teachers_go_on_to_the_same_bytes(where, call, tiny, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, f"models.train_teachers.{where}", call=call)  # of the second network
        train_teachers.main(tiny.teacher_flags(tmp_path, "--save-every", 0))
    assert (tmp_path / "narrow_resnet.json").exists() and not (tmp_path / "narrow_shufflenet.pt").exists()
    train_teachers.main(tiny.teacher_flags(tmp_path, "--save-every", 0))
    assert contents(tmp_path) == contents(tiny.teachers)
    rows = [(row["teacher"], row["epoch"]) for row in read_log(tmp_path / "log.jsonl")]
    assert rows == list(itertools.product(POOL, range(6)))  # nothing was trained twice


def test_a_finished_run_is_left_alone(made, tiny, copied):
    before = modification_times(copied)
    tiny.recover(copied.parent, "--exp-name", copied.name)
    tiny.relabel(copied)
    tiny.validate(copied)
    after = modification_times(copied)
    rewritten = {path for path in before if before[path] != after[path]}
    assert before.keys() == after.keys() and contents(copied) == contents(made)
    assert not any(path.endswith((".pt", ".png")) or path.startswith("units") for path in rewritten)


def test_more_images_reuse_the_first_and_their_labels_stay_valid(tiny, copied):
    before = modification_times(copied)
    tiny.recover(copied.parent, "--exp-name", copied.name, "--ipc-end", 4)
    after = modification_times(copied)
    kept = [path for path in before if path.startswith(("units", "syn"))]
    assert len(kept) == 12 and {path: before[path] for path in kept} == {path: after[path] for path in kept}
    assert read_json(copied / "manifest.json")["ipc"] == 4 and len(list(copied.glob("syn/*/*"))) == 16
    tiny.relabel(copied, "--ipc", 2)  # nothing to do
    now = modification_times(copied)
    assert all(now[path] == before[path] for path in before if path.startswith("fkd") and "log" not in path)
    shutil.rmtree(copied / "validate")
    assert tiny.validate(copied)["n"] == 2  # eight of the sixteen images, by the labels
    tiny.relabel(copied)
    assert read_json(copied / "fkd" / "4" / "manifest.json")["num_images"] == 16


def test_extended_in_two_steps_is_made_in_one(tiny, copied, tmp_path):
    whole = tiny.recover(tmp_path, "--ipc-end", 3)
    tiny.recover(copied.parent, "--exp-name", copied.name, "--ipc-start", 2, "--ipc-end", 3)
    made_whole = contents(whole)
    assert {path: digest for path, digest in contents(copied).items() if path in made_whole} == made_whole


# ---------------------------------------------------------------- indices side by side

@pytest.mark.parametrize("step", [0, 2])
def test_slices_side_by_side_are_the_indices_one_by_one(step, tiny, tmp_path):
    flags = ("--iteration", 6, "--iteration-step", step, "--ipc-end", 4, "--seed", 3, "--iteration-period", 2)
    alone = tiny.recover(tmp_path / "alone", *flags)
    together = tiny.recover(tmp_path / "together", *flags, "--slices-per-batch", 2)
    assert numpy.abs(pixels_of(alone) - pixels_of(together)).max() <= 1
    ours, theirs = units_of(together), units_of(alone)
    assert {unit["iterations"] for unit in ours.values()} == {6, 6 - step}
    assert len({tuple(unit["aligned"]) for unit in ours.values()}) > 2  # slices drew different teachers
    for name, unit in ours.items():
        assert {key: unit[key] for key in ("iterations", "primary", "aligned")} \
            == {key: theirs[name][key] for key in ("iterations", "primary", "aligned")}
        assert unit["final"] == pytest.approx(theirs[name]["final"], rel=1e-3)


def test_slices_redraw_their_own_teachers_and_primaries(tiny, tmp_path):
    flags = ("--iteration", 4, "--selection", "intra", "--primary", "drawn")
    alone = tiny.recover(tmp_path / "alone", *flags)
    together = tiny.recover(tmp_path / "together", *flags, "--slices-per-batch", 2)
    assert numpy.abs(pixels_of(alone) - pixels_of(together)).max() <= 1
    assert any(len(unit["primary"]) > 1 for unit in units_of(together).values())


# ---------------------------------------------------------------- every choice of recover

def run_with(tiny, tmp_path, *flags) -> tuple[Path, list[dict], list[dict]]:
    """A run of recover, its units and the rows of its log."""
    run = tiny.recover(tmp_path, *flags)
    rows = [row for row in read_log(run / "log.jsonl") if "network" not in row]
    return run, list(units_of(run).values()), rows


def test_single_and_dual_teachers(tiny, tmp_path):
    _, units, _ = run_with(tiny, tmp_path / "single", "--teachers", "single")
    assert {tuple(unit["aligned"]) for unit in units} == {("narrow_resnet",)}
    _, units, _ = run_with(tiny, tmp_path / "dual", "--teachers", "dual", "--ipc-end", 6, "--iteration", 1)
    assert {tuple(unit["aligned"]) for unit in units} == {("narrow_shufflenet",), ("narrow_plain",)}
    assert {tuple(unit["primary"]) for unit in units} == {("narrow_resnet",)}


def test_a_uniform_subset_may_leave_phi_out(tiny, tmp_path):
    _, units, rows = run_with(tiny, tmp_path, "--subset-law", "uniform", "--max-bn-teachers", 2,
                              "--ipc-end", 6, "--iteration", 1)
    assert {len(unit["aligned"]) for unit in units} == {1, 2}
    assert any("narrow_resnet" not in unit["aligned"] for unit in units)
    assert {tuple(unit["primary"]) for unit in units} == {("narrow_resnet",)}
    assert all(row["ce"] > 0 for row in rows)


def test_teachers_redrawn_at_every_iteration(tiny, tmp_path):
    _, units, rows = run_with(tiny, tmp_path, "--selection", "intra", "--iteration", 8)
    for unit in units:
        assert unit["aligned"]["narrow_resnet"] == 8  # theta_1 = phi
        assert any(0 < count < 8 for count in unit["aligned"].values())
    drawn = {frozenset(name for name in row if name.startswith("bn/")) for row in rows}
    assert len(drawn) > 3


def test_a_drawn_primary(tiny, tmp_path):
    _, units, _ = run_with(tiny, tmp_path, "--primary", "drawn", "--ipc-end", 6, "--iteration", 1)
    assert len({tuple(unit["primary"]) for unit in units}) > 1
    assert all(set(unit["primary"]) <= set(unit["aligned"]) for unit in units)


@pytest.mark.parametrize("reduce, combine", [("sum", sum), ("mean", statistics.mean)])
def test_reductions_over_teachers(reduce, combine, tiny, tmp_path):
    _, _, rows = run_with(tiny, tmp_path, "--bn-reduce", reduce, "--r-bn", 0.5, "--seed", 3)
    terms = [[value for name, value in row.items() if name.startswith("bn/")] for row in rows]
    assert max(map(len, terms)) > 1
    for row, alignment in zip(rows, terms, strict=True):
        assert row["loss"] == pytest.approx(row["ce"] + 0.5 * combine(alignment), rel=1e-5)


def test_priors_are_terms_of_the_loss(tiny, tmp_path):
    _, _, rows = run_with(tiny, tmp_path, "--teachers", "single", "--tv-l2", 0.01, "--l2-scale", 0.1)
    for row in rows:
        expected = row["ce"] + 0.01 * row["bn/narrow_resnet"] + 0.01 * row["tv"] + 0.1 * row["l2"]
        assert row["loss"] == pytest.approx(expected, rel=1e-5) and row["tv"] > 0 and row["l2"] > 0


@pytest.mark.parametrize("flags", [("--min-scale-schedule", "cosine"), ("--first-bn-multiplier", 1),
                                   ("--jitter", 0), ("--no-flip",), ("--lr", 0.25), ("--batch-size", 4),
                                   ("--init", "random"), ("--init", "noise")])
def test_what_changes_the_images(flags, made, tiny, tmp_path):
    run = tiny.recover(tmp_path, *flags)
    assert pixels_of(run).shape == pixels_of(made).shape
    assert (pixels_of(run) != pixels_of(made)).mean() > 0.05


def test_the_crop_curriculum_starts_from_the_whole_image(made, tiny, tmp_path):
    """Its first view is the whole image, so the first loss is that of the uncropped start image."""
    flags = ("--jitter", 0, "--no-flip", "--iteration", 1)
    first = [run_with(tiny, tmp_path / str(i), *flags, *more)[2][0]["loss"] for i, more in enumerate([
        ("--min-scale-schedule", "cosine"), ("--min-scale-crops", 1)])]
    assert first[0] == first[1]


def test_iterations_vary_with_the_index(tiny, tmp_path):
    _, units, _ = run_with(tiny, tmp_path, "--iteration", 5, "--iteration-step", 2, "--iteration-period", 2,
                           "--ipc-end", 4, "--batch-size", 4)
    assert [unit["iterations"] for unit in units] == [5, 3, 5, 3]


def test_no_iterations_store_the_real_images_unchanged(tiny, tmp_path):
    run = tiny.recover(tmp_path, "--iteration", 0)
    for name, i in itertools.product(CLASSES, range(2)):
        stored, real = run / f"syn/{name}/{name}_ipc{i:04d}.png", tiny.data / f"train/{name}/{i:02d}.png"
        assert numpy.array_equal(Image.open(stored), Image.open(real))


def test_random_initialisation_takes_no_image_twice(tiny, tmp_path):
    run = tiny.recover(tmp_path, "--iteration", 0, "--init", "random", "--ipc-end", 6)
    for name in CLASSES:
        ours, real = ({numpy.asarray(Image.open(path)).tobytes() for path in folder.iterdir()}
                      for folder in (run / "syn" / name, tiny.data / "train" / name))
        assert ours == real and len(ours) == 6


def test_jpeg_images_are_read_as_stored(tiny, tmp_path):
    run = tiny.recover(tmp_path, "--image-format", "jpg", "--jpeg-quality", 40)
    files = sorted(run.glob("syn/*/*"))
    assert {Image.open(path).format for path in files} == {"JPEG"} and len(files) == 8
    tiny.relabel(run)
    assert tiny.validate(run)["n"] == 2


def test_short_classes_are_left_out_and_listed(tiny, tmp_path):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    (data / "train" / "bee" / "05.png").unlink()
    shutil.copytree(data / "train" / "dog", data / "train" / "eel")
    shutil.copytree(data / "val" / "dog", data / "val" / "eel")
    for path in list((data / "train" / "eel").iterdir())[1:]:
        path.unlink()
    dataset = ("--dataset", f"folder:{data}")
    train_teachers.main(tiny.teacher_flags(tmp_path / "teachers", *dataset, "--epochs", 1))
    weights = ("--weights-dir", tmp_path / "teachers", "--min-teacher-accuracy", 0)
    run = tiny.recover(tmp_path, *dataset, *weights, "--ipc-end", 6, "--allow-short-classes")
    units, manifest = units_of(run), read_json(run / "manifest.json")
    assert units["ipc0005_chunk00"]["short_classes"] == ["bee"]
    assert units["ipc0005_chunk02"]["short_classes"] == ["eel"]
    assert units["ipc0005_chunk02"]["files"] == {} == units["ipc0005_chunk02"]["final"]
    assert units["ipc0000_chunk02"]["short_classes"] == []
    assert sorted(path.name for path in run.glob("syn/bee/*")) == [f"bee_ipc{i:04d}.png" for i in range(5)]
    assert manifest["ipc"] == 6 and sum(len(unit["files"]) for unit in manifest["units"]) == 3 * 6 + 5 + 1
    tiny.relabel(run, *weights)
    assert tiny.validate(run, "--fkd-path", run / "fkd" / "6")["n"] == 2


def test_a_verifier_is_logged(tiny, tmp_path):
    _, _, rows = run_with(tiny, tmp_path, "--verifier", "--verifier-arch", "narrow_plain", "--iteration", 0)
    assert {row["verifier_top1"] for row in rows if row.get("done")} == {1.0}  # real images, learnt by heart


# ---------------------------------------------------------------- every choice of relabel and validate

def stored_labels(folder: Path) -> dict:
    return torch.load(folder / "epoch_000.pt", weights_only=True)


def test_every_ensemble(made, tiny, tmp_path):
    more = {"weighted": ("--label-priors", 30, 50, 40)}
    logits = [stored_labels(tiny.relabel(made, "--fkd-path", tmp_path / name, "--ensemble", name,
                                         *more.get(name, ())))["logits"] for name in ENSEMBLES]
    assert len({tensor.numpy().tobytes() for tensor in logits}) == len(ENSEMBLES)
    assert read_json(tmp_path / "primary" / "2" / "manifest.json")["weights"].keys() == {"narrow_resnet"}


def test_mixup_and_no_mix(made, tiny, tmp_path):
    mixup = stored_labels(tiny.relabel(made, "--fkd-path", tmp_path / "mixup", "--mix-type", "mixup"))
    assert ((mixup["mix_lam"] > 0) & (mixup["mix_lam"] < 1)).all() and not mixup["mix_box"].any()
    plain = stored_labels(tiny.relabel(made, "--fkd-path", tmp_path / "none", "--mix-type", "none"))
    assert (plain["mix_lam"] == 1).all() and plain["mix_index"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    for name in ("mixup", "none"):
        assert tiny.validate(made, "--fkd-path", tmp_path / name, "--ipc", 2, "--mix-type", name,
                             "--output-dir", tmp_path / f"students_{name}")["n"] == 2


def test_steps_per_epoch_shorten_every_epoch(made, tiny, tmp_path):
    folder = tiny.relabel(made, "--fkd-path", tmp_path, "--steps-per-epoch", 1)
    assert all(len(torch.load(path, weights_only=True)["index"]) == 5 for path in folder.glob("*.pt"))
    assert tiny.validate(made, "--fkd-path", folder, "--output-dir", tmp_path / "students")["n"] == 2


def student_rows(made, tiny, out, *flags) -> list[dict]:
    """The log of one student."""
    tiny.validate(made, "--output-dir", out, "--seeds", 0, *flags)
    return read_log(out / "seed0" / "log.jsonl")


def test_every_loss(made, tiny, tmp_path):
    soft = {name: student_rows(made, tiny, tmp_path / name, "--loss-type", name)
            for name in LOSSES if name != "ce"}
    hard = student_rows(made, tiny, tmp_path / "ce", "--loss-type", "ce", "--fkd-path", "", "--epochs", 3,
                        "--batch-size", 5)
    first = [rows[0]["loss"] for rows in (*soft.values(), hard)]
    assert len(set(first)) == len(LOSSES) and min(first) > 0
    assert soft["kl_gt"][0]["loss"] > soft["kl"][0]["loss"]


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_sets_the_rate_of_every_epoch(name, made, tiny, tmp_path):
    own = ("--zeta", 2) if name == "ssrs" else ()
    rows = student_rows(made, tiny, tmp_path, "--schedule", name, "--adamw-lr", 0.004, *own)
    factor = build_piece(SCHEDULES, name, {"zeta": 2.0})
    assert [row["lr"] for row in rows] == pytest.approx([0.004 * factor(t, 3) for t in range(3)])


def test_micro_batches_change_batchnorm_and_sgd_the_step(made, tiny, tmp_path):
    losses = [student_rows(made, tiny, tmp_path / str(i), *flags)[-1]["loss"] for i, flags in enumerate([
        (), ("--gradient-accumulation-steps", 2), ("--optimizer", "sgd"), ("--adamw-weight-decay", 0.5)])]
    assert len(set(losses)) == 4


def test_fewer_epochs_than_labels(made, tiny, tmp_path):
    rows = student_rows(made, tiny, tmp_path, "--epochs", 2, "--allow-fewer-epochs")
    assert [row["epoch"] for row in rows] == [0, 1]


def test_evaluation_every_so_many_epochs_and_at_the_end(made, tiny, tmp_path):
    rows = student_rows(made, tiny, tmp_path, "--eval-every", 10)
    assert ["top1" in row for row in rows] == [True, False, True]


def test_diversity_of_equal_images_is_one(tiny, tmp_path, capsys):
    data = write_data(tmp_path / "data")
    for pair in (("ant", "ant"), ("bee", "dog")):  # the second image of a class is the first of another
        there, taken = (data / "train" / name for name in pair)
        shutil.copyfile(taken / "00.png", there / "01.png")
    run = tiny.recover(tmp_path, "--dataset", f"folder:{data}", "--iteration", 0)
    found = diversity.main(words("--data", run, "--arch-name", "narrow_plain", "--weights-dir", tiny.teachers,
                                 *PROCESS))
    assert found["classes"][0] == pytest.approx(1) and found["classes"][1] < 0.99
    assert found["mean"] == pytest.approx(statistics.mean(found["classes"]))
    assert f"{found['mean']:.4f}" in capsys.readouterr().err


# ---------------------------------------------------------------- how labels are stored

def relabelled(tiny, made, folder: Path, *flags) -> Path:
    """Labels of the finished run in a folder of their own."""
    return tiny.relabel(made, "--fkd-path", folder, *flags)


@pytest.mark.parametrize("name", ["int8", "topk:2", "online"])
def test_label_formats_store_less_and_teach(name, made, tiny, tmp_path):
    folder = relabelled(tiny, made, tmp_path, "--label-format", name)
    expected = {"config.json", "manifest.json", "log.jsonl"}
    assert {path.name for path in folder.iterdir() if path.suffix != ".lock"} - expected == (
        set() if name == "online" else {f"epoch_{i:03d}.{end}" for i in range(3) for end in ("pt", "json")})
    rows = student_rows(made, tiny, tmp_path / "out", "--fkd-path", folder, "--weights-dir", tiny.teachers)
    stored = student_rows(made, tiny, tmp_path / "stored")
    ours, theirs = ([row["loss"] for row in rows] for rows in (rows, stored))
    assert ours == pytest.approx(theirs, rel=0.5 if name == "topk:2" else 0.02) and ours != theirs
    assert [row["lr"] for row in rows] == [row["lr"] for row in stored]


def test_online_labels_are_the_stored_ones_but_for_rounding(made, tiny, tmp_path):
    folder = relabelled(tiny, made, tmp_path, "--label-format", "online")
    labels, stored = (open_labels(str(place), 0, write=False) for place in (folder, made / "fkd" / "2"))
    teachers = open_label_teachers(labels, WeightFlags(weights_dir=str(tiny.teachers)), torch.device("cpu"))
    manifest = assemble_manifest(made, write=False)
    pixels, _ = load_distilled(made, manifest.select(2), size=16)
    for epoch in range(3):
        expected, rows = stored.load(epoch)
        drawn, teach = OnlineLabels(labels, teachers, batch_size=5).epoch(epoch)
        assert all(torch.equal(drawn.tensors()[name], expected.tensors()[name]) for name in VIEW_DTYPES)
        for batch in range(2):
            part = slice(5 * batch, 5 * batch + 5)
            views = drawn.render(pixels[drawn.index[part].long()], batch, mean=manifest.mean,
                                 std=manifest.std)
            assert torch.equal(teach(batch, views).half(), rows["logits"][part])


def test_online_labels_need_the_weights_that_relabel_checked(made, tiny, tmp_path, refused):
    folder = relabelled(tiny, made, tmp_path, "--label-format", "online")
    other = ("--weights", f"narrow_resnet={made}/validate/narrow_resnet/seed0/student_last.pt")
    line = refused(train_FKD.main, tiny.validate_flags(
        made, "--fkd-path", folder, "--output-dir", tmp_path / "out", "--weights-dir", tiny.teachers, *other))
    assert "weights of narrow_resnet are not those that the labels were made for" in line


def test_a_pool_of_label_epochs_is_gone_through_in_turn(made, tiny, tmp_path):
    folder = relabelled(tiny, made, tmp_path, "--label-epochs", 2)
    assert contents(folder)["epoch_001.pt"] == contents(made / "fkd" / "2")["epoch_001.pt"]
    assert not (folder / "epoch_002.pt").exists()
    first = torch.load(folder / "epoch_000.pt", weights_only=True)
    drawn, teach = StoredLabels(open_labels(str(folder), 0, write=False)).epoch(2)
    assert all(torch.equal(tensor, first[name]) for name, tensor in drawn.tensors().items())
    assert torch.equal(teach(1, torch.zeros(3, 3, 16, 16)), first["logits"][5:].float())
    pooled = student_rows(made, tiny, tmp_path / "out", "--fkd-path", folder)
    whole = student_rows(made, tiny, tmp_path / "whole")
    assert [row["loss"] for row in pooled[:2]] == [row["loss"] for row in whole[:2]]
    assert pooled[2]["loss"] != whole[2]["loss"] and len(pooled) == 3
    online = relabelled(tiny, made, tmp_path / "online", "--label-epochs", 2, "--label-format", "online")
    labels = open_labels(str(online), 0, write=False)
    assert torch.equal(OnlineLabels(labels, [], batch_size=5).epoch(2)[0].crop, first["crop"])


def test_images_above_the_budget_are_streamed_to_the_same_bytes(made, tiny, copied):
    shutil.rmtree(copied / "fkd")
    shutil.rmtree(copied / "validate")
    tiny.relabel(copied, "--resident-gb", 0, "--workers", 0)
    tiny.validate(copied, "--resident-gb", 0, "--workers", 0)
    assert contents(copied) == contents(made)


# ---------------------------------------------------------------- plans

def test_dry_runs_of_a_finished_run_write_nothing(made, tiny, dry_run):
    before = modification_times(made)
    plans = []
    for main, flags in ((data_synthesis.main, tiny.recover_flags(made.parent, "--ipc-end", 4)),
                        (generate_soft_label.main, tiny.relabel_flags(made)),
                        (train_FKD.main, tiny.validate_flags(made, "--seeds", 0, 1, 2))):
        plan, line = dry_run(main, flags)
        assert line == ""
        plans.append(plan)
    assert modification_times(made) == before
    assert "8 in all, 8 of this shard, 4 to do" in plans[0] and "12 to do" in plans[0]
    assert "3 of students, 3 stored, 0 to do" in plans[1]
    assert "narrow_resnet + narrow_shufflenet + narrow_alexnet" in plans[1]
    assert "3 x narrow_resnet" in plans[2] and "1 to do" in plans[2]
    assert all("measured here" in plan or "unknown until" not in plan for plan in plans)


def test_dry_runs_before_there_is_anything(tiny, tmp_path, monkeypatch, dry_run):
    monkeypatch.chdir(tmp_path)
    for main, flags, told, missing in (
            (data_synthesis.main, ("--train-data-path", "nowhere", "--ipc-end", 10),
             ("100 in all", "255000 to do", "resnet18 <- resnet18", "10000 (10 IPC indices x 1000 classes)"),
             "error: nowhere: expected a folder of class folders"),
            (generate_soft_label.main, ("--ipc", 10), ("300 to do", "batches of 50", "6."),
             "error: --data out/full_resnet18: no distilled images there"),
            (train_FKD.main, ("--ipc", 10, "--fkd-path", "out/fkd/10", "--epochs", 300, "--batch-size", 50),
             ("60000 steps", "1 x resnet18", "10000, batches of 50 in 2 micro-batches"),
             "error: --train-dir out/full_resnet18: no distilled images there"),
            (train_FKD.main, ("--ipc", 50, "--fkd-path", "out/fkd/50"),  # epochs and batch: the protocol's
             ("150000 steps", "50000, batches of 100 in 2 micro-batches"), "error: --train-dir"),
            (train_FKD.main, ("--ipc", 10, "--fkd-path", "out/fkd/10", "--protocol", "delt"),
             ("kl, half-cosine", "micro-batches"), "error: --train-dir")):
        shown, line = dry_run(main, flags)
        assert all(text in shown for text in told), shown
        assert line.startswith(missing)
    assert list(tmp_path.iterdir()) == []


def test_dry_runs_need_an_ipc_where_no_run_says_it(tmp_path, monkeypatch, dry_run):
    monkeypatch.chdir(tmp_path)
    for main, flags in ((generate_soft_label.main, ()), (train_FKD.main, ("--fkd-path", "out/fkd"))):
        assert dry_run(main, flags) == (
            "", "error: out/full_resnet18: there are no distilled images yet: a --dry-run then needs --ipc")


def test_a_dry_run_of_new_folders_makes_none_and_the_run_then_starts(made, tiny, tmp_path, dry_run):
    before = modification_times(made)
    for main, argv in ((data_synthesis.main, tiny.recover_flags(tmp_path / "out")),
                       (generate_soft_label.main, tiny.relabel_flags(made, "--fkd-path", tmp_path / "fkd")),
                       (train_FKD.main, tiny.validate_flags(made, "--output-dir", tmp_path / "students"))):
        plan, line = dry_run(main, argv)
        assert line == "" and "to do" in plan and not list(tmp_path.iterdir())
        dry_run(main, [*argv, "--overwrite"])
    assert not list(tmp_path.iterdir()) and modification_times(made) == before


def test_a_dry_run_plans_the_share_of_a_shard(tiny, tmp_path, dry_run):
    plan, line = dry_run(data_synthesis.main, tiny.recover_flags(tmp_path / "out", "--shard", "1/4"))
    assert line == "" and "4 in all, 1 of this shard, 1 to do" in plan and "3 to do" in plan


# ---------------------------------------------------------------- folders of the version before

DELETED = object()


def rewrite(path: Path, **changes) -> None:
    """Changes entries of the dicts in a JSON file; DELETED deletes one."""
    saved = read_json(path)
    for name, entries in changes.items():
        saved[name] = {key: own for key, own in (saved[name] | entries).items() if own is not DELETED}
    write_json(path, saved)


def gone_on_with(tiny, folder: Path, stage) -> None:
    """A stage that finds everything done: its folder's files stay as they are."""
    before = {path: time for path, time in modification_times(folder).items()
              if not path.endswith(("manifest.json", "results.json", "log.jsonl", "preflight.json"))}
    stage()
    assert before.items() <= modification_times(folder).items()


def test_a_run_of_the_version_before_is_gone_on_with(tiny, copied):
    rewrite(copied / "config.json", config={"priors": DELETED})  # which had no such choice: tv and l2 always
    gone_on_with(tiny, copied, lambda: tiny.recover(copied.parent, "--exp-name", copied.name))


def test_a_run_of_the_version_before_held_options_without_effect(tiny, tmp_path):
    run = tiny.recover(tmp_path, "--teachers", "single", "--iteration", 1)
    assert not {"subset_law", "max_bn_teachers"} & read_json(run / "config.json")["config"].keys()
    rewrite(run / "config.json", config={"subset_law": "bernoulli", "max_bn_teachers": 4})
    gone_on_with(tiny, run, lambda: tiny.recover(tmp_path, "--teachers", "single", "--iteration", 1))


@pytest.mark.parametrize("flags, there", [
    ((), {"config": {"mix_alpha": None}}),
    (("--label-format", "int8"), {"config": {"mix_alpha": None}}),
    (("--mix-type", "none"), {"config": {"mix_alpha": None}, "views": {"mix_alpha": 1.0}}),
    (("--label-format", "topk:2"), {
        "config": {"mix_alpha": None, "label_format": "topk:2", "topk": DELETED},
        "protocol": {"changed": ["epochs", "arch_name", "pool", "label_format"]}}),
], ids=["cutmix", "int8", "no mix", "topk"])
def test_labels_of_the_version_before_are_gone_on_with(flags, there, made, tiny, tmp_path):
    folder = tiny.relabel(made, "--fkd-path", tmp_path, *flags)
    rewrite(folder / "config.json", **there)
    (folder / "manifest.json").unlink()
    students = ("--fkd-path", folder, "--output-dir", tmp_path / "students", "--seeds", 0)
    tiny.validate(made, *students)
    gone_on_with(tiny, folder, lambda: tiny.relabel(made, "--fkd-path", tmp_path, *flags))
    assert tiny.validate(made, *students)["n"] == 1


@pytest.mark.parametrize("flags, there", [
    ((), {"momentum": 0.9, "temperature": 20.0}),
    (("--loss-type", "kl", "--schedule", "cosine"), {"momentum": 0.9, "ce_weight": 0.1, "zeta": 2.5}),
    (("--fkd-path", "", "--loss-type", "ce", "--epochs", 2, "--batch-size", 4),
     {"momentum": 0.9, "temperature": 20.0, "ce_weight": 0.1})], ids=["mse_gt", "kl", "ce"])
def test_students_of_the_version_before_are_gone_on_with(flags, there, made, tiny, tmp_path):
    flags = ("--output-dir", tmp_path, "--seeds", 0, *flags)
    tiny.validate(made, *flags)
    assert not there.keys() & read_json(tmp_path / "config.json")["config"].keys()
    rewrite(tmp_path / "config.json", config=there)
    gone_on_with(tiny, tmp_path, lambda: tiny.validate(made, *flags))


def test_teachers_of_the_version_before_are_gone_on_with(tiny, tmp_path):
    folder = shutil.copytree(tiny.teachers, tmp_path / "teachers")
    assert "momentum" not in read_json(folder / "config.json")["config"]
    rewrite(folder / "config.json", config={"momentum": 0.9})
    gone_on_with(tiny, folder, lambda: train_teachers.main(tiny.teacher_flags(folder)))


# ---------------------------------------------------------------- processes

def torchrun(tmp_path, module: str, flags, **settings) -> subprocess.Popen:
    """A stage under torchrun with two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
               module, *flags]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
                            env={**os.environ, "PYTHONPATH": str(ROOT), **settings})


def test_torchrun_splits_units_and_a_dead_ranks_are_picked_up(made, tiny, tmp_path):
    flags = tiny.recover_flags(tmp_path)
    done = torchrun(tmp_path, "recover.data_synthesis", flags)
    assert done.wait(120) == 0, done.stderr.read()
    run = tmp_path / "run"
    assert {path.name for path in run.glob("log*")} == {"log_0of2.jsonl", "log_1of2.jsonl"}
    assert contents(run) == {path: digest for path, digest in contents(made).items()
                             if not path.startswith(("fkd", "validate"))}
    for unit in ("ipc0000_chunk01", "ipc0001_chunk01"):  # rank 1 died before its units were finished
        (run / "units" / f"{unit}.json").unlink()
    before = modification_times(run)
    tiny.recover(tmp_path)
    after = modification_times(run)
    again = {path for path in before if path.startswith("syn") and before[path] != after[path]}
    assert again == {f"syn/{name}/{name}_ipc000{i}.png" for name in CLASSES[2:] for i in range(2)}
    done = torchrun(tmp_path, "relabel.generate_soft_label", tiny.relabel_flags(run))
    assert done.wait(120) == 0, done.stderr.read()
    tiny.validate(run)
    assert contents(run) == contents(made)


def test_two_processes_stop_when_told_and_go_on(made, tiny, tmp_path):
    flags = tiny.validate_flags(made, "--output-dir", tmp_path / "out", "--gradient-accumulation-steps", 2,
                                "--seeds", 0, "--eval-every", 1000, "--save-every", 0)
    running = torchrun(tmp_path, "validate.train_FKD", flags)
    unfinished = tmp_path / "out" / "seed0" / "unfinished.pt"
    for _ in range(3000):
        if unfinished.is_file() or running.poll() is not None:
            break
        time.sleep(0.02)
    running.terminate()
    running.wait(120)
    whole = tiny.validate(made, "--output-dir", tmp_path / "whole", "--gradient-accumulation-steps", 2,
                          "--seeds", 0, "--eval-every", 1000)
    done = torchrun(tmp_path, "validate.train_FKD", flags)
    assert done.wait(120) == 0, done.stderr.read()
    rows = [read_log(tmp_path / name / "seed0" / "log.jsonl") for name in ("out", "whole")]
    assert [row["loss"] for row in rows[0]] == pytest.approx([row["loss"] for row in rows[1]], rel=1e-4)
    assert whole["n"] == 1 and not unfinished.exists()


def test_two_processes_train_the_student_of_one(made, tiny, tmp_path):
    micro = ("--gradient-accumulation-steps", 2, "--seeds", 0)
    alone = student_rows(made, tiny, tmp_path / "one", *micro)
    done = torchrun(tmp_path, "validate.train_FKD",
                    tiny.validate_flags(made, "--output-dir", tmp_path / "two", *micro))
    assert done.wait(120) == 0, done.stderr.read()
    together = read_log(tmp_path / "two" / "seed0" / "log.jsonl")
    assert [row["loss"] for row in together] == pytest.approx([row["loss"] for row in alone], rel=1e-4)
    ours, theirs = (torch.load(tmp_path / name / "seed0" / "student_last.pt", weights_only=True)
                    for name in ("two", "one"))
    weights = [name for name in ours if "running" not in name and "num_batches" not in name]
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in weights)
    assert read_json(tmp_path / "two" / "results.json")["n"] == 1


def test_an_overwriting_dry_run_plans_another_configuration_anew(made, tiny, tmp_path, capsys):
    shutil.copytree(made, tmp_path / "run")
    before, overwrite = contents(tmp_path), ("--dry-run", "--overwrite")
    for seed, flags, units, epochs in ((0, ("--dry-run",), 0, 0), (0, overwrite, 0, 0), (1, overwrite, 4, 3)):
        tiny.recover(tmp_path, *flags, "--seed", seed)
        out, said = capsys.readouterr()
        assert f"{units} to do" in out.splitlines()[2] and f"{units} groups of units to do" in said
        assert ("is deleted first" in said) == bool(seed)
        tiny.relabel(tmp_path / "run", *flags, "--seed", seed)
        out, said = capsys.readouterr()
        assert f"3 stored, {epochs} to do" in out and f"{epochs} epochs to do" in said
    for rate, left in ((0.001, 0), (0.01, 2)):
        tiny.validate(tmp_path / "run", *overwrite, "--adamw-lr", rate)
        out, said = capsys.readouterr()
        assert f"(small stem), {left} to do" in out and f"{left} students to do" in said
    assert contents(tmp_path) == before


def test_a_subset_without_anything_to_align_is_said(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("utils.runtime._said", set())
    tiny.recover(tmp_path, "--teachers", "single")
    assert "nothing to align" not in capsys.readouterr().err
    tiny.recover(tmp_path, "--teachers", "single", "--arch-name", "narrow_alexnet", "--exp-name", "alexnet")
    assert "a drawn subset has nothing to align: cross-entropy alone" in capsys.readouterr().err
