"""Where torch stores weights otherwise: OIHW convolutions, images flattened as C, H, W.

A vector flattened from an image of several pixels has its elements in another order than ours
(H, W, C). Layers that read such a vector have their parameters permuted; numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from dtmm.errors import UnsupportedError
from dtmm.network.check import param_keys
from dtmm.network.ir import (
    Activate,
    BatchNorm,
    Binary,
    Concat,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Lookup,
    Network,
    Op,
    Reshape,
    Shape,
    Softmax,
    op_inputs,
)

Params = dict[str, npt.NDArray[np.float32]]
Order = npt.NDArray[np.intp]


def params_from_torch(network: Network) -> Params:
    """Our parameters from those of a network whose values are still in torch's layout."""
    return _reordered(network, (0, 2, 3, 1), lambda order: order)


def params_to_torch(network: Network) -> Params:
    """A network's parameters in torch's layout: the inverse of `params_from_torch`."""
    return _reordered(network, (0, 3, 1, 2), np.argsort)


def _reordered(
    network: Network, axes: tuple[int, int, int, int], direction: Callable[[Order], Order]
) -> Params:
    convs = {op.weight for op in network.ops if isinstance(op, Conv2D | DepthwiseConv2D)}
    orders = _orders(network)
    params: Params = {}
    for key, values in network.params.items():
        if key in convs:
            values = values.transpose(axes)
        elif key in orders:
            values = values[..., direction(orders[key])]
        params[key] = np.ascontiguousarray(values)
    return params


def _orders(network: Network) -> dict[str, Order]:
    """Per parameter of flattened columns: the torch index of each of our elements."""
    images = _flattened(network)
    orders: dict[str, Order] = {}
    for op in network.ops:
        image = images.get(op_inputs(op)[0])
        if image is None or not isinstance(op, FullyConnected | BatchNorm | Binary):
            continue
        _, height, width, channels = image
        order = np.arange(channels * height * width).reshape(channels, height, width)
        keys = (op.weight,) if isinstance(op, FullyConnected) else param_keys(op)
        keys = tuple(key for key in keys if network.params[key].shape[-1] == order.size)
        orders.update(dict.fromkeys(keys, order.transpose(1, 2, 0).ravel()))
    return orders


def _flattened(network: Network) -> Mapping[str, Shape]:
    """The image of several pixels behind each flattened tensor.

    Raises:
        UnsupportedError: an Add of a flattened image and something of another order, or a flattened
            image at the network's output: there the order of elements would show.
    """
    images: dict[str, Shape] = {}
    for op in network.ops:
        found = _image_behind(network, op, images)
        if found is not None:
            images[op.output] = found
    for name in network.outputs:
        if name in images:
            raise UnsupportedError(
                f"output '{name}' flattens an image of shape {images[name]}: its elements would "
                "come in H, W, C order; return the image, or end in a linear layer"
            )
    return images


def _image_behind(network: Network, op: Op, images: Mapping[str, Shape]) -> Shape | None:
    if isinstance(op, Reshape):
        shape = network.tensors[op.input]
        return shape if shape[1] * shape[2] > 1 else None
    if isinstance(op, Conv2D | FullyConnected):
        return None
    sources = [images.get(name) for name in op_inputs(op)]
    joined = isinstance(op, Concat) and any(sources)
    if joined or (isinstance(op, Binary) and len(set(sources)) > 1):
        raise UnsupportedError(
            f"{type(op).__name__} '{op.name}' joins a flattened image with a tensor in another "
            f"order: {sources[0]} and {sources[1]}; flatten afterwards, or join two linear layers"
        )
    keeps = Activate | BatchNorm | Binary | Softmax | Lookup
    return sources[0] if isinstance(op, keeps) else None
