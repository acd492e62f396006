"""A comparison as a picture: accuracy against cost, a row of panels an IPC, a column a kind of protocol.

matplotlib draws it, an extra (requirements-figures.txt): without it there is no picture and all else.
"""
import io
from collections.abc import Sequence

from scripts.comparing.cells import CONTROLS
from scripts.comparing.summary import Line, Tables

INK, MUTED, METHOD, CONTROL = "#222222", "#8a8a8a", "#2f5d9b", "#c2641c"
GAP = 0.055  # between names, of a panel's height


def name_heights(values: Sequence[float], *, low: float, high: float, gap: float) -> list[float]:
    """Where names stand beside points: each as near to its value as the gap to its neighbours allows.

    Args: low, high: between which they stay, as long as they fit.
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    placed = [0.0] * len(values)
    below = low - gap
    for i in order:
        below = placed[i] = max(values[i], below + gap)
    above = high + gap
    for i in reversed(order):
        above = placed[i] = min(placed[i], above - gap)
    return placed


def draw_picture(tables: Tables) -> bytes:
    """The picture as PNG.   Raises: ImportError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    panels = tables.titled()
    figure = Figure(figsize=(11, 0.4 + 2.35 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels) // 2, 2, squeeze=False, sharey="row").flat
    for ax, (title, _, own, lines) in zip(axes, panels, strict=True):
        _draw_panel(ax, [line for line in lines if line.draws and line.cost])
        ax.set_title(f"{tables.dataset}, {title}", fontsize=10, color=INK, loc="left")
        ax.set_xlabel("TFLOPs of recover, relabel and validate, one draw", fontsize=9, color=INK)
        if not own:
            ax.set_ylabel("top-1 [%], mean and std over draws", fontsize=9, color=INK)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def _draw_panel(ax, lines: Sequence[Line]) -> None:
    """Points with error bars; their names stand at the right, a thin line leads to each."""
    ax.set_xscale("log")
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    ax.tick_params(colors=INK, labelsize=8)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    points = [(line.cost.flops / 1e12, line.over_draws("top1"), line.cell.method) for line in lines]
    for cost, top1, name in points:
        control = name in CONTROLS
        ax.errorbar(cost, top1.mean, yerr=top1.std, fmt="s" if control else "o", markersize=6, capsize=2,
                    color=CONTROL if control else METHOD, elinewidth=1, zorder=3,
                    markerfacecolor="white" if control else METHOD)
    if not points:
        return
    ax.margins(x=0.08, y=0.08)
    ax.autoscale_view()
    (low, high), (left, right) = ax.get_ylim(), ax.get_xlim()
    edge = right * (right / left) ** 0.04
    ax.set_xlim(left, right * (right / left) ** 0.45)
    ax.set_ylim(low, high)
    heights = name_heights([top1.mean for _, top1, _ in points], low=low, high=high, gap=GAP * (high - low))
    for (cost, top1, name), height in zip(points, heights, strict=True):
        ax.annotate(name, (cost, top1.mean), (edge, height), fontsize=8, va="center",
                    color=CONTROL if name in CONTROLS else INK,
                    arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.4, "shrinkB": 4})
