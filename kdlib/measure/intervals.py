"""How sure: differences between partners and trends over blocks, with intervals and the tests that belong to them.

Values are one number per run. No torch.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from kdlib.errors import InvalidInput, KdlibWarning, unknown
from kdlib.measure import arms, stats
from kdlib.predictions import Predictions

# --- paired over seeds ------------------------------------------------------------------------------------------------


def paired_differences(
    predictions: Predictions, values: np.ndarray, *, against: str = "nds", coverage: float = 0.95
) -> pd.DataFrame:
    """Distilled student minus its partner, with a t-interval over seeds; one row per temperature.

    values   (R,) one number per run, such as group_fairness(...)["dpd"]; the result has its unit
    against  "teacher": the student's own (by teacher_id); "nds": the non-distilled student of the same seed
    Returns temperature, against, n_pairs, mean, sd, low, high; 0 means no difference.
    Raises InvalidInput without distilled students or with fewer than two pairs. Warns of students without a partner,
    and of one teacher for all seeds (its students are one observation of that teacher, not several).
    """
    if against not in ("nds", "teacher"):
        raise unknown("against", against, ("nds", "teacher"), place="paired_differences")
    values, runs = np.asarray(values, float), predictions.runs
    if values.shape != (len(runs),):
        raise InvalidInput(f"values have shape {values.shape}; one number per run is wanted: ({len(runs)},).")
    students = [arm for arm in arms.arm_rows(runs) if arm.model == "ds"]
    if not students:
        raise InvalidInput(f"no distilled student (model 'ds') among {', '.join(sorted(set(runs['model'])))}.")
    partner = arms.partners(runs, against)
    found = pd.DataFrame([_paired_row(arm, values, partner, coverage) for arm in students])
    arms.check_seeds({f"ds T={row.temperature:g}": int(row.n_pairs) for row in found.itertuples()})
    return found.assign(against=against)[["temperature", "against", "n_pairs", "mean", "sd", "low", "high"]]


def _paired_row(arm: arms.ArmRows, values: np.ndarray, partner: np.ndarray, coverage: float) -> dict[str, float]:
    rows = arm.rows[partner[arm.rows] >= 0]
    if len(rows) < len(arm.rows):
        warnings.warn(
            f"{arm.name}: {len(arm.rows) - len(rows)} of {len(arm.rows)} students have no partner and are left out.",
            KdlibWarning,
            stacklevel=4,
        )
    if len(rows) > 1 and len(set(partner[rows])) == 1:
        warnings.warn(
            f"{arm.name}: one partner for all {len(rows)} seeds, so the interval says nothing about other teachers.",
            KdlibWarning,
            stacklevel=4,
        )
    change = values[rows] - values[partner[rows]]
    low, high = stats.t_interval(change, coverage=coverage) if len(rows) > 1 else (np.nan, np.nan)
    return {
        "temperature": arm.temperature,
        "n_pairs": len(rows),
        "mean": change.mean() if len(rows) else np.nan,
        "sd": change.std(ddof=1) if len(rows) > 1 else np.nan,
        "low": low,
        "high": high,
    }


LEVEL = 0.05


class Tested(NamedTuple):
    """A mean over blocks, its 95 % t-interval and two-sided p."""

    value: float
    low: float
    high: float
    p: float


def block_slopes(wide: pd.DataFrame) -> np.ndarray:
    """Least squares slope on log2 T of each row of `by_block`: change of the value for each doubling of T.

    Raises InvalidInput for fewer than two temperatures.
    """
    if wide.shape[1] < 2:
        raise InvalidInput(f"a slope needs two temperatures; there is T = {', '.join(f'{t:g}' for t in wide)}.")
    x = np.log2(wide.columns.to_numpy(float))
    x = x - x.mean()
    return wide.to_numpy() @ x / (x @ x)


def t_test(values: np.ndarray) -> Tested:
    """Student's t-test of one number per block against 0. Where they are all alike, p is the least of sign flips."""
    low, high = stats.t_interval(values)
    return tested(float(np.mean(values)), float(low), float(high), n=len(values))


def tested(value: float, low: float, high: float, *, n: int) -> Tested:
    """The p that belongs to a 95 % t-interval over n blocks."""
    se = (high - low) / 2 / special.stdtrit(n - 1, 1 - LEVEL / 2)
    if se <= 1e-12:
        return Tested(value, low, high, 1.0 if abs(value) <= 1e-12 else 2 / 2**n)
    return Tested(value, low, high, float(2 * special.stdtr(n - 1, -abs(value) / se)))


def paired_test(p: Predictions, values: np.ndarray, *, against: str) -> Tested:
    """`intervals.paired_differences` of values (R,) at the only temperature of `p`, with its p."""
    row = paired_differences(p, values, against=against).iloc[0]
    return tested(row["mean"], row["low"], row["high"], n=int(row["n_pairs"]))


def trends(predictions: Predictions, runs: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Trend with T of columns of a table with one row per run: change for each doubling of T, over teacher blocks.

    One row per column: measure, slope (least squares on log2 T in each block, then the mean), low, high (95 %
    t-interval over blocks), p (two-sided, against 0), n_blocks. The unit is that of the column.
    Raises InvalidInput for fewer than two temperatures or blocks.
    """
    rows = []
    for column in columns:
        found = block_slopes(arms.by_block(predictions, runs[column].to_numpy()))
        test = t_test(found)
        rows.append(
            {
                "measure": column,
                "slope": test.value,
                "low": test.low,
                "high": test.high,
                "p": test.p,
                "n_blocks": len(found),
            }
        )
    return pd.DataFrame(rows)
