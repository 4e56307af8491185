"""Random schedules of one size, rank correlations, and a quick run from networks to figures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from scipy.stats import kendalltau, spearmanr

from dtmm.errors import DtmmError
from dtmm.network.fold import fold
from dtmm.planning import select
from dtmm.planning.levels import Levels, choices
from dtmm.pruning.l2 import l2
from dtmm.pruning.removal import remove
from dtmm.table import read_table
from experiments.experiment import RESULTS
from experiments.loss_fidelity import ESTIMATORS, FULL, TRUTHS, main, missing
from experiments.loss_fidelity_table import BEGIN, DOCUMENT, END, render
from experiments.random_schedules import dense, draw, schedule
from experiments.rank_correlation import kendall, ranks, spearman
from tests.training.networks import residual, squeeze


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("size", ["bytes", "cycles"])
def test_schedules_of_one_size_differ_and_can_be_selected(size) -> None:
    network = residual(widths=(48, 64))
    folded = fold(network)
    options = choices(folded, Levels(6, 6))
    wanted = 0.6 * getattr(dense(folded, options), size)
    drawn = [draw(folded, options, size, wanted, seed) for seed in range(8)]
    sizes = np.array([getattr(each, size) for each in drawn])
    assert (sizes <= wanted).all() and sizes.max() > 0.85 * wanted
    assert len({(tuple(d.levels.items()), tuple(d.options.items())) for d in drawn}) > 4
    for each in drawn:
        for conv in folded.convs():
            choice = options.convs[conv.name]
            i, j = each.levels[choice.input_group], each.levels[choice.output_group]
            assert choice.allowed[i, j, each.options[conv.name]]
        small = remove(network, select(network, l2(network), schedule(options, each)))
        kept = sum(int(np.any(small.params[c.weight] != 0, axis=3).sum()) for c in small.convs())
        assert kept == sum(schedule(options, each).filterlets.values())


def test_a_size_that_nothing_has_is_refused() -> None:
    folded = fold(squeeze())
    with pytest.raises(DtmmError, match="has 1 bytes, the smallest has"):
        draw(folded, choices(folded, Levels(6, 6)), "bytes", 1.0, 0)


def test_coefficients_are_scipys() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 12, (2, 5, 20)).astype(float)  # with ties
    for ours, theirs in ((spearman, spearmanr), (kendall, kendalltau)):
        expected = [theirs(a, b).statistic for a, b in zip(x, y, strict=True)]
        np.testing.assert_allclose(ours(x, y), expected)
    assert np.isnan(spearman(np.ones((1, 4)), y[:1, :4])).all()


def test_ranks() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(30)
    table = pd.DataFrame(
        {
            "network": "n",
            "size": "bytes",
            "raw": truth,
            "reestimated": truth**2,
            "finetuned": np.where(np.arange(30) < 4, truth, np.nan),
            **dict.fromkeys(ESTIMATORS, truth + 1.0),
            "l2": -truth,
            "fisher": rng.random(30),
        }
    )
    found = ranks(table, ESTIMATORS, TRUTHS, resamples=100).set_index(["truth", "estimator"])
    assert set(found.index.get_level_values("truth")) == {"raw", "reestimated"}  # 4 are too few
    for truth_name in ("raw", "reestimated"):
        row = found.loc[truth_name, "joint"]
        for column in ("spearman", "spearman_low", "kendall_high"):
            assert row[column] == pytest.approx(1)
        assert found.loc[truth_name, "l2"]["kendall"] == pytest.approx(-1)
        noise = found.loc[truth_name, "fisher"]
        assert noise["spearman_low"] < noise["spearman"] < noise["spearman_high"] < 0.9


def test_what_is_missing_is_named() -> None:
    benches = {name: SimpleNamespace(identity=name) for name in FULL.networks}
    nothing = pd.DataFrame({"network": [], "size": [], "finetuned": []})
    assert missing(FULL, benches, nothing) == (
        "50 of 50 schedules of ResNet-12 at equal cycles; 42 of 42 schedules of ResNet-12 at equal "
        "bytes; 50 of 50 schedules of VGG-11 at equal bytes; 50 of 50 schedules of VGG-11 at equal "
        "cycles; 8 of 8 fine-tuned schedules of ResNet-12 at equal bytes"
    )
    some = [("ResNet-12", "cycles", np.nan)] * 50 + [("ResNet-12", "bytes", np.nan)] * 42
    some += [("ResNet-12", "bytes", 0.5)] * 3 + [("VGG-11", size, np.nan)
                                                 for size in ("bytes", "cycles")] * 50  # fmt: skip
    table = pd.DataFrame(some, columns=["network", "size", "finetuned"])
    said = "5 of 8 fine-tuned schedules of ResNet-12 at equal bytes"
    assert missing(FULL, benches, table) == said


def test_a_quick_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--quick", "--out", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    table, provenance = read_table(tmp_path / "loss_fidelity.csv")
    assert {*ESTIMATORS, "raw", "reestimated", "finetuned"} <= set(table.columns)
    assert (table["reestimated"] < table["raw"] + 0.5).all()
    assert table[["bytes", "cycles"]].max().max() <= 1
    assert "test accuracy" in provenance["tiny"] and provenance["missing"] == "nothing"
    assert set(table["commit"]) == {provenance["commit"]} and table["seed"].nunique() == 6
    assert (tmp_path / "loss_fidelity_ranks.csv").is_file()
    assert (tmp_path / "loss_fidelity.png").is_file() and (tmp_path / "loss_fidelity.pdf").is_file()
    again = CliRunner().invoke(main, ["--figures-only", "--out", str(tmp_path)])
    assert again.exit_code == 0


def test_the_document_holds_the_committed_table() -> None:
    between = DOCUMENT.read_text().split(BEGIN)[1].split(END)[0]
    table, _ = read_table(RESULTS / "loss_fidelity_ranks.csv")
    assert between.strip() == render(table).strip()
