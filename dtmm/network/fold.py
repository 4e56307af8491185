"""Folds what an int8 network does not have: batch normalization and stand-alone activations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dtmm.errors import UnsupportedError
from dtmm.network.check import check
from dtmm.network.ir import (
    Activate,
    Activation,
    AveragePool2D,
    BatchNorm,
    Binary,
    Concat,
    Conv2D,
    DepthwiseConv2D,
    LeakyRelu,
    Logistic,
    MaxPool2D,
    Network,
    Op,
    Pad,
    Padding,
    Quantize,
    Reshape,
    Softmax,
    StridedSlice,
    Weighted,
    op_inputs,
)

Params = dict[str, npt.NDArray[np.float32]]

KEEPS_SCALE = (MaxPool2D, AveragePool2D, Reshape, Pad, StridedSlice, Concat)
"""Operators that TFLite requires to keep their inputs' scale and zero point."""


def fold(network: Network) -> Network:
    """The same function with every BatchNorm folded into the layer before it, every Activate fused
    into its producer, and a bias on every convolution and fully connected layer.

    Where no layer can take it (after an activation, a sum or a concatenation, or what others read
    too) a BatchNorm becomes a depthwise 1x1 convolution, a ReLU a LeakyRelu of slope 0 and a ReLU6
    a depthwise 1x1 convolution that clamps.

    A Pad that only convolutions read becomes their padding. A Concat must have one scale in int8:
    operands whose scale TFLite fixes get a Quantize in between. A folded chain's result keeps the
    name of the chain's last tensor; layers keep their names.

    Raises:
        DtmmError: the network is malformed (`dtmm.network.check`).
        UnsupportedError: a BatchNorm or ReLU6 of a vector that no layer can absorb.
    """
    check(network)
    network = _rescale_concats(_absorb_pads(network))
    ops: list[Op] = []
    params: Params = {}
    uses = _count_uses(network)
    for op in network.ops:
        if isinstance(op, BatchNorm | Activate):
            producer = next((n for n, o in enumerate(ops) if o.output == op.input), None)
            absorbed = None
            if producer is not None and uses[op.input] == 1:
                absorbed = _absorb(network, ops[producer], op, params)
            if producer is None or absorbed is None:
                ops.append(_on_its_own(network, op, params))
            else:
                ops[producer] = absorbed
        else:
            ops.append(_with_bias(network, op, params))
    return replace(_without_unused(replace(network, ops=tuple(ops))), params=params)


def _without_unused(network: Network) -> Network:
    """The network without the shapes of tensors that nobody writes any more."""
    kept = {*network.inputs, *(op.output for op in network.ops)}
    tensors = {name: shape for name, shape in network.tensors.items() if name in kept}
    return replace(network, tensors=tensors)


def _absorb_pads(network: Network) -> Network:
    ops: list[Op] = []
    pads: dict[str, Pad] = {}
    for op in network.ops:
        if isinstance(op, Pad) and _only_convolutions_read(network, op.output):
            pads[op.output] = op
        elif isinstance(op, Conv2D | DepthwiseConv2D) and op.input in pads:
            pad = pads[op.input]
            top, left, bottom, right = map(sum, zip(op.padding, pad.padding, strict=True))
            padding: Padding = (top, left, bottom, right)
            ops.append(replace(op, input=pad.input, padding=padding))
        else:
            ops.append(op)
    return _without_unused(replace(network, ops=tuple(ops)))


def _only_convolutions_read(network: Network, tensor: str) -> bool:
    readers = network.consumers(tensor)
    convs = all(isinstance(op, Conv2D | DepthwiseConv2D) for op in readers)
    return bool(readers) and convs and tensor not in network.outputs


def _rescale_concats(network: Network) -> Network:
    ops: list[Op] = []
    tensors = dict(network.tensors)
    for op in network.ops:
        if isinstance(op, Concat):
            fixed = [name for name in op.inputs if _has_fixed_scale(network, name)]
            if len(fixed) < len(op.inputs):
                renamed = {name: f"{op.name}.{name}" for name in fixed}
                for name, new in renamed.items():
                    ops.append(Quantize(new, name, new))
                    tensors[new] = tensors[name]
                op = replace(op, inputs=tuple(renamed.get(name, name) for name in op.inputs))
        ops.append(op)
    return replace(network, tensors=tensors, ops=tuple(ops))


def _has_fixed_scale(network: Network, tensor: str) -> bool:
    """Whether TFLite prescribes the scale of a tensor, or of what it only moves about."""
    op = network.producer(tensor)
    if isinstance(op, Softmax | Logistic):
        return True
    if isinstance(op, KEEPS_SCALE):
        return all(_has_fixed_scale(network, name) for name in op_inputs(op))
    return False


def _count_uses(network: Network) -> dict[str, int]:
    uses = dict.fromkeys(network.tensors, 0)
    for op in network.ops:
        for name in op_inputs(op):
            uses[name] += 1
    for name in network.outputs:
        uses[name] += 1
    return uses


def _with_bias(network: Network, op: Op, params: Params) -> Op:
    """Copy a layer's parameters; give it a zero bias where it has none."""
    if isinstance(op, Binary) and op.constant is not None:
        params[op.constant] = network.params[op.constant]
    if not isinstance(op, Weighted):
        return op
    weight = params[op.weight] = network.params[op.weight]
    if op.bias is not None:
        params[op.bias] = network.params[op.bias]
        return op
    key = f"{op.name}.bias"
    params[key] = np.zeros(weight.shape[0], np.float32)
    return replace(op, bias=key)


def _absorb(
    network: Network, layer: Op, op: BatchNorm | Activate, params: Params
) -> Weighted | Binary | None:
    """The layer with what follows it in it; None where it cannot take it."""
    if not isinstance(layer, Weighted | Binary) or layer.activation is not Activation.NONE:
        return None
    if isinstance(op, Activate):
        return replace(layer, output=op.output, activation=op.activation)
    if isinstance(layer, Binary):
        return None
    _scale_weights(network, layer, op, params)
    return replace(layer, output=op.output)


def _on_its_own(network: Network, op: BatchNorm | Activate, params: Params) -> Op:
    """An operator of its own for what no layer takes: after one that others read as well, or that
    has no weights, or has an activation already."""
    if isinstance(op, Activate) and op.activation is Activation.RELU:
        return LeakyRelu(op.name, op.input, op.output, 0.0)
    shape = network.tensors[op.input]
    if len(shape) != 4:
        raise UnsupportedError(_cannot_fold(network, op))
    weight, bias = f"{op.name}/depthwise.weight", f"{op.name}/depthwise.bias"
    params[weight] = np.ones((shape[3], 1, 1, 1), np.float32)
    params[bias] = np.zeros(shape[3], np.float32)
    layer = DepthwiseConv2D(op.name, op.input, op.output, weight, bias)
    if isinstance(op, Activate):
        return replace(layer, activation=op.activation)
    _scale_weights(network, layer, op, params)
    return layer


def _scale_weights(network: Network, layer: Weighted, norm: BatchNorm, params: Params) -> None:
    assert layer.bias is not None, "given by _with_bias"
    scale, shift, mean, variance = (
        network.params[key].astype(np.float64)
        for key in (norm.scale, norm.shift, norm.mean, norm.variance)
    )
    factor = scale / np.sqrt(variance + norm.epsilon)
    weight, bias = params[layer.weight], params[layer.bias]
    spread = factor.reshape(-1, *(1 for _ in weight.shape[1:]))
    params[layer.weight] = (weight * spread).astype(np.float32)
    params[layer.bias] = ((bias - mean) * factor + shift).astype(np.float32)


def _cannot_fold(network: Network, op: BatchNorm | Activate) -> str:
    producer = network.producer(op.input)
    what = type(producer).__name__ if producer else "the network input"
    return (
        f"{type(op).__name__} '{op.name}' cannot be folded: it follows {what} on the vector "
        f"'{op.input}'; expected a fully connected layer (for activations also an add) "
        "that nothing else reads, or an image"
    )
