"""Fidelity: what a student takes from its teacher beyond accuracy, and what changes for single samples and classes.

Agreement and KL to the teacher, churn and flips against the non-distilled students (NDS), calibration, worst class and
group, gain by class, and the samples whose usual prediction differs between two arms. No torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
from scipy import special
from scipy.stats import mode

from kdlib.errors import InvalidInput
from kdlib.measure import arms
from kdlib.measure.class_counts import class_rows, require_comparable
from kdlib.measure.class_tests import welch
from kdlib.measure.group_counts import group_codes
from kdlib.predictions import Predictions, as_array, check_probabilities, real_numbers

RUN = ["run_id", "model", "seed", "temperature"]
BINS = 15  # of confidence, equal widths (Guo et al. 2017)
MOST_PARTS = 5000  # parts of the seeds that are enumerated; 14 seeds make 1716


# --- two models on the same samples ----------------------------------------------------------------------------------


def agreement(predicted_a: np.ndarray, predicted_b: np.ndarray) -> float:
    """Share of the (N,) samples that both models put in the same class, 0 .. 1; churn is 1 - agreement."""
    a, b = _of_same_samples(predicted_a, predicted_b)
    return float((a == b).mean())


def _of_same_samples(*values: np.ndarray) -> list[np.ndarray]:
    """As arrays (N,). Raises InvalidInput for other shapes: numpy would broadcast a column."""
    arrays = [as_array(one, "predictions") for one in values]
    if len({array.shape for array in arrays}) > 1 or arrays[0].ndim != 1 or not len(arrays[0]):
        shapes = " and ".join(str(array.shape) for array in arrays)
        raise InvalidInput(f"predictions of shape {shapes}; one class for each of the same samples.")
    return arrays


def flips(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """(negative, positive) flips: shares of the (N,) samples that only `before`, only `after` gets right; 0 .. 1.

    Their difference is the change in accuracy, their sum at most the churn. Yan et al. (2021), "positive-congruent".
    """
    labels, before, after = _of_same_samples(labels, before, after)
    was, now = before == labels, after == labels
    return float((was & ~now).mean()), float((~was & now).mean())


def error_consistency(correct_a: np.ndarray, correct_b: np.ndarray) -> float:
    """Cohen's kappa of whether two models are right, (N,) bool each (Geirhos et al. 2020), -1 .. 1.

    0: as two independent models with these accuracies; 1: right and wrong on the same samples. NaN if both are always
    right, or both always wrong. Raises InvalidInput for classes, which are neither right nor wrong.
    """
    correct_a, correct_b = _of_same_samples(correct_a, correct_b)
    if kinds := {str(correct.dtype) for correct in (correct_a, correct_b)} - {"bool"}:
        raise InvalidInput(f"right or wrong must be bool, not {', '.join(sorted(kinds))}: predicted == labels.")
    a, b = correct_a.mean(), correct_b.mean()
    by_chance = a * b + (1 - a) * (1 - b)
    return float(((correct_a == correct_b).mean() - by_chance) / (1 - by_chance)) if by_chance < 1 else np.nan


def kl_divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Mean over samples of KL(p || q) = sum_c p log(p / q), in nats; p, q (N, C), p the teacher's. 0: the same outputs.

    A q that underflowed to 0 counts as the smallest float32, so the value stays finite.
    """
    p, q = (real_numbers(values, "probabilities") for values in (p, q))
    if p.shape != q.shape or p.ndim != 2:
        raise InvalidInput(f"probabilities of shape {p.shape} and {q.shape}; the same (N, C) are wanted.")
    for values in (p, q):
        check_probabilities(values, p.shape, what="probabilities")
    smallest, parts = np.finfo(np.float32).tiny, 1 + p.size // 1_000_000  # double precision is large: a part at a time
    both = zip(np.array_split(p, parts), np.array_split(q, parts), strict=True)
    each = [special.rel_entr(a.astype(float), np.maximum(b.astype(float), smallest)).sum(axis=1) for a, b in both]
    return float(np.concatenate(each).mean())


def fidelity(predictions: Predictions) -> pd.DataFrame:
    """One row per student (nds, ds): how near its teacher it is, and how far from the non-distilled students.

    run_id, model, seed, temperature, accuracy; teacher_accuracy, agreement, kl (teacher to student, nats; NaN without
    probabilities): against its own teacher, for an NDS the teacher of the same seed, NaN where there is none; churn,
    negative_flips, positive_flips: means over the NDS runs as the earlier model. For an NDS itself they are over the
    other NDS runs, which is the chance level: a new seed alone makes that many changes. NaN with fewer than two NDS.
    """
    runs, labels, predicted = predictions.runs, predictions.labels, predictions.predicted
    students = np.flatnonzero(runs["model"] != "teacher")
    if not len(students):
        raise InvalidInput("only teachers among these runs; students (nds, ds) are wanted.")
    teachers, nds = arms.own_teachers(runs), np.flatnonzero(runs["model"] == "nds")
    kl, rows = _kl_to_teachers(predictions, teachers), []
    for run in students:
        changes = [
            (1 - agreement(predicted[other], predicted[run]), *flips(labels, predicted[other], predicted[run]))
            for other in nds
            if other != run
        ] or [(np.nan,) * 3]
        near, teacher = (np.nan, np.nan), teachers[run]
        if teacher >= 0:
            near = predictions.accuracy[teacher], agreement(predicted[teacher], predicted[run])
        rows.append([*near, kl[run], *np.mean(changes, axis=0)])
    frame = runs.iloc[students][RUN].reset_index(drop=True).assign(accuracy=predictions.accuracy[students])
    columns = ["teacher_accuracy", "agreement", "kl", "churn", "negative_flips", "positive_flips"]
    return frame.join(pd.DataFrame(rows, columns=columns))


def _kl_to_teachers(predictions: Predictions, teachers: np.ndarray) -> np.ndarray:
    """(R,) nats, NaN without a teacher; without probabilities what was released with the runs, where that is."""
    p, found = predictions.probabilities, np.full(len(teachers), np.nan)
    if p is None:
        return np.where(teachers < 0, np.nan, predictions.runs["kl"]) if "kl" in predictions.runs else found
    for teacher in {*teachers[teachers >= 0].tolist()}:
        outputs = p[teacher]  # read once for all of its students
        for run in np.flatnonzero(teachers == teacher):
            found[run] = kl_divergence(outputs, p[run])
    return found


# --- calibration -----------------------------------------------------------------------------------------------------


def calibration(predictions: Predictions) -> np.ndarray:
    """(R,) expected calibration error of every run, 0 .. 1. Raises InvalidInput for predictions without confidence."""
    sure = confidences(predictions)
    if sure is None:
        raise InvalidInput(
            "these predictions have classes alone; calibration needs probabilities (columns prob_* or logit_*)."
        )
    return np.array([calibration_error(*run) for run in zip(sure, predictions.correct, strict=True)])


def confidences(predictions: Predictions) -> Iterable[np.ndarray] | None:
    """(N,) largest probabilities of every run, read run by run; None for predictions with classes alone."""
    if predictions.probabilities is None:
        return predictions.confidence
    return (run.max(axis=1) for run in predictions.probabilities)


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """ECE (Guo et al. 2017): the mean distance of confidence and accuracy over 15 bins of confidence; 0 .. 1.

    confidence (N,) largest probabilities, right (N,) bool. Of a part of the samples by group or by predicted class, not
    by true class: among images of a hard class even a calibrated model is overconfident. Compare parts of equal N only.
    """
    confidence = confidence.astype(float)
    bins = np.clip(np.ceil(confidence * BINS).astype(np.intp) - 1, 0, BINS - 1)
    sure, hits = (np.bincount(bins, weights, minlength=BINS) for weights in (confidence, right))
    return float(np.abs(hits - sure).sum() / len(bins))


def scalars(predictions: Predictions) -> dict[str, dict[str, float]]:
    """{run_id: {'ece', and of students 'agreement' and 'kl'}}, to be kept with a run.

    ece and kl need every probability; agreement tells that released classes are those of their run.
    """
    ece = calibration(predictions)
    values = {run_id: {"ece": value} for run_id, value in zip(predictions.runs["run_id"], ece, strict=True)}
    if (predictions.runs["model"] != "teacher").any():
        for row in fidelity(predictions).dropna(subset="kl").itertuples():
            values[row.run_id] |= {"agreement": row.agreement, "kl": row.kl}
    return values


# --- worst class and group, gain by class ----------------------------------------------------------------------------


def worst(predictions: Predictions, *, sensitive: str | None = None) -> pd.DataFrame:
    """One row per run: run_id, model, seed, temperature, accuracy, worst_class, worst_class_accuracy, and with
    `sensitive` worst_group, worst_group_accuracy; 0 .. 1.

    The smallest of many noisy accuracies is too low on average: compare arms, not the value with the mean.
    """
    frame = predictions.runs[RUN].reset_index(drop=True).assign(accuracy=predictions.accuracy)
    parts = {"class": (predictions.labels, predictions.class_names)}
    if sensitive is not None:
        parts["group"] = group_codes(predictions, sensitive)
    for part, (codes, names) in parts.items():
        accuracy = _accuracy_by(predictions, codes, len(names))
        lowest = np.nanargmin(accuracy, axis=1)
        frame[f"worst_{part}"] = np.array(names, object)[lowest]
        frame[f"worst_{part}_accuracy"] = accuracy[np.arange(len(accuracy)), lowest]
    return frame


def _accuracy_by(predictions: Predictions, codes: np.ndarray, n_parts: int) -> np.ndarray:
    """(R, n_parts), NaN for a part without samples."""
    n = np.bincount(codes, minlength=n_parts)
    right = np.stack([np.bincount(codes[row], minlength=n_parts) for row in predictions.correct])
    return right / np.where(n > 0, n, np.nan)


def class_gain(predictions: Predictions) -> pd.DataFrame:
    """Accuracy of the distilled students minus that of the NDS by class, with Welch's 95 % interval over seeds.

    One row per temperature and class: class_index, class_name, gain, low, high (fractions), temperature. The intervals
    are for one class each: with many classes some miss 0 by chance (see class_bias for tests).
    """
    accuracy = _accuracy_by(predictions, predictions.labels, predictions.n_classes)
    nds, students = arms.nds_and_students(predictions.runs)
    frames = []
    for arm in students:
        gain, se, df = welch(accuracy[nds.rows], accuracy[arm.rows])
        half = special.stdtrit(df, 0.975) * se
        rows = class_rows(predictions.class_names, gain=gain, low=gain - half, high=gain + half)
        frames.append(rows.assign(temperature=arm.temperature))
    return pd.concat(frames, ignore_index=True)


# --- samples whose usual prediction differs --------------------------------------------------------------------------


def changed_samples(predictions: Predictions) -> pd.DataFrame:
    """How many samples the students' seeds usually put elsewhere than the NDS', beside a null from the NDS alone.

    A sample has changed if no class is a most frequent one in both arms, so a tie counts as unchanged. One row per
    temperature: temperature, and shares of the samples:
    matched              between equal numbers of seeds: one part of the NDS, and as many students as the other part has
    null_mean, null_high mean and 95th percentile between the two parts of the NDS, over all ways to part them (5 seeds:
                         10 ways, 2 against 3; 10 seeds: 126)
    `matched` well above `null_high` is more change than a new draw of seeds makes.
    Raises InvalidInput without NDS or DS, and for too few or too many seeds.
    """
    nds, students = arms.nds_and_students(predictions.runs)
    classes = predictions.predicted
    rows = [{"temperature": arm.temperature} | _changed(classes[nds.rows], classes[arm.rows]) for arm in students]
    return pd.DataFrame(rows)


def _changed(nds: np.ndarray, students: np.ndarray) -> dict[str, float]:
    """matched, null_mean and null_high, from the predicted classes (R, N) of both arms."""
    n = len(nds)
    take = n - n // 2
    if len(students) < take:
        raise InvalidInput(f"ds has {len(students)} seeds, the larger part of {n} nds has {take}. Take fewer nds.")
    classes, null, matched = np.concatenate([nds, students]), [], []
    same = classes[:, None] == classes
    parts = [_usual(same, np.add(rows, n)) for rows in _subsets(len(students), take)]
    for rows in _halves_of(n):
        first, rest = _usual(same, [*rows]), _usual(same, np.delete(np.arange(n), rows))
        null.append(_share_apart(first, rest))
        matched.append(np.mean([_share_apart(first, part) for part in parts]))
    return {"matched": np.mean(matched), "null_mean": np.mean(null), "null_high": np.quantile(null, 0.95)}


def _usual(same: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(R / 8, N) uint8: the runs whose class is a most frequent one among those of `rows`, a bit each.

    same (R, R, N): whether two runs predict the same class.
    """
    votes = same[:, rows].sum(axis=1, dtype=np.uint8)
    return np.packbits(votes == votes[rows].max(axis=0), axis=0)


def _share_apart(usual_a: np.ndarray, usual_b: np.ndarray) -> float:
    return float((~(usual_a & usual_b).any(axis=0)).mean())


def _halves_of(n: int) -> list[tuple[int, ...]]:
    """Every way to part n seeds into n // 2 and the rest; of two equal halves one way each."""
    ways = _subsets(n, n // 2)
    return [rows for rows in ways if n % 2 or 0 in rows]


def _subsets(n: int, size: int) -> list[tuple[int, ...]]:
    if comb(n, size) > MOST_PARTS:
        raise InvalidInput(
            f"{n} seeds have {comb(n, size)} parts of {size}; at most {MOST_PARTS} are enumerated. Take fewer seeds."
        )
    return list(combinations(range(n), size))


def changed(a: Predictions, b: Predictions) -> pd.DataFrame:
    """The samples that b's runs usually put into another class than a's, those first on which the runs agree most.

    a, b: one arm each, of any numbers of seeds. One row per changed sample: sample_id, label, before and after (the
    most frequent class of each arm, of equally frequent ones the first), share_before and share_after (of its runs,
    0 .. 1). How many change by chance alone says `changed_samples`.
    Raises InvalidInput for other classes or samples.
    """
    order, names = require_comparable(a, b), np.array(a.class_names, object)
    (usual_a, votes_a), (usual_b, votes_b) = (mode(p.predicted, axis=0) for p in (a, b))
    usual_b, votes_b = usual_b[order], votes_b[order]
    share_a, share_b = votes_a / len(a.runs), votes_b / len(b.runs)
    at = np.flatnonzero(usual_a != usual_b)
    at = at[np.argsort(-(share_a * share_b)[at], kind="stable")]
    return pd.DataFrame(
        {
            "sample_id": a.sample_ids[at],
            "label": names[a.labels[at]],
            "before": names[usual_a[at]],
            "share_before": share_a[at],
            "after": names[usual_b[at]],
            "share_after": share_b[at],
        }
    )
