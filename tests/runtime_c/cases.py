"""Random cases of every operator: run in C, compared with arithmetic.py byte for byte.

Each `check_*` draws a case from a numpy generator, so that hypothesis, the sanitizer run and a
debugger replay the same case from its seed.
"""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

from dtmm.storage import (
    FORMATS,
    Csr,
    dense_scratch,
    fkw_scratch,
    folded_bias,
    fwcs_scratch,
    im2col_scratch,
    list_csr,
    pack_channel_params,
)
from dtmm.storage.kernel_ids import kernel_ids, point_id, variant
from tests.runtime_c import arithmetic
from tests.runtime_c.library import (
    OK,
    UNSUPPORTED,
    AddParams,
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

Rng = np.random.Generator
CHANNELS = [1, 2, 3, 7, 8, 15, 16, 17, 24, 31, 32, 33, 40, 48, 64, 80, 128, 144]
WITH_ASSEMBLY = ("conv_dense", "conv_fwcs", "conv_im2col", "conv_pointwise")
KERNELS = [(1, 1), (3, 3), (3, 3), (5, 5), (1, 7), (2, 3), (4, 1)]


def pick(rng: Rng, low: int, high: int) -> int:
    """A number from low to high, both included."""
    return int(rng.integers(low, high + 1))


def image(rng: Rng, shape: tuple[int, ...]) -> npt.NDArray[np.int8]:
    """Random int8, sometimes extremes only."""
    if rng.random() < 0.1:
        return rng.choice(np.array([-128, 127], np.int8), shape)
    return rng.integers(-128, 128, shape, dtype=np.int8)


def output_params(rng: Rng) -> Output:
    """A random zero point, with and without a clamp."""
    low, high = sorted(rng.integers(-128, 128, 2).tolist())
    if rng.random() < 0.5:
        low, high = -128, 127
    return Output(pick(rng, -128, 127), low, high)


def any_layout(rng: Rng, halo: int, margin: int) -> Layout:
    """For operators that take any strides."""
    return Layout(
        pick(rng, 0, 1) * pick(rng, 0, 9), halo, pick(rng, 0, 1) * pick(rng, 0, 40), margin
    )


def multipliers(
    rng: Rng, sums: npt.NDArray[np.int64], shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Multipliers in [2^30, 2^31) and shifts that bring `sums` into and around the int8 range,
    or shift it left as far as 32 bits go."""
    largest = max(int(np.abs(sums).max()), 1)
    if rng.random() < 0.2:
        shift = rng.integers(0, max(31 - largest.bit_length(), 1), shape)
    else:
        shift = 8 - largest.bit_length() + rng.integers(-2, 3, shape)
        shift = np.clip(shift, -31, 31 - largest.bit_length() - 1)
    return rng.integers(1 << 30, 1 << 31, shape), shift


def out_size(rng: Rng, in_size: int, stride: int, extent: int, pad: int, pad_after: int) -> int:
    """The largest output size for these pads, sometimes a smaller one."""
    size = (in_size + pad + pad_after - extent) // stride + 1
    return size if rng.random() < 0.8 else pick(rng, 1, size)


def assembly_of(
    kernel_id: str, rng: Rng, in_stride: int, stride: int, in_line: bool, out_hw: tuple[int, int]
) -> str:
    """The id with a kernel in assembly that should fit, mostly; else without."""
    if kernel_id == "conv_pointwise":
        pixels = out_hw[0] * out_hw[1] if in_line and stride == 1 else out_hw[1]
        return point_id(kernel_id, in_stride, stride, pixels) or kernel_id
    if rng.random() < 0.2:
        return kernel_id
    if kernel_id == "conv_im2col":
        return point_id(kernel_id, in_stride, 1, out_hw[1]) or kernel_id
    return kernel_ids(kernel_id, in_stride, stride, out_hw)[-1]


def pruned_weights(
    rng: Rng, kernel_id: str, shape: tuple[int, int, int, int]
) -> npt.NDArray[np.int8]:
    """int8 OHWI of which a random share is pruned as the kernel has it: filterlets, single weights,
    or all but a pattern of four of some 3x3 kernels."""
    weights = rng.integers(-128, 128, shape, dtype=np.int8)
    kept = rng.choice([0.0, 0.1, 0.5, 0.9, 1.0])
    c_out, height, width, c_in = shape
    if kernel_id == "conv_csr":
        weights[rng.random(shape) >= kept] = 0
    elif kernel_id == "conv_fkw":
        patterns = rng.permuted(np.tile(np.arange(9) < 4, (pick(rng, 1, 8), 1)), axis=1)
        chosen = patterns[rng.integers(0, len(patterns), (c_out, c_in))]
        chosen &= rng.random((c_out, c_in, 1)) < kept
        weights[~chosen.transpose(0, 2, 1).reshape(shape)] = 0
    else:
        weights[rng.random((c_out, height, width)) >= kept] = 0
    return weights


def made_to_fit(
    rng: Rng, kernel_id: str, kernel: tuple[int, int], dilation: tuple[int, int], c_in: int
) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Kernel, dilation and channels that the operator takes."""
    if kernel_id == "conv_im2col":
        kernel = KERNELS[pick(rng, 0, 4)]
        return kernel, dilation, pick(rng, 1, min(15, 256 // (kernel[0] * kernel[1])))
    if kernel_id == "conv_pointwise":
        return (1, 1), (1, 1), c_in
    if kernel_id == "conv_csr":
        return kernel, (dilation[0], 1), c_in
    return (3, 3) if kernel_id == "conv_fkw" else kernel, dilation, c_in


def check_conv(library: ctypes.CDLL, kernel_id: str, rng: Rng, margin: int = 64) -> None:
    """One random convolution."""
    kernel, dilation = KERNELS[pick(rng, 0, len(KERNELS) - 1)], (1, 1)
    if rng.random() < 0.2:
        dilation = (pick(rng, 1, 3), pick(rng, 1, 3))
    stride = (pick(rng, 1, 2), pick(rng, 1, 2)) if rng.random() < 0.3 else (1, 1)
    c_in = int(rng.choice(CHANNELS))
    kernel, dilation, c_in = made_to_fit(rng, kernel_id, kernel, dilation, c_in)
    c_out = int(rng.choice(CHANNELS[:10]))
    in_hw = (pick(rng, 1, 9), pick(rng, 1, 9))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    need = max(0, *(e - n for e, n in zip(extent, in_hw, strict=True)))
    halo = max(pick(rng, 0, 2), (need + 1) // 2)
    most = 0 if kernel_id == "conv_pointwise" else halo
    pads = [(pick(rng, 0, most), pick(rng, 0, most)) for _ in range(2)]
    pads = [
        p if n + sum(p) >= e else (halo, halo) for p, n, e in zip(pads, in_hw, extent, strict=True)
    ]
    out_hw = tuple(out_size(rng, in_hw[i], stride[i], extent[i], *pads[i]) for i in range(2))
    pad = (pads[0][0], pads[1][0])
    zero_point = pick(rng, -128, 127)

    weights = pruned_weights(rng, kernel_id, (c_out, *kernel, c_in))
    bias = rng.integers(-3000, 3000, c_out)
    x = image(rng, (*in_hw, c_in))
    seen = arithmetic.windows(
        x.astype(np.int64), kernel, stride, dilation, pad, (out_hw[0], out_hw[1]), zero_point
    )
    sums = arithmetic.conv_sums(seen, weights.astype(np.int64), bias, zero_point)
    multiplier, shift = multipliers(rng, sums, (c_out,))
    out_params = output_params(rng)
    want = arithmetic.clamp(
        arithmetic.requantize(sums, multiplier, shift),
        out_params.zero_point,
        out_params.activation_min,
        out_params.activation_max,
    )

    if kernel_id == "conv_im2col":
        source_layout = any_layout(rng, halo, margin)
    else:
        source_layout = Layout(-c_in % 16, halo, 4 * pick(rng, 0, 1) * pick(rng, 0, 9), margin)
    source = View(rng, (*in_hw, c_in), source_layout)
    source.fill(x, zero_point)
    target = View(rng, (out_hw[0], out_hw[1], c_out), any_layout(rng, pick(rng, 0, 2), margin))
    form = FORMATS[kernel_id]
    stored = form.encode(weights)
    in_stride = form.in_stride(kernel, c_in)
    flash = aligned(max(stored.weights.size, 1))
    flash[: stored.weights.size] = stored.weights
    index = stored.index.copy()
    packed = pack_channel_params(folded_bias(weights, bias, zero_point), multiplier, shift)
    c_weights = ConvWeights(
        c_out,
        in_stride,
        address(flash),
        address(index) if index.size and kernel_id != "conv_fkw" else None,
        address(packed),
        stream=address(index) if kernel_id == "conv_fkw" else None,
    )
    name = kernel_id
    if kernel_id in WITH_ASSEMBLY and c_out > 1 and shift.max() < 0:
        in_line = stride[0] == 1 and in_hw[1] == out_hw[1] and source.in_line
        pixels = (out_hw[0], out_hw[1])
        name = assembly_of(kernel_id, rng, in_stride, stride[1], in_line, pixels)
    if variant(name) is not None:
        descriptor = ctypes.c_char.in_dll(library, f"dtmm_conv_kernel_{variant(name)}")
        c_weights.kernel = ctypes.addressof(descriptor)
    params = ConvParams(kernel, stride, dilation, pad, out_params)
    arguments = [ctypes.byref(a) for a in (params, c_weights, source.tensor(), target.tensor())]
    if kernel_id == "conv_pointwise":
        # four pixels in a line, of as many as there are: what Python expects is what C says
        assert library.dtmm_conv_pointwise_fits(*arguments) == (name != kernel_id)
    elif isinstance(stored, Csr):
        listed = list_csr(stored, source.tensor().row_stride, dilation[0])
        made = np.empty_like(listed)
        entries = ctypes.c_size_t(made.size)
        assert library.dtmm_conv_csr_list(*arguments[:3], address(made), entries) == made.size
        np.testing.assert_array_equal(made, listed)
        c_weights.stream = address(made) if rng.random() < 0.5 else None
    elif kernel_id != "conv_im2col" and not library.dtmm_conv_kernel_fits(*arguments):
        name, c_weights.kernel = kernel_id, None  # shifts to the left, odd addresses
    size = int(getattr(library, f"dtmm_{kernel_id}_s8_get_buffer_size")(*arguments))
    filterlets = int(weights.any(axis=3).sum())
    expected = {
        "conv_dense": lambda: dense_scratch(name, kernel, c_out, dilation[1]),
        "conv_im2col": lambda: im2col_scratch(out_hw[1], in_stride),
        "conv_pointwise": lambda: 0,
        "conv_fwcs": lambda: fwcs_scratch(name, filterlets, c_out, kernel, dilation[1]),
        "conv_csr": lambda: 0 if c_weights.stream else index.nbytes,
        "conv_fkw": lambda: fkw_scratch(int(index[0]), in_stride),
    }
    assert size == expected[kernel_id]()
    scratch = aligned(size)
    input_before, before = source.buffer.copy(), target.buffer.copy()
    call = getattr(library, f"dtmm_{kernel_id}_s8")
    status = call(*arguments, address(scratch), ctypes.c_size_t(size))
    if kernel_id == "conv_pointwise" and name == kernel_id:
        assert status == UNSUPPORTED
        return
    assert status == OK
    target.assert_holds(want, out_params.zero_point, before)
    np.testing.assert_array_equal(source.buffer, input_before)


def check_add(library: ctypes.CDLL, rng: Rng, margin: int = 64) -> None:
    """One random ADD, sometimes in place."""
    shape = (pick(rng, 1, 7), pick(rng, 1, 7), int(rng.choice(CHANNELS)))
    halo = pick(rng, 0, 2)
    views = [View(rng, shape, any_layout(rng, halo, margin)) for _ in range(3)]
    images = [image(rng, shape), image(rng, shape)]
    zero_points = [pick(rng, -128, 127) for _ in range(2)]
    quantized = [[zp, pick(rng, 1 << 30, (1 << 31) - 1), pick(rng, -7, 0)] for zp in zero_points]
    quantized[pick(rng, 0, 1)][1:] = [1 << 30, 0]  # TFLite halves the larger scale
    scaled = [
        arithmetic.requantize((i.astype(np.int64) - zp) << 20, m, s)
        for i, (zp, m, s) in zip(images, quantized, strict=True)
    ]
    out_multiplier, out_shift = pick(rng, 1 << 30, (1 << 31) - 1), pick(rng, -21, -16)
    params = output_params(rng)
    want = arithmetic.clamp(
        arithmetic.requantize(scaled[0] + scaled[1], out_multiplier, out_shift),
        params.zero_point,
        params.activation_min,
        params.activation_max,
    )
    for view, values, zero_point in zip(views[:2], images, zero_points, strict=True):
        view.fill(values, zero_point)
    target = views[pick(rng, 0, 2)]
    before = target.buffer.copy()
    add = AddParams(
        (ctypes.c_int32 * 3)(*quantized[0]),
        (ctypes.c_int32 * 3)(*quantized[1]),
        20,
        (ctypes.c_int32 * 2)(out_multiplier, out_shift),
        params,
    )
    tensors = [v.tensor() for v in (views[0], views[1], target)]
    assert library.dtmm_add_s8(*(ctypes.byref(a) for a in (add, *tensors))) == OK
    target.assert_holds(want, params.zero_point, before)


def check_pool(library: ctypes.CDLL, kind: str, rng: Rng, margin: int = 64) -> None:
    """One random pool; `kind` is "max" or "average"."""
    in_hw, channels = (pick(rng, 1, 9), pick(rng, 1, 9)), int(rng.choice(CHANNELS))
    window = (pick(rng, 1, 9), pick(rng, 1, 4))
    stride = (pick(rng, 1, 3), pick(rng, 1, 3))
    pad = (pick(rng, 0, window[0] - 1), pick(rng, 0, window[1] - 1))
    out_hw = tuple((in_hw[i] + pad[i] - 1) // stride[i] + 1 for i in range(2))
    x = image(rng, (*in_hw, channels))

    def seen(values: npt.NDArray[np.int64], fill: int) -> npt.NDArray[np.int64]:
        size = (out_hw[0], out_hw[1])
        return arithmetic.windows(values, window, stride, (1, 1), pad, size, fill)

    if kind == "max":
        pooled = seen(x.astype(np.int64), -128).max(axis=(2, 3))
    else:
        inside = seen(np.ones((*in_hw, 1), np.int64), 0)
        pooled = arithmetic.average(seen(x.astype(np.int64), 0), inside)
    params = output_params(rng)
    want = arithmetic.clamp(pooled, 0, params.activation_min, params.activation_max)
    source = View(rng, (*in_hw, channels), any_layout(rng, pick(rng, 0, 1), margin))
    source.fill(x, 99)
    target = View(rng, (out_hw[0], out_hw[1], channels), any_layout(rng, pick(rng, 0, 2), margin))
    before = target.buffer.copy()
    call = getattr(library, f"dtmm_{kind}_pool_s8")
    pool = PoolParams(window, stride, pad, params)
    assert call(*(ctypes.byref(a) for a in (pool, source.tensor(), target.tensor()))) == OK
    target.assert_holds(want, params.zero_point, before)


def check_mean(library: ctypes.CDLL, rng: Rng, margin: int = 64) -> None:
    """One random MEAN over height and width."""
    shape = (pick(rng, 1, 9), pick(rng, 1, 9), int(rng.choice(CHANNELS)))
    zero_point = pick(rng, -128, 127)
    x = image(rng, shape)
    sums = (x.astype(np.int64) - zero_point).sum(axis=(0, 1))[None, None]
    multiplier, shift = (int(v[0]) for v in multipliers(rng, sums, (1,)))
    params = output_params(rng)
    want = arithmetic.clamp(
        arithmetic.requantize(sums, multiplier, shift),
        params.zero_point,
        params.activation_min,
        params.activation_max,
    )
    source = View(rng, shape, any_layout(rng, pick(rng, 0, 1), margin))
    source.fill(x, zero_point)
    target = View(rng, (1, 1, shape[2]), any_layout(rng, pick(rng, 0, 1), margin))
    before = target.buffer.copy()
    mean = MeanParams(zero_point, multiplier, shift, params)
    tensors = (source.tensor(), target.tensor())
    assert library.dtmm_mean_s8(*(ctypes.byref(a) for a in (mean, *tensors))) == OK
    target.assert_holds(want, params.zero_point, before)


def check_fully_connected(library: ctypes.CDLL, rng: Rng, margin: int = 64) -> None:
    """One random fully connected layer on a vector or on an image read in NHWC order."""
    shape = (1, 1, pick(rng, 1, 80))
    if rng.random() < 0.4:
        shape = (pick(rng, 1, 4), pick(rng, 1, 4), int(rng.choice(CHANNELS[:12])))
    c_out, count = pick(rng, 1, 13), shape[0] * shape[1] * shape[2]
    x, zero_point = image(rng, shape), pick(rng, -128, 127)
    weights = rng.integers(-127, 128, (c_out, count), dtype=np.int8)
    bias = rng.integers(-3000, 3000, c_out)
    sums = weights.astype(np.int64) @ (x.reshape(-1).astype(np.int64) - zero_point) + bias
    multiplier, shift = multipliers(rng, sums, (c_out,))
    params = output_params(rng)
    want = arithmetic.clamp(
        arithmetic.requantize(sums, multiplier, shift)[None, None],
        params.zero_point,
        params.activation_min,
        params.activation_max,
    )
    source = View(rng, shape, any_layout(rng, pick(rng, 0, 1), margin))
    source.fill(x, zero_point)
    target = View(rng, (1, 1, c_out), any_layout(rng, pick(rng, 0, 1), margin))
    before = target.buffer.copy()
    row_stride = count + pick(rng, 0, 3)
    flash = np.zeros((c_out, row_stride), np.int8)
    flash[:, :count] = weights
    flash = flash.reshape(-1)[: (c_out - 1) * row_stride + count].copy()
    packed = pack_channel_params(folded_bias(weights, bias, zero_point), multiplier, shift)
    status = library.dtmm_fully_connected_s8(
        ctypes.byref(params),
        address(flash),
        row_stride,
        address(packed),
        ctypes.byref(source.tensor()),
        ctypes.byref(target.tensor()),
    )
    assert status == OK
    target.assert_holds(want, params.zero_point, before)


def check_copy(library: ctypes.CDLL, rng: Rng, margin: int = 64) -> None:
    """One random copy between differently laid out views."""
    shape = (pick(rng, 1, 7), pick(rng, 1, 7), int(rng.choice(CHANNELS)))
    x, zero_point = image(rng, shape), pick(rng, -128, 127)
    source = View(rng, shape, any_layout(rng, pick(rng, 0, 2), margin))
    source.fill(x, 5)
    target = View(rng, shape, any_layout(rng, pick(rng, 0, 3), margin))
    before = target.buffer.copy()
    tensors = (source.tensor(), target.tensor())
    assert library.dtmm_copy_s8(ctypes.c_int8(zero_point), *map(ctypes.byref, tensors)) == OK
    target.assert_holds(x, zero_point, before)


CHECKS = {
    "conv_dense": lambda *a: check_conv(a[0], "conv_dense", *a[1:]),
    "conv_fwcs": lambda *a: check_conv(a[0], "conv_fwcs", *a[1:]),
    "conv_im2col": lambda *a: check_conv(a[0], "conv_im2col", *a[1:]),
    "conv_pointwise": lambda *a: check_conv(a[0], "conv_pointwise", *a[1:]),
    "conv_csr": lambda *a: check_conv(a[0], "conv_csr", *a[1:]),
    "conv_fkw": lambda *a: check_conv(a[0], "conv_fkw", *a[1:]),
    "add": check_add,
    "max_pool": lambda *a: check_pool(a[0], "max", *a[1:]),
    "average_pool": lambda *a: check_pool(a[0], "average", *a[1:]),
    "mean": check_mean,
    "fully_connected": check_fully_connected,
    "copy": check_copy,
}
"""By operator: (library, rng, margin) -> None, raises AssertionError on the first difference."""
