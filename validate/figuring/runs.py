"""The runs of a figure, as a command line names them: a name, and one set of images a draw."""
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from utils.formats import ImageManifest
from utils.image_sets import SetFlags
from utils.pieces import require
from validate.results import listed_folders

NAME = 40  # characters of a run's name in a figure


@dataclasses.dataclass(frozen=True)
class NamedRun:
    """A run as figures show it.   draws: its sets, those of one method with seeds of their own."""

    name: str
    draws: tuple[ImageManifest, ...]


def split_word(word: str) -> tuple[str, list[str]]:
    """The name ("" where none is given) and the folders of RUN, A0,A1,A2 or NAME=A0,A1,A2."""
    if Path(word).exists():
        return "", [word]
    name, equals, folders = word.partition("=")
    if not equals or "/" in name:
        name, folders = "", word
    return name, listed_folders(folders)


def _tail(folder: str, parts: int) -> str:
    """The last components of a run's path."""
    path = Path(folder).absolute()
    return "/".join((path.parent if path.name == "syn" else path).parts[-parts:])


def names_of(words: Sequence[tuple[str, list[str]]]) -> list[str]:
    """A name for each run, each once: the one given, else the end of its (first) folder's path.

    Raises: ValueError where two runs have one name.
    """
    for parts in range(1, 4):
        names = [name or _tail(folders[0], parts) for name, folders in words]
        if len(set(names)) == len(names):
            break
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, f"two runs are called {''.join(twice[:1])}; name them: A=RUN B=RUN")
    return [name if len(name) <= NAME else "..." + name[3 - NAME:] for name in names]


def open_runs(words: Sequence[str], flags: SetFlags | None = None) -> list[NamedRun]:
    """The runs that words name.

    Args:   flags: of sets without a manifest.
    Raises: ValueError or FileNotFoundError naming the run.
    """
    require(words, "expected a run: python -m validate.figures FIGURE RUN ..., a run RUN, NAME=RUN or, over "
            "draws, A0,A1,A2")
    split = [split_word(word) for word in words]
    own = flags or SetFlags()
    return [NamedRun(name, tuple(own.open_set(folder, flag="RUN") for folder in folders))
            for name, (_, folders) in zip(names_of(split), split, strict=True)]


def rounded(value: float) -> float:
    """Six digits: more than a figure shows, and half of the bytes."""
    return float(f"{value:.6g}")


def spread_over(num: int, most: int) -> list[int]:
    """At most `most` of the numbers below `num`, evenly and the same each time."""
    return [i * num // min(num, most) for i in range(min(num, most))]
