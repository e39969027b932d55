"""Arms as class tests need them: how many test images of each class every run gets right, and what must hold of them.

This module raises the refusals (one seed, one run posing as two, other classes or samples) and the warnings (few
seeds, one teacher for all). No torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdlib.errors import InvalidInput, caution, require_known
from kdlib.measure.arms import Arm, arm_rows, check_seeds
from kdlib.predictions import Predictions


@dataclass(frozen=True, eq=False)
class CountedArm:
    """What the tests need of the R runs of one arm, in order of seed.

    runs (R rows: run_id, seed, teacher_id), correct (R, C) int, totals (C,) test images of each class.
    """

    name: str
    model: str
    temperature: float
    runs: pd.DataFrame
    correct: np.ndarray
    totals: np.ndarray

    @property
    def seeds(self) -> np.ndarray:
        return self.runs["seed"].to_numpy()

    def of_seeds(self, seeds: Iterable[int]) -> CountedArm:
        """The runs of these seeds alone, in order of seed."""
        keep = np.isin(self.seeds, list(seeds))
        return replace(self, runs=self.runs[keep], correct=self.correct[keep])

    def tested(self) -> CountedArm:
        """Without the classes that have no test images."""
        return replace(self, correct=self.correct[:, self.totals > 0], totals=self.totals[self.totals > 0])


def correct_by_class(predictions: Predictions) -> np.ndarray:
    """(R, C) int: how many test images of each class each run gets right."""
    return np.stack(
        [np.bincount(predictions.labels[right], minlength=predictions.n_classes) for right in predictions.correct]
    )


def class_totals(predictions: Predictions) -> np.ndarray:
    """(C,) int: the test images of each class; 0 for a class without any."""
    return np.bincount(predictions.labels, minlength=predictions.n_classes)


def class_rows(class_names: tuple[str, ...], **columns: np.ndarray) -> pd.DataFrame:
    """One row per class: class_index, class_name, and these columns (C,)."""
    names = np.array(class_names, object)
    return pd.DataFrame({"class_index": np.arange(len(names)), "class_name": names, **columns})


def counted_arms(predictions: Predictions) -> list[CountedArm]:
    """The arms of a table in the order teacher, nds, ds by temperature, then others.

    Raises InvalidInput for a seed that stands twice in an arm, and for runs of one arm with identical predictions.
    """
    correct, totals = correct_by_class(predictions), class_totals(predictions)
    runs = predictions.runs[["run_id", "seed", "teacher_id"]]
    found = arm_rows(predictions.runs)
    for arm in found:
        _refuse_identical_runs(predictions, arm)
    return [CountedArm(a.name, a.model, a.temperature, runs.iloc[a.rows], correct[a.rows], totals) for a in found]


def _refuse_identical_runs(predictions: Predictions, arm: Arm) -> None:
    """What Predictions warns of is no second seed. Where it has probabilities it has told the runs apart."""
    for pair in predictions.repeats(arm.rows) if predictions.probabilities is None else ():
        if not predictions.correct[pair[0]].all():  # runs without an error carry no information
            raise InvalidInput(
                f"runs {' and '.join(predictions.runs['run_id'].iloc[list(pair)])} of arm {arm.name} have identical "
                "predictions on all samples: one run cannot stand for two seeds. Remove one of them."
            )


def one_arm(predictions: Predictions, place: str) -> CountedArm:
    """The only arm of a table. Raises InvalidInput if there are several."""
    found = counted_arms(predictions)
    if len(found) != 1:
        raise InvalidInput(
            f"{place} holds the arms {', '.join(arm.name for arm in found) or 'none'}; one is wanted. "
            'Choose it: predictions.arm(model="ds", temperature=4.0).'
        )
    return found[0]


def check_arms(compared: Iterable[CountedArm]) -> None:
    """Raise InvalidInput for an arm of fewer than two seeds; warn of two to four, and of one teacher for all seeds."""
    compared = list(compared)
    check_seeds({arm.name: len(arm.seeds) for arm in compared})
    teachers = {arm.name: arm.runs["teacher_id"] for arm in compared}
    copied = [name for name, ids in teachers.items() if ids.notna().all() and ids.nunique() == 1]
    if copied:
        caution(
            f"one teacher for all seeds of {', '.join(copied)}: pseudo-replication. Its students share its "
            "idiosyncrasies, which alone make classes 'significant'; the unit is the teacher, of which there "
            "is one."
        )
    empty = np.flatnonzero(compared[0].totals == 0)
    if len(empty):
        caution(f"classes without test images are not tested: {', '.join(map(str, empty))}.")


def require_comparable(a: Predictions, b: Predictions) -> np.ndarray:
    """(N,) positions in `b` of the samples of `a`. Raises InvalidInput for other classes, samples or labels."""
    if a.class_names != b.class_names:
        names = enumerate(zip(a.class_names, b.class_names, strict=False))
        apart = (f"class {i} is {x!r} in a and {y!r} in b" for i, (x, y) in names if x != y)
        same = sorted(a.class_names) == sorted(b.class_names)
        raise InvalidInput(
            f"a and b have {'the same classes in another order' if same else 'other classes'}: "
            f"{next(apart, f'{len(a.class_names)} and {len(b.class_names)} of them')}. Map the labels of both to one "
            "list of class names first."
        )
    if np.array_equal(a.sample_ids, b.sample_ids):  # millions of ids take a minute to look up
        positions = np.arange(len(a.labels))
    elif len(alone := np.setxor1d(a.sample_ids, b.sample_ids)):
        raise InvalidInput(
            f"{len(alone)} samples are in a or b alone, such as {str(alone[0])!r}. Keep those that both have."
        )
    else:
        positions = pd.Index(b.sample_ids).get_indexer(a.sample_ids)
    other = np.flatnonzero(a.labels != b.labels[positions])
    if len(other):
        raise InvalidInput(
            f"sample {a.sample_ids[other[0]]!r} has label {a.labels[other[0]]} in a and "
            f"{b.labels[positions][other[0]]} in b: these are not the same test set."
        )
    return positions


class StudyArms(NamedTuple):
    """nds, the students' own teachers, teachers of no student (None where there are none), ds arms by temperature."""

    nds: CountedArm | None
    own: CountedArm | None
    fresh: CountedArm | None
    students: list[CountedArm]

    def references(self) -> dict[str, CountedArm | None]:
        """By the names that `against` has."""
        return {"nds": self.nds, "teacher": self.own, "fresh teacher": self.fresh}


def study_arms(predictions: Predictions) -> StudyArms:
    """The arms that the paper compares. Own teachers are known by the students' teacher_id, else by their seed."""
    found = {arm.name: arm for arm in counted_arms(predictions)}
    students = [arm for arm in found.values() if arm.model == "ds"]
    own, fresh = _split_teachers(found.get("teacher"), students)
    return StudyArms(found.get("nds"), own, fresh, students)


def _split_teachers(
    teachers: CountedArm | None, students: list[CountedArm]
) -> tuple[CountedArm | None, CountedArm | None]:
    if teachers is None or not students:
        return teachers, None
    own = teachers.runs["run_id"].isin(pd.concat([arm.runs["teacher_id"] for arm in students]).dropna()).to_numpy()
    if not own.any():
        own = np.isin(teachers.seeds, np.concatenate([arm.seeds for arm in students]))
    fresh = replace(teachers, name="fresh teacher").of_seeds(teachers.seeds[~own])
    return (teachers.of_seeds(teachers.seeds[own]) if own.any() else None), (fresh if len(fresh.seeds) else None)


def compared_arms(predictions: Predictions, *against: str) -> tuple[list[CountedArm], list[CountedArm]]:
    """(reference arms, ds arms), checked: 'nds', 'teacher' (the students' own) or 'fresh teacher' (of no student).

    Raises InvalidInput for another name, or if one is missing.
    """
    arms = study_arms(predictions)
    found, students = arms.references(), arms.students
    for name in against:
        require_known("reference", name, found, place="against")
    missing = [name for name in against if found[name] is None] + ["ds"] * (not students)
    if missing:
        remedy = " Set fresh_teachers in the study and train them." if "fresh teacher" in missing else ""
        raise InvalidInput(f"there is no run of {', '.join(missing)} to compare.{remedy}")
    references = [found[name] for name in against]
    check_arms([*references, *students])
    return references, students


def complete_blocks(students: list[CountedArm]) -> list[CountedArm]:
    """The ds arms with the seeds that all of them have. Raises InvalidInput for fewer than two arms or common seeds."""
    common = set.intersection(*(set(arm.seeds) for arm in students)) if students else set()
    if len(students) < 2 or len(common) < 2:
        raise InvalidInput(
            f"{len(students)} temperatures with {len(common)} seeds that all of them have: two or more "
            "of both are needed."
        )
    return [arm.of_seeds(common) for arm in students]


def two_arms(a: Predictions, b: Predictions) -> tuple[CountedArm, CountedArm]:
    """The arms of a and b, checked as `significant_classes` says."""
    require_comparable(a, b)
    arm_a, arm_b = one_arm(a, "a"), one_arm(b, "b")
    shared = {*arm_a.runs["run_id"]} & {*arm_b.runs["run_id"]}
    if shared:
        raise InvalidInput(f"run {sorted(shared)[0]} stands in both a and b: an arm cannot be compared with itself.")
    check_arms([arm_a, arm_b])
    return arm_a, arm_b
