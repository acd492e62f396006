"""Command lines from frozen dataclasses: one field is one flag, with its help, unit and source beside it.

A stage declares `option(default, "what it is [unit]", source="table 1b")` per field and calls `parse_config`.
Precedence, weakest first: field defaults < presets (data set, then IPC) < --config FILE < flags.
"""
import argparse
import dataclasses
import json
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path

RECIPE = "published recipe"
# Switches of the lineage's scripts that have no counterpart here: what replaces each.
RETIRED = {
    "--cos": "the schedule is --schedule ssrs | cosine | linear",
    "--store-best-images": "the finished images are always stored",
    "--use-fp16": "labels are always stored as fp16",
    "--mode": "relabel writes labels and validate reads them; there is no mode to choose",
    "--wandb-project": "every run writes log.jsonl; nothing is sent anywhere",
    "--wandb-api-key": "every run writes log.jsonl; nothing is sent anywhere",
}


def option(default, text: str, *, source: str = "ours", identity: bool = True, flag: str = "",
           commas: bool = False):
    """A field of a config: its default, help text with unit, source, and whether it changes what is written.

    Args:
        default: the value without flags, presets or file (tuples become several values on the command line).
        text: help text, with the unit.
        source: where the default comes from: a table of the paper, the published recipe, or ours.
        identity: False for places, devices, ranges and intervals, which change no pixel, label or weight.
        flag: a second spelling of the flag.
        commas: several values may also be given as one word, a,b,c.
    """
    return dataclasses.field(default=default, metadata={
        "help": text, "source": source, "identity": identity, "flag": flag, "commas": commas})


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are ValueErrors, so that a command line shows one line and exits with 2."""

    def error(self, message):
        raise ValueError(f"{message} (see --help)")


def _flag(field: dataclasses.Field) -> str:
    return "--" + field.name.replace("_", "-")


def _add_field(parser: argparse.ArgumentParser, field: dataclasses.Field, kind) -> None:
    names = [_flag(field)] + ([field.metadata["flag"]] if field.metadata["flag"] else [])
    shown = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    text = f"{field.metadata['help']} (default: {shown if shown not in ('', None) else 'none'}; " \
           f"{field.metadata['source']})".replace("%", "%%")
    common = {"dest": field.name, "default": argparse.SUPPRESS, "help": text}
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(a for a in typing.get_args(kind) if a is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        parser.add_argument(*names, choices=typing.get_args(kind), **common)
    elif kind is bool:
        parser.add_argument(*names, action=argparse.BooleanOptionalAction, **common)
    elif typing.get_origin(kind) is tuple:
        parser.add_argument(*names, nargs="+", type=typing.get_args(kind)[0],
                            metavar=field.name.upper(), **common)
    else:
        parser.add_argument(*names, type=kind, metavar=kind.__name__.upper(), **common)


def _fields(cls) -> list[dataclasses.Field]:
    """A config's fields as people read them: its own first, then the flags that it shares with others."""
    fields = dataclasses.fields(cls)
    return sorted(fields, key=lambda field: field.name not in cls.__annotations__)


def build_parser(cls, description: str = "") -> argparse.ArgumentParser:
    """The argparse parser of a config class: unset flags leave no trace, abbreviations are refused."""
    module = getattr(sys.modules[cls.__module__], "__spec__", None)
    parser = _Parser(prog=f"python -m {module.name}" if module else None, usage="%(prog)s [flags]",
                     description=description, allow_abbrev=False,
                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=argparse.SUPPRESS, metavar="FILE",
                        help="JSON of a saved config (a run's config.json): its values become defaults")
    kinds = typing.get_type_hints(cls)
    for field in _fields(cls):
        _add_field(parser, field, kinds[field.name])
    return parser


def _retired_flags(argv: Sequence[str]) -> None:
    for word in argv:
        name = word.split("=")[0]
        known = RETIRED.get(name) or (RETIRED["--wandb-project"] if name.startswith("--wandb") else None)
        if known:
            raise ValueError(f"{name} is not a flag of this project: {known}")


def _read_config_file(path: str, cls) -> dict:
    if not Path(path).is_file():
        raise ValueError(f"--config {path}: no such file")
    try:
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"--config {path}: not JSON ({error})") from error
    saved = saved.get("config", saved) if isinstance(saved, dict) else saved
    names = {f.name for f in dataclasses.fields(cls)}
    if not isinstance(saved, dict) or set(saved) - names:
        unknown = ", ".join(sorted(set(saved) - names)) if isinstance(saved, dict) else type(saved).__name__
        raise ValueError(f"--config {path}: expected fields of {cls.__name__}, got {unknown}")
    return saved


def _check_kinds(values: dict, cls) -> dict:
    """Values of a saved config with lists as tuples; ValueError on a value that its flag would not take."""
    checked, parser, kinds = {}, build_parser(cls), typing.get_type_hints(cls)
    for name, value in values.items():
        kind = kinds[name]
        if value is None or isinstance(value, bool):
            kinds_taken = (kind, *typing.get_args(kind))
            fits = (type(None) if value is None else bool) in kinds_taken
            require(fits, f"--config: {name} is {json.dumps(value)}, which its flag would not take")
            checked[name] = value
            continue
        words = [str(v) for v in value] if isinstance(value, list) else [str(value)]
        if words and (words != [""] or kind is not str):
            value = getattr(parser.parse_args(["--" + name.replace("_", "-"), *words]), name)
        checked[name] = tuple(value) if isinstance(value, list) else value
    return checked


def parse_config(cls, argv: Sequence[str], *, presets: Callable[[dict], dict] | None = None,
                 description: str = ""):
    """Builds `cls` from defaults, presets, --config FILE and flags, the later winning.

    Args:
        cls: frozen keyword-only dataclass, its fields made by `option`.
        argv: words of the command line, without the program's name.
        presets: given the explicit values, returns field values that a data set or an IPC implies.
        description: text at the top of --help.
    Raises:
        ValueError: unknown or malformed flag, bad config file, or a check of `cls.__post_init__`.
    """
    _retired_flags(argv)
    flags = vars(build_parser(cls, description).parse_args(list(argv)))
    commas = {f.name for f in dataclasses.fields(cls) if f.metadata["commas"]}
    flags = {k: tuple(",".join(v).split(",") if k in commas else v) if isinstance(v, list) else v
             for k, v in flags.items()}
    saved = flags.pop("config", None)
    explicit = {**(_check_kinds(_read_config_file(saved, cls), cls) if saved else {}), **flags}
    return build_config(cls, explicit, presets=presets)


def build_config(cls, explicit: dict, *, presets: Callable[[dict], dict] | None = None):
    """Builds `cls` from defaults, presets and explicit field values.   Raises: as `cls.__post_init__`."""
    implied = presets(explicit) if presets else {}
    names = {f.name for f in dataclasses.fields(cls)}
    return cls(**{k: v for k, v in implied.items() if k in names} | explicit)


def to_words(values: dict) -> list[str]:
    """Field values as the words of a command line."""
    words = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else (value,))]
    return words


def flags_of(config, *, presets: Callable[[dict], dict]) -> list[str]:
    """The words of a command line of which `parse_config` makes this config again."""
    given = {name: getattr(config, name) for name in ("dataset", "protocol") if hasattr(config, name)}
    implied = {f.name: f.default for f in dataclasses.fields(config)} | presets(given)
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return to_words({name: value for name, value in values.items() if value != implied[name]})


def identity(config) -> dict:
    """The fields that change what is written, as JSON values: a run folder belongs to one such dict."""
    return {f.name: json.loads(json.dumps(getattr(config, f.name)))
            for f in dataclasses.fields(config) if f.metadata["identity"]}


def require(condition: bool, message: str) -> None:
    """Raises ValueError(message) unless the condition holds: the checks of a config's __post_init__."""
    if not condition:
        raise ValueError(message)


def flag_table(cls) -> str:
    """Markdown table of a config's flags (flag, default, meaning, source), as the stage READMEs show it."""
    rows = ["| flag | default | meaning | source |", "|---|---|---|---|"]
    for field in _fields(cls):
        default = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        kind = typing.get_type_hints(cls)[field.name]
        if typing.get_origin(kind) is typing.Literal:
            choices = " (" + ", ".join(map(str, typing.get_args(kind))) + ")"
        else:
            choices = ""
        shown = f"`{default}`" if default not in ("", None, ()) else "none"
        spelt = f"`{_flag(field)}`" + (f", `{field.metadata['flag']}`" if field.metadata["flag"] else "")
        meaning = (field.metadata["help"] + choices).replace("<", "&lt;")
        rows.append(f"| {spelt} | {shown} | {meaning} | {field.metadata['source']} |")
    return "\n".join(rows)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessFlags:
    """What every command takes: where it computes, and whether an earlier configuration may be deleted."""

    threads: int = option(0, "CPU threads; 0 = all cores; part of a run's identity")
    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...", identity=False)
    overwrite: bool = option(False, "delete what another configuration left in the folder", identity=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrecisionFlags:
    """What the stages take: how precisely their networks compute."""

    precision: typing.Literal["fp32", "tf32", "bf16", "fp16"] = option(
        "fp32", "of the networks; statistics and losses are float32", source=RECIPE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaveFlags:
    """What the commands take whose units of work are long: how much of one can be lost."""

    save_every: float = option(5.0, "minutes between saves of unfinished work; SIGTERM and Ctrl-C save too",
                               identity=False)

    def check_save_every(self) -> None:
        """Raises: ValueError on a negative interval."""
        require(self.save_every >= 0, f"--save-every must be >= 0, got {self.save_every}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryFlags:
    """What the stages take that read images over and over: how much of them is kept decoded."""

    resident_gb: float = option(16.0, "decoded images kept in memory [GB], at most half of what is free; "
                                "above, workers decode", identity=False)
    workers: int = option(4, "processes that decode images", identity=False)

    def check_memory(self) -> None:
        """Raises: ValueError on negative values."""
        require(self.resident_gb >= 0, f"--resident-gb must be >= 0, got {self.resident_gb}")
        require(self.workers >= 0, f"--workers must be >= 0, got {self.workers}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightFlags:
    """What every stage with teachers takes: where their weights are."""

    weights: tuple[str, ...] = option((), "teachers' weights, name=path ...", identity=False)
    weights_dir: str = option("", "folder of teachers' weights, <name>.pt or torchvision's files",
                              identity=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherFlags(WeightFlags):
    """What the stages take that check the teachers on real images."""

    min_teacher_accuracy: float | None = option(
        None, "least top-1 on real images; none: 0.7 x recorded, else min(0.5, 10 / classes)", identity=False)
    preflight_images: int = option(512, "real images of the teachers' check", identity=False)

    def __post_init__(self):
        require(self.preflight_images > 0, f"--preflight-images must be > 0, got {self.preflight_images}")
