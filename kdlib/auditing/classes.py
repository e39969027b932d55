"""Classes: how the accuracy on each class changes from the baseline, and what the paper's counts say beside chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import special

from kdlib.auditing.compared import Pair
from kdlib.measure.class_bias import n_significant, null_band
from kdlib.measure.class_nulls import excess_of
from kdlib.measure.joint_intervals import Moments, intervals, pair_counts
from kdlib.measure.stats import LEVEL, adjust

ONE = np.ones((1, 1))
FEW = 5  # classes from which on a uniform shift is told from changes of single classes
MANY = 200  # classes from which on the uniform shift is simulated less often


def changes(pair: Pair, class_names: Sequence[str], *, margin: float) -> pd.DataFrame:
    """One row per class: how the accuracy of the arm differs from the baseline's, in new seeds and test samples.

    class_name, n (test samples), baseline, accuracy (0 .. 1), change (arm minus baseline), low, high (95 %, each class
    by itself), all_low, all_high (95 % for all classes together, Bonferroni), p_adjusted, p_equivalent, verdict.
    The seed variances of classes are shrunk towards a common trend (`joint_intervals.intervals`).
    Changed: p_adjusted <= 0.05; else equivalent: two one-sided tests (Schuirmann 1987) both place the change inside +-
    margin at 0.05; else undecided. Both p-values are adjusted for the number of classes (Benjamini-Hochberg).
    """
    n = pair.arm.totals
    images, everywhere = np.where(n > 0, n, np.nan), np.zeros(len(pair.labels), int)
    _, hits = pair_counts(pair.predicted, pair.labels, everywhere, (1, len(n)))
    of = Moments.of_events(n[:, None], hits[0][:, None])
    found = intervals(of, pair.change, ONE, change=True, alike=True)
    each = 1 - LEVEL / max(1, (n > 0).sum())
    together = intervals(of, pair.change, ONE, change=True, coverage=each, alike=True)
    p = 2 * special.stdtr(found.df, -np.abs(found.center) / found.se)[:, 0]
    p_equivalent = special.stdtr(found.df, -(margin - np.abs(found.center)) / found.se)[:, 0]
    p, p_equivalent = (adjust(np.where(n > 0, values, np.nan), "bh") for values in (p, p_equivalent))
    columns = {"arm": pair.name, "class_name": np.array(class_names, object), "n": n}
    columns |= {"baseline": pair.base.correct.mean(axis=0) / images, "accuracy": pair.arm.correct.mean(axis=0) / images}
    columns |= {"change": found.value[:, 0], "low": found.low[:, 0], "high": found.high[:, 0]}
    columns |= {"all_low": together.low[:, 0], "all_high": together.high[:, 0]}
    columns |= {"p_adjusted": p, "p_equivalent": p_equivalent}
    verdict = np.select([p <= LEVEL, p_equivalent <= LEVEL], ["changed", "equivalent"], "undecided")
    return pd.DataFrame(columns | {"verdict": verdict})


def accuracy(pair: Pair) -> list[dict[str, object]]:
    """Rows of the metrics accuracy and, beside a baseline, accuracy_drop (baseline minus arm), with joint intervals."""
    right = pair.correct.astype(np.float32)
    of = Moments.of_events(np.array([right.shape[1]]), np.rint(right @ right.T)[None])
    own, each = intervals(of, pair.own, ONE, change=False), pair.correct[pair.n_base :].mean(axis=1)
    rows = [{"metric": "accuracy", "mean": own.value[0], "sd": sd(each), "low": own.low[0], "high": own.high[0]}]
    if pair.n_base:
        moved = intervals(of, pair.change, ONE, change=True)
        rows.append({"metric": "accuracy_drop", "mean": -moved.value[0], "low": -moved.high[0], "high": -moved.low[0]})
    return [{"arm": pair.name} | row for row in rows]


def sd(values: np.ndarray) -> float:
    """Over runs; NaN for a single one."""
    return float(values.std(ddof=1)) if len(values) > 1 else np.nan


def largest_drop(value: np.ndarray, low: np.ndarray, high: np.ndarray, names: Sequence[str]) -> dict[str, object]:
    """The largest fall among changes (J,) with simultaneous intervals, with bounds, and where it is."""
    where = int(np.nanargmin(value))
    return {"mean": -float(value[where]), "low": -float(high.min()), "high": -float(low.min()), "where": names[where]}


def counts(pair: Pair, verdicts: pd.Series) -> dict[str, object]:
    """How many classes have which verdict, and the paper's count of significant classes beside chance and a shift.

    n_significant (Welch's test on accuracy_c / accuracy, p <= 0.05, uncorrected), null_low, null_high (what chance
    gives), expected (by a uniform shift of accuracy), excess, excess_low, excess_high, answer ('explained' by accuracy,
    'not explained', 'undecided'). Left out where an arm has fewer than two runs or one with nothing right; the shift
    also with fewer than five classes, which its own errors are too few to be fitted to.
    """
    found = {"arm": pair.name, "classes": len(verdicts)}
    found |= {name: int((verdicts == name).sum()) for name in ("changed", "equivalent", "undecided")}
    n_runs = pair.n_base, len(pair.runs) - pair.n_base
    if min(n_runs) < 2 or not pair.correct.any(axis=1).all():
        return found
    low, high = null_band(len(verdicts), n_runs, test_images=max(1, round(float(np.median(pair.base.totals)))))
    found |= {"n_significant": n_significant(pair.base, pair.arm), "null_low": low, "null_high": high}
    if len(verdicts) < FEW:
        return found
    beyond = excess_of(pair.base, [pair.arm], np.ones(1), "ratio", 200 if len(verdicts) <= MANY else 50)
    ends = {"excess_low": beyond.low, "excess_high": beyond.high}
    return found | {"expected": beyond.expected, "excess": beyond.excess, **ends, "answer": beyond.answer}
