"""Random scores: what a criterion has to beat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from dtmm.network.ir import Network
from dtmm.pruning.importance import Importance
from dtmm.pruning.shares import layer_shares, scored_groups
from dtmm.training.batches import Batch


def random(network: Network, batches: Iterable[Batch]) -> Importance:
    """Uniform between 0 and 1, 0 for filterlets that are pruned already; not in nats.

    The labels of the first batch are the seed, so another `importance.seed` draws other scores.
    """
    labels = [batch_labels.tolist() for _, batch_labels in _first(batches)]
    rng = np.random.default_rng(labels[0] if labels else 0)
    return Importance(
        criterion="random",
        channels={g.name: rng.random(g.channels) for g in scored_groups(network)},
        filterlets={
            name: rng.random(shares.shape) * (shares > 0)
            for name, shares in layer_shares(network, np.abs).items()
            if shares.ndim == 3
        },
        aggregation="none",
        images=0,
    )


def _first(batches: Iterable[Batch]) -> Iterator[Batch]:
    for batch in batches:
        yield batch
        return
