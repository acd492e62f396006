"""Settings and pieces: flat values and back, identities, ranges, and what the stages' own registries hold."""
import dataclasses
import json
import math
import typing
from typing import Literal

import pytest

from benchmarks.augment import AugmentConfig
from benchmarks.digits import DrawFlags
from benchmarks.memory import MemoryConfig
from benchmarks.recover_step import StepConfig
from models.train_teachers import TeacherConfig
from recover.data_synthesis import RecoverConfig
from relabel.generate_soft_label import RelabelConfig
from scripts.demo import DemoConfig
from scripts.privacy import PrivacyConfig
from scripts.reproduce import ReproduceConfig
from utils.convert_log import ConvertConfig
from utils.flags import build_config
from utils.pieces import (
    Options,
    build,
    build_piece,
    choice,
    choices,
    chosen_names,
    defaults,
    expand,
    expected_values,
    flatten,
    identity,
    in_range,
    merge,
    option,
    owners,
    piece_name,
    restated,
    slots,
    spell_out,
)
from utils.views import Views
from validate.diversity import DiversityConfig
from validate.evaluate import EvaluateConfig
from validate.export import ExportConfig
from validate.figures import FiguresConfig
from validate.membership import MembershipConfig
from validate.memorisation import MemorisationConfig
from validate.report import ReportConfig
from validate.train_FKD import ValidateConfig

SETTINGS = (RecoverConfig, RelabelConfig, ValidateConfig, TeacherConfig, Views)
COMMANDS = (*SETTINGS, ConvertConfig, DiversityConfig, EvaluateConfig, ExportConfig, FiguresConfig,
            MembershipConfig, MemorisationConfig, ReportConfig, DemoConfig, PrivacyConfig, ReproduceConfig,
            AugmentConfig, DrawFlags, StepConfig, MemoryConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Silent(Options):
    """Nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loud(Silent):
    """A tone."""

    volume: float = option(2.0, "how loud [dB]", range=">= 0", short=True)
    pitch: int = option(440, "how high [Hz]", range="> 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Soft(Loud):
    """A tone of another volume."""

    volume: float = option(0.5, "how loud [dB]", range=">= 0", short=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shaped(Options):
    """Options that the shorthand cannot set: the first is one of a few words."""

    shape: Literal["round", "square"] = option("round", "of the wave")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Low(Options):
    """Lets low tones pass."""

    cutoff: float = option(0.0, "where it ends [Hz]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class High(Options):
    """Lets high tones pass."""

    floor: float = option(0.0, "where it starts [Hz]")
    steps: tuple[float, ...] = option((1.0, 2.0), "two numbers", range="in (0, 2]")


SOUNDS = {"loud": Loud, "soft": Soft, "silent": Silent, "shaped": Shaped}
FILTERS = {"low": Low, "high": High}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Small(Options):
    """Settings with a field of each kind."""

    size: int = option(8, "side [pixels]", range="> 0")
    limit: int | None = option(None, "a bound", range="in [2, 9]")
    folder: str = option("out", "a place", identity=False)
    later: bool = option(False, "joined later", neutral=False)
    sound: Silent = choice(SOUNDS, "loud", "a sound")
    echo: Silent = choice({"off": Silent, "on": Loud}, "off", "joined later too", neutral="off")
    filters: tuple[Options, ...] = choices(FILTERS, ("low", "high"), "filters, in turn")


# ---------------------------------------------------------------- from flat values, and back

def test_defaults_are_the_chosen_pieces_with_their_defaults():
    small = Small()
    assert (small.sound, small.filters) == (Loud(), (Low(), High()))
    assert flatten(small) == {
        "size": 8, "limit": None, "folder": "out", "later": False, "sound": "loud", "volume": 2.0,
        "pitch": 440, "echo": "off", "filters": ("low", "high"), "cutoff": 0.0, "floor": 0.0,
        "steps": (1.0, 2.0)}


@pytest.mark.parametrize("values, expected", [
    ({}, {}),
    ({"sound": "soft"}, {"sound": Soft()}),
    ({"volume": 7.0}, {"sound": Loud(volume=7.0)}),
    ({"sound": "soft", "pitch": 50}, {"sound": Soft(pitch=50)}),
    ({"sound": "soft", "volume": None}, {"sound": Soft()}),  # none is the default
    ({"sound": "silent", "volume": 7.0}, {"sound": Silent()}),  # of a piece that is not chosen: no effect
    ({"sound": "soft:7"}, {"sound": Soft(volume=7.0)}),
    ({"filters": ["high"], "floor": 3.0}, {"filters": (High(floor=3.0),)}),
    ({"filters": ()}, {"filters": ()}), ({"filters": ("high", "low")}, {"filters": (High(), Low())}),
    ({"filters": ["high"], "steps": [2.0, 1.0]}, {"filters": (High(steps=(2.0, 1.0)),)})])
def test_settings_are_built_from_flat_values(values, expected):
    assert build(Small, values) == Small(**expected)


@pytest.mark.parametrize("values, named", [
    ({"sizes": 3, "loudness": 1}, "expected fields of Small, got loudness, sizes"),
    ({"sound": "noise"}, "--sound noise: expected one of loud, soft, silent, shaped"),
    ({"filters": ("low", "band")}, "--filters band: expected one of low, high"),
    ({"volume": -1.0}, "--volume must be >= 0, got -1.0"),
    ({"sound": "silent:3"}, "--sound silent:3: silent has no option to set; expected silent"),
    ({"sound": "loud:big"}, "--sound loud:big: expected loud:VOLUME, for example loud:2.0"),
    ({"sound": "loud:"}, "--sound loud:: expected loud:VOLUME, for example loud:2.0"),
    ({"sound": "noise:3"}, "--sound noise: expected one of loud")])
def test_flat_values_that_make_no_settings_are_refused(values, named):
    with pytest.raises(ValueError) as refused:
        build(Small, values)
    assert str(refused.value).startswith(named)


@pytest.mark.parametrize("small", [
    Small(), Small(sound=Soft(pitch=3), filters=(High(steps=(0.5, 0.5)), Low(cutoff=1.0))),
    Small(sound=Silent(), filters=(), limit=4), Small(sound=Shaped(shape="square"), filters=(Low(),))])
def test_flat_values_make_the_same_settings_again(small):
    assert build(Small, flatten(small)) == small
    assert build(Small, json.loads(json.dumps(flatten(small)))) == small


def test_the_shorthand_sets_the_first_option():
    assert spell_out(SOUNDS, "soft", "--sound") == ("soft", {})
    assert spell_out(SOUNDS, "soft:3", "--sound") == ("soft", {"volume": 3.0})
    assert expand(Small, {"sound": "loud:3", "size": 4}) == {"sound": "loud", "volume": 3.0, "size": 4}
    assert expand(Small, {"sound": "loud"}) == {"sound": "loud"}


def test_a_piece_is_built_from_those_values_that_are_its_own():
    assert build_piece(SOUNDS, "soft", {"pitch": 3, "volume": None, "cutoff": 7.0}) == Soft(pitch=3)
    assert piece_name(SOUNDS, Soft(pitch=3)) == "soft" and piece_name(SOUNDS, Silent()) == "silent"
    with pytest.raises(ValueError, match="--sound noise: expected one of loud, soft"):
        build_piece(SOUNDS, "noise", {}, "--sound")


# ---------------------------------------------------------------- merging

@pytest.mark.parametrize("values, new, expected", [
    ({}, {"sound": "soft"}, {"sound": "soft"}),
    ({"volume": 7.0}, {"sound": "soft"}, {"sound": "soft"}),  # soft has another default
    ({"pitch": 7}, {"sound": "soft"}, {"pitch": 7, "sound": "soft"}),  # soft has it too
    ({"volume": 7.0, "size": 4}, {"sound": "silent"}, {"size": 4, "sound": "silent"}),
    ({"sound": "soft", "volume": 7.0}, {"sound": "loud:3"}, {"sound": "loud", "volume": 3.0}),
    ({"sound": "soft", "pitch": 3}, {"volume": 7.0}, {"sound": "soft", "pitch": 3, "volume": 7.0}),
    ({"floor": 3.0, "cutoff": 1.0}, {"filters": ("low",)}, {"cutoff": 1.0, "filters": ("low",)})])
def test_merging_forgets_the_options_of_a_piece_that_is_no_longer_chosen(values, new, expected):
    assert merge(Small, values, new) == expected


def test_who_has_an_option_and_which_are_known():
    assert owners(Small, "cutoff") == ["--filters low"] and owners(Small, "size") == []
    assert owners(Small, "volume") == ["--sound loud", "--sound soft", "--echo on"]
    own = {field.name for field in dataclasses.fields(Small)}
    assert defaults(Small, {}).keys() == own | {"volume", "pitch", "cutoff", "floor", "steps"}
    assert defaults(Small, {"sound": "shaped", "filters": ()}).keys() == own | {"shape"}
    sound, _, filters = slots(Small)
    assert chosen_names(sound, {}) == ("loud",) and chosen_names(sound, {"sound": "soft"}) == ("soft",)
    assert chosen_names(filters, {}) == ("low", "high") and chosen_names(filters, {"filters": []}) == ()


def test_expected_values_are_the_defaults_of_the_pieces_that_are_chosen():
    silent = flatten(Small(sound=Silent()))
    assert expected_values(Small, silent, {}) == {**silent, "sound": "loud"}
    soft = flatten(Small(sound=Soft(volume=7.0), size=4))
    assert expected_values(Small, soft, {}) == flatten(Small(sound=Soft())) | {"sound": "loud"}
    assert expected_values(Small, soft, {"sound": "soft", "volume": 3.0}) \
        == flatten(Small(sound=Soft(volume=3.0)))
    # settings of another piece stay with it, but for what both have
    assert expected_values(Small, silent, {"sound": "soft", "volume": 3.0}) == {**silent, "sound": "soft"}


# ---------------------------------------------------------------- identity

def test_identity_leaves_out_places_and_survives_json():
    changed = identity(Small(folder="elsewhere", filters=(High(steps=(0.1, 0.2)),)))
    assert changed == json.loads(json.dumps(changed))
    assert changed == {"size": 8, "limit": None, "sound": "loud", "volume": 2.0, "pitch": 440,
                       "filters": ["high"], "floor": 0.0, "steps": [0.1, 0.2]}


def test_what_joined_later_is_left_out_where_it_does_nothing():
    assert not {"later", "echo"} & set(identity(Small()))
    assert identity(Small(later=True)) == {**identity(Small()), "later": True}
    assert identity(Small(echo=Loud()))["echo"] == "on"


def test_identity_has_the_options_of_chosen_pieces_alone():
    assert set(identity(Small())) - set(identity(Small(sound=Silent(), filters=()))) \
        == {"volume", "pitch", "cutoff", "floor", "steps"}
    assert identity(Small(sound=Soft())) != identity(Small(sound=Loud(volume=0.5)))


@pytest.mark.parametrize("saved, expected", [
    ({}, {}),
    ({"size": 4, "sound": "silent", "volume": 7.0}, {"size": 4, "sound": "silent"}),
    ({"sound": "soft:3", "pitch": 440}, {"sound": "soft", "volume": 3.0, "pitch": 440}),
    ({"sound": "soft", "volume": None}, {"sound": "soft", "volume": 0.5}),
    ({"later": False, "echo": "off", "size": 8}, {"size": 8}), ({"later": True}, {"later": True}),
    ({"size": 8, "threads": 2, "colour": "red"}, {"size": 8, "threads": 2, "colour": "red"}),
    ({"size": 8, "folder": "elsewhere"}, {"size": 8}),
    ({"filters": ["high"], "cutoff": 3.0, "steps": [1, 2]}, {"filters": ["high"], "steps": [1, 2]}),
    ({"sound": "noise", "size": 4}, {"sound": "noise", "size": 4}),  # unreadable: as it is, and compared so
    ({"size": -4}, {"size": -4}), ({"size": "big", "volume": 3.0}, {"size": "big", "volume": 3.0})])
def test_an_earlier_identity_is_read_as_todays(saved, expected):
    assert restated(Small, saved) == expected


def test_an_identity_of_today_is_restated_as_itself():
    for small in (Small(), Small(sound=Soft(pitch=3), limit=4), Small(echo=Loud(), filters=(), later=True)):
        assert restated(Small, identity(small)) == identity(small)


SOFT_LABELS = {"fkd_path": "labels"}
EARLIER = [  # settings; what a config.json of before pieces says more or otherwise, and what it says not
    (RecoverConfig, {}, {}, ["priors"]),
    (RecoverConfig, {"teachers": "single"}, {"subset_law": "bernoulli", "max_bn_teachers": 4}, ["priors"]),
    (RecoverConfig, {"teachers": "dual", "init": "noise"}, {"max_bn_teachers": 2}, ["priors"]),
    (RelabelConfig, {}, {"mix_alpha": None}, []),
    (RelabelConfig, {"mix_type": "mixup"}, {"mix_alpha": None}, []),
    (RelabelConfig, {"mix_type": "none"}, {"mix_alpha": None}, []),
    (RelabelConfig, {"label_format": "topk", "topk": 20}, {"label_format": "topk:20"}, ["topk"]),
    (ValidateConfig, SOFT_LABELS, {"temperature": 20.0, "momentum": 0.9}, []),
    (ValidateConfig, {**SOFT_LABELS, "loss_type": "kl", "temperature": 4.0}, {"ce_weight": 0.1}, []),
    (ValidateConfig, {**SOFT_LABELS, "schedule": "linear"}, {"momentum": 0.9, "zeta": 2.5}, []),
    (ValidateConfig, {"loss_type": "ce", "epochs": 3, "batch_size": 7}, {"temperature": 20.0}, []),
    (TeacherConfig, {"optimizer": "adamw"}, {"momentum": 0.9}, [])]


@pytest.mark.parametrize("cls, values, more, unsaid", EARLIER,
                         ids=lambda value: getattr(value, "__name__", ""))
def test_a_folder_of_before_pieces_is_still_ones_own(cls, values, more, unsaid):
    today = identity(build_config(cls, values))
    earlier = {name: value for name, value in {**today, **more}.items() if name not in unsaid}
    there = restated(cls, earlier)
    assert {name: (there.get(name), today.get(name)) for name in {*there, *today}
            if there.get(name) != today.get(name)} == {}


# ---------------------------------------------------------------- ranges

@pytest.mark.parametrize("law, inside, outside", [
    ("> 0", (1, 1e-9), (0, -1)), (">= 0", (0, 3.5), (-1, -1e-9)), ("> 1", (2,), (1,)), (">= 8", (8,), (7,)),
    ("in (0, 1]", (1e-9, 0.5, 1), (0, -1, 1.0001)), ("in [0, 1)", (0, 0.5), (1, -1e-9)),
    ("in [2, 32767]", (2, 32767), (1, 32768))])
def test_a_range_is_what_it_says_and_holds_finite_numbers(law, inside, outside):
    assert all(in_range(value, law) for value in inside)
    assert not any(in_range(value, law) for value in (*outside, math.nan, math.inf, -math.inf))


@pytest.mark.parametrize("values, named", [
    ({"size": 0}, "--size must be > 0, got 0"), ({"limit": 10}, r"--limit must be in \[2, 9\], got 10"),
    ({"sound": "soft", "volume": math.nan}, "--volume must be >= 0, got nan"),
    ({"volume": math.inf}, "--volume must be >= 0, got inf"),
    ({"steps": (1.0, 3.0)}, r"--steps must be in \(0, 2\], got 3.0"),
    ({"steps": (math.nan,)}, r"--steps must be in \(0, 2\], got nan")])
def test_settings_and_pieces_check_the_ranges_of_their_options(values, named):
    with pytest.raises(ValueError, match=named):
        build(Small, values)


def test_none_is_in_every_range():
    assert Small(limit=None).limit is None and Small(limit=2).limit == 2


def ranged(cls) -> list[tuple[type, str, str]]:
    """(class, option, range) of every declared range of settings and their pieces."""
    classes = [cls, *(piece for slot in slots(cls) for piece in slot.metadata["registry"].values())]
    return [(own, field.name, field.metadata["range"]) for own in classes
            for field in dataclasses.fields(own) if field.metadata.get("range")]


@pytest.mark.parametrize("cls", COMMANDS)
def test_every_number_has_a_range(cls):
    for own in (cls, *(piece for slot in slots(cls) for piece in slot.metadata["registry"].values())):
        kinds = typing.get_type_hints(own)
        for field in dataclasses.fields(own):
            if {kinds[field.name], *typing.get_args(kinds[field.name])} & {int, float}:
                assert field.metadata["range"], f"{own.__name__}.{field.name}"


def test_a_number_without_a_range_is_finite_still_and_fits_into_64_bits():
    for cutoff in (math.nan, math.inf, -math.inf, 10**400):
        with pytest.raises(ValueError, match="--cutoff must be in .-inf, inf., got"):
            build(Small, {"cutoff": cutoff})
    with pytest.raises(ValueError, match="--size must be > 0, got 1000"):
        build(Small, {"size": 10**400})


@pytest.mark.parametrize("cls", SETTINGS)
def test_no_declared_range_lets_nan_or_infinity_pass(cls):
    assert ranged(cls)
    for own, name, law in ranged(cls):
        default = next(field.default for field in dataclasses.fields(own) if field.name == name)
        for value in (math.nan, math.inf, -math.inf):
            with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} must be"):
                own(**{name: (value, value) if isinstance(default, tuple) else value})
        for value in default if isinstance(default, tuple) else (default,):
            assert value is None or in_range(value, law)


# ---------------------------------------------------------------- the stages' registries

@pytest.mark.parametrize("cls", SETTINGS)
def test_an_option_belongs_to_one_slot_or_to_the_settings_themselves(cls):
    own = {field.name for field in dataclasses.fields(cls)}
    options = [{field.name for piece in slot.metadata["registry"].values()
                for field in dataclasses.fields(piece)} for slot in slots(cls)]
    assert all(not names & own for names in options)
    assert sum(map(len, options)) == len(set().union(*options))


@pytest.mark.parametrize("cls", SETTINGS)
def test_every_piece_says_what_it_is_and_has_one_name(cls):
    for slot in slots(cls):
        registry = slot.metadata["registry"]
        assert len(set(registry.values())) == len(registry), slot.name
        names = slot.metadata["chosen"]
        assert {names} <= set(registry) if isinstance(names, str) else set(names) <= set(registry)
        for name, piece in registry.items():
            assert issubclass(piece, Options) and dataclasses.is_dataclass(piece)
            text = piece.__doc__ or ""
            assert text.strip() and not text.startswith(f"{piece.__name__}("), name  # a dataclass's own text
            assert piece() == build_piece(registry, name, {})  # every option has a default


@pytest.mark.parametrize("cls", SETTINGS)
def test_every_piece_makes_flat_values_that_make_it_again(cls):
    needed = SOFT_LABELS if cls is ValidateConfig else {}
    for slot in slots(cls):
        for name in slot.metadata["registry"]:
            hard = {"fkd_path": "", "epochs": 3, "batch_size": 7} if name == "ce" else {}
            chosen = name if isinstance(slot.metadata["chosen"], str) else (name,)
            made = build(cls, {**needed, **hard, slot.name: chosen})
            assert build(cls, flatten(made)) == made and flatten(made)[slot.name] == chosen


# ---------------------------------------------------------------- names that clash

@dataclasses.dataclass(frozen=True, kw_only=True)
class Sized(Options):
    """An option that the config has too."""

    size: int = option(3, "how big")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Floored(Options):
    """An option that a piece of another slot has too."""

    pitch: int = option(3, "how high")


@pytest.mark.parametrize("registry, name, piece, values, named", [
    (SOUNDS, "sized", Sized, {"sound": "sized"}, "--sound sized and Small both have an option size"),
    (FILTERS, "floored", Floored, {"filters": ("floored",)},
     "--filters floored and --sound loud both have an option pitch")])
def test_pieces_may_not_share_an_options_name_with_others(registry, name, piece, values, named, monkeypatch):
    monkeypatch.setitem(registry, name, piece)
    with pytest.raises(ValueError, match=named):
        merge(Small, {}, values)
    assert build(Small, {}) == Small()  # who does not choose it is not touched
