"""Groups: rates and their differences for one sensitive feature, of every arm, with joint intervals and floors."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from itertools import combinations, islice, product

import numpy as np
import pandas as pd

from kdlib.auditing.classes import largest_drop, sd
from kdlib.auditing.compared import Compared, Pair
from kdlib.errors import InvalidInput, unknown
from kdlib.measure import fairness, group_counts
from kdlib.measure.group_counts import Cells
from kdlib.measure.joint_intervals import Intervals, Moments, intervals, pair_counts
from kdlib.measure.stats import LEVEL

OF_RATES = {"dpd": [0], "tpr_difference": [1], "fpr_difference": [2], "eod": [1, 2]}
WORK = 4e8  # rows that are permuted for the floors, all runs and draws together


def measure(compared: Compared, sensitive: str, cells: Cells) -> dict[str, pd.DataFrame]:
    """The frames 'metrics', 'groups', 'differences' and 'runs' of one sensitive feature, counted in `cells`."""
    by_run = group_counts.scores(group_counts.rates(cells))
    label_dpd = float(group_counts.scores(group_counts.divide(cells, cells.below[1], cells.below[1]))["dpd"])
    metrics, rates, contrasts = _floors(compared, cells), [], []
    for pair in compared:
        of_rates, of_right = _moments(pair, cells)
        scores = {name: values[compared.rows(pair.name)] for name, values in by_run.items()}
        gap = np.abs(scores["dpd"] - label_dpd).mean()
        found = [*_bounds(pair, of_rates, scores), *_drop(pair, cells, of_right)]
        found += [{"metric": "label_dpd", "mean": label_dpd}, {"metric": "dpd_gap", "mean": gap}]
        metrics += [{"arm": pair.name} | row for row in found]
        rates.append(_by_group(pair, cells, of_rates, of_right))
        contrasts.append(_contrasts(pair, cells, of_rates))
    frames = {"metrics": pd.DataFrame(metrics), "groups": pd.concat(rates), "differences": pd.concat(contrasts)}
    frames["runs"] = compared.runs.assign(**by_run).melt(["run_id", "arm", "seed"], var_name="metric")
    return {name: frame.assign(sensitive=sensitive) for name, frame in frames.items()}


def _moments(pair: Pair, cells: Cells) -> tuple[Moments, Moments]:
    """Of the three rates one-vs-rest, cells (3, K, G), and of being right, cells (G,)."""
    shape = len(cells.groups), cells.n_classes
    selected, hits = pair_counts(pair.predicted, pair.labels, cells.codes, shape)
    scored = [counts[:, cells.scored].swapaxes(0, 1) for counts in (selected, hits, selected - hits)]
    rates = Moments.of_events(cells.below.swapaxes(1, 2), np.stack(scored))
    return rates, Moments.of_events(cells.below[0, :, 0], hits.sum(axis=1))


def _by_group(pair: Pair, cells: Cells, rates: Moments, right: Moments) -> pd.DataFrame:
    """One row per metric, class and group: accuracy, selection rate, TPR and FPR with their own 95 % intervals."""
    each, axes = np.eye(len(cells.groups)), {"class_name": cells.classes, "group": cells.groups}
    accuracy = _tidy(intervals(right, pair.own, each, change=False), {"metric": ["accuracy"], "group": cells.groups})
    others = _tidy(intervals(rates, pair.own, each, change=False), {"metric": ["selection_rate", "tpr", "fpr"]} | axes)
    frames = accuracy.assign(n=right.rows, class_name=""), others.assign(n=rates.rows.ravel())
    return pd.concat(frames).assign(arm=pair.name)


def _contrasts(pair: Pair, cells: Cells, rates: Moments) -> pd.DataFrame:
    """One row per metric, class and pair of groups: first minus second, and its change from the baseline.

    The intervals of one arm and metric hold together (Bonferroni). Nearer 0 is more alike, lower is not.
    """
    weights, pairs = _pairs(len(cells.groups)), [*combinations(cells.groups, 2)]
    axes = {"metric": ["dpd", "tpr_difference", "fpr_difference"], "class_name": cells.classes, "pair": pairs}
    each = 1 - LEVEL / (len(cells.classes) * len(pairs))
    frame = _tidy(intervals(rates, pair.own, weights, change=False, coverage=each), axes)
    if pair.n_base:
        moved = _tidy(intervals(rates, pair.change, weights, change=True, coverage=each), axes)
        frame[["change", "change_low", "change_high"]] = moved[["mean", "low", "high"]]
    frame["first"], frame["second"] = zip(*frame.pop("pair"), strict=True)
    return frame.assign(arm=pair.name)


def _tidy(found: Intervals, axes: Mapping[str, Sequence]) -> pd.DataFrame:
    """One row per place in the arrays, whose axes have these names and labels."""
    index = pd.MultiIndex.from_product(axes.values(), names=list(axes))
    values = {"mean": found.value.ravel(), "low": found.low.ravel(), "high": found.high.ravel()}
    return pd.DataFrame(values, index).reset_index()


def _bounds(pair: Pair, rates: Moments, scores: Mapping[str, np.ndarray]) -> list[dict[str, object]]:
    """DPD, EOD and its parts of one arm: the mean over runs, and bounds from contrasts that hold together.

    Largest minus smallest has no interval of its own. But if all differences between pairs of groups lie in their
    simultaneous intervals, the largest lies between the largest of their least and of their greatest sizes; of several
    classes these are averaged. `high` is never below the mean over runs, each of which has its own largest difference.
    """
    weights, rows = _pairs(rates.rows.shape[-1]), []
    for name, which in OF_RATES.items():
        of = Moments(*(part[which] for part in rates))
        each = 1 - LEVEL / (of.rows.shape[0] * of.rows.shape[1] * len(weights))
        found = intervals(of, pair.own, weights, change=False, coverage=each)
        least = np.maximum(0, np.maximum(found.low, -found.high)).max(axis=(0, 2)).mean()
        most = np.maximum(np.abs(found.low), np.abs(found.high)).max(axis=(0, 2)).mean()
        mean = scores[name].mean()
        rows.append({"metric": name, "mean": mean, "sd": sd(scores[name]), "low": least, "high": np.fmax(most, mean)})
    return rows


def _drop(pair: Pair, cells: Cells, right: Moments) -> list[dict[str, object]]:
    """group_drop: by how much the accuracy falls from the baseline in the group where it falls most."""
    if not pair.n_base:
        return []
    each = 1 - LEVEL / len(cells.groups)
    found = intervals(right, pair.change, np.eye(len(cells.groups)), change=True, coverage=each)
    return [{"metric": "group_drop"} | largest_drop(found.value, found.low, found.high, cells.groups)]


def _floors(compared: Compared, cells: Cells) -> list[dict[str, object]]:
    """What DPD and EOD are where an arm does not react to the group: mean and 95th percentile of permutations.

    As fairness.floors: groups permuted within each label, mean over the runs of an arm.
    """
    draws = int(np.clip(WORK / cells.outcome.size, 50, 200))
    permuted = islice(fairness.permuted_within_labels(cells, np.random.default_rng(0)), draws)
    drawn = pd.DataFrame([group_counts.scores(group_counts.rates(cells, codes)) for codes in permuted])
    return [
        {"arm": arm, "metric": f"{name}_floor"} | fairness.mean_and_high(np.stack(drawn[name])[:, compared.rows(arm)])
        for arm, name in product(compared.arms.index, ("dpd", "eod"))
    ]


def _pairs(n: int) -> np.ndarray:
    """(P, n): one group minus another, for each pair."""
    unit = np.eye(n)
    return np.array([unit[first] - unit[second] for first, second in combinations(range(n), 2)])


def coarse(cells: Cells) -> dict[str, str]:
    """Pairs of group and class, in words, whose rates are 'undefined' or 'coarse' (fewer than five on one side)."""
    fewest = cells.below[1:].min(axis=0)
    chosen = {"undefined": fewest == 0, "coarse": (fewest > 0) & (fewest < fairness.FEW)}
    return {name: group_counts.describe_pairs(cells, pairs) for name, pairs in chosen.items()}


def by_fairlearn(compared: Compared, metric: str, sensitive: str, cells: Cells) -> pd.DataFrame:
    """A metric of fairlearn.metrics by name, for every run: by group (MetricFrame) and their difference.

    run_id, arm, seed, metric, sensitive, group ('' for the whole), value. A metric that takes sensitive_features itself
    has the whole alone. Raises InvalidInput for a name that fairlearn.metrics does not have, or a metric that fails.
    """
    from fairlearn import metrics

    name, p, rows = metric.removeprefix("fairlearn.metrics."), compared.predictions, []
    functions = {one: getattr(metrics, one) for one in metrics.__all__ if inspect.isfunction(getattr(metrics, one))}
    if name not in functions:
        raise unknown("metric", metric, functions, place="fairlearn.metrics")
    of_samples = np.array(cells.groups, object)[cells.codes]
    for run, predicted in zip(p.runs.itertuples(), p.predicted, strict=True):
        about = {"run_id": run.run_id, "arm": run.model, "seed": run.seed, "metric": name, "sensitive": sensitive}
        try:
            values = _fairlearn_values(metrics, functions[name], (p.labels, predicted, of_samples))
            rows += [about | {"group": group, "value": float(value)} for group, value in values.items()]
        except Exception as error:  # whatever a metric of others raises is about its input
            raise InvalidInput(f"fairlearn's {name} fails on run {run.run_id} by {sensitive}: {error}") from error
    return pd.DataFrame(rows)


def _fairlearn_values(metrics, measure, of: tuple) -> dict[str, float]:
    y_true, y_pred, groups = of
    if "sensitive_features" in inspect.signature(measure).parameters:
        return {"": measure(y_true, y_pred, sensitive_features=groups)}
    frame = metrics.MetricFrame(metrics=measure, y_true=y_true, y_pred=y_pred, sensitive_features=groups)
    return {"": frame.overall, "largest - smallest": frame.difference(), **frame.by_group.to_dict()}
