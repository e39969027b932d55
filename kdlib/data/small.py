"""Small real data that comes with a library: the handwritten digits of scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kdlib import files
from kdlib.data import Split, check_whole
from kdlib.errors import DataError


def load_digits(part: str, /, *, root: str | Path | None, train_images: int, seed: int) -> Split:
    """1,797 handwritten digits of 8 x 8 pixels; `train_images` of them train, the rest (1,497 by default) test.

    x is (N, 3, 8, 8): scikit-learn's 0 .. 16, scaled to floor(value * 255 / 16 + 0.5), the same in all three channels.
    ids are 'digits/0000' .. 'digits/1796' in scikit-learn's order. Stratified: every class has its share of the
    training images, to within one image. The split depends on `seed` alone, and a smaller training set is part of a
    larger one. There are no groups; `root` is ignored.
    Raises InvalidInput for a bad part or option, DataError without scikit-learn.
    """
    place = "data set 'digits'"
    try:
        from sklearn.datasets import load_digits as read
    except ImportError as error:
        raise DataError("data set 'digits' needs scikit-learn, which is missing: pip install scikit-learn.") from error
    digits = read()
    images, labels = digits.images, digits.target.astype(np.int64)
    # both parts keep every class: the first ten in order are one of each, and so are the last ten
    check_whole("train_images", train_images, least=10, most=len(labels) - 10, place=place)
    check_whole("seed", seed, least=0, place=place)
    ids = np.array([f"digits/{i:04d}" for i in range(len(labels))])
    order = _stratified_order(ids, labels, seed=seed)
    chosen = np.sort(order[:train_images] if part == "train" else order[train_images:])
    gray = np.floor(images[chosen] * (255 / 16) + 0.5).astype(np.uint8)
    x = np.repeat(gray[:, None], 3, axis=1)
    return Split(ids[chosen], x, labels[chosen], {}, tuple(str(c) for c in range(10)))


def _stratified_order(ids: np.ndarray, labels: np.ndarray, *, seed: int) -> np.ndarray:
    """All positions, so that any first n hold every class in proportion.

    Each class is shuffled by the hash of (seed, id), which no version of a random generator can change, and its
    k-th image stands at (k + 1/2) / (size of the class).
    """
    shuffled = np.argsort([files.sha256(f"{seed}/{i}".encode()) for i in ids], kind="stable")
    depth = np.empty(len(ids))
    for c in np.unique(labels):
        of_class = shuffled[labels[shuffled] == c]
        depth[of_class] = (np.arange(len(of_class)) + 0.5) / len(of_class)
    return shuffled[np.argsort(depth[shuffled], kind="stable")]
