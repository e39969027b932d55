"""The bias dial of `trifeature-biased`: the disparity that errors let expect, and the one that runs show.

The dial itself, how many images of each label and group there are, is in `data.biased`. No torch.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from kdlib.data.biased import GROUPS, base_rates
from kdlib.errors import InvalidInput, require_known
from kdlib.measure import fairness
from kdlib.measure.arms import tidy
from kdlib.predictions import Predictions


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


GROUP = "color_set"  # the sensitive feature of trifeature-biased


def dial_runs(predictions: Predictions, *, rho: float) -> pd.DataFrame:
    """Disparity of every run on a balanced test part, beside what its errors let expect; `rho` is the training dial.

    The columns of fairness.group_fairness, and
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
    ideal = [ideal_disparity(rho=rho, accuracy=max(a, 0.5)) for a in runs["accuracy"]]
    with_color = _with_color(predictions, predictions.groups[GROUP])
    return runs.assign(rho=rho, ideal=ideal, excess=runs["dpd"] - ideal, with_color=with_color)


def _with_color(predictions: Predictions, groups: np.ndarray) -> np.ndarray:
    """(R,) share of errors in which the prediction is the one that the color suggests."""
    wrong, suggested = ~predictions.correct, predictions.predicted == (groups == GROUPS[1])
    errors = wrong.sum(axis=1)
    return np.where(errors > 0, (wrong & suggested).sum(axis=1) / np.maximum(errors, 1), np.nan)


def _check_balanced(predictions: Predictions) -> None:
    require_known("sensitive feature", GROUP, predictions.groups, place="the bias dial")
    sizes = pd.crosstab(predictions.labels, predictions.groups[GROUP])
    if sizes.shape != (2, 2) or sorted(sizes.columns) != sorted(GROUPS) or np.ptp(sizes.to_numpy()):
        raise InvalidInput(
            f"a test part with {sizes.to_numpy().tolist()} images of each label and of {', '.join(sizes.columns)}: the "
            "dial is read on two classes, with rho_test 0 and group_share 0.5."
        )


def table(predictions: Predictions, runs: pd.DataFrame) -> pd.DataFrame:
    """`dial_runs` by arm: the rows of `arms.tidy`, and rho.

    Metrics: accuracy, dpd, eod, ideal, excess, and dpd_floor and eod_floor of `fairness.floors`.
    """
    arms = tidy(predictions, runs, dict.fromkeys(("accuracy", "dpd", "eod", "ideal", "excess"), "share"))
    floors = fairness.floors(predictions, sensitive=GROUP)
    floors = floors[floors["metric"].isin(["dpd_floor", "eod_floor"])]
    return pd.concat([arms, floors], ignore_index=True).assign(rho=runs["rho"].iloc[0])
