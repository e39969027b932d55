"""The table that all measuring starts from: what every run predicted on the same test samples.

`collect` reads it from trained runs; every way in passes the same checks. No torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import pandas as pd

from kdlib.collapse import collapsed
from kdlib.errors import InvalidInput, KdlibWarning, NotTrained

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
    probabilities  (R, N, C) float at T = 1, or None
    confidence     (R, N) float, the largest probability, where probabilities are not given; or None
    groups         {sensitive feature: (N,) str}
    twins          {changed feature: (R, N, C) probabilities}: the same samples with that feature alone changed
                   ("counterfactual twins"), in the order of sample_ids; only what every run has
    features       (N, d) uint8, a description of the samples that no model made (annotated attributes), or None
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
        """The one door: whatever types come in, classes are int64, other numbers float64 or float32, ids text."""
        put = partial(object.__setattr__, self)
        put("runs", _plain_runs(self.runs))
        put("class_names", tuple(self.class_names))
        put("labels", whole_numbers(self.labels, "labels", self.n_classes))
        put("predicted", whole_numbers(self.predicted, "predicted", self.n_classes))
        put("sample_ids", as_text(self.sample_ids, "sample_ids"))
        put("groups", {name: as_array(values, f"group {name!r}") for name, values in self.groups.items()})
        put("twins", {name: real_numbers(values, f"{name} twins") for name, values in self.twins.items()})
        for name in ("probabilities", "confidence"):
            if getattr(self, name) is not None:
                put(name, real_numbers(getattr(self, name), name))
        check(self)

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
            probabilities=None if self.probabilities is None else self.probabilities[rows],
            confidence=None if self.confidence is None else self.confidence[rows],
            twins={feature: values[rows] for feature, values in self.twins.items()},
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
    n, c = len(p.labels), p.n_classes
    _require(p.labels.ndim == 1 and n > 0, f"labels have shape {p.labels.shape}; (N,), one or more, are wanted.")
    _require(len({*p.class_names}) == c, f"class_names {p.class_names} has a name twice.")
    shape = len(p.runs), n
    _require(p.predicted.shape == shape, f"predicted has shape {p.predicted.shape}, expected {shape}.")
    _require(len(p.sample_ids) == n, f"{len(p.sample_ids)} sample ids for {n} labels.")
    ids, counts = np.unique(p.sample_ids, return_counts=True)
    _require(len(ids) == n, f"sample id {str(ids[counts.argmax()])!r} stands twice.")
    for name, values in p.groups.items():
        _require(len(values) == n, f"group {name!r} has {len(values)} values for {n} samples.")
    _require(p.features is None or len(p.features) == n, f"features of other samples than the {n} labels.")
    if p.probabilities is not None:
        check_probabilities(p.probabilities, (len(p.runs), n, c), what="probabilities")
        _check_predicted(p)
    if p.confidence is not None:
        _require(p.confidence.shape == p.predicted.shape, f"confidence has shape {p.confidence.shape}.")
        off = np.argwhere(~((p.confidence >= 0) & (p.confidence <= 1)))
        _require(not len(off), f"confidence is {p.confidence[tuple(off[0])]!r}, not 0 .. 1." if len(off) else "")
    for feature, values in p.twins.items():
        check_probabilities(values, (len(p.runs), n, c), what=f"probabilities of the {feature} twins")
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


def _check_predicted(p: Predictions) -> None:
    """A predicted class has the largest probability, but for what rounding to half precision ties."""
    own = np.take_along_axis(p.probabilities, p.predicted[..., None], axis=2)[..., 0]
    off = np.argwhere(p.probabilities.max(axis=2) - own > ROUNDED)
    if len(off):
        run, sample = off[0]
        best = p.probabilities[run, sample].argmax()
        raise InvalidInput(
            f"run {p.runs['run_id'].iloc[run]} predicts {p.class_names[p.predicted[run, sample]]!r} for sample "
            f"{str(p.sample_ids[sample])!r}, but gives {p.class_names[best]!r} more probability. Are the columns those "
            "of the classes that they are named after?"
        )


def _check_repeats(p: Predictions) -> None:
    """Two runs that agree in every probability are one run twice; in every class, perhaps."""
    for first, row in p.repeats(range(len(p.runs))):
        pair = f"{p.runs.run_id[first]} and {p.runs.run_id[row]}"
        if p.probabilities is not None and np.array_equal(p.probabilities[first], p.probabilities[row]):
            raise InvalidInput(
                f"runs {pair} have identical probabilities on all samples: one run cannot stand for two "
                "seeds. Remove one of them."
            )
        if not p.correct[row].all():  # two runs without an error are bound to agree
            warnings.warn(f"runs {pair} predict the same class for every sample.", KdlibWarning, stacklevel=4)


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
        return as_array(values, name).astype(str)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} has bytes that are no plain text: {error.object!r}. Decode them first.") from error


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidInput(message)


def softmax(logits: np.ndarray, *, temperature: float = 1.0) -> np.ndarray:
    """exp(z / T) over its sum along the last axis, "temperature softmax", Eq. 6 of the paper; same shape, sums to 1."""
    scaled = logits / np.float32(temperature)
    scaled = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return scaled / scaled.sum(axis=-1, keepdims=True)
