"""Worlds: predictions that are drawn from a known truth instead of trained, so that the right answer is known.

A run gets an image of class c right where its log odds of c exceed logit(u). u is even in 0 .. 1; behind it stand the
difficulty of the image, which all runs share, and the run's own chance: runs agree more than by chance. The log odds
are those of the class, the noise of the run's seed, and what the world says:

nothing                       teacher, NDS and DS are alike but for their seeds
a uniform shift               the teacher has SHIFT more in every class, DS at T the share `reach` of it
a fifth of the classes moved  of ten classes one moves up by MOVED times reach in DS, one down; not in the teacher
an inherited profile          the teacher has a profile of classes of its own, of mean 0, DS the share reach of it;
                              noise and chance of DS correlate with its own teacher's by ALIKE times reach
one group harmed              in the last group class 1 has HARM less; in DS the share 1 - reach of that

Every run draws from its own stream, `Run.rng`; the truth of a study hangs on the options of its data alone. Nothing is
stored. No torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy import special

from kdlib.catalogue import WORLDS
from kdlib.studies import Run, Study

MEAN, CLASS_SD, SEED_SD = 0.9, 0.6, 0.15  # log odds of the classes, and the noise of a seed in each class
SHIFT, MOVED, PROFILE_SD, HARM = 0.5, 0.8, 0.5, 1.0  # log odds; an accuracy moves by a quarter of these at most
SHARED, ALIKE = 0.6, 0.7  # of the variance behind u by images; a student's correlation with its own teacher
TEMPTING = 0.5  # of an image's wrong answers are one and the same class
TWIN_SD = 0.2  # log odds by which a twin differs for no reason


class Truth(NamedTuple):
    """Of N images of C classes: the arrays that all runs have (`draw`), difficulty and tempting class of each image.

    In log odds: classes (C,); teacher, moved (C,): what the teacher has more, and DS at reach 1; harm (N,): what is
    lost, of the image and of its twin. alike: a student's correlation with its own teacher at reach 1.
    """

    arrays: dict[str, np.ndarray]
    difficulty: np.ndarray
    tempting: np.ndarray
    classes: np.ndarray
    teacher: np.ndarray
    moved: np.ndarray
    harm: tuple[np.ndarray, np.ndarray]
    alike: float


def draw(study: Study) -> list[tuple[Run, Callable[[], dict[str, np.ndarray]], dict[str, float]]]:
    """The runs of a simulated study as `collect` reads others: (run, what draws its arrays, {}).

    arrays: labels, sample_ids, class_names, predicted (N,); with groups 'group:group'; with groups and two classes also
    logits (N, 2) and 'twin:group', the logits of the same image in the next group.
    """
    truth = truth_of(**study.data)
    return [(run, partial(_arrays, truth, run), {}) for run in study.runs()]


def truth_of(*, world: str, classes: int, images: int, groups: int, seed: int) -> Truth:
    """What is true of a study with these options of the data set 'simulated'; images: of each class."""
    rng = np.random.default_rng([seed, WORLDS.index(world), classes, images, groups])
    labels, names = np.repeat(np.arange(classes), images), np.array([f"class {c}" for c in range(classes)])
    arrays = {"labels": labels, "class_names": names, "sample_ids": np.arange(len(labels)).astype(str)}
    in_last = rng.random(len(labels)) < np.where(labels == 1, 0.3, 0.5)  # the last group has fewer of class 1
    group = np.where(in_last, groups - 1, rng.integers(0, max(groups - 1, 1), len(labels)))
    arrays |= {"group:group": np.array([f"group {g}" for g in range(groups)])[group]} if groups else {}
    profile, moved = rng.normal(0, PROFILE_SD, classes), rng.permutation(np.resize([1, -1, *[0] * 8], classes))
    own = {"a uniform shift": SHIFT + 0 * profile, "an inherited profile": profile - profile.mean()}
    teacher = own.get(world, 0 * profile)
    harm = HARM * (world == "one group harmed") * (labels == 1)
    return Truth(
        arrays,
        difficulty=rng.standard_normal(len(labels)),
        tempting=(labels + rng.integers(1, classes, len(labels))) % classes,
        classes=rng.normal(MEAN, CLASS_SD, classes),
        teacher=teacher,
        moved=MOVED * moved if world == "a fifth of the classes moved" else teacher,
        harm=(harm * (group == groups - 1), harm * (group == groups - 2)),
        alike=ALIKE * (world == "an inherited profile"),
    )


def reach(run: Run) -> float:
    """How much a student has of what its world says: 0 at T = 1, 1 at T = 10 and less beyond; 0 without a teacher."""
    return 0.0 if run.temperature is None else max(0.0, 1 - abs(np.log10(run.temperature / 10)))


def _arrays(truth: Truth, run: Run) -> dict[str, np.ndarray]:
    labels, n_classes, share = truth.arrays["labels"], len(truth.classes), reach(run)
    rng, own, alike = run.rng(), (run.teacher or run).rng(), truth.alike * share
    by_class, by_image = (
        alike * own.standard_normal(n) + np.sqrt(1 - alike**2) * rng.standard_normal(n)
        for n in (n_classes, len(labels))
    )
    odds = truth.classes + (truth.teacher if run.role == "teacher" else share * truth.moved) + SEED_SD * by_class
    u = special.ndtr(np.sqrt(SHARED) * truth.difficulty + np.sqrt(1 - SHARED) * by_image)
    margin, twin = (odds[labels] - special.logit(u) - (1 - share) * harm for harm in truth.harm)
    other = (labels + rng.integers(1, n_classes, len(labels))) % n_classes
    wrong = np.where(rng.random(len(labels)) < TEMPTING, truth.tempting, other)
    arrays = truth.arrays | {"predicted": np.where(margin > 0, labels, wrong)}
    if n_classes > 2 or "group:group" not in arrays:
        return arrays
    sign = np.where(np.arange(2) == labels[:, None], 0.5, -0.5)
    twin = twin + rng.normal(0, TWIN_SD, len(labels))
    return arrays | {"logits": sign * margin[:, None], "twin:group": sign * twin[:, None]}
