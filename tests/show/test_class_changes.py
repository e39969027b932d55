"""The figure and tables of class changes and fidelity show the numbers of their measures, none of them their own."""

import numpy as np
import pandas as pd
import pytest

from kdlib.errors import KdlibError
from kdlib.measure import class_effects, class_nulls, fidelity
from kdlib.show import class_changes as fc
from kdlib.show import style, tables
from tests import simulated

TITLE = "A study\nstand-in, not the paper's study"


@pytest.fixture(scope="module")
def found():
    p = simulated.study(n_classes=4, total=40, temperatures=(1, 10, 40), effect=0.15)
    p = simulated.with_groups(p, color=np.resize(["red", "green", "blue", "<b>"], len(p.labels)))
    return simulated.with_probabilities(p)


@pytest.fixture(scope="module")
def changes(found):
    return fc.changes_by_temperature(found)


@pytest.fixture(scope="module")
def arms(found):
    return fc.fidelity_rows(found, sensitive="color")


def values(rows, metric, model="ds"):
    return style.of(rows, metric, model)["mean"].tolist()


def test_changes_are_those_of_the_measures(found, changes):
    assert values(changes, "change_sd") == class_effects.change_sd(found, normalise="difference")["sd"].tolist()
    assert values(changes, "slope") == class_effects.direction(found, normalise="difference")["slope"].tolist()
    pair = found.arm(model="nds"), found.arm(model="ds", temperature=40)
    alone = class_nulls.arms_permutation(*pair)
    last = changes[changes["temperature"] == 40].set_index("metric")
    assert last.loc[["n_significant", "p_global"], "mean"].tolist() == [alone.observed, alone.p]
    assert set(changes["permutations"]) == {126} and set(changes["n_seeds"]) == {5}


def test_the_figure_shows_points_and_slopes(changes):
    figure = fc.class_changes(changes, title=TITLE)
    left, right = figure.axes
    assert left.containers[0][0].get_ydata().tolist() == pytest.approx([100 * v for v in values(changes, "change_sd")])
    assert right.containers[0][0].get_ydata().tolist() == values(changes, "slope")
    assert {line.get_ydata()[0] for line in right.lines} >= {0, 1}
    assert figure._suptitle.get_text() == TITLE
    assert style.rendered(figure, "png") == style.rendered(fc.class_changes(changes, title=TITLE), "png")


def test_the_table_by_temperature(changes):
    ends = {"change_sd": (0.0, 0.0, 0.1234), "slope": (-0.001, -1.5, 2)}
    rows = changes.copy()
    for metric, numbers in ends.items():
        rows.loc[rows["metric"] == metric, ["mean", "low", "high"]] = numbers
    row = fc.changes_table(rows, title=TITLE).data.iloc[0].tolist()
    assert row[:2] == ["0.00 [0.00, 12.34]", "0.00 [−1.50, 2.00]"]
    assert fc.changes_table(changes, title=TITLE).data.index.tolist() == ["DS, T = 1", "DS, T = 10", "DS, T = 40"]


def test_verdicts_and_effect_sizes_stand_in_one_row(found):
    pair = found.arm(model="nds"), found.arm(model="ds", temperature=40)
    rows = class_effects.class_verdicts(*pair, margin=0.05)
    assert (np.sign(rows["g"]) == np.sign(rows["difference"])).all(), "one scale for both"
    table = fc.verdicts_table(rows, title=TITLE)
    assert table.data.index.tolist() == ["class 0", "class 1", "class 2", "class 3"]
    assert "± 5 points" in table.caption
    cell = fc.verdicts_table(rows.assign(g=-0.001, g_low=-1.5, g_high=2.0), title=TITLE).data.iloc[0, -1]
    assert cell == "0.00 [−1.50, 2.00]"


def test_arms_hold_the_means_of_fidelity(found, arms):
    runs = fidelity.fidelity(found)
    at_ten = arms[arms["temperature"] == 10].set_index("metric")["mean"]
    mean = runs[runs["temperature"] == 10].mean(numeric_only=True)
    assert at_ten["disagreement"] == pytest.approx(1 - mean["agreement"])
    assert at_ten[["kl", "churn"]].tolist() == pytest.approx(mean[["kl", "churn"]].tolist())
    assert not values(arms, "churn", "teacher") and values(arms, "ece", "teacher")[0] > 0
    assert "worst_group_accuracy" not in set(fc.fidelity_rows(found)["metric"])
    assert not arms.duplicated(["model", "temperature", "metric"]).any() and set(
        tables.WORDS["fidelity_panels"]
    ) <= set(arms["metric"])


def test_in_percent_leaves_nats_and_seeds(arms):
    shown, nats = style.in_percent(arms), arms["unit"] == "nats"
    assert shown[nats].equals(arms[nats]) and shown["n_seeds"].equals(arms["n_seeds"])
    assert shown.loc[~nats, "high"].tolist() == pytest.approx((100 * arms.loc[~nats, "high"]).tolist())


def test_fidelity_tables(found, arms):
    near = fc.fidelity_table(arms, title=TITLE).data
    assert near.index.tolist() == ["NDS", "DS, T = 1", "DS, T = 10", "DS, T = 40"]
    agreement = 100 * (1 - values(arms, "disagreement", "nds")[0])
    assert near.loc["NDS", "agreement with teacher"].startswith(f"{agreement:.1f} ±")
    rows, gains = fc.samples_rows(found, arms), fidelity.class_gain(found)
    assert not rows.duplicated(["model", "temperature", "metric"]).any()
    lost = fc.samples_table(rows, title=TITLE).data
    assert lost.loc[["Teacher", "NDS"], "images changed"].tolist() == ["", ""]
    worst = gains[gains["temperature"] == 40].sort_values("gain").iloc[0]
    assert lost.loc["DS, T = 40", "class that gains least"].startswith(f"{worst['class_name']}: −")
    without = fc.samples_rows(found, fc.fidelity_rows(found))
    assert "worst group" not in fc.samples_table(without, title=TITLE).data


def test_group_rates_by_hand():
    p = simulated.from_counts([[2, 4], [4, 4]], total=4)  # class 0 wrong twice in the first run: taken for class 1
    p = simulated.with_groups(p, side=np.repeat(["l", "r"], 4))
    rows = fc.group_rates(p, "class 1", sensitive="side").set_index("group")
    assert rows["selection_rate"].to_dict() == {"l": 0.25, "r": 1.0}
    assert rows["accuracy"].to_dict() == {"l": 0.75, "r": 1.0}
    assert rows["n"].tolist() == [4, 4]
    with pytest.raises(KdlibError, match="class 0"):
        fc.group_rates(p, "class 0", sensitive="side")


def test_group_rates_are_those_of_fairlearn(found):
    from fairlearn.metrics import MetricFrame, selection_rate
    from sklearn.metrics import accuracy_score

    words = ("accuracy", "selection rate")
    arm, both = found.arm(model="nds"), {"accuracy": accuracy_score, "selection_rate": selection_rate}
    frames = [
        MetricFrame(metrics=both, y_true=arm.labels == 2, y_pred=row == 2, sensitive_features=arm.groups["color"])
        for row in arm.predicted
    ]
    theirs = pd.concat([frame.by_group for frame in frames]).groupby(level=0).mean()
    ours = fc.group_rates(arm, "class 2", sensitive="color")
    for measure in both:
        assert ours.set_index("group")[measure].to_dict() == pytest.approx(theirs[measure].to_dict())
    table = fc.groups_table(ours.join(theirs.add_suffix("_fairlearn"), on="group"), title=TITLE)
    assert table.data.columns.tolist() == [f"{m}, {who}" for m in words for who in ("kdlib", "fairlearn")]
    assert "<b>" not in tables.rendered(table)["html"].decode(), "names of groups can be anyone's"
    assert table.data.index[-1] == "largest − smallest"
