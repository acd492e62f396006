"""SIGTERM and Ctrl-C, from a command's first moment to its last: one line, and status 75.

Imports nothing heavy: the packages' `__init__` call `answer_early` before the seconds of importing torch.
Three hold in turn: `answer_early`, `raise_interrupt` around a command's main (and, where work is saved,
`utils.unfinished.StopSignals`), and `ignore` once its status stands.   Source: ours.
"""
import contextlib
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

EXIT_INTERRUPTED = 75
SIGNALS = (signal.SIGTERM, signal.SIGINT)
ECHO = 2.0  # [s] in which another signal is the same wish: SLURM without proctrack/cgroup signals the stage
#             and the shell above it, which passes its own on
Handlers = dict[signal.Signals, Any]
_last = -math.inf


class Interrupted(KeyboardInterrupt):
    """A type of its own: a plain one that leaves an `exec`, even if caught, lets Python die of SIGINT (130).

    Importing a module can run one.
    """


def answer_early() -> None:
    """Lets a signal end this process at once, if it is a command (`python -m package.module`) that starts.

    While Python looks for the module, and imports its package, the program's name is "-m"; in a program that
    imports the package as a library it never is.
    """
    if sys.argv[:1] == ["-m"]:
        answer(_end)


def _end(number: int, frame: object) -> None:
    os.write(2, b"interrupted: nothing was begun, run the same command again\n")
    os._exit(EXIT_INTERRUPTED)


def answer(handler: Callable[[int, Any], object]) -> Handlers:
    """Sets the handler of both signals, as if none had come; returns those before, for `restore`."""
    global _last
    if threading.current_thread() is not threading.main_thread():
        return {}  # only there may handlers be set
    _last = -math.inf
    return {number: signal.signal(number, handler) for number in SIGNALS}


def restore(handlers: Handlers) -> None:
    """Sets handlers that `answer` returned."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


def is_echo() -> bool:
    """Whether the signal that came now is the same wish as one just before; remembers when it came."""
    global _last
    before, _last = _last, monotonic()
    return _last - before < ECHO


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Around a stage in a program of several: a signal too late for its last save stops the next one.

    Raises: Interrupted at the end, if a signal came meanwhile that nothing obeyed.
    """
    began = monotonic()
    yield
    if _last >= began:
        raise Interrupted("finished work is kept")


def raise_interrupt(number: int, frame: object) -> None:
    """A handler: `Interrupted`, once for a signal and its echoes: what it unwinds is left alone."""
    if not is_echo():
        raise Interrupted


def ignore() -> None:
    """Lets the status stand that this process ends with, whatever comes while it ends."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Signals wait meanwhile; a process that is forked here never gets them: its parent answers for it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
