"""Where the rooms meet (numpy only): memory layout, scheduling problem, selection."""

from __future__ import annotations

from dtmm.planning.formulate import formulate
from dtmm.planning.layout import layout
from dtmm.planning.levels import Levels
from dtmm.planning.loss import LossTables
from dtmm.planning.nouns import Buffer, Layout, Selection, Step
from dtmm.planning.points import required_points
from dtmm.planning.select import select

__all__ = [
    "Buffer",
    "Layout",
    "Levels",
    "LossTables",
    "Selection",
    "Step",
    "formulate",
    "layout",
    "required_points",
    "select",
]
