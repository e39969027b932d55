"""The table that all measuring starts from: what every run predicted on the same test samples.

`collect` reads it from trained runs; every way in passes the same checks. No torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import pandas as pd

from kdlib.collapse import collapsed
from kdlib.errors import InvalidInput, NotTrained, caution
from kdlib.predictions.by_run import ByRun, OneRun

RUN_COLUMNS = ["run_id", "study", "model", "seed", "temperature", "alpha", "teacher_id"]
ROUNDED = 2e-3  # as much may a probability change where it, or its logarithm, is rounded to half precision


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of R runs on the same N test samples with C classes.

    runs           DataFrame, R rows: run_id, study, model ('teacher', 'nds', 'ds'), seed, temperature (NaN where
                   there is none), alpha (likewise), teacher_id (None where there is none)
    predicted      (R, N) int, the class of the largest logit
    labels         (N,) int, 0 .. C-1
    sample_ids     (N,) str, unique; rows of other tables are aligned by them, never by order
    class_names    C names
    probabilities  a sequence of R arrays (N, C) float at T = 1, each read when asked for (`ByRun`); or None. Given as
                   (R, N, C), as a list of (N, C), or as a `ByRun`
    confidence     (R, N) float, the largest probability, where probabilities are not given; or None
    groups         {sensitive feature: (N,) str}
    twins          {changed feature: probabilities, as above}: the same samples with that feature alone changed
                   ("counterfactual twins"), in the order of sample_ids; only what every run has
    features       (N, d) uint8, a description of the samples that no model made (annotated attributes), or None
    absent         runs that were planned and are not here: 'ds seed 3 T=4: failed, loss not finite at step 12'
    distinct       the sample_ids once they were seen to be unique: a selection of runs need not compare them again
    """

    runs: pd.DataFrame
    predicted: np.ndarray
    labels: np.ndarray
    sample_ids: np.ndarray
    class_names: tuple[str, ...]
    probabilities: ByRun | None = None
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    twins: Mapping[str, ByRun] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    confidence: np.ndarray | None = None
    features: np.ndarray | None = None
    distinct: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """The one door: whatever types come in, classes are int64, other numbers float64 or float32, ids text."""
        put = partial(object.__setattr__, self)
        put("runs", _plain_runs(self.runs))
        put("class_names", tuple(self.class_names))
        put("labels", whole_numbers(self.labels, "labels", self.n_classes))
        put("predicted", whole_numbers(self.predicted, "predicted", self.n_classes))
        put("sample_ids", as_text(self.sample_ids, "sample_ids"))
        put("groups", {name: as_array(values, f"group {name!r}") for name, values in self.groups.items()})
        put("twins", {name: _by_run(values, f"{name} twins") for name, values in self.twins.items()})
        for name, convert in {"probabilities": _by_run, "confidence": real_numbers}.items():
            if getattr(self, name) is not None:
                put(name, convert(getattr(self, name), name))
        check(self)
        put("distinct", self.sample_ids)

    def __repr__(self) -> str:
        classes, samples = f"{self.n_classes} classes", f"{len(self.labels)} samples"
        groups = f", groups by {', '.join(self.groups)}" if self.groups else ""
        return f"<Predictions: {len(self.runs)} runs ({describe_arms(self.runs)}), {samples}, {classes}{groups}>"

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

    @cached_property
    def collapsed(self) -> dict[str, str]:
        """{run_id: why} of the runs that learned nothing (`collapsed.collapsed`). They stay in every primary result."""
        why = [collapsed(row, self.labels, n_classes=self.n_classes) for row in self.predicted]
        return {run_id: reason for run_id, reason in zip(self.runs["run_id"], why, strict=True) if reason}

    def without_collapsed(self) -> Predictions:
        """The runs that learned something, for the second line beside a result."""
        return self.take(np.flatnonzero(~self.runs["run_id"].isin(list(self.collapsed))))

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

    def repeats(self, rows: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Pairs among these runs that predict the same class for every sample."""
        seen: dict[bytes, int] = {}
        for row in rows:
            first = seen.setdefault(self.predicted[row].tobytes(), row)
            if first != row:
                yield first, row

    def take(self, rows: np.ndarray) -> Predictions:
        """The runs at these positions, in this order."""
        return replace(
            self,
            runs=self.runs.iloc[rows].reset_index(drop=True),
            predicted=self.predicted[rows],
            probabilities=None if self.probabilities is None else self.probabilities.take(rows),
            confidence=None if self.confidence is None else self.confidence[rows],
            twins={feature: values.take(rows) for feature, values in self.twins.items()},
        )

    def of_samples(self, keep: np.ndarray) -> Predictions:
        """The samples at these positions, or where (N,) bool is True."""
        keep = np.arange(len(self.labels))[keep]
        return replace(
            self,
            predicted=self.predicted[:, keep],
            labels=self.labels[keep],
            sample_ids=self.sample_ids[keep],
            probabilities=None if self.probabilities is None else self.probabilities.of_samples(keep),
            confidence=None if self.confidence is None else self.confidence[:, keep],
            groups={name: values[keep] for name, values in self.groups.items()},
            twins={feature: values.of_samples(keep) for feature, values in self.twins.items()},
            features=None if self.features is None else self.features[keep],
        )


def named_collapsed(predictions: Predictions) -> list[str]:
    """The collapsed runs in words: 'ds T=4 seed 3 predicts class 2 alone'."""
    runs = predictions.runs.set_index("run_id").loc[list(predictions.collapsed)]
    why = zip(runs.itertuples(), predictions.collapsed.values(), strict=True)
    at = {run: "" if np.isnan(t) else f" T={t:g}" for run, t in runs["temperature"].items()}
    return [f"{run.model}{at[run.Index]} seed {run.seed} {reason}" for run, reason in why]


def describe_arms(runs: pd.DataFrame) -> str:
    arms = runs[["model", "temperature"]].drop_duplicates().sort_values(["model", "temperature"])
    return ", ".join(m if np.isnan(t) else f"{m} T={t:g}" for m, t in arms.itertuples(index=False)) or "no runs"


def check(p: Predictions) -> None:
    """Raise InvalidInput unless the parts of `p` fit together; warn of runs with identical predictions."""
    n = len(p.labels)
    _require(p.labels.ndim == 1 and n > 0, f"labels have shape {p.labels.shape}; (N,), one or more, are wanted.")
    _require(len({*p.class_names}) == p.n_classes, f"class_names {p.class_names} has a name twice.")
    shape = len(p.runs), n
    _require(p.predicted.shape == shape, f"predicted has shape {p.predicted.shape}, expected {shape}.")
    _require(len(p.sample_ids) == n, f"{len(p.sample_ids)} sample ids for {n} labels.")
    if p.distinct is not p.sample_ids:
        twice = p.sample_ids[pd.Index(p.sample_ids).duplicated()].tolist()
        _require(not twice, f"sample id {', '.join(map(repr, twice[:1]))} stands twice.")
    for name, values in p.groups.items():
        _require(len(values) == n, f"group {name!r} has {len(values)} values for {n} samples.")
    _require(p.features is None or len(p.features) == n, f"features of other samples than the {n} labels.")
    if p.probabilities is not None:
        _check_by_run(p, p.probabilities, "probabilities")
    for feature, values in p.twins.items():
        _check_by_run(p, values, f"probabilities of the {feature} twins")
    if p.confidence is not None:
        _require(p.confidence.shape == p.predicted.shape, f"confidence has shape {p.confidence.shape}.")
        off = np.argwhere(~((p.confidence >= 0) & (p.confidence <= 1)))
        _require(not len(off), f"confidence is {p.confidence[tuple(off[0])]!r}, not 0 .. 1." if len(off) else "")
    _check_repeats(p)


def _plain_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """The table of runs with rows numbered from 0, where others look for them, and without pandas' own types."""
    missing = [column for column in RUN_COLUMNS if column not in runs]
    _require(not missing, f"the table of runs lacks {', '.join(missing)}.")
    runs = runs.reset_index(drop=True)
    try:
        numbers = {name: runs[name].astype(float) for name in ("seed", "temperature", "alpha")}
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"seed, temperature and alpha of runs must be numbers: {error}.") from None
    _require((numbers["seed"] % 1 == 0).all(), f"seeds must be whole numbers, not {runs['seed'].tolist()[:20]}.")
    twice = runs["run_id"][runs["run_id"].duplicated()].tolist()
    _require(not twice, f"run {twice[:1]} stands twice in the table of runs.")
    names = {name: runs[name].astype(object) for name in ("run_id", "study", "model", "teacher_id")}
    names["teacher_id"] = names["teacher_id"].where(runs["teacher_id"].notna(), None)
    return runs.assign(**numbers, **names).astype({"seed": int})


def check_probabilities(probabilities: np.ndarray, shape: tuple[int, ...], *, what: str) -> None:
    """Raise InvalidInput unless these are finite, not negative, and sum to 1 over the last axis."""
    _require(probabilities.shape == shape, f"{what} have shape {probabilities.shape}, expected {shape}.")
    bad = np.argwhere(~np.isfinite(probabilities))
    _require(not len(bad), f"{what} are not finite at position {bad[0].tolist()}." if len(bad) else "")
    low = probabilities.min(initial=0)  # of no runs as well
    off = np.abs(probabilities.sum(axis=-1, dtype=float) - 1).max(initial=0)
    logits = "are these logits? Take predictions.softmax of them first, or name the columns logit_*."
    _require(low >= 0, f"{what} are negative (smallest {low:.3g}); {logits}")
    _require(off < 1e-2, f"{what} do not sum to 1 (off by {off:.3g}); {logits}")


def _check_by_run(p: Predictions, values: ByRun, what: str) -> None:
    """Every run's probabilities, one run in memory at a time; again only where the predicted classes are others."""
    _require(len(values) == len(p.runs), f"{what} of {len(values)} runs for {len(p.runs)} runs.")
    for run, predicted, run_id in zip(values.runs, p.predicted, p.runs["run_id"], strict=True):
        place, shape = f"{what} of run {run_id}", (len(p.labels), p.n_classes)
        _require(run.shape == shape, f"{place} have shape {run.shape}, expected {shape}.")
        if run.fit is None or not np.array_equal(run.fit, predicted):
            read = run.read()
            check_probabilities(read, shape, what=place)
            if values is p.probabilities:
                _check_predicted(p, run_id, predicted, read)
            run.fit = predicted


def _check_predicted(p: Predictions, run_id: str, predicted: np.ndarray, probabilities: np.ndarray) -> None:
    """A predicted class has the largest probability, but for what rounding to half precision ties."""
    own = np.take_along_axis(probabilities, predicted[:, None], axis=1)[:, 0]
    off = np.flatnonzero(probabilities.max(axis=1) - own > ROUNDED)
    if len(off):
        best = probabilities[off[0]].argmax()
        raise InvalidInput(
            f"run {run_id} predicts {p.class_names[predicted[off[0]]]!r} for sample "
            f"{str(p.sample_ids[off[0]])!r}, but gives {p.class_names[best]!r} more probability. Are the columns those "
            "of the classes that they are named after?"
        )


def _check_repeats(p: Predictions) -> None:
    """Two runs that agree in every probability are one run twice; in every class, perhaps."""
    for first, row in p.repeats(range(len(p.runs))):
        pair = f"{p.runs.run_id[first]} and {p.runs.run_id[row]}"
        if p.probabilities is not None and p.probabilities.runs[first].digest == p.probabilities.runs[row].digest:
            raise InvalidInput(
                f"runs {pair} have identical probabilities on all samples: one run cannot stand for two "
                "seeds. Remove one of them."
            )
        if not p.correct[row].all():  # two runs without an error are bound to agree
            caution(f"runs {pair} predict the same class for every sample.", stacklevel=4)


def _by_run(values: object, name: str) -> ByRun:
    """Whatever probabilities come as; numbers are converted when they are read."""
    if isinstance(values, ByRun):
        return values
    given = values if isinstance(values, list | tuple) else np.atleast_1d(as_array(values, name))
    arrays = [as_array(one, name) for one in given]
    return ByRun(OneRun(partial(real_numbers, one, name), one.shape) for one in arrays)


def whole_numbers(values: object, name: str, n_classes: int) -> np.ndarray:
    """As int64, whatever width or library they come from. Raises InvalidInput unless they are whole, 0 .. C-1."""
    values = as_array(values, name)
    kind = values.dtype
    _require(kind.kind in "iu", f"{name} must be whole numbers 0 .. {n_classes - 1}, not {kind}.")
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    _require(0 <= low <= high < n_classes, f"{name} must lie in 0 .. {n_classes - 1}; found {low} .. {high}.")
    return values.astype(np.int64, copy=False)


def real_numbers(values: object, name: str) -> np.ndarray:
    """As float64, or float32 if that is how they come (a store for many runs: sums are in float64)."""
    values = as_array(values, name)
    _require(values.dtype.kind in "fiu", f"{name} must be real numbers, not {values.dtype}.")
    return values if values.dtype == np.float32 else values.astype(float, copy=False)


def as_array(values: object, name: str) -> np.ndarray:
    """As a plain array. Raises InvalidInput for what is none, or has values masked: numpy would drop the mask."""
    _require(not np.ma.is_masked(values), f"{name} has masked values: fill them, or leave these samples out.")
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of several lengths; a tensor with a gradient
        raise InvalidInput(f"{name} cannot be an array: {error}.") from error


def as_text(values: object, name: str) -> np.ndarray:
    """As text. Raises InvalidInput for bytes that are not ASCII."""
    try:
        return as_array(values, name).astype(str, copy=False)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} has bytes that are no plain text: {error.object!r}. Decode them first.") from error


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidInput(message)


def softmax(logits: np.ndarray, *, temperature: float = 1.0) -> np.ndarray:
    """exp(z / T) over its sum along the last axis, "temperature softmax", Eq. 6 of the paper; same shape, sums to 1."""
    scaled = logits / np.float32(temperature)
    scaled -= scaled.max(axis=-1, keepdims=True)  # in place: of 1,000 classes a copy is large
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=-1, keepdims=True)
    return scaled
