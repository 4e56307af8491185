"""Bytes of one convolution's pruned weights in each format that experiments.storage_overhead knows.

What a format adds to the kept weights is its overhead; 9 bytes of bias, multiplier and shift per
filter are needed whatever the format and are not part of it. Formats that do not say how they store
them are taken to need no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dtmm.latency.patterns import random_fkw
from dtmm.storage import FORMATS as ENCODERS
from dtmm.storage import Fwcs, decode_fkw, encode_fwcs, expanded_bytes, fwcs_blob_size
from dtmm.storage.container import STORED_PARAMETER_BYTES, Form
from dtmm.storage.fkw import TAPS
from dtmm.storage.stored import VECTOR_BYTES, round_up

Int8Array = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Bytes:
    """Flash of one layer.

    Attributes:
        weights: kept weights, and the zeros stored with them.
        index: which weights they are.
        header: what describes the layer as a whole.
        parameters: bias, multiplier and shift of each filter.
        expanded: SRAM, not flash, into which it is expanded at start-up.
    """

    weights: int
    index: int
    header: int
    parameters: int
    expanded: int = 0


def kept_weights(weights: Int8Array) -> int:
    """Weights of the filterlets of int8 [C_out, kh, kw, C_in] that are not all zero: bytes that any
    format of filterlets has to store."""
    return int(weights.any(axis=3).sum()) * int(weights.shape[3])


def fwcs_of(weights: Int8Array) -> Fwcs:
    """FWCS for an input whose pixels are padded to whole vectors."""
    return encode_fwcs(weights, round_up(weights.shape[3], VECTOR_BYTES))


def _fwcs(form: Form) -> Callable[[Int8Array], Bytes]:
    def size(weights: Int8Array) -> Bytes:
        fwcs = fwcs_of(weights)
        blob = fwcs_blob_size(fwcs, form)
        expanded = expanded_bytes(fwcs) if form == "stored" else 0
        return Bytes(blob.weights, blob.masks, blob.header, blob.parameters, expanded)

    return size


def _bare(weights: Int8Array, stored: int, index: int) -> Bytes:
    return Bytes(stored, index, 0, weights.shape[0] * STORED_PARAMETER_BYTES)


def _authors(weights: Int8Array) -> Bytes:
    kept = int(weights.any(axis=3).sum())
    return _bare(weights, kept * weights.shape[3], 2 * (kept + weights.shape[0]))


def _csr(weights: Int8Array) -> Bytes:
    kept = int(np.count_nonzero(weights))
    return _bare(weights, kept, 2 * (kept + weights.shape[0]))


def _csr_delta(weights: Int8Array) -> Bytes:
    """A column is the gap to the one before, 8 bits; a gap of more than 255 takes zeros between."""
    stored = 0
    for row in weights.reshape(weights.shape[0], -1):
        gaps = np.diff(np.flatnonzero(row), prepend=-1)
        stored += int(-(-gaps // 255).sum())
    return _bare(weights, stored, stored + 2 * weights.shape[0])


def _as_read(kernel: str) -> Callable[[Int8Array], Bytes]:
    """What the encoder of a rival's kernel writes."""

    def size(weights: Int8Array) -> Bytes:
        stored = ENCODERS[kernel].encode(weights).size
        return _bare(weights, stored.weights, stored.index)

    return size


def _dense(weights: Int8Array) -> Bytes:
    return _bare(weights, ENCODERS["conv_dense"].encode(weights).weights.nbytes, 0)


FORMATS: Mapping[str, Callable[[Int8Array], Bytes]] = {
    "fwcs_stored": _fwcs("stored"),
    "fwcs_prepared": _fwcs("prepared"),
    "authors": _authors,
    "csr": _csr,
    "csr_delta": _csr_delta,
    "csr_vectors": _as_read("conv_csr"),
    "fkw": _as_read("conv_fkw"),
    "dense": _dense,
}
LABELS = {
    "fwcs_stored": "FWCS, stored",
    "fwcs_prepared": "FWCS, prepared",
    "authors": "DTMM authors",
    "csr": "CSR, 16 bit",
    "csr_delta": "CSR, 8-bit gaps",
    "csr_vectors": "CSR, vectors",
    "fkw": "PatDNN (FKW)",
    "dense": "dense",
}


def scattered(weights: Int8Array) -> Int8Array:
    """As many weights, at positions drawn from all: what CSR is for."""
    random = np.random.default_rng([*weights.shape, np.count_nonzero(weights)])
    shuffled: Int8Array = random.permutation(weights.reshape(-1)).reshape(weights.shape)
    return shuffled


def patterned(weights: Int8Array) -> Int8Array | None:
    """As many weights (a multiple of four) in 3x3 kernels drawn from all, each of one of eight
    patterns: what FKW is for. None where that cannot be."""
    filters, height, width, channels = weights.shape
    kernels = round(np.count_nonzero(weights) / TAPS)
    if (height, width) != (3, 3) or kernels > filters * channels:
        return None
    return decode_fkw(random_fkw(filters, channels, kernels, kernels))


PRUNED_ALIKE: Mapping[str, Callable[[Int8Array], Int8Array | None]] = {
    "csr_vectors": scattered,
    "fkw": patterned,
}
"""Formats made for other kinds of pruning, and how as many weights are pruned so."""


def row(weights: Int8Array, name: str) -> dict[str, int | float | str]:
    """The columns of a layer in one format: sizes, and the overhead in bytes and in bits for each
    of the layer's C_out * kh * kw filterlet positions."""
    size, kept = FORMATS[name](weights), kept_weights(weights)
    if name in PRUNED_ALIKE:
        kept = int(np.count_nonzero(weights))
    filters, height, width, channels = weights.shape
    needed = kept + filters * STORED_PARAMETER_BYTES
    overhead = size.weights + size.index + size.header + size.parameters - needed
    return {
        "out_channels": filters,
        "kh": height,
        "kw": width,
        "in_channels": channels,
        "filterlets_kept": kept // channels,
        "format": name,
        "kept_bytes": kept,
        "weight_bytes": size.weights,
        "index_bytes": size.index,
        "header_bytes": size.header,
        "parameter_bytes": size.parameters,
        "expanded_bytes": size.expanded,
        "overhead_bytes": overhead,
        "bits_per_position": round(8 * overhead / (filters * height * width), 4),
    }
