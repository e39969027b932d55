"""A loaded part stands for its content: one hash that every change moves and nothing else does."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from kdlib import data
from kdlib.data.stream import Images

SPLIT = data.Split(
    np.array(["a", "b", "c"]),
    np.arange(36, dtype=np.uint8).reshape(3, 3, 2, 2),
    np.array([0, 1, 1]),
    {"size": np.array(["small", "large", "large"])},
    ("no", "yes"),
)
CHANGES = {
    "ids": np.array(["a", "b", "d"]),
    "x": np.arange(36, dtype=np.uint8).reshape(3, 3, 2, 2) ^ (np.arange(36) == 35).reshape(3, 3, 2, 2),
    "y": np.array([0, 1, 0]),
    "groups": {"size": np.array(["small", "large", "small"])},
    "class_names": ("yes", "no"),
}


def test_the_hash_is_the_contents_alone():
    wider = replace(SPLIT, ids=SPLIT.ids.astype("U9"), x=np.asfortranarray(SPLIT.x))
    assert len(SPLIT.data_sha256) == 64 and wider.data_sha256 == SPLIT.data_sha256


@pytest.mark.parametrize("field", CHANGES)
def test_every_change_of_the_content_changes_it(field):
    assert replace(SPLIT, **{field: CHANGES[field]}).data_sha256 != SPLIT.data_sha256


def test_images_that_are_streamed_count_by_their_files(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        Image.new("RGB", (4, 4 + i)).save(path)
    first = replace(SPLIT, x=Images(paths, 4)).data_sha256
    assert replace(SPLIT, x=Images(paths, 4)).data_sha256 == first
    paths[1].write_bytes(paths[1].read_bytes() + b" ")
    assert replace(SPLIT, x=Images(paths, 4)).data_sha256 != first


def test_the_data_of_two_seeds_differ_and_of_one_do_not():
    first, same, other = (data.load("digits", "train", seed=seed).data_sha256 for seed in (0, 0, 1))
    assert first == same != other
