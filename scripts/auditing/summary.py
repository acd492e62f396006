"""The privacy experiment's table: what the attacks find in every world, over worlds, and what it decides."""
from collections.abc import Sequence
from typing import NamedTuple

from scripts.auditing.attacking import LOSS, NAMES, OFFLINE, ONLINE, Attacked, Worlds
from scripts.auditing.worlds import PRISM, RANDOM, SRE2L, TARGETS, Target
from utils.metrics import Paired, paired
from utils.pieces import Values

# Two worlds are each other's shadow models: the chance product of their memberships and confidences enters
# LiRA online's figures of both, so that the mean over worlds has twice the variance of worlds apart.
# Simulated with nothing to find, 10 worlds: its standard errors are too small by 1.5 (AUC) and 1.2 (TPR);
# those of the other attacks are right.
SHARED = 2 ** 0.5
PAIRS = ((PRISM, SRE2L), (PRISM, RANDOM), (SRE2L, RANDOM))


class Column(NamedTuple):
    """One figure of one attack, how it is written, and by how much its interval over worlds is widened."""

    attack: str
    figure: str
    title: str
    scale: float
    digits: int
    widen: float = 1

    def of(self, found: Attacked) -> list[float]:
        """Its value in each world."""
        return [self.scale * getattr(guess, self.figure) for guess in found[self.attack]]


COLUMNS = (Column(LOSS, "auc", "loss threshold: AUC", 1, 3), Column(ONLINE, "auc", "LiRA: AUC", 1, 3, SHARED),
           Column(OFFLINE, "auc", "LiRA offline: AUC", 1, 3),
           Column(LOSS, "tpr_at_1", "loss threshold: TPR at 1 % FPR [%]", 100, 1),
           Column(ONLINE, "tpr_at_1", "LiRA: TPR at 1 % FPR [%]", 100, 1, SHARED),
           Column(OFFLINE, "tpr_at_1", "LiRA offline: TPR at 1 % FPR [%]", 100, 1))
SHOWN = tuple(column for column in COLUMNS if column.attack != ONLINE)


def table(first: str, titles: Sequence[str], rows: dict[str, list[str]]) -> list[str]:
    """Lines of a Markdown table.   Args: first: title of the rows' names."""
    return [f"| {first} | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|",
            *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items())]


def widened(values: list[float], factor: float = 1) -> Paired:
    """Mean and 95 % interval over worlds (Student's t), the interval so many times as wide."""
    found = paired(values)
    low, high = (found.mean + factor * (bound - found.mean) for bound in found.interval)
    return found._replace(standard_error=factor * found.standard_error, interval=(low, high))


def level(found: Paired, digits: int) -> str:
    """A mean with its interval."""
    return f"{found.mean:.{digits}f} ({found.interval[0]:.{digits}f} to {found.interval[1]:.{digits}f})"


def sign(found: Paired) -> int:
    """The sign of a difference, 0 where its interval holds zero."""
    return (found.interval[0] > 0) - (found.interval[1] < 0)


def written(found: Paired, digits: int) -> str:
    """A difference with its interval, bold where that leaves out zero."""
    mark, (low, high) = "**" * abs(sign(found)), found.interval
    return f"{mark}{found.mean:+.{digits}f}{mark} ({low:+.{digits}f} to {high:+.{digits}f})"


def minus(a: list[float], b: list[float], factor: float = 1) -> Paired:
    """a - b, paired within a world.   Args: factor: of `widened`."""
    return widened([x - y for x, y in zip(a, b, strict=True)], factor)


def verdict(signs: list[int]) -> str:
    """How many figures tell two sets apart.   Args: signs: of each figure's difference."""
    more, less, num = signs.count(1), signs.count(-1), len(signs)
    if more and less:
        return f"the figures disagree: more leaks by {more} of {num}, less by {less}"
    if not more + less:
        return f"none of {num} figures tells them apart"
    return f"{'more' if more else 'less'} leaks by {more + less} of {num} figures"


def summary(lines: Sequence[Values]) -> str:
    """Tables and words of the finished worlds, as Markdown.

    Args:   lines: of worlds.jsonl.
    Raises: ValueError with fewer than four.
    """
    worlds = Worlds.of(sorted(lines, key=lambda line: line["world"]))
    found, tops = {name: worlds.attack(name) for name in NAMES}, worlds.accuracy
    levels = {name: [level(widened(tops[name]), 1), *(level(
        widened(own.of(found[name]), own.widen), own.digits) for own in COLUMNS)] for name in NAMES}
    differences, verdicts = {}, []
    for target in (Target(PRISM, True), Target(PRISM, False)):
        for a, b in PAIRS:
            mine, theirs = (str(Target(images, target.soft)) for images in (a, b))
            apart = [minus(own.of(found[mine]), own.of(found[theirs]), own.widen) for own in COLUMNS]
            labels = "soft" if target.soft else "hard"
            differences[f"{a} - {b}, {labels} labels"] = [written(minus(tops[mine], tops[theirs]), 1), *(
                written(own, column.digits) for own, column in zip(apart, COLUMNS, strict=True))]
            verdicts.append(f"- {a} against {b}, {labels} labels: {verdict(list(map(sign, apart)))}.")
    shown = {str(target): [level(widened(own.of(worlds.attack_shown(str(target)))), own.digits)
                           for own in SHOWN] for target in TARGETS if target.images == RANDOM}
    titles, half = [column.title for column in COLUMNS], int(worlds.inside[0].sum())
    return "\n".join([
        f"Was an image in the half that everything was made of? {len(lines)} worlds, {half} members and "
        f"{worlds.inside.shape[1] - half} others each; mean and 95 % interval over worlds.", "",
        *table("a student of", ["top-1", *titles], levels), "",
        "The same, paired within a world; bold where the interval leaves out zero:", "",
        *table("difference", ["top-1", *titles], differences), "", *verdicts,
        f"- One interval in twenty leaves out zero by chance: of these {len(verdicts) * len(COLUMNS)}, about "
        f"{len(verdicts) * len(COLUMNS) / 20:.0f}.", "",
        f"Was an image of the half among the {int(worlds.shown[0].sum())} that the student was shown?", "",
        *table("a student of", [column.title for column in SHOWN], shown)])
