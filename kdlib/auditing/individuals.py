"""Individuals: which samples an arm decides otherwise than the baseline, and how sure it is of itself by group."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from kdlib.auditing.compared import Compared, Pair
from kdlib.measure.fidelity import agreement, calibration_error
from kdlib.measure.group_counts import Cells
from kdlib.measure.joint_counts import Moments, intervals
from kdlib.predictions import Predictions

SHOWN = 50  # samples of each arm


def changes(pair: Pair) -> list[dict[str, object]]:
    """disagreement (churn), negative_flips (right in the baseline, wrong in the arm), positive_flips; shares, 0 .. 1.

    The mean over pairs of a run of each arm (each with its own parent where that is known), with joint intervals.
    """
    predicted, right = pair.predicted, pair.correct
    events = {
        "disagreement": lambda a, b: predicted[a] != predicted[b],
        "negative_flips": lambda a, b: right[b] & ~right[a],
        "positive_flips": lambda a, b: right[a] & ~right[b],
    }
    return [{"arm": pair.name, "metric": name, **_share(pair, event)} for name, event in events.items()]


def _share(pair: Pair, event) -> dict[str, float]:
    """Means over the baseline's runs are one source; what each of them deviates, with mean 0, is another."""
    arm, base = range(pair.n_base, len(pair.runs)), range(pair.n_base)
    if pair.parents is not None:
        values = np.array([event(a, b) for a, b in zip(arm, pair.parents, strict=True)], float)
        split = [len(values)]
    else:
        of_arm, of_base = (np.zeros((len(runs), len(pair.labels))) for runs in (arm, base))
        for i, a in enumerate(arm):
            for j, b in enumerate(base):
                found = event(a, b)
                of_arm[i] += found / len(base)
                of_base[j] += found / len(arm)
        values, split = np.concatenate([of_arm, of_base - of_base.mean(axis=0)]), [len(arm), len(base)]
    unit = np.split(np.eye(len(values)), np.cumsum(split)[:-1])
    of = Moments(np.array([values.shape[1]]), values.sum(axis=1)[None], (values @ values.T)[None])
    found = intervals(of, unit, np.ones((1, 1)), change=False)
    return {"mean": found.value[0], "low": found.low[0], "high": found.high[0]}


def among_seeds(arm: Pair) -> float:
    """Mean disagreement of two runs of one arm: what a new seed alone changes. NaN for a single run."""
    apart = [1 - agreement(a, b) for a, b in combinations(arm.predicted, 2)]
    return float(np.mean(apart)) if apart else np.nan


def samples(pair: Pair, p: Predictions) -> pd.DataFrame:
    """The samples that most runs of the baseline get right and most runs of the arm get wrong, the surest first.

    arm, sample_id, label, baseline, prediction (most frequent), baseline_right, arm_right (shares of the runs), lost
    (their product, baseline right and arm wrong), and the groups. Samples that are lost in at most half are left out.
    """
    n = pair.n_base
    was, now = pair.correct[:n].mean(axis=0), pair.correct[n:].mean(axis=0)
    lost = was * (1 - now)
    rows = np.flatnonzero(lost > 0.5)
    rows = rows[np.lexsort([p.sample_ids[rows], -lost[rows]])][:SHOWN]
    names = np.array(p.class_names, object)
    usual = [names[_modes(part[:, rows], p.n_classes)] for part in (pair.predicted[:n], pair.predicted[n:])]
    found = {"arm": pair.name, "sample_id": p.sample_ids[rows], "label": names[p.labels[rows]]}
    found |= {"baseline": usual[0], "prediction": usual[1]}
    found |= {"baseline_right": was[rows], "arm_right": now[rows], "lost": lost[rows]}
    return pd.DataFrame(found | {f"group {name}": values[rows] for name, values in p.groups.items()})


def _modes(predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """The most frequent class of each sample (R, n)."""
    return np.array([np.bincount(column, minlength=n_classes).argmax() for column in predicted.T], int)


def calibration(compared: Compared, confidence: np.ndarray | None, features: Mapping[str, Cells]) -> pd.DataFrame:
    """One row per arm and group: arm, sensitive ('' for all), group, n, accuracy, confidence, overconfidence, ece.

    Means over runs; overconfidence is confidence less accuracy, 0 for a calibrated model; ece as in
    fidelity.calibration_error, which is larger in small groups by chance alone.
    """
    if confidence is None:
        return pd.DataFrame()
    p, rows = compared.predictions, []
    parts = [("", "all", slice(None))]
    for name, cells in features.items():
        parts += [(name, group, np.flatnonzero(cells.codes == g)) for g, group in enumerate(cells.groups)]
    for arm in compared.arms.index:
        of_arm = compared.rows(arm)
        for name, group, part in parts:
            right, sure = p.correct[of_arm][:, part], confidence[of_arm][:, part].astype(float)
            ece = np.mean([calibration_error(*run) for run in zip(sure, right, strict=True)])
            about = {"arm": arm, "sensitive": name, "group": group, "n": right.shape[1]}
            about |= {"accuracy": right.mean(), "confidence": sure.mean()}
            rows.append(about | {"overconfidence": sure.mean() - right.mean(), "ece": ece})
    return pd.DataFrame(rows)
