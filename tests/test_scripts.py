"""The stage scripts: valid shell, the paper's numbers, the caller's flags last, and each finds the others."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import PROCESS, contents, modification_times, words, write_data
from utils.config import parse_config

from models.registry import build_model
from recover.data_synthesis import RecoverConfig
from relabel.generate_soft_label import RelabelConfig, label_folder
from utils.data import dataset_preset
from utils.files import read_json
from validate.train_FKD import ValidateConfig

pytest_plugins = ["stage_fixtures"]
ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path for depth in ("*/*.sh", "*/*/*.sh") for path in ROOT.glob(depth)
                 if not path.relative_to(ROOT).parts[0].startswith("."))
STAGES = {"recover": (RecoverConfig, "recover.data_synthesis", "recover/recover_{}.sh"),
          "relabel": (RelabelConfig, "relabel.generate_soft_label", "relabel/relabel_{}.sh"),
          "validate": (ValidateConfig, "validate.train_FKD", "validate/train_FKD_10_{}.sh")}
STUDENTS = {"r18": "resnet18", "r50": "resnet50", "r101": "resnet101"}


def run_script(path: Path, *flags, cwd: Path, **env) -> subprocess.CompletedProcess:
    """A script under sh, from another folder, with only these settings of its own."""
    kept = {name: value for name, value in os.environ.items()
            if name not in ("OUT", "IMAGENET", "IPC", "NPROC", "PRIMARY", "PYTHONPATH", "PYTHON")}
    return subprocess.run(["sh", str(path), *words(*flags)], cwd=cwd, env={**kept, **env}, text=True,
                          capture_output=True, timeout=300)


@pytest.fixture
def command_of(tmp_path):
    """f(script, *flags, **env): what a script would run: its folder, PYTHONPATH and words."""
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$PYTHONPATH" "$@"\n')
    stub.chmod(0o755)

    def run(script: Path, *flags, cwd=tmp_path, **env) -> tuple[str, str, list[str]]:
        done = run_script(script, *flags, cwd=cwd, PYTHON=str(stub), **env)
        assert done.returncode == 0, done.stderr
        folder, path, *command = done.stdout.splitlines()
        return folder, path, command
    return run


@pytest.fixture
def configs_of(command_of):
    """f(student, **env): the three stages' configs that its scripts give."""
    def run(student: str, **env) -> list:
        configs = []
        for cls, module, script in STAGES.values():
            _, _, command = command_of(ROOT / script.format(student), **env)
            assert command[:2] == ["-m", module]
            presets = dataset_preset if cls is RecoverConfig else None
            configs.append(parse_config(cls, command[2:], presets=presets))
        return configs
    return run


# ---------------------------------------------------------------- what they would run

@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_shell(script):
    posix = "bash" not in script.read_text().splitlines()[0]
    for shell in ("bash", "sh") if posix else ("bash",):
        done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_there_is_a_script_for_each_stage_and_student():
    expected = {ROOT / script.format(student) for _, _, script in STAGES.values() for student in STUDENTS}
    assert expected <= set(SCRIPTS)


@pytest.mark.parametrize("ipc, batch_size", [(None, 50), (10, 50), (50, 100), (100, 100)])
@pytest.mark.parametrize("student", STUDENTS)
def test_scripts_give_the_papers_numbers_and_find_each_other(student, ipc, batch_size, configs_of):
    env = {"OUT": "/o", "IMAGENET": "/data", **({"IPC": str(ipc)} if ipc else {})}
    recover, relabel, validate = configs_of(student, **env)
    ipc, model = ipc or 10, STUDENTS[student]
    assert recover == RecoverConfig(train_data_path="/data", syn_data_path="/o", ipc_end=ipc)  # the recipe's
    assert (relabel.epochs, relabel.batch_size, relabel.ipc) == (300, batch_size, ipc)
    assert relabel.mix_type == "cutmix" and relabel.min_scale_crops == 0.25
    assert relabel.ensemble == ("equal-norm" if student == "r18" else "primary-half")
    assert relabel.teacher_names == (model, "mobilenet_v2", "alexnet", "shufflenet_v2_x0_5")
    assert (validate.epochs, validate.batch_size, validate.ipc) == (300, batch_size, ipc)
    assert validate.model == model and validate.seeds == (0, 1, 2)
    assert validate.gradient_accumulation_steps == 2
    assert recover.run == Path(relabel.data) == Path(validate.train_dir)
    assert label_folder(relabel, recover.run) == Path(validate.fkd_path)
    assert relabel.val_dir == validate.val_dir == "/data"


def test_students_share_images_but_no_labels_or_results(configs_of):
    of = {student: configs_of(student, OUT="/o") for student in STUDENTS}
    assert len({recover for recover, _, _ in of.values()}) == 1
    assert len({label_folder(relabel, recover.run) for recover, relabel, _ in of.values()}) == 3
    assert len({validate.output_dir for _, _, validate in of.values()}) == 3


@pytest.mark.parametrize("student", ["r50", "r101"])
def test_primary_makes_other_images_for_the_same_chain(student, configs_of):
    recover, relabel, validate = configs_of(student, OUT="/o", PRIMARY=STUDENTS[student])
    assert recover.arch_name == STUDENTS[student]
    assert recover.run == Path(f"/o/full_{STUDENTS[student]}")
    assert recover.run == Path(relabel.data) == Path(validate.train_dir)
    assert label_folder(relabel, recover.run) == Path(validate.fkd_path)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("student", STUDENTS)
def test_the_callers_flags_come_last(student, stage, command_of, tmp_path):
    flags = ("--seed", "7", "--config", "a file.json")
    folder, path, command = command_of(ROOT / STAGES[stage][2].format(student), *flags, PYTHONPATH="/mine")
    assert command[-4:] == list(flags)
    assert folder == str(tmp_path) and path == f"{ROOT}:/mine"


@pytest.mark.parametrize("stage", STAGES)
def test_scripts_run_from_their_own_folder(stage, command_of):
    script = ROOT / STAGES[stage][2].format("r18")
    folder, path, command = command_of(Path(script.name), cwd=script.parent)
    assert folder == str(script.parent) and path == str(ROOT)
    assert any(word.startswith(str(ROOT / "out")) for word in command)  # the default place


@pytest.mark.parametrize("stage", STAGES)
def test_nproc_launches_torchrun(stage, command_of):
    _, module, script = STAGES[stage]
    _, _, alone = command_of(ROOT / script.format("r18"), "--seed", 3, NPROC="1")
    _, _, command = command_of(ROOT / script.format("r18"), "--seed", 3, NPROC="8")
    assert command == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "8", *alone]


# ---------------------------------------------------------------- what they do

@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with 224-pixel data and random weights of torchvision's networks, three classes."""
    folder = tmp_path_factory.mktemp("scripts")
    write_data(folder / "data", classes=("ant", "bee", "cat"), train=2, val=1, size=224)
    (folder / "weights").mkdir()
    for name in ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet", "resnet50"):
        state = build_model(name, num_classes=3, stem="imagenet").state_dict()
        small = {key: value[:1].expand_as(value) if value.numel() > 10**5 else value
                 for key, value in state.items()}  # one row stored for all: small files
        torch.save(small, folder / "weights" / f"{name}.pt")
    yield folder
    shutil.rmtree(folder)  # students of 100 MB


def chain(student: str, place: Path, **more) -> tuple[Path, dict[str, str]]:
    """The three scripts in sequence with a tiny budget, by relative paths; the run and what each said.

    Args: more: further flags by stage.
    """
    weights = ("--weights-dir", "weights", "--min-teacher-accuracy", 0)
    budget = {"recover": ("--dataset", "folder:data", *weights, "--iteration", 2, "--iteration-step", 0),
              "relabel": (*weights, "--epochs", 1, "--batch-size", 6),
              "validate": ("--epochs", 1, "--batch-size", 6, "--seeds", 0)}
    said = {}
    for stage, flags in budget.items():
        script, flags = ROOT / STAGES[stage][2].format(student), [*flags, *more.get(stage, ())]
        done = run_script(script, *flags, *PROCESS, cwd=place, OUT="made", IPC="2",
                          PYTHON=sys.executable)
        assert done.returncode == 0, done.stderr
        said[stage] = done.stderr
    return place / "made" / "full_resnet18", said


def test_the_scripts_in_sequence(place):
    run, said = chain("r18", place)
    assert "IPC 2 is complete (6 images)" in said["recover"]
    assert len(list(run.glob("syn/*/*.jpg"))) == 6 and read_json(run / "manifest.json")["size"] == 224
    labels = torch.load(run / "fkd" / "2" / "epoch_000.pt", weights_only=True)
    assert labels["logits"].shape == (6, 3)
    summary = read_json(run / "validate" / "resnet18_ipc2" / "results.json")
    assert summary["n"] == 1 and summary["results"][0]["last"]["images"] == 3

    before = modification_times(run)
    run, said = chain("r50", place, relabel=("--candidate-number", 2), validate=("--model", "narrow_resnet"))
    after = modification_times(run)
    images = [path for path in before if path.startswith(("syn", "units"))]
    assert "0 groups of units made now; IPC 2 is complete" in said["recover"]
    assert len(images) == 8 and all(after[path] == before[path] for path in images)
    assert all(after[path] == before[path] for path in before if path.startswith(("fkd", "validate")))
    manifest = read_json(run / "fkd_r50" / "2" / "manifest.json")
    assert manifest["config"]["ensemble"] == "primary-half" and "resnet50" in manifest["weights"]
    assert read_json(run / "validate" / "resnet50_ipc2" / "results.json")["n"] == 1


def test_two_processes_make_the_images_of_one(made, tiny, tmp_path):
    script, flags = ROOT / "recover" / "recover_r18.sh", tiny.recover_flags(tmp_path, "--jitter", 2)
    done = run_script(script, *flags, cwd=tmp_path, NPROC="2", PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    assert contents(run).items() <= contents(made).items()
    assert {path.name for path in run.glob("log*")} == {"log_0of2.jsonl", "log_1of2.jsonl"}
    assert (run / "manifest.json").exists()
