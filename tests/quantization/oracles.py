"""Other people's interpreters of a .tflite file, and random networks to try them on."""

from __future__ import annotations

import dataclasses

import numpy as np

from dtmm.network.ir import Activation, AveragePool2D, MaxPool2D, Network
from dtmm.network.tflite_writer import write_tflite
from dtmm.quantization import QuantizedNetwork, quantize
from dtmm.training.calibrate import activation_ranges
from tests.training.networks import Builder


def tflm(network: QuantizedNetwork, images: np.ndarray) -> dict[str, np.ndarray]:
    """Every tensor of the network but its input, [N, ...], from TFLM."""
    from tflite_micro import runtime

    names = tuple(op.output for op in network.ops)
    model = write_tflite(dataclasses.replace(network, outputs=names))
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=256 << 20)
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for n in range(len(images)):
        interpreter.set_input(images[n : n + 1], 0)
        interpreter.invoke()
        for i, name in enumerate(names):
            found[name].append(np.array(interpreter.get_output(i)))
    return {name: np.concatenate(values) for name, values in found.items()}


def litert(network: QuantizedNetwork, images: np.ndarray) -> dict[str, np.ndarray]:
    """The same from LiteRT's reference kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    names = tuple(op.output for op in network.ops)
    model = write_tflite(dataclasses.replace(network, outputs=names))
    reference = OpResolverType.BUILTIN_REF
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=reference)
    interpreter.allocate_tensors()
    index = {tensor["name"]: tensor["index"] for tensor in interpreter.get_tensor_details()}
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for n in range(len(images)):
        interpreter.set_tensor(index[network.inputs[0]], images[n : n + 1])
        interpreter.invoke()
        for name in names:
            found[name].append(interpreter.get_tensor(index[name]).copy())
    return {name: np.concatenate(values) for name, values in found.items()}


def calibrated(network: Network, seed: int) -> tuple[QuantizedNetwork, np.ndarray]:
    """The network in int8, and three images [3, H, W, C] of every code."""
    rng = np.random.default_rng(seed)
    shape = network.tensors[network.inputs[0]][1:]
    images = rng.normal(size=(8, *shape)).astype(np.float32)
    quantized = quantize(network, activation_ranges(network, images))
    return quantized, rng.integers(-128, 128, (3, *shape)).astype(np.int8)


def random_network(seed: int) -> Network:
    """A folded network whose operators, sizes and channels depend on the seed."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(6, 12))
    b = Builder(seed, (1, size, size + int(rng.integers(0, 3)), int(rng.integers(1, 5))))
    x = b.conv("stem", "x", int(rng.integers(1, 20)), kernel=int(rng.choice([1, 3, 5])), bias=True)
    for n in range(int(rng.integers(1, 4))):
        kind = rng.choice(["same", "stride", "valid", "residual", "max", "average"])
        channels = int(rng.integers(1, 24))
        if kind == "same":
            x = b.conv(f"c{n}", x, channels, bias=True)
        elif kind == "stride":
            padding = ((1, 1, 1, 1), (0, 0, 1, 1), (1, 0, 0, 1))[int(rng.integers(3))]
            x = b.conv(f"c{n}", x, channels, stride=2, padding=padding, bias=True)
        elif kind == "valid":
            x = b.conv(f"c{n}", x, channels, kernel=1, bias=True)
        elif kind == "residual":
            width = b.tensors[x][-1]
            x = b.add(f"a{n}", b.conv(f"c{n}", x, width, bias=True), x)
        elif min(b.tensors[x][1:3]) >= 2:
            x = b.pool(f"p{n}", x, kind=MaxPool2D if kind == "max" else AveragePool2D)
    x = b.mean(x) if rng.random() < 0.5 else b.flatten(x)
    network = b.build(f"random{seed}", b.fc("classifier", x, int(rng.integers(1, 12))))
    return dataclasses.replace(
        network,
        ops=tuple(with_activation(op, rng) for op in network.ops),
        params=with_dead_filter(network, rng),
    )


def with_activation(op, rng):
    if not hasattr(op, "activation"):
        return op
    return dataclasses.replace(op, activation=list(Activation)[int(rng.integers(3))])


def with_dead_filter(network: Network, rng: np.random.Generator) -> dict[str, np.ndarray]:
    params = dict(network.params)
    for op in network.convs():
        weight = params[op.weight].copy()
        weight[int(rng.integers(len(weight)))] = 0
        weight[:, 0, 0] *= 10.0 ** rng.uniform(-2, 1)  # scales that differ between layers
        params[op.weight] = weight
    return params
