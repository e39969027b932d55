"""Individuals: churn and flips by hand, the samples that flip, and calibration by group."""

import numpy as np
import pytest

import kdlib
from kdlib.measure.fidelity import flips
from tests.auditing.worlds import binary, table


def metric(report, name, arm="v2"):
    rows = report.tables["metrics"].query("metric == @name and arm == @arm")
    return rows.iloc[0]


def test_flips_by_hand():
    """Of ten samples v2 loses two, wins one, and is wrong in another way on one."""
    labels = np.zeros(10, int)
    v1 = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1])
    v2 = np.array([1, 2, 0, 0, 0, 0, 0, 0, 0, 2])
    report = kdlib.audit(table({("v1", 0): v1, ("v2", 0): v2}, labels, classes="abc"), baseline="v1")
    found = {name: metric(report, name)["mean"] for name in ("disagreement", "negative_flips", "positive_flips")}
    assert found == pytest.approx({"disagreement": 0.4, "negative_flips": 0.2, "positive_flips": 0.1})
    assert report.tables["samples"]["sample_id"].tolist() == ["s000000", "s000001"]
    assert report.tables["samples"]["prediction"].tolist() == ["b", "c"]


def test_means_over_pairs_of_runs():
    p = binary()
    report = kdlib.audit(p, baseline="v1")
    pairs = [flips(p.labels, p.predicted[b], p.predicted[a]) for a in (3, 4, 5) for b in (0, 1, 2)]
    assert metric(report, "negative_flips")["mean"] == pytest.approx(np.mean(pairs, axis=0)[0])
    among = np.mean([(p.predicted[a] != p.predicted[b]).mean() for a, b in ((0, 1), (0, 2), (1, 2))])
    assert metric(report, "disagreement", "v1")["mean"] == pytest.approx(among)


def test_runs_with_a_parent_are_compared_with_it_alone():
    p = binary(seeds=2)
    made = {("v1", 0): p.predicted[0], ("v1", 1): p.predicted[1], ("v2", 0): p.predicted[0].copy()}
    made["v2", 0][:4] = 1 - made["v2", 0][:4]
    made["v2", 1] = p.predicted[1].copy()
    made["v2", 1][:4] = 1 - made["v2", 1][:4]
    report = kdlib.audit(table(made, p.labels, teachers={("v2", s): f"v1-{s}" for s in (0, 1)}), baseline="v1")
    assert metric(report, "disagreement")["mean"] == pytest.approx(4 / 400)


def test_calibration_by_group():
    p = binary(n=200)
    probabilities = np.where(p.predicted[..., None] == np.arange(2), 0.9 - 1e-4 * np.arange(6)[:, None, None], 0.1)
    probabilities[..., :] /= probabilities.sum(axis=-1, keepdims=True)
    whole = table(
        {(m, s): p.predicted[i] for i, (m, s) in enumerate((m, s) for m in ("v1", "v2") for s in range(3))},
        p.labels,
        groups=p.groups,
        probabilities=probabilities,
    )
    rows = kdlib.audit(whole, baseline="v1", sensitive="sex").tables["calibration"].query("arm == 'v1'")
    assert rows["group"].tolist() == ["all", "f", "m"] and rows["n"].tolist()[0] == 200
    for row in rows.itertuples():
        inside = slice(None) if row.group == "all" else whole.groups["sex"] == row.group
        right = whole.correct[:3][:, inside].mean()
        assert row.accuracy == pytest.approx(right) and row.overconfidence == pytest.approx(row.confidence - right)


def test_without_probabilities_there_is_no_calibration():
    report = kdlib.audit(binary(), baseline="v1")
    assert "calibration" not in report.tables and "classes without probabilities" in report.html
