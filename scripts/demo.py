"""The whole pipeline on real images, on two CPU cores in seven minutes: PRISM, SRe2L, handwritten digits.

    bash scripts/demo.sh          (set-up included)          python -m scripts.demo --draws 5

Every draw is independent: teachers, starting points, subsets and students.  Both methods start from the same
noise and share labels and students; two controls go through the same protocol: as many random real images,
and the whole training set at as many optimiser steps.  What it shows is measured, whatever it is.
"""
import dataclasses
import statistics
import time
from pathlib import Path

from PIL import Image, ImageDraw

from models import train_teachers
from recover import data_synthesis
from relabel import generate_soft_label
from scripts.reproducing.small_recipes import RECIPES
from utils.files import sha256_json, write_atomically, write_json
from utils.flags import parse_config, to_words
from utils.methods import METHODS, Case
from utils.pieces import Options, Values, flatten, option
from utils.records import read_record
from utils.runtime import choose_device, command_line, hushed, say, versions
from validate import diversity, report, train_FKD

TEACHERS = ("narrow_resnet", "narrow_mobilenet", "narrow_shufflenet", "narrow_plain", "narrow_alexnet")
PRIMARY, STRANGER = "narrow_resnet", "narrow_efficientnet"  # the stranger is nobody's teacher: it measures
RECIPE, PUBLISHED = RECIPES["digits"], METHODS["prism"]
COMPARED = {"PRISM": METHODS["prism"], "SRe2L": METHODS["sre2l"]}
CONTROLS = {"random real images": "random", "whole training set": "real"}
COLUMNS = {"soft": "top-1, soft labels", "hard": "top-1, hard labels", "cosine": "intra-class cosine"}
STAGES = ("recover", "relabel", "validate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoConfig(Options):
    """What `python -m scripts.demo` takes."""

    out: str = option("out/demo", "folder for everything that is written")
    draws: int = option(3, "independent draws of everything", range="in [1, 1000]")
    ipc: int = option(10, "images per class: similarity needs pairs, the smallest class has 131",
                      range="in [2, 131]")
    iterations: int = option(round(PUBLISHED.recover["iteration"] * RECIPE.iterations),
                             "recover iterations of every image", range="in [1, 100000]")
    lr: float = option(RECIPE.recover["lr"], "recover learning rate", range="> 0")
    r_bn: float = option(RECIPE.recover["r_bn"], "recover weight of the alignment", range=">= 0")
    min_scale_crops: float = option(RECIPE.recover["min_scale_crops"],
                                    "least area fraction of a crop in every stage", range="in (0, 1]")
    teacher_epochs: int = option(RECIPE.teachers["epochs"], "epochs of each teacher", range="in [1, 100000]")
    epochs: int = option(round(PUBLISHED.label_epochs(Case()) * RECIPE.epochs), "epochs of each student",
                         range="in [1, 100000]")
    overwrite: bool = option(False, "delete an earlier demo of other settings in the same folder")

    @property
    def common(self) -> Values:
        """What every stage and the teachers take."""
        return {"min_scale_crops": self.min_scale_crops, "overwrite": self.overwrite}


class Timer:
    """Seconds of each step, kept on disk so that a rerun, which skips finished work, still reports them."""

    def __init__(self, path: Path):
        self.path, self.seconds = path, read_record(path, dict[str, float]) if path.is_file() else {}

    def run(self, name: str, main, **settings):
        """Calls a stage's main hushed, says one line, and returns its result."""
        started = time.perf_counter()
        with hushed():
            result = main(to_words(settings))
        if name not in self.seconds:
            self.seconds[name] = round(time.perf_counter() - started, 2)
            write_json(self.path, self.seconds)
        say(f"{name:<48} {self.seconds[name]:6.1f} s")
        return result


def teacher_settings(config: DemoConfig, *, folder: Path, names: tuple[str, ...], seed: int) -> Values:
    """Settings of networks trained on the digits' training split."""
    return {"dataset": "digits", "output_dir": folder, "models": names, "seed": seed, **RECIPE.teachers,
            **config.common, "epochs": config.teacher_epochs}


def recover_settings(name: str, config: DemoConfig, *, draw: int, teachers: Path) -> Values:
    """Settings of one image set of a draw: a method's, or a control's."""
    if name in COMPARED:
        own = {"teachers": COMPARED[name].recover["teachers"], "init": "noise",
               "iteration": config.iterations, "ipc_end": config.ipc, "slices_per_batch": config.ipc}
    else:
        ipc_end = config.ipc if name == "random real images" else 137  # images of the largest class
        own = {"teachers": "single", "init": CONTROLS[name], "iteration": 0, "ipc_end": ipc_end,
               "allow_short_classes": True}
    return {"dataset": "digits", "arch_name": PRIMARY, "syn_data_path": Path(config.out, f"draw{draw}"),
            "exp_name": name.replace(" ", "_"), "pool": TEACHERS, "weights_dir": teachers, "lr": config.lr,
            "r_bn": config.r_bn, "iteration_step": 0, "log_every": 50, "seed": draw, **own, **config.common}


def views_settings(config: DemoConfig) -> Values:
    """Settings of every student's views: two batches of 50 an epoch at IPC 10, whatever the set."""
    batch = PUBLISHED.label_batch(10, 10)
    return {"epochs": config.epochs, "batch_size": batch, "steps_per_epoch": -(-config.ipc * 10 // batch),
            **config.common}


def relabel_settings(run: Path, config: DemoConfig, *, draw: int, teachers: Path) -> Values:
    """Settings of one set's labels."""
    return {"data": run, "arch_name": PRIMARY, "pool": [name for name in TEACHERS if name != "narrow_plain"],
            "weights_dir": teachers, "seed": draw, **views_settings(config)}


def validate_settings(run: Path, config: DemoConfig, *, draw: int, labels: Path | None) -> Values:
    """Settings of one set's student, with soft labels or hard ones."""
    own = {"fkd_path": labels, "output_dir": run / "soft", "overwrite": config.overwrite} if labels else {
        "loss_type": "ce", "output_dir": run / "hard", **views_settings(config)}
    return {"train_dir": run, "model": PRIMARY, "seeds": draw, "gradient_accumulation_steps": 1, **own}


def check_settings(config: DemoConfig) -> None:
    """Raises ValueError, before anything is written, where a stage would refuse what this demo asks of it."""
    folder = Path(config.out)
    asked = [(train_teachers.TeacherConfig, train_teachers.presets, teacher_settings(
        config, folder=folder, names=TEACHERS, seed=0))]
    for name in (*COMPARED, *CONTROLS):
        asked.append((data_synthesis.RecoverConfig, data_synthesis.presets, recover_settings(
            name, config, draw=0, teachers=folder)))
    asked.append((generate_soft_label.RelabelConfig, generate_soft_label.presets, relabel_settings(
        folder, config, draw=0, teachers=folder)))
    for labels in (folder, None):
        asked.append((train_FKD.ValidateConfig, train_FKD.presets, validate_settings(
            folder, config, draw=0, labels=labels)))
    for cls, presets, settings in asked:
        parse_config(cls, to_words(settings), presets=presets)


def measure_set(name: str, run: Path, config: DemoConfig, timer: Timer, *, draw: int, teachers: Path) -> dict:
    """Labels, students and similarity of one set.  Returns: column -> value, in percent for accuracies."""
    what = f"draw {draw}: {{}}, {name}"
    labels = timer.run(what.format("relabel"), generate_soft_label.main,
                       **relabel_settings(run, config, draw=draw, teachers=teachers))
    soft, hard = (timer.run(what.format(f"validate, {kind} labels"), train_FKD.main,
                            **validate_settings(run, config, draw=draw, labels=own))
                  for kind, own in (("soft", labels), ("hard", None)))
    with hushed():
        cosine = diversity.main(["--data", str(run), "--arch-name", STRANGER,
                                 "--weights-dir", str(Path(config.out, "stranger"))])
    return {"soft": 100 * soft["last_top1"]["mean"], "hard": 100 * hard["last_top1"]["mean"],
            "cosine": cosine["mean"]}


def stage_seconds(timer: Timer, name: str) -> dict[str, float]:
    """Mean seconds of each stage for one set, over the draws (validate: its two students)."""
    own = {step: s for step, s in timer.seconds.items() if step.endswith(f", {name}")}
    draws = sum(": recover" in step for step in own)
    return {stage: round(sum(s for step, s in own.items() if f": {stage}" in step) / draws, 1)
            for stage in STAGES}


def summarize(rows: list[dict], timer: Timer) -> dict:
    """Mean and std (n - 1) of every column by set, and the paired difference PRISM - SRe2L with its s.e."""
    table = {name: {**{c: spread([row[name][c] for row in rows]) for c in COLUMNS},
                    "seconds": stage_seconds(timer, name)} for name in (*COMPARED, *CONTROLS)}
    paired = {}
    for column in COLUMNS:
        differences = [row["PRISM"][column] - row["SRe2L"][column] for row in rows]
        mean, std = spread(differences)
        paired[column] = {"mean": mean, "standard_error": std and std / len(rows) ** 0.5, "each": differences}
    return {"sets": table, "paired PRISM - SRe2L": paired, "n": len(rows), "draws": rows}


def spread(values: list[float]) -> tuple[float, float | None]:
    """Mean and standard deviation with n - 1; None for a single value, of whose spread nothing is known."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def markdown(summary: dict, config: DemoConfig) -> str:
    """The table as Markdown, with what it means in words."""
    draws = "one draw" if summary["n"] == 1 else f"n = {summary['n']} draws"
    lines = [f"| {config.ipc} images a class, {draws} | {' | '.join(COLUMNS.values())} "
             f"| seconds: {', '.join(STAGES)} |", "|---" * 5 + "|"]
    for name, row in summary["sets"].items():
        cells = [f"{row[c][0]:.{d}f}" + (f" +- {row[c][1]:.{d}f}" if summary["n"] > 1 else "")
                 for c, d in zip(COLUMNS, (1, 1, 3), strict=True)]
        seconds = ", ".join(str(row["seconds"][stage]) for stage in STAGES)
        lines.append(f"| {name} | {' | '.join(cells)} | {seconds} |")
    paired = summary["paired PRISM - SRe2L"]
    cells = [f"{paired[c]['mean']:+.{d}f}"
             + (f" (s.e. {paired[c]['standard_error']:.{d}f})" if summary["n"] > 1 else "")
             for c, d in zip(COLUMNS, (1, 1, 3), strict=True)]
    lines.append(f"| PRISM - SRe2L, paired | {' | '.join(cells)} | |")
    return "\n".join([*lines, "", *in_words(summary)])


def in_words(summary: dict) -> list[str]:
    """What the numbers say and do not say, sentence by sentence from the numbers themselves."""
    sets, paired, n = summary["sets"], summary["paired PRISM - SRe2L"], summary["n"]
    fewer = sum(d < 0 for d in paired["cosine"]["each"])
    lines = [f"- Diversity: PRISM's images are less alike within a class than SRe2L's in {fewer} of {n} "
             f"draws (lower cosine is more diverse; {STRANGER} measures, which taught nobody)."]
    mean, error = paired["soft"]["mean"], paired["soft"]["standard_error"]
    verdict = "one draw says nothing of the spread" if n == 1 else \
        f"more than two standard errors ({error:.1f})" if abs(mean) > 2 * error else \
        f"within two standard errors ({error:.1f}): {n} draws do not decide it"
    lines.append(f"- Accuracy with soft labels: PRISM - SRe2L is {mean:+.1f} points, {verdict}.")
    real, best = sets["random real images"]["soft"][0], max(sets[m]["soft"][0] for m in COMPARED)
    verdict = "beat every distilled set" if real > best else "do not beat the best distilled set"
    lines.append(f"- Random real images with the same soft labels {verdict} here: {real:.1f} to {best:.1f}. "
                 f"Digits are easy; distillation is for data where ten images a class say little.")
    lines.append("- +- is the standard deviation over draws of everything (n - 1). The test set is 450 "
                 "digits, so one image is 0.2 points.")
    return lines


def picture(config: DemoConfig, *, side: int = 50, gap: int = 12) -> Image.Image:
    """Both methods' images of draw 0 side by side, a row a class, a column an IPC index (as figure 5)."""
    shown, top = min(config.ipc, 10), 22
    width = shown * side
    canvas = Image.new("RGB", (2 * width + 3 * gap, 10 * side + top + gap), "white")
    pen = ImageDraw.Draw(canvas)
    for left, name in zip((gap, width + 2 * gap), COMPARED, strict=True):
        pen.text((left, 6), f"{name}: a row a class, {shown} images each, from the same noise", fill="black")
        for k in range(10):
            for i in range(shown):
                path = Path(config.out, "draw0", name, "syn", str(k), f"{k}_ipc{i:04d}.png")
                tile = Image.open(path).resize((side - 2, side - 2), Image.NEAREST)
                canvas.paste(tile, (left + i * side, top + k * side))
    return canvas


def write_report(config: DemoConfig) -> str:
    """The path of the report on this demo's draws, or why there is none."""
    draws = [str(Path(config.out, f"draw{draw}")) for draw in range(config.draws)]
    try:
        return str(report.write(draws, Path(config.out, "report.html")))
    except ValueError as error:  # no jinja2
        return f"none: {error}"


def main(argv=None) -> dict:
    """Runs the demo; returns its summary, as written to results.json."""
    config = parse_config(DemoConfig, argv, description=__doc__)
    check_settings(config)
    out, started = Path(config.out), time.perf_counter()
    made_of = {name: value for name, value in flatten(config).items()
               if name not in ("out", "draws", "overwrite")}
    timer = Timer(out / f"seconds_{sha256_json(made_of)[:8]}.json")  # other settings take other times
    choose_device("auto")  # says that it is the CPU, if it is
    say(f"{config.draws} draws of teachers, images, labels and students on handwritten digits; about "
        f"{80 * config.draws / 60:.0f} minutes on 2 cores; finished steps are skipped on a rerun")
    timer.run("network that measures", train_teachers.main, **teacher_settings(
        config, folder=out / "stranger", names=(STRANGER,), seed=1000))
    rows = []
    for draw in range(config.draws):
        teachers = out / f"draw{draw}" / "teachers"
        timer.run(f"draw {draw}: teachers", train_teachers.main, **teacher_settings(
            config, folder=teachers, names=TEACHERS, seed=draw))
        rows.append({})
        for name in (*COMPARED, *CONTROLS):
            run = timer.run(f"draw {draw}: recover, {name}", data_synthesis.main, **recover_settings(
                name, config, draw=draw, teachers=teachers))
            rows[-1][name] = measure_set(name, run, config, timer, draw=draw, teachers=teachers)
    summary = {**summarize(rows, timer), "versions": versions()}
    text = markdown(summary, config)
    write_json(out / "results.json", summary)
    write_atomically(out / "results.md", lambda file: file.write((text + "\n").encode()))
    write_atomically(out / "images.png", lambda file: picture(config).save(file, "PNG"))
    print(f"\n{text}\n\nTable    {out / 'results.md'}, {out / 'results.json'}\n"
          f"Picture  {out / 'images.png'}\nRuns     {out}/draw*/ (images, labels, students, logs)\n"
          f"Report   {write_report(config)}\nTime     {time.perf_counter() - started:.0f} s")
    return summary


if __name__ == "__main__":
    command_line(main)
