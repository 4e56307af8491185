"""Where compiled objects, the QEMU plug-in and block prices are kept between runs."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from dtmm.errors import ToolchainError


def cache_dir() -> Path:
    """The user's cache folder: $DTMM_CACHE_DIR, or dtmm/ in $XDG_CACHE_HOME (~/.cache).

    Everything in it can be deleted at any time; it is made again. Raises ToolchainError when the
    folder cannot be made.
    """
    own = os.environ.get("DTMM_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME")
    folder = Path(own) if own else (Path(base) if base else Path.home() / ".cache") / "dtmm"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolchainError(
            f"cache folder {folder} cannot be made ({error.strerror}): set DTMM_CACHE_DIR to a "
            "folder that can be written"
        ) from error
    return folder


def digest(parts: Iterable[bytes | str]) -> str:
    """A name for content: SHA-256 over the parts and their lengths, as 32 hexadecimal digits."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()[:32]


def publish(made: Path, target: Path) -> None:
    """Moves a finished file to its place in one step, over file systems if need be.

    A reader sees the old file or the new one, never half of one; of two writers the last wins.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(made.read_bytes())
        Path(name).chmod(made.stat().st_mode & 0o777)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
