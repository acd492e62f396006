"""Every method from digits to a table, with budgets of moments: three stages, under two protocols."""
import contextlib
import csv
import dataclasses

import pytest
import torch
from pretended_cuda import pretended_cuda

from scripts import compare
from scripts.comparing.cells import CONTROLS, compared_methods, has_own
from scripts.reproducing import small_recipes
from scripts.reproducing.small_recipes import RECIPES
from utils.methods import METHODS

pytest_plugins = ["stage_fixtures"]
D4M = "d4m"  # its pipeline is the test's own, tiny and of random weights


@pytest.fixture
def small(monkeypatch):
    """The digits' recipe at the smallest budget in which everything still happens."""
    own = RECIPES["digits"]
    monkeypatch.setitem(small_recipes.RECIPES, "digits", dataclasses.replace(
        own, iterations=16 / 4000, epochs=2 / 300, teachers={**own.teachers, "epochs": 2},
        recover={**own.recover, "min_teacher_accuracy": 0.0},
        relabel={**own.relabel, "min_teacher_accuracy": 0.0}))


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """Where a test runs: on CUDA too, pretended where there is none."""
    lend = request.param == "cuda" and not torch.cuda.is_available()
    with pretended_cuda() if lend else contextlib.nullcontext():
        yield request.param


def rows_of(out, device, *words) -> list[dict[str, str]]:
    table = compare.main([*words, "--dataset", "digits", "--ipc", "2", "--draws", "1", "--threads", "1",
                          "--device", device, "--out", str(out)])
    return list(csv.DictReader(table.with_suffix(".csv").open(encoding="utf-8")))


def check(rows: list[dict[str, str]], name: str) -> None:
    """Under the common protocol and its own the method has a student that was measured."""
    own = {row["protocol"]: row for row in rows if row["method"] == name}
    assert own.keys() >= {"rd3", name} and has_own(name)
    assert all(row["n"] == "1" and float(row["top1"]) >= 0 for row in own.values()), own


@pytest.mark.slow
def test_every_method_runs_end_to_end_on_digits(small, tmp_path, device):
    names = [name for name in compared_methods() if name != D4M]
    assert len([name for name in names if name not in CONTROLS]) == 13
    rows = rows_of(tmp_path, device, *(name for name in names if name not in CONTROLS))
    for name in names:
        check(rows, name)


@pytest.mark.slow
def test_d4m_runs_end_to_end_on_digits_with_a_tiny_pipeline(
        small, pipeline, tmp_path, device, monkeypatch):
    own = METHODS[D4M]
    monkeypatch.setitem(METHODS, D4M, dataclasses.replace(
        own, recover={**own.recover, "diffusion_model": str(pipeline), "steps": 2}))
    check(rows_of(tmp_path, device, D4M), D4M)
