"""Command lines from settings: one field is one flag, with its help, unit and source; pieces bring their own.

A stage declares its config (utils/pieces.py) and calls `parse_config`.
Precedence, weakest first: field defaults < presets (data set, then protocol) < --config FILE < flags.
"""
import argparse
import dataclasses
import json
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.pieces import (
    Options,
    S,
    Values,
    build,
    chosen_pieces,
    expand,
    expected_values,
    find_piece,
    flag_of,
    flatten,
    known_names,
    merge,
    option,
    owners,
    require,
    slots,
)

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
Presets = Callable[[Values], Values]


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are ValueErrors, so that a command line shows one line and exits with 2."""

    def error(self, message: str) -> typing.NoReturn:
        raise ValueError(f"{message} (see --help)")


def _add_field(parser: Any, field: "dataclasses.Field[Any]", kind: Any) -> None:
    names = [flag_of(field)] + ([field.metadata["flag"]] if field.metadata["flag"] else [])
    text = f"{field.metadata['help']} (default: {_shown(field)}; {field.metadata['source']})".replace("%", "%%")
    common = {"dest": field.name, "default": argparse.SUPPRESS, "help": text}
    if registry := field.metadata.get("registry"):
        several = not isinstance(field.metadata["chosen"], str)
        parser.add_argument(*names, type=_name_in(registry), metavar="{" + ",".join(registry) + "}",
                            nargs="*" if several else None, **common)
        return
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


def _name_in(registry: Mapping[str, Any]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text.partition(":")[0] not in registry:
            raise argparse.ArgumentTypeError(f"expected one of {', '.join(registry)}, got {text!r}")
        return text
    return check


def _shown(field: "dataclasses.Field[Any]") -> str:
    """A default as people read it."""
    default = field.metadata["chosen"] if "registry" in field.metadata else field.default
    text = " ".join(map(str, default)) if isinstance(default, tuple) else default
    return "none" if text in ("", None) else str(text)


def _fields(cls: Any) -> list["dataclasses.Field[Any]"]:
    """A config's fields as people read them: its own first, then the flags that it shares with others."""
    return sorted(dataclasses.fields(cls), key=lambda field: field.name not in cls.__annotations__)


def build_parser(cls: type[Options], values: Mapping[str, Any], description: str = "", *,
                 groups: bool = True) -> argparse.ArgumentParser:
    """The argparse parser of a config class: unset flags leave no trace, abbreviations are refused.

    Args: values: flat, that choose the pieces whose flags are listed under them;  groups: False: only the
          class's own flags, and no --help.
    """
    module = getattr(sys.modules[cls.__module__], "__spec__", None)
    parser = _Parser(prog=f"python -m {module.name}" if module else None, usage="%(prog)s [flags]",
                     description=description, allow_abbrev=False, add_help=groups,
                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=argparse.SUPPRESS, metavar="FILE",
                        help="JSON of a saved config (a run's config.json): its values become defaults")
    kinds, known = typing.get_type_hints(cls), set()
    for field in _fields(cls):
        _add_field(parser, field, kinds[field.name])
    for flag, name, piece in chosen_pieces(cls, values) if groups else ():
        own = [field for field in dataclasses.fields(piece) if field.name not in known]
        group = parser.add_argument_group(f"with {flag} {name}", (piece.__doc__ or "").split("\n")[0])
        kinds, known = typing.get_type_hints(piece), known | {field.name for field in own}
        for field in own:
            _add_field(group, field, kinds[field.name])
    return parser


def _refuse_retired(argv: Sequence[str]) -> None:
    for word in argv:
        name = word.split("=")[0]
        known = RETIRED.get(name) or (RETIRED["--wandb-project"] if name.startswith("--wandb") else None)
        require(not known, f"{name} is not a flag of this project: {known}")


def _parse(parser: argparse.ArgumentParser, argv: Sequence[str], cls: type[Options]) -> tuple[Values, list[str]]:
    found, rest = parser.parse_known_args(list(argv))
    commas = {field.name for field in dataclasses.fields(cls) if field.metadata["commas"]}
    return {name: tuple(",".join(value).split(",") if name in commas else value)
            if isinstance(value, list) else value for name, value in vars(found).items()}, rest


def _earlier(cls: type[Options], argv: Sequence[str], values: Values) -> list[Values]:
    """Pieces that the same words chose before they chose others: a caller's flag wins over a script's."""
    words = [word for text in argv for word in text.split("=", 1)]
    return [values | {field.name: word.partition(":")[0]} for field in slots(cls)
            if isinstance(field.metadata["chosen"], str)
            for flag, word in zip(words, words[1:], strict=False)
            if flag == flag_of(field) and word.partition(":")[0] in field.metadata["registry"]]


def _parse_strictly(cls: type[Options], argv: Sequence[str], values: Values, description: str) -> Values:
    """The flags that are given.   Raises: ValueError on an unknown flag, or one of a piece not chosen."""
    explicit, rest = _parse(build_parser(cls, values, description), argv, cls)
    for earlier in _earlier(cls, argv, values) if rest else ():
        _, left = _parse(build_parser(cls, earlier), argv, cls)
        rest = [word for word in rest if word in left]
    flags = [word.split("=")[0] for word in rest if word.startswith("-")]
    for flag in flags:
        if having := owners(cls, flag.removeprefix("--").removeprefix("no-").replace("-", "_")):
            chosen = [name for slot, name, _ in chosen_pieces(cls, values) if slot == having[0].split()[0]]
            raise ValueError(f"{flag} is of {' or '.join(having)}, this run has {having[0].split()[0]} "
                             f"{' '.join(chosen) or 'none'}; choose that, or leave {flag} out")
    require(not rest, f"unrecognized arguments: {' '.join(rest)} (see --help)")
    return explicit


def _read_config_file(path: str, cls: type[Options]) -> Values:
    """Flat values of a saved config, those of pieces that it does not choose left out."""
    require(Path(path).is_file(), f"--config {path}: no such file")
    try:
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"--config {path}: not JSON ({error})") from error
    saved = saved.get("config", saved) if isinstance(saved, dict) else saved
    require(isinstance(saved, dict), f"--config {path}: expected fields of {cls.__name__}, got "
            f"{type(saved).__name__}")
    own = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(name for name in saved if name not in own and not owners(cls, name))
    require(not unknown, f"--config {path}: expected fields of {cls.__name__}, got {', '.join(unknown)}")
    saved = expand(cls, saved)
    return _check_kinds({name: saved[name] for name in saved if name in known_names(cls, saved)}, cls)


def _check_kinds(values: Values, cls: type[Options]) -> Values:
    """Values of a saved config with lists as tuples; ValueError on a value that its flag would not take."""
    for field in slots(cls):
        for name in values.get(field.name, ()) if isinstance(values.get(field.name), list) else ():
            find_piece(field.metadata["registry"], name, flag_of(field))
    checked, parser = {}, build_parser(cls, values)
    kinds = typing.get_type_hints(cls)
    for *_, piece in chosen_pieces(cls, values):
        kinds = typing.get_type_hints(piece) | kinds
    for name, value in values.items():
        kind = kinds[name]
        if value is None or isinstance(value, bool):
            fits = (type(None) if value is None else bool) in (kind, *typing.get_args(kind))
            require(fits, f"--config: {name} is {json.dumps(value)}, which its flag would not take")
            checked[name] = value
            continue
        words = [str(v) for v in value] if isinstance(value, list) else [str(value)]
        if words and (words != [""] or kind is not str):
            value = getattr(parser.parse_args(["--" + name.replace("_", "-"), *words]), name)
        checked[name] = tuple(value) if isinstance(value, list) else value
    return checked


def parse_config(cls: type[S], argv: Sequence[str] | None, *, presets: Presets | None = None,
                 description: str | None = "") -> S:
    """Builds `cls` from defaults, presets, --config FILE and flags, the later winning.

    Args:
        cls: settings of `utils.pieces`;  argv: words of the command line, without the program's name; None:
            this process's.
        presets: given the explicit values, returns field values that a data set or a protocol implies.
        description: text at the top of --help.
    Raises:
        ValueError: unknown or malformed flag, bad config file, or a check of `cls`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    _refuse_retired(argv)
    seen, _ = _parse(build_parser(cls, {}, groups=False), argv, cls)  # the pieces bring flags of their own
    path = seen.pop("config", None)
    saved = _read_config_file(path, cls) if path else {}
    given = merge(cls, saved, seen)
    lower = merge(cls, _implied(cls, given, presets), saved)
    explicit = _parse_strictly(cls, argv, merge(cls, lower, seen), description or "")
    return build(cls, merge(cls, lower, {k: v for k, v in explicit.items() if k != "config"}))


def _implied(cls: type[Options], given: Values, presets: Presets | None) -> Values:
    implied = presets(given) if presets else {}
    own = {field.name for field in dataclasses.fields(cls)}
    return merge(cls, {}, {name: v for name, v in implied.items() if name in own or owners(cls, name)})


def build_config(cls: type[S], explicit: Values, *, presets: Presets | None = None) -> S:
    """Builds `cls` from defaults, presets and explicit flat values.   Raises: as the checks of `cls`."""
    return build(cls, merge(cls, _implied(cls, explicit, presets), explicit))


def to_words(values: Mapping[str, Any]) -> list[str]:
    """Flat values as the words of a command line."""
    words = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, (tuple, list)) else (value,))]
    return words


def flags_of(config: Options, *, presets: Presets) -> list[str]:
    """The words of a command line of which `parse_config` makes this config again."""
    values = flatten(config)
    given = {name: values[name] for name in ("dataset", "protocol") if name in values}
    implied = expected_values(type(config), values, _implied(type(config), given, presets))
    return to_words({name: value for name, value in values.items() if value != implied[name]})


def flag_table(cls: type[Options]) -> str:
    """Markdown table of a config's flags (flag, default, meaning, source), pieces' below what chooses them."""
    rows = ["| flag | default | meaning | source |", "|---|---|---|---|"]
    kinds = typing.get_type_hints(cls)
    for field in _fields(cls):
        registry = field.metadata.get("registry", {})
        choices = tuple(registry) or (
            typing.get_args(kinds[field.name]) if typing.get_origin(kinds[field.name]) is typing.Literal else ())
        rows.append(_row(field, "", f" ({', '.join(map(str, choices))})" if choices else ""))
        options: dict[str, tuple["dataclasses.Field[Any]", list[str]]] = {}
        for name, piece in registry.items():
            for own in dataclasses.fields(piece):
                options.setdefault(f"{own.name} {_shown(own)}", (own, []))[1].append(name)
        rows += [_row(own, f"with `{'`, `'.join(names)}`: ", "") for own, names in options.values()]
    return "\n".join(rows)


def _row(field: "dataclasses.Field[Any]", before: str, after: str) -> str:
    shown = _shown(field)
    spelt = f"`{flag_of(field)}`" + (f", `{field.metadata['flag']}`" if field.metadata["flag"] else "")
    meaning = before + (field.metadata["help"] + after).replace("<", "&lt;")
    return f"| {spelt} | {shown if shown == 'none' else f'`{shown}`'} | {meaning} | {field.metadata['source']} |"


# ---------------------------------------------------------------- flags that several commands share

@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessFlags(Options):
    """What every command takes: where it computes, and whether an earlier configuration may be deleted."""

    threads: int = option(0, "CPU threads; 0 = all cores; part of a run's identity", range=">= 0")
    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...", identity=False)
    overwrite: bool = option(False, "delete what another configuration left in the folder", identity=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrecisionFlags(Options):
    """What the stages take: how precisely their networks compute."""

    precision: typing.Literal["fp32", "tf32", "bf16", "fp16"] = option(
        "fp32", "of the networks; statistics and losses are float32", source=RECIPE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardFlags(Options):
    """What the stages take whose units are split by arithmetic."""

    shard: str = option("", "i/n: this process's share; default: torchrun's rank", identity=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanFlags(Options):
    """What every stage takes: to look before it writes."""

    dry_run: bool = option(False, "print the plan, check all that the run checks, write nothing",
                           identity=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaveFlags(Options):
    """What the commands take whose units of work are long: how much of one can be lost."""

    save_every: float = option(5.0, "minutes between saves of unfinished work; SIGTERM and Ctrl-C save too",
                               identity=False, range=">= 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryFlags(Options):
    """What the stages take that read images over and over: how much of them is kept decoded."""

    resident_gb: float = option(16.0, "decoded images kept in memory [GB], at most half of what is free; "
                                "above, workers decode", identity=False, range=">= 0")
    workers: int = option(4, "processes that decode images", identity=False, range=">= 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightFlags(Options):
    """What every stage with teachers takes: where their weights are."""

    weights: tuple[str, ...] = option((), "teachers' weights, name=path ...", identity=False)
    weights_dir: str = option("", "folder of teachers' weights, <name>.pt or torchvision's files",
                              identity=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherFlags(WeightFlags):
    """What the stages take that check the teachers on real images."""

    min_teacher_accuracy: float | None = option(
        None, "least top-1 on real images; none: 0.7 x recorded, else min(0.5, 10 / classes)", identity=False)
    preflight_images: int = option(512, "real images of the teachers' check", identity=False, range="> 0")
