"""Trends, gradients and the bias dial: numbers that can be made by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kdlib import store
from kdlib.data import dial
from kdlib.errors import InvalidInput, NotTrained
from kdlib.measure import beyond
from kdlib.predictions import Predictions
from tests import simulated

# --- trends -----------------------------------------------------------------------------------------------------------


def test_a_slope_is_the_change_for_each_doubling_of_t_within_blocks():
    p = simulated.study(n_classes=3, total=20, n_seeds=5, temperatures=(1, 2, 8))
    block = np.array([0.0, 5.0, -3.0, 9.0, 1.0])[p.runs["seed"]]  # what teachers hand on takes no part
    t = np.log2(p.runs["temperature"].fillna(1))
    own = np.array([1.0, 2.0, 3.0, 4.0, 5.0])[p.runs["seed"]]
    runs = pd.DataFrame({"alike": block - 0.5 * t, "own": block + own * t, "flat": block})
    found = beyond.slopes(p, runs, ["alike", "own", "flat"]).set_index("measure")
    assert found["slope"].tolist() == pytest.approx([-0.5, 3.0, 0.0])
    assert (found["n_blocks"] == 5).all()
    assert found.loc["alike", ["low", "high"]].tolist() == pytest.approx([-0.5, -0.5])
    # sd of 1 .. 5 is sqrt(2.5), t(0.975, 4) = 2.7764
    half = 2.7764 * np.sqrt(2.5 / 5)
    assert found.loc["own", ["low", "high"]].tolist() == pytest.approx([3 - half, 3 + half], abs=1e-3)
    assert found.loc["own", "p"] == pytest.approx(0.0132, abs=1e-3) and found.loc["flat", "p"] == 1


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.fixture
def noted(tmp_path, tiny):
    """The tiny study on disk; students note 4 / T for the teacher's term, 1 + seed for the labels', two epochs."""
    study = tiny.study("tiny")
    for run in study.runs():
        value = {} if run.teacher is None else {"gradient_teacher": 4 / run.temperature}
        history = [{"epoch": e, "gradient_labels": 1 + run.seed + 2 * e, **value} for e in (0, 1)]
        store.save(tmp_path, run, arrays={"logits": np.zeros((1, 2))}, weights=b"", provenance={"history": history})
    return study, tmp_path


def test_gradients_are_those_that_runs_noted(noted):
    study, folder = noted
    norms = beyond.gradients(study, runs_dir=folder)
    assert len(norms) == 2 * 2 * 2  # two temperatures, two seeds, two epochs
    assert norms[norms["temperature"] == 4]["teacher"].tolist() == [1.0] * 4
    found = beyond.gradients_by_temperature(norms).set_index(["temperature", "term"])
    assert found["mean"].to_dict() == {(1, "teacher"): 4, (1, "labels"): 2.5, (4, "teacher"): 1, (4, "labels"): 2.5}
    # seeds 0 and 1 have 2 and 3: mean 2.5, sd sqrt(0.5), t(0.975, 1) = 12.706
    assert found.loc[(1, "labels"), "high"] == pytest.approx(2.5 + 12.706 * 0.5, abs=1e-3)
    assert found.loc[(1, "teacher"), ["low", "high"]].tolist() == [4, 4] and (found["n_seeds"] == 2).all()


def test_a_study_without_students_says_how_to_train_it(tmp_path, tiny):
    with pytest.raises(NotTrained, match="python -m kdlib train tiny"):
        beyond.gradients(tiny.study("tiny"), runs_dir=tmp_path)


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
    runs = beyond.dial_runs(balanced(WITH_COLOR, REGARDLESS, PERFECT), rho=0.6)
    assert runs["accuracy"].tolist() == pytest.approx([1 - 12 / 80, 1 - 12 / 80, 1])
    # warm: TPR 1, FPR 6 / 20; cool: TPR 14 / 20, FPR 0
    assert runs["dpd"].tolist() == pytest.approx([0.3, 0, 0])
    assert runs["expected_dpd"].tolist() == pytest.approx([0.3, 0, 0])
    assert runs["with_color"].tolist()[:2] == [1, 0.5] and np.isnan(runs["with_color"][2])
    assert runs["dpd"][0] == pytest.approx(2 * (1 - runs["accuracy"][0])), (
        "all errors with the color: the most there is"
    )
    assert runs["ideal"][2] == 0 and runs["ideal"][0] == dial.ideal_disparity(rho=0.6, accuracy=0.85)
    assert runs["excess"].tolist() == pytest.approx((runs["dpd"] - runs["ideal"]).tolist())


def test_errors_against_the_color_are_none_with_it():
    assert beyond.dial_runs(balanced((6, 0, 0, 6)), rho=0.6)["with_color"].tolist() == [0]


def test_below_chance_is_taken_as_chance():
    assert beyond.dial_runs(balanced((15, 15, 15, 15)), rho=0.6)["ideal"].tolist() == [1]


def test_arms_have_intervals_and_floors():
    p = balanced(WITH_COLOR, (0, 5, 7, 1), (1, 6, 6, 0), (0, 4, 6, 0), (0, 6, 5, 0))
    arms = beyond.dial_arms(p, beyond.dial_runs(p, rho=0.6))
    assert arms[["model", "n_seeds", "rho"]].to_numpy().tolist() == [["nds", 5, 0.6]]
    row = arms.iloc[0]
    assert row["dpd_low"] < row["dpd"] < row["dpd_high"] and 0 < row["dpd_floor"] < row["dpd_floor_upper"] < row["dpd"]
    assert row["excess"] == pytest.approx(row["dpd"] - row["ideal"])
    assert not [name for name in arms if "overall" in name]


def test_a_part_that_is_not_balanced_is_refused():
    p = balanced(WITH_COLOR)
    other = replace(p, groups={"color_set": np.where(np.arange(4 * CELL) < 25, "cool", "warm")})
    for bad in (other, replace(p, groups={"color_set": np.repeat(["red", "blue"], 2 * CELL)})):
        with pytest.raises(InvalidInput, match="two classes, with rho_test 0 and group_share 0.5"):
            beyond.dial_runs(bad, rho=0.6)
    with pytest.raises(InvalidInput, match="'colour_set'.*Did you mean 'color_set'"):
        beyond.dial_runs(p, rho=0.6, sensitive="colour_set")
