"""Which kernels may run a convolution, by kernel id."""

from __future__ import annotations

from dtmm.network.ir import Conv2D, Network, Pair
from dtmm.storage.dense import IM2COL_MAX_BYTES

CONV_IM2COL = "conv_im2col"
CONV_DENSE = "conv_dense"
CONV_FWCS = "conv_fwcs"


def kernel_size(network: Network, conv: Conv2D) -> Pair:
    """(kh, kw) of a convolution."""
    _, height, width, _ = network.params[conv.weight].shape
    return height, width


def uses_im2col(network: Network, conv: Conv2D) -> bool:
    """True for a convolution of a network input with few channels: im2col is its only kernel."""
    window = network.params[conv.weight][0].size
    return conv.input in network.inputs and window <= IM2COL_MAX_BYTES
