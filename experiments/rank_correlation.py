"""Rank correlation with bootstrap intervals: how well numbers order what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

Floats = npt.NDArray[np.float64]

RESAMPLES = 1000
LEAST = 5
"""Fewer schedules have no interval worth a row."""


def ranks(
    table: pd.DataFrame,
    estimators: Sequence[str],
    truths: Sequence[str],
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Spearman's and Kendall's coefficients per network, size, truth and estimator, with the 2.5th
    and 97.5th percentile over resampled schedules; a truth that fewer than LEAST have is left out.

    Args:
        table: a row per schedule; `network`, `size`, and a column per estimator and truth (nats).
    """
    rows: list[dict[str, Any]] = []
    for (network, size), part in table.groupby(["network", "size"], sort=False):
        for truth in truths:
            known = part.dropna(subset=[truth]) if truth in part else part.iloc[:0]
            if len(known) < LEAST:
                continue
            drawn = _resampled(len(known), resamples)
            for estimator in estimators:
                x, y = known[estimator].to_numpy(), known[truth].to_numpy()
                row = {"network": network, "size": size, "truth": truth, "estimator": estimator}
                row["schedules"] = len(known)
                for name, coefficient in (("spearman", spearman), ("kendall", kendall)):
                    values = coefficient(x[drawn], y[drawn])
                    low, high = np.nanpercentile(values, [2.5, 97.5])
                    row[name] = float(coefficient(x[None], y[None])[0])
                    row[f"{name}_low"], row[f"{name}_high"] = float(low), float(high)
                rows.append(row)
    return pd.DataFrame(rows)


def _resampled(count: int, resamples: int) -> npt.NDArray[np.int64]:
    """[resamples, count] indices, drawn with replacement."""
    return np.random.default_rng(0).integers(0, count, (resamples, count))


def spearman(x: Floats, y: Floats) -> Floats:
    """[R] rank correlation of each row of [R, n] samples; ties share their mean rank."""
    a, b = (rankdata(values, axis=1) for values in (x, y))
    a, b = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (a, b))
    return _normalised((a * b).sum(axis=1), (a * a).sum(axis=1), (b * b).sum(axis=1))


def kendall(x: Floats, y: Floats) -> Floats:
    """[R] tau-b of each row of [R, n] samples."""
    a, b = (np.sign(values[:, :, None] - values[:, None, :]) for values in (x, y))
    return _normalised(
        (a * b).sum(axis=(1, 2)), np.abs(a).sum(axis=(1, 2)), np.abs(b).sum(axis=(1, 2))
    )


def _normalised(product: Floats, one: Floats, other: Floats) -> Floats:
    """NaN where a side is constant."""
    scale = np.sqrt(one * other)
    return np.asarray(np.divide(product, scale, out=np.full(len(product), np.nan), where=scale > 0))
