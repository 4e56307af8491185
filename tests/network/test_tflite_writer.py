"""What the .tflite file itself must be, besides running right (tests/quantization/test_tflm.py)."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from dtmm.errors import UnsupportedError
from dtmm.network import fold
from dtmm.network.ir import AveragePool2D, MaxPool2D
from dtmm.network.tflite_ops import same_padding
from dtmm.network.tflite_writer import ALIGNMENT, write_tflite
from dtmm.quantization import QuantizedNetwork, quantize
from tests.training.networks import Builder, residual, vgg

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")


def quantized(network) -> QuantizedNetwork:
    folded = fold(network)
    return quantize(folded, dict.fromkeys(folded.tensors, (-1.0, 1.0)))


def read(network: QuantizedNetwork):
    return schema.ModelT.InitFromPackedBuf(write_tflite(network))


def operators(model) -> list[str]:
    names = {value: key for key, value in vars(schema.BuiltinOperator).items()}
    codes = [names[code.builtinCode] for code in model.operatorCodes]
    return [codes[operator.opcodeIndex] for operator in model.subgraphs[0].operators]


def test_the_file_says_what_it_is() -> None:
    network = quantized(residual())
    content = write_tflite(network)
    assert content[4:8] == b"TFL3"
    assert content == write_tflite(network)
    model = read(network)
    assert (model.version, model.description) == (3, b"residual")
    graph = model.subgraphs[0]
    names = [tensor.name.decode() for tensor in graph.tensors]
    assert [names[n] for n in graph.inputs] == ["x"]
    assert [names[n] for n in graph.outputs] == ["classifier"]


def test_weights_and_scales_stand_in_the_file() -> None:
    network = quantized(vgg())
    model = read(network)
    by_name = {tensor.name.decode(): tensor for tensor in model.subgraphs[0].tensors}
    for key, values in network.params.items():
        found = model.buffers[by_name[key].buffer].data
        assert found.tobytes() == values.tobytes()
        assert tuple(by_name[key].shape) == values.shape
    for key, scales in network.weight_scales.items():
        assert by_name[key].quantization.scale.tolist() == scales.tolist()
        assert not by_name[key].quantization.zeroPoint.any()
    for name, tensor in network.tensors.items():
        found = by_name[name].quantization
        assert (found.scale[0], found.zeroPoint[0]) == (tensor.scale, tensor.zero_point)


def test_constants_are_aligned() -> None:
    content = write_tflite(quantized(residual()))
    model = schema.Model.GetRootAs(content)
    offsets = []
    for n in range(model.BuffersLength()):
        buffer = model.Buffers(n)
        if buffer.DataLength():
            table = buffer._tab
            offsets.append(table.Vector(table.Offset(4)))
    assert len(offsets) > 10
    assert [offset for offset in offsets if offset % ALIGNMENT] == []


@pytest.mark.parametrize(
    ("stride", "padding", "expected"),
    [(1, (1, 1, 1, 1), ["CONV_2D"]), (1, (0, 0, 0, 0), ["CONV_2D"]),
     (2, (0, 0, 1, 1), ["CONV_2D"]),  # TFLite's SAME on an even image
     (2, (1, 1, 1, 1), ["PAD", "CONV_2D"]),  # torch's
     (1, (2, 1, 0, 1), ["PAD", "CONV_2D"])],
)  # fmt: skip
def test_padding_is_same_or_explicit(stride, padding, expected) -> None:
    b = Builder(0, (1, 8, 8, 2))
    network = b.build("c", b.conv("c", "x", 3, stride=stride, padding=padding, bias=True))
    assert operators(read(quantized(network))) == expected


def test_a_maximum_is_padded_and_an_average_is_not() -> None:
    b = Builder(0, (1, 8, 8, 2))
    network = quantized(b.build("p", b.pool("p", "x", window=3, padding=(1, 1, 1, 1))))
    assert operators(read(network)) == ["PADV2", "MAX_POOL_2D"]
    pool = network.ops[0]
    assert isinstance(pool, MaxPool2D)
    average = AveragePool2D("p", "x", "p", pool.window, pool.stride, pool.padding)
    with pytest.raises(UnsupportedError, match="'p' has padding"):
        write_tflite(dataclasses.replace(network, ops=(average,)))


@pytest.mark.parametrize(
    ("size", "extent", "stride", "expected"),
    [(8, 3, 1, (1, 1)), (8, 3, 2, (0, 1)), (7, 3, 2, (1, 1)), (8, 1, 2, (0, 0)), (5, 4, 1, (1, 2)),
     (8, 2, 4, (0, 0))],
)  # fmt: skip
def test_same_padding(size: int, extent: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding(size, extent, stride) == expected


def test_without_the_extra_the_error_says_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['ai_edge_litert'] = None\n"
        "from dtmm.network.tflite_writer import write_tflite\n"
        "from dtmm.errors import ToolchainError\n"
        "try:\n    write_tflite(None)\n"
        "except ToolchainError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ai_edge_litert" in run.stdout
    assert "pip install 'dtmm[tflite]'" in run.stdout
