"""CelebA's official lists: 40 attributes and the split of every image, without any image. No torch.

The loader takes labels, groups and the balanced training images from here; table 5 and figure 6 take their counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from kdlib import files
from kdlib.catalogue import CELEBA_GROUPS as GROUPS
from kdlib.data import PUBLISHED, damaged, required
from kdlib.errors import DataError, caution, require_known

FOLDER, LISTS = "celeba", ("list_attr_celeba.txt", "list_eval_partition.txt")
PARTS = ("train", "validation", "test")
LABELS = {"smiling": "Smiling", "eyeglasses": "Eyeglasses"}
CLASS_NAMES = {"smiling": ("not smiling", "smiling"), "eyeglasses": ("no eyeglasses", "eyeglasses")}
GROUP_VALUES = {"young": ("not young", "young"), "male": ("female", "male")}


def read_attributes(folder: Path) -> pd.DataFrame:
    """Attributes and part of every image, sorted by the official number, which is the index: 1 .. 202,599.

    Columns: 'part' ('train', 'validation' or 'test'), then the attributes by their official names, True where an image
    has one. Reads list_attr_celeba.txt and list_eval_partition.txt in the official format.
    Raises DataError for a file that is missing, cut short, has an image twice or lacks an attribute that kdlib uses;
    warns where the content is not the published one, whatever its spaces and line ends.
    """
    attributes_path, parts_path = list_files(folder)
    attributes, parts = _read(attributes_path), _read(parts_path)
    for name in (*LABELS.values(), *GROUPS.values()):
        require_known("attribute", name, attributes.columns, place=str(attributes_path), error=DataError)
    values = attributes.to_numpy()
    if values.dtype.kind != "i" or not (np.abs(values) == 1).all():
        raise damaged(f"{attributes_path} is damaged: an attribute is neither 1 nor -1", FOLDER)
    if parts.shape[1] != 1 or not parts.iloc[:, 0].isin((0, 1, 2)).all():
        raise damaged(f"{parts_path} is damaged: a part is not 0, 1 or 2", FOLDER)
    if not attributes.index.equals(parts.index):
        raise damaged(f"{attributes_path}: its images are not the {len(parts):,} of {parts_path.name}", FOLDER)
    found = files.sha256(values.astype(np.int8).tobytes() + parts.to_numpy(np.int8).tobytes())
    if found != PUBLISHED["contents"][FOLDER]:
        what = f"{attributes_path} or {parts_path.name} does not say what the published lists do"
        caution(f"{what}. `kdlib fetch celeba` says where they are from.", stacklevel=2)
    part = np.array(PARTS, object)[parts.iloc[:, 0]]
    return pd.concat([pd.Series(part, parts.index, name="part"), attributes == 1], axis=1)


def list_files(folder: Path) -> list[Path]:
    """The files of attributes and of parts. Raises DataError for one that is missing."""
    return [required(folder / name, FOLDER) for name in LISTS]


def _read(path: Path) -> pd.DataFrame:
    """One of the two lists: one row per image, sorted by its number."""
    try:
        with open(path, encoding="utf-8") as file:
            first = file.readline().strip()
        announced = int(first) if first.isdigit() and path.name == LISTS[0] else None
        header = "infer" if path.name == LISTS[0] else None
        table = pd.read_csv(path, sep=r"\s+", header=header, index_col=0, skiprows=int(announced is not None))
        table.index = image_numbers(table.index)
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors, and so is a text that is not UTF-8
        raise damaged(f"{path} is damaged: {str(error).strip()}", FOLDER) from error
    if announced not in (None, len(table)):
        raise damaged(f"{path} says {announced:,} images, {len(table):,} follow", FOLDER)
    if table.index.has_duplicates:
        raise damaged(f"{path}: image {table.index[table.index.duplicated()][0]:06d} is there twice", FOLDER)
    return table.sort_index()


def image_numbers(names: Iterable[str]) -> np.ndarray:
    """(N,) int64 of official names: '000001.jpg' -> 1. Raises ValueError for any other name."""
    stems = pd.Series(list(names), dtype=object).astype(str)
    right = stems.str.fullmatch(r"\d{6}\.jpg")
    if not right.all():
        raise ValueError(f"{stems[~right].iloc[0][:40]!r} is no official name of an image, such as '000001.jpg'")
    return stems.str[:6].astype(np.int64).to_numpy()


def image_ids(numbers: np.ndarray) -> np.ndarray:
    """(N,) str: 1 -> 'celeba/000001.jpg'."""
    return np.array([f"celeba/{number:06d}.jpg" for number in numbers], str)


def undersampled(numbers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) bool: all images of the rarer label, and as many of the other.

    Those that stay have the smallest sha256 of their id. So the choice needs no random generator, and in one part of
    the data set it depends on that part alone.
    """
    common = np.flatnonzero(labels == (2 * np.sum(labels) > len(labels)))
    order = np.argsort([files.sha256(id_.encode()) for id_ in image_ids(numbers[common])])
    kept = np.ones(len(labels), bool)
    kept[common[order[len(labels) - len(common) :]]] = False
    return kept
