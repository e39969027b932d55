"""Studies in which one of the paper's claims is true, false the other way, or nothing is there for a rule to find."""

from dataclasses import replace

import numpy as np

from kdlib.claims.board import verdict
from kdlib.predictions import Predictions
from tests.simulated import drawn_counts, drawn_per_image, from_counts_of_arms, runs_table

TO_TEN = tuple(range(2, 11))


def word(finding):
    """The verdict of a claim that is tested alone."""
    return verdict(finding, finding.p)


def signs(n_classes):
    """(C,) -1 and +1 in turn: a change of single classes that leaves the overall accuracy alone."""
    return np.where(np.arange(n_classes) % 2, 1.0, -1.0)


def classes(
    change=lambda t: 0.0, *, teacher=0.0, seed=0, temperatures=TO_TEN, n_classes=100, total=100, fresh=0, nds=0.0
):
    """Five seeds; the true accuracy of DS at T is that of NDS plus change(T), (C,) or a number; so for the teacher."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.55, 0.85, n_classes)

    def draw(by, n=5):
        return drawn_counts(rng, np.clip(truth + by, 0, 1), total=total, n_runs=n, sd=0.01)

    blocks = {("teacher", None): draw(teacher, 5 + fresh), ("nds", None): draw(nds)}
    return from_counts_of_arms(blocks | {("ds", t): draw(change(t)) for t in temperatures}, total=total)


def changed_classes(share, *, n_classes, total, seed=0):
    """An own coin for every image; a random share of the classes moves by 12 points between NDS and DS, at every T."""
    rng = np.random.default_rng(seed)
    moved = np.where(rng.random(n_classes) < share, 0.12 * signs(n_classes), 0.0)
    truth = rng.uniform(0.55, 0.85, n_classes)
    arms = [("teacher", None, range(5)), ("nds", None, range(5)), *[("ds", t, range(5)) for t in TO_TEN]]
    accuracy = [truth + moved * (model == "ds") + rng.normal(0, 0.01, (5, n_classes)) for model, _, _ in arms]
    return drawn_per_image(rng, np.clip(np.vstack(accuracy), 0, 1), total=total, arms=arms)


def growing_alike(seed=0, *, n_classes=100, total=400, sd=0.06):
    """No class differs between any two arms, but a student's deviations grow alike to its own teacher's with T."""
    rng = np.random.default_rng(seed)
    truth, own = rng.uniform(0.5, 0.9, n_classes), rng.normal(0, sd, (5, n_classes))

    def run(deviation):
        return rng.binomial(total, np.clip(truth + deviation, 0, 1))

    def alike(r):
        return run(r * own + np.sqrt(1 - r**2) * rng.normal(0, sd, own.shape))

    blocks = {("teacher", None): np.vstack([run(own), run(rng.normal(0, sd, own.shape))]), ("nds", None): alike(0.0)}
    return from_counts_of_arms(blocks | {("ds", t): alike(0.1 * t - 0.05) for t in TO_TEN}, total=total)


def with_teacher_ids(p):
    """Students whose teacher_id is the run_id of the teacher of their seed, as in trained studies."""
    ids = dict(zip(p.runs["seed"][p.runs["model"] == "teacher"], p.runs["run_id"], strict=False))
    students = p.runs["model"] == "ds"
    return replace(p, runs=p.runs.assign(teacher_id=p.runs["seed"].map(ids).where(students, None)))


def copying(share, *, accuracy=lambda t: 0.8, seed=0, n=2000, n_classes=10, temperatures=(9,)):
    """DS at T gives its teacher's answer on a share(T) of the images, else its own, right with probability accuracy(T).

    T is None for NDS, which shares nothing with the teacher of its seed: it gives the answer that all teachers mostly
    have in common.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    runs = runs_table(
        [("teacher", None, range(5)), ("nds", None, range(5)), *[("ds", t, range(5)) for t in temperatures]]
    )

    def own(right):
        return np.where(rng.random(n) < right, labels, (labels + rng.integers(1, n_classes, n)) % n_classes)

    common = own(0.85)
    teachers = [np.where(rng.random(n) < 0.9, common, own(0.85)) for _ in range(5)]
    predicted = []
    for run in runs.itertuples():
        t = None if np.isnan(run.temperature) else run.temperature
        copied = rng.random(n) < share(t)
        answer = np.where(copied, common if t is None else teachers[run.seed], own(accuracy(t)))
        predicted.append(teachers[run.seed] if run.model == "teacher" else answer)
    p = Predictions(runs, np.array(predicted), labels, np.arange(n).astype(str), tuple("abcdefghij"[:n_classes]))
    return with_teacher_ids(p)


def grouped(
    gap,
    *,
    nds=0.2,
    teacher=0.1,
    right=lambda t: 0.9,
    seed=0,
    n=4000,
    temperatures=(1, *TO_TEN),
    seed_sd=0.0,
    n_groups=2,
    one_in=2,
):
    """Two classes, groups of equal size; the last one's rate of right positives is lower by gap(T).

    right: rate of right answers at T (None for NDS and teacher), so that errors can change without any group. one_in:
    of so many samples one is positive.
    """
    rng = np.random.default_rng(seed)
    group, labels = rng.integers(0, n_groups, n), (rng.integers(0, one_in, n) == one_in - 1).astype(int)
    arms = [("teacher", None, range(5)), ("nds", None, range(5)), *[("ds", t, range(5)) for t in temperatures]]
    runs, predicted = runs_table(arms), []
    for run in runs.itertuples():
        t = None if np.isnan(run.temperature) else run.temperature
        lower = {"teacher": teacher, "nds": nds}.get(run.model, gap(t) if t else 0) + rng.normal(0, seed_sd)
        positive = np.where(labels == 1, right(t), 1 - right(t)) - lower * (group == n_groups - 1) * (labels == 1)
        predicted.append(rng.random(n) < positive)
    p = Predictions(
        runs,
        np.array(predicted).astype(int),
        labels,
        np.arange(n).astype(str),
        ("no", "yes"),
        groups={"color": np.array([f"group {g}" for g in group])},
    )
    return with_teacher_ids(p)


def twinned(moved, *, softness=lambda t: 1.0, seed=0, n=600, n_classes=4, temperatures=(1, *TO_TEN)):
    """Logits of signal and noise, those of the color twin with more noise, of sd moved(T); divided by softness(T)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    arms = [("teacher", None, range(5)), ("nds", None, range(5)), *[("ds", t, range(5)) for t in temperatures]]
    runs = runs_table(arms)
    signal = 3.0 * (np.arange(n_classes) == labels[:, None])

    def softmax(z):
        e = np.exp(z - z.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    plain, twins = [], []
    for run in runs.itertuples():
        t = 1.0 if np.isnan(run.temperature) else run.temperature
        z = signal + rng.normal(0, 1.5, (n, n_classes))
        twin = z + rng.normal(0, moved(t) * np.exp(rng.normal(0, 0.02)), (n, n_classes))
        plain.append(softmax(z / softness(t)))
        twins.append(softmax(twin / softness(t)))
    probabilities = np.array(plain)
    p = Predictions(
        runs,
        probabilities.argmax(axis=2),
        labels,
        np.arange(n).astype(str),
        tuple("abcdefgh"[:n_classes]),
        probabilities=probabilities,
        twins={"color": np.array(twins)},
    )
    return with_teacher_ids(p)
