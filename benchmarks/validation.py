"""How m55-v1 and m55-v2 compare with cycles measured on silicon, and what that does not settle.

Read from benchmarks/external: silicon_alif_e8_m55_mobilenetv2.csv (what the board showed),
silicon_cycles.csv and silicon_misses.csv (what the models say of the same layers of CMSIS-NN).

    measured ~ scale * zero-wait cycles + per_line * lines that reads missed

is fitted to relative errors, and judged by leaving out one layer at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.external import FOLDER
from dtmm.device import cycle_model
from dtmm.errors import DataError
from dtmm.table import read_table

Floats = npt.NDArray[np.float64]

MEASURED = "silicon_alif_e8_m55_mobilenetv2"
COMPILERS = ("gcc", "clang")
CACHE = (32, 4, "random")
"""Of m55-v2: KiB, ways, replacement."""


@dataclass(frozen=True)
class Silicon:
    """The layers' names, measured cycles [L], and what the models know of them.

    cycles: (compiler, variant of m55-v1) to [L]; misses: (compiler, (KiB, ways, replacement)) to
    read and written lines missed, [L, 2].
    """

    layers: tuple[str, ...]
    measured: Floats
    cycles: dict[tuple[str, str], Floats]
    misses: dict[tuple[str, tuple[int, int, str]], Floats]


@dataclass(frozen=True)
class Fit:
    """Parameters, and rms relative errors: of the fit, and of each layer predicted by the others.

    low, high: the smallest and largest per_line of all fits that leave out a layer.
    """

    scale: float
    per_line: float
    rms: float
    left_out_rms: float
    low: float
    high: float
    left_out: Floats


def load() -> Silicon:
    """Raises DataError: the tables lack a layer."""
    board, _ = read_table(FOLDER / f"{MEASURED}.csv", text=("layer",))
    layers = tuple(board["layer"])
    cycles_table, _ = read_table(
        FOLDER / "silicon_cycles.csv", text=("compiler", "variant", "layer")
    )
    misses_table, _ = read_table(
        FOLDER / "silicon_misses.csv", text=("compiler", "replacement", "layer")
    )

    def of(table: pd.DataFrame, columns: list[str]) -> Floats:
        if list(table["layer"]) != list(layers):
            raise DataError(f"silicon tables: expected the layers {', '.join(layers)} in order")
        return np.asarray(table[columns], dtype=np.float64)

    cycles = {
        (str(key[0]), str(key[1])): of(rows, ["cycles"])[:, 0]
        for key, rows in cycles_table.groupby(["compiler", "variant"])
    }
    geometry = ["compiler", "cache_kib", "ways", "replacement"]
    misses = {
        (str(key[0]), (int(key[1]), int(key[2]), str(key[3]))): of(
            rows, ["read_missed_lines", "write_missed_lines"]
        )
        for key, rows in misses_table.groupby(geometry)
    }
    measured = board["measured_cycles"].to_numpy(dtype=np.float64)
    return Silicon(layers, measured, cycles, misses)


def fit(measured: Floats, zero_wait: Floats, lines: Floats, free_scale: bool = False) -> Fit:
    """The least-squares fit of relative errors; scale is 1 unless it is free."""

    def solve(keep: npt.NDArray[np.bool_]) -> tuple[float, float]:
        known, cycles, missed = measured[keep], zero_wait[keep], lines[keep]
        if free_scale:
            columns = np.stack([cycles, missed], axis=1) / known[:, None]
            scale, per_line = np.linalg.lstsq(columns, np.ones(len(known)), rcond=None)[0]
            return float(scale), float(per_line)
        share = missed / known
        return 1.0, float(share @ (1 - cycles / known) / (share @ share))

    def error(scale: float, per_line: float) -> Floats:
        return (scale * zero_wait + per_line * lines) / measured - 1

    everything = np.ones(len(measured), dtype=np.bool_)
    scale, per_line = solve(everything)
    singles = [solve(np.arange(len(measured)) != i) for i in range(len(measured))]
    left_out = np.array([error(*single)[i] for i, single in enumerate(singles)])
    prices = [single[1] for single in singles]
    return Fit(
        scale,
        per_line,
        _rms(error(scale, per_line)),
        _rms(left_out),
        min(prices),
        max(prices),
        left_out,
    )


def _rms(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors**2)))


Rows = list[list[str]]


def layer_rows(silicon: Silicon) -> Rows:
    """Measured, m55-v1, m55-v2, ratios, and each layer predicted from the others."""
    memory = cycle_model("m55-v2").memory
    assert memory is not None
    zero_wait = silicon.cycles["gcc", "m55-v1"]
    other = silicon.cycles["clang", "m55-v1"]
    lines = silicon.misses["gcc", CACHE][:, 0]
    cached = zero_wait + memory.cycles_per_missed_line * lines
    others = fit(silicon.measured, zero_wait, lines)
    head = ["layer", "measured", "m55-v1, gcc", "ratio", "m55-v1, clang", "ratio"]
    rows = [[*head, "missed lines", "m55-v2, gcc", "ratio", "left out: error"]]
    for i, layer in enumerate(silicon.layers):
        board = silicon.measured[i]
        row = [layer, _mega(board), _mega(zero_wait[i]), f"{board / zero_wait[i]:.2f}"]
        row += [_mega(other[i]), f"{board / other[i]:.2f}", f"{lines[i]:,.0f}"]
        row += [_mega(cached[i]), f"{board / cached[i]:.2f}", f"{100 * others.left_out[i]:+.1f} %"]
        rows.append(row)
    errors = {
        "m55-v1, gcc": zero_wait / silicon.measured - 1,
        "m55-v1, clang": other / silicon.measured - 1,
        "m55-v2, gcc": cached / silicon.measured - 1,
    }
    summary = [f"{_rms(errors[name]) * 100:.1f} %" for name in errors]
    rows.append(
        ["rms error", "", summary[0], "", summary[1], "", "", summary[2], "",
         f"{100 * others.left_out_rms:.1f} %"]
    )  # fmt: skip
    return rows


def fit_rows(silicon: Silicon) -> Rows:
    """Every explanation that was tried, with what it says a missed line costs."""
    rows = [["what is fitted", "scale", "cycles per line", "without one layer", "rms", "left out"]]
    for name, zero_wait, lines, free in _explanations(silicon):
        found = fit(silicon.measured, zero_wait, lines, free)
        scale = f"{found.scale:.2f}" if free else "1"
        spread = f"{found.low:.0f} to {found.high:.0f}"
        errors = (f"{100 * found.rms:.1f} %", f"{100 * found.left_out_rms:.1f} %")
        rows.append([name, scale, f"{found.per_line:.1f}", spread, *errors])
    return rows


def _explanations(silicon: Silicon) -> list[tuple[str, Floats, Floats, bool]]:
    """(name, zero-wait cycles, lines, whether the scale is free)"""
    cycles, misses = silicon.cycles, silicon.misses
    base, lines = cycles["gcc", "m55-v1"], misses["gcc", CACHE]
    found = [("m55-v2: gcc, 32 KiB, 4 ways, random", base, lines[:, 0], False)]
    for key in sorted(misses):
        compiler, (kib, ways, replacement) = key
        if compiler == "gcc" and key[1] != CACHE:
            name = f"{kib} KiB, {ways} ways, {replacement}"
            found.append((name, base, misses[key][:, 0], False))
    found.append(("lines missed by writes too", base, lines.sum(axis=1), False))
    found.append(("scale free", base, lines[:, 0], True))
    clang = misses["clang", CACHE][:, 0]
    found.append(("clang", cycles["clang", "m55-v1"], clang, False))
    found.append(("clang, scale free", cycles["clang", "m55-v1"], clang, True))
    others = [key for key in sorted(cycles) if key[0] == "gcc" and key[1] != "m55-v1"]
    return found + [(key[1], cycles[key], lines[:, 0], False) for key in others]


def _mega(cycles: float) -> str:
    return f"{cycles / 1e6:.2f} M"


SECTIONS: tuple[tuple[str, Callable[[Silicon], Rows]], ...] = (
    (
        "Eight layers of MobileNetV2-224 (int8, CMSIS-NN v7.0.0) on an Alif E8's Cortex-M55, arena "
        "in SRAM, weights in MRAM. Ratio: measured to modelled. Last column: the error of "
        "m55-v1 + cycles per line, fitted to the other seven layers.",
        layer_rows,
    ),
    (
        "What else explains the same eight figures: other caches, other compilers, other "
        "parameters of m55-v1. `left out` is the rms error of layers predicted from the others.",
        fit_rows,
    ),
)
