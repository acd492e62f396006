"""What passes between the stages: files, written once and whole.  The README quotes this page.

Distilled images, `<run>/`:
    syn/<class>/<class>_ipc0003.jpg|png   class folders named as in the real data set, so any ImageFolder
                                          reader sees the real label order; a run holds any number of IPC
    units/ipc0003_chunk02.json            one per finished unit of recover: teachers, iterations, final
                                          losses, sha256 of its files
    config.json                           what the run is: config, weight hashes, class names (its identity)
    manifest.json                         assembled from the units by whoever finds them all
    preflight.json, places.json, log.jsonl   teachers' accuracies, where their weights lie; losses
Soft labels, `<run>/fkd/<ipc>/`:
    epoch_000.pt     torch.load(path, weights_only=True, mmap=True): index (N,) int32; crop (N, 4) int16
                     pixels top, left, height, width; flip (N,) bool; mix_index (N,) int16, position within
                     its batch; mix_box (batches, 4) int16 top, left, bottom, right, end exclusive;
                     mix_lam (batches,) float32; ops, levels, bicubic (N, 2) with --augment randaugment
                     (utils/randaugment.py); and the logits by --label-format (utils/label_formats.py):
                     fp16       logits (N, K) float16
                     int8       codes (N, K) uint8, low (N,) and step (N,) float32: low + step * codes
                     topk       values (N, k) float16 of classes (N, k) int16, rest (N,) float16: all others
                     online     no file: config.json says how validate computes them
    config.json, manifest.json, log.jsonl   epochs, batch size, crop scale, mix, ensemble, teachers,
                     resampler version, digest of the images that the labels belong to; epoch e of a
                     student reads file e modulo --label-epochs
Everything is tensors and JSON; a file appears under its name only when it is complete.  JSON and its string
keys stay in this file: what leaves it are `ImageManifest`, `LabelManifest` and `EpochViews`.
"""
import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import torch

from utils.files import read_json, sha256_json, write_json
from utils.label_formats import FP16, LABEL_FORMATS, Tensors
from utils.pieces import Values, build, build_piece, require, spell_out
from utils.runtime import versions
from utils.views import VIEW_DTYPES, EpochViews, Views

FORMAT_VERSION = 1


# ---------------------------------------------------------------- distilled images

class Entry(NamedTuple):
    """One distilled image: its path below the run, the digest of its bytes, its class."""

    path: str
    sha256: str
    label: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageManifest:
    """A run's complete IPC indices.

    ipc: complete indices from 0;  size: side [pixels];  mean, std: pixel statistics, in 0..1;
    primary: the logit teacher that made the images;  stem: of its networks;
    entries: the images of all complete indices, sorted by class, then index.
    """

    run: Path
    dataset: str
    class_names: list[str]
    ipc: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stem: str
    primary: str = ""
    entries: tuple[Entry, ...] = ()

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def select(self, ipc: int) -> list[Entry]:
        """The first `ipc` images of every class, 0 for all.   Raises: ValueError when the run has fewer."""
        require(ipc <= self.ipc, f"--ipc {ipc}: the run has {self.ipc} complete IPC indices; "
                f"run recover with --ipc-end {ipc} first")
        return [entry for entry in self.entries if _index_of(entry.path) < (ipc or self.ipc)]


def image_path(class_name: str, ipc_id: int, image_format: str) -> str:
    """Path of one distilled image below its run: syn/<class>/<class>_ipc0003.png."""
    return f"syn/{class_name}/{class_name}_ipc{ipc_id:04d}.{image_format}"


def _index_of(path: str) -> int:
    """The IPC index of a distilled image, by its path."""
    return int(Path(path).stem.rpartition("_ipc")[2])


def unit_path(run: Path, ipc_id: int, chunk: int) -> Path:
    """Path of the record that says that a unit of recover is finished."""
    return run / "units" / f"ipc{ipc_id:04d}_chunk{chunk:02d}.json"


def run_path(path: str) -> Path:
    """The run that `<run>` or `<run>/syn` names, whether it is there or not."""
    folder = Path(path)
    return folder.parent if folder.name == "syn" else folder


def run_folder(path: str, *, flag: str) -> Path:
    """The run that `<run>` or `<run>/syn` names.   Raises: FileNotFoundError naming flag and stage."""
    folder = run_path(path)
    if not path or not ((folder / "config.json").is_file() or (folder / "manifest.json").is_file()):
        raise FileNotFoundError(f"{flag} {path}: no distilled images there (no config.json or manifest.json);"
                                f" make them with recover/recover_r18.sh or python -m recover.data_synthesis")
    return folder


def _complete_units(run: Path, class_names: list[str]) -> tuple[int, list[Values]]:
    """How many indices from 0 on are whole (each class has its image, or is said to be short)."""
    units = sorted((read_json(path) for path in run.glob("units/*.json")),
                   key=lambda unit: (unit["ipc_id"], unit["chunk"]))
    covered: dict[int, set[str]] = {}
    for unit in units:
        covered.setdefault(unit["ipc_id"], set()).update(unit["short_classes"])
        for path in unit["files"]:
            covered.setdefault(_index_of(path), set()).add(path.split("/")[1])
    ipc = 0
    while covered.get(ipc, set()) >= set(class_names):
        ipc += 1
    return ipc, [unit for unit in units if unit["ipc_id"] < ipc]


def assemble_manifest(run: Path, *, write: bool = True) -> ImageManifest:
    """The manifest of a run's complete IPC indices, written (unless told not to) when it changed.

    Raises:  FileNotFoundError when not even index 0 is complete; ValueError when config.json is no run's.
    """
    path = run / "manifest.json"
    if not (run / "config.json").is_file():
        return _image_manifest(run, read_json(path))
    saved = read_json(run / "config.json")
    require(saved.get("format") == "prism-images",
            f"{run}/config.json: expected a run of recover, got {saved.get('format')!r}")
    config, names = saved["config"], saved["class_names"]
    ipc, units = _complete_units(run, names)
    if not ipc:
        raise FileNotFoundError(f"{run}: IPC index 0 is not finished; run recover to its end first "
                                f"(recover/recover_r18.sh or python -m recover.data_synthesis)")
    manifest = {"format": saved["format"], "version": saved["version"], "dataset": config["dataset"],
                "class_names": names, "ipc": ipc, "size": config["size"], "mean": config["mean"],
                "std": config["std"], "config": config, "weights": saved["weights"],
                "versions": sorted({json.dumps(u.pop("versions"), sort_keys=True) for u in units}),
                "units": units}
    if write and (not path.exists() or read_json(path) != manifest):
        write_json(path, manifest)
    return _image_manifest(run, manifest)


def _image_manifest(run: Path, saved: Values) -> ImageManifest:
    class_ids = {name: i for i, name in enumerate(saved["class_names"])}
    entries = [Entry(path, digest, class_ids[path.split("/")[1]])
               for unit in saved["units"] for path, digest in unit["files"].items()]
    return ImageManifest(
        run=run, dataset=saved["dataset"], class_names=saved["class_names"], ipc=saved["ipc"],
        size=saved["size"], mean=tuple(saved["mean"]), std=tuple(saved["std"]), stem=saved["config"]["stem"],
        primary=saved["config"]["arch_name"],
        entries=tuple(sorted(entries, key=lambda entry: (entry.label, entry.path))))


def image_set_digest(entries: list[Entry]) -> str:
    """One digest of a set of distilled images (of `select`): labels belong to exactly these files."""
    return sha256_json([[entry.path, entry.sha256] for entry in entries])


# ---------------------------------------------------------------- soft labels

@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelManifest:
    """A folder of finished labels.

    digest: of its config.json;  images: digest of the images that they belong to, `num_images` of them;
    seed, precision: of views and of the teachers' logits;
    epochs: of students;  label_epochs: of different labels, which the epochs go through in turn;
    teachers: the ensemble, the primary first;  weights: name -> sha256;  config: flat, of relabel;
    protocol: relabel's protocol and what was changed of it.
    """

    folder: Path
    digest: str
    dataset: str
    class_names: list[str]
    ipc: int
    images: str
    num_images: int
    stem: str
    seed: int
    precision: str
    epochs: int
    label_epochs: int
    views: Views
    label_format: FP16
    resampler: str
    teachers: tuple[str, ...]
    weights: dict[str, str]
    config: Values
    protocol: Values

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def load(self, epoch: int) -> tuple[EpochViews, Tensors]:
        """Views and stored labels of an epoch of students.   Raises: as `load_labels`."""
        return load_labels(label_path(self.folder, epoch % self.label_epochs), views=self.views,
                           label_format=self.label_format, num_classes=self.num_classes)


def label_path(folder: Path, epoch: int) -> Path:
    """Path of one epoch of soft labels."""
    return folder / f"epoch_{epoch:03d}.pt"


def _label_manifest(folder: Path, saved: Values) -> LabelManifest:
    config = saved["config"]
    form, spelt = spell_out(LABEL_FORMATS, config["label_format"], "--label-format")  # once stored as topk:50
    return LabelManifest(
        folder=folder, digest=sha256_json(read_json(folder / "config.json")), dataset=saved["dataset"],
        class_names=saved["class_names"], ipc=saved["ipc"], images=saved["images"],
        num_images=saved["num_images"], stem=saved["stem"], seed=config["seed"],
        precision=config["precision"], epochs=config["epochs"],
        label_epochs=saved["label_epochs"], views=build(Views, saved["views"]),
        label_format=build_piece(LABEL_FORMATS, form, config | spelt),
        resampler=saved["resampler"], teachers=tuple(saved["teachers"]), weights=saved["weights"],
        config=config, protocol=saved["protocol"])


def assemble_label_manifest(folder: Path, *, write: bool = True) -> LabelManifest | None:
    """The manifest of a folder of labels, written to manifest.json; None while an epoch is missing.

    It is the folder's config.json with the library versions.
    Raises:  ValueError when the manifest that is there is not of this config.json.
    """
    saved, path = read_json(folder / "config.json"), folder / "manifest.json"
    manifest = _label_manifest(folder, saved)
    num = manifest.label_format.num_files(manifest.label_epochs)
    if not all(label_path(folder, epoch).is_file() for epoch in range(num)):
        return None
    if path.is_file():
        there = read_json(path)
        wrong = sorted(key for key in saved if there.get(key) != saved[key])
        require(not wrong, f"{path}: its {''.join(wrong[:1])} is not that of config.json beside it; delete "
                f"the manifest and rerun relabel, which writes it anew")
    elif write:
        write_json(path, {**saved, "versions": versions()})
    return manifest


def open_labels(path: str, ipc: int, *, write: bool = True) -> LabelManifest:
    """The manifest of finished labels, given their folder or its parent (`ipc` 0: its only one).

    Raises: FileNotFoundError naming the stage and command that make them; ValueError for another format.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        made = sorted(config.parent for config in folder.glob("*/config.json"))
        require(ipc or len(made) < 2, f"--fkd-path {path} holds labels of IPC "
                f"{', '.join(f.name for f in made)}; say which with --ipc")
        folder = folder / str(ipc) if ipc or not made else made[0]
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"--fkd-path {path}: no soft labels there; make them with "
                                f"relabel/relabel_r18.sh or python -m relabel.generate_soft_label")
    require(read_json(folder / "config.json").get("format") == "prism-labels",
            f"--fkd-path {path}: config.json is not of soft labels; expected <run>/fkd/<ipc>")
    manifest = assemble_label_manifest(folder, write=write)
    if manifest is None:
        raise FileNotFoundError(f"{folder}: epochs of labels are missing; run relabel to its end first "
                                f"(relabel/relabel_r18.sh or python -m relabel.generate_soft_label)")
    for epoch in range(manifest.label_format.num_files(manifest.label_epochs)):
        manifest.load(epoch)  # damage is named now, not hours into training
    return manifest


def load_labels(path: Path, *, views: Views, label_format: FP16,
                num_classes: int) -> tuple[EpochViews, Tensors]:
    """One epoch of views and the tensors of its labels, memory-mapped.

    Raises: ValueError naming the file when it is truncated or its tensors are not those of the format.
    """
    try:
        stored = torch.load(path, weights_only=True, mmap=True)
        dtypes = {name: tensor.dtype for name, tensor in stored.items()}
    except FileNotFoundError:
        raise
    except Exception as error:  # torch raises many kinds on damaged archives; each means the same here
        raise ValueError(f"{path}: damaged or truncated label file; delete it and rerun relabel") from error
    num, layout = len(stored.get("index", ())), label_format.layout(num_classes)
    expected = VIEW_DTYPES | views.augment.dtypes | {name: dtype for name, (dtype, _) in layout.items()}
    fits = dtypes == expected and all(stored[name].shape == (num, *row) for name, (_, row) in layout.items())
    require(fits, f"{path}: expected the tensors {', '.join(expected)} of {num_classes} classes; "
            f"delete it and rerun relabel")
    return EpochViews.of(views, stored), {name: stored[name] for name in layout}
