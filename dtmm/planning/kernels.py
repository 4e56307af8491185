"""Which kernels may run a convolution of a network, by kernel id."""

from __future__ import annotations

from dtmm.network.ir import Conv2D, DepthwiseConv2D, Network, Pair
from dtmm.storage.dense import IM2COL_MAX_BYTES
from dtmm.storage.kernel_ids import (
    CONV_DENSE,
    CONV_FWCS,
    CONV_GROUPED,
    CONV_IM2COL,
    kernel_ids,
    variant,
)
from dtmm.storage.stored import VECTOR_BYTES, round_up


def kernel_size(network: Network, conv: Conv2D | DepthwiseConv2D) -> Pair:
    """(kh, kw) of a convolution."""
    _, height, width, _ = network.params[conv.weight].shape
    return height, width


def uses_im2col(network: Network, conv: Conv2D) -> bool:
    """True for a convolution of a network input with few channels: im2col is its only kernel."""
    window = network.params[conv.weight][0].size
    return conv.groups == 1 and conv.input in network.inputs and window <= IM2COL_MAX_BYTES


def only_kernel(network: Network, conv: Conv2D) -> str | None:
    """The kernel of a convolution that leaves no choice: grouped, or the first layer's im2col."""
    if conv.groups > 1:
        return CONV_GROUPED
    return CONV_IM2COL if uses_im2col(network, conv) else None


def fastest_kernel(network: Network, conv: Conv2D, in_channels: int, pruned: bool) -> str:
    """The fastest kernel of a convolution with so many input channels (not the first layer's).

    A run kernel where one fits: it takes FWCS weights, pruned or not. Else the looped ones.
    """
    _, height, width, _ = network.tensors[conv.output]
    stride = round_up(in_channels, VECTOR_BYTES)
    fitting = kernel_ids(CONV_FWCS, stride, conv.stride[1], (height, width))[-1]
    return fitting if pruned or variant(fitting) else CONV_DENSE
