"""What later stages take from a run of recover that they are not told: which teachers, where; data set, IPC.

places.json of a run holds --weights and --weights-dir as recover was given them.  It is no part of the run's
identity: the run may move, and then says so with flags.
"""
from collections.abc import Sequence
from pathlib import Path

from utils.files import write_json
from utils.flags import WeightFlags
from utils.formats import assemble_manifest, label_folders, run_path
from utils.image_sets import images_per_class
from utils.methods import Case, MethodFlags, method_named
from utils.pieces import Values
from utils.records import Labels, Places, Run, find_record, read_record

PLACES = "places.json"  # which recover names among the files of a run


def save_places(run: Path, flags: WeightFlags) -> None:
    """Writes where recover was told that weights lie, as absolute paths."""
    pairs = (pair.partition("=") for pair in flags.weights)
    places: Places = {"weights": [f"{name}={Path(path).absolute()}" for name, _, path in pairs],
              "weights_dir": str(Path(flags.weights_dir).absolute()) if flags.weights_dir else ""}
    if find_record(run / PLACES, Places) != places:
        write_json(run / PLACES, places)


def inherited_places(run_or_syn: str, given: Values) -> Values:
    """--weights and --weights-dir of a run, for `presets`; an explicit --weights-dir replaces both.

    Raises: ValueError naming a places.json that holds anything else.
    """
    path = run_path(run_or_syn) / PLACES
    if "weights_dir" in given or not path.is_file():
        return {}
    saved = read_record(path, Places)
    return {"weights": tuple(saved["weights"]), "weights_dir": saved["weights_dir"]}


def inherited_pool(run_or_syn: str, recipe: Sequence[str]) -> Values:
    """--arch-name and --pool of a run, for `presets`, where it has none of the recipe's networks."""
    saved = find_record(run_path(run_or_syn) / "config.json", Run)  # a damaged one is named by who opens it
    pool = saved["config"].get("pool", []) if saved else []
    if not saved or not pool or set(pool) & set(recipe):
        return {}
    return {"arch_name": saved["config"]["arch_name"], "pool": tuple(pool)}


def inherited_case(run_or_syn: str, given: Values) -> Case:
    """The data set, IPC and student that a later stage's protocol is for, for `presets`.

    What flags do not say the run does, and the labels of --fkd-path; without either ImageNet-1K, IPC 10.
    """
    run, dataset, ipc = run_path(run_or_syn), given.get("dataset", ""), given.get("ipc", 0)
    wanted = method_named(given.get("protocol", MethodFlags.protocol)).depends_on_ipc
    if not dataset and (saved := find_record(run / "config.json", Run)):
        dataset = saved["config"]["dataset"]
    if wanted and not ipc and given.get("fkd_path"):
        made = label_folders(given["fkd_path"])
        labels = find_record(made[0] / "config.json", Labels) if len(made) == 1 else None  # else --ipc says
        ipc = labels["ipc"] if labels else 0
    if wanted and not ipc or not dataset:  # reads every unit's record
        try:
            found = assemble_manifest(run, write=False)
            dataset, ipc = dataset or found.dataset, ipc or found.ipc
        except (FileNotFoundError, ValueError):  # named by who opens them
            ipc = ipc or images_per_class(run_or_syn)
    return Case(dataset or Case.dataset, ipc or Case.ipc, given.get("model", ""))
