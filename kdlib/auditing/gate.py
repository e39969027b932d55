"""The gate: a limit on a metric is kept, broken, or undecided, so that a pipeline can stop on an audit.

Kept when the interval's upper bound is within the limit, broken when its lower bound is beyond it, undecided between:
with less data an interval is wider, so a limit is never kept for lack of it. What is undefined is never kept.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdlib.errors import InvalidInput, unknown

OF_MODELS = ("accuracy_drop", "class_drop", "disagreement", "negative_flips")
OF_GROUPS = ("eod", "dpd", "tpr_difference", "fpr_difference", "group_drop")
FAILED, UNDECIDED = 1, 3  # exit status


class Limit(NamedTuple):
    text: str
    metric: str
    most: float


def parse(text: str, *, grouped: bool) -> Limit:
    """'eod>0.05'. grouped: whether a sensitive feature is named. Raises InvalidInput for anything else."""
    match = re.fullmatch(r"\s*(\w+)\s*>\s*(\d*\.?\d+(?:[eE]-?\d+)?)\s*", text)
    if not match:
        raise InvalidInput(f"limit {text!r} is no metric>number, such as eod>0.05.")
    metric, most = match[1], float(match[2])
    if metric not in (*OF_MODELS, *OF_GROUPS):
        raise unknown("metric", metric, (*OF_MODELS, *OF_GROUPS), place=f"limit {text!r}")
    if not 0 <= most < 1:
        raise InvalidInput(f"limit {text!r}: limits are fractions, 0 or more and below 1; 0.05 are five points.")
    if metric in OF_GROUPS and not grouped:
        raise InvalidInput(f"limit {text!r} is about groups: name a sensitive feature (--sensitive COLUMN).")
    return Limit(text.strip(), metric, most)


def check(limits: list[Limit], metrics: pd.DataFrame, *, arms: list[str]) -> pd.DataFrame:
    """One row per limit, arm of `arms` and feature: limit, arm, sensitive, mean, low, high, where, outcome.

    outcome: 'kept', 'broken' or 'undecided'.
    """
    frames = []
    for limit in limits:
        rows = metrics[(metrics["metric"] == limit.metric) & metrics["arm"].isin(arms)]
        known = rows[["mean", "low", "high"]].notna().all(axis=1)
        outcomes = [known & (rows["low"] > limit.most), known & (rows["high"] <= limit.most)]
        frames.append(rows.assign(limit=limit.text, outcome=np.select(outcomes, ["broken", "kept"], "undecided")))
    columns = ["limit", "arm", "sensitive", "mean", "low", "high", "where", "outcome"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame()


def told(checked: pd.DataFrame) -> list[str]:
    """One line for each row of `check`, in fractions as limits are."""
    form = "{limit}: {outcome} by {of}: {mean:.4f} [{low:.4f}, {high:.4f}]"
    rows = checked.assign(
        of=[", ".join(filter(None, names)) for names in checked[["arm", "sensitive", "where"]].values]
    )
    return [form.format(**row) for row in rows.to_dict("records")]


def status(checked: pd.DataFrame, *, undecided_passes: bool) -> int:
    """Exit status of all limits together: 0 kept, 1 one is broken, 3 one is undecided (0 if that is to pass)."""
    outcomes = set(checked["outcome"])
    if "broken" in outcomes:
        return FAILED
    return UNDECIDED if "undecided" in outcomes and not undecided_passes else 0
