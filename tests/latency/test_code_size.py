"""Code bytes by kernel against the code of a linked model."""

from __future__ import annotations

import pytest

from dtmm.deploy import Deployment, Measurement
from dtmm.latency.code_size import CodeSize, measure_code_size
from dtmm.latency.measure import KERNELS

pytestmark = pytest.mark.usefixtures("toolchain")


@pytest.fixture(scope="module")
def code() -> CodeSize:
    return measure_code_size()


def test_every_kernel_costs_code(code: CodeSize) -> None:
    assert code.kernels.keys() == set(KERNELS)
    assert all(size > 100 for size in code.kernels.values())


def test_a_model_needs_no_more_than_predicted(
    code: CodeSize, deployment: Deployment, measured: Measurement
) -> None:
    """The scheduler charges this against the flash budget: never too little, nor far too much."""
    predicted = code.fixed(len(deployment.network.ops)) + sum(code.kernels.values())
    assert 0.75 * predicted < measured.flash["code"] <= predicted
