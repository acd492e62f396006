"""What a newcomer meets: the demo, the benchmark, the READMEs and --help."""
import json
import re
from pathlib import Path

import pytest

from benchmarks import parts, recover_step
from scripts import demo, readme_tables

ROOT = Path(__file__).parents[1]


def test_tables_are_what_configs_results_and_costs_say():
    assert readme_tables.refresh(write=False) == []


@pytest.mark.parametrize("page", sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("*/README.md"))
                         + ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/results/README.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    for link in links:
        path, _, heading = link.partition("#")
        there = (ROOT / page).parent / path
        assert there.exists(), link
        titles = [line.lstrip("# ") for line in there.read_text(encoding="utf-8").splitlines()
                  if line.startswith("#")] if heading else []
        assert heading in ("", *(re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles))


def test_the_readme_names_scripts_that_exist():
    named = {name for name in re.findall(r"[\w/]+\.sh", (ROOT / "README.md").read_text()) if "/" in name}
    assert len(named) > 4 and all((ROOT / name).is_file() for name in named)


def test_a_small_demo_ends_with_its_table(tmp_path, capsys, monkeypatch):
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    few = type(digits)(images=digits.images[:400], target=digits.target[:400])
    monkeypatch.setattr(datasets, "load_digits", lambda: few)
    flags = ["--out", str(tmp_path), "--draws", "2", "--ipc", "2", "--iterations", "2", "--epochs", "2",
             "--teacher-epochs", "1"]
    summary = demo.main(flags)
    assert set(summary["sets"]) == {"PRISM", "SRe2L", "random real images", "whole training set"}
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved["n"] == 2 and len(saved["draws"]) == 2
    each = saved["paired PRISM - SRe2L"]["soft"]["each"]
    assert each == [row["PRISM"]["soft"] - row["SRe2L"]["soft"] for row in saved["draws"]]
    assert (tmp_path / "images.png").stat().st_size > 1000
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "the sets PRISM and SRe2L" in page and f"{saved['sets']['PRISM']['soft'][0]:.1f}" in page
    out = capsys.readouterr().out
    assert (tmp_path / "results.md").read_text().strip() in out
    assert "PRISM - SRe2L, paired" in out and "n = 2 draws" in out
    assert demo.main(flags)["draws"] == summary["draws"]  # nothing is done twice


def test_the_benchmark_compares_both_engines(capsys):
    recover_step.main(["--size", "32", "--size64", "32", "--batch-size", "4", "--rounds", "1",
                       "--teachers", "1", "--gradients", "1", "--threads", "1"])
    timed, compared = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert timed["published"]["time_ratio"] == 1 and len(timed["fused"]["ratios"]) == 1
    assert timed["fused"]["saved_mb"] < timed["reference"]["saved_mb"] < timed["published"]["saved_mb"]
    assert compared["float64_relative"] < 1e-10 and compared["peak_over_largest_alone"] == 1


def test_the_parts_of_a_step_are_the_step(capsys):
    parts.main(["--size", "32", "--batch-size", "4", "--rounds", "1", "--networks",
                "narrow_resnet,narrow_mobilenet", "--threads", "1"])
    *each, both = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert [own["network"] for own in (*each, both)] == ["narrow_resnet", "narrow_mobilenet", "all"]
    for own in (*each, both):
        over = dict(own["over"])
        assert over.pop("convolutions alone") == 1 and 0 < over.pop("floor")
        assert over.pop("step") == own["step_over"][0] == pytest.approx(sum(over.values()))
        assert {"convolutions", "statistics", "affine", "activation"} <= set(over)
    assert "depthwise convolutions" not in each[0]["over"] and each[1]["over"]["depthwise convolutions"] > 0
    assert parts.added([{"calls": -1.0, "a": 2.0}, {"calls": 0.5}]) == {"calls": -0.5, "a": 2.0}
    assert both["layers_mb"] == sum(own["layers_mb"] for own in each) > 0
