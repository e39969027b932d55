"""The one dialect of results: one row per arm and metric, which tables, figures and the paper's numbers take.

model, temperature (NaN for teacher and nds), n_seeds, metric, unit ('share', 'classes' or 'ratio'), mean, sd, low, high
(NaN where a metric has no such part). Shares are fractions. `numbers.beside` adds paper_mean, paper_sd, paper_source,
difference and paper_inside. Measures give one row per arm with a column for each number. `tidy` makes rows of them,
`columns` undoes that for what draws. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

ARM = ["model", "temperature"]
# Parts of a metric m, and the columns m, m_sd, ... of a measure that hold them.
PARTS = {"mean": ("", "_mean"), "sd": ("_sd",), "low": ("_low",), "high": ("_high", "_upper")}
COUNT_UNITS = {"n_significant_sc": "classes", "n_significant_tc": "classes", "null_band": "classes"}
DIFFERENCES = ("eod", "tpr_difference", "fpr_difference", "dpd", "dpd_gap", "eod_floor", "dpd_floor", "label_dpd")
FAIRNESS_UNITS = dict.fromkeys(("accuracy", *DIFFERENCES), "share")
WITH_CONTROLS = [f"{m}{end}" for m in ("counterfactual", "lipschitz") for end in ("", "_calibrated", "_relative")]
INDIVIDUAL_UNITS = dict.fromkeys(("accuracy", "confidence"), "share")
INDIVIDUAL_UNITS |= dict.fromkeys((*WITH_CONTROLS, "inconsistency", "individual_fairness"), "ratio")


def tidy(arms: pd.DataFrame, units: Mapping[str, str]) -> pd.DataFrame:
    """One row per arm and metric of `units` ({metric: unit}), from one row per arm; only metrics that have a column.

    arms: temperature, n_seeds, model (ds where that column is missing), and of a metric m the columns m or m_mean,
    m_sd, m_low, m_high or m_upper.
    """
    keys = arms[["temperature", "n_seeds"]].assign(model=arms.get("model", "ds"))[[*ARM, "n_seeds"]]
    found = []
    for metric, unit in units.items():
        names = {part: [metric + end for end in ends if metric + end in arms] for part, ends in PARTS.items()}
        if any(names.values()):
            values = {part: _numbers(arms[name[0]]) if name else np.nan for part, name in names.items()}
            found.append(keys.assign(metric=metric, unit=unit, **values))
    return pd.concat(found, ignore_index=True)


def _numbers(values: pd.Series) -> np.ndarray:
    return values.astype("Float64").to_numpy(float, na_value=np.nan)


def class_bias(accuracy: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of every arm (`by_arm`), and #SC, #TC and the band of chance (`class_bias.counts`) of the students."""
    band = counts.rename(columns={"null_low": "null_band_low", "null_high": "null_band_high"})
    return pd.concat([accuracy.assign(metric="accuracy", unit="share"), tidy(band, COUNT_UNITS)], ignore_index=True)


def fairness(arms: pd.DataFrame) -> pd.DataFrame:
    """The measures of `fairness.table`, label_dpd, and the floors, whose high is their 95th percentile."""
    return tidy(arms, FAIRNESS_UNITS)


def individual(arms: pd.DataFrame) -> pd.DataFrame:
    """The measures of individual fairness that `arms` has, and a place for the paper's own, which has no formula."""
    return tidy(arms.assign(individual_fairness=np.nan), INDIVIDUAL_UNITS)


def columns(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per arm again: of each metric m the columns m, m_sd, m_low and m_high, and paper_m where there is any."""
    arms = rows[ARM].drop_duplicates()
    paper = ["paper_mean"] if "paper_mean" in rows else []
    for metric, part in rows.groupby("metric", sort=False):
        names = {"mean": metric, "sd": f"{metric}_sd", "low": f"{metric}_low", "high": f"{metric}_high"}
        names |= {"paper_mean": f"paper_{metric}"} if paper and part["paper_mean"].notna().any() else {}
        arms = arms.merge(part[[*ARM, *names]].rename(columns=names), on=ARM, how="left", validate="one_to_one")
    return arms


def with_paper(arms: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """A measure's `arms` with a column paper_m for each metric m of `rows` that the paper reports: a figure's data."""
    wide = columns(rows)
    found = wide[[*ARM, *(name for name in wide if name.startswith("paper_"))]]
    keys = arms[["temperature"]].assign(model=arms.get("model", "ds"))
    joined = keys.merge(found, on=["model", "temperature"], how="left", validate="one_to_one")
    return arms.assign(**{name: joined[name].to_numpy() for name in found.columns.drop(ARM)})
