"""Random cases of depthwise and grouped convolutions: run in C, compared with plain numpy. As in
cases.py, a case is drawn from a numpy generator."""

from __future__ import annotations

import ctypes

import numpy as np

from dtmm.storage import depthwise_scratch, folded_bias, pack_channel_params
from tests.runtime_c import arithmetic
from tests.runtime_c.cases import (
    CHANNELS,
    KERNELS,
    Rng,
    any_layout,
    image,
    multipliers,
    out_size,
    output_params,
    pick,
)
from tests.runtime_c.library import OK, ConvParams, ConvWeights, View, address, aligned


def check_grouped(
    library: ctypes.CDLL, rng: Rng, margin: int = 64, depthwise: bool = False
) -> None:
    """One random grouped convolution, or a depthwise one."""
    if depthwise:
        inputs, outputs, groups = 1, 1, int(rng.choice(CHANNELS))
    else:
        inputs, outputs = int(rng.choice(CHANNELS[:12])), pick(rng, 1, 4)
        groups = pick(rng, 1, 5)
    c_in, c_out = groups * inputs, groups * outputs
    kernel, dilation = KERNELS[pick(rng, 0, len(KERNELS) - 1)], (1, 1)
    if rng.random() < 0.2:
        dilation = (pick(rng, 1, 2), pick(rng, 1, 2))
    stride = (pick(rng, 1, 2), pick(rng, 1, 2))
    in_hw = (pick(rng, 1, 8), pick(rng, 1, 8))
    if depthwise and rng.random() < 0.5:  # lines that are long enough for patches
        kernel, dilation, in_hw = (3, 3), (1, 1), (pick(rng, 1, 19), pick(rng, 8, 19))
        in_hw = in_hw if rng.random() < 0.5 else in_hw[::-1]
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    need = max(0, *(e - n for e, n in zip(extent, in_hw, strict=True)))
    halo = max(pick(rng, 0, 2), (need + 1) // 2)
    pads = [(pick(rng, 0, halo), pick(rng, 0, halo)) for _ in range(2)]
    pads = [
        p if n + sum(p) >= e else (halo, halo) for p, n, e in zip(pads, in_hw, extent, strict=True)
    ]
    out_hw = tuple(out_size(rng, in_hw[i], stride[i], extent[i], *pads[i]) for i in range(2))
    pad, zero_point = (pads[0][0], pads[1][0]), pick(rng, -128, 127)

    weights = rng.integers(-127, 128, (c_out, *kernel, inputs), dtype=np.int8)
    bias = rng.integers(-3000, 3000, c_out)
    x = image(rng, (*in_hw, c_in))
    seen = arithmetic.windows(
        x.astype(np.int64), kernel, stride, dilation, pad, (out_hw[0], out_hw[1]), zero_point
    )
    sums = np.concatenate(
        [
            arithmetic.conv_sums(
                seen[..., g * inputs : (g + 1) * inputs],
                weights[g * outputs : (g + 1) * outputs].astype(np.int64),
                bias[g * outputs : (g + 1) * outputs],
                zero_point,
            )
            for g in range(groups)
        ],
        axis=-1,
    )
    multiplier, shift = multipliers(rng, sums, (c_out,))
    params = output_params(rng)
    want = arithmetic.clamp(
        arithmetic.requantize(sums, multiplier, shift),
        params.zero_point,
        params.activation_min,
        params.activation_max,
    )

    source = View(rng, (*in_hw, c_in), any_layout(rng, halo, margin))
    source.fill(x, zero_point)
    target = View(rng, (out_hw[0], out_hw[1], c_out), any_layout(rng, pick(rng, 0, 2), margin))
    before = target.buffer.copy()
    if depthwise:  # [positions][channels and a gap]
        units, in_stride = weights.reshape(c_out, -1).T, c_out + pick(rng, 0, 5)
    else:
        units, in_stride = weights.reshape(-1, inputs), inputs + pick(rng, 0, 5)
    stored = rng.integers(-128, 128, (len(units), in_stride), dtype=np.int8)
    stored[:, : units.shape[1]] = units
    stored = stored.reshape(-1)[: (len(units) - 1) * in_stride + units.shape[1]]
    flash = aligned(stored.size)
    flash[:] = stored
    packed = pack_channel_params(folded_bias(weights, bias, zero_point), multiplier, shift)
    conv = ConvParams(kernel, stride, dilation, pad, params)
    given = ConvWeights(c_out, in_stride, address(flash), None, address(packed))
    views = [ctypes.byref(v.tensor()) for v in (source, target)]
    extra = () if depthwise else (groups,)
    call = library.dtmm_depthwise_conv_s8 if depthwise else library.dtmm_conv_grouped_s8
    size = getattr(library, f"{call.__name__}_get_buffer_size")
    arguments = (ctypes.byref(conv), ctypes.byref(given), *extra, *views)
    bytes_ = int(size(*arguments))
    if depthwise:
        assert bytes_ == depthwise_scratch(kernel, stride, dilation, (out_hw[0], out_hw[1]))
    scratch = aligned(max(bytes_, 1))
    assert call(*arguments, address(scratch), ctypes.c_size_t(bytes_)) == OK
    target.assert_holds(want, params.zero_point, before)


CHECKS = {
    "conv_grouped": check_grouped,
    "depthwise_conv": lambda *a: check_grouped(*a, depthwise=True),
}
"""As in cases.py."""
