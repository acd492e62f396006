"""Whose draws pooled comparisons hold: of which data and which teachers, as far as their files say it."""
from collections.abc import Mapping, Sequence
from typing import TypedDict

from utils.pieces import Values, require


class Basis(TypedDict, total=False):
    """What a comparison's file says of it: earlier ones have the number of sets alone, or nothing."""

    teacher_sets: int  # that draws take in turn, 0: each draw has its own
    teachers: dict[str, str]  # draw -> 8 hex digits of their weights
    data: Values  # how many images there are to train and to test on


def same_data(files: Mapping[str, Basis]) -> None:
    """Raises: ValueError where two files are of other images, of those that say of which they are."""
    said = {path: own["data"] for path, own in files.items() if "data" in own}
    for path, data in said.items():
        first = next(iter(said))
        require(data == said[first], f"{path}: data is {data}, {first} has {said[first]}: figures of other "
                f"images are another comparison")


def sets_of(files: Mapping[str, Basis], draws: set[int]) -> dict[int, str]:
    """Draw -> its teachers; empty where that is not known of every draw.

    Raises: ValueError where two files have one draw with other teachers.
    """
    found: dict[int, str] = {}
    for path, basis in files.items():
        for draw, own in basis.get("teachers", {}).items():
            require(draw.isdecimal(), f"{path}: teachers of draw {draw}, expected a number")
            before = found.setdefault(int(draw), own)
            require(before == own, f"{path}: draw {draw} has teachers {own}, in a file before it {before}: "
                    f"draws with other teachers need other numbers")
    return {draw: found[draw] for draw in sorted(draws)} if draws <= found.keys() else {}


def in_words(sets: Mapping[int, str], files: Sequence[Basis]) -> str:
    """What draws are of.   Args: sets: of `sets_of`; empty: the files' numbers of sets say it."""
    numbers = [len(set(sets.values()))] if sets else [basis.get("teacher_sets", 0) for basis in files]
    if numbers == [len(sets)] or not any(numbers):
        return "teachers, images, labels and students"
    if len(numbers) > 1:
        told = ", ".join(str(number) if number else "one a draw" for number in numbers)
        return f"images, labels and students (sets of teachers in the files: {told})"
    which = "all with one set of teachers" if numbers == [1] else \
        f"with {numbers[0]} sets of teachers ({in_draws(sets)})" if sets else \
        f"{numbers[0]} sets of teachers in turn"
    return f"images, labels and students, {which}"


def in_draws(names: Mapping[int, str]) -> str:
    """Draw -> name, in words: a in draws 0 2, b in draw 1."""
    draws: dict[str, list[str]] = {}
    for draw, name in names.items():
        draws.setdefault(name, []).append(str(draw))
    return ", ".join(f"{name} in draw{'s' * (len(own) > 1)} {' '.join(own)}" for name, own in draws.items())
