"""Command lines: precedence, pieces' flags, round trip, refusals; every field documented, and read."""
import ast
import dataclasses
import inspect
import json
import textwrap
import typing
from pathlib import Path

import pytest

from models.train_teachers import TeacherConfig
from models.train_teachers import presets as teacher_presets
from recover.data_synthesis import RecoverConfig
from recover.data_synthesis import presets as recover_presets
from recover.priors import PRIORS
from relabel.generate_soft_label import RelabelConfig
from relabel.generate_soft_label import presets as relabel_presets
from utils.data import dataset_preset
from utils.flags import build_config, flags_of, parse_config, to_words
from utils.parser import build_parser, flag_table, shown_default
from utils.pieces import Options, choice, choices, flatten, identity, option, require, slots
from validate.train_FKD import ValidateConfig
from validate.train_FKD import presets as validate_presets

ROOT = Path(__file__).parents[1]
CONFIGS = {RecoverConfig: "recover", RelabelConfig: "relabel", ValidateConfig: "validate",
           TeacherConfig: "models"}
PRESETS = {RecoverConfig: recover_presets, RelabelConfig: relabel_presets, ValidateConfig: validate_presets,
           TeacherConfig: teacher_presets}
SOFT = ["--fkd-path", "labels"]  # what validate needs with labels
HARD = ["--loss-type", "ce", "--epochs", "3", "--batch-size", "7"]  # and without


@dataclasses.dataclass(frozen=True, kw_only=True)
class Silent(Options):
    """Nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loud(Silent):
    """A tone, 100% of it."""

    volume: float = option(2.0, "how loud, < 9 [dB]", source="table 2", flag="-v", range=">= 0",
                           short=True)
    pitch: int = option(440, "how high [Hz]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Soft(Silent):
    """A tone of another volume."""

    volume: float = option(0.5, "how loud [dB]", range=">= 0", short=True)
    warm: bool = option(True, "with overtones")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Low(Options):
    """Lets low tones pass."""

    cutoff: float = option(0.0, "where it ends [Hz]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class High(Options):
    """Lets high tones pass."""

    floor: float = option(0.0, "where it starts [Hz]")


SOUNDS = {"loud": Loud, "soft": Soft, "silent": Silent}
FILTERS = {"low": Low, "high": High}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Small(Options):
    """A config with one field of each kind."""

    size: int = option(224, "side [pixels]")
    rate: float = option(0.1, "rate, 100% of it", source="table 1", flag="-r")
    name: str = option("net", "a name")
    kind: typing.Literal["a", "b"] = option("a", "one of two")
    flip: bool = option(True, "a switch")
    betas: tuple[float, ...] = option((0.5, 0.9), "two numbers")
    pool: tuple[str, ...] = option(("x", "y"), "names", commas=True)
    limit: int | None = option(None, "a bound")
    folder: str = option("out", "a place", identity=False)
    sound: Silent = choice(SOUNDS, "loud", "a sound", source="table 2")
    filters: tuple[Options, ...] = choices(FILTERS, ("low",), "filters, in turn")

    def __post_init__(self):
        super().__post_init__()
        require(self.size > 0, f"--size must be > 0, got {self.size}")


@pytest.fixture
def saved(tmp_path):
    """f(values): a JSON file of them."""
    def write(values) -> str:
        path = tmp_path / "saved.json"
        path.write_text(values if isinstance(values, str) else json.dumps(values))
        return str(path)
    return write


# ---------------------------------------------------------------- precedence

def test_defaults_then_preset_then_file_then_flags(saved):
    def preset(given):
        return {"size": 32, "rate": 0.2, "name": "preset", "unknown": 1}
    file = saved({"rate": 0.3, "name": "file"})
    assert parse_config(Small, []) == Small()
    assert parse_config(Small, [], presets=preset) == Small(size=32, rate=0.2, name="preset")
    assert parse_config(Small, ["--config", file], presets=preset) == Small(size=32, rate=0.3, name="file")
    assert parse_config(Small, ["--name", "flag", "--config", file], presets=preset) \
        == Small(size=32, rate=0.3, name="flag")


def test_a_preset_sees_what_was_given_by_file_and_by_flag(saved):
    seen = {}
    words = ["--config", saved({"size": 8, "rate": 0.3}), "--size", "9"]
    parse_config(Small, words, presets=lambda given: seen.update(given) or {})
    assert seen == {"size": 9, "rate": 0.3}


def test_the_data_set_presets_recover_and_flags_override_it():
    digits = parse_config(RecoverConfig, ["--dataset", "digits", "--jitter", "1"], presets=dataset_preset)
    assert (digits.size, digits.flip, digits.stem, digits.image_format) == (16, False, "small", "png")
    assert digits.jitter == 1
    plain = parse_config(RecoverConfig, [], presets=dataset_preset)
    assert plain == RecoverConfig() and (plain.size, plain.jitter, plain.image_format) == (224, 32, "jpg")


# ---------------------------------------------------------------- pieces: which, and with what

def soft(given):
    """A preset that chooses a piece and sets two of its options."""
    return {"sound": "soft", "volume": 3.0, "warm": False}


@pytest.mark.parametrize("words, file, presets, expected", [
    ([], {}, None, Loud()),
    ([], {}, soft, Soft(volume=3.0, warm=False)),
    ([], {"sound": "silent"}, soft, Silent()),
    ([], {"sound": "loud", "volume": 5.0}, soft, Loud(volume=5.0)),
    ([], {"volume": 5.0}, soft, Soft(volume=5.0, warm=False)),
    ([], {"warm": True}, soft, Soft(volume=3.0)),
    ([], {"sound": "soft", "pitch": 50}, None, Soft()),  # as a config of before pieces
    (["--sound", "silent"], {"sound": "loud", "pitch": 50}, soft, Silent()),
    (["--sound", "loud", "--volume", "1"], {"sound": "soft", "warm": False}, soft, Loud(volume=1.0)),
    (["--warm"], {}, soft, Soft(volume=3.0)), (["--volume", "1"], {}, soft, Soft(volume=1.0, warm=False)),
    (["--volume", "1"], {"sound": "loud", "pitch": 50}, soft, Loud(volume=1.0, pitch=50)),
    (["--pitch", "50"], {"pitch": 60, "sound": "loud"}, None, Loud(pitch=50)),
    (["--sound", "soft"], {"warm": False}, None, Soft(warm=False)),
    (["--sound", "loud"], {"pitch": 60}, soft, Loud(pitch=60)),  # soft's volume is another default's
    (["--sound=loud", "--pitch=50"], {}, None, Loud(pitch=50)), (["-v", "7"], {}, None, Loud(volume=7.0))])
def test_default_preset_file_and_flag_choose_a_piece_and_its_options(words, file, presets, expected, saved):
    words = [*words, *(["--config", saved(file)] if file else [])]
    assert parse_config(Small, words, presets=presets) == Small(sound=expected)


@pytest.mark.parametrize("words, expected", [
    (["--filters"], ()), (["--filters", "high", "--floor", "3"], (High(floor=3.0),)),
    (["--cutoff", "3"], (Low(cutoff=3.0),)),
    (["--filters", "high", "low", "--cutoff", "3", "--floor", "4"], (High(floor=4.0), Low(cutoff=3.0))),
    (["--filters", "--size", "224"], ())])
def test_several_pieces_are_chosen_in_turn(words, expected):
    assert parse_config(Small, words) == Small(filters=expected)


def test_one_piece_is_not_chosen_twice(saved):
    """Its weight would count twice."""
    for words in (["--priors", "tv", "tv"], ["--config", saved({"priors": ["tv", "tv"]})]):
        with pytest.raises(ValueError, match="--priors"):
            parse_config(RecoverConfig, words)


def test_without_words_the_processs_own_are_read(monkeypatch):
    monkeypatch.setattr("sys.argv", ["stage", "--sound", "soft", "--no-warm"])
    assert parse_config(Small, None) == Small(sound=Soft(warm=False))
    assert parse_config(Small, []) == Small()


def test_settings_are_built_without_a_command_line_too():
    assert build_config(Small, {}, presets=soft) == Small(sound=Soft(volume=3.0, warm=False))
    assert build_config(Small, {"sound": "loud", "size": 4}, presets=soft) == Small(sound=Loud(), size=4)
    assert build_config(Small, {"sound": "silent"}, presets=soft) == Small(sound=Silent())
    with pytest.raises(ValueError, match="expected fields of Small, got loudness"):
        build_config(Small, {"loudness": 3})


@pytest.mark.parametrize("text, topk", [("topk:50", 50), ("topk:7", 7), ("topk", 50)])
def test_the_shorthand_of_a_piece_with_its_option(text, topk, saved):
    given = parse_config(RelabelConfig, ["--label-format", text])
    assert given == parse_config(RelabelConfig, ["--label-format", "topk", "--topk", str(topk)])
    assert given == parse_config(RelabelConfig, [f"--label-format={text}"])
    assert given == parse_config(RelabelConfig, ["--config", saved({"label_format": text})])
    assert identity(given)["label_format"] == "topk" and identity(given)["topk"] == topk


def test_a_flag_wins_over_the_shorthand_of_a_file(saved):
    config = parse_config(RelabelConfig, ["--config", saved({"label_format": "topk:7"}), "--topk", "9"])
    assert config.label_format.topk == 9


# ---------------------------------------------------------------- pieces: flags of others

@pytest.mark.parametrize("words, named", [
    (["--warm"], "--warm is of --sound soft, this run has --sound loud; choose that, or leave --warm out"),
    (["--no-warm"], "--no-warm is of --sound soft, this run has --sound loud"),
    (["--sound", "silent", "--volume", "3"], "--volume is of --sound loud or --sound soft, this run has "
     "--sound silent; choose that, or leave --volume out"),
    (["--sound=soft", "--pitch=50"], "--pitch is of --sound loud, this run has --sound soft"),
    (["--pitch", "50", "--sound", "soft"], "--pitch is of --sound loud, this run has --sound soft"),
    (["--sound", "silent", "-v", "3"], "-v is of --sound loud, this run has --sound silent"),
    (["--floor", "3"], "--floor is of --filters high, this run has --filters low"),
    (["--filters", "--cutoff", "3"], "--cutoff is of --filters low, this run has --filters none"),
    (["--sound", "noise"], "--sound: expected one of loud, soft, silent, got 'noise'"),
    (["--sound", "noise:3"], "--sound: expected one of loud, soft, silent, got 'noise:3'"),
    (["--filters", "low", "band"], "--filters: expected one of low, high, got 'band'"),
    (["--pit", "50"], "unrecognized arguments: --pit 50"), (["--no-wa"], "unrecognized arguments: --no-wa"),
    (["--volume", "-1"], "--volume must be >= 0, got -1"),
    (["--volume", "nan"], "--volume must be >= 0, got nan"),
    (["--volume", "big"], "--volume.*big"), (["--volume"], "--volume.*expected one argument"),
    (["--sound", "silent:3"], "--sound silent:3: silent has no option to set"),
    (["--sound", "loud:big"], "--sound loud:big: expected loud:VOLUME, for example loud:2.0")])
def test_a_flag_that_no_chosen_piece_has_is_refused_and_whose_it_is_is_said(words, named):
    with pytest.raises(ValueError, match=named) as refused:
        parse_config(Small, words)
    assert "\n" not in str(refused.value)


def test_a_file_and_a_preset_choose_whose_flags_there_are(saved):
    assert parse_config(Small, ["--no-warm"], presets=soft).sound == Soft(volume=3.0, warm=False)
    with pytest.raises(ValueError, match="--pitch is of --sound loud, this run has --sound soft"):
        parse_config(Small, ["--pitch", "50"], presets=soft)
    with pytest.raises(ValueError, match="--volume is of .*this run has --sound silent"):
        parse_config(Small, ["--volume", "3", "--config", saved({"sound": "silent"})], presets=soft)


@pytest.mark.parametrize("cls, words, named", [
    (RecoverConfig, ["--teachers", "single", "--max-bn-teachers", "2"],
     "--max-bn-teachers is of --teachers multi, this run has --teachers single; choose that, or leave "
     "--max-bn-teachers out"),
    (RecoverConfig, ["--teachers", "dual", "--subset-law", "uniform"], "--subset-law is of --teachers multi"),
    (RecoverConfig, ["--priors", "l2", "--tv-l2", "0.1"],
     "--tv-l2 is of --priors tv, this run has --priors l2"),
    (RelabelConfig, ["--topk", "20"], "--topk is of --label-format topk, this run has --label-format fp16"),
    (RelabelConfig, ["--mix-type", "none", "--mix-alpha", "0.3"],
     "--mix-alpha is of --mix-type cutmix or --mix-type mixup, this run has --mix-type none"),
    (ValidateConfig, [*SOFT, "--momentum", "0.3"], "--momentum is of --optimizer sgd"),
    (ValidateConfig, [*SOFT, "--loss-type", "kl", "--ce-weight", "0.3"],
     "--ce-weight is of --loss-type mse_gt or --loss-type mae_gt or --loss-type kl_gt"),
    (ValidateConfig, [*HARD, "--temperature", "3"],
     "--temperature is of --loss-type kl or --loss-type kl_gt, this run has --loss-type ce"),
    (ValidateConfig, [*SOFT, "-T", "3"], "-T is of --loss-type kl"),
    (ValidateConfig, [*SOFT, "--schedule", "cosine", "--zeta", "2"], "--zeta is of --schedule ssrs"),
    (ValidateConfig, ["--protocol", "recovery-only", "--zeta", "2"], "--zeta is of .* has --schedule linear"),
    (TeacherConfig, ["--optimizer", "adamw", "--momentum", "0.3"], "--momentum is of --optimizer sgd")])
def test_the_stages_refuse_the_options_of_pieces_that_are_not_chosen(cls, words, named):
    with pytest.raises(ValueError, match=named):
        parse_config(cls, words, presets=PRESETS[cls])


# ---------------------------------------------------------------- pieces: a later choice

@pytest.mark.parametrize("words, expected", [
    (["--sound", "loud", "--pitch", "50", "--sound", "soft"], Soft()),
    (["--sound=loud", "--pitch=50", "--sound=soft", "--no-warm"], Soft(warm=False)),
    (["--sound", "soft", "--no-warm", "--sound", "loud", "--pitch", "50"], Loud(pitch=50)),
    (["--sound", "loud:3", "--pitch", "50", "-v", "4", "--sound", "silent"], Silent()),
    (["--sound", "loud", "--pitch", "50", "--sound", "soft", "--no-warm", "--sound", "silent"], Silent()),
    (["--sound", "loud", "--pitch", "50", "--sound", "loud"], Loud(pitch=50))])
def test_a_later_choice_forgets_the_flags_of_an_earlier_piece(words, expected):
    assert parse_config(Small, words) == Small(sound=expected)


@pytest.mark.parametrize("words, named", [
    (["--sound", "loud", "--pich", "50", "--sound", "soft"], "--pich"),
    (["--sound", "loud", "--no-warm", "--sound", "silent"], "--no-warm is of --sound soft"),
    (["--sound", "loud", "--pitch", "50", "--sound", "soft", "stray"], "unrecognized arguments: stray"),
    (["--sound", "loud", "--pitch", "50", "--sound", "soft", "--floor", "50"],
     "--floor is of --filters high")])
def test_a_later_choice_forgets_nothing_else(words, named):
    with pytest.raises(ValueError, match=named):
        parse_config(Small, words)


SCRIPT = [*SOFT, "--loss-type", "mse_gt", "--ce-weight", "0.1", "--adamw-lr", "0.001", "--schedule", "ssrs",
          "--zeta", "2.5"]  # as validate's shell scripts have them, before their caller's flags


@pytest.mark.parametrize("words, expected", [
    ([], {"ce_weight": 0.1, "zeta": 2.5}),
    (["--loss-type", "kl", "-T", "4"], {"loss_type": "kl", "temperature": 4.0, "zeta": 2.5}),
    (["--loss-type", "kl", "--schedule", "cosine"], {"temperature": 20.0, "schedule": "cosine"}),
    (["--loss-type", "mae_gt"], {"loss_type": "mae_gt", "ce_weight": 0.1}),
    (["--schedule", "linear", "--optimizer", "sgd", "--momentum", "0.8"],
     {"momentum": 0.8, "ce_weight": 0.1})])
def test_a_callers_choice_wins_over_a_scripts(words, expected):
    values = flatten(parse_config(ValidateConfig, [*SCRIPT, *words]))
    assert {name: values[name] for name in expected} == expected
    assert ("zeta" in values) == (values["schedule"] == "ssrs")


def test_earlier_pieces_are_forgotten_whatever_their_values_are():
    """Values of two forgotten flags may be spelt alike."""
    words = [*SOFT, "--loss-type", "mse_gt", "--ce-weight", "2.5", "--schedule", "ssrs", "--zeta", "2.5",
             "--loss-type", "kl", "--schedule", "cosine"]
    config = parse_config(ValidateConfig, words)
    assert config == parse_config(ValidateConfig, [*SOFT, "--loss-type", "kl", "--schedule", "cosine"])


# ---------------------------------------------------------------- round trip

@pytest.mark.parametrize("cls, words, again", [
    (RecoverConfig, ["--dataset", "digits", "--betas", "0.1", "0.25", "--pool", "narrow_resnet,narrow_plain",
                     "--arch-name", "narrow_resnet", "--no-flip", "--init", "noise", "--seed", "-3",
                     "--lr", "1e-05"], []),
    (RecoverConfig, ["--teachers", "single", "--selection", "intra", "--priors", "l2", "--l2-scale", "0.1"],
     []),
    (RecoverConfig, ["--priors", "--engine", "reference"], []),
    (RelabelConfig, ["--ipc", "50", "--mix-alpha", "0.3", "--no-flip", "--ensemble", "primary-half"], []),
    (RelabelConfig, ["--label-format", "topk:20", "--mix-type", "mixup", "--augment", "randaugment"], []),
    (RelabelConfig, ["--mix-type", "none"], []),
    (RelabelConfig, [], []),
    (ValidateConfig, [*HARD, "--lr", "0.3", "--optimizer", "sgd", "--model", "narrow_plain"], []),
    (ValidateConfig, [*SOFT, "--loss-type", "kl_gt", "-T", "4", "--schedule", "linear"], SOFT),
    (TeacherConfig, ["--dataset", "cifar100", "--optimizer", "adamw", "--mean", "0.1", "0.2", "0.3"], []),
    (Small, ["--limit", "4", "--pool", "z"], []),
    (Small, ["--sound", "soft", "--no-warm", "--filters", "high", "low"], []),
], ids=lambda value: getattr(value, "__name__", ""))
def test_a_saved_identity_reads_back_as_the_same_config(cls, words, again, saved):
    config = parse_config(cls, words)
    wrapped = saved({"format": "any", "config": identity(config)})
    assert parse_config(cls, ["--config", wrapped, *again]) == config
    assert parse_config(cls, ["--config", saved(identity(config)), *again]) == config


@pytest.mark.parametrize("cls, words, more", [
    (RelabelConfig, [], {"mix_alpha": None}), (RelabelConfig, ["--mix-type", "mixup"], {"mix_alpha": None}),
    (RelabelConfig, ["--mix-type", "none"], {"mix_alpha": None}),
    (RelabelConfig, ["--label-format", "topk:20"], {"label_format": "topk:20"}),
    (ValidateConfig, HARD, {"temperature": 20.0, "ce_weight": 0.1, "momentum": 0.9, "zeta": 2.5}),
    (RecoverConfig, ["--teachers", "single"], {"max_bn_teachers": 2, "subset_law": "uniform"})])
def test_a_config_of_before_pieces_reads_as_the_same_settings(cls, words, more, saved):
    config = parse_config(cls, words)
    assert parse_config(cls, ["--config", saved({**identity(config), **more})]) == config


@pytest.mark.parametrize("cls, words", [
    (RecoverConfig, ["--ipc-end", "3", "--device", "cpu", "--shard", "0/2", "--weights", "alexnet=y"]),
    (RelabelConfig, ["--data", "x", "--device", "cpu", "--shard", "0/2", "--weights-dir", "x"]),
    (ValidateConfig, [*HARD, "--train-dir", "x", "--val-dir", "x", "--workers", "1", "--seeds", "1", "2"]),
    (TeacherConfig, ["--output-dir", "x", "--device", "cpu", "--save-every", "3", "--models", "alexnet"])])
def test_ranges_places_and_devices_change_no_identity(cls, words):
    plain = parse_config(cls, HARD if cls is ValidateConfig else [])
    assert parse_config(cls, words) != plain and identity(parse_config(cls, words)) == identity(plain)


def test_values_become_words():
    assert to_words({"ipc_end": 3, "flip": False, "dry_run": True, "pool": ("a", "b"), "priors": (),
                     "betas": [0.5, 0.9], "init": "noise"}) == [
        "--ipc-end", "3", "--no-flip", "--dry-run", "--pool", "a", "b", "--priors", "--betas", "0.5", "0.9",
        "--init", "noise"]


@pytest.mark.parametrize("cls, words, expected", [
    (RecoverConfig, [], []), (RelabelConfig, [], []), (TeacherConfig, [], []),
    (ValidateConfig, SOFT, SOFT),
    (RecoverConfig, ["--dataset", "digits", "--no-flip", "--init", "real"], ["--dataset", "digits"]),
    (RecoverConfig, ["--teachers", "single", "--selection", "intra", "--priors", "l2"],
     ["--teachers", "single", "--selection", "intra", "--priors", "l2"]),
    (RecoverConfig, ["--protocol", "sre2l", "--lr", "0.25"], ["--protocol", "sre2l"]),
    (RecoverConfig, ["--protocol", "sre2l", "--teachers", "multi", "--max-bn-teachers", "2"],
     ["--protocol", "sre2l", "--teachers", "multi", "--max-bn-teachers", "2"]),
    (RecoverConfig, ["--r-bn", "0.5", "--priors", "--no-flip", "--betas", "0.1", "0.2"], None),
    (RelabelConfig, ["--label-format", "topk:50"], ["--label-format", "topk"]),
    (RelabelConfig, ["--label-format", "topk:20", "--mix-type", "mixup", "--mix-alpha", "1.0"], None),
    (RelabelConfig, ["--mix-type", "mixup", "--mix-alpha", "0.8"], ["--mix-type", "mixup"]),
    (RelabelConfig, ["--protocol", "delt", "--augment", "none"], ["--augment", "none", "--protocol", "delt"]),
    (ValidateConfig, [*SOFT, "--protocol", "sre2l", "--loss-type", "mse_gt", "--ce-weight", "0.3"], None),
    (ValidateConfig, [*SOFT, "--protocol", "sre2l", "-T", "4", "--schedule", "ssrs", "--zeta", "3"], None),
    (ValidateConfig, ["--protocol", "recovery-only", "--momentum", "0.5"], None),
    (ValidateConfig, ["--protocol", "recovery-only", "--optimizer", "adamw"], None),
    (TeacherConfig, ["--optimizer", "adamw", "--lr", "0.01", "--models", "alexnet", "resnet18"], None)])
def test_a_config_becomes_words_that_make_it_again(cls, words, expected):
    config = parse_config(cls, words, presets=PRESETS[cls])
    made = flags_of(config, presets=PRESETS[cls])
    assert parse_config(cls, made, presets=PRESETS[cls]) == config
    assert expected is None or sorted(made) == sorted(expected)


# ---------------------------------------------------------------- spellings

@pytest.mark.parametrize("words, expected", [
    (["--no-flip"], {"flip": False}), (["--no-flip", "--flip"], {"flip": True}),
    (["--betas", "0.1", "0.2"], {"betas": (0.1, 0.2)}), (["--pool", "a", "b"], {"pool": ("a", "b")}),
    (["--pool", "a,b,c"], {"pool": ("a", "b", "c")}), (["--pool", "a,b", "c"], {"pool": ("a", "b", "c")}),
    (["-r", "3"], {"rate": 3.0}), (["--rate=-2"], {"rate": -2.0}), (["--limit", "3"], {"limit": 3}),
    (["--kind", "b"], {"kind": "b"}), (["--size", "1", "--size", "2"], {"size": 2})])
def test_flags(words, expected):
    assert parse_config(Small, words) == Small(**expected)


# ---------------------------------------------------------------- refusals

@pytest.mark.parametrize("words, named", [
    (["--sizes", "3"], "--sizes"), (["--siz", "3"], "--siz"), (["--no-fl"], "--no-fl"), (["stray"], "stray"),
    (["--size", "big"], "--size.*big"), (["--size", "1.5"], "--size.*1.5"), (["--size"], "--size"),
    (["--size", "0"], "--size must be > 0, got 0"), (["--kind", "c"], "--kind.*c.*a.*b"),
    (["--flip", "yes"], "yes"), (["--config", "nowhere.json"], "--config nowhere.json: no such file"),
    (["--cos"], "--cos .*--schedule"), (["--store-best-images"], "--store-best-images .*stored"),
    (["--wandb-project", "p"], "--wandb-project .*log.jsonl"),
    (["--wandb-entity=p"], "--wandb-entity .*log.jsonl"),
    (["--use-fp16"], "--use-fp16 .*fp16"), (["--mode", "fkd_save"], "--mode .*relabel")])
def test_a_bad_command_line_stops_with_one_error_that_names_the_flag(words, named):
    with pytest.raises(ValueError, match=named):
        parse_config(Small, words)


@pytest.mark.parametrize("cls", CONFIGS)
@pytest.mark.parametrize("flag", ["--cos", "--store-best-images", "--wandb-project", "--batch"])
def test_every_stage_refuses_retired_and_abbreviated_flags(cls, flag):
    with pytest.raises(ValueError, match=flag):
        parse_config(cls, [flag])


@pytest.mark.parametrize("values, named", [
    ("{broken", "not JSON"), ("[1, 2]", "Small.*list"), ({"sizes": 3}, "Small.*sizes"),
    ({"size": "big"}, "--size.*big"), ({"size": 1.5}, "--size.*1.5"), ({"size": [1, 2]}, "2"),
    ({"kind": "c"}, "--kind.*c"), ({"flip": "yes"}, "yes"), ({"config": {"nope": 1}}, "nope"),
    ({"size": -1}, "--size must be > 0"),
    ({"size": True}, "size"), ({"rate": None}, "rate"), ({"size": ""}, "size"), ({"flip": None}, "flip"),
    ({"sound": "noise"}, "--sound noise: expected one of loud, soft, silent"),
    ({"sound": "soft:big"}, "--sound soft:big: expected soft:VOLUME"),
    ({"sound": 3}, "sound"), ({"sound": None}, "sound"), ({"sound": True}, "sound"),
    ({"sound": ["loud", "soft"]}, "soft"), ({"sound": {"loud": 1, "soft": 2}}, "sound|soft"),
    ({"filters": ["low", "band"]}, "--filters band: expected one of low, high"),
    ({"filters": 3}, "filters"), ({"filters": None}, "filters"), ({"filters": [3]}, "filters"),
    ({"volume": "big"}, "--volume.*big"), ({"volume": [1, 2]}, "2"), ({"volume": True}, "volume"),
    ({"volume": -1}, "--volume must be >= 0"), ({"pitch": 1.5}, "--pitch.*1.5"),
    ({"sound": "soft", "warm": "yes"}, "yes")])
def test_a_saved_value_that_its_flag_would_not_take_is_refused(values, named, saved):
    with pytest.raises(ValueError, match=named):
        parse_config(Small, ["--config", saved(values)])


# ---------------------------------------------------------------- documentation

def every_choice(cls) -> list[dict[str, object]]:
    """Flat values that together choose every piece of a config's slots."""
    return [{slot.name: name if isinstance(slot.metadata["chosen"], str) else (name,)}
            for slot in slots(cls) for name in slot.metadata["registry"]]


@pytest.mark.parametrize("cls", CONFIGS)
def test_every_field_has_help_and_source_and_shows_both(cls, monkeypatch):
    monkeypatch.setenv("COLUMNS", "2000")  # no line breaks at hyphens
    text, table = " ".join(build_parser(cls, {}).format_help().split()), flag_table(cls)
    for field in dataclasses.fields(cls):
        flag = "--" + field.name.replace("_", "-")
        assert field.metadata["help"].strip() and field.metadata["source"].strip(), field.name
        assert flag in text and f"`{flag}`" in table
        assert field.metadata["help"] in text and f"{field.metadata['source']})" in text, field.name


@pytest.mark.parametrize("cls", CONFIGS)
def test_help_has_the_flags_of_the_chosen_pieces_and_the_table_those_of_all(cls, monkeypatch):
    monkeypatch.setenv("COLUMNS", "2000")
    table = flag_table(cls).splitlines()
    for values in every_choice(cls):
        (name, chosen), = values.items()
        slot, = (field for field in slots(cls) if field.name == name)
        chosen = chosen if isinstance(chosen, str) else chosen[0]
        text = " ".join(build_parser(cls, values).format_help().split())
        piece, registry = slot.metadata["registry"][chosen], slot.metadata["registry"]
        for field in dataclasses.fields(piece):
            flag = "--" + field.name.replace("_", "-")
            assert field.metadata["help"].strip() and field.metadata["source"].strip(), field.name
            assert flag in text, field.name
            assert f"{field.metadata['help']} (default: {shown_default(field)};" in text, field.name
            row, = (line for line in table if line.startswith(f"| `{flag}`")
                    and field.metadata["help"] in line
                    and (f"`{chosen}`" in line.split(":")[0] or "| with `" not in line))
            everywhere = all(field.name in {own.name for own in dataclasses.fields(other)}
                             for other in registry.values())
            assert everywhere or f"`{chosen}`" in row.split(":")[0]
            cell = f"`{shown_default(field)}`" if field.default not in ((), "", None) else "none"
            assert row.startswith((f"| `{flag}` | {cell} |", f"| `{flag}`, `"))
            assert table.index(row) > next(i for i, line in enumerate(table) if line.startswith(
                f"| `--{name.replace('_', '-')}`"))
        own = {field.name for field in dataclasses.fields(piece)}
        others = {field.name for other in registry.values() for field in dataclasses.fields(other)} - own
        assert not any(f"--{other.replace('_', '-')} " in text for other in others)


def test_help_shows_default_source_and_percent_signs():
    text = " ".join(build_parser(Small, {}).format_help().split())
    assert "rate, 100% of it (default: 0.1; table 1)" in text and "(default: 0.5 0.9; ours)" in text
    assert "--sound {loud,soft,silent}" in text and "a sound (default: loud; table 2)" in text
    assert "with --sound loud: A tone, 100% of it." in text and "with --filters low:" in text
    assert "(default: low; ours)" in text and "--warm" not in text


@pytest.mark.parametrize("words, there, absent", [
    ([], "--pitch", "--warm"), (["--sound", "soft"], "--warm", "--pitch"),
    (["--filters"], "--pitch", "--cutoff"),
    (["--sound", "loud", "--sound=silent"], "--filters", "--volume")])
def test_help_on_a_command_line_is_of_what_the_line_chooses(words, there, absent, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_config(Small, [*words, "--help"], description="What it does.")
    text = capsys.readouterr().out
    assert ended.value.code == 0 and there in text and absent not in text and "What it does." in text


def test_help_is_of_what_preset_and_file_choose_too(saved, capsys):
    for words in (["--help"], ["--help", "--config", saved({"sound": "soft"})]):
        with pytest.raises(SystemExit):
            parse_config(Small, words, presets=None if "--config" in words else soft)
        text = capsys.readouterr().out
        assert "--warm" in text and "--pitch" not in text


def test_the_table_has_each_pieces_options_below_what_chooses_it():
    rows = flag_table(Small).splitlines()
    first = rows.index("| `--sound` | `loud` | a sound (loud, soft, silent) | table 2 |")
    assert rows[first + 1:] == [
        "| `--volume`, `-v` | `2.0` | with `loud`: how loud, &lt; 9 [dB] | table 2 |",
        "| `--pitch` | `440` | with `loud`: how high [Hz] | ours |",
        "| `--volume` | `0.5` | with `soft`: how loud [dB] | ours |",
        "| `--warm` | `True` | with `soft`: with overtones | ours |",
        "| `--filters` | `low` | filters, in turn (low, high) | ours |",
        "| `--cutoff` | `0.0` | with `low`: where it ends [Hz] | ours |",
        "| `--floor` | `0.0` | with `high`: where it starts [Hz] | ours |"]
    assert "| `--limit` | none | a bound | ours |" in rows
    assert "| `--kind` | `a` | one of two (a, b) | ours |" in rows


def test_an_option_that_pieces_share_has_one_row():
    rows = [line for line in flag_table(ValidateConfig).splitlines() if line.startswith("| `--ce-weight`")]
    assert rows == ["| `--ce-weight` | `0.1` | with `mse_gt`, `mae_gt`, `kl_gt`: weight of the ground-truth "
                    "term | paper table 3a |"]
    alphas = [line for line in flag_table(RelabelConfig).splitlines() if line.startswith("| `--mix-alpha`")]
    assert [line.split(":")[0] for line in alphas] == ["| `--mix-alpha` | `1.0` | with `cutmix`",
                                                       "| `--mix-alpha` | `0.8` | with `mixup`"]


def test_an_option_of_every_piece_says_no_piece_and_choices_are_listed():
    rows = flag_table(RecoverConfig).splitlines()
    assert "| `--r-bn` | `0.01` | lambda, weight of the alignment | supplement table 1b |" in rows
    subset, = (row for row in rows if row.startswith("| `--subset-law`"))
    assert "| with `multi`: " in subset and "(bernoulli, uniform) |" in subset


def attributes(tree: ast.AST, *owners: str) -> set[str]:
    """x of every `owner.x` in a syntax tree."""
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name) and node.value.id in owners}


def read_by_itself(cls) -> set[str]:
    """Attributes of `self` that a class and those above it read; __post_init__ only checks."""
    bodies = (ast.parse(textwrap.dedent(inspect.getsource(own))).body[0].body for own in cls.__mro__
              if own not in (Options, object))
    return set().union(*(attributes(part, "self") for body in bodies for part in body
                         if getattr(part, "name", "") != "__post_init__"))


def stage_trees(cls) -> list[ast.AST]:
    """The syntax trees of a stage's files, and of what settles its process and opens its teachers."""
    files = [*(ROOT / CONFIGS[cls]).glob("*.py"), ROOT / "utils/session.py", ROOT / "models/preflight.py"]
    return [ast.parse(path.read_text(encoding="utf-8")) for path in files]


def read_by_name(tree: ast.AST) -> set[str]:
    """Words of the functions that take fields of a config by `getattr`."""
    def takes(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr" \
            and isinstance(node.args[0], ast.Name) and node.args[0].id in ("config", "flags")
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
                 and any(map(takes, ast.walk(node)))]
    return {node.value for function in functions for node in ast.walk(function)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@pytest.mark.parametrize("cls", CONFIGS)
def test_every_field_is_read_by_its_stage(cls):
    read = read_by_itself(cls).union(*(attributes(tree, "config", "flags") | read_by_name(tree)
                                       for tree in stage_trees(cls)))
    assert {field.name for field in dataclasses.fields(cls)} - read == set()


@pytest.mark.parametrize("cls", CONFIGS)
def test_every_option_of_a_piece_is_read_by_it_or_by_its_stage(cls):
    for slot in slots(cls):
        outside = {node.attr for tree in stage_trees(cls) for node in ast.walk(tree)
                   if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute)
                   and node.value.attr == slot.name}
        for name, piece in slot.metadata["registry"].items():
            options = {field.name for field in dataclasses.fields(piece)}
            if piece in PRIORS.values():  # its first option, whatever its name
                weight = dataclasses.fields(piece)[0].name
                assert piece(**{weight: 3.5}).weight == 3.5
                options.remove(weight)
            assert options - read_by_itself(piece) - outside == set(), name
