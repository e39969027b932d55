"""The rules for claims 2, 3, 4, 6 and 12, on counts of classes: predictions in, a `Finding` out.

#SC and #TC count the classes that differ significantly between students and NDS, or their teacher, by the paper's test:
Welch's on accuracy_c / accuracy, p <= 0.05, uncorrected. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kdlib.claims import finding
from kdlib.claims.finding import TEN_AND_FORTY, TWO_TO_TEN, Finding, interval, p_text, signed
from kdlib.errors import InvalidInput
from kdlib.measure import class_nulls
from kdlib.measure.arms import at, between, n_blocks
from kdlib.measure.class_bias import chance_rate, n_significant
from kdlib.measure.class_counts import CountedArm, compared_arms, complete_blocks, study_arms
from kdlib.measure.class_effects import profile_trends
from kdlib.measure.class_nulls import count_trend, counts_of_five, trend_beyond_accuracy
from kdlib.measure.class_tests import count_significant, normalised, shrunken_variance
from kdlib.measure.stats import LEVEL, Tested, jackknife_error, tested
from kdlib.predictions import Predictions

WELCH = {"test": "welch", "normalise": "ratio", "correction": None, "level": LEVEL}
MOST_OF_TEN, SUM_OF_TEN = 3, 11  # of ten classes: 95 % of the largest of nine counts, and of their sum, by chance
COUNT_NAMES = {"nds": "#SC", "teacher": "#TC"}
REVERSED = {"nds": -1, "teacher": 1}  # the signs of the changes of #SC and #TC in claim 6


def significant(reference: CountedArm, students: Sequence[CountedArm]) -> np.ndarray:
    """(K,) classes that differ between the reference and each arm of students, the paper's count."""
    return np.array([n_significant(reference, arm, **WELCH) for arm in students])


def count_contrast(p: Predictions, *, against: str, low: float, high: float) -> Tested:
    """The count of significant classes at T = high less that at T = low, jackknifed over blocks.

    Each seed is left out in turn, with its NDS, teacher and students. Without any difference the t-interval misses 0 in
    1 to 3 % of simulated studies: a little wide.
    """
    (reference,), arms = compared_arms(at(p, low, high), against)
    students = complete_blocks(arms)
    value, seeds = float(np.diff(significant(reference, students))[0]), students[0].seeds
    left_out = []
    for seed in seeds:
        first, *others = (arm.of_seeds({*arm.seeds} - {seed}) for arm in (reference, *students))
        left_out.append(np.diff(significant(first, others))[0])
    return tested(value, jackknife_error(left_out), len(seeds) - 1)


def count_trends(p: Predictions, *, against: str, sign: int) -> Finding:
    """Claims 2 and 3: the count rises (sign 1) or falls (-1) with T from 2 to 10.

    Kendall's tau of the count and T, temperatures permuted within blocks. Explained by accuracy: what is left of the
    change beyond a uniform shift is less than 5 % of the classes; undecided: it may be 0. #TC also falls when students
    grow more alike to their own teacher, so there it must fall against teachers that taught none of them too. Flat: the
    interval of the change lies inside the sd of a count by chance.
    """
    p = between(p, *TWO_TO_TEN)
    (reference,), arms = compared_arms(p, against)
    students = complete_blocks(arms)
    counts, n_classes, name = significant(reference, students), len(reference.totals), COUNT_NAMES[against]
    ts = tuple(arm.temperature for arm in students)
    found = count_trend(p, against=against)
    change = count_contrast(p, against=against, low=ts[0], high=ts[-1])
    toward = None if found.observed == 0 else found.observed * sign > 0
    found_sign = int(np.sign(found.observed))
    control, instead = _trend_controls(p, against, found_sign) if found_sign and found.p <= LEVEL else ("", "")
    n_seeds = len(reference.seeds), len(students[0].seeds)
    rate = chance_rate(n_classes, n_seeds, test_images=int(np.median(reference.totals)))
    by_chance = np.sqrt(n_classes * rate * (1 - rate))
    return Finding(
        f"Kendall's tau of {name} and T",
        value=found.observed,
        p=found.p,
        toward=toward,
        n_blocks=len(students[0].seeds),
        temperatures=ts,
        least_p=finding.least_trend_p(ts),
        text=f"{name} is {counts[0]} of {n_classes} classes at T = {ts[0]:g} and {counts[-1]} at T = {ts[-1]:g}, a "
        f"change of {interval(change, _classes)}; Kendall's tau over {len(ts)} temperatures {signed(found.observed)}, "
        f"{p_text(found.p)}.{finding.too_few(ts)}",
        control=control + without_counts(p),
        instead=instead,
        flat=change.low < change.high and max(-change.low, change.high) <= by_chance,
    )


def _classes(value: float) -> str:
    return f"{value:+.1f}".removesuffix(".0").replace("-", "−")


def _trend_controls(p: Predictions, against: str, sign: int) -> tuple[str, str]:
    """(sentence, verdict instead) of a uniform shift of accuracy, and for the teacher of the fresh ones.

    sign: of the trend that was found.
    """
    beyond = trend_beyond_accuracy(p, against=against, sign=sign)
    arcsine = count_trend(p, against=against, normalise="arcsine")
    expected, rest = sign * beyond.expected, sorted(sign * end for end in (beyond.low, beyond.high))
    alone = "A uniform shift of accuracy alone" if against == "nds" else "A uniform shift with growing likeness alone"
    text = (
        f"Along the fitted line the count changes by {_classes(sign * beyond.count)}. {alone} changes it by "
        f"{_classes(expected)}; what is left is "
        f"{interval(Tested(sign * beyond.excess, *rest, np.nan), _classes)}: {beyond.answer}. On the arcsine scale tau "
        f"is {signed(arcsine.observed)} ({p_text(arcsine.p)})."
    )
    if beyond.answer != "not explained":
        return text, "explained by accuracy" if (against, beyond.answer) == ("nds", "explained") else "inconclusive"
    if against == "nds":
        return text, ""
    if study_arms(p).fresh is None:
        change = "more alike to" if sign < 0 else "less like"
        return f"{text} Without fresh teachers this may be students that become {change} their own.", "inconclusive"
    fresh = count_trend(p, against="fresh teacher")
    text += f" Against teachers that taught none of the students tau is {signed(fresh.observed)} ({p_text(fresh.p)})."
    return text, "" if fresh.p <= LEVEL and fresh.observed * sign > 0 else "inconclusive"


def without_counts(p: Predictions) -> str:
    """The trends of the measures that grow with neither seeds nor thresholds, a sentence; '' where arms are missing."""
    try:
        rows = profile_trends(p).set_index("measure").rename(columns={"change": "value"})
    except InvalidInput:
        return ""
    slope = interval(rows.loc["slope"], "{:+.3f}".format)
    variance = interval(rows.loc["variance"], "{:+.5f}".format)
    return (
        " Without counting: each doubling of T changes the slope of students towards their teacher's class profile by "
        f"{slope}, and the variance of the true class change by {variance} (squared radians)."
    )


def reversal(p: Predictions) -> Finding:
    """Claim 6: from T = 10 to 40 #SC falls and #TC rises; both contrasts over blocks must exclude 0.

    A shift of accuracy alone moves both counts on the paper's scale, so it must not explain a count that decides.
    """
    low, high = TEN_AND_FORTY
    p = at(p, low, high)
    sc, tc = (count_contrast(p, against=name, low=low, high=high) for name in ("nds", "teacher"))
    both, toward = finding.joint([sc, tc], [*REVERSED.values()])
    way, answers = 1 if toward else -1, {}
    for (arm, sign), change in zip(REVERSED.items(), (sc, tc), strict=True):
        if both <= LEVEL and change.value * way * sign > 0:
            answers[COUNT_NAMES[arm]] = trend_beyond_accuracy(p, against=arm, sign=way * sign).answer
    left = " and ".join(f"{name} {answer}" for name, answer in answers.items())
    shift = f"A uniform shift of accuracy alone leaves {left}. " if answers else ""
    return Finding(
        f"#SC at T = {high:g} − at T = {low:g}",
        **sc._replace(p=both)._asdict(),
        toward=toward,
        n_blocks=n_blocks(p),
        temperatures=(low, high),
        unit="classes",
        text=f"From T = {low:g} to {high:g} #SC changes by {interval(sc, _classes)} classes and #TC by "
        f"{interval(tc, _classes)}; joint {p_text(both)}.",
        control=shift + without_counts(p).strip(),
        instead="" if {*answers.values()} <= {"not explained"} else "inconclusive",
    )


def few_classes(p: Predictions) -> Finding:
    """Claim 4: of ten classes no more are significant than by chance: at most 3 at any T, at most 11 over nine T.

    #SC and #TC are judged apart; where they disagree, nothing is said. With fewer temperatures the sum is held to its
    share of 11. The bounds are for five seeds: counts of more are means over parts of five. No test: counts within the
    bounds equal chance, but only where two of the ten classes, moved by two sd over seeds, would have passed them in
    80 % of studies.
    Raises InvalidInput for another number of classes.
    """
    p = between(p, *TWO_TO_TEN)
    (nds, own), students = compared_arms(p, "nds", "teacher")
    if len(nds.totals) != 10:
        raise InvalidInput(f"the rule is about ten classes; this study has {len(nds.totals)}.")
    arms = {"#SC": nds, "#TC": own}
    counts = {name: np.array([_as_of_five(arm, ds) for ds in students]) for name, arm in arms.items()}
    powers = {name: power_of_few(arm, students) for name, arm in arms.items()}
    answers = {name: _as_chance(found, powers[name]) for name, found in counts.items()}
    text = "; ".join(
        f"{name} is at most {found.max():.3g} at any T and {found.sum():.3g} in sum: {AS_CHANCE[answers[name]]}"
        for name, found in counts.items()
    )
    return Finding(
        "largest #SC at any T",
        value=float(counts["#SC"].max()),
        toward=answers["#SC"] if answers["#SC"] == answers["#TC"] else None,
        n_blocks=n_blocks(p),
        temperatures=tuple(arm.temperature for arm in students),
        text=f"Of ten classes {text}. The bounds of chance: {MOST_OF_TEN} at any T, and "
        f"{SUM_OF_TEN * len(students) / 9:.1f} in sum, in proportion to {SUM_OF_TEN} over nine T. Two moved classes of "
        f"ten (two sd over seeds) would pass them in {finding.percent(powers['#SC'])} of simulated studies for #SC, "
        f"{finding.percent(powers['#TC'])} for #TC; 80 % are asked for.",
    )


def _as_of_five(reference: CountedArm, arm: CountedArm) -> float:
    """The count that five seeds would give, or that of the fewer that there are."""
    enough = min(len(reference.seeds), len(arm.seeds)) >= 5
    return counts_of_five(reference, arm) if enough else n_significant(reference, arm, **WELCH)


AS_CHANCE = {True: "what chance gives", False: "above chance", None: "within chance, with too little power to say more"}


def _as_chance(counts: np.ndarray, power: float) -> bool | None:
    within = counts.max() <= MOST_OF_TEN and counts.sum() <= SUM_OF_TEN * len(counts) / 9
    return (True if power >= 0.8 else None) if within else False


def power_of_few(reference: CountedArm, students: Sequence[CountedArm], *, studies: int = 400) -> float:
    """Share of simulated studies that pass the bounds where two of ten classes move by two sd over seeds at every T.

    The sd is the moderated one of reference and students on the arcsine scale; all temperatures share the reference.
    """
    rng, totals = np.random.default_rng(0), reference.totals
    base, other = (normalised(arm.correct, totals, "arcsine") for arm in (reference, students[0]))
    sd, accuracy = np.sqrt(shrunken_variance(base, other).variance), reference.correct.mean(axis=0) / totals
    n = min(5, len(reference.seeds)), min(5, len(students[0].seeds))
    model = class_nulls.ShiftModel(accuracy, accuracy, sd, totals, n)
    angle, seen = class_nulls.angles(accuracy), 0
    moved = 2 * sd * np.where(angle < np.pi / 2, 1, -1) * (np.arange(len(totals)) < 2)

    def drawn(center: np.ndarray, runs: int) -> np.ndarray:
        return class_nulls.drawn_counts(model, center, rng.standard_normal((runs, len(totals))))

    for _ in range(studies):
        first = drawn(angle, n[0])
        counts = [count_significant(first, drawn(angle + moved, n[1]), totals) for _ in students]
        seen += _as_chance(np.array(counts), 1.0) is False
    return seen / studies


def alphas_agree(a: Predictions, b: Predictions) -> Finding:
    """Claim 12: #SC has a trend in T at both alphas, of the same sign."""
    found, other = (
        {_alpha(p): count_trend(between(p, *TWO_TO_TEN), against=against) for p in (a, b)} for against in COUNT_NAMES
    )
    (one, first), (two, second) = found.items()
    both, ts = max(first.p, second.p), tuple(between(a, *TWO_TO_TEN).temperatures)
    same = first.observed * second.observed
    return Finding(
        f"the lesser of Kendall's taus of #SC and T at alpha {one:g} and {two:g}",
        value=min(first.observed, second.observed, key=abs),
        p=both,
        toward=None if same == 0 else same > 0,
        n_blocks=min(n_blocks(a), n_blocks(b)),
        temperatures=ts,
        least_p=finding.least_trend_p(ts),
        text="Kendall's tau of #SC and T is "
        + " and ".join(f"{signed(t.observed)} ({p_text(t.p)}) at alpha {alpha:g}" for alpha, t in found.items())
        + "; that of #TC is "
        + " and ".join(f"{signed(t.observed)}" for t in other.values())
        + f".{finding.too_few(ts)}",
    )


def _alpha(p: Predictions) -> float:
    return float(p.runs["alpha"].dropna().iloc[0])
