"""What passes between the stages: files, written once and whole.  The README quotes this page.

Distilled images, `<run>/`:
    syn/<class>/<class>_ipc0003.jpg|png   class folders named as in the real data set, so any ImageFolder
                                          reader sees the real label order; a run holds any number of IPC
    units/ipc0003_chunk02.json            one per finished unit of recover: teachers, iterations, final
                                          losses, sha256 of its files, their bytes together
    config.json                           what the run is: config, weight hashes, class names, protocol
    manifest.json                         assembled from the units by whoever finds them all
    preflight.json, places.json, log.jsonl   teachers' accuracies, where their weights lie; losses
Soft labels, `<run>/fkd/<ipc>/`:
    epoch_000.pt     torch.load(path, weights_only=True, mmap=True): index (N,) int32; crop (N, 4) int16
                     pixels top, left (below 0 or beyond the image: black, --crop padded), height, width;
                     flip (N,) bool; mix_index (N,) int16, position within its batch; mix_box (batches, 4)
                     int16 top, left, bottom, right, end exclusive; mix_lam (batches,) float32; with
                     --augment randaugment ops, levels, bicubic (N, --operations) (utils/randaugment.py),
                     with patch-shuffle tile_columns, tile_rows (N, --shuffle-factor) int8
                     (utils/patch_shuffle.py); and the logits by --label-format (utils/label_formats.py):
                     fp16       logits (N, K) float16
                     int8       codes (N, K) uint8, low (N,) and step (N,) float32: low + step * codes
                     topk       values (N, k) float16 of classes (N, k) int16, rest (N,) float16: all others
                     online     no file: config.json says how validate computes them
    epoch_000.json   written after it: its bytes and sha256
    config.json, manifest.json, log.jsonl   epochs, batch size, crop scale, mix, ensemble, teachers,
                     resampler version, digest of the images that the labels belong to; epoch e of a
                     student reads file e modulo --label-epochs
Everything is tensors and JSON; a file appears under its name only when it is complete, and a record after the
files that it names.  What the JSON holds: utils/records.py; its string keys stay there and here: what leaves
this file are `ImageManifest`, `LabelManifest` and `EpochViews`.
"""
import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

from utils.files import json_bytes, sha256_json, write_json
from utils.label_files import has_labels, label_path, load_labels
from utils.label_formats import FP16, LABEL_FORMATS, Tensors
from utils.pieces import Values, build, build_piece, require, spell_out
from utils.records import Labels, Manifest, Recipe, Run, Unit, read_record, way_out
from utils.runtime import versions, warn_once
from utils.unit_files import check_paths, index_of, read_unit
from utils.views import EpochViews, Views


class Entry(NamedTuple):
    """One distilled image: its path below the run, the digest of its bytes, its class.   foreign: others'."""

    path: str
    sha256: str
    label: int
    foreign: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageManifest:
    """A run's complete IPC indices.

    ipc: complete indices from 0;  size: side [pixels];  mean, std: pixel statistics, in 0..1;
    stem: of the networks that made them;  saved: manifest.json, with recover's units, config and weights, and
    its protocol since that is recorded;  entries: of all complete indices, sorted by class, then index;
    foreign: the layout of a set that others made (utils/image_sets.py).
    """

    run: Path
    dataset: str
    class_names: list[str]
    ipc: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stem: str
    entries: tuple[Entry, ...] = ()
    foreign: str = ""
    saved: Values = dataclasses.field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def home(self) -> Path:
        """Where goes what is made and measured of the images, unless flags say otherwise."""
        return self.run

    def select(self, ipc: int) -> list[Entry]:
        """The first `ipc` images of every class, 0 for all.   Raises: ValueError when the run has fewer."""
        require(ipc <= self.ipc, f"--ipc {ipc}: the run has {self.ipc} complete IPC indices; "
                f"run recover with --ipc-end {ipc} first")
        whole = self.saved.get("whole_set", 0)
        if ipc and ipc < whole:
            warn_once(f"{self.run}: made for IPC {whole} together, so that its first {ipc} are not what the "
                      f"method makes at IPC {ipc}; recover them with --ipc-end {ipc} for that")
        return [entry for entry in self.entries if index_of(entry.path) < (ipc or self.ipc)]


def run_path(path: str) -> Path:
    """The run that `<run>` or `<run>/syn` names, whether it is there or not."""
    folder = Path(path)
    return folder.parent if folder.name == "syn" else folder


def run_folder(path: str, *, flag: str) -> Path:
    """The run that `<run>` or `<run>/syn` names.   Raises: FileNotFoundError naming flag and stage."""
    folder = run_path(path)
    if not path or not ((folder / "config.json").is_file() or (folder / "manifest.json").is_file()):
        why = "config.json or manifest.json" if folder.is_dir() else "such folder"
        raise FileNotFoundError(f"{flag} {path}: no distilled images there (no {why}); make them with "
                                f"recover/recover_r18.sh or python -m recover.data_synthesis")
    return folder


def _complete_units(run: Path, class_names: list[str]) -> tuple[int, list[Unit]]:
    """How many indices from 0 on are whole (each class has its image, or is said to be short)."""
    units = sorted((read_unit(path) for path in run.glob("units/ipc*_chunk*.json")),
                   key=lambda unit: (unit["ipc_id"], unit["chunk"]))
    covered: dict[int, set[str]] = {}
    for unit in units:
        covered.setdefault(unit["ipc_id"], set()).update(unit["short_classes"])
        for path in unit["files"]:
            covered.setdefault(index_of(path), set()).add(path.split("/")[1])
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
        published = read_record(path, Manifest, form="prism-images")
        for unit in published["units"]:
            check_paths(path, unit)
        return _image_manifest(run, published)
    saved = read_record(run / "config.json", Run, form="prism-images")
    config, names = saved["config"], saved["class_names"]
    ipc, units = _complete_units(run, names)
    if not ipc:
        raise FileNotFoundError(f"{run}: IPC index 0 is not finished; run recover to its end first "
                                f"(recover/recover_r18.sh or python -m recover.data_synthesis)")
    manifest: Manifest = {
        "format": saved["format"], "version": saved["version"], "dataset": config["dataset"],
        "class_names": names, "ipc": ipc, "size": config["size"], "mean": config["mean"],
        "std": config["std"], "config": config, "weights": saved["weights"],
        "versions": sorted({json.dumps(unit.pop("versions", {}), sort_keys=True) for unit in units}),
        "units": units}
    if "protocol" in saved:
        manifest["protocol"] = saved["protocol"]
    if "whole_set" in saved:
        manifest["whole_set"] = saved["whole_set"]
    if write and not (path.is_file() and path.read_bytes() == json_bytes(manifest)):
        write_json(path, manifest)
        return assemble_manifest(run, write=_complete_units(run, names)[0] > ipc)  # others finished meanwhile
    return _image_manifest(run, manifest)


def _image_manifest(run: Path, saved: Manifest) -> ImageManifest:
    require(len(saved["mean"]) == len(saved["std"]) == 3,
            f"{run}/config.json: expected mean and std of three channels; {way_out(run / 'config.json')}")
    class_ids = {name: i for i, name in enumerate(saved["class_names"])}
    files = {path: digest for unit in saved["units"] for path, digest in unit["files"].items()}
    strange = sorted({Path(path).parent.name for path in files} - class_ids.keys())
    require(not strange, f"{run}: images of {', '.join(strange[:1])}, which is no class of the run; delete "
            f"the records in {run / 'units'} that name it, and rerun recover")
    entries = [Entry(path, digest, class_ids[Path(path).parent.name]) for path, digest in files.items()]
    return ImageManifest(
        run=run, dataset=saved["dataset"], class_names=saved["class_names"], ipc=saved["ipc"],
        size=saved["size"], mean=tuple(saved["mean"]), std=tuple(saved["std"]), stem=saved["config"]["stem"],
        saved=dict(saved),
        entries=tuple(sorted(entries, key=lambda entry: (entry.label, entry.path))))


def image_set_digest(entries: list[Entry]) -> str:
    """One digest of distilled images (of `select`): labels belong to exactly these files."""
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
    protocol: Recipe

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def missing(self) -> list[Path]:
        """The epochs that are not there, whole, with their records."""
        paths = (label_path(self.folder, epoch)
                 for epoch in range(self.label_format.num_files(self.label_epochs)))
        return [path for path in paths if not has_labels(path)]

    def load(self, epoch: int) -> tuple[EpochViews, Tensors]:
        """Views and stored labels of an epoch of students.   Raises: as `load_labels`."""
        return load_labels(label_path(self.folder, epoch % self.label_epochs), views=self.views,
                           label_format=self.label_format, num_classes=self.num_classes,
                           num_images=self.num_images)


def _label_manifest(folder: Path, saved: Labels) -> LabelManifest:
    config: Values = dict(saved["config"])
    try:
        form, spelt = spell_out(LABEL_FORMATS, config["label_format"], "--label-format")  # once: topk:50
        views, label_format = build(Views, saved["views"]), build_piece(LABEL_FORMATS, form, config | spelt)
    except (ValueError, TypeError) as error:
        path = folder / "config.json"
        raise ValueError(f"{path}: no settings of this version ({error}); {way_out(path)}") from error
    return LabelManifest(
        folder=folder, digest=sha256_json(saved), dataset=saved["dataset"],
        class_names=saved["class_names"], ipc=saved["ipc"], images=saved["images"],
        num_images=saved["num_images"], stem=saved["stem"], seed=config["seed"],
        precision=config["precision"], epochs=config["epochs"],
        label_epochs=saved["label_epochs"], views=views, label_format=label_format,
        resampler=saved["resampler"], teachers=tuple(saved["teachers"]), weights=saved["weights"],
        config=config, protocol=saved["protocol"])


def assemble_label_manifest(folder: Path, *, write: bool = True) -> LabelManifest | None:
    """The manifest of a folder of labels, written to manifest.json; None while an epoch is missing.

    It is the folder's config.json with the library versions.
    Raises:  ValueError when the manifest that is there is not of this config.json.
    """
    saved, path = read_record(folder / "config.json", Labels, form="prism-labels"), folder / "manifest.json"
    manifest = _label_manifest(folder, saved)
    if manifest.missing():
        return None
    if path.is_file():
        there = read_record(path, Values)
        wrong = sorted(key for key, value in saved.items() if there.get(key) != value)
        require(not wrong, f"{path}: its {''.join(wrong[:1])} is not that of config.json beside it; delete "
                f"the manifest and rerun relabel, which writes it anew")
    elif write:
        write_json(path, {**saved, "versions": versions()})
    return manifest


def label_folders(path: str) -> list[Path]:
    """The folders of labels that --fkd-path names: itself, or those below it."""
    folder = Path(path)
    if (folder / "config.json").is_file():
        return [folder]
    return sorted(config.parent for config in folder.glob("*/config.json"))


def open_labels(path: str, ipc: int, *, write: bool = True) -> LabelManifest:
    """The manifest of finished labels, given their folder or its parent (`ipc` 0: its only one).

    Raises: FileNotFoundError naming the stage and command that make them; ValueError for another format.
    """
    folder = Path(path)
    made = label_folders(path)
    if made != [folder]:
        require(ipc or len(made) < 2, f"--fkd-path {path} holds labels of IPC "
                f"{', '.join(f.name for f in made)}; say which with --ipc")
        folder = folder / str(ipc) if ipc or not made else made[0]
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"--fkd-path {path}: no soft labels there; make them with "
                                f"relabel/relabel_r18.sh or python -m relabel.generate_soft_label")
    manifest = assemble_label_manifest(folder, write=write)
    if manifest is None:
        raise FileNotFoundError(f"{folder}: epochs of labels are missing or cut short; run relabel to its end"
                                f" first (relabel/relabel_r18.sh or python -m relabel.generate_soft_label)")
    if manifest.label_format.stored:
        manifest.load(0)  # its bytes now, the others' when they are read; all are as long as they were
    return manifest
