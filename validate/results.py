"""What validate reports: mean and spread over seeds, two runs' difference.

    python -m validate.results A B        A, B: folders of students (--output-dir), compared seed by seed

Accuracies are of the last epoch, in percent; the best epoch stands beside, never instead.
"""
import json
import sys
from pathlib import Path

from utils.files import is_whole, read_lines, write_bytes, write_json
from utils.metrics import Paired, mean_and_std, paired
from utils.pieces import Values, require, restated
from utils.records import Result, find_record, read_record
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
    """Summarizes all finished seeds of a folder, writes results.json and results.jsonl, says the accuracy."""
    found = read_results(folder)
    summary = summarize(found)
    write_json(folder / "results.json", summary)
    lines = ({**result, **last_row(folder / f"seed{result['seed']}" / "log.jsonl")} for result in found)
    write_bytes(folder / "results.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines).encode())
    top1, n = summary["last_top1"], summary["n"]
    spread = f" +- {top1['std']:.2%}" if n > 1 else ""
    say(f"{folder}: top-1 {top1['mean']:.2%}{spread} at the last epoch (n = {n} student seeds), "
        f"best epoch {summary['best_top1']['mean']:.2%}")
    return summary


def figure(mean: float | None, std: float | None = None) -> str:
    """A figure in percent with its spread; a dash where there is none."""
    return "-" if mean is None else f"{mean:.1f}" + ("" if std is None else f" +- {std:.1f}")


def last_row(log: Path) -> Values:
    """The row with which a student's log ends: its seconds, memory and device."""
    rows = [row for row in read_lines(log) if "wall_s" in row] if log.is_file() else []
    return {name: value for row in rows[-1:] for name, value in row.items() if name != "elapsed_s"}


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
    """In what two results' settings differ: "name: value in A -> value in B"."""
    from validate.train_FKD import ValidateConfig  # which reports by this module
    mine, theirs = (restated(ValidateConfig, result["config"]) for result in (a, b))
    rows = [f"{name}: {mine.get(name)} -> {theirs.get(name)}" for name in sorted(mine.keys() | theirs.keys())
            if mine.get(name) != theirs.get(name)]
    return rows + [f"{name}: others" for name in ("images", "labels") if a.get(name) != b.get(name)]


def main(argv: list[str] | None = None) -> Paired | None:
    """Prints the paired difference of two runs, and in what they differ."""
    folders = sys.argv[1:] if argv is None else argv
    if folders and folders[0] in ("-h", "--help"):
        print(__doc__)
        return None
    require(len(folders) == 2,
            f"expected two folders of students, got {len(folders)}: python -m validate.results A B")
    runs = [read_results(Path(folder)) for folder in folders]
    for folder, results in zip(folders, runs, strict=True):
        require(results, f"{folder}: no finished students there (seed*/result.json); run validate first")
    found = paired_difference(*runs)
    for name, folder, results in zip("AB", folders, runs, strict=True):
        mean, std = mean_and_std(100 * result["last"]["top1"] for result in results)
        print(f"{name}  {figure(mean, std)}  (n = {len(results)})  {folder}, protocol "
              f"{results[0]['protocol']['name']}")
    low, high = found.interval
    verdict = "decided" if low > 0 or high < 0 else "not decided: the interval holds 0"
    print(f"B - A  {found.mean:+.2f} points, standard error {found.standard_error:.2f}, 95 % interval "
          f"{low:+.2f} to {high:+.2f} over {found.n} common seeds: {verdict}")
    print("they differ in  " + ("; ".join(config_differences(runs[0][0], runs[1][0])) or "nothing recorded"))
    print("Seeds are students on given images and labels: the spread over image sets is not in this interval "
          "(scripts/reproduce.sh --draws redraws them).")
    return found


if __name__ == "__main__":
    command_line(main)
