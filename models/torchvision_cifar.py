"""Small-image stems for torchvision's networks: a 3x3 first convolution of stride 1 and no first pooling.

Source: SRe2L's CIFAR and Tiny-ImageNet networks (baselines.md 13 and 14), applied to each family.
"""
from typing import Any

from torch import nn


def _unstrided(conv: nn.Conv2d) -> nn.Conv2d:
    """A 3x3, stride 1 convolution with the channels and bias of `conv`."""
    return nn.Conv2d(conv.in_channels, conv.out_channels, 3, 1, 1, bias=conv.bias is not None)


def small_stem(model: Any) -> nn.Module:
    """Replaces the stem of a torchvision network of a family named here.

    Raises: ValueError for a network whose stem is unknown here.
    """
    family = type(model).__name__
    if family in ("ResNet",):
        model.conv1, model.maxpool = _unstrided(model.conv1), nn.Identity()
    elif family == "ShuffleNetV2":
        model.conv1[0], model.maxpool = _unstrided(model.conv1[0]), nn.Identity()
    elif family in ("MobileNetV2", "EfficientNet"):
        model.features[0][0] = _unstrided(model.features[0][0])
    elif family == "MNASNet":
        model.layers[0] = _unstrided(model.layers[0])
    elif family == "DenseNet":
        model.features.conv0, model.features.pool0 = _unstrided(model.features.conv0), nn.Identity()
    elif family == "AlexNet":
        model.features[0], model.features[2] = _unstrided(model.features[0]), nn.Identity()
    else:
        raise ValueError(f"{family} has no small-image stem here; use --stem imagenet, or another network")
    return model
