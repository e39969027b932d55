"""Groups: equal to fairlearn, with bounds that hold for all pairs together."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fairlearn import metrics

import kdlib
from kdlib.auditing import groups
from kdlib.auditing.compared import compared
from kdlib.errors import InvalidInput, UndefinedMetric
from kdlib.measure.group_counts import prepare
from tests.auditing.worlds import binary, table

OURS = {"dpd": metrics.demographic_parity_difference, "eod": metrics.equalized_odds_difference}


@pytest.mark.parametrize("sensitive", ["sex", "race"])
def test_the_json_is_equal_to_fairlearn(sensitive):
    p = binary(seed=3, gap=0.1)
    found = json.loads(kdlib.audit(p, baseline="v1", sensitive=sensitive).to_json())["tables"]
    for row in (row for row in found["runs"] if row["metric"] in OURS):
        predicted = p.predicted[p.runs["run_id"].tolist().index(row["run_id"])]
        wanted = OURS[row["metric"]](p.labels, predicted, sensitive_features=p.groups[sensitive])
        assert abs(row["value"] - wanted) < 1e-12
    rates = {"selection_rate": metrics.selection_rate, "tpr": metrics.true_positive_rate}
    rates |= {"fpr": metrics.false_positive_rate, "accuracy": lambda y, f: np.mean(y == f)}
    mine = (p.runs["model"] == "v2").to_numpy()
    for row in (row for row in found["groups"] if row["arm"] == "v2"):
        inside = p.groups[sensitive] == row["group"]
        wanted = np.mean([rates[row["metric"]](p.labels[inside], run[inside]) for run in p.predicted[mine]])
        assert abs(row["mean"] - wanted) < 1e-12
    label = next(row["mean"] for row in found["metrics"] if row["metric"] == "label_dpd")
    wanted = metrics.demographic_parity_difference(p.labels, p.labels, sensitive_features=p.groups[sensitive])
    assert abs(label - wanted) < 1e-12


def test_several_classes_are_those_of_group_fairness():
    rng = np.random.default_rng(0)
    labels, sex = rng.integers(0, 3, 300), rng.choice(["f", "m"], 300)
    made = {
        (m, s): np.where(rng.random(300) < 0.7, labels, rng.integers(0, 3, 300)) for m in ("a", "b") for s in range(2)
    }
    p = table(made, labels, groups={"sex": sex}, classes=("x", "y", "z"))
    runs = kdlib.audit(p, baseline="a", sensitive="sex").tables["runs"]
    wanted = kdlib.fairness.group_fairness(p, sensitive="sex")
    for name in ("dpd", "eod", "tpr_difference"):
        assert np.allclose(runs[runs["metric"] == name]["value"], wanted[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["false_negative_rate", "fairlearn.metrics.false_negative_rate"])
def test_any_metric_of_fairlearn_by_name(name):
    p = binary()
    found = kdlib.audit(p, baseline="v1", sensitive="race", metrics=[name]).tables["fairlearn"]
    frame = metrics.MetricFrame(
        metrics=metrics.false_negative_rate,
        y_true=p.labels,
        y_pred=p.predicted[0],
        sensitive_features=p.groups["race"],
    )
    mine = found[found["run_id"] == p.runs["run_id"].iloc[0]].set_index("group")["value"]
    assert np.allclose([mine[g] for g in ("a", "b", "c")], frame.by_group.to_numpy())
    assert mine[""] == frame.overall and mine["largest - smallest"] == frame.difference()


def test_a_metric_that_takes_the_groups_itself():
    p = binary()
    found = kdlib.audit(p, baseline="v1", sensitive="sex", metrics=["demographic_parity_ratio"]).tables["fairlearn"]
    wanted = metrics.demographic_parity_ratio(p.labels, p.predicted[0], sensitive_features=p.groups["sex"])
    assert found["value"].iloc[0] == wanted


@pytest.mark.parametrize(
    "name,named",
    [("selection_rat", "selection_rate"), ("os.system", "os.system"), ("make_derived_metric", "fails|unknown")],
)
def test_other_metrics_are_refused(name, named):
    with pytest.raises(InvalidInput, match=named):
        kdlib.audit(binary(), baseline="v1", sensitive="sex", metrics=[name])


def test_a_metric_needs_a_feature():
    with pytest.raises(InvalidInput, match="sensitive feature"):
        kdlib.audit(binary(), baseline="v1", metrics=["selection_rate"])


def test_the_bounds_of_eod_and_dpd_hold():
    """95 % are asked for; three seeds, in truth an EOD of 0.2 and a DPD of 0.1 by sex in v2."""
    inside = {"eod": 0, "dpd": 0}
    for seed in range(40):
        found = compared(binary(500, seed=seed, gap=0.2), "v1")
        cells, _ = prepare(found.predictions, sensitive="sex")
        rows = groups.measure(found, "sex", cells)["metrics"].query("arm == 'v2'").set_index("metric")
        for name, truth in (("eod", 0.2), ("dpd", 0.1)):
            inside[name] += rows.loc[name, "low"] <= truth <= rows.loc[name, "high"]
    assert min(inside.values()) >= 36


def test_what_cannot_be_grouped_is_refused():
    p = binary()
    with pytest.raises(InvalidInput, match="unknown sensitive feature 'gender'"):
        kdlib.audit(p, baseline="v1", sensitive="gender")
    for values, error, named in (
        (np.full(400, "one"), UndefinedMetric, "only one group"),
        (np.linspace(0, 1, 400), InvalidInput, "continuous"),
        (np.r_[[""], np.full(399, "m")], InvalidInput, "missing"),
    ):
        with pytest.raises(error, match=named):
            kdlib.audit(
                table({("v1", 0): p.predicted[0], ("v2", 0): p.predicted[1]}, p.labels, groups={"g": values}),
                baseline="v1",
                sensitive="g",
            )


def test_samples_without_a_group_are_a_group_or_left_out_and_counted():
    p = binary()
    sex, race = p.groups["sex"].astype(object), p.groups["race"].astype(object)
    sex[:30], race[20:40] = "", None
    p = replace(p, groups={"sex": sex, "race": race})
    options = {"baseline": "v1", "sensitive": ["sex", "race"]}
    with pytest.raises(InvalidInput, match=r"missing for 30 of 400 .*--missing"):
        kdlib.audit(p, **options)
    own = kdlib.audit(p, missing="group", **options)
    rows = own.tables["groups"].query("group == '(missing)' and metric == 'accuracy' and arm == 'v2'")
    assert rows.set_index("sensitive")["n"].to_dict() == {"sex": 30, "race": 20} and own.about["left_out"] == 0
    without, wanted = (
        kdlib.audit(p, missing="drop", **options),
        kdlib.audit(p.of_samples(np.arange(400) >= 40), **options),
    )
    assert without.about["samples"] == 360 and without.about["left_out"] == 40
    assert "Left out of every number: the samples without a value of sex or race, 40 of 400." in without.warnings
    assert {name: frame.to_csv() for name, frame in without.tables.items()} == {
        name: frame.to_csv() for name, frame in wanted.tables.items()
    }
    with pytest.raises(InvalidInput, match="unknown missing 'ignore'"):
        kdlib.audit(p, missing="ignore", **options)


def test_small_groups_are_said():
    p = binary()
    p.groups["race"][:] = "a"
    p.groups["race"][np.r_[np.flatnonzero(p.labels == 0)[:2], np.flatnonzero(p.labels == 1)[:6]]] = "b"
    told = kdlib.audit(p, baseline="v1", sensitive="race").warnings
    wanted = (
        "By race, one side of a pair of group and class has fewer than five samples, so rates are coarse: group 'b'"
    )
    assert any(text.startswith(wanted) for text in told)
