"""Datasets by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from dtmm.data.cifar10 import load_cifar10
from dtmm.data.dataset import Dataset
from dtmm.data.digits import load_digits
from dtmm.data.fashion_mnist import load_fashion_mnist
from dtmm.data.fashion_scenes import load_fashion_scenes
from dtmm.data.gtsrb import load_gtsrb
from dtmm.data.speech_commands import load_speech_commands
from dtmm.data.visual import load_camera_catalogue, load_vww
from dtmm.errors import DataError

DATASETS: Mapping[str, Callable[[Path | None], Dataset]] = {
    "camera_catalogue": load_camera_catalogue,
    "cifar10": load_cifar10,
    "digits": load_digits,
    "fashion_mnist": load_fashion_mnist,
    "fashion_scenes": load_fashion_scenes,
    "gtsrb": load_gtsrb,
    "speech_commands": load_speech_commands,
    "vww": load_vww,
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
