"""Ways to damage a file: any, a JSON file key by key, tensors, pictures, and a data set's class names."""
import dataclasses
import io
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image


@dataclasses.dataclass(frozen=True)
class Damage:
    """apply(path) does it.

    readable: what is left is a whole file of its kind, with other content;
    information: of a JSON value that says where something came from, which nothing is computed from.
    """

    name: str
    apply: Callable[[Path], object]
    readable: bool = False
    information: bool = False


def put(path: Path, content: bytes) -> None:
    """Replaces a file, not what it links to."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def of_any(outside: Path) -> Iterator[Damage]:
    """What can happen to every file.   outside: a folder to link to."""
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) * 3 // 5] ^= 4
        put(path, bytes(content))

    def truncate(path: Path) -> None:
        put(path, path.read_bytes()[:path.stat().st_size // 2])

    def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
        def apply(path: Path) -> None:
            path.unlink()
            make(path)
        return apply

    def link(path: Path) -> None:
        target = outside / f"linked {path.name}"
        target.write_bytes(path.read_bytes())
        path.unlink()
        path.symlink_to(target)

    yield Damage("missing", lambda path: path.unlink())
    yield Damage("empty", lambda path: put(path, b""))
    yield Damage("truncated", truncate)
    yield Damage("a flipped bit", flip)
    yield Damage("zeros", lambda path: put(path, bytes(path.stat().st_size)))
    yield Damage("not UTF-8", lambda path: put(path, b'{"\xff\xfe": 1}'))
    yield Damage("a folder in its place", instead(Path.mkdir))
    yield Damage("a fifo in its place", instead(os.mkfifo))
    yield Damage("a link to nothing", instead(lambda path: path.symlink_to("nothing")))
    yield Damage("a link to itself", instead(lambda path: path.symlink_to(path.name)))
    yield Damage("a link to an equal file outside", link)


# ---------------------------------------------------------------- JSON

INFORMATION = {"recipe", "versions", "final", "aligned", "primary", "device", "protocol", "floor", "images",
               "labels", "labels_protocol", "row", "iterations", "name", "images_config", "labels_config"}
READ = {"dataset", "size", "mean", "std", "stem", "arch_name"}  # what other stages read of recover's config
WRONG: dict[type, tuple[Any, ...]] = {
    str: (None, 3, [], {}, "../../outside/precious.txt"), bool: (None, "x", [], 2), dict: (None, [], "x", 7),
    int: (None, "x", [], {}, -1, 10**30, float("nan"), 0.5), list: (None, {}, "x", 7, [None], []),
    float: (None, "x", [], {}, float("nan"), float("inf"), 1e308, -1e308), type(None): ("x", [], {}, -1)}
TEXTS = {"[]": b"[]", "null": b"null", "{}": b"{}", "a string": b'"x"', "a number": b"1e999", "NaN": b"NaN",
         "100000 brackets": b"[" * 100000, "a mark of order": b"\xef\xbb\xbf{}",
         "half an escape": b'{"a": "\\ud800"}', "10000 digits": b'{"version": 1' + b"0" * 10000 + b"}"}


def of_json(path: Path) -> Iterator[Damage]:
    """Every damage of this JSON file: other texts; each key gone, and with values of other kinds."""
    for name, text in TEXTS.items():
        yield Damage(name, lambda path, text=text: put(path, text))
    value = json.loads(path.read_text())
    for keys, there in _places(value):
        about = bool(INFORMATION.intersection(keys)) or keys[0] == "config" and len(keys) > 1 and (
            path.name == "result.json" or path.parent.name == "run" and keys[1] not in READ)
        yield Damage(f"without {'.'.join(map(str, keys))}", lambda path, keys=keys: _edit(path, keys),
                     information=about)
        for wrong in WRONG[type(there)]:
            if not (isinstance(there, int) and wrong == there):
                yield Damage(f"{'.'.join(map(str, keys))} is {json.dumps(wrong)[:20]}",
                             lambda path, keys=keys, wrong=wrong: _edit(path, keys, wrong), information=about)
    if "version" in value:
        yield Damage("version 99", lambda path: _edit(path, ("version",), 99))
    for name in value.get("files", {}):
        for other in ("../../outside/precious.txt", "/etc/hostname", "x", "syn/zebra/zebra_ipc0000.png",
                      "syn/bee/../../../../outside/precious.txt", "syn/bee/bee.png", "", "syn/bee/\0.png"):
            yield Damage(f"a path {other!r}", lambda path, name=name, other=other: _rename(path, name, other))
    if "files" in value:
        yield Damage("twice", lambda path: put(path.with_name("ipc0000_chunk77.json"), path.read_bytes()))


def _places(value: Any, keys: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Every place in a JSON value: the keys to it, and what is there; of lists the first item."""
    items = value.items() if isinstance(value, dict) else list(enumerate(value))[:1]
    for key, inner in items:
        yield (*keys, key), inner
        if isinstance(inner, (dict, list)) and len(keys) < 3:
            yield from _places(inner, (*keys, key))


def _edit(path: Path, keys: tuple, *new: Any) -> None:
    value = json.loads(path.read_text())
    inner = value
    for key in keys[:-1]:
        inner = inner[key]
    if new:
        inner[keys[-1]] = new[0]
    else:
        del inner[keys[-1]]
    put(path, json.dumps(value, indent=1, sort_keys=True).encode() + b"\n")


def _rename(path: Path, name: str, other: str) -> None:
    value = json.loads(path.read_text())
    value["files"][other] = value["files"].pop(name)
    put(path, json.dumps(value).encode())


# ---------------------------------------------------------------- tensors

class _Code:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


def of_weights(marker: Path) -> Iterator[Damage]:
    """Of everything that torch.load reads.   marker: a file that a pickle with code would write."""
    yield Damage("a pickle with code", lambda path: put(path, pickle.dumps(_Code(marker))))
    yield Damage("an archive with code", lambda path: _save(path, {"state": _Code(marker)}))
    yield Damage("a list", lambda path: _save(path, [torch.zeros(2)]))
    yield Damage("no tensors", lambda path: _save(path, {}))
    yield Damage("a number", lambda path: _save(path, 3))


def _save(path: Path, value: Any) -> None:
    content = io.BytesIO()
    torch.save(value, content)
    put(path, content.getvalue())


def of_tensors(path: Path, digest: int = 0) -> Iterator[Damage]:
    """Every tensor and number of this file gone, of another kind or shape, or of impossible values.

    Args: digest: bytes before the archive, which stay as they are.
    """
    for keys, there in _entries(_load(path, digest)):
        edits: dict[str, Any] = {"gone": None, "is 'x'": lambda old: "x"}
        if isinstance(there, torch.Tensor):
            edits |= {"a row less": lambda old: old[:-1] if old.dim() else old[None],
                      "flat": lambda old: old.flatten()[None, None], "none": lambda old: old.flatten()[:0],
                      "as float64": lambda old: old.double(), "as uint8": lambda old: old.to(torch.uint8)}
            fills = (float("nan"), float("inf"), -6e4, 2.0) if there.is_floating_point() else (-1, 30000, 0)
            if there.dtype is not torch.bool and there.dtype is not torch.uint8:
                edits |= {f"all {fill}": lambda old, fill=fill: torch.full_like(old, fill) for fill in fills}
        elif isinstance(there, (int, float)):
            edits |= {f"is {new}": lambda old, new=new: new for new in (-1, 10**9, float("nan"), None)}
        for name, edit in edits.items():
            yield Damage(f"{'.'.join(map(str, keys))} {name}",
                         lambda path, keys=keys, edit=edit: _change(path, keys, edit, digest))
    yield Damage("one more", lambda path: _change(path, ("more",), lambda old: torch.zeros(2), digest))


def _entries(value: Any, keys: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    for key, inner in items if len(items) < 12 else (items[0], items[len(items) // 2], items[-1]):
        yield (*keys, key), inner
        if isinstance(inner, (dict, list, tuple)) and len(keys) < 3:
            yield from _entries(inner, (*keys, key))


def _load(path: Path, digest: int) -> Any:
    return torch.load(io.BytesIO(path.read_bytes()[digest:]), weights_only=True)


def _change(path: Path, keys: tuple, edit: Callable[[Any], Any] | None, digest: int) -> None:
    before = path.read_bytes()[:digest]

    def changed(inner: Any, left: tuple) -> Any:
        if not left:
            return edit(inner)
        items = dict(inner) if isinstance(inner, dict) else dict(enumerate(inner))
        if edit is None and len(left) == 1:
            del items[left[0]]
        else:
            items[left[0]] = changed(items.get(left[0]), left[1:])
        return items if isinstance(inner, dict) else type(inner)(items.values())
    _save(path, changed(_load(path, digest), keys))
    put(path, before + path.read_bytes())


# ---------------------------------------------------------------- pictures

def of_pictures() -> Iterator[Damage]:
    """Files that are no picture that we mean, or a huge one; and whole pictures of other kinds."""
    def write(form: str, mode: str = "RGB", size=(16, 16), **settings) -> Callable[[Path], None]:
        def apply(path: Path) -> None:
            file, grey = io.BytesIO(), numpy.arange(size[0] * size[1], dtype=numpy.uint32).reshape(size[::-1])
            picture = Image.fromarray(grey.astype(numpy.uint16)) if mode == "I;16" \
                else Image.fromarray((grey % 251).astype(numpy.uint8)).convert(mode)
            picture.save(file, form, **settings)
            put(path, file.getvalue())
        return apply

    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n"
    yield Damage("EPS, for which Pillow would start gs", lambda path: put(path, eps))
    yield Damage("a text", lambda path: put(path, b"hello, I am no picture" * 9))
    yield Damage("a header of 60000 x 60000", lambda path: put(path, _png(60000, 60000)))
    yield Damage("a header of 2^31-1", lambda path: put(path, _png(2**31 - 1, 2**31 - 1)))
    yield Damage("1 x 60000", write("PNG", "L", (1, 60000)), readable=True)
    yield Damage("60000 x 1", write("PNG", "L", (60000, 1)), readable=True)
    yield Damage("a text chunk of 200 MB", lambda path: put(path, _png(16, 16, text=200_000_000)))
    for name, form, mode in (("PDF", "PDF", "RGB"), ("SGI", "SGI", "RGB"), ("TGA", "TGA", "RGB"),
                             ("ICNS", "ICNS", "RGB"), ("PCX", "PCX", "RGB")):
        yield Damage(f"{name}, named as it was", write(form, mode), readable=True)
    for name, form, mode in (("RGBA", "PNG", "RGBA"), ("a palette", "GIF", "P"), ("16 bits", "PNG", "I;16"),
                             ("CMYK", "JPEG", "CMYK"), ("one bit", "PNG", "1"), ("TIFF", "TIFF", "RGB")):
        yield Damage(f"{name}, whole", write(form, mode), readable=True)


def _png(width: int, height: int, *, text: int = 0) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    more = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(text))) if text else b""
    pixels = chunk(b"IDAT", zlib.compress(bytes(17 * 16)))
    return b"\x89PNG\r\n\x1a\n" + header + more + pixels + chunk(b"IEND", b"")


# ---------------------------------------------------------------- class names

HOSTILE = ("../../../../outside/escaped", "/tmp/escaped-by-class", "..", ".", "a/b", "a\0b", "")
STRANGE = ("b" * 240, ".hidden", "two words", "new\nline", os.fsdecode(b"b\xe9e"), "ü", "syn", "-x", "%s",
           "b_ipc0001")


def of_class_names() -> Iterator[Damage]:
    """Of data/: lists of hostile classes as Tiny-ImageNet's, class folders of strange names."""
    def listed(text: bytes) -> Callable[[Path], None]:
        def apply(data: Path) -> None:
            for split in ("train", "val"):
                (data / split / "images").mkdir()
                for source in sorted((data / "train" / "bee").iterdir()):
                    (data / split / "images" / source.name).write_bytes(source.read_bytes())
                (data / split / "val_annotations.txt").write_bytes(text)
        return apply

    def renamed(name: str) -> Callable[[Path], None]:
        def apply(data: Path) -> None:
            for split in ("train", "val"):
                (data / split / "bee").rename(data / split / name)
        return apply
    for name in HOSTILE:
        rows = [(f"0{i}.png", name if i % 2 else "bee") for i in range(6)]
        yield Damage(f"a list with class {name!r}", listed("".join(f"{a}\t{b}\n" for a, b in rows).encode()))
    lists = {"without tabs": b"00.png bee\n", "not UTF-8": b"00.png\t\xff\n", "empty": b"",
             "of a missing file": b"99.png\tbee\n00.png\tcat\n", "of outside": b"../../../outside/x\tb\n"}
    for name, text in lists.items():
        yield Damage(f"a list {name}", listed(text))
    for name in STRANGE:
        yield Damage(f"a class folder {name[:20]!r}", renamed(name), readable=True)
