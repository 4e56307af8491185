"""Storage formats: exact inverses, sizes from counts, malformed input refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtmm.errors import ArtifactError, UnsupportedError
from dtmm.storage import (
    FORMATS,
    Fwcs,
    decode_dense,
    decode_fwcs,
    encode_dense,
    encode_fwcs,
    folded_bias,
    pack_channel_params,
    weight_format,
)

KERNELS = [(1, 1), (3, 3), (1, 7), (5, 5), (2, 4)]


def pruned_weights(
    seed: int, out_channels: int, kernel: tuple[int, int], in_channels: int, kept: float
) -> npt.NDArray[np.int8]:
    """Random int8 OHWI weights in which about 1 - kept of the filterlets are zero."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-127, 128, (out_channels, *kernel, in_channels), dtype=np.int8)
    weights[rng.random((out_channels, *kernel)) >= kept] = 0
    return weights


weights_strategy = st.builds(
    pruned_weights,
    st.integers(0, 2**31),
    st.integers(1, 9),
    st.sampled_from(KERNELS),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)


@given(weights_strategy)
def test_decode_is_the_inverse_of_encode(weights: npt.NDArray[np.int8]) -> None:
    window = weights[0].size
    for kernel_id, form in FORMATS.items():
        if (kernel_id == "conv_im2col" and window > 256) or kernel_id in ("conv_csr", "conv_fkw"):
            continue  # test_rivals.py has the last two
        stored = form.encode(weights)
        assert np.array_equal(form.decode(stored), weights)
        kept = int(weights.any(axis=3).sum())
        shape = (weights.shape[0], weights.shape[1:3], weights.shape[3])
        assert stored.size == form.size(kept, *shape)
        assert stored.in_stride == form.in_stride(*shape[1:])
        assert stored.size.weights == stored.weights.size
        assert stored.size.index == stored.index.size


def test_bytes_of_a_small_layer() -> None:
    """The format byte by byte, as docs/fwcs.md states it."""
    weights = np.zeros((2, 3, 3, 2), np.int8)
    weights[0, 0, 0] = [1, 2]
    weights[0, 2, 2] = [0, -3]
    weights[1, 1, 0] = [4, 0]
    stored = encode_fwcs(weights, 16)
    assert stored.index.tolist() == [0b00000001, 0b1, 0b00001000, 0b0]
    rows = stored.weights.reshape(3, 16)
    assert rows[:, :2].tolist() == [[1, 2], [0, -3], [4, 0]]
    assert not rows[:, 2:].any()
    assert stored.size.total == 48 + 4 + 24


def test_a_filterlet_is_pruned_only_if_all_zero() -> None:
    weights = np.zeros((1, 1, 2, 3), np.int8)
    weights[0, 0, 1, 2] = -128
    assert encode_fwcs(weights, 16).filterlets == 1


@pytest.mark.parametrize(
    ("weights", "stride"),
    [
        (np.zeros((2, 3, 3), np.int8), 16),
        (np.zeros((2, 3, 3, 4), np.int16), 16),
        (np.zeros((2, 3, 3, 17), np.int8), 16),
        (np.zeros((2, 3, 3, 4), np.int8), 20),
        (np.zeros((0, 3, 3, 4), np.int8), 16),
    ],
)
def test_bad_weights_are_refused(weights: npt.NDArray[np.int8], stride: int) -> None:
    for encode in (encode_fwcs, encode_dense):
        with pytest.raises(UnsupportedError):
            encode(weights, stride)


def test_parts_that_do_not_belong_together_are_refused() -> None:
    stored = encode_fwcs(pruned_weights(1, 4, (3, 3), 8, 0.5), 16)

    def broken(**changes: object) -> Fwcs:
        return replace(stored, **changes)  # type: ignore[arg-type]

    spare_bit = stored.index.copy()
    spare_bit[1] |= 0x80
    for bad in (
        broken(weights=stored.weights[:-16]),
        broken(index=stored.index[:-1]),
        broken(index=spare_bit),
    ):
        with pytest.raises(ArtifactError):
            decode_fwcs(bad)
    dense = encode_dense(pruned_weights(1, 4, (3, 3), 8, 0.5), 16)
    with pytest.raises(ArtifactError):
        decode_dense(replace(dense, weights=dense.weights[1:]))


def test_a_window_too_large_for_im2col_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"270, expected at most 256"):
        weight_format("conv_im2col").size(0, 8, (3, 3), 30)
    with pytest.raises(UnsupportedError, match="conv_magic"):
        weight_format("conv_magic")


def test_folded_bias_gives_the_same_sums() -> None:
    rng = np.random.default_rng(3)
    weights = pruned_weights(3, 6, (3, 3), 5, 0.7)
    bias = rng.integers(-1000, 1000, 6)
    x = rng.integers(-128, 128, (3, 3, 5))
    zero_point = -37
    want = bias + ((x - zero_point) * weights.astype(np.int64)).sum(axis=(1, 2, 3))
    products = x * weights.astype(np.int64)
    got = folded_bias(weights, bias, zero_point) + products.sum(axis=(1, 2, 3))
    assert np.array_equal(got, want)
    with pytest.raises(UnsupportedError):
        folded_bias(weights, np.full(6, 2**31 - 1), 100)


def test_channel_params_are_packed_in_the_order_of_the_c_struct() -> None:
    packed = pack_channel_params(np.array([1, -2]), np.array([3, 2**31 - 1]), np.array([-5, 6]))
    assert packed.dtype == np.int32
    assert packed.tolist() == [[1, 3, -5], [-2, 2**31 - 1, 6]]
    with pytest.raises(UnsupportedError):
        pack_channel_params(np.array([1]), np.array([3]), np.array([-32]))
    with pytest.raises(UnsupportedError):
        pack_channel_params(np.array([1]), np.array([3, 4]), np.array([-3]))


def test_import_leaves_torch_out() -> None:
    code = "import sys, dtmm.storage; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
