"""Takes the mean error of rounded weights out of the biases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from dtmm.network.ir import Activation, Network, Weighted
from dtmm.quantization.quantized import QuantizedNetwork
from dtmm.training.executor import Executor
from dtmm.training.loop import to_tensor


@torch.no_grad()
def correct_biases(
    folded: Network,
    quantized: QuantizedNetwork,
    images: npt.NDArray[np.float32],
    batch: int = 256,
) -> Network:
    """`folded` with biases such that int8 weights give its layers' outputs without bias on average.

    With e = (rounded - float weights), the mean of e * x over images and pixels is taken off the
    bias, x the layer's input in the float network: Nagel et al. 2019, "Data-free quantization
    through weight equalization and bias correction", section 4.2, with means measured on images.

    Args:
        quantized: `folded` in int8.
        images: [N, H, W, C] float32, preprocessed as in training.
    """
    executor, error = Executor(folded).eval(), Executor(_weight_error(folded, quantized)).eval()
    wanted = {op.input for op in folded.ops if isinstance(op, Weighted)}
    sums = {layer.op.name: torch.zeros(len(layer.weight)) for layer in error.layers()}
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str, value: torch.Tensor) -> None:
        if name in wanted:
            seen[name] = value

    for start in range(0, len(images), batch):
        executor(to_tensor(images[start : start + batch]), watch=keep)
        for layer in error.layers():
            shift = layer(seen[layer.op.input])
            sums[layer.op.name] += (
                shift.flatten(2).mean(2).sum(0) if shift.ndim == 4 else shift.sum(0)
            )
    params = dict(folded.params)
    for op in folded.ops:
        if isinstance(op, Weighted) and op.bias is not None:
            params[op.bias] = params[op.bias] - (sums[op.name] / len(images)).numpy()
    return replace(folded, params=params)


def _weight_error(folded: Network, quantized: QuantizedNetwork) -> Network:
    """The network with rounding errors for weights, without biases and activations."""
    params = dict(folded.params)
    ops = []
    for op in folded.ops:
        if isinstance(op, Weighted):
            weight = params[op.weight]
            scale = quantized.weight_scales[op.weight].reshape(-1, *(1 for _ in weight.shape[1:]))
            params[op.weight] = (quantized.params[op.weight] * scale - weight).astype(np.float32)
            op = replace(op, bias=None, activation=Activation.NONE)
        ops.append(op)
    return replace(folded, ops=tuple(ops), params=params)
