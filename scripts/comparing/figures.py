"""What one cell of a comparison came to in one draw, read from what its stages left on disk."""
import dataclasses
import json
import statistics
from pathlib import Path

from scripts.reproducing.plans import Plan
from utils.files import read_lines, write_json
from utils.pieces import Values
from utils.records import Result
from utils.runtime import hushed
from utils.unit_files import index_of
from validate import diversity
from validate.results import read_results


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """One cell in one draw.   None: not measured.

    top1, best, hard: in percent, of the last epoch, the best one, and of the last with hard labels;
    cosine: intra-class;  seconds: stage -> of the whole image set, of one student;  bytes of each folder.
    """

    top1: float
    best: float
    hard: float | None
    cosine: float | None
    seconds: dict[str, float]
    image_bytes: int
    label_bytes: int


def students_of(plan: Plan) -> list[Result]:
    """The finished students that a plan asks for; none before all are."""
    found = [result for result in read_results(plan.students) if result["seed"] in plan.validate.seeds]
    return found if len(found) == len(plan.validate.seeds) else []


def read_figures(plan: Plan, hard: Plan | None, measured: Path) -> Figures | None:
    """A cell's figures in a draw; None before its students are finished.

    Args: hard: the same images under hard labels;  measured: the folder of `measure_diversity`.
    """
    students, others = students_of(plan), students_of(hard) if hard else []
    if not students:
        return None
    found = _diversity_file(measured, students)
    cosine = json.loads(found.read_text(encoding="utf-8"))["mean"] if found.is_file() else None
    top1, best = (100 * statistics.fmean(result[epoch]["top1"] for result in students)
                  for epoch in ("last", "best"))
    return Figures(
        top1=top1, best=best, cosine=cosine, image_bytes=image_bytes(plan), label_bytes=label_bytes(plan),
        hard=100 * statistics.fmean(result["last"]["top1"] for result in others) if others else None,
        seconds={"recover": recover_seconds(plan.run, plan.ipc), "relabel": relabel_seconds(plan.labels),
                 "validate": validate_seconds(plan)})


# ---------------------------------------------------------------- diversity

def measure_diversity(plan: Plan, measured: Path, words: list[str]) -> None:
    """Measures finished students' images and keeps the result under the digest of these images.

    Args: words: flags of validate.diversity that say by which network.
    """
    found = _diversity_file(measured, students_of(plan))
    if plan.ipc > 1 and not found.is_file():  # one image a class has no pairs
        with hushed():
            write_json(found, diversity.main(["--data", str(plan.run), "--ipc", str(plan.ipc), *words]))


def _diversity_file(measured: Path, students: list[Result]) -> Path:
    return measured / f"{students[0]['images'][:16]}.json"


# ---------------------------------------------------------------- seconds and bytes

def recover_seconds(run: Path, ipc: int) -> float:
    """Seconds of the first `ipc` indices by the logs: of every session, what passed until their last line.

    Choosing what a run starts from is in it, checks of its teachers are not; a kill loses what passed since
    the line before it.
    """
    total = 0.0
    for path in run.glob("log*.jsonl"):
        before = 0.0
        for row in read_lines(path):
            now = row["elapsed_s"]
            if row.get("ipc_id", 0) < ipc:
                total += now - before if now >= before else now  # less: a session of its own
            before = now
    return total


def relabel_seconds(labels: Path | None) -> float:
    """Seconds of all stored epochs of labels by the logs; those computed while a student trains are its."""
    spent = {row["epoch"]: row["seconds_per_epoch"] for path in (labels.glob("log*.jsonl") if labels else ())
             for row in read_lines(path) if "seconds_per_epoch" in row}
    return sum(spent.values())


def validate_seconds(plan: Plan) -> float:
    """Mean seconds of one student by results.jsonl, those of interrupted runs included."""
    rows: list[Values] = list(read_lines(plan.students / "results.jsonl"))
    return statistics.fmean(row["wall_s"] for row in rows if row["seed"] in plan.validate.seeds)


def image_bytes(plan: Plan) -> int:
    """Bytes of the first images of every class."""
    return sum(path.stat().st_size for path in plan.run.glob("syn/*/*_ipc*")
               if index_of(path.name) < plan.ipc)


def label_bytes(plan: Plan) -> int:
    """Bytes of the stored labels."""
    return sum(path.stat().st_size for path in plan.labels.glob("epoch_*.pt")) if plan.labels else 0
