"""The lineup: nine studies with one set of axes, one of them real, and no class that moves by itself in the others."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdlib.measure import class_bias
from kdlib.measure.arms import between
from kdlib.measure.class_counts import correct_by_class
from kdlib.show import lineup
from tests import simulated

MOVED = simulated.study(n_classes=40, total=200, temperatures=(1, 2, 5, 10), effect=0.15)


def arcsine(p):
    """(C,) classes on the scale on which null studies are drawn, less the run's mean; mean over runs."""
    angles = 2 * np.arcsin(np.sqrt((correct_by_class(p) + 3 / 8) / (200 + 3 / 4)))
    return (angles - angles.mean(axis=1, keepdims=True)).mean(axis=0)


def test_in_a_null_study_no_class_moves_by_itself_and_accuracy_is_the_studys():
    arms = [{"model": "teacher"}, {"model": "nds"}, {"temperature": 10.0}]
    real = [arcsine(MOVED.arm(**arm)) for arm in arms]
    assert np.abs(real[2] - real[1]).max() > 0.2
    nulls = [lineup.null_study(MOVED, np.random.default_rng(seed)) for seed in range(40)]
    means = [np.mean([arcsine(p.arm(**arm)) for p in nulls], axis=0) for arm in arms]
    assert means[0] == pytest.approx(means[1], abs=0.06) and means[2] == pytest.approx(means[1], abs=0.06)
    levels = np.mean([[p.arm(**arm).accuracy.mean() for arm in arms] for p in nulls], axis=0)
    assert levels == pytest.approx([MOVED.arm(**arm).accuracy.mean() for arm in arms], abs=0.02)


def test_the_noise_of_seeds_is_the_studys():
    """Binomial counts of 200 images have variance 1 / 200 on this scale, and nothing else varies here."""
    variances = []
    for seed in range(20):
        p = lineup.null_study(MOVED, np.random.default_rng(seed)).arm(temperature=5.0)
        angles = 2 * np.arcsin(np.sqrt((correct_by_class(p) + 3 / 8) / (200 + 3 / 4)))
        variances.append((angles - angles.mean(axis=1, keepdims=True)).var(axis=0, ddof=1).mean())
    assert np.mean(variances) == pytest.approx(1 / 200, rel=0.1)


def test_a_null_study_keeps_the_design_and_nothing_else():
    p = simulated.with_probabilities(simulated.with_groups(MOVED, color=np.where(MOVED.labels % 2, "red", "blue")))
    null = lineup.null_study(p, np.random.default_rng(0))
    pd.testing.assert_frame_equal(null.runs, p.runs)
    assert (null.labels == p.labels).all() and not null.groups and null.probabilities is None
    assert len({row.tobytes() for row in null.predicted}) == len(null.runs)


def test_one_panel_is_real_and_its_place_hangs_on_the_name():
    rows, real = lineup.panels(MOVED, name="a study")
    assert sorted(rows["panel"].unique()) == [*range(1, 10)]
    shown = rows[rows["panel"] == real].drop(columns="panel").reset_index(drop=True)
    pd.testing.assert_frame_equal(shown, class_bias.table(between(MOVED, 2, 10)))
    pd.testing.assert_frame_equal(lineup.panels(MOVED, name="a study")[0], rows)
    counts = rows[rows["metric"] == "n_significant_sc"].groupby("panel")["mean"].max()
    assert counts.idxmax() == real and counts.drop(real).max() < counts[real] / 2


def test_places_are_even_over_names(monkeypatch):
    monkeypatch.setattr(lineup, "null_study", lambda p, rng: p)
    monkeypatch.setattr(lineup.class_bias, "table", lambda p: pd.DataFrame({"panel": [0]}))
    few = simulated.study(n_classes=2, total=9, n_seeds=2)
    places = [lineup.panels(few, name=f"study {i}")[1] for i in range(270)]
    assert stats.chisquare(np.bincount(places, minlength=10)[1:]).pvalue > 0.001


def test_all_panels_have_the_same_axes_and_the_picture_does_not_tell():
    rows, real = lineup.panels(MOVED, name="a study")
    figure = lineup.lineup(rows, classes=40, title="a study")
    axes = figure.axes
    assert [ax.get_title() or ax.get_title("left") for ax in axes] == [str(i) for i in range(1, 10)]
    assert len({ax.get_ylim() for ax in axes}) == 1
    assert max(axes[real - 1].lines[0].get_ydata()) <= axes[0].get_ylim()[1]
    assert figure.get_suptitle() == "a study"
