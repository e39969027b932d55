"""What an audit compares: the arms of anyone's table, and each of them beside the baseline.

An arm is the runs of one model under one condition: a temperature, a sparsity, any numeric column of the runs that
varies within a model and is shared by several runs. Its name is the model's, with the conditions that vary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from kdlib.errors import InvalidInput, unknown
from kdlib.measure.class_counts import CountedArm, counted_arms
from kdlib.predictions import Predictions

SHORT = {"temperature": "T"}


@dataclass(frozen=True, eq=False)
class Pair:
    """An arm beside the baseline, whose runs stand first; n_base is 0 for the baseline by itself.

    runs (R rows), predicted (R, N), correct (R, N) bool, labels (N,); base, arm: what is right by class
    """

    name: str
    n_base: int
    runs: pd.DataFrame
    predicted: np.ndarray
    correct: np.ndarray
    labels: np.ndarray
    base: CountedArm
    arm: CountedArm

    @cached_property
    def parents(self) -> np.ndarray | None:
        """The baseline's run that each run of the arm was made from (teacher_id); None unless all of them have one."""
        ids, wanted = self.runs["run_id"][: self.n_base], self.runs["teacher_id"][self.n_base :]
        found = pd.Index(ids).get_indexer(wanted)
        return found if (found >= 0).all() else None

    @property
    def own(self) -> list[np.ndarray]:
        """The arm alone, as `joint_intervals.intervals` wants its sources."""
        return [np.eye(len(self.runs))[self.n_base :]]

    @property
    def change(self) -> list[np.ndarray]:
        """The arm minus the baseline: run by run where each has its parent there, else two independent arms."""
        unit = np.eye(len(self.runs))
        if self.parents is not None:
            return [unit[self.n_base :] - unit[self.parents]]
        return [unit[self.n_base :], -unit[: self.n_base]]


@dataclass(frozen=True, eq=False)
class Compared:
    """The table under audit. predictions: `model` is the arm's name and temperature is NaN, one run a seed and arm.

    arms    one row per arm, indexed by its name, the baseline first: model, n_runs, teaches (its runs are teachers of
            others; such an arm stands last, is shown and not judged), one_teacher (of all its runs), and a column per
            condition
    copies  runs that predict the same class for every sample as another, in words
    """

    predictions: Predictions
    arms: pd.DataFrame
    conditions: list[str]
    copies: list[str]

    @property
    def judged(self) -> list[str]:
        """The arms that the answer and the limits are about: not a teacher beside its students."""
        others = self.arms.iloc[1:]
        return [*others.index[~others["teaches"]]] or [*others.index]

    @property
    def runs(self) -> pd.DataFrame:
        """run_id, arm and seed of every run."""
        return self.predictions.runs[["run_id", "model", "seed"]].rename(columns={"model": "arm"})

    def __iter__(self) -> Iterator[Pair]:
        """The baseline alone, then every arm beside it."""
        p, (baseline, *others) = self.predictions, self.arms.index
        counted = {arm.name: arm for arm in counted_arms(p)}
        for name in (baseline, *others):
            base = self.rows(baseline) if name != baseline else np.array([], int)
            rows = np.r_[base, self.rows(name)]
            runs, decided = p.runs.iloc[rows].reset_index(drop=True), (p.predicted[rows], p.correct[rows], p.labels)
            yield Pair(name, len(base), runs, *decided, counted[baseline], counted[name])

    def rows(self, name: str) -> np.ndarray:
        """Where the runs of an arm stand."""
        return np.flatnonzero(self.predictions.runs["model"] == name)


def compared(predictions: Predictions, baseline: str | None) -> Compared:
    """The arms beside the baseline, a model or an arm by name (None: the model called nds).

    A run that predicts the same class for every sample as another of its arm counts once. Raises InvalidInput for a
    baseline that is missing or has several arms, nothing to compare, and a seed twice in one arm.
    """
    conditions = _conditions(predictions.runs)
    names = _names(predictions.runs, conditions)
    runs = predictions.runs.assign(arm=names, first=predictions.runs.groupby("model", sort=False).ngroup())
    twice = runs[runs.duplicated(["arm", "seed"])]
    if len(twice):
        raise InvalidInput(
            f"{twice['arm'].iloc[0]} has seed {twice['seed'].iloc[0]} twice: one run for each seed. Give each its own "
            "seed, or a numeric column that tells them apart."
        )
    keep, copies = _without_copies(predictions, names)
    by_arm = runs.iloc[keep].sort_values(["first", *conditions], kind="stable").groupby("arm", sort=False)
    arms = by_arm[["model", *conditions]].first().assign(n_runs=by_arm.size())
    arms["teaches"] = by_arm["run_id"].agg(lambda ids: ids.isin(runs["teacher_id"]).any())
    arms["one_teacher"] = by_arm["teacher_id"].agg(lambda ids: ids.notna().all() and len(ids) > 1 == ids.nunique())
    chosen = _baseline(arms, baseline)
    arms = arms.loc[[chosen, *arms.drop(chosen).sort_values("teaches", kind="stable").index]]
    kept = predictions.runs.iloc[keep].assign(model=names[keep], temperature=np.nan)
    decisions = {"predicted": predictions.predicted[keep], "probabilities": None, "confidence": None}
    relabelled = replace(predictions, runs=kept, **decisions, twins={}, features=None)
    return Compared(relabelled, arms, conditions, copies)


def _conditions(runs: pd.DataFrame) -> list[str]:
    """Numeric columns that vary within a model and whose values several runs share; others only to part equal seeds."""
    by_model, numeric = runs.groupby("model"), runs.select_dtypes("number").columns.drop("seed")
    values = by_model[[*numeric]].nunique()
    shared = (values > 1) & (2 * values).le(by_model.size(), axis=0)
    found = [*numeric[shared.any()]]
    for column in numeric[(values > 1).any()].difference(found, sort=False):
        found += [column] if runs.duplicated(["model", *found, "seed"]).any() else []
    return found


def _names(runs: pd.DataFrame, conditions: list[str]) -> np.ndarray:
    varies = runs.groupby("model")[conditions].transform("nunique") > 1
    names = [
        " ".join([str(run["model"]), *(f"{SHORT.get(c, c)}={run[c]:g}" for c in conditions if varies.at[i, c])])
        for i, run in runs.iterrows()
    ]
    return np.array(names, object)


def _baseline(arms: pd.DataFrame, wanted: str | None) -> str:
    if len(arms) < 2:
        raise InvalidInput(f"there is {', '.join(arms.index)} alone: an audit compares two models or more.")
    if wanted is None and "nds" not in set(arms["model"]):
        raise InvalidInput(f"which model is the baseline? Name it (--baseline): {', '.join(arms.index)}.")
    wanted = "nds" if wanted is None else wanted
    found = arms.index[(arms["model"] == wanted) | (arms.index == wanted)]
    if not len(found):
        raise unknown("baseline", wanted, [*arms.index], place="the table")
    if len(found) > 1:
        raise InvalidInput(f"the baseline {wanted!r} has several arms: {', '.join(found)}. Name one of them.")
    return found[0]


def _without_copies(predictions: Predictions, names: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The runs to keep, and what to say of copies. Runs without an error are bound to agree and are no copies."""
    keep, told = np.ones(len(names), bool), []
    own = {row: first for arm in pd.unique(names) for first, row in predictions.repeats(np.flatnonzero(names == arm))}
    for first, row in predictions.repeats(range(len(names))):
        first = own.get(row, first)  # a copy of its own arm's, though another arm has the same before
        if not predictions.correct[row].all():
            ids = " and ".join(f"{names[i]} seed {predictions.runs['seed'].iloc[i]}" for i in (first, row))
            once = ", and count as one run" if names[first] == names[row] else ""
            keep[row] = not once
            told.append(f"{ids} predict the same class for every sample{once}.")
    return np.flatnonzero(keep), told
