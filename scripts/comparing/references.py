"""Random real images with the labels and the students of another: what a method's images add to these.

Methods and variants that change neither labels nor students of one recipe share one set of figures.
"""
from collections.abc import Mapping
from typing import Any

from scripts.comparing.cells import REFERENCE, Cell
from scripts.comparing.read import CellFigures, Compared
from utils.methods import STAGES

TAUGHT = STAGES[1:]  # labels and students


def references(compared: Compared, *, ipc: int, first: str = "") -> dict[str, CellFigures]:
    """Name -> random real images with its labels and students, pooled over all who share them.

    They are shared where variants set the same of relabel and validate, and figures of the draws that two
    have in common are equal.   Args: first: whose name comes before others' that share its own.
    """
    found: dict[str, CellFigures] = {}
    for name in dict.fromkeys([first, *compared.methods]):
        own = compared.cells.get(Cell(REFERENCE, name, ipc))
        if own is None or not own.draws:
            continue
        same = next((other for other, seen in found.items()
                     if _taught(compared, other) == _taught(compared, name) and _agree(seen, own)), name)
        seen = found.get(same, own)
        found[same] = CellFigures(draws={**own.draws, **seen.draws}, tflops=seen.tflops,
                                  by_stage=seen.by_stage)
    return found


def _taught(compared: Compared, name: str) -> Mapping[str, Any]:
    own = compared.variants.get(name, {})
    return {stage: own[stage] for stage in TAUGHT if own.get(stage)}


def _agree(a: CellFigures, b: CellFigures) -> bool:
    shared = a.draws.keys() & b.draws.keys()
    return a.by_stage == b.by_stage and bool(shared) and all(
        a.draws[draw].top1 == b.draws[draw].top1 for draw in shared)
