"""Which filterlets a measured layer keeps, at random."""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Kept = npt.NDArray[np.bool_]

DESCRIPTION = "uniform, one filterlet per filter kept"


def random_pattern(out_channels: int, positions: int, filterlets: int, seed: int) -> Kept:
    """bool [out_channels, positions] with exactly `filterlets` True.

    At least one in each filter as long as they suffice, as the scheduler selects; the others
    uniformly. It depends on the arguments alone, so that layers of other input channels keep the
    same filterlets.
    """
    return np.array(_pattern(out_channels, positions, filterlets, seed))


@lru_cache(maxsize=4096)
def _pattern(out_channels: int, positions: int, filterlets: int, seed: int) -> Kept:
    counts = np.array([out_channels, positions, filterlets, seed], "<i8")
    rng = np.random.default_rng(zlib.crc32(counts.tobytes()))
    kept = np.zeros((out_channels, positions), np.bool_)
    firsts = rng.integers(0, positions, out_channels)
    kept[np.arange(out_channels), firsts] = np.arange(out_channels) < filterlets
    free = np.flatnonzero(~kept)
    kept.flat[rng.choice(free, filterlets - int(kept.sum()), replace=False)] = True
    return kept
