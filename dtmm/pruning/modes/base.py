"""What a pruning mode is, and how modes that share bytes out themselves meet a flash budget.

A *mode* takes a trained network to a pruned one. The scheduled modes (`dtmm`, `structured`) have
the integer program decide; all others decide by a rule of their own with one parameter, the share
that stays, which is set so that the stored network fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dtmm.config import PruneConfig
from dtmm.data import Samples
from dtmm.errors import InfeasibleError
from dtmm.network.ir import Conv2D, FullyConnected, Network
from dtmm.planning.kernels import only_kernel
from dtmm.planning.sizes import fully_connected_flash
from dtmm.storage import weight_format
from dtmm.storage.kernel_ids import CONV_DENSE, CONV_FWCS
from dtmm.storage.stored import PARAMETER_BYTES

Bools = npt.NDArray[np.bool_]
Progress = Callable[[int, int], None]

_STEPS = 14
"""Halvings of the interval of shares: 1 / 2^14 of the weights is less than a byte matters."""


@dataclass(frozen=True)
class Pruned:
    """What a mode leaves, before fine-tuning.

    Attributes:
        network: unfolded and physically small; what is pruned and still there is exactly zero.
        kernels: kernel id by convolution, where it is not the default for the weights (dense, or
            FWCS where a filterlet is zero).
        masks: by convolution, bool [C_out, kh, kw, C_in] of the weights that stay, for those that
            lose single weights; other zeros are whole filterlets.
    """

    network: Network
    kernels: Mapping[str, str] = field(default_factory=dict)
    masks: Mapping[str, Bools] = field(default_factory=dict)


class Mode(Protocol):
    """A mode that decides by itself what stays."""

    def __call__(
        self,
        network: Network,
        dataset: Samples,
        budget: int,
        config: PruneConfig,
        progress: Progress | None = None,
    ) -> Pruned:
        """The network within `budget`, see `stored_bytes`.

        Args:
            network: trained, unfolded; not changed.
            progress: called with (steps done, steps in all) by modes that train.

        Raises:
            InfeasibleError: the mode cannot make the network so small.
            ConfigError: a setting that does not suit the network.
        """


def prunable(network: Network) -> list[Conv2D]:
    """The convolutions that lose weights: those with a choice of kernels and a window above 1x1.

    The first layer stays whole, as everywhere in this package, and so do shortcuts.
    """
    return [
        op
        for op in network.convs()
        if only_kernel(network, op) is None and max(network.params[op.weight].shape[1:3]) > 1
    ]


def stored_bytes(pruned: Pruned) -> int:
    """Flash bytes of the layers' weights, index and parameters, exact."""
    total = 0
    for op in pruned.network.ops:
        if isinstance(op, FullyConnected):
            outputs, inputs = pruned.network.params[op.weight].shape
            total += fully_connected_flash(inputs, outputs)
        elif isinstance(op, Conv2D):
            weights = pruned.network.params[op.weight]
            total += _weight_bytes(pruned, op) + len(weights) * PARAMETER_BYTES
    return total


def _weight_bytes(pruned: Pruned, op: Conv2D) -> int:
    weights = pruned.network.params[op.weight] != 0
    kernel = pruned.kernels.get(op.name) or only_kernel(pruned.network, op)
    if kernel is None:
        kernel = CONV_DENSE if weights.any(axis=3).all() else CONV_FWCS
    return encoded_bytes(weights, kernel)


def encoded_bytes(kept: Bools, kernel: str) -> int:
    """Bytes of weights and index of a layer of which the weights `kept` [OHWI] are not zero."""
    stored = weight_format(kernel).encode(kept.astype(np.int8))
    return int(stored.weights.nbytes + stored.index.nbytes)


def largest_within(budget: int, make: Callable[[float], Pruned]) -> Pruned:
    """Of what `make` leaves at shares kept from 0 to 1, the largest that needs at most `budget`.

    Sizes must not fall as the share rises.

    Raises:
        InfeasibleError: even a share of 0 needs more.
    """
    whole = make(1.0)
    if stored_bytes(whole) <= budget:
        return whole
    best = make(0.0)
    if (least := stored_bytes(best)) > budget:
        raise InfeasibleError(
            f"this pruning mode leaves {least} B of weights, index and parameters at least, "
            f"expected at most {budget} B: raise budget.flash"
        )
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        tried = make(middle)
        if stored_bytes(tried) <= budget:
            low, best = middle, tried
        else:
            high = middle
    return best


def with_masks(network: Network, masks: Mapping[str, Bools]) -> Network:
    """The network with the weights of convolutions that masks rule out at exactly zero."""
    params = dict(network.params)
    for op in network.convs():
        if op.name in masks:
            params[op.weight] = np.where(masks[op.name], params[op.weight], np.float32(0))
    return replace(network, params=params)
