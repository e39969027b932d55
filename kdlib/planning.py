"""Before a GPU hour is spent: which of the paper's twelve claims a study can decide, with which power, at what cost.

Claims on accuracy, disagreement and groups rest on t-tests (statsmodels); counts of classes are simulated. No torch.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from kdlib import places, store
from kdlib.catalogue import DATASETS
from kdlib.claims import power
from kdlib.claims.board import but_alpha
from kdlib.claims.finding import TEN_AND_FORTY, TWO_TO_TEN, least_trend_p
from kdlib.claims.on_classes import FEWEST, MARGIN
from kdlib.measure.stats import LEVEL
from kdlib.paper.nulls import SIZES
from kdlib.studies import Run, Study

CHANCE = 0.05  # share of classes that count as changed where none is, rounded up
ENDS = np.arange(0.1, 0.81, 0.05)  # shares of classes, tried as the other end of a rise or fall
DIGITS = 1797  # images in all
# {claim: what its t-test looks for}: arms, size, words.
CHANGES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
# What claims count: metric and alpha.
COUNTED = {2: [("sc", 0.8)], 3: [("tc", 0.8)], 6: [("sc", 0.8), ("tc", 0.8)], 12: [("sc", 0.8), ("sc", 0.6)]}


def plan(study: Study, *, among: Sequence[Study] = ()) -> pd.DataFrame:
    """What a study can decide, one row per claim.

    claim (1 .. 12), decidable; power, power_doubled: the shares of studies, 0 .. 1, that would show the stated change
    with the study's seeds and with twice as many; visible: the least change that 80 % of them would show, a fraction
    (claims 1 and 7 to 11), or the share of classes at the other end of a change from CHANCE (2, 3, 6, 12); NaN where
    not known, or none that was tried; told: all of it in words.
    Power is that of the rule's own test at p <= 0.05, before Holm's correction and before the claim's controls.
    among: the studies of the profile, for claims 5 and 12.
    """
    rows = []
    for claim in range(1, 13):
        why = obstacle(claim, study, among)
        by = _by_t_test if claim in CHANGES else _by_counts if claim in COUNTED else _on_ten_classes
        if why or claim == 5:
            told = f"cannot be decided: {why}." if why else "power not known: all data sets here decide it together."
            rows.append((claim, not why, nan, nan, nan, told))
        else:
            rows.append((claim, True, *by(claim, study)))
    return pd.DataFrame(rows, columns=["claim", "decidable", "power", "power_doubled", "visible", "told"])


def sizes(study: Study) -> tuple[int, int] | None:
    """(classes, test images of each; 0: of two classes, which no rule counts); None: not known without the data."""
    if study.dataset == "trifeature":
        classes = 10 ** len(study.data["label"].split(" x "))
        return classes, study.data["test_images"] // classes
    if study.dataset == "digits":
        return 10, (DIGITS - study.data["train_images"]) // 10
    return (2, 0) if DATASETS[study.dataset].binary else SIZES.get(study.dataset)


def design(study: Study) -> str:
    """'100 classes with about 100 test images each, seeds: 5, T = 2, 10', as far as it is known."""
    classes, images = sizes(study) or ("unknown", 0)
    each, ts = f" with about {images} test images each" * (images > 0), ", ".join(f"{t:g}" for t in study.temperatures)
    return f"{classes} classes{each}, seeds: {study.seeds}, T = {ts or 'none'}"


def obstacle(claim: int, study: Study, among: Sequence[Study] = ()) -> str:
    """Why the design of a study cannot decide a claim, whatever its data will say; '' where it can."""
    (classes, _), name, ts, to_ten = sizes(study) or (0, 0), study.dataset, study.temperatures, _to_ten(study)
    wants = f"there are {classes} classes, and the rule wants" if classes else "the classes are not known, and it wants"
    others, least = [but_alpha(one) for one in among if one.alpha != study.alpha], least_trend_p(to_ten)
    few = f"{len(to_ten)} temperatures from 2 to 10 give p = {least:.2g} at best; it takes five"
    hard = {one.dataset: size[0] for one in among if (size := sizes(one)) and size[0] >= FEWEST}
    sets = len(hard) > 3 and len({*hard.values()}) > 1
    checks = [
        (range(13), study.seeds > 1, "one seed, and the rules want two"),
        ([6], study.seeds > 2, "two seeds, and the jackknife over blocks wants three"),
        ([2, 3, 5, 6, 12], classes >= FEWEST, f"{wants} {FEWEST} or more"),
        ([4], classes == 10, f"{wants} ten"),
        ([1, 4], to_ten, "no temperature from 2 to 10"),
        ([2, 3, 12], least <= LEVEL, few),
        ([6, 9, 10], TEN_AND_FORTY[0] in ts, "no temperature of 10"),
        ([6, 10], TEN_AND_FORTY[1] in ts, "no temperature of 40"),
        ([7], ts, "no temperature, so no student"),
        ([8, 9, 10], DATASETS[name].groups, f"{name} has no sensitive feature"),
        ([11], DATASETS[name].twins, f"{name} has no counterfactual twins"),
        ([8, 11], sum(1 <= t <= 10 for t in ts) > 1, "fewer than two temperatures from 1 to 10"),
        ([5], sets, f"four data sets of {FEWEST} classes or more are wanted, and the profile has {len(hard)}"),
        ([12], but_alpha(study) in others, "no study of the profile differs from it in alpha alone"),
    ]
    return next((why for claims, holds, why in checks if claim in claims and not holds), "")


def _to_ten(study: Study) -> list[float]:
    low, high = TWO_TO_TEN
    return [t for t in study.temperatures if low <= t <= high]


def _percents(found: Sequence[float], seeds: int) -> str:
    shown = ["above 99 %" if share > 0.99 else f"{100 * share:.0f} %" for share in found]
    return f"{shown[0]} at {seeds} seeds, {shown[1]} at {2 * seeds},"


def _by_t_test(claim: int, study: Study) -> tuple[float, float, float, str]:
    from statsmodels.stats.power import TTestIndPower, TTestPower

    (arms, size, words), n = CHANGES[claim], study.seeds
    sd, source = power.seed_sd(claim, study.dataset, arms=arms)
    test, runs = (TTestIndPower(), "nobs1") if arms == 2 else (TTestPower(), "nobs")
    margin, side, what = (MARGIN, "larger", "DS − NDS of ") if claim == 1 else (0.0, "two-sided", "")
    seen = float(test.solve_power(**{runs: n}, power=0.8, alpha=LEVEL, alternative=side))
    if not sd > 0:
        return nan, nan, nan, f"power not known: no such study here. 80 % power needs {seen:.1f} sd over seeds."
    found = [float(test.power((size + margin) / sd, m, LEVEL, alternative=side)) for m in (n, 2 * n)]
    found = [1.0 if np.isnan(one) else one for one in found]  # statsmodels has NaN for changes that nobody can miss
    least, told = seen * sd - margin, f"{_percents(found, n)} if {words.format(f'{100 * size:.2g}')}. 80 % power needs "
    return *found, least, f"{told}{what}{100 * least:.2g} points. Seed sd {100 * sd:.2g} ({source})."


def _on_ten_classes(claim: int, study: Study) -> tuple[float, float, float, str]:
    found = [power.few_power(sizes(study)[1], n, len(_to_ten(study))) for n in (study.seeds, 2 * study.seeds)]
    told = f"{_percents(found, study.seeds)} if two of ten classes move by two sd over seeds at every T."
    return *found, nan, told + " Below 80 % counts within chance decide nothing." * (found[0] < 0.8)


def _by_counts(claim: int, study: Study) -> tuple[float, float, float, str]:
    """Claims 2, 3, 6 and 12, if counts were the paper's. The trends at two alphas are taken to be independent."""
    n, ts, design = study.seeds, TEN_AND_FORTY if claim == 6 else _to_ten(study), sizes(study)
    (source, *_), paths = zip(*[power.paper_counts(study.dataset, *what, ts) for what in COUNTED[claim]], strict=True)

    def share(seeds: int, paths: Sequence[tuple[float, ...]]) -> float:
        if claim == 6:
            return power.reversal_power(*design, seeds, *paths)
        return float(np.prod([power.trend_power(*design, seeds, path) for path in paths]))

    def towards(end: float) -> list[tuple[float, ...]]:
        path = tuple(np.interp(ts, [ts[0], ts[-1]], [CHANCE, end]).tolist())
        return [path[::-1], path] if claim == 6 else [path] * len(paths)

    found, place = [share(m, paths) for m in (n, 2 * n)], bisect_left(ENDS, 0.8, key=lambda end: share(n, towards(end)))
    needs = f"a change between 5 and {100 * ENDS[place]:.0f} %" if place < len(ENDS) else "more than from 5 to 80 %"
    names = [f"#{metric.upper()}" + f" at alpha {alpha:g}" * (claim == 12) for metric, alpha in COUNTED[claim]]
    ends = [f"{name} goes from {100 * p[0]:.2g} to {100 * p[-1]:.2g} %" for name, p in zip(names, paths, strict=True)]
    where = f"of classes from T = {ts[0]:g} to {ts[-1]:g} (the paper's {DATASETS[source].title})"
    told = f"{_percents(found, n)} if {' and '.join(ends)} {where}. 80 % power needs {needs}."
    alone = " Without fresh_teachers a fall decides nothing." * (claim == 3 and study.fresh_teachers < 2)
    return *found, float([*ENDS, nan][place]), told + alone


def cost(study: Study, *, runs_dir: Path | str) -> str:
    """What training takes, in words: by the study's own runs, finished or released, else by released ones of its kind.

    Same kind: data, network and role; times are scaled by epochs. What nobody measured is not guessed.
    Raises StoreError for a damaged run.
    """
    runs, folder, released = study.runs(), Path(runs_dir), list(_released(study.dataset))
    done = {run: store.provenance(folder, run) for run in runs if store.state(folder, run) == "done"}
    own = [*done.items(), *((run, about) for run, about in released if run in {*runs} - {*done})]
    rates, left = _rates(released) | _rates(own), {*runs} - {*done}
    if unknown := sorted({f"{run.model} as {run.role}" for run in runs if _kind(run) not in rates}):
        first = f"{study.command(runs_dir)} --budget 10m"
        return f"unknown: no run of {', '.join(unknown)} on these data is finished. Train one of each first: {first}"
    hours = [sum(rates[_kind(run)] * run.epochs for run in some) / 3600 for some in (runs, left)]
    whole = {_kind(run) for run in runs} <= _rates(own).keys()
    where = "runs of its own" if whole else "released runs of the same data, networks and roles, scaled by epochs"
    units = {"core" if about["device"] == "cpu" else "GPU" for _, about in [*own, *released * (not whole)]}
    unit = " and ".join(sorted(units))
    return f"about {hours[0]:.2g} {unit}-hours for {len(runs)} runs, {hours[1]:.2g} still to spend; from {where}"


def seconds_left(studies: Iterable[Study], *, runs_dir: Path | str) -> float:
    """Seconds, one at a time, for the runs that are not there yet, by those that `cost` measures by; NaN: not known."""
    runs = {run for study in studies if not study.simulated for run in study.runs()}
    states = {run: store.state(Path(runs_dir), run) for run in runs}
    left = [run for run in runs if states[run] not in ("done", "failed")]
    done = [(run, store.provenance(Path(runs_dir), run)) for run in runs if left and states[run] == "done"]
    rates = _rates(found for name in {run.dataset for run in left} for found in _released(name)) | _rates(done)
    return sum(rates.get(_kind(run), nan) * run.epochs for run in left)


def _rates(found: Iterable[tuple[Run, dict[str, Any]]]) -> dict[str, float]:
    """{kind of run: seconds an epoch}."""
    times = defaultdict(list)
    for run, about in found:
        times[_kind(run)].append(about["seconds"] / run.epochs)
    return {kind: float(np.mean(seen)) for kind, seen in times.items()}


def _kind(run: Run) -> str:
    return json.dumps([run.dataset, run.data, run.model, run.role], sort_keys=True)


def _released(dataset: str) -> Iterator[tuple[Run, dict[str, Any]]]:
    """The released runs on a data set, with their provenance."""
    for profile in power.known_profiles(places.project_root()):
        for study in (one for one in profile.studies.values() if one.dataset == dataset):
            path = places.released_dir(profile.name) / f"{study.name}.json"
            about = {one["id"]: one for one in json.loads(path.read_bytes())["runs"]} if path.is_file() else {}
            yield from ((run, about[run.id]) for run in study.runs() if run.id in about)
