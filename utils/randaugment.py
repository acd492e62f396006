"""RandAugment on whole batches, planned before it is rendered: timm's `rand-m6-n2-mstd1.0`, DELT's protocol.

Other strengths: `--magnitude` (m) and `--operations` (n).

The draws are plain tensors, so the same views can be rendered again bit for bit.  Each operation is Pillow's:
colour exactly; geometry but for one grey level in about 0.1 % of the values (ties in its truncation).
N images planned, B in a batch, M of them under one operation; n operations an image, H W pixels, 3 channels.

    images = apply_randaugment(images, **plan_randaugment(len(images), generator=gen), fill=(124, 116, 104))
"""
import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F

from utils.pieces import Options, option

PROBABILITY = 0.5
RANDAUGMENT_DTYPES = {"ops": torch.int8, "levels": torch.float32, "bicubic": torch.bool}  # of a stored plan
# Largest translation, share of the side.   Source: timm's `rand` set, whose translations are relative: the
# `translate_const` of 117 px that DELT passes is read by none of its operations.
TRANSLATION = 0.45


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageOperations(Options):
    """What is done to each image before its crop: nothing."""

    dtypes: ClassVar[dict[str, torch.dtype]] = {}

    def draw(self, num: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """What is drawn for `num` images, and stored with their views: `dtypes`, a row an image."""
        return {}

    def apply(self, pixels: torch.Tensor, drawn: dict[str, torch.Tensor], *, fill: list[int]) -> torch.Tensor:
        """The images (B, 3, H, W) uint8 under their rows of a draw.   Args: fill: 3 grey levels."""
        return pixels

    def check(self, size: int) -> None:
        """Raises: ValueError where images of that side [pixels] cannot be changed so."""

    def fits(self, drawn: dict[str, torch.Tensor]) -> bool:
        """Whether stored tensors, a row an image, can have been drawn."""
        return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandAugment(ImageOperations):
    """timm's rand-m6-n2-mstd1.0, or other strengths of it.   Source: DELT (baselines.md 11)."""

    dtypes: ClassVar[dict[str, torch.dtype]] = RANDAUGMENT_DTYPES
    magnitude: float = option(6.0, "mean level of an operation, of 10", source="DELT", range="in [0, 10]",
                              neutral=6.0)
    operations: int = option(2, "operations an image, each applied with p = 0.5", source="DELT",
                             range="in [1, 15]", neutral=2)

    def draw(self, num: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """As `ImageOperations.draw`."""
        return plan_randaugment(num, num_ops=self.operations, magnitude=self.magnitude, generator=generator)

    def fits(self, drawn: dict[str, torch.Tensor]) -> bool:
        """As `ImageOperations.fits`."""
        return all(rows.shape[1:] == (self.operations,) for rows in drawn.values())

    def apply(self, pixels: torch.Tensor, drawn: dict[str, torch.Tensor], *, fill: list[int]) -> torch.Tensor:
        """As `ImageOperations.apply`."""
        return apply_randaugment(pixels, **drawn, fill=fill)


def plan_randaugment(num: int, *, num_ops: int = 2, magnitude: float = 6.0, magnitude_std: float = 1.0,
                     generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Draws operations with replacement, each applied with p = 0.5, at a level of its own.

    Source: published recipe; timm rand-m6-n2-mstd1.0, DELT.
    Args:
        num: N images;  num_ops: n;  magnitude, magnitude_std: of the levels' normal law, clipped to 0..10.
    Returns: ops (N, n) int8, index into OPERATIONS, -1 where not applied;  levels (N, n) float32, negative
             for a geometric operation's other direction;  bicubic (N, n) bool, p = 0.5, else bilinear.
    """
    shape = (num, num_ops)
    ops = torch.randint(len(OPERATIONS), shape, generator=generator)
    levels = (magnitude + magnitude_std * torch.randn(shape, generator=generator)).clamp(0, 10)
    applied, opposite, bicubic = torch.rand(3, *shape, generator=generator) < PROBABILITY
    return {"ops": torch.where(applied, ops, -1).to(torch.int8),
            "levels": torch.where(opposite & (ops >= len(COLOUR)), -levels, levels), "bicubic": bicubic}


def apply_randaugment(pixels: torch.Tensor, ops: torch.Tensor, levels: torch.Tensor, bicubic: torch.Tensor, *,
                      fill: Sequence[int]) -> torch.Tensor:
    """Renders each image's planned operations in turn; all images under one operation at once.

    Args:    pixels: (B, 3, H, W) uint8, on any device, which is never waited for;
             ops, levels, bicubic: (B, n), rows of a plan, on the CPU;
             fill: 3 grey levels for what a geometric operation brings in (timm: the data's mean).
    Returns: (B, 3, H, W) uint8, a new tensor.
    """
    images = pixels.clone(memory_format=torch.contiguous_format)
    for op, strength, cubic in zip(ops.T, levels.T.double() / 10, bicubic.T, strict=True):
        for index, recolour in enumerate(COLOUR.values()):
            rows = (op == index).nonzero()[:, 0]
            if len(rows):
                at = _send(rows, images)
                images[at] = recolour(images[at], _send(strength[rows], images).view(-1, 1, 1, 1))
        rows = (op >= len(COLOUR)).nonzero()[:, 0]
        if len(rows):
            at, matrix = _send(rows, images), _matrices(op[rows], strength[rows], images.shape)
            images[at] = _warp(images[at], _send(matrix, images), _send(cubic[rows], images), fill=fill)
    return images


def _send(values, images):
    """CPU values to the images' device, without waiting for what it still has to do."""
    return values.to(images.device, non_blocking=True)


# ----------------------------------------- colour: images (M, 3, H, W), strength (M, 1, 1, 1) = level / 10

def _autocontrast(images, _):
    low, high = images.amin((2, 3), True).double(), images.amax((2, 3), True).double()
    scale = torch.full_like(high, 255) / (high - low)
    return torch.where(high > low, (images * scale - low * scale).clamp(0, 255), images).to(torch.uint8)


def _equalize(images, _):
    values = images.flatten(2)
    darker = torch.searchsorted(values.sort(2).values, values)  # by rank: how many values of the channel are
    step = (values < values.amax(2, True)).sum(2, True) // 255
    equal = ((darker + step // 2) // step.clamp(min=1)).clamp(max=255)
    return torch.where(step > 0, equal, values).to(torch.uint8).view_as(images)


def _posterize(images, strength):
    return images & (256 - 2 ** (8 - (strength * 4).int())).to(torch.uint8)    # below 2.5 no bits: black


def _solarize(images, strength):
    return torch.where(images < (strength * 256).int(), images, 255 - images)


def _solarize_add(images, strength):
    lighter = (images + (strength * 110).int()).clamp(max=255)
    return torch.where(images < 128, lighter, images).to(torch.uint8)


def _blend(other, images, strength):
    """From `other` towards the images (at strength 1/2) and beyond; truncated, as Pillow's enhancers are."""
    factor = (strength * 1.8 + 0.1).float()
    return (other + factor * (images.float() - other)).clamp(0, 255).to(torch.uint8)


def _grey(images):
    red, green, blue = images.int().split(1, 1)
    return (19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16    # Pillow's fixed point


def _grey_mean(images):
    return (_grey(images).double().mean((2, 3), True) + 0.5).floor().float()


def _smooth(images):
    """Pillow's SMOOTH: 3 x 3 ones with a 5 at the centre, over 13; the border stays as it is."""
    smooth = images.float()
    inner = 9 * F.avg_pool2d(smooth, 3, stride=1) + 4 * smooth[..., 1:-1, 1:-1]
    smooth[..., 1:-1, 1:-1] = (inner / 13 + 0.5).floor()
    return smooth


COLOUR = {
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
    "Invert": lambda images, _: 255 - images,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "Color": lambda images, strength: _blend(_grey(images), images, strength),
    "Contrast": lambda images, strength: _blend(_grey_mean(images), images, strength),
    "Brightness": lambda images, strength: _blend(0, images, strength),
    "Sharpness": lambda images, strength: _blend(_smooth(images), images, strength),
}


# ----------------------------------------- geometry: output pixel (x, y) shows (a x + b y + c, d x + e y + f)

def _rotation(strength, height, width):
    angle = math.radians(30 * strength)                                 # counterclockwise, about the centre
    cos, sin, x, y = math.cos(angle), math.sin(angle), width / 2, height / 2
    return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y


GEOMETRIC = {
    "Rotate": _rotation,
    "ShearX": lambda strength, height, width: (1, 0.3 * strength, 0, 0, 1, 0),
    "ShearY": lambda strength, height, width: (1, 0, 0, 0.3 * strength, 1, 0),
    "TranslateX": lambda strength, height, width: (1, 0, TRANSLATION * strength * width, 0, 1, 0),
    "TranslateY": lambda strength, height, width: (1, 0, 0, 0, 1, TRANSLATION * strength * height),
}
OPERATIONS = (*COLOUR, *GEOMETRIC)


def _matrices(op, strength, shape):
    rows = [GEOMETRIC[OPERATIONS[index]](value, *shape[2:])
            for index, value in zip(op.tolist(), strength.tolist(), strict=True)]
    return torch.tensor(rows, dtype=torch.float64)                      # (M, 6)


def _warp(images, matrix, bicubic, *, fill):
    """Each image at the source positions of its matrix (M, 6); `fill` where these are outside of it."""
    height, width = images.shape[2:]
    x = torch.arange(width, device=images.device, dtype=torch.float64) + 0.5
    y = (torch.arange(height, device=images.device, dtype=torch.float64) + 0.5)[:, None]
    a, b, c, d, e, f = matrix[:, :, None, None].unbind(1)
    x, y = a * x + b * y + c, d * x + e * y + f                         # (M, H, W)
    (columns, across), (rows, down) = _taps(x, width, bicubic), _taps(y, height, bicubic)
    values, total = images.flatten(2).float(), 2e-4                     # Pillow truncates: above our rounding
    for row, weight in zip(rows, down, strict=True):
        for column, share in zip(columns, across, strict=True):
            index = (row * width + column).flatten(1)[:, None].expand(-1, 3, -1)
            total = total + (weight * share)[:, None] * values.gather(2, index).view_as(images)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    outside = _send(torch.tensor(fill, dtype=torch.uint8), images).view(3, 1, 1)
    return torch.where(inside[:, None], torch.as_tensor(total).clamp(0, 255).to(torch.uint8), outside)


def _taps(position, size, bicubic):
    """Each position's four neighbours along an axis and their weights: Pillow's cubic (a = -1), or linear."""
    first = (position - 0.5).floor()
    t = (position - 0.5 - first).float()
    linear = torch.stack([0 * t, 1 - t, t, 0 * t])
    cubic = torch.stack([t * (t * (2 - t) - 1), 1 + t * t * (t - 2), t * (1 + t * (1 - t)), t * t * (t - 1)])
    weights = torch.where(bicubic[:, None, None], cubic, linear)
    return [(first + k).clamp(0, size - 1).long() for k in (-1, 0, 1, 2)], weights
