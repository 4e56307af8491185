"""Executions of every translation block per counted region, from the QEMU plug-in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtmm.device.qemu_plugin import plugin_argument, read_regions, region_markers
from dtmm.errors import MeasurementError


@dataclass(frozen=True)
class RegionCounts:
    """What ran between one dtmm_region_begin and its dtmm_region_end.

    Five arrays with one entry per executed translation block, int64: address of the first
    instruction `pc` and the address behind the last `end`, `instructions` in the block,
    `executions`, and `taken`, the executions after which control did not fall through to `end`.
    id is the argument of dtmm_region_begin.
    """

    id: int
    pc: NDArray[np.int64]
    end: NDArray[np.int64]
    instructions: NDArray[np.int64]
    executions: NDArray[np.int64]
    taken: NDArray[np.int64]

    @property
    def total_instructions(self) -> int:
        """Instructions executed in the region."""
        return int(self.instructions @ self.executions)


def counting_plugin(elf: Path, out: Path) -> str:
    """The value of QEMU's -plugin option that counts the regions of `elf` into the file `out`.

    Raises ToolchainError when QEMU takes no plug-ins or the firmware has no region markers.
    """
    return plugin_argument("block_counts", {"out": [out], **region_markers(elf)})


def read_counts(text: str, ids: Iterable[int]) -> tuple[RegionCounts, ...]:
    """Reads the plug-in's file. `ids` are the region ids that the firmware reported, in order.

    Raises MeasurementError when the file is cut short, malformed, or holds another number of
    regions than the firmware reported.
    """
    return tuple(_region(number, rows[1:]) for number, rows in read_regions(text, ids))


def _region(number: int, rows: Sequence[Sequence[str]]) -> RegionCounts:
    try:
        parsed = [(int(a, 16), int(b, 16), int(c), int(d), int(e)) for a, b, c, d, e in rows]
    except ValueError as error:
        raise MeasurementError(f"block counts of region {number} are malformed: {error}") from error
    # by address, so that equal runs give equal arrays whatever the order of translation
    table = np.array(sorted(parsed), dtype=np.int64).reshape(-1, 5)
    return RegionCounts(number, *(np.ascontiguousarray(column) for column in table.T))
