"""Tables of results beside the paper's figures: Markdown, CSV and LaTeX.

Accuracies are of the last epoch, in percent; the best epoch stands beside, never instead.
"""
import csv
import io

from utils.metrics import mean_and_std
from validate.results import figure, read_results

COLUMNS = ("row", "IPC", "student", "protocol", "top-1", "n", "best epoch", "paper", "difference")


def table_row(entry: dict, *, comparable: bool) -> dict[str, str]:
    """One row, column -> text.

    Args: entry: key, label, ipc, model, protocol, paper, paper_std, wanted, folders;
          comparable: whether the paper's figure is of this data set, and a difference means something.
    """
    results = [result for folder in entry["folders"] for result in read_results(folder)]
    row = {"row": f"{entry['key']}: {entry['label']}", "IPC": str(entry["ipc"]), "student": entry["model"],
           "protocol": entry["protocol"], "top-1": "-", "n": f"0 of {entry['wanted']}, not run",
           "best epoch": "-", "paper": figure(entry["paper"], entry["paper_std"]), "difference": "-"}
    if not results:
        return row
    (last, spread), (best, _) = (mean_and_std(100 * result[epoch]["top1"] for result in results)
                                 for epoch in ("last", "best"))
    complete = len(results) >= entry["wanted"]
    row |= {"top-1": figure(last, spread if len(results) > 1 else None), "best epoch": figure(best),
            "n": str(len(results)) if complete else f"{len(results)} of {entry['wanted']}, incomplete"}
    if comparable and entry["paper"] is not None:
        row["difference"] = f"{last - entry['paper']:+.1f}"
    return row


def tables_of(entries: list[dict], *, dataset: str) -> dict[str, str]:
    """One table as Markdown, CSV and LaTeX: ending -> text.   Args: entries: as `table_row` takes them."""
    comparable = dataset == "imagenet-1k"
    rows = [table_row(entry, comparable=comparable) for entry in entries]
    heads = [name if name != "paper" or comparable else "paper, on ImageNet-1K" for name in COLUMNS]
    note = (f"Data set: {dataset}. Top-1 in percent at the last epoch, mean +- standard deviation (n - 1) "
            f"over n students (seeds, and draws of images and labels).")
    if not comparable:
        note += " The paper's figures are of ImageNet-1K: no difference to them is taken."
    markdown = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"] + [
        "| " + " | ".join(row[name] for name in COLUMNS) + " |" for row in rows]
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerows([heads, *([row[name] for name in COLUMNS] for row in rows)])
    latex = [r"\begin{tabular}{" + "l" * len(heads) + "}", " & ".join(map(_tex, heads)) + r" \\ \hline"] + [
        " & ".join(_tex(row[name]) for name in COLUMNS) + r" \\" for row in rows] + [r"\end{tabular}"]
    return {"md": f"{note}\n\n" + "\n".join(markdown) + "\n", "csv": lines.getvalue(),
            "tex": f"% {note}\n" + "\n".join(latex) + "\n"}


TEX = str.maketrans({"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
                     "<": "$<$", ">": "$>$", **{sign: f"\\{sign}" for sign in "&%$#_{}"}})


def _tex(text: str) -> str:
    return text.translate(TEX).replace("+-", r"$\pm$")
