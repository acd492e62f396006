"""A comparison as a picture: accuracy against cost, a row of panels an IPC, a column a kind of protocol.

matplotlib draws it, an extra (requirements-figures.txt): without it there is no picture and all else.
"""
import io
from collections.abc import Sequence

from scripts.comparing.cells import CONTROLS
from scripts.comparing.summary import Line, Tables
from validate.figuring.style import COLOURS, INK, MUTED, new_figure, plain_numbers, tidy

METHOD, CONTROL, *_ = COLOURS
GAP = 0.045  # between names, of a panel's height


def name_heights(values: Sequence[float], *, low: float, high: float, gap: float) -> list[float]:
    """Where names stand beside points: in their order, a gap apart, as near to the points as that allows.

    The least sum of squares, by pooling neighbours that are too near (isotonic regression).
    Args: low, high: between which they stay, if they fit.
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    pools: list[tuple[float, int]] = []  # mean of value - rank * gap, how many
    for rank, i in enumerate(order):
        mean, num = values[i] - rank * gap, 1
        while pools and pools[-1][0] >= mean:
            other, more = pools.pop()
            mean, num = (mean * num + other * more) / (num + more), num + more
        pools.append((mean, num))
    means = [min(max(mean, low), high - (len(values) - 1) * gap) for mean, num in pools for _ in range(num)]
    placed = dict(zip(order, (mean + rank * gap for rank, mean in enumerate(means)), strict=True))
    return [placed[i] for i in range(len(values))]


def draw_picture(tables: Tables) -> bytes:
    """The picture as PNG.   Raises: ImportError without matplotlib."""
    panels = tables.titled()
    columns = len({own for *_, own, _ in panels})
    figure = new_figure(5.5 * columns, 0.4 + 4.7 * len(panels) / columns)
    axes = list(figure.subplots(len(panels) // columns, columns, squeeze=False, sharey="row").flat)
    points = [_draw_points(ax, lines) for ax, (*_, lines) in zip(axes, panels, strict=True)]
    for ax, (title, _, own, _), there in zip(axes, panels, points, strict=True):
        _name_points(ax, there)  # once both panels have shared their limits
        ax.set_title(f"{tables.dataset}, {title}", fontsize=10, color=INK, loc="left")
        ax.set_xlabel("TFLOPs of recover, relabel and validate, one draw", fontsize=9, color=INK)
        if not own or columns == 1:
            ax.set_ylabel("top-1 [%], mean and std over draws", fontsize=9, color=INK)
    figure.suptitle("squares: real images alone;  circles: methods", fontsize=9, color=MUTED, x=0.01,
                    ha="left")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def _draw_points(ax, lines: Sequence[Line]) -> list[tuple[float, float, str]]:
    """Points with error bars; returns what there is to name: (TFLOPs, top-1, method)."""
    tidy(ax).set_xscale("log")
    plain_numbers(ax.xaxis)
    ax.tick_params(which="both", colors=INK, labelsize=8)
    points = []
    for line in lines:
        top1, control = line.over_draws("top1"), line.cell.method in CONTROLS
        if not (top1 and line.cost):
            continue
        points.append((line.cost.flops / 1e12, top1.mean, line.cell.method))
        ax.errorbar(*points[-1][:2], yerr=top1.std, fmt="s" if control else "o", markersize=6, capsize=2,
                    color=CONTROL if control else METHOD, elinewidth=1, zorder=3,
                    markerfacecolor="white" if control else METHOD)
    return points


def _name_points(ax, points: Sequence[tuple[float, float, str]]) -> None:
    """Names at the right of a panel, a thin line from each to its point."""
    low, high = ax.get_ylim()
    heights = name_heights([top1 for _, top1, _ in points], low=low, high=high, gap=GAP * (high - low))
    for (cost, top1, name), height in zip(points, heights, strict=True):
        ax.annotate(name, (cost, top1), (1.04, height), textcoords=ax.get_yaxis_transform(), fontsize=8,
                    va="center", color=CONTROL if name in CONTROLS else INK,
                    arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.4, "shrinkA": 0,
                                "shrinkB": 4, "relpos": (0, 0.5)})
