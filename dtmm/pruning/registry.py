"""Importance criteria by name. A new criterion is one file and one line here, and keeps what
`dtmm.testing.criteria` checks. The user's own is named where it is used: MODULE:FUNCTION."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping

from dtmm.config import ImportanceConfig
from dtmm.data.samples import Samples
from dtmm.errors import ConfigError
from dtmm.importing import load_callable
from dtmm.network.ir import Network
from dtmm.pruning.bn_scale import bn_scale
from dtmm.pruning.chip import chip
from dtmm.pruning.fisher import fisher
from dtmm.pruning.importance import Importance
from dtmm.pruning.l1 import l1
from dtmm.pruning.l2 import l2
from dtmm.pruning.random_scores import random
from dtmm.pruning.taylor import taylor
from dtmm.pruning.taylor_squared import taylor_squared
from dtmm.pruning.taylor_weights import taylor_weights
from dtmm.training.batches import Batch, training_batches
from dtmm.training.tasks import TargetLoss, task_of

Criterion = Callable[[Network, Iterable[Batch]], Importance]
"""Scores of all units from training batches; BN statistics frozen, the network unchanged. One that
measures the loss takes it as `loss`, by default cross-entropy: without, it suits classifiers."""

CRITERIA: Mapping[str, Criterion] = {
    "bn_scale": bn_scale,
    "chip": chip,
    "fisher": fisher,
    "l1": l1,
    "l2": l2,
    "random": random,
    "taylor": taylor,
    "taylor_squared": taylor_squared,
    "taylor_weights": taylor_weights,
}


def estimate_importance(
    network: Network,
    dataset: Samples,
    config: ImportanceConfig,
    progress: Callable[[int, int], None] | None = None,
) -> Importance:
    """Scores the network's units on seeded training batches (not augmented).

    Args:
        network: unfolded, so that batch normalization keeps its shift when a weight goes.
        progress: called with (batches done, batches in all).

    Raises:
        ConfigError: the criterion is not in `CRITERIA` and names no function.
    """
    criterion = _with_loss(_criterion(config.criterion), task_of(dataset).loss)
    images = config.batches * config.batch_size
    batches = training_batches(dataset, images, config.batch_size, config.seed)
    return criterion(network, _counted(batches, config.batches, progress))


def _criterion(name: str) -> Criterion:
    if ":" in name:
        own: Criterion = load_callable(name, "importance criterion")
        return own
    if name not in CRITERIA:
        known = ", ".join(sorted(CRITERIA))
        raise ConfigError(f"unknown importance criterion '{name}'; known: {known}")
    return CRITERIA[name]


def _with_loss(criterion: Criterion, loss: TargetLoss) -> Criterion:
    if "loss" not in inspect.signature(criterion).parameters:
        return criterion
    measuring: Callable[..., Importance] = criterion
    return functools.partial(measuring, loss=loss)


def _counted(
    batches: Iterator[Batch], total: int, progress: Callable[[int, int], None] | None
) -> Iterator[Batch]:
    for done, batch in enumerate(batches, start=1):
        yield batch
        if progress is not None:
            progress(done, total)
