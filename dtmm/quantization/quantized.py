"""The int8 network of the TFLite quantization specification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dtmm.network.ir import Binary, Op, Shape, Weighted


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
        params: int8 weights (as in `dtmm.network.ir`) and constants, int32 biases, by key.
        weight_scales: per weight key, float32 [C_out] (symmetric, zero point 0); [1] per constant.
        zero_points: of constants, by key; 0 where absent.
    """

    name: str
    tensors: Mapping[str, QuantizedTensor]
    ops: tuple[Op, ...]
    params: Mapping[str, npt.NDArray[np.int8] | npt.NDArray[np.int32]]
    weight_scales: Mapping[str, npt.NDArray[np.float32]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    zero_points: Mapping[str, int] = field(default_factory=dict)

    def operands(self, op: Binary) -> tuple[tuple[float, int], ...]:
        """(scale, zero point) of both operands; a constant comes second."""
        found = [(self.tensors[name].scale, self.tensors[name].zero_point) for name in op.inputs]
        if op.constant is not None:
            scale = float(self.weight_scales[op.constant][0])
            found.append((scale, self.zero_points.get(op.constant, 0)))
        return tuple(found)

    def effective_scales(self, op: Weighted) -> npt.NDArray[np.float64]:
        """[C_out] factors input_scale * weight_scale / output_scale, in double as in TFLite."""
        source, target = self.tensors[op.input], self.tensors[op.output]
        scales = self.weight_scales[op.weight].astype(np.float64)
        return np.float64(source.scale) * scales / np.float64(target.scale)
