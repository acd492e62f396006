"""What a comparison decides: paired differences with intervals, and how many draws would decide the rest.

    python -m scripts.decide out/digits/comparison/rd3-ipc-10.json
    python -m scripts.decide A.json B.json --pairs prism:sre2l prism:random

Files are what scripts/compare.sh writes; several are pooled by the draws' numbers.  A pair is two names of
methods or variants, or best-distilled, best-selected (real images chosen otherwise than at random): in each
draw the best of the other draws.
"""
import dataclasses
from collections.abc import Sequence

from scripts.comparing.cells import UNDER
from scripts.comparing.deciding import Decision, clear_together, decide_all, default_pairs, named_pairs
from scripts.comparing.decision_text import page
from scripts.comparing.read import ResultFlags, read_comparison
from utils.flags import first_words, parse_config
from utils.pieces import option, require
from utils.runtime import command_line


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecideConfig(ResultFlags):
    """What `python -m scripts.decide` takes."""

    pairs: tuple[str, ...] = option((), "A:B, names of methods, variants, best-distilled or best-selected; "
                                    "none: each distilled one and random, the best, the first and sre2l",
                                    commas=True)
    kinds: tuple[str, ...] = option(UNDER, "labels: common, soft under one protocol for all; own, soft under "
                                    "each's own; hard", commas=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(set(self.kinds) <= set(UNDER), f"--kinds {' '.join(self.kinds)}: expected some of "
                f"{', '.join(UNDER)}")


def main(argv: Sequence[str] | None = None) -> list[Decision]:
    """Prints the decisions, and writes them where --out says so; returns them."""
    config = parse_config(DecideConfig, first_words(argv, "--files"), description=__doc__)
    compared = read_comparison(config.files)
    pairs = named_pairs(compared, config.pairs) or default_pairs(compared)
    require(pairs, f"{' '.join(config.files)}: no distilled method is in it; name --pairs A:B of "
            f"{', '.join(compared.methods)}")
    decisions = decide_all(compared, pairs, config.kinds)
    command = config.command("scripts.decide")
    config.write("prism-decisions", page(compared, decisions, command=command), {
        "command": command, "dataset": compared.dataset, "common": compared.common,
        "decisions": [
            decision.values() | {"holm": clear} for decision, clear in zip(
                decisions, clear_together(decisions), strict=True)]})
    return decisions


if __name__ == "__main__":
    command_line(main)
