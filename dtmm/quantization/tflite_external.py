"""Constants of a .tflite model that lie in files beside it (the schema's ExternalBuffer)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dtmm.errors import DataError, UnsupportedError

MOST_BUFFERS = 16384
PACKINGS = ("", "unpacked")
"""Ways of lying there that are plain bytes."""


class ExternalBuffers:
    """The files that a model names; they are mapped, not read, and never searched elsewhere than in
    the model's own folder: the model is not trusted."""

    def __init__(self, model: Any, folder: Path | None) -> None:
        self.folder = folder
        count = model.ExternalBuffersLength()
        if count > MOST_BUFFERS:
            raise DataError(f"the model has {count} external buffers, expected <= {MOST_BUFFERS}")
        entries = (model.ExternalBuffers(n) for n in range(count))
        self._model, self._entries = model, {entry.Id(): entry for entry in entries}
        self._files: dict[str, npt.NDArray[np.uint8]] = {}

    def read(self, number: int) -> npt.NDArray[np.uint8]:
        """The bytes of the buffer with this id.

        Raises:
            DataError: no such buffer or file, or the buffer is not inside the file.
            UnsupportedError: packed bytes, or a model that was not read from a folder.
        """
        entry = self._entries.get(number)
        if entry is None or entry.Group() >= self._model.ExternalBufferGroupsLength():
            raise DataError(f"a tensor names external buffer {number}, which the model lacks")
        packing = (entry.Packing() or b"").decode("utf-8", "replace")
        if packing not in PACKINGS:
            raise UnsupportedError(f"external buffer {number} is packed {packing[:40]!r}")
        raw = self._model.ExternalBufferGroups(entry.Group()).Name() or b""
        content = self._file(raw.decode("utf-8", "replace"))
        first, last = entry.Offset(), entry.Offset() + entry.Length()
        if last > content.size:
            raise DataError(
                f"external buffer {number} ends at byte {last} of {content.size} of its file"
            )
        return content[first:last]

    def _file(self, name: str) -> npt.NDArray[np.uint8]:
        if name in self._files:
            return self._files[name]
        if self.folder is None:
            raise UnsupportedError(
                f"constants lie in another file, {name[:80]!r}: expected the model as a file too"
            )
        if name != Path(name).name or name in ("", ".", ".."):
            raise DataError(
                f"the model names the file {name[:80]!r}, expected a name without a folder"
            )
        path = self.folder / name
        try:
            if not path.is_file() or path.is_symlink():
                raise DataError(f"the model's constants lie in {path}, which is no file")
            mapped = (
                np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
            )
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from None
        self._files[name] = mapped
        return mapped
