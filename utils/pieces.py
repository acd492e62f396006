"""Settings as frozen dataclasses: options with help, source and range, and pieces that are chosen by name.

A field is an `option`, or a `choice` of a piece: a dataclass of options of its own, from a registry (a plain
dict, name -> class).  Outside, settings are flat, field name -> value: a choice's value is the piece's name,
the chosen piece's options stand beside it.  So are command lines, saved configs, presets and identities.
"""
import dataclasses
import json
import math
import operator
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Values = dict[str, Any]
S = typing.TypeVar("S", bound="Options")
UNSET: Any = object()
COMPARISONS = {">": operator.gt, ">=": operator.ge}


def option(default: Any, text: str, *, source: str = "ours", identity: bool = True, flag: str = "",
           commas: bool = False, range: str = "", neutral: Any = UNSET, short: bool = False) -> Any:
    """A field: its default, help text with unit, source, and whether it changes what is written.

    Args:
        default: the value without flags, presets or file (tuples become several values on the command line).
        text: help text, with the unit.
        source: where the default comes from: a table of the paper, the published recipe, or ours.
        identity: False for places, devices, ranges and intervals, which change no pixel, label or weight.
        flag: a second spelling of the flag.
        commas: several values may also be given as one word, a,b,c.
        range: of every number: "> 0", ">= 0", "in (0, 1]", "in [0, 1)" and the like; without one a number
            must be finite still.  An upper bound keeps a typing error from taking hours or all memory.
        neutral: the value that does nothing: an option that joins later is left out of identities there.
        short: of a piece: may be given behind its name, topk:50.
    """
    return dataclasses.field(default=default, metadata={
        "help": text, "source": source, "identity": identity, "flag": flag, "commas": commas, "range": range,
        "neutral": neutral, "short": short})


def choice(registry: Mapping[str, type["Options"]], default: str, text: str, *, source: str = "ours",
           neutral: Any = UNSET) -> Any:
    """A field whose value is a piece, chosen by its name in `registry`.   Args: otherwise as `option`."""
    return dataclasses.field(default_factory=lambda: registry[default](), metadata={
        **option(default, text, source=source, neutral=neutral).metadata, "registry": registry,
        "chosen": default})


def choices(registry: Mapping[str, type["Options"]], default: tuple[str, ...], text: str, *,
            source: str = "ours", neutral: Any = UNSET) -> Any:
    """A field whose value is a tuple of pieces, each chosen by its name in `registry`."""
    return dataclasses.field(default_factory=lambda: tuple(registry[name]() for name in default), metadata={
        **option(default, text, source=source, neutral=neutral).metadata, "registry": registry,
        "chosen": default})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Base of configs and pieces: every option is checked against its declared range."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            law: str = field.metadata.get("range") or "in (-inf, inf)"  # which NaN is not in either
            values = getattr(self, field.name)
            for value in values if isinstance(values, tuple) else (values,):
                require(not isinstance(value, (int, float)) or in_range(value, law),
                        f"{flag_of(field)} must be {law}, got {value}" + ", more than a float32 holds" * (
                            isinstance(value, float) and 3.4e38 <= abs(value) < math.inf))


def require(condition: object, message: str) -> None:
    """Raises ValueError(message) unless the condition holds: the checks of options."""
    if not condition:
        raise ValueError(message)


def in_range(value: float, law: str) -> bool:
    """Whether a number fits into 64 bits (an integer) or a float32, and obeys a range of an `option`."""
    if not abs(value) < (2**63 if isinstance(value, int) else 3.4e38):
        return False
    if law.startswith("in "):
        opening, low, high, closing = re.fullmatch(r"in ([\[(])(\S+), (\S+)([\])])", law).groups()  # type: ignore[union-attr]
        return (value >= float(low) if opening == "[" else value > float(low)) \
            and (value <= float(high) if closing == "]" else value < float(high))
    sign, bound = law.split()
    return bool(COMPARISONS[sign](value, float(bound)))


def flag_of(field: "dataclasses.Field[Any]") -> str:
    """How a field is spelt on a command line."""
    return "--" + field.name.replace("_", "-")


# ---------------------------------------------------------------- pieces and flat values

def slots(cls: Any) -> list["dataclasses.Field[Any]"]:
    """The fields of a class (or instance) of settings whose values are pieces."""
    return [field for field in dataclasses.fields(cls) if "registry" in field.metadata]


def find_piece(registry: Mapping[str, type[S]], name: str, flag: str) -> type[S]:
    """The piece of that name.   Raises: ValueError listing the known ones."""
    require(name in registry, f"{flag} {name}: expected one of {', '.join(registry)}")
    return registry[name]


def build_piece(registry: Mapping[str, type[S]], name: str, values: Mapping[str, Any], flag: str = "") -> S:
    """The piece of that name, with those of its options that `values` holds; None is the default."""
    cls = find_piece(registry, name, flag)
    names = {field.name for field in dataclasses.fields(cls)}
    return cls(**{key: _frozen(value) for key, value in values.items() if key in names and value is not None})


def piece_name(registry: Mapping[str, type[Any]], piece: Any) -> str:
    """The name of a piece in its registry."""
    return next(name for name, cls in registry.items() if cls is type(piece))


def chosen_names(field: "dataclasses.Field[Any]", values: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the pieces that flat values choose for a slot, its default where they say nothing.

    Raises: ValueError where a value names none, or one twice.
    """
    names = values.get(field.name, field.metadata["chosen"])
    names = (names,) if isinstance(names, str) else names
    require(isinstance(names, (tuple, list)) and all(isinstance(name, str) for name in names),
            f"{flag_of(field)} is {json.dumps(names)}, expected of {', '.join(field.metadata['registry'])}")
    require(len(set(names)) == len(names), f"{flag_of(field)} {' '.join(names)}: expected each once")
    return tuple(names)


def chosen_pieces(cls: Any, values: Mapping[str, Any]) -> Iterator[tuple[str, str, type[Options]]]:
    """(slot's flag, name, class) of every piece that flat values choose."""
    for field in slots(cls):
        for name in chosen_names(field, values):
            yield flag_of(field), name, find_piece(field.metadata["registry"], name, flag_of(field))


def owners_of_flag(cls: Any, flag: str) -> list[str]:
    """The pieces that have a flag, in any spelling (--temperature, -T, --no-warm): ["--init mosaic"]."""
    return [f"{flag_of(field)} {piece}" for field in slots(cls)
            for piece, own in field.metadata["registry"].items() for option in dataclasses.fields(own)
            if flag in (flag_of(option), option.metadata["flag"], flag_of(option).replace("--", "--no-", 1))]


def owners(cls: Any, name: str) -> list[str]:
    """The pieces that have an option of that name."""
    return owners_of_flag(cls, "--" + name.replace("_", "-"))


def defaults(cls: Any, values: Mapping[str, Any]) -> Values:
    """What flat values may hold, and its default: the class's own options and the chosen pieces'.

    Raises: ValueError where two of them have one name.
    """
    found: Values = {}
    owner: dict[str, str] = {}
    for where, own in ((cls.__name__, cls), *((f"{flag} {name}", piece)
                                              for flag, name, piece in chosen_pieces(cls, values))):
        for field in dataclasses.fields(own):
            require(field.name not in found, f"{where} and {owner.get(field.name)} both have an option "
                    f"{field.name}: rename one")
            found[field.name], owner[field.name] = field.metadata.get("chosen", field.default), where
    return found


def unknown_names(cls: Any, values: Mapping[str, Any]) -> list[str]:
    """The names that neither the class nor any piece has, chosen or not."""
    own = {field.name for field in dataclasses.fields(cls)}
    return sorted(name for name in values if name not in own and not owners(cls, name))


def spell_out(registry: Mapping[str, type[Any]], text: str, flag: str) -> tuple[str, Values]:
    """`piece:VALUE` as the piece's name and its short option: topk:50.   Raises: ValueError on others."""
    name, colon, value = text.partition(":")
    if not colon:
        return text, {}
    piece = find_piece(registry, name, flag)
    short = next((field for field in dataclasses.fields(piece) if field.metadata["short"]), None)
    if short is None:
        raise ValueError(f"{flag} {text}: {name} has no option to set; expected {name}")
    try:
        return name, {short.name: typing.get_type_hints(piece)[short.name](value)}
    except ValueError:
        raise ValueError(f"{flag} {text}: expected {name}:{short.name.upper()}, for example "
                         f"{name}:{short.default}") from None


def expand(cls: Any, values: Mapping[str, Any]) -> Values:
    """Flat values with every "piece:VALUE" spelt out."""
    spelt = dict(values)
    for field in slots(cls):
        if isinstance(given := values.get(field.name), str):
            name, own = spell_out(field.metadata["registry"], given, flag_of(field))
            for option_name, value in own.items():
                require(values.get(option_name, value) == value, f"{flag_of(field)} {given} contradicts "
                        f"--{option_name.replace('_', '-')} {values.get(option_name)}; leave one out")
            spelt |= {field.name: name, **own}
    return spelt


def merge(cls: Any, values: Mapping[str, Any], new: Mapping[str, Any]) -> Values:
    """Flat values with `new` over them.

    Where that chooses another piece, the options of the one before go, but for those that the other has too,
    with the same default.
    """
    new = expand(cls, new)
    merged = {**values, **new}
    before, after = defaults(cls, values), defaults(cls, merged)
    return {name: value for name, value in merged.items()
            if name in new or name not in before or name in after and after[name] == before[name]}


def build(cls: type[S], values: Mapping[str, Any]) -> S:
    """Settings from flat values; options of pieces that are not chosen have no effect.

    Raises: ValueError on a name that neither the class nor any piece has, and as the checks of `cls`.
    """
    values = expand(cls, values)
    own = {field.name for field in dataclasses.fields(cls)}
    unknown = unknown_names(cls, values)
    require(not unknown, f"expected fields of {cls.__name__}, got {', '.join(unknown)}")
    made = {name: _frozen(value) for name, value in values.items() if name in own}
    for field in slots(cls):
        pieces = tuple(build_piece(field.metadata["registry"], name, values, flag_of(field))
                       for name in chosen_names(field, values))
        made[field.name] = pieces[0] if isinstance(field.metadata["chosen"], str) else pieces
    return cls(**made)


def expected_values(cls: Any, values: Mapping[str, Any], settings: Mapping[str, Any]) -> Values:
    """What flat values would be if only `settings` were given, were the same pieces chosen; unchecked."""
    chosen = {field.name: values[field.name] for field in slots(cls) if field.name in values}
    kept = {name: value for name, value in merge(cls, settings, chosen).items() if name not in chosen}
    return defaults(cls, values) | kept | {name: settings[name] for name in chosen if name in settings}


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _flat_fields(settings: Options) -> Iterator[tuple["dataclasses.Field[Any]", Any]]:
    for field in dataclasses.fields(settings):
        value, registry = getattr(settings, field.name), field.metadata.get("registry")
        if registry is None:
            yield field, value
            continue
        pieces = value if isinstance(value, tuple) else (value,)
        names = tuple(piece_name(registry, piece) for piece in pieces)
        yield field, names if isinstance(value, tuple) else names[0]
        for piece in pieces:
            yield from _flat_fields(piece)


def flatten(settings: Options) -> Values:
    """The flat values of which `build` makes these settings again."""
    return {field.name: value for field, value in _flat_fields(settings)}


def identity(settings: Options) -> Values:
    """What changes what is written, as JSON values: the common fields, the chosen pieces and their options.

    A run folder belongs to one such dict.  A field that joined later is left out at its neutral value.
    """
    return _identity(_flat_fields(settings))


def _identity(flat: Iterable[tuple["dataclasses.Field[Any]", Any]]) -> Values:
    return typing.cast(Values, json.loads(json.dumps({
        field.name: value for field, value in flat
        if field.metadata["identity"] and (field.metadata["neutral"] is UNSET
                                           or value != field.metadata["neutral"])})))


def restated(cls: type[Options], saved: Mapping[str, Any]) -> Values:
    """The identity that a saved one is today: options without effect and neutral ones left out.

    What today's class does not know stays, so that a comparison names it.
    """
    unknown = {name: saved[name] for name in unknown_names(cls, saved)}
    try:
        spelt = expand(cls, {name: value for name, value in saved.items() if name not in unknown})
        flat = [(own, _frozen(spelt[own.name])) for own in dataclasses.fields(cls) if own.name in spelt]
        for slot in slots(cls):  # not `cls` itself, whose checks want places too
            for name in chosen_names(slot, spelt):
                flat += _flat_fields(build_piece(slot.metadata["registry"], name, spelt, flag_of(slot)))
        today = _identity(flat)
    except (ValueError, TypeError):
        return dict(saved)
    return {name: value for name, value in today.items() if name in spelt} | unknown
