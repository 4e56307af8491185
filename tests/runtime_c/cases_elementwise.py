"""Random cases of the operators that scale, look up or move values: run in C, compared with plain
numpy byte for byte. As in cases.py, a case is drawn from a numpy generator."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import numpy.typing as npt

from tests.runtime_c import arithmetic
from tests.runtime_c.cases import CHANNELS, Rng, any_layout, image, multipliers, output_params, pick
from tests.runtime_c.library import OK, AddParams, Output, Tensor, View, address

_int32 = ctypes.c_int32


class MulParams(ctypes.Structure):
    """dtmm_mul_params."""

    _fields_ = (
        ("zero_points", _int32 * 2),
        ("multiplier", _int32),
        ("shift", _int32),
        ("output", Output),
    )


class SoftmaxParams(ctypes.Structure):
    """dtmm_softmax_params."""

    _fields_ = (("exponentials", ctypes.c_void_p), ("count", _int32))


class SliceParams(ctypes.Structure):
    """dtmm_strided_slice_params."""

    _fields_ = (("begin", _int32 * 2), ("stride", _int32 * 2))


def a_shape(rng: Rng, most: int = 7) -> tuple[int, int, int]:
    """Height, width and channels."""
    return pick(rng, 1, most), pick(rng, 1, most), int(rng.choice(CHANNELS))


def a_view(rng: Rng, shape: tuple[int, int, int], margin: int, halo: int | None = None) -> View:
    """A view of any strides."""
    return View(rng, shape, any_layout(rng, pick(rng, 0, 2) if halo is None else halo, margin))


def call(library: ctypes.CDLL, function: str, *arguments: object) -> None:
    """Calls an operator, structures by reference; it must succeed."""
    given = [ctypes.byref(a) if isinstance(a, ctypes.Structure) else a for a in arguments]
    assert getattr(library, function)(*given) == OK


def operands(
    rng: Rng, margin: int, broadcast: bool
) -> tuple[list[npt.NDArray[np.int8]], list[View], list[int]]:
    """Images, views (a, b, out) and zero points of a binary operator."""
    shape = a_shape(rng)
    shapes = [shape, (1, 1, shape[2]) if broadcast else shape, shape]
    halo = pick(rng, 0, 2)
    views = [a_view(rng, s, margin, halo) for s in shapes]
    images = [image(rng, s) for s in shapes[:2]]
    zero_points = [pick(rng, -128, 127) for _ in range(2)]
    for view, values, zero_point in zip(views[:2], images, zero_points, strict=True):
        view.fill(values, zero_point)
    return images, views, zero_points


def check_mul(library: ctypes.CDLL, rng: Rng, margin: int = 64, broadcast: bool = False) -> None:
    """One random MUL, sometimes in place."""
    images, views, zero_points = operands(rng, margin, broadcast)
    centred = [i.astype(np.int64) - zp for i, zp in zip(images, zero_points, strict=True)]
    products = centred[0] * centred[1]
    multiplier, shift = (int(v[0]) for v in multipliers(rng, products, (1,)))
    params = output_params(rng)
    want = arithmetic.clamp(
        arithmetic.requantize(products, multiplier, shift),
        params.zero_point,
        params.activation_min,
        params.activation_max,
    )
    target = views[int(rng.choice([0, 2] if broadcast else [0, 1, 2]))]
    before = target.buffer.copy()
    mul = MulParams((_int32 * 2)(*zero_points), multiplier, shift, params)
    tensors = [v.tensor() for v in (*views[:2], target)]
    call(library, f"dtmm_mul_{'broadcast_' * broadcast}s8", mul, *tensors)
    target.assert_holds(want, params.zero_point, before)


def check_add_broadcast(library: ctypes.CDLL, rng: Rng, margin: int = 64) -> None:
    """One random ADD of a pixel, sometimes in place."""
    images, views, zero_points = operands(rng, margin, broadcast=True)
    factors = [[pick(rng, 1 << 30, (1 << 31) - 1), pick(rng, -7, 0)] for _ in range(2)]
    factors[pick(rng, 0, 1)] = [1 << 30, 0]
    scaled = [
        arithmetic.requantize((i.astype(np.int64) - zp) << 20, *factor)
        for i, zp, factor in zip(images, zero_points, factors, strict=True)
    ]
    out = pick(rng, 1 << 30, (1 << 31) - 1), pick(rng, -21, -16)
    params = output_params(rng)
    want = arithmetic.clamp(
        arithmetic.requantize(scaled[0] + scaled[1], *out),
        params.zero_point,
        params.activation_min,
        params.activation_max,
    )
    target = views[int(rng.choice([0, 2]))]
    before = target.buffer.copy()
    quantized = [(_int32 * 3)(zp, *factor) for zp, factor in zip(zero_points, factors, strict=True)]
    add = AddParams(*quantized, 20, (_int32 * 2)(*out), params)
    call(library, "dtmm_add_broadcast_s8", add, *(v.tensor() for v in (*views[:2], target)))
    target.assert_holds(want, params.zero_point, before)


def check_lookup(library: ctypes.CDLL, rng: Rng, margin: int = 64) -> None:
    """One random table, sometimes in place."""
    shape, zero_point = a_shape(rng), pick(rng, -128, 127)
    x, table = image(rng, shape), rng.integers(-128, 128, 256, dtype=np.int8)
    halo = pick(rng, 0, 2)
    source, target = a_view(rng, shape, margin, halo), a_view(rng, shape, margin, halo)
    source.fill(x, 3)
    if rng.random() < 0.3:
        target = source
    before = target.buffer.copy()
    tensors = (source.tensor(), target.tensor())
    call(library, "dtmm_lookup_s8", address(table), ctypes.c_int8(zero_point), *tensors)
    target.assert_holds(table[x.astype(np.int64) + 128], zero_point, before)


def softmax(x: npt.NDArray[np.int8], table: npt.NDArray[np.int32]) -> npt.NDArray[np.int8]:
    """TFLite's int8 softmax, pixel by pixel in Python's integers."""
    out = np.empty(x.shape, np.int8)
    for y, x_ in np.ndindex(*x.shape[:2]):
        pixel = [int(v) for v in x[y, x_]]
        below = [max(pixel) - v for v in pixel]
        terms = [int(table[d]) if d < len(table) else 0 for d in below]
        total = sum((t + (1 << 11)) >> 12 for t in terms)
        scaled = [t * reciprocal(total) for t in terms]
        bits = total.bit_length() + 3  # total has 19 fraction bits, a share 8
        shares = [(((v + (1 << 30)) >> 31) + (1 << (bits - 1))) >> bits for v in scaled]
        out[y, x_] = np.minimum(np.array(shares) - 128, 127)
    return out


def reciprocal(total: int) -> int:
    """2^31 / (total scaled to 1..2), by the same three Newton steps, each product rounded."""

    def times(a: int, b: int) -> int:
        return (a * b + (1 << 30)) >> 31

    fraction = (total << (32 - total.bit_length())) - (1 << 31)
    half = (fraction + (1 << 31)) // 2
    guess = 1515870810 + times(half, -1010580540)
    for _ in range(3):
        guess += times(guess, (1 << 29) - times(half, guess)) * 4
    return min(guess * 2, (1 << 31) - 1)


def check_softmax(library: ctypes.CDLL, rng: Rng, margin: int = 64) -> None:
    """One random softmax over the channels, sometimes in place."""
    shape = (pick(rng, 1, 3), pick(rng, 1, 3), int(rng.choice([*CHANNELS, 300])))
    low = pick(rng, -128, 126)
    x = rng.integers(low, 128, shape, dtype=np.int8)
    step = 10 ** rng.uniform(-3, 0.5)
    table = np.array(
        [min(round(math.exp(-d * step) * 2**31), 2**31 - 1) for d in range(pick(rng, 1, 256))],
        np.int32,
    )
    halo = pick(rng, 0, 2)
    source, target = a_view(rng, shape, margin, halo), a_view(rng, shape, margin, halo)
    source.fill(x, 0)
    if rng.random() < 0.3:
        target = source
    before = target.buffer.copy()
    params = SoftmaxParams(address(table), len(table))
    call(library, "dtmm_softmax_s8", params, source.tensor(), target.tensor())
    target.assert_holds(softmax(x, table), -128, before)


def check_concat(library: ctypes.CDLL, rng: Rng, margin: int = 64) -> None:
    """One random concatenation; some inputs already are their range of the output."""
    height, width, _ = a_shape(rng)
    channels = [int(rng.choice(CHANNELS[:12])) for _ in range(pick(rng, 1, 4))]
    zero_point = pick(rng, -128, 127)
    target = a_view(rng, (height, width, sum(channels)), margin)
    images, views, tensors, first = [], [], [], 0
    for count in channels:
        x = image(rng, (height, width, count))
        view = a_view(rng, (height, width, count), margin)
        view.fill(x, zero_point)
        tensor = view.tensor()
        if rng.random() < 0.4:  # made in place
            out = target.tensor()
            at = out.data + first
            tensor = Tensor(at, height, width, count, out.pixel_stride, out.row_stride, out.halo)
            target.buffer[target.offsets(0)[..., None] + first + np.arange(count)] = x
        images.append(x)
        views.append(view)
        tensors.append(tensor)
        first += count
    before = target.buffer.copy()
    inputs = (Tensor * len(tensors))(*tensors)
    status = library.dtmm_concat_s8(
        ctypes.c_int8(zero_point), inputs, len(tensors), ctypes.byref(target.tensor())
    )
    assert status == OK
    target.assert_holds(np.concatenate(images, axis=2), zero_point, before)


def check_pad(library: ctypes.CDLL, rng: Rng, margin: int = 64) -> None:
    """One random PAD."""
    shape, zero_point = a_shape(rng), pick(rng, -128, 127)
    top, left, bottom, right = (pick(rng, 0, 3) for _ in range(4))
    x = image(rng, shape)
    want = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=zero_point)
    source = a_view(rng, shape, margin)
    source.fill(x, 9)
    target = a_view(rng, (want.shape[0], want.shape[1], want.shape[2]), margin)
    before = target.buffer.copy()
    tensors = (source.tensor(), target.tensor())
    call(library, "dtmm_pad_s8", ctypes.c_int8(zero_point), top, left, *tensors)
    target.assert_holds(want, zero_point, before)


def check_strided_slice(library: ctypes.CDLL, rng: Rng, margin: int = 64) -> None:
    """One random STRIDED_SLICE."""
    shape, zero_point = a_shape(rng, 9), pick(rng, -128, 127)
    x = image(rng, shape)
    begin = [pick(rng, 0, size - 1) for size in shape[:2]]
    end = [pick(rng, b + 1, size) for b, size in zip(begin, shape[:2], strict=True)]
    stride = [pick(rng, 1, 3) for _ in range(2)]
    want = x[begin[0] : end[0] : stride[0], begin[1] : end[1] : stride[1]]
    source = a_view(rng, shape, margin)
    source.fill(x, 9)
    target = a_view(rng, (want.shape[0], want.shape[1], want.shape[2]), margin)
    before = target.buffer.copy()
    params = SliceParams((_int32 * 2)(*begin), (_int32 * 2)(*stride))
    tensors = (source.tensor(), target.tensor())
    call(library, "dtmm_strided_slice_s8", params, ctypes.c_int8(zero_point), *tensors)
    target.assert_holds(want, zero_point, before)


CHECKS = {
    "mul": check_mul,
    "mul_broadcast": lambda *a: check_mul(*a, broadcast=True),
    "add_broadcast": check_add_broadcast,
    "lookup": check_lookup,
    "softmax": check_softmax,
    "concat": check_concat,
    "pad": check_pad,
    "strided_slice": check_strided_slice,
}
"""As in cases.py."""
