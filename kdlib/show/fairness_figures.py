"""Figures 4 and 5 of the paper: EOD and DPD against the temperature. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kdlib.show.style import (
    CHANCE,
    COLORS,
    LINES,
    MARKERS,
    NAMES,
    blank,
    in_style,
    level,
    paper_markers,
    temperature_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@in_style
def group_fairness(arms: pd.DataFrame, *, sensitive: str, title: str) -> Figure:
    """Figure 4 of the paper: EOD and DPD against T, teacher and NDS as horizontal lines, with 95 % t-intervals.

    arms: fairness.table(predictions, sensitive=...). Left up to T = 10, right all temperatures on a log axis. Grey:
    what a model that does not react to the group shows on this many samples, mean and up to the 95th percentile. The
    labels' own DPD is what a perfect classifier has. Hollow markers: the paper's numbers for DS, where
    numbers.beside_arms could add them.
    """
    students = arms[arms["model"] == "ds"]
    low, high = students[students["temperature"] <= 10], students[students["temperature"] > 10]
    spans = [rows for rows in (low, students if len(high) else high) if len(rows)]
    figure = blank(4.6 * len(spans) + 0.6, 5.6, title)
    axes = figure.subplots(2, len(spans), sharey="row", squeeze=False)
    for row, measure in zip(axes, ("eod", "dpd"), strict=True):
        for ax, rows in zip(row, spans, strict=True):
            _disparity(ax, rows, arms, measure)
        row[0].set_ylabel(f"{measure.upper()} by {sensitive} (%)")
        row[0].set_ylim(bottom=-0.03 * row[0].get_ylim()[1])  # a line at 0 is seen, not hidden by the frame
    for ax in axes[1]:
        ax.set_xlabel("temperature")
    handles = {label: handle for handle, label in zip(*axes[1, 0].get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=2 * len(spans))
    return figure


def _disparity(ax: Axes, students: pd.DataFrame, arms: pd.DataFrame, measure: str) -> None:
    """One panel; everything in percent."""
    t = students["temperature"]
    floor, upper = 100 * students[f"{measure}_floor"], 100 * students[f"{measure}_floor_upper"]
    ax.fill_between(t, floor, upper, **CHANCE, zorder=1, label="attribute-blind model: up to 95th percentile")
    ax.plot(
        t,
        floor,
        color=COLORS["chance"],
        linestyle=LINES["chance"],
        zorder=2,
        label="attribute-blind model: mean (floor)",
    )
    for model in ("teacher", "nds"):
        for _, arm in arms[arms["model"] == model].iterrows():
            level(ax, model, *(100 * arm[[measure, f"{measure}_low", f"{measure}_high"]]).clip(lower=0))
    if measure == "dpd":
        ax.axhline(
            100 * arms["label_dpd"].iloc[0],
            color=COLORS["labels"],
            linestyle=LINES["labels"],
            linewidth=1,
            label="DPD of the labels",
        )
    ax.errorbar(
        t,
        100 * students[measure],
        yerr=_around(students, measure),
        color=COLORS["ds"],
        linestyle=LINES["ds"],
        marker=MARKERS["ds"],
        label=NAMES["ds"],
        zorder=4,
    )
    paper_markers(ax, students, measure, "ds", label="DS, paper", scale=100)
    temperature_axis(ax, t)
    ax.set_xlabel("")


def _around(students: pd.DataFrame, measure: str) -> np.ndarray:
    """(2, n) distances of the interval's ends from the mean, in percent."""
    mean, low, high = (students[name] for name in (measure, f"{measure}_low", f"{measure}_high"))
    return 100 * np.stack([mean - low, high - mean])
