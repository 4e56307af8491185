"""ResNet-12 as the DTMM paper uses it: a stem, a residual block per stage, a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

WIDTHS = (32, 64, 128, 256)


class ConvNorm(nn.Module):
    """Convolution without bias, then batch normalization."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(self.conv(x))
        return y


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: the identity, or a strided 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, 3, stride)
        self.second = ConvNorm(outputs, outputs, 3)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else ConvNorm(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class ResNet(nn.Module):
    """Stem of widths[0] channels, then a block per width.

    Every stage but the first halves the image. Input [N, in_channels, H, W], output logits
    [N, classes].
    """

    def __init__(self, in_channels: int, classes: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.stem = ConvNorm(in_channels, widths[0], 3)
        blocks = [Block(widths[0], widths[0], 1)]
        blocks += [Block(inputs, outputs, 2) for inputs, outputs in pairwise(widths)]
        self.stages = nn.Sequential(*blocks)
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stages(F.relu(self.stem(x)))
        logits: torch.Tensor = self.classifier(x.mean((2, 3)))
        return logits
