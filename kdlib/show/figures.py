"""From a plain table to a matplotlib figure, and from either to files: picture, data as CSV, what it shows as JSON.

Every picture says which study it is of, and whether that is a stand-in. The same color, marker and line mean the same
thing in all of them. Tables are in tables.py. No torch, no pyplot, no global state.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kdlib import __version__, store
from kdlib.errors import InvalidInput, StoreError
from kdlib.paper.numbers import stand_in_reasons
from kdlib.predictions import Predictions
from kdlib.studies import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
    from pandas.io.formats.style import Styler

STYLE = Path(__file__).with_name("figures.mplstyle")
NAMES = {"teacher": "teacher", "nds": "NDS", "ds": "DS"}
# Dark, middle and light enough to be told apart in grey; green and orange differ in lightness, not only in hue.
COLORS = {"teacher": "#1A1A1A", "nds": "#E08214", "ds": "#1B7837", "labels": "#2166AC", "chance": "#8C8C8C"}
MARKERS = {"teacher": "s", "nds": "D", "ds": "o"}
LINES = {"teacher": "--", "nds": "-.", "ds": "-", "labels": "-", "chance": ":"}
CROSS = {"s": 85, "marker": "x", "color": "#000000", "linewidth": 1.4}
CHANCE = {"facecolor": "#E6E6E6", "edgecolor": "#C9C9C9", "hatch": "////", "linewidth": 0}  # hatched: read in grey
COUNTS = "Purples"
FEW_CLASSES = 12  # up to here a matrix shows its numbers


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw with figures.mplstyle, whatever the caller has set."""

    @wraps(draw)
    def drawn(*args: Any, **options: Any) -> Figure:
        import matplotlib.style

        with matplotlib.style.context(STYLE, after_reset=True):
            return draw(*args, **options)

    return drawn


@lru_cache(maxsize=1)
def _picture() -> type[Figure]:
    from matplotlib.figure import Figure

    class Picture(Figure):
        """A figure that notebooks show without pyplot, whose list of open figures is global state."""

        def _repr_png_(self) -> bytes:
            return rendered(self, "png")

    return Picture


def rendered(figure: Figure, kind: str) -> bytes:
    """The figure as the bytes of a 'png' or 'pdf' file; the same figure gives the same bytes."""
    import matplotlib.style

    buffer = io.BytesIO()
    with matplotlib.style.context(STYLE, after_reset=True):
        figure.savefig(buffer, format=kind, metadata={"CreationDate": None} if kind == "pdf" else None)
    return buffer.getvalue()


def heading(study: Study) -> str:
    """The study's title; a stand-in says so in a second line."""
    return study.title + ("\nstand-in, not the paper's study" if stand_in_reasons(study) else "")


def about(study: Study, predictions: Predictions, *, profile: str, shows: str) -> dict[str, object]:
    """What a saved picture is of: profile, study, reasons of a stand-in, seeds, runs, and `shows` in words."""
    return {
        "profile": profile,
        "study": study.name,
        "title": study.title,
        "stand_in": stand_in_reasons(study),
        "seeds": int(predictions.runs["seed"].nunique()),
        "runs": len(predictions.runs),
        "absent": list(predictions.absent),
        "test_samples": len(predictions.labels),
        "shows": shows,
        "kdlib": __version__,
    }


# --------------------------------------------------------------------------------------------------------------- saving


def save(
    shown: Figure | Styler, data: pd.DataFrame, *, name: str, out_dir: str | Path, about: Mapping[str, object]
) -> list[Path]:
    """Write name.png and .pdf (a figure) or .html and .tex (a table), with name.csv (`data`) and name.json (`about`).

    data: the numbers in the picture, shares as fractions. Writing the same thing twice gives the same bytes.
    Returns the paths. Raises StoreError where the folder cannot be written.
    """
    from kdlib.show import tables

    is_figure = hasattr(shown, "savefig")
    contents = {kind: rendered(shown, kind) for kind in ("png", "pdf")} if is_figure else tables.rendered(shown)
    contents["csv"] = _harmless(data).to_csv(index=False, lineterminator="\n").encode()
    contents["json"] = store.to_json(dict(about)) + b"\n"
    paths = [Path(out_dir) / f"{name}.{kind}" for kind in contents]
    _make_folder(Path(out_dir))
    for path, content in zip(paths, contents.values(), strict=True):
        store.replace_file(path, content)
    return paths


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the folder {folder}: {error}. Choose another out_dir.") from error


def _harmless(data: pd.DataFrame) -> pd.DataFrame:
    """Text that a spreadsheet would run as a formula gets a leading apostrophe: names of classes can be anyone's."""

    def plain(value: object) -> object:
        return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value

    return data.map(plain)


# -------------------------------------------------------------------------------------------------------------- figures


@styled
def class_accuracy(changes: pd.DataFrame, *, title: str) -> Figure:
    """Figure 1 of the paper: accuracy of each class, a dot a temperature, a cross where NDS and DS differ.

    changes: the rows of class_bias.significant_classes(nds, ds) at every temperature, with a column temperature;
    used are class_index, class_name, temperature, mean_a, sd_a (NDS), mean_b (DS), significant.
    """
    names = changes.drop_duplicates("class_index").sort_values("class_index")
    temperatures = sorted(changes["temperature"].unique())
    figure = blank(np.clip(0.62 * len(names) + 2, 6, 20), 3.6, title)
    ax = figure.subplots()
    _nds_ticks(ax, names)
    offsets = np.linspace(-0.3, 0.3, len(temperatures)) if len(temperatures) > 1 else [0.0]
    for t, offset, color in zip(temperatures, offsets, greens(len(temperatures)), strict=True):
        rows = changes[changes["temperature"] == t]
        ax.scatter(
            rows["class_index"] + offset,
            100 * rows["mean_b"],
            s=26,
            color=color,
            edgecolor="#3A3A3A",
            linewidth=0.4,
            label=f"DS, T = {t:g}",
            zorder=3,
        )
        hit = rows[rows["significant"]]  # the cross lies below the dot, whose green stays visible
        ax.scatter(hit["class_index"] + offset, 100 * hit["mean_b"], **CROSS, zorder=2.5)
    ax.scatter([], [], **CROSS, label="DS differs from\nNDS (p ≤ 0.05)")
    _class_axis(ax, names["class_name"].tolist())
    ax.set_ylabel("test accuracy of the class (%)")
    figure.legend(loc="outside right upper")
    return figure


def _nds_ticks(ax: Axes, names: pd.DataFrame) -> None:
    center, mean, sd = names["class_index"].to_numpy(), 100 * names["mean_a"], 100 * names["sd_a"]
    ax.hlines(mean, center - 0.42, center + 0.42, color=COLORS["nds"], linewidth=2, label="NDS mean", zorder=2)
    for x, low, high in zip(center, mean - sd, mean + sd, strict=True):
        ax.fill_between(
            [x - 0.42, x + 0.42],
            low,
            high,
            color=COLORS["nds"],
            alpha=0.25,
            linewidth=0,
            zorder=1,
            label="NDS ± 1 sd" if x == center[0] else None,
        )


def _class_axis(ax: Axes, names: Sequence[str]) -> None:
    step = max(1, len(names) // 50)
    long = max(map(len, names)) > 6 or len(names) > 20
    ax.set_xticks(range(0, len(names), step), names[::step], rotation=90 if long else 0)
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.set_xlabel("class")


@styled
def disagreement(counts: pd.DataFrame, *, title: str) -> Figure:
    """Figure 2 of the paper: what teacher (rows) and student (columns) predict where they disagree, mean counts.

    counts: the rows of `long_matrix`, one block a panel; all panels have one color scale, the diagonal is left out.
    """
    panels = counts["panel"].unique()
    matrices = {panel: as_matrix(counts[counts["panel"] == panel]) for panel in panels}
    largest = max(off_diagonal(m).max() for m in matrices.values()) or 1.0
    room = 0.07 * max(map(len, _tick_names(next(iter(matrices.values())))))  # inches for the names of classes
    figure = blank((4.2 + room) * len(panels) + 0.8, 4.6 + room, title)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (panel, matrix) in zip(axes, matrices.items(), strict=True):
        image = _heat(ax, matrix, largest)
        apart = off_diagonal(matrix).sum()
        ax.set_title(
            f"teacher and {panel}: they disagree on\n{apart:.1f} of {matrix.to_numpy().sum():.0f} images"
            f" ({apart / matrix.to_numpy().sum():.1%})".replace("%", " %")
        )
    axes[0].set_ylabel("teacher predicts")
    figure.colorbar(image, ax=list(axes), label="images, mean over seeds", shrink=0.8, ticks=whole())
    return figure


def long_matrix(matrix: np.ndarray, class_names: Sequence[str], *, panel: str) -> pd.DataFrame:
    """A (C, C) disagreement matrix as rows: panel, teacher_index, student_index, teacher, student (names), count."""
    names, (rows, columns) = np.array(class_names, object), np.indices(matrix.shape).reshape(2, -1)
    return pd.DataFrame(
        {
            "panel": panel,
            "teacher_index": rows,
            "student_index": columns,
            "teacher": names[rows],
            "student": names[columns],
            "count": matrix.ravel(),
        }
    )


def as_matrix(counts: pd.DataFrame) -> pd.DataFrame:
    """One panel of `long_matrix` as a square table with class names."""
    matrix = counts.pivot(index="teacher_index", columns="student_index", values="count")
    names = counts.drop_duplicates("teacher_index").set_index("teacher_index")["teacher"]
    return matrix.set_axis(names[matrix.index], axis=0).set_axis(names[matrix.columns], axis=1)


def off_diagonal(matrix: pd.DataFrame) -> np.ndarray:
    """The entries that are not agreements."""
    values = matrix.to_numpy(float)
    return values[~np.eye(len(values), dtype=bool)]


def _heat(ax: Axes, matrix: pd.DataFrame, largest: float) -> Any:
    values, names = matrix.to_numpy(float), _tick_names(matrix)
    shown = np.ma.masked_array(values, np.eye(len(values), dtype=bool))
    ax.patch.set(facecolor="#EFEFEF", edgecolor="#A0A0A0", hatch="////")  # shows through on the diagonal
    image = ax.imshow(shown, cmap=COUNTS, vmin=0, vmax=largest)
    step = max(1, len(names) // 25)
    long = max(map(len, names)) > 3 or step > 1
    ax.set_xticks(range(0, len(names), step), names[::step], rotation=90 if long else 0)
    ax.set_yticks(range(0, len(names), step), names[::step])
    ax.set_xlabel("student predicts")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    if len(names) <= FEW_CLASSES:
        _numbers(ax, values, largest)
    return image


def _tick_names(matrix: pd.DataFrame) -> list[str]:
    """The names of the classes, or their numbers where not all names can be shown."""
    return [str(name) for name in (matrix.index if len(matrix) <= 25 else range(len(matrix)))]


def _numbers(ax: Axes, values: np.ndarray, largest: float) -> None:
    for i, j in np.argwhere(values > 0):
        if i != j:
            color = "white" if values[i, j] > 0.55 * largest else "black"
            ax.text(j, i, f"{values[i, j]:.1f}", ha="center", va="center", fontsize=7, color=color)


@styled
def significant_counts(counts: pd.DataFrame, *, title: str) -> Figure:
    """Figure 3 of the paper: T against #SC and #TC (left) and the students' accuracy with its sd (right).

    counts: class_bias.counts(predictions). The grey band is what chance alone gives, 95 % of the time. Hollow markers:
    the paper's numbers, where numbers.beside_arms could add them.
    """
    figure = blank(6.4, 3.9, title)
    left = figure.subplots()
    right = left.twinx()
    t, accuracy, sd = counts["temperature"], 100 * counts["accuracy_mean"], 100 * counts["accuracy_sd"]
    left.fill_between(t, counts["null_low"], counts["null_high"], **CHANCE, label="chance alone (95 %)", zorder=1)
    for column, other, label in (
        ("n_significant_sc", "nds", "#SC: DS and NDS"),
        ("n_significant_tc", "teacher", "#TC: DS and teacher"),
    ):
        left.plot(
            t,
            counts[column].astype(float),
            color=COLORS[other],
            linestyle=LINES[other],
            marker=MARKERS[other],
            label=label,
            zorder=3,
            clip_on=False,
        )
    right.plot(t, accuracy, color=COLORS["ds"], linestyle=LINES["ds"], marker=MARKERS["ds"], label="accuracy of DS")
    right.fill_between(t, accuracy - sd, accuracy + sd, color=COLORS["ds"], alpha=0.18, linewidth=0, label="± 1 sd")
    _reported(left, counts, "n_significant_sc", "nds", label="#SC, paper")
    _reported(left, counts, "n_significant_tc", "teacher", label="#TC, paper")
    _reported(right, counts, "accuracy_mean", "ds", label="accuracy, paper", scale=100)
    _count_axis(left, counts)
    right.set_ylabel("test accuracy (%)", color=COLORS["ds"])
    right.tick_params(axis="y", colors=COLORS["ds"])
    right.grid(False)
    right.margins(y=0.25)
    temperature_axis(left, t)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _reported(ax: Axes, arms: pd.DataFrame, column: str, model: str, *, label: str, scale: float = 1) -> None:
    """Hollow markers for the paper's numbers, in a column 'paper_...'; nothing where there is none."""
    values = arms.get(f"paper_{column}", pd.Series(dtype=float))
    if values.notna().any():
        ax.plot(
            arms["temperature"],
            scale * values,
            color=COLORS[model],
            linestyle="none",
            marker=MARKERS[model],
            markerfacecolor="none",
            markersize=9,
            label=label,
            clip_on=False,
        )


def _count_axis(ax: Axes, counts: pd.DataFrame) -> None:
    columns = ["n_significant_sc", "n_significant_tc", "null_high"]
    columns += [name for name in ("paper_n_significant_sc", "paper_n_significant_tc") if name in counts]
    ax.set_ylim(0, 1.15 * max(1.0, counts[columns].astype(float).max(axis=None)))
    ax.yaxis.set_major_locator(whole())
    ax.set_ylabel(f"significant classes (of {counts['classes'].iloc[0]})")


@styled
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
    _reported(ax, students, measure, "ds", label="DS, paper", scale=100)
    temperature_axis(ax, t)
    ax.set_xlabel("")


def level(ax: Axes, model: str, mean: float, low: float, high: float) -> None:
    """A horizontal line, its interval just right of the panel, where it covers nothing."""
    ax.axhline(mean, color=COLORS[model], linestyle=LINES[model], zorder=2)
    at = 1.012 if model == "teacher" else 1.032
    ax.errorbar(
        [at],
        [mean],
        yerr=[[mean - low], [high - mean]],
        transform=ax.get_yaxis_transform(),
        clip_on=False,
        color=COLORS[model],
        linestyle=LINES[model],
        marker=MARKERS[model],
        markersize=4,
        label=NAMES[model],
    )


def _around(students: pd.DataFrame, measure: str) -> np.ndarray:
    """(2, n) distances of the interval's ends from the mean, in percent."""
    mean, low, high = (students[name] for name in (measure, f"{measure}_low", f"{measure}_high"))
    return 100 * np.stack([mean - low, high - mean])


@styled
def image_grid(images: np.ndarray, cells: pd.DataFrame, *, title: str) -> Figure:
    """Figure 7 of the paper: example images, one row a feature, its values side by side.

    images (N, 3, H, W) uint8; cells, N rows: feature (the row), value (written below the image).
    """
    if len(images) != len(cells):
        raise InvalidInput(f"{len(images)} images for {len(cells)} cells; each cell needs one.")
    rows = cells.groupby("feature", sort=False).indices
    figure = blank(1.05 * max(map(len, rows.values())) + 0.6, 1.25 * len(rows) + 0.5, title)
    axes = figure.subplots(len(rows), max(map(len, rows.values())), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for line, (feature, places) in zip(axes, rows.items(), strict=True):
        for ax, place in zip(line, places, strict=False):
            ax.imshow(np.moveaxis(images[place], 0, -1))
            ax.set_title(cells["value"].iloc[place], loc="center", y=-0.26, fontsize=8)
        line[0].text(-0.12, 0.5, feature, transform=line[0].transAxes, rotation=90, va="center", ha="right", fontsize=9)
    return figure


@styled
def softened(probabilities: pd.DataFrame, *, title: str) -> Figure:
    """The same logits at several temperatures: a panel a temperature, a bar a class.

    probabilities: class_name, temperature, probability.
    """
    temperatures = sorted(probabilities["temperature"].unique())
    figure = blank(2.1 * len(temperatures) + 0.6, 2.6, title)
    axes = figure.subplots(1, len(temperatures), sharey=True, squeeze=False)[0]
    for ax, t, color in zip(axes, temperatures, greens(len(temperatures)), strict=True):
        rows = probabilities[probabilities["temperature"] == t]
        bars = ax.bar(rows["class_name"], rows["probability"], color=color, edgecolor="#3A3A3A", linewidth=0.5)
        ax.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
        ax.set_title(f"T = {t:g}")
    axes[0].set_ylim(0, 1.08)
    axes[0].set_ylabel("probability")
    return figure


# ---------------------------------------------------------------------------------------------------------------- parts


def greens(n: int) -> list[tuple[float, ...]]:
    """n colors from light to dark green: the temperatures, in order."""
    import matplotlib

    return [matplotlib.colormaps["Greens"](x) for x in np.linspace(0.22, 1.0, n)]


def blank(width: float, height: float, title: str) -> Figure:
    """An empty figure of this size in inches, its title broken to fit."""
    figure = _picture()(figsize=(float(width), float(height)), layout="constrained")
    figure.suptitle(_fitted(title, width), x=0.01, ha="left")
    return figure


def _fitted(title: str, width: float) -> str:
    """The title with its lines broken so that they fit `width` inches at the style's size of 10 points."""
    return "\n".join(textwrap.fill(line, int(width * 72 / 5.6)) for line in title.split("\n"))


def whole() -> MaxNLocator:
    """Ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True)


def temperature_axis(ax: Axes, temperatures: pd.Series) -> None:
    """Linear, or logarithmic where temperatures span more than a factor of ten; a tick at every temperature."""
    from matplotlib.ticker import NullLocator

    values = sorted(set(temperatures))
    if values[-1] / values[0] > 10:
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
        values = [v for i, v in enumerate(values) if i == 0 or v / values[i - 1] > 1.15]
    ax.set_xticks(values, [f"{v:g}" for v in values])
    ax.set_xlabel("temperature")
