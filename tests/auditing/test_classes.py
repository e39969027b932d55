"""Classes: verdicts on hand-made changes, and counts beside chance where there are seeds."""

import numpy as np
import pytest

import kdlib
from tests.auditing.worlds import table
from tests.simulated import from_counts_of_arms


def arms(drop, *, n=400, seeds=5):
    """v1 and v2 with six classes: the first loses `drop` of its images, the last gains them."""
    rng = np.random.default_rng(0)
    v1 = 300 + rng.integers(-4, 5, (seeds, 6))
    v2 = 300 + rng.integers(-4, 5, (seeds, 6)) + np.array([-drop, 0, 0, 0, 0, drop])
    return from_counts_of_arms({("v1", None): v1, ("v2", None): v2}, total=n)


def test_changed_equivalent_and_undecided():
    report = kdlib.audit(arms(40), baseline="v1", margin=0.1)
    rows = report.tables["classes"].set_index("class_name")
    assert rows["verdict"].tolist() == ["changed", *["equivalent"] * 4, "changed"]
    assert rows["change"].iloc[0] == pytest.approx(-0.1, abs=0.02) and rows["high"].iloc[0] < 0 < rows["low"].iloc[5]
    assert set(kdlib.audit(arms(4), baseline="v1", margin=0.001).tables["classes"]["verdict"]) == {"undecided"}


def test_intervals_for_all_classes_hold_each():
    rows = kdlib.audit(arms(10), baseline="v1").tables["classes"]
    assert (rows["all_low"] < rows["low"]).all() and (rows["all_high"] > rows["high"]).all()


def test_the_papers_count_stands_beside_chance_and_the_shift():
    report = kdlib.audit(arms(60), baseline="v1")
    (row,) = report.tables["class_counts"].to_dict("records")
    p = arms(60)
    tested = kdlib.class_bias.significant_classes(p.arm(model="v1"), p.arm(model="v2"))
    assert row["n_significant"] == tested["significant"].sum() == 2
    assert (row["null_low"], row["null_high"]) == kdlib.class_bias.null_band(6, 5, test_images=400)
    assert row["answer"] in ("explained", "not explained", "undecided") and row["excess_low"] <= row["excess_high"]


def test_one_run_has_verdicts_and_no_count():
    report = kdlib.audit(arms(60, seeds=1), baseline="v1")
    (row,) = report.tables["class_counts"].to_dict("records")
    assert row["changed"] == 2 and "n_significant" not in row
    assert "needs two runs" in report.html and "cannot be known" in " ".join(report.warnings)


def test_a_run_with_nothing_right_has_no_count():
    labels = np.arange(60) % 2
    made = {("v1", s): np.where(np.arange(60) == s, 1 - labels, labels) for s in range(2)}
    made |= {("v2", s): np.where(np.arange(60) == s, labels, 1 - labels) for s in range(2)}
    made["v2", 0] = 1 - labels
    (row,) = kdlib.audit(table(made, labels), baseline="v1").tables["class_counts"].to_dict("records")
    assert "n_significant" not in row and row["changed"] == 2
