"""Predictions of runs that were never trained: from counts that a test states, or drawn from a stated truth."""

from dataclasses import replace

import numpy as np
import pandas as pd

from kdlib.predictions import RUN_COLUMNS, Predictions


def runs_table(arms, *, teacher_of=lambda seed: f"teacher-{seed}"):
    """A table of runs from [(model, temperature or None, seeds), ...]; students of seed s have teacher s."""
    rows = [
        (
            f"{model}{'' if t is None else f'-T{t:g}'}-{seed}",
            "simulated",
            model,
            seed,
            np.nan if t is None else float(t),
            0.8 if model == "ds" else np.nan,
            teacher_of(seed) if model == "ds" else None,
        )
        for model, t, seeds in arms
        for seed in seeds
    ]
    return pd.DataFrame(rows, columns=RUN_COLUMNS)


def from_counts(correct, *, total, model="nds", temperature=None, seeds=None, **options):
    """One arm from counts: run r gets correct[r][c] images of class c right, of `total` (a number, or one a class)."""
    correct = np.asarray(correct)
    seeds = range(len(correct)) if seeds is None else seeds
    return from_counts_of_arms({(model, temperature): correct}, total=total, seeds=seeds, **options)


def from_counts_of_arms(correct, *, total, seeds=None, class_names=None, teacher_of=lambda seed: f"teacher-{seed}"):
    """{(model, temperature): (R, C) counts} -> Predictions. What is wrong is put in the next class.

    The first images of a class are right in every run but for a shift by the run's position, so that two runs with the
    same counts still differ.
    """
    blocks = {key: np.asarray(block) for key, block in correct.items()}
    n_classes = next(iter(blocks.values())).shape[1]
    totals = np.broadcast_to(total, n_classes)
    labels = np.repeat(np.arange(n_classes), totals)
    arms = [(model, t, range(len(block)) if seeds is None else seeds) for (model, t), block in blocks.items()]
    counts = np.concatenate(list(blocks.values()))
    predicted = [_predicted(row, totals, labels, shift) for shift, row in enumerate(counts)]
    return Predictions(
        runs=runs_table(arms, teacher_of=teacher_of),
        predicted=np.stack(predicted),
        labels=labels,
        sample_ids=np.array([f"s{i:07d}" for i in range(len(labels))]),
        class_names=tuple(class_names or (f"class {c}" for c in range(n_classes))),
    )


def _predicted(correct, totals, labels, shift):
    right = np.concatenate([np.roll(np.arange(total) < k, shift) for k, total in zip(correct, totals, strict=True)])
    return np.where(right, labels, (labels + 1) % len(totals))


def drawn_counts(rng, accuracy, *, total, n_runs, sd=0.0):
    """(n_runs, C) binomial counts around `accuracy` (C,), each run's class accuracy moved by a normal of `sd`."""
    truth = np.clip(np.asarray(accuracy) + rng.normal(0, sd, (n_runs, len(accuracy))), 0, 1)
    return rng.binomial(total, truth)


def study(
    *, n_classes=10, total=100, n_seeds=5, temperatures=(2, 4, 10), accuracy=0.7, effect=0.0, fresh_teachers=0, seed=0
):
    """Teacher, nds and ds arms with n_seeds runs each; ds at T moves each class by +- `effect` * T / 10."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(accuracy - 0.15, accuracy + 0.15, n_classes)
    moved = np.where(np.arange(n_classes) % 2, 1, -1) * effect

    def draw(change, more=0):
        return drawn_counts(rng, np.clip(truth + change, 0, 1), total=total, n_runs=n_seeds + more)

    blocks = {("teacher", None): draw(0.05, fresh_teachers), ("nds", None): draw(0.0)}
    return from_counts_of_arms(blocks | {("ds", t): draw(moved * t / 10) for t in temperatures}, total=total)


def drawn_per_image(rng, accuracy, *, total, arms):
    """Predictions whose run r gets each image of class c right with probability accuracy[r][c], by an own coin."""
    accuracy = np.asarray(accuracy)
    labels = np.repeat(np.arange(accuracy.shape[1]), total)
    right = rng.random((len(accuracy), len(labels))) < accuracy[:, labels]
    return Predictions(
        runs=runs_table(arms),
        predicted=np.where(right, labels, (labels + 1) % accuracy.shape[1]),
        labels=labels,
        sample_ids=np.array([f"s{i:07d}" for i in range(len(labels))]),
        class_names=tuple(f"class {c}" for c in range(accuracy.shape[1])),
    )


def with_groups(predictions, **groups):
    """The same predictions with groups, {name: (N,) values}."""
    return replace(predictions, groups={name: np.asarray(values) for name, values in groups.items()})


def with_probabilities(predictions, *, confidence=0.8):
    """The same predictions with probabilities: `confidence` on the predicted class, the rest spread evenly.

    A trace of the run's position keeps two runs from being identical.
    """
    n_runs, n = predictions.predicted.shape
    c = predictions.n_classes
    sure = confidence - 1e-6 * np.arange(n_runs)[:, None, None]
    hit = np.arange(c) == predictions.predicted[..., None]
    return replace(predictions, probabilities=np.where(hit, sure, (1 - sure) / (c - 1)))
