"""Image files: which are read, how they are decoded and encoded, what folders of them may be called."""
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import torch
import torchvision.transforms.functional as TF
from PIL import Image

from utils.pieces import require

# What is read, by the end of a file's name.  Pillow looks at the bytes, and has formats that start programs.
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".webp": "WEBP", ".ppm": "PPM",
           ".tif": "TIFF", ".tiff": "TIFF", ".pgm": "PPM"}
# A larger picture takes over half a gigabyte; a longer one takes it when its short side is resized.
MOST_PIXELS, MOST_LENGTHS = 120_000_000, 100
LONGEST_NAME = 255  # bytes of one name, in every common file system
LONGEST_ENDING = len(".") + len("_ipc9999.jpg") + len(f".{'0' * 32}.tmp")  # around a class name while written


def check_folder_name(name: str, what: str, *, ending: int = 0) -> None:
    """Raises ValueError unless a name is that of a plain folder.

    Args: what: said before the name;  ending: bytes that names of files in it add.
    """
    plain = name and not name.startswith(".") and not set(name) & set("/\\\0")
    require(plain, f"{what} {name!r}: expected the name of a folder, without / and \\ and no dot before it")
    length = len(os.fsencode(name))
    require(length + ending <= LONGEST_NAME, f"{what} {name[:40]!r}...: of {length} bytes, expected at most "
            f"{LONGEST_NAME - ending}, so that file names hold it; rename it")


def open_image(source: str | Path | bytes, *, name: str | Path = "image") -> Image.Image:
    """Opens one file and reads its header alone.   Args: name: what bytes are called in an error.

    Raises: FileNotFoundError, or ValueError naming the file, its size and the limit when it is none of
            FORMATS or too large.
    """
    name = name if isinstance(source, bytes) else source
    if not isinstance(source, bytes) and not Path(source).is_file():
        if Path(source).exists():
            raise ValueError(f"{name}: not a file; replace or delete it")
        why = "a broken link" if Path(source).is_symlink() else "no such file"
        raise FileNotFoundError(f"{name}: {why}; replace or delete it")
    try:
        picture = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source,
                             formats=tuple(dict.fromkeys(FORMATS.values())))
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise _unreadable(name, error) from error
    short, long = sorted(picture.size)
    if not (short * long <= MOST_PIXELS and long <= MOST_LENGTHS * short):
        picture.close()
        raise ValueError(f"{name}: {picture.width} x {picture.height} pixels, expected at most "
                         f"{MOST_PIXELS:,}, and a side at most {MOST_LENGTHS} times the other; make it "
                         f"smaller or delete it")
    return picture


def _unreadable(name: str | Path, error: Exception) -> ValueError:
    if isinstance(error, OSError) and error.errno:  # the system's: the file itself may be whole
        return ValueError(f"{name}: cannot be read ({error.strerror}); mend its permissions or its disk")
    return ValueError(f"{name}: not a readable image ({error or type(error).__name__}); replace or delete it")


def decode_image(source: str | Path | bytes, *, name: str | Path = "image") -> Image.Image:
    """Decodes one file to an RGB picture: grey, palette and CMYK converted, alpha dropped, EXIF ignored.

    16-bit grey is scaled to 8 bits; Pillow's own conversion clips it.   Source: torchvision's ImageFolder.
    Args:   source: a path, or the file's bytes;  name: what these are called in an error.
    Raises: as `open_image`, and ValueError naming the file when it is no whole image.
    """
    with open_image(source, name=name) as picture:
        try:
            picture.load()
            if picture.mode.startswith("I"):
                grey = numpy.asarray(picture, dtype=numpy.int64)
                return Image.fromarray((grey // 257).clip(0, 255).astype(numpy.uint8)).convert("RGB")
            return picture.convert("RGB")
        except Exception as error:
            raise _unreadable(name if isinstance(source, bytes) else source, error) from error


def check_readable(paths: Iterable[Path]) -> None:
    """Opens files without decoding them.   Raises: as `open_image`, of the first that is no image."""
    def check(path: Path) -> None:
        open_image(path).close()
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(check, paths):
            pass


def encode_image(pixels: torch.Tensor, *, image_format: str, jpeg_quality: int) -> bytes:
    """(3, H, W) uint8 as a file's bytes: PNG, or JPEG with Pillow's 4:2:0.   Source: published recipe."""
    file, picture = io.BytesIO(), Image.fromarray(pixels.permute(1, 2, 0).numpy())
    if image_format == "png":
        picture.save(file, "PNG")
    else:
        picture.save(file, "JPEG", quality=jpeg_quality)
    return file.getvalue()


def predicted_bytes(num_images: int, *, size: int, image_format: str, jpeg_quality: int) -> int:
    """Expected size of the images on disk: PNG of noisy images is near raw; JPEG 0.26 to 1.3 bytes a pixel.

    Source: ecosystem.md 6F measured 10 to 13 kB at 224 px, quality 75, and up to 65 kB at quality 95.
    """
    per_pixel = 3.0 if image_format == "png" else 0.3 if jpeg_quality <= 75 else 1.3
    return int(num_images * size * size * per_pixel)


def resize_and_crop(picture: Image.Image, size: int) -> torch.Tensor:
    """Short side to size // 7 * 8, centre crop to size: (3, size, size) uint8.   Source: prism.md 1 and 3.

    256 and 224 for ImageNet, 72 and 64 for Tiny-ImageNet, 32 and 32 for CIFAR.
    """
    picture = TF.center_crop(TF.resize(picture, max(size, size // 7 * 8), antialias=True), [size, size])
    return TF.pil_to_tensor(picture)
