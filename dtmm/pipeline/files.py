"""Names of the files in a run folder and how stages read and write them."""

from __future__ import annotations

from typing import TypeVar

from dtmm import artifact
from dtmm.pipeline.engine import Context

T = TypeVar("T")


def save(context: Context, name: str, noun: object) -> None:
    """Write `noun` to `name` in the run folder, atomically."""
    artifact.save(noun, context.folder.file(name))


def load(context: Context, name: str, cls: type[T]) -> T:
    """Read the `cls` that an earlier stage wrote to `name`."""
    return artifact.load(context.folder.file(name), cls)
