"""Is a network well formed? Whatever reads or makes networks may ask."""

from __future__ import annotations

import numpy as np

from dtmm.errors import DtmmError, UnsupportedError
from dtmm.network.ir import BatchNorm, Binary, Network, Op, Shape, Weighted, op_inputs
from dtmm.network.shapes import output_shape


def check(network: Network) -> None:
    """Accept a network whose names, shapes and parameters fit together; folded or not.

    Raises:
        DtmmError: a tensor that is read before it is written, written twice or of another shape
            than its operator makes; a parameter that is absent, not float32, not finite or of the
            wrong shape; a name used twice.
        UnsupportedError: a batch other than 1, or a parameter that two operators share.
    """
    _check_tensors(network)
    _check_names(network)
    defined = set(network.inputs)
    owner: dict[str, str] = {}
    for op in network.ops:
        _check_order(network, op, defined)
        _check_params(network, op, owner)
        _check_shape(network, op)
        defined.add(op.output)
    for name in network.outputs:
        if name not in defined:
            raise DtmmError(f"network '{network.name}': no operator writes output '{name}'")


def param_keys(op: Op) -> tuple[str, ...]:
    """Keys of the parameters an operator reads."""
    if isinstance(op, Weighted):
        return (op.weight,) if op.bias is None else (op.weight, op.bias)
    if isinstance(op, Binary):
        return () if op.constant is None else (op.constant,)
    if isinstance(op, BatchNorm):
        return op.scale, op.shift, op.mean, op.variance
    return ()


def _check_tensors(network: Network) -> None:
    if not network.inputs or not network.outputs:
        raise DtmmError(f"network '{network.name}' has no input or no output")
    for name, shape in network.tensors.items():
        if len(shape) not in (2, 4) or min(shape) < 1:
            raise DtmmError(
                f"tensor '{name}' has shape {shape}, expected (1, H, W, C) or (1, C), all positive"
            )
        if shape[0] != 1:
            raise UnsupportedError(f"tensor '{name}' has batch {shape[0]}, expected 1")
    for name in network.inputs:
        if name not in network.tensors:
            raise DtmmError(f"network '{network.name}': input '{name}' has no shape")


def _check_names(network: Network) -> None:
    names, written = [op.name for op in network.ops], [op.output for op in network.ops]
    for what, used in (("operators are named", names), ("operators or inputs write", written)):
        taken = set(network.inputs) if used is written else set()
        for name in used:
            if name in taken:
                raise DtmmError(f"network '{network.name}': two {what} '{name}'")
            taken.add(name)


def _check_order(network: Network, op: Op, defined: set[str]) -> None:
    for name in op_inputs(op):
        if name not in defined:
            raise DtmmError(
                f"{type(op).__name__} '{op.name}' reads '{name}', "
                "which no input or earlier operator defines"
            )


def _check_params(network: Network, op: Op, owner: dict[str, str]) -> None:
    for key in param_keys(op):
        if key not in network.params:
            raise DtmmError(f"{type(op).__name__} '{op.name}' has no parameter '{key}'")
        if key in owner:
            raise UnsupportedError(
                f"parameter '{key}' is shared by '{owner[key]}' and '{op.name}', "
                "expected one layer per parameter"
            )
        owner[key] = op.name
        values = network.params[key]
        if values.dtype != np.float32 or not np.isfinite(values).all():
            found = "NaN or infinite values" if values.dtype == np.float32 else f"{values.dtype}"
            raise DtmmError(f"parameter '{key}' has {found}, expected finite float32")
        if isinstance(op, BatchNorm):
            _expect(op, key, values.shape, (network.tensors[op.input][-1],))
    if isinstance(op, Weighted) and op.bias is not None:
        expected = network.params[op.weight].shape[:1]
        _expect(op, op.bias, network.params[op.bias].shape, expected)
    if isinstance(op, BatchNorm) and network.params[op.variance].min() + op.epsilon <= 0:
        raise DtmmError(f"BatchNorm '{op.name}' has negative variances '{op.variance}'")


def _expect(op: Op, key: str, found: Shape, expected: Shape) -> None:
    if found != expected:
        raise DtmmError(
            f"{type(op).__name__} '{op.name}' has '{key}' of shape {found}, expected {expected}"
        )


def _check_shape(network: Network, op: Op) -> None:
    found, expected = network.tensors.get(op.output), output_shape(network, op)
    if found != expected:
        raise DtmmError(
            f"{type(op).__name__} '{op.name}' writes '{op.output}' of shape {found}, "
            f"expected {expected}"
        )
