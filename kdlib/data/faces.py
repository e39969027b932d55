"""Faces with sensitive features: CelebA from its aligned images or at 64 pixels, and UTKFace."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from kdlib import files, places
from kdlib.data import Root, Split, cache, celeba, damaged, required
from kdlib.data.stream import Images
from kdlib.data.vision import content_ids, read_npz, reduce
from kdlib.errors import InvalidInput

ALIGNED_SIZE = (178, 218)  # the images "in the wild" have the same names and other sizes
BOX = (0, 34, 178, 212)  # left, upper, right, lower: a square of the 178 x 218 pixels, less hair and neck
BLOCK = 256  # images that are in memory at a time while the npz is made
ALIGNED, FACES64 = "img_align_celeba", "celeba64.npz"
RACES = ("white", "black", "asian", "indian", "other")
AGES = ("under 18", "18 to 39", "40 and over")


# --------------------------------------------------------------------------------------------------------------- CelebA


def load_celeba(part: str, /, *, root: Root, label: str, image_size: int, balance: bool) -> Split:
    """CelebA in the official split, 162,770 / 19,867 / 19,962 images: see `load_celeba64` for labels and groups.

    x streams `celeba/img_align_celeba/*.jpg`, 178 x 218 pixels: rows 34 to 212, resized to image_size.
    Raises DataError where images or lists are missing or damaged, InvalidInput for a bad part or option.
    """
    folder = places.data_dir(root) / celeba.FOLDER
    images, rows = required(folder / ALIGNED, "celeba"), _lists(folder)
    rows = rows[rows["part"] == part]
    rows = rows[_kept(rows, part, label=label, balance=balance)]
    names, there = [f"{number:06d}.jpg" for number in rows.index], set(os.listdir(images))
    if lacking := [name for name in names if name not in there]:
        what = f"{images} lacks {len(lacking):,} of the {len(names):,} {part} images, {lacking[0]} the first"
        raise damaged(f"{what}; the data set 'celeba64' takes any part of them", "celeba")
    return _split(rows, _aligned([f"{images}/{name}" for name in names], image_size), label=label)


def load_celeba64(
    part: str,
    /,
    *,
    root: Root,
    label: str,
    image_size: int,
    balance: bool,
    train_images: int,
    validation_images: int,
    test_images: int,
) -> Split:
    """The images of CelebA that `celeba/celeba64.npz` has: x (N, 64, 64, 3) uint8, image_id (N,) the official number.

    label         'smiling' or 'eyeglasses', class 1 where an image has it
    image_size    64, or less: means of blocks (`vision.reduce`)
    balance       in training, and there alone, the commoner label is cut to the count of the rarer: 78,080 each of
                  Smiling in the whole data set (`celeba.undersampled`)
    train_images, validation_images, test_images   how many of the official training, validation and test images there
                  must be before that; a part that has none is a Split without rows
    groups: young ('young', 'not young'), male ('male', 'female'). features: the other 39 attributes. ids are official
    names, 'celeba/000001.jpg', the same as of `load_celeba`, and rows are sorted by them.
    Raises DataError where a file is missing or damaged or has other counts, InvalidInput for a bad part or option.
    """
    folder = places.data_dir(root) / celeba.FOLDER
    path, lists = folder / FACES64, _lists(folder)
    numbers = _numbers(path, lists.index)
    parts = lists.loc[numbers, "part"].to_numpy()
    wanted = {"train_images": train_images, "validation_images": validation_images, "test_images": test_images}
    found = {f"{name}_images": int(np.sum(parts == name)) for name in celeba.PARTS}
    if found != wanted:
        has, says = (str(counts).replace("'", "") for counts in (found, wanted))
        what = f"{path} does not have what the study's options say, {says}"
        raise damaged(f"{what}. To work with what it has, write in the profile data: {has}", "celeba64")
    at = np.flatnonzero(parts == part)
    at = at[np.argsort(numbers[at])]

    def make() -> dict[str, np.ndarray]:
        return {"x": _smaller(_pixels(path, len(numbers), "celeba64"), at, image_size)}

    key = {"version": 1, "part": part, "size": image_size, "files": cache.stamps([path, *celeba.list_files(folder)])}
    made = cache.prepared(folder, key, make) if len(at) else {"x": np.zeros((0, 3, image_size, image_size), np.uint8)}
    rows = lists.loc[numbers[at]]
    kept = _kept(rows, part, label=label, balance=balance)
    return _split(rows[kept], made["x"] if kept.all() else made["x"][kept], label=label)


def make_celeba64(aligned: Path, target: Path) -> None:
    """Write `target`, the npz of `load_celeba64`, from the aligned images in a folder, whatever part of them is there.

    The file appears when it is whole.
    Raises DataError where the folder has none, or one that does not decode.
    """
    paths = sorted(Path(aligned).glob("[0-9]" * 6 + ".jpg"))
    if not paths:
        raise damaged(f"there are no images such as 000001.jpg in {aligned}", "celeba")
    x = np.empty((len(paths), 64, 64, 3), np.uint8)
    starts = range(0, len(paths), BLOCK)
    blocks = _aligned(paths, 64).prefetched((np.arange(i, min(i + BLOCK, len(paths))), None) for i in starts)
    for i, block in zip(tqdm(starts, desc=target.name, mininterval=1, disable=None), blocks, strict=True):
        x[i : i + BLOCK] = block.transpose(0, 2, 3, 1)
    with files.replacing(target) as fresh, open(fresh, "wb") as out:
        np.savez(out, x=x, image_id=celeba.image_numbers(path.name for path in paths))


def _aligned(paths: Sequence[str | Path], size: int) -> Images:
    """The images, streamed. Raises DataError where the first is not of the aligned images' size."""
    from PIL import Image

    try:
        with Image.open(paths[0]) as image:
            found = image.size
    except (OSError, Image.DecompressionBombError) as error:
        raise damaged(f"{paths[0]} is damaged: {error}", "celeba") from error
    if found != ALIGNED_SIZE:
        raise damaged(f"{paths[0]} has {found} pixels, not the {ALIGNED_SIZE} of an aligned image", "celeba")
    return Images(paths, size, box=BOX)


def _lists(folder: Path) -> pd.DataFrame:
    """`celeba.read_attributes`, from the cache."""

    def make() -> dict[str, np.ndarray]:
        read = celeba.read_attributes(folder)
        values = read.drop(columns="part").to_numpy(bool)
        names = np.array(read.columns[1:], str)
        return {"number": read.index.to_numpy(), "part": read["part"].to_numpy(str), "values": values, "names": names}

    made = cache.prepared(folder, {"version": 2, "files": cache.stamps(celeba.list_files(folder))}, make)
    rows = pd.DataFrame(made["values"], index=made["number"], columns=made["names"])
    return rows.assign(part=made["part"])


def _kept(rows: pd.DataFrame, part: str, *, label: str, balance: bool) -> np.ndarray:
    if part != "train" or not balance:
        return np.ones(len(rows), bool)
    return celeba.undersampled(rows.index.to_numpy(), rows[celeba.LABELS[label]].to_numpy())


def _split(rows: pd.DataFrame, x: np.ndarray | Images, *, label: str) -> Split:
    groups = {g: np.array(celeba.GROUP_VALUES[g])[rows[column].to_numpy(int)] for g, column in celeba.GROUPS.items()}
    y = rows[celeba.LABELS[label]].to_numpy(np.int64)
    features = rows.drop(columns=["part", celeba.LABELS[label]]).to_numpy(np.uint8)
    return Split(celeba.image_ids(rows.index), x, y, groups, celeba.CLASS_NAMES[label], features=features)


def _numbers(path: Path, official: pd.Index) -> np.ndarray:
    """(N,) int64: the official numbers in the npz, each once and each in the lists."""
    numbers = read_npz(required(path, "celeba64"), ["image_id"], dataset="celeba64")["image_id"]
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise damaged(f"{path}: image_id is {numbers.dtype} {numbers.shape}, not whole numbers", "celeba64")
    there = pd.Index(numbers)
    for wrong, what in ((~there.isin(official), "not in the lists of CelebA"), (there.duplicated(), "there twice")):
        if wrong.any():
            raise damaged(f"{path}: image {numbers[wrong][0]} is {what}", "celeba64")
    return numbers.astype(np.int64)


def _pixels(path: Path, n: int, dataset: str) -> np.ndarray:
    """(n, 64, 64, 3) uint8, as they are in the file."""
    x = read_npz(path, ["x"], dataset=dataset)["x"]
    if x.shape != (n, 64, 64, 3) or x.dtype != np.uint8:
        raise damaged(f"{path}: x is {x.dtype} {x.shape}, not uint8 ({n}, 64, 64, 3)", dataset)
    return x


def _smaller(x: np.ndarray, at: np.ndarray, size: int) -> np.ndarray:
    """Rows `at` of x (N, 64, 64, 3), in that order, as (len(at), 3, size, size); a few at a time, for memory."""
    parts = [reduce(x[at[i : i + 4096]].transpose(0, 3, 1, 2), size) for i in range(0, len(at), 4096)]
    return np.ascontiguousarray(np.concatenate(parts))


# -------------------------------------------------------------------------------------------------------------- UTKFace


def load_utkface(part: str, /, *, root: Root, label: str, image_size: int, test_share: float, seed: int) -> Split:
    """Faces with age, gender and race, from `utkface/utkface64.npz`: x (N, 64, 64, 3) uint8, age, gender, race (N,).

    label        'gender', male (0) or female (1)
    image_size   64, or less: means of blocks (`vision.reduce`)
    test_share   an image is in the test part if the hash of (seed, content) falls below this share, between 0 and 1.
                 So an image is in the same part whichever others are there, and the parts' sizes have their shares to
                 within chance. Equal images are in one part
    groups: race (white, black, asian, indian, other) and age: minors, then adults cut at 40, which leaves every band
    more than a quarter of the 9,778 images that kdlib was developed with; only 405 of those are of the race 'black'.
    ids are hashes of the content (`vision.content_ids`); rows are sorted by them.
    Raises DataError where the file is missing or damaged, InvalidInput for a bad part or option.
    """
    if not 0 < test_share < 1:
        raise InvalidInput(f"test_share = {test_share!r} in data set 'utkface': give a number between 0 and 1.")
    folder = places.data_dir(root) / "utkface"
    path = required(folder / "utkface64.npz", "utkface")
    key = {"version": 1, "size": image_size, "files": cache.stamps([path])}
    made = cache.prepared(folder, key, lambda: _read_utkface(path, image_size))
    chosen = (_shares(made["ids"], seed) < test_share) == (part == "test")
    band = np.searchsorted([18, 40], made["age"][chosen], side="right")
    groups = {"race": np.array(RACES)[made["race"][chosen]], "age": np.array(AGES)[band]}
    y = made["gender"][chosen].astype(np.int64)
    return Split(made["ids"][chosen], made["x"][chosen], y, groups, ("male", "female"))


def _read_utkface(path: Path, size: int) -> dict[str, np.ndarray]:
    """ids, x (N, 3, size, size), age, gender, race, sorted by id."""
    made = read_npz(path, ("age", "gender", "race"), dataset="utkface")
    n = len(np.atleast_1d(made["age"]))
    for name, most in (("age", 130), ("gender", 1), ("race", len(RACES) - 1)):
        values = made[name]
        whole = values.shape == (n,) and values.dtype.kind in "iu"
        if n == 0 or not whole or values.min() < 0 or values.max() > most:
            raise damaged(f"{path}: {name} is not {n:,} whole numbers 0 .. {most}", "utkface")
    x = _pixels(path, n, "utkface")
    same_place = (made["age"] * 2 + made["gender"]) * len(RACES) + made["race"]  # orders equal images by all labels
    ids = content_ids((image.transpose(2, 0, 1).tobytes() for image in x), same_place)
    order = np.argsort(ids, kind="stable")
    return {"ids": ids[order], "x": _smaller(x, order, size)} | {k: v[order] for k, v in made.items()}


def _shares(ids: np.ndarray, seed: int) -> np.ndarray:
    """(N,) in [0, 1), from the hash of (seed, content): the same for equal images, whose ids differ in their ending."""
    return np.array([int(files.sha256(f"{seed}/{id_[:16]}".encode())[:8], 16) for id_ in ids]) / 2**32
