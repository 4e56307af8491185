"""Visual Wake Words and the camera catalogue: pictures in a folder per class."""

from __future__ import annotations

from pathlib import Path

from dtmm.data.dataset import Dataset
from dtmm.data.image_files import load_class_folders
from dtmm.data.user_folder import user_folder

VWW_CLASSES = ("non_person", "person")
VWW_SIZE = (96, 96)
CATALOGUE_SIZE = (64, 64)


def load_vww(folder: Path | None = None) -> Dataset:
    """Visual Wake Words (Chowdhery et al. 2019) as MLPerf Tiny lays it out, at 96x96.

    `folder` holds `person` and `non_person`; a tenth of the files, by their names, is the test.

    Raises:
        DataError: no folder is given, or it is not laid out so.
    """
    holds = f"subfolders {' and '.join(VWW_CLASSES)} of pictures (MLPerf Tiny's vw_coco2014_96)"
    place = user_folder("vww", folder, holds)
    return load_class_folders("vww", place, VWW_SIZE, VWW_CLASSES)


def load_camera_catalogue(folder: Path | None = None) -> Dataset:
    """Camera-trap pictures, a subfolder per kind of animal, at 64x64.

    Raises:
        DataError: no folder is given, or it is not laid out so.
    """
    holds = "a subfolder of pictures per class, or train and test that hold such"
    place = user_folder("camera_catalogue", folder, holds)
    return load_class_folders("camera_catalogue", place, CATALOGUE_SIZE)
