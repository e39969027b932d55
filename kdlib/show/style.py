"""One look for all figures: names, colors, markers, lines, axes. The same look means the same thing everywhere.

Every picture says which study it is of, and whether that is a stand-in. No torch, no pyplot, no global state.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kdlib.paper.stand_in import stand_in_reasons
from kdlib.studies import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator


STYLE = Path(__file__).with_name("figures.mplstyle")

NAMES = {"teacher": "teacher", "nds": "NDS", "ds": "DS"}

# Dark, medium and light, so that they stay distinct in grey; green and orange differ in lightness, not only in hue.
COLORS = {"teacher": "#1A1A1A", "nds": "#E08214", "ds": "#1B7837", "labels": "#2166AC", "chance": "#8C8C8C"}

MARKERS = {"teacher": "s", "nds": "D", "ds": "o"}

LINES = {"teacher": "--", "nds": "-.", "ds": "-", "labels": "-", "chance": ":"}

CROSS = {"s": 85, "marker": "x", "color": "#000000", "linewidth": 1.4}

CHANCE = {"facecolor": "#E6E6E6", "edgecolor": "#C9C9C9", "hatch": "////", "linewidth": 0}  # hatched: read in grey

COUNTS = "Purples"


def in_style(draw: Callable[..., Figure]) -> Callable[..., Figure]:
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


def groups_by(sensitive: str) -> str:
    """A sensitive feature in words: 'gender, majority' for the groups that most annotators name."""
    return sensitive.replace("_majority", ", majority")


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


def paper_markers(ax: Axes, arms: pd.DataFrame, column: str, model: str, *, label: str, scale: float = 1) -> None:
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
