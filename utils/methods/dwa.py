"""DWA: the teacher's weights climb the real images' loss before each chunk; BatchNorm's variances count more.

Not reproduced:
- the perturbation is not undone in the public code, so that it adds up over an index's chunks: ours is of
  each unit, and undone;
- two accidents: the ascents' gradients of the images enter Adam's first step, and gradients of the weights
  stay from chunk to chunk;
- starts squeezed to a square, in the order of a directory: ours short side first, drawn by (seed, class);
- on CIFAR a teacher in train mode, and CIFAR-10 under two standard deviations: as sre2l.py.
"""
from utils.methods.method import Method, Settings
from utils.methods.sre2l import CIFAR, TINY

SMALL: Settings = {"ascents": 12, "bn_variance_weight": 11.0, "jitter": 4}
OWN_CIFAR: dict[str, Settings] = {**CIFAR, "recover": {
    **SMALL, "iteration": 1000, "min_scale_crops": 1.0, "flip": False, "image_format": "jpg"}}
DWA = Method(
    name="dwa",
    source="Du et al., NeurIPS 2024",
    code="AngusDujw/Diversity-Driven-Synthesis c5b125f (2025-03-01)",
    recover={"teachers": "single", "init": "random", "perturbation": "directed", "rho": 0.015, "ascents": 15,
             "bn_variance_weight": 2.0, "lr": 0.25, "iteration": 2000, "iteration_step": 0},
    relabel={"label_format": "online", "batch_size": 128, "min_scale_crops": 0.08, "ensemble": "primary"},
    validate={"loss_type": "kl", "temperature": 20.0, "schedule": "cosine", "gradient_accumulation_steps": 1},
    datasets={
        "cifar10": OWN_CIFAR, "cifar100": OWN_CIFAR,
        "tiny-imagenet": {
            "recover": {**SMALL, "lr": 0.1, "batch_size": 200},
            "relabel": {"epochs": 200, "batch_size": 64, "mix_type": "cutmix"},
            "validate": TINY["validate"]}})
