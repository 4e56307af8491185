"""The lists of runs: Python's are C's, and they name the filterlets that are kept."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from dtmm.storage.kernel_ids import CONV_FWCS, RUN_VARIANTS
from dtmm.storage.runs import list_runs
from dtmm.storage.scratch import run_entries
from tests.runtime_c.library import ConvParams, ConvWeights, Output, Tensor, address

PIXEL, ROW = 32, 32 * 70
KERNELS = ((3, 3), (1, 1), (2, 2), (5, 5), (1, 7), (4, 1), (10, 4), (2, 25), (3, 24), (1, 30))


@given(st.integers(0, 2**32 - 1))
def test_python_lists_what_c_lists(library: ctypes.CDLL, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kernel = KERNELS[rng.integers(len(KERNELS))]
    stride, dilation = int(rng.integers(1, 3)), (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    filters, positions = int(rng.integers(1, 20)), kernel[0] * kernel[1]
    kept = rng.random((filters, positions)) < rng.choice([0.0, 0.1, 0.5, 0.9, 1.0])
    runs = list_runs(kept, kernel, stride, dilation, ROW, PIXEL)
    np.testing.assert_array_equal(_positions(runs, kernel, dilation, filters), kept)
    name = next(
        n for n in RUN_VARIANTS if n.startswith("c32_") and n.endswith("_s2") == (stride > 1)
    )
    bound = run_entries(f"{CONV_FWCS}_{name}", int(kept.sum()), filters, kernel, dilation[1])
    assert runs.size <= bound
    for room in (bound, runs.size):
        np.testing.assert_array_equal(
            _listed_in_c(library, kept, kernel, stride, dilation, room), runs
        )
    assert _listed_in_c(library, kept, kernel, stride, dilation, runs.size - 1).size == 0


def _positions(
    runs: npt.NDArray[np.uint16], kernel: tuple[int, int], dilation: tuple[int, int], filters: int
) -> npt.NDArray[np.bool_]:
    """[filters, positions] that a list names, in order."""
    named: list[list[int]] = []
    assert runs[-1] == 0
    for entry in runs[:-1].tolist():
        if entry & 4:
            named.append([])
        rows, offset = divmod(2 * (entry & ~7), ROW)
        y, x = rows // dilation[0], offset // (PIXEL * dilation[1])
        named[-1] += [y * kernel[1] + x + i for i in range(entry & 3)]
    assert len(named) == filters
    assert all(each == sorted(set(each)) for each in named)
    found = np.zeros((filters, kernel[0] * kernel[1]), np.bool_)
    for row, each in zip(found, named, strict=True):
        row[each] = True
    return found


def _listed_in_c(
    library: ctypes.CDLL,
    kept: npt.NDArray[np.bool_],
    kernel: tuple[int, int],
    stride: int,
    dilation: tuple[int, int],
    room: int,
) -> npt.NDArray[np.uint16]:
    masks = np.packbits(kept, axis=1, bitorder="little").reshape(-1).copy()
    conv = ConvParams(kernel, (1, stride), dilation, (0, 0), Output(0, -128, 127))
    weights = ConvWeights(len(kept), PIXEL, None, address(masks), None, None, None)
    view = Tensor(None, 60, 60, PIXEL, PIXEL, ROW, 0)
    stream = np.full(room + 4, 0xABCD, np.uint16)
    library.dtmm_conv_list_runs.restype = ctypes.c_size_t
    count = library.dtmm_conv_list_runs(
        *(ctypes.byref(each) for each in (conv, weights, view)),
        address(stream),
        ctypes.c_size_t(room),
    )
    assert (stream[room:] == 0xABCD).all(), "nothing is written beyond the end"
    return stream[:count]
