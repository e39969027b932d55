"""Anyone's own data: the three formats, the fingerprint that keeps two contents apart, errors that say what to mend."""

import hashlib
import io
import itertools
import os
import re
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kdlib import data
from kdlib.data import own, vision
from kdlib.data.stream import Images
from kdlib.errors import DataError, InvalidInput

X = np.random.default_rng(0).integers(0, 256, (18, 8, 8, 3), np.uint8)
LABELS = np.arange(18) % 3
SECOND = itertools.count(0, 10**9)
PARTS = {"train": slice(0, 12), "test": slice(12, 18)}


def arrays(**changed):
    """What a whole npz holds; a change to None leaves an array out."""
    whole = {"class_names": np.array(["cat", "ant", "bee"])}
    for part, rows in PARTS.items():
        whole |= {f"{part}_x": X[rows], f"{part}_y": LABELS[rows]}
        whole |= {f"{part}_id": [f"{part}{i:02d}" for i in range(18)[rows]][::-1]}
        whole |= {f"{part}_group_size": np.where(LABELS[rows] > 1, "large", "small")}
    return {key: value for key, value in (whole | changed).items() if value is not None}


def npz(root, **changed):
    (root / "pets").mkdir(exist_ok=True)
    np.savez(root / "pets/pets.npz", **arrays(**changed))
    os.utime(root / "pets/pets.npz", ns=(0, next(SECOND)))  # two written within the clock's resolution differ in time


def encoded(image):
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return content.getvalue()


def parquet(root, **changed):
    (root / "pets").mkdir(exist_ok=True)
    for part, rows in PARTS.items():
        columns = {"image": [encoded(x) for x in X[rows]], "label": np.array(["cat", "ant", "bee"])[LABELS[rows]]}
        columns |= {"id": [f"{part}{i}" for i in range(18)[rows]], "age": np.arange(18)[rows]} | changed
        table = pd.DataFrame({key: value for key, value in columns.items() if value is not None})
        table.to_parquet(root / f"pets/{part}.parquet")


def folders(root):
    for part, rows in PARTS.items():
        for i in range(18)[rows]:
            path = root / "pets" / part / ["cat", "ant", "bee"][LABELS[i]] / f"{i:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(X[i]).save(path)


def load(root, part="train", **options):
    """A part, with the fingerprint that the error without one says."""
    options = {"name": "pets", "image_size": 8} | options
    with pytest.raises(InvalidInput, match="fingerprint ''") as error:
        data.load("own", part, root=root, **options)
    right = str(error.value).split('fingerprint: "')[1][:16]
    return data.load("own", part, root=root, fingerprint=right, **options), right


def chw(image):
    return image.transpose(2, 0, 1)


def test_an_npz_with_ids_groups_and_names(tmp_path):
    npz(tmp_path)
    train, print_ = load(tmp_path)
    test, same = load(tmp_path, "test")
    assert print_ == same and len(print_) == 16
    assert train.ids.tolist() == [f"train{i:02d}" for i in range(12)] and len(test.ids) == 6
    assert (train.x == X[:12][::-1].transpose(0, 3, 1, 2)).all() and train.x.flags.c_contiguous
    assert (train.y == LABELS[:12][::-1]).all() and train.y.dtype == np.int64
    assert train.class_names == ("cat", "ant", "bee")
    assert train.groups["size"].tolist() == np.where(train.y > 1, "large", "small").tolist()


def test_an_npz_without_them(tmp_path):
    npz(tmp_path, **dict.fromkeys([k for k in arrays() if k.endswith(("id", "size", "names"))]))
    split, _ = load(tmp_path, image_size=4)
    ids = vision.content_ids(np.ascontiguousarray(X[:12].transpose(0, 3, 1, 2)), LABELS[:12])
    assert split.ids.tolist() == sorted(ids) and split.class_names == ("0", "1", "2") and split.groups == {}
    assert (split.x == vision.reduce(X[:12].transpose(0, 3, 1, 2), 4)[np.argsort(ids)]).all()


def test_gray_images_get_three_equal_channels(tmp_path):
    npz(tmp_path, train_x=X[:12, ..., 0], test_x=X[12:, ..., 0])
    split, _ = load(tmp_path)
    assert split.x.shape == (12, 3, 8, 8) and (split.x[::-1] == X[:12, None, :, :, 0]).all()


@pytest.mark.parametrize("wrapped", [False, True])
def test_parquet(tmp_path, wrapped):
    parquet(tmp_path)
    if wrapped:  # as Hugging Face's data sets keep images
        for part in PARTS:
            table = pd.read_parquet(tmp_path / f"pets/{part}.parquet")
            table["image"] = [{"bytes": content, "path": None} for content in table.image]
            table.to_parquet(tmp_path / f"pets/{part}.parquet")
    test, _ = load(tmp_path, "test")
    assert test.ids.tolist() == [f"test{i}" for i in range(12, 18)] and test.class_names == ("ant", "bee", "cat")
    assert [test.class_names[c] for c in test.y] == ["cat", "ant", "bee"] * 2
    assert (test.x == X[12:].transpose(0, 3, 1, 2)).all() and test.groups["age"].tolist() == list(
        ["12", "13", "14", "15", "16", "17"]
    )


def test_parquet_without_ids_takes_the_hash_of_each_image(tmp_path):
    parquet(tmp_path, id=None, age=None)
    split, _ = load(tmp_path)
    assert split.ids[0] == min(hashlib.sha256(encoded(x)).hexdigest()[:16] for x in X[:12]) and split.groups == {}


def test_folders_of_images(tmp_path, monkeypatch):
    folders(tmp_path)
    (tmp_path / "pets/train/ant/.DS_Store").write_text("hidden")
    split, print_ = load(tmp_path)
    assert split.ids.tolist()[:5] == ["ant/01.png", "ant/04.png", "ant/07.png", "ant/10.png", "bee/02.png"]
    assert split.class_names == ("ant", "bee", "cat") and (split.x[0] == chw(X[1])).all()
    assert load(tmp_path, image_size=4)[1] == print_
    monkeypatch.setattr(own, "IN_MEMORY", 10)
    streamed, same = load(tmp_path, image_size=2)
    assert isinstance(streamed.x, Images) and streamed.x.shape == (12, 3, 2, 2) and same == print_
    assert (streamed.x[:] == Images(sorted((tmp_path / "pets/train").glob("*/*.png")), 2)[:]).all()


def test_a_validation_part_in_every_format(tmp_path):
    """Without one the part is empty, and the fingerprint that of before."""
    npz(tmp_path)
    before, none = load(tmp_path)[1], load(tmp_path, "validation")[0]
    assert none.x.shape == (0, 3, 8, 8) and len(none.ids) == len(none.y) == len(none.groups["size"]) == 0
    assert none.class_names == ("cat", "ant", "bee")
    more = {f"validation_{key}": value for key, value in (("x", 255 - X[:6]), ("y", LABELS[:6]))}
    npz(tmp_path, **more, validation_group_size=np.where(LABELS[:6] > 1, "large", "small"))
    split, after = load(tmp_path, "validation")
    assert len(split.y) == 6 and after != before and {*split.x[:, 0, 0, 0]} == {*(255 - X[:6])[:, 0, 0, 0]}
    npz(tmp_path, **more)
    refused(tmp_path, r"groups of train are \['size'\] and those of validation \[\]")
    npz(tmp_path, validation_x=X[12:], validation_y=LABELS[12:], validation_group_size=LABELS[12:])
    refused(tmp_path, r"the test image 'test1[2-7]' is the validation image")

    (tmp_path / "pets/pets.npz").unlink()
    parquet(tmp_path)
    table = pd.DataFrame({"image": [encoded(255 - x) for x in X[:3]], "label": ["cat", "ant", "bee"], "age": 1})
    table.to_parquet(tmp_path / "pets/validation.parquet")
    assert len(load(tmp_path, "validation")[0].y) == 3 and len(load(tmp_path, "test")[0].y) == 6
    for path in (tmp_path / "pets").glob("*.parquet"):
        path.unlink()

    folders(tmp_path)
    assert load(tmp_path, "validation")[0].x.shape == (0, 3, 8, 8)
    for name, x in zip(("ant", "bee", "cat"), 255 - X, strict=False):
        (tmp_path / "pets/validation" / name).mkdir(parents=True)
        Image.fromarray(x).save(tmp_path / "pets/validation" / name / "1.png")
    assert load(tmp_path, "validation")[0].ids.tolist() == ["ant/1.png", "bee/1.png", "cat/1.png"]
    (tmp_path / "pets/validation/cat/1.png").unlink()
    (tmp_path / "pets/validation/cat").rmdir()
    refused(tmp_path, "validation has no image with the label 'cat', and train has")


def test_train_images_takes_of_every_class_its_share(tmp_path):
    y = np.array([0] * 6 + [1] * 4 + [2] * 2)
    npz(tmp_path, train_y=y)
    whole, print_ = load(tmp_path)
    split, same = load(tmp_path, train_images=6)
    assert np.bincount(split.y).tolist() == [3, 2, 1] and same == print_ and len(load(tmp_path, "test")[0].y) == 6
    place = {i: n for n, i in enumerate(whole.ids.tolist())}
    rows = [place[i] for i in split.ids.tolist()]
    assert rows == sorted(rows) and (split.x == whole.x[rows]).all() and (split.y == whole.y[rows]).all()
    assert (split.groups["size"] == whole.groups["size"][rows]).all()
    npz(tmp_path, **{f"train_{key}": arrays(train_y=y)[f"train_{key}"][::-1] for key in ("x", "y", "id", "group_size")})
    assert load(tmp_path, train_images=6)[0].ids.tolist() == split.ids.tolist(), "not a matter of order"
    fewer = load(tmp_path, train_images=5)[0].ids.tolist()
    assert {*fewer} < {*split.ids.tolist()}
    for n, message in ((13, "there are 12; take fewer"), (2, "leaves none of 'bee'; take more")):
        with pytest.raises(InvalidInput, match=message):
            data.load("own", "train", root=tmp_path, name="pets", image_size=8, fingerprint=print_, train_images=n)


CHANGES = [
    {"train_x": X[:12] ^ np.eye(1, 12, 3, dtype=np.uint8)[0][:, None, None, None]},
    {"test_y": LABELS[12:][::-1].copy()},
    {"train_group_size": np.array(["small"] * 12)},
    {"test_id": np.array([f"x{i}" for i in range(6)])},
    {"class_names": np.array(["cat", "bee", "ant"])},
]


def test_other_content_has_another_fingerprint_and_rows_in_another_order_the_same(tmp_path):
    npz(tmp_path)
    found = [load(tmp_path)[1]]
    for change in CHANGES:
        npz(tmp_path, **change)
        found.append(load(tmp_path)[1])
    assert len(set(found)) == len(CHANGES) + 1
    npz(tmp_path, **{key: value[::-1] for key, value in arrays().items() if key.startswith("test")})
    assert load(tmp_path)[1] == found[0]


def test_a_fingerprint_of_other_data_is_refused(tmp_path):
    npz(tmp_path)
    _, before = load(tmp_path)
    npz(tmp_path, **CHANGES[0])
    with pytest.raises(InvalidInput, match=before):
        data.load("own", "test", root=tmp_path, name="pets", image_size=8, fingerprint=before)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/tmp", 5])
def test_a_name_is_that_of_a_folder(tmp_path, name):
    with pytest.raises(InvalidInput, match=f"name.* {re.escape(repr(name))}"):
        data.load("own", "train", root=tmp_path, name=name)


def refused(root, message):
    with pytest.raises(DataError, match=message):
        data.load("own", "train", root=root, name="pets", image_size=8)


def test_what_is_missing_is_named(tmp_path):
    refused(tmp_path, "pets")
    (tmp_path / "pets").mkdir()
    refused(tmp_path, r"pets\.npz")
    parquet(tmp_path)
    (tmp_path / "pets/test.parquet").unlink()
    refused(tmp_path, r"test\.parquet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_y": None}, "'test_y'"),
        ({"train_colour": np.zeros(12)}, "'train_colour'"),
        ({"train_x": X[:12].astype(float)}, r"train_x .*float64"),
        ({"train_x": X[:12, :4]}, r"train_x .*\(12, 4, 8, 3\)"),
        ({"test_x": X[12:, :4, :4]}, r"\(3, 8, 8\) .*\(3, 4, 4\)"),
        ({"train_y": LABELS[:11]}, r"label .*\(11,\)"),
        ({"train_group_size": np.zeros((12, 2))}, r"size .*\(12, 2\)"),
        ({"test_group_size": None}, r"\['size'\] .*\[\]"),
        ({"test_x": X[:0], "test_y": LABELS[:0]}, "test: 0 images"),
        ({"train_y": LABELS[:12] / 2}, "float64"),
        ({"test_y": np.array([0, 1, 0, 1, 0, 1])}, "test .* 2"),
        ({"train_y": np.array([1, 2] * 6)}, "train .* 0"),
        (
            {"train_y": LABELS[:12] + 1, "test_y": LABELS[12:] + 1},
            r"\[1, 2, 3\]",
        ),
        ({"class_names": np.array(["a", "b"])}, r"\[0, 1, 2\]"),
        ({"train_id": np.array(["same"] * 12)}, "the id 'same'"),
        ({"train_y": np.array([{}] * 12)}, r"pets\.npz"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, change, message):
    npz(tmp_path, **change)
    refused(tmp_path, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": None}, r"train\.parquet .*'label'"),
        ({"image": "a.png"}, "row 0 .*'image'"),
        ({"age": None, "sex": pd.NA}, "'sex'"),
        ({"label": 0.5}, "float64"),
        ({"id": "same"}, "the id 'same'"),
    ],
)
def test_tables_that_do_not_fit_are_named(tmp_path, change, message):
    parquet(tmp_path, **change)
    refused(tmp_path, message)


def test_a_table_with_a_damaged_image(tmp_path):
    parquet(tmp_path)
    table = pd.read_parquet(tmp_path / "pets/train.parquet")
    table.loc[3, "image"] = b"\xff\xd8 half"
    table.to_parquet(tmp_path / "pets/train.parquet")
    refused(tmp_path, "'train3'")


def test_a_folder_with_a_damaged_image_or_an_empty_part(tmp_path):
    folders(tmp_path)
    (tmp_path / "pets/train/bee/02.png").write_bytes(b"<html>")
    refused(tmp_path, r"bee/02\.png")
    for path in (tmp_path / "pets/test").glob("*/*"):
        path.unlink()
    refused(tmp_path, "pets/test/ant")


@pytest.mark.parametrize(
    "name", ["train/ant/notes.txt", "test/bee/1.tiff", "train/ant/more/1.png", "test/emu/1.gif", "train/loose.png"]
)
def test_files_that_would_vanish_from_folders_are_named(tmp_path, name):
    folders(tmp_path)
    path = tmp_path / "pets" / name
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(X[0]).save(path, "PNG")
    refused(tmp_path, "more" if "more" in name else re.escape(str(path)))


def test_a_class_without_images_is_named(tmp_path):
    folders(tmp_path)
    (tmp_path / "pets/test/emu").mkdir()
    refused(tmp_path, re.escape(str(tmp_path / "pets/test/emu")))


def renamed(root):
    for part in PARTS:
        os.rename(root / f"pets/{part}/cat", root / f"pets/{part}/cow")


def replaced(root):
    """A copy of the same size that keeps the time, as `cp -p` and rsync make it."""
    path = root / "pets/train/ant/01.png"
    was, content = path.stat(), encoded(255 - X[1])
    time.sleep(0.02)  # the clock of the file system has moved on
    path.write_bytes(content.ljust(was.st_size, b"x")[: max(was.st_size, len(content))])
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


@pytest.mark.parametrize("change", [renamed, replaced])
def test_what_was_prepared_is_not_taken_for_other_folders(tmp_path, change):
    folders(tmp_path)
    before, fingerprint = load(tmp_path)
    change(tmp_path)
    after, now = load(tmp_path)
    names = [after.class_names[y] for y in after.y]
    assert now != fingerprint and names == [i.split("/")[0] for i in after.ids]
    assert sorted(after.ids) == sorted(f"{p.parent.name}/{p.name}" for p in tmp_path.glob("pets/train/*/*.png"))


@pytest.mark.parametrize("column", ["train_id", "train_group_size"])
def test_bytes_are_no_text(tmp_path, column):
    npz(tmp_path, **{column: np.array([f"caf\xe9 {i}".encode("latin-1") for i in range(12)])})
    refused(tmp_path, "bytes")


def test_labels_of_any_width_and_order_of_bytes_count_alike(tmp_path):
    npz(tmp_path)
    right = load(tmp_path)
    npz(tmp_path, train_y=LABELS[:12].astype(">i4"), train_id=None, test_y=LABELS[12:].astype(np.uint64), test_id=None)
    assert sorted(load(tmp_path)[0].y) == sorted(right[0].y)


def test_a_pipe_is_no_image(tmp_path):
    folders(tmp_path)
    os.mkfifo(tmp_path / "pets/train/ant/pipe.png")
    with pytest.raises(DataError, match="pipe.png"):
        load(tmp_path)


def test_links_are_what_they_point_to(tmp_path):
    folders(tmp_path)
    _, right = load(tmp_path)
    (tmp_path / "pets/train/ant").rename(tmp_path / "elsewhere")
    (tmp_path / "pets/train/ant").symlink_to(tmp_path / "elsewhere")
    assert load(tmp_path)[1] == right
    (tmp_path / "elsewhere/01.png").rename(tmp_path / "gone.png")
    (tmp_path / "elsewhere/01.png").symlink_to(tmp_path / "nowhere")
    refused(tmp_path, r"ant/01\.png")


def test_an_image_in_both_parts_is_named(tmp_path):
    folders(tmp_path)
    (tmp_path / "pets/test/bee/twin.png").write_bytes((tmp_path / "pets/train/ant/01.png").read_bytes())
    refused(tmp_path, r"bee/twin\.png.*ant/01\.png")


@pytest.mark.parametrize("write", ["npz", "parquet"])
def test_an_image_in_both_parts_of_arrays_and_tables_is_named(tmp_path, write, monkeypatch):
    images = X.copy()
    images[13] = images[2]
    monkeypatch.setitem(globals(), "X", images)
    globals()[write](tmp_path)
    refused(tmp_path, "test1[36].*train0?[29]")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from([b"", b"PK\x03\x04", b"PAR1", b"\x93NUMPY", b"MATLAB 5.0 MAT-file"]))
def test_any_bytes_raise_our_own_error(tmp_path, content, start):
    path = tmp_path / "some.bin"
    path.write_bytes(start + content)
    for read in (
        lambda: vision.read_npz(path, dataset="own"),
        lambda: own._read_parquet(path),
        lambda: vision._read_svhn(path),
    ):
        with pytest.raises(DataError, match="some.bin"):
            read()
