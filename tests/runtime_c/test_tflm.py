"""The C operators against TFLM's own, on one-operator models: same bytes."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt
import pytest

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
pytest.importorskip("tflite_micro")

from dtmm.storage import FORMATS, folded_bias, pack_channel_params  # noqa: E402
from tests.runtime_c.library import (  # noqa: E402
    OK,
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
from tests.runtime_c.tflm import Model, Quantized, quantize_multiplier  # noqa: E402

Image = npt.NDArray[np.int8]
LEFT_SHIFT = 20


def a_view(rng: np.random.Generator, image: Image, zero_point: int, halo: int = 0) -> View:
    height, width, channels = image.shape
    view = View(rng, (height, width, channels), Layout(-channels % 16, halo))
    view.fill(image, zero_point)
    return view


def channels_of(view: View) -> Image:
    return view.buffer[view.offsets(0)[..., None] + np.arange(view.shape[2])]


def draw(rng: np.random.Generator) -> tuple[Quantized, Quantized]:
    scales = rng.uniform(0.005, 0.2, 2).astype(np.float32)
    points = rng.integers(-128, 128, 2)
    return Quantized(float(scales[0]), int(points[0])), Quantized(float(scales[1]), int(points[1]))


@pytest.mark.parametrize("seed", range(8))
def test_add(library: ctypes.CDLL, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (1, 5, 7, 6)
    (qa, qb), (_, qo) = draw(rng), draw(rng)
    if seed == 0:
        qb = qa
    a, b = (rng.integers(-128, 128, shape, dtype=np.int8) for _ in range(2))
    model = Model()
    ids = [model.tensor(shape, q) for q in (qa, qb, qo)]
    options = schema.AddOptionsT()
    want = model.answer(schema.BuiltinOperator.ADD, options, ids[:2], ids[2], {0: a, 1: b}, 2)

    twice_max = 2.0 * max(qa.scale, qb.scale)
    scaling = [(q.zero_point, *quantize_multiplier(q.scale / twice_max)) for q in (qa, qb)]
    out = quantize_multiplier(twice_max / ((1 << LEFT_SHIFT) * qo.scale))
    add = AddParams(*scaling, LEFT_SHIFT, out, Output(qo.zero_point, -128, 127))
    views = [a_view(rng, i[0], 0) for i in (a, b, a)]
    assert library.dtmm_add_s8(ctypes.byref(add), *(ctypes.byref(v.tensor()) for v in views)) == OK
    np.testing.assert_array_equal(channels_of(views[2]), want[0])


@pytest.mark.parametrize("seed", range(8))
def test_mean(library: ctypes.CDLL, seed: int) -> None:
    rng = np.random.default_rng(seed)
    h, w, c = (int(v) for v in rng.integers(1, 9, 3))
    q_in, q_out = draw(rng)
    if seed % 2:
        q_out = q_in
    low = int(rng.integers(-128, 120))
    x = rng.integers(low, low + 8, (1, h, w, c), dtype=np.int8)
    model = Model()
    source = model.tensor((1, h, w, c), q_in)
    axes = model.tensor((2,), None, np.array([1, 2], np.int32))
    target = model.tensor((1, 1, 1, c), q_out)
    options = schema.ReducerOptionsT()
    options.keepDims = True
    want = model.answer(
        schema.BuiltinOperator.MEAN, options, [source, axes], target, {source: x}, 2
    )

    # TFLite folds the division by the number of pixels into the multiplier
    multiplier, shift = quantize_multiplier(q_in.scale / q_out.scale)
    bits = min((h * w).bit_length() - 1, 32, 31 + shift)
    mean = MeanParams(
        q_in.zero_point,
        (multiplier << bits) // (h * w),
        shift - bits,
        Output(q_out.zero_point, -128, 127),
    )
    source_view = a_view(rng, x[0], 0)
    target_view = View(rng, (1, 1, c), Layout())
    tensors = [ctypes.byref(v.tensor()) for v in (source_view, target_view)]
    assert library.dtmm_mean_s8(ctypes.byref(mean), *tensors) == OK
    np.testing.assert_array_equal(channels_of(target_view), want.reshape(1, 1, c))


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("kind", ["max", "average"])
def test_pool(library: ctypes.CDLL, kind: str, same: bool) -> None:
    rng = np.random.default_rng(len(kind) + same)
    for window in (2, 3, 7):
        stride = int(rng.integers(1, 4))
        x = rng.integers(-128, 128, (1, 9, 8, 5), dtype=np.int8)
        quantized, _ = draw(rng)
        sizes = [-(-n // stride) if same else (n - window) // stride + 1 for n in x.shape[1:3]]
        pads = [
            max((o - 1) * stride + window - n, 0) // 2 if same else 0
            for o, n in zip(sizes, x.shape[1:3], strict=True)
        ]
        model = Model()
        source = model.tensor(x.shape, quantized)
        target = model.tensor((1, *sizes, 5), quantized)
        options = schema.Pool2DOptionsT()
        options.filterHeight = options.filterWidth = window
        options.strideH = options.strideW = stride
        options.padding = schema.Padding.SAME if same else schema.Padding.VALID
        code = getattr(schema.BuiltinOperator, f"{kind.upper()}_POOL_2D")
        want = model.answer(code, options, [source], target, {source: x}, 2)

        pool = PoolParams((window, window), (stride, stride), tuple(pads), Output(0, -128, 127))
        views = a_view(rng, x[0], 55), View(rng, (sizes[0], sizes[1], 5), Layout())
        call = getattr(library, f"dtmm_{kind}_pool_s8")
        assert call(ctypes.byref(pool), *(ctypes.byref(v.tensor()) for v in views)) == OK
        np.testing.assert_array_equal(channels_of(views[1]), want[0])


@pytest.mark.parametrize("kernel_id", ["conv_dense", "conv_fwcs", "conv_im2col"])
def test_convolution(library: ctypes.CDLL, kernel_id: str) -> None:
    rng = np.random.default_rng(len(kernel_id))
    c_in, c_out, kernel = (3, 9, (3, 3)) if kernel_id == "conv_im2col" else (19, 9, (3, 3))
    q_in, q_out = draw(rng)
    weights = rng.integers(-127, 128, (c_out, *kernel, c_in), dtype=np.int8)
    weights[rng.random((c_out, *kernel)) < 0.4] = 0
    bias = rng.integers(-2000, 2000, c_out, dtype=np.int32)
    # scales from far too small to larger than one: both signs of the shift
    scales = (q_out.scale / q_in.scale * 2.0 ** np.linspace(-14, 1, c_out)).astype(np.float32)
    x = rng.integers(-128, 128, (1, 6, 7, c_in), dtype=np.int8)
    model = Model()
    source = model.tensor(x.shape, q_in)
    constants = [
        model.tensor(weights.shape, Quantized(scales), weights),
        model.tensor(bias.shape, Quantized(scales * np.float32(q_in.scale)), bias),
    ]
    target = model.tensor((1, 6, 7, c_out), q_out)
    options = schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.SAME, 1, 1
    options.dilationHFactor = options.dilationWFactor = 1
    want = model.answer(
        schema.BuiltinOperator.CONV_2D, options, [source, *constants], target, {source: x}, 3
    )

    effective = np.float64(q_in.scale) * scales.astype(np.float64) / np.float64(q_out.scale)
    quantized = np.array([quantize_multiplier(float(e)) for e in effective])
    assert quantized[:, 1].min() < 0 < quantized[:, 1].max()
    stored = FORMATS[kernel_id].encode(weights)
    folded = folded_bias(weights, bias, q_in.zero_point)
    packed = pack_channel_params(folded, quantized[:, 0], quantized[:, 1])
    flash, index = stored.weights.copy(), stored.index.copy()
    views = [a_view(rng, x[0], q_in.zero_point, 1), View(rng, (6, 7, c_out), Layout())]
    if kernel_id == "conv_im2col":
        views[0] = View(rng, (6, 7, c_in), Layout(halo=1))
        views[0].fill(x[0], q_in.zero_point)
    structs = (
        ConvParams(kernel, (1, 1), (1, 1), (1, 1), Output(q_out.zero_point, -128, 127)),
        ConvWeights(c_out, stored.in_stride, address(flash), address(index), address(packed)),
        *(v.tensor() for v in views),
    )
    scratch = aligned(4096)
    arguments = [*map(ctypes.byref, structs), address(scratch), ctypes.c_size_t(scratch.size)]
    assert getattr(library, f"dtmm_{kernel_id}_s8")(*arguments) == OK
    np.testing.assert_array_equal(channels_of(views[1]), want[0])
    assert len(np.unique(want)) > 20, "the case is saturated"
