"""Gives a network without batch normalization one behind each convolution that changes nothing.

A quantized network has its normalization folded into its weights. Fine-tuning at usual rates then
diverges, and a pruned network cannot be judged after its statistics are estimated anew. Statistics
measured on images undo the folding: scaled and shifted by themselves they are the identity.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from dtmm.network.ir import Activate, Activation, BatchNorm, Conv2D, DepthwiseConv2D, Network, Op
from dtmm.training.executor import Executor
from dtmm.training.loop import to_tensor

BATCH = 128

Floats = npt.NDArray[np.float64]


def with_batch_norm(network: Network, images: npt.NDArray[np.float32]) -> Network:
    """The same function, normalized behind every convolution.

    Biases move into the normalizations' shifts, activations become operators of their own, tensors
    keep their names; `fold` makes the given network of it again, but for rounding.

    Args:
        network: folded, not changed.
        images: [N, H, W, C] float32, at least one, that the statistics are measured on.
    """
    ops: list[Op] = []
    params, tensors = dict(network.params), dict(network.tensors)
    norms: list[tuple[BatchNorm, str | None]] = []
    for op in network.ops:
        if not isinstance(op, Conv2D | DepthwiseConv2D):
            ops.append(op)
            continue
        raw, norm = _norm(op)
        norms.append((norm, op.bias))
        channels = len(network.params[op.weight])
        params |= _identity(norm, channels)
        tensors |= {raw: tensors[op.output], norm.output: tensors[op.output]}
        ops += [replace(op, output=raw, activation=Activation.NONE), norm]
        if op.activation is not Activation.NONE:
            ops.append(Activate(f"{op.name}/activation", norm.output, op.output, op.activation))
    normal = replace(network, ops=tuple(ops), params=params, tensors=tensors)
    moments = _moments(normal, {norm.input for norm, _ in norms}, images)
    for norm, bias in norms:
        mean, variance = moments[norm.input]
        before = params.pop(bias) if bias is not None else np.zeros_like(mean)
        params |= {
            norm.mean: (mean - before).astype(np.float32),
            norm.variance: variance.astype(np.float32),
            norm.scale: np.sqrt(variance + norm.epsilon).astype(np.float32),
            norm.shift: mean.astype(np.float32),
        }
    bare = (replace(o, bias=None) if isinstance(o, Conv2D | DepthwiseConv2D) else o for o in ops)
    return replace(normal, ops=tuple(bare), params=params)


def _norm(op: Conv2D | DepthwiseConv2D) -> tuple[str, BatchNorm]:
    """What a convolution writes instead, and the normalization that reads it."""
    raw, name = f"{op.output}/raw", f"{op.name}/norm"
    normed = op.output if op.activation is Activation.NONE else f"{op.output}/norm"
    return raw, BatchNorm(
        name, raw, normed, f"{name}.scale", f"{name}.shift", f"{name}.mean", f"{name}.variance"
    )


def _identity(norm: BatchNorm, channels: int) -> dict[str, npt.NDArray[np.float32]]:
    zeros, ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    return {norm.scale: ones, norm.shift: zeros, norm.mean: zeros,
            norm.variance: ones - np.float32(norm.epsilon)}  # fmt: skip


@torch.no_grad()
def _moments(
    network: Network, wanted: set[str], images: npt.NDArray[np.float32]
) -> dict[str, tuple[Floats, Floats]]:
    """Mean and variance [C] of tensors over images and pixels."""
    executor = Executor(network).eval()
    sums = {name: np.zeros((2, network.tensors[name][-1])) for name in wanted}
    counts = dict.fromkeys(wanted, 0)

    def add(name: str, value: torch.Tensor) -> None:
        if name in wanted:
            pixels = value.double().transpose(0, 1).flatten(1)
            sums[name] += torch.stack([pixels.sum(1), pixels.square().sum(1)]).numpy()
            counts[name] += pixels.shape[1]

    for start in range(0, len(images), BATCH):
        executor(to_tensor(images[start : start + BATCH]), watch=add)
    found = {}
    for name in wanted:
        mean, square = sums[name] / counts[name]
        found[name] = (mean, np.maximum(square - mean**2, 0))
    return found
