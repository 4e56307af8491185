"""With the quota no filter dies, without it some do; both keep the same number of filterlets."""

from __future__ import annotations

import numpy as np
import torch

from experiments.filterlet_quota import RULES, measure


def test_both_rules_keep_as_many() -> None:
    scores = np.random.default_rng(0).random((8, 9))
    scores[0] *= 0.01
    quota, free = (RULES[name](scores, 16) for name in ("quota", "none"))
    assert quota.sum() == free.sum() == 16
    assert quota.any(axis=1).all() and not free.any(axis=1).all()
    assert scores[free].min() >= scores[~free].max()


def test_dead_filters_are_counted() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    table = measure("tiny_resnet", "digits", (0.2,), 128).set_index("rule")
    torch.set_num_threads(threads)
    assert table.loc["quota", "dead_filters"] == 0 < table.loc["none", "dead_filters"]
    assert (table["reestimated_loss"] > 0).all()
