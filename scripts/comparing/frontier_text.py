"""Accuracy against cost in words: a table by work, and whether a variant can be a preset `fast`."""
from scripts.comparing.pareto import CHEAP, LEAST_DRAWS, Frontier, Point
from scripts.comparing.read import COMMON, HARD, OWN, Compared
from scripts.comparing.summary import difference_text
from scripts.reproducing.tables import markdown
from utils.files import readable
from utils.methods import STAGES
from utils.metrics import Paired

HEADS = ["name", "changes", *(f"{stage} [TFLOP]" for stage in STAGES), "work", "of base", "labels",
         "of base", f"{', '.join(STAGES)} [s]", "top-1", "to base (95 %)", "n", "frontier"]


def labels_text(compared: Compared, frontier: Frontier) -> str:
    """What the students were taught with."""
    return {COMMON: f"soft labels under {compared.common}",
            OWN: f"soft labels, each under its own protocol (random: {frontier.base.name}'s, or as named)",
            HARD: "hard labels"}[frontier.kind]


def _row(frontier: Frontier, own: Point, *, best: bool) -> list[str]:
    base, hard, top1 = frontier.base, frontier.kind == HARD, own.accuracy
    flops = own.cell.by_stage or {}
    counted = [f"{flops[stage]:.3g}" if stage in flops and stage in frontier.stages else "-"
               for stage in STAGES]
    seconds = [f"{own.seconds(stage):.1f}" if not hard or stage in frontier.stages else "-"
               for stage in STAGES]
    share = "-" if hard or not base.label_bytes else _percent(own.label_bytes / base.label_bytes)
    real = "real images" + (", with its labels and students" if own.like else "")
    kind = "the base" if own is base else own.changes or (real if own.control else "another method")
    return [own.name, kind, *counted, f"{own.work:.3g}", _percent(own.work / base.work),
            "-" if hard else readable(own.label_bytes), share, ", ".join(seconds),
            top1.text() if top1 else "-", "-" if own is base else difference_text(own.to_base),
            str(len(own.top1)), "yes" if best else ""]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def page(compared: Compared, frontier: Frontier, *, command: str, picture: str = "") -> str:
    """All of it as Markdown.   Args: picture: its file's name; empty: there is none."""
    best = {own.name for own in frontier.best}
    rows = [_row(frontier, own, best=own.name in best) for own in frontier.points]
    title = f"# Accuracy against cost: {frontier.base.name} on {compared.dataset}, IPC {frontier.ipc}"
    shown = f"\n![accuracy against work]({picture})\n" if picture else ""
    return f"{title}\n\n    {command}\n{shown}\n{markdown([HEADS, *rows])}\n" + "\n".join(
        f"- {text}" for text in [*statement(frontier), *_words(compared, frontier)])


def statement(frontier: Frontier) -> list[str]:
    """Which variants are at most a quarter of the base's work within one standard error, or that none is."""
    base, cheap = frontier.base, [own for own in frontier.variants if own.is_cheap(frontier.base)]
    wanted = f"at most {_percent(CHEAP)} of {base.name}'s work and within one standard error of its " \
             f"accuracy, as a paired difference over {LEAST_DRAWS} draws at least"
    if fast := frontier.fast:
        first = fast[0]
        assert isinstance(first.to_base, Paired)
        return [f"{wanted[0].upper()}{wanted[1:]}: {', '.join(own.name for own in fast)}. The most accurate, "
                f"**{first.name}** ({_told(frontier, first)}), is a candidate for a preset `fast`; chosen by "
                f"these draws among {len(frontier.variants)} variants, it has to hold in draws of its own."]
    why = ", ".join(f"{own.name} ({_told(frontier, own)})" for own in cheap) if cheap else \
        f"the cheapest takes {_percent(min(own.work for own in frontier.variants) / base.work)}" \
        if frontier.variants else "no variant of it is here"
    return [f"No variant is {wanted}: {why}."]


def _told(frontier: Frontier, own: Point) -> str:
    share, found = f"{_percent(own.work / frontier.base.work)} of the work", own.to_base
    if not isinstance(found, Paired):
        return f"{share}, {difference_text(found)} points in one draw, which has no standard error" \
            if found is not None else f"{share}, no draw in common"
    return f"{share}, {found.mean:+.1f} points, s.e. {found.standard_error:.1f}, 95 % " \
           f"{found.interval[0]:+.1f} to {found.interval[1]:+.1f}, n = {found.n} draws"


def _words(compared: Compared, frontier: Frontier) -> list[str]:
    numbers = {len(own.top1) for own in frontier.points}
    return [
        f"Top-1 in percent at the last epoch, {labels_text(compared, frontier)}, mean +- standard deviation "
        f"(n - 1) over draws of {compared.teachers}; in brackets the 95 % interval (Student's t) of the "
        f"difference to {frontier.base.name}, paired by draw; within one standard error: at least minus its "
        f"standard error, which more draws make harder.",
        f"Work: FLOPs of {', '.join(frontier.stages)}, counted for one draw, with those of choosing starts "
        f"and of measuring statistics among real images. A precision changes seconds and no FLOPs, a label "
        f"format bytes: the statement above is of FLOPs alone. Seconds are of this machine, by the logs; "
        f"statistics are in those of the first run that wanted them.",
        "Frontier: nobody is at least as accurate for less work, or more accurate for as much (what has "
        f"fewer than {LEAST_DRAWS} draws displaces nobody who has more); by the paired difference to the base"
        + (", since not all have the same draws." if len(numbers) > 1 else "."),
        *([f"Without draws or counted work: {', '.join(frontier.missing)}."] if frontier.missing else [])]
