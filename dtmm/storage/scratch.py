"""Scratch bytes of the convolutions from counts alone: what `_get_buffer_size` answers in C."""

from __future__ import annotations

from dtmm.storage.stored import Kernel

_WORD = 2
_OFFSET_STRIDES = {16, 32, 48, 64, 80, 96, 128}


def dense_scratch(kernel: Kernel) -> int:
    """Scratch bytes of conv_dense (an upper bound where the dilation is 1)."""
    return _WORD * (2 + kernel[0] * kernel[1])


def fwcs_scratch(
    filterlets: int,
    out_channels: int,
    kernel: Kernel,
    in_stride: int,
    stride_w: int = 1,
    dilation_w: int = 1,
) -> int:
    """Scratch bytes of conv_fwcs: the expanded index.

    One 16-bit word per kept filterlet where a kernel for this in_stride exists (see
    dtmm_conv_fwcs_s8.c), else two per run of neighbouring positions, bounded by the counts.
    """
    if in_stride in _OFFSET_STRIDES and stride_w == 1:
        entries = filterlets
    else:
        runs_per_row = (kernel[1] + 1) // 2 if dilation_w == 1 else kernel[1]
        entries = 2 * min(filterlets, out_channels * kernel[0] * runs_per_row)
    return _WORD * (kernel[0] * kernel[1] + out_channels + entries)


def im2col_scratch(out_width: int, in_stride: int) -> int:
    """Scratch bytes of conv_im2col: one output row's windows."""
    return out_width * in_stride
