"""The bias dial: what errors let expect and what runs show, by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.errors import InvalidInput
from kdlib.measure import bias_dial
from kdlib.predictions import Predictions
from tests import simulated

# --- the bias dial ----------------------------------------------------------------------------------------------------

CELL = 20  # images of each label and group


def balanced(*errors):
    """Runs that get errors = (concave cool, concave warm, convex cool, convex warm) of CELL images wrong."""
    labels, warm = np.repeat([0, 0, 1, 1], CELL), np.tile(np.repeat([False, True], CELL), 2)
    predicted = []
    for number, wrong in enumerate(errors):
        place = (np.arange(4 * CELL) + number) % CELL  # other images in every run
        predicted.append(np.where(place < np.repeat(wrong, CELL), 1 - labels, labels))
    runs = simulated.runs_table([("nds", None, range(len(errors)))])
    ids = np.array([f"s{i}" for i in range(4 * CELL)])
    groups = {"color_set": np.where(warm, "warm", "cool")}
    return Predictions(runs, np.stack(predicted), labels, ids, ("concave", "convex"), groups=groups)


WITH_COLOR, REGARDLESS, PERFECT = (0, 6, 6, 0), (3, 3, 3, 3), (0, 0, 0, 0)


def test_disparities_by_hand():
    runs = bias_dial.dial_runs(balanced(WITH_COLOR, REGARDLESS, PERFECT), rho=0.6)
    assert runs["accuracy"].tolist() == pytest.approx([1 - 12 / 80, 1 - 12 / 80, 1])
    # warm: TPR 1, FPR 6 / 20; cool: TPR 14 / 20, FPR 0
    assert runs["dpd"].tolist() == pytest.approx([0.3, 0, 0])
    assert runs["with_color"].tolist()[:2] == [1, 0.5] and np.isnan(runs["with_color"][2])
    assert runs["dpd"][0] == pytest.approx(2 * (1 - runs["accuracy"][0])), (
        "all errors with the color: the most there is"
    )
    assert runs["ideal"][2] == 0 and runs["ideal"][0] == bias_dial.ideal_disparity(rho=0.6, accuracy=0.85)
    assert runs["excess"].tolist() == pytest.approx((runs["dpd"] - runs["ideal"]).tolist())


def test_errors_against_the_color_are_none_with_it():
    assert bias_dial.dial_runs(balanced((6, 0, 0, 6)), rho=0.6)["with_color"].tolist() == [0]


def test_below_chance_is_taken_as_chance():
    assert bias_dial.dial_runs(balanced((15, 15, 15, 15)), rho=0.6)["ideal"].tolist() == [1]


def test_arms_have_intervals_and_floors():
    p = balanced(WITH_COLOR, (0, 5, 7, 1), (1, 6, 6, 0), (0, 4, 6, 0), (0, 6, 5, 0))
    rows = bias_dial.table(p, bias_dial.dial_runs(p, rho=0.6))
    assert set(map(tuple, rows[["model", "n_seeds", "rho"]].to_numpy())) == {("nds", 5, 0.6)}
    row, dpd = rows.set_index("metric")["mean"], rows.set_index("metric").loc["dpd"]
    assert dpd["low"] < dpd["mean"] < dpd["high"]
    assert 0 < row["dpd_floor"] < rows.set_index("metric").loc["dpd_floor", "high"] < row["dpd"]
    assert row["excess"] == pytest.approx(row["dpd"] - row["ideal"])
    assert rows["metric"].tolist() == ["accuracy", "dpd", "eod", "ideal", "excess", "dpd_floor", "eod_floor"]


def test_a_part_that_is_not_balanced_is_refused():
    p = balanced(WITH_COLOR)
    other = replace(p, groups={"color_set": np.where(np.arange(4 * CELL) < 25, "cool", "warm")})
    for bad in (other, replace(p, groups={"color_set": np.repeat(["red", "blue"], 2 * CELL)})):
        with pytest.raises(InvalidInput):
            bias_dial.dial_runs(bad, rho=0.6)
    with pytest.raises(InvalidInput, match="color_set"):
        bias_dial.dial_runs(replace(p, groups={"colour_set": p.groups["color_set"]}), rho=0.6)


def test_ideal_disparity_by_hand():
    # d = 2, l = log(0.8 / 0.2) = 1.3863: Phi(1 +- 0.6931) = 0.9548 and 0.6205
    accuracy, disparity = (0.9548 + 0.6205) / 2, 0.9548 - 0.6205
    assert bias_dial.ideal_disparity(rho=0.6, accuracy=accuracy) == pytest.approx(disparity, abs=5e-4)
    assert bias_dial.ideal_disparity(rho=-0.6, accuracy=accuracy) == pytest.approx(disparity, abs=5e-4)


def test_ideal_disparity_at_its_ends():
    assert bias_dial.ideal_disparity(rho=0.0, accuracy=0.6) == 0
    assert bias_dial.ideal_disparity(rho=0.6, accuracy=1.0) == 0  # who sees the label needs no color
    assert bias_dial.ideal_disparity(rho=0.6, accuracy=0.5) == 1  # who sees nothing of it goes by color alone
    assert bias_dial.ideal_disparity(rho=1.0, accuracy=0.9) == 1


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0.501, 0.999))
def test_ideal_disparity_lies_below_the_most_and_follows_the_dial(rho, accuracy):
    found = bias_dial.ideal_disparity(rho=rho, accuracy=accuracy)
    assert 0 <= found <= 2 * (1 - accuracy) + 1e-9
    assert found <= bias_dial.ideal_disparity(rho=(1 + rho) / 2, accuracy=accuracy) + 1e-9
    assert found >= bias_dial.ideal_disparity(rho=rho, accuracy=(1 + accuracy) / 2) - 1e-9


def test_ideal_disparity_is_what_bayes_gives_on_drawn_evidence():
    rng, n = np.random.default_rng(0), 400_000
    y, warm, d, log_odds = rng.integers(2, size=n), rng.integers(2, size=n), 1.5, np.log(0.7 / 0.3)
    chosen = d * (rng.normal(size=n) + d * (y - 0.5)) + np.where(warm == 1, log_odds, -log_odds) > 0
    gap = chosen[warm == 1].mean() - chosen[warm == 0].mean()
    assert bias_dial.ideal_disparity(rho=0.4, accuracy=(chosen == y).mean()) == pytest.approx(gap, abs=0.01)


@pytest.mark.parametrize("accuracy", [0.49, 1.01, float("nan")])
def test_ideal_disparity_refuses_other_accuracies(accuracy):
    with pytest.raises(InvalidInput, match=str(accuracy)):
        bias_dial.ideal_disparity(rho=0.4, accuracy=accuracy)
    with pytest.raises(InvalidInput, match="1.5"):
        bias_dial.ideal_disparity(rho=1.5, accuracy=0.7)
