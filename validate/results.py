"""What validate reports: results of several seeds as mean and spread."""
from utils.metrics import mean_and_std


def summarize(results: list[dict]) -> dict:
    """Mean and standard deviation (n - 1) of the last and best epochs' accuracies over the seeds."""
    rows = {}
    for epoch in ("last", "best"):
        for metric in ("top1", "top5"):
            mean, std = mean_and_std(result[epoch][metric] for result in results)
            rows[f"{epoch}_{metric}"] = {"mean": mean, "std": std}
    return {**rows, "n": len(results), "seeds": [result["seed"] for result in results], "results": results}
