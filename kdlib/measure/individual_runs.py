"""Individual fairness of every run: by neighbors and by counterfactual twins, with both controls for confidence.

The measures on arrays are in `individual`. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kdlib.catalogue import DATASETS
from kdlib.errors import InvalidInput, UndefinedMetric
from kdlib.measure import individual
from kdlib.measure.arms import SHARES, tidy
from kdlib.measure.individual import Neighbors
from kdlib.predictions import Predictions

ABOUT = ("run_id", "model", "seed", "temperature")


def by_run(
    predictions: Predictions,
    *,
    embedding: Neighbors | None = None,
    twins: Sequence[np.ndarray] | Neighbors | None = None,
    among: np.ndarray | None = None,
) -> pd.DataFrame:
    """Every measure for every run that the given material allows.

    embedding  each sample's neighbors by one frozen embedding: mean_ratio, lipschitz and inconsistency
    twins      of each run the probabilities (N, C) or (N, M, C) of the counterfactual twins, runs and samples in the
               order of `predictions`, or Neighbors that stand in for them: counterfactual
    among      (N,) bool, the samples over which counterfactual is the mean, such as `with_twin`; None, and always for
               Neighbors: all
    One row per run: run_id, model, seed, temperature, accuracy, confidence (mean largest probability),
    fitted_temperature (geometric mean of both halves), random_pairs (mean D of random pairs). For m of mean_ratio,
    counterfactual and lipschitz: `m`, `m_calibrated` (after temperature scaling by NLL, cross-fitted in two halves) and
    `m_relative` (m / random_pairs); mean_ratio_random (over random pairs of samples), too_near (share of the pairs that
    mean_ratio leaves out) and inconsistency. A trend in `m` that neither control shows is an effect of confidence.
    """
    _check_whole(predictions)
    if embedding is None and twins is None:
        raise InvalidInput("neither embedding nor twins given: nothing to compare inputs by.")
    stored = twins is not None and not isinstance(twins, Neighbors)
    n = len(predictions.labels)
    if stored and len(twins) != len(predictions.runs):
        raise InvalidInput(f"twins of {len(twins)} runs for {len(predictions.runs)} runs.")
    among = np.ones(n, bool) if among is None else individual.check_length(among, n, "among")
    if stored and not among.any():
        raise UndefinedMetric("no sample has a twin that differs from it: no counterfactual measure.")
    frame, order = predictions.runs[[*ABOUT]].reset_index(drop=True), np.argsort(predictions.sample_ids)
    found = [
        _run_row(p, predictions.labels, embedding, twins[run] if stored else twins, among, order)
        for run, p in enumerate(predictions.probabilities)
    ]
    return frame.assign(accuracy=predictions.accuracy).join(pd.DataFrame(found))


def _check_whole(predictions: Predictions) -> None:
    if predictions.probabilities is None:
        raise InvalidInput(
            "these predictions have classes alone; individual fairness needs probabilities (columns prob_* or logit_*)."
        )


def _run_row(
    p: np.ndarray,
    labels: np.ndarray,
    near: Neighbors | None,
    twin: np.ndarray | Neighbors | None,
    among: np.ndarray,
    order: np.ndarray,
) -> dict[str, float]:
    """`order` by sample id: random pairs and halves are drawn along it, whatever the order of rows."""
    p, t = p.astype(float), np.empty(len(p))
    t[order] = individual.cross_fitted_temperature(p[order], labels[order])
    soft = individual.rescale(p, t[:, None])
    a, b = (order[pair] for pair in individual.random_pairs(len(p)))
    apart = float(individual.total_variation(p[a], p[b]).mean())
    if apart == 0:
        raise UndefinedMetric("a run gives every input the same output: D relative to random pairs is undefined.")

    def with_controls(name: str, value: float, calibrated: float) -> dict[str, float]:
        return {name: value, f"{name}_calibrated": calibrated, f"{name}_relative": value / apart}

    row = {"confidence": float(p.max(axis=1).mean()), "fitted_temperature": float(np.exp(np.log(t).mean()))}
    row["random_pairs"] = apart
    if near is not None:
        row |= with_controls("mean_ratio", individual.mean_ratio(p, near), individual.mean_ratio(soft, near))
        row["too_near"] = individual.share_too_near(near)
        row["mean_ratio_random"] = individual.mean_ratio(p, near.pairs(a, b))
    if twin is not None:
        outputs, calibrated, scaled = p, soft, twin
        if not isinstance(twin, Neighbors):  # a twin is scaled as its original
            scaled = individual.rescale(twin, t.reshape(-1, *[1] * (twin.ndim - 1)))
            outputs, calibrated, twin, scaled = p[among], soft[among], twin[among], scaled[among]
        raw = individual.counterfactual(outputs, twin)
        row |= with_controls("counterfactual", raw, individual.counterfactual(calibrated, scaled))
    if near is not None:
        row |= with_controls("lipschitz", individual.lipschitz(p, near), individual.lipschitz(soft, near))
        row["inconsistency"] = individual.inconsistency(p, near)
    return row


def frozen_embedding(predictions: Predictions) -> Neighbors | None:
    """The neighbors of the same label by what describes the samples: their features, or on Trifeature color, texture
    and shape as 0 and 1.

    None where nothing of the kind is known. Groups alone describe no face and no post.
    """
    described = predictions.features
    if described is None and predictions.groups and set(predictions.groups) < set(DATASETS["trifeature"].groups):
        described = pd.get_dummies(pd.DataFrame(predictions.groups)).to_numpy(float)  # all but the label
    return None if described is None else individual.neighbors(described, labels=predictions.labels)


def all_twins(predictions: Predictions) -> dict[str, Sequence[np.ndarray] | Neighbors]:
    """{sensitive feature: of each run (N, C) probabilities of the twins}: the stored ones; without any, by features.

    There the nearest sample of another group with the same label stands in (`nearest_of_another_group`), which differs
    in more than the group. Empty where neither is to be had. Raises UndefinedMetric where one group alone has a label,
    InvalidInput where there are features, but no probabilities.
    """
    if predictions.twins or predictions.features is None:
        return dict(predictions.twins)
    _check_whole(predictions)
    return {
        name: individual.nearest_of_another_group(predictions.features, values, labels=predictions.labels)
        for name, values in predictions.groups.items()
    }


def with_twin(predictions: Predictions, changed: str) -> np.ndarray:
    """(N,) bool: the samples whose twin differs from them: all, but of posts those with a word of the feature."""
    words = predictions.groups.get(f"{changed}_words")
    return np.ones(len(predictions.labels), bool) if words is None else words == "some"


def twins_in_words(predictions: Predictions, changed: str) -> str:
    """What the twins by a sensitive feature are, for a title."""
    if changed not in predictions.twins:
        return f"the nearest sample of another group by {changed}"
    among = with_twin(predictions, changed)
    return f"{changed} changed in {among.sum():,} of {len(among):,} test samples"


def by_feature(predictions: Predictions, *, embedding: Neighbors | None = None) -> dict[str, pd.DataFrame]:
    """{sensitive feature: `by_run` against the twins by it}: every feature that has twins (`all_twins`).

    What `scalars` released comes before, whatever the embedding: it was measured by features that are not released.
    Empty where there is none of it.
    """
    return _released(predictions) or {
        changed: by_run(predictions, twins=twins, among=with_twin(predictions, changed), embedding=embedding)
        for changed, twins in all_twins(predictions).items()
    }


def scalars(predictions: Predictions) -> dict[str, dict[str, float]]:
    """{run_id: {'<sensitive feature>:<measure>': value}}: `by_feature` of predictions with features, for a release.

    The features themselves (a face's annotated attributes but for label and groups) are not released. Empty for
    predictions without features: theirs is measured again from released outputs, where all probabilities are released.
    """
    if predictions.features is None:
        return {}
    near = frozen_embedding(predictions)
    found = {run_id: {} for run_id in predictions.runs["run_id"]}
    for changed, runs in by_feature(predictions, embedding=near).items():
        for row in runs.to_dict("records"):
            found[row["run_id"]] |= {f"{changed}:{m}": value for m, value in row.items() if m not in ABOUT}
    return found


def _released(predictions: Predictions) -> dict[str, pd.DataFrame]:
    runs, found = predictions.runs.reset_index(drop=True), {}
    for changed in predictions.groups:
        names = {name: name.removeprefix(f"{changed}:") for name in runs if name.startswith(f"{changed}:")}
        if names:
            found[changed] = runs[[*ABOUT, *names]].rename(columns=names)
    return found


def table(predictions: Predictions, runs: pd.DataFrame) -> pd.DataFrame:
    """One row per arm and measure of `runs`, which has one row per run, from `by_run` or `by_feature`: `arms.tidy`.

    Where samples have no distance, as posts, or none that was released, the rows of mean_ratio are empty.
    """
    units = {name: "share" if name in SHARES else "ratio" for name in runs if name not in ABOUT}
    found = tidy(predictions, runs, units)
    if "mean_ratio" in units:
        return found
    arms = found[found["metric"] == "accuracy"][["model", "temperature", "n_seeds"]]
    return pd.concat([found, arms.assign(metric="mean_ratio", unit="ratio")], ignore_index=True)
