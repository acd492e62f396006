"""Named protocols: what each changes in the stages' defaults, which are PRISM's own.

--protocol sets defaults below --config and flags; every result names it with what was changed of it.
    prism          the published recipe (prism.md 1 to 3)
    delt           DELT's evaluation of any images: labels of resnet18 alone computed at every batch, KL at
                   temperature 20, RandAugment, a learning rate that ends at half, `delt_batch_size`.  Its
                   public code's second BatchNorm update a step is not reproduced
    recovery-only  paper table 2: hard labels, no relabel; SGD is ours, the paper names no optimiser
    sre2l          SRe2L's own recover from noise, labels of one teacher, and students
Sources: paper 4.1, 4.4, supplement C; SRe2L's, DELT's published recipes (facts in the project's baselines).
"""
import dataclasses
from typing import Literal

from utils.config import option

PROTOCOLS = {
    "recover": {
        "recovery-only": {"lr": 0.25, "iteration_step": 0},
        "sre2l": {"teachers": "single", "init": "noise", "lr": 0.25, "iteration_step": 0}},
    "relabel": {
        "delt": {"label_format": "online", "augment": "randaugment", "ensemble": "primary"},
        "sre2l": {"batch_size": 1024, "min_scale_crops": 0.08, "ensemble": "primary"}},
    "validate": {
        "delt": {"loss_type": "kl", "temperature": 20.0, "schedule": "half-cosine",
                 "gradient_accumulation_steps": 1},
        "recovery-only": {"loss_type": "ce", "epochs": 90, "batch_size": 256, "optimizer": "sgd",
                          "adamw_lr": 0.1, "adamw_weight_decay": 1e-4, "schedule": "linear",
                          "min_scale_crops": 0.08, "gradient_accumulation_steps": 1},
        "sre2l": {"loss_type": "kl", "temperature": 20.0, "schedule": "cosine"}},
}
NO_PROTOCOL = ("dataset", "ipc", "model", "threads", "seed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProtocolFlags:
    """What every stage takes: whose recipe its defaults are."""

    protocol: Literal["prism", "delt", "recovery-only", "sre2l"] = option(
        "prism", "whose defaults to take (utils/protocols.py)", source="paper 4.1, supplement C",
        identity=False)


def protocol_preset(stage: str):
    """The `presets` of `parse_config`: what --protocol implies in a stage.   Args: stage: of PROTOCOLS."""
    return lambda given: PROTOCOLS[stage].get(given.get("protocol", "prism"), {})


def delt_batch_size(ipc: int, num_classes: int, *, student: str) -> int:
    """DELT's batch: 10, from IPC 10 on 50, from 30 on 100; doubled for 100 and 1000 classes.

    There a resnet101 has half; Tiny-ImageNet (200 classes) has 100 throughout.   Source: DELT's published
    recipe; never more than all images.
    """
    base = 10 if ipc < 10 else 50 if ipc <= 20 else 100
    if num_classes == 200:
        base = 100
    elif num_classes in (100, 1000):
        base = 2 * base // (2 if student == "resnet101" else 1)
    return min(base, ipc * num_classes)


def protocol_record(stage: str, config) -> dict:
    """A protocol's name, and the settings in which a run differs from it: what a result says of itself.

    Left out: what is no part of a protocol, and what its defaults leave to the labels or the IPC.
    """
    implied = PROTOCOLS[stage].get(config.protocol, {})
    expected = {field.name: implied.get(field.name, field.default) for field in dataclasses.fields(config)
                if field.metadata["identity"] and field.name not in NO_PROTOCOL}
    return {"name": config.protocol, "changed": [name for name, value in expected.items()
                                                 if value is not None and getattr(config, name) != value]}
