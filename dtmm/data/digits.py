"""scikit-learn's 8x8 digits at 16x16: a real dataset that a test trains on in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dtmm.data.dataset import Dataset
from dtmm.errors import DataError

TEST_IMAGES = 360


def load_digits(folder: Path | None = None) -> Dataset:
    """1,797 images, 360 of them for the test (a fixed shuffle).

    Raises:
        DataError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as sklearn_digits
    except ImportError:
        raise DataError("the digits dataset needs scikit-learn: pip install scikit-learn") from None
    bunch = sklearn_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    pixels = np.round(bunch.images[order] * (255 / 16)).astype(np.uint8)
    images = pixels.repeat(2, axis=1).repeat(2, axis=2)[..., None]
    labels = bunch.target[order].astype(np.int64)
    return Dataset(
        name="digits",
        train_images=images[TEST_IMAGES:],
        train_labels=labels[TEST_IMAGES:],
        test_images=images[:TEST_IMAGES],
        test_labels=labels[:TEST_IMAGES],
        classes=tuple("0123456789"),
        mirror=False,
        mean=0.3049,
        std=0.3757,
    )
