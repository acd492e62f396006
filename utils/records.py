"""Records: the JSON of runs as types, and the one reader that checks a file against its type.

What a type does not name may stand in a file too, and is left alone.
"""
import json
import math
import types
import typing
from pathlib import Path
from typing import Annotated, Any, TypedDict

from utils.pieces import Values, require

FORMAT_VERSION = 1
T = typing.TypeVar("T")
# Numbers between bounds, both included.
Count = Annotated[int, (1, 2**31)]
Index = Annotated[int, (0, 2**31)]
Share = Annotated[float, (0, 1)]
Scale = Annotated[float, (1e-9, 1e9)]


# ---------------------------------------------------------------- what the files hold

class _RunPool(TypedDict, total=False):
    pool: list[str]


class RunSettings(_RunPool):
    """What other stages read of recover's config."""

    dataset: str
    size: Count
    mean: list[float]
    std: list[Scale]
    stem: str
    arch_name: str


class Recipe(TypedDict):
    """A protocol, and the settings in which a run differs from it."""

    name: str
    changed: list[str]


class _Protocol(TypedDict, total=False):
    protocol: Recipe  # of recover, since it is recorded
    whole_set: Count  # IPC that the images were made for together


class Run(_Protocol):
    """<run>/config.json."""

    format: str
    version: int
    class_names: list[str]
    weights: dict[str, str]
    config: RunSettings


class _UnitBytes(TypedDict, total=False):
    primary: dict[str, int]  # logit teachers -> iterations
    bytes: int  # of all files together
    versions: Values  # which manifest.json holds once
    indices: list[Index]  # of a unit that holds several


class Unit(_UnitBytes):
    """<run>/units/ipc0003_chunk02.json: written when its files are."""

    ipc_id: Index
    chunk: Index
    short_classes: list[str]
    files: dict[str, str]


class Manifest(Run):
    """<run>/manifest.json."""

    dataset: str
    ipc: Count
    size: Count
    mean: list[float]
    std: list[Scale]
    units: list[Unit]
    versions: list[str]


class Places(TypedDict):
    """<run>/places.json."""

    weights: list[str]  # name=path
    weights_dir: str


class LabelSettings(TypedDict):
    """What validate reads of relabel's config."""

    seed: int
    precision: str
    epochs: Count
    label_format: str


class Labels(TypedDict):
    """<run>/fkd/<ipc>/config.json."""

    format: str
    version: int
    resampler: str
    dataset: str
    class_names: list[str]
    ipc: Count
    images: str
    num_images: Count
    stem: str
    label_epochs: Count
    views: Values
    teachers: list[str]
    weights: dict[str, str]
    protocol: Recipe
    config: LabelSettings


class Checksum(TypedDict):
    """What a record says of one file."""

    bytes: Index
    sha256: str


class Accuracy(TypedDict):
    """Top-1 and top-5 of one evaluation, in [0, 1]."""

    epoch: Index
    top1: Share
    top5: Share


class _ResultOrigin(TypedDict, total=False):
    files: dict[str, Checksum]
    images: str
    labels: str | None
    images_config: Values
    images_protocol: Recipe | None
    images_layout: str  # of a set of others
    labels_protocol: Recipe | None


class Result(_ResultOrigin):
    """seed0/result.json: written when the student's files are."""

    seed: int
    last: Accuracy
    best: Accuracy
    config: Values
    protocol: Recipe


class Teacher(TypedDict, total=False):
    """<name>.json beside a teacher's weights: written after them."""

    name: str
    accuracy: Share
    stem: str
    class_names: list[str]
    sha256: str
    recipe: Values


class _Split(TypedDict, total=False):
    split: str  # training or held-out


class Checked(_Split):
    """A teacher in preflight.json, by the digest of its weights."""

    name: str
    accuracy: Share
    floor: float
    images: Count


# ---------------------------------------------------------------- reading them

def read_json(path: Path) -> Any:
    """Reads a JSON file.   Raises: ValueError naming one that is not JSON (NaN is not), or no plain file."""
    require(path.is_file() or not path.exists(), f"{path}: not a file; move it away")  # pipes block
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged, not JSON ({error}); {way_out(path)}") from error


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def read_record(path: Path, kind: type[T], *, form: str = "") -> T:
    """A JSON file of a type, a TypedDict or dict[str, ...].

    Args:   form: what its "format" must be.
    Raises: ValueError naming the file, what is wrong in it and the way out; FileNotFoundError.
    """
    value = read_json(path)
    if form and isinstance(value, dict):
        require(value.get("format") == form,
                f"{path}: of {value.get('format')!r}, expected {form!r}; check the path")
    wrong = mismatch(value, kind)
    if not wrong and isinstance(value, dict) and value.get("version", FORMAT_VERSION) != FORMAT_VERSION:
        wrong = f"version is {value['version']}, this program reads {FORMAT_VERSION}"
    require(not wrong, f"{path}: {wrong}; {way_out(path)}")
    return typing.cast(T, value)


def find_record(path: Path, kind: type[T]) -> T | None:
    """The same for who makes what a record promises: one that is damaged or not there promises nothing."""
    try:
        return read_record(path, kind)
    except (ValueError, FileNotFoundError, NotADirectoryError):
        return None


def way_out(path: Path) -> str:
    """What helps where a record is damaged."""
    if path.name == "config.json":
        return ("restore it, or run the command that made this folder with --overwrite: it starts anew, and "
                "deletes only files of its own names")
    if path.name == "places.json":
        return "delete it, and pass --weights-dir or --weights"
    return "restore it, or delete it and rerun the stage that made it"


def mismatch(value: object, kind: Any, name: str = "it") -> str:
    """What in a JSON value is not of a type, with its place; empty where all is."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if typing.is_typeddict(kind):
        if not isinstance(value, dict):
            return _expected(value, name, "an object")
        hints = typing.get_type_hints(kind, include_extras=True)
        missing = sorted(kind.__required_keys__ - value.keys())
        parts = [(key, value[key], hints[key]) for key in hints if key in value]
        return f"{_before(name)}{missing[0]} is missing" if missing else _first(parts, name)
    if origin is dict or kind is dict:
        if not isinstance(value, dict):
            return _expected(value, name, "an object")
        return _first([(key, own, inner[1]) for key, own in value.items()], name)
    if origin is list:
        if not isinstance(value, list):
            return _expected(value, name, "a list")
        return _first([(str(i), own, inner[0]) for i, own in enumerate(value)], name)
    if origin in (types.UnionType, typing.Union):
        return "" if any(not mismatch(value, own) for own in inner) else _expected(value, name, str(kind))
    if origin is Annotated:
        low, high = inner[1]
        return mismatch(value, inner[0], name) or (
            "" if low <= typing.cast(float, value) <= high
            else _expected(value, name, f"in [{low:g}, {high:g}]"))
    if kind is Any:
        return ""
    if kind is float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        return "" if fits else _expected(value, name, "a finite number")
    return "" if type(value) is kind else _expected(value, name, f"of type {kind.__name__}")


def _first(parts: list[tuple[str, object, Any]], name: str) -> str:
    wrong = (mismatch(own, kind, _before(name) + key) for key, own, kind in parts)
    return next(filter(None, wrong), "")


def _before(name: str) -> str:
    return "" if name == "it" else f"{name}."


def _expected(value: object, name: str, what: str) -> str:
    text = json.dumps(value)
    return f"{name} is {text if len(text) <= 60 else text[:57] + '...'}, expected {what}"
