"""Joint intervals from counts: equal to joint_intervals where that is defined, honest where it is not."""

import numpy as np
import pytest
from scipy import stats

from kdlib.measure.joint_counts import Moments, intervals, pair_counts
from kdlib.measure.joint_intervals import joint_interval

ONE = np.ones((1, 1))


def drawn(seed=0, runs=6, n=300, right=0.6):
    """(R, N) predictions of 3 classes, labels, codes of 2 groups."""
    rng = np.random.default_rng(seed)
    labels, codes = rng.integers(0, 3, n), rng.integers(0, 2, n)
    return np.where(rng.random((runs, n)) < right, labels, rng.integers(0, 3, (runs, n))), labels, codes


def of_right(right):
    """Moments of one cell from (R, N) bool."""
    right = np.asarray(right, float)
    return Moments.of_events(np.array([right.shape[1]]), (right @ right.T)[None])


def test_pairs_of_runs_are_counted_as_one_by_one():
    predicted, labels, codes = drawn(runs=3)
    selected, hits = pair_counts(predicted, labels, codes, (2, 3))
    for g, k, a, b in np.ndindex(selected.shape):
        both = (codes == g) & (predicted[a] == k) & (predicted[b] == k)
        assert selected[g, k, a, b] == both.sum() and hits[g, k, a, b] == (both & (labels == k)).sum()


@pytest.mark.parametrize("seed", range(3))
def test_one_arm_has_the_interval_of_joint_intervals(seed):
    predicted, labels, codes = drawn(seed)
    selected, _ = pair_counts(predicted, labels, codes, (2, 3))
    cells = [(np.flatnonzero(codes == g), sign) for g, sign in ((0, 1), (1, -1))]
    of = Moments.of_events(np.bincount(codes), selected[:, 1])
    found = intervals(of, [np.eye(6)], np.array([[1.0, -1.0]]), change=False)
    wanted = joint_interval([(predicted == 1).astype(float)], cells, difference=False)
    assert np.allclose([found.value[0], found.low[0], found.high[0]], wanted[:3], rtol=0, atol=1e-12)


def test_a_change_nears_joint_intervals_as_rows_grow():
    """It has two rows more, which of many rows matter little."""
    predicted, labels, _ = drawn(n=20_000)
    right, everything = predicted == labels, [(np.arange(20_000), 1)]
    unit = np.eye(6)
    found = intervals(of_right(right), [unit[:3], -unit[3:]], ONE, change=True)
    wanted = joint_interval([right[:3] * 1.0, -1.0 * right[3:]], everything, difference=True)
    assert np.allclose([found.low[0], found.high[0]], wanted[1:3], atol=1e-4)


def test_one_run_by_hand():
    """8 of 10 right, and a row of 0 and of 1: mean 9 / 12, variance of the twelve rows over twelve."""
    rows = np.r_[np.ones(9), np.zeros(3)]
    half = stats.t.ppf(0.975, 11) * rows.std(ddof=1) / np.sqrt(12)
    found = intervals(of_right([rows[:8].tolist() + [0, 0]]), [np.eye(1)], ONE, change=False)
    assert found.value[0] == 0.8
    assert np.allclose([found.low[0], found.high[0]], [0.75 - half, min(1, 0.75 + half)])


def test_arms_made_run_by_run_are_compared_with_their_own_origin():
    """Two runs, each one row worse than its own parent: the change varies over rows and not over runs."""
    parents = np.array([[1, 1, 1, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]])
    children = np.array([[0, 1, 1, 0, 0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1, 1, 1, 1, 1]])
    unit, of = np.eye(4), of_right(np.concatenate([children, parents]))
    own = intervals(of, [unit[:2] - unit[2:]], ONE, change=True)
    apart = intervals(of, [unit[:2], -unit[2:]], ONE, change=True)
    assert own.value[0] == apart.value[0] == pytest.approx(-0.1)
    assert own.se[0] < apart.se[0] / 2


def test_rows_that_all_agree_do_not_make_a_change_certain():
    widths = []
    for n in (3, 30, 300):
        right = np.ones((2, n))
        found = intervals(of_right(right), [np.eye(2)[:1], -np.eye(2)[1:]], ONE, change=True)
        widths.append(found.high[0] - found.low[0])
    assert widths[0] > 1 > widths[1] > 0.1 > widths[2] > 0.01


def test_no_rows_no_value_and_everything_is_possible():
    found = intervals(Moments.of_events(np.array([0]), np.zeros((1, 2, 2))), [np.eye(2)], ONE, change=False)
    assert np.isnan(found.value[0]) and (found.low[0], found.high[0]) == (0, 1)


@pytest.mark.parametrize("runs,sd", [(1, 0.0), (2, 0.04), (5, 0.0), (5, 0.04)])
def test_the_interval_of_a_change_covers(runs, sd):
    """Rows and seeds drawn anew: 95 % are asked for. With one run it speaks of rows alone, so seeds add nothing."""
    rng, n, hits, studies = np.random.default_rng(0), 200, 0, 400
    unit = np.eye(2 * runs)
    for _ in range(studies):
        ease = rng.uniform(-0.2, 0.2, n)
        seeds = rng.normal(0, sd, 2 * runs)
        truth = np.r_[np.full(runs, 0.55), np.full(runs, 0.6)] + seeds
        right = rng.random((2 * runs, n)) < truth[:, None] + ease
        found = intervals(of_right(right), [unit[:runs], -unit[runs:]], ONE, change=True)
        hits += found.low[0] <= -0.05 <= found.high[0]
    assert hits / studies > 0.93


def test_shrunken_seed_variances_cover_and_narrow():
    """Twelve classes, three seeds: with the variances of all classes intervals are narrower, and cover as asked for."""
    rng, hits, width = np.random.default_rng(0), [], {}
    labels, unit = np.repeat(np.arange(12), 100), np.eye(6)
    base, change = rng.uniform(0.3, 0.9, 12), rng.uniform(-0.1, 0.1, 12)
    for _ in range(60):
        truth = base + np.repeat([0 * change, change], 3, axis=0) + rng.normal(0, 0.03, (6, 12))
        right = rng.random((6, 1200)) < truth[:, labels]
        predicted = np.where(right, labels, (labels + 1) % 12)
        _, counts = pair_counts(predicted, labels, np.zeros(1200, int), (1, 12))
        of = Moments.of_events(np.full((12, 1), 100), counts[0][:, None])
        for alike in (False, True):
            found = intervals(of, [unit[3:], -unit[:3]], ONE, change=True, alike=alike)
            width[alike] = width.get(alike, 0) + (found.high - found.low).mean()
        hits += [*((found.low[:, 0] <= change) & (change <= found.high[:, 0]))]
    assert np.mean(hits) > 0.93 and width[True] < 0.8 * width[False]
