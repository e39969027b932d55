"""The forest plot shows each study's number and interval, its verdict in shape and color, and what is pooled."""

import numpy as np
import pandas as pd
import pytest

from kdlib.show import forest
from tests.show.test_class_figures import artist, labels


@pytest.fixture
def spread():
    return pd.DataFrame(
        {
            "claim": [7, 7, 8],
            "studies": ["one", "two", "one"],
            "title": ["Digits, ResNet-8 → LeNet-5"] * 2 + ["HateXplain, BERT-Tiny (2 × 128) → BERT 1 × 64"],
            "statistic": ["disagreement", "disagreement", "EOD by gender, majority, change"],
            "verdict": ["reproduced", "inconclusive", "not reproduced"],
            "value": [-0.02, 0.01, 0.03],
            "low": [-0.03, -0.01, 0.01],
            "high": [-0.01, 0.03, 0.05],
            "n_blocks": [5, 5, 4],
        }
    )


@pytest.fixture
def pool():
    ends = {"value": 0.0, "low": -0.02, "high": 0.02, "lowest": -0.05, "highest": 0.05}
    return pd.DataFrame([{"claim": 7, "data_sets": 3, **ends}])


def test_numbers_are_in_points_beside_their_study(spread, pool):
    figure = forest.forest(spread, pool, margins={}, title="A profile")
    first, second = figure.axes
    assert "over 4 to 5 teachers" in figure.caption
    assert artist(first, "seen").lines[0].get_xdata() == pytest.approx(-2)
    assert [t.get_text() for t in first.get_yticklabels()] == [
        "Digits, ResNet-8 → LeNet-5: one",
        "Digits, ResNet-8 → LeNet-5: two",
        "pooled, 3 data sets",
    ]
    assert artist(first, "pooled over data sets").lines[0].get_xdata() == pytest.approx(0)
    assert [t.get_text() for t in second.get_yticklabels()] == [
        "HateXplain, BERT-Tiny (2 × 128) →\nBERT 1 × 64 by gender, majority"
    ]
    assert second.get_title(loc="left") == "8. EOD, change (points)"
    assert "opposite" in labels(second) and "not told from chance" in labels(first)


def test_a_prediction_far_wider_than_the_rest_leaves_the_rest_readable(spread, pool):
    wide = pool.assign(lowest=-5.0, highest=4.0)  # the others take 6 points
    first, _ = forest.forest(spread, wide, margins={}, title="A profile").axes
    left, right = first.get_xlim()
    assert -4 < left < -3 and 3 < right < 4
    assert [line.get_marker() for line in first.lines if line.get_marker() in ("<", ">")] == ["<", ">"]


def test_a_number_without_an_interval_has_no_panel(spread, pool):
    rows = spread.assign(low=[np.nan, np.nan, 0.01])
    shown = [ax for ax in forest.forest(rows, pool, margins={}, title="A profile").axes if ax.axison]
    assert len(shown) == 1


def test_a_rule_with_a_margin_shows_it(spread, pool):
    first, second = forest.forest(spread, pool, margins={7: -0.005}, title="A profile").axes
    assert artist(first, "margin of claim 7").get_xdata() == pytest.approx([-0.5, -0.5])
    assert not [name for name in labels(second) if "margin" in name]


def test_verdicts_differ_in_shape_or_filling_too():
    looks = [(look["marker"], look.get("markerfacecolor")) for look in forest.LOOKS.values()]
    assert len(set(looks)) == len(looks)
