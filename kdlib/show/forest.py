"""The effect of each claim over studies, side by side: a forest plot of `board.by_study`. No torch."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdlib.show import style
from kdlib.show.boards import SEEN
from kdlib.show.style import COLORS, in_style

BY = r" by (.+?)(?=, change| at T )"  # the sensitive feature in the name of a number
LETTERS = 34  # of a study's name in a line
LOOKS = {
    "seen": {"color": COLORS["ds"], "marker": "o"},
    "explained by accuracy": {"color": COLORS["labels"], "marker": "^"},
    "not told from chance": {"color": COLORS["chance"], "marker": "o", "markerfacecolor": "white"},
    "opposite": {"color": COLORS["contrast"], "marker": "s"},
}


@in_style
def forest(spread: pd.DataFrame, pooled: pd.DataFrame, *, margins: Mapping[int, float], title: str) -> Figure:
    """Every claim whose number has an interval: one panel each, one line per study, and the pooled number.

    spread: board.by_study; pooled: pooling.pooled. Shares are in points. Thin: the prediction interval; an arrow ends
    one that is far wider than all the rest.
    margins: {claim: the number, in the unit of `spread`, that its rule compares with in place of 0}.
    """
    shown = spread.dropna(subset=["low", "high"])
    claims = list(shown["claim"].unique())
    shown = shown.assign(name=_names(shown))
    tall = shown["name"].str.count("\n").div(2).add(1).groupby(shown["claim"], sort=False)
    rows = (tall.size() * tall.max()).tolist()
    lines = [2.2 + max(rows[i : i + 2]) for i in range(0, len(claims), 2)]
    blocks = " to ".join(map(str, sorted({shown["n_blocks"].min(), shown["n_blocks"].max()})))
    figure = style.new_figure(11, 0.27 * sum(lines) + 1.2, title, caption="forest", blocks=blocks)
    axes = figure.subplots(len(lines), 2, squeeze=False, height_ratios=lines)
    for ax in axes.flat[len(claims) :]:
        ax.set_axis_off()
    for ax, claim in zip(axes.flat, claims, strict=False):
        forest_panel(ax, shown[shown["claim"] == claim], pooled[pooled["claim"] == claim], margin=margins.get(claim))
    style.legend_below(figure, *axes.flat, ncols=6, first=list(LOOKS))
    return figure


def forest_panel(ax: Axes, rows: pd.DataFrame, pooled: pd.DataFrame, *, margin: float | None = None) -> None:
    """One claim of `forest` on one `ax`; name: what a row's line is called."""
    first = rows.iloc[0]
    scale = 1 if "#SC" in first["statistic"] else 100
    for place, row in enumerate(rows.to_dict("records")):
        word = SEEN.get(row["verdict"], row["verdict"])
        _line(ax, place, scale, row, **LOOKS[word], label=word)
    for row in pooled.to_dict("records"):
        _line(ax, len(rows), scale, row, color="black", marker="D", label="pooled over data sets")
    names = [*rows["name"], *(f"pooled, {n} data sets" for n in pooled["data_sets"])]
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.axvline(0, color=COLORS["chance"], linewidth=1, zorder=1)
    if margin is not None:
        line = {"color": COLORS["teacher"], "linestyle": "--", "linewidth": 1, "zorder": 1}
        ax.axvline(scale * margin, **line, label=f"margin of claim {first['claim']}")
    room = ax.get_xlim()
    for row in pooled.to_dict("records"):
        reach = scale * row["lowest"], scale * row["highest"]
        far = np.ptp(reach) > 3 * np.ptp(room)  # nothing could be read beside it
        ends = np.clip(reach, *room) if far else reach
        ax.plot(ends, [len(rows)] * 2, color="black", linewidth=0.8, zorder=1.9)
        for end, whole, arrow in zip(ends, reach, "<>", strict=True):
            if end != whole:
                ax.plot(end, len(rows), marker=arrow, markersize=4, color="black")
    unit = "classes" if scale == 1 else "points"
    statistic = re.sub(BY, "", first["statistic"])
    ax.set_title(textwrap.fill(f"{first['claim']}. {statistic} ({unit})", 52), fontsize=8)
    ax.grid(visible=False, axis="y")


def _names(rows: pd.DataFrame) -> pd.Series:
    """Title and sensitive feature of each study, and its name where a panel has another of that title."""
    by = (" by " + rows["statistic"].str.extract(BY)[0]).fillna("")
    twice = rows.assign(by=by).duplicated(["claim", "title", "by"], keep=False)
    names = rows["title"] + by + (": " + rows["studies"]).where(twice, "")
    return names.map(lambda name: textwrap.fill(name, LETTERS))


def _line(ax: Axes, place: int, scale: float, row: dict, **drawn: object) -> None:
    value, low, high = (scale * row[name] for name in ("value", "low", "high"))
    ax.errorbar([value], [place], xerr=np.array([[value - low], [high - value]]), linestyle="none", **drawn)
