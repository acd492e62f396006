"""Command lines from settings: one field is one flag, with its help, unit and source; pieces bring their own.

A stage declares its config (utils/pieces.py) and calls `parse_config`.
Precedence, weakest first: field defaults < presets (data set, then protocol) < --config FILE < flags.
"""
import argparse
import dataclasses
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from utils.parser import build_parser, read_config_file
from utils.pieces import (
    Options,
    S,
    Values,
    build,
    chosen_names,
    chosen_pieces,
    expected_values,
    flag_of,
    flatten,
    merge,
    option,
    owners_of_flag,
    require,
    slots,
    unknown_names,
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


def _refuse_retired(argv: Sequence[str]) -> None:
    for word in argv:
        name = word.split("=")[0]
        known = RETIRED.get(name) or (RETIRED["--wandb-project"] if name.startswith("--wandb") else None)
        require(not known, f"{name} is not a flag of this project: {known}")


def _parse(parser: argparse.ArgumentParser, argv: Sequence[str],
           cls: type[Options]) -> tuple[Values, list[str]]:
    found, rest = parser.parse_known_args(list(argv))
    pieces = (piece for slot in slots(cls) for piece in slot.metadata["registry"].values())
    commas = {field.name for own in (cls, *pieces) for field in dataclasses.fields(own)
              if field.metadata["commas"]}
    return {name: tuple(",".join(value).split(",") if name in commas else value)
            if isinstance(value, list) else value for name, value in vars(found).items()}, rest


def _also_chosen(cls: type[Options], argv: Sequence[str], values: Values) -> Values:
    """`values` with the pieces that the same words chose before others: a caller wins over a script."""
    words = [word for text in argv for word in text.split("=", 1)]
    chosen = {field.name: dict.fromkeys([*chosen_names(field, values), *(
        word.partition(":")[0] for flag, word in zip(words, words[1:], strict=False)
        if flag == flag_of(field) and word.partition(":")[0] in field.metadata["registry"])])
        for field in slots(cls) if isinstance(field.metadata["chosen"], str)}
    return values | {name: tuple(names) for name, names in chosen.items()}


def _late(cls: type[Options], argv: Sequence[str], parser: argparse.ArgumentParser) -> Iterator[str]:
    """Flags of pieces that the words before them have already replaced.   Args: parser: without them."""
    for slot in map(flag_of, slots(cls)):
        last = max((i for i, word in enumerate(argv) if word.split("=")[0] == slot), default=len(argv))
        _, left = _parse(parser, argv[last:], cls)
        yield from (flag for flag in (word.split("=")[0] for word in left)
                    if any(owner.startswith(f"{slot} ") for owner in owners_of_flag(cls, flag)))


def _parse_strictly(cls: type[Options], argv: Sequence[str], values: Values, description: str) -> Values:
    """The flags that are given.   Raises: ValueError on an unknown flag, or one of a piece not chosen."""
    parser = build_parser(cls, values, description)
    explicit, rest = _parse(parser, argv, cls)
    if rest:
        _, rest = _parse(build_parser(cls, _also_chosen(cls, argv, values)), argv, cls)
    flags = [word.split("=")[0] for word in rest if word.startswith("-")]
    for flag in (*flags, *_late(cls, argv, parser)):
        if having := owners_of_flag(cls, flag):
            chosen = [name for slot, name, _ in chosen_pieces(cls, values) if slot == having[0].split()[0]]
            raise ValueError(f"{flag} is of {' or '.join(having)}, this run has {having[0].split()[0]} "
                             f"{' '.join(chosen) or 'none'}; choose that, or leave {flag} out")
    require(not rest, f"unrecognized arguments: {' '.join(rest)} (see --help)")
    return explicit


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
    saved = read_config_file(path, cls) if path else {}
    given = merge(cls, saved, seen)
    lower = merge(cls, _implied(cls, given, presets), saved)
    explicit = _parse_strictly(cls, argv, merge(cls, lower, seen), description or "")
    return build(cls, merge(cls, lower, {k: v for k, v in explicit.items() if k != "config"}))


def _implied(cls: type[Options], given: Values, presets: Presets | None) -> Values:
    implied = presets(given) if presets else {}
    foreign = unknown_names(cls, implied)  # a data set implies more than one command's fields
    return merge(cls, {}, {name: value for name, value in implied.items() if name not in foreign})


def build_config(cls: type[S], explicit: Values, *, presets: Presets | None = None) -> S:
    """Builds `cls` from defaults, presets and explicit flat values.   Raises: as the checks of `cls`."""
    return build(cls, merge(cls, _implied(cls, explicit, presets), explicit))


def first_words(argv: Sequence[str] | None, flag: str) -> list[str]:
    """A command line whose words before any flag are values of `flag`.   Args: argv: as `parse_config`."""
    words = list(sys.argv[1:] if argv is None else argv)
    return [flag, *words] if words and not words[0].startswith("-") else words


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
    case = ("dataset", "protocol", "ipc_end", "ipc", "model", "data", "train_dir", "fkd_path")
    given: Values = {name: values[name] for name in case if name in values}
    implied = expected_values(type(config), values, _implied(type(config), given, presets))
    return to_words({name: value for name, value in values.items() if value != implied[name]})


# ---------------------------------------------------------------- flags that several commands share

@dataclasses.dataclass(frozen=True, kw_only=True)
class ComputeFlags(Options):
    """What every command takes: where it computes."""

    threads: int = option(0, "CPU threads; 0 = all cores; part of a run's identity", range="in [0, 1024]")
    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...", identity=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessFlags(ComputeFlags):
    """What commands take that write a folder: whether an earlier configuration may be deleted."""

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

    dry_run: bool = option(False, "print the plan, check all that the run checks, write nothing but "
                           "downloads",
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
    workers: int = option(4, "processes that decode images", identity=False, range="in [0, 256]")


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
        None, "least top-1 on real images; none: 0.7 x recorded, else min(0.5, 10 / classes)", identity=False,
        range="in [0, 1]")
    preflight_images: int = option(512, "real images of the teachers' check, of each split, spread over the "
                                   "classes", identity=False, range="> 0")
    val_dir: str = option("", "held-out real images, to check teachers on; none: recover takes those of the "
                          "data's folder where there are any, relabel what recover measured", identity=False)
