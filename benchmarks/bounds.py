"""The fewest cycles an operator could take on a Cortex-M55, from loads and multiply-accumulates.

The core works on a 16-byte vector in two cycles, and has a unit for memory beside the one for
arithmetic: a load and a multiply-accumulate can run at once. So a bound is the larger of

    2 * vector arithmetic instructions      and      2 * vector loads and stores

that the operator cannot do without. Requantization, loop control and halos are left out: they are
what a kernel's distance from its bound consists of.

- Convolution, pointwise, fully connected: `vmladava` adds 16 products of int8 into one scalar
  register. Eight registers can take sums (32-bit sums go to even ones), so two filters by four
  pixels share their loads best: 6 loads for 8 multiply-accumulates. Arithmetic decides. In a fully
  connected layer every weight vector is loaded and used once: both units are busy equally long.
- CSR, FKW: the same for 16 weights wherever they are: their inputs are gathered by one load.
- Depthwise: there is nothing to add across a vector, and sums need 32-bit lanes: one `vmla` on four
  channels per tap.
- Add: widening loads of both operands and a narrowing store, four values each.
- Pooling: one load per 16 channels and tap.
"""

from __future__ import annotations

from benchmarks.shapes import ADD, CONV, DEPTHWISE, FULLY_CONNECTED, Shape
from dtmm.storage.stored import VECTOR_BYTES

BEAT = 2
"""Cycles of a vector instruction."""

LANES = 4
"""32-bit lanes of a vector."""


def bound(shape: Shape, filterlets: int, whole_windows: bool = False) -> int:
    """Cycles.

    Args:
        filterlets: kept ones of a convolution.
        whole_windows: an im2col kernel, whose vectors run over windows and not over pixels.
    """
    out_h, out_w = shape.out_hw
    outputs = out_h * out_w
    taps = shape.kernel_h * shape.kernel_w
    if shape.operator == CONV and whole_windows:
        return BEAT * outputs * shape.cout * _vectors(taps * shape.cin)
    if shape.operator == CONV:
        return BEAT * outputs * filterlets * _vectors(shape.cin)
    if shape.operator == FULLY_CONNECTED:
        return BEAT * shape.cout * _vectors(shape.cin)
    if shape.operator == DEPTHWISE:
        return BEAT * outputs * taps * -(-shape.cout // LANES)
    if shape.operator == ADD:
        return 3 * BEAT * -(-outputs * shape.cout // LANES)
    return BEAT * outputs * taps * _vectors(shape.cout)


def sparse_bound(shape: Shape, weights: int) -> int:
    """Cycles of a convolution that keeps so many single weights. Both public models of the core
    (LLVM's, SLOTHY's) take a gathering load for as fast as any other; `benchmarks.rivals` also says
    what it would be if each value took a cycle."""
    out_h, out_w = shape.out_hw
    return BEAT * out_h * out_w * _vectors(weights)


def _vectors(values: int) -> int:
    return -(-values // VECTOR_BYTES)
