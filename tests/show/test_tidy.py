"""Results as rows and back: every number keeps its place, and the paper's numbers get theirs."""

import numpy as np
import pandas as pd
import pytest

from kdlib.measure import fairness
from kdlib.show import tidy
from tests import simulated

ARMS = pd.DataFrame(
    {
        "model": ["teacher", "ds"],
        "temperature": [np.nan, 4.0],
        "n_seeds": [5, 5],
        "eod": [0.1, 0.2],
        "eod_sd": [0.01, 0.02],
        "eod_low": [0.08, 0.15],
        "eod_high": [0.12, 0.25],
        "eod_floor": [0.05, 0.06],
        "eod_floor_upper": [0.07, 0.08],
    }
)


def test_a_row_per_arm_and_metric_by_hand():
    rows = tidy.tidy(ARMS, {"eod": "share", "away": "share", "eod_floor": "ratio"})
    assert rows[["model", "metric", "unit"]].to_numpy().tolist() == [
        ["teacher", "eod", "share"],
        ["ds", "eod", "share"],
        ["teacher", "eod_floor", "ratio"],
        ["ds", "eod_floor", "ratio"],
    ]
    values = rows[["mean", "sd", "low", "high"]].to_numpy()
    assert values[1].tolist() == [0.2, 0.02, 0.15, 0.25]
    assert values[3].tolist() == pytest.approx([0.06, np.nan, np.nan, 0.08], nan_ok=True), (
        "upper is the high of a floor"
    )


def test_columns_undo_rows():
    back = tidy.columns(tidy.tidy(ARMS, {"eod": "share", "eod_floor": "share"}))
    same = ["model", "temperature", "eod", "eod_sd", "eod_low", "eod_high", "eod_floor"]
    pd.testing.assert_frame_equal(back[same], ARMS[same])
    assert back["eod_floor_high"].tolist() == ARMS["eod_floor_upper"].tolist()


def test_each_arm_and_metric_stands_once():
    p = simulated.study(n_classes=3, total=30, temperatures=(1, 4))
    arms = fairness.table(simulated.with_groups(p, color=np.resize(["a", "b"], len(p.labels))), sensitive="color")
    for rows in (tidy.fairness(arms), tidy.individual(arms.rename(columns={"eod": "counterfactual"}))):
        assert not rows.duplicated(["model", "temperature", "metric"]).any()


def test_a_measure_without_model_is_of_students():
    counts = pd.DataFrame({"temperature": [4.0], "n_seeds": [5], "accuracy_mean": [0.5], "accuracy_sd": [0.1]})
    (row,) = tidy.tidy(counts, {"accuracy": "share"}).to_dict("records")
    assert (row["model"], row["mean"], row["sd"]) == ("ds", 0.5, 0.1)


def test_the_papers_numbers_become_columns_of_a_figures_data():
    rows = tidy.tidy(ARMS, {"eod": "share", "eod_floor": "share"}).assign(paper_mean=[np.nan, 0.3, np.nan, np.nan])
    found = tidy.with_paper(ARMS.iloc[::-1], rows)
    assert found["paper_eod"].tolist() == pytest.approx([0.3, np.nan], nan_ok=True)
    assert "paper_eod_floor" not in found
    pd.testing.assert_frame_equal(found[ARMS.columns], ARMS.iloc[::-1])
    pd.testing.assert_frame_equal(tidy.with_paper(ARMS, rows.drop(columns="paper_mean")), ARMS)
