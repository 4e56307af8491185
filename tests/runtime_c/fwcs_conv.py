"""Convolutions on opened FWCS blobs: random layers, their answer, and a run on this machine."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dtmm.storage import Fwcs, decode_fwcs, folded_bias, pack_channel_params, write_fwcs
from dtmm.storage.container import Form
from tests.runtime_c import arithmetic
from tests.runtime_c.cases import image, multipliers, output_params, pick
from tests.runtime_c.fwcs import Memory, open_blob, prepare
from tests.runtime_c.library import OK, ConvParams, Layout, Output, View, address, aligned
from tests.storage.blobs import random_layer

SIZE = (5, 6)


@dataclass(frozen=True)
class ConvCase:
    """A layer with SAME padding and stride 1 on an image of SIZE, and what it should give.

    Attributes:
        pad: rows above, columns to the left.
        halo: pixels of the input's frame; the kernel does not reach further.
        want: int8 [*SIZE, C_out].
    """

    fwcs: Fwcs
    params: npt.NDArray[np.int32]
    image: npt.NDArray[np.int8]
    zero_point: int
    pad: tuple[int, int]
    halo: int
    output: Output
    want: npt.NDArray[np.int8]

    def blob(self, form: Form) -> bytes:
        """The layer as a blob."""
        return write_fwcs(self.fwcs, self.params, form)


def conv_case(rng: np.random.Generator) -> ConvCase:
    """A random layer."""
    fwcs, _ = random_layer(rng)
    weights = decode_fwcs(fwcs)
    kernel, c_out, zero_point = fwcs.kernel, fwcs.out_channels, pick(rng, -128, 127)
    pad = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2)
    x = image(rng, (*SIZE, fwcs.in_channels))
    seen = arithmetic.windows(x.astype(np.int64), kernel, (1, 1), (1, 1), pad, SIZE, zero_point)
    bias = rng.integers(-3000, 3000, c_out)
    sums = arithmetic.conv_sums(seen, weights.astype(np.int64), bias, zero_point)
    multiplier, shift = multipliers(rng, sums, (c_out,))
    output = output_params(rng)
    want = arithmetic.clamp(
        arithmetic.requantize(sums, multiplier, shift),
        output.zero_point,
        output.activation_min,
        output.activation_max,
    )
    params = pack_channel_params(folded_bias(weights, bias, zero_point), multiplier, shift)
    return ConvCase(fwcs, params, x, zero_point, pad, max(kernel) // 2, output, want)


def run_here(
    library: ctypes.CDLL, case: ConvCase, form: Form, rng: np.random.Generator
) -> npt.NDArray[np.int8]:
    """Written, opened, prepared, run: what the library makes of a case."""
    fwcs, blob = case.fwcs, case.blob(form)
    memory = Memory(len(blob), blob)
    status, layer = open_blob(library, memory, len(blob))
    assert status == OK
    buffer = prepare(library, layer)
    source = View(rng, case.image.shape, Layout(fwcs.in_stride - fwcs.in_channels, case.halo))
    source.fill(case.image, case.zero_point)
    target = View(rng, case.want.shape, Layout())
    before = target.buffer.copy()
    params = ConvParams(fwcs.kernel, (1, 1), (1, 1), case.pad, case.output)
    structs = (params, layer.weights, source.tensor(), target.tensor())
    arguments = [ctypes.byref(s) for s in structs]
    size = int(library.dtmm_conv_fwcs_s8_get_buffer_size(*arguments))
    scratch = aligned(size)
    assert library.dtmm_conv_fwcs_s8(*arguments, address(scratch), ctypes.c_size_t(size)) == OK
    got = target.buffer[target.offsets(0)[..., None] + np.arange(fwcs.out_channels)]
    target.assert_holds(got, case.output.zero_point, before)  # nothing else was written
    del buffer
    return got


def extreme_case(library: ctypes.CDLL, rng: np.random.Generator) -> ConvCase:
    """Parameters that a blob may hold and no network has: sums and shifts that wrap around.

    The answer is this machine's, for another machine to give as well.
    """
    case = conv_case(rng)
    filters = case.fwcs.out_channels
    bias = rng.choice([-(2**31), 2**31 - 1, 2**31 - 5000, 5000 - 2**31], filters)
    params = pack_channel_params(
        bias, rng.integers(0, 2**31, filters), rng.integers(-31, 31, filters)
    )
    case = replace(case, params=params)
    return replace(case, want=run_here(library, case, "prepared", rng))


def c_array(name: str, content: bytes) -> str:
    """An aligned constant."""
    return f"static const _Alignas(8) uint8_t {name}[] = {{{', '.join(map(str, content))}}};\n"


def c_cases(cases: list[tuple[ConvCase, Form]]) -> str:
    """What fwcs_device.c includes: the cases as C data."""
    text, rows = "", []
    for n, (case, form) in enumerate(cases):
        blob = case.blob(form)
        text += c_array(f"blob_{n}", blob) + c_array(f"image_{n}", case.image.tobytes())
        output = case.output
        numbers = [case.zero_point, *case.pad, case.halo]
        numbers += [output.zero_point, output.activation_min, output.activation_max]
        rows.append(f"{{blob_{n}, {len(blob)}, image_{n}, {', '.join(map(str, numbers))}}}")
    return (
        f"enum {{ HEIGHT = {SIZE[0]}, WIDTH = {SIZE[1]}, CASES = {len(cases)} }};\n{text}"
        f"static const conv_case cases[CASES] = {{{', '.join(rows)}}};\n"
    )
