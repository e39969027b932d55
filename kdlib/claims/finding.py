"""What the rules behind the verdicts share: a `Finding`, and tests over blocks.

A block is a teacher, its students, and the non-distilled student of the same seed: the unit, because students of one
teacher are not independent of each other. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from kdlib.errors import InvalidInput
from kdlib.measure import stats
from kdlib.measure.class_tests import least_p
from kdlib.measure.intervals import paired_differences
from kdlib.predictions import Predictions

LEVEL = 0.05


class Finding(NamedTuple):
    """What a rule found.

    statistic, value, low, high   the number that decides, in words and with its 95 % interval (NaN: none)
    p            two-sided; NaN where the rule is no test
    toward       whether the number points the paper's way; None: neither way
    text         the numbers in sentences that need no other text
    control      what was checked to rule out another explanation
    instead      the verdict that this check leaves where the rule is met; '' where it holds
    flat         whether the number is shown to be about 0, which is against the claim
    """

    statistic: str
    value: float
    low: float
    high: float
    p: float
    toward: bool | None
    n_blocks: int
    temperatures: tuple[float, ...]
    text: str
    control: str = ""
    instead: str = ""
    flat: bool = False


class Tested(NamedTuple):
    """A mean over blocks, its 95 % t-interval and two-sided p."""

    value: float
    low: float
    high: float
    p: float


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
    for arm in (arm for arm in stats.arm_rows(p.runs) if arm.model == "ds"):
        teachers = p.runs["teacher_id"].iloc[arm.rows].dropna()
        if teachers.duplicated().any():
            raise InvalidInput(
                f"{arm.name}: {len(teachers)} students of {teachers.nunique()} teachers. The unit is the teacher, and "
                "one teacher for several seeds is pseudo-replication: train a teacher for each seed."
            )


def by_block(p: Predictions, values: np.ndarray) -> pd.DataFrame:
    """values (R,) of the students: one row a block, one column a temperature; blocks that lack one are left out.

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


def slopes(wide: pd.DataFrame) -> np.ndarray:
    """Least squares slope on log2 T of each row of `by_block`: change of the value for each doubling of T.

    Raises InvalidInput for fewer than two temperatures.
    """
    if wide.shape[1] < 2:
        raise InvalidInput(f"a slope needs two temperatures; there is T = {', '.join(f'{t:g}' for t in wide)}.")
    x = np.log2(wide.columns.to_numpy(float))
    x = x - x.mean()
    return wide.to_numpy() @ x / (x @ x)


def t_test(values: np.ndarray) -> Tested:
    """Student's t-test of one number a block against 0. Where they are all alike, p is the least of sign flips."""
    low, high = stats.t_interval(values)
    return tested(float(np.mean(values)), float(low), float(high), n=len(values))


def tested(value: float, low: float, high: float, *, n: int) -> Tested:
    """The p that belongs to a 95 % t-interval over n blocks."""
    se = (high - low) / 2 / special.stdtrit(n - 1, 1 - LEVEL / 2)
    if se <= 1e-12:
        return Tested(value, low, high, 1.0 if abs(value) <= 1e-12 else least_p(n, n, "paired"))
    return Tested(value, low, high, float(2 * special.stdtr(n - 1, -abs(value) / se)))


def paired_test(p: Predictions, values: np.ndarray, *, against: str) -> Tested:
    """`intervals.paired_differences` of values (R,) at the only temperature of `p`, with its p."""
    row = paired_differences(p, values, against=against).iloc[0]
    return tested(row["mean"], row["low"], row["high"], n=int(row["n_pairs"]))


def joint(found: Sequence[Tested], signs: Sequence[int]) -> tuple[float, bool | None]:
    """(p, toward) of a claim about several numbers: for it all must point its way, against it one is enough.

    signs: +1 where the claim says "above 0". For the claim p is the largest; against it the least, times their number.
    """
    toward = [sign * test.value for test, sign in zip(found, signs, strict=True)]
    if all(value > 0 for value in toward):
        return max(test.p for test in found), True
    opposed = [test.p for test, value in zip(found, toward, strict=True) if value < 0]
    return (min(1.0, len(found) * min(opposed)), False) if opposed else (1.0, None)


# ------------------------------------------------------------------------------------------------------------ sentences


def points(value: float) -> str:
    """A share as signed points: '+1.20'."""
    return f"{100 * value:+.2f}"


def interval(found: Tested, shown=points) -> str:
    """'+1.20 (+0.80 to +1.60)'."""
    return f"{shown(found.value)} ({shown(found.low)} to {shown(found.high)})"


def p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def too_few(temperatures: Sequence[float]) -> str:
    """What to say where so few temperatures cannot show a trend: all in order, two ways of 2 / K! are too likely."""
    least = 2 / factorial(len(temperatures))
    if least <= LEVEL:
        return ""
    return f" {len(temperatures)} temperatures are too few for a trend: chance alone orders them with p = {least:.2g}."
