"""One process of a stage: its device, seeds, log, progress bar, and how its command line ends.

Exit status: 0 done; 1 failure while running; 2 bad input, one line on stderr; 75 interrupted, run me again.
"""
import contextlib
import hashlib
import json
import math
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy
import torch
import torchvision
from tqdm import tqdm

EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED = 2, 1, 75
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
        tqdm.write(message, file=sys.stderr)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Silences `say` (not warnings) while one program calls the stages' mains and reports for them."""
    _hushed.append(True)
    try:
        yield
    finally:
        _hushed.pop()


def warn_once(message: str) -> None:
    """Says a warning the first time it is given in this process."""
    if message not in _said:
        _said.add(message)
        tqdm.write(f"warning: {message}", file=sys.stderr)


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


def progress(iterable: Iterable[Any] | None = None, *, total: int | None = None, text: str = "") -> Any:
    """A progress bar with ETA on stderr, for what takes longer than two seconds; rare in a redirected log."""
    return tqdm(iterable, total=total, desc=text, delay=2, dynamic_ncols=True, leave=False,
                mininterval=0.5 if sys.stderr.isatty() else 15)


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


def command_line(main: Callable[[list[str]], object]) -> None:
    """Runs `main(sys.argv[1:])` and ends the process with the exit status and the one line that users see.

    SIGTERM ends it as Ctrl-C does.  PRISM_TRACEBACK=1 shows the traceback instead.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if os.environ.get("PRISM_TRACEBACK") == "1":
        main(sys.argv[1:])
        return
    try:
        main(sys.argv[1:])
    except (ValueError, FileNotFoundError) as error:
        status, text = EXIT_BAD_INPUT, str(error)
    except KeyboardInterrupt:
        status, text = EXIT_INTERRUPTED, "interrupted; work is kept, run the same command again"
    except (OSError, RuntimeError) as error:
        status, text = EXIT_FAILED, f"{type(error).__name__}: {error}"
    else:
        return
    print("error: " + " ".join(text.split()), file=sys.stderr)
    sys.exit(status)
