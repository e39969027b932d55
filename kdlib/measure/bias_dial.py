"""The bias dial of `trifeature-biased`: the disparity that errors let expect, and the one that runs show.

The dial itself, how many images of each label and group there are, is in `data.biased`. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from kdlib.data.biased import GROUPS, base_rates, largest_rho
from kdlib.errors import InvalidInput, UndefinedMetric, unknown
from kdlib.measure import fairness
from kdlib.measure.arms import arm_columns
from kdlib.predictions import Predictions


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


GROUP = "color_set"  # the sensitive feature of trifeature-biased
RATES = ("true_positive_rate", "false_positive_rate")


def dial_runs(predictions: Predictions, *, rho: float) -> pd.DataFrame:
    """Disparity of every run on a balanced test part, beside what its errors let expect; `rho` is the training dial.

    The columns of fairness.group_fairness, and
    expected_dpd   bias_dial.expected_disparity of the run's own rates in each group: DPD again, by the formula
    ideal          bias_dial.ideal_disparity at the run's accuracy: of a learner that knows the base rates of its
                   training part and uses them as far as its evidence for the label is weak. At chance or below: 1
                   (0 for rho 0)
    excess         dpd - ideal: what the errors do not account for. DPD cannot pass 2 (1 - accuracy)
    with_color     share of its errors that go with the color as rho > 0 has it (cool taken for negative, warm for
                   positive); 0.5: errors regardless of color; NaN without errors
    Raises InvalidInput unless there are two classes, and every label is equally often in both groups.
    """
    _check_balanced(predictions)
    runs = fairness.group_fairness(predictions, sensitive=GROUP)
    rates = _rates(predictions)
    expected = [expected_disparity(rho=0.0, group_share=0.5, **rate)["dpd"] for rate in rates]
    ideal = [ideal_disparity(rho=rho, accuracy=max(a, 0.5)) for a in runs["accuracy"]]
    with_color = _with_color(predictions, predictions.groups[GROUP])
    return runs.assign(rho=rho, expected_dpd=expected, ideal=ideal, excess=runs["dpd"] - ideal, with_color=with_color)


def _with_color(predictions: Predictions, groups: np.ndarray) -> np.ndarray:
    """(R,) share of errors in which the prediction is the one that the color suggests."""
    wrong, suggested = ~predictions.correct, predictions.predicted == (groups == GROUPS[1])
    errors = wrong.sum(axis=1)
    return np.where(errors > 0, (wrong & suggested).sum(axis=1) / np.maximum(errors, 1), np.nan)


def _check_balanced(predictions: Predictions) -> None:
    if GROUP not in predictions.groups:
        raise unknown("sensitive feature", GROUP, predictions.groups, place="the bias dial")
    sizes = pd.crosstab(predictions.labels, predictions.groups[GROUP])
    if sizes.shape != (2, 2) or sorted(sizes.columns) != sorted(GROUPS) or np.ptp(sizes.to_numpy()):
        raise InvalidInput(
            f"a test part with {sizes.to_numpy().tolist()} images of each label and of {', '.join(sizes.columns)}: the "
            "dial is read on two classes, with rho_test 0 and group_share 0.5."
        )


def _rates(predictions: Predictions) -> list[dict[str, Mapping[str, float]]]:
    """TPR and FPR of each run by group, as `bias_dial.expected_disparity` takes them."""
    groups, labels = predictions.groups[GROUP], predictions.labels
    return [
        {
            name: {group: float(row[(labels == label) & (groups == group)].mean()) for group in GROUPS}
            for name, label in zip(RATES, (1, 0), strict=True)
        }
        for row in predictions.predicted
    ]


def dial_arms(predictions: Predictions, runs: pd.DataFrame) -> pd.DataFrame:
    """`dial_runs` by arm, with the floors of fairness.floors.

    model, temperature, n_seeds, rho; for m of accuracy, dpd, eod, expected_dpd, ideal, excess: m, m_sd, m_low, m_high;
    dpd_floor, dpd_floor_upper, eod_floor, eod_floor_upper.
    """
    arms = arm_columns(predictions, runs, ["accuracy", "dpd", "eod", "expected_dpd", "ideal", "excess"])
    floors = fairness.floors(predictions, sensitive=GROUP)
    kept = [name for name in floors if name.startswith(("dpd_floor", "eod_floor")) and "overall" not in name]
    keys = ["model", "temperature", "n_seeds"]
    return arms.assign(rho=runs["rho"].iloc[0]).merge(floors[[*keys, *kept]], on=keys, validate="one_to_one")
