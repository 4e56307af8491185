"""CSR and FKW: exact inverses, exact sizes, malformed input refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtmm.errors import ArtifactError, UnsupportedError
from dtmm.storage import (
    Csr,
    Fkw,
    StorageSize,
    decode,
    decode_csr,
    decode_fkw,
    encode_csr,
    encode_fkw,
    list_csr,
    weight_format,
)

Int8 = npt.NDArray[np.int8]
KERNELS = [(1, 1), (3, 3), (1, 7), (5, 5), (2, 4)]


def scattered(seed: int, filters: int, kernel: tuple[int, int], channels: int, kept: float) -> Int8:
    """Random int8 OHWI, single weights zero."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-128, 128, (filters, *kernel, channels), dtype=np.int8)
    weights[rng.random(weights.shape) >= kept] = 0
    return weights


def patterned(seed: int, filters: int, channels: int, patterns: int, kept: float) -> Int8:
    """Random int8 [filters, 3, 3, channels]: kernels of at most four weights, or of none."""
    rng = np.random.default_rng(seed)
    sets = rng.permuted(np.tile(np.arange(9) < 4, (patterns, 1)), axis=1)
    chosen = sets[rng.integers(0, patterns, (filters, channels))]
    chosen &= rng.random((filters, channels, 1)) < kept
    weights = rng.integers(-128, 128, chosen.shape, dtype=np.int8) * chosen
    return weights.transpose(0, 2, 1).reshape(filters, 3, 3, channels).astype(np.int8)


shares = st.sampled_from([0.0, 0.02, 0.3, 1.0])
seeds = st.integers(0, 2**31)
scattered_strategy = st.builds(
    scattered, seeds, st.integers(1, 9), st.sampled_from(KERNELS), st.integers(1, 130), shares
)
patterned_strategy = st.builds(
    patterned, seeds, st.integers(1, 9), st.integers(1, 40), st.integers(1, 8), shares
)


@given(scattered_strategy)
def test_csr_is_inverted_exactly(weights: Int8) -> None:
    form = weight_format("conv_csr")
    stored = form.encode(weights)
    assert isinstance(stored, Csr)
    assert np.array_equal(form.decode(stored), weights)
    filters, *kernel, channels = weights.shape
    assert stored.in_stride == form.in_stride((kernel[0], kernel[1]), channels)
    index = 2 * (filters + 9 * (stored.vectors + 1))
    assert stored.size == StorageSize(16 * stored.vectors, index, 12 * filters)
    assert (stored.weights.nbytes, stored.index.nbytes) == (16 * stored.vectors, index)
    # what planning takes it for, from the counts of as many whole filterlets
    filterlets = -(-np.count_nonzero(weights) // channels)
    most = form.size(int(filterlets), filters, (kernel[0], kernel[1]), channels)
    assert stored.size.weights <= most.weights
    assert stored.size.index <= most.index


@given(scattered_strategy, st.integers(0, 50), st.integers(1, 3))
def test_listed_csr_leads_to_the_same_weights(weights: Int8, gap: int, dilation: int) -> None:
    """Following the steps over an input of any row stride meets every weight once."""
    stored = encode_csr(weights, -(-weights.shape[3] // 16) * 16)
    row_stride = weights.shape[2] * stored.in_stride + 16 * gap
    listed = list_csr(stored, row_stride, dilation)
    entries = listed[len(weights) : -9].reshape(-1, 9)
    at = np.cumsum(entries[:, 0].astype(np.int16), dtype=np.int64)
    lanes = np.ascontiguousarray(entries[:, 1:]).view(np.uint8).astype(np.int64) + at[:, None]
    found = np.zeros((len(weights), dilation * weights.shape[1] * row_stride), np.int64)
    rows = np.repeat(np.arange(len(weights)), listed[: len(weights)])
    np.add.at(found, (rows[:, None], lanes), stored.weights.reshape(-1, 16))
    want = np.zeros_like(found)
    for ky, kx in np.ndindex(*weights.shape[1:3]):
        first = ky * dilation * row_stride + kx * stored.in_stride
        want[:, first : first + weights.shape[3]] = weights[:, ky, kx]
    assert np.array_equal(found, want)


@given(patterned_strategy)
def test_fkw_is_inverted_exactly(weights: Int8) -> None:
    form = weight_format("conv_fkw")
    stored = form.encode(weights)
    assert isinstance(stored, Fkw)
    assert np.array_equal(form.decode(stored), weights)
    filters, channels = len(weights), weights.shape[3]
    assert stored.in_stride == form.in_stride((3, 3), channels)
    kernels = int(weights.any(axis=(1, 2)).sum())
    index = 2 * (1 + 2 * stored.patterns + filters + kernels + 4)
    assert stored.size == StorageSize(4 * kernels, index, 12 * filters)
    assert (stored.weights.nbytes, stored.index.nbytes) == (4 * kernels, index)


def test_bytes_of_a_small_csr_layer() -> None:
    weights = np.zeros((2, 1, 2, 20), np.int8)
    weights[0, 0, 0, 19] = 5
    weights[0, 0, 1, 1] = -6
    stored = encode_csr(weights, 32)
    assert stored.index.tolist() == [1, 0, 19, 14 << 8, 0, 0, 0, 0, 0, 0, 0, *[0] * 9]
    assert stored.weights.tolist() == [5, -6, *[0] * 14]
    assert list_csr(stored, 640).tolist() == stored.index.tolist()


def test_bytes_of_a_small_fkw_layer() -> None:
    weights = np.zeros((2, 3, 3, 2), np.int8)
    weights[0, :2, :2, 1] = [[1, 2], [3, 4]]
    weights[1, 1, 1, 0] = 7  # fits into the other's pattern
    stored = encode_fkw(weights, 16)
    assert stored.index.tolist() == [1, 0 | 1 << 8, 3 | 4 << 8, 1, 1, 1, 0, 0, 0, 0, 0]
    assert stored.weights.tolist() == [1, 2, 3, 4, 0, 0, 0, 7]


def test_a_pattern_is_shared_by_the_kernels_that_fit_into_it() -> None:
    weights = patterned(3, 30, 20, 6, 0.5)
    weights[weights == 1] = 0
    stored = encode_fkw(weights, 32)
    assert stored.patterns == 6
    assert np.array_equal(decode(stored), weights)


def damaged(array: npt.NDArray[np.integer]) -> Iterator[npt.NDArray[np.integer]]:
    """Another length, and every element changed in several ways."""
    yield array[:-1]
    yield np.append(array, array[-1:])
    for at in range(array.size):
        for change in (1, 2, 16, 128, 255):
            copy = array.copy()
            copy[at] ^= np.array(change).astype(array.dtype)
            yield copy


@pytest.mark.parametrize("kind", ["csr", "fkw"])
def test_what_is_damaged_is_refused_or_is_another_layer(kind: str) -> None:
    """No damage to the index is taken silently: what decodes encodes to the same bytes again."""
    if kind == "csr":
        weights = scattered(1, 3, (2, 2), 20, 0.2)
        stored, decoder, encoder = encode_csr(weights, 32), decode_csr, encode_csr
    else:
        weights = patterned(1, 3, 5, 2, 0.5)
        stored, decoder, encoder = encode_fkw(weights, 16), decode_fkw, encode_fkw  # type: ignore[assignment]
    refused = 0
    for field in ("weights", "index"):
        for array in damaged(getattr(stored, field)):
            try:
                found = decoder(replace(stored, **{field: array}))  # type: ignore[arg-type]
            except ArtifactError:
                refused += 1
                continue
            again = encoder(found, stored.in_stride)
            same = np.array_equal(again.index, array if field == "index" else stored.index)
            assert same or kind == "fkw"  # whose kernels may lie in another pattern as well
            assert np.array_equal(decoder(again), found)  # type: ignore[arg-type]
    assert refused > 50


def test_what_a_format_cannot_hold_is_refused() -> None:
    full = np.ones((2, 3, 3, 4), np.int8)
    with pytest.raises(UnsupportedError, match="filter 0 has 9 weights for input channel 0"):
        encode_fkw(full, 16)
    with pytest.raises(UnsupportedError, match="FKW of a 5x5 kernel: expected 3x3"):
        encode_fkw(np.zeros((2, 5, 5, 4), np.int8), 16)
    with pytest.raises(UnsupportedError, match="need 126 patterns of 128 channels"):
        encode_fkw(every_pattern(), 128)
    with pytest.raises(UnsupportedError, match="73728 columns, expected at most 65536"):
        encode_csr(np.zeros((1, 3, 3, 8192), np.int8), 8192)
    with pytest.raises(UnsupportedError, match=r"a step of -?\d+ bytes"):
        list_csr(encode_csr(full, 16), 20000)


def every_pattern() -> Int8:
    """One filter with a kernel of each of the 126 sets of four positions."""
    sets = [bits for bits in range(512) if bits.bit_count() == 4]
    kernels = np.array([[bits >> p & 1 for p in range(9)] for bits in sets], np.int8)
    return np.ascontiguousarray(kernels.T).reshape(1, 3, 3, 126)
