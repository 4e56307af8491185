"""Buffers, halos, padding and live sets against hand-computed ones."""

from __future__ import annotations

import dataclasses

import pytest

from dtmm.errors import UnsupportedError
from dtmm.network.ir import BatchNorm
from dtmm.planning import layout


def test_residual_network(residual) -> None:
    planned = layout(residual)
    facts = {
        name: (b.group, b.channels, b.height, b.halo, b.channel_multiple)
        for name, b in planned.buffers.items()
    }
    assert facts == {
        "image": ("image", 3, 8, 1, 1),
        "stem": ("stem", 32, 8, 1, 16),
        "a": ("a", 16, 8, 1, 16),
        "b": ("stem", 32, 8, 1, 16),  # holds block too, which `down` reads with padding
        "down": ("down", 48, 4, 0, 16),
        "shortcut": ("down", 48, 4, 0, 16),
        "mean": ("down", 48, 1, 0, 16),
        "classifier": ("classifier", 10, 1, 0, 16),
    }
    assert planned.tensor_buffer["block"] == "b"
    assert planned.tensor_buffer["join"] == "shortcut"
    assert {step.op: set(step.live) for step in planned.steps} == {
        "stem": {"image", "stem"},
        "a": {"stem", "a"},
        "b": {"stem", "a", "b"},
        "block": {"stem", "b"},
        "down": {"b", "down"},
        "shortcut": {"b", "down", "shortcut"},
        "join": {"down", "shortcut"},
        "mean": {"shortcut", "mean"},
        "classifier": {"mean", "classifier"},
    }
    # (8 + 2 halo rows) * (8 + 1 shared halo column) + 1 pixels
    assert planned.buffers["image"].bytes(3) == 91 * 3
    assert planned.buffers["stem"].bytes(32) == 91 * 32
    assert planned.buffers["stem"].bytes(24) == 91 * 32
    assert planned.buffers["stem"].bytes(8) == 91 * 16
    assert planned.buffers["shortcut"].bytes(48) == 16 * 48
    assert planned.buffers["classifier"].bytes(10) == 16


def test_chain_flattens_in_place(chain) -> None:
    planned = layout(chain)
    assert {name: b.halo for name, b in planned.buffers.items()} == {
        "image": 1, "first": 0, "pool": 0, "second": 0, "pool2": 0, "hidden": 0, "classifier": 0,
    }  # fmt: skip
    assert planned.tensor_buffer["flat"] == "pool2"
    assert planned.buffers["pool2"].group == "second"
    assert (planned.buffers["pool2"].height, planned.buffers["pool2"].channels) == (2, 40)
    live = {step.op: set(step.live) for step in planned.steps}
    assert live["flat"] == {"pool2"}
    assert live["hidden"] == {"pool2", "hidden"}


def test_halo_follows_from_bottom_and_right_padding_too(builder) -> None:
    net = builder(8, 8, 16)
    same = net.conv("same", "image", 16, stride=2, padding=(0, 0, 1, 1))
    wide = net.conv("wide", same, 16, kernel=5, padding=(1, 1, 3, 3))
    planned = layout(net.build(wide))
    assert planned.buffers["image"].halo == 1
    assert planned.buffers["image"].channel_multiple == 16  # no im2col from 16 channels on
    assert planned.buffers["same"].halo == 3
    assert planned.buffers["wide"].halo == 0


def test_unused_bottom_padding_needs_no_halo(builder) -> None:
    net = builder(9, 9, 16)
    conv = net.conv("conv", "image", 16, kernel=2, stride=2, padding=(0, 0, 0, 0))
    assert layout(net.build(conv)).buffers["image"].halo == 0


def test_add_keeps_operands_that_are_needed_later(builder) -> None:
    net = builder(8, 8, 3)
    stem = net.conv("stem", "image", 16)
    b = net.conv("b", stem, 16)
    total = net.add("total", stem, b)
    again = net.add("again", total, b)
    third = net.add("third", stem, again)
    planned = layout(net.build(third))
    assert planned.tensor_buffer["total"] == "total"  # both operands are read again
    assert planned.tensor_buffer["again"] == "b"
    assert planned.tensor_buffer["third"] == "b"


def test_add_takes_the_first_operand_if_only_that_is_free(builder) -> None:
    net = builder(8, 8, 3)
    stem = net.conv("stem", "image", 16)
    b = net.conv("b", stem, 16)
    total = net.add("total", stem, b)
    planned = layout(net.build(net.conv("c", total, 16), b))
    assert planned.tensor_buffer["total"] == "stem"
    assert "b" in planned.steps[-1].live  # a network output stays to the end


def test_a_network_input_is_never_overwritten(builder) -> None:
    net = builder(8, 8, 16)
    conv = net.conv("conv", "image", 16)
    planned = layout(net.build(net.add("sum", conv, "image")))
    assert planned.tensor_buffer["sum"] == "conv"
    planned = layout(net.build(net.add("twice", "image", "image")))
    assert planned.tensor_buffer["twice"] == "twice"


def test_flattened_image_for_anything_but_a_fully_connected_layer(builder) -> None:
    net = builder(4, 4, 3)
    flat = net.flatten("flat", net.conv("conv", "image", 16))
    with pytest.raises(UnsupportedError, match=r"'flat' flattens .*\(4, 4, 16\).* output"):
        layout(net.build(flat))
    twice = net.add("twice", flat, flat)
    with pytest.raises(UnsupportedError, match="'twice'; only a fully connected"):
        layout(net.build(twice))


def test_unfolded_network(residual) -> None:
    norm = BatchNorm("norm", "stem", "x", "s", "h", "m", "v")
    unfolded = dataclasses.replace(residual, ops=(*residual.ops[:1], norm, *residual.ops[1:]))
    with pytest.raises(UnsupportedError, match="'norm' is a BatchNorm: fold"):
        layout(unfolded)
