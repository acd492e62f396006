"""Command lines: precedence, round trip, refusals; every field documented, and read by the code."""
import ast
import dataclasses
import json
import typing
from pathlib import Path

import pytest

from models.train_teachers import TeacherConfig
from recover.data_synthesis import RecoverConfig
from relabel.generate_soft_label import RelabelConfig
from utils.config import build_parser, flag_table, identity, option, parse_config, require
from utils.data import dataset_preset
from validate.train_FKD import ValidateConfig

ROOT = Path(__file__).parents[1]
CONFIGS = {RecoverConfig: "recover", RelabelConfig: "relabel", ValidateConfig: "validate",
           TeacherConfig: "models"}
HARD = ["--loss-type", "ce", "--epochs", "3", "--batch-size", "7"]  # what validate needs without labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Small:
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

    def __post_init__(self):
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


# ---------------------------------------------------------------- round trip

@pytest.mark.parametrize("cls, words", [
    (RecoverConfig, ["--dataset", "digits", "--betas", "0.1", "0.25", "--pool", "narrow_resnet,narrow_plain",
                     "--arch-name", "narrow_resnet", "--no-flip", "--init", "noise", "--seed", "-3",
                     "--lr", "1e-05"]),
    (RelabelConfig, ["--ipc", "50", "--mix-alpha", "0.3", "--no-flip", "--ensemble", "primary-half"]),
    (RelabelConfig, []),
    (ValidateConfig, [*HARD, "-T", "4", "--lr", "0.3", "--optimizer", "sgd", "--model", "narrow_plain"]),
    (TeacherConfig, ["--dataset", "cifar100", "--optimizer", "adamw", "--mean", "0.1", "0.2", "0.3"]),
    (Small, ["--limit", "4", "--pool", "z"]),
], ids=lambda value: getattr(value, "__name__", ""))
def test_a_saved_identity_reads_back_as_the_same_config(cls, words, saved):
    config = parse_config(cls, words)
    assert parse_config(cls, ["--config", saved({"format": "any", "config": identity(config)})]) == config
    assert parse_config(cls, ["--config", saved(identity(config))]) == config


def test_identity_leaves_out_places_and_survives_json():
    changed = identity(Small(folder="elsewhere", betas=(0.1, 0.2)))
    assert changed == json.loads(json.dumps(changed)) == {**identity(Small()), "betas": [0.1, 0.2]}
    assert "folder" not in changed


@pytest.mark.parametrize("cls, words", [
    (RecoverConfig, ["--ipc-end", "3", "--device", "cpu", "--shard", "0/2", "--weights", "alexnet=y"]),
    (RelabelConfig, ["--data", "x", "--device", "cpu", "--shard", "0/2", "--weights-dir", "x"]),
    (ValidateConfig, [*HARD, "--train-dir", "x", "--val-dir", "x", "--workers", "1", "--seeds", "1", "2"]),
    (TeacherConfig, ["--output-dir", "x", "--device", "cpu", "--save-every", "3", "--models", "alexnet"])])
def test_ranges_places_and_devices_change_no_identity(cls, words):
    plain = parse_config(cls, HARD if cls is ValidateConfig else [])
    assert parse_config(cls, words) != plain and identity(parse_config(cls, words)) == identity(plain)


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
    ({"size": True}, "size"), ({"rate": None}, "rate"), ({"size": ""}, "size"), ({"flip": None}, "flip")])
def test_a_saved_value_that_its_flag_would_not_take_is_refused(values, named, saved):
    with pytest.raises(ValueError, match=named):
        parse_config(Small, ["--config", saved(values)])


# ---------------------------------------------------------------- documentation

@pytest.mark.parametrize("cls", CONFIGS)
def test_every_field_has_help_and_source_and_shows_both(cls, monkeypatch):
    monkeypatch.setenv("COLUMNS", "2000")  # no line breaks at hyphens
    text, table = " ".join(build_parser(cls).format_help().split()), flag_table(cls)
    for field in dataclasses.fields(cls):
        flag = "--" + field.name.replace("_", "-")
        assert field.metadata["help"].strip() and field.metadata["source"].strip(), field.name
        assert flag in text and f"`{flag}`" in table
        assert field.metadata["help"] in text and f"{field.metadata['source']})" in text, field.name


def test_help_shows_default_source_and_percent_signs():
    text = " ".join(build_parser(Small).format_help().split())
    assert "rate, 100% of it (default: 0.1; table 1)" in text and "(default: 0.5 0.9; ours)" in text


def fields_read(path: Path, cls) -> set[str]:
    """Attributes of `config` that a file reads, and of `self` in the class; __post_init__ only checks."""
    def attributes(tree, owner):
        return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name) and node.value.id == owner}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = [part for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__
           for part in node.body if getattr(part, "name", "") != "__post_init__"]
    return attributes(tree, "config").union(*(attributes(part, "self") for part in own))


@pytest.mark.parametrize("cls", CONFIGS)
def test_every_field_is_read_by_its_stage(cls):
    read = set().union(*(fields_read(path, cls) for path in (ROOT / CONFIGS[cls]).glob("*.py")))
    read.add("protocol")  # by the presets, from the command line
    assert {field.name for field in dataclasses.fields(cls)} - read == set()
