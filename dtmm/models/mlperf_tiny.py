"""The convolutional networks of MLPerf Tiny (Banbury et al., NeurIPS Datasets 2021), untrained.

ResNet-8 (image classification), DS-CNN (keyword spotting) and MobileNetV1-0.25 (visual wake
words), with the reference implementations' layers and widths. Strided convolutions pad as torch
does, symmetrically; the references pad by TFLite's SAME. The logits are the output.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from dtmm.models.resnet import Block, ConvNorm


class ResNet8(nn.Module):
    """Stem of 16 channels and three residual blocks of 16, 32 and 64. Input 32x32 pixels."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.stem = ConvNorm(in_channels, 16, 3)
        self.stages = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.classifier = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stages(F.relu(self.stem(x)))
        logits: torch.Tensor = self.classifier(x.mean((2, 3)))
        return logits


class Separable(nn.Module):
    """Depthwise 3x3 convolution, then a pointwise one; each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(inputs)
        self.pointwise = ConvNorm(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.pointwise(F.relu(self.depthwise_norm(self.depthwise(x)))))


class DSCNN(nn.Module):
    """A strided 10x4 convolution and four separable ones of 64 channels. Input 49x10 pixels."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 64, (10, 4), 2, (5, 1), bias=False)
        self.norm = nn.BatchNorm2d(64)
        self.blocks = nn.Sequential(*(Separable(64, 64, 1) for _ in range(4)))
        self.classifier = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        logits: torch.Tensor = self.classifier(x.mean((2, 3)))
        return logits


MOBILENET_WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
"""Of MobileNetV1 at multiplier 1: the first convolution's channels, then each block's."""
MOBILENET_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


class MobileNetV1(nn.Module):
    """MobileNetV1 with a width multiplier (Howard et al. 2017); 0.25 and 96x96 pixels here."""

    def __init__(self, in_channels: int, classes: int, multiplier: float = 0.25) -> None:
        super().__init__()
        widths = [int(width * multiplier) for width in MOBILENET_WIDTHS]
        self.stem = ConvNorm(in_channels, widths[0], 3, 2)
        pairs = zip(pairwise(widths), MOBILENET_STRIDES, strict=True)
        self.blocks = nn.Sequential(*(Separable(a, b, stride) for (a, b), stride in pairs))
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(F.relu(self.stem(x)))
        logits: torch.Tensor = self.classifier(x.mean((2, 3)))
        return logits
