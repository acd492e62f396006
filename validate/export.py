"""A distilled set for others' tools, with a check that a stranger can run.

    python -m validate.export RUN                      a numbered ImageFolder
    python -m validate.export RUN --to hub --license cc-by-4.0 --labels
    python -m validate.export RUN --to ddranking       for DD-Ranking 0.2.0
    python -m validate.export RUN --to safetensors     students and labels

Each has export.json (digests, class order, teachers' hashes, accuracies with their interval), verify.py,
which checks them with the standard library alone, a card, and the settings of every stage.
"""
import dataclasses
import sys
from pathlib import Path

from models.places import inherited_places
from utils.files import check_free_disk, readable, sha256_file
from utils.flags import parse_config
from utils.formats import ImageManifest, LabelManifest, image_set_digest, open_labels
from utils.image_sets import open_images
from utils.pieces import choice, option, piece_name, require
from utils.runtime import command_line, say, set_threads, warn_once
from validate.exporting import TARGETS, verify
from validate.exporting.card import card
from validate.exporting.contents import Contents, File, check_folder, json_file, made_of, write_export
from validate.exporting.hub import title
from validate.exporting.measured import find_students
from validate.exporting.targets import ImageFolder, NetworkFlags


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig(NetworkFlags):
    """What `python -m validate.export RUN` takes."""

    to: ImageFolder = choice(TARGETS, "imagefolder", "layout")
    out: str = option("", "folder to write: new, empty, or an earlier export of this set; none: "
                      "<run>-<layout>", identity=False)
    ipc: int = option(0, "images per class; 0 = all complete ones", range="in [0, 10000]")
    dataset: str = option("", "of a folder that others made: its data set; of a run: as its manifest",
                          identity=False)
    val_dir: str = option("", "of such a folder: the held-out real images, which name its classes",
                          identity=False)
    size: int | None = option(None, "side of the images [pixels], of a set of others; none: the data set's, "
                              "of folder:PATH the images' own", range="in [8, 8192]", neutral=None)
    fkd_path: str = option("", "soft labels, <run>/fkd/<ipc> or its parent; none: the run's, if they are of "
                           "these images", identity=False)
    students: tuple[str, ...] = option((), "folders of students (validate's --output-dir); none: all below "
                                       "the run", identity=False)


def find_labels(config: ExportConfig, images: ImageManifest, ipc: int, digest: str) -> LabelManifest | None:
    """The soft labels of exactly these images, taken at this size.

    Raises: ValueError where those of --fkd-path are of others.
    """
    own = images.home / "fkd" / str(ipc)
    if not config.fkd_path and not (own / "config.json").is_file():
        return None
    labels = open_labels(config.fkd_path or str(own), ipc, write=False)
    if (labels.images, labels.class_names, labels.views.size) == (digest, images.class_names, images.size):
        return labels
    wrong = f"{labels.folder}: labels of other images, or of another size, than those in {images.run}"
    require(not config.fkd_path, f"--fkd-path {wrong}; leave it out, or name theirs")
    warn_once(f"{wrong}; they are left out")
    return None


def open_contents(run: str, config: ExportConfig) -> Contents:
    """Everything that an export of a set is made from.   Raises: as `open_images` and `open_labels`."""
    images = open_images(run, flag="RUN", dataset=config.dataset, val_dir=config.val_dir,
                         size=config.size, write=False)
    entries, ipc = images.select(config.ipc), config.ipc or images.ipc
    digest = image_set_digest(entries)
    return Contents(images=images, entries=entries, ipc=ipc, labels=find_labels(config, images, ipc, digest),
                    students=find_students(images, config.students, digest))


def export(contents: Contents, config: ExportConfig, out: Path) -> Path:
    """Writes an export; returns the path of its export.json."""
    target, name = config.to, piece_name(TARGETS, config.to)
    there = check_folder(out, name, contents.digest)
    target.check(contents)
    labels = {path: entry.label
              for path, entry in zip(target.paths(contents), contents.entries, strict=False)}
    record = contents.record(name, labels, target.holds(contents))
    shared = [made_of("verify.py", Path(verify.__file__).read_bytes()),
              *(json_file(path, values) for path, values in contents.settings().items())]
    files: list[File] = [*target.files(contents, config), *shared]
    check_free_disk(out, sum(file.bytes for file in files if not (out / file.path).is_file()))
    called = getattr(target, "pretty_name", "") or title(contents)
    return write_export(out, files, card(contents, target, called, record["commands"], record["controls"]),
                        record, there)


def main(argv: list[str] | None = None) -> Path:
    """Exports a set; returns the path of its export.json."""
    flags = list(sys.argv[1:] if argv is None else argv)
    run = flags.pop(0) if flags and not flags[0].startswith("-") else ""
    require(run or {"-h", "--help"} & {*flags}, "which set? It stands first: python -m validate.export RUN "
            "--to " + " | ".join(TARGETS))
    config = parse_config(ExportConfig, flags, description=__doc__,
                          presets=lambda given: inherited_places(run, given))
    set_threads(config.threads)
    contents = open_contents(run, config)
    out = Path(config.out or f"{contents.images.home}-{piece_name(TARGETS, config.to)}")
    path = export(contents, config, out)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    say(f"{out}: {readable(size)}, whole; sha256 of export.json, to publish with it: {sha256_file(path)}")
    say(f"a stranger checks it with: python {out / 'verify.py'}")
    config.to.publish(out)
    return path


if __name__ == "__main__":
    command_line(main)
