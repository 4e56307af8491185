"""The questions to the cost model: shape and counts of every operator at every choice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dtmm.errors import DtmmError
from dtmm.latency.table import OpShape, Point
from dtmm.network.groups import channel_groups
from dtmm.network.ir import (
    Add,
    AveragePool2D,
    Concat,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    HardSwish,
    LeakyRelu,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Network,
    Op,
    Pad,
    Pair,
    Quantize,
    Softmax,
    StridedSlice,
    op_inputs,
)
from dtmm.planning.kernels import kernel_size
from dtmm.planning.layout import runs_code
from dtmm.planning.levels import Choices, ConvChoices, Levels, choices
from dtmm.planning.nouns import Buffer, Layout
from dtmm.scheduler.problem import Schedule

KINDS: dict[type[Op], str] = {
    Add: "add",
    AveragePool2D: "average_pool",
    Concat: "concat",
    Conv2D: "conv2d",
    DepthwiseConv2D: "depthwise_conv",
    FullyConnected: "fully_connected",
    HardSwish: "lookup",
    LeakyRelu: "lookup",
    Logistic: "lookup",
    MaxPool2D: "max_pool",
    Mean: "mean",
    Mul: "mul",
    Pad: "pad",
    Quantize: "lookup",
    Softmax: "softmax",
    StridedSlice: "strided_slice",
}
"""Kind of every operator class that runs code (a Reshape does not); see `kind_of`."""


def kind_of(network: Network, op: Op) -> str:
    """Kind of an operator; but for convolutions, also the id of its kernel.

    A sum or product with a number is a lookup; one with a pixel runs as a broadcast.
    """
    if isinstance(op, Add | Mul):
        if op.constant is not None and network.params[op.constant].size == 1:
            return "lookup"
        if op.constant is not None or len({network.tensors[name] for name in op.inputs}) > 1:
            return f"{KINDS[type(op)]}_broadcast"
    return KINDS[type(op)]


def required_points(
    folded: Network, layout: Layout, levels: Levels, options: Choices | None = None
) -> tuple[Point, ...]:
    """Every point that `formulate` asks the cost model for, each once."""
    options = options or choices(folded, levels)
    points: dict[Point, None] = {}
    for op in folded.ops:
        if not runs_code(layout, op):
            continue
        shape = op_shape(folded, layout, op)
        if isinstance(op, Conv2D):
            choice = options.convs[op.name]
            inputs, outputs = (
                options.levels[group].tolist()
                for group in (choice.input_group, choice.output_group)
            )
            for i, c_in in enumerate(inputs):
                for _, _, point in conv_points(shape, choice, i, c_in, outputs):
                    points[point] = None
        else:
            for count in options.levels[deciding_group(layout, op)].tolist():
                points[op_point(folded, shape, op, count)] = None
    return tuple(points)


def scheduled_points(folded: Network, layout: Layout, schedule: Schedule) -> dict[str, Point]:
    """The point of every operator that runs code, by name, as a schedule decides them."""
    groups = {tensor: group.name for group in channel_groups(folded) for tensor in group.tensors}
    points = {}
    for op in folded.ops:
        if not runs_code(layout, op):
            continue
        shape = op_shape(folded, layout, op)
        if isinstance(op, Conv2D):
            inputs, outputs = (schedule.channels[groups[name]] for name in (op.input, op.output))
            kept = schedule.filterlets[op.name]
            points[op.name] = Point(shape, schedule.kernels[op.name], inputs, outputs, kept)
        else:
            count = schedule.channels[deciding_group(layout, op)]
            points[op.name] = op_point(folded, shape, op, count)
    return points


def deciding_group(layout: Layout, op: Op) -> str:
    """The channel group that decides what an operator other than a convolution costs."""
    tensor = op.output if isinstance(op, Concat) else op_inputs(op)[0]
    group = layout.buffers[layout.tensor_buffer[tensor]].group
    if group is None:
        raise DtmmError(f"tensor {tensor!r}, read by {op.name!r}, belongs to no channel group")
    return group


def conv_points(
    shape: OpShape, choice: ConvChoices, i: int, c_in: int, outputs: list[int]
) -> Iterator[tuple[int, int, Point]]:
    """(j, k, point) of each allowed option of a convolution at input level `i`."""
    for j, c_out in enumerate(outputs):
        for k, kernel in enumerate(choice.kernels):
            if choice.allowed[i, j, k]:
                filterlets = int(choice.filterlets[j, k])
                yield j, k, Point(shape, kernel, c_in, c_out, filterlets)


def op_point(folded: Network, shape: OpShape, op: Op, channels: int) -> Point:
    """The point of any other operator whose (first) input keeps `channels`.

    A fully connected layer reads in_hw pixels of `channels` each, and keeps all its outputs. A
    Concat is charged as if it copied all its operands, `channels` together.
    """
    out = folded.tensors[op.output][-1] if isinstance(op, FullyConnected) else channels
    return Point(shape, shape.kind, channels, out)


def op_shape(folded: Network, layout: Layout, op: Op) -> OpShape:
    """What an operator's latency depends on besides counts; halos are those of its buffers."""
    target = layout.buffers[layout.tensor_buffer[op.output]]
    sources = [layout.buffers[layout.tensor_buffer[tensor]] for tensor in op_inputs(op)]
    if isinstance(op, Add | Mul):  # without a pixel that every pixel of the other operand meets
        sources = [each for each in sources if _pixels(each) == _pixels(target)]
    source = sources[0]
    shape = OpShape(
        kind_of(folded, op),
        _pixels(source),
        _pixels(target),
        in_halo=max(source.halo for source in sources),
        out_halo=target.halo,
    )
    if isinstance(op, Conv2D | DepthwiseConv2D):
        return replace(
            shape,
            kernel=kernel_size(folded, op),
            stride=op.stride,
            dilation=op.dilation,
            pad=op.padding[:2],
            groups=op.groups if isinstance(op, Conv2D) else 1,
        )
    if isinstance(op, MaxPool2D | AveragePool2D):
        return replace(shape, kernel=op.window, stride=op.stride, pad=op.padding[:2])
    if isinstance(op, StridedSlice):
        return replace(shape, stride=op.stride)
    if isinstance(op, Pad):
        return replace(shape, pad=op.padding[:2])
    return shape


def _pixels(buffer: Buffer) -> Pair:
    return buffer.height, buffer.width
