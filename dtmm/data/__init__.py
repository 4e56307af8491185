"""Datasets by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from dtmm.data.dataset import Dataset
from dtmm.data.digits import load_digits
from dtmm.data.fashion_mnist import load_fashion_mnist
from dtmm.data.fashion_scenes import load_fashion_scenes
from dtmm.errors import DataError

DATASETS: Mapping[str, Callable[[Path | None], Dataset]] = {
    "digits": load_digits,
    "fashion_mnist": load_fashion_mnist,
    "fashion_scenes": load_fashion_scenes,
}

__all__ = ["DATASETS", "Dataset", "load_dataset"]


def load_dataset(name: str, folder: str | Path | None = None) -> Dataset:
    """The dataset called `name`, read from `folder` (None: its usual place).

    Raises:
        DataError: unknown name, or the files are missing or malformed.
    """
    if name not in DATASETS:
        raise DataError(f"unknown dataset {name!r}; known: {', '.join(sorted(DATASETS))}")
    return DATASETS[name](None if folder is None else Path(folder))
