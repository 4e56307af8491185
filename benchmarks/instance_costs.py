"""What operators cost in benchmark instances: formulas, frozen here.

Instances must stay the same when kernels get faster, so nothing is taken from the library:

- cycles of the FWCS kernel: 2.6 P K V + 0.5 P K + 6.6 P F + 21 P + 11700, with P output pixels, F
  filters, K filterlets kept (of all filters), V vectors of 16 input channels. Fitted to the 56
  convolutions by conv_fwcs of benchmarks/results/kernels.csv at commit a243992 (3 % rms, at most
  13 % off);
- the dense kernel: 2 P K V (128 MAC in 16 cycles) and the same rest, without 0.5 P K for the index;
  im2col for the first layer: V of the window, and 70 P to gather it;
- a kernel specialised to one input stride: a tenth less, for code that is paid once;
- flash: filterlets padded to 16 channels, 12 bytes of parameters and 1 or 2 bytes of index per
  filter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.scheduler_graphs import Graph, Op, Tensor

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CODE: Mapping[str, float] = {
    "conv_dense": 2400.0,
    "conv_fwcs": 3100.0,
    "conv_im2col": 1500.0,
    "conv_dense_c64": 1900.0,
    "conv_dense_c128": 2600.0,
    "conv_fwcs_c64": 2200.0,
    "conv_fwcs_c128": 3000.0,
}
"""Code bytes by kernel id; the specialised ones are for an input stride of 64 and 128."""
VECTOR_BYTES = 16
PARAMETER_BYTES = 12
SPECIAL_STRIDES = (64, 128)
SPECIAL_GAIN = 0.9


def conv_cycles(
    kernel: str, pixels: int, in_channels: int, filters: Ints, filterlets: Ints, positions: int
) -> Floats:
    """[n] cycles of a convolution for [n] filters and filterlets kept."""
    f, kept = filters.astype(np.float64), filterlets.astype(np.float64)
    rest = 6.6 * pixels * f + 21.0 * pixels + 11_700.0
    if kernel == "conv_im2col":
        vectors = -(-in_channels * positions // VECTOR_BYTES)
        return np.asarray(2.0 * pixels * f * vectors + 70.0 * pixels + rest)
    vectors = -(-in_channels // VECTOR_BYTES)
    if kernel.startswith("conv_dense"):
        cycles = 2.0 * pixels * f * positions * vectors + rest
    else:
        cycles = 2.6 * pixels * kept * vectors + 0.5 * pixels * kept + rest
    return np.asarray(cycles * (SPECIAL_GAIN if kernel[-1].isdigit() else 1.0))


def conv_flash(
    kernel: str, positions: int, in_channels: int, filters: Ints, filterlets: Ints
) -> Floats:
    """[n] bytes of weights, index and parameters."""
    parameters = PARAMETER_BYTES * filters
    if kernel == "conv_im2col":
        return np.asarray(filters * rounded_up(in_channels * positions) + parameters, np.float64)
    stride = rounded_up(in_channels)
    if kernel.startswith("conv_dense"):
        return np.asarray(filters * positions * stride + parameters, np.float64)
    index = -(-positions // 8) * filters
    return np.asarray(filterlets * stride + index + parameters, np.float64)


def rounded_up(value: Any, multiple: int = VECTOR_BYTES) -> Any:
    return -(-value // multiple) * multiple


def conv_scratch(kernel: str, width: int, positions: int, stride: int, kept: Ints) -> Floats:
    if kernel == "conv_im2col":
        return np.full(len(kept), float(width * VECTOR_BYTES * 2))
    if kernel.startswith("conv_dense"):
        return np.full(len(kept), 2.0 * (2 + positions))
    return np.asarray(2.0 * (positions + kept), np.float64)


def random_scores(graph: Graph, convs: list[Op], rng: np.random.Generator) -> dict[str, Floats]:
    """[F, positions] per convolution; all that may be removed sums to 1 nat."""
    scores = {}
    for op in convs:
        filters, positions = graph.tensors[op.output].channels, op.kernel**2
        layer, spread = rng.lognormal(0, 0.7), rng.lognormal(0, 0.8, (filters, 1))
        units = rng.lognormal(0, 0.9, (filters, positions))
        scores[op.name] = layer * spread * units / (filters * positions)
    total = sum(float(values.sum()) for values in scores.values())
    return {name: values / total for name, values in scores.items()}


def op_cycles(op: Op, source: Tensor, out: Tensor, channels: Floats) -> Floats:
    """[n] cycles of an operator that is no convolution, for [n] channels."""
    vectors = np.ceil(channels / VECTOR_BYTES)
    pixels, read = out.height * out.width, source.height * source.width
    per_vector = {
        "add": 115.0 * pixels,
        "max_pool": 98.0 * pixels,
        "mean": 12.0 * read,
        "depthwise": pixels * (4.0 * op.kernel**2 + 60.0),
        "fully_connected": 5.0 * read * out.channels,
    }
    return np.asarray(per_vector[op.kind] * vectors)
