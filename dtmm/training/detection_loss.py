"""The loss of a one-stage detector."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dtmm.detection.grid import BOX, PRIOR, STRIDE

PLACE = 5.0
"""Weight of where a box lies beside what it shows, as in YOLO (Redmon et al. 2016, equation 3)."""


def detection_loss(
    outputs: Tensor, targets: Tensor, *, reduction: str = "mean", label_smoothing: float = 0.0
) -> Tensor:
    """Objectness of every cell, place and class of those with an object, over the objects.

    YOLOv3's terms (Redmon and Farhadi 2018, section 2) with one anchor: binary cross-entropies of
    objectness, squared errors of the middle within its cell (0 to 1) and of the sides' logarithms,
    and of the class the cross-entropy of a softmax. An image's sum is divided by its objects, so
    that scenes with many do not outweigh; an empty image's is as it is.

    Args:
        outputs: [N, 5 + C, S, S] as `dtmm.detection.grid` describes them.
        targets: [N, M, 5] class or -1, left, top, right, bottom, in pixels. Of two objects with
            their middles in one cell both count.
        reduction: "mean" or "sum", over images.
    """
    cells = outputs.flatten(2).transpose(1, 2)  # [N, cells, 5 + C]
    rows, columns = outputs.shape[2:]
    image, slot = (targets[..., 0] >= 0).nonzero(as_tuple=True)
    label, left, top, right, bottom = targets[image, slot].unbind(1)
    x, y = (left + right) / 2 / STRIDE, (top + bottom) / 2 / STRIDE
    column, row = x.long().clamp(0, columns - 1), y.long().clamp(0, rows - 1)
    cell = row * columns + column
    wanted = torch.zeros_like(cells[..., 0])
    wanted[image, cell] = 1.0
    objectness = F.binary_cross_entropy_with_logits(cells[..., 0], wanted, reduction="none")
    of_object = cells[image, cell]
    sides = torch.stack([right - left, bottom - top], dim=1)
    place = torch.cat(
        [
            of_object[:, 1:3].sigmoid() - torch.stack([x - column, y - row], dim=1),
            of_object[:, 3:5] - (sides / PRIOR).log(),
        ],
        dim=1,
    )
    shown = F.cross_entropy(
        of_object[:, BOX:], label.long(), reduction="none", label_smoothing=label_smoothing
    )
    summed = objectness.sum(1).index_add(0, image, PLACE * place.square().sum(1) + shown)
    counts = torch.zeros_like(summed).index_add(0, image, torch.ones_like(shown))
    losses = summed / counts.clamp(min=1)
    return losses.mean() if reduction == "mean" else losses.sum()
