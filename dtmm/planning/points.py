"""The questions to the cost model: shape and counts of every operator at every choice."""

from __future__ import annotations

from collections.abc import Iterator

from dtmm.errors import DtmmError
from dtmm.latency.table import OpShape, Point
from dtmm.network.ir import (
    Add,
    AveragePool2D,
    Conv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Network,
    Op,
    Reshape,
    op_inputs,
)
from dtmm.planning.kernels import kernel_size
from dtmm.planning.levels import ConvChoices, Levels, choices
from dtmm.planning.nouns import Layout

KINDS: dict[type[Op], str] = {
    Add: "add",
    AveragePool2D: "average_pool",
    Conv2D: "conv2d",
    FullyConnected: "fully_connected",
    MaxPool2D: "max_pool",
    Mean: "mean",
}
"""Kind of every operator that runs code (a Reshape does not); but for convolutions, also the id of
its kernel."""


def required_points(folded: Network, layout: Layout, levels: Levels) -> tuple[Point, ...]:
    """Every point that `formulate` asks the cost model for, each once."""
    options = choices(folded, levels)
    points: dict[Point, None] = {}
    for op in folded.ops:
        if isinstance(op, Reshape):
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


def deciding_group(layout: Layout, op: Op) -> str:
    """The channel group that decides what an operator other than a convolution costs."""
    tensor = op_inputs(op)[0]
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

    A fully connected layer reads in_hw pixels of `channels` each, and keeps all its outputs.
    """
    out = folded.tensors[op.output][-1] if isinstance(op, FullyConnected) else channels
    return Point(shape, shape.kind, channels, out)


def op_shape(folded: Network, layout: Layout, op: Op) -> OpShape:
    """What an operator's latency depends on besides counts; halos are those of its buffers."""
    sources = [layout.buffers[layout.tensor_buffer[tensor]] for tensor in op_inputs(op)]
    target = layout.buffers[layout.tensor_buffer[op.output]]
    kind = KINDS[type(op)]
    in_hw, out_hw = (sources[0].height, sources[0].width), (target.height, target.width)
    in_halo, out_halo = max(source.halo for source in sources), target.halo
    if isinstance(op, Conv2D):
        return OpShape(
            kind,
            in_hw,
            out_hw,
            kernel=kernel_size(folded, op),
            stride=op.stride,
            dilation=op.dilation,
            pad=op.padding[:2],
            in_halo=in_halo,
            out_halo=out_halo,
        )
    if isinstance(op, MaxPool2D | AveragePool2D):
        return OpShape(
            kind,
            in_hw,
            out_hw,
            kernel=op.window,
            stride=op.stride,
            pad=op.padding[:2],
            in_halo=in_halo,
            out_halo=out_halo,
        )
    return OpShape(kind, in_hw, out_hw, in_halo=in_halo, out_halo=out_halo)
