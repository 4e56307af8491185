"""Steady-state cycles of straight-line blocks by llvm-mca's Cortex-M55 model, kept on disk."""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing

from dtmm.device.cache import cache_dir
from dtmm.device.toolchain import require_tool, run_tool
from dtmm.errors import ToolchainError

Block = tuple[str, ...]

_TRIPLE, _CPU = "thumbv8.1m.main-none-eabi", "cortex-m55"
_ITERATIONS = (20, 60)
_BATCH = 40
_log = logging.getLogger(__name__)


def block_cycles(blocks: Iterable[Block]) -> dict[Block, float]:
    """Cycles that one more execution of each block takes when it runs in a loop.

    That is (cycles of 60 iterations - cycles of 20) / 40, so that filling and draining the
    pipeline does not count. A block that llvm-mca cannot read costs 1 cycle per instruction, with
    a logged warning. Raises ToolchainError when llvm-mca is missing.
    """
    wanted = sorted(set(blocks))
    version = str(require_tool("llvm-mca").version)
    known = _load(version, wanted)
    missing = [block for block in wanted if block not in known]
    made: dict[Block, float] = {}
    for start in range(0, len(missing), _BATCH):
        made.update(_simulate(missing[start : start + _BATCH]))
    _store(version, made)
    unread = [block for block in missing if block not in made]
    if unread:
        _log.warning(
            "llvm-mca cannot read %d blocks (1 cycle per instruction), the first: %s",
            len(unread),
            "; ".join(unread[0]),
        )
    return {**known, **made, **{block: float(len(block)) for block in unread}}


def _simulate(blocks: Sequence[Block]) -> dict[Block, float]:
    """The prices of the blocks that llvm-mca can read."""
    totals = [_total_cycles(blocks, iterations) for iterations in _ITERATIONS]
    if all(len(total) == len(blocks) for total in totals):
        more = _ITERATIONS[1] - _ITERATIONS[0]
        pairs = zip(*totals, strict=True)
        return {b: (high - low) / more for b, (low, high) in zip(blocks, pairs, strict=True)}
    if len(blocks) == 1:
        return {}
    # one block that cannot be read must not spoil its batch
    return {block: price for each in blocks for block, price in _simulate([each]).items()}


def _total_cycles(blocks: Sequence[Block], iterations: int) -> list[int]:
    source = "".join(
        "\n".join((f"@ LLVM-MCA-BEGIN r{i}", *block, f"@ LLVM-MCA-END r{i}", ""))
        for i, block in enumerate(blocks)
    )
    options = [f"-mtriple={_TRIPLE}", f"-mcpu={_CPU}", f"-iterations={iterations}"]
    views = ["-instruction-info=0", "-resource-pressure=0", "-summary-view"]
    try:
        text = run_tool("llvm-mca", [*options, *views, "-"], stdin=source)
    except ToolchainError as error:
        _log.debug("%s", error)
        return []
    return [int(cycles) for cycles in re.findall(r"Total Cycles:\s+(\d+)", text)]


def _load(version: str, blocks: Sequence[Block]) -> dict[Block, float]:
    found: dict[Block, float] = {}
    try:
        with closing(_database(version)) as database:
            for block in blocks:
                query = "SELECT cycles FROM price WHERE block = ?"
                row = database.execute(query, ["\n".join(block)]).fetchone()
                if row is not None:
                    found[block] = float(row[0])
    except sqlite3.Error as error:
        _log.warning("block prices cannot be read from the cache: %s", error)
    return found


def _store(version: str, prices: Mapping[Block, float]) -> None:
    if not prices:
        return
    rows = [("\n".join(block), cycles) for block, cycles in prices.items()]
    try:
        with closing(_database(version)) as database, database:
            database.executemany("INSERT OR REPLACE INTO price VALUES (?, ?)", rows)
    except sqlite3.Error as error:
        _log.warning("block prices cannot be kept in the cache: %s", error)


def _database(version: str) -> sqlite3.Connection:
    """One file per LLVM version; SQLite makes concurrent writers wait for each other."""
    path = cache_dir() / f"llvm-mca-{version}-{_CPU}.sqlite"
    database = sqlite3.connect(path, timeout=60)
    database.execute("CREATE TABLE IF NOT EXISTS price (block TEXT PRIMARY KEY, cycles REAL)")
    return database
