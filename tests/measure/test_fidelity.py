"""Fidelity: three samples by hand, second libraries, and a null that contains no change."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.errors import InvalidInput, KdlibWarning
from kdlib.measure import fidelity
from kdlib.predictions import Predictions, softmax
from tests.simulated import from_counts_of_arms, runs_table, study, with_groups, with_probabilities

FOUR = np.array([0, 0, 1, 1])


def arms_of(labels, predicted, arms, *, classes=2, probabilities=None):
    labels = np.asarray(labels)
    return Predictions(
        runs_table(arms),
        np.asarray(predicted),
        labels,
        np.arange(len(labels)).astype(str),
        tuple("abcdefghij"[:classes]),
        probabilities=probabilities,
    )


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_agreement_and_flips_by_hand():
    before, after = np.array([0, 1, 1, 0]), np.array([1, 0, 1, 0])
    assert fidelity.agreement(before, after) == 0.5
    assert fidelity.flips(FOUR, before, after) == (0.25, 0.25)
    assert fidelity.flips(FOUR, FOUR, 1 - FOUR) == (1.0, 0.0)


def test_kl_by_hand():
    p, q = np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([[0.25, 0.75], [0.5, 0.5]])
    first, second = 0.5 * np.log(2) + 0.5 * np.log(2 / 3), np.log(2)
    assert fidelity.kl_divergence(p, q) == pytest.approx((first + second) / 2)
    assert fidelity.kl_divergence(p, p) == 0
    assert 80 < fidelity.kl_divergence(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])) < 90  # finite: log of 1e-38


def test_fidelity_table_by_hand():
    """Teacher 0 0 1 1; NDS seeds 0 0 1 0 and 1 0 1 1; DS of seed 0 is 0 0 0 1, of seed 1 is 0 0 1 1."""
    predicted = [[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 1, 0], [1, 0, 1, 1], [0, 0, 0, 1], [1, 0, 0, 1]]
    p = arms_of(FOUR, predicted, [("teacher", None, [0, 1]), ("nds", None, [0, 1]), ("ds", 4, [0, 1])])
    p.runs["teacher_id"] = [None] * 4 + list(p.runs.run_id[:2])
    found = fidelity.fidelity(p)
    assert found[["model", "seed"]].to_numpy().tolist() == [["nds", 0], ["nds", 1], ["ds", 0], ["ds", 1]]
    assert found.agreement.tolist() == [0.75, 0.5, 0.75, 0.25]
    assert found.teacher_accuracy.tolist() == [1, 0.75, 1, 0.75] and found.accuracy.tolist() == [0.75, 0.75, 0.75, 0.5]
    assert found.churn.tolist() == [0.5, 0.5, (2 + 2) / 8, (3 + 1) / 8]
    assert found.negative_flips.tolist() == [0.25, 0.25, (1 + 1) / 8, (2 + 1) / 8]
    assert found.positive_flips.tolist() == [0.25, 0.25, (1 + 1) / 8, (1 + 0) / 8]
    assert found.kl.isna().all()


def test_kl_to_the_own_teacher():
    rng = np.random.default_rng(0)
    probabilities = softmax(rng.normal(size=(4, 50, 3)))
    p = arms_of(
        rng.integers(0, 3, 50),
        probabilities.argmax(axis=2),
        [("teacher", None, [0, 1]), ("ds", 4, [0, 1])],
        classes=3,
        probabilities=probabilities,
    )
    p.runs["teacher_id"] = [None, None, "teacher-1", "teacher-0"]
    found = fidelity.fidelity(p)
    assert found.kl.tolist() == [
        fidelity.kl_divergence(probabilities[1], probabilities[2]),
        fidelity.kl_divergence(probabilities[0], probabilities[3]),
    ]
    assert found.churn.isna().all()  # no NDS here
    p.runs["teacher_id"] = None
    assert fidelity.fidelity(p)[["kl", "agreement", "teacher_accuracy"]].isna().all(axis=None)


def test_calibration_by_hand():
    p = np.array([[[0.9, 0.1, 0], [0.1, 0.9, 0], [0.6, 0.4, 0], [0.4, 0.6, 0]]])
    predictions = arms_of([0, 0, 0, 1], p.argmax(axis=2), [("nds", None, [0])], classes=3, probabilities=p)
    assert fidelity.calibration(predictions).tolist() == pytest.approx([0.4])
    confidence, right = p[0].max(axis=1), predictions.correct[0]
    assert fidelity.calibration_error(confidence[:2], right[:2]) == pytest.approx(0.4)  # 0.9 twice, right once
    assert fidelity.calibration_error(confidence[[0, 2]], right[[0, 2]]) == pytest.approx((0.1 + 0.4) / 2)
    assert fidelity.calibration_error(np.ones(3), np.ones(3, bool)) == 0


def test_worst_by_hand():
    p = with_groups(
        arms_of([0, 0, 1, 1], [[0, 0, 1, 0], [1, 0, 1, 1]], [("nds", None, [0, 1])], classes=3), g=list("xyyx")
    )
    found = fidelity.worst(p, sensitive="g")
    assert found.worst_class.tolist() == ["b", "a"] and found.worst_class_accuracy.tolist() == [0.5, 0.5]
    assert found.worst_group.tolist() == ["x", "x"] and found.worst_group_accuracy.tolist() == [0.5, 0.5]
    assert "worst_group" not in fidelity.worst(p)


def test_class_gain_equals_scipy_welch():
    from scipy import stats

    rng = np.random.default_rng(0)
    counts = {("nds", None): rng.integers(60, 90, (5, 4)), ("ds", 4): rng.integers(65, 95, (5, 4))}
    counts["nds", None][:, 3] = counts["ds", 4][:, 3] = 70  # a class that never varies
    p = from_counts_of_arms(counts, total=100)
    found = fidelity.class_gain(p)
    shares = [counts[key][:, :3] / 100 for key in (("ds", 4), ("nds", None))]
    theirs = stats.ttest_ind(*shares, equal_var=False).confidence_interval(0.95)
    assert found.low[:3].to_numpy() == pytest.approx(theirs.low)
    assert found.high[:3].to_numpy() == pytest.approx(theirs.high)
    assert found.gain.to_numpy() == pytest.approx((counts["ds", 4].mean(0) - counts["nds", None].mean(0)) / 100)
    assert (found.low[3], found.high[3]) == pytest.approx((0, 0), abs=1e-12)
    assert found.class_name.tolist() == list(p.class_names) and (found.temperature == 4).all()


# --- samples whose usual prediction differs --------------------------------------------------------------------------


def test_changed_samples_by_hand():
    """Sample 0 never changes, sample 1 goes from class 0 to 1, sample 2 is tied in b and counts as unchanged."""
    a = [[0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]]
    b = [[0, 1, 0], [0, 1, 1], [0, 1, 1], [0, 0, 0]]
    labels, seeds = [0, 0, 1], range(4)
    with pytest.warns(KdlibWarning):
        both = arms_of(labels, a + b, [("nds", None, seeds), ("ds", 4, seeds)])
        found = fidelity.changed_samples(both).iloc[0]
    assert found["null_mean"] == 0  # of 2 and 2 NDS the 1 is at most half: a tie
    # pairs of b agree on class 1 for sample 1 in 3 of 6, for sample 2 in 1 of 6; pairs of a on 0 in 3 of 6 and always.
    # splits hold sample 0's seed: (0,1) (0,2) (0,3), of which two say 0 for sample 1
    assert 3 * found["matched"] == pytest.approx((2 / 3) * (3 / 6) + 1 * (1 / 6))


def test_number_of_splits():
    assert [len(fidelity._halves_of(n)) for n in (2, 3, 4, 5, 10)] == [1, 3, 3, 10, 126]
    with pytest.raises(InvalidInput, match="30"):
        fidelity._halves_of(30)


def noisy_arms(seed, *, moved=0.0, seeds=6, n=500):
    """NDS and DS with the same noise; for a share `moved` of the samples every DS run says the next class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, n)
    predicted = np.where(rng.random((2 * seeds, n)) < 0.8, labels, rng.integers(0, 5, (2 * seeds, n)))
    change = rng.random(n) < moved
    predicted[seeds:, change] = (predicted[seeds:, change] + 1) % 5
    return arms_of(labels, predicted, [("nds", None, range(seeds)), ("ds", 4, range(seeds))], classes=5), change


def test_no_change_stays_inside_the_null_and_a_change_leaves_it():
    for seed in range(5):
        row = fidelity.changed_samples(noisy_arms(seed)[0]).iloc[0]
        assert row.matched < row.null_mean + 0.02
    p, change = noisy_arms(0, moved=0.2)
    row = fidelity.changed_samples(p).iloc[0]
    assert row.matched > row.null_high + 0.1
    assert change.mean() - 0.02 < row.matched < change.mean() + row.null_high


# --- bad input -------------------------------------------------------------------------------------------------------


def test_bad_input():
    p = study(n_classes=3)
    with pytest.raises(InvalidInput, match="probabilities"):
        fidelity.calibration(p)
    with pytest.raises(InvalidInput, match="age"):
        fidelity.worst(p, sensitive="age")
    with pytest.raises(InvalidInput, match="teacher"):
        fidelity.fidelity(p.arm(model="teacher"))
    with pytest.raises(InvalidInput, match="teacher"):
        fidelity.class_gain(p.arm(model="teacher"))
    with pytest.raises(InvalidInput, match=r"\(2,\).*\(3,\)"):
        fidelity.agreement(np.zeros(2), np.zeros(3))
    with pytest.raises(InvalidInput, match=r"\(2, 2\).*\(3, 3\)"):
        fidelity.kl_divergence(np.eye(2), np.eye(3))
    with pytest.raises(InvalidInput, match="2.*5.*3"), pytest.warns(KdlibWarning):
        fidelity.changed_samples(p.take(np.flatnonzero((p.runs["model"] == "nds") | (p.runs["seed"] < 2))))


@pytest.mark.parametrize(
    "measure",
    [
        lambda values: fidelity.agreement(FOUR, values),
        lambda values: fidelity.flips(FOUR, values, FOUR),
        lambda values: fidelity.flips(values, FOUR, FOUR),
        lambda values: fidelity.error_consistency(FOUR == 1, values == 1),
    ],
)
@pytest.mark.parametrize("values", [FOUR[:, None], FOUR[:3]], ids=["a column", "one less"])
def test_predictions_of_other_samples_are_refused(measure, values):
    with pytest.raises(InvalidInput, match=r"\(4,\)"):
        measure(values)


def test_lists_tensors_and_series_count_as_arrays():
    other = [0, 1, 1, 1]
    for values in (torch.tensor(other), pd.Series(other, index=[3, 2, 1, 0]), np.array(other, ">i2")):
        assert fidelity.agreement(FOUR, values) == 0.75 and fidelity.flips(values, FOUR, other) == (0, 0.25)


def test_consistency_of_errors_is_not_that_of_classes():
    with pytest.raises(InvalidInput, match="int64"):
        fidelity.error_consistency(FOUR, FOUR == 1)


@pytest.mark.parametrize("logits", [np.array([[4.0, 1.0]]), np.array([[-1.0, 2.0]]), np.array([[np.nan, 1.0]])])
def test_logits_have_no_divergence(logits):
    for p, q in ((logits, np.array([[0.5, 0.5]])), (np.array([[0.5, 0.5]]), logits)):
        with pytest.raises(InvalidInput, match="probabilities"):
            fidelity.kl_divergence(p, q)


# --- properties ------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_flips_sum_to_the_change_in_accuracy_and_at_most_to_the_churn(seed):
    rng = np.random.default_rng(seed)
    labels, before, after = rng.integers(0, 3, (3, 60))
    negative, positive = fidelity.flips(labels, before, after)
    assert positive - negative == pytest.approx((after == labels).mean() - (before == labels).mean())
    assert 0 <= negative + positive <= 1 - fidelity.agreement(before, after) + 1e-12
    assert fidelity.flips(labels, after, before) == (positive, negative)


def test_parts_are_no_better_calibrated_than_the_whole():
    p = with_probabilities(study(n_classes=3))
    for confidence, right, predicted in zip(np.max(p.probabilities, axis=2), p.correct, p.predicted, strict=True):
        whole = fidelity.calibration_error(confidence, right)
        parts = [predicted == c for c in range(3)]
        errors = [fidelity.calibration_error(confidence[part], right[part]) for part in parts]
        assert np.average(errors, weights=[part.sum() for part in parts]) >= whole - 1e-12
