"""The memory view of a tensor: where it begins in its buffer and how its pixels are spaced."""

from __future__ import annotations

from dataclasses import dataclass

from dtmm.network.ir import Concat, Shape
from dtmm.planning.nouns import Layout
from dtmm.quantization.quantized import QuantizedNetwork


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


def view_of(layout: Layout, tensor: str, shape: Shape, first_channel: int = 0) -> View:
    """The view of a tensor. A flattened image keeps the view of the image it renames.

    Args:
        shape: (1, H, W, C) or (1, C) of the tensor.
        first_channel: where it begins in its buffer's channels (`first_channels`).
    """
    name = layout.tensor_buffer[tensor]
    buffer = layout.buffers[name]
    flattened = len(shape) == 2 and buffer.height * buffer.width > 1
    return View(
        buffer=name,
        offset=buffer.data_offset(buffer.channels) + first_channel,
        height=buffer.height,
        width=buffer.width,
        channels=buffer.channels if flattened else shape[-1],
        pixel_stride=buffer.pixel_stride(buffer.channels),
        row_stride=buffer.row_stride(buffer.channels),
        halo=buffer.halo,
    )


def first_channels(network: QuantizedNetwork, layout: Layout) -> dict[str, int]:
    """Per tensor that is made in its range of a Concat's output, the range's first channel in the
    buffer."""
    offsets: dict[str, int] = {}
    for op in reversed(network.ops):
        if not isinstance(op, Concat):
            continue
        first = offsets.get(op.output, 0)
        for name in op.inputs:
            if layout.tensor_buffer[name] == layout.tensor_buffer[op.output]:
                offsets[name] = first
            first += network.tensors[name].shape[-1]
    return offsets
