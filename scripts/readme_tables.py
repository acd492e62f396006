"""Writes the READMEs' tables from what they are about: configs, benchmark results, counted costs.

    python -m scripts.readme_tables            rewrites the tables;  --check fails if one is stale
"""
import functools
import json
from collections.abc import Callable
from pathlib import Path

from models.train_teachers import TeacherConfig
from recover.data_synthesis import RecoverConfig
from relabel.generate_soft_label import RelabelConfig
from scripts.auditing.summary import summary
from scripts.compare import CompareConfig
from scripts.comparing.deciding import named_pairs
from scripts.comparing.overview import overview
from scripts.comparing.read import read_comparison
from scripts.decide import DecideConfig
from scripts.frontier import FrontierConfig
from scripts.gpu import GpuConfig
from scripts.privacy import PrivacyConfig
from scripts.reproduce import ReproduceConfig
from scripts.reproducing.costs import count_cost
from scripts.reproducing.plans import plan_row, select_rows
from utils.convert_log import ConvertConfig
from utils.data import DATASETS, dataset_spec
from utils.files import readable
from utils.methods import METHODS, STAGES
from utils.parser import flag_table
from utils.runtime import command_line
from validate.diversity import DiversityConfig
from validate.evaluate import EvaluateConfig
from validate.export import ExportConfig
from validate.figures import FiguresConfig
from validate.membership import MembershipConfig
from validate.memorisation import MemorisationConfig
from validate.report import ReportConfig
from validate.train_FKD import ValidateConfig

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"


def _read(name: str) -> list[dict]:
    return [json.loads(line) for line in (RESULTS / name).read_text(encoding="utf-8").splitlines()]


def _range(own: dict) -> str:
    return f"**{own['time_ratio']:.2f}** ({min(own['ratios']):.2f} to {max(own['ratios']):.2f})"


def _over(own: dict) -> str:
    return f"**{own['over_convolutions']:.2f}** ({min(own['over']):.2f} to {max(own['over']):.2f})"


def performance() -> str:
    """What the benchmarks measured, from docs/results/*.jsonl."""
    step, *gradients = _read("recover_step.jsonl")
    compiled, (views, loop) = _read("recover_step_compile.jsonl")[0], _read("augment.jsonl")
    sizes, labels = _read("labels.jsonl")
    size, cost = (rows["int8, a fifth of the epochs"] for rows in (
        sizes["imagenet_ipc10_300_epochs"], labels["digits"]))
    precision = _read("precision.jsonl")[0]
    lower = [precision["digits"][name] for name in ("bf16", "fp16")]
    worst = min(row["float32_cosine"] for row in gradients), max(row["float64_relative"] for row in gradients)
    peak = max(row["peak_over_largest_alone"] for row in gradients)
    heavy = max(_read("memory.jsonl"), key=lambda row: row["plain"]["kept_mb"])
    where = f"{step['threads']} CPU cores, torch {step['torch'].split('+')[0]}"
    published = "the published way"
    eager, warm = (f"recover_step{flag} --rounds {own['rounds']}" for flag, own in (
        ("", step), (" --compile", compiled)))
    rows: list[tuple[str, ...]] = [
        ("a recover step, 4 BN teachers, 224 px, batch 8", published,
         f"time {_range(step['fused'])}, bytes kept **{step['fused']['saved_ratio']:.3f}**", eager),
        ("the same with `--compile`, warm", published,
         f"time {_range(compiled['compiled'])}, bytes kept {compiled['compiled']['saved_ratio']:.3f}",
         warm),
        ("both, over the limit", "the convolutions alone ([what the rest is](docs/results/step.md))",
         f"time {_over(step['fused'])}, compiled {_over(compiled['compiled'])}", eager, warm),
        ("its gradient, 1 to 5 teachers", "the readable reference",
         f"cosine >= {worst[0]:.6f} in float32, relative {worst[1]:.1e} in float64", eager),
        ("its memory, 1 to 5 teachers", "the largest teacher alone", f"**{peak:.3f}**", eager),
        (f"what {heavy['network']} keeps for its backward, with `--recompute`", "without, the same bits",
         f"bytes kept **{heavy['kept_ratio']:.2f}**, peak of its turn {heavy['peak_ratio']:.2f}", "memory"),
        ("views for training, 224 px", "Pillow: one process, two workers",
         f"images a second **{views['resident_over_pillow']:.1f}x**, "
         f"**{views['resident_over_2_workers']:.1f}x**", "augment"),
        (f"an epoch of {loop['model']}", "the same on one constant batch",
         f"time **{loop['views_over_constant_batch']:.2f}**", "augment"),
        ("labels, 1000 classes, `--label-format int8 --label-epochs 60`", "fp16, 300 epochs",
         f"bytes **{size['of_fp16']:.3f}**, top-1 on digits {cost['difference']:+.1f} points (s.e. "
         f"{cost['standard_error']:.1f}, n = {labels['n']} draws)", "labels"),
        ("images recovered in bf16, in fp16", "fp32", " and ".join(
            f"{own['difference']:+.1f} (s.e. {own['standard_error']:.1f})" for own in lower)
         + f" points of top-1 on digits, n = {precision['n']} draws", "precision"),
    ]
    return "\n".join([f"On {where}, no GPU; ratios are medians of rounds interleaved in one process.", "",
                      "| what | against | measured | command |", "|---|---|---|---|",
                      *(f"| {' | '.join(row[:3])} | " + ", ".join(
                          f"`python -m benchmarks.{own}`" for own in row[3:]) + " |" for row in rows)])


def costs(keys: tuple[str, ...]) -> str:
    """What rows of table 1 cost, counted.   Args: keys: beginnings of the rows' keys."""
    lines = ["| row | paper | images | iterations | PFLOPs: recover, relabel, validate | labels | students |",
             "|---|---|---|---|---|---|---|"]
    places = {stage: {} for stage in ("recover", "relabel", "validate")}
    for row in select_rows(["1"]):
        if row.key.startswith(keys):
            plan = plan_row(row, dataset=ReproduceConfig.dataset, origin="chain", out=Path("out"),
                            places=places)
            cost = count_cost(plan, ReproduceConfig.dataset)
            flops = ", ".join(f"{f / 1e15:.0f}" for f in (cost.recover_flops, cost.relabel_flops,
                                                          cost.validate_flops))
            lines.append(f"| `{row.key}` | {row.paper} +- {row.std} | {cost.images} | {cost.iterations} "
                         f"| {flops} | {readable(cost.label_bytes)} | {readable(cost.student_bytes)} |")
    return "\n".join(lines)


def photographs(names: str, *pairs: str, ipc: int = 10) -> str:
    """What comparisons on CIFAR-10 measured, from docs/results/cifar10.   Args: pairs: A:B, differences."""
    compared = read_comparison([str(RESULTS / "cifar10" / f"{name}.json") for name in names.split()])
    return overview(compared, ipc=ipc, pairs=named_pairs(compared, pairs) if pairs else ())


PRISM = {ipc: functools.partial(photographs, f"rd3-prism-sre2l-ipc-{ipc}", "prism:sre2l", "prism:random",
                                "best-distilled:best-selected", ipc=ipc) for ipc in (1, 10, 50)}


def methods() -> str:
    """Every method of utils/methods: its file, its stages, and where it comes from."""
    texts = {path.name: path.read_text(encoding="utf-8")
             for path in sorted((ROOT / "utils" / "methods").glob("*.py"))}
    lines = ["| `--protocol` | settings | stages | source |", "|---|---|---|---|"]
    for method in METHODS.values():
        file = next((name for name, text in texts.items() if f'name="{method.name}"' in text), "controls.py")
        stages = ", ".join(stage for stage in STAGES if getattr(method, stage) is not None)
        lines.append(f"| `{method.name}` | [{file}](../utils/methods/{file}) | {stages} "
                     f"| {method.source}; {method.code} |")
    return "\n".join(lines)


def datasets() -> str:
    """What every data set presets."""
    lines = ["| `--dataset` | classes | size | short side | stem | flip | jitter | format | mean | std |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for name, spec in {**DATASETS, "folder:PATH": dataset_spec("folder:")}.items():
        own = spec.preset()
        kind = {"jpg": f"jpg, quality {RecoverConfig.jpeg_quality}", "png": "png"}[own["image_format"]]
        lines.append(f"| `{name}` | {spec.num_classes or 'its folders'} | {spec.size} "
                     f"| {max(spec.size, spec.size // 7 * 8)} | {own['stem']} | {own['flip']} "
                     f"| {own['jitter']} | {kind} | {' '.join(map(str, own['mean']))} "
                     f"| {' '.join(map(str, own['std']))} |")
    return "\n".join(lines)


def _flags(cls) -> tuple[str, Callable[[], str]]:
    return f"flags of {cls.__name__}", functools.partial(flag_table, cls)


OTHERS = ("edc", "fadrm+", "cv-dd", "fadrm", "delt", "sre2l++", "rded", "cda", "dwa")  # by top-1
RECIPE = "quarter-from-centre-margin-of-10"  # of scripts/studies/confirm.json

# page -> {what stands between its markers: what makes it}
TABLES = {
    "README.md": {"photographs": PRISM[10], "performance": performance,
                  "costs": functools.partial(costs, ("1/prism-r18",))},
    "docs/results/cifar10/README.md": {
        "ipc 1": PRISM[1], "ipc 10": PRISM[10], "ipc 50": PRISM[50],
        "others": functools.partial(
            photographs, "screen-ipc-10 others-2-ipc-10 others-3-ipc-10 others-4-ipc-10",
            *(f"{other}:random" for other in OTHERS), "edc-1-8:random", "edc-1-8:edc"),
        "teachers": functools.partial(
            photographs, "teachers-ipc-10 teachers-2-ipc-10 prism-own-ipc-10 prism-hard-ipc-10",
            "single-pre:prism", "single-pre:dual-pre", "dual-pre:multi-4", "single-intra:single-pre",
            "dual-intra:dual-pre", "single-pre:random", "single-pre:centre-margin"),
        "search": functools.partial(photographs, "search-ipc-10"),
        "second round": functools.partial(photographs, "search2-ipc-10"),
        "third round": functools.partial(photographs, "search3-ipc-10"),
        "confirmed": functools.partial(
            photographs, "confirm-ipc-10 confirm-control-ipc-10", *(f"{RECIPE}:{other}" for other in (
                "random", "herding-of-10", "k-centre-of-10", "centre-margin-of-10", "prism-of-10", "prism")),
            "prism-of-10:random")},
    "docs/reproduce.md": {"costs": functools.partial(costs, ("1/prism-r", "1/prism-delt-r18")),
                          **dict([_flags(ReproduceConfig)])},
    "docs/gpu.md": dict([_flags(GpuConfig)]),
    "docs/compare.md": dict(map(_flags, (CompareConfig, DecideConfig, FrontierConfig))),
    "docs/results/privacy.md": {"privacy": lambda: summary(_read("privacy/worlds.jsonl")),
                                **dict([_flags(PrivacyConfig)])},
    "recover/README.md": {"datasets": datasets, **dict([_flags(RecoverConfig)])},
    "relabel/README.md": dict([_flags(RelabelConfig)]),
    "validate/README.md": {"methods": methods, **dict(map(_flags, (
        ValidateConfig, EvaluateConfig, DiversityConfig, MemorisationConfig, MembershipConfig, FiguresConfig,
        ReportConfig, ExportConfig, ConvertConfig)))},
    "models/README.md": dict([_flags(TeacherConfig)]),
}


def with_table(text: str, name: str, table: str) -> str:
    """The page with the table between its markers replaced.   Raises: ValueError when a marker is missing."""
    opening, closing = f"<!-- {name} -->", f"<!-- end of {name} -->"
    head, begin, rest = text.partition(opening)
    _, end, tail = rest.partition(closing)
    if not (begin and end):
        raise ValueError(f"expected the markers {opening} and {closing}")
    return f"{head}{opening}\n{table}\n{closing}{tail}"


def refresh(*, write: bool) -> list[str]:
    """The pages with a table that is not what it should be, rewritten if `write`."""
    stale = []
    for page, tables in TABLES.items():
        old = new = (ROOT / page).read_text(encoding="utf-8")
        for name, make in tables.items():
            new = with_table(new, name, make())
        if new != old:
            stale.append(page)
            if write:
                (ROOT / page).write_text(new, encoding="utf-8")
    return stale


def main(argv) -> None:
    """Rewrites every page, or with --check fails when one is stale."""
    stale = refresh(write="--check" not in argv)
    if stale and "--check" in argv:
        raise ValueError(f"stale tables in {', '.join(stale)}; run python -m scripts.readme_tables")


if __name__ == "__main__":
    command_line(main)
