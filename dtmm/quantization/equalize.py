"""Cross-layer equalization: channels of two layers in a row share one range, at no cost.

Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction", section
4.1. Between two layers with nothing but a rectifier in between, a channel may be divided by any
s > 0 in the first and multiplied by it in the second: relu(x / s) * s = relu(x). The network
computes the same; what changes is how well per-tensor scales fit its channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dtmm.network.ir import (
    Activation,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Network,
    Op,
    Weighted,
)

Floats = npt.NDArray[np.float32]

SWEEPS = 20
"""Over all pairs: a layer between two pairs is rescaled by both until they agree."""


def equalize(folded: Network) -> Network:
    """The same function with, for each pair of layers, equal largest weights per shared channel.

    s_i = sqrt(r1_i * r2_i) / r2_i (equation 11), r1_i the largest weight of the first layer's
    filter i, r2_i of those of the second layer that read channel i. A channel where either is zero
    is left alone, so that a pruned weight stays zero and nothing else becomes it.

    Args:
        folded: without BatchNorm; every layer has a bias.
    """
    params = dict(folded.params)
    pairs = list(_pairs(folded))
    for _ in range(SWEEPS):
        for first, second in pairs:
            _equalize_pair(params, first, second)
    return replace(folded, params=params)


def _pairs(folded: Network) -> Iterator[tuple[Weighted, Weighted]]:
    """Layers of which only the second reads what the first writes, unclipped from above."""
    for first in folded.ops:
        if not isinstance(first, Weighted) or first.activation is Activation.RELU6:
            continue
        readers = folded.consumers(first.output)
        if len(readers) == 1 and first.output not in folded.outputs and _takes(readers[0]):
            second = readers[0]
            assert isinstance(second, Weighted), "given by _takes"
            yield first, second


def _takes(op: Op) -> bool:
    grouped = isinstance(op, Conv2D) and op.groups > 1
    return isinstance(op, Conv2D | DepthwiseConv2D | FullyConnected) and not grouped


def _equalize_pair(params: dict[str, Floats], first: Weighted, second: Weighted) -> None:
    axis = 0 if isinstance(second, DepthwiseConv2D) else params[second.weight].ndim - 1
    before = _largest(params[first.weight], 0)
    after = _largest(params[second.weight], axis)
    alive = (before > 0) & (after > 0)
    ratio = np.where(alive, before, 1) / np.where(alive, after, 1)
    factor = np.sqrt(ratio).astype(np.float32)
    assert first.bias is not None, "a folded layer has a bias"
    params[first.weight] = params[first.weight] / _along(factor, params[first.weight].ndim, 0)
    params[first.bias] = params[first.bias] / factor
    params[second.weight] = params[second.weight] * _along(factor, params[second.weight].ndim, axis)


def _largest(weight: Floats, axis: int) -> Floats:
    largest: Floats = np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1).max(1)
    return largest


def _along(values: Floats, dims: int, axis: int) -> Floats:
    shape = [1] * dims
    shape[axis] = -1
    return values.reshape(shape)
