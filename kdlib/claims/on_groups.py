"""The rules for the paper's claims on groups and individuals (8 to 11): predictions in, a `Finding` out.

Smaller is what the paper calls fairer. Beside each difference stands what the model's own errors give without any
reaction to the group (its floor), or what its confidence gives. No torch.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from kdlib.catalogue import groups_by
from kdlib.claims.finding import TEN_AND_FORTY, Finding, interval, joint, p_text
from kdlib.errors import InvalidInput
from kdlib.measure.arms import at, between, by_block, differences_from_teacher, n_blocks, trend
from kdlib.measure.fairness import group_fairness, permuted_groups
from kdlib.measure.group_counts import differences, prepare, rates
from kdlib.measure.individual_runs import by_run, frozen_embedding, with_twin
from kdlib.measure.joint_intervals import joint_intervals
from kdlib.measure.stats import LEVEL, Tested, t_test
from kdlib.predictions import Predictions

ONE_TO_TEN = (1.0, 10.0)  # the temperatures of the paper's tables of group fairness
MEASURES = ("eod", "dpd")


def feature_of(p: Predictions, preferred: str) -> str:
    """The preferred sensitive feature, else the first there is. Raises InvalidInput if there is none."""
    if not p.groups:
        raise InvalidInput("the test samples have no sensitive feature.")
    return preferred if preferred in p.groups else next(iter(p.groups))


def run_floors(p: Predictions, *, sensitive: str, draws: int = 200, seed: int = 0) -> dict[str, np.ndarray]:
    """{measure: (R,)} the mean over `draws` permutations of the groups within each label, for EOD and DPD of each run.

    `fairness.floors` for runs instead of arms: a model with the run's errors that does not react to the group.
    """
    cells, _ = prepare(p, sensitive=sensitive, missing="error", exclude_below=0)
    rng = np.random.default_rng(seed)
    drawn = [differences(rates(cells, within)) for within, _ in permuted_groups(cells, draws, rng)]
    return {name: np.mean([one[name] for one in drawn], axis=0) for name in MEASURES}


def falls_with_temperature(p: Predictions, *, sensitive: str) -> Finding:
    """Claim 8: EOD and DPD fall with log T from 1 to 10, more steeply than their attribute-blind floors; t over blocks.

    Where they fall no faster than the floor, the run's own errors, which change with accuracy, explain it.
    """
    p, feature = between(p, *ONE_TO_TEN), feature_of(p, sensitive)
    runs, floor = group_fairness(p, sensitive=feature), run_floors(p, sensitive=feature)
    values = {name: runs[name].to_numpy() for name in MEASURES}
    eod, dpd = (trend(p, values[name]) for name in MEASURES)
    beyond = [trend(p, values[name] - floor[name]) for name in MEASURES]
    both, toward = joint([eod, dpd], [-1, -1])
    by = groups_by(feature)
    return Finding(
        f"EOD by {by}, change for each doubling of T",
        **eod._replace(p=both)._asdict(),
        toward=toward,
        n_blocks=n_blocks(p),
        temperatures=tuple(p.temperatures),
        unit="points for each doubling of T",
        text=f"Each doubling of T changes EOD by {by} by {interval(eod)} points and DPD by {interval(dpd)}; "
        f"joint {p_text(both)}. {_ranks(p, values)}",
        control=_beyond(*beyond),
        instead=_unless(joint(beyond, [-1, -1]), toward),
    )


def _beyond(eod: Tested, dpd: Tested) -> str:
    """What of a change is more than the floor of `run_floors`, a sentence."""
    return (
        "Beyond what the same errors give in a model that does not react to the group, EOD changes by "
        f"{interval(eod)} and DPD by {interval(dpd)}."
    )


def _unless(beyond: tuple[float, bool | None], toward: bool | None) -> str:
    """'' where what is beyond the floors is significant too and points the same way; else what explains the change.

    beyond: (p, toward) of `joint`.
    """
    return "" if beyond[0] <= LEVEL and beyond[1] == toward else "explained by accuracy"


def _ranks(p: Predictions, values: dict[str, np.ndarray]) -> str:
    """At how many temperatures DS lies below NDS, and whether the teacher does."""
    is_model = {model: (p.runs["model"] == model).to_numpy() for model in ("nds", "teacher")}
    parts = []
    for name, value in values.items():
        nds = value[is_model["nds"]].mean()
        arms = by_block(p, value).mean()
        teacher = "below" if value[is_model["teacher"]].mean() < nds else "not below"
        parts.append(f"{name.upper()}: DS at {int((arms < nds).sum())} of {len(arms)} temperatures, teacher {teacher}")
    return f"Below NDS on average: {'; '.join(parts)}."


def below_teacher(p: Predictions, *, sensitive: str) -> Finding:
    """Claim 9: at T = 10, fixed beforehand, the student's DPD is below that of its own teacher; paired t.

    The same must hold of what is beyond the floors: a model that errs more has a larger DPD without any reaction to the
    group.
    """
    p, feature = at(p, TEN_AND_FORTY[0]), feature_of(p, sensitive)
    runs, floor = group_fairness(p, sensitive=feature), run_floors(p, sensitive=feature)
    dpd, eod, gap = (_less_teacher(p, runs[name].to_numpy()) for name in ("dpd", "eod", "dpd_gap"))
    beyond = [_less_teacher(p, runs[name].to_numpy() - floor[name]) for name in MEASURES]
    toward = None if dpd.value == 0 else dpd.value < 0
    label = runs["label_dpd"].iloc[0]
    by = groups_by(feature)
    return Finding(
        f"DPD by {by} at T = 10, student − own teacher",
        **dpd._asdict(),
        toward=toward,
        n_blocks=n_blocks(p),
        temperatures=TEN_AND_FORTY[:1],
        text=f"At T = 10 the student's DPD by {by} less its own teacher's is {interval(dpd)} points, "
        f"{p_text(dpd.p)}; EOD {interval(eod)}. The labels themselves have a DPD of {100 * label:.2f} %, and the "
        f"student's distance from it less the teacher's is {interval(gap)} points.",
        control=f"{_beyond(*beyond)} {_on_other_samples(p, feature)}".rstrip(),
        instead=_unless(joint(beyond[1:], [-1]), toward),
    )


def _on_other_samples(p: Predictions, feature: str) -> str:
    """What the change is where test samples may be others too, a sentence; '' with several classes."""
    if p.n_classes > 2:
        return ""
    rows = joint_intervals(p, against="teacher", sensitive=feature).query("metric == 'dpd'")
    if len(rows) > 1:
        told = (rows["low"] > 0) | (rows["high"] < 0)
        return (
            f"Allowing for other test samples too, {told.sum()} of {len(rows)} pairs of groups differ (95 % together)."
        )
    (row,) = rows.itertuples()
    change = interval(Tested(row.mean, row.low, row.high, np.nan))
    return f"Allowing for other test samples too: rate of {row.first} less {row.second}, {change} points."


def _less_teacher(p: Predictions, values: np.ndarray) -> Tested:
    """At the only temperature of `p`."""
    (row,) = differences_from_teacher(p, values)[["mean", *Tested._fields[1:]]].itertuples(index=False)
    return Tested(*row)


def rises_again(p: Predictions, *, sensitive: str) -> Finding:
    """Claim 10: EOD and DPD are larger at T = 40 than at T = 10; paired t over blocks, both must exclude 0.

    So must what is beyond the floors: a model that errs more has larger ones without any reaction to the group.
    """
    low, high = TEN_AND_FORTY
    p, feature = at(p, low, high), feature_of(p, sensitive)
    runs, floor = group_fairness(p, sensitive=feature), run_floors(p, sensitive=feature)

    def rise(values: np.ndarray) -> Tested:
        wide = by_block(p, values)
        return t_test((wide[high] - wide[low]).to_numpy())

    eod, dpd = (rise(runs[name].to_numpy()) for name in MEASURES)
    beyond = [rise(runs[name].to_numpy() - floor[name]) for name in MEASURES]
    both, toward = joint([eod, dpd], [1, 1])
    by = groups_by(feature)
    return Finding(
        f"EOD by {by} at T = {high:g} − at T = {low:g}",
        **eod._replace(p=both)._asdict(),
        toward=toward,
        n_blocks=n_blocks(p),
        temperatures=(low, high),
        text=f"From T = {low:g} to {high:g} EOD by {by} changes by {interval(eod)} points and DPD by "
        f"{interval(dpd)}; joint {p_text(both)}.",
        control=_beyond(*beyond),
        instead=_unless(joint(beyond, [1, 1]), toward),
    )


def reacts_less(p: Predictions, *, changed: str) -> Finding:
    """Claim 11: outputs for a sample and its counterfactual twin move together with log T, 1 to 10; t over blocks.

    The mean total variation between the two outputs. Softer outputs lie nearer whatever the model does, so the change
    must survive temperature scaling of every model; otherwise it is not told apart from that of confidence. The
    paper's form, a mean of ratios over pairs, stands first in the text where samples have a distance.
    Raises InvalidInput where no twins are stored.
    """
    if not p.twins:
        raise InvalidInput("no counterfactual twins are stored with these runs.")
    p, feature = between(p, *ONE_TO_TEN), changed if changed in p.twins else next(iter(p.twins))
    runs = by_run(p, twins=p.twins[feature], among=with_twin(p, feature), embedding=frozen_embedding(p))
    raw, calibrated, relative = _slopes(p, runs, "counterfactual")
    survives = calibrated.p <= LEVEL and calibrated.value * raw.value > 0
    return Finding(
        f"output change when {feature} changes, for each doubling of T",
        **raw._asdict(),
        toward=None if raw.value == 0 else raw.value < 0,
        n_blocks=n_blocks(p),
        temperatures=tuple(p.temperatures),
        unit="points for each doubling of T",
        text=_mean_ratio(p, runs)
        + f"How far the output moves (total variation) when {feature} alone changes: each doubling of T changes it by "
        f"{interval(raw)} points, {p_text(raw.p)}.",
        control=f"After temperature scaling of every model it is {interval(calibrated)}, relative to random pairs "
        f"{interval(relative)}{'' if survives or raw.p > LEVEL else _only_confidence(raw)}.",
        instead="" if survives else "inconclusive",
    )


def _slopes(p: Predictions, runs: pd.DataFrame, measure: str) -> list[Tested]:
    """Of a measure, calibrated, and relative to random pairs."""
    names = (f"{measure}{control}" for control in ("", "_calibrated", "_relative"))
    return [trend(p, runs[name].to_numpy()) for name in names]


def _mean_ratio(p: Predictions, runs: pd.DataFrame) -> str:
    """The paper's form in a sentence; '' where samples have no distance."""
    if "mean_ratio" not in runs:
        return ""
    raw, calibrated, relative = (interval(found, "{:+.4f}".format) for found in _slopes(p, runs, "mean_ratio"))
    return (
        "The paper's form, mean change of the output over distance between neighbors: each doubling of T changes it "
        f"by {raw}, after temperature scaling by {calibrated}, relative to random pairs by {relative}. "
    )


def _only_confidence(raw: Tested) -> str:
    return f": the outputs may merely have become {'less' if raw.value < 0 else 'more'} confident"
