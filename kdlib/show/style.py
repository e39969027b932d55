"""One look for all figures: names, colors, markers, lines, axes. The same look means the same thing everywhere.

Every picture says which study it is of, and whether that is a stand-in. No torch, no pyplot, no global state.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from PIL import Image
from scipy.spatial import KDTree

from kdlib.paper.stand_in import stand_in_reasons
from kdlib.studies import Study

STYLE = Path(__file__).with_name("figures.mplstyle")
CAPTIONS = yaml.safe_load(Path(__file__).with_name("captions.yaml").read_text(encoding="utf-8"))

NAMES = {"teacher": "teacher", "nds": "NDS", "ds": "DS"}

# Dark, medium and light, so that they stay distinct in grey; green and orange differ in lightness, not only in hue.
COLORS = {"teacher": "#1A1A1A", "nds": "#E08214", "ds": "#1B7837", "labels": "#2166AC", "chance": "#8C8C8C"}
COLORS |= {"contrast": "#762A83"}  # the second of two that stand side by side

MARKERS = {"teacher": "s", "nds": "D", "ds": "o"}

LINES = {"teacher": "--", "nds": "-.", "ds": "-", "labels": "-", "chance": ":"}

CROSS = {"s": 85, "marker": "x", "color": "#000000", "linewidth": 1.4}

COUNT_COLORS = "Purples"
DIFFERENCE_COLORS = "PuOr_r"  # violet below 0, orange above


in_style = matplotlib.style.context(STYLE, after_reset=True)  # a decorator: whatever the caller has set


class Picture(Figure):
    """A figure that notebooks show without pyplot, whose list of open figures is global state."""

    caption = ""

    def _repr_png_(self) -> bytes:
        return rendered(self, "png")

    def _ipython_display_(self) -> None:
        """The picture, and its caption below it."""
        from IPython.display import publish_display_data

        publish_display_data({"image/png": self._repr_png_(), "text/plain": repr(self)})
        if self.caption:
            publish_display_data({"text/markdown": self.caption, "text/plain": self.caption})


@in_style
def rendered(figure: Figure, kind: str) -> bytes:
    """The figure as the bytes of a 'png' or 'pdf' file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata={"CreationDate": None} if kind == "pdf" else None)
    if kind == "pdf":
        return buffer.getvalue()
    return few_colors(np.asarray(Image.open(buffer).convert("RGB")))


def few_colors(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 as a PNG of its 256 most frequent colors, which takes a third of the bytes.

    Areas keep their color; the others, at the edges of letters and lines, take the nearest. A picture of which they
    would be more than 5 %, as of photographs, keeps them all.
    """
    colors, place, counts = np.unique(pixels @ [1, 256, 65536], return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    picture = Image.fromarray(pixels)
    if counts[order[256:]].sum() <= 0.05 * counts.sum():
        colors = np.stack([colors % 256, colors // 256 % 256, colors // 65536], axis=1)
        kept = colors[order[:256]]
        nearest = KDTree(kept).query(colors)[1].astype(np.uint8)
        picture = Image.fromarray(nearest[place].reshape(pixels.shape[:2]))
        picture.putpalette(kept.astype(np.uint8).tobytes())
    picture.save(buffer := io.BytesIO(), "png")
    return buffer.getvalue()


def heading(study: Study, *more: str) -> str:
    """The study's title (one's own study has its name ahead), and below whether it is a stand-in, and `more`."""
    title = f"{study.name}: {study.title}" if study.own else study.title
    second = [*(["stand-in, not the paper's study"] if stand_in_reasons(study) and not study.own else []), *more]
    return "\n".join(filter(None, [title, "; ".join(second)]))


def seeds(runs: pd.DataFrame) -> str:
    """'5 seeds': how many each arm of students has; fresh teachers are left out."""
    students = runs[runs["model"] != "teacher"]
    counts = (students if len(students) else runs).groupby(["model", "temperature"], dropna=False)["seed"].nunique()
    return f"{counts.min()} seeds" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()} seeds"


def look(model: str) -> dict[str, Any]:
    """Color, line and marker of a model, as `ax.plot` takes them."""
    return {"color": COLORS[model], "linestyle": LINES[model], "marker": MARKERS[model]}


def in_percent(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `arms.tidy` as readers see them: shares times 100, every other unit as it is."""
    numbers = [name for name in ("mean", "sd", "low", "high", "paper_mean") if name in rows]
    return rows.assign(**rows[numbers].mul(np.where(rows["unit"] == "share", 100, 1), axis=0))


def of(rows: pd.DataFrame, metric: str, model: str = "ds") -> pd.DataFrame:
    """The rows of one metric and model."""
    return rows[(rows["metric"] == metric) & (rows["model"] == model)]


def metric_panel(ax: Axes, rows: pd.DataFrame, metric: str) -> None:
    """One metric of `arms.tidy` against T on one `ax`: DS with 95 % intervals, teacher and NDS as lines."""
    rows = in_percent(rows)
    reference_lines(ax, rows, metric)
    students = of(rows, metric)
    with_intervals(ax, students, **look("ds"), zorder=3, label=NAMES["ds"])
    paper_markers(ax, students, "ds", label="DS, paper")
    temperature_axis(ax, students["temperature"])


def with_intervals(ax: Axes, rows: pd.DataFrame, **drawn: Any) -> None:
    """Means of one metric against T, with their intervals."""
    mean, low, high = rows["mean"], rows["low"], rows["high"]
    ax.errorbar(rows["temperature"], mean, yerr=[(mean - low).clip(lower=0), (high - mean).clip(lower=0)], **drawn)


def reference_lines(ax: Axes, rows: pd.DataFrame, metric: str) -> None:
    """Teacher and NDS as horizontal lines. Their intervals, cut at 0, stand right of the panel and cover nothing."""
    for model, right in (("teacher", 1.012), ("nds", 1.032)):
        for arm in of(rows, metric, model).to_dict("records"):
            mean, low, high = (np.maximum(0, arm[name]) for name in ("mean", "low", "high"))
            ax.axhline(mean, color=COLORS[model], linestyle=LINES[model], zorder=2)
            outside = {"transform": ax.get_yaxis_transform(), "clip_on": False}
            yerr = [[mean - low], [high - mean]]
            ax.errorbar([right], [mean], yerr=yerr, **look(model), **outside, markersize=4, label=NAMES[model])


def chance_band(ax: Axes, t: pd.Series, low: pd.Series, high: pd.Series, *, label: str = "chance alone (95 %)") -> None:
    """What is there without any effect: hatched, so that it reads in grey."""
    looks = {"facecolor": "#E6E6E6", "edgecolor": "#C9C9C9", "hatch": "////", "linewidth": 0}
    ax.fill_between(t, low, high, **looks, zorder=1, label=label)


def legend_below(figure: Figure, *axes: Axes, ncols: int, first: Sequence[str] = ()) -> None:
    """One legend for several panels, below them; a label that several have stands once, those of `first` ahead."""
    handles = {label: h for ax in axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    labels = sorted(handles, key=lambda label: first.index(label) if label in first else len(first))
    figure.legend([handles[label] for label in labels], labels, loc="outside lower center", ncols=ncols)


def write_in_cells(ax: Axes, values: np.ndarray, *, largest: float, form: str) -> None:
    """Every number that is not NaN in its cell of an image, white where the cell is dark."""
    for i, j in np.argwhere(np.isfinite(values)):
        color = "white" if abs(values[i, j]) > 0.55 * largest else "black"
        ax.text(j, i, format(values[i, j], form).replace("-", "−"), ha="center", va="center", fontsize=7, color=color)


def greens(n: int) -> list[tuple[float, ...]]:
    """n colors from light to dark green: the temperatures, in order."""
    return [matplotlib.colormaps["Greens"](x) for x in np.linspace(0.22, 1.0, n)]


def new_figure(width: float, height: float, title: str, *, caption: str = "", **said: object) -> Figure:
    """An empty figure of this size in inches, its title broken to fit.

    caption: the name of a text in captions.yaml, which a notebook shows below the figure. said: what it leaves open.
    """
    figure = Picture(figsize=(float(width), float(height)), layout="constrained")
    figure.caption = CAPTIONS[caption].format(intervals=CAPTIONS["intervals"], **said) if caption else ""
    letters = int(width * 72 / 5.6)  # that fit in a line at the style's size of 10 points
    figure.suptitle("\n".join(textwrap.fill(line, letters) for line in title.split("\n")), x=0.01, ha="left")
    return figure


def temperature_axis(ax: Axes, temperatures: pd.Series) -> None:
    """Linear, or logarithmic where temperatures span more than a factor of ten; a tick at every temperature."""
    values = sorted(set(temperatures))
    if values[-1] / values[0] > 10:
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
        values = [v for i, v in enumerate(values) if i == 0 or v / values[i - 1] > 1.15]
    ax.set_xticks(values, [f"{v:g}" for v in values])
    ax.set_xlabel("temperature")


def has_paper(rows: pd.DataFrame) -> bool:
    """Whether some row has a number of the paper's beside it."""
    return "paper_mean" in rows and rows["paper_mean"].notna().any()


def paper_markers(ax: Axes, rows: pd.DataFrame, model: str, *, label: str, **drawn: Any) -> None:
    """Hollow markers for the paper's numbers of one metric; nothing where there is none."""
    if has_paper(rows):
        hollow = look(model) | {"linestyle": "none", "markerfacecolor": "none", "markersize": 9}
        ax.plot(rows["temperature"], rows["paper_mean"], **hollow, label=label, clip_on=False, **drawn)
