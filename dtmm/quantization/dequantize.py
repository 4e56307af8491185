"""Int8 back to float: the network that a quantized one approximates."""

from __future__ import annotations

import numpy as np

from dtmm.network.ir import Binary, Network, Weighted
from dtmm.quantization.quantized import QuantizedNetwork


def dequantize(network: QuantizedNetwork) -> Network:
    """The same operators on float32 weights: what is pruned, fine-tuned and quantized again.

    A weight is its code times its channel's scale, so pruned weights stay exactly zero; a bias its
    code times input_scale * weight_scale.
    """
    params = {}
    for op in network.ops:
        if isinstance(op, Weighted):
            scales = network.weight_scales[op.weight].astype(np.float64)
            weight = network.params[op.weight]
            spread = scales.reshape(-1, *[1] * (weight.ndim - 1))
            params[op.weight] = (weight * spread).astype(np.float32)
            if op.bias is not None:
                factors = scales * network.tensors[op.input].scale
                params[op.bias] = (network.params[op.bias] * factors).astype(np.float32)
        elif isinstance(op, Binary) and op.constant is not None:
            scale = network.weight_scales[op.constant]
            codes = network.params[op.constant].astype(np.int32)
            above = codes - network.zero_points.get(op.constant, 0)
            params[op.constant] = (above * scale).astype(np.float32)
    return Network(
        name=network.name,
        tensors={name: tensor.shape for name, tensor in network.tensors.items()},
        ops=network.ops,
        params=params,
        inputs=network.inputs,
        outputs=network.outputs,
    )
