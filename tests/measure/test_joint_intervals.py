"""Intervals that cover seeds and test rows: by hand, against an analysis of variance, and by simulated coverage."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy import special

from kdlib.errors import InvalidInput, KdlibWarning, UndefinedMetric
from kdlib.measure import arms, fairness
from kdlib.measure.joint_intervals import Moments, intervals, joint_interval, joint_intervals, pair_counts
from kdlib.measure.stats import t_interval
from kdlib.predictions import Predictions
from tests import simulated

ONE = np.ones((1, 1))
COLUMNS = ["model", "temperature", "n_seeds", "metric", "class_name", "first", "second"]
COLUMNS += ["mean", "low", "high", "se_seeds", "se_rows"]


def study(groups="ab", *, n_classes=2, n_rows=400, temperatures=(2, 10), seed=0):
    """Teacher, NDS and DS of five seeds on rows with groups by `kind`."""
    rng, models = np.random.default_rng(seed), [("teacher", None), ("nds", None), *(("ds", t) for t in temperatures)]
    found = simulated.drawn_per_image(
        rng,
        rng.uniform(0.6, 0.9, (5 * len(models), n_classes)),
        total=n_rows // n_classes,
        arms=[(model, t, range(5)) for model, t in models],
    )
    return simulated.with_groups(found, kind=rng.choice(list(groups), n_rows))


# the interval itself


def test_two_runs_and_four_rows_by_hand():
    """Runs 0.5 and 0.5; rows 1, 1/2, 1/2, 0: variance 1/6, of their mean 1/24; what both count: 1/3 of eight, 1/24."""
    values = np.array([[1, 1, 0, 0], [1, 0, 1, 0.0]])
    found = joint_interval([values], [(np.arange(4), 1)], difference=True)
    half = special.stdtrit(1.5, 0.975) * np.sqrt(1 / 24)  # the sum 1/24 - 1/24 is below that of the rows alone
    assert found.mean == 0.5
    assert found.low == pytest.approx(max(-2, 0.5 - half)) and found.high == pytest.approx(min(2, 0.5 + half))
    assert found.se_seeds == 0 and found.se_rows == pytest.approx(np.sqrt(1 / 24))


def test_the_variance_is_that_of_a_two_way_analysis_of_variance():
    import pandas as pd
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    values = np.random.default_rng(0).normal(size=(5, 1)) + np.random.default_rng(1).normal(size=(5, 30))
    long = pd.DataFrame(values).stack().rename("y").rename_axis(["run", "row"]).reset_index()
    square = anova_lm(ols("y ~ C(run) + C(row)", long).fit())["mean_sq"].to_numpy() / values.size
    found = joint_interval([values / 9], [(np.arange(30), 1)], difference=True)
    assert found.se_seeds == pytest.approx(np.sqrt(square[0]) / 9)
    assert found.se_rows == pytest.approx(np.sqrt(square[1]) / 9)
    df = (square * [1, 1, -1]).sum() ** 2 / (square**2 / [4, 29, 4 * 29]).sum()
    assert found.high - found.mean == pytest.approx(
        special.stdtrit(df, 0.975) * np.sqrt((square * [1, 1, -1]).sum()) / 9
    )


def test_two_independent_arms_of_one_run_repeated_have_the_variance_of_rows_alone():
    rng = np.random.default_rng(0)
    a, b = (rng.binomial(1, p, 50) for p in (0.4, 0.6))
    found = joint_interval([np.tile(a, (5, 1)), -np.tile(b, (5, 1))], [(np.arange(50), 1)], difference=True)
    assert found.se_seeds == pytest.approx(0)
    assert found.se_rows == pytest.approx((a - b).std(ddof=1) / np.sqrt(50))
    assert found.high - found.mean == pytest.approx(special.stdtrit(49, 0.975) * found.se_rows)


def test_arms_that_are_always_right_have_an_interval_and_their_difference_none():
    right, rows = np.ones((5, 10)), [(np.arange(10), 1)]
    alone = joint_interval([right], rows, difference=False)
    assert alone.mean == alone.high == 1 and 0.6 < alone.low < 0.95
    apart = joint_interval([right, -right], rows, difference=True)
    assert apart.mean == 0 and np.isnan([apart.low, apart.high]).all()


# coverage

GROUP = np.repeat([0, 1], [2784, 128])


def drawn(rng, n_seeds, seed_sd, n_arms, *, inner_sd=0.5):
    """([(n_seeds, N) zeros and ones of each arm], labels, true signed [DPD, TPR, FPR difference] of each arm).

    A normal score of row difficulty, which arms share but for a fifth, of the seed, of seed by group, and of both.
    """
    label = (rng.random(len(GROUP)) < np.array([0.45, 0.5])[GROUP]).astype(int)
    shared, found, truth = rng.standard_normal(len(GROUP)), [], []
    for arm in range(n_arms):
        mean = np.array([[-1.2, 1.2], [-0.7, 1.0]]) + 0.1 * arm
        row = np.sqrt(0.8) * shared + np.sqrt(0.2) * rng.standard_normal(len(GROUP))
        seed, inner = (
            seed_sd * rng.standard_normal((2, n_seeds, 2)),
            rng.standard_normal((n_seeds, len(GROUP)), np.float32),
        )
        score = mean[GROUP, label] + row + seed[0, :, :1] + seed[1][:, GROUP] + inner_sd * inner
        found.append((score > 0).astype(float))
        rate = special.ndtr(mean / np.sqrt(1 + 2 * seed_sd**2 + inner_sd**2))
        selected = (rate * [[0.55, 0.45], [0.5, 0.5]]).sum(axis=1)
        truth.append([selected[0] - selected[1], rate[0, 1] - rate[1, 1], rate[0, 0] - rate[1, 0]])
    return found, label, np.array(truth)


def coverage(n_seeds, seed_sd, n_arms, *, studies, metrics=(0,)):
    """Shares of studies whose joint interval, and whose t-interval over seeds, holds the truth, one per metric."""
    rng, hits = np.random.default_rng(0), np.zeros((2, len(metrics)))
    for _ in range(studies):
        found, label, truth = drawn(rng, n_seeds, seed_sd, n_arms)
        sources = [found[0], -found[1]] if n_arms == 2 else found
        for i, metric in enumerate(metrics):
            within = (label >= 0, label == 1, label == 0)[metric]
            cells = [(np.flatnonzero(within & (g == GROUP)), sign) for g, sign in ((0, 1), (1, -1))]
            true = truth[0, metric] - (truth[1, metric] if n_arms == 2 else 0)
            joint = joint_interval(sources, cells, difference=n_arms == 2)
            seeds = t_interval(sum(sum(s * x[:, rows].mean(axis=1) for rows, s in cells) for x in sources))
            hits[:, i] += joint.low <= true <= joint.high, seeds[0] <= true <= seeds[1]
    return hits / studies


@pytest.mark.parametrize(("n_seeds", "seed_sd", "n_arms"), [(5, 0.03, 1), (10, 0.3, 1), (5, 0.3, 2), (10, 0.03, 2)])
def test_dpd_on_2912_faces_is_covered_and_seeds_alone_do_not_cover_it(n_seeds, seed_sd, n_arms):
    """One standard error of the 500 studies is 1 point."""
    joint, seeds = coverage(n_seeds, seed_sd, n_arms, studies=500)[:, 0]
    assert 0.93 <= joint <= 0.98
    assert seed_sd == 0.3 or seeds < 0.85


@pytest.mark.slow
@pytest.mark.parametrize(("n_seeds", "seed_sd", "n_arms"), [*product([5, 10], [0.03, 0.15, 0.3, 1.0], [1, 2])])
def test_dpd_tpr_and_fpr_are_covered_over_the_whole_grid(n_seeds, seed_sd, n_arms):
    joint, _ = coverage(n_seeds, seed_sd, n_arms, studies=1500, metrics=(0, 1, 2))
    assert ((joint >= 0.92) & (joint <= 0.98)).all(), joint


def test_rare_errors_of_few_rows_are_covered():
    """A rate of 97 % in 64 rows: without the two added rows 88 %."""
    rng, hits, rate = np.random.default_rng(0), 0, special.ndtr(2.2 / np.sqrt(1 + 0.1**2 + 0.5**2))
    for _ in range(1000):
        score = 2.2 + rng.standard_normal(64) + 0.1 * rng.standard_normal((5, 1)) + 0.5 * rng.standard_normal((5, 64))
        found = joint_interval([(score > 0).astype(float)], [(np.arange(64), 1)], difference=False)
        hits += found.low <= rate <= found.high
    assert hits / 1000 >= 0.935


def test_disagreement_of_arms_that_share_their_teachers_is_covered():
    """NDS and DS have one distribution, so the difference is 0; the teachers vary."""
    rng, hits, mean = np.random.default_rng(0), 0, np.where(np.arange(200) % 2, 1.0, -1.0)
    for _ in range(200):
        row = rng.standard_normal(200)
        teacher, nds, ds = (
            mean + row + sd * rng.standard_normal((5, 1)) + 0.5 * rng.standard_normal((5, 200)) > 0
            for sd in (0.5, 0.2, 0.2)
        )
        p = from_predicted(np.concatenate([teacher, nds, ds]).astype(int))
        found = joint_intervals(p, against="nds").set_index("metric").loc["disagreement"]
        hits += found.low <= 0 <= found.high
    assert 0.93 <= hits / 200 <= 0.985


def from_predicted(predicted):
    """Teacher, NDS and DS at T = 2 of five seeds."""
    labels = np.arange(predicted.shape[1]) % 2
    return Predictions(
        runs=simulated.runs_table([("teacher", None, range(5)), ("nds", None, range(5)), ("ds", 2, range(5))]),
        predicted=predicted,
        labels=labels,
        sample_ids=np.arange(len(labels)).astype(str),
        class_names=("no", "yes"),
    )


# the table


def test_one_arm_has_the_means_of_its_runs():
    p = study()
    table, groups = joint_intervals(p, sensitive="kind"), fairness.group_fairness(p, sensitive="kind")
    assert list(table.columns) == COLUMNS
    for metric in ("accuracy", "dpd", "tpr_difference", "fpr_difference"):
        rows, seeds = table[table.metric == metric], arms.by_arm(p, groups[metric].to_numpy())
        assert rows.model.tolist() == seeds.model.tolist() and (rows.n_seeds == 5).all()
        if metric == "accuracy":
            np.testing.assert_allclose(rows["mean"], seeds["mean"])
            np.testing.assert_allclose(rows.se_seeds, seeds["sd"] / np.sqrt(5))
            np.testing.assert_allclose(rows.se_rows.iloc[0], p.correct[:5].mean(axis=0).std(ddof=1) / 20, rtol=0.02)
    first = table[table.metric == "dpd"].iloc[0]
    a, b = (p.predicted[:5, p.groups["kind"] == kind].mean() for kind in "ab")
    assert (first.class_name, first["first"], first.second) == ("class 1", "a", "b")
    assert first["mean"] == pytest.approx(a - b)


def test_a_student_less_its_own_teacher_is_paired_run_by_run():
    p = study(temperatures=(4,))
    p.runs.loc[p.runs.model == "ds", "teacher_id"] = [f"teacher-{s}" for s in (4, 3, 2, 1, 0)]
    found = joint_intervals(p, against="teacher", sensitive="kind").set_index("metric")
    by_seed = p.accuracy[10:] - p.accuracy[4::-1]
    assert found.loc["accuracy", "mean"] == pytest.approx(by_seed.mean())
    assert found.loc["accuracy", "se_seeds"] == pytest.approx(by_seed.std(ddof=1) / np.sqrt(5))
    assert "disagreement" not in found.index


def test_ds_less_nds_knows_no_pairs_of_seeds():
    p = study(temperatures=(4,))
    found = joint_intervals(p, against="nds", sensitive="kind")
    order = np.r_[0:5, 9, 7, 5, 6, 8, 10:15]
    moved = p.take(order)
    moved.runs.loc[5:9, "seed"] = range(5)
    other = joint_intervals(moved, against="nds", sensitive="kind")
    np.testing.assert_allclose(other.iloc[:, -5:], found.iloc[:, -5:])
    row = found.set_index("metric").loc["accuracy"]
    variances = [p.accuracy[rows].var(ddof=1) / 5 for rows in (slice(5, 10), slice(10, 15))]
    assert row.se_seeds == pytest.approx(np.sqrt(sum(variances)))


def test_disagreement_is_with_the_same_teachers():
    p = study(temperatures=(4,))
    table = joint_intervals(p).set_index(["model", "metric"])
    own = (p.predicted[10:] != p.predicted[:5]).mean()
    assert table.loc[("ds", "disagreement"), "mean"] == pytest.approx(own)
    assert ("teacher", "disagreement") not in table.index
    every = np.mean([(p.predicted[5 + i] != p.predicted[j]).mean() for i, j in product(range(5), range(5))])
    less = joint_intervals(p, against="nds").set_index("metric").loc["disagreement", "mean"]
    assert less == pytest.approx(own - every)


def test_more_groups_are_compared_in_pairs_that_hold_together():
    p = study("abcd", temperatures=(2,))
    rows = joint_intervals(p, sensitive="kind").query("metric == 'dpd' and model == 'nds'")
    assert list(zip(rows["first"], rows.second, strict=True)) == list(combinations("abcd", 2))
    cells = [(np.flatnonzero(p.groups["kind"] == kind), sign) for kind, sign in (("a", 1), ("b", -1))]
    alone = joint_interval([(p.predicted[5:10] == 1) * 1.0], cells, difference=False, coverage=1 - 0.05 / 6)
    assert rows.iloc[0][["low", "high"]].tolist() == pytest.approx([alone.low, alone.high])


def test_several_classes_have_a_row_each_and_two_have_one():
    rows = joint_intervals(study(n_classes=4), sensitive="kind").query("metric == 'dpd' and model == 'teacher'")
    assert rows.class_name.tolist() == [f"class {c}" for c in range(4)]
    assert rows["mean"].sum() == pytest.approx(0)  # which is why there is no mean over classes
    assert (joint_intervals(study(), sensitive="kind").query("metric == 'dpd'").class_name == "class 1").all()


# refusals


def test_a_rate_without_rows_is_named_and_left_out():
    p = study()
    kinds = np.where(p.labels == 1, "a", p.groups["kind"])
    with pytest.warns(KdlibWarning, match="tpr_difference.*'b'"):
        table = joint_intervals(simulated.with_groups(p, kind=kinds), sensitive="kind")
    assert set(table.metric) == {"accuracy", "disagreement", "dpd", "fpr_difference"}


def test_what_cannot_be_compared_is_refused():
    p = study()
    with pytest.raises(InvalidInput, match="ndss"):
        joint_intervals(p, against="ndss")
    with pytest.raises(UndefinedMetric, match="'all'"):
        joint_intervals(simulated.with_groups(p, kind=np.full(400, "all")), sensitive="kind")
    for rows, against in ((np.r_[1:20], "teacher"), (np.r_[0:10], "teacher"), (np.r_[0:5, 10:20], "nds")):
        with pytest.raises(InvalidInput):
            joint_intervals(p.take(rows), against=against)
    with pytest.raises(InvalidInput, match="T=10"):
        joint_intervals(p.take(np.r_[0:16]))


def test_several_students_of_one_teacher_are_told():
    p = study()
    p.runs.loc[p.runs.temperature == 10, "teacher_id"] = "teacher-0"
    with pytest.warns(KdlibWarning, match="T=10"):
        joint_intervals(p)


def test_missing_groups_are_refused():
    p = study()
    kinds = np.where(np.arange(400) < 50, "", p.groups["kind"])
    p = simulated.with_groups(p, kind=kinds)
    with pytest.raises(InvalidInput, match="50"):
        joint_intervals(p, sensitive="kind")


# from counts: the same where both are defined, honest where it is not


def three_classes(seed=0, runs=6, n=300, right=0.6):
    """(R, N) predictions of 3 classes, labels, codes of 2 groups."""
    rng = np.random.default_rng(seed)
    labels, codes = rng.integers(0, 3, n), rng.integers(0, 2, n)
    return np.where(rng.random((runs, n)) < right, labels, rng.integers(0, 3, (runs, n))), labels, codes


def of_right(right):
    """Moments of one cell from (R, N) bool."""
    right = np.asarray(right, float)
    return Moments.of_events(np.array([right.shape[1]]), (right @ right.T)[None])


def test_pairs_of_runs_are_counted_as_one_by_one():
    predicted, labels, codes = three_classes(runs=3)
    selected, hits = pair_counts(predicted, labels, codes, (2, 3))
    for g, k, a, b in np.ndindex(selected.shape):
        both = (codes == g) & (predicted[a] == k) & (predicted[b] == k)
        assert selected[g, k, a, b] == both.sum() and hits[g, k, a, b] == (both & (labels == k)).sum()


@pytest.mark.parametrize("seed", range(3))
def test_one_arm_has_the_interval_of_joint_intervals(seed):
    predicted, labels, codes = three_classes(seed)
    selected, _ = pair_counts(predicted, labels, codes, (2, 3))
    cells = [(np.flatnonzero(codes == g), sign) for g, sign in ((0, 1), (1, -1))]
    of = Moments.of_events(np.bincount(codes), selected[:, 1])
    found = intervals(of, [np.eye(6)], np.array([[1.0, -1.0]]), change=False)
    wanted = joint_interval([(predicted == 1).astype(float)], cells, difference=False)
    assert np.allclose([found.value[0], found.low[0], found.high[0]], wanted[:3], rtol=0, atol=1e-12)


def test_a_change_nears_joint_intervals_as_rows_grow():
    """It has two rows more, which of many rows matter little."""
    predicted, labels, _ = three_classes(n=20_000)
    right, everything = predicted == labels, [(np.arange(20_000), 1)]
    unit = np.eye(6)
    found = intervals(of_right(right), [unit[:3], -unit[3:]], ONE, change=True)
    wanted = joint_interval([right[:3] * 1.0, -1.0 * right[3:]], everything, difference=True)
    assert np.allclose([found.low[0], found.high[0]], wanted[1:3], atol=1e-4)


def test_one_run_by_hand():
    """8 of 10 right, and a row of 0 and of 1: mean 9 / 12, variance of the twelve rows over twelve."""
    rows = np.r_[np.ones(9), np.zeros(3)]
    half = special.stdtrit(11, 0.975) * rows.std(ddof=1) / np.sqrt(12)
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
