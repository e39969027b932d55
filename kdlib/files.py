"""Files that are whole or not there: the atomic write, the lock and the sha256, all defined here.

What is written appears under its name complete, or not at all: a reader, a crash or a full disk sees the old file or
the new one, never half of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from kdlib.errors import StoreError

SEAL = 64  # bytes
SUMS = "SHA256SUMS"
LEFT_OVER_SECONDS = 86_400
BEAT_SECONDS = 30  # between two signs of life of a claim
CLAIM_SECONDS = 300  # without one, after which a claim is taken from a host that is gone


class Stopped(Exception):
    """Work was asked to stop; where it was is on disk."""


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole. Raises StoreError if the disk refuses; the previous file is left untouched."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as fresh:
            write_synced(fresh, data)


@contextmanager
def writing(what: object) -> Iterator[None]:
    """Raises StoreError, with what to do, where the disk refuses what is written inside. what: its path, or words."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write {what}: {error}. What stood there before is untouched; free space or choose another "
            "folder, then start the same command again."
        ) from error


def contents(path: Path) -> bytes:
    """What is in a file. Raises OSError for what is none: a pipe or a device would be read for ever."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no file")
    return path.read_bytes()


def read_bytes(path: Path) -> bytes:
    """`contents`. Raises StoreError where it cannot be read."""
    try:
        return contents(path)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error}. Put it back, or give yourself the right to read it.") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden file beside `path` to write to. It takes that name at the end, unless something was raised."""
    fresh = _beside(path)
    try:
        yield fresh
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


@contextmanager
def folder_beside(home: Path) -> Iterator[Path]:
    """A hidden, empty folder beside `home`, to be filled and then renamed to `home`. What is left of it is deleted."""
    fresh = _beside(home)
    fresh.mkdir(parents=True)  # mkdtemp would let its owner alone read it, whatever the umask says
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")


def remove_leftovers(folder: Path) -> None:
    """Delete what killed writes left in a folder and two levels below: older than a day, when none is being written."""
    name = ".*-" + 8 * "[0-9a-f]"  # as `_beside` gives it, and hardly anyone else
    for pattern in (name, f"*/{name}", f"*/*/{name}"):
        for path in Path(folder).glob(pattern):
            if time.time() - path.lstat().st_mtime > LEFT_OVER_SECONDS:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def locked(
    path: Path, *, stop: Callable[[], bool] = lambda: False, waiting: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold a lock file for one process. The system frees the lock of a process that dies, so none goes stale.

    While another process has it, `stop` is called every second, `waiting` once. Raises Stopped when stop says so,
    StoreError where the folder cannot be written.
    """
    lock, told = filelock.FileLock(path), False
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            try:
                lock.acquire(timeout=1)
            except filelock.Timeout:
                if stop():
                    raise Stopped from None
                if not told:
                    waiting()
                told = True
    try:
        yield
    finally:
        lock.release()


@contextmanager
def claimed(
    path: Path, *, stop: Callable[[], bool] = lambda: False, waiting: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """`locked`, for hosts that share a folder but perhaps not its locks, as some network file systems have it.

    Beside the lock stands `<path>.claim`, which names its holder and is touched every BEAT_SECONDS. One of this very
    host is worth nothing without the lock. One of another host holds until CLAIM_SECONDS passed without a touch, by the
    clock of the file server. stop and waiting as in `locked`.
    """
    claim, told = path.with_name(f"{path.name}.claim"), False
    holder = f"{_host()} {uuid.uuid4().hex}"
    with locked(path, stop=stop, waiting=waiting):
        while not _take(claim, holder):
            if stop():
                raise Stopped
            if not told:
                waiting()
            told = True
            time.sleep(1)
        over = threading.Event()
        threading.Thread(target=_touch, args=(claim, over), daemon=True).start()
        try:
            yield
        finally:
            over.set()
            if _text(claim) == holder:
                claim.unlink(missing_ok=True)


def _host() -> str:
    """This host until it starts again. Containers of one machine have names of their own, and may share no locks."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{platform.node()} {boot.read_text().strip() if boot.is_file() else ''}"


def _take(claim: Path, holder: str) -> bool:
    """Whether the claim is ours now. Only one host can make the file, and only one can move away what is abandoned."""
    seen = _text(claim)
    if seen is not None:
        if not _abandoned(claim, seen):
            return False
        grave = _beside(claim)
        try:
            os.rename(claim, grave)
        except FileNotFoundError:
            return False
        if _text(grave) != seen:  # another host was faster: this is its claim
            os.rename(grave, claim)
            return False
        grave.unlink(missing_ok=True)
    try:
        with open(claim, "x", encoding="utf-8") as file:
            file.write(holder)
    except FileExistsError:
        return False
    return True


def _abandoned(claim: Path, holder: str) -> bool:
    if holder.rpartition(" ")[0] == _host():
        return True  # we have the lock, so whoever wrote this is gone
    now = _beside(claim)
    try:
        now.touch()
        return now.stat().st_mtime - claim.stat().st_mtime > CLAIM_SECONDS
    except FileNotFoundError:
        return False
    finally:
        now.unlink(missing_ok=True)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _touch(claim: Path, over: threading.Event) -> None:
    while not over.wait(BEAT_SECONDS):
        with suppress(OSError):  # the disk says so to whoever writes the run
            os.utime(claim)


def write_sealed(path: Path, data: bytes) -> None:
    """Write a file whole, its sha256 in the SEAL bytes ahead of its content. Raises as `replace_file`."""
    replace_file(path, sha256(data).encode() + data)


def read_sealed(path: Path) -> bytes | None:
    """The content that `write_sealed` wrote, or None if the file is not there or damaged."""
    raw = read_bytes(path) if path.is_file() else b""
    return raw[SEAL:] if sha256(raw[SEAL:]).encode() == raw[:SEAL] else None


def sha256(data: bytes) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_of(path: Path) -> str:
    """The sha256 of a file, read piece by piece."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sums(folder: Path) -> dict[str, str]:
    """{name: sha256} of the folder's SHA256SUMS, which `sha256sum -c` reads as well; {} where there is none."""
    path = folder / SUMS
    lines = read_bytes(path).decode("utf-8", "replace").splitlines() if path.is_file() else []
    if bad := [line for line in lines if not re.fullmatch(r"[0-9a-f]{64}  .+", line)]:
        raise StoreError(f"{path}: the line {bad[0][:80]!r} is no sha256 and name. Restore it from the repository.")
    return {line[66:]: line[:64] for line in lines}


def write_sum(path: Path) -> None:
    """Note a finished file's sha256 in SHA256SUMS beside it."""
    found = sums(path.parent) | {path.name: sha256_of(path)}
    replace_file(path.parent / SUMS, "".join(f"{found[name]}  {name}\n" for name in sorted(found)).encode())


def read_verified(path: Path, *, known: Iterable[Path] = ()) -> bytes:
    """The bytes of a file that SHA256SUMS beside it lists; where there is no such list, one of the folders `known`.

    Raises StoreError for other bytes, and for a file that no list has: nobody could tell whether it is whole.
    """
    data = read_bytes(path)
    folders = [path.parent] if (path.parent / SUMS).is_file() else known
    listed = {found[path.name] for folder in folders if path.name in (found := sums(folder))}
    if sha256(data) not in listed:
        why = "is not what was written: its sha256 is another" if listed else f"is in no {SUMS}"
        raise StoreError(f"{path} {why}. Restore both from the repository.")
    return data


def to_json(value: Any) -> bytes:
    """The same value gives the same bytes."""
    return json.dumps(value, indent=1, sort_keys=True).encode()
