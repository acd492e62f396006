"""CIFAR-10: torchvision's own format on made-up files, and a JPEG copy of the real one where there is one."""
import hashlib
import pickle
import tarfile
from pathlib import Path

import numpy
import pytest
import torchvision

from utils.data import RealSet
from utils.pictures import decode_image

ARCHIVE = Path(__file__).parents[2] / "shared" / "data" / "cifar10-jpeg.tar.xz"


def test_torchvisions_own_files_are_read(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = sorted(["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"])

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    pixels = numpy.arange(10 * 3072, dtype=numpy.int64).reshape(10, 3072).astype(numpy.uint8)
    train = write("data_batch_1", {"data": pixels, "labels": list(range(10))})
    test = write("test_batch", {"data": pixels[::-1].copy(), "labels": list(range(9, -1, -1))})
    meta = write("batches.meta", {"label_names": names})
    cls = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cls, "train_list", [train])
    monkeypatch.setattr(cls, "test_list", [test])
    monkeypatch.setattr(cls, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    real = RealSet("cifar10", str(tmp_path), "train", size=32)
    assert real.class_names == names and real.labels == list(range(10))
    assert (real[3][0].numpy() == pixels[3].reshape(3, 32, 32)).all()
    held_out = RealSet("cifar10", str(tmp_path), "val", size=32)
    assert held_out.labels == list(range(9, -1, -1))
    assert (held_out[0][0].numpy() == pixels[9].reshape(3, 32, 32)).all()


@pytest.mark.skipif(not ARCHIVE.is_file(), reason="the JPEG copy of CIFAR-10 is not here")
def test_the_jpeg_copy_is_an_imagefolder_of_cifar10(tmp_path):
    with tarfile.open(ARCHIVE, "r|xz") as archive:
        found = set()
        for member in archive:
            parts = member.name.split("/")
            if member.isfile() and (parts[1], parts[2]) not in found:
                found.add((parts[1], parts[2]))
                target = tmp_path / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.extractfile(member).read())
    for split in ("train", "val"):
        real = RealSet("cifar10", str(tmp_path / "cifar10"), split, size=32)
        assert len(real.class_names) == 10 and real.labels == list(range(10))
        assert real[0][0].shape == (3, 32, 32)
    assert decode_image(next((tmp_path / "cifar10/train/bird").iterdir())).size == (32, 32)
