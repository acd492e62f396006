"""The paper's rows as commands: what they share, what they cost, and that they run to their end on digits."""
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PROCESS, modification_times, words, write_result, write_unit

from models import train_teachers
from models.registry import model_spec
from scripts import reproduce
from scripts.reproducing.costs import count_cost, describe_cost, network_flops
from scripts.reproducing.matrix import POOL_4_4, ROWS
from scripts.reproducing.plans import (
    BY_KEY,
    CONFIGS,
    STAGES,
    Plan,
    describe_state,
    fit,
    plan_row,
    protocols_of,
    row_settings,
    select_rows,
    words_of,
)
from scripts.reproducing.rows import TABLES
from scripts.reproducing.small_recipes import RECIPES
from utils.flags import parse_config
from utils.label_files import label_path, save_labels
from utils.pieces import defaults, flatten
from utils.records import read_json
from validate.results import figure

pytest_plugins = ["stage_fixtures"]
ROOT = Path(__file__).parents[1]
NO_PLACES = {stage: {} for stage in STAGES}
PRISM = "1/prism-r18-10"
LARGE_ONLY = {key for key in BY_KEY if "r101" in key} | {
    "cross-arch/convnext_tiny", "cross-arch/vit_b_16", "cross-arch/swin_t"}  # no narrow network for these
NARROW_POOL = ("narrow_resnet", "narrow_mobilenet", "narrow_efficientnet", "narrow_shufflenet",
               "narrow_alexnet")


def plan(key: str, *, dataset="imagenet-1k", origin="chain", out=Path("out"), places=NO_PLACES,
         **more) -> Plan:
    return plan_row(BY_KEY[key], dataset=dataset, origin=origin, out=out, places=places, **more)


def plans_that_run(dataset: str, origin: str = "chain") -> dict[str, Plan]:
    return {row.key: plan(row.key, dataset=dataset, origin=origin) for row in ROWS
            if not row.needs and (dataset == "imagenet-1k" or row.key not in LARGE_ONLY)}


def num_different(keys: str, **more) -> tuple[int, int, int]:
    """How many runs, folders of labels, and folders of students the rows have in all."""
    plans = [plan(key, **more) for key in keys.split()]
    return (len({p.run for p in plans}), len({p.labels for p in plans} - {None}),
            len({p.students for p in plans}))


# ---------------------------------------------------------------- which rows

def test_words_name_tables_and_rows():
    assert select_rows([]) == list(ROWS)
    assert [row.key for row in select_rows(["3"])] == [row.key for row in ROWS if row.key[0] == "3"]
    assert [row.key for row in select_rows(["1", "prism-r50-10", PRISM[2:]])] == ["1/prism-r50-10", PRISM]
    assert [row.key for row in select_rows(["3", "baseline", "50"])] \
        == ["3b/baseline", "3d/baseline", "3c/50"]  # no row of that name is passed over
    for table in TABLES:
        assert select_rows([table]) == [row for row in ROWS if row.table == table] != []


@pytest.mark.parametrize("dataset", RECIPES)
def test_every_row_gives_commands_that_make_its_configs_again(dataset):
    could_not = set()
    for row in ROWS:
        try:
            own = plan(row.key, dataset=dataset)
        except ValueError as error:
            assert str(error).startswith("needs ") and str(error).count("needs ") == 1
            could_not.add(row.key)
            continue
        for stage in STAGES:
            config = getattr(own, stage)
            if config is not None:
                cls, presets = CONFIGS[stage]
                assert parse_config(cls, words_of(stage, config), presets=presets) == config, (row.key, stage)
    needs = {row.key for row in ROWS if row.needs}
    assert could_not == (needs if dataset == "imagenet-1k" else needs | LARGE_ONLY)


@pytest.mark.parametrize("origin", ["chain", "final"])
def test_a_row_forgets_the_options_of_its_ancestors_other_choices(origin):
    for row in ROWS:
        for stage, settings in row_settings(row, origin=origin).items():
            assert settings.keys() <= defaults(CONFIGS[stage][0], settings).keys(), (row.key, stage)
    last = row_settings(BY_KEY["final/ssrs"], origin="chain")["validate"]
    assert (last["loss_type"], last["ce_weight"], last["schedule"]) == ("mse_gt", 0.1, "ssrs")


def test_places_reach_the_commands():
    common = {"device": "cpu", "threads": 2, "weights_dir": "w", "val_dir": "v"}
    own = plan("2/multi-4", dataset="digits", places={
        "recover": {"train_data_path": "t", "threads": 2}, "relabel": {}, "validate": common})
    assert own.recover.train_data_path == "t" and own.recover.threads == 2 and own.row.key == own.validate.row
    told = words_of("validate", own.validate)
    assert all(told[told.index(flag) + 1] == value for flag, value in {
        "--device": "cpu", "--threads": "2", "--weights-dir": "w", "--val-dir": "v", "--row": "2/multi-4",
        "--train-dir": str(own.run), "--output-dir": str(own.students)}.items())


# ---------------------------------------------------------------- what rows share

@pytest.mark.parametrize("dataset", ["imagenet-1k", "digits"])
@pytest.mark.parametrize("keys, expected", [
    ("3a/r18-only 3a/ensemble-kl 3a/mae-0.05 3a/mse-0.05 3a/mae-0.1 3a/mse-0.1", (1, 2, 6)),
    ("3b/baseline 3b/resize 3b/iterations 3b/both", (4, 4, 4)),
    ("3c/1024 3c/16 3c/32 3c/50 3c/64 3c/128", (1, 6, 6)),
    ("3e/0.25 3e/0.10 3e/0.05", (3, 3, 3)),
    ("3f/from-e 3f/swap-relabel", (1, 2, 2)),
    ("3f/alexnet-recover final/ssrs", (1, 1, 2)),
    ("s3/0.1 s3/0.15 s3/0.2 s3/0.3 s3/0.4", (1, 5, 5)),
    ("s4/40 s4/80 s4/100", (3, 3, 3)),
    ("1/prism-r18-10 1/prism-r18-50 1/prism-r18-100", (1, 3, 3)),
    ("1/prism-r18-10 1/prism-r50-10", (1, 2, 2)),
    ("1/prism-r18-10 1/prism-delt-r18-10", (1, 2, 2)),
    ("1/prism-delt-r18-10 1/prism-delt-r50-10", (1, 1, 2)),
    ("1/sre2l-r18-10 1/sre2l-r50-10 1/prism-r18-10", (2, 2, 3)),
    ("1/g-vbsm-r18-10 1/g-vbsm-r50-10 1/edc-r18-10 1/edc-r50-10", (2, 2, 4)),
    ("1/edc-r18-10 1/edc-r18-50", (2, 2, 2)),  # of the whole set: a batch holds every index
    ("1/delt-r18-10 1/prism-delt-r18-10", (2, 2, 2)),
    ("1/prism-r18-10 cross-arch/mobilenet_v2 cross-arch/efficientnet_b0 cross-arch/resnet50", (1, 1, 4)),
    ("2/real 2/sre2l 2/single-pre 2/single-intra 2/dual-pre 2/multi-2 2/multi-4", (7, 0, 7)),
    # measured once, listed twice
    ("start/vanilla 3a/r18-only", (1, 1, 1)), ("3a/mse-0.1 3b/baseline", (1, 1, 1)),
    ("3b/iterations 3c/1024", (1, 1, 1)), ("3c/50 3d/baseline", (1, 1, 1)),
    ("3d/aligned 3e/0.25 s4/100", (1, 1, 1)), ("3e/0.05 3f/from-e", (1, 1, 1)),
    ("2/real s5/real s6/real", (1, 0, 1)), ("2/sre2l s5/sre2l s6/sre2l", (1, 0, 1)),
])
def test_rows_share_the_folders_of_equal_work(keys, expected, dataset):
    assert num_different(keys, dataset=dataset) == expected


@pytest.mark.parametrize("dataset, runs", [("imagenet-1k", 2), ("digits", 1)])
def test_a_mosaics_tiles_follow_the_ipc_where_it_has_several(dataset, runs):
    assert num_different("1/rded-r18-10 1/rded-r18-50", dataset=dataset) == (runs, 2, 2)


@pytest.mark.parametrize("dataset", RECIPES)
@pytest.mark.parametrize("origin", ["chain", "final"])
def test_a_folder_has_one_config(dataset, origin):
    seen = {}
    for own in plans_that_run(dataset, origin).values():
        assert own.run.parent == Path("out", dataset) and own.students.parent == own.run
        assert own.labels is None or own.labels.parents[1] == own.run
        student = dataclasses.replace(own.validate, row="", seeds=(0,))  # seeds have folders of their own
        parts = ((own.run, dataclasses.replace(own.recover, ipc_end=1000)),
                 (own.labels, own.relabel), (own.students, student))
        for folder, config in parts:
            assert seen.setdefault(folder, config) == config


def test_labels_of_one_recipe_lie_in_a_folder_an_ipc():
    ten, fifty = plan(PRISM), plan("1/prism-r18-50")
    assert ten.labels.parent == fifty.labels.parent and (ten.labels.name, fifty.labels.name) == ("10", "50")


def test_draws_share_nothing_and_seeds_everything():
    first, second = plan(PRISM, draw=0), plan(PRISM, draw=1)
    assert not {first.run, first.labels, first.students} & {second.run, second.labels, second.students}
    assert (second.recover.seed, second.relabel.seed) == (1, 1)
    assert second.validate.seeds == first.validate.seeds == (0, 1, 2)
    fewer = plan(PRISM, seeds=(7,))
    assert fewer.students == first.students and fewer.validate.seeds == (7,)


def test_names_do_not_depend_on_where_the_output_is(tmp_path):
    def names(out):
        own = plan(PRISM, dataset="digits", out=out)
        return [path.relative_to(out) for path in (own.run, own.labels, own.students)]
    assert names(tmp_path) == names(Path("out")) == names(Path("."))


# ---------------------------------------------------------------- settings of chosen rows

def test_the_chains_end_is_the_published_recipe_of_table_1():
    end, recipe = plan("final/ssrs"), plan(PRISM)
    assert end.recover == recipe.recover
    assert end.relabel == recipe.relabel  # a batch of 50 is what IPC 10 gives where nothing is said
    assert dataclasses.replace(end.validate, row="") == dataclasses.replace(recipe.validate, row="")
    assert (end.run, end.labels, end.students) == (recipe.run, recipe.labels, recipe.students)
    assert (recipe.recover.lr, recipe.recover.iteration, recipe.recover.iteration_step) == (0.05, 4000, 500)
    student = flatten(recipe.validate)
    assert (student["schedule"], student["loss_type"], student["ce_weight"]) == ("ssrs", "mse_gt", 0.1)
    assert recipe.validate.seeds == (0, 1, 2) and recipe.num_classes == 1000


@pytest.mark.parametrize("key, stage, chain, final", [
    ("3a/r18-only", "recover", {"lr": 0.25, "iteration_step": 0, "subset_law": "uniform"},
     {"lr": 0.05, "iteration_step": 500, "subset_law": "bernoulli"}),
    ("3a/r18-only", "relabel", {"ensemble": "primary", "batch_size": 1024},
     {"ensemble": "primary", "batch_size": None}),
    ("3a/r18-only", "validate", {"loss_type": "kl", "schedule": "cosine"},
     {"loss_type": "kl", "schedule": "ssrs"}),
    ("3c/16", "relabel", {"batch_size": 16}, {"batch_size": 16}),
    ("3c/16", "recover", {"lr": 0.25}, {"lr": 0.05}),
    ("3f/swap-relabel", "recover", {"pool": POOL_4_4, "lr": 0.05}, {"pool": POOL_4_4, "lr": 0.05}),
    ("s3/0.3", "relabel", {"min_scale_crops": 0.3}, {"min_scale_crops": 0.3}),
    ("s3/0.3", "recover", {"lr": 0.25, "subset_law": "bernoulli"}, {"lr": 0.05, "subset_law": "bernoulli"}),
    ("1/prism-r50-10", "relabel", {"arch_name": "resnet50", "ensemble": "primary-half"},
     {"arch_name": "resnet50", "ensemble": "primary-half"}),
])
def test_from_final_only_the_rows_own_table_counts(key, stage, chain, final):
    for origin, expected in (("chain", chain), ("final", final)):
        config = flatten(getattr(plan(key, origin=origin), stage))
        assert {name: config[name] for name in expected} == expected


@pytest.mark.parametrize("dataset, key, stage, expected", [
    ("digits", PRISM, "recover", {
        "iteration": 150, "iteration_step": 19, "batch_size": 10, "arch_name": "narrow_resnet",
        "pool": NARROW_POOL, "lr": 0.1, "init": "noise", "size": 16, "ipc_end": 10}),
    ("digits", PRISM, "relabel", {"epochs": 100, "min_scale_crops": 0.5, "batch_size": None,
                                  "pool": ("narrow_resnet", "narrow_mobilenet", "narrow_alexnet",
                                           "narrow_shufflenet")}),
    ("digits", PRISM, "validate", {"model": "narrow_resnet", "epochs": None, "schedule": "ssrs",
                                   "gradient_accumulation_steps": 1}),
    ("digits", "1/prism-r18-50", "recover", {"ipc_end": 20}),
    ("digits", "1/prism-r50-100", "relabel", {"arch_name": "narrow_plain", "ipc": 40}),
    ("digits", "1/sre2l-r18-10", "recover", {"lr": 0.25, "iteration": 150, "iteration_step": 0}),
    ("digits", "1/sre2l-r18-10", "relabel", {"min_scale_crops": 0.08, "batch_size": 1024}),
    ("digits", "s4/40", "recover", {"batch_size": 4}), ("digits", "s4/80", "recover", {"batch_size": 8}),
    ("digits", "3b/both", "recover", {"iteration_step": 19, "min_scale_schedule": "cosine"}),
    ("digits", "s3/0.15", "relabel", {"min_scale_crops": 0.15}),
    ("digits", "2/multi-2", "recover", {
        "max_bn_teachers": 2, "primary": "drawn", "ipc_end": 10, "pool": (
            "narrow_resnet", "narrow_plain", "narrow_shufflenet", "narrow_mobilenet",
            "narrow_efficientnet")}),
    ("digits", "2/multi-2", "validate", {"epochs": 30, "batch_size": 256, "loss_type": "ce"}),
    ("cifar10", PRISM, "recover", {"iteration": 1000, "iteration_step": 125, "batch_size": 10,
                                   "init": "real", "lr": 0.05, "size": 32, "ipc_end": 10}),
    ("cifar10", PRISM, "relabel", {"epochs": 300, "min_scale_crops": 0.25}),
    # what a protocol has for CIFAR-10 itself is in its units already
    ("cifar10", "1/sre2l-r18-10", "recover", {"iteration": 1000, "flip": False, "batch_size": 10}),
    ("cifar10", "1/sre2l-r18-10", "relabel", {"epochs": 400, "batch_size": 128}),
    ("cifar10", "1/edc-r18-10", "recover", {"iteration": 75, "batch_size": 100}),
    ("cifar10", "1/g-vbsm-r18-10", "recover", {"iteration": 1000, "batch_size": 100, "ema": 0.8}),
    ("cifar10", "2/sre2l", "recover", {"ipc_end": 50}),
    # the same at full width: the published networks and weight of the alignment
    ("cifar10-full", PRISM, "recover", {"dataset": "cifar10", "iteration": 1000, "r_bn": 0.01, "size": 32,
                                        "stem": "small", "arch_name": "resnet18", "pool": (
                                            "resnet18", "mobilenet_v2", "efficientnet_b0",
                                            "shufflenet_v2_x0_5", "alexnet")}),
    ("cifar10-full", "1/sre2l-r18-10", "recover", {"iteration": 1000, "flip": False, "batch_size": 10}),
    ("cifar10", "2/sre2l", "validate", {"epochs": 90}),
])
def test_small_recipes_scale_what_is_in_imagenets_units(dataset, key, stage, expected):
    config = flatten(getattr(plan(key, dataset=dataset), stage))
    assert {name: config[name] for name in expected} == expected


@pytest.mark.parametrize(("pool", "fitted"), [(38, 13), (None, None)])
def test_a_pool_of_label_epochs_is_scaled_as_the_epochs_are(pool, fitted):
    own = fit("relabel", {"epochs": 152, "label_epochs": pool}, RECIPES["digits"])  # a third of them
    assert own == {"epochs": 51, "label_epochs": fitted}


@pytest.mark.parametrize("dataset", RECIPES)
def test_students_contradict_no_labels(dataset):
    fixed = ("epochs", "batch_size", "min_scale_crops", "mix_type", "steps_per_epoch")
    for own in plans_that_run(dataset).values():
        if own.relabel:
            said, labels = flatten(own.validate), flatten(own.relabel)
            assert all(said[name] in (None, labels[name]) for name in fixed), own.row
            assert own.validate.fkd_path == str(own.labels)


@pytest.mark.parametrize("dataset", RECIPES)
def test_hard_labels_have_no_relabel_and_real_images_no_iterations(dataset):
    for own in plans_that_run(dataset).values():
        hard = own.row.table in ("2", "s5", "s6")
        assert (own.relabel is None) == (own.labels is None) == (own.validate.fkd_path == "") == hard
        assert (own.recover.iteration == 0) == (own.row.key.endswith("/real") or "/rded-" in own.row.key)
    real = flatten(plan("2/real", dataset=dataset).recover)
    assert (real["iteration"], real["iteration_step"], real["init"]) == (0, 0, "real")
    assert flatten(plan("2/sre2l", dataset="digits").recover)["init"] == "noise"  # the recipe's, elsewhere
    assert flatten(plan("1/rded-r18-10", dataset=dataset).recover)["init"] == "mosaic"


def test_ipc_replaces_the_rows():
    own = plan("2/multi-4", ipc=3)
    assert (own.ipc, own.recover.ipc_end, own.validate.ipc) == (3, 3, 3)
    assert own.run == plan("2/multi-4").run and own.students != plan("2/multi-4").students


# ---------------------------------------------------------------- states

def test_states_follow_the_files(tmp_path):
    own = plan("s4/40", dataset="digits", out=tmp_path, ipc=2, seeds=(0, 1))
    assert len(own.units()) == 6  # ten classes in chunks of four, two IPC indices
    assert describe_state(own) == "missing"
    write_unit(own.run / "units" / "ipc0001_chunk02.json")
    assert describe_state(own) == "partial: 1 of 6 units, 0 of 100 label epochs, 0 of 2 students"
    write_unit(own.run / "units" / "ipc0002_chunk00.json")  # of a larger IPC
    for epoch in (0, 99, 100):
        save_labels(label_path(own.labels, epoch), {})
    for seed in (1, 2):  # 2 is of other seeds
        write_result(own.students / f"seed{seed}")
    assert describe_state(own) == "partial: 1 of 6 units, 2 of 100 label epochs, 1 of 2 students"
    write_result(own.students / "seed0")
    assert describe_state(own) == "done"
    assert describe_state(plan("s4/100", dataset="digits", out=tmp_path, ipc=2)) == "missing"


def test_states_without_stored_labels_count_none(tmp_path):
    for key in ("2/multi-4", "1/prism-delt-r18-10"):
        own = plan(key, dataset="digits", out=tmp_path, ipc=2, seeds=(0,))
        write_unit(own.run / "units" / "ipc0000_chunk00.json")
        assert describe_state(own) == "partial: 1 of 2 units, 0 of 1 students"


# ---------------------------------------------------------------- costs

def test_flops_of_a_small_network_are_those_counted_by_hand():
    first, others = 24 * 3 * 9 * 16**2, 48 * 24 * 9 * 8**2 + 64 * 48 * 9 * 4**2 + 64 * 10
    about = {"num_classes": 10, "size": 16, "stem": "small"}
    counted = {kind: network_flops("narrow_plain", kind=kind, **about)
               for kind in ("forward", "input", "train")}
    assert counted == {"forward": 2 * (first + others), "input": 4 * (first + others),
                       "train": 6 * (first + others) - 2 * first}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "alexnet", "shufflenet_v2_x0_5", "resnet101"])
def test_flops_are_twice_the_published_multiply_adds(name):
    published = model_spec(name).weights.meta["_ops"] * 1e9
    counted = network_flops(name, num_classes=1000, size=224, stem="imagenet", kind="forward")
    assert counted == pytest.approx(2 * published, rel=0.02)


def flops(name: str, kind: str) -> int:
    return network_flops(name, num_classes=1000, size=224, stem="imagenet", kind=kind)


def test_the_cost_of_table_1s_row():
    own = plan(PRISM)
    cost = count_cost(own, "imagenet-1k")
    assert cost.images == 10000
    assert cost.iterations == 10 * (sum(4000 - 500 * i for i in range(8)) + 4000 + 3500) == 255000
    assert cost.label_bytes == 300 * (10000 * (2 * 1000 + 15) + 4096)
    parameters, channels, layers = 11689512, 4800, 20  # BatchNorm: mean, variance, a counter of 64 bits
    assert cost.student_bytes == 3 * 2 * (4 * (parameters + 2 * channels) + 8 * layers)
    assert 10000 * 10e3 < cost.image_bytes < 10000 * 20e3  # JPEGs of 224 pixels
    views = 300 * 10000
    assert cost.relabel_flops == views * sum(flops(name, "forward") for name in (
        "resnet18", "mobilenet_v2", "alexnet", "shufflenet_v2_x0_5"))
    evaluated = 31 * 50000  # epochs 0, 10, ... 290 and 299
    student = views * flops("resnet18", "train") + evaluated * flops("resnet18", "forward")
    assert cost.validate_flops == 3 * student
    draws = [own.recover.teachers.plan(own.recover.teacher_pool, i, 0, 1, seed=0)[0] for i in range(10)]
    steps = [4000 - 500 * (i % 8) for i in range(10)]
    run = [{*draw.ce, *draw.align} - {"alexnet"} for draw in draws]  # which aligns nothing and is never phi
    expected = sum(1000 * n * sum(flops(name, "input") for name in names)
                   for n, names in zip(steps, run, strict=True))
    assert any("alexnet" in draw.align for draw in draws)
    assert cost.recover_flops == pytest.approx(expected, rel=1e-9)
    assert cost.networks == pytest.approx(
        sum(n * len(names) for n, names in zip(steps, run, strict=True)) / sum(steps))
    assert cost.flops == cost.recover_flops + cost.relabel_flops + cost.validate_flops
    text = describe_cost(cost, tflops=100)
    assert "10000 images, 255000 iterations" in text and "labels 6.0 GB" in text and "280.8 MB" in text
    assert f"{cost.flops / 100e12 / 60:.0f} min at 100 TFLOP/s" in text
    assert "TFLOP/s" not in describe_cost(cost, tflops=0)


def test_online_labels_take_no_bytes_and_are_computed_by_every_student():
    stored, online = (count_cost(plan(key), "imagenet-1k") for key in (PRISM, "1/prism-delt-r18-10"))
    assert (online.label_bytes, online.relabel_flops) == (0, 0)
    teacher = 3 * 300 * 10000 * flops("resnet18", "forward")  # DELT's labels are of resnet18 alone
    assert online.validate_flops == stored.validate_flops + teacher
    assert online.recover_flops == stored.recover_flops


def test_the_cost_of_drawing_teachers_at_every_iteration():
    pool = ("resnet18", "resnet34", "shufflenet_v2_x1_0", "mnasnet1_0", "efficientnet_b0")
    mean = sum(flops(name, "input") for name in pool) / len(pool)
    single, dual = (count_cost(plan(key), "imagenet-1k") for key in ("2/single-intra", "2/dual-intra"))
    assert single.iterations == 1300 * 10 * 4000 and (single.networks, dual.networks) == (1, 2)
    assert single.recover_flops == pytest.approx(1.3e6 * 4000 * mean, rel=0.05)
    assert dual.recover_flops == pytest.approx(1.3e6 * 4000 * 2 * mean, rel=0.05)
    assert single.label_bytes == single.relabel_flops == 0


def test_real_images_cost_no_recover():
    cost = count_cost(plan("2/real", dataset="digits"), "digits")
    assert (cost.images, cost.iterations, cost.networks, cost.recover_flops) == (100, 0, 0, 0)
    about = {"num_classes": 10, "size": 16, "stem": "small"}
    train, forward = (network_flops("narrow_resnet", kind=kind, **about) for kind in ("train", "forward"))
    assert cost.validate_flops == 3 * (30 * 100 * train + 2 * 450 * forward)  # evaluated at epochs 0 and 29


# ---------------------------------------------------------------- the command line

def test_every_row_is_listed(tmp_path, capsys):
    reproduce.main(["--list", "--out", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [row.key for row in ROWS]
    state = {row.key: line for row, line in zip(ROWS, lines, strict=True)}
    for row in ROWS:
        assert row.label in state[row.key] and (f" needs {row.needs} " if row.needs else " missing ") \
            in state[row.key]
    assert " 49.4 +- 0.2  prism " in state[PRISM] and " - " in state["cross-arch/swin_t"]
    assert "  delt on prism " in state["1/prism-delt-r50-10"] and " 30.9  rded " in state["1/rded-r101-10"]
    assert {row.key for row in ROWS if " on " in protocols_of(row)} \
        == {row.key for row in ROWS if row.key.startswith("1/prism-delt-")}
    reproduce.main(["1", "--list", "--dataset", "digits", "--out", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 54 and sum("needs resnet101" in line for line in lines) == 20
    assert not list(tmp_path.iterdir())


def test_table_1_is_planned_without_data(tmp_path, capsys):
    reproduce.main(["1", "--dry-run", "--out", str(tmp_path), "--tflops", "100"])
    out = capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    for row in select_rows(["1"]):
        assert f"\n{row.key}: {row.label}, the paper's {figure(row.paper, row.std)} (paper table 1)\n" in out
    assert out.count(" TFLOP/s; images ") == 54 and "unknown   best or last epoch" in out


def test_shared_work_is_counted_once(tmp_path, capsys):
    def total(*rows):
        reproduce.main([*rows, "--dry-run", "--out", str(tmp_path)])
        last = capsys.readouterr().out.splitlines()[-1]
        return float(last.removesuffix(" PFLOPs").rpartition(" ")[2])
    ten, fifty, other = (count_cost(plan(key), "imagenet-1k") for key in (
        PRISM, "1/prism-r18-50", "1/prism-r50-10"))
    assert total("1", "prism-r18-10") == pytest.approx(ten.flops / 1e15, rel=1e-3)
    assert total("1", "prism-r18-10", "prism-r50-10") == pytest.approx(
        (ten.flops + other.relabel_flops + other.validate_flops) / 1e15, rel=1e-3)
    assert total("1", "prism-r18-10", "prism-r18-50") == pytest.approx(  # its first ten images are the same
        (fifty.flops + ten.relabel_flops + ten.validate_flops) / 1e15, rel=1e-3)
    assert total("3c", "50") == total("3", "50") and total("s6", "sdxl") == 0


@pytest.mark.parametrize("argv, error", [
    (["7"], "no table '7'; expected one of 1, 2, start, 3a,"),
    (["1", "prism"], "no row 'prism' in table 1; expected some of sre2l-r18-10,"),
    ([], "say which table, and perhaps rows: 1, 2, start,"),
    (["1"], "--dataset imagenet-1k needs --train-data-path"),
    (["1", "--dataset", "mnist"], "--dataset: invalid choice: 'mnist'"),
    (["3a", "--dataset", "digits", "--seeds", "1", "1"], "--seeds must differ, got (1, 1)"),
    (["3a", "--draws", "0"], "--draws must be in [1, 1000]"),
    (["3a", "--ipc", "-1"], "--ipc must be in [0, 10000]"),
    (["3a", "--from", "start"], "--from: invalid choice: 'start'"),
    (["3a", "--dry-run", "x"], "unrecognized arguments: x"),
])
def test_bad_words_are_refused(argv, error, refused, tmp_path):
    assert error in refused(reproduce.main, [*argv, "--out", tmp_path])
    assert not list(tmp_path.iterdir())


def run_script(name: str, *flags, **env) -> subprocess.CompletedProcess:
    kept = {key: value for key, value in os.environ.items() if key not in ("OUT", "IMAGENET", "PYTHON")}
    return subprocess.run(["sh", str(ROOT / "scripts" / name), *words(*flags)], env={**kept, **env},
                          text=True, capture_output=True)


def test_scripts_pass_tables_places_and_flags_in_order(tmp_path):
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)

    def words_given(name, *flags, **env):
        return run_script(name, *flags, PYTHON=str(stub), **env).stdout.splitlines()
    start = ["-m", "scripts.reproduce"]
    assert words_given("reproduce.sh", "--list") == [*start, "--out", str(ROOT / "out"), "--list"]
    assert words_given("reproduce.sh", "1", "a", "b", "--seeds", 0, 1, OUT="/o", IMAGENET="/a b") == [
        *start, "1", "a", "b", "--out", "/o", "--train-data-path", "/a b", "--seeds", "0", "1"]
    for table in "123":
        assert words_given(f"table{table}.sh", "x", "--out", "/p", OUT="/o") == [
            *start, table, "x", "--out", "/o", "--out", "/p"]


# ---------------------------------------------------------------- rows that run

MADE = {"recover": "*/units/*.json", "relabel": "*/labels_*/*/epoch_*.pt",
        "validate": "*/students_*/seed*/result.json"}


@pytest.fixture(scope="module")
def teachers(tmp_path_factory) -> Path:
    """Digits' teachers after one epoch: barely above the floor of recover's check."""
    pytest.importorskip("sklearn")
    folder, recipe = tmp_path_factory.mktemp("teachers"), RECIPES["digits"]
    names = sorted(set(recipe.networks.values()) - {""})
    train_teachers.main(words("--dataset", "digits", "--output-dir", folder, "--models", *names, *PROCESS,
                              "--epochs", 1, "--batch-size", 64, "--optimizer", "adamw", "--lr", 0.005))
    return folder


@pytest.fixture
def made(monkeypatch, tmp_path) -> list[tuple[str, int]]:
    """(stage, files that are its finished work) of each call of a stage's main, with tiny budgets."""
    pytest.importorskip("sklearn")
    recipe, calls = RECIPES["digits"], []
    monkeypatch.setitem(RECIPES, "digits", dataclasses.replace(
        recipe, iterations=2 / 4000, epochs=2 / 300, teachers=recipe.teachers | {"epochs": 1}))

    def counted(stage, main):
        def run(argv):
            before = len(list((tmp_path / "digits").glob(MADE[stage])))
            done = main(argv)
            calls.append((stage, len(list((tmp_path / "digits").glob(MADE[stage]))) - before))
            return done
        return run
    for stage, main in dict(reproduce.MAINS).items():
        monkeypatch.setitem(reproduce.MAINS, stage, counted(stage, main))
    return calls


def test_rows_share_work_and_end_in_a_table(made, tmp_path, capsys):
    argv = ["3a", "r18-only", "ensemble-kl", "mse-0.05", "--dataset", "digits", "--out", str(tmp_path),
            "--ipc", "2", "--seeds", "0", "1", *PROCESS]
    entries = reproduce.main(argv)
    assert made == [("recover", 2), ("relabel", 2), ("validate", 2),
                    ("recover", 0), ("relabel", 2), ("validate", 2),
                    ("recover", 0), ("relabel", 0), ("validate", 2)]
    keys = ["3a/r18-only", "3a/ensemble-kl", "3a/mse-0.05"]
    assert [(entry["key"], entry["wanted"], len(entry["folders"])) for entry in entries] \
        == [(key, 2, 1) for key in keys]
    tables = tmp_path / "digits" / "tables"
    name = "3a-r18-only-ensemble-kl-mse-0.05-ipc2"
    assert {path.name for path in tables.iterdir()} == {f"{name}.{ending}" for ending in ("md", "csv", "tex")}
    shown = (tables / f"{name}.md").read_text()
    assert shown in capsys.readouterr().out
    for entry, paper in zip(entries, ("21.2", "23.8", "28.1"), strict=True):
        results = [read_json(Path(entry["folders"][0]) / f"seed{seed}" / "result.json") for seed in (0, 1)]
        a, b = (100 * result["last"]["top1"] for result in results)
        line = next(line for line in shown.splitlines() if entry["key"] in line)
        assert f"| {(a + b) / 2:.1f} +- {abs(a - b) / 2**0.5:.1f} | 2 |" in line
        assert line.endswith(f"| {paper} | - |")
        assert [result["row"] for result in results] == [entry["key"]] * 2

    before = modification_times(tmp_path)
    made.clear()
    assert reproduce.main(argv) == entries and made == []
    after = modification_times(tmp_path)
    assert {path for path in before | after if before.get(path) != after.get(path)} \
        == {f"digits/tables/{name}.{ending}" for ending in ("md", "csv", "tex")}

    lost = Path(entries[1]["folders"][0], "seed1", "result.json")
    result = read_json(lost)
    lost.unlink()
    capsys.readouterr()
    reproduce.main(["3a", "ensemble-kl", "--list", *argv[4:]])
    assert "partial: 2 of 2 units, 2 of 2 label epochs, 1 of 2 students" in capsys.readouterr().out
    reproduce.main(argv)
    assert made == [("recover", 0), ("relabel", 0), ("validate", 1)] and read_json(lost) == result


@pytest.mark.parametrize("table, row, expected", [
    ("1", "sre2l-r18-10", [("recover", 2), ("relabel", 2), ("validate", 1)]),
    ("1", "prism-delt-r18-10", [("recover", 2), ("relabel", 0), ("validate", 1)]),
    ("2", "real", [("recover", 2), ("validate", 1)]),
    ("2", "dual-intra", [("recover", 2), ("validate", 1)]),
    ("s3", "0.1", [("recover", 2), ("relabel", 2), ("validate", 1)])])
def test_rows_of_every_kind_run(made, tmp_path, table, row, expected, teachers):
    reproduce.main([table, row, "--dataset", "digits", "--out", str(tmp_path), "--ipc", "2", "--seeds", "3",
                    "--weights-dir", str(teachers), *PROCESS])
    assert made == expected


SLOW_ROWS = (PRISM, "1/prism-delt-r18-10", "1/sre2l-r18-10", "2/multi-4", "3a/mse-0.1", "3b/iterations",
             "3c/50", "3d/aligned", "3e/0.05", "3f/alexnet-recover", "final/ssrs", "s3/0.3", "s4/40",
             "s5/real", "s6/real", "cross-arch/mobilenet_v2")


@pytest.mark.slow
def test_a_row_of_every_table_runs_with_the_committed_recipe(tmp_path):
    pytest.importorskip("sklearn")
    assert {BY_KEY[key].table for key in SLOW_ROWS} == set(TABLES) - {"start"}  # that one is 3a's first row
    for key in SLOW_ROWS:
        done = run_script("reproduce.sh", *key.split("/"), "--dataset", "digits", "--out", tmp_path,
                          "--seeds", 0, PYTHON=sys.executable)
        assert done.returncode == 0, done.stderr
        assert f"| {key}: " in done.stdout and "incomplete" not in done.stdout
    done = run_script("reproduce.sh", "--list", "--dataset", "digits", "--out", tmp_path, "--seeds", 0,
                      PYTHON=sys.executable)
    states = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert all(" done " in states[key] for key in SLOW_ROWS)
    for key in SLOW_ROWS:
        own = plan(key, dataset="digits", out=tmp_path)
        top1 = read_json(own.students / "seed0" / "result.json")["last"]["top1"]
        assert top1 > (0.5 if own.relabel else 0.1), key  # chance is 0.1; 30 epochs of hard labels are few
