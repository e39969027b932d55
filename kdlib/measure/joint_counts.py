"""The joint intervals of `joint_intervals`, of many cells at once and for a single run too, from counts alone.

Which rows two runs have in common is all that a joint interval needs of them, so a table is counted once for every pair
of runs, whatever the number of groups and classes. With one run in each arm the interval speaks of other test rows and
of these very runs: how much another seed would change is then unknown, and nothing stands in for it. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from kdlib.measure.stats import shrink_variances


class Moments(NamedTuple):
    """Values of R runs in cells of rows, (...) cells: rows (...), sums (..., R), products of pairs (..., R, R)."""

    rows: np.ndarray
    sums: np.ndarray
    products: np.ndarray

    @classmethod
    def of_events(cls, rows: np.ndarray, products: np.ndarray) -> Moments:
        """Of values 0 and 1: products count the rows that two runs both have."""
        return cls(rows, np.diagonal(products, axis1=-2, axis2=-1), products)


class Intervals(NamedTuple):
    """Each (..., J): value (NaN without rows), low, high; center, se and df of Student's t behind them."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    center: np.ndarray
    se: np.ndarray
    df: np.ndarray


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
    The variance is that of joint_intervals.joint_interval; sets of a single run add nothing for seeds.
    """
    rows, some, padded = of.rows, np.maximum(of.rows, 1), of.rows + 2
    together = sum(source.mean(axis=0) for source in sources)
    total = of.sums @ together
    square = (of.products @ together) @ together + 1
    middle = (total + (not change)) / padded
    of_rows = (square - padded * middle**2) / (padded - 1) / padded
    parts, seeds, twice = [_squared(weights, of_rows, padded - 1)], 0.0, 0.0
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
    df, se, center = variance**2 / sum(parts), np.sqrt(variance), middle @ weights.T
    half = special.stdtrit(df, (1 + np.asarray(coverage)) / 2) * se
    least, most = weights.clip(max=0).sum(axis=1), weights.clip(min=0).sum(axis=1)
    if change:
        least, most = least - most, most - least
    value = np.where((rows == 0) @ (weights != 0).T, np.nan, (total / some) @ weights.T)
    return Intervals(value, np.clip(center - half, least, most), np.clip(center + half, least, most), center, se, df)


def _squared(weights: np.ndarray, variance: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Satterthwaite's terms of independent cells."""
    return (variance**2 / df) @ (weights**4).T
