"""Pruning units: their bytes by hand, what finer units keep, and a quick run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from dtmm.network.ir import Network
from dtmm.pruning.fisher import fisher, fisher_of_weights
from dtmm.pruning.modes.base import encoded_bytes
from dtmm.storage.fwcs import encode_fwcs
from dtmm.storage.kernel_ids import CONV_DENSE
from dtmm.storage.stored import VECTOR_BYTES, round_up
from dtmm.table import read_table
from dtmm.training.batches import training_batches
from experiments import pruning_units
from experiments.pruning_units import QUICK, Subject, load_subject
from experiments.units import UNITS, blocks, dense_bytes, largest_within


@pytest.fixture(scope="module")
def subject() -> Subject:
    return load_subject(QUICK)


def test_scores_of_weights_add_up_to_those_of_filterlets(subject: Subject) -> None:
    batches = list(training_batches(subject.dataset, 32, 16, seed=1))
    single = fisher_of_weights(subject.network, batches)
    whole = fisher(subject.network, batches).filterlets
    for name, scores in single.items():
        assert scores.shape == subject.network.params[_weight(subject.network, name)].shape
        np.testing.assert_allclose(scores.sum(axis=3), whole[name])


def _weight(network: Network, name: str) -> str:
    return next(op.weight for op in network.convs() if op.name == name)


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_left_fits_and_zeros_are_what_left(unit: str, subject: Subject) -> None:
    budget = int(0.6 * dense_bytes(subject.network))
    kept = largest_within(UNITS[unit], subject.network, subject.scores, budget)
    assert kept is not None
    assert 0.8 * budget < kept.bytes <= budget
    assert 0 <= kept.index < kept.bytes
    assert 0 < kept.importance < 1
    pairs = zip(subject.network.convs(), kept.network.convs(), strict=True)
    weights = [kept.network.params[small.weight] for _, small in pairs]
    alive = sum(int(np.count_nonzero(each)) for each in weights)
    assert alive < sum(each.size for each in subject.scores.values())


def test_a_block_of_all_channels_is_fwcs(subject: Subject) -> None:
    kept = blocks(None)(subject.network, subject.scores, 0.5)
    total = index = 0
    for op in kept.network.convs():
        weight = kept.network.params[op.weight]
        assert weight.any(axis=(1, 2, 3)).all()  # no filter dies
        if (weight == 0).all(axis=3).any():
            stride = round_up(weight.shape[3], VECTOR_BYTES)
            stored = encode_fwcs((weight != 0).astype(np.int8), stride)
            total += stored.weights.nbytes + stored.index.nbytes
            index += stored.index.nbytes
        else:
            total += encoded_bytes(np.ones(weight.shape, np.bool_), CONV_DENSE)
    assert index > 0
    assert (kept.bytes, kept.index) == (total, index)


def test_everything_kept_is_the_network(subject: Subject) -> None:
    for name in ("filter", "filterlet", "single weight"):
        kept = UNITS[name](subject.network, subject.scores, 1.0)
        assert kept.importance == pytest.approx(1)
        assert kept.bytes == dense_bytes(subject.network)


def test_a_budget_below_the_index_is_refused(subject: Subject) -> None:
    unit = UNITS["single weight"]
    assert largest_within(unit, subject.network, subject.scores, 10) is None


def test_a_difference_is_compared_with_the_spread() -> None:
    filterlet = pd.Series([88.0, 90.0])  # a spread of 1.41
    assert pruning_units.differs(pd.Series([92.0, 92.0]), filterlet) == "yes"
    assert pruning_units.differs(pd.Series([89.5, 91.5]), filterlet) == "no"
    assert pruning_units.differs(pd.Series([92.0]), filterlet) == "one seed"
    assert pruning_units.differs(filterlet, filterlet) == ""
    assert pruning_units.differs(pd.Series(dtype=float), filterlet) == ""


def test_tuned_networks_have_a_panel_of_their_own() -> None:
    bare = {"unit": "filter", "share": 0.3, "seed": 0, "tuned_images": 0, "status": "measured",
            "bytes": 10, "index": 0, "importance_kept": 0.5, "accuracy": 0.5}  # fmt: skip
    assert len(pruning_units.draw(pd.DataFrame([bare])).axes) == 2
    both = pd.DataFrame([bare, {**bare, "tuned_images": 9, "accuracy": 0.875}])
    [point, *_] = pruning_units.draw(both).axes[-1].lines
    assert point.get_ydata()[0] == 87.5


def test_quick(tmp_path: Path) -> None:
    command = pruning_units.EXPERIMENT.command()
    done = CliRunner().invoke(command, ["--quick", "--out", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    table, about = read_table(
        tmp_path / "pruning_units.csv", text=("unit", "status", "dataset_sha256")
    )
    assert set(table["unit"]) == set(UNITS)
    known = table[table["status"] == "measured"]
    for _, part in known.groupby("unit"):
        assert part.sort_values("bytes")["importance_kept"].is_monotonic_increasing
    assert (
        set(table["commit"]) == {about["commit"]} and table["dataset_sha256"].str.len().eq(12).all()
    )
    assert about["tuned networks"] == "0 of 0"
    assert (tmp_path / "pruning_units.png").is_file()
