"""What a report's page is made of, before it is HTML: sections of blocks; charts as plain geometry.

Nothing here knows HTML: the templates beside this file write it, and escape every string.  Places along an
axis are percentages, so that a chart is as wide as the page and its letters stay as large as the text.
"""
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from utils.metrics import mean_and_std
from validate.figuring.runs import spread_over


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells, the first of each names the row."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    """A linear axis from low to high, with ticks at round numbers."""

    low: float
    high: float
    unit: str = ""

    def place(self, value: float) -> float:
        """Where a value lies [percent of the axis]; what is beyond an end lies at it."""
        return round(min(max(100 * (value - self.low) / (self.high - self.low), 0.0), 100.0), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(place, text) of four to eight round numbers."""
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / 4))
        step *= next(factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (step * factor) <= 6)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        values = [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [(self.place(value), f"{value:.{digits}f}{self.unit}") for value in values]


def axis_around(values: Iterable[float], *, least: float = -math.inf, most: float = math.inf,
                unit: str = "") -> Axis:
    """An axis on which all values lie, with a little room, within bounds."""
    values = list(values)
    low, high = min(values), max(values)
    room = max(0.08 * (high - low), 0.02 * abs(high), 1e-6)
    return Axis(low=max(low - room, least), high=min(high + room, most), unit=unit)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dot:
    """One row of a chart of dots: places of its mean, its bar and its single values; its kind colours it."""

    name: str
    text: str
    kind: str
    mean: float
    low: float
    high: float
    each: Sequence[float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dots:
    """Means with bars and single values, a row each."""

    title: str
    description: str
    axis: Axis
    rows: Sequence[Dot]
    shape: str = "dots"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A curve: its points as places (from the left, from the top), and the style of its stroke."""

    name: str
    style: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float]] = ()

    @property
    def path(self) -> str:
        """As SVG's `points`."""
        return places(self.points)

    @property
    def area(self) -> str:
        """Of the band around the curve, there along its upper edge and back along the lower one."""
        return places(self.band)


def places(points: Sequence[tuple[float, float]]) -> str:
    """As SVG's `points`."""
    return " ".join(f"{x:g},{y:g}" for x, y in points)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lines:
    """Curves over a common axis."""

    title: str
    description: str
    x: Axis
    y: Axis
    x_label: str
    y_label: str
    lines: Sequence[Line]
    shape: str = "lines"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scatter:
    """Points of several kinds: (left, top, what it is).   Places are percentages."""

    title: str
    description: str
    points: dict[str, Sequence[tuple[float, float, str]]]
    shape: str = "scatter"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matrix:
    """Which of the rows' things are in which of the columns."""

    title: str
    description: str
    rows: Sequence[tuple[str, Sequence[bool]]]
    columns: str
    shape: str = "matrix"


Chart = Dots | Lines | Scatter | Matrix


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """One image: its data URI, and what it is."""

    id: str
    uri: str
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A class's images."""

    id: str
    name: str
    tiles: Sequence[Tile]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """A set's images, a row a class.   native: small enough to show each pixel;  open: shown at once."""

    id: str
    caption: str
    rows: Sequence[Row]
    native: bool
    open: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """A chart with its numbers, or a table, or both; what to know of it, and the commands that make it.

    folded: the table stands behind a click: as the numbers of the chart, or for being long.
    """

    title: str = ""
    chart: Chart | None = None
    table: Table | None = None
    folded: bool = False
    notes: Sequence[str] = ()
    commands: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page."""

    id: str
    title: str
    text: Sequence[str] = ()
    blocks: Sequence[Block] = ()
    grids: Sequence[Grid] = ()


def thin(section: Section, most: int) -> Section:
    """A section whose tables and planes have at most so many rows, and points of a kind, evenly."""
    return dataclasses.replace(section, blocks=[dataclasses.replace(
        block, table=block.table and _thin_table(block.table, most),
        chart=_thin_points(block.chart, most) if isinstance(block.chart, Scatter) else block.chart)
        for block in section.blocks])


def _thin_table(table: Table, most: int) -> Table:
    num = len(table.rows)
    if num <= most:
        return table
    return dataclasses.replace(table, rows=[table.rows[i] for i in spread_over(num, most)],
                               caption=f"{table.caption} ({most:,} of {num:,} rows, spread evenly)")


def _thin_points(chart: Scatter, most: int) -> Scatter:
    if all(len(own) <= most for own in chart.points.values()):
        return chart
    return dataclasses.replace(chart, title=f"{chart.title} (at most {most:,} points of a kind)", points={
        kind: [own[i] for i in spread_over(len(own), most)] for kind, own in chart.points.items()})


STYLES = ("s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7")


def dots_chart(sets: Sequence[tuple[str, str, Sequence[float], str]], *, title: str, least: float = -math.inf,
               most: float = math.inf, unit: str = "") -> Dots:
    """Means with their standard deviations (n - 1).   Args: sets: (name, kind, values, what they come to)."""
    bars = [(mean - std, mean, mean + std) for _, _, each, _ in sets for mean, std in [mean_and_std(each)]]
    axis = axis_around((value for (_, _, each, _), bar in zip(sets, bars, strict=True)
                        for value in (*each, *bar)), least=least, most=most, unit=unit)
    return Dots(title=title, axis=axis, description="; ".join(f"{name} {text}" for name, _, _, text in sets),
                rows=[Dot(name=name, text=text, kind=kind, low=axis.place(low), mean=axis.place(mean),
                          high=axis.place(high), each=[axis.place(value) for value in each])
                      for (name, kind, each, text), (low, mean, high) in zip(sets, bars, strict=True)])


def lines_chart(curves: Mapping[str, Sequence[tuple[float, float]]], *, title: str, description: str,
                x_label: str, y_label: str, least: float = -math.inf, most: float = math.inf,
                unit: str = "", styles: Sequence[str] = STYLES,
                bands: Mapping[str, Sequence[float | None]] | None = None) -> Lines:
    """Curves as a chart.

    Args: curves: name -> [(x, y)], in the units of their axes;  bands: name -> half the width at each point.
    """
    xs = [x for points in curves.values() for x, _ in points]
    x = Axis(low=min(xs), high=max(max(xs), min(xs) + 1))
    around = {name: [(a, b + (half or 0), b - (half or 0)) for (a, b), half in zip(
        points, bands[name], strict=True)] for name, points in curves.items() if any(bands[name])
              } if bands else {}
    y = axis_around([y for points in curves.values() for _, y in points] + [
        y for points in around.values() for _, *ends in points for y in ends],
        least=least, most=most, unit=unit)
    return Lines(title=title, description=description, x=x, y=y, x_label=x_label, y_label=y_label, lines=[
        Line(name=name, style=styles[i % len(styles)],
             points=[(x.place(a), round(100 - y.place(b), 2)) for a, b in points],
             band=[(x.place(a), round(100 - y.place(b), 2)) for a, b in [
                 *((a, high) for a, high, _ in around.get(name, [])),
                 *((a, low) for a, _, low in reversed(around.get(name, [])))]])
        for i, (name, points) in enumerate(curves.items())])
