"""The stage scripts: valid shell, the paper's numbers, the caller's flags last, and each finds the others."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import PROCESS, contents, modification_times, words, write_data

from models.registry import build_model
from recover import data_synthesis
from recover.data_synthesis import RecoverConfig
from relabel import generate_soft_label
from relabel.generate_soft_label import RelabelConfig
from utils.flags import parse_config
from utils.loading import planned_images
from utils.methods import METHODS, Case
from utils.pieces import flatten
from utils.records import read_json
from validate import train_FKD
from validate.train_FKD import ValidateConfig

pytest_plugins = ["stage_fixtures"]
ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path for depth in ("*/*.sh", "*/*/*.sh") for path in ROOT.glob(depth)
                 if not path.relative_to(ROOT).parts[0].startswith("."))
STAGES = {"recover": (RecoverConfig, "recover.data_synthesis", "recover/recover_{}.sh"),
          "relabel": (RelabelConfig, "relabel.generate_soft_label", "relabel/relabel_{}.sh"),
          "validate": (ValidateConfig, "validate.train_FKD", "validate/train_FKD_10_{}.sh")}
PRESETS = {RecoverConfig: data_synthesis.presets, RelabelConfig: generate_soft_label.presets,
           ValidateConfig: train_FKD.presets}
STUDENTS = {"r18": "resnet18", "r50": "resnet50", "r101": "resnet101"}


def run_script(path: Path, *flags, cwd: Path, **env) -> subprocess.CompletedProcess:
    """A script under sh, from another folder, with only these settings of its own."""
    kept = {name: value for name, value in os.environ.items()
            if name not in ("OUT", "IMAGENET", "IPC", "NPROC", "PRIMARY", "PYTHONPATH", "PYTHON", "MODEL",
                            "RECOVER", "RELABEL", "VALIDATE")}
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
    """f(student, stage=further flags, **env): the three stages' configs that its scripts give."""
    def run(student: str, **env) -> list:
        more, configs = {stage: env.pop(stage, ()) for stage in STAGES}, []
        for stage, (cls, module, script) in STAGES.items():
            _, _, command = command_of(ROOT / script.format(student), *more[stage], **env)
            assert command[:2] == ["-m", module]
            configs.append(parse_config(cls, command[2:], presets=PRESETS[cls]))
        return configs
    return run


def label_plan(relabel: RelabelConfig):
    """What relabel makes of its flags on ImageNet-1K."""
    return relabel.plan(planned_images("imagenet-1k", relabel.ipc, run_or_syn=relabel.data))


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
    labels, student_of = flatten(relabel), flatten(validate)
    assert (relabel.epochs, label_plan(relabel).views.batch_size, relabel.ipc) == (300, batch_size, ipc)
    assert (labels["mix_type"], labels["mix_alpha"], relabel.min_scale_crops) == ("cutmix", 1.0, 0.25)
    assert labels["ensemble"] == ("equal-norm" if student == "r18" else "primary-half")
    assert relabel.teacher_names == (model, "mobilenet_v2", "alexnet", "shufflenet_v2_x0_5")
    assert (validate.epochs, validate.batch_size, validate.ipc) == (300, None, ipc)  # the labels' batch
    assert validate.model == model and validate.seeds == (0, 1, 2)
    assert validate.gradient_accumulation_steps == 2
    told = {"loss_type": "mse_gt", "ce_weight": 0.1, "optimizer": "adamw", "adamw_lr": 0.001,
            "adamw_weight_decay": 0.01, "schedule": "ssrs", "zeta": 2.5, "mix_type": "cutmix",
            "min_scale_crops": 0.25}
    assert {name: student_of[name] for name in told} == told
    assert recover.run == Path(relabel.data) == Path(validate.train_dir)
    assert label_plan(relabel).folder == Path(validate.fkd_path)
    assert relabel.val_dir == validate.val_dir == "/data"


def test_students_share_images_but_no_labels_or_results(configs_of):
    of = {student: configs_of(student, OUT="/o") for student in STUDENTS}
    assert len({recover for recover, _, _ in of.values()}) == 1
    assert len({label_plan(relabel).folder for _, relabel, _ in of.values()}) == 3
    assert len({validate.output_dir for _, _, validate in of.values()}) == 3


@pytest.mark.parametrize("student", ["r50", "r101"])
def test_primary_makes_other_images_for_the_same_chain(student, configs_of):
    recover, relabel, validate = configs_of(student, OUT="/o", PRIMARY=STUDENTS[student])
    assert recover.arch_name == STUDENTS[student]
    assert recover.run == Path(f"/o/full_{STUDENTS[student]}")
    assert recover.run == Path(relabel.data) == Path(validate.train_dir)
    assert label_plan(relabel).folder == Path(validate.fkd_path)


def test_the_callers_choices_win_over_the_scripts_flags(configs_of):
    """Also where another piece is chosen, which does not have the options that the script gives."""
    recover, relabel, validate = configs_of(
        "r50", recover=("--teachers", "single", "--init", "noise", "--lr", "0.25"),
        relabel=("--ensemble", "primary", "--mix-type", "none", "--batch-size", "7"),
        validate=("--loss-type", "kl", "--temperature", "4", "--schedule", "cosine"))
    made = flatten(recover)
    assert (made["teachers"], made["init"], made["lr"]) == ("single", "noise", 0.25)
    assert not {"subset_law", "max_bn_teachers"} & made.keys()
    assert relabel.teacher_names == ("resnet50",) and flatten(relabel)["mix_type"] == "none"
    assert label_plan(relabel).views.batch_size == 7
    student = flatten(validate)
    assert (student["loss_type"], student["temperature"], student["schedule"]) == ("kl", 4.0, "cosine")
    assert not {"ce_weight", "zeta"} & student.keys()


# ---------------------------------------------------------------- a method's three stages

def commands_of(done: subprocess.CompletedProcess) -> list[list[str]]:
    """The words of every call of a stub, each with its folder and PYTHONPATH before them."""
    assert done.returncode == 0, done.stderr
    return [call.splitlines()[2:] for call in done.stdout.split("---\n")[1:]]


@pytest.fixture
def method_commands(tmp_path):
    """f(script, *words, **env): the commands that a script of scripts/methods runs."""
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "---" "$PWD" "$PYTHONPATH" "$@"\n')
    stub.chmod(0o755)

    def run(script: str, *flags, **env) -> list[list[str]]:
        return commands_of(run_script(ROOT / "scripts" / "methods" / script, *flags, cwd=tmp_path,
                                      PYTHON=str(stub), **env))
    return run


@pytest.mark.parametrize("script, own", [("prism.sh", ()), ("sre2l.sh", ()), ("method.sh", ("sre2l",)),
                                         ("method.sh", ("fadrm+",)), ("method.sh", ("k-centre",))])
@pytest.mark.parametrize("ipc", [10, 50])
def test_a_methods_script_runs_its_three_stages_with_its_settings(script, own, ipc, method_commands):
    shown, *calls = method_commands(script, *own, "--threads", 2, OUT="/o", IMAGENET="/data", IPC=str(ipc))
    assert shown == ["-m", "scripts.methods.settings", own[0] if own else script.removesuffix(".sh")]
    assert [call[:2] for call in calls] == [["-m", module] for _, module, _ in STAGES.values()]
    recover, relabel, validate = (parse_config(cls, call[2:], presets=PRESETS[cls])
                                  for (cls, _, _), call in zip(STAGES.values(), calls, strict=True))
    name = own[0] if own else script.removesuffix(".sh")
    assert {config.protocol for config in (recover, relabel, validate)} == {name}
    assert {config.threads for config in (recover, relabel, validate)} == {2}
    for stage, config in (("recover", recover), ("relabel", relabel), ("validate", validate)):
        settings = METHODS[name].settings(stage, Case("imagenet-1k", ipc, "resnet18" * (stage == "validate")))
        assert {key: flatten(config)[key] for key in settings} == dict(settings)
    assert recover.run == Path("/o", name) == Path(relabel.data) == Path(validate.train_dir)
    assert label_plan(relabel).folder == Path(validate.fkd_path)
    assert recover.train_data_path == relabel.val_dir == validate.val_dir == "/data"
    assert recover.ipc_end == relabel.ipc == validate.ipc == ipc and validate.model == "resnet18"


def test_a_methods_stages_take_flags_of_their_own(method_commands):
    _, recover, relabel, validate = method_commands(
        "sre2l.sh", OUT="/o", MODEL="resnet50", RECOVER="--iteration 7", RELABEL="--epochs 3",
        VALIDATE="--epochs 3 --seeds 5")
    assert recover[-2:] == ["--iteration", "7"] and relabel[-2:] == ["--epochs", "3"]
    assert validate[-4:] == ["--epochs", "3", "--seeds", "5"]
    assert validate[validate.index("--model") + 1] == "resnet50"
    assert validate[validate.index("--output-dir") + 1] == "/o/sre2l/validate/resnet50_ipc10"


def test_a_method_stops_where_a_stage_fails_and_asks_for_its_name(tmp_path):
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\necho "$2"\n[ "$2" = scripts.methods.settings ]\n')
    stub.chmod(0o755)
    done = run_script(ROOT / "scripts/methods/prism.sh", cwd=tmp_path, PYTHON=str(stub))
    assert done.returncode == 1 and done.stdout == "scripts.methods.settings\nrecover.data_synthesis\n"
    done = run_script(ROOT / "scripts/methods/method.sh", cwd=tmp_path, PYTHON=str(stub))
    assert done.returncode == 2 and done.stdout == "" and "which one?" in done.stderr


def test_a_method_that_lacks_a_stage_is_refused_before_anything_runs(tmp_path):
    script = ROOT / "scripts/methods/method.sh"
    done = run_script(script, "recovery-only", cwd=tmp_path, PYTHON=sys.executable)
    assert done.returncode == 2 and "it has no soft labels" in done.stderr and not list(tmp_path.iterdir())
    done = run_script(script, "no-such", cwd=tmp_path, PYTHON=sys.executable)
    assert done.returncode == 2 and "expected one of prism, sre2l" in done.stderr


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


def environment(folder: Path, *, torch_in: str = "site-packages") -> Path:
    """What looks like an environment with torch, and names itself."""
    (folder / "bin").mkdir(parents=True)
    (folder / "lib" / "python3.11" / torch_in / "torch").mkdir(parents=True)
    (folder / "bin" / "python").write_text(f"#!/bin/sh\necho {folder.name}\n")
    (folder / "bin" / "python").chmod(0o755)
    return folder


def test_the_active_environment_wins(tmp_path):
    names = {"venv": "site-packages", "conda": "site-packages", "bare": "elsewhere", "path": "site-packages"}
    venv, conda, bare, path = (environment(tmp_path / name, torch_in=own) for name, own in names.items())
    (path / "bin" / "python3").symlink_to("python")
    root = tmp_path / "root"
    for folder in ("scripts", "recover"):
        shutil.copytree(ROOT / folder, root / folder)

    def chosen(**env) -> str:
        done = run_script(root / "recover" / "recover_r18.sh", cwd=tmp_path, **{
            "VIRTUAL_ENV": "", "CONDA_PREFIX": "", "PATH": f"{path / 'bin'}:{os.environ['PATH']}", **env})
        return done.stdout.strip()
    assert chosen() == "path"
    environment(root / ".venv")
    assert chosen() == chosen(CONDA_PREFIX=str(bare)) == ".venv"
    assert chosen(CONDA_PREFIX=str(conda)) == "conda"
    assert chosen(CONDA_PREFIX=str(conda), VIRTUAL_ENV=str(venv)) == "venv"
    assert chosen(CONDA_PREFIX=str(conda), PYTHON=str(venv / "bin" / "python")) == "venv"


@pytest.mark.parametrize("env, named", [
    ({"NPROC": "abc"}, "NPROC must be a number above 0, got 'abc'"), ({"NPROC": "0"}, "NPROC"),
    ({"IPC": "1e3"}, "IPC must be a number above 0, got '1e3'"), ({"IPC": "-1"}, "IPC"),
    ({"PYTHON": "", "VIRTUAL_ENV": "/nonexistent"}, "no program /nonexistent/bin/python"),
    ({"PYTHON": "/no/python"}, "no program /no/python")], ids=str)
def test_what_the_environment_says_is_checked(env, named, tmp_path):
    done = run_script(ROOT / STAGES["validate"][2].format("r18"), cwd=tmp_path,
                      **{"PYTHON": sys.executable, **env})
    assert done.returncode == 2 and done.stdout == "" and list(tmp_path.iterdir()) == []
    assert done.stderr.startswith("train_FKD_10_r18.sh: ") and named in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_star_is_not_a_list_of_files(command_of, tmp_path):
    _, _, command = command_of(ROOT / "scripts" / "reproduce.sh", "*", "--dry-run", OUT="/o")
    assert command == ["-m", "scripts.reproduce", "*", "--out", "/o", "--dry-run"]


def test_an_interrupted_script_ends_with_75_before_python_too(tmp_path):
    here = tmp_path / "folder"
    here.mkdir()
    (here / "stage.sh").write_text(f'here={ROOT}/scripts\n. "{ROOT}/scripts/env.sh"\nkill -TERM $$\nrun x\n')
    done = run_script(here / "stage.sh", cwd=tmp_path, PYTHON=sys.executable)
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr == "interrupted: run the same command again\n"


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
