"""What is costly to prepare (hashing, decoding, tokenising) is kept in `<data dir>/<data set>/.kdlib/` as .npy files.

.kdlib/<hash of the key>/   0.npy, 1.npy ...   the arrays
                            arrays.json        the sha256 of its second line; there, their names and CRC-32s
The key holds the path, size and times of every source file, so that a changed file is prepared anew.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from kdlib import files

LIST = "arrays.json"
FORMAT = 2  # another one makes everything anew


def prepared(folder: Path, key: dict[str, Any], make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What `make()` returns, kept in `folder/.kdlib` under the hash of `key` (anything that JSON can hold).

    The arrays are memory-mapped copy-on-write: a change to one never reaches the disk. A damaged cache is made anew,
    two processes may make it at once, and where it cannot be written the made arrays are returned.
    Raises what `make` raises.
    """
    text = json.dumps([FORMAT, key], sort_keys=True)
    home = Path(folder) / ".kdlib" / files.sha256(text.encode())[:16]
    with suppress(OSError, ValueError, TypeError):
        return _read(home)
    arrays = make()
    with suppress(OSError, ValueError):
        _write(home, arrays)
        return _read(home)
    return arrays


def stamps(paths: Iterable[Path]) -> list[list[Any]]:
    """[path, bytes, times of the last change in ns] of every file, for a key.

    The path from two folders up: in folders of classes it says the label. Copies may keep the time of what they are a
    copy of; the second time, of the inode, is when they came here.
    """
    return [
        ["/".join(path.parts[-3:]), (stat := path.stat()).st_size, stat.st_mtime_ns, stat.st_ctime_ns] for path in paths
    ]


def _read(home: Path) -> dict[str, np.ndarray]:
    arrays = {}
    digest, _, names = (home / LIST).read_bytes().partition(b"\n")
    if files.sha256(names).encode() != digest:
        raise ValueError(LIST)
    for i, (name, crc) in enumerate(json.loads(names)):
        if _crc32(home / f"{i}.npy") != crc:
            raise ValueError(name)
        arrays[name] = np.asarray(np.load(home / f"{i}.npy", mmap_mode="c", allow_pickle=False))
    return arrays


def _write(home: Path, arrays: dict[str, np.ndarray]) -> None:
    with files.folder_beside(home) as fresh:
        for i, array in enumerate(arrays.values()):
            np.save(fresh / f"{i}.npy", np.asarray(array, order="C"), allow_pickle=False)
        sums = [_crc32(fresh / f"{i}.npy") for i in range(len(arrays))]
        names = json.dumps(list(zip(arrays, sums, strict=True))).encode()
        (fresh / LIST).write_bytes(files.sha256(names).encode() + b"\n" + names)
        shutil.rmtree(home, ignore_errors=True)  # only a damaged one is written again
        with suppress(OSError):  # another process was first
            os.replace(fresh, home)


def _crc32(path: Path) -> int:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        return zlib.crc32(whole)
