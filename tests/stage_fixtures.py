"""A pytest plugin for the tests of whole stages: what they share is made once a session.

A test file takes part with `pytest_plugins = ["stage_fixtures"]`.
"""
import sys
from pathlib import Path

import pytest
from helpers import Tiny, words, write_data

from models import train_teachers
from utils.runtime import command_line


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Tiny:
    """Four classes of 16-pixel pictures and a pool of teachers that learnt them."""
    root = tmp_path_factory.mktemp("tiny")
    stages = Tiny(write_data(root / "data"), root / "teachers")
    train_teachers.main(stages.teacher_flags(stages.teachers))
    return stages


@pytest.fixture(scope="session")
def made(tiny, tmp_path_factory) -> Path:
    """A run that went through recover, relabel and validate; read it, or copy it first."""
    run = tiny.recover(tmp_path_factory.mktemp("made"))
    tiny.relabel(run)
    tiny.validate(run)
    return run


@pytest.fixture
def refused(monkeypatch, capfd):
    """f(main, argv): the one line with which a command line refuses its input, with exit status 2."""
    def run(main, argv) -> str:
        monkeypatch.setattr(sys, "argv", ["stage", *words(*argv)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            command_line(main)
        assert ended.value.code == 2
        lines = capfd.readouterr().err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1 and lines[-1] == errors[0], lines
        return errors[0]
    return run


@pytest.fixture
def dry_run(monkeypatch, capfd):
    """f(main, argv): the plan that --dry-run prints, and the line with which it refuses; "" if it does not.

    The plan comes first, the line last; without a refusal the last line says that every check passed.
    """
    def run(main, argv) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["stage", *words(*argv, "--dry-run")])
        capfd.readouterr()
        status = 0
        try:
            command_line(main)
        except SystemExit as ended:
            status = ended.code
        shown = capfd.readouterr()
        lines = shown.err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        if status == 0:
            assert not errors and lines[-1].endswith("every check passed; without --dry-run it starts"), lines
            return shown.out, ""
        assert status == 2 and len(errors) == 1 and lines[-1] == errors[0], lines
        return shown.out, errors[0]
    return run
