"""`data.load`: names, options, errors; and the one hash that stands for the content of what it gives."""

import inspect
from dataclasses import replace
from pkgutil import resolve_name

import numpy as np
import pytest
from PIL import Image

from kdlib import data, profiles
from kdlib.catalogue import DATASETS
from kdlib.data.stream import Images
from kdlib.errors import DataError, InvalidInput, ProfileError
from kdlib.studies import load_profile

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


@pytest.mark.parametrize(
    "options, told",
    [
        ({"train_images": 9}, "train_images.* 9"),
        ({"train_images": 1788}, "train_images.* 1788"),
        ({"train_images": 300.0}, "300.0"),
        ({"train_images": True}, "True"),
        ({"seed": -1}, "seed.* -1"),
        ({"train_image": 300}, "'train_image'"),
    ],
)
def test_bad_options_are_refused_and_named(options, told):
    with pytest.raises(InvalidInput, match=told):
        data.load("digits", "train", **options)


def test_a_profile_with_an_option_out_of_range_is_refused_before_anything_is_loaded(tiny_yaml):
    text = tiny_yaml.read_text(encoding="utf-8")
    tiny_yaml.write_text(text.replace("train_images: 100", "train_images: 1788"), encoding="utf-8")
    with pytest.raises(ProfileError, match="train_images.*1788"):
        load_profile(tiny_yaml)


def test_bad_names_are_refused_and_named():
    with pytest.raises(InvalidInput, match="'digit'"):
        data.load("digit", "train")
    with pytest.raises(InvalidInput, match="'validation'"):
        data.load("digits", "validation")
    with pytest.raises(InvalidInput, match="'balance'"):
        data.load("trifeature", "train", split="balance")


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"simulated"}))
def test_the_catalogue_names_exactly_the_options_of_the_loader(name):
    loader = resolve_name(f"kdlib.data.{DATASETS[name].loader}")
    by_keyword = {n for n, p in inspect.signature(loader).parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert by_keyword == {"root", *DATASETS[name].options}


def test_what_is_simulated_cannot_be_loaded():
    with pytest.raises(DataError, match="'simulated'.*nothing to load"):
        data.load("simulated", "test")


def test_options_are_filled_in_from_the_catalogue():
    assert profiles.options("digits", {"seed": 3}) == {**DATASETS["digits"].options, "seed": 3}
