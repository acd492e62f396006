"""One page of HTML about distilled sets: is it any good, how was it made, from what, and at what cost.

    python -m validate.report out/demo            every run below it
    python -m validate.report RUN CONTROL         a run and its controls

Runs that differ only in the seed are draws of one set; runs of real images (recover --iteration 0) are
controls, known by their config.  The file holds all that it shows, asks for no network and runs no script.
"""
import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.files import readable, write_bytes
from utils.flags import flags_of, parse_config
from utils.pieces import Options, option
from utils.runtime import command_line
from validate.reporting.page import write_page
from validate.reporting.sets import find_runs, group


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig(Options):
    """What `python -m validate.report` takes."""

    runs: tuple[str, ...] = option((), "runs, or folders that hold runs; the command's first words are these")
    out: str = option("", "file to write; none: report.html in the folder that holds the runs, in the run of "
                      "a single one", identity=False)
    dataset: str = option("", "data set, of images that do not say it themselves")
    val_dir: str = option("", "folder of the real test data, of images that do not say their classes",
                          identity=False)


def default_path(words: Sequence[str], homes: Sequence[Path]) -> Path:
    """Where a report goes: to a single run, into the folder that was named, or that holds all runs.

    Args: homes: of the runs, where is what is made of them.
    """
    folder = homes[0] if len(homes) == 1 else Path(words[0]) if len(words) == 1 else \
        Path(os.path.commonpath([home.absolute() for home in homes]))
    return folder / "report.html"


def shown_command(config: ReportConfig) -> str:
    """The command of a config, its runs first, as people write them."""
    flags = flags_of(dataclasses.replace(config, runs=()), presets=lambda given: {})
    return shlex.join(["python", "-m", "validate.report", *config.runs, *flags])


def write(words: Sequence[str], path: Path | None = None, *, dataset: str = "", val_dir: str = "") -> Path:
    """Writes the report on runs, or folders that hold runs; returns its path.

    Raises: ValueError or FileNotFoundError, before anything is written.
    """
    found = find_runs(words, dataset=dataset, val_dir=val_dir)
    config = ReportConfig(runs=tuple(words), out=str(path or ""), dataset=dataset, val_dir=val_dir)
    page = write_page(group(found), command=shown_command(config))
    path = path or default_path(words, [own.home for own in found])
    write_bytes(path, page.encode())
    return path


def main(argv: list[str] | None = None) -> Path:
    """Writes the report; prints its path and size, and returns the path."""
    argv = list(sys.argv[1:] if argv is None else argv)
    words = []
    while argv and not argv[0].startswith("-"):
        words.append(argv.pop(0))
    config = parse_config(ReportConfig, [*(["--runs", *words] if words else []), *argv], description=__doc__)
    path = write(config.runs, Path(config.out) if config.out else None, dataset=config.dataset,
                 val_dir=config.val_dir)
    print(f"{path} ({readable(path.stat().st_size)})")
    return path


if __name__ == "__main__":
    command_line(main)
