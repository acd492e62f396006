"""Work in progress: saved every few minutes and when told to stop, taken up again by the next run.

What a unit needs to go on lies in one file of tensors and numbers until the unit is finished, with the
states of torch's random generators beside it.   Source: ours.
"""
import hashlib
import signal
import threading
from pathlib import Path
from time import monotonic

import torch

from utils.distributed import leads
from utils.files import load_tensors, tensor_bytes, write_bytes
from utils.pieces import Values, require
from utils.runtime import say, warn_once

DIGEST = 32  # bytes of SHA-256, before what is saved
FORM = 3  # of what is saved; work of another form starts over


class StopSignals:
    """Inside `with`, SIGTERM and SIGINT set `asked`: the loop saves and stops; a second one stops at once."""

    def __init__(self):
        self.asked = False

    def _ask(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        say(f"{signal.Signals(number).name}: saving unfinished work; once more stops without")

    def __enter__(self):
        in_main = threading.current_thread() is threading.main_thread()  # only there may handlers be set
        signals = (signal.SIGTERM, signal.SIGINT) if in_main else ()
        self._before = {number: signal.signal(number, self._ask) for number in signals}
        return self

    def __exit__(self, kind, error, trace):
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.asked and not leads() and isinstance(error, RuntimeError):
            raise KeyboardInterrupt from error  # rank 0 saved and left; what it was asked for never came


class Unfinished:
    """The saved state of one unit.  Under torchrun rank 0 decides and saves, every rank loads."""

    def __init__(self, path: Path, *, minutes: float, stop: StopSignals):
        """Args: path: of the file;  minutes: between saves;  stop: the signals that this unit obeys."""
        self._path, self._seconds, self._stop = path, 60 * minutes, stop
        self._leads, self._saved = leads(), monotonic()

    def load(self) -> Values | None:
        """What the last save was given, on the CPU, the random generators set as they were; None without.

        A damaged file is named in a warning, and the unit starts over.
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
        return self._leads and (self._stop.asked or monotonic() - self._saved >= self._seconds)

    def save(self, state: Values) -> None:
        """Saves tensors and numbers, atomically.   Raises: KeyboardInterrupt after it, if a signal came."""
        content = tensor_bytes({"form": FORM, "state": state, "generators": _generators()})
        write_bytes(self._path, hashlib.sha256(content).digest() + content)
        self._saved = monotonic()
        if self._stop.asked:
            raise KeyboardInterrupt

    def discard(self) -> None:
        """Forgets it: the unit is finished."""
        self._path.unlink(missing_ok=True)


def _generators() -> dict[str, torch.Tensor]:
    cuda = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {"cpu": torch.get_rng_state(), **cuda}


def _set_generators(states: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
