"""`kdlib fetch DATASET`: a data set from its official home, checked against published checksums.

sources.yaml says which files those are. A file comes to `<file>.part` beside its place, however often the connection
breaks, goes on from there after an interruption, and gets its name when its sha256 is right. Archives are kept: with
them what was unpacked is checked, and repaired, without a network.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from tqdm import tqdm

from kdlib import data, files, places
from kdlib.catalogue import DATASETS
from kdlib.data import PUBLISHED, celeba, damaged
from kdlib.errors import DataError, caution, require_known

CHUNK = 2**18
TIMEOUT = 30  # seconds without a byte
TRIES = 4  # in a row that bring nothing
PAUSE = 1.0  # seconds before the second try of a connection, doubled each time

Say = Callable[[str], None]  # called with lines for people


@dataclass(frozen=True)
class Source:
    """One file of a data set: where it is from, its bytes and sha256, and the folder in it if it is an archive."""

    url: str
    size: int
    sha256: str
    folder: str = ""

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


SOURCES = {name: [Source(**file) for file in found] for name, found in PUBLISHED["files"].items()}


def fetch(name: str, /, *, root: str | Path | None = None, say: Say = lambda line: None) -> bool:
    """Make a data set complete in `places.data_dir(root)`, and say what was done or what is left for you to do.

    What is there already is checked; a file that is not the published one is replaced, and kept as `<file>.old`.
    celeba64 is made from CelebA's aligned images. Returns whether the data set is ready.
    Raises InvalidInput for an unknown name; DataError where a file cannot be had: it names the address, where to put
    the file by hand, and what to do then; StoreError where the folder cannot be written. Started again, it goes on from
    what has come.
    """
    require_known("data set", name, DATASETS)
    folder = places.data_dir(root) / name
    if name in PUBLISHED["nothing"]:
        say(PUBLISHED["nothing"][name].format(folder=folder))
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


def verify(name: str, folder: Path, paths: list[Path]) -> None:
    """Compare the official files that a part is read from with what is published; loaders do so before they prepare it.

    Raises DataError for a file that is another one. Warns where none can say: the archive that it is from is kept by
    `fetch`, and is not there.
    """
    for source in SOURCES[name]:
        path, wrong = folder / source.name, None
        if not source.folder:
            known = (source.sha256, *PUBLISHED["copies"].get(name, ()))
            wrong = path if path in paths and files.sha256_of(path) not in known else None
        elif is_published(path, source):
            wrong = next((one for one in _altered(path, source.folder) if one.is_file()), None)
        else:
            what = f"{paths[0]} cannot be compared with the published file: {path}, which it is from, is not there"
            caution(f"{what}. `kdlib fetch {name}` gets it and compares.", stacklevel=2)
        if wrong:
            raise damaged(f"{wrong} is not the published file", name)


def _there_by_hand(name: str, folder: Path, root: str | Path | None, say: Say) -> bool:
    try:
        for part in DATASETS[name].parts:
            data.load(name, part, root=root)
    except DataError as error:
        say(f"{PUBLISHED['by_hand'][name].format(folder=folder)}\nAt present: {error}")
        return False
    say(f"{name} is there: {folder}")
    return True


def _make_celeba64(folder: Path, say: Say) -> bool:
    """`celeba64.npz` from the aligned images, unless it is there. Says what a study's options have to be for it."""
    from kdlib.data import faces, vision

    lists, target = celeba.read_attributes(folder), folder / faces.FACES64
    if not target.exists():
        with files.writing(target):
            faces.make_celeba64(folder / faces.ALIGNED, target)
    numbers = vision.read_npz(target, ["image_id"], dataset="celeba64")["image_id"]
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
        with files.writing(path):
            _put(part, path)
    if source.folder and any(_altered(path, source.folder)):
        say(f"unpacking {path}")
        _unpack(path, source.folder)


def _is_right(source: Source, folder: Path) -> bool:
    path = folder / source.name
    return is_published(path, source) and not (source.folder and any(_altered(path, source.folder)))


def _put(new: Path, path: Path) -> None:
    """Give `new` its name; what had it becomes `<name>.old`."""
    if path.exists():
        old = path.with_name(f"{path.name}.old")
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        os.replace(path, old)
    os.replace(new, path)


# ------------------------------------------------------------------------ one file, however often the connection breaks


def is_published(path: Path, source: Source) -> bool:
    return path.is_file() and path.stat().st_size == source.size and files.sha256_of(path) == source.sha256


class _Lost(Exception):
    """No connection, or one that broke: worth another try."""


class _Refused(Exception):
    """An answer that another try will not change."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to anything less."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and (scheme != "http" or urlsplit(req.full_url).scheme == "https"):
            raise _Refused(f"the server sends on to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(source: Source, path: Path, *, command: str, say: Say, again: bool = True) -> Path:
    """The whole and right file, still under the name `<path>.part`."""
    part, tries = path.with_name(f"{path.name}.part"), 0
    remedy = f"Put it at {path} by hand, or try later; then `{command}` goes on and checks it."
    resumed = _size(part) > 0
    with tqdm(total=source.size, desc=path.name, unit="B", unit_scale=True, mininterval=1, disable=None) as bar:
        while (before := _size(part)) < source.size:
            resumed = resumed or before > 0
            try:
                _receive(source, part, bar)
            except (_Lost, _Refused) as error:
                tries = 1 if _size(part) > before else tries + 1
                if tries == TRIES or isinstance(error, _Refused):
                    raise DataError(f"{source.url}: {error}. {remedy}") from error
                wait = PAUSE * 2 ** (tries - 1)
                say(f"{path.name}: {error}; trying again in {wait:g} s")
                time.sleep(wait)
    if is_published(part, source):
        return part
    found = files.sha256_of(part)
    part.unlink()
    if resumed and again:  # halves of two different files
        say(f"{path.name}: what was there of it is of another file; from the start")
        return download(source, path, command=command, say=say, again=False)
    what = f"what came is not the published file: sha256 {found}, not {source.sha256}. It is removed"
    raise DataError(f"{source.url}: {what}. {remedy}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(source: Source, part: Path, bar: tqdm) -> None:
    """Add to the part what one connection brings. Raises _Lost unless the part then has the file's size."""
    chunks = _chunks(source, _size(part))
    bar.n = start = next(chunks)
    with files.writing(part), open(part, "ab" if start else "wb") as out:
        for chunk in chunks:
            out.write(chunk)
            bar.update(len(chunk))
    if (came := _size(part)) < source.size:
        raise _Lost(f"the connection broke after {came:,} of {source.size:,} bytes")


def _chunks(source: Source, start: int) -> Iterator[Any]:
    """Where in the file the answer begins, then its bytes. Raises _Lost or _Refused for what is wrong with either."""
    headers = {"User-Agent": "kdlib"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(source.url, headers=headers)
    try:
        with urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT) as response:
            place = _first_byte(source, response, start)
            yield place
            while place < source.size and (chunk := response.read(min(CHUNK, source.size - place))):
                place += len(chunk)
                yield chunk
    except urllib.error.HTTPError as error:
        error.close()
        temporary = error.code in (408, 429) or error.code >= 500
        raise (_Lost if temporary else _Refused)(f"the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Lost(f"no connection ({getattr(error, 'reason', error)})") from error


def _first_byte(source: Source, response: http.client.HTTPResponse, start: int) -> int:
    """Where in the file the answer begins. Raises _Refused for an answer that is not the file."""
    if response.headers.get_content_type() == "text/html":
        raise _Refused("the server answers with a web page, not the file; a network that asks you to log in does that")
    length, first = response.headers.get("Content-Length"), 0
    if response.status == 206:
        range_ = re.match(r"bytes (\d+)-\d+/(\d+)?", response.headers.get("Content-Range", ""))
        first, length = range_.groups() if range_ else (-1, None)
        if int(first) != start:
            raise _Refused("the server answers with another part of the file than was asked for")
    if length is not None and int(length) != source.size:
        raise _Refused(f"the server's file has {int(length):,} bytes, the published one {source.size:,}")
    return int(first)


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


def _altered(archive: Path, folder: str) -> Iterator[Path]:
    """The files of an archive's folder that are not beside it with the same content: where they are, or belong."""
    for name, content in _members(archive, folder):
        path = archive.parent / name
        with content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if not path.is_file() or files.sha256_of(path) != digest:
            yield path


def _unpack(archive: Path, folder: str) -> None:
    """Unpack to a hidden folder; the archive's own folder appears when it is whole."""
    home = archive.parent
    for left in home.glob(".unpacking-*"):  # of a process that died
        shutil.rmtree(left, ignore_errors=True)
    with files.writing(home / folder), files.folder_beside(home / "unpacking") as fresh:
        for name, content in tqdm(_members(archive, folder), desc=folder, unit="file", mininterval=1, disable=None):
            target = fresh / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, open(target, "wb") as out:
                shutil.copyfileobj(content, out)
        _put(fresh / folder, home / folder)
