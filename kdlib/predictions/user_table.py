"""Anyone's own predictions, from a CSV or parquet file or a DataFrame: `kdlib.read_table`.

One row per test sample and run. Rows are aligned by sample id, never by order; class columns by name, never by place.
What a table lacks is derived where there is one answer (run ids, the class with the largest probability), and never
invented (teachers). Every error names the user's own column, the value and the row. No torch.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdlib.errors import InvalidInput, caution, unknown
from kdlib.predictions import RUN_COLUMNS, Predictions, softmax, table_files
from kdlib.predictions.table_files import EMPTY_OR_NUMBER, MISSING, Column, Source, Table, as_text, is_whole, plain

KNOWN = ("sample_id", "y_true", "y_pred", *RUN_COLUMNS)
PREFIXES = ("prob_", "logit_")
OFF = 1e-2  # as much may the probabilities of a sample differ from 1 in sum
LONG = 64  # characters; longer names of groups are kept as objects, not in an array as wide as the longest


def read_table(
    source: Source | list[Source],
    *,
    columns: Mapping[str, str] | None = None,
    classes: Sequence[object] | None = None,
    separator: str | None = None,
    encoding: str | None = None,
) -> Predictions:
    """The predictions in a table with one row per test sample and run.

    source     a path, a DataFrame, or a list of them with the same columns. Parquet is told from CSV by content; a CSV
               may be compressed, in UTF-8, UTF-16 or Latin-1, with any usual separator, a decimal point or comma
    columns    {our name: yours} where they differ: {"y_true": "label", "prob_1": "score"}
    classes    the classes in order. Default: whole numbers by size, other labels by alphabet. Of two classes the second
               is the positive one: so "yes" after "no", 1 after -1; but for "approved" say ["denied", "approved"]
    separator, encoding   of CSV files, where they are not recognized

    The columns, all others are told from their values:
    sample_id, model, y_true   needed. Any text or whole numbers; models may have any name
    y_pred                     the predicted class; without it the class of the largest probability or logit
    prob_<class>, logit_<class>   numbers, one column per class, in any order; prob_ counts where there are both. Of two
                               classes one prob_ column is enough
    seed                       a whole number; without it every model has one run, of seed 0
    temperature, alpha         numbers, of distilled models; may be empty
    teacher_id                 the run_id of the run's teacher; may be empty
    run_id, study              Rows that agree in all columns of this list from `model` to here are one run. Without
                               run_id it is called after them: "ds T=4 alpha=0.8 seed 0"
    any other                  a group where each sample has one value in all runs; a column of `.runs` where each run
                               has one value (a sparsity; numbers if all are); left out with a warning where it varies
                               with both (a loss)

    Groups without a value are kept as "": `fairness` says what becomes of them. Spaces around values do not count.
    Raises InvalidInput, one line that names column, value and row, for: columns missing, unknown or of mixed types; no
    rows; a sample twice in a run, or not in all runs; labels that are missing, fractional or differ between runs;
    numbers that are missing or not finite; probabilities outside 0 .. 1, or that do not sum to 1 or contradict y_pred;
    classes without a column of their own.
    """
    theirs = _theirs(columns or {})
    wanted = [theirs.get(name, name) for name in KNOWN]
    frame = table_files.load(source, wanted=wanted, separator=separator, encoding=encoding)
    for our, name in theirs.items():
        if name not in frame:
            raise unknown("column", name, frame, place=f"columns ({our}={name})")
    hidden = {*theirs} - {*theirs.values()}  # columns of our name that are not the ones meant
    frame = frame.drop(columns=[*hidden & {*frame}]).rename(columns={name: our for our, name in theirs.items()})
    return _predictions(Table(frame, theirs), classes)


def parse_columns(text: str) -> dict[str, str]:
    """The `columns` of `read_table`, written 'y_true=label,y_pred=guess'; '"y_true=a,b"' where a name has a comma.

    Raises InvalidInput for anything else.
    """
    found: dict[str, str] = {}
    for pair in next(csv.reader([text]), []):
        our, _, name = (part.strip() for part in pair.partition("="))
        if not our or not name or our in found:
            raise InvalidInput(f"columns: {pair!r} in {text!r} is not one more OUR=YOURS, such as y_true=label.")
        found[our] = name
    return found


def _theirs(columns: Mapping[str, str]) -> dict[str, str]:
    for our, name in columns.items():
        if our not in KNOWN and not str(our).startswith(PREFIXES):
            raise unknown("name", our, [*KNOWN, "prob_<class>", "logit_<class>"], place="columns (ours=yours)")
        if [*columns.values()].count(name) > 1:
            raise InvalidInput(f"columns gives {name!r} to {our!r} and to another: one column has one meaning.")
    return {str(our): str(name) for our, name in columns.items()}


# --- rows to runs and samples -----------------------------------------------------------------------------------------


class _Grid(NamedTuple):
    """The row (R, N) of each sample in each run, the samples' ids, the table of runs."""

    rows: np.ndarray
    ids: list[str]
    runs: pd.DataFrame


def _grid(t: Table) -> _Grid:
    samples, (run, runs) = t.text("sample_id", ("",)), _runs(t)
    shape = len(runs), len(samples.texts)
    position = run * shape[1] + samples.codes
    for other in np.flatnonzero(pd.Series(position).duplicated())[:1]:
        one = np.argmax(position == position[other])
        same = (t.frame.iloc[one] == t.frame.iloc[other]) | t.frame.iloc[one].isna()
        hint = f"They differ in {', '.join(map(repr, same.index[~same][:9]))}. " if not same.all() else ""
        raise InvalidInput(
            f"sample {samples.texts[samples.codes[one]]!r} stands twice in run {runs['run_id'][run[one]]!r}: "
            f"{t.row(one)} and {t.row(other)}. {hint}Tell runs apart by seed or model; leave no row twice."
        )
    for r in np.flatnonzero(np.bincount(run) < shape[1])[:1]:
        absent = np.setdiff1d(np.arange(shape[1]), samples.codes[run == r])
        text = samples.texts[absent[0]]
        raise InvalidInput(
            f"run {runs['run_id'][r]!r} lacks {len(absent)} samples that others have, such as {text!r} of "
            f"{t.row(samples.first(text))}. All runs need the same samples: predict them, or leave them out "
            "everywhere."
        )
    rows = np.empty(len(position), np.int64)
    rows[position] = np.arange(len(position))
    return _Grid(rows.reshape(shape), samples.texts, runs)


def _runs(t: Table) -> tuple[np.ndarray, pd.DataFrame]:
    """(n,) the run of each row, and the table of runs."""
    given = pd.DataFrame({name: _of_runs(t, name) for name in RUN_COLUMNS if name in t.frame})
    run = given.groupby([*given], dropna=False, sort=False).ngroup().to_numpy()
    first = np.unique(run, return_index=True)[1]
    runs = _completed(given.iloc[first].reset_index(drop=True))
    for name in runs["run_id"][runs["run_id"].duplicated()][:1]:
        rows = [t.row(row) for row in first[runs["run_id"] == name][:2]]
        raise InvalidInput(f"run {name!r} has another model, seed or the like in {rows[0]} than in {rows[1]}.")
    return run, runs


def _of_runs(t: Table, name: str) -> np.ndarray:
    """(n,) values of a column that tells runs apart: numbers, or text and None."""
    if name in ("seed", *EMPTY_OR_NUMBER):
        return t.numbers(name, whole=name == "seed")
    column = t.text(name, may_lack=name == "teacher_id")
    return np.array([*column.texts, None], object)[column.codes]


def _completed(runs: pd.DataFrame) -> pd.DataFrame:
    """With what was not given: seed 0, no temperature, alpha or teacher, and names made of what was given."""
    words = {"temperature": " T={:g}", "alpha": " alpha={:g}", "seed": " seed {:g}", "teacher_id": " of {}"}
    words |= {"study": " in {}"}
    names = runs["model"].astype(object)
    for name in (name for name in words if name in runs):
        names = names + [words[name].format(value) if pd.notna(value) else "" for value in runs[name]]
    lacking = {"run_id": names, "study": "table", "seed": 0, "temperature": np.nan, "alpha": np.nan, "teacher_id": None}
    return pd.DataFrame({name: runs.get(name, lacking.get(name)) for name in RUN_COLUMNS}, index=runs.index)


# --- classes ----------------------------------------------------------------------------------------------------------


def _class_names(
    t: Table, labels: Mapping[str, Column], of_columns: Iterable[str], given: Sequence[object] | None
) -> tuple[str, ...]:
    """The classes in order. labels: y_true, and y_pred if it is there; of_columns: the classes that have a column."""
    found = {text for column in labels.values() for text in column.texts} | {*of_columns}
    if given is None:
        return tuple(sorted(found, key=int) if all(map(is_whole, found)) else sorted(found))
    if isinstance(given, str):
        raise InvalidInput(f"classes is the text {given!r}; a list of the classes in order is needed.")
    names = tuple(as_text(name) for name in given)
    for name, column in labels.items():
        for text in (text for text in column.texts if text not in names):
            raise unknown("class", text, names, place=t.cell(name, column.first(text)) + ", which classes= lacks")
    if extra := sorted({*of_columns} - {*names}):
        raise unknown("class", extra[0], names, place="the prob_ or logit_ columns, which classes= lacks")
    return names


def _labels(t: Table, of_columns: Iterable[str]) -> dict[str, Column]:
    """y_true, and y_pred where it is there, as plain whole numbers if all classes are."""
    labels = {name: t.text(name) for name in ("y_true", "y_pred") if name in t.frame}
    for name, column in labels.items():
        fractions = [text for text in column.texts if not is_whole(text)]
        if fractions and not np.isnan(t.floats(name, column)).any():
            where = t.cell(name, column.first(fractions[0]))
            text = "a class is a name or a whole number in digits alone. Name a score prob_<class>."
            raise InvalidInput(f"{where}: {text}")
    if all(is_whole(text) for column in labels.values() for text in column.texts) and all(map(is_whole, of_columns)):
        return {name: column.renamed(map(plain, column.texts)) for name, column in labels.items()}
    _refuse_strangers(t, labels)
    return labels


def _refuse_strangers(t: Table, labels: Mapping[str, Column]) -> None:
    """Labels and predictions of two kinds (yes and 1), and a prediction in another spelling (Yes) than the labels."""
    true, predicted = labels["y_true"].texts, labels.get("y_pred", labels["y_true"]).texts
    kinds = {all(map(is_whole, texts)) for texts in (true, predicted)}
    if not {*true} & {*predicted} and len(kinds) > 1:
        raise InvalidInput(f"{t.cell('y_true', 0)}, but {t.cell('y_pred', 0)}: no class in common. Write both alike.")
    spelled = {text.casefold(): text for text in true}
    for text in (text for text in predicted if text not in true and text.casefold() in spelled):
        cells = (
            t.cell("y_true", labels["y_true"].first(spelled[text.casefold()])),
            t.cell("y_pred", labels["y_pred"].first(text)),
        )
        raise InvalidInput(f"{cells[0]}, but {cells[1]}: one class in two spellings. Write it alike.")


def _class_columns(t: Table) -> tuple[str, dict[str, str]]:
    """('prob_', {class: its column}), or the same with 'logit_'."""
    for prefix in PREFIXES:
        found: dict[str, str] = {}
        for column in (name for name in t.frame if name.startswith(prefix)):
            text = column.removeprefix(prefix).strip()
            if found.setdefault(plain(text) if is_whole(text) else text, column) != column:
                raise InvalidInput(f"{t.called(column)} is of a class that has another column. Drop one of them.")
        if found:
            return prefix, found
    return "", {}


# --- probabilities ----------------------------------------------------------------------------------------------------


def _probabilities(
    t: Table, rows: np.ndarray, prefix: str, of_class: Mapping[str, str], names: Sequence[str]
) -> tuple[list[np.ndarray], np.ndarray]:
    """R arrays (N, C) float32, and the class (R, N) with the largest value."""
    if len(names) == 1:
        text = f"{t.called(of_class[names[0]])} of {t.name()} is of {names[0]!r}, the only class in the table."
        remedy = f"Name both in order, classes=['other', {names[0]!r}], in the command --classes other,{names[0]}."
        raise InvalidInput(f"{text} {remedy}")
    values = {name: t.numbers(column) for name, column in of_class.items()}
    lacking = [name for name in names if name not in values]
    if prefix == "prob_" and len(lacking) == len(values) == 1:
        values[lacking[0]] = np.maximum(1 - next(iter(values.values())), 0)
    elif lacking:
        have = ", ".join(t.called(column) for column in [*of_class.values()][:9])
        text = f"no column {prefix + lacking[0]!r} for class {lacking[0]!r}; there are {have}."
        raise InvalidInput(f"{text} Is it the class of a label? Then give its numbers, or rename a column.")
    if prefix == "prob_":
        _check_probabilities(t, of_class, values)
    arrays, best = [], np.empty(rows.shape, np.int64)
    for run, of_run in enumerate(rows):
        block = np.stack([values[name][of_run] for name in names], axis=1)
        best[run] = block.argmax(axis=1)
        arrays.append((softmax(block) if prefix == "logit_" else block).astype(np.float32))
    return arrays, best


def _check_probabilities(t: Table, of_class: Mapping[str, str], values: Mapping[str, np.ndarray]) -> None:
    logits = "If these are logits, name the columns logit_<class>."
    for name, column in of_class.items():
        for bad in np.flatnonzero((values[name] < 0) | (values[name] > 1 + OFF))[:1]:
            raise InvalidInput(f"{t.cell(column, bad)}, outside 0 .. 1. {logits}")
    total = sum(values.values())
    for bad in np.flatnonzero(np.abs(total - 1) > OFF)[:1]:
        listed = ", ".join(t.called(column) for column in [*of_class.values()][:9])
        raise InvalidInput(f"{listed} sum to {total[bad]:g}, not 1, in {t.row(bad)}. {logits}")


# --- all together -----------------------------------------------------------------------------------------------------


def _predictions(t: Table, classes: Sequence[object] | None) -> Predictions:
    prefix, of_class = _class_columns(t)
    lacking = [name for name in ("sample_id", "model", "y_true") if name not in t.frame]
    if not of_class and "y_pred" not in t.frame:
        lacking.append("y_pred (or prob_<class>, or logit_<class>)")
    if lacking:
        have = ", ".join(map(repr, t.frame.columns[:40]))
        raise InvalidInput(
            f"{t.name()} has no column {' and no '.join(lacking)}; it has {have}. If yours have other names, "
            "say which: columns={'sample_id': 'img'}, in the command --columns sample_id=img."
        )
    grid, labels = _grid(t), _labels(t, of_class)
    names = _class_names(t, labels, of_class, classes)
    of_name = {name: code for code, name in enumerate(names)}
    coded = {name: np.array([of_name[text] for text in c.texts])[c.codes[grid.rows]] for name, c in labels.items()}
    for run, sample in np.argwhere(coded["y_true"] != coded["y_true"][0])[:1]:
        one, other = (t.cell("y_true", grid.rows[r, sample]) for r in (0, run))
        raise InvalidInput(f"sample {grid.ids[sample]!r} has two labels: {one}, {other}. Correct one.")
    probabilities = None
    if of_class:
        probabilities, best = _probabilities(t, grid.rows, prefix, of_class, names)
        coded.setdefault("y_pred", best)
    groups, of_runs = _others(t, grid)
    return Predictions(
        runs=grid.runs.assign(**of_runs),
        predicted=coded["y_pred"],
        labels=coded["y_true"][0],
        sample_ids=np.array(grid.ids),
        class_names=names,
        probabilities=probabilities,
        groups=groups,
    )


def _others(t: Table, grid: _Grid) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """({group: (N,) values}, {column of the runs: (R,) values}) from all columns that have no other meaning."""
    groups, of_runs = {}, {}
    for name in (name for name in t.frame if name not in KNOWN and not name.startswith(PREFIXES)):
        column = t.text(name, ("",), may_lack=True)
        found, texts = column.codes[grid.rows], np.array([*column.texts, ""], object)
        if (found == found[0]).all():
            groups[name] = (texts.astype(str) if max(map(len, texts)) <= LONG else texts)[found[0]]
        elif (found == found[:, :1]).all():
            values = texts[found[:, 0]]
            numbers = np.array([*t.floats(name, column), np.nan])[found[:, 0]]
            of_runs[name] = values if np.isnan(numbers[[text not in MISSING for text in values]]).any() else numbers
        else:
            run, sample = np.argwhere(found != found[0])[0]
            one, other = (t.cell(name, grid.rows[r, sample]) for r in (0, run))
            text = f"left out: {one}, but {other}, of one sample: no group. It varies within a run as well."
            caution(text, stacklevel=4)
    return groups, of_runs
