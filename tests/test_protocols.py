"""Named protocols: what they set, how results say it, and DELT's evaluation end to end."""
import dataclasses
import json

import pytest
import torch
from helpers import POOL

from recover import data_synthesis
from recover.data_synthesis import RecoverConfig
from relabel import generate_soft_label
from relabel.generate_soft_label import RelabelConfig
from utils.augment import plan_epoch, render_batch
from utils.config import build_config
from utils.files import read_json
from utils.protocols import PROTOCOLS, ProtocolFlags, delt_batch_size, protocol_record
from utils.randaugment import RANDAUGMENT_DTYPES, apply_randaugment
from validate import train_FKD
from validate.soft_labels import OnlineLabels
from validate.train_FKD import ValidateConfig

pytest_plugins = ["stage_fixtures"]
STAGES = {"recover": (RecoverConfig, data_synthesis.presets),
          "relabel": (RelabelConfig, generate_soft_label.presets),
          "validate": (ValidateConfig, train_FKD.presets)}
SOFT = {"fkd_path": "x"}


def of(stage: str, protocol: str, **values):
    config, presets = STAGES[stage]
    soft = SOFT if stage == "validate" and protocol != "recovery-only" else {}
    return build_config(config, {"protocol": protocol, **soft, **values}, presets=presets)


def test_every_preset_names_fields_of_its_stage():
    for stage, (config, _) in STAGES.items():
        names = {field.name for field in dataclasses.fields(config)}
        assert all(set(preset) <= names for preset in PROTOCOLS[stage].values())


def test_prism_is_the_defaults():
    for stage in STAGES:
        config = of(stage, "prism")
        assert all(getattr(config, f.name) == f.default for f in dataclasses.fields(config)
                   if f.name not in SOFT)


def test_sre2l():
    recover, relabel, validate = (of(stage, "sre2l") for stage in STAGES)
    assert (recover.teachers, recover.init) == ("single", "noise")
    assert (recover.lr, recover.iteration_step) == (0.25, 0)
    assert (recover.iteration, recover.r_bn, recover.batch_size) == (4000, 0.01, 100)
    assert (relabel.batch_size, relabel.min_scale_crops, relabel.ensemble) == (1024, 0.08, "primary")
    assert relabel.teacher_names == ("resnet18",)
    assert (validate.loss_type, validate.temperature, validate.schedule) == ("kl", 20, "cosine")
    assert validate.gradient_accumulation_steps == 2


def test_delt():
    relabel, validate = of("relabel", "delt"), of("validate", "delt")
    assert (relabel.label_format, relabel.augment, relabel.ensemble) == ("online", "randaugment", "primary")
    assert (relabel.min_scale_crops, relabel.mix_type, relabel.epochs) == (0.25, "cutmix", 300)
    assert (validate.loss_type, validate.temperature, validate.schedule) == ("kl", 20, "half-cosine")
    assert (validate.adamw_lr, validate.adamw_weight_decay) == (1e-3, 0.01)
    assert validate.gradient_accumulation_steps == 1
    with pytest.raises(ValueError, match="recover them with --protocol prism"):
        of("recover", "delt")


def test_recovery_only():
    recover, validate = of("recover", "recovery-only"), of("validate", "recovery-only")
    assert (recover.lr, recover.iteration, recover.iteration_step, recover.init) == (0.25, 4000, 0, "real")
    assert (validate.loss_type, validate.epochs, validate.batch_size) == ("ce", 90, 256)
    assert validate.schedule == "linear"
    assert (validate.optimizer, validate.adamw_lr, validate.momentum, validate.adamw_weight_decay) \
        == ("sgd", 0.1, 0.9, 1e-4)
    with pytest.raises(ValueError, match="has no soft labels"):
        of("relabel", "recovery-only")


@pytest.mark.parametrize("classes, ipc, student, expected", [
    (1000, 1, "resnet18", 20), (1000, 10, "resnet18", 100), (1000, 50, "resnet50", 200),
    (1000, 100, "resnet18", 200), (1000, 1, "resnet101", 10), (1000, 10, "resnet101", 50),
    (1000, 50, "resnet101", 100), (10, 1, "resnet18", 10), (10, 10, "resnet18", 50),
    (10, 50, "resnet101", 100),
    (100, 1, "resnet18", 20), (100, 10, "resnet18", 100), (100, 100, "resnet18", 200),
    (200, 1, "resnet18", 100), (200, 50, "resnet101", 100), (4, 2, "resnet18", 8)])
def test_delts_batches(classes, ipc, student, expected):
    assert delt_batch_size(ipc, classes, student=student) == expected


def test_flags_win_over_a_protocol_and_are_said():
    config = of("recover", "sre2l", lr=0.1, ipc_end=50)
    assert config.lr == 0.1 and config.init == "noise"
    assert protocol_record("recover", config) == {"name": "sre2l", "changed": ["lr"]}
    assert protocol_record("recover", of("recover", "sre2l", lr=0.25)) == {"name": "sre2l", "changed": []}
    changed = of("validate", "prism", loss_type="kl", model="resnet50", seeds=(3, 4), epochs=300)
    assert protocol_record("validate", changed) == {"name": "prism", "changed": ["loss_type"]}
    assert issubclass(ValidateConfig, ProtocolFlags)


def test_randaugmented_views_are_augmented_before_the_crop(gen):
    pixels = torch.randint(0, 256, (9, 3, 16, 16), generator=gen, dtype=torch.uint8)
    views = {"size": 16, "batch_size": 4, "min_scale": 0.5, "flip": True, "mix_type": "none",
             "mix_alpha": 1.0, "num_batches": None}
    plan = plan_epoch(9, **views, augment="randaugment", generator=torch.Generator().manual_seed(3))
    plain = plan_epoch(9, **views, generator=torch.Generator().manual_seed(3))
    assert all(torch.equal(plan[name], plain[name]) for name in plain)  # the other draws stay
    assert {name: plan[name].dtype for name in RANDAUGMENT_DTYPES} == RANDAUGMENT_DTYPES
    mean, std = (0.5, 0.4, 0.3), (0.2,) * 3
    for batch in range(3):
        part = slice(4 * batch, 4 * batch + 4)
        chosen = pixels[plan["index"][part].long()]
        rows = {name: plan[name][part] for name in RANDAUGMENT_DTYPES}
        expected = render_batch(apply_randaugment(chosen, **rows, fill=(128, 102, 76)), plain, batch,
                                batch_size=4, mix_type="none", mean=mean, std=std, size=16)
        seen = render_batch(chosen, plan, batch, batch_size=4, mix_type="none", mean=mean, std=std, size=16)
        assert torch.equal(seen, expected)
    assert (plan["ops"] >= 0).any()


def test_delts_evaluation_runs_and_is_named(made, tiny, tmp_path):
    labels = generate_soft_label.main([
        "--protocol", "delt", "--data", str(made), "--fkd-path", str(tmp_path), "--arch-name", POOL[0],
        "--pool", *POOL[:2], "--weights-dir", str(tiny.teachers), "--epochs", "2", "--threads", "1"])
    manifest = read_json(labels / "manifest.json")
    assert not list(labels.glob("*.pt")) and manifest["teachers"] == [POOL[0]]
    planned = OnlineLabels(manifest, []).epoch(0)
    assert set(RANDAUGMENT_DTYPES) < set(planned) and len(planned["mix_box"]) == 1  # a batch of all eight
    out = tmp_path / "out"
    train_FKD.main(["--protocol", "delt", "--train-dir", str(made), "--fkd-path", str(labels),
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
