"""Measured and calibrated losses against sums by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dtmm.errors import ConfigError, DataError, DtmmError
from dtmm.planning.levels import Choices, ConvChoices
from dtmm.planning.loss_models import MEASURED, loss_model
from dtmm.planning.sensitivity import Curve, Sensitivity
from dtmm.pruning.importance import Importance

CHANNELS = np.array([4.0, 1.0, 3.0, 2.0])
FILTERLETS = np.array([[4.0, 1.0], [6.0, 7.0], [2.0, 8.0], [3.0, 5.0]]).reshape(4, 1, 2)
IMPORTANCE = Importance("hand", {"g": CHANNELS}, {"conv": FILTERLETS}, "none", 0)


@pytest.fixture
def options() -> Choices:
    """A group of four channels at levels 4, 2, 1, made by one 1x2 convolution: all, 3/4, 1/2."""
    kept = np.array([[8, 6, 4], [4, 3, 2], [2, 2, 1]])
    conv = ConvChoices("image", "g", ("dense", "fwcs", "fwcs"), kept, np.ones((1, 3, 3), bool))
    levels = {"image": np.array([3]), "g": np.array([4, 2, 1])}
    return Choices(levels, {"conv": conv}, {})


def _sensitivity() -> Sensitivity:
    group = Curve(4, np.array([1, 2]), np.array([0.9, 0.4]))
    conv = Curve(8, np.array([4, 6]), np.array([0.3, 0.1]))
    return Sensitivity({"g": group}, {"conv": conv}, {"images": "256"})


def test_the_sum_of_scores(options: Choices) -> None:
    tables = loss_model("scores")(options, IMPORTANCE)
    assert tables.groups["g"].tolist() == [0, 3, 6]
    # all four filters: each keeps its best filterlet (4, 7, 8, 5), the others go 1, 2, 3, 6
    assert tables.convs["conv"].tolist() == [[0, 1 + 2, 1 + 2 + 3 + 6], [0, 1, 1 + 2], [0, 0, 1]]


def test_measured_curves_are_interpolated(options: Choices) -> None:
    tables = loss_model("measured", _sensitivity())(options, IMPORTANCE)
    assert tables.groups["image"].tolist() == [0]
    np.testing.assert_allclose(tables.groups["g"], [0, 0.4, 0.9])
    # shares kept: 1, 3/4, 1/2; at the lower levels for the share of filters that stay
    np.testing.assert_allclose(
        tables.convs["conv"], [[0, 0.1, 0.3], [0, 0.05, 0.15], [0, 0, 0.075]]
    )


def test_joint_losses_are_powers_of_the_curves(options: Choices) -> None:
    tables = loss_model("joint", _sensitivity())(options, IMPORTANCE)
    np.testing.assert_allclose(tables.groups["g"], np.array([0, 0.4, 0.9]) ** 0.7)
    expected = np.array([[0, 0.1, 0.3], [0, 0.1, 0.3], [0, 0, 0.3]]) ** 0.7
    np.testing.assert_allclose(tables.convs["conv"], expected)


def test_capacity_is_the_logarithm_of_what_is_left(options: Choices) -> None:
    tables = loss_model("capacity")(options, IMPORTANCE)
    assert tables.groups["image"].tolist() == [0]
    np.testing.assert_allclose(tables.groups["g"], np.log([1, 2, 4]))
    expected = np.log([[1, 4 / 3, 2], [1, 4 / 3, 2], [1, 1, 2]]) / 2
    np.testing.assert_allclose(tables.convs["conv"], expected)


def test_joint_capacity_is_the_weighted_sum(options: Choices) -> None:
    tables = loss_model("joint_capacity", _sensitivity())(options, IMPORTANCE)
    group = np.array([0, 0.4, 0.9]) ** 0.7 + 0.35 * np.log([1, 2, 4])
    np.testing.assert_allclose(tables.groups["g"], group)
    assert tables.convs["conv"][0, 2] == pytest.approx(0.3**0.7 + 0.35 * np.log(2) / 2)


def test_noise_is_removed_from_curves() -> None:
    curve = Curve(10, np.array([2, 4, 6, 8]), np.array([0.5, 0.1, 0.2, -0.05]))
    found = curve.at("x", np.array([0.2, 0.4, 0.6, 0.8, 0.9, 1.0]))
    np.testing.assert_allclose(found, [0.5, 0.2, 0.2, 0, 0, 0])
    assert curve.at("x", np.array([0.3]))[0] == pytest.approx(0.35)
    with pytest.raises(DtmmError, match=r"x was measured down to 2 of 10 kept, expected down to 1"):
        curve.at("x", np.array([0.1]))


def test_scores_are_calibrated_to_the_curves(options: Choices) -> None:
    tables = loss_model("calibrated", _sensitivity())(options, IMPORTANCE)
    plain = loss_model("scores")(options, IMPORTANCE)
    # estimates at 1 and 2 channels kept are 6 and 3; at 4 and 6 filterlets 12 and 3
    group = (0.9 * 6 + 0.4 * 3) / (36 + 9)
    conv = (0.3 * 12 + 0.1 * 3) / (144 + 9)
    np.testing.assert_allclose(tables.groups["g"], group * plain.groups["g"])
    np.testing.assert_allclose(tables.convs["conv"], conv * plain.convs["conv"])


def test_what_was_not_measured_gets_the_factor_of_all(options: Choices) -> None:
    half = Sensitivity(_sensitivity().groups, {}, {})
    tables = loss_model("calibrated", half)(options, IMPORTANCE)
    factor = (0.9 * 6 + 0.4 * 3) / (36 + 9)
    assert tables.convs["conv"][0, 2] == pytest.approx(factor * 12)
    nothing = loss_model("calibrated", Sensitivity({}, {}, {}))(options, IMPORTANCE)
    assert nothing.groups["g"].tolist() == [0, 3, 6]


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "sensitivity.csv"
    _sensitivity().save(path)
    again = Sensitivity.load(path)
    assert again.provenance == {"images": "256"}
    for one, other in ((again.groups["g"], _sensitivity().groups["g"]),
                       (again.convs["conv"], _sensitivity().convs["conv"])):  # fmt: skip
        assert one.total == other.total
        np.testing.assert_array_equal(one.kept, other.kept)
        np.testing.assert_array_equal(one.loss, other.loss)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], *reversed(lines[2:])]) + "\n")
    np.testing.assert_array_equal(Sensitivity.load(path).groups["g"].kept, [1, 2])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("layer,g,1,4,0.1", "kind is 'layer', expected group or conv"),
        ("group,g,4,4,0.1", "expected fewer than all"),
        ("group,g,-1,4,0.1", "expected fewer than all"),
        ("group,g,1.5,4,0.1", "expected fewer than all"),
        ("group,g,1,4,nan", "no finite number"),
        ("group,g,one,4,0.1", "no finite number"),
        ("group,g,1,4,0.1\ngroup,g,1,4,0.2", "two rows for the same count"),
        ("group,g,1,4,0.1\ngroup,g,2,5,0.2", "expected one"),
    ],
)
def test_malformed_csv(tmp_path: Path, row: str, says: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(f"kind,name,kept,total,loss\n{row}\n")
    with pytest.raises(DataError, match=says):
        Sensitivity.load(path)


def test_refusals(options: Choices, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'hessian' is unknown, expected scores, capacity, "):
        loss_model("hessian")
    for name in MEASURED:
        with pytest.raises(ConfigError, match="needs a measured sensitivity"):
            loss_model(name)
    with pytest.raises(DtmmError, match="no curve for channel group 'g'"):
        loss_model("measured", Sensitivity({}, {}, {}))(options, IMPORTANCE)
    wrong = Curve(5, np.array([1]), np.array([0.1]))
    with pytest.raises(DtmmError, match="'g' is of 5, expected 4"):
        loss_model("measured", Sensitivity({"g": wrong}, {}, {}))(options, IMPORTANCE)
    with pytest.raises(DtmmError, match="'conv' is of 5 filterlets, importance has 8"):
        loss_model("calibrated", Sensitivity({}, {"conv": wrong}, {}))(options, IMPORTANCE)
    (tmp_path / "short.csv").write_text("kind,name,kept\n")
    with pytest.raises(DataError, match="lacks columns total, loss"):
        Sensitivity.load(tmp_path / "short.csv")
