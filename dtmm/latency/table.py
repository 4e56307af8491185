"""The latency table: cycles of one operator as a function of its shape and counts, measured on a device."""

from __future__ import annotations

from dataclasses import dataclass

from dtmm.network.ir import Pair


@dataclass(frozen=True, order=True)
class OpShape:
    """Everything besides channel and filterlet counts that an operator's latency depends on.

    Attributes:
        kind: "conv2d", "fully_connected", "add", "max_pool", "average_pool", "mean" or "copy".
        in_hw, out_hw: pixels; (1, 1) for a vector.
        kernel, stride, dilation: (1, 1) where the kind has none; a pool's window is its kernel.
        pad: (top, left) pixels.
        in_halo, out_halo: of the views (DESIGN section 7: they are decided before scheduling).
    """

    kind: str
    in_hw: Pair
    out_hw: Pair
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    pad: Pair = (0, 0)
    in_halo: int = 0
    out_halo: int = 0


@dataclass(frozen=True, order=True)
class Point:
    """One question to a cost model.

    Attributes:
        kernel: kernel id, e.g. "conv_dense", "conv_fwcs", "conv_im2col", "add", "mean".
        in_channels, out_channels: kept channels (real, not padded).
        filterlets: kept filterlets of a convolution (dense: all C_out*kh*kw), 0 for other kinds.
    """

    shape: OpShape
    kernel: str
    in_channels: int
    out_channels: int
    filterlets: int = 0


@dataclass(frozen=True)
class Cost:
    """The answer: modelled cycles, exact instructions, scratch bytes."""

    cycles: float
    instructions: float
    scratch: int
