"""Damaged .tflite files: read or refused in one line, never slow, never with much memory."""

from __future__ import annotations

import resource
import struct
import time
from collections.abc import Callable

import numpy as np
import pytest

from dtmm.errors import DtmmError
from dtmm.quantization.tflite_reader import read_tflite
from tests.quantization.test_tflite_reader import MODEL


def damaged(rng: np.random.Generator) -> bytes:
    """A model with bytes, offsets or lengths replaced, or cut short."""
    content = bytearray(MODEL)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(content)))
        how = rng.integers(4)
        if how == 0:
            content[at] = int(rng.integers(256))
        elif how == 1:  # an offset or a length
            at = at // 4 * 4
            values = (0, 1, 4, -4, 0x7FFFFFFF, -0x80000000, -1, len(content), 0x10000)
            content[at : at + 4] = struct.pack("<i", int(rng.choice(values)))
        elif how == 2:  # an entry of a vtable
            at = at // 2 * 2
            content[at : at + 2] = struct.pack("<H", int(rng.choice((0, 4, 8, 0x7FFF, 0xFFFF))))
        else:
            content = content[: max(at, 8)]
    return bytes(content)


def peak_memory() -> int:
    """The most bytes that this process ever had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def check_damaged(seeds: range) -> dict[str, int]:
    """Read, or refused in one line; never anything else, never slow, never with much memory."""
    refused, before = 0, peak_memory()
    for seed in seeds:
        content = damaged(np.random.default_rng(seed))
        start = time.process_time()  # a busy machine is no slow reader
        try:
            network = read_tflite(content, "damaged")
        except DtmmError as error:
            assert "\n" not in str(error), seed
            refused += 1
        else:
            assert network.ops or network.outputs, seed
        assert time.process_time() - start < 1, seed
        assert peak_memory() - before < 1 << 30, seed
    assert refused > len(seeds) // 10
    return {"files": len(seeds), "refused": refused}


def test_damaged_files_are_refused() -> None:
    check_damaged(range(3000))


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_many_more_damaged_files_are_refused(
    record_property: Callable[[str, object], None],
) -> None:
    counts = check_damaged(range(3000, 1_003_000))
    record_property("damaged .tflite files, each in 1 s and 1 GiB", counts)
