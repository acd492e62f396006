"""Set-up: what it takes, what it refuses before it touches anything, what it would install."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = {"digits", "figures", "report", "d4m", "export", "curves", "dev"}
LOCK = (ROOT / "requirements-lock.txt").read_text(encoding="utf-8")


def run(script: str, *words: str, cwd: Path, **env: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of a script of scripts/, from another folder."""
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHON")}
    done = subprocess.run(["bash", str(ROOT / "scripts" / script), *words], cwd=cwd, env={**kept, **env},
                          text=True, capture_output=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def environment(tmp_path):
    """f(**versions): an environment of the lock's versions but for these; its pip only prints."""
    def make(**versions: str) -> str:
        site, program = tmp_path / "site", tmp_path / "env" / "bin" / "python"
        locked = dict(line.split("==") for line in LOCK.splitlines() if "==" in line)
        for name, version in {**locked, **versions}.items():
            info = site / f"{name.replace('-', '_')}-{version}.dist-info"
            info.mkdir(parents=True)
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        for name in ("torch", "torchvision"):
            (site / f"{name}.py").touch()
        (site / "pip.py").write_text("import sys\nprint(*sys.argv[1:])\n")
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nPYTHONPATH="{site}" exec "{sys.executable}" "$@"\n')
        program.chmod(0o755)
        return str(program.parents[1])
    return make


@pytest.mark.parametrize("word", ["bogus", "--bogus", "lock", "digits dev", ""])
def test_a_word_that_setup_does_not_know_is_refused_with_those_that_it_does(tmp_path, word):
    status, out, error = run("setup.sh", word, cwd=tmp_path)
    assert (status, out, error.count("\n")) == (2, "", 1) and f"'{word}'" in error
    assert all(extra in error and (ROOT / f"requirements-{extra}.txt").is_file() for extra in EXTRAS)


@pytest.mark.parametrize("script", ["setup.sh", "test.sh", "demo.sh", "reproduce.sh"])
def test_an_environment_that_is_not_there_is_one_line(tmp_path, script):
    status, out, error = run(script, cwd=tmp_path, VIRTUAL_ENV="/nonexistent")
    assert (status, out, error.count("\n")) == (2, "", 1) and "VIRTUAL_ENV" in error


@pytest.mark.parametrize("script", ["setup.sh", "test.sh", "demo.sh"])
def test_help_comes_without_set_up(tmp_path, script):
    status, out, error = run(script, "--help", cwd=tmp_path, VIRTUAL_ENV="/nonexistent")
    assert (status, error) == (0, "") and f"  {script} [" in out and "#" not in out


def test_an_older_torch_is_refused_with_the_command_that_mends_it(tmp_path, environment):
    status, out, error = run("setup.sh", cwd=tmp_path, VIRTUAL_ENV=environment(torch="2.5.1+cpu"))
    assert (status, out, error.count("\n")) == (2, "", 1)
    wanted = ("torch 2.5.1+cpu", "torch>=2.6", "CVE-2025-32434", "pip install --upgrade")
    assert all(text in error for text in wanted)


def test_the_oldest_pair_passes_in_silence(tmp_path, environment):
    pair = environment(torch="2.6.0+cu124", torchvision="0.21.0+cu124")
    assert run("setup.sh", "digits", "dev", cwd=tmp_path, VIRTUAL_ENV=pair) == (0, "", "")


def test_locked_installs_what_differs_from_the_lock_and_nothing_else(tmp_path, environment):
    other = environment(torch="2.15.0+cpu", tqdm="4.1", numpy="99.0")
    status, out, _ = run("setup.sh", "--locked", cwd=tmp_path, VIRTUAL_ENV=other)
    wanted = re.findall(r"^(?:numpy|tqdm)==.*$", LOCK, re.MULTILINE)
    assert status == 0 and out.split()[-2:] == wanted and out.count("==") == 2


def test_the_lock_holds_what_the_three_stages_the_demo_and_the_tests_need():
    named = [name for path in ("", "-digits", "-dev") for name in re.findall(
        r"^[\w-]+", (ROOT / f"requirements{path}.txt").read_text(encoding="utf-8"), re.MULTILINE)]
    assert len(named) == 10 and all(f"\n{name}==" in LOCK for name in named)


def test_the_readme_names_the_pairs_that_are_allowed_and_locked():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    least = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    for name in ("torch", "torchvision"):
        assert f"{name} {re.search(rf'^{name}>=([0-9.]+)', least, re.MULTILINE)[1]}" in text
        assert f"{name} {re.search(rf'^{name}==([0-9.]+)', LOCK, re.MULTILINE)[1]}" in text
