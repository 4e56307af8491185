"""FWCS v1 blobs: the bytes of the specification, exact sizes, round trips, refusals in one line."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtmm.errors import ArtifactError, UnsupportedError
from dtmm.storage import encode_fwcs
from dtmm.storage.container import (
    FORMS,
    Form,
    expanded_bytes,
    fwcs_blob_size,
    read_fwcs,
    seal_fwcs,
    write_fwcs,
)
from tests.storage.blobs import (
    HEADER_BYTES,
    HEADER_FIELDS,
    crafted,
    damaged,
    random_blob,
    random_layer,
)

SPECIFICATION = Path(__file__).parents[2] / "docs" / "fwcs.md"

CRAFTED = crafted()

seeds = st.integers(0, 2**32 - 1)
forms = st.sampled_from(FORMS)


@given(seeds, forms)
def test_read_is_the_inverse_of_write(seed: int, form: Form) -> None:
    fwcs, params = random_layer(np.random.default_rng(seed))
    got, got_params = read_fwcs(write_fwcs(fwcs, params, form))
    np.testing.assert_array_equal(got.weights, fwcs.weights)
    np.testing.assert_array_equal(got.index, fwcs.index)
    np.testing.assert_array_equal(got_params, params)
    fields = ("out_channels", "kernel", "in_channels", "in_stride")
    assert [getattr(got, f) for f in fields] == [getattr(fwcs, f) for f in fields]


@given(seeds, forms)
def test_sizes_are_exact(seed: int, form: Form) -> None:
    fwcs, params = random_layer(np.random.default_rng(seed))
    size = fwcs_blob_size(fwcs, form)
    assert len(write_fwcs(fwcs, params, form)) == size.total
    kept, filters, positions = fwcs.filterlets, fwcs.out_channels, fwcs.kernel[0] * fwcs.kernel[1]
    if form == "stored":
        assert size.weights == kept * fwcs.in_channels
        assert size.parameters == 9 * filters
        assert 8 * size.masks < filters * positions + 8
    else:
        assert size.weights == kept * fwcs.in_stride
        assert size.parameters == 12 * filters
        assert size.masks == filters * ((positions + 7) // 8)


def test_the_example_of_the_specification() -> None:
    weights = np.zeros((2, 3, 3, 2), np.int8)
    weights[0, 0, 0], weights[0, 2, 2], weights[1, 1, 0] = (1, 2), (3, 4), (5, -6)
    params = np.array([[7, 1 << 30, -5], [-8, 1 << 30, 6]], np.int32)
    fwcs = encode_fwcs(weights, 16)

    def blob(flags: int, body: bytes) -> bytes:
        checked = struct.pack("<IBBBBHHHH", 24 + len(body), 1, flags, 3, 3, 2, 2, 16, 2) + body
        return b"FWCS" + struct.pack("<I", zlib.crc32(checked)) + checked

    stored = bytes([1, 2, 3, 4, 5, 250]) + struct.pack("<4i2b", 7, -8, 1 << 30, 1 << 30, -5, 6)
    masks = 1 << 0 | 1 << 8 | 1 << 9 + 3
    assert write_fwcs(fwcs, params, "stored") == blob(0, stored + masks.to_bytes(3, "little"))
    [printed] = re.findall(r"```\n(46 57 43 53 .*?)```", SPECIFICATION.read_text(), re.DOTALL)
    assert bytes.fromhex(printed) == write_fwcs(fwcs, params, "stored")
    padded = b"".join(bytes(pair) + bytes(14) for pair in ([1, 2], [3, 4], [5, 250]))
    prepared = padded + params.astype("<i4").tobytes() + bytes([1, 1, 8, 0])
    assert write_fwcs(fwcs, params, "prepared") == blob(1, prepared)


def test_masks_of_a_pointwise_layer_take_a_bit_per_filter() -> None:
    weights = np.ones((64, 1, 1, 32), np.int8)
    assert fwcs_blob_size(encode_fwcs(weights, 32), "stored").masks == 8
    assert fwcs_blob_size(encode_fwcs(weights, 32), "prepared").masks == 64


@pytest.mark.parametrize(("channels", "in_place"), [(32, True), (31, False)])
def test_only_padded_filterlets_need_memory(channels: int, in_place: bool) -> None:
    fwcs = encode_fwcs(np.ones((4, 3, 3, channels), np.int8), 32)
    assert expanded_bytes(fwcs) == 4 * 12 + 4 * 2 + (0 if in_place else 36 * 32)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("magic", 1, "FWCS blob of .* that begins with"),
        ("crc", 1, "FWCS CRC 0x00000001: expected 0x"),
        ("size", 1, "FWCS size 1: expected"),
        ("version", 2, "FWCS version 2: expected 1"),
        ("flags", 2, "FWCS flags 0x02: expected bits 1..7 to be 0"),
        ("kernel_h", 0, "FWCS shape .*: expected none of them 0"),
        ("out_channels", 0, "FWCS shape .*: expected none of them 0"),
        ("out_channels", 65535, "FWCS blob of .* bytes: expected .* and whole filterlets"),
        ("in_stride", 8, "FWCS in_stride 8 for C_in .*: expected a multiple of 16"),
        ("in_stride", 0, "FWCS in_stride 0 for C_in .*: expected a multiple of 16"),
        ("channel_block", 16, "FWCS channel block 16: expected C_in"),
    ],
)
def test_a_wrong_header_field_is_named(form: Form, field: str, value: int, message: str) -> None:
    fwcs = encode_fwcs(np.ones((3, 3, 3, 20), np.int8), 32)
    params = np.array([[1, 1 << 30, -3]] * 3, np.int32)
    blob = bytearray(write_fwcs(fwcs, params, form))
    offset, code = HEADER_FIELDS[field]
    struct.pack_into(f"<{code}", blob, offset, value)
    changed = bytes(blob) if field == "crc" else seal_fwcs(bytes(blob))
    if field == "magic":
        changed = bytes(blob)
    with pytest.raises(ArtifactError, match=message) as caught:
        read_fwcs(changed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("form", "offset", "value", "message"),
    [
        ("stored", -1, 0xFF, "a bit beyond the 9 kernel positions is set"),
        ("prepared", -1, 0x03, "a bit beyond the 9 kernel positions is set"),
        ("stored", -2, 0, "FWCS masks keep 19 filterlets: expected 27"),
        ("prepared", -2, 0, "FWCS masks keep 19 filterlets: expected 27"),
        ("prepared", 24 + 31, 1, "a byte beyond C_in 20 is not 0"),
        ("prepared", 24 + 27 * 32 + 7, 0x80, "FWCS multipliers from -"),
        ("stored", -4 - 1, 31, "shifts -3..31"),
        ("stored", -4 - 1, 0xE0, "shifts -32..-3"),
    ],
)
def test_wrong_sections_are_named(form: Form, offset: int, value: int, message: str) -> None:
    fwcs = encode_fwcs(np.ones((3, 3, 3, 20), np.int8), 32)
    params = np.array([[1, 1 << 30, -3]] * 3, np.int32)
    blob = bytearray(write_fwcs(fwcs, params, form))
    blob[offset] = value
    with pytest.raises(ArtifactError, match=message):
        read_fwcs(seal_fwcs(bytes(blob)))


def test_no_other_error_than_ours_on_damage() -> None:
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(1000):
        try:
            read_fwcs(damaged(rng, random_blob(rng)))
        except ArtifactError:
            refused += 1
    assert 500 < refused < 1000


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_blobs(name: str) -> None:
    blob, fits = CRAFTED[name]
    if fits:
        fwcs, params = read_fwcs(blob)
        form: Form = "prepared" if name.startswith("prepared") else "stored"
        assert write_fwcs(fwcs, params, form) == blob
    else:
        with pytest.raises(ArtifactError):
            read_fwcs(blob)


@pytest.mark.parametrize("size", [0, 3, HEADER_BYTES - 1])
def test_less_than_a_header(size: int) -> None:
    blob = random_blob(np.random.default_rng(1))[:size]
    with pytest.raises(ArtifactError, match="expected at least 24"):
        read_fwcs(blob)


def test_a_small_blob_cannot_ask_for_much_memory() -> None:
    """33,000 one-byte filterlets that say they want 65,520 bytes each."""
    params = np.tile(np.array([[0, 1 << 30, 0]], np.int32), (33000, 1))
    blob = bytearray(write_fwcs(encode_fwcs(np.ones((33000, 1, 1, 1), np.int8), 16), params))
    struct.pack_into("<H", blob, HEADER_FIELDS["in_stride"][0], 65520)
    with pytest.raises(ArtifactError, match="bytes in prepared form: expected at most"):
        read_fwcs(seal_fwcs(bytes(blob)))


def test_writer_refuses_what_it_cannot_hold() -> None:
    fwcs = encode_fwcs(np.ones((3, 3, 3, 20), np.int8), 32)
    params = np.array([[1, 1 << 30, -3]] * 3, np.int32)
    with pytest.raises(UnsupportedError, match="form 'small': expected one of stored, prepared"):
        write_fwcs(fwcs, params, "small")  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match=r"kernel width 300: expected 1\.\.255"):
        write_fwcs(encode_fwcs(np.ones((1, 1, 300, 2), np.int8), 16), params[:1])
    with pytest.raises(ArtifactError, match="parameters"):
        write_fwcs(fwcs, params[:2])
    with pytest.raises(ArtifactError, match="index of 5"):
        write_fwcs(replace(fwcs, index=fwcs.index[:5]), params)
    with pytest.raises(ArtifactError, match="masks keep 27 filterlets: expected 26"):
        write_fwcs(replace(fwcs, weights=fwcs.weights[:-32]), params)
    with pytest.raises(ArtifactError, match="beyond C_in 20"):
        write_fwcs(replace(fwcs, weights=np.ones_like(fwcs.weights)), params)
    wrong = params.copy()
    wrong[1, 2] = 300
    for form in FORMS:
        with pytest.raises(ArtifactError, match="expected multipliers >= 0 and shifts"):
            write_fwcs(fwcs, wrong, form)
