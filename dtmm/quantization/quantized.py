"""The int8 network of the TFLite quantization specification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dtmm.network.ir import Conv2D, FullyConnected, Op, Shape


@dataclass(frozen=True)
class QuantizedTensor:
    """An int8 activation: real = scale * (q - zero_point). `scale` is a float32 value."""

    shape: Shape
    scale: float
    zero_point: int


@dataclass(frozen=True)
class QuantizedNetwork:
    """A folded network in int8: no BatchNorm, no stand-alone activation, every conv has a bias.

    Attributes:
        tensors: activations by name.
        ops: the same operator classes as `Network.ops`.
        params: int8 weights (conv OHWI, fully connected [C_out, C_in]) and int32 biases by key.
        weight_scales: per weight key, float32 [C_out] (symmetric, zero point 0).
    """

    name: str
    tensors: Mapping[str, QuantizedTensor]
    ops: tuple[Op, ...]
    params: Mapping[str, npt.NDArray[np.int8] | npt.NDArray[np.int32]]
    weight_scales: Mapping[str, npt.NDArray[np.float32]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def effective_scales(self, op: Conv2D | FullyConnected) -> npt.NDArray[np.float64]:
        """[C_out] factors input_scale * weight_scale / output_scale, in double as in TFLite."""
        source, target = self.tensors[op.input], self.tensors[op.output]
        scales = self.weight_scales[op.weight].astype(np.float64)
        return np.float64(source.scale) * scales / np.float64(target.scale)
