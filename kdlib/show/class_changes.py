"""Class changes and fidelity for readers: how large, where to, what beside accuracy; one figure and tables.

The measures are those of class_effects, class_nulls and fidelity; here they are put side by side. No torch.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from kdlib.errors import require_known
from kdlib.measure import class_effects, class_nulls, fidelity, group_counts
from kdlib.measure.arms import TIDY, tidy
from kdlib.predictions import Predictions
from kdlib.show import style, tables
from kdlib.show.beyond_figures import over_temperature
from kdlib.show.style import COLORS, LINES, in_style, look
from kdlib.show.tables import WORDS

TO_TEACHER = {"agreement": "share", "disagreement": "share", "kl": "nats", "churn": "share"}
TO_TEACHER |= {"negative_flips": "share", "positive_flips": "share"}


# ------------------------------------------------------------------------------------------------------ class changes


def without_counts(predictions: Predictions) -> pd.DataFrame:
    """What changes with T and needs no threshold: the rows of `arms.tidy`, NDS against DS.

    Metrics: change_sd (class_effects.change_sd) and slope (class_effects.direction), on the scale of accuracy.
    Raises and warns as these.
    """
    spread = class_effects.change_sd(predictions, normalise="difference").rename(columns={"sd": "mean"})
    slope = class_effects.direction(predictions, normalise="difference").rename(columns={"slope": "mean"})
    parts = [spread.assign(metric="change_sd", unit="share"), slope.assign(metric="slope", unit="ratio")]
    return _of_students(parts, seeds_of=slope).reindex(columns=TIDY)


def _of_students(parts: list[pd.DataFrame], *, seeds_of: pd.DataFrame) -> pd.DataFrame:
    """Rows by temperature, one metric under the other, as rows of `arms.tidy` with the seeds that other rows have."""
    rows = pd.concat(parts, ignore_index=True)
    n_seeds = seeds_of.groupby("temperature")["n_seeds"].first()
    return rows.assign(model="ds", n_seeds=rows["temperature"].map(n_seeds))


def changes_by_temperature(predictions: Predictions) -> pd.DataFrame:
    """Four answers to "which classes does distillation change" beside each other, NDS against DS, by temperature.

    `without_counts`, and the metrics n_significant and share_changed (Welch, the paper's ratio, uncorrected;
    class_nulls.sensitivity), p_global (class_nulls.arms_permutation of that count). The columns classes and
    permutations are the same in all rows. Raises and warns as these.
    """
    counted = class_nulls.sensitivity(predictions, corrections=(None,))
    counted = counted.query("against == 'nds' and test == 'welch' and normalise == 'ratio'")
    nds = predictions.arm(model="nds")
    students = (predictions.arm(model="ds", temperature=t) for t in counted["temperature"])
    tests = [class_nulls.arms_permutation(nds, arm) for arm in students]
    parts = [
        counted.assign(metric="n_significant", unit="classes", mean=counted["n_significant"]),
        counted.assign(metric="share_changed", unit="share", mean=counted["share_changed"]),
        counted.assign(metric="p_global", unit="p", mean=[test.p for test in tests]),
    ]
    found = without_counts(predictions)
    rows = pd.concat([found, _of_students(parts, seeds_of=found)], ignore_index=True).reindex(columns=TIDY)
    return rows.assign(classes=counted["classes"].iloc[0], permutations=tests[0].permutations)


def beyond_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """`class_nulls.beyond_by_temperature` for readers: one line per comparison, one column per scale."""
    rows, words = tables.with_arm_names(rows), WORDS["beyond"]
    rows["line"] += " and " + rows["against"].map(tables.ARM_NAMES)
    columns = {scale: (rows[rows["normalise"] == scale], words["cell"]) for scale in ("ratio", "logit")}
    return tables.text_table(tables.in_lines(rows, columns), f"{title}\n{words['note']}")


@in_style
def class_changes(rows: pd.DataFrame, *, title: str) -> Figure:
    """How large the true changes of classes are (left) and whether they point to the teacher (right), against T.

    rows: `without_counts`, or `changes_by_temperature`. 95 % intervals.
    """
    figure = style.new_figure(8.2, 3.7, title, caption="class_changes")
    left, right = figure.subplots(1, 2)
    interval_panel(left, rows, "change_sd")
    left.set_title("Do classes change by different amounts?\nsd of the true change over classes (points)")
    left.axhline(0, color=COLORS["chance"], linestyle=LINES["chance"], zorder=1, label="0: seeds explain all")
    left.set_ylim(bottom=-0.03 * left.get_ylim()[1])
    interval_panel(right, rows, "slope")
    right.set_title("Do they change towards the teacher?\nslope of DS − NDS on teacher − NDS over classes")
    for height, model, text in ((0, "nds", "0: none of the way from NDS to teacher"), (1, "teacher", "1: all of it")):
        right.axhline(height, color=COLORS[model], linestyle=LINES[model], zorder=1, label=text)
    style.legend_below(figure, left, right, ncols=4)
    return figure


def interval_panel(ax: Axes, rows: pd.DataFrame, metric: str) -> None:
    """A metric of the students with its 95 % interval on one `ax`."""
    drawn = look("ds") | {"zorder": 3, "clip_on": False, "label": "DS, 95 % interval"}
    style.with_intervals(ax, style.of(style.in_percent(rows), metric), **drawn)
    style.temperature_axis(ax, rows["temperature"])


def changes_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """`changes_by_temperature` for readers, one row per temperature."""
    note = WORDS["changes"]["note"].format(**rows[["classes", "permutations"]].iloc[0])
    return tables.arm_table(rows, columns=WORDS["changes"]["columns"], title=title, note=note)


def verdicts_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """class_effects.class_verdicts for readers, one row per class."""
    shown = rows.assign(**100 * rows[["difference", "low", "high"]], line=rows["class_name"])
    columns = {heading: (shown, form) for heading, form in WORDS["verdicts"]["columns"].items()}
    note = WORDS["verdicts"]["note"].format(100 * rows["margin"].iloc[0])
    return tables.text_table(tables.in_lines(shown, columns), f"{title}\n{note}")


# ----------------------------------------------------------------------------------------------------------- fidelity


def fidelity_rows(predictions: Predictions, *, sensitive: str | None = None) -> pd.DataFrame:
    """fidelity, calibration and worst of fidelity.py, one row per arm and metric: the rows of `arms.tidy`.

    Metrics: accuracy, ece, worst_class_accuracy, with `sensitive` worst_group_accuracy; of students alone: agreement,
    disagreement (1 - agreement), kl, churn, negative_flips, positive_flips. Raises and warns as these.
    """
    runs = fidelity.worst(predictions, sensitive=sensitive).assign(ece=fidelity.calibration(predictions))
    names = ["accuracy", "ece", *(name for name in runs if name.startswith("worst") and name.endswith("accuracy"))]
    near = fidelity.fidelity(predictions).assign(disagreement=lambda rows: 1 - rows["agreement"])
    students = predictions.take(np.flatnonzero(predictions.runs["model"] != "teacher"))
    parts = [tidy(predictions, runs, dict.fromkeys(names, "share")), tidy(students, near, TO_TEACHER)]
    return pd.concat(parts, ignore_index=True)


def fidelity_figure(rows: pd.DataFrame, *, title: str) -> Figure:
    """Calibration, distance to the teacher, churn and flips against T; rows: `fidelity_rows`."""
    figure = over_temperature(rows, panels=WORDS["fidelity_panels"], title=title)
    figure.caption += " Churn and flips of NDS are what a new seed does by itself."
    return figure


def fidelity_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """What the students share with their teacher and what they change against NDS, one row per arm of students."""
    return tables.arm_table(rows[rows["model"] != "teacher"], title=title, **WORDS["fidelity"])


def samples_rows(predictions: Predictions, rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` of `fidelity_rows`, and who changed and who lost by temperature.

    Metrics of fidelity.changed_samples: matched, and changed_by_seeds (mean null_mean, high null_high). Of
    fidelity.class_gain: least_gain of the class that gains least, whose name is in the column class_name.
    """
    changed, gains = fidelity.changed_samples(predictions), fidelity.class_gain(predictions)
    least = gains.loc[gains.groupby("temperature")["gain"].idxmin()]
    parts = [
        changed.assign(metric="matched", mean=changed["matched"]),
        changed.assign(metric="changed_by_seeds", mean=changed["null_mean"], high=changed["null_high"]),
        least.assign(metric="least_gain", mean=least["gain"]),
    ]
    more = _of_students(parts, seeds_of=rows).assign(unit="share")
    return pd.concat([rows, more], ignore_index=True)[[*TIDY, "class_name"]]


def samples_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """Accuracy, worst class and group of every arm; images that changed and the class that gains least at every T.

    rows: `samples_rows`.
    """
    return tables.arm_table(rows, title=title, **tables.of_metrics("samples", rows["metric"]))


# -------------------------------------------------------------------------------------------------- one view by group


def group_rates(predictions: Predictions, class_name: str, *, sensitive: str) -> pd.DataFrame:
    """One class against the rest by group, means over the runs: group, n, accuracy, selection_rate (0 .. 1).

    Raises InvalidInput for an unknown class (of two only the second is scored) or sensitive feature.
    """
    cells, _ = group_counts.prepare(predictions, sensitive=sensitive)
    require_known("class", class_name, cells.classes)
    k = cells.classes.index(class_name)
    selected, hits = (counts[:, :, k].mean(axis=0) for counts in group_counts.count(cells, cells.codes))
    n, _, negative = cells.below[:, :, k]
    right = hits + negative - (selected - hits)
    return pd.DataFrame({"group": cells.groups, "n": n, "accuracy": right / n, "selection_rate": selected / n})


def groups_table(rates: pd.DataFrame, *, title: str) -> Styler:
    """`group_rates` beside fairlearn's MetricFrame.by_group, one row per group, and the largest difference.

    rates: `group_rates` with columns accuracy_fairlearn and selection_rate_fairlearn.
    """
    columns = WORDS["by_group"]["columns"]
    frame = rates.set_index("group").rename_axis(None).rename(columns=columns)[[*columns.values()]]
    frame.loc["largest − smallest"] = frame.max() - frame.min()
    return tables.text_table(frame.map(lambda value: f"{100 * value:.2f}"), f"{title}\nin percent; means over seeds")
