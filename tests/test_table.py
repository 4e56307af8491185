"""The table format: values and provenance come back, LaTeX and figures need the file alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import matplotlib.colors
import matplotlib.pyplot as plt
import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtmm.errors import DataError
from dtmm.table import read_table, to_latex, write_table
from experiments.experiment import STYLE

LUMA = np.array([0.299, 0.587, 0.114])
"""Brightness of red, green and blue."""

TABLE = pd.DataFrame(
    {"layer_name": ["conv_1", "50% & more"], "cycles": [1234.567, None], "n": [1, 2]}
)


@given(
    values=st.lists(
        st.tuples(st.floats(allow_nan=False), st.integers(-(2**53), 2**53)), min_size=1
    ),
    note=st.text(st.characters(codec="utf-8", categories=["L", "N", "P"])),
)
def test_round_trip_is_exact(
    values: list[tuple[float, int]], note: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = pd.DataFrame(values, columns=["time", "count"])
    path = tmp_path_factory.mktemp("tables") / "t.csv"
    again, provenance = read_table(write_table(path, table, {"note": note, "seed": 3}))
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    assert provenance == {"note": note, "seed": "3"}


def test_the_file_is_plain_csv_under_its_provenance(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", TABLE, {"compiler": "clang 19: -O3", "commit": "abc"})
    assert (tmp_path / "t.csv").read_text() == (
        "# compiler: clang 19: -O3\n# commit: abc\n"
        "layer_name,cycles,n\nconv_1,1234.567,1\n50% & more,,2\n"
    )


@pytest.mark.parametrize("bad", [{"a:b": 1}, {"": 1}, {"a": "two\nlines"}, {" a": 1}])
def test_provenance_that_does_not_fit_is_refused(bad: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not fit"):
        write_table(tmp_path / "t.csv", TABLE, bad)
    assert not list(tmp_path.iterdir())


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the table .*none\.csv"):
        read_table(tmp_path / "none.csv")
    for text, message in (
        ("# no colon\na\n1\n", "line 1: expected `# key: value`"),
        ("# only: provenance\n", "is not a table"),
        ("a,b\n1,2\n1,2,3\n", "is not a table"),
    ):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(DataError, match=message):
            read_table(tmp_path / "bad.csv")


def test_a_repeated_key_hides_no_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("# note: a\n# note: b\nx\n1\n")
    table, provenance = read_table(tmp_path / "t.csv")
    assert (list(table["x"]), provenance) == ([1], {"note": "b"})


def test_latex() -> None:
    text = to_latex(TABLE, caption="Cycles", label="tab:cycles", digits={"cycles": 1})
    assert [line.strip() for line in text.splitlines()] == [
        r"\begin{table}",
        r"\caption{Cycles}",
        r"\label{tab:cycles}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"layer\_name & cycles & n \\",
        r"\midrule",
        r"conv\_1 & 1234.6 & 1 \\",
        r"50\% \& more & -- & 2 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def test_the_style_draws_series_that_differ_without_colour(tmp_path: Path) -> None:
    with matplotlib.style.context(STYLE):
        figure, axes = plt.subplots()
        lines = [axes.plot([0, 1], [0, n])[0] for n in range(5)]
        figure.savefig(tmp_path / "figure")
        plt.close(figure)
    looks = {(line.get_linestyle(), line.get_marker()) for line in lines}
    assert len(looks) == 5
    greys = [float(matplotlib.colors.to_rgb(line.get_color()) @ LUMA) for line in lines[:4]]
    assert all(b - a > 0.1 for a, b in pairwise(greys))
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
