"""SqueezeNet 1.1 (Iandola et al., arXiv 1602.07360) for small images, with batch normalization."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from dtmm.models.resnet import ConvNorm

FIRES = ((16, 64), (16, 64)), ((32, 128), (32, 128)), ((48, 192), (48, 192), (64, 256), (64, 256))
"""(squeezed, expanded) channels of each fire module; a 2x2 max pool stands before each tuple."""


class Fire(nn.Module):
    """A 1x1 convolution to few channels, then 1x1 and 3x3 convolutions of them, concatenated."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = ConvNorm(inputs, squeezed, 1)
        self.expand1 = ConvNorm(squeezed, expanded, 1)
        self.expand3 = ConvNorm(squeezed, expanded, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat((F.relu(self.expand1(x)), F.relu(self.expand3(x))), 1)


class SqueezeNet(nn.Module):
    """Input [N, in_channels, H, W] with H and W multiples of 8, output logits [N, classes].

    The stem has stride 1 (2 for ImageNet), and the classifier is a fully connected layer behind
    the global average instead of a 1x1 convolution before it, which computes the same.
    """

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.stem = ConvNorm(in_channels, 64, 3)
        blocks: list[nn.Module] = []
        channels = 64
        for fires in FIRES:
            blocks.append(nn.MaxPool2d(2))
            for squeezed, expanded in fires:
                blocks.append(Fire(channels, squeezed, expanded))
                channels = 2 * expanded
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(F.relu(self.stem(x)))
        logits: torch.Tensor = self.classifier(x.mean((2, 3)))
        return logits
