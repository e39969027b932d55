"""Image files that are decoded when they are indexed, by threads: PIL decodes and resizes without Python's lock.

A JPEG that is much larger than what is wanted of it is decoded at 1/2, 1/4 or 1/8 of its size, never below the wanted
one: its cosine coefficients allow that for less work.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from kdlib.errors import DataError

Box = tuple[float, float, float, float]  # in pixels of the file

AHEAD = 4  # batches
CHUNK = 16  # images that a thread decodes before it asks for more: few enough to stop soon
CROP_SCALE, CROP_RATIO, CROP_TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10


class Images:
    """N image files as (N, 3, size, size) uint8 that are read when they are needed.

    paths    (N,) of image files, or their bytes; gray ones get three equal channels
    size     side of the images that come out, in pixels
    box      left, upper, right, lower: the part of every file that counts, in its pixels; by default all of it.
             Cut before it is resized, but for the outermost pixels, which also see what lies beside it
    shorter  the shorter side is resized to this many pixels and the central size x size are cut out; `size` by default,
             so that nothing is lost of the shorter side
    names    (N,) what errors call them; their paths by default
    `x[index]` takes what an array takes for its first axis. Whatever reads raises DataError, naming the file, where one
    is missing or does not decode.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        paths: Sequence[str | Path | bytes],
        size: int,
        *,
        box: Box | None = None,
        shorter: int | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.paths, self.size, self.box, self.share = paths, size, box, size / (shorter or size)
        self.names = paths if names is None else names

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self), 3, self.size, self.size)

    def __getitem__(self, index: Any) -> np.ndarray:
        where = np.arange(len(self))[index]
        read = next(self.prefetched([(np.atleast_1d(where), None)]))
        return read.reshape(*np.shape(where), *self.shape[1:])

    def crops(self, index: np.ndarray, seeds: np.ndarray, *, flip: bool = False) -> np.ndarray:
        """(B, 3, size, size) uint8: random resized crops of images index (B,), the same for the same seeds (B,).

        A crop has 0.08 .. 1 of the image's area and a ratio of 3/4 .. 4/3 (Szegedy et al. 2015, as in torchvision);
        with `flip` every second one is mirrored.
        """
        return next(self.prefetched([(index, seeds)], flip=flip))

    def prefetched(
        self, batches: Iterable[tuple[np.ndarray, np.ndarray | None]], *, flip: bool = False, ahead: int = AHEAD
    ) -> Iterator[np.ndarray]:
        """One array a batch (index (B,), seeds (B,) or None): `x[index]`, or `crops` where it has seeds.

        At most `ahead` batches are decoded before they are asked for; `batches` is read no further either. Stops its
        threads when it is exhausted, closed or forgotten.
        """
        waiting: deque[tuple[np.ndarray, list[Future]]] = deque()
        with ThreadPoolExecutor(_cores()) as pool:
            try:
                for index, seeds in batches:
                    waiting.append(self._start(pool, index, seeds, flip))
                    if len(waiting) > ahead:
                        yield _finished(*waiting.popleft())
                while waiting:
                    yield _finished(*waiting.popleft())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _start(
        self, pool: ThreadPoolExecutor, index: np.ndarray, seeds: np.ndarray | None, flip: bool
    ) -> tuple[np.ndarray, list[Future]]:
        """The array of a batch, and what is filling it."""
        out = np.empty((len(index), *self.shape[1:]), np.uint8)
        starts = range(0, len(index), CHUNK)
        return out, [pool.submit(self._fill, out, index, seeds, flip, slice(s, s + CHUNK)) for s in starts]

    def _fill(self, out: np.ndarray, index: np.ndarray, seeds: np.ndarray | None, flip: bool, rows: slice) -> None:
        draws = [None] * len(index[rows]) if seeds is None else [Random(int(seed)) for seed in seeds[rows]]
        for image, i, draw in zip(out[rows], index[rows], draws, strict=True):
            pixels = self._decoded(i, draw)
            mirrored = flip and draw is not None and draw.random() < 0.5
            image[:] = (pixels[:, ::-1] if mirrored else pixels).transpose(2, 0, 1)

    def _decoded(self, i: int, draw: Random | None) -> np.ndarray:
        """(size, size, 3) uint8: the center of the box, or the random crop of it that `draw` gives."""
        from PIL import Image

        source = self.paths[i]
        try:
            with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
                left, upper, right, lower = self.box or (0, 0, *image.size)
                size = right - left, lower - upper
                x, y, w, h = random_crop(*size, draw) if draw else center(*size, self.share)
                scale = _drafted(image, int(min(w, h)) // self.size)
                part = tuple(v / scale for v in (left + x, upper + y, left + x + w, upper + y + h))
                color = image if image.mode == "RGB" else image.convert("RGB")
                return np.asarray(color.resize((self.size, self.size), Image.Resampling.BILINEAR, box=part))
        except FileNotFoundError as error:
            raise DataError(f"{self.names[i]} is missing. Put the data set there again, whole.") from error
        except Exception as error:  # a damaged file makes PIL's readers raise nearly everything
            raise DataError(f"{self.names[i]} does not decode: {error}. Replace it by a whole image.") from error


def _drafted(image: Any, factor: int) -> int:
    """Have a JPEG decoded at 1/2, 1/4 or 1/8 of its size, not below 1 / factor of it. Returns by what it is divided."""
    scale = max(s for s in (1, 2, 4, 8) if s <= max(factor, 1))
    if scale == 1 or image.draft(None, tuple(side // scale for side in image.size)) is None:
        return 1
    return scale


def center(width: float, height: float, share: float) -> Box:
    """x, y, width, height of the square in the center whose side is `share` of the shorter side."""
    side = min(width, height) * share
    return (width - side) / 2, (height - side) / 2, side, side


def random_crop(width: int, height: int, draw: Random) -> tuple[int, int, int, int]:
    """x, y, width, height of a random crop of an image: area and log of the ratio are uniform.

    Where ten tries give none that fits: the largest one in the center with a ratio in range.
    """
    least, most = (math.log(ratio) for ratio in CROP_RATIO)
    for _ in range(CROP_TRIES):
        area = width * height * draw.uniform(*CROP_SCALE)
        ratio = math.exp(draw.uniform(least, most))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(draw.random() * (width - w + 1)), int(draw.random() * (height - h + 1)), w, h
    w, h = min(width, round(height * CROP_RATIO[1])), min(height, round(width / CROP_RATIO[0]))
    return (width - w) // 2, (height - h) // 2, w, h


def _finished(out: np.ndarray, parts: list[Future]) -> np.ndarray:
    for part in parts:
        part.result()
    return out


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
