"""Where an export goes, as pieces: which files it writes, and how its card says to use them.

N images, K classes, H W pixels.
"""
import dataclasses
import importlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from utils.files import load_tensors
from utils.flags import ComputeFlags, WeightFlags
from utils.formats import LabelManifest
from utils.label_files import label_path
from utils.pieces import Options, Values, option, require
from utils.records import Checksum, read_record
from validate.exporting.contents import Contents, File, copy_of, json_file
from validate.exporting.measured import Students


def extra(name: str, target: str) -> Any:
    """A module of requirements-export.txt.   Raises: ValueError saying what gives it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{target} needs {name.partition('.')[0]}: bash scripts/setup.sh export") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkFlags(WeightFlags, ComputeFlags):
    """What a layout may take of the command line: where teachers are, and where they compute."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFolder(Options):
    """Numbered class folders, which sort as the labels do, the images' bytes as they are."""

    def check(self, contents: Contents) -> None:
        """Raises: ValueError where this set or this machine cannot be exported so."""

    def holds(self, contents: Contents) -> str:
        """What of a set this export is: of `measured.rerun`."""
        return "images"

    def paths(self, contents: Contents) -> list[str]:
        """Where every image lies; empty where none does."""
        return contents.numbered()

    def files(self, contents: Contents, flags: NetworkFlags) -> Iterator[File]:
        """The files of this layout, the card and what every export holds left aside."""
        yield json_file("classes.json", contents.images.class_names)
        yield from contents.copies(self.paths(contents))

    def front_matter(self, contents: Contents) -> str:
        """What stands before the card."""
        return ""

    def usage(self, contents: Contents) -> str:
        """How to read it, in Markdown."""
        return """```python
import json
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

to_tensor = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
images = ImageFolder("HERE", to_tensor)       # labels 0, 1, ... in the order of the numbered folders
names = json.load(open("HERE/classes.json"))  # names[label]
```"""

    def publish(self, out: Path) -> None:
        """Sends it to where it is published, if that was asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Safetensors(ImageFolder):
    """Students and soft labels as .safetensors, which hold no code; no images."""

    labels: bool = option(True, "the soft labels too")

    def check(self, contents: Contents) -> None:
        """As `ImageFolder.check`."""
        extra("safetensors.torch", "--to safetensors")
        stored = contents.labels and contents.labels.label_format.stored and self.labels
        require(stored or contents.students, f"{contents.images.home}: neither students nor stored labels of "
                f"these images there; run validate or relabel first, or name --students or --fkd-path")

    def holds(self, contents: Contents) -> str:
        """As `ImageFolder.holds`."""
        return ""

    def paths(self, contents: Contents) -> list[str]:
        """As `ImageFolder.paths`."""
        return []

    def files(self, contents: Contents, flags: NetworkFlags) -> Iterator[File]:
        """As `ImageFolder.files`."""
        yield json_file("classes.json", contents.images.class_names)
        for students in contents.students:
            for result in students.results:
                name, files = f"seed{result['seed']}", result.get("files", {})
                yield _converted(f"students/{students.name_in_files}/{name}.safetensors",
                                 students.folder / name / "student_last.pt",
                                 files["student_last.pt"]["sha256"] if files else "",
                                 {**_about(contents), **_about_student(students, result["last"]["top1"])})
        labels = contents.labels
        if labels and self.labels:
            about = {"resampler": labels.resampler, "settings": json.dumps(labels.config),
                     "teachers": json.dumps(labels.weights)}
            for path, digest in label_epochs(labels):
                yield _converted(f"labels/{path.stem}.safetensors", path, digest, _about(contents) | about)

    def usage(self, contents: Contents) -> str:
        """As `ImageFolder.usage`."""
        return """```python
from safetensors import safe_open
from safetensors.torch import load_file

path = "HERE/students/NAME/seed0.safetensors"
about = safe_open(path, "pt").metadata()     # model, stem, class_names, mean, std, teachers, top1, ...
student.load_state_dict(load_file(path))     # a network of about["model"]
labels = load_file("HERE/labels/epoch_000.safetensors")  # the tensors of PRISM's utils/formats.py
```"""


def _about(contents: Contents) -> dict[str, str]:
    """Metadata of every file: strings, as the format wants them."""
    images = contents.images
    return {"format": "pt", "dataset": images.dataset, "images": contents.digest,
            "class_names": json.dumps(images.class_names), "size": str(images.size),
            "mean": json.dumps(images.mean), "std": json.dumps(images.std)}


def _about_student(students: Students, top1: float) -> dict[str, str]:
    teachers = students.results[0].get("labels_config") and dict(students.results[0]).get("labels_teachers")
    return {"model": str(students.settings.get("model")), "stem": str(students.settings.get("stem")),
            "top1": str(top1), "teachers": json.dumps(teachers or {})}


def label_epochs(labels: LabelManifest) -> Iterator[tuple[Path, str]]:
    """Every stored epoch of labels, with the sha256 that its record promises."""
    for epoch in range(labels.label_format.num_files(labels.label_epochs)):
        path = label_path(labels.folder, epoch)
        yield path, read_record(path.with_suffix(".json"), Checksum)["sha256"]


def _converted(path: str, source: Path, sha256: str, about: Values) -> File:
    """A file of tensors as .safetensors; its metadata names the digest of what it was made of."""
    whole = copy_of(path, source, sha256)

    def write(file: BinaryIO) -> None:
        content = io.BytesIO()
        whole.write(content)
        own = about | ({"sha256_of_pt": sha256} if sha256 else {})
        file.write(extra("safetensors.torch", path).save(load_tensors(content.getvalue()), metadata=own))
    return File(path, whole.bytes, write)
