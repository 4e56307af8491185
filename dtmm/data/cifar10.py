"""CIFAR-10 (Krizhevsky 2009) from its binary version, never from pickles.

A file holds records of 3,073 bytes: the label, then 32x32 pixels of red, of green and of blue, each
plane row by row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dtmm.data.dataset import Dataset, Images, Labels
from dtmm.data.user_folder import user_folder
from dtmm.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer",
           "dog", "frog", "horse", "ship", "truck")  # fmt: skip
TRAIN_FILES = tuple(f"data_batch_{n}.bin" for n in range(1, 6))
TEST_FILES = ("test_batch.bin",)
RECORD = 1 + 3 * 32 * 32

# Mean and standard deviation of all training pixels / 255, the three channels together.
MEAN, STD = 0.4734, 0.2516


def load_cifar10(folder: Path | None = None) -> Dataset:
    """The dataset in `folder`, which holds cifar-10-binary's six .bin files.

    Raises:
        DataError: no folder is given, or a file is missing or malformed.
    """
    files = ", ".join((*TRAIN_FILES, *TEST_FILES))
    place = user_folder("cifar10", folder, f"{files} (CIFAR-10's binary version)")
    train, test = (_records(place, files) for files in (TRAIN_FILES, TEST_FILES))
    return Dataset("cifar10", *train, *test, classes=CLASSES, mean=MEAN, std=STD)


def _records(folder: Path, files: tuple[str, ...]) -> tuple[Images, Labels]:
    content = b"".join(_read(folder / name) for name in files)
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, 0].astype(np.int64)


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the dataset file {path}: {error.strerror}") from None
    if not content or len(content) % RECORD:
        raise DataError(f"{path} holds {len(content)} bytes, expected records of {RECORD} bytes")
    worst = max(content[::RECORD])
    if worst >= len(CLASSES):
        raise DataError(f"{path} has label {worst}, expected 0..{len(CLASSES) - 1}")
    return content
