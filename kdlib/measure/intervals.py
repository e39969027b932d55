"""How sure: differences between partners, trends over blocks, and intervals for DPD and EOD that hold.

The largest minus the smallest of many noisy rates is too large on average, so a percentile bootstrap of it has no
meaning. Two groups have a signed difference, which can be bootstrapped; for more groups `crossfitted` gives an estimate
without that excess. No torch.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from kdlib.errors import InvalidInput, KdlibWarning, UndefinedMetric, unknown
from kdlib.measure import stats
from kdlib.measure.arms import by_block
from kdlib.measure.class_tests import least_p
from kdlib.measure.group_counts import Cells, count, crosstab, describe_pairs, differences, prepare, rates, spread
from kdlib.predictions import Predictions

FEWEST = 5  # positives and negatives of each group without which its rate is not resampled


# --- paired over seeds ------------------------------------------------------------------------------------------------


def paired_differences(
    predictions: Predictions, values: np.ndarray, *, against: str = "nds", coverage: float = 0.95
) -> pd.DataFrame:
    """Distilled student minus its partner, with a t-interval over seeds; one row a temperature.

    values   (R,) one number a run, such as group_fairness(...)["dpd"]; the result has its unit
    against  "teacher": the student's own (by teacher_id); "nds": the non-distilled student of the same seed
    Returns temperature, against, n_pairs, mean, sd, low, high; 0 means no difference.
    Raises InvalidInput without distilled students or with fewer than two pairs. Warns of students without a partner,
    and of one teacher for all seeds (its students are one observation of that teacher, not several).
    """
    if against not in ("nds", "teacher"):
        raise unknown("against", against, ("nds", "teacher"), place="paired_differences")
    values, runs = np.asarray(values, float), predictions.runs
    if values.shape != (len(runs),):
        raise InvalidInput(f"values have shape {values.shape}; one number a run is wanted: ({len(runs)},).")
    students = [arm for arm in stats.arm_rows(runs) if arm.model == "ds"]
    if not students:
        raise InvalidInput(f"no distilled student (model 'ds') among {', '.join(sorted(set(runs['model'])))}.")
    partner = _partners(runs, against)
    found = pd.DataFrame([_paired_row(arm, values, partner, coverage) for arm in students])
    stats.check_seeds({f"ds T={row.temperature:g}": int(row.n_pairs) for row in found.itertuples()})
    return found.assign(against=against)[["temperature", "against", "n_pairs", "mean", "sd", "low", "high"]]


def _partners(runs: pd.DataFrame, against: str) -> np.ndarray:
    """(R,) position of each run's partner, -1 where it has none."""
    others = runs[runs["model"] == against]
    key, own = ("run_id", runs["teacher_id"]) if against == "teacher" else ("seed", runs["seed"])
    place = dict(zip(others[key], others.index, strict=True))
    return np.array([place.get(value, -1) for value in own])


def _paired_row(arm: stats.ArmRows, values: np.ndarray, partner: np.ndarray, coverage: float) -> dict[str, float]:
    rows = arm.rows[partner[arm.rows] >= 0]
    if len(rows) < len(arm.rows):
        warnings.warn(
            f"{arm.name}: {len(arm.rows) - len(rows)} of {len(arm.rows)} students have no partner and are left out.",
            KdlibWarning,
            stacklevel=4,
        )
    if len(rows) > 1 and len(set(partner[rows])) == 1:
        warnings.warn(
            f"{arm.name}: one partner for all {len(rows)} seeds, so the interval says nothing about other teachers.",
            KdlibWarning,
            stacklevel=4,
        )
    change = values[rows] - values[partner[rows]]
    low, high = stats.t_interval(change, coverage=coverage) if len(rows) > 1 else (np.nan, np.nan)
    return {
        "temperature": arm.temperature,
        "n_pairs": len(rows),
        "mean": change.mean() if len(rows) else np.nan,
        "sd": change.std(ddof=1) if len(rows) > 1 else np.nan,
        "low": low,
        "high": high,
    }


# --- bootstrap over test rows and seeds, two groups ------------------------------------------------------------------


def bootstrap_intervals(
    predictions: Predictions,
    *,
    sensitive: str,
    replicates: int = 2000,
    seed: int = 0,
    coverage: float = 0.95,
    missing: str = "error",
) -> pd.DataFrame:
    """Intervals for the differences of each arm, from resampled test rows and seeds; two groups and two classes only.

    Returns one row an arm and measure (dpd, tpr_difference, fpr_difference, eod): model, temperature, n_seeds, measure,
    value (mean over seeds, as in `fairness.table`), signed (second group minus first, mean over seeds; NaN for EOD),
    low, high (0 .. 1).
    The signed difference is resampled, and its interval folded at 0: an interval that holds 0 starts at 0. EOD joins
    the intervals of its two parts, each at 1 - (1 - coverage) / 2, and is conservative. The seeds' deviations beyond
    what resampled rows explain are resampled too, widened by sqrt(n / (n - 1)) * t / z for their small number.
    Raises UndefinedMetric for more than two groups or classes, and for groups with fewer than 5 positives or negatives.
    """
    stats.require_share("coverage", coverage)
    if replicates < 100:
        raise InvalidInput(f"replicates is {replicates}; percentiles need 100 at least (default 2000).")
    cells, _ = prepare(predictions, sensitive=sensitive, missing=missing, exclude_below=0)
    _require_two(cells, sensitive)
    arms = stats.arm_rows(predictions.runs)
    stats.check_seeds({arm.name: len(arm.rows) for arm in arms})
    values, signed, rng = differences(rates(cells)), _signed(rates(cells)), np.random.default_rng(seed)
    rows = []
    for arm in arms:
        resampled = _resample_seeds(_resample_rows(cells, arm.rows, replicates, rng), signed[arm.rows], coverage, rng)
        mean = dict(zip(("dpd", "tpr_difference", "fpr_difference"), signed[arm.rows].mean(axis=0), strict=True))
        for measure, (low, high) in _folded_intervals(resampled, coverage).items():
            rows.append(
                {
                    "model": arm.model,
                    "temperature": arm.temperature,
                    "n_seeds": len(arm.rows),
                    "measure": measure,
                    "value": values[measure][arm.rows].mean(),
                    "signed": mean.get(measure, np.nan),
                    "low": low,
                    "high": high,
                }
            )
    return pd.DataFrame(rows)


def _require_two(cells: Cells, sensitive: str) -> None:
    if len(cells.groups) != 2 or cells.n_classes != 2:
        raise UndefinedMetric(
            f"{len(cells.groups)} groups of {sensitive!r} and {cells.n_classes} classes: the largest "
            "minus the smallest of several rates, and a mean over classes of such, are too large on "
            "average, and their percentile intervals do not hold. Use floors and crossfitted."
        )
    few = np.minimum(cells.positive, cells.negative) < FEWEST
    if few.any():
        raise UndefinedMetric(
            f"too few to resample: {describe_pairs(cells, few)}; {FEWEST} of each are needed. Merge the groups."
        )


def _signed(two_groups: np.ndarray) -> np.ndarray:
    """(..., 3, 2, 1) rates -> (..., 3) second group minus first."""
    return two_groups[..., 1, 0] - two_groups[..., 0, 0]


def _resample_rows(cells: Cells, runs: np.ndarray, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """(B, R, 3) signed differences. Rows alike in label, group and all runs' predictions are drawn together."""
    bits = cells.outcome[runs] // 2
    patterns, counts = np.unique(np.vstack([cells.labels, cells.codes, bits]), axis=1, return_counts=True)
    weights = rng.multinomial(counts.sum(), counts / counts.sum(), size=replicates).astype(float)
    label, group, bits = patterns[0], patterns[1], patterns[2:]
    drawn = np.empty((replicates, len(runs), 3, 2, 1))
    for g in (0, 1):
        size, selected = zip(*(_weighted(weights, bits, (group == g) & (label == y)) for y in (0, 1)), strict=True)
        pairs = ((selected[0] + selected[1], size[0] + size[1]), (selected[1], size[1]), (selected[0], size[0]))
        for rate, (above, below) in enumerate(pairs):
            drawn[:, :, rate, g, 0] = above / np.where(below > 0, below, np.nan)[:, None]
    return _signed(drawn)


def _weighted(weights: np.ndarray, bits: np.ndarray, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over the patterns `here`: (B,) rows drawn, and (B, R) of them predicted positive."""
    return weights[:, here].sum(axis=1), weights[:, here] @ bits[:, here].T


def _resample_seeds(drawn: np.ndarray, observed: np.ndarray, coverage: float, rng: np.random.Generator) -> np.ndarray:
    """(B, R, 3) replicates and (R, 3) observed -> (B, 3) means over seeds, with the spread between seeds added.

    Resampled rows already move the runs apart; only what the observed runs differ beyond that is added, widened because
    R is small.
    """
    replicates, n, _ = drawn.shape
    upper = (1 + coverage) / 2
    widen = np.sqrt(n / (n - 1)) * special.stdtrit(n - 1, upper) / special.ndtri(upper)
    deviations = observed - observed.mean(axis=0)
    by_rows = np.nanvar(drawn - drawn.mean(axis=1, keepdims=True), axis=0).mean(axis=0)
    between = deviations.var(axis=0)
    beyond = np.sqrt(np.maximum(0, between - by_rows) / np.where(between > 0, between, 1))
    chosen = deviations[rng.integers(n, size=(replicates, n))].mean(axis=1)
    return drawn.mean(axis=1) + widen * beyond * chosen


def _folded_intervals(resampled: np.ndarray, coverage: float) -> dict[str, tuple[float, float]]:
    single = [_fold(resampled[:, rate], coverage) for rate in range(3)]
    joint = [_fold(resampled[:, rate], 1 - (1 - coverage) / 2) for rate in (1, 2)]
    eod = (max(low for low, _ in joint), max(high for _, high in joint))
    return dict(zip(("dpd", "tpr_difference", "fpr_difference", "eod"), (*single, eod), strict=True))


def _fold(values: np.ndarray, coverage: float) -> tuple[float, float]:
    """Percentile interval of a signed difference -> interval of its size."""
    low, high = np.nanquantile(values, [(1 - coverage) / 2, (1 + coverage) / 2])
    return (0.0 if low <= 0 <= high else float(min(abs(low), abs(high)))), float(max(abs(low), abs(high)))


# --- many groups: an estimate that is not too large on average -------------------------------------------------------


def crossfitted(
    predictions: Predictions,
    *,
    sensitive: str,
    splits: int = 50,
    seed: int = 0,
    missing: str = "error",
    exclude_below: int = 0,
) -> pd.DataFrame:
    """DPD and EOD without the excess of a maximum: one half of the test set names the two groups, the other measures.

    One row a run: run_id, model, seed, temperature, then dpd, dpd_crossfitted, eod, eod_crossfitted; means over
    `splits` halvings of each group, each used both ways. Where groups do not differ the crossfitted
    value is 0 on average and can be negative; where they do it is at most the true difference on average.
    Compare it with `fairness.floors`, not with the paper's values, which have the excess.
    """
    if splits < 1:
        raise InvalidInput(f"splits is {splits}; at least one halving is needed (default 50).")
    cells, _ = prepare(predictions, sensitive=sensitive, missing=missing, exclude_below=exclude_below)
    rng = np.random.default_rng(seed)
    estimates = _mean_defined(np.array([_both_ways(*_half_rates(cells, rng)) for _ in range(splits)]), axis=0)
    if np.isnan(estimates).any():
        raise UndefinedMetric(
            f"in no class do two groups of {sensitive!r} have a positive and a negative in both "
            "halves of the test set. Merge groups."
        )
    whole = differences(rates(cells))
    frame = predictions.runs[["run_id", "model", "seed", "temperature"]].reset_index(drop=True)
    return frame.assign(dpd=whole["dpd"], dpd_crossfitted=estimates[0], eod=whole["eod"], eod_crossfitted=estimates[1])


def _half_rates(cells: Cells, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The (R, 3, G, K) rates of two halves; NaN in both where either has none."""
    n_groups, n = len(cells.groups), len(cells.labels)
    order = np.lexsort((rng.random(n), cells.codes))  # labels fall as they fall: their chance counts too
    half = np.empty(n, np.intp)
    half[order] = np.arange(n) % 2
    codes = cells.codes + n_groups * half
    selected, hits = count(cells, codes, 2 * n_groups)
    by_label = crosstab(codes, cells.labels, 2 * n_groups, cells.n_classes)
    size, positive = by_label.sum(axis=1, keepdims=True), by_label[:, cells.scored]
    below = np.stack([np.broadcast_to(size, positive.shape), positive, size - positive])
    usable = (below[:, :n_groups] > 0) & (below[:, n_groups:] > 0) & cells.usable
    both = np.stack([selected, hits, selected - hits], axis=1) / np.maximum(below, 1)
    return np.where(usable, both[:, :, :n_groups], np.nan), np.where(usable, both[:, :, n_groups:], np.nan)


def _both_ways(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(2, R): DPD and EOD, mean of both directions, then over classes."""
    return _mean_defined((_measure(a, b) + _measure(b, a)) / 2, axis=-1)


def _mean_defined(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean over what is not NaN; NaN where all are."""
    defined = ~np.isnan(values)
    n = defined.sum(axis=axis)
    return np.where(n > 0, np.where(defined, values, 0).sum(axis=axis) / np.maximum(n, 1), np.nan)


def _measure(named: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """(2, R, K): the highest and lowest group by `named`, their difference in `measured`; EOD's wider rate likewise."""
    highest = np.where(np.isnan(named), -np.inf, named).argmax(axis=2)[:, :, None]
    lowest = np.where(np.isnan(named), np.inf, named).argmin(axis=2)[:, :, None]
    gap = (np.take_along_axis(measured, highest, axis=2) - np.take_along_axis(measured, lowest, axis=2))[:, :, 0]
    size = spread(named)
    gap = np.where(np.isnan(size), np.nan, gap)
    eod = np.where(size[:, 1] >= size[:, 2], gap[:, 1], gap[:, 2])
    return np.stack([gap[:, 0], np.where(np.isnan(size[:, 1] + size[:, 2]), np.nan, eod)])


# --- what accuracy and EOD leave open --------------------------------------------------------------------------------


LEVEL = 0.05


class Tested(NamedTuple):
    """A mean over blocks, its 95 % t-interval and two-sided p."""

    value: float
    low: float
    high: float
    p: float


def block_slopes(wide: pd.DataFrame) -> np.ndarray:
    """Least squares slope on log2 T of each row of `by_block`: change of the value for each doubling of T.

    Raises InvalidInput for fewer than two temperatures.
    """
    if wide.shape[1] < 2:
        raise InvalidInput(f"a slope needs two temperatures; there is T = {', '.join(f'{t:g}' for t in wide)}.")
    x = np.log2(wide.columns.to_numpy(float))
    x = x - x.mean()
    return wide.to_numpy() @ x / (x @ x)


def t_test(values: np.ndarray) -> Tested:
    """Student's t-test of one number a block against 0. Where they are all alike, p is the least of sign flips."""
    low, high = stats.t_interval(values)
    return tested(float(np.mean(values)), float(low), float(high), n=len(values))


def tested(value: float, low: float, high: float, *, n: int) -> Tested:
    """The p that belongs to a 95 % t-interval over n blocks."""
    se = (high - low) / 2 / special.stdtrit(n - 1, 1 - LEVEL / 2)
    if se <= 1e-12:
        return Tested(value, low, high, 1.0 if abs(value) <= 1e-12 else least_p(n, n, "paired"))
    return Tested(value, low, high, float(2 * special.stdtr(n - 1, -abs(value) / se)))


def paired_test(p: Predictions, values: np.ndarray, *, against: str) -> Tested:
    """`intervals.paired_differences` of values (R,) at the only temperature of `p`, with its p."""
    row = paired_differences(p, values, against=against).iloc[0]
    return tested(row["mean"], row["low"], row["high"], n=int(row["n_pairs"]))


def trends(predictions: Predictions, runs: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Trend with T of columns of a table with one row a run: change for each doubling of T, over teacher blocks.

    One row a column: measure, slope (least squares on log2 T in each block, then the mean), low, high (95 %
    t-interval over blocks), p (two-sided, against 0), n_blocks. The unit is that of the column.
    Raises InvalidInput for fewer than two temperatures or blocks.
    """
    rows = []
    for column in columns:
        found = block_slopes(by_block(predictions, runs[column].to_numpy()))
        test = t_test(found)
        rows.append(
            {
                "measure": column,
                "slope": test.value,
                "low": test.low,
                "high": test.high,
                "p": test.p,
                "n_blocks": len(found),
            }
        )
    return pd.DataFrame(rows)
