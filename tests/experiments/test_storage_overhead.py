"""The storage experiment: its numbers recomputed, its figure made from the CSV alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from dtmm.table import read_table
from experiments.storage_overhead import main, pruned_weights


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    done = CliRunner().invoke(main, ["--quick", "--out", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


def test_every_size_follows_from_the_counts(results: Path) -> None:
    table, provenance = read_table(results / "storage_overhead.csv")
    assert {"commit", "seed"} <= provenance.keys()
    assert set(table["format"]) == {"fwcs", "authors", "csr", "dense"}
    for row in table.to_dict("records"):
        positions, filters = row["kh"] * row["kw"], row["out_channels"]
        kept = row["filterlets_kept"]
        assert kept == filters * positions - round(
            filters * positions * row["removed_percent"] / 100
        )
        weights = kept * row["in_channels"]
        expected = {
            "fwcs": (weights, filters * (2 if positions == 9 else 1)),
            "authors": (weights, 2 * (kept + filters)),
            "csr": (weights, 2 * (weights + filters)),
            "dense": (filters * positions * row["in_channels"], 0),
        }[row["format"]]
        assert (row["weight_bytes"], row["index_bytes"]) == expected


def test_no_weight_of_a_kept_filterlet_is_zero() -> None:
    weights = pruned_weights((8, 3, 3, 16), 50, 0)
    filterlets = weights.reshape(-1, 16)
    assert int((filterlets == 0).all(axis=1).sum()) == 36
    assert int((filterlets == 0).sum()) == 36 * 16


def test_figure_and_table_come_from_the_csv_alone(results: Path) -> None:
    figures = [results / f"storage_overhead.{suffix}" for suffix in ("pdf", "png", "tex")]
    before = [path.read_bytes() for path in figures if path.suffix != ".pdf"]
    for path in figures:
        path.unlink()
    done = CliRunner().invoke(main, ["--figures-only", "--out", str(results)])
    assert done.exit_code == 0, done.output
    assert [path.read_bytes() for path in figures if path.suffix != ".pdf"] == before
