"""Post-training quantization to int8, by the TFLite specification."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import DisjointSet

from dtmm.errors import DtmmError, UnsupportedError
from dtmm.network.check import check
from dtmm.network.fold import KEEPS_SCALE
from dtmm.network.ir import (
    Activate,
    BatchNorm,
    Binary,
    HardSwish,
    Logistic,
    Network,
    Softmax,
    Weighted,
    op_inputs,
)
from dtmm.quantization.quantized import QuantizedNetwork, QuantizedTensor

Ranges = Mapping[str, tuple[float, float]]
Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]

_PROBABILITY = (1 / 256, -128)
"""Scale and zero point that TFLite prescribes for the outputs of SOFTMAX and LOGISTIC."""

_HARD_SWISH_RATIO = 64
"""TFLM refuses HARD_SWISH whose input scale is 128 times its output scale or more."""

_LEAST_RANGE = 1e-6
"""A tensor that spans less is taken for constant zero; any scale will do, and 1/255 is tame."""

_LARGEST_BIAS = 1 << 30
"""Leaves the other half of an int32 accumulator to the products."""


def quantize(folded: Network, ranges: Ranges) -> QuantizedNetwork:
    """Int8 weights (per channel, symmetric, +-127), int8 activations (per tensor, 0 exact), int32
    biases of scale input_scale * weight_scale.

    A zero weight stays exactly zero, so that pruned filterlets stay pruned.

    Args:
        ranges: per tensor (min, max) over calibration images.

    Raises:
        UnsupportedError: the network is not folded.
        DtmmError: a tensor has no range, or one that is not finite; the network is malformed.
    """
    for op in folded.ops:
        if isinstance(op, BatchNorm | Activate):
            raise UnsupportedError(f"{type(op).__name__} '{op.name}': fold the network first")
    check(folded)
    tensors = quantize_tensors(folded, ranges)
    params: dict[str, Int8 | Int32] = {}
    scales: dict[str, Float32] = {}
    for op in folded.ops:
        if isinstance(op, Binary) and op.constant is not None:
            key = op.constant
            params[key], scales[key] = quantize_constant(folded.params[key])
        if isinstance(op, Weighted):
            if op.bias is None:
                raise UnsupportedError(f"'{op.name}' has no bias: fold the network first")
            weight, bias, input_scale = op.weight, op.bias, tensors[op.input].scale
            params[weight], params[bias], scales[weight] = quantize_layer(
                folded.params[weight], folded.params[bias], input_scale
            )
    return QuantizedNetwork(
        folded.name, tensors, folded.ops, params, scales, folded.inputs, folded.outputs
    )


def quantize_layer(
    weight: Float32, bias: Float32, input_scale: float
) -> tuple[Int8, Int32, Float32]:
    """Per-output-channel symmetric int8 of [C_out, ...], int32 of [C_out], float32 scales [C_out].

    A filter's largest weight becomes 127, unless its bias would then overflow: a filter that
    training has shrunk to almost nothing gets the finest scale that holds its bias. An all-zero
    filter gets its layer's coarsest scale.
    """
    largest = np.abs(weight.astype(np.float64)).reshape(len(weight), -1).max(axis=1)
    dead = largest.max() or 1.0
    least = np.abs(bias.astype(np.float64)) / (input_scale * _LARGEST_BIAS)
    least = np.maximum(least, np.finfo(np.float32).tiny)
    scale = np.maximum(np.where(largest > 0, largest, dead) / 127, least).astype(np.float32)
    spread = scale.astype(np.float64).reshape(-1, *(1 for _ in weight.shape[1:]))
    codes = np.clip(np.rint(weight / spread), -127, 127).astype(np.int8)
    return codes, np.rint(bias / (input_scale * scale.astype(np.float64))).astype(np.int32), scale


def quantize_constant(values: Float32) -> tuple[Int8, Float32]:
    """Symmetric int8 of a constant operand, and its float32 scale [1]."""
    scale = np.array([np.abs(values).max() / 127 or 1 / 127], np.float32)
    scale = np.maximum(scale, np.finfo(np.float32).tiny)
    return np.clip(np.rint(values / scale), -127, 127).astype(np.int8), scale


def quantize_input(
    network: QuantizedNetwork, images: npt.NDArray[np.float32]
) -> npt.NDArray[np.int8]:
    """Preprocessed float images [N, H, W, C] as the network's int8 input."""
    tensor = network.tensors[network.inputs[0]]
    codes: Float32 = np.rint(images / np.float32(tensor.scale)) + tensor.zero_point
    return np.clip(codes, -128, 127).astype(np.int8)


def dequantize_output(network: QuantizedNetwork, codes: npt.NDArray[np.int8]) -> Float32:
    """Real values, [N, ...] float32, of the int8 codes of the network's output for N images."""
    tensor = network.tensors[network.outputs[0]]
    values = (codes.astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)
    found: Float32 = values.reshape(len(codes), *tensor.shape[1:])
    return found


def shared_scales(folded: Network) -> dict[str, str]:
    """Per tensor, the one that stands for all that TFLite wants to have its scale."""
    tied: DisjointSet = DisjointSet(folded.tensors)
    for op in folded.ops:
        if isinstance(op, KEEPS_SCALE):
            for name in op_inputs(op):
                tied.merge(name, op.output)
    return {name: tied[name] for name in folded.tensors}


def quantize_tensors(folded: Network, ranges: Ranges) -> dict[str, QuantizedTensor]:
    """Scale and zero point of every tensor: [low, high] widened to hold zero, then to that of all
    tensors that share it.

    Raises:
        DtmmError: a tensor has no range, or one that is not finite.
    """
    shared = shared_scales(folded)
    spans = dict.fromkeys(shared.values(), (0.0, 0.0))
    for name, root in shared.items():
        (low, high), (least, most) = _range(ranges, name), spans[root]
        spans[root] = (min(low, least), max(high, most))
    for op in folded.ops:
        if isinstance(op, HardSwish):
            (low, high), (least, most) = spans[shared[op.input]], spans[shared[op.output]]
            most = max(most, least + (high - low) / _HARD_SWISH_RATIO)
            spans[shared[op.output]] = (least, most)
    affine = {root: _affine(*span) for root, span in spans.items()}
    for op in folded.ops:
        if isinstance(op, Softmax | Logistic):
            affine[shared[op.output]] = _PROBABILITY
    return {
        name: QuantizedTensor(shape, *affine[shared[name]])
        for name, shape in folded.tensors.items()
    }


def _range(ranges: Ranges, name: str) -> tuple[float, float]:
    if name not in ranges:
        raise DtmmError(f"tensor '{name}' has no calibrated range")
    low, high = ranges[name]
    if not np.isfinite((low, high)).all() or low > high:
        raise DtmmError(f"tensor '{name}' has range {low}..{high}, expected finite and ordered")
    return low, high


def _affine(low: float, high: float) -> tuple[float, int]:
    """Scale (a float32 value) and zero point that cover [low, high], which contains 0."""
    width = high - low if high - low >= _LEAST_RANGE else 1.0
    scale = float(np.float32(width / 255))
    zero_point = int(np.clip(np.rint(-128 - low / scale), -128, 127))
    return scale, zero_point
