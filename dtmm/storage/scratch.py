"""Scratch bytes of the convolutions from counts alone: what `_get_buffer_size` answers in C."""

from __future__ import annotations

from dtmm.storage.fkw import TAPS
from dtmm.storage.kernel_ids import is_listed, stride_w, variant
from dtmm.storage.runs import LONGEST_RUN, runs_join
from dtmm.storage.stored import Kernel

_WORD = 2
_TILE = 4
_LISTED_FILTERS = 16
"""Filters of a dense layer whose runs are listed (DTMM_RUN_DENSE_FILTERS)."""


def dense_scratch(kernel_id: str, kernel: Kernel, out_channels: int, dilation_w: int = 1) -> int:
    """Scratch bytes of conv_dense and its run kernels: the offsets of a window, or its runs."""
    height, width = kernel
    if variant(kernel_id) is None:
        return _WORD * (2 + height * width)
    per_row = width
    if runs_join(width, dilation_w):
        per_row = width // LONGEST_RUN + _last_runs(kernel_id, width)
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
    if is_listed(kernel_id):
        return 0
    return _WORD * run_entries(kernel_id, filterlets, out_channels, kernel, dilation_w)


def run_entries(
    kernel_id: str, filterlets: int, out_channels: int, kernel: Kernel, dilation_w: int = 1
) -> int:
    """Entries of the list of a run kernel's runs (16 bits each) at most."""
    height, width = kernel
    # a filter without runs has an entry as well: most where few filters hold single filterlets
    per_row = width
    if runs_join(width, dilation_w):
        per_row = width // LONGEST_RUN * 2 + _last_runs(kernel_id, width)
    most = height * per_row
    entries = filterlets + out_channels - -(-filterlets // most)
    return min(entries, out_channels * most) + 1


def _last_runs(kernel_id: str, width: int) -> int:
    """Runs of the columns that a row has beyond multiples of three, at most."""
    left = width % LONGEST_RUN
    return min(left, 1) if stride_w(kernel_id) == 1 else left


def im2col_scratch(out_width: int, in_stride: int) -> int:
    """Scratch bytes of conv_im2col: one output row's windows."""
    return out_width * in_stride


def fkw_scratch(patterns: int, in_stride: int) -> int:
    """Scratch bytes of conv_fkw: the taps of every pattern and channel, of four pixels."""
    return _TILE * TAPS * patterns * in_stride


_PATCH_COLUMN = 64
"""Bytes of a column of three taps and a gap for 16 channels (DTMM_PATCH_COLUMN)."""


def depthwise_scratch(
    kernel: Kernel, stride: tuple[int, int], dilation: tuple[int, int], out_hw: tuple[int, int]
) -> int:
    """Scratch bytes of depthwise_conv: the columns of taps of a line (dtmm_depthwise_cut)."""
    height, width = out_hw
    rows, upright = _cut(height, width, stride[1]), _cut(width, height, stride[0])
    _, outputs, columns = min(upright, rows, key=lambda line: (line[0], line is upright))
    by_patches = kernel == (3, 3) and dilation == (1, 1) and max(stride) <= 2 and outputs >= 8
    return (4 + columns) * _PATCH_COLUMN if by_patches else 0


def _cut(lines: int, outputs: int, stride: int) -> tuple[int, int, int]:
    """(what it costs, outputs and columns of a line)."""
    fours = -(-outputs // 4)
    columns = (4 * fours - 1) * stride + 4
    return lines * (28 * fours + columns), outputs, columns
