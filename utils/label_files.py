"""One epoch of soft labels as a file, and the record beside it that says that it is finished.

N views, K classes.   What the tensors are: utils/formats.py.
"""
from pathlib import Path

from utils.files import checksum, has_size, load_tensors, save_tensors, write_json
from utils.label_formats import FP16, Tensors
from utils.pieces import require
from utils.records import Checksum, find_record, read_record
from utils.views import VIEW_DTYPES, EpochViews, Views

REMEDY = "delete it and rerun relabel, which makes it anew"


def label_path(folder: Path, epoch: int) -> Path:
    """Path of one epoch of soft labels."""
    return folder / f"epoch_{epoch:03d}.pt"


def save_labels(path: Path, tensors: Tensors) -> None:
    """Writes an epoch of labels, then its record."""
    write_json(path.with_suffix(".json"), save_tensors(path, tensors))


def has_labels(path: Path) -> bool:
    """Whether an epoch of labels is finished: its record is there, and a file of that length."""
    record = find_record(path.with_suffix(".json"), Checksum)
    return record is not None and has_size(path, record)


def load_labels(path: Path, *, views: Views, label_format: FP16, num_classes: int,
                num_images: int) -> tuple[EpochViews, Tensors]:
    """One epoch of views and the tensors of its labels, if they are those that relabel wrote.

    Args:   num_images: that the views may show.
    Raises: ValueError naming the file when it is truncated, changed, or its tensors are not the format's.
    """
    content = path.read_bytes()
    require(checksum(content) == read_record(path.with_suffix(".json"), Checksum),
            f"{path}: its bytes are not those that relabel wrote (truncated or changed); {REMEDY}")
    try:
        stored = load_tensors(content)
    except ValueError as error:
        raise ValueError(f"{path}: damaged label file ({error}); {REMEDY}") from error
    dtypes = {name: tensor.dtype for name, tensor in stored.items()}
    num, layout = len(stored.get("index", ())), label_format.layout(num_classes)
    expected = VIEW_DTYPES | views.augment.dtypes | {name: dtype for name, (dtype, _) in layout.items()}
    fits = dtypes == expected and all(stored[name].shape == (num, *row) for name, (_, row) in layout.items())
    require(fits, f"{path}: expected the tensors {', '.join(expected)} of {num_classes} classes; {REMEDY}")
    drawn = EpochViews.of(views, stored)
    require(drawn.fits(num_images), f"{path}: its views are none of {num_images} images; {REMEDY}")
    return drawn, {name: stored[name] for name in layout}
