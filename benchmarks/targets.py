"""What the kernels must reach, judged on measured rows. Cycles are those of m55-v1."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks import shapes
from benchmarks.external import Key, external_cycles, keyed
from benchmarks.shapes import CONV, Shape

DENSE = ("conv_dense", "conv_pointwise", "conv_im2col", "conv_grouped")
FWCS = ("conv_fwcs",)
PROTOTYPE_SPARSITIES = (0, 50, 75, 90)
PROTOTYPE_LIMIT = 1.03
DENSE_LIMIT = 0.62
DENSE_MAC_PER_CYCLE = 7.0
POINTWISE_MAC_PER_CYCLE = {32: 3.4, 64: 4.8, 128: 6.0, 256: 6.8}
BREAK_EVEN_PCT = 10


@dataclass(frozen=True)
class Target:
    """One requirement. passed is None where the table lacks a row that it is judged on."""

    name: str
    wanted: str
    found: str
    passed: bool | None


class Figures:
    """Cycles by kernel family, shape and sparsity; of several kernels of a family the fastest."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._ours: dict[Key, float] = dict(keyed(table))
        self._others = external_cycles()

    def ours(self, family: Iterable[str], shape: Shape, sparsity: int = 0) -> float:
        """The fastest kernel whose id begins with a name of the family. KeyError if none is."""
        names = tuple(family)
        found = [
            cycles
            for (kernel, at, pct), cycles in self._ours.items()
            if at == shape and pct == sparsity and kernel.startswith(names)
        ]
        if not found:
            raise KeyError(shape.describe())
        return min(found)

    def operator(self, shape: Shape) -> float:
        """The fastest of our kernels on a dense shape."""
        return self.ours(DENSE if shape.operator == CONV else ("",), shape)

    def external(self, kernel: str, shape: Shape, sparsity: int = 0) -> float:
        """Somebody else's figure. KeyError when there is none."""
        return self._others[kernel, shape, sparsity]


def judge(table: pd.DataFrame) -> list[Target]:
    """Every target, in the order of the requirements."""
    figures = Figures(table)
    return [_attempt(name, wanted, check, figures) for name, wanted, check in _CHECKS]


_Check = Callable[[Figures], tuple[str, bool]]


def _attempt(name: str, wanted: str, check: _Check, figures: Figures) -> Target:
    try:
        found, passed = check(figures)
    except KeyError as missing:
        return Target(name, wanted, f"not measured: {missing.args[0]}", None)
    return Target(name, wanted, found, bool(passed))


def _prototype_ratios(figures: Figures) -> dict[str, float]:
    return {
        f"{shape.describe()} at {pct} %": figures.ours(FWCS, shape, pct)
        / figures.external("prototype", shape, pct)
        for shape in shapes.TABLE[:-1]
        for pct in PROTOTYPE_SPARSITIES
    }


def _worst(ratios: Mapping[str, float]) -> tuple[str, float]:
    where = max(ratios, key=lambda key: ratios[key])
    return where, ratios[where]


def _prototype_everywhere(figures: Figures) -> tuple[str, bool]:
    where, ratio = _worst(_prototype_ratios(figures))
    return f"{ratio:.3f}x ({where})", ratio <= PROTOTYPE_LIMIT


def _prototype_beaten(figures: Figures) -> tuple[str, bool]:
    ratios = list(_prototype_ratios(figures).values())
    below = sum(ratio < 1 for ratio in ratios)
    return f"{below} of {len(ratios)} cells", 2 * below >= len(ratios)


def _dense_mean(figures: Figures) -> tuple[str, bool]:
    ratios = [
        figures.ours(DENSE, shape) / figures.external("cmsis_nn", shape) for shape in shapes.TABLE
    ]
    mean = float(np.exp(np.mean(np.log(ratios))))
    return f"{mean:.3f}x", mean <= DENSE_LIMIT


def _dense_rate(figures: Figures) -> tuple[str, bool]:
    rates = {
        shape.describe(): shape.macs / figures.ours(DENSE, shape)
        for shape in shapes.TABLE
        if shape.cin >= 64
    }
    where = min(rates, key=lambda key: rates[key])
    return f"{rates[where]:.2f} ({where})", rates[where] >= DENSE_MAC_PER_CYCLE


def _pointwise(channels: int) -> _Check:
    def check(figures: Figures) -> tuple[str, bool]:
        (shape,) = (each for each in shapes.POINTWISE_TABLE if each.cin == channels)
        rate = shape.macs / figures.ours(DENSE, shape)
        return f"{rate:.2f} ({shape.describe()})", rate >= POINTWISE_MAC_PER_CYCLE[channels]

    return check


def _faster(group: Iterable[Shape]) -> _Check:
    def check(figures: Figures) -> tuple[str, bool]:
        ratios = {
            shape.describe(): figures.operator(shape) / figures.external("cmsis_nn", shape)
            for shape in group
        }
        where, worst = _worst(ratios)
        mean = float(np.exp(np.mean(np.log(list(ratios.values())))))
        won = sum(ratio < 1 for ratio in ratios.values())
        found = (
            f"{won} of {len(ratios)}, {mean:.2f}x in geometric mean, worst {worst:.2f}x ({where})"
        )
        return found, worst < 1

    return check


def _break_even(figures: Figures) -> tuple[str, bool]:
    ratios = {
        shape.describe(): figures.ours(FWCS, shape, BREAK_EVEN_PCT) / figures.ours(DENSE, shape)
        for shape in shapes.SPARSE
        if shape.cin >= 32
    }
    where, worst = _worst(ratios)
    return f"{worst:.3f}x of dense ({where})", worst <= 1


_CHECKS: tuple[tuple[str, str, _Check], ...] = (
    ("FWCS against the prototype, every cell", f"<= {PROTOTYPE_LIMIT}x", _prototype_everywhere),
    ("FWCS below the prototype", "at least half of the cells", _prototype_beaten),
    ("dense 3x3 against CMSIS-NN, geometric mean", f"<= {DENSE_LIMIT}x", _dense_mean),
    ("dense 3x3, MAC/cycle from Cin 64 on", f">= {DENSE_MAC_PER_CYCLE}", _dense_rate),
    *(
        (f"pointwise, MAC/cycle at Cin {channels}", f">= {rate}", _pointwise(channels))
        for channels, rate in POINTWISE_MAC_PER_CYCLE.items()
    ),
    ("pointwise of MLPerf Tiny faster than CMSIS-NN", "every shape", _faster(shapes.POINTWISE)),
    ("depthwise faster than CMSIS-NN", "every shape", _faster(shapes.DEPTHWISE_SHAPES)),
    ("stride 2 faster than CMSIS-NN", "every shape", _faster(shapes.STRIDED)),
    (
        "fully connected faster than CMSIS-NN",
        "every shape",
        _faster(shapes.FULLY_CONNECTED_SHAPES),
    ),
    ("add faster than CMSIS-NN", "every shape", _faster(shapes.ADDS)),
    ("pooling faster than CMSIS-NN", "every shape", _faster(shapes.POOLS)),
    (
        f"FWCS no slower than dense at {BREAK_EVEN_PCT} % removed, Cin >= 32",
        "every shape",
        _break_even,
    ),
)
