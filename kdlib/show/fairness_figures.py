"""Figures 4 and 5 of the paper: EOD and DPD against the temperature; a panel draws on its `ax`. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdlib.catalogue import groups_by
from kdlib.show import style
from kdlib.show.style import COLORS, LINES, NAMES, in_style, look, new_figure


def group_fairness(rows: pd.DataFrame, *, sensitive: str, title: str) -> Figure:
    """Figure 4 of the paper: EOD and DPD against T, teacher and NDS as horizontal lines, with 95 % t-intervals.

    rows: `fairness.table`. Where the rows have the paper's numbers, in its two columns: up to T = 10, and all
    temperatures; else all, on one axis. Hatched: what a model that does not react to the group shows on this many
    samples, mean and up to the 95th percentile. The labels' own DPD is what a perfect classifier has. Hollow markers:
    the paper's numbers for DS.
    """
    split = style.has_paper(rows) and (rows["temperature"] > 10).any() and (rows["temperature"] <= 10).any()
    columns = [rows[~(rows["temperature"] > 10)], rows] if split else [rows]
    return disparities(columns, by=groups_by(sensitive), title=title)


@in_style
def disparities(columns: Sequence[pd.DataFrame], *, by: str, title: str) -> Figure:
    """EOD (above) and DPD against T, one column for each table of `disparity_panel`; of one table side by side.

    by: the groups, in words.
    """
    if len(columns) == 1:
        figure = new_figure(9.4, 3.9, title, caption="disparities")
        axes = figure.subplots(1, 2, squeeze=False).T
    else:
        figure = new_figure(4.6 * len(columns) + 0.6, 5.6, title, caption="disparities")
        axes = figure.subplots(2, len(columns), sharey="row", squeeze=False)
    for line, measure in zip(axes, ("eod", "dpd"), strict=True):
        for ax, rows in zip(line, columns, strict=True):
            disparity_panel(ax, rows, measure=measure)
        line[0].set_ylabel(f"{measure.upper()} by {by} (%)")
        line[0].set_ylim(bottom=-0.03 * line[0].get_ylim()[1])  # a line at 0 is seen, not hidden by the frame
    for ax in axes[0] if len(columns) > 1 else []:
        ax.set_xlabel("")
    style.legend_below(figure, axes[1, 0], ncols=min(2 * len(columns) + 1, 4))
    return figure


def disparity_panel(ax: Axes, rows: pd.DataFrame, *, measure: str) -> None:
    """EOD or DPD ("eod", "dpd") in percent on one `ax`; rows: `fairness.table` or `bias_dial.table`."""
    rows = style.in_percent(rows)
    students, floor = style.of(rows, measure), style.of(rows, f"{measure}_floor")
    t, label = floor["temperature"], "attribute-blind model: up to 95th percentile"
    style.chance_band(ax, t, floor["mean"], floor["high"], label=label)
    chance = {"color": COLORS["chance"], "linestyle": LINES["chance"], "zorder": 2}
    ax.plot(t, floor["mean"], **chance, label="attribute-blind model: mean (floor)")
    style.reference_lines(ax, rows, measure)
    of_labels, ideal = style.of(rows, "label_dpd")["mean"], style.of(rows, "ideal")["mean"]
    if measure == "dpd" and len(of_labels):
        labels = {"color": COLORS["labels"], "linestyle": LINES["labels"], "linewidth": 1}
        ax.axhline(of_labels.iloc[0], **labels, label="DPD of the labels")
    if len(ideal):
        dashes = {"color": COLORS["labels"], "linestyle": "--", "marker": "_", "markersize": 9, "zorder": 2.5}
        ax.plot(t, ideal, **dashes, label="expected from the students' accuracy")
    style.with_intervals(ax, students, **look("ds"), label=NAMES["ds"], zorder=4)
    style.paper_markers(ax, students, "ds", label="DS, paper")
    style.temperature_axis(ax, t)
