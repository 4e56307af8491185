"""What a user can do about an operator that cannot be read, and the list of those that can."""

from __future__ import annotations

SUPPORTED = (
    "conv2d (also grouped, depthwise), linear, batch_norm, relu, relu6, clamp from 0, add, sub, "
    "mul and div (of tensors, of one value per channel, of a constant), cat of channels, pad with "
    "zeros, slices of height and width, max_pool2d, avg_pool2d, global average pooling "
    "(adaptive_avg_pool2d(1) or mean over height and width), softmax over channels, sigmoid, "
    "hardsigmoid, hardswish, silu, leaky_relu, flatten, dropout"
)

_SHUFFLE = (
    "if it moves channels (a channel shuffle, a transposition), train the model without: plain or "
    "depthwise and 1x1 convolutions mix channels by themselves"
)
_NORM = "train with BatchNorm2d, which folds into the convolution before it"
_SMOOTH = "train with relu, hardswish or hardsigmoid in its place"
_SIZE = "give the model up to here; what enlarges images has no int8 form in TFLite's set here"

_BY_OPERATOR = {
    "view": _SHUFFLE, "reshape": _SHUFFLE, "permute": _SHUFFLE, "transpose": _SHUFFLE,
    "flatten": _SHUFFLE, "channel_shuffle": _SHUFFLE, "pixel_shuffle": _SHUFFLE,
    "group_norm": _NORM, "layer_norm": _NORM, "instance_norm": _NORM,
    "tanh": _SMOOTH, "gelu": _SMOOTH, "elu": _SMOOTH, "softplus": _SMOOTH, "mish": _SMOOTH,
    "prelu": "train with relu or leaky_relu, which have no weights, in its place",
    "conv_transpose2d": _SIZE, "upsample_nearest2d": _SIZE, "upsample_bilinear2d": _SIZE,
}  # fmt: skip

_ANY = (
    "write that module with supported operators, or give the part of the model in front of it and "
    "leave the rest to your own code"
)


def remedy(operator: str) -> str:
    """What to do about an operator, such as aten.tanh.default."""
    name = operator.removeprefix("aten.").split(".")[0].rstrip("_")
    return _BY_OPERATOR.get(name, _ANY)
