"""Arms as class tests need them: how many test images of each class every run gets right, and what must hold of them.

This module raises the refusals (one seed, one run posing as two, other classes or samples) and the warnings (few
seeds, one teacher for all). No torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdlib.errors import InvalidInput, KdlibWarning, unknown
from kdlib.measure.arms import ArmRows, arm_rows, check_seeds
from kdlib.predictions import Predictions


@dataclass(frozen=True, eq=False)
class Arm:
    """What the tests need of the R runs of one model at one temperature, in order of seed.

    correct (R, C) int, totals (C,) test images of each class, seeds (R,), run_ids and teacher_ids of length R.
    """

    name: str
    model: str
    temperature: float
    seeds: np.ndarray
    correct: np.ndarray
    totals: np.ndarray
    run_ids: tuple[str, ...]
    teacher_ids: tuple[str | None, ...]

    def of_seeds(self, seeds: Iterable[int]) -> Arm:
        """The runs of these seeds alone, in order of seed."""
        keep = np.flatnonzero(np.isin(self.seeds, list(seeds)))
        return replace(
            self,
            seeds=self.seeds[keep],
            correct=self.correct[keep],
            run_ids=tuple(self.run_ids[i] for i in keep),
            teacher_ids=tuple(self.teacher_ids[i] for i in keep),
        )

    def tested(self) -> Arm:
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


def arms(predictions: Predictions) -> list[Arm]:
    """The arms of a table in the order teacher, nds, ds by temperature, then others.

    Raises InvalidInput for a seed that stands twice in an arm, and for runs of one arm with identical predictions.
    """
    correct, totals = correct_by_class(predictions), class_totals(predictions)
    found = arm_rows(predictions.runs)
    for arm in found:
        _refuse_identical_runs(predictions, arm)
    return [
        Arm(
            a.name,
            a.model,
            a.temperature,
            predictions.runs["seed"].to_numpy()[a.rows],
            correct[a.rows],
            totals,
            tuple(predictions.runs["run_id"].iloc[a.rows]),
            tuple(_none_if_missing(t) for t in predictions.runs["teacher_id"].iloc[a.rows]),
        )
        for a in found
    ]


def _none_if_missing(value: object) -> str | None:
    return None if pd.isna(value) else str(value)


def _refuse_identical_runs(predictions: Predictions, arm: ArmRows) -> None:
    """Where probabilities exist Predictions has compared them; runs that make no error carry no information."""
    if predictions.probabilities is not None:
        return
    seen: dict[bytes, int] = {}
    for row in arm.rows:
        first = seen.setdefault(predictions.predicted[row].tobytes(), row)
        if first != row and not predictions.correct[row].all():
            pair = " and ".join(str(predictions.runs["run_id"].iloc[i]) for i in (first, row))
            raise InvalidInput(
                f"runs {pair} of arm {arm.name} have identical predictions on all samples: one run "
                "cannot stand for two seeds. Remove one of them."
            )


def one_arm(predictions: Predictions, place: str) -> Arm:
    """The only arm of a table. Raises InvalidInput if there are several."""
    found = arms(predictions)
    if len(found) != 1:
        raise InvalidInput(
            f"{place} holds the arms {', '.join(arm.name for arm in found) or 'none'}; one is wanted. "
            'Choose it: predictions.arm(model="ds", temperature=4.0).'
        )
    return found[0]


def check_arms(compared: Iterable[Arm]) -> None:
    """Raise InvalidInput for an arm of fewer than two seeds; warn of two to four, and of one teacher for all seeds."""
    compared = list(compared)
    check_seeds({arm.name: len(arm.seeds) for arm in compared})
    copied = [arm.name for arm in compared if arm.teacher_ids[0] is not None and len(set(arm.teacher_ids)) == 1]
    if copied:
        warnings.warn(
            f"one teacher for all seeds of {', '.join(copied)}: pseudo-replication. Its students share its "
            "idiosyncrasies, which alone make classes 'significant'; the unit is the teacher, of which there "
            "is one.",
            KdlibWarning,
            stacklevel=3,
        )
    empty = np.flatnonzero(compared[0].totals == 0)
    if len(empty):
        warnings.warn(
            f"classes without test images are not tested: {', '.join(map(str, empty))}.", KdlibWarning, stacklevel=3
        )


def require_comparable(a: Predictions, b: Predictions) -> np.ndarray:
    """(N,) positions in `b` of the samples of `a`. Raises InvalidInput for other classes, samples or labels."""
    if a.class_names != b.class_names:
        same = sorted(a.class_names) == sorted(b.class_names)
        raise InvalidInput(
            f"a and b have {'the same classes in another order' if same else 'other classes'}: "
            f"{_first_difference(a.class_names, b.class_names)}. Map the labels of both to one list of "
            "class names first."
        )
    order_a, order_b = np.argsort(a.sample_ids), np.argsort(b.sample_ids)
    if not np.array_equal(a.sample_ids[order_a], b.sample_ids[order_b]):
        raise InvalidInput(
            f"a and b were tested on other samples ({len(a.labels)} and {len(b.labels)}). Keep those that both have."
        )
    positions = np.empty(len(order_a), int)
    positions[order_a] = order_b
    other = np.flatnonzero(a.labels != b.labels[positions])
    if len(other):
        raise InvalidInput(
            f"sample {a.sample_ids[other[0]]!r} has label {a.labels[other[0]]} in a and "
            f"{b.labels[positions][other[0]]} in b: these are not the same test set."
        )
    return positions


def _first_difference(a: tuple[str, ...], b: tuple[str, ...]) -> str:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return f"class {i} is {x!r} in a and {y!r} in b"
    return f"{len(a)} and {len(b)} of them"


class StudyArms(NamedTuple):
    """nds, the students' own teachers, teachers of no student (None where there are none), ds arms by temperature."""

    nds: Arm | None
    own: Arm | None
    fresh: Arm | None
    students: list[Arm]


def study_arms(predictions: Predictions) -> StudyArms:
    """The arms that the paper compares. Own teachers are known by the students' teacher_id, else by their seed."""
    found = {arm.name: arm for arm in arms(predictions)}
    students = [arm for arm in found.values() if arm.model == "ds"]
    own, fresh = _split_teachers(found.get("teacher"), students)
    return StudyArms(found.get("nds"), own, fresh, students)


def _split_teachers(teachers: Arm | None, students: list[Arm]) -> tuple[Arm | None, Arm | None]:
    if teachers is None or not students:
        return teachers, None
    own = np.isin(teachers.run_ids, [t for arm in students for t in arm.teacher_ids if t is not None])
    if not own.any():
        own = np.isin(teachers.seeds, np.concatenate([arm.seeds for arm in students]))
    fresh = replace(teachers, name="fresh teacher").of_seeds(teachers.seeds[~own])
    return (teachers.of_seeds(teachers.seeds[own]) if own.any() else None), (fresh if len(fresh.seeds) else None)


def compared_arms(predictions: Predictions, *against: str) -> tuple[list[Arm], list[Arm]]:
    """(reference arms, ds arms), checked: 'nds', 'teacher' (the students' own) or 'fresh teacher' (of no student).

    Raises InvalidInput for another name, or if one is missing.
    """
    nds, own, fresh, students = study_arms(predictions)
    found = {"nds": nds, "teacher": own, "fresh teacher": fresh}
    for name in against:
        if name not in found:
            raise unknown("reference", name, found, place="against")
    missing = [name for name in against if found[name] is None] + ["ds"] * (not students)
    if missing:
        remedy = " Set fresh_teachers in the study and train them." if "fresh teacher" in missing else ""
        raise InvalidInput(f"there is no run of {', '.join(missing)} to compare.{remedy}")
    references = [found[name] for name in against]
    check_arms([*references, *students])
    return references, students


def complete_blocks(students: list[Arm]) -> list[Arm]:
    """The ds arms with the seeds that all of them have. Raises InvalidInput for fewer than two arms or common seeds."""
    common = set.intersection(*(set(arm.seeds) for arm in students)) if students else set()
    if len(students) < 2 or len(common) < 2:
        raise InvalidInput(
            f"{len(students)} temperatures with {len(common)} seeds that all of them have: two or more "
            "of both are needed."
        )
    return [arm.of_seeds(common) for arm in students]


def two_arms(a: Predictions, b: Predictions) -> tuple[Arm, Arm]:
    """The arms of a and b, checked as `significant_classes` says."""
    require_comparable(a, b)
    arm_a, arm_b = one_arm(a, "a"), one_arm(b, "b")
    shared = set(arm_a.run_ids) & set(arm_b.run_ids)
    if shared:
        raise InvalidInput(f"run {sorted(shared)[0]} stands in both a and b: an arm cannot be compared with itself.")
    check_arms([arm_a, arm_b])
    return arm_a, arm_b
