"""Files, written once and whole: atomic writes, JSON, hashes, free space, logs."""
import contextlib
import hashlib
import io
import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from utils.pieces import Values
from utils.records import Checksum
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


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON file atomically, with sorted keys so that equal values are equal bytes."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """What `write_json` writes."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def tensor_bytes(tensors: Values) -> bytes:
    """What torch.save writes; by way of memory, since torch hides a full disk behind errors of its own."""
    content = io.BytesIO()
    torch.save(tensors, content)
    return content.getvalue()


def save_tensors(path: Path, tensors: Values) -> Checksum:
    """torch.save, atomically; returns what a record says of the file."""
    content = tensor_bytes(tensors)
    write_bytes(path, content)
    return checksum(content)


def save_weights(path: Path, model: torch.nn.Module) -> Checksum:
    """A bare state dict on the CPU: three lines of plain torch load it (see the README)."""
    return save_tensors(path, {name: value.cpu().contiguous() for name, value in model.state_dict().items()})


def load_tensors(content: bytes) -> Any:
    """torch.load of a file's bytes, on the CPU, without unpickling anything but tensors and plain values.

    Raises: ValueError saying what is wrong with them; torch raises many kinds, each means damage here.
    """
    file = io.BytesIO(content)
    try:
        if zipfile.is_zipfile(file):  # torch leaves the archive's check sums unread
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()
            if damaged:
                raise ValueError(f"{damaged} is changed")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(type(error).__name__) from error


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; of one that is larger than the memory, too."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 22):
            digest.update(part)
    return digest.hexdigest()


def checksum(content: bytes) -> Checksum:
    """What a record says of a file of these bytes."""
    return {"bytes": len(content), "sha256": sha256_bytes(content)}


def is_whole(path: Path, expected: Checksum) -> bool:
    """Whether a file is there with the bytes that its record promises."""
    return has_size(path, expected) and sha256_file(path) == expected["sha256"]


def has_size(path: Path, expected: Checksum) -> bool:
    """Whether a file is there, as long as its record promises."""
    return path.is_file() and path.stat().st_size == expected["bytes"]


def sha256_bytes(content: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_json(value: object) -> str:
    """SHA-256 of a JSON value in its canonical spelling."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return folder if folder.exists() else existing(folder.parent)


def check_free_disk(folder: Path, needed: int) -> None:
    """Raises ValueError unless `needed` bytes and 5 % more are free where `folder` lies, or will lie."""
    free = shutil.disk_usage(existing(folder)).free
    if needed * 1.05 > free:
        raise ValueError(f"{folder}: {readable(needed)} are needed, {readable(free)} are free; "
                         f"free some or choose another output folder")


def say_ready(folder: Path, todo: str, *, anew: bool) -> Path:
    """What a --dry-run ends with when all that the run checks is as it should be.   Args: anew: of claim."""
    deleted = "what another configuration left there is deleted first, " if anew else ""
    say(f"{folder}: {deleted}{todo}; every check passed; without --dry-run it starts")
    return folder


def log_name(shard: tuple[int, int]) -> str:
    """log.jsonl, or this shard's own log file."""
    return f"log_{shard[0]}of{shard[1]}.jsonl" if shard[1] > 1 else "log.jsonl"


def read_lines(path: Path) -> Iterator[Values]:
    """The rows of a log; lines that a killed process left half-written are passed over."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                yield row


def last_logged(folder: Path, field: str) -> Any:
    """The last value of a field in the folder's log*.jsonl, or None: an earlier unit's measured rate, say."""
    for path in sorted(folder.glob("log*.jsonl"), reverse=True):
        found = [row[field] for row in read_lines(path) if field in row]
        if found:
            return found[-1]
    return None


def readable(num_bytes: float) -> str:
    """A size in bytes as people read it: 6.0 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"
