"""The memory view of a tensor: where it begins in its buffer and how its pixels are spaced."""

from __future__ import annotations

from dataclasses import dataclass

from dtmm.network.ir import Shape
from dtmm.planning.nouns import Layout


@dataclass(frozen=True)
class View:
    """The fields of C's `dtmm_tensor`; `offset` is from the start of the buffer to pixel (0, 0)."""

    buffer: str
    offset: int
    height: int
    width: int
    channels: int
    pixel_stride: int
    row_stride: int
    halo: int


def view_of(layout: Layout, tensor: str, shape: Shape) -> View:
    """The view of a tensor. A flattened image keeps the view of the image it renames.

    Args:
        shape: (1, H, W, C) or (1, C) of the tensor.
    """
    name = layout.tensor_buffer[tensor]
    buffer = layout.buffers[name]
    flattened = len(shape) == 2 and buffer.height * buffer.width > 1
    channels = buffer.channels if flattened else shape[-1]
    return View(
        buffer=name,
        offset=buffer.data_offset(channels),
        height=buffer.height,
        width=buffer.width,
        channels=channels,
        pixel_stride=buffer.pixel_stride(channels),
        row_stride=buffer.row_stride(channels),
        halo=buffer.halo,
    )
