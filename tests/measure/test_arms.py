"""Differences between partners and trends over blocks: by hand, and coverage on a stated truth."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from kdlib.errors import InvalidInput, KdlibWarning
from kdlib.measure import arms
from kdlib.predictions import Predictions
from tests import simulated
from tests.simulated import runs_table, study

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


# --- against NDS and against the own teacher -------------------------------------------------------------------------


def with_own_teachers(p):
    runs = p.runs.assign(run_id=[*(f"teacher-{s}" for s in range(3)), *p.runs.run_id[3:]])
    return Predictions(runs, p.predicted, p.labels, p.sample_ids, p.class_names)


def test_differences_by_hand():
    p = with_own_teachers(study(temperatures=(4,), n_seeds=3, n_classes=2))  # runs: 3 teachers, 3 nds, 3 ds
    values = np.array([1.0, 2, 3, 10, 20, 30, 11, 22, 33])
    with pytest.warns(KdlibWarning):
        nds = arms.differences_from_nds(p, values).iloc[0]
    assert (nds.temperature, nds.n_ds, nds.n_nds, nds["mean"]) == (4, 3, 3, 2.0)
    theirs = scipy.stats.ttest_ind(values[6:], values[3:6], equal_var=False)
    assert nds.p == pytest.approx(theirs.pvalue)
    assert (nds.low, nds.high) == pytest.approx(tuple(theirs.confidence_interval()))
    with pytest.warns(KdlibWarning):
        teacher = arms.differences_from_teacher(p, values).iloc[0]
    assert (teacher.n_pairs, teacher["mean"]) == (3, 20.0)  # 10, 20, 30
    assert teacher.high - teacher["mean"] == pytest.approx(4.302653 * 10 / np.sqrt(3), rel=1e-6)  # t(0.975, 2)


def test_nds_and_ds_of_one_seed_are_not_paired():
    """Which seed number an NDS has says nothing: any order of them gives the same."""
    p = simulated.study(n_classes=3, total=30, temperatures=(4,))
    nds = np.flatnonzero(p.runs["model"] == "nds")
    values = np.random.default_rng(0).random(len(p.runs))
    moved = values.copy()
    moved[nds] = values[nds][::-1]
    pd.testing.assert_frame_equal(arms.differences_from_nds(p, values), arms.differences_from_nds(p, moved))


def test_differences_say_who_has_no_teacher():
    p = two_groups(0, n=300, arms=[("teacher", None, range(4)), ("nds", None, range(4)), ("ds", 4, range(6))])
    p = Predictions(
        p.runs.assign(run_id=[*(f"teacher-{s}" for s in range(4)), *p.runs.run_id[4:]]),
        p.predicted,
        p.labels,
        p.sample_ids,
        p.class_names,
    )
    with pytest.warns(KdlibWarning) as caught:
        row = arms.differences_from_teacher(p, p.accuracy).iloc[0]
    assert row.n_pairs == 4 and "2 of 6 students" in str(caught[0].message)
    with pytest.warns(KdlibWarning, match="ds T="), pytest.raises(InvalidInput, match="ds T="):
        alone = p.take(np.flatnonzero(p.runs["model"] != "teacher"))
        arms.differences_from_teacher(alone, alone.accuracy)
    with pytest.raises(InvalidInput, match="nds"):
        arms.differences_from_teacher(p.arm(model="nds"), p.accuracy[:4])
    with pytest.raises(InvalidInput, match=r"\(3,\).*\(14,\)"):
        arms.differences_from_nds(p, np.zeros(3))


def test_one_teacher_for_all_seeds_is_said():
    p = two_groups(0, n=300, arms=[("teacher", None, [0]), ("ds", 4, range(5))])
    p.runs["teacher_id"] = [None] + ["teacher-0"] * 5
    with pytest.warns(KdlibWarning, match="5"):
        arms.differences_from_teacher(p, p.accuracy)


def test_a_slope_is_the_change_for_each_doubling_of_t_within_blocks():
    p = simulated.study(n_classes=3, total=20, n_seeds=5, temperatures=(1, 2, 8))
    block = np.array([0.0, 5.0, -3.0, 9.0, 1.0])[p.runs["seed"]]  # what teachers hand on takes no part
    t = np.log2(p.runs["temperature"].fillna(1))
    own = np.array([1.0, 2.0, 3.0, 4.0, 5.0])[p.runs["seed"]]
    runs = pd.DataFrame({"alike": block - 0.5 * t, "own": block + own * t, "flat": block})
    found = arms.trends(p, runs, ["alike", "own", "flat"]).set_index("measure")
    assert found["slope"].tolist() == pytest.approx([-0.5, 3.0, 0.0])
    assert (found["n_blocks"] == 5).all()
    assert found.loc["alike", ["low", "high"]].tolist() == pytest.approx([-0.5, -0.5])
    # sd of 1 .. 5 is sqrt(2.5), t(0.975, 4) = 2.7764
    half = 2.7764 * np.sqrt(2.5 / 5)
    assert found.loc["own", ["low", "high"]].tolist() == pytest.approx([3 - half, 3 + half], abs=1e-3)
    assert found.loc["own", "p"] == pytest.approx(0.0132, abs=1e-3) and found.loc["flat", "p"] == 1
