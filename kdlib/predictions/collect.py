"""Predictions of a study: from its runs on disk, or from what is released of it, aligned by sample id. No torch."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdlib import store
from kdlib.errors import InvalidInput, KdlibWarning, NotTrained
from kdlib.predictions import Predictions, softmax, worlds
from kdlib.predictions import released as published
from kdlib.studies import Run, Study

# A run, its arrays, and what released predictions know of it beside them.
Found = list[tuple[Run, dict[str, np.ndarray], dict[str, float]]]

MIXED = ("data_sha256", "device", "hardware", "torch", "numpy", "kdlib", "flags")  # of a run's provenance


def collect(
    study: Study, *, runs_dir: Path | str, part: str = "test", released: Path | str | None = None
) -> Predictions:
    """The predictions of a study's trained runs on the "test" or "validation" part, aligned by sample id.

    released: a folder of released predictions (`released.write`). They are read where they hold more of the study's
    runs than runs_dir does. Runs that failed or are not trained are named in `.absent`. Simulated studies are drawn.
    Raises NotTrained if no run is there, InvalidInput for a part that the runs did not see, StoreError for damage and
    for a student of another teacher than the one in runs_dir.
    """
    return _of_part(study, *_read(study, Path(runs_dir), released), part)


def _read(study: Study, runs_dir: Path, released: Path | str | None) -> tuple[Found, tuple[str, ...]]:
    """What is there of a study, from runs_dir or released, and which runs are not."""
    if study.simulated:
        return worlds.draw(study), ()
    runs = study.runs()
    done = [run for run in runs if store.state(runs_dir, run) == "done"]
    if released is not None and len(done) < len(runs):
        found = published.read(released, study)
        if len(found) > len(done):
            there = [run for run, _, _ in found]
            return found, tuple(f"{run}: not released" for run in runs if run not in there)
    if not done:
        raise NotTrained(f"no run of study {study.name!r} in {runs_dir}. Train it: python -m kdlib train {study.name}")
    absent = tuple(f"{run}: {store.failure(runs_dir, run) or 'not trained'}" for run in runs if run not in done)
    read = [(run, *store.read(runs_dir, run)) for run in done]
    _warn_of_mixtures(study, {run: provenance for run, _, provenance in read})
    return [(run, arrays, {}) for run, arrays, _ in read], absent


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
                warnings.warn(f"runs of {whose} differ in {key}: {listed}.", KdlibWarning, stacklevel=5)


def _of_part(study: Study, found: Found, absent: tuple[str, ...], part: str = "test") -> Predictions:
    read = [published.of_part(arrays, part, run) for run, arrays, _ in found]
    table = pd.DataFrame([describe(run, study) for run, _, _ in found])
    if part == "test":  # scalars are of the test part
        for name in sorted({name for _, _, scalars in found for name in scalars}):
            table[name] = [scalars.get(name, np.nan) for _, _, scalars in found]
    return assemble(table, read, absent=absent)


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


def assemble(runs: pd.DataFrame, read: list[dict[str, np.ndarray]], *, absent: tuple[str, ...] = ()) -> Predictions:
    """One Predictions from the arrays of each run; samples take the order of the first run.

    Logits of released runs are their log-probabilities, if there are any; so their predicted classes are given.
    """
    first, orders = read[0], []
    for run_id, arrays in zip(runs["run_id"], read, strict=True):
        orders.append(_order(first["sample_ids"], arrays["sample_ids"], run_id))
        if not np.array_equal(arrays["labels"][orders[-1]], first["labels"]):
            raise InvalidInput(f"run {run_id} has other labels for the same samples than {runs.run_id.iloc[0]}.")
        if not np.array_equal(arrays["class_names"], first["class_names"]):
            raise InvalidInput(f"run {run_id} has other classes, or another order, than {runs.run_id.iloc[0]}.")
    stacked = {name: _stacked(name, read, orders, runs) for name in _measured(read)}
    logits = stacked.get("logits")
    return Predictions(
        runs=runs.reset_index(drop=True),
        predicted=stacked["predicted"] if "predicted" in stacked else logits.argmax(axis=2),
        labels=first["labels"],
        sample_ids=first["sample_ids"],
        class_names=tuple(first["class_names"].tolist()),
        probabilities=None if logits is None else softmax(logits),
        groups=store.under("group:", first),
        twins={name: softmax(values) for name, values in store.under("twin:", stacked).items()},
        absent=absent,
        confidence=stacked.get("confidence"),
        features=first.get("features"),
    )


def _measured(read: list[dict[str, np.ndarray]]) -> list[str]:
    """The arrays that differ from run to run, of those that every run has."""
    kinds = ("logits", "predicted", "confidence", "twin:")
    return [name for name in read[0] if name.startswith(kinds) and all(name in arrays for arrays in read)]


def _stacked(name: str, read: list[dict[str, np.ndarray]], orders: list[np.ndarray], runs: pd.DataFrame) -> np.ndarray:
    """(R, N) or (R, N, C), float32 or int64, of every run, samples in the order of the first run."""
    kind = np.int64 if name == "predicted" else np.float32
    values = np.empty((len(read), *read[0][name].shape), kind)
    for row, (arrays, order) in enumerate(zip(read, orders, strict=True)):
        values[row] = arrays[name][order]
        if not np.isfinite(values[row]).all():
            raise InvalidInput(f"run {runs.run_id.iloc[row]} has {name} that are not finite.")
    return values


def _order(wanted: np.ndarray, given: np.ndarray, run_id: str) -> np.ndarray:
    """Positions in `given` of each id in `wanted`."""
    if np.array_equal(wanted, given):
        return np.arange(len(wanted))
    order = np.argsort(given)
    positions = np.searchsorted(given, wanted, sorter=order).clip(max=len(given) - 1)
    if len(wanted) != len(given) or not np.array_equal(given[order[positions]], wanted):
        raise InvalidInput(f"run {run_id} was tested on other samples than the first run.")
    return order[positions]


def collect_parts(
    studies: Iterable[Study], *, runs_dir: Path | str, released: Path | str | None = None, validation: bool = True
) -> dict[str, dict[str, Predictions]]:
    """{study's name: {"test": its predictions, "validation": the same runs' where they saw that part}}.

    validation: False reads the test part alone. Without the studies that have not `enough` runs. Raises NotTrained if
    none has.
    """
    collected, reasons = {}, []
    for study in studies:
        try:
            found, absent = _read(study, Path(runs_dir), released)
        except NotTrained as error:
            reasons.append(str(error))
            continue
        if enough(study, [run for run, *_ in found]):
            parts = published.parts_of(found[0][1]) if validation else ["test"]
            collected[study.name] = {part: _of_part(study, found, absent, part) for part in parts}
        else:
            reasons.append(f"an arm of study {study.name!r} has one seed so far: python -m kdlib train {study.name}")
    if not collected:
        raise NotTrained(" ".join(reasons))
    return collected


def enough(study: Study, trained: Iterable[Run]) -> bool:
    """Whether there is something to show of a study: no arm that is there has one seed alone, unless that is all."""
    arms = Counter((run.role, run.temperature, run.loss_scale) for run in trained)
    return bool(arms) and min(arms.values()) >= min(2, study.seeds)
