"""Class bias as in the paper: significantly changed classes, what chance gives, disagreement.

From Predictions to tables. The tests on arrays are in class_tests; how large effects are and where they point is in
class_effects, what a count would be without a class-specific effect in class_nulls.
Defaults are the paper's: Welch's test on accuracy_c / accuracy, p <= 0.05, uncorrected. Findings want better ones:
`significant_classes(a, b, test="moderated", normalise="arcsine", correction="bh")`. No torch.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import stats as distributions

from kdlib.errors import InvalidInput, caution
from kdlib.measure import class_counts
from kdlib.measure.arms import TIDY, tidy
from kdlib.measure.class_counts import CountedArm
from kdlib.measure.class_tests import Comparison, compare, count_significant
from kdlib.measure.stats import adjust, require_share
from kdlib.predictions import Predictions


def significant_classes(
    a: Predictions,
    b: Predictions,
    *,
    test: str = "welch",
    normalise: str = "ratio",
    correction: str | None = None,
    level: float = 0.05,
) -> pd.DataFrame:
    """Which classes differ between two arms: one row per class, in the order of the class names.

    class_index, class_name, mean_a, sd_a, mean_b, sd_b (accuracy, 0 .. 1), difference (b - a of the normalised means),
    statistic, df, p, p_adjusted, significant (p_adjusted <= level). "Not significant" does not say "unchanged".
    a, b        Predictions of one arm each: predictions.arm(model="ds", temperature=4.0)
    test        'welch' (the paper), 'moderated' (variances shrunk across classes)
    normalise   the hypothesis: 'ratio' (the paper), 'difference', 'arcsine', 'logit', 'none'; see class_tests
    correction  None (the paper), 'holm', 'bh', 'by'
    A class with the same count in every run of both arms has p = 1; one without test images has NaN and is left out of
    the correction.
    Raises InvalidInput for several arms in one table, other classes or samples, a run in both, fewer than two seeds,
    identical runs posing as seeds; warns (KdlibWarning) of two to four seeds and of one teacher for all seeds.
    """
    require_share("level", level)
    arm_a, arm_b = class_counts.two_arms(a, b)
    found = compare_arms(arm_a, arm_b, test=test, normalise=normalise)._asdict()
    p_adjusted, images = adjust(found["p"], correction), np.where(arm_a.totals > 0, arm_a.totals, np.nan)
    columns = {}
    for name, accuracy in (("a", arm_a.correct / images), ("b", arm_b.correct / images)):
        columns |= {f"mean_{name}": accuracy.mean(axis=0), f"sd_{name}": accuracy.std(axis=0, ddof=1)}
    columns |= found | {"p_adjusted": p_adjusted, "significant": p_adjusted <= level}
    return class_counts.class_rows(a.class_names, **columns).drop(columns="se")


def compare_arms(a: CountedArm, b: CountedArm, *, test: str = "welch", normalise: str = "ratio") -> Comparison:
    """`class_tests.compare` of two arms."""
    return compare(a.correct, b.correct, a.totals, test=test, normalise=normalise)


def counts(
    predictions: Predictions,
    *,
    test: str = "welch",
    normalise: str = "ratio",
    correction: str | None = None,
    level: float = 0.05,
) -> pd.DataFrame:
    """#SC and #TC, tables 1 and 6 of the paper: one row per temperature of the distilled students.

    temperature, n_seeds, accuracy_mean, accuracy_sd (of the students, 0 .. 1), n_significant_sc (against nds),
    n_significant_tc (against the students' own teachers; either is NaN where the table lacks that arm), null_low,
    null_high (95 % band of the count where nothing differs, see null_band), classes (C). The band holds for independent
    arms; a student and its own teacher are correlated, which lowers #TC (against fresh
    teachers: class_nulls.sensitivity).
    Raises and warns as significant_classes, once for all arms.
    """
    require_share("level", level)
    nds, own, _, students = class_counts.study_arms(predictions)
    present = [arm for arm in (own, nds, *students) if arm is not None]
    if not students or len(present) == len(students):
        raise InvalidInput(
            "counts compare ds with nds and teacher; the table has "
            f"{', '.join(arm.name for arm in present) or 'none of them'}."
        )
    class_counts.check_arms(present)
    options, other = {"test": test, "normalise": normalise, "correction": correction, "level": level}, nds or own
    rows = []
    for arm in students:
        accuracy, images = arm.correct.sum(axis=1) / arm.totals.sum(), max(1, round(float(np.median(arm.totals))))
        sizes = len(other.seeds), len(arm.seeds)
        found = {"temperature": arm.temperature, "n_seeds": len(arm.seeds)}
        found |= {"accuracy_mean": accuracy.mean(), "accuracy_sd": accuracy.std(ddof=1)}
        found |= {f"n_significant_{of}": n_significant(to, arm, **options) for of, to in (("sc", nds), ("tc", own))}
        band = null_band(len(arm.totals), sizes, test_images=images, **options)
        rows.append(found | dict(zip(("null_low", "null_high"), band, strict=True)) | {"classes": len(arm.totals)})
    return pd.DataFrame(rows)


def table(predictions: Predictions) -> pd.DataFrame:
    """Accuracy of every arm, and `counts` of the students, as the rows of `arms.tidy`. Raises and warns as these.

    Metrics: accuracy; n_significant_sc, n_significant_tc; null_band, which has low and high alone.
    """
    accuracy = tidy(predictions, predictions.runs.assign(accuracy=predictions.accuracy), {"accuracy": "share"})
    found = counts(predictions).assign(model="ds", unit="classes")
    parts = [found.assign(metric=name, mean=found[name]) for name in ("n_significant_sc", "n_significant_tc")]
    parts.append(found.assign(metric="null_band", low=found["null_low"], high=found["null_high"]))
    return pd.concat([accuracy, *parts], ignore_index=True)[TIDY]


def n_significant(a: CountedArm | None, b: CountedArm, **options: object) -> float:
    """How many classes differ (`class_tests.count_significant`); NaN if there is no arm to compare with."""
    return np.nan if a is None else count_significant(a.correct, b.correct, a.totals, **options)


def null_band(
    n_classes: int, n_seeds: int | tuple[int, int], *, test_images: int = 100, level: float = 0.05, **options: object
) -> tuple[int, int]:
    """(low, high): how many of `n_classes` two independent arms without any difference show as significant, 95 %.

    n_seeds      of both arms, or one number each
    test_images  of each class; few of them make counts coarse and the test more conservative
    options      test, normalise and correction, as in `class_tests.count_significant`
    Simulated with binomial counts, class accuracies even in 0.5 .. 0.95. Classes are independent here; those of one
    network are not quite, so where ten NDS seeds exist, compare five of them with the other five.
    Raises InvalidInput for fewer than one class or image, fewer than two seeds, level outside (0, 1).
    """
    found = _null_counts(n_classes, n_seeds, test_images, level=level, **options)
    if options.get("correction") is None:  # then classes fire independently: the simulated rate fixes the distribution
        low, high = distributions.binom.ppf([0.025, 0.975], n_classes, found.mean() / n_classes)
    else:
        low, high = np.quantile(found, [0.025, 0.975], method="inverted_cdf")
    return int(low), int(high)


def chance_rate(n_classes: int, n_seeds: int | tuple[int, int], *, test_images: int = 100) -> float:
    """Share of unchanged classes that the paper's test calls significant, 0 .. 1; simulated as in `null_band`."""
    return float(_null_counts(n_classes, n_seeds, test_images, level=0.05).mean() / n_classes)


@lru_cache(maxsize=256)
def _null_counts(
    n_classes: int, n_seeds: int | tuple[int, int], test_images: int, *, level: float, **options: object
) -> np.ndarray:
    """(studies,) significant classes of simulated pairs of arms."""
    n_a, n_b = n_seeds if isinstance(n_seeds, tuple) else (n_seeds, n_seeds)
    require_share("level", level)
    if min(n_classes, test_images) < 1 or min(n_a, n_b) < 2:
        raise InvalidInput(
            f"{n_classes} classes, {test_images} test images, {n_a} and {n_b} seeds: at least one "
            "class, one image and two seeds are needed."
        )
    rng, totals = np.random.default_rng(0), np.full(n_classes, test_images)
    found = np.empty(max(200, min(1000, 100_000 // n_classes)), int)
    for study in range(len(found)):
        truth = rng.uniform(0.5, 0.95, n_classes)
        correct = rng.binomial(test_images, truth, (n_a + n_b, n_classes))
        while (wrong := ~correct.any(axis=1)).any():  # of few images; no arm with such a run is compared
            correct[wrong] = rng.binomial(test_images, truth, (wrong.sum(), n_classes))
        found[study] = count_significant(correct[:n_a], correct[n_a:], totals, level=level, **options)
    found.setflags(write=False)
    return found


def disagreement(a: Predictions, b: Predictions) -> np.ndarray:
    """(C, C) mean counts over seeds of test images that a's run puts in class i (row) and b's in class j (column).

    Figure 2 of the paper leaves out the diagonal, the agreements. Runs are paired by seed; every sum is N.
    Raises InvalidInput for several arms in one table, other classes or samples, or no common seed; warns of seeds that
    one arm lacks.
    """
    order = class_counts.require_comparable(a, b)
    arms = class_counts.one_arm(a, "a"), class_counts.one_arm(b, "b")
    common, c = _common_seeds(*arms), a.n_classes
    rows = (arm.of_seeds(common).runs.index for arm in arms)
    pairs = zip(*rows, strict=True)
    total = sum(np.bincount(a.predicted[i] * c + b.predicted[j][order], minlength=c * c) for i, j in pairs)
    return total.reshape(c, c) / len(common)


def _common_seeds(a: CountedArm, b: CountedArm) -> list[int]:
    """Seeds that both arms have. Warns of those left out, but not of fresh teachers, which have no students."""
    common = [seed for seed in a.seeds if seed in b.seeds]
    alone = sorted({seed for arm in (a, b) if arm.model != "teacher" for seed in arm.seeds} - {*common})
    if not common:
        raise InvalidInput(f"{a.name} (seeds {list(a.seeds)}) and {b.name} (seeds {list(b.seeds)}) share no seed.")
    if alone:
        listed = ", ".join(map(str, alone))
        caution(f"{a.name} and {b.name} are paired by seed; left out: {listed}.")
    return common
