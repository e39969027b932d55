"""Released predictions: a study's runs in one small committed file, `figures/<profile>/predictions/<study>.parquet`.

One row per sample of the test part, and of the validation part where the runs have one: part, sample_id, label,
group:<name>, and of each run its predicted class and log-probabilities in fp16: of two classes that of the other one,
which says both; of every class where there are twins and at most FULL; of the predicted class alone otherwise.
Logarithms, because fp16 holds them to 0.1 % near 0 and near 1 alike, where probabilities below 6e-8 would vanish. The
label and the groups are the only annotations released; what needs others is a scalar of the run. The runs' recipes,
provenance and scalars stand in the file's metadata, and for people in <study>.json beside it. The sha256 of the file
stands in SHA256SUMS, and is checked when it is read; so are the types and values, because a file may be whole and still
wrong. Values that could be, but are not those that were released, such as labels or samples that changed places, tell
by `content` in the metadata: a sha256 of all values, taken from the runs. Files from before it was there are read
without.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax

from kdlib import files, places, store
from kdlib.errors import NotTrained, StoreError, require_known
from kdlib.predictions import ROUNDED, RUN_COLUMNS, check_probabilities, whole_numbers
from kdlib.studies import Run, Study

FULL = 10  # classes up to which every probability is released of a study with twins
SCHEMA = 2
KEPT = ("device", "hardware", "torch", "seconds", "date", "train_images")  # of a run's provenance


def parts_of(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """'test', and the other parts that a run predicted; their arrays are stored as 'part:name'."""
    return ["test", *sorted(name.removesuffix(":class_names") for name in arrays if name.endswith(":class_names"))]


def of_part(arrays: Mapping[str, np.ndarray], part: str, run: object) -> dict[str, np.ndarray]:
    """The arrays of one part under their plain names. Raises InvalidInput, naming the run, where it is not there."""
    require_known("part", part, parts_of(arrays), place=f"what {run} predicted")
    return dict(arrays) if part == "test" else store.under(f"{part}:", arrays)


def path_of(folder: Path | str, study: Study) -> Path:
    """The file of a study in a folder of released predictions."""
    return Path(folder) / f"{study.name}.parquet"


def write(
    study: Study, *, runs_dir: Path | str, folder: Path | str, scalars: Mapping[str, Mapping[str, float]]
) -> Path:
    """Release a study whose runs are all trained; returns the file, with <study>.json beside it.

    scalars: {first 16 digits of a run's id: {name: value}}, what the file cannot tell again (`fidelity.scalars`,
    `individual_runs.scalars`).
    Raises NotTrained if a run is missing, StoreError for a damaged one or a folder that cannot be written.
    """
    runs = study.runs()
    if missing := [run for run in runs if store.state(runs_dir, run) != "done"]:
        raise NotTrained(
            f"study {study.name!r} lacks {len(missing)} of {len(runs)} runs, such as {missing[0]}. Train it: "
            f"{study.command(runs_dir)}"
        )
    about = []
    for run in runs:
        known = store.provenance(Path(runs_dir), run)
        said = {"provenance": {name: known[name] for name in KEPT}, "scalars": dict(scalars[run.id[:16]])}
        about.append({"id": run.id, "run": run.to_dict(), **said})
    path = path_of(folder, study)
    files.replace_file(path, _parquet([partial(store.read, Path(runs_dir), run) for run in runs], about))
    files.write_sum(path)
    files.replace_file(path.with_suffix(".json"), files.to_json(_summary(study, about)))
    return path


def _parquet(readers: list[Callable[[], tuple[dict, dict]]], about: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = readers[0]()[0]
    parts = {part: _of_runs(part, readers, of_part(first, part, "a run"), about) for part in parts_of(first)}
    metadata = {"schema": SCHEMA, "class_names": first["class_names"].tolist(), "runs": about}
    values = ((part, name, column) for part, columns in parts.items() for name, column in columns.items())
    metadata["content"] = _content(values, metadata)
    tables = [pa.table(columns) for columns in parts.values()]
    table = pa.concat_tables(tables, promote_options="permissive")  # null where a part has no such column: twins
    table = table.replace_schema_metadata({"kdlib": json.dumps(metadata, sort_keys=True)})
    sink = pa.BufferOutputStream()
    numbers = [name for name in table.column_names if ":log" in name]
    others = [name for name in table.column_names if name not in numbers]
    encoding = {"use_dictionary": others, "column_encoding": dict.fromkeys(numbers, "BYTE_STREAM_SPLIT")}
    pq.write_table(table, sink, compression="zstd", compression_level=19, write_page_checksum=True, **encoding)
    return sink.getvalue().to_pybytes()


def _of_runs(
    part: str,
    readers: list[Callable[[], tuple[dict, dict]]],
    first: dict[str, np.ndarray],
    about: list[dict[str, Any]],
) -> dict[str, np.ndarray]:
    """{column: (N,) values} of one part. first: the arrays of the first run."""
    names = [f"run {entry['id'][:16]}" for entry in about]
    columns = {"part": np.full(len(first["labels"]), part, object), "sample_id": first["sample_ids"].astype(object)}
    columns |= {"label": _smallest(first["labels"])}
    columns |= {name: values.astype(object) for name, values in first.items() if name.startswith("group:")}
    for i, read in enumerate(readers):
        arrays = of_part(read()[0], part, names[i])
        if not all(np.array_equal(arrays[name], first[name]) for name in ("sample_ids", "labels", "class_names")):
            raise StoreError(f"{names[i]} has other samples, labels or classes than {names[0]}.")
        columns |= {f"{i}:{name}": values for name, values in _of_run(arrays).items()}
    return columns


def _of_run(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{column without the run's number: (N,) values}."""
    logits = arrays["logits"]
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    columns = {"predicted": _smallest(logits.argmax(axis=1))}
    twins = {name: twin for name, twin in arrays.items() if name.startswith("twin:")}
    if logits.shape[1] == 2 and not twins:
        return columns | {"log other": _half(log_p.min(axis=1))}
    if not twins or logits.shape[1] > FULL:
        return columns | {"log predicted": _half(log_p.max(axis=1))}
    columns |= {f"log {c}": _half(log_p[:, c]) for c in range(logits.shape[1])}
    for name, twin in twins.items():
        log_q = log_softmax(twin.astype(np.float64), axis=1)
        columns |= {f"log {name} {c}": _half(log_q[:, c]) for c in range(logits.shape[1])}
    return columns


def _content(columns: Iterable[tuple[str, str, np.ndarray]], about: Mapping[str, Any]) -> str:
    """64 hexadecimal digits that stand for the metadata and every value, in order. columns: (part, name, values)."""

    def sum_of(values: np.ndarray) -> str:
        numbers = values.dtype.kind in "iuf"
        return files.sha256(values.astype("<f8").tobytes() if numbers else json.dumps(values.tolist()).encode())

    said = {name: value for name, value in about.items() if name != "content"}
    sums = sorted([part, name, sum_of(values)] for part, name, values in columns)
    return files.sha256(json.dumps([said, sums], sort_keys=True).encode())


def _half(values: np.ndarray) -> np.ndarray:
    return values.clip(min=np.finfo(np.float16).min).astype(np.float16)


def _smallest(values: np.ndarray) -> np.ndarray:
    return values.astype(np.min_scalar_type(int(values.max())))


def _summary(study: Study, about: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Provenance for people: where, when and how long, by run."""
    runs = [{"run": str(Run.from_dict(a["run"])), "id": a["id"], **a["provenance"], **a["scalars"]} for a in about]
    return {"study": study.name, "title": study.title, "runs": runs, "seconds": sum(run["seconds"] for run in runs)}


def ids(folder: Path | str, study: Study) -> set[str]:
    """The ids of the runs that are released of a study, as the file for people says; empty where there is none."""
    try:
        return {run["id"] for run in json.loads(path_of(folder, study).with_suffix(".json").read_bytes())["runs"]}
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def read(folder: Path | str, study: Study) -> list[tuple[Run, Callable[[], dict[str, np.ndarray]], dict[str, float]]]:
    """The released runs of a study that its recipe still describes: (run, what reads its arrays, scalars).

    arrays: sample_ids, labels, class_names, predicted (N,), 'group:<name>'; as logits log-probabilities (N, C) float32
    and 'twin:<feature>' likewise, or, where not every class is released, confidence (N,). A validation part has the
    same as 'validation:<name>', as in a run's own file. All of them are checked here, and read anew at every call.
    Empty where no file is there.
    Raises StoreError for a file that is damaged, of another kind, or whose runs are not what their ids say.
    """
    import pyarrow as pa

    path = path_of(folder, study)
    if not path.is_file():
        return []
    data = files.read_verified(path, known=sorted(places.project_root().glob("figures/*/predictions")))
    wanted = {run.id: run for run in study.runs()}
    found, malformed = [], (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)
    try:
        file = _File(data)
        for i, entry in enumerate(file.about["runs"]):
            if Run.from_dict(entry["run"]).id != entry["id"]:
                raise ValueError(f"run {i} is not what its id {entry['id'][:16]} says")
            if entry["id"] in wanted:
                found.append((wanted[entry["id"]], partial(file.arrays, i), entry["scalars"]))
        _check_agreement(found)
        if "content" in file.about and file.about["content"] != _content(file.values(), file.about):
            raise ValueError("its values are not those that were released")
    except (*malformed, RecursionError, pa.ArrowException) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0][:300]
        what = f"{path} is damaged, or no file of released predictions: {text}"
        raise StoreError(f"{what}. Restore it from the repository.") from error
    return found


def _check_agreement(found: list[tuple[Run, Callable[[], dict[str, np.ndarray]], dict[str, float]]]) -> None:
    """Classes are those that their run predicted: what was released of it says how often it agrees with its teacher."""
    predicted = {run: arrays()["predicted"] for run, arrays, _ in found}
    teachers = {key: predicted[run] for run in predicted if run.role == "teacher" for key in (run.id, run.seed)}
    for run, _, scalars in found:
        teacher = teachers.get(run.teacher.id if run.teacher else run.seed)
        if teacher is not None and "agreement" in scalars:
            agreement = (teacher == predicted[run]).mean()
            if abs(agreement - scalars["agreement"]) > 1e-9:
                raise ValueError(f"{run} agrees with its teacher on {agreement:.4%}, not {scalars['agreement']:.4%}")


class _File:
    """A released file from verified bytes; columns are read when asked for. Malformed ones raise many errors."""

    def __init__(self, data: bytes) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        self.about = json.loads((self._file.schema_arrow.metadata or {})[b"kdlib"])
        names = self._file.schema_arrow.names
        _check_metadata(self.about, names)
        self._part = self._file.read(columns=["part"])["part"]
        parts = self._part.unique().to_pylist()
        if "test" not in parts or not all(isinstance(name, str) for name in parts):
            raise ValueError(f"parts {parts[:9]} are not texts with 'test' among them")
        shared = [name for name in names if name in ("sample_id", "label") or name.startswith("group:")]
        tables = {part: self._columns(part, shared) for part in parts}
        self._shared = {part: _shared(table, self.about["class_names"]) for part, table in tables.items()}

    def arrays(self, run: int) -> dict[str, np.ndarray]:
        """What `read` promises of the run at this place of the metadata."""
        names = [name for name in self._file.schema_arrow.names if name.startswith(f"{run}:")]
        return {
            name if part == "test" else f"{part}:{name}": values
            for part, shared in self._shared.items()
            for name, values in _arrays(shared, self._columns(part, names), run).items()
        }

    def values(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """(part, column, values) of all that is in the file."""
        for part, name in product(self._shared, self._file.schema_arrow.names):
            yield from ((part, name, column) for name, column in self._columns(part, [name]).items())

    def _columns(self, part: str, names: list[str]) -> dict[str, np.ndarray]:
        """{column: (N,) values} of one part, without the columns that it does not have."""
        import pyarrow.compute as pc

        table = self._file.read(columns=names)
        if empty := [name for name in names if table[name].null_count == len(table)]:
            raise ValueError(f"{empty[0]} has no values")
        rows = table.filter(pc.equal(self._part, part))
        return {name: rows[name].to_numpy() for name in names if rows[name].null_count < len(rows)}


def _check_metadata(about: dict[str, Any], columns: list[str]) -> None:
    """Types of all that is read, and a column of predicted classes for each run and no other."""
    if about["schema"] != SCHEMA:
        raise ValueError(f"schema {about['schema']!r} is not {SCHEMA}")
    names = about["class_names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        raise ValueError(f"class_names {names!r} are no list of different texts")
    for entry in about["runs"]:
        for name, value in entry["scalars"].items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not -1e-9 < float(value) < np.inf:
                raise ValueError(f"{name} of run {entry['id']!r} is {value!r}, no number of 0 or more")
            if name in RUN_COLUMNS:
                raise ValueError(f"{name} of run {entry['id']!r} is no scalar: its recipe says it")
    predicted = {name for name in columns if name.endswith(":predicted")}
    if predicted != {f"{i}:predicted" for i in range(len(about["runs"]))} or len({*columns}) < len(columns):
        raise ValueError(f"{len(about['runs'])} runs, but columns {sorted(predicted)}")


def _shared(table: Mapping[str, np.ndarray], class_names: list[str]) -> dict[str, np.ndarray]:
    """The arrays of a part that every run has."""

    def text(name: str) -> np.ndarray:
        if not all(isinstance(value, str) for value in table[name]):
            raise ValueError(f"{name} has a value that is no text")
        return table[name].astype(str)

    arrays = {name: text(name) for name in table if name.startswith("group:")} | {"sample_ids": text("sample_id")}
    labels = whole_numbers(table["label"], "label", len(class_names))
    return arrays | {"labels": labels, "class_names": np.array(class_names)}


def _arrays(shared: Mapping[str, np.ndarray], table: Mapping[str, np.ndarray], run: int) -> dict[str, np.ndarray]:
    """All arrays of a run, from what runs share and its own columns."""
    n_classes = len(shared["class_names"])

    def log(what: str) -> np.ndarray:
        found = np.stack([logarithms(f"{what}{c}") for c in range(n_classes)], axis=1)
        check_probabilities(np.exp(found), found.shape, what=f"probabilities '{what}' of run {run}")
        return found

    def logarithms(what: str) -> np.ndarray:
        name = f"{run}:log {what}"
        values = table[name]
        if values.dtype != np.float16 or not (values <= 0).all():  # NaN is neither
            raise ValueError(f"{name} has a value that is no logarithm of a probability in half precision")
        return values.astype(np.float32)

    arrays = shared | {"predicted": whole_numbers(table[f"{run}:predicted"], f"{run}:predicted", n_classes)}
    if f"{run}:log other" in table:
        other = logarithms("other")
        if n_classes != 2 or (np.exp(other) > 0.5 + ROUNDED).any():
            raise ValueError(f"{run}:log other is not of the less probable of two classes")
        other = np.minimum(other, np.log(np.float32(0.5)))
        is_other = arrays["predicted"][:, None] != np.arange(2)
        return arrays | {"logits": np.where(is_other, other[:, None], np.log1p(-np.exp(other))[:, None])}
    if f"{run}:log 0" not in table:
        confidence = np.exp(logarithms("predicted"))
        if (confidence < 1 / n_classes - ROUNDED).any():
            raise ValueError(f"{run}:log predicted is not of the most probable of {n_classes} classes")
        return arrays | {"confidence": confidence}
    twins = {name.split("twin:")[1].rsplit(" ", 1)[0] for name in table if name.startswith(f"{run}:log twin:")}
    arrays |= {f"twin:{feature}": log(f"twin:{feature} ") for feature in sorted(twins)}
    return arrays | {"logits": log("")}
