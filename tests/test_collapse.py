"""Runs that learned nothing are named, and weak or lopsided runs that learned something are not."""

import numpy as np
import pytest

from kdlib.collapse import collapsed

LABELS = np.arange(1000) % 10


def test_one_class_alone():
    assert "class 7" in collapsed(np.full(1000, 7), LABELS, n_classes=10)
    assert collapsed(np.full(1000, 7), np.full(1000, 7), n_classes=10) is None  # the labels have one class as well


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(value):
    probabilities = np.eye(10)[LABELS]
    assert collapsed(LABELS, LABELS, n_classes=10, probabilities=probabilities) is None
    probabilities[3, 4] = value
    assert "sample 3" in collapsed(LABELS, LABELS, n_classes=10, probabilities=probabilities)


@pytest.mark.parametrize("seed", range(20))
def test_predictions_that_have_nothing_to_do_with_the_labels(seed):
    rng = np.random.default_rng(seed)
    assert "chance gives" in collapsed(rng.permutation(LABELS), LABELS, n_classes=10)
    lopsided = (rng.random(1000) < 0.9).astype(int)  # nine in ten have class 1, and so are nine in ten predictions
    assert "chance gives" in collapsed(rng.permutation(lopsided), lopsided, n_classes=2)


def test_the_edge_by_hand():
    """1,000 labels of ten classes, predictions with the same shares: chance 0.1, deviation 0.0095, edge at 0.1285."""
    for right, bad in ((128, True), (129, False)):
        predicted = (LABELS + 1) % 10
        predicted[:right] = LABELS[:right]
        shares = np.bincount(predicted, minlength=10) / 1000 @ np.full(10, 0.1)
        assert shares == pytest.approx(0.1)
        assert (collapsed(predicted, LABELS, n_classes=10) is not None) == bad


def test_a_run_below_the_largest_class_that_tells_the_classes_apart_is_none():
    """95 in 100 have class 0; it finds all others and is wrong for a tenth of class 0: 90.5 % right, below 95 %."""
    labels = np.repeat([0, 1], [950, 50])
    predicted = labels.copy()
    predicted[:95] = 1
    assert np.mean(predicted == labels) < 0.95 and collapsed(predicted, labels, n_classes=2) is None


def test_few_samples_do_not_make_a_good_run_a_collapsed_one():
    labels = np.array([0, 1, 0, 1])
    assert collapsed(labels, labels, n_classes=2) is None
    assert collapsed(1 - labels, labels, n_classes=2) is not None
