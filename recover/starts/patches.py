"""Starts that are put together from crops of real photographs, those that networks rank first."""
import dataclasses
import functools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from PIL import Image
from torch import nn

from recover.selection import Pool
from recover.starts.observed import BATCH, copies, cross_entropies, in_threads, mean_logits
from recover.starts.start import Start
from recover.units import Inputs, Unit
from utils.augment import ATTEMPTS, normalize
from utils.data import RealSet
from utils.pieces import option, require
from utils.runtime import generator, progress

Box = tuple[int, int, int]  # top, left, side [pixels]
Patch = tuple[int, Box | None]  # position in the real set, and the crop of it; none: its test view


def square_boxes(width: int, height: int, uniform: torch.Tensor, *, least_area: float) -> list[Box]:
    """Square crops of a photograph after RandomResizedCrop's law, with the ratio exactly 1.

    The first of ten sides that fits, else the central square of the short side.   Source: torchvision.
    Args: uniform: (N, 10, 3) in [0, 1), for area, top and left;  least_area: fraction of the photograph's.
    """
    side = (width * height * (least_area + (1 - least_area) * uniform[..., 0])).sqrt().round()
    short = min(width, height)
    fits = (side > 0) & (side <= short)
    boxes = []
    for own, fit, draw in zip(side.tolist(), fits.tolist(), uniform.tolist(), strict=True):
        if True not in fit:
            boxes.append(((height - short) // 2, (width - short) // 2, short))
            continue
        first = fit.index(True)
        chosen, (_, down, right) = int(own[first]), draw[first]
        boxes.append((int(down * (height - chosen + 1)), int(right * (width - chosen + 1)), chosen))
    return boxes


def cut(picture: Image.Image, box: Box, side: int) -> torch.Tensor:
    """A crop of a picture, resized (bilinear, antialiased): (3, side, side) uint8."""
    top, left, own = box
    crop = TF.resized_crop(picture, top, left, own, own, [side, side], antialias=True)
    return TF.pil_to_tensor(crop)


def centred(images: torch.Tensor, size: int) -> torch.Tensor:
    """Normalised images in the middle of zeros, the mean colour: (N, 3, H, H) to (N, 3, size, size)."""
    before = (size - images.shape[-1]) // 2
    after = size - images.shape[-1] - before
    return F.pad(images, (before, after, before, after))


def tiled(pieces: torch.Tensor, factor: int) -> torch.Tensor:
    """(N * factor^2, 3, h, h) to (N, 3, factor h, factor h): an image's pieces row by row."""
    rows = pieces.unflatten(0, (-1, factor, factor))
    return rows.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patches(Start):
    """Base of mosaics: of each of a class's candidates the crop of least cross-entropy, these in an order.

    A crop is of the photograph as it is stored, not of its test view, and is scored in the middle of the mean
    colour.  Image j of n is of the ranks j, n + j, 2 n + j, ..., row by row.   Source: RDED;
    baselines.md 8.1.
    """

    candidates: int = option(300, "photographs of a class that are looked at, drawn by (seed, class)",
                             source="RDED", range="in [1, 1000000]")
    crops: int = option(5, "crops of each, of which the best counts", source="RDED", range="in [1, 1000]")
    least_area: float = option(0.08, "least area fraction of a crop", source="RDED", range="in (0, 1]")
    factor: int = option(2, "crops along a side of an image: 2 at 224 px, 1 up to 64 px", source="RDED",
                         range="in [1, 16]")

    @property
    def side(self) -> int:
        """How many pieces stand along a side of an image."""
        return max(1, self.factor)

    @property
    def whole_set(self) -> bool:  # type: ignore[override]
        """Which ranks an image is of depends on the IPC, where it is of several."""
        return self.side > 1

    def networks(self, pool: Pool) -> tuple[str, ...]:
        return pool.names[:1]

    def looks(self, num: int) -> int:
        return min(self.candidates, num) * self.crops

    def candidates_of(self, real: RealSet, k: int, seed: int) -> list[int]:
        """The positions of a class's photographs that are looked at, in file order."""
        own = real.by_class[k]
        drawn = torch.randperm(len(own), generator=generator(seed, "candidates", k))[:self.candidates]
        return [own[i] for i in drawn.sort().values.tolist()]

    def available(self, real: RealSet, k: int) -> float:
        """As `Start.available`: a photograph a piece.   Raises: ValueError if pieces do not fill a side."""
        require(real.size % self.side == 0,
                f"--factor {self.factor}: --size {real.size} is no multiple of it")
        return min(self.candidates, len(real.by_class[k])) // self.side**2

    def positions(self, real: RealSet, unit: Unit, seed: int) -> list[int]:
        """As `Start.positions`: all candidates of its classes."""
        return [i for k in dict.fromkeys(unit.classes) for i in self.candidates_of(real, k, seed)]

    def order(self, scores: torch.Tensor) -> list[int]:
        """The candidates' places by rank.   Args: scores: (N,) cross-entropies, in file order."""
        raise NotImplementedError

    def patches(self, inputs: Inputs, networks: Sequence[nn.Module],
                k: int) -> tuple[list[Patch], torch.Tensor]:
        """A class's candidates in file order, and their cross-entropies (N,) float64."""
        positions, side = self.candidates_of(inputs.real, k, inputs.seed), inputs.size // self.side
        uniform = torch.rand(len(positions), self.crops, ATTEMPTS, 3, dtype=torch.float64,
                             generator=generator(inputs.seed, "crops", k))

        def crops_of(n: int) -> tuple[list[Box], torch.Tensor]:
            picture = inputs.real.picture(positions[n])
            boxes = square_boxes(*picture.size, uniform[n], least_area=self.least_area)
            return boxes, torch.stack([cut(picture, box, side) for box in boxes])
        found: list[Patch] = []
        scores = []
        for part in torch.arange(len(positions)).split(max(1, BATCH // self.crops)):
            boxes, pixels = zip(*in_threads(crops_of, part.tolist()), strict=True)
            views = centred(normalize(torch.cat(pixels), inputs.mean, inputs.std), inputs.size)
            seen = cross_entropies(mean_logits(networks, views, inputs.device), k).view(len(part), -1)
            best = seen.argmin(1)  # of equals the first
            scores.append(seen.gather(1, best[:, None]).squeeze(1))
            found += [(positions[n], own[b]) for n, own, b in zip(part, boxes, best, strict=True)]
        return found, torch.cat(scores)

    def prepare(self, inputs: Inputs) -> Callable[[Unit], torch.Tensor]:
        """As `Start.prepare`; of a class is kept which crops, not their pixels."""
        networks, num = copies(inputs, self.networks(inputs.pool)), self.side**2

        @functools.cache
        def ranked(k: int) -> list[Patch]:
            patches, scores = self.patches(inputs, networks, k)
            return [patches[n] for n in self.order(scores)]

        def pixels_of(patch: Patch) -> torch.Tensor:
            position, box = patch
            return inputs.real[position][0] if box is None else \
                cut(inputs.real.picture(position), box, inputs.size // self.side)

        def start(unit: Unit) -> torch.Tensor:
            own = {k: ranked(k) for k in progress(dict.fromkeys(unit.classes), text="score real images")}
            images = {k: min(inputs.ipc, len(own[k]) // num) for k in own}
            pieces = in_threads(pixels_of, [own[k][i + tile * images[k]] for i, k in unit.members
                                            for tile in range(num)])
            return normalize(tiled(torch.stack(pieces), self.side), inputs.mean, inputs.std)
        return start
