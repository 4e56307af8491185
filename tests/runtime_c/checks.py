"""All random cases by operator."""

from __future__ import annotations

from tests.runtime_c import cases, cases_elementwise, cases_grouped

CHECKS = {**cases.CHECKS, **cases_elementwise.CHECKS, **cases_grouped.CHECKS}
"""(library, rng, margin) -> None, raises AssertionError on the first difference."""
