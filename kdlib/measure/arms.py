"""Arms, partners and blocks: which runs belong together. The one home of all three.

An arm is the runs of one model at one temperature, one run per seed. The partner of a student is its own teacher, or
the NDS of its seed. A block is a teacher with its students. It is the unit, because students of one teacher are not
independent of each other. Arms as counts of correct predictions by class are in `class_counts`. No torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdlib.errors import InvalidInput, KdlibWarning
from kdlib.measure.stats import t_interval
from kdlib.predictions import Predictions

MODEL_ORDER = ("teacher", "nds", "ds")
ENOUGH_SEEDS = 5


class ArmRows(NamedTuple):
    """Where the runs of one arm stand in the table of runs, in order of seed."""

    model: str
    temperature: float
    rows: np.ndarray

    @property
    def name(self) -> str:
        return self.model if np.isnan(self.temperature) else f"{self.model} T={self.temperature:g}"


def arm_rows(runs: pd.DataFrame) -> list[ArmRows]:
    """The arms of a table of runs: teacher, nds, ds by temperature, then any others.

    Raises InvalidInput if an arm has a seed twice (several values of alpha, or several studies in one table).
    """
    found = []
    for (model, temperature), rows in runs.groupby(["model", "temperature"], dropna=False).indices.items():
        order = np.argsort(runs["seed"].to_numpy()[rows], kind="stable")
        found.append(ArmRows(str(model), float(temperature), rows[order]))
    for arm in found:
        _refuse_repeated_seed(arm, runs["seed"].to_numpy()[arm.rows])
    return sorted(found, key=_position)


def _position(arm: ArmRows) -> tuple[int, str, float]:
    rank = MODEL_ORDER.index(arm.model) if arm.model in MODEL_ORDER else len(MODEL_ORDER)
    return rank, arm.model, -1.0 if np.isnan(arm.temperature) else arm.temperature


def _refuse_repeated_seed(arm: ArmRows, seeds: np.ndarray) -> None:
    repeated = seeds[:-1][seeds[:-1] == seeds[1:]]
    if len(repeated):
        raise InvalidInput(
            f"arm {arm.name} has seed {repeated[0]} twice: one run per seed. Choose one alpha or study "
            "first, for example predictions.arm(study=...)."
        )


def check_seeds(n_seeds: Mapping[str, int]) -> None:
    """Refuse arms of fewer than two seeds (InvalidInput), warn once of those with two to four (KdlibWarning)."""
    too_few = [name for name, n in n_seeds.items() if n < 2]
    if too_few:
        raise InvalidInput(
            f"fewer than two seeds in {', '.join(too_few)}: the spread over seeds is unknown. "
            "Train more seeds, or leave the arm out."
        )
    few = [f"{name} ({n})" for name, n in n_seeds.items() if n < ENOUGH_SEEDS]
    if few:
        warnings.warn(
            f"fewer than {ENOUGH_SEEDS} seeds in {', '.join(few)}: intervals are wide and tests weak.",
            KdlibWarning,
            stacklevel=3,
        )


def by_arm(predictions: Predictions, values: np.ndarray) -> pd.DataFrame:
    """One row per arm: model, temperature (NaN for teacher and nds), n_seeds, mean, sd, low, high.

    values: (R,) one number per run, for example predictions.accuracy; mean, sd (n - 1) and the t-interval over seeds
    have its unit. Rows in the order teacher, nds, ds by temperature.
    Raises InvalidInput for an arm of fewer than two seeds; warns (KdlibWarning) of two to four.
    """
    values = np.asarray(values, float)
    if values.shape != (len(predictions.runs),):
        raise InvalidInput(f"values have shape {values.shape}, not ({len(predictions.runs)},): one number per run.")
    found = arm_rows(predictions.runs)
    check_seeds({arm.name: len(arm.rows) for arm in found})
    return pd.DataFrame([_summary(arm, values[arm.rows]) for arm in found])


def _summary(arm: ArmRows, values: np.ndarray) -> dict[str, object]:
    low, high = t_interval(values)
    return {
        "model": arm.model,
        "temperature": arm.temperature,
        "n_seeds": len(values),
        "mean": values.mean(),
        "sd": values.std(ddof=1),
        "low": low,
        "high": high,
    }


def arm_columns(predictions: Predictions, runs: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """One row per arm: model, temperature, n_seeds; m (mean over seeds), m_sd, m_low, m_high for each column m of runs.

    runs: one row per run, in the order of `predictions`. Intervals and order are those of `by_arm`.
    """
    found = [by_arm(predictions, runs[name].to_numpy()) for name in names]
    parts = [
        arm[["mean", "sd", "low", "high"]].set_axis([name, f"{name}_sd", f"{name}_low", f"{name}_high"], axis=1)
        for name, arm in zip(names, found, strict=True)
    ]
    return pd.concat([found[0][["model", "temperature", "n_seeds"]], *parts], axis=1)


# --- partners ---------------------------------------------------------------------------------------------------------


def partners(runs: pd.DataFrame, against: str) -> np.ndarray:
    """(R,) position of each run's partner, -1 where it has none.

    against  'nds': the NDS of the same seed. 'teacher': the own one by teacher_id; of an NDS the one of its seed
    """
    others = runs[runs["model"] == against]
    by_seed, by_id = (dict(zip(others[key], others.index, strict=True)) for key in ("seed", "run_id"))
    if against == "nds":
        return np.array([by_seed.get(seed, -1) for seed in runs["seed"]])
    return np.array(
        [
            by_seed.get(run.seed, -1) if run.model == "nds" else by_id.get(run.teacher_id, -1)
            for run in runs.itertuples()
        ]
    )


def nds_and_students(runs: pd.DataFrame) -> tuple[ArmRows, list[ArmRows]]:
    """The arm of NDS and those of DS by temperature, two seeds or more each. Raises InvalidInput if one is missing."""
    found = arm_rows(runs)
    nds, students = [arm for arm in found if arm.model == "nds"], [arm for arm in found if arm.model == "ds"]
    if len(nds) != 1 or not students:
        raise InvalidInput(
            f"one arm of 'nds' and at least one of 'ds' are wanted; there are {', '.join(arm.name for arm in found)}."
        )
    check_seeds({arm.name: len(arm.rows) for arm in (*nds, *students)})
    return nds[0], students


# --- temperatures and blocks ------------------------------------------------------------------------------------------


def between(p: Predictions, low: float, high: float) -> Predictions:
    """The students with low <= T <= high, and every run that has no temperature."""
    t = p.runs["temperature"].to_numpy(float)
    return p.take(np.flatnonzero(np.isnan(t) | ((t >= low) & (t <= high))))


def at(p: Predictions, *temperatures: float) -> Predictions:
    """The students at these temperatures, and every run that has none. Raises InvalidInput if one is not there."""
    missing = [t for t in temperatures if t not in p.temperatures]
    if missing:
        raise InvalidInput(f"there is no student at T = {', '.join(f'{t:g}' for t in missing)}.")
    t = p.runs["temperature"].to_numpy(float)
    return p.take(np.flatnonzero(np.isnan(t) | np.isin(t, temperatures)))


def check_blocks(p: Predictions) -> None:
    """Raise InvalidInput where students of several seeds have one teacher: there are fewer blocks than seeds."""
    for arm in (arm for arm in arm_rows(p.runs) if arm.model == "ds"):
        teachers = p.runs["teacher_id"].iloc[arm.rows].dropna()
        if teachers.duplicated().any():
            raise InvalidInput(
                f"{arm.name}: {len(teachers)} students of {teachers.nunique()} teachers. The unit is the teacher, and "
                "one teacher for several seeds is pseudo-replication: train a teacher for each seed."
            )


def by_block(p: Predictions, values: np.ndarray) -> pd.DataFrame:
    """values (R,) of the students: one row per block, one column per temperature; blocks that lack one are left out.

    Raises InvalidInput for fewer than two blocks.
    """
    students = p.runs.assign(value=values)[(p.runs["model"] == "ds").to_numpy()]
    block = students["teacher_id"].fillna("seed " + students["seed"].astype(str))
    wide = students.assign(block=block).pivot(index="block", columns="temperature", values="value").dropna()
    if len(wide) < 2:
        raise InvalidInput(f"{len(wide)} blocks have a student at every temperature; two or more are needed.")
    return wide


def n_blocks(p: Predictions) -> int:
    """How many blocks have a student at every temperature."""
    return len(by_block(p, np.zeros(len(p.runs))))
