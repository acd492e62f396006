"""The images of one unit of recover as files, and the record that says that they are finished."""
import re
from pathlib import Path

from utils.pieces import require
from utils.records import Unit, read_record, way_out

OTHERS_INDEX = re.compile(r"(\d+)[^\d/]*\.\w+$")


def image_path(class_name: str, ipc_id: int, image_format: str) -> str:
    """Path of one distilled image below its run: syn/<class>/<class>_ipc0003.png."""
    return f"syn/{class_name}/{class_name}_ipc{ipc_id:04d}.{image_format}"


def index_of(path: str) -> int:
    """The IPC index of a distilled image, by its path; of others' files the last number of their name.

    Raises: ValueError where a name has no number.
    """
    index = path.rpartition("_ipc")[2].partition(".")[0]  # hundreds of thousands: no Path of each
    if index.isdecimal():
        return int(index)
    found = OTHERS_INDEX.search(path)
    if not found:
        raise ValueError(f"{path}: its name says no index")
    return int(found[1])


def unit_path(run: Path, ipc_id: int, chunk: int) -> Path:
    """Path of the record of a finished unit of recover."""
    return run / "units" / f"ipc{ipc_id:04d}_chunk{chunk:02d}.json"


def read_unit(path: Path) -> Unit:
    """The record of a finished unit.   Raises: ValueError where it is none, or names files of other units."""
    unit = read_record(path, Unit)
    require(path == unit_path(path.parents[1], unit["ipc_id"], unit["chunk"]),
            f"{path}: it is the record of another unit; delete it and rerun recover")
    check_paths(path, unit)
    return unit


def check_paths(record: Path, unit: Unit) -> None:
    """Raises: ValueError unless the files that a record names are images of its index, in the run."""
    indices = unit.get("indices", [unit["ipc_id"]])
    for path in unit["files"]:
        name = Path(path).parent.name
        require(path in [image_path(name, i, ending) for i in indices for ending in ("jpg", "png")],
                f"{record}: it names {path}, no image of index {' '.join(map(str, indices))}; "
                f"{way_out(record)}")


def has_unit(path: Path) -> bool:
    """Whether a unit is finished: its record is there, and its files, as many bytes as it says."""
    try:
        unit = read_unit(path)
        found = sum((path.parents[1] / name).stat().st_size for name in unit["files"])
        return found == unit.get("bytes", found)
    except (ValueError, FileNotFoundError, NotADirectoryError):  # damaged records promise nothing
        return False


