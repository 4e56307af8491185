"""A network as .tflite with compressed convolutions: the DTMM_CONV_2D operator of deploy/tflm."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

import numpy as np

from dtmm.errors import UnsupportedError
from dtmm.network.ir import Conv2D
from dtmm.network.tflite_writer import CustomOperator, write_tflite
from dtmm.quantization.parameters import channel_parameters, output_range
from dtmm.quantization.quantized import QuantizedNetwork
from dtmm.storage import encode_fwcs, folded_bias, pack_channel_params, write_fwcs
from dtmm.storage.container import Form
from dtmm.storage.kernel_ids import run_variant
from dtmm.storage.stored import VECTOR_BYTES, round_up

OPERATOR = "DTMM_CONV_2D"
VERSION = 1

_OPTIONS = struct.Struct("<hH14h")
"""As dtmm/deploy/tflm/dtmm_conv_2d_op.h describes."""
_TFLITE_PER_FILTER = 4 + 4 + 8
"""Bytes of a filter's bias, weight scale and zero point in a standard file."""


def write_custom_tflite(
    network: QuantizedNetwork,
    layers: Iterable[str] | None = None,
    form: Form = "prepared",
    metadata: Mapping[str, bytes] | None = None,
) -> bytes:
    """A .tflite file whose convolutions are DTMM_CONV_2D where that is smaller, else standard.

    Args:
        layers: convolutions to write so, by name; default: those that get smaller.
        form: of the weights. "prepared" is read in place from flash; "stored" makes a smaller file,
            but parameters (and filterlets that need padding) are expanded into SRAM at start-up.
        metadata: see `write_tflite`.

    Raises:
        UnsupportedError: a layer that is no convolution, or one that the operator cannot express;
            and see `write_tflite`. ToolchainError: the [tflite] extra is not installed.
    """
    convs = {op.name: op for op in network.ops if isinstance(op, Conv2D)}
    names = smaller_layers(network, form) if layers is None else tuple(layers)
    if unknown := [name for name in names if name not in convs]:
        raise UnsupportedError(f"network {network.name!r} has no convolution {unknown[0]!r}")
    custom = {name: custom_conv(network, convs[name], form) for name in names}
    return write_tflite(network, custom, metadata)


def smaller_layers(network: QuantizedNetwork, form: Form = "prepared") -> tuple[str, ...]:
    """The convolutions that take fewer bytes as DTMM_CONV_2D than as CONV_2D."""
    found = []
    for op in network.ops:
        if not isinstance(op, Conv2D) or op.groups > 1 or not _expressible(op):
            continue
        weights = network.params[op.weight]
        if weights.any(axis=3).all():
            continue
        dense = weights.size + len(weights) * _TFLITE_PER_FILTER
        made = custom_conv(network, op, form)
        if len(made.constant) + len(made.options) < dense:
            found.append(op.name)
    return tuple(found)


def custom_conv(network: QuantizedNetwork, op: Conv2D, form: Form = "prepared") -> CustomOperator:
    """One convolution as a DTMM_CONV_2D.

    Raises UnsupportedError: groups, or a stride, dilation or padding beyond 16 bits.
    """
    if op.groups > 1 or not _expressible(op):
        raise UnsupportedError(
            f"layer {op.name!r} cannot be a {OPERATOR}: groups {op.groups}, stride {op.stride}, "
            f"dilation {op.dilation}, padding {op.padding}; expected 1 group and 16-bit numbers"
        )
    weights = np.asarray(network.params[op.weight], np.int8)
    channel, limits = channel_parameters(network, op), output_range(network, op)
    zero_point = network.tensors[op.input].zero_point
    parameters = pack_channel_params(
        folded_bias(weights, channel.bias, zero_point), channel.multiplier, channel.shift
    )
    options = _OPTIONS.pack(
        VERSION, *weights.shape[:3], *op.stride, *op.dilation, *op.padding,
        zero_point, limits.zero_point, limits.minimum, limits.maximum,
    )  # fmt: skip
    fwcs = encode_fwcs(weights, round_up(weights.shape[3], VECTOR_BYTES))
    return CustomOperator(OPERATOR, options, write_fwcs(fwcs, parameters, form))


def kernel_header(network: QuantizedNetwork, layers: Iterable[str]) -> str:
    """C: the run kernels that these convolutions fit, for dtmm_op_kernels.h beside the operator."""
    found = set()
    for op in network.ops:
        if isinstance(op, Conv2D) and op.name in set(layers):
            stride = round_up(network.params[op.weight].shape[3], VECTOR_BYTES)
            _, height, width, _ = network.tensors[op.output].shape
            found.add(run_variant(stride, op.stride[1], (height, width)))
    uses = " ".join(f"X({name})" for name in sorted(name for name in found if name is not None))
    return (
        f"/* The run kernels that a model's {OPERATOR} layers fit: the program links these. */\n"
        f"#define DTMM_OP_KERNELS(X) {uses}".rstrip()
        + "\n"
    )


def _expressible(op: Conv2D) -> bool:
    return all(0 <= n < 1 << 15 for n in (*op.stride, *op.dilation, *op.padding))
