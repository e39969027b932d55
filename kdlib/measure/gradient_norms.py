"""Norms of both terms of the distillation loss, as the runs noted them while they trained. No torch."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from kdlib import store
from kdlib.errors import NotTrained
from kdlib.measure import stats
from kdlib.measure.arms import TIDY
from kdlib.predictions.collect import describe
from kdlib.studies import Study

TERMS = ("teacher", "labels")


def gradients(study: Study, *, runs_dir: Path | str) -> pd.DataFrame:
    """Norms of both terms of the loss, as every run noted them in the first batch of each epoch.

    One row per run and epoch: run_id, model, seed, temperature, epoch, teacher, labels (Euclidean norm of the gradient
    of the weighted term with respect to the batch's logits; NaN for a term that the run does not have).
    Raises NotTrained if no distilled student of the study is there.
    """
    rows = []
    for run in study.runs():
        if run.role == "ds" and store.state(Path(runs_dir), run) == "done":
            about = {key: describe(run, study)[key] for key in ("run_id", "model", "seed", "temperature")}
            history = store.read(Path(runs_dir), run)[1]["history"]
            rows += [
                about | {"epoch": e["epoch"], "teacher": e["gradient_teacher"], "labels": e["gradient_labels"]}
                for e in history
            ]
    if not rows:
        raise NotTrained(f"no distilled student of {study.name!r} is in {runs_dir}: {study.command(runs_dir)}")
    return pd.DataFrame(rows)


def table(norms: pd.DataFrame) -> pd.DataFrame:
    """Mean over epochs, then over seeds: the rows of `arms.tidy`, metrics 'gradient_teacher', 'gradient_labels'."""
    runs = norms.groupby(["temperature", "seed"])[list(TERMS)].mean()
    rows = [
        {"temperature": temperature, "n_seeds": len(values), "metric": f"gradient_{term}"}
        | stats.mean_and_interval(values[term].to_numpy())
        for term in TERMS
        for temperature, values in runs.groupby("temperature")
    ]
    return pd.DataFrame(rows).assign(model="ds", unit="norm")[TIDY]
