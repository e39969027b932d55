"""Individuals: which samples an arm decides otherwise than the baseline, and how sure it is of itself by group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from kdlib.auditing.compared import Compared, Pair
from kdlib.measure.fidelity import agreement, calibration_error, confidences
from kdlib.measure.group_counts import Cells
from kdlib.measure.joint_intervals import joint_interval
from kdlib.predictions import Predictions

SHOWN = 50  # samples of each arm


def changes(pair: Pair) -> list[dict[str, object]]:
    """disagreement (churn), negative_flips (right in the baseline, wrong in the arm), positive_flips; shares, 0 .. 1.

    The mean over pairs of a run of each arm (each with its own parent where that is known), with joint intervals. Of
    the baseline by itself: disagreement, what a new seed alone changes (NaN for a single run).
    """
    predicted, right = pair.predicted, pair.correct
    if not pair.n_base:
        apart = [1 - agreement(a, b) for a, b in combinations(predicted, 2)]
        return [{"arm": pair.name, "metric": "disagreement", "mean": np.mean(apart) if apart else np.nan}]
    events = {
        "disagreement": lambda a, b: predicted[a] != predicted[b],
        "negative_flips": lambda a, b: right[b] & ~right[a],
        "positive_flips": lambda a, b: right[a] & ~right[b],
    }
    return [{"arm": pair.name, "metric": name, **_share(pair, event)} for name, event in events.items()]


def _share(pair: Pair, event: Callable[[int, int], np.ndarray]) -> dict[str, float]:
    """Means over the baseline's runs are one source; what each of them deviates, with mean 0, is another."""
    arm, base = range(pair.n_base, len(pair.runs)), range(pair.n_base)
    if pair.parents is not None:
        sources = [np.array([event(a, b) for a, b in zip(arm, pair.parents, strict=True)], float)]
    else:
        of_arm, of_base = (np.zeros((len(runs), len(pair.labels))) for runs in (arm, base))
        for i, a in enumerate(arm):
            for j, b in enumerate(base):
                found = event(a, b)
                of_arm[i] += found / len(base)
                of_base[j] += found / len(arm)
        sources = [of_arm, of_base - of_base.mean(axis=0)]
    found = joint_interval(sources, [(np.arange(len(pair.labels)), 1)], difference=False)
    return {"mean": found.mean, "low": found.low, "high": found.high}


def n_lost(pair: Pair) -> int:
    """How many samples are lost in more than half of all pairs of runs; `samples` has at most SHOWN of them."""
    was, now = _right(pair)
    return int((was * (1 - now) > 0.5).sum())


def _right(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """(N,) share of the runs that are right, of the baseline and of the arm."""
    return pair.correct[: pair.n_base].mean(axis=0), pair.correct[pair.n_base :].mean(axis=0)


def samples(pair: Pair, p: Predictions) -> pd.DataFrame:
    """The samples that most runs of the baseline get right and most runs of the arm get wrong, the surest first.

    arm, sample_id, label, baseline, prediction (most frequent), baseline_right, arm_right (shares of the runs), lost
    (their product, baseline right and arm wrong), and the groups. Samples that are lost in at most half are left out.
    """
    parts = slice(None, pair.n_base), slice(pair.n_base, None)
    (was, now), names = _right(pair), np.array(p.class_names, object)
    lost = was * (1 - now)
    rows = np.flatnonzero(lost > 0.5)
    rows = rows[np.lexsort([p.sample_ids[rows], -lost[rows]])][:SHOWN]
    usual = [[names[np.bincount(votes).argmax()] for votes in pair.predicted[part][:, rows].T] for part in parts]
    found = {"arm": pair.name, "sample_id": p.sample_ids[rows], "label": names[p.labels[rows]]}
    found |= {"baseline": usual[0], "prediction": usual[1]}
    found |= {"baseline_right": was[rows], "arm_right": now[rows], "lost": lost[rows]}
    return pd.DataFrame(found | {f"group {name}": values[rows] for name, values in p.groups.items()})


def calibration(compared: Compared, given: Predictions, features: Mapping[str, Cells]) -> pd.DataFrame:
    """One row per arm and group: arm, sensitive ('' for all), group, n, accuracy, confidence, overconfidence, ece.

    given: the predictions with probabilities, of which `compared` has no more than the classes; without any, no row.
    Means over runs; overconfidence is confidence less accuracy, 0 for a calibrated model; ece as in
    fidelity.calibration_error, which is larger in small groups by chance alone.
    """
    rows, parts = [], [("", "all", slice(None))]
    for name, cells in features.items():
        parts += [(name, group, np.flatnonzero(cells.codes == g)) for g, group in enumerate(cells.groups)]
    sure = confidences(given)
    sure_of = {} if sure is None else dict(zip(given.runs["run_id"], sure, strict=True))
    for arm in compared.arms.index if sure_of else ():
        mine = compared.rows(arm)
        confidence = np.stack([sure_of[run] for run in compared.predictions.runs["run_id"].iloc[mine]])
        for name, group, part in parts:
            right, sure = compared.predictions.correct[mine][:, part], confidence[:, part].astype(float)
            ece = np.mean([calibration_error(*run) for run in zip(sure, right, strict=True)])
            row = {"arm": arm, "sensitive": name, "group": group, "n": right.shape[1], "accuracy": right.mean()}
            rows.append(row | {"confidence": sure.mean(), "overconfidence": sure.mean() - right.mean(), "ece": ece})
    return pd.DataFrame(rows)
