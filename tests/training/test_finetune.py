"""Fine-tuning a pruned network on real digits, in seconds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dtmm.config import FinetuneConfig, ImportanceConfig
from dtmm.config_values import Count
from dtmm.data import Dataset, load_dataset
from dtmm.errors import ConfigError
from dtmm.network.groups import channel_groups
from dtmm.network.ir import Network
from dtmm.planning.nouns import Selection
from dtmm.pruning.registry import CRITERIA, estimate_importance
from dtmm.pruning.removal import remove
from dtmm.training.calibrate import reestimate_batch_norm
from dtmm.training.executor import Executor, run_float
from dtmm.training.finetune import distillation, finetune
from dtmm.training.loop import LoopConfig, train
from dtmm.training.tasks import TASKS
from tests.training.networks import residual

PLAIN = TASKS["classification"].training_loss()
CONFIG = FinetuneConfig(epochs=6, images_per_epoch=Count(1400), batch=Count(32), lr=0.05)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def dense(digits: Dataset) -> Network:
    executor = Executor(residual(size=16))
    config = LoopConfig(epochs=8, batch=32, lr=0.1, flip=False, shift=1, precision="fp32")
    train(executor, digits, config, PLAIN)
    return executor.to_network()


def accuracy(network: Network, dataset: Dataset) -> float:
    logits = run_float(network, dataset.to_input(dataset.test_images))
    return float((logits.argmax(1) == dataset.test_labels).mean())


def prune(network: Network, dataset: Dataset, criterion: str) -> Network:
    """Half the channels, and 40 % of the filterlets of all but the stem."""
    config = ImportanceConfig(criterion=criterion, batches=Count(10), batch_size=Count(32))
    scores = estimate_importance(network, dataset, config)
    channels = {}
    for group in channel_groups(network):
        if group.prunable:
            values = scores.channels[group.name]
            channels[group.name] = values >= np.sort(values)[len(values) // 2]
    filterlets = {
        name: (values >= np.quantile(values, 0.4))[..., None]
        for name, values in scores.filterlets.items()
        if name != "stem"
    }
    return remove(network, Selection(channels, filterlets))


def test_recovers_accuracy_and_holds_masks(digits, dense):
    pruned = prune(dense, digits, "taylor_squared")
    before = accuracy(reestimate_batch_norm(pruned, digits), digits)
    steps = []
    tuned = finetune(pruned, digits, CONFIG, dense, lambda done, total: steps.append((done, total)))
    assert accuracy(dense, digits) > 0.95
    assert accuracy(tuned, digits) > max(before + 0.1, 0.9)
    for op in pruned.convs():
        np.testing.assert_array_equal(
            tuned.params[op.weight].any(3), pruned.params[op.weight].any(3)
        )
    assert tuned.ops == pruned.ops and tuned.tensors == pruned.tensors
    assert steps == [(i + 1, 258) for i in range(258)]


def test_is_deterministic(digits, dense):
    pruned = prune(dense, digits, "taylor")
    config = dataclasses.replace(CONFIG, epochs=1, images_per_epoch=Count(256))
    first, second = (finetune(pruned, digits, config, dense) for _ in range(2))
    other = finetune(pruned, digits, dataclasses.replace(config, seed=1), dense)
    for key, values in first.params.items():
        np.testing.assert_array_equal(values, second.params[key])
    assert not np.array_equal(first.params["c1.weight"], other.params["c1.weight"])


def test_no_epochs_only_reestimates(digits, dense):
    pruned = prune(dense, digits, "l2")
    tuned = finetune(pruned, digits, dataclasses.replace(CONFIG, epochs=0))
    expected = reestimate_batch_norm(reestimate_batch_norm(pruned, digits), digits)
    for key, values in tuned.params.items():
        np.testing.assert_array_equal(values, expected.params[key])


def test_distillation_is_the_divergence_by_hand(dense):
    teacher = Executor(dense).eval()
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(5, 1, 16, 16)).astype(np.float32))
    logits = torch.from_numpy(rng.normal(size=(5, 10)).astype(np.float32))
    labels = torch.arange(5)
    value = distillation(PLAIN, teacher, 0.3, 2.0)(images, logits, labels).item()
    with torch.no_grad():
        p = F.softmax(teacher(images) / 2, 1).double().numpy()
    q = F.softmax(logits / 2, 1).double().numpy()
    divergence = (p * np.log(p / q)).sum(1).mean()
    hard = F.cross_entropy(logits, labels).item()
    assert value == pytest.approx(0.7 * hard + 0.3 * 4 * divergence, rel=1e-4)
    own = distillation(PLAIN, teacher, 1.0, 2.0)(images, teacher(images), labels)
    assert own.item() == pytest.approx(0, abs=1e-6)


def test_importance_is_seeded_and_named(digits, dense):
    config = ImportanceConfig(criterion="taylor", batches=Count(3), batch_size=Count(16))
    calls = []
    first = estimate_importance(dense, digits, config, lambda *args: calls.append(args))
    again = estimate_importance(dense, digits, config)
    other = estimate_importance(dense, digits, dataclasses.replace(config, seed=1))
    np.testing.assert_array_equal(first.channels["a1"], again.channels["a1"])
    assert not np.array_equal(first.channels["a1"], other.channels["a1"])
    assert calls == [(1, 3), (2, 3), (3, 3)] and first.images == 48
    with pytest.raises(ConfigError, match="criterion 'luck'; known: bn_scale, chip, fisher, l1"):
        estimate_importance(dense, digits, dataclasses.replace(config, criterion="luck"))


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_criteria_carry_their_registry_name(name, digits, dense):
    config = ImportanceConfig(criterion=name, batches=Count(2), batch_size=Count(8))
    assert estimate_importance(dense, digits, config).criterion == name
