"""What a layer costs: the measured latency table and whatever else answers that question."""

from __future__ import annotations

from dtmm.latency.base import CostModel
from dtmm.latency.table import Cost, LatencyTable, OpShape, Point

__all__ = ["Cost", "CostModel", "LatencyTable", "OpShape", "Point"]
