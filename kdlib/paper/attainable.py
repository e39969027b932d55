"""Which DPD an accuracy and an EOD leave possible on a test set whose label counts by group are known. No torch."""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdlib.errors import InvalidInput, UndefinedMetric
from kdlib.paper.stand_in import STATED, all_reported


class LabelCounts(NamedTuple):
    """Label counts of a test set: positives and negatives of the group that the feature names, and of all others."""

    dataset: str
    label: str
    sensitive: str
    split: str
    positives: list[int]
    negatives: list[int]


LABEL_COUNTS = tuple(LabelCounts(*counts) for counts in STATED["label_counts"])


@lru_cache(maxsize=32)
def ranges(artefact: str) -> pd.DataFrame:
    """Which DPD the paper's own accuracy and EOD leave possible on the official test or validation split.

    One row per reported arm and split whose label counts are known: dataset, label, sensitive, split, model,
    temperature, accuracy, eod, dpd (as reported), label_dpd (a perfect classifier's), lowest, highest (attainable),
    inside (whether the reported DPD is possible, half a unit of the last digit allowed). Fractions. Empty where no
    counts are known. NaN where no classifier at all has that accuracy and EOD.
    """
    of = ["dataset", "label", "sensitive"]
    rows = _reported_arms(artefact).merge(pd.DataFrame(LABEL_COUNTS), on=of)
    limits = ["label_dpd", "lowest", "highest"]
    rows[limits] = pd.DataFrame(map(_limits, rows.itertuples()), columns=limits, dtype=float)
    rows["inside"] = rows["dpd"].between(rows["lowest"] - 5e-5, rows["highest"] + 5e-5)
    return rows[[*of, "split", "model", "temperature", "accuracy", "eod", "dpd", *limits, "inside"]]


def _reported_arms(artefact: str) -> pd.DataFrame:
    """One row per arm and sensitive feature: accuracy, eod, dpd, fractions. An accuracy without feature is of each."""
    table = all_reported()
    table = table[[artefact in names for names in table["artefact"].str.split("+")]]
    keys = ["dataset", "label", "model", "temperature"]
    metrics = ["accuracy", "eod", "dpd"]
    by_group, index = table[table["sensitive"].notna()], [*keys, "sensitive"]
    wide = by_group.pivot_table(index=index, columns="metric", values="mean", dropna=False).reindex(columns=metrics)
    alone = table[table["sensitive"].isna() & (table["metric"] == "accuracy")]
    wide = wide.reset_index().merge(alone[[*keys, "mean"]], on=keys, how="left")
    wide["accuracy"] = wide["accuracy"].fillna(wide.pop("mean"))
    return wide.assign(**wide[metrics] / 100).dropna(subset=metrics)


def _limits(arm) -> tuple[float, float, float]:
    """The DPD of a perfect classifier, and `attainable_dpd` of an arm and the label counts of a split, if there are."""
    positives, negatives = np.array(arm.positives), np.array(arm.negatives)
    label_dpd = np.ptp(positives / (positives + negatives))
    try:
        return label_dpd, *attainable_dpd(positives, negatives, accuracy=arm.accuracy, eod=arm.eod)
    except InvalidInput:
        return label_dpd, np.nan, np.nan


def attainable_dpd(positives, negatives, *, accuracy: float, eod: float) -> tuple[float, float]:
    """(lowest, highest) DPD of any two-class classifier with this accuracy and EOD on these groups.

    positives, negatives: (G,) label counts of each group. accuracy, eod: fractions 0 .. 1.
    A linear programme over the groups' TPR and FPR: accuracy fixes one weighted sum of them, EOD bounds their
    differences, DPD is a difference of selection rates. EOD must be reached, not only kept: where an optimum stays
    below it, every pair of groups that could reach it is tried.
    A reported triple whose DPD lies outside cannot come from this split; mind the rounding of what was reported.
    Raises InvalidInput if no classifier has that accuracy and EOD on these groups.
    """
    positives, negatives = _label_counts(positives, negatives)
    for name, value in (("accuracy", accuracy), ("eod", eod)):
        if not 0 <= value <= 1:
            raise InvalidInput(f"{name} is {value!r}; it is a fraction, 0 .. 1.")
    size, pairs = positives + negatives, list(permutations(range(len(positives)), 2))
    selected = np.hstack([np.diag(positives / size), np.diag(negatives / size)])  # (G, 2G) times (TPR, FPR)
    gaps = np.array([np.append(selected[i] - selected[j], 0.0) for i, j in pairs])
    bound = np.eye(2 * len(size) + 1)[-1]
    low, *negated = (_smallest(cost, positives, negatives, accuracy, eod, gaps - bound) for cost in (bound, *-gaps))
    high = -min(negated)
    if not np.isfinite(low):
        raise InvalidInput(
            f"no classifier has accuracy {accuracy} and EOD {eod} on groups with {positives.tolist()} "
            f"positives and {negatives.tolist()} negatives. Check that both are fractions."
        )
    return float(max(low, 0.0)), float(high)


def _label_counts(positives, negatives) -> tuple[np.ndarray, np.ndarray]:
    positives, negatives = np.asarray(positives, float), np.asarray(negatives, float)
    if positives.ndim != 1 or positives.shape != negatives.shape or len(positives) < 2:
        raise InvalidInput(
            f"positives {positives.shape} and negatives {negatives.shape}: one count each for two groups or more."
        )
    if not (min(positives.min(), negatives.min()) > 0 and np.isfinite(positives + negatives).all()):
        raise UndefinedMetric(
            f"positives {positives.tolist()}, negatives {negatives.tolist()}: each group needs both, "
            "or EOD is undefined."
        )
    return positives, negatives


def _smallest(cost, positives, negatives, accuracy: float, eod: float, dpd_below: np.ndarray) -> float:
    """Smallest cost over x = (TPR of G groups, FPR of G groups, DPD bound), EOD reached; infinite if infeasible."""
    from scipy.optimize import linprog

    n_groups, total = len(positives), (positives + negatives).sum()
    unit = np.eye(2 * n_groups + 1)
    pairs = permutations(range(n_groups), 2)
    eod_below = np.array([unit[i + rate] - unit[j + rate] for i, j in pairs for rate in (0, n_groups)])
    right = np.concatenate([positives, -negatives, [0.0]]) / total
    limits = np.concatenate([np.zeros(len(dpd_below)), np.full(len(eod_below), eod)])

    def solve(*reached: np.ndarray):
        return linprog(
            cost,
            A_ub=np.vstack([dpd_below, eod_below]),
            b_ub=limits,
            A_eq=np.vstack([right, *reached]),
            b_eq=[accuracy - negatives.sum() / total, *[eod] * len(reached)],
            bounds=(0, 1),
            method="highs",
        )

    free = solve()
    if free.status != 0:
        return np.inf
    if (eod_below @ free.x).max() >= eod - 1e-7:
        return free.fun
    return min((found.fun for found in map(solve, eod_below) if found.status == 0), default=np.inf)
