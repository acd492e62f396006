"""Controls: real images, chosen and never optimised, under PRISM's labels and students.

A distilled set that is no better than these has gained nothing.  How each chooses, and in what it is ours,
its start says (recover/starts); centre-margin is after BPS, without its encoder, and not comparable to its
rows.
"""
from utils.methods.method import Method


def control(name: str, source: str, code: str) -> Method:
    """The control whose start goes by its name."""
    return Method(name=name, source=source, code=code, relabel={}, validate={},
                  recover={"init": name, "iteration": 0, "iteration_step": 0})


CONTROLS = (
    control("random", "real images of each class, drawn", "ours"),
    control("herding", "Rebuffi et al. (iCaRL), CVPR 2017; facts-2026.md 6", "ours"),
    control("k-centre", "Sener and Savarese, ICLR 2018; facts-2026.md 6", "ours"),
    control("centre-margin", "after BPS, CVPR 2026; facts-2026.md 3.3",
            "ours, after BeCarefulOfYournaoke/BPS 7d016db (2026-03-10)"))
# What --init of one real image each is called: the controls, and the first images of every class.
REAL_STARTS = ("real", *(control.name for control in CONTROLS))
