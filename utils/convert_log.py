"""The curves of a run for others' viewers: log.jsonl as CSV, TensorBoard's events or a trackio project.

    python -m utils.convert_log out/full_resnet18 --to csv

Takes every log below the folder: recover's, the labels' (fkd/), the students' (validate/), teachers'.  No
stage depends on it, and nothing is sent anywhere.  A curve is the rows of a unit of recover, of a teacher, or
of a whole log, over their step or epoch; where work was resumed, the later row of a step stands.
"""
import csv
import dataclasses
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from utils.files import read_lines, write_bytes
from utils.flags import first_words, parse_config
from utils.pieces import Options, Values, option, require
from utils.runtime import command_line, say

PLACE = ("ipc_id", "chunk", "teacher", "step", "epoch")  # which row, not what was measured
EVENTS = "events.out.tfevents.0.prism"  # viewers want "tfevents" in it; fixed, so that a rerun replaces it


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertConfig(Options):
    """What `python -m utils.convert_log` takes."""

    run: str = option("", "folder with logs in it or below; may stand first, without the flag")
    to: Literal["csv", "tensorboard", "trackio"] = option("csv", "a table a log, an event file a curve, or a "
                                                          "project of the folder's name")
    out: str = option("", "folder for them; default: <run>/curves/<to>")


@dataclasses.dataclass(frozen=True)
class Curve:
    """name: of the log, then of the unit or teacher;  points: step or epoch -> {name: value}."""

    name: str
    points: dict[int, dict[str, float]]


def find_logs(run: Path) -> dict[str, Path]:
    """The logs below a folder by their paths without ending.   Raises: ValueError where there are none."""
    found = {path.relative_to(run).with_suffix("").as_posix(): path
             for path in sorted(run.rglob("log*.jsonl"))}
    require(found, f"{run}: no log*.jsonl in it or below; expected a run, labels, students or teachers")
    return found


def plain(name: object) -> str:
    """A name as one part of a path, which leads nowhere else."""
    return re.sub(r"[^\w-]", "_", str(name))


def curves_of(name: str, rows: list[Values]) -> Iterator[Curve]:
    """The curves of one log; rows without a step or an epoch (networks' memory) are of none."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for row in rows:
        at = row.get("step", row.get("epoch"))
        unit = f"/ipc{row['ipc_id']:04d}_chunk{row['chunk']:02d}" if "ipc_id" in row else \
            f"/{plain(row['teacher'])}" if "teacher" in row else ""
        values = {key: float(value) for key, value in row.items()
                  if key not in PLACE and isinstance(value, (int, float)) and not isinstance(value, bool)}
        if isinstance(at, int) and values:
            found.setdefault(name + unit, {}).setdefault(at, {}).update(values)
    yield from (Curve(unit, dict(sorted(points.items()))) for unit, points in found.items())


# ---------------------------------------------------------------- writers

def csv_bytes(rows: list[Values]) -> bytes:
    """Every row of a log, a column a field in the order in which they appear; empty where a row has none."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    table.writeheader()
    table.writerows({key: json.dumps(value) if isinstance(value, (list, dict)) else value
                     for key, value in row.items()} for row in rows)
    return text.getvalue().encode()


def write_csv(logs: dict[str, list[Values]], out: Path, project: str) -> None:
    """<out>/<log>.csv, whole rows: also those that are of no curve."""
    for name, rows in logs.items():
        write_bytes(out / f"{name}.csv", csv_bytes(rows))


def write_tensorboard(logs: dict[str, list[Values]], out: Path, project: str) -> None:
    """<out>/<curve>/, an event file each; an event's time is the log's seconds since its start.

    Raises: ValueError where the package is missing.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("--to tensorboard needs the package tensorboard: bash scripts/setup.sh "
                         "curves") from error
    for curve in (curve for name, rows in logs.items() for curve in curves_of(name, rows)):
        with tempfile.TemporaryDirectory() as folder:
            with SummaryWriter(folder) as writer:
                for at, values in curve.points.items():
                    for name, value in values.items():
                        writer.add_scalar(name, value, at, walltime=values.get("elapsed_s"))
            events, = Path(folder).iterdir()
            write_bytes(out / curve.name / EVENTS, events.read_bytes())


def write_trackio(logs: dict[str, list[Values]], out: Path, project: str) -> None:
    """<out>/<project>.db, a run of trackio a curve: shown by TRACKIO_DIR=<out> trackio show.

    Raises: ValueError where the package is missing, or the project is there already.
    """
    for name in [name for name in os.environ if name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")]:
        del os.environ[name]  # which would send the curves there
    os.environ |= {"TRACKIO_DIR": str(out.absolute()), "GRADIO_ANALYTICS_ENABLED": "False"}
    try:
        import trackio
    except ImportError as error:
        raise ValueError(f"--to trackio needs the package trackio, no part of our set-up: {sys.executable} "
                         f"-m pip install trackio") from error
    require(not list(out.glob(f"{project}.db*")), f"{out}: trackio's project {project} is there; delete its "
            f"files, or name another folder with --out")
    for curve in (curve for name, rows in logs.items() for curve in curves_of(name, rows)):
        run = trackio.init(project=project, name=curve.name, embed=False, auto_log_gpu=False)
        for at, values in curve.points.items():
            run.log(values, step=at)
        run.finish()


WRITERS: dict[str, Callable[[dict[str, list[Values]], Path, str], None]] = {
    "csv": write_csv, "tensorboard": write_tensorboard, "trackio": write_trackio}


def main(argv: list[str] | None = None) -> Path:
    """Converts the logs of a run; returns the folder of what was written."""
    config = parse_config(ConvertConfig, first_words(argv, "--run"), description=__doc__)
    require(config.run, "which run? python -m utils.convert_log RUN --to csv")
    run = Path(config.run)
    if not run.is_dir():
        raise FileNotFoundError(f"{run}: no such folder; expected a run, labels, students or teachers")
    out = Path(config.out) if config.out else run / "curves" / config.to
    logs = {name: list(read_lines(path)) for name, path in find_logs(run).items()}
    WRITERS[config.to](logs, out, plain(run.absolute().name))
    say(f"{out}: {len(logs)} logs of {run} for {config.to}")
    return out


if __name__ == "__main__":
    command_line(main)
