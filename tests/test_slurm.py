"""The SLURM scripts, under stand-ins for SLURM's commands: shares, seeds, warning, requeue, the chain."""
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import words

ROOT = Path(__file__).parents[1]
SLURM = ROOT / "scripts" / "slurm"
SCRIPTS = sorted(path for path in SLURM.iterdir() if path.suffix in (".sh", ".sbatch"))
DEFAULTS = {"recover": ("recover.data_synthesis", "recover/recover_r18.sh"),
            "relabel": ("relabel.generate_soft_label", "relabel/relabel_r18.sh"),
            "validate": ("validate.train_FKD", "validate/train_FKD_10_r18.sh")}
RECORD = 'printf "%s\\n" "$@" > "$0.said"\n'
# In place of python: records words and environment; with WAITS it counts TERMs from the first on, then 75.
PYTHON = RECORD + '''printf "%s\\n" "${NPROC:-}" "${OUT:-}" "$PWD" > "$0.env"
[ -z "${WAITS:-}" ] && exit "${STATUS:-0}"
signals=0
trap 'signals=$((signals + 1))' TERM
: > "$0.ready"
while [ "$signals" = 0 ]; do sleep 0.02; done
sleep 0.1; sleep 0.1; sleep 0.1
echo "$signals" > "$0.signals"
exit "${STATUS:-75}"
'''
SBATCH = '''printf "%s\\n" "$#" "$@" >> "$0.said"
jobs=$(cat "$0.jobs" 2>/dev/null || echo 100)
echo $((jobs + 1)) > "$0.jobs"
[ "$jobs" -lt "${ACCEPTS:-200}" ] || { echo "sbatch: error: no such partition" >&2; exit 1; }
echo "$((jobs + 1))${CLUSTER:-}"
'''
STAGE = '''import time
from pathlib import Path
from utils.runtime import command_line
from utils.unfinished import StopSignals, Unfinished

def main(argv):
    with StopSignals() as stop:
        unit = Unfinished(Path("unit.pt"), minutes=5, stop=stop)
        Path("ready").touch()
        while not unit.due():
            time.sleep(0.01)
        unit.save({"step": 3})

command_line(main)
'''


class Cluster:
    """A PATH with SLURM's commands and a python, all of which only record what they are asked."""

    def __init__(self, folder: Path):
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir()
        self.command("python", PYTHON)
        self.command("sbatch", SBATCH)
        self.command("squeue", RECORD + 'case $* in *%l*) echo "${LIMIT:-4:00:00}" ;; '
                                        '*) echo "${STATE:-RUNNING}" ;; esac\n')
        self.command("scontrol", RECORD + 'exit "${REFUSES:-0}"\n')

    def command(self, name: str, text: str) -> None:
        (self.bin / name).write_text("#!/bin/sh\n" + text)
        (self.bin / name).chmod(0o755)

    def said(self, name: str, what: str = "said") -> list[str]:
        """What a command was asked; nothing if it was not called."""
        path = self.bin / f"{name}.{what}"
        return path.read_text().splitlines() if path.exists() else []

    def environment(self, **env) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))
                and name not in ("OUT", "IMAGENET", "IPC", "NPROC", "PRIMARY", "PYTHONPATH", "TORCH_HOME",
                                 "ARRAY", "SHARES", "RECOVER", "RELABEL", "VALIDATE")}
        return {**kept, "PATH": f"{self.bin}:{kept['PATH']}", "PYTHON": str(self.bin / "python"), **env}

    def start(self, stage: str, *flags, array=(), shell: str = "sh", first=None, **env) -> subprocess.Popen:
        """A batch script as SLURM starts it: a copy of the file, in the folder of the user.

        Args: array: (task, first, last, count), or nothing;  first: words before the flags, the stage script.
        """
        first = [DEFAULTS[stage][1]] if first is None else first
        copy = self.folder / "slurm_script"
        shutil.copy(SLURM / f"{stage}.sbatch", copy)
        names = ("TASK_ID", "TASK_MIN", "TASK_MAX", "TASK_COUNT")
        numbers = {f"SLURM_ARRAY_{name}": str(value) for name, value in zip(names, array, strict=False)}
        if array:
            numbers["SLURM_ARRAY_JOB_ID"] = "40"
        return subprocess.Popen([shell, str(copy), *first, *words(*flags)], cwd=self.folder, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                                env=self.environment(SLURM_JOB_ID="41", SLURM_SUBMIT_DIR=str(ROOT),
                                                     **numbers) | env)

    def run(self, stage: str, *flags, **how) -> tuple[int, str]:
        """The status of a batch script that ends by itself, and its error messages."""
        process = self.start(stage, *flags, **how)
        _, errors = process.communicate(timeout=30)
        return process.returncode, errors

    def flag(self, name: str) -> str:
        """The last value that python was given for a flag."""
        asked = self.said("python")
        return asked[len(asked) - asked[::-1].index(name)]

    def submit(self, *flags, shell: str = "sh", **env) -> subprocess.CompletedProcess:
        return subprocess.run([shell, str(SLURM / "submit.sh"), *flags], cwd=self.folder, text=True,
                              capture_output=True, timeout=30, env=self.environment(**env))

    def submitted(self) -> list[list[str]]:
        """The words of every call of sbatch."""
        lines, calls = self.said("sbatch"), []
        while lines:
            end = int(lines[0]) + 1
            calls.append(lines[1:end])
            lines = lines[end:]
        return calls


@pytest.fixture
def cluster(tmp_path) -> Cluster:
    return Cluster(tmp_path)


# ---------------------------------------------------------------- the files

@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_shell(script, shell):
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr


@pytest.mark.parametrize("stage", DEFAULTS)
def test_what_is_asked_of_slurm(stage):
    """Warned by a signal to the batch shell, requeued, logs kept, one GPU; nothing of a certain cluster."""
    lines = (SLURM / f"{stage}.sbatch").read_text().splitlines()
    asked = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
    options = dict(option.removeprefix("--").partition("=")[::2] for option in asked)
    assert options["signal"] == "B:TERM@180" and options["open-mode"] == "append" and "requeue" in options
    assert options["gres"] == "gpu:1" and options["nodes"] == options["ntasks"] == "1"
    assert options.get("array") == ("0-2" if stage == "validate" else None)
    assert not {"partition", "account", "qos", "chdir", "mail-user"} & set(options)
    commands = [i for i, line in enumerate(lines) if line and not line.startswith("#")]
    assert max(i for i, line in enumerate(lines) if line.startswith("#SBATCH")) < commands[0]  # else ignored


# ---------------------------------------------------------------- shares and seeds

@pytest.mark.parametrize("stage", ["recover", "relabel"])
@pytest.mark.parametrize("first, count", [(0, 1), (0, 3), (1, 3)])
def test_an_array_is_every_share_once(stage, first, count, cluster):
    shares = []
    for task in range(first, first + count):
        assert cluster.run(stage, array=(task, first, first + count - 1, count)) == (0, "")
        shares.append(cluster.flag("--shard"))
    assert shares == [f"{i}/{count}" for i in range(count)]
    assert cluster.said("python")[:2] == ["-m", DEFAULTS[stage][0]]


@pytest.mark.parametrize("array", [(4, 0, 14, 8), (3, 0, 7, 3), (3, 3, 3, 1), (1, 1, 1, 1), (7, 7, 8, 2)],
                         ids=["steps", "list", "one", "one, the second", "a part"])
def test_an_array_with_gaps_or_of_a_part_is_refused(array, cluster):
    status, errors = cluster.run("recover", array=array)
    assert status == 2 and "--array must be one range" in errors and errors.count("\n") == 1
    assert not cluster.said("python")


@pytest.mark.parametrize("array", [(3, 3, 5, 2), (3, 3, 3, 1), (3, 0, 7, 8)])
def test_shares_make_elements_of_a_larger_array_again(array, cluster):
    assert cluster.run("recover", array=array, SHARES="8")[0] == 0 and cluster.flag("--shard") == "3/8"
    first = ["SHARES=9", "recover/recover_r18.sh"]
    assert cluster.run("recover", array=array, first=first)[0] == 0 and cluster.flag("--shard") == "3/9"
    for shares, named in (("3", "SHARES=3 end at 2"), ("x", "got 'x'"), ("0", "got '0'")):
        status, errors = cluster.run("recover", array=array, SHARES=shares)
        assert status == 2 and named in errors


def test_without_an_array_a_job_does_everything_or_one_named_share(cluster):
    assert cluster.run("recover")[0] == 0 and cluster.flag("--shard") == "0/1"
    assert cluster.run("recover", "--shard", "3/8")[0] == 0 and cluster.flag("--shard") == "3/8"


@pytest.mark.parametrize("seed", [0, 2])
def test_an_element_of_validate_is_a_seed(seed, cluster):
    assert cluster.run("validate", array=(seed, 0, 2, 3)) == (0, "")
    asked = cluster.said("python")
    assert asked[-2:] == ["--seeds", str(seed)] and "--shard" not in asked
    assert asked[1] == "validate.train_FKD"


# ---------------------------------------------------------------- which stage, and what it is given

@pytest.mark.parametrize("stage", DEFAULTS)
def test_the_stage_scripts_choices_hold(stage, cluster):
    flags = ("--exp-name", "a name", "--seed", "7")
    script = DEFAULTS[stage][1].replace("r18", "r50")
    env = {"PRIMARY": "resnet50", "OUT": "elsewhere", "NPROC": "8"}
    first = ["OUT=here", "IPC=50", script]  # before the environment
    assert cluster.run(stage, *flags, array=(1, 0, 2, 3), first=first, **env) == (0, "")
    asked = cluster.said("python")
    assert asked[:2] == ["-m", DEFAULTS[stage][0]]  # not torchrun: one process an element
    assert asked[-4:] == list(flags)
    assert any("full_resnet50" in word for word in asked) and "50" in asked
    assert cluster.said("python", "env") == ["1", "here", str(cluster.folder)]  # relative paths hold


@pytest.mark.parametrize("stage", DEFAULTS)
@pytest.mark.parametrize("first", [["recover/recover_r99.sh"], [], ["--ipc-end", "5"], ["OUT=x"]], ids=str)
def test_no_stage_is_taken_for_granted(first, stage, cluster):
    status, errors = cluster.run(stage, array=(0, 0, 0, 1), first=first)
    assert status == 2 and "the stage script comes first" in errors and errors.count("\n") == 1
    assert not cluster.said("python")


@pytest.mark.parametrize("stage", DEFAULTS)
def test_the_root_is_where_one_submits_or_the_stage_scripts(stage, cluster):
    away, script = str(cluster.folder), DEFAULTS[stage][1]
    status, errors = cluster.run(stage, array=(0, 0, 0, 1), SLURM_SUBMIT_DIR=away)
    assert status == 2 and f"got '{script}' in {away}" in errors and not cluster.said("python")
    whole = [str(ROOT / script)]
    assert cluster.run(stage, array=(0, 0, 0, 1), first=whole, SLURM_SUBMIT_DIR=away) == (0, "")


def test_a_log_begins_with_who_and_what(cluster):
    process = cluster.start("recover", "--seed", 7, array=(3, 0, 7, 8))
    shown, _ = process.communicate(timeout=30)
    assert re.match(rf"slurm: \d{{4}}-\d\d-\d\d \S+ {platform.node()} 40_3: recover/recover_r18.sh "
                    rf"--shard 3/8 --seed 7\n", shown)


@pytest.mark.parametrize("limit", ["1:00", "4:59"])
def test_a_time_limit_that_holds_little_beside_the_warning_is_refused(limit, cluster):
    status, errors = cluster.run("recover", LIMIT=limit)
    assert status == 2 and f"--time is {limit}" in errors and not cluster.said("python")
    assert cluster.run("recover", LIMIT="5:00") == (0, "")


# ---------------------------------------------------------------- how it ends

@pytest.mark.parametrize("status", [0, 1, 2, 74, 76, 137, 143])
def test_other_statuses_pass_through(status, cluster):
    assert cluster.run("recover", array=(0, 0, 7, 8), STATUS=str(status)) == (status, "")
    assert not cluster.said("scontrol")


@pytest.mark.parametrize("stage", DEFAULTS)
def test_an_interrupted_element_requeues_itself(stage, cluster):
    status, errors = cluster.run(stage, array=(3, 1, 8, 8), STATUS="75")
    assert status == 75 and "40_3 interrupted and requeued" in errors
    assert cluster.said("scontrol") == ["requeue", "40_3"]


def test_an_interrupted_job_without_an_array_requeues_itself(cluster):
    assert cluster.run("recover", STATUS="75")[0] == 75 and cluster.said("scontrol") == ["requeue", "41"]


@pytest.mark.parametrize("state", ["COMPLETING", "CANCELLED"])
def test_a_cancelled_job_stays_cancelled(state, cluster):
    status, errors = cluster.run("recover", array=(3, 1, 8, 8), STATUS="75", STATE=state)
    assert status == 75 and "SLURM is ending 40_3" in errors and not cluster.said("scontrol")
    assert "--jobs=40_3" in cluster.said("squeue")


def test_a_refused_requeue_is_said(cluster):
    status, errors = cluster.run("recover", STATUS="75", REFUSES="1")
    assert status == 75 and "41 interrupted, but not requeued: submit it again" in errors


# ---------------------------------------------------------------- the warning

def wait_for(path: Path, process: subprocess.Popen) -> None:
    """Waits until a file is there, while the process lives."""
    for _ in range(6000):
        if path.exists():
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    raise AssertionError(f"{path} never came")


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("stage", DEFAULTS)
def test_a_warning_reaches_python_which_saves_and_is_requeued(stage, shell, cluster):
    process = cluster.start(stage, array=(2, 0, 2, 3), shell=shell, WAITS="yes")
    wait_for(cluster.bin / "python.ready", process)
    process.send_signal(signal.SIGTERM)  # to the batch shell alone
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 75, errors
    assert cluster.said("python", "signals") == ["1"]
    assert cluster.said("scontrol") == ["requeue", "40_2"]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_python_is_told_once(shell, cluster):
    """A second signal stops a stage before it has saved, and SLURM sends several."""
    process = cluster.start("recover", array=(2, 0, 2, 3), shell=shell, WAITS="yes")
    wait_for(cluster.bin / "python.ready", process)
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.06)
    process.communicate(timeout=30)
    assert process.returncode == 75 and cluster.said("python", "signals") == ["1"]


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("status", [0, 1])
def test_a_stage_that_ends_otherwise_after_the_warning_is_not_requeued(status, shell, cluster):
    process = cluster.start("recover", array=(2, 0, 2, 3), shell=shell, WAITS="yes", STATUS=str(status))
    wait_for(cluster.bin / "python.ready", process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == status and not cluster.said("scontrol")


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_stage_that_the_warning_ends_before_it_can_answer_is_requeued(shell, cluster):
    cluster.command("python", ': > "$0.ready"\nexec sleep 30\n')
    process = cluster.start("recover", array=(2, 0, 2, 3), shell=shell)
    wait_for(cluster.bin / "python.ready", process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 75 and cluster.said("scontrol") == ["requeue", "40_2"]


def test_a_stages_own_process_saves_and_is_requeued(cluster):
    """With the stages' own signal handling and ends; that a stage then goes on: test_unfinished.py."""
    (cluster.folder / "stage.py").write_text(STAGE)
    cluster.command("python", f'exec "{sys.executable}" stage.py\n')
    process = cluster.start("recover", array=(0, 0, 7, 8))
    wait_for(cluster.folder / "ready", process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 75 and "saving unfinished work" in errors, errors
    assert (cluster.folder / "unit.pt").is_file() and cluster.said("scontrol") == ["requeue", "40_0"]


# ---------------------------------------------------------------- the chain

@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_submit_chains_the_stages(shell, cluster):
    done = cluster.submit("r50", "--partition=a b", "--account=me", shell=shell, ARRAY="5", CLUSTER=";east")
    assert done.returncode == 0 and not done.stderr
    assert re.findall(r"\w+", done.stdout) == ["recover", "101", "relabel", "102", "validate", "103"]
    def shared(stage):
        return ["--parsable", f"--job-name=prism-{stage}-r50", "--partition=a b", "--account=me"]

    settings = ["IMAGENET=", f"OUT={ROOT}/out", "IPC=10", f"PYTHON={cluster.bin}/python"]
    assert cluster.submitted() == [
        [*shared("recover"), "--array=0-4", str(SLURM / "recover.sbatch"), *settings,
         f"{ROOT}/recover/recover_r50.sh"],
        [*shared("relabel"), "--array=0-4", "--dependency=afterok:101", "--kill-on-invalid-dep=yes",
         str(SLURM / "relabel.sbatch"), *settings, f"{ROOT}/relabel/relabel_r50.sh"],
        [*shared("validate"), "--dependency=afterok:102", "--kill-on-invalid-dep=yes",
         str(SLURM / "validate.sbatch"), *settings, f"{ROOT}/validate/train_FKD_10_r50.sh"]]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_submit_passes_flags_and_places_on(shell, cluster):
    done = cluster.submit("r18", "--mem=1G", "--", "--weights-dir", "a b", "--", shell=shell, OUT="here",
                          PRIMARY="resnet50", IMAGENET="/my data", IPC="50", RELABEL="--epochs *")
    assert done.returncode == 0 and not done.stderr
    calls = cluster.submitted()
    assert all(call[2] == "--mem=1G" for call in calls)
    after = [call[call.index("IMAGENET=/my data"):] for call in calls]
    settings = ["IMAGENET=/my data", "OUT=here", "IPC=50", f"PYTHON={cluster.bin}/python", "PRIMARY=resnet50"]
    flags = ["--weights-dir", "a b", "--"]
    assert after == [[*settings, f"{ROOT}/recover/recover_r18.sh", *flags],
                     [*settings, f"{ROOT}/relabel/relabel_r18.sh", *flags, "--epochs", "*"],
                     [*settings, f"{ROOT}/validate/train_FKD_10_r18.sh", *flags]]
    copied = cluster.start("relabel", first=after[1], SLURM_SUBMIT_DIR="/", array=(0, 0, 0, 1))
    assert copied.wait(timeout=30) == 0, copied.stderr.read()
    assert cluster.said("python", "env")[1] == "here" and "/my data" in cluster.said("python")


def test_submit_without_slurm_is_one_line(cluster):
    for name in ("dirname", "sh"):
        (cluster.bin / name).symlink_to(shutil.which(name))
    (cluster.bin / "sbatch").unlink()
    done = cluster.submit("r18", PATH=str(cluster.bin))
    assert done.returncode == 2 and "no sbatch here" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("student", ["r18", "r50", "r101"])
def test_submit_knows_every_student(student, cluster):
    assert cluster.submit(student).returncode == 0
    stages = [call[-1] for call in cluster.submitted()]
    assert len(stages) == 3 and all(Path(stage).is_file() for stage in stages)
    assert "--array=0-7" in cluster.submitted()[0]


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("accepted", [0, 1, 2])
def test_submit_stops_where_sbatch_refuses(accepted, shell, cluster):
    done = cluster.submit("r18", shell=shell, ACCEPTS=str(100 + accepted))
    assert done.returncode == 1 and "no such partition" in done.stderr
    assert len(cluster.submitted()) == accepted + 1 and len(done.stdout.splitlines()) == accepted


@pytest.mark.parametrize("flags, env, text", [
    ((), {}, "which student?"), (("r99",), {}, "got 'r99'"), (("--partition=x",), {}, "which student?"),
    (("r18",), {"ARRAY": "0"}, "ARRAY"), (("r18",), {"ARRAY": "0-7"}, "ARRAY")])
def test_submit_refuses_bad_input(flags, env, text, cluster):
    done = cluster.submit(*flags, **env)
    assert done.returncode == 2 and text in done.stderr and done.stderr.count("\n") == 1
    assert not cluster.submitted()
