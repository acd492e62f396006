"""Images as tensors: whole real sets, batches to evaluate on, and distilled sets checked file by file."""
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torchvision.transforms.functional as TF
from torch.utils.data import DataLoader, Dataset

from utils.data import RealSet, count_classes, dataset_spec, decode_image
from utils.files import sha256_bytes
from utils.runtime import progress

# A decoded real set up to this size stays in memory; above, workers decode it at every evaluation.
RESIDENT_BYTES = 2 << 30


def load_pixels(real_set: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """A whole set decoded: (N, 3, H, W) uint8 and (N,) int64 class indices."""
    batches = list(DataLoader(real_set, batch_size=256))
    return torch.cat([pixels for pixels, _ in batches]), torch.cat([labels for _, labels in batches])


class EvaluationBatches:
    """Batches (pixels uint8, labels) of a real set: decoded once when they fit memory, else by workers.

    Args: batch_size: images a batch;  workers: decoding processes for a set too large to keep.
    """

    def __init__(self, real_set: RealSet, *, batch_size: int, workers: int):
        self._set, self._batch_size, self._workers = real_set, batch_size, workers
        self._kept = load_pixels(real_set) if len(real_set) * 3 * real_set.size**2 <= RESIDENT_BYTES else None

    def __iter__(self):
        if self._kept:
            return zip(*(part.split(self._batch_size) for part in self._kept), strict=True)
        # fork: a set opens its files through a closure, which cannot be pickled to a fresh process.
        return iter(DataLoader(self._set, batch_size=self._batch_size, num_workers=self._workers,
                               multiprocessing_context="fork" if self._workers else None))


def _decode_checked(run: Path, path: str, digest: str, size: int) -> torch.Tensor:
    """One distilled image, (3, size, size) uint8, if its bytes are those that its unit recorded."""
    if not (run / path).is_file():
        raise FileNotFoundError(f"{run / path} is missing though its unit is finished; delete the unit's "
                                f"record in {run / 'units'} and rerun recover")
    content = (run / path).read_bytes()
    if sha256_bytes(content) != digest:
        raise ValueError(f"{run / path}: its bytes are not those that recover wrote (truncated or changed); "
                         f"delete it and its unit's record in {run / 'units'}, and rerun recover")
    picture = TF.pil_to_tensor(decode_image(content))
    if picture.shape != (3, size, size):
        raise ValueError(f"{run / path}: expected {size} x {size} pixels, got {tuple(picture.shape[1:])}")
    return picture


def load_distilled(run: Path, entries: list, *, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Decodes distilled images, checking each file against the sha256 that its unit recorded.

    Args:    entries: (path, sha256, class index) as `formats.select_images` lists them;  size: side [pixels].
    Returns: (N, 3, size, size) uint8, (N,) int64 class indices.
    Raises:  FileNotFoundError or ValueError naming a file missing, changed, damaged or of another size.
    """
    pixels = torch.empty(len(entries), 3, size, size, dtype=torch.uint8)
    with ThreadPoolExecutor() as pool:
        decoded = pool.map(lambda entry: _decode_checked(run, *entry[:2], size), entries)
        for i, picture in enumerate(progress(decoded, total=len(entries), text="decode")):
            pixels[i] = picture
    return pixels, torch.tensor([label for _, _, label in entries])


def planned_images(dataset: str, ipc: int) -> tuple[dict, list]:
    """What recover would write, for a --dry-run before there are images: a manifest's fields, and entries.

    Raises: ValueError when --ipc is not given, since no run says how many images there are.
    """
    if ipc < 1:
        raise ValueError("there are no distilled images yet: a --dry-run then needs --ipc")
    dataset = dataset or "imagenet-1k"
    spec, num_classes = dataset_spec(dataset), count_classes(dataset)
    manifest = {"dataset": dataset, "class_names": [str(k) for k in range(num_classes)], "ipc": ipc,
                "size": spec.size, "mean": spec.mean, "std": spec.std, "config": {"stem": spec.stem}}
    return manifest, [("", "", k) for k in range(num_classes) for _ in range(ipc)]
