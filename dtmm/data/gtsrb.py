"""The German traffic sign recognition benchmark (Stallkamp et al. 2012), cropped, at 32x32."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from dtmm.data.dataset import Dataset, Images
from dtmm.data.image_files import in_two, read_image
from dtmm.data.user_folder import user_folder
from dtmm.errors import DataError

CLASSES = 43
SIZE = (32, 32)
TRAIN = Path("Final_Training/Images")
TEST = Path("Final_Test/Images")
TEST_TABLE = "GT-final_test.csv"
_BOX = ("Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2")
_COLUMNS = ("Filename", "ClassId", *_BOX)


def load_gtsrb(folder: Path | None = None) -> Dataset:
    """The dataset in `folder`, laid out as published: Final_Training and Final_Test below it.

    Each sign is cropped to the region that its table names, corners included. A mirrored sign is
    another sign, so training does not flip them.

    Raises:
        DataError: no folder is given, or a table or picture is missing or malformed.
    """
    holds = f"{TRAIN}/00000/GT-00000.csv, ... and {TEST}/{TEST_TABLE}"
    place = user_folder("gtsrb", folder, holds)
    tables = [_table(place / TRAIN / f"{n:05}", f"GT-{n:05}.csv") for n in range(CLASSES)]
    tables.append(_table(place / TEST, TEST_TABLE))
    rows = pd.concat(tables, ignore_index=True)
    images = np.stack([_sign(row) for row in rows.to_dict("records")])
    test = (rows["folder"] == place / TEST).to_numpy()
    labels = rows["ClassId"].to_numpy(np.int64)
    names = tuple(f"{n:05}" for n in range(CLASSES))
    return in_two("gtsrb", images, labels, test, names, mirror=False)


def _table(folder: Path, name: str) -> pd.DataFrame:
    path = folder / name
    try:
        table = pd.read_csv(path, sep=";")
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the dataset table {path}: {error}") from None
    if absent := [column for column in _COLUMNS if column not in table.columns]:
        raise DataError(f"dataset table {path} lacks columns {', '.join(absent)}")
    numbers = table[list(_COLUMNS[1:])].apply(pd.to_numeric, errors="coerce")
    if numbers.isna().any(axis=None) or not numbers["ClassId"].between(0, CLASSES - 1).all():
        raise DataError(f"dataset table {path}: expected ClassId 0..{CLASSES - 1} and whole pixels")
    return table.assign(folder=folder)


def _sign(row: Mapping[Hashable, object]) -> Images:
    left, top, right, bottom = (int(str(row[key])) for key in _BOX)
    return read_image(Path(str(row["folder"])) / str(row["Filename"]), SIZE,
                      (left, top, right + 1, bottom + 1))  # fmt: skip
