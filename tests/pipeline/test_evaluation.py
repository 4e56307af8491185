"""A disagreement between device, host and reference is found, named and fatal."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from dtmm.config import load_config
from dtmm.deploy import plan
from dtmm.errors import ConfigError, MeasurementError
from dtmm.network.fold import fold
from dtmm.pipeline import device_stages, evaluation, files
from dtmm.pipeline.engine import Context, open_run
from dtmm.pipeline.progress import Progress
from dtmm.planning import layout
from dtmm.quantization import quantize
from dtmm.training.calibrate import activation_ranges


@pytest.fixture
def context(tmp_path: Path) -> Context:
    settings = ["model.name=tiny_resnet", "data.name=digits", "device.images=2"]
    run = open_run(
        load_config(overrides=[*settings, f"run.folder={tmp_path}"]), Progress(quiet=True)
    )
    network, _ = run.source.network()
    folded, data = fold(network), run.source.dataset
    ranges = activation_ranges(folded, data.to_input(data.train_images[:64]))
    files.save(run, "deployment.dtmm", plan(quantize(folded, ranges), layout(folded)))
    return run


def evaluate(context: Context) -> dict[str, object]:
    return evaluation.evaluate(context, "deployment.dtmm", "measurement.dtmm")


def test_agreement(context: Context, toolchain: None) -> None:
    found = evaluate(context)
    assert found["bit_exact"] is True
    assert found["images_compared"] == 2
    assert found["accuracy"] > 0.9


def test_one_flipped_byte_of_the_device_is_fatal(
    context: Context, toolchain: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = evaluation.run_on_device

    def flipped(*arguments: object) -> object:
        measured = real(*arguments)
        outputs = measured.outputs.copy()
        outputs[1, 3] ^= 1
        return dataclasses.replace(measured, outputs=outputs)

    monkeypatch.setattr(evaluation, "run_on_device", flipped)
    with pytest.raises(MeasurementError, match=r"the device for 1 of 2 images, first image 1"):
        evaluate(context)
    assert not context.folder.file("measurement.dtmm").exists()


def test_a_wrong_host_library_is_fatal(
    context: Context, toolchain: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(evaluation.HostModel):
        def run(self, *arguments: object, **options: object) -> np.ndarray:
            return super().run(*arguments, **options) ^ np.int8(1)

    monkeypatch.setattr(evaluation, "HostModel", Wrong)
    with pytest.raises(MeasurementError, match="the host's C library for 2 of 2 images"):
        evaluate(context)


def test_too_much_stack_is_fatal(context: Context, toolchain: None) -> None:
    small = dataclasses.replace(
        context.config, budget=dataclasses.replace(context.config.budget, stack=64)
    )
    with pytest.raises(MeasurementError, match=r"budget\.stack sets aside 64 B"):
        evaluate(dataclasses.replace(context, config=small))


def test_a_run_measures_on_the_simulator_alone(context: Context) -> None:
    """A device that no stage would use is refused rather than ignored."""
    config = load_config(overrides=["device.name=board", "run.name=mine"])
    other = dataclasses.replace(context, config=config)
    for stage in (device_stages.run, device_stages.profile):
        with pytest.raises(ConfigError, match=r"device\.name='board': .* `dtmm profile mine --dev"):
            stage(other)
