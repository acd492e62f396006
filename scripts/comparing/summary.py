"""From every draw's figures to a comparison's tables: means, spreads, paired differences, and words.

A table an IPC and kind of protocol: all methods under the common one, and each under its own.
"""
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from scripts.comparing.cells import REFERENCE, UNDER, Cell
from scripts.comparing.figures import Figures
from scripts.comparing.variants import Variant
from scripts.reproducing.costs import Cost
from scripts.reproducing.tables import comma_separated, latex, markdown
from utils.files import readable
from utils.methods import METHODS
from utils.metrics import Paired, mean_and_std, paired
from utils.pieces import Values

ByDraw = Mapping[int, Figures]
STAGES = ("recover", "relabel", "validate")


@dataclasses.dataclass(frozen=True)
class Spread:
    """Mean over n draws, and standard deviation (n - 1), of which one draw says nothing."""

    mean: float
    std: float | None
    n: int

    def text(self, decimals: int = 1) -> str:
        """As a table shows it."""
        return f"{self.mean:.{decimals}f}" + ("" if self.std is None else f" +- {self.std:.{decimals}f}")


def spread(values: Iterable[float | None]) -> Spread | None:
    """Of the values that are there; None where none is."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    mean, std = mean_and_std(there)
    return Spread(mean, std if len(there) > 1 else None, len(there))


def difference(own: ByDraw, reference: ByDraw) -> Paired | float | None:
    """Top-1 minus the reference's in the draws that both have, in points: one such draw is a bare number."""
    each = [own[draw].top1 - reference[draw].top1 for draw in sorted(own.keys() & reference.keys())]
    return paired(each) if len(each) > 1 else each[0] if each else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A cell's line of a table.

    why: it could not run, in one line;  cost: of one draw, as counted;  whole_batch: a student sees all
    images in one batch.
    """

    cell: Cell
    draws: ByDraw
    reference: ByDraw
    cost: Cost | None = None
    why: str = ""
    whole_batch: bool = False

    def over_draws(self, name: str) -> Spread | None:
        """A figure's spread over draws."""
        return spread(getattr(figures, name) for figures in self.draws.values())

    def seconds(self, stage: str) -> float | None:
        """Mean seconds of a stage."""
        found = spread(figures.seconds[stage] for figures in self.draws.values())
        return found and found.mean

    @property
    def difference(self) -> Paired | float | None:
        """To random real images under the same protocol, draw by draw; to themselves none is taken."""
        return None if self.cell.method == REFERENCE else difference(self.draws, self.reference)

    def values(self) -> Values:
        """All of it as numbers, column -> value."""
        found, sizes = self.difference, next(iter(self.draws.values()), None)
        row: Values = {"method": self.cell.method, "protocol": self.cell.protocol, "ipc": self.cell.ipc,
                       "n": len(self.draws)}
        for name in ("top1", "best", "hard", "cosine"):
            own = self.over_draws(name)
            row |= {name: own and own.mean, f"{name}_std": own and own.std}
        low, high = found.interval if isinstance(found, Paired) else (None, None)
        row |= {"to_random": found.mean if isinstance(found, Paired) else found, "to_random_low": low,
                "to_random_high": high, **{f"{stage}_s": self.seconds(stage) for stage in STAGES},
                "tflops": self.cost and self.cost.flops / 1e12, "image_bytes": sizes and sizes.image_bytes,
                "label_bytes": sizes and sizes.label_bytes, "left_out": self.why}
        return row


# ---------------------------------------------------------------- tables

def difference_text(found: Paired | float | None) -> str:
    """A paired difference with its interval, as a table shows it."""
    if isinstance(found, Paired):
        low, high = found.interval
        return f"{found.mean:+.1f} ({low:+.1f} to {high:+.1f})"
    return "-" if found is None else f"{found:+.1f}"


COLUMNS: dict[str, Callable[[Line], str]] = {
    "method": lambda line: line.cell.method,
    "top-1": lambda line: _text(line.over_draws("top1")),
    "to random real (95 %)": lambda line: difference_text(line.difference),
    "n": lambda line: str(len(line.draws)),
    "best epoch": lambda line: _text(line.over_draws("best")),
    "hard labels": lambda line: _text(line.over_draws("hard")),
    "cosine": lambda line: _text(line.over_draws("cosine"), 3),
    "recover, relabel, validate [s]": lambda line: ", ".join(
        "-" if line.seconds(stage) is None else f"{line.seconds(stage):.1f}" for stage in STAGES),
    "TFLOPs": lambda line: f"{line.cost.flops / 1e12:.3g}" if line.cost else "-",
    "images": lambda line: _size(line, "image_bytes"),
    "labels": lambda line: _size(line, "label_bytes"),
}
OF_RANDOM = "random, same protocol"


def _text(found: Spread | None, decimals: int = 1) -> str:
    return found.text(decimals) if found else "-"


def _size(line: Line, name: str) -> str:
    return next((readable(getattr(figures, name)) for figures in line.draws.values()), "-")


def in_order(lines: Sequence[Line]) -> list[Line]:
    """The best first, what did not run last."""
    def top1(line: Line) -> float:
        found = line.over_draws("top1")
        return found.mean if found else -1.0
    return sorted(lines, key=top1, reverse=True)


def table(lines: Sequence[Line], *, own: bool) -> list[list[str]]:
    """One table as texts, the heads first.   Args: own: each under its own protocol."""
    columns = dict(COLUMNS)
    if own:
        columns[OF_RANDOM] = lambda line: _text(spread(f.top1 for f in line.reference.values()))
    return [list(columns), *([text(line) for text in columns.values()] for line in lines)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tables:
    """A comparison's lines by cell, and what is said of them all.

    draws, students: as asked for;  stranger: measures diversity;  scales: in words, what the recipe changes;
    variants: those among the methods;  teachers: sets of them that draws take in turn, 0 for one a draw;
    basis: data and teachers, of basis.py;  under, diversity: what was asked for.
    """

    lines: dict[Cell, Line]
    common: str
    dataset: str
    draws: int
    students: int
    stranger: str
    scales: str
    variants: Mapping[str, Variant] = dataclasses.field(default_factory=dict)
    teachers: int = 0
    basis: Values = dataclasses.field(default_factory=dict)
    under: Sequence[str] = UNDER
    diversity: bool = True

    def of(self, ipc: int, *, own: bool) -> list[Line]:
        """The lines of a table, in the order of the common protocol's means, or of its own without one."""
        lines = {cell: line for cell, line in self.lines.items() if cell.ipc == ipc}
        order = [*in_order([line for cell, line in lines.items() if cell.protocol == self.common]),
                 *in_order([line for cell, line in lines.items() if cell.protocol == cell.method])]
        cells = [Cell(line.cell.method, line.cell.method if own else self.common, ipc) for line in order]
        return [lines[cell] for cell in dict.fromkeys(cells) if cell in lines]

    def titled(self) -> list[tuple[str, int, bool, list[Line]]]:
        """(title, IPC, whether under own protocols, lines) of every table."""
        return [(f"IPC {ipc}, " + ("each under its own protocol" if own else f"all under {self.common}"), ipc,
                 own, lines) for ipc in sorted({cell.ipc for cell in self.lines}) for own in (False, True)
                if (lines := self.of(ipc, own=own))]

    def words(self, ipc: int, *, own: bool) -> list[str]:
        """What stands under a table."""
        method = METHODS[self.common]
        reading = method.reading
        protocol = "each method's own settings of labels and students, the controls' PRISM's" if own else \
            f"{self.common} for all, {method.source}" + (f"; our reading: {reading}" if reading else "")
        left = [f"Left out: {line.cell.method}: {line.why.rstrip('.')}."
                for line in self.of(ipc, own=own) if line.why]
        return [
            f"Data set {self.dataset}, IPC {ipc}, n up to {self.draws}: draws {self._teachers()}images, "
            f"labels and students ({self.students} a draw); protocol: {protocol}.",
            "Top-1 in percent at the last epoch, mean +- standard deviation (n - 1) over n draws; in "
            "brackets the 95 % interval (Student's t over draws) of the difference to random real images "
            "under the same protocol, draw by draw with the same teachers.",
            *([f"Hard labels: the same images without relabel, schedule and crops of {self.common}."]
              if "hard" in self.under else []),
            *([f"Cosine: between images of a class, by {self.stranger} that taught nobody; lower is more "
               "diverse."] if self.diversity else []),
            f"Seconds on this machine, of indices side by side where a method allows it, by its logs. "
            f"FLOPs counted for one draw, without diffusion and hard labels. {self.scales}",
            *self._whole_batches(ipc, own=own),
            *(f"{name} is {made.in_words()}." for name, made in self.variants.items()), *left]

    def _teachers(self) -> str:
        if not self.teachers:
            return "of teachers, "
        return "(one set of teachers) of " if self.teachers == 1 else \
            f"({self.teachers} sets of teachers in turn) of "

    def _whole_batches(self, ipc: int, *, own: bool) -> list[str]:
        """Whose students see all images in one batch."""
        names = [line.cell.method for line in self.of(ipc, own=own) if line.whole_batch]
        return [f"All images are one batch, an epoch one step: {', '.join(names)}."] if names else []

    def markdown(self) -> str:
        """All tables, each with its words."""
        return "\n".join(f"## {title}\n\n{markdown(table(lines, own=own))}\n"
                         + "".join(f"- {text}\n" for text in self.words(ipc, own=own))
                         for title, ipc, own, lines in self.titled())

    def latex(self) -> str:
        """All tables, each behind its words as comments."""
        return "\n".join("".join(f"% {text}\n" for text in (title, *self.words(ipc, own=own)))
                         + latex(table(lines, own=own)) for title, ipc, own, lines in self.titled())

    def csv(self) -> str:
        """Every cell as numbers, those of random real images under others' protocols too."""
        rows = [line.values() for line in self.lines.values()]
        return comma_separated([list(rows[0]), *([("" if value is None else str(value))
                                                 for value in row.values()] for row in rows)])

    def json(self) -> Values:
        """Every cell as numbers, with each draw's."""
        return {"dataset": self.dataset, "common": self.common, "students": self.students,
                "teacher_sets": self.teachers, **self.basis, "variants": {
                    name: made.values() for name, made in self.variants.items()}, "cells": [
            line.values() | {"tflops_by_stage": line.cost and {
                stage: getattr(line.cost, f"{stage}_flops") / 1e12 for stage in STAGES}, "draws": {
                    str(draw): dataclasses.asdict(figures) for draw, figures in line.draws.items()}}
            for line in self.lines.values()]}
