"""`kdlib.data.load` (names, options, errors) and the handwritten digits."""

import importlib
import inspect
import sys

import numpy as np
import pytest

from kdlib import data
from kdlib.catalogue import DATASETS
from kdlib.errors import DataError, InvalidInput


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    return load_digits()


def position(ids):
    return np.array([int(i.removeprefix("digits/")) for i in ids])


def test_default_sizes_types_and_names():
    train, test = (data.load("digits", part) for part in ("train", "test"))
    assert train.x.shape == (300, 3, 8, 8) and test.x.shape == (1497, 3, 8, 8)
    assert train.x.dtype == np.uint8 and train.y.dtype == np.int64 and train.ids.dtype.kind == "U"
    assert train.class_names == tuple("0123456789") and train.groups == {}


def test_the_two_parts_are_all_of_scikit_learns_digits_in_its_order(digits):
    train, test = (data.load("digits", part) for part in ("train", "test"))
    where = np.concatenate([position(train.ids), position(test.ids)])
    assert sorted(where) == list(range(1797)) and "digits/0000" in {*train.ids, *test.ids}
    for split in (train, test):
        assert (np.diff(position(split.ids)) > 0).all()
        assert (split.y == digits.target[position(split.ids)]).all()


def test_pixels_are_scaled_by_the_documented_rule(digits):
    test = data.load("digits", "test")
    raw = digits.images[position(test.ids)]
    by_hand = {0: 0, 1: 16, 2: 32, 4: 64, 8: 128, 15: 239, 16: 255}  # floor(value * 255 / 16 + 0.5)
    for value, scaled in by_hand.items():
        assert set(test.x[:, 0][raw == value]) == {scaled}
    assert (test.x == test.x[:, :1]).all()


@pytest.mark.parametrize("n", [10, 300, 1000, 1787])
def test_every_class_has_its_share_of_the_training_images(digits, n):
    counts = np.bincount(data.load("digits", "train", train_images=n).y, minlength=10)
    shares = n * np.bincount(digits.target) / 1797
    assert counts.sum() == n and (np.abs(counts - shares) <= 1).all()
    assert len(set(data.load("digits", "test", train_images=n).y)) == 10


def test_the_split_depends_on_the_seed_alone_and_grows_by_adding():
    ids = [set(data.load("digits", "train", seed=s).ids) for s in (0, 0, 1)]
    assert ids[0] == ids[1] and ids[0] != ids[2]
    assert ids[0] < set(data.load("digits", "train", train_images=400).ids)


@pytest.mark.parametrize(
    "options, told",
    [
        ({"train_images": 9}, "train_images = 9 "),
        ({"train_images": 1788}, "train_images = 1788"),
        ({"train_images": 300.0}, "300.0"),
        ({"train_images": True}, "True"),
        ({"seed": -1}, "seed = -1"),
        ({"train_image": 300}, "'train_image'"),
    ],
)
def test_bad_options_are_refused_and_named(options, told):
    with pytest.raises(InvalidInput, match=told):
        data.load("digits", "train", **options)


def test_bad_names_are_refused_and_named():
    with pytest.raises(InvalidInput, match="'digit'"):
        data.load("digit", "train")
    with pytest.raises(InvalidInput, match="'validation'"):
        data.load("digits", "validation")
    with pytest.raises(InvalidInput, match="'balance'"):
        data.load("trifeature", "train", split="balance")


def test_without_scikit_learn_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match="digits"):
        data.load("digits", "train")


@pytest.mark.parametrize("name", [n for n, d in DATASETS.items() if d.loader.split(":")[0] in ("small", "trifeature")])
def test_the_catalogue_names_exactly_the_options_of_the_loader(name):
    module, function = DATASETS[name].loader.split(":")
    loader = getattr(importlib.import_module(f"kdlib.data.{module}"), function)
    by_keyword = {n for n, p in inspect.signature(loader).parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert by_keyword == {"root", *DATASETS[name].options}


def test_options_are_filled_in_from_the_catalogue():
    assert data.checked_options("digits", {"seed": 3}) == {**DATASETS["digits"].options, "seed": 3}
