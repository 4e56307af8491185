"""The storage experiment: its numbers recomputed, its figure made from the CSV alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dtmm.errors import DataError
from dtmm.network import fold
from dtmm.network.ir import Conv2D
from dtmm.network.tflite_writer import write_tflite
from dtmm.quantization import quantize
from dtmm.table import read_table
from experiments.experiment import RESULTS
from experiments.storage_formats import FORMATS
from experiments.storage_overhead import main, pruned_weights
from experiments.tflite_weights import conv_weights
from tests.training.networks import residual

SPECIFICATION = Path(__file__).parents[2] / "docs" / "fwcs.md"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quick experiment, without real models."""
    folder = tmp_path_factory.mktemp("results")
    done = CliRunner().invoke(main, ["--quick", "--out", str(folder)], env={"DTMM_MODELS": None})
    assert done.exit_code == 0, done.output
    assert "real models skipped" in done.output
    return folder


def test_every_size_follows_from_the_counts(results: Path) -> None:
    table, provenance = read_table(results / "storage_overhead.csv")
    assert {"commit", "weights"} <= provenance.keys()
    assert set(table["format"]) == {
        *("fwcs_stored", "fwcs_prepared", "authors", "csr", "csr_delta", "dense"),
        *("csr_vectors", "fkw"),
    }
    for row in table[~table["format"].isin(["csr_vectors", "fkw"])].to_dict("records"):
        positions, filters = row["kh"] * row["kw"], row["out_channels"]
        kept = row["filterlets_kept"]
        assert kept == filters * positions - round(
            filters * positions * row["removed_percent"] / 100
        )
        weights = kept * row["in_channels"]
        fillers = row["weight_bytes"] - weights if row["format"] == "csr_delta" else 0
        assert 0 <= fillers < 0.15 * weights
        prepared = filters * (2 if positions == 9 else 1)
        expected = {  # weights, index, header, parameters beyond 9 bytes
            "fwcs_stored": (weights, (filters * positions + 7) // 8, 24, 0),
            "fwcs_prepared": (weights, prepared, 24, 3 * filters),
            "authors": (weights, 2 * (kept + filters), 0, 0),
            "csr": (weights, 2 * (weights + filters), 0, 0),
            "csr_delta": (weights + fillers, weights + fillers + 2 * filters, 0, 0),
            "dense": (filters * positions * row["in_channels"], 0, 0, 0),
        }[row["format"]]
        found = [row[f"{name}_bytes"] for name in ("weight", "index", "header", "parameter")]
        found[3] -= 9 * filters
        assert tuple(found) == expected
        assert row["overhead_bytes"] == sum(expected) - weights
        bits = 8 * row["overhead_bytes"] / (filters * positions)
        assert abs(row["bits_per_position"] - bits) < 1e-4
        in_sram = 12 * filters + prepared if row["format"] == "fwcs_stored" else 0
        assert row["expanded_bytes"] == in_sram


def test_rivals_keep_as_many_weights(results: Path) -> None:
    """CSR in vectors of 16 with 18 bytes of index each; FKW in fours with 2, and no 1x1 kernels."""
    table, _ = read_table(results / "storage_overhead.csv")
    for row in table[table["format"] == "csr_vectors"].to_dict("records"):
        positions = row["out_channels"] * row["kh"] * row["kw"]
        kept = positions - round(positions * row["removed_percent"] / 100)
        vectors = row["weight_bytes"] // 16
        assert row["kept_bytes"] == kept * row["in_channels"] <= row["weight_bytes"]
        assert row["index_bytes"] == 18 * (vectors + 1) + 2 * row["out_channels"]
    fkw = table[table["format"] == "fkw"]
    assert (fkw["kh"] == 3).all()
    assert (fkw["removed_percent"] == 90).all()
    for row in fkw.to_dict("records"):
        kernels = row["kept_bytes"] // 4
        assert row["weight_bytes"] == row["kept_bytes"] == 4 * kernels
        assert row["index_bytes"] == 2 * (1 + 2 * 8 + row["out_channels"] + kernels + 4)


def test_two_bits_per_filterlet_position(results: Path) -> None:
    """The target for the stored form: in all with the headers, in each layer without its header."""
    table, _ = read_table(results / "storage_overhead.csv")
    stored = table[table["format"] == "fwcs_stored"]
    positions = stored["out_channels"] * stored["kh"] * stored["kw"]
    assert (8 * (stored["overhead_bytes"] - stored["header_bytes"]) <= 2 * positions).all()
    for _, rows in stored.groupby("removed_percent"):
        assert 8 * rows["overhead_bytes"].sum() <= 2 * positions[rows.index].sum()


def test_gaps_of_columns() -> None:
    weights = np.zeros((2, 1, 1, 600), np.int8)
    weights[0, 0, 0, [0, 255, 511]] = 1  # gaps of 1, 255, 256: one filler
    weights[1, 0, 0, 599] = 1  # a gap of 600: two
    size = FORMATS["csr_delta"](weights)
    assert (size.weights, size.index) == (7, 7 + 2 * 2)


def test_the_table_of_the_specification() -> None:
    """docs/fwcs.md prints what the committed CSV holds."""
    table, _ = read_table(RESULTS / "storage_overhead_models.csv")
    sums = table.groupby(["model", "format"])[["kept_bytes", "overhead_bytes", "expanded_bytes"]]
    text = SPECIFICATION.read_text()
    for model in table["model"].unique():
        found = sums.sum().loc[model]
        stored = found.loc["fwcs_stored"]
        numbers = [stored["kept_bytes"]]
        numbers += [
            found["overhead_bytes"][name] for name in ("fwcs_stored", "fwcs_prepared", "authors")
        ]
        numbers.append(stored["expanded_bytes"])
        assert f"| {' | '.join([model, *(f'{n:,}' for n in numbers)])} |" in text


def test_real_models(tmp_path: Path, models_folder: Path) -> None:
    done = CliRunner().invoke(main, ["--quick", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    table, _ = read_table(tmp_path / "storage_overhead_models.csv")
    stored = table[table["format"] == "fwcs_stored"]
    assert (stored["weight_bytes"] == stored["kept_bytes"]).all()
    assert (tmp_path / "storage_overhead_models.tex").is_file()


def test_weights_of_a_tflite_file(tmp_path: Path) -> None:
    folded = fold(residual())
    network = quantize(folded, dict.fromkeys(folded.tensors, (-1.0, 1.0)))
    path = tmp_path / "model.tflite"
    path.write_bytes(write_tflite(network))
    found = list(conv_weights(path).values())
    convolutions = [op for op in network.ops if isinstance(op, Conv2D)]
    assert len(convolutions) > 2
    for op, weights in zip(convolutions, found, strict=True):
        np.testing.assert_array_equal(weights, network.params[op.weight])
    path.write_bytes(b"not a model")
    with pytest.raises(DataError, match=r"expected a \.tflite file"):
        conv_weights(path)


def test_no_weight_of_a_kept_filterlet_is_zero() -> None:
    weights = pruned_weights((8, 3, 3, 16), 50, 0)
    filterlets = weights.reshape(-1, 16)
    assert int((filterlets == 0).all(axis=1).sum()) == 36
    assert int((filterlets == 0).sum()) == 36 * 16


def test_figure_and_table_come_from_the_csv_alone(results: Path) -> None:
    figures = [results / f"storage_overhead.{suffix}" for suffix in ("pdf", "png", "tex")]
    figures.append(results / "storage_overhead_layers.tex")
    before = [path.read_bytes() for path in figures if path.suffix != ".pdf"]
    for path in figures:
        path.unlink()
    done = CliRunner().invoke(main, ["--figures-only", "--out", str(results)])
    assert done.exit_code == 0, done.output
    assert [path.read_bytes() for path in figures if path.suffix != ".pdf"] == before
