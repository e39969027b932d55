"""What an audit compares: the arms of anyone's table, and each of them beside the baseline.

An arm is the runs of one model under one condition: a temperature, a sparsity, any numeric column of the runs that
varies within a model and is shared by several runs. Its name is the model's, with the conditions that vary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from kdlib.errors import InvalidInput, unknown
from kdlib.measure.arms import ENOUGH_SEEDS
from kdlib.measure.class_counts import CountedArm, counted_arms
from kdlib.predictions import Predictions, named_collapsed

SHORT = {"temperature": "T"}


@dataclass(frozen=True, eq=False)
class Pair:
    """An arm beside the baseline, whose runs stand first; n_base is 0 for the baseline by itself.

    runs (R rows), predicted (R, N), correct (R, N) bool, labels (N,); counted: what is right by class, of every arm
    """

    name: str
    baseline: str
    n_base: int
    runs: pd.DataFrame
    predicted: np.ndarray
    correct: np.ndarray
    labels: np.ndarray
    counted: Mapping[str, CountedArm]

    @property
    def seeds_known(self) -> bool:
        """Whether both arms have two runs or more."""
        return min(self.n_base, len(self.runs) - self.n_base) > 1

    @cached_property
    def parents(self) -> np.ndarray | None:
        """The baseline's run that each run of the arm was made from (teacher_id); None unless all of them have one."""
        ids, wanted = self.runs["run_id"][: self.n_base], self.runs["teacher_id"][self.n_base :]
        found = pd.Index(ids).get_indexer(wanted)
        return found if (found >= 0).all() else None

    @property
    def own(self) -> list[np.ndarray]:
        """The arm alone, as `joint_counts.intervals` wants its sources."""
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

    arms  one row per arm, indexed by its name, the baseline first: model, n_runs, teaches (its runs are teachers of
          others; such an arm stands last, is shown and not judged), and a column per condition
    """

    predictions: Predictions
    arms: pd.DataFrame
    conditions: list[str]
    warnings: list[str]

    @property
    def baseline(self) -> str:
        return self.arms.index[0]

    @property
    def others(self) -> list[str]:
        return list(self.arms.index[1:])

    @property
    def judged(self) -> list[str]:
        """The arms that the answer and the limits are about: not a teacher beside its students."""
        students = [name for name in self.others if not self.arms.loc[name, "teaches"]]
        return students or self.others

    @cached_property
    def counted(self) -> dict[str, CountedArm]:
        return {arm.name: arm for arm in counted_arms(self.predictions)}

    @property
    def pairs(self) -> Iterator[Pair]:
        return (self._pair(name, self.rows(self.baseline)) for name in self.others)

    @property
    def alone(self) -> Pair:
        return self._pair(self.baseline, np.array([], int))

    def rows(self, name: str) -> np.ndarray:
        """Where the runs of an arm stand."""
        return np.flatnonzero(self.predictions.runs["model"] == name)

    def _pair(self, name: str, base: np.ndarray) -> Pair:
        p, rows = self.predictions, np.r_[base, self.rows(name)]
        runs = p.runs.iloc[rows].reset_index(drop=True)
        decided = p.predicted[rows], p.correct[rows], p.labels
        return Pair(name, self.baseline, len(base), runs, *decided, self.counted)


def compared(predictions: Predictions, baseline: str | None) -> Compared:
    """The arms beside the baseline, a model or an arm by name (None: the model called nds).

    A run that predicts the same class for every sample as another of its arm counts once; a warning says so. Raises
    InvalidInput for a baseline that is missing or has several arms, nothing to compare, and a seed twice in one arm.
    """
    runs = predictions.runs
    conditions = _conditions(runs)
    names = _names(runs, conditions)
    rows = runs[conditions].assign(arm=names, model=runs["model"].to_numpy())
    order = rows.assign(first=rows.groupby("model", sort=False).ngroup()).sort_values(
        ["first", *conditions], kind="stable"
    )
    arms = order.drop(columns="first").drop_duplicates("arm").set_index("arm")
    chosen = _baseline(arms, baseline)
    twice = runs[["seed"]].assign(arm=names)[runs[["seed"]].assign(arm=names).duplicated()]
    if len(twice):
        raise InvalidInput(
            f"{twice['arm'].iloc[0]} has seed {twice['seed'].iloc[0]} twice: one run for each seed. Give each its own "
            "seed, or a numeric column that tells them apart."
        )
    keep, told = _without_copies(predictions, names)
    kept = runs.iloc[keep].reset_index(drop=True).assign(model=names[keep], temperature=np.nan)
    by_arm = kept.groupby("model")["run_id"]
    arms = arms.assign(n_runs=by_arm.size(), teaches=by_arm.agg(lambda ids: ids.isin(runs["teacher_id"]).any()))
    arms = arms.loc[[chosen, *arms.drop(chosen).sort_values("teaches", kind="stable").index]]
    decisions = {"predicted": predictions.predicted[keep], "probabilities": None, "confidence": None}
    relabelled = replace(predictions, runs=kept, **decisions, twins={}, features=None)
    told += _of_runs(predictions, arms, relabelled.runs)
    return Compared(relabelled, arms, conditions, told)


def _conditions(runs: pd.DataFrame) -> list[str]:
    """Numeric columns that vary within a model and whose values several runs share; others only to part equal seeds."""
    numeric = [c for c in runs.select_dtypes("number") if c != "seed"]
    by_model = runs.groupby("model")
    varying = [c for c in numeric if (by_model[c].nunique() > 1).any()]
    found = [c for c in varying if ((by_model[c].nunique() > 1) & (2 * by_model[c].nunique() <= by_model.size())).any()]
    for column in varying:
        if not runs.duplicated(["model", *found, "seed"]).any():
            break
        found += [column] if column not in found else []
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
    for first, row in predictions.repeats(range(len(names))):
        if not predictions.correct[row].all():
            ids = " and ".join(f"{names[i]} seed {predictions.runs['seed'].iloc[i]}" for i in (first, row))
            once = ", and count as one run" if names[first] == names[row] else ""
            keep[row] = not once
            told.append(f"{ids} predict the same class for every sample{once}.")
    return np.flatnonzero(keep), told


def _of_runs(predictions: Predictions, arms: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """What must be known of the runs before any number is read."""
    single, few = arms.index[arms["n_runs"] == 1], arms.index[arms["n_runs"].between(2, ENOUGH_SEEDS - 1)]
    told = []
    if len(single):
        told.append(
            f"One run of {', '.join(single)}: how much another seed would change this cannot be known from this table. "
            "Where an arm has one run, intervals speak of other test samples and of this very run."
        )
    if len(few):
        told.append(f"Fewer than {ENOUGH_SEEDS} seeds of {', '.join(few)}: intervals are wide and tests weak.")
    shared = [
        f"{name} ({len(ids)} runs)"
        for name, ids in runs.groupby("model", sort=False)["teacher_id"]
        if len(ids) > 1 and ids.notna().all() and ids.nunique() == 1
    ]
    if shared:
        told.append(
            f"One teacher for all runs of {', '.join(shared)}: they share what this teacher happens to do, so "
            "nothing is known about other teachers."
        )
    told += [f"Collapsed run: {run}. It stays in every number." for run in named_collapsed(predictions)]
    absent = [f"Planned, and not in this table: {run}." for run in predictions.absent[:10]]
    empty = np.setdiff1d(np.arange(predictions.n_classes), predictions.labels)
    if len(empty):
        names = ", ".join(predictions.class_names[c] for c in empty[:10]) + (" ..." if len(empty) > 10 else "")
        told.append(f"No test sample of {len(empty)} of {predictions.n_classes} classes: {names}.")
    return told + absent
