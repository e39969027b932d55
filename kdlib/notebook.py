"""What a notebook works with: it opens its artefact from four parameters, loads what is there, saves what it shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlib import __version__, needs, places, store
from kdlib.catalogue import ARTEFACTS, DATASETS, DEVICES, groups_by
from kdlib.errors import ProfileError, require_known
from kdlib.paper import numbers
from kdlib.paper.stand_in import stand_in_reasons
from kdlib.predictions import Predictions, collect, named_collapsed, released
from kdlib.show import boards, save, style, tables
from kdlib.studies import Profile, Study, load_profile

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from pandas.io.formats.style import Styler

PARAMETERS = ("profile", "runs_dir", "out_dir", "device")
JOINED = ("beyond_bias_dial", "beyond_t_squared")  # one picture of several studies, each of them once
ASKS = {  # what figures ask where the artefact's title is no question
    "beyond_bias_dial": "Is the disparity of a student the one that its errors let expect?",
    "beyond_individual_fairness": "Does individual fairness change with T at equal confidence?",
}
BOTH_PARTS = ("table02", "table09", "table10")  # the paper does not say which part of CelebA its numbers are of


class Text(str):
    """A text that a notebook shows as it is, without quotation marks."""

    __repr__ = str.__str__


@dataclass(frozen=True)
class Shown:
    """What an artefact shows of a study: predictions on one part, by one sensitive feature where there are groups.

    collapsed: the runs in it that learned nothing, in words; with `left_out` it is shown without them.
    alike: whether the artefact shows another study of the same title.
    name: what the names of its files end in, 'celeba64-smiling_young_validation'.
    """

    study: Study
    predictions: Predictions
    sensitive: str | None = None
    part: str = "test"
    collapsed: tuple[str, ...] = ()
    left_out: bool = False
    alike: bool = False
    asks: str = ""  # the question of an artefact beyond the paper

    @property
    def loaded(self) -> str:
        """The study's name, and whether collapsed runs are left out: what was loaded, before any sensitive feature."""
        return self.study.name + ("_without_collapsed" if self.left_out else "")

    @property
    def name(self) -> str:
        of_part = None if self.part == "test" else self.part
        return "_".join(filter(None, (self.loaded, self.sensitive, of_part)))

    @property
    def heading(self) -> str:
        """A figure's title: what it asks, the study, whether it is a stand-in, its seeds, the runs that collapsed."""
        which = [f"{self.study.name}, alpha {self.study.alpha:g}"] if self.alike else []
        return "\n".join(filter(None, [self.asks, self._of(*which, style.seeds(self.predictions.runs))]))

    def _of(self, *more: str) -> str:
        what = "without" if self.left_out else "collapsed:"
        named = [f"{what} {'; '.join(self.collapsed)}"] if self.collapsed else []
        return "\n".join([style.heading(self.study, *more), *named])

    @property
    def title(self) -> str:
        """A table's title: the study, and a line that tells tables of one study apart."""
        if self.sensitive is None:
            return f"{self._of()}\n{self.study.name}, alpha = {self.study.alpha:g}"
        kind = "posts" if DATASETS[self.study.dataset].kind == "text" else "images"
        groups = f"groups by {groups_by(self.sensitive)}, {self.part} part ({len(self.predictions.labels):,} {kind})"
        return f"{self._of()}\n{self.study.name}, {groups}"


@dataclass
class Workspace:
    """What a notebook works with. studies: those its artefact shows; device 'none' trains nothing.

    found: what `load` found, by name. Shown in a notebook, it says which studies these are and what is not run.
    """

    artefact: str
    title: str
    profile: Profile
    studies: list[Study]
    runs_dir: Path
    out_dir: Path
    device: str
    found: dict[str, Shown] = field(default_factory=dict)
    trained: str = ""
    saved: dict[str, list[str]] = field(default_factory=dict)

    @property
    def released(self) -> Path:
        """Where the profile's released predictions are."""
        return places.released_dir(self.profile.name)

    @property
    def to_train(self) -> list[Study]:
        """The studies without released predictions; the others are shown from these, or drawn."""
        own = [study for study in self.studies if not study.simulated]
        return [study for study in own if not released.path_of(self.released, study).is_file()]

    @property
    def missing(self) -> list[Study]:
        """The studies that `load` did not find."""
        there = {shown.study.name for shown in self.found.values()}
        return [study for study in self.studies if study.name not in there]

    @property
    def heading(self) -> str:
        """The title of one figure of all studies, where they differ 'ρ 0/0.4', and the runs of each that collapsed."""
        shown = list(self.found.values())
        words = zip(*(s.study.title.split(" ") for s in shown), strict=False)
        every = " ".join("/".join(dict.fromkeys(same)) for same in words)
        first = replace(shown[0], collapsed=(), alike=False).heading.replace(shown[0].study.title, every)
        collapsed = [f"collapsed in {s.study.name}: {'; '.join(s.collapsed)}" for s in shown if s.collapsed]
        return "\n".join([first, *collapsed])

    # ---------------------------------------------------------------------------------------------------- what is there

    def load(self) -> dict[str, Shown]:
        """{name: what is shown}: train what is missing, then read the runs or what is released of them.

        One for each study; with groups one for each study, sensitive feature and part that the artefact shows. Where
        runs collapsed, a second one without them. Raises NotTrained where no study has enough runs.
        """
        if self.device != "none" and any(self._is_missing(study) for study in self.to_train):
            from kdlib.training import sweep

            if lacking := needs.lacking(self.artefact, self.profile):
                raise ProfileError("\n".join(lacking))
            self.trained = str(sweep.train(self.to_train, runs_dir=self.runs_dir, device=self.device))
        where = {"runs_dir": self.runs_dir, "released": self.released}
        found = collect.collect_parts(self.studies, **where, validation=self.artefact in BOTH_PARTS)
        self.found = {shown.name: shown for name, parts in found.items() for shown in self._shown(name, parts)}
        return self.found

    def _is_missing(self, study: Study) -> bool:
        return any(store.state(self.runs_dir, run) not in ("done", "failed") for run in study.runs())

    def _shown(self, name: str, parts: Mapping[str, Predictions]) -> Iterable[Shown]:
        study, features = self.profile.study(name), [None]
        asks = ASKS.get(self.artefact, self.title if self.artefact.startswith("beyond") else "")
        if self.artefact in numbers.FEATURES:
            features = numbers.sensitive_features(parts["test"], study, self.artefact)
        alike = sum(other.title == study.title for other in self.studies) > 1
        for sensitive in features:
            for part, predictions in parts.items():
                chosen = numbers.at_its_temperatures(predictions, self.artefact)
                shown = Shown(study, chosen, sensitive, part, tuple(named_collapsed(chosen)), alike=alike, asks=asks)
                yield shown
                if shown.collapsed and self.artefact not in JOINED and _has_every_arm(chosen):
                    yield replace(shown, predictions=chosen.without_collapsed(), left_out=True)

    def split(self, features: Mapping[str, Iterable[str]]) -> dict[str, Shown]:
        """{name: what is shown} for each sensitive feature by which something was measured: {study: features}."""
        pairs = [replace(self.found[name], sensitive=feature) for name, names in features.items() for feature in names]
        entries = {shown.name: shown for shown in pairs}
        self.found |= entries
        return entries

    # ---------------------------------------------------------------------------------------------- beside the paper

    def beside(self, rows: pd.DataFrame, shown: Shown) -> pd.DataFrame:
        """`rows` (of `arms.tidy`) with the paper's numbers, where the study is the paper's own."""
        return numbers.beside(rows, shown.study, self.artefact, sensitive=shown.sensitive, part=shown.part)

    def not_run(self) -> list[Styler]:
        """A table for each study without runs: the paper's numbers of it, and the command that would run it."""
        return [
            tables.not_run_table(study, self.artefact, command=self._command(study), sensitive=sensitive)
            for study in self.missing
            for sensitive in numbers.reported_features(study, self.artefact) or [None]
        ]

    def remarks(self) -> Styler:
        """Where the paper is silent or contradicts itself on this artefact, and what we do."""
        return boards.remarks_table(self.artefact)

    def _command(self, study: Study) -> str:
        return study.command(self.runs_dir)

    # ----------------------------------------------------------------------------------------------------------- saving

    def save(
        self,
        shown: Mapping[str, Figure | Styler],
        data: Mapping[str, pd.DataFrame],
        *,
        shows: str | Mapping[str, str],
        end: str = "",
        more: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Text:
        """Save figures or tables with their data, under the names of what `load` or `split` gave.

        shows  what they show, in words, {sensitive} and {part} filled in; or {name: words}
        end    what the names of the files end in after that
        more   {name: what else the JSON is to say}
        Returns the names of all files that were saved so far.
        """
        for name, thing in shown.items():
            of = self.found[name]
            text = shows.format(sensitive=of.sensitive, part=of.part) if isinstance(shows, str) else shows[name]
            extra = (more or {}).get(name, {})
            self.save_one(thing, data[name], name=f"{self.artefact}_{name}{end}", shows=text, of=of, **extra)
        return self._names()

    def save_one(
        self,
        shown: Figure | Styler,
        data: pd.DataFrame,
        *,
        shows: str,
        name: str = "",
        of: Shown | None = None,
        **more: Any,
    ) -> Text:
        """Save one figure or table, of one study or none, as `save` does; name: of its files, else the artefact's.

        What is of no study is about the paper, and is not saved among studies of one's own.
        """
        if of is None and self.profile.own:
            return self._names()  # it is about the paper alone
        about = {"profile": self.profile.name, "shows": shows, "kdlib": __version__}
        if of is not None:
            about = save.about(of.study, of.predictions, profile=self.profile.name, shows=shows, part=of.part)
        name = name or self.artefact
        paths = save.save(shown, data, name=name, out_dir=self.out_dir, about=about | more)
        self.saved[name] = [path.suffix for path in paths]
        return self._names()

    def _names(self) -> Text:
        return Text("\n".join(f"{name}{', '.join(kinds)}" for name, kinds in self.saved.items()))

    # --------------------------------------------------------------------------------------------------------- in words

    def __repr__(self) -> str:
        """Title, studies with what is there of each, and what is not run, as a Markdown table."""
        lines = [f"**{self.title}**, profile {self.profile.name}", ""]
        if not self.studies:
            return "\n".join([*lines, "No study of ours is needed."])
        rows = [(study.name, study.title, kind_of(study), *self._there(study)) for study in self.studies]
        head = ("study", "what it is", "kind", *(("runs", "samples", "absent runs") if self.found else ()))
        lines += [_row(head), _row(["---"] * len(head)), *map(_row, rows)]
        if self.found and self.missing:
            lines += ["", "Not run:", "", *(f"    {self._command(study)}" for study in self.missing)]
        return "\n".join([*lines, *(["", f"Trained: {self.trained}."] if self.trained else [])])

    _repr_markdown_ = __repr__

    def _there(self, study: Study) -> tuple[str, ...]:
        """Runs, samples by part, absent runs."""
        parts = {shown.part: shown.predictions for shown in self.found.values() if shown.loaded == study.name}
        if not parts:
            return ("not run", "", "") if self.found else ()
        samples = ", ".join(f"{len(p.labels):,} {part}" for part, p in parts.items())
        first = next(iter(parts.values()))
        return str(len(first.runs)), samples, str(len(first.absent))


def _has_every_arm(p: Predictions) -> bool:
    """Whether every arm keeps two runs without those that collapsed."""
    before, after = (q.runs.groupby(["model", "temperature"], dropna=False).size() for q in (p, p.without_collapsed()))
    return after.reindex(before.index, fill_value=0).min() >= 2


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def open(
    artefact: str, *, profile: str | Path, runs_dir: str | Path = "", out_dir: str | Path = "", device: str = "auto"
) -> Workspace:
    """Check a notebook's parameters and find its studies and folders.

    Empty folders mean the defaults: runs/ and figures/<profile>/ of the project. Paths are read as `places.user_path`
    says; a profile may also be beside the notebook.
    Raises ProfileError for an unknown profile or artefact, InvalidInput for an unknown device.
    """
    require_known("artefact", artefact, ARTEFACTS, error=ProfileError)
    require_known("device", device, DEVICES)
    read = load_profile(profile)
    folders = places.runs_dir(runs_dir), places.figures_dir(read.name, out_dir)
    return Workspace(artefact, ARTEFACTS[artefact].title, read, read.studies_for(artefact), *folders, device)


def kind_of(study: Study) -> str:
    """'the paper's study', 'your own', or 'stand-in: ' and every reason."""
    reasons = stand_in_reasons(study)
    return "your own" if study.own else f"stand-in: {'; '.join(reasons)}" if reasons else "the paper's study"


def brief_kind(study: Study) -> str:
    """The same in one reason, for a line of the summary."""
    if study.own:
        return f"your own study {study.name}"
    reasons = stand_in_reasons(study)
    more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
    return f"stand-in ({reasons[0]}{more})" if reasons else "the paper's study"
