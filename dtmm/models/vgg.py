"""VGG-11 as the DTMM paper uses it: ten 3x3 convolutions in four stages, one fully connected."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from dtmm.models.resnet import ConvNorm

STAGES = ((32, 32), (64, 64), (128, 128, 128), (256, 256, 256))


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each stage ended by 2x2 max pooling, then a classifier.

    Input [N, in_channels, size, size] with size a multiple of 2 ** len(stages), output logits
    [N, classes]. The classifier reads the flattened last image, as in the authors' code.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        size: int = 32,
        stages: Sequence[Sequence[int]] = STAGES,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = in_channels
        for widths in stages:
            layers: list[nn.Module] = []
            for width in widths:
                layers += [ConvNorm(channels, width, 3), nn.ReLU()]
                channels = width
            blocks.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        self.stages = nn.Sequential(*blocks)
        side = size // 2 ** len(stages)
        self.classifier = nn.Linear(channels * side * side, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(torch.flatten(self.stages(x), 1))
        return logits
