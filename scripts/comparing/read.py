"""What scripts/compare.py wrote, read again: one comparison, of one file or of several pooled.

Draws are told apart by their number alone: of two files, equal numbers are one draw and must agree.
"""
import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from scripts.comparing.cells import CONTROLS, REFERENCE, UNDER, Cell
from scripts.comparing.figures import Figures
from scripts.comparing.pooling import Basis, in_words, same_data, sets_of
from scripts.comparing.variants import stage_flags
from utils.files import write_bytes, write_json
from utils.flags import flags_of
from utils.methods import STAGES
from utils.pieces import Options, Values, option, require
from utils.records import FORMAT_VERSION, Count, mismatch, read_json

COMMON, OWN, HARD = UNDER  # kinds of labels
WRITER = "expected a comparison's JSON: scripts/compare.sh writes <out>/<data set>/comparison/NAME.json"


# ---------------------------------------------------------------- the file

_Drawn = TypedDict("_Drawn", Figures.__annotations__)  # one cell in one draw


class _StageCosts(TypedDict, total=False):
    tflops_by_stage: dict[str, float] | None


class _CellRecord(_StageCosts):
    method: str
    protocol: str
    ipc: Count
    tflops: float | None
    draws: dict[str, _Drawn]


class _VariantRecord(TypedDict, total=False):
    method: str
    recover: Values
    relabel: Values
    validate: Values


class _Later(Basis, total=False):
    variants: dict[str, _VariantRecord]


class _Record(_Later):
    dataset: str
    common: str
    students: Count
    cells: list[_CellRecord]


# ---------------------------------------------------------------- a comparison

@dataclasses.dataclass(frozen=True, kw_only=True)
class CellFigures:
    """A cell's draws, and the work of one of them as counted, of all stages and by stage [TFLOP]."""

    draws: Mapping[int, Figures]
    tflops: float | None
    by_stage: Mapping[str, float] | None

    def top1(self, kind: str) -> dict[int, float]:
        """Draw -> top-1 [%] with labels of a kind, where it was measured."""
        values = {draw: own.hard if kind == HARD else own.top1 for draw, own in self.draws.items()}
        return {draw: value for draw, value in values.items() if value is not None}


NOTHING = CellFigures(draws={}, tflops=None, by_stage=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """A comparison.

    teachers: whose a draw's are, in words;  sets: draw -> digits of its teachers' weights, empty where a file
    does not say;  variants: name -> {"method", and what each stage changes}.
    """

    dataset: str
    common: str
    students: int
    teachers: str
    sets: Mapping[int, str]
    variants: Mapping[str, Mapping[str, Any]]
    cells: Mapping[Cell, CellFigures]

    @property
    def ipcs(self) -> Sequence[int]:
        """Images per class, ascending."""
        return sorted({cell.ipc for cell in self.cells})

    @property
    def methods(self) -> Sequence[str]:
        """Whose images are compared, in the order of the files."""
        return list(dict.fromkeys(cell.method for cell in self.cells))

    @property
    def shared(self) -> bool:
        """Whether draws share teachers, as far as the files say it."""
        return len(set(self.sets.values())) < len(self.sets)

    def maker(self, name: str) -> str:
        """The method that a name is a variant of, or itself."""
        return str(self.variants[name]["method"]) if name in self.variants else name

    @property
    def distilled(self) -> Sequence[str]:
        """Methods that are no real images alone."""
        return [name for name in self.methods if self.maker(name) not in CONTROLS]

    @property
    def selected(self) -> Sequence[str]:
        """Real images chosen otherwise than at random."""
        return [name for name in self.methods if self.maker(name) in CONTROLS[1:]]

    def changes(self, name: str) -> str:
        """What a variant changes of its method, as flags of the stages; empty of others."""
        own = self.variants.get(name, {})
        return "; ".join(stage_flags({stage: own[stage] for stage in STAGES if own.get(stage)}))

    def cell(self, method: str, *, ipc: int, kind: str, beside: str = "") -> CellFigures:
        """A method's images under the labels of a kind; without draws where they were not compared so.

        Hard labels are the images alone: in each draw they are those of the first cell that has them.
        Args: beside: under whose own protocol random real images are shown, where each has its own.
        """
        own = beside if method == REFERENCE and beside else method
        protocols = {COMMON: (self.common,), OWN: (own,), HARD: (self.common, own)}[kind]
        found = [cell for name in protocols if (cell := self.cells.get(Cell(method, name, ipc)))]
        first = next((cell for cell in found if cell.draws), NOTHING)
        return first if kind != HARD else dataclasses.replace(first, draws={
            draw: figures for cell in reversed(found) for draw, figures in cell.draws.items()
            if figures.hard is not None})

    def top1(self, method: str, *, ipc: int, kind: str, beside: str = "") -> dict[int, float]:
        """Draw -> top-1 [%] of a method's images.   Args: as `cell`."""
        return self.cell(method, ipc=ipc, kind=kind, beside=beside).top1(kind)


# ---------------------------------------------------------------- reading it

def read_comparison(paths: Sequence[str]) -> Compared:
    """One comparison of several files.

    Raises: ValueError on what no comparison wrote, or on files that disagree; FileNotFoundError.
    """
    require(paths, f"no file given; {WRITER}")
    records = {path: _read(Path(path)) for path in paths}
    first = records[paths[0]]
    for path, other in records.items():
        for name in ("dataset", "common", "students"):
            require(other[name] == first[name], f"{path}: {name} is {other[name]}, {paths[0]} has "
                    f"{first[name]}: these are not one comparison")
    same_data(records)
    variants: dict[str, Mapping[str, Any]] = {}
    cells: dict[Cell, CellFigures] = {}
    for path, record in records.items():
        for name, made in record.get("variants", {}).items():
            require(_settings(variants.setdefault(name, made)) == _settings(made),
                    f"{path}: variant {name} has other settings than in the files before it")
        for own in record["cells"]:
            cell = Cell(own["method"], own["protocol"], own["ipc"])
            cells[cell] = _pooled(cells.get(cell), _figures(own), f"{path}: {cell}")
    sets = sets_of(records, {draw for cell in cells.values() for draw in cell.draws})
    return Compared(dataset=first["dataset"], common=first["common"], students=first["students"],
                    teachers=in_words(sets, list(records.values())), sets=sets,
                    variants=variants, cells=cells)


def _read(path: Path) -> _Record:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; {WRITER}")
    value = read_json(path)
    wrong = mismatch(value, _Record)
    require(not wrong, f"{path}: {wrong}; {WRITER}")
    record: _Record = value
    for cell in record["cells"]:
        require(all(draw.isdecimal() for draw in cell["draws"]), f"{path}: draws of {cell['method']} are "
                f"{', '.join(cell['draws'])}, expected numbers; {WRITER}")
        for stages in (cell.get("tflops_by_stage"), *(own["seconds"] for own in cell["draws"].values())):
            require(stages is None or set(STAGES) <= stages.keys(),
                    f"{path}: a stage is missing of {cell['method']}, expected {', '.join(STAGES)}; {WRITER}")
    for name, made in record.get("variants", {}).items():
        require("method" in made, f"{path}: variants.{name}.method is missing; {WRITER}")
    return record


def _figures(record: _CellRecord) -> CellFigures:
    return CellFigures(tflops=record["tflops"], by_stage=record.get("tflops_by_stage"), draws={
        int(draw): Figures(**{name: own[name] for name in _Drawn.__annotations__})
        for draw, own in record["draws"].items()})


def _settings(made: Mapping[str, Any]) -> Values:
    return {name: made[name] for name in ("method", *STAGES) if made.get(name)}


def _pooled(seen: CellFigures | None, new: CellFigures, where: str) -> CellFigures:
    if seen is None:
        return new
    require(None in (seen.tflops, new.tflops) or seen.tflops == new.tflops,
            f"{where} is {new.tflops} TFLOP, in a file before it {seen.tflops}: these are not one comparison")
    draws = dict(seen.draws)
    for draw, own in new.draws.items():
        other = draws.setdefault(draw, own)
        for name in ("top1", "hard"):
            a, b = getattr(other, name), getattr(own, name)
            require(None in (a, b) or a == b, f"{where}, draw {draw}: {name} is {b}, in a file before it "
                    f"{a}: other draws need other numbers")
        draws[draw] = own if other.hard is None else other  # hard labels come after soft ones
    return CellFigures(draws=draws, tflops=seen.tflops if new.tflops is None else new.tflops,
                       by_stage=seen.by_stage or new.by_stage)


# ---------------------------------------------------------------- flags of what reads it

@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultFlags(Options):
    """What commands take that read comparisons and write a page."""

    files: tuple[str, ...] = option((), "JSON of scripts/compare.sh, pooled; the command's first words")
    out: str = option("", "FILE.md to write, FILE.json with its numbers beside it; none: the terminal alone")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(not self.out or self.out.endswith(".md"), f"--out {self.out}: expected FILE.md")
        taken = {Path(path).with_suffix("").resolve() for path in self.files}
        require(not self.out or Path(self.out).with_suffix("").resolve() not in taken,
                f"--out {self.out}: a comparison has that name; choose another")

    def command(self, module: str) -> str:
        """The command as a line for a shell, its files first."""
        flags = flags_of(dataclasses.replace(self, files=()), presets=lambda given: {})
        return shlex.join(["python", "-m", module, *self.files, *flags])

    def write(self, form: str, page: str, values: Values, picture: bytes | None = None) -> None:
        """Prints a page; writes it, its numbers and its picture where --out says so."""
        print(page)
        if not self.out:
            return
        path = Path(self.out)
        write_bytes(path, f"{page}\n".encode())
        write_json(path.with_suffix(".json"), {"format": form, "version": FORMAT_VERSION, **values})
        if picture:
            write_bytes(path.with_suffix(".png"), picture)
