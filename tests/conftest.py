"""Fixtures that several test files share: tiny teachers, generators, folders of pictures."""
import os
import random

import numpy
import pytest
import torch
from PIL import Image
from torch import nn

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start: one beside each worker


def pytest_collection_modifyitems(items):
    """Skips what is marked `cuda` where there is no such device."""
    for item in () if torch.cuda.is_available() else items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture(autouse=True)
def one_thread():
    """Nets of a few pixels: waking a second thread takes longer than the work."""
    torch.set_num_threads(1)


@pytest.fixture
def gen() -> torch.Generator:
    """A CPU generator with a fixed seed."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def tiny_teacher():
    """f(seed, bn=True): a flat, frozen Sequential in eval mode for (N, 3, H, W), with 7 classes.

    Flat, so that a test can walk its layers by hand; its running statistics are far from a batch's.
    """
    def make(seed: int, *, bn: bool = True) -> nn.Sequential:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
                      nn.Conv2d(4, 5, 3, stride=2), nn.BatchNorm2d(5), nn.ReLU(),
                      nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 7)]
            model = nn.Sequential(*(layer for layer in layers if bn or not isinstance(layer, nn.BatchNorm2d)))
            for layer in model:
                if isinstance(layer, nn.BatchNorm2d):
                    for tensor in (layer.weight, layer.bias, layer.running_mean):
                        nn.init.normal_(tensor)
                    nn.init.uniform_(layer.running_var, 0.5, 2)
        return model.eval().requires_grad_(False)
    return make


@pytest.fixture
def image_folder():
    """f(folder, {class name: number}): writes 12 x 10 PNGs, image i of class k all of grey 20 k + i."""
    def make(folder, counts: dict[str, int]) -> None:
        for k, (name, num) in enumerate(counts.items()):
            (folder / name).mkdir(parents=True)
            for i in random.Random(0).sample(range(num), num):  # a directory's order is not the files'
                grey = numpy.full((10, 12, 3), 20 * k + i, numpy.uint8)
                Image.fromarray(grey).save(folder / name / f"{i:03d}.png")
    return make
