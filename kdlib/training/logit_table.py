"""The teacher's logits for every view of every image: a file that is filled once and shared by all its students.

Rows are appended view by view, batch by batch. A small file beside the unfinished one says how many of its rows are
safe, so that filling goes on after any stop, kill or full disk, on another machine too, and ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kdlib import files
from kdlib.errors import StoreError
from kdlib.files import Stopped

SAFE_SECONDS = 60  # between two notes of what is safe
FP32_BYTES, MAX_BYTES = 2**30, 2**35

Shape = tuple[int, int, int]  # views, N, C
Answer = Callable[[int, int, int], np.ndarray]
Stop = Callable[[], bool]


def dtype(shape: Shape) -> np.dtype:
    """fp32 up to 1 GiB, fp16 above: by size alone, so that a run gives the same bits on every machine."""
    return np.dtype(np.float32 if np.prod(shape, dtype=np.int64) * 4 <= FP32_BYTES else np.float16)


def fits(shape: Shape) -> bool:
    """Whether the file would stay within 32 GiB."""
    return bool(np.prod(shape, dtype=np.int64) * dtype(shape).itemsize <= MAX_BYTES)


def open_table(path: Path, answer: Answer, *, shape: Shape, batch: int, stop: Stop) -> np.ndarray:
    """The table of shape (views, N, C), memory-mapped from `path`; filled first if it is not there or damaged.

    answer(view, start, end) -> (end - start, C) logits of images start .. end in one view, at most `batch` of them.
    stop is asked before every batch. Raises Stopped when it says so, StoreError where the disk refuses.
    """
    with files.locked(path.with_suffix(".lock"), stop=stop):
        if not _intact(path):
            _fill(path, answer, shape, batch, stop)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _intact(path: Path) -> bool:
    digest = path.with_suffix(".sha256")
    if not (path.is_file() and digest.is_file()):
        return False
    return files.sha256_of(path) == digest.read_text()


def _fill(path: Path, answer: Answer, shape: Shape, batch: int, stop: Stop) -> None:
    unfinished, mark = path.with_suffix(".partial"), path.with_suffix(".safe")
    try:
        with open(unfinished, "r+b" if unfinished.is_file() else "w+b") as file:
            digest = _append(file, mark, answer, shape, batch, stop)
        files.replace_file(path.with_suffix(".sha256"), digest.encode())
        unfinished.replace(path)
        mark.unlink(missing_ok=True)
    except (OSError, StoreError) as error:
        raise StoreError(
            f"cannot write the teacher's logit table {path}: {error}. What is safe of it is kept; free space or choose "
            "another runs_dir, then start the same command again."
        ) from error


def _append(file: BinaryIO, mark: Path, answer: Answer, shape: Shape, batch: int, stop: Stop) -> str:
    """Write the rows that are missing; the sha256 of the whole file."""
    header, n, row_bytes = _header(shape), shape[1], shape[2] * dtype(shape).itemsize
    rows, digest = _safe(file, mark, header, row_bytes, batch)
    file.seek(len(header) + rows * row_bytes if rows else 0)
    file.truncate()
    if not rows:
        file.write(header)
        digest.update(header)
    noted = time.monotonic()
    for view, start in [(view, start) for view in range(shape[0]) for start in range(0, n, batch)]:
        if view * n + start < rows:
            continue
        if (stopping := stop()) or time.monotonic() - noted > SAFE_SECONDS:
            _note(file, mark, rows=view * n + start, batch=batch, sha256=digest.hexdigest())
            noted = time.monotonic()
        if stopping:
            raise Stopped
        block = answer(view, start, min(start + batch, n)).astype(dtype(shape)).tobytes()
        file.write(block)
        digest.update(block)
    file.flush()
    os.fsync(file.fileno())
    return digest.hexdigest()


def _header(shape: Shape) -> bytes:
    buffer = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype(shape)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()


def _note(file: BinaryIO, mark: Path, **state: int | str) -> None:
    file.flush()
    os.fsync(file.fileno())
    files.replace_file(mark, files.to_json(state))


def _safe(file: BinaryIO, mark: Path, header: bytes, row_bytes: int, batch: int) -> tuple[int, hashlib._Hash]:
    """(rows that are safe, sha256 of the header and them); none if the file is not what was noted."""
    try:
        note = json.loads(mark.read_bytes())
        left = len(header) + note["rows"] * row_bytes
    except (OSError, ValueError, KeyError, TypeError):
        return 0, hashlib.sha256()
    digest = hashlib.sha256()
    file.seek(0)
    while left and (block := file.read(min(left, 2**24))):
        digest.update(block)
        left -= len(block)
    if note.get("batch") != batch or note.get("sha256") != digest.hexdigest():
        return 0, hashlib.sha256()
    return note["rows"], digest
