"""An explorer for a notebook: choose two arms, and see which classes, groups and samples changed between them.

`Explorer(sources)` is shown by JupyterLab. Everything in it comes from the measures; here are the choices, and pictures
of the answers (`explorer_panels`). A tab is drawn when it is looked at. Needs ipywidgets. No torch.
"""

from __future__ import annotations

import html
import warnings
from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd

from kdlib import data
from kdlib.catalogue import groups_by
from kdlib.errors import KdlibError, KdlibWarning
from kdlib.measure import arms
from kdlib.predictions import Predictions
from kdlib.predictions.collect import collect
from kdlib.show import explorer_panels, style
from kdlib.show.tables import WORDS
from kdlib.studies import Study

LEVELS = (0.001, 0.005, 0.01, 0.05, 0.1)
ALL = ("all", None)


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
        tabs = {
            "classes": (self._classes, [self.normalise, self.correction, self.level]),
            "disagreement": (explorer_panels.disagreement, []),
            "groups": (self._groups, [self.feature]),
            "samples": (self._samples, [self.of_class, self.of_group]),
        }
        self._draw = [draw for draw, _ in tabs.values()]
        self.tabs = widgets.Tab([_row(choices) for _, choices in tabs.values()], titles=list(tabs), selected_index=0)
        self.tabs.observe(self._show, "selected_index")
        self.source.observe(self._offer, "value")
        for choice in (self.before, self.after, *(choice for _, choices in tabs.values() for choice in choices)):
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
                found = self._draw[self.tabs.selected_index](a, b)
        except KdlibError as error:
            self._tell(error)
        else:
            notes = {f"<br><i>{html.escape(str(one.message))}</i>": None for one in told}  # each once, in order
            self.picture.value = style.rendered(found.figure, "png")  # first: the words say that all is there
            self.answer.value = found.text + "".join(notes)

    def _tell(self, error: KdlibError) -> None:
        self.answer.value, self.picture.value = f"<b>{html.escape(str(error))}</b>", b""

    def _arm(self, name: str) -> Predictions:
        rows = next(arm.rows for arm in arms.arm_rows(self.predictions.runs) if arm.name == name)
        return self.predictions.take(rows)

    def _classes(self, a: Predictions, b: Predictions) -> explorer_panels.Panel:
        normalise, correction = self.normalise.value, self.correction.value or None
        return explorer_panels.classes(a, b, normalise=normalise, correction=correction, level=self.level.value)

    def _groups(self, a: Predictions, b: Predictions) -> explorer_panels.Panel:
        return explorer_panels.groups(a, b, sensitive=self.feature.value)

    def _samples(self, a: Predictions, b: Predictions) -> explorer_panels.Panel:
        of_class, of_group = self.of_class.value, self.of_group.value
        return explorer_panels.samples(a, b, of_class=of_class, of_group=of_group, images=self._pictures())

    def _pictures(self) -> Mapping[str, np.ndarray] | str:
        """{sample id: image (C, H, W) uint8} of the test part where the data are at hand, else why not."""
        name, given = self.source.value, self._sources[self.source.value]
        if name not in self._images:
            self._images[name] = _images(given) if isinstance(given, Study) else "These predictions have no images."
        return self._images[name]


def _values(group: np.ndarray) -> list[str]:
    """The different values as text, in its order; missing ones are no group."""
    return sorted(map(str, pd.Series(group).dropna().unique()))


def _images(study: Study) -> Mapping[str, np.ndarray] | str:
    try:
        split = data.load(study.dataset, "test", **study.data)
    except KdlibError as error:
        return f"Without pictures: {error}"
    if split.vocabulary:
        return "The samples are texts, which predictions do not hold."
    return dict(zip(split.ids.tolist(), split.x, strict=True))


def _menu(name: str, options: Any = (), **more: Any) -> widgets.Dropdown:
    return widgets.Dropdown(options=options, description=name, **_look(), **more)


def _slider(name: str, options: list, **more: Any) -> widgets.SelectionSlider:
    return widgets.SelectionSlider(options=options, description=name, continuous_update=False, **_look(), **more)


def _look() -> dict[str, Any]:
    return {"layout": {"width": "24em", "max_width": "100%"}, "style": {"description_width": "6.5em"}}


def _row(children: list[widgets.Widget]) -> widgets.Box:
    return widgets.Box(children, layout={"flex_flow": "row wrap"})
