"""One file from its official home, however often the connection breaks: `download`.

It comes to `<file>.part` beside its place, and goes on from there after an interruption. Whoever calls gives it its
name, once its sha256 is right.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from kdlib import files
from kdlib.errors import DataError

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


def is_published(path: Path, source: Source) -> bool:
    return path.is_file() and path.stat().st_size == source.size and files.sha256_of(path) == source.sha256


@contextmanager
def on_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error.strerror or error}. Make room or choose another folder with --root; what "
            f"has come stays, and the same command goes on from it."
        ) from error


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
            except _Refused as error:
                raise DataError(f"{source.url}: {error}. {remedy}") from error
            except _Lost as error:
                tries = 1 if _size(part) > before else tries + 1
                if tries == TRIES:
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
    raise DataError(
        f"{source.url}: what came is not the published file: sha256 {found}, not {source.sha256}. It is removed. "
        f"{remedy}"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(source: Source, part: Path, bar: tqdm) -> None:
    """Add to the part what one connection brings. Raises _Lost unless the part then has the file's size."""
    start = _size(part)
    with _answer(source, start) as response:
        start = _first_byte(source, response, start)
        bar.n = start
        # errors of the disk alone: `_read` makes its own of the network's
        with on_disk(part), open(part, "ab" if start else "wb") as out:
            while start < source.size and (chunk := _read(response, min(CHUNK, source.size - start))):
                out.write(chunk)
                start += len(chunk)
                bar.update(len(chunk))
    if start < source.size:
        raise _Lost(f"the connection broke after {start:,} of {source.size:,} bytes")


def _answer(source: Source, start: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": "kdlib"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        opener = urllib.request.build_opener(_Redirects)
        return opener.open(urllib.request.Request(source.url, headers=headers), timeout=TIMEOUT)
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


def _read(response: http.client.HTTPResponse, size: int) -> bytes:
    try:
        return response.read(size)
    except (OSError, http.client.HTTPException) as error:
        raise _Lost(f"the connection broke ({error})") from error
