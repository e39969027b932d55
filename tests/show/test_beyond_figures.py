"""The figures beyond the paper show the numbers of their tables, in words that fit, and tell marks apart in grey."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from kdlib.measure import bias_dial, class_nulls
from kdlib.paper import nulls
from kdlib.show import beyond_figures as fb
from kdlib.show import style
from tests import simulated
from tests.show.test_class_figures import artist, labels, luminance

TITLE = "A long title of a study, with networks of long names, ResNet-56 → a student with a long name\nstand-in"
DPD = [0.05, 0.4, 0.42, 0.44, 0.46, 0.48]
ARMS = [("teacher", np.nan), ("nds", np.nan), *(("ds", t) for t in (1.0, 4.0, 10.0, 40.0))]


def by_arm(unit="ratio", **metrics):
    """Rows of metrics = (values of the six arms) with an interval of +- 0.01."""
    arms, parts = pd.DataFrame(ARMS, columns=["model", "temperature"]).assign(n_seeds=5, unit=unit), []
    for name, values in metrics.items():
        mean = np.asarray(values, float)
        parts.append(arms.assign(metric=name, mean=mean, sd=0.01, low=mean - 0.01, high=mean + 0.01))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def counts():
    table = nulls.reported_table()
    ends = {"chance_low": 1, "chance_high": 9, "shift_mean": 6, "shift_low": 2, "shift_high": 12, "shift_widest": 20}
    table = table.assign(**ends)
    return table.assign(standing=[nulls.standing(count, 9, 12, 20) for count in table["count"]])


@pytest.fixture(scope="module")
def dials():
    parts = []
    for rho in (0.0, 0.8):
        measures = {"accuracy": [0.97, *[0.8] * 5], "dpd": DPD, "eod": DPD, "ideal": [0.04, *[0.3] * 5]}
        found = by_arm("share", **measures, dpd_floor=[0.01] * 6, eod_floor=[0.02] * 6)
        floors = found["metric"].str.endswith("_floor")
        found.loc[floors, "high"] = 2 * found.loc[floors, "mean"]
        parts.append(found.assign(rho=rho))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def readings():
    parts, students = [], pd.DataFrame({"model": "ds", "temperature": [1.0, 4.0, 10.0, 40.0]})
    for there in (True, False):
        mean = np.array([0.1, 0.1, 0.1, 0.1]) if there else 0.1 / np.array([1, 4, 10, 40]) ** 2
        norms = students.assign(mean=mean, low=0.9 * mean, high=1.1 * mean, unit="norm")
        arms = pd.DataFrame(ARMS + [("nds loss x0.2", np.nan)] * (not there), columns=["model", "temperature"])
        mean = np.linspace(0.5, 0.9, len(arms))
        accuracy = arms.assign(mean=mean, low=mean - 0.02, high=mean + 0.02, metric="accuracy", unit="share")
        counts = students.assign(mean=[0.0, 1, 2, 3], metric="n_significant_sc", unit="classes")
        band = students.assign(low=0.0, high=2.0, metric="null_band", unit="classes")
        norms = [norms.assign(metric=f"gradient_{term}") for term in ("teacher", "labels")]
        parts += [part.assign(t_squared=there) for part in (*norms, accuracy, counts, band)]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def choices():
    return class_nulls.sensitivity(simulated.study(n_classes=6, total=40, effect=0.1), corrections=(None, "bh"))


def runs():
    arms = pd.DataFrame(ARMS, columns=["model", "temperature"]).assign(accuracy=[0.97, *[0.8] * 5], dpd=DPD)
    every = [arms.assign(rho=rho, seed=s, ideal=[0.04, *[0.3] * 5]) for rho in (0.0, 0.8) for s in (0, 1)]
    return pd.concat(every, ignore_index=True)


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_every_count_is_a_dot_whose_shade_is_its_standing(counts):
    axes = fb.reported_counts(counts, title=TITLE).axes
    assert len(axes) == 16
    first = counts.iloc[0]
    pair = counts[(counts[nulls.PAIR] == first[nulls.PAIR]).all(axis=1)]
    rows = pair[pair["metric"] == "n_significant_sc"]
    for name in nulls.STANDINGS:
        wanted = rows[rows["standing"] == name]
        drawn = artist(axes[0], name).get_offsets() if len(wanted) else []
        assert sorted(map(tuple, np.asarray(drawn).tolist())) == sorted(
            zip(wanted["temperature"], wanted["count"], strict=True)
        )
    assert sum(len(c.get_offsets()) for ax in axes for c in ax.collections if c.get_label() in fb.REACH) == 168


def test_panels_say_which_pair_and_alpha(counts):
    titles = [ax.get_title(loc="left") for ax in fb.reported_counts(counts, title=TITLE).axes]
    assert len(set(titles)) == 16 and "#TC: Tiny ImageNet\nResNet-50 → ResNet-18" in titles
    assert sum("α = 0.6" in title for title in titles) == 2


def test_shades_darken_with_what_is_left():
    grey = [luminance(to_rgb(color)) for color in fb.REACH.values()]
    assert list(fb.REACH) == list(nulls.STANDINGS) and (np.diff(grey) < -0.15).all()


def test_sensitivity_shows_every_count_and_marks_the_papers_choice(choices):
    figure = fb.sensitivity(choices, title=TITLE)
    first = figure.axes[0]
    assert first.get_title(loc="left") == "DS and NDS, uncorrected"
    assert [t.get_text() for t in first.get_yticklabels()][0] == "welch, ratio (paper)"
    rows = choices[(choices["against"] == "nds") & (choices["correction"] == "none")]
    own = rows[(rows["test"] == "welch") & (rows["normalise"] == "ratio")].sort_values("temperature")["n_significant"]
    assert first.images[0].get_array()[0].tolist() == own.tolist()
    chance = (rows["n_significant"] <= rows["null_high"]).sum()
    assert sum(patch.get_hatch() == "////" for patch in first.patches) == chance > 0
    assert len(first.texts) == len(rows) and {image.get_clim() for ax in figure.axes[:4] for image in ax.images} == {
        (0, choices["n_significant"].max())
    }


def test_measures_over_temperature_have_levels_and_intervals():
    arms = by_arm(one=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], two=[1.0] * 6)
    axes = fb.over_temperature(arms, panels={"one": "the first", "two": "the second"}, title=TITLE).axes
    assert [ax.get_title(loc="left") for ax in axes[:2]] == ["the first", "the second"]
    assert artist(axes[0], "DS").lines[0].get_ydata().tolist() == pytest.approx([0.3, 0.4, 0.5, 0.6])
    assert artist(axes[0], "NDS").lines[0].get_ydata() == pytest.approx(0.2)
    assert axes[0].get_ylim()[0] > 0 and not axes[2].axison, "the axis shows the effect"


def test_where_a_teacher_has_no_value_no_line_stands_at_zero():
    arms = by_arm(one=[np.nan, 0.2, 0.3, 0.4, 0.5, 0.6])
    first = fb.over_temperature(arms, panels={"one": "the first"}, title=TITLE).axes[0]
    (height,) = artist(first, "teacher").lines[0].get_ydata()
    assert np.isnan(float(height))


def test_the_dial_shows_percent_beside_floor_and_expectation(dials):
    axes = fb.bias_dial(dials, title=TITLE).axes
    assert len(axes) == 4 and "correlation 0.8" in axes[1].get_title(loc="left")
    assert artist(axes[1], "DS").lines[0].get_ydata() == pytest.approx([42, 44, 46, 48])
    assert artist(axes[1], "expected from the students' accuracy").get_ydata() == pytest.approx([30] * 4)
    floor = artist(axes[1], "attribute-blind model: up to 95th percentile").get_paths()[0].vertices[:, 1]
    assert (floor.min(), floor.max()) == pytest.approx((2, 4)) and axes[0].get_ylabel() == "EOD by color set (%)"


def test_runs_stand_at_their_error_and_disparity():
    axes = fb.dial_runs(runs(), title=TITLE).axes
    assert np.asarray(artist(axes[1], "NDS").get_offsets()) == pytest.approx(np.array([[20, 40], [20, 40]]))
    most, line = artist(axes[1], "all errors go with the color"), artist(axes[1], "expected from the errors")
    assert most.get_ydata() == pytest.approx(2 * most.get_xdata())
    x, y = line.get_xdata()[30], line.get_ydata()[30]
    assert y == pytest.approx(100 * bias_dial.ideal_disparity(rho=0.8, accuracy=1 - x / 100))
    assert set(artist(axes[0], "expected from the errors").get_ydata()) == {0}


def test_both_readings_of_the_loss_are_told_apart(readings):
    left, middle, right = fb.t_squared(readings, classes=10, title=TITLE).axes
    assert artist(left, "teacher's term, without T²").lines[0].get_ydata()[-1] == pytest.approx(0.1 / 1600)
    assert artist(left, "labels' term, with T²").lines[0].get_markerfacecolor() == "white"
    assert artist(middle, "DS, with T²").lines[0].get_ydata()[0] == pytest.approx(100 * np.linspace(0.5, 0.9, 6)[2])
    assert artist(middle, "NDS, loss × 0.2").get_ydata()[0] == pytest.approx(90)
    assert "chance alone (95 %)" in labels(right)
    styles = fb.READING_STYLE.values()
    assert len({s["marker"] for s in styles}) == len({s["linestyle"] for s in styles}) == 2


def test_one_reading_alone_is_drawn(readings):
    assert len(fb.t_squared(readings[readings["t_squared"]], classes=10, title=TITLE).axes) == 3


def test_the_papers_distance_from_nds(counts):
    left, right = fb.reported_limit(counts, title=TITLE).axes
    assert labels(right) == [
        "CIFAR-100, ResNet-56 → ResNet-20",
        "CIFAR-100, DenseNet-169 → DenseNet-121",
        "ImageNet, ResNet-50 → ResNet-18",
        "ImageNet, ViT-Base → TinyViT",
    ]
    assert left.lines[0].get_ydata()[-1] == pytest.approx(68.62 - 68.39)
    assert right.lines[0].get_ydata()[-1] == 9


# --- what all share ---------------------------------------------------------------------------------------------------


def test_no_text_is_cut_off_and_titles_stay(counts, dials, readings, choices):
    arms = by_arm(**{name: [0.5] * 6 for name in "abcd"})
    for figure in (
        fb.reported_counts(counts, title=TITLE),
        fb.sensitivity(choices, title=TITLE),
        fb.over_temperature(arms, panels=dict.fromkeys("abcd", "a title of a panel"), title=TITLE),
        fb.bias_dial(dials, title=TITLE),
        fb.dial_runs(runs(), title=TITLE),
        fb.t_squared(readings, classes=10, title=TITLE),
        fb.reported_limit(counts, title=TITLE),
    ):
        assert "stand-in" in figure.get_suptitle() and figure.caption.endswith(".")
        figure.draw_without_rendering()
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()  # of all that is drawn, in inches
        assert min(box.x0, box.y0) >= -0.01 and box.x1 <= width + 0.01 and box.y1 <= height + 0.01


def test_the_same_table_gives_the_same_bytes(dials):
    first, second = (style.rendered(fb.bias_dial(dials, title=TITLE), "png") for _ in range(2))
    assert first == second
