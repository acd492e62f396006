"""Tables of results beside the paper's figures: Markdown, CSV and LaTeX.

Accuracies are of the last epoch, in percent; the best epoch stands beside, never instead.
"""
import csv
import io
import json
from pathlib import Path

from utils.metrics import mean_and_std
from validate.results import figure, read_results

COLUMNS = ("row", "IPC", "student", "protocol", "top-1", "n", "best epoch", "paper", "difference")
MEMORY = ("recover [GB]", "paper [GB]")  # table 2's, peak GPU memory


def peak_memory(runs: list[Path]) -> float | None:
    """The most GPU memory [GB] that a finished unit of these runs of recover logged; None on a CPU."""
    lines = [line for run in runs for path in sorted(run.glob("log*.jsonl"))
             for line in path.read_text(encoding="utf-8").splitlines()
             if '"peak_memory_gb"' in line and line.endswith("}")]  # a killed process may leave half a line
    return max((json.loads(line)["peak_memory_gb"] or 0.0 for line in lines), default=0.0) or None


def table_row(entry: dict, *, comparable: bool) -> dict[str, str]:
    """One row, column -> text.

    Args: entry: key, label, ipc, model, protocol, paper, paper_std, wanted, folders; where they are not as
          usual: other, in what the paper's figure is of something else (another IPC); vram_gb, the paper's
          memory of recover, and runs, whose own is shown beside it;
          comparable: whether the paper's figure is of this data set, and a difference means something.
    """
    other = entry.get("other", "") if comparable else ""
    results = [result for folder in entry["folders"] for result in read_results(folder)]
    row = {"row": f"{entry['key']}: {entry['label']}", "IPC": str(entry["ipc"]), "student": entry["model"],
           "protocol": entry["protocol"], "top-1": "-", "n": f"0 of {entry['wanted']}, not run",
           "best epoch": "-", "paper": figure(entry["paper"], entry["paper_std"]), "difference": "-"}
    if other and entry["paper"] is not None:
        row["paper"] += f" ({other})"
    if entry.get("vram_gb"):
        row |= zip(MEMORY, (figure(peak_memory(entry["runs"])), figure(entry["vram_gb"])), strict=True)
    if not results:
        return row
    (last, spread), (best, _) = (mean_and_std(100 * result[epoch]["top1"] for result in results)
                                 for epoch in ("last", "best"))
    complete = len(results) >= entry["wanted"]
    row |= {"top-1": figure(last, spread if len(results) > 1 else None), "best epoch": figure(best),
            "n": str(len(results)) if complete else f"{len(results)} of {entry['wanted']}, incomplete"}
    if comparable and not other and entry["paper"] is not None:
        row["difference"] = f"{last - entry['paper']:+.1f}"
    return row


def tables_of(entries: list[dict], *, dataset: str) -> dict[str, str]:
    """One table as Markdown, CSV and LaTeX: ending -> text.   Args: entries: as `table_row` takes them."""
    comparable = dataset == "imagenet-1k"
    rows = [table_row(entry, comparable=comparable) for entry in entries]
    columns = (*COLUMNS, *MEMORY) if any(MEMORY[0] in row for row in rows) else COLUMNS
    heads = [name if name != "paper" or comparable else "paper, on ImageNet-1K" for name in columns]
    note = (f"Data set: {dataset}. Top-1 in percent at the last epoch, mean +- standard deviation (n - 1) "
            f"over n students (seeds, and draws of images and labels).")
    if not comparable:
        note += " The paper's figures are of ImageNet-1K: no difference to them is taken."
    elif any(entry.get("other") for entry in entries):
        note += " To a figure of another IPC or origin no difference is taken."
    cells = [heads, *([row.get(name, "-") for name in columns] for row in rows)]
    return {"md": f"{note}\n\n{markdown(cells)}", "csv": comma_separated(cells),
            "tex": f"% {note}\n{latex(cells)}"}


def markdown(rows: list[list[str]]) -> str:
    """A Markdown table.   Args: rows: texts, the heads first."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"


def comma_separated(rows: list[list[str]]) -> str:
    """A CSV table.   Args: as `markdown`."""
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows(rows)
    return lines.getvalue()


def latex(rows: list[list[str]]) -> str:
    """A LaTeX tabular, its texts escaped.   Args: as `markdown`."""
    lines = [" & ".join(map(_tex, row)) + r" \\" for row in rows]
    return "\n".join([r"\begin{tabular}{" + "l" * len(rows[0]) + "}", lines[0] + r" \hline", *lines[1:],
                      r"\end{tabular}"]) + "\n"


TEX = str.maketrans({"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
                     "<": "$<$", ">": "$>$", **{sign: f"\\{sign}" for sign in "&%$#_{}"}})


def _tex(text: str) -> str:
    return text.translate(TEX).replace("+-", r"$\pm$")
