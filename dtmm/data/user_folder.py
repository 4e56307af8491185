"""The folder of a dataset that a user brings."""

from __future__ import annotations

from pathlib import Path

from dtmm.errors import DataError


def user_folder(name: str, folder: Path | None, holds: str) -> Path:
    """The folder, which is there.

    Args:
        holds: what lies in it, for the error.

    Raises:
        DataError: none is given, or it does not exist.
    """
    if folder is None:
        raise DataError(f"dataset {name} needs data.folder, a folder that holds {holds}")
    if not folder.is_dir():
        raise DataError(f"dataset folder {folder} does not exist; expected one that holds {holds}")
    return folder
