"""Which networks each unit of recover drew, by the units' records."""
import dataclasses
from collections import Counter
from typing import Any

from utils.formats import ImageManifest
from utils.pieces import Values, require
from validate.figuring import style
from validate.figuring.figure import Figure
from validate.figuring.runs import NamedRun

DOTS = 60  # units up to which each one's logit teacher is marked


def numbers(runs: list[NamedRun]) -> Values:
    """Which networks the units of each run drew.

    Returns: {"runs": [{"name", "n": units, "networks": [..], "aligned": {network: units that drew it for its
    alignment}, "primary": {network: units that drew it for its logits}, "units": [{"draw", "index": IPC,
    "chunks": units of the index that drew the same, "aligned": {network: share of the iterations, in (0, 1]},
    "primary": the same}]}]}.  Sets that are not recover's, or not optimised, have no networks.
    """
    return {"runs": [{"name": run.name, **_drawn(run)} for run in runs]}


def _drawn(run: NamedRun) -> Values:
    columns: list[Values] = []
    for draw, images in enumerate(run.draws):
        for unit in images.saved.get("units", []):
            column = {"draw": draw, "index": unit["ipc_id"], "chunks": 1, **{
                role: {name: count / max(1, unit["iterations"]) for name, count in unit.get(role, {}).items()}
                for role in ("aligned", "primary")}}
            if columns and columns[-1] | {"chunks": 1} == column:  # `pre` draws once an index
                columns[-1]["chunks"] += 1
            else:
                columns.append(column)
    counts: dict[str, Counter[str]] = {"aligned": Counter(), "primary": Counter()}
    for role, of_role in counts.items():
        for column in columns:
            of_role.update(dict.fromkeys(column[role], column["chunks"]))
    drawn = {*counts["aligned"], *counts["primary"]}
    known = dict.fromkeys(name for images in run.draws for name in _networks(images))
    networks = [*known, *sorted(drawn - known.keys())] if drawn else []
    return {"n": sum(column["chunks"] for column in columns), "networks": networks, "units": columns,
            **{role: {name: of_role[name] for name in networks} for role, of_role in counts.items()}}


def _networks(images: ImageManifest) -> list[str]:
    """The networks that a run used, in its pool's order: one that no unit drew is among them."""
    used, pool = images.saved.get("weights", {}), images.saved.get("config", {}).get("pool") or []
    return [name for name in pool if name in used] + sorted(used.keys() - {*pool})


def draw(values: Values) -> Any:
    """A map a run, networks by units: for how long each aligned a unit, and a dot where it gave the logits.

    Raises: ValueError where no run has networks.
    """
    runs = [(i, run) for i, run in enumerate(values["runs"]) if run["networks"]]
    require(runs, "no run has units that drew networks: real images, and sets of others, have none")
    names = list(dict.fromkeys(name for _, run in runs for name in run["networks"]))
    figure = style.new_figure(style.PAGE, 0.2 + len(runs) * (0.6 + 0.18 * len(names)))
    rows = figure.subplots(len(runs), 2, squeeze=False, width_ratios=(4, 1))
    for (i, run), (ax, bars) in zip(runs, rows, strict=True):
        _draw_map(ax, run["units"], names, style.colour(i))
        ax.set_title(f"{style.plain(run['name'])}: {style.counted(run['n'], 'units')}",
                     color=style.colour(i), loc="left")
        _count(bars, [run["aligned"].get(name, 0) for name in names], style.colour(i))
    rows[-1][0].set_xlabel("units, by IPC index")
    dotted = ", dot: gave the logits" * any(len(run["units"]) <= DOTS for _, run in runs)
    style.note(figure, f"filled: drawn to align the unit's images (by BatchNorm, where it has any){dotted}; "
               f"right: of how many units")
    return figure


def _draw_map(ax: Any, units: list[Values], names: list[str], colour: str) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    shares = [[unit["aligned"].get(name, 0) for unit in units] for name in names]
    fading = LinearSegmentedColormap.from_list("share", ["#eeeeee", colour])
    ax.imshow(shares, cmap=fading, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    ax.hlines([y - 0.5 for y in range(1, len(names))], -0.5, len(units) - 0.5, color="white", linewidth=1.5)
    if len(units) <= DOTS:
        ax.vlines([x - 0.5 for x in range(1, len(units))], -0.5, len(names) - 0.5, color="white",
                  linewidth=1.5)
        ax.plot(*zip(*((x, names.index(name)) for x, unit in enumerate(units) for name in unit["primary"]),
                     strict=True), "o", color="white", markeredgecolor=style.INK, markersize=3.5)
    ax.set_yticks(range(len(names)), [style.plain(name) for name in names])
    begin = [x for x, unit in enumerate(units) if not x or unit["draw"] != units[x - 1]["draw"]]
    every = -(-len(units) // 12)
    ax.set_xticks(*((range(0, len(units), every), [unit["index"] for unit in units[::every]])
                    if len(begin) == 1 else (begin, [f"draw {units[x]['draw']}" for x in begin])))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _count(ax: Any, counts: list[int], colour: str) -> None:
    """Bars beside a map."""
    ax.barh(range(len(counts)), counts, color=colour, height=0.6)
    for y, count in enumerate(counts):
        ax.text(count, y, f" {count}", va="center", fontsize=7)
    ax.set(ylim=(len(counts) - 0.5, -0.5), xlim=(0, 1.3 * max(1, *counts)), yticks=[], xticks=[])
    ax.spines[:].set_visible(False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Teachers(Figure):
    """Which networks each unit drew."""

    def numbers(self, runs: list[NamedRun]) -> Values:
        return numbers(runs)

    def draw(self, values: Values) -> Any:
        return draw(values)
