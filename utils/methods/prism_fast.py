"""A quarter of PRISM's work: an eighth of the iterations, an eighth of the labels, half the epochs.

One network gives logits and statistics, drawn once for each image: what PRISM decouples stays coupled here.
The student makes up for its epochs by steps: batches are small and whole, at least ten an epoch.
Chosen among the variants of scripts/studies (teachers.json, cost.json, fast.json) on CIFAR-10 at IPC 10 with
narrow networks, and measured there alone: docs/results/cifar10/README.md has the difference and its interval.
"""
import dataclasses

from utils.methods.method import published_batch
from utils.methods.prism import PRISM


def small_batch(ipc: int, num_classes: int) -> int:
    """Views a batch: a tenth of the images, from ten up to the published batch.   Source: ours."""
    return min(max(10, ipc * num_classes // 10), published_batch(ipc, num_classes))


SEVERAL = ("subset_law", "max_bn_teachers", "bn_reduce")  # what one network has no use for
PRISM_FAST = dataclasses.replace(
    PRISM,
    name="prism-fast",
    source="ours: PRISM with one network an image and other budgets (docs/results/cifar10/README.md)",
    code="this repository",
    recover={**{name: value for name, value in PRISM.settings("recover").items() if name not in SEVERAL},
             "teachers": "single", "primary": "drawn", "iteration": 500, "iteration_step": 62},
    relabel={**PRISM.settings("relabel"), "epochs": 152, "label_epochs": 38},
    validate={**PRISM.settings("validate"), "gradient_accumulation_steps": 1},
    label_batch=small_batch)
