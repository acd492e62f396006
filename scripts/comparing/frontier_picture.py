"""Accuracy against cost as a picture: every method at its work, those that nobody beats on a line.

matplotlib draws it, an extra (requirements-figures.txt).
"""
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from scripts.comparing.pareto import LEAST_DRAWS, Frontier, Point
from validate.figuring.style import COLOURS, INK, MUTED, new_figure, note, picture_bytes, plain_numbers, tidy

VARIANT, CONTROL, OTHER = COLOURS[0], COLOURS[1], COLOURS[2]
MARKER = 6  # points across


class Box(NamedTuple):
    """A rectangle of the picture [pixels], y upward."""

    left: float
    low: float
    right: float
    high: float

    def shared(self, other: "Box") -> float:
        """The area in which two overlap."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.high, other.high) - max(self.low, other.low)
        return max(width, 0.0) * max(height, 0.0)

    @property
    def area(self) -> float:
        """Width times height."""
        return (self.right - self.left) * (self.high - self.low)


def place_names(points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], *,
                avoid: Sequence[Box], frame: Box) -> list[Box]:
    """A place for each name near its point: off other names and the frame's outside, then off what to avoid.

    One after the other, the highest point's first, each where its distance and what it and the line to its
    point would cover cost least.
    Args: points, sizes: of each name;  avoid: points, error bars, lines.
    """
    placed: dict[int, Box] = {}

    def _cost(box: Box, x: float, y: float) -> float:
        dx, dy = (max(low - at, 0, at - high) for low, at, high in (
            (box.left, x, box.right), (box.low, y, box.high)))
        hidden = sum(map(box.shared, placed.values())) + box.area - box.shared(frame)
        line = (Box(at_x - 1, at_y - 1, at_x + 1, at_y + 1) for at_x, at_y in _between(
            (x, y), ((box.left + box.right) / 2, (box.low + box.high) / 2)))
        crossed = sum(own.shared(other) for own in line for other in placed.values())
        below = max(0.0, y - (box.low + box.high) / 2)  # where the names of lower points belong
        return math.hypot(dx, dy) + below / 2 + 10 * (hidden + crossed) + sum(map(box.shared, avoid))
    for i in sorted(range(len(points)), key=lambda i: -points[i][1]):
        (x, y), (width, height) = points[i], sizes[i]
        tries = [_beside(x, y, width, height, distance=distance * height, angle=turn * math.pi / 12)
                 for distance in (0.6, 1, 1.6, 2.4, 3.6, 5, 8, 12) for turn in range(24)]
        placed[i] = min(tries, key=lambda box: _cost(box, x, y))
    return [placed[i] for i in range(len(points))]


def _beside(x: float, y: float, width: float, height: float, *, distance: float, angle: float) -> Box:
    """A rectangle in a direction of a point, the side towards it at that distance."""
    middle_x = x + math.cos(angle) * (distance + width / 2)
    middle_y = y + math.sin(angle) * (distance + height / 2)
    return Box(middle_x - width / 2, middle_y - height / 2, middle_x + width / 2, middle_y + height / 2)


def _between(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """Places along a line, six pixels apart."""
    steps = max(1, round(math.dist(start, end) / 6))
    return [(start[0] + (end[0] - start[0]) * step / steps, start[1] + (end[1] - start[1]) * step / steps)
            for step in range(steps)]


def draw_frontier(frontier: Frontier, *, title: str) -> bytes:
    """The picture as PNG.   Raises: ImportError without matplotlib."""
    figure = new_figure(7, min(5.2, 3.4 + 0.1 * len(frontier.points)))
    ax = tidy(figure.subplots())
    if all(own.work > 0 for own in frontier.points):
        ax.set_xscale("log")
        plain_numbers(ax.xaxis)
    for own in frontier.points:
        _draw(ax, own, base=own is frontier.base)
    for own, following in itertools.pairwise(frontier.best):
        assert own.accuracy and following.accuracy
        ax.plot([own.work, following.work], [own.accuracy.mean, following.accuracy.mean], color=MUTED,
                linewidth=1.2, linestyle="--" if own.few or following.few else "-", zorder=2)
    ax.margins(x=0.12)
    ax.set_title(title, fontsize=10, color=INK, loc="left")
    ax.set_xlabel(f"TFLOPs of {', '.join(frontier.stages)}, one draw", fontsize=9, color=INK)
    ax.set_ylabel("top-1 [%], mean and std over draws", fontsize=9, color=INK)
    ax.tick_params(which="both", colors=INK, labelsize=8)
    note(figure, f"filled: {frontier.base.name} and variants;  open circles: other methods;  squares: real "
                 f"images alone;  line: the frontier;  faint, dashed: below {LEAST_DRAWS} draws")
    _name(figure, ax, frontier)
    return picture_bytes(figure, "png")


def _colour(own: Point, *, base: bool) -> str:
    return INK if base else VARIANT if own.variant else CONTROL if own.control else OTHER


def _draw(ax: Any, own: Point, *, base: bool) -> None:
    assert own.accuracy
    colour, order = _colour(own, base=base), 4 if base else 3
    ax.errorbar(own.work, own.accuracy.mean, yerr=own.accuracy.std, fmt="none", capsize=2, elinewidth=0.8,
                ecolor=colour, alpha=0.4, zorder=order - 2)
    ax.plot(own.work, own.accuracy.mean, "s" if own.control else "o", markersize=MARKER, color=colour,
            markerfacecolor=colour if base or own.variant else "white", zorder=order,
            alpha=0.4 if own.few and not base else None)


def _name(figure: Any, ax: Any, frontier: Frontier) -> None:
    """Names beside their points, with a thin line; the picture's layout is final from here on.

    All on the frontier have one, and of the others methods and real images under their own settings: no
    variants, and no random real images with labels that are not the base's.
    """
    figure.canvas.draw()
    figure.set_layout_engine("none")
    best = frontier.best
    named = [own for own in frontier.points if own in best or not (own.like or own.changes)]
    points = [_pixels(ax, own) for own in named]
    names = [figure.text(0.5, 0.5, own.name, fontsize=8) for own in named]
    sizes = [name.get_window_extent() for name in names]
    boxes = place_names(points, [(size.width, size.height) for size in sizes], avoid=_drawn(ax, frontier),
                        frame=Box(*map(float, ax.get_window_extent().extents)))
    for own, name, box, (x, y) in zip(named, names, boxes, points, strict=True):
        name.remove()
        offset = ((box.left + box.right) / 2 - x, (box.low + box.high) / 2 - y)
        at = tuple(pixels * 72 / figure.dpi for pixels in offset)
        ax.annotate(own.name, ax.transData.inverted().transform((x, y)), at, textcoords="offset points",
                    fontsize=8, va="center", ha="center", zorder=2.5,
                    color=_colour(own, base=own is frontier.base), arrowprops={
                        "arrowstyle": "-", "color": MUTED, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0})


def _pixels(ax: Any, own: Point, above: float = 0.0) -> tuple[float, float]:
    """Where a point is.   Args: above: by so many standard deviations."""
    assert own.accuracy
    x, y = ax.transData.transform((own.work, own.accuracy.mean + above * (own.accuracy.std or 0.0)))
    return float(x), float(y)


def _drawn(ax: Any, frontier: Frontier) -> list[Box]:
    """What names should not cover: points, error bars, and the frontier in small steps."""
    half = MARKER * ax.figure.dpi / 144
    found = [Box(x - half, y - half, x + half, y + half)
             for x, y in (_pixels(ax, own) for own in frontier.points)]
    for own in frontier.points:
        (x, low), (_, high) = _pixels(ax, own, -1), _pixels(ax, own, 1)
        found.append(Box(x - 1, low, x + 1, high))
    line = [_pixels(ax, own) for own in frontier.best]
    found += [Box(x - 3, y - 3, x + 3, y + 3) for start, end in itertools.pairwise(line)
              for x, y in _between(start, end)]
    return found
