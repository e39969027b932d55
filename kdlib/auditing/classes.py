"""Classes: how the accuracy on each class changes from the baseline, and what the paper's counts say beside chance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import special

from kdlib.auditing.compared import Pair
from kdlib.measure.class_bias import n_significant, null_band
from kdlib.measure.class_nulls import excess_of
from kdlib.measure.joint_counts import Intervals, Moments, intervals, pair_counts
from kdlib.measure.stats import LEVEL, adjust

ONE = np.ones((1, 1))
FEW = 5  # classes from which on a uniform shift is told from changes of single classes
MANY = 200  # classes from which on the uniform shift is simulated less often


def changes(pair: Pair, class_names: Sequence[str], *, margin: float) -> pd.DataFrame:
    """One row per class: how the accuracy of the arm differs from the baseline's, in new seeds and test samples.

    class_name, n (test samples), baseline, accuracy (0 .. 1), change (arm minus baseline), low, high (95 %, each class
    by itself), all_low, all_high (95 % for all classes together, Bonferroni), p_adjusted, p_equivalent, verdict.
    Changed: p_adjusted <= 0.05; else equivalent: two one-sided tests (Schuirmann 1987) both place the change inside +-
    margin at 0.05; else undecided. Both p-values are adjusted for the number of classes (Benjamini-Hochberg).
    """
    arm, base = pair.counted[pair.name], pair.counted[pair.baseline]
    totals = arm.totals
    _, hits = pair_counts(pair.predicted, pair.labels, np.zeros(len(pair.labels), int), (1, len(totals)))
    of = Moments.of_events(totals[:, None], hits[0][:, None])
    simultaneous = 1 - LEVEL / max(1, (totals > 0).sum())
    found = intervals(of, pair.change, ONE, change=True)
    all_of = intervals(of, pair.change, ONE, change=True, coverage=simultaneous)
    known = totals > 0
    pvalue = np.where(known, _two_sided(found), np.nan)
    changed, equal = (adjust(values, "bh") for values in (pvalue, np.where(known, _equivalence(found, margin), np.nan)))
    images = np.where(known, totals, np.nan)
    return pd.DataFrame(
        {
            "arm": pair.name,
            "class_name": np.array(class_names, object),
            "n": totals,
            "baseline": base.correct.mean(axis=0) / images,
            "accuracy": arm.correct.mean(axis=0) / images,
            "change": found.value[:, 0],
            "low": found.low[:, 0],
            "high": found.high[:, 0],
            "all_low": all_of.low[:, 0],
            "all_high": all_of.high[:, 0],
            "p_adjusted": changed,
            "p_equivalent": equal,
            "verdict": np.select([changed <= LEVEL, equal <= LEVEL], ["changed", "equivalent"], "undecided"),
        }
    )


def accuracy(pair: Pair) -> list[dict[str, object]]:
    """Rows of the metrics accuracy and, beside a baseline, accuracy_drop (baseline minus arm), with joint intervals."""
    right = pair.correct.astype(np.float32)
    of = Moments.of_events(np.array([right.shape[1]]), np.rint(right @ right.T)[None])
    own = intervals(of, pair.own, ONE, change=False)
    each = pair.correct[pair.n_base :].mean(axis=1)
    rows = [{"metric": "accuracy", "mean": own.value[0], "sd": sd(each), "low": own.low[0], "high": own.high[0]}]
    if pair.n_base:
        moved = intervals(of, pair.change, ONE, change=True)
        rows.append({"metric": "accuracy_drop", "mean": -moved.value[0], "low": -moved.high[0], "high": -moved.low[0]})
    return [{"arm": pair.name} | row for row in rows]


def sd(values: np.ndarray) -> float:
    """Over runs; NaN for a single one."""
    return float(values.std(ddof=1)) if len(values) > 1 else np.nan


def largest_drop(value: np.ndarray, low: np.ndarray, high: np.ndarray, names: Iterable[str]) -> dict[str, object]:
    """The largest fall among changes (J,) with simultaneous intervals, with bounds, and where it is."""
    if np.isnan(value).all():
        return {"mean": np.nan, "low": -1.0, "high": 1.0, "where": ""}
    where = list(names)[int(np.nanargmin(value))]
    return {"mean": float(-np.nanmin(value)), "low": float(-high.min()), "high": float(-low.min()), "where": where}


def _two_sided(found: Intervals) -> np.ndarray:
    return 2 * special.stdtr(found.df, -np.abs(found.center) / found.se)[:, 0]


def _equivalence(found: Intervals, margin: float) -> np.ndarray:
    return special.stdtr(found.df, -(margin - np.abs(found.center)) / found.se)[:, 0]


def counts(pair: Pair, verdicts: pd.Series) -> dict[str, object]:
    """How many classes have which verdict, and the paper's count of significant classes beside chance and a shift.

    n_significant (Welch's test on accuracy_c / accuracy, p <= 0.05, uncorrected), null_low, null_high (what chance
    gives), expected (by a uniform shift of accuracy), excess, excess_low, excess_high, answer ('explained' by accuracy,
    'not explained', 'undecided'). Left out where an arm has fewer than two runs or one with nothing right; the shift
    also with fewer than five classes, which its own errors are too few to be fitted to.
    """
    found = {"arm": pair.name, "classes": len(verdicts)}
    found |= {name: int((verdicts == name).sum()) for name in ("changed", "equivalent", "undecided")}
    if not pair.seeds_known:
        return found
    base, arm = pair.counted[pair.baseline], pair.counted[pair.name]
    if min(base.correct.sum(axis=1).min(), arm.correct.sum(axis=1).min()) == 0:
        return found  # a run with nothing right has no ratio
    images = max(1, round(float(np.median(base.totals))))
    low, high = null_band(len(verdicts), (len(base.seeds), len(arm.seeds)), test_images=images)
    found |= {"n_significant": n_significant(base, arm), "null_low": low, "null_high": high}
    if len(verdicts) < FEW:
        return found
    beyond = excess_of(base, [arm], np.ones(1), "ratio", 200 if len(verdicts) <= MANY else 50)
    return found | {
        "expected": beyond.expected,
        "excess": beyond.excess,
        "excess_low": beyond.low,
        "excess_high": beyond.high,
        "answer": beyond.answer,
    }
