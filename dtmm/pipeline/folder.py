"""A run folder: what each stage wrote, and whether it still follows from what it was made of.

A stage is up to date when the key it was made under (its configuration, the contents of its inputs)
is the key it would be made under now, and its outputs are on disk unchanged. That is all there is
to resuming: a stopped run goes on at the first stage that is not up to date, and a changed setting
reruns just the stages that depend on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dtmm.artifact import write_atomic
from dtmm.errors import ArtifactError


@dataclass(frozen=True)
class StageRecord:
    """What is remembered of a finished stage: its key, its outputs' digests, its wall time in s."""

    key: str
    outputs: Mapping[str, str]
    seconds: float


class RunFolder:
    """The files of one run. Not safe for two processes at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._index = path / "stages.json"

    def file(self, name: str) -> Path:
        """Path of a file or sub-folder of this run."""
        return self.path / name

    def records(self) -> dict[str, StageRecord]:
        """What every finished stage left behind, in the order of first finishing."""
        return {stage: StageRecord(**entry) for stage, entry in self._read_index().items()}

    def is_current(self, stage: str, key: str) -> bool:
        """Whether `stage` finished under `key` and its outputs are still what it wrote."""
        record = self.records().get(stage)
        if record is None or record.key != key:
            return False
        return all(
            self.file(name).exists() and digest(self.file(name)) == value
            for name, value in record.outputs.items()
        )

    def finish(self, stage: str, key: str, outputs: Iterable[str], seconds: float) -> None:
        """Remember that `stage` wrote `outputs` under `key`."""
        index = self._read_index()
        digests = {name: digest(self.file(name)) for name in outputs}
        index[stage] = {"key": key, "outputs": digests, "seconds": seconds}
        write_atomic(self._index, json.dumps(index, indent=1) + "\n")

    def _read_index(self) -> dict[str, Any]:
        if not self._index.exists():
            return {}
        try:
            index = json.loads(self._index.read_text())
        except ValueError as error:
            raise ArtifactError(
                f"{self._index}: not valid JSON ({error}); delete it to start the run anew"
            ) from None
        if not isinstance(index, dict):
            raise ArtifactError(f"{self._index}: expected a JSON object; delete it to start anew")
        return index


def digest(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder (names and contents)."""
    sha = hashlib.sha256()
    if path.is_dir():
        for child in sorted(p for p in path.rglob("*") if p.is_file()):
            sha.update(str(child.relative_to(path)).encode() + b"\0")
            sha.update(child.read_bytes())
    else:
        sha.update(path.read_bytes())
    return sha.hexdigest()


def key_of(parts: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON-able description."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
