"""Each rule on studies where its claim is true, false the other way, or nothing is there; and how often it errs."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from kdlib.claims import finding
from kdlib.claims import on_classes as rules
from kdlib.claims.board import verdict
from kdlib.errors import InvalidInput
from kdlib.measure import arms, fidelity
from kdlib.measure import stats as kd_stats
from kdlib.measure.class_nulls import count_trend, trend_beyond_accuracy
from kdlib.predictions import Predictions
from tests import simulated
from tests.simulated_claims import changed_classes, classes, copying, growing_alike, signs

S = 0.08 * signs(100)  # eight points up or down
RISES = partial(rules.count_trends, against="nds", sign=1)
FALLS = partial(rules.count_trends, against="teacher", sign=-1)
pytestmark = pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")


@pytest.fixture(autouse=True)
def fewer_permutations(monkeypatch):
    monkeypatch.setattr(rules, "count_trend", partial(count_trend, permutations=199))
    monkeypatch.setattr(rules, "trend_beyond_accuracy", partial(trend_beyond_accuracy, draws=60))


def word(finding):
    """The verdict of a claim that is tested alone."""
    return verdict(finding, finding.p)


def at_alpha(alpha, change, seed):
    p = classes(change, seed=seed)
    return replace(p, runs=p.runs.assign(alpha=p.runs["alpha"].where(p.runs["model"] != "ds", alpha)))


def ten_and_forty(ten, forty, seed=0):
    return classes(lambda t: S * (ten if t == 10 else forty), teacher=S, temperatures=(10, 40), seed=seed)


# --------------------------------------------------------------------------------------- true, false, and nothing there


@pytest.mark.parametrize(
    ("change", "expected"), [(0.01, "reproduced"), (-0.02, "not reproduced"), (-0.005, "inconclusive")]
)
def test_1_accuracy(change, expected):
    assert word(rules.accuracy_kept(classes(lambda t: change))) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: S * t / 10, "reproduced"),
        (lambda t: S * (12 - t) / 10, "not reproduced"),
        (lambda t: 0.0, "inconclusive"),
    ],
)
def test_2_differences_from_nds_rise(change, expected):
    assert word(RISES(classes(change))) == expected


def test_2_a_uniform_fall_of_accuracy_explains_a_rise():
    found = RISES(classes(lambda t: -0.009 * t, total=200))
    assert found.p <= 0.05
    assert found.toward
    assert word(found) == "explained by accuracy"


@pytest.mark.parametrize(
    ("change", "fresh", "expected"),
    [
        (lambda t: S * t / 10, 5, "reproduced"),
        (lambda t: S * t / 10, 0, "inconclusive"),
        (lambda t: S * (1 - t / 10), 5, "not reproduced"),
        (lambda t: 0.0, 5, "inconclusive"),
    ],
)
def test_3_differences_from_the_teacher_fall(change, fresh, expected):
    assert word(FALLS(classes(change, teacher=S, fresh=fresh))) == expected


def test_3_growing_alike_is_not_a_fall():
    found = FALLS(growing_alike())
    assert found.p <= 0.05
    assert found.toward
    assert found.instead == "inconclusive"
    assert "growing likeness" in found.control


@pytest.mark.parametrize(("effect", "expected"), [(0.0, "reproduced"), (0.1, "not reproduced")])
def test_4_few_of_ten(effect, expected):
    assert word(rules.few_classes(classes(lambda t: effect * signs(10), n_classes=10))) == expected


def test_4_counts_both_comparisons_and_scales_the_sum():
    p = classes(lambda t: 0.1 * signs(10), n_classes=10, temperatures=(2, 10))
    arms = rules.study_arms(p)
    counts = [rules.significant(reference, arms.students) for reference in (arms.nds, arms.own)]
    found = rules.few_classes(p)
    assert found.value == np.max(counts[0]) > 3
    assert f"#SC is at most {counts[0].max()} at any T and {counts[0].sum()} in sum" in found.text
    assert "2.4 in sum" in found.text  # 11 over nine temperatures, so much over two


def test_4_judges_sc_and_tc_apart():
    """All classes of the teacher differ from DS, none of NDS: #TC alone does not make the claim untrue."""
    found = rules.few_classes(classes(lambda t: 0.0, teacher=0.1 * signs(10), n_classes=10))
    assert word(found) == "inconclusive"
    assert "#SC" in found.text and "what chance gives" in found.text and "above chance" in found.text


def test_4_says_nothing_where_a_change_would_not_show():
    """Two seeds: two classes moved by two sds of ten hardly ever pass the bounds."""
    p = classes(n_classes=10, temperatures=(2, 10))
    few = p.take(np.flatnonzero(p.runs["seed"] < 2))
    found = rules.few_classes(few)
    assert found.toward is None and "too little power" in found.text


def test_the_power_of_claim_4_grows_with_seeds_and_temperatures():
    p = classes(n_classes=10)
    (nds,), students = rules.compared_arms(p, "nds")
    few = [arm.of_seeds(range(3)) for arm in students[:2]]
    assert rules.power_of_few(nds, students) > 0.85
    assert rules.power_of_few(nds.of_seeds(range(3)), few) < 0.7


def test_4_is_about_ten_classes():
    with pytest.raises(InvalidInput, match="100"):
        rules.few_classes(classes())


@pytest.mark.parametrize(
    ("shares", "expected"),
    [((0, 0, 0.4, 0.8), "reproduced"), ((0.9, 0.8, 0.2, 0), "not reproduced"), ((0, 0, 0, 0), "inconclusive")],
)
def test_5_harder_data(shares, expected):
    sizes = zip((10, 10, 100, 200), shares, (200, 100, 100, 60), strict=True)
    found = rules.hardness(
        *[changed_classes(share, n_classes=c, total=n, seed=7 + i) for i, (c, share, n) in enumerate(sizes)]
    )
    assert word(found) == expected
    assert "With 60 test images a class" in found.text


def test_5_needs_four_data_sets_of_different_size():
    with pytest.raises(InvalidInput, match=r"\[10, 10\]"):
        rules.hardness(*[changed_classes(0, n_classes=10, total=20)] * 2)
    with pytest.raises(InvalidInput, match=r"\[10, 10, 10, 10\]"):
        rules.hardness(*[changed_classes(0, n_classes=10, total=20)] * 4)


def test_5_two_classes_have_one_p_and_are_refused():
    two, ten = changed_classes(0.5, n_classes=2, total=200), changed_classes(0, n_classes=10, total=20)
    (nds,), students = rules.compared_arms(two, "nds")
    p = rules.compare_arms(nds, students[0], test="moderated", normalise="arcsine").p
    assert p[0] == pytest.approx(p[1]), "centered, two classes are one number"
    with pytest.raises(InvalidInput, match=r"\[10, 10, 12, 2\]"):
        rules.hardness(ten, ten, changed_classes(0, n_classes=12, total=20), two)


@pytest.mark.parametrize(
    ("ten", "forty", "expected"), [(0.9, 0, "reproduced"), (0, 0.9, "not reproduced"), (0.3, 0.3, "inconclusive")]
)
def test_6_reversal(ten, forty, expected):
    found = rules.reversal(ten_and_forty(ten, forty))
    assert word(found) == expected
    assert found.temperatures == (10, 40)
    assert found.n_blocks == 5


def test_6_names_the_temperature_that_is_missing():
    with pytest.raises(InvalidInput, match="40"):
        rules.reversal(classes())


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (lambda t: 0.5 if t else 0.1, "reproduced"),
        (lambda t: 0.1 if t else 0.5, "not reproduced"),
        (lambda t: 0.0, "inconclusive"),
    ],
)
def test_7_disagreement(share, expected):
    assert word(rules.disagrees_less(copying(share))) == expected


def test_7_a_better_student_disagrees_less_anyway():
    found = rules.disagrees_less(copying(lambda t: 0, accuracy=lambda t: 0.9 if t else 0.7))
    assert found.value < -0.1
    assert word(found) == "explained by accuracy"


def test_7_says_nothing_of_accuracy_where_error_consistency_is_not_defined():
    """A teacher and its student that are always right, of five: less disagreement, and no kappa."""
    p = copying(lambda t: 0.5 if t else 0.1)
    right = (p.runs["seed"] == 0).to_numpy() & (p.runs["model"] != "nds").to_numpy()
    found = rules.disagrees_less(replace(p, predicted=np.where(right[:, None], p.labels, p.predicted)))
    assert found.toward and found.p < 0.05 and word(found) == "inconclusive"
    assert "nan" not in found.control and "undefined" in found.control


def test_7_takes_the_temperature_nearest_to_nine():
    p = copying(lambda t: 0.3, temperatures=(2, 8, 40))
    assert rules.disagrees_less(p).temperatures == (8,)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (lambda t: S * t / 10, "reproduced"),
        (lambda t: S * (12 - t) / 10, "not reproduced"),
        (lambda t: 0.0, "inconclusive"),
    ],
)
def test_12_both_alphas(other, expected):
    found = rules.alphas_agree(at_alpha(0.6, lambda t: S * t / 10, 0), at_alpha(0.8, other, 1))
    assert word(found) == expected


# ------------------------------------------------------------------------------------------------------ numbers by hand


def test_error_consistency_by_hand():
    """Both right 8 of 10 times: .8 * .8 + .2 * .2 = .68 by chance; the same errors 1, no common (.6 - .68) / .32."""
    a = np.array([1] * 8 + [0] * 2, bool)
    assert fidelity.error_consistency(a, a) == pytest.approx(1)
    assert fidelity.error_consistency(a, a[::-1]) == pytest.approx((0.6 - 0.68) / 0.32)
    assert np.isnan(fidelity.error_consistency(a | True, a | True))


def test_most_confused_by_hand():
    """The only disagreements: teacher says 1 where DS says 0, three images of ten."""
    labels, teacher = np.arange(10) % 2, np.array([1, 1, 1, 1, 0, 1, 0, 1, 1, 1])
    runs = simulated.runs_table([("teacher", None, [0]), ("ds", 4, [0])])
    ids = np.arange(10).astype(str)
    p = Predictions(runs, np.stack([teacher, labels]), labels, ids, ("cat", "dog"))
    assert rules.most_confused(p) == " DS disagrees most between cat and dog (100.0 % of it)."
    assert rules.most_confused(replace(p, predicted=np.stack([labels, labels]))) == ""


def test_contrast_is_the_difference_of_the_counts():
    p = ten_and_forty(0.9, 0)
    counts = rules.study_arms(p)
    assert rules.count_contrast(p, against="nds", low=10, high=40).value == np.diff(
        rules.significant(counts.nds, counts.students)
    )


@pytest.mark.parametrize(
    ("interval", "flat"), [((-1.0, 1.0), True), ((-2.0, 2.1), False), ((0.0, 0.0), False), ((-3.0, 3.0), False)]
)
def test_flat_is_an_interval_inside_the_sd_of_a_count_by_chance(monkeypatch, interval, flat):
    """sqrt(100 * .045 * .955) = 2.07 of 100 classes. Where no block left out changes the count there is no interval."""
    monkeypatch.setattr(rules, "count_contrast", lambda *a, **k: kd_stats.Tested(0.0, *interval, 1.0))
    found = RISES(classes())
    assert found.flat == flat
    assert word(found) == ("not reproduced" if flat else "inconclusive")


def test_three_temperatures_are_named_as_too_few():
    found = RISES(classes(lambda t: S * t / 10, temperatures=(2, 4, 10)))
    assert "3 temperatures are too few for a trend: chance alone orders them with p = 0.33." in found.text


# -------------------------------------------------------------------------------------------------- shared by all rules


def test_joint_needs_all_for_a_claim_and_one_against_it():
    up, more, down = (kd_stats.Tested(v, v, v, p) for v, p in ((1.0, 0.01), (2.0, 0.04), (-1.0, 0.02)))
    assert finding.joint([up, more], [1, 1]) == (0.04, True)
    assert finding.joint([up, down], [1, 1]) == (0.04, False)  # 2 * 0.02
    assert finding.joint([up, down], [1, -1]) == (0.02, True)
    assert finding.joint([kd_stats.Tested(0.0, 0, 0, 1.0), up], [1, 1]) == (1.0, None)


def test_crossed_differences_by_hand():
    """Blocks less their own row of others: 1, 3; the columns' means 2, 4. Both spreads count."""
    own, others = np.array([4.0, 6.0]), np.array([[2.0, 4.0], [2.0, 4.0]])
    found = rules.crossed(own, others)
    assert found.value == 2
    assert found.high - found.low == pytest.approx(2 * 4.302653 * np.sqrt(2 / 2 + 2 / 2), rel=1e-6)  # df 2 (Welch)
    assert rules.crossed(own, others.T[:, ::-1]).value == 2


def test_which_seed_an_nds_has_changes_nothing_in_claims_1_and_7():
    p = copying(lambda t: 0.3, temperatures=(2, 9))
    nds = np.flatnonzero(p.runs["model"] == "nds")
    order = np.arange(len(p.runs))
    order[nds] = nds[::-1]
    runs = p.runs.assign(run_id=p.runs["run_id"].to_numpy()[order])
    moved = replace(p, runs=runs, predicted=p.predicted[order])
    for rule in (rules.accuracy_kept, rules.disagrees_less):
        assert rule(moved).value == pytest.approx(rule(p).value)
        assert rule(moved).low == pytest.approx(rule(p).low)


def test_the_visible_change_is_seen_in_80_percent():
    """Power of Student's t by statsmodels."""
    from statsmodels.stats.power import TTestPower

    values = np.array([0.3, 0.1, 0.4, 0.1, 0.5])
    found = kd_stats.t_test(values)
    assert TTestPower().power(found.visible / values.std(ddof=1), nobs=5, alpha=0.05) == pytest.approx(0.8, abs=1e-4)


def test_t_test_is_scipys():
    from scipy import stats

    values = np.array([0.3, 0.1, 0.4, 0.1, 0.5])
    assert kd_stats.t_test(values).p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-9)
    assert kd_stats.t_test(np.full(5, 0.2)).p == 0.0625  # five signs cannot show more
    assert kd_stats.t_test(np.zeros(5)).p == 1


def test_slopes_are_per_doubling():
    p = classes(temperatures=(1, 2, 4, 8))
    wide = arms.by_block(p, np.log2(p.runs["temperature"].to_numpy()) * 3)
    assert kd_stats.block_slopes(wide) == pytest.approx([3] * 5)
    with pytest.raises(InvalidInput, match="1"):
        kd_stats.block_slopes(wide[[1.0]])


def test_blocks_that_lack_a_temperature_are_left_out():
    p = classes(temperatures=(2, 4))
    short = p.take(np.arange(len(p.runs) - 1))
    assert len(arms.by_block(p, p.accuracy)) == 5
    assert len(arms.by_block(short, short.accuracy)) == 4


def test_one_teacher_for_all_is_no_block():
    p = classes(temperatures=(2, 10))
    same = replace(p, runs=p.runs.assign(teacher_id=p.runs["teacher_id"].where(p.runs["model"] != "ds", "teacher-0")))
    arms.check_blocks(p)
    with pytest.raises(InvalidInput, match="5 .* 1 "):
        arms.check_blocks(same)


# ---------------------------------------------------------------------------------------------------- how often it errs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "study", "n"),
    [
        (RISES, lambda seed: classes(seed=seed, n_classes=40), 60),
        (FALLS, lambda seed: classes(seed=seed, n_classes=40, teacher=0.08 * signs(40)), 60),
        (rules.reversal, lambda seed: ten_and_forty(0.4, 0.4, seed), 150),
        (rules.disagrees_less, lambda seed: copying(lambda t: 0.0, seed=seed, n=500), 150),
    ],
)
def test_nothing_there_is_inconclusive(rule, study, n):
    """At most one in ten (5 % expected) is decided either way; one in 40 is expected to be called reproduced."""
    words = [word(rule(study(seed))) for seed in range(n)]
    assert words.count("inconclusive") >= 0.88 * n
    assert words.count("reproduced") <= 0.06 * n


@pytest.mark.slow
def test_4_chance_is_called_chance():
    """By design in 95 % of studies for #SC and for #TC each, and a little oftener since arms share their runs."""
    words = [word(rules.few_classes(classes(seed=seed, n_classes=10))) for seed in range(100)]
    assert words.count("reproduced") >= 85


@pytest.mark.slow
def test_5_nothing_there_is_inconclusive():
    sizes = ((10, 200), (10, 100), (100, 100), (200, 60))
    words = [
        word(
            rules.hardness(
                *[changed_classes(0, n_classes=c, total=n, seed=10 * k + i) for i, (c, n) in enumerate(sizes)]
            )
        )
        for k in range(30)
    ]
    assert words.count("inconclusive") >= 27


@pytest.mark.slow
def test_7_without_an_effect_is_decided_in_five_of_a_hundred():
    """Block differences against a constant NDS mean would fire in 12 to 14 % of studies."""
    found = [rules.disagrees_less(copying(lambda t: 0.0, seed=seed, n=500)).p for seed in range(300)]
    assert 0.01 <= np.mean(np.array(found) <= 0.05) <= 0.08


@pytest.mark.slow
def test_1_half_a_point_worse_is_seldom_called_kept():
    words = [word(rules.accuracy_kept(classes(lambda t: -0.005, seed=seed))) for seed in range(150)]
    assert words.count("reproduced") <= 0.05 * 150
