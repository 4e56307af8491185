"""A data cache in front of the simulated core: what a region reads, writes and misses.

m55-v2 is m55-v1 plus a cost for each line that a read missed: the scenario of a chip whose data
lie in SRAM and flash behind a cache. DESIGN section 8: eight layers measured on silicon fit with
about 47 cycles per 32-byte line, in a cache of 32 KiB and 4 ways. Eight points do not settle the
geometry: 16 KiB and 36 cycles fit as well. Instruction fetches and write-backs are not modelled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from dtmm.device.memory import REGIONS
from dtmm.device.qemu_plugin import plugin_argument, read_regions, region_markers
from dtmm.errors import MeasurementError

REPLACEMENTS = ("random", "lru")
_BYPASSES = 8


@dataclass(frozen=True)
class DataCache:
    """A write-back, write-allocating data cache.

    It is empty when a region begins, so that a region's misses depend on the region alone.

    Attributes:
        bytes, ways, line_bytes: geometry; bytes is a multiple of ways * line_bytes.
        uncached: names of memories (`dtmm.device.memory.REGIONS`) that the core reaches without it.
            By default the DTCM, where the stack lies; weights count as if they lay in flash,
            wherever the firmware has them.
        replacement: of REPLACEMENTS: a random line of the set (from a fixed seed), or the one not
            used for longest.

    Raises MeasurementError on a geometry that makes no sets, an unknown memory or replacement.
    """

    bytes: int = 32 * 1024
    ways: int = 4
    line_bytes: int = 32
    uncached: tuple[str, ...] = ("DTCM",)
    replacement: str = "random"

    def __post_init__(self) -> None:
        sizes = (self.bytes, self.ways, self.line_bytes)
        if min(sizes) < 1 or self.bytes % (self.ways * self.line_bytes):
            raise MeasurementError(
                f"data cache of {self.bytes} bytes, {self.ways} ways, {self.line_bytes}-byte "
                "lines: expected whole sets"
            )
        unknown = [name for name in self.uncached if name not in REGIONS]
        if unknown or len(self.uncached) > _BYPASSES:
            raise MeasurementError(
                f"uncached memories {', '.join(self.uncached)}: expected some of "
                f"{', '.join(REGIONS)}"
            )
        if self.replacement not in REPLACEMENTS:
            raise MeasurementError(
                f"cache replacement {self.replacement!r}: expected {' or '.join(REPLACEMENTS)}"
            )

    @property
    def sets(self) -> int:
        """Number of sets."""
        return self.bytes // (self.ways * self.line_bytes)


@dataclass(frozen=True)
class CacheCounts:
    """What one region did to the data cache: accesses of lines, lines missed, and bytes.

    bytes_read and bytes_written are those that loads and stores name, a byte as often as it is
    accessed; memories without the cache (the stack's) count nowhere.
    """

    id: int
    reads: int
    writes: int
    read_misses: int
    write_misses: int
    bytes_read: int = 0
    bytes_written: int = 0


def cache_plugin(elf: Path, cache: DataCache, out: Path, trace: Path | None = None) -> str:
    """The value of QEMU's -plugin option that simulates `cache`, counts into the file `out`.

    Args:
        trace: a file that gets every access that the cache serves (see the plug-in's head). It
            grows by some 15 bytes per access.

    Raises ToolchainError when QEMU takes no plug-ins or the firmware has no region markers.
    """
    bypass = [f"{at:x}:{at + size:x}" for at, size in (REGIONS[name] for name in cache.uncached)]
    geometry = {"sets": [cache.sets], "ways": [cache.ways], "line": [cache.line_bytes]}
    how = {
        "lru": [str(int(cache.replacement == "lru"))],
        "trace": [] if trace is None else [str(trace)],
    }
    where = {"out": [str(out)], **region_markers(elf)}
    return plugin_argument("cache_misses", {**where, **geometry, **how, "bypass": bypass})


def read_cache_counts(text: str, ids: Iterable[int]) -> tuple[CacheCounts, ...]:
    """Reads the plug-in's file; `ids` as in `dtmm.device.block_counts.read_counts`.

    Raises MeasurementError when the file is cut short or malformed.
    """
    names = [field.name for field in fields(CacheCounts) if field.name != "id"]
    try:
        return tuple(
            CacheCounts(number, **dict(zip(names, map(int, rows[0]), strict=True)))
            for number, rows in read_regions(text, ids)
        )
    except ValueError as error:
        raise MeasurementError(f"cache counts are malformed: {error}") from error


@dataclass(frozen=True)
class CachedMemory:
    """What waiting for missed lines adds to zero-wait cycles. The defaults are those of m55-v2.

    cycles_per_missed_line: of reads; a write that misses does not stop the core, for its line is
    fetched behind a store buffer. Raises MeasurementError where m55-v2 is given other values.
    """

    name: str = "m55-v2"
    cache: DataCache = DataCache()
    cycles_per_missed_line: float = 46.9

    def __post_init__(self) -> None:
        values = (self.cache, self.cycles_per_missed_line)
        if self.name == "m55-v2" and values != (DataCache(), 46.9):
            raise MeasurementError(
                f"memory model m55-v2 is frozen: cache, cycles_per_missed_line = {values} need "
                "another name"
            )

    def cycles(self, zero_wait: float, counts: CacheCounts) -> float:
        """Cycles of a region that takes `zero_wait` cycles in zero-wait memory."""
        return zero_wait + self.cycles_per_missed_line * counts.read_misses
