"""Small comparisons as scripts/compare.py writes them, for the tests of what reads them."""
import json
from pathlib import Path


def cell(method: str, protocol: str, top1: list, *, hard: list[float] | None = None, label_bytes: int = 1000,
         work: tuple[float, float, float] = (0.0, 1.0, 1.0), staged: bool = True) -> dict:
    """A cell at IPC 10; None: it lacks that draw.   Args: work: of recover, relabel, validate [TFLOP]."""
    stages = ("recover", "relabel", "validate")
    draws = {str(draw): {"top1": value, "best": value, "hard": hard[draw] if hard else None, "cosine": None,
                         "seconds": dict(zip(stages, (3.0, 2.0, 1.0), strict=True)), "image_bytes": 5,
                         "label_bytes": label_bytes} for draw, value in enumerate(top1) if value is not None}
    made = {"method": method, "protocol": protocol, "ipc": 10, "n": len(draws), "tflops": sum(work),
            "left_out": "", "draws": draws}
    return made | ({"tflops_by_stage": dict(zip(stages, work, strict=True))} if staged else {})


def write(path: Path, cells: list[dict], **more) -> str:
    """A comparison's file; returns its path."""
    record = {"dataset": "digits", "common": "usual", "students": 1, "cells": cells} | more
    path.write_text(json.dumps(record), encoding="utf-8")
    return str(path)
