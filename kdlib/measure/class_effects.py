"""How large class effects are and where they point; verdicts a class that separate "equal" from "not known".

Counts of significant classes depend on thresholds, seeds and test images; these measures do not. Scales are the
normalisations of class_tests: 'difference' reads in accuracy (0.01 is a point), 'arcsine' in radians. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy import optimize, special
from scipy import stats as distributions

from kdlib.errors import InvalidInput
from kdlib.measure import class_counts
from kdlib.measure.class_counts import CountedArm
from kdlib.measure.class_tests import Comparison, compare_values, least_p, moderated, normalised, pooled_variance, tied
from kdlib.measure.stats import Tested, adjust, jackknife_error, tested
from kdlib.predictions import Predictions


def hedges_g(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(g, low, high), each (C,): Hedges' g (1981), b - a in units of the pooled sd over seeds, and its 95 % interval.

    Of values a (R_a, C) and b (R_b, C). 0: equal means; NaN where runs do not vary. The interval is exact (noncentral
    t, Steiger and Fouladi 1997).
    """
    df, unit = len(a) + len(b) - 2, np.sqrt(1 / len(a) + 1 / len(b))
    pooled = pooled_variance(a, b)
    d = (b.mean(axis=0) - a.mean(axis=0)) / np.sqrt(np.where(pooled > 0, pooled, np.nan))
    low, high = (special.nctdtrinc(df, share, d / unit) * unit for share in (0.975, 0.025))
    return (1 - 3 / (4 * df - 1)) * d, low, high


def class_verdicts(
    a: Predictions,
    b: Predictions,
    *,
    margin: float,
    test: str = "moderated",
    normalise: str = "difference",
    correction: str | None = "bh",
) -> pd.DataFrame:
    """One verdict per class: 'changed', 'equivalent' or 'inconclusive'.

    class_index, class_name, difference (b - a on the scale of `normalise`), low, high (90 % interval), p_adjusted,
    p_equivalent (adjusted as well), verdict; g, g_low, g_high (`hedges_g` on that scale); margin.
    Changed: p_adjusted <= 0.05, however small the change. Else equivalent: two one-sided tests (Schuirmann 1987) both
    place the difference inside +- margin at 0.05. A class without test images is inconclusive. Five seeds with sd s
    need a margin above 1.18 s to call even a difference of 0 equivalent (Welch).
    Raises InvalidInput for a margin <= 0, and as class_bias.significant_classes.
    """
    if not margin > 0:
        raise InvalidInput(f"margin is {margin!r}: state the smallest difference that matters, 0.03 for 3 points.")
    arm_a, arm_b = class_counts.two_arms(a, b)
    x, y = (normalised(arm.correct, arm.totals, normalise) for arm in (arm_a, arm_b))
    tie = tied(arm_a.correct, arm_b.correct)
    found = compare_values(x, y, tie, test=test)
    g, g_low, g_high = (np.where(tie, np.nan, values) for values in hedges_g(x, y))
    least = least_p(len(arm_a.seeds), len(arm_b.seeds))
    p, p_equivalent = (adjust(values, correction) for values in (found.p, _p_equivalent(found, margin, least)))
    half = special.stdtrit(found.df, 0.95) * found.se
    columns = {"difference": found.difference, "low": found.difference - half, "high": found.difference + half}
    columns |= {"p_adjusted": p, "p_equivalent": p_equivalent}
    verdict = np.select([p <= 0.05, p_equivalent <= 0.05], ["changed", "equivalent"], "inconclusive")
    sizes = {"g": g, "g_low": g_low, "g_high": g_high}
    return class_counts.class_rows(a.class_names, **columns, verdict=verdict, **sizes, margin=margin)


def _p_equivalent(found: Comparison, margin: float, least: float) -> np.ndarray:
    """The larger p of the two one-sided tests; where nothing varies, the least a permutation can give, or 1."""
    room = margin - np.abs(found.difference)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = special.stdtr(found.df, -room / found.se)
    return np.where(found.se == 0, np.where(room > 0, least, 1.0), p)


def change_sd(predictions: Predictions, *, normalise: str = "arcsine") -> pd.DataFrame:
    """The sd over classes of the true change from NDS to DS by temperature: a #SC without threshold and seed noise.

    temperature, sd, low, high on the scale of `normalise`; 0: seed noise explains all differences between classes.
    Random effects with moderated variances: Paule and Mandel (1982) with the Q-profile interval (Viechtbauer 2007).
    Raises and warns as class_bias.counts.
    """
    (nds,), students = class_counts.compared_arms(predictions, "nds")
    return pd.DataFrame([{"temperature": arm.temperature, **_change_sd(nds, arm, normalise)} for arm in students])


def _change_sd(a: CountedArm, b: CountedArm, normalise: str) -> dict[str, float]:
    change = moderated(_values(a, normalise), _values(b, normalise))
    if len(change.se) < 2 or not (change.se > 0).any():
        raise InvalidInput(f"{a.name} and {b.name}: a spread over classes needs two classes and runs that vary.")
    variance = np.maximum(change.se**2, 1e-6 * np.max(change.se) ** 2)  # a class that never varies would weigh all
    df = len(variance) - 1
    targets = {"sd": df, "low": distributions.chi2.ppf(0.975, df), "high": distributions.chi2.ppf(0.025, df)}
    return {name: np.sqrt(_between_variance(change.difference, variance, target)) for name, target in targets.items()}


def _between_variance(change: np.ndarray, variance: np.ndarray, target: float) -> float:
    """tau^2 >= 0 at which the weighted spread Q(tau^2) of the changes, which falls with tau^2, equals `target`."""

    def excess(between: float) -> float:
        weight = 1 / (variance + between)
        return (weight * (change - np.average(change, weights=weight)) ** 2).sum() - target

    if excess(0.0) <= 0:
        return 0.0
    upper = np.ptp(change) ** 2 * len(change) / target
    return optimize.brentq(excess, 0.0, upper)


def direction(predictions: Predictions, *, normalise: str = "arcsine") -> pd.DataFrame:
    """Do students move towards their teacher's class profile? Slope of DS - NDS on teacher - NDS over classes.

    temperature, n_seeds, slope, low, high. 0: not at all, 1: all the way. Cross-fitted: both covariances join different
    seeds only, i != j in cov(DS_i - NDS_i, teacher_j - NDS_j) / cov(teacher_i - NDS_i, teacher_j - NDS_j), so that
    neither shared NDS noise nor what one teacher hands to its own student counts. t-interval, jackknife over seeds.
    NaN where teacher and NDS do not differ over classes beyond noise.
    Raises InvalidInput for fewer than three seeds that all three arms have, and as class_bias.counts.
    """
    (nds, teachers), students = class_counts.compared_arms(predictions, "nds", "teacher")
    return pd.DataFrame([_direction(nds, teachers, arm, normalise) for arm in students])


def _direction(nds: CountedArm, teachers: CountedArm, students: CountedArm, normalise: str) -> dict[str, float]:
    base, teacher, student = _of_common_seeds((nds, teachers, students), normalise)
    upper, lower = _covariances(student - base, teacher - base), _covariances(teacher - base, teacher - base)
    found = _jackknifed(lambda keep: _slope(upper[keep], lower[keep]), len(base))
    about = {"temperature": students.temperature, "n_seeds": len(base)}
    return about | {"slope": found.value, "low": found.low, "high": found.high}


def _of_common_seeds(arms: Sequence[CountedArm], normalise: str) -> list[np.ndarray]:
    """The values (R, C) of each arm's runs of the seeds that all of them have."""
    seeds = set.intersection(*(set(arm.seeds) for arm in arms))
    if len(seeds) < 3:
        names = ", ".join(arm.name for arm in arms)
        raise InvalidInput(f"{names} share {len(seeds)} seeds; three are needed to leave one out in turn.")
    return [_values(arm.of_seeds(seeds), normalise) for arm in arms]


def profile_trends(predictions: Predictions, *, normalise: str = "arcsine") -> pd.DataFrame:
    """How `direction` and the spread of the class change go with T: their change for each doubling of T.

    Two rows: measure ('slope' of `direction`; 'variance' over classes of the true change from NDS to DS, `change_sd`
    squared), change (least squares on log2 T), low, high (95 %), p, visible, se, n_seeds. 0: no trend. Both are
    cross-fitted as in `direction`, so seed noise adds nothing and the variance can be negative; t-interval, jackknife
    over seeds, each with its NDS, teacher and students.
    Raises InvalidInput for fewer than two temperatures or three seeds that all arms have, and as class_bias.counts.
    """
    (nds, teachers), students = class_counts.compared_arms(predictions, "nds", "teacher")
    base, teacher, *values = _of_common_seeds([nds, teachers, *class_counts.complete_blocks(students)], normalise)
    t = np.log2([arm.temperature for arm in students])
    weights = (t - t.mean()) / ((t - t.mean()) ** 2).sum()
    gap = _covariances(teacher - base, teacher - base)
    along = [_covariances(x - base, teacher - base) for x in values]
    spread = [_covariances(x - base, x - base) for x in values]
    measures = {
        "slope": lambda keep: weights @ [_slope(moved[keep], gap[keep]) for moved in along],
        "variance": lambda keep: weights @ [_off_diagonal(moved[keep]) for moved in spread],
    }
    found = [_jackknifed(measure, len(base)) for measure in measures.values()]
    rows = pd.DataFrame(found, columns=["change", *Tested._fields[1:]])
    return rows.assign(n_seeds=len(base)).set_axis([*measures]).rename_axis("measure").reset_index()


def _jackknifed(measure: Callable[[tuple], float], n: int) -> Tested:
    """The measure of all n seeds with the t-interval of its jackknife; keep: np.ix_ of the seeds' rows and columns."""
    seeds = np.arange(n)
    value, *left_out = (float(measure(np.ix_(keep, keep))) for keep in (seeds, *(np.delete(seeds, i) for i in seeds)))
    if not np.isfinite([value, *left_out]).all():
        return Tested(value, np.nan, np.nan, np.nan)
    return tested(value, jackknife_error(left_out), n - 1)


def _values(arm: CountedArm, normalise: str) -> np.ndarray:
    """(R, classes with test images)."""
    return normalised(arm.tested().correct, arm.tested().totals, normalise)


def _covariances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(R, R) covariance over classes of every run of x (R, C) with every run of y."""
    return (x - x.mean(axis=1, keepdims=True)) @ (y - y.mean(axis=1, keepdims=True)).T / (x.shape[1] - 1)


def _slope(upper: np.ndarray, lower: np.ndarray) -> float:
    """Ratio of the means off the diagonal; NaN unless the lower one is positive."""
    below = _off_diagonal(lower)
    return _off_diagonal(upper) / below if below > 0 else np.nan


def _off_diagonal(covariances: np.ndarray) -> float:
    """Mean over pairs of different runs."""
    n = len(covariances)
    return float(covariances.sum() - np.trace(covariances)) / (n * (n - 1))


def decomposition(predictions: Predictions) -> pd.DataFrame:
    """What the students' class values vary with: one row each for temperature, teacher, student, test images.

    component, variance (mean over classes, squared fractions of accuracy; an estimate, so it can be slightly negative),
    share (of the sum, negatives as 0). Two-way analysis of variance of each class, temperatures by teacher blocks. Each
    component is estimated from products of two halves of the class's test images, so it is what other images would
    show too; 'test images' is the rest.
    Raises InvalidInput for fewer than two temperatures, blocks or images a class, and as class_bias.counts.
    """
    students = class_counts.complete_blocks(class_counts.study_arms(predictions).students)
    class_counts.check_arms(students)
    order = np.array([arm.runs.index for arm in students])
    first, second = _halves(predictions)
    values = [_class_values(predictions, order, part) for part in (first | second, first, second)]
    whole, both = _components(values[0], values[0]), _components(values[1], values[2])
    variance = np.array([*both, sum(whole) - sum(both)])
    positive = variance.clip(min=0)
    share = positive / positive.sum() if positive.any() else np.nan
    components = ["temperature", "teacher", "student", "test images"]
    return pd.DataFrame({"component": components, "variance": variance, "share": share})


def _halves(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Two (N,) masks: each class's images, in order of their ids, go to one half and the other in turn."""
    if len(alone := np.flatnonzero(np.bincount(predictions.labels) == 1)):
        raise InvalidInput(f"class {alone[0]} has one test image; two halves need two.")
    in_order = pd.Series(predictions.labels).iloc[np.argsort(predictions.sample_ids)]
    rank = in_order.groupby(in_order).cumcount().sort_index().to_numpy()
    return rank % 2 == 0, rank % 2 == 1


def _class_values(predictions: Predictions, order: np.ndarray, images: np.ndarray) -> np.ndarray:
    """(K, S, C) accuracies less the overall one on these images of the runs at `order` (K, S)."""
    labels, c = predictions.labels[images], predictions.n_classes
    totals = np.bincount(labels, minlength=c)
    correct = np.stack([np.bincount(labels[predictions.correct[row][images]], minlength=c) for row in order.ravel()])
    return normalised(correct, totals, "difference")[:, totals > 0].reshape(*order.shape, -1)


def _components(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """(temperature, teacher, student) variances from products of two measurements x, y (K, S, C) of the same runs."""
    k, s, _ = x.shape
    parts = []
    for values in (x, y):
        centered = values - values.mean(axis=(0, 1))
        by_t, by_s = centered.mean(axis=1, keepdims=True), centered.mean(axis=0, keepdims=True)
        parts.append((by_t, by_s, centered - by_t - by_s))
    per_t, per_s, rest = (float((p * q).sum(axis=(0, 1)).mean()) for p, q in zip(*parts, strict=True))
    residual = rest / ((k - 1) * (s - 1))
    return (per_t * s / (k - 1) - residual) / s, (per_s * k / (s - 1) - residual) / k, residual
