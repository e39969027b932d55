"""Intervals and the attainable range: cases by hand, brute force, coverage on a stated truth."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.errors import InvalidInput, KdlibWarning, UndefinedMetric
from kdlib.measure import fairness, intervals
from kdlib.paper import attainable
from kdlib.paper.attainable import LABEL_COUNTS
from kdlib.predictions import Predictions
from tests import simulated
from tests.simulated import runs_table, study, with_groups

FIVE = [("teacher", None, range(5)), ("nds", None, range(5)), ("ds", 4, range(5)), ("ds", 10, range(5))]


def two_groups(seed, *, n=2000, gap=0.05, seed_sd=0.0, arms=(("ds", 4, range(5)),)):
    """Two classes; the TPR of group q is `gap` below that of p, and moves by `seed_sd` from run to run.

    A sample's difficulty is half its own and half the run's, so runs agree more than by chance.
    """
    rng = np.random.default_rng(seed)
    group, labels, difficulty = rng.random(n) < 0.3, rng.random(n) < 0.5, rng.random(n) / 2
    runs = runs_table(arms)
    predicted = []
    for _ in range(len(runs)):
        right = np.minimum(0.85 - (gap + rng.normal(0, seed_sd)) * (group & labels), 1)
        threshold = 1 - np.sqrt((1 - right) / 2)  # of a sum of two uniform halves
        predicted.append(np.where(difficulty + rng.random(n) / 2 < threshold, labels, ~labels))
    return Predictions(
        runs,
        np.array(predicted).astype(int),
        labels.astype(int),
        np.arange(n).astype(str),
        ("no", "yes"),
        groups={"g": np.where(group, "q", "p")},
    )


# --- paired over seeds -----------------------------------------------------------------------------------------------


def test_paired_differences_by_hand():
    p = study(temperatures=(4,), n_seeds=3, n_classes=2)  # runs: 3 teachers, 3 nds, 3 ds
    runs = p.runs.assign(run_id=[*(f"teacher-{s}" for s in range(3)), *p.runs.run_id[3:]])
    p = Predictions(runs, p.predicted, p.labels, p.sample_ids, p.class_names)
    values = np.array([1.0, 2, 3, 10, 20, 30, 11, 22, 33])
    with pytest.warns(KdlibWarning, match="fewer than 5 seeds"):
        nds = intervals.paired_differences(p, values).iloc[0]
    assert (nds.temperature, nds.against, nds.n_pairs, nds["mean"], nds.sd) == (4, "nds", 3, 2.0, 1.0)  # 1, 2, 3
    assert nds.high - nds["mean"] == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)  # t(0.975, 2)
    with pytest.warns(KdlibWarning):
        teacher = intervals.paired_differences(p, values, against="teacher").iloc[0]
    assert teacher["mean"] == 20.0  # 10, 20, 30


def test_paired_differences_say_who_has_no_partner():
    p = two_groups(0, n=300, arms=[("nds", None, range(4)), ("ds", 4, range(6))])
    with pytest.warns(KdlibWarning) as caught:
        row = intervals.paired_differences(p, p.accuracy).iloc[0]
    assert row.n_pairs == 4 and "2 of 6 students have no partner" in str(caught[0].message)
    with pytest.warns(KdlibWarning, match="no partner"), pytest.raises(InvalidInput, match="fewer than two seeds"):
        intervals.paired_differences(p, p.accuracy, against="teacher")
    with pytest.raises(InvalidInput, match="no distilled student"):
        intervals.paired_differences(p.arm(model="nds"), p.accuracy[:4])
    with pytest.raises(InvalidInput, match="unknown against 'tacher'.*teacher"):
        intervals.paired_differences(p, p.accuracy, against="tacher")
    with pytest.raises(InvalidInput, match=r"\(3,\).*\(10,\)"):
        intervals.paired_differences(p, np.zeros(3))


def test_one_teacher_for_all_seeds_is_said():
    p = two_groups(0, n=300, arms=[("teacher", None, [0]), ("ds", 4, range(5))])
    p.runs["teacher_id"] = [None] + ["teacher-0"] * 5
    with pytest.warns(KdlibWarning, match="one partner for all 5 seeds"):
        intervals.paired_differences(p, p.accuracy, against="teacher")


# --- bootstrap -------------------------------------------------------------------------------------------------------


def test_bootstrap_of_rows_has_the_binomial_spread():
    """All runs alike: only rows vary, and the sd of a difference of proportions is known."""
    p = two_groups(1, n=4000, gap=0.1, arms=[("ds", 4, range(5))])
    p = Predictions(
        p.runs,
        np.tile(p.predicted[:1], (5, 1)) ^ np.eye(5, 4000, dtype=int),
        p.labels,
        p.sample_ids,
        p.class_names,
        groups=p.groups,
    )  # one prediction apart, or the runs would pose as one
    found = intervals.bootstrap_intervals(p, sensitive="g").set_index("measure")
    group, labels, predicted = p.groups["g"], p.labels, p.predicted[0]
    rows = {"dpd": labels >= 0, "tpr_difference": labels == 1, "fpr_difference": labels == 0}
    for measure, here in rows.items():
        shares = [predicted[here & (group == g)].mean() for g in ("p", "q")]
        sd = np.sqrt(sum(s * (1 - s) / (here & (group == g)).sum() for s, g in zip(shares, ("p", "q"), strict=True)))
        low, high = abs(shares[1] - shares[0]) - 1.96 * sd, abs(shares[1] - shares[0]) + 1.96 * sd
        assert found.signed[measure] == pytest.approx(shares[1] - shares[0], abs=2e-3)
        assert found.low[measure] == pytest.approx(max(low, 0), abs=0.004)
        assert found.high[measure] == pytest.approx(high, abs=0.004)


def test_bootstrap_table_and_seed():
    p = two_groups(2, arms=FIVE)
    first, again = (intervals.bootstrap_intervals(p, sensitive="g", replicates=200, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(first.high, intervals.bootstrap_intervals(p, sensitive="g", replicates=200, seed=4).high)
    assert len(first) == 4 * 4 and (first.low <= first.high).all() and first.low.min() >= 0
    table = fairness.table(p, sensitive="g", draws=20).set_index(["model", "temperature"])
    for row in first.dropna(subset="temperature").itertuples():
        assert row.value == pytest.approx(table.loc[(row.model, row.temperature), row.measure])


def test_spread_between_seeds_widens_the_interval():
    width = [
        intervals.bootstrap_intervals(two_groups(5, n=4000, seed_sd=sd), sensitive="g").set_index("measure")
        for sd in (0.0, 0.1)
    ]
    narrow, wide = ((frame.high - frame.low)["tpr_difference"] for frame in width)
    assert wide > 2 * narrow


def test_bootstrap_refuses_what_it_cannot_do():
    with pytest.raises(UndefinedMetric, match="3 classes.*crossfitted"):
        intervals.bootstrap_intervals(with_groups(study(n_classes=3), g=np.resize(["a", "b"], 300)), sensitive="g")
    p = two_groups(0, n=300)
    with pytest.raises(UndefinedMetric, match="3 groups of 'g'"):
        intervals.bootstrap_intervals(with_groups(p, g=np.resize(list("abc"), 300)), sensitive="g")
    with pytest.raises(UndefinedMetric, match="too few to resample: group 'a'"):
        intervals.bootstrap_intervals(with_groups(p, g=np.where(np.arange(300) < 4, "a", "b")), sensitive="g")
    with pytest.raises(InvalidInput, match="fewer than two seeds"):
        intervals.bootstrap_intervals(p.take(np.array([0])), sensitive="g")
    with pytest.raises(InvalidInput, match="replicates is 10"):
        intervals.bootstrap_intervals(p, sensitive="g", replicates=10)


@pytest.mark.slow
@pytest.mark.parametrize(("gap", "seed_sd"), [(0.0, 0.0), (0.05, 0.03), (0.0, 0.06), (0.15, 0.03)])
def test_bootstrap_covers(gap, seed_sd):
    """95 % intervals hold the truth in 93 to 99 % of 300 simulated test sets; here with room for chance."""
    truth = {"dpd": gap / 2, "tpr_difference": gap, "fpr_difference": 0.0, "eod": gap}
    hits = dict.fromkeys(truth, 0)
    for seed in range(150):
        found = intervals.bootstrap_intervals(
            two_groups(seed, n=2000, gap=gap, seed_sd=seed_sd), sensitive="g", replicates=400, seed=seed
        ).set_index("measure")
        for measure in truth:
            hits[measure] += found.low[measure] - 1e-12 <= truth[measure] <= found.high[measure]
    assert min(hits.values()) / 150 > 0.89


# --- crossfitted ------------------------------------------------------------------------------------------------------


def ten_by_ten(seed, *, n=5000, runs=4, lift=0.0):
    """Ten classes, ten groups, 85 % right; in group 0 `lift` of the predictions become class 0."""
    rng = np.random.default_rng(seed)
    labels, group = rng.integers(0, 10, n), rng.integers(0, 10, n)
    predicted = np.where(rng.random((runs, n)) < 0.85, labels, rng.integers(0, 10, (runs, n)))
    predicted = np.where((group == 0) & (rng.random((runs, n)) < lift), 0, predicted)
    return Predictions(
        runs_table([("ds", 4, range(runs))]),
        predicted,
        labels,
        np.arange(n).astype(str),
        tuple("abcdefghij"),
        groups={"g": group.astype(str)},
    )


def test_crossfitted_is_zero_on_average_where_nothing_differs():
    found = pd.concat([intervals.crossfitted(ten_by_ten(seed), sensitive="g", splits=10) for seed in range(8)])
    assert found.eod.mean() > 0.10 and found.dpd.mean() > 0.04
    assert abs(found.eod_crossfitted.mean()) < 0.01 and abs(found.dpd_crossfitted.mean()) < 0.01


def test_crossfitted_finds_a_difference():
    """All of group 0 moves half of its predictions to class 0: DPD is 0.45 there, about 0.05 in the others."""
    found = intervals.crossfitted(ten_by_ten(0, lift=0.5), sensitive="g", splits=10)
    truth = (0.45 + 9 * 0.05) / 10
    assert found.dpd_crossfitted.mean() == pytest.approx(truth, abs=0.015)
    assert found.dpd.mean() > truth + 0.02
    again = intervals.crossfitted(ten_by_ten(0, lift=0.5), sensitive="g", splits=10)
    pd.testing.assert_frame_equal(found, again)
    other = intervals.crossfitted(ten_by_ten(0, lift=0.5), sensitive="g", splits=10, seed=1)
    assert not np.allclose(other.dpd_crossfitted, found.dpd_crossfitted)


def test_crossfitted_with_two_large_groups_is_the_plain_difference():
    p = two_groups(0, n=20_000, gap=0.2)
    found = intervals.crossfitted(p, sensitive="g", splits=5)
    assert found.eod_crossfitted.to_numpy() == pytest.approx(found.eod.to_numpy(), abs=0.005)


def test_crossfitted_needs_halves():
    p = two_groups(0, n=300)
    with pytest.raises(InvalidInput, match="splits is 0"):
        intervals.crossfitted(p, sensitive="g", splits=0)
    one_positive = (np.arange(300) == np.flatnonzero(p.labels)[0]) | (p.labels == 0)
    with pytest.raises(UndefinedMetric):
        intervals.crossfitted(with_groups(p, g=np.where(one_positive, "a", "b")), sensitive="g")


# --- attainable range ------------------------------------------------------------------------------------------------

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
    with pytest.raises(InvalidInput, match="no classifier has accuracy 1 and EOD 0.5"):
        attainable.attainable_dpd([50, 50], [50, 50], accuracy=1, eod=0.5)
    with pytest.raises(InvalidInput, match="accuracy is 93.09; it is a fraction"):
        attainable.attainable_dpd([50, 50], [50, 50], accuracy=93.09, eod=0.05)
    with pytest.raises(UndefinedMetric, match="each group needs both"):
        attainable.attainable_dpd([50, 0], [50, 50], accuracy=0.9, eod=0.05)
    with pytest.raises(InvalidInput, match="two groups or more"):
        attainable.attainable_dpd([50], [50], accuracy=0.9, eod=0.05)


def test_no_warnings_escape_from_the_programme():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = attainable.attainable_dpd([1, 10**6, 7], [10**6, 1, 9], accuracy=0.5, eod=1.0)
    assert 0 <= low <= high <= 1


def test_a_slope_is_the_change_for_each_doubling_of_t_within_blocks():
    p = simulated.study(n_classes=3, total=20, n_seeds=5, temperatures=(1, 2, 8))
    block = np.array([0.0, 5.0, -3.0, 9.0, 1.0])[p.runs["seed"]]  # what teachers hand on takes no part
    t = np.log2(p.runs["temperature"].fillna(1))
    own = np.array([1.0, 2.0, 3.0, 4.0, 5.0])[p.runs["seed"]]
    runs = pd.DataFrame({"alike": block - 0.5 * t, "own": block + own * t, "flat": block})
    found = intervals.trends(p, runs, ["alike", "own", "flat"]).set_index("measure")
    assert found["slope"].tolist() == pytest.approx([-0.5, 3.0, 0.0])
    assert (found["n_blocks"] == 5).all()
    assert found.loc["alike", ["low", "high"]].tolist() == pytest.approx([-0.5, -0.5])
    # sd of 1 .. 5 is sqrt(2.5), t(0.975, 4) = 2.7764
    half = 2.7764 * np.sqrt(2.5 / 5)
    assert found.loc["own", ["low", "high"]].tolist() == pytest.approx([3 - half, 3 + half], abs=1e-3)
    assert found.loc["own", "p"] == pytest.approx(0.0132, abs=1e-3) and found.loc["flat", "p"] == 1
