"""Fashion-MNIST (Xiao et al. 2017) from its four gzipped idx files, padded to 32x32.

Debian's package `dataset-fashion-mnist` installs them; any folder with the four files will do.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dtmm.data.dataset import Dataset
from dtmm.errors import DataError

DEFAULT_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
           "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")  # fmt: skip
FILES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}

# Mean and standard deviation of all training pixels / 255, padding included.
MEAN, STD = 0.2190, 0.3318


def load_fashion_mnist(folder: Path | None = None) -> Dataset:
    """The dataset in `folder` (None: where Debian's package puts it).

    Raises:
        DataError: the folder or a file is missing, truncated, or not what its name says.
    """
    folder = DEFAULT_FOLDER if folder is None else folder
    if not folder.is_dir():
        raise DataError(
            f"dataset folder {folder} does not exist; `apt-get install dataset-fashion-mnist`, or "
            f"put {', '.join(FILES.values())} into a folder and name it with data.folder"
        )
    arrays = {key: read_idx(folder / name) for key, name in FILES.items()}
    for key in ("train_images", "test_images"):
        if arrays[key].ndim != 3 or arrays[key].shape[1:] != (28, 28):
            raise DataError(
                f"{folder / FILES[key]} holds an array of shape {arrays[key].shape}, "
                "expected (N, 28, 28)"
            )
    for key in ("train_labels", "test_labels"):
        if arrays[key].ndim != 1:
            raise DataError(
                f"{folder / FILES[key]} holds an array of shape {arrays[key].shape}, expected (N,)"
            )
    try:
        return Dataset(
            name="fashion_mnist",
            train_images=_pad(arrays["train_images"]),
            train_labels=arrays["train_labels"].astype(np.int64),
            test_images=_pad(arrays["test_images"]),
            test_labels=arrays["test_labels"].astype(np.int64),
            classes=CLASSES,
            mean=MEAN,
            std=STD,
        )
    except DataError as error:
        raise DataError(f"dataset folder {folder}: {error}") from None


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """The uint8 array in a gzipped idx file (LeCun's MNIST format).

    Raises:
        DataError: missing, not gzip, not an idx file of uint8, or shorter or longer than it says.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"dataset file {path} does not exist") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a readable gzip file: {error}") from None
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(
            f"{path} begins with bytes {content[:4].hex()}, "
            "expected an idx file of uint8 (000008..)"
        )
    rank = content[3]
    if len(content) < 4 + 4 * rank:
        raise DataError(f"{path} ends after {len(content)} bytes, inside its header")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", rank, 4))
    data = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    if len(data) != math.prod(shape):
        raise DataError(f"{path} holds {len(data)} values, its header {shape} promises "
                        f"{math.prod(shape)}")  # fmt: skip
    return data.reshape(shape)


def _pad(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.pad(images, ((0, 0), (2, 2), (2, 2)))[..., None]
