"""What users expect of fine-tuning: optimizers, averages, early stop, precision, going on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dtmm.config import FinetuneConfig
from dtmm.config_values import Count, Positive, Share
from dtmm.data import Dataset, load_dataset
from dtmm.errors import ArtifactError, ConfigError, DataError
from dtmm.network.ir import Network
from dtmm.training.executor import Executor
from dtmm.training.finetune import finetune
from dtmm.training.hardware import pick_device, pick_precision
from dtmm.training.loop import LoopConfig, train
from dtmm.training.optimizers import OPTIMIZERS
from dtmm.training.tasks import TASKS
from tests.training.networks import residual

PLAIN = TASKS["classification"].training_loss()
SHORT = LoopConfig(epochs=3, images_per_epoch=96, batch=32, flip=False, shift=1, precision="fp32")
TUNE = FinetuneConfig(epochs=4, images_per_epoch=Count(128), batch=Count(32), seed=3)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """A few of them: what is tested here does not take many."""
    whole = load_dataset("digits")
    return dataclasses.replace(
        whole, train_images=whole.train_images[:200], train_labels=whole.train_labels[:200]
    )


@pytest.fixture(scope="module")
def pruned() -> Network:
    network = residual(size=16)
    params = dict(network.params)
    for op in network.convs()[1:]:
        params[op.weight] = params[op.weight].copy()
        params[op.weight][::2, 0] = 0
    return dataclasses.replace(network, params=params)


def trained(digits: Dataset, config: LoopConfig, **options: Any) -> dict[str, torch.Tensor]:
    executor = Executor(residual(size=16))
    train(executor, digits, config, PLAIN, **options)
    return executor.state_dict()


def assert_same(first: Network, second: Network) -> None:
    for key, values in first.params.items():
        np.testing.assert_array_equal(values, second.params[key], err_msg=key)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_learns_and_holds_masks(
    name: str, digits: Dataset, pruned: Network
) -> None:
    executor = Executor(pruned)
    lr = 0.05 if name == "sgd" else 0.003
    losses: list[float] = []
    train(
        executor,
        digits,
        dataclasses.replace(SHORT, epochs=5, optimizer=name, lr=lr),
        PLAIN,
        after_epoch=lambda epoch, loss, module: losses.append(loss),
    )
    assert losses[-1] < 0.9 * losses[0]
    tuned = executor.to_network()
    for op in pruned.convs():
        held = pruned.params[op.weight] == 0
        np.testing.assert_array_equal(tuned.params[op.weight] == 0, held)


def test_the_average_is_that_of_the_weights_after_each_step(digits: Dataset) -> None:
    executor, seen = Executor(residual(size=16)), []
    key = "operators.0.weight"

    def record() -> None:
        seen.append(executor.state_dict()[key].clone())

    train(executor, digits, dataclasses.replace(SHORT, ema=0.8), PLAIN, record)
    expected = seen[0]
    for weight in seen[1:]:
        expected = 0.8 * expected + 0.2 * weight
    torch.testing.assert_close(executor.state_dict()[key], expected)
    assert not torch.equal(executor.state_dict()[key], seen[-1])


def test_the_best_epoch_counts_and_patience_ends_the_run(digits: Dataset) -> None:
    scores = iter([0.1, 0.5, 0.4, 0.5, 0.3, 0.9])
    weights: list[torch.Tensor] = []
    losses: list[float] = []

    def validate(module: torch.nn.Module) -> float:
        weights.append(module.state_dict()["operators.0.weight"].clone())
        return next(scores)

    found = trained(
        digits,
        dataclasses.replace(SHORT, epochs=6, patience=3),
        validate=validate,
        after_epoch=lambda epoch, loss, module: losses.append(loss),
    )
    assert len(weights) == len(losses) == 5, "stopped after three epochs no better than the second"
    assert torch.equal(found["operators.0.weight"], weights[1])


def test_validation_images_are_held_out_of_training(digits: Dataset) -> None:
    split = digits.hold_out(0.2, seed=1)
    count = len(digits.train_labels)
    assert len(split.test_labels) == round(0.2 * count)
    both = np.concatenate([split.train_images, split.test_images])
    assert sorted(map(bytes, both)) == sorted(map(bytes, digits.train_images))
    again, other = digits.hold_out(0.2, seed=1), digits.hold_out(0.2, seed=2)
    np.testing.assert_array_equal(split.test_images, again.test_images)
    assert not np.array_equal(split.test_images, other.test_images)
    with pytest.raises(DataError, match=r"share of 0\.0001 takes 0 of 200"):
        digits.hold_out(0.0001, seed=0)


def test_fine_tuning_never_sees_the_test_images(digits: Dataset, pruned: Network) -> None:
    config = dataclasses.replace(TUNE, epochs=2, validation=Share(0.3), patience=1)
    dark = dataclasses.replace(digits, test_images=np.zeros_like(digits.test_images))
    assert_same(finetune(pruned, digits, config), finetune(pruned, dark, config))


@pytest.mark.parametrize(
    "options",
    [
        {"validation": Share(0.1), "ema": Share(0.9), "distill": Share(0.5)},
        {"optimizer": "adam", "lr": 0.003, "precision": "fp16"},
    ],
    ids=["sgd, average, validation, teacher", "adam, fp16"],
)
def test_a_killed_run_goes_on_and_ends_with_the_same_weights(
    options: dict[str, Any], digits: Dataset, pruned: Network, tmp_path: Path
) -> None:
    config = dataclasses.replace(TUNE, **options)
    teacher = residual(seed=1, size=16)
    whole = finetune(pruned, digits, config, teacher)
    steps: list[int] = []

    def kill(done: int, _: int) -> None:
        steps.append(done)
        if len(steps) == 10:  # in the middle of the third epoch
            raise KeyboardInterrupt

    checkpoint = tmp_path / "tuning.pt"
    with pytest.raises(KeyboardInterrupt):
        finetune(pruned, digits, config, teacher, kill, checkpoint=checkpoint)
    tuned = finetune(pruned, digits, config, teacher, kill, checkpoint=checkpoint)
    assert steps == [*range(1, 11), *range(9, 17)]
    assert_same(whole, tuned)
    assert_same(whole, finetune(pruned, digits, config, teacher, kill, checkpoint=checkpoint))
    assert len(steps) == 18, "a finished run has no steps left"


def test_another_run_does_not_take_up_the_checkpoint(
    digits: Dataset, pruned: Network, tmp_path: Path
) -> None:
    config = dataclasses.replace(TUNE, epochs=1)
    checkpoint = tmp_path / "tuning.pt"
    finetune(pruned, digits, config, checkpoint=checkpoint)
    other = dataclasses.replace(config, temperature=Positive(3.0), seed=4)
    assert_same(
        finetune(pruned, digits, other, checkpoint=checkpoint), finetune(pruned, digits, other)
    )
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(ArtifactError, match=r"tuning\.pt is not a training checkpoint: delete it"):
        finetune(pruned, digits, config, checkpoint=checkpoint)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_precisions_train_alike(precision: str, digits: Dataset) -> None:
    exact = trained(digits, SHORT)["operators.0.weight"]
    found = trained(digits, dataclasses.replace(SHORT, precision=precision))["operators.0.weight"]
    start = torch.from_numpy(residual(size=16).params["stem.weight"]).permute(0, 3, 1, 2)
    assert found.dtype == torch.float32
    assert (found - exact).norm() < 0.3 * (exact - start).norm()
    assert torch.equal(found, exact) == (precision == "fp32")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"optimizer": "lion"}, "unknown optimizer 'lion'; known: adam, adamw, rmsprop, sgd"),
        ({"precision": "int4"}, "unknown precision 'int4'; known: auto, bf16, fp16, fp32"),
        ({"device": "abacus"}, "unknown device 'abacus'; known: auto, cpu, cuda"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not there"),
    ],
)
def test_unknown_names_are_refused(option: dict[str, Any], message: str, digits: Dataset) -> None:
    with pytest.raises(ConfigError, match=message):
        trained(digits, dataclasses.replace(SHORT, **option))


def test_auto_picks_a_device_that_is_there() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert pick_device("auto").type == expected


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx512": True, "avx512_bf16": True}, torch.bfloat16),
        ({"avx512": True, "avx512_bf16": False}, torch.float32),
        ({"bf16": True}, torch.bfloat16),
        ({"avx2": True}, torch.float32),
    ],
)
def test_auto_never_picks_a_precision_that_is_emulated(
    capabilities: dict[str, bool], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert pick_precision("auto", torch.device("cpu")) is dtype
