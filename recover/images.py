"""A finished unit as files: images encoded and written, then the record that makes the unit finished."""
import io
from collections import Counter
from pathlib import Path

import torch
from PIL import Image

from recover.units import UnitPlan
from utils.augment import denormalize
from utils.files import sha256_bytes, write_atomically, write_json
from utils.formats import assemble_manifest, image_path
from utils.runtime import say, versions


def encode_image(pixels: torch.Tensor, *, image_format: str, jpeg_quality: int) -> bytes:
    """(3, H, W) uint8 as a file's bytes: PNG, or JPEG with Pillow's 4:2:0.   Source: published recipe."""
    file, picture = io.BytesIO(), Image.fromarray(pixels.permute(1, 2, 0).numpy())
    if image_format == "png":
        picture.save(file, "PNG")
    else:
        picture.save(file, "JPEG", quality=jpeg_quality)
    return file.getvalue()


def to_uint8(images: torch.Tensor, *, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Normalised images as uint8, truncated as the published recipe does.

    A thousandth of a grey level is added first, so that float rounding does not darken an unchanged pixel.
    """
    return (denormalize(images.cpu(), mean, std) + 1e-3).clamp(0, 255).to(torch.uint8)


def save_unit(run: Path, plan: UnitPlan, pixels: torch.Tensor, *, class_names: list[str],
              terms: dict[str, float], image_format: str, jpeg_quality: int, device: str) -> None:
    """Writes a unit's images, then its record.

    Args: pixels: (N, 3, H, W) uint8, one image a member;  terms: the last iteration's.
    """
    unit, files = plan.unit, {}
    for (ipc_id, k), image in zip(unit.members, pixels, strict=True):
        path = image_path(class_names[k], ipc_id, image_format)
        content = encode_image(image, image_format=image_format, jpeg_quality=jpeg_quality)
        write_atomically(run / path, lambda file, content=content: file.write(content))
        files[path] = sha256_bytes(content)
    write_json(unit.record(run), {
        "ipc_id": unit.ipc_id, "chunk": unit.chunk, "iterations": plan.iterations,
        "primary": Counter(name for draw in plan.draws for name in draw.ce),
        "aligned": Counter(name for draw in plan.draws for name in draw.align),
        "short_classes": [class_names[k] for k in unit.short], "final": terms, "files": files,
        "device": device, "versions": versions()})


def predicted_bytes(num_images: int, *, size: int, image_format: str, jpeg_quality: int) -> int:
    """Expected size of the images on disk: PNG of noisy images is near raw; JPEG 0.26 to 1.3 bytes a pixel.

    Source: ecosystem.md 6F measured 10 to 13 kB at 224 px, quality 75, and up to 65 kB at quality 95.
    """
    per_pixel = 3.0 if image_format == "png" else 0.3 if jpeg_quality <= 75 else 1.3
    return int(num_images * size * size * per_pixel)


def say_finished(run: Path, num_made: int) -> None:
    """Assembles the manifest, if the run has a complete index, and says what there is now."""
    try:
        manifest = assemble_manifest(run)
    except FileNotFoundError:
        say(f"{run}: {num_made} groups of units made now; no IPC index is complete yet (other shards?)")
        return
    say(f"{run}: {num_made} groups of units made now; IPC {manifest.ipc} is complete "
        f"({len(manifest.entries)} images)")
