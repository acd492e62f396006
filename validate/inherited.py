"""What an evaluation takes over from the work that lies beside a set: networks, labels, changed settings.

A small set was labelled and learnt from under a protocol scaled down to it.  Its controls are scaled alike
when they take what was changed.   Source: ours.
"""
import dataclasses

from utils.augment import CROPS, RESAMPLER
from utils.formats import ImageManifest, LabelManifest, assemble_label_manifest, label_folders
from utils.image_sets import holds
from utils.pieces import Values
from utils.records import Result
from utils.views import MIXES, OPERATIONS
from validate.results import read_results
from validate.students_found import student_folders

# What scales a protocol down, whichever it is; all other changes go with the protocol that was changed.
BUDGET = ("arch_name", "pool", "epochs", "batch_size", "steps_per_epoch", "min_scale_crops")
# What a student's labels say: no change of its own recipe.
OF_LABELS = ("ipc", "epochs", "batch_size", "steps_per_epoch", "min_scale_crops", "mix_type", "crop",
             "crop_padding", "allow_fewer_epochs")
# Whole images as they are: what "no augmentation" is.
PLAIN = {"min_scale_crops": 1.0, "mix_type": "none", "flip": False, "augment": "none", "crop": "resized"}
VIEW_OPTIONS = {field.name for registry in (MIXES, CROPS, OPERATIONS) for piece in registry.values()
                for field in dataclasses.fields(piece)}


@dataclasses.dataclass(frozen=True)
class Inherited:
    """Flat settings below the flags', by who they are for, and labels that need not be made.

    teachers: arch_name and pool of the real images' choice;  relabel, validate: what was changed, of the
    stages;  labels: the set's own, of this protocol and IPC;  where: folders that these are from.
    """

    teachers: Values
    relabel: Values
    validate: Values
    labels: LabelManifest | None
    where: tuple[str, ...]


def labels_beside(images: ImageManifest, ipc: int) -> LabelManifest | None:
    """Whole labels of these images in <home>/fkd, of the IPC rather than of another."""
    folders = label_folders(str(images.home / "fkd"))
    found = (assemble_label_manifest(folder, write=False)
             for folder in sorted(folders, key=lambda folder: folder.name != str(ipc)))
    return next((labels for labels in found if labels and labels.views.size == images.size
                 and holds(images, labels.images, labels.ipc)), None)


def students_beside(images: ImageManifest, labels: str, protocol: str) -> tuple[str, Result] | None:
    """A folder of students with these labels (their digest), by that protocol, and one of them."""
    for folder in student_folders(images.home):
        for result in read_results(folder):
            if result.get("labels") == labels and result["protocol"]["name"] == protocol:
                return str(folder), result
    return None


def inherit(images: ImageManifest, ipc: int, protocol: str) -> Inherited:
    """What lies beside a set: nothing, for one whose folder holds images alone."""
    made, found = images.saved["config"], labels_beside(images, ipc)
    teachers = {name: made[name] for name in ("arch_name", "pool") if name in made}
    if found is None:
        return Inherited(teachers, {}, {}, None, ())
    config, same = found.config, found.protocol["name"] == protocol
    taken = found.protocol["changed"] if same else BUDGET
    relabel = {name: config[name] for name in (*taken, "seed") if config.get(name) is not None}
    teachers = teachers or {name: config[name] for name in ("arch_name", "pool")}
    serves = same and found.ipc == ipc and found.resampler == RESAMPLER
    student = students_beside(images, found.digest, protocol)
    validate = {name: student[1]["config"][name] for name in student[1]["protocol"]["changed"]
                if name not in OF_LABELS} if student else {}
    return Inherited(teachers, relabel, validate, found if serves else None,
                     (str(found.folder), *(student[:1] if student else ())))


def without_augmentation(relabel: Values) -> Values:
    """Settings of labels of the images as they are: crops of the whole, no mix, no flip, no operations."""
    return {name: value for name, value in relabel.items() if name not in VIEW_OPTIONS} | PLAIN


def in_words(stage: str, changed: list[str], config: Values) -> list[str]:
    """Changed settings as people read them: "relabel epochs 100"."""
    values = {name: config.get(name) for name in changed}
    return [f"{stage} {name} {' '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}"
            for name, value in values.items()]
