"""Class changes and fidelity for readers: how large, where to, what beside accuracy; one figure and tables.

The measures are those of class_effects, class_nulls and fidelity; here they are put side by side. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kdlib.errors import unknown
from kdlib.measure import class_effects, class_nulls, fidelity, group_counts
from kdlib.measure.arms import arm_columns
from kdlib.predictions import Predictions
from kdlib.show import style, tables
from kdlib.show.beyond_figures import over_temperature
from kdlib.show.style import COLORS, LINES, MARKERS, in_style

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
FIDELITY_NOTE = (
    "in percent, KL in nats; mean ± sd over seeds; agreement and KL: with the own teacher (of an NDS: that of its "
    "seed); churn and flips: against the NDS runs, in the row NDS against the other NDS, which is what a new seed does"
)
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
        spread.rename(columns={"low": "sd_low", "high": "sd_high"})
        .merge(slope.rename(columns={"low": "slope_low", "high": "slope_high"}), on="temperature")
        .merge(counted, on="temperature")
        .assign(p_global=[test.p for test in tests], permutations=[test.permutations for test in tests])
    )


@in_style
def class_changes(changes: pd.DataFrame, *, title: str) -> Figure:
    """How large the true changes of classes are (left) and whether they point to the teacher (right), against T.

    changes: `changes_by_temperature` on the scale 'difference'. 95 % intervals.
    """
    figure = style.blank(8.2, 3.7, title)
    left, right = figure.subplots(1, 2)
    _line(left, changes, "sd", scale=100)
    left.set(
        title="spread of the true change over classes\n(sd, points of accuracy; 0: seeds explain all)", ylim=(0, None)
    )
    left.set_ylim(bottom=-0.03 * left.get_ylim()[1])
    _line(right, changes, "slope")
    right.set_title("slope of DS − NDS on teacher − NDS over classes\n(0: no move towards the teacher)")
    for height, model, text in ((0, "nds", "0: none of the way from NDS to teacher"), (1, "teacher", "1: all of it")):
        right.axhline(height, color=COLORS[model], linestyle=LINES[model], zorder=1, label=text)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _line(ax: Axes, rows: pd.DataFrame, name: str, *, scale: float = 1) -> None:
    mean, low, high = (scale * rows[f"{name}{end}"] for end in ("", "_low", "_high"))
    yerr = [(mean - low).clip(lower=0), (high - mean).clip(lower=0)]
    ax.errorbar(
        rows["temperature"],
        mean,
        yerr=yerr,
        color=COLORS["ds"],
        linestyle=LINES["ds"],
        marker=MARKERS["ds"],
        zorder=3,
        clip_on=False,
        label="DS, 95 % interval",
    )
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


def _intervals(rows: pd.DataFrame, name: str, *, scale: float = 1) -> list[str]:
    ends = (scale * rows[[name, f"{name}_low", f"{name}_high"]]).itertuples(index=False)
    return [_signed(f"{mean:.2f} [{low:.2f}, {high:.2f}]") for mean, low, high in ends]


def _signed(text: str) -> str:
    """With a minus sign for a hyphen, and no sign before a rounded zero."""
    return text.replace("-0.00", "0.00").replace("-", "−")


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
        "DS − NDS (points), 90 %": _intervals(rows.rename(columns=_ENDS), "difference", scale=100),
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


_ENDS = {"low": "difference_low", "high": "difference_high"}


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


def in_percent(arms: pd.DataFrame) -> pd.DataFrame:
    """The arms with all shares in percent, as the panels of `PANELS` say; kl stays in nats."""
    shares = [name for name in arms if name not in ("model", "temperature", "n_seeds") and not name.startswith("kl")]
    return arms.assign(**{name: 100 * arms[name] for name in shares})


def fidelity_table(arms: pd.DataFrame, *, title: str) -> Styler:
    """What the students share with their teacher and what they change against NDS, one row per arm of students."""
    rows = arms[arms["model"] != "teacher"]
    agreement = rows.assign(agreement=1 - rows["disagreement"], agreement_sd=rows["disagreement_sd"])
    cells = {
        "agreement with teacher": _means(agreement, "agreement"),
        "KL (nats)": _means(rows, "kl", scale=1, digits=3),
        "churn": _means(rows, "churn"),
        "negative flips": _means(rows, "negative_flips"),
        "positive flips": _means(rows, "positive_flips"),
        "calibration error": _means(rows, "ece"),
    }
    return tables.text_table(_by_arm(rows, cells), f"{title}\n{FIDELITY_NOTE}")


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
    cells = {"accuracy": _means(rows, "accuracy"), "worst class": _means(rows, "worst_class_accuracy")}
    if "worst_group_accuracy" in rows:
        cells["worst group"] = _means(rows, "worst_group_accuracy")
    each = [(row, np.isnan(row["temperature"])) for row in rows.to_dict("records")]
    cells["images changed"] = ["" if alone else f"{100 * row['matched']:.1f}" for row, alone in each]
    cells["by seeds alone"] = ["" if alone else _null(row) for row, alone in each]
    cells["class that gains least"] = ["" if alone else _loss(row) for row, alone in each]
    return tables.text_table(_by_arm(rows, cells), f"{title}\n{SAMPLES_NOTE}")


def _null(row: Mapping[str, float]) -> str:
    return f"{100 * row['null_mean']:.1f} ({100 * row['null_high']:.1f})"


def _loss(row: Mapping[str, object]) -> str:
    gain, low, high = (100 * row[name] for name in ("gain", "low", "high"))
    return f"{row['class_name']}: " + _signed(f"{gain:.1f} [{low:.1f}, {high:.1f}]")


def _means(rows: pd.DataFrame, name: str, *, scale: float = 100, digits: int = 1) -> list[str]:
    pairs = zip(scale * rows[name], scale * rows[f"{name}_sd"], strict=True)
    return [f"{mean:.{digits}f} ± {sd:.{digits}f}" for mean, sd in pairs]


def _by_arm(rows: pd.DataFrame, cells: Mapping[str, list[str]]) -> pd.DataFrame:
    names = [tables.arm_name(*arm) for arm in rows[["model", "temperature"]].itertuples(index=False)]
    return pd.DataFrame(cells, index=names)


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
