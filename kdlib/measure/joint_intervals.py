"""Intervals about a model: new seeds and new test images. A t-interval over seeds speaks of these test images alone.

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
from kdlib.measure.stats import LEVEL
from kdlib.predictions import Predictions

NAME = ["metric", "class_name", "first", "second"]


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
    by_run = [sum(sign * values[:, rows].mean(axis=1) for rows, sign in cells) for values in sources]
    by_row = sum(values.mean(axis=0) for values in sources)
    in_cells = [by_row[rows] if difference else np.r_[by_row[rows], 0, 1] for rows, _ in cells]
    seeds = [(runs.var(ddof=1) / len(runs), len(runs) - 1) for runs in by_run]
    rows = [(x.var(ddof=1) / len(x), len(x) - 1) for x in in_cells]
    both = [_interaction(values[:, rows]) for values in sources for rows, _ in cells]
    of_seeds, of_rows, twice = (sum(variance for variance, _ in parts) for parts in (seeds, rows, both))
    variance = max(of_seeds + of_rows - twice, of_seeds, of_rows)
    center, half = sum(sign * x.mean() for x, (_, sign) in zip(in_cells, cells, strict=True)), np.nan
    if variance > 0:
        df = variance**2 / sum(part**2 / n for part, n in (*seeds, *rows, *both))
        half = special.stdtrit(df, (1 + coverage) / 2) * np.sqrt(variance)
    least = -1 - difference if len(cells) > 1 or difference else 0
    low, high = np.clip([center - half, center + half], least, 1 + difference)
    return Joint(*(float(x) for x in (sum(runs.mean() for runs in by_run), low, high, of_seeds**0.5, of_rows**0.5)))


def _interaction(values: np.ndarray) -> tuple[float, int]:
    """The variance that seeds and rows both contain, of values (R, n), and its degrees of freedom."""
    centered = values - values.mean(axis=0)
    rest = (centered**2).sum() - values.shape[1] * (centered.mean(axis=1) ** 2).sum()
    df = (values.shape[0] - 1) * (values.shape[1] - 1)
    return rest / df / values.size, df


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
