"""Each rule on studies where its claim is true, false the other way, or nothing is there; and how often it errs."""

from dataclasses import replace

import numpy as np
import pytest

from kdlib.claims import finding
from kdlib.claims import on_classes as rules
from kdlib.errors import InvalidInput
from kdlib.measure import arms, fidelity
from kdlib.measure import stats as kd_stats
from kdlib.predictions import Predictions
from tests import simulated
from tests.simulated_claims import changed_classes, classes, copying, word

pytestmark = pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")


# --------------------------------------------------------------------------------------- true, false, and nothing there


@pytest.mark.parametrize(
    ("change", "expected"), [(0.01, "reproduced"), (-0.02, "not reproduced"), (-0.005, "inconclusive")]
)
def test_1_accuracy(change, expected):
    assert word(rules.accuracy_kept(classes(lambda t: change))) == expected


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


def test_7_a_worse_student_disagrees_more_anyway():
    found = rules.disagrees_less(copying(lambda t: 0, accuracy=lambda t: 0.7 if t else 0.9))
    assert found.value > 0.1 and found.p < 0.05
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
def test_7_nothing_there_is_inconclusive():
    words = [word(rules.disagrees_less(copying(lambda t: 0.0, seed=seed, n=500))) for seed in range(150)]
    assert words.count("inconclusive") >= 0.88 * 150 and words.count("reproduced") <= 0.06 * 150


@pytest.mark.slow
def test_7_without_an_effect_is_decided_in_five_of_a_hundred():
    """Block differences against a constant NDS mean would fire in 12 to 14 % of studies."""
    found = [rules.disagrees_less(copying(lambda t: 0.0, seed=seed, n=500)).p for seed in range(300)]
    assert 0.01 <= np.mean(np.array(found) <= 0.05) <= 0.08


@pytest.mark.slow
def test_1_half_a_point_worse_is_seldom_called_kept():
    words = [word(rules.accuracy_kept(classes(lambda t: -0.005, seed=seed))) for seed in range(150)]
    assert words.count("reproduced") <= 0.05 * 150
