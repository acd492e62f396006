"""Tests as one JSON line: how many passed, which failed, what was skipped and why, and what they measured.

    python -m scripts.gpu_steps.counted_tests tests/test_cuda.py -m cuda
"""
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from utils.interrupts import Interrupted
from utils.pieces import Values
from utils.runtime import command_line

ROOT = Path(__file__).parents[2]
FEW = 20  # failures whose message is kept


class Outcomes:
    """A plugin of pytest that counts."""

    def __init__(self) -> None:
        self.passed, self.failed = 0, dict[str, str]()
        self.skipped: Counter[str] = Counter()
        self.measured = dict[str, Values]()

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Sees every part of every test: set-up, call, and what follows."""
        if report.skipped:
            self.skipped[str(report.longrepr[2]).removeprefix("Skipped: ")] += 1
        elif report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.failed[report.nodeid] = str(getattr(crash, "message", report.longrepr)).splitlines()[0][:300]
        elif report.when == "call":
            self.passed += 1
        if report.when == "call" and report.user_properties:
            self.measured[report.nodeid] = dict(report.user_properties)

    def pytest_collectreport(self, report: Any) -> None:
        """Sees files that cannot be imported."""
        if report.failed:
            self.failed[report.nodeid] = str(report.longrepr).strip().splitlines()[-1][:300]

    def line(self) -> Values:
        """What is printed."""
        return {"passed": self.passed, "failed": sorted(self.failed), "skipped": dict(self.skipped),
                "messages": dict(list(self.failed.items())[:FEW]), "measured": self.measured}


def main(argv: list[str] | None = None) -> None:
    """Runs pytest with these words; files of tests are below the repository's root.

    Raises: ValueError where pytest is missing, or its words are wrong;  RuntimeError where tests failed or
            none passed, after their line;  Interrupted where it was stopped.
    """
    try:
        import pytest
    except ImportError as error:
        raise ValueError(f"the tests need pytest ({error}): bash scripts/setup.sh dev") from error
    outcomes, started = Outcomes(), time.perf_counter()
    words = [str(ROOT / word) if word.startswith("tests/") else word
             for word in (sys.argv[1:] if argv is None else argv)]
    status = pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT), "-c",
                          str(ROOT / "pyproject.toml"), *words], plugins=[outcomes])
    line = outcomes.line()
    print("\n" + json.dumps({"tests": line, "seconds": time.perf_counter() - started}), flush=True)
    if status == pytest.ExitCode.INTERRUPTED and not line["failed"]:
        raise Interrupted
    if line["failed"]:
        raise RuntimeError(f"{len(line['failed'])} tests failed: {' '.join(line['failed'])}")
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise ValueError(f"pytest ended with status {int(status)}: see above")
    if not line["passed"]:
        raise RuntimeError(f"no test passed: {json.dumps(line['skipped'])} skipped")


if __name__ == "__main__":
    command_line(main)
