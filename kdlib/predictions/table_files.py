"""Tables as people have them: CSV in any dialect, parquet, DataFrames, several at once; cells as text and numbers.

Cells of a CSV stay the text that they are: no id passes through a float. An error names the column as the user calls
it, the value, the file and the row. What the columns mean is for `user_table` to know.
"""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from kdlib.errors import InvalidInput, caution

Source = str | Path | pd.DataFrame
SEPARATORS = (",", ";", "\t", "|")
HEAD = 1 << 16  # bytes, in which the names of the columns stand
EMPTY_OR_NUMBER = ("temperature", "alpha")
MISSING = ("", "nan", "NaN", "NAN", "NaT", "<NA>", "NA", "N/A", "#N/A", "null", "NULL")  # what programs write for it
REMEDY = "Fill it, or leave that sample out of every run."
ROW_NUMBERS = re.compile(r"|Unnamed: \d+|__index_level_\d+__")  # columns of pandas that only count the rows


def load(
    source: Source | list[Source], *, wanted: Iterable[str], separator: str | None, encoding: str | None
) -> pd.DataFrame:
    """One DataFrame of all rows. wanted: names that the right separator finds most of.

    Its index says where a row is from: what file or frame, the number of the first row there (2 in a CSV), how far on.
    Raises InvalidInput for what is no table or has no rows, a column named twice, and parts of different columns.
    """
    frames, parts = [], []
    for one in source if isinstance(source, list | tuple) else [source]:
        name, first, frame = _open(one, {*wanted}, separator, encoding)
        frame = frame if frame.index.names == [None] else frame.reset_index()
        frame = frame.set_axis([str(column).strip() for column in frame.columns], axis=1)
        frame = frame.loc[:, [not ROW_NUMBERS.fullmatch(column) for column in frame.columns]]
        if len(twice := frame.columns[frame.columns.duplicated()]):
            raise InvalidInput(f"{name} has two columns called {twice[0]!r}. Rename one of them.")
        if frames and (odd := {*frame} ^ {*frames[0]}):
            raise InvalidInput(f"{parts[0][0]} and {name} differ in the columns {', '.join(map(repr, sorted(odd)))}.")
        frames.append(frame.reset_index(drop=True))
        parts.append((name, first))
    if not any(map(len, frames)):
        raise InvalidInput(f"{', '.join(name for name, _ in parts) or 'the list of tables'} has no rows.")
    mixed = {column: object for column in frames[0] if len({frame[column].dtype for frame in frames}) > 1}
    # as objects 1 and 1.5 stay what they are
    return pd.concat([frame.astype(mixed) for frame in frames], keys=parts)


def _open(
    source: Source, wanted: set[str], separator: str | None, encoding: str | None
) -> tuple[str, int, pd.DataFrame]:
    """(what to call it, the number of its first row, the table)."""
    if isinstance(source, pd.DataFrame):
        return source.attrs.get("name", "the DataFrame"), 0, source
    try:
        path = Path(source).expanduser()
        if not path.is_file():
            raise OSError("there is no such file")
        with pa.input_stream(str(path), compression="detect") as stream:
            head = stream.read(HEAD)
        if head.startswith(b"PAR1"):
            return path.name, 0, pd.read_parquet(path)
        return path.name, 2, _in_some_encoding(path, head, wanted, separator, encoding)
    except (ValueError, TypeError, LookupError, OSError, pa.ArrowException, csv.Error) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0][:300].rstrip(".")
        what = source if isinstance(source, str | Path) else f"a {type(source).__name__}"
        raise InvalidInput(f"{what} cannot be read as CSV or parquet: {text}.") from error


def _in_some_encoding(
    path: Path, head: bytes, wanted: set[str], separator: str | None, encoding: str | None
) -> pd.DataFrame:
    """A CSV in the given encoding, else the one that its first bytes show, UTF-8, or Latin-1 with a warning."""
    if encoding is None and head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        return _csv(path, head, wanted, separator, encoding or "utf-8-sig")
    except UnicodeError:
        if encoding is not None:
            raise
    frame = _csv(path, head, wanted, separator, "cp1252")
    text = f"{path} is not UTF-8 and was read as Windows-1252 (Latin-1). If names look wrong, give encoding=."
    caution(text, stacklevel=5)
    return frame


def _csv(path: Path, head: bytes, wanted: set[str], separator: str | None, encoding: str) -> pd.DataFrame:
    line = re.split(r"\r\n|\r|\n", codecs.getincrementaldecoder(encoding)().decode(head), maxsplit=1)[0]
    found = {one: next(csv.reader([line], delimiter=one), []) for one in ([separator] if separator else SEPARATORS)}
    best = max(found, key=lambda one: (len({name.strip() for name in found[one]} & wanted), len(found[one])))
    plain = {"dtype": str, "keep_default_na": False, "na_filter": False, "skipinitialspace": True}
    frame = pd.read_csv(path, sep=best, encoding=encoding.removesuffix("-sig"), **plain)
    if len(frame.columns) != len(found[best]) or not isinstance(frame.index, pd.RangeIndex):
        raise ValueError(f"its rows have another number of cells than its {len(found[best])} column names")
    return frame.set_axis(found[best], axis=1)  # pandas would rename one of two columns of one name


# --- cells ------------------------------------------------------------------------------------------------------------


class Column(NamedTuple):
    """(n,) codes, -1 where the value is missing, and the different texts that they stand for."""

    codes: np.ndarray
    texts: list[str]

    def renamed(self, new: Iterable[str]) -> Column:
        """Other texts for the same codes; equal ones become one."""
        code: dict[str, int] = {}
        again = np.array([*(code.setdefault(text, len(code)) for text in new), -1], np.int64)
        return Column(again[self.codes], [*code])

    def first(self, text: str) -> int:
        return int(np.argmax(self.codes == self.texts.index(text)))


class Table(NamedTuple):
    """The columns under our names, with the index of `load`, and what the user calls them."""

    frame: pd.DataFrame
    theirs: Mapping[str, str]

    def name(self) -> str:
        """What the first file or frame is called."""
        return self.frame.index[0][0]

    def row(self, position: int) -> str:
        """Where a row of the whole table stands: 'row 7 of p.csv'."""
        name, first, row = self.frame.index[position]
        return f"row {row + first} of {name}" + (" (from 0)" if first == 0 else "")

    def called(self, name: str) -> str:
        return f"column {self.theirs[name]!r} ({name})" if name in self.theirs else f"column {name!r}"

    def cell(self, name: str, position: int) -> str:
        """'column 'label' (y_true) is 'x' in row 7 of p.csv'."""
        value = self.frame[name].iloc[position]
        shown = repr(value) if isinstance(value, str) else str(value)
        return f"{self.called(name)} is {shown[:80]} in {self.row(position)}"

    def text(self, name: str, missing: Sequence[str] = MISSING, *, may_lack: bool = False) -> Column:
        try:
            codes, values = pd.factorize(self.frame[name])
            values = values.tolist()
        except TypeError as error:
            raise InvalidInput(f"{self.called(name)} has values that are no names: {error}. Drop it.") from error
        if len({isinstance(value, str) for value in values}) > 1:
            one, other = (next(v for v in values if isinstance(v, str) is text) for text in (True, False))
            raise InvalidInput(
                f"{self.called(name)} has the text {one!r} and {other!r}, which is none. Make all one kind, for "
                "example text with astype(str)."
            )
        column = Column(codes, values).renamed(map(as_text, values))
        none = [code for code, text in enumerate(column.texts) if text in missing]
        column.codes[np.isin(column.codes, none)] = -1
        if not may_lack and len(bad := np.flatnonzero(column.codes < 0)):
            raise InvalidInput(f"{self.cell(name, bad[0])}, and missing in {len(bad)} rows in all. {REMEDY}")
        return column

    def numbers(self, name: str, *, whole: bool = False) -> np.ndarray:
        """(n,) float64, finite; NaN for a temperature or alpha that is not there."""
        column = self.frame[name]
        if pd.api.types.is_numeric_dtype(column.dtype):
            found, empty = column.to_numpy(float, na_value=np.nan), column.isna().to_numpy()
        else:
            codes, values = pd.factorize(column)
            texts = [*map(as_text, values.tolist()), ""]
            found = self.floats(name, Column(codes, texts))[codes]
            empty = np.array([text in MISSING for text in texts])[codes]
        wrong = ~np.isfinite(found) | whole & ((found != np.round(found)) | (np.abs(found) >= 2**53))
        if name in EMPTY_OR_NUMBER:
            wrong &= ~empty
        if len(bad := np.flatnonzero(wrong)):
            raise InvalidInput(f"{self.cell(name, bad[0])}, no finite {'whole ' * whole}number. {REMEDY}")
        return found

    def floats(self, name: str, column: Column) -> np.ndarray:
        """What the texts of a column are as numbers. Raises InvalidInput where all are, with two decimal marks."""
        found = np.array([number(text) for text in column.texts])
        marked = {mark: text for text in column.texts for mark in ",." if mark in text and text not in MISSING}
        if len(marked) == 2 and not np.isnan(found[[text not in MISSING for text in column.texts]]).any():
            comma, point = (self.cell(name, column.first(marked[mark])) for mark in ",.")
            raise InvalidInput(f"{comma}, but {point}: a comma is no decimal mark beside a point. Write all alike.")
        return found


def as_text(value: object) -> str:
    """1, 1.0 and ' 1 ' are '1'."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return (value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)).strip()


def number(text: str) -> float:
    """With a decimal point or comma; NaN where it is none."""
    try:
        return math.nan if "_" in text else float(text.replace(",", "."))
    except ValueError:
        return math.nan


def is_whole(text: str) -> bool:
    """Beyond doubt: '1,000' may be 1 or 1000, and '9007199254740993.0' loses a digit as a float."""
    value, plainly = number(text), text.strip("+-").isdecimal()
    return value.is_integer() and (plainly or abs(value) < 2**53 and not re.search(r",\d{3}$", text))


def plain(text: str) -> str:
    """'4' for '4.0', '+4' and '04'; not by way of a float where it has more than 53 bits."""
    return str(int(text if text.strip("+-").isdecimal() else number(text)))
