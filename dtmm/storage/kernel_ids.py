"""Kernel ids: one concrete implementation of an operator each, and which of them fit a layer.

"conv_dense" and "conv_fwcs" take any shape; "conv_fwcs_c64_1x8" is the run kernel for pixels 64
bytes apart that computes tiles of 1 x 8 output pixels (dtmm/runtime_c/generate/run_kernels.py), and
"conv_fwcs_c64_1x8_listed" the same kernel with its runs listed ahead, in flash: it needs no scratch
memory and fewer cycles, but 2 bytes for each run instead of a bit for each position.
"conv_pointwise_p64" and "conv_im2col_p32" are pointwise kernels (generate/point_kernels.py), the
latter on gathered windows. "conv_csr" and "conv_fkw" are the rivals for other kinds of pruning:
single weights, and patterns of 3x3 kernels.
"""

from __future__ import annotations

from dtmm.runtime_c import POINT_KERNELS, POINT_PIXELS, RUN_KERNELS, PointKernel

CONV_IM2COL = "conv_im2col"
CONV_CSR = "conv_csr"
CONV_DENSE = "conv_dense"
CONV_FKW = "conv_fkw"
CONV_FWCS = "conv_fwcs"
CONV_GROUPED = "conv_grouped"
CONV_POINTWISE = "conv_pointwise"

RUN_VARIANTS = tuple(kernel.name for kernel in RUN_KERNELS)
"""What a run kernel is specialised to: dtmm_conv_kernel_<variant> in C."""

POINT_VARIANTS = tuple(kernel.name for kernel in POINT_KERNELS)
"""What a pointwise kernel is specialised to, likewise."""

VARIANTS = (*RUN_VARIANTS, *POINT_VARIANTS)
"""Every dtmm_conv_kernel_<variant>."""

LISTED = "_listed"
"""What the id of a kernel whose runs lie in flash ends with."""

_RUN_FAMILIES, _POINT_FAMILIES = (CONV_DENSE, CONV_FWCS), (CONV_POINTWISE, CONV_IM2COL)


def family(kernel_id: str) -> str:
    """The operator behind a kernel id: `conv_fwcs` of `conv_fwcs_c64_1x8`."""
    kinds = ((_RUN_FAMILIES, "_c"), (_POINT_FAMILIES, "_p"))
    return next(
        (name for names, mark in kinds for name in names if kernel_id.startswith(name + mark)),
        kernel_id,
    )


def variant(kernel_id: str) -> str | None:
    """The assembly behind a kernel id: `c64_1x8` of `conv_fwcs_c64_1x8`; None: looped."""
    return kernel_id.removesuffix(LISTED)[len(family(kernel_id)) + 1 :] or None


def is_listed(kernel_id: str) -> bool:
    """Whether the runs of its weights lie in flash."""
    return kernel_id.endswith(LISTED)


def stride_w(kernel_id: str) -> int:
    """The horizontal stride that a run kernel is made for."""
    return RUN_KERNELS[RUN_VARIANTS.index(variant(kernel_id) or "")].stride_w


def run_variant(in_stride: int, stride_w: int, out_hw: tuple[int, int]) -> str | None:
    """The run kernel that fits a convolution in fewest tiles, None where none fits.

    Args:
        in_stride: bytes between input pixels. stride_w: the horizontal stride.
        out_hw: height and width of the output, in pixels.
    """
    height, width = out_hw
    fitting = [
        (-(-height // kernel.rows) * -(-width // kernel.columns), number)
        for number, kernel in enumerate(RUN_KERNELS)
        if (kernel.in_stride, kernel.stride_w) == (in_stride, stride_w)
        and kernel.rows <= height
        and kernel.columns <= width
    ]
    return RUN_VARIANTS[min(fitting)[1]] if fitting else None


def kernel_ids(
    family_id: str, in_stride: int, stride_w: int, out_hw: tuple[int, int]
) -> tuple[str, ...]:
    """Every kernel of a family that can run a convolution: looped, listed, run kernel."""
    name = run_variant(in_stride, stride_w, out_hw)
    if name is None:
        return (family_id,)
    listed = (f"{family_id}_{name}{LISTED}",) if family_id == CONV_FWCS else ()
    return (family_id, *listed, f"{family_id}_{name}")


def point_id(family_id: str, in_stride: int, stride_w: int, pixels: int) -> str | None:
    """The pointwise kernel for `conv_pointwise`, or for the windows of `conv_im2col`.

    Args:
        in_stride: bytes between input pixels, or of a window.
        pixels: that lie beside each other in the output: of a row, or all where the input's rows
            follow each other without a gap and no pixel is left out.
    """
    name = PointKernel(in_stride, stride_w).name
    return f"{family_id}_{name}" if name in POINT_VARIANTS and pixels >= POINT_PIXELS else None


RUN_KERNEL_IDS = tuple(
    f"{family_id}_{name}{suffix}"
    for family_id, suffix in ((CONV_DENSE, ""), (CONV_FWCS, ""), (CONV_FWCS, LISTED))
    for name in RUN_VARIANTS
)
"""All kernel ids of run kernels."""

POINT_KERNEL_IDS = (
    *(f"{CONV_POINTWISE}_{name}" for name in POINT_VARIANTS),
    *(f"{CONV_IM2COL}_{kernel.name}" for kernel in POINT_KERNELS if kernel.stride_w == 1),
)
"""All kernel ids of pointwise kernels."""
