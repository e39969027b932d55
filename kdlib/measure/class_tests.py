"""Tests of one class after another, on counts of correct predictions: arrays in, arrays out.

correct_a (R_a, C) and correct_b (R_b, C) are integer counts of two arms on the same test images, totals (C,) the test
images of each class. `compare` is the way in: it normalises, tests and treats ties. Predictions are unknown here.

The normalisation is the hypothesis. What is equal in both arms when there is nothing to find:
    ratio       accuracy on the class / accuracy of the run (the paper)
    difference  accuracy on the class - accuracy of the run (Hooker et al. 2019)
    arcsine     2 arcsin(sqrt(accuracy)), minus its mean over the run's classes; its variance hardly depends on accuracy
    logit       log odds of being correct, minus its mean over the run's classes
    none        accuracy on the class
"""

from __future__ import annotations

from math import comb
from typing import NamedTuple

import numpy as np
from scipy import special

from kdlib.errors import InvalidInput, require_known
from kdlib.measure.stats import Shrunken, adjust, shrink_variances

ROUNDING = 1e-12  # normalised values are of order 1; what differs by less differs by rounding alone


class Estimate(NamedTuple):
    """Each (C,): b - a of the means, its standard error (exactly 0 where no run deviates), degrees of freedom."""

    difference: np.ndarray
    se: np.ndarray
    df: np.ndarray


class Comparison(NamedTuple):
    """Each (C,): b - a of the normalised means, the statistic (positive where b is higher), its df, two-sided p, se."""

    difference: np.ndarray
    statistic: np.ndarray
    df: np.ndarray
    p: np.ndarray
    se: np.ndarray


def compare(
    correct_a: np.ndarray, correct_b: np.ndarray, totals: np.ndarray, *, test: str = "welch", normalise: str = "ratio"
) -> Comparison:
    """Test each class for a difference between two arms. A class without test images gets NaN.

    A class with one and the same count in every run of both arms is a tie: statistic 0, p = 1. Dividing first would
    make a class that every run gets right "significant" whenever the overall accuracies differ.
    Raises InvalidInput for unknown names, fewer than two runs, or 'ratio' with a run that gets nothing right.
    """
    a, b = (normalised(correct, totals, normalise) for correct in (correct_a, correct_b))
    return compare_values(a, b, tied(correct_a, correct_b), test=test)


def count_significant(
    correct_a: np.ndarray,
    correct_b: np.ndarray,
    totals: np.ndarray,
    *,
    test: str = "welch",
    normalise: str = "ratio",
    correction: str | None = None,
    level: float = 0.05,
) -> int:
    """How many classes differ: adjusted p <= level. The defaults are the paper's. Raises as `compare`."""
    p = compare(correct_a, correct_b, totals, test=test, normalise=normalise).p
    return int((adjust(p, correction) <= level).sum())


def tied(correct_a: np.ndarray, correct_b: np.ndarray) -> np.ndarray:
    """(C,) bool: one and the same count in every run of both arms."""
    return (np.concatenate([correct_a, correct_b]) == correct_a[0]).all(axis=0)


def compare_values(a: np.ndarray, b: np.ndarray, tie: np.ndarray, *, test: str) -> Comparison:
    """`compare` of values (R_a, C) and (R_b, C) that are normalised already; tie (C,) bool."""
    require_known("test", test, TESTS)
    if min(len(a), len(b)) < 2:
        raise InvalidInput(f"{len(a)} and {len(b)} runs to compare: each arm needs two seeds or more.")
    difference, se, df = TESTS[test](a, b)
    difference, se = (np.where(tie & ~np.isnan(x), 0.0, x) for x in (difference, se))
    difference = np.where((se == 0) & (np.abs(difference) <= ROUNDING), 0.0, difference)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(difference == 0, 0 * difference, difference / se)
    p = np.where(np.isinf(statistic), least_p(len(a), len(b)), 2 * special.stdtr(df, -np.abs(statistic)))
    return Comparison(difference, statistic, df, p, se)


def least_p(n_a: int, n_b: int) -> float:
    """The least two-sided p that permuting the runs can give: 0.0079 for five and five.

    It stands where neither arm varies and they differ. That does not show a variance of 0, only one below the
    resolution of the counts, so p = 0 would claim more than five runs can.
    """
    return 2 / comb(n_a + n_b, n_a)


def normalised(correct: np.ndarray, totals: np.ndarray, normalise: str) -> np.ndarray:
    """(R, C) values that `normalise` compares; NaN for a class without test images."""
    require_known("normalisation", normalise, NORMALISATIONS)
    with np.errstate(invalid="ignore"):
        return NORMALISATIONS[normalise](correct, np.asarray(totals))


def _overall(correct: np.ndarray, totals: np.ndarray) -> np.ndarray:
    return correct.sum(axis=1, keepdims=True) / totals.sum()


def _ratio(correct: np.ndarray, totals: np.ndarray) -> np.ndarray:
    overall = _overall(correct, totals)
    if not overall.all():
        raise InvalidInput(
            f"the run at position {int(np.argmin(overall))} of an arm has overall accuracy 0: the ratio "
            "is undefined. Leave the run out, or use normalise='difference'."
        )
    return correct / totals / overall


def _difference(correct: np.ndarray, totals: np.ndarray) -> np.ndarray:
    return correct / totals - _overall(correct, totals)


def _arcsine(correct: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Anscombe's (1948) form, which stays finite in slope at 0 and 100 %."""
    return _less_own_mean(2 * np.arcsin(np.sqrt((correct + 3 / 8) / (totals + 3 / 4))), totals)


def _logit(correct: np.ndarray, totals: np.ndarray) -> np.ndarray:
    return _less_own_mean(np.log((correct + 0.5) / (totals - correct + 0.5)), totals)


def _less_own_mean(values: np.ndarray, totals: np.ndarray) -> np.ndarray:
    return np.where(totals > 0, values - values[:, totals > 0].mean(axis=1, keepdims=True), np.nan)


NORMALISATIONS = {"ratio": _ratio, "difference": _difference, "arcsine": _arcsine, "logit": _logit, "none": np.divide}


def welch(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Welch's t-test (1947) of each column; a (R_a, C), b (R_b, C). The paper's test."""
    per_a, per_b = _variance(a) / len(a), _variance(b) / len(b)
    with np.errstate(invalid="ignore"):
        df = (per_a + per_b) ** 2 / (per_a**2 / (len(a) - 1) + per_b**2 / (len(b) - 1))
    df = np.where(per_a + per_b == 0, len(a) + len(b) - 2, df)
    return Estimate(b.mean(axis=0) - a.mean(axis=0), np.sqrt(per_a + per_b), df)


def moderated(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Moderated t-test of each column (Smyth 2004): variances shrunk across classes towards a mean-variance trend.

    Made for normalise="arcsine", whose variance hardly depends on the mean. df is the sum of the two arms' and the
    prior's, at most that of all classes pooled.
    """
    shrunken, prior_df = shrunken_variance(a, b)
    own_df = len(a) + len(b) - 2
    df = np.full(len(shrunken), min(own_df + prior_df, own_df * max(1, np.isfinite(shrunken).sum())))
    return Estimate(b.mean(axis=0) - a.mean(axis=0), np.sqrt(shrunken * (1 / len(a) + 1 / len(b))), df)


def shrunken_variance(a: np.ndarray, b: np.ndarray) -> Shrunken:
    """`stats.shrink_variances` of the pooled variances, with a trend over the mean of both arms."""
    return shrink_variances(pooled_variance(a, b), (a.mean(axis=0) + b.mean(axis=0)) / 2, df=len(a) + len(b) - 2)


def pooled_variance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(C,) variance within arms, R_a + R_b - 2 degrees of freedom."""
    return ((len(a) - 1) * _variance(a) + (len(b) - 1) * _variance(b)) / (len(a) + len(b) - 2)


def _variance(values: np.ndarray) -> np.ndarray:
    """(C,) sample variances, exactly 0 where the values differ by rounding alone."""
    return np.where(np.ptp(values, axis=0) <= ROUNDING, 0.0, values.var(axis=0, ddof=1))


TESTS = {"welch": welch, "moderated": moderated}
