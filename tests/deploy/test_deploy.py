"""Generated C against the integer reference: on the host, sanitized, on the simulated M55."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dtmm import runtime_c
from dtmm.deploy import Deployment, HostModel, plan, run_on_device, write_project
from dtmm.deploy import project as project_module
from dtmm.device.build import build_host_program
from dtmm.errors import DtmmError, UnsupportedError
from dtmm.network.ir import Activation, AveragePool2D, Network
from dtmm.planning import layout
from dtmm.quantization import QuantizedNetwork, quantize, run
from dtmm.training.calibrate import activation_ranges
from tests.training.networks import Builder

NAMES = ("residual", "vgg", "dead", "odd")


def build(name: str) -> Network:
    """Folded float networks that differ in what is hard to deploy."""
    b = Builder(7, (1, 10, 9, 2))
    if name == "residual":
        stem = b.conv("stem", "x", 24, bias=True)
        back = b.conv("back", b.conv("inner", stem, 5, bias=True), 24, bias=True)
        total = b.add("total", stem, back)
        down = b.conv("down", total, 40, stride=2, bias=True)
        short = b.conv("short", total, 40, kernel=1, stride=2, bias=True)
        last = b.mean(b.add("sum", down, short))
    elif name == "vgg":
        first = b.pool("pool1", b.conv("first", "x", 20, bias=True))
        second = b.conv("second", first, 17, bias=True)
        last = b.flatten(b.pool("pool2", second, kind=AveragePool2D))
    elif name == "dead":
        last = b.mean(b.conv("second", b.conv("first", "x", 8, bias=True), 16, bias=True))
    else:
        first = b.conv("first", "x", 3, kernel=5, bias=True)
        second = b.conv("second", first, 33, kernel=1, bias=True)
        third = b.conv("third", second, 7, stride=2, padding=(0, 0, 1, 1), bias=True)
        last = b.mean(third)
    return prune(b.build(name, b.fc("classifier", last, 6)), name)


def prune(network: Network, name: str) -> Network:
    """Zero half of the filterlets; in "dead" every filterlet of two filters."""
    rng, params = np.random.default_rng(3), dict(network.params)
    for op in network.convs()[1:]:
        weight = params[op.weight].copy()
        weight[rng.random(weight.shape[:3]) < 0.5] = 0
        if name == "dead":
            weight[[1, 4]] = 0
        params[op.weight] = weight
    ops = tuple(
        dataclasses.replace(op, activation=Activation.RELU) if op in network.convs() else op
        for op in network.ops
    )
    return dataclasses.replace(network, params=params, ops=ops)


def quantized(name: str) -> tuple[QuantizedNetwork, Deployment, np.ndarray]:
    network = build(name)
    rng = np.random.default_rng(1)
    images = rng.normal(size=(16, 10, 9, 2)).astype(np.float32)
    network8 = quantize(network, activation_ranges(network, images))
    inputs = rng.integers(-128, 128, (6, 10, 9, 2)).astype(np.int8)
    return network8, plan(network8, layout(network)), inputs


@pytest.mark.parametrize("name", NAMES)
def test_host_equals_the_reference(name: str) -> None:
    network, deployment, images = quantized(name)
    assert np.array_equal(HostModel(deployment).run(images), run(network, images))


@pytest.mark.parametrize("name", NAMES)
def test_device_equals_the_reference(name: str, toolchain: None) -> None:
    network, deployment, images = quantized(name)
    measured = run_on_device(deployment, images[:2])
    assert np.array_equal(measured.outputs, run(network, images[:2]))
    padding = 16 * len(deployment.layers)  # of the alignment of weights
    assert 0 <= measured.flash["weights"] - deployment.size.weights < padding
    assert measured.flash["index"] == deployment.size.index
    assert measured.flash["parameters"] == deployment.size.parameters
    every = run(network, images[:1], keep_all=True)
    written = {"input": network.inputs[0], **{op.name: op.output for op in network.ops}}
    for step in measured.steps[:-1]:  # the last one copies the output out
        assert step.checksum == fnv1a(every[written[step.name]].tobytes()), step.name
    total = sum(step.instructions for step in measured.steps)
    # the steps are all of an inference but the calls between them
    assert total == pytest.approx(measured.instructions, rel=0.03)


def fnv1a(data: bytes) -> int:
    value = 2166136261
    for byte in data:
        value = (value ^ byte) * 16777619 % (1 << 32)
    return value


def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    network, deployment, images = quantized("dead")
    project = write_project(deployment, tmp_path / "project")
    program = build_host_program(
        sources=[project / "main.c", *(project / "model").glob("*.c"), *runtime_c.sources()],
        out=tmp_path / "main",
        include_dirs=[project / "model", runtime_c.include_dir()],
        sanitize=("address", "undefined"),
    )
    done = subprocess.run([program], input=images.tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == run(network, images).tobytes()


def test_a_dense_kernel_may_run_pruned_weights() -> None:
    network = build("residual")
    rng = np.random.default_rng(1)
    images = rng.normal(size=(16, 10, 9, 2)).astype(np.float32)
    network8 = quantize(network, activation_ranges(network, images))
    kernels = {op.name: "conv_dense" for op in network.convs()[1:]}
    deployment = plan(network8, layout(network), kernels)
    inputs = rng.integers(-128, 128, (4, 10, 9, 2)).astype(np.int8)
    assert np.array_equal(HostModel(deployment).run(inputs), run(network8, inputs))
    assert deployment.size.index == 0


def test_runs_may_be_listed_in_flash(toolchain: None) -> None:
    network, deployment, images = quantized("residual")
    fwcs = {name for name, kernel in deployment.kernels.items() if kernel.startswith("conv_fwcs_c")}
    assert fwcs
    kernels = {name: deployment.kernels[name] + "_listed" for name in fwcs}
    listed = plan(network, deployment.layout, kernels)
    assert listed.size.index > deployment.size.index
    assert {name for name in fwcs if listed.scratch[name]} == set()
    want = run(network, images[:2])
    assert np.array_equal(HostModel(listed).run(images[:2]), want)
    measured, before = (run_on_device(each, images[:2]) for each in (listed, deployment))
    assert np.array_equal(measured.outputs, want)
    assert measured.flash["index"] == listed.size.index
    assert measured.instructions < before.instructions


def test_a_kernel_that_does_not_fit_is_refused() -> None:
    network, deployment, _ = quantized("vgg")
    with pytest.raises(UnsupportedError, match="'second' of 1 groups cannot run on conv_grouped"):
        plan(network, deployment.layout, {"second": "conv_grouped"})
    with pytest.raises(UnsupportedError, match="'first': conv_dense needs pixels 16 bytes apart"):
        plan(network, deployment.layout, {"first": "conv_dense"})
    with pytest.raises(UnsupportedError, match="'frist', which is no convolution"):
        plan(network, deployment.layout, {"frist": "conv_im2col"})


def test_images_of_another_shape_are_refused() -> None:
    _, deployment, images = quantized("dead")
    with pytest.raises(DtmmError, match=r"\(N, 10, 9, 2\)"):
        HostModel(deployment).run(images[:, :, :8])
    with pytest.raises(DtmmError, match=r"\(N, 10, 9, 2\)"):
        run_on_device(deployment, images.astype(np.int16))
    with pytest.raises(DtmmError, match="0 images"):
        run_on_device(deployment, images[:0])


def test_an_interrupted_write_leaves_the_old_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, deployment, _ = quantized("dead")
    target = write_project(deployment, tmp_path / "project")
    before = sorted(path.name for path in target.rglob("*"))

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(project_module, "_copy_runtime", fail)
    with pytest.raises(DtmmError, match="disk full"):
        write_project(deployment, target)
    assert sorted(path.name for path in target.rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["project"]
