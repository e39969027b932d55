"""The effect of each claim over studies, side by side: a forest plot of `board.by_study`. No torch."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kdlib.show import style
from kdlib.show.boards import SEEN
from kdlib.show.style import COLORS, in_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS = {
    "seen": {"color": COLORS["ds"], "marker": "o"},
    "explained by accuracy": {"color": COLORS["labels"], "marker": "^"},
    "not told from chance": {"color": COLORS["chance"], "marker": "o", "markerfacecolor": "white"},
    "opposite": {"color": COLORS["contrast"], "marker": "s"},
}


@in_style
def forest(spread: pd.DataFrame, pooled: pd.DataFrame, *, title: str) -> Figure:
    """Every claim whose number has an interval: one panel each, one line per study, and the pooled number.

    spread: board.by_study; pooled: pooling.pooled. Shares are in points. Thin: the prediction interval.
    """
    shown = spread.dropna(subset=["low", "high"])
    claims = list(shown["claim"].unique())
    figure = style.new_figure(11, 2.1 * -(-len(claims) // 2) + 1.2, title)
    axes = figure.subplots(-(-len(claims) // 2), 2, squeeze=False)
    for ax in axes.flat[len(claims) :]:
        ax.set_axis_off()
    for ax, claim in zip(axes.flat, claims, strict=False):
        forest_panel(ax, shown[shown["claim"] == claim], pooled[pooled["claim"] == claim])
    style.legend_below(figure, *axes.flat, ncols=5, first=list(LOOKS))
    return figure


def forest_panel(ax: Axes, rows: pd.DataFrame, pooled: pd.DataFrame) -> None:
    """One claim of `forest` on one `ax`."""
    first = rows.iloc[0]
    scale = 1 if "#SC" in first["statistic"] else 100
    for place, row in enumerate(rows.to_dict("records")):
        word = SEEN.get(row["verdict"], row["verdict"])
        _line(ax, place, scale, row, **LOOKS[word], label=word)
    for row in pooled.to_dict("records"):
        ax.plot([scale * row["lowest"], scale * row["highest"]], [len(rows)] * 2, color="black", linewidth=0.8)
        _line(ax, len(rows), scale, row, color="black", marker="D", label="pooled over data sets")
    by = rows["statistic"].str.extract(r" by (\w+)")[0]
    studies = rows["studies"] + (" (" + by + ")").fillna("")
    names = [*studies, *(f"pooled, {n} data sets" for n in pooled["data_sets"])]
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.axvline(0, color=COLORS["chance"], linewidth=1, zorder=1)
    unit = "classes" if scale == 1 else "points"
    statistic = re.sub(r" by \w+", "", first["statistic"])
    ax.set_title(textwrap.fill(f"{first['claim']}. {statistic} ({unit})", 62), fontsize=8)
    ax.grid(visible=False, axis="y")


def _line(ax: Axes, place: int, scale: float, row: dict, **drawn: object) -> None:
    value, low, high = (scale * row[name] for name in ("value", "low", "high"))
    ax.errorbar([value], [place], xerr=np.array([[value - low], [high - value]]), linestyle="none", **drawn)
