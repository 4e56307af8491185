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
    Add,
    BatchNorm,
    Conv2D,
    FullyConnected,
    Network,
    Op,
    op_inputs,
)

Params = dict[str, npt.NDArray[np.float32]]


def fold(network: Network) -> Network:
    """The same function with every BatchNorm folded into the layer before it, every Activate fused
    into its producer, and a bias on every convolution and fully connected layer.

    A folded chain's result keeps the name of the chain's last tensor; layers keep their names.

    Raises:
        DtmmError: the network is malformed (`dtmm.network.check`).
        UnsupportedError: a BatchNorm or Activate whose input no layer can absorb.
    """
    check(network)
    ops: list[Op] = []
    params: Params = {}
    uses = _count_uses(network)
    for op in network.ops:
        if isinstance(op, BatchNorm | Activate):
            producer = next((n for n, o in enumerate(ops) if o.output == op.input), None)
            if producer is None or uses[op.input] != 1:
                raise UnsupportedError(_cannot_fold(network, op, uses[op.input]))
            ops[producer] = _absorb(network, ops[producer], op, params)
        else:
            ops.append(_with_bias(network, op, params))
    kept = {*network.inputs, *(op.output for op in ops)}
    tensors = {name: shape for name, shape in network.tensors.items() if name in kept}
    return replace(network, tensors=tensors, ops=tuple(ops), params=params)


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
    if not isinstance(op, Conv2D | FullyConnected):
        return op
    weight = params[op.weight] = network.params[op.weight]
    if op.bias is not None:
        params[op.bias] = network.params[op.bias]
        return op
    key = f"{op.name}.bias"
    params[key] = np.zeros(weight.shape[0], np.float32)
    return replace(op, bias=key)


def _absorb(network: Network, layer: Op, op: BatchNorm | Activate, params: Params) -> Op:
    if isinstance(layer, Conv2D | FullyConnected | Add) and layer.activation is Activation.NONE:
        if isinstance(op, Activate):
            return replace(layer, output=op.output, activation=op.activation)
        if not isinstance(layer, Add):
            _scale_weights(network, layer, op, params)
            return replace(layer, output=op.output)
    raise UnsupportedError(_cannot_fold(network, op, 1))


def _scale_weights(
    network: Network, layer: Conv2D | FullyConnected, norm: BatchNorm, params: Params
) -> None:
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


def _cannot_fold(network: Network, op: BatchNorm | Activate, uses: int) -> str:
    producer = network.producer(op.input)
    what = type(producer).__name__ if producer else "the network input"
    reason = f"its input '{op.input}' is used {uses} times" if uses != 1 else f"it follows {what}"
    return (
        f"{type(op).__name__} '{op.name}' cannot be folded: {reason}; expected a convolution, "
        "a fully connected layer or an add (activations only) that nothing else reads"
    )
