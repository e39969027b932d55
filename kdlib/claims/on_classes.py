"""The rules for claims 1, 5 and 7, on accuracy, disagreement and harder data sets: predictions in, a `Finding` out.

Rules know neither profiles nor the paper's numbers; `verdicts` joins them. Those that count classes are in `on_counts`.
No torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from kdlib.claims.finding import TWO_TO_TEN, Finding, interval, joint, p_text, percent
from kdlib.errors import InvalidInput, KdlibWarning
from kdlib.measure import arms
from kdlib.measure.arms import at, between, by_block, n_blocks, nds_and_students
from kdlib.measure.class_bias import compare_arms, disagreement
from kdlib.measure.class_counts import compared_arms
from kdlib.measure.fidelity import agreement, error_consistency
from kdlib.measure.stats import LEVEL, Tested, jackknife_error, of_parts, of_variances
from kdlib.predictions import Predictions

FEWEST = 10  # classes, in claim 5
MARGIN = 0.005  # of accuracy, in claim 1


# ------------------------------------------------------------------------------------------------------------- accuracy


def accuracy_kept(p: Predictions) -> Finding:
    """Claim 1: one-sided 95 % bound of DS - NDS above -0.5 point at 7 of 9 temperatures or more, and the mean above 0.

    Against it: the upper bound below 0 at 5 of 9 or more. Welch's intervals, as the arms are independent. The claim is
    that DS is not worse, so two arms that are alike can meet the rule.
    """
    p = between(p, *TWO_TO_TEN)
    rows = arms.differences_from_nds(p, p.accuracy, coverage=1 - 2 * LEVEL)
    kept, worse, k = int((rows["low"] > -MARGIN).sum()), int((rows["high"] < 0).sum()), len(rows)
    change = arms.less(by_block(p, p.accuracy).mean(axis=1).to_numpy(), p.accuracy[nds_and_students(p.runs)[0].rows])
    met = 9 * kept >= 7 * k and change.value > 0
    return Finding(
        "accuracy of DS − NDS, mean over T",
        **change._replace(p=np.nan)._asdict(),
        toward=True if met else False if 9 * worse >= 5 * k else None,
        n_blocks=n_blocks(p),
        temperatures=tuple(rows["temperature"]),
        text=f"DS less NDS is {interval(change)} points of accuracy, mean over temperatures. At {kept} of {k} "
        f"temperatures it is shown that DS is not {100 * MARGIN:g} point worse (one-sided 95 % bound), at {worse} that "
        "it is worse.",
    )


# ---------------------------------------------------------------------------------------- disagreement with the teacher


def disagrees_less(p: Predictions) -> Finding:
    """Claim 7: DS disagrees with its own teacher less often than the NDS runs do with that teacher.

    At T = 9, the paper's for CIFAR-10, or the nearest there is. Mean over blocks and NDS runs, jackknifed over both. A
    student that is right more often disagrees less anyway; error consistency takes the accuracies out, and where it
    does not change too, accuracy explains the difference. It is not defined for two models that are always right.
    """
    chosen = min(p.temperatures, key=lambda t: abs(t - 9))
    p = at(p, chosen)
    own, others = to_teachers(p, lambda a, b: 1 - agreement(p.predicted[a], p.predicted[b]))
    found = crossed(own, others)
    consistent = crossed(*to_teachers(p, lambda a, b: error_consistency(p.correct[a], p.correct[b])))
    changed = consistent.low > 0 if found.value < 0 else consistent.high < 0
    return Finding(
        f"disagreement with the teacher at T = {chosen:g}, DS − NDS",
        **found._asdict(),
        toward=None if found.value == 0 else found.value < 0,
        n_blocks=n_blocks(p),
        temperatures=(chosen,),
        text=f"At T = {chosen:g} DS and teacher disagree on {percent(own.mean())} of the test images, NDS and teacher "
        f"on {percent(others.mean())}: {interval(found)} points, {p_text(found.p)}."
        f"{most_confused(p)}",
        control="Error consistency with the teacher, which takes the accuracies out, changed by "
        f"{interval(consistent, '{:+.3f}'.format)}.",
        instead="" if changed else "inconclusive" if np.isnan(consistent.value) else "explained by accuracy",
    )


def to_teachers(p: Predictions, measure: Callable[[int, int], float]) -> tuple[np.ndarray, np.ndarray]:
    """measure(teacher, student): (B,) of each DS and its teacher, (B, S) of that teacher and each NDS.

    measure takes positions in `p`. p: students of one temperature. Raises InvalidInput for a student without a teacher.
    """
    nds, (ds,) = nds_and_students(p.runs)
    teachers = arms.own_teachers(p.runs)[ds.rows]
    if (teachers < 0).any():
        raise InvalidInput(f"{(teachers < 0).sum()} of {len(ds.rows)} students at {ds.name} have no teacher here.")
    own = [measure(teacher, run) for teacher, run in zip(teachers, ds.rows, strict=True)]
    return np.array(own), np.array([[measure(teacher, run) for run in nds.rows] for teacher in teachers])


def crossed(own: np.ndarray, others: np.ndarray) -> Tested:
    """The mean of own (B,) less that of others (B, S), jackknifed over B blocks and S runs that all blocks share."""
    return of_parts(own.mean() - others.mean(), own - others.mean(axis=1), others.mean(axis=0))


def most_confused(p: Predictions) -> str:
    """The two classes between which teacher and DS disagree most, a sentence; '' where they never do."""
    matrix = disagreement(p.arm(model="teacher"), p.arm(model="ds"))
    both = np.triu(matrix + matrix.T, 1)
    i, j = np.unravel_index(both.argmax(), both.shape)
    names = f"{p.class_names[i]} and {p.class_names[j]}"
    return f" DS disagrees most between {names} ({percent(both[i, j] / both.sum())} of it)." if both.any() else ""


# -------------------------------------------------------------------------------------------- data sets of unequal size


def hardness(*found: Predictions) -> Finding:
    """Claim 5: the share of changed classes grows with their number, over four data sets or more with ten or more each.

    Test images of a class are cut to those of the smallest data set. The share is Storey's 1 - pi0 of moderated tests
    on the arcsine scale; beside it stands the random-effects variance of the changes. Both are means over T; slopes on
    log10 of the number of classes, errors from a jackknife over blocks, for these classes. Both must point
    the paper's way. With two classes the scale, which is centered, gives both one p: they have no share of their own.
    Raises InvalidInput for fewer than four such data sets, or if all have the same number of classes.
    """
    n_classes = [p.n_classes for p in found]
    if len(n_classes) < 4 or min(n_classes) < FEWEST or len(set(n_classes)) < 2:
        raise InvalidInput(
            f"it needs four data sets of {FEWEST} classes or more, of different numbers; there are {n_classes}."
        )
    images = min(int(np.bincount(p.labels, minlength=p.n_classes).min()) for p in found)
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KdlibWarning)  # a block left out makes four seeds of five
        measured = [_jackknifed(_equalised(between(p, *TWO_TO_TEN), images, rng)) for p in found]
    share, variance = (_slope(np.log10(n_classes), [m[i] for m in measured]) for i in (0, 1))
    both, toward = joint([share, variance], [1, 1])
    shares = ", ".join(f"{percent(m[0][0])} of {c}" for c, m in zip(n_classes, measured, strict=True))
    return Finding(
        "share of changed classes for tenfold classes",
        **share._replace(p=both)._asdict(),
        toward=toward,
        n_blocks=min(map(n_blocks, found)),
        temperatures=tuple(between(found[0], *TWO_TO_TEN).temperatures),
        text=f"With {images} test images a class, mean over T, an estimated {shares} classes changed (by chance the "
        f"estimate can be below 0). Tenfold classes add {interval(share)} points to the share and "
        f"{interval(variance, '{:+.4f}'.format)} to the variance of the changes; joint {p_text(both)}.",
    )


def _equalised(p: Predictions, images: int, rng: np.random.Generator) -> Predictions:
    """A random `images` test images of each class."""
    order = np.lexsort([rng.random(len(p.labels)), p.labels])
    starts = np.cumsum(np.bincount(p.labels, minlength=p.n_classes)) - np.bincount(p.labels, minlength=p.n_classes)
    keep = np.sort(np.concatenate([order[start : start + images] for start in starts]))
    return p.of_samples(keep)


def _jackknifed(p: Predictions) -> list[tuple[float, float, int]]:
    """(value, standard error, blocks) of the share of changed classes, and of the variance of the changes."""
    seeds = sorted(p.runs["seed"][(p.runs["model"] == "ds").to_numpy()].unique())
    left_out = [_changed(p.take(np.flatnonzero(p.runs["seed"] != seed))) for seed in seeds]
    errors = jackknife_error(left_out).tolist()
    return [(value, error, len(seeds)) for value, error in zip(_changed(p), errors, strict=True)]


def _changed(p: Predictions) -> tuple[float, float]:
    """Means over T of the share of changed classes and of the variance of the changes, seed noise taken off.

    Neither is cut at 0, as `stats.share_changed` and `class_effects.change_sd` are: the mean of what is cut is too high
    where there is nothing, and the more so the fewer classes there are.
    """
    (nds,), students = compared_arms(p, "nds")
    found = [compare_arms(nds, arm, test="moderated", normalise="arcsine") for arm in students]
    share = np.mean([1 - 2 * (change.p > 0.5).mean() for change in found])
    return float(share), float(np.mean([(change.difference**2 - change.se**2).mean() for change in found]))


def _slope(x: np.ndarray, measured: Sequence[tuple[float, float, int]]) -> Tested:
    """Least squares slope of values with known errors; degrees of freedom by Welch and Satterthwaite."""
    values, errors, blocks = (np.array(column, float) for column in zip(*measured, strict=True))
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    return of_variances(float(weights @ values), (weights * errors) ** 2, blocks - 1)
