"""Groups: rates and their differences for one sensitive feature, of every arm, with joint intervals and floors."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import combinations, islice

import numpy as np
import pandas as pd

from kdlib.auditing.classes import largest_drop, sd
from kdlib.auditing.compared import Compared, Pair
from kdlib.errors import InvalidInput, unknown
from kdlib.measure import fairness, group_counts
from kdlib.measure.group_counts import DIFFERENCES, Cells
from kdlib.measure.joint_counts import Intervals, Moments, intervals, pair_counts
from kdlib.measure.stats import LEVEL

RATES = ("selection_rate", "tpr", "fpr")
OF_RATES = {"dpd": [0], "tpr_difference": [1], "fpr_difference": [2], "eod": [1, 2]}
WORK = 4e8  # rows that are permuted for the floors, all runs and draws together


def measure(compared: Compared, sensitive: str, cells: Cells) -> dict[str, pd.DataFrame]:
    """The frames 'metrics', 'groups', 'differences' and 'runs' of one sensitive feature, counted in `cells`."""
    by_run = _scores(group_counts.rates(cells))
    label_dpd = float(_scores(group_counts.divide(cells, cells.below[1], cells.below[1]))["dpd"])
    found: dict[str, list] = {"metrics": [], "groups": [], "differences": []}
    for pair in (compared.alone, *compared.pairs):
        rates, correct = _moments(pair, cells)
        mine = compared.rows(pair.name)
        found["groups"] += _by_group(pair, cells, rates, correct)
        found["differences"] += _contrasts(pair, cells, rates)
        scores = {name: values[mine] for name, values in by_run.items()}
        found["metrics"] += _metrics(pair, rates, scores) + _drop(pair, cells, correct)
        gap = float(np.abs(scores["dpd"] - label_dpd).mean())
        found["metrics"] += [{"arm": pair.name, "metric": "label_dpd", "mean": label_dpd}]
        found["metrics"] += [{"arm": pair.name, "metric": "dpd_gap", "mean": gap}]
    frames = {name: pd.DataFrame(rows) for name, rows in found.items()}
    frames["metrics"] = pd.concat([frames["metrics"], _floors(compared, cells)], ignore_index=True)
    runs = compared.predictions.runs[["run_id", "model", "seed"]].rename(columns={"model": "arm"})
    frames["runs"] = runs.assign(**by_run).melt(["run_id", "arm", "seed"], var_name="metric")
    return {name: frame.assign(sensitive=sensitive) for name, frame in frames.items()}


def _moments(pair: Pair, cells: Cells) -> tuple[Moments, Moments]:
    """Of the three rates one-vs-rest, cells (3, K, G), and of being right, cells (G,)."""
    shape = len(cells.groups), cells.n_classes
    selected, hits = pair_counts(pair.predicted, pair.labels, cells.codes, shape)
    scored = [counts[:, cells.scored].swapaxes(0, 1) for counts in (selected, hits, selected - hits)]
    rates = Moments.of_events(cells.below.swapaxes(1, 2), np.stack(scored))
    return rates, Moments.of_events(cells.below[0, :, 0], hits.sum(axis=1))


def _by_group(pair: Pair, cells: Cells, rates: Moments, correct: Moments) -> Iterator[dict[str, object]]:
    """One row per metric, class and group: accuracy, selection rate, TPR and FPR with their own 95 % intervals."""
    each = np.eye(len(cells.groups))
    found = intervals(correct, pair.own, each, change=False)
    about = {"arm": pair.name, "metric": "accuracy", "class_name": ""}
    for g, group in enumerate(cells.groups):
        yield about | {"group": group, "n": int(correct.rows[g])} | _ends(found, g)
    found = intervals(rates, pair.own, each, change=False)
    for place in np.ndindex(found.value.shape):
        metric, k, g = place
        about = {"arm": pair.name, "metric": RATES[metric], "class_name": cells.classes[k], "group": cells.groups[g]}
        yield about | {"n": int(rates.rows[place])} | _ends(found, place)


def _contrasts(pair: Pair, cells: Cells, rates: Moments) -> Iterator[dict[str, object]]:
    """One row per metric, class and pair of groups: first minus second, and its change from the baseline.

    The intervals of one arm and metric hold together (Bonferroni). Nearer 0 is more alike, lower is not.
    """
    weights = _pairs(len(cells.groups))
    each = 1 - LEVEL / (len(cells.classes) * len(weights))
    found = intervals(rates, pair.own, weights, change=False, coverage=each)
    moved = intervals(rates, pair.change, weights, change=True, coverage=each) if pair.n_base else None
    for place in np.ndindex(found.value.shape):
        metric, k, j = place
        row = {"arm": pair.name, "metric": DIFFERENCES_OF[metric], "class_name": cells.classes[k]}
        row |= {"first": cells.groups[weights[j].argmax()], "second": cells.groups[weights[j].argmin()]}
        row |= {"difference": found.value[place], "low": found.low[place], "high": found.high[place]}
        if moved is not None:
            row |= {"change": moved.value[place], "change_low": moved.low[place], "change_high": moved.high[place]}
        yield row


DIFFERENCES_OF = ("dpd", "tpr_difference", "fpr_difference")


def _metrics(pair: Pair, rates: Moments, scores: dict[str, np.ndarray]) -> list[dict[str, object]]:
    """DPD, EOD and its parts of one arm: the mean over runs, and bounds from contrasts that hold together.

    Largest minus smallest has no interval of its own. But if all differences between pairs of groups lie in their
    simultaneous intervals, the largest lies between the largest of their least and of their greatest sizes; of several
    classes these are averaged. `high` is never below the mean over runs, each of which has its own largest difference.
    """
    weights = _pairs(rates.rows.shape[-1])
    rows = []
    for name, which in OF_RATES.items():
        of = Moments(*(part[which] for part in rates))
        each = 1 - LEVEL / (of.rows.shape[0] * of.rows.shape[1] * len(weights))
        found = intervals(of, pair.own, weights, change=False, coverage=each)
        least = np.maximum(0, np.maximum(found.low, -found.high)).max(axis=(0, 2)).mean()
        most = np.maximum(np.abs(found.low), np.abs(found.high)).max(axis=(0, 2)).mean()
        mean = float(scores[name].mean())
        rows.append({"arm": pair.name, "metric": name, "mean": mean, "sd": sd(scores[name])})
        rows[-1] |= {"low": float(least), "high": float(np.fmax(most, mean))}
    return rows


def _drop(pair: Pair, cells: Cells, correct: Moments) -> list[dict[str, object]]:
    """group_drop: by how much the accuracy falls from the baseline in the group where it falls most."""
    if not pair.n_base:
        return []
    each = 1 - LEVEL / len(cells.groups)
    found = intervals(correct, pair.change, np.eye(len(cells.groups)), change=True, coverage=each)
    return [{"arm": pair.name, "metric": "group_drop"} | largest_drop(found.value, found.low, found.high, cells.groups)]


def _scores(rates: np.ndarray) -> dict[str, np.ndarray]:
    """`group_counts.differences`, but NaN where one is undefined."""
    dpd, tpr, fpr = np.moveaxis(group_counts.spread(rates), -2, 0)
    parts = dict(zip(DIFFERENCES, (dpd, np.maximum(tpr, fpr), tpr, fpr), strict=True))
    known = {name: ~np.isnan(values) for name, values in parts.items()}
    with np.errstate(invalid="ignore"):
        return {
            name: np.where(known[name], values, 0).sum(axis=-1) / known[name].sum(axis=-1)
            for name, values in parts.items()
        }


def _floors(compared: Compared, cells: Cells) -> pd.DataFrame:
    """What DPD and EOD are where an arm does not react to the group: mean and 95th percentile of permutations.

    As fairness.floors: groups permuted within each label, mean over the runs of an arm.
    """
    draws = int(np.clip(WORK / cells.outcome.size, 50, 200))
    permuted = islice(fairness.permuted_within_labels(cells, np.random.default_rng(0)), draws)
    drawn = [_scores(group_counts.rates(cells, codes)) for codes in permuted]
    by_arm = {arm: compared.rows(arm) for arm in compared.arms.index}
    rows = [
        {"arm": arm, "metric": f"{name}_floor", "mean": of_arm.mean(), "high": np.quantile(of_arm, 0.95)}
        for name in ("dpd", "eod")
        for arm, mine in by_arm.items()
        for of_arm in [np.array([scores[name][mine].mean() for scores in drawn])]
    ]
    return pd.DataFrame(rows)


def _pairs(n: int) -> np.ndarray:
    """(P, n): one group minus another, for each pair."""
    weights = np.zeros((n * (n - 1) // 2, n))
    for row, (first, second) in zip(weights, combinations(range(n), 2), strict=True):
        row[first], row[second] = 1, -1
    return weights


def _ends(found: Intervals, place: object) -> dict[str, float]:
    return {"mean": found.value[place], "low": found.low[place], "high": found.high[place]}


def told(cells: Cells, sensitive: str) -> list[str]:
    _, positive, negative = cells.below
    fewest, told = np.minimum(positive, negative), []
    for chosen, what in (
        (fewest == 0, "has no sample, so a rate is undefined and left out"),
        ((fewest > 0) & (fewest < fairness.FEW), f"has fewer than {fairness.FEW}, so rates are coarse"),
    ):
        if chosen.any():
            pairs = group_counts.describe_pairs(cells, chosen)
            pairs = pairs if len(pairs) <= 300 else f"{pairs[:300]} ..."
            told.append(
                f"{sensitive}: one side of {chosen.sum()} of {chosen.size} pairs of group and class {what}: {pairs}."
            )
    return told


def by_fairlearn(compared: Compared, metric: str, sensitive: str, cells: Cells) -> pd.DataFrame:
    """A metric of fairlearn.metrics by name, for every run: by group (MetricFrame) and their difference.

    run_id, arm, seed, metric, sensitive, group ('' for the whole), value. A metric that takes sensitive_features itself
    has the whole alone. Raises InvalidInput for a name that fairlearn.metrics does not have, or a metric that fails.
    """
    from fairlearn import metrics

    name, p = metric.removeprefix("fairlearn.metrics."), compared.predictions
    measure = getattr(metrics, name, None) if name in metrics.__all__ else None
    if not inspect.isfunction(measure):
        functions = [one for one in metrics.__all__ if inspect.isfunction(getattr(metrics, one))]
        raise unknown("metric", metric, functions, place="fairlearn.metrics")
    of_samples, rows = np.array(cells.groups, object)[cells.codes], []
    for run, predicted in zip(p.runs.itertuples(), p.predicted, strict=True):
        about = {"run_id": run.run_id, "arm": run.model, "seed": run.seed, "metric": name, "sensitive": sensitive}
        try:
            values = _fairlearn_values(metrics, measure, (p.labels, predicted, of_samples))
        except Exception as error:  # whatever a metric of others raises is about its input
            raise InvalidInput(f"fairlearn's {name} fails on run {run.run_id} by {sensitive}: {error}") from error
        rows += [about | {"group": group, "value": float(value)} for group, value in values.items()]
    return pd.DataFrame(rows)


def _fairlearn_values(metrics, measure, of: tuple) -> dict[str, float]:
    y_true, y_pred, groups = of
    if "sensitive_features" in inspect.signature(measure).parameters:
        return {"": measure(y_true, y_pred, sensitive_features=groups)}
    frame = metrics.MetricFrame(metrics=measure, y_true=y_true, y_pred=y_pred, sensitive_features=groups)
    return {"": frame.overall, "largest - smallest": frame.difference(), **frame.by_group.to_dict()}
