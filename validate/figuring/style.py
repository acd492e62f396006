"""How figures look: sizes, colours, names.   Widths are a page's: what is set here is read at that size.

matplotlib draws them, an extra (requirements-figures.txt): `check_matplotlib` says where it is missing.
"""
import importlib.util
import io
import textwrap
from collections.abc import Sequence
from typing import Any

from utils.pieces import require

INK, MUTED, GRID = "#222222", "#767676", "#e6e6e6"
COLUMN, PAGE = 3.4, 7.0  # widths [inches]
# Okabe and Ito 2008: told apart by colour-blind readers, those too light for lines left out.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ("-", "--", ":", "-.")
FONT = 8  # points; ticks 7
# Names are other people's: no formulas in them.
SETTINGS: Any = {
    "font.size": FONT, "font.family": "DejaVu Sans", "svg.fonttype": "none", "pdf.fonttype": 42,
    "svg.hashsalt": "prism", "axes.titlesize": FONT, "axes.labelsize": FONT, "xtick.labelsize": 7,
    "ytick.labelsize": 7, "legend.fontsize": 7, "legend.frameon": False, "axes.edgecolor": MUTED,
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "lines.linewidth": 1.3, "axes.linewidth": 0.7, "text.parse_math": False}
UNDATED: dict[str, dict[str, None]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}


def check_matplotlib() -> None:
    """Raises: ValueError saying how to get matplotlib, where it is missing."""
    require(importlib.util.find_spec("matplotlib"),
            "figures are drawn by matplotlib, which is not installed: bash scripts/setup.sh figures")


def colour(i: int) -> str:
    """The colour of the i-th run, the same in all figures of the same runs."""
    return COLOURS[i % len(COLOURS)]


def dashes(i: int) -> Any:
    """The line of the i-th run: another where colours begin again."""
    return DASHES[i // len(COLOURS) % len(DASHES)]


def plain(name: str, longest: int = 28) -> str:
    """A name of other people's on one line, not too long, and none that a legend would hide."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
    text = text if len(text) <= longest else text[:longest - 3] + "..."
    return " " * text.startswith("_") + text


def new_figure(width: float, height: float) -> Any:
    """An empty figure [inches] that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(ax: Any, grid: str = "y") -> Any:
    """Takes away what carries nothing: the frame above and at the right.   Args: grid: x, y or ""."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    if grid:
        ax.grid(axis=grid, color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def band(ax: Any, at: Sequence[float], mean: Sequence[float | None], std: Sequence[float | None], *, run: int,
         label: str) -> None:
    """A mean as a line, one standard deviation to either side as a band where there is one.

    Args: run: whose it is, for its colour;  None: no value there.
    """
    there = [i for i, value in enumerate(mean) if value is not None]
    x, y = [at[i] for i in there], [mean[i] for i in there]
    ax.plot(x, y, color=colour(run), linestyle=dashes(run), label=label, marker="o" if len(x) < 12 else "",
            markersize=2.5)
    around = [(at[i], mean[i] - own, mean[i] + own) for i in there  # type: ignore[operator]
              if (own := std[i]) is not None]
    if around:
        ax.fill_between(*zip(*around, strict=True), color=colour(run), alpha=0.18, linewidth=0)


def log_axis(ax: Any, *, least: float) -> None:
    """A logarithmic y axis from `least` or more on, with plain numbers, more of them where it is short."""
    ax.set_yscale("log")
    low, high = max(ax.get_ylim()[0], least), ax.get_ylim()[1]
    ax.set_ylim(low, high)
    plain_numbers(ax.yaxis, (1, 2, 5) if high > 20 * low else (1, 1.5, 2, 3, 5, 7))


def plain_numbers(axis: Any, multiples: Sequence[float] = (1, 1.5, 2, 3, 4, 5, 6, 8)) -> None:
    """Marks a logarithmic axis at these multiples of powers of ten, as 20 and not as 2 x 10^1."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
    axis.set_major_locator(LogLocator(subs=multiples))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def counted(num: int, of: str) -> str:
    """How many: n = 3 seeds, n = 1 seed."""
    return f"n = {num} {of if num != 1 else of.removesuffix('s')}"


def note(figure: Any, text: str) -> None:
    """What says below a figure how it is read, in lines of its width."""
    lines = textwrap.wrap(text, int(20 * figure.get_figwidth()))
    figure.supxlabel("\n".join(lines), fontsize=7, color=MUTED, x=0.01, ha="left")


def legend(figure: Any, runs: Sequence[tuple[int, str, str]]) -> None:
    """The runs of a figure above it.   Args: runs: (number, name, what is said of it)."""
    from matplotlib.lines import Line2D
    lines = [Line2D([], [], color=colour(i), linestyle=dashes(i), label=f"{plain(name, 24)} ({text})")
             for i, name, text in runs]
    figure.legend(handles=lines, loc="outside upper left", ncols=min(len(lines), 3))


def picture_bytes(figure: Any, form: str) -> bytes:
    """A figure as a file's bytes: png at 300 dots an inch, pdf or svg, without a date."""
    file = io.BytesIO()
    figure.savefig(file, format=form, dpi=300, metadata=UNDATED[form])
    return file.getvalue()
