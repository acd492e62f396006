"""Real data sets and image files: what a preset changes, how files are decoded, how sets become tensors.

DATASETS: name -> DatasetSpec.  `folder:PATH` is any folder with train/ and val/ or test/, a folder a class.
"""
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
import torchvision
import torchvision.transforms.functional as TF
from PIL import Image
from torch.utils.data import Dataset

from utils.pieces import Options, Values, option, require

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff", ".pgm")
Split = tuple[list[str], list[int], Callable[[int], Image.Image]]


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """What changes with the data: K classes, side [pixels], flip, jitter [pixels], file format, statistics.

    `open_split(root, split)`: (class names, labels, open(i) -> RGB picture); None means a folder a class.
    """

    num_classes: int | None = None
    size: int = 224
    flip: bool = True
    jitter: int = 32
    image_format: str = "jpg"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    stem: str = "imagenet"
    open_split: Callable[[str, str], Split] | None = None

    def preset(self, size: int | None = None) -> Values:
        """The config fields that this data set implies, for `parse_config`.

        Another `size` than the data set's own changes what goes with it: jitter 32 above 64 pixels, 4 from
        32, 2 below; up to 64 pixels the small stem; below 64 PNG.
        """
        names = ("size", "flip", "jitter", "image_format", "mean", "std", "stem")
        fields = {name: getattr(self, name) for name in names}
        if size not in (None, self.size):
            small = size <= 64
            fields |= {"size": size, "jitter": 32 if not small else 4 if size >= 32 else 2,
                       "stem": "small" if small else "imagenet",
                       "image_format": "png" if size < 64 else "jpg"}
        return fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataFlags(Options):
    """What the commands take that read real training images; the defaults shown are ImageNet-1K's."""

    dataset: str = option("imagenet-1k", "data set, or folder:PATH")
    train_data_path: str = option("", "folder of the real training data (holding train/, or the classes)",
                                  identity=False)
    size: int = option(224, "side of the images [pixels]", source="data set, here ImageNet-1K", range=">= 8")
    flip: bool = option(True, "random horizontal flips", source="data set, here ImageNet-1K")
    mean: tuple[float, ...] = option(IMAGENET_MEAN, "pixel mean, in 0..1",
                                     source="data set, here ImageNet-1K", range="in (-inf, inf)")
    std: tuple[float, ...] = option(IMAGENET_STD, "pixel standard deviation", range="> 0",
                                    source="data set, here ImageNet-1K")
    stem: Literal["imagenet", "small"] = option(
        "imagenet", "first layers: as published, or 3x3 without pooling", source="data set, here ImageNet-1K")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.mean) == len(self.std) == 3,
                f"--mean and --std take three values, got {self.mean} and {self.std}")
        dataset_spec(self.dataset)


# ---------------------------------------------------------------- files

def decode_image(source: str | Path | bytes) -> Image.Image:
    """Decodes one file to an RGB picture: grey, palette and CMYK converted, alpha dropped, EXIF ignored.

    16-bit grey is scaled to 8 bits; Pillow's own conversion clips it.   Source: torchvision's ImageFolder.
    Args:   source: a path, or the file's bytes.
    Raises: ValueError naming the file when it is no whole image.
    """
    name = "image" if isinstance(source, bytes) else source
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
            picture.load()
            if picture.mode.startswith("I"):
                grey = numpy.asarray(picture, dtype=numpy.int64)
                picture = Image.fromarray((grey // 257).clip(0, 255).astype(numpy.uint8))
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{name}: not a readable image ({error}); replace or delete it") from error


def encode_image(pixels: torch.Tensor, *, image_format: str, jpeg_quality: int) -> bytes:
    """(3, H, W) uint8 as a file's bytes: PNG, or JPEG with Pillow's 4:2:0.   Source: published recipe."""
    file, picture = io.BytesIO(), Image.fromarray(pixels.permute(1, 2, 0).numpy())
    if image_format == "png":
        picture.save(file, "PNG")
    else:
        picture.save(file, "JPEG", quality=jpeg_quality)
    return file.getvalue()


def predicted_bytes(num_images: int, *, size: int, image_format: str, jpeg_quality: int) -> int:
    """Expected size of the images on disk: PNG of noisy images is near raw; JPEG 0.26 to 1.3 bytes a pixel.

    Source: ecosystem.md 6F measured 10 to 13 kB at 224 px, quality 75, and up to 65 kB at quality 95.
    """
    per_pixel = 3.0 if image_format == "png" else 0.3 if jpeg_quality <= 75 else 1.3
    return int(num_images * size * size * per_pixel)


def resize_and_crop(picture: Image.Image, size: int) -> torch.Tensor:
    """Short side to size // 7 * 8, centre crop to size: (3, size, size) uint8.   Source: prism.md 1 and 3.

    256 and 224 for ImageNet, 72 and 64 for Tiny-ImageNet, 32 and 32 for CIFAR.
    """
    picture = TF.center_crop(TF.resize(picture, max(size, size // 7 * 8), antialias=True), [size, size])
    return TF.pil_to_tensor(picture)


# ---------------------------------------------------------------- the splits of each data set

def _folder_split(folder: Path) -> Split:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    files, labels = [], []
    for label, name in enumerate(names):
        found = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in EXTENSIONS)
        files += found
        labels += [label] * len(found)
    return names, labels, lambda i: decode_image(files[i])


def _imagefolder(root: str, split: str, *, bare: bool = True) -> Split:
    """A folder a class, below root/train, root/val or root/test, or root itself when it has none of these."""
    base = Path(root)
    if not root or not base.is_dir():
        raise ValueError(f"{root or 'no data folder given'}: expected a folder of class folders; "
                         f"pass --train-data-path / --val-dir, or set IMAGENET for the .sh scripts")
    wanted = ("train",) if split == "train" else ("val", "test")
    candidates = [base / name for name in wanted if (base / name).is_dir()]
    if not (candidates or bare):
        raise ValueError(f"{root}: expected {' or '.join(f'{name}/' for name in wanted)} in it; the training "
                         f"images are no test set, so name the test data with --val-dir")
    folder = candidates[0] if candidates else base
    if (folder / "val_annotations.txt").is_file():
        return _tiny_imagenet_val(folder)
    names, labels, opener = _folder_split(folder)
    if not labels:
        raise ValueError(f"{folder}: no images found; expected a folder a class with image files in it")
    present = set(labels)
    empty = [name for label, name in enumerate(names) if label not in present]
    if empty:
        raise ValueError(f"{folder}: class folder {empty[0]!r} holds no image ({len(empty)} such); "
                         f"fill or remove it")
    return names, labels, opener


def _tiny_imagenet_val(folder: Path) -> Split:
    """Tiny-ImageNet's val/ has no class folders but a list of (file, class): read as it is shipped."""
    rows = [line.split("\t") for line in (folder / "val_annotations.txt").read_text().splitlines() if line]
    names = sorted({row[1] for row in rows})
    files = [folder / "images" / row[0] for row in rows]
    return names, [names.index(row[1]) for row in rows], lambda i: decode_image(files[i])


def _cifar(cls: Any, root: str, split: str) -> Split:
    """torchvision's own CIFAR reader and download, unless `root` is an ImageFolder."""
    if root and any((Path(root) / name).is_dir() for name in ("train", "test", "val")):
        return _imagefolder(root, split)
    try:
        stored = cls(root or "data", train=split == "train", download=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{root or 'data'}: {cls.__name__} is not there and cannot be downloaded ({error}); "
                         f"put {cls.url} there, or pass an ImageFolder") from error
    return list(stored.classes), list(stored.targets), lambda i: Image.fromarray(stored.data[i])


def _digits(root: str, split: str) -> Split:
    """scikit-learn's 1,797 handwritten digits, 8 x 8: a fixed stratified split, 25 % held out as test."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ValueError("--dataset digits needs scikit-learn: "
                         "pip install -r requirements-extra.txt") from error
    digits = load_digits()
    parts = train_test_split(range(len(digits.target)), test_size=0.25, stratify=digits.target,
                             random_state=0)
    rows = sorted(parts[0] if split == "train" else parts[1])
    grey = (digits.images * (255 / 16)).round().astype(numpy.uint8)[rows]
    return [str(k) for k in range(10)], digits.target[rows].tolist(), \
        lambda i: Image.fromarray(grey[i]).convert("RGB")


# Pixel statistics: of the real training images; CIFAR's and Tiny-ImageNet's as docs/sources.md lists them.
DATASETS = {
    "imagenet-1k": DatasetSpec(num_classes=1000),
    "imagenette": DatasetSpec(num_classes=10),
    "tiny-imagenet": DatasetSpec(num_classes=200, size=64, jitter=4, stem="small",
                                 mean=(0.4802, 0.4481, 0.3975), std=(0.2302, 0.2265, 0.2262)),
    "cifar10": DatasetSpec(num_classes=10, size=32, jitter=4, stem="small", image_format="png",
                           mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616),
                           open_split=lambda *where: _cifar(torchvision.datasets.CIFAR10, *where)),
    "cifar100": DatasetSpec(num_classes=100, size=32, jitter=4, stem="small", image_format="png",
                            mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761),
                            open_split=lambda *where: _cifar(torchvision.datasets.CIFAR100, *where)),
    "digits": DatasetSpec(num_classes=10, size=16, flip=False, jitter=2, stem="small", image_format="png",
                          mean=(0.3053,) * 3, std=(0.3186,) * 3, open_split=_digits),
}


def dataset_spec(name: str) -> DatasetSpec:
    """The preset of a data set.   Raises: ValueError listing the known names."""
    if name in DATASETS or name.startswith("folder:"):
        return DATASETS.get(name, DatasetSpec())
    raise ValueError(f"--dataset {name}: expected one of {', '.join(DATASETS)} or folder:PATH")


def dataset_preset(given: Values) -> Values:
    """The `presets` of `parse_config`: what --dataset (ImageNet-1K where not given) and --size imply."""
    return dataset_spec(given.get("dataset", "imagenet-1k")).preset(given.get("size"))


def implied_fields(flags: DataFlags) -> Values:
    """What the data set presets, with what goes with --size where that is another: no change of a recipe."""
    spec = dataset_spec(flags.dataset)
    return {**spec.preset(flags.size), "size": spec.size}


def count_classes(name: str) -> int:
    """The number of classes of a data set, without reading its images (a folder's class folders are listed).

    Raises: ValueError when `name` is unknown or its folder holds no class folder.
    """
    spec = dataset_spec(name)
    if spec.num_classes:
        return spec.num_classes
    base = Path(name.partition(":")[2])
    folder = base / "train" if (base / "train").is_dir() else base
    count = sum(entry.is_dir() for entry in folder.iterdir()) if folder.is_dir() else 0
    if not count:
        raise ValueError(f"--dataset {name}: expected a folder of class folders, or of train/ and val/, "
                         f"there")
    return count


class RealSet(Dataset[tuple[torch.Tensor, int]]):
    """One split of a real data set: item i is ((3, size, size) uint8, class index).

    Attributes: class_names, in label order; labels, one int an image; by_class, each class's positions.
    Args:   name: of DATASETS, or folder:PATH;  root: where it lies (default of folder:PATH: PATH);
            split: train or val (the test split where there is no other).
    Raises: ValueError when the folder is missing or empty, or the class count is not the data set's.
    """

    def __init__(self, name: str, root: str, split: str, *, size: int, bare: bool = True):
        spec = dataset_spec(name)
        if name.startswith("folder:") and (split == "train" or not root):
            own = name.partition(":")[2]
            if root and Path(root).absolute() != Path(own).absolute():
                raise ValueError(f"--train-data-path {root} contradicts --dataset {name}; leave one out")
            root, bare = own, bare and split == "train"
        if spec.open_split:
            self.class_names, self.labels, self._open = spec.open_split(root, split)
        else:
            self.class_names, self.labels, self._open = _imagefolder(root, split, bare=bare)
        self.size, self._where = size, f"{name} at {root}" if root else name
        self.by_class: list[list[int]] = [[] for _ in self.class_names]  # each class's, in file order
        for i, label in enumerate(self.labels):
            self.by_class[label].append(i)
        if spec.num_classes not in (None, len(self.class_names)):
            raise ValueError(f"{self._where}: expected {spec.num_classes} classes for --dataset {name}, "
                             f"got {len(self.class_names)}; check the path, or use --dataset folder:PATH")

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return resize_and_crop(self._open(i), self.size), self.labels[i]

    def spread(self, num: int) -> list[int]:
        """At most `num` positions, the same each time: as many of every class, or one of every so-manieth."""
        classes = min(num, len(self.by_class))
        per_class = num // classes
        chosen = [self.by_class[k * len(self.by_class) // classes] for k in range(classes)]
        return [i for positions in chosen
                for i in positions[::max(1, len(positions) // per_class)][:per_class]]
