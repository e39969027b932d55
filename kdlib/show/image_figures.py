"""Figure 7 of the paper, example images, and what a temperature does to one output. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdlib.errors import InvalidInput
from kdlib.predictions import softmax
from kdlib.show.style import greens, in_style, new_figure


@in_style
def image_grid(images: np.ndarray, cells: pd.DataFrame, *, title: str) -> Figure:
    """Figure 7 of the paper: example images, one row per feature, its values side by side.

    images (N, 3, H, W) uint8; cells, N rows: feature (the row), value (written below the image).
    """
    if len(images) != len(cells):
        raise InvalidInput(f"{len(images)} images for {len(cells)} cells; each cell needs one.")
    rows = cells.groupby("feature", sort=False).indices
    figure = new_figure(1.05 * max(map(len, rows.values())) + 0.6, 1.25 * len(rows) + 0.5, title, caption="image_grid")
    axes = figure.subplots(len(rows), max(map(len, rows.values())), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for line, (feature, places) in zip(axes, rows.items(), strict=True):
        for ax, place in zip(line, places, strict=False):
            ax.imshow(np.moveaxis(images[place], 0, -1))
            ax.set_title(cells["value"].iloc[place], loc="center", y=-0.26, fontsize=8)
        line[0].text(-0.12, 0.5, feature, transform=line[0].transAxes, rotation=90, va="center", ha="right", fontsize=9)
    return figure


def softening(probabilities: Mapping[str, float], *, temperatures: Iterable[float]) -> pd.DataFrame:
    """What temperatures make of an output, {class: probability at T = 1}: class_name, temperature, probability."""
    logits = np.log(list(probabilities.values()))
    outputs = {t: softmax(logits, temperature=t) for t in temperatures}
    rows = [(name, t, p) for t, output in outputs.items() for name, p in zip(probabilities, output, strict=True)]
    return pd.DataFrame(rows, columns=["class_name", "temperature", "probability"])


@in_style
def softened(probabilities: pd.DataFrame, *, title: str) -> Figure:
    """The same logits at several temperatures: one panel per temperature, one bar per class.

    probabilities: `softening`.
    """
    temperatures = sorted(probabilities["temperature"].unique())
    figure = new_figure(2.1 * len(temperatures) + 0.6, 2.6, title, caption="softened")
    axes = figure.subplots(1, len(temperatures), sharey=True, squeeze=False)[0]
    for ax, t, color in zip(axes, temperatures, greens(len(temperatures)), strict=True):
        rows = probabilities[probabilities["temperature"] == t]
        bars = ax.bar(rows["class_name"], rows["probability"], color=color, edgecolor="#3A3A3A", linewidth=0.5)
        ax.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
        ax.set_title(f"T = {t:g}")
    axes[0].set_ylim(0, 1.08)
    axes[0].set_ylabel("probability")
    return figure
