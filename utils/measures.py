"""What was measured of a distilled set, beside it: `<home>/measured/<name>.json`, which the report reads.

A measure says of which images it is (by their digest), at which IPC, by which command and versions; of other
images it is no measure any more.
"""
import shlex
from pathlib import Path
from typing import TypedDict

from utils.files import write_json
from utils.flags import Presets, flags_of
from utils.formats import ImageManifest, image_set_digest
from utils.image_sets import holds
from utils.pieces import Options, Values
from utils.records import FORMAT_VERSION, Count, read_record
from utils.runtime import versions


class _Size(TypedDict, total=False):
    size: Count


class Measure(_Size):
    """<home>/measured/<name>.json.   values: whatever was measured, as its module's docstring says.

    size: side at which the images were taken [pixels], of others' sets no fixed one.
    """

    format: str
    version: int
    name: str
    command: str
    images: str
    ipc: Count
    versions: Values
    values: Values


def command_of(module: str, config: Options, presets: Presets) -> str:
    """The command of a config as a line for a shell, from PRISM's root."""
    return shlex.join(["python", "-m", module, *flags_of(config, presets=presets)])


def save_measure(images: ImageManifest, name: str, values: Values, *, ipc: int, command: str) -> Path:
    """Writes a measure of the first `ipc` images of every class (0: all); returns its path."""
    path = images.home / "measured" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {
        "format": "prism-measure", "version": FORMAT_VERSION, "name": name, "command": command,
        "images": image_set_digest(images.select(ipc)), "ipc": ipc or images.ipc, "size": images.size,
        "versions": versions(), "values": values})
    return path


def read_measures(images: ImageManifest, prefix: str = "") -> dict[str, Measure]:
    """The measures of a set whose names begin so, by name; those of other images or another size left out.

    Raises: ValueError naming a damaged one.
    """
    found = {path.stem: read_record(path, Measure, form="prism-measure")
             for path in sorted((images.home / "measured").glob(f"{prefix}*.json"))}
    return {name: measure for name, measure in found.items() if holds(
        images, measure["images"], measure["ipc"]) and measure.get("size", images.size) == images.size}
