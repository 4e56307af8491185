"""Random graphs of every operator: generated C against the integer reference, byte for byte.

Of every layer, and on the device: test_every_layer.py."""

from __future__ import annotations

import numpy as np
import pytest

from dtmm.deploy import HostModel, plan
from dtmm.deploy.steps import view_numbers
from dtmm.errors import UnsupportedError
from dtmm.network.ir import Concat, HardSwish, Logistic, Network
from dtmm.planning import layout
from dtmm.planning.layout import copied_inputs, runs_code
from dtmm.quantization import run
from tests.quantization.graphs import random_graph
from tests.quantization.oracles import calibrated
from tests.training.networks import Builder


def check_on_host(network: Network, seed: int) -> None:
    network8, images = calibrated(network, seed)
    found = HostModel(plan(network8, layout(network))).run(images)
    assert np.array_equal(found, run(network8, images))


@pytest.mark.parametrize("seed", range(24))
def test_host_equals_the_reference(seed: int) -> None:
    check_on_host(random_graph(seed), seed)


def joined(widths: tuple[int, ...], again: bool = False) -> Network:
    """Branches of these widths joined, then joined with the stem."""
    b = Builder(3, (1, 7, 6, 2))
    stem = b.conv("stem", "x", 12, bias=True)
    parts = [b.conv(f"part{n}", stem, width, bias=True) for n, width in enumerate(widths)]
    if again:
        parts[0] = b.append(HardSwish("swish", parts[0], "swish"))
    inner = b.append(Concat("inner", tuple(parts), "inner"))
    outer = b.append(Concat("outer", (inner, stem), "outer"))
    last = b.mean(b.conv("last", outer, 5, bias=True))
    return b.build("joined", b.fc("classifier", last, 4))


@pytest.mark.parametrize("again", [False, True])
def test_parts_of_a_concat_are_made_in_place(again: bool) -> None:
    network = joined((4, 6, 8), again)
    place = layout(network)
    inner, outer = (op for op in network.ops if isinstance(op, Concat))
    assert copied_inputs(place, inner) == ()
    assert copied_inputs(place, outer) == ("stem",)  # others read it too
    assert not runs_code(place, inner)
    network8, _ = calibrated(network, 0)
    deployment = plan(network8, place)
    numbers = view_numbers(deployment)
    assert len(set(numbers.values())) == len(network.ops) + 1
    held = {name for name, buffer in place.tensor_buffer.items() if buffer == "outer"}
    assert held == {"outer", "inner", "swish" if again else "part0", "part1", "part2"}
    check_on_host(network, 0)


def test_parts_begin_at_even_channels() -> None:
    network = joined((3, 6, 7))
    place = layout(network)
    inner = next(op for op in network.ops if isinstance(op, Concat))
    assert copied_inputs(place, inner) == ("part1", "part2")
    check_on_host(network, 1)


def test_what_is_read_elsewhere_is_copied() -> None:
    b = Builder(3, (1, 5, 5, 2))
    stem = b.conv("stem", "x", 8, bias=True)
    gate = b.append(Logistic("gate", stem, "gate"))
    twice = b.append(Concat("twice", ("x", stem, stem, gate), "twice"))
    network = b.build("twice", b.fc("classifier", b.mean(b.conv("c", twice, 4, bias=True)), 3))
    place = layout(network)
    assert copied_inputs(place, network.ops[2]) == ("x", "stem", "stem")
    assert place.tensor_buffer["gate"] == "twice"


def test_fixed_scales_are_changed_before_a_concat() -> None:
    """By `fold`; see tests/network/test_fold.py."""
    for seed in range(40):
        network = random_graph(seed)
        network8, _ = calibrated(network, seed)
        for op in network8.ops:
            if isinstance(op, Concat):
                scales = {(network8.tensors[n].scale, network8.tensors[n].zero_point)
                          for n in (*op.inputs, op.output)}  # fmt: skip
                assert len(scales) == 1


def test_a_grouped_convolution_takes_its_own_kernel_only() -> None:
    b = Builder(0, (1, 6, 6, 4))
    network = b.build("g", b.mean(b.grouped("grouped", b.conv("c", "x", 8, bias=True), 8, 2)))
    network8, _ = calibrated(network, 0)
    deployment = plan(network8, layout(network))
    assert deployment.kernels["grouped"] == "conv_grouped"
    assert deployment.layers["grouped"].weights.size == 8 * 9 * 4
    with pytest.raises(UnsupportedError, match="'grouped' of 2 groups cannot run on conv_dense"):
        plan(network8, layout(network), {"grouped": "conv_dense"})
