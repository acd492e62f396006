"""Whose folder a folder is, and which files in it are ours.

A folder belongs to one configuration, its config.json.  Whoever works in it holds it; what another
configuration left is deleted only on --overwrite, only when nobody works there, and only by name: files that
our stages write there under names of their own.  Records go before what they promise and config.json is
replaced last, so that whatever stops a deletion, the next run finds the old configuration with work to do, or
the new one.
"""
import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from utils.files import existing, read_lines, write_json
from utils.pieces import Options, Values, require, restated
from utils.pieces import identity as identity_of
from utils.records import FORMAT_VERSION, find_record, read_json, read_record
from utils.runtime import warn_once

CLAIM, IN_USE = ".claim.lock", ".in-use.lock"
LEFTOVER = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")  # of utils.files.write_atomically
ELSEWHERE = "choose another output folder or mend its permissions"
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


class OwnFiles(NamedTuple):
    """Paths below a folder: of records, and of what they promise, of logs and saves."""

    records: list[Path]
    others: list[Path]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What our files in a folder of one kind are called.

    format: in config.json;  places: where they lie, as globs;  records, others: their paths below the folder,
    as regular expressions.
    """

    format: str
    places: tuple[str, ...]
    records: str
    others: str

    def own(self, folder: Path) -> OwnFiles:
        """Our files, config.json and locks left aside."""
        found = (path for place in self.places for path in folder.glob(place)
                 if path.is_file() or path.is_symlink())
        paths = sorted(found, key=lambda path: (path.suffix == ".jsonl", path))  # logs name teachers: last
        named = {path: path.relative_to(folder).as_posix() for path in paths}
        return OwnFiles(*([path for path, name in named.items() if re.fullmatch(law, name)]
                          for law in self.laws(folder)))

    def laws(self, folder: Path) -> tuple[str, str]:
        """`records` and `others`."""
        return self.records, self.others


@dataclasses.dataclass(frozen=True)
class TeacherKind(Kind):
    """Teachers: of all networks in a folder, ours are those that its log names."""

    def laws(self, folder: Path) -> tuple[str, str]:
        log = folder / "log.jsonl"
        names = {str(row.get("teacher")) for row in read_lines(log)} if log.is_file() else set()
        own = "|".join(map(re.escape, sorted(names))) or "(?!)"
        return self.records.format(own=own), self.others.format(own=own)


IMAGES = Kind(
    "prism-images", ("*", "units/*", "unfinished/*", "measured/*", "syn/*/*"),
    r"(manifest|preflight|places)\.json|units/ipc\d{4,}_chunk\d{2,}\.json|measured/[\w.+-]+\.json",
    r"log(_\d+of\d+)?\.jsonl|report\.html|unfinished/ipc\d{4,}_chunk\d{2,}\.pt|"
    r"syn/(?P<name>.+)/(?P=name)_ipc\d{4,}\.(jpg|png)")
LABELS = Kind("prism-labels", ("*",), r"manifest\.json|epoch_\d{3,}\.json",
              r"log(_\d+of\d+)?\.jsonl|epoch_\d{3,}\.pt")
STUDENTS = Kind("prism-students", ("*", "seed*/*"), r"results\.jsonl?|seed-?\d+/result\.json",
                r"seed-?\d+/(log\.jsonl|(student_last|student_best|unfinished)\.pt)")
TEACHERS = TeacherKind("prism-teachers", ("*",), r"({own})\.json",
                       r"({own})(\.unfinished)?\.pt|log\.jsonl|statistics_[0-9a-f]+_[0-9a-f]+\.pt")
KINDS = {kind.format: kind for kind in (IMAGES, LABELS, STUDENTS, TEACHERS)}


# ---------------------------------------------------------------- claims

@contextlib.contextmanager
def claim(folder: Path, kind: Kind, *, identity: Values, settings: type[Options], overwrite: bool,
          dry_run: bool = False, others: Mapping[str, type[Options]] | None = None) -> Iterator[bool]:
    """Makes `folder` this configuration's and holds it: writes config.json, or checks the one that is there.

    Args:
        identity: what a finished file there depends on; equal identity means that work continues.
        settings: the class of identity["config"], as which an earlier version's config is read.
        overwrite: delete another configuration's files instead of refusing.
        dry_run: check, and write nothing.
        others: the classes of further settings in `identity`, by their key.
    Yields: whether another configuration's files were deleted (or, in a dry run, will be).
    Raises:
        ValueError: another configuration lives there (naming the differences), another process works there
        that --overwrite would disturb, or nothing can be written.
    """
    identity = json.loads(json.dumps({"format": kind.format, "version": FORMAT_VERSION, **identity}))
    classes = {"config": settings, **(others or {})}
    here = existing(folder)
    require(here.is_dir() and os.access(here, os.W_OK), f"{folder}: cannot be written; {ELSEWHERE}")
    stale = _is_others(folder, kind, identity, classes, overwrite)
    if dry_run:
        yield stale
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{folder}: not made ({error.strerror}); {ELSEWHERE}") from error
    with contextlib.ExitStack() as held:
        with lock(folder / CLAIM, wait=True):
            stale = _is_others(folder, kind, identity, classes, overwrite)  # while nobody else claims
            if stale:
                with lock(folder / IN_USE, wait=False):
                    _delete(folder, kind)
            if stale or not (folder / "config.json").is_file():
                write_json(folder / "config.json", identity)
            held.enter_context(lock(folder / IN_USE, wait=True, shared=True))
        _sweep(folder, kind)
        yield stale


def check_claimed(folder: Path) -> None:
    """Raises: RuntimeError when a run's folder was removed, or emptied, while this process wrote into it."""
    if not (folder / "config.json").is_file():
        raise RuntimeError(f"{folder}: its config.json is gone: the folder was removed or emptied during the "
                           f"run, what is there now is not whole; delete it and run the same command again")


def _is_others(folder: Path, kind: Kind, identity: Values, classes: Mapping[str, type[Options]],
               overwrite: bool) -> bool:
    """Whether another configuration's files are there, to be overwritten.   Raises: as `claim`."""
    path = folder / "config.json"
    own = [] if path.exists() else [file.relative_to(folder) for files in kind.own(folder) for file in files]
    if not path.exists():  # still: another process may be claiming now
        require(not own, f"{folder} holds {', '.join(map(str, own[:1]))} but no config.json that says what "
                f"it is; choose another folder, or move these files away")
        return False
    found = _format(path)
    require(found in ("", kind.format),
            f"{folder} is a folder of {found}, this makes {kind.format}; choose another folder")
    try:
        wrong = _differences(_today(read_record(path, Values), identity, classes), identity)
    except ValueError:
        if not overwrite:
            raise
        require((folder / CLAIM).is_file() or kind.own(folder).records,
                f"{path}: not ours, as far as can be told; choose another folder, or move it away")
        return True
    if not wrong or overwrite:
        return bool(wrong)
    more = f" (and {len(wrong) - 3} more differences)" if len(wrong) > 3 else ""
    raise ValueError(f"{folder} holds another configuration: {'; '.join(wrong[:3])}{more}. "
                     f"Choose another folder, or --overwrite to delete what is there")


def _format(config: Path) -> str:
    """Whose a config.json is; empty where it cannot be told."""
    try:
        value = read_json(config)
    except ValueError:
        return ""
    return str(value.get("format", "")) if isinstance(value, dict) else ""


def seems_others(folder: Path, config: Options) -> bool:
    """Whether the config there is another, as far as flags alone tell: for a plan, before data are opened."""
    saved = find_record(folder / "config.json", dict[str, Any]) or {}
    there = restated(type(config), saved["config"]) if isinstance(saved.get("config"), dict) else {}
    return any(name in there and there[name] != value for name, value in identity_of(config).items()
               if value is not None and name != "ipc")  # which the files say


def _today(there: Values, identity: Values, classes: Mapping[str, type[Options]]) -> Values:
    """A saved identity as this version writes it."""
    there = {key: restated(classes[key], value) if key in classes and isinstance(value, dict) else value
             for key, value in there.items()}
    if isinstance(weights := there.get("weights"), dict):  # once of networks, too, that a run did not use
        there["weights"] = {name: weights[name] for name in identity.get("weights", weights)
                            if name in weights}
    return there


def _differences(there: Values, here: Values, prefix: str = "") -> list[str]:
    """Where two identities differ; a protocol only repeats the config, and joined images late."""
    rows = []
    for key in sorted((set(there) | set(here)) - {"protocol"}):
        a, b = there.get(key), here.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            rows += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            rows.append(f"{prefix}{key} is {_short(a)} there and {_short(b)} here")
    return rows


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _delete(folder: Path, kind: Kind) -> None:
    """Deletes what another configuration left: records, then the rest, then folders that are empty."""
    own = kind.own(folder)
    for path in (*own.records, *own.others):
        path.unlink(missing_ok=True)
    emptied = {parent for path in own.others + own.records for parent in path.relative_to(folder).parents}
    for parent in sorted(emptied, key=lambda path: -len(path.parts)):
        with contextlib.suppress(OSError):  # not empty, or a link
            if parent.parts:
                (folder / parent).rmdir()


def _sweep(folder: Path, kind: Kind) -> None:
    """Removes what killed processes left half-written, when it is an hour old."""
    for left in (path for place in kind.places for path in folder.glob(place.rpartition("*")[0] + ".*.tmp")):
        with contextlib.suppress(FileNotFoundError):  # another process sweeps too
            if LEFTOVER.fullmatch(left.name) and time.time() - left.stat().st_mtime > 3600:
                left.unlink()


@contextlib.contextmanager
def lock(path: Path, *, wait: bool, shared: bool = False) -> Iterator[None]:
    """Holds a lock of the operating system's on a file, which it makes.

    Raises: ValueError where another process holds it and we do not wait, or where it cannot be made.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        file = open(path, "a+b")  # on NFS a shared lock wants a file that can be read
    except OSError as error:
        raise ValueError(f"{path.parent}: cannot be written ({error.strerror}); {ELSEWHERE}") from error
    with file:
        try:
            fcntl.flock(file, how)
        except BlockingIOError:
            raise ValueError(f"{path.parent}: another process works there; --overwrite would delete what it "
                             f"makes: stop it first, or choose another folder") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            warn_once(f"{path.parent}: no locks on this file system: let no --overwrite run beside others")
        yield
