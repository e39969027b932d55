"""Class changes and fidelity for readers: how large, where to, what beside accuracy; one figure and tables.

The measures are those of class_effects, class_nulls and fidelity; here they are put side by side. No torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kdlib.errors import unknown
from kdlib.measure import class_effects, class_nulls, fidelity, group_counts
from kdlib.measure.arms import arm_columns
from kdlib.predictions import Predictions
from kdlib.show import style, tables
from kdlib.show.beyond_figures import over_temperature
from kdlib.show.style import COLORS, LINES, in_style, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas.io.formats.style import Styler

TO_TEACHER = ["disagreement", "kl", "churn", "negative_flips", "positive_flips"]
PANELS = {
    "ece": "expected calibration error (%)",
    "disagreement": "disagreement with the teacher (%)",
    "kl": "KL from teacher to student (nats)",
    "churn": "churn against NDS (%)",
    "negative_flips": "negative flips against NDS (%)",
    "positive_flips": "positive flips against NDS (%)",
}
FIDELITY = {
    "agreement with teacher": "{agreement:.1f} ± {disagreement_sd:.1f}",
    "KL (nats)": "{kl:.3f} ± {kl_sd:.3f}",
    "churn": "{churn:.1f} ± {churn_sd:.1f}",
    "negative flips": "{negative_flips:.1f} ± {negative_flips_sd:.1f}",
    "positive flips": "{positive_flips:.1f} ± {positive_flips_sd:.1f}",
    "calibration error": "{ece:.1f} ± {ece_sd:.1f}",
}
FIDELITY_NOTE = (
    "in percent, KL in nats; mean ± sd over seeds; agreement and KL: with the own teacher (of an NDS: that of its "
    "seed); churn and flips: against the NDS runs, in the row NDS against the other NDS, which is what a new seed does"
)
SAMPLES = {
    "accuracy": "{accuracy:.1f} ± {accuracy_sd:.1f}",
    "worst class": "{worst_class_accuracy:.1f} ± {worst_class_accuracy_sd:.1f}",
    "worst group": "{worst_group_accuracy:.1f} ± {worst_group_accuracy_sd:.1f}",
    "images changed": "{matched:.1f}",
    "by seeds alone": "{null_mean:.1f} ({null_high:.1f})",
    "class that gains least": "{class_name}: {gain}",
}
SAMPLES_NOTE = (
    "in percent; mean ± sd over seeds; changed: images whose most frequent prediction over seeds differs between NDS "
    "and DS, at equal numbers of seeds; by seeds alone: the same between two parts of the NDS, mean (95th percentile); "
    "gains least: accuracy of one class, DS − NDS, with its own 95 % interval, not corrected for having been looked for"
)


# ------------------------------------------------------------------------------------------------------ class changes


def changes_by_temperature(predictions: Predictions) -> pd.DataFrame:
    """Four answers to "which classes does distillation change" beside each other, NDS against DS, by temperature.

    temperature; sd, sd_low, sd_high (class_effects.change_sd) and slope, slope_low, slope_high
    (class_effects.direction), on the scale of accuracy; n_significant, share_changed, classes (Welch, the paper's
    ratio, uncorrected; class_nulls.sensitivity); p_global, permutations (class_nulls.arms_permutation of that count).
    Raises and warns as these.
    """
    spread = class_effects.change_sd(predictions, normalise="difference")
    slope = class_effects.direction(predictions, normalise="difference")
    counted = class_nulls.sensitivity(predictions, tests=("welch",), normalisations=("ratio",), corrections=(None,))
    counted = counted[counted["against"] == "nds"][["temperature", "n_significant", "share_changed", "classes"]]
    nds = predictions.arm(model="nds")
    tests = [
        class_nulls.arms_permutation(nds, predictions.arm(model="ds", temperature=t)) for t in spread["temperature"]
    ]
    return (
        spread.rename(columns=_ends("sd"))
        .merge(slope.rename(columns=_ends("slope")), on="temperature")
        .merge(counted, on="temperature")
        .assign(p_global=[test.p for test in tests], permutations=[test.permutations for test in tests])
    )


@in_style
def class_changes(changes: pd.DataFrame, *, title: str) -> Figure:
    """How large the true changes of classes are (left) and whether they point to the teacher (right), against T.

    changes: `changes_by_temperature` on the scale 'difference'. 95 % intervals.
    """
    figure = style.new_figure(8.2, 3.7, title)
    left, right = figure.subplots(1, 2)
    interval_panel(left, changes, "sd", scale=100)
    left.set_title("spread of the true change over classes\n(sd, points of accuracy; 0: seeds explain all)")
    left.set_ylim(bottom=-0.03 * left.get_ylim()[1])
    interval_panel(right, changes, "slope")
    right.set_title("slope of DS − NDS on teacher − NDS over classes\n(0: no move towards the teacher)")
    for height, model, text in ((0, "nds", "0: none of the way from NDS to teacher"), (1, "teacher", "1: all of it")):
        right.axhline(height, color=COLORS[model], linestyle=LINES[model], zorder=1, label=text)
    style.legend_below(figure, right, ncols=3)
    return figure


def interval_panel(ax: Axes, rows: pd.DataFrame, name: str, *, scale: float = 1) -> None:
    """A column of `changes_by_temperature` with its 95 % interval on one `ax`."""
    drawn = look("ds") | {"zorder": 3, "clip_on": False, "label": "DS, 95 % interval"}
    style.with_intervals(ax, rows, name, scale=scale, **drawn)
    style.temperature_axis(ax, rows["temperature"])


def changes_table(changes: pd.DataFrame, *, title: str) -> Styler:
    """`changes_by_temperature` (scale 'difference') for readers, one row per temperature."""
    cells = {
        "sd of the true change (points)": _intervals(changes, "sd", scale=100),
        "slope towards the teacher": _intervals(changes, "slope"),
        "#SC": changes["n_significant"].astype(str),
        "global p": [f"{p:.3f}" for p in changes["p_global"]],
        "share of changed classes (%)": [f"{100 * share:.0f}" for share in changes["share_changed"]],
    }
    note = (
        f"95 % intervals in brackets; #SC of {changes['classes'].iloc[0]} classes; global p: how often "
        f"{changes['permutations'].iloc[0]} splits of the runs into two arms give as large a #SC; share: Storey's "
        "estimate from all p-values; these three with Welch's test and the paper's ratio"
    )
    index = [f"T = {t:g}" for t in changes["temperature"]]
    return tables.text_table(pd.DataFrame(cells).set_axis(index), f"{title}\n{note}")


def _intervals(rows: pd.DataFrame, name: str, *, scale: float = 1, digits: int = 2) -> list[str]:
    """'0.12 [−0.10, 0.34]' of each row, with true minus signs and none before a rounded zero."""
    ends = (scale * rows[[name, f"{name}_low", f"{name}_high"]]).map(f"{{:z.{digits}f}}".format)
    return [f"{mean} [{low}, {high}]".replace("-", "−") for mean, low, high in ends.itertuples(index=False)]


def verdict_rows(nds: Predictions, ds: Predictions, *, margin: float) -> pd.DataFrame:
    """class_effects.class_verdicts with Hedges' g beside it, both on the scale 'difference': one row per class.

    The columns of class_verdicts, and g, g_low, g_high (b - a, in sd over seeds; 95 % interval). Raises as these.
    """
    verdicts = class_effects.class_verdicts(nds, ds, margin=margin)
    sizes = class_effects.effect_sizes(nds, ds, normalise="difference")
    return verdicts.assign(g=sizes["g"], g_low=sizes["low"], g_high=sizes["high"], margin=margin)


def verdicts_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """`verdict_rows` for readers, one row per class."""
    cells = {
        "DS − NDS (points), 90 %": _intervals(rows.rename(columns=_ends("difference")), "difference", scale=100),
        "p, changed": [f"{p:.2f}" for p in rows["p_adjusted"]],
        "p, equivalent": [f"{p:.2f}" for p in rows["p_equivalent"]],
        "verdict": rows["verdict"],
        "Hedges' g, 95 %": _intervals(rows, "g"),
    }
    note = (
        f"DS − NDS: of the class's accuracy less the run's; changed: moderated test; equivalent: two one-sided "
        f"tests put it inside ± {100 * rows['margin'].iloc[0]:g} points; both p with Benjamini-Hochberg's"
        " correction; inconclusive: neither is shown"
    )
    return tables.text_table(pd.DataFrame(cells).set_axis(rows["class_name"]).rename_axis(None), f"{title}\n{note}")


def _ends(name: str) -> dict[str, str]:
    """The names that the ends of an interval get beside those of other measures."""
    return {"low": f"{name}_low", "high": f"{name}_high"}


# ----------------------------------------------------------------------------------------------------------- fidelity


def fidelity_arms(predictions: Predictions, *, sensitive: str | None = None) -> pd.DataFrame:
    """fidelity, calibration and worst of fidelity.py, by arm: model, temperature, n_seeds, and m, m_sd, m_low, m_high.

    m: accuracy, ece, worst_class_accuracy, with `sensitive` worst_group_accuracy; of students alone, NaN for the
    teacher: disagreement (1 - agreement), kl, churn, negative_flips, positive_flips. Raises and warns as these.
    """
    found = fidelity.calibration(predictions)
    worst = fidelity.worst(predictions, sensitive=sensitive)
    runs = worst.assign(ece=found.loc[found["part"] == "all", "ece"].to_numpy())
    names = ["accuracy", "ece", *(name for name in runs if name.startswith("worst") and name.endswith("accuracy"))]
    everywhere = arm_columns(predictions, runs, names)
    near = fidelity.fidelity(predictions).assign(disagreement=lambda rows: 1 - rows["agreement"])
    students = predictions.take(np.flatnonzero(predictions.runs["model"] != "teacher"))
    of_students = arm_columns(students, near, TO_TEACHER)
    return everywhere.merge(of_students, on=["model", "temperature", "n_seeds"], how="left")


def fidelity_figure(arms: pd.DataFrame, *, title: str) -> Figure:
    """The measures of `PANELS` against T; arms: `fidelity_arms`."""
    return over_temperature(in_percent(arms), panels=PANELS, title=title)


def in_percent(rows: pd.DataFrame) -> pd.DataFrame:
    """All shares in percent, as the panels of `PANELS` say; kl stays in nats."""
    others = rows.columns.str.fullmatch("model|temperature|n_seeds|class_name|kl.*")
    return rows.assign(**100 * rows.loc[:, ~others])


def fidelity_table(arms: pd.DataFrame, *, title: str) -> Styler:
    """What the students share with their teacher and what they change against NDS, one row per arm of students."""
    rows = in_percent(arms[arms["model"] != "teacher"])
    cells = tables.cells(rows.assign(agreement=100 - rows["disagreement"]), FIDELITY)
    return tables.text_table(cells, f"{title}\n{FIDELITY_NOTE}")


def samples_rows(predictions: Predictions, arms: pd.DataFrame) -> pd.DataFrame:
    """`arms` of `fidelity_arms`, beside each temperature its row of fidelity.changed_by_temperature, and the class that
    gains least there with its row of fidelity.class_gain: class_name, gain, low, high.
    """
    gains = fidelity.class_gain(predictions)
    least = gains.loc[gains.groupby("temperature")["gain"].idxmin()]
    return arms.merge(
        fidelity.changed_by_temperature(predictions).merge(least, on="temperature"), on="temperature", how="left"
    )


def samples_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """Accuracy, worst class and group of every arm; images that changed and the class that gains least at every T.

    rows: `samples_rows`.
    """
    there = {name: form for name, form in SAMPLES.items() if name != "worst group" or "worst_group_accuracy" in rows}
    gains = _intervals(rows.rename(columns=_ends("gain")), "gain", scale=100, digits=1)
    return tables.text_table(tables.cells(in_percent(rows).assign(gain=gains), there), f"{title}\n{SAMPLES_NOTE}")


# -------------------------------------------------------------------------------------------------- one view by group


def group_rates(predictions: Predictions, class_name: str, *, sensitive: str) -> pd.DataFrame:
    """One class against the rest by group, means over the runs: group, n, accuracy, selection_rate (0 .. 1).

    Raises InvalidInput for an unknown class (of two only the second is scored) or sensitive feature.
    """
    cells, _ = group_counts.prepare(predictions, sensitive=sensitive, missing="error", exclude_below=0)
    if class_name not in cells.classes:
        raise unknown("class", class_name, cells.classes)
    k = cells.classes.index(class_name)
    selected, hits = (
        counts[:, :, k].mean(axis=0) for counts in group_counts.count(cells, cells.codes, len(cells.groups))
    )
    n, positive = cells.size[:, 0], cells.positive[:, k]
    right = hits + (n - positive) - (selected - hits)
    return pd.DataFrame({"group": cells.groups, "n": n, "accuracy": right / n, "selection_rate": selected / n})


def groups_table(rates: pd.DataFrame, *, title: str) -> Styler:
    """`group_rates` beside fairlearn's MetricFrame.by_group, one row per group, and the largest difference.

    rates: `group_rates` with columns accuracy_fairlearn and selection_rate_fairlearn.
    """
    names = {"accuracy": "accuracy", "selection_rate": "selection rate"}
    found = rates.set_index("group").rename_axis(None)
    frame = pd.DataFrame(
        {
            f"{words}, {who}": found[f"{name}{end}"]
            for name, words in names.items()
            for who, end in (("kdlib", ""), ("fairlearn", "_fairlearn"))
        }
    )
    frame.loc["largest − smallest"] = frame.max() - frame.min()
    return tables.text_table(frame.map(lambda value: f"{100 * value:.2f}"), f"{title}\nin percent; means over seeds")
