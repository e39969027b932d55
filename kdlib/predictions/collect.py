"""Predictions of a study: from its runs on disk, or from what is released of it, aligned by sample id. No torch.

Every run is read once to be checked and for its predicted classes, one in memory at a time; its probabilities are read
again when they are asked for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kdlib import places, store
from kdlib.errors import InvalidInput, NotTrained, StoreError, caution
from kdlib.predictions import Predictions, softmax, worlds
from kdlib.predictions import released as published
from kdlib.predictions.by_run import ByRun, OneRun
from kdlib.studies import Run, Study

# A run's arrays, read anew at every call.
Reader = Callable[[], dict[str, np.ndarray]]
# A run, its arrays, and what released predictions know of it beside them.
Found = list[tuple[Run, Reader, dict[str, float]]]

PROBABILITIES = ("logits", "twin:")  # the arrays of C numbers for every sample
MIXED = ("data_sha256", "device", "hardware", "torch", "numpy", "kdlib", "flags")  # of a run's provenance


def collect(
    study: Study, *, runs_dir: Path | str | None = None, part: str = "test", released: Path | str | None = None
) -> Predictions:
    """The predictions of a study's trained runs on the "test" or "validation" part, aligned by sample id.

    runs_dir: None is `runs/` of the project. released: a folder of released predictions (`released.write`), None that
    of the study's profile in the project. They are read where they hold more of the study's runs than runs_dir does.
    Runs that failed or are not trained are named in `.absent`. Simulated studies are drawn.
    Raises NotTrained if no run is there, InvalidInput for a part that the runs did not see, StoreError for damage and
    for a student of another teacher than the one in runs_dir.
    """
    return _of_part(study, *_read(study, runs_dir, released), part)


def _read(study: Study, given: Path | str | None, released: Path | str | None) -> tuple[Found, tuple[str, ...]]:
    """What is there of a study, from the runs' folder or released, and which runs are not."""
    if study.simulated:
        return worlds.draw(study), ()
    runs, runs_dir = study.runs(), places.runs_dir(given)
    released = places.released_dir(study.profile) if released is None else released
    done = [run for run in runs if store.state(runs_dir, run) == "done"]
    if len(done) < len(runs):
        found = published.read(released, study)
        if len(found) > len(done):
            there = [run for run, _, _ in found]
            return found, tuple(f"{run}: not released" for run in runs if run not in there)
    if not done:
        raise NotTrained(f"no run of study {study.name!r} in {runs_dir}. Train it: {study.command(runs_dir)}")
    absent = tuple(f"{run}: {store.failure(runs_dir, run) or 'not trained'}" for run in runs if run not in done)
    known = {run: store.provenance(runs_dir, run) for run in done}
    _warn_of_mixtures(study, known)
    readers = {run: partial(_arrays, runs_dir, run, store.predictions_sha256(runs_dir, run)) for run in done}
    return [(run, read, _noted(known[run])) for run, read in readers.items()], absent


def _noted(about: dict[str, Any]) -> dict[str, float]:
    """What a run noted of the gradients of its loss, as a mean over epochs."""
    history = pd.DataFrame(about.get("history", []))
    return history.filter(like="gradient_").mean().to_dict()


def _arrays(runs_dir: Path, run: Run, sha256: str) -> dict[str, np.ndarray]:
    """Raises StoreError where the run is not the one that was collected."""
    if store.predictions_sha256(runs_dir, run) != sha256:
        raise StoreError(f"run {run.id[:16]} was written anew after it was collected. Collect its study again.")
    return store.read(runs_dir, run)[0]


def _warn_of_mixtures(study: Study, known: dict[Run, dict[str, Any]]) -> None:
    """Warn of a study whose runs saw several data, and of arms trained in several places. Older runs do not say all."""
    for key in MIXED:
        arms = defaultdict(lambda: defaultdict(list))
        for run, about in known.items():
            if key in about:
                arm = None if key == "data_sha256" else (run.role, run.temperature, run.loss_scale)
                arms[arm][str(about[key])].append(str(run))
        for arm, values in arms.items():
            if len(values) > 1:
                listed = "; ".join(f"{value[:100]} for {', '.join(runs)}" for value, runs in values.items())
                whose = f"one arm of {study.name}" if arm else study.name
                caution(f"runs of {whose} differ in {key}: {listed}.", stacklevel=5)


def _of_part(study: Study, found: Found, absent: tuple[str, ...], part: str = "test") -> Predictions:
    readers = [partial(_part_of, read, part, run) for run, read, _ in found]
    table = pd.DataFrame([describe(run, study) for run, _, _ in found])
    if part == "test":  # scalars are of the test part
        for name in sorted({name for _, _, scalars in found for name in scalars}):
            table[name] = [scalars.get(name, np.nan) for _, _, scalars in found]
    return assemble(table, readers, absent=absent)


def _part_of(read: Reader, part: str, run: Run) -> dict[str, np.ndarray]:
    return published.of_part(read(), part, run)


def describe(run: Run, study: Study) -> dict[str, object]:
    """A run's row in the table of runs. Controls with a scaled loss are an arm of their own."""
    model = run.role if run.loss_scale == 1 else f"{run.role} loss x{run.loss_scale:g}"
    return {
        "run_id": run.id[:16],
        "study": study.name,
        "model": model,
        "seed": run.seed,
        "temperature": np.nan if run.temperature is None else run.temperature,
        "alpha": np.nan if run.alpha is None else run.alpha,
        "teacher_id": run.teacher.id[:16] if run.teacher else None,
    }


class _Seen(NamedTuple):
    """What is kept of a run: the positions of its samples in the order of the first run's, and in that order predicted
    (N,), fit (those once more where they are the largest logits), confidence (N,); the shapes of logits and twins."""

    order: np.ndarray | slice
    predicted: np.ndarray
    fit: np.ndarray | None
    confidence: np.ndarray | None
    shapes: dict[str, tuple[int, ...]]


def assemble(runs: pd.DataFrame, readers: Sequence[Reader], *, absent: tuple[str, ...] = ()) -> Predictions:
    """One Predictions from what reads the arrays of each run; samples take the order of the first run.

    Logits of released runs are their log-probabilities, if there are any; so their predicted classes are given.
    """
    ids = runs["run_id"].tolist()
    first = {name: values for name, values in readers[0]().items() if not name.startswith(PROBABILITIES)}
    seen = [_seen(read(), first, run_id, ids[0]) for run_id, read in zip(ids, readers, strict=True)]
    whole = [name for name in seen[0].shapes if all(name in run.shapes for run in seen)]  # what every run has
    arrays = {
        name: ByRun(
            OneRun(partial(_probabilities, name, read, run.order), run.shapes[name], run.fit)
            for read, run in zip(readers, seen, strict=True)
        )
        for name in whole
    }
    confidence = [run.confidence for run in seen]
    return Predictions(
        runs=runs.reset_index(drop=True),
        predicted=np.stack([run.predicted for run in seen]),
        labels=first["labels"],
        sample_ids=first["sample_ids"],
        class_names=tuple(first["class_names"].tolist()),
        probabilities=arrays.get("logits"),
        groups=store.under("group:", first),
        twins=store.under("twin:", arrays),
        absent=absent,
        confidence=None if any(values is None for values in confidence) else np.stack(confidence),
        features=first.get("features"),
    )


def _seen(arrays: dict[str, np.ndarray], first: dict[str, np.ndarray], run_id: str, first_id: str) -> _Seen:
    """Raises InvalidInput for samples, labels or classes that are not those of the first run, and for NaN."""
    order = _order(first["sample_ids"], arrays["sample_ids"], run_id)
    if not np.array_equal(arrays["labels"][order], first["labels"]):
        raise InvalidInput(f"run {run_id} has other labels for the same samples than {first_id}.")
    if not np.array_equal(arrays["class_names"], first["class_names"]):
        raise InvalidInput(f"run {run_id} has other classes, or another order, than {first_id}.")
    shapes = {name: values.shape for name, values in arrays.items() if name.startswith(PROBABILITIES)}
    for name in [*shapes, "confidence"]:
        if name in arrays and not np.isfinite(_numbers(arrays, name)).all():
            raise InvalidInput(f"run {run_id} has {name} that are not finite.")
    confidence = _numbers(arrays, "confidence")[order] if "confidence" in arrays else None
    if "predicted" in arrays:
        return _Seen(order, arrays["predicted"][order], None, confidence, shapes)
    predicted = _numbers(arrays, "logits").argmax(axis=1)[order]
    return _Seen(order, predicted, predicted, confidence, shapes)


def _numbers(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """In float32, or in half precision where they are in that."""
    return arrays[name] if arrays[name].dtype == np.float16 else arrays[name].astype(np.float32, copy=False)


def _probabilities(name: str, read: Reader, order: np.ndarray | slice) -> np.ndarray:
    """(N, C) of a run's logits or twins."""
    return softmax(_numbers(read(), name)[order])


def _order(wanted: np.ndarray, given: np.ndarray, run_id: str) -> np.ndarray | slice:
    """Positions in `given` of each id in `wanted`."""
    if np.array_equal(wanted, given):
        return slice(None)
    if not np.array_equal(np.sort(wanted), np.sort(given)):
        raise InvalidInput(f"run {run_id} was tested on other samples than the first run.")
    return np.argsort(given)[np.argsort(np.argsort(wanted))]


def collect_parts(
    studies: Iterable[Study],
    *,
    runs_dir: Path | str | None = None,
    released: Path | str | None = None,
    validation: bool = True,
) -> dict[str, dict[str, Predictions]]:
    """{study's name: {"test": its predictions, "validation": the same runs' where they saw that part}}.

    validation: False reads the test part alone. Without the studies that have not `enough` runs. Raises NotTrained if
    none has.
    """
    collected, reasons = {}, []
    for study in studies:
        try:
            found, absent = _read(study, runs_dir, released)
        except NotTrained as error:
            reasons.append(str(error))
            continue
        if enough(study, [run for run, *_ in found]):
            parts = published.parts_of(found[0][1]()) if validation else ["test"]
            collected[study.name] = {part: _of_part(study, found, absent, part) for part in parts}
        else:
            reasons.append(f"an arm of study {study.name!r} has one seed so far: {study.command(runs_dir)}")
    if not collected:
        raise NotTrained(" ".join(reasons))
    return collected


def enough(study: Study, trained: Iterable[Run]) -> bool:
    """Whether there is something to show of a study: no arm that is there has one seed alone, unless that is all."""
    arms = Counter((run.role, run.temperature, run.loss_scale) for run in trained)
    return bool(arms) and min(arms.values()) >= min(2, study.seeds)
