"""What an output channel needs besides weights: folded bias, multiplier, shift."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dtmm.errors import UnsupportedError
from dtmm.storage.stored import Int8Array, Int32Array


def folded_bias(
    weights: Int8Array, bias: npt.NDArray[np.integer], input_zero_point: int
) -> Int32Array:
    """bias - input_zero_point * sum(weights of the filter), int32 [C_out].

    With it a kernel multiplies raw int8 inputs. `weights` is [C_out, ...]. Raises UnsupportedError
    where the result does not fit into int32.
    """
    sums = weights.reshape(weights.shape[0], -1).sum(axis=1, dtype=np.int64)
    folded: npt.NDArray[np.int64] = bias.astype(np.int64) - input_zero_point * sums
    if folded.min() < -(2**31) or folded.max() >= 2**31:
        raise UnsupportedError(
            f"folded bias {folded[np.abs(folded).argmax()]}: expected a 32-bit number"
        )
    return folded.astype(np.int32)


def pack_channel_params(
    bias: npt.NDArray[np.integer],
    multipliers: npt.NDArray[np.integer],
    shifts: npt.NDArray[np.integer],
) -> Int32Array:
    """dtmm_channel_params as int32 [C_out, 3]: folded bias, multiplier, shift of each channel.

    Raises UnsupportedError unless all are [C_out], multipliers >= 0 and -31 <= shift <= 30 (which
    the runtime relies on without checking).
    """
    if not bias.shape == multipliers.shape == shifts.shape or bias.ndim != 1:
        raise UnsupportedError(
            f"bias {bias.shape}, multipliers {multipliers.shape}, shifts {shifts.shape}: "
            "expected three arrays [C_out]"
        )
    if multipliers.min() < 0 or shifts.min() < -31 or shifts.max() > 30:
        raise UnsupportedError(
            f"multipliers from {multipliers.min()}, shifts {shifts.min()}..{shifts.max()}: "
            "expected multipliers >= 0 and shifts within -31..30"
        )
    return np.stack([bias, multipliers, shifts], axis=1).astype(np.int32)
