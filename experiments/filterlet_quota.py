"""Filterlets chosen with and without a quota per filter: dead filters, and the loss before tuning.

Every 3x3 convolution of ResNet-12 but the first keeps the same share of its filterlets by squared
Taylor scores: the best of all filters together, or first the best one of every filter (what
`select` does). A filter without a filterlet is dead: a constant that its consumers still pay for.
Losses are mean cross-entropies on training images, with batch normization re-estimated.

    python -m experiments.filterlet_quota
"""

from __future__ import annotations

from typing import Any

import click
import numpy as np
import pandas as pd

import dtmm
from dtmm.config import ImportanceConfig, load_config
from dtmm.config_values import Count
from dtmm.network.ir import Conv2D, Network
from dtmm.pipeline.source import ConfiguredSource
from dtmm.planning.nouns import Selection
from dtmm.planning.ranking import Bools, Floats, kept_filterlets
from dtmm.pruning.counts import kept_counts
from dtmm.pruning.measured_loss import pruned_loss
from dtmm.pruning.registry import estimate_importance
from dtmm.pruning.removal import remove
from dtmm.table import write_table
from dtmm.training.batches import training_batches
from experiments.experiment import RESULTS, commit

NAME = "filterlet_quota"
SHARES = (0.5, 0.3, 0.2, 0.15)
IMAGES = 512
"""Training images to judge on, and as many others to re-estimate on."""
IMPORTANCE = ImportanceConfig("taylor_squared", Count(32), Count(16))


def without_quota(scores: Floats, count: int) -> Bools:
    """[F, positions] bool: the `count` highest scores, whosever they are."""
    mask = np.zeros(scores.shape, dtype=np.bool_)
    mask.ravel()[np.argsort(-scores.ravel(), kind="stable")[:count]] = True
    return mask


RULES = {"quota": kept_filterlets, "none": without_quota}


def pruned(network: Network, scores: dict[str, Floats], share: float, rule: str) -> Network:
    """Every prunable convolution at a share of its filterlets, at least one per filter."""
    masks = {}
    for conv in network.convs()[1:]:
        shape = network.params[conv.weight].shape[:3]
        if prunable(network, conv):
            values = scores[conv.name].reshape(shape[0], -1)
            count = max(round(share * values.size), shape[0])
            masks[conv.name] = RULES[rule](values, count).reshape(*shape, 1)
    return remove(network, Selection({}, masks))


def prunable(network: Network, conv: Conv2D) -> bool:
    """Whether a filter has more than one filterlet."""
    return int(np.prod(network.params[conv.weight].shape[1:3])) > 1


def measure(model: str, data: str, shares: tuple[float, ...], images: int) -> pd.DataFrame:
    """A row per share and rule."""
    settings = load_config(overrides=[f"model.name={model}", f"data.name={data}"])
    source = ConfiguredSource(settings)
    network, _ = source.network()
    scores = dict(estimate_importance(network, source.dataset, IMPORTANCE).filterlets)
    batches = list(training_batches(source.dataset, 2 * images, 128, seed=0))
    half = len(batches) // 2
    rows: list[dict[str, Any]] = []
    for share in shares:
        for rule in RULES:
            small = pruned(network, scores, share, rule)
            loss = pruned_loss(small, batches[half:], batches[:half])
            counts = kept_counts(network, small)
            rows.append(
                {
                    "share": share,
                    "rule": rule,
                    "filters": sum(c.channels for c in counts),
                    "dead_filters": sum(c.dead_filters for c in counts),
                    "raw_loss": loss.raw,
                    "reestimated_loss": loss.reestimated,
                }
            )
            click.echo(" ".join(f"{key} {value}" for key, value in rows[-1].items()), err=True)
    return pd.DataFrame(rows)


@click.command(help=__doc__.splitlines()[0])
def main() -> None:
    """Command line."""
    table = measure("resnet12", "fashion_mnist", SHARES, IMAGES)
    about = {
        "experiment": f"experiments.{NAME}",
        "commit": commit(),
        "dtmm": dtmm.__version__,
        "network": "resnet12 on fashion_mnist, the shipped checkpoint",
        "images": f"{IMAGES} training images judged, {IMAGES} others re-estimate",
        "unit": "share: of filterlets kept; loss: nats",
    }
    write_table(RESULTS / f"{NAME}.csv", table.round(4), about)


if __name__ == "__main__":
    main()
