"""The board of verdicts: what the runs of a profile say of the paper's twelve claims (`rules`).

A verdict on the paper comes from the paper's own study alone, complete and with the recipe that the paper states. The
same rules run on a stand-in too, in columns of their own: they show that the rules work, and judge nothing. No torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from kdlib.claims.finding import Finding, p_text
from kdlib.claims.rules import CLAIMS, Claim
from kdlib.errors import InvalidInput, KdlibError, KdlibWarning, NotTrained
from kdlib.measure.arms import check_blocks
from kdlib.measure.stats import LEVEL, adjust
from kdlib.paper.stand_in import stand_in_reasons
from kdlib.predictions import Predictions, named_collapsed
from kdlib.predictions import collect as readers
from kdlib.studies import Profile, Study, load_profile

VERDICTS = ("reproduced", "not reproduced", "explained by accuracy", "inconclusive", "not run")
NOTHING_FITS = "no stand-in in this profile has what the rule needs."
COLUMNS = ["statistic", "value", "low", "high", "se", "p", "p_holm"]
COLUMNS += ["n_blocks", "n_temperatures", "verdict", "sentence"]


def verdicts(
    profile: Profile | str | Path, *, runs_dir: Path | str, released: Path | str | None = None
) -> pd.DataFrame:
    """What the runs of a profile say of the paper's twelve claims, one row per claim.

    claim (1 .. 12), says (the claim in words), study, tested; statistic, value, low, high (its 95 % interval; NaN where
    it has none), se, p (two-sided; NaN where the rule is no test), p_holm (p: one study decides each claim), n_blocks,
    n_temperatures; verdict: 'reproduced', 'not reproduced', 'explained by accuracy', 'inconclusive' or 'not run'; and a
    sentence for readers. No correction spans claims.
    The same columns with 'stand_in_' in front are those of the first study that is not the paper's own and that the
    rule can work with, of `by_study`; stand_in names it. They say nothing about the paper.
    A study counts only when none of its runs is missing; runs that failed are named in the sentence.
    """
    read = profile if isinstance(profile, Profile) else load_profile(profile)
    load = _Loader(runs_dir, released)
    about = [(c.number, c.says, ", ".join(c.studies), c.tested) for c in CLAIMS]
    frame = pd.DataFrame(about, columns=["claim", "says", "study", "tested"])
    own = judged([_own(claim, read, load) for claim in CLAIMS], frame["claim"])
    first = _by_study(read, load).drop_duplicates("claim").reset_index(drop=True)
    return frame.join(own).assign(stand_in=first["studies"]).join(first[COLUMNS].add_prefix("stand_in_"))


def by_study(
    profile: Profile | str | Path, *, runs_dir: Path | str, released: Path | str | None = None
) -> pd.DataFrame:
    """What the same rules find on every stand-in of a profile that they can work with: one row per claim and study.

    claim, says, studies (names), title (data sets and models), then the columns of `verdicts` from statistic on. The
    studies are those that the profile lists for the artefact 'claims' (or all). p_holm is over the studies of one claim
    whose design can give p <= 0.05; NaN for the others, which cannot answer. A claim that no study can answer is a row
    with verdict 'not run'. None of it judges the paper.
    """
    read = profile if isinstance(profile, Profile) else load_profile(profile)
    return _by_study(read, _Loader(runs_dir, released))


def _by_study(profile: Profile, load: _Loader) -> pd.DataFrame:
    about, found = [], []
    for claim in CLAIMS:
        tried = [(studies, _attempt(claim, studies, profile, load)) for studies in _candidates(claim, profile)]
        able = [(studies, finding) for studies, finding in tried if isinstance(finding, Finding)]
        for studies, finding in able or [((), next((reason for _, reason in tried), NOTHING_FITS))]:
            names, titles = ", ".join(study.name for study in studies), "; ".join(study.title for study in studies)
            about.append({"claim": claim.number, "says": claim.says, "studies": names, "title": titles})
            found.append(finding)
    frame = pd.DataFrame(about)
    return frame.join(judged(found, frame["claim"]))


def judged(found: Sequence[Finding | str], claims: Sequence[int]) -> pd.DataFrame:
    """Verdicts of findings, or of the reasons why there is none, on these claims; one row each, columns COLUMNS.

    The verdict is on all runs. Where another would be given without the runs that collapsed, it is 'inconclusive'.
    """
    board = _judged(found, claims)
    hang = {place: f for place, f in enumerate(found) if isinstance(f, Finding) and f.collapsed}
    others = _judged([hang[place].without if place in hang else f for place, f in enumerate(found)], claims)
    for place, f in hang.items():
        here, other = board.loc[place], others.loc[place]
        agree = here["verdict"] == other["verdict"]
        end = "" if agree else " The two disagree, so the verdict is inconclusive."
        board.loc[place, "sentence"] = f"{here['sentence']} Collapsed: {f.collapsed}. Without: {other['sentence']}{end}"
        board.loc[place, "verdict"] = here["verdict"] if agree else "inconclusive"
    return board


def _judged(found: Sequence[Finding | str], claims: Sequence[int]) -> pd.DataFrame:
    """Holm's correction is over the studies of a claim that can answer it by their design."""
    p = pd.Series([f.p if isinstance(f, Finding) and f.least_p <= LEVEL else np.nan for f in found], dtype=float)
    p_holm = p.groupby(list(claims)).transform(lambda family: adjust(family.to_numpy(), "holm"))
    return pd.DataFrame([_row(f, p) for f, p in zip(found, p_holm, strict=True)], columns=COLUMNS)


def _row(f: Finding | str, p_holm: float) -> dict[str, object]:
    if isinstance(f, str):
        return {"verdict": "not run", "sentence": f"Not run: {f}", "statistic": "", "n_blocks": 0, "n_temperatures": 0}
    word = verdict(f, p_holm)
    told = " ".join(filter(None, [f.text, f.control, _because(f, word, p_holm)]))
    more = {"p_holm": p_holm, "n_temperatures": len(f.temperatures), "verdict": word, "sentence": told}
    return f._asdict() | more


def verdict(f: Finding, p_holm: float) -> str:
    """The word for a finding: a significant number decides by its direction, unless a control explains it."""
    decided = np.isnan(f.p) or p_holm <= LEVEL
    if f.flat and not decided:
        return "not reproduced"
    if f.toward is None or not decided:
        return "inconclusive"
    return f.instead or ("reproduced" if f.toward else "not reproduced")


def _because(f: Finding, word: str, p_holm: float) -> str:
    if word == "not reproduced":
        return "That is no change worth the name." if f.flat and not p_holm <= LEVEL else "That is against the claim."
    if word == "explained by accuracy":
        number = "as claimed" if f.toward else "against the claim"
        return f"The number is {number}, but what overall accuracy alone does is not ruled out."
    if word != "inconclusive":
        return ""
    if word == f.instead and p_holm <= LEVEL:
        return "The number alone would decide, but what was checked does not bear it out."
    corrected = f"With Holm's correction over the studies of this claim {p_text(p_holm)}, which is not enough."
    shown = f"{100 * f.visible:.2f} {f.unit}" if f.unit.startswith("points") else f"{f.visible:.1f} {f.unit}"
    alone = f"A t-test of this number alone would see a change of {shown} in 80 % of such studies."
    seen = alone if np.isfinite(f.visible) else ""
    return " ".join(filter(None, [corrected if f.p <= LEVEL < p_holm else "", seen]))


# ------------------------------------------------------------------------------------------------ which study, and when


class _Loader:
    """Predictions of studies, read once; check_blocks has passed."""

    def __init__(self, runs_dir: Path | str, released: Path | str | None) -> None:
        self.runs_dir, self.released = runs_dir, released
        self.read: dict[str, Predictions | KdlibError] = {}

    def __call__(self, study: Study) -> Predictions:
        """Raises NotTrained, StoreError or InvalidInput, the same error each time."""
        if study.name not in self.read:
            try:
                self.read[study.name] = readers.collect(study, runs_dir=self.runs_dir, released=self.released)
                check_blocks(self.read[study.name])
            except KdlibError as error:
                self.read[study.name] = error
        if isinstance(found := self.read[study.name], KdlibError):
            raise found
        return found


def find(claim: Claim, studies: Sequence[Predictions]) -> Finding:
    """What a rule finds on its studies, and what it finds without the runs that collapsed, where some did."""
    every = [_lean(p, claim) for p in studies]
    on_all, collapsed = _applied(claim, every), "; ".join(name for p in every for name in named_collapsed(p))
    if not collapsed:
        return on_all
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KdlibWarning)  # a run left out makes four seeds of five
        try:
            without = _applied(claim, [p.without_collapsed() for p in every])
        except KdlibError as error:
            without = str(error)
    return on_all._replace(collapsed=collapsed, without=without)


def _applied(claim: Claim, studies: Sequence[Predictions]) -> Finding:
    """All rules are about distilled students. Raises InvalidInput where none is trained yet, or all collapsed."""
    if not all(p.temperatures for p in studies):
        raise InvalidInput("there is no distilled student (model 'ds') to judge.")
    return claim.rule(*studies)


def _lean(p: Predictions, claim: Claim) -> Predictions:
    """Without probabilities and groups where the rule needs none: every selection of runs copies them."""
    return p if claim.with_samples else replace(p, probabilities=None, confidence=None, twins={}, groups={})


def _own(claim: Claim, profile: Profile, load: _Loader) -> Finding | str:
    """What the paper's own studies say, or why nothing can be said."""
    studies = [profile.studies[name] for name in claim.studies if name in profile.studies]
    if len([study for study in studies if not stand_in_reasons(study)]) < len(claim.studies):
        return f"only the paper's own study decides. Train it: {_trains(claim.studies, 'paper')}"
    return _attempt(claim, studies, profile, load, whole=True)


def _trains(names: Sequence[str], profile: str) -> str:
    return f"kdlib train {' '.join(names)} --profile {profile}"


def _attempt(
    claim: Claim, studies: Sequence[Study], profile: Profile, load: _Loader, *, whole: bool = False
) -> Finding | str:
    """What the rule finds on these studies, or why it cannot work with them.

    whole: a run that is still to be trained is a reason, and runs that failed are named.
    """
    try:
        found = {study.name: load(study) for study in studies}
        if whole and (lacking := [name for name, p in found.items() if _untrained(p)]):
            return f"runs are still missing. Train them: {_trains(lacking, profile.handle)}"
        if (fewest := min(p.n_classes for p in found.values())) < claim.least_classes:
            return f"the rule counts classes, and {fewest} are too few for a trend."
        answer, failed = find(claim, [*found.values()]), [run for p in found.values() for run in p.absent]
    except NotTrained:  # its own message names a folder of this machine
        return f"no run is there. Train it: {_trains([study.name for study in studies], profile.handle)}"
    except KdlibError as error:
        return str(error)
    left_out = f" Left out because they failed: {'; '.join(failed)}." if whole and failed else ""
    return answer._replace(text=answer.text + left_out)


def _untrained(p: Predictions) -> list[str]:
    return [run for run in p.absent if run.endswith("not trained")]


def _candidates(claim: Claim, profile: Profile) -> Iterator[tuple[Study, ...]]:
    """Stand-ins among the studies of the board, in the profile's order, those on the claim's own data set first."""
    names = profile.artefacts.get("claims", profile.studies)
    own = [profile.studies[name] for name in names if stand_in_reasons(profile.studies[name])]
    own.sort(key=lambda study: not claim.studies[0].startswith(f"{study.dataset.replace('_', '-')}-"))
    if claim.needs == "one":
        yield from ((study,) for study in own)
    elif claim.needs == "alpha":
        yield from ((a, b) for a, b in combinations(own, 2) if a.alpha != b.alpha and but_alpha(a) == but_alpha(b))
    elif own:
        yield tuple({study.dataset: study for study in reversed(own)}.values())


def but_alpha(study: Study) -> Study:
    """The study as if at alpha 0, over all temperatures: what must be equal for two alphas to be compared."""
    return replace(study, name="", alpha=0.0, temperatures=(), fresh_teachers=0, control_loss_scale=None)
