"""Files, written once and whole: atomic writes, JSON, hashes, and whose folder a folder is."""
import contextlib
import hashlib
import io
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from utils.pieces import Options, Values, restated
from utils.runtime import say


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Calls `write(file)` on a temporary file beside `path`, syncs it to disk and renames it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, f"{error.strerror} (nothing is lost; mend it and run the same command "
                      f"again)", str(path)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically."""
    write_atomically(path, lambda file: file.write(content))


def write_json(path: Path, value: Values) -> None:
    """Writes a JSON file atomically, with sorted keys so that equal values are equal bytes."""
    text = json.dumps(value, indent=1, sort_keys=True) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> Values:
    """Reads a JSON file.   Raises: ValueError naming the file when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: damaged, not JSON ({error}); delete it and rerun the stage "
                         f"that made it") from error


def save_tensors(path: Path, tensors: Values) -> None:
    """torch.save, atomically; by way of memory, since torch hides a full disk behind errors of its own."""
    content = io.BytesIO()
    torch.save(tensors, content)
    write_atomically(path, lambda file: file.write(content.getbuffer()))


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    return sha256_bytes(path.read_bytes())


def save_weights(path: Path, model: torch.nn.Module) -> None:
    """A bare state dict on the CPU: three lines of plain torch load it (see the README)."""
    save_tensors(path, {name: value.cpu().contiguous() for name, value in model.state_dict().items()})


def sha256_bytes(content: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_json(value: object) -> str:
    """SHA-256 of a JSON value in its canonical spelling."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def _differences(there: Values, here: Values, prefix: str = "") -> list[str]:
    rows = []
    for key in sorted(set(there) | set(here)):
        a, b = there.get(key), here.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            rows += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            rows.append(f"{prefix}{key} is {_short(a)} there and {_short(b)} here")
    return rows


def _short(value: object) -> str:
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


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return folder if folder.exists() else _existing(folder.parent)


def check_free_disk(folder: Path, needed: int) -> None:
    """Raises ValueError unless `needed` bytes and 5 % more are free where `folder` lies, or will lie."""
    free = shutil.disk_usage(_existing(folder)).free
    if needed * 1.05 > free:
        raise ValueError(f"{folder}: {readable(needed)} are needed, {readable(free)} are free; "
                         f"free some or choose another output folder")


def sweep(folder: Path) -> None:
    """Removes what killed processes left half-written here and one level below, when it is an hour old."""
    for left in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
        with contextlib.suppress(FileNotFoundError):  # another process sweeps too
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink()


def claim_folder(folder: Path, *, identity: dict[str, Any], settings: type[Options], overwrite: bool,
                 contents: tuple[str, ...], dry_run: bool = False,
                 others: Mapping[str, type[Options]] | None = None) -> None:
    """Makes `folder` this configuration's: writes config.json, or checks the one that is there.

    Args:
        identity: what a finished file there depends on; equal identity means that work continues.
        settings: the class of identity["config"], as which an earlier version's config is read.
        overwrite: delete an earlier configuration's files instead of refusing.
        contents: glob patterns, below the folder, of the files that belong to this kind of run.
        dry_run: check, and write nothing.
        others: the classes of further settings in `identity`, by their key.
    Raises:
        ValueError: another configuration lives there (naming the differences), or it is unwritable.
    """
    path, identity = folder / "config.json", json.loads(json.dumps(identity))
    if not dry_run:
        check_writable(folder)
        sweep(folder)
    elif not (_existing(folder).is_dir() and os.access(_existing(folder), os.W_OK)):
        raise ValueError(f"{folder}: cannot be written; choose another output folder or mend its permissions")
    if path.exists() and overwrite:
        kind = read_json(path).get("format")
        if kind != identity["format"]:
            raise ValueError(f"{folder}: --overwrite would delete a folder of {kind}, this makes "
                             f"{identity['format']}; choose another folder")
        if dry_run:
            return
        stale = {old for pattern in (*contents, "manifest.json") for old in folder.glob(pattern)} - {path}
        for old in (*stale, path):  # the claim goes last
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    if not path.exists():
        foreign = [str(old.name) for pattern in contents for old in folder.glob(pattern)]
        if foreign:
            raise ValueError(f"{folder} holds {foreign[0]} but no config.json that says what it is; choose "
                             f"another folder, or move these files away")
        if dry_run:
            return
        write_json(path, identity)
    classes = {"config": settings, **(others or {})}
    there = {key: restated(classes[key], value) if key in classes else value
             for key, value in read_json(path).items()}
    if "weights" in identity:  # earlier versions named networks that a run did not use, too
        there["weights"] = {name: there["weights"][name] for name in identity["weights"]
                            if name in there.get("weights", {})}
    for saved in (there, identity):  # which only repeats the config, and joined images late
        saved.pop("protocol", None)
    rows = _differences(there, identity)
    if rows:
        more = f" (and {len(rows) - 3} more differences)" if len(rows) > 3 else ""
        raise ValueError(f"{folder} holds another configuration: {'; '.join(rows[:3])}{more}. "
                         f"Choose another folder, or --overwrite to delete what is there")


def say_ready(folder: Path) -> Path:
    """What a --dry-run ends with when all that the run checks is as it should be."""
    say(f"{folder}: every check passed; without --dry-run it starts")
    return folder


def log_name(shard: tuple[int, int]) -> str:
    """log.jsonl, or this shard's own log file."""
    return f"log_{shard[0]}of{shard[1]}.jsonl" if shard[1] > 1 else "log.jsonl"


def last_logged(folder: Path, field: str) -> Any:
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
