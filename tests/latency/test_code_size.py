"""Code bytes by kernel against the code of a linked model."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtmm.deploy import Deployment, Measurement
from dtmm.errors import DataError
from dtmm.latency.code_size import CodeSize, measure_code_size
from dtmm.latency.harness import KERNELS
from dtmm.storage.kernel_ids import CONV_DENSE, CONV_FWCS


@pytest.fixture(scope="module")
def code(toolchain: None) -> CodeSize:
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
    predicted = code.fixed(len(deployment.network.ops), used) + sum(
        code.kernels[name] for name in used
    )
    assert 0.75 * predicted < measured.flash["code"] <= predicted


def test_pointwise_kernels_are_paid_where_they_may_run(code: CodeSize) -> None:
    """Bytes that the probe needs for them and for nothing else: 500 to 1500."""
    without = code.fixed(5, ["conv_fwcs_c64_1x8", "conv_dense"])
    assert 500 < code.fixed(5, ["conv_pointwise_p64"]) - without < 1500
    assert code.fixed(5, ["conv_im2col_p32"]) == code.fixed(5, ["conv_pointwise_p64"])


def test_a_file_gives_the_same_sizes(tmp_path: Path) -> None:
    sizes = CodeSize({"conv_dense": 0, "add": 320}, 7000, 1000, {"compiler": "clang 19"})
    sizes.save(tmp_path / "code.csv")
    assert CodeSize.load(tmp_path / "code.csv") == sizes


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("kernel,bytes\nadd,3\n", "lacks columns code_bytes"),
        ("kernel,code_bytes\nshared,3\nadd,3\n", "lacks a row for pointwise"),
        ("kernel,code_bytes\nshared,3\npointwise,1.5\n", "code_bytes of pointwise is 1.5"),
        ("kernel,code_bytes\nshared,3\npointwise,1\nadd,1\nadd,2\n", "two rows for add"),
    ],
)
def test_a_file_that_makes_no_sense_is_an_error(lines: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "code.csv").write_text(lines)
    with pytest.raises(DataError, match=says):
        CodeSize.load(tmp_path / "code.csv")
