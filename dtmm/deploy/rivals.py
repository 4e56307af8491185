"""Which convolutions of a network run on CSR or FKW weights: those that gain by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from dtmm.errors import UnsupportedError
from dtmm.network.ir import Conv2D
from dtmm.planning.kernels import only_kernel
from dtmm.quantization.dequantize import dequantize
from dtmm.quantization.quantized import QuantizedNetwork
from dtmm.storage import encode_csr, encode_fkw
from dtmm.storage.fkw import TAPS
from dtmm.storage.kernel_ids import CONV_CSR, CONV_FKW
from dtmm.storage.stored import VECTOR_BYTES, round_up

Int8 = npt.NDArray[np.int8]

_FILTER = 38.0
"""Cycles that a filter takes besides its weights, for four output pixels: its requantization."""


def rival_kernels(network: QuantizedNetwork, operator: str) -> dict[str, str]:
    """`operator` for every convolution that it runs faster than the kernel of whole filterlets.

    Dense-ish layers, the first one and grouped ones stay as they are; for `dtmm.deploy.plan`.

    Args:
        operator: "conv_csr" for single weights pruned, "conv_fkw" for patterns.

    Raises:
        UnsupportedError: another operator.
    """
    if operator not in _CYCLES:
        raise UnsupportedError(
            f"no rival kernel {operator!r}: expected one of {', '.join(_CYCLES)}"
        )
    structure = dequantize(network)
    chosen = {}
    for op in network.ops:
        if not isinstance(op, Conv2D) or only_kernel(structure, op) is not None:
            continue
        weights = np.asarray(network.params[op.weight], np.int8)
        if not _runs(operator, op, weights):
            continue
        try:
            cycles = _CYCLES[operator](weights)
        except UnsupportedError:  # a kernel of more than four weights, a window of 64 KiB
            continue
        if cycles < filterlet_cycles(weights):
            chosen[op.name] = operator
    return chosen


def _runs(operator: str, op: Conv2D, weights: Int8) -> bool:
    if operator == CONV_FKW:
        return weights.shape[1:3] == (3, 3)
    return op.dilation[1] == 1 or weights.shape[2] == 1


def filterlet_cycles(weights: Int8) -> float:
    """Cycles for four output pixels on our dense or FWCS kernel, roughly: two for each vector of 16
    weights and pixel, and what runs and filters cost besides (docs/kernels.md)."""
    filterlets = int(weights.any(axis=3).sum())
    vectors = filterlets * round_up(weights.shape[3], VECTOR_BYTES) // VECTOR_BYTES
    return 8.0 * vectors + 1.5 * filterlets + 10.0 * len(weights)


def csr_cycles(weights: Int8) -> float:
    """The same of conv_csr: 15 for each vector, and each filter's requantization."""
    stored = encode_csr(weights, round_up(weights.shape[3], VECTOR_BYTES))
    return 15.0 * stored.vectors + _FILTER * len(weights)


def fkw_cycles(weights: Int8) -> float:
    """The same of conv_fkw: 13 for four kernels of a filter, its requantization, and four pixels'
    packing of each pattern. Raises UnsupportedError where FKW cannot hold the weights."""
    stored = encode_fkw(weights, round_up(weights.shape[3], VECTOR_BYTES))
    kernels = weights.any(axis=(1, 2)).sum(axis=1)
    packing = 18.0 * 4 * stored.patterns * stored.in_stride / VECTOR_BYTES
    return 13.0 * int((-(-kernels // TAPS)).sum()) + _FILTER * len(weights) + packing


_CYCLES: Mapping[str, Callable[[Int8], float]] = {CONV_CSR: csr_cycles, CONV_FKW: fkw_cycles}
