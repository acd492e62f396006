"""The views of relabel and validate, one an image: laws (`Views`), and what was drawn of them (`EpochViews`).

MIXES and OPERATIONS: the pieces that `--mix-type` and `--augment` choose; of `--crop`: utils/augment.py.
M images of a set, N views of an epoch, B views of a batch, C channels, H W pixels.  What was drawn is plain
tensors, so the same view can be rendered again bit for bit from what is stored.
"""
import dataclasses

import numpy
import torch

from utils.augment import CROPS, Resized
from utils.patch_shuffle import PatchShuffle
from utils.pieces import Options, choice, option
from utils.randaugment import ImageOperations, RandAugment
from utils.runtime import generator as seeded

# Images rendered at a time on a CPU: so few stay in its cache from one operation to the next.
CACHED_IMAGES = 8
VIEW_DTYPES = {"index": torch.int32, "crop": torch.int16, "flip": torch.bool, "mix_index": torch.int16,
               "mix_box": torch.int16, "mix_lam": torch.float32}
Drawn = tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]


# ---------------------------------------------------------------- mixes

@dataclasses.dataclass(frozen=True, kw_only=True)
class NoMix(Options):
    """Every image by itself."""

    def draw(self, lengths: list[int], size: int, generator: torch.Generator) -> Drawn:
        """What mixes an epoch's batches.

        Args:    lengths: of the batches;  size: side of the views [pixels].
        Returns: each batch's partners, positions in the batch;  boxes (batches, 4) int16 top, left, bottom,
                 right, end exclusive;  the own image's share (batches,).
        """
        partners = [torch.arange(length) for length in lengths]
        return partners, torch.zeros(len(lengths), 4, dtype=torch.int16), torch.ones(len(lengths))

    def apply_(self, images: torch.Tensor, partner: torch.Tensor, box: torch.Tensor,
               lam: float) -> torch.Tensor:
        """Mixes a batch in place.

        Args: images: (B, C, H, W);  partner: (B,) positions in the batch;  box: (4,);  lam: the own share.
        """
        return images


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixUp(NoMix):
    """Blends each image with its partner.   Source: Zhang et al. 2018; SRe2L."""

    mix_alpha: float = option(0.8, "Beta(alpha, alpha) of the mix", source="published recipe",
                              range="in [0.001, 1000]")

    def draw(self, lengths: list[int], size: int, generator: torch.Generator) -> Drawn:
        """As `NoMix.draw`: one permutation and one lambda ~ Beta(alpha, alpha) a batch."""
        partners = [torch.randperm(length, generator=generator) for length in lengths]
        lam = _sample_beta(self.mix_alpha, len(lengths), generator)
        return partners, torch.zeros(len(lengths), 4, dtype=torch.int16), lam

    def apply_(self, images: torch.Tensor, partner: torch.Tensor, box: torch.Tensor,
               lam: float) -> torch.Tensor:
        """As `NoMix.apply_`."""
        others = images[partner.long().to(images.device)]
        return images.mul_(lam).add_(others, alpha=1 - lam)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CutMix(MixUp):
    """Pastes one box of each image's partner.   Source: published recipe; Yun et al. 2019."""

    mix_alpha: float = option(1.0, "Beta(alpha, alpha) of the mix", source="published recipe",
                              range="in [0.001, 1000]")

    def draw(self, lengths: list[int], size: int, generator: torch.Generator) -> Drawn:
        """As `NoMix.draw`: one permutation, one lambda and its box a batch."""
        partners, _, lam = super().draw(lengths, size, generator)
        boxes = _sample_mix_boxes(lam, size, generator)
        return partners, boxes, 1 - (boxes[:, 2:] - boxes[:, :2]).float().prod(1) / size**2

    def apply_(self, images: torch.Tensor, partner: torch.Tensor, box: torch.Tensor,
               lam: float) -> torch.Tensor:
        """As `NoMix.apply_`."""
        top, left, bottom, right = (int(edge) for edge in box)
        inside = images[:, :, top:bottom, left:right]
        inside.copy_(inside[partner.long().to(images.device)])
        return images


MIXES: dict[str, type[NoMix]] = {"cutmix": CutMix, "mixup": MixUp, "none": NoMix}
OPERATIONS: dict[str, type[ImageOperations]] = {"none": ImageOperations, "randaugment": RandAugment,
                                                "patch-shuffle": PatchShuffle}


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


# ---------------------------------------------------------------- laws, and what is drawn of them

@dataclasses.dataclass(frozen=True, kw_only=True)
class Views(Options):
    """The laws of an epoch of views.   Source: published recipe."""

    size: int = option(224, "side of the views [pixels]", range="> 0")
    batch_size: int = option(50, "views a batch", range="> 0")
    min_scale: float = option(0.25, "least area fraction of a crop", range="in (0, 1]")
    flip: bool = option(True, "random horizontal flips")
    num_batches: int | None = option(None, "only so many batches of the shuffle; none: all",
                                    range="in [1, 1000000]")
    mix_type: NoMix = choice(MIXES, "cutmix", "how two images of a batch are mixed")
    crop: Resized = choice(CROPS, "resized", "how a view is cut from its image", neutral="resized")
    augment: ImageOperations = choice(OPERATIONS, "none", "of each image before its crop")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.augment.check(self.size)

    def num_views(self, num_images: int) -> int:
        """Views an epoch."""
        return min(num_images, (self.num_batches or num_images) * self.batch_size)

    def draw(self, num_images: int, generator: torch.Generator) -> "EpochViews":
        """Draws one epoch: a shuffle of the set cut into batches, the last one partial."""
        index = torch.randperm(num_images, generator=generator)[:self.num_views(num_images)]
        crop = self.crop.draw(len(index), size=self.size, min_scale=self.min_scale, generator=generator)
        flip = (torch.rand(len(index), generator=generator) < 0.5) & self.flip
        partners, boxes, lam = self.mix_type.draw([len(part) for part in index.split(self.batch_size)],
                                                  self.size, generator)
        return EpochViews(laws=self, index=index.int(), crop=crop, flip=flip, mix_box=boxes,
                          mix_index=torch.cat(partners).to(torch.int16), mix_lam=lam.float(),
                          operations=self.augment.draw(len(index), generator))

    def count(self, num_images: int) -> int:
        """The number of batches of an epoch of so many images."""
        return -(-self.num_views(num_images) // self.batch_size)

    def draw_labelled(self, num_images: int, *, seed: int, epoch: int) -> "EpochViews":
        """The views of one epoch of soft labels, the same for whoever asks."""
        return self.draw(num_images, seeded(seed, "labels", epoch))


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochViews:
    """One epoch of views.

    index (N,) int32;  crop (N, 4) int16 top, left, height, width;  flip (N,) bool;  mix_index (N,) int16,
    within its batch;  mix_box (batches, 4) int16;  mix_lam (batches,) float32, the share of an image's own
    pixels;  operations: the tensors of `laws.augment`, a row an image;  uneven: the batches' lengths where
    they are not the laws', every batch full and the last one partial.
    """

    laws: Views
    index: torch.Tensor
    crop: torch.Tensor
    flip: torch.Tensor
    mix_index: torch.Tensor
    mix_box: torch.Tensor
    mix_lam: torch.Tensor
    operations: dict[str, torch.Tensor]
    uneven: tuple[int, ...] = ()

    @classmethod
    def of(cls, laws: Views, tensors: dict[str, torch.Tensor], *,
           uneven: tuple[int, ...] = ()) -> "EpochViews":
        """The views that stored tensors hold; others among them are left."""
        return cls(laws=laws, uneven=uneven, **{name: tensors[name] for name in VIEW_DTYPES},
                   operations={name: tensors[name] for name in laws.augment.dtypes})

    def fits(self, num_images: int) -> bool:
        """Whether every view is one of so many images, and within them."""
        size, batches = self.laws.size, self.index.split(self.laws.batch_size)
        crop, box, lam = self.crop, self.mix_box.long(), self.mix_lam
        return (self.flip.shape == self.index.shape == self.mix_index.shape
                and crop.shape == (len(self.index), 4) and box.shape == (len(batches), 4)
                and lam.shape == (len(batches),)
                and bool(((self.index >= 0) & (self.index < num_images)).all())
                and self.laws.crop.fits(crop, size)
                and all(bool(((own >= 0) & (own < len(own))).all())
                        for own in self.mix_index.split(self.laws.batch_size))
                and bool((box >= 0).all() and (box <= size).all() and (box[:, :2] <= box[:, 2:]).all())
                and bool(((lam >= 0) & (lam <= 1)).all())
                and all(len(rows) == len(self.index) for rows in self.operations.values())
                and self.laws.augment.fits(self.operations))

    def tensors(self) -> dict[str, torch.Tensor]:
        """What is stored, by name."""
        return {name: getattr(self, name) for name in VIEW_DTYPES} | self.operations

    def __len__(self) -> int:
        """The number of batches."""
        return len(self.mix_box)

    def rows(self, batch: int) -> slice:
        """The rows of the epoch that one of its batches takes."""
        if not self.uneven:
            return slice(batch * self.laws.batch_size, (batch + 1) * self.laws.batch_size)
        start = sum(self.uneven[:batch])
        return slice(start, start + self.uneven[batch])

    def lengths(self) -> list[int]:
        """The number of images of every batch."""
        return list(self.uneven) or [len(part) for part in self.index.split(self.laws.batch_size)]

    def to(self, device: torch.device) -> "EpochViews":
        """What is read by the image on `device`, what is read by the batch on the CPU.

        One copy an epoch; `render` then waits for nothing.
        """
        moved = {name: getattr(self, name).to(device) for name in ("index", "crop", "flip", "mix_index")}
        return dataclasses.replace(self, **moved)

    def render(self, pixels: torch.Tensor, batch: int, *, mean: tuple[float, ...],
               std: tuple[float, ...]) -> torch.Tensor:
        """The normalised, mixed views of one batch.

        Args:    pixels: (B, C, H, W) uint8, the batch's images in the epoch's order, on any device.
        Returns: (B, C, size, size) float32 on the images' device, channels last in memory.
        """
        part, size, device = self.rows(batch), self.laws.size, pixels.device
        drawn = {name: tensor[part] for name, tensor in self.operations.items()}
        pixels = self.laws.augment.apply(pixels, drawn, fill=[round(255 * value) for value in mean])
        law = self.laws.crop
        positions = law.positions(self.crop[part].to(device), self.flip[part].to(device), size=size,
                                  side=pixels.shape[-1])
        views = torch.empty(len(pixels), pixels.shape[1], size, size, device=device,
                            memory_format=torch.channels_last)
        step = CACHED_IMAGES if device.type == "cpu" else len(pixels)
        for piece in (slice(start, start + step) for start in range(0, len(pixels), step)):
            views[piece] = law.render(pixels[piece], positions[:, piece], mean=mean, std=std)
        return self.laws.mix_type.apply_(views, self.mix_index[part], self.mix_box[batch],
                                         float(self.mix_lam[batch]))
