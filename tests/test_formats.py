"""Files between the stages: atomic, claimed by one configuration, read in one order, checked when read."""
import json

import pytest
import torch

from utils.files import save_tensors, sha256_bytes, sha256_file, write_atomically, write_json
from utils.formats import (
    Entry,
    assemble_label_manifest,
    assemble_manifest,
    image_set_digest,
    open_labels,
    run_folder,
)
from utils.label_files import label_path, load_labels, save_labels
from utils.label_formats import FP16, Int8, TopK
from utils.pieces import build, identity
from utils.records import read_json
from utils.runtime import versions
from utils.unit_files import image_path, unit_path
from utils.views import CutMix, NoMix, Views

CLASSES = ["n02", "n10", "n11"]


@pytest.fixture
def run(tmp_path):
    """A run of three classes in chunks of two: indices 0, 1 and 3 are complete, 2 lacks its second chunk."""
    write_json(tmp_path / "config.json", {
        "format": "prism-images", "version": 1, "class_names": CLASSES, "weights": {"net": "aa"},
        "config": {"dataset": "d", "size": 8, "mean": [0.5] * 3, "std": [0.25] * 3, "batch_size": 2,
                   "stem": "small", "arch_name": "net"}})
    for ipc_id, chunk in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 0), (3, 1)):
        names = CLASSES[chunk * 2:chunk * 2 + 2]
        write_json(unit_path(tmp_path, ipc_id, chunk), {
            "ipc_id": ipc_id, "chunk": chunk, "versions": {"torch": "2"}, "short_classes": [],
            "files": {image_path(name, ipc_id, "png"): f"{name}/{ipc_id}" for name in names}})
    return tmp_path


@pytest.fixture
def labels(gen):
    """An epoch of five views in batches of two, with seven classes."""
    return Views(size=8, batch_size=2).draw(5, gen).tensors() | {
        "logits": torch.randn(5, 7, generator=gen).half()}


def saved_labels(num_classes: int = 7, **changes) -> dict:
    """config.json of labels, as relabel writes it."""
    config = {"epochs": 2, "label_format": "fp16", "seed": 3, "precision": "fp32"}
    return {"format": "prism-labels", "version": 1, "label_epochs": 2, "dataset": "d", "ipc": 10,
            "resampler": "r/1", "class_names": [str(k) for k in range(num_classes)], "images": "x",
            "num_images": 5, "stem": "small", "views": identity(build(Views, {"size": 8, "batch_size": 2})),
            "teachers": ["a", "b"], "weights": {"a": "1", "b": "2"},
            "protocol": {"name": "prism", "changed": []}, **changes,
            "config": config | changes.get("config", {})}


def write_labels(folder, saved: dict, *epochs: dict) -> None:
    write_json(folder / "config.json", saved)
    for epoch, labels in enumerate(epochs):
        save_labels(label_path(folder, epoch), labels)


def names_in(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------- writing

def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    def fail(file):
        file.write(b"half")
        raise KeyboardInterrupt
    path = tmp_path / "sub" / "file.bin"
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert names_in(tmp_path) == []
    write_atomically(path, lambda file: file.write(b"whole"))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert names_in(tmp_path) == ["sub/file.bin"] and path.read_bytes() == b"whole"


def test_a_file_has_its_name_only_when_it_is_complete(tmp_path):
    seen = []
    write_atomically(tmp_path / "file.bin", lambda file: seen.append((tmp_path / "file.bin").exists()))
    assert seen == [False] and names_in(tmp_path) == ["file.bin"]


def test_equal_values_are_equal_bytes(tmp_path, labels):
    save_tensors(tmp_path / "one.pt", labels)
    save_tensors(tmp_path / "another_name.pt", {name: tensor.clone() for name, tensor in labels.items()})
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "another_name.pt").read_bytes()
    write_json(tmp_path / "one.json", {"a": 1, "b": [2.5]})
    write_json(tmp_path / "two.json", {"b": [2.5], "a": 1})
    assert sha256_file(tmp_path / "one.json") == sha256_file(tmp_path / "two.json")


def test_a_damaged_json_file_is_named(tmp_path):
    (tmp_path / "half.json").write_bytes(b'{"a": \xff')
    with pytest.raises(ValueError, match="half.json: damaged"):
        read_json(tmp_path / "half.json")


# ---------------------------------------------------------------- distilled images

def test_the_manifest_counts_complete_indices_from_zero_on(run):
    manifest, written = assemble_manifest(run), read_json(run / "manifest.json")
    assert manifest.ipc == written["ipc"] == 2 and written["weights"] == {"net": "aa"}
    assert [(u["ipc_id"], u["chunk"]) for u in written["units"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert (manifest.run, manifest.dataset) == (run, "d")
    assert (manifest.class_names, manifest.num_classes) == (CLASSES, 3)
    assert (manifest.size, manifest.mean, manifest.std) == (8, (0.5,) * 3, (0.25,) * 3)
    assert (manifest.stem, manifest.primary) == ("small", "net")
    write_json(unit_path(run, 2, 1), {**read_json(unit_path(run, 3, 1)), "ipc_id": 2, "files": {
        image_path("n11", 2, "png"): "n11/2"}})
    assert assemble_manifest(run).ipc == 4 == read_json(run / "manifest.json")["ipc"]


def test_the_manifests_file_has_the_same_keys_as_ever(run):
    assemble_manifest(run)
    written = read_json(run / "manifest.json")
    assert set(written) == {"format", "version", "dataset", "class_names", "ipc", "size", "mean", "std",
                            "config", "weights", "versions", "units"}
    assert written["versions"] == ['{"torch": "2"}'] and "versions" not in written["units"][0]


def test_a_manifest_is_written_when_told_and_when_it_changed(run):
    manifest = assemble_manifest(run, write=False)
    assert not (run / "manifest.json").exists() and assemble_manifest(run) == manifest
    before = (run / "manifest.json").stat().st_mtime_ns
    assert assemble_manifest(run) == manifest and (run / "manifest.json").stat().st_mtime_ns == before


def test_a_short_class_is_covered_by_its_record(run):
    write_json(unit_path(run, 2, 1), {"ipc_id": 2, "chunk": 1, "versions": {"torch": "2"}, "files": {},
                                      "short_classes": ["n11"]})
    manifest = assemble_manifest(run)
    assert manifest.ipc == 4 and [entry.label for entry in manifest.entries] == [0] * 4 + [1] * 4 + [2] * 3
    assert [entry.path for entry in manifest.select(3) if entry.label == 2] \
        == [image_path("n11", i, "png") for i in range(2)]


def test_units_of_many_chunks_are_listed_in_their_order(run):
    for path in run.glob("units/*"):
        path.unlink()
    names = [f"c{k:03d}" for k in range(120)]
    saved = read_json(run / "config.json")
    write_json(run / "config.json", {**saved, "class_names": names,
                                     "config": {**saved["config"], "batch_size": 1}})
    for chunk, name in enumerate(names):
        write_json(unit_path(run, 0, chunk), {
            "ipc_id": 0, "chunk": chunk, "versions": {}, "short_classes": [],
            "files": {image_path(name, 0, "png"): name}})
    assert [entry.sha256 for entry in assemble_manifest(run).entries] == names
    assert [unit["chunk"] for unit in read_json(run / "manifest.json")["units"]] == list(range(120))


def test_a_run_without_index_zero_names_the_stage(run):
    unit_path(run, 0, 1).unlink()
    with pytest.raises(FileNotFoundError, match="IPC index 0.*recover"):
        assemble_manifest(run)


def test_the_manifest_alone_is_enough(run):
    manifest = assemble_manifest(run)
    (run / "config.json").unlink()
    assert assemble_manifest(run) == manifest
    assert run_folder(str(run / "syn"), flag="--data") == run_folder(str(run), flag="--data") == run


@pytest.mark.parametrize("path", ["", "nowhere", "nowhere/syn"])
def test_a_missing_run_names_flag_and_stage(path):
    with pytest.raises(FileNotFoundError, match="--data.*recover"):
        run_folder(path, flag="--data")


def test_labels_are_no_run(run):
    write_json(run / "config.json", {"format": "prism-labels"})
    with pytest.raises(ValueError, match="config.json: of 'prism-labels', expected 'prism-images'"):
        assemble_manifest(run)


def test_images_are_selected_by_class_then_index(run):
    manifest = assemble_manifest(run)
    assert manifest.select(2) == [Entry(f"syn/{name}/{name}_ipc{i:04d}.png", f"{name}/{i}", k)
                                  for k, name in enumerate(CLASSES) for i in range(2)]
    assert manifest.select(0) == manifest.select(2) == list(manifest.entries)
    assert [entry.sha256 for entry in manifest.select(1)] == ["n02/0", "n10/0", "n11/0"]
    with pytest.raises(ValueError, match="--ipc 3.*2 complete.*--ipc-end 3"):
        manifest.select(3)


def test_the_image_digest_changes_with_every_file(run):
    entries = assemble_manifest(run).select(2)
    changed = [[*entries[:i], entry._replace(sha256=entry.sha256 + "x"), *entries[i + 1:]]
               for i, entry in enumerate(entries)]
    fewer = [entries[:i] + entries[i + 1:] for i in range(len(entries))]
    digests = {image_set_digest(images) for images in (entries, *changed, *fewer)}
    assert len(digests) == 1 + 2 * len(entries)
    assert image_set_digest(list(entries)) == image_set_digest(entries)


# ---------------------------------------------------------------- soft labels

def load(path, *, views=None):
    return load_labels(path, views=views or Views(size=8, batch_size=2), label_format=FP16(), num_classes=7,
                       num_images=5)


def test_labels_come_back_as_they_were_stored(tmp_path, labels):
    save_labels(label_path(tmp_path, 0), labels)
    views, stored = load(tmp_path / "epoch_000.pt")
    assert {name: tensor.dtype for name, tensor in (views.tensors() | stored).items()} == {
        "index": torch.int32, "crop": torch.int16, "flip": torch.bool, "mix_index": torch.int16,
        "mix_box": torch.int16, "mix_lam": torch.float32, "logits": torch.float16}
    assert all(torch.equal((views.tensors() | stored)[name], labels[name]) for name in labels)
    assert set(stored) == {"logits"} and views.laws == Views(size=8, batch_size=2) and len(views) == 3


def test_labels_of_randaugment_hold_its_operations(tmp_path, labels, gen):
    laws = build(Views, {"size": 8, "batch_size": 2, "augment": "randaugment"})
    drawn = laws.draw(5, gen)
    save_labels(tmp_path / "epoch_000.pt", drawn.tensors() | {"logits": labels["logits"]})
    views, _ = load(tmp_path / "epoch_000.pt", views=laws)
    for name in ("ops", "levels", "bicubic"):
        assert torch.equal(views.operations[name], drawn.operations[name])
    with pytest.raises(ValueError, match="epoch_000.pt: expected the tensors index,.* mix_lam, logits of 7"):
        load(tmp_path / "epoch_000.pt")
    save_labels(tmp_path / "epoch_000.pt", labels)
    with pytest.raises(ValueError, match="epoch_000.pt: expected the tensors .*ops, levels, bicubic"):
        load(tmp_path / "epoch_000.pt", views=laws)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_label_file_is_named(tmp_path, labels, keep):
    path = label_path(tmp_path, 7)
    save_labels(path, labels)
    content = path.read_bytes()
    path.write_bytes(content[:int(len(content) * keep)])
    with pytest.raises(ValueError, match="epoch_007.pt: its bytes are not those .*truncated.*rerun relabel"):
        load(path)


def test_a_pickled_object_is_not_loaded_as_labels(tmp_path):
    save_labels(tmp_path / "epoch_000.pt", {"index": torch.nn.Linear(1, 1)})
    with pytest.raises(ValueError, match="epoch_000.pt: damaged label file .UnpicklingError"):
        load(tmp_path / "epoch_000.pt")


@pytest.mark.parametrize("change", [
    lambda labels: labels.pop("flip"), lambda labels: labels.update(more=torch.zeros(1)),
    lambda labels: labels.update(logits=labels["logits"].float()),
    lambda labels: labels.update(index=labels["index"][:3]),
    lambda labels: labels.update(logits=labels["logits"][:, :6])],
    ids=["missing", "more", "dtype", "rows", "classes"])
def test_labels_of_another_form_are_refused(tmp_path, labels, change):
    change(labels)
    save_labels(tmp_path / "epoch_000.pt", labels)
    with pytest.raises(ValueError, match="epoch_000.pt: expected the tensors.*7 classes"):
        load(tmp_path / "epoch_000.pt")


def test_a_missing_epoch_stays_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "epoch_000.pt")


def test_label_manifests_wait_for_every_epoch(tmp_path, labels):
    folder = tmp_path / "10"
    with pytest.raises(FileNotFoundError, match="no soft labels there.*relabel"):
        open_labels(str(tmp_path), 10)
    saved = saved_labels()
    write_labels(folder, saved, labels)
    assert assemble_label_manifest(folder) is None
    with pytest.raises(FileNotFoundError, match="epochs of labels are missing.*relabel"):
        open_labels(str(tmp_path), 10)
    write_labels(folder, saved, labels, labels)
    manifest = open_labels(str(tmp_path), 10, write=False)
    assert not (folder / "manifest.json").exists()
    for path, ipc in ((tmp_path, 10), (folder, 0), (folder, 10)):
        assert open_labels(str(path), ipc) == manifest
    assert json.loads((folder / "manifest.json").read_text()) == {**saved, "versions": versions()}
    content = label_path(folder, 1).read_bytes()
    label_path(folder, 1).write_bytes(content[:len(content) // 2])
    assert assemble_label_manifest(folder) is None  # relabel makes it anew
    with pytest.raises(FileNotFoundError, match="epochs of labels are missing.*relabel"):
        open_labels(str(folder), 10)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    label_path(folder, 1).write_bytes(flipped)
    manifest = open_labels(str(folder), 10)
    with pytest.raises(ValueError, match="epoch_001.pt: its bytes are not those that relabel wrote"):
        manifest.load(1)
    label_path(folder, 1).write_bytes(content)
    label_path(folder, 0).with_suffix(".json").unlink()
    assert assemble_label_manifest(folder) is None  # a file without its record is not finished


@pytest.mark.parametrize("name, value", [
    ("index", 5), ("index", -1), ("crop", 30000), ("crop", 0), ("mix_index", 2), ("mix_index", -1),
    ("mix_box", 9), ("mix_box", -1), ("mix_lam", float("nan")), ("mix_lam", 1.5), ("mix_lam", -0.1)])
def test_views_that_show_nothing_are_refused(name, value, tmp_path, labels):
    labels[name].view(-1)[-1] = value
    save_labels(tmp_path / "epoch_000.pt", labels)
    with pytest.raises(ValueError, match="epoch_000.pt: its views are none of 5 images.*rerun relabel"):
        load(tmp_path / "epoch_000.pt")


def test_a_label_manifest_is_its_config_as_one_type(tmp_path, labels):
    saved = saved_labels()
    write_labels(tmp_path, saved, labels, labels)
    manifest = open_labels(str(tmp_path), 0)
    assert manifest.folder == tmp_path and manifest.num_classes == 7
    for name in ("dataset", "class_names", "ipc", "images", "num_images", "stem", "label_epochs", "resampler",
                 "weights", "config", "protocol"):
        assert getattr(manifest, name) == saved[name]
    assert (manifest.epochs, manifest.seed, manifest.precision) == (2, 3, "fp32")
    assert manifest.teachers == ("a", "b") and manifest.label_format == FP16()
    assert manifest.views == Views(size=8, batch_size=2, mix_type=CutMix())
    canonical = json.dumps(json.loads((tmp_path / "config.json").read_text()), sort_keys=True,
                           separators=(",", ":"))
    assert manifest.digest == sha256_bytes(canonical.encode())


def test_epochs_of_a_pool_are_loaded_in_turn(tmp_path, labels):
    other = {**labels, "logits": labels["logits"] + 1}
    write_labels(tmp_path, saved_labels(config={"epochs": 300}), labels, other)
    manifest = open_labels(str(tmp_path), 0)
    assert manifest.epochs == 300
    for epoch, expected in ((0, labels), (1, other), (2, labels), (299, other)):
        views, stored = manifest.load(epoch)
        assert torch.equal(stored["logits"], expected["logits"])
        assert torch.equal(views.crop, expected["crop"]) and views.laws == manifest.views


@pytest.mark.parametrize("config, expected", [
    ({"label_format": "topk:5"}, TopK(topk=5)), ({"label_format": "topk:50"}, TopK(topk=50)),
    ({"label_format": "topk", "topk": 5}, TopK(topk=5)), ({"label_format": "int8"}, Int8()),
    ({"label_format": "fp16", "topk": 50, "mix_alpha": None}, FP16())])
def test_label_formats_are_read_as_they_were_ever_spelt(config, expected, tmp_path, gen):
    laws, logits = Views(size=8, batch_size=2), torch.randn(5, 60, generator=gen)
    epoch = laws.draw(5, gen).tensors() | expected.encode(logits)
    write_labels(tmp_path, saved_labels(60, config=config), epoch, epoch)
    manifest = open_labels(str(tmp_path), 0)
    assert manifest.label_format == expected
    _, stored = manifest.load(0)
    decoded = manifest.label_format.decode(stored, 60)
    assert torch.equal(decoded, expected.decode(expected.encode(logits), 60))


@pytest.mark.parametrize("views, expected", [
    ({"mix_type": "none", "mix_alpha": 1.0}, NoMix()), ({"mix_type": "cutmix"}, CutMix(mix_alpha=1.0)),
    ({"mix_type": "cutmix", "mix_alpha": 0.4}, CutMix(mix_alpha=0.4))])
def test_views_of_labels_are_read_as_they_were_ever_written(views, expected, tmp_path, labels):
    laws = {"size": 8, "batch_size": 2, "min_scale": 0.25, "flip": True, "augment": "none",
            "num_batches": None}
    write_labels(tmp_path, saved_labels(views=laws | views), labels, labels)
    assert open_labels(str(tmp_path), 0).views == Views(size=8, batch_size=2, mix_type=expected)


def test_online_labels_have_no_files(tmp_path):
    write_labels(tmp_path, saved_labels(config={"label_format": "online"}))
    manifest = open_labels(str(tmp_path), 0)
    assert not manifest.label_format.stored and names_in(tmp_path) == ["config.json", "manifest.json"]


def test_several_folders_of_labels_want_a_choice(tmp_path, labels):
    for ipc in (10, 50):
        write_labels(tmp_path / str(ipc), saved_labels(ipc=ipc), labels, labels)
    with pytest.raises(ValueError, match="holds labels of IPC 10, 50; say which with --ipc"):
        open_labels(str(tmp_path), 0)
    assert open_labels(str(tmp_path), 50).ipc == 50


def test_a_manifest_that_lies_is_named(tmp_path, labels):
    write_labels(tmp_path, saved_labels(), labels, labels)
    open_labels(str(tmp_path), 0)
    there = read_json(tmp_path / "manifest.json")
    write_json(tmp_path / "manifest.json", {**there, "images": "those of another run"})
    with pytest.raises(ValueError, match="manifest.json: its images is not that of config.json"):
        open_labels(str(tmp_path), 0)


def test_a_run_is_no_label_folder(run):
    with pytest.raises(ValueError, match="config.json: of 'prism-images', expected 'prism-labels'"):
        open_labels(str(run), 0)
