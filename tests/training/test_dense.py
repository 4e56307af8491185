"""The training loop and dense training, on real digits in seconds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dtmm.data import Dataset, load_dataset
from dtmm.models import build_model
from dtmm.training.dense import train_dense
from dtmm.training.loop import (
    LoopConfig,
    accuracy,
    batches,
    steps_per_epoch,
    train,
)
from dtmm.training.tasks import TASKS

PLAIN = TASKS["classification"].training_loss()
SHORT = LoopConfig(epochs=2, images_per_epoch=128, batch=32, flip=False, shift=1, precision="fp32")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def model(digits: Dataset, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_model("tiny_resnet", digits)


def test_tiny_resnet_learns_digits(digits: Dataset) -> None:
    module = model(digits)
    seen = []
    config = LoopConfig(epochs=10, batch=32, lr=0.1, flip=False, shift=1, precision="fp32")
    log = train_dense(module, digits, config, on_epoch=seen.append)
    found = accuracy(module, digits, digits.test_images, digits.test_labels)
    assert found > 0.9
    assert log[-1].accuracy == found and tuple(seen) == log
    assert [line.epoch for line in log] == list(range(10))
    assert log[-1].loss < log[0].loss
    assert not module.training


def test_training_is_a_function_of_the_seed(digits: Dataset) -> None:
    def weights(seed: int) -> torch.Tensor:
        module = model(digits)
        train(module, digits, dataclasses.replace(SHORT, seed=seed), PLAIN)
        return module.stem.conv.weight.detach()

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_hooks_and_the_warm_up_cosine(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask that the hook re-applies holds at the end; the rate rises, then falls to almost 0."""
    rates = []
    step = torch.optim.SGD.step

    def recording(self: torch.optim.SGD, *args: object, **kwargs: object) -> object:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", recording)
    module, calls, done = model(digits), [], []

    def mask() -> None:
        calls.append(1)
        with torch.no_grad():
            module.stem.conv.weight[:3] = 0

    config = dataclasses.replace(SHORT, epochs=5, warmup=0.25)
    train(module, digits, config, PLAIN, mask, progress=lambda *at: done.append(at))
    assert len(calls) == 20 and done == [(i + 1, 20) for i in range(20)]
    assert not module.stem.conv.weight[:3].any()
    assert module.stem.conv.weight[3:].all()
    assert rates[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    falling = [0.05 * (1 + np.cos(np.pi * i / 15)) for i in range(15)]
    assert rates[5:] == pytest.approx(falling)


def test_an_epoch_takes_each_image_at_most_once(digits: Dataset) -> None:
    """Pixel values tell the images apart: labels are replaced by the image's number."""
    count = len(digits.train_labels)
    numbered = dataclasses.replace(
        digits, train_labels=np.arange(count), classes=tuple(str(i) for i in range(count))
    )
    numbered = dataclasses.replace(numbered, test_labels=numbered.test_labels % 10)
    config = LoopConfig(epochs=1, batch=100, flip=False, shift=0)
    labels = [labels.numpy() for _, labels in batches(numbered, config, 0)]
    assert len(labels) == steps_per_epoch(numbered, config) == count // 100
    drawn = np.concatenate(labels)
    assert len(set(drawn.tolist())) == len(drawn) == count // 100 * 100
    images, first = next(iter(batches(numbered, config, 0)))
    expected = digits.to_input(digits.train_images[first.numpy()])
    np.testing.assert_array_equal(images.permute(0, 2, 3, 1).numpy(), expected)
    later = next(iter(batches(numbered, config, 1)))[1]
    assert not torch.equal(first, later)


def test_accuracy_by_hand(digits: Dataset) -> None:
    """A module that answers by the brightest of ten pixels, over batches that do not divide."""

    class Brightest(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 0, 8, :10]

    guess = digits.test_images[:, 8, :10, 0].argmax(1)
    expected = float((guess == digits.test_labels).mean())
    module = Brightest()
    found = accuracy(module, digits, digits.test_images, digits.test_labels, batch=77)
    assert found == pytest.approx(expected)
