"""Which filterlets, weights or kernels a measured layer keeps, at random."""

from __future__ import annotations

import zlib
from functools import lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt

from dtmm.errors import MeasurementError
from dtmm.storage import Csr, Fkw, encode_csr, encode_fkw
from dtmm.storage.fkw import POSITIONS, TAPS
from dtmm.storage.formats import USUAL_PATTERNS
from dtmm.storage.kernel_ids import CONV_CSR, CONV_FKW
from dtmm.storage.stored import VECTOR_BYTES, Kernel, round_up

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


def random_csr(out_channels: int, kernel: Kernel, in_channels: int, weights: int, seed: int) -> Csr:
    """CSR of so many weights of 1, at positions drawn uniformly from all."""
    shape = (out_channels, *kernel, in_channels)
    rng = _generator(CONV_CSR, *shape, weights, seed)
    kept = np.zeros(shape, np.int8)
    kept.flat[rng.choice(kept.size, weights, replace=False)] = 1
    return encode_csr(kept, round_up(in_channels, VECTOR_BYTES))


def random_fkw(out_channels: int, in_channels: int, kernels: int, seed: int) -> Fkw:
    """FKW of so many 3x3 kernels of ones, drawn uniformly, each of one of eight patterns.

    As PatDNN's, a pattern is the centre and three others; which, is drawn as well.

    Raises MeasurementError where there are not so many kernels.
    """
    if kernels > out_channels * in_channels:
        raise MeasurementError(
            f"{CONV_FKW} of {kernels} kernels: {out_channels} filters of {in_channels} channels "
            f"have {out_channels * in_channels}, of {TAPS} weights each"
        )
    rng = _generator(CONV_FKW, out_channels, in_channels, kernels, seed)
    centre = POSITIONS // 2
    around = [p for p in range(POSITIONS) if p != centre]
    triples = np.array(list(combinations(around, TAPS - 1)))
    patterns = np.zeros((USUAL_PATTERNS, POSITIONS), np.int8)
    patterns[:, centre] = 1
    chosen = triples[rng.choice(len(triples), USUAL_PATTERNS, replace=False)]
    np.put_along_axis(patterns, chosen, 1, axis=1)
    weights = np.zeros((out_channels * in_channels, POSITIONS), np.int8)
    kept = rng.choice(len(weights), kernels, replace=False)
    weights[kept] = patterns[rng.integers(0, USUAL_PATTERNS, kernels)]
    cube = weights.reshape(out_channels, in_channels, POSITIONS).transpose(0, 2, 1)
    ohwi = np.ascontiguousarray(cube).reshape(out_channels, 3, 3, in_channels)
    return encode_fkw(ohwi, round_up(in_channels, VECTOR_BYTES))


def _generator(kernel: str, *counts: int) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(kernel.encode() + np.array(counts, "<i8").tobytes()))
