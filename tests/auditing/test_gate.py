"""The gate three ways, on tables a person can check; less data never passes more easily; bad limits are named."""

import json

import numpy as np
import pytest

import kdlib
from kdlib.auditing import classes, gate, groups
from kdlib.auditing.compared import compared
from kdlib.errors import InvalidInput
from kdlib.measure.group_counts import prepare
from tests.auditing.worlds import binary, table


def worse(n, wrong, *, copies=1):
    """v1 is right in all n samples of two classes, v2 wrong in `wrong` of class 0; every sample `copies` times."""
    labels = np.arange(n * copies) % 2
    v2 = labels.copy()
    v2[np.flatnonzero(labels == 0)[: wrong * copies]] = 1
    return table({("v1", 0): labels, ("v2", 0): v2}, labels)


def outcome(p, limit, **options):
    (row,) = kdlib.audit(p, baseline="v1", fail_on=[limit], **options).tables["limits"].to_dict("records")
    return row["outcome"]


def test_kept_broken_and_undecided():
    """10 of 1,000 images of class 0 lost: 1 point, less than 3 beyond doubt; 100: 10 points; 25: nobody knows."""
    assert outcome(worse(2000, 10), "class_drop>0.03") == "kept"
    assert outcome(worse(2000, 100), "class_drop>0.03") == "broken"
    assert outcome(worse(2000, 25), "class_drop>0.03") == "undecided"
    checks = [kdlib.audit(worse(2000, k), baseline="v1", fail_on=["class_drop>0.03"]) for k in (10, 100, 25)]
    assert [gate.status(c.tables["limits"], undecided_passes=False) for c in checks] == [0, 1, 3]
    assert [gate.status(c.tables["limits"], undecided_passes=True) for c in checks] == [0, 1, 0]


@pytest.mark.parametrize("limit", ["class_drop>0.03", "accuracy_drop>0.03", "disagreement>0.03", "negative_flips>0.03"])
def test_the_same_rates_on_fewer_samples_never_pass_more_easily(limit):
    found = [outcome(worse(100, 1, copies=k), limit) for k in (1, 2, 5, 20, 60)]
    kept = [name == "kept" for name in found]
    assert kept == sorted(kept) and not kept[0] and kept[-1]


def test_models_that_never_differ_pass_only_on_enough_samples():
    found = [outcome(worse(n, 0), "class_drop>0.03") for n in (10, 100, 1000)]
    assert found == ["undecided", "undecided", "kept"]


def test_smaller_samples_of_one_world_pass_more_rarely():
    """v2's EOD is 0.05 in truth: a limit of 0.15 is kept, where there is data enough to tell."""
    shares, limit = [], gate.parse("eod>0.15", grouped=True)
    for n in (150, 600, 2400):
        outcomes = []
        for s in range(10):
            found = compared(binary(n, seed=s, gap=0.05), "v1")
            cells, _ = prepare(found.predictions, sensitive="sex")
            metrics = groups.measure(found, "sex", cells)["metrics"]
            outcomes += gate.check([limit], metrics, arms=["v2"])["outcome"].tolist()
        assert "broken" not in outcomes
        shares.append(outcomes.count("kept"))
    assert shares == sorted(shares) and shares[0] <= 2 and shares[2] >= 8


def test_fewer_seeds_pass_more_rarely():
    """Accuracies that scatter by two points over seeds: two seeds tell less than eight."""
    shares = []
    for seeds in (2, 8):
        kept = 0
        for s in range(25):
            rng = np.random.default_rng(s)
            labels = rng.integers(0, 2, 2000)
            made = {
                (model, k): np.where(rng.random(2000) < right + rng.normal(0, 0.02), labels, 1 - labels)
                for model, right in (("v1", 0.8), ("v2", 0.79))
                for k in range(seeds)
            }
            _, pair = compared(table(made, labels), "v1")
            kept += classes.accuracy(pair)[1]["high"] <= 0.04
        shares.append(kept)
    assert shares[0] < shares[1] / 2


def test_an_undefined_metric_is_never_a_pass():
    p = binary()
    labels = np.where(p.groups["sex"] == "m", 0, p.labels)
    p = table({("v1", 0): labels, ("v2", 0): labels}, labels, groups=p.groups)
    report = kdlib.audit(p, baseline="v1", sensitive="sex", fail_on=["eod>0.9", "tpr_difference>0.9"])
    assert set(report.tables["limits"]["outcome"]) == {"undecided"}
    assert gate.status(report.tables["limits"], undecided_passes=False) == 3
    rows = [r for r in json.loads(report.to_json())["tables"]["metrics"] if r["metric"] == "eod"]
    assert {r["mean"] for r in rows} == {None} and any("undefined" in text for text in report.warnings)


def test_a_class_without_test_samples_never_passes():
    labels = np.arange(4000) % 2
    v2 = np.where(np.arange(4000) < 4, 1 - labels, labels)
    p = table({("v1", 0): labels, ("v2", 0): v2}, labels, classes=("a", "b", "c"))
    assert outcome(p, "class_drop>0.5") == "undecided"


def test_a_limit_holds_for_every_model_and_feature():
    p = binary(models=("v1", "v2", "v3"))
    rows = kdlib.audit(p, baseline="v1", sensitive=("sex", "race"), fail_on=["eod>0.9"]).tables["limits"]
    assert list(zip(rows["arm"], rows["sensitive"], strict=True)) == [
        ("v2", "sex"),
        ("v3", "sex"),
        ("v2", "race"),
        ("v3", "race"),
    ]
    assert gate.told(rows)[0].startswith("eod>0.9: kept by v2, sex: 0.")


@pytest.mark.parametrize(
    "text,named",
    [
        ("eodd>0.05", "Did you mean 'eod'"),
        ("eod<0.05", "metric>number"),
        ("eod>five", "metric>number"),
        ("eod>1.2.3", "metric>number"),
        ("eod>5", "fractions"),
        ("", "metric>number"),
    ],
)
def test_bad_limits_are_named(text, named):
    with pytest.raises(InvalidInput, match=named):
        gate.parse(text, grouped=True)


def test_a_limit_on_groups_needs_a_feature():
    with pytest.raises(InvalidInput, match="--sensitive"):
        gate.parse("eod>0.05", grouped=False)


def test_the_class_and_the_group_that_fall_most_fall_as_much_as_the_whole():
    p = binary(n=1000, seeds=3, drop=0.3)
    rows = kdlib.audit(p, baseline="v1", sensitive="race").tables["metrics"].set_index("metric")["low"]
    assert rows["accuracy_drop"] > 0.1
    assert rows["class_drop"] >= rows["accuracy_drop"] and rows["group_drop"] >= rows["accuracy_drop"]
