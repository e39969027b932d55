"""Figures 1, 2, 3 and 8 of the paper: classes. A panel draws on the `ax` it is given; a figure only lays panels out.

Every picture says which study it is of, and whether that is a stand-in. No torch, no pyplot, no global state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kdlib.catalogue import DATASETS
from kdlib.measure import class_bias
from kdlib.predictions import Predictions
from kdlib.show import style
from kdlib.show.style import COLORS, CROSS, greens, in_style, look, new_figure, paper_markers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COUNTS = {"n_significant_sc": ("#SC", "nds", "NDS"), "n_significant_tc": ("#TC", "teacher", "teacher")}
HOLLOW = {"color": "none", "edgecolor": COLORS["labels"], "linewidth": 0.9, "zorder": 4}
FEW_CLASSES = 12  # up to here a matrix shows its numbers


@in_style
def class_accuracy(changes: pd.DataFrame, *, title: str) -> Figure:
    """Figure 1 of the paper: accuracy of each class, one dot per temperature, a cross where NDS and DS differ.

    changes: the rows of class_bias.significant_classes(nds, ds) at every temperature, with a column temperature;
    used are class_index, class_name, temperature, mean_a, sd_a (NDS), mean_b (DS), significant.
    Hollow: the paper's dots and crosses, where the rows have them (`read_figures.beside_classes`).
    """
    room = 0.9 if "paper_accuracy" in changes else 0.62  # inches for the dots of a class
    figure = new_figure(np.clip(room * changes["class_index"].nunique() + 2, 6, 20), 3.6, title)
    class_accuracy_panel(figure.subplots(), changes)
    figure.legend(loc="outside right upper")
    return figure


def class_accuracy_panel(ax: Axes, changes: pd.DataFrame) -> None:
    """Figure 1 on one `ax`; changes as in `class_accuracy`."""
    names = changes.drop_duplicates("class_index").sort_values("class_index")
    temperatures = sorted(changes["temperature"].unique())
    _nds_ticks(ax, names)
    offsets = np.linspace(-0.3, 0.3, len(temperatures)) if len(temperatures) > 1 else [0.0]
    for t, offset, color in zip(temperatures, offsets, greens(len(temperatures)), strict=True):
        rows = changes[changes["temperature"] == t]
        dots = {"s": 26, "color": color, "edgecolor": "#3A3A3A", "linewidth": 0.4, "zorder": 3}
        ax.scatter(rows["class_index"] + offset, 100 * rows["mean_b"], **dots, label=f"DS, T = {t:g}")
        hit = rows[rows["significant"]]  # the cross lies below the dot, whose green stays visible
        ax.scatter(hit["class_index"] + offset, 100 * hit["mean_b"], **CROSS, zorder=2.5)
    ax.scatter([], [], **CROSS, label="DS differs from\nNDS (p ≤ 0.05)")
    if "paper_accuracy" in changes:
        _paper_dots(ax, changes, dict(zip(temperatures, offsets, strict=True)))
    _class_axis(ax, names["class_name"].tolist())
    ax.set_ylabel("test accuracy of the class (%)")


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
    figure = new_figure(4.6 * len(panels), 3.7, title)
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
def disagreement(counts: pd.DataFrame, *, title: str) -> Figure:
    """Figure 2 of the paper: what teacher (rows) and student (columns) predict where they disagree, mean counts.

    counts: the rows of `long_matrix`, one block per panel, all of the same test images and in one color scale; the
    diagonal is left out. Panels of the paper (`read_figures.beside_matrices`) have no diagonal, and whole numbers.
    """
    panels = counts["panel"].unique()
    matrices = {panel: as_matrix(counts[counts["panel"] == panel]) for panel in panels}
    columns, images = 2 - len(panels) % 2, matrices[panels[0]].to_numpy().sum()
    lines = len(panels) // columns
    largest = max(off_diagonal(m).max() for m in matrices.values()) or 1.0
    room = 0.07 * max(map(len, _tick_names(next(iter(matrices.values())))))  # inches for the names of classes
    figure = new_figure((4.2 + room) * columns + 0.8, (4.4 + room) * lines + 0.2, title)
    axes = figure.subplots(lines, columns, squeeze=False)
    for ax, (panel, matrix) in zip(axes.flat, matrices.items(), strict=True):
        image = disagreement_panel(ax, matrix, largest=largest)
        apart = off_diagonal(matrix).sum()
        share = f"{apart / images:.1%}".replace("%", " %")
        # The paper's means are printed without decimals, and look cut off.
        number = f"at least {apart:.0f}" if matrix.isna().any(axis=None) else f"{apart:.1f}"
        ax.set_title(f"teacher and {panel}: they disagree on\n{number} of {images:.0f} images ({share})")
    for ax in axes[:, 0]:
        ax.set_ylabel("teacher predicts")
    for ax in axes[:-1].flat:
        ax.set_xlabel("")
    figure.colorbar(image, ax=list(axes.flat), label="images, mean over seeds", shrink=0.8, ticks=style.whole_ticks())
    return figure


def disagreement_counts(predictions: Predictions, *, near: float) -> pd.DataFrame:
    """`class_bias.disagreement` with the teacher as rows: of NDS, and of DS at the temperature nearest to `near`."""
    t = min(predictions.temperatures, key=lambda found: abs(found - near))
    students = {"NDS": predictions.arm(model="nds"), f"DS, T = {t:g}": predictions.arm(model="ds", temperature=t)}
    teacher = predictions.arm(model="teacher")
    panels = (
        long_matrix(class_bias.disagreement(teacher, arm), predictions.class_names, panel=name)
        for name, arm in students.items()
    )
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


def disagreement_panel(ax: Axes, matrix: pd.DataFrame, *, largest: float) -> Any:
    """One square table of `as_matrix` on one `ax`, colors up to the count `largest`; returns the image."""
    values, names = matrix.to_numpy(float), _tick_names(matrix)
    shown = np.ma.masked_array(values, np.eye(len(values), dtype=bool))
    ax.patch.set(facecolor="#EFEFEF", edgecolor="#A0A0A0", hatch="////")  # shows through on the diagonal
    image = ax.imshow(shown, cmap=style.COUNT_COLORS, vmin=0, vmax=largest)
    step = max(1, len(names) // 25)
    long = max(map(len, names)) > 3 or step > 1
    ax.set_xticks(range(0, len(names), step), names[::step], rotation=90 if long else 0)
    ax.set_yticks(range(0, len(names), step), names[::step])
    ax.set_xlabel("student predicts")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    if len(names) <= FEW_CLASSES:
        written = np.where(shown.mask | (values == 0), np.nan, values)
        style.write_in_cells(ax, written, largest=largest, form=".0f" if matrix.isna().any(axis=None) else ".1f")
    return image


def _tick_names(matrix: pd.DataFrame) -> list[str]:
    """The names of the classes, or their numbers where not all names can be shown."""
    return [str(name) for name in (matrix.index if len(matrix) <= 25 else range(len(matrix)))]


@in_style
def significant_counts(rows: pd.DataFrame, *, classes: int, title: str) -> Figure:
    """Figure 3 of the paper: T against #SC and #TC (left) and the students' accuracy with its sd (right).

    rows: `class_bias.table`; classes: how many the data set has. The grey band is what chance alone gives, 95 % of the
    time. Hollow markers: the paper's numbers, where the rows have them.
    """
    figure = new_figure(6.4, 3.9, title)
    significant_counts_panel(figure.subplots(), rows, classes=classes)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def significant_counts_panel(left: Axes, rows: pd.DataFrame, *, classes: int) -> Axes:
    """Figure 3 on one ax, which gets a second axis at its right for the accuracy; returns that."""
    rows, right = style.in_percent(rows[rows["model"] == "ds"]), left.twinx()
    accuracy, band = style.of(rows, "accuracy"), style.of(rows, "null_band")
    t, mean, sd = accuracy["temperature"], accuracy["mean"], accuracy["sd"]
    style.chance_band(left, t, band["low"], band["high"])
    counts = {metric: style.of(rows, metric) for metric in COUNTS}
    for metric, (count, model, name) in COUNTS.items():
        drawn = look(model) | {"label": f"{count}: DS and {name}", "zorder": 3, "clip_on": False}
        left.plot(t, counts[metric]["mean"], **drawn)
    right.plot(t, mean, **look("ds"), label="accuracy of DS")
    right.fill_between(t, mean - sd, mean + sd, color=COLORS["ds"], alpha=0.18, linewidth=0, label="± 1 sd")
    for metric, (count, model, _) in COUNTS.items():
        paper_markers(left, counts[metric], model, label=f"{count}, paper")
    paper_markers(right, accuracy, "ds", label="accuracy, paper")
    shown = rows.loc[rows["unit"] == "classes", rows.columns.intersection(["mean", "high", "paper_mean"])]
    left.set_ylim(0, 1.15 * max(1.0, shown.max(axis=None)))
    left.yaxis.set_major_locator(style.whole_ticks())
    left.set_ylabel(f"significant classes (of {classes})")
    right.set_ylabel("test accuracy (%)", color=COLORS["ds"])
    right.tick_params(axis="y", colors=COLORS["ds"])
    right.grid(False)
    right.margins(y=0.25)
    style.temperature_axis(left, t)
    return right
