"""Image files that are decoded when they are indexed: pixels, crops, order, errors that name the file, threads."""

import gc
import io
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from kdlib.data import stream
from kdlib.data.stream import Images, random_crop
from kdlib.errors import DataError


def smooth(width, height, seed=0):
    """A picture without sharp edges, which JPEG and resizing hardly change."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def saved(folder, pictures, suffix="png", **options):
    paths = [folder / f"{i:03d}.{suffix}" for i in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path, **options)
    return paths


def chw(picture):
    return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Forty pictures of 8 x 8 pixels, their files and what is in them."""
    pictures = [Image.fromarray(a) for a in np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)]
    return Images(saved(tmp_path_factory.mktemp("small"), pictures), 8), np.stack([chw(p) for p in pictures])


@pytest.mark.parametrize(
    "index", [3, np.array([5, 0, 5]), [1, 39], slice(2, 30), slice(None), np.arange(40) % 7 == 0, np.array([], int)]
)
def test_it_is_indexed_as_an_array_is(small, index):
    images, array = small
    assert images.shape == array.shape and len(images) == 40 and images.dtype == np.uint8
    assert images[index].shape == array[index].shape and (images[index] == array[index]).all()


def test_the_center_of_the_longer_side_counts(tmp_path):
    wide = np.zeros((4, 10, 3), np.uint8)
    wide[:, 3:7] = 200  # the central four columns
    images = Images(saved(tmp_path, [Image.fromarray(wide), Image.fromarray(wide.swapaxes(0, 1))]), 4)
    assert (images[:] == 200).all()


def test_a_box_is_cut_out_before_anything_else(tmp_path):
    picture = smooth(178, 218)
    images = Images(saved(tmp_path, [picture]), 178, box=(0, 34, 178, 212))
    assert (images[0] == chw(picture)[:, 34:212]).all()
    half = Images(images.paths, 89, box=(0, 34, 178, 212))[0].astype(int)
    expected = picture.crop((0, 34, 178, 212)).resize((89, 89), Image.Resampling.BILINEAR)
    assert np.abs(half - chw(expected)).max() <= 1


def test_the_shorter_side_can_be_longer_than_what_is_cut_out(tmp_path):
    picture = smooth(256, 256)
    images = Images(saved(tmp_path, [picture]), 224, shorter=256)
    assert (images[0] == chw(picture)[:, 16:240, 16:240]).all()


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "png"), ("P", "png"), ("RGBA", "png"), ("CMYK", "jpg"), ("L", "jpg")]
)
def test_every_mode_becomes_three_channels(tmp_path, mode, suffix):
    picture = smooth(8, 8).convert(mode)
    (path,) = saved(tmp_path, [picture], suffix)
    assert (Images([path], 8)[0] == chw(Image.open(path))).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_both_decoders_of_jpegs_give_the_same_pixels(tmp_path, monkeypatch, mode):
    paths = saved(tmp_path, [smooth(178, 218, seed).convert(mode) for seed in range(3)], "jpg", quality=90)
    assert stream.jpeg_decoder() is not None
    fast = Images(paths, 64)[:]
    monkeypatch.setattr(stream, "jpeg_decoder", lambda: None)
    assert (Images(paths, 64)[:] == fast).all()


@pytest.mark.parametrize(("suffix", "byte_order"), [("png", "<"), ("tif", "<"), ("tif", ">")])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, suffix, byte_order):
    values = np.array([[0, 128, 129, 1000], [32768, 65406, 65407, 65535]])
    kind = "PNG" if suffix == "png" else "TIFF"
    Image.fromarray(values.astype(np.uint16).astype(f"{byte_order}u2")).save(tmp_path / f"a.{suffix}", kind)
    read = stream._read(tmp_path / f"a.{suffix}")
    assert read[..., 0].tolist() == [[0, 0, 1, 4], [128, 254, 255, 255]] and (read == read[..., :1]).all()


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_pixels_of_an_unknown_range_are_refused(tmp_path, kind):
    Image.fromarray(np.full((4, 4), 70_000, kind)).save(tmp_path / "deep.tif")
    with pytest.raises(DataError, match="deep.tif"):
        Images([tmp_path / "deep.tif"], 4)[0]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_exif_data_is_applied(tmp_path, monkeypatch, orientation, suffix, fast):
    if not fast:
        monkeypatch.setattr(stream, "jpeg_decoder", lambda: None)
    stored, exif = np.zeros((8, 8, 3), np.uint8), Image.Exif()
    stored[:4, :4, 0], stored[:4, 4:, 1] = 250, 250  # red at the top left, green at the top right
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(stored).save(path, exif=exif, **({} if suffix == "png" else {"quality": 100}))
    # where red and green come to lie, by the standard's table: (row, column) of the corners
    red, green = {
        1: ((1, 1), (1, 6)),
        2: ((1, 6), (1, 1)),
        3: ((6, 6), (6, 1)),
        4: ((6, 1), (6, 6)),
        5: ((1, 1), (6, 1)),
        6: ((1, 6), (6, 6)),
        7: ((6, 6), (1, 6)),
        8: ((6, 1), (1, 1)),
    }[orientation]
    seen = stream._read(path)
    assert seen[red][0] > 150 > seen[red][1] and seen[green][1] > 150 > seen[green][0]


def test_a_jpeg_is_resized_as_pil_does(tmp_path):
    (path,) = saved(tmp_path, [smooth(218, 178)], "jpg", quality=90)
    expected = Image.open(path).crop((20, 0, 198, 178)).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.abs(Images([path], 64)[0] - chw(expected).astype(int)).max() <= 1


# -------------------------------------------------------------------------------------------------------------- crops


def crops_of(images, index, seeds, **options):
    return next(images.prefetched([(index, seeds)], **options))


def test_crops_depend_on_image_and_seed_alone(small):
    images, _ = small
    index, seeds = np.array([3, 7, 3]), np.array([10, 10, 11])
    crops = crops_of(images, index, seeds)
    assert crops.shape == (3, 3, 8, 8) and (crops[0] != crops[2]).any()
    assert (crops_of(images, index[::-1], seeds[::-1])[::-1] == crops).all()
    assert (crops_of(images, np.array([7]), np.array([10]))[0] == crops[1]).all()


def test_a_crop_is_cut_out_and_resized(tmp_path):
    from random import Random

    picture = smooth(60, 50)
    (path,) = saved(tmp_path, [picture])
    x, y, w, h = random_crop(60, 50, Random(5))
    expected = picture.crop((x, y, x + w, y + h)).resize((16, 16), Image.Resampling.BILINEAR)
    assert (w, h) != (60, 50)
    crop = crops_of(Images([path], 16), np.array([0]), np.array([5]))[0].astype(int)
    assert np.abs(crop - chw(expected)).max() <= 1


def test_half_of_the_crops_are_mirrored_where_asked(small):
    images, _ = small
    index, seeds = np.zeros(400, int), np.arange(400)
    plain, flipped = crops_of(images, index, seeds), crops_of(images, index, seeds, flip=True)
    mirrored = (flipped == plain[..., ::-1]).all(axis=(1, 2, 3))
    assert ((flipped == plain).all(axis=(1, 2, 3)) | mirrored).all() and 150 < mirrored.sum() < 250
    assert (crops_of(images, index, seeds, flip=True) == flipped).all()


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**62))
def test_a_crop_lies_in_its_image(width, height, seed):
    from random import Random

    x, y, w, h = random_crop(width, height, Random(seed))
    assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= width and y + h <= height


def test_crops_are_distributed_as_torchvisions():
    from random import Random

    import torch
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    blank = torch.zeros(3, 150, 200)
    theirs = [RandomResizedCrop.get_params(blank, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(1500)]
    ours = np.array([random_crop(200, 150, Random(seed)) for seed in range(1500)])
    theirs = np.array(theirs)[:, [1, 0, 3, 2]]  # top, left, height, width
    assert np.abs(ours.mean(axis=0) - theirs.mean(axis=0)).max() < 6
    assert np.abs(ours.std(axis=0) - theirs.std(axis=0)).max() < 4


@pytest.mark.parametrize(("width", "height", "crop"), [(100, 10, (43, 0, 13, 10)), (10, 100, (0, 43, 10, 13))])
def test_an_image_too_long_for_a_crop_gives_its_center(width, height, crop):
    class Largest:
        def uniform(self, least, most):
            return most

    assert random_crop(width, height, Largest()) == crop


# --------------------------------------------------------------------------------------------------------- prefetching


def test_batches_come_in_their_order_and_are_read_no_further_than_ahead(small, monkeypatch):
    monkeypatch.setattr(stream, "AHEAD", 2)
    images, array = small
    read = []

    def batches():
        for i in range(0, 40, 4):
            read.append(i)
            yield np.arange(i, i + 4), np.arange(4) if i == 8 else None

    got = images.prefetched(batches())
    assert (next(got) == array[:4]).all() and len(read) == 3
    assert (next(got) == array[4:8]).all() and len(read) == 4
    assert (next(got) == crops_of(images, np.arange(8, 12), np.arange(4))).all()
    assert (np.concatenate(list(got)) == array[12:]).all()
    assert list(images.prefetched([])) == []


def threads_end():
    for _ in range(200):
        if not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("stop", ["close", "forget"])
def test_threads_end_when_nobody_asks_any_more(small, stop):
    images, _ = small
    got = images.prefetched((np.arange(40), None) for _ in range(100))
    next(got)
    if stop == "close":
        got.close()
    del got
    gc.collect()
    assert threads_end()


def truncated(folder):
    content = io.BytesIO()
    smooth(100, 100).save(content, "JPEG")
    (folder / "half.jpg").write_bytes(content.getvalue()[:600])
    return folder / "half.jpg"


def test_a_file_that_does_not_decode_is_named_when_its_turn_comes(small, tmp_path):
    images = Images([*small[0].paths[:6], truncated(tmp_path)], 8)
    got = images.prefetched([(np.array([0, 1]), None), (np.array([2, 6]), None), (np.array([3]), None)])
    assert next(got).shape == (2, 3, 8, 8)
    with pytest.raises(DataError, match="half.jpg"):
        next(got)
    assert threads_end()


@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html>", b"\x89PNG\r\n\x1a\n" + bytes(50), b"\xff\xd8\xff" + bytes(99)]
)
def test_garbage_is_named(tmp_path, content):
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(DataError, match="bad.jpg"):
        Images([tmp_path / "bad.jpg"], 8)[0]
    with pytest.raises(DataError, match="the picture 'a'"):
        Images([content], 8, names=["the picture 'a'"])[0]


def claiming(kind, side):
    """A file of a few hundred bytes that says it is side x side pixels."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind)
    content = bytearray(file.getvalue())
    if kind == "JPEG":
        start = content.index(b"\xff\xc0") + 5
        content[start : start + 4] = struct.pack(">HH", side, side)
    else:
        content[16:24] = struct.pack(">II", side, side)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("side, told", [(8_193, "8193 x 8193 pixels"), (65_500, ".4290250000 pixels")])
def test_a_file_that_claims_more_pixels_than_memory_is_not_decoded(monkeypatch, kind, side, told):
    def load(image):
        raise AssertionError("decoded")

    monkeypatch.setattr(stream, "jpeg_decoder", lambda: load)
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(DataError, match=f"the picture.* {told}"):
        Images([claiming(kind, side)], 8, names=["the picture"])[0]
    with pytest.raises(DataError, match="decoded"):
        Images([claiming(kind, 8_192)], 8, names=["the picture"])[0]


def test_a_missing_file_and_a_box_that_does_not_fit_are_named(small, tmp_path):
    with pytest.raises(DataError, match="gone.png"):
        Images([tmp_path / "gone.png"], 8)[0]
    with pytest.raises(DataError, match="000.png .*8 x 8"):
        Images(small[0].paths, 8, box=(0, 0, 9, 9))[0]


def test_bytes_are_read_as_files_are(small):
    images, array = small
    assert (Images([path.read_bytes() for path in images.paths[:3]], 8)[:] == array[:3]).all()
