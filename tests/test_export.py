"""Exports: what others' readers find in them, and what verify.py says of whole and of other ones."""
import dataclasses
import functools
import json
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy
import pytest
import torch
from helpers import Tiny, contents, modification_times
from PIL import Image
from torchvision.datasets import ImageFolder

from models.registry import load_teachers
from recover import data_synthesis
from relabel import generate_soft_label
from utils.flags import parse_config
from utils.formats import ImageManifest, image_set_digest
from utils.image_sets import open_images
from utils.loading import load_distilled
from utils.measures import command_of, save_measure
from validate import evaluate, export, train_FKD
from validate.exporting import contents as exporting
from validate.exporting import ddranking, hub, measured, verify
from validate.exporting.card import code

pytest_plugins = ["stage_fixtures"]
STUDENTS = "validate/narrow_resnet"


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    """f(layout, *flags): a folder of that export, made once; copy it to change it."""
    @functools.cache
    def make(layout: str, *flags: str) -> Path:
        out = tmp_path_factory.mktemp("exports") / layout
        export.main([str(made), "--to", layout, "--out", str(out), *flags])
        return out
    return make


def check(folder: Path, *words) -> tuple[int, str]:
    """Status and output of verify.py, as a stranger runs it: without this project on the path."""
    done = subprocess.run([sys.executable, "-I", str(folder / "verify.py"), *map(str, words)], text=True,
                          capture_output=True, timeout=60, cwd="/")
    return done.returncode, done.stdout + done.stderr


def pixels_and_labels(run) -> tuple[torch.Tensor, torch.Tensor]:
    images = open_images(str(run), flag="RUN")
    return load_distilled(images.run, images.select(0), size=images.size)


# ---------------------------------------------------------------- readers

def test_torchvision_reads_the_folders_with_the_same_labels_and_pixels(made, exported):
    folder, (pixels, labels) = exported("imagefolder"), pixels_and_labels(made)
    found = ImageFolder(folder)
    assert found.targets == labels.tolist() and found.classes == ["00000", "00001", "00002", "00003"]
    assert Path(found.samples[3][0]).relative_to(folder).as_posix() == "00001/00001.png"
    for i, (picture, _) in enumerate(found):
        assert (numpy.asarray(picture).transpose(2, 0, 1) == pixels[i].numpy()).all()
    assert json.loads((folder / "classes.json").read_text()) == ["ant", "bee", "cat", "dog"]
    own = (made / "syn/bee/bee_ipc0001.png").read_bytes()
    assert (folder / "00001/00001.png").read_bytes() == own  # not coded again


def front_matter(folder: Path) -> dict:
    """The YAML of a card: a JSON value a line."""
    _, block, _ = (folder / "README.md").read_text().split("---\n", 2)
    return {key: json.loads(value) for key, _, value in
            (line.partition(": ") for line in block.splitlines())}


def test_the_card_of_the_hub_states_classes_and_columns(exported):
    folder = exported("hub")
    fields = front_matter(folder)
    own, = fields["configs"]
    assert own["features"] == fields["dataset_info"]["features"] and own["data_files"][0]["split"] == "train"
    assert own["features"][1]["dtype"]["class_label"]["names"] == dict(zip("0123", (
        "ant", "bee", "cat", "dog"), strict=True))
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert [row["label"] for row in rows] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert all((folder / row["file_name"]).is_file() and row["class_id"] == row["label"] for row in rows)
    assert fields["license"] == "unknown" and fields["size_categories"] == ["n<1K"]
    assert "not measured" in (folder / "README.md").read_text()


NAMES = ["a: b", '"', "'", "no", "# x", "---", "\u2028", "\x85", "\x7f", "😀", "\udcff", "\\", "{a}", " "]


def test_names_of_other_people_are_yaml_too():
    text = hub.yaml(NAMES)
    assert json.loads(text) == NAMES and text.isprintable() and len(text.splitlines()) == 1
    yaml = pytest.importorskip("yaml", reason="PyYAML is not here: JSON alone was read")
    assert yaml.safe_load(f"names: {text}\n") == {"names": NAMES}


@pytest.mark.parametrize("name, shown", [("x|y", "`x?y`"), ("a`b", "`` a`b ``"), ("a\nb", "`a?b`"),
                                         ("<script>", "`<script>`"), ("", "`?`")])
def test_names_stay_in_their_cell(name, shown):
    assert code(name) == shown


def test_datasets_loads_the_hub_layout(made, exported, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    datasets = pytest.importorskip("datasets", reason="datasets: scripts/setup.sh export")
    pixels, labels = pixels_and_labels(made)
    found = datasets.load_dataset(str(exported("hub")), split="train", cache_dir=str(tmp_path))
    assert found["label"][:] == found["class_id"][:] == labels.tolist()
    assert found.features["label"].names == ["ant", "bee", "cat", "dog"]
    assert (numpy.asarray(found[5]["image"]).transpose(2, 0, 1) == pixels[5].numpy()).all()


def test_students_and_labels_come_back_from_safetensors(made, exported):
    safetensors = pytest.importorskip("safetensors", reason="safetensors: scripts/setup.sh export")
    load = pytest.importorskip("safetensors.torch").load_file
    folder = exported("safetensors")
    pairs = [(f"students/validate_narrow_resnet/seed{seed}", f"{STUDENTS}/seed{seed}/student_last")
             for seed in (0, 1)] + [(f"labels/epoch_{i:03d}", f"fkd/2/epoch_{i:03d}") for i in range(3)]
    for theirs, ours in pairs:
        found, expected = load(folder / f"{theirs}.safetensors"), torch.load(made / f"{ours}.pt")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) and found[name].dtype == expected[name].dtype
                   for name in expected)
    about = safetensors.safe_open(folder / f"{pairs[0][0]}.safetensors", "pt").metadata()
    assert json.loads(about["class_names"]) == ["ant", "bee", "cat", "dog"]
    result = json.loads((made / STUDENTS / "seed0/result.json").read_text())
    assert about["sha256_of_pt"] == result["files"]["student_last.pt"]["sha256"]
    assert json.loads(about["teachers"]) == result["labels_teachers"] and check(folder)[0] == 0


def test_without_safetensors_it_says_what_gives_it(made, tmp_path, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    line = refused(export.main, [made, "--to", "safetensors", "--out", tmp_path / "out"])
    assert "scripts/setup.sh export" in line and not (tmp_path / "out").exists()


# ---------------------------------------------------------------- DD-Ranking

def test_ddranking_has_normalised_images_class_by_class_and_mean_logits(made, tiny: Tiny, exported):
    folder, (pixels, _) = exported("ddranking"), pixels_and_labels(made)
    images = open_images(str(made), flag="RUN")
    mean, std = (numpy.asarray(own, numpy.float32)[:, None, None] for own in (images.mean, images.std))
    expected = (pixels.numpy().astype(numpy.float32) / 255 - mean) / std
    stored = {name: torch.load(folder / f"{name}.pt", weights_only=True)
              for name in ("images", "labels", "lr")}
    assert stored["images"].dtype == torch.float32
    numpy.testing.assert_allclose(stored["images"].numpy(), expected, atol=1e-5)
    record = json.loads((made / "fkd/2/config.json").read_text())
    teachers = load_teachers(record["teachers"], weights=(), weights_dir=str(tiny.teachers), num_classes=4,
                             dataset=images.dataset, stem=images.stem, device=torch.device("cpu"))
    logits = sum(own.model(torch.tensor(expected)).detach() for own in teachers.values()) / len(teachers)
    torch.testing.assert_close(stored["labels"], logits, atol=1e-4, rtol=1e-4)
    assert stored["lr"].item() == pytest.approx(0.001) and not list(folder.glob("*.yaml"))


def test_ddranking_is_told_of_data_and_teachers_that_it_knows():
    images = types.SimpleNamespace(dataset="tiny-imagenet", size=64, stem="small", mean=(0.5,) * 3,
                                   std=(0.25,) * 3)
    labels = types.SimpleNamespace(teachers=("resnet18", "shufflenet_v2_x0_5"))
    known = types.SimpleNamespace(images=images, labels=labels, ipc=10)
    assert ddranking.teachers_of(known) == {"resnet18": "ResNet-18-BN"}
    settings = ddranking.DDRanking().settings(known, "lrs", ["ResNet-18-BN"])
    assert settings["dataset"] == "TinyImageNet" and settings["soft_label_mode"] == "M"
    assert settings["random_data_format"] == "image" and settings["lr_scheduler"] == "cosine"
    images.size = 128  # where it takes the large stem
    assert ddranking.teachers_of(known) == {}


def test_ddrankings_own_reader_takes_settings_and_tensors(exported, tmp_path):
    pytest.importorskip("ddranking", reason="ddranking is not here (it wants an environment of its own)")
    from ddranking.config import Config
    from ddranking.utils import TensorDataset
    folder = exported("ddranking")
    stored = TensorDataset(*(torch.load(folder / f"{name}.pt") for name in ("images", "labels")))
    assert len(stored) == 8 and stored[7][0].shape == (3, 16, 16) and stored[7][1].shape == (4,)
    images = types.SimpleNamespace(dataset="tiny-imagenet", size=64, mean=(0.5,) * 3, std=(0.25,) * 3)
    path = tmp_path / "lrs.yaml"
    path.write_text(json.dumps(ddranking.DDRanking().settings(types.SimpleNamespace(
        images=images, ipc=1), "lrs", ["ResNet-18-BN"])))
    config = Config.from_file(str(path))
    assert config.get("im_size") == (64, 64) and len(config.get("custom_val_trans").transforms) == 4


# ---------------------------------------------------------------- verify.py

@pytest.mark.parametrize("layout", ["imagefolder", "hub", "ddranking"])
def test_a_whole_export_is_whole(layout, exported):
    status, said = check(exported(layout))
    assert status == 0 and "all whole" in said and "8 images of 4 classes" in said
    assert f"{STUDENTS}: narrow_resnet, soft labels: top-1" in said and "(n = 2 students)" in said


def test_what_is_changed_missing_reordered_or_foreign_is_named(exported, tmp_path):
    folder = shutil.copytree(exported("imagefolder"), tmp_path / "out")
    content = bytearray((folder / "00000/00000.png").read_bytes())
    content[-20] ^= 1
    (folder / "00000/00000.png").write_bytes(content)
    (folder / "00000/00001.png").unlink()
    (folder / "00001").rename(folder / "aside")
    (folder / "00002").rename(folder / "00001")
    (folder / "aside").rename(folder / "00002")
    (folder / "00003/extra.png").write_bytes(b"")
    status, said = check(folder)
    assert status == 1 and "NOT WHOLE" in said
    assert "changed   00000/00000.png" in said and "missing   00000/00001.png" in said
    assert "reordered 00001/00000.png: holds the bytes of 00002/00000.png" in said
    assert "foreign   00003/extra.png" in said and "count     class 0 (ant): 1 images, expected 2" in said
    shutil.rmtree(folder / "00003")
    assert "order     folders: class 3 is missing, expected '00003'" in check(folder)[1]


@pytest.mark.parametrize("layout, one, other, suffix", [
    ("imagefolder", "00001", "00002", "00000.png"), ("hub", "syn/bee", "syn/cat", "{}_ipc0000.png")])
def test_two_swapped_class_folders_are_two_lines_and_nothing_more_is_promised(layout, one, other, suffix,
                                                                              exported, tmp_path):
    folder = shutil.copytree(exported(layout), tmp_path / "out")
    for path, content in [(path, path.read_bytes()) for path in sorted((folder / one).iterdir())]:
        twin = folder / other / path.name.replace("bee", "cat")
        path.write_bytes(twin.read_bytes())
        twin.write_bytes(content)
    status, said = check(folder)
    *found, digest, last = said.splitlines()
    assert found == [f"reordered {a}/{suffix.format(a[4:])}: holds the bytes of {b}/{suffix.format(b[4:])}, "
                     f"1 more of {a} those of {b}" for a, b in ((one, other), (other, one))]
    assert status == 1 and digest.startswith("sha256") and last.endswith("NOT WHOLE, findings: 2")


def test_swapped_folders_whose_files_tell_their_class_are_as_few_lines(exported, tmp_path):
    folder = shutil.copytree(exported("hub"), tmp_path / "out")
    for old, new in (("bee", "aside"), ("cat", "bee"), ("aside", "cat")):
        (folder / "syn" / old).rename(folder / "syn" / new)
    (folder / "syn/dog/link.png").symlink_to("nowhere")
    found = check(folder)[1].splitlines()
    assert found[:3] == [
        "foreign   syn/dog/link.png: a picture that is not of the set",
        "moved     syn/cat/cat_ipc0000.png: lies at syn/bee/cat_ipc0000.png, 1 more of syn/cat in syn/bee",
        "moved     syn/bee/bee_ipc0000.png: lies at syn/cat/bee_ipc0000.png, 1 more of syn/bee in syn/cat"]
    assert [line.split()[0] for line in found[3:-2]] == ["count", "count"]


def test_another_order_of_classes_is_named_wherever_it_stands(exported, tmp_path):
    folder = shutil.copytree(exported("hub"), tmp_path / "out")
    (folder / "classes.json").write_text('["bee", "ant", "cat", "dog"]')
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card.replace('"0": "ant", "1": "bee"', '"0": "bee", "1": "ant"'))
    rows = (folder / "metadata.jsonl").read_text().replace('"label": 3', '"label": 0')
    (folder / "metadata.jsonl").write_text(rows)
    status, said = check(folder)
    assert status == 1 and "classes.json: class 0 is 'bee', expected 'ant'" in said
    assert "README.md: class 0 is 'bee'" in said and "syn/dog/dog_ipc0000.png: not its label (2 such)" in said
    (folder / "README.md").write_text(card.replace("unknown", "mit") + "A word of mine.\n")
    assert "README" not in check(folder)[1]


@pytest.mark.parametrize("stated", ["configs", "dataset_info"])
def test_names_of_classes_that_one_place_of_the_card_swaps_are_found(stated, exported, tmp_path):
    folder = shutil.copytree(exported("hub"), tmp_path / "out")
    lines = (folder / "README.md").read_text().split("\n")
    at = next(i for i, line in enumerate(lines) if line.startswith(f"{stated}: "))
    lines[at] = lines[at].replace('"0": "ant", "1": "bee"', '"0": "bee", "1": "ant"')
    (folder / "README.md").write_text("\n".join(lines))
    status, said = check(folder)
    assert status == 1 and f"{stated} in README.md: class 0 is 'bee', expected 'ant'" in said


def test_what_torchvision_reads_beside_the_set_is_named(exported, tmp_path):
    folder = shutil.copytree(exported("imagefolder"), tmp_path / "out")
    (folder / ".0").mkdir()
    shutil.copy(folder / "00000/00000.png", folder / ".0/x.png")
    (folder / "00001/more").symlink_to(folder / "00000")
    (folder / "00002/.git").mkdir()
    (folder / "00002/.git/y.png").write_bytes(b"")
    assert ImageFolder(folder).classes[0] == ".0" and len(ImageFolder(folder)) == 12
    status, said = check(folder)
    assert status == 1 and "order     folders: class 0 is '.0', expected '00000'" in said
    assert "foreign   .0/x.png" in said and "foreign   00002/.git/y.png" in said
    assert "foreign   00001/more: a linked folder" in said


def test_what_git_and_the_hubs_client_keep_is_no_part_of_a_set(exported, tmp_path):
    for layout, expected in (("hub", 0), ("imagefolder", 1)):  # of which torchvision makes a class
        folder = shutil.copytree(exported(layout), tmp_path / layout)
        (folder / ".cache").mkdir()
        (folder / ".cache/picture.png").write_bytes(b"")
        status, said = check(folder)
        assert status == expected and ("class 0 is '.cache'" in said) == bool(expected), said
        assert "foreign" not in said


def test_teachers_are_known_by_their_bytes(exported, tiny: Tiny, tmp_path):
    status, said = check(exported("hub"), "--teachers", tiny.teachers)
    assert status == 0 and said.count("found ") == 4 and "missing" not in said
    assert check(exported("hub"), "--teachers", tmp_path)[0] == 1
    (tmp_path / "weights.pt").write_bytes(b"some")
    record = {"teachers": {"images": {"a\x1b[2J": verify.digest_of(tmp_path / "weights.pt"), "b": "0"},
                           "labels": {"c": verify.digest_of(tmp_path / "weights.pt"), "b": "0"}}}
    status, lines = verify.check_teachers(record, tmp_path)
    assert status == 1 and [line.split()[0] for line in lines] == ["found", "missing", "found"]
    folder = shutil.copytree(exported("hub"), tmp_path / "out")
    (folder / "export.json").write_text(json.dumps(record))
    status, said = check(folder, "--teachers", tmp_path)
    assert status == 1 and "\x1b" not in said and "a\\x1b[2J" in said


def test_a_teacher_with_other_bytes_is_not_called_missing(exported, tiny: Tiny, tmp_path):
    folder = shutil.copytree(tiny.teachers, tmp_path / "teachers")
    for name in ("narrow_resnet.pt", "narrow_plain.pt"):
        assert (folder / name).is_file()
    (folder / "narrow_resnet.pt").rename(folder / "narrow_resnet-1234.pth")
    with open(folder / "narrow_resnet-1234.pth", "ab") as file:
        file.write(b"more")
    (folder / "narrow_plain.pt").unlink()
    status, said = check(exported("hub"), "--teachers", folder)
    assert status == 1 and said.count("found ") == 2
    assert re.search(r"changed narrow_resnet \w{64}: .*narrow_resnet-1234.pth has other bytes", said)
    assert re.search(r"missing narrow_plain \w{64}$", said, re.M)
    assert check(exported("hub"), "--teachers", tmp_path / "none") == (
        2, f"error: --teachers {tmp_path / 'none'}: no such folder\n")


ROW = {"name": "a", "model": "resnet18", "labels": "soft", "n": 2, "mean": 90.0, "std": 1.0, "t": 12.706}


def test_an_interval_too_wide_to_check_much_is_called_so():
    """12.706 sqrt(3 / 2) = 15.56 points either side of 90, cut at 100: 25.6 points wide."""
    status, line = verify.judge({"accuracies": [ROW]}, [99.9], None)
    assert status == 0 and line.endswith("within the 95 % interval [74.44, 100.00]; 25.6 points wide, it "
                                         "checks little")
    assert verify.describe(ROW).endswith("[74.44, 100.00]; 25.6 points wide, it checks little")
    narrow = {**ROW, "std": 0.3}  # 9.3 points
    assert "little" not in verify.judge({"accuracies": [narrow]}, [90], None)[1] + verify.describe(narrow)


def test_students_of_equal_accuracy_give_no_interval(made, tmp_path):
    run = shutil.copytree(made, tmp_path / "run")
    for path in (run / STUDENTS).glob("seed*/result.json"):
        result = json.loads(path.read_text())
        path.write_text(json.dumps({**result, "last": {**result["last"], "top1": 0.5}}))
    export.main([str(run), "--out", str(tmp_path / "out")])
    row, = json.loads((tmp_path / "out/export.json").read_text())["accuracies"]
    assert (row["n"], row["std"], row["interval"]) == (2, 0, None)
    status, said = check(tmp_path / "out", "--accuracy", 40)
    assert status == 2 and "of one run, or of equal ones, no interval is known" in said
    assert "(n = 2, no spread is known" in check(tmp_path / "out")[1]


@pytest.mark.parametrize("given, mean, status", [
    ([0.92], 91.0, 2), ([0.92, 1.0], 30.0, 2), ([0.92], 1.0, 0), ([1], 2.0, 1), ([0], 91.0, 1),
    ([92], 91.0, 0)])
def test_a_fraction_is_asked_about(given, mean, status):
    row = {**ROW, "mean": mean, "std": 0.05 if mean < 5 else 0.1}
    got, line = verify.judge({"accuracies": [row]}, given, None)
    assert got == status and ("is that a fraction?" in line) == (status == 2)


def test_an_accuracy_is_judged_by_the_interval_of_so_many_more_students():
    """t(2) = 4.303, s = 0.2: one more within 49.2 +- 0.994, the mean of three more within +- 0.703."""
    row = {"name": "a", "model": "resnet18", "labels": "soft", "n": 3, "mean": 49.2, "std": 0.2, "t": 4.303}
    low, high = verify.interval(row, 1)
    assert (low, high) == (pytest.approx(48.2063, abs=1e-4), pytest.approx(50.1937, abs=1e-4))
    assert verify.interval(row, 3) == (pytest.approx(48.4973, abs=1e-4), pytest.approx(49.9027, abs=1e-4))
    record = {"accuracies": [row]}
    verdicts = {value: verify.judge(record, [value], None)[0] for value in (10, 48.1, 48.2, 49, 50.2, 50.3)}
    assert verdicts == {10: 1, 48.1: 1, 48.2: 0, 49: 0, 50.2: 0, 50.3: 1}
    assert verify.judge(record, [48.4, 48.4, 48.4], None)[0] == 1
    single = {"accuracies": [{**row, "n": 1, "std": None, "t": None}]}
    status, line = verify.judge(single, [49.2], None)
    assert status == 2 and "no interval is known" in line
    assert verify.judge({"accuracies": [row, {**row, "name": "b"}]}, [49.2], None)[0] == 2


def examples(folder: Path) -> list[list[str]]:
    """The words for verify.py that a card shows."""
    return [shlex.split(line, comments=True)[2:] for line in (folder / "README.md").read_text().splitlines()
            if line.startswith("    python verify.py")]


def test_the_examples_on_the_card_run_as_they_stand(made, tiny: Tiny, exported, tmp_path):
    run = shutil.copytree(made, tmp_path / "run")
    shutil.copytree(run / STUDENTS, run / "validate/a student's")
    export.main([str(run), "--out", str(tmp_path / "out")])
    for folder, of in ((exported("imagefolder"), []), (tmp_path / "out", ["--of", "validate/a student's"])):
        whole, accuracy, teachers = examples(folder)
        assert whole == [] and accuracy[0] == "--accuracy" and accuracy[2:] == of
        assert check(folder, *accuracy)[0] == 0 and teachers == ["--teachers", "FOLDER"]
    for seed in (1, *range(2, 5)):
        shutil.rmtree(run / STUDENTS / f"seed{seed}", ignore_errors=True)
    export.main([str(run), "--students", str(run / STUDENTS), "--out", str(tmp_path / "single")])
    assert examples(tmp_path / "single") == [[], teachers]  # of one student no interval is known


def test_the_recorded_interval_is_that_of_the_students(made, exported):
    row, = json.loads((exported("imagefolder") / "export.json").read_text())["accuracies"]
    each = [100 * json.loads((made / STUDENTS / f"seed{seed}/result.json").read_text())["last"]["top1"]
            for seed in (0, 1)]
    mean, std = numpy.mean(each), numpy.std(each, ddof=1)
    half = 12.706205 * std * 1.5 ** 0.5
    assert (row["each"], row["n"], row["mean"]) == (each, 2, pytest.approx(mean))
    assert row["interval"] == pytest.approx([max(0, mean - half), min(100, mean + half)])
    assert check(exported("imagefolder"), "--accuracy", mean)[0] == 0
    assert check(exported("imagefolder"), "--accuracy", "-1")[0] == 2


# ---------------------------------------------------------------- again, and refusals

def commands(folder: Path, **places) -> list[list[str]]:
    """The commands of a re-run as (module, words), their capitals filled in."""
    filled = []
    for command in json.loads((folder / "export.json").read_text())["commands"]:
        words = shlex.split(command)
        for name, path in {"HERE": folder, **places}.items():
            words = [word.replace(name, str(path)) for word in words]
        filled.append(words[2:])
    return filled


def test_the_hubs_folder_is_a_run_that_trains_the_same_students(made, tiny: Tiny, exported, tmp_path,
                                                                monkeypatch):
    folder = shutil.copytree(exported("hub", "--labels"), tmp_path / "downloaded")
    monkeypatch.chdir(tmp_path)
    (module, *words), = commands(folder, DATA=tiny.data, TEACHERS=tiny.teachers)
    assert module == "validate.train_FKD"
    train_FKD.main([*words, "--device", "cpu"])
    for seed in (0, 1):
        again = tmp_path / f"out/again_validate_narrow_resnet/seed{seed}/student_last.pt"
        assert again.read_bytes() == (made / STUDENTS / f"seed{seed}/student_last.pt").read_bytes()
    assert check(folder)[0] == 0


@pytest.mark.parametrize("flags", [(), ("--labels",)])
def test_prism_trains_on_the_hubs_folder_as_its_card_says(flags, tiny: Tiny, exported, tmp_path, dry_run):
    folder = exported("hub", *flags)
    said = (folder / "README.md").read_text().partition("`python -m validate.train_FKD ")[2].partition("`")[0]
    words = shlex.split(said.replace("HERE", str(folder)).replace("DATA", str(tiny.data)))
    words += ["--output-dir", str(tmp_path / "out"), "--model", "narrow_resnet"]
    assert dry_run(train_FKD.main, words)[1] == "" and ("--fkd-path" in words) == bool(flags)


def test_the_recorded_commands_make_it_again_from_nothing(made, tiny: Tiny, exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (_, *recover), (_, *relabel), _ = commands(exported("ddranking"), DATA=tiny.data, TEACHERS=tiny.teachers)
    data_synthesis.main([*recover, "--device", "cpu"])
    generate_soft_label.main([*relabel, "--device", "cpu"])
    assert contents(tmp_path / "out/again/syn") == contents(made / "syn")
    labels = {name: own for name, own in contents(made / "fkd").items() if name.endswith(".pt")}
    again = contents(tmp_path / "out/again_labels")
    assert labels and {name: again[name] for name in labels} == labels


def test_again_changes_nothing_and_goes_on_where_it_was_stopped(made, exported, tmp_path):
    out = shutil.copytree(exported("hub"), tmp_path / "out")
    words = [str(made), "--to", "hub", "--out", str(out)]
    before = contents(out)
    export.main(words)
    assert contents(out) == before
    (out / "export.json").unlink()
    (out / "syn/ant/ant_ipc0000.png").unlink()
    (out / ".export.json").write_text(json.dumps({"to": "hub", "images": json.loads(
        (exported("hub") / "export.json").read_text())["images"]}))
    times = modification_times(out)
    export.main(words)
    assert contents(out) == before
    assert modification_times(out)["syn/bee/bee_ipc0001.png"] == times["syn/bee/bee_ipc0001.png"]
    (out / "README.md").write_text("mine")
    export.main([*words, "--labels"])
    assert (out / "README.md").read_text() == "mine" and (out / "fkd/2/epoch_000.pt").is_file()
    export.main(words)
    assert not (out / "fkd/2/epoch_000.pt").exists() and check(out)[0] == 0


def test_a_card_whose_record_was_killed_is_no_edited_one(made, exported, tmp_path, monkeypatch):
    out = shutil.copytree(exported("hub"), tmp_path / "out")
    words, write = [str(made), "--to", "hub", "--out", str(out)], exporting.write_json

    def killed(path, values):
        if path.name == "export.json":
            raise KeyboardInterrupt
        write(path, values)
    monkeypatch.setattr(exporting, "write_json", killed)
    for title in ("first", "second"):
        with pytest.raises(KeyboardInterrupt):
            export.main([*words, "--pretty-name", title])
    monkeypatch.setattr(exporting, "write_atomically", lambda path, write: killed(out / "export.json", {}))
    with pytest.raises(KeyboardInterrupt):  # before the card itself
        export.main([*words, "--pretty-name", "third"])
    monkeypatch.undo()
    export.main([*words, "--pretty-name", "fourth"])
    record = json.loads((out / "export.json").read_text())
    assert "# `fourth`" in (out / "README.md").read_text()
    assert record["card"] == verify.digest_of(out / "README.md") and check(out)[0] == 0


def test_the_set_stands_first_whatever_flags_follow(made, tmp_path, refused):
    assert "which set?" in refused(export.main, ["--to", "hub", "--labels", made])
    assert "which set?" in refused(export.main, ["--students", made / STUDENTS, made])


def test_what_is_not_ours_is_refused(made, exported, tmp_path, refused, monkeypatch):
    (tmp_path / "mine.txt").write_text("x")
    assert "not empty" in refused(export.main, [made, "--out", tmp_path])
    folder = exported("imagefolder")
    assert "holds an export to imagefolder" in refused(export.main, [made, "--to", "hub", "--out", folder])
    assert "of other images" in refused(export.main, [made, "--ipc", 1, "--out", folder])
    assert "which set?" in refused(export.main, ["--to", "hub"])
    assert "--to hub" in refused(export.main, [made, "--license", "mit", "--out", tmp_path / "out"])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=10))
    assert "are needed" in refused(export.main, [made, "--out", tmp_path / "out"])
    assert not (tmp_path / "out").exists()


def test_changed_images_are_not_exported(made, tmp_path, refused):
    run = shutil.copytree(made, tmp_path / "run")
    Image.new("RGB", (16, 16)).save(run / "syn/ant/ant_ipc0000.png")
    assert "ant_ipc0000.png" in refused(export.main, [run, "--out", tmp_path / "out"])
    assert not (tmp_path / "out/export.json").exists()


def test_fewer_images_have_their_own_manifest_and_no_students(made, tmp_path):
    export.main([str(made), "--to", "hub", "--ipc", "1", "--out", str(tmp_path / "out")])
    record = json.loads((tmp_path / "out/export.json").read_text())
    assert record["counts"] == [1, 1, 1, 1] and record["accuracies"] == []
    assert open_images(str(tmp_path / "out"), flag="RUN").ipc == 1
    assert "no accuracy was measured" in check(tmp_path / "out")[1]


def test_students_of_like_names_stay_apart(made, tmp_path):
    run = shutil.copytree(made, tmp_path / "run")
    for name in ("x_y", "x/y", "X_y"):
        shutil.copytree(run / STUDENTS, run / "validate" / name)
    for number in "12":
        shutil.copytree(run / STUDENTS, tmp_path / number / "students")
    for students in ((), (tmp_path / "1/students", tmp_path / "2/students", tmp_path / "1/students")):
        out = tmp_path / f"out{len(students)}"
        export.main([*map(str, [run, "--out", out, *(["--students", *students] if students else ())])])
        rows = json.loads((out / "export.json").read_text())["accuracies"]
        assert len(rows) == len({row["name"].casefold() for row in rows}) == (2 if students else 4)
        assert len({(out / row["settings"]).resolve() for row in rows}) == len(rows)
        assert all(f"--config HERE/{row['settings']} " in " ".join(json.loads(
            (out / "export.json").read_text())["commands"]) for row in rows)
        assert all(check(out, "--accuracy", row["mean"], "--of", row["name"])[0] == 0 for row in rows)


def of_others(made, folder: Path, **about) -> None:
    """Puts labels and students of `made`, whose records then say something else, into a folder."""
    for name in ("fkd", "validate"):
        shutil.copytree(made / name, folder / name)
    for path in folder.glob("validate/*/seed*/result.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | about))
    record = folder / "fkd/2/config.json"
    own = json.loads(record.read_text())
    record.write_text(json.dumps({**own, "images": about["images"], "views": {
        **own["views"], "size": about["images_config"]["size"]}}))
    (folder / "fkd/2/manifest.json").unlink()


def test_of_a_set_of_others_the_labels_and_students_of_its_size_go_out(made, tiny: Tiny, exported, tmp_path,
                                                                        monkeypatch, refused, capfd):
    monkeypatch.chdir(tmp_path)
    for name in range(4):
        shutil.copytree(exported("imagefolder") / f"{name:05d}", tmp_path / f"theirs/{name:05d}")
    words = ["theirs", "--dataset", f"folder:{tiny.data}"]
    images = open_images("theirs", flag="RUN", dataset=words[-1], size=20)
    of_others(made, images.home, images=image_set_digest(images.select(0)), images_config={"size": 20})
    export.main([*words, "--size", "20", "--out", "large"])
    record = json.loads(Path("large/export.json").read_text())
    assert record["size"] == 20 and [row["n"] for row in record["accuracies"]] == [2]
    assert Path("large/relabel.json").is_file() and all("--size 20" in line for line in record["commands"])
    capfd.readouterr()
    export.main([*words, "--out", "small"])
    assert "2: labels of other images, or of another size, than those in theirs" in capfd.readouterr().err
    record = json.loads(Path("small/export.json").read_text())
    assert (record["size"], record["accuracies"]) == (16, []) and not Path("small/relabel.json").exists()
    line = refused(export.main, [*words, "--fkd-path", images.home / "fkd/2", "--out", "other"])
    assert "--fkd-path" in line and "of another size" in line
    export.main([*words, "--students", str(images.home / STUDENTS), "--out", "small"])
    assert "narrow_resnet: no finished students of these images at 16 pixels" in capfd.readouterr().err


def test_controls_of_another_number_of_images_are_left_out(made, tmp_path):
    run = shutil.copytree(made, tmp_path / "run")
    for ipc in (1, 2):
        save_measure(open_images(str(run), flag="RUN"), f"evaluation_rd3_ipc{ipc}", {
            "protocol": "rd3", "accuracies": [], "differences": []}, ipc=ipc, command="a command")
    for ipc in (1, 2):
        export.main([str(run), "--ipc", str(ipc), "--out", str(tmp_path / f"out{ipc}")])
        record = json.loads((tmp_path / f"out{ipc}/export.json").read_text())
        assert [own["ipc"] for own in record["controls"]] == [ipc]


def parsed(words) -> evaluate.EvaluateConfig:
    return parse_config(evaluate.EvaluateConfig, list(map(str, words)), description="",
                        presets=evaluate.presets)


def test_commands_of_an_author_hold_for_whoever_fills_them_in():
    author = parsed(["--data", "/me/the run", "--dataset", "folder:/me/data", "--val-dir", "/me/data",
                     "--weights", "a=/me/a b.pt", "--threads", 3, "--device", "cpu", "--out", "/me/o",
                     "--relabel-flags", "--epochs 30 --threads 2 --weights-dir '/me/it is'", "--seeds", -1, 2,
                     "--validate-flags", "--threads 1", "--robustness"])
    public = measured.for_others(command_of("validate.evaluate", author, evaluate.presets), "folder:/me/data")
    assert "/me" not in public and "threads" not in public and "--device" not in public
    filled = public.replace("RUN", "/you/run").replace("DATA", "/you/data").replace("TEACHERS", "/you/nets")
    assert parsed(shlex.split(filled)[3:]) == dataclasses.replace(
        author, data="/you/run", dataset="folder:/you/data", val_dir="/you/data", out="", threads=0,
        train_data_path="/you/data", weights=("a=/you/nets/a b.pt",), device="auto", validate_flags="",
        relabel_flags="--epochs 30 --weights-dir /you/nets")
    assert measured.for_others("python -m validate.evaluate --threads 1 --data /me/x --relabel-flags --flip",
                               "digits") == ("python -m validate.evaluate --data RUN --relabel-flags --flip "
                                             "--weights-dir TEACHERS")


def test_no_path_of_its_author_is_on_the_card(made, tiny: Tiny, tmp_path):
    run = shutil.copytree(made, tmp_path / "run")
    save_measure(open_images(str(run), flag="RUN"), "evaluation_prism_ipc2", {
        "protocol": "prism", "accuracies": [], "differences": []}, ipc=2,
        command=f"python -m validate.evaluate --data {run} --threads 1 --weights-dir {tiny.teachers}")
    export.main([str(run), "--to", "hub", "--out", str(tmp_path / "out")])
    card = (tmp_path / "out/README.md").read_text()
    assert "`python -m validate.evaluate --data RUN --weights-dir TEACHERS --train-data-path DATA " in card
    assert "RUN: the set" in card
    assert not [path for path in (run, tiny.data, tiny.teachers) if str(path) in card]


def test_controls_stand_on_the_card(made, tmp_path):
    run = shutil.copytree(made, tmp_path / "run")
    save_measure(open_images(str(run), flag="RUN"), "evaluation_rd3_ipc2", {
        "protocol": "rd3", "accuracies": [
            {"set": "distilled", "model": "x|y", "labels": "soft", "mean": 50.0, "std": None, "each": [50.0]},
            {"set": "random", "model": "x|y", "labels": "soft", "mean": 60.0, "std": 1.0, "each": [59, 61]}],
        "differences": [{"model": "x", "labels": "soft", "set": "distilled", "against": "random",
                         "mean": -10.0, "interval": [-11.0, -9.0], "n": 2, "decided": True}]},
        ipc=2, command="a command")
    export.main([str(run), "--out", str(tmp_path / "out")])
    card = (tmp_path / "out/README.md").read_text()
    assert "| `random` | `x?y` | `soft` | 60.00 +- 1.00 | 2 |" in card
    assert "`distilled` - `random` is -10.00 points, 95 % [-11.00, -9.00], n = 2: decided" in card


def test_a_set_of_others_goes_out_numbered_and_without_a_manifest(made, tmp_path, monkeypatch):
    own = open_images(str(made), flag="RUN")
    fields = {field.name: getattr(own, field.name) for field in dataclasses.fields(own)}
    about = {"units": [], "weights": {}, "config": {}}
    others = ImageManifest(**fields | {"foreign": "numbered", "saved": about})
    monkeypatch.setattr(export, "open_images", lambda *where, **how: others)
    export.main([str(made), "--to", "hub", "--out", str(tmp_path / "out")])
    there = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    assert "images/00003/00001.png" in there and not there & {"manifest.json", "recover.json", "syn"}
    assert "made elsewhere (layout `numbered`)" in (tmp_path / "out/README.md").read_text()
    relabel = commands(tmp_path / "out")[0]
    assert relabel[relabel.index("--dataset") + 1] == "folder:DATA" and check(tmp_path / "out")[0] == 0


def test_images_of_unrecorded_making_are_called_no_more_than_that(made, tiny: Tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("ant", "bee", "cat", "dog")):
        (tmp_path / "theirs" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8 + 2 * (i == 3))).save(tmp_path / "theirs" / name / "0.png")
    words = ["theirs", "--dataset", f"folder:{tiny.data}", "--size", "16", "--to"]
    for layout in ("hub", "imagefolder", "ddranking"):
        export.main([*words, layout, "--out", layout])
    for layout in ("hub", "imagefolder"):
        card = Path(layout, "README.md").read_text()
        assert "A set of images, of whose making nothing is recorded" in card
        assert "files have 8 x 8 to 8 x 10 pixels; students see them at 16 x 16 pixels" in card
        assert "distill" not in card.lower()
    assert "Networks see 16 x 16 pixels." in Path("ddranking/README.md").read_text()
    assert front_matter(Path("hub"))["tags"] == []
    for name in ("ant", "bee", "cat", "dog"):
        Image.new("RGB", (16, 16)).save(tmp_path / f"theirs/{name}/0.png")
    export.main([*words, "imagefolder", "--out", "whole"])
    assert "The files have 16 x 16 pixels." in Path("whole/README.md").read_text()


def test_a_distilled_set_is_called_one(exported):
    assert "A distilled data set" in (exported("hub") / "README.md").read_text()
    assert "synthetic" in front_matter(exported("hub"))["tags"]


def test_real_images_that_recover_chose_are_called_that(tiny, tmp_path):
    run = tiny.recover(tmp_path, "--iteration", 0, "--init", "random")
    export.main([str(run), "--to", "hub", "--out", str(tmp_path / "hub")])
    assert "Real images, chosen and never optimised" in (tmp_path / "hub" / "README.md").read_text()
    assert front_matter(tmp_path / "hub")["tags"] == []


def test_a_record_that_is_none_is_one_line(exported, tmp_path):
    folder = shutil.copytree(exported("imagefolder"), tmp_path / "out")
    (folder / "classes.json").write_text("[" * 100_000)
    assert "order     classes.json: not JSON" in check(folder)[1]
    for text in ("", "[]", "{}", '{"files": 3}', "[" * 100_000):
        (folder / "export.json").write_text(text)
        status, said = check(folder)
        assert status == 2 and said.startswith("error: ") and said.count("\n") == 1
    (folder / "export.json").unlink()
    assert check(folder)[0] == 2


def test_nothing_is_sent_without_push(made, tmp_path, refused, monkeypatch):
    sent = []

    class Api:
        def create_repo(self, repo, **how):
            sent.append(("create", repo, how["repo_type"]))

        def upload_folder(self, *, repo_id, folder_path, **how):
            sent.append(("upload", repo_id, (Path(folder_path) / "export.json").is_file()))
    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(HfApi=Api))
    words = [made, "--to", "hub", "--out", tmp_path / "out"]
    assert "--license" in refused(export.main, [*words, "--push", "me/set"])
    assert "OWNER/NAME" in refused(export.main, [*words, "--license", "mit", "--push", "set"])
    export.main([*map(str, words), "--license", "mit"])
    assert sent == []
    export.main([*map(str, words), "--license", "mit", "--push", "me/set"])
    assert sent == [("create", "me/set", "dataset"), ("upload", "me/set", True)]
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "scripts/setup.sh export" in refused(export.main, [*words, "--license", "mit", "--push", "me/set"])
