"""Weight formats by kernel id, behind one interface for planning and deployment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from dtmm.errors import UnsupportedError
from dtmm.storage.csr import Csr, csr_size, decode_csr, encode_csr
from dtmm.storage.dense import (
    Dense,
    decode_dense,
    dense_size,
    encode_dense,
    encode_grouped,
    encode_im2col,
    im2col_size,
    im2col_stride,
)
from dtmm.storage.fkw import TAPS, Fkw, decode_fkw, encode_fkw, fkw_size
from dtmm.storage.fwcs import Fwcs, decode_fwcs, encode_fwcs, fwcs_size
from dtmm.storage.kernel_ids import family, is_listed
from dtmm.storage.scratch import run_entries
from dtmm.storage.stored import VECTOR_BYTES, Int8Array, Kernel, StorageSize, round_up

Stored = Dense | Fwcs | Csr | Fkw

USUAL_PATTERNS = 8
"""Patterns of a layer whose weights are not known yet: as many as PatDNN takes."""


@dataclass(frozen=True)
class WeightFormat:
    """How one convolution kernel keeps its weights in flash.

    Attributes:
        encode: int8 [C_out, kh, kw, C_in] to what the kernel reads.
        decode: the exact inverse.
        size: (filterlets, out_channels, kernel, in_channels) to flash bytes, from counts alone;
            dense formats ignore `filterlets`. For CSR and FKW they stand for as many weights,
            filterlets * in_channels: CSR needs this at most, wherever they are, and FKW this if
            every kernel kept has four.
        in_stride: (kernel, in_channels) to dtmm_conv_weights.in_stride, bytes.
    """

    encode: Callable[[Int8Array], Stored]
    decode: Callable[[Stored], Int8Array]
    size: Callable[[int, int, Kernel, int], StorageSize]
    in_stride: Callable[[Kernel, int], int]


def _pixel_stride(kernel: Kernel, in_channels: int) -> int:
    return round_up(in_channels, VECTOR_BYTES)


def decode(stored: Stored) -> Int8Array:
    """The dense int8 [C_out, kh, kw, C_in] of any stored weights.

    Raises ArtifactError where their parts do not belong together.
    """
    if isinstance(stored, Csr):
        return decode_csr(stored)
    if isinstance(stored, Fkw):
        return decode_fkw(stored)
    return decode_fwcs(stored) if isinstance(stored, Fwcs) else decode_dense(stored)


_DENSE = WeightFormat(
    encode=lambda w: encode_dense(w, round_up(w.shape[-1], VECTOR_BYTES)),
    decode=decode,
    size=lambda kept, c_out, kernel, c_in: dense_size(c_out, kernel, _pixel_stride(kernel, c_in)),
    in_stride=_pixel_stride,
)

FORMATS: Mapping[str, WeightFormat] = {
    "conv_dense": _DENSE,
    "conv_pointwise": _DENSE,
    "conv_fwcs": WeightFormat(
        encode=lambda w: encode_fwcs(w, round_up(w.shape[-1], VECTOR_BYTES)),
        decode=decode,
        size=lambda kept, c_out, kernel, c_in: fwcs_size(
            kept, c_out, kernel, _pixel_stride(kernel, c_in)
        ),
        in_stride=_pixel_stride,
    ),
    "conv_csr": WeightFormat(
        encode=lambda w: encode_csr(w, round_up(w.shape[-1], VECTOR_BYTES)),
        decode=decode,
        size=lambda kept, c_out, kernel, c_in: csr_size(
            kept * c_in, c_out, kernel, _pixel_stride(kernel, c_in)
        ),
        in_stride=_pixel_stride,
    ),
    "conv_fkw": WeightFormat(
        encode=lambda w: encode_fkw(w, round_up(w.shape[-1], VECTOR_BYTES)),
        decode=decode,
        size=lambda kept, c_out, kernel, c_in: fkw_size(
            -(-kept * c_in // TAPS), c_out, USUAL_PATTERNS
        ),
        in_stride=_pixel_stride,
    ),
    "conv_grouped": WeightFormat(  # in_channels are those of one group
        encode=encode_grouped,
        decode=decode,
        size=lambda kept, c_out, kernel, c_in: dense_size(c_out, kernel, c_in),
        in_stride=lambda kernel, c_in: c_in,
    ),
    "conv_im2col": WeightFormat(
        encode=encode_im2col,
        decode=decode,
        size=lambda kept, c_out, kernel, c_in: im2col_size(c_out, kernel, c_in),
        in_stride=im2col_stride,
    ),
}


def weight_format(kernel_id: str) -> WeightFormat:
    """The format of a convolution kernel. Raises UnsupportedError on an unknown kernel id."""
    if family(kernel_id) not in FORMATS:
        raise UnsupportedError(
            f"no weight format for kernel {kernel_id!r}: expected one of {', '.join(FORMATS)}"
        )
    stored = FORMATS[family(kernel_id)]
    return _listed(kernel_id, stored) if is_listed(kernel_id) else stored


def _listed(kernel_id: str, fwcs: WeightFormat) -> WeightFormat:
    """FWCS whose index is replaced by the list of its runs (an upper bound, known from counts)."""

    def size(kept: int, c_out: int, kernel: Kernel, c_in: int) -> StorageSize:
        entries = run_entries(kernel_id, kept, c_out, kernel)
        return replace(fwcs.size(kept, c_out, kernel, c_in), index=2 * entries)

    return replace(fwcs, size=size)
