"""What validate reports: mean and spread over seeds, two runs' difference.

    python -m validate.results A B                  two folders of students (--output-dir)
    python -m validate.results A0,A1,A2 B0,B1,B2    several draws a side: folders paired in order

What is paired, and so what an interval is over:
- students on the same images: by seed; the interval says nothing of other images;
- draws (each with images of its own; recover --seed is equal in Ai and Bi): one difference a draw, of the
  means over the seeds that Ai and Bi share, and Student's t over the draws;
- students on different images, one set a side: nothing.  The images' spread is not measured.
Accuracies are of the last epoch, in percent; the best epoch stands beside, never instead.
"""
import json
import math
import sys
from pathlib import Path

from utils.files import is_whole, read_lines, write_bytes, write_json
from utils.folders import CLAIM, lock
from utils.methods import METHODS
from utils.metrics import Paired, mean_and_std, paired
from utils.pieces import Values, require, restated
from utils.records import Recipe, Result, find_record, read_record
from utils.runtime import command_line, say


def read_results(folder: Path) -> list[Result]:
    """The finished seeds of a folder of students, by seed."""
    return sorted((read_record(path, Result) for path in folder.glob("seed*/result.json")),
                  key=lambda result: result["seed"])


def is_finished(folder: Path) -> bool:
    """Whether the student of one seed is there, its result and the files that it names."""
    result = find_record(folder / "result.json", Result)
    return result is not None and all(is_whole(folder / name, expected)
                                      for name, expected in result.get("files", {}).items())


def summarize(results: list[Result]) -> Values:
    """Mean and standard deviation (n - 1) of the last and best epochs' accuracies over the seeds."""
    rows = {}
    for epoch in ("last", "best"):
        for metric in ("top1", "top5"):
            mean, std = mean_and_std(result[epoch][metric] for result in results)
            rows[f"{epoch}_{metric}"] = {"mean": mean, "std": std}
    return {**rows, "n": len(results), "seeds": [result["seed"] for result in results], "results": results}


def report(folder: Path) -> Values:
    """Summarizes all finished seeds of a folder, writes results.json and says the accuracy."""
    with lock(folder / CLAIM, wait=True):  # others may finish now
        summary = summarize(read_results(folder))
        write_json(folder / "results.json", summary)
    top1, n = summary["last_top1"], summary["n"]
    spread = f" +- {top1['std']:.2%}" if n > 1 else ""
    say(f"{folder}: top-1 {top1['mean']:.2%}{spread} at the last epoch (n = {n} student seeds), "
        f"best epoch {summary['best_top1']['mean']:.2%}")
    for line in readings(summary["results"]):
        say(line)
    return summary


def readings(results: list[Result]) -> list[str]:
    """What the sources of the results' protocols do not say, as we read it."""
    made = [record for result in results for record in (
        result["protocol"], result.get("labels_protocol"), result.get("images_protocol")) if record]
    names = dict.fromkeys(record["name"] for record in made if record["name"] in METHODS)
    return [f"protocol {name}, our reading: {METHODS[name].reading}" for name in names
            if METHODS[name].reading]


def figure(mean: float | None, std: float | None = None) -> str:
    """A figure in percent with its spread; a dash where there is none."""
    return "-" if mean is None else f"{mean:.1f}" + ("" if std is None else f" +- {std:.1f}")


def record(folder: Path, row: Values) -> None:
    """Puts one student's row, with its times, into results.jsonl, in place of an earlier one of its seed."""
    path = folder / "results.jsonl"
    with lock(folder / CLAIM, wait=True):  # other processes have seeds of their own
        others = [other for other in read_lines(path) if other.get("seed") != row["seed"]] \
            if path.is_file() else []
        write_bytes(path, "".join(f"{json.dumps(own)}\n" for own in [*others, row]).encode())


def paired_difference(a: list[Result], b: list[Result]) -> Paired:
    """B - A over their common seeds, in points.

    Raises: ValueError with fewer than two common seeds, of whose spread nothing is known.
    """
    mine, theirs = ({r["seed"]: 100 * r["last"]["top1"] for r in results} for results in (a, b))
    seeds = sorted(mine.keys() & theirs.keys())
    require(len(seeds) > 1, f"the runs share {len(seeds)} finished seeds ({sorted(mine)} and "
            f"{sorted(theirs)}); a difference needs two or more: run validate with the same --seeds 0 1 2")
    return paired([theirs[seed] - mine[seed] for seed in seeds])


def config_differences(a: Result, b: Result) -> list[str]:
    """In what two results' settings differ, of all three stages: "name: value in A -> value in B"."""
    from validate.train_FKD import ValidateConfig  # which reports by this module
    left: Values = dict(a)
    right: Values = dict(b)
    rows = _differences(restated(ValidateConfig, a["config"]), restated(ValidateConfig, b["config"]))
    for stage, made in (("recover", "images"), ("relabel", "labels")):
        mine, theirs = (result.get(f"{made}_config") for result in (left, right))
        others = left.get(made) != right.get(made)
        if mine and theirs:
            rows += _differences(mine, theirs, f"{stage} ")
        elif others and left.get(made) and right.get(made):
            rows.append(f"{stage}: not recorded")
        weights, others_weights = (result.get(f"{made}_teachers") or {} for result in (left, right))
        if any(weights[name] != others_weights[name] for name in weights.keys() & others_weights.keys()):
            rows.append(f"{stage} teachers' weights: others")
        rows += [f"{made}: others"] * others
    return rows


def _differences(mine: Values, theirs: Values, prefix: str = "") -> list[str]:
    return [f"{prefix}{name}: {mine.get(name)} -> {theirs.get(name)}"
            for name in sorted(mine.keys() | theirs.keys()) if mine.get(name) != theirs.get(name)]


def describe_students(result: Result) -> str:
    """Whose recipe made a student, its labels and its images, and what was changed of each."""
    def recipe(record: Recipe) -> str:
        return record["name"] + (f" (changed: {', '.join(record['changed'])})" if record["changed"] else "")
    parts = [f"protocol {recipe(result['protocol'])}"]
    made, labels = result.get("images_protocol"), result.get("labels_protocol")
    if layout := result.get("images_layout"):
        parts.append(f"images of others (layout {layout})")
    elif config := result.get("images_config"):
        optimised = config["iteration"] or config["iteration_step"]
        start = "real images" if config["init"] in ("real", "random") else "starting images"
        parts.append(f"{start} (recover --iteration 0 --init {config['init']})" if not optimised else
                     f"images {recipe(made)}" if made else
                     "images of an unrecorded protocol")
    if labels:
        parts.append(f"labels {recipe(labels)}")
    return "; ".join(parts)


# ---------------------------------------------------------------- two runs

Students = list[Result]


def _read(word: str) -> tuple[list[str], list[Students]]:
    """The folders that a word lists, and the students of each."""
    folders = word.split(",") if not Path(word).exists() else [word]
    runs = [read_results(Path(folder)) for folder in folders]
    for folder, students in zip(folders, runs, strict=True):
        require(students, f"{folder}: no finished students there (seed*/result.json); run validate first")
    require(len(set(folders)) == len(folders), f"{word}: a folder is listed twice")
    return folders, runs


def _mean_and_std(students: Students) -> tuple[float, float]:
    return mean_and_std(100 * result["last"]["top1"] for result in students)


def _verdict(found: Paired, over: str, of: str) -> str:
    low, high = found.interval
    decided = f"decided {of}" if low > 0 or high < 0 else "not decided: the interval holds 0"
    return (f"B - A  {found.mean:+.2f} points, standard error {found.standard_error:.2f}, 95 % interval "
            f"{low:+.2f} to {high:+.2f} over {found.n} {over}: {decided}")


def compare_students(a: Students, b: Students) -> tuple[Paired | None, list[str]]:
    """Two folders: the difference paired by seed (None on different images), and what can be said of it."""
    more = "draws measure it: python -m validate.results A0,A1,A2 B0,B1,B2"
    if a[0].get("images") == b[0].get("images"):
        found = paired_difference(a, b)
        return found, [_verdict(found, "common seeds", "for these images: students' seeds alone"),
                       f"The spread over image sets is not in this interval ({more})."]
    (mine, spread), (theirs, others) = map(_mean_and_std, (a, b))
    alone = f", standard error {math.hypot(spread / len(a) ** 0.5, others / len(b) ** 0.5):.2f} by the " \
            f"students' seeds alone" if min(len(a), len(b)) > 1 else ""
    return None, [f"B - A  {theirs - mine:+.2f} points{alone}: nothing is decided, the image sets' spread is "
                  f"not measured: n = 1 image set a side ({more})"]


def draw_differences(a: list[Students], b: list[Students]) -> list[float]:
    """B - A of every draw, of the means over common seeds, in points.

    Raises: ValueError where the lists do not pair draws.
    """
    require(len(a) == len(b), f"A lists {len(a)} folders and B {len(b)}: expected one of each a draw, in "
            f"order")
    each = []
    for number, (mine, theirs) in enumerate(zip(a, b, strict=True)):
        drawn = [side[0].get("images_config", {}).get("seed") for side in (mine, theirs)]
        require(None in drawn or drawn[0] == drawn[1], f"draw {number} pairs images of recover --seed "
                f"{drawn[0]} and {drawn[1]}: list the folders of both sides in the same order")
        top1 = [{r["seed"]: 100 * r["last"]["top1"] for r in side} for side in (mine, theirs)]
        seeds = top1[0].keys() & top1[1].keys()
        require(seeds, f"draw {number}: the runs share no finished seed ({sorted(top1[0])} and "
                f"{sorted(top1[1])})")
        each.append(mean_and_std(top1[1][seed] - top1[0][seed] for seed in seeds)[0])
    return each


def compare_draws(a: list[Students], b: list[Students]) -> tuple[Paired, list[str]]:
    """Several folders a side, paired in order: the difference over draws, and what can be said of it."""
    found, says = paired(draw_differences(a, b)), []
    images = [[students[0].get("images") for students in side] for side in (a, b)]
    varied = [len(set(digests)) == len(digests) for digests in images]
    require(any(varied), "the folders of a side hold students on the same images, which are no draws: "
            "compare two folders, or give every draw images of its own (recover --seed)")
    says += [f"{name}'s folders hold the same images: over its images nothing is varied"
             for name, varies in zip("AB", varied, strict=True) if not varies]
    drawn = ("images: others", "labels: others", "seed: ", "teachers' weights: others")
    for name, side in zip("AB", (a, b), strict=True):
        within = {row for students in side[1:] for row in config_differences(side[0][0], students[0])
                  if not any(text in row for text in drawn)}
        says += [f"{name}'s draws differ in more than the draw: {'; '.join(sorted(within))}"] * bool(within)
    each = ", ".join(f"{difference:+.2f}" for difference in found.each)
    return found, [_verdict(found, f"draws ({each})", "over draws of the images"), *says]


def main(argv: list[str] | None = None) -> Paired | None:
    """Prints two runs' difference, and in what they differ; returns it where anything is paired."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in ("-h", "--help"):
        print(__doc__)
        return None
    require(len(words) == 2, f"expected two folders of students, got {len(words)}: "
            f"python -m validate.results A B, or A0,A1,A2 B0,B1,B2 for several draws")
    sides = [_read(word) for word in words]
    (_, a), (_, b) = sides
    found: Paired | None
    if len(a) == len(b) == 1:
        found, says = compare_students(a[0], b[0])
    else:
        found, says = compare_draws(a, b)
    for name, (folders, runs) in zip("AB", sides, strict=True):
        of_draws = mean_and_std(_mean_and_std(students)[0] for students in runs)
        several = len(runs) > 1
        mean, std = of_draws if several else _mean_and_std(runs[0])
        number = len(runs) if several else len(runs[0])
        print(f"{name}  {figure(mean, std if number > 1 else None)}  (n = {number}{' draws' * several})  "
              f"{', '.join(folders)}, {describe_students(runs[0][0])}")
    difference, *more = says
    print(difference)
    print("they differ in  " + ("; ".join(config_differences(a[0][0], b[0][0])) or "nothing recorded"))
    print(*more, sep="\n", end="\n" if more else "")
    return found


if __name__ == "__main__":
    command_line(main)
