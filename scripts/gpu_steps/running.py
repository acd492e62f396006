"""One command as a process with a limit: told to save in time, its lines of JSON and last words kept."""
import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO

from scripts.gpu_steps.plan import Command
from scripts.reproducing.launch import shown_command
from utils.interrupts import EXIT_INTERRUPTED
from utils.pieces import Values
from utils.records import read_json

SAVING = 0.1  # share of a limit in which a command that is told to stop saves; then it is killed
LAST_WORDS = 20  # lines of standard error that are kept of a command that failed
DONE, STOPPED, FAILED = "done", "stopped", "failed"


def json_lines(text: str) -> list[Values]:
    """The lines that are JSON objects; tests and stages print others too."""
    rows = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            rows += [row] if isinstance(row, dict) else []
    return rows


class _Heard(threading.Thread):
    """Passes a process's standard error on, and keeps the last lines."""

    def __init__(self, stream: IO[str]):
        super().__init__(daemon=True)
        self.lines: collections.deque[str] = collections.deque(maxlen=LAST_WORDS)
        self._stream = stream
        self.start()

    def run(self) -> None:
        for line in self._stream:
            sys.stderr.write(line)
            sys.stderr.flush()
            self.lines.append(line.rstrip())


def _wait(process: subprocess.Popen[str], seconds: float | None) -> bool:
    """Waits for an end within the limit, its last tenth after a SIGTERM; False where it was told to stop."""
    try:
        process.wait(None if seconds is None else seconds * (1 - SAVING))
        return True
    except subprocess.TimeoutExpired:
        process.terminate()
    try:
        process.wait(seconds and seconds * SAVING)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its workers, too
        process.wait()
    return False


def run_command(command: Command, *, seconds: float | None) -> Values:
    """Runs a command and waits for it.

    Args:    seconds: in which it ends; None: without a limit.
    Returns: command, status, seconds, calls, state, and rows, its lines of JSON and the files that it
             names; of one that failed, what it said last.
    Raises:  KeyboardInterrupt where this process is stopped, once the command has saved and ended.
    """
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        process = subprocess.Popen([sys.executable, *command.words], stdout=printed, stderr=subprocess.PIPE,
                                   text=True, errors="replace", start_new_session=True)
        assert process.stderr
        heard = _Heard(process.stderr)
        try:
            in_time = _wait(process, seconds)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
        heard.join(timeout=5)
        printed.seek(0)
        rows = json_lines(printed.read())
    stopped = process.returncode and (not in_time or process.returncode == EXIT_INTERRUPTED)
    state = STOPPED if stopped else FAILED if process.returncode else DONE
    return {"command": shown_command(command.words), "status": process.returncode, "state": state,
            "seconds": round(time.perf_counter() - started, 3), "calls": 1,
            "rows": rows + [read_json(path) for path in command.found if path.is_file()],
            **({"said": list(heard.lines)} if state == FAILED else {})}
