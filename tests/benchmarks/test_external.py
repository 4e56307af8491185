"""Other people's figures: every file reads, and agrees with the numbers the project began with."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import external, shapes
from benchmarks.shapes import CONV, Shape
from dtmm.errors import DataError
from dtmm.table import read_table

# kilocycles of DESIGN section 7, measured by others than the code under test
GIVEN_CMSIS_NN = {16: 885, 32: 2230, 64: 1787, 128: 1619, 256: 1539, 3: 883}


@pytest.mark.parametrize("name", external.KERNEL_FILES)
def test_every_file_says_how_it_was_measured(name: str) -> None:
    table, provenance = external.load_external(name)
    assert len(table) > 15
    assert "m55-v1" in provenance["cycle_model"]
    assert "zero wait" in provenance["memory_map"]


def test_cmsis_nn_covers_every_shape() -> None:
    figures = external.external_cycles()
    for shape in shapes.all_shapes():
        assert figures["cmsis_nn", shape, 0] > 0
    table, provenance = external.load_external("cmsis_nn")
    assert "99f736a6" in provenance["software"]
    # the better of two compilers
    assert (table["cycles"] <= table["other_compiler_cycles"]).all()


def test_cmsis_nn_is_what_others_measured() -> None:
    figures = external.external_cycles()
    for shape in shapes.TABLE:
        given = 1000 * GIVEN_CMSIS_NN[shape.cin]
        assert figures["cmsis_nn", shape, 0] == pytest.approx(given, rel=0.015)


def test_the_prototypes_and_the_authors_cells() -> None:
    figures = external.external_cycles()
    shape = Shape(CONV, 16, 16, 64, 64, 3, 3)
    assert figures["prototype", shape, 75] == 438_000
    assert figures["dtmm_authors", shape, 90] == 645_000
    for each in shapes.TABLE[:-1]:
        for pct in (0, 50, 75, 90):
            assert figures["prototype", each, pct] < figures["dtmm_authors", each, pct]


def test_networks_and_silicon_read() -> None:
    networks, _ = read_table(external.FOLDER / "networks.csv")
    row = networks[(networks["system"] == "tflm_cmsisnn") & (networks["network"] == "ic_resnet8")]
    assert float(row["mega_cycles"].iloc[0]) == 4.56
    silicon, _ = read_table(external.FOLDER / "silicon_alif_e8_m55_mobilenetv2.csv")
    assert len(silicon) == 8


def test_the_operator_inside_tflm_is_faster_and_smaller() -> None:
    table, about = read_table(external.FOLDER / "tflm_operator.csv", text=("system", "network"))
    plain, ours = table.to_dict("records")
    assert (plain["system"], ours["system"]) == ("tflm_cmsisnn", "tflm_dtmm")
    assert ours["cycles"] < plain["cycles"]
    sizes = [each["code_bytes"] + each["constant_bytes"] for each in (plain, ours)]
    assert sizes[1] < sizes[0]
    assert all(key in about for key in external.HEADER)


def test_a_malformed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (external.FOLDER / "prototype.csv").read_text()
    monkeypatch.setattr(external, "FOLDER", tmp_path)
    path = tmp_path / "prototype.csv"
    for old, new, message in (
        ("# flags:", "# flag:", "does not say its flags"),
        (",stride,", ",strides,", "lacks columns stride"),
        (",436000", ",0", "cycles > 0"),
        ("16,3,3,1,50,", "16,3,3,1,0,", "two rows"),
    ):
        path.write_text(text.replace(old, new))
        with pytest.raises(DataError, match=message):
            external.load_external("prototype")
