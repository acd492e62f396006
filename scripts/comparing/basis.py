"""What a folder of comparisons is of: its data, and each draw's teachers.

Runs lie in folders named by their settings, which know neither: other data or other teachers of the same
settings would be taken for what lies there.
"""
from pathlib import Path

from scripts.reproducing.places import PlaceFlags
from scripts.reproducing.small_recipes import data_of, recipe_of
from utils.data import RealSet
from utils.files import sha256_file, sha256_json, write_json
from utils.folders import lock
from utils.pieces import Values, require
from utils.records import read_json


def data_basis(config: PlaceFlags) -> Values:
    """How many images there are to train teachers on, and to test students on."""
    name, val = data_of(config.dataset), config.val_dir or config.train_data_path
    return {"train_images": len(RealSet(name, config.train_data_path, "train", size=8)),
            "test_images": len(RealSet(name, val, "val", size=8))}


def teachers_basis(config: PlaceFlags, draw: int) -> str:
    """Eight hexadecimal digits of a draw's teachers' weights, those that are there."""
    folder = Path(config.teachers_dir(draw))
    files = {name: folder / f"{name}.pt" for name in recipe_of(config.dataset).teacher_names}
    return sha256_json({name: sha256_file(path) for name, path in files.items() if path.is_file()})[:8]


def bind(path: Path, config: PlaceFlags, draw: int) -> Values:
    """Holds a folder's comparisons to one set of data, and each draw to its teachers; returns what is known.

    Args:   path: of the JSON that says so.
    Raises: ValueError where the folder is of others.
    """
    data, teachers = data_basis(config), teachers_basis(config, draw)
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path.with_suffix(".lock"), wait=True):  # other processes bind other draws
        known: Values = read_json(path) if path.is_file() else {"data": data, "teachers": {}}
        for what, here, there in (("data", data, known["data"]), (
                f"teachers of draw {draw}", teachers, known["teachers"].setdefault(str(draw), teachers))):
            require(there == here, f"{path.parent} is of other {what}: {there}, here {here}; choose another "
                    "--out")
        write_json(path, known)
    return known
