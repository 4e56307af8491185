"""A quantized network made ready for a device: kernels, stored weights, memory plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dtmm.deploy.arena import ArenaPlan, plan_arena
from dtmm.deploy.constants import StoredLayer, other_constants
from dtmm.deploy.views import view_of
from dtmm.errors import DtmmError, UnsupportedError
from dtmm.network.ir import Conv2D, FullyConnected, Network, Op, Shape
from dtmm.planning.kernels import depthwise_scratches, only_kernel, pointwise_kernel
from dtmm.planning.nouns import Layout
from dtmm.quantization.dequantize import dequantize
from dtmm.quantization.parameters import channel_parameters
from dtmm.quantization.quantized import QuantizedNetwork
from dtmm.storage import (
    Csr,
    StorageSize,
    dense_scratch,
    fkw_scratch,
    fwcs_scratch,
    im2col_scratch,
    list_csr,
    weight_format,
)
from dtmm.storage.dense import IM2COL_MAX_BYTES
from dtmm.storage.kernel_ids import (
    CONV_CSR,
    CONV_DENSE,
    CONV_FKW,
    CONV_FWCS,
    CONV_GROUPED,
    CONV_IM2COL,
    CONV_POINTWISE,
    family,
    is_listed,
    kernel_ids,
    variant,
)
from dtmm.storage.parameters import folded_bias, pack_channel_params
from dtmm.storage.runs import list_runs
from dtmm.storage.stored import PARAMETER_BYTES, VECTOR_BYTES, round_up


@dataclass(frozen=True)
class Deployment:
    """All that generated C needs.

    Attributes:
        kernels: kernel id per convolution.
        layers: constants per operator that has any.
        scratch: bytes per operator that needs scratch memory.
    """

    network: QuantizedNetwork
    layout: Layout
    kernels: Mapping[str, str]
    layers: Mapping[str, StoredLayer]
    scratch: Mapping[str, int]
    arena: ArenaPlan

    @property
    def size(self) -> StorageSize:
        """Flash bytes of weights, index and parameters."""
        layers = self.layers.values()
        return StorageSize(
            weights=sum(layer.weights.size for layer in layers),
            index=sum(layer.index.nbytes for layer in layers),
            parameters=sum(len(layer.parameters) * PARAMETER_BYTES for layer in layers),
        )


def plan(
    network: QuantizedNetwork, layout: Layout, kernels: Mapping[str, str] | None = None
) -> Deployment:
    """Store the weights, size the scratch memory and place everything in the arena.

    Args:
        layout: of the folded network that was quantized.
        kernels: kernel id per convolution; where absent, the fastest that fits the weights: im2col
            for a small first layer, FWCS where a filterlet is zero, else dense. A run kernel for a
            layer with a channel that is not scaled down gives way to its looped form. For weights
            pruned one by one or by patterns `dtmm.deploy.rivals` suggests others.

    Raises:
        UnsupportedError: a kernel that does not fit its layer, or for no layer of the network.
    """
    convs = [op for op in network.ops if isinstance(op, Conv2D)]
    kernels = kernels or {}
    if unknown := sorted(kernels.keys() - {op.name for op in convs}):
        raise UnsupportedError(
            f"kernel {kernels[unknown[0]]} is meant for {unknown[0]!r}, which is no convolution of "
            f"network {network.name!r}"
        )
    structure = dequantize(network)
    chosen = {
        op.name: _fitting(
            network, op, kernels.get(op.name) or default_kernel(layout, structure, op)
        )
        for op in convs
    }
    layers = {
        op.name: stored
        for op in network.ops
        if (stored := _store(network, op, chosen.get(op.name))) is not None
    }
    for op in convs:
        if is_listed(chosen[op.name]):
            layers[op.name] = _listed(network, layout, op, layers[op.name])
        elif chosen[op.name] == CONV_CSR:
            layers[op.name] = _listed_csr(network, layout, op, layers[op.name])
    channels = {name: buffer.channels for name, buffer in layout.buffers.items()}
    for op in convs:
        _check_pixels(layout, op, chosen[op.name], layers[op.name])
    scratch = {
        op.name: _scratch_bytes(network, op, chosen[op.name], layers[op.name]) for op in convs
    } | depthwise_scratches(structure)
    arena = plan_arena(layout, channels, scratch)
    return Deployment(network, layout, chosen, layers, scratch, arena)


def default_kernel(layout: Layout, network: Network, op: Conv2D) -> str:
    """The kernel id that suits a convolution's weights."""
    if (only := only_kernel(network, op)) is not None:
        return only
    weights = network.params[op.weight]
    in_stride = round_up(weights.shape[3], VECTOR_BYTES)
    point = pointwise_kernel(network, op, layout.buffer_of(op.input), in_stride)
    if point is not None:
        return point
    operator = CONV_DENSE if weights.any(axis=3).all() else CONV_FWCS
    _, height, width, _ = network.tensors[op.output]
    return kernel_ids(operator, in_stride, op.stride[1], (height, width))[-1]


def _fitting(network: QuantizedNetwork, op: Conv2D, kernel: str) -> str:
    """The kernel, or its looped form: those in assembly only shift to the right when they
    requantize, and pointwise ones take two filters at least."""
    shifts = channel_parameters(network, op).shift
    alone = len(shifts) < 2 and family(kernel) in (CONV_POINTWISE, CONV_IM2COL)
    if variant(kernel) is None or (shifts.max() < 0 and not alone):
        return kernel
    return CONV_DENSE if family(kernel) == CONV_POINTWISE else family(kernel)


def check_images(images: npt.NDArray[np.int8], shape: Shape) -> None:
    """Raises DtmmError unless `images` are int8 [N, H, W, C] of a network's input shape."""
    if images.dtype != np.int8 or images.shape[1:] != shape:
        raise DtmmError(
            f"images are {images.dtype} of shape {images.shape}, expected int8 "
            f"(N, {', '.join(map(str, shape))})"
        )


def _check_pixels(layout: Layout, op: Conv2D, kernel: str, layer: StoredLayer) -> None:
    """Dense and FWCS kernels read whole vectors: pixels as far apart as stored filterlets."""
    if (kernel == CONV_GROUPED) != (op.groups > 1):
        raise UnsupportedError(f"layer {op.name!r} of {op.groups} groups cannot run on {kernel}")
    source = layout.buffers[layout.tensor_buffer[op.input]]
    stride = source.pixel_stride(source.channels)
    if family(kernel) not in (CONV_IM2COL, CONV_GROUPED) and layer.in_stride != stride:
        raise UnsupportedError(
            f"layer {op.name!r}: {kernel} needs pixels {layer.in_stride} bytes apart, those of "
            f"{op.input!r} are {stride} bytes apart in this layout"
        )


def _store(network: QuantizedNetwork, op: Op, kernel: str | None) -> StoredLayer | None:
    if not isinstance(op, Conv2D | FullyConnected):
        return other_constants(network, op)
    weights = np.asarray(network.params[op.weight], np.int8)
    channel = channel_parameters(network, op)
    zero_point = network.tensors[op.input].zero_point
    parameters = pack_channel_params(
        folded_bias(weights, channel.bias, zero_point), channel.multiplier, channel.shift
    )
    if kernel is None:
        return StoredLayer(weights.reshape(-1), np.zeros(0, np.uint8), parameters, weights.shape[1])
    if family(kernel) == CONV_IM2COL and weights[0].size > IM2COL_MAX_BYTES:
        raise UnsupportedError(
            f"layer '{op.name}' has windows of {weights[0].size} bytes, {kernel} takes at most "
            f"{IM2COL_MAX_BYTES}"
        )
    try:
        stored = weight_format(kernel).encode(weights)
    except UnsupportedError as error:
        raise UnsupportedError(f"layer '{op.name}' cannot run on {kernel}: {error}") from None
    return StoredLayer(stored.weights, stored.index, parameters, stored.in_stride)


def _listed(
    network: QuantizedNetwork, layout: Layout, op: Conv2D, layer: StoredLayer
) -> StoredLayer:
    """The layer with its runs listed for the input's strides."""
    weights = network.params[op.weight]
    out_channels, kernel_h, kernel_w, _ = weights.shape
    view = view_of(layout, op.input, network.tensors[op.input].shape)
    kept = weights.any(axis=3).reshape(out_channels, -1)
    runs = list_runs(
        kept, (kernel_h, kernel_w), op.stride[1], op.dilation, view.row_stride, view.pixel_stride
    )
    return replace(layer, index=runs)


def _listed_csr(
    network: QuantizedNetwork, layout: Layout, op: Conv2D, layer: StoredLayer
) -> StoredLayer:
    """The layer with its columns listed for the input's strides."""
    out_channels, kernel_h, kernel_w, in_channels = network.params[op.weight].shape
    if op.dilation[1] > 1 and kernel_w > 1:
        raise UnsupportedError(
            f"layer {op.name!r} has a horizontal dilation of {op.dilation[1]}: {CONV_CSR} takes 1"
        )
    view = view_of(layout, op.input, network.tensors[op.input].shape)
    index = np.asarray(layer.index, np.uint16)
    kernel = (kernel_h, kernel_w)
    stored = Csr(layer.weights, index, out_channels, kernel, in_channels, layer.in_stride)
    return replace(layer, index=list_csr(stored, view.row_stride, op.dilation[0]))


def _scratch_bytes(network: QuantizedNetwork, op: Conv2D, kernel: str, layer: StoredLayer) -> int:
    out_channels, kernel_h, kernel_w, _ = network.params[op.weight].shape
    if family(kernel) in (CONV_GROUPED, CONV_POINTWISE, CONV_CSR):
        return 0
    if kernel == CONV_FKW:
        return fkw_scratch(int(layer.index[0]), layer.in_stride)
    if family(kernel) == CONV_IM2COL:
        return im2col_scratch(network.tensors[op.output].shape[2], layer.in_stride)
    if family(kernel) == CONV_DENSE:
        return dense_scratch(kernel, (kernel_h, kernel_w), out_channels, op.dilation[1])
    filterlets = layer.weights.size // layer.in_stride
    return fwcs_scratch(kernel, filterlets, out_channels, (kernel_h, kernel_w), op.dilation[1])
