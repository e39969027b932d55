"""What the notebooks beyond the paper measure: trends over T, gradients, and the bias dial beside what it should give.

From Predictions and stored runs to tables. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from kdlib import store
from kdlib.claims import finding
from kdlib.data import dial
from kdlib.errors import InvalidInput, NotTrained, unknown
from kdlib.measure import fairness, stats
from kdlib.measure.group_counts import arm_columns
from kdlib.predictions import Predictions, describe
from kdlib.studies import Study

RATES = ("true_positive_rate", "false_positive_rate")


def slopes(predictions: Predictions, runs: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Trend with T of columns of a table with one row a run: change for each doubling of T, over teacher blocks.

    One row a column: measure, slope (least squares on log2 T in each block, then the mean), low, high (95 %
    t-interval over blocks), p (two-sided, against 0), n_blocks. The unit is that of the column.
    Raises InvalidInput for fewer than two temperatures or blocks.
    """
    rows = []
    for column in columns:
        found = finding.slopes(finding.by_block(predictions, runs[column].to_numpy()))
        test = finding.t_test(found)
        rows.append(
            {
                "measure": column,
                "slope": test.value,
                "low": test.low,
                "high": test.high,
                "p": test.p,
                "n_blocks": len(found),
            }
        )
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------------------ gradients


def gradients(study: Study, *, runs_dir: Path | str) -> pd.DataFrame:
    """Norms of both terms of the loss, as every run noted them in the first batch of each epoch.

    One row a run and epoch: run_id, model, seed, temperature, epoch, teacher, labels (Euclidean norm of the gradient of
    the weighted term with respect to the batch's logits; NaN for a term that the run does not have).
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
        raise NotTrained(f"no distilled student of {study.name!r} is in {runs_dir}: python -m kdlib train {study.name}")
    return pd.DataFrame(rows)


def gradients_by_temperature(norms: pd.DataFrame) -> pd.DataFrame:
    """Mean over epochs, then over seeds: temperature, term ('teacher', 'labels'), n_seeds, mean, low, high (95 %)."""
    runs = norms.groupby(["temperature", "seed"])[["teacher", "labels"]].mean()
    rows = []
    for temperature, values in runs.groupby("temperature"):
        for term in ("teacher", "labels"):
            low, high = stats.t_interval(values[term].to_numpy())
            rows.append(
                {
                    "temperature": temperature,
                    "term": term,
                    "n_seeds": len(values),
                    "mean": values[term].mean(),
                    "low": low,
                    "high": high,
                }
            )
    return pd.DataFrame(rows)


# -------------------------------------------------------------------------------------------------------- the bias dial


def dial_runs(predictions: Predictions, *, rho: float, sensitive: str = "color_set") -> pd.DataFrame:
    """Disparity of every run on a balanced test part, beside what its errors let expect; `rho` is the training dial.

    The columns of fairness.group_fairness, and
    expected_dpd   dial.expected_disparity of the run's own rates in each group: DPD again, by the formula
    ideal          dial.ideal_disparity at the run's accuracy: of a learner that knows the base rates of its training
                   part and uses them as far as its evidence for the label is weak. At chance or below: 1 (0 for rho 0)
    excess         dpd - ideal: what the errors do not account for. DPD cannot pass 2 (1 - accuracy)
    with_color     share of its errors that go with the color as rho > 0 has it (cool taken for negative, warm for
                   positive); 0.5: errors regardless of color; NaN without errors
    Raises InvalidInput unless there are two classes, and every label is equally often in both groups.
    """
    _check_balanced(predictions, sensitive)
    runs = fairness.group_fairness(predictions, sensitive=sensitive)
    rates = _rates(predictions, sensitive)
    expected = [dial.expected_disparity(rho=0.0, group_share=0.5, **rate)["dpd"] for rate in rates]
    ideal = [dial.ideal_disparity(rho=rho, accuracy=max(a, 0.5)) for a in runs["accuracy"]]
    with_color = _with_color(predictions, predictions.groups[sensitive])
    return runs.assign(rho=rho, expected_dpd=expected, ideal=ideal, excess=runs["dpd"] - ideal, with_color=with_color)


def _with_color(predictions: Predictions, groups: np.ndarray) -> np.ndarray:
    """(R,) share of errors in which the prediction is the one that the color suggests."""
    wrong, suggested = ~predictions.correct, predictions.predicted == (groups == dial.GROUPS[1])
    errors = wrong.sum(axis=1)
    return np.where(errors > 0, (wrong & suggested).sum(axis=1) / np.maximum(errors, 1), np.nan)


def _check_balanced(predictions: Predictions, sensitive: str) -> None:
    if sensitive not in predictions.groups:
        raise unknown("sensitive feature", sensitive, predictions.groups, place="the bias dial")
    sizes = pd.crosstab(predictions.labels, predictions.groups[sensitive])
    if sizes.shape != (2, 2) or sorted(sizes.columns) != sorted(dial.GROUPS) or np.ptp(sizes.to_numpy()):
        raise InvalidInput(
            f"a test part with {sizes.to_numpy().tolist()} images of each label and of {', '.join(sizes.columns)}: the "
            "dial is read on two classes, with rho_test 0 and group_share 0.5."
        )


def _rates(predictions: Predictions, sensitive: str) -> list[dict[str, Mapping[str, float]]]:
    """TPR and FPR of each run by group, as `dial.expected_disparity` takes them."""
    groups, labels = predictions.groups[sensitive], predictions.labels
    return [
        {
            name: {group: float(row[(labels == label) & (groups == group)].mean()) for group in dial.GROUPS}
            for name, label in zip(RATES, (1, 0), strict=True)
        }
        for row in predictions.predicted
    ]


def dial_arms(predictions: Predictions, runs: pd.DataFrame, *, sensitive: str = "color_set") -> pd.DataFrame:
    """`dial_runs` by arm, with the floors of fairness.floors.

    model, temperature, n_seeds, rho; for m of accuracy, dpd, eod, expected_dpd, ideal, excess: m, m_sd, m_low, m_high;
    dpd_floor, dpd_floor_upper, eod_floor, eod_floor_upper.
    """
    arms = arm_columns(predictions, runs, ["accuracy", "dpd", "eod", "expected_dpd", "ideal", "excess"])
    floors = fairness.floors(predictions, sensitive=sensitive)
    kept = [name for name in floors if name.startswith(("dpd_floor", "eod_floor")) and "overall" not in name]
    keys = ["model", "temperature", "n_seeds"]
    return arms.assign(rho=runs["rho"].iloc[0]).merge(floors[[*keys, *kept]], on=keys, validate="one_to_one")
