"""One readable script per table or figure; its results (CSV) lie beside it in results/."""

from __future__ import annotations

from pathlib import Path

STYLE = Path(__file__).with_name("style.mplstyle")
"""For `matplotlib.style.use`: vector output, and series that differ without colour."""
