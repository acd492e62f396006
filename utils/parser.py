"""The argparse parser of settings, saved configs as flat values, and tables of flags."""
import argparse
import dataclasses
import json
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from utils.pieces import (
    Options,
    Values,
    chosen_pieces,
    defaults,
    expand,
    flag_of,
    require,
    slots,
    unknown_names,
)


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are ValueErrors, so that a command line shows one line and exits with 2."""

    def error(self, message: str) -> typing.NoReturn:
        raise ValueError(f"{message} (see --help)")


WIDEST = 60  # characters of a list of choices beside its flag


class _Help(argparse.HelpFormatter):
    """Paragraphs as wide as the options below them; indented lines, which are commands, as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = re.split(r"\n(?=\n| )|(?<=\n)\n", text.strip())
        return "\n".join(part if part.startswith(" ") or not part else textwrap.fill(part.strip(), width)
                         for part in paragraphs) + "\n"


def _add_field(parser: Any, field: "dataclasses.Field[Any]", kind: Any, values: Mapping[str, Any]) -> None:
    names = [flag_of(field)] + ([field.metadata["flag"]] if field.metadata["flag"] else [])
    default, here = shown_default(field), _shown(values.get(field.name, None))
    known = f"default: {default}" if field.name not in values or here == default else \
        f"here: {here}; default: {default}"
    text = f"{field.metadata['help']} ({known}; {field.metadata['source']})"
    common = {"dest": field.name, "default": argparse.SUPPRESS, "help": text.replace("%", "%%")}
    if registry := field.metadata.get("registry"):
        several, listed = not isinstance(field.metadata["chosen"], str), "{" + ",".join(registry) + "}"
        if len(listed) > WIDEST:  # argparse does not wrap it
            listed, common["help"] = "NAME", f"{', '.join(registry)}: {common['help']}"
        parser.add_argument(*names, type=_name_in(registry), metavar=listed, nargs="*" if several else None,
                            **common)
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


def shown_default(field: "dataclasses.Field[Any]") -> str:
    """A default as people read it."""
    return _shown(field.metadata["chosen"] if "registry" in field.metadata else field.default)


def _shown(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return "none" if text in ("", None) else str(text)


def fields_of(cls: Any) -> list["dataclasses.Field[Any]"]:
    """A config's fields as people read them: its own first, then the flags that it shares with others."""
    return sorted(dataclasses.fields(cls), key=lambda field: field.name not in cls.__annotations__)


def build_parser(cls: type[Options], values: Mapping[str, Any], description: str = "", *,
                 groups: bool = True) -> argparse.ArgumentParser:
    """The argparse parser of a config class: unset flags leave no trace, abbreviations are refused.

    Args: values: flat, that choose the pieces whose flags are listed under them, and that --help shows
          beside defaults that are others;  groups: False: only the class's own flags, and no --help.
    """
    module = getattr(sys.modules[cls.__module__], "__spec__", None)
    parser = _Parser(prog=f"python -m {module.name}" if module else None, usage="%(prog)s [flags]",
                     description=description, allow_abbrev=False, add_help=groups,
                     formatter_class=_Help)
    parser.add_argument("--config", default=argparse.SUPPRESS, metavar="FILE",
                        help="JSON of a saved config (a run's config.json): its values become defaults")
    kinds = typing.get_type_hints(cls)
    known: set[str] = set()
    for field in fields_of(cls):
        _add_field(parser, field, kinds[field.name], values)
    for flag, name, piece in chosen_pieces(cls, values) if groups else ():
        own = [field for field in dataclasses.fields(piece) if field.name not in known]
        if not own:
            continue
        group = parser.add_argument_group(f"with {flag} {name}", (piece.__doc__ or "").split("\n")[0])
        kinds, known = typing.get_type_hints(piece), known | {field.name for field in own}
        for field in own:
            _add_field(group, field, kinds[field.name], values)
    return parser


def read_config_file(path: str, cls: type[Options]) -> Values:
    """Flat values of a saved config; options of pieces that others choose may be among them."""
    require(Path(path).is_file(), f"--config {path}: no such file")
    try:
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"--config {path}: not JSON ({error})") from error
    saved = saved.get("config", saved) if isinstance(saved, dict) else saved
    require(isinstance(saved, dict), f"--config {path}: expected fields of {cls.__name__}, got "
            f"{type(saved).__name__}")
    own, unknown = {field.name for field in dataclasses.fields(cls)}, unknown_names(cls, saved)
    require(not unknown, f"--config {path}: expected fields of {cls.__name__}, got {', '.join(unknown)}")
    return _check_kinds({name: value for name, value in expand(cls, saved).items()
                         if value is not None or name in own}, cls)  # an option's null once was its default


def _check_kinds(values: Values, cls: type[Options]) -> Values:
    """Values of a saved config with lists as tuples; ValueError on a value that its flag would not take."""
    checked: Values = {}
    parser, kinds = build_parser(cls, values), typing.get_type_hints(cls)
    every = build_parser(cls, {field.name: tuple(field.metadata["registry"]) for field in slots(cls)})
    for field in slots(cls):
        for piece in field.metadata["registry"].values():
            kinds = typing.get_type_hints(piece) | kinds
    known = defaults(cls, values)
    for name, value in values.items():
        kind = kinds[name]
        if value is None or isinstance(value, bool):
            fits = (type(None) if value is None else bool) in (kind, *typing.get_args(kind))
            require(fits, f"--config: {name} is {json.dumps(value)}, which its flag would not take")
            checked[name] = value
            continue
        require(not isinstance(value, list) or typing.get_origin(kind) is tuple,
                f"--config: {name} is {json.dumps(value)}, which its flag would not take")
        words = [str(v) for v in value] if isinstance(value, list) else [str(value)]
        if words and (words != [""] or kind is not str):
            value = getattr((parser if name in known else every).parse_args(
                ["--" + name.replace("_", "-"), *words]), name)
        checked[name] = tuple(value) if isinstance(value, list) else value
    return checked


def flag_table(cls: type[Options]) -> str:
    """Markdown table of a config's flags: flag, default, meaning, source; pieces' below what chooses them."""
    rows = ["| flag | default | meaning | source |", "|---|---|---|---|"]
    kinds = typing.get_type_hints(cls)
    for field in fields_of(cls):
        registry = field.metadata.get("registry", {})
        rows.append(_row(field, "", tuple(registry) or _literals(kinds[field.name])))
        options: dict[str, tuple[dataclasses.Field[Any], list[str], Any]] = {}
        for name, piece in registry.items():
            for own in dataclasses.fields(piece):
                kind = typing.get_type_hints(piece)[own.name]
                options.setdefault(f"{own.name} {shown_default(own)}", (own, [], kind))[1].append(name)
        for own, names, kind in options.values():
            before = f"with `{'`, `'.join(names)}`: " if len(names) < len(registry) else ""
            rows.append(_row(own, before, _literals(kind)))
    return "\n".join(rows)


def _literals(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


def _row(field: "dataclasses.Field[Any]", before: str, choices: tuple[Any, ...]) -> str:
    shown, after = shown_default(field), f" ({', '.join(map(str, choices))})" if choices else ""
    spelt = f"`{flag_of(field)}`" + (f", `{field.metadata['flag']}`" if field.metadata["flag"] else "")
    meaning = before + (field.metadata["help"] + after).replace("<", "&lt;")
    shown = shown if shown == "none" and "registry" not in field.metadata else f"`{shown}`"
    return f"| {spelt} | {shown} | {meaning} | {field.metadata['source']} |"
