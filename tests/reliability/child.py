"""One command in a forked process: how it ends for a user, what it does to files, a death at one of these."""
import dataclasses
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from utils.runtime import Log, command_line

WRITING = os.O_WRONLY | os.O_RDWR
TOUCHING = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate",
            "os.utime")
LIMIT = 20.0  # seconds that a command may take
Torn = Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Death:
    """A signal at the `at`-th event (from 0); SIGKILL at the first half of a file leaves that half."""

    at: int
    number: signal.Signals = signal.SIGKILL


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended.   status: None over the limit, negative for a signal;  events: of files."""

    status: int | None
    err: str
    out: str = ""
    events: tuple[str, ...] = ()

    @property
    def error(self) -> str:
        """The last line that is an error's, "" without."""
        return next((line for line in reversed(self.err.splitlines()) if line.startswith("error: ")), "")

    @property
    def refused(self) -> bool:
        """Whether it ended as bad input should: status 2, one line, no traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return self.status == 2 and len(lines) == 1 and "Traceback" not in self.err

    def __str__(self) -> str:
        status = "over the limit" if self.status is None else f"status {self.status}"
        last = self.error or (self.err.strip().splitlines() or [""])[-1]
        return f"{status}{', traceback' if 'Traceback' in self.err else ''}: {last}"


class Events:
    """Counts what a process does to files below `root`, and dies at one of them."""

    def __init__(self, root: Path, death: Death | None, report: int):
        self._root, self._death, self._report, self._count = str(root), death, report, 0

    def watch(self) -> None:
        """From here on, in this process: before each change of a file, and where half of it is written."""
        fsync, write = os.fsync, Log.write

        def watched_fsync(fd):
            self._point("half a file", lambda: os.truncate(fd, os.fstat(fd).st_size // 2))
            self._point("fsync")
            fsync(fd)

        def watched_write(log, **fields):
            self._point("log")
            write(log, **fields)
            file = log._file
            self._point("half a line", lambda: os.truncate(file.name, os.stat(file.name).st_size - 7))
        os.fsync, Log.write = watched_fsync, watched_write
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple) -> None:
        if event == "open" and not (isinstance(args[2], int) and args[2] & WRITING):
            return
        if event in ("open", *TOUCHING):
            path = os.fsdecode(args[0]) if isinstance(args[0], (str, bytes, os.PathLike)) else ""
            below = event in ("os.remove", "os.rmdir") and args[1] != -1  # an open folder, as in rmtree
            if below or path.startswith(self._root):
                self._point(f"{event.removeprefix('os.')} {path.removeprefix(self._root).lstrip('/')}")

    def _point(self, name: str, torn: Torn | None = None) -> None:
        os.write(self._report, f"{name}\n".encode(errors="replace"))
        at, self._count = self._count, self._count + 1
        if self._death and at == self._death.at:
            if torn and self._death.number == signal.SIGKILL:
                torn()
            os.kill(os.getpid(), self._death.number)


def run_command(main: Callable[[list[str]], object], argv: list[str], *, root: Path,
                death: Death | None = None, environment: Mapping[str, str] | None = None,
                limit: float = LIMIT, memory: int = 0) -> Ended:
    """Runs `main(argv)` as its command line would, in a fork.

    Args: root: where events count;  limit: seconds;  memory: bytes of address space, 0: any.
    """
    return run_together([(main, argv)], root=root, death=death, environment=environment, limit=limit,
                        memory=memory)[0]


def run_together(commands: Sequence[tuple[Callable[[list[str]], object], list[str]]], *, root: Path,
                 death: Death | None = None, environment: Mapping[str, str] | None = None,
                 limit: float = LIMIT, memory: int = 0) -> list[Ended]:
    """Runs several at once.   Args: as `run_command`;  death: of the first."""
    with tempfile.TemporaryDirectory() as scratch:
        places = [[Path(scratch, f"{name}{i}") for name in ("out", "err", "events")]
                  for i in range(len(commands))]
        pids = []
        for i, (main, argv) in enumerate(commands):
            streams = [os.open(place, os.O_RDWR | os.O_CREAT) for place in places[i]]
            pids.append(os.fork())
            if pids[-1] == 0:
                _be_the_command(main, argv, root, None if i else death, environment or {}, memory, streams)
            for fd in streams:
                os.close(fd)
        statuses = [_wait(pid, limit) for pid in pids]
        texts = [[place.read_text(errors="replace") for place in own] for own in places]
    return [Ended(status, err.replace("\r", "\n"), out, tuple(events.splitlines()))
            for status, (out, err, events) in zip(statuses, texts, strict=True)]


def _be_the_command(main, argv, root, death, environment, memory, streams) -> None:
    status = 1
    try:
        os.setsid()
        os.dup2(streams[0], 1)
        os.dup2(streams[1], 2)
        sys.stdout = open(1, "w", errors="backslashreplace", closefd=False)
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it would be ignored
        os.environ.update(environment)
        os.chdir(root / "a" / "place")
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.argv = ["command", *map(str, argv)]
        Events(root, death, streams[2]).watch()
        command_line(main)
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(pid: int, limit: float) -> int | None:
    """The status of a child that leads its own session; its whole session is gone afterwards."""
    handle = os.pidfd_open(pid)
    done = bool(select.select([handle], [], [], limit)[0])
    os.close(handle)
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) if done else None


def replace_folder(folder: Path, by: Path) -> None:
    """`folder` becomes a copy of `by`, links as links."""
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(by, folder, symlinks=True)


def age(folder: Path, hours: float = 2) -> None:
    """Everything in it was written hours ago."""
    then = time.time() - 3600 * hours
    for path in folder.rglob("*"):
        os.utime(path, (then, then), follow_symlinks=False)
