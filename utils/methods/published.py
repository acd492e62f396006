"""Every published figure of the methods, with where it stands.   FIGURES; `published` picks.

Top-1 in percent, never ours.  A line is one student at one to three IPC; "+" before a figure's standard
deviation, "-" where there is none.  Figures of different protocols do not compare (baselines.md 11).
Source: baselines.md 2.2 and 15, facts-2026.md 1 to 4 and 6, field-2026.md 1.
"""
import dataclasses
from collections.abc import Iterator
from typing import Literal

Tag = Literal["own repository", "own paper", "third party"]
STUDENTS = {"r18": "resnet18", "r50": "resnet50", "r101": "resnet101", "convnet": "ConvNet",
            "conv128": "ConvNetW128"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """One published figure.

    method: of METHODS, or another's name;  protocol: under whose evaluation;  top1, std: in percent;
    source, tag: where it stands, and who says it;  note: what contradicts it.
    """

    method: str
    dataset: str
    student: str
    ipc: int
    top1: float
    std: float | None
    protocol: str
    tag: Tag
    source: str
    note: str = ""

    def __str__(self) -> str:
        """One line: of what, the figure, under what, and where it stands."""
        std, note = "" if self.std is None else f" +- {self.std}", f"; {self.note}" if self.note else ""
        return (f"{self.dataset}, {self.student}, IPC {self.ipc}: {self.top1}{std} under {self.protocol} "
                f"({self.tag}: {self.source}{note})")


def _rows(method: str, dataset: str, tag: Tag, source: str, lines: str, *, protocol: str = "",
          note: str = "") -> Iterator[Figure]:
    """Figures of lines "student IPC/IPC/... figure/figure/...".   Args: protocol: none: the method's own."""
    for line in lines.split(";"):
        student, ipcs, cells = line.split()
        for ipc, cell in zip(ipcs.split("/"), cells.split("/"), strict=True):
            top1, _, std = cell.partition("+")
            if cell != "-":
                yield Figure(method=method, dataset=dataset, student=STUDENTS[student], ipc=int(ipc),
                             top1=float(top1), std=float(std) if std else None, source=source, tag=tag,
                             protocol=protocol or method, note=note)


REPO: Tag = "own repository"
PAPER: Tag = "own paper"
OTHER: Tag = "third party"
IN1K, TINY, C10, C100, NETTE, WOOF = (
    "imagenet-1k", "tiny-imagenet", "cifar10", "cifar100", "imagenette", "imagewoof")
TABLE_1 = "PRISM's paper, table 1"
RE_RUN = "tables of RDED and DELT, a re-run"
G_VBSM_FIGURE = "README figure of G-VBSM"
HARD = "hard labels"
RD3_TABLE = "RD3 (ICLR 2026), notes of others"

IMAGENET = (
    *_rows("prism", IN1K, PAPER, TABLE_1, "r18 10/50/100 49.4+.2/59.0+.1/60.9+.2;"
           "r50 10/50/100 51.1+1.2/65.1+.1/67.5+.2; r101 10/50/100 48.5+1.7/65.9+.2/68.6+.4"),
    *_rows("prism", IN1K, PAPER, f"{TABLE_1}, double dagger", "r18 10/50/100 46.9+.1/59.6+.2/62.7+.1;"
           "r50 10/50/100 46.3+.7/66.5+.2/69.4+.1; r101 10/50/100 40.7+3.6/66.7+.2/70.4+.2", protocol="delt"),
    *_rows("sre2l", IN1K, REPO, "README figure", "r18 10/50/100/200 21.3+.6/46.8+.2/52.8+.3/57.0;"
           "r50 10/50/100/200 28.4+.1/55.6+.3/61.0+.4/64.6"),
    *_rows("sre2l", IN1K, REPO, "README figure", "r101 10/50/100/200 30.9+.1/60.8+.5/62.8+.2/65.9",
           note="CDA's figure has 57.6 at IPC 50, D4M's 65.8 at IPC 100"),
    *_rows("cda", IN1K, REPO, "README", "r18 50/100/200 53.5/58.0/63.3; r50 50/100/200 61.3/65.1/67.6;"
           "r101 50/100/200 61.6/65.9/68.4"),
    *_rows("cda", IN1K, OTHER, "RD3's list of published figures", "r18 10 33.5",
           note="CDA's README has no IPC 10"),
    *_rows("g-vbsm", IN1K, REPO, "README", "r18 10/50/100 31.4+.5/51.8+.4/55.7+.4;"
           "r50 10/50/100 35.4+.8/58.7+.3/62.2+.3; r101 10/50/100 38.2+.4/61.0+.4/63.7+.2"),
    *_rows("edc", IN1K, PAPER, "its table", "r18 1/10/50 12.8+.1/48.6+.3/58.0+.2;"
           "r50 1/10/50 13.3+.3/54.1+.2/64.3+.2; r101 1/10/50 12.2+.2/51.7+.3/64.9+.2"),
    *_rows("delt", IN1K, PAPER, "its table", "r18 10/50/100 46.1+.4/59.2+.4/62.4+.2",
           note="IPC 10: 45.8+.1 in its README, an earlier version, 46.4 in its table 5"),
    *_rows("delt", IN1K, PAPER, "its table", "r101 10/50/100 48.5+1.6/66.1+.5/67.6+.3"),
    *_rows("rded", IN1K, OTHER, "tables of EDC and DELT; IPC 100: DELT's alone",
           "r18 1/10/50/100 6.6+.2/42.0+.1/56.5+.1/59.8+.1"),
    *_rows("rded", IN1K, OTHER, "tables of EDC and DELT", "r101 1/10/50 5.9+.4/48.3+1.0/61.2+.4",
           note="PRISM's table 1 has SRe2L's row in its place"),
    *_rows("rded", IN1K, OTHER, "EDC's table of students on one set", "r50 10/50 46.0/63.7"),
    *_rows("rded", IN1K, OTHER, TABLE_1, "r101 10/50/100 30.9/60.8/62.8",
           note="a misprint, SRe2L's row: RDED's own are 48.3 and 61.2"),
    *_rows("rded", IN1K, OTHER, "tables of others", "convnet 1/10/50 6.4/20.4/38.4"),
    *_rows("dwa", IN1K, REPO, "README figure", "r18 10/50/100 37.9+.2/55.2+.2/59.2+.3;"
           "r50 10/50/100 43.0+.5/62.3+.1/65.7+.4; r101 10/50/100 46.9+.4/63.3+.7/66.7+.2"),
    *_rows("d4m", IN1K, REPO, "README and paper", "r18 10/50/100/200 27.9/55.2/59.3/62.6;"
           "r50 10/50/100/200 33.5/62.4/65.4/67.8; r101 10/50/100/200 34.2/63.4/66.5/68.1"),
    *_rows("cv-dd", IN1K, REPO, "img/result.png",
           "r18 10/50 46.0/59.5; r50 10/50 51.3/63.9; r101 10/50 51.7/62.7"),
    *_rows("sre2l++", IN1K, REPO, "img/result.png of CV-DD", "r18 10/50 43.1/57.6"),
    *_rows("fadrm", IN1K, REPO, "img/exp.png", "r18 1/10/50 6.9/47.7/59.8",
           note="IPC 10: 48.4 in the abstract of the final version"),
    *_rows("fadrm+", IN1K, REPO, "img/exp.png", "r18 1/10/50 14.1/50.0/60.1",
           note="IPC 10: 50.9 in the abstract of the final version; PSM's re-run: 50.8, 59.2"),
    *_rows("fadrm+", IN1K, REPO, "img/exp.png", "r50 10/50 57.5/65.8; r101 10/50 58.1/66.2"),
    *_rows("bps", IN1K, REPO, "imgs/performan.png", "r18 10/50 52.4/63.5"),
    *_rows("hald", IN1K, PAPER, "its version 2, 285 MB of labels", "r18 10 42.7", note="41.8 in its README"),
    *_rows("lpld", IN1K, OTHER, "HALD, the same bytes", "r18 10 33.7"),
    *_rows("scdd", IN1K, REPO, "README", "r18 10/50/100 32.1/53.1/57.9"),
)
SMALL = (
    *_rows("sre2l", TINY, REPO, "README", "r18 50/100 41.1+.4/49.7+.3; r50 50/100 42.2+.5/51.2+.4;"
           "r101 50/100 42.5+.2/51.5+.3"),
    *_rows("sre2l", TINY, OTHER, RE_RUN, "r18 1/10 2.62+.1/16.1+.2; r101 1/10 1.9/14.6"),
    *_rows("cda", TINY, REPO, "README", "r18 50/100 48.7/53.2; r50 50/100 49.7/54.4; r101 50/100 50.6/55.0"),
    *_rows("g-vbsm", TINY, REPO, "README", "r18 50/100 47.6+.3/51.0+.4; r50 50/100 48.7+.2/52.1+.3;"
           "r101 50/100 48.8+.4/52.3+.1"),
    *_rows("edc", TINY, PAPER, "its table", "r18 1/10/50 39.2+.4/51.2+.5/57.2+.2; r50 1/10/50 35.9/50.2/58.8;"
           "r101 1/10/50 40.6/51.6/58.6"),
    *_rows("delt", TINY, PAPER, "its table",
           "r18 1/10/50 9.3+.5/43.0+.1/55.7+.5; r101 1/10/50 5.6/42.8/58.5"),
    *_rows("rded", TINY, OTHER, "tables of EDC and DELT", "r18 1/10/50 9.7+.4/41.9+.2/58.2+.1;"
           "r101 1/10/50 3.8/22.9+3.3/41.2; convnet 1/10/50 12.0/39.6/47.6"),
    *_rows("dwa", TINY, REPO, "README figure", "r18 50/100 52.8+.2/56.0+.2; r50 50/100 53.7/56.9;"
           "r101 50/100 54.7/57.4"),
    *_rows("d4m", TINY, REPO, "README and paper", "r18 50/100 46.2/51.4; r50 50/100 51.8/54.8;"
           "r101 50/100 51.0/55.3", note="its variant D4M-G: 46.8, 53.3; 51.9, 54.9; 53.2, 54.5"),
    *_rows("cv-dd", TINY, REPO, "img/result.png", "r18 10/50 47.8/54.1"),
    *_rows("sre2l++", TINY, REPO, "img/result.png of CV-DD", "r18 10/50 46.5/53.5"),
    *_rows("fadrm", TINY, REPO, "img/exp.png", "r18 1/10/50 28.6/48.9/56.4"),
    *_rows("fadrm+", TINY, REPO, "img/exp.png", "r18 1/10/50 40.4/52.8/58.7",
           note="PSM\'s re-run: 47.3, 52.0"),
    *_rows("bps", TINY, REPO, "imgs/performan.png", "r18 10/50 47.4/59.0"),
    *_rows("hald", TINY, OTHER, "notes of others; two labels an image", "r18 10/50 22.8/38.2",
           note="one label an image: 18.6, 30.7"),
    *_rows("lpld", TINY, OTHER, "HALD; two labels an image", "r18 10/50 17.4/36.0",
           note="one label an image: 10.1, 27.8"),
    *_rows("scdd", TINY, REPO, "README", "r18 10/50 31.6/45.9"),
    *_rows("sre2l", C100, OTHER, G_VBSM_FIGURE, "r18 1/10/50 2.0+.2/31.6+.5/49.5+.3",
           note="IPC 50: 52.2+.3 in DWA's figure, 49.4 in SCDD's"),
    *_rows("g-vbsm", C100, REPO, "README", "r18 1/10/50 25.9+.5/59.5+.4/65.0+.5;"
           "conv128 1/10/50 16.4/38.7/45.7"),
    *_rows("edc", C100, PAPER, "its table", "r18 1/10/50 39.7+.1/63.7+.3/68.6+.2; r50 1/10/50 36.1/62.1/69.4;"
           "r101 1/10/50 32.3/61.7/68.5"),
    *_rows("rded", C100, OTHER, "tables of others", "r18 1/10/50 11.0+.3/42.6+.2/62.6+.1;"
           "r101 1/10/50 10.8/41.1/63.4; convnet 1/10/50 19.6/48.1/57.0"),
    *_rows("dwa", C100, REPO, "README figure", "r18 10/50 39.6+.6/60.9+.5"),
    *_rows("d4m", C100, REPO, "README", "conv128 10/50 45.0+.1/48.8+.3"),
    *_rows("cv-dd", C100, REPO, "img/result.png", "r18 10/50 53.6/65.1",
           note="1000 epochs, in FADRM's table: 62.7, 67.1"),
    *_rows("sre2l++", C100, REPO, "img/result.png of CV-DD", "r18 10/50 52.1/64.0"),
    *_rows("fadrm", C100, REPO, "img/exp.png", "r18 1/10/50 31.8/67.4/71.0"),
    *_rows("fadrm+", C100, REPO, "img/exp.png", "r18 1/10/50 40.6/67.9/71.3",
           note="PSM\'s re-run: 62.5, 67.4"),
    *_rows("bps", C100, REPO, "imgs/performan.png", "r18 10/50 57.7/73.2"),
    *_rows("scdd", C100, REPO, "README", "r18 50 53.4+1.1"),
    *_rows("sre2l", C10, OTHER, G_VBSM_FIGURE, "r18 10/50 27.2+.5/47.5+.6", note="another re-run: below"),
    *_rows("sre2l", C10, OTHER, RE_RUN, "r18 1/10/50 16.6+.9/29.3+.5/45.0+.7; r101 1/10/50 13.7/24.3/34.9"),
    *_rows("g-vbsm", C10, REPO, "README", "r18 10/50 53.5+.6/59.2+.4; conv128 10/50 46.5/54.3"),
    *_rows("edc", C10, PAPER, "its table", "r18 1/10/50 32.6+.1/79.1+.3/87.0+.1; r50 1/10/50 30.6/76.0/86.9;"
           "r101 1/10/50 26.1/67.1/85.8"),
    *_rows("delt", C10, PAPER, "its table",
           "r18 1/10/50 24.0+.8/43.0+.9/64.9+.9; r101 1/10/50 20.4/37.4/54.1"),
    *_rows("rded", C10, OTHER, "tables of others", "r18 1/10/50 22.9+.4/37.1+.3/62.1+.1;"
           "r101 1/10/50 18.7/33.7/51.6; convnet 1/10/50 23.5/50.2/68.4"),
    *_rows("dwa", C10, REPO, "README figure", "r18 10/50 32.6+.4/53.1+.3"),
    *_rows("d4m", C10, REPO, "README", "conv128 10/50 56.2+.4/72.8+.5"),
    *_rows("cv-dd", C10, REPO, "img/result.png", "r18 10/50 44.6/70.1"),
    *_rows("sre2l++", C10, REPO, "img/result.png of CV-DD", "r18 10/50 42.5/63.0"),
    *_rows("fadrm+", C10, OTHER, "PSM's re-run", "r18 10/50 55.9/85.8"),
    *_rows("bps", C10, REPO, "imgs/performan.png", "r18 10/50/100 48.8/77.1/85.3"),
    *_rows("fadrm", NETTE, REPO, "img/exp.png", "r18 1/10/50 36.2/64.8/83.6"),
    *_rows("fadrm+", NETTE, REPO, "img/exp.png", "r18 1/10/50 39.2/69.0/84.6"),
    *_rows("fadrm", WOOF, REPO, "img/exp.png", "r18 1/10/50 21.0/44.5/72.3"),
    *_rows("fadrm+", WOOF, REPO, "img/exp.png", "r18 1/10/50 22.8/57.3/72.6"),
)
RE_RUNS = (  # under one protocol for all
    *(own for method, cells in {
        "sre2l": "40.2/55.2", "cda": "41.2/56.7", "g-vbsm": "41.5/-", "dwa": "42.5/57.7", "edc": "46.9/60.1",
        "d4m": "45.4/60.2", "rded": "46.3/58.9", "minimax": "45.9/60.4"}.items()
      for own in _rows(method, IN1K, OTHER, RD3_TABLE, f"r18 10/50 {cells}", protocol="rd3")),
    *(own for dataset, row in {
        C10: "53.9 54.5 59.9 64.8 61.9 63.3 -", C100: "54.4 56.2 62.1 65.2 64.3 64.1 -",
        TINY: "52.5 53.0 54.2 57.1 53.8 58.7 54.4"}.items()
      for method, cell in zip(("sre2l", "cda", "dwa", "edc", "d4m", "rded", "minimax"), row.split(),
                              strict=True)
      for own in _rows(method, dataset, OTHER, RD3_TABLE, f"r18 50 {cell}", protocol="rd3")),
    *(own for method, cell in {"sre2l": "41.9", "cda": "42.2", "g-vbsm": "41.4", "rded": "42.3"}.items()
      for own in _rows(method, IN1K, OTHER, "DELT's table 5 (SRe2L as CDA configures it)", f"r18 10 {cell}",
                       protocol="delt")),
    *(own for method, cells in {
        "random": "35.8/57.2/61.2", "rded": "38.4/56.2/60.2", "sre2l": "33.5/52.6/57.4",
        "dwa": "37.9/55.2/59.2", "g-vbsm": "35.8/54.8/59.2"}.items()
      for own in _rows(method, IN1K, OTHER, "OGM's table", f"r18 10/50/100 {cells}", protocol="cda")),
    *(own for method, cells in {
        "random": "4.6/20.6/31.7", "rded": "11.5/30.8/39.2", "sre2l": "1.5/3.8/4.9", "cda": "1.6/5.8/8.0",
        "g-vbsm": "1.6/9.0/16.6", "dwa": "1.9/5.3/7.5"}.items()
      for own in _rows(method, IN1K, OTHER, "OGM's table", f"r18 10/50/100 {cells}", protocol=HARD)),
    *_rows("random", IN1K, OTHER, "Hard Truths (CVPR 2026)", "r18 10/50/100 28.8/58.1/62.9",
           protocol="soft labels of a teacher"),
    *_rows("rded", IN1K, OTHER, "Hard Truths (CVPR 2026)", "r18 10/50/100 14.3/38.5/44.4", protocol=HARD,
           note="OGM's table has 11.5/30.8/39.2"),
    *(own for dataset, row in {C10: "25.1 28.4", C100: "10.9 13.3", TINY: "7.5 9.0", IN1K: "4.4 5.8",
                               WOOF: "27.7 30.2"}.items()
      for method, cell in zip(("random", "herding"), row.split(), strict=True)
      for own in _rows(method, dataset, OTHER, "PSM", f"r18 10 {cell}", protocol=HARD)),
    *_rows("herding", IN1K, OTHER, "BPS", "r18 10 2.5", protocol="bps", note="PSM has 5.8, with hard labels"),
    *_rows("herding", C10, OTHER, "BPS", "r18 10/50 20.1/31.9", protocol="bps"),
)
FIGURES = (*IMAGENET, *SMALL, *RE_RUNS)


def published(method: str, *, dataset: str = IN1K, student: str = "", protocol: str = "",
              source: str = "") -> list[Figure]:
    """A method's figures on a data set.

    Args: student: none: all;  protocol: none: its own;  source: with which its source begins.
    """
    return [own for own in FIGURES if (own.method, own.dataset) == (method, dataset)
            and student in ("", own.student) and own.protocol == (protocol or method)
            and own.source.startswith(source)]
