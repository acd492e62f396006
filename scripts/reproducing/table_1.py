"""Paper table 1 as rows: every method's 54 cells, made of utils/methods and of what is published of them.

A row's images, labels and students are by its method's own settings; double dagger: students, and labels, by
DELT's.  Figures are those that the paper prints (utils/methods/published.py says where each is from).
"""
from collections.abc import Iterator
from typing import Any

from scripts.reproducing.rows import THREE_SEEDS, Row
from utils.methods import METHODS
from utils.methods.published import TABLE_1 as PRINTED
from utils.methods.published import published

STUDENTS = {"r18": "resnet18", "r50": "resnet50", "r101": "resnet101"}
LAST_EPOCH = "best or last epoch: ours the last, the best beside it (DELT prints the best)"
ABOVE_10 = "public scripts stop at IPC 10: ours the same settings with batch 100 (supplement table 1a)"
PRIMARY = "which network made the images: ours resnet18, as published; PRIMARY= follows 4.4's rule instead"
HALF = "no text gives the ensemble of R50 and R101: ours the published one, half the primary, at every IPC"
BATCH_R101 = "public R101 scripts: batch 100 for labels, 50 for students; ours 50 (supplement table 1a)"
DELT_TEACHER = "the teacher of R50 and R101 students: ours resnet18, DELT's default, for all"
OWN = "PRISM's validation (caption), or the method's own, whose published figures these are: ours its own"
R18_FOR_ALL = "images and labels for R50 and R101: ours resnet18's for every student, as SRe2L published"
ONE_SET = "images and labels for R50 and R101: ours the same for every student"
MISPRINT = "these cells repeat SRe2L's row, a misprint: RDED's own are 48.3 and 61.2, and none at IPC 100"


def _more(file: str) -> str:
    return f"what the public code leaves open, and what is not reproduced: utils/methods/{file}.py"


def _table_1(name: str, label: str, method: str, *, unknown: dict[str, tuple[str, ...]], protocol: str = "",
             source: str = "", recover: dict[str, Any] | None = None) -> Iterator[Row]:
    """A method's rows, for the students that `unknown` names; the first row is the others' ancestor.

    Args: method: whose figures;  protocol: of all stages, none: the method's own;  source: with which that of
          the figures begins;  recover: what the first row says of it.
    """
    protocol = protocol or method
    own = METHODS[protocol].students
    for short, questions in unknown.items():
        student = STUDENTS[short]
        for figure in published(method, student=student, protocol=protocol, source=source):
            first, of = figure.ipc == 10, {"model": student} if short != "r18" else {"seeds": THREE_SEEDS}
            heir = f"1/{name}-{short}-10" if not first else f"1/{name}-r18-10" if short != "r18" else ""
            if figure.ipc in (10, 50, 100):
                yield Row(
                    key=f"1/{name}-{short}-{figure.ipc}", label=label, paper=figure.top1, std=figure.std,
                    protocol=protocol, ipc=figure.ipc, inherits=heir,
                    recover={} if heir else recover or {}, validate=of if first else {},
                    relabel=dict(own.get(student, {}).get("relabel", {})) if first else {},
                    unknown=questions if first else ())


TABLE_1 = (
    *_table_1("sre2l", "SRe2L", "sre2l", unknown={"r18": (OWN, R18_FOR_ALL), "r50": (), "r101": ()}),
    *_table_1("g-vbsm", "G-VBSM", "g-vbsm", unknown={
        "r18": (OWN, ONE_SET, _more("g_vbsm")), "r50": (), "r101": ()}),
    *_table_1("rded", "RDED", "rded", source="tables of", unknown={"r18": (OWN, ONE_SET, _more("rded"))}),
    *_table_1("rded", "RDED (as printed)", "rded", source=PRINTED, unknown={"r101": (MISPRINT,)}),
    *_table_1("edc", "EDC", "edc", unknown={"r18": (OWN, ONE_SET, _more("edc")), "r50": (), "r101": ()}),
    *_table_1("prism", "PRISM", "prism", unknown={
        "r18": (LAST_EPOCH, ABOVE_10), "r50": (PRIMARY, HALF), "r101": (PRIMARY, HALF, BATCH_R101)}),
    *_table_1("delt", "DELT (double dagger)", "delt", unknown={
        "r18": (LAST_EPOCH, _more("delt")), "r101": (ONE_SET, DELT_TEACHER)}),
    # The images of PRISM's rows, so recover keeps its protocol.
    *_table_1("prism-delt", "PRISM (double dagger)", "prism", protocol="delt", recover={"protocol": "prism"},
              unknown={"r18": (LAST_EPOCH,), "r50": (PRIMARY, DELT_TEACHER),
                       "r101": (PRIMARY, DELT_TEACHER)}),
)
