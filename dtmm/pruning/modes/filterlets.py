"""Filterlets alone, stripe-wise (Meng et al., "Pruning Filter in Filter", NeurIPS 2020).

Each filter gets a *skeleton*: a factor for each of its kernel positions, first 1, trained together
with the weights under an L1 penalty. The filterlets with the smallest factors of the whole network
go, whatever filter they belong to; the others take their factor into their weights. No channel
leaves the network, so consumers go on paying for filters that lost every filterlet.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dtmm.config import PruneConfig
from dtmm.data import Samples
from dtmm.network.ir import Network
from dtmm.pruning.modes.base import (
    Bools,
    Progress,
    Pruned,
    largest_within,
    prunable,
    with_masks,
)
from dtmm.pruning.modes.training import train_with_penalty
from dtmm.training.executor import Executor
from dtmm.training.operators import Layer

PENALTY = 1e-4
"""Per unit of the factors' absolute values; of the size that Meng et al. use for CIFAR-10."""


class Skeleton(nn.Module):
    """The product of a convolution's weights, OIHW, and a factor for each filterlet."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        filters, _, height, width = weight.shape
        self.factors = nn.Parameter(torch.ones(filters, 1, height, width))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.factors


def filterlets(
    network: Network,
    dataset: Samples,
    budget: int,
    config: PruneConfig,
    progress: Progress | None = None,
) -> Pruned:
    """See `Mode`. A layer keeps one filterlet at least."""
    trained, scores = learn_skeletons(network, dataset, config, progress)
    ranking = np.sort(np.concatenate([values.ravel() for values in scores.values()]))[::-1]

    def make(share: float) -> Pruned:
        count = round(share * ranking.size)
        least = ranking[count - 1] if count else np.inf
        masks: dict[str, Bools] = {
            name: (values >= least) | (values == values.max()) for name, values in scores.items()
        }
        return Pruned(with_masks(trained, masks))

    return largest_within(budget, make)


def learn_skeletons(
    network: Network, dataset: Samples, config: PruneConfig, progress: Progress | None = None
) -> tuple[Network, Mapping[str, npt.NDArray[np.float32]]]:
    """The trained network, factors multiplied in, and |factor| by layer, [C_out, kh, kw, 1]."""
    executor = Executor(network)
    names = {op.name for op in prunable(network)}
    skeletons: dict[str, Skeleton] = {}
    for operator in executor.operators:
        if isinstance(operator, Layer) and operator.op.name in names:
            skeleton = Skeleton(operator.weight)
            parametrize.register_parametrization(operator, "weight", skeleton)
            skeletons[operator.op.name] = skeleton

    def penalty() -> Tensor:
        sizes = [skeleton.factors.abs().sum() for skeleton in skeletons.values()]
        return PENALTY * torch.stack(sizes).sum()

    train_with_penalty(executor, dataset, config, penalty, progress=progress)
    factors = {
        name: skeleton.factors.detach().cpu().abs().permute(0, 2, 3, 1).numpy()
        for name, skeleton in skeletons.items()
    }
    return executor.to_network(), factors
