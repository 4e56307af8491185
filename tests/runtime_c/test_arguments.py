"""Arguments that do not fit together give a status and leave the output untouched."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest

from dtmm.storage import FORMATS
from tests.runtime_c.library import (
    BAD_ARGUMENT,
    NO_SPACE,
    OK,
    ConvParams,
    ConvWeights,
    Layout,
    MeanParams,
    Output,
    PoolParams,
    View,
    address,
    aligned,
)


@dataclass
class Call:
    """A valid 3x3 convolution of a 4x4x16 image, to be spoilt."""

    library: ctypes.CDLL
    kernel_id: str
    c_in: int = 16
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))

    def __post_init__(self) -> None:
        stored = FORMATS[self.kernel_id].encode(np.ones((2, 3, 3, self.c_in), np.int8))
        self.memory: list[npt.NDArray[np.generic]] = [
            stored.weights.copy(),
            stored.index.copy(),
            np.zeros((2, 3), np.int32),
        ]
        flash, index, packed = self.memory
        self.source = View(self.rng, (4, 4, self.c_in), Layout(halo=1))
        self.target = View(self.rng, (4, 4, 2), Layout(halo=1))
        self.inputs, self.outputs = self.source.tensor(), self.target.tensor()
        self.params = ConvParams((3, 3), (1, 1), (1, 1), (1, 1), Output(0, -128, 127))
        self.weights = ConvWeights(
            2, stored.in_stride, address(flash), address(index), address(packed)
        )
        self.scratch = aligned(4096)
        self.scratch_at = self.scratch.ctypes.data
        arguments = self._arguments()
        name = f"dtmm_{self.kernel_id}_s8_get_buffer_size"
        self.size = int(getattr(self.library, name)(*arguments))

    def _arguments(self) -> list[object]:
        structs = (self.params, self.weights, self.inputs, self.outputs)
        return [ctypes.byref(s) for s in structs]

    def run(self) -> int:
        before = self.target.buffer.copy()
        call = getattr(self.library, f"dtmm_{self.kernel_id}_s8")
        status = int(
            call(*self._arguments(), ctypes.c_void_p(self.scratch_at), ctypes.c_size_t(self.size))
        )
        if status != OK:
            np.testing.assert_array_equal(self.target.buffer, before)
        return status


@pytest.mark.parametrize("kernel_id", ["conv_dense", "conv_fwcs", "conv_im2col"])
class TestConvolution:
    def make(self, library: ctypes.CDLL, kernel_id: str) -> Call:
        return Call(library, kernel_id, 3 if kernel_id == "conv_im2col" else 16)

    def test_valid(self, library: ctypes.CDLL, kernel_id: str) -> None:
        assert self.make(library, kernel_id).run() == OK

    def test_scratch_too_small(self, library: ctypes.CDLL, kernel_id: str) -> None:
        call = self.make(library, kernel_id)
        call.size = 10  # what FWCS needs is known from the pattern alone, its size is a bound
        assert call.run() == NO_SPACE

    @pytest.mark.parametrize(
        ("struct", "name", "value"),
        [
            ("params", "pad", (2, 1)),
            ("params", "pad", (-1, 0)),
            ("params", "stride", (2, 2)),
            ("params", "stride", (0, 1)),
            ("params", "dilation", (2, 1)),
            ("params", "kernel", (3, 4)),
            ("params", "output", Output(128, -128, 127)),
            ("params", "output", Output(0, 1, 0)),
            ("params", "output", Output(0, -129, 127)),
            ("weights", "out_channels", 3),
            ("weights", "in_stride", 48),
            ("weights", "weights", None),
            ("weights", "params", None),
            ("inputs", "data", None),
            ("inputs", "height", 0),
            ("inputs", "halo", -1),
            ("inputs", "row_stride", 10),
            ("outputs", "pixel_stride", 1),
            ("outputs", "width", 7),
        ],
    )
    def test_bad_argument(
        self, library: ctypes.CDLL, kernel_id: str, struct: str, name: str, value: object
    ) -> None:
        call = self.make(library, kernel_id)
        setattr(getattr(call, struct), name, value)
        if name == "stride" and value == (2, 2):
            call.outputs.height = call.outputs.width = 4  # would need pixels beyond the halo
        assert call.run() == BAD_ARGUMENT


@pytest.mark.parametrize("kernel_id", ["conv_dense", "conv_fwcs"])
def test_vector_kernels_refuse_unaligned_memory(library: ctypes.CDLL, kernel_id: str) -> None:
    for struct in ("inputs", "weights"):
        call = Call(library, kernel_id)
        name = "data" if struct == "inputs" else "weights"
        target = getattr(call, struct)
        setattr(target, name, getattr(target, name) + 2)
        assert call.run() == BAD_ARGUMENT
    call = Call(library, kernel_id)
    call.scratch_at += 2
    assert call.run() == BAD_ARGUMENT
    call = Call(library, kernel_id)
    call.inputs.row_stride += 2
    assert call.run() == BAD_ARGUMENT


def test_fwcs_needs_an_index(library: ctypes.CDLL) -> None:
    call = Call(library, "conv_fwcs")
    call.weights.index = None
    assert call.run() == BAD_ARGUMENT


def test_fwcs_ignores_mask_bits_beyond_the_kernel(library: ctypes.CDLL) -> None:
    clean, dirty = Call(library, "conv_fwcs"), Call(library, "conv_fwcs")
    dirty.memory[1][1::2] |= 0xFE  # would be positions 9 to 15 of a 3x3 kernel
    assert clean.run() == dirty.run() == OK
    np.testing.assert_array_equal(clean.target.buffer, dirty.target.buffer)


def test_im2col_refuses_a_window_that_is_larger_than_the_stored_one(library: ctypes.CDLL) -> None:
    call = Call(library, "conv_im2col", 3)
    call.inputs.channels, call.inputs.pixel_stride = 4, 4
    call.inputs.row_stride = 4 * 5
    assert call.run() == BAD_ARGUMENT


def test_pools_refuse_windows_without_a_pixel(library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(2)
    source, target = View(rng, (4, 4, 8), Layout()), View(rng, (3, 2, 8), Layout())
    for name in ("max", "average"):
        call = getattr(library, f"dtmm_{name}_pool_s8")
        tensors = [ctypes.byref(v.tensor()) for v in (source, target)]
        for window, pad in (((2, 2), (0, 0)), ((2, 2), (2, 0)), ((0, 2), (0, 0))):
            pool = PoolParams(window, (2, 2), pad, Output(0, -128, 127))
            before = target.buffer.copy()
            assert call(ctypes.byref(pool), *tensors) == BAD_ARGUMENT
            np.testing.assert_array_equal(target.buffer, before)


def test_mean_refuses_an_image_as_output(library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(3)
    source, target = View(rng, (4, 4, 8), Layout()), View(rng, (2, 1, 8), Layout())
    mean = MeanParams(0, 1 << 30, 0, Output(0, -128, 127))
    tensors = [ctypes.byref(v.tensor()) for v in (source, target)]
    assert library.dtmm_mean_s8(ctypes.byref(mean), *tensors) == BAD_ARGUMENT


def test_different_shapes_are_refused(library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(4)
    source, target = View(rng, (4, 4, 8), Layout()), View(rng, (4, 4, 9), Layout())
    tensors = [ctypes.byref(v.tensor()) for v in (source, target)]
    assert library.dtmm_copy_s8(ctypes.c_int8(0), *tensors) == BAD_ARGUMENT
