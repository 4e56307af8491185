"""docs/reproduce.md and experiments/PAPER.md: what they say is what the committed tables say."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from benchmarks.markdown import grid
from experiments.experiment import RESULTS
from experiments.matched import PAPER
from experiments.reproduce import BEGIN, CLAIMS, END, MISSING, rows
from experiments.run import NAMES

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "reproduce.md").read_text()


def test_the_document_is_that_of_the_committed_tables() -> None:
    between = TEXT.split(BEGIN)[1].split(END)[0]
    assert between.strip() == grid(rows()).strip()


def test_a_claim_without_a_table_or_a_cell_says_so(tmp_path: Path) -> None:
    assert {row[2] for row in rows(tmp_path)[1:]} == {MISSING}


def test_the_papers_averages_are_the_known_ones() -> None:
    quoted = {each.paper for each in CLAIMS if each.csv == "overall_averages.csv"}
    assert quoted == {f"{value:.2f} %" for value in PAPER.values()}


def test_an_average_stands_with_its_interval() -> None:
    [claim] = [each for each in CLAIMS if "size against CHIP" in each.claim]
    known = {"comparison": "size_vs_chip", "status": "measured", "percent": -12.3456, "low": -20.0,
             "high": 1.0, "task": "t", "seeds": 3}  # fmt: skip
    other = {**known, "comparison": "latency_vs_chip", "percent": 7.0}
    said = claim.ours(pd.DataFrame([known, other]))
    assert said == "-12.35 % [-20.00, +1.00], t, seeds: 3"


def test_what_paper_md_names_exists() -> None:
    text = (ROOT / "experiments" / "PAPER.md").read_text()
    for name in re.findall(r"results/(\w+\.csv)", text):
        assert (RESULTS / name).is_file(), name
    scripts = set(re.findall(r"`(\w+)`", text))
    assert set(NAMES) <= scripts
