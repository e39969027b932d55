"""Image files that are decoded when they are indexed, by threads: decoding and resizing hold no lock of Python's."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from kdlib import places
from kdlib.errors import DataError

Box = tuple[int, int, int, int]  # in pixels of the file

AHEAD = 4  # batches
CHUNK = 16  # images that a thread decodes before it asks for more: few enough to stop soon
MOST_PIXELS = 2**26  # of a file: a few bytes may claim 65,500 x 65,500, and every core's decoder takes that memory
JPEG, RGB = b"\xff\xd8", 3  # what a JPEG starts with; torchvision's number of the mode
CROP_SCALE, CROP_RATIO, CROP_TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10


class Images:
    """N image files as (N, 3, size, size) uint8 that are read when they are needed.

    paths    (N,) of image files, or their bytes; gray ones get three equal channels
    size     side of the images that come out, in pixels
    box      left, upper, right, lower: the part of every file that counts, in its pixels; by default all of it
    shorter  the shorter side is resized to this many pixels and the central size x size are cut out; `size` by default,
             so that nothing is lost of the shorter side
    names    (N,) what errors call them; their paths by default
    `x[index]` takes what an array takes for its first axis. Whatever reads raises DataError, naming the file, where one
    is missing or does not decode.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        paths: Sequence[str | Path | bytes],
        size: int,
        *,
        box: Box | None = None,
        shorter: int | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.paths, self.size, self.box, self.share = paths, size, box, size / (shorter or size)
        self.names = paths if names is None else names

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self), 3, self.size, self.size)

    def __getitem__(self, index: Any) -> np.ndarray:
        where = np.arange(len(self))[index]
        read = next(self.prefetched([(np.atleast_1d(where), None)]))
        return read.reshape(*np.shape(where), *self.shape[1:])

    def prefetched(
        self, batches: Iterable[tuple[np.ndarray, np.ndarray | None]], *, flip: bool = False
    ) -> Iterator[np.ndarray]:
        """One array (B, 3, size, size) per batch (index (B,), seeds (B,) or None): `x[index]` where it has no seeds.

        With seeds, random resized crops: the same seed gives the same one. A crop has 0.08 .. 1 of the image's area and
        a ratio of 3/4 .. 4/3 (Szegedy et al. 2015, as in torchvision); with `flip` every second one is mirrored.
        At most AHEAD batches are decoded before they are asked for; `batches` is read no further either. Stops its
        threads when it is exhausted, closed or forgotten.
        """
        waiting: deque[tuple[np.ndarray, list[Future]]] = deque()
        with ThreadPoolExecutor(places.cores()) as pool:
            try:
                for index, seeds in batches:
                    out, starts = np.empty((len(index), *self.shape[1:]), np.uint8), range(0, len(index), CHUNK)
                    fill = partial(pool.submit, self._fill, out, index, seeds, flip)
                    waiting.append((out, [fill(slice(start, start + CHUNK)) for start in starts]))
                    if len(waiting) > AHEAD:
                        yield _finished(*waiting.popleft())
                while waiting:
                    yield _finished(*waiting.popleft())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _fill(self, out: np.ndarray, index: np.ndarray, seeds: np.ndarray | None, flip: bool, rows: slice) -> None:
        draws = [None] * len(index[rows]) if seeds is None else [Random(int(seed)) for seed in seeds[rows]]
        for image, i, draw in zip(out[rows], index[rows], draws, strict=True):
            pixels = self._decoded(i, draw)
            mirrored = flip and draw is not None and draw.random() < 0.5
            image[:] = pixels[:, :, ::-1] if mirrored else pixels

    def _decoded(self, i: int, draw: Random | None) -> np.ndarray:
        """(3, size, size) uint8: the center of the box, or the random crop of it that `draw` gives."""
        import torch
        from torch.nn.functional import interpolate

        try:
            image = _read(self.paths[i])
            height, width, _ = image.shape
            left, upper, right, lower = self.box or (0, 0, width, height)
            if right > width or lower > height:
                raise ValueError(f"{width} x {height} pixels do not hold the box {self.box}")
            size = right - left, lower - upper
            x, y, w, h = random_crop(*size, draw) if draw else center(*size, self.share)
            # contiguous, or torch would copy it with threads of its own beside these
            part = np.ascontiguousarray(image[upper + y : upper + y + h, left + x : left + x + w])
            planes = torch.from_numpy(part).permute(2, 0, 1)[None]
            return interpolate(planes, size=(self.size, self.size), mode="bilinear", antialias=True)[0].numpy()
        except FileNotFoundError as error:
            raise DataError(f"{self.names[i]} is missing. Put the data set there again, whole.") from error
        except Exception as error:  # a damaged file makes the decoders raise nearly everything
            why = str(error).rstrip(".")
            raise DataError(f"{self.names[i]} does not decode: {why}. Replace it by a whole image.") from error


def _read(source: str | Path | bytes) -> np.ndarray:
    """(H, W, 3) uint8, the way up that its EXIF data say; 16 bits are scaled to 8.

    A JPEG comes from torchvision's decoder where it has one, else it is PIL's: equal pixels. torchvision's takes two
    thirds of the time and leaves Python's lock alone; since 0.29 it is moving to torchcodec.
    Raises ValueError for other depths, and before anything is decoded for a file that claims more than MOST_PIXELS.
    """
    import torch
    from PIL import Image, ImageOps

    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    with Image.open(BytesIO(content)) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"it claims {image.width} x {image.height} pixels, more than {MOST_PIXELS:,}: shrink it")
        if content.startswith(JPEG) and (decode := jpeg_decoder()):
            return decode(torch.frombuffer(bytearray(content), dtype=torch.uint8), RGB, True).permute(1, 2, 0).numpy()
        upright = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG"):
            gray = (np.asarray(upright).astype(np.uint32) + 128) // 257  # 65,535 -> 255
            return gray.astype(np.uint8)[..., None].repeat(3, axis=-1)
        if image.mode in ("I", "F"):
            raise ValueError(f"the range of its pixels, of PIL's mode {image.mode!r}, is not known: give 8 or 16 bits")
        return np.array(upright.convert("RGB"))


@cache
def jpeg_decoder() -> Callable[..., Any] | None:
    """torchvision's operator below its `decode_jpeg`, which warns at every call; None where there is none."""
    try:
        import torch
        import torchvision.io  # noqa: F401  # registers the operator

        return torch.ops.image.decode_jpeg
    except (ImportError, AttributeError):
        return None


def center(width: int, height: int, share: float) -> Box:
    """x, y, width, height of the square in the center whose side is `share` of the shorter side."""
    side = max(1, round(min(width, height) * share))
    return (width - side) // 2, (height - side) // 2, side, side


def random_crop(width: int, height: int, draw: Random) -> Box:
    """x, y, width, height of a random crop of an image: area and log of the ratio are uniform.

    Where ten tries give none that fits: the largest one in the center with a ratio in range.
    """
    least, most = (math.log(ratio) for ratio in CROP_RATIO)
    for _ in range(CROP_TRIES):
        area = width * height * draw.uniform(*CROP_SCALE)
        ratio = math.exp(draw.uniform(least, most))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(draw.random() * (width - w + 1)), int(draw.random() * (height - h + 1)), w, h
    w, h = min(width, round(height * CROP_RATIO[1])), min(height, round(width / CROP_RATIO[0]))
    return (width - w) // 2, (height - h) // 2, w, h


def _finished(out: np.ndarray, parts: list[Future]) -> np.ndarray:
    for part in parts:
        part.result()
    return out
