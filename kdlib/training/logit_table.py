"""The teacher's logits for every view of every image: a file for each view, filled once, shared by all its students.

A view's file appears whole, behind the sha256 of its bytes. So filling goes on after any stop, kill or full disk, on
another machine too, and ends with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np

from kdlib import files

FP32_BYTES, MAX_BYTES = 2**30, 2**35

Shape = tuple[int, int, int]  # views, N, C


def dtype(shape: Shape) -> np.dtype:
    """fp32 up to 1 GiB, fp16 above: by size alone, so that a run gives the same bits on every machine."""
    return np.dtype(np.float32 if np.prod(shape, dtype=np.int64) * 4 <= FP32_BYTES else np.float16)


def fits(shape: Shape) -> bool:
    """Whether the files would stay within 32 GiB."""
    return bool(np.prod(shape, dtype=np.int64) * dtype(shape).itemsize <= MAX_BYTES)


def open_table(
    home: Path, answer: Callable[[int], np.ndarray], *, shape: Shape, stop: Callable[[], bool]
) -> Generator[None, None, list[np.ndarray]]:
    """(N, C) for each view, memory-mapped from the folder `home`; what is not there or damaged is computed first.

    Yields after each view. answer(view) -> (N, C) logits. stop is asked while another process has the table. Raises
    Stopped when it says so, StoreError where the disk refuses.
    """
    views, n, classes = shape
    paths = [home / f"{view}.logits" for view in range(views)]
    with files.locked(home.with_suffix(".lock"), stop=stop):
        for view, path in enumerate(paths):
            if files.read_sealed(path) is None:
                files.write_sealed(path, answer(view).astype(dtype(shape)).tobytes())
            yield
    return [np.asarray(np.memmap(path, dtype(shape), "r", files.SEAL, (n, classes))) for path in paths]
