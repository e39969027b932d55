"""The DPD that an accuracy and an EOD leave possible."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.errors import InvalidInput, UndefinedMetric
from kdlib.paper import attainable
from kdlib.paper.attainable import LABEL_COUNTS

COUNTS = {(c.label, c.sensitive, c.split): (c.positives, c.negatives) for c in LABEL_COUNTS}
SMILING_TEST, SMILING_VALIDATION = (COUNTS["smiling", "young", split] for split in ("test", "validation"))
EYEGLASSES_TEST, EYEGLASSES_VALIDATION = (COUNTS["eyeglasses", "young", split] for split in ("test", "validation"))
HATEXPLAIN_RACE = COUNTS["toxic", "race", "test, any"]


@pytest.mark.parametrize(
    ("counts", "accuracy", "eod", "highest"),
    [
        (SMILING_TEST, 93.09, 4.69, 6.2),
        (SMILING_TEST, 92.03, 6.11, 7.6),
        (SMILING_TEST, 92.57, 4.98, 6.5),
        (SMILING_VALIDATION, 93.09, 4.69, 11.1),
        (SMILING_VALIDATION, 92.03, 6.11, 12.3),
        (SMILING_VALIDATION, 92.57, 4.98, 11.3),
    ],
)
def test_largest_dpd_of_celeba_smiling_by_young(counts, accuracy, eod, highest):
    """Teacher, NDS and DS at T = 10 as reported, in percent."""
    _, high = attainable.attainable_dpd(*counts, accuracy=accuracy / 100, eod=eod / 100)
    assert round(100 * high, 1) == highest


@pytest.mark.parametrize(
    ("counts", "accuracy", "eod", "lowest"),
    [
        (EYEGLASSES_TEST, 98.57, 1.18, 10.3),
        (EYEGLASSES_VALIDATION, 98.57, 1.18, 12.0),
        (HATEXPLAIN_RACE, 75.79, 1.13, 11.7),
    ],
)
def test_smallest_dpd_of_eyeglasses_and_of_hatexplain(counts, accuracy, eod, lowest):
    low, high = attainable.attainable_dpd(*counts, accuracy=accuracy / 100, eod=eod / 100)
    assert round(100 * low, 1) == lowest and high > low


def test_perfect_classifier_has_the_label_gap_alone():
    assert attainable.attainable_dpd([80, 20], [20, 80], accuracy=1, eod=0) == pytest.approx((0.6, 0.6))
    assert attainable.attainable_dpd([50, 50], [50, 50], accuracy=1, eod=0) == pytest.approx((0, 0), abs=1e-9)


def test_eod_must_be_reached_not_only_kept():
    """Groups alike, half positive, EOD 0.2: TPRs apart by 0.2 give DPD 0.1, and FPRs may undo it or double it."""
    low, high = attainable.attainable_dpd([50, 50], [50, 50], accuracy=0.8, eod=0.2)
    assert (low, high) == pytest.approx((0.0, 0.2), abs=1e-9)
    # accuracy 0.95: all errors are spent on one group's rate, so nothing is left to undo or to double it
    low, high = attainable.attainable_dpd([50, 50], [50, 50], accuracy=0.95, eod=0.2)
    assert (low, high) == pytest.approx((0.1, 0.1), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3]))
def test_every_classifier_lies_inside(seed, groups):
    rng = np.random.default_rng(seed)
    positives, negatives = rng.integers(1, 100, groups), rng.integers(1, 100, groups)
    tpr, fpr = rng.random(groups), rng.random(groups)
    accuracy = (positives @ tpr + negatives @ (1 - fpr)) / (positives + negatives).sum()
    selected = (positives * tpr + negatives * fpr) / (positives + negatives)
    low, high = attainable.attainable_dpd(positives, negatives, accuracy=accuracy, eod=max(np.ptp(tpr), np.ptp(fpr)))
    assert low - 1e-6 <= np.ptp(selected) <= high + 1e-6 and 0 <= low <= high <= 1 + 1e-9


def test_attainable_by_brute_force():
    """All pairs of rates on a grid that have the accuracy and the EOD, two unequal groups."""
    positives, negatives, grid = np.array([30, 45]), np.array([70, 55]), np.linspace(0, 1, 41)
    tpr_a, tpr_b, fpr_a, fpr_b = np.meshgrid(grid, grid, grid, grid, indexing="ij", sparse=True)
    accuracy = (30 * tpr_a + 45 * tpr_b + 70 * (1 - fpr_a) + 55 * (1 - fpr_b)) / 200
    eod = np.maximum(abs(tpr_a - tpr_b), abs(fpr_a - fpr_b))
    dpd = abs((30 * tpr_a + 70 * fpr_a) - (45 * tpr_b + 55 * fpr_b)) / 100
    here = (abs(accuracy - 0.8) < 0.002) & (abs(eod - 0.15) < 1e-9)
    low, high = attainable.attainable_dpd(positives, negatives, accuracy=0.8, eod=0.15)
    assert dpd[here].max() == pytest.approx(high, abs=0.01) and dpd[here].min() == pytest.approx(low, abs=0.01)


def test_attainable_refuses_what_cannot_be():
    with pytest.raises(InvalidInput, match="1.* 0.5"):
        attainable.attainable_dpd([50, 50], [50, 50], accuracy=1, eod=0.5)
    with pytest.raises(InvalidInput, match="93.09"):
        attainable.attainable_dpd([50, 50], [50, 50], accuracy=93.09, eod=0.05)
    with pytest.raises(UndefinedMetric, match=r"\[50.0, 0.0\]"):
        attainable.attainable_dpd([50, 0], [50, 50], accuracy=0.9, eod=0.05)
    with pytest.raises(InvalidInput, match=r"\(1,\)"):
        attainable.attainable_dpd([50], [50], accuracy=0.9, eod=0.05)


def test_no_warnings_escape_from_the_programme():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = attainable.attainable_dpd([1, 10**6, 7], [10**6, 1, 9], accuracy=0.5, eod=1.0)
    assert 0 <= low <= high <= 1
