"""Data sets from a server that breaks off, lies, redirects or is not there: what arrives is right or has no name."""

import gzip
import hashlib
import http.server
import io
import os
import re
import resource
import socket
import stat
import tarfile
import threading
import zipfile
from urllib.request import Request

import numpy as np
import pytest

from kdlib import data
from kdlib.catalogue import DATASETS
from kdlib.data import PUBLISHED, fetch, text, vision
from kdlib.data.fetch import Source
from kdlib.errors import DataError, InvalidInput, KdlibWarning, StoreError

CONTENT = np.random.default_rng(0).bytes(600_000)
OTHER = np.random.default_rng(1).bytes(600_000)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the server's file, unless its script has something else for this request."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        answer = self.server.script.pop(0) if self.server.script else whole
        answer(self, self.server.files.get(self.path))

    def log_message(self, *args):
        pass


def reply(handler, status, body, *, length=None, kind="application/octet-stream", **headers):
    handler.send_response(status)
    for name, value in {"Content-Type": kind, "Content-Length": str(length or len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def whole(handler, content):
    if content is None:
        return handler.send_error(404)
    start = int(re.match(r"bytes=(\d+)-", handler.headers.get("Range", "bytes=0-"))[1])
    if start:
        range_ = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return reply(handler, 206, content[start:], Content_Range=range_)
    return reply(handler, 200, content)


def without_ranges(handler, content):
    reply(handler, 200, content)


def cut(at):
    return lambda handler, content: reply(handler, 200, content[:at], length=len(content))


def status(code):
    return lambda handler, content: handler.send_error(code)


def page(handler, content):
    reply(handler, 200, b"<html>Please log in</html>", kind="text/html; charset=utf-8")


def redirect(to):
    return lambda handler, content: reply(handler, 302, b"", Location=to)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.script, server.asked = {}, [], []
    server.handle_error = lambda *args: None  # a client that has seen enough hangs up
    server.home = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def get(server, tmp_path, monkeypatch):
    """get(): fetch a data set of one file, whose published content is CONTENT. get.said, get.path, get.part."""
    monkeypatch.setattr(fetch, "PAUSE", 0.001)

    def run(*, home=server.home, say=None):
        source = Source(f"{home}/dataset.json", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
        monkeypatch.setitem(fetch.SOURCES, "hatexplain", [source])
        return fetch.fetch("hatexplain", root=tmp_path, say=say or run.said.append)

    run.said, run.path = [], tmp_path / "hatexplain/dataset.json"
    run.part = tmp_path / "hatexplain/dataset.json.part"
    server.files["/dataset.json"] = CONTENT
    return run


def ranges(server):
    return [range_ for _, range_ in server.asked]


# -------------------------------------------------------------------------------------------------------------- network


def test_a_file_arrives_whole_and_is_not_asked_for_twice(get, server):
    assert get() and get.path.read_bytes() == CONTENT and not get.part.exists()
    assert get() and ranges(server) == [None]
    assert get.said == [f"hatexplain is complete and right: {get.path.parent}"] * 2


def test_a_broken_connection_goes_on_where_it_broke(get, server):
    server.script = [cut(100_000)]
    assert get() and get.path.read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=100000-"]
    assert get.said[0].startswith("dataset.json: the connection broke after 100,000 of 600,000 bytes; trying again")


def test_connections_that_bring_something_may_break_as_often_as_they_like(get, server):
    steps = range(100_000, 600_000, 100_000)

    def bring(handler, content):
        start = int(handler.headers["Range"][6:-1])
        range_ = f"bytes {start}-599999/600000"
        body = content[start : start + 100_000]
        reply(handler, 206, body, length=len(content) - start, Content_Range=range_)

    server.script = [cut(100_000), *[bring] * 5]
    assert get() and ranges(server) == [None, *[f"bytes={n}-" for n in steps]]


def test_an_interrupted_download_goes_on_at_the_next_start(get, server, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    server.script = [cut(100_000)]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fetch.time, "sleep", interrupt)
        get()
    assert get.part.read_bytes() == CONTENT[:100_000] and not get.path.exists()
    assert get() and get.path.read_bytes() == CONTENT and ranges(server)[1:] == ["bytes=100000-"]


def test_a_server_without_ranges_starts_from_the_first_byte(get, server):
    server.script = [cut(100_000), without_ranges]
    assert get() and get.path.read_bytes() == CONTENT and len(server.asked) == 2


def test_halves_of_two_files_are_not_glued_together(get, server):
    get.part.parent.mkdir()
    get.part.write_bytes(OTHER[:100_000])
    assert get() and get.path.read_bytes() == CONTENT
    assert ranges(server) == ["bytes=100000-", None] and "of another file; from the start" in get.said[0]


@pytest.mark.parametrize("there", [CONTENT, CONTENT + b"more", OTHER])
def test_a_part_that_is_as_long_as_the_file_or_longer(get, server, there):
    """One that is whole needs no server; another starts anew."""
    get.part.parent.mkdir()
    get.part.write_bytes(there)
    assert get() and get.path.read_bytes() == CONTENT
    assert len(server.asked) == (there != CONTENT)


def test_corrupted_content_gets_no_name(get, server):
    server.files["/dataset.json"] = OTHER
    with pytest.raises(DataError, match=hashlib.sha256(OTHER).hexdigest()):
        get()
    assert not get.path.exists() and not get.part.exists()


@pytest.mark.parametrize("code", [404, 403])
def test_a_file_that_is_gone_is_not_asked_for_again(get, server, code):
    server.script = [status(code)]
    with pytest.raises(DataError) as caught:
        get()
    message = str(caught.value)
    assert f"{server.home}/dataset.json: the server answers {code}" in message and len(server.asked) == 1
    assert f"Put it at {get.path} by hand, or try later; then `kdlib fetch hatexplain --root " in message


def test_a_busy_server_is_asked_again(get, server):
    server.script = [status(503), status(429)]
    assert get() and len(server.asked) == 3 and "the server answers 503" in get.said[0]


def test_a_server_that_stays_broken_is_given_up(get, server):
    server.script = [status(500)] * 9
    with pytest.raises(DataError, match="500"):
        get()
    assert len(server.asked) == fetch.TRIES
    assert [line[-7:] for line in get.said] == ["0.001 s", "0.002 s", "0.004 s"]


def test_redirects_are_followed_with_the_range(get, server):
    server.files["/moved"] = CONTENT
    server.script = [cut(100_000), redirect("/moved")]
    assert get() and get.path.read_bytes() == CONTENT
    assert server.asked[1:] == [("/dataset.json", "bytes=100000-"), ("/moved", "bytes=100000-")]


@pytest.mark.parametrize(
    ("old", "new", "allowed"),
    [
        ("https://a.org/x", "http://a.org/x", False),
        ("https://a.org/x", "ftp://a.org/x", False),
        ("http://a.org/x", "ftp://a.org/x", False),
        ("https://a.org/x", "https://b.org/x", True),
        ("http://a.org/x", "https://a.org/x", True),
        ("http://a.org/x", "http://b.org/x", True),
    ],
)
def test_no_redirect_leaves_https(old, new, allowed):
    follow = fetch._Redirects().redirect_request
    if allowed:
        assert follow(Request(old), None, 302, "Found", {}, new).full_url == new
    else:
        with pytest.raises(fetch._Refused, match=new):
            follow(Request(old), None, 302, "Found", {}, new)


def test_an_unsafe_redirect_is_an_error_with_a_remedy(get, server):
    server.script = [redirect("ftp://127.0.0.1/dataset.json")]
    with pytest.raises(DataError, match="ftp://127.0.0.1/dataset.json"):
        get()


def test_a_web_page_is_not_the_file_and_leaves_what_was_there(get, server):
    server.script = [cut(100_000), page]
    with pytest.raises(DataError, match="dataset.json"):
        get()
    assert get.part.read_bytes() == CONTENT[:100_000] and not get.path.exists()


@pytest.mark.parametrize("length", [599_999, 600_001])
def test_a_file_of_another_length_is_refused_before_it_is_read(get, server, length):
    server.files["/dataset.json"] = (CONTENT + b"x")[:length]
    with pytest.raises(DataError, match=f"{length:,}"):
        get()
    assert not get.part.exists()


def test_another_part_than_was_asked_for_is_refused(get, server):
    server.script = [cut(100_000), lambda h, c: reply(h, 206, c[5:], Content_Range="bytes 5-599999/600000")]
    with pytest.raises(DataError, match="dataset.json"):
        get()
    assert get.part.read_bytes() == CONTENT[:100_000]


def test_without_a_network_the_error_says_what_to_do_by_hand(get, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        home = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(DataError) as caught:
            get(home=home)
    message = str(caught.value)
    assert f"{home}/dataset.json: no connection" in message
    assert f"Put it at {get.path} by hand" in message and f"`kdlib fetch hatexplain --root {tmp_path}`" in message
    get.path.write_bytes(CONTENT)
    assert get(home=home)


# ------------------------------------------------------------------------------------------------------------- the disk


def test_a_damaged_file_is_replaced_and_kept_beside(get, server):
    get.path.parent.mkdir()
    get.path.write_bytes(OTHER)
    server.script = [status(404)]
    with pytest.raises(DataError):
        get()
    assert get.path.read_bytes() == OTHER
    assert get() and get.path.read_bytes() == CONTENT
    assert get.path.with_name("dataset.json.old").read_bytes() == OTHER
    assert get.said[0] == f"{get.path} is not the published file."


def test_a_full_disk_is_named_and_what_came_stays(get, server):
    """The limit on a file's size does what a full disk does: the last write is cut short, the next one fails."""
    room = 300_001
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(StoreError, match="dataset.json.part"):
            get()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert get.part.read_bytes() == CONTENT[:room]
    assert get() and get.path.read_bytes() == CONTENT and ranges(server) == [None, f"bytes={room}-"]


def test_a_folder_that_cannot_be_made_is_named(get, server):
    get.path.parent.write_text("a file, where the folder should be")
    with pytest.raises(StoreError, match="hatexplain"):
        get()
    assert not server.asked


def test_two_at_once_download_once(get, server):
    waiting = threading.Event()

    def slow(handler, content):
        assert waiting.wait(10)
        whole(handler, content)

    def say(line):
        if "another process is at work" in line:
            waiting.set()

    server.script = [slow]
    ready = []
    threads = [threading.Thread(target=lambda: ready.append(get(say=say))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ready == [True, True] and len(server.asked) == 1 and get.path.read_bytes() == CONTENT


# ------------------------------------------------------------------------------------------------------------- archives


def packed(kind, members):
    """A tar.gz or zip of {name: content}; a content that is a str is the target of a symbolic link."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in members.items():
                info = zipfile.ZipInfo(name)
                info.external_attr = ((stat.S_IFLNK if isinstance(content, str) else stat.S_IFREG) | 0o644) << 16
                archive.writestr(info, content)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)  # the same bytes whenever it is made


@pytest.fixture
def get_archive(server, tmp_path, monkeypatch):
    """get_archive(kind, members): fetch a data set that is an archive of those members, of which `top/` is unpacked."""

    def run(kind, members):
        content = packed(kind, members)
        server.files[f"/a.{kind}"] = content
        source = Source(f"{server.home}/a.{kind}", len(content), hashlib.sha256(content).hexdigest(), "top")
        monkeypatch.setitem(fetch.SOURCES, "svhn", [source])
        return fetch.fetch("svhn", root=tmp_path)

    run.home = tmp_path / "svhn"
    return run


MEMBERS = {"top/a.txt": b"alpha", "top/in/b.bin": CONTENT, "beside.txt": b"not wanted"}


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archive_is_unpacked_kept_and_found_again(get_archive, server, kind):
    assert get_archive(kind, MEMBERS) and get_archive(kind, MEMBERS) and len(server.asked) == 1
    names = {str(p.relative_to(get_archive.home)) for p in get_archive.home.rglob("*") if p.is_file()}
    assert names - {".fetch.lock"} == {f"a.{kind}", "top/a.txt", "top/in/b.bin"}
    assert (get_archive.home / "top/in/b.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
@pytest.mark.parametrize("damage", ["changed", "short", "missing", "half unpacked"])
def test_what_was_unpacked_is_repaired_without_a_network(get_archive, server, kind, damage):
    get_archive(kind, MEMBERS)
    path = get_archive.home / "top/in/b.bin"
    if damage == "half unpacked":  # and killed: nothing has its name yet
        (get_archive.home / "top").rename(get_archive.home / ".unpacking-dead")
    else:
        path.unlink() if damage == "missing" else path.write_bytes(OTHER if damage == "changed" else CONTENT[:-1])
    assert get_archive(kind, MEMBERS) and path.read_bytes() == CONTENT and len(server.asked) == 1
    assert not list(get_archive.home.glob(".unpacking-*"))
    assert (get_archive.home / "top.old").exists() == (damage != "half unpacked")


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("../escaped.txt", b"x"),
        ("top/../../escaped.txt", b"x"),
        ("/tmp/kdlib-escaped.txt", b"x"),
        ("top\\..\\escaped.txt", b"x"),
        ("C:/escaped.txt", b"x"),
        ("top/link", "/etc"),
        ("top/link", "../.."),
    ],
)
def test_an_archive_that_leads_out_of_its_folder_is_refused(get_archive, tmp_path, kind, name, content):
    with pytest.raises(DataError, match=re.escape(repr(name))):
        get_archive(kind, {"top/a.txt": b"alpha", name: content})
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")}
    assert left == {"svhn", "svhn/.fetch.lock", f"svhn/a.{kind}"}


# ------------------------------------------------------------------------------------------------------------ data sets


def test_every_data_set_is_fetched_made_or_explained():
    kinds = [set(fetch.SOURCES), set(PUBLISHED["by_hand"]), set(PUBLISHED["nothing"]), {"celeba64"}]
    assert set().union(*kinds) == set(DATASETS) and sum(map(len, kinds)) == len(DATASETS)
    with pytest.raises(InvalidInput, match="'cifar'"):
        fetch.fetch("cifar")


def test_files_get_the_names_that_the_loaders_look_for():
    for name in ("cifar10", "cifar100"):
        (source,) = fetch.SOURCES[name]
        assert all(file.startswith(f"{source.folder}/") for part in ("train", "test") for file in _cifar(name, part))
    assert [source.name for source in fetch.SOURCES["hatexplain"]] == list(text.FILES)
    for sources in fetch.SOURCES.values():
        for source in sources:
            assert re.fullmatch(r"https?://[^?]+/[\w.-]+", source.url) and re.fullmatch("[0-9a-f]{64}", source.sha256)


def _cifar(name, part):
    return PUBLISHED["members"][name][part]


def test_a_fetched_data_set_loads(server, tmp_path, monkeypatch):
    """CIFAR-100's official format with 2 training images and 1 test image: coarse label, fine label, pixels."""
    monkeypatch.setitem(vision.IMAGES, "cifar100", {"train": 2, "test": 1})
    rows = [bytes([0, label]) + bytes([10 * label]) * 3072 for label in (3, 5, 7)]
    members = {"cifar-100-binary/train.bin": rows[0] + rows[1], "cifar-100-binary/test.bin": rows[2]}
    server.files["/c.tar.gz"] = content = packed("tar.gz", members)
    source = Source(f"{server.home}/c.tar.gz", len(content), hashlib.sha256(content).hexdigest(), "cifar-100-binary")
    monkeypatch.setitem(fetch.SOURCES, "cifar100", [source])
    assert fetch.fetch("cifar100", root=tmp_path)
    train, test = (data.load("cifar100", part, root=tmp_path) for part in ("train", "test"))
    assert sorted(train.y) == [3, 5] and list(test.y) == [7] and (test.x == 70).all()


@pytest.mark.parametrize("name", ["train.bin", "test.bin"])
def test_unpacked_files_are_verified_when_they_are_loaded(server, tmp_path, monkeypatch, name):
    monkeypatch.setitem(vision.IMAGES, "cifar100", {"train": 2, "test": 2})
    members = {f"cifar-100-binary/{n}.bin": bytes([0, i, *[i] * 3072] * 2) for i, n in enumerate(["train", "test"])}
    server.files["/c.tar.gz"] = content = packed("tar.gz", members)
    source = Source(f"{server.home}/c.tar.gz", len(content), hashlib.sha256(content).hexdigest(), "cifar-100-binary")
    monkeypatch.setitem(fetch.SOURCES, "cifar100", [source])
    fetch.fetch("cifar100", root=tmp_path)
    part, path = name.removesuffix(".bin"), tmp_path / "cifar100/cifar-100-binary" / name
    right = data.load("cifar100", part, root=tmp_path).data_sha256
    path.write_bytes(b"\x00\x05" + path.read_bytes()[2:])
    with pytest.raises(DataError, match=name):
        data.load("cifar100", part, root=tmp_path)
    fetch.fetch("cifar100", root=tmp_path)
    assert data.load("cifar100", part, root=tmp_path).data_sha256 == right
    (tmp_path / "cifar100/c.tar.gz").unlink()
    os.utime(path, ns=(0, 0))
    with pytest.warns(KdlibWarning, match=name):
        data.load("cifar100", part, root=tmp_path)


def test_a_file_that_is_none_of_an_archive_is_verified_too(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in ("train.mat", "test.mat")]
    for path in paths:
        path.write_bytes(path.name.encode())
    sources = [Source(f"http://h/{p.name}", 9, hashlib.sha256(p.name.encode()).hexdigest()) for p in paths]
    monkeypatch.setitem(fetch.SOURCES, "svhn", sources)
    fetch.verify("svhn", tmp_path, paths)
    paths[1].write_bytes(b"Test.mat")
    fetch.verify("svhn", tmp_path, paths[:1])
    with pytest.raises(DataError, match="test.mat"):
        fetch.verify("svhn", tmp_path, paths)
    known = hashlib.sha256(b"Test.mat").hexdigest()
    monkeypatch.setitem(PUBLISHED["copies"], "svhn", [known])
    fetch.verify("svhn", tmp_path, paths)


@pytest.mark.parametrize("name", ["svhn", "hatexplain", "tiny_imagenet", "cifar10"])
def test_every_loader_of_official_files_has_them_verified(name, tmp_path, monkeypatch):
    """Each asks before it reads what it prepares."""

    class Asked(Exception):
        pass

    def ask(dataset, folder, paths):
        raise Asked(dataset, folder, all(path.exists() for path in paths))

    monkeypatch.setattr(fetch, "verify", ask)
    folder = tmp_path / name
    files_ = {"svhn": ["test_32x32.mat"], "hatexplain": text.FILES, "cifar10": PUBLISHED["members"]["cifar10"]["test"]}
    lists = [
        f"tiny-imagenet-200/{n}"
        for n in ("wnids.txt", "words.txt", "val/val_annotations.txt", "train/x", "val/images/x")
    ]
    for file in files_.get(name, lists):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"{}")
    with pytest.raises(Asked) as asked:
        data.load(name, "test", root=tmp_path, **({"tokenizer": "learnt"} if name == "hatexplain" else {}))
    assert asked.value.args == (name, folder, True)


@pytest.mark.parametrize("name", ["digits", "trifeature", "trifeature-biased", "own"])
def test_some_data_sets_need_no_download(name, tmp_path):
    said = []
    assert fetch.fetch(name, root=tmp_path, say=said.append) and name in said[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "file"), [("celeba", "img_align_celeba/"), ("imagenet", "train/n01440764/")])
def test_what_may_not_be_fetched_is_explained(name, file, tmp_path):
    said = []
    assert not fetch.fetch(name, root=tmp_path, say=said.append)
    assert "non-commercial research" in said[0] and f"Put there, in {tmp_path / name}:" in said[0] and file in said[0]
    assert "At present: " in said[0]


def test_what_was_put_there_by_hand_is_found(tmp_path):
    said = []
    assert not fetch.fetch("utkface", root=tmp_path, say=said.append) and "utkface64.npz" in said[0]
    (tmp_path / "utkface").mkdir()
    x = np.random.default_rng(0).integers(256, size=(20, 64, 64, 3), dtype=np.uint8)
    labels = {"age": np.arange(20) + 10, "gender": np.arange(20) % 2, "race": np.arange(20) % 5}
    np.savez(tmp_path / "utkface/utkface64.npz", x=x, **labels)
    assert fetch.fetch("utkface", root=tmp_path, say=said.append) and said[1].startswith("utkface is there")


@pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")
def test_celeba64_is_made_from_whatever_aligned_images_are_there(tmp_path):
    from PIL import Image

    folder, said = tmp_path / "celeba", []
    with pytest.raises(DataError, match="list_attr_celeba.txt"):
        fetch.fetch("celeba64", root=tmp_path)
    folder.mkdir()
    columns = ["Smiling", "Eyeglasses", "Young", "Male"]
    numbers = (1, 2, 162_771, 182_638)
    rows = "".join(f"{n:06d}.jpg  1 -1  1 -1\n" for n in numbers)
    (folder / "list_attr_celeba.txt").write_text(f"{len(numbers)}\n{' '.join(columns)} \n{rows}")
    parts = zip(numbers, (0, 0, 1, 2), strict=True)
    (folder / "list_eval_partition.txt").write_text("".join(f"{n:06d}.jpg {part}\n" for n, part in parts))
    with pytest.raises(DataError, match="img_align_celeba"):
        fetch.fetch("celeba64", root=tmp_path)
    (folder / "img_align_celeba").mkdir()
    for number in (1, 162_771, 182_638):
        Image.new("RGB", (178, 218), (number % 256, 0, 0)).save(folder / f"img_align_celeba/{number:06d}.jpg")
    for _ in range(2):
        assert fetch.fetch("celeba64", root=tmp_path, say=said.append)
    assert "data: {train_images: 1, validation_images: 1, test_images: 1}" in said[0] and said[0] == said[1]
    counts = {"train_images": 1, "validation_images": 1, "test_images": 1}
    assert list(data.load("celeba64", "test", root=tmp_path, **counts).ids) == ["celeba/182638.jpg"]
