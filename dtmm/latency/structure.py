"""What a kernel does for one operator, counted: tiles, runs, filters, vectors, halo.

`work` counts for a point and the filterlets that it keeps; a model of cycles is a price for each
count (`dtmm.latency.fitted`). Counts follow the loops of the C library, so that prices hold for
shapes that nobody measured: a run kernel's runs, for instance, are counted at the cycles that its
generator gives for them (the table at the head of dtmm/runtime_c/src/dtmm_run_*.S).
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dtmm import runtime_c
from dtmm.errors import MeasurementError
from dtmm.latency.harness import KERNELS
from dtmm.latency.patterns import Kept, random_pattern
from dtmm.latency.table import OpShape, Point, describe
from dtmm.network.ir import Pair
from dtmm.storage.dense import im2col_stride
from dtmm.storage.formats import USUAL_PATTERNS
from dtmm.storage.kernel_ids import (
    CONV_CSR,
    CONV_DENSE,
    CONV_FKW,
    CONV_FWCS,
    CONV_GROUPED,
    CONV_IM2COL,
    CONV_POINTWISE,
    RUN_VARIANTS,
    family,
    is_listed,
    variant,
)
from dtmm.storage.runs import LONGEST_RUN, runs_join
from dtmm.storage.scratch import (
    dense_scratch,
    depthwise_scratch,
    fkw_scratch,
    fwcs_scratch,
    im2col_scratch,
)
from dtmm.storage.stored import VECTOR_BYTES

Work = dict[str, float]

LOOPED_TILE = 4
"""Output pixels that a looped convolution computes at a time (DTMM_TILE)."""

DENSE_FILTERS = 16
"""Filters of a dense layer whose runs are listed (DTMM_RUN_DENSE_FILTERS)."""


STATED = ("run_cycles", "pair_cycles")
"""Counts at the cycles that a kernel's file states: close to what the cycle model finds, but each
kernel is a few cycles off, so their prices are a kernel's own."""


RIVALS = (CONV_CSR, CONV_FKW)
"""Operators for other kinds of pruning, which no schedule uses: they are measured only."""


def structure(kernel: str) -> str:
    """The loops behind a kernel id: one set of prices for each.

    Run kernels of one tile and stride are one structure whatever their channels, and so are all
    pointwise kernels of one stride.
    """
    name = variant(kernel)
    if name is None:
        return kernel
    _, _, rest = name.partition("_")
    if name in RUN_VARIANTS:
        return f"{family(kernel)}_run_{rest}"
    return f"{family(kernel)}_point_{rest or 's1'}"


def work(point: Point, runs: Runs | None = None) -> Work:
    """Counts by name; every structure has its own names.

    Args:
        runs: of what a pruned convolution keeps (`runs_of`, `random_runs`).

    Raises:
        MeasurementError: an unknown kernel id, one of RIVALS, or a convolution without its runs.
    """
    check_kernel(point)
    operator = family(point.kernel)
    if operator in RIVALS:
        raise MeasurementError(f"{describe(point)}: the loops of {operator} are not counted")
    if operator in (CONV_DENSE, CONV_FWCS):
        if runs is None:
            raise MeasurementError(f"{describe(point)}: which filterlets are kept was not said")
        counted = _run_kernel if variant(point.kernel) else _looped
        return {**counted(point, runs), **_around(point)}
    if operator == CONV_POINTWISE:
        return {**_pointwise(point), **_around(point)}
    if operator == CONV_IM2COL:
        return {**_gathered(point), **_around(point)}
    if operator == CONV_GROUPED:
        return {**_grouped(point), **_around(point)}
    return {**_channelwise(point), **_around(point)}


def check_kernel(point: Point) -> None:
    """Raises MeasurementError, naming the nearest ids, unless a point's kernel is one."""
    if point.kernel not in KERNELS:
        near = difflib.get_close_matches(point.kernel, KERNELS, n=3, cutoff=0.0)
        raise MeasurementError(
            f"no kernel is called {point.kernel!r} ({describe(point)}); nearest: {', '.join(near)}"
        )


def runs_of(point: Point, kept: Kept) -> Runs:
    """The runs of a convolution that keeps bool [out_channels, positions]."""
    # the looped kernels share pixels between neighbours whatever the stride is
    stride = point.shape.stride[1] if variant(point.kernel) else 1
    return count_runs(kept, point.shape.kernel, stride, point.shape.dilation[1])


def random_runs(point: Point, seed: int) -> Runs | None:
    """The runs of the filterlets that a convolution keeps when it is measured with this seed.

    None for operators that have none.
    """
    operator, shape = family(point.kernel), point.shape
    if operator not in (CONV_DENSE, CONV_FWCS):
        return None
    filterlets = point.filterlets
    if operator == CONV_DENSE:
        filterlets = point.out_channels * _positions(shape)
    stride = shape.stride[1] if variant(point.kernel) else 1
    pattern = (point.out_channels, shape.kernel, filterlets, seed)
    return _random_runs(pattern, stride, shape.dilation[1])


@functools.lru_cache(maxsize=1 << 14)
def _random_runs(pattern: tuple[int, Pair, int, int], stride_w: int, dilation_w: int) -> Runs:
    filters, kernel, filterlets, seed = pattern
    kept = random_pattern(filters, kernel[0] * kernel[1], filterlets, seed)
    return count_runs(kept, kernel, stride_w, dilation_w)


def scratch(point: Point) -> int:
    """Scratch bytes of an operator (an upper bound where they depend on the pattern)."""
    shape, operator = point.shape, family(point.kernel)
    if operator == CONV_IM2COL:
        return im2col_scratch(shape.out_hw[1], im2col_stride(shape.kernel, point.in_channels))
    if operator == CONV_DENSE:
        outputs, dilation = point.out_channels, shape.dilation[1]
        return dense_scratch(point.kernel, shape.kernel, outputs, dilation)
    if operator == CONV_FWCS:
        counts = (point.filterlets, point.out_channels)
        return fwcs_scratch(point.kernel, *counts, shape.kernel, shape.dilation[1])
    if operator == "depthwise_conv":
        return depthwise_scratch(shape.kernel, shape.stride, shape.dilation, shape.out_hw)
    if operator == CONV_FKW:
        return fkw_scratch(USUAL_PATTERNS, VECTOR_BYTES * _vectors(point.in_channels))
    return 0


# --- parts -----------------------------------------------------------------------------------


def _run_kernel(point: Point, runs: Runs) -> Work:
    shape = point.shape
    kernel = runtime_c.RUN_KERNELS[RUN_VARIANTS.index(variant(point.kernel) or "")]
    stated = stated_cycles(kernel.name)
    height, width = shape.out_hw
    rows = -(-height // kernel.rows)
    tiles = rows * -(-width // kernel.columns)
    cycles = sum(n * stated[length, first] for (length, first), n in runs.kinds.items())
    filters, entries = point.out_channels, runs.total + runs.empty
    listed = (0, 0)
    if family(point.kernel) == CONV_DENSE:
        some = min(filters, DENSE_FILTERS)
        listed = (some, some * entries // filters)
    elif not is_listed(point.kernel):
        listed = (filters, entries)
    return {
        "run_cycles": float(tiles * cycles),
        "run_entries": float(tiles * runs.total),
        "run_filters": float(tiles * filters),
        "empty_filters": float(tiles * runs.empty),
        "tiles": float(tiles),
        "lines": float(rows * (1 + (width % kernel.columns != 0))),
        "listed_filters": float(listed[0]),
        "listed_runs": float(listed[1]),
    }


def _looped(point: Point, runs: Runs) -> Work:
    shape, vectors = point.shape, _vectors(point.in_channels)
    height, width = shape.out_hw
    tiles = height * (width // LOOPED_TILE) + -(-height * (width % LOOPED_TILE) // LOOPED_TILE)
    return {
        "vectors": float(tiles * point.filterlets * vectors),
        "filterlets": float(tiles * point.filterlets),
        "runs": float(tiles * runs.total),
        "filters": float(tiles * point.out_channels),
        "tiles": float(tiles),
        "listed_filters": float(point.out_channels),
        "listed_runs": float(runs.total),
    }


def _pointwise(point: Point) -> Work:
    shape = point.shape
    height, width = shape.out_hw
    in_line = shape.stride == (1, 1) and shape.in_halo == 0
    step = runtime_c.POINT_PIXELS
    if in_line and shape.out_halo == 0:
        lines = [height * width]
    elif in_line and width % step:
        lines = [step] * -(-height * width // step)  # tiles go over the ends of rows
    else:
        lines = [width] * height
    return _lines(point, lines)


def _lines(point: Point, lines: list[int]) -> Work:
    """Lines of so many pixels by a pointwise kernel."""
    step, filters = runtime_c.POINT_PIXELS, point.out_channels
    tiles = sum(-(-pixels // step) for pixels in lines)
    calls = sum(1 + (pixels % step != 0) for pixels in lines)
    pairs, odd = tiles * -(-filters // 2), filters % 2
    return {
        "pair_cycles": float(pairs * stated_pair(point.kernel)),
        "pairs": float(pairs),
        "tiles": float(tiles * (1 + odd)),
        "calls": float(calls * (1 + odd)),
        "lines": float(len(lines)),
    }


def _gathered(point: Point) -> Work:
    shape = point.shape
    (height, width), window = shape.out_hw, _positions(shape) * point.in_channels
    pieces = shape.kernel[0] * (1 if shape.dilation[1] == 1 else shape.kernel[1])
    vectors = _vectors(shape.kernel[1] * point.in_channels)
    counted = {
        "gathered": float(height * width * pieces * vectors),
        "pieces": float(height * pieces * vectors),
    }
    if variant(point.kernel):
        return {**_lines(point, [width] * height), **counted}
    tiles = height * -(-width // LOOPED_TILE)
    filters = tiles * point.out_channels
    looped = {"vectors": float(filters * _vectors(window)), "filters": float(filters)}
    return {**looped, "tiles": float(tiles), **counted}


def _grouped(point: Point) -> Work:
    shape = point.shape
    outputs = shape.out_hw[0] * shape.out_hw[1] * point.out_channels
    inputs = point.in_channels // shape.groups
    return {
        "products": float(outputs * _positions(shape) * inputs),
        "vectors": float(outputs * _positions(shape) * _vectors(inputs)),
        "outputs": float(outputs),
        "pixels": float(shape.out_hw[0] * shape.out_hw[1]),
    }


def _channelwise(point: Point) -> Work:
    """Operators that go over pixels, a vector of channels or four of them at a time."""
    shape = point.shape
    pixels, read = shape.out_hw[0] * shape.out_hw[1], shape.in_hw[0] * shape.in_hw[1]
    vectors, fours = _vectors(point.in_channels), -(-point.in_channels // 4)
    inputs = read * point.in_channels
    if point.kernel == "fully_connected":
        groups = -(-point.out_channels // 4)
        return {
            "row_vectors": float(groups * _vectors(inputs)),
            "groups": float(groups),
            "pixels": float(groups * read * (point.in_channels % VECTOR_BYTES != 0)),
            "left": float(point.out_channels % 4),
        }
    if point.kernel == "depthwise_conv":
        triples = shape.out_hw[0] * -(-shape.out_hw[1] // 3)
        return {
            "taps": float(triples * fours * _positions(shape)),
            "kernel_rows": float(triples * fours * shape.kernel[0]),
            "triples": float(triples * fours),
            "rows": float(shape.out_hw[0] * fours),
            "columns": float(fours),
        }
    if point.kernel == "mean":
        rows = shape.in_hw[0]
        return {
            "in_fours": float(read * fours),
            "row_fours": float(rows * fours),
            "fours": float(fours),
        }
    counted = {
        "vectors": float(pixels * vectors),
        "channels": float(pixels * point.in_channels),
        "pixels": float(pixels),
        "tails": float(pixels * (point.in_channels % VECTOR_BYTES != 0)),
        "rows": float(shape.out_hw[0]),
    }
    if point.kernel in ("max_pool", "average_pool"):
        counted["taps"] = float(pixels * vectors * _positions(shape))
        counted["window_pixels"] = float(pixels * _positions(shape))
    return counted


def _around(point: Point) -> Work:
    """The call, and the zero points written around the output."""
    (height, width), halo = point.shape.out_hw, point.shape.out_halo
    around = (height + 2 * halo) * (width + halo) - height * width
    stores = height + 2 * halo if halo else 0
    return {
        "call": 1.0,
        "halo_vectors": float(around * _vectors(point.out_channels)),
        "halo_rows": float(stores),
    }


def _positions(shape: OpShape) -> int:
    return shape.kernel[0] * shape.kernel[1]


def _vectors(channels: int) -> int:
    return -(-channels // VECTOR_BYTES)


# --- runs ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runs:
    """The runs of a layer.

    Attributes:
        kinds: number of runs by (length, whether it is a filter's first).
        empty: filters without any.
    """

    kinds: Mapping[tuple[int, bool], int]
    empty: int

    @property
    def total(self) -> int:
        """All runs."""
        return sum(self.kinds.values())


# by the columns kept of three neighbours (bit 0 is the first): lengths of the runs, in order
_JOINED: tuple[tuple[int, ...], ...] = ((), (1,), (1,), (2,), (1,), (1, 1), (2,), (3,))
_THREES: tuple[tuple[int, ...], ...] = ((), (1,), (1,), (1, 1), (1,), (1, 1), (1, 1), (3,))
_SINGLE: tuple[tuple[int, ...], ...] = ((), (1,), (1,), (1, 1), (1,), (1, 1), (1, 1), (1, 1, 1))


def count_runs(kept: Kept, kernel: Pair, stride_w: int, dilation_w: int) -> Runs:
    """The runs that `dtmm.storage.runs.list_runs` lists for bool [C_out, kh*kw], by kind."""
    height, width = kernel
    lengths = _JOINED if stride_w == 1 else _THREES
    if not runs_join(width, dilation_w):
        lengths = _SINGLE
    groups = -(-width // LONGEST_RUN)
    columns = np.zeros((len(kept), height, groups * LONGEST_RUN), np.int64)
    columns[:, :, :width] = kept.reshape(-1, height, width)
    codes = columns.reshape(len(kept), -1, LONGEST_RUN) @ (1 << np.arange(LONGEST_RUN))
    by_code = np.bincount(codes.ravel(), minlength=8)
    some = codes.any(axis=1)
    leading = codes[np.arange(len(codes)), (codes > 0).argmax(axis=1)][some]
    first = np.bincount([lengths[code][0] for code in leading.tolist()], minlength=4)
    kinds = {}
    for length in range(1, LONGEST_RUN + 1):
        total = sum(int(by_code[code]) * each.count(length) for code, each in enumerate(lengths))
        kinds[length, True] = int(first[length])
        kinds[length, False] = total - int(first[length])
    return Runs({kind: n for kind, n in kinds.items() if n}, int((~some).sum()))


_STATED = re.compile(r"^ \*    (\d) filterlets?  +\d+ +(\d+) +(\d+)$", re.MULTILINE)


@functools.cache
def stated_cycles(name: str) -> Mapping[tuple[int, bool], int]:
    """Cycles of a run by (length, whether it is a filter's first), as a run kernel's file states.

    Its generator writes them there (`generate.run_kernels.expected_cycles`, which takes seconds).
    """
    text = (runtime_c.folder() / "src" / f"dtmm_run_{name}.S").read_text(encoding="utf-8")
    stated = {}
    for length, inner, first in _STATED.findall(text.partition("*/")[0]):
        stated[int(length), False], stated[int(length), True] = int(inner), int(first)
    return stated


@functools.cache
def stated_pair(kernel: str) -> int:
    """Cycles of two filters over four pixels, as a pointwise kernel's file states."""
    path = runtime_c.folder() / "src" / f"dtmm_point_{variant(kernel)}.S"
    text = path.read_text(encoding="utf-8").partition("*/")[0]
    return int(text.partition("expected ")[2].split()[0])
