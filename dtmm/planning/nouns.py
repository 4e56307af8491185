"""What planning hands on: the memory layout of a network and the selection of what stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Buffer:
    """How a stored activation lies in memory (it may serve several tensors: an in-place ADD).

    Attributes:
        group: the channel group that decides its channel count, None where the count is fixed.
        channels: channels when nothing is pruned.
        height, width: in pixels (1, 1 for a vector).
        halo: pixels of zero point kept on each side, for consumers that pad.
        channel_multiple: the pixel stride is the channel count rounded up to this (bytes).
    """

    group: str | None
    channels: int
    height: int
    width: int
    halo: int
    channel_multiple: int

    def pixel_stride(self, channels: int) -> int:
        """Bytes between neighbouring pixels for this many kept channels."""
        return -(-channels // self.channel_multiple) * self.channel_multiple

    def row_stride(self, channels: int) -> int:
        """Bytes between rows. The right halo of a row is the left halo of the next one."""
        return (self.width + self.halo) * self.pixel_stride(channels)

    def data_offset(self, channels: int) -> int:
        """Bytes from the start of the buffer to pixel (0, 0)."""
        return self.halo * (self.row_stride(channels) + self.pixel_stride(channels))

    def bytes(self, channels: int) -> int:
        """Size of the buffer for this many kept channels."""
        pixels = (self.height + 2 * self.halo) * (self.width + self.halo) + self.halo
        return pixels * self.pixel_stride(channels)


@dataclass(frozen=True)
class Step:
    """One operator's execution: the buffers that are live while it runs (its own included)."""

    op: str
    live: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """What a folded network needs in memory whatever is pruned.

    Attributes:
        buffers: by buffer name.
        tensor_buffer: the buffer that holds each tensor of the folded network.
        steps: one per operator, in execution order.
    """

    buffers: Mapping[str, Buffer]
    tensor_buffer: Mapping[str, str]
    steps: tuple[Step, ...]

    def buffer_of(self, tensor: str) -> Buffer:
        """The buffer that holds a tensor."""
        return self.buffers[self.tensor_buffer[tensor]]


@dataclass(frozen=True)
class Selection:
    """Which units stay.

    Attributes:
        channels: per channel group, bool [C].
        filterlets: per convolution, bool [C_out, kh, kw, ceil(C_in / V)] over the original filters;
            V = C_in is the paper's filterlet, so the last axis is 1. Filters whose channel is
            removed are all False.
    """

    channels: Mapping[str, npt.NDArray[np.bool_]]
    filterlets: Mapping[str, npt.NDArray[np.bool_]]
