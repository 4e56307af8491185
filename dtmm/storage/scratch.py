"""Scratch bytes of the convolutions from counts alone: what `_get_buffer_size` answers in C."""

from __future__ import annotations

from dtmm.storage.kernel_ids import stride_w, variant
from dtmm.storage.stored import Kernel

_WORD = 2
_LONGEST_RUN = 3
_WIDEST_ROW = 24
"""Of a kernel whose filterlets make runs (DTMM_RUN_GROUP)."""
_LISTED_FILTERS = 16
"""Filters of a dense layer whose runs are listed (DTMM_RUN_DENSE_FILTERS)."""


def dense_scratch(kernel_id: str, kernel: Kernel, out_channels: int, dilation_w: int = 1) -> int:
    """Scratch bytes of conv_dense and its run kernels: the offsets of a window, or its runs."""
    height, width = kernel
    if variant(kernel_id) is None:
        return _WORD * (2 + height * width)
    per_row = width
    if _runs_join(width, dilation_w):
        per_row = width // _LONGEST_RUN + _last_runs(kernel_id, width)
    return _WORD * (min(out_channels, _LISTED_FILTERS) * height * per_row + 1)


def fwcs_scratch(
    kernel_id: str, filterlets: int, out_channels: int, kernel: Kernel, dilation_w: int = 1
) -> int:
    """Scratch bytes of conv_fwcs and its run kernels: the expanded index.

    An entry (looped: two words) for each run of neighbouring positions, whose number is bounded by
    the counts.
    """
    height, width = kernel
    if variant(kernel_id) is None:
        per_row = (width + 1) // 2 if dilation_w == 1 else width
        runs = min(filterlets, out_channels * height * per_row)
        return _WORD * (height * width + out_channels + 2 * runs)
    # a filter without runs has an entry as well: most where few filters hold single filterlets
    per_row = width
    if _runs_join(width, dilation_w):
        per_row = width // _LONGEST_RUN * 2 + _last_runs(kernel_id, width)
    most = height * per_row
    entries = filterlets + out_channels - -(-filterlets // most)
    return _WORD * (min(entries, out_channels * most) + 1)


def _runs_join(width: int, dilation_w: int) -> bool:
    return dilation_w == 1 and width <= _WIDEST_ROW


def _last_runs(kernel_id: str, width: int) -> int:
    """Runs of the columns that a row has beyond multiples of three, at most."""
    left = width % _LONGEST_RUN
    return min(left, 1) if stride_w(kernel_id) == 1 else left


def im2col_scratch(out_width: int, in_stride: int) -> int:
    """Scratch bytes of conv_im2col: one output row's windows."""
    return out_width * in_stride
