"""A data set as training sees it: labels on the device, and batches of samples in the views that augmentation makes.

Three kinds, by what they hold, with one surface: `count`, `input`, `forward_batch`, `feed`. Images that
fit stay on the device as uint8 (`Views`); large data sets are decoded ahead of the training loop (`Streamed`); text is
a table of token numbers (`Texts`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.data import Split
from kdlib.errors import InvalidInput

FORWARD_PIXELS = {"cpu": 2**16, "cuda": 2**24}  # a forward pass at a time: what a processor's caches like, or a GPU
FORWARD_IMAGES = {"cpu": 500, "cuda": 4096}  # at most
FORWARD_TEXTS = {"cpu": 64, "cuda": 1024}
SEEDS = 2**62  # of random resized crops: too many views for a table
SAMPLED = 5000  # images that tell a streamed data set's channel means

Batch = tuple[np.ndarray, np.ndarray]  # index (B,), view of each (B,)


@dataclass(frozen=True)
class Views:
    """A split on the device, and every view of an image that augmentation can make of it.

    With crop padding p there are (2p + 1)^2 positions, twice that with flip; view = (dy * (2p + 1) + dx) * F + flip,
    F = 2 with flip, else 1. Cropped first, then flipped; padded before normalisation.
    """

    images: Tensor  # (N, channels, H + 2p, W + 2p) uint8
    labels: Tensor  # (N,) int64
    crop: int
    flip: bool
    mean: Tensor  # (1, channels, 1, 1), of the training split
    std: Tensor

    @property
    def count(self) -> int:
        return (2 * self.crop + 1) ** 2 * (1 + self.flip)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image."""
        return tuple(side - 2 * self.crop for side in self.images.shape[2:])

    @property
    def input(self) -> dict[str, int]:
        """What a network has to know about it."""
        return {"channels": self.images.shape[1], "image_size": self.size[1]}

    @property
    def forward_batch(self) -> int:
        """Images in one forward pass without gradients; bounded, so that large images need no more memory."""
        kind = self.labels.device.type
        return max(8, min(FORWARD_IMAGES[kind], FORWARD_PIXELS[kind] // math.prod(self.size)))

    def batch(self, index: Tensor, view: Tensor) -> Tensor:
        """Images index (B,) in views (B,): (B, channels, H, W) float, normalised."""
        if self.crop == 0:
            x = self.images[index]
        else:
            side, position = 2 * self.crop + 1, view // (1 + self.flip)
            height, width = self.size
            windows = self.images.unfold(2, height, 1).unfold(3, width, 1)  # a view: nothing is copied
            x = windows[index, :, position // side, position % side]
        if self.flip:
            x = torch.where((view % 2 == 1)[:, None, None, None], x.flip(3), x)
        return normalized(x, self.mean, self.std)

    def feed(self, batches: Iterable[Batch]) -> Iterator[Tensor]:
        """`batch` of one after the other."""
        return (self.batch(*on(self.labels.device, *pair)) for pair in batches)


@dataclass(frozen=True)
class Streamed(Views):
    """The same for images (`stream.Images`, unpadded) that are read when they are needed, ahead of whoever asks.

    With `resized` a view is the seed of a random resized crop (and flip); such views cannot be enumerated.
    """

    resized: bool
    pad: int

    @property
    def count(self) -> int:
        return SEEDS if self.resized else super().count

    @property
    def size(self) -> tuple[int, int]:
        return self.images.shape[2:]

    def feed(self, batches: Iterable[Batch]) -> Iterator[Tensor]:
        pairs = list(batches)
        wanted = [(index, view if self.resized else None) for index, view in pairs]
        read = self.images.prefetched(wanted, flip=self.flip)
        for (_, view), x in zip(pairs, read, strict=True):
            x = torch.from_numpy(x).to(self.labels.device)
            if self.resized:
                yield normalized(x, self.mean, self.std)
            else:
                padded = F.pad(x, (self.crop,) * 4, value=self.pad)
                here = Views(padded, self.labels, self.crop, self.flip, self.mean, self.std)
                yield here.batch(*on(x.device, np.arange(len(x)), view))


@dataclass(frozen=True)
class Texts:
    """Texts as token numbers; a batch is cut to its longest. There is one view, the text itself."""

    tokens: Tensor  # (N, length) int32, 0 after the end
    labels: Tensor
    vocabulary: int
    count: int = 1

    @property
    def input(self) -> dict[str, int]:
        return {"vocabulary": self.vocabulary, "tokens": self.tokens.shape[1]}

    @property
    def forward_batch(self) -> int:
        return FORWARD_TEXTS[self.labels.device.type]

    def batch(self, index: Tensor, view: Tensor) -> Tensor:
        """Texts index (B,): (B, length of the longest) int64."""
        x = self.tokens[index].long()
        return x[:, : int((x != 0).sum(dim=1).max())]

    feed = Views.feed


def on(device: torch.device | str, *arrays: np.ndarray) -> list[Tensor]:
    return [torch.from_numpy(array).to(device) for array in arrays]


def normalized(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return ((x.float() - mean) / std).contiguous(memory_format=torch.channels_last)


AnyViews = Views | Texts


def make_views(
    split: Split, *, like: AnyViews | None = None, augment: dict | None = None, pad: int = 0, device: str = "cpu"
) -> AnyViews:
    """The training split with its augmentation, or (like=) another split normalised as that one.

    Raises InvalidInput for augmentation that the data set cannot have.
    """
    augment = augment or {}
    (labels,) = on(device, split.y)
    if split.vocabulary:
        if augment:
            raise InvalidInput(f"augment {augment} is for images, and this data set holds text; remove it.")
        return Texts(torch.from_numpy(np.ascontiguousarray(split.x)).to(device), labels, split.vocabulary)
    crop, flip, resized = augment.get("crop", 0), augment.get("flip", False), augment.get("resized_crop", False)
    in_memory = isinstance(split.x, np.ndarray)
    if resized and (crop or in_memory):
        why = "is instead of crop" if crop else "needs a data set of image files that are read one by one"
        raise InvalidInput(f"augment resized_crop {why}; remove one of them.")
    moments = (like.mean, like.std) if like is not None else channel_moments(split.x, device)
    if in_memory:
        x = torch.from_numpy(np.require(split.x, requirements="CW")).to(device)
        return Views(F.pad(x, (crop,) * 4, value=pad), labels, crop, flip, *moments)
    return Streamed(split.x, labels, crop, flip, *moments, resized, pad)


def channel_moments(x: Any, device: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of (N, channels, H, W) uint8, as (1, channels, 1, 1) float.

    Where images are not in memory, SAMPLED of them, evenly spread, stand for all.
    """
    rows = np.arange(len(x))
    if not isinstance(x, np.ndarray):
        rows = np.unique(np.linspace(0, len(x) - 1, SAMPLED).astype(int))
    counts = np.zeros((x.shape[1], 256))
    for start in range(0, len(rows), 500):  # counting takes eight bytes per pixel
        counts += [np.bincount(part.ravel(), minlength=256) for part in x[rows[start : start + 500]].swapaxes(0, 1)]
    levels = np.arange(256)
    mean = counts @ levels / counts.sum(axis=1)
    std = np.sqrt(counts @ levels**2 / counts.sum(axis=1) - mean**2).clip(min=1)
    return tuple(torch.tensor(v, dtype=torch.float32, device=device).view(1, -1, 1, 1) for v in (mean, std))
