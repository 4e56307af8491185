"""Constants of the operators that are neither convolutions nor fully connected layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dtmm.network import ir
from dtmm.network.ir import Op
from dtmm.quantization.nonlinear import lookup_table
from dtmm.quantization.parameters import channel_parameters
from dtmm.quantization.quantized import QuantizedNetwork
from dtmm.quantization.reference_elementwise import add, mul
from dtmm.storage.parameters import folded_bias, pack_channel_params
from dtmm.storage.stored import VECTOR_BYTES, round_up


@dataclass(frozen=True)
class StoredLayer:
    """One layer's constants as they lie in flash.

    Attributes:
        weights: int8, flat: also a lookup table [256] or a constant operand [C].
        index: flat, empty for dense formats: uint8, or uint16 where the runs are listed and for
            CSR and FKW.
        parameters: int32 [C_out, 3]: folded bias, multiplier, shift; empty where there are none.
        in_stride: bytes of a stored filterlet (of a row for a fully connected layer).
    """

    weights: npt.NDArray[np.int8]
    index: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    parameters: npt.NDArray[np.int32]
    in_stride: int


def other_constants(network: QuantizedNetwork, op: Op) -> StoredLayer | None:
    """What an operator keeps in flash; None if nothing.

    Raises:
        UnsupportedError: a lookup table that TFLM would refuse to compute.
    """
    if isinstance(op, ir.DepthwiseConv2D):
        return _depthwise(network, op)
    table = table_of(network, op)
    if table is not None:
        return _bytes(table)
    if isinstance(op, ir.Binary) and op.constant is not None:
        return _bytes(network.params[op.constant].astype(np.int8))
    return None


def table_of(network: QuantizedNetwork, op: Op) -> npt.NDArray[np.int8] | None:
    """[256] outputs for -128..127 of an operator on single values; None for any other operator.

    A sum or product with a number is one too.
    """
    if isinstance(op, ir.Lookup):
        return lookup_table(network, op)
    if isinstance(op, ir.Binary) and op.constant is not None:
        if network.params[op.constant].size > 1:
            return None
        codes = np.arange(-128, 128).astype(np.int8)[:, None]
        result = add(network, op, codes) if isinstance(op, ir.Add) else mul(network, op, codes)
        return result[:, 0]
    return None


def _bytes(values: npt.NDArray[np.int8]) -> StoredLayer:
    return StoredLayer(values, np.zeros(0, np.uint8), np.zeros((0, 3), np.int32), values.size)


def _depthwise(network: QuantizedNetwork, op: ir.DepthwiseConv2D) -> StoredLayer:
    """[kh * kw][channels, padded to whole vectors], position by position."""
    weights = np.asarray(network.params[op.weight], np.int8)
    channels = len(weights)
    stride = round_up(channels, VECTOR_BYTES)
    positions = np.zeros((weights[0].size, stride), np.int8)
    positions[:, :channels] = weights.reshape(channels, -1).T
    channel = channel_parameters(network, op)
    bias = folded_bias(weights, channel.bias, network.tensors[op.input].zero_point)
    parameters = pack_channel_params(bias, channel.multiplier, channel.shift)
    return StoredLayer(positions.reshape(-1), np.zeros(0, np.uint8), parameters, stride)
