"""Points that between them hold every structure of loops: what the analytic model's prices come of.

Shapes are random, from a seed: sizes, channels, filterlets, halos and strides that a kernel takes
and whose tensors fit the measuring firmware.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dtmm import runtime_c
from dtmm.errors import MeasurementError
from dtmm.latency import OpShape, Point
from dtmm.latency.harness import KERNELS, check_size
from dtmm.latency.structure import RIVALS, structure
from dtmm.storage.kernel_ids import (
    CONV_DENSE,
    CONV_FWCS,
    CONV_GROUPED,
    CONV_IM2COL,
    CONV_POINTWISE,
    POINT_VARIANTS,
    RUN_VARIANTS,
    family,
    variant,
)

Rng = np.random.Generator

SIZES = (4, 5, 7, 8, 11, 14, 16, 24, 32)
CHANNELS = (4, 8, 10, 16, 24, 32, 48, 64, 96, 128, 192, 256)


def design(each: int, seed: int) -> tuple[Point, ...]:
    """So many points of every structure, the same for the same seed."""
    rng = np.random.default_rng(seed)
    kernels: dict[str, list[str]] = {}
    for kernel in (name for name in KERNELS if name not in RIVALS):
        kernels.setdefault(structure(kernel), []).append(kernel)
    points: list[Point] = []
    for same in kernels.values():
        found: set[Point] = set()
        while len(found) < each:
            point = _random_point(rng, str(rng.choice(same)))
            if _fits(point):
                found.add(point)
        points += sorted(found)
    return tuple(points)


def _random_point(rng: Rng, kernel: str) -> Point:
    makers: dict[str, Callable[[Rng, str], Point]] = {
        CONV_DENSE: _conv,
        CONV_FWCS: _conv,
        CONV_POINTWISE: _pointwise,
        CONV_IM2COL: _image,
        CONV_GROUPED: _grouped,
        "depthwise_conv": _depthwise,
        "fully_connected": _fully_connected,
        "mean": _mean,
        "max_pool": _pool,
        "average_pool": _pool,
    }
    return makers.get(family(kernel), _elementwise)(rng, kernel)


def _fits(point: Point) -> bool:
    try:
        check_size(point)
    except MeasurementError:
        return False
    return min(point.shape.out_hw) > 0


def _square(rng: Rng, stride: int, kernel: int) -> OpShape:
    """A SAME convolution of an image whose output is a square or nearly so."""
    height = int(rng.choice(SIZES))
    out = (height, height if rng.random() < 0.7 else int(rng.choice(SIZES)))
    pad = kernel // 2
    return OpShape(
        "conv2d",
        (out[0] * stride, out[1] * stride),
        out,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        pad=(pad, pad),
        in_halo=pad,
        out_halo=int(rng.integers(0, 2)),
    )


def _conv(rng: Rng, kernel: str) -> Point:
    name = variant(kernel)
    size = int(rng.choice([3, 3, 3, 1, 5]))
    if name is None:
        shape, inputs = _square(rng, int(rng.choice([1, 1, 2])), size), int(rng.choice(CHANNELS))
    else:
        of = runtime_c.RUN_KERNELS[RUN_VARIANTS.index(name)]
        shape = _square(rng, of.stride_w, size)
        inputs = of.in_stride - int(rng.choice([0, 0, 5, 8]))
        if shape.out_hw[0] < of.rows or shape.out_hw[1] < of.columns:
            shape = replace(shape, out_hw=(0, 0))
    outputs = int(rng.choice(CHANNELS))
    every = outputs * size * size
    share = rng.choice([1.0, rng.uniform(1 / (size * size), 1.0)])
    kept = every if family(kernel) == CONV_DENSE else max(round(share * every), outputs)
    return Point(shape, kernel, inputs, outputs, kept)


def _pointwise(rng: Rng, kernel: str) -> Point:
    of = runtime_c.POINT_KERNELS[POINT_VARIANTS.index(variant(kernel) or "")]
    shape = replace(_square(rng, of.stride_w, 1), in_halo=int(rng.integers(0, 2)))
    inputs = of.in_stride - int(rng.choice([0, 0, 5, 8]))
    outputs = int(rng.choice(CHANNELS))
    return Point(shape, kernel, inputs, outputs, outputs)


def _image(rng: Rng, kernel: str) -> Point:
    """A first layer; its kernel decides how large a window may be."""
    name, size = variant(kernel), int(rng.choice([3, 3, 5, 7]))
    shape = _square(rng, int(rng.choice([1, 2])), size)
    channels = int(rng.choice([1, 2, 3, 4, 6]))
    window = size * size * channels
    wanted = runtime_c.POINT_KERNELS[POINT_VARIANTS.index(name)].in_stride if name else None
    if window > 256 or (wanted is not None and -(-window // 16) * 16 != wanted):
        shape = replace(shape, out_hw=(0, 0))
    outputs = int(rng.choice(CHANNELS))
    return Point(shape, kernel, channels, outputs, outputs * size * size)


def _grouped(rng: Rng, kernel: str) -> Point:
    shape = _square(rng, int(rng.choice([1, 2])), int(rng.choice([1, 3])))
    groups, inputs, outputs = (int(rng.choice(each)) for each in ((2, 4), (4, 8, 16), (4, 8, 16)))
    shape = replace(shape, groups=groups)
    kept = groups * outputs * shape.kernel[0] * shape.kernel[1]
    return Point(shape, kernel, groups * inputs, groups * outputs, kept)


def _depthwise(rng: Rng, kernel: str) -> Point:
    shape = _square(rng, int(rng.choice([1, 2])), int(rng.choice([3, 3, 5])))
    channels = int(rng.choice(CHANNELS))
    return Point(replace(shape, kind=kernel), kernel, channels, channels)


def _fully_connected(rng: Rng, kernel: str) -> Point:
    side = int(rng.choice([1, 1, 2, 4]))
    shape = OpShape(kernel, (side, side), (1, 1))
    return Point(shape, kernel, int(rng.choice(CHANNELS)), int(rng.integers(2, 200)))


def _mean(rng: Rng, kernel: str) -> Point:
    side, channels = int(rng.choice(SIZES[:7])), int(rng.choice(CHANNELS))
    halo = int(rng.integers(0, 2))
    return Point(OpShape(kernel, (side, side), (1, 1), in_halo=halo), kernel, channels, channels)


def _pool(rng: Rng, kernel: str) -> Point:
    window, channels = int(rng.choice([2, 2, 3])), int(rng.choice(CHANNELS))
    shape = replace(_square(rng, 2, window), kind=kernel, pad=(0, 0), in_halo=0)
    height, width = ((out - 1) * 2 + window for out in shape.out_hw)
    return Point(replace(shape, in_hw=(height, width)), kernel, channels, channels)


def _elementwise(rng: Rng, kernel: str) -> Point:
    shape = replace(_square(rng, 1, 1), kind=kernel, in_halo=int(rng.integers(0, 2)))
    if kernel == "pad":
        shape = replace(shape, out_hw=(shape.in_hw[0] + 2, shape.in_hw[1] + 2), pad=(1, 1))
    if kernel == "strided_slice":
        shape = replace(shape, in_hw=(2 * shape.out_hw[0], 2 * shape.out_hw[1]), stride=(2, 2))
    channels = int(rng.choice(CHANNELS))
    return Point(shape, kernel, channels, channels)
