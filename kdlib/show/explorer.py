"""An explorer for a notebook: choose two arms, and see which classes, groups and samples changed between them.

`Explorer(sources)` is shown by JupyterLab. Everything in it comes from the measures; here are the choices, and what is
shown of two arms a (from) and b (to): pure functions that give sentences and a figure. A tab is drawn when it is looked
at. Needs ipywidgets. No torch.
"""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdlib import data
from kdlib.catalogue import groups_by
from kdlib.errors import InvalidInput, KdlibError, KdlibWarning
from kdlib.measure import arms, class_bias, class_nulls, fairness, fidelity, group_counts
from kdlib.measure.stats import mean_and_interval
from kdlib.predictions import Predictions
from kdlib.predictions.collect import collect
from kdlib.show import class_figures, style
from kdlib.show.style import in_style, new_figure
from kdlib.show.tables import WORDS
from kdlib.studies import Study

LEVELS = (0.001, 0.005, 0.01, 0.05, 0.1)
ALL = ("all", None)
PICTURES = 12
RATES = ("selection rate", "true positive rate", "false positive rate")
Panel = tuple[str, Figure]  # sentences as HTML, and the picture
Images = Mapping[str, np.ndarray] | str  # {sample id: (C, H, W) uint8}, or why there are none


class Explorer:
    """Widgets, and what they show. sources: {name: a study whose runs are there, or predictions}.

    Every choice is a widget: source, before, after, normalise, correction, level, feature, of_class, of_group.
    `answer` holds the sentences of the tab that is looked at, `picture` its figure.
    """

    def __init__(self, sources: Mapping[str, Study | Predictions]) -> None:
        self._sources, self._read, self._images = dict(sources), {}, {}
        self._busy = False  # while options are put in, nothing is drawn
        self.source, self.before = _menu("predictions", list(sources)), _menu("from")
        self.after = _slider("to", [""])
        self.normalise = _menu("scale", WORDS["explorer_scales"])
        self.correction = _menu("correction", WORDS["explorer_corrections"])
        self.level = _slider("level", [(f"{level:g}", level) for level in LEVELS], value=0.05)
        self.feature, self.of_class, self.of_group = _menu("groups by"), _menu("class"), _menu("group")
        self.answer, self.picture = widgets.HTML(), widgets.Image(format="png", layout={"max_width": "100%"})
        of_tests = {"normalise": self.normalise, "correction": self.correction, "level": self.level}
        of_samples = {"of_class": self.of_class, "of_group": self.of_group}
        tabs = {
            "classes": (classes, of_tests),
            "disagreement": (disagreement, {}),
            "groups": (groups, {"sensitive": self.feature}),
            "samples": (partial(samples, images=self._pictures), of_samples),
        }
        self._drawn = [*tabs.values()]
        chosen = [[*choices.values()] for _, choices in self._drawn]
        self.tabs = widgets.Tab([*map(_row, chosen)], titles=list(tabs), selected_index=0)
        self.tabs.observe(self._show, "selected_index")
        self.source.observe(self._offer, "value")
        for choice in (self.before, self.after, *chain(*chosen)):
            choice.observe(self._show, "value")
        arms_row = _row([self.source, self.before, self.after])
        self.shown = widgets.VBox([arms_row, self.tabs, self.answer, self.picture], layout={"max_width": "62em"})
        self._offer()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.shown)

    @property
    def predictions(self) -> Predictions:
        """Those that are chosen; of a study they are read once. Raises NotTrained where there are none."""
        name = self.source.value
        if name not in self._read:
            given = self._sources[name]
            self._read[name] = given if isinstance(given, Predictions) else collect(given)
        return self._read[name]

    def _offer(self, _change: object = None) -> None:
        """Offer the arms, groups and classes of what is now chosen, then draw."""
        self._busy = True
        try:
            p = self.predictions
            names = [arm.name for arm in arms.arm_rows(p.runs)]
            self.before.options = names
            self.before.value = "nds" if "nds" in names else names[0]
            self.after.options, self.after.value = names, names[-1]
            self.feature.options = [(groups_by(name), name) for name in p.groups]
            self.feature.value = next(iter(p.groups), None)  # the widget itself would choose none
            self.of_class.options = [ALL, *((name, c) for c, name in enumerate(p.class_names))]
            groups = [(name, value) for name, values in p.groups.items() for value in _values(values)]
            self.of_group.options = [ALL, *((f"{groups_by(name)}: {v}", (name, v)) for name, v in groups)]
        except KdlibError as error:
            self._tell(error)
            return
        finally:
            self._busy = False
        self._show()

    def _show(self, _change: object = None) -> None:
        """Draw the tab that is looked at. An error of ours is told in its place, a warning below the answer."""
        if self._busy:
            return
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always", KdlibWarning)
                a, b = (self._arm(widget.value) for widget in (self.before, self.after))
                draw, choices = self._drawn[self.tabs.selected_index]
                text, figure = draw(a, b, **{name: widget.value for name, widget in choices.items()})
        except KdlibError as error:
            self._tell(error)
        else:
            notes = {f"<br><i>{html.escape(str(one.message))}</i>": None for one in told}  # each once, in order
            self.picture.value = style.rendered(figure, "png")  # first: the words say that all is there
            self.answer.value = text + "".join(notes)

    def _tell(self, error: KdlibError) -> None:
        self.answer.value, self.picture.value = f"<b>{html.escape(str(error))}</b>", b""

    def _arm(self, name: str) -> Predictions:
        rows = next(arm.rows for arm in arms.arm_rows(self.predictions.runs) if arm.name == name)
        return self.predictions.take(rows)

    def _pictures(self) -> Images:
        """{sample id: image (C, H, W) uint8} of the test part where the data are at hand, else why not."""
        name, given = self.source.value, self._sources[self.source.value]
        if name not in self._images:
            self._images[name] = _images(given) if isinstance(given, Study) else "These predictions have no images."
        return self._images[name]


def _values(group: np.ndarray) -> list[str]:
    """The different values as text, in its order; missing ones are no group."""
    return sorted(map(str, pd.Series(group).dropna().unique()))


def _images(study: Study) -> Images:
    try:
        split = data.load(study.dataset, "test", **study.data)
    except KdlibError as error:
        return f"Without pictures: {error}"
    if split.vocabulary:
        return "The samples are texts, which predictions do not hold."
    return dict(zip(split.ids.tolist(), split.x, strict=True))


def _menu(name: str, options: Any = (), kind: type = widgets.Dropdown, **more: Any) -> widgets.Widget:
    look = {"layout": {"width": "24em", "max_width": "100%"}, "style": {"description_width": "6.5em"}}
    return kind(options=options, description=name, **look, **more)


_slider = partial(_menu, kind=widgets.SelectionSlider, continuous_update=False)


def _row(children: list[widgets.Widget]) -> widgets.Box:
    return widgets.Box(children, layout={"flex_flow": "row wrap"})


# --- what is shown of two arms ----------------------------------------------------------------------------------------


def _name(p: Predictions) -> str:
    """The arm in words: 'NDS', 'DS, T = 4', or what its user calls it."""
    arm = arms.arm_rows(p.runs)[0]
    t = "" if np.isnan(arm.temperature) else f", T = {arm.temperature:g}"
    return f"{style.NAMES.get(arm.model, arm.model)}{t}"


def _color(p: Predictions) -> str:
    return style.COLORS.get(p.runs["model"].iloc[0], style.COLORS["labels"])


def _text(*sentences: str) -> str:
    return " ".join(html.escape(sentence) for sentence in sentences)


# --- classes ----------------------------------------------------------------------------------------------------------


def classes(a: Predictions, b: Predictions, *, normalise: str, correction: str, level: float) -> Panel:
    """How many classes differ, beside what chance and a uniform shift of accuracy give, and by how much each moved.

    correction: '' for none. Raises as `class_bias.significant_classes`.
    """
    options = {"normalise": normalise, "correction": correction or None, "level": level}
    found = class_bias.significant_classes(a, b, **options)
    chance, shift = class_nulls.bands(a, b, **options)
    n, c = int(found["significant"].sum()), len(found)
    corrected = "corrected p" if correction else "p"
    text = (
        f"{n} of {c} classes differ between {_name(a)} and {_name(b)} ({corrected} ≤ {level:g}).",
        f"Where nothing differs, chance gives {chance[0]} to {chance[1]} in 95 of 100 studies;",
        f"where every class moved by the same log odds, {shift[0]} to {shift[1]}.",
        f"Accuracy: {a.accuracy.mean():.2%} and {b.accuracy.mean():.2%}, {len(a.runs)} and {len(b.runs)} runs.",
    )
    return _text(*text), class_figures.sorted_changes(found, title=f"{_name(b)} minus {_name(a)}, each class")


# --- disagreement -----------------------------------------------------------------------------------------------------


@in_style
def disagreement(a: Predictions, b: Predictions) -> Panel:
    """What the two arms say where they disagree. Raises as `class_bias.disagreement`."""
    counts = class_bias.disagreement(a, b)
    apart = counts * (1 - np.eye(len(counts)))
    i, j = np.unravel_index(apart.argmax(), apart.shape)
    names, total = a.class_names, counts.sum()
    text = (
        f"{_name(a)} and {_name(b)} of one seed disagree on {apart.sum():.1f} of {total:.0f} samples "
        f"({apart.sum() / total:.1%}), mean over seeds.",
        f"Most often: {names[i]} becomes {names[j]}, {apart[i, j]:.1f} samples." if apart.any() else "",
    )
    square = class_figures.as_matrix(class_figures.long_matrix(counts, a.class_names, panel=""))
    figure = new_figure(6.4, 5.6, f"Where {_name(a)} and {_name(b)} disagree")
    ax = figure.subplots()
    largest = class_figures.off_diagonal(square).max(initial=0) or 1.0
    image = class_figures.disagreement_panel(ax, square, largest=largest)
    ax.set_ylabel(f"{_name(a)} predicts")
    ax.set_xlabel(f"{_name(b)} predicts")
    figure.colorbar(image, ax=ax, label="samples, mean over seeds", shrink=0.8)
    return _text(*text), figure


# --- groups -----------------------------------------------------------------------------------------------------------


def groups(a: Predictions, b: Predictions, *, sensitive: str | None) -> Panel:
    """Selection rate, TPR and FPR of each group, and DPD and EOD. Raises as `fairness.group_fairness`."""
    if sensitive is None:
        raise InvalidInput("these predictions have no groups: choose others, or give a column with groups.")
    lines = []
    for p in (a, b):
        runs = fairness.group_fairness(p, sensitive=sensitive)
        told = (f"{name.upper()} {_interval(runs[name].to_numpy())}" for name in ("dpd", "eod"))
        lines.append(f"{_name(p)}: {', '.join(told)}, accuracy {p.accuracy.mean():.1%}.")
    labels = f"DPD of the labels themselves, what a perfect classifier has: {runs['label_dpd'].iloc[0]:.1%}."
    return _text(*lines, labels, "Intervals are over seeds."), _rates(a, b, sensitive)


def _interval(values: np.ndarray) -> str:
    if len(values) < 2:
        return f"{values.mean():.1%}"
    return "{mean:.1%} [{low:.1%}, {high:.1%}]".format(**mean_and_interval(values, share=True))


@in_style
def _rates(a: Predictions, b: Predictions, sensitive: str) -> Figure:
    cells, _ = group_counts.prepare(a, sensitive=sensitive)
    rows = len(cells.groups)
    figure = new_figure(9, 1.6 + 0.42 * rows, f"Rates by {groups_by(sensitive)}")
    axes = figure.subplots(1, 3, sharey=True)
    for p, lift in ((a, 0.12), (b, -0.12)):
        cells, _ = group_counts.prepare(p, sensitive=sensitive)
        by_group = 100 * np.nanmean(group_counts.rates(cells), axis=3)  # (R, 3, G): the mean over scored classes
        for ax, values in zip(axes, np.moveaxis(by_group, 1, 0), strict=True):
            _dots(ax, values, lift, p)
    positive = a.class_names[1] if a.n_classes == 2 else "mean over classes"
    for ax, name in zip(axes, RATES, strict=True):
        ax.set_xlabel(f"{name} (%)")
    axes[0].set_yticks(range(rows), cells.groups)
    axes[1].set_title(f"positive: {positive}")
    style.legend_below(figure, axes[0], ncols=2)
    return figure


def _dots(ax: Axes, values: np.ndarray, lift: float, p: Predictions) -> None:
    """Mean over runs and its standard deviation; values (R, G)."""
    spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
    marker = style.MARKERS.get(p.runs["model"].iloc[0], "o")
    y = np.arange(values.shape[1]) + lift
    looks = {"color": _color(p), "marker": marker, "linestyle": "none", "markersize": 6}
    ax.errorbar(values.mean(axis=0), y, xerr=spread, **looks, label=f"{_name(p)}, ± 1 sd over seeds")


# --- samples ----------------------------------------------------------------------------------------------------------


def samples(
    a: Predictions,
    b: Predictions,
    *,
    of_class: int | None,
    of_group: tuple[str, str] | None,
    images: Callable[[], Images],
) -> Panel:
    """The samples of a class and group whose usual prediction changed, those first on which the runs agree most.

    images: gives {sample id: (C, H, W) uint8}, or why there are none.
    """
    images, found = images(), fidelity.changed(a, b)
    chosen = np.ones(len(found), bool)
    if of_class is not None:
        chosen &= found["label"].to_numpy() == a.class_names[of_class]
    if of_group is not None:
        chosen &= found["sample_id"].isin(a.sample_ids[a.groups[of_group[0]].astype(str) == of_group[1]]).to_numpy()
    shown = found[chosen].head(PICTURES)
    text = (
        f"{chosen.sum()} of the chosen samples are usually put elsewhere by {_name(b)} than by {_name(a)}.",
        images if isinstance(images, str) else "",
    )
    return _text(*text), _gallery(shown, {} if isinstance(images, str) else images, a, b)


@in_style
def _gallery(rows: pd.DataFrame, images: Mapping[str, np.ndarray], a: Predictions, b: Predictions) -> Figure:
    figure = new_figure(9, 4.6 if len(rows) > 6 else 2.7, f"Changed most surely, {_name(a)} → {_name(b)}")
    axes = figure.subplots(2 if len(rows) > 6 else 1, 6, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, row in zip(axes, rows.itertuples(), strict=False):
        if row.sample_id in images:
            image = np.moveaxis(images[row.sample_id], 0, -1)
            ax.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
        told = f"{row.before} {row.share_before:.0%} →\n{row.after} {row.share_after:.0%}"
        ax.set_title(f"{told}\nlabel: {row.label}", fontsize=7.5)
        if row.sample_id not in images:
            ax.text(0.5, 0.5, row.sample_id[:18], ha="center", va="center", fontsize=7)
    return figure
