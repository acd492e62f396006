"""What costs count, against networks whose multiply-adds are written out by hand."""
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from recover.alignments import Statistics
from recover.alignments.convolution import Convolution
from recover.perturbation import Directed
from recover.selection import Draw, Pool
from recover.starts.centre_margin import CentreMargin
from recover.starts.mosaic import Mosaic
from scripts.reproducing.costs import count_cost, count_images, model_flops, network_flops, networks_run
from scripts.reproducing.plans import BY_KEY, STAGES, plan_row

SIZE, CLASSES = 16, 10


class Separable(nn.Module):
    """A plain convolution, a grouped, a depthwise and a transposed one, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 12, 5, padding=2, groups=4), nn.ReLU(),
            nn.Conv2d(12, 12, 3, stride=2, padding=1, groups=12), nn.ReLU(),
            nn.ConvTranspose2d(12, 6, 2, stride=2, groups=3))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def test_flops_are_two_a_multiply_add_of_each_layer():
    """Forward: outputs x (inputs a group x kernel).  The gradient of a layer's input, and that of its weight,
    each hold the same products: one for every pair of an output and a weight that meet."""
    with torch.device("meta"):
        model = Separable()
    first = 8 * 8**2 * 3 * 9
    others = (12 * 8**2 * (8 // 4) * 25       # grouped: an output sees 2 of 8 channels
              + 12 * 4**2 * 1 * 9             # depthwise: its own channel alone
              + 12 * 4**2 * (6 // 3) * 4      # transposed: every input meets 2 channels x 2 x 2 weights
              + 6 * CLASSES)
    forward = 2 * (first + others)
    assert model_flops(model, size=SIZE, kind="forward") == forward
    assert model_flops(model, size=SIZE, kind="input") == 2 * forward    # down to the image
    assert model_flops(model, size=SIZE, kind="train") == 3 * forward - 2 * first  # the image needs none


@pytest.mark.parametrize("name, train", [  # FLOPs an image, of multiply-adds in billions
    ("mobilenet_v2", 1.8e9), ("efficientnet_b0", 2.3e9), ("convnext_tiny", 26.7e9),
    ("shufflenet_v2_x0_5", 0.23e9)])
def test_a_student_with_grouped_convolutions_costs_three_forwards_but_for_the_first_layers_input(name, train):
    about = {"num_classes": 1000, "size": 224, "stem": "imagenet"}
    forward, counted = (network_flops(name, kind=kind, **about) for kind in ("forward", "train"))
    assert 2.75 * forward < counted < 3 * forward and counted == pytest.approx(train, rel=0.02)


def test_recover_runs_what_has_a_cross_entropy_or_a_batchnorm():
    pool = Pool(("narrow_resnet", "narrow_alexnet", "narrow_plain"), "small")
    assert networks_run(Draw({"narrow_resnet": 1.0}, {"narrow_resnet": 0.5, "narrow_alexnet": 0.5}), pool) \
        == ["narrow_resnet"]
    assert networks_run(Draw({"narrow_alexnet": 1.0}, {"narrow_plain": 0.5, "narrow_alexnet": 0.5}), pool) \
        == ["narrow_alexnet", "narrow_plain"]


@pytest.mark.parametrize("every, evaluated", [(1, 30), (10, 4), (29, 2), (100, 2)])
def test_evaluations_are_those_of_every_so_many_epochs_and_of_the_last(every, evaluated):
    own = plan_row(BY_KEY["2/real"], dataset="digits", origin="chain", out=Path("out"),
                   places=dict.fromkeys(STAGES, {}))
    own = dataclasses.replace(own, validate=dataclasses.replace(own.validate, eval_every=every))
    about = {"num_classes": 10, "size": 16, "stem": "small"}
    train, forward = (network_flops("narrow_resnet", kind=kind, **about) for kind in ("train", "forward"))
    assert count_cost(own, "digits").validate_flops == 3 * (30 * 100 * train + evaluated * 450 * forward)


def recover_flops(key: str, **settings) -> float:
    """Of a row on digits, with other settings of recover."""
    own = plan_row(BY_KEY[key], dataset="digits", origin="chain", out=Path("out"),
                   places=dict.fromkeys(STAGES, {}))
    return count_cost(dataclasses.replace(own, recover=dataclasses.replace(own.recover, **settings)),
                      "digits").recover_flops


def test_choosing_starts_costs_a_forward_of_every_image_looked_at(tmp_path):
    """Of digits' 1347, or of what lies in the folder; a mosaic's of five crops of 300 photographs a class."""
    forward = {name: network_flops(name, num_classes=10, size=16, stem="small", kind="forward")
               for name in ("narrow_resnet", "narrow_plain")}  # the pool's first
    first, second = forward.values()
    assert recover_flops("2/real") == 0
    assert recover_flops("2/real", init=CentreMargin()) == 1347 * first
    assert recover_flops("2/real", init=Mosaic(observers=2)) == 5 * 1347 * (first + second)  # all are used
    assert recover_flops("2/real", init=Mosaic(candidates=100)) == 5 * 1000 * first
    assert count_images("imagenet-1k", str(tmp_path), "train") == 1281167
    assert count_images("cifar10", str(tmp_path / "not-yet"), "val") == 10000


def test_statistics_and_perturbed_networks_cost_what_they_compute():
    """Of one network: a forward of each real image;  three gradients of the weights for 100 images."""
    about, key = {"num_classes": 10, "size": 16, "stem": "small"}, "1/sre2l-r18-10"
    forward, train = (network_flops("narrow_resnet", kind=kind, **about) for kind in ("forward", "train"))
    plain = recover_flops(key)
    assert recover_flops(key, alignment=Convolution()) - plain == 1347 * forward
    assert recover_flops(key, alignment=Statistics(real_images=500)) - plain == 500 * forward
    assert recover_flops(key, alignment=Statistics(real_images=0)) - plain == 1347 * forward
    assert recover_flops("2/real", alignment=Convolution()) == 0  # no iteration, nothing to align
    assert recover_flops(key, perturbation=Directed(ascents=3)) - plain == 3 * 100 * train
