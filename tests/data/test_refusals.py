"""What a dataset refuses beyond a malformed file, and that it names the folder."""

from __future__ import annotations

import dataclasses
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from dtmm.data import Dataset, load_dataset
from dtmm.data.fashion_mnist import FILES
from dtmm.errors import DataError


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_split(split: str, digits: Dataset) -> None:
    images, labels = np.zeros((0, 16, 16, 1), np.uint8), np.zeros(0, np.int64)
    with pytest.raises(DataError, match=rf"digits: 0 {split}\w* images, expected at least 1"):
        dataclasses.replace(digits, **{f"{split}_images": images, f"{split}_labels": labels})


def test_counts_that_differ_name_the_folder(tmp_path: Path) -> None:
    shapes = {"train_images": (2, 28, 28), "train_labels": (1,)}
    shapes |= {"test_images": (1, 28, 28), "test_labels": (1,)}
    for key, shape in shapes.items():
        header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
        (tmp_path / FILES[key]).write_bytes(gzip.compress(header + bytes(int(np.prod(shape)))))
    with pytest.raises(DataError) as error:
        load_dataset("fashion_mnist", tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "2 training images but 1 labels" in str(error.value)


def test_every_array_counts_in_the_hash(digits: Dataset) -> None:
    hashes = {digits.hash}
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        array = getattr(digits, field).copy()
        array.flat[0] = (int(array.flat[0]) + 1) % 10
        hashes.add(dataclasses.replace(digits, **{field: array}).hash)
    assert len(hashes) == 5
