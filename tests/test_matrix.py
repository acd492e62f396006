"""The matrix of the paper's rows: keys, parents, settings that the stages take, figures, the two readings."""
import dataclasses
import json
import re
from collections import Counter

import pytest

from recover.data_synthesis import RecoverConfig
from relabel.generate_soft_label import RelabelConfig
from scripts.reproducing.matrix import ROWS
from scripts.reproducing.rows import TABLES, Row
from utils.flags import parse_config
from utils.methods import METHODS
from utils.pieces import build, flatten, owners
from validate.train_FKD import ValidateConfig

CONFIGS = {"recover": RecoverConfig, "relabel": RelabelConfig, "validate": ValidateConfig}
ROW = {row.key: row for row in ROWS}
RUNNABLE = [row for row in ROWS if not row.needs]
CHAIN = [row for row in ROWS if row.table[0] == "3" or row.table in ("start", "final", "s3", "s4")]
RECIPE = {"relabel": {"batch_size": 50}, "validate": {"seeds": (0, 1, 2)}}  # table 1, ResNet-18, IPC 10
NEEDED = {"validate": {"fkd_path": "labels"}}

# Typed a second time from the paper, in its order: rows of a table, "mean" or "mean+std".
FIGURES = {
    "1": "21.3+0.6 46.8+0.2 52.8+0.3 28.4+0.1 55.6+0.3 61.0+0.4 30.9+0.1 60.8+0.5 62.8+0.2 "
         "31.4+0.5 51.8+0.4 55.7+0.4 35.4+0.8 58.7+0.3 62.2+0.3 38.2+0.4 61.0+0.4 63.7+0.2 "
         "42.0+0.1 56.5+0.1 59.8+0.1 30.9 60.8 62.8 "
         "48.6+0.3 58.0+0.2 54.1+0.2 64.3+0.2 51.7+0.3 64.9+0.2 "
         "49.4+0.2 59.0+0.1 60.9+0.2 51.1+1.2 65.1+0.1 67.5+0.2 48.5+1.7 65.9+0.2 68.6+0.4 "
         "46.1+0.4 59.2+0.4 62.4+0.2 48.5+1.6 66.1+0.5 67.6+0.3 "
         "46.9+0.1 59.6+0.2 62.7+0.1 46.3+0.7 66.5+0.2 69.4+0.1 40.7+3.6 66.7+0.2 70.4+0.2",
    "2": "70.0 17.9 18.3 19.0 32.4 36.2 37.4 38.7 39.1", "start": "None",
    "3a": "21.22 23.75 28.97 28.07 23.85 29.53", "3b": "29.53 29.93 31.3 30.89",
    "3c": "31.3 40.41 43.4 44.04 43.79 42.59", "3d": "44.04 45.73", "3e": "45.73 46.63 47.35",
    "3f": "47.35 47.53 47.77", "final": "49.4+0.2", "s3": "45.0 45.1 45.3 45.7 45.4 45.1",
    "s4": "44.8 45.2 45.7", "s5": "70.0 17.9 8.8 7.6 5.2",
    "s6": "70.0 17.9 17.1 14.5 9.8 9.7 6.4 4.7", "cross-arch": "None None None None None None None",
}
# Rows that the paper measured once and lists twice: a table's first row, and the row carried on to it.
CARRIED = {"3a/r18-only": "start/vanilla", "3b/baseline": "3a/mse-0.1", "3c/1024": "3b/iterations",
           "3d/baseline": "3c/50", "3e/0.25": "3d/aligned", "3f/from-e": "3e/0.05", "s3/0.25": "3d/aligned",
           "s4/100": "3d/aligned"}
BEST = ("3a/mse-0.1", "3b/iterations", "3c/50", "3d/aligned", "3e/0.05", "3f/alexnet-recover", "final/ssrs",
        "s3/0.25", "s4/100")


def lineage(row: Row) -> list[Row]:
    """The row and its ancestors, the oldest first."""
    rows = [row]
    while rows[0].inherits:
        rows.insert(0, ROW[rows[0].inherits])
        assert len(rows) <= len(ROWS), f"{row.key} inherits in a circle"
    return rows


def settings(row: Row, *, from_final: bool = False) -> dict[str, dict]:
    """What a row sets in each stage, along its lineage or, from the final recipe, within its table."""
    rows = [r for r in lineage(row) if not from_final or r.table == row.table]
    return {stage: {k: v for r in rows for k, v in getattr(r, stage).items()} for stage in CONFIGS}


def recipe(changes: dict[str, dict]) -> str:
    """Every setting of the three stages with the changes made, in a form to compare."""
    return json.dumps({stage: flatten(build(cls, NEEDED.get(stage, {}) | RECIPE.get(stage, {})
                                            | changes.get(stage, {})))
                       for stage, cls in CONFIGS.items()}, sort_keys=True)


# ---------------------------------------------------------------- form

def test_keys_are_unique_and_easy_to_type():
    assert [key for key, num in Counter(row.key for row in ROWS).items() if num > 1] == []
    assert [row.key for row in ROWS if not re.fullmatch(r"[a-z0-9-]+/[a-z0-9._-]+", row.key)] == []
    assert {row.table for row in ROWS} == set(TABLES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_parents_exist_and_share_the_protocol(row):
    rows = lineage(row)
    assert {r.protocol for r in rows} == {row.protocol}
    assert not any(r.needs for r in rows[:-1])
    assert row.protocol in METHODS


@pytest.mark.parametrize("stage", CONFIGS)
@pytest.mark.parametrize("row", RUNNABLE, ids=lambda row: row.key)
def test_the_stages_take_the_settings(row, stage, tmp_path):
    values = settings(row)[stage]
    own = {f.name for f in dataclasses.fields(CONFIGS[stage])}
    assert all(name in own or owners(CONFIGS[stage], name) for name in values)
    needed = {"recover": {"ipc_end": row.ipc}, "relabel": {"ipc": row.ipc},
              "validate": {"ipc": row.ipc, **NEEDED["validate"]}}[stage]
    (tmp_path / "config.json").write_text(json.dumps(values | needed))
    config = parse_config(CONFIGS[stage], ["--config", str(tmp_path / "config.json")])
    assert {name: flatten(config)[name] for name in values} == values


def test_only_what_the_paper_leaves_out_cannot_run():
    assert [row.key for row in ROWS if row.needs] == [
        "s5/clip", "s5/multires", "s5/clip-multires", "s6/sd-1.0", "s6/sd-2.1", "s6/flux-schnell", "s6/sdxl",
        "s6/sd-3.5-turbo", "s6/sdxl-turbo"]
    assert not any(row.recover or row.relabel or row.validate for row in ROWS if row.needs)


# ---------------------------------------------------------------- figures

@pytest.mark.parametrize("table", TABLES)
def test_figures_are_the_papers(table):
    found = [str(row.paper) + (f"+{row.std}" if row.std else "") for row in ROWS if row.table == table]
    assert found == FIGURES[table].split()


def test_table_1_puts_each_student_and_ipc_in_its_cell():
    names = {"r18": "resnet18", "r50": "resnet50", "r101": "resnet101"}
    protocols = {"sre2l": "sre2l", "g-vbsm": "g-vbsm", "rded": "rded", "edc": "edc", "prism": "prism",
                 "delt": "delt", "prism-delt": "delt"}
    cells = [(method, student, ipc) for method in protocols for student in names for ipc in (10, 50, 100)
             if not (method in ("rded", "delt") and student == "r50") and (method, ipc) != ("edc", 100)]
    rows = [row for row in ROWS if row.table == "1"]
    assert len(rows) == 54
    assert [row.key for row in rows] == ["1/{}-{}-{}".format(*cell) for cell in cells]
    for row, (method, student, ipc) in zip(rows, cells, strict=True):
        of = settings(row)
        assert (row.protocol, row.ipc) == (protocols[method], ipc)
        model = {} if student == "r18" else {"model": names[student]}
        assert of["validate"] == {"seeds": (0, 1, 2)} | model
        labelled_by_student = method == "prism" and student != "r18"
        assert of["relabel"] == ({"arch_name": names[student], "ensemble": "primary-half"}
                                 if labelled_by_student else {})
        assert of["recover"] == ({"protocol": "prism"} if method == "prism-delt" else {})


def test_the_misprint_of_table_1_is_said():
    own, copied = ROW["1/rded-r101-10"], ROW["1/sre2l-r101-10"]
    assert own.paper == copied.paper and own.std is None and "as printed" in own.label
    assert "48.3 and 61.2" in own.unknown[0]


def test_table_2_varies_teachers_and_when_they_are_drawn():
    def told(row):
        recover = settings(row)["recover"]
        return (recover["teachers"], recover.get("selection", "pre"), recover.get("primary", "fixed"),
                recover.get("max_bn_teachers"), row.vram_gb)
    rows = [row for row in ROWS if row.table == "2" and row.key != "2/real"]
    assert [told(row) for row in rows] == [
        ("single", "pre", "fixed", None, 6.5), ("single", "intra", "drawn", None, 6.5),
        ("dual", "intra", "drawn", None, 13.0), ("single", "pre", "drawn", None, 6.5),
        ("dual", "pre", "drawn", None, 13.0), ("multi", "pre", "drawn", 2, 18.5),
        ("multi", "pre", "drawn", 3, 26.0), ("multi", "pre", "drawn", 4, 32.5)]
    assert settings(ROW["2/real"])["recover"]["iteration"] == 0
    assert all(row.cost and row.protocol == "recovery-only" for row in rows)


def test_cross_arch_trains_seven_students_on_table_1s_images_and_labels():
    rows = [row for row in ROWS if row.table == "cross-arch"]
    assert [settings(row)["validate"].pop("model") for row in rows] == [
        "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "convnext_tiny", "vit_b_16", "swin_t",
        "resnet50"]
    assert {row.inherits for row in rows} == {"1/prism-r18-10"}
    assert not any(row.recover or row.relabel for row in rows)


# ---------------------------------------------------------------- the chain of table 3

def test_the_chain_ends_at_the_published_recipe():
    assert recipe(settings(ROW["final/ssrs"])) == recipe(settings(ROW["1/prism-r18-10"])) == recipe({})
    assert (ROW["final/ssrs"].paper, ROW["final/ssrs"].std) == (49.4, 0.2)


def test_two_rows_have_the_same_settings_only_where_the_paper_carries_one_on():
    for first, carried in CARRIED.items():
        assert recipe(settings(ROW[first])) == recipe(settings(ROW[carried])), first
        if carried != "start/vanilla":  # no figure
            assert ROW[first].paper == pytest.approx(ROW[carried].paper, abs=0.05), first
    others = [recipe(settings(row)) for row in CHAIN if row.key not in CARRIED]
    assert len(set(others)) == len(others)


def test_from_final_the_chosen_rows_are_the_published_recipe_and_no_other_is():
    seen = {row.key: recipe(settings(row, from_final=True)) for row in CHAIN if row.table != "start"}
    assert [key for key, made in seen.items() if made == recipe({})] == list(BEST)
    for table in {row.table for row in CHAIN} - {"start"}:
        of = [made for key, made in seen.items() if ROW[key].table == table]
        assert len(set(of)) == len(of), f"rows of table {table} fall together"


def test_the_chain_starts_from_sre2ls_settings():
    start = settings(ROW["3a/r18-only"])
    assert start["recover"]["lr"] == 0.25 and start["recover"]["iteration_step"] == 0
    assert start["relabel"]["batch_size"] == 1024 and start["relabel"]["ensemble"] == "primary"
    assert start["validate"] == {"schedule": "cosine", "loss_type": "kl"}
