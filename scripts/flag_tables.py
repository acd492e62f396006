"""Writes every command's flags into its README, from the config that the command parses.

    python -m scripts.flag_tables            rewrites the tables;  --check fails if one is stale
"""
from pathlib import Path

from models.train_teachers import TeacherConfig
from recover.data_synthesis import RecoverConfig
from relabel.generate_soft_label import RelabelConfig
from utils.config import flag_table
from utils.runtime import command_line
from validate.diversity import DiversityConfig
from validate.train_FKD import ValidateConfig

ROOT = Path(__file__).resolve().parent.parent
TABLES = {RecoverConfig: "recover/README.md", RelabelConfig: "relabel/README.md",
          ValidateConfig: "validate/README.md", DiversityConfig: "validate/README.md",
          TeacherConfig: "models/README.md"}


def with_table(text: str, cls) -> str:
    """The page with the table between its markers replaced.   Raises: ValueError when a marker is missing."""
    opening, closing = f"<!-- flags of {cls.__name__} -->", f"<!-- end of {cls.__name__} -->"
    head, begin, rest = text.partition(opening)
    _, end, tail = rest.partition(closing)
    if not (begin and end):
        raise ValueError(f"expected the markers {opening} and {closing}")
    return f"{head}{opening}\n{flag_table(cls)}\n{closing}{tail}"


def refresh(*, write: bool) -> list[str]:
    """The pages with a table that is not what its config says, rewritten if `write`."""
    stale = []
    for cls, page in TABLES.items():
        old = (ROOT / page).read_text(encoding="utf-8")
        new = with_table(old, cls)
        if new != old:
            stale.append(page)
            if write:
                (ROOT / page).write_text(new, encoding="utf-8")
    return stale


def main(argv) -> None:
    """Rewrites every page, or with --check fails when one is stale."""
    stale = refresh(write="--check" not in argv)
    if stale and "--check" in argv:
        raise ValueError(f"stale flag tables in {', '.join(stale)}; run python -m scripts.flag_tables")


if __name__ == "__main__":
    command_line(main)
