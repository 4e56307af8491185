"""What int8 costs each tensor: signal-to-quantization-noise ratios."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dtmm.network.ir import Network, Weighted
from dtmm.quantization.quantized import QuantizedNetwork
from dtmm.table import write_table

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorError:
    """A line of the error report.

    Attributes:
        tensor: an activation; layer: the operator that writes it ("input" for the input).
        kind: the operator's class.
        scale, zero_point: of its int8 codes.
        sqnr_db: 10 log10(power of the float values / power of their error) over all images, every
            error on the way to this tensor included; inf where there is none.
        clipped: share of the float values that the codes do not reach.
        weight_sqnr_db: the same ratio of the layer's weights, None where it has none.
    """

    tensor: str
    layer: str
    kind: str
    scale: float
    zero_point: int
    sqnr_db: float
    clipped: float
    weight_sqnr_db: float | None


def tensor_errors(
    folded: Network,
    quantized: QuantizedNetwork,
    exact: Mapping[str, Array],
    found: Mapping[str, Array],
) -> tuple[TensorError, ...]:
    """Compares two runs of the same images, in execution order.

    Args:
        exact: per tensor of the float network [N, ...], NHWC.
        found: per tensor the int8 codes of the same shape.
    """
    errors = []
    for name in [*folded.inputs, *(op.output for op in folded.ops)]:
        tensor, op = quantized.tensors[name], folded.producer(name)
        codes = found[name].astype(np.float64).reshape(exact[name].shape)
        values = exact[name].astype(np.float64)
        low, high = (tensor.scale * (end - tensor.zero_point) for end in (-128.5, 127.5))
        weights = None
        if isinstance(op, Weighted):
            weight, scale = folded.params[op.weight], quantized.weight_scales[op.weight]
            spread = scale.reshape(-1, *(1 for _ in weight.shape[1:]))
            weights = sqnr_db(weight, quantized.params[op.weight] * spread.astype(np.float64))
        errors.append(
            TensorError(
                tensor=name,
                layer="input" if op is None else op.name,
                kind="input" if op is None else type(op).__name__,
                scale=tensor.scale,
                zero_point=tensor.zero_point,
                sqnr_db=sqnr_db(values, tensor.scale * (codes - tensor.zero_point)),
                clipped=float(np.mean((values < low) | (values > high))),
                weight_sqnr_db=weights,
            )
        )
    return tuple(errors)


def save_errors(path: Path, errors: Sequence[TensorError], images: int) -> None:
    """A CSV with a line per tensor.

    Raises:
        ArtifactError: the file cannot be written.
    """
    about = {"what": "int8 against float, per tensor", "images": images, "unit": "sqnr in dB"}
    write_table(path, pd.DataFrame([asdict(error) for error in errors]), about)


def sqnr_db(exact: Array, found: Array) -> float:
    """10 log10(sum of exact^2 / sum of (exact - found)^2): inf without error, -inf without signal,
    which is an error of something that is zero."""
    signal = float(np.square(exact, dtype=np.float64).sum())
    noise = float(np.square(exact - found, dtype=np.float64).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf
