"""What the dial of `trifeature-biased` means: counts of labels and groups, and the disparities that follow from them.

Plain arithmetic that the data set is made by and that measuring compares with, so it belongs to the base. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

import numpy as np
from scipy.optimize import brentq

from kdlib.errors import InvalidInput, UndefinedMetric

GROUPS = ("cool", "warm")  # rho > 0 gives the second more positives
PLACE = "data set 'trifeature-biased'"


def cell_counts(n: int, *, rho: float, group_share: float) -> np.ndarray:
    """(2, 2) int: how many of n images have label y (rows) and group a (columns: cool, warm).

    With g = group_share: n / 2 are positive, n g warm, n (g + rho sqrt(g (1 - g))) / 2 both; each is rounded to the
    nearest whole number, and the rest follows. Raises InvalidInput if there is no such table.
    """
    g = _check_dial(rho, group_share)
    positive, warm = _round(n / 2), _round(n * g)
    if not 0 < warm < n:
        raise InvalidInput(f"group_share = {g!r} in {PLACE}: one group gets none of {n} images; give more images.")
    both = _round(n * (g + rho * math.sqrt(g * (1 - g))) / 2)
    # at the largest rho the three roundings may disagree by one
    both = min(max(both, positive + warm - n, 0), positive, warm)
    return np.array([[n - positive - warm + both, warm - both], [positive - both, both]])


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def _check_dial(rho: float, group_share: float) -> float:
    """group_share. Raises InvalidInput unless half of the labels can be positive with this correlation and group."""
    for name, value in (("rho", rho), ("group_share", group_share)):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
            raise InvalidInput(f"{name} = {value!r} in {PLACE}: give a number.")
    if not 0 < group_share < 1:
        raise InvalidInput(f"group_share = {group_share!r} in {PLACE}: give a share above 0 and below 1.")
    most = largest_rho(group_share)
    if abs(rho) > most + 1e-12:
        raise InvalidInput(
            f"rho = {rho!r} in {PLACE}: with group_share = {group_share!r} it lies within "
            f"-{most:.4f} .. {most:.4f}; give such a rho, or bring group_share nearer to 0.5."
        )
    return group_share


def largest_rho(group_share: float) -> float:
    """The correlation at which the smaller group has one label alone: sqrt(smaller share / larger share), 0 .. 1."""
    smaller = min(group_share, 1 - group_share)
    return math.sqrt(smaller / (1 - smaller))


def base_rates(*, rho: float, group_share: float) -> dict[str, float]:
    """P(Y = 1 | group): cool 1/2 - rho/2 sqrt(g / (1 - g)), warm 1/2 + rho/2 sqrt((1 - g) / g), g = group_share."""
    odds = math.sqrt((1 - group_share) / _check_dial(rho, group_share))
    return {"cool": 0.5 - rho / 2 / odds, "warm": 0.5 + rho / 2 * odds}


def expected_disparity(
    *,
    rho: float,
    group_share: float,
    true_positive_rate: float | Mapping[str, float],
    false_positive_rate: float | Mapping[str, float],
) -> dict[str, float]:
    """{'dpd', 'eod'} of a classifier with these rates on a part with this dial; 0 .. 1, 0 is no disparity.

    A rate is one number for both groups, or {'cool': ..., 'warm': ...}. With b the base rate of a group,
        P(Yhat = 1 | group) = b TPR + (1 - b) FPR
        DPD = |its difference between the groups|,    EOD = max(|difference of TPR|, |difference of FPR|)
    so one rate for both gives EOD = 0 and DPD = |rho (TPR - FPR)| / (2 sqrt(g (1 - g))): a disparity of the data alone.
    Raises UndefinedMetric where a group has one label alone, InvalidInput for rates outside 0 .. 1.
    """
    base, most = base_rates(rho=rho, group_share=group_share), largest_rho(group_share)
    if abs(rho) > most - 1e-12:
        raise UndefinedMetric(
            f"rho = {rho!r} with group_share = {group_share!r}: one group has one label alone, no "
            f"rate of the other; give a rho nearer to 0 than {most:.4f}."
        )
    tpr = _by_group("true_positive_rate", true_positive_rate)
    fpr = _by_group("false_positive_rate", false_positive_rate)
    selected = {g: base[g] * tpr[g] + (1 - base[g]) * fpr[g] for g in GROUPS}
    return {"dpd": _gap(selected), "eod": max(_gap(tpr), _gap(fpr))}


def ideal_disparity(*, rho: float, accuracy: float) -> float:
    """DPD and EOD, with the dial at 0 in test, of a learner that knows the base rates of its training part; 0 .. 1.

    The groups have one size and the dial was at `rho` in training. The learner sees evidence for the label that is
    normally distributed with one spread in both classes, and adds to it what the group says, as Bayes' theorem wants.
    How good the evidence is follows from `accuracy` in test, 0.5 .. 1. The less a learner sees of the label, the more
    it goes by the group: 1 at accuracy 0.5, 0 at accuracy 1 or rho 0. A classifier above this line goes by the group
    more than its errors call for, one below it less. With d the distance of the classes in spreads, and l the log odds
    of the label in the warm group,
        accuracy = (Phi(d / 2 + l / d) + Phi(d / 2 - l / d)) / 2,    DPD = EOD = Phi(d / 2 + l / d) - Phi(d / 2 - l / d)
    (signal detection theory; Green and Swets 1966). Raises InvalidInput for another accuracy or an impossible dial.
    """
    if not 0.5 <= accuracy <= 1:
        raise InvalidInput(f"accuracy = {accuracy!r}: give a share from 0.5 (chance) to 1.")
    rate = base_rates(rho=rho, group_share=0.5)["warm"]
    if rho == 0 or accuracy == 1:
        return 0.0
    if accuracy == 0.5 or rate in (0, 1):
        return 1.0
    log_odds = math.log(rate / (1 - rate))
    distance = brentq(lambda d: sum(_hits(d, log_odds)) / 2 - accuracy, 1e-3, 40)
    hits = _hits(distance, log_odds)
    return abs(hits[0] - hits[1])


def _hits(distance: float, log_odds: float) -> tuple[float, float]:
    """Share of positives found in the group with these log odds of the label, and in the one with the opposite."""
    return tuple(NormalDist().cdf(distance / 2 + sign * log_odds / distance) for sign in (1, -1))


def _by_group(name: str, rate: float | Mapping[str, float]) -> dict[str, float]:
    rates = dict(rate) if isinstance(rate, Mapping) else dict.fromkeys(GROUPS, rate)
    if set(rates) != set(GROUPS) or not all(0 <= r <= 1 for r in rates.values()):
        raise InvalidInput(f"{name} = {rate!r}: give one rate from 0 to 1, or {{'cool': rate, 'warm': rate}}.")
    return rates


def _gap(rates: Mapping[str, float]) -> float:
    return float(abs(rates["warm"] - rates["cool"]))
