"""FWCS v1: one layer's pruned weights and parameters as a self-describing blob (docs/fwcs.md).

The C reader is dtmm_fwcs_open() (include/dtmm/fwcs.h); both accept and refuse the same blobs.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from dtmm.errors import ArtifactError, UnsupportedError
from dtmm.storage.fwcs import Fwcs
from dtmm.storage.stored import PARAMETER_BYTES, VECTOR_BYTES, Int32Array

Form = Literal["stored", "prepared"]
"""The smallest form, to be expanded before use; or what dtmm_conv_fwcs_s8 reads in place."""

FORMS: tuple[Form, ...] = get_args(Form)
MAGIC = b"FWCS"
VERSION = 1
STORED_PARAMETER_BYTES = 9
"""Folded bias and multiplier, int32 each, and shift, int8."""

_HEADER = struct.Struct("<4sIIBBBBHHHH")
_CHECKSUMMED_FROM = 8
_PREPARED_FLAG = 1
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class FwcsSize:
    """Bytes of each section of a blob."""

    header: int
    weights: int
    parameters: int
    masks: int

    @property
    def total(self) -> int:
        """Of the blob."""
        return self.header + self.weights + self.parameters + self.masks


@dataclass(frozen=True)
class _Header:
    """A header's fields, as they lie."""

    magic: bytes
    crc: int
    size: int
    version: int
    flags: int
    kernel_h: int
    kernel_w: int
    out_channels: int
    in_channels: int
    in_stride: int
    channel_block: int

    @property
    def form(self) -> Form:
        return "prepared" if self.flags & _PREPARED_FLAG else "stored"

    @property
    def positions(self) -> int:
        return self.kernel_h * self.kernel_w

    def sizes(self, form: Form, filterlets: int) -> FwcsSize:
        return _size(form, filterlets, self.out_channels, self.positions, self.stride(form))

    def stride(self, form: Form) -> int:
        """Bytes between two filterlets."""
        return self.in_stride if form == "prepared" else self.in_channels


def _size(form: Form, filterlets: int, filters: int, positions: int, stride: int) -> FwcsSize:
    prepared = form == "prepared"
    return FwcsSize(
        header=_HEADER.size,
        weights=filterlets * stride,
        parameters=filters * (PARAMETER_BYTES if prepared else STORED_PARAMETER_BYTES),
        masks=filters * -(-positions // 8) if prepared else -(-filters * positions // 8),
    )


def fwcs_blob_size(fwcs: Fwcs, form: Form) -> FwcsSize:
    """What `write_fwcs` will write, by section, in bytes.

    Raises UnsupportedError on an unknown form.
    """
    _check_form(form)
    stride = fwcs.in_stride if form == "prepared" else fwcs.in_channels
    positions = fwcs.kernel[0] * fwcs.kernel[1]
    return _size(form, fwcs.filterlets, fwcs.out_channels, positions, stride)


def expanded_bytes(fwcs: Fwcs) -> int:
    """Memory that dtmm_fwcs_prepare() fills from an aligned blob in stored form, in bytes.

    Filterlets that need no padding are read where they are, from flash.
    """
    size = fwcs_blob_size(fwcs, "prepared")
    weights = 0 if fwcs.in_channels == fwcs.in_stride else size.weights
    return weights + size.parameters + size.masks


def write_fwcs(fwcs: Fwcs, params: Int32Array, form: Form = "stored") -> bytes:
    """A layer as an FWCS v1 blob.

    Args:
        fwcs: what encode_fwcs made.
        params: int32 [C_out, 3], what pack_channel_params made.
        form: "stored" is smaller, "prepared" runs in place; `fwcs_blob_size` tells their bytes.

    Raises:
        UnsupportedError: an unknown form, or a shape or size that the header cannot hold.
        ArtifactError: parts of `fwcs` or `params` that do not belong together.
    """
    _check_form(form)
    _check_limits(fwcs)
    _check_parts(fwcs, params)
    prepared = form == "prepared"
    stride = fwcs.in_stride if prepared else fwcs.in_channels
    weights = fwcs.weights.reshape(-1, fwcs.in_stride)[:, :stride]
    body = weights.tobytes() + _write_params(params, form) + _write_masks(fwcs, form)
    flags = _PREPARED_FLAG if prepared else 0
    header = _HEADER.pack(
        MAGIC,
        0,
        _HEADER.size + len(body),
        VERSION,
        flags,
        *fwcs.kernel,
        fwcs.out_channels,
        fwcs.in_channels,
        fwcs.in_stride,
        fwcs.in_channels,  # the channel block
    )
    blob = seal_fwcs(header + body)
    read_fwcs(blob)  # refuses parameters out of range and masks that do not fit the weights
    return blob


def read_fwcs(blob: bytes) -> tuple[Fwcs, Int32Array]:
    """The weights and int32 [C_out, 3] parameters of a blob of either form.

    Raises ArtifactError on anything that `dtmm_fwcs_open` refuses.
    """
    header = _read_header(blob)
    form = header.form
    bare = header.sizes(form, 0)
    filterlets, rest = divmod(len(blob) - bare.total, header.stride(form))
    if len(blob) < bare.total or rest:
        raise ArtifactError(
            f"FWCS blob of {len(blob)} bytes: expected {bare.total} and whole filterlets of "
            f"{header.stride(form)}"
        )
    size = header.sizes(form, filterlets)
    ends = np.cumsum([size.header, size.weights, size.parameters])
    sections = np.split(np.frombuffer(blob, np.uint8), ends)
    kept = _read_masks(sections[3], header, filterlets)
    params = _read_params(sections[2], header)
    _check_prepared_size(header.sizes("prepared", filterlets))
    weights = np.zeros((filterlets, header.in_stride), np.int8)
    weights[:, : header.stride(form)] = (
        sections[1].view(np.int8).reshape(filterlets, header.stride(form))
    )
    if form == "prepared" and weights[:, header.in_channels :].any():
        raise ArtifactError(
            f"FWCS weights: a byte beyond C_in {header.in_channels} is not 0 "
            f"in a filterlet of {header.in_stride}"
        )
    fwcs = Fwcs(
        weights=weights.reshape(-1),
        index=np.packbits(kept, axis=1, bitorder="little").reshape(-1),
        out_channels=header.out_channels,
        kernel=(header.kernel_h, header.kernel_w),
        in_channels=header.in_channels,
        in_stride=header.in_stride,
    )
    return fwcs, params


def seal_fwcs(blob: bytes) -> bytes:
    """`blob` with the CRC that belongs to its bytes (for tools that edit a blob)."""
    crc = zlib.crc32(blob[_CHECKSUMMED_FROM:])
    return blob[:4] + crc.to_bytes(4, "little") + blob[_CHECKSUMMED_FROM:]


def _check_form(form: str) -> None:
    if form not in FORMS:
        raise UnsupportedError(f"FWCS form {form!r}: expected one of {', '.join(FORMS)}")


def _check_limits(fwcs: Fwcs) -> None:
    fields = {
        "kernel height": (fwcs.kernel[0], 255),
        "kernel width": (fwcs.kernel[1], 255),
        "C_out": (fwcs.out_channels, 65535),
        "C_in": (fwcs.in_channels, 65535),
        "in_stride": (fwcs.in_stride, 65535),
    }
    for name, (value, largest) in fields.items():
        if not 0 < value <= largest:
            raise UnsupportedError(f"FWCS {name} {value}: expected 1..{largest}")
    if fwcs_blob_size(fwcs, "prepared").total > _LARGEST:
        raise UnsupportedError(
            f"FWCS layer of {fwcs.filterlets} filterlets of {fwcs.in_stride} bytes: "
            f"expected less than 2 GiB in prepared form"
        )


def _check_parts(fwcs: Fwcs, params: Int32Array) -> None:
    """What would be lost in writing or would break it; the rest `read_fwcs` finds."""
    masks = fwcs_blob_size(fwcs, "prepared").masks
    if fwcs.index.size != masks or fwcs.weights.size % fwcs.in_stride:
        raise ArtifactError(
            f"FWCS index of {fwcs.index.size} and weights of {fwcs.weights.size} bytes: expected "
            f"{masks} and a multiple of {fwcs.in_stride}"
        )
    if fwcs.weights.reshape(-1, fwcs.in_stride)[:, fwcs.in_channels :].any():
        raise ArtifactError(
            f"FWCS weights: a byte beyond C_in {fwcs.in_channels} is not 0 "
            f"in a filterlet of {fwcs.in_stride}"
        )
    if params.shape != (fwcs.out_channels, 3) or params.dtype != np.int32:
        raise ArtifactError(
            f"parameters {params.shape} {params.dtype}: expected int32 [{fwcs.out_channels}, 3]"
        )


def _check_prepared_size(size: FwcsSize) -> None:
    if size.total > _LARGEST:
        raise ArtifactError(
            f"FWCS blob of {size.total} bytes in prepared form: expected at most {_LARGEST}"
        )


def _read_header(blob: bytes) -> _Header:
    if len(blob) < _HEADER.size or blob[:4] != MAGIC:
        raise ArtifactError(
            f"FWCS blob of {len(blob)} bytes that begins with {blob[:4]!r}: "
            f"expected at least {_HEADER.size} that begin with {MAGIC!r}"
        )
    header = _Header(*_HEADER.unpack_from(blob))
    crc = zlib.crc32(blob[_CHECKSUMMED_FROM:])
    nothing = 0 in (header.kernel_h, header.kernel_w, header.out_channels, header.in_channels)
    stride_fits = header.in_stride % VECTOR_BYTES == 0 and header.in_stride >= header.in_channels
    for is_wrong, found, expected in (
        (header.version != VERSION, f"version {header.version}", f"{VERSION}"),
        (header.size != len(blob), f"size {header.size}", f"{len(blob)}, what there is"),
        (header.size > _LARGEST, f"size {header.size}", f"at most {_LARGEST}"),
        (header.crc != crc, f"CRC {header.crc:#010x}", f"{crc:#010x}"),
        (header.flags > 1, f"flags {header.flags:#04x}", "bits 1..7 to be 0"),
        (
            nothing,
            f"shape {header.out_channels, header.kernel_h, header.kernel_w, header.in_channels}",
            "none of them 0",
        ),
        (
            not stride_fits,
            f"in_stride {header.in_stride} for C_in {header.in_channels}",
            f"a multiple of {VECTOR_BYTES} that is not smaller",
        ),
        (
            header.channel_block != header.in_channels,
            f"channel block {header.channel_block}",
            f"C_in {header.in_channels}, all that version 1 supports",
        ),
    ):
        if is_wrong:
            raise ArtifactError(f"FWCS {found}: expected {expected}")
    return header


def _write_params(params: Int32Array, form: Form) -> bytes:
    little = params.astype("<i4")
    if form == "prepared":
        return little.tobytes()
    shifts = np.clip(params[:, 2], -128, 127)  # beyond the valid range the reader refuses it anyway
    return little[:, :2].T.tobytes() + shifts.astype(np.int8).tobytes()


def _read_params(section: npt.NDArray[np.uint8], header: _Header) -> Int32Array:
    filters = header.out_channels
    if header.form == "prepared":
        params = section.view("<i4").reshape(filters, 3).astype(np.int32)
    else:
        words = section[: 8 * filters].copy().view("<i4").reshape(2, filters)
        params = np.stack([*words, section[8 * filters :].view(np.int8)], axis=1, dtype=np.int32)
    multipliers, shifts = params[:, 1], params[:, 2]
    if multipliers.min() < 0 or shifts.min() < -31 or shifts.max() > 30:
        raise ArtifactError(
            f"FWCS multipliers from {multipliers.min()}, shifts {shifts.min()}..{shifts.max()}: "
            "expected multipliers >= 0 and shifts within -31..30"
        )
    return params


def _write_masks(fwcs: Fwcs, form: Form) -> bytes:
    if form == "prepared":
        return fwcs.index.tobytes()
    positions = fwcs.kernel[0] * fwcs.kernel[1]
    masks = fwcs.index.reshape(fwcs.out_channels, -1)
    bits = np.unpackbits(masks, axis=1, count=positions, bitorder="little")
    return np.packbits(bits.reshape(-1), bitorder="little").tobytes()


def _read_masks(
    section: npt.NDArray[np.uint8], header: _Header, filterlets: int
) -> npt.NDArray[np.uint8]:
    """uint8 [C_out, kh*kw] of 0 and 1."""
    shape = (header.out_channels, header.positions)
    rows = header.out_channels if header.form == "prepared" else 1
    bits = np.unpackbits(section.reshape(rows, -1), axis=1, bitorder="little")
    used = shape[0] * shape[1] // rows
    kept, beyond = bits[:, :used].reshape(shape), bits[:, used:]
    if beyond.any():
        raise ArtifactError(f"FWCS masks: a bit beyond the {shape[1]} kernel positions is set")
    if kept.sum() != filterlets:
        raise ArtifactError(
            f"FWCS masks keep {kept.sum()} filterlets: expected {filterlets}, as many as are stored"
        )
    return kept
