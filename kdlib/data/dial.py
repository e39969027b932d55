"""What the dial of `trifeature-biased` means: counts of labels and groups, and the disparities that follow from them.

Plain arithmetic: the data set is made by it, and measuring compares with it. No torch.
"""

from __future__ import annotations

import math

import numpy as np

from kdlib.errors import InvalidInput

GROUPS = ("cool", "warm")  # rho > 0 gives the second more positives
PLACE = "data set 'trifeature-biased'"


def cell_counts(n: int, *, rho: float, group_share: float) -> np.ndarray:
    """(2, 2) int: how many of n images have label y (rows) and group a (columns: cool, warm).

    With g = group_share: n / 2 are positive, n g warm, n (g + rho sqrt(g (1 - g))) / 2 both; each is rounded to the
    nearest whole number, and the rest follows. Raises InvalidInput if there is no such table.
    """
    g = _check_dial(rho, group_share)
    positive, warm = _round(n / 2), _round(n * g)
    if not 0 < warm < n:
        raise InvalidInput(f"group_share = {g!r} in {PLACE}: one group gets none of {n} images; give more images.")
    both = _round(n * (g + rho * math.sqrt(g * (1 - g))) / 2)
    # at the largest rho the three roundings may disagree by one
    both = min(max(both, positive + warm - n, 0), positive, warm)
    return np.array([[n - positive - warm + both, warm - both], [positive - both, both]])


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def _check_dial(rho: float, group_share: float) -> float:
    """group_share. Raises InvalidInput unless half of the labels can be positive with this correlation and group."""
    for name, value in (("rho", rho), ("group_share", group_share)):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
            raise InvalidInput(f"{name} = {value!r} in {PLACE}: give a number.")
    if not 0 < group_share < 1:
        raise InvalidInput(f"group_share = {group_share!r} in {PLACE}: give a share above 0 and below 1.")
    most = largest_rho(group_share)
    if abs(rho) > most + 1e-12:
        raise InvalidInput(
            f"rho = {rho!r} in {PLACE}: with group_share = {group_share!r} it lies within "
            f"-{most:.4f} .. {most:.4f}; give such a rho, or bring group_share nearer to 0.5."
        )
    return group_share


def largest_rho(group_share: float) -> float:
    """The correlation at which the smaller group has one label alone: sqrt(smaller share / larger share), 0 .. 1."""
    smaller = min(group_share, 1 - group_share)
    return math.sqrt(smaller / (1 - smaller))


def base_rates(*, rho: float, group_share: float) -> dict[str, float]:
    """P(Y = 1 | group): cool 1/2 - rho/2 sqrt(g / (1 - g)), warm 1/2 + rho/2 sqrt((1 - g) / g), g = group_share."""
    odds = math.sqrt((1 - group_share) / _check_dial(rho, group_share))
    return {"cool": 0.5 - rho / 2 / odds, "warm": 0.5 + rho / 2 * odds}
