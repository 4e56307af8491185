"""The two forms of FWCS on the device: sizes are the encoder's, the convolution is the same."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from dtmm.storage import encode_fwcs, expanded_bytes, fwcs_blob_size
from dtmm.table import read_table
from experiments.experiment import RESULTS
from experiments.fwcs_forms import LAYERS, REMOVED, SEED, main
from experiments.storage_overhead import pruned_weights

SPECIFICATION = Path(__file__).parents[2] / "docs" / "fwcs.md"


def test_both_forms_of_a_layer(toolchain: None, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--quick", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    table, provenance = read_table(tmp_path / "fwcs_forms.csv")
    assert {"compiler", "cycle_model", "memory_map", "commit"} <= provenance.keys()
    rows = {row["form"]: row for row in table.to_dict("records")}
    assert rows.keys() == {"stored", "prepared"}
    _, c_in, c_out = LAYERS[-2]
    fwcs = encode_fwcs(pruned_weights((c_out, 3, 3, c_in), REMOVED[0], SEED), 32)
    for form, row in rows.items():
        assert row["blob_bytes"] == fwcs_blob_size(fwcs, form).total
        assert row["expanded_bytes"] == (expanded_bytes(fwcs) if form == "stored" else 0)
        assert 500 < row["reader_bytes"] < 4000
        # a CRC of every byte, and not much more
        assert 5 < row["start_cycles"] / row["blob_bytes"] < 25
    for column in ("conv_cycles", "conv_instructions", "reader_bytes"):
        assert rows["stored"][column] == rows["prepared"][column]
    assert rows["stored"]["start_cycles"] > rows["prepared"]["start_cycles"]
    assert (tmp_path / "fwcs_forms.tex").is_file()


def test_the_table_of_the_specification() -> None:
    """docs/fwcs.md prints what the committed CSV holds."""
    table, _ = read_table(RESULTS / "fwcs_forms.csv")
    text = SPECIFICATION.read_text()
    printed = table[(table["removed_percent"] == 50) & table["in_channels"].isin([64, 256, 83])]
    assert len(printed) == 6
    for row in printed.to_dict("records"):
        layer = f"{row['height']}x{row['height']}, {row['in_channels']} to {row['out_channels']}"
        numbers = [f"{row[n]:,}" for n in ("blob_bytes", "expanded_bytes", "start_cycles")]
        assert f"| {' | '.join([layer, row['form'], *numbers])} |" in text
    [reader] = set(table["reader_bytes"])
    assert f"the reader is {reader:,} bytes of code" in text
