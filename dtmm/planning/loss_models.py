"""Estimators of the loss of every choice, equation (5) of docs/scheduler.md, by name.

A loss model turns what is known of the units into `LossTables`, in nats. A new one is a function of
(choices, importance) and a line in UNMEASURED, or named where it is used: MODULE:FUNCTION.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from dtmm.errors import ConfigError, DtmmError
from dtmm.importing import load_callable
from dtmm.planning.levels import Choices, ConvChoices
from dtmm.planning.loss import Floats, LossModel, LossTables, channel_scores, sum_of_scores
from dtmm.planning.ranking import kept_channels, kept_filterlets
from dtmm.planning.sensitivity import Curve, Sensitivity
from dtmm.pruning.importance import Importance


def measured(sensitivity: Sensitivity) -> LossModel:
    """The measured curves themselves, added up.

    A convolution's curve is over the share of its filterlets that is kept, all filters present;
    where filters go, their filterlets go with them at the group's cost, and the curve counts for
    the share of filters that stay.
    """

    def tables(options: Choices, importance: Importance) -> LossTables:
        groups = {name: np.zeros(len(counts)) for name, counts in options.levels.items()}
        for name, counts in options.levels.items():
            if options.decided(name):
                curve = _curve(sensitivity.groups, "channel group", name, int(counts[0]))
                groups[name] = curve.at(f"channel group {name!r}", counts / counts[0])
        convs = {}
        for name, choice in options.convs.items():
            filters = options.levels[choice.output_group]
            convs[name] = np.zeros(choice.filterlets.shape)
            if _prunes(choice):
                loss = _conv_losses(sensitivity, options, name)
                convs[name] = loss * (filters / filters[0])[:, None]
        return LossTables(groups, convs)

    return tables


def calibrated(sensitivity: Sensitivity) -> LossModel:
    """The sum of scores, each unit's scaled to fit its measured curve.

    The factor is the least-squares one through the origin; a unit that was not measured, or whose
    scores are all 0, gets the factor that fits all measurements together. Few measurements per unit
    are enough: the scores say how the loss is spread over the unit, the curve how much it is.
    """

    def tables(options: Choices, importance: Importance) -> LossTables:
        plain = sum_of_scores(options, importance)
        groups = {
            name: _products(curve, _channel_estimates(importance, name, curve))
            for name, curve in sensitivity.groups.items()
            if name in plain.groups
        }
        convs = {
            name: _products(curve, _filterlet_estimates(importance, name, curve))
            for name, curve in sensitivity.convs.items()
            if name in plain.convs
        }
        together = _factor(np.sum([*groups.values(), *convs.values(), (0.0, 0.0)], axis=0), 1.0)
        return LossTables(
            {n: t * _factor(groups.get(n), together) for n, t in plain.groups.items()},
            {n: t * _factor(convs.get(n), together) for n, t in plain.convs.items()},
        )

    return tables


JOINT_EXPONENT = 0.7
"""Of single losses in `joint`."""


def joint(sensitivity: Sensitivity) -> LossModel:
    """The measured curves, each loss to the power of 0.7, added up.

    What is pruned alone meets a network that makes up for it; what is pruned together does not, so
    many small prunings cost more than the sum of what each costs alone. If the disturbances that
    units make are independent, losses add up; if they all point the same way, square roots of
    losses do. An exponent between the two, chosen on random schedules of ResNet-12, ranks schedules
    best (docs/pruning.md). The sum is a scale of its own rather than a number of nats. A
    convolution's curve counts in full whatever filters are left.
    """

    def tables(options: Choices, importance: Importance) -> LossTables:
        groups = {name: np.zeros(len(counts)) for name, counts in options.levels.items()}
        for name, counts in options.levels.items():
            if options.decided(name):
                curve = _curve(sensitivity.groups, "channel group", name, int(counts[0]))
                alone = curve.at(f"channel group {name!r}", counts / counts[0])
                groups[name] = alone**JOINT_EXPONENT
        convs = {}
        for name, choice in options.convs.items():
            convs[name] = np.zeros(choice.filterlets.shape)
            if _prunes(choice):
                convs[name] = _conv_losses(sensitivity, options, name) ** JOINT_EXPONENT
        return LossTables(groups, convs)

    return tables


FILTERLET_WEIGHT = 0.5
"""Of a convolution's filterlets in `capacity`, beside a group's channels."""


def capacity(options: Choices, importance: Importance) -> LossTables:
    """Capacity lost: minus the logarithm of the share kept, of channels and, half, of filterlets.

    Where most of the loss before fine-tuning comes back, what is left to train counts more than
    what was lost (docs/pruning.md). Minimising the sum maximises the product of the shares kept:
    every group may then spend about as much of a budget as any other, so costly layers keep less.
    Units of a layer are ranked by `importance`, whose scores are not used here. No nats.
    """
    groups = {
        name: -np.log(counts / counts[0]) if options.decided(name) else np.zeros(len(counts))
        for name, counts in options.levels.items()
    }
    convs = {
        name: -FILTERLET_WEIGHT
        * np.log(choice.filterlets / choice.filterlets.max(axis=1, keepdims=True))
        for name, choice in options.convs.items()
    }
    return LossTables(groups, convs)


CAPACITY_SHARE = 0.35
"""Of `capacity` in `joint_capacity`: both then weigh about as much, whatever the budget."""


def joint_capacity(sensitivity: Sensitivity) -> LossModel:
    """`joint` plus 0.35 times `capacity`: what is lost before fine-tuning, and what can come back.

    The scale is of its own, as that of `joint` is.
    """
    lost = joint(sensitivity)

    def tables(options: Choices, importance: Importance) -> LossTables:
        before, left = lost(options, importance), capacity(options, importance)
        return LossTables(
            {
                name: loss + CAPACITY_SHARE * left.groups[name]
                for name, loss in before.groups.items()
            },
            {name: loss + CAPACITY_SHARE * left.convs[name] for name, loss in before.convs.items()},
        )

    return tables


def _conv_losses(sensitivity: Sensitivity, options: Choices, name: str) -> Floats:
    """[nj, nk] by the share of filterlets that the filters of each level keep."""
    choice = options.convs[name]
    filters = options.levels[choice.output_group]
    positions = choice.filterlets[0].max() // filters[0]
    curve = _curve(sensitivity.convs, "convolution", name, filters[0] * positions)
    kept = choice.filterlets / (filters[:, None] * positions)
    return curve.at(f"convolution {name!r}", kept)


def _curve(curves: Mapping[str, Curve], kind: str, name: str, total: int) -> Curve:
    if name not in curves:
        raise DtmmError(f"sensitivity has no curve for {kind} {name!r}")
    if curves[name].total != total:
        raise DtmmError(
            f"sensitivity of {kind} {name!r} is of {curves[name].total}, expected {total}"
        )
    return curves[name]


def _prunes(choice: ConvChoices) -> bool:
    return bool((choice.filterlets < choice.filterlets.max(axis=1, keepdims=True)).any())


def _channel_estimates(importance: Importance, group: str, curve: Curve) -> Floats:
    scores = channel_scores(importance, group, curve.total)
    return np.array([scores[~kept_channels(scores, int(n))].sum() for n in curve.kept])


def _filterlet_estimates(importance: Importance, conv: str, curve: Curve) -> Floats:
    scores = importance.filterlets.get(conv)
    if scores is None or scores.size != curve.total:
        size = "none" if scores is None else str(scores.size)
        raise DtmmError(
            f"sensitivity of convolution {conv!r} is of {curve.total} filterlets, importance has "
            f"{size}"
        )
    flat = scores.reshape(len(scores), -1)
    counts = [max(int(n), len(flat)) for n in curve.kept]
    return np.array([flat[~kept_filterlets(flat, n)].sum() for n in counts])


def _products(curve: Curve, estimate: Floats) -> tuple[float, float]:
    """(measured . estimate, estimate . estimate), of a least-squares factor."""
    return float(np.maximum(curve.loss, 0.0) @ estimate), float(estimate @ estimate)


def _factor(products: tuple[float, float] | Floats | None, otherwise: float) -> float:
    if products is None or products[1] <= 0:
        return otherwise
    return float(products[0] / products[1])


UNMEASURED: Mapping[str, LossModel] = {"scores": sum_of_scores, "capacity": capacity}
"""By name. `scores` is the plain sum of the importance scores: the paper's first-order Taylor,
squared Taylor or Fisher by their criterion."""

MEASURED: Mapping[str, Callable[[Sensitivity], LossModel]] = {
    "measured": measured,
    "calibrated": calibrated,
    "joint": joint,
    "joint_capacity": joint_capacity,
}
"""By name: what makes the model of measured curves."""


def loss_model(name: str, sensitivity: Sensitivity | None = None) -> LossModel:
    """The loss model of that name, or the user's own function, MODULE:FUNCTION or FILE.py:FUNCTION.

    Raises:
        ConfigError: unknown, or it needs a measured sensitivity and got none.
    """
    if ":" in name:
        own: LossModel = load_callable(name, "loss model")
        return own
    if name in UNMEASURED:
        return UNMEASURED[name]
    if name not in MEASURED:
        known = ", ".join((*UNMEASURED, *MEASURED))
        raise ConfigError(f"loss model {name!r} is unknown, expected {known}")
    if sensitivity is None:
        raise ConfigError(f"loss model {name!r} needs a measured sensitivity table (CSV)")
    return MEASURED[name](sensitivity)
