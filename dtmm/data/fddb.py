"""FDDB (Jain and Learned-Miller 2010): faces in news pictures, in grey, at 112x112.

The benchmark marks each face by an ellipse; here it is the smallest upright box around it. Pictures
are stretched, so the shapes of boxes change with those of the pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dtmm.data.detection import NOTHING, Boxes, DetectionDataset
from dtmm.data.image_files import read_grey
from dtmm.data.samples import Images
from dtmm.data.user_folder import user_folder
from dtmm.errors import DataError

SIZE = (112, 112)
TRAIN_FOLDS, TEST_FOLDS = range(1, 9), range(9, 11)
LISTS, PICTURES = "FDDB-folds", "originalPics"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Entry:
    """A picture's name without its ending, and its faces [M, 5]: radii along the major and the
    minor axis, angle of the major axis to the horizontal (radians), middle x and y, pixels."""

    name: str
    ellipses: Floats


def load_fddb(folder: Path | None = None) -> DetectionDataset:
    """The dataset in `folder`: folds 1 to 8 for training, 9 and 10 for the test.

    Raises:
        DataError: no folder is given, a list is missing or a line of it broken, a picture cannot be
            read, or a face lies outside of it.
    """
    holds = f"{LISTS}/{_list(1)} to {_list(10)} and {PICTURES}"
    place = user_folder("fddb", folder, holds)
    train, test = (_split(place, folds) for folds in (TRAIN_FOLDS, TEST_FOLDS))
    return DetectionDataset(
        "fddb",
        *train,
        *test,
        classes=("face",),
        mean=round(float(train[0].mean()) / 255, 4),
        std=round(float(train[0].std()) / 255, 4) or 1.0,
    )


def _list(fold: int) -> str:
    return f"FDDB-fold-{fold:02}-ellipseList.txt"


def _split(folder: Path, folds: range) -> tuple[Images, Boxes]:
    entries = [each for n in folds for each in read_ellipses(folder / LISTS / _list(n))]
    most = max((len(each.ellipses) for each in entries), default=0)
    boxes = np.full((len(entries), most, 5), NOTHING, dtype=np.float32)
    images = np.zeros((len(entries), *SIZE, 1), dtype=np.uint8)
    for n, each in enumerate(entries):
        path = folder / PICTURES / f"{each.name}.jpg"
        images[n], (height, width) = read_grey(path, SIZE)
        found = boxes_around(each.ellipses).clip(0, [width, height, width, height])
        if (found[:, 2:] <= found[:, :2]).any():
            raise DataError(f"{path} is {width}x{height} pixels, a face lies outside of it")
        boxes[n, : len(found), 0] = 0
        boxes[n, : len(found), 1:] = found * np.tile([SIZE[1] / width, SIZE[0] / height], 2)
    return images, boxes


def boxes_around(ellipses: Floats) -> Floats:
    """[M, 4] left, top, right, bottom of the smallest upright boxes around [M, 5] ellipses."""
    major, minor, angle, x, y = ellipses.T
    half_width = np.hypot(major * np.cos(angle), minor * np.sin(angle))
    half_height = np.hypot(major * np.sin(angle), minor * np.cos(angle))
    return np.stack([x - half_width, y - half_height, x + half_width, y + half_height], axis=1)


def read_ellipses(path: Path) -> list[Entry]:
    """The entries of a fold's list: a name, the number of faces, a line for each face.

    Raises:
        DataError: the file is missing, or a line is not what it should be.
    """
    try:
        lines = iter(enumerate(path.read_text().splitlines(), start=1))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the dataset list {path}: {error}") from None
    entries = []
    for _, name in lines:
        if name.strip():
            number, count = next(lines, (0, ""))
            if not count.strip().isdigit():
                raise _broken(path, number, count, f"the number of faces of {name.strip()}")
            faces = [_ellipse(path, lines) for _ in range(int(count))]
            entries.append(Entry(name.strip(), np.array(faces, np.float64).reshape(-1, 5)))
    return entries


def _ellipse(path: Path, lines: Iterator[tuple[int, str]]) -> list[float]:
    number, line = next(lines, (0, ""))
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        values = []
    if len(values) != 6 or not all(map(math.isfinite, values)) or min(values[:2]) <= 0:
        raise _broken(path, number, line, "two radii above 0, an angle, a middle x y, and 1")
    return values[:5]


def _broken(path: Path, number: int, line: str, expected: str) -> DataError:
    where = f"line {number} is {line.strip()!r}" if number else "the file ends"
    return DataError(f"dataset list {path}: {where}, expected {expected}")
