"""Decisions in words and tables: a table an IPC, and a sentence of each that a reader can quote."""
from collections.abc import Sequence

from scripts.comparing.cells import REFERENCE
from scripts.comparing.deciding import (
    BEST,
    DRAW,
    LEAST_SETS,
    LEVEL,
    MOST_DRAWS,
    Decision,
    Pair,
    clear_together,
    distinct,
)
from scripts.comparing.pooling import in_draws
from scripts.comparing.read import COMMON, HARD, OWN, Compared
from scripts.comparing.summary import difference_text
from scripts.reproducing.tables import markdown


def labels_text(compared: Compared, pair: Pair, kind: str) -> str:
    """What the students of both sides were taught with."""
    others = [side for side in pair if side != REFERENCE]
    own = "each's own protocol" if len(others) > 1 else \
        "the chosen one's own protocol" if others[0] in BEST else f"{others[0]}'s own protocol"
    return {COMMON: f"soft labels under {compared.common}", OWN: f"soft labels under {own}",
            HARD: "hard labels"}[kind]


def needed_text(decision: Decision) -> str:
    """How many draws would decide what is open."""
    if decision.alike:
        return "-"
    return f"more than {MOST_DRAWS}" if decision.needed is None else f"about {decision.needed}"


def sentence(compared: Compared, decision: Decision, *, clear: bool) -> str:
    """One decision as a reader can quote it.   Args: clear: whether it stays clear among all."""
    head = f"{' - '.join(decision.pair)} on {compared.dataset} at IPC {decision.ipc}, " \
           f"{labels_text(compared, decision.pair, decision.kind)}: "
    found = decision.found
    if found is None:
        each = "".join(f"{value:+.1f} points in draw {draw}, " for draw, value in decision.each.items())
        return f"{head}{each}one draw decides nothing."
    if decision.alike:
        return f"{head}{found.mean:+.1f} points in all {found.n} draws: open; no spread to judge by." \
               f"{_behind(decision)}"
    low, high = found.interval
    answer = "decided" + ", also among all intervals here (Holm)" * clear if decision.decided else \
        f"open; {needed_text(decision)} draws would decide it with an even chance"
    return f"{head}{found.mean:+.1f} points (95 % {low:+.1f} to {high:+.1f}, n = {found.n} draws): " \
           f"{answer}.{_behind(decision)}"


def _behind(decision: Decision) -> str:
    """Who the best are, and the mean of each set of teachers."""
    told = "".join(f" {side} is {in_draws(names)}." for side, names in decision.chosen.items())
    by_teachers = ", ".join(f"{name} {mean:+.1f}" for name, mean in decision.by_teachers.items())
    return told + (f" By teachers: {by_teachers}." if by_teachers else "")


def _row(compared: Compared, decision: Decision, clear: bool) -> list[str]:
    found, p = decision.found, decision.p
    answer = "decided, Holm" if clear else "decided" if decision.decided else "open" if found else "no answer"
    return [" - ".join(decision.pair), labels_text(compared, decision.pair, decision.kind),
            difference_text(decision.known), str(len(decision.each)),
            "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}", answer,
            needed_text(decision) if answer == "open" else "-"]


HEADS = ["pair", "labels", "difference (95 %)", "n", "p", "answer", "draws that would decide it"]


def page(compared: Compared, decisions: Sequence[Decision], *, command: str) -> str:
    """All decisions as Markdown; those without a draw are named together."""
    shown = [(decision, clear) for decision, clear in zip(decisions, clear_together(decisions), strict=True)
             if decision.each]
    parts = [f"# What is decided: {compared.dataset}\n\n    {command}\n",
             "".join(f"- {text}\n" for text in _words(compared, decisions))]
    for ipc in compared.ipcs:
        own = [(decision, clear) for decision, clear in shown if decision.ipc == ipc]
        if own:
            parts += [f"## IPC {ipc}\n\n" + markdown([HEADS, *(_row(compared, *each) for each in own)]),
                      "".join(f"- {sentence(compared, decision, clear=clear)}\n" for decision, clear in own)]
    return "\n".join(parts).rstrip("\n")


def _choice(compared: Compared, decisions: Sequence[Decision]) -> str:
    """How the best of several is chosen."""
    there = [decision for decision in decisions if decision.chosen and decision.each]
    few = dict.fromkeys(str(decision.ipc) for decision in there if DRAW in decision.left_out.values())
    other = "the *other* draws"
    if compared.shared and few:
        other += f", which may share its teachers, as fewer than {LEAST_SETS} sets are there"
    if compared.shared and len(few) < len({decision.ipc for decision in there}):
        rest = f" (IPC {' '.join(few)}: {other})" if few else ""
        other = f"the draws of the *other* sets of teachers{rest}"
    return f"{' and '.join(BEST)}: in each draw the one with the highest mean over {other}, since the best " \
           f"of several on the draws that chose it is partly lucky. What is chosen so is at most as good " \
           f"as the true best; choices share draws, so these intervals are approximate."


def _sharing(compared: Compared) -> str:
    """What intervals over draws that share teachers do not cover."""
    number = len(set(compared.sets.values()))
    rest = "they say nothing of others" if number == 1 else \
        f"of others they say what {number} sets can; by teachers: the mean over the draws of each set"
    return f"Draws that share teachers are not independent, as the intervals take them to be: {rest}. Real " \
           f"images chosen by teachers alone (herding, k-centre) are the same ones in such draws."


def _words(compared: Compared, decisions: Sequence[Decision]) -> list[str]:
    """What is above the tables."""
    tests = distinct(decisions)
    firsts, clear = set(tests.values()), clear_together(decisions)
    again = len(tests) - len(firsts)
    missing = dict.fromkeys(
        f"{' - '.join(decision.pair)} ({labels_text(compared, decision.pair, decision.kind)}"
        f"{'; the best of others needs two draws' if set(BEST) & set(decision.pair) else ''})"
        for decision in decisions if not decision.each)
    return [
        f"Differences of top-1 in points at the last epoch, data set {compared.dataset}, paired by draw: "
        f"draws of {compared.teachers}, students of a draw: {compared.students}. In brackets the 95 % "
        f"interval over draws (Student's t); decided: it leaves out 0.",
        f"{len(firsts)} different intervals are here" + (
            f", the figures of {again} more are those of one of them" if again else "") +
        f"; were there no differences, about {LEVEL * len(firsts):.1f} of them would leave out 0 by chance. "
        f"{sum(decisions[i].decided for i in firsts)} do; {sum(clear[i] for i in firsts)} stay clear when "
        f"all are tested together (Holm).",
        "Draws that would decide it: if mean and spread stay as they are, the interval of so many draws "
        "leaves out 0 with an even chance; estimated from these few draws, so a guess at the order of "
        "magnitude.",
        *([_sharing(compared)] if compared.shared else []),
        *([_choice(compared, decisions)] if any(decision.chosen for decision in decisions) else []),
        *_absent(compared, decisions),
        *([f"No draw has both sides of: {'; '.join(missing)}."] if missing else [])]


def _absent(compared: Compared, decisions: Sequence[Decision]) -> list[str]:
    """Who cannot be the best for want of draws, and with which labels, where that is not with all."""
    kinds = {COMMON: f"under {compared.common}", OWN: "under its own protocol", HARD: "with hard labels"}
    every = list(dict.fromkeys(decision.kind for decision in decisions))
    found: dict[str, dict[str, list[str]]] = {}
    for decision in decisions:
        for side, names in decision.absent.items():
            for name in names:
                own = found.setdefault(side, {}).setdefault(name, [])
                own += [decision.kind] * (decision.kind not in own)
    return [f"{side} cannot be " + ", ".join(
        name + (f" ({', '.join(kinds[kind] for kind in own)})" if len(own) < len(every) else "")
        for name, own in by_name.items()) + ": draws are missing." for side, by_name in found.items()]
