"""The FWCS container: Python's writer against the C reader, and both against damaged blobs."""

from __future__ import annotations

import ctypes
import itertools
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtmm.device import build_elf, build_host_library, run_firmware
from dtmm.errors import ArtifactError
from dtmm.runtime_c import include_dir, sources
from dtmm.storage.container import FORMS, Form, read_fwcs, seal_fwcs, write_fwcs
from tests.runtime_c.fwcs import Memory, assert_same, open_blob, prepare
from tests.runtime_c.fwcs_conv import c_cases, conv_case, extreme_case, run_here
from tests.runtime_c.library import BAD_ARGUMENT, NO_SPACE, OK, UNSUPPORTED
from tests.runtime_c.test_sanitized import sanitized
from tests.storage.blobs import HEADER_FIELDS, crafted, random_blob, random_layer

BAD_BLOB = -3
CRAFTED = crafted()

FUZZ = """
import json, sys
from pathlib import Path
from tests.runtime_c.fwcs import check_damaged
from tests.runtime_c.library import load
print(json.dumps(check_damaged(load(Path(sys.argv[1])), int(sys.argv[2]), 11)))
"""

REASONS = {  # every check of the reader, by the first two words of its message
    "FWCS blob",  # magic, or sections that do not add up
    "FWCS version",
    "FWCS size",
    "FWCS CRC",
    "FWCS flags",
    "FWCS shape",
    "FWCS in_stride",
    "FWCS channel",
    "FWCS masks:",
    "FWCS masks",
    "FWCS multipliers",
    "FWCS weights:",
    "accepted",
}


def is_readable(blob: bytes) -> bool:
    """Whether Python accepts it."""
    try:
        read_fwcs(blob)
    except ArtifactError:
        return False
    return True


@given(st.integers(0, 2**32 - 1), st.sampled_from(FORMS), st.integers(0, 7))
def test_c_reads_what_python_writes(
    library: ctypes.CDLL, seed: int, form: Form, offset: int
) -> None:
    fwcs, params = random_layer(np.random.default_rng(seed))
    blob = write_fwcs(fwcs, params, form)
    memory = Memory(len(blob), blob, offset)
    status, layer = open_blob(library, memory, len(blob))
    if form == "prepared" and offset % 4:
        assert status == BAD_ARGUMENT
        return
    assert status == OK
    assert_same(library, layer, fwcs, params)


@given(st.integers(0, 2**32 - 1), st.sampled_from(FORMS))
def test_convolution_of_an_opened_blob(library: ctypes.CDLL, seed: int, form: Form) -> None:
    rng = np.random.default_rng(seed)
    case = conv_case(rng)
    np.testing.assert_array_equal(run_here(library, case, form, rng), case.want)


@pytest.mark.parametrize("target", ["m55", "m55-scalar"])
def test_on_the_device(toolchain: None, library: ctypes.CDLL, tmp_path: Path, target: str) -> None:
    rng = np.random.default_rng(8)
    cases = [(conv_case(rng), form) for _ in range(10) for form in FORMS]
    cases += [(extreme_case(library, rng), "prepared") for _ in range(10)]
    (tmp_path / "cases.h").write_text(c_cases(cases))
    elf = build_elf(
        model_sources=[],
        runtime_sources=sources(),
        harness_sources=[Path(__file__).with_name("fwcs_device.c")],
        out_elf=tmp_path / "firmware.elf",
        include_dirs=[include_dir(), tmp_path],
        target=target,
    )
    run = run_firmware(elf.path, count_regions=False, timeout_s=120)
    assert [line.numbers() for line in run.all("STATUS")] == [(OK,)] * len(cases)
    for (case, _), line in zip(cases, run.all("RESULT"), strict=True):
        got = np.frombuffer(bytes.fromhex(line.values[1]), np.int8)
        np.testing.assert_array_equal(got, case.want.reshape(-1))


@pytest.mark.timeout(3600)
def test_damaged_blobs(tmp_path: Path, full: bool) -> None:
    library = build_host_library(
        sources=sources(),
        out_so=tmp_path / "libdtmm.so",
        include_dirs=[include_dir()],
        sanitize=["address", "undefined"],
    )
    cases = 1_000_000 if full else 5_000
    run = sanitized(FUZZ, str(library), str(cases))
    assert run.returncode == 0, run.stderr[-3000:]
    met = json.loads(run.stdout)
    assert sum(met.values()) == cases
    assert met.keys() == REASONS
    assert min(met.values()) >= cases / 1000, f"a check is hardly reached: {met}"


def test_the_checksum_is_zlibs(library: ctypes.CDLL) -> None:
    library.dtmm_crc32.restype = ctypes.c_uint32
    for content in (b"", b"123456789", bytes(range(256)) * 3):
        crc = library.dtmm_crc32(content, ctypes.c_size_t(len(content)))
        assert crc == zlib.crc32(content)
    assert zlib.crc32(b"123456789") == 0xCBF43926  # the catalogue's check value


def test_any_single_flipped_bit_is_refused(library: ctypes.CDLL) -> None:
    blob = random_blob(np.random.default_rng(4))
    for bit in range(8 * len(blob)):
        changed = bytearray(blob)
        changed[bit // 8] ^= 1 << bit % 8
        status, _ = open_blob(library, Memory(len(blob), bytes(changed)), len(blob))
        assert status in (BAD_BLOB, UNSUPPORTED), f"bit {bit}"


def test_any_value_of_any_header_byte(library: ctypes.CDLL) -> None:
    """With the CRC made right: C and Python agree on all 2 x 20 x 256 of them."""
    rng = np.random.default_rng(9)
    fwcs, params = random_layer(rng)
    for form in FORMS:
        blob = write_fwcs(fwcs, params, form)
        for at, value in itertools.product([*range(4), *range(8, 24)], range(256)):
            changed = seal_fwcs(blob[:at] + bytes([value]) + blob[at + 1 :])
            status, _ = open_blob(library, Memory(len(blob), changed), len(blob))
            assert (status == OK) == is_readable(changed), f"byte {at} is {value}"


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_blobs(library: ctypes.CDLL, name: str) -> None:
    blob, fits = CRAFTED[name]
    status, _ = open_blob(library, Memory(len(blob), blob), len(blob))
    assert (status == OK) == fits


def test_any_truncation_is_refused(library: ctypes.CDLL) -> None:
    blob = random_blob(np.random.default_rng(5))
    for size in range(len(blob)):
        status, _ = open_blob(library, Memory(size, blob[:size]), size)
        assert status == BAD_BLOB, f"{size} bytes"


@pytest.mark.parametrize("field", ["version", "channel_block"])
def test_what_a_later_version_may_hold_is_named_unsupported(
    library: ctypes.CDLL, field: str
) -> None:
    blob = bytearray(random_blob(np.random.default_rng(6)))
    blob[HEADER_FIELDS[field][0]] += 1
    status, _ = open_blob(library, Memory(len(blob), seal_fwcs(bytes(blob))), len(blob))
    assert status == UNSUPPORTED


def test_arguments(library: ctypes.CDLL) -> None:
    fwcs, params = random_layer(np.random.default_rng(7))
    blob = write_fwcs(fwcs, params, "stored")
    memory = Memory(len(blob), blob)
    status, layer = open_blob(library, memory, len(blob))
    assert status == OK
    assert layer.weights.weights is None, "the kernels refuse a blob that is not prepared"
    reference = ctypes.byref(layer)
    size = ctypes.c_size_t(len(blob))
    assert library.dtmm_fwcs_open(None, size, reference) == BAD_ARGUMENT
    assert library.dtmm_fwcs_open(memory.address, size, None) == BAD_ARGUMENT
    library.dtmm_fwcs_prepare_get_buffer_size.restype = ctypes.c_size_t
    need = int(library.dtmm_fwcs_prepare_get_buffer_size(reference))
    buffer = Memory(need + 8)
    short, enough = ctypes.c_size_t(need - 1), ctypes.c_size_t(need)
    odd = ctypes.c_void_p(buffer.address.value + 1)
    assert library.dtmm_fwcs_prepare(reference, buffer.address, short) == NO_SPACE
    assert library.dtmm_fwcs_prepare(reference, None, enough) == BAD_ARGUMENT
    assert library.dtmm_fwcs_prepare(reference, odd, enough) == BAD_ARGUMENT
    assert library.dtmm_fwcs_prepare(None, buffer.address, enough) == BAD_ARGUMENT
    assert layer.weights.weights is None
    prepare(library, layer)
