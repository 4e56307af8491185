"""Geometry of the measured shapes against torch, and against MLPerf Tiny's published layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks import shapes
from benchmarks.shapes import CONV, DEPTHWISE, Shape


@pytest.mark.parametrize("shape", shapes.all_shapes(), ids=Shape.describe)
def test_a_padded_input_gives_the_output(shape: Shape) -> None:
    top, left = shape.pad
    assert 0 <= top <= shape.halo
    assert 0 <= left <= shape.halo
    if shape.operator not in (CONV, DEPTHWISE):
        return
    groups = shape.cin if shape.operator == DEPTHWISE else 1
    conv = nn.Conv2d(
        shape.cin,
        shape.cout,
        (shape.kernel_h, shape.kernel_w),
        shape.stride,
        groups=groups,
        device="meta",
    )
    # what may be read: the image, its halo, and no more
    height, width = shape.h + top + shape.halo, shape.w + left + shape.halo
    out = conv(torch.zeros(1, shape.cin, height, width, device="meta")).shape
    assert out[2] >= shape.out_hw[0]
    assert out[3] >= shape.out_hw[1]
    out_h, out_w = shape.out_hw
    assert shape.macs == out_h * out_w * conv.weight.numel()


def test_ds_cnns_first_layer() -> None:
    (first,) = (each for each in shapes.STRIDED if each.kernel_h == 10)
    assert (first.out_hw, first.pad, first.halo) == ((25, 5), (4, 1), 5)


def test_every_shape_is_measured_once() -> None:
    found = shapes.all_shapes()
    assert len(found) == len(set(found))
