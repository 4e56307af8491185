"""What a cost model is: anything that answers what one operator costs."""

from __future__ import annotations

from typing import Protocol

from dtmm.latency.table import Cost, Point


class CostModel(Protocol):
    """The measured latency table, an analytic formula, a user's CSV..."""

    def cost(self, point: Point) -> Cost:
        """Cycles, instructions and scratch bytes of one operator.

        Raises:
            MeasurementError: the model cannot answer for this point.
        """
        ...
