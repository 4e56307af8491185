"""Measured losses of pruning one unit alone: the data type, its CSV, nothing of how to measure.

A curve says what the mean cross-entropy rises by, in nats, when one channel group or one
convolution alone keeps so many of its channels or filterlets and everything else stays dense. Batch
normalization should be re-estimated before each measurement (DESIGN.md, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from dtmm.errors import DataError, DtmmError
from dtmm.table import read_table, write_table

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

COLUMNS = ("kind", "name", "kept", "total", "loss")


@dataclass(frozen=True)
class Curve:
    """The measured loss of one unit.

    Attributes:
        total: channels of the group, or filterlets of the convolution (C_out * kh * kw).
        kept: [n] of them kept, strictly ascending, below `total`.
        loss: [n] nats; noise may make it negative or not monotone.
    """

    total: int
    kept: Ints
    loss: Floats

    def at(self, name: str, share: Floats) -> Floats:
        """Nats at shares kept (0 to 1): linear between points, 0 where everything is kept.

        Noise is removed first: a loss is at least 0 and at least that of keeping more.

        Raises:
            DtmmError: less is kept than was ever measured.
        """
        least = self.kept[0] / self.total
        if share.min() < least - 1e-9:
            raise DtmmError(
                f"sensitivity of {name} was measured down to {self.kept[0]} of {self.total} kept, "
                f"expected down to {share.min() * self.total:g}"
            )
        shares = np.append(self.kept / self.total, 1.0)
        rising = np.maximum.accumulate(np.append(self.loss, 0.0)[::-1])[::-1]
        return np.interp(share, shares, rising)


@dataclass(frozen=True)
class Sensitivity:
    """Curves by channel group and by convolution, and how they were measured."""

    groups: Mapping[str, Curve]
    convs: Mapping[str, Curve]
    provenance: Mapping[str, str]

    def save(self, path: Path) -> None:
        """Write a tidy CSV, one measurement per row.

        Raises:
            ArtifactError: the file cannot be written.
        """
        rows = [
            (kind, name, int(kept), curve.total, float(loss))
            for kind, curves in (("group", self.groups), ("conv", self.convs))
            for name, curve in curves.items()
            for kept, loss in zip(curve.kept, curve.loss, strict=True)
        ]
        write_table(path, pd.DataFrame(rows, columns=list(COLUMNS)), self.provenance)

    @staticmethod
    def load(path: Path) -> Sensitivity:
        """Read what `save` wrote, or a user's own file of the same columns, rows in any order.

        Raises:
            DataError: the file is missing, no table, lacks a column, or a row makes no sense.
        """
        table, provenance = read_table(path, text=("kind", "name"))
        if absent := [name for name in COLUMNS if name not in table.columns]:
            raise DataError(f"sensitivity table {path} lacks columns {', '.join(absent)}")
        curves: dict[str, dict[str, Curve]] = {"group": {}, "conv": {}}
        for (kind, name), rows in table.groupby(["kind", "name"], sort=False):
            if kind not in curves:
                raise DataError(
                    f"sensitivity table {path}: kind is {kind!r}, expected group or conv"
                )
            curves[kind][name] = _curve(f"sensitivity table {path}: {kind} {name!r}", rows)
        return Sensitivity(curves["group"], curves["conv"], provenance)


def _curve(where: str, rows: pd.DataFrame) -> Curve:
    numbers = rows[["kept", "total", "loss"]].apply(pd.to_numeric, errors="coerce")
    if not np.isfinite(numbers.to_numpy(dtype=np.float64)).all():
        raise DataError(f"{where} has a cell that is no finite number")
    numbers = numbers.sort_values("kept")
    kept, totals = numbers["kept"].to_numpy(), numbers["total"].to_numpy()
    if len(set(totals)) > 1:
        raise DataError(f"{where} has totals {sorted(set(totals))}, expected one")
    total = totals[0]
    if (kept % 1 != 0).any() or total % 1 != 0 or kept[0] < 0 or kept[-1] >= total:
        raise DataError(
            f"{where} keeps {kept[0]} to {kept[-1]} of {total}, expected fewer than all"
        )
    if (np.diff(kept) == 0).any():
        raise DataError(f"{where} has two rows for the same count")
    return Curve(int(total), kept.astype(np.int64), numbers["loss"].to_numpy(dtype=np.float64))
