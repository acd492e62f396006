"""Crops, the shared view of recover, the resampler of the later stages, pixels and their statistics.

CROPS: name -> piece, which draws crops and renders one an image.
N views, B views in a batch, C channels, H W pixels.  Every draw comes from an explicit generator.
"""
import dataclasses
import functools
import math

import torch
import torch.nn.functional as F

from utils.pieces import Options, option

# Stored with the labels, which only readers with the same resampler may use.
RESAMPLER = "bilinear-grid-clamped/1"
# Scale and ratio laws of torchvision's RandomResizedCrop, ten attempts before the centred fallback.
RATIO, ATTEMPTS = (3 / 4, 4 / 3), 10


def sample_crops(num: int, *, size: int, min_scale: float | torch.Tensor,
                 generator: torch.Generator) -> torch.Tensor:
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

    boxes: list[list[int]]
    flips: list[bool]
    rolls: list[list[int]]


def plan_shared_views(num: int, *, size: int, min_scale: float | torch.Tensor, flip: bool, jitter: int,
                      generator: torch.Generator, crop: "Resized | None" = None) -> SharedViews:
    """Draws a crop, flip and circular shift per iteration, shared by the batch.   Source: SRe2L; prism.md 1.

    Args:
        num: T iterations;  size: side [pixels];  min_scale: float or (T,);
        flip: whether horizontal flips (p = 0.5) are drawn;  jitter: largest shift, inclusive [pixels];
        crop: the law of the boxes, none: `Resized`.
    """
    boxes = (crop or Resized()).draw(num, size=size, min_scale=min_scale, generator=generator)
    flips = (torch.rand(num, generator=generator) < 0.5) & flip
    rolls = torch.randint(0, jitter + 1, (num, 2), generator=generator)
    return SharedViews(boxes.tolist(), flips.tolist(), rolls.tolist())


def shared_view(images: torch.Tensor, views: SharedViews, step: int) -> torch.Tensor:
    """The batch under the view of iteration `step`: crop, resize, flip, then roll.

    Where a box leaves the images it finds zeros, the mean colour.   Source: G-VBSM on small images.
    Args:    images: (N, C, H, H) float, normalised.
    Returns: (N, C, H, H), differentiable in `images`.
    """
    size = images.shape[-1]
    top, left, height, width = views.boxes[step]
    outside = max(-top, -left, top + height - size, left + width - size)
    if outside > 0:
        images, top, left = F.pad(images, [outside] * 4), top + outside, left + outside
    view = images[:, :, top:top + height, left:left + width]
    view = F.interpolate(view, size=(size, size), mode="bilinear", align_corners=False)
    if views.flips[step]:
        view = view.flip(-1)
    return torch.roll(view, shifts=tuple(views.rolls[step]), dims=(2, 3))


# ---------------------------------------------------------------- the resampler of relabel and validate

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


def pick(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Each image's own rows and columns: (B, C, H, W), (B, h) and (B, w) int64 to (B, C, h, w)."""
    image = torch.arange(len(images), device=images.device)[:, None, None]
    return images[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@functools.lru_cache(maxsize=8)
def _per_channel(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """(1, C, 1, 1) on a device, made once: a copy for every batch would stop a GPU for every batch."""
    return torch.tensor(values, device=device).view(1, -1, 1, 1)


def normalize(pixels: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """(N, C, H, W) pixels in 0..255 as float32, minus mean, over std (both in 0..1)."""
    centre, spread = (_per_channel(tuple(values), pixels.device) for values in (mean, std))
    return torch.div(pixels, 255).sub_(centre).div_(spread)


def denormalize(images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """The inverse of `normalize`, as float pixels in 0..255."""
    centre, spread = (_per_channel(tuple(values), images.device) for values in (mean, std))
    return (images * spread + centre) * 255


def to_uint8(images: torch.Tensor, *, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Normalised images as uint8, truncated as the published recipe does.

    A thousandth of a grey level is added first, so that float rounding does not darken an unchanged pixel.
    """
    return (denormalize(images.cpu(), mean, std) + 1e-3).clamp(0, 255).to(torch.uint8)


def pixel_bounds(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Least and greatest valid value of each channel in normalised space, (1, C, 1, 1) each."""
    centre, spread = torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(std).view(1, -1, 1, 1)
    return -centre / spread, (1 - centre) / spread


# ---------------------------------------------------------------- crops as pieces

@dataclasses.dataclass(frozen=True, kw_only=True)
class Resized(Options):
    """A box of random area and ratio, resized to the view.   Source: published recipe; RandomResizedCrop."""

    def draw(self, num: int, *, size: int, min_scale: float | torch.Tensor,
             generator: torch.Generator) -> torch.Tensor:
        """Boxes (N, 4) int16 top, left, height, width of images with `size` a side.

        Args: min_scale: least area fraction of a box, a float or (N,).
        """
        return sample_crops(num, size=size, min_scale=min_scale, generator=generator)

    def fits(self, crop: torch.Tensor, size: int) -> bool:
        """Whether all of these boxes (N, 4) can have been drawn."""
        corner, sides = crop.long().split(2, 1)
        return bool((corner >= 0).all() and (sides > 0).all() and (corner + sides <= size).all())

    def positions(self, crop: torch.Tensor, flip: torch.Tensor, *, size: int, side: int) -> torch.Tensor:
        """Where the views' columns and rows lie in their images, (2, B, size).   Args: `sample_positions`."""
        return sample_positions(crop, flip, size=size, side=side)

    def render(self, pixels: torch.Tensor, positions: torch.Tensor, *, mean: tuple[float, ...],
               std: tuple[float, ...]) -> torch.Tensor:
        """The normalised views (B, C, size, size) of (B, C, H, H) pixels in 0..255, at `positions`."""
        return resample(normalize(pixels, mean, std), positions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Padded(Resized):
    """A shifted image, black where the shift leaves it: no pixel is resampled.

    Source: torchvision RandomCrop(size, padding=p), zeros before normalising; SRe2L on CIFAR-100 and G-VBSM
    on small data (baselines.md 13.1, 14).
    """

    crop_padding: int = option(4, "largest shift, in each direction [pixels]; there is no --min-scale-crops",
                               source="SRe2L on CIFAR-100", range="in [1, 1024]")

    def draw(self, num: int, *, size: int, min_scale: float | torch.Tensor,
             generator: torch.Generator) -> torch.Tensor:
        """As `Resized.draw`: top and left uniform in -crop_padding..crop_padding, all of one size."""
        corner = torch.randint(-self.crop_padding, self.crop_padding + 1, (num, 2), generator=generator)
        return torch.cat([corner, torch.full((num, 2), size)], 1).to(torch.int16)

    def fits(self, crop: torch.Tensor, size: int) -> bool:
        """As `Resized.fits`."""
        corner, sides = crop.long().split(2, 1)
        return bool((corner.abs() <= self.crop_padding).all() and (sides == size).all())

    def positions(self, crop: torch.Tensor, flip: torch.Tensor, *, size: int, side: int) -> torch.Tensor:
        """As `Resized.positions`, int64, in the padded images."""
        place = torch.arange(size, device=crop.device)
        top, left = (crop[:, :2].long() + self.crop_padding).split(1, 1)
        return torch.stack([left + torch.where(flip[:, None], size - 1 - place, place), top + place])

    def render(self, pixels: torch.Tensor, positions: torch.Tensor, *, mean: tuple[float, ...],
               std: tuple[float, ...]) -> torch.Tensor:
        """As `Resized.render`."""
        columns, rows = positions
        return normalize(pick(F.pad(pixels, [self.crop_padding] * 4), rows, columns), mean, std)


CROPS: dict[str, type[Resized]] = {"resized": Resized, "padded": Padded}
