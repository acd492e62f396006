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
    from matplotlib.colors import LinearSegmentedColormap
    runs = [(i, run) for i, run in enumerate(values["runs"]) if run["networks"]]
    require(runs, "no run has units that drew networks: real images, and sets of others, have none")
    heights = [1.1 + 0.17 * len(run["networks"]) for _, run in runs]
    figure = style.new_figure(style.PAGE, sum(heights))
    rows = figure.subplots(len(runs), 2, squeeze=False, height_ratios=heights, width_ratios=(4, 1))
    for (i, run), (ax, bars) in zip(runs, rows, strict=True):
        names, units, colour = run["networks"], run["units"], style.colour(i)
        shares = [[unit["aligned"].get(name, 0) for unit in units] for name in names]
        fading = LinearSegmentedColormap.from_list("share", ["#f4f4f4", colour])
        ax.imshow(shares, cmap=fading, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        dots = [(x, names.index(name)) for x, unit in enumerate(units) for name in unit["primary"]]
        if len(units) <= DOTS:
            ax.plot(*zip(*dots, strict=True), "o", color="white", markeredgecolor=style.INK, markersize=3.5)
        ax.set_yticks(range(len(names)), [style.plain(name) for name in names])
        ax.set_xticks(*_ticks(units))
        ax.set_xlabel("IPC index of the unit" if len({unit["draw"] for unit in units}) == 1 else
                      "draw: IPC index of the unit")
        ax.set_title(f"{style.plain(run['name'])}: {run['n']} units", color=colour, loc="left")
        _count(bars, run, colour)
    dotted = ", dot: gave the logits" if any(len(run["units"]) <= DOTS for _, run in runs) else ""
    figure.supxlabel(f"filled: aligned the unit's images{dotted}; right: units that drew the network",
                     fontsize=7, color=style.MUTED, x=0.01, ha="left")
    return figure


def _ticks(units: list[Values]) -> tuple[list[int], list[str]]:
    """At most twelve columns that are named, and their names."""
    at = list(range(0, len(units), -(-len(units) // 12)))
    several = len({unit["draw"] for unit in units}) > 1
    return at, [f"{units[i]['draw']}: {units[i]['index']}" if several else str(units[i]["index"]) for i in at]


def _count(ax: Any, run: Values, colour: str) -> None:
    """Bars beside a map: of how many units each network aligned the images."""
    counts = [run["aligned"][name] for name in run["networks"]]
    style.tidy(ax, grid="").barh(range(len(counts)), counts, color=colour, height=0.6)
    for y, count in enumerate(counts):
        ax.text(count, y, f" {count}", va="center", fontsize=7)
    ax.set(ylim=(len(counts) - 0.5, -0.5), xlim=(0, 1.3 * max(1, *counts)), yticks=[], xticks=[])
    ax.spines["bottom"].set_visible(False)
    ax.set_title("units", loc="left")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Teachers(Figure):
    """Which networks each unit drew."""

    def numbers(self, runs: list[NamedRun]) -> Values:
        return numbers(runs)

    def draw(self, values: Values) -> Any:
        return draw(values)
