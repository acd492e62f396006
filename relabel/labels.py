"""One epoch of soft labels: the views and mixes of the distilled set, and the ensemble's logits for each.

T teachers (the primary first), M distilled images, N views of the epoch, K classes.
"""
from collections.abc import Callable

import torch
from torch import nn

from models.ensemble import Mean, ensemble_logits
from models.teacher_statistics import Running
from utils.label_formats import FP16
from utils.loading import Images
from utils.views import Views


def label_epoch(images: Images, teachers: list[nn.Module], *, epoch: int, seed: int, views: Views,
                ensemble: Mean, statistics: Running, precision: str, label_format: FP16,
                mean: tuple[float, ...], std: tuple[float, ...],
                after_batch: Callable[[], None] = lambda: None) -> dict[str, torch.Tensor]:
    """One epoch of labels, as `utils.formats` stores it: all randomness comes from (seed, epoch).

    Source: FKD store as in SRe2L; paper 4.4 for the batch size.
    Args:    images: on the teachers' device;  views: their laws;  precision: of PRECISIONS;
             after_batch(): after each batch of views.
    Returns: the tensors of the drawn views, and those of the format.
    Raises:  RuntimeError when a logit is not finite, or too large for float16.
    """
    drawn = views.draw_labelled(len(images), seed=seed, epoch=epoch)
    moved = drawn.to(images.device)
    logits = []
    for batch, pixels in enumerate(images.batches(drawn.index, views.batch_size)):
        rendered = moved.render(pixels, batch, mean=mean, std=std)
        logits.append(ensemble_logits(rendered, teachers, ensemble=ensemble, precision=precision,
                                      statistics=statistics, batch=(seed, epoch, batch)))
        after_batch()
    stored = label_format.encode(torch.cat(logits))
    if not all(torch.isfinite(tensor).all() for tensor in stored.values()):
        raise RuntimeError(f"a soft label of epoch {epoch} is not finite as {type(label_format).__name__}: "
                           f"check the teachers' weights")
    return {**drawn.tensors(), **{name: tensor.cpu() for name, tensor in stored.items()}}
