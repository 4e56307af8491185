"""Every operator of the portable C path against plain numpy, byte for byte, canaries included."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime_c.checks import CHECKS


@pytest.mark.parametrize("operator", CHECKS)
def test_operator_equals_numpy(library: ctypes.CDLL, operator: str) -> None:
    @given(st.integers(0, 2**63 - 1))
    def check(seed: int) -> None:
        CHECKS[operator](library, np.random.default_rng(seed))

    check()


@pytest.mark.parametrize("operator", CHECKS)
def test_operator_equals_numpy_on_many_seeds(
    library: ctypes.CDLL, operator: str, full: bool
) -> None:
    for seed in range(3000 if full else 150):
        CHECKS[operator](library, np.random.default_rng([seed, len(operator)]))
