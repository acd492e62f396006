"""Random views, planned before they are rendered: recover's shared view, and the stored views of relabel.

N views, B views in a batch, C channels, H W pixels.  Every draw comes from an explicit generator; what was
drawn is plain tensors, so the same view can be rendered again bit for bit from what is stored.
"""
import dataclasses
import functools
import math

import numpy
import torch
import torch.nn.functional as F

from utils import runtime
from utils.randaugment import RANDAUGMENT_DTYPES, apply_randaugment, plan_randaugment

# Stored with the labels, which only readers with the same resampler may use.
RESAMPLER = "bilinear-grid-clamped/1"
# Beta(alpha, alpha) of the mixes.   Source: published recipe; SRe2L.
MIX_ALPHA = {"cutmix": 1.0, "mixup": 0.8, "none": 1.0}
# Images rendered at a time on a CPU: so few stay in its cache from one operation to the next.
CACHED_IMAGES = 8
# Scale and ratio laws of torchvision's RandomResizedCrop, ten attempts before the centred fallback.
RATIO, ATTEMPTS = (3 / 4, 4 / 3), 10


def sample_crops(num: int, *, size: int, min_scale, generator: torch.Generator) -> torch.Tensor:
    """Draws crop boxes after RandomResizedCrop's law: area fraction U(min_scale, 1), log-uniform ratio.

    Source: published recipe (torchvision RandomResizedCrop), on square images.
    Args:
        num: N boxes;  size: side of the image [pixels];
        min_scale: lower bound of the area fraction, a float or (N,).
    Returns: (N, 4) int16: top, left, height, width.
    """
    uniform = torch.rand(num, ATTEMPTS, 4, generator=generator, dtype=torch.float64)
    low = torch.as_tensor(min_scale, dtype=torch.float64).reshape(-1, 1)
    area = size * size * (low + (1 - low) * uniform[..., 0])
    ratio = torch.exp(math.log(RATIO[0]) + (math.log(RATIO[1]) - math.log(RATIO[0])) * uniform[..., 1])
    width, height = torch.sqrt(area * ratio).round(), torch.sqrt(area / ratio).round()
    fits = (width > 0) & (width <= size) & (height > 0) & (height <= size)
    first = fits.to(torch.int8).argmax(1)                      # the first attempt that fits, else 0
    rows = torch.arange(num)
    height = torch.where(fits.any(1), height[rows, first], size)
    width = torch.where(fits.any(1), width[rows, first], size)
    top = (uniform[rows, first, 2] * (size - height + 1)).floor()
    left = (uniform[rows, first, 3] * (size - width + 1)).floor()
    return torch.stack([top, left, height, width], 1).to(torch.int16)


# ---------------------------------------------------------------- recover: one view for the whole batch

@dataclasses.dataclass(frozen=True)
class SharedViews:
    """The views of one unit of recover, one per iteration: boxes (T, 4), flips (T,), rolls (T, 2)."""

    boxes: list
    flips: list
    rolls: list


def plan_shared_views(num: int, *, size: int, min_scale, flip: bool, jitter: int,
                      generator: torch.Generator) -> SharedViews:
    """Draws a crop, flip and circular shift per iteration, shared by the batch.   Source: SRe2L; prism.md 1.

    Args:
        num: T iterations;  size: side [pixels];  min_scale: float or (T,);
        flip: whether horizontal flips (p = 0.5) are drawn;  jitter: largest shift, inclusive [pixels].
    """
    boxes = sample_crops(num, size=size, min_scale=min_scale, generator=generator)
    flips = (torch.rand(num, generator=generator) < 0.5) & flip
    rolls = torch.randint(0, jitter + 1, (num, 2), generator=generator)
    return SharedViews(boxes.tolist(), flips.tolist(), rolls.tolist())


def shared_view(images: torch.Tensor, views: SharedViews, step: int) -> torch.Tensor:
    """The batch under the view of iteration `step`: crop, resize, flip, then roll.

    Args:    images: (N, C, H, H) float, normalised.
    Returns: (N, C, H, H), differentiable in `images`.
    """
    size = images.shape[-1]
    top, left, height, width = views.boxes[step]
    view = images[:, :, top:top + height, left:left + width]
    view = F.interpolate(view, size=(size, size), mode="bilinear", align_corners=False)
    if views.flips[step]:
        view = view.flip(-1)
    return torch.roll(view, shifts=tuple(views.rolls[step]), dims=(2, 3))


# ---------------------------------------------------------------- relabel, validate: one view per image

def plan_epoch(num_images: int, *, size: int, batch_size: int, min_scale: float, flip: bool, mix_type: str,
               mix_alpha: float, num_batches: int | None, generator: torch.Generator,
               augment: str = "none") -> dict:
    """Draws one epoch of views and mixes: a shuffle of the set cut into batches, the last one partial.

    CutMix pastes one box of the permuted batch, Mixup blends with it: one permutation, one lambda ~
    Beta(alpha, alpha) and one box a batch.   Source: published recipe; Yun et al. 2019, Zhang et al. 2018.
    Args:
        num_images: size of the set;  size: side [pixels];  batch_size: B;  mix_type: cutmix, mixup or none;
        num_batches: only this many batches of the shuffle, None for all;
        augment: none, or randaugment (utils/randaugment.py), before the crop.
    Returns: index (N,) int32, crop (N, 4) int16, flip (N,) bool, mix_index (N,) int16 within its batch,
             mix_box (batches, 4) int16 top, left, bottom, right, mix_lam (batches,) float32, the share of
             an image's own pixels; with randaugment, the tensors of `plan_randaugment`.
    """
    index = torch.randperm(num_images, generator=generator)
    index = index[:num_batches * batch_size] if num_batches else index
    num = len(index)
    plan = {"index": index.int(),
            "crop": sample_crops(num, size=size, min_scale=min_scale, generator=generator),
            "flip": (torch.rand(num, generator=generator) < 0.5) & flip}
    lengths = [len(part) for part in index.split(batch_size)]
    if mix_type == "none":
        partners = [torch.arange(length) for length in lengths]
        lam = torch.ones(len(lengths))
    else:
        partners = [torch.randperm(length, generator=generator) for length in lengths]
        lam = _sample_beta(mix_alpha, len(lengths), generator)
    boxes = torch.zeros(len(lengths), 4, dtype=torch.int16)
    if mix_type == "cutmix":
        boxes = _sample_mix_boxes(lam, size, generator)
        lam = 1 - (boxes[:, 2:] - boxes[:, :2]).float().prod(1) / size**2
    operations = plan_randaugment(num, generator=generator) if augment == "randaugment" else {}
    return {**plan, "mix_index": torch.cat(partners).to(torch.int16), "mix_box": boxes,
            "mix_lam": lam.float(), **operations}


def plan_label_epoch(num_images: int, views: dict, *, seed: int, epoch: int) -> dict:
    """The views of one epoch of soft labels, the same for whoever asks.   Args: views: of `plan_epoch`."""
    return plan_epoch(num_images, **views, generator=runtime.generator(seed, "labels", epoch))


def _sample_beta(alpha: float, num: int, generator: torch.Generator) -> torch.Tensor:
    """(num,) draws of Beta(alpha, alpha); numpy's generator draws them, seeded from the explicit one."""
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.from_numpy(numpy.random.default_rng(seed).beta(alpha, alpha, num))


def _sample_mix_boxes(lam: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """CutMix boxes, side floor(size * sqrt(1 - lam)) about a uniform centre, clipped: (batches, 4) int16."""
    half = (size * torch.sqrt(1 - lam)).floor().long() // 2
    centre = torch.randint(0, size, (len(lam), 2), generator=generator)
    low, high = (centre - half[:, None]).clamp(min=0), (centre + half[:, None]).clamp(max=size)
    return torch.cat([low, high], 1).to(torch.int16)


def sample_positions(crop: torch.Tensor, flip: torch.Tensor, *, size: int, side: int) -> torch.Tensor:
    """Where each pixel of a resized crop lies in its image, as grid_sample counts, column and row apart.

    Half-pixel centres, samples clamped to the crop, columns reversed where flipped.  Columns are x + 0i and
    rows 0 + yi: a sum over all their pairs is the grid, in one pass over memory.
    Args:    crop: (B, 4) top, left, height, width;  flip: (B,) bool;  size, side: of the views, the images.
    Returns: (2, B, size) complex64, from -1 to 1 over the image's edges: the columns, the rows.
    """
    top, left, height, width = crop.float().unbind(1)
    place = (torch.arange(size, device=crop.device, dtype=torch.float32) + 0.5) / size      # (size,)
    x = torch.where(flip[:, None], 1 - place, place) * width[:, None] - 0.5
    y = place * height[:, None] - 0.5
    x = left[:, None] + x.clamp(min=0).minimum(width[:, None] - 1)
    y = top[:, None] + y.clamp(min=0).minimum(height[:, None] - 1)
    x, y = (2 * x + 1) / side - 1, (2 * y + 1) / side - 1
    return torch.stack([x + 0j, 1j * y])


def resample(images: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Renders one crop and flip per image, bilinear.

    Equal to Pillow's bilinear resize of the crop to within its rounding while crops are not larger than the
    views (no antialiasing is needed then).   Source: ours (RESAMPLER), for both later stages.
    Args:    images: (B, C, H, H) float;  positions: (2, B, size) of `sample_positions`.
    Returns: (B, C, size, size) float.
    """
    columns, rows = positions
    grid = torch.view_as_real(columns[:, None, :] + rows[:, :, None])
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def mix_(images: torch.Tensor, *, mix_type: str, partner: torch.Tensor, box, lam: float) -> torch.Tensor:
    """Pastes (CutMix) or blends (Mixup) each image's partner into it, in place.

    Args: images: (B, C, H, W);  partner: (B,) positions in the batch;  box: top, left, bottom, right;
          lam: share of the own image.
    """
    if mix_type == "none":
        return images
    partner = partner.long().to(images.device)
    if mix_type == "mixup":
        others = images[partner]
        return images.mul_(lam).add_(others, alpha=1 - lam)
    top, left, bottom, right = (int(edge) for edge in box)
    inside = images[:, :, top:bottom, left:right]
    inside.copy_(inside[partner])
    return images


def to_device(epoch_views: dict, device: torch.device) -> dict:
    """A planned or stored epoch: what is read by the image on `device`, what is read by the batch on the CPU.

    One copy an epoch; `render_batch` then waits for nothing.
    """
    return {name: value if name in ("mix_box", "mix_lam", *RANDAUGMENT_DTYPES) else value.to(device)
            for name, value in epoch_views.items()}


def batch_rows(batch: int, batch_size: int) -> slice:
    """The rows of a planned (or stored) epoch that one of its batches takes."""
    return slice(batch * batch_size, (batch + 1) * batch_size)


def render_batch(pixels: torch.Tensor, plan: dict, batch: int, *, batch_size: int, mix_type: str,
                 mean, std, size: int) -> torch.Tensor:
    """The normalised, mixed views of one batch of a planned (or stored) epoch.

    Args:    pixels: (B, C, H, W) uint8, the batch's images in the plan's order, on any device;
             plan: as `plan_epoch`'s;  batch: which batch of the epoch.
    Returns: (B, C, size, size) float32 on the images' device, channels last in memory.
    """
    part = batch_rows(batch, batch_size)
    if "ops" in plan:
        pixels = apply_randaugment(pixels, **{name: plan[name][part] for name in RANDAUGMENT_DTYPES},
                                   fill=[round(255 * value) for value in mean])
    positions = sample_positions(plan["crop"][part].to(pixels.device), plan["flip"][part].to(pixels.device),
                                 size=size, side=pixels.shape[-1])
    views = torch.empty(len(pixels), pixels.shape[1], size, size, device=pixels.device,
                        memory_format=torch.channels_last)
    step = CACHED_IMAGES if pixels.device.type == "cpu" else len(pixels)
    for piece in (slice(start, start + step) for start in range(0, len(pixels), step)):
        views[piece] = resample(normalize(pixels[piece], mean, std), positions[:, piece])
    return mix_(views, mix_type=mix_type, partner=plan["mix_index"][part], box=plan["mix_box"][batch],
                lam=float(plan["mix_lam"][batch]))


@functools.lru_cache(maxsize=8)
def _per_channel(values: tuple, device: torch.device) -> torch.Tensor:
    """(1, C, 1, 1) on a device, made once: a copy for every batch would stop a GPU for every batch."""
    return torch.tensor(values, device=device).view(1, -1, 1, 1)


def normalize(pixels: torch.Tensor, mean, std) -> torch.Tensor:
    """(N, C, H, W) pixels in 0..255 as float32, minus mean, over std (both in 0..1)."""
    mean, std = (_per_channel(tuple(values), pixels.device) for values in (mean, std))
    return torch.div(pixels, 255).sub_(mean).div_(std)


def denormalize(images: torch.Tensor, mean, std) -> torch.Tensor:
    """The inverse of `normalize`, as float pixels in 0..255."""
    mean, std = (_per_channel(tuple(values), images.device) for values in (mean, std))
    return (images * std + mean) * 255


def pixel_bounds(mean, std) -> tuple[torch.Tensor, torch.Tensor]:
    """Least and greatest valid value of each channel in normalised space, (1, C, 1, 1) each."""
    mean, std = torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(std).view(1, -1, 1, 1)
    return -mean / std, (1 - mean) / std
