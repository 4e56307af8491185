"""Quantization-aware training: the executor rounds as the int8 network will.

Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-
only inference", section 3: weights and activations are rounded in the forward pass, gradients pass
as if they were not (straight through, but for values that are clipped). Scales and zero points are
those of `dtmm.quantization.ptq` at every step, so that what is exported is what was trained.

Batch normalization is folded before training, not simulated while training: weights have a scale
per output channel, which any factor of a channel leaves as it is, and with a pretrained network, a
small rate and a few thousand steps its statistics need not move (static folding: Nagel et al. 2021,
"A white paper on neural network quantization", section 4.2.1). The trained graph then is the
exported one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dtmm.config import QuantizeConfig
from dtmm.data import Samples
from dtmm.network import ir
from dtmm.quantization.ptq import Ranges, quantize_tensors, shared_scales
from dtmm.quantization.quantized import QuantizedTensor
from dtmm.training.executor import Executor
from dtmm.training.finetune import distillation
from dtmm.training.hardware import pick_device
from dtmm.training.loop import LoopConfig, train
from dtmm.training.masks import Masks
from dtmm.training.tasks import task_of

ONLY_MOVES = (ir.MaxPool2D, ir.Reshape, ir.Pad, ir.StridedSlice, ir.Concat)
"""Operators whose output values are values they read: rounded already."""


class QatExecutor(Executor):
    """A folded network whose weights and activations are rounded to int8 in the forward pass.

    Weights are rounded per output channel, symmetric; activations per tensor (per set of tensors
    that share a scale). `bounds`, [sets, 2], are the trained ranges of the activations; a clipped
    value's gradient moves the bound that clips it.

    Raises:
        UnsupportedError, DtmmError: as `Executor`, `quantize_tensors`.
    """

    def __init__(self, folded: ir.Network, ranges: Ranges, masks: Masks | None = None) -> None:
        super().__init__(folded, masks)
        self._shared = shared_scales(folded)
        roots = sorted(set(self._shared.values()))
        self._row = {name: roots.index(root) for name, root in self._shared.items()}
        spans = torch.zeros(len(roots), 2)
        for name, row in self._row.items():
            low, high = ranges[name]
            spans[row, 0] = min(low, float(spans[row, 0]))
            spans[row, 1] = max(high, float(spans[row, 1]))
        self.bounds = nn.Parameter(spans)
        moved = {op.output for op in folded.ops if isinstance(op, ONLY_MOVES)}
        self._rounded = frozenset(folded.tensors) - moved
        self._affine: dict[str, QuantizedTensor] = {}
        for layer in self.layers():
            layer.seen_as = round_weight

    def ranges(self) -> dict[str, tuple[float, float]]:
        """The trained ranges, per tensor: what `quantize` takes."""
        spans = [(min(low, 0.0), max(high, 0.0)) for low, high in self.bounds.tolist()]
        return {name: spans[row] for name, row in self._row.items()}

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        self._affine = quantize_tensors(self.network, self.ranges())
        return super().forward(x, *args, **kwargs)  # type: ignore[arg-type]

    def stored(self, tensor: str, value: Tensor) -> Tensor:
        """The value rounded to the tensor's int8 codes."""
        if tensor not in self._rounded:
            return value
        affine = self._affine[tensor]
        if self.bounds.requires_grad:
            low, high = self.bounds[self._row[tensor]]
            value = torch.clamp(value, low.clamp(max=0.0), high.clamp(min=0.0))
        return torch.fake_quantize_per_tensor_affine(
            value, affine.scale, affine.zero_point, -128, 127
        )


def round_weight(weight: Tensor) -> Tensor:
    """Per output channel, the values of int8 codes within +-127, as `quantize_layer` chooses them;
    zero stays zero."""
    largest = weight.detach().abs().flatten(1).amax(1).double()
    largest = torch.where(largest > 0, largest, largest.max().clamp(min=1e-30))
    scale = (largest / 127).float()
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -127, 127)


def train_int8(
    folded: ir.Network,
    ranges: Ranges,
    dataset: Samples,
    config: QuantizeConfig,
    progress: Callable[[int, int], None] | None = None,
    masks: Masks | None = None,
) -> tuple[ir.Network, dict[str, tuple[float, float]]]:
    """`config.qat_epochs` of quantization-aware training, with the float network as the teacher.

    Products are float32: what bfloat16 rounds is as large as an int8 step.

    Args:
        folded: the trained float network; zero filterlets (or what `masks` says) stay exactly zero.
        ranges: of its activations, to start from.

    Returns:
        The trained folded network and its ranges, both for `dtmm.quantization.quantize`.

    Raises:
        ConfigError: it is a detector. DtmmError: as `Executor`, `train`.
    """
    task = task_of(dataset)
    task.require_distillation("quantize.qat_epochs", config.qat_epochs)
    device = pick_device(config.device)
    executor = QatExecutor(folded, ranges, masks)
    teacher = Executor(folded).to(device)
    loop = LoopConfig(
        epochs=config.qat_epochs,
        images_per_epoch=config.qat_images,
        batch=config.batch,
        optimizer="adam",
        lr=config.qat_lr,
        weight_decay=0.0,
        flip=dataset.mirror,
        precision="fp32",
        device=config.device,
        seed=config.seed,
    )
    loss = distillation(task.training_loss(), teacher, share=1.0, temperature=1.0)
    train(executor, dataset, loop, loss, executor.apply_masks, progress=progress)
    return executor.to_network(), executor.ranges()
