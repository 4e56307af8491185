"""Which kernels may run a convolution of a network, by kernel id."""

from __future__ import annotations

from dtmm.network.ir import Conv2D, DepthwiseConv2D, Network, Pair
from dtmm.planning.nouns import Buffer
from dtmm.storage.dense import IM2COL_MAX_BYTES, im2col_stride
from dtmm.storage.kernel_ids import (
    CONV_DENSE,
    CONV_FWCS,
    CONV_GROUPED,
    CONV_IM2COL,
    CONV_POINTWISE,
    kernel_ids,
    point_id,
    variant,
)
from dtmm.storage.scratch import depthwise_scratch
from dtmm.storage.stored import VECTOR_BYTES, round_up


def kernel_size(network: Network, conv: Conv2D | DepthwiseConv2D) -> Pair:
    """(kh, kw) of a convolution."""
    _, height, width, _ = network.params[conv.weight].shape
    return height, width


def uses_im2col(network: Network, conv: Conv2D) -> bool:
    """True for a convolution of a network input with few channels: im2col is its only kernel."""
    _, height, width, channels = network.params[conv.weight].shape
    return (
        conv.groups == 1
        and conv.input in network.inputs
        and channels < VECTOR_BYTES
        and height * width * channels <= IM2COL_MAX_BYTES
    )


def only_kernel(network: Network, conv: Conv2D) -> str | None:
    """The kernel of a convolution that leaves no choice: grouped, or the first layer's im2col."""
    if conv.groups > 1:
        return CONV_GROUPED
    if not uses_im2col(network, conv):
        return None
    filters, *kernel, channels = network.params[conv.weight].shape
    stride = im2col_stride((kernel[0], kernel[1]), channels)
    pixels = network.tensors[conv.output][2] if filters > 1 else 0
    return point_id(CONV_IM2COL, stride, 1, pixels) or CONV_IM2COL


def fastest_kernel(
    network: Network, conv: Conv2D, source: Buffer, in_channels: int, pruned: bool
) -> str:
    """The fastest kernel of a convolution with so many input channels (not the first layer's).

    A pointwise or a run kernel where one fits; the latter takes FWCS weights, pruned or not. Else
    the looped ones.

    Args:
        source: the buffer of its input.
    """
    stride = round_up(in_channels, VECTOR_BYTES)
    point = pointwise_kernel(network, conv, source, stride)
    if point is not None and not pruned:
        return point
    _, height, width, _ = network.tensors[conv.output]
    fitting = kernel_ids(CONV_FWCS, stride, conv.stride[1], (height, width))[-1]
    return fitting if pruned or variant(fitting) else CONV_DENSE


def pointwise_kernel(network: Network, conv: Conv2D, source: Buffer, in_stride: int) -> str | None:
    """The pointwise kernel of a convolution that reads pixels of `source`, so many bytes apart."""
    filters, *kernel, _ = network.params[conv.weight].shape
    if kernel != [1, 1] or any(conv.padding) or conv.groups > 1 or filters < 2:
        return None
    _, height, width, _ = network.tensors[conv.output]
    in_line = conv.stride == (1, 1) and source.halo == 0
    pixels = height * width if in_line else width
    return point_id(CONV_POINTWISE, in_stride, conv.stride[1], pixels)


def depthwise_scratches(network: Network) -> dict[str, int]:
    """Scratch bytes of every depthwise convolution: its channels do not matter."""
    return {
        op.name: depthwise_scratch(
            kernel_size(network, op), op.stride, op.dilation, (out[1], out[2])
        )
        for op in network.ops
        if isinstance(op, DepthwiseConv2D)
        for out in [network.tensors[op.output]]
    }
