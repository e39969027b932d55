"""Figures of the notebooks beyond the paper; the look is that of style.py. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from kdlib.catalogue import DATASETS, MODELS
from kdlib.measure.bias_dial import ideal_disparity
from kdlib.measure.class_bias import chance_rate
from kdlib.paper.nulls import PAIR, STANDINGS
from kdlib.paper.stand_in import SEEDS
from kdlib.show import style, tables
from kdlib.show.fairness_figures import disparities
from kdlib.show.style import COLORS, LINES, MARKERS, NAMES, in_style, look

COUNT_NAMES = {"n_significant_sc": "#SC", "n_significant_tc": "#TC"}
REACH = dict(zip(STANDINGS, ("#FFFFFF", "#C8C8C8", "#7A7A7A", "#000000"), strict=True))  # the darker, the more is left
INDIVIDUAL_PANELS = tables.WORDS["individual_panels"]
CORRECTIONS = {"none": "uncorrected", "holm": "Holm", "bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli"}
READINGS = {True: "with T²", False: "without T²"}
READING_STYLE = {True: look("ds"), False: {"color": COLORS["contrast"], "marker": "^", "linestyle": "--"}}


# ---------------------------------------------------------------------------------------------- the paper's own counts


@in_style
def reported_counts(counts: pd.DataFrame, *, title: str) -> Figure:
    """The paper's #SC and #TC against T: one panel per pair of networks and count.

    counts: nulls.reported_counts(). Hatched: the 95 % band of chance. Blue: the 95 % band of a shift of
    accuracy alone for the usual spread, dotted its upper end for the widest. The darker a dot, the less explains it.
    """
    panels = list(counts.groupby([*PAIR, "metric"], sort=False))
    figure = style.new_figure(11.5, 2.35 * (len(panels) // 4) + 1.0, title, caption="reported_counts")
    for ax, ((*pair, metric), rows) in zip(figure.subplots(len(panels) // 4, 4).flat, panels, strict=True):
        count_panel(ax, rows.sort_values("temperature"))
        ax.set_title(f"{COUNT_NAMES[metric]}: {_pair_name(*pair)}", fontsize=8)
    style.legend_below(figure, *figure.axes, ncols=4, first=STANDINGS)
    return figure


def _pair_name(dataset: str, teacher: str, student: str, alpha: float) -> str:
    pair = f"{MODELS[teacher].title} → {MODELS[student].title}"
    return f"{DATASETS[dataset].title}{'' if alpha == 0.8 else f', α = {alpha:g}'}\n{pair}"


def count_panel(ax: Axes, rows: pd.DataFrame) -> None:
    """One pair of networks and one count of `reported_counts` on one `ax`."""
    t, blue = rows["temperature"], COLORS["labels"]
    style.chance_band(ax, t, rows["chance_low"], rows["chance_high"])
    shift = {"color": blue, "alpha": 0.22, "linewidth": 0, "zorder": 1.5}
    ax.fill_between(t, rows["shift_low"], rows["shift_high"], **shift, label="shift of accuracy alone (95 %)")
    widest = {"color": blue, "linestyle": ":", "linewidth": 1.2}
    ax.plot(t, rows["shift_widest"], **widest, label="the same, widest spread: upper end")
    dots = {"s": 24, "edgecolor": "black", "linewidth": 0.8, "zorder": 3, "clip_on": False}
    for name, chosen in rows.groupby("standing", sort=False):
        ax.scatter(chosen["temperature"], chosen["count"], color=REACH[name], **dots, label=name)
    ax.set_ylim(0, 1.12 * max(2.0, rows["count"].max(), rows["shift_high"].max()))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    style.temperature_axis(ax, [v for v in t if v in (2, 4, 6, 8, 10, 20, 40)])


# ------------------------------------------------------------------------------------------------------ other choices


@in_style
def sensitivity(counts: pd.DataFrame, *, title: str) -> Figure:
    """Significant classes under every choice: one panel per reference and correction.

    counts: class_nulls.sensitivity(predictions). A panel has one row per test and normalization. The
    paper's choice is marked; the shade goes to the largest count; what chance can give is hatched.
    """
    references, corrections = counts["against"].unique(), counts["correction"].unique()
    size = 1.6 + 3.6 * len(references), 0.7 + 2.35 * len(corrections)
    figure = style.new_figure(*size, title, caption="sensitivity", classes=counts["classes"].iloc[0])
    axes = figure.subplots(len(corrections), len(references), squeeze=False, sharex=True, sharey=True)
    for ax, (correction, against) in zip(axes.flat, product(corrections, references), strict=True):
        rows = counts[(counts["against"] == against) & (counts["correction"] == correction)]
        image = choices_panel(ax, rows, largest=counts["n_significant"].max())
        ax.set_title(f"DS and {NAMES.get(against, against)}, {CORRECTIONS[correction]}")
    for ax in axes[-1]:
        ax.set_xlabel("temperature")
    label = f"significant classes (of {counts['classes'].iloc[0]})"
    figure.colorbar(image, ax=list(axes.flat), shrink=0.6, ticks=MaxNLocator(integer=True), label=label)
    return figure


def choices_panel(ax: Axes, rows: pd.DataFrame, *, largest: float) -> AxesImage:
    """One reference and correction of `sensitivity` on one `ax`, shades up to the count `largest`."""
    table = rows.pivot(index=["test", "normalise"], columns="temperature", values="n_significant")
    table = table.reindex(rows.set_index(["test", "normalise"]).index.unique())
    image = ax.imshow(table.to_numpy(float), cmap=style.COUNT_COLORS, vmin=0, vmax=max(largest, 1), aspect="auto")
    chance = rows.pivot(index=["test", "normalise"], columns="temperature", values="null_high").reindex(table.index)
    for i, j in np.argwhere((table <= chance).to_numpy()):
        ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="////", edgecolor="#B8B8B8", linewidth=0))
    names = [f"{', '.join(choice)}{' (paper)' if choice == ('welch', 'ratio') else ''}" for choice in table.index]
    ax.set_yticks(range(len(table)), names)
    ax.set_xticks(range(table.shape[1]), [f"{t:g}" for t in table.columns])
    ax.grid(False)
    style.write_in_cells(ax, table.to_numpy(float), largest=largest, form=".0f")
    return image


# ------------------------------------------------------------------------------------------------- measures against T


@in_style
def over_temperature(rows: pd.DataFrame, *, panels: Mapping[str, str], title: str) -> Figure:
    """Metrics against T, one panel each, with 95 % t-intervals; teacher and NDS as lines.

    rows: of `arms.tidy`. panels: {metric: title of its panel}. Shares are shown in percent.
    """
    height = -(-len(panels) // 3)
    figure = style.new_figure(3.7 * 3, 2.5 * height + 0.9, title, caption="over_temperature")
    axes = figure.subplots(height, 3, squeeze=False)
    for ax, (name, heading) in zip(axes.flat, panels.items(), strict=False):
        style.metric_panel(ax, rows, name)
        ax.set_title(heading)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    style.legend_below(figure, axes[0, 0], ncols=3)
    return figure


# ----------------------------------------------------------------------------------------------------------- the dial


@in_style
def bias_dial(rows: pd.DataFrame, *, title: str) -> Figure:
    """EOD and DPD against T, one column per position of the dial, beside what the errors let expect.

    rows: bias_dial.table of every position, one under the other. Blue: a learner with the students' accuracy that
    knows the base rates of its training part. Grey: a model with the same errors that does not react to the group.
    """
    dials = rows.groupby("rho")
    figure = disparities([part for _, part in dials], by="color set", title=title)
    figure.caption += " Blue: what a learner with the students' accuracy that goes by the base rates would show."
    for ax, rho in zip(figure.axes, dials.groups, strict=False):
        ax.set_title(f"trained with correlation {rho:g} of color and label")
    return figure


@in_style
def dial_runs(runs: pd.DataFrame, *, title: str) -> Figure:
    """Every run: its DPD against its errors, one panel per position of the dial.

    runs: bias_dial.dial_runs of every position. Blue: a learner with as many errors that knows the base rates of its
    training part. Grey: all errors go with the color; no classifier can lie above it.
    """
    positions = sorted(runs["rho"].unique())
    figure = style.new_figure(3.5 * len(positions) + 1.6, 3.7, title, caption="dial_runs")
    axes = figure.subplots(1, len(positions), squeeze=False)[0]
    for ax, rho in zip(axes, positions, strict=True):
        dial_runs_panel(ax, runs[runs["rho"] == rho], rho=rho, temperatures=runs["temperature"])
    axes[0].set_ylabel("DPD by color set (%)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def dial_runs_panel(ax: Axes, runs: pd.DataFrame, *, rho: float, temperatures: pd.Series) -> None:
    """One position of the dial on one `ax`; temperatures: those of all positions, from light to dark green."""
    found = sorted(temperatures.dropna().unique())
    greens = dict(zip(found, style.greens(len(found)), strict=True))
    _error_lines(ax, rho, most=1.1 * (1 - runs["accuracy"]).max())
    dots = {"s": 30, "edgecolor": "#3A3A3A", "linewidth": 0.5, "zorder": 3}
    for (model, t), rows in runs.groupby(["model", runs["temperature"].fillna(0)], sort=False):
        label = f"DS, T = {t:g}" if model == "ds" else NAMES[model]
        color = greens.get(t, COLORS[model])
        drawn = dots | {"marker": MARKERS[model], "color": color, "label": label}
        ax.scatter(100 * (1 - rows["accuracy"]), 100 * rows["dpd"], **drawn)
    ax.set_title(f"trained with correlation {rho:g}")
    ax.set_xlabel("test error (%)")


def _error_lines(ax: Axes, rho: float, most: float) -> None:
    error = np.linspace(0, most, 60)
    ideal = [ideal_disparity(rho=rho, accuracy=max(1 - e, 0.5)) for e in error]
    ax.plot(100 * error, 200 * error, color=COLORS["chance"], linestyle=":", label="all errors go with the color")
    expected = {"color": COLORS["labels"], "linestyle": "--", "label": "expected from the errors"}
    ax.plot(100 * error, 100 * np.array(ideal), **expected)
    ax.set_xlim(0, 100 * most)
    ax.set_ylim(-4 * most, min(200 * most, 100))


# ------------------------------------------------------------------------------------------- the factor T squared


@in_style
def t_squared(rows: pd.DataFrame, *, classes: int, title: str) -> Figure:
    """Both readings of the loss: gradient of each term, accuracy, and #SC against T.

    rows: class_bias.table and gradient_norms.table of every study, with a column t_squared.
    """
    figure = style.new_figure(11.5, 4.1, title, caption="t_squared")
    left, middle, right = axes = figure.subplots(1, 3)
    rows = style.in_percent(rows)
    for t_squared, drawn in READING_STYLE.items():
        reading, of_reading = READINGS[t_squared], rows[rows["t_squared"] == t_squared]
        gradients_panel(left, of_reading, reading=reading, **drawn)
        style.with_intervals(middle, style.of(of_reading, "accuracy"), **drawn, zorder=3, label=f"DS, {reading}")
        counts = style.of(of_reading, "n_significant_sc")
        right.plot(counts["temperature"], counts["mean"], label="_", clip_on=False, **drawn)
    left.set(yscale="log", title="gradient norm with respect to the logits\nof a batch, mean over epochs and seeds")
    style.reference_lines(middle, style.of(rows, "accuracy", "nds").head(1), "accuracy")
    scaled = rows[(rows["metric"] == "accuracy") & rows["model"].str.startswith("nds loss")]
    _scaled_loss(middle, scaled.drop_duplicates("model"))
    middle.set_title("test accuracy (%), 95 % interval")
    band = style.of(rows, "null_band").drop_duplicates("temperature").sort_values("temperature")
    style.chance_band(right, band["temperature"], band["low"], band["high"])
    right.set_title(f"#SC (of {classes} classes)")
    right.yaxis.set_major_locator(MaxNLocator(integer=True))
    right.set_ylim(0, max(style.of(rows, "n_significant_sc")["mean"].max(), band["high"].max()) * 1.15)
    for ax in axes:
        style.temperature_axis(ax, band["temperature"])
    style.legend_below(figure, *axes, ncols=4)
    return figure


def gradients_panel(ax: Axes, rows: pd.DataFrame, *, reading: str, **drawn: str) -> None:
    """Gradients of one reading of the loss on one `ax`: the teacher's term filled, the labels' open."""
    for term, owner, face in (("teacher", "teacher's", drawn["color"]), ("labels", "labels'", "white")):
        chosen = style.of(rows, f"gradient_{term}")
        shown = chosen.assign(low=chosen["low"].clip(lower=0.5 * chosen["mean"]))  # the axis is logarithmic
        style.with_intervals(ax, shown, markerfacecolor=face, **drawn, label=f"{owner} term, {reading}")


def _scaled_loss(ax: Axes, rows: pd.DataFrame) -> None:
    """Accuracy of the NDS whose loss is scaled as the labels' term is, each as a line with its interval."""
    for arm in rows.to_dict("records"):
        name = arm["model"].replace("nds loss x", "NDS, loss × ")
        ax.axhline(arm["mean"], color=COLORS["contrast"], linestyle=":", label=name)
        ax.axhspan(arm["low"], arm["high"], color=COLORS["contrast"], alpha=0.12, linewidth=0)


@in_style
def reported_limit(counts: pd.DataFrame, *, title: str) -> Figure:
    """The paper's own numbers to T = 40: does DS come back to NDS? Accuracy of DS less NDS, and #SC as a share.

    counts: nulls.reported_table(); the pairs that reach beyond T = 10 are shown.
    """
    wide = counts.groupby(PAIR)["temperature"].transform("max") > 10
    rows = counts[(counts["metric"] == "n_significant_sc") & wide].sort_values("temperature")
    figure = style.new_figure(9.6, 3.9, title, caption="reported_limit")
    left, right = figure.subplots(1, 2)
    pairs = rows.groupby(PAIR, sort=False)
    for (pair, group), marker, line in zip(pairs, "osD^v", ("-", "--", "-.", ":", "-"), strict=False):
        drawn = {"marker": marker, "linestyle": line, "color": COLORS["ds"], "markerfacecolor": "white"}
        t, gain = group["temperature"], group["accuracy"] - group["accuracy_reference"]
        left.plot(t, 100 * gain, **drawn)
        right.plot(t, 100 * group["count"] / group["classes"], **drawn, label=_pair_name(*pair).replace("\n", ", "))
    nds = left.axhline(0, color=COLORS["nds"], linestyle=LINES["nds"])
    left.set_title("accuracy of DS less NDS (points)")
    by_chance = 100 * np.mean([chance_rate(classes, SEEDS) for classes in rows["classes"].unique()])
    right.set_title(f"#SC, percent of the classes; {by_chance:.1f} % by chance")
    right.axhline(by_chance, color=COLORS["chance"], linestyle=LINES["chance"])
    right.set_ylim(bottom=0)
    for ax in (left, right):
        style.temperature_axis(ax, [2, 3, 4, 5, 6, 8, 10, 20, 30, 40])
    handles, labels = right.get_legend_handles_labels()
    figure.legend([*handles, nds], [*labels, NAMES["nds"]], loc="outside lower center", ncols=3)
    return figure
