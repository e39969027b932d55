"""Intervals about a model: new seeds and new test images. A t-interval over seeds speaks of these test images alone.

Which rows two runs have in common is all that an interval needs of them: `intervals` works on counts for every pair of
runs, of many cells at once; `joint_intervals` is the table of a study. With one run in each arm an interval speaks of
other test rows and of these very runs: how much another seed would change is then unknown, and nothing stands in.

Each value is a mean over runs and test rows, or such a mean in one group minus that in another. Its variance is that of
the seeds (of each run's value) plus that of the rows (of each row's mean over runs), less their interaction, which both
contain; Student's t with the degrees of freedom of Satterthwaite (1946). It can be narrower than a t-interval over
seeds alone, which pays for how badly five seeds tell their variance; its coverage is shown by simulation. Rows are
drawn within a cell: the whole test set for accuracy and disagreement, a group for DPD, a label and group for TPR and
FPR.

A difference between two groups is signed, first minus second: max - min, and so EOD, has a corner at 0 and no interval.
More than two groups: one row for each pair of them; several classes: one for each class, one-vs-rest. The signed mean
over classes would not do, as selection rates sum to 1 and their differences to 0. Intervals of one arm and metric hold
together (Bonferroni: unlike max-t, it needs no common degrees of freedom). No torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from kdlib.errors import InvalidInput, UndefinedMetric, caution, require_known
from kdlib.measure.arms import Arm, arm_rows, check_seeds, nds_and_students, own_teachers
from kdlib.measure.group_counts import group_codes
from kdlib.measure.stats import LEVEL, shrink_variances
from kdlib.predictions import Predictions

NAME = ["metric", "class_name", "first", "second"]


class Moments(NamedTuple):
    """Values of R runs in cells of rows, (...) cells: rows (...), sums (..., R), products of pairs (..., R, R)."""

    rows: np.ndarray
    sums: np.ndarray
    products: np.ndarray

    @classmethod
    def of_events(cls, rows: np.ndarray, products: np.ndarray) -> Moments:
        """Of values 0 and 1: products count the rows that two runs both have."""
        return cls(rows, np.diagonal(products, axis1=-2, axis2=-1), products)

    @classmethod
    def of_values(cls, values: np.ndarray, cells: Sequence[np.ndarray]) -> Moments:
        """Of values (R, N) in M cells of rows."""
        parts = [(len(rows), (x := values[:, rows]).sum(axis=1), x @ x.T) for rows in cells]
        return cls(*map(np.array, zip(*parts, strict=True)))


class Intervals(NamedTuple):
    """Each (..., J): value (NaN without rows), low, high; center, se and df of Student's t behind them.

    se_seeds, se_rows: the standard errors that come with seeds alone and with test rows alone.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    center: np.ndarray
    se: np.ndarray
    df: np.ndarray
    se_seeds: np.ndarray
    se_rows: np.ndarray


def pair_counts(
    predicted: np.ndarray, labels: np.ndarray, codes: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(selected, hits), each (G, C, R, R) int: rows of a group that both runs put in the class, and rightly so.

    predicted (R, N), labels (N,), codes (N,) of the G groups; shape: (G, C).
    """
    n_runs, size = len(predicted), shape[0] * shape[1] * 2
    found = np.empty((n_runs, n_runs, size), int)
    for a, row in enumerate(predicted):
        outcome = (codes * shape[1] + row) * 2 + (row == labels)
        for b in range(a, n_runs):
            both = outcome if a == b else outcome[row == predicted[b]]
            found[a, b] = found[b, a] = np.bincount(both, minlength=size)
    counts = np.moveaxis(found.reshape(n_runs, n_runs, *shape, 2), (0, 1), (-2, -1))
    return counts.sum(axis=2), counts[:, :, 1]


def intervals(
    of: Moments,
    sources: Sequence[np.ndarray],
    weights: np.ndarray,
    *,
    change: bool,
    coverage: float | np.ndarray = 0.95,
    alike: bool = False,
    padded: bool = True,
) -> Intervals:
    """Intervals for J weighted sums over cells of the mean over rows and runs.

    of        moments of cells (..., M): the last axis is summed over, all others are done at once
    sources   independent sets of runs, (R_k, R) each: row i makes values of the k-th set's run i from those of the
              R runs. One arm: its rows of the unit matrix; two arms: these, and minus the other's; arms paired run by
              run: one matrix of differences
    weights   (J, M)
    change    between two arms. Each cell gets two rows more, so that a few rows that happen to agree do not look
              certain: 0 and 1 for one arm (Agresti and Caffo 2000), halves of 1 and -1 and a 0 for a change (Agresti
              and Min 2005)
    coverage  0 .. 1, may be an array that fits (..., J)
    alike     of cells (C, M), such as classes: their seed variances are shrunk towards a trend over the means
              (`stats.shrink_variances`), without which intervals of many classes and few seeds say nothing
    padded    False: cells get no rows more; NaN ends where nothing varies
    Sets of a single run add nothing for seeds.
    """
    rows, some, all_rows = of.rows, np.maximum(of.rows, 1), of.rows + 2 * padded
    together = sum(source.mean(axis=0) for source in sources)
    total = of.sums @ together
    square = (of.products @ together) @ together + padded
    middle = (total + (padded and not change)) / all_rows
    of_rows = (square - all_rows * middle**2).clip(min=0) / (all_rows - 1) / all_rows
    center, parts = middle @ weights.T, [_squared(weights, of_rows, all_rows - 1)]
    seeds, twice = np.zeros_like(center), np.zeros_like(center)
    for source in (source for source in sources if len(source) > 1):
        n = len(source)
        means = of.sums @ source.T / some[..., None]
        by_run = weights @ means
        inner = source @ of.products @ source.T
        rest = np.trace(inner, axis1=-2, axis2=-1) - inner.sum(axis=(-2, -1)) / n - rows * n * means.var(axis=-1)
        df = (n - 1) * np.maximum(rows - 1, 1)
        both = np.maximum(rest, 0) / df / (some * n)
        of_seeds, prior = by_run.var(axis=-1, ddof=1), 0.0
        if alike:
            of_seeds, prior = shrink_variances(of_seeds[:, 0], by_run.mean(axis=-1)[:, 0], df=n - 1)
            of_seeds = of_seeds[:, None]
        seeds = seeds + of_seeds / n
        twice = twice + both @ (weights**2).T
        parts += [(of_seeds / n) ** 2 / (n - 1 + prior), _squared(weights, both, df)]
    by_rows = of_rows @ (weights**2).T
    variance = np.maximum(np.maximum(seeds + by_rows - twice, seeds), by_rows)
    se = np.sqrt(variance)
    with np.errstate(invalid="ignore"):
        df = variance**2 / sum(parts)
    half = special.stdtrit(df, (1 + np.asarray(coverage)) / 2) * se
    least, most = weights.clip(max=0).sum(axis=1), weights.clip(min=0).sum(axis=1)
    if change:
        least, most = least - most, most - least
    value = np.where((rows == 0) @ (weights != 0).T, np.nan, (total / some) @ weights.T)
    low, high = (np.clip(end, least, most) for end in (center - half, center + half))
    return Intervals(value, low, high, center, se, df, np.sqrt(seeds), np.sqrt(by_rows))


def _squared(weights: np.ndarray, variance: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Satterthwaite's terms of independent cells."""
    return (variance**2 / df) @ (weights**4).T


class Joint(NamedTuple):
    """A value, its interval, and the standard errors that come with seeds alone and with test rows alone."""

    mean: float
    low: float
    high: float
    se_seeds: float
    se_rows: float


def joint_interval(
    sources: Sequence[np.ndarray], cells: Sequence[tuple[np.ndarray, int]], *, difference: bool, coverage: float = 0.95
) -> Joint:
    """Interval for the sum over cells of sign * (mean over the cell's rows and the runs).

    sources     (R_k, N) values of independent sets of runs, whose means add up. One arm: its zeros and ones. Two
                independent arms: one, and minus the other. Arms paired run by run: one array of differences
    cells       [(rows, sign)] of two rows or more, without common rows
    difference  between two arms. One arm alone gets a row of zeros and a row of ones in each cell (Agresti and Caffo
                2000), else a rate of 97 % in 64 rows is covered by 88 %, and one of 100 % has no width
    NaN ends if a difference varies over neither runs nor rows.
    """
    sizes = np.cumsum([len(values) for values in sources])
    of = Moments.of_values(np.concatenate(sources), [rows for rows, _ in cells])
    signs, each = np.array([[sign for _, sign in cells]]), np.split(np.eye(sizes[-1]), sizes[:-1])
    found = intervals(of, each, signs, change=difference, padded=not difference)
    half = special.stdtrit(found.df, (1 + coverage) / 2) * found.se
    least = -1 - difference if len(cells) > 1 or difference else 0
    low, high = (np.clip(end, least, 1 + difference) for end in (found.center - half, found.center + half))
    return Joint(*(float(x[0]) for x in (found.value, low, high, found.se_seeds, found.se_rows)))


def joint_intervals(
    predictions: Predictions, *, against: str | None = None, sensitive: str | None = None
) -> pd.DataFrame:
    """One row per arm and metric: model, temperature, n_seeds, metric, class_name, first, second, mean, low, high,
    se_seeds, se_rows.

    metric    'accuracy'; 'disagreement', the share of rows on which a student and its own teacher differ (of an NDS the
              teacher of its seed); with `sensitive` 'dpd', 'tpr_difference' and 'fpr_difference': group `first` minus
              group `second` for the class `class_name` (of two classes the second), -1 .. 1, 0: alike
    low, high for models of other seeds on other test images; se_seeds and se_rows: the larger one dominates
    against   None: the arms themselves. 'nds' or 'teacher': the distilled students minus the NDS, an independent arm,
              or minus their own teachers, run by run. A disparity is smaller if it is nearer 0, not if it is lower.
              Disagreement is against 'nds' alone: both with the same teacher, mean over all NDS
    A rate of fewer than two rows is left out; a KdlibWarning names it, and arms in which students share a teacher.
    Raises and warns of seeds as `arms.by_arm`, of groups as `group_counts.group_codes`; UndefinedMetric for one group,
    InvalidInput for a student without its teacher.
    """
    contrasts = list(_contrasts(predictions, sensitive))
    together = Counter(metric for (metric, *_), _, _ in contrasts)
    rows = []
    for arm, others in _compared(predictions.runs, against):
        for name, sources_of, cells in contrasts:
            if sources := sources_of(arm.rows, others, against):
                each = 1 - LEVEL / together[name[0]]
                found = joint_interval(sources, cells, difference=against is not None, coverage=each)
                rows.append((arm.model, arm.temperature, len(arm.rows), *name, *found))
    return pd.DataFrame(rows, columns=["model", "temperature", "n_seeds", *NAME, *Joint._fields])


def _compared(runs: pd.DataFrame, against: str | None) -> list[tuple[Arm, np.ndarray]]:
    """The arms, and the runs beside each: its own teachers (-1: none), or all NDS."""
    require_known("against", against, (None, "nds", "teacher"), place="joint_intervals")
    if against == "nds":
        nds, found = nds_and_students(runs)
        others = [nds.rows] * len(found)
    else:
        found = [arm for arm in arm_rows(runs) if against is None or arm.model == "ds"]
        others = [own_teachers(runs)[arm.rows] for arm in found]
        check_seeds({arm.name: len(arm.rows) for arm in found})
    if against == "teacher" and (not found or np.concatenate(others).min() < 0):
        raise InvalidInput("not every distilled student has its teacher among the runs (teacher_id): train or drop it.")
    shared = [arm.name for arm in found if runs["teacher_id"].iloc[arm.rows].dropna().duplicated().any()]
    if shared:
        text = f"students share a teacher in {', '.join(shared)}: the intervals say nothing about other teachers."
        caution(text)
    return list(zip(found, others, strict=True))


def _contrasts(p: Predictions, sensitive: str | None) -> Iterator[tuple]:
    """(name, sources, cells): accuracy, disagreement; then DPD, TPR, FPR of each scored class and pair of groups."""
    everything = [(np.arange(len(p.labels)), 1)]
    yield ("accuracy", "", "", ""), partial(_sources, p.correct), everything
    yield ("disagreement", "", "", ""), partial(_disagreements, p.predicted, own_teachers(p.runs)), everything
    if sensitive is None:
        return
    codes, groups = group_codes(p, sensitive)
    if len(groups) < 2:
        raise UndefinedMetric(f"{sensitive} has one group, {groups[0]!r}: a difference needs two.")
    for k, pair in product(range(1 if p.n_classes == 2 else 0, p.n_classes), combinations(range(len(groups)), 2)):
        positive = p.labels == k
        for metric, within in (("dpd", True), ("tpr_difference", positive), ("fpr_difference", ~positive)):
            name = metric, p.class_names[k], *(groups[g] for g in pair)
            cells = [(np.flatnonzero((codes == g) & within), sign) for g, sign in zip(pair, (1, -1), strict=True)]
            if min(len(rows) for rows, _ in cells) < 2:
                text = "{} of class {!r}, groups {!r} and {!r}, is left out: a rate needs two rows.".format(*name)
                caution(text, stacklevel=4)
            else:
                yield name, partial(_sources, p.predicted == k), cells


def _sources(has: np.ndarray, rows: np.ndarray, others: np.ndarray, against: str | None) -> list[np.ndarray]:
    """Whether each run has it in each row (R, N), as `joint_interval` wants it."""
    own = has[rows].astype(float)
    if against is None:
        return [own]
    return [own - has[others]] if against == "teacher" else [own, -has[others].astype(float)]


def _disagreements(
    predicted: np.ndarray, teachers: np.ndarray, rows: np.ndarray, others: np.ndarray, against: str | None
) -> list[np.ndarray]:
    """With the own teachers, nothing without them; less the mean over NDS, which are a source with mean 0 besides."""
    if against == "teacher" or (teachers[rows] < 0).any():
        return []
    apart = (predicted[rows] != predicted[teachers[rows]]).astype(float)
    if against is None:
        return [apart]
    of_nds = np.array([[predicted[other] != predicted[teacher] for other in others] for teacher in teachers[rows]])
    by_nds = of_nds.mean(axis=0)
    return [apart - of_nds.mean(axis=1), by_nds.mean(axis=0) - by_nds]
