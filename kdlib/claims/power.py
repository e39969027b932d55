"""What the power of a rule rests on: how far seeds are apart, and for rules that count classes simulated studies.

Simulated studies are drawn as in `class_nulls`, with no shift of accuracy. Each class has its own direction, normal,
and moves along it by some sd over seeds, the same number for all. Effects are stated as the share of classes that five
seeds show on average, since counts grow with the number of seeds. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special

from kdlib import places
from kdlib.claims.finding import joint
from kdlib.claims.on_classes import FEWEST
from kdlib.claims.on_counts import power_of_few
from kdlib.measure.class_counts import CountedArm
from kdlib.measure.class_nulls import ShiftModel, angles, counts_of_studies, drawn_counts, kendall_tau
from kdlib.measure.stats import LEVEL, Tested, jackknife_error, tested
from kdlib.paper.nulls import SIZES, USUAL
from kdlib.paper.stand_in import SEEDS, all_reported
from kdlib.studies import Profile, load_profile

STUDIES = 400  # fewer of more than 100 classes
MIXED = 199
ACCURACY = 0.7  # of the middle class


def seed_sd(claim: int, dataset: str, *, arms: int) -> tuple[float, str]:
    """(sd over seeds of what a rule with a t-test is about, the studies it is from): on this data set, else on any.

    Median over studies, from the intervals in claims_by_study.csv of the profiles in params/; (NaN, '') without any.
    arms: 2 for Welch's test, 1 for a test of one number a block.
    """
    profiles = known_profiles(places.project_root())
    paths = [places.figures_dir(profile.name) / "claims_by_study.csv" for profile in profiles]
    tables = [pd.read_csv(path) for path in paths if path.is_file()]
    if not tables:
        return np.nan, ""
    rows = pd.concat(tables)
    rows = rows[(rows["claim"] == claim) & rows["low"].notna()]
    near = rows["studies"].isin([s.name for one in profiles for s in one.studies.values() if s.dataset == dataset])
    rows, other = (rows[near], "") if near.any() else (rows, ", other data")
    n, width = rows["n_blocks"].to_numpy(float), (rows["high"] - rows["low"]).to_numpy(float)
    sd = width / 2 / special.stdtrit(arms * (n - 1), 0.975) * np.sqrt(n / arms)
    return (float(np.median(sd)), ", ".join(rows["studies"].unique()) + other) if len(sd) else (np.nan, "")


@lru_cache(maxsize=4)
def known_profiles(root: Path) -> list[Profile]:
    """Those in params/ of a project."""
    return [load_profile(path) for path in sorted((root / "params").glob("*.yaml"))]


def paper_counts(
    dataset: str, metric: str, alpha: float, temperatures: Sequence[float]
) -> tuple[str, tuple[float, ...]]:
    """(data set, K shares of its classes): the paper's #SC ('sc') or #TC ('tc') for its first pair of networks there.

    Of CIFAR-100 where the paper has no counts up to the highest of these temperatures, or ten classes, which are too
    few to show a trend. Linear between the paper's temperatures.
    """
    table = all_reported()
    table = table[(table["metric"] == f"n_significant_{metric}") & (table["alpha"] == alpha)]
    rows = table[table["dataset"] == dataset]
    if SIZES.get(dataset, (0, 0))[0] <= FEWEST or not rows["temperature"].max() >= max(temperatures):
        dataset, rows = "cifar100", table[table["dataset"] == "cifar100"]
    rows = rows.drop_duplicates("temperature").sort_values("temperature")
    return dataset, tuple(np.interp(temperatures, rows["temperature"], rows["mean"] / SIZES[dataset][0]).tolist())


@lru_cache(maxsize=512)
def trend_power(classes: int, images: int, seeds: int, path: tuple[float, ...]) -> float:
    """Share of studies whose count rises or falls as `path` does: Kendall's tau and T, p <= 0.05. Claims 2, 3 and 12.

    images: of each class; path: shares of classes, one per temperature. The rule mixes the temperatures of a study
    within its blocks 999 times; here one mixing of every study serves all, of which each takes MIXED at random.
    """
    model, effects = _model(classes, images, seeds), np.interp(path, *_calibration(classes, images))
    found, chance = _taus(model, effects), np.abs(_taus(model, effects, mixed=True))
    mixed = np.random.default_rng(0).choice(chance, (MIXED, len(found)))
    p = (1 + (mixed >= np.abs(found) - 1e-12).sum(axis=0)) / (1 + MIXED)
    return float(((p <= LEVEL) & (found * (path[-1] - path[0]) > 0)).mean())


@lru_cache(maxsize=512)
def reversal_power(classes: int, images: int, seeds: int, sc: tuple[float, float], tc: tuple[float, float]) -> float:
    """Share of studies in which #SC falls and #TC rises from T = 10 to 40, by the jackknife over blocks. Claim 6.

    sc, tc: shares of classes at both temperatures; the two counts are drawn independently. Three seeds are the least.
    """
    model, known = _model(classes, images, seeds), _calibration(classes, images)
    pairs = zip(*(_contrasts(model, np.interp(path, *known), seed=i) for i, path in enumerate((sc, tc))), strict=True)
    both = [joint(pair, [-1, 1]) for pair in pairs]
    return float(np.mean([p <= LEVEL and toward is True for p, toward in both]))


def _taus(model: ShiftModel, effects: Sequence[float], *, mixed: bool = False) -> np.ndarray:
    """(S,) Kendall's tau of the counts, as in `class_nulls.count_trend`."""
    first, students = _studies(model, effects, mixed=mixed)
    counts = np.stack([counts_of_studies(first, arm, model.totals, "ratio") for arm in students], axis=1)
    return np.array([kendall_tau(one) for one in counts])


def _contrasts(model: ShiftModel, effects: Sequence[float], *, seed: int = 0) -> list[Tested]:
    """`on_counts.count_contrast` of each of S studies."""
    first, arms = _studies(model, effects, seed=seed)
    n, every = first.shape[1], np.arange(first.shape[1])

    def change(runs: np.ndarray) -> np.ndarray:
        return np.diff(
            [counts_of_studies(first[:, runs], arm[:, runs], model.totals, "ratio") for arm in arms], axis=0
        )[0]

    se = jackknife_error([change(np.delete(every, run)) for run in every])
    return [tested(float(value), error, n - 1) for value, error in zip(change(every), se, strict=True)]


@lru_cache(maxsize=512)
def few_power(images: int, seeds: int, temperatures: int) -> float:
    """`power_of_few` of a simulated study of ten classes. Claim 4."""
    model = _model(10, images, seeds)
    first, students = _studies(model, np.zeros(temperatures))
    runs = pd.DataFrame({"seed": range(seeds)})
    nds, *ds = (CountedArm("", "", np.nan, runs, correct[0], model.totals) for correct in (first, *students))
    return power_of_few(nds, ds)


def _model(classes: int, images: int, seeds: int) -> ShiftModel:
    """Classes as different, and seeds as far apart, as `nulls.USUAL` has them."""
    profile = special.logit(ACCURACY) + USUAL.class_sd * special.ndtri((np.arange(classes) + 0.5) / classes)
    accuracy, totals = special.expit(profile), np.full(classes, images)
    return ShiftModel(accuracy, accuracy, np.full(classes, USUAL.seed_sd(images)), totals, (seeds, seeds))


@lru_cache(maxsize=32)
def _calibration(classes: int, images: int) -> tuple[np.ndarray, np.ndarray]:
    """(shares of classes that five seeds show, the sd over seeds by which classes move for it), rising."""
    model, effects = _model(classes, images, SEEDS), np.linspace(0, 8, 33)
    first, students = _studies(model, effects)
    shares = [counts_of_studies(first, arm, model.totals, "ratio").mean() / classes for arm in students]
    return np.maximum.accumulate(shares), effects


def _studies(
    model: ShiftModel, effects: Sequence[float], *, mixed: bool = False, seed: int = 0
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Counts (S, R, C) of reference arms, and of students whose classes move by each of K effects, in sd over seeds.

    mixed: the effects change places within each block.
    """
    rng, n, classes = np.random.default_rng([seed, mixed]), model.n_seeds[0], len(model.totals)
    studies = min(STUDIES, max(50, 40_000 // classes))
    order = np.tile(effects, (studies, n, 1))
    sizes = np.moveaxis(rng.permuted(order, axis=2) if mixed else order, 2, 0)[..., None]
    center, moved = angles(model.accuracy_a), model.sd * rng.standard_normal((studies, 1, classes))
    noise = (rng.standard_normal((studies, n, classes)) for _ in range(1 + len(sizes)))
    first, *students = (drawn_counts(model, center + by * moved, next(noise)) for by in (0.0, *sizes))
    return first, students
