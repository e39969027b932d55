"""Counts against their nulls: shift of accuracy, own and fresh teachers, permutations, other choices; calibration."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from kdlib.errors import InvalidInput, KdlibWarning
from kdlib.measure import class_bias, class_counts, class_nulls
from kdlib.measure.class_tests import NORMALISATIONS, TESTS, compare, compare_values, count_significant
from kdlib.measure.stats import adjust
from tests import simulated

TOTAL = 100


def null_p(rng, n_classes, studies, *, test, normalise="ratio"):
    """(studies, C) p-values of pairs of five runs of one truth."""
    truth = rng.uniform(0.5, 0.95, n_classes)
    drawn = rng.binomial(TOTAL, truth, (studies, 10, n_classes))
    totals = np.full(n_classes, TOTAL)
    return np.stack([compare(x[:5], x[5:], totals, test=test, normalise=normalise).p for x in drawn])


def moved_counts(rng, n_classes, share, *, size=2.0):
    """nds and ds counts (5, C) and which classes moved, `share` of them by `size` standard deviations up or down."""
    truth = rng.uniform(0.5, 0.9, n_classes)
    moved = np.arange(n_classes) < share * n_classes
    # true variances differ by class as in Smyth's prior with 8 degrees of freedom
    sd = 0.03 * np.sqrt(8 / rng.chisquare(8, n_classes))
    change = np.where(moved, size * sd * rng.choice([-1, 1], n_classes), 0)
    drawn = [truth + c + sd * rng.normal(size=(5, n_classes)) for c in (0, change)]
    return *(np.rint(1000 * np.clip(x, 0, 1)).astype(int) for x in drawn), moved


# calibration and power


@pytest.mark.parametrize("n_classes", [100, 1000])
@pytest.mark.parametrize("normalise", list(NORMALISATIONS))
@pytest.mark.parametrize(("test", "low", "high"), [("welch", 0.040, 0.048), ("moderated", 0.046, 0.055)])
def test_every_mode_fires_at_its_nominal_rate_where_nothing_differs(test, low, high, normalise, n_classes):
    """40,000 tests each: three standard errors are 0.0033. Welch with five runs is a little conservative."""
    p = null_p(np.random.default_rng(0), n_classes, 40_000 // n_classes, test=test, normalise=normalise)
    assert low <= (p <= 0.05).mean() <= high


@pytest.mark.parametrize("correction", ["holm", "bh", "by"])
@pytest.mark.parametrize("test", list(TESTS))
def test_corrected_tests_seldom_find_anything_where_nothing_differs(test, correction):
    """Any finding in 5 % of studies; 300 studies, four standard errors."""
    p = null_p(np.random.default_rng(1), 100, 300, test=test, normalise="arcsine")
    found = np.mean([(adjust(row, correction) <= 0.05).any() for row in p])
    assert found <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize(
    ("options", "named", "false_share"),
    [
        ({"test": "welch", "normalise": "ratio", "correction": None}, 19, 0.18),
        ({"test": "welch", "normalise": "ratio", "correction": "holm"}, 1.1, 0.02),
        ({"test": "welch", "normalise": "ratio", "correction": "bh"}, 3.8, 0.04),
        ({"test": "moderated", "normalise": "arcsine", "correction": "bh"}, 9.7, 0.04),
    ],
)
def test_what_each_choice_finds_when_20_of_100_classes_move_by_two_sd(options, named, false_share):
    rng, found, false = np.random.default_rng(2), [], []
    for _ in range(150):
        nds, ds, moved = moved_counts(rng, 100, 0.2)
        p = compare(nds, ds, np.full(100, 1000), test=options["test"], normalise=options["normalise"]).p
        hit = adjust(p, options["correction"]) <= 0.05
        found.append(hit.sum())
        false.append((hit & ~moved).sum())
    assert np.mean(found) == pytest.approx(named, rel=0.2, abs=0.6)
    assert np.sum(false) / np.sum(found) == pytest.approx(false_share, abs=0.025)


@pytest.mark.parametrize("test", ["welch", "moderated"])
def test_one_inherited_teacher_makes_classes_significant(test):
    """Five students of one teacher share its idiosyncrasies: far more than 5 of 100 classes "differ"."""
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        truth = rng.uniform(0.5, 0.85, 100)
        one = truth + rng.normal(0, 0.03, 100)
        nds, ds = (np.rint(1000 * np.clip(t + rng.normal(0, 0.03, (5, 100)), 0, 1)).astype(int) for t in (truth, one))
        found.append((compare(nds, ds, np.full(100, 1000), test=test).p <= 0.05).sum())
    assert 18 <= np.mean(found) <= 36


# a shift of accuracy


def shifted(rng, n_classes=1000, *, accuracy=(0.761, 0.689), jitter=0.1):
    """Counts of two arms whose class log odds differ by one shift, with seed noise of `jitter` in log odds."""
    profile = rng.normal(0, 1, n_classes)
    grid = np.linspace(-3, 4, 400)
    overall = expit(profile + grid[:, None]).mean(axis=1)
    shifts = [grid[np.argmin(np.abs(overall - a))] for a in accuracy]
    return [rng.binomial(TOTAL, expit(profile + s + rng.normal(0, jitter, (5, n_classes)))) for s in shifts]


@pytest.mark.parametrize(("normalise", "low", "high"), [("ratio", 200, 350), ("none", 450, 650), ("logit", 25, 60)])
def test_a_mere_shift_makes_the_ratio_fire_and_the_logit_not(normalise, low, high):
    a, b = shifted(np.random.default_rng(0))
    assert low <= (compare(a, b, np.full(1000, TOTAL), normalise=normalise).p <= 0.05).sum() <= high


def pair_of(a, b, *, total=TOTAL, temperature=4):
    """nds and ds of counts a and b, as Predictions."""
    arms = ((a, "nds", None), (b, "ds", temperature))
    return [simulated.from_counts(c, total=total, model=model, temperature=t) for c, model, t in arms]


@pytest.mark.parametrize("normalise", list(NORMALISATIONS))
def test_a_mere_shift_gives_what_is_expected_of_it(normalise):
    a, b = pair_of(*shifted(np.random.default_rng(1), 300))
    found = class_nulls.beyond_accuracy(a, b, normalise=normalise, draws=30)
    assert found.count == class_bias.significant_classes(a, b, normalise=normalise).significant.sum()
    assert found.count == pytest.approx(found.expected, abs=4 * np.sqrt(found.expected))
    assert found.excess == found.count - found.expected
    assert found.low < found.excess < found.high
    assert found.answer != "not explained"


def test_equal_accuracies_leave_the_count_of_chance():
    study = simulated.study(n_classes=100, temperatures=(4,))
    pair = study.arm(model="nds"), study.arm(model="ds", temperature=4.0)
    found = class_nulls.beyond_accuracy(*pair, draws=30)
    assert found.expected == pytest.approx(4.4, abs=1)
    assert class_nulls.beyond_accuracy(*pair, draws=30) == found


def test_perfect_and_empty_classes_are_borne():
    rng = np.random.default_rng(0)
    totals = [50, 50, 50, 0]
    drawn = [np.c_[np.full(5, 50), rng.binomial(50, p, (5, 2)), np.zeros(5, int)] for p in (0.6, 0.8)]
    pair = pair_of(*drawn, total=totals)
    with pytest.warns(KdlibWarning):
        found = class_nulls.beyond_accuracy(*pair, draws=20)
    assert 0 <= found.expected <= 3
    assert np.isfinite([found.low, found.high]).all()


def world(rng, accuracy, *, moved=0.0, size=2.0, n_classes=100):
    """nds and ds counts: `accuracy` of both arms, and `moved` of the classes by `size` sds over seeds up or down."""
    profile, sd = rng.normal(0, 0.8, n_classes), np.sqrt(0.4 / TOTAL + 0.03**2)
    own = np.where(np.arange(n_classes) < moved * n_classes, rng.choice([-1, 1], n_classes), 0) * size * sd
    grid = np.linspace(-4, 4, 2000)
    overall = expit(profile + grid[:, None]).mean(axis=1)
    shifts = (grid[np.argmin(np.abs(overall - a))] for a in accuracy)
    angles = [2 * np.arcsin(np.sqrt(expit(profile + shift))) for shift in shifts]
    noise = sd * rng.standard_normal((2, 5, n_classes))
    return [
        np.rint(TOTAL * np.sin((angle + x).clip(0, np.pi) / 2) ** 2).astype(int)
        for angle, x in zip((angles[0], angles[1] + own), noise, strict=True)
    ]


def answers(accuracy, *, normalise, studies, draws, **options):
    """{answer: share of studies}."""
    rng, found = np.random.default_rng(0), []
    for _ in range(studies):
        pair = pair_of(*world(rng, accuracy, **options))
        found.append(class_nulls.beyond_accuracy(*pair, normalise=normalise, draws=draws).answer)
    return {answer: found.count(answer) / studies for answer in ("explained", "not explained", "undecided")}


LOWER, LOWER_STILL, SAME = (0.74, 0.69), (0.42, 0.38), (0.7, 0.7)


@pytest.mark.parametrize(
    ("accuracy", "normalise"), [(LOWER, "ratio"), (LOWER_STILL, "ratio"), (LOWER, "logit"), (SAME, "ratio")]
)
def test_a_shift_or_nothing_is_not_taken_for_more(accuracy, normalise):
    found = answers(accuracy, normalise=normalise, studies=12, draws=40)
    assert found["not explained"] <= 1 / 12 and found["explained"] > 0


@pytest.mark.parametrize(("accuracy", "normalise"), [(LOWER, "logit"), (SAME, "ratio")])
def test_a_fifth_of_the_classes_moved_by_two_sds_is_not_explained(accuracy, normalise):
    found = answers(accuracy, normalise=normalise, studies=10, draws=40, moved=0.2)
    assert found["not explained"] >= 0.8 and found["explained"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("normalise", ["ratio", "logit"])
def test_answers_are_seldom_wrong(normalise):
    """Wrongly 'not explained' 2.5 % or less, wrongly 'explained' as well; three standard errors of 40 studies."""
    most = 0.025 + 3 * np.sqrt(0.025 * 0.975 / 40)
    options = {"normalise": normalise, "studies": 40, "draws": 60}
    for accuracy in (LOWER, LOWER_STILL, SAME):
        found = answers(accuracy, **options)
        assert found["not explained"] <= most and found["explained"] >= 0.25
    assert answers(SAME, moved=0.1, **options)["explained"] <= most  # 7 to 8 classes more than by chance
    assert answers(LOWER, moved=0.2, **options)["explained"] == 0
    assert answers(SAME, moved=0.1, n_classes=10, **options)["explained"] <= most
    assert answers(SAME, n_classes=10, **options)["undecided"] >= 0.7  # ten classes cannot tell


def test_counts_of_many_studies_at_once_are_those_of_each():
    rng = np.random.default_rng(0)
    drawn = rng.binomial(20, np.linspace(0.3, 1, 12), (7, 9, 12))
    for normalise in NORMALISATIONS:
        each = [count_significant(x[:5], x[5:], np.full(12, 20), normalise=normalise) for x in drawn]
        found = class_nulls.counts_of_studies(drawn[:, :5], drawn[:, 5:], np.full(12, 20), normalise)
        assert found.tolist() == each


def test_students_like_their_own_teachers_are_expected_to_differ_less():
    study = study_with_inheritance(0.8)
    teacher, ds = study.arm(model="teacher"), study.arm(model="ds")
    own = class_nulls.beyond_accuracy(teacher.take(np.arange(5)), ds, draws=20)
    fresh = class_nulls.beyond_accuracy(teacher.take(np.arange(5, 10)), ds, draws=20)
    assert own.expected < 1 < 3 < fresh.expected


def test_students_that_equal_their_teachers_have_their_noise():
    """Rounding may put their correlation above 1 by a last digit."""
    rng, noise = np.random.default_rng(0), np.random.default_rng(1).standard_normal((4, 3, 5))
    model = class_nulls.ShiftModel(*[np.ones(5)] * 4, (3, 3), alike=np.nextafter(1, 2) * np.eye(3)[::-1])
    np.testing.assert_allclose(class_nulls._kin(rng, model, noise), noise[:, ::-1])


def test_kinship_is_the_correlation_of_students_with_their_own_teachers():
    arms = class_counts.study_arms(study_with_inheritance(0.6))
    found = class_nulls._alike(arms.own, arms.students[0])
    assert np.count_nonzero(found) == 5 and (np.diag(found) == found[0, 0]).all()
    assert found[0, 0] == pytest.approx(0.6, abs=0.1)
    assert not class_nulls._alike(arms.fresh, arms.students[0]).any()
    assert not class_nulls._alike(arms.nds, arms.students[0]).any()


def rising(share, *, always=0.0, accuracy=(0.74, 0.74, 0.715, 0.69), seed=7):
    """Predictions of NDS and DS at T = 2, 6, 10 that lose accuracy; a share of classes more moves from T to T."""
    drawn = [
        world(np.random.default_rng(seed), (accuracy[0], a), moved=always + share * i / 2)
        for i, a in enumerate(accuracy[1:])
    ]
    blocks = {("nds", None): drawn[0][0]}
    return simulated.from_counts_of_arms(
        blocks | {("ds", t): b for t, (_, b) in zip((2, 6, 10), drawn, strict=True)}, total=TOTAL
    )


def test_a_rise_that_accuracy_makes_is_told_from_one_of_classes():
    mere, more = (class_nulls.trend_beyond_accuracy(rising(share), draws=40) for share in (0, 0.5))
    assert mere.expected > 8 and mere.answer != "not explained"
    assert more.excess > 10 and more.answer == "not explained"


@pytest.mark.slow
@pytest.mark.parametrize("normalise", ["ratio", "logit"])
@pytest.mark.parametrize(("share", "always"), [(0.0, 0.0), (0.0, 0.2), (0.3, 0.0)])
def test_answers_on_trends_are_seldom_wrong(share, always, normalise):
    """Nothing, a fifth of the classes moved alike at every T, and more and more of them."""
    found = [
        class_nulls.trend_beyond_accuracy(rising(share, always=always, seed=seed), normalise=normalise, draws=60).answer
        for seed in range(30)
    ]
    if share:
        assert found.count("explained") == 0 and found.count("not explained") >= 15
    else:
        assert found.count("not explained") <= 3 and found.count("explained") >= 3


def test_two_temperatures_give_the_difference_and_the_sign_turns_it():
    study = simulated.study(n_classes=40, temperatures=(2, 10), effect=0.15)
    rise = class_nulls.trend_beyond_accuracy(study, draws=20)
    assert rise.count == np.diff(class_bias.counts(study).n_significant_sc)[0]
    fall = class_nulls.trend_beyond_accuracy(study, sign=-1, draws=20)
    assert (fall.count, fall.expected, fall.low) == pytest.approx((-rise.count, -rise.expected, -rise.high))
    assert rise.answer == "not explained" and fall.answer == "explained"
    own = class_nulls.trend_beyond_accuracy(study, against="teacher", normalise="logit", draws=20)
    assert own.count == np.diff(class_bias.counts(study, normalise="logit").n_significant_tc)[0]


# own and fresh teachers


@pytest.mark.parametrize(("shared", "percent"), [(0.0, 4.5), (0.5, 1.2), (0.9, 0.05)])
def test_correlation_with_the_own_teacher_silences_the_test(shared, percent):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(5, 20_000))
    b = shared * a + np.sqrt(1 - shared**2) * rng.normal(size=a.shape)
    fired = (compare_values(a, b, np.zeros(20_000, bool), test="welch").p <= 0.05).mean()
    assert 100 * fired == pytest.approx(percent, abs=0.45)


def study_with_inheritance(shared, *, n_classes=100, fresh=5):
    """Students of T=2 copy `shared` of their own teacher's deviation; nobody differs in the mean."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 0.85, n_classes)
    teachers = rng.normal(size=(5 + fresh, n_classes))
    students = shared * teachers[:5] + np.sqrt(1 - shared**2) * rng.normal(size=(5, n_classes))
    blocks = {("teacher", None): teachers, ("nds", None): rng.normal(size=(5, n_classes)), ("ds", 2): students}
    return simulated.from_counts_of_arms(
        {key: np.rint(1000 * np.clip(truth + 0.03 * z, 0, 1)).astype(int) for key, z in blocks.items()}, total=1000
    )


def test_own_teachers_are_known_by_their_id_and_else_by_their_seed():
    study = study_with_inheritance(0.5, n_classes=10)
    study.runs.loc[study.runs.model == "ds", "teacher_id"] = [f"teacher-{s}" for s in (5, 6, 7, 8, 9)]
    assert class_counts.study_arms(study).own.seeds.tolist() == [5, 6, 7, 8, 9]
    assert class_counts.study_arms(study).fresh.seeds.tolist() == [0, 1, 2, 3, 4]
    study.runs["teacher_id"] = None
    assert class_counts.study_arms(study).own.seeds.tolist() == [0, 1, 2, 3, 4]


def test_teachers_without_students_do_not_disturb_pairs_by_seed():
    study = simulated.study(temperatures=(2,), fresh_teachers=3)
    found = class_bias.disagreement(study.arm(model="teacher"), study.arm(model="ds"))
    without = study.take(np.r_[0:5, 8:18])
    np.testing.assert_array_equal(found, class_bias.disagreement(without.arm(model="teacher"), without.arm(model="ds")))


# counts of five seeds


def arms_of(n_seeds, *, n_classes=20, accuracy_gap=0.08):
    """nds, teacher and ds of n_seeds, counted; students have their own teachers."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 0.8, n_classes)
    moved = np.where(np.arange(n_classes) % 2, accuracy_gap, -accuracy_gap)
    keys = (("teacher", None), ("nds", None), ("ds", 4))
    drawn = [rng.binomial(TOTAL, truth + change, (n_seeds, n_classes)) for change in (moved, moved / 2, 0)]
    return class_counts.study_arms(simulated.from_counts_of_arms(dict(zip(keys, drawn, strict=True)), total=TOTAL))


def test_five_of_six_seeds_by_brute_force():
    arms, totals = arms_of(6), np.full(20, TOTAL)
    nds, own, ds = arms.nds.correct, arms.own.correct, arms.students[0].correct
    fives = [list(rows) for rows in combinations(range(6), 5)]
    apart = [count_significant(nds[i], ds[j], totals, normalise="logit") for i, j in product(fives, fives)]
    found = class_nulls.counts_of_five(arms.nds, arms.students[0], normalise="logit")
    assert found == pytest.approx(np.mean(apart))
    together = [count_significant(own[i], ds[i], totals) for i in fives]
    assert class_nulls.counts_of_five(arms.own, arms.students[0]) == pytest.approx(np.mean(together))


def test_students_are_drawn_with_the_teachers_that_taught_them():
    arms, totals = arms_of(6), np.full(20, TOTAL)
    students = arms.students[0]
    turned = replace(students, runs=students.runs.assign(teacher_id=[f"teacher-{s}" for s in (5, 4, 3, 2, 1, 0)]))
    fives = [list(rows) for rows in combinations(range(6), 5)]
    own, ds = arms.own.correct[::-1], students.correct
    together = [count_significant(own[i], ds[i], totals) for i in fives]
    assert class_nulls.counts_of_five(arms.own, turned) == pytest.approx(np.mean(together))


def test_five_seeds_have_one_choice_and_ten_give_fewer_than_ten():
    five, ten = arms_of(5), arms_of(10)
    assert class_nulls.counts_of_five(five.nds, five.students[0]) == class_bias.n_significant(
        five.nds, five.students[0]
    )
    found = class_nulls.counts_of_five(ten.nds, ten.students[0])
    assert found == class_nulls.counts_of_five(ten.nds, ten.students[0])
    assert found < class_bias.n_significant(ten.nds, ten.students[0])
    rng = np.random.default_rng(5)
    seen = [
        class_bias.n_significant(*(arm.of_seeds(rng.permutation(10)[:5]) for arm in (ten.nds, ten.students[0])))
        for _ in range(300)
    ]
    assert found == pytest.approx(np.mean(seen), abs=0.5)


def test_fewer_than_five_seeds_are_refused():
    with pytest.raises(InvalidInput, match=r"nds \(4\)"):
        class_nulls.counts_of_five(arms_of(4).nds, arms_of(5).students[0])


# permutations


def test_arms_permutation_counts_all_126_splits():
    study = simulated.study(n_classes=30, temperatures=(10,), effect=0.2)
    found = class_nulls.arms_permutation(study.arm(model="nds"), study.arm(model="ds"))
    assert found.permutations == 126
    assert found.p == pytest.approx(1 / 126)  # the least there is
    assert found.observed == class_bias.counts(study).n_significant_sc[0]


def test_arms_permutation_is_calibrated_though_classes_of_a_run_depend_on_each_other():
    rng, p = np.random.default_rng(0), []
    truth, load = rng.uniform(0.5, 0.85, 30), rng.normal(size=30)
    for _ in range(120):
        drawn = rng.binomial(TOTAL, np.clip(truth + 0.03 * rng.normal(size=(10, 1)) * load, 0, 1))
        pair = [
            simulated.from_counts(drawn[i], total=TOTAL, model=m, temperature=t)
            for i, m, t in ((slice(5), "nds", None), (slice(5, 10), "ds", 4))
        ]
        p.append(class_nulls.arms_permutation(*pair).p)
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 120)
    assert 0.2 <= np.mean(np.array(p) <= 0.5) <= 0.65  # equal counts of few classes make it conservative


def test_arms_permutation_of_unequal_and_of_large_arms():
    study = simulated.study(n_classes=10, temperatures=(4,), n_seeds=8)
    nds, ds = study.arm(model="nds"), study.arm(model="ds")
    found = class_nulls.arms_permutation(nds.take(np.arange(5)), ds.take(np.arange(6)))
    assert found.permutations == 462
    large = class_nulls.arms_permutation(nds, ds)
    assert large.permutations == 2000
    assert large == class_nulls.arms_permutation(nds, ds)


def test_count_trend_finds_a_rise_and_is_not_fooled_by_labels():
    study = simulated.study(n_classes=40, temperatures=(2, 4, 6, 8, 10), effect=0.15)
    rise = class_nulls.count_trend(study, permutations=99)
    assert rise.observed >= 0.8 and rise.p <= 0.05 and rise.permutations == 99
    shuffled = study.runs["temperature"].replace({2.0: 8.0, 4.0: 6.0, 6.0: 4.0, 8.0: 2.0, 10.0: 1.0})
    fall = class_nulls.count_trend(replace(study, runs=study.runs.assign(temperature=shuffled)), permutations=99)
    assert fall.observed == pytest.approx(-rise.observed)
    assert class_nulls.count_trend(study, permutations=99) == rise


def test_kendall_equals_scipy_without_ties_and_is_0_for_constant_counts():
    from scipy.stats import kendalltau

    counts = np.array([3, 1, 4, 15, 9, 2, 6])
    assert class_nulls.kendall_tau(counts) == pytest.approx(kendalltau(np.arange(7), counts).statistic)
    assert class_nulls.kendall_tau(np.full(5, 3)) == 0


def test_trend_permutes_temperatures_within_the_block_of_a_teacher():
    orders = class_nulls._block_orders(np.random.default_rng(0), 4, 3, 5)
    assert orders.shape == (6, 4, 3)
    assert (np.sort(orders, axis=1) == np.arange(4)[None, :, None]).all()
    assert (orders[0] == np.arange(4)[:, None]).all()
    assert any((order[:, 0] != order[:, 1]).any() for order in orders[1:])


@pytest.mark.slow
def test_count_trend_is_calibrated_where_temperature_does_nothing():
    """Students inherit from their teacher, so that temperatures of one block resemble each other."""
    rng, p = np.random.default_rng(0), []
    truth = rng.uniform(0.5, 0.85, 40)
    for _ in range(100):
        teachers = rng.normal(0, 0.03, (5, 40))
        blocks = {("nds", None): rng.binomial(TOTAL, truth, (5, 40))}
        blocks |= {("ds", t): rng.binomial(TOTAL, np.clip(truth + teachers, 0, 1)) for t in range(2, 8)}
        p.append(class_nulls.count_trend(simulated.from_counts_of_arms(blocks, total=TOTAL), permutations=99).p)
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)
    assert 0.3 <= np.mean(np.array(p) <= 0.5) <= 0.65


def test_count_trend_needs_two_temperatures_and_takes_fresh_teachers():
    with pytest.raises(InvalidInput, match="1"):
        class_nulls.count_trend(simulated.study(temperatures=(2,)))
    study = simulated.study(temperatures=(2, 4, 10), fresh_teachers=4)
    for options in ({"against": "teacher"}, {"normalise": "arcsine"}):
        assert -1 <= class_nulls.count_trend(study, permutations=9, **options).observed <= 1
    with pytest.warns(KdlibWarning, match=r"fresh teacher \(4\)"):
        class_nulls.count_trend(study, permutations=9, against="fresh teacher")


# every choice at once


def test_sensitivity_has_a_row_a_choice_and_agrees_with_counts():
    study = simulated.study(n_classes=20, temperatures=(2, 10), effect=0.15)
    table = class_nulls.sensitivity(study)
    assert list(table.columns) == [
        "temperature",
        "against",
        "test",
        "normalise",
        "correction",
        "n_significant",
        "share_changed",
        "classes",
        "null_high",
    ]
    uncorrected = table[table["correction"] == "none"]["null_high"]
    assert set(uncorrected) == {class_bias.null_band(20, 5)[1]} and table["null_high"].max() == uncorrected.max()
    assert len(table) == 2 * 2 * 2 * 5 * 4
    keys = ["temperature", "against", "test", "normalise", "correction"]
    assert not table.duplicated(keys).any()
    counts = class_bias.counts(study, test="moderated", normalise="arcsine", correction="bh").set_index("temperature")
    ours = table[(table.test == "moderated") & (table.normalise == "arcsine") & (table.correction == "bh")]
    for row in ours.itertuples():
        column = {"nds": "n_significant_sc", "teacher": "n_significant_tc"}[row.against]
        assert row.n_significant == counts[column][row.temperature]
    wide = table.pivot(index=keys[:4], columns="correction", values="n_significant")
    for more, fewer in (("none", "bh"), ("bh", "holm"), ("bh", "by")):
        assert (wide[more] >= wide[fewer]).all()


def test_sensitivity_includes_fresh_teachers_where_there_are_any():
    study = simulated.study(n_classes=5, temperatures=(2,), fresh_teachers=5)
    table = class_nulls.sensitivity(study, corrections=(None,)).query("test == 'welch' and normalise == 'ratio'")
    assert table.against.tolist() == ["nds", "teacher", "fresh teacher"]
    with pytest.raises(InvalidInput, match="ds"):
        class_nulls.sensitivity(study.arm(model="nds"))


def test_two_seeds_are_enough_for_every_measure_to_warn_and_answer():
    study = simulated.study(n_classes=20, temperatures=(2, 4), n_seeds=2)
    for measure in (class_nulls.sensitivity, class_bias.counts):
        with pytest.warns(KdlibWarning) as caught:
            table = measure(study)
        assert len(caught) == 1
        assert isinstance(table, pd.DataFrame) and len(table)


@pytest.mark.parametrize("normalise", ["logit", "difference", "arcsine"])
def test_the_moderated_test_is_calibrated_in_every_band_of_accuracy(normalise):
    """An average over classes hides it: with a line for the trend of the variance 'logit' fires for 7 % of the classes
    below an accuracy of 0.2 and for 10 % above 0.9, 'difference' for 1 % there."""
    rng, edges = np.random.default_rng(0), np.array([0.2, 0.4, 0.6, 0.9])
    fired, tested = np.zeros(5), np.zeros(5)
    for _ in range(120):
        truth = rng.uniform(0.02, 0.99, 100)
        jitter = rng.normal(0, 0.15, (2, 5, 100))
        nds, ds = rng.binomial(100, expit(np.log(truth / (1 - truth)) + jitter))
        p = compare(nds, ds, np.full(100, 100), test="moderated", normalise=normalise).p
        band = np.digitize(truth, edges)
        fired += np.bincount(band, p <= 0.05, minlength=5)
        tested += np.bincount(band, minlength=5)
    assert tested.min() > 800 and (fired / tested > 0.03).all() and (fired / tested < 0.067).all(), fired / tested


def test_every_comparison_stands_beside_its_shift():
    p = simulated.study(n_classes=5, total=40, temperatures=(2, 4))
    rows = class_nulls.beyond_by_temperature(p)
    assert len(rows) == 2 * (3 + 2) and set(rows["normalise"]) == {"ratio", "logit"}
    row = rows[(rows["model"] == "ds") & (rows["temperature"] == 4) & (rows["against"] == "nds")].iloc[0]
    arms = p.arm(model="nds"), p.arm(model="ds", temperature=4.0)
    one = class_nulls.beyond_accuracy(*arms, normalise=row["normalise"])
    assert row[list(one._fields)].tolist() == list(one)
