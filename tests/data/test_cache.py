"""What is prepared once: read back as it was, made anew when damaged, never in the way where nothing can be written."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from kdlib import files
from kdlib.data import cache

ARRAYS = {
    "x": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "group:a/b": np.array(["é", "no"]),
    "none": np.zeros(0),
    "one": np.array("é"),
}


class Maker:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return dict(ARRAYS)


def same(arrays):
    return list(arrays) == list(ARRAYS) and all(
        (arrays[k] == v).all() and arrays[k].dtype == v.dtype and arrays[k].shape == v.shape for k, v in ARRAYS.items()
    )


def home(folder):
    (found,) = (folder / ".kdlib").iterdir()
    return found


def test_made_once_and_read_back(tmp_path):
    make = Maker()
    assert same(cache.prepared(tmp_path, {"version": 1, "part": "train"}, make))
    assert same(cache.prepared(tmp_path, {"part": "train", "version": 1}, make)) and make.calls == 1
    assert same(cache.prepared(tmp_path, {"version": 2, "part": "train"}, make)) and make.calls == 2


def test_a_change_to_an_array_stays_in_memory(tmp_path):
    make = Maker()
    cache.prepared(tmp_path, {}, make)["x"][:] = 7
    assert same(cache.prepared(tmp_path, {}, make)) and make.calls == 1


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda at: flip(at / "0.npy"),
        lambda at: (at / "0.npy").write_bytes((at / "0.npy").read_bytes()[:-5]),
        lambda at: (at / "0.npy").write_bytes(b""),
        lambda at: (at / "1.npy").unlink(),
        lambda at: (at / cache.LIST).unlink(),
        lambda at: (at / cache.LIST).write_bytes(b"\xff\xfe garbage"),
        lambda at: (at / cache.LIST).write_text(json.dumps({"x": 1})),
        lambda at: (at / cache.LIST).write_text("5"),
        lambda at: (at / cache.LIST).write_bytes(b""),
        lambda at: (at / cache.LIST).write_text("[[1, 2]]"),
        lambda at: (at / cache.LIST).write_text(files.sha256(b"null") + "\nnull"),
        lambda at: flip(at / cache.LIST),
        lambda at: (at / cache.LIST).write_bytes((at / cache.LIST).read_bytes().replace(b'"x"', b'"z"')),
        lambda at: (at / cache.LIST).write_bytes((at / cache.LIST).read_bytes().partition(b"\n")[2]),
    ],
)
def test_a_damaged_cache_is_made_anew(tmp_path, damage):
    make = Maker()
    cache.prepared(tmp_path, {}, make)
    damage(home(tmp_path))
    assert same(cache.prepared(tmp_path, {}, make)) and make.calls == 2
    assert same(cache.prepared(tmp_path, {}, make)) and make.calls == 2


def test_where_nothing_can_be_written_the_arrays_are_returned(tmp_path):
    (tmp_path / ".kdlib").write_text("a file where the folder would be")
    make = Maker()
    assert same(cache.prepared(tmp_path, {}, make))
    assert same(cache.prepared(tmp_path, {}, make)) and make.calls == 2


def test_pickled_objects_are_not_written(tmp_path):
    made = cache.prepared(tmp_path, {}, lambda: {"x": np.array([{}], object)})
    assert made["x"].dtype == object and not list((tmp_path / ".kdlib").iterdir())


def test_two_at_once_both_get_it(tmp_path):
    together = Barrier(2)

    def make():
        together.wait()
        return dict(ARRAYS)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: cache.prepared(tmp_path, {}, make), range(2)))
    assert all(same(arrays) for arrays in results)
    assert sorted(p.name for p in home(tmp_path).iterdir()) == ["0.npy", "1.npy", "2.npy", "3.npy", cache.LIST]


def test_an_error_while_making_is_raised_and_leaves_nothing(tmp_path):
    def fail():
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        cache.prepared(tmp_path, {}, fail)
    assert not (tmp_path / ".kdlib").exists()


def test_a_file_that_changes_has_another_stamp(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"123")
    first = cache.stamps([path])
    assert first[0][:2] == [f"{tmp_path.parent.name}/{tmp_path.name}/a.bin", 3] and cache.stamps([path]) == first
    os.utime(path, ns=(0, first[0][2] + 1))
    assert cache.stamps([path]) != first
