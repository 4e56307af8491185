"""The settings of a run: typed, read from YAML, overridden with `section.key=value`, saved with it.

    config = load_config("my.yaml", ["train.epochs=3", "budget.flash=128KiB"])

Sizes are in bytes and may be written `131072`, `128KiB` or `0.5MiB`; losses are in nats and may be
written `0.05` or `0.05nats`.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dtmm.artifact import write_atomic
from dtmm.config_values import (
    KIB,
    Bytes,
    Count,
    Nats,
    Positive,
    Share,
    format_bytes,
    parse_value,
)
from dtmm.errors import ConfigError


@dataclass(frozen=True)
class RunConfig:
    """Where a run's files go: `folder/name`. `seed` seeds whatever has no seed of its own."""

    name: str = "demo"
    folder: str = "runs"
    seed: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """A model of `dtmm.models` and its float checkpoint (safetensors; None: the one shipped)."""

    name: str = "resnet12"
    checkpoint: str | None = None


@dataclass(frozen=True)
class DataConfig:
    """A dataset of `dtmm.data` and its folder (None: where its package installs it).

    `name` none: an int8 .tflite alone is pruned, by the magnitude of its weights, untuned.
    """

    name: str = "fashion_mnist"
    folder: str | None = None


@dataclass(frozen=True)
class TrainConfig:
    """Dense training. `epochs` over the training set, `batch` images per step, peak rate `lr`.

    `optimizer`: sgd (momentum 0.9), adam, adamw or rmsprop.
    `images_per_epoch`: an epoch is so many training images, drawn anew each time (None: all).
    `precision`: auto, bf16, fp16 or fp32; `device`: auto, cpu, cuda or cuda:N.
    """

    epochs: int = 14
    images_per_epoch: Count | None = None
    batch: Count = Count(128)
    optimizer: str = "sgd"
    lr: float = 0.1
    weight_decay: float = 5e-4
    precision: str = "auto"
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class ImportanceConfig:
    """What scores the pruning units: a criterion over `batches` batches of training images.

    Taylor scores shrink as `batch_size` grows: a loss budget holds for one batch size only.
    """

    criterion: str = "taylor"
    batches: Count = Count(64)
    batch_size: Count = Count(16)
    seed: int = 0


@dataclass(frozen=True)
class PruneConfig:
    """The pruning mode (`dtmm.pruning.modes`), and for modes that train before they prune how:
    `epochs` of `images_per_epoch`, `batch` images per step, `optimizer` (sgd, adam, adamw or
    rmsprop), peak rate `lr`.

    `mode`: "dtmm" and "structured" are decided by the scheduler (the latter without filterlets),
    "filterlets", "chip", "patdnn" and "unstructured" by a rule of their own within budget.flash.
    `patterns`: how many different 4-entry patterns patdnn uses.
    """

    mode: str = "dtmm"
    epochs: Count = Count(4)
    images_per_epoch: Count = Count(15_000)
    batch: Count = Count(128)
    optimizer: str = "sgd"
    lr: float = 0.01
    patterns: Count = Count(8)
    seed: int = 0


@dataclass(frozen=True)
class TableConfig:
    """The latency table's grid: levels per channel group and filterlet levels per layer.

    No level keeps fewer than `minimum_channels`, levels are multiples of `channel_multiple`, and
    convolutions named in `pinned`, separated by commas, are never pruned.

    `cost_model` says what fills the table (docs/latency.md): "measured", "fitted", "analytic",
    "mac", a CSV of yours or MODULE:FUNCTION; `cycle_model` what cycles are measured by: "m55-v1"
    (zero-wait memory) or "m55-v2" (a data cache). Chosen layers are measured again with what they
    really keep, and the schedule is solved again up to `corrections` times where the table was off.
    """

    channel_levels: Count = Count(8)
    filterlet_levels: Count = Count(8)
    minimum_channels: Count = Count(1)
    channel_multiple: Count = Count(1)
    pinned: str | None = None
    seed: int = 0
    cost_model: str = "measured"
    cycle_model: str = "m55-v1"
    corrections: int = 3


@dataclass(frozen=True)
class SensitivityConfig:
    """How the losses of pruning one unit alone are measured: at most `points` kept counts per
    channel group and convolution, on `images` training images in batches of `batch`."""

    points: Count = Count(5)
    images: Count = Count(512)
    batch: Count = Count(256)
    seed: int = 1


@dataclass(frozen=True)
class BudgetConfig:
    """Upper limits of flash and SRAM (bytes) and of the estimated loss increase (nats).

    Without `max_loss` the schedule may lose the share `loss_slack` more than the least loss that
    fits flash and SRAM; 0 takes the network that loses least.
    `stack`: bytes of SRAM set aside for the stack; a run that measures more fails.
    """

    flash: Bytes | None = Bytes(400 * KIB)
    sram: Bytes | None = Bytes(64 * KIB)
    max_loss: Nats | None = None
    loss_slack: Share = Share(0.3)
    stack: Bytes = Bytes(1 * KIB)


@dataclass(frozen=True)
class ScheduleConfig:
    """The solver, the relative gap it must prove, and its time limit (seconds).

    `loss_model`: "scores" sums the importance scores; "capacity" counts what is left; "measured",
    "calibrated", "joint" and "joint_capacity" use measured losses of pruning one unit alone: those
    of the stage `sensitivity`, or the CSV file that `sensitivity` names
    (`dtmm.planning.sensitivity`).

    `pool`: so many best schedules are candidates, any two decided differently in `pool_differ`
    groups and layers, none slower than the best by more than `pool_slack`; the one whose loss is
    the lowest, measured on `pool_images` training images after batch normalization is re-estimated,
    is fine-tuned. 1 takes the best schedule unseen, as does a solver that finds only one.
    """

    solver: str = "highs"
    gap: Share = Share(1e-4)
    time_limit_s: Positive = Positive(120.0)
    loss_model: str = "scores"
    sensitivity: str | None = None
    pool: Count = Count(8)
    pool_differ: Count = Count(3)
    pool_slack: Share = Share(0.05)
    pool_images: Count = Count(1024)


@dataclass(frozen=True)
class FinetuneConfig:
    """Masked fine-tuning.

    Attributes:
        optimizer: sgd, adam, adamw or rmsprop; lr: its peak rate, reached after the share `warmup`.
        distill: weight, 0 to 1, of the dense network's outputs in the loss, both softened by
            `temperature`; the rest is cross-entropy with `label_smoothing`.
        ema: decay per step of a moving average of the weights, which then is the result; 0: none.
        validation: share of the training images held out; the epoch that does best on them is the
            result, and `patience` epochs (0: all) without a better one end the run. 0: the last
            epoch's weights.
        rounds: prune and tune so often, the budgets tightened from round to round; every round is
            `epochs` long and prunes by what is estimated on the network tuned before.
        precision: auto, bf16, fp16 or fp32. device: auto, cpu, cuda or cuda:N.
    """

    rounds: Count = Count(1)
    epochs: int = 3
    images_per_epoch: Count = Count(60_000)
    batch: Count = Count(128)
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: Share = Share(0.9)
    weight_decay: float = 5e-4
    warmup: Share = Share(0.15)
    distill: Share = Share(0.5)
    temperature: Positive = Positive(2.0)
    label_smoothing: Share = Share(0.0)
    ema: Share = Share(0.0)
    validation: Share = Share(0.0)
    patience: int = 0
    precision: str = "auto"
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class QuantizeConfig:
    """Float to int8.

    Attributes:
        calibration_images: training images that set the activation ranges.
        ranges: minmax, percentile or mse; or file, those of the int8 network that was read.
        equalize: rescale channels between layers first.
        bias_correction: take the mean error of rounded weights out of the biases.
        qat_epochs: passes of quantization-aware training, 0: none; of qat_images training images
            each, at peak rate qat_lr of Adam.
    """

    calibration_images: Count = Count(512)
    ranges: str = "minmax"
    equalize: bool = False
    bias_correction: bool = False
    qat_epochs: int = 0
    qat_images: Count = Count(20_000)
    qat_lr: float = 1e-4
    batch: Count = Count(128)
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class DeployConfig:
    """How the C projects lie: "cmake", "zephyr" (a module) or "arduino" (a library)."""

    layout: str = "cmake"


@dataclass(frozen=True)
class DeviceConfig:
    """The device that runs the firmware, the test images it runs, its clock for times (MHz)."""

    name: str = "qemu"
    images: Count = Count(100)
    clock_mhz: Positive = Positive(160.0)


@dataclass(frozen=True)
class Config:
    """All settings of a run, one section per stage."""

    run: RunConfig = field(default_factory=RunConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    importance: ImportanceConfig = field(default_factory=ImportanceConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    table: TableConfig = field(default_factory=TableConfig)
    sensitivity: SensitivityConfig = field(default_factory=SensitivityConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    deploy: DeployConfig = field(default_factory=DeployConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)


def load_config(
    path: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    base: Config | None = None,
) -> Config:
    """`base` (None: the defaults), changed by the YAML file at `path`, then by `overrides`.

    Args:
        overrides: `section.key=value` each, the value as YAML (`null` for None).

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown, a value does not fit.
    """
    tree = OmegaConf.create(_plain(base or Config()))
    given = [_read(path)] if path is not None else []
    given += [_override(text) for text in overrides]
    try:
        for each in given:
            _check_keys(each)
            tree.merge_with(each)
        resolved = OmegaConf.to_container(tree, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from None
    return _structure(resolved)


def to_yaml(config: Config) -> str:
    """The configuration as YAML that `load_config` reads back to an equal one."""
    return OmegaConf.to_yaml(OmegaConf.create(_plain(config)))


def save_config(config: Config, path: str | os.PathLike[str]) -> Path:
    """Write `to_yaml(config)` in one step."""
    return write_atomic(path, to_yaml(config))


def _read(path: str | os.PathLike[str]) -> Any:
    try:
        return OmegaConf.load(Path(path))
    except FileNotFoundError:
        raise ConfigError(f"configuration file {path} does not exist") from None
    except Exception as error:  # the YAML parser's own errors span several lines
        raise ConfigError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from None


def _override(text: str) -> Any:
    key, equals, _ = text.partition("=")
    if not equals or not re.fullmatch(r"\w+(\.\w+)+", key):
        raise ConfigError(f"{text!r} is not an override: expected section.key=value")
    try:
        return OmegaConf.from_dotlist([text])
    except Exception as error:  # as above
        raise ConfigError(f"{text!r}: {' '.join(str(error).split())}") from None


def _check_keys(given: Any) -> None:
    """Every key must exist; the error names the nearest ones."""
    if not OmegaConf.is_dict(given):
        raise ConfigError("a configuration is a mapping of sections, see `dtmm.config.Config`")
    sections = dict(_hints(Config))
    valid = [f"{name}.{key}" for name, cls in sections.items() for key, _ in _hints(cls)]
    for section in given:
        if section not in sections:
            _unknown(str(section), list(sections))
        if not OmegaConf.is_dict(given[section]):
            raise ConfigError(f"{section} is a section: give its keys, e.g. {section}.key=value")
        for key in given[section]:
            if f"{section}.{key}" not in valid:
                _unknown(f"{section}.{key}", valid)


def _unknown(key: str, valid: list[str]) -> None:
    near = difflib.get_close_matches(key, valid, n=3, cutoff=0.5)
    section = key.rpartition(".")[0]
    near = near or [name for name in valid if name.startswith(section)]
    raise ConfigError(f"unknown configuration key {key}; nearest: {', '.join(near)}")


def _structure(tree: Any) -> Config:
    sections = {
        name: cls(
            **{
                key: parse_value(f"{name}.{key}", hint, tree[name][key])
                for key, hint in _hints(cls)
            }
        )
        for name, cls in _hints(Config)
    }
    return Config(**sections)


def _hints(cls: type) -> list[tuple[str, Any]]:
    return list(get_type_hints(cls).items())


def _plain(config: Config) -> dict[str, dict[str, Any]]:
    """Sections as dicts of YAML values; sizes are written in binary units."""
    tree = dataclasses.asdict(config)
    for name, cls in _hints(Config):
        for key, hint in _hints(cls):
            if Bytes in get_args(hint) and tree[name][key] is not None:
                tree[name][key] = format_bytes(tree[name][key])
    return tree
