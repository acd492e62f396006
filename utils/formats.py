"""What passes between the stages: files, written once and whole.  The README quotes this page.

Distilled images, `<run>/`:
    syn/<class>/<class>_ipc0003.jpg|png   class folders named as in the real data set, so any ImageFolder
                                          reader sees the real label order; a run holds any number of IPC
    units/ipc0003_chunk02.json            one per finished unit of recover: teachers, iterations, final
                                          losses, sha256 of its files
    config.json                           what the run is: config, weight hashes, class names (its identity)
    manifest.json                         assembled from the units by whoever finds them all
    preflight.json, log.jsonl             teachers' accuracies on real images; losses over the iterations
Soft labels, `<run>/fkd/<ipc>/`:
    epoch_000.pt     torch.load(path, weights_only=True, mmap=True): index (N,) int32; crop (N, 4) int16
                     pixels top, left, height, width; flip (N,) bool; mix_index (N,) int16, position within
                     its batch; mix_box (batches, 4) int16 top, left, bottom, right, end exclusive;
                     mix_lam (batches,) float32; ops, levels, bicubic (N, 2) with --augment randaugment
                     (utils/randaugment.py); and the logits by --label-format (utils/label_formats.py):
                     fp16       logits (N, K) float16
                     int8       codes (N, K) uint8, low (N,) and step (N,) float32: low + step * codes
                     topk:k     values (N, k) float16 of classes (N, k) int16, rest (N,) float16: all others
                     online     no file: config.json says how validate computes them
    config.json, manifest.json, log.jsonl   epochs, batch size, crop scale, mix, ensemble, teachers,
                     resampler version, digest of the images that the labels belong to; epoch e of a
                     student reads file e modulo --label-epochs
Everything is tensors and JSON; a file appears under its name only when it is complete.
"""
import json
from pathlib import Path

import torch

from utils.files import read_json, sha256_json, write_json
from utils.label_formats import label_format
from utils.randaugment import RANDAUGMENT_DTYPES
from utils.runtime import versions

FORMAT_VERSION = 1
VIEW_DTYPES = {"index": torch.int32, "crop": torch.int16, "flip": torch.bool, "mix_index": torch.int16,
               "mix_box": torch.int16, "mix_lam": torch.float32}


# ---------------------------------------------------------------- distilled images

def image_path(class_name: str, ipc_id: int, image_format: str) -> str:
    """Path of one distilled image below its run: syn/<class>/<class>_ipc0003.png."""
    return f"syn/{class_name}/{class_name}_ipc{ipc_id:04d}.{image_format}"


def unit_path(run: Path, ipc_id: int, chunk: int) -> Path:
    """Path of the record that says that a unit of recover is finished."""
    return run / "units" / f"ipc{ipc_id:04d}_chunk{chunk:02d}.json"


def run_folder(path: str, *, flag: str) -> Path:
    """The run that `<run>` or `<run>/syn` names.   Raises: FileNotFoundError naming flag and stage."""
    folder = Path(path)
    folder = folder.parent if folder.name == "syn" else folder
    if not path or not ((folder / "config.json").is_file() or (folder / "manifest.json").is_file()):
        raise FileNotFoundError(f"{flag} {path}: no distilled images there (no config.json or manifest.json);"
                                f" make them with recover/recover_r18.sh or python -m recover.data_synthesis")
    return folder


def assemble_manifest(run: Path, *, write: bool = True) -> dict:
    """The manifest of a run's complete IPC indices, written (unless told not to) when it changed.

    Returns: format, version, dataset, class_names, ipc (complete indices from 0), size, mean, std,
             config, weights, versions, units (sorted by index and chunk).
    Raises:  FileNotFoundError when not even index 0 is complete; ValueError when config.json is no run's.
    """
    if not (run / "config.json").is_file():
        return read_json(run / "manifest.json")
    saved = read_json(run / "config.json")
    if saved.get("format") != "prism-images":
        raise ValueError(f"{run}/config.json: expected a run of recover, got {saved.get('format')!r}")
    config, names = saved["config"], saved["class_names"]
    num_chunks = -(-len(names) // config["batch_size"])
    units, ipc_id = [], 0
    while all(unit_path(run, ipc_id, chunk).is_file() for chunk in range(num_chunks)):
        units += [read_json(unit_path(run, ipc_id, chunk)) for chunk in range(num_chunks)]
        ipc_id += 1
    if not units:
        raise FileNotFoundError(f"{run}: IPC index 0 is not finished; run recover to its end first "
                                f"(recover/recover_r18.sh or python -m recover.data_synthesis)")
    manifest = {"format": saved["format"], "version": saved["version"], "dataset": config["dataset"],
                "class_names": names, "ipc": ipc_id, "size": config["size"], "mean": config["mean"],
                "std": config["std"], "config": config, "weights": saved["weights"],
                "versions": sorted({json.dumps(u.pop("versions"), sort_keys=True) for u in units}),
                "units": units}
    path = run / "manifest.json"
    if write and (not path.exists() or read_json(path) != manifest):
        write_json(path, manifest)
    return manifest


def select_images(manifest: dict, ipc: int) -> list[tuple[str, str, int]]:
    """The first `ipc` images of every class as (path, sha256, class index), sorted by class, then index.

    Args:   ipc: images per class; 0 takes all complete indices.
    Raises: ValueError when the run has fewer.
    """
    if ipc > manifest["ipc"]:
        raise ValueError(f"--ipc {ipc}: the run has {manifest['ipc']} complete IPC indices; "
                         f"run recover with --ipc-end {ipc} first")
    class_ids = {name: i for i, name in enumerate(manifest["class_names"])}
    entries = [(path, digest, class_ids[path.split("/")[1]])
               for unit in manifest["units"] if unit["ipc_id"] < (ipc or manifest["ipc"])
               for path, digest in unit["files"].items()]
    return sorted(entries, key=lambda entry: (entry[2], entry[0]))


def image_set_digest(entries: list) -> str:
    """One digest of a set of distilled images (of `select_images`): labels belong to exactly these files."""
    return sha256_json([[path, digest] for path, digest, _ in entries])


# ---------------------------------------------------------------- soft labels

def label_path(folder: Path, epoch: int) -> Path:
    """Path of one epoch of soft labels."""
    return folder / f"epoch_{epoch:03d}.pt"


def label_files(label_format: str, label_epochs: int) -> int:
    """How many files a pool of so many epochs of labels takes: one an epoch, none for online labels."""
    return 0 if label_format == "online" else label_epochs


def _label_files(saved: dict) -> int:
    return label_files(saved["config"]["label_format"], saved["label_epochs"])


def assemble_label_manifest(folder: Path, *, write: bool = True) -> dict | None:
    """The manifest of a folder of labels, written to manifest.json; None while an epoch is missing.

    Returns: the folder's config.json (config, views, weights, images, resampler, ...) and library versions.
    Raises:  ValueError when the manifest that is there is not of this config.json.
    """
    saved, path = read_json(folder / "config.json"), folder / "manifest.json"
    if not all(label_path(folder, epoch).is_file() for epoch in range(_label_files(saved))):
        return None
    if path.is_file():
        manifest = read_json(path)
        wrong = sorted(key for key in saved if manifest.get(key) != saved[key])
        if wrong:
            raise ValueError(f"{path}: its {wrong[0]} is not that of config.json beside it; delete the "
                             f"manifest and rerun relabel, which writes it anew")
        return manifest
    manifest = {**saved, "versions": versions()}
    if write:
        write_json(path, manifest)
    return manifest


def open_labels(path: str, ipc: int, *, write: bool = True) -> tuple[Path, dict]:
    """The folder and manifest of finished labels, given the folder or its parent (`ipc` 0: its only one).

    Raises: FileNotFoundError naming the stage and command that make them; ValueError for another format.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        made = sorted(config.parent for config in folder.glob("*/config.json"))
        if not ipc and len(made) > 1:
            raise ValueError(f"--fkd-path {path} holds labels of IPC {', '.join(f.name for f in made)}; "
                             f"say which with --ipc")
        folder = folder / str(ipc) if ipc or not made else made[0]
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"--fkd-path {path}: no soft labels there; make them with "
                                f"relabel/relabel_r18.sh or python -m relabel.generate_soft_label")
    if read_json(folder / "config.json").get("format") != "prism-labels":
        raise ValueError(f"--fkd-path {path}: config.json is not of soft labels; expected <run>/fkd/<ipc>")
    manifest = assemble_label_manifest(folder, write=write)
    if manifest is None:
        raise FileNotFoundError(f"{folder}: epochs of labels are missing; run relabel to its end first "
                                f"(relabel/relabel_r18.sh or python -m relabel.generate_soft_label)")
    for epoch in range(_label_files(manifest)):  # damage is named now, not hours into training
        load_labels(label_path(folder, epoch), format_name=manifest["config"]["label_format"],
                    num_classes=len(manifest["class_names"]))
    return folder, manifest


def load_labels(path: Path, *, format_name: str, num_classes: int) -> dict:
    """One epoch of views and soft labels, memory-mapped.

    Raises: ValueError naming the file when it is truncated or its tensors are not those of the format.
    """
    try:
        labels = torch.load(path, weights_only=True, mmap=True)
        dtypes = {name: tensor.dtype for name, tensor in labels.items()}
    except FileNotFoundError:
        raise
    except Exception as error:  # torch raises many kinds on damaged archives; each means the same here
        raise ValueError(f"{path}: damaged or truncated label file; delete it and rerun relabel") from error
    num = len(labels.get("index", ()))
    stored = label_format(format_name).tensors(num_classes)
    expected = VIEW_DTYPES | {name: dtype for name, (dtype, _) in stored.items()}
    expected |= RANDAUGMENT_DTYPES if "ops" in labels else {}
    if dtypes != expected or any(labels[name].shape != (num, *row) for name, (_, row) in stored.items()):
        raise ValueError(f"{path}: expected the tensors {', '.join(expected)} of {num_classes} classes; "
                         f"delete it and rerun relabel")
    return labels
