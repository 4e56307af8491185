"""The rivals' rows of docs/kernels.md: CSR and FKW beside the kernels of whole filterlets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from benchmarks import shapes
from benchmarks.bounds import BEAT
from benchmarks.shapes import Shape
from benchmarks.targets import DENSE, FWCS, Figures
from dtmm.storage.kernel_ids import CONV_CSR, CONV_FKW

SHOWN = (50, 75, 90, 95)
LANES = {CONV_CSR: 16, CONV_FKW: 4}
"""Values that a gathering load of the kernel fetches."""
MISSING = "-"


def access_cycles(kernel: str, gathered: float) -> float:
    """Cycles more if a gathering load took one for each value, and not two as any load.

    Args:
        gathered: values that all of them fetched.
    """
    lanes = LANES[kernel]
    return gathered / lanes * (lanes - BEAT)


def rows(table: pd.DataFrame, figures: Figures) -> list[list[str]]:
    """Kilocycles by shape and share of weights removed, with rate and distance from the bound."""
    head = ["H, Cin, Cout", "removed %", "dense", "FWCS"]
    for name in ("CSR", "FKW"):
        head += [name, "MAC/cycle", "times bound", "by access"]
    found = [head]
    for shape in shapes.SPARSE:
        for pct in SHOWN:
            cells = [f"{shape.h}, {shape.cin}, {shape.cout}", str(pct)]
            for names, share in ((DENSE, 0), (FWCS, pct)):
                try:
                    cells.append(_kilo(figures.ours(names, shape, share)))
                except KeyError:
                    cells.append(MISSING)
            for kernel in LANES:
                cells += _rival(table, kernel, shape, pct)
            found.append(cells)
    return found


def _rival(table: pd.DataFrame, kernel: str, shape: Shape, pct: int) -> list[str]:
    row = _cells(table, kernel, shape)
    row = row[row["sparsity_pct"] == pct]
    if row.empty:
        return [MISSING] * 4
    cell = row.iloc[0]
    slow = cell["cycles"] + access_cycles(kernel, float(cell["gathered"]))
    rate, times = cell["mac_per_cycle"], cell["cycles"] / cell["bound_cycles"]
    return [_kilo(cell["cycles"]), f"{rate:.2f}", f"{times:.2f}", _kilo(slow)]


def break_even_rows(table: pd.DataFrame, figures: Figures) -> list[list[str]]:
    """From which share of weights removed a rival is faster than our dense kernel, and how its
    cycles compare with those of FWCS at the same share, at its best."""
    head = ["H, Cin, Cout"]
    for name in ("CSR", "FKW"):
        head += [f"{name} beats dense from", "by access", f"{name} / FWCS, at best"]
    found = [head]
    for shape in shapes.SPARSE:
        cells = [f"{shape.h}, {shape.cin}, {shape.cout}"]
        for kernel in LANES:
            if _cells(table, kernel, shape).empty:
                cells += [MISSING] * 3
                continue
            own = _cells(table, kernel, shape).sort_values("sparsity_pct")
            slow = own["cycles"] + access_cycles(kernel, 1.0) * own["gathered"].astype(float)
            limit = figures.ours(DENSE, shape)
            ratios = list(_ratios(own, figures, shape))
            cells += [_crossing(own, own["cycles"], limit), _crossing(own, slow, limit)]
            cells.append(f"{min(ratios):.2f}x" if ratios else MISSING)
        found.append(cells)
    return found


def _ratios(own: pd.DataFrame, figures: Figures, shape: Shape) -> Iterator[float]:
    for pct, cycles in zip(own["sparsity_pct"], own["cycles"], strict=True):
        try:
            yield float(cycles) / figures.ours(FWCS, shape, int(pct))
        except KeyError:  # FWCS is not measured at every share
            continue


def _crossing(own: pd.DataFrame, cycles: pd.Series, limit: float) -> str:
    """The share, interpolated between measured ones."""
    shares, over = own["sparsity_pct"].to_numpy(float), cycles.to_numpy(float) - limit
    slower = np.flatnonzero(over > 0)
    if not slower.size:
        return f"{shares[0]:.0f} % or less"
    last = int(slower[-1])
    if last + 1 == len(over):
        return "never"
    part = over[last] / (over[last] - over[last + 1])
    return f"{shares[last] + part * (shares[last + 1] - shares[last]):.0f} %"


def _cells(table: pd.DataFrame, kernel: str, shape: Shape) -> pd.DataFrame:
    same = (table["kernel"] == kernel) & (table["h"] == shape.h) & (table["cin"] == shape.cin)
    return table[same & (table["cout"] == shape.cout) & (table["stride"] == shape.stride)]


def _kilo(cycles: float) -> str:
    return f"{cycles / 1000:,.0f}"
