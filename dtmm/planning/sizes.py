"""Flash of weights, index and parameters at each choice, by the storage formats' own accounting."""

from __future__ import annotations

from dtmm.network.ir import Pair
from dtmm.storage import weight_format
from dtmm.storage.stored import PARAMETER_BYTES, VECTOR_BYTES, round_up


def conv_flash(kernel: str, size: Pair, in_channels: int, out_channels: int, kept: int) -> int:
    """Bytes of a convolution's stored weights, index and parameters.

    Args:
        kernel: kernel id.
        size: (kh, kw).
        in_channels, out_channels: kept channels.
        kept: filterlets kept.
    """
    return weight_format(kernel).size(kept, out_channels, size, in_channels).total


def depthwise_flash(size: Pair, channels: int) -> int:
    """Bytes of a depthwise convolution's weights, [kh * kw][channels padded], and parameters."""
    return size[0] * size[1] * round_up(channels, VECTOR_BYTES) + channels * PARAMETER_BYTES


def fully_connected_flash(inputs: int, outputs: int) -> int:
    """Bytes of a fully connected layer's weights (rows of exactly `inputs`) and parameters."""
    return outputs * (inputs + PARAMETER_BYTES)
