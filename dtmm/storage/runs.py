"""The runs of FWCS weights, listed ahead of time: what dtmm_conv_list_runs() makes of an index.

A run kernel reads runs of one to three kept filterlets at neighbouring columns of a kernel row.
Where they are not listed in flash, every call of the operator lists them in its scratch memory.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dtmm.storage.stored import Kernel

LONGEST_RUN = 3
WIDEST_ROW = 24
"""Of a kernel whose filterlets make runs (DTMM_RUN_GROUP)."""

_UNIT = 2
_FIRST = 4
_STOP = 0


def runs_join(width: int, dilation_w: int) -> bool:
    """Whether filterlets at neighbouring columns of such a kernel make runs."""
    return dilation_w == 1 and width <= WIDEST_ROW


def list_runs(
    kept: npt.NDArray[np.bool_],
    kernel: Kernel,
    stride_w: int,
    dilation: tuple[int, int],
    row_stride: int,
    pixel_stride: int,
) -> npt.NDArray[np.uint16]:
    """The stream of a layer (dtmm_conv_weights.stream, src/dtmm_run.h).

    Args:
        kept: bool [C_out, kh*kw], the filterlets that are kept.
        stride_w: the convolution's horizontal stride; dilation: (vertical, horizontal).
        row_stride, pixel_stride: of the input view, bytes.

    Returns:
        uint16 [entries]: for each run half the offset of its first pixel in the window, and its
        kind in the three lowest bits; a filter without runs has an entry, and so does the end.
    """
    height, width = kernel
    join = runs_join(width, dilation[1])
    entries: list[int] = []
    for filter_kept in kept.reshape(-1, height, width):
        begin = len(entries)
        for y, row in enumerate(filter_kept):
            for x, length in _row_runs(row, join, stride_w):
                offset = y * dilation[0] * row_stride + x * dilation[1] * pixel_stride
                entries.append(offset // _UNIT | length)
        if len(entries) == begin:
            entries.append(0)
        entries[begin] |= _FIRST
    return np.array([*entries, _STOP], np.uint16)


def _row_runs(row: npt.NDArray[np.bool_], join: bool, stride_w: int) -> list[tuple[int, int]]:
    """(first column, length) of each run; none goes over a multiple of three columns."""
    if not join:
        return [(int(x), 1) for x in np.flatnonzero(row)]
    runs: list[tuple[int, int]] = []
    for x in np.flatnonzero(row).tolist():
        if runs and x % LONGEST_RUN and sum(runs[-1]) == x:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((x, 1))
    if stride_w == 1:
        return runs
    # with a stride only whole threes share pixels
    return [
        part
        for x, n in runs
        for part in ([(x, n)] if n == LONGEST_RUN else [(x + i, 1) for i in range(n)])
    ]
