"""Flash of weights, index and parameters at each choice, by the storage formats' own accounting."""

from __future__ import annotations

from dtmm.network.ir import Pair
from dtmm.planning.kernels import CONV_FWCS, CONV_IM2COL
from dtmm.planning.nouns import VECTOR_BYTES
from dtmm.storage import dense_size, fwcs_size

PARAMETER_BYTES = 12
"""dtmm_channel_params: bias, multiplier and shift of one output channel."""


def conv_flash(kernel: str, size: Pair, in_channels: int, out_channels: int, kept: int) -> int:
    """Bytes of a convolution's stored weights, index and parameters.

    Args:
        kernel: kernel id.
        size: (kh, kw).
        in_channels, out_channels: kept channels (inputs are stored padded to whole vectors).
        kept: filterlets kept.
    """
    if kernel == CONV_IM2COL:
        column = _padded(size[0] * size[1] * in_channels)
        return dense_size(out_channels, (1, 1), column).total
    if kernel == CONV_FWCS:
        return fwcs_size(kept, out_channels, size, _padded(in_channels)).total
    return dense_size(out_channels, size, _padded(in_channels)).total


def fully_connected_flash(inputs: int, outputs: int) -> int:
    """Bytes of a fully connected layer's weights (row stride `inputs`) and parameters."""
    return outputs * (inputs + PARAMETER_BYTES)


def _padded(channels: int) -> int:
    return -(-channels // VECTOR_BYTES) * VECTOR_BYTES
