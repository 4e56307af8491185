"""Datasets: what the files must be, and what is said when they are not."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from dtmm.data import Dataset, load_dataset
from dtmm.data.fashion_mnist import FILES, read_idx
from dtmm.errors import DataError


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for key, count in (("train", 5), ("test", 3)):
        write_idx(tmp_path / FILES[f"{key}_images"], rng.integers(0, 256, (count, 28, 28)))
        write_idx(tmp_path / FILES[f"{key}_labels"], rng.integers(0, 10, count))
    return tmp_path


def test_images_are_padded_to_32(folder: Path) -> None:
    data = load_dataset("fashion_mnist", folder)
    assert data.image_shape == (32, 32, 1)
    original = read_idx(folder / FILES["train_images"])
    assert np.array_equal(data.train_images[:, 2:30, 2:30, 0], original)
    assert data.train_images.sum() == original.sum()
    assert data.test_labels.dtype == np.int64
    assert data.hash == load_dataset("fashion_mnist", folder).hash


def test_preprocessing(folder: Path) -> None:
    data = load_dataset("fashion_mnist", folder)
    expected = (data.test_images / 255 - data.mean) / data.std
    assert np.allclose(data.to_input(data.test_images), expected, atol=1e-6)
    assert data.to_input(data.test_images).dtype == np.float32


def test_a_missing_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist; `apt-get install dataset-fash"):
        load_dataset("fashion_mnist", tmp_path / "nowhere")


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / FILES["test_labels"]).unlink()
    with pytest.raises(DataError, match=FILES["test_labels"]):
        load_dataset("fashion_mnist", folder)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"not gzip", "not a readable gzip"),
        (gzip.compress(b"\0\0\x0d\3" + bytes(12)), "expected an idx file of uint8"),
        (gzip.compress(b"\0\0\x08\3\0\0"), "inside its header"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\5abc"), "promises 5"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\1ab"), "promises 1"),
        (gzip.compress(bytes(100))[:-12], "not a readable gzip"),
        (b"", "expected an idx file"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_idx(path)


def test_counts_and_labels_must_fit(folder: Path) -> None:
    write_idx(folder / FILES["test_labels"], np.zeros(2))
    with pytest.raises(DataError, match="3 test images but 2 labels"):
        load_dataset("fashion_mnist", folder)
    write_idx(folder / FILES["test_labels"], np.full(3, 10))
    with pytest.raises(DataError, match=r"10\.\.10, expected 0\.\.9"):
        load_dataset("fashion_mnist", folder)
    write_idx(folder / FILES["test_images"], np.zeros((3, 20, 20)))
    with pytest.raises(DataError, match=r"expected \(N, 28, 28\)"):
        load_dataset("fashion_mnist", folder)


def test_the_real_fashion_mnist(toolchain: None) -> None:
    data = load_dataset("fashion_mnist")
    assert data.train_images.shape == (60000, 32, 32, 1)
    assert data.test_images.shape == (10000, 32, 32, 1)
    assert np.array_equal(np.bincount(data.train_labels), np.full(10, 6000))
    inputs = data.train_images / 255
    assert data.mean == pytest.approx(inputs.mean(), abs=1e-3)
    assert data.std == pytest.approx(inputs.std(), abs=1e-3)


def test_digits() -> None:
    data: Dataset = load_dataset("digits")
    assert data.image_shape == (16, 16, 1)
    assert len(data.train_labels) + len(data.test_labels) == 1797
    assert data.mean == pytest.approx((data.train_images / 255).mean(), abs=1e-3)


def test_an_unknown_dataset_lists_the_known() -> None:
    with pytest.raises(DataError, match="digits, fashion_mnist, "):
        load_dataset("mnist")
