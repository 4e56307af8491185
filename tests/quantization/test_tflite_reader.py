"""The .tflite reader against the writer, against TFLM on real models, and what it refuses."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from dtmm.deploy import HostModel, plan
from dtmm.errors import DataError, UnsupportedError
from dtmm.network import ir
from dtmm.network.tflite_writer import write_tflite
from dtmm.planning import layout
from dtmm.quantization import run
from dtmm.quantization.dequantize import dequantize
from dtmm.quantization.tflite_reader import load_tflite, read_tflite
from tests.quantization.graphs import random_graph
from tests.quantization.oracles import calibrated, tflm
from tests.training.networks import Builder


def check_round_trip(seed: int) -> set[type]:
    network, images = calibrated(random_graph(seed), seed)
    found = read_tflite(write_tflite(network), network.name)
    assert np.array_equal(run(found, images), run(network, images)), seed
    for op in network.ops:  # names survive, tensors keep their scales
        assert found.tensors[op.output] == network.tensors[op.output], (seed, op)
    assert set(map(type, network.ops)) <= set(map(type, found.ops)) | {ir.Conv2D}
    return set(map(type, found.ops))


def test_what_is_written_is_read() -> None:
    kinds: set[type] = set()
    for seed in range(40):
        kinds |= check_round_trip(seed)
    assert len(kinds) == 17, "every operator of the int8 path"


@pytest.mark.full
def test_what_is_written_is_read_in_many_more() -> None:
    for seed in range(40, 340):
        check_round_trip(seed)


def test_models_folder_compute_what_tflm_does(models_folder: Path) -> None:
    from tflite_micro import runtime

    files = sorted(models_folder.rglob("*.tflite"))
    assert files
    for path in files:
        network = load_tflite(path)
        shape = network.tensors[network.inputs[0]].shape[1:]
        images = np.random.default_rng(0).integers(-128, 128, (2, *shape)).astype(np.int8)
        interpreter = runtime.Interpreter.from_file(str(path), arena_size=8 << 20)
        for image, found in zip(images, run(network, images), strict=True):
            interpreter.set_input(image[None], 0)
            interpreter.invoke()
            assert np.array_equal(interpreter.get_output(0)[0], found), path.name


def small_model() -> bytes:
    b = Builder(0, (1, 6, 6, 2))
    stem = b.conv("stem", "x", 3, bias=True)
    deep = b.depthwise("deep", stem, stride=2)
    joined = b.append(ir.Concat("joined", (deep, deep), "joined"))
    flat = b.flatten(b.pool("pool", joined, window=3, stride=1))
    network, _ = calibrated(b.build("small", b.fc("classifier", flat, 4)), 0)
    return write_tflite(network)


MODEL = small_model()


def with_schema(change, model_bytes: bytes = MODEL) -> bytes:  # type: ignore[no-untyped-def]
    """The small model, or another, after a change of its flatbuffer's objects."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(model_bytes, 0)
    change(model, schema)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _float(model, schema) -> None:  # type: ignore[no-untyped-def]
    model.subgraphs[0].tensors[0].type = schema.TensorType.FLOAT32


def _hybrid(model, schema) -> None:  # type: ignore[no-untyped-def]
    """Int8 weights between float activations, as dynamic-range quantization leaves them."""
    for tensor in model.subgraphs[0].tensors:
        if tensor.buffer == 0:
            tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None


def _kind(name: str):  # type: ignore[no-untyped-def]
    def change(model, schema) -> None:  # type: ignore[no-untyped-def]
        code = getattr(schema.BuiltinOperator, name)
        model.operatorCodes[0].builtinCode = code
        model.operatorCodes[0].deprecatedBuiltinCode = min(code, 127)

    return change


def _tanh(model, schema) -> None:  # type: ignore[no-untyped-def]
    options = model.subgraphs[0].operators[0].builtinOptions
    options.fusedActivationFunction = schema.ActivationFunctionType.TANH


def _two_graphs(model, schema) -> None:  # type: ignore[no-untyped-def]
    model.subgraphs.append(model.subgraphs[0])


def _shifted_weights(model, schema) -> None:  # type: ignore[no-untyped-def]
    tensor = model.subgraphs[0].tensors[model.subgraphs[0].operators[0].inputs[1]]
    tensor.quantization.zeroPoint = tensor.quantization.zeroPoint + 3


def _batch(model, schema) -> None:  # type: ignore[no-untyped-def]
    for tensor in model.subgraphs[0].tensors:
        if tensor.buffer == 0:
            tensor.shape = np.array([2, *tensor.shape[1:]], np.int32)


def _wrong_shape(model, schema) -> None:  # type: ignore[no-untyped-def]
    tensor = model.subgraphs[0].tensors[model.subgraphs[0].operators[0].outputs[0]]
    tensor.shape = np.array([1, 6, 6, 7], np.int32)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (_float, UnsupportedError, "tensor 'x' is FLOAT32, expected a model in INT8"),
        (_hybrid, UnsupportedError, "hybrid one with int8 weights alone, must be quantized"),
        (_kind("TRANSPOSE"), UnsupportedError, r"0 TRANSPOSE \(makes 'stem'\) is not supported"),
        (_tanh, UnsupportedError, r"0 CONV_2D .* fused activation 4, expected none, RELU"),
        (_two_graphs, UnsupportedError, "the model has 2 subgraphs, expected 1"),
        (_shifted_weights, UnsupportedError, "zero point 3, expected 0"),
        (_batch, UnsupportedError, r"'x' has shape \[2, 6, 6, 2\], expected .* batch 1"),
        (_wrong_shape, DataError, r"writes 'stem' of shape \(1, 6, 6, 7\), expected"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_not_supported_is_named(change, error, says) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=says) as caught:
        read_tflite(with_schema(change), "small")
    assert "\n" not in str(caught.value)


def test_scales_for_a_whole_tensor_and_a_bias_left_out() -> None:
    def change(model, schema) -> None:  # type: ignore[no-untyped-def]
        graph = model.subgraphs[0]
        first = graph.operators[0]
        weights = graph.tensors[first.inputs[1]]
        weights.quantization.scale = weights.quantization.scale[:1]
        weights.quantization.zeroPoint = weights.quantization.zeroPoint[:1]
        first.inputs = first.inputs[:2]

    network = read_tflite(with_schema(change), "small")
    first = network.ops[0]
    assert len(set(network.weight_scales[first.weight])) == 1
    assert network.weight_scales[first.weight].shape == (3,)
    assert not network.params[first.bias].any()


@pytest.mark.parametrize("kind", [ir.Add, ir.Mul])
@pytest.mark.parametrize("count", [1, 6])
def test_constants_with_a_zero_point(kind: type, count: int) -> None:
    """As the converter writes the 3 of a hard-swish: 127 of scale 3/255 above -128."""
    b = Builder(0, (1, 5, 6, 3))
    b.params["k"] = np.linspace(1, 3, count).astype(np.float32)
    made = kind("s", (b.conv("c", "x", 6, bias=True),), "s", ir.Activation.RELU6, "k")
    network, images = calibrated(b.build("constant", b.append(made)), 0)
    network = dataclasses.replace(
        network,
        params={**network.params, "k": np.full(count, 127, np.int8)},
        weight_scales={**network.weight_scales, "k": np.array([3 / 255], np.float32)},
        zero_points={"k": -128},
    )
    expected = run(network, images)
    assert np.array_equal(tflm(network, images)["s"], expected)
    found = read_tflite(write_tflite(network), "constant")
    assert found.zero_points == {"s.constant": -128}
    assert np.array_equal(run(found, images), expected)
    assert dequantize(found).params["s.constant"] == pytest.approx(np.full(count, 3.0))
    host = HostModel(plan(found, layout(dequantize(found))))
    assert np.array_equal(host.run(images), expected)


def test_constants_behind_the_flatbuffer() -> None:
    """As files beyond 2 GiB have them: `Buffer.offset`."""
    behind = b""

    def change(model, schema) -> None:  # type: ignore[no-untyped-def]
        nonlocal behind
        for buffer in model.buffers:
            if buffer.data is not None and len(buffer.data):
                buffer.offset, buffer.size = 1 << 20, len(buffer.data)
                buffer.offset += len(behind)
                behind += bytes(buffer.data)
                buffer.data = None

    content = with_schema(change)
    content += bytes((1 << 20) - len(content)) + behind
    network, plain = read_tflite(content, "small"), read_tflite(MODEL, "small")
    for key, values in plain.params.items():
        assert np.array_equal(network.params[key], values)


def test_operators_that_compute_a_shape_are_folded() -> None:
    """SHAPE, STRIDED_SLICE and PACK on int32, as converters leave them before a RESHAPE."""

    def change(model, schema) -> None:  # type: ignore[no-untyped-def]
        graph = model.subgraphs[0]
        kinds = [code.builtinCode for code in model.operatorCodes]
        at = next(
            n
            for n, op in enumerate(graph.operators)
            if kinds[op.opcodeIndex] == schema.BuiltinOperator.RESHAPE
        )
        reshape = graph.operators[at]

        def tensor(name: str, shape: list[int]) -> int:
            made = schema.TensorT()
            made.name, made.shape, made.type = name, shape, schema.TensorType.INT32
            made.buffer = 0
            graph.tensors.append(made)
            return len(graph.tensors) - 1

        def operator(name: str, inputs: list[int], output: int) -> object:
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, name)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            model.operatorCodes.append(code)
            made = schema.OperatorT()
            made.opcodeIndex = len(model.operatorCodes) - 1
            made.inputs, made.outputs = inputs, [output]
            return made

        shape, batch, packed = tensor("shape", [4]), tensor("batch", []), tensor("packed", [2])
        source = reshape.inputs[0]
        graph.operators[at:at] = [
            operator("SHAPE", [source], shape),
            operator("STRIDED_SLICE", [shape, shape, shape, shape], batch),
            operator("PACK", [batch, batch], packed),
        ]
        reshape.inputs = [source, packed]

    network, plain = read_tflite(with_schema(change), "small"), read_tflite(MODEL, "small")
    assert [type(op) for op in network.ops] == [type(op) for op in plain.ops]
    images = np.random.default_rng(0).integers(-128, 128, (2, 6, 6, 2)).astype(np.int8)
    assert np.array_equal(run(network, images), run(plain, images))


def test_a_mean_reshaped_to_a_pixel_keeps_its_pixel() -> None:
    """Squeeze and excite as Keras writes it: MEAN without kept axes, then RESHAPE."""
    b = Builder(0, (1, 6, 6, 2))
    stem = b.conv("stem", "x", 8, bias=True)
    squeezed = b.append(ir.Mean("squeeze", stem, "squeeze", True))
    gate = b.append(ir.Logistic("gate", b.conv("excite", squeezed, 8, kernel=1, bias=True), "gate"))
    last = b.append(ir.Mul("product", (stem, gate), "product"))
    network, images = calibrated(b.build("se", b.fc("classifier", b.mean(last), 4)), 0)

    def change(model, schema) -> None:  # type: ignore[no-untyped-def]
        graph = model.subgraphs[0]
        number = next(n for n, t in enumerate(graph.tensors) if t.name == b"squeeze")
        at = next(n for n, op in enumerate(graph.operators) if number in op.outputs)
        vector = copy.deepcopy(graph.tensors[number])
        vector.name, vector.shape = "vector", [1, 8]
        graph.tensors.append(vector)
        graph.operators[at].outputs = [len(graph.tensors) - 1]
        graph.operators[at].builtinOptions.keepDims = False
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESHAPE
        model.operatorCodes.append(code)
        reshape = schema.OperatorT()
        reshape.opcodeIndex = len(model.operatorCodes) - 1
        reshape.inputs, reshape.outputs = [len(graph.tensors) - 1], [number]
        graph.operators.insert(at + 1, reshape)

    found = read_tflite(with_schema(change, write_tflite(network)), "se")
    assert np.array_equal(run(found, images), run(network, images))
    assert len(found.ops) == len(network.ops)


def test_uint8_at_the_border_is_left_out() -> None:
    """As models for cameras have it: QUANTIZE from and to uint8."""

    def change(model, schema) -> None:  # type: ignore[no-untyped-def]
        graph = model.subgraphs[0]
        code = schema.OperatorCodeT()
        code.builtinCode = schema.BuiltinOperator.QUANTIZE
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        model.operatorCodes.append(code)
        for border in ("inputs", "outputs"):
            names = getattr(graph, border)
            other = copy.deepcopy(graph.tensors[names[0]])
            other.type, other.name = schema.TensorType.UINT8, "pixels"
            other.quantization.zeroPoint = other.quantization.zeroPoint + 128
            graph.tensors.append(other)
            made = schema.OperatorT()
            made.opcodeIndex = len(model.operatorCodes) - 1
            pair = [len(graph.tensors) - 1], [int(names[0])]
            is_input = border == "inputs"
            made.inputs, made.outputs = pair if is_input else pair[::-1]
            graph.operators.insert(0 if is_input else len(graph.operators), made)
            setattr(graph, border, [len(graph.tensors) - 1])

    network, plain = read_tflite(with_schema(change), "small"), read_tflite(MODEL, "small")
    images = np.random.default_rng(0).integers(-128, 128, (2, 6, 6, 2)).astype(np.int8)
    assert np.array_equal(run(network, images), run(plain, images))


def outside(name: str, packing: str | None = "unpacked") -> tuple[bytes, bytes]:
    """The small model with its constants in a file of this name, and that file."""
    behind = b""

    def change(model, schema) -> None:  # type: ignore[no-untyped-def]
        nonlocal behind
        group = schema.ExternalBufferGroupT()
        group.name = name
        model.externalBufferGroups, model.externalBuffers = [group], []
        for tensor in model.subgraphs[0].tensors:
            data = model.buffers[tensor.buffer].data
            if data is None or not len(data):
                continue
            entry = schema.ExternalBufferT()
            entry.id, entry.group, entry.packing = 7 + len(model.externalBuffers), 0, packing
            entry.offset, entry.length = len(behind), len(data)
            behind += bytes(data)
            tensor.buffer, tensor.externalBuffer = 0, entry.id
            model.externalBuffers.append(entry)

    return with_schema(change), behind


def test_constants_in_a_file_beside_the_model(tmp_path: Path) -> None:
    path, plain = tmp_path / "small.tflite", read_tflite(MODEL, "small")
    content, constants = outside("weights.bin")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"small\.tflite: .*weights\.bin, which is no file"):
        load_tflite(path)
    (tmp_path / "weights.bin").write_bytes(constants)
    network = load_tflite(path)
    for key, values in plain.params.items():
        assert np.array_equal(network.params[key], values)
    (tmp_path / "weights.bin").write_bytes(constants[:-1])
    with pytest.raises(DataError, match=f"ends at byte {len(constants)} of {len(constants) - 1}"):
        load_tflite(path)
    with pytest.raises(UnsupportedError, match=r"another file, 'weights\.bin': expected the model"):
        read_tflite(content, "small")


@pytest.mark.parametrize("name", ["../weights.bin", "/etc/passwd", "", ".."])
def test_files_elsewhere_are_not_opened(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a name without a folder"):
        read_tflite(outside(name)[0], "small", tmp_path)


def test_packed_constants_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="external buffer 7 is packed 'int4'"):
        read_tflite(outside("w", "int4")[0], "small", tmp_path)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read model .*none\.tflite: No such file"):
        load_tflite(tmp_path / "none.tflite")
    path = tmp_path / "text.tflite"
    path.write_text("nothing of that kind")
    with pytest.raises(DataError, match=r"model .*text\.tflite: it begins with .* expected a"):
        load_tflite(path)
