"""What validate reports: results of several seeds as mean and spread."""
from pathlib import Path

from utils.files import read_json, write_json
from utils.metrics import mean_and_std
from utils.runtime import say


def summarize(results: list[dict]) -> dict:
    """Mean and standard deviation (n - 1) of the last and best epochs' accuracies over the seeds."""
    rows = {}
    for epoch in ("last", "best"):
        for metric in ("top1", "top5"):
            mean, std = mean_and_std(result[epoch][metric] for result in results)
            rows[f"{epoch}_{metric}"] = {"mean": mean, "std": std}
    return {**rows, "n": len(results), "seeds": [result["seed"] for result in results], "results": results}


def report(folder: Path) -> dict:
    """Summarizes all finished seeds of a folder, writes results.json and says the accuracy."""
    results = [read_json(path) for path in folder.glob("seed*/result.json")]
    summary = summarize(sorted(results, key=lambda result: result["seed"]))
    write_json(folder / "results.json", summary)
    top1, n = summary["last_top1"], summary["n"]
    spread = f" +- {top1['std']:.2%}" if n > 1 else ""
    say(f"{folder}: top-1 {top1['mean']:.2%}{spread} at the last epoch (n = {n} student seeds), "
        f"best epoch {summary['best_top1']['mean']:.2%}")
    return summary
