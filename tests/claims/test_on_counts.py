"""The rules that count classes, on studies where a claim is true, false the other way, or nothing is there."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from kdlib.claims import on_counts as rules
from kdlib.errors import InvalidInput
from kdlib.measure import stats as kd_stats
from kdlib.measure.class_nulls import count_trend, trend_beyond_accuracy
from tests.simulated_claims import classes, growing_alike, signs, word

S = 0.08 * signs(100)  # eight points up or down
RISES = partial(rules.count_trends, against="nds", sign=1)
FALLS = partial(rules.count_trends, against="teacher", sign=-1)
pytestmark = pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")


@pytest.fixture(autouse=True)
def fewer_permutations(monkeypatch):
    monkeypatch.setattr(rules, "count_trend", partial(count_trend, permutations=199))
    monkeypatch.setattr(rules, "trend_beyond_accuracy", partial(trend_beyond_accuracy, draws=60))


def at_alpha(alpha, change, seed):
    p = classes(change, seed=seed)
    return replace(p, runs=p.runs.assign(alpha=p.runs["alpha"].where(p.runs["model"] != "ds", alpha)))


def ten_and_forty(ten, forty, seed=0):
    return classes(lambda t: S * (ten if t == 10 else forty), teacher=S, temperatures=(10, 40), seed=seed)


# --------------------------------------------------------------------------------------- true, false, and nothing there


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
    assert "temperatures −" in found.text and "-0" not in found.text + found.control, "true minus signs"
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
    ("ten", "forty", "expected"), [(0.9, 0, "reproduced"), (0, 0.9, "not reproduced"), (0.3, 0.3, "inconclusive")]
)
def test_6_reversal(ten, forty, expected):
    found = rules.reversal(ten_and_forty(ten, forty))
    assert word(found) == expected
    assert found.temperatures == (10, 40)
    assert found.n_blocks == 5


def test_6_asks_of_a_shift_only_the_counts_that_decide(monkeypatch):
    """#SC that does not change decides nothing; #TC that falls is against the claim."""
    changes = {"nds": kd_stats.Tested(0.0, -4.0, 4.0, 1.0), "teacher": kd_stats.Tested(-20.0, -25.0, -15.0, 0.001)}
    asked, answers = [], iter(["not explained", "undecided"])

    def beyond(p, *, against, sign):
        asked.append((against, sign))
        return SimpleNamespace(answer=next(answers))

    monkeypatch.setattr(rules, "count_contrast", lambda p, *, against, **_: changes[against])
    monkeypatch.setattr(rules, "trend_beyond_accuracy", beyond)
    p = ten_and_forty(0.3, 0.3)
    assert word(rules.reversal(p)) == "not reproduced" and asked == [("teacher", -1)]
    assert word(rules.reversal(p)) == "inconclusive"


def test_6_names_the_temperature_that_is_missing():
    with pytest.raises(InvalidInput, match="40"):
        rules.reversal(classes())


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


# ---------------------------------------------------------------------------------------------------- how often it errs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "study", "n"),
    [
        (RISES, lambda seed: classes(seed=seed, n_classes=40), 60),
        (FALLS, lambda seed: classes(seed=seed, n_classes=40, teacher=0.08 * signs(40)), 60),
        (rules.reversal, lambda seed: ten_and_forty(0.4, 0.4, seed), 150),
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
