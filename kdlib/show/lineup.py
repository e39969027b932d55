"""A lineup: the real figure 3 hidden among those of studies in which no class moves by itself (Buja et al. 2009).

A reader who knows nothing and sees nothing names the real one in one of nine cases. No torch, no pyplot.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdlib import files
from kdlib.measure import class_bias
from kdlib.measure.arms import between
from kdlib.measure.class_counts import class_totals, correct_by_class
from kdlib.measure.stats import shrink_variances
from kdlib.predictions import Predictions
from kdlib.show import class_figures, style

PANELS = 9


def null_study(p: Predictions, rng: np.random.Generator) -> Predictions:
    """A study like `p` in which every class has one profile in all arms: predictions drawn anew, and nothing else kept.

    On the arcsine scale a run's class is the sum of the profile (mean over the runs, each less its own mean), the level
    of its arm, the distance of a random teacher's or student's level from that of its arm, and normal noise with the
    class's moderated variance over seeds. A student and its own teacher are not alike. What is wrong is put into the
    next class.
    """
    correct, totals = correct_by_class(p), class_totals(p)
    angles = 2 * np.arcsin(np.sqrt((correct + 3 / 8) / (totals + 3 / 4)))
    arm = p.runs.groupby(["model", "temperature"], dropna=False).ngroup()
    of_arm, df = pd.DataFrame(angles).groupby(arm).transform("mean").to_numpy(), len(arm) - arm.nunique()
    level, expected = (values.mean(axis=1, keepdims=True) for values in (angles, of_arm))
    profile, noise = (of_arm - expected).mean(axis=0), (angles - level) - (of_arm - expected)
    sd = np.sqrt(shrink_variances((noise**2).sum(axis=0) / df, profile, df=df).variance)
    of_teachers = p.runs["model"] == "teacher"
    swapped = pd.Series((level - expected)[:, 0]).groupby(of_teachers).transform(rng.permutation).to_numpy()
    drawn = expected + swapped[:, None] + profile + sd * rng.standard_normal(angles.shape)
    counts = np.rint(totals * np.sin(drawn.clip(0, np.pi) / 2) ** 2)
    place = pd.Series(p.labels).groupby(p.labels).cumcount().to_numpy()  # of an image among those of its class
    shift = np.arange(len(counts))[:, None]  # so that two runs with the same counts differ
    right = (place + shift) % totals[p.labels] < counts[:, p.labels]
    predicted = np.where(right, p.labels, (p.labels + 1) % p.n_classes)
    bare = {"probabilities": None, "confidence": None, "twins": {}, "groups": {}, "features": None}
    return replace(p, predicted=predicted, **bare)


def panels(p: Predictions, *, name: str) -> tuple[pd.DataFrame, int]:
    """(the rows of `class_bias.table` at T = 2 to 10 of nine studies with the number of their panel, the real one's).

    The real one's place and the eight null studies come from a seed made of `name`.
    """
    p, rng = between(p, 2.0, 10.0), np.random.default_rng(int(files.sha256(name.encode())[:8], 16))
    real = int(rng.integers(PANELS)) + 1
    shown = {i: p if i == real else null_study(p, rng) for i in range(1, PANELS + 1)}
    return pd.concat([class_bias.table(q).assign(panel=i) for i, q in shown.items()], ignore_index=True), real


@style.in_style
def lineup(rows: pd.DataFrame, *, classes: int, title: str) -> Figure:
    """The counts of figure 3 of nine studies, three by three, with the same axes. rows: as `panels` gives them."""
    figure = style.new_figure(10, 7.4, title, caption="lineup")
    axes = figure.subplots(3, 3, sharex=True, sharey=True)
    for (panel, of), ax in zip(rows.groupby("panel"), axes.flat, strict=True):
        class_figures.significant_counts_panel(ax, of, classes=classes)
        ax.set_title(f"{panel}")
        ax.label_outer()
    most = rows.loc[rows["unit"] == "classes", ["mean", "high"]].max(axis=None)
    axes[0, 0].set_ylim(0, 1.15 * max(1.0, most))
    style.legend_below(figure, axes[0, 0], ncols=3)
    return figure
