"""Is a count of significant classes more than chance, more than a shift of accuracy, more than correlated arms?

Global tests permute runs; `beyond_accuracy` and `trend_beyond_accuracy` take off what a uniform shift of accuracy
gives; `sensitivity` shows every count under other choices. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from math import comb
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, special

from kdlib.errors import InvalidInput
from kdlib.measure import class_tests
from kdlib.measure.class_bias import compare_arms, null_band
from kdlib.measure.class_counts import CountedArm, check_arms, compared_arms, complete_blocks, study_arms, two_arms
from kdlib.measure.class_tests import NORMALISATIONS, TESTS, compare_values, count_significant, normalised, tied
from kdlib.measure.stats import CORRECTIONS, LEVEL, adjust, share_changed
from kdlib.predictions import Predictions

MOST_SPLITS = 2000
FIVE = 5  # seeds of the paper
NEGLIGIBLE = 0.05  # of the classes
OBSERVED, REDRAWN = 200, 8  # studies behind a mean count under a shift: of the arms, and of each draw


class Excess(NamedTuple):
    """A count, or its rise over T, and what a uniform shift gives; their difference with its 95 % interval; answer.

    answer: 'explained' (by accuracy) if high is below 5 % of the classes, else 'not explained' if low is above 0, else
    'undecided'.
    """

    count: float
    expected: float
    excess: float
    low: float
    high: float
    answer: str


def beyond_accuracy(a: Predictions, b: Predictions, *, normalise: str = "ratio", draws: int = 200) -> Excess:
    """How many more classes are significant than if every class's log odds had shifted by one and the same amount?

    The count of Welch's test at p <= 0.05, less its mean under a uniform shift between the two overall accuracies, both
    on the scale of `normalise`. The shift and the classes' seed noise are fitted on the same arms, so the interval is
    from a parametric bootstrap that fits them anew in each draw. Its runs have the classes' own changes, stretched to
    the upper 97.5 % limit of their spread: a change that noise can hide must not count as none. Ten classes can hardly
    ever be 'explained'. Classes vary independently; a student and its own teacher as much alike as they are.
    Raises and warns as class_bias.significant_classes.
    """
    arm_a, arm_b = two_arms(a, b)
    return excess_of(arm_a, [arm_b], np.ones(1), normalise, draws)


def beyond_by_temperature(predictions: Predictions) -> pd.DataFrame:
    """`beyond_accuracy` of NDS and of every DS arm against the own teachers, and of every DS arm against NDS.

    One row per comparison and scale, 'ratio' and 'logit': model, temperature (NaN for nds), against, normalise, and the
    parts of `Excess`.
    """
    (nds, teachers), students = compared_arms(predictions, "nds", "teacher")
    pairs = [(teachers, "teacher", arm) for arm in (nds, *students)] + [(nds, "nds", arm) for arm in students]
    rows = [
        (arm.model, arm.temperature, against, scale, *excess_of(reference, [arm], np.ones(1), scale, 200))
        for (reference, against, arm), scale in product(pairs, ("ratio", "logit"))
    ]
    return pd.DataFrame(rows, columns=["model", "temperature", "against", "normalise", *Excess._fields])


def trend_beyond_accuracy(
    predictions: Predictions, *, against: str = "nds", sign: int = 1, normalise: str = "ratio", draws: int = 200
) -> Excess:
    """`beyond_accuracy` of the rise (sign 1) or fall (-1) of the count from the lowest to the highest temperature.

    Along the least squares line in T; of two temperatures the difference. The reference arm is one for all T, and each
    T has its own shift. Blocks and errors are those of `count_trend`.
    """
    (reference,), students = compared_arms(predictions, against)
    students = complete_blocks(students)
    t = np.array([arm.temperature for arm in students])
    weights = sign * np.ptp(t) * (t - t.mean()) / ((t - t.mean()) ** 2).sum()
    return excess_of(reference, students, weights, normalise, draws)


def excess_of(
    reference: CountedArm, students: list[CountedArm], weights: np.ndarray, normalise: str, draws: int
) -> Excess:
    """`beyond_accuracy` of the weighted sum of the students' counts, of arms that are checked already."""
    rng, (reference, *students) = np.random.default_rng(0), [arm.tested() for arm in (reference, *students)]
    noise = rng.standard_normal((draws, *reference.correct.shape))
    count = expected = redrawn = 0.0
    for weight, arm in zip(weights, students, strict=True):
        model = _shift_model(reference.correct, arm.correct, reference.totals, _alike(reference, arm))
        count += weight * counts_of_studies(reference.correct[None], arm.correct[None], reference.totals, normalise)[0]
        expected += weight * shifted_counts(rng, model, OBSERVED, normalise).mean()
        redrawn += weight * _redrawn(rng, model, noise, reference.correct, arm.correct, normalise)
    excess = count - expected
    low, high = excess + redrawn.mean() - np.quantile(redrawn, [0.975, 0.025])
    few = high < NEGLIGIBLE * len(reference.totals)
    answer = "explained" if few else "not explained" if low > 0 else "undecided"
    return Excess(*(float(x) for x in (count, expected, excess, low, high)), answer)


class ShiftModel(NamedTuple):
    """True accuracies (C,) of two arms, one shift of the log odds apart; sd (C,) over seeds in arcsine radians.

    alike (R_b, R_a): correlation of a run of b with its own teacher in a; 0 where there is none.
    """

    accuracy_a: np.ndarray
    accuracy_b: np.ndarray
    sd: np.ndarray
    totals: np.ndarray
    n_seeds: tuple[int, int]
    alike: np.ndarray | float = 0.0


def _shift_model(a: np.ndarray, b: np.ndarray, totals: np.ndarray, alike: np.ndarray) -> ShiftModel:
    """Fitted to counts (R_a, C) and (R_b, C)."""
    profile = sum(special.logit((correct.mean(axis=0) + 0.5) / (totals + 1)) for correct in (a, b)) / 2
    accuracies = (shifted(profile, correct.sum(axis=1).mean(), totals) for correct in (a, b))
    x, y = (normalised(correct, totals, "arcsine") for correct in (a, b))
    sd = np.sqrt(class_tests.shrunken_variance(x, y).variance)
    return ShiftModel(*accuracies, sd, totals, (len(a), len(b)), alike)


def shifted(profile: np.ndarray, right: float, totals: np.ndarray) -> np.ndarray:
    """(C,) accuracies with the log odds of `profile`, moved so that `right` of all test images are right."""
    wanted = np.clip(right, 0.5, totals.sum() - 0.5)
    shift = optimize.brentq(lambda s: special.expit(profile + s) @ totals - wanted, -60, 60)
    return special.expit(profile + shift)


def _alike(a: CountedArm, b: CountedArm) -> np.ndarray:
    """(R_b, R_a): the correlation over classes and pairs of students with their own teachers, 0 elsewhere."""
    own = b.runs["teacher_id"].to_numpy()[:, None] == a.runs["run_id"].to_numpy()
    x, y = (normalised(arm.correct, arm.totals, "arcsine") for arm in (a, b))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    together = (y @ x.T)[own].sum()
    scale = np.sqrt((own @ (x**2)).sum() * (own.T @ (y**2)).sum())
    return own * (together / scale if scale > 0 else 0.0)


def _redrawn(
    rng: np.random.Generator, model: ShiftModel, noise: np.ndarray, a: np.ndarray, b: np.ndarray, normalise: str
) -> np.ndarray:
    """(S,) excesses of studies with the arms' own changes, stretched, and the reference's noise (S, R_a, C)."""
    at_a, at_b = (angles((correct.mean(axis=0) + 3 / 8) / (model.totals + 3 / 4)) for correct in (a, b))
    moved = at_a + angles(model.accuracy_b) - angles(model.accuracy_a)
    change, df = at_b - moved, max(len(moved) - 1, 1)
    by_noise = (model.sd**2).mean() * sum(1 / n for n in model.n_seeds) / max((change**2).mean(), 1e-12)
    stretch = np.sqrt(max(0.0, len(moved) / special.chdtri(df, 0.975) - by_noise))
    drawn = drawn_counts(model, at_a, noise), drawn_counts(model, moved + stretch * change, _kin(rng, model, noise))
    models = (_shift_model(x, y, model.totals, model.alike) for x, y in zip(*drawn, strict=True))
    expected = [shifted_counts(rng, fitted, REDRAWN, normalise).mean() for fitted in models]
    return counts_of_studies(*drawn, model.totals, normalise) - expected


def shifted_counts(
    rng: np.random.Generator, model: ShiftModel, studies: int, normalise: str, **options: object
) -> np.ndarray:
    """(studies,) significant classes in simulated studies in which every class moved alike.

    options: correction and level, as in `counts_of_studies`.
    """
    noise = rng.standard_normal((studies, model.n_seeds[0], len(model.totals)))
    a = drawn_counts(model, angles(model.accuracy_a), noise)
    b = drawn_counts(model, angles(model.accuracy_b), _kin(rng, model, noise))
    return counts_of_studies(a, b, model.totals, normalise, **options)


def _kin(rng: np.random.Generator, model: ShiftModel, noise: np.ndarray) -> np.ndarray:
    """(S, R_b, C) standard normal noise, as much like that of the own teachers in `noise` (S, R_a, C) as they are."""
    own = rng.standard_normal((len(noise), model.n_seeds[1], noise.shape[2]))
    alike = np.broadcast_to(model.alike, model.n_seeds[::-1])
    rest = (1 - (alike**2).sum(axis=1, keepdims=True)).clip(min=0)  # below 0 by rounding where they are the same
    return alike @ noise + np.sqrt(rest) * own


def angles(accuracy: np.ndarray) -> np.ndarray:
    return 2 * np.arcsin(np.sqrt(accuracy))


def drawn_counts(model: ShiftModel, angle: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Counts (S, R, C) of runs that spread around the angles (C,) with the model's sd."""
    return np.rint(model.totals * np.sin((angle + model.sd * noise).clip(0, np.pi) / 2) ** 2).astype(int)


def bands(
    a: Predictions, b: Predictions, *, normalise: str = "ratio", correction: str | None = None, level: float = LEVEL
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Two 95 % bands of the count of Welch's test: (low, high) of chance alone, and of a uniform shift of accuracy.

    Simulated from the arms' own accuracies and seed noise, 200 studies each; under a shift every class's log odds move
    by one and the same amount. `class_bias.null_band` asks the first for data that are not there yet.
    Raises and warns as class_bias.significant_classes.
    """
    arm_a, arm_b = (arm.tested() for arm in two_arms(a, b))
    model = _shift_model(arm_a.correct, arm_b.correct, arm_a.totals, _alike(arm_a, arm_b))
    options = {"correction": correction, "level": level}
    drawn = (
        shifted_counts(np.random.default_rng(0), of, OBSERVED, normalise, **options)
        for of in (model._replace(accuracy_b=model.accuracy_a), model)
    )
    chance, shift = (np.quantile(found, [0.025, 0.975], method="inverted_cdf").astype(int) for found in drawn)
    return (int(chance[0]), int(chance[1])), (int(shift[0]), int(shift[1]))


def counts_of_studies(
    a: np.ndarray,
    b: np.ndarray,
    totals: np.ndarray,
    normalise: str,
    *,
    correction: str | None = None,
    level: float = LEVEL,
) -> np.ndarray:
    """(S,) significant classes of studies with counts a (S, R_a, C) and b (S, R_b, C), by Welch's test."""
    values = [normalised(x.reshape(-1, len(totals)), totals, normalise).reshape(x.shape) for x in (a, b)]
    side_by_side = [np.moveaxis(x, 1, 0).reshape(x.shape[1], -1) for x in (*values, a, b)]
    p = compare_values(*side_by_side[:2], tied(*side_by_side[2:]), test="welch").p.reshape(len(a), -1)
    if correction is not None:
        p = np.stack([adjust(row, correction) for row in p])
    return (p <= level).sum(axis=1)


def counts_of_five(a: CountedArm, b: CountedArm, *, normalise: str = "ratio") -> float:
    """The count of significant classes that five seeds of each arm would give: mean over the arms' runs, five by five.

    Counts grow with the number of seeds; rules whose constants are for five seeds want this one. Of five seeds each it
    is the count itself. If all of b's own teachers are in a, students and teachers are drawn together. Of more than
    2,000 choices 2,000 are drawn at random, always the same. Raises InvalidInput for an arm of fewer than five.
    """
    small = [f"{arm.name} ({len(arm.seeds)})" for arm in (a, b) if len(arm.seeds) < FIVE]
    if small:
        raise InvalidInput(f"fewer than {FIVE} seeds in {', '.join(small)}: train more, or count what there is.")
    rng, a, b = np.random.default_rng(0), a.tested(), b.tested()
    rows_a, rows_b = (np.array([*combinations(range(len(arm.seeds)), FIVE)]) for arm in (a, b))
    teachers = pd.Index(a.runs["run_id"]).get_indexer(b.runs["teacher_id"])
    if (teachers >= 0).all():
        rows_b = rows_b if len(rows_b) <= MOST_SPLITS else rng.choice(rows_b, MOST_SPLITS, replace=False)
        rows_a = teachers[rows_b]
    elif len(rows_a) * len(rows_b) <= MOST_SPLITS:
        rows_a, rows_b = np.repeat(rows_a, len(rows_b), axis=0), np.tile(rows_b, (len(rows_a), 1))
    else:
        rows_a, rows_b = (rng.choice(rows, MOST_SPLITS) for rows in (rows_a, rows_b))
    return float(counts_of_studies(a.correct[rows_a], b.correct[rows_b], a.totals, normalise).mean())


class Permutation(NamedTuple):
    """What was observed, how often chance gives as much, and of how many permutations."""

    observed: float
    p: float
    permutations: int


def arms_permutation(a: Predictions, b: Predictions) -> Permutation:
    """Is the paper's count of significant classes of two arms more than chance, whatever binds the classes of a run?

    All splits of the runs into arms of these sizes: 126 for five and five, so p is at least 0.0079; of more than
    2,000 splits 2,000 at random. Null: the runs are independent and have one distribution of class ratios; a teacher
    and its own students are not independent.
    Raises and warns as class_bias.significant_classes.
    """
    arms = two_arms(a, b)
    correct = np.concatenate([arm.correct for arm in arms])
    first = np.array([np.isin(np.arange(len(correct)), split) for split in _splits(len(arms[0].seeds), len(correct))])
    found = np.array([count_significant(correct[runs], correct[~runs], arms[0].totals) for runs in first])
    return Permutation(int(found[0]), float((found >= found[0]).mean()), len(found))


def _splits(n_first: int, n: int) -> list[tuple[int, ...]]:
    """Which runs form the first arm, the observed split first. Equal arms: run 0 stays, as a swap changes nothing."""
    if comb(n, n_first) <= MOST_SPLITS:
        return [split for split in combinations(range(n), n_first) if 2 * n_first != n or split[0] == 0]
    rng = np.random.default_rng(0)
    return [tuple(range(n_first)), *(tuple(rng.permutation(n)[:n_first]) for _ in range(MOST_SPLITS - 1))]


def count_trend(
    predictions: Predictions, *, against: str = "nds", normalise: str = "ratio", permutations: int = 999
) -> Permutation:
    """Does the count of significant classes rise or fall with T? Kendall's tau-a of count and T, two-sided p.

    The count is that of Welch's test at p <= 0.05. observed is tau, -1 .. 1; 0: as many pairs of temperatures rise as
    fall. Temperature labels are permuted within each teacher's block of students, so whatever teachers hand on stays
    where it is. Seeds that not all temperatures have are left out. A trend that does not survive normalise='arcsine' or
    'logit' is explained by accuracy.
    Raises InvalidInput for fewer than two temperatures or seeds, and as class_bias.counts.
    """
    (reference,), students = compared_arms(predictions, against)
    students = complete_blocks(students)
    correct = np.stack([arm.correct for arm in students])
    n_temperatures, n_blocks, n_classes = correct.shape
    orders = _block_orders(np.random.default_rng(0), n_temperatures, n_blocks, permutations)
    counts = []
    for part in np.array_split(orders, 1 + permutations // 100):
        drawn = correct[part, np.arange(n_blocks)].reshape(-1, n_blocks, n_classes)
        base = np.broadcast_to(reference.correct, (len(drawn), *reference.correct.shape))
        counts.append(counts_of_studies(base, drawn, reference.totals, normalise).reshape(-1, n_temperatures))
    found = [kendall_tau(row) for row in np.concatenate(counts)]
    return Permutation(found[0], float((np.abs(found) >= abs(found[0]) - 1e-12).mean()), permutations)


def _block_orders(rng: np.random.Generator, n_temperatures: int, n_blocks: int, permutations: int) -> np.ndarray:
    """(1 + permutations, K, S): which temperature's student of block s stands at place k. The observed one is first."""
    observed = np.tile(np.arange(n_temperatures)[:, None], n_blocks)
    return np.stack([observed, *(rng.permuted(observed, axis=0) for _ in range(permutations))])


def kendall_tau(counts: np.ndarray) -> float:
    """tau-a of the counts with their place."""
    signs = np.sign(counts[None, :] - counts[:, None])
    return float(np.triu(signs, 1).sum() / comb(len(counts), 2))


def sensitivity(predictions: Predictions, *, corrections: Sequence[str | None] = tuple(CORRECTIONS)) -> pd.DataFrame:
    """Every count under every choice: one row per temperature, reference, test, normalisation and correction.

    temperature, against ('nds', 'teacher', and 'fresh teacher' where there are any), test, normalise, correction
    ('none' for none), n_significant, share_changed (Storey's 1 - pi0, the same for all corrections), classes, null_high
    (upper end of `class_bias.null_band` under that correction, by the paper's test: the others' differ by one at most).
    Raises and warns as class_bias.counts.
    """
    arms = study_arms(predictions)
    references = {name: arm for name, arm in arms.references().items() if arm is not None}
    if not arms.students or not references:
        raise InvalidInput("the table needs ds runs, and nds or teacher runs to compare them with.")
    check_arms([*references.values(), *arms.students])
    rows = []
    for students, against, test, normalise in product(arms.students, references, TESTS, NORMALISATIONS):
        p = compare_arms(references[against], students, test=test, normalise=normalise).p
        about = {"temperature": students.temperature, "against": against, "test": test, "normalise": normalise}
        share = {"share_changed": share_changed(p), "classes": len(p)}
        sizes = (len(references[against].seeds), len(students.seeds))
        images = max(1, round(float(np.median(students.totals))))
        for name in corrections:
            high = null_band(len(p), sizes, test_images=images, correction=name)[1]
            found = int((adjust(p, name) <= LEVEL).sum())
            rows.append(about | {"correction": name or "none", "n_significant": found} | share | {"null_high": high})
    return pd.DataFrame(rows)
