"""Real data sets: what a preset changes, where their images are, how they become tensors.

DATASETS: name -> DatasetSpec.  `folder:PATH` is any folder with train/ and val/ or test/, a folder a class.
"""
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
import torchvision
from PIL import Image
from torch.utils.data import Dataset

from utils.pictures import (
    FORMATS,
    LONGEST_ENDING,
    check_folder_name,
    check_readable,
    decode_image,
    resize_and_crop,
)
from utils.pieces import Options, Values, option, require
from utils.runtime import warn_once

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
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
    size: int = option(224, "side of the images [pixels]", source="data set, here ImageNet-1K",
                      range="in [8, 8192]")
    flip: bool = option(True, "random horizontal flips", source="data set, here ImageNet-1K")
    mean: tuple[float, ...] = option(IMAGENET_MEAN, "pixel mean, in 0..1",
                                     source="data set, here ImageNet-1K", range="in [0, 1]")
    std: tuple[float, ...] = option(IMAGENET_STD, "pixel standard deviation", range="in [0.001, 1]",
                                    source="data set, here ImageNet-1K")
    stem: Literal["imagenet", "small"] = option(
        "imagenet", "first layers: as published, or 3x3 without pooling", source="data set, here ImageNet-1K")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.mean) == len(self.std) == 3,
                f"--mean and --std take three values, got {self.mean} and {self.std}")
        dataset_spec(self.dataset)


# ---------------------------------------------------------------- the splits of each data set

@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """The images of a split that are files: opens the i-th.   folder: of their class folders."""

    folder: Path
    paths: list[Path]

    def __call__(self, i: int) -> Image.Image:
        return decode_image(self.paths[i])


def folder_split(folder: Path) -> tuple[list[str], list[int], ImageFiles]:
    """Class names as they sort, and every image below each."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    files, labels, others = list[Path](), list[int](), Counter[str]()
    for label, name in enumerate(names):
        there = list((folder / name).rglob("*"))
        found = sorted(path for path in there if path.suffix.lower() in FORMATS)
        files += found
        labels += [label] * len(found)
        others.update(path.suffix or "without ending" for path in there if path.suffix.lower() not in FORMATS
                      and not path.name.startswith(".") and path.is_file())
    if others:
        warn_once(f"{folder}: {others.total()} files left out that are of none of {' '.join(FORMATS)}: "
                  + ", ".join(f"{num} {suffix}" for suffix, num in others.most_common(5)))
    return names, labels, ImageFiles(folder, files)


def _imagefolder(root: str, split: str, *, bare: bool = True) -> Split:
    """A folder a class, below root/train, root/val or root/test, or root itself when it has none of these."""
    base = Path(root)
    require(root and base.is_dir(), f"{root or 'no data folder given'}: expected a folder of class folders; "
            f"pass --train-data-path / --val-dir, or set IMAGENET for the .sh scripts")
    wanted = ("train",) if split == "train" else ("val", "test")
    candidates = [base / name for name in wanted if (base / name).is_dir()]
    require(candidates or bare, f"{root}: expected {' or '.join(f'{name}/' for name in wanted)} in it; the "
            f"training images are no test set, so name the test data with --val-dir")
    folder = candidates[0] if candidates else base
    if (folder / "val_annotations.txt").is_file():
        return _tiny_imagenet_val(folder)
    names, labels, opener = folder_split(folder)
    if not labels:
        raise ValueError(f"{folder}: no images found; expected a folder a class with image files in it")
    empty = sorted({*range(len(names))} - {*labels})
    require(not empty, f"{folder}: class folder {empty and names[empty[0]]!r} holds no image ({len(empty)} "
            f"such); fill or remove it")
    return names, labels, opener


def _tiny_imagenet_val(folder: Path) -> Split:
    """Tiny-ImageNet's val/ has no class folders but a list of (file, class): read as it is shipped."""
    path = folder / "val_annotations.txt"
    try:
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text ({error}); unpack Tiny-ImageNet anew") from error
    for number, row in enumerate(rows, 1):
        require(len(row) > 1 and Path(row[0]).name == row[0], f"{path}: line {number} is {row[0][:60]!r}, "
                f"expected the name of a file, a tab and its class; unpack Tiny-ImageNet anew")
    names = sorted({row[1] for row in rows})
    files = [folder / "images" / row[0] for row in rows]
    return names, [names.index(row[1]) for row in rows], ImageFiles(folder, files)


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
                         "bash scripts/setup.sh digits") from error
    require(not root, f"--dataset digits comes with scikit-learn, not from {root}; leave out "
            f"--train-data-path and --val-dir, or use --dataset folder:PATH")
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

    Attributes: class_names, in label order; labels, one int an image; by_class, each class's positions;
            where, the folder of the split, or the data set's name;  picture(i): as it is stored, RGB.
    Args:   name: of DATASETS, or folder:PATH;  root: where it lies (default of folder:PATH: PATH);
            split: train or val (the test split where there is no other).
    Raises: ValueError for a missing or empty folder, another number of classes, bad names of classes.
    """

    def __init__(self, name: str, root: str, split: str, *, size: int, bare: bool = True):
        spec = dataset_spec(name)
        if name.startswith("folder:") and (split == "train" or not root):
            own = name.partition(":")[2]
            if root and Path(root).absolute() != Path(own).absolute():
                raise ValueError(f"--train-data-path {root} contradicts --dataset {name}; leave one out")
            root, bare = own, bare and split == "train"
        if spec.open_split:
            self.class_names, self.labels, self.picture = spec.open_split(root, split)
        else:
            self.class_names, self.labels, self.picture = _imagefolder(root, split, bare=bare)
        self.size = size
        self.where = str(self.picture.folder) if isinstance(self.picture, ImageFiles) else name
        for class_name in self.class_names:
            check_folder_name(class_name, f"{self.where}: class", ending=LONGEST_ENDING)
        self.by_class: list[list[int]] = [[] for _ in self.class_names]  # each class's, in file order
        for i, label in enumerate(self.labels):
            self.by_class[label].append(i)
        if spec.num_classes not in (None, len(self.class_names)):
            raise ValueError(f"{self.where}: expected {spec.num_classes} classes for --dataset {name}, "
                             f"got {len(self.class_names)}; check the path, or use --dataset folder:PATH")

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return resize_and_crop(self.picture(i), self.size), self.labels[i]

    def spread(self, num: int) -> list[int]:
        """At most `num` positions, the same each time: as many of every class, or one of every n-th."""
        classes = min(num, len(self.by_class))
        per_class = num // classes
        chosen = [self.by_class[k * len(self.by_class) // classes] for k in range(classes)]
        return [i for positions in chosen
                for i in positions[::max(1, len(positions) // per_class)][:per_class]]

    def check_readable(self, positions: Iterable[int]) -> None:
        """Opens the files of these images.   Raises: ValueError or FileNotFoundError, naming a bad one."""
        if isinstance(self.picture, ImageFiles):
            check_readable(self.picture.paths[i] for i in dict.fromkeys(positions))

    def check_classes(self, expected: Sequence[str], *, flag: str, whose: str) -> None:
        """Raises ValueError, naming the first class, unless the classes are these, in this order.

        Args: flag: which names this set;  whose: classes are expected, said in the message.
        """
        missing = [name for name in expected if name not in self.class_names]
        more = [name for name in self.class_names if name not in expected]
        what = [f"{names[0]!r} is {how} ({len(names)} such)" for names, how in (
            (missing, "missing"), (more, "none of them")) if names]
        require(list(expected) == self.class_names, f"{flag} {self.where}: its class names are not those of "
                f"{whose}: {' and '.join(what) or 'their order is another'}")
