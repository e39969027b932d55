"""Anyone's own labelled images, in `<data dir>/<name>/`: an npz file, two parquet files, or folders of images.

<name>.npz       train_x (N, S, S, 3) or (N, S, S) uint8, train_y (N,), test_x, test_y; where there are, train_id (N,),
                 train_group_<group> (N,), test_id, test_group_<group>, class_names (C,) str
train.parquet    image (the bytes of an image file), label; where there are, id, and every other column is a group;
                 test.parquet
train/<class>/   image files; test/<class>/
Each may have a validation part too, named likewise: its predictions are kept beside those of the test part.
Labels are the numbers 0 .. C - 1, or names (then in their order). Every part has every class and group, no image is in
two.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from kdlib import places, store
from kdlib.data import Root, Split, cache, damaged, required
from kdlib.data.stream import Images
from kdlib.data.vision import SUFFIXES, content_ids, depths, read_npz, reduce
from kdlib.errors import DataError, InvalidInput, unknown

IN_MEMORY = 2**31  # bytes of decoded images; folders with more are read while they are used
PARTS = {"train": "training", "validation": "validation", "test": "test"}  # in words; there may be no validation part
NEEDED = ("train", "test")

Columns = dict[str, np.ndarray]
Content = np.ndarray | list[bytes] | list[Path]  # (N, 3, S, S) uint8, or N image files, or where they are


@dataclass(frozen=True)
class Rows:
    """A part: N images in the order of their ids, their labels (numbers or names), ids and groups."""

    content: Content
    labels: np.ndarray
    ids: np.ndarray
    groups: Columns


_wrong = partial(damaged, dataset="own")
Stored = tuple[dict[str, Rows], list[str] | None]  # every part; the classes' names where labels are numbers with names


def load_own(part: str, /, *, root: Root, name: str, image_size: int, fingerprint: str, train_images: int) -> Split:
    """One part of the data in the folder `name`; x is (N, 3, image_size, image_size), gray images in three channels.

    ids are those given, 'class/file' of folders, else `vision.content_ids`. Arrays come to image_size by means of
    blocks, files by resizing the shorter side and cutting out the center. `fingerprint` stands for the content of all
    parts; it is part of a run's address, so that two contents under one name do not share runs. `train_images`: so many
    of the training images, each class in its share, chosen by their ids; 0: all. A validation part that is not there
    is empty.
    Raises InvalidInput for a fingerprint that is not the data's, and says the right one; DataError for data that is
    missing or damaged, or does not fit together.
    """
    if name in ("", ".", "..") or name != Path(name).name:
        raise InvalidInput(f"name = {name!r} in data set 'own': give the name of a folder in {places.data_dir(root)}.")
    folder = places.data_dir(root) / name
    made = _made(folder, part, image_size)
    if fingerprint != (right := str(made["fingerprint"])):
        raise InvalidInput(
            f'fingerprint {fingerprint!r} is not that of the data in {folder}. Write `fingerprint: "{right}"` under '
            "`data:` in the profile: it is part of a run's address, so two contents under one name do not share runs."
        )
    names, ids, y = tuple(made["class_names"].tolist()), made["ids"], made["y"]
    some = _shares(ids, y, train_images, names) if train_images and part == "train" else np.arange(len(y))
    groups = {group: values[some] for group, values in store.under("group:", made).items()}
    x = made["x"][some] if "x" in made else Images([folder / part / i for i in ids[some].tolist()], image_size)
    return Split(ids[some], x, y[some], groups, names)


def _made(folder: Path, part: str, image_size: int) -> dict[str, np.ndarray]:
    paths = _files(folder)
    key = {"version": 1, "part": part, "image_size": image_size, "files": cache.stamps(paths)}
    return cache.prepared(folder, key, lambda: _prepared(folder, _read(folder, paths), part, image_size=image_size))


def fingerprint(folder: Path, image_size: int) -> str:
    """What a profile has to say that means the data in this folder. Raises DataError for damaged data."""
    return str(_made(folder, "train", image_size)["fingerprint"])


def holds(folder: Path) -> bool:
    """Whether there is data of one of the formats in a folder, whole or not."""
    with suppress(DataError):
        return bool(_files(folder))
    return False


def side(folder: Path) -> int:
    """Pixels on each side of images that are arrays; 0 of image files, each of which has its own."""
    paths = _files(folder)
    return _read(folder, paths)[0]["train"].content.shape[-1] if paths[:1] and paths[0].suffix == ".npz" else 0


def _shares(ids: np.ndarray, y: np.ndarray, n: int, names: tuple[str, ...]) -> np.ndarray:
    """Which n rows to take, in their order: of every class its share, those whose ids have the smallest hashes."""
    if n > len(y):
        raise InvalidInput(f"train_images = {n} in data set 'own': there are {len(y)}; take fewer, or 0 for all.")
    some = np.sort(depths(ids, y).sort_index().sort_values(kind="stable").index[:n])
    if lacking := sorted({*range(len(names))} - {*y[some].tolist()}):
        raise InvalidInput(f"train_images = {n} in data set 'own' leaves none of {names[lacking[0]]!r}; take more.")
    return some


# -------------------------------------------------------------------------------------------------- the three formats


def _files(folder: Path) -> list[Path]:
    """The files that hold the data: an npz, a table a part, or the images of every part."""
    npz, tables = folder / f"{folder.name}.npz", {part: folder / f"{part}.parquet" for part in PARTS}
    if npz.is_file():
        return [npz]
    if any(path.is_file() for path in tables.values()):
        return [required(path, "own") for part, path in tables.items() if part in NEEDED or path.is_file()]
    if all((folder / part).is_dir() for part in NEEDED):
        return [path for part in PARTS for path in _class_images(folder / part)]
    raise _wrong(f"{folder} has no {npz.name}, no train.parquet with test.parquet and no train/ with test/")


def _read(folder: Path, paths: list[Path]) -> Stored:
    if paths and paths[0].suffix == ".npz":
        return _read_npz(paths[0])
    if paths and paths[0].suffix == ".parquet":
        return {path.stem: _read_parquet(path) for path in paths}, None
    return {part: _folder_rows(folder / part, paths) for part in PARTS if (folder / part).is_dir()}, None


def _read_npz(path: Path) -> Stored:
    arrays = read_npz(path, dataset="own")
    names = arrays.pop("class_names", None)
    parts = {}
    for part in PARTS:
        mine = {key.removeprefix(f"{part}_"): arrays.pop(key) for key in list(arrays) if key.startswith(f"{part}_")}
        if not mine and part not in NEEDED:
            continue
        if lacking := [key for key in ("x", "y") if key not in mine]:
            raise _wrong(f"{path} has no array '{part}_{lacking[0]}'")
        x, y, ids = _channels_first(mine.pop("x"), f"{path}, {part}_x"), mine.pop("y"), mine.pop("id", None)
        groups = {key.removeprefix("group_"): mine.pop(key) for key in list(mine) if key.startswith("group_")}
        arrays |= {f"{part}_{key}": value for key, value in mine.items()}
        parts[part] = _rows(x, y, ids, groups, f"{path}, {part}")
    if arrays:
        known = [f"{part}_{key}" for part in PARTS for key in ("x", "y", "id", "group_<group>")]
        raise unknown("array", min(arrays), [*known, "class_names"], place=str(path), error=DataError)
    shapes = {part: rows.content.shape[1:] for part, rows in parts.items()}
    if other := [part for part in shapes if shapes[part] != shapes["train"]]:
        raise _wrong(f"{path}: images of train are {shapes['train']} and those of {other[0]} {shapes[other[0]]}")
    return parts, None if names is None else names.astype(str).ravel().tolist()


def _channels_first(x: np.ndarray, where: str) -> np.ndarray:
    """(N, S, S, 3) or (N, S, S) -> (N, 3, S, S) uint8."""
    color = x[..., None].repeat(3, axis=-1) if x.ndim == 3 else x
    if x.dtype != np.uint8 or color.ndim != 4 or color.shape[3] != 3 or color.shape[1] != color.shape[2]:
        raise _wrong(f"{where} is {x.dtype} {x.shape}, not uint8 (N, S, S, 3) or (N, S, S)")
    return np.ascontiguousarray(color.transpose(0, 3, 1, 2))


def _read_parquet(path: Path) -> Rows:
    import pandas as pd
    import pyarrow as pa

    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _wrong(f"{path} is not a whole parquet file: {error}") from error
    if lacking := [column for column in ("image", "label") if column not in table]:
        raise _wrong(f"{path} has no column {lacking[0]!r}, but {', '.join(map(str, table))}")
    # Hugging Face's data sets keep {"bytes": ..., "path": ...}
    images = [value.get("bytes") if isinstance(value, dict) else value for value in table.pop("image")]
    if wrong := [i for i, value in enumerate(images) if not isinstance(value, bytes)]:
        raise _wrong(f"{path}: row {wrong[0]} of the column 'image' is not the bytes of an image file")
    labels = table.pop("label").to_numpy()
    for column in table:
        if table[column].isna().any():
            raise _wrong(f"{path}: the column {column!r} has empty cells: fill them, or leave it out")
    ids = table.pop("id").to_numpy() if "id" in table else None
    return _rows(images, labels, ids, {str(g): table[g].to_numpy() for g in table}, str(path))


def _class_images(folder: Path) -> list[Path]:
    """The image files of a part. Raises DataError for what would vanish silently; hidden files do not count."""

    def inside(home: Path) -> list[Path]:
        return sorted(path for path in home.iterdir() if not path.name.startswith(".")) if home.is_dir() else []

    found = []
    for home in inside(folder):
        paths = inside(home)
        wrong = [path for path in paths if path.suffix.lower() not in SUFFIXES or not path.is_file()]
        if wrong or not paths:
            kinds = ", ".join(sorted(SUFFIXES))
            raise _wrong(f"{wrong[0] if wrong else home} is not {folder.name}/<class>/<image>, one of {kinds}")
        found += paths
    return found


def _folder_rows(folder: Path, paths: list[Path]) -> Rows:
    inside = [path for path in paths if path.parents[1] == folder]
    ids = [f"{path.parent.name}/{path.name}" for path in inside]
    return _rows(inside, np.array([path.parent.name for path in inside]), np.array(ids), {}, str(folder))


# ------------------------------------------------------------------------------------------------- what has to fit


def _rows(content: Content, labels: np.ndarray, ids: np.ndarray | None, groups: Columns, where: str) -> Rows:
    """A part whose columns fit together, in the order of its ids; where none are given, those of the content."""
    columns = {"label": labels, **({} if ids is None else {"id": ids}), **groups}
    for column, values in columns.items():
        if values.shape != (len(content),) or not len(content):
            raise _wrong(f"{where}: {len(content)} images and {column} of shape {values.shape}")
        if any(isinstance(value, bytes) for value in values.tolist()):
            raise _wrong(f"{where}: {column} is bytes, not text: decode it")
    whole = labels.dtype.kind in "iu"
    if not whole and not all(isinstance(label, str) for label in labels.tolist()):
        raise _wrong(f"{where}: labels are {labels.dtype}, neither whole numbers nor names")
    labels = labels.astype(np.int64 if whole else str)
    ids = content_ids(content, labels) if ids is None else ids.astype(str)
    order = np.argsort(ids, kind="stable")
    ids, labels = ids[order], labels[order]
    if (twice := ids[1:] == ids[:-1]).any():
        raise _wrong(f"{where}: the id {str(ids[1:][twice][0])!r} stands there more than once")
    content = content[order] if isinstance(content, np.ndarray) else [content[i] for i in order]
    return Rows(content, labels, ids, {group: values.astype(str)[order] for group, values in groups.items()})


def _classes(folder: Path, stored: Stored) -> tuple[list[str], dict[str, Rows]]:
    """The classes' names, and the parts with the numbers 0 .. C - 1 as labels."""
    parts, class_names = stored
    values = {part: set(rows.labels.tolist()) for part, rows in parts.items()}
    for part, other in permutations(parts, 2):
        if lacking := sorted(values[other] - values[part], key=str):
            raise _wrong(f"{folder}: {part} has no image with the label {lacking[0]!r}, and {other} has")
    found = sorted(values["train"])
    if (class_names or not isinstance(found[0], str)) and found != list(range(len(class_names or found))):
        given = " and class_names as many" if class_names else ""
        raise _wrong(f"{folder}: labels are {found[:20]}; they have to be all of 0 .. C - 1{given}")
    names = class_names or [str(value) for value in found]
    return names, {part: replace(rows, labels=np.searchsorted(found, rows.labels)) for part, rows in parts.items()}


def _prepared(folder: Path, stored: Stored, part: str, *, image_size: int) -> dict[str, np.ndarray]:
    """The arrays of one part in the order of ids, with the fingerprint of all; no x where that is too large."""
    names, parts = _classes(folder, stored)
    groups = {p: sorted(rows.groups) for p, rows in parts.items()}
    if other := [p for p in groups if groups[p] != groups["train"]]:
        raise _wrong(f"{folder}: groups of train are {groups['train']} and those of {other[0]} {groups[other[0]]}")
    digests, seen = {p: _digests(rows.content) for p, rows in parts.items()}, {}
    for p, rows in parts.items():
        named = dict(zip(digests[p], [f"{PARTS[p]} image {i!r}" for i in rows.ids.tolist()], strict=True))
        if twice := [digest for digest in digests[p] if digest in seen]:
            raise _wrong(f"{folder}: the {named[twice[0]]} is the {seen[twice[0]]}")
        seen |= named
    rows = parts[part] if part in parts else _none(parts["train"], image_size)
    return {
        "ids": rows.ids,
        "y": rows.labels.astype(np.int64),
        "class_names": np.array(names),
        "fingerprint": np.array(_fingerprint(names, parts, digests)),
        **{f"group:{group}": values for group, values in rows.groups.items()},
        **_images(rows, image_size),
    }


def _none(rows: Rows, image_size: int) -> Rows:
    """No rows, with the columns of these."""
    groups = {group: values[:0] for group, values in rows.groups.items()}
    return Rows(np.zeros((0, 3, image_size, image_size), np.uint8), rows.labels[:0], rows.ids[:0], groups)


def _images(rows: Rows, image_size: int) -> dict[str, np.ndarray]:
    content = rows.content
    if isinstance(content, np.ndarray):
        return {"x": reduce(content, image_size)}
    if isinstance(content[0], Path) and len(content) * 3 * image_size**2 > IN_MEMORY:
        return {}
    names = [f"the image {i!r}" for i in rows.ids.tolist()] if isinstance(content[0], bytes) else None
    return {"x": Images(content, image_size, names=names)[:]}


def _digests(content: Content) -> list[bytes]:
    """The sha256 of every image: of its array, or of its file as it is."""
    return [hashlib.sha256(one.read_bytes() if isinstance(one, Path) else one).digest() for one in content]


def _fingerprint(names: list[str], parts: dict[str, Rows], digests: dict[str, list[bytes]]) -> str:
    """16 hexadecimal digits of sha256 over names, ids, labels, groups and images."""
    total = hashlib.sha256(json.dumps(names).encode())
    for part, rows in parts.items():
        for i in range(len(rows.ids)):
            about: list[Any] = [part, str(rows.ids[i]), int(rows.labels[i])]
            about += [[group, str(rows.groups[group][i])] for group in sorted(rows.groups)]
            total.update(json.dumps(about).encode())
            total.update(digests[part][i])
    return total.hexdigest()[:16]
