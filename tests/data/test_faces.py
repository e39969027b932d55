"""Faces: official names and split, balance in training alone, either source the same, UTKFace by content."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from kdlib.data import faces, load
from kdlib.errors import DataError, InvalidInput
from tests import celeba_files as files
from tests import real_data

pytestmark = pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")  # small lists are not the published

COUNTS = {"train_images": 8, "validation_images": 2, "test_images": 2}


def write_faces64(folder, numbers=tuple(range(1, 13)), **arrays):
    given = {"x": files.faces(numbers), "image_id": np.array(numbers)} | arrays
    np.savez(folder / "celeba64.npz", **given)


@pytest.fixture
def root(tmp_path):
    write_faces64(files.write_lists(tmp_path), (12, *range(1, 12)))
    return tmp_path


def numbers_of(split):
    return [int(id_[len("celeba/") : -len(".jpg")]) for id_ in split.ids]


# ------------------------------------------------------------------------------------------------------------- celeba64


def test_rows_are_in_the_order_of_official_names_with_their_labels_and_groups(root):
    split = load("celeba64", "train", root=root, balance=False, **COUNTS)
    assert split.ids.tolist() == [f"celeba/00000{i}.jpg" for i in range(1, 9)]
    assert (split.x.shape, split.x.dtype, split.x.flags.c_contiguous) == ((8, 3, 64, 64), np.uint8, True)
    assert split.x[:, 0, 0, 0].tolist() == list(range(1, 9)), "red is the number"
    assert split.x[0, 1, 3, 5] == (3 * 64 + 5) % 251, "rows and columns are where they were"
    assert (split.y.tolist(), split.y.dtype) == ([1, 0, 0, 1, 0, 0, 0, 1], np.int64)
    assert split.class_names == ("not smiling", "smiling")
    assert split.groups["young"].tolist() == [
        "young",
        "young",
        "not young",
        "young",
        "young",
        "young",
        "not young",
        "young",
    ]
    assert split.groups["male"].tolist() == ["female", "male", "male", "female", "male", "female", "female", "male"]
    assert split.features.shape == (8, 4) and split.features[:, 3].tolist() == [0, 0, 0, 0, 0, 0, 1, 0]  # Wearing_Hat


def test_parts_are_the_official_ones(root):
    parts = {part: load("celeba64", part, root=root, **COUNTS) for part in ("validation", "test")}
    assert {part: numbers_of(split) for part, split in parts.items()} == {"validation": [9, 10], "test": [11, 12]}
    assert parts["test"].x[:, 0, 0, 0].tolist() == [11, 12]


def test_training_is_balanced_and_the_other_parts_are_not(root):
    smiling = load("celeba64", "train", root=root, **COUNTS)
    assert smiling.y.tolist().count(1) == smiling.y.tolist().count(0) == 3
    assert {1, 4, 8} < set(numbers_of(smiling))
    assert smiling.x[:, 0, 0, 0].tolist() == numbers_of(smiling) == sorted(numbers_of(smiling))
    glasses = load("celeba64", "train", root=root, label="eyeglasses", **COUNTS)
    assert (glasses.y.sum(), len(glasses.y)) == (2, 4)
    assert load("celeba64", "test", root=root, **COUNTS).y.tolist() == [1, 1]


def test_smaller_images_are_means_of_blocks(root):
    small = load("celeba64", "test", root=root, image_size=32, **COUNTS)
    block = [0, 1, 64, 65]  # the first 2 x 2 greens: their mean is 32.5, rounded up
    assert small.x.shape == (2, 3, 32, 32)
    assert small.x[0, 1, 0, 0] == int(np.mean(block) + 0.5) == 33
    with pytest.raises(InvalidInput, match="48"):
        load("celeba64", "test", root=root, image_size=48, **COUNTS)


def test_a_part_that_is_not_there_has_no_rows(tmp_path):
    write_faces64(files.write_lists(tmp_path), (1, 2, 11))
    counts = {"train_images": 2, "validation_images": 0, "test_images": 1}
    empty = load("celeba64", "validation", root=tmp_path, **counts)
    assert (empty.ids.shape, empty.x.shape, empty.y.shape) == ((0,), (0, 3, 64, 64), (0,))
    assert {name: values.shape for name, values in empty.groups.items()} == {"young": (0,), "male": (0,)}


def test_other_counts_than_the_study_says_are_refused_with_what_to_write(root):
    with pytest.raises(DataError, match="162770") as e:
        load("celeba64", "test", root=root)
    assert "data: {train_images: 8, validation_images: 2, test_images: 2}" in str(e.value)


def test_a_file_that_changed_is_read_anew(root):
    before = load("celeba64", "test", root=root, **COUNTS)
    write_faces64(root / "celeba", x=255 - files.faces(range(1, 13)))
    after = load("celeba64", "test", root=root, **COUNTS)
    assert (after.x == 255 - before.x).all()


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"numbers": (1, 2, 2)}, "image 2 "),
        ({"numbers": (1, 13)}, "image 13 "),
        ({"image_id": np.arange(12.0)}, "image_id .*float64"),
        ({"x": np.zeros((11, 64, 64, 3), np.uint8)}, r"\(11, 64, 64, 3\)"),
        ({"x": np.zeros((12, 64, 64, 3))}, "x .*float64"),
        ({"x": np.array([{}] * 12, object)}, "allow_pickle"),
    ],
    ids=["twice", "unknown", "floats", "too few", "not bytes", "pickled"],
)
def test_faces_that_cannot_be_used_are_named(root, arrays, says):
    write_faces64(root / "celeba", **arrays)
    numbers = arrays.get("numbers", range(1, 13))
    counts = {"train_images": sum(n <= 8 for n in numbers)} if len(numbers) < 12 else COUNTS
    with pytest.raises(DataError, match=says) as error:
        load("celeba64", "train", root=root, **counts)
    assert "celeba64.npz" in str(error.value) and "`kdlib fetch celeba64`" in str(error.value)


def test_half_a_file_and_none_are_named(root):
    path = root / "celeba/celeba64.npz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="celeba64.npz"):
        load("celeba64", "test", root=root, **COUNTS)
    path.unlink()
    with pytest.raises(DataError, match="celeba64.npz"):
        load("celeba64", "test", root=root, **COUNTS)


@pytest.mark.parametrize("name", ["celeba", "celeba64", "utkface"])
def test_options_that_make_no_sense_are_refused(root, name):
    wrong = [{"image_size": 0}, {"image_size": "64"}, {"label": "hat"}]
    wrong += [{"test_share": 1.0}, {"test_share": "0.3"}, {"seed": -1}] if name == "utkface" else [{"balance": "no"}]
    for options in wrong:
        with pytest.raises(InvalidInput, match=next(iter(options))):
            load(name, "train", root=root, **options)
    with pytest.raises(InvalidInput, match="'all'"):
        load(name, "all", root=root)


# ------------------------------------------------------------------------------------------------------- aligned images


@pytest.fixture
def aligned(tmp_path):
    """178 x 218: black above row 34 and below row 212, between them a grey of 10 times the image's number."""
    folder = files.write_lists(tmp_path) / "img_align_celeba"
    folder.mkdir()
    for i in range(1, 13):
        pixels = np.zeros((218, 178, 3), np.uint8)
        pixels[34:212] = 10 * i
        Image.fromarray(pixels).save(folder / f"{i:06d}.jpg", quality=95)
    return tmp_path


def test_aligned_images_are_cut_to_a_square_and_streamed(aligned):
    split = load("celeba", "test", root=aligned, image_size=32)
    assert split.ids.tolist() == ["celeba/000011.jpg", "celeba/000012.jpg"]
    assert split.x.shape == (2, 3, 32, 32)
    for image, gray in zip(split.x[:], (110, 120), strict=True):
        assert np.abs(image[:, 1:-1].astype(int) - gray).max() <= 2, "no black of what lies outside the square"


def test_both_sources_give_the_same_samples(aligned, monkeypatch):
    monkeypatch.setattr(faces, "BLOCK", 5)
    faces.make_celeba64(aligned / "celeba/img_align_celeba", aligned / "celeba/celeba64.npz")
    for part in ("train", "validation", "test"):
        whole, small = load("celeba", part, root=aligned), load("celeba64", part, root=aligned, **COUNTS)
        assert whole.ids.tolist() == small.ids.tolist()
        assert whole.y.tolist() == small.y.tolist()
        assert (whole.x[:] == small.x).all()
        assert all((whole.groups[name] == small.groups[name]).all() for name in ("young", "male"))


def test_whatever_part_of_the_images_is_there_is_made(aligned):
    folder = aligned / "celeba/img_align_celeba"
    for i in (2, 10):
        (folder / f"{i:06d}.jpg").unlink()
    (folder / "notes.jpg").write_text("not an image of CelebA")
    faces.make_celeba64(folder, aligned / "celeba/celeba64.npz")
    counts = {"train_images": 7, "validation_images": 1, "test_images": 2}
    assert numbers_of(load("celeba64", "validation", root=aligned, **counts)) == [9]


def test_an_image_that_does_not_decode_leaves_no_file(aligned):
    folder = aligned / "celeba/img_align_celeba"
    (folder / "000007.jpg").write_bytes((folder / "000007.jpg").read_bytes()[:300])
    before = sorted(path.name for path in (aligned / "celeba").iterdir())
    with pytest.raises(DataError, match="000007.jpg"):
        faces.make_celeba64(folder, aligned / "celeba/celeba64.npz")
    assert sorted(path.name for path in (aligned / "celeba").iterdir()) == before


def test_without_images_it_is_said_where_they_go(root):
    with pytest.raises(DataError, match="img_align_celeba"):
        load("celeba", "test", root=root)
    with pytest.raises(DataError, match="img_align_celeba"):
        faces.make_celeba64(root / "celeba/img_align_celeba", root / "celeba/celeba64.npz")


def test_images_that_are_missing_or_not_the_aligned_ones_are_named(aligned):
    folder = aligned / "celeba/img_align_celeba"
    (folder / "000012.jpg").unlink()
    with pytest.raises(DataError, match="000012.jpg"):
        load("celeba", "test", root=aligned)
    Image.new("RGB", (400, 600)).save(folder / "000009.jpg")
    with pytest.raises(DataError, match=r"000009.jpg .*\(400, 600\)"):
        load("celeba", "validation", root=aligned)
    (folder / "000009.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="000009.jpg"):
        load("celeba", "validation", root=aligned)


# -------------------------------------------------------------------------------------------------------------- UTKFace


def write_utkface(root, order=slice(None), **arrays):
    """60 images; the last ten are copies of the first ten, with the same labels."""
    numbers = np.append(np.arange(50), np.arange(10))
    given = {"x": files.faces(numbers), "age": 2 * numbers, "gender": numbers % 2, "race": numbers % 5}
    (root / "utkface").mkdir(exist_ok=True)
    np.savez(root / "utkface/utkface64.npz", **({k: v[order] for k, v in given.items()} | arrays))
    return root


def both(root, **options):
    return [load("utkface", part, root=root, **options) for part in ("train", "test")]


def test_utkface_is_named_and_labelled_by_content(tmp_path):
    train, test = both(write_utkface(tmp_path))
    image = files.faces([3])[0].transpose(2, 0, 1).tobytes()
    split = next(s for s in (train, test) if hashlib.sha256(image).hexdigest()[:16] in s.ids)
    at = split.ids.tolist().index(hashlib.sha256(image).hexdigest()[:16])
    assert split.x[at].tobytes() == image
    assert (split.y[at], split.class_names) == (1, ("male", "female"))
    assert (split.groups["race"][at], split.groups["age"][at]) == ("indian", "under 18")
    for s in (train, test):
        assert s.ids.tolist() == sorted(s.ids)
        bands = {0: "under 18", 8: "under 18", 9: "18 to 39", 19: "18 to 39", 20: "40 and over", 49: "40 and over"}
        found = dict(zip(s.x[:, 0, 0, 0].tolist(), s.groups["age"].tolist(), strict=True))
        assert all(found[number] == band for number, band in bands.items() if number in found)


def test_utkface_equal_images_are_never_in_both_parts(tmp_path):
    train, test = both(write_utkface(tmp_path))
    assert len(train.ids) + len(test.ids) == len({*train.ids, *test.ids}) == 60
    assert not {id_[:16] for id_ in train.ids} & {id_[:16] for id_ in test.ids}
    assert sum(id_.endswith("-1") for id_ in (*train.ids, *test.ids)) == 10


def test_utkface_does_not_depend_on_the_order_in_the_file(tmp_path):
    first = both(write_utkface(tmp_path))
    again = both(write_utkface(tmp_path, np.random.default_rng(0).permutation(60)))
    for a, b in zip(first, again, strict=True):
        assert a.ids.tolist() == b.ids.tolist()
        assert (a.x == b.x).all() and (a.y == b.y).all() and (a.groups["race"] == b.groups["race"]).all()


def test_utkface_parts_follow_share_and_seed(tmp_path):
    write_utkface(tmp_path)
    tests = [set(both(tmp_path, test_share=share)[1].ids) for share in (0.1, 0.3, 0.9)]
    assert tests[0] < tests[1] < tests[2], "a larger share adds images and moves none"
    assert set(both(tmp_path, seed=1)[1].ids) != tests[1]
    assert both(tmp_path, image_size=16)[1].x.shape == (len(tests[1]), 3, 16, 16)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"gender": np.arange(60) % 3}, "gender"),
        ({"race": np.arange(59) % 5}, "race"),
        ({"age": np.linspace(0, 9, 60)}, "age"),
        ({"x": files.faces(range(60), size=32)}, "x "),
    ],
)
def test_utkface_that_cannot_be_used_is_named(tmp_path, arrays, says):
    write_utkface(tmp_path, **arrays)
    with pytest.raises(DataError, match=f"utkface64.npz.*{says}"):
        load("utkface", "test", root=tmp_path)


def test_utkface_half_a_file_and_none_are_named(tmp_path):
    path = write_utkface(tmp_path) / "utkface/utkface64.npz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="utkface64.npz"):
        load("utkface", "test", root=tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="utkface64.npz"):
        load("utkface", "test", root=tmp_path)


# ------------------------------------------------------------------------------------------------------------ real data

HERE = {"train_images": 10_000, "validation_images": 0, "test_images": 17_476}


def rates(split):
    """Percent of class 1, young and male, and the gap of class 1 between young and not, in points."""
    young, male = split.groups["young"] == "young", split.groups["male"] == "male"
    gap = abs(split.y[young].mean() - split.y[~young].mean())
    return [round(100 * value, 2) for value in (split.y.mean(), young.mean(), male.mean(), gap)]


@real_data.requires("celeba")
def test_the_real_faces_have_their_counts_and_rates():
    train = load("celeba64", "train", balance=False, image_size=32, **HERE)
    smiling, glasses = (
        load("celeba64", "test", label=name, image_size=32, **HERE) for name in ("smiling", "eyeglasses")
    )
    assert (len(train.y), len(smiling.y)) == (10_000, 17_476)
    assert rates(smiling) == [52.19, 76.37, 37.31, 1.74]
    assert rates(glasses)[::3] == [5.25, 12.37]
    assert len(load("celeba64", "validation", image_size=32, **HERE).ids) == 0
    balanced = load("celeba64", "train", label="eyeglasses", image_size=32, **HERE)
    assert np.bincount(balanced.y).tolist() == [674, 674]


@real_data.requires("utkface")
def test_the_real_utkface_has_enough_of_every_group():
    train, test = (load("utkface", part, image_size=32) for part in ("train", "test"))
    assert len(train.ids) + len(test.ids) == 9_778
    assert abs(len(test.ids) / 9_778 - 0.3) < 0.01
    assert min(np.unique(test.groups["race"], return_counts=True)[1]) > 100
    assert min(np.unique(test.groups["age"], return_counts=True)[1]) > 700
