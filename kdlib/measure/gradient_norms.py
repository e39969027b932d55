"""Norms of both terms of the distillation loss, as the runs noted them while they trained."""

from __future__ import annotations

import pandas as pd

from kdlib.errors import NotTrained
from kdlib.measure import stats
from kdlib.measure.arms import TIDY
from kdlib.predictions import Predictions

NOTED = ("gradient_teacher", "gradient_labels")


def table(predictions: Predictions) -> pd.DataFrame:
    """Mean over epochs, then over seeds: the rows of `arms.tidy`, metrics 'gradient_teacher', 'gradient_labels'.

    Euclidean norm of the gradient of the weighted term with respect to a batch's logits, in the first batch of each
    epoch. Raises NotTrained if no distilled student noted it: those released first did not.
    """
    runs = predictions.runs[predictions.runs["model"] == "ds"]
    if runs.empty or not {*NOTED} <= {*runs} or runs[[*NOTED]].isna().all(axis=None):
        raise NotTrained("no distilled student of these predictions noted the gradients of its loss; train the study.")
    rows = [
        {"temperature": temperature, "n_seeds": len(values), "metric": name}
        | stats.mean_and_interval(values[name].to_numpy())
        for name in NOTED
        for temperature, values in runs.groupby("temperature")
    ]
    return pd.DataFrame(rows).assign(model="ds", unit="norm")[TIDY]


def scalars(predictions: Predictions) -> dict[str, dict[str, float]]:
    """{run_id: its norms}, to be kept with a run."""
    known = predictions.runs.set_index("run_id")[[name for name in NOTED if name in predictions.runs]]
    return {run: row.dropna().to_dict() for run, row in known.iterrows()}
