"""The stage that fills the latency table asks the cost model that the settings name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from dtmm.config import load_config
from dtmm.errors import ConfigError
from dtmm.latency import LatencyTable, Point, code_size, cost_models, measure
from dtmm.latency.code_size import CodeSize
from dtmm.latency.cost_models import analytic_model, macs
from dtmm.latency.fitted import FittedModel
from dtmm.pipeline import files
from dtmm.pipeline.device_stages import profile
from dtmm.pipeline.engine import Context
from dtmm.pipeline.folder import RunFolder
from dtmm.pipeline.progress import Progress
from tests.planning.conftest import NetworkBuilder


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run that has its network; `asked` collects what is measured, and by which cycle model."""
    net = NetworkBuilder(8, 8, 3)
    b = net.conv("b", net.conv("a", "image", 32), 48)
    network = net.build(net.dense("classifier", net.mean("mean", b), 10))
    monkeypatch.setattr(code_size, "measure_code_size", lambda: CodeSize({"add": 5}, 100))

    def make(*overrides: str) -> tuple[Context, list[Point], list[str]]:
        config = load_config(overrides=["table.filterlet_levels=16", *overrides])
        made = Context(config, RunFolder(tmp_path), Progress(quiet=True), None)  # type: ignore[arg-type]
        files.save(made, "network.dtmm", network)
        asked: list[Point] = []
        by: list[str] = []

        def device(points: Sequence[Point], store, seed, progress, cycle_model) -> LatencyTable:
            asked.extend(points)
            by.append(cycle_model)
            costs = {point: analytic_model().cost(point) for point in points}
            return LatencyTable(costs, {"pattern_seed": str(seed), "cycle_model": cycle_model})

        monkeypatch.setattr(measure, "measure_points", device)
        return made, asked, by

    return make


def table_of(context: Context) -> LatencyTable:
    return LatencyTable.load(context.folder.file("latency.csv"))


def test_macs(context) -> None:
    run, asked, _ = context("table.cost_model=mac")
    assert "points, mac" in profile(run)
    assert asked == []
    table = table_of(run)
    assert table.provenance["cost_model"] == "mac"
    assert all(cost.cycles == macs(point) for point, cost in table.costs.items())
    assert CodeSize.load(run.folder.file("code_size.csv")).kernels == {"add": 5}


def test_measured_by_the_cycle_model_of_the_settings(context) -> None:
    run, asked, by = context("table.cycle_model=m55-v2", "table.seed=7")
    assert "points, measured, m55-v2" in profile(run)
    assert by == ["m55-v2"]
    assert set(asked) == table_of(run).costs.keys()
    assert table_of(run).provenance["pattern_seed"] == "7"
    assert not run.folder.file("latency_fit.csv").exists()


def test_fitted_keeps_its_prices(context) -> None:
    run, asked, _ = context("table.cost_model=fitted")
    assert "fitted to" in profile(run)
    table = table_of(run)
    assert 0 < len(set(asked)) < 0.5 * len(table.costs)  # few points for their many counts
    model = FittedModel.load(run.folder.file("latency_fit.csv"))
    assert {point: model.cost(point) for point in table.costs} == table.costs


def test_a_name_that_is_none_says_which_are(context) -> None:
    run, _, _ = context("table.cost_model=analytical")
    with pytest.raises(ConfigError, match="did you mean 'analytic'"):
        profile(run)
    assert not run.folder.file("latency.csv").exists()
    assert "analytic" in cost_models.COST_MODELS
