"""Group fairness: how much rates differ between the groups of a sensitive feature.

Demographic parity difference (DPD) and equalized odds difference (EOD) with fairlearn's signatures, the paper's
Algorithm 1 for several classes, and the values that chance and the labels alone produce ("floors"). Intervals are
in `joint_intervals`, individual fairness is in `individual`. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from kdlib.errors import InvalidInput, UndefinedMetric, caution
from kdlib.measure import group_counts
from kdlib.measure.arms import TIDY, arm_rows, tidy
from kdlib.measure.group_counts import Cells, crosstab, differences, rates
from kdlib.predictions import Predictions, as_array

MEASURED = ("accuracy", "eod", "dpd", "tpr_difference", "fpr_difference", "dpd_gap")
FEW = 5  # fewer positives or negatives than this make a rate too coarse to compare


def demographic_parity_difference(y_true, y_pred, *, sensitive_features) -> float:
    """DPD = max_a P(Yhat=1 | A=a) - min_a P(Yhat=1 | A=a), the paper's definition.

    y_true, y_pred, sensitive_features: (N,); labels and predictions are 0 or 1, class 1 is the positive one. `y_true`
    is checked and otherwise not used. Range 0 .. 1; 0 means that every group is predicted positive equally often, which
    a perfect classifier reaches only if the groups' base rates are equal: DPD(y_true, y_true) is the gap in the labels.
    Raises InvalidInput for anything but 0/1 labels and complete groups, UndefinedMetric for fewer than two groups.
    """
    return _two_class_difference(y_true, y_pred, sensitive_features, (0,))


def true_positive_rate_difference(y_true, y_pred, *, sensitive_features) -> float:
    """max_a TPR_a - min_a TPR_a, with TPR_a = P(Yhat=1 | Y=1, A=a); "equal opportunity difference".

    Arguments as for `demographic_parity_difference`. Range 0 .. 1; 0 means equal TPR in all groups.
    Raises UndefinedMetric if a group has no positives (fairlearn 0.15 takes its TPR as 0).
    """
    return _two_class_difference(y_true, y_pred, sensitive_features, (1,))


def false_positive_rate_difference(y_true, y_pred, *, sensitive_features) -> float:
    """max_a FPR_a - min_a FPR_a, with FPR_a = P(Yhat=1 | Y=0, A=a).

    Arguments as for `demographic_parity_difference`. Range 0 .. 1; 0 means equal FPR in all groups.
    Raises UndefinedMetric if a group has no negatives.
    """
    return _two_class_difference(y_true, y_pred, sensitive_features, (2,))


def equalized_odds_difference(y_true, y_pred, *, sensitive_features) -> float:
    """EOD = max(TPR difference, FPR difference): the worst-case form of the paper and of fairlearn.

    Arguments as for `demographic_parity_difference`. Range 0 .. 1; 0 means equal TPR and equal FPR in all groups, as
    in a perfect classifier. Raises UndefinedMetric if a group has no positives or no negatives.
    """
    return _two_class_difference(y_true, y_pred, sensitive_features, (1, 2))


def _two_class_difference(y_true, y_pred, sensitive_features, which: Sequence[int]) -> float:
    labels, predicted = _zero_one(y_true, "y_true"), _zero_one(y_pred, "y_pred")
    codes, names = group_counts.encode_groups(sensitive_features, "sensitive_features")
    lengths = {"y_true": len(labels), "y_pred": len(predicted), "sensitive_features": len(codes)}
    if len(set(lengths.values())) > 1:
        raise InvalidInput(f"lengths differ: {lengths}. Pass one label, prediction and group for each sample.")
    cells = group_counts.build_cells(labels, predicted[None], codes, names, ("0", "1"))
    for rate in which:
        if not cells.usable[rate].all():
            raise UndefinedMetric(
                f"{group_counts.RATES[rate]} is undefined: {group_counts.describe_pairs(cells, ~cells.usable[rate])}. "
                "Leave these groups out or merge them, and say so."
            )
    return float(max(group_counts.spread(rates(cells))[0, rate, 0] for rate in which))


def _zero_one(values, place: str) -> np.ndarray:
    """`values` as (N,) int, all 0 or 1."""
    array = as_array(values, place)
    remedy = "Pass hard predictions and labels as 0 and 1 (1 is the positive class)"
    if array.ndim != 1 or not array.size:
        raise InvalidInput(f"{place} has shape {array.shape}; one value for each of at least one sample is needed.")
    if array.dtype.kind not in "biuf":
        other = [
            value for value in array if not isinstance(value, (bool, int, float, np.integer, np.floating, np.bool_))
        ]
        if other:
            raise InvalidInput(
                f"{place} has {other[0]!r} in {len(other)} of {len(array)} places, not 0 or 1. {remedy}."
            )
        array = array.astype(float)
    wrong = (array != 0) & (array != 1)
    if wrong.any():
        found = ", ".join(str(value) for value in pd.unique(array[wrong])[:3])
        raise InvalidInput(
            f"{place} has {found} in {wrong.sum()} of {len(array)} places, first at position "
            f"{int(np.argmax(wrong))}, not 0 or 1. {remedy}; for several classes use group_fairness."
        )
    return array.astype(np.intp)


# --- Predictions: all runs at once ----------------------------------------------------------------------------------


def group_fairness(
    predictions: Predictions, *, sensitive: str, missing: str = "error", exclude_below: int = 0
) -> pd.DataFrame:
    """DPD and EOD of every run between the groups of `sensitive`, a key of `predictions.groups`.

    Two classes: class 1 is the positive one. Several: Algorithm 1 of the paper, the difference one-vs-rest for each
    class, then the plain mean over classes. All values are fractions, 0 .. 1; 0 means no difference between groups.

    missing        samples without a value: "error", "group" (a group of their own) or "drop" (counted in `n_dropped`)
    exclude_below  pairs of class and group with fewer positives or negatives than this are left out of all rates

    A rate with an empty denominator is left out, named in `left_out` and warned about, never taken as 0.
    Returns one row per run: run_id, model, seed, temperature, accuracy, dpd, eod, tpr_difference, fpr_difference,
    label_dpd (DPD of the labels: what a perfect classifier has), dpd_gap = |dpd - label_dpd|, n_left_out and left_out
    (pairs of group and class, in words), n_small and small (pairs used with fewer than 5 positives or negatives),
    n_dropped.
    Raises InvalidInput (unknown or continuous feature, missing values), UndefinedMetric (one group, or no class left).
    """
    cells, n_dropped = group_counts.prepare(
        predictions, sensitive=sensitive, missing=missing, exclude_below=exclude_below
    )
    _, positive, negative = cells.below
    out = ~cells.usable.all(axis=0)
    small = (np.minimum(positive, negative) < FEW) & cells.usable.any(axis=0)
    _warn(cells, sensitive, out, "are left out of at least one rate", "Say so beside the value")
    coarse = f"have fewer than {FEW} positives or negatives, so their rates are coarse and differences biased upwards"
    _warn(cells, sensitive, small & ~out, coarse, f"exclude_below={FEW} leaves them out")
    scores = differences(rates(cells))
    label_dpd = differences(group_counts.divide(cells, positive, positive))["dpd"]  # of a perfect classifier
    frame = predictions.runs[["run_id", "model", "seed", "temperature"]].reset_index(drop=True)
    return frame.assign(
        accuracy=(cells.outcome & 1).mean(axis=1),
        **scores,
        label_dpd=float(label_dpd),
        dpd_gap=np.abs(scores["dpd"] - label_dpd),
        n_left_out=int(out.sum()),
        left_out=group_counts.describe_pairs(cells, out),
        n_small=int(small.sum()),
        small=group_counts.describe_pairs(cells, small),
        n_dropped=n_dropped,
    )


def _warn(cells: Cells, sensitive: str, chosen: np.ndarray, verb: str, remedy: str) -> None:
    """Warn of the (G, K) chosen pairs, if there are any."""
    if chosen.any():
        text = group_counts.describe_pairs(cells, chosen)
        text = text if len(text) <= 300 else text[:300] + " ..."
        caution(f"{chosen.sum()} of {chosen.size} pairs of group ({sensitive}) and class {verb}: {text}. {remedy}.")


def floors(predictions: Predictions, *, sensitive: str, draws: int = 200, seed: int = 0) -> pd.DataFrame:
    """What the differences would be if the model did not react to the group: chance and label mix alone.

    Rows as of `arms.tidy`, of the arm's mean over seeds, all runs of an arm seeing the same permuted groups. `high` is
    the 95th percentile over `draws` permutations; sd and low are NaN. For each m of dpd, eod, tpr_difference,
    fpr_difference the metrics
    m_floor            groups permuted within each label. The confusion matrix of the run and the label counts of each
                       group stay as they are: this is an attribute-blind classifier with the run's own confusion
                       matrix, on this many samples
    m_blind            the same without the noise of a finite sample, computed exactly: the run's confusion matrix
                       applied to each group's labels; no high. 0 for EOD with two classes; DPD keeps the labels' part
    and dpd_overall_floor: groups permuted over all samples. Chance alone, label gap removed.
    A value inside its floor is no evidence of a disparity. `seed` starts numpy's default_rng.
    """
    if draws < 20:
        raise InvalidInput(f"draws is {draws}; a 95th percentile needs 20 permutations at least (default 200).")
    cells, _ = group_counts.prepare(predictions, sensitive=sensitive)
    drawn = []
    for within, overall in permuted_groups(cells, draws, np.random.default_rng(seed)):
        drawn.append(differences(rates(cells, within)) | {"dpd_overall": differences(rates(cells, overall))["dpd"]})
    metrics = {f"{name}_floor": np.stack([floor[name] for floor in drawn]) for name in drawn[0]}
    metrics |= {f"{name}_blind": values[None] for name, values in differences(_blind_rates(cells)).items()}
    rows = [
        arm.about | {"metric": metric} | mean_and_high(values[:, arm.rows])
        for metric, values in metrics.items()
        for arm in arm_rows(predictions.runs)
    ]
    return pd.DataFrame(rows).assign(unit="share").reindex(columns=TIDY)


def permuted_groups(cells: Cells, draws: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of group codes (N,): permuted within each label, and over all samples."""
    for _, within in zip(range(draws), permuted_within_labels(cells, rng), strict=False):
        yield within, rng.permutation(cells.codes)


def permuted_within_labels(cells: Cells, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Group codes (N,) permuted within each label, without end."""
    order = np.argsort(cells.labels, kind="stable")
    blocks = np.split(cells.codes[order], np.cumsum(np.bincount(cells.labels))[:-1])
    while True:
        within = np.empty_like(cells.codes)
        within[order] = np.concatenate([rng.permutation(block) for block in blocks])
        yield within


def _blind_rates(cells: Cells) -> np.ndarray:
    """(R, 3, G, K) expected rates if each group's samples of a label were predicted as all samples of that label."""
    by_label = crosstab(cells.codes, cells.labels, len(cells.groups), cells.n_classes)
    confusion = np.stack([crosstab(cells.labels, row // 2, cells.n_classes, cells.n_classes) for row in cells.outcome])
    confusion = confusion / np.maximum(by_label.sum(axis=0), 1)[:, None]  # (R, C label, C predicted), rows sum to 1
    selected = (by_label @ confusion)[:, :, cells.scored]
    hits = (by_label * np.diagonal(confusion, axis1=1, axis2=2)[:, None, :])[:, :, cells.scored]
    return group_counts.divide(cells, selected, hits)


def mean_and_high(drawn: np.ndarray) -> dict[str, float]:
    """Of the mean over runs of values (draws, R): its mean, and its 95th percentile; NaN for a single draw."""
    drawn = drawn.mean(axis=1)
    return {"mean": drawn.mean(), "high": np.quantile(drawn, 0.95) if len(drawn) > 1 else np.nan}


def table(predictions: Predictions, *, sensitive: str) -> pd.DataFrame:
    """One row per arm and metric (see `arms.tidy`): over seeds, beside the labels' own DPD and the floors.

    Metrics: accuracy, eod, dpd, tpr_difference, fpr_difference, dpd_gap; label_dpd; those of `floors`. Fractions
    throughout. n_left_out, n_small, n_dropped, the same in all rows, are those of `group_fairness`, which says what is
    raised.
    """
    runs = group_fairness(predictions, sensitive=sensitive)
    found = tidy(predictions, runs, dict.fromkeys(MEASURED, "share"))
    arms = found[found["metric"] == "accuracy"].drop(columns=["sd", "low", "high"])
    labels = arms.assign(metric="label_dpd", mean=runs["label_dpd"].iloc[0])
    chance = floors(predictions, sensitive=sensitive)
    same = {name: runs[name].iloc[0] for name in ("n_left_out", "n_small", "n_dropped")}
    return pd.concat([found, labels, chance], ignore_index=True).assign(**same)
