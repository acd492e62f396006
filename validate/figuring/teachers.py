"""Which networks each unit of recover drew, by the units' records."""
from collections import Counter

from utils.formats import ImageManifest
from utils.pieces import Values
from validate.figuring.runs import NamedRun


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
