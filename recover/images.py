"""A finished unit as files: its images, then the record that makes the unit finished."""
from collections import Counter
from pathlib import Path

import torch

from recover.units import UnitPlan
from utils.data import encode_image
from utils.files import sha256_bytes, write_bytes, write_json
from utils.formats import assemble_manifest, image_path
from utils.runtime import say, versions


def save_unit(run: Path, plan: UnitPlan, pixels: torch.Tensor, *, class_names: list[str],
              terms: dict[str, float], image_format: str, jpeg_quality: int, device: str) -> None:
    """Writes a unit's images, then its record.

    Args: pixels: (N, 3, H, W) uint8, one image a member;  terms: the last iteration's.
    """
    unit, files = plan.unit, {}
    for (ipc_id, k), image in zip(unit.members, pixels, strict=True):
        path = image_path(class_names[k], ipc_id, image_format)
        content = encode_image(image, image_format=image_format, jpeg_quality=jpeg_quality)
        write_bytes(run / path, content)
        files[path] = sha256_bytes(content)
    write_json(unit.record(run), {
        "ipc_id": unit.ipc_id, "chunk": unit.chunk, "iterations": plan.iterations,
        "primary": Counter(name for draw in plan.draws for name in draw.ce),
        "aligned": Counter(name for draw in plan.draws for name in draw.align),
        "short_classes": [class_names[k] for k in unit.short], "final": terms, "files": files,
        "device": device, "versions": versions()})


def say_finished(run: Path, num_made: int) -> Path:
    """Assembles the manifest, if the run has a complete index, and says what there is now."""
    try:
        manifest = assemble_manifest(run)
        now = f"IPC {manifest.ipc} is complete ({len(manifest.entries)} images)"
    except FileNotFoundError:
        now = "no IPC index is complete yet (other shards?)"
    say(f"{run}: {num_made} {'group' if num_made == 1 else 'groups'} of units made now; {now}")
    return run
