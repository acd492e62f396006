"""What distilled images started from, made again: recover without iterations, as a process of its own.

They are a run below the images', <home>/starts, made once.
"""
import os
import subprocess
import sys
from pathlib import Path

from models.places import inherited_places
from utils.flags import WeightFlags, to_words
from utils.formats import ImageManifest, assemble_manifest
from utils.pieces import Values
from utils.runtime import EXIT_BAD_INPUT, say

ROOT = Path(__file__).resolve().parents[1]
# Recover's settings that leave images as they start.
UNTOUCHED: Values = {"iteration": 0, "iteration_step": 0, "slices_per_batch": 1, "blocks": "one",
                     "perturbation": "none"}


def find_starts(images: ImageManifest, ipc: int) -> ImageManifest | None:
    """The starts of a set's first indices, where they are known: itself, where nothing changed its images.

    Returns: None where they were not remade (of this run, for so many indices), or the set is foreign.
    """
    config = images.saved.get("config")
    if not config or config.get("iteration") == config.get("iteration_step") == 0:
        return images if config else None
    try:
        found = assemble_manifest(images.home / "starts", write=False)
    except (FileNotFoundError, ValueError):
        return None
    settings = {name: value for name, value in found.saved["config"].items() if name not in UNTOUCHED}
    weights = found.saved["weights"]  # of the networks that choose or make starts
    return found if found.ipc >= ipc and found.class_names == images.class_names \
        and settings == {name: config.get(name) for name in settings} \
        and weights == {name: images.saved["weights"].get(name, weights[name]) for name in weights} else None


def remake_starts(images: ImageManifest, ipc: int, *, flags: WeightFlags,
                  train_data_path: str = "") -> ImageManifest | None:
    """The starts of the first `ipc` indices of a set, made unless they are there; None of a foreign set.

    Args:   flags: where networks are that starts ask, where the run does not say;  train_data_path: of the
            real images.
    Raises: ValueError or RuntimeError where recover refused or failed; it has said why.
    """
    found = find_starts(images, ipc)
    if found or not images.saved.get("config"):
        return found
    say(f"{images.home}: what its images started from is made again, by recover without iterations")
    places = inherited_places(str(images.run), {}) or {
        "weights": flags.weights, "weights_dir": flags.weights_dir}
    given = {**places, "train_data_path": train_data_path}
    status = subprocess.run(
        [sys.executable, "-m", "recover.data_synthesis", "--config", str(images.run / "manifest.json"),
         *to_words(UNTOUCHED), "--syn-data-path", str(images.home), "--exp-name", "starts", "--overwrite",
         "--ipc-end", str(images.saved.get("whole_set", ipc)),  # some starts are chosen for all at once
         *to_words({name: value for name, value in given.items() if value})],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    ).returncode
    if status:
        kind = ValueError if status == EXIT_BAD_INPUT else RuntimeError
        raise kind(f"{images.home}: its starts were not made again: recover ended with status {status}, and "
                   f"has said why above")
    return assemble_manifest(images.home / "starts")
