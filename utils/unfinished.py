"""Work in progress: saved every few minutes and when told to stop, taken up again by the next run.

What a unit needs to go on lies in one file of tensors and numbers until the unit is finished, with the
states of torch's random generators beside it.   Source: ours.
"""
import hashlib
import signal
from pathlib import Path
from time import monotonic
from typing import Any

import torch
import torch.distributed as dist

from utils import interrupts
from utils.distributed import leads
from utils.files import load_tensors, tensor_bytes, write_bytes
from utils.pieces import Values, require
from utils.runtime import note, warn_once

DIGEST = 32  # bytes of SHA-256, before what is saved
FORM = 3  # of what is saved; work of another form starts over


class StopSignals:
    """Inside `with`, SIGTERM and SIGINT set `asked`: the loop saves and stops; again, 2 s later, at once."""

    def __init__(self, doing: str = "saving unfinished work"):
        """Args: doing: what the loop does when asked."""
        self.asked, self._doing = False, doing

    def _ask(self, number: int, frame: object) -> None:
        if interrupts.is_echo():
            return
        if self.asked:
            raise interrupts.Interrupted
        self.asked = True
        note(f"{signal.Signals(number).name}: {self._doing}; once more, after {interrupts.ECHO:.0f} s, stops "
             f"at once without")

    def obey(self, kept: str) -> None:
        """Raises: KeyboardInterrupt if asked.   Args: kept: what was saved and what was not."""
        if self.asked:
            raise interrupts.Interrupted(kept)

    def __enter__(self):
        self._before = interrupts.answer(self._ask)
        return self

    def __exit__(self, kind, error, trace):
        interrupts.restore(self._before)
        if self.asked and not decides() and isinstance(error, RuntimeError):
            raise interrupts.Interrupted from error  # rank 0 saved and left; what it was asked for never came


def decides() -> bool:
    """Whether this process saves: the first of those that train together, and each that works by itself."""
    return leads() or not dist.is_initialized()


class Unfinished:
    """The saved state of one unit.  Where ranks share it, rank 0 decides and saves, every rank loads."""

    def __init__(self, path: Path, *, minutes: float, stop: StopSignals):
        """Args: path: of the file;  minutes: between saves;  stop: the signals that this unit obeys."""
        self._path, self._seconds, self._stop = path, 60 * minutes, stop
        self._decides, self._saved = decides(), monotonic()

    def load(self) -> Values | None:
        """What the last save was given, on the CPU, the random generators set as they were; None without.

        A damaged file is named in a warning, and the unit starts over.   Raises: OSError if it is unreadable.
        """
        if not self._path.is_file():
            return None
        try:
            content = self._path.read_bytes()
            require(content[:DIGEST] == hashlib.sha256(content[DIGEST:]).digest(), "truncated or changed")
            saved = load_tensors(content[DIGEST:])
            if saved.get("form") != FORM:
                warn_once(f"{self._path}: saved by another version, this unit starts over")
                return None
            state = saved["state"]
            _set_generators(saved["generators"])
        except ValueError as error:
            warn_once(f"{self._path}: damaged ({error}), this unit starts over")
            return None
        return state

    def due(self) -> bool:
        """Whether to save now: the interval is over, or a signal came.  Asks no device anything."""
        return self._decides and (self._stop.asked or monotonic() - self._saved >= self._seconds)

    def save(self, state: Values) -> None:
        """Saves tensors and numbers, atomically; the check of the tensors is a host sync.

        Raises: RuntimeError naming a tensor that is not finite: nothing is saved, and the save before stays;
                KeyboardInterrupt after it, if a signal came.
        """
        if bad := first_not_finite(state):
            raise RuntimeError(f"{self._path}: not saved, {bad} is not finite; a rerun goes on from the save "
                               f"before; lower the learning rate or the weights of the terms if it recurs")
        content = tensor_bytes({"form": FORM, "state": state, "generators": _generators()})
        write_bytes(self._path, hashlib.sha256(content).digest() + content)
        self._saved = monotonic()
        self._stop.obey(f"unfinished work is saved in {self._path}")

    def discard(self) -> None:
        """Forgets it: the unit is finished."""
        self._path.unlink(missing_ok=True)


def first_not_finite(state: Any, name: str = "state") -> str:
    """Where in nested dicts and sequences the first tensor lies that is not finite; "" if there is none."""
    if isinstance(state, torch.Tensor):
        return "" if state.isfinite().all() else name
    if not isinstance(state, (dict, list, tuple)):
        return ""
    parts = state.items() if isinstance(state, dict) else enumerate(state)
    return next(filter(None, (first_not_finite(part, f"{name}.{key}") for key, part in parts)), "")


def _generators() -> dict[str, torch.Tensor]:
    cuda = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {"cpu": torch.get_rng_state(), **cuda}


def _set_generators(states: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
