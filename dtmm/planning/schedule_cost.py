"""What a schedule's convolutions need, from its counts alone."""

from __future__ import annotations

from dtmm.network.groups import channel_groups
from dtmm.network.ir import Conv2D, Network
from dtmm.planning.kernels import kernel_size
from dtmm.planning.nouns import Layout
from dtmm.scheduler.problem import Schedule
from dtmm.storage import dense_scratch, fwcs_scratch, im2col_scratch, weight_format
from dtmm.storage.kernel_ids import CONV_DENSE, CONV_GROUPED, CONV_IM2COL, CONV_POINTWISE, family


def conv_scratch(folded: Network, layout: Layout, conv: Conv2D, schedule: Schedule) -> int:
    """Scratch bytes of a convolution (an upper bound where they depend on the pattern)."""
    size = kernel_size(folded, conv)
    source = layout.buffers[layout.tensor_buffer[conv.input]]
    target = layout.buffers[layout.tensor_buffer[conv.output]]
    inputs = source.channels
    if source.group is not None:
        inputs = schedule.channels.get(source.group, inputs)
    group = next(g for g in channel_groups(folded) if conv.output in g.tensors)
    outputs = schedule.channels[group.name]  # the buffer may be that of a whole concatenation
    kernel = schedule.kernels[conv.name]
    if family(kernel) in (CONV_GROUPED, CONV_POINTWISE):
        return 0
    in_stride = weight_format(kernel).in_stride(size, inputs)
    if family(kernel) == CONV_IM2COL:
        return im2col_scratch(target.width, in_stride)
    if family(kernel) == CONV_DENSE:
        return dense_scratch(kernel, size, outputs, conv.dilation[1])
    kept = schedule.filterlets[conv.name]
    return fwcs_scratch(kernel, kept, outputs, size, conv.dilation[1])
