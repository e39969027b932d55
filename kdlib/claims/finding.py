"""What the rules behind the verdicts share: a `Finding`, and tests over blocks.

A block is a teacher with its students: the unit, because students of one teacher are not independent of each other. No
torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial, isnan, nan
from typing import NamedTuple

from kdlib.measure.stats import LEVEL, Tested

TWO_TO_TEN = (2.0, 10.0)  # the temperatures of the paper's tables of classes
TEN_AND_FORTY = (10.0, 40.0)  # between these the paper sees its trends reverse


class Finding(NamedTuple):
    """What a rule found.

    statistic    in words, the number that decides: value
    toward       whether the number points the paper's way; None: neither way
    text         the numbers in sentences that need no other text
    low, high    the 95 % interval of the number; NaN: it has none
    p            two-sided; NaN where the rule is no test
    control      what was checked to rule out another explanation
    least_p      the least p that the design can give, whatever the data; above 0.05 the study cannot answer
    se           the standard error of the number
    visible      the value that this test sees in 80 % of studies; NaN: not known
    unit         of `visible`, in words; 'points' are hundredths
    instead      the verdict that this check leaves of a significant number, for or against; '' where it holds
    flat         whether the number is shown to be about 0, which is against the claim
    collapsed    the runs behind it that learned nothing, in words; '' where all learned something
    without      what the rule finds without these runs, or why it cannot find anything
    """

    statistic: str
    value: float
    toward: bool | None
    n_blocks: int
    temperatures: tuple[float, ...]
    text: str
    low: float = nan
    high: float = nan
    p: float = nan
    control: str = ""
    least_p: float = 0.0
    visible: float = nan
    se: float = nan
    unit: str = "points"
    instead: str = ""
    flat: bool = False
    collapsed: str = ""
    without: Finding | str = ""


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


def signed(value: float) -> str:
    """With its sign, a true minus: '−0.20'."""
    return f"{value:+.2f}".replace("-", "−")


def points(value: float) -> str:
    """A share as signed points: '+1.20'."""
    return signed(100 * value)


def percent(share: float) -> str:
    """A share in words: '12.3 %'."""
    return f"{100 * share:.1f} %"


def interval(found: Tested, shown=points) -> str:
    """'+1.20 (+0.80 to +1.60)'; in words what is not defined."""
    if isnan(found.value):
        return "an undefined amount"
    ends = "no interval" if isnan(found.low) else f"{shown(found.low)} to {shown(found.high)}"
    return f"{shown(found.value)} ({ends})".replace("-", "−")


def p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def least_trend_p(temperatures: Sequence[float]) -> float:
    """The least p of Kendall's tau with K temperatures: two of their K! orders are perfect."""
    return 2 / factorial(len(temperatures))


def too_few(temperatures: Sequence[float]) -> str:
    """What to say where so few temperatures cannot show a trend."""
    least = least_trend_p(temperatures)
    if least <= LEVEL:
        return ""
    return f" {len(temperatures)} temperatures are too few for a trend: chance alone orders them with p = {least:.2g}."
