"""One command as a process with a limit: told to save in time, its lines of JSON and last words kept."""
import collections
import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import IO, TypeVar

from scripts.gpu_steps.plan import Command
from scripts.reproducing.launch import shown_command
from utils.interrupts import EXIT_INTERRUPTED, Interrupted
from utils.pieces import Values
from utils.records import read_json

SAVING = 0.1  # share of a limit in which a command that is told to stop saves; then it is killed
ENDING = 20.0  # seconds that a command has for it where this process itself is told to stop
LAST_WORDS = 20  # lines of standard error that are kept of a command that failed
DONE, STOPPED, FAILED = "done", "stopped", "failed"
T = TypeVar("T")


def json_lines(text: str) -> list[Values]:
    """The lines that are JSON objects; tests and stages print others too."""
    rows = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            row = json.loads(line, parse_constant=str)  # NaN is no JSON: a finding all the same
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


class Told(Interrupted):
    """This process was told to stop while a command ran.   result: what that had found."""

    def __init__(self, result: Values):
        super().__init__()
        self.result = result


def _end(process: subprocess.Popen[str], seconds: float) -> None:
    """Tells a process to stop, and kills it and its workers where it has not ended in time."""
    process.terminate()
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    finally:  # it has a session of its own: whatever stops us here does not reach it
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[str], seconds: float | None) -> bool:
    """Waits for an end within the limit, its last tenth after a SIGTERM; False where it was told to stop."""
    try:
        process.wait(None if seconds is None else seconds * (1 - SAVING))
    except subprocess.TimeoutExpired as error:
        _end(process, error.timeout * SAVING / (1 - SAVING))
        return False
    return True


def lacking(command: Command, rows: list[Values]) -> list[str]:
    """What a command that ended well did not bring: a file that it should write, a comparison's cells."""
    cells = [cell for row in rows for cell in row.get("cells", ()) if cell.get("left_out")]
    return [f"it wrote no {path}" for path in command.found if not path.is_file()] + [
        f"{cell['method']} under {cell['protocol']}: {cell['left_out']}" for cell in cells]


def run_command(command: Command, *, seconds: float | None) -> Values:
    """Runs a command and waits for it.

    Args:    seconds: in which it ends; None: without a limit.
    Returns: command, status, seconds, calls, state, and rows, its lines of JSON and the files that it
             names; of one that failed, what it said last, or what it left out.
    Raises:  Told where this process is stopped, once the command has saved and ended.
    """
    started, told = time.perf_counter(), False
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        process = subprocess.Popen([sys.executable, *command.words], stdout=printed, stderr=subprocess.PIPE,
                                   text=True, errors="replace", start_new_session=True)
        assert process.stderr
        heard = _Heard(process.stderr)
        try:
            in_time = _wait(process, seconds)
        except KeyboardInterrupt:
            told, in_time = True, False
            _end(process, ENDING)
        heard.join(timeout=5)
        printed.seek(0)
        rows = json_lines(printed.read()) + [read_json(path) for path in command.found if path.is_file()]
    stopped = process.returncode and (not in_time or process.returncode == EXIT_INTERRUPTED)
    said = list(heard.lines) if process.returncode else lacking(command, rows)
    state = STOPPED if stopped else FAILED if said or process.returncode else DONE
    result = {"command": shown_command(command.words), "status": process.returncode, "state": state,
              "seconds": round(time.perf_counter() - started, 3), "calls": 1, "rows": rows,
              **({"said": said} if state == FAILED else {})}
    if told:
        raise Told(result)
    return result


def in_a_process(function: Callable[..., T], *words: object) -> T:
    """What a function returns in a process of its own, which leaves nothing open in this one."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as child:
        return child.submit(function, *words).result()
