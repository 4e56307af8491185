"""What each pruning unit is worth: the estimated increase of the loss if it were removed alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Importance:
    """Scores of all pruning units of a network, in nats of mean cross-entropy.

    Attributes:
        criterion: registry name of what made the scores ("taylor", ...).
        channels: per channel group, [C] float64: removing that channel of the group everywhere.
        filterlets: per convolution, [C_out, kh, kw] float64: removing that filterlet.
        aggregation: how batches were combined ("mean of absolute values", ...).
        images: number of training images used.
    """

    criterion: str
    channels: Mapping[str, npt.NDArray[np.float64]]
    filterlets: Mapping[str, npt.NDArray[np.float64]]
    aggregation: str
    images: int
