"""Anyone's own labelled images, in `<data dir>/<name>/`: an npz file, two parquet files, or folders of images.

<name>.npz       train_x (N, S, S, 3) or (N, S, S) uint8, train_y (N,), test_x, test_y; where there are, train_id (N,),
                 train_group_<group> (N,), test_id, test_group_<group>, class_names (C,) str
train.parquet    image (the bytes of an image file), label; where there are, id, and every other column is a group;
                 test.parquet
train/<class>/   image files; test/<class>/
Labels are the numbers 0 .. C - 1, or names (then in their order). Every class and group is in both parts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdlib import places
from kdlib.data import Split, cache, check_whole, required
from kdlib.data.stream import Images
from kdlib.data.vision import content_ids, image_names, read_npz, reduce
from kdlib.errors import DataError, InvalidInput, unknown

IN_MEMORY = 2**31  # bytes of decoded images; folders with more are read while they are used
PARTS = ("train", "test")
PLACE = "data set 'own'"
REMEDY = "kdlib/data/own.py says what a data set of one's own looks like."

Content = np.ndarray | list[bytes] | list[Path]  # (N, 3, S, S) uint8, or N image files, or where they are


@dataclass(frozen=True)
class Rows:
    """A part as it is stored: N images, their labels (numbers or names), ids and groups."""

    content: Content
    labels: np.ndarray
    ids: np.ndarray
    groups: dict[str, np.ndarray]


@dataclass(frozen=True)
class Stored:
    """Both parts, and the classes' names where the labels are numbers that have some."""

    parts: dict[str, Rows]
    class_names: list[str] | None = None


def load_own(part: str, /, *, root: str | Path | None, name: str, image_size: int, fingerprint: str) -> Split:
    """One part of the data in the folder `name`; x is (N, 3, image_size, image_size), gray images in three channels.

    ids are those given, 'class/file' of folders, else `vision.content_ids`. Arrays come to image_size by means of
    blocks, files by resizing the shorter side and cutting out the center. `fingerprint` stands for the content of both
    parts; it is part of a run's address, so that two contents under one name do not share runs.
    Raises InvalidInput for a fingerprint that is not the data's, and says the right one; DataError for data that is
    missing or damaged, or does not fit together.
    """
    check_whole("image_size", image_size, least=1, place=PLACE)
    if not isinstance(name, str) or name in ("", ".", "..") or name != Path(name).name:
        raise InvalidInput(f"name = {name!r} in {PLACE}: give the name of a folder in {places.data_dir(root)}.")
    folder = places.data_dir(root) / name
    files, read = _source(folder)

    def make() -> dict[str, np.ndarray]:
        return _prepared(folder, read(), part, image_size=image_size)

    key = {"version": 1, "part": part, "image_size": image_size, "files": cache.stamps(files)}
    made = cache.prepared(folder, key, make)
    if fingerprint != (right := str(made["fingerprint"])):
        raise InvalidInput(
            f'fingerprint {fingerprint!r} is not that of the data in {folder}. Write `fingerprint: "{right}"` under '
            "`data:` in the profile: it is part of a run's address, so two contents under one name do not share runs."
        )
    groups = {key.removeprefix("group:"): value for key, value in made.items() if key.startswith("group:")}
    x = made["x"] if "x" in made else Images([folder / part / i for i in made["ids"].tolist()], image_size)
    return Split(made["ids"], x, made["y"], groups, tuple(made["class_names"].tolist()))


# -------------------------------------------------------------------------------------------------- the three formats


def _source(folder: Path) -> tuple[list[Path], Callable[[], Stored]]:
    """The files that hold the data, and what reads them."""
    npz = folder / f"{folder.name}.npz"
    parquet = [folder / f"{part}.parquet" for part in PARTS]
    if npz.is_file():
        return [npz], lambda: _read_npz(npz)
    if any(path.is_file() for path in parquet):
        paths = [required(path, REMEDY) for path in parquet]
        return paths, lambda: Stored({path.stem: _read_parquet(path) for path in paths})
    if all((folder / part).is_dir() for part in PARTS):
        files = {part: _image_files(folder / part) for part in PARTS}
        return sum(files.values(), []), lambda: Stored(
            {part: _folder_rows(folder / part, files[part]) for part in PARTS}
        )
    what = f"{folder} holds none of" if folder.is_dir() else f"there is no folder {folder}; put into it one of"
    raise DataError(f"{what} {npz.name}, train.parquet with test.parquet, or train/ with test/. {REMEDY}")


def _read_npz(path: Path) -> Stored:
    arrays = read_npz(path, remedy=REMEDY)
    names = arrays.pop("class_names", None)
    parts = {}
    for part in PARTS:
        mine = {key.removeprefix(f"{part}_"): arrays.pop(key) for key in list(arrays) if key.startswith(f"{part}_")}
        if lacking := [key for key in ("x", "y") if key not in mine]:
            raise DataError(f"{path} has no array '{part}_{lacking[0]}'. {REMEDY}")
        x, y, ids = _channels_first(mine.pop("x"), f"{path}, {part}_x"), mine.pop("y"), mine.pop("id", None)
        groups = {key.removeprefix("group_"): mine.pop(key) for key in list(mine) if key.startswith("group_")}
        arrays |= {f"{part}_{key}": value for key, value in mine.items()}
        parts[part] = _rows(x, y, ids, groups, f"{path}, {part}")
    if arrays:
        known = [f"{part}_{key}" for part in PARTS for key in ("x", "y", "id", "group_<group>")]
        raise unknown("array", min(arrays), [*known, "class_names"], place=str(path), error=DataError)
    shapes = [parts[part].content.shape[1:] for part in PARTS]
    if shapes[0] != shapes[1]:
        raise DataError(f"{path}: images of train are {shapes[0]} and those of test {shapes[1]}. {REMEDY}")
    return Stored(parts, None if names is None else names.astype(str).ravel().tolist())


def _channels_first(x: np.ndarray, where: str) -> np.ndarray:
    """(N, S, S, 3) or (N, S, S) -> (N, 3, S, S) uint8."""
    color = x[..., None].repeat(3, axis=-1) if x.ndim == 3 else x
    if x.dtype != np.uint8 or color.ndim != 4 or color.shape[3] != 3 or color.shape[1] != color.shape[2]:
        raise DataError(f"{where} is {x.dtype} {x.shape}, not uint8 (N, S, S, 3) or (N, S, S). {REMEDY}")
    return np.ascontiguousarray(color.transpose(0, 3, 1, 2))


def _read_parquet(path: Path) -> Rows:
    import pandas as pd
    import pyarrow as pa

    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path} is not a whole parquet file: {error}. {REMEDY}") from error
    for column in table:
        if column not in ("image", "label") and table[column].isna().any():
            raise DataError(f"{path}: the column {column!r} has empty cells. Fill them or leave the column out.")
    if lacking := [column for column in ("image", "label") if column not in table]:
        raise DataError(f"{path} has no column {lacking[0]!r}, but {', '.join(map(str, table))}. {REMEDY}")
    # Hugging Face's data sets keep {"bytes": ..., "path": ...}
    images = [value.get("bytes") if isinstance(value, dict) else value for value in table.pop("image")]
    if wrong := [i for i, value in enumerate(images) if not isinstance(value, bytes)]:
        raise DataError(f"{path}: row {wrong[0]} of the column 'image' is not the bytes of an image file. {REMEDY}")
    labels, ids = table.pop("label"), table.pop("id").to_numpy() if "id" in table else None
    return _rows(images, labels.to_numpy(), ids, {str(g): table[g].to_numpy() for g in table}, str(path))


def _image_files(folder: Path) -> list[Path]:
    return [home / name for home in sorted(folder.iterdir()) if home.is_dir() for name in image_names(home)]


def _folder_rows(folder: Path, files: list[Path]) -> Rows:
    labels = np.array([path.parent.name for path in files])
    ids = np.array([f"{path.parent.name}/{path.name}" for path in files])
    return _rows(files, labels, ids, {}, str(folder))


# ------------------------------------------------------------------------------------------------- what has to fit


def _rows(
    content: Content, labels: np.ndarray, ids: np.ndarray | None, groups: dict[str, np.ndarray], where: str
) -> Rows:
    """One part, checked: a label, id and group value for every image, labels that are numbers or names, unique ids."""
    columns = {"label": labels, **({} if ids is None else {"id": ids}), **groups}
    for column, values in columns.items():
        if values.shape != (len(content),) or not len(content):
            raise DataError(f"{where}: {len(content)} images and {column} of shape {values.shape}. {REMEDY}")
    if labels.dtype.kind not in "iu":
        if not all(isinstance(label, str) for label in labels.tolist()):
            raise DataError(f"{where}: labels are {labels.dtype}, neither whole numbers nor names. {REMEDY}")
        labels = labels.astype(str)
    ids = content_ids(content, labels) if ids is None else ids.astype(str)
    values, counts = np.unique(ids, return_counts=True)
    if counts.max() > 1:
        raise DataError(
            f"{where}: the id {str(values[counts.argmax()])!r} stands there {counts.max()} times. Make it unique."
        )
    return Rows(content, labels, ids, {group: values.astype(str) for group, values in groups.items()})


def _classes(stored: Stored, folder: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """The classes' names, and each part's labels as numbers 0 .. C - 1."""
    values = {part: set(rows.labels.tolist()) for part, rows in stored.parts.items()}
    for part, other in (PARTS, PARTS[::-1]):
        if lacking := sorted(values[other] - values[part], key=str):
            raise DataError(
                f"{folder}: the {part} part has no image with the label {lacking[0]!r}. Both need every one."
            )
    found = sorted(values["train"])
    numbers = list(range(len(stored.class_names or found)))
    if (stored.class_names or not isinstance(found[0], str)) and found != numbers:
        given = " and class_names as many" if stored.class_names else ""
        raise DataError(f"{folder}: labels are {found[:20]}. They have to be all of 0 .. C - 1{given}.")
    names = stored.class_names or [str(value) for value in found]
    return names, {part: np.searchsorted(found, rows.labels) for part, rows in stored.parts.items()}


def _prepared(folder: Path, stored: Stored, part: str, *, image_size: int) -> dict[str, np.ndarray]:
    """The arrays of one part in the order of ids, with the fingerprint of both; no x where that is too large."""
    names, labels = _classes(stored, folder)
    groups = {p: sorted(rows.groups) for p, rows in stored.parts.items()}
    if groups["train"] != groups["test"]:
        raise DataError(f"{folder}: groups of train are {groups['train']} and those of test {groups['test']}. {REMEDY}")
    rows = stored.parts[part]
    order = np.argsort(rows.ids, kind="stable")
    return {
        "ids": rows.ids[order],
        "y": labels[part][order].astype(np.int64),
        "class_names": np.array(names),
        "fingerprint": np.array(_fingerprint(stored, names, labels)),
        **{f"group:{group}": values[order] for group, values in rows.groups.items()},
        **_images(rows, order, image_size),
    }


def _images(rows: Rows, order: np.ndarray, image_size: int) -> dict[str, np.ndarray]:
    content = rows.content
    if isinstance(content, np.ndarray):
        return {"x": np.ascontiguousarray(reduce(content, image_size)[order])}
    if isinstance(content[0], Path) and len(content) * 3 * image_size**2 > IN_MEMORY:
        return {}
    names = [f"the image {i!r}" for i in rows.ids.tolist()] if isinstance(content[0], bytes) else None
    return {"x": Images(content, image_size, names=names)[order]}


def _fingerprint(stored: Stored, names: list[str], labels: dict[str, np.ndarray]) -> str:
    """16 hexadecimal digits of sha256 over names, ids, labels, groups and images (arrays, or files as they are)."""
    total = hashlib.sha256(json.dumps(names).encode())
    for part in PARTS:
        rows = stored.parts[part]
        for i in np.argsort(rows.ids, kind="stable"):
            about: list[Any] = [part, str(rows.ids[i]), int(labels[part][i])]
            about += [[group, str(rows.groups[group][i])] for group in sorted(rows.groups)]
            total.update(json.dumps(about).encode())
            content = rows.content[i]
            total.update(hashlib.sha256(content.read_bytes() if isinstance(content, Path) else content).digest())
    return total.hexdigest()[:16]
