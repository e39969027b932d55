"""The nulls of the paper's own counts: against simulation, the null of full predictions, and the known facts."""

import numpy as np
import pytest
from scipy import special

from kdlib.errors import InvalidInput
from kdlib.measure import class_nulls
from kdlib.paper import nulls as r
from tests import simulated


def band(a, b, *, spread=r.USUAL, classes=100, images=100, **options):
    return r.shift_band(a, b, classes=classes, test_images=images, spread=spread, **options)


def test_no_shift_is_chance():
    found = band(0.7, 0.7)
    assert found.mean == pytest.approx(4.4, abs=0.8)  # Welch at five and five fires for 4.3 to 4.5 %
    assert found.low in (0, 1, 2) and found.high in (8, 9, 10)


def test_a_shift_of_seven_points_makes_hundreds_of_a_thousand():
    """STATISTICS: 0.761 to 0.689, about 250, 230 to 650 as classes vary less over seeds."""
    usual, quiet = (band(0.761, 0.689, classes=1000, images=50, spread=s) for s in (r.USUAL, r.WIDEST))
    assert 200 < usual.low < usual.mean < usual.high < 300
    assert 400 < quiet.mean < 650


def test_more_spread_of_classes_and_less_of_seeds_make_more():
    means = [band(0.75, 0.7, spread=r.Spread(*s)).mean for s in ((0.4, 0.4, 0.03), (1.2, 0.4, 0.03), (1.2, 0.1, 0.0))]
    assert means[0] < means[1] < means[2]
    assert band(0.75, 0.7, spread=r.Spread(0.0, 0.4, 0.03)).mean < 6  # classes alike: a shift keeps all ratios


def test_seed_sd_by_hand():
    assert r.Spread(0.8, 0.25, 0.0).seed_sd(100) == pytest.approx(0.05)
    assert r.Spread(0.8, 0.36, 0.08).seed_sd(100) == pytest.approx(0.1)  # sqrt(0.06^2 + 0.08^2)


def test_it_agrees_with_the_null_of_full_predictions():
    """Arms drawn with a stated spread: the null that sees their predictions and the one that sees two accuracies."""
    rng, spread, n = np.random.default_rng(3), r.Spread(0.8, 1.0, 0.0), 200
    profile = 0.8 * special.ndtri((np.arange(100) + 0.5) / 100)
    counts = [rng.binomial(n, special.expit(profile + move), (5, 100)) for move in (0.9, 1.4)]
    p = simulated.from_counts_of_arms({("nds", None): counts[0], ("ds", 4.0): counts[1]}, total=n)
    full = class_nulls.beyond_accuracy(p.arm(model="nds"), p.arm(model="ds"), draws=20)
    accuracies = [float(p.accuracy[p.runs["model"] == model].mean()) for model in ("nds", "ds")]
    assert band(*accuracies, images=n, spread=spread).mean == pytest.approx(full.expected, abs=3)


@pytest.mark.parametrize(
    "values, told",
    [
        ({"a": 0.0}, "0.0"),
        ({"b": 70.2}, "70.2"),
        ({"images": 0}, "0"),
        ({"classes": 0}, "0"),
        ({"spread": r.Spread(-0.1, 0.4, 0.0)}, "-0.1"),
        ({"spread": r.Spread(0.8, 0.0, 0.0)}, "0.0"),
    ],
)
def test_impossible_values_are_refused(values, told):
    with pytest.raises(InvalidInput, match=told):
        band(**{"a": 0.7, "b": 0.72} | values)


def test_a_count_stands_below_the_first_end_that_it_does_not_pass():
    found = [r.standing(count, 9, 12, 20) for count in (0, 9, 10, 12, 13, 20, 21)]
    chance, shift, spread, above = r.STANDINGS
    assert found == [chance, chance, shift, shift, spread, spread, above]
    assert r.standing(9, 9, 8, 20) == chance  # a shift's end can lie below that of chance


def test_the_table_has_every_count_once_with_both_accuracies():
    table = r.reported_table()
    # 4 pairs to T = 40, 3 to T = 10, and alpha 0.6; #SC and #TC
    assert len(table) == 2 * (4 * 12 + 4 * 9) and not table.duplicated([*r.PAIR, "temperature", "metric"]).any()
    row = table[(table["teacher"] == "resnet56") & (table["dataset"] == "cifar100") & (table["alpha"] == 0.8)]
    row = row[row["temperature"] == 10].set_index("metric")
    assert row["count"].to_dict() == {"n_significant_sc": 22, "n_significant_tc": 11}
    assert row["accuracy_reference"].tolist() == pytest.approx([0.6839, 0.7087])
    assert row["accuracy"].tolist() == pytest.approx([0.6924] * 2)


@pytest.fixture(scope="module")
def counts():
    return r.reported_counts()


def test_what_lies_inside_the_band_of_chance(counts):
    main = counts[(counts["alpha"] == 0.8) & (counts["temperature"] <= 10)]
    inside = (
        main["count"].between(main["chance_low"], main["chance_high"]).groupby(main["dataset"]).agg(["sum", "size"])
    )
    assert inside.loc["cifar100"].tolist() == [23, 36]
    assert inside.loc["cifar10"].tolist() == inside.loc["svhn"].tolist() == [18, 18]
    assert inside.loc["imagenet", "sum"] == 0


def test_ends_are_in_order_and_standings_add_up(counts):
    assert (counts["shift_low"] <= counts["shift_mean"]).all() and (counts["shift_mean"] <= counts["shift_high"]).all()
    assert (counts["shift_high"] <= counts["shift_widest"]).all() and set(counts["standing"]) <= set(r.STANDINGS)
    table = r.standings(counts)
    assert table["counts"].sum() == len(counts) == 168 and len(table) == 16
    imagenet = table[(table["dataset"] == "imagenet") & (table["metric"] == "n_significant_sc")]
    assert imagenet["above both"].tolist() == [12, 12]
