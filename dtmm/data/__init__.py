"""Datasets by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from dtmm.data.cifar10 import load_cifar10
from dtmm.data.dataset import Dataset
from dtmm.data.detection import DetectionDataset
from dtmm.data.digits import load_digits
from dtmm.data.fashion_boxes import load_fashion_boxes
from dtmm.data.fashion_mnist import load_fashion_mnist
from dtmm.data.fashion_scenes import load_fashion_scenes
from dtmm.data.fddb import load_fddb
from dtmm.data.gtsrb import load_gtsrb
from dtmm.data.samples import Samples
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

DETECTION: Mapping[str, Callable[[Path | None], DetectionDataset]] = {
    "fashion_boxes": load_fashion_boxes,
    "fddb": load_fddb,
}
"""Those with boxes instead of labels."""

__all__ = [
    "DATASETS",
    "DETECTION",
    "Dataset",
    "DetectionDataset",
    "Samples",
    "load_dataset",
    "load_detection",
    "load_samples",
]


def load_dataset(name: str, folder: str | Path | None = None) -> Dataset:
    """The dataset called `name`, read from `folder` (None: its usual place).

    Raises:
        DataError: unknown name, or the files are missing or malformed.
    """
    if name in DETECTION:
        raise DataError(f"dataset {name} has boxes, expected one with labels: {_names(DATASETS)}")
    if name not in DATASETS:
        raise DataError(f"unknown dataset {name!r}; known: {_names(DATASETS)}")
    return DATASETS[name](None if folder is None else Path(folder))


def load_samples(name: str, folder: str | Path | None = None) -> Samples:
    """The dataset called `name`, with labels or with boxes, from `folder` (None: its usual place).

    Raises:
        DataError: unknown name, or the files are missing or malformed.
    """
    if name not in DATASETS and name not in DETECTION:
        known = _names({**DATASETS, **DETECTION})
        raise DataError(f"unknown dataset {name!r}; known: {known}")
    return load_detection(name, folder) if name in DETECTION else load_dataset(name, folder)


def load_detection(name: str, folder: str | Path | None = None) -> DetectionDataset:
    """The detection dataset called `name`, read from `folder` (None: its usual place).

    Raises:
        DataError: unknown name, or the files are missing or malformed.
    """
    if name not in DETECTION:
        raise DataError(f"unknown detection dataset {name!r}; known: {_names(DETECTION)}")
    return DETECTION[name](None if folder is None else Path(folder))


def _names(registry: Mapping[str, object]) -> str:
    return ", ".join(sorted(registry))
