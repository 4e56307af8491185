"""A one-stage detector after Tiny YOLO (Redmon and Farhadi 2017, YOLOv2's small sibling)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from dtmm.detection.grid import BOX
from dtmm.models.resnet import ConvNorm

WIDTHS = (16, 32, 64, 128, 128, 128)
POOLED = 3
"""Convolutions that are followed by 2x2 max pooling, the first ones: 8 pixels to a cell."""
RARE = 0.03
"""About the share of cells with an object, at which objectness starts."""


class TinyYolo(nn.Module):
    """3x3 convolutions, the first POOLED of them with 2x2 max pooling; a 1x1 convolution as head.

    Input [N, in_channels, H, W], outputs [N, 5 + classes, H / 8, W / 8] as `dtmm.detection.grid`
    reads them. Tiny YOLO's widths are an eighth here from the fourth layer on, its last two
    poolings are left out, ReLU stands for leaky ReLU (it costs nothing in int8), and there is one
    anchor: objects are few and about one size.
    """

    def __init__(self, in_channels: int, classes: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for n, (inputs, outputs) in enumerate(pairwise((in_channels, *widths))):
            blocks += [ConvNorm(inputs, outputs, 3), nn.ReLU()]
            blocks += [nn.MaxPool2d(2)] * (n < POOLED)
        self.body = nn.Sequential(*blocks)
        self.head = nn.Conv2d(widths[-1], BOX + classes, 1)
        bias = torch.zeros(BOX + classes)
        bias[0] = math.log(RARE / (1 - RARE))
        self.head.bias = nn.Parameter(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.body(x))
        return outputs
