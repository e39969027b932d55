"""Figures 1, 2, 3 and 8 of the paper: classes. A panel draws on the `ax` it is given; a figure only lays panels out.

Every picture says which study it is of, and whether that is a stand-in. No torch, no pyplot, no global state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy
from scipy import stats as distributions

from kdlib.catalogue import DATASETS
from kdlib.measure import class_bias
from kdlib.predictions import Predictions
from kdlib.show import style
from kdlib.show.style import COLORS, CROSS, greens, in_style, look, new_figure, paper_markers

MOST_BARS = 40  # classes of which each has a name in `sorted_changes`
COUNTS = {"n_significant_sc": ("#SC", "nds", "NDS"), "n_significant_tc": ("#TC", "teacher", "teacher")}
HOLLOW = {"color": "none", "edgecolor": COLORS["labels"], "linewidth": 0.9, "zorder": 4}
DOTS = {"s": 26, "edgecolor": "#3A3A3A", "linewidth": 0.4, "zorder": 3}
FEW_CLASSES = 12  # up to here a matrix shows its numbers


@in_style
def class_accuracy(changes: pd.DataFrame, *, title: str) -> Figure:
    """Figure 1 of the paper: accuracy of each class and, below, what the test compares: the change of A_c / A.

    changes: `class_accuracy_rows`; used are class_index, class_name, temperature, mean_a, sd_a (NDS), mean_b, sd_b
    (DS), difference, statistic, df, significant, and mean_teacher where it is there.
    Hollow: the paper's dots and crosses, where the rows have them (`read_figures.beside_classes`).
    """
    room = 0.9 if "paper_accuracy" in changes else 0.62  # inches for the dots of a class
    width = np.clip(room * changes["class_index"].nunique() + 2, 6, 20)
    figure = new_figure(width, 6.2, title, caption="class_accuracy")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    class_accuracy_panel(above, changes)
    relative_change_panel(below, changes)
    _class_axis(below, changes.drop_duplicates("class_index").sort_values("class_index")["class_name"].tolist())
    figure.legend(*above.get_legend_handles_labels(), loc="outside right upper")
    return figure


def class_accuracy_rows(p: Predictions) -> pd.DataFrame:
    """`class_bias.significant_classes` of NDS and DS at every T, one row per class and T, and what else figure 1 shows.

    Adds temperature and mean_teacher, the accuracy of the class over all teachers (0 .. 1).
    """
    nds = p.arm(model="nds")
    teachers = class_bias.significant_classes(nds, p.arm(model="teacher"))["mean_b"]
    found = {t: class_bias.significant_classes(nds, p.arm(model="ds", temperature=t)) for t in p.temperatures}
    return pd.concat([rows.assign(temperature=t, mean_teacher=teachers) for t, rows in found.items()])


def class_accuracy_panel(ax: Axes, changes: pd.DataFrame) -> None:
    """Accuracies of figure 1 on one `ax`; changes as in `class_accuracy`."""
    names = changes.drop_duplicates("class_index").sort_values("class_index")
    _nds_ticks(ax, names)
    if "mean_teacher" in names:
        ticks = {"color": COLORS["teacher"], "linestyle": "--", "linewidth": 1.2, "zorder": 2}
        ends = names["class_index"] - 0.42, names["class_index"] + 0.42
        ax.hlines(100 * names["mean_teacher"], *ends, **ticks, label="teacher mean")
    offsets = _offsets(changes)
    for (t, rows), color in zip(changes.groupby("temperature"), greens(len(offsets)), strict=True):
        label = f"DS ± 1 sd, T = {t:g}"
        _dots(ax, rows, 100 * rows["mean_b"], 100 * rows["sd_b"], offset=offsets[t], color=color, label=label)
    ax.scatter([], [], **CROSS, label="DS differs from\nNDS (p ≤ 0.05)")
    if "paper_accuracy" in changes:
        _paper_dots(ax, changes, offsets)
    ax.set_ylabel("accuracy of the class (%)")


def relative_change_panel(ax: Axes, changes: pd.DataFrame) -> None:
    """Change of A_c / A from NDS to DS on one `ax`, in percent, with the interval of the test that makes crosses."""
    offsets = _offsets(changes)
    ax.axhline(0, color=COLORS["nds"], linestyle=style.LINES["nds"], zorder=1)
    for (t, rows), color in zip(changes.groupby("temperature"), greens(len(offsets)), strict=True):
        se = (rows["difference"] / rows["statistic"]).where(rows["statistic"] != 0, 0)
        half = (se * distributions.t.ppf(0.975, rows["df"])).clip(lower=0)
        _dots(ax, rows, 100 * rows["difference"], 100 * half, offset=offsets[t], color=color, label="_")
    ax.set_ylabel("$A_c$ / $A$, DS − NDS (%)")


def _offsets(changes: pd.DataFrame) -> dict[float, float]:
    """Where the dots of each T stand beside the middle of a class."""
    temperatures = sorted(changes["temperature"].unique())
    ends = 0.3 if len(temperatures) > 1 else 0
    return dict(zip(temperatures, np.linspace(-ends, ends, len(temperatures)), strict=True))


def _dots(
    ax: Axes, rows: pd.DataFrame, y: pd.Series, half: pd.Series, *, offset: float, color: Any, label: str
) -> None:
    """Dots of one T with their bars. Those that are significant lie on a cross with a white edge, above all others."""
    x, hit = rows["class_index"] + offset, rows["significant"]
    ax.errorbar(x, y, yerr=half, fmt="none", ecolor="#3A3A3A", elinewidth=0.7, capsize=1.2, zorder=2.5)
    ax.scatter(x, y, **DOTS, color=color, label=label)
    ax.scatter(x[hit], y[hit], **CROSS, zorder=5, path_effects=[withStroke(linewidth=3.2, foreground="white")])
    ax.scatter(x[hit], y[hit], **DOTS | {"zorder": 6}, color=color)


def _paper_dots(ax: Axes, changes: pd.DataFrame, offsets: Mapping[float, float]) -> None:
    """The paper's accuracy stands where ours of that class and T does. Its crosses replace dots, as in the paper."""
    x, y = changes["class_index"] + changes["temperature"].map(offsets), 100 * changes["paper_accuracy"]
    for crossed, marker, label in ((0, "o", "DS, paper"), (1, "X", "DS differs from\nNDS, paper")):
        some = changes["paper_significant"] == crossed
        ax.scatter(x[some], y[some], s=26 + 44 * crossed, marker=marker, **HOLLOW, label=label)


def _nds_ticks(ax: Axes, names: pd.DataFrame) -> None:
    center, mean, sd = names["class_index"].to_numpy(), 100 * names["mean_a"], 100 * names["sd_a"]
    ax.hlines(mean, center - 0.42, center + 0.42, color=COLORS["nds"], linewidth=2, label="NDS mean", zorder=2)
    shade = {"color": COLORS["nds"], "alpha": 0.25, "linewidth": 0, "zorder": 1}
    for x, low, high in zip(center, mean - sd, mean + sd, strict=True):
        label = "NDS ± 1 sd" if x == center[0] else None
        ax.fill_between([x - 0.42, x + 0.42], low, high, **shade, label=label)


def _class_axis(ax: Axes, names: Sequence[str]) -> None:
    step = max(1, len(names) // 50)
    long = max(map(len, names)) > 6 or len(names) > 20
    ax.set_xticks(range(0, len(names), step), names[::step], rotation=90 if long else 0)
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.set_xlabel("class")


@in_style
def two_accuracies(rows: pd.DataFrame, *, title: str) -> Figure:
    """What the paper says twice: the accuracy of DS at each T, by its table 6 and as the mean over figure 1's classes.

    rows: `read_figures.against_table_6`. One panel per data set. Bars: how exactly figure 1 can be read.
    """
    panels = list(rows.groupby("dataset"))
    figure = new_figure(4.6 * len(panels), 3.7, title, caption="two_accuracies")
    for ax, (dataset, of) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
        t, middle = of["temperature"], (of["low"] + of["high"]) / 2
        ax.axhline(of["nds"].iloc[0], color=COLORS["nds"], linestyle=style.LINES["nds"], label="NDS, table 6")
        ax.plot(t, of["accuracy"], **look("ds"), label="DS, table 6")
        read = look("ds") | {"color": COLORS["labels"], "markerfacecolor": "white", "linestyle": ":"}
        ax.errorbar(t, middle, yerr=middle - of["low"], **read, label="DS, mean over the classes of figure 1")
        ax.set_title(DATASETS[dataset].title)
        style.temperature_axis(ax, t)
    figure.axes[0].set_ylabel("test accuracy (%)")
    style.legend_below(figure, *figure.axes, ncols=3)
    return figure


@in_style
def sorted_changes(found: pd.DataFrame, *, title: str) -> Figure:
    """Change of accuracy by class, sorted; dark where the class differs. found: significant_classes(a, b)."""
    sd = 100 * np.sqrt(found["sd_a"] ** 2 + found["sd_b"] ** 2)
    rows = found.assign(change=100 * (found["mean_b"] - found["mean_a"]), sd=sd)
    rows = rows.sort_values("change", kind="stable", ignore_index=True)
    figure = new_figure(9, 3.6, title)
    ax = figure.subplots()
    for differs, color, label in ((True, COLORS["ds"], "differs"), (False, "#C9C9C9", "not told from chance")):
        some = rows[rows["significant"] == differs]
        ax.bar(some.index, some["change"], color=color, width=0.8, label=f"{label} ({len(some)})")
    bars = {"fmt": "none", "ecolor": "#5A5A5A", "elinewidth": 0.7, "label": "± 1 sd of the difference between two runs"}
    ax.errorbar(rows.index, rows["change"], yerr=rows["sd"], **bars)
    ax.axhline(0, color="#1A1A1A", linewidth=0.8)
    names = rows["class_name"]
    if len(names) <= MOST_BARS:
        ax.set_xticks(rows.index, names, rotation=90 if len(names) > 12 else 0)
    else:
        ax.set_xticks([])
        ax.set_xlabel(f"{len(names)} classes, from {names.iloc[0]} to {names.iloc[-1]}")
    ax.set_ylabel("change of accuracy (points)")
    ax.legend(loc="upper left")
    return figure


@in_style
def disagreement(counts: pd.DataFrame, *, title: str) -> Figure:
    """Figure 2 of the paper: what teacher (rows) and student (columns) predict where they disagree, mean counts.

    counts: the rows of `long_matrix`, one block per panel, all of the same test images; NDS and DS in one color scale,
    and DS less NDS. The diagonal is left out. Panels of the paper (`read_figures.beside_matrices`) stand below.
    """
    panels = counts["panel"].unique()
    matrices = {panel: as_matrix(counts[counts["panel"] == panel]) for panel in panels}
    pairs, images = [panels[i : i + 2] for i in range(0, len(panels), 2)], matrices[panels[0]].to_numpy().sum()
    columns = 3 if len(panels) > 1 else 1
    largest = max(off_diagonal(m).max() for m in matrices.values()) or 1.0
    room = 0.07 * max(map(len, _tick_names(matrices[panels[0]])))  # inches for the names of classes
    unwritten = len(matrices[panels[0]]) > FEW_CLASSES
    size = (3.5 * columns + room + 0.6, (4.3 + room) * len(pairs) + (1.4 if unwritten else 0.9))
    figure = new_figure(*size, title, caption="disagreement")
    axes = figure.subplots(len(pairs), columns, squeeze=False)
    changes = {tuple(pair): matrices[pair[1]] - matrices[pair[0]] for pair in pairs if len(pair) == 2}
    widest = max([abs(off_diagonal(change)).max() for change in changes.values()], default=1.0) or 1.0
    for line, pair in zip(axes, pairs, strict=True):
        for ax, panel in zip(line, pair, strict=False):
            image = disagreement_panel(ax, matrices[panel], largest=largest)
            ax.set_title(_how_many(panel, matrices[panel], images))
        for change in (changes[tuple(pair)] for _ in line[2:]):
            moved = disagreement_panel(line[2], change, largest=widest, signed=True)
            line[2].set_title(f"{pair[1].partition(',')[0]} − NDS:\n{_signed(off_diagonal(change).sum())} images")
        line[0].set_ylabel("teacher predicts")
        for ax in line[1:]:
            ax.tick_params(axis="y", labelleft=False)
    for ax in axes[:-1].flat:
        ax.set_xlabel("")
    if unwritten:
        for place, of in ((slice(2), image), *([(slice(2, 3), moved)] if changes else [])):
            bar = {"orientation": "horizontal", "shrink": 0.6, "aspect": 40, "ticks": MaxNLocator(integer=True)}
            figure.colorbar(of, ax=list(axes[:, place].flat), label="images, mean over seeds", **bar)
    return figure


def _how_many(panel: str, matrix: pd.DataFrame, images: float) -> str:
    """The title of a panel. The paper's means are printed without decimals, and look cut off."""
    apart = off_diagonal(matrix).sum()
    least = "at least " if matrix.isna().any(axis=None) else ""
    number = f"{least}{apart:,.0f} of {images:,.0f} images ({100 * apart / images:.1f} %)"
    return f"teacher and {panel}: they disagree on\n{number}"


def _signed(count: float) -> str:
    """'+3', '−3', '0'."""
    return f"{count:+z,.0f}".replace("-", "−") if round(count) else "0"


def disagreement_counts(predictions: Predictions, *, near: float) -> pd.DataFrame:
    """`class_bias.disagreement` with the teacher as rows: of NDS, and of DS at the temperature nearest to `near`."""
    t = min(predictions.temperatures, key=lambda found: abs(found - near))
    students = {"NDS": predictions.arm(model="nds"), f"DS, T = {t:g}": predictions.arm(model="ds", temperature=t)}
    teacher = predictions.arm(model="teacher")
    matrices = {name: class_bias.disagreement(teacher, arm) for name, arm in students.items()}
    panels = [long_matrix(found, predictions.class_names, panel=name) for name, found in matrices.items()]
    return pd.concat(panels, ignore_index=True)


def long_matrix(matrix: np.ndarray, class_names: Sequence[str], *, panel: str) -> pd.DataFrame:
    """A (C, C) disagreement matrix as rows: panel, teacher_index, student_index, teacher, student (names), count."""
    names, (rows, columns) = np.array(class_names, object), np.indices(matrix.shape).reshape(2, -1)
    found = {"teacher_index": rows, "student_index": columns, "teacher": names[rows], "student": names[columns]}
    return pd.DataFrame({"panel": panel, **found, "count": matrix.ravel()})


def as_matrix(counts: pd.DataFrame) -> pd.DataFrame:
    """One panel of `long_matrix` as a square table with class names."""
    matrix = counts.pivot(index="teacher_index", columns="student_index", values="count")
    names = counts.drop_duplicates("teacher_index").set_index("teacher_index")["teacher"]
    return matrix.set_axis(names[matrix.index], axis=0).set_axis(names[matrix.columns], axis=1)


def off_diagonal(matrix: pd.DataFrame) -> np.ndarray:
    """The entries that are not agreements."""
    values = matrix.to_numpy(float)
    return values[~np.eye(len(values), dtype=bool)]


def disagreement_panel(ax: Axes, matrix: pd.DataFrame, *, largest: float, signed: bool = False) -> Any:
    """One square table of `as_matrix` on one `ax`, colors up to the count `largest`; returns the image.

    signed: differences of counts, colors from -largest to largest.
    """
    values, names = matrix.to_numpy(float), _tick_names(matrix)
    shown = np.ma.masked_array(values, np.eye(len(values), dtype=bool))
    ax.patch.set(facecolor="#EFEFEF", edgecolor="#A0A0A0", hatch="////")  # shows through on the diagonal
    colors = style.DIFFERENCE_COLORS if signed else style.COUNT_COLORS
    image = ax.imshow(shown, cmap=colors, vmin=-largest if signed else 0, vmax=largest)
    step = max(1, len(names) // 25)
    long = max(map(len, names)) > 3 or step > 1
    ax.set_xticks(range(0, len(names), step), names[::step], rotation=90 if long else 0)
    ax.set_yticks(range(0, len(names), step), names[::step])
    ax.set_xlabel("student predicts")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    if len(names) <= FEW_CLASSES:
        written = np.where(shown.mask | (np.rint(values) == 0), np.nan, values)
        style.write_in_cells(ax, written, largest=largest, form="+.0f" if signed else ".0f")
    return image


def _tick_names(matrix: pd.DataFrame) -> list[str]:
    """The names of the classes, or their numbers where not all names can be shown."""
    return [str(name) for name in (matrix.index if len(matrix) <= 25 else range(len(matrix)))]


@in_style
def significant_counts(rows: pd.DataFrame, *, classes: int, title: str) -> Figure:
    """Figure 3 of the paper: #SC and #TC against T, and below them the accuracy of DS, NDS and teacher.

    rows: `class_bias.table`; classes: how many the data set has. The hatched band is what chance alone gives, 95 % of
    the time. Hollow markers: the paper's numbers, where the rows have them.
    """
    figure = new_figure(6.4, 5.6, title, caption="significant_counts")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    significant_counts_panel(above, rows, classes=classes)
    above.set_xlabel("")
    style.metric_panel(below, rows, "accuracy")
    below.set_ylabel("test accuracy (%)")
    style.legend_below(figure, above, below, ncols=2)
    return figure


def significant_counts_panel(ax: Axes, rows: pd.DataFrame, *, classes: int) -> None:
    """The counts of figure 3 on one `ax`; those of one T side by side, so that equal counts are both seen."""
    rows = rows[rows["model"] == "ds"]
    band = style.of(rows, "null_band")
    style.chance_band(ax, band["temperature"], band["low"], band["high"])
    for (metric, (count, model, name)), aside in zip(COUNTS.items(), (-4, 4), strict=True):
        found = style.of(rows, metric)
        moved = {"transform": offset_copy(ax.transData, ax.figure, x=aside, units="points")}
        drawn = look(model) | {"label": f"{count}: DS and {name}", "zorder": 3, "clip_on": False}
        ax.plot(found["temperature"], found["mean"], **drawn, **moved)
        paper_markers(ax, found, model, label=f"{count}, paper", **moved)
    shown = rows.loc[rows["unit"] == "classes", rows.columns.intersection(["mean", "high", "paper_mean"])]
    ax.set_ylim(0, 1.15 * max(1.0, shown.max(axis=None)))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel(f"significant classes (of {classes})")
    style.temperature_axis(ax, band["temperature"])
