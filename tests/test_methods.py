"""Methods: what each sets, how results say it, and DELT's evaluation end to end."""
import dataclasses
import json
import re

import pytest
import torch
from helpers import POOL

from models.registry import build_skeleton
from recover import data_synthesis
from recover.data_synthesis import RecoverConfig
from relabel import generate_soft_label
from relabel.generate_soft_label import RelabelConfig
from scripts.methods.settings import main as show_method
from utils.data import DATASETS, dataset_preset, implied_fields
from utils.flags import build_config, flags_of, parse_config
from utils.formats import open_labels
from utils.loading import planned_images
from utils.methods import (
    METHODS,
    Case,
    MethodFlags,
    method_named,
    method_preset,
    protocol_record,
    protocol_settings,
)
from utils.methods import STAGES as STAGE_NAMES
from utils.methods.delt import batch_size as delt_batch_size
from utils.methods.method import published_batch
from utils.methods.published import FIGURES
from utils.pieces import defaults, flatten, merge
from utils.randaugment import RANDAUGMENT_DTYPES, RandAugment, apply_randaugment
from utils.records import read_json
from utils.views import NoMix, Views
from validate import train_FKD
from validate.results import readings
from validate.soft_labels import OnlineLabels
from validate.train_FKD import ValidateConfig

pytest_plugins = ["stage_fixtures"]
STAGES = {"recover": (RecoverConfig, data_synthesis.presets),
          "relabel": (RelabelConfig, generate_soft_label.presets),
          "validate": (ValidateConfig, train_FKD.presets)}
SOFT = {"fkd_path": "x"}
HAVE = [(name, stage) for name, method in METHODS.items() for stage in STAGE_NAMES
        if getattr(method, stage) is not None]


def of(stage: str, protocol: str, **values):
    config, presets = STAGES[stage]
    soft = SOFT if stage == "validate" and protocol != "recovery-only" else {}
    return build_config(config, {"protocol": protocol, **soft, **values}, presets=presets)


def jsonable(values):
    """Flat values as JSON says them: what a preset, a file and a config agree on."""
    return json.loads(json.dumps(dict(values)))


# ---------------------------------------------------------------- the table of methods

def test_every_method_goes_by_its_name_and_says_where_it_comes_from():
    assert list(METHODS) == [
        "prism", "sre2l", "cda", "g-vbsm", "edc", "delt", "rded", "dwa", "d4m", "cv-dd", "sre2l++", "fadrm",
        "fadrm+", "prism-fast", "random", "herding", "k-centre", "centre-margin", "rd3", "recovery-only"]
    assert tuple(STAGES) == STAGE_NAMES
    for name, method in METHODS.items():
        assert method.name == name == method_named(name).name
        assert method.source.strip() and method.code.strip()
        assert all(getattr(method, stage) is not None for stage in STAGE_NAMES) or method.absent.strip()
    with pytest.raises(ValueError, match="--protocol prsm: expected one of prism, sre2l, cda, g-vbsm, edc"):
        method_named("prsm")


def test_every_preset_names_fields_of_its_stage_and_of_the_pieces_that_it_chooses():
    for name, stage in HAVE:
        settings = METHODS[name].settings(stage)
        assert set(settings) <= defaults(STAGES[stage][0], settings).keys(), (name, stage)


@pytest.mark.parametrize("protocol, stage", HAVE)
def test_a_methods_settings_build_a_config_that_has_them(protocol, stage):
    cls = STAGES[stage][0]
    config = of(stage, protocol)
    values, settings = jsonable(flatten(config)), jsonable(METHODS[protocol].settings(stage))
    assert {name: values[name] for name in settings} == settings
    assert config == build_config(cls, {**METHODS[protocol].settings(stage), "protocol": protocol,
                                        **(SOFT if stage == "validate" and config.loss_type.soft else {})})
    reading = {"reading": METHODS[protocol].reading} if METHODS[protocol].reading else {}
    assert protocol_record(stage, config) == {"name": protocol, "changed": [], **reading}


@pytest.mark.parametrize("protocol", METHODS)
def test_the_settings_of_a_student_build_a_config_that_has_them(protocol):
    for student, stages in METHODS[protocol].students.items():
        assert set(stages) <= set(STAGE_NAMES)
        for stage, settings in stages.items():
            values = jsonable(flatten(of(stage, protocol, **settings)))
            assert {name: values[name] for name in settings} == jsonable(settings), student


def test_a_bigger_student_has_its_own_primary_and_rule():
    own = METHODS["prism"].students
    assert set(own) == {"resnet50", "resnet101"}
    for student, stages in own.items():
        relabel = of("relabel", "prism", **stages["relabel"])
        assert relabel.teacher_names == (student, "mobilenet_v2", "alexnet", "shufflenet_v2_x0_5")
        assert flatten(relabel)["ensemble"] == "primary-half"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_can_be_printed_with_what_was_published_of_it(name, capsys):
    absent = [stage for stage in STAGE_NAMES if getattr(METHODS[name], stage) is None]
    if absent:
        with pytest.raises(ValueError, match=re.escape(f"--protocol {name}: {METHODS[name].absent}")):
            show_method([name])
    else:
        show_method([name])
    out = capsys.readouterr().out
    assert out.startswith(f"{name}: {METHODS[name].source}; {METHODS[name].code}\n")
    assert out.count("  published  ") == sum(own.method == name for own in FIGURES)
    assert ("  read so    " in out) == bool(METHODS[name].reading)


def test_what_a_protocols_source_does_not_say_is_said_with_every_result():
    plain, rd3 = {"name": "prism", "changed": []}, {"name": "rd3", "changed": []}
    assert readings([{"protocol": plain, "labels_protocol": None, "images_protocol": plain}]) == []
    said, = readings([{"protocol": rd3, "labels_protocol": rd3}, {"protocol": rd3, "labels_protocol": plain}])
    assert said.startswith("protocol rd3, our reading: ") and "T squared" in said
    assert readings([{"protocol": {"name": "gone", "changed": []}}]) == []


# ---------------------------------------------------------------- each method

def test_prism_is_the_defaults():
    for stage in STAGES:
        config = of(stage, "prism")
        for field in dataclasses.fields(config):
            value, registry = getattr(config, field.name), field.metadata.get("registry")
            if field.name in SOFT:
                continue
            if registry is None:
                assert value == field.default, field.name
            elif isinstance(field.metadata["chosen"], str):
                assert value == registry[field.metadata["chosen"]]()
            else:
                assert value == tuple(registry[name]() for name in field.metadata["chosen"])
        assert protocol_settings(stage, "prism") == {} == method_preset(stage, lambda given: Case())({})


@pytest.mark.parametrize("stage", STAGES)
def test_prisms_settings_are_the_stages_defaults_key_by_key(stage):
    settings = METHODS["prism"].settings(stage)
    defaults = flatten(build_config(STAGES[stage][0], SOFT if stage == "validate" else {}))
    assert len(settings) > 7
    for name, value in settings.items():
        assert (name, jsonable({name: value})) == (name, jsonable({name: defaults[name]}))


def test_prisms_defaults_on_imagenet_are_the_recipe_whatever_the_data_set_presets():
    assert build_config(RecoverConfig, {}, presets=dataset_preset) == of("recover", "prism")


def test_sre2l():
    recover, relabel, validate = (flatten(of(stage, "sre2l")) for stage in STAGES)
    assert (recover["teachers"], recover["init"]) == ("single", "noise")
    assert (recover["lr"], recover["iteration_step"]) == (0.25, 0)
    assert (recover["iteration"], recover["r_bn"], recover["batch_size"]) == (4000, 0.01, 100)
    assert (relabel["batch_size"], relabel["min_scale_crops"], relabel["ensemble"]) == (1024, 0.08, "primary")
    assert of("relabel", "sre2l").teacher_names == ("resnet18",)
    assert (validate["loss_type"], validate["temperature"], validate["schedule"]) == ("kl", 20, "cosine")
    assert validate["gradient_accumulation_steps"] == 2


def test_delt():
    relabel, validate = flatten(of("relabel", "delt")), flatten(of("validate", "delt"))
    assert (relabel["label_format"], relabel["augment"], relabel["ensemble"]) \
        == ("online", "randaugment", "primary")
    assert (relabel["min_scale_crops"], relabel["mix_type"], relabel["epochs"]) == (0.25, "cutmix", 300)
    assert (validate["loss_type"], validate["temperature"], validate["schedule"]) == ("kl", 20, "half-cosine")
    assert (validate["adamw_lr"], validate["adamw_weight_decay"]) == (1e-3, 0.01)
    assert validate["gradient_accumulation_steps"] == 1
    recover = flatten(of("recover", "delt"))
    assert (recover["init"], recover["batching"], recover["iteration"]) == ("medium", "rounds", 4000)


@pytest.mark.parametrize("student, lr", [
    ("resnet18", 1e-3), ("resnet101", 1e-3), ("vgg11", 5e-4), ("efficientnet_b0", 2e-3),
    ("mobilenet_v2", 2.5e-3), ("alexnet", 1e-4), ("vit_b_16", 1e-4), ("swin_v2_t", 1e-4)])
def test_delts_students_have_rates_of_their_own(student, lr):
    config = of("validate", "delt", model=student)
    assert config.optimizer.adamw_lr == lr
    assert of("validate", "prism", model=student).optimizer.adamw_lr == 1e-3
    assert protocol_record("validate", config, Case(student=student)) == {"name": "delt", "changed": []}
    given = of("validate", "delt", model=student, adamw_lr=0.01)
    assert given.optimizer.adamw_lr == 0.01
    assert protocol_record("validate", given, Case(student=student))["changed"] == ["adamw_lr"]
    for own in (config, of("validate", "delt", model=student, adamw_lr=1e-3)):
        assert parse_config(ValidateConfig, flags_of(own, presets=train_FKD.presets),
                            presets=train_FKD.presets) == own


def test_recovery_only():
    recover, validate = flatten(of("recover", "recovery-only")), flatten(of("validate", "recovery-only"))
    assert (recover["lr"], recover["iteration"], recover["iteration_step"], recover["init"]) \
        == (0.25, 4000, 0, "real")
    assert recover["pool"] == ("resnet18", "resnet34", "shufflenet_v2_x1_0", "mnasnet1_0", "efficientnet_b0")
    assert (validate["loss_type"], validate["epochs"], validate["batch_size"]) == ("ce", 90, 256)
    assert validate["schedule"] == "linear"
    assert (validate["optimizer"], validate["adamw_lr"]) == ("sgd", 0.1)
    assert (validate["momentum"], validate["adamw_weight_decay"]) == (0.9, 1e-4)
    with pytest.raises(ValueError, match="has no soft labels"):
        of("relabel", "recovery-only")


# ---------------------------------------------------------------- batches and epochs

@pytest.mark.parametrize("ipc, expected", [(1, 50), (9, 50), (10, 50), (11, 100), (50, 100), (100, 100)])
def test_a_label_batch_is_50_up_to_ipc_10_and_100_above(ipc, expected):
    for name in ("prism", "sre2l", "recovery-only"):
        assert METHODS[name].label_batch is published_batch and METHODS[name].student_batch is None
    assert {published_batch(ipc, classes) for classes in (10, 100, 1000)} == {expected}


@pytest.mark.parametrize("classes, ipc, student, expected", [
    (1000, 1, "resnet18", 20), (1000, 10, "resnet18", 100), (1000, 50, "resnet50", 200),
    (1000, 100, "resnet18", 200), (1000, 1, "resnet101", 10), (1000, 10, "resnet101", 50),
    (1000, 50, "resnet101", 100), (10, 1, "resnet18", 10), (10, 10, "resnet18", 50),
    (10, 50, "resnet101", 100),
    (100, 50, "resnet101", 200), (100, 1, "resnet18", 20),
    (100, 10, "resnet18", 100), (100, 100, "resnet18", 200),
    (200, 1, "resnet18", 100), (200, 50, "resnet101", 100), (4, 2, "resnet18", 8)])
def test_delts_batches(classes, ipc, student, expected):
    assert delt_batch_size(ipc, classes, student=student) == expected
    assert METHODS["delt"].student_batch(ipc, classes, student) == expected
    if student != "resnet101":  # labels are of any student's
        assert METHODS["delt"].label_batch(ipc, classes) == expected


def test_students_with_soft_labels_have_300_epochs():
    others = {name: method.label_epochs(Case()) for name, method in METHODS.items()
              if method.label_epochs(Case()) != 300}
    assert others == {"rd3": 400, "prism-fast": 152}
    longer = dataclasses.replace(METHODS["sre2l"], relabel={"epochs": 400})
    assert longer.label_epochs(Case()) == 400


@pytest.mark.parametrize("classes, ipc, views", [(10, 1, 10), (10, 10, 10), (10, 50, 50), (1000, 10, 50),
                                                 (1000, 50, 100), (100, 1, 10), (20, 9, 18)])
def test_the_fast_presets_student_has_ten_batches_an_epoch_where_ten_views_allow_it(classes, ipc, views):
    assert METHODS["prism-fast"].label_batch(ipc, classes) == views <= published_batch(ipc, classes)
    assert views == 10 or classes * ipc // views >= 10


@pytest.mark.parametrize("stage, changed", [
    ("recover", {"teachers": "single", "primary": "drawn", "iteration": 500, "iteration_step": 62}),
    ("relabel", {"epochs": 152, "label_epochs": 38}), ("validate", {"gradient_accumulation_steps": 1})])
def test_the_fast_preset_is_prism_with_one_network_an_image_and_other_budgets(stage, changed):
    ours, published = (flatten(of(stage, name)) for name in ("prism-fast", "prism"))
    assert {name: value for name, value in ours.items() if value != published.get(name)} \
        == changed | {"protocol": "prism-fast"}


# ---------------------------------------------------------------- what a result says of itself

def test_flags_win_over_a_protocol_and_are_said():
    config = of("recover", "sre2l", lr=0.1, ipc_end=50)
    assert config.lr == 0.1 and flatten(config)["init"] == "noise"
    assert protocol_record("recover", config) == {"name": "sre2l", "changed": ["lr"]}
    assert protocol_record("recover", of("recover", "sre2l", lr=0.25)) == {"name": "sre2l", "changed": []}
    changed = of("validate", "prism", loss_type="kl", model="resnet50", seeds=(3, 4), epochs=300)
    assert protocol_record("validate", changed, implied={"epochs": 300}) \
        == {"name": "prism", "changed": ["loss_type"]}
    assert issubclass(ValidateConfig, MethodFlags)


@pytest.mark.parametrize("stage, protocol, values, changed", [
    ("recover", "prism", {"teachers": "single"}, ["teachers"]),
    ("recover", "prism", {"teachers": "single", "selection": "intra"}, ["teachers", "selection"]),
    ("recover", "prism", {"max_bn_teachers": 2, "priors": ("l2",)}, ["max_bn_teachers", "priors"]),
    ("recover", "prism", {"tv_l2": 0.1, "r_bn": 0.5, "ipc_end": 50, "seed": 3}, ["r_bn", "tv_l2"]),
    ("recover", "sre2l", {"init": "real", "teachers": "multi"}, ["teachers", "init"]),
    ("relabel", "prism", {"mix_type": "mixup"}, ["mix_type"]),
    ("relabel", "prism", {"mix_type": "mixup", "mix_alpha": 0.8}, ["mix_type"]),
    ("relabel", "prism", {"mix_type": "none", "ipc": 50}, ["mix_type"]),
    ("relabel", "prism", {"label_format": "topk:50"}, ["label_format"]),
    ("relabel", "sre2l", {"batch_size": 50}, ["batch_size"]),
    ("validate", "sre2l", {"loss_type": "mse_gt", "ce_weight": 0.3}, ["loss_type", "ce_weight"]),
    ("validate", "sre2l", {"temperature": 4.0, "schedule": "ssrs"}, ["temperature", "schedule"]),
    ("validate", "recovery-only", {"optimizer": "adamw"}, ["optimizer"]),
    ("validate", "recovery-only", {"momentum": 0.5}, ["momentum"])])
def test_what_was_changed_of_a_protocol(stage, protocol, values, changed):
    """The pieces and those options of theirs that are neither the protocol's nor their defaults."""
    assert protocol_record(stage, of(stage, protocol, **values)) == {"name": protocol, "changed": changed}


@pytest.mark.parametrize("given, changed", [
    ({}, []), ({"batch_size": 16}, ["batch_size"]), ({"batch_size": 50}, []), ({"flip": True}, []),
    ({"steps_per_epoch": 4, "label_epochs": 300}, ["steps_per_epoch"]), ({"flip": False}, ["flip"]),
    ({"label_epochs": 60, "batch_size": 100}, ["batch_size", "label_epochs"]), ({"epochs": 9}, ["epochs"])])
def test_a_setting_without_a_default_is_held_against_what_the_protocol_would_take(given, changed):
    config = of("relabel", "prism", ipc=10, **given)
    resolved = config.resolved(config.plan(planned_images("imagenet-1k", 10)))
    assert set(protocol_record("relabel", config, **resolved)["changed"]) == set(changed)


@pytest.mark.parametrize("given, changed", [
    ({"dataset": "digits"}, []), ({"dataset": "cifar10", "size": 64}, ["size"]),
    ({"dataset": "digits", "flip": True, "lr": 0.1}, ["flip", "lr"])])
def test_what_the_data_set_presets_is_no_change_of_a_recipe(given, changed):
    config = of("recover", "prism", **given)
    assert sorted(protocol_record("recover", config, implied=implied_fields(config))["changed"]) == changed


def test_a_protocols_options_go_with_its_piece():
    settings = METHODS["sre2l"].settings("validate")
    merged = merge(ValidateConfig, settings, {"loss_type": "mse_gt"})
    assert merged == {"loss_type": "mse_gt", "schedule": "cosine"}
    assert flatten(of("validate", "sre2l", loss_type="kl_gt"))["temperature"] == 20.0


# ---------------------------------------------------------------- DELT's evaluation

def test_randaugmented_views_are_augmented_before_the_crop(gen):
    pixels = torch.randint(0, 256, (9, 3, 16, 16), generator=gen, dtype=torch.uint8)
    laws = Views(size=16, batch_size=4, min_scale=0.5, flip=True, mix_type=NoMix())
    drawn = dataclasses.replace(laws, augment=RandAugment()).draw(9, torch.Generator().manual_seed(3))
    plain = laws.draw(9, torch.Generator().manual_seed(3))
    assert all(torch.equal(drawn.tensors()[name], rows) for name, rows in plain.tensors().items())  # stay
    assert {name: drawn.operations[name].dtype for name in RANDAUGMENT_DTYPES} == RANDAUGMENT_DTYPES
    assert plain.operations == {}
    mean, std = (0.5, 0.4, 0.3), (0.2,) * 3
    for batch in range(3):
        part = slice(4 * batch, 4 * batch + 4)
        chosen = pixels[drawn.index[part].long()]
        rows = {name: drawn.operations[name][part] for name in RANDAUGMENT_DTYPES}
        augmented = apply_randaugment(chosen, **rows, fill=(128, 102, 76))
        expected = plain.render(augmented, batch, mean=mean, std=std)
        assert torch.equal(drawn.render(chosen, batch, mean=mean, std=std), expected)
    assert (drawn.operations["ops"] >= 0).any()


def test_delts_evaluation_runs_and_is_named(made, tiny, tmp_path):
    folder = generate_soft_label.main([
        "--protocol", "delt", "--data", str(made), "--fkd-path", str(tmp_path), "--arch-name", POOL[0],
        "--pool", *POOL[:2], "--weights-dir", str(tiny.teachers), "--epochs", "2", "--threads", "1"])
    labels = open_labels(str(folder), 0)
    assert not list(folder.glob("*.pt")) and labels.teachers == (POOL[0],)
    assert read_json(folder / "manifest.json")["teachers"] == [POOL[0]]
    assert labels.views.batch_size == METHODS["delt"].student_batch(2, 4, POOL[0]) == 8
    planned, _ = OnlineLabels(labels, [], batch_size=labels.views.batch_size).epoch(0)
    assert set(RANDAUGMENT_DTYPES) < set(planned.tensors()) and len(planned) == 1  # a batch of all eight
    out = tmp_path / "out"
    train_FKD.main(["--protocol", "delt", "--train-dir", str(made), "--fkd-path", str(folder),
                    "--model", POOL[0], "--weights-dir", str(tiny.teachers), "--output-dir", str(out),
                    "--threads", "1", "--row", "1/x"])
    result = read_json(out / "seed0" / "result.json")
    assert result["protocol"] == {"name": "delt", "changed": []} and result["row"] == "1/x"
    assert result["labels_protocol"]["name"] == "delt" and result["config"]["batch_size"] == 8
    rows = [json.loads(line) for line in (out / "seed0" / "log.jsonl").read_text().splitlines()]
    assert [row["lr"] for row in rows] == pytest.approx([1e-3, 1e-3 * (1 + 0.5 ** 0.5) / 2])


def test_randaugmented_labels_can_be_stored(made, tiny, tmp_path):
    labels = tiny.relabel(made, "--fkd-path", tmp_path, "--augment", "randaugment", "--label-format", "int8")
    summary = tiny.validate(made, "--fkd-path", labels, "--output-dir", tmp_path / "out")
    assert summary["n"] == 2


# ---------------------------------------------------------------- what a method names can be built

def test_every_network_of_every_method_has_a_stem_on_its_data_sets():
    for method in METHODS.values():
        for dataset in ("imagenet-1k", *method.datasets, "cifar10", "tiny-imagenet"):
            for ipc in (1, 10):
                case = Case(dataset, ipc)
                names = {name for stage in ("recover", "relabel") if getattr(method, stage) is not None
                         for name in method.settings(stage, case).get("pool", ())}
                for name in names:
                    build_skeleton(name, num_classes=2, stem=DATASETS[dataset].stem)


def test_densenets_small_stem_is_one_convolution_of_stride_one():
    features = build_skeleton("densenet121", num_classes=10, stem="small").features
    assert (features.conv0.kernel_size, features.conv0.stride) == ((3, 3), (1, 1))
    assert isinstance(features.pool0, torch.nn.Identity)


@pytest.mark.parametrize("name", ["rded", "cv-dd", "sre2l++"])
def test_mosaics_of_many_images_look_at_enough_photographs(name):
    wanted = {ipc: METHODS[name].settings("recover", Case(ipc=ipc))["candidates"] for ipc in (10, 75, 100)}
    assert wanted == {10: 300, 75: 300, 100: 400}
