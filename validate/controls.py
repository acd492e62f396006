"""The image sets of an evaluation, and their labels: the distilled set, and as many real images beside it.

The stages do not import each other, so recover makes the real images and relabel the labels as processes.
A folder's name ends in a digest of its settings: what is there is finished work of just these, and is left.

    <out>/sets/random-0_1a2b3c4d/                   a run of recover: real images, chosen and never optimised
    <out>/sets/random-0_1a2b3c4d/fkd_5e6f7a8b/10/   its labels
    <out>/labels_5e6f7a8b/10/                       the distilled set's, where it had none that serve
"""
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from utils.files import sha256_json
from utils.flags import to_words
from utils.formats import ImageManifest, LabelManifest, assemble_manifest, image_set_digest, open_labels
from utils.interrupts import EXIT_INTERRUPTED, Interrupted
from utils.methods.controls import CONTROLS
from utils.pieces import Values, require
from utils.runtime import EXIT_BAD_INPUT, say

ROOT = Path(__file__).resolve().parent.parent
NAMES = tuple(control.name for control in CONTROLS)
REFERENCE = "random"
DISTILLED = "distilled"


class ImageSet(NamedTuple):
    """One set of images: what the table calls it, where it lies, the seeds of the students that see it."""

    name: str
    path: str
    seeds: tuple[int, ...]


class Labelled(NamedTuple):
    """Labels of an image set, of a kind."""

    images: ImageSet
    labels: LabelManifest


def run_stage(module: str, words: list[str]) -> None:
    """Runs a stage as a process and passes its lines on.

    Raises: ValueError, RuntimeError or Interrupted as it ended, with its last line.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, "-m", module, *words], stderr=subprocess.PIPE, text=True, encoding="utf-8",
        errors="replace", start_new_session=True, env={**os.environ, "PYTHONPATH": path})
    last = ""
    assert process.stderr
    try:
        for line in process.stderr:
            last = line.strip() or last
            say(line.rstrip())
        status = process.wait()
    except KeyboardInterrupt:  # the stage's to save: a terminal's Ctrl-C does not reach its session
        process.terminate()
        process.wait()
        raise
    if status == EXIT_INTERRUPTED:
        raise Interrupted(last.removeprefix("interrupted: ").removesuffix("; run the same command again"))
    if status:
        kind = ValueError if status == EXIT_BAD_INPUT else RuntimeError
        raise kind(f"{module} ended with status {status}: {last.removeprefix('error: ')}")


def command_line_of(module: str, words: list[str]) -> str:
    """A stage's command as a line for a shell, from PRISM's root."""
    return shlex.join(["python", "-m", module, *words])


class Maker:
    """Makes what is missing of sets and labels, and remembers the command of each.

    Args: images: the distilled set, of which `ipc` images a class count;  out: where all goes;
          places: flat settings that say where weights, test images and devices are, of which digests hold
          the threads alone;  real: where the real training images are;  memory: relabel's `MemoryFlags`;
          teachers: --arch-name and --pool, where known.
    """

    def __init__(self, images: ImageManifest, ipc: int, out: Path, *, places: Values, real: Values,
                 memory: Values, teachers: Values):
        self._images, self._ipc, self._out = images, ipc, out
        self._places, self._real, self._memory, self._teachers = places, real, memory, teachers
        self.commands: list[str] = []

    def _digest(self, *settings: object) -> str:
        return sha256_json([*settings, self._places["threads"]])[:8]

    def _stage(self, module: str, values: Values, more: list[str], where: Values,
               done: Callable[[], bool]) -> None:
        words = to_words({**values, **where, **self._places}) + more
        self.commands.append(command_line_of(module, words))
        if not done():
            run_stage(module, words)

    def real_images(self, name: str, *, seed: int) -> str:
        """The run of real images that a control chooses, as many a class as the distilled set has."""
        about, entries = self._images, self._images.select(self._ipc)
        suffixes = {Path(entry.path).suffix.lower() for entry in entries}
        values = {"protocol": name, "dataset": about.dataset, "size": about.size, "mean": about.mean,
                  "std": about.std, "stem": about.stem, "ipc_end": self._ipc, "seed": seed,
                  "image_format": "jpg" if suffixes <= {".jpg", ".jpeg"} else "png", **self._teachers}
        if len(entries) < self._ipc * about.num_classes:
            values["allow_short_classes"] = True
        run = self._out / "sets" / f"{name}-{seed}_{self._digest(values)}"

        def done() -> bool:
            try:
                return assemble_manifest(run).ipc >= self._ipc
            except FileNotFoundError:
                return False
        self._stage("recover.data_synthesis", values, [],
                    {"syn_data_path": run.parent, "exp_name": run.name, **self._real}, done)
        return str(run)

    def labels(self, of: ImageSet, values: Values, more: list[str]) -> LabelManifest:
        """The labels of a set.   Args: values, more: flat settings of relabel, and words behind them."""
        if of.name == DISTILLED:  # whose images may be made anew, where a control's folder says what it holds
            images = image_set_digest(self._images.select(self._ipc))
            folder = self._out / f"labels_{self._digest(values, more, images)}"
        else:
            folder = Path(of.path) / f"fkd_{self._digest(values, more)}"

        def done() -> bool:
            try:
                open_labels(str(folder), self._ipc)
                return True
            except FileNotFoundError:
                return False
        self._stage("relabel.generate_soft_label", {**values, "ipc": self._ipc}, more,
                    {"data": of.path, "fkd_path": folder, **self._memory}, done)
        return open_labels(str(folder), self._ipc)


def check_same_teachers(labelled: list[Labelled]) -> None:
    """Raises ValueError unless all labels are of the same networks: weights may have changed between runs."""
    first = labelled[0].labels
    for images, labels in labelled[1:]:
        require(labels.weights == first.weights, f"{labels.folder}: labels of {images.name} by other weights "
                f"({', '.join(labels.weights)}) than {first.folder} ({', '.join(first.weights)}); name the "
                f"same ones with --weights-dir, --arch-name and --pool, and another --out")
