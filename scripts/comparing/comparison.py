"""A comparison under way: every cell's plans, what is found of it on disk, what stands against it.

Nothing is kept but files: another process's draws, and an earlier run's, are found as one's own.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.comparing import figures, picture, summary
from scripts.comparing.cells import REFERENCE, Cell, cells_of
from scripts.reproducing.costs import Cost, count_cost
from scripts.reproducing.launch import MAINS, is_finished, run_stage, work_of
from scripts.reproducing.plans import Plan, batch_of, with_hard_labels
from scripts.reproducing.small_recipes import data_of, recipe_of
from utils.files import write_bytes, write_json
from utils.flags import to_words
from utils.pieces import Values, require
from utils.runtime import hushed, say

if TYPE_CHECKING:
    from scripts.compare import CompareConfig

REFUSALS = (ValueError, FileNotFoundError, RuntimeError)  # with which a stage says why it cannot run


def one_line(error: Exception) -> str:
    """Why a cell cannot run."""
    return " ".join(str(error).split()) or type(error).__name__


def run_missing(plan: Plan) -> None:
    """Runs the stages of which something is missing; labels that nobody stores are laid out all the same."""
    if is_finished(plan, "validate"):
        return
    for stage in MAINS:
        config = getattr(plan, stage)
        if config is not None and not (work_of(plan)[stage] and is_finished(plan, stage)):
            with hushed():
                run_stage(stage, [config])


class Comparison:
    """What is known of every cell.

    plans: by cell and draw;  why: of cells that cannot run here, in one line;  failed: likewise, by cell and
    draw;  costs: of one draw, counted;  found: whole figures, by cell and draw;  basis: of basis.py.
    """

    def __init__(self, config: CompareConfig, methods: list[str]):
        self.config = config
        self.cells = cells_of(methods, common=config.common, ipcs=config.ipcs, under=config.under,
                              variants=config.known)
        self.plans: dict[tuple[Cell, int], Plan] = {}
        self.why: dict[Cell, str] = {}
        self.failed: dict[tuple[Cell, int], str] = {}
        self.costs: dict[Cell, Cost] = {}
        self.found: dict[tuple[Cell, int], figures.Figures] = {}
        self.basis: Values = {}
        self._hard: dict[tuple[Cell, int], Plan] = {}
        for cell in self.cells:
            try:
                own = {(cell, draw): config.plan(cell, draw) for draw in range(config.draws)}
                self.costs[cell] = count_cost(own[cell, 0], data_of(config.dataset))
                self.plans |= own
            except REFUSALS as error:
                require(not {cell.method, cell.protocol} & set(config.known),
                        f"--variants {config.variants}: {cell}: {one_line(error)}")
                self.why[cell] = one_line(error)

    def runnable(self, draw: int) -> Iterator[Cell]:
        """The cells that nothing is known to stand against; a reference to what cannot run is not wanted."""
        for cell in self.cells:
            compared = dataclasses.replace(cell, method=cell.protocol)
            alone = cell.method == REFERENCE and cell.protocol != self.config.common
            lost = compared in self.why or (compared, draw) in self.failed
            if cell not in self.why and not (alone and lost):
                yield cell

    def left_out(self, cell: Cell) -> str:
        """Why a cell has no figures, or lacks those of some draws; empty where it lacks none."""
        draws: dict[str, list[str]] = {}
        for (failed, draw), text in self.failed.items():
            if failed == cell and (cell, draw) not in self.found:
                draws.setdefault(text, []).append(str(draw))
        told = (f"draw {' '.join(own)}: {text}" for text, own in draws.items())
        return self.why.get(cell, "") or "; ".join(told)

    @property
    def _measured(self) -> Path:
        return self.config.comparison / "diversity"

    def hard_plan(self, cell: Cell, draw: int) -> Plan | None:
        """The same images under hard labels, by the common protocol's schedule and views."""
        if "hard" not in self.config.under or (cell, draw) not in self.plans:
            return None
        common = dataclasses.replace(cell, protocol=self.config.common)
        if (common, draw) not in self._hard:
            self._hard[common, draw] = with_hard_labels(
                self.plans.get((common, draw)) or self.config.plan(common, draw))
        return self._hard[common, draw]

    def is_whole(self, cell: Cell, draw: int) -> bool:
        """Whether all figures of a cell in a draw are there."""
        self.look(cell, draw)
        return (cell, draw) in self.found

    def look(self, cell: Cell, draw: int) -> figures.Figures | None:
        """A cell's figures in a draw by what lies on disk, remembered once they are whole."""
        plan = self.plans.get((cell, draw))
        if plan is None or (cell, draw) in self.found:
            return self.found.get((cell, draw))
        hard = self.hard_plan(cell, draw)
        seen = figures.read_figures(plan, hard, self._measured)
        wanted = self.config.diversity and cell.ipc > 1
        if seen and not (hard and seen.hard is None) and not (wanted and seen.cosine is None):
            self.found[cell, draw] = seen
        return seen

    def make(self, cell: Cell, draw: int) -> figures.Figures:
        """Runs what is missing of a cell in a draw; returns its figures.   Raises: as the stages."""
        plan, hard, config = self.plans[cell, draw], self.hard_plan(cell, draw), self.config
        run_missing(plan)
        if hard:
            run_missing(hard)
        if config.diversity:
            figures.measure_diversity(plan, self._measured, to_words({
                **config.stranger, "device": config.device, "threads": config.threads}))
        seen = self.look(cell, draw)
        assert seen
        return seen

    def tables(self) -> summary.Tables:
        """Everything found so far, by other processes too."""
        config, recipe = self.config, recipe_of(self.config.dataset)
        draws = {cell: {draw: seen for draw in range(config.draws) if (seen := self.look(cell, draw))}
                 for cell in self.cells}
        return summary.Tables(
            common=config.common, dataset=config.dataset, draws=config.draws, students=config.students,
            variants={name: config.known[name] for cell in self.cells for name in (cell.method, cell.protocol)
                      if name in config.known}, teachers=len(config.weights_dir), basis=self.basis,
            under=config.under, diversity=config.diversity,
            stranger=config.stranger["arch_name"],
            scales=f"No method has its published budget here: the recipe of this data set multiplies "
                   f"iterations by {recipe.iterations:.3g} and epochs by {recipe.epochs:.3g} where a method "
                   f"has no settings of its own for it, and puts "
                   f"{', '.join(recipe.teacher_names)} in the place of the published networks" + (
                       f"; for all methods alike it changes {', '.join(recipe.alike)}" if recipe.alike else ""
                   ) + " (scripts/reproducing/small_recipes.py).",
            lines={cell: summary.Line(cell=cell, draws=draws[cell], reference=draws.get(cell.reference, {}),
                                      cost=self.costs.get(cell), why=self.left_out(cell),
                                      whole_batch=self._whole_batch(cell))
                   for cell in self.cells})

    def _whole_batch(self, cell: Cell) -> bool:
        plan = self.plans.get((cell, 0))
        return plan is not None and batch_of(plan) >= plan.ipc * plan.num_classes

    def write(self, name: str, *, drawn: bool) -> None:
        """Writes the tables, whole at any moment.   Args: drawn: the picture too."""
        tables, folder = self.tables(), self.config.comparison
        for ending, text in (("md", tables.markdown()), ("csv", tables.csv()), ("tex", tables.latex())):
            write_bytes(folder / f"{name}.{ending}", text.encode())
        write_json(folder / f"{name}.json", tables.json())
        if drawn:
            try:
                write_bytes(folder / f"{name}.png", picture.draw_picture(tables))
            except ImportError as error:
                say(f"no picture ({error}): pip install -r requirements-figures.txt")
