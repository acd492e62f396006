"""One epoch of soft labels: the views and mixes of the distilled set, and the ensemble's logits for each.

T teachers (the primary first), N views of the epoch, B views in a batch, C channels, H W pixels, K classes.
"""
import torch

from models.ensemble import ensemble_logits
from utils.augment import plan_label_epoch, render_batch, to_device
from utils.label_formats import label_format


def label_epoch(images, teachers: list, *, epoch: int, seed: int, views: dict, ensemble: str,
                precision: str, format_name: str, mean, std) -> dict:
    """One epoch of labels, as `utils.formats` stores it: all randomness comes from (seed, epoch).

    Source: FKD store as in SRe2L; paper 4.4 for the batch size.
    Args:    images: the M distilled images, of `utils.loading.open_distilled`, on the teachers' device;
             views: keywords of `plan_epoch`;  precision: of PRECISIONS;  format_name: a --label-format;
             mean, std: pixel statistics.
    Returns: the tensors of `plan_epoch`, and those of the format.
    Raises:  RuntimeError when a logit is not finite, or too large for float16.
    """
    plan = plan_label_epoch(len(images), views, seed=seed, epoch=epoch)
    moved, batch_size = to_device(plan, images.device), views["batch_size"]
    logits = [ensemble_logits(render_batch(pixels, moved, batch, batch_size=batch_size, mean=mean, std=std,
                                           mix_type=views["mix_type"], size=views["size"]),
                              teachers, ensemble=ensemble, precision=precision)
              for batch, pixels in enumerate(images.batches(plan["index"], batch_size))]
    stored = label_format(format_name).encode(torch.cat(logits))
    if not all(torch.isfinite(tensor).all() for tensor in stored.values()):
        raise RuntimeError(f"a soft label of epoch {epoch} is not finite as {format_name}: "
                           f"check the teachers' weights")
    return {**plan, **{name: tensor.cpu() for name, tensor in stored.items()}}
