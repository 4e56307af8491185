"""Malformed problems are named errors."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from dtmm.errors import DtmmError
from dtmm.scheduler import Budgets, Group, Layer, MemoryStep, Problem, solve, validate


def _problem() -> Problem:
    groups = tuple(
        Group(name, np.array([16, 8]), *(np.ones(2) for _ in range(3))) for name in ("in", "out")
    )
    shape = (2, 2, 3)
    layer = Layer(
        "conv",
        0,
        1,
        ("conv_dense", "conv_fwcs", "conv_fwcs"),
        np.ones((2, 3), dtype=np.int64),
        *(np.ones(shape) for _ in range(4)),
        np.ones(shape, dtype=bool),
    )
    step = MemoryStep("conv", 0.0, {0: np.ones(2), 1: np.ones(2)}, 0)
    return Problem("p", groups, (layer,), (step,), Budgets(flash=100.0), kernel_code={})


def _with(part: str, **changes: Any) -> Problem:
    problem = _problem()
    if part == "problem":
        return dataclasses.replace(problem, **changes)
    items = list(getattr(problem, part))
    items[0] = dataclasses.replace(items[0], **changes)
    return dataclasses.replace(problem, **{part: tuple(items)})


def _bad(shape: tuple[int, ...], value: float) -> np.ndarray:
    table = np.ones(shape)
    table[(-1,) * len(shape)] = value
    return table


def test_the_unchanged_problem_is_valid() -> None:
    validate(_problem())


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("problem", {"groups": ()}, "no channel groups"),
        ("groups", {"name": "out"}, "group 'out' appears twice"),
        ("groups", {"levels": np.array([], dtype=int)}, r"shape \(0,\), expected at least one"),
        ("groups", {"levels": np.array([8, 16])}, r"\[8, 16\] must be strictly descending"),
        ("groups", {"levels": np.array([8, 8])}, "strictly descending"),
        ("groups", {"levels": np.array([8, 0])}, "hold 0, expected integers >= 1"),
        ("groups", {"levels": np.array([8.0, 4.5])}, "dtype float64, expected integers"),
        ("groups", {"latency": np.ones(3)}, r"latency has shape \(3,\), expected \(2,\)"),
        ("groups", {"loss": _bad((2,), np.nan)}, r"'in': loss is nan at \[1\]"),
        ("groups", {"flash": _bad((2,), -1)}, r"flash is -1.0 at \[1\]"),
        ("layers", {"input_group": 2}, "input_group is index 2, expected 0 to 1"),
        ("layers", {"output_group": -1}, "output_group is index -1"),
        ("layers", {"kernels": ()}, "no kernels"),
        ("layers", {"latency": np.ones((2, 2, 2))}, r"expected \(2, 2, 3\)"),
        ("layers", {"latency": _bad((2, 2, 3), np.inf)}, r"latency is inf at \[1, 1, 2\]"),
        ("layers", {"scratch": _bad((2, 2, 3), -4)}, "'conv': scratch is -4.0"),
        ("layers", {"filterlets": np.ones((2, 2), dtype=int)}, "filterlets has shape"),
        ("layers", {"filterlets": np.ones((2, 3))}, "filterlets have dtype float64"),
        ("layers", {"filterlets": -np.ones((2, 3), dtype=int)}, "filterlets hold -1"),
        ("layers", {"allowed": np.ones((2, 2, 3))}, "allowed has dtype float64, expected bool"),
        ("layers", {"allowed": np.zeros((2, 2, 3), dtype=bool)}, "no option is allowed"),
        ("steps", {"groups": {5: np.ones(2)}}, "group is index 5"),
        ("steps", {"groups": {0: np.ones(1)}}, "bytes of group 'in' has shape"),
        ("steps", {"layer": 1}, "layer is index 1, expected 0 to 0"),
        ("steps", {"fixed": -1.0}, "step 'conv': fixed is -1.0"),
        ("problem", {"budgets": Budgets(flash=-5.0)}, "flash budget is -5.0"),
        ("problem", {"budgets": Budgets(loss=float("nan"))}, "loss budget is nan"),
        ("problem", {"fixed_sram": -1.0}, "fixed_sram is -1.0"),
        ("problem", {"kernel_code": {"conv_fwcs": -2.0}}, r"kernel_code\['conv_fwcs'\] is -2.0"),
    ],
)
def test_malformed_problems_are_named(part: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DtmmError, match=message) as caught:
        solve(_with(part, **changes))
    assert "\n" not in str(caught.value)
