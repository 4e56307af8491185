"""Post-training quantization to int8, by the TFLite specification."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import DisjointSet

from dtmm.errors import DtmmError, UnsupportedError
from dtmm.network.ir import (
    Activate,
    AveragePool2D,
    BatchNorm,
    Conv2D,
    FullyConnected,
    MaxPool2D,
    Network,
    Reshape,
)
from dtmm.quantization.quantized import QuantizedNetwork, QuantizedTensor

Ranges = Mapping[str, tuple[float, float]]

_SAME_SCALE = (MaxPool2D, AveragePool2D, Reshape)
"""Operators that TFLite requires to keep their input's scale and zero point."""

_SMALLEST_RANGE = 1e-6


def quantize(folded: Network, ranges: Ranges) -> QuantizedNetwork:
    """Int8 weights (per channel, symmetric, +-127), int8 activations (per tensor, 0 exact), int32
    biases of scale input_scale * weight_scale.

    A zero weight stays exactly zero, so that pruned filterlets stay pruned.

    Args:
        ranges: per tensor (min, max) over calibration images.

    Raises:
        UnsupportedError: the network is not folded.
        DtmmError: a tensor has no range, or one that is not finite.
    """
    for op in folded.ops:
        if isinstance(op, BatchNorm | Activate):
            raise UnsupportedError(f"{type(op).__name__} '{op.name}': fold the network first")
    tensors = _quantize_tensors(folded, ranges)
    params: dict[str, npt.NDArray[np.int8] | npt.NDArray[np.int32]] = {}
    scales: dict[str, npt.NDArray[np.float32]] = {}
    for op in folded.ops:
        if isinstance(op, Conv2D | FullyConnected):
            assert op.bias is not None, "folding gave every layer a bias"
            weight, bias = folded.params[op.weight], folded.params[op.bias]
            params[op.weight], scales[op.weight] = quantize_weights(weight)
            real = np.float64(tensors[op.input].scale) * scales[op.weight].astype(np.float64)
            limit = np.iinfo(np.int32)
            params[op.bias] = np.clip(np.rint(bias / real), limit.min, limit.max).astype(np.int32)
    return QuantizedNetwork(
        folded.name, tensors, folded.ops, params, scales, folded.inputs, folded.outputs
    )


def quantize_weights(
    weight: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Per-output-channel symmetric int8 of [C_out, ...]; an all-zero filter gets scale 1."""
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    scale = np.where(largest > 0, largest / 127, 1.0).astype(np.float32)
    spread = scale.reshape(-1, *(1 for _ in weight.shape[1:]))
    return np.clip(np.rint(weight / spread), -127, 127).astype(np.int8), scale


def quantize_input(
    network: QuantizedNetwork, images: npt.NDArray[np.float32]
) -> npt.NDArray[np.int8]:
    """Preprocessed float images [N, H, W, C] as the network's int8 input."""
    tensor = network.tensors[network.inputs[0]]
    codes = np.rint(images / np.float32(tensor.scale)) + tensor.zero_point
    return np.clip(codes, -128, 127).astype(np.int8)


def _quantize_tensors(folded: Network, ranges: Ranges) -> dict[str, QuantizedTensor]:
    tied: DisjointSet = DisjointSet(folded.tensors)
    for op in folded.ops:
        if isinstance(op, _SAME_SCALE):
            tied.merge(op.input, op.output)
    tensors: dict[str, QuantizedTensor] = {}
    for members in tied.subsets():
        low = min(0.0, *(_range(ranges, name)[0] for name in members))
        high = max(0.0, *(_range(ranges, name)[1] for name in members))
        scale, zero_point = _affine(low, high)
        for name in members:
            tensors[name] = QuantizedTensor(folded.tensors[name], scale, zero_point)
    return {name: tensors[name] for name in folded.tensors}


def _range(ranges: Ranges, name: str) -> tuple[float, float]:
    if name not in ranges:
        raise DtmmError(f"tensor '{name}' has no calibrated range")
    low, high = ranges[name]
    if not np.isfinite((low, high)).all() or low > high:
        raise DtmmError(f"tensor '{name}' has range {low}..{high}, expected finite and ordered")
    return low, high


def _affine(low: float, high: float) -> tuple[float, int]:
    """Scale (a float32 value) and zero point that cover [low, high], which contains 0."""
    scale = float(np.float32(max(high - low, _SMALLEST_RANGE) / 255))
    zero_point = int(np.clip(np.rint(-128 - low / scale), -128, 127))
    return scale, zero_point
