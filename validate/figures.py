"""Figures of runs, with the numbers behind them.

    python -m validate.figures cosine RUN OTHER                 two runs
    python -m validate.figures cosine A0,A1,A2 SRe2L=B0,B1,B2   draws; a name

The first word is the figure, the others are runs of recover or folders of images; flags follow, and
`FIGURE --help` shows a figure's own.
    embedding   real and distilled images in one plane (paper figure 1)
    cosine      intra-class cosine by class (paper figure 4), over draws
    starts      the same starts, run against run (paper figure 5)
    curves      students' loss and accuracy per epoch, over seeds or draws
    terms       each term of recover's loss over the iterations, over units
    teachers    which networks each unit drew

Beside <out>/FIGURE_RUN.png lies FIGURE_RUN.json: its numbers and its command.
"""
import dataclasses
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from models.places import inherited_places
from utils.files import write_bytes, write_json
from utils.flags import flags_of, parse_config
from utils.formats import image_set_digest
from utils.pieces import Values, choice, flatten, option, require
from utils.runtime import command_line, say, versions
from utils.session import open_session
from validate.figuring import FIGURES, style
from validate.figuring.figure import Figure, SourceFlags
from validate.figuring.runs import NamedRun, open_runs, split_word

NAME = 80  # characters of a file's


@dataclasses.dataclass(frozen=True, kw_only=True)
class FiguresConfig(SourceFlags):
    """What `python -m validate.figures` takes."""

    figure: Figure = choice(FIGURES, "cosine", "which figure; or the first word")
    runs: tuple[str, ...] = option((), "RUN, A0,A1,A2 (draws), NAME=RUN; or the words behind it",
                                   identity=False)
    out: str = option("out/figures", "folder of the pictures", identity=False)
    format: Literal["png", "pdf", "svg"] = option("png", "of the pictures", identity=False)


def presets(given: Values) -> Values:
    """Where the first run says that weights lie."""
    words = given.get("runs", ())
    return inherited_places(split_word(words[0])[1][0], given) if words else {}


def to_flags(argv: Sequence[str]) -> list[str]:
    """The words before the flags as flags: the figure, then runs."""
    words = [*argv]
    num = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    if not num:
        return words
    require(words[0] in FIGURES, f"{words[0]} is no figure; expected one of {', '.join(FIGURES)}, then runs")
    return ["--figure", words[0], *["--runs"][:num - 1], *words[1:num], *words[num:]]


def shown_command(config: FiguresConfig) -> str:
    """The command of a config: its words first, as people write them."""
    flags, figure = flags_of(config, presets=presets), flatten(config)["figure"]
    for flag, words in (("--figure", [figure]), ("--runs", [*config.runs])):
        if flag in flags:
            del flags[flags.index(flag):flags.index(flag) + 1 + len(words)]
    return shlex.join(["python", "-m", "validate.figures", figure, *config.runs, *flags])


def file_name(figure: str, runs: Sequence[NamedRun]) -> str:
    """What a figure's files are called, without their ending."""
    text = "_".join([figure, *(run.name for run in runs)])
    text = text if len(text) <= NAME else f"{figure}_{runs[0].name}_and_{len(runs) - 1}_more"
    return re.sub(r"[^\w.+-]+", "-", text)[:NAME]


def write_figure(path: Path, picture: bytes, values: Values, *, figure: str, runs: Sequence[NamedRun],
                 command: str) -> None:
    """Writes a picture, then its numbers beside it, with the command and the digests of the images."""
    write_bytes(path, picture)
    write_json(path.with_suffix(".json"), {
        "format": "prism-figure", "version": 1, "figure": figure, "command": command, "versions": versions(),
        "runs": [{"name": run.name, "draws": [
            {"folder": str(images.run), "images": image_set_digest(list(images.entries))}
            for images in run.draws]} for run in runs], "values": values})


def main(argv: list[str] | None = None) -> Path:
    """Draws a figure; returns the picture's path."""
    config = parse_config(FiguresConfig, to_flags(sys.argv[1:] if argv is None else argv),
                          description=__doc__, presets=presets)
    style.check_matplotlib()
    import matplotlib
    runs = open_runs(config.runs, config)
    name, command = flatten(config)["figure"], shown_command(config)
    device = open_session(config).device
    figure = config.figure.prepare(runs, config, device=device, command=command)
    values = figure.numbers(runs)
    with matplotlib.rc_context(style.SETTINGS):
        picture = style.picture_bytes(figure.draw(values), config.format)
    path = Path(config.out) / f"{file_name(name, runs)}.{config.format}"
    write_figure(path, picture, values, figure=name, runs=runs, command=command)
    say(f"{path} shows {name} of {', '.join(run.name for run in runs)}; {path.with_suffix('.json')} has the "
        f"numbers")
    return path


if __name__ == "__main__":
    command_line(main)
