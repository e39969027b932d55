"""One number over data sets, where the quantity is the same: accuracy (claim 1), disagreement (claim 7). No torch."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special

POOLED = (1, 7)
FEWEST = 3  # data sets


def pooled(spread: pd.DataFrame) -> pd.DataFrame:
    """The rows of `board.by_study` pooled over data sets, one row per claim that has three or more.

    claim, data_sets, value, low, high (95 %), lowest, highest (95 % prediction interval: another data set of the kind).
    Random effects by Paule and Mandel, interval by Hartung and Knapp, never narrower than without their factor. Studies
    of one data set are one unit: the mean of their values and of their standard errors, as if wholly dependent.
    """
    from statsmodels.stats.meta_analysis import combine_effects

    rows = []
    for claim in POOLED:
        found = spread[(spread["claim"] == claim) & (spread["se"] > 0)]
        units = found.groupby(found["studies"].str.split("-").str[0])[["value", "se"]].mean()
        k = len(units)
        if k >= FEWEST:
            fit = combine_effects(units["value"].to_numpy(), units["se"].to_numpy() ** 2, method_re="iterated")
            se = max(fit.sd_eff_w_re, fit.sd_eff_w_re_hksj)
            half = special.stdtrit(k - 1, 0.975) * se
            reach = special.stdtrit(k - 2, 0.975) * np.sqrt(fit.tau2 + se**2)
            mean = fit.mean_effect_re
            ends = {"low": mean - half, "high": mean + half, "lowest": mean - reach, "highest": mean + reach}
            rows.append({"claim": claim, "data_sets": k, "value": mean, **ends})
    return pd.DataFrame(rows, columns=["claim", "data_sets", "value", "low", "high", "lowest", "highest"])
