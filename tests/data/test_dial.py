"""The dial of `trifeature-biased`: counts and disparities that can be worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.data import dial
from kdlib.errors import InvalidInput, UndefinedMetric


def test_counts_by_hand():
    # rho 0.4, groups alike: both = 1000 (0.5 + 0.4 * 0.5) / 2
    assert dial.cell_counts(1000, rho=0.4, group_share=0.5).tolist() == [[350, 150], [150, 350]]
    # sqrt(0.2 * 0.8) = 0.4: both = 1000 (0.2 + 0.25 * 0.4) / 2; base rates 150 / 200 and 350 / 800
    assert dial.cell_counts(1000, rho=0.25, group_share=0.2).tolist() == [[450, 50], [350, 150]]
    assert dial.base_rates(rho=0.25, group_share=0.2) == pytest.approx({"cool": 0.4375, "warm": 0.75})
    assert dial.cell_counts(100, rho=1.0, group_share=0.5).tolist() == [[50, 0], [0, 50]]
    assert dial.cell_counts(100, rho=-0.5, group_share=0.2).tolist() == [[30, 20], [50, 0]]


@settings(max_examples=50, deadline=None)
@given(st.integers(50, 3000), st.floats(0.05, 0.95), st.floats(-1, 1))
def test_counts_give_rho_and_shares_to_within_rounding(n, share, part_of_largest):
    rho = part_of_largest * dial.largest_rho(share)
    counts = dial.cell_counts(n, rho=rho, group_share=share)
    assert counts.sum() == n and counts.min() >= 0
    assert abs(counts[1].sum() - n / 2) <= 0.5 and abs(counts[:, 1].sum() - n * share) <= 0.5
    base = dial.base_rates(rho=rho, group_share=share)
    for a, name in enumerate(dial.GROUPS):
        assert abs(counts[1, a] - base[name] * counts[:, a].sum()) <= 2


def test_expected_disparity_by_hand():
    # a perfect classifier selects the base rates 0.75 and 0.4375; a blind one selects alike
    part = {"rho": 0.25, "group_share": 0.2}
    for tpr, fpr, dpd in ((1.0, 0.0, 0.3125), (0.3, 0.3, 0.0)):
        rates = dial.expected_disparity(**part, true_positive_rate=tpr, false_positive_rate=fpr)
        assert rates == pytest.approx({"dpd": dpd, "eod": 0})
    # cool 0.4375 * 0.8 + 0.5625 * 0.2 = 0.4625, warm 0.75 * 0.9 + 0.25 * 0.4 = 0.775
    rates = dial.expected_disparity(
        **part, true_positive_rate={"cool": 0.8, "warm": 0.9}, false_positive_rate={"cool": 0.2, "warm": 0.4}
    )
    assert rates == pytest.approx({"dpd": 0.3125, "eod": 0.2})
    assert dial.expected_disparity(rho=-0.4, group_share=0.5, true_positive_rate=0.9, false_positive_rate=0.1)[
        "dpd"
    ] == pytest.approx(0.4 * 0.8)


def test_undefined_or_impossible_rates_are_refused():
    with pytest.raises(UndefinedMetric, match="rho = 1.0 .*nearer to 0 than 1.0000"):
        dial.expected_disparity(rho=1.0, group_share=0.5, true_positive_rate=1, false_positive_rate=0)
    for rate in (1.2, {"cool": 0.5}, float("nan")):
        with pytest.raises(InvalidInput, match="true_positive_rate"):
            dial.expected_disparity(rho=0, group_share=0.5, true_positive_rate=rate, false_positive_rate=0)


def test_ideal_disparity_by_hand():
    # d = 2, l = log(0.8 / 0.2) = 1.3863: Phi(1 +- 0.6931) = 0.9548 and 0.6205
    accuracy, disparity = (0.9548 + 0.6205) / 2, 0.9548 - 0.6205
    assert dial.ideal_disparity(rho=0.6, accuracy=accuracy) == pytest.approx(disparity, abs=5e-4)
    assert dial.ideal_disparity(rho=-0.6, accuracy=accuracy) == pytest.approx(disparity, abs=5e-4)


def test_ideal_disparity_at_its_ends():
    assert dial.ideal_disparity(rho=0.0, accuracy=0.6) == 0
    assert dial.ideal_disparity(rho=0.6, accuracy=1.0) == 0  # who sees the label needs no color
    assert dial.ideal_disparity(rho=0.6, accuracy=0.5) == 1  # who sees nothing of it goes by color alone
    assert dial.ideal_disparity(rho=1.0, accuracy=0.9) == 1


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0.501, 0.999))
def test_ideal_disparity_lies_below_the_most_and_follows_the_dial(rho, accuracy):
    found = dial.ideal_disparity(rho=rho, accuracy=accuracy)
    assert 0 <= found <= 2 * (1 - accuracy) + 1e-9
    assert found <= dial.ideal_disparity(rho=(1 + rho) / 2, accuracy=accuracy) + 1e-9
    assert found >= dial.ideal_disparity(rho=rho, accuracy=(1 + accuracy) / 2) - 1e-9


def test_ideal_disparity_is_what_bayes_gives_on_drawn_evidence():
    rng, n = np.random.default_rng(0), 400_000
    y, warm, d, log_odds = rng.integers(2, size=n), rng.integers(2, size=n), 1.5, np.log(0.7 / 0.3)
    chosen = d * (rng.normal(size=n) + d * (y - 0.5)) + np.where(warm == 1, log_odds, -log_odds) > 0
    gap = chosen[warm == 1].mean() - chosen[warm == 0].mean()
    assert dial.ideal_disparity(rho=0.4, accuracy=(chosen == y).mean()) == pytest.approx(gap, abs=0.01)


@pytest.mark.parametrize("accuracy", [0.49, 1.01, float("nan")])
def test_ideal_disparity_refuses_other_accuracies(accuracy):
    with pytest.raises(InvalidInput, match="from 0.5"):
        dial.ideal_disparity(rho=0.4, accuracy=accuracy)
    with pytest.raises(InvalidInput, match="rho = 1.5"):
        dial.ideal_disparity(rho=1.5, accuracy=0.7)
