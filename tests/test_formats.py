"""Files between the stages: atomic, claimed by one configuration, read in one order, checked when read."""
import json

import pytest
import torch

from utils.files import claim_folder, read_json, save_tensors, sha256_file, write_atomically, write_json
from utils.formats import (
    VIEW_DTYPES,
    assemble_label_manifest,
    assemble_manifest,
    image_path,
    image_set_digest,
    label_path,
    load_labels,
    open_labels,
    run_folder,
    select_images,
    unit_path,
)
from utils.runtime import versions

CLASSES = ["n02", "n10", "n11"]


@pytest.fixture
def run(tmp_path):
    """A run of three classes in chunks of two: indices 0, 1 and 3 are complete, 2 lacks its second chunk."""
    write_json(tmp_path / "config.json", {
        "format": "prism-images", "version": 1, "class_names": CLASSES, "weights": {"net": "aa"},
        "config": {"dataset": "d", "size": 8, "mean": [0.5] * 3, "std": [0.5] * 3, "batch_size": 2}})
    for ipc_id, chunk in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 0), (3, 1)):
        names = CLASSES[chunk * 2:chunk * 2 + 2]
        write_json(unit_path(tmp_path, ipc_id, chunk), {
            "ipc_id": ipc_id, "chunk": chunk, "versions": {"torch": "2"},
            "files": {image_path(name, ipc_id, "png"): f"{name}/{ipc_id}" for name in names}})
    return tmp_path


@pytest.fixture
def labels(gen):
    """An epoch of five views in batches of two, with seven classes."""
    shapes = {"index": (5,), "crop": (5, 4), "flip": (5,), "mix_index": (5,), "mix_box": (3, 4),
              "mix_lam": (3,), "logits": (5, 7)}
    dtypes = VIEW_DTYPES | {"logits": torch.float16}
    return {name: torch.randint(0, 2, shape, generator=gen).to(dtypes[name])
            for name, shape in shapes.items()}


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


# ---------------------------------------------------------------- claims

def claim(folder, *, overwrite=False, **identity):
    claim_folder(folder, identity={"format": "kind", **identity}, overwrite=overwrite,
                 contents=("units", "log*.jsonl"))


def test_a_folder_of_the_same_identity_is_joined(tmp_path):
    for _ in range(2):
        claim(tmp_path / "run", lr=0.1, betas=(0.5, 0.9), config={"seed": 0})
    written = read_json(tmp_path / "run" / "config.json")
    assert written == {"format": "kind", "lr": 0.1, "betas": [0.5, 0.9], "config": {"seed": 0}}
    assert names_in(tmp_path) == ["run/config.json"]


def test_another_identity_is_refused_with_the_difference(tmp_path):
    claim(tmp_path, lr=0.1, config={"seed": 0, "size": 8})
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(ValueError, match="config.seed is 0 there and 1 here") as error:
        claim(tmp_path, lr=0.1, config={"seed": 1, "size": 8})
    assert "lr" not in str(error.value) and "size" not in str(error.value)
    with pytest.raises(ValueError, match="lr is 0.1 there and null here.*rate is null there and 3 here"):
        claim(tmp_path, rate=3, config={"seed": 0, "size": 8})
    assert read_json(tmp_path / "config.json")["lr"] == 0.1
    assert names_in(tmp_path) == ["config.json", "mine.txt"]


def test_overwrite_deletes_its_own_patterns_alone(tmp_path):
    claim(tmp_path, lr=0.1)
    for name in ("units/a.json", "log.jsonl", "log_0of2.jsonl", "manifest.json", "notes", "fkd/log.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    claim(tmp_path, lr=0.2, overwrite=True)
    assert names_in(tmp_path) == ["config.json", "fkd/log.jsonl", "notes"]
    assert read_json(tmp_path / "config.json")["lr"] == 0.2


def test_overwrite_spares_another_kind_of_folder_and_files_of_nobody(tmp_path):
    claim(tmp_path / "run", lr=0.1)
    (tmp_path / "run/units").mkdir()
    with pytest.raises(ValueError, match="would delete a folder of kind.*makes other"):
        claim(tmp_path / "run", lr=0.2, overwrite=True, format="other")
    assert names_in(tmp_path) == ["run/config.json"] and (tmp_path / "run/units").is_dir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/log.jsonl").write_text("")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="log.jsonl but no config.json"):
            claim(tmp_path / "mine", lr=0.1, overwrite=overwrite)
    assert names_in(tmp_path / "mine") == ["log.jsonl"]


def test_a_file_in_the_folders_place_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match="run: cannot be written"):
        claim(tmp_path / "run", lr=0.1)


# ---------------------------------------------------------------- distilled images

def test_the_manifest_counts_complete_indices_from_zero_on(run):
    manifest = assemble_manifest(run)
    assert manifest["ipc"] == 2 and [(u["ipc_id"], u["chunk"]) for u in manifest["units"]] \
        == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert manifest == read_json(run / "manifest.json") and manifest["weights"] == {"net": "aa"}
    write_json(unit_path(run, 2, 1), {**read_json(unit_path(run, 3, 1)), "ipc_id": 2})
    assert assemble_manifest(run)["ipc"] == 4 == read_json(run / "manifest.json")["ipc"]


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
    with pytest.raises(ValueError, match="expected a run of recover, got 'prism-labels'"):
        assemble_manifest(run)


def test_images_are_selected_by_class_then_index(run):
    manifest = assemble_manifest(run)
    assert select_images(manifest, 2) == [(f"syn/{name}/{name}_ipc{i:04d}.png", f"{name}/{i}", k)
                                          for k, name in enumerate(CLASSES) for i in range(2)]
    assert select_images(manifest, 0) == select_images(manifest, 2)
    assert [digest for _, digest, _ in select_images(manifest, 1)] == ["n02/0", "n10/0", "n11/0"]
    with pytest.raises(ValueError, match="--ipc 3.*2 complete.*--ipc-end 3"):
        select_images(manifest, 3)


def test_the_image_digest_changes_with_every_file(run):
    entries = select_images(assemble_manifest(run), 2)
    changed = [[*entries[:i], (path, digest + "x", k), *entries[i + 1:]]
               for i, (path, digest, k) in enumerate(entries)]
    fewer = [entries[:i] + entries[i + 1:] for i in range(len(entries))]
    digests = {image_set_digest(images) for images in (entries, *changed, *fewer)}
    assert len(digests) == 1 + 2 * len(entries)
    assert image_set_digest(list(entries)) == image_set_digest(entries)


# ---------------------------------------------------------------- soft labels

def test_labels_come_back_as_they_were_stored(tmp_path, labels):
    save_tensors(label_path(tmp_path, 0), labels)
    loaded = load_labels(tmp_path / "epoch_000.pt", format_name="fp16", num_classes=7)
    assert {name: tensor.dtype for name, tensor in loaded.items()} == {
        "index": torch.int32, "crop": torch.int16, "flip": torch.bool, "mix_index": torch.int16,
        "mix_box": torch.int16, "mix_lam": torch.float32, "logits": torch.float16}
    assert all(torch.equal(loaded[name], labels[name]) for name in labels)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_label_file_is_named(tmp_path, labels, keep):
    path = label_path(tmp_path, 7)
    save_tensors(path, labels)
    content = path.read_bytes()
    path.write_bytes(content[:int(len(content) * keep)])
    with pytest.raises(ValueError, match="epoch_007.pt: damaged or truncated.*rerun relabel"):
        load_labels(path, format_name="fp16", num_classes=7)


def test_a_pickled_object_is_not_loaded_as_labels(tmp_path):
    torch.save({"index": torch.nn.Linear(1, 1)}, tmp_path / "epoch_000.pt")
    with pytest.raises(ValueError, match="epoch_000.pt"):
        load_labels(tmp_path / "epoch_000.pt", format_name="fp16", num_classes=7)


@pytest.mark.parametrize("change", [
    lambda labels: labels.pop("flip"), lambda labels: labels.update(more=torch.zeros(1)),
    lambda labels: labels.update(logits=labels["logits"].float()),
    lambda labels: labels.update(index=labels["index"][:3]),
    lambda labels: labels.update(logits=labels["logits"][:, :6])],
    ids=["missing", "more", "dtype", "rows", "classes"])
def test_labels_of_another_form_are_refused(tmp_path, labels, change):
    change(labels)
    save_tensors(tmp_path / "epoch_000.pt", labels)
    with pytest.raises(ValueError, match="epoch_000.pt: expected the tensors.*7 classes"):
        load_labels(tmp_path / "epoch_000.pt", format_name="fp16", num_classes=7)


def test_a_missing_epoch_stays_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_labels(tmp_path / "epoch_000.pt", format_name="fp16", num_classes=7)


def test_label_manifests_wait_for_every_epoch(tmp_path, labels):
    folder = tmp_path / "10"
    with pytest.raises(FileNotFoundError, match="no soft labels there.*relabel"):
        open_labels(str(tmp_path), 10)
    saved = {"format": "prism-labels", "config": {"epochs": 2, "label_format": "fp16"}, "label_epochs": 2,
             "class_names": [str(k) for k in range(labels["logits"].shape[1])]}
    write_json(folder / "config.json", saved)
    save_tensors(label_path(folder, 0), labels)
    assert assemble_label_manifest(folder) is None
    with pytest.raises(FileNotFoundError, match="epochs of labels are missing.*relabel"):
        open_labels(str(tmp_path), 10)
    save_tensors(label_path(folder, 1), labels)
    expected = {**saved, "versions": versions()}
    assert open_labels(str(tmp_path), 10) == open_labels(str(folder), 0) == (folder, expected)
    assert json.loads((folder / "manifest.json").read_text()) == expected
    assert open_labels(str(folder), 10) == (folder, expected)
    content = label_path(folder, 1).read_bytes()
    label_path(folder, 1).write_bytes(content[:len(content) // 2])
    with pytest.raises(ValueError, match="epoch_001.pt: damaged or truncated"):
        open_labels(str(folder), 10)


def test_a_manifest_that_lies_is_named(tmp_path, labels):
    write_json(tmp_path / "config.json", {"format": "prism-labels", "class_names": ["a"] * 7, "images": "x",
                                          "config": {"label_format": "fp16"}, "label_epochs": 1})
    save_tensors(label_path(tmp_path, 0), labels)
    _, manifest = open_labels(str(tmp_path), 0)
    write_json(tmp_path / "manifest.json", {**manifest, "images": "those of another run"})
    with pytest.raises(ValueError, match="manifest.json: its images is not that of config.json"):
        open_labels(str(tmp_path), 0)


def test_a_run_is_no_label_folder(run):
    with pytest.raises(ValueError, match="not of soft labels"):
        open_labels(str(run), 0)
