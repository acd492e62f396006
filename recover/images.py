"""A finished unit as files: its images, then the record that makes the unit finished."""
from collections import Counter
from pathlib import Path

import torch

from recover.plans import UnitPlan
from recover.units import Groups
from utils.files import sha256_bytes, write_bytes, write_json
from utils.formats import assemble_manifest
from utils.pictures import encode_image
from utils.runtime import say, versions
from utils.unit_files import has_unit, image_path


def save_unit(run: Path, plan: UnitPlan, pixels: torch.Tensor, *, class_names: list[str],
              terms: dict[str, float], image_format: str, jpeg_quality: int, device: str) -> None:
    """Writes a unit's images, then its record.

    Args: pixels: (N, 3, H, W) uint8, one image a member;  terms: the last iteration's.
    """
    unit, files, total = plan.unit, {}, 0
    indices = sorted({i for i, _ in unit.members})
    several = {} if indices in ([], [unit.ipc_id]) else {"indices": indices}
    for (ipc_id, k), image in zip(unit.members, pixels, strict=True):
        path = image_path(class_names[k], ipc_id, image_format)
        content = encode_image(image, image_format=image_format, jpeg_quality=jpeg_quality)
        write_bytes(run / path, content)
        files[path], total = sha256_bytes(content), total + len(content)
    write_json(unit.record(run), {
        "ipc_id": unit.ipc_id, "chunk": unit.chunk, "iterations": plan.iterations,
        "primary": Counter(name for draw in plan.draws for name in draw.ce),
        "aligned": Counter(name for draw in plan.draws for name in draw.align),
        "short_classes": [class_names[k] for k in unit.short], "final": terms, "files": files, "bytes": total,
        "device": device, "versions": versions(), **several})


def split_finished(run: Path, groups: Groups) -> tuple[Groups, Groups]:
    """The groups whose units are all whole, and the others; says which is not, though it has a record."""
    finished: Groups = []
    missing: Groups = []
    for group in groups:
        lost = [unit for unit in group if not has_unit(unit.record(run))]
        for unit in lost:
            if unit.record(run).is_file():
                say(f"{unit}: its record is damaged, or files of it are missing or cut short: to be made "
                    f"anew")
        (missing if lost else finished).append(group)
    return finished, missing


def discard_saves(run: Path, finished: Groups) -> None:
    """Removes the saved work of finished groups: a kill may have come between their records and its end."""
    for group in finished:
        group[0].unfinished(run).unlink(missing_ok=True)


def say_finished(run: Path, num_made: int) -> Path:
    """Assembles the manifest, if the run has a complete index, and says what there is now."""
    try:
        manifest = assemble_manifest(run)
        now = f"IPC {manifest.ipc} is complete ({len(manifest.entries)} images)"
    except FileNotFoundError:
        now = "no IPC index is complete yet (other shards?)"
    say(f"{run}: {num_made} {'group' if num_made == 1 else 'groups'} of units made now; {now}")
    return run
