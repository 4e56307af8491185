"""The operator shapes that are measured, and where they come from.

The 3x3 table is that of DESIGN section 7; the others are the layers of MobileNetV1-0.25 (96x96x3),
DS-CNN (49x10), ResNet-8 and the deep autoencoder of MLPerf Tiny, and of ResNet-12 and VGG-11 of
the paper. Padding is TFLite's SAME for convolutions and none for pooling.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

CONV = "conv"
DEPTHWISE = "depthwise"
FULLY_CONNECTED = "fully_connected"
ADD = "add"
AVERAGE_POOL = "average_pool"
MAX_POOL = "max_pool"


@dataclass(frozen=True, order=True)
class Shape:
    """One operator on one shape: height and width are the input's; cin, cout count channels."""

    operator: str
    h: int
    w: int
    cin: int
    cout: int
    kernel_h: int = 1
    kernel_w: int = 1
    stride: int = 1

    @property
    def is_pool(self) -> bool:
        """Whether it takes a window without padding and has no weights."""
        return self.operator in (AVERAGE_POOL, MAX_POOL)

    @property
    def out_hw(self) -> tuple[int, int]:
        """Output pixels: SAME padding, for pooling none."""
        if self.is_pool:
            size = ((self.h, self.kernel_h), (self.w, self.kernel_w))
            return tuple((n - k) // self.stride + 1 for n, k in size)  # type: ignore[return-value]
        return -(-self.h // self.stride), -(-self.w // self.stride)

    @property
    def pad(self) -> tuple[int, int]:
        """(top, left) pixels; SAME puts an odd pixel at the bottom and the right."""
        if self.is_pool:
            return 0, 0
        sizes = zip((self.h, self.w), self.out_hw, (self.kernel_h, self.kernel_w), strict=True)
        total = (max((out - 1) * self.stride + k - size, 0) for size, out, k in sizes)
        top, left = (each // 2 for each in total)
        return top, left

    @property
    def halo(self) -> int:
        """Pixels of zero point that the input carries so that every window pixel exists."""
        if self.is_pool:
            return 0
        sizes = zip(
            (self.h, self.w), self.out_hw, (self.kernel_h, self.kernel_w), self.pad, strict=True
        )
        behind = ((out - 1) * self.stride + k - pad - size for size, out, k, pad in sizes)
        return max(*self.pad, *behind, 0)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the dense operator; 0 where it has no weights.

        Taps on the padding count, as they do in every published figure.
        """
        out_h, out_w = self.out_hw
        window = out_h * out_w * self.kernel_h * self.kernel_w
        if self.operator == CONV:
            return window * self.cin * self.cout
        if self.operator == DEPTHWISE:
            return window * self.cout
        return self.cin * self.cout if self.operator == FULLY_CONNECTED else 0

    def describe(self) -> str:
        """One short line for people."""
        kernel = f" {self.kernel_h}x{self.kernel_w}" if self.kernel_h * self.kernel_w > 1 else ""
        stride = f" s{self.stride}" if self.stride > 1 else ""
        channels = f"{self.cin}" if self.cin == self.cout else f"{self.cin}->{self.cout}"
        return f"{self.operator}{kernel}{stride} {self.h}x{self.w}, {channels}"


def _square(size: int, cin: int, cout: int, kernel: int, stride: int = 1) -> Shape:
    return Shape(CONV, size, size, cin, cout, kernel, kernel, stride)


def _depthwise(h: int, w: int, channels: int, stride: int) -> Shape:
    return Shape(DEPTHWISE, h, w, channels, channels, 3, 3, stride)


# (H, Cin, Cout) of DESIGN section 7
TABLE = tuple(
    _square(size, cin, cout, 3)
    for size, cin, cout in (
        (32, 16, 16),
        (32, 32, 32),
        (16, 64, 64),
        (8, 128, 128),
        (4, 256, 256),
        (32, 3, 32),
    )
)
ODD = tuple(_square(size, c, c, 3) for size, c in ((32, 31), (16, 53), (8, 83)))
SPARSE = (*TABLE[:-1], *ODD)
"""Where the share of filterlets removed is varied."""

SPARSITIES = (0, 25, 50, 75, 90, 95)
"""Filterlets removed, in percent."""

STRIDED = (
    _square(32, 16, 32, 3, 2),  # ResNet-8
    _square(16, 32, 64, 3, 2),
    _square(32, 32, 64, 3, 2),  # ResNet-12
    _square(16, 64, 128, 3, 2),
    _square(8, 128, 256, 3, 2),
    _square(32, 16, 32, 1, 2),  # shortcuts
    _square(16, 32, 64, 1, 2),
    _square(32, 32, 64, 1, 2),
    _square(16, 64, 128, 1, 2),
    _square(8, 128, 256, 1, 2),
    _square(96, 3, 8, 3, 2),  # first layers: MobileNet, DS-CNN
    Shape(CONV, 49, 10, 1, 64, 10, 4, 2),
)
OTHER_3X3 = (
    _square(32, 3, 16, 3),  # ResNet-8
    _square(16, 32, 32, 3),
    _square(8, 64, 64, 3),
)
POINTWISE_TABLE = tuple(
    _square(size, c, c, 1) for size, c in ((32, 32), (16, 64), (8, 128), (4, 256))
)
"""Pointwise at the sizes of the 3x3 table."""

POINTWISE = (
    _square(48, 8, 16, 1),  # MobileNetV1-0.25
    _square(24, 16, 32, 1),
    _square(24, 32, 32, 1),
    _square(12, 32, 64, 1),
    _square(12, 64, 64, 1),
    _square(6, 64, 128, 1),
    _square(6, 128, 128, 1),
    _square(3, 128, 256, 1),
    _square(3, 256, 256, 1),
    Shape(CONV, 25, 5, 64, 64),  # DS-CNN
)
DEPTHWISE_SHAPES = (
    _depthwise(48, 48, 8, 1),  # MobileNetV1-0.25
    _depthwise(48, 48, 16, 2),
    _depthwise(24, 24, 32, 1),
    _depthwise(24, 24, 32, 2),
    _depthwise(12, 12, 64, 1),
    _depthwise(12, 12, 64, 2),
    _depthwise(6, 6, 128, 1),
    _depthwise(6, 6, 128, 2),
    _depthwise(3, 3, 256, 1),
    _depthwise(25, 5, 64, 1),  # DS-CNN
)
FULLY_CONNECTED_SHAPES = tuple(
    Shape(FULLY_CONNECTED, 1, 1, inputs, outputs)
    for inputs, outputs in (
        (640, 128),  # autoencoder
        (128, 128),
        (128, 8),
        (8, 128),
        (128, 640),
        (64, 12),  # DS-CNN
        (64, 10),  # ResNet-8
        (256, 2),  # MobileNet
        (256, 10),  # ResNet-12
    )
)
ADDS = tuple(
    Shape(ADD, size, size, c, c)
    for size, c in (
        (32, 16),  # ResNet-8
        (16, 32),
        (8, 64),
        (32, 32),  # ResNet-12
        (16, 64),
        (8, 128),
        (4, 256),
    )
)
POOLS = (
    Shape(AVERAGE_POOL, 25, 5, 64, 64, 25, 5, 1),  # DS-CNN
    Shape(AVERAGE_POOL, 8, 8, 64, 64, 8, 8, 1),  # ResNet-8
    Shape(AVERAGE_POOL, 3, 3, 256, 256, 3, 3, 1),  # MobileNet
    Shape(MAX_POOL, 32, 32, 32, 32, 2, 2, 2),  # VGG-11
    Shape(MAX_POOL, 16, 16, 64, 64, 2, 2, 2),
    Shape(MAX_POOL, 8, 8, 128, 128, 2, 2, 2),
    Shape(MAX_POOL, 4, 4, 256, 256, 2, 2, 2),
)


def all_shapes() -> tuple[Shape, ...]:
    """Every shape once, in the order of this file."""
    return unique(
        (
            *TABLE,
            *ODD,
            *OTHER_3X3,
            *STRIDED,
            *POINTWISE_TABLE,
            *POINTWISE,
            *DEPTHWISE_SHAPES,
            *FULLY_CONNECTED_SHAPES,
            *ADDS,
            *POOLS,
        )
    )


def unique(shapes: Iterable[Shape]) -> tuple[Shape, ...]:
    """Without repetitions, first come first."""
    return tuple(dict.fromkeys(shapes))
