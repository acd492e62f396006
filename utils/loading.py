"""Images as tensors: kept whole in memory where a budget allows, else decoded by workers batch by batch.

Real sets to evaluate on, and distilled sets, checked file by file.
"""
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torchvision.transforms.functional as TF
from torch.utils.data import DataLoader, Dataset

from utils import interrupts
from utils.data import RealSet, count_classes, dataset_spec
from utils.files import sha256_bytes
from utils.formats import Entry, ImageManifest, run_path
from utils.pictures import decode_image, resize_and_crop
from utils.pieces import Values, require
from utils.records import Run, read_record
from utils.runtime import progress, say
from utils.unit_files import image_path

CPU = torch.device("cpu")
# Sets below this are decoded in this process: starting workers would take longer.
SMALL_BYTES = 1 << 28


def fits(num_images: int, size: int, *, device: torch.device, resident_gb: float) -> bool:
    """Whether so many images of `size` pixels may be kept decoded on a device."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_memory()
    return num_images * 3 * size**2 <= min(resident_gb * 1e9, free / 2)


def _free_memory() -> int:
    """Bytes of the machine's memory that nobody uses; without a way to ask, as if there were 8 GB."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 8 << 30


class _Loader(DataLoader[Any]):
    """A DataLoader whose workers leave signals to this process."""

    def __iter__(self):
        with interrupts.blocked():  # they are forked here
            return super().__iter__()


def _loader(dataset: Dataset[Any], *, workers: int, **how: Any) -> DataLoader[Any]:
    # fork: a set opens its files through a closure, which cannot be pickled to a fresh process.
    # A generator of its own: else every pass draws the workers' seed from the one that draws dropout.
    return _Loader(dataset, num_workers=workers, multiprocessing_context="fork" if workers else None,
                   generator=torch.Generator(), **{"pin_memory": torch.cuda.is_available(), **how})


def load_pixels(real_set: RealSet, *, workers: int = 0,
                device: torch.device = CPU) -> tuple[torch.Tensor, torch.Tensor]:
    """A whole set decoded, on the device: (N, 3, H, W) uint8 and (N,) int64 class indices.

    That is its only copy: the host holds a batch at a time of a set on another device.
    """
    num, size = len(real_set), real_set.size
    pixels = torch.empty(num, 3, size, size, dtype=torch.uint8, device=device)
    loader = _loader(real_set, workers=workers if pixels.nbytes > SMALL_BYTES else 0, batch_size=256,
                     pin_memory=False)
    for part, (batch, _) in zip(pixels.split(256), progress(loader, text="decode real images"), strict=True):
        part.copy_(batch)
    return pixels, torch.tensor(real_set.labels, device=device)


def read_batches(real_set: RealSet, parts: list[list[int]], *,
                 workers: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Images decoded batch by batch: (B, 3, H, W) uint8 and (B,) class indices.

    Args: parts: the positions of each batch;  workers: processes, of a set that is worth starting them.
    """
    small = sum(map(len, parts)) * 3 * real_set.size**2 <= SMALL_BYTES
    return iter(_loader(real_set, workers=0 if small else workers, batch_sampler=parts))


class EvaluationBatches:
    """Batches (pixels uint8, labels) of a real set: decoded once where the budget allows, else by workers.

    Args: batch_size: images a batch;  device: where they are kept;  resident_gb, workers: of `MemoryFlags`.
    """

    def __init__(self, real_set: RealSet, *, batch_size: int, device: torch.device, resident_gb: float,
                 workers: int):
        self._set, self._batch_size, self._workers, self._kept = real_set, batch_size, workers, None
        if fits(len(real_set), real_set.size, device=device, resident_gb=resident_gb):
            self._kept = load_pixels(real_set, workers=workers, device=device)

    def __iter__(self):
        if self._kept:
            return zip(*(part.split(self._batch_size) for part in self._kept), strict=True)
        return iter(_loader(self._set, workers=self._workers, batch_size=self._batch_size))


# ---------------------------------------------------------------- distilled images

def _read_checked(run: Path, entry: Entry) -> bytes:
    """The bytes of one distilled image, if they are those that were recorded."""
    path = run / entry.path
    if entry.foreign:
        content = path.read_bytes() if path.is_file() else b""
        require(sha256_bytes(content) == entry.sha256,
                f"{path}: changed or removed since this command began; run it again")
        return content
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing though its unit is finished; delete the unit's "
                                f"record in {run / 'units'} and rerun recover")
    content = path.read_bytes()
    if sha256_bytes(content) != entry.sha256:
        raise ValueError(f"{path}: its bytes are not those that recover wrote (truncated or changed); "
                         f"delete it and its unit's record in {run / 'units'}, and rerun recover")
    return content


def _decode_checked(run: Path, entry: Entry, size: int) -> torch.Tensor:
    """One distilled image, (3, size, size) uint8; others' of another size become as real images do."""
    decoded = decode_image(_read_checked(run, entry), name=run / entry.path)
    if entry.foreign and decoded.size != (size, size):
        return resize_and_crop(decoded, size)
    picture = TF.pil_to_tensor(decoded)
    if picture.shape != (3, size, size):
        raise ValueError(f"{run / entry.path}: expected {size} x {size} pixels, got "
                         f"{tuple(picture.shape[1:])}")
    return picture


def load_distilled(run: Path, entries: list[Entry], *, size: int,
                   device: torch.device = CPU) -> tuple[torch.Tensor, torch.Tensor]:
    """Decodes distilled images, checking each file against the sha256 that its unit recorded.

    Args:    entries: of `ImageManifest.select`;  size: side [pixels];  device: where the only copy lies.
    Returns: (N, 3, size, size) uint8 there, (N,) int64 class indices.
    Raises:  FileNotFoundError or ValueError naming a file missing, changed, damaged or, of ours, of another
             size.
    """
    pixels = torch.empty(len(entries), 3, size, size, dtype=torch.uint8, device=device)
    with ThreadPoolExecutor() as pool:
        decoded = pool.map(lambda entry: _decode_checked(run, entry, size), entries)
        for i, picture in enumerate(progress(decoded, total=len(entries), text="decode")):
            pixels[i] = picture
    return pixels, torch.tensor([entry.label for entry in entries])


class ResidentImages:
    """A set of M images decoded once, on the device: (M, 3, H, W) uint8."""

    def __init__(self, pixels: torch.Tensor):
        self._pixels, self.device = pixels, pixels.device

    def __len__(self):
        return len(self._pixels)

    def batches(self, index: torch.Tensor, batch_size: int | list[int]) -> Iterator[torch.Tensor]:
        """The images `index` (N,) in batches, (B, 3, H, W) uint8 on the device.

        Args: batch_size: B, or the B of every batch.
        """
        for part in index.long().to(self.device).split(batch_size):
            yield self._pixels.index_select(0, part)


class StreamedImages(Dataset[torch.Tensor]):
    """The same for a set above the budget: workers read, check and decode each batch anew."""

    def __init__(self, run: Path, entries: list[Entry], *, size: int, device: torch.device, workers: int):
        self._run, self._entries, self._size, self._workers = run, entries, size, workers
        self.device = device
        with ThreadPoolExecutor() as pool:  # damage is named now, not hours into training
            checks = pool.map(lambda entry: _read_checked(run, entry), entries)
            for _ in progress(checks, total=len(entries), text="check images"):
                pass

    def __len__(self):
        return len(self._entries)

    def __getitem__(self, i: int) -> torch.Tensor:
        return _decode_checked(self._run, self._entries[i], self._size)

    def batches(self, index: torch.Tensor, batch_size: int | list[int]) -> Iterator[torch.Tensor]:
        """As `ResidentImages.batches`."""
        parts = [part.tolist() for part in index.split(batch_size)]
        for pixels in _loader(self, workers=self._workers, batch_sampler=parts):
            yield pixels.to(self.device, non_blocking=True)


Images = ResidentImages | StreamedImages


def open_distilled(run: Path, entries: list[Entry], *, size: int, device: torch.device, resident_gb: float,
                   workers: int) -> Images:
    """The distilled set by the batch: kept on the device where the budget allows, else decoded by workers.

    Args:   as `load_distilled`;  resident_gb, workers: of `MemoryFlags`.
    Raises: as `load_distilled`, at once.
    """
    if fits(len(entries), size, device=device, resident_gb=resident_gb):
        return ResidentImages(load_distilled(run, entries, size=size, device=device)[0])
    say(f"{run}: {len(entries)} images are more than --resident-gb {resident_gb:g}, or half of the free "
        f"memory, holds; {workers} workers decode them")
    return StreamedImages(run, entries, size=size, device=device, workers=workers)


def planned_images(dataset: str, ipc: int, *, run_or_syn: str = "") -> ImageManifest:
    """What recover would write into a run, for a --dry-run before it is finished.

    Raises: ValueError when --ipc is not given, since no run says how many images there are.
    """
    run = run_path(run_or_syn)
    if ipc < 1:
        raise ValueError(f"{run}: there are no distilled images yet: a --dry-run then needs --ipc")
    saved: Values = {}
    if (run / "config.json").is_file():
        saved = dict(read_record(run / "config.json", Run, form="prism-images")["config"])
    dataset = dataset or saved.get("dataset", "imagenet-1k")
    spec, num_classes = dataset_spec(dataset), count_classes(dataset)
    names = [str(k) for k in range(num_classes)]
    return ImageManifest(
        run=run, dataset=dataset, class_names=names, ipc=ipc, size=saved.get("size", spec.size),
        mean=spec.mean, std=spec.std, stem=saved.get("stem", spec.stem),
        entries=tuple(Entry(image_path(name, i, "png"), "", k)
                      for k, name in enumerate(names) for i in range(ipc)))
