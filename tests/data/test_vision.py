"""CIFAR, SVHN, Tiny ImageNet and ImageNet from small files in their real formats, damaged ones, real data; digits."""

import hashlib
import io
import os
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from kdlib import data
from kdlib.data import vision
from kdlib.data.vision import content_ids, reduce
from kdlib.errors import DataError, InvalidInput
from tests.real_data import requires

FEW = {name: {"train": 20, "test": 10} for name in vision.IMAGES}


@pytest.fixture(autouse=True)
def few(request, monkeypatch):
    """Data sets of 20 training and 10 test images, but where the real ones are read."""
    if "real" not in request.node.name:
        monkeypatch.setattr(vision, "IMAGES", FEW)


def images(n, seed, side=32):
    return np.random.default_rng(seed).integers(0, 256, (n, 3, side, side), np.uint8)


def cifar_arrays(classes):
    """{part: (x (N, 3, 32, 32), y)}, ten classes of one size; in training the images 3, 4 and 5 are equal.

    The first and the last of these three have one label, the other another.
    """
    parts = {part: (images(n, n), np.arange(n) % 10 * (classes // 10)) for part, n in FEW["cifar10"].items()}
    x, y = parts["train"]
    x[4], x[5] = x[3], x[3]
    y[[3, 4, 5, 7, 2, 17]] = y[[7, 2, 17, 3, 4, 5]]
    return parts


def write_npz(root, name, parts):
    (root / name).mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, (x, y) in parts.items():
        arrays |= {f"{part}_x": x.transpose(0, 2, 3, 1), f"{part}_y": y.astype(np.uint8)}
    np.savez(root / name / f"{name}.npz", **arrays)


def write_binary(root, name, parts):
    """The official files; the coarse label of CIFAR-100 is 99, the rows stand in the opposite order."""
    for part, (x, y) in parts.items():
        labels = np.stack([np.full(len(y), 99), y] if name == "cifar100" else [y], axis=1)
        rows = np.concatenate([labels.astype(np.uint8), x.reshape(len(x), -1)], axis=1)[::-1]
        files = [root / name / file for file in data.PUBLISHED["members"][name][part]]
        for path, some in zip(files, np.array_split(rows, len(files)), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            some.tofile(path)


# ------------------------------------------------------------------------------------------------------ pixels and ids


def test_reduce_rounds_means_of_blocks_half_up():
    x = np.array([[1, 2, 0, 0], [2, 1, 0, 1], [255, 255, 9, 9], [255, 255, 9, 10]], np.uint8)[None, None]
    assert reduce(x, 2)[0, 0].tolist() == [[2, 0], [255, 9]]  # 1.5, 0.25; 255, 9.25
    assert reduce(x, 1).item() == 67  # 1064 / 16 = 66.5
    assert reduce(np.full((1, 3, 9, 9), 255, np.uint8), 3).tolist() == np.full((1, 3, 3, 3), 255).tolist()
    assert reduce(x, 4) is x


@pytest.mark.parametrize("size", [0, -1, 3, 8])
def test_reduce_says_which_sizes_work(size):
    with pytest.raises(InvalidInput, match="image_size"):
        reduce(np.zeros((1, 3, 4, 4), np.uint8), size)


def test_ids_come_from_content_and_equal_images_are_numbered_by_label():
    x = images(5, 0)
    x[3] = x[1] = x[0]
    ids = content_ids(x, np.array([5, 1, 0, 3, 4]))
    first = hashlib.sha256(x[0].tobytes()).hexdigest()[:16]
    assert ids[[0, 1, 3]].tolist() == [f"{first}-2", first, f"{first}-1"]
    assert ids[2] == hashlib.sha256(x[2].tobytes()).hexdigest()[:16] and len(set(ids)) == 5
    assert content_ids([image.tobytes() for image in x], np.array([5, 1, 0, 3, 4])).tolist() == ids.tolist()


def test_official_class_names():
    assert [len(vision.CLASSES[name]) for name in ("cifar10", "cifar100", "svhn")] == [10, 100, 10]
    names = vision.CLASSES["cifar100"]
    assert names == sorted(names) and (names[0], names[52], names[99]) == ("apple", "oak_tree", "worm")


# --------------------------------------------------------------------------------------------------------------- CIFAR


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_binary_files_and_npz_give_the_same_split(tmp_path, name, classes):
    parts = cifar_arrays(classes)
    write_npz(tmp_path / "a", name, parts)
    write_binary(tmp_path / "b", name, parts)
    for part, (x, y) in parts.items():
        a, b = (data.load(name, part, root=tmp_path / folder) for folder in "ab")
        assert a.ids.tolist() == b.ids.tolist() == sorted(set(content_ids(x, y)))
        assert (a.x == b.x).all() and (a.y == b.y).all() and len(a.class_names) == classes
        order = np.argsort(content_ids(x, y))
        assert (a.x == x[order]).all() and (a.y == y[order]).all()
        assert a.x.dtype == np.uint8 and a.x.flags.c_contiguous and a.y.dtype == np.int64 and a.groups == {}


def test_equal_images_with_other_labels_keep_their_labels_in_any_order(tmp_path):
    parts = cifar_arrays(10)
    write_npz(tmp_path, "cifar10", parts)
    split = data.load("cifar10", "train", root=tmp_path)
    repeated = content_ids(parts["train"][0][3:4], np.zeros(1))[0]
    labels = dict(zip(split.ids.tolist(), split.y.tolist(), strict=True))
    assert [labels[f"{repeated}{end}"] for end in ("", "-1", "-2")] == [2, 7, 7]


def test_fewer_pixels_are_means_and_keep_the_ids(tmp_path):
    write_npz(tmp_path, "cifar10", cifar_arrays(10))
    whole, half = (data.load("cifar10", "test", root=tmp_path, image_size=size) for size in (32, 16))
    assert half.x.shape == (10, 3, 16, 16) and (half.x == reduce(whole.x, 16)).all()
    assert half.ids.tolist() == whole.ids.tolist()
    with pytest.raises(InvalidInput, match="20"):
        data.load("cifar10", "test", root=tmp_path, image_size=20)
    with pytest.raises(InvalidInput, match="'big'"):
        data.load("cifar10", "test", root=tmp_path, image_size="big")


def test_labels_of_another_order_of_bytes_count_alike(tmp_path):
    parts = cifar_arrays(10)
    write_npz(tmp_path, "cifar10", parts)
    first = data.load("cifar10", "train", root=tmp_path)
    path = tmp_path / "cifar10/cifar10.npz"
    with np.load(path, allow_pickle=False) as archive:
        np.savez(path, **dict(archive) | {"train_y": archive["train_y"].astype(">i8")})
    assert data.load("cifar10", "train", root=tmp_path).data_sha256 == first.data_sha256


def test_a_second_load_reads_the_cache_and_a_changed_file_is_read_again(tmp_path, monkeypatch):
    parts = cifar_arrays(10)
    write_npz(tmp_path, "cifar10", parts)
    first = data.load("cifar10", "test", root=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(vision, "read_npz", None)
        assert (data.load("cifar10", "test", root=tmp_path).x == first.x).all()
    parts["test"][0][:] //= 2
    write_npz(tmp_path, "cifar10", parts)
    os.utime(tmp_path / "cifar10/cifar10.npz", ns=(0, 0))  # it may be written within the clock's resolution
    assert data.load("cifar10", "test", root=tmp_path).ids.tolist() != first.ids.tolist()


def test_a_missing_data_set_says_where_it_was_looked_for_and_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"train\.bin.*kdlib fetch cifar100"):
        data.load("cifar100", "train", root=tmp_path)
    (tmp_path / "cifar10/cifar-10-batches-py").mkdir(parents=True)
    with pytest.raises(DataError, match="cifar-10-batches-py"):
        data.load("cifar10", "train", root=tmp_path)


def test_missing_and_truncated_batches_are_named(tmp_path):
    write_binary(tmp_path, "cifar10", cifar_arrays(10))
    folder = tmp_path / "cifar10/cifar-10-batches-bin"
    path, content = folder / "data_batch_3.bin", (folder / "data_batch_3.bin").read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(DataError, match=r"data_batch_3\.bin .*12,192"):
        data.load("cifar10", "train", root=tmp_path)
    path.write_bytes(content[:3073])
    with pytest.raises(DataError, match="cifar-10-batches-bin .*17"):
        data.load("cifar10", "train", root=tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin"):
        data.load("cifar10", "train", root=tmp_path)
    path.write_bytes(b"\x0b" + content[1:])
    with pytest.raises(DataError, match="11"):
        data.load("cifar10", "train", root=tmp_path)


def pickled():
    content = io.BytesIO()
    np.savez(content, train_x=np.array([{}], object), train_y=np.array([{}], object))
    return content.getvalue()


@pytest.mark.parametrize("content", [b"", b"<html>", b"version https://git-lfs", b"\x80\x04.", pickled()])
def test_garbage_for_an_npz_is_named_and_never_unpickled(tmp_path, content):
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10/cifar10.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"cifar10\.npz"):
        data.load("cifar10", "train", root=tmp_path)


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_half_an_npz_is_named(tmp_path, keep):
    write_npz(tmp_path, "cifar10", cifar_arrays(10))
    path = tmp_path / "cifar10/cifar10.npz"
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(DataError, match=r"cifar10\.npz"):
        data.load("cifar10", "train", root=tmp_path)


def test_a_flipped_bit_in_an_npz_is_found(tmp_path):
    write_npz(tmp_path, "cifar10", cifar_arrays(10))
    path = tmp_path / "cifar10/cifar10.npz"
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("train_x.npy").header_offset + 30_000
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cifar10\.npz"):
        data.load("cifar10", "train", root=tmp_path)


@pytest.mark.parametrize("items", [10**13, 10**30])
def test_an_npz_that_claims_more_than_memory_is_named(tmp_path, items):
    path, header = tmp_path / "big.npz", io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (items,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_x.npy", header.getvalue() + bytes(100))
    with pytest.raises(DataError, match=r"big\.npz"):
        vision.read_npz(path, dataset="own")


def test_a_changed_label_in_a_packed_cifar_is_found_where_classes_are_no_longer_equal(tmp_path):
    (x, y), test = (cifar_arrays(10)[part] for part in ("train", "test"))
    y = y.copy()
    y[3] = 5
    write_npz(tmp_path, "cifar10", {"train": (x, y), "test": test})
    with pytest.raises(DataError, match=r"cifar10\.npz: train has 3 images of class 5 and 1 of 7;"):
        data.load("cifar10", "train", root=tmp_path)


def test_an_npz_with_other_arrays_says_what_is_wrong(tmp_path):
    (tmp_path / "cifar10").mkdir()
    path = tmp_path / "cifar10/cifar10.npz"
    np.savez(path, train_x=np.zeros((20, 32, 32, 3), np.uint8))
    with pytest.raises(DataError, match=r"cifar10\.npz .*'train_y'"):
        data.load("cifar10", "train", root=tmp_path)
    np.savez(path, train_x=np.zeros((20, 3, 32, 32)), train_y=np.zeros(20, int))
    with pytest.raises(DataError, match=r"train_x .*float64 \(20, 3, 32, 32\)"):
        data.load("cifar10", "train", root=tmp_path)


# ---------------------------------------------------------------------------------------------------------------- SVHN


def write_svhn(root):
    from scipy.io import savemat

    (root / "svhn").mkdir(exist_ok=True)
    x, y = images(20, 1), np.arange(20) % 10 + 1
    savemat(root / "svhn/train_32x32.mat", {"X": x.transpose(2, 3, 1, 0), "y": y[:, None].astype(np.uint8)})
    return x, y


def test_svhn_calls_a_ten_zero(tmp_path):
    x, y = write_svhn(tmp_path)
    split = data.load("svhn", "train", root=tmp_path)
    order = np.argsort(content_ids(x, y % 10))
    assert (split.x == x[order]).all() and (split.y == np.where(y == 10, 0, y)[order]).all()
    assert split.class_names == tuple("0123456789") and split.y.max() == 9


def test_bad_files_of_svhn_are_named(tmp_path):
    write_svhn(tmp_path)
    path = tmp_path / "svhn/train_32x32.mat"
    with pytest.raises(DataError, match=r"test_32x32\.mat"):
        data.load("svhn", "test", root=tmp_path)
    whole = path.read_bytes()
    for content in (whole[:1000], b"", b"<html>" * 100, whole[:128] + bytes(500)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"train_32x32\.mat"):
            data.load("svhn", "train", root=tmp_path)


# ------------------------------------------------------------------------------------------------------- Tiny ImageNet


def jpeg(path, seed, side=64):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(images(1, seed, 8)[0].transpose(1, 2, 0)).resize((side, side)).save(path)
    return np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)


@pytest.fixture
def tiny(tmp_path):
    """Two classes, ten training images each, ten test images; the two share a name."""
    home = tmp_path / "tiny_imagenet/tiny-imagenet-200"
    for c, number in enumerate(["n02", "n01"]):
        for i in range(10):
            jpeg(home / f"train/{number}/images/{number}_{i}.JPEG", 10 * c + i)
        (home / f"train/{number}/{number}_boxes.txt").write_text("x")
    lines = []
    for i in range(10):
        jpeg(home / f"val/images/val_{i}.JPEG", 50 + i)
        lines.append(f"val_{i}.JPEG\t{'n02' if i < 3 else 'n01'}\t0\t1\t2\t3\n")
    (home / "val/val_annotations.txt").write_text("".join(lines))
    (home / "wnids.txt").write_text("n02\nn01\n")
    (home / "words.txt").write_text("n00\tother\nn01\tcrane, a bird\nn02\tcrane\n")
    return tmp_path


def test_tiny_imagenet_takes_its_annotated_validation_images_for_test(tiny):
    home = tiny / "tiny_imagenet/tiny-imagenet-200"
    train, test = (data.load("tiny_imagenet", part, root=tiny) for part in ("train", "test"))
    assert train.ids[:2].tolist() == ["n01_0.JPEG", "n01_1.JPEG"] and train.y.tolist() == [0] * 10 + [1] * 10
    assert test.ids[3] == "val_3.JPEG" and test.y.tolist() == [1] * 3 + [0] * 7
    assert train.class_names == ("crane (n01)", "crane (n02)")
    again = Image.open(home / "train/n02/images/n02_4.JPEG").convert("RGB")
    assert (train.x[14] == np.asarray(again).transpose(2, 0, 1)).all()
    half = data.load("tiny_imagenet", "test", root=tiny, image_size=32)
    assert (half.x == reduce(test.x, 32)).all()


def test_what_is_wrong_with_tiny_imagenet_is_named(tiny):
    home = tiny / "tiny_imagenet/tiny-imagenet-200"

    def said(part, message):
        with pytest.raises(DataError, match=message):
            data.load("tiny_imagenet", part, root=tiny)

    (home / "train/n02/images/n02_3.JPEG").write_bytes(b"\xff\xd8 half")
    said("train", r"n02_3\.JPEG")
    (home / "train/n02/images/n02_3.JPEG").unlink()
    said("train", "19")
    (home / "val/images/val_2.JPEG").unlink()
    said("test", r"val_2\.JPEG")
    for line in ("val_0.JPEG\tn77\t1\n", "../../secret.JPEG\tn01\n", "\xff\xfe"):
        (home / "val/val_annotations.txt").write_text(line, encoding="latin-1")
        said("test", r"val_annotations\.txt")
    (home / "wnids.txt").write_text("n01\nn99\n")
    said("train", "n99")
    (home / "words.txt").unlink()
    said("train", r"words\.txt")


# ------------------------------------------------------------------------------------------------------------ ImageNet


@pytest.fixture
def imagenet(tmp_path):
    for i in range(20):
        jpeg(tmp_path / f"imagenet/train/n0{i % 2}/n0{i % 2}_{i}.JPEG", i, side=70)
    for i in range(10):
        jpeg(tmp_path / f"imagenet/val/n0{i // 5}/ILSVRC2012_val_{i}.JPEG", i, side=128)
    return tmp_path


def test_imagenet_is_read_when_it_is_indexed(imagenet):
    train, test = (data.load("imagenet", part, root=imagenet, image_size=56) for part in ("train", "test"))
    assert train.x.shape == (20, 3, 56, 56) and train.ids.tolist() == sorted(train.ids)
    assert train.ids[0] == "n00_0.JPEG" and train.y.tolist() == [0] * 10 + [1] * 10
    assert test.y.tolist() == [0] * 5 + [1] * 5 and train.class_names == test.class_names == ("n00", "n01")
    whole = Image.open(imagenet / "imagenet/val/n01/ILSVRC2012_val_7.JPEG").resize((64, 64), Image.Resampling.BILINEAR)
    center = np.asarray(whole.convert("RGB")).transpose(2, 0, 1)[:, 4:60, 4:60].astype(int)  # 56 * 256 / 224 = 64
    assert np.abs(test.x[7] - center).mean() < 2
    assert next(train.x.prefetched([(np.arange(3), np.arange(3))])).shape == (3, 3, 56, 56)


def test_imagenet_is_put_there_by_hand(imagenet, tmp_path):
    (imagenet / "imagenet/train/n01/n01_3.JPEG").unlink()
    with pytest.raises(DataError, match="19"):
        data.load("imagenet", "train", root=imagenet)
    with pytest.raises(DataError, match="imagenet/val"):
        data.load("imagenet", "test", root=tmp_path / "nothing")
    jpeg(imagenet / "imagenet/train/n01/n01_3.JPEG", 3)
    (imagenet / "imagenet/train/n00/n00_0.JPEG").write_bytes(b"\xff\xd8 half")
    with pytest.raises(DataError, match=r"n00_0\.JPEG"):
        data.load("imagenet", "train", root=imagenet).x[:5]


# ------------------------------------------------------------------------------------------------------- the real data


@pytest.mark.parametrize(
    ("name", "means"),
    [
        pytest.param("cifar100", (0.50708, 0.48655, 0.44092), marks=requires("cifar100")),
        pytest.param("cifar10", (0.49140, 0.48216, 0.44653), marks=requires("cifar10")),
    ],
)
def test_real_cifar_has_its_counts_and_means(name, means):
    train, test = (data.load(name, part) for part in ("train", "test"))
    classes = len(train.class_names)
    assert np.bincount(train.y).tolist() == [50_000 // classes] * classes
    assert np.bincount(test.y).tolist() == [10_000 // classes] * classes
    assert np.round(train.x.mean(axis=(0, 2, 3)) / 255, 5).tolist() == list(means)
    for split in (train, test):
        assert split.x.shape[1:] == (3, 32, 32) and len(set(split.ids.tolist())) == len(split.y)
        assert (split.ids[1:] > split.ids[:-1]).all()


# -------------------------------------------------------------------------------------------------- handwritten digits


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


def test_without_scikit_learn_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match="scikit-learn"):
        data.load("digits", "train")
