"""Arms and blocks: which runs belong together, and what follows for one number per run. The one home.

An arm is the runs of one model at one temperature, one run per seed. A student is paired with its own teacher alone:
with the NDS of its seed it shares nothing. A block is a teacher with its students. It is the unit, because students of
one teacher are not independent of each other. Arms as counts of correct predictions by class are in `class_counts`. No
torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdlib.errors import InvalidInput, caution
from kdlib.measure.stats import Tested, as_floats, block_slopes, check_finite, mean_and_interval, of_parts, t_test
from kdlib.predictions import Predictions

MODEL_ORDER = ("teacher", "nds", "ds")
ENOUGH_SEEDS = 5
TIDY = ["model", "temperature", "n_seeds", "metric", "unit", "mean", "sd", "low", "high"]
SHARES = ("accuracy", "confidence", "too_near", "worst_class_accuracy", "worst_group_accuracy")


class Arm(NamedTuple):
    """Where the runs of one arm stand in the table of runs, in order of seed."""

    model: str
    temperature: float
    rows: np.ndarray

    @property
    def name(self) -> str:
        return self.model if np.isnan(self.temperature) else f"{self.model} T={self.temperature:g}"

    @property
    def about(self) -> dict[str, object]:
        """The columns that every table by arm starts with."""
        return {"model": self.model, "temperature": self.temperature, "n_seeds": len(self.rows)}


def arm_rows(runs: pd.DataFrame) -> list[Arm]:
    """The arms of a table of runs: teacher, nds, ds by temperature, then any others.

    Raises InvalidInput if an arm has a seed twice (several values of alpha, or several studies in one table).
    """
    found, seeds = [], runs["seed"].to_numpy()
    for (model, temperature), rows in runs.groupby(["model", "temperature"], dropna=False).indices.items():
        arm = Arm(str(model), float(temperature), rows[np.argsort(seeds[rows], kind="stable")])
        twice = seeds[arm.rows][pd.Series(seeds[arm.rows]).duplicated()]
        if len(twice):
            raise InvalidInput(
                f"arm {arm.name} has seed {twice[0]} twice: one run per seed. Choose one alpha or study first, for "
                "example predictions.arm(study=...)."
            )
        found.append(arm)
    return sorted(found, key=_position)


def _position(arm: Arm) -> tuple[int, str, float]:
    rank = MODEL_ORDER.index(arm.model) if arm.model in MODEL_ORDER else len(MODEL_ORDER)
    return rank, arm.model, -1.0 if np.isnan(arm.temperature) else arm.temperature


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
        caution(f"fewer than {ENOUGH_SEEDS} seeds in {', '.join(few)}: intervals are wide and tests weak.")


def by_arm(predictions: Predictions, values: np.ndarray, *, share: bool = True) -> pd.DataFrame:
    """One row per arm: model, temperature (NaN for teacher and nds), n_seeds, mean, sd, low, high.

    values: (R,) one number per run, for example predictions.accuracy; mean, sd (n - 1) and the t-interval over seeds
    have its unit. share: they are shares, 0 .. 1, and so are the ends of the interval. Rows in the order teacher, nds,
    ds by temperature.
    Raises InvalidInput for an arm of fewer than two seeds or a share outside 0 .. 1; warns (KdlibWarning) of two to
    four seeds.
    """
    values, found = _one_each(predictions, values), arm_rows(predictions.runs)
    if share and (off := values[(values < 0) | (values > 1)]).size:
        raise InvalidInput(f"a share of {off[0]:g} lies outside 0 .. 1; for other numbers say share=False.")
    check_seeds({arm.name: len(arm.rows) for arm in found})
    for arm in found:
        _warn_of_collapsed(predictions, arm, values, share)
    return pd.DataFrame([arm.about | mean_and_interval(values[arm.rows], share=share) for arm in found])


def tidy(predictions: Predictions, runs: pd.DataFrame, units: Mapping[str, str]) -> pd.DataFrame:
    """One row per arm and metric, the one form of all results: the columns TIDY.

    runs   one row per run, in the order of `predictions`
    units  {column of runs: 'share' (a fraction), 'ratio', ...}
    mean, sd, low, high and the order of arms are those of `by_arm`; one metric stands after the other.
    """
    found = [by_arm(predictions, runs[name].to_numpy(), share=name in SHARES) for name in units]
    named = [arms.assign(metric=name, unit=unit) for arms, (name, unit) in zip(found, units.items(), strict=True)]
    return pd.concat(named, ignore_index=True)[TIDY]


def _warn_of_collapsed(predictions: Predictions, arm: Arm, values: np.ndarray, share: bool) -> None:
    """Name the runs of an arm that learned nothing, and say what its mean is without them."""
    runs = predictions.runs["run_id"].iloc[arm.rows]
    bad = runs.isin(predictions.collapsed).to_numpy()
    if bad.any():
        kept, unknown = values[arm.rows[~bad]], dict.fromkeys(("mean", "low", "high"), np.nan)
        found = mean_and_interval(kept, share=share) if len(kept) > 1 else unknown
        named = "; ".join(f"run {run} {predictions.collapsed[run]}" for run in runs[bad])
        without = "of the other {} it is {mean:.4g} [{low:.4g}, {high:.4g}]".format(len(kept), **found)
        caution(f"collapsed in {arm.name}: {named}. The mean of all keeps it; {without}.")


def _one_each(predictions: Predictions, values: np.ndarray) -> np.ndarray:
    values, wanted = as_floats(values), (len(predictions.runs),)
    if values.shape != wanted:
        raise InvalidInput(f"values have shape {values.shape}, not {wanted}: one number per run.")
    return values


# --- partners ---------------------------------------------------------------------------------------------------------


def own_teachers(runs: pd.DataFrame) -> np.ndarray:
    """(R,) position of each run's teacher, by teacher_id; of an NDS the one of its seed; -1 where it has none."""
    others = runs[runs["model"] == "teacher"]
    by_seed, by_id = (dict(zip(others[key], others.index, strict=True)) for key in ("seed", "run_id"))
    return np.array(
        [
            by_seed.get(run.seed, -1) if run.model == "nds" else by_id.get(run.teacher_id, -1)
            for run in runs.itertuples()
        ]
    )


def nds_and_students(runs: pd.DataFrame) -> tuple[Arm, list[Arm]]:
    """The arm of NDS and those of DS by temperature, two seeds or more each. Raises InvalidInput if one is missing."""
    found = arm_rows(runs)
    nds, students = [arm for arm in found if arm.model == "nds"], [arm for arm in found if arm.model == "ds"]
    if len(nds) != 1 or not students:
        raise InvalidInput(
            f"one arm of 'nds' and at least one of 'ds' are wanted; there are {', '.join(arm.name for arm in found)}."
        )
    check_seeds({arm.name: len(arm.rows) for arm in (*nds, *students)})
    return nds[0], students


def differences_from_nds(predictions: Predictions, values: np.ndarray, *, coverage: float = 0.95) -> pd.DataFrame:
    """Distilled students minus NDS, one row per temperature: Welch's test of two samples of runs.

    NDS and DS of one seed share nothing, so pairing them would be arbitrary.
    values: (R,) one number per run, such as group_fairness(...)["dpd"]; the result has its unit.
    Returns temperature, n_ds, n_nds, mean, low, high, p (two-sided), visible (see `stats.Tested`); 0: no difference.
    Raises InvalidInput without NDS or DS and for fewer than two seeds; warns of two to four.
    """
    values, (nds, students) = _one_each(predictions, values), nds_and_students(predictions.runs)
    rows = [
        {"temperature": arm.temperature, "n_ds": len(arm.rows), "n_nds": len(nds.rows)}
        | less(values[arm.rows], values[nds.rows], coverage=coverage)._asdict()
        for arm in students
    ]
    return pd.DataFrame(rows).rename(columns={"value": "mean"})


def less(a: np.ndarray, b: np.ndarray, *, coverage: float = 0.95) -> Tested:
    """The mean of a minus that of b, two independent samples."""
    check_finite(np.concatenate([a, b]))
    return of_parts(a.mean() - b.mean(), a, b, coverage=coverage)


def differences_from_teacher(predictions: Predictions, values: np.ndarray) -> pd.DataFrame:
    """Distilled students minus their own teachers, one row per temperature, with a t-interval over pairs.

    values: (R,) one number per run; the result has its unit. Returns temperature, n_pairs, mean, low, high, p, visible.
    Raises InvalidInput without distilled students or with fewer than two pairs. Warns of students without a teacher,
    and of one teacher for all seeds (its students are one observation of that teacher, not several).
    """
    values, runs = _one_each(predictions, values), predictions.runs
    students = [arm for arm in arm_rows(runs) if arm.model == "ds"]
    if not students:
        raise InvalidInput(f"no distilled student (model 'ds') among {', '.join(sorted(set(runs['model'])))}.")
    teachers = own_teachers(runs)
    paired = [arm._replace(rows=_paired_rows(arm, teachers)) for arm in students]
    check_seeds({arm.name: len(arm.rows) for arm in paired})
    rows = [
        {"temperature": arm.temperature, "n_pairs": len(arm.rows)}
        | t_test(values[arm.rows] - values[teachers[arm.rows]])._asdict()
        for arm in paired
    ]
    return pd.DataFrame(rows).rename(columns={"value": "mean"})


def _paired_rows(arm: Arm, teachers: np.ndarray) -> np.ndarray:
    """The rows of the arm that have a teacher; warns of those that have none, and of one teacher for all."""
    rows = arm.rows[teachers[arm.rows] >= 0]
    if len(rows) < len(arm.rows):
        caution(
            f"{arm.name}: {len(arm.rows) - len(rows)} of {len(arm.rows)} students have no teacher and are left out."
        )
    if len(rows) > 1 and len(set(teachers[rows])) == 1:
        caution(
            f"{arm.name}: one teacher for all {len(rows)} seeds, so the interval says nothing about other teachers."
        )
    return rows


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


def trend(p: Predictions, values: np.ndarray) -> Tested:
    """The change of values (R,) of the students for each doubling of T, over teacher blocks; raises as `trends`."""
    return t_test(block_slopes(by_block(p, values)))


def trends(predictions: Predictions, runs: pd.DataFrame, metrics: Iterable[str]) -> pd.DataFrame:
    """Trend with T of columns of a table with one row per run: change for each doubling of T, over teacher blocks.

    One row per metric: measure, slope (least squares on log2 T in each block, then the mean), low, high (95 %
    t-interval over blocks), p (two-sided, against 0), n_blocks. The unit is that of the column.
    Raises InvalidInput for fewer than two temperatures or blocks.
    """
    found = {name: trend(predictions, runs[name].to_numpy()) for name in metrics}
    rows = pd.DataFrame(found.values(), columns=["slope", *Tested._fields[1:]], index=[*found])
    return rows.rename_axis("measure").reset_index().assign(n_blocks=n_blocks(predictions))
