"""Asserts that removing units is what masking them is: the check that every export runs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from dtmm.errors import DtmmError
from dtmm.network.groups import channel_groups
from dtmm.network.ir import Network
from dtmm.planning.nouns import Selection
from dtmm.pruning.removal import remove
from dtmm.training.executor import Executor
from dtmm.training.loop import to_tensor

CHECKED_IMAGES = 16
"""Training images on which they must agree."""

TOLERANCE = 1e-3
"""Of the largest output: sums of fewer terms are rounded differently, nothing more."""


@torch.no_grad()
def require_equal_outputs(
    network: Network, selection: Selection, removed: Network, images: npt.NDArray[np.float32]
) -> None:
    """Compare the network with the selection masked out and what was physically removed.

    Args:
        network: whole, in eval mode. removed: `remove(network, selection)`.
        images: [N, H, W, C] float32, preprocessed.

    Raises:
        DtmmError: outputs differ by more than rounding.
    """
    masked = Executor(remove(network, Selection({}, selection.filterlets))).eval()
    gates = {
        group.name: torch.from_numpy(selection.channels[group.name].astype(np.float32))
        for group in channel_groups(network)
        if group.prunable and not group.segments and group.name in selection.channels
    }
    x = to_tensor(images)
    expected, found = masked(x, gates), Executor(removed).eval()(x)
    worst = float((expected - found).abs().max())
    largest = float(expected.abs().max())
    if not worst <= TOLERANCE * max(largest, 1.0):
        raise DtmmError(
            f"removing units of {network.name!r} changes its outputs by up to {worst:.3g} "
            f"(outputs reach {largest:.3g}): masked and removed networks must agree"
        )
