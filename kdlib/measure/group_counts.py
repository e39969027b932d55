"""Counts by class and group, and the rates and differences that follow from them: what all of fairness starts from.

`encode_groups` turns a sensitive feature into codes, `prepare` counts the labels, `rates` counts the predictions of all
runs with one numpy.bincount each, `differences` is Algorithm 1 of the paper. No torch.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdlib.errors import InvalidInput, UndefinedMetric, require_known
from kdlib.predictions import Predictions, as_array

MANY = 20  # more distinct values than this are no group when they are numbers, or nearly as many as the rows
MISSING_WORDS = ("", "nan", "NaN", "None", "<NA>", "NaT")  # what numpy makes of missing values among text
Groups = tuple[np.ndarray, tuple[str, ...]]  # (N,) codes, and the names that they stand for
RATES = ("selection rate", "TPR", "FPR")
DIFFERENCES = ("dpd", "eod", "tpr_difference", "fpr_difference")


def encode_groups(values, place: str, *, missing: str = "error") -> Groups:
    """(N,) codes 0 .. G-1 (-1 where the value is missing and `missing` is "drop") and the G group names, sorted.

    missing   "error" (raise InvalidInput), "group" (a group '(missing)' of its own) or "drop" (code -1)
    Missing are None, NaN, empty text, and the words that numpy makes of them ('nan', 'None', ...).
    Raises InvalidInput for values that look continuous, or of which some are text and others numbers or truth values,
    UndefinedMetric for declared categories without samples.
    """
    require_known("missing", missing, ("error", "group", "drop"))
    array = values if isinstance(values, (pd.Series, pd.Categorical)) else as_array(values, place)
    if array.ndim != 1 or not len(array):
        raise InvalidInput(
            f"{place} has shape {array.shape}; one group for each of at least one sample is needed. "
            "Join several sensitive features into one column of text first."
        )
    _refuse_empty_categories(array, place)
    codes, names = _factorize(array, place)
    absent = codes < 0
    if missing == "error" and absent.any():
        raise InvalidInput(
            f"{place} is missing for {absent.sum()} of {len(codes)} samples, first at position {np.argmax(absent)}. "
            'Fill it, or give audit (--missing) or group_fairness missing="group" or "drop".'
        )
    _refuse_continuous(names, int((~absent).sum()), place)
    if missing == "group" and absent.any():
        codes, names = np.where(absent, len(names), codes), [*names, "(missing)"]
    return codes, tuple(str(name) for name in names)


def _factorize(values, place: str) -> tuple[np.ndarray, list]:
    """(N,) codes, -1 where missing, and the values that they stand for in order of their text."""
    nullable = isinstance(getattr(values, "dtype", None), pd.api.extensions.ExtensionDtype)
    array = np.asarray(values, object if nullable else None)  # else a missing value makes fractions of whole numbers
    wrong = [v for v in array if not pd.api.types.is_scalar(v)] if array.dtype.kind == "O" else []
    if wrong or array.dtype.names or array.dtype.kind == "c":
        raise InvalidInput(f"{place} has values that are no names, such as {[*wrong, array[0]][0]!r}. Make them text.")
    if array.dtype.kind in "SO":
        array = np.array([v.decode("utf-8", "backslashreplace") if isinstance(v, bytes) else v for v in array], object)
        _refuse_mixed(array, place)
    codes, found = pd.factorize(array)
    names = sorted((name for name in found if str(name).strip() not in MISSING_WORDS), key=str)
    rank = {name: code for code, name in enumerate(names)}
    return np.array([*(rank.get(name, -1) for name in found), -1], np.intp)[codes], names


def _refuse_mixed(array: np.ndarray, place: str) -> None:
    """0 and "0" have one name, True and 1 are one value: what is one group is not for us to guess."""
    first = {_kind(value): value for value in array[::-1] if not pd.isna(value)}
    if len(first) > 1:
        one, other, *_ = first.values()
        raise InvalidInput(
            f"{place} has {one!r} ({type(one).__name__}) and {other!r} ({type(other).__name__}). Make all values of "
            "one kind first, for example text with astype(str)."
        )


def _kind(value: object) -> type:
    kinds = (str, (bool, np.bool_), numbers.Number)
    return next((kind for kind in kinds if isinstance(value, kind)), type(value))


def _refuse_empty_categories(array, place: str) -> None:
    if not isinstance(getattr(array, "dtype", None), pd.CategoricalDtype):
        return
    if empty := [str(name) for name in array.dtype.categories.difference(pd.unique(array).dropna())]:
        raise UndefinedMetric(
            f"{place} declares groups without samples: {', '.join(empty)}. Their rates are undefined; call "
            "remove_unused_categories() if that is intended."
        )


def _refuse_continuous(found, n_samples: int, place: str) -> None:
    as_numbers = pd.to_numeric(pd.Series(np.asarray(found, dtype=object)), errors="coerce")
    numeric = len(as_numbers) > 0 and as_numbers.notna().all()
    fractional = numeric and (as_numbers % 1 != 0).any()
    if fractional or (len(found) > MANY and (numeric or n_samples < 10 * len(found))):
        raise InvalidInput(
            f"{place} has {len(found)} distinct values for {n_samples} samples (such as {found[0]!r}); "
            "it looks continuous or like an identifier, not like groups. Cut it into named ranges first "
            "(pandas.cut)."
        )


@dataclass(frozen=True)
class Cells:
    """R runs counted by group and class; K classes are scored (class 1 of two, all of several).

    labels (N,), codes (N,), outcome (R, N): 2 * predicted class + (1 if correct)
    groups G names, classes K names, scored: slice of the C classes
    below (3, G, K): samples, positives and negatives, over which selection rate, TPR and FPR are taken
    usable (3, G, K) bool: cells whose selection rate, TPR, FPR enter a difference
    """

    labels: np.ndarray
    codes: np.ndarray
    outcome: np.ndarray
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    scored: slice
    below: np.ndarray
    usable: np.ndarray

    @property
    def n_classes(self) -> int:
        return self.scored.stop


def build_cells(labels, predicted, codes, groups, class_names, *, exclude_below: int = 0) -> Cells:
    """Samples counted by label and group. Raises UndefinedMetric for fewer than two groups."""
    if len(groups) < 2:
        raise UndefinedMetric(
            f"only one group, {', '.join(groups) or 'none at all'}: a difference needs two. "
            "Check the sensitive feature, or the subset of samples."
        )
    n_classes = len(class_names)
    scored = slice(1 if n_classes == 2 else 0, n_classes)
    label_counts = crosstab(codes, labels, len(groups), n_classes)
    size, positive = np.broadcast_arrays(label_counts.sum(axis=1, keepdims=True), label_counts[:, scored])
    below = np.stack([size, positive, size - positive])
    usable = (below > 0) & (below[1:].min(axis=0) >= exclude_below)
    outcome = 2 * predicted.astype(np.intp) + (predicted == labels)
    return Cells(labels, codes, outcome, tuple(groups), tuple(class_names)[scored], scored, below, usable)


def crosstab(rows: np.ndarray, columns: np.ndarray, n_rows: int, n_columns: int) -> np.ndarray:
    return np.bincount(rows * n_columns + columns, minlength=n_rows * n_columns).reshape(n_rows, n_columns)


def count(cells: Cells, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often each class was predicted in each group, and rightly so: two (R, G, K) int arrays."""
    shape = (len(cells.groups), cells.n_classes, 2)
    offset = codes * (2 * cells.n_classes)
    counts = np.stack([np.bincount(offset + row, minlength=np.prod(shape)).reshape(shape) for row in cells.outcome])
    return counts.sum(axis=-1)[:, :, cells.scored], counts[:, :, cells.scored, 1]


def rates(cells: Cells, codes: np.ndarray | None = None) -> np.ndarray:
    """(R, 3, G, K): selection rate, TPR, FPR one-vs-rest; NaN where not usable.

    Other `codes` than the cells' own must leave the label counts of every group as they are, or only the selection rate
    is right.
    """
    return divide(cells, *count(cells, cells.codes if codes is None else codes))


def divide(cells: Cells, selected: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """(..., 3, G, K) rates of a class that was predicted and rightly predicted so often, (..., G, K) each."""
    counts = np.stack([selected, hits, selected - hits], axis=-3)
    return np.where(cells.usable, counts / np.maximum(cells.below, 1), np.nan)


def spread(rates: np.ndarray) -> np.ndarray:
    """Largest minus smallest over groups, the second last axis; NaN where fewer than two groups have the rate."""
    here = ~np.isnan(rates)
    highest = np.where(here, rates, -np.inf).max(axis=-2)
    lowest = np.where(here, rates, np.inf).min(axis=-2)
    return np.where(here.sum(axis=-2) >= 2, highest - lowest, np.nan)


def differences(rates: np.ndarray) -> dict[str, np.ndarray]:
    """Algorithm 1 of the paper: each difference one-vs-rest, then the plain mean over the scored classes.

    rates (..., 3, G, K) -> dpd, eod, tpr_difference, fpr_difference, each of shape (...). A class in which fewer than
    two groups have the rate is left out of the mean. Raises UndefinedMetric if no class is left.
    """
    found = scores(rates)
    for name, values in found.items():
        if np.isnan(values).all():
            raise UndefinedMetric(
                f"{name} is undefined: in no class do two groups have both positives and negatives "
                "enough. Merge groups, lower exclude_below, or choose another sensitive feature."
            )
    return found


def scores(rates: np.ndarray) -> dict[str, np.ndarray]:
    """`differences`, but NaN where one is undefined."""
    dpd, tpr, fpr = np.moveaxis(spread(rates), -2, 0)
    parts = dict(zip(DIFFERENCES, (dpd, np.maximum(tpr, fpr), tpr, fpr), strict=True))
    known = {name: (~np.isnan(values)).sum(axis=-1) for name, values in parts.items()}
    with np.errstate(invalid="ignore"):
        return {name: np.nansum(values, axis=-1) / known[name] for name, values in parts.items()}


def describe_pairs(cells: Cells, chosen: np.ndarray) -> str:
    """The (G, K) chosen pairs in words, with their counts."""
    _, positive, negative = cells.below
    return "; ".join(
        f"group {cells.groups[g]!r}, class {cells.classes[k]!r}: {positive[g, k]} positives, {negative[g, k]} negatives"
        for g, k in np.argwhere(chosen)
    )


def group_codes(predictions: Predictions, sensitive: str, *, missing: str = "error") -> Groups:
    """`encode_groups` of a sensitive feature of `predictions`; raises InvalidInput for an unknown one."""
    require_known("sensitive feature", sensitive, predictions.groups, place="predictions.groups")
    return encode_groups(predictions.groups[sensitive], f"groups[{sensitive!r}]", missing=missing)


def prepare(
    predictions: Predictions, *, sensitive: str, missing: str = "error", exclude_below: int = 0
) -> tuple[Cells, int]:
    """The counts by class and group of all runs, and how many samples were dropped."""
    if exclude_below < 0:
        raise InvalidInput(f"exclude_below is {exclude_below}; it is a count of samples, 0 or more.")
    codes, groups = group_codes(predictions, sensitive, missing=missing)
    kept = codes >= 0
    counted = predictions.labels[kept], predictions.predicted[:, kept], codes[kept]
    cells = build_cells(*counted, groups, predictions.class_names, exclude_below=exclude_below)
    return cells, int((~kept).sum())
