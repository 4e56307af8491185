"""How the activations of a folded network lie in memory, whatever is pruned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from dtmm.errors import UnsupportedError
from dtmm.network.groups import channel_groups
from dtmm.network.ir import (
    Activate,
    Add,
    BatchNorm,
    Concat,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Lookup,
    Mul,
    Network,
    Op,
    Reshape,
    Shape,
    Softmax,
    op_inputs,
)
from dtmm.planning.kernels import kernel_size, uses_im2col
from dtmm.planning.nouns import Buffer, Layout, Step
from dtmm.storage.stored import VECTOR_BYTES


def layout(folded: Network) -> Layout:
    """Decide buffers, halos and channel padding, and which buffers live at which step.

    A buffer is named after one of the tensors that it holds. A Reshape only renames: its output is
    the same buffer, and the buffer's view (height, width, channels) is what a fully connected layer
    reads, pixel by pixel in NHWC order. Elementwise operators run in place, in the buffer of an
    operand of the output's shape that nobody needs afterwards (the last if several qualify), but
    never in a network input's. A tensor that only a Concat reads is made in its range of the
    channels of the Concat's buffer.

    Raises:
        UnsupportedError: the network is not folded, or a flattened image is read by anything but a
            fully connected layer.
    """
    for op in folded.ops:
        if isinstance(op, BatchNorm | Activate):
            raise UnsupportedError(
                f"op {op.name!r} is a {type(op).__name__}: fold the network first"
            )
    tensor_buffer = _assign_buffers(folded)
    _check_flattened(folded, tensor_buffer)
    group_of = {tensor: group for group in channel_groups(folded) for tensor in group.tensors}
    buffers = {}
    for name in dict.fromkeys(tensor_buffer.values()):
        held = {tensor for tensor, buffer in tensor_buffer.items() if buffer == name}
        readers = [op for op in folded.ops if held.intersection(op_inputs(op))]
        height, width, channels = view(folded.tensors[name])
        buffers[name] = Buffer(
            group=group_of[name].name if name in group_of else None,
            channels=channels,
            height=height,
            width=width,
            halo=max((_needed_halo(folded, op) for op in readers), default=0),
            channel_multiple=_channel_multiple(folded, name, readers),
        )
    return Layout(buffers, tensor_buffer, _steps(folded, tensor_buffer))


def view(shape: Shape) -> tuple[int, int, int]:
    """(height, width, channels) of a tensor; a vector is one pixel."""
    return (shape[1], shape[2], shape[3]) if len(shape) == 4 else (1, 1, shape[1])


def runs_code(layout: Layout, op: Op) -> bool:
    """False for what only names memory: a Reshape, a Concat whose operands all lie in place."""
    if isinstance(op, Concat):
        return bool(copied_inputs(layout, op))
    return not isinstance(op, Reshape)


def copied_inputs(layout: Layout, op: Concat) -> tuple[str, ...]:
    """The operands of a Concat that are not made in its output's buffer already."""
    target = layout.tensor_buffer[op.output]
    return tuple(name for name in op.inputs if layout.tensor_buffer[name] != target)


_IN_PLACE = (Add, Mul, Softmax, *get_args(Lookup))


def _assign_buffers(network: Network) -> dict[str, str]:
    """The buffer of every tensor, named after one of the tensors that it holds."""
    last_use = _last_uses(network)
    part_of = _concat_parts(network)
    buffer_of = {tensor: tensor for tensor in network.inputs}
    for time, op in enumerate(network.ops):
        target = part_of.get(op.output, op.output)
        if isinstance(op, Reshape):
            target = buffer_of[op.input]
        elif isinstance(op, _IN_PLACE) and op.output not in part_of:
            for operand in reversed(op_inputs(op)):
                buffer = buffer_of[operand]
                held = [tensor for tensor, b in buffer_of.items() if b == buffer]
                free = all(last_use[tensor] <= time for tensor in held)
                like = view(network.tensors[operand]) == view(network.tensors[op.output])
                like = like and view(network.tensors[buffer]) == view(network.tensors[op.output])
                if free and like and buffer not in network.inputs:
                    target = buffer
                    break
        buffer_of[op.output] = target
    return buffer_of


def _concat_parts(network: Network) -> dict[str, str]:
    """Per tensor that can be made in place the output of the Concat that alone reads it."""
    parts: dict[str, str] = {}
    for op in reversed(network.ops):
        if not isinstance(op, Concat):
            continue
        first = 0
        for name in op.inputs:
            # Run kernels store pairs of channels, so a range begins at an even one.
            if first % 2 == 0 and _can_be_part(network, op, name):
                parts[name] = parts.get(op.output, op.output)
            first += network.tensors[name][-1]
    return parts


def _can_be_part(network: Network, concat: Concat, name: str) -> bool:
    made = network.producer(name) is not None and not isinstance(network.producer(name), Reshape)
    read_once = network.consumers(name) == (concat,) and concat.inputs.count(name) == 1
    return made and read_once and name not in network.outputs


def _last_uses(network: Network) -> dict[str, int]:
    """Index of the last operator that needs each tensor; len(ops) for a network output."""
    last = dict.fromkeys(network.inputs, 0)
    for time, op in enumerate(network.ops):
        last[op.output] = time
        last.update(dict.fromkeys(op_inputs(op), time))
    last.update(dict.fromkeys(network.outputs, len(network.ops)))
    return last


def _check_flattened(network: Network, buffer_of: Mapping[str, str]) -> None:
    """A flattened image is not contiguous in its padded buffer: only pixel-wise readers cope."""
    for tensor, buffer in buffer_of.items():
        seen, stored = view(network.tensors[tensor]), view(network.tensors[buffer])
        if seen == stored or seen[:2] == stored[:2]:  # the same, or a part of a Concat
            continue
        others = [
            op.name
            for op in network.consumers(tensor)
            if not isinstance(op, FullyConnected | Reshape)
        ]
        if tensor in network.outputs:
            others.append("the network's output")
        if others:
            raise UnsupportedError(
                f"tensor {tensor!r} flattens an image of {stored} (H, W, C) for {others[0]!r}; "
                "only a fully connected layer can read it"
            )


def _needed_halo(network: Network, op: Op) -> int:
    """The farthest that a convolution's window reaches outside its input, in pixels."""
    if not isinstance(op, Conv2D | DepthwiseConv2D):
        return 0
    source, target = view(network.tensors[op.input]), view(network.tensors[op.output])
    reach = 0
    for axis in (0, 1):
        before = op.padding[axis]
        extent = (kernel_size(network, op)[axis] - 1) * op.dilation[axis] + 1
        after = (target[axis] - 1) * op.stride[axis] + extent - before - source[axis]
        reach = max(reach, before, after)
    return reach


def _channel_multiple(network: Network, buffer: str, readers: list[Op]) -> int:
    if buffer in network.inputs and readers:
        im2col = [isinstance(op, Conv2D) and uses_im2col(network, op) for op in readers]
        return 1 if all(im2col) else VECTOR_BYTES
    return VECTOR_BYTES


def _steps(network: Network, buffer_of: Mapping[str, str]) -> tuple[Step, ...]:
    born: dict[str, int] = {}
    dies: dict[str, int] = {}
    written = {op.output: time for time, op in enumerate(network.ops)}
    for tensor, last in _last_uses(network).items():
        buffer = buffer_of[tensor]
        time = written.get(tensor, 0)
        born[buffer] = min(born.get(buffer, time), time)
        dies[buffer] = max(dies.get(buffer, 0), last)
    return tuple(
        Step(op.name, tuple(b for b in born if born[b] <= time <= dies[b]))
        for time, op in enumerate(network.ops)
    )
