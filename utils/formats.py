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
                     mix_lam (batches,) float32; logits (N, K) float16
    config.json, manifest.json, log.jsonl   epochs, batch size, crop scale, mix, ensemble, teachers,
                     resampler version, digest of the images that the labels belong to
Everything is tensors and JSON; a file appears under its name only when it is complete.
"""
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import torch

from utils.runtime import versions

FORMAT_VERSION = 1
LABEL_DTYPES = {"index": torch.int32, "crop": torch.int16, "flip": torch.bool, "mix_index": torch.int16,
                "mix_box": torch.int16, "mix_lam": torch.float32, "logits": torch.float16}


def write_atomically(path: Path, write: Callable) -> None:
    """Calls `write(file)` on a temporary file beside `path`, syncs it to disk and renames it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value) -> None:
    """Writes a JSON file atomically, with sorted keys so that equal values are equal bytes."""
    text = json.dumps(value, indent=1, sort_keys=True) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> dict:
    """Reads a JSON file.   Raises: ValueError naming the file when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: damaged, not JSON ({error}); delete it and rerun the stage "
                         f"that made it") from error


def save_tensors(path: Path, tensors: dict) -> None:
    """torch.save, atomically and through an open file: a path's name would end up in the bytes."""
    write_atomically(path, lambda file: torch.save(tensors, file))


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    return sha256_bytes(path.read_bytes())


def sha256_bytes(content: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_json(value) -> str:
    """SHA-256 of a JSON value in its canonical spelling."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def _differences(there: dict, here: dict, prefix: str = "") -> list[str]:
    rows = []
    for key in sorted(set(there) | set(here)):
        a, b = there.get(key), here.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            rows += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            rows.append(f"{prefix}{key} is {_short(a)} there and {_short(b)} here")
    return rows


def _short(value) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def check_writable(folder: Path) -> None:
    """Makes the folder if need be.   Raises: ValueError naming it when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{uuid.uuid4().hex}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written ({error.strerror}); choose another output folder "
                         f"or mend its permissions") from error


def check_free_disk(folder: Path, needed: int) -> None:
    """Raises ValueError unless `needed` bytes and 5 % more are free where `folder` lies."""
    free = shutil.disk_usage(folder).free
    if needed * 1.05 > free:
        raise ValueError(f"{folder}: {readable(needed)} are needed, {readable(free)} are free; "
                         f"free some or choose another output folder")


def claim_folder(folder: Path, *, identity: dict, overwrite: bool, contents: tuple[str, ...]) -> None:
    """Makes `folder` this configuration's: writes config.json, or checks the one that is there.

    Args:
        identity: what a finished file there depends on; equal identity means that work continues.
        overwrite: delete an earlier configuration's files instead of refusing.
        contents: glob patterns, below the folder, of the files that belong to this kind of run.
    Raises:
        ValueError: another configuration lives there (naming the differences), or it is unwritable.
    """
    check_writable(folder)
    path, identity = folder / "config.json", json.loads(json.dumps(identity))
    if path.exists() and overwrite:
        kind = read_json(path).get("format")
        if kind != identity["format"]:
            raise ValueError(f"{folder}: --overwrite would delete a folder of {kind}, this makes "
                             f"{identity['format']}; choose another folder")
        for pattern in (*contents, "manifest.json", "config.json"):  # the claim goes last
            for old in folder.glob(pattern):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
    if not path.exists():
        foreign = [str(old.name) for pattern in contents for old in folder.glob(pattern)]
        if foreign:
            raise ValueError(f"{folder} holds {foreign[0]} but no config.json that says what it is; choose "
                             f"another folder, or move these files away")
        write_json(path, identity)
    rows = _differences(read_json(path), identity)
    if rows:
        more = f" (and {len(rows) - 3} more differences)" if len(rows) > 3 else ""
        raise ValueError(f"{folder} holds another configuration: {'; '.join(rows[:3])}{more}. "
                         f"Choose another folder, or --overwrite to delete what is there")


def log_name(shard: tuple[int, int]) -> str:
    """log.jsonl, or this shard's own log file."""
    return f"log_{shard[0]}of{shard[1]}.jsonl" if shard[1] > 1 else "log.jsonl"


def last_logged(folder: Path, field: str):
    """The last value of a field in the folder's log*.jsonl, or None: an earlier unit's measured rate, say."""
    for path in sorted(folder.glob("log*.jsonl"), reverse=True):
        for line in reversed(path.read_text(encoding="utf-8").splitlines()):
            if f'"{field}"' in line and line.endswith("}"):  # a killed process may leave half a line
                return json.loads(line)[field]
    return None


def readable(num_bytes: float) -> str:
    """A size in bytes as people read it: 6.0 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


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


def assemble_label_manifest(folder: Path, *, write: bool = True) -> dict | None:
    """The manifest of a folder of labels, written to manifest.json; None while an epoch is missing.

    Returns: the folder's config.json (config, views, weights, images, resampler, ...) and library versions.
    """
    saved = read_json(folder / "config.json")
    if not all(label_path(folder, epoch).is_file() for epoch in range(saved["config"]["epochs"])):
        return None
    if (folder / "manifest.json").is_file():
        return read_json(folder / "manifest.json")
    manifest = {**saved, "versions": versions()}
    if write:
        write_json(folder / "manifest.json", manifest)
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
    for epoch in range(manifest["config"]["epochs"]):  # a damaged file is named now, not hours into training
        load_labels(label_path(folder, epoch), num_classes=len(manifest["class_names"]))
    return folder, manifest


def load_labels(path: Path, *, num_classes: int) -> dict:
    """One epoch of soft labels, memory-mapped.

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
    if dtypes != LABEL_DTYPES or labels["logits"].shape != (num, num_classes):
        raise ValueError(f"{path}: expected the tensors {', '.join(LABEL_DTYPES)} with logits of "
                         f"{num_classes} classes; delete it and rerun relabel")
    return labels
