"""CelebA's lists: read as they are published, refused where they are damaged, balanced by names alone."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from kdlib import places
from kdlib.data import celeba
from kdlib.errors import DataError, KdlibWarning
from tests import celeba_files as files
from tests import real_data

pytestmark = pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")  # small lists are not the published


@pytest.fixture
def folder(tmp_path):
    return files.write_lists(tmp_path)


def read_with(folder, *, attributes=None, parts=None):
    """What is read where one of the lists is another text, or other bytes."""
    for name, content in (("list_attr_celeba.txt", attributes), ("list_eval_partition.txt", parts)):
        if content is not None:
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return celeba.read_attributes(folder)


def test_every_image_has_its_part_and_attributes(folder):
    read = celeba.read_attributes(folder)
    assert read.index.tolist() == list(range(1, 13))
    assert read["part"].tolist() == ["train"] * 8 + ["validation"] * 2 + ["test"] * 2
    assert read.columns.tolist() == ["part", *files.NAMES]
    assert read.loc[3, files.NAMES].tolist() == [True, True, False, False, False]
    assert read["Smiling"].sum() == 6


def test_the_first_line_may_be_absent(folder):
    whole = celeba.read_attributes(folder)
    pd.testing.assert_frame_equal(read_with(folder, attributes=files.attribute_text(announced=False)), whole)


def test_rows_are_sorted_by_number(folder):
    whole = celeba.read_attributes(folder)
    turned = dict(reversed(files.ATTRIBUTES.items()))
    pd.testing.assert_frame_equal(read_with(folder, attributes=files.attribute_text(attributes=turned)), whole)


TEXT = files.attribute_text()
TWICE = TEXT.replace("000002.jpg", "000001.jpg")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TEXT[: len(TEXT) // 2], "list_attr_celeba.txt"),
        (TEXT[: TEXT.index("000011.jpg")], "12 images, 10 "),
        (TWICE, "000001"),
        (TEXT.replace("000002.jpg", "portrait.jpg"), "'portrait.jpg'"),
        (TEXT.replace("000002.jpg", "000013.jpg"), "list_eval_partition.txt"),
        (TEXT.replace("000001.jpg -1", "000001.jpg  0"), "list_attr_celeba.txt"),
        (TEXT.replace("000001.jpg -1", "000001.jpg  x"), "list_attr_celeba.txt"),
        ("", "list_attr_celeba.txt"),
        (b"\xff\xfe\x00\x81" * 99, "list_attr_celeba.txt"),
    ],
    ids=["half", "whole rows are gone", "twice", "a name", "not in the split", "zero", "letter", "empty", "bytes"],
)
def test_damaged_attributes_are_named_with_what_to_do(folder, text, says):
    with pytest.raises(DataError, match="list_attr_celeba.txt") as error:
        read_with(folder, attributes=text)
    assert says in str(error.value)
    assert "`kdlib fetch celeba`" in str(error.value)


@pytest.mark.parametrize(
    "text", [files.part_text(files.PARTS | {3: 3}), files.part_text().replace(" ", " 1 "), "12\n" + files.part_text()]
)
def test_a_damaged_split_is_named(folder, text):
    with pytest.raises(DataError, match="list_eval_partition.txt"):
        read_with(folder, parts=text)


def test_a_missing_attribute_is_named_with_those_that_are_there(folder):
    with pytest.raises(DataError, match="'Smiling'.*list_attr_celeba.txt"):
        read_with(folder, attributes=TEXT.replace("Smiling", "Smile"))


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.txt"])
def test_a_missing_list_is_named_with_where_it_is_from(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError, match=name):
        celeba.read_attributes(folder)


def test_ids_are_the_official_names():
    assert celeba.image_ids(np.array([1, 202599])).tolist() == ["celeba/000001.jpg", "celeba/202599.jpg"]
    assert celeba.image_numbers(["000001.jpg", "202599.jpg"]).tolist() == [1, 202599]


def test_undersampling_keeps_the_smallest_hashes_of_the_commoner_label():
    numbers, labels = np.arange(1, 9), np.array([1, 0, 0, 1, 0, 0, 0, 1])
    kept = celeba.undersampled(numbers, labels)
    zeros = sorted(numbers[labels == 0], key=lambda n: hashlib.sha256(f"celeba/{n:06d}.jpg".encode()).hexdigest())
    assert numbers[kept & (labels == 1)].tolist() == [1, 4, 8]
    assert numbers[kept & (labels == 0)].tolist() == sorted(zeros[:3])
    other = celeba.undersampled(numbers, 1 - labels)
    assert (other == kept).all(), "which label is the commoner one does not matter"


def test_undersampling_does_not_depend_on_order_and_leaves_balanced_labels_alone():
    numbers, labels = np.arange(1, 31), np.arange(30) % 5 == 0
    order = np.random.default_rng(0).permutation(30)
    assert (celeba.undersampled(numbers[order], labels[order]) == celeba.undersampled(numbers, labels)[order]).all()
    assert celeba.undersampled(numbers, numbers % 2 == 0).all()
    assert celeba.undersampled(numbers, np.zeros(30, bool)).sum() == 0, "as many as there are of the other: none"
    assert len(celeba.undersampled(np.array([], int), np.array([], bool))) == 0


@real_data.requires("celeba")
def test_another_attribute_than_the_published_one_is_warned_of_whatever_the_line_ends(tmp_path, recwarn):
    source = places.data_dir() / "celeba"
    for name in celeba.LISTS:
        text = (source / name).read_bytes().replace(b"\n", b"\r\n")
        (tmp_path / name).write_bytes(text)
    celeba.read_attributes(tmp_path)
    assert not recwarn.list
    text = (tmp_path / celeba.LISTS[0]).read_bytes()
    (tmp_path / celeba.LISTS[0]).write_bytes(text[:-4] + (b" 1" if text[-4:-2] == b"-1" else b"-1") + text[-2:])
    with pytest.warns(KdlibWarning, match="list_attr_celeba.txt"):
        celeba.read_attributes(tmp_path)


@real_data.requires("celeba")
def test_the_real_lists_have_the_counts_of_the_paper():
    read = celeba.read_attributes(places.data_dir() / "celeba")
    assert read["part"].value_counts().to_dict() == {"train": 162_770, "test": 19_962, "validation": 19_867}
    assert read[["Male", "Smiling", "Young"]].sum().tolist() == [84_434, 97_669, 156_734]
    train = read[read["part"] == "train"]
    kept = celeba.undersampled(train.index.to_numpy(), train["Smiling"].to_numpy())
    assert train.loc[kept, "Smiling"].value_counts().to_dict() == {True: 78_080, False: 78_080}
