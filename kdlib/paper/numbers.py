"""What the paper reports, which studies are the paper's own, and its numbers beside ours where both mean the same.

`reported.csv` holds every number of the paper's tables and those read off its vector figures, one value per row, in the
paper's units (percent, classes, ratio). Stand-ins are never set beside the paper. No torch.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from kdlib.errors import InvalidInput, require_known
from kdlib.measure.arms import between
from kdlib.paper.stand_in import STATED, all_reported, stand_in_reasons
from kdlib.predictions import Predictions
from kdlib.studies import Study

KEYS = ["model", "temperature", "metric"]
SAME_NUMBER = ["dataset", "label", "sensitive", "teacher", "student", "alpha", *KEYS]
PLOTTED, TO_TEN, FEATURES = STATED["plotted"], tuple(STATED["to_ten"]), STATED["features"]


def reported(artefact: str) -> pd.DataFrame:
    """The paper's numbers for 'table06', 'fig4b', ...: one value per row, as in reported.csv.

    artefact, dataset, label, sensitive, teacher, student, alpha, model, temperature, metric, mean, std, unit
    ('percent', 'classes' or 'ratio'), source ('final', 'arxiv_v1' or 'figure': the text that the value is from).
    Numbers stay in their unit; NaN where the paper gives none. Raises InvalidInput for an artefact without numbers.
    """
    table = all_reported()
    names = table["artefact"].str.split("+")
    valid = [*names.explode().unique(), *PLOTTED]
    require_known("artefact", artefact, valid, place="the paper's numbers")
    parts = [table[[source in found for found in names]] for source in PLOTTED.get(artefact, (artefact,))]
    return pd.concat(parts).drop_duplicates(SAME_NUMBER).reset_index(drop=True)


def at_its_temperatures(p: Predictions, artefact: str) -> Predictions:
    """The runs that an artefact shows: students at T = 2 .. 10 (fairness: 1 .. 10), or at every T of the profile.

    A profile without any student in that range shows all it has.
    """
    low = 1.0 if artefact in ("table02", "table03", "table04") else 2.0
    chosen = between(p, low, 10.0) if artefact in TO_TEN else p
    return chosen if chosen.temperatures else p


def sensitive_features(p: Predictions, study: Study, artefact: str) -> list[str]:
    """The sensitive features by which an artefact shows a study; of data sets that are not the paper's, all."""
    wanted = FEATURES[artefact].get(study.dataset, tuple(p.groups))
    return [name for name in wanted if name in p.groups]


def reported_features(study: Study, artefact: str) -> list[str]:
    """The sensitive features by which the paper reports its own study; empty for a stand-in and without groups."""
    features = FEATURES.get(artefact, {}).get(study.dataset, ())
    if not features or stand_in_reasons(study):
        return []
    table = reported(artefact)
    return [name for name in features if name in set(table.loc[table["dataset"] == study.dataset, "sensitive"])]


def beside(
    ours: pd.DataFrame, study: Study, artefact: str, *, sensitive: str | None = None, part: str = "test"
) -> pd.DataFrame:
    """`ours` with the paper's numbers for the same study, where the study is the paper's own.

    ours       one row per arm and metric: model, temperature (NaN for teacher and nds), metric (as in reported.csv),
               mean, and low and high, its interval; shares in fractions, counts as they are
    sensitive  the sensitive feature that the values are about; None takes rows of the paper without one
    part       of which part of the data set the values are; the paper reports "Test Acc.", and names no other part
    Adds paper_mean and paper_sd (in our unit: the paper's percent become fractions), paper_source (which text they are
    from), difference (ours - paper) and paper_inside (whether the paper's value lies in our interval; <NA> where the
    paper or our interval has no number). Ratios are not compared: their scale hangs on a distance that is not public.
    A stand-in, or another part than "test", comes back as it is, without these columns: its numbers cannot be set
    beside the paper's.
    Raises InvalidInput for missing columns or an artefact without numbers.
    """
    missing = [column for column in (*KEYS, "mean", "low", "high") if column not in ours]
    if missing:
        raise InvalidInput(f"the table lacks {', '.join(missing)}; it has {', '.join(ours.columns)}.")
    paper = reported_for(study, artefact, sensitive=sensitive)
    if stand_in_reasons(study) or part != "test":
        return ours.copy()
    joined = ours.merge(paper.drop(columns="unit"), on=KEYS, how="left", validate="many_to_one")
    # A ratio's scale hangs on a distance that the paper does not state.
    comparable = ~joined["metric"].isin(paper.loc[paper["unit"] == "ratio", "metric"])
    joined["difference"] = (joined["mean"] - joined["paper_mean"]).where(comparable)
    inside = joined["paper_mean"].between(joined["low"], joined["high"]).astype("boolean")
    joined["paper_inside"] = inside.mask(joined[["paper_mean", "low", "high"]].isna().any(axis=1) | ~comparable)
    return joined


def reported_for(study: Study, artefact: str, *, sensitive: str | None = None) -> pd.DataFrame:
    """The paper's numbers for its own study: model, temperature, metric, unit, paper_mean, paper_sd, paper_source.

    In our units: 'share' (fractions), 'classes', 'ratio'. sensitive as in `beside`. Empty for a stand-in, and where the
    artefact does not have the study. Raises InvalidInput for an artefact without numbers.
    """
    table = reported(artefact)
    same = (table["dataset"] == study.dataset) & (table["teacher"] == study.teacher["model"])
    same &= (table["student"] == study.student["model"]) & (table["alpha"] == study.alpha)
    same &= (table["label"] == study.data["label"]) if "label" in study.data else True
    # The paper does not say by which rule annotators name a group, so its numbers stand beside those of both.
    same &= table["sensitive"].isna() | (table["sensitive"] == (sensitive or "").removesuffix("_majority"))
    rows = table[same & (not stand_in_reasons(study))]
    scale = np.where(rows["unit"] == "percent", 0.01, 1.0)
    return rows[KEYS].assign(
        metric=rows["metric"].replace("individual_fairness", "mean_ratio"),  # the formula has become known since
        unit=rows["unit"].replace("percent", "share"),
        paper_mean=rows["mean"] * scale,
        paper_sd=rows["std"] * scale,
        paper_source=rows["source"],
    )
