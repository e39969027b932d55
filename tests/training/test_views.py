"""What training sees of a data set: the same pixels from memory and from files, texts without their tails."""

import numpy as np
import pytest
import torch

from kdlib.data import Split
from kdlib.data.stream import Images
from kdlib.errors import InvalidInput
from kdlib.training import views


def split(x, y=None, **options):
    ids = np.array([f"{i:03d}" for i in range(len(x))])
    return Split(ids, x, np.arange(len(x)) % 2 if y is None else y, {}, ("no", "yes"), **options)


@pytest.fixture
def files(tmp_path):
    """Twelve PNG files of 8 x 8 pixels, and the same pixels as an array."""
    from PIL import Image

    x = np.random.default_rng(0).integers(256, size=(12, 3, 8, 8), dtype=np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for image, path in zip(x, paths, strict=True):
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return Images(paths, 8), x


def test_files_and_memory_show_the_same_crops_and_flips(files):
    images, x = files
    augment = {"crop": 2, "flip": True}
    resident = views.make_views(split(x), augment=augment, pad=128)
    streamed = views.make_views(split(images), augment=augment, pad=128)
    assert streamed.count == resident.count == 50 and streamed.input == resident.input
    assert torch.equal(streamed.mean, resident.mean) and torch.equal(streamed.std, resident.std)
    rng = np.random.default_rng(1)
    batches = [(rng.integers(12, size=5), rng.integers(50, size=5)) for _ in range(6)]
    for ours, theirs in zip(streamed.feed(batches), resident.feed(batches), strict=True):
        assert torch.equal(ours, theirs)


def test_another_split_of_files_is_normalised_as_the_first(files):
    images, x = files
    train = views.make_views(split(x), augment={"flip": True})
    test = views.make_views(split(images), like=train)
    assert test.count == 1
    (seen,) = test.feed([(np.arange(12), np.zeros(12, int))])
    assert torch.allclose(seen, (torch.from_numpy(x).float() - train.mean) / train.std)


def test_random_resized_crops_are_a_function_of_image_and_seed(files):
    train = views.make_views(split(files[0]), augment={"resized_crop": True, "flip": True})
    assert train.count > 2**60
    index, seeds = np.array([3, 3, 3, 4]), np.array([5, 6, 5, 5])
    (first,), (second,) = (list(train.feed([(index, seeds)])) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[0], first[3])


def test_texts_are_cut_to_the_longest_of_their_batch():
    x = np.array([[2, 7, 3, 0, 0], [2, 7, 8, 3, 0], [2, 3, 0, 0, 0]], np.int32)
    texts = views.make_views(split(x, vocabulary=9))
    assert texts.count == 1 and texts.input == {"vocabulary": 9, "tokens": 5}
    assert texts.batch(torch.tensor([2, 0]), torch.tensor([0, 0])).tolist() == [[2, 3, 0], [2, 7, 3]]
    (seen,) = texts.feed([(np.array([1]), np.array([0]))])
    assert seen.tolist() == [[2, 7, 8, 3]] and seen.dtype == torch.int64


@pytest.mark.parametrize(
    ("augment", "kind", "message"),
    [
        ({"resized_crop": True, "crop": 2}, "files", "resized_crop"),
        ({"resized_crop": True}, "memory", "resized_crop"),
        ({"flip": True}, "text", "flip"),
    ],
)
def test_augmentation_that_cannot_be_is_refused(files, augment, kind, message):
    data = {"files": split(files[0]), "memory": split(files[1]), "text": split(np.ones((3, 4), np.int32), vocabulary=5)}
    with pytest.raises(InvalidInput, match=message):
        views.make_views(data[kind], augment=augment)
