"""What deployment refuses: no C code, failing steps, firmware that says too little."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dtmm.deploy import Deployment, HostModel, firmware, plan, run_on_device, write_project
from dtmm.device.protocol import Line, Run
from dtmm.errors import DtmmError, MeasurementError, UnsupportedError
from dtmm.network.ir import Activate, Activation
from dtmm.planning import layout
from dtmm.quantization import quantize, run
from dtmm.training.calibrate import activation_ranges
from tests.training.networks import Builder


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    b = Builder(6, (1, 6, 5, 3))
    x = b.conv("second", b.conv("first", "x", 5, bias=True), 4, bias=True)
    network = b.build("net", b.fc("classifier", b.mean(x), 4))
    images = np.random.default_rng(2).normal(size=(8, 6, 5, 3)).astype(np.float32)
    return plan(quantize(network, activation_ranges(network, images)), layout(network))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(3).integers(-128, 128, (150, 6, 5, 3)).astype(np.int8)


@pytest.fixture(scope="module")
def without_scratch(deployment: Deployment) -> Deployment:
    """Its second layer gets no scratch memory: the operator must refuse, not write past it."""
    return dataclasses.replace(deployment, scratch={**deployment.scratch, "second": 0})


def test_two_outputs_have_no_c_code(deployment: Deployment, tmp_path: Path) -> None:
    network = dataclasses.replace(deployment.network, outputs=("first", "classifier"))
    with pytest.raises(UnsupportedError, match="1 inputs and 2 outputs"):
        write_project(dataclasses.replace(deployment, network=network), tmp_path / "p")
    assert not any(tmp_path.iterdir())


def test_an_operator_without_c_code_is_named(deployment: Deployment, tmp_path: Path) -> None:
    alone = Activate("alone", "first", "alone", Activation.RELU)
    network = dataclasses.replace(deployment.network, ops=(*deployment.network.ops, alone))
    with pytest.raises(UnsupportedError, match="Activate 'alone'"):
        write_project(dataclasses.replace(deployment, network=network), tmp_path / "p")


def test_a_failing_step_is_an_error_on_the_host(
    without_scratch: Deployment, images: np.ndarray
) -> None:
    with pytest.raises(MeasurementError, match=r"returned status -\d, expected 0"):
        HostModel(without_scratch).run(images[:3])


def test_a_failing_step_is_an_error_on_the_device(
    without_scratch: Deployment, images: np.ndarray, toolchain: None
) -> None:
    with pytest.raises(MeasurementError, match="did not return DTMM_OK"):
        run_on_device(without_scratch, images[:1])


def test_threads_and_chunks_change_nothing(deployment: Deployment, images: np.ndarray) -> None:
    seen: list[tuple[int, int]] = []
    model = HostModel(deployment)
    found = model.run(images, threads=3, progress=lambda *at: seen.append(at))
    assert np.array_equal(found, run(deployment.network, images))
    assert np.array_equal(found, model.run(images[:, ::-1].copy()[:, ::-1], threads=1))
    assert seen == [(64, 150), (128, 150), (150, 150)]
    assert model.run(images[:0]).shape == (0, 4)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (b"", "does not define DTMM_MODEL_ARENA_BYTES"),
        (b"#define DTMM_MODEL_ARENA_BYTES 16\n\xff", "does not define DTMM_MODEL_INPUT_CHANNELS"),
    ],
)
def test_a_damaged_header_is_no_project(header: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.h").write_bytes(header)
    with pytest.raises(DtmmError, match=says):
        HostModel(tmp_path)


def flipped(line: Line) -> Line:
    index, digits = line.values
    return Line(line.key, (index, f"{int(digits[:2], 16) ^ 1:02x}{digits[2:]}"))


TAMPERED: dict[str, tuple[bool, Callable[[Line], tuple[Line, ...]], str]] = {
    "no output": (False, lambda line: (), "reported 0 outputs, expected 1"),
    "short output": (
        False,
        lambda line: (Line("OUT", (line.values[0], line.values[1][2:])),),
        "an output has 3 bytes, expected 4",
    ),
    "another profile": (True, lambda line: (flipped(line),), "profiled build's output differs"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_what_firmware_says_is_checked(
    case: str,
    deployment: Deployment,
    images: np.ndarray,
    toolchain: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profile, change, says = TAMPERED[case]
    real = firmware.run_firmware

    def tampered(elf: Path, **options: object) -> Run:
        done = real(elf, **options)
        if (elf.name == "profile.elf") is not profile:
            return done
        lines = (change(line) if line.key == "OUT" else (line,) for line in done.lines)
        return dataclasses.replace(done, lines=tuple(each for some in lines for each in some))

    monkeypatch.setattr(firmware, "run_firmware", tampered)
    with pytest.raises(MeasurementError, match=says):
        run_on_device(deployment, images[:1])


def test_variables_outside_the_arena_are_refused(
    deployment: Deployment,
    images: np.ndarray,
    toolchain: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(firmware, "product_ram_bytes", lambda elf: 12)
    with pytest.raises(MeasurementError, match="hold 12 bytes of variables"):
        run_on_device(deployment, images[:1])
