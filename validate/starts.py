"""What a run's images started from, made once more: recover is deterministic.

The run's own settings with --iteration 0 keep the starts, in a run of their own, by a process of its own.
"""
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from models.places import inherited_places
from utils.files import write_json
from utils.flags import to_words
from utils.formats import Entry, ImageManifest
from utils.image_sets import open_images
from utils.methods.controls import REAL_STARTS
from utils.pieces import Values, require
from utils.runtime import say

ROOT = Path(__file__).resolve().parents[1]
# Without iterations nothing of these does anything; they may be checked against them.
BARE: Values = {"iteration": 0, "iteration_step": 0, "slices_per_batch": 1, "batching": "cross-class",
                "blocks": "one", "perturbation": "none", "min_teacher_accuracy": 0}


def starts_unknown(images: ImageManifest) -> str:
    """Why there is no real image that each image started from; empty where there is."""
    config = images.saved["config"]
    if "init" not in config:
        return "how these images were made is not recorded"
    whole = config["init"] == "medium" and config.get("factor", 0) == 0
    return "" if config["init"] in REAL_STARTS or whole else \
        f"images started from --init {config['init']}, no real image each"


def remake_starts(images: ImageManifest, ipc: int, folder: Path, *, train_data_path: str,
                  device: str) -> ImageManifest:
    """The run of the starts of the first `ipc` images a class, below `folder`; finished work there is kept.

    Networks that choose starts are looked for where the run's recover found them.
    Raises: ValueError with the line of a recover that fails, or where the starts are not the run's.
    """
    config = images.saved["config"]
    write_json(folder / "of.json", {"config": config})
    flags = BARE | {"syn_data_path": folder, "exp_name": "starts", "device": device,
                    "ipc_end": images.saved.get("whole_set", ipc), **inherited_places(str(images.run), {})}
    if train_data_path:
        flags["train_data_path"] = train_data_path
    say(f"{images.run}: its starts are made once more (recover --init {config['init']} --iteration 0)")
    done = subprocess.run(
        [sys.executable, "-m", "recover.data_synthesis", "--config", str(folder / "of.json"),
         *to_words({name: value for name, value in flags.items() if value not in ((), "")})],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get(
            "PYTHONPATH")])])}, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise ValueError(lines[-1].removeprefix("error: "))
    starts = open_images(str(folder / "starts"), flag="--starts")
    check_starts(images, starts)
    return starts


def check_starts(images: ImageManifest, starts: ImageManifest) -> None:
    """Raises ValueError unless the settings that both have, but for BARE, and networks are the run's."""
    own, theirs = images.saved["config"], starts.saved["config"]
    other = sorted(name for name in own.keys() & theirs.keys() - BARE.keys() if own[name] != theirs[name])
    other += sorted(name for name, digest in starts.saved["weights"].items()
                    if images.saved["weights"].get(name) != digest)
    other += ["class names"] * (images.class_names != starts.class_names)
    require(not other, f"the starts made now are not the run's: others are {', '.join(other)}")


def starts_of(entries: Sequence[Entry], starts: ImageManifest) -> list[Entry]:
    """The start of each image, by its path.   Raises: ValueError naming an image that has none."""
    by_path = {entry.path: entry for entry in starts.entries}
    missing = [entry.path for entry in entries if entry.path not in by_path]
    require(not missing, f"{starts.run}: no start of {''.join(missing[:1])}")
    return [by_path[entry.path] for entry in entries]
