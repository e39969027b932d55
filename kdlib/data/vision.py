"""Labelled images: CIFAR-10, CIFAR-100, SVHN, Tiny ImageNet, ImageNet. From their official files, never unpickled.

The small ones are whole arrays, prepared once (`cache`); ImageNet is read while it is used (`stream.Images`). A part
has to have its official number of images: a run's address could not tell it from one with some missing.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from kdlib import files, places
from kdlib.data import Split, cache, check_whole, required
from kdlib.data.stream import Images
from kdlib.errors import DataError, InvalidInput

CLASSES = {
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck",
    "cifar100": """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
        castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
        elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
        man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
        pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
        skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
        tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """,
    "svhn": "0 1 2 3 4 5 6 7 8 9",
}
IMAGES = {  # of the official parts
    "cifar10": {"train": 50_000, "test": 10_000},
    "cifar100": {"train": 50_000, "test": 10_000},
    "svhn": {"train": 73_257, "test": 26_032},
    "tiny_imagenet": {"train": 100_000, "test": 10_000},
    "imagenet": {"train": 1_281_167, "test": 50_000},
}
CIFAR_FILES = {
    ("cifar10", "train"): [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)],
    ("cifar10", "test"): ["cifar-10-batches-bin/test_batch.bin"],
    ("cifar100", "train"): ["cifar-100-binary/train.bin"],
    ("cifar100", "test"): ["cifar-100-binary/test.bin"],
}
LABEL_BYTES = {"cifar10": 1, "cifar100": 2}  # the last one counts: CIFAR-100's first is the coarse label
SUFFIXES = {".jpeg", ".jpg", ".png", ".webp", ".bmp"}
RESIZED = 256 / 224  # ImageNet's test images: the shorter side before the central part is cut out

Labelled = tuple[np.ndarray, np.ndarray]  # images (N, C, H, W) uint8, labels (N,)


def _load_cifar(name: str, part: str, /, *, root: str | Path | None, image_size: int) -> Split:
    """50,000 training and 10,000 test images of 32 x 32 pixels (Krizhevsky 2009): 10 classes, or 100 fine labels.

    From the official binary files in `cifar100/cifar-100-binary/`, else from `cifar100/cifar100.npz`: train_x
    (N, 32, 32, 3) uint8, train_y (N,), test_x, test_y. ids are `content_ids`; both sources give the same.
    x is (N, 3, image_size, image_size), sorted by id; below 32 the means of blocks (`reduce`).
    Raises DataError for files that are missing or damaged, InvalidInput for an image_size that does not divide 32.
    """
    folder = places.data_dir(root) / name
    binary, npz = [folder / file for file in CIFAR_FILES[name, part]], folder / f"{name}.npz"
    if npz.is_file() and not binary[0].parent.is_dir():
        return _in_memory(name, part, folder, [npz], lambda: _read_cifar_npz(name, part, npz), image_size=image_size)
    remedy = _fetch(name)
    if pickled := list(folder.glob("cifar-10*py*")):
        remedy = f"{pickled[0]} is the pickled version, which kdlib does not open. {remedy}"
    for path in binary:
        required(path, remedy)
    return _in_memory(name, part, folder, binary, lambda: _read_cifar(name, binary), image_size=image_size)


load_cifar10 = partial(_load_cifar, "cifar10")
load_cifar100 = partial(_load_cifar, "cifar100")


def load_svhn(part: str, /, *, root: str | Path | None, image_size: int) -> Split:
    """73,257 training and 26,032 test images of 32 x 32 pixels: digits of house numbers (Netzer et al. 2011).

    From the official `svhn/train_32x32.mat` and `svhn/test_32x32.mat`, whose label 10 means the digit 0. ids are
    `content_ids`, and the rest is as for CIFAR.
    """
    folder = places.data_dir(root) / "svhn"
    path = required(folder / f"{part}_32x32.mat", _fetch("svhn"))
    return _in_memory("svhn", part, folder, [path], lambda: _read_svhn(path), image_size=image_size)


def load_tiny_imagenet(part: str, /, *, root: str | Path | None, image_size: int) -> Split:
    """100,000 training and 10,000 test images of 64 x 64 pixels in 200 classes (Stanford CS231n).

    From the official folder `tiny_imagenet/tiny-imagenet-200/`; its validation images are the test part, because its
    test images have no labels. ids are the official file names; class_names the first words of words.txt, in the order
    of the classes' numbers (n01443537 ...).
    Raises DataError for files that are missing or do not decode, InvalidInput for a size that does not divide 64.
    """
    check_whole("image_size", image_size, least=1, most=64, place="data set 'tiny_imagenet'")
    folder = places.data_dir(root) / "tiny_imagenet"
    home = folder / "tiny-imagenet-200"
    names = ("wnids.txt", "words.txt", "val/val_annotations.txt", "train")
    sources = [required(home / name, _fetch("tiny_imagenet")) for name in names]

    def make() -> dict[str, np.ndarray]:
        numbers, names = _tiny_classes(home)
        paths, y = (_tiny_train if part == "train" else _tiny_test)(home, numbers)
        _check_count("tiny_imagenet", part, len(paths), home)
        x = Images(paths, 64)[:]
        return by_id(np.array([path.name for path in paths]), x, np.array(y)) | {"class_names": np.array(names)}

    folders = sorted((home / "train").glob("*/images")) if part == "train" else [home / "val/images"]
    key = {"version": 1, "part": part, "files": cache.stamps([*sources[:3], *folders])}
    made = cache.prepared(folder, key, make)
    return Split(made["ids"], reduce(made["x"], image_size), made["y"], {}, tuple(made["class_names"].tolist()))


def load_imagenet(part: str, /, *, root: str | Path | None, image_size: int) -> Split:
    """1,281,167 training images in 1,000 classes (ILSVRC 2012); its 50,000 validation images are the test part.

    From `imagenet/train/<class>/*.JPEG` and `imagenet/val/<class>/*.JPEG`; or val/*.JPEG beside Kaggle's
    `LOC_val_solution.csv`. x reads the images when it is indexed: the shorter side is resized to image_size * 256 / 224
    and the center cut out. ids are the official file names, class_names the classes' numbers (n01440764 ...).
    Raises DataError for what is missing; an image that does not decode is named when it is read.
    """
    check_whole("image_size", image_size, least=1, place="data set 'imagenet'")
    folder = places.data_dir(root) / "imagenet"
    home = required(folder / ("train" if part == "train" else "val"), _imagenet_remedy(folder))
    classes = [Path(entry) for entry in sorted(os.scandir(home), key=lambda e: e.name) if entry.is_dir()]
    solution = folder / "LOC_val_solution.csv"
    flat = part == "test" and not classes and solution.is_file()

    def make() -> dict[str, np.ndarray]:
        labels = _solution(solution) if flat else {f: c.name for c in classes for f in image_names(c)}
        _check_count("imagenet", part, len(labels), home, remedy=_imagenet_remedy(folder))
        ids, names = np.array(sorted(labels)), np.array(sorted(set(labels.values())))
        return {"ids": ids, "y": np.searchsorted(names, [labels[i] for i in ids.tolist()]), "class_names": names}

    key = {"version": 1, "part": part, "files": cache.stamps([solution] if flat else [home, *classes])}
    made = cache.prepared(folder, key, make)
    names = made["class_names"].tolist()
    inside = [""] * len(made["y"]) if flat else [f"{names[c]}/" for c in made["y"].tolist()]
    paths = [f"{home}/{c}{i}" for c, i in zip(inside, made["ids"].tolist(), strict=True)]
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
    total = np.full((*x.shape[:2], size, size), k * k // 2, np.uint32)
    for i in range(k):
        for j in range(k):
            total += x[:, :, i::k, j::k]
    total //= k * k
    return total.astype(np.uint8)


def content_ids(contents: Iterable[np.ndarray | bytes], y: np.ndarray) -> np.ndarray:
    """(N,) str: the first 16 hexadecimal digits of sha256 of each content's bytes; of an image its (C, H, W) uint8.

    The second of equal contents gets '-1' after it and the third '-2', in the order of their labels y (N,).
    """
    digests = np.array([files.sha256(content)[:16] for content in contents])
    order = np.lexsort((y, digests))
    at = np.arange(len(digests))
    first = np.append(True, digests[order][1:] != digests[order][:-1])
    nth = at - np.maximum.accumulate(np.where(first, at, 0))
    ids = digests.astype("U24")
    ids[order[nth > 0]] = [f"{digests[i]}-{n}" for i, n in zip(order[nth > 0], nth[nth > 0], strict=True)]
    return ids


def by_id(ids: np.ndarray, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """{'ids', 'x', 'y'} with rows in the order of their ids, as every loader returns them."""
    order = np.argsort(ids, kind="stable")
    return {"ids": ids[order], "x": np.ascontiguousarray(x[order]), "y": y[order].astype(np.int64)}


def read_npz(path: Path, names: Iterable[str] | None = None, *, remedy: str) -> dict[str, np.ndarray]:
    """The named arrays of an npz file, or all. Raises DataError, with the remedy, where it is damaged or lacks one."""
    try:
        # opened here because numpy leaves the file of a damaged archive open
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            names = archive.files if names is None else names
            if lacking := [name for name in names if name not in archive.files]:
                raise DataError(f"{path} has no array {lacking[0]!r}. {remedy}")
            return {name: archive[name] for name in names}
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not a whole npz file: {error}. {remedy}") from error


def image_names(folder: Path) -> list[str]:
    """The names of the image files in a folder, sorted."""
    return sorted(entry.name for entry in os.scandir(folder) if Path(entry.name).suffix.lower() in SUFFIXES)


# ------------------------------------------------------------------------------------------------------- their formats


def _in_memory(
    name: str, part: str, folder: Path, files: list[Path], read: Callable[[], Labelled], *, image_size: int
) -> Split:
    """A part whose images of 32 x 32 pixels come from a few files, with ids from their content."""
    check_whole("image_size", image_size, least=1, most=32, place=f"data set {name!r}")
    classes = tuple(CLASSES[name].split())

    def make() -> dict[str, np.ndarray]:
        x, y = read()
        _check_count(name, part, len(y), files[0].parent)
        if len(wrong := np.setdiff1d(y, np.arange(len(classes)))):
            raise DataError(f"{files[0].parent} has the label {wrong[0]}, not 0 .. {len(classes) - 1}. {_fetch(name)}")
        return by_id(content_ids(x, y), x, y)

    made = cache.prepared(folder, {"version": 1, "part": part, "files": cache.stamps(files)}, make)
    return Split(made["ids"], reduce(made["x"], image_size), made["y"], {}, classes)


def _fetch(name: str) -> str:
    return f"Get it with `kdlib fetch {name}`."


def _check_count(name: str, part: str, n: int, source: Path, *, remedy: str = "") -> None:
    if n != IMAGES[name][part]:
        raise DataError(
            f"{source} has {n:,} {part} images of {IMAGES[name][part]:,}: half of it is missing or it is another data "
            f"set. {remedy or _fetch(name)}"
        )


def _read_cifar(name: str, paths: list[Path]) -> Labelled:
    """The official binary files: rows of label bytes and 3 x 32 x 32 pixel bytes."""
    labels, rows = LABEL_BYTES[name], []
    for path in paths:
        content = np.fromfile(path, np.uint8)
        if content.size % (labels + 3072):
            raise DataError(f"{path} has {content.size:,} bytes, not rows of {labels + 3072:,}. {_fetch(name)}")
        rows.append(content.reshape(-1, labels + 3072))
    whole = np.concatenate(rows)
    return np.ascontiguousarray(whole[:, labels:]).reshape(-1, 3, 32, 32), whole[:, labels - 1]


def _read_cifar_npz(name: str, part: str, path: Path) -> Labelled:
    x, y = read_npz(path, (f"{part}_x", f"{part}_y"), remedy=_fetch(name)).values()
    if x.dtype != np.uint8 or x.shape[1:] != (32, 32, 3) or y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise DataError(
            f"{path}: {part}_x is {x.dtype} {x.shape} and {part}_y {y.dtype} {y.shape}, not uint8 (N, 32, 32, 3) and "
            f"whole numbers (N,). {_fetch(name)}"
        )
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y


def _read_svhn(path: Path) -> Labelled:
    from scipy.io import loadmat

    try:
        content = loadmat(path)
        x, y = content["X"].transpose(3, 2, 0, 1), content["y"].ravel()
    except Exception as error:  # a damaged file makes scipy's reader raise nearly everything
        raise DataError(f"{path} is not a whole SVHN file: {error}. {_fetch('svhn')}") from error
    if x.dtype != np.uint8 or x.shape != (len(y), 3, 32, 32):
        raise DataError(f"{path}: X is {x.dtype} for images {x.shape} and y ({len(y)},). {_fetch('svhn')}")
    return np.ascontiguousarray(x), y % 10


def _tiny_classes(home: Path) -> tuple[list[str], list[str]]:
    """The 200 classes' numbers, sorted, and their names: the first of several, with the number where two share it."""
    numbers = sorted(_lines(home / "wnids.txt"))
    words = dict(line.partition("\t")[::2] for line in _lines(home / "words.txt"))
    names = [words.get(number, number).split(",")[0].strip() for number in numbers]
    return numbers, [f"{a} ({n})" if names.count(a) > 1 else a for n, a in zip(numbers, names, strict=True)]


def _tiny_train(home: Path, numbers: list[str]) -> tuple[list[Path], list[int]]:
    folders = [required(home / "train" / number / "images", _fetch("tiny_imagenet")) for number in numbers]
    pairs = [(folder / name, c) for c, folder in enumerate(folders) for name in image_names(folder)]
    return [path for path, _ in pairs], [c for _, c in pairs]


def _tiny_test(home: Path, numbers: list[str]) -> tuple[list[Path], list[int]]:
    path = home / "val/val_annotations.txt"
    rows = [line.split("\t") for line in _lines(path)]
    if wrong := [row for row in rows if len(row) < 2 or row[1] not in numbers or Path(row[0]).name != row[0]]:
        raise DataError(f"{path} has the line {' '.join(wrong[0])!r}, not image and class. {_fetch('tiny_imagenet')}")
    return [home / "val/images" / row[0] for row in rows], [numbers.index(row[1]) for row in rows]


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line]


def _solution(path: Path) -> dict[str, str]:
    """{file name: class} of Kaggle's list for the validation images that lie in one folder."""
    rows = [line.replace(",", " ").split() for line in _lines(path)[1:]]  # name,class x y x y class x y x y ...
    return {f"{row[0]}.JPEG": row[1] for row in rows if len(row) > 1}


def _imagenet_remedy(folder: Path) -> str:
    return (
        "Its terms allow no automatic download: get ILSVRC2012 from image-net.org or Kaggle and put the training images"
        f" into {folder}/train/<class>/ and the validation images into {folder}/val/<class>/."
    )
