"""One epoch of soft labels: the views and mixes of the distilled set, and the ensemble's logits for each.

T teachers (the primary first), N views of the epoch, B views in a batch, C channels, H W pixels, K classes.
"""
import torch

from models.ensemble import ENSEMBLES
from utils.augment import plan_epoch, render_batch, to_device
from utils.runtime import generator


@torch.no_grad()
def ensemble_logits(views: torch.Tensor, teachers: list, *, ensemble: str) -> torch.Tensor:
    """The combined logits of one batch of views.

    Args:    views: (B, C, H, W) float, normalised and mixed;  teachers: T networks in eval mode, the primary
             first;  ensemble: of ENSEMBLES, some of which scale by statistics of the batch.
    Returns: (B, K) float32.
    """
    return ENSEMBLES[ensemble](torch.stack([teacher(views).float() for teacher in teachers]))


def label_epoch(images: torch.Tensor, teachers: list, *, epoch: int, seed: int, views: dict, ensemble: str,
                mean, std) -> dict:
    """One epoch of labels, as `utils.formats` stores it: all randomness comes from (seed, epoch).

    Source: FKD store as in SRe2L; paper 4.4 for the batch size.
    Args:    images: (M, C, H, W) uint8, the distilled set on the teachers' device;
             views: keywords of `plan_epoch`;  mean, std: pixel statistics.
    Returns: index, crop, flip, mix_index, mix_box, mix_lam and logits (N, K) float16.
    Raises:  RuntimeError when a logit is not finite, or too large for float16.
    """
    plan = plan_epoch(len(images), **views, generator=generator(seed, "labels", epoch))
    moved = to_device(plan, images.device)
    logits = [ensemble_logits(render_batch(images, moved, batch, batch_size=views["batch_size"], mean=mean,
                                           std=std, mix_type=views["mix_type"], size=views["size"]),
                              teachers, ensemble=ensemble) for batch in range(len(plan["mix_box"]))]
    stored = torch.cat(logits).half().cpu()
    if not torch.isfinite(stored).all():
        raise RuntimeError(f"a soft label of epoch {epoch} is not finite in float16: "
                           f"check the teachers' weights")
    return {**plan, "logits": stored}
