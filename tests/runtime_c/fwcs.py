"""FWCS blobs through the C reader, and the C reader against the Python decoder."""

from __future__ import annotations

import ctypes
from collections import Counter

import numpy as np
import numpy.typing as npt

from dtmm.errors import ArtifactError
from dtmm.storage import Fwcs
from dtmm.storage.container import expanded_bytes, read_fwcs
from tests.runtime_c.library import BAD_ARGUMENT, OK, ConvParams, ConvWeights, Output, Tensor
from tests.storage.blobs import damaged, random_blob

_int32 = ctypes.c_int32
REBASE = 50
"""Damaged blobs made from one well-formed one."""


class FwcsLayer(ctypes.Structure):
    """dtmm_fwcs_layer."""

    _fields_ = (
        ("weights", ConvWeights),
        ("kernel_h", _int32),
        ("kernel_w", _int32),
        ("in_channels", _int32),
        ("filterlets", _int32),
        ("form", ctypes.c_int),
        ("blob", ctypes.c_void_p),
    )


class Memory:
    """Exactly `size` bytes from malloc, so that a sanitizer sees where they end. (numpy keeps small
    blocks, ctypes rounds up.)"""

    _libc = ctypes.CDLL(None)
    _libc.malloc.restype = ctypes.c_void_p
    _libc.malloc.argtypes = (ctypes.c_size_t,)
    _libc.free.argtypes = (ctypes.c_void_p,)

    def __init__(self, size: int, content: bytes = b"", offset: int = 0) -> None:
        self._block = self._libc.malloc(size + offset)
        self.address = ctypes.c_void_p(self._block + offset)
        ctypes.memmove(self.address, content, len(content))

    def __del__(self) -> None:
        self._libc.free(self._block)


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Sizes are size_t."""
    library.dtmm_fwcs_prepare_get_buffer_size.restype = ctypes.c_size_t
    return library


def open_blob(library: ctypes.CDLL, memory: Memory, size: int) -> tuple[int, FwcsLayer]:
    """Status and, if that is OK, the layer."""
    layer = FwcsLayer()
    return library.dtmm_fwcs_open(memory.address, ctypes.c_size_t(size), ctypes.byref(layer)), layer


def prepare(library: ctypes.CDLL, layer: FwcsLayer) -> Memory:
    """Expands into a buffer of the size that the library asks for; keep it while in use."""
    size = int(declare(library).dtmm_fwcs_prepare_get_buffer_size(ctypes.byref(layer)))
    buffer = Memory(size)
    status = library.dtmm_fwcs_prepare(ctypes.byref(layer), buffer.address, ctypes.c_size_t(size))
    assert status == OK
    return buffer


def arrays(layer: FwcsLayer) -> tuple[bytes, bytes, bytes]:
    """Every byte that a kernel may read: weights, index, parameters."""
    weights, positions = layer.weights, layer.kernel_h * layer.kernel_w
    return (
        ctypes.string_at(weights.weights, layer.filterlets * weights.in_stride),
        ctypes.string_at(weights.index, weights.out_channels * ((positions + 7) // 8)),
        ctypes.string_at(weights.params, weights.out_channels * 12),
    )


def assert_same(
    library: ctypes.CDLL, layer: FwcsLayer, fwcs: Fwcs, params: npt.NDArray[np.int32]
) -> None:
    """What C hands to a kernel is what Python decoded."""
    stored, aligned = layer.form == 0, layer.blob % 4 == 0
    buffer = prepare(library, layer)
    assert layer.weights.out_channels == fwcs.out_channels
    assert layer.weights.in_stride == fwcs.in_stride
    assert (layer.kernel_h, layer.kernel_w) == fwcs.kernel
    assert layer.in_channels == fwcs.in_channels
    assert layer.filterlets == fwcs.filterlets
    assert arrays(layer) == (fwcs.weights.tobytes(), fwcs.index.tobytes(), params.tobytes())
    size = int(library.dtmm_fwcs_prepare_get_buffer_size(ctypes.byref(layer)))
    in_place = fwcs.in_channels == fwcs.in_stride and not aligned
    assert size == (expanded_bytes(fwcs) + in_place * fwcs.weights.size if stored else 0)
    run_kernel(library, layer)
    del buffer


def run_kernel(library: ctypes.CDLL, layer: FwcsLayer) -> None:
    """One output pixel from an input of noise: for the sanitizers, whatever the result.

    The layer must be prepared. Every buffer ends where the kernel's last byte is.
    """
    weights, kernel = layer.weights, (layer.kernel_h, layer.kernel_w)
    row = kernel[1] * weights.in_stride
    data, result = Memory(kernel[0] * row), Memory(weights.out_channels)
    source = Tensor(data.address, *kernel, layer.in_channels, weights.in_stride, row, 0)
    channels = weights.out_channels
    target = Tensor(result.address, 1, 1, channels, channels, channels, 0)
    params = ConvParams(kernel, (1, 1), (1, 1), (0, 0), Output(100, -128, 127))
    arguments = [ctypes.byref(each) for each in (params, weights, source, target)]
    library.dtmm_conv_fwcs_s8_get_buffer_size.restype = ctypes.c_size_t
    size = int(library.dtmm_conv_fwcs_s8_get_buffer_size(*arguments))
    scratch = Memory(size)
    status = library.dtmm_conv_fwcs_s8(*arguments, scratch.address, ctypes.c_size_t(size))
    last_pixel = kernel[0] * row - weights.in_stride
    assert status == (OK if last_pixel < 1 << 18 else BAD_ARGUMENT), "conv.h: at most 256 KiB"


def check_damaged(library: ctypes.CDLL, cases: int, seed: int) -> Counter[str]:
    """Damages `cases` blobs: C and Python accept the same ones, and read the same from them.

    Returns how often each reason for a refusal was met, by the first two words of Python's
    message, and "accepted".
    """
    met: Counter[str] = Counter()
    rng = np.random.default_rng(seed)
    for case in range(cases):
        if case % REBASE == 0:
            good = random_blob(rng)
        blob = damaged(rng, good)
        memory = Memory(len(blob), blob)
        status, layer = open_blob(library, memory, len(blob))
        try:
            fwcs, params = read_fwcs(blob)
        except ArtifactError as error:
            assert status != OK, f"case {case}: C accepts what Python refuses: {error}"
            met[" ".join(str(error).split()[:2])] += 1
        else:
            assert status == OK, f"case {case}: Python accepts, C says {status}"
            assert_same(library, layer, fwcs, params)
            met["accepted"] += 1
    return met
