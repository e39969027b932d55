"""Labelled images: CIFAR-10, CIFAR-100, SVHN, Tiny ImageNet, ImageNet, never unpickled; scikit-learn's digits.

The small ones are whole arrays, prepared once (`cache`); ImageNet is read while it is used (`stream.Images`). A part
has to have its official number of images: a run's address could not tell it from one with some missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from kdlib import files, places
from kdlib.data import PUBLISHED, Root, Split, cache, damaged, required
from kdlib.data.stream import Images
from kdlib.errors import InvalidInput, library

CLASSES = {name: words.split() for name, words in PUBLISHED["classes"].items()}
IMAGES = PUBLISHED["images"]  # of the official parts
LABEL_BYTES = {"cifar10": 1, "cifar100": 2}  # the last one counts: CIFAR-100's first is the coarse label
SUFFIXES = {".jpeg", ".jpg", ".png", ".webp", ".bmp"}
RESIZED = 256 / 224  # ImageNet's test images: the shorter side before the central part is cut out

Labelled = tuple[np.ndarray, np.ndarray]  # images (N, C, H, W) uint8, labels (N,)


def _load_cifar(name: str, part: str, /, *, root: Root, image_size: int) -> Split:
    """50,000 training and 10,000 test images of 32 x 32 pixels (Krizhevsky 2009): 10 classes, or 100 fine labels.

    From the official binary files in `cifar100/cifar-100-binary/`, else from `cifar100/cifar100.npz`: train_x
    (N, 32, 32, 3) uint8, train_y (N,), test_x, test_y. ids are `content_ids`; both sources give the same. The official
    files are compared with their published sums (`fetch.verify`). For the npz file, which anyone packs, there are none:
    it is whole by its own CRC-32s, and has as many images of every class, as the official data have. Two labels
    exchanged in it would go unseen.
    x is (N, 3, image_size, image_size), sorted by id; below 32 the means of blocks (`reduce`).
    Raises DataError for files that are missing or damaged, InvalidInput for an image_size that does not divide 32.
    """
    folder = places.data_dir(root) / name
    binary, npz = [folder / file for file in PUBLISHED["members"][name][part]], folder / f"{name}.npz"
    if npz.is_file() and not binary[0].parent.is_dir():
        return _in_memory(name, part, folder, [npz], lambda: _read_cifar_npz(name, part, npz), image_size=image_size)
    if not binary[0].exists() and (pickled := list(folder.glob("cifar-10*py*"))):
        raise damaged(f"there is no {binary[0]}, and {pickled[0]}, pickled, is not opened", name)
    paths = [required(path, name) for path in binary]
    return _in_memory(name, part, folder, paths, lambda: _read_cifar(name, paths), image_size=image_size)


load_cifar10 = partial(_load_cifar, "cifar10")
load_cifar100 = partial(_load_cifar, "cifar100")


def load_svhn(part: str, /, *, root: Root, image_size: int) -> Split:
    """73,257 training and 26,032 test images of 32 x 32 pixels: digits of house numbers (Netzer et al. 2011).

    From the official `svhn/train_32x32.mat` and `svhn/test_32x32.mat`, whose label 10 means the digit 0. ids are
    `content_ids`, and the rest is as for CIFAR.
    """
    folder = places.data_dir(root) / "svhn"
    path = required(folder / f"{part}_32x32.mat", "svhn")
    return _in_memory("svhn", part, folder, [path], lambda: _read_svhn(path), image_size=image_size)


def load_tiny_imagenet(part: str, /, *, root: Root, image_size: int) -> Split:
    """100,000 training and 10,000 test images of 64 x 64 pixels in 200 classes (Stanford CS231n).

    From the official folder `tiny_imagenet/tiny-imagenet-200/`; its validation images are the test part, because its
    test images have no labels. ids are the official file names; class_names the first words of words.txt, in the order
    of the classes' numbers (n01443537 ...).
    Raises DataError for files that are missing or do not decode, InvalidInput for a size that does not divide 64.
    """
    from kdlib.data import fetch

    folder = places.data_dir(root) / "tiny_imagenet"
    home = folder / "tiny-imagenet-200"
    names = ("wnids.txt", "words.txt", "val/val_annotations.txt", "train")
    sources = [required(home / name, "tiny_imagenet") for name in names]

    def make() -> dict[str, np.ndarray]:
        fetch.verify("tiny_imagenet", folder, sources)
        numbers, names = _tiny_classes(home)
        paths, y = (_tiny_train if part == "train" else _tiny_test)(home, numbers)
        _check_count("tiny_imagenet", part, len(paths), home)
        x = Images(paths, 64)[:]
        return by_id(np.array([path.name for path in paths]), x, np.array(y)) | {"class_names": np.array(names)}

    folders = sorted((home / "train").glob("*/images")) if part == "train" else [home / "val/images"]
    key = {"version": 1, "part": part, "files": cache.stamps([*sources[:3], *folders])}
    made = cache.prepared(folder, key, make)
    return Split(made["ids"], reduce(made["x"], image_size), made["y"], {}, tuple(made["class_names"].tolist()))


def load_imagenet(part: str, /, *, root: Root, image_size: int) -> Split:
    """1,281,167 training images in 1,000 classes (ILSVRC 2012); its 50,000 validation images are the test part.

    From `imagenet/train/<class>/*.JPEG` and `imagenet/val/<class>/*.JPEG`. x reads the images when it is indexed: the
    shorter side is resized to image_size * 256 / 224 and the center cut out. ids are the official file names,
    class_names the classes' numbers (n01440764 ...).
    Raises DataError for what is missing; an image that does not decode is named when it is read.
    """
    folder = places.data_dir(root) / "imagenet"
    home = required(folder / ("train" if part == "train" else "val"), "imagenet")
    classes = sorted(path for path in home.iterdir() if path.is_dir())

    def make() -> dict[str, np.ndarray]:
        labels = {name: c.name for c in classes for name in image_names(c)}
        _check_count("imagenet", part, len(labels), home)
        ids, names = np.array(sorted(labels)), np.array(sorted(set(labels.values())))
        return {"ids": ids, "y": np.searchsorted(names, [labels[i] for i in ids.tolist()]), "class_names": names}

    made = cache.prepared(folder, {"version": 1, "part": part, "files": cache.stamps([home, *classes])}, make)
    names = made["class_names"].tolist()
    paths = [f"{home}/{names[c]}/{i}" for c, i in zip(made["y"].tolist(), made["ids"].tolist(), strict=True)]
    x = Images(paths, image_size, shorter=round(image_size * RESIZED))
    return Split(made["ids"], x, made["y"], {}, tuple(names))


def reduce(x: np.ndarray, size: int) -> np.ndarray:
    """(N, C, S, S) uint8 -> (N, C, size, size) uint8: means of blocks of k x k pixels, k = S / size, rounded half up.

    Raises InvalidInput unless size divides S.
    """
    native = x.shape[-1]
    sizes = [s for s in range(native, 0, -1) if native % s == 0]
    if size not in sizes:
        valid = ", ".join(map(str, sizes))
        raise InvalidInput(f"image_size {size!r} for images of {native} pixels: give one of {valid}.")
    k = native // size
    if k == 1:
        return x
    total = sum((x[:, :, i::k, j::k] for i in range(k) for j in range(k)), np.uint32(k * k // 2))
    return (total // (k * k)).astype(np.uint8)


def content_ids(contents: Iterable[np.ndarray | bytes], y: np.ndarray) -> np.ndarray:
    """(N,) str: the first 16 hexadecimal digits of sha256 of each content's bytes; of an image its (C, H, W) uint8.

    The second of equal contents gets '-1' after it and the third '-2', in the order of their labels y (N,).
    """
    table = pd.DataFrame({"digest": [files.sha256(content)[:16] for content in contents], "y": y})
    nth = table.sort_values("y", kind="stable").groupby("digest").cumcount().sort_index()
    return np.array([f"{digest}-{n}" if n else digest for digest, n in zip(table["digest"], nth, strict=True)], str)


def by_id(ids: np.ndarray, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """{'ids', 'x', 'y'} with rows in the order of their ids, as every loader returns them."""
    order = np.argsort(ids, kind="stable")
    return {"ids": ids[order], "x": np.ascontiguousarray(x[order]), "y": y[order].astype(np.int64)}


def read_npz(path: Path, names: Sequence[str] = (), *, dataset: str) -> dict[str, np.ndarray]:
    """The named arrays of an npz file, or all. Raises DataError where it is damaged or lacks one."""
    try:
        # opened here because numpy leaves the file of a damaged archive open
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            found = {name: archive[name] for name in (names or archive.files) if name in archive.files}
    except Exception as error:  # a damaged file makes numpy, zipfile and zlib raise nearly everything
        raise damaged(f"{path} is not a whole npz file: {error}", dataset) from error
    if lacking := [name for name in names or () if name not in found]:
        raise damaged(f"{path} has no array {lacking[0]!r}", dataset)
    return found


def image_names(folder: Path) -> list[str]:
    """The names of the image files in a folder, sorted."""
    return sorted(entry.name for entry in os.scandir(folder) if Path(entry.name).suffix.lower() in SUFFIXES)


# ------------------------------------------------------------------------------------------------------- their formats


def _in_memory(
    name: str, part: str, folder: Path, files: list[Path], read: Callable[[], Labelled], *, image_size: int
) -> Split:
    """A part whose images of 32 x 32 pixels come from a few files, with ids from their content."""
    from kdlib.data import fetch

    classes = tuple(CLASSES[name])

    def make() -> dict[str, np.ndarray]:
        if files[0].suffix != ".npz":  # no official file, and its own CRC-32s have it whole
            fetch.verify(name, folder, files)
        x, y = read()
        _check_count(name, part, len(y), files[0].parent)
        if len(wrong := np.setdiff1d(y, np.arange(len(classes)))):
            raise damaged(f"{files[0].parent} has the label {wrong[0]}, not 0 .. {len(classes) - 1}", name)
        return by_id(content_ids(x, y), x, y)

    made = cache.prepared(folder, {"version": 1, "part": part, "files": cache.stamps(files)}, make)
    return Split(made["ids"], reduce(made["x"], image_size), made["y"], {}, classes)


def _check_count(name: str, part: str, n: int, source: Path) -> None:
    if n != (all_ := IMAGES[name][part]):
        raise damaged(f"{source} has {n:,} {part} images of {all_:,}: some are missing, or it is other data", name)


def _read_cifar(name: str, paths: list[Path]) -> Labelled:
    """The official binary files: rows of label bytes and 3 x 32 x 32 pixel bytes."""
    labels, rows = LABEL_BYTES[name], []
    for path in paths:
        content = np.fromfile(path, np.uint8)
        if content.size % (labels + 3072):
            raise damaged(f"{path} has {content.size:,} bytes, not rows of {labels + 3072:,}", name)
        rows.append(content.reshape(-1, labels + 3072))
    whole = np.concatenate(rows)
    return np.ascontiguousarray(whole[:, labels:]).reshape(-1, 3, 32, 32), whole[:, labels - 1]


def _read_cifar_npz(name: str, part: str, path: Path) -> Labelled:
    x, y = read_npz(path, (f"{part}_x", f"{part}_y"), dataset=name).values()
    if x.dtype != np.uint8 or x.shape[1:] != (32, 32, 3) or y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        found = f"{part}_x is {x.dtype} {x.shape} and {part}_y {y.dtype} {y.shape}"
        raise damaged(f"{path}: {found}, not uint8 (N, 32, 32, 3) and whole numbers (N,)", name)
    labels, counts = np.unique(y, return_counts=True)
    if len(set(counts.tolist())) > 1:
        most, least = counts.argmax(), counts.argmin()
        told = f"{counts[most]:,} images of class {labels[most]} and {counts[least]:,} of {labels[least]}"
        raise damaged(f"{path}: {part} has {told}; the official data have as many of every class", name)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y.astype(np.int64)


def _read_svhn(path: Path) -> Labelled:
    from scipy.io import loadmat

    try:
        content = loadmat(path)
        x, y = content["X"].transpose(3, 2, 0, 1), content["y"].ravel()
    except Exception as error:  # a damaged file makes scipy's reader raise nearly everything
        raise damaged(f"{path} is not a whole SVHN file: {error}", "svhn") from error
    if x.dtype != np.uint8 or x.shape != (len(y), 3, 32, 32):
        raise damaged(f"{path}: X is {x.dtype} for images {x.shape} and y ({len(y)},)", "svhn")
    return np.ascontiguousarray(x), y % 10


def _tiny_classes(home: Path) -> tuple[list[str], list[str]]:
    """The 200 classes' numbers, sorted, and their names: the first of several, with the number where two share it."""
    numbers = sorted(_lines(home / "wnids.txt"))
    words = dict(line.partition("\t")[::2] for line in _lines(home / "words.txt"))
    names = [words.get(number, number).split(",")[0].strip() for number in numbers]
    return numbers, [f"{a} ({n})" if names.count(a) > 1 else a for n, a in zip(numbers, names, strict=True)]


def _tiny_train(home: Path, numbers: list[str]) -> tuple[list[Path], list[int]]:
    folders = [required(home / "train" / number / "images", "tiny_imagenet") for number in numbers]
    pairs = [(folder / name, c) for c, folder in enumerate(folders) for name in image_names(folder)]
    return [path for path, _ in pairs], [c for _, c in pairs]


def _tiny_test(home: Path, numbers: list[str]) -> tuple[list[Path], list[int]]:
    path = home / "val/val_annotations.txt"
    rows = [line.split("\t") for line in _lines(path)]
    if wrong := [row for row in rows if len(row) < 2 or row[1] not in numbers or Path(row[0]).name != row[0]]:
        raise damaged(f"{path} has the line {' '.join(wrong[0])!r}, not image and class", "tiny_imagenet")
    return [home / "val/images" / row[0] for row in rows], [numbers.index(row[1]) for row in rows]


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line]


# -------------------------------------------------------------------------------------------------- handwritten digits


def load_digits(part: str, /, *, root: Root, train_images: int, seed: int) -> Split:
    """1,797 handwritten digits of 8 x 8 pixels; `train_images` of them train, the rest (1,497 by default) test.

    x is (N, 3, 8, 8): scikit-learn's 0 .. 16, scaled to floor(value * 255 / 16 + 0.5), the same in all three channels.
    ids are 'digits/0000' .. 'digits/1796' in scikit-learn's order. Stratified: every class has its share of the
    training images, to within one image. The split depends on `seed` alone, and a smaller training set is part of a
    larger one. There are no groups; `root` is ignored.
    Raises InvalidInput for a bad part or option, DataError without scikit-learn.
    """
    digits = library("sklearn.datasets", of="scikit-learn").load_digits()
    images, labels = digits.images, digits.target.astype(np.int64)
    ids = np.array([f"digits/{i:04d}" for i in range(len(labels))])
    order = depths([f"{seed}/{i}" for i in ids], labels).sort_values(kind="stable").index.to_numpy()
    chosen = np.sort(order[:train_images] if part == "train" else order[train_images:])
    gray = np.floor(images[chosen] * (255 / 16) + 0.5).astype(np.uint8)
    x = np.repeat(gray[:, None], 3, axis=1)
    return Split(ids[chosen], x, labels[chosen], {}, tuple(str(c) for c in range(10)))


def depths(keys: Iterable[str], labels: np.ndarray) -> pd.Series:
    """How deep in its class each of N images stands, 0 .. 1: the first n by depth hold every class in proportion.

    Each class is shuffled by the hash of its keys (N,), which no version of a random generator can change, and its k-th
    image stands at (k + 1/2) / (size of the class). The index has the positions of the images, in the order of hashes.
    """
    table = pd.DataFrame({"hash": [files.sha256(key.encode()) for key in keys], "label": labels})
    of_class = table.sort_values("hash").groupby("label")
    return (of_class.cumcount() + 0.5) / of_class["label"].transform("size")
