"""How sets were made, from what, and at what cost: tables from what the stages recorded."""
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from utils.files import read_lines, readable
from utils.formats import label_folders
from utils.methods import METHODS, Case
from utils.pieces import Values
from utils.records import Labels, find_record
from utils.runtime import readable_time
from validate.reporting.parts import Block, Section, Table
from validate.reporting.scores import Test, tests_of
from validate.reporting.sets import Draw, ImageSet

LONG = 12  # rows of a table that stands open
DASH, NBSP = "\N{EN DASH}", "\N{NO-BREAK SPACE}"


def spread(values: Iterable[float], digits: int = 1, unit: str = "") -> str:
    """Mean, and with two values or more their standard deviation (n - 1)."""
    values = list(values)
    if not values:
        return DASH
    std = f"{NBSP}±{NBSP}{statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{std}{unit}"


def shown(value: Any) -> str:
    """A setting's value as people read it."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value)) or DASH
    if isinstance(value, bool):
        return "on" if value else "off"
    return DASH if value in ("", None) else str(value)


def labels_of(draw: Draw) -> Labels | None:
    """The labels of the most images of a class, if any are made."""
    folders = label_folders(str(draw.images.home / "fkd"))
    found = [find_record(folder / "config.json", Labels) for folder in folders]
    return max(filter(None, found), key=lambda labels: labels["ipc"], default=None)


# ---------------------------------------------------------------- how

def stages_of(own: ImageSet, tests: Sequence[Test]) -> dict[str, tuple[Values, Values]]:
    """Stage -> (config, protocol) as recorded of a set's first draw."""
    draw = own.draws[0]
    stages = {"recover": (draw.config, draw.images.saved.get("protocol"))}
    if labels := labels_of(draw):
        stages["relabel"] = dict(labels["config"]), labels["protocol"]
    models, ipcs = ({getattr(test, name) for test in tests} for name in ("model", "ipc"))
    for test, students in tests_of(draw).items():
        stages[f"validate, {test.labels} labels" + f", {test.model}" * (len(models) > 1)
               + f", IPC {test.ipc}" * (len(ipcs) > 1)] = (
            students.config, students.results[0]["protocol"])
    return {stage: (config, protocol) for stage, (config, protocol) in stages.items() if config and protocol}


def changes(own: ImageSet, stages: dict[str, tuple[Values, Values]]) -> list[list[str]]:
    """Rows of the settings that differ from the protocol: stage, setting, here, there."""
    rows = []
    for stage, (config, protocol) in stages.items():
        method = METHODS.get(protocol["name"])
        case = Case(own.images.dataset, own.images.ipc, config.get("model", ""))
        try:
            theirs = method.settings(stage.split(",")[0], case) if method else {}
        except ValueError:  # it has no such stage
            theirs = {}
        rows += [[stage, f"--{name.replace('_', '-')}", shown(config.get(name)), shown(theirs.get(name))]
                 for name in protocol["changed"]]
    return rows


def how_made(sets: Sequence[ImageSet], tests: Sequence[Test]) -> Section:
    """Each set's recipe, what it changes of it, and every setting."""
    text, blocks = [], []
    changed = {own.name: changes(own, stages_of(own, tests)) for own in sets if own.kind == "distilled"}
    several = list(changed.values())
    shared = [row for row in several[0] if all(row in rows for rows in several)] if len(several) > 1 else []
    if shared:
        blocks.append(Block(folded=True, table=Table(
            caption="Settings that differ from the protocol in every set", rows=shared,
            head=["stage", "setting", "here", "protocol"])))
    for own in sets:
        stages = stages_of(own, tests)
        if own.kind != "distilled":
            text.append(f"{own.name}: {describe_start(own, own.size)}, never optimised.")
            continue
        rows = [row for row in changed[own.name] if row not in shared]
        named = dict.fromkeys(p["name"] for _, p in stages.values())
        if not named:
            text.append(f"{own.name}: how these images were made is not recorded with them.")
            continue
        source = "; ".join(f"{name}: {METHODS[name].source}" for name in named if name in METHODS)
        blocks.append(Block(
            title=own.name, notes=[f"Protocol {source}.", *(
                f"Our reading of {name}: {METHODS[name].reading}" for name in named
                if name in METHODS and METHODS[name].reading)],
            folded=len(rows) > LONG, table=Table(
                caption=f"{own.name}: {'further ' * bool(shared)}settings that differ from the protocol",
                head=["stage", "setting", "here", "protocol"], rows=rows) if rows else None))
        blocks.append(Block(folded=True, table=Table(
            caption=f"{own.name}: every setting", head=["stage", "setting", "value"],
            rows=[[stage, f"--{name.replace('_', '-')}", shown(value)]
                  for stage, (config, _) in stages.items() for name, value in sorted(config.items())])))
    return Section(id="made", title="How it was made", text=text, blocks=blocks)


def describe_start(own: ImageSet, size: float) -> str:
    """Which real images a control is.   Args: size: as many of them."""
    init = own.draws[0].config.get("init", "")
    if own.kind == "whole":
        return f"all {size:,.0f} real training images"
    how = {"random": "drawn at random", "real": "the first of every class"}.get(init, f"chosen by {init}")
    return f"{size:,.0f} real training images, {how}"


# ---------------------------------------------------------------- from what

def from_what(sets: Sequence[ImageSet], real_images: int | None) -> Section:
    """Real data, and the teachers with their accuracy on test images."""
    images, draws = sets[0].images, [draw for own in sets for draw in own.draws]
    number = f"{real_images:,} real training images" if real_images else "real training images (their " \
        "number is not known here: the data lie elsewhere)"
    text = [f"{images.dataset}: {number}, {images.num_classes} classes, distilled at {images.size} × "
            f"{images.size} pixels."]
    seen: dict[str, dict[str, dict[str, float]]] = {}  # name -> split -> digest -> accuracy
    tested = set()
    for digest, own in ((digest, own) for draw in draws for digest, own in draw.checked.items()):
        seen.setdefault(own["name"], {}).setdefault(own.get("split", "training"), {})[digest] = \
            100 * own["accuracy"]
        if own.get("split") == "held-out":
            tested.add(own["images"])
    hashes: dict[str, dict[str, None]] = {}
    for draw in draws:
        labels = labels_of(draw)
        weights = draw.images.saved.get("weights", {}) | (labels["weights"] if labels else {})
        for name, digest in weights.items():
            hashes.setdefault(name, {})[digest] = None
    rows = [[name, roles(name, draws), spread(seen.get(name, {}).get("held-out", {}).values()),
             str(len(own)), ", ".join(digest[:12] for digest in own)] for name, own in hashes.items()]
    notes = [f"Accuracy in percent on {' or '.join(map(str, sorted(tested)))} held-out test images, ± the "
             f"standard deviation over a teacher's draws."] if tested else []
    missing = [row[0] for row in rows if row[2] == DASH]
    if missing:
        notes.append(f"{', '.join(missing)}: not measured on test images; recover measures teachers there "
                     f"with --val-dir.")
    block = Block(notes=notes, table=Table(
        caption="Teachers", rows=rows,
        head=["network", "what it taught", "test accuracy [%]", "draws", "weights, SHA-256"]))
    return Section(id="source", title="From what", text=text, blocks=[block] if rows else [])


def roles(name: str, draws: Sequence[Draw]) -> str:
    """What a network did for any of the runs."""
    units = [unit for draw in draws for unit in draw.units]
    labels = [own for draw in draws if (own := labels_of(draw))]
    found = {"images, by its logits": any(name in unit.get("primary", {}) for unit in units),
             "images, by its statistics": any(name in unit.get("aligned", {}) for unit in units)
             and not aligned_nothing(name, units),
             "drawn for its statistics, of which it has none (no BatchNorm)": aligned_nothing(name, units),
             "labels": any(name in own["teachers"] for own in labels)}
    return "; ".join(role for role, did in found.items() if did) or DASH


def aligned_nothing(name: str, units: Sequence[Values]) -> bool:
    """Whether a network's alignment was 0 in every unit that drew it: it has no BatchNorm to align with."""
    known = [value for unit in units if name in unit.get("aligned", {})
             for term, value in unit.get("final", {}).items() if term.endswith(f"/{name}")]
    return bool(known) and not any(known)


# ---------------------------------------------------------------- at what cost

def recover_seconds(draw: Draw) -> float:
    """Seconds of all units by the logs, those of interrupted sessions too."""
    return sum(seconds for path in draw.images.home.glob("log*.jsonl")
               for seconds in _sessions(read_lines(path)))


def _sessions(rows: Iterable[Values]) -> Iterator[float]:
    """Seconds of each session of a log.

    A new one is known by its clock, or by a unit that goes back; of one that went on from a save and logs
    later than the one before it ended nothing tells, and it counts from there.
    """
    last, steps = 0.0, dict[tuple[int, int], int]()
    for row in rows:
        unit, now = (row.get("ipc_id", -1), row.get("chunk", -1)), row.get("elapsed_s", last)
        if now < last or row.get("step", 0) <= steps.get(unit, -1):
            yield last
            steps = {}
        last = now
        if "step" in row:
            steps[unit] = row["step"]
    yield last


def relabel_seconds(draw: Draw) -> float:
    """Seconds of all stored epochs of labels."""
    return sum({(path, row["epoch"]): row["seconds_per_epoch"]
                for path in draw.images.home.glob("fkd/*/log*.jsonl") for row in read_lines(path)
                if "seconds_per_epoch" in row}.values())


def cost(sets: Sequence[ImageSet]) -> Section:
    """Seconds of each stage and bytes, the mean over draws."""
    rows = []
    for own in sets:
        walls = [row["wall_s"] for draw in own.draws for one in draw.students
                 for row in _rows(one.folder / "results.jsonl") if row.get("wall_s")]
        seconds = [statistics.fmean(map(spent, own.draws)) for spent in (recover_seconds, relabel_seconds)]
        images, labels = (statistics.fmean(folder_bytes(draw, place) for draw in own.draws)
                          for place in ("syn/*/*", "fkd/*/epoch_*.pt"))
        rows.append([own.name, f"{own.size:,.0f}", *(_time(s) for s in seconds),
                     _time(statistics.fmean(walls)) if walls else DASH,
                     readable(images) if images else DASH, readable(labels) if labels else DASH])
    devices = sorted({unit["device"] for own in sets for draw in own.draws for unit in draw.units
                      if "device" in unit})
    where = f" Images were made on: {', '.join(devices)}." if devices else ""
    block = Block(notes=[f"Means over draws, from the runs' logs; teachers' training is not in them.{where} "
                         f"FLOPs are not recorded by a run; sh scripts/reproduce.sh --dry-run counts those "
                         f"of the paper's rows."],
                  table=Table(caption="Cost of one draw", rows=rows, head=[
                      "set", "images", "recover", "relabel", "a student", "images, bytes", "labels, bytes"]))
    return Section(id="cost", title="At what cost", blocks=[block])


def folder_bytes(draw: Draw, place: str) -> int:
    """Bytes of a run's files of that pattern."""
    return sum(path.stat().st_size for path in draw.images.home.glob(place))


def _rows(path: Path) -> list[Values]:
    return list(read_lines(path)) if path.is_file() else []


def _time(seconds: float) -> str:
    return DASH if not seconds else f"{seconds:.1f} s" if seconds < 10 else readable_time(seconds)
