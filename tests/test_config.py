"""Settings: defaults, YAML and overrides in that order, units, and errors that name the key."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtmm.config import Config, format_bytes, load_config, save_config, to_yaml
from dtmm.config_values import parse_bytes, parse_nats
from dtmm.errors import ConfigError


def test_overrides_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("train: {epochs: 3, lr: 1e-3}\nbudget: {flash: 0.5MiB, max_loss: 0.1 nats}\n")
    config = load_config(path, ["train.epochs=5", "budget.sram=65536", "run.name=mine"])
    expected = Config()
    expected = dataclasses.replace(
        expected,
        run=dataclasses.replace(expected.run, name="mine"),
        train=dataclasses.replace(expected.train, epochs=5, lr=0.001),
        budget=dataclasses.replace(expected.budget, flash=524288, sram=65536, max_loss=0.1),
    )
    assert config == expected
    assert load_config(base=config, overrides=["train.epochs=6"]).budget == config.budget


def test_none_is_written_null() -> None:
    assert load_config(overrides=["budget.flash=null"]).budget.flash is None


@given(
    epochs=st.integers(0, 10**6),
    lr=st.floats(0, 1e6),
    flash=st.none() | st.integers(0, 2**40),
    loss=st.none() | st.floats(0, 1e6),
    name=st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Z"]), min_size=1),
)
def test_a_saved_configuration_reads_back_equal(
    epochs: int,
    lr: float,
    flash: int | None,
    loss: float | None,
    name: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    base = Config()
    config = dataclasses.replace(
        base,
        run=dataclasses.replace(base.run, name=name),
        train=dataclasses.replace(base.train, epochs=epochs, lr=lr),
        budget=dataclasses.replace(base.budget, flash=flash, max_loss=loss),
    )
    path = save_config(config, tmp_path_factory.mktemp("config") / "c.yaml")
    assert load_config(path) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", r"unknown configuration key train\.epoch; nearest: train\.epochs"),
        ("bugdet.flash=3", r"unknown configuration key bugdet; nearest: budget"),
        ("zzz.flash=3", r"unknown configuration key zzz; nearest: run, model, data"),
        ("train.epochs=x", r"train\.epochs: expected a whole number of at least 0, got 'x'"),
        ("train.epochs=1.5", r"train\.epochs: expected a whole number of at least 0, got 1\.5"),
        ("train.epochs=true", r"train\.epochs: expected a whole number"),
        ("train.batch=0", r"train\.batch: expected a whole number of at least 1, got 0"),
        ("train.lr=-1", r"train\.lr: expected a number that is not negative, got -1"),
        ("train.lr=fast", r"train\.lr: expected a number that is not negative, got 'fast'"),
        ("finetune.distill=2", r"finetune\.distill: expected a number from 0 to 1, got 2"),
        ("device.clock_mhz=0", r"device\.clock_mhz: expected a finite number above 0, got 0"),
        ("budget.flash=12apples", r"budget\.flash: '12apples' is not a size"),
        ("budget.flash=0.3", r"budget\.flash: 0\.3 is not a size"),
        ("budget.max_loss=-1", r"budget\.max_loss: -1 is not a loss: expected nats"),
        ("run.name=null", r"run\.name: expected text, got None"),
        ("train.epochs.deep=1", r"train\.epochs: expected a whole number"),
        ("run.name=${oc.env:DTMM_NO_SUCH}", r"DTMM_NO_SUCH"),
        ("train=3", r"'train=3' is not an override: expected section\.key=value"),
        ("train.epochs", r"'train\.epochs' is not an override"),
        ("train.epochs=[1", r"'train\.epochs=\[1'"),
    ],
)
def test_bad_overrides_name_the_key_and_what_was_expected(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(overrides=[override])
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: 3", "train is a section"),
        ("- a\n- b", "mapping of sections"),
        ("train: {epochs: [", "is not a YAML file"),
        ("1: {2: 3}", "unknown configuration key 1"),
    ],
)
def test_bad_files(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "bad.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml does not exist"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("131072", 131072),
        (131072, 131072),
        ("128KiB", 131072),
        ("128 kib", 131072),
        ("0.5MiB", 524288),
        ("100kB", 100_000),
        ("0", 0),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "KiB", "-1", "1.5", "0.0001KiB", "1e3", "nan", True, None])
def test_bad_sizes(text: object) -> None:
    with pytest.raises(ConfigError, match="is not a size"):
        parse_bytes(text)


@given(st.integers(0, 2**50))
def test_a_formatted_size_parses_back(size: int) -> None:
    assert parse_bytes(format_bytes(size)) == size


def test_losses() -> None:
    assert [parse_nats(each) for each in (0, 0.05, "0.05nats", "1 nat", "1e-3")] == [
        0.0,
        0.05,
        0.05,
        1.0,
        0.001,
    ]
    for bad in ("-1", "inf", "nan", "5%", "", None):
        with pytest.raises(ConfigError, match="is not a loss"):
            parse_nats(bad)


def test_sizes_are_saved_in_binary_units() -> None:
    assert "flash: 256KiB" in to_yaml(load_config(overrides=["budget.flash=262144"]))


def test_reading_a_configuration_does_not_load_torch() -> None:
    code = "import sys, dtmm; dtmm.load_config(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
