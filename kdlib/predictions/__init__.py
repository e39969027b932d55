"""The table that all measuring starts from: what every run predicted on the same test samples.

`collect` reads it from trained runs; every way in passes the same checks. No torch.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdlib import store
from kdlib.errors import InvalidInput, KdlibWarning, NotTrained
from kdlib.predictions import released as published
from kdlib.studies import Run, Study

RUN_COLUMNS = ["run_id", "study", "model", "seed", "temperature", "alpha", "teacher_id"]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of R runs on the same N test samples with C classes.

    runs           DataFrame, R rows: run_id, study, model ('teacher', 'nds', 'ds'), seed, temperature (NaN where
                   there is none), alpha (likewise), teacher_id (None where there is none)
    predicted      (R, N) int, the class of the largest logit
    labels         (N,) int, 0 .. C-1
    sample_ids     (N,) str, unique; rows of other tables are aligned by them, never by order
    class_names    C names
    probabilities  (R, N, C) float at T = 1, or None
    confidence     (R, N) float, the largest probability, where probabilities are not given; or None
    groups         {sensitive feature: (N,) str}
    twins          {changed feature: (R, N, C) probabilities}: the same samples with that feature alone changed
                   ("counterfactual twins"), in the order of sample_ids; only what every run has
    features       (N, d) uint8, what others than the models say of the samples (annotated attributes), or None
    absent         runs that were planned and are not here: 'ds seed 3 T=4: failed, loss not finite at step 12'
    """

    runs: pd.DataFrame
    predicted: np.ndarray
    labels: np.ndarray
    sample_ids: np.ndarray
    class_names: tuple[str, ...]
    probabilities: np.ndarray | None = None
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    twins: Mapping[str, np.ndarray] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    confidence: np.ndarray | None = None
    features: np.ndarray | None = None

    def __post_init__(self) -> None:
        check(self)

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def correct(self) -> np.ndarray:
        """(R, N) bool."""
        return self.predicted == self.labels

    @cached_property
    def accuracy(self) -> np.ndarray:
        """(R,) share of correct predictions, 0 .. 1."""
        return self.correct.mean(axis=1)

    @property
    def temperatures(self) -> list[float]:
        """The temperatures of the distilled students, ascending."""
        return sorted(self.runs["temperature"].dropna().unique().tolist())

    def arm(self, **wanted: object) -> Predictions:
        """The runs whose columns equal `wanted`, in order of seed: `arm(model="ds", temperature=4.0)`.

        Raises NotTrained if there is none, InvalidInput for an unknown column.
        """
        keep = np.ones(len(self.runs), bool)
        for column, value in wanted.items():
            if column not in self.runs:
                raise InvalidInput(f"runs have no column {column!r}; they have {', '.join(self.runs.columns)}.")
            keep &= (self.runs[column] == value).to_numpy()
        if not keep.any():
            raise NotTrained(f"no run with {wanted}; there are {describe_arms(self.runs)}.")
        order = np.flatnonzero(keep)[np.argsort(self.runs["seed"].to_numpy()[keep], kind="stable")]
        return self.take(order)

    def take(self, rows: np.ndarray) -> Predictions:
        """The runs at these positions, in this order."""
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        return replace(
            self,
            runs=self.runs.iloc[rows].reset_index(drop=True),
            predicted=self.predicted[rows],
            probabilities=probabilities,
            confidence=None if self.confidence is None else self.confidence[rows],
            twins={feature: values[rows] for feature, values in self.twins.items()},
        )


def describe_arms(runs: pd.DataFrame) -> str:
    arms = runs[["model", "temperature"]].drop_duplicates().sort_values(["model", "temperature"])
    return ", ".join(m if np.isnan(t) else f"{m} T={t:g}" for m, t in arms.itertuples(index=False)) or "no runs"


def check(p: Predictions) -> None:
    """Raise InvalidInput unless the parts of `p` fit together; warn of runs with identical predictions."""
    n, c = len(p.labels), p.n_classes
    _require(n > 0, "there are no test samples.")
    _require(
        p.predicted.shape == (len(p.runs), n), f"predicted has shape {p.predicted.shape}, expected {(len(p.runs), n)}."
    )
    _require(len(p.sample_ids) == n, f"{len(p.sample_ids)} sample ids for {n} labels.")
    _require(len(np.unique(p.sample_ids)) == n, f"sample id {_first_repeated(p.sample_ids)!r} stands twice.")
    missing = [column for column in RUN_COLUMNS if column not in p.runs]
    _require(not missing, f"the table of runs lacks {', '.join(missing)}.")
    for name, values in (("labels", p.labels), ("predicted", p.predicted)):
        _require(
            np.issubdtype(values.dtype, np.integer), f"{name} must be whole numbers 0 .. {c - 1}, not {values.dtype}."
        )
        _require(
            values.size == 0 or (values.min() >= 0 and values.max() < c),
            f"{name} must lie in 0 .. {c - 1}; found "
            f"{values.min() if values.size else ''} .. {values.max() if values.size else ''}.",
        )
    for name, values in p.groups.items():
        _require(len(values) == n, f"group {name!r} has {len(values)} values for {n} samples.")
    _require(p.features is None or len(p.features) == n, f"features of other samples than the {n} labels.")
    if p.probabilities is not None:
        _check_probabilities(p.probabilities, (len(p.runs), n, c))
    for feature, values in p.twins.items():
        _check_probabilities(values, (len(p.runs), n, c), what=f"probabilities of the {feature} twins")
    _check_repeats(p)


def _check_probabilities(
    probabilities: np.ndarray, shape: tuple[int, int, int], *, what: str = "probabilities"
) -> None:
    _require(probabilities.shape == shape, f"{what} have shape {probabilities.shape}, expected {shape}.")
    bad = np.argwhere(~np.isfinite(probabilities))
    _require(not len(bad), f"{what} are not finite: run {bad[0][0]}, sample {bad[0][1]}." if len(bad) else "")
    _require(probabilities.min() >= 0, f"{what} are negative; are these logits? Name the columns logit_*.")
    off = np.abs(probabilities.sum(axis=2) - 1).max()
    _require(off < 1e-2, f"{what} do not sum to 1 (off by {off:.3g}); are these logits? Name the columns logit_*.")


def _check_repeats(p: Predictions) -> None:
    """Two runs that agree in every probability are one run twice; in every class, perhaps."""
    seen: dict[bytes, int] = {}
    for row in range(len(p.runs)):
        key = p.predicted[row].tobytes()
        first = seen.setdefault(key, row)
        if first == row:
            continue
        pair = f"{p.runs.run_id[first]} and {p.runs.run_id[row]}"
        if p.probabilities is not None and np.array_equal(p.probabilities[first], p.probabilities[row]):
            raise InvalidInput(
                f"runs {pair} have identical probabilities on all samples: one run cannot stand for two "
                "seeds. Remove one of them."
            )
        warnings.warn(f"runs {pair} predict the same class for every sample.", KdlibWarning, stacklevel=4)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidInput(message)


def _first_repeated(values: np.ndarray) -> object:
    unique, counts = np.unique(values, return_counts=True)
    return next(iter(unique[counts > 1].tolist()), None)


# A run, its arrays, and what released predictions know of it beside them.
Found = list[tuple[Run, dict[str, np.ndarray], dict[str, float]]]


def collect(
    study: Study, *, runs_dir: Path | str, part: str = "test", released: Path | str | None = None
) -> Predictions:
    """The predictions of a study's trained runs on the "test" or "validation" part, aligned by sample id.

    released: a folder of released predictions (`released.write`). They are read where they hold more of the study's
    runs than runs_dir does. Runs that failed or are not trained are named in `.absent`.
    Raises NotTrained if no run is there, InvalidInput for a part that the runs did not see, StoreError for damage.
    """
    return _of_part(study, *_read(study, Path(runs_dir), released), part)


def _read(study: Study, runs_dir: Path, released: Path | str | None) -> tuple[Found, tuple[str, ...]]:
    """What is there of a study, from runs_dir or released, and which runs are not."""
    runs = study.runs()
    done = [run for run in runs if store.state(runs_dir, run) == "done"]
    if released is not None and len(done) < len(runs):
        found = published.read(released, study)
        if len(found) > len(done):
            there = [run for run, _, _ in found]
            return found, tuple(f"{run}: not released" for run in runs if run not in there)
    if not done:
        raise NotTrained(
            f"no run of study {study.name!r} is in {runs_dir}. Train it: python -m kdlib train {study.name}"
        )
    absent = tuple(f"{run}: {store.failure(runs_dir, run) or 'not trained'}" for run in runs if run not in done)
    return [(run, store.read(runs_dir, run)[0], {}) for run in done], absent


def _of_part(study: Study, found: Found, absent: tuple[str, ...], part: str = "test") -> Predictions:
    read = [published.of_part(arrays, part, run) for run, arrays, _ in found]
    table = pd.DataFrame([describe(run, study) for run, _, _ in found])
    if "logits" in read[0]:
        return assemble(table, read, absent=absent)
    if part == "test":  # scalars are of the test part
        for name in sorted({name for _, _, scalars in found for name in scalars}):
            table[name] = [scalars.get(name, np.nan) for _, _, scalars in found]
    return _of_released(table, read, absent)


def _of_released(table: pd.DataFrame, read: list[dict[str, np.ndarray]], absent: tuple[str, ...]) -> Predictions:
    """Logits of released runs are their log-probabilities; their predicted classes are exact."""
    first = read[0]
    whole = "log_probabilities" in first
    twins = [name for name in first if name.startswith("twin:")]
    return Predictions(
        runs=table,
        predicted=np.stack([a["predicted"] for a in read]),
        labels=first["labels"],
        sample_ids=first["sample_ids"],
        class_names=tuple(first["class_names"].tolist()),
        probabilities=softmax(np.stack([a["log_probabilities"] for a in read])) if whole else None,
        confidence=None if whole else np.stack([a["confidence"] for a in read]),
        groups={name.removeprefix("group:"): values for name, values in first.items() if name.startswith("group:")},
        twins={name.removeprefix("twin:"): softmax(np.stack([a[name] for a in read])) for name in twins},
        features=first.get("features"),
        absent=absent,
    )


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
    """One Predictions from the arrays of each run; samples take the order of the first run."""
    first, orders = read[0], []
    for row, arrays in enumerate(read):
        orders.append(_order(first["sample_ids"], arrays["sample_ids"], runs.run_id.iloc[row]))
        if not np.array_equal(arrays["labels"][orders[row]], first["labels"]):
            raise InvalidInput(
                f"run {runs.run_id.iloc[row]} has other labels for the same samples than {runs.run_id.iloc[0]}."
            )
        if not np.array_equal(arrays["class_names"], first["class_names"]):
            raise InvalidInput(
                f"run {runs.run_id.iloc[row]} has other classes, or another order, than {runs.run_id.iloc[0]}."
            )
    logits = _stacked("logits", read, orders, runs)
    twins = [name for name in first if name.startswith("twin:") and all(name in arrays for arrays in read)]
    return Predictions(
        runs=runs.reset_index(drop=True),
        predicted=logits.argmax(axis=2),
        labels=first["labels"],
        sample_ids=first["sample_ids"],
        class_names=tuple(first["class_names"].tolist()),
        probabilities=softmax(logits),
        groups={name.removeprefix("group:"): values for name, values in first.items() if name.startswith("group:")},
        twins={name.removeprefix("twin:"): softmax(_stacked(name, read, orders, runs)) for name in twins},
        features=first.get("features"),
        absent=absent,
    )


def _stacked(name: str, read: list[dict[str, np.ndarray]], orders: list[np.ndarray], runs: pd.DataFrame) -> np.ndarray:
    """(R, N, C) float32: the logits of this name of every run, samples in the order of the first run."""
    logits = np.empty((len(read), *read[0][name].shape), np.float32)
    for row, (arrays, order) in enumerate(zip(read, orders, strict=True)):
        logits[row] = arrays[name][order]
        if not np.isfinite(logits[row]).all():
            raise InvalidInput(f"run {runs.run_id.iloc[row]} has {name} that are not finite.")
    return logits


def _order(wanted: np.ndarray, given: np.ndarray, run_id: str) -> np.ndarray:
    """Positions in `given` of each id in `wanted`."""
    if np.array_equal(wanted, given):
        return np.arange(len(wanted))
    order = np.argsort(given)
    positions = np.searchsorted(given, wanted, sorter=order).clip(max=len(given) - 1)
    if len(wanted) != len(given) or not np.array_equal(given[order[positions]], wanted):
        raise InvalidInput(f"run {run_id} was tested on other samples than the first run.")
    return order[positions]


def softmax(logits: np.ndarray, *, temperature: float = 1.0) -> np.ndarray:
    """exp(z / T) over its sum along the last axis, "temperature softmax", Eq. 6 of the paper; same shape, sums to 1."""
    scaled = logits / np.float32(temperature)
    scaled = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return scaled / scaled.sum(axis=-1, keepdims=True)


def collect_all(
    studies: Iterable[Study], *, runs_dir: Path | str, released: Path | str | None = None
) -> dict[str, Predictions]:
    """{study's name: predictions}, without the studies that have not `enough` runs. Raises NotTrained if none has."""
    return _each(studies, Path(runs_dir), released, _of_part)


def collect_parts(
    studies: Iterable[Study], *, runs_dir: Path | str, released: Path | str | None = None
) -> dict[str, dict[str, Predictions]]:
    """{study's name: {"test": its predictions, "validation": the same runs' where they saw that part}}.

    Without the studies that have not `enough` runs. Raises NotTrained if none has.
    """

    def parts(study: Study, found: Found, absent: tuple[str, ...]) -> dict[str, Predictions]:
        return {part: _of_part(study, found, absent, part) for part in published.parts_of(found[0][1])}

    return _each(studies, Path(runs_dir), released, parts)


def _each(
    studies: Iterable[Study], runs_dir: Path, released: Path | str | None, of: Callable[..., Any]
) -> dict[str, Any]:
    """{study's name: `of` what is there of it}, without the studies that have not enough runs."""
    found, reasons = {}, []
    for study in studies:
        try:
            runs, absent = _read(study, runs_dir, released)
        except NotTrained as error:
            reasons.append(str(error))
            continue
        if enough(study, [run for run, *_ in runs]):
            found[study.name] = of(study, runs, absent)
        else:
            reasons.append(f"an arm of study {study.name!r} has one seed so far: python -m kdlib train {study.name}")
    if not found:
        raise NotTrained(" ".join(reasons))
    return found


def enough(study: Study, trained: Iterable[Run]) -> bool:
    """Whether there is something to show of a study: no arm that is there has one seed alone, unless that is all."""
    arms = Counter((run.role, run.temperature, run.loss_scale) for run in trained)
    return bool(arms) and min(arms.values()) >= min(2, study.seeds)
