"""RDED: mosaics of the easiest crops of real photographs, never optimised; labels computed at every batch.

Left open, and read so:
- a batch at IPC 100, for which the code has none: ours as at IPC 50; between the published IPCs DELT's law;
- photographs that are looked at above IPC 75, where 300 do not fill the mosaics: ours four an image;
- the network that scores crops for larger students: ours resnet18 for all, as EDC reports it.
Not reproduced:
- ImageNet's pixel statistics on all data: here the data set's own, as its teachers were trained;
- evaluation at epochs 249, 259, ..., 299: ours 240, 250, ... and the last;
- the settings of its ConvNets (a batch of 25 at 0.002 on CIFAR-100), which are none of our networks.
"""
from utils.methods.delt import RATES, batch_size
from utils.methods.method import Case, Method, Settings


def rded_batch(ipc: int, num_classes: int) -> int:
    """RDED's batch, of which DELT's is a copy; the same for every student.   Source: baselines.md 8.3."""
    return batch_size(ipc, num_classes)


def enough(stage: str, case: Case) -> Settings:
    """As many photographs a class as its mosaics have tiles: more than 300 at IPC 100."""
    return {"candidates": max(300, 4 * case.ipc)} if stage == "recover" else {}


SMALL: dict[str, Settings] = {  # neither tiles nor crops
    "recover": {"factor": 1}, "relabel": {"augment": "none", "min_scale_crops": 1.0}}
RDED = Method(
    name="rded",
    source="Sun et al., CVPR 2024",
    code="LINs-lab/RDED 3f6453d (2025-02-24)",
    recover={"teachers": "single", "init": "mosaic", "candidates": 300, "crops": 5, "least_area": 0.08,
             "factor": 2, "observers": 1, "iteration": 0, "iteration_step": 0, "image_format": "jpg"},
    relabel={"label_format": "online", "augment": "patch-shuffle", "min_scale_crops": 0.5,
             "ensemble": "primary"},
    validate={"loss_type": "kl", "temperature": 20.0, "schedule": "half-cosine",
              "gradient_accumulation_steps": 1, "eval_from": 0.8},
    label_batch=rded_batch,
    datasets=dict.fromkeys(("cifar10", "cifar100", "tiny-imagenet", "digits"), SMALL),
    students={student: {"validate": {"adamw_lr": lr}} for student, lr in RATES.items()},
    vary=enough)
