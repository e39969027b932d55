"""Each rule on studies where its claim is true, false the other way, or nothing is there; and how often it errs."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from kdlib.claims import on_groups as rules
from kdlib.errors import InvalidInput
from kdlib.measure import fairness
from tests.simulated_claims import classes, grouped, twinned, word

FALLS = partial(rules.falls_with_temperature, sensitive="color")
BELOW = partial(rules.below_teacher, sensitive="color")
RISES = partial(rules.rises_again, sensitive="color")
REACTS = partial(rules.reacts_less, changed="color")
HIGH = (10, 40)


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (lambda t: 0.25 - 0.06 * np.log2(t), "reproduced"),
        (lambda t: 0.05 + 0.06 * np.log2(t), "not reproduced"),
        (lambda t: 0.1, "inconclusive"),
    ],
)
def test_8_differences_fall(gap, expected):
    found = FALLS(grouped(gap, temperatures=(1, 2, 4, 10)))
    assert word(found) == expected
    assert found.n_blocks == 5
    assert found.temperatures == (1, 2, 4, 10)


def test_8_fewer_errors_explain_a_fall_that_the_floor_shares():
    """Ten groups that nothing sets apart: fewer errors make the largest difference of their rates smaller."""
    found = FALLS(grouped(lambda t: 0, right=lambda t: 0.6 + 0.1 * np.log2(t) if t else 0.7, n_groups=10, n=1500))
    assert found.value < 0 and "EOD changes by +" in found.control


@pytest.mark.parametrize(
    ("rule", "right"),
    [
        (FALLS, lambda t: 0.95 - 0.1 * np.log2(t or 1)),
        (BELOW, lambda t: 0.6 if t else 0.98),
        (RISES, lambda t: 0.6 if t == 10 else 0.95),
    ],
)
def test_8_to_10_more_errors_alone_decide_nothing(rule, right):
    """Twenty groups that nothing sets apart: more errors make the largest differences of their rates larger."""
    p = grouped(
        lambda t: 0, nds=0, teacher=0, right=right, n_groups=20, n=6000, one_in=12, temperatures=(1, 3, *HIGH), seed=1
    )
    found = rule(p)
    assert found.p < 0.05 and word(found) == "explained by accuracy"


def test_8_says_how_often_ds_lies_below_nds():
    found = FALLS(grouped(lambda t: 0.1 if t > 1 else 0.4, nds=0.25, teacher=0.05, temperatures=(1, 2, 4)))
    assert "EOD: DS at 2 of 3 temperatures, teacher below" in found.text


def test_floors_of_runs_are_those_of_arms():
    p = grouped(lambda t: 0.1, temperatures=(1, 4), n=600)
    arms = fairness.floors(p, sensitive="color", draws=50, seed=3).query("model == 'nds'").set_index("metric")["mean"]
    runs = rules.run_floors(p, sensitive="color", draws=50, seed=3)
    nds = (p.runs["model"] == "nds").to_numpy()
    for name in ("eod", "dpd"):
        assert runs[name][nds].mean() == pytest.approx(arms[f"{name}_floor"], abs=0.01)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [(0.05, 0.15, "reproduced"), (0.25, 0.05, "not reproduced"), (0.1, 0.1, "inconclusive")],
)
def test_9_below_the_teacher(student, teacher, expected):
    found = BELOW(grouped(lambda t: student, teacher=teacher, temperatures=HIGH))
    assert word(found) == expected
    assert found.temperatures == (10,)
    assert "The labels themselves have a DPD of" in found.text


@pytest.mark.parametrize(
    ("ten", "forty", "expected"), [(0.05, 0.2, "reproduced"), (0.2, 0.05, "not reproduced"), (0.1, 0.1, "inconclusive")]
)
def test_10_worse_again(ten, forty, expected):
    assert word(RISES(grouped(lambda t: ten if t == 10 else forty, temperatures=HIGH, seed=1))) == expected


@pytest.mark.parametrize(
    ("moved", "expected"),
    [(lambda t: 2 / np.sqrt(t), "reproduced"), (np.sqrt, "not reproduced"), (lambda t: 1.0, "inconclusive")],
)
def test_11_outputs_move_less(moved, expected):
    assert word(REACTS(twinned(moved))) == expected


def test_11_softer_outputs_alone_are_no_fairness():
    found = REACTS(twinned(lambda t: 1.0, softness=np.sqrt))
    assert found.p < 0.001
    assert found.toward
    assert word(found) == "inconclusive"
    assert "may merely have become less confident" in found.control


def test_11_surer_outputs_alone_are_no_harm():
    found = REACTS(twinned(lambda t: 1.0, softness=lambda t: 4 / np.sqrt(t)))
    assert found.p < 0.001 and not found.toward
    assert word(found) == "inconclusive"
    assert "may merely have become more confident" in found.control


def test_what_is_not_there_is_named():
    with pytest.raises(InvalidInput, match="sensitive"):
        FALLS(classes(temperatures=(1, 10), n_classes=10))
    with pytest.raises(InvalidInput, match="twins"):
        REACTS(grouped(lambda t: 0.1, temperatures=(1, 10), n=300))
    with pytest.raises(InvalidInput, match="10"):
        BELOW(grouped(lambda t: 0.1, temperatures=(1, 4), n=300))


def test_another_feature_where_the_preferred_one_is_not_there():
    p = grouped(lambda t: 0.1, temperatures=HIGH, n=300)
    other = replace(p, groups={"young": p.groups["color"]})  # in words, as in figures
    assert "DPD by Young less" in BELOW(other).text and BELOW(other).statistic.startswith("DPD by Young at")
    twins = twinned(lambda t: 1.0, temperatures=(1, 4), n=80)
    assert "when texture alone changes" in REACTS(replace(twins, twins={"texture": twins.twins["color"]})).text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "study"),
    [
        (FALLS, lambda seed: grouped(lambda t: 0.1, temperatures=(1, 3, 10), seed=seed, n=800, seed_sd=0.03)),
        (BELOW, lambda seed: grouped(lambda t: 0.1, teacher=0.1, temperatures=(10,), seed=seed, n=800, seed_sd=0.03)),
        (RISES, lambda seed: grouped(lambda t: 0.1, temperatures=HIGH, seed=seed, n=800, seed_sd=0.03)),
        (REACTS, lambda seed: twinned(lambda t: 1.0, temperatures=(1, 3, 10), seed=seed, n=200)),
    ],
)
def test_nothing_there_is_inconclusive(rule, study):
    """5 % are expected to be decided either way, half of them as reproduced; here with room for chance."""
    words = [word(rule(study(seed))) for seed in range(150)]
    assert words.count("inconclusive") >= 0.89 * 150
    assert words.count("reproduced") <= 0.06 * 150
