"""Code bytes by kernel against the code of a linked model."""

from __future__ import annotations

import pytest

from dtmm.deploy import Deployment, Measurement
from dtmm.latency.code_size import CodeSize, measure_code_size
from dtmm.latency.measure import KERNELS
from dtmm.storage.kernel_ids import CONV_DENSE, CONV_FWCS

pytestmark = pytest.mark.usefixtures("toolchain")


@pytest.fixture(scope="module")
def code() -> CodeSize:
    return measure_code_size()


def test_every_kernel_costs_code(code: CodeSize) -> None:
    assert code.kernels.keys() == set(KERNELS)
    looped = {CONV_DENSE, CONV_FWCS}
    assert all((size > 100) != (name in looped) for name, size in code.kernels.items())
    assert code.kernels["conv_fwcs_c16_1x8"] < code.kernels["conv_fwcs_c64_1x8"] < 4000


def test_a_model_needs_no_more_than_predicted(
    code: CodeSize, deployment: Deployment, measured: Measurement
) -> None:
    """The scheduler charges this against the flash budget: never too little, nor far too much."""
    used = {kernel for kernel in code.kernels if not kernel.startswith("conv_")}
    used |= set(deployment.kernels.values())
    predicted = code.fixed(len(deployment.network.ops)) + sum(code.kernels[name] for name in used)
    assert 0.75 * predicted < measured.flash["code"] <= predicted
