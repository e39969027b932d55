"""Small tables for the tests of the audit."""

import numpy as np
import pandas as pd

from kdlib.predictions import RUN_COLUMNS, Predictions


def table(predicted, labels, *, groups=None, classes=("0", "1"), extra=None, teachers=None, **options):
    """{(model, seed): (N,) classes} -> Predictions. extra: {(model, seed): {column: number}}."""
    keys = list(predicted)
    rows = [(f"{m}-{s}", "own", m, s, np.nan, np.nan, (teachers or {}).get((m, s))) for m, s in keys]
    runs = pd.DataFrame(rows, columns=RUN_COLUMNS)
    if extra:
        runs = runs.join(pd.DataFrame([extra.get(key, {}) for key in keys]))
    return Predictions(
        runs=runs,
        predicted=np.array([predicted[key] for key in keys]),
        labels=np.asarray(labels),
        sample_ids=np.array([f"s{i:06d}" for i in range(len(labels))]),
        class_names=tuple(classes),
        groups={name: np.asarray(values) for name, values in (groups or {}).items()},
        **options,
    )


def binary(n=400, *, seeds=3, seed=0, models=("v1", "v2"), gap=0.0, drop=0.0):
    """Two models with groups f and m: v2 is right in `drop` fewer samples, and of group m in `gap` fewer positives."""
    rng = np.random.default_rng(seed)
    labels, sex = rng.integers(0, 2, n), rng.choice(["f", "m"], n)
    race = rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2])
    found = {}
    for model in models:
        worse = (model != models[0]) * (drop + gap * ((sex == "m") & (labels == 1)))
        for s in range(seeds):
            found[model, s] = np.where(rng.random(n) < 0.85 - worse, labels, 1 - labels)
    return table(found, labels, groups={"sex": sex, "race": race})
