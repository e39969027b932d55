"""Is a count of significant classes more than chance, more than a shift of accuracy, more than correlated arms?

Global tests permute runs; `accuracy_shift_null` simulates a shift without class-specific effect; `sensitivity` shows
every count under other choices. No torch.
"""

from __future__ import annotations

from itertools import combinations, product
from math import comb
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, special

from kdlib.errors import InvalidInput
from kdlib.measure.class_bias import compare_arms
from kdlib.measure.class_counts import CountedArm, check_arms, compared_arms, complete_blocks, study_arms, two_arms
from kdlib.measure.class_tests import (
    NORMALISATIONS,
    compare_values,
    count_significant,
    normalised,
    shrunken_variance,
    tied,
)
from kdlib.measure.stats import adjust, require_share, share_changed
from kdlib.predictions import Predictions

MOST_SPLITS = 2000


class Expected(NamedTuple):
    """A count's mean and interval under a null."""

    mean: float
    low: int
    high: int


def accuracy_shift_null(
    a: Predictions, b: Predictions, *, level: float = 0.05, studies: int = 200, seed: int = 0, **options: object
) -> Expected:
    """The count of significant classes if every class's log odds had shifted by one and the same amount, 95 %.

    Simulated from the two arms' class profile, their overall accuracies and the seed noise of each class (moderated). A
    count inside (low, high) is explained by accuracy; 'logit' keeps it at chance, 'ratio' and 'none' do not. For
    independent arms: a student and its own teacher are not. options: test, normalise and correction, as in class_tests.
    Raises and warns as class_bias.significant_classes.
    """
    require_share("level", level)
    arm_a, arm_b = two_arms(a, b)
    model = _shift_model(arm_a.tested(), arm_b.tested())
    rng = np.random.default_rng(seed)
    found = [shifted_count(rng, model, level=level, **options) for _ in range(studies)]
    low, high = np.quantile(found, [0.025, 0.975], method="inverted_cdf")
    return Expected(float(np.mean(found)), int(low), int(high))


class ShiftModel(NamedTuple):
    """True accuracies (C,) of two arms, one shift of the log odds apart; sd (C,) over seeds in arcsine radians."""

    accuracy_a: np.ndarray
    accuracy_b: np.ndarray
    sd: np.ndarray
    totals: np.ndarray
    n_seeds: tuple[int, int]


def _shift_model(a: CountedArm, b: CountedArm) -> ShiftModel:
    profile = sum(special.logit((arm.correct.mean(axis=0) + 0.5) / (arm.totals + 1)) for arm in (a, b)) / 2
    accuracy_a, accuracy_b = (_shifted(profile, arm) for arm in (a, b))
    x, y = (normalised(arm.correct, arm.totals, "arcsine") for arm in (a, b))
    return ShiftModel(accuracy_a, accuracy_b, np.sqrt(shrunken_variance(x, y).variance), a.totals, (len(x), len(y)))


def _shifted(profile: np.ndarray, arm: CountedArm) -> np.ndarray:
    """(C,) accuracies with the log odds of `profile`, moved so that the overall accuracy is the arm's."""
    images = arm.totals.sum()
    wanted = np.clip(arm.correct.sum(axis=1).mean(), 0.5, images - 0.5) / images
    shift = optimize.brentq(lambda s: np.average(special.expit(profile + s), weights=arm.totals) - wanted, -60, 60)
    return special.expit(profile + shift)


def shifted_count(rng: np.random.Generator, model: ShiftModel, **options: object) -> int:
    """The significant classes of one simulated study in which every class moved alike; options as in class_tests."""
    arms = zip((model.accuracy_a, model.accuracy_b), model.n_seeds, strict=True)
    return count_significant(*(_drawn(rng, truth, model, n) for truth, n in arms), model.totals, **options)


def _drawn(rng: np.random.Generator, accuracy: np.ndarray, model: ShiftModel, n: int) -> np.ndarray:
    """(n, C) counts of runs whose class values spread with the model's sd on the arcsine scale."""
    angle = 2 * np.arcsin(np.sqrt(accuracy)) + model.sd * rng.standard_normal((n, len(accuracy)))
    return np.rint(model.totals * np.sin(angle.clip(0, np.pi) / 2) ** 2).astype(int)


class Permutation(NamedTuple):
    """What was observed, how often chance gives as much, and of how many permutations."""

    observed: float
    p: float
    permutations: int


def arms_permutation(a: Predictions, b: Predictions) -> Permutation:
    """Is the paper's count of significant classes of two arms more than chance, whatever binds the classes of a run?

    All splits of the runs into arms of these sizes: 126 for five and five, so p is at least 0.0079; of more than
    2,000, so many at random. Null: the runs are independent and have one distribution of class ratios; a teacher and
    its own students are not independent.
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
    base = normalised(reference.correct, reference.totals, normalise)
    values = np.stack([normalised(arm.correct, arm.totals, normalise) for arm in students])
    correct = np.stack([arm.correct for arm in students])
    blocks = np.arange(values.shape[1])

    def count(runs: np.ndarray) -> int:
        tie = tied(reference.correct, correct[runs, blocks])
        return int((compare_values(base, values[runs, blocks], tie, test="welch").p <= 0.05).sum())

    orders = _block_orders(np.random.default_rng(0), *values.shape[:2], permutations)
    found = [_kendall(np.array([count(runs) for runs in order])) for order in orders]
    return Permutation(found[0], float((np.abs(found) >= abs(found[0]) - 1e-12).mean()), permutations)


def _block_orders(rng: np.random.Generator, n_temperatures: int, n_blocks: int, permutations: int) -> np.ndarray:
    """(1 + permutations, K, S): which temperature's student of block s stands at place k. The observed one is first."""
    observed = np.tile(np.arange(n_temperatures)[:, None], n_blocks)
    return np.stack([observed, *(rng.permuted(observed, axis=0) for _ in range(permutations))])


def _kendall(counts: np.ndarray) -> float:
    """tau-a of the counts with their place."""
    signs = np.sign(counts[None, :] - counts[:, None])
    return float(np.triu(signs, 1).sum() / comb(len(counts), 2))


def sensitivity(
    predictions: Predictions,
    *,
    tests: tuple[str, ...] = ("welch", "moderated"),
    normalisations: tuple[str, ...] = tuple(NORMALISATIONS),
    corrections: tuple[str | None, ...] = (None, "holm", "bh", "by"),
) -> pd.DataFrame:
    """Every count under every choice: one row per temperature, reference, test, normalisation and correction.

    temperature, against ('nds', 'teacher', and 'fresh teacher' where there are any), test, normalise, correction
    ('none' for none), n_significant, share_changed (Storey's 1 - pi0, the same for all corrections), classes.
    Raises and warns as class_bias.counts.
    """
    arms = study_arms(predictions)
    references = {name: arm for name, arm in arms.references().items() if arm is not None}
    if not arms.students or not references:
        raise InvalidInput("the table needs ds runs, and nds or teacher runs to compare them with.")
    check_arms([*references.values(), *arms.students])
    rows = []
    for students, against, test, normalise in product(arms.students, references, tests, normalisations):
        p = compare_arms(references[against], students, test=test, normalise=normalise).p
        about = {"temperature": students.temperature, "against": against, "test": test, "normalise": normalise}
        share = {"share_changed": share_changed(p), "classes": len(p)}
        found = {name or "none": int((adjust(p, name) <= 0.05).sum()) for name in corrections}
        rows += [about | {"correction": name, "n_significant": n} | share for name, n in found.items()]
    return pd.DataFrame(rows)
