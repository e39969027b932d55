"""Released predictions: a study's runs in one small committed file, `figures/<profile>/predictions/<study>.parquet`.

One row per sample of the test part, and of the validation part where the runs have one: part, sample_id, label,
group:<name>, and of each run its predicted class and log-probabilities in fp16: of every class where there are at most
FULL of them, of the predicted class and the label otherwise. Logarithms, because fp16 holds them to 0.1 % near 0 and
near 1 alike, where probabilities below 6e-8 would vanish. The label and the groups are the only annotations released;
what needs others is a scalar of the run. The runs' recipes, provenance and scalars stand in the file's metadata, and
for people in <study>.json beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax

from kdlib import files, store
from kdlib.errors import NotTrained, StoreError, unknown
from kdlib.studies import Run, Study

if TYPE_CHECKING:
    import pyarrow as pa

FULL = 10  # classes up to which every probability is released
SCHEMA = 2
KEPT = ("device", "hardware", "torch", "seconds", "date", "train_images")  # of a run's provenance


def parts_of(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """'test', and the other parts that a run predicted; their arrays are stored as 'part:name'."""
    return ["test", *sorted(name.removesuffix(":class_names") for name in arrays if name.endswith(":class_names"))]


def of_part(arrays: Mapping[str, np.ndarray], part: str, run: object) -> dict[str, np.ndarray]:
    """The arrays of one part under their plain names. Raises InvalidInput, naming the run, where it is not there."""
    if part not in parts_of(arrays):
        raise unknown("part", part, parts_of(arrays), place=f"what {run} predicted")
    if part == "test":
        return dict(arrays)
    return {name.removeprefix(f"{part}:"): values for name, values in arrays.items() if name.startswith(f"{part}:")}


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
            f"python -m kdlib train {study.name}"
        )
    read = [store.read(Path(runs_dir), run) for run in runs]
    about = [
        {
            "id": run.id,
            "run": run.to_dict(),
            "provenance": {name: provenance[name] for name in KEPT},
            "scalars": dict(scalars[run.id[:16]]),
        }
        for run, (_, provenance) in zip(runs, read, strict=True)
    ]
    path = path_of(folder, study)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace_file(path, _parquet([arrays for arrays, _ in read], about))
        files.replace_file(path.with_suffix(".json"), files.to_json(_summary(study, about)))
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error}. Free space or choose another folder.") from error
    return path


def _parquet(read: list[dict[str, np.ndarray]], about: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = [pa.table(_of_runs(part, read, about)) for part in parts_of(read[0])]
    metadata = {"schema": SCHEMA, "class_names": read[0]["class_names"].tolist(), "runs": about}
    table = pa.concat_tables(parts, promote_options="permissive")  # null where a part has no such column: twins
    table = table.replace_schema_metadata({"kdlib": json.dumps(metadata, sort_keys=True)})
    sink = pa.BufferOutputStream()
    numbers = [name for name in table.column_names if ":log" in name]
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in table.column_names if name not in numbers],
        column_encoding={name: "BYTE_STREAM_SPLIT" for name in numbers},
        write_page_checksum=True,
    )
    return sink.getvalue().to_pybytes()


def _of_runs(part: str, read: list[dict[str, np.ndarray]], about: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """{column: (N,) values} of one part."""
    read = [of_part(arrays, part, f"run {a['id'][:16]}") for arrays, a in zip(read, about, strict=True)]
    first = read[0]
    columns = {"part": np.full(len(first["labels"]), part, object), "sample_id": first["sample_ids"].astype(object)}
    columns |= {"label": _smallest(first["labels"])}
    columns |= {name: values.astype(object) for name, values in first.items() if name.startswith("group:")}
    for i, arrays in enumerate(read):
        if not all(np.array_equal(arrays[name], first[name]) for name in ("sample_ids", "labels", "class_names")):
            raise StoreError(
                f"run {about[i]['id'][:16]} has other samples, labels or classes than {about[0]['id'][:16]}."
            )
        columns |= {f"{i}:{name}": values for name, values in _of_run(arrays).items()}
    return columns


def _of_run(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{column without the run's number: (N,) values}."""
    logits, labels = arrays["logits"], arrays["labels"]
    predicted, log_p = logits.argmax(axis=1), log_softmax(logits.astype(np.float64), axis=1)
    columns = {"predicted": _smallest(predicted)}
    if logits.shape[1] > FULL:
        at = np.arange(len(labels))
        return columns | {"log predicted": _half(log_p[at, predicted]), "log label": _half(log_p[at, labels])}
    columns |= {f"log {c}": _half(log_p[:, c]) for c in range(logits.shape[1])}
    for name, twin in arrays.items():
        if name.startswith("twin:"):
            log_q = log_softmax(twin.astype(np.float64), axis=1)
            columns |= {f"log {name} {c}": _half(log_q[:, c]) for c in range(logits.shape[1])}
    return columns


def _half(values: np.ndarray) -> np.ndarray:
    return values.clip(min=np.finfo(np.float16).min).astype(np.float16)


def _smallest(values: np.ndarray) -> np.ndarray:
    return values.astype(np.min_scalar_type(int(values.max())))


def _summary(study: Study, about: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Provenance for people: where, when and how long, by run."""
    runs = [{"run": str(Run.from_dict(a["run"])), "id": a["id"], **a["provenance"], **a["scalars"]} for a in about]
    return {"study": study.name, "title": study.title, "runs": runs, "seconds": sum(run["seconds"] for run in runs)}


def read(folder: Path | str, study: Study) -> list[tuple[Run, dict[str, np.ndarray], dict[str, float]]]:
    """The released runs of a study that its recipe still describes: (run, arrays, scalars).

    arrays: sample_ids, labels, class_names, predicted (N,), 'group:<name>'; log_probabilities (N, C) float32
    and 'twin:<feature>' likewise, or with more than FULL classes confidence (N,). A validation part has the same
    as 'validation:<name>', as in a run's own file. Empty where no file is there.
    Raises StoreError for a file that is damaged, of another kind, or whose runs are not what their ids say.
    """
    path = path_of(folder, study)
    if not path.is_file():
        return []
    parts, about = _load(path)
    wanted = {run.id: run for run in study.runs()}
    found = []
    for i, entry in enumerate(about["runs"]):
        if Run.from_dict(entry["run"]).id != entry["id"]:
            raise _damaged(path, f"run {i} is not what its id {entry['id'][:16]} says")
        if entry["id"] in wanted:
            arrays = {
                name if part == "test" else f"{part}:{name}": values
                for part, table in parts.items()
                for name, values in _arrays(table, i, about["class_names"]).items()
            }
            found.append((wanted[entry["id"]], arrays, entry["scalars"]))
    return found


def _load(path: Path) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """({part: {column: values}}, metadata)."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, page_checksum_verification=True)
        about = json.loads((table.schema.metadata or {})[b"kdlib"])
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from error
    if about["schema"] != SCHEMA:
        raise _damaged(path, f"schema {about['schema']} is not {SCHEMA}")
    parts = {part: table.filter(pc.equal(table["part"], part)) for part in table["part"].unique().to_pylist()}
    return {part: _columns(rows) for part, rows in parts.items()}, about


def _columns(rows: pa.Table) -> dict[str, np.ndarray]:
    """{column: (N,) values} of one part, without the columns that it does not have."""
    return {name: rows[name].to_numpy() for name in rows.column_names if rows[name].null_count < len(rows)}


def _arrays(table: Mapping[str, np.ndarray], run: int, class_names: list[str]) -> dict[str, np.ndarray]:
    def log(what: str) -> np.ndarray:
        return np.stack([table[f"{run}:log {what}{c}"] for c in range(len(class_names))], axis=1).astype(np.float32)

    arrays = {name: values.astype(str) for name, values in table.items() if name.startswith("group:")}
    arrays |= {"sample_ids": table["sample_id"].astype(str), "labels": table["label"].astype(np.int64)}
    arrays |= {"class_names": np.array(class_names), "predicted": table[f"{run}:predicted"].astype(np.int64)}
    if f"{run}:log 0" not in table:
        return arrays | {"confidence": np.exp(table[f"{run}:log predicted"].astype(np.float32))}
    twins = {name.split("twin:")[1].rsplit(" ", 1)[0] for name in table if name.startswith(f"{run}:log twin:")}
    arrays |= {f"twin:{feature}": log(f"twin:{feature} ") for feature in sorted(twins)}
    return arrays | {"log_probabilities": log("")}


def _damaged(path: Path, what: str) -> StoreError:
    return StoreError(f"{path} is no file of released predictions, or damaged: {what}. Restore it from the repository.")
