"""`kdlib fetch DATASET`: a data set from its official home, checked against published checksums.

sources.yaml says which files those are. A file gets its name when its sha256 is right (`download`). Archives are kept:
with them what was unpacked is checked, and repaired, without a network.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import yaml
from tqdm import tqdm

from kdlib import files, places
from kdlib.catalogue import DATASETS
from kdlib.data import celeba
from kdlib.data.download import Say, Source, download, is_published, on_disk
from kdlib.errors import DataError, unknown

_KNOWN = yaml.safe_load(Path(__file__).with_name("sources.yaml").read_text(encoding="utf-8"))
SOURCES = {name: [Source(**file) for file in found] for name, found in _KNOWN["files"].items()}
BY_HAND, NOTHING = _KNOWN["by_hand"], _KNOWN["nothing"]


def fetch(name: str, /, *, root: str | Path | None = None, say: Say = lambda line: None) -> bool:
    """Make a data set complete in `places.data_dir(root)`, and say what was done or what is left for you to do.

    What is there already is checked; a file that is not the published one is replaced, and kept as `<file>.old`.
    celeba64 is made from CelebA's aligned images. Returns whether the data set is ready.
    Raises InvalidInput for an unknown name; DataError where a file cannot be had or written: it names the address,
    where to put the file by hand, and what to do then; StoreError where the folder cannot be written. Started again, it
    goes on from what has come.
    """
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    folder = places.data_dir(root) / name
    if name in NOTHING:
        say(NOTHING[name].format(folder=folder))
        return True
    if name == "celeba64":
        return _make_celeba64(places.data_dir(root) / celeba.FOLDER, say)
    if name not in SOURCES:
        return _there_by_hand(name, folder, root, say)
    if not all(_is_right(source, folder) for source in SOURCES[name]):
        command = f"kdlib fetch {name}" + (f" --root {root}" if root else "")
        wait = f"another process is at work in {folder}: waiting for it"
        with files.locked(folder / ".fetch.lock", waiting=lambda: say(wait)):
            for source in SOURCES[name]:
                _get(source, folder, command=command, say=say)
    say(f"{name} is complete and right: {folder}")
    return True


def _there_by_hand(name: str, folder: Path, root: str | Path | None, say: Say) -> bool:
    from kdlib import data

    try:
        for part in DATASETS[name].parts:
            data.load(name, part, root=root)
    except DataError as error:
        say(f"{BY_HAND[name].format(folder=folder, home=celeba.HOME)}\nAt present: {error}")
        return False
    say(f"{name} is there: {folder}")
    return True


def _make_celeba64(folder: Path, say: Say) -> bool:
    """`celeba64.npz` from the aligned images, unless it is there. Says what a study's options have to be for it."""
    from kdlib.data import faces, vision

    lists, target = celeba.read_attributes(folder), folder / faces.FACES64
    if not target.exists():
        with on_disk(target):
            faces.make_celeba64(folder / faces.ALIGNED, target)
    numbers = vision.read_npz(target, ["image_id"], remedy="Delete it, and start again.")["image_id"]
    found = lists["part"].reindex(numbers).value_counts()
    counts = ", ".join(f"{part}_images: {found.get(part, 0)}" for part in celeba.PARTS)
    say(f"celeba64 is there: {target}. In a profile: data: {{{counts}}}. To have it made again, delete it.")
    return True


def _get(source: Source, folder: Path, *, command: str, say: Say) -> None:
    path = folder / source.name
    if not is_published(path, source):
        if path.exists():
            say(f"{path} is not the published file.")
        part = download(source, path, command=command, say=say)
        with on_disk(path):
            _put(part, path)
    if source.folder and not _is_unpacked(path, source.folder):
        say(f"unpacking {path}")
        _unpack(path, source.folder)


def _is_right(source: Source, folder: Path) -> bool:
    path = folder / source.name
    return is_published(path, source) and (not source.folder or _is_unpacked(path, source.folder))


def _put(new: Path, path: Path) -> None:
    """Give `new` its name; what had it becomes `<name>.old`."""
    if path.exists():
        old = path.with_name(f"{path.name}.old")
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        os.replace(path, old)
    os.replace(new, path)


# ------------------------------------------------------------------------------------------------------------- archives


def _members(archive: Path, folder: str) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, content) of every file below `folder` in a zip or tar.

    Raises DataError where anything in it is a link, or has a name that leads elsewhere.
    """
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                is_link = stat.S_ISLNK(info.external_attr >> 16)
                if not info.is_dir() and _is_wanted(info.filename, folder, archive, is_file=not is_link):
                    yield info.filename, opened.open(info)
    else:
        with tarfile.open(archive) as opened:
            for info in opened:
                if not info.isdir() and _is_wanted(info.name, folder, archive, is_file=info.isfile()):
                    yield info.name, opened.extractfile(info)


def _is_wanted(name: str, folder: str, archive: Path, *, is_file: bool) -> bool:
    path = PurePosixPath(name)
    if not is_file or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        raise DataError(f"{archive} holds {name!r}, which is a link or leads out of its folder: nothing is unpacked.")
    return path.is_relative_to(folder)


def _is_unpacked(archive: Path, folder: str) -> bool:
    """Whether every file of the archive's folder is beside it with the same content."""
    home = archive.parent
    return (home / folder).is_dir() and all(_same(content, home / name) for name, content in _members(archive, folder))


def _same(content: IO[bytes], path: Path) -> bool:
    with content:
        return path.is_file() and hashlib.file_digest(content, "sha256").hexdigest() == files.sha256_of(path)


def _unpack(archive: Path, folder: str) -> None:
    """Unpack to a hidden folder; the archive's own folder appears when it is whole."""
    home = archive.parent
    for left in home.glob(".unpacking-*"):  # of a process that died
        shutil.rmtree(left, ignore_errors=True)
    with on_disk(home / folder), files.folder_beside(home / "unpacking") as fresh:
        for name, content in tqdm(_members(archive, folder), desc=folder, unit="file", mininterval=1, disable=None):
            target = fresh / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, open(target, "wb") as out:
                shutil.copyfileobj(content, out)
        _put(fresh / folder, home / folder)
