"""D4M: a diffusion model's images from the clusters of each class's latents; no network is matched.

The checkpoint, its steps, strength and prompts are the options of --init latent; its labels and students are
SRe2L's, tested every 50 epochs.
Left open, and read so:
- labels and students of small data, of which the repository has none: SRe2L's (DD-Ranking: the same epochs,
  batches and optimisers).
Not reproduced: class folders whose names do not sort as the labels; prompts in another order than the
classes; a clustering step left outside the loop over classes.
"""
from utils.methods.method import Method, Settings
from utils.methods.sre2l import CIFAR, TINY


def small(own: dict[str, Settings]) -> dict[str, Settings]:
    """SRe2L's labels and students, without its recovery."""
    return {stage: own[stage] for stage in ("relabel", "validate")}


D4M = Method(
    name="d4m",
    source="Su et al., CVPR 2024",
    code="suduo94/D4M da35d10 (2024-09-06)",
    recover={"init": "latent", "iteration": 0, "iteration_step": 0, "image_format": "png"},
    relabel={"batch_size": 1024, "min_scale_crops": 0.08, "ensemble": "primary"},
    validate={"loss_type": "kl", "temperature": 20.0, "schedule": "cosine", "eval_every": 50},
    datasets={"cifar10": small(CIFAR), "cifar100": small(CIFAR), "tiny-imagenet": small(TINY)})
