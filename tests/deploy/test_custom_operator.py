"""DTMM_CONV_2D in TFLM and LiteRT, byte for byte, and what it refuses."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dtmm.deploy import HostModel, plan
from dtmm.deploy.tflite_custom import (
    custom_conv,
    kernel_header,
    smaller_layers,
    write_custom_tflite,
)
from dtmm.device.build import target_flags
from dtmm.device.toolchain import require_tool
from dtmm.errors import UnsupportedError
from dtmm.network.ir import Conv2D
from dtmm.network.tflite_writer import write_tflite
from dtmm.planning import layout
from dtmm.quantization import QuantizedNetwork, run
from dtmm.quantization.dequantize import dequantize
from dtmm.quantization.tflite_reader import load_tflite
from dtmm.runtime_c import include_dir
from dtmm.storage import read_fwcs
from dtmm.storage.container import FORMS, Form, seal_fwcs
from tests.quantization.graphs import random_graph
from tests.quantization.oracles import calibrated
from tests.training.networks import Builder

pytest.importorskip("tflite_micro")
from tests.deploy.custom_operator import ALL_KERNELS, SOURCES, Operator, run_litert, run_tflm
from tests.deploy.every_layer import pruned

BAD_ARGUMENT, NO_SPACE, BAD_BLOB, UNSUPPORTED = -1, -2, -3, -4


def convs(network: QuantizedNetwork) -> list[str]:
    return [op.name for op in network.ops if isinstance(op, Conv2D) and op.groups == 1]


def check_in_tflm(seed: int) -> None:
    network, images = calibrated(random_graph(seed), seed)
    network = pruned(network, (0.0, 0.5, 0.9)[seed % 3], seed)
    model = write_custom_tflite(network, convs(network), FORMS[seed % 2])
    expected = run(network, images)
    assert np.array_equal(run_tflm(model, images).reshape(expected.shape), expected), seed


@pytest.mark.parametrize("seed", range(10))
def test_tflm_computes_what_the_c_library_does(seed: int) -> None:
    check_in_tflm(seed)


@pytest.mark.full
def test_many_more_networks_in_tflm() -> None:
    for seed in range(10, 310):
        check_in_tflm(seed)


CASES = [(16, 8, 3, 1, (1, 1, 1, 1)), (5, 7, 3, 2, (1, 0, 0, 1)), (32, 3, 1, 1, (0, 0, 0, 0))]
"""Channels in and out, kernel, stride, padding: in place and copied, even and odd."""


def one_conv(case: tuple, seed: int = 0) -> tuple[QuantizedNetwork, np.ndarray]:  # type: ignore[type-arg]
    c_in, c_out, kernel, stride, padding = case
    b = Builder(seed, (1, 9, 10, c_in))
    made = b.conv("c", "x", c_out, kernel=kernel, stride=stride, padding=padding, bias=True)
    network, images = calibrated(b.build("one", made), seed)
    return pruned(network, 0.4, seed), images


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", FORMS)
def test_litert_tflm_and_the_c_library_agree(case: tuple, form: Form, tmp_path: Path) -> None:  # type: ignore[type-arg]
    network, images = one_conv(case)
    expected = run(network, images)
    path = tmp_path / "one.tflite"
    path.write_bytes(write_custom_tflite(network, ["c"], form))
    assert np.array_equal(run_litert(path, images[:1], expected[:1].shape), expected[:1])
    assert np.array_equal(run_tflm(path.read_bytes(), images), expected)
    host = HostModel(plan(network, layout(dequantize(network))))
    assert np.array_equal(host.run(images), expected)


def test_the_papers_network_in_a_smaller_file(models_folder: Path) -> None:
    """Smaller than the authors' own compressed file, and the same bytes as the standard one."""
    [path] = models_folder.rglob("resnet12_cifar10.tflite")
    network = load_tflite(path)
    stored, prepared = (write_custom_tflite(network, form=form) for form in reversed(FORMS))
    assert smaller_layers(network)
    assert max(len(stored), len(prepared)) < len(write_tflite(network))
    assert min(len(stored), len(prepared)) < 276_328
    shape = network.tensors[network.inputs[0]].shape[1:]
    images = np.random.default_rng(0).integers(-128, 128, (1, *shape)).astype(np.int8)
    for model in (stored, prepared):
        assert np.array_equal(run_tflm(model, images), run(network, images))


def test_only_what_gets_smaller_is_written_so() -> None:
    network, _ = one_conv((32, 20, 3, 1, (1, 1, 1, 1)))
    assert smaller_layers(network) == ("c",)
    network.params["c.weight"][...] = 1
    assert smaller_layers(network) == ()
    assert write_custom_tflite(network) == write_tflite(network)


def test_layers_that_cannot_be_written_so_are_named() -> None:
    network, _ = one_conv(CASES[0])
    with pytest.raises(UnsupportedError, match="'one' has no convolution 'd'"):
        write_custom_tflite(network, ["d"])
    seed = next(
        s for s in range(99) if any(getattr(o, "groups", 1) > 1 for o in random_graph(s).ops)
    )
    network, _ = calibrated(random_graph(seed), seed)
    grouped = next(op for op in network.ops if getattr(op, "groups", 1) > 1)
    with pytest.raises(UnsupportedError, match=f"'{grouped.name}' cannot be a DTMM_CONV_2D"):
        custom_conv(network, grouped)


def opened(options: list[int] | bytes, blob: bytes, shape: tuple[int, ...] = (9, 10, 16)) -> int:
    if not isinstance(options, bytes):
        options = struct.pack("<hH14h", *options)
    return int(Operator(options, np.frombuffer(blob, np.uint8), shape).status)


def test_malformed_operators_are_refused() -> None:
    network, _ = one_conv(CASES[0])
    made = custom_conv(network, network.ops[0])  # type: ignore[arg-type]
    good = list(struct.unpack("<hH14h", made.options))
    assert opened(good, made.constant) == 0
    assert opened(made.options[:-1], made.constant) == BAD_BLOB
    assert opened(good, made.constant[:-1]) == BAD_BLOB
    assert opened([2, *good[1:]], made.constant) == UNSUPPORTED
    for position, value in [(1, 7), (2, 1), (3, 5), (4, 0), (5, -1), (6, 0), (8, -1), (12, 200)]:
        options = [*good[:position], value, *good[position + 1 :]]
        assert opened(options, made.constant) == BAD_BLOB, position
    assert opened(good, made.constant, (9, 10, 15)) == BAD_ARGUMENT
    assert opened([*good[:6], 9, 9, *good[8:]], made.constant) == BAD_ARGUMENT  # no output
    assert opened(good, made.constant, (1 << 30, 1 << 30, 16)) == BAD_ARGUMENT
    wide = [*good[:8], *[32767] * 4, *good[12:]]
    assert opened(wide, made.constant) in (BAD_ARGUMENT, UNSUPPORTED)
    fwcs, _ = read_fwcs(made.constant)
    flipped = bytearray(made.constant)
    flipped[24 + fwcs.weights.size + 11] = 0x7F  # a shift beyond 31
    assert opened(good, seal_fwcs(bytes(flipped))) == BAD_BLOB


def test_tflm_refuses_a_model_whose_shapes_do_not_fit() -> None:
    network, images = one_conv(CASES[0])
    content = bytearray(write_custom_tflite(network, ["c"]))
    made = custom_conv(network, network.ops[0])  # type: ignore[arg-type]
    at = content.find(made.options)
    content[at + 8 : at + 10] = struct.pack("<h", 2)  # another stride: another output
    with pytest.raises(RuntimeError):
        run_tflm(bytes(content), images)


def test_the_kernels_of_a_model_are_listed() -> None:
    network, _ = one_conv(CASES[0])
    assert "X(c16_2x4)" in kernel_header(network, ["c"])
    assert kernel_header(network, []).endswith("#define DTMM_OP_KERNELS(X)\n")


@pytest.mark.parametrize("target", ["m55", "m4"])
def test_it_compiles_for_the_device(toolchain: None, target: str, tmp_path: Path) -> None:
    (tmp_path / "dtmm_op_kernels.h").write_text(ALL_KERNELS + "\n")
    command = [
        require_tool("clang").found_path, *target_flags(target), "-Wall", "-Wextra", "-Werror",
        "-isystem", "/usr/include/newlib", f"-I{include_dir()}", f"-I{tmp_path}",
        "-c", SOURCES / "dtmm_conv_2d_op.c", "-o", tmp_path / "op.o",
    ]  # fmt: skip
    done = subprocess.run([str(w) for w in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
