"""Figures of the notebooks beyond the paper; the look is that of style.py. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kdlib.catalogue import DATASETS, MODELS
from kdlib.measure.bias_dial import ideal_disparity
from kdlib.paper.nulls import PAIR, STANDINGS
from kdlib.show import style
from kdlib.show.style import CHANCE, COLORS, LINES, MARKERS, NAMES, in_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS = {"n_significant_sc": "#SC", "n_significant_tc": "#TC"}
REACH = dict(zip(STANDINGS, ("#FFFFFF", "#C8C8C8", "#7A7A7A", "#000000"), strict=True))  # the darker, the more is left
SHIFT = {"color": COLORS["labels"], "linewidth": 1.2}
INDIVIDUAL_PANELS = {  # of the measures of individual fairness, each with its two controls beside it
    "accuracy": "accuracy",
    "confidence": "confidence (mean largest probability)",
    "fitted_temperature": "temperature that calibrates",
    "counterfactual": "counterfactual",
    "counterfactual_calibrated": "counterfactual, calibrated",
    "counterfactual_relative": "counterfactual, relative",
    "lipschitz": "Lipschitz",
    "lipschitz_calibrated": "Lipschitz, calibrated",
    "lipschitz_relative": "Lipschitz, relative",
    "inconsistency": "inconsistency of neighbors",
}
READINGS = {True: "with T²", False: "without T²"}
READING_STYLE = {
    True: {"color": COLORS["ds"], "marker": "o", "linestyle": "-"},
    False: {"color": "#762A83", "marker": "^", "linestyle": "--"},
}


# ---------------------------------------------------------------------------------------------- the paper's own counts


@in_style
def reported_counts(counts: pd.DataFrame, *, title: str) -> Figure:
    """The paper's #SC and #TC against T: one panel per pair of networks and count.

    counts: nulls.reported_counts(). Hatched: the 95 % band of chance. Blue: the 95 % band of a shift of
    accuracy alone for the usual spread, dotted its upper end for the widest. The darker a dot, the less explains it.
    """
    panels = list(counts.groupby([*PAIR, "metric"], sort=False))
    figure = style.blank(11.5, 2.35 * (len(panels) // 4) + 1.0, title)
    for ax, ((*pair, metric), rows) in zip(figure.subplots(len(panels) // 4, 4).flat, panels, strict=True):
        _count_panel(ax, rows.sort_values("temperature"))
        ax.set_title(f"{METRICS[metric]}: {_pair_name(*pair)}", fontsize=8)
    handles = {label: h for ax in figure.axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    order = [name for name in STANDINGS if name in handles] + [name for name in handles if name not in STANDINGS]
    figure.legend([handles[name] for name in order], order, loc="outside lower center", ncols=4)
    return figure


def _pair_name(dataset: str, teacher: str, student: str, alpha: float) -> str:
    pair = f"{MODELS[teacher].title} → {MODELS[student].title}"
    return f"{DATASETS[dataset].title}{'' if alpha == 0.8 else f', α = {alpha:g}'}\n{pair}"


def _count_panel(ax: Axes, rows: pd.DataFrame) -> None:
    t = rows["temperature"]
    ax.fill_between(t, rows["chance_low"], rows["chance_high"], **CHANCE, zorder=1, label="chance alone (95 %)")
    ax.fill_between(
        t,
        rows["shift_low"],
        rows["shift_high"],
        color=SHIFT["color"],
        alpha=0.22,
        linewidth=0,
        zorder=1.5,
        label="shift of accuracy alone (95 %)",
    )
    ax.plot(t, rows["shift_widest"], linestyle=":", **SHIFT, label="the same, widest spread: upper end")
    for name, color in REACH.items():
        chosen = rows[rows["standing"] == name]
        if len(chosen):
            ax.scatter(
                chosen["temperature"],
                chosen["count"],
                s=24,
                color=color,
                edgecolor="black",
                linewidth=0.8,
                zorder=3,
                label=name,
                clip_on=False,
            )
    ax.set_ylim(0, 1.12 * max(2.0, rows["count"].max(), rows["shift_high"].max()))
    ax.yaxis.set_major_locator(style.whole())
    style.temperature_axis(ax, [v for v in t if v in (2, 4, 6, 8, 10, 20, 40)])


# ------------------------------------------------------------------------------------------------------ other choices


@in_style
def sensitivity(counts: pd.DataFrame, *, title: str) -> Figure:
    """Significant classes under every choice: one panel per reference and correction.

    counts: class_nulls.sensitivity(predictions). A panel has one row per test and normalization. The
    paper's choice is marked; the shade goes to the largest count.
    """
    columns = [
        (against, correction) for correction in counts["correction"].unique() for against in counts["against"].unique()
    ]
    corrections, references = counts["correction"].nunique(), counts["against"].nunique()
    figure = style.blank(1.6 + 3.6 * references, 0.7 + 2.35 * corrections, title)
    axes = figure.subplots(corrections, references, squeeze=False, sharex=True, sharey=True)
    for ax, (against, correction) in zip(axes.flat, columns, strict=True):
        rows = counts[(counts["against"] == against) & (counts["correction"] == correction)]
        image = _choices(ax, rows, largest=counts["n_significant"].max())
        ax.set_title(f"DS and {NAMES.get(against, against)}, {_correction_name(correction)}")
    for ax in axes[-1]:
        ax.set_xlabel("temperature")
    figure.colorbar(
        image,
        ax=list(axes.flat),
        shrink=0.6,
        ticks=style.whole(),
        label=f"significant classes (of {counts['classes'].iloc[0]})",
    )
    return figure


def _correction_name(correction: str) -> str:
    return {"none": "uncorrected", "holm": "Holm", "bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli"}[correction]


def _choices(ax: Axes, rows: pd.DataFrame, largest: int):
    table = rows.pivot(index=["test", "normalise"], columns="temperature", values="n_significant")
    table = table.reindex(rows.set_index(["test", "normalise"]).index.unique())
    values = table.to_numpy(float)
    image = ax.imshow(values, cmap=style.COUNTS, vmin=0, vmax=max(largest, 1), aspect="auto")
    ax.set_yticks(
        range(len(table)), [f"{test}, {n}{' (paper)' if _is_papers(test, n) else ''}" for test, n in table.index]
    )
    ax.set_xticks(range(table.shape[1]), [f"{t:g}" for t in table.columns])
    ax.grid(False)
    for (i, j), value in np.ndenumerate(values):
        color = "white" if value > 0.55 * largest else "black"
        ax.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=7, color=color)
    return image


def _is_papers(test: str, normalise: str) -> bool:
    return (test, normalise) == ("welch", "ratio")


# ------------------------------------------------------------------------------------------------- measures against T


@in_style
def over_temperature(arms: pd.DataFrame, *, panels: Mapping[str, str], title: str, columns: int = 3) -> Figure:
    """Columns of a table of arms against T, one panel per column, with 95 % t-intervals; teacher and NDS as lines.

    arms: model, temperature; m, m_low, m_high for each key m of `panels`, whose values are the panels' titles.
    """
    height = -(-len(panels) // columns)
    figure = style.blank(3.7 * columns, 2.5 * height + 0.9, title)
    axes = figure.subplots(height, columns, squeeze=False)
    for ax, (name, heading) in zip(axes.flat, panels.items(), strict=False):
        measure_panel(ax, arms, name)
        ax.set_title(heading)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def measure_panel(ax: Axes, arms: pd.DataFrame, name: str) -> None:
    """One column of `over_temperature` on one `ax`."""
    _levels(ax, arms, name)
    _with_interval(ax, arms[arms["model"] == "ds"], name, label=NAMES["ds"], **_of("ds"))
    ax.set_ylim(bottom=0)
    style.temperature_axis(ax, arms["temperature"].dropna())


def _of(model: str) -> dict[str, str]:
    return {"color": COLORS[model], "linestyle": LINES[model], "marker": MARKERS[model]}


def _with_interval(ax: Axes, rows: pd.DataFrame, name: str, **look: object) -> None:
    mean, low, high = (rows[f"{name}{end}"] for end in ("", "_low", "_high"))
    ax.errorbar(rows["temperature"], mean, yerr=[mean - low, high - mean], zorder=3, **look)


def _levels(ax: Axes, arms: pd.DataFrame, name: str) -> None:
    for model in ("teacher", "nds"):
        for _, arm in arms[arms["model"] == model].iterrows():
            style.level(ax, model, *arm[[name, f"{name}_low", f"{name}_high"]])


# ----------------------------------------------------------------------------------------------------------- the dial


@in_style
def bias_dial(arms: pd.DataFrame, *, title: str) -> Figure:
    """DPD and EOD against T, one column per position of the dial, beside what the errors let expect.

    arms: bias_dial.dial_arms of every position, one under the other. Blue: a learner with the students' accuracy that
    knows the base rates of its training part. Grey: a model with the same errors that does not react to the group.
    """
    positions = sorted(arms["rho"].unique())
    figure = style.blank(3.5 * len(positions) + 0.4, 5.6, title)
    axes = figure.subplots(2, len(positions), sharey="row", squeeze=False)
    for column, rho in zip(axes.T, positions, strict=True):
        here = arms[arms["rho"] == rho]
        students = here[here["model"] == "ds"]
        for ax, measure in zip(column, ("dpd", "eod"), strict=True):
            _dial_panel(ax, here, students, measure)
        column[0].set_title(f"trained with correlation {rho:g} of color and label")
        column[1].set_xlabel("temperature")
    for row, measure in zip(axes, ("DPD", "EOD"), strict=True):
        row[0].set_ylabel(f"{measure} by color set (%)")
        row[0].set_ylim(bottom=0)
    handles = {label: h for h, label in zip(*axes[0, 0].get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3)
    return figure


def _dial_panel(ax: Axes, arms: pd.DataFrame, students: pd.DataFrame, measure: str) -> None:
    """Everything in percent."""
    shown = arms.assign(**{name: 100 * arms[name] for name in arms if name.startswith(measure)})
    rows, t = shown[shown["model"] == "ds"], students["temperature"]
    ax.fill_between(
        t,
        rows[f"{measure}_floor"],
        rows[f"{measure}_floor_upper"],
        **CHANCE,
        zorder=1,
        label="blind to the group: mean to 95th percentile",
    )
    ax.plot(
        t,
        100 * students["ideal"],
        color=COLORS["labels"],
        linestyle="--",
        marker="_",
        markersize=9,
        zorder=2.5,
        label="expected from the students' accuracy",
    )
    _levels(ax, shown, measure)
    _with_interval(ax, rows, measure, label=NAMES["ds"], **_of("ds"))
    style.temperature_axis(ax, t)
    ax.set_xlabel("")


@in_style
def dial_runs(runs: pd.DataFrame, *, title: str) -> Figure:
    """Every run: its DPD against its errors, one panel per position of the dial.

    runs: bias_dial.dial_runs of every position. Blue: a learner with as many errors that knows the base rates of its
    training part. Grey: all errors go with the color; no classifier can lie above it.
    """
    positions = sorted(runs["rho"].unique())
    figure = style.blank(3.5 * len(positions) + 1.6, 3.7, title)
    axes = figure.subplots(1, len(positions), squeeze=False)[0]
    for ax, rho in zip(axes, positions, strict=True):
        dial_runs_panel(ax, runs[runs["rho"] == rho], rho=rho, temperatures=runs["temperature"])
    axes[0].set_ylabel("DPD by color set (%)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def dial_runs_panel(ax: Axes, runs: pd.DataFrame, *, rho: float, temperatures: pd.Series) -> None:
    """One position of the dial on one `ax`; temperatures: those of all positions, from light to dark green."""
    greens = dict(zip(t := sorted(temperatures.dropna().unique()), style.greens(len(t)), strict=True))
    _error_lines(ax, rho, most=1.1 * (1 - runs["accuracy"]).max())
    for (model, temperature), rows in runs.groupby(["model", runs["temperature"].fillna(0)], sort=False):
        ax.scatter(
            100 * (1 - rows["accuracy"]),
            100 * rows["dpd"],
            s=30,
            marker=MARKERS[model],
            edgecolor="#3A3A3A",
            linewidth=0.5,
            color=greens.get(temperature, COLORS[model]),
            zorder=3,
            label=f"DS, T = {temperature:g}" if model == "ds" else NAMES[model],
        )
    ax.set_title(f"trained with correlation {rho:g}")
    ax.set_xlabel("test error (%)")


def _error_lines(ax: Axes, rho: float, most: float) -> None:
    error = np.linspace(0, most, 60)
    ideal = [ideal_disparity(rho=rho, accuracy=max(1 - e, 0.5)) for e in error]
    ax.plot(100 * error, 200 * error, color=COLORS["chance"], linestyle=":", label="all errors go with the color")
    ax.plot(
        100 * error, 100 * np.array(ideal), color=COLORS["labels"], linestyle="--", label="expected from the errors"
    )
    ax.set_xlim(0, 100 * most)
    ax.set_ylim(-4 * most, min(200 * most, 100))


# ------------------------------------------------------------------------------------------- the factor T squared


@in_style
def t_squared(gradients: pd.DataFrame, accuracy: pd.DataFrame, counts: pd.DataFrame, *, title: str) -> Figure:
    """Both readings of the loss: gradient of each term, accuracy, and #SC against T.

    Each with a column t_squared. gradients: gradient_norms.gradients_by_temperature; accuracy: arms.by_arm of DS,
    NDS, and NDS with its loss scaled; counts: class_bias.counts.
    """
    figure = style.blank(11.5, 4.1, title)
    left, middle, right = figure.subplots(1, 3)
    for t_squared, look in READING_STYLE.items():
        _gradient_lines(left, gradients[gradients["t_squared"] == t_squared], look, READINGS[t_squared])
        students = accuracy[(accuracy["t_squared"] == t_squared) & (accuracy["model"] == "ds")]
        _with_interval(middle, _percent(students), "mean", label=f"DS, {READINGS[t_squared]}", **look)
        rows = counts[counts["t_squared"] == t_squared]
        right.plot(rows["temperature"], rows["n_significant_sc"].astype(float), label="_", clip_on=False, **look)
    left.set(yscale="log", title="gradient norm with respect to the logits\nof a batch, mean over epochs and seeds")
    _reference_levels(middle, accuracy)
    middle.set_title("test accuracy (%), 95 % interval")
    band = counts.drop_duplicates("temperature").sort_values("temperature")
    right.fill_between(
        band["temperature"], band["null_low"], band["null_high"], **CHANCE, zorder=1, label="chance alone (95 %)"
    )
    right.set_title(f"#SC (of {counts['classes'].iloc[0]} classes)")
    right.yaxis.set_major_locator(style.whole())
    right.set_ylim(0, max(counts["n_significant_sc"].max(), band["null_high"].max()) * 1.15)
    for ax in (left, middle, right):
        style.temperature_axis(ax, counts["temperature"])
    handles = {
        label: h for ax in (left, middle, right) for h, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=4)
    return figure


def _gradient_lines(ax: Axes, rows: pd.DataFrame, look: Mapping[str, str], reading: str) -> None:
    """The teacher's term filled, the labels' open."""
    for term, face in (("teacher", look["color"]), ("labels", "white")):
        chosen = rows[rows["term"] == term]
        yerr = [chosen["mean"] - chosen["low"].clip(lower=0.5 * chosen["mean"]), chosen["high"] - chosen["mean"]]
        ax.errorbar(
            chosen["temperature"],
            chosen["mean"],
            yerr=yerr,
            markerfacecolor=face,
            **look,
            label=f"{term}' term, {reading}".replace("teacher'", "teacher's"),
        )


def _percent(rows: pd.DataFrame) -> pd.DataFrame:
    """Of arms.by_arm, with the names that `_with_interval` reads."""
    return rows.assign(mean=100 * rows["mean"], mean_low=100 * rows["low"], mean_high=100 * rows["high"])


def _reference_levels(ax: Axes, accuracy: pd.DataFrame) -> None:
    alone = _percent(accuracy[accuracy["temperature"].isna()].drop_duplicates("model"))
    for _, arm in alone[alone["model"] == "nds"].iterrows():
        style.level(ax, "nds", *arm[["mean", "mean_low", "mean_high"]])
    for _, arm in alone[alone["model"].str.startswith("nds loss")].iterrows():
        ax.axhline(
            arm["mean"], color="#762A83", linestyle=":", label=arm["model"].replace("nds loss x", "NDS, loss × ")
        )
        ax.axhspan(arm["mean_low"], arm["mean_high"], color="#762A83", alpha=0.12, linewidth=0)


@in_style
def reported_limit(counts: pd.DataFrame, *, title: str) -> Figure:
    """The paper's own numbers to T = 40: does DS come back to NDS? Accuracy of DS less NDS, and #SC as a share.

    counts: nulls.reported_table(); the pairs that reach beyond T = 10 are shown.
    """
    rows = counts[
        (counts["metric"] == "n_significant_sc") & counts.groupby(PAIR)["temperature"].transform("max").gt(10)
    ]
    figure = style.blank(9.6, 3.9, title)
    left, right = figure.subplots(1, 2)
    for (pair, group), marker, line in zip(
        rows.groupby(PAIR, sort=False), "osD^v", ("-", "--", "-.", ":", "-"), strict=False
    ):
        look = {"marker": marker, "linestyle": line, "color": COLORS["ds"], "markerfacecolor": "white"}
        group = group.sort_values("temperature")
        left.plot(group["temperature"], 100 * (group["accuracy"] - group["accuracy_reference"]), **look)
        right.plot(
            group["temperature"],
            100 * group["count"] / group["classes"],
            **look,
            label=_pair_name(*pair).replace("\n", ", "),
        )
    nds = left.axhline(0, color=COLORS["nds"], linestyle=LINES["nds"])
    left.set_title("accuracy of DS less NDS (points)")
    right.set_title("#SC, percent of the classes; 4.5 % by chance")
    right.axhline(4.5, color=COLORS["chance"], linestyle=LINES["chance"])
    right.set_ylim(bottom=0)
    for ax in (left, right):
        style.temperature_axis(ax, [2, 3, 4, 5, 6, 8, 10, 20, 30, 40])
    handles, labels = right.get_legend_handles_labels()
    figure.legend([*handles, nds], [*labels, NAMES["nds"]], loc="outside lower center", ncols=3)
    return figure
