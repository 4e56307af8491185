"""The latency table as an object and as a file."""

from __future__ import annotations

import dataclasses
import string
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtmm.errors import DataError, MeasurementError
from dtmm.latency import Cost, LatencyTable, OpShape, Point

CONV = OpShape("conv2d", (8, 8), (8, 8), kernel=(3, 3), pad=(1, 1), in_halo=1, out_halo=1)

pairs = st.tuples(st.integers(0, 40), st.integers(0, 40))
counts = st.integers(0, 10**6)
words = st.text(string.ascii_lowercase + "_", min_size=1, max_size=12).filter(
    lambda text: text not in ("nan", "null", "none", "na")  # which CSV reads as missing
)
shapes = st.builds(
    OpShape, words, pairs, pairs, pairs, pairs, pairs, pairs, st.integers(0, 3), st.integers(0, 3)
)
points = st.builds(Point, shapes, words, counts, counts, counts)
costs = st.builds(
    Cost, st.floats(0, 1e12, allow_nan=False), st.integers(0, 2**52).map(float), counts
)
provenances = st.dictionaries(words, st.text(string.printable.strip(), min_size=1).map(str.strip))


def conv(c_in: int, c_out: int, filterlets: int, kernel: str = "conv_fwcs") -> Point:
    return Point(CONV, kernel, c_in, c_out, filterlets)


@pytest.fixture
def table() -> LatencyTable:
    grid = [conv(c, c, n) for c in (16, 32, 64) for n in (9, 90)]
    dense = conv(32, 32, 288, "conv_dense")
    pool = Point(dataclasses.replace(CONV, kind="max_pool"), "max_pool", 32, 32)
    return LatencyTable(
        {point: Cost(100.0 * n, 10.0 * n, n) for n, point in enumerate([*grid, dense, pool])},
        {"qemu": "7.2", "cycle_model": "m55-v1"},
    )


def test_a_lookup_is_exact(table: LatencyTable) -> None:
    assert table.cost(conv(16, 16, 90)) == Cost(100.0, 10.0, 1)


def test_a_missing_point_names_the_three_nearest(table: LatencyTable) -> None:
    with pytest.raises(MeasurementError) as raised:
        table.cost(conv(32, 32, 80))
    wanted, _, nearest = str(raised.value).partition("; nearest: ")
    assert "conv_fwcs 3x3 stride 1 on 8x8x32 to 32 channels, 80 filterlets" in wanted
    found = nearest.split("; ")
    assert len(found) == 3
    assert found[0] == "conv_fwcs 3x3 stride 1 on 8x8x32 to 32 channels, 90 filterlets"
    # another kernel's point is further away than any of the same kernel
    assert all(each.startswith("conv_fwcs") for each in found)


def test_every_field_belongs_to_the_question(table: LatencyTable) -> None:
    known = conv(16, 16, 9)
    for change in ({"in_halo": 2}, {"stride": (2, 2)}, {"pad": (0, 0)}, {"out_hw": (4, 4)}):
        other = dataclasses.replace(known, shape=dataclasses.replace(known.shape, **change))
        assert table.missing([known, other]) == (other,)
        with pytest.raises(MeasurementError, match="nearest"):
            table.cost(other)


def test_an_empty_table_says_so() -> None:
    with pytest.raises(MeasurementError, match="the table is empty"):
        LatencyTable({}, {}).cost(conv(16, 16, 9))


@given(st.dictionaries(points, costs, max_size=5), provenances)
def test_a_file_gives_the_same_table(
    tmp_path_factory: pytest.TempPathFactory,
    measured: dict[Point, Cost],
    provenance: dict[str, str],
) -> None:
    table = LatencyTable(measured, provenance)
    path = tmp_path_factory.mktemp("table") / "latency.csv"
    table.save(path)
    assert LatencyTable.load(path) == table


def test_the_file_is_tidy_and_says_how_it_was_made(table: LatencyTable, tmp_path: Path) -> None:
    table.save(tmp_path / "latency.csv")
    assert (tmp_path / "latency.csv").read_text().startswith("# qemu: 7.2\n# cycle_model: m55-v1\n")
    frame = pd.read_csv(tmp_path / "latency.csv", comment="#")
    assert len(frame) == len(table.costs)
    row = frame[(frame.kernel == "conv_fwcs") & (frame.in_channels == 64) & (frame.filterlets == 9)]
    assert row.cycles.item() == table.cost(conv(64, 64, 9)).cycles


def test_a_users_file_needs_every_column(table: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    table.save(path)
    lines = path.read_text().splitlines(keepends=True)
    frame = pd.read_csv(path, comment="#").drop(columns=["scratch", "pad_h"])
    path.write_text("".join(lines[:2]) + frame.to_csv(index=False))
    with pytest.raises(DataError, match="lacks columns pad_h, scratch"):
        LatencyTable.load(path)


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("cycles", "many", "'many'"),
        ("in_channels", "many", "'many'"),
        ("instructions", None, "nan"),
        ("filterlets", 1.5, "1.5"),
        ("out_w", -1, "-1"),
    ],
)
def test_a_cell_that_is_no_number_is_an_error(
    table: LatencyTable, tmp_path: Path, column: str, cell: object, said: str
) -> None:
    path = tmp_path / "mine.csv"
    table.save(path)
    frame = pd.read_csv(path, comment="#").astype(object)
    frame.loc[3, column] = cell
    frame.to_csv(path, index=False)
    with pytest.raises(DataError, match=rf"mine\.csv: {column} of row 4 is .*{said}.*number >= 0"):
        LatencyTable.load(path)


def test_a_point_twice_is_an_error(table: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    table.save(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[-1]]))
    with pytest.raises(DataError, match="two rows for"):
        LatencyTable.load(path)
