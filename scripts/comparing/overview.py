"""A comparison at a glance: a line a method with labels of every kind, then what pairs differ by."""
from collections.abc import Sequence

from scripts.comparing.cells import REFERENCE, UNDER
from scripts.comparing.deciding import Pair, decide
from scripts.comparing.read import COMMON, HARD, OWN, Compared
from scripts.comparing.references import references
from scripts.comparing.summary import Spread, difference_text, spread
from scripts.reproducing.tables import markdown


def overview(compared: Compared, *, ipc: int, pairs: Sequence[Pair]) -> str:
    """Mean top-1 +- standard deviation over draws (n - 1), and each pair's difference, bold where decided.

    A draw's work is that of all stages under the own protocol.  Kinds of labels that nobody has are left out.
    Random real images stand with the labels and students of variants too, where these change them.
    Args: pairs: of methods, or of best-distilled and best-selected.   Returns: Markdown.
    """
    real = [name for name in compared.methods if name not in compared.distilled]
    found = {name: {kind: spread(compared.top1(name, ipc=ipc, kind=kind).values()) for kind in UNDER}
             for name in (*compared.distilled, *real)}
    heads = {OWN: "soft labels, own protocol", COMMON: f"soft labels, {compared.common} for all",
             HARD: "hard labels"}
    kinds = [kind for kind in heads if any(row[kind] for row in found.values())]
    most = max((own.n for row in found.values() for own in row.values() if own), default=0)
    rows = [[f"{compared.dataset}, {ipc} image{'s' * (ipc > 1)} a class, n = {most} draw{'s' * (most > 1)}",
             *(heads[kind] for kind in kinds), "TFLOPs of a draw"]]
    for name, row in found.items():
        work = compared.cell(name, ipc=ipc, kind=OWN).tflops
        rows.append([name + (", real images" if name in real else ""),
                     *(_accuracy(row[kind], most) for kind in kinds), "-" if work is None else f"{work:.1f}"])
    for name, cell in references(compared, ipc=ipc, first=REFERENCE).items():
        if name in compared.variants:
            top1 = spread(cell.top1(OWN).values())
            rows.append([f"{REFERENCE}, as {name}", *(_accuracy(top1 if kind == OWN else None, most)
                                                       for kind in kinds),
                         "-" if cell.tflops is None else f"{cell.tflops:.1f}"])
    for pair in pairs:
        decisions = [decide(compared, pair, ipc=ipc, kind=kind) for kind in kinds]
        rows.append([f"{' - '.join(pair)}, paired (95 %)", *(
            f"**{difference_text(own.known)}**" if own.decided else difference_text(own.known)
            for own in decisions), ""])
    return markdown(rows).rstrip("\n")


def _accuracy(found: Spread | None, most: int) -> str:
    if found is None:
        return "-"
    return found.text() + ("" if found.n == most else f" (n = {found.n})")
