"""One process of a stage: its device, seeds, log, progress bar, and how its command line ends.

Exit status: 0 done; 1 failure while running; 2 bad input, one line on stderr; 75 interrupted, run me again.
"""
import contextlib
import ctypes
import errno
import hashlib
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy
import torch
import torchvision
from tqdm import tqdm

from utils import interrupts

EXIT_BAD_INPUT, EXIT_FAILED = 2, 1
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
EXIT_NO_READER = 141  # as of a process that SIGPIPE ends
_said: set[str] = set()
_hushed: list[bool] = []


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**63) from any printable parts, equal on every machine.   Source: ours (unit seeds)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: object) -> torch.Generator:
    """A CPU random generator seeded by `derive_seed(*parts)`."""
    return torch.Generator().manual_seed(derive_seed(*parts))


def seed_everything(*parts: object) -> None:
    """Seeds the global generators of torch, numpy and random, for library code that draws from them."""
    seed = derive_seed(*parts)
    torch.manual_seed(seed)
    numpy.random.seed(seed % 2**32)
    random.seed(seed)


def say(message: str) -> None:
    """Prints one line for the person at the terminal, between progress bars; silent inside `hushed`."""
    if not _hushed:
        note(message)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Silences `say` (not warnings) while one program calls the stages' mains and reports for them."""
    _hushed.append(True)
    try:
        yield
    finally:
        _hushed.pop()


def note(message: str) -> None:
    """Prints one line that `hushed` does not silence."""
    tqdm.write(message, file=sys.stderr)


def warn_once(message: str) -> None:
    """Says a warning the first time it is given in this process."""
    if message not in _said:
        _said.add(message)
        note(f"warning: {message}")


def choose_device(name: str, *, local_rank: int = 0) -> torch.device:
    """The device to compute on: `auto` takes this rank's CUDA device, else the CPU, and says so once.

    Raises: ValueError if `name` is no device of this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", local_rank % torch.cuda.device_count())
        if "cpu" not in _said:
            _said.add("cpu")
            say("no CUDA device found: everything runs on the CPU (--device chooses)")
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {name}: not usable here ({reason}); try cpu") from error
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    return device


def set_threads(threads: int) -> int:
    """Sets torch's CPU threads; 0 means every core of this machine. Returns the number in force.

    On a CPU the number changes rounding, so it belongs to a run's identity; torchrun's OMP_NUM_THREADS=1
    is overridden here.
    """
    if threads < 0:
        raise ValueError(f"--threads must be >= 0, where 0 is all cores, got {threads}")
    threads = threads or len(os.sched_getaffinity(0))
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return threads


def keep_freed_memory() -> None:
    """Lets glibc keep 1 GiB of what is freed; elsewhere nothing.  No bit changes.

    By itself it gives all above 64 MiB back, and each step on a CPU has the same pages made anew.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:  # setting one stops glibc from moving the other
        mallopt(M_MMAP_THRESHOLD, 1 << 25)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)


def readable_time(seconds: float) -> str:
    """A duration as people read it: 42 s, 5 min, 7.5 h."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 \
        else f"{seconds / 3600:.1f} h"


def identity_threads(threads: int, device: torch.device) -> int:
    """The threads as part of an identity: those in force on a CPU, 0 elsewhere, where they change nothing."""
    return set_threads(threads) if device.type == "cpu" else 0


def versions() -> dict[str, str]:
    """Versions of the libraries that change rounding or files."""
    import PIL
    return {"python": ".".join(map(str, sys.version_info[:2])), "torch": torch.__version__,
            "torchvision": torchvision.__version__, "numpy": numpy.__version__, "pillow": PIL.__version__}


class _Lines:
    """A log file as tqdm's terminal: what would be written over becomes a line of its own."""

    def __init__(self, file: TextIO):
        self._file = file

    def write(self, text: str) -> None:
        if line := text.replace("\x1b[A", "").strip():  # without the carriage returns and steps up
            self._file.write(line + "\n")

    def flush(self) -> None:
        self._file.flush()


def progress(iterable: Iterable[Any] | None = None, *, total: int | None = None, text: str = "") -> Any:
    """A progress bar with ETA on stderr, for what takes longer than two seconds; in a log a line a minute."""
    place: dict[str, Any] = {"dynamic_ncols": True, "mininterval": 0.5} if sys.stderr.isatty() else \
        {"file": _Lines(sys.stderr), "ncols": 0, "mininterval": 60, "maxinterval": 60}
    return tqdm(iterable, total=total, desc=text, delay=2, leave=False, **place)


def finite_values(terms: dict[str, torch.Tensor], *, where: str) -> dict[str, float]:
    """Named scalars as floats, one host sync.   Raises: RuntimeError naming a non-finite term, its place."""
    stacked = torch.stack([value.detach().double() for value in terms.values()]) if terms else torch.zeros(0)
    values = dict(zip(terms, stacked.tolist(), strict=True))
    for name, value in values.items():
        if not math.isfinite(value):
            raise RuntimeError(f"{name} is {value} at {where}: lower the learning rate or the weights of the "
                               f"terms, or check the teachers' weights")
    return values


class Log:
    """log.jsonl of a run: one JSON object a line, appended and flushed; times are seconds since the start."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b", buffering=0)
        if self._file.seek(0, os.SEEK_END) and self._last_byte() != b"\n":
            self._file.write(b"\n")  # behind a line that a killed process left half-written
        self._start = time.perf_counter()

    def write(self, **fields: Any) -> None:
        """Appends one line; floats are kept to seven digits."""
        rounded = {k: float(f"{v:.7g}") if isinstance(v, float) else v for k, v in fields.items()}
        rounded["elapsed_s"] = round(time.perf_counter() - self._start, 3)
        self._file.write((json.dumps(rounded) + "\n").encode())

    def _last_byte(self) -> bytes:
        self._file.seek(-1, os.SEEK_END)
        return self._file.read(1)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def _check_reader() -> None:
    """Ends the process, silently, where nobody reads its standard output any more: `... | head`."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at exit
        sys.exit(EXIT_NO_READER)


def command_line(main: Callable[[list[str]], object]) -> None:
    """Runs `main(sys.argv[1:])` and ends the process with the exit status and the one line that users see.

    SIGTERM ends it as Ctrl-C does.  PRISM_TRACEBACK=1 shows the traceback instead.
    """
    before = interrupts.answer(interrupts.raise_interrupt)
    keep_freed_memory()
    if os.environ.get("PRISM_TRACEBACK") == "1":
        main(sys.argv[1:])
        return
    try:
        try:
            main(sys.argv[1:])
            _check_reader()
        finally:  # a program's status stands from here on; a test that calls a main gets its handlers back
            interrupts.ignore() if main.__module__ == "__main__" else interrupts.restore(before)
    except SystemExit:  # --help
        _check_reader()
        raise
    except (ValueError, FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError) as error:
        status, text = EXIT_BAD_INPUT, f"error: {error}"
    except KeyboardInterrupt as stop:
        kept = str(stop) or "nothing was saved just now; finished work and earlier saves are kept"
        status, text = interrupts.EXIT_INTERRUPTED, f"interrupted: {kept}; run the same command again"
    except (OSError, RuntimeError) as error:
        if isinstance(error, BrokenPipeError):
            _check_reader()
        too_long = isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP)
        status = EXIT_BAD_INPUT if too_long else EXIT_FAILED
        text = f"error: {error}" if too_long else f"error: {type(error).__name__}: {error}"
    else:
        return
    print(" ".join(text.split()), file=sys.stderr)
    sys.exit(status)
