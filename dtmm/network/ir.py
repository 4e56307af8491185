"""The network intermediate representation: what a model is, in numpy, NHWC, with TFLite semantics.

A :class:`Network` is a list of operators in execution order over named tensors. Operators hold
structure only; their weights live in ``Network.params`` under the keys the operator names. The same
operator classes describe a float network and an int8 one (`dtmm.quantization.QuantizedNetwork`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]
"""(1, H, W, C) for an image tensor, (1, C) for a vector."""

Pair = tuple[int, int]
"""(vertical, horizontal)."""

Padding = tuple[int, int, int, int]
"""(top, left, bottom, right), in pixels."""


class Activation(str, Enum):
    """The activation fused into an operator (TFLite `fused_activation_function`)."""

    NONE = "none"
    RELU = "relu"
    RELU6 = "relu6"


@dataclass(frozen=True)
class Conv2D:
    """Convolution. `weight`: [C_out, kh, kw, C_in / groups] (OHWI); `bias`: [C_out], may be absent.

    Output channels g * C_out / groups and on read the input channels g * C_in / groups and on only.
    """

    name: str
    input: str
    output: str
    weight: str
    bias: str | None
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    activation: Activation = Activation.NONE
    groups: int = 1


@dataclass(frozen=True)
class DepthwiseConv2D:
    """One filter per channel (depth multiplier 1). `weight`: [C, kh, kw, 1]; `bias`: [C] or absent.

    Its output keeps the channels of its input, so pruning treats it like an elementwise operator.
    """

    name: str
    input: str
    output: str
    weight: str
    bias: str | None
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class FullyConnected:
    """Dense layer on (1, C_in). `weight`: [C_out, C_in]; `bias`: [C_out], may be absent.

    Columns of a flattened image are in H, W, C order.
    """

    name: str
    input: str
    output: str
    weight: str
    bias: str | None
    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class BatchNorm:
    """y = (x - mean) / sqrt(variance + epsilon) * scale + shift, per channel; each param is [C]."""

    name: str
    input: str
    output: str
    scale: str
    shift: str
    mean: str
    variance: str
    epsilon: float = 1e-5


@dataclass(frozen=True)
class Activate:
    """A stand-alone activation; `fold` fuses it into its producer."""

    name: str
    input: str
    output: str
    activation: Activation


@dataclass(frozen=True)
class Add:
    """Elementwise sum of two tensors, or of one and a constant.

    One operand may be a single pixel, (1, C) or (1, 1, 1, C), that every pixel of the other meets.

    Attributes:
        inputs: one tensor where there is a constant, else two.
        constant: parameter of shape [C] or [1].
    """

    name: str
    inputs: tuple[str, ...]
    output: str
    activation: Activation = Activation.NONE
    constant: str | None = None


@dataclass(frozen=True)
class Mul:
    """Elementwise product; operands as in `Add`."""

    name: str
    inputs: tuple[str, ...]
    output: str
    activation: Activation = Activation.NONE
    constant: str | None = None


@dataclass(frozen=True)
class Concat:
    """The channels of its inputs one after the other; all else about their shapes is equal."""

    name: str
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class Pad:
    """Adds pixels of zero around an image."""

    name: str
    input: str
    output: str
    padding: Padding


@dataclass(frozen=True)
class StridedSlice:
    """Every `stride`-th pixel from `begin` on, before `end`; all are (vertical, horizontal)."""

    name: str
    input: str
    output: str
    begin: Pair
    end: Pair
    stride: Pair = (1, 1)


@dataclass(frozen=True)
class MaxPool2D:
    """Maximum over a window."""

    name: str
    input: str
    output: str
    window: Pair
    stride: Pair
    padding: Padding = (0, 0, 0, 0)


@dataclass(frozen=True)
class AveragePool2D:
    """Average over a window; padded pixels are not counted (TFLite semantics)."""

    name: str
    input: str
    output: str
    window: Pair
    stride: Pair
    padding: Padding = (0, 0, 0, 0)


@dataclass(frozen=True)
class Mean:
    """Mean over height and width: (1, H, W, C) to (1, C), or to (1, 1, 1, C) with `keep_dims`."""

    name: str
    input: str
    output: str
    keep_dims: bool = False


@dataclass(frozen=True)
class Reshape:
    """(1, H, W, C) to (1, H*W*C) in NHWC order."""

    name: str
    input: str
    output: str


@dataclass(frozen=True)
class Softmax:
    """exp(beta * x) over the channels of each pixel, divided by their sum."""

    name: str
    input: str
    output: str
    beta: float = 1.0


@dataclass(frozen=True)
class Logistic:
    """1 / (1 + exp(-x))."""

    name: str
    input: str
    output: str


@dataclass(frozen=True)
class HardSwish:
    """x * min(max(x + 3, 0), 6) / 6."""

    name: str
    input: str
    output: str


@dataclass(frozen=True)
class LeakyRelu:
    """x where it is positive, else alpha * x; alpha >= 0."""

    name: str
    input: str
    output: str
    alpha: float


@dataclass(frozen=True)
class Quantize:
    """The identity; an int8 network changes scale and zero point here (TFLite QUANTIZE)."""

    name: str
    input: str
    output: str


Op = (
    Conv2D
    | DepthwiseConv2D
    | FullyConnected
    | BatchNorm
    | Activate
    | Add
    | Mul
    | Concat
    | Pad
    | StridedSlice
    | MaxPool2D
    | AveragePool2D
    | Mean
    | Reshape
    | Softmax
    | Logistic
    | HardSwish
    | LeakyRelu
    | Quantize
)

Weighted = Conv2D | DepthwiseConv2D | FullyConnected
"""Operators with weights and a bias."""

Binary = Add | Mul
"""Operators on two operands, of which one may be a constant."""

Lookup = Logistic | HardSwish | LeakyRelu | Quantize
"""Functions of one value: on int8 a table of 256 entries each."""


def op_inputs(op: Op) -> tuple[str, ...]:
    """Names of the activation tensors an operator reads."""
    return op.inputs if isinstance(op, Add | Mul | Concat) else (op.input,)


@dataclass(frozen=True)
class Network:
    """A float network.

    Attributes:
        name: what reports call it.
        tensors: shape of every activation tensor, by name; batch is always 1.
        ops: operators in execution order (each reads only inputs and earlier outputs).
        params: float32 weights by key.
        inputs, outputs: tensor names at the border.
    """

    name: str
    tensors: Mapping[str, Shape]
    ops: tuple[Op, ...]
    params: Mapping[str, npt.NDArray[np.float32]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def producer(self, tensor: str) -> Op | None:
        """The operator that writes `tensor`, or None for a network input."""
        return next((op for op in self.ops if op.output == tensor), None)

    def consumers(self, tensor: str) -> tuple[Op, ...]:
        """The operators that read `tensor`."""
        return tuple(op for op in self.ops if tensor in op_inputs(op))

    def convs(self) -> tuple[Conv2D, ...]:
        """The convolutions, in execution order."""
        return tuple(op for op in self.ops if isinstance(op, Conv2D))
