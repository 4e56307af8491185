"""PatDNN: every 3x3 kernel keeps four weights in one of a few patterns, weak kernels go (Niu et
al., "PatDNN: Achieving Real-Time DNN Execution on Mobile Devices with Pattern-based Weight
Pruning", ASPLOS 2020).

- Pattern set: a kernel's natural pattern is its centre and its three largest other weights; the
  `prune.patterns` most frequent ones of the whole network are the set.
- Pattern pruning: each kernel takes the pattern that keeps most of its energy.
- Connectivity pruning: of each layer the kernels with the smallest norm go, of all layers the same
  share; it is set by the budget.
- ADMM: the network is trained on its loss plus rho / 2 |W - Z + U|^2, where Z is the nearest
  pruned network and U the scaled dual; both are updated after each epoch, and rho rises tenfold
  up to RHO in the last one (fewer epochs begin with a larger one).

3x3 convolutions are stored as FKW. Others (a 1x1 shortcut, the first layer) stay whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from dtmm.config import PruneConfig
from dtmm.data import Samples
from dtmm.errors import ConfigError
from dtmm.network.ir import Conv2D, Network
from dtmm.pruning.modes.base import (
    Bools,
    Progress,
    Pruned,
    encoded_bytes,
    largest_within,
    prunable,
    with_masks,
)
from dtmm.pruning.modes.training import train_with_penalty
from dtmm.storage.kernel_ids import CONV_DENSE, CONV_FKW
from dtmm.training.executor import Executor

ENTRIES = 4
"""Weights that a pattern keeps of nine."""
RHO = 1.0
"""Strength of the last epoch's penalty: weights then halve their distance in some ten steps."""
_CENTRE = 4

Weights = npt.NDArray[np.float32]


def patdnn(
    network: Network,
    dataset: Samples,
    budget: int,
    config: PruneConfig,
    progress: Progress | None = None,
) -> Pruned:
    """See `Mode`."""
    layers = [op for op in prunable(network) if network.params[op.weight].shape[1:3] == (3, 3)]
    if not layers:
        raise ConfigError(
            f"prune.mode=patdnn prunes 3x3 convolutions, network {network.name!r} has none besides "
            "its first layer"
        )
    patterns = natural_patterns([network.params[op.weight] for op in layers], config.patterns)
    share = _share(_within(network, layers, patterns, budget), layers[0])
    trained = admm(network, dataset, layers, patterns, share, config, progress)
    return _within(trained, layers, patterns, budget)


def natural_patterns(layers: Sequence[Weights], count: int) -> Bools:
    """[count, 9] the most frequent natural patterns, of equally frequent ones the first.

    Args:
        layers: OHWI weights of 3x3 convolutions.
    """
    bits = 1 << np.arange(9)
    codes = []
    for weights in layers:
        sizes = np.abs(_kernels(weights)).reshape(-1, 9)
        sizes[:, _CENTRE] = np.inf
        largest = np.argpartition(-sizes, ENTRIES - 1, axis=1)[:, :ENTRIES]
        codes.append(bits[largest].sum(axis=1))
    values, times = np.unique(np.concatenate(codes), return_counts=True)
    chosen = values[np.argsort(-times, kind="stable")[:count]]
    kept: Bools = (chosen[:, None] & bits) > 0
    return kept


def project(weights: Weights, patterns: Bools, share: float) -> Bools:
    """[C_out, 3, 3, C_in] the weights that stay if so large a share of the kernels does.

    The nearest network, in the sum of squares, that the patterns and the share allow.
    """
    kernels = _kernels(weights)
    energy = np.square(kernels, dtype=np.float64) @ patterns.T.astype(np.float64)
    kept = patterns[energy.argmax(axis=2)]
    norms = energy.max(axis=2).ravel()
    alive = np.zeros(norms.size, np.bool_)
    alive[np.argsort(-norms, kind="stable")[: max(round(share * norms.size), 1)]] = True
    kept &= alive.reshape(*kernels.shape[:2], 1)
    filters, channels, _ = kernels.shape
    mask: Bools = kept.reshape(filters, channels, 3, 3).transpose(0, 2, 3, 1)
    return mask


def _kernels(weights: Weights) -> Weights:
    """[C_out, C_in, 9] of OHWI weights."""
    filters, _, _, channels = weights.shape
    return weights.transpose(0, 3, 1, 2).reshape(filters, channels, 9).copy()


def _within(network: Network, layers: Sequence[Conv2D], patterns: Bools, budget: int) -> Pruned:
    def make(share: float) -> Pruned:
        if share == 1.0:  # nothing is to go
            return Pruned(network)
        masks = {op.name: project(network.params[op.weight], patterns, share) for op in layers}
        masks = {
            name: kept
            for name, kept in masks.items()
            if encoded_bytes(kept, CONV_FKW) < encoded_bytes(np.ones_like(kept), CONV_DENSE)
        }
        return Pruned(with_masks(network, masks), dict.fromkeys(masks, CONV_FKW), masks)

    return largest_within(budget, make)


def _share(pruned: Pruned, layer: Conv2D) -> float:
    """The share of kernels that stays: the same in every layer."""
    kept = pruned.masks.get(layer.name)
    return 1.0 if kept is None else float(kept.any(axis=(1, 2)).mean())


def admm(
    network: Network,
    dataset: Samples,
    layers: Sequence[Conv2D],
    patterns: Bools,
    share: float,
    config: PruneConfig,
    progress: Progress | None = None,
) -> Network:
    """The network trained towards what the patterns and the share of kernels allow.

    Args:
        layers: 3x3 convolutions of `network`.
    """
    executor = Executor(network)
    weights = {op.name: executor.weight(op.name) for op in layers}  # OIHW
    targets: dict[str, torch.Tensor] = {}
    duals = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    rho = RHO / 10 ** (config.epochs - 1)

    @torch.no_grad()
    def update_targets() -> None:
        for name, weight in weights.items():
            duals[name] = duals[name].to(weight.device)
            wanted = weight + duals[name]
            mask = project(_ohwi(wanted), patterns, share)
            kept = torch.from_numpy(mask.transpose(0, 3, 1, 2).copy())
            targets[name] = wanted * kept.to(weight.device)

    @torch.no_grad()
    def after_epoch(_: int) -> None:
        nonlocal rho
        update_targets()
        for name, weight in weights.items():
            duals[name] += weight - targets[name]
        rho *= 10

    def penalty() -> torch.Tensor:
        value: torch.Tensor = rho / 2 * _distance(weights, targets, duals)
        return value

    update_targets()
    train_with_penalty(executor, dataset, config, penalty, after_epoch, progress)
    return executor.to_network()


def _distance(
    weights: Mapping[str, torch.Tensor],
    targets: Mapping[str, torch.Tensor],
    duals: Mapping[str, torch.Tensor],
) -> torch.Tensor:
    """|W - Z + U|^2 over all layers, on the device of W."""
    parts = []
    for name, weight in weights.items():
        wanted = (targets[name] - duals[name]).to(weight.device)
        parts.append((weight - wanted).square().sum())
    return torch.stack(parts).sum()


def _ohwi(weight: torch.Tensor) -> Weights:
    return weight.detach().cpu().permute(0, 2, 3, 1).contiguous().numpy()
