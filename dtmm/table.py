"""The table format of measurements and experiments: a tidy CSV that says where it came from.

A table is one observation per row, preceded by `# key: value` lines (how it was measured: tools,
versions, commit, seed). Figures and LaTeX are made from such a file alone, so that anybody can
redraw or re-typeset a result without running it again.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path

import pandas as pd

from dtmm.artifact import write_atomic
from dtmm.errors import DataError


def write_table(
    path: str | os.PathLike[str], table: pd.DataFrame, provenance: Mapping[str, object]
) -> Path:
    """Write `table` (its index is not kept) and its provenance in one step.

    Raises:
        DataError: a provenance key or value does not fit on one `# key: value` line.
        ArtifactError: the file cannot be written.
    """
    lines = []
    for key, value in provenance.items():
        line = f"# {key}: {value}"
        if ":" in key or key != key.strip() or not key or len(line.splitlines()) != 1:
            raise DataError(f"provenance {key!r}: {value!r} does not fit on a `# key: value` line")
        lines.append(line + "\n")
    return write_atomic(path, "".join(lines) + table.to_csv(index=False, lineterminator="\n"))


def read_table(
    path: str | os.PathLike[str], text: Sequence[str] = ()
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table at `path` and its provenance, values as text.

    Args:
        text: columns to take as they are; of others pandas guesses the type ("true", "NA", ...).

    Raises:
        DataError: the file is missing or not such a table.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the table {path}: {error}") from None
    header = list(takewhile(lambda line: line.startswith("#"), lines))
    provenance = {}
    for number, line in enumerate(header, 1):
        key, colon, value = line[1:].partition(":")
        if not colon:
            raise DataError(f"{path} line {number}: expected `# key: value`, got {line.strip()!r}")
        provenance[key.strip()] = value.strip()
    try:
        table = pd.read_csv(
            io.StringIO("".join(lines[len(header) :])), converters=dict.fromkeys(text, str)
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path} is not a table: {str(error).strip()}") from None
    return table, provenance


def to_latex(
    table: pd.DataFrame,
    caption: str | None = None,
    label: str | None = None,
    digits: Mapping[str, int] | None = None,
) -> str:
    """`table` as LaTeX (needs the booktabs package), text escaped, numbers to the right.

    Args:
        digits: decimals of each column named; other columns are printed as they are.
    """
    formats = {column: f"{{:.{places}f}}" for column, places in (digits or {}).items()}
    styler = table.style.format(na_rep="--", escape="latex").hide(axis="index")
    for column in formats:
        styler = styler.format(formats[column], subset=[column], na_rep="--")
    columns = ["r" if pd.api.types.is_numeric_dtype(table[each]) else "l" for each in table]
    return str(
        styler.format_index(escape="latex", axis="columns").to_latex(
            column_format="".join(columns), hrules=True, caption=caption, label=label
        )
    )
