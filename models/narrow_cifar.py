"""A narrow family for small images on a CPU: five BatchNorm networks of different design, and one without.

Each takes (N, 3, H, W), H and W from 8 up, and returns (N, K) logits; 20 to 100 thousand parameters.
`stem="imagenet"` strides the first convolution by 4, for 224 pixels.   Source: ours, after the designs named.
"""
import torch
from torch import nn


def _conv_bn(inputs, outputs, kernel=3, stride=1, groups=1, activation=nn.ReLU):
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
              nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([activation()] if activation else []))


def _stem_stride(stem: str) -> int:
    return 4 if stem == "imagenet" else 1


def _head(channels, num_classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


class _Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.body = nn.Sequential(_conv_bn(inputs, outputs, stride=stride),
                                  _conv_bn(outputs, outputs, activation=None))
        self.shortcut = nn.Identity() if stride == 1 and inputs == outputs \
            else _conv_bn(inputs, outputs, 1, stride, activation=None)

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


class _Inverted(nn.Module):
    """Expand, depthwise, optional squeeze-and-excitation, project (Sandler et al. 2018, Tan and Le 2019)."""

    def __init__(self, inputs, outputs, stride, *, expand, activation, squeeze):
        super().__init__()
        hidden = inputs * expand
        self.expand = nn.Sequential(_conv_bn(inputs, hidden, 1, activation=activation),
                                    _conv_bn(hidden, hidden, 3, stride, hidden, activation))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(hidden, hidden // 4, 1), nn.SiLU(),
                                  nn.Conv2d(hidden // 4, hidden, 1), nn.Sigmoid()) if squeeze else None
        self.project = _conv_bn(hidden, outputs, 1, activation=None)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        y = self.expand(x)
        y = self.project(y * self.gate(y) if self.gate is not None else y)
        return x + y if self.residual else y


class _Shuffle(nn.Module):
    """Half the channels through a depthwise branch, then a channel shuffle (Ma et al. 2018)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        half, self.split = outputs // 2, stride == 1
        entering = inputs // 2 if self.split else inputs
        self.branch = nn.Sequential(_conv_bn(entering, half, 1),
                                    _conv_bn(half, half, 3, stride, half, None), _conv_bn(half, half, 1))
        self.other = nn.Identity() if self.split else nn.Sequential(
            _conv_bn(inputs, inputs, 3, stride, inputs, None), _conv_bn(inputs, half, 1))

    def forward(self, x):
        kept, entering = x.chunk(2, 1) if self.split else (x, x)
        y = torch.stack([self.other(kept), self.branch(entering)], 2)
        return y.flatten(1, 2)


def narrow_resnet(num_classes: int, stem: str = "small") -> nn.Module:
    """A ResNet of three blocks, 16 to 64 channels."""
    return nn.Sequential(_conv_bn(3, 16, stride=_stem_stride(stem)), _Residual(16, 16, 1),
                         _Residual(16, 32, 2), _Residual(32, 64, 2), _head(64, num_classes))


def narrow_mobilenet(num_classes: int, stem: str = "small") -> nn.Module:
    """A MobileNetV2 of four inverted residuals, ReLU6."""
    def block(*shape):
        return _Inverted(*shape, expand=4, activation=nn.ReLU6, squeeze=False)
    return nn.Sequential(_conv_bn(3, 16, stride=_stem_stride(stem), activation=nn.ReLU6), block(16, 16, 2),
                         block(16, 32, 1), block(32, 32, 2), block(32, 64, 1), _head(64, num_classes))


def narrow_efficientnet(num_classes: int, stem: str = "small") -> nn.Module:
    """An EfficientNet of three gated inverted residuals, SiLU."""
    def block(*shape):
        return _Inverted(*shape, expand=4, activation=nn.SiLU, squeeze=True)
    return nn.Sequential(_conv_bn(3, 16, stride=_stem_stride(stem), activation=nn.SiLU), block(16, 24, 2),
                         block(24, 24, 1), block(24, 48, 2), _head(48, num_classes))


def narrow_shufflenet(num_classes: int, stem: str = "small") -> nn.Module:
    """A ShuffleNetV2 of two stages."""
    return nn.Sequential(_conv_bn(3, 24, stride=_stem_stride(stem)), _Shuffle(24, 64, 2), _Shuffle(64, 64, 1),
                         _Shuffle(64, 128, 2), _Shuffle(128, 128, 1), _head(128, num_classes))


def narrow_plain(num_classes: int, stem: str = "small") -> nn.Module:
    """A VGG of three convolutions with BatchNorm and max pooling."""
    return nn.Sequential(_conv_bn(3, 24, stride=_stem_stride(stem)), nn.MaxPool2d(2), _conv_bn(24, 48),
                         nn.MaxPool2d(2), _conv_bn(48, 64), _head(64, num_classes))


def narrow_alexnet(num_classes: int, stem: str = "small") -> nn.Module:
    """An AlexNet of three convolutions with biases and no BatchNorm: its R_BN is an empty sum."""
    return nn.Sequential(nn.Conv2d(3, 32, 3, _stem_stride(stem), 1), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(32, 48, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(48, 64, 3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                         nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, num_classes))
