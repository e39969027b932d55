"""Trifeature: 10 shapes x 10 textures x 10 colors, drawn by number.

After Hermann and Lampinen, "What shapes feature representations?" (NeurIPS 2020). There is nothing to download: an
image is a function of (seed, id). Its geometry comes from a hash of both, never from a stream of random numbers, so
any subset in any order and batch size has the same pixels, and a counterfactual twin can borrow an image's geometry.
trifeature_drawing.py draws them, with torch; what is here does without. biased.py makes a data set with a dial of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from kdlib.data import Drawn, Root, Split, check_whole
from kdlib.errors import InvalidInput, require_known, unknown

if TYPE_CHECKING:
    import torch

REFERENCE = 224  # side of the image that all lengths refer to, in pixels
TEMPLATE = 128  # side of the square that a shape is drawn in
GREY = 128  # the background in uint8: 0.5 -> floor(0.5 * 255 + 0.5)
SCALE = 10  # period of the textures
DEGREES = range(-45, 45)  # both rotations, whole degrees
FIELDS = ("shape", "texture", "color")
TWINNED = ("color", "texture")  # what a twin can differ in: another shape would be another thing
Ids = Sequence[str] | np.ndarray
PLACE = "data set 'trifeature'"

# --- the three features -----------------------------------------------------------------------------------------------


def _regular(corners: int, radius: float = 64.0) -> np.ndarray:
    """(corners, 2) corners of a regular polygon, the first at the top."""
    turn = 2 * np.pi * np.arange(corners) / corners
    return radius * np.stack([np.sin(turn), -np.cos(turn)], axis=1)


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _star() -> tuple[np.ndarray, ...]:
    """Five kites, each an arm and the inner pentagon: they overlap, so no seam shows between them."""
    outer, inner = _regular(5), -_regular(5, 64 * (3 - 5**0.5) / 2)
    return tuple(np.stack([outer[i], inner[(i + 3) % 5], inner[i], inner[(i + 2) % 5]]) for i in range(5))


_C = TEMPLATE / 6  # half a cell of the 3 x 3 board
# A shape is a union of convex polygons (x to the right, y down, the template's center is 0, 0); a circle has none.
SHAPES: dict[str, tuple[np.ndarray, ...]] = {
    "triangle": (np.array([(0, -32 * 3**0.5), (64, 32 * 3**0.5), (-64, 32 * 3**0.5)]),),
    "square": (_box(-64, -64, 64, 64),),
    "plus": (_box(-64, -_C, 64, _C), _box(-_C, -64, _C, 64)),
    "circle": (),
    "tee": (_box(-64, -64, 64, -_C), _box(-_C, -64, _C, 64)),
    "rhombus": (np.array([(0, -64), (38, 0), (0, 64), (-38, 0)]),),
    "pentagon": (_regular(5),),
    "star": _star(),
    "fivesquare": tuple(
        _box(x - _C, y - _C, x + _C, y + _C)
        for x, y in [(0, 0), *((i * 2 * _C, j * 2 * _C) for i in (-1, 1) for j in (-1, 1))]
    ),
    "trapezoid": (np.array([(-30, -48), (30, -48), (64, 48), (-64, 48)]),),
}
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "yellow": (1, 1, 0),
    "pink": (1, 0.4, 1),
    "cyan": (0, 1, 1),
    "purple": (0.3, 0, 0.5),
    "ocean": (0.1, 0.4, 0.5),
    "orange": (1, 0.6, 0),
    "white": (1, 1, 1),
}
TEXTURES = ("solid", "stripes", "grid", "hexgrid", "dots", "noise", "triangles", "zigzags", "rain", "pluses")
SHAPE_NAMES, COLOR_NAMES = tuple(SHAPES), tuple(COLORS)
NAMES = {"shape": SHAPE_NAMES, "texture": TEXTURES, "color": COLOR_NAMES}
CLASSES = {**NAMES, "shape x color": tuple(f"{s} x {c}" for s in SHAPE_NAMES for c in COLOR_NAMES)}

# --- ids --------------------------------------------------------------------------------------------------------------


def id_names(numbers: np.ndarray) -> np.ndarray:
    """(N, 4) numbers (shape, texture, color, index) -> (N,) str 'shape_texture_color_index'."""
    rows = np.asarray(numbers).tolist()
    return np.array([f"{SHAPE_NAMES[s]}_{TEXTURES[t]}_{COLOR_NAMES[c]}_{i}" for s, t, c, i in rows], dtype=str)


def id_numbers(ids: Ids) -> np.ndarray:
    """(N,) str or (N, 4) int -> (N, 4) int64 (shape, texture, color, index). Raises InvalidInput for what is no id."""
    ids = np.asarray(ids)
    if ids.ndim == 1 and (ids.dtype.kind in "UO" or not ids.size):
        return np.array([_parse(i) for i in ids.tolist()], np.int64).reshape(-1, 4)
    if ids.ndim != 2 or ids.shape[1] != 4 or ids.dtype.kind not in "iu":
        raise InvalidInput(
            f"ids of shape {ids.shape} and type {ids.dtype}: give N strings 'shape_texture_color_index' "
            "or an (N, 4) array of whole numbers (shape, texture, color, index)."
        )
    bad = ((ids < 0) | (ids >= [10, 10, 10, 2**32])).any(axis=1)
    if bad.any():
        raise InvalidInput(f"id {ids[bad][0].tolist()}: shape, texture and color are 0 .. 9, the index 0 .. 2^32 - 1.")
    return ids.astype(np.int64)


def _parse(name: str) -> tuple[int, int, int, int]:
    words = str(name).split("_")
    if len(words) != 4 or not (words[3].isdecimal() and str(int(words[3])) == words[3] and int(words[3]) < 2**32):
        raise InvalidInput(f"id {name!r} is not of the form 'shape_texture_color_index', such as 'circle_dots_red_7'.")
    for feature, word in zip(FIELDS, words, strict=False):
        if word not in NAMES[feature]:
            raise unknown(feature, word, NAMES[feature], place=f"id {name!r}")
    return *(NAMES[f].index(w) for f, w in zip(FIELDS, words, strict=False)), int(words[3])


# --- geometry ---------------------------------------------------------------------------------------------------------


class Geometry(NamedTuple):
    """Where and how each of N images is drawn; all (N,), lengths in reference pixels.

    turn, texture_turn  degrees, whole, -45 .. 44
    x, y                the shape's center; its template, turned, lies inside the image
    offset_x, offset_y  of the texture, 0 .. 9
    key                 uint64, the seed of noise and rain
    """

    turn: np.ndarray
    texture_turn: np.ndarray
    x: np.ndarray
    y: np.ndarray
    offset_x: np.ndarray
    offset_y: np.ndarray
    key: np.ndarray


def turns(degrees: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin, looked up: vectorised ones may differ in the last bit with the place in the array."""
    table = np.array([(math.cos(math.radians(d)), math.sin(math.radians(d))) for d in DEGREES])[degrees - DEGREES[0]]
    return table[:, 0], table[:, 1]


def geometry(ids: Ids, *, seed: int = 0) -> Geometry:
    """The geometry of each id, a function of (seed, id) alone. Positions have 2 x 53 random bits, so none repeats."""
    numbers = id_numbers(ids)
    degrees = np.array(DEGREES)
    turn, texture_turn = (degrees[picked(numbers, seed, draw=draw, choices=len(degrees))] for draw in (0, 1))
    offset_x, offset_y = (picked(numbers, seed, draw=draw, choices=SCALE) for draw in (2, 3))
    cos, sin = turns(turn)
    half = TEMPLATE / 2 * (cos + np.abs(sin))  # of the square around the turned template
    x, y = (half + _uniform(numbers, seed, draw=draw) * (REFERENCE - 2 * half) for draw in (4, 5))
    return Geometry(turn, texture_turn, x, y, offset_x, offset_y, hashed(numbers, seed, draw=6))


SPLIT_DRAW, TWIN_DRAW = 100, 101  # draws that are no part of the geometry; TWIN_DRAW takes one for each feature


def hashed(numbers: np.ndarray, seed: int, *, draw: int) -> np.ndarray:
    """(N,) uint64: splitmix64 (Steele, Lea and Flood 2014) of the seed, the id and the draw, one after another."""
    state = _splitmix64(np.uint64(check_whole("seed", seed, 0, 2**64 - 1, place=PLACE)))
    for field in (*numbers.astype(np.uint64).T, np.uint64(draw)):
        state = _splitmix64(state ^ field)
    return state


def _splitmix64(state: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is meant
        z = state + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _uniform(numbers: np.ndarray, seed: int, *, draw: int) -> np.ndarray:
    """(N,) float64 in [0, 1)."""
    return (hashed(numbers, seed, draw=draw) >> np.uint64(11)) * 2.0**-53


def picked(numbers: np.ndarray, seed: int, *, draw: int, choices: int) -> np.ndarray:
    """(N,) int64 in 0 .. choices - 1."""
    return (_uniform(numbers, seed, draw=draw) * choices).astype(np.int64)


def factors(ids: Ids, *, seed: int = 0) -> np.ndarray:
    """(N, 17) float: all that an image is made of except its shape, as a frozen embedding that no network had to learn.

    Color (RGB, 0 .. 1), texture (different ones are 1 apart), position (share of the room a shape has), both rotations
    (shares of their range). Offsets and noise, which no distance on a line describes, are left out.
    """
    numbers, where = id_numbers(ids), geometry(ids, seed=seed)
    color = np.array(list(COLORS.values()))[numbers[:, 2]]
    texture = np.eye(len(TEXTURES))[numbers[:, 1]] / math.sqrt(2)
    room = REFERENCE - TEMPLATE
    place = (np.stack([where.x, where.y], axis=1) - REFERENCE / 2) / room
    turn = np.stack([where.turn, where.texture_turn], axis=1) / len(DEGREES)
    return np.concatenate([color, texture, place, turn], axis=1)


def render(ids: Ids, *, image_size: int = 224, seed: int = 0, geometry_of: Ids | None = None) -> torch.Tensor:
    """(N, 3, H, W) uint8: floor(255 * value + 0.5) with value = m * color + (1 - m) * 0.5.

    m is the shape's mask times the texture's, 0 .. 1: the grey background (GREY) shows through the holes.
    ids          (N,) str 'shape_texture_color_index' or (N, 4) int (shape, texture, color, index)
    image_size   side in pixels. Below 224 the picture is drawn at a multiple and averaged over areas. The period of the
                 textures is 10 * image_size / 224 pixels: at 32 it vanishes, and a texture is hardly more than a tint
    seed         with its id, all that an image depends on
    geometry_of  ids whose rotation, position, texture rotation and offset, and noise to use; by default the ids' own
    An image of 224 pixels takes 150 kB, all 100,000 of them 15 GB: render those in pieces.
    Raises InvalidInput for ids and sizes that do not exist.
    """
    from kdlib.data import trifeature_drawing as drawing

    numbers = id_numbers(ids)
    source = numbers if geometry_of is None else id_numbers(geometry_of)
    if len(source) != len(numbers):
        raise InvalidInput(f"{len(source)} geometry_of for {len(numbers)} ids: give one for each.")
    check_whole("image_size", image_size, 16, 4096, place=PLACE)
    return drawing.draw(numbers, geometry(source, seed=seed), image_size)


# --- the data set -----------------------------------------------------------------------------------------------------


def load(
    part: str,
    /,
    *,
    root: Root,
    label: str,
    image_size: int,
    per_combination: int,
    split: str,
    test_images: int,
    seed: int,
) -> Split:
    """The train or test part: `per_combination` images of each of the 1,000 combinations, without the other part.

    label   'shape', 'texture' (cannot be learnt at 32 pixels), 'color' or 'shape x color' (100 classes)
    split   'image'        any `test_images` images, drawn by hash of (seed, id): the paper's way
            'balanced'     equally many of each combination: `test_images` is a multiple of 1,000
            'combination'  whole combinations, equally many of each class to within one, so that every class is in both
                           parts: `test_images` is a multiple of `per_combination`
    groups: the features that are no part of the label. twins of the test part: each image again with another value of
    a group in TWINNED, all else kept (`twin_numbers`).
    ids: 'shape_texture_color_index'. `root` is ignored.
    x is rendered whole: 150 kB per image of 224 pixels, 14 GB for the default training part.
    Raises InvalidInput for options that are unknown or do not fit together.
    """
    numbers = select(
        part, label=label, split=split, per_combination=per_combination, test_images=test_images, seed=seed
    )
    y = labels(numbers, label)
    groups = {f: np.array(NAMES[f])[numbers[:, i]] for i, f in enumerate(FIELDS) if f not in label.split(" x ")}
    x = render(numbers, image_size=image_size, seed=seed).numpy()

    def twins(feature: str) -> np.ndarray:
        twin = twin_numbers(numbers, feature, seed=seed)
        return render(twin, image_size=image_size, seed=seed, geometry_of=numbers).numpy()

    drawn = Drawn({f: partial(twins, f) for f in TWINNED if f in groups and part == "test"})
    return Split(id_names(numbers), x, y, groups, CLASSES[label], drawn)


def labels(ids: Ids, label: str) -> np.ndarray:
    """(N,) int64 class of each id, 0 .. len(CLASSES[label]) - 1."""
    shape, texture, color, _ = id_numbers(ids).T
    return {"shape": shape, "texture": texture, "color": color, "shape x color": 10 * shape + color}[label]


def select(part: str, /, *, label: str, split: str, per_combination: int, test_images: int, seed: int) -> np.ndarray:
    """(N, 4) ids as numbers of one part, in order; the options are those of `load`. Nothing is rendered."""
    check_whole("test_images", test_images, 1, 1000 * per_combination - 1, place=PLACE)
    numbers = np.stack(np.unravel_index(np.arange(1000 * per_combination), (10, 10, 10, per_combination)), axis=1)
    drawn = numbers[::per_combination] if split == "combination" else numbers
    order = np.argsort(hashed(drawn, seed, draw=SPLIT_DRAW), kind="stable")
    if split == "balanced":
        _check_multiple(test_images, 1000, "each of the 1,000 combinations has equally many test images")
        order = order[np.argsort(_depth(order // per_combination), kind="stable")]
    if split == "combination":
        _check_multiple(test_images, per_combination, "a combination is tested with all its images")
        n = len(CLASSES[label])
        place = f"{PLACE}, split 'combination', where each of {n} classes needs a combination of its own in both parts"
        least, most = n * per_combination, (1000 - n) * per_combination
        check_whole("test_images", test_images, least, most, place=place)
        order = order[np.argsort(_depth(labels(drawn, label)[order]), kind="stable")]
        order = (order[:, None] * per_combination + np.arange(per_combination)).ravel()
    return numbers[np.sort(order[:test_images] if part == "test" else order[test_images:])]


def _depth(kinds: np.ndarray) -> np.ndarray:
    """(N,) how many of its kind stand before each: a b a a b -> 0 0 1 2 1."""
    return pd.Series(kinds).groupby(kinds).cumcount().to_numpy()


def _check_multiple(test_images: int, unit: int, why: str) -> None:
    if test_images % unit:
        raise InvalidInput(f"test_images = {test_images} in {PLACE}: {why}; give a multiple of {unit}.")


def twin_numbers(ids: Ids, feature: str, *, seed: int = 0) -> np.ndarray:
    """(N, 4) numbers of each id with another color (or texture): one of the nine others, by hash of (seed, id).

    Raises InvalidInput for another feature: a new shape would be no counterfactual of a group.
    """
    require_known("feature", feature, TWINNED, place="the twins of trifeature")
    numbers, column = id_numbers(ids), FIELDS.index(feature)
    twins = numbers.copy()
    twins[:, column] = (numbers[:, column] + 1 + picked(numbers, seed, draw=TWIN_DRAW + column, choices=9)) % 10
    return twins
