"""Units of recover: what is planned before one starts, what is written when it ends.

A unit is (IPC index, chunk of classes); a group is one chunk of `slices_per_batch` consecutive indices.
"""
import dataclasses
import io
from pathlib import Path

import torch
from PIL import Image

from recover.selection import Teachers, plan_selection
from utils.augment import SharedViews, denormalize, plan_shared_views
from utils.files import readable, sha256_bytes, write_atomically, write_json
from utils.formats import assemble_manifest, image_path, unit_path
from utils.runtime import generator, readable_time, say, versions
from utils.schedule import crop_curriculum


@dataclasses.dataclass(frozen=True)
class UnitPlan:
    """All that is random or scheduled in one unit, drawn before it starts."""

    ipc_id: int
    chunk: int
    iterations: int
    views: SharedViews
    teachers: list[Teachers]

    def __str__(self):
        return f"IPC index {self.ipc_id}, chunk {self.chunk}"


def unit_groups(ipc_start: int, ipc_end: int, *, num_chunks: int, slices: int) -> list[list[tuple[int, int]]]:
    """All groups of a range of IPC indices, in the order that shards split: [(ipc_id, chunk), ...] each."""
    return [[(ipc_id, chunk) for ipc_id in range(first, first + slices)]
            for first in range(ipc_start, ipc_end, slices) for chunk in range(num_chunks)]


def unfinished_path(run: Path, first: UnitPlan) -> Path:
    """Path of the saved state of a group of units that is not finished; it is named after its first."""
    return run / "unfinished" / f"{unit_path(run, first.ipc_id, first.chunk).stem}.pt"


def plan_unit(ipc_id: int, chunk: int, *, seed: int, iterations: int, views: dict, curriculum: bool,
              draw: dict) -> UnitPlan:
    """Draws a unit's views and teachers from (seed, unit).

    Args: views: size, min_scale, flip, jitter of `plan_shared_views`;  curriculum: min_scale falls from 1;
          draw: keywords of `plan_selection`.
    """
    if curriculum:
        low = [crop_curriculum(t, iterations, views["min_scale"]) for t in range(iterations)]
        views = {**views, "min_scale": torch.tensor(low)}
    return UnitPlan(ipc_id, chunk, iterations,
                    plan_shared_views(iterations, **views, generator=generator(seed, "views", ipc_id, chunk)),
                    plan_selection(seed, ipc_id, chunk, iterations, **draw))


def encode_image(pixels: torch.Tensor, *, image_format: str, jpeg_quality: int) -> bytes:
    """(3, H, W) uint8 as a file's bytes: PNG, or JPEG with Pillow's 4:2:0.   Source: published recipe."""
    file, picture = io.BytesIO(), Image.fromarray(pixels.permute(1, 2, 0).numpy())
    if image_format == "png":
        picture.save(file, "PNG")
    else:
        picture.save(file, "JPEG", quality=jpeg_quality)
    return file.getvalue()


def to_uint8(images: torch.Tensor, *, mean, std) -> torch.Tensor:
    """Normalised images as uint8, truncated as the published recipe does.

    A thousandth of a grey level is added first, so that float rounding does not darken an unchanged pixel.
    """
    return (denormalize(images.cpu(), mean, std) + 1e-3).clamp(0, 255).to(torch.uint8)


def save_unit(run: Path, plan: UnitPlan, pixels: torch.Tensor, *, classes: list[int], short: list[int],
              class_names: list, terms: dict, encoding: dict, device: str) -> None:
    """Writes a unit's images, then the record that makes it finished.

    Args: pixels: (N, 3, H, W) uint8, one image of each of `classes`;  short: classes left out;
          terms: the last iteration's;  encoding: image_format, jpeg_quality.
    """
    files = {}
    for k, image in zip(classes, pixels, strict=True):
        path = image_path(class_names[k], plan.ipc_id, encoding["image_format"])
        content = encode_image(image, **encoding)
        write_atomically(run / path, lambda file, content=content: file.write(content))
        files[path] = sha256_bytes(content)
    write_json(unit_path(run, plan.ipc_id, plan.chunk), {
        "ipc_id": plan.ipc_id, "chunk": plan.chunk, "iterations": plan.iterations,
        "primary": _count(draw.primary for draw in plan.teachers),
        "aligned": _count(name for draw in plan.teachers for name in draw.aligned),
        "short_classes": [class_names[k] for k in short], "final": terms, "files": files,
        "device": device, "versions": versions()})


def _count(names) -> dict[str, int]:
    """name -> iterations in which it was drawn."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


def predicted_bytes(num_images: int, *, size: int, image_format: str, jpeg_quality: int) -> int:
    """Expected size of the images on disk: PNG of noisy images is near raw; JPEG 0.26 to 1.3 bytes a pixel.

    Source: ecosystem.md 6F measured 10 to 13 kB at 224 px, quality 75, and up to 65 kB at quality 95.
    """
    per_pixel = 3.0 if image_format == "png" else 0.3 if jpeg_quality <= 75 else 1.3
    return int(num_images * size * size * per_pixel)


def describe_plan(groups, mine, *, run: Path, num_classes: int, plans, needed: int,
                  rate: float | None) -> str:
    """The text of --dry-run: units, iterations, teachers, bytes, and time where a measured rate is known.

    Args: plans: one plan an IPC index of chunk 0;  rate: seconds per iteration of an earlier unit here.
    """
    todo = [unit for group in mine for unit in group if not unit_path(run, *unit).is_file()]
    iterations = {plan.ipc_id: plan.iterations for plan in plans}
    total = sum(iterations[ipc_id] for ipc_id, _ in todo)
    lines = [f"run           {run}",
             f"images        {len(plans) * num_classes} ({len(plans)} IPC indices x {num_classes} classes), "
             f"about {readable(needed)}",
             f"units         {sum(map(len, groups))} in all, {sum(map(len, mine))} of this shard, "
             f"{len(todo)} to do",
             f"iterations    {total} to do"]
    for plan in plans:
        draws = sorted({(draw.primary, draw.aligned) for draw in plan.teachers})
        shown = "; ".join(f"{phi} <- {' + '.join(aligned)}" for phi, aligned in draws[:2])
        lines.append(f"  index {plan.ipc_id:<4}  {plan.iterations} iterations, "
                     + (shown if len(draws) < 3 else f"{len(draws)} different draws, such as {shown}"))
    lines.append("time          " + (
        f"{readable_time(rate * total)} at the {rate:.3f} s per iteration measured here" if rate
        else "unknown until a unit has run here"))
    return "\n".join(lines)


def say_finished(run: Path, num_made: int) -> None:
    """Assembles the manifest, if the run has a complete index, and says what there is now."""
    try:
        manifest = assemble_manifest(run)
    except FileNotFoundError:
        say(f"{run}: {num_made} groups of units made now; no IPC index is complete yet (other shards?)")
        return
    num = sum(len(unit["files"]) for unit in manifest["units"])
    say(f"{run}: {num_made} groups of units made now; IPC {manifest['ipc']} is complete ({num} images)")
