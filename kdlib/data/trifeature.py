"""Trifeature: 10 shapes x 10 textures x 10 colors, drawn by number.

After Hermann and Lampinen, "What shapes feature representations?" (NeurIPS 2020). There is nothing to download: an
image is a function of (seed, id). Its geometry comes from a hash of both, never from a stream of random numbers, so
any subset in any order and batch size has the same pixels, and a counterfactual twin can borrow an image's geometry.
All drawing is elementwise (add, multiply, compare, square root): nothing depends on the batch.

Lengths are in reference pixels: those of the 224 x 224 image. Other sizes are the same picture, scaled.
torch is imported by the functions that draw; ids and splits do without. biased.py makes a data set with a dial of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, reduce
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kdlib.data import Drawn, Split, check_whole
from kdlib.errors import InvalidInput, unknown

if TYPE_CHECKING:
    import torch

REFERENCE = 224  # side of the image that all lengths refer to
TEMPLATE = 128  # side of the square that a shape is drawn in
GREY = 128  # the background in uint8: 0.5 -> floor(0.5 * 255 + 0.5)
SCALE = 10  # period of the textures
LINE, THIN_LINE = 3, 2  # widths of lines; thin for the textures whose lines stand closer
DROP, DROP_RATE = 7, 0.05  # rain: length of a drop, probability that one starts at a pixel
CANVAS = 332  # textures are drawn on this square: what any rotation and offset can reach of 448 x 448
DEGREES = range(-45, 45)  # both rotations, whole degrees

# --- the three features -----------------------------------------------------------------------------------------------


def _regular(corners: int, radius: float = 64.0) -> np.ndarray:
    """(corners, 2) corners of a regular polygon, the first at the top."""
    turn = 2 * np.pi * np.arange(corners) / corners
    return radius * np.stack([np.sin(turn), -np.cos(turn)], axis=1)


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _star(radius: float = 64.0) -> tuple[np.ndarray, ...]:
    """Five kites, each an arm and the inner pentagon: they overlap, so no seam shows between them."""
    outer, inner = _regular(5, radius), -_regular(5, radius * (3 - 5**0.5) / 2)
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
FIELDS = ("shape", "texture", "color")
TWINNED = ("color", "texture")  # what a twin can differ in: another shape would be another thing
NAMES = {"shape": SHAPE_NAMES, "texture": TEXTURES, "color": COLOR_NAMES}
CLASSES = {**NAMES, "shape x color": tuple(f"{s} x {c}" for s in SHAPE_NAMES for c in COLOR_NAMES)}
Ids = Sequence[str] | np.ndarray
PLACE = "data set 'trifeature'"

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
    return *(_number(f, w, place=f"id {name!r}") for f, w in zip(FIELDS, words, strict=False)), int(words[3])


def _number(feature: str, name: object, *, place: str) -> int:
    if name not in NAMES[feature]:
        raise unknown(feature, name, NAMES[feature], place=place)
    return NAMES[feature].index(name)


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


def geometry(ids: Ids, *, seed: int = 0) -> Geometry:
    """The geometry of each id, a function of (seed, id) alone. Positions have 2 x 53 random bits, so none repeats."""
    numbers = id_numbers(ids)
    turn, texture_turn = (picked(numbers, seed, draw=draw, choices=len(DEGREES)) + DEGREES[0] for draw in (0, 1))
    offset_x, offset_y = (picked(numbers, seed, draw=draw, choices=SCALE) for draw in (2, 3))
    cos, sin = _turns(turn)
    half = TEMPLATE / 2 * (cos + np.abs(sin))  # of the square around the turned template
    x, y = (half + _uniform(numbers, seed, draw=draw) * (REFERENCE - 2 * half) for draw in (4, 5))
    return Geometry(turn, texture_turn, x, y, offset_x, offset_y, hashed(numbers, seed, draw=6))


SPLIT_DRAW, TWIN_DRAW = 100, 101  # draws that are no part of the geometry; TWIN_DRAW takes one a feature


def hashed(numbers: np.ndarray, seed: int, *, draw: int) -> np.ndarray:
    """(N,) uint64: splitmix64 (Steele, Lea and Flood 2014) of the seed, the id and the draw, one after another."""
    state = _splitmix64(np.uint64(check_whole("seed", seed, least=0, most=2**64 - 1, place=PLACE)))
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


def _turns(degrees: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin, looked up: vectorised ones may differ in the last bit with the place in the array."""
    table = np.array([(math.cos(math.radians(d)), math.sin(math.radians(d))) for d in DEGREES])[degrees - DEGREES[0]]
    return table[:, 0], table[:, 1]


def factors(ids: Ids, *, seed: int = 0) -> np.ndarray:
    """(N, 17) float: all that an image is made of but its shape, as a frozen embedding that no network had to learn.

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


# --- drawing ----------------------------------------------------------------------------------------------------------


def render(
    ids: Ids,
    *,
    image_size: int = REFERENCE,
    seed: int = 0,
    geometry_of: Ids | None = None,
    color: str | Sequence[str] | None = None,
    texture: str | Sequence[str] | None = None,
    device: str = "cpu",
) -> torch.Tensor:
    """(N, 3, H, W) uint8 on `device`: floor(255 * value + 0.5) with value = m * color + (1 - m) * 0.5.

    m is the shape's mask times the texture's, 0 .. 1: the grey background (GREY) shows through the holes.
    ids          (N,) str 'shape_texture_color_index' or (N, 4) int (shape, texture, color, index)
    image_size   side in pixels. Below 224 the picture is drawn at a multiple and averaged over areas. The period of the
                 textures is 10 * image_size / 224 pixels: at 32 it vanishes, and a texture is hardly more than a tint
    seed         with its id, all that an image depends on
    geometry_of  ids whose rotation, position, texture rotation and offset, and noise to use; by default the ids' own
    color        one name, or N names, to draw in instead of the ids' own: a twin that differs in nothing else.
                 `texture` likewise
    An image of 224 pixels takes 150 kB, all 100,000 of them 15 GB: render those in pieces.
    Raises InvalidInput for ids, names and sizes that do not exist.
    """
    import torch

    numbers = id_numbers(ids)
    source = numbers if geometry_of is None else id_numbers(geometry_of)
    if len(source) != len(numbers):
        raise InvalidInput(f"{len(source)} geometry_of for {len(numbers)} ids: give one for each.")
    check_whole("image_size", image_size, least=16, most=4096, place=PLACE)
    where, drawn = geometry(source, seed=seed), _with_features(numbers, texture=texture, color=color)
    out = torch.empty((len(drawn), 3, image_size, image_size), dtype=torch.uint8, device=device)
    for rows in _alike(drawn, image_size, on_cpu=torch.device(device).type == "cpu"):
        images = _draw(drawn[rows], Geometry(*(v[rows] for v in where)), image_size, device)
        out[torch.from_numpy(rows).to(device)] = images
    return out


def _with_features(numbers: np.ndarray, **features: str | Sequence[str] | None) -> np.ndarray:
    numbers = numbers.copy()
    for feature, names in features.items():
        if names is None:
            continue
        names = [names] * len(numbers) if isinstance(names, str) else list(names)
        if len(names) != len(numbers):
            raise InvalidInput(f"{len(names)} names of a {feature} for {len(numbers)} ids: give one, or one for each.")
        numbers[:, FIELDS.index(feature)] = [_number(feature, n, place="render") for n in names]
    return numbers


def _alike(numbers: np.ndarray, image_size: int, *, on_cpu: bool) -> list[np.ndarray]:
    """Positions in pieces of the same shape and texture, small enough for the cache (CPU) or for 1 GB (accelerator)."""
    most = max(1, (2**19 if on_cpu else 2**25) // (image_size * _oversampling(image_size)) ** 2)
    kind = numbers[:, 0] * 10 + numbers[:, 1]
    groups = [np.flatnonzero(kind == k) for k in np.unique(kind)]
    return [rows[i : i + most] for rows in groups for i in range(0, len(rows), most)]


def _oversampling(image_size: int) -> int:
    return math.ceil(REFERENCE / image_size)


def _draw(numbers: np.ndarray, where: Geometry, image_size: int, device: str) -> torch.Tensor:
    """(n, 3, H, W) uint8, all of the shape and texture of the first."""
    import torch

    shape, texture = SHAPE_NAMES[numbers[0, 0]], TEXTURES[numbers[0, 1]]
    times = _oversampling(image_size)
    mask = _shape_mask(shape, where, image_size * times, device)
    if texture != "solid":
        mask *= _texture_mask(texture, where, image_size * times, device)
    color = np.array(list(COLORS.values()), np.float32)[numbers[:, 2]]
    contrast = torch.from_numpy(color * 255 - np.float32(127.5)).to(device)[:, :, None, None]
    # 128 = 127.5 + 0.5: grey and the rounding in one
    return (contrast * _area_average(mask, times)[:, None]).add_(GREY).to(torch.uint8)


def _area_average(mask: torch.Tensor, times: int) -> torch.Tensor:
    """(n, times H, times W) -> (n, H, W). Sums in a fixed order, whatever the batch."""
    if times == 1:
        return mask
    rows = reduce(lambda total, i: total + mask[:, i::times], range(1, times), mask[:, ::times])
    return reduce(lambda total, j: total + rows[:, :, j::times], range(1, times), rows[:, :, ::times]) * (1 / times**2)


def _shape_mask(shape: str, where: Geometry, grid: int, device: str) -> torch.Tensor:
    """(n, grid, grid) float, the share of each pixel that the shape covers: a ramp one pixel wide over its outline."""
    import torch

    scale = grid / REFERENCE
    pixel = torch.arange(grid, device=device, dtype=torch.float32) + 0.5
    distance = None  # to the outline, in pixels, negative inside
    for polygon in SHAPES[shape]:
        across, down = _half_planes(polygon, where, scale, pixel)
        part = None
        for a, d in zip(across, down, strict=True):
            edge = a[:, None, :] + d[:, :, None]
            part = edge if part is None else torch.maximum(part, edge, out=part)
        distance = part if distance is None else torch.minimum(distance, part, out=distance)
    if distance is None:
        x, y = (pixel - _tensor(v * scale, device) for v in (where.x, where.y))
        distance = ((x * x)[:, None, :] + (y * y)[:, :, None]).sqrt_().sub_(TEMPLATE / 2 * scale)
    return distance.neg_().add_(0.5).clamp_(0, 1)


def _half_planes(
    polygon: np.ndarray, where: Geometry, scale: float, pixel: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two (edges, n, grid): their sum at (column, row) is the distance beyond that edge's line, in pixels.

    An edge's outward normal turns with the shape: clockwise on the screen, where y points down.
    """
    normal, reach = _edges(polygon)
    cos, sin = _turns(where.turn)
    nx = normal[:, :1] * cos - normal[:, 1:] * sin
    ny = normal[:, :1] * sin + normal[:, 1:] * cos
    offset = scale * (reach[:, None] + nx * where.x + ny * where.y)
    nx, ny, offset = (_tensor(v, pixel.device) for v in (nx, ny, offset))
    return nx * pixel, ny * pixel - offset


def _edges(polygon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outward unit normals (edges, 2) and reaches (edges,): inside, normal . point <= reach. Corners go clockwise."""
    side = np.roll(polygon, -1, axis=0) - polygon
    normal = np.stack([side[:, 1], -side[:, 0]], axis=1) / np.hypot(side[:, 0], side[:, 1])[:, None]
    return normal, (normal * polygon).sum(axis=1)


def _tensor(values: np.ndarray, device: torch.device | str) -> torch.Tensor:
    """float32 on the device, with one more axis at the end."""
    import torch

    return torch.from_numpy(values.astype(np.float32)).to(device)[..., None]


def _texture_mask(texture: str, where: Geometry, grid: int, device: str) -> torch.Tensor:
    """(n, grid, grid) float 0 or 1: the canvas under each pixel, turned about its center (nearest neighbor)."""
    import torch

    scale, (cos, sin) = REFERENCE / grid, _turns(where.texture_turn)
    pixel = (torch.arange(grid, device=device, dtype=torch.float32) + (0.5 - grid / 2)) * scale
    middle = (CANVAS - SCALE) / 2
    cos, sin, x, y = (_tensor(v, device) for v in (cos, sin, where.offset_x + middle, where.offset_y + middle))
    column = ((pixel * cos)[:, None, :] + (x + pixel * sin)[:, :, None]).floor_()
    row = ((y + pixel * cos)[:, :, None] - (pixel * sin)[:, None, :]).floor_()
    place = row.mul_(CANVAS).add_(column).long().flatten(1)
    canvas = _canvas(texture, where.key, device).expand(len(place), -1)
    return canvas.gather(1, place).view(-1, grid, grid)


def _canvas(texture: str, keys: np.ndarray, device: str) -> torch.Tensor:
    """(n or 1, CANVAS^2) float, 1 where the texture is on; noise and rain have one canvas an image."""
    import torch

    if texture == "noise":
        return (_random_pixels(keys, CANVAS, device) < 0).flatten(1).float()
    if texture == "rain":
        # a pixel is wet if a drop starts there or up to DROP - 1 pixels above
        starts = _random_pixels(keys, CANVAS + DROP - 1, device) < round(2**32 * DROP_RATE) - 2**31
        return reduce(torch.logical_or, (starts[:, i : i + CANVAS] for i in range(DROP))).flatten(1).float()
    return torch.from_numpy(_pattern(texture)).to(device).flatten()[None]


def _random_pixels(keys: np.ndarray, rows: int, device: str) -> torch.Tensor:
    """(n, rows, CANVAS) int32, uniform over int32: a hash of (key, pixel), constants of lowbias32 (Wellons 2018)."""
    import torch

    halves = keys.view(np.int32).reshape(-1, 2)  # two of 32 bits
    low, high = torch.from_numpy(halves.copy()).to(device).T[:, :, None]
    h = torch.arange(rows * CANVAS, device=device, dtype=torch.int32) ^ low
    for key in (high, 0):
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32)):
            h ^= (h >> shift) & (2 ** (32 - shift) - 1)  # >> copies the sign: a logical shift is meant
            h *= factor
        h += key
    return (h ^ ((h >> 16) & 0xFFFF)).view(-1, rows, CANVAS)


@cache
def _pattern(texture: str) -> np.ndarray:
    """(CANVAS, CANVAS) float32 of a texture that does not change from image to image."""
    y, x = np.mgrid[:CANVAS, :CANVAS]
    dx, dy = x % SCALE - SCALE // 2, y % SCALE - SCALE // 2  # -5 .. 4, 0 in the middle of a tile
    wave = np.abs(x % (2 * SCALE) - SCALE)
    # every other column half a tile lower, or the pluses' arms would touch and make a grid
    px, py = np.abs(dx), np.abs((y + SCALE // 2 * (x // SCALE)) % SCALE - SCALE // 2)
    on = {
        "stripes": lambda: y % SCALE < LINE,
        "grid": lambda: (x % SCALE < LINE) | (y % SCALE < LINE),
        "hexgrid": lambda: _to_hexagon_edge(x + 0.5, y + 0.5) < THIN_LINE / 2,
        "dots": lambda: dx**2 + dy**2 <= 16,
        "triangles": lambda: (dy >= -4) & (np.abs(dx) <= (dy + 4) / 2),
        "zigzags": lambda: (y + wave) % SCALE < LINE,
        "pluses": lambda: (np.minimum(px, py) <= 1.5) & (np.maximum(px, py) <= 4),
    }[texture]()
    return on.astype(np.float32)


def _to_hexagon_edge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance to the nearest edge of a honeycomb whose cells are SCALE from side to side."""
    height = SCALE * 3**0.5  # the centers form two rectangular lattices, SCALE x height
    near = []
    for shift in (0, 0.5):
        u = np.abs((x / SCALE + shift + 0.5) % 1 - 0.5) * SCALE
        v = np.abs((y / height + shift + 0.5) % 1 - 0.5) * height
        near.append(SCALE / 2 - np.maximum(u, u / 2 + v * 3**0.5 / 2))
    return np.maximum(*near)


# --- the data set -----------------------------------------------------------------------------------------------------


def load(
    part: str,
    /,
    *,
    root: str | Path | None,
    label: str,
    image_size: int,
    per_combination: int,
    split: str,
    test_images: int,
    seed: int,
) -> Split:
    """The train or test part: `per_combination` images of each of the 1,000 combinations, less the other part.

    label   'shape', 'texture' (cannot be learnt at 32 pixels), 'color' or 'shape x color' (100 classes)
    split   'image'        any `test_images` images, drawn by hash of (seed, id): the paper's way
            'balanced'     equally many of each combination: `test_images` is a multiple of 1,000
            'combination'  whole combinations, equally many of each class to within one, so that every class is in both
                           parts: `test_images` is a multiple of `per_combination`
    groups: the features that are no part of the label; twins of the test part: those of them that `twins` can change.
    ids: 'shape_texture_color_index'. `root` is ignored.
    x is rendered whole: 150 kB an image of 224 pixels, 14 GB for the default training part. To render on the device
    instead, take `select` and `render`.
    Raises InvalidInput for options that are unknown or do not fit together.
    """
    numbers = select(
        part, label=label, split=split, per_combination=per_combination, test_images=test_images, seed=seed
    )
    y = labels(numbers, label)
    groups = {f: np.array(NAMES[f])[numbers[:, i]] for i, f in enumerate(FIELDS) if f not in label.split(" x ")}
    x = render(numbers, image_size=image_size, seed=seed).numpy()
    changed = tuple(f for f in TWINNED if f in groups and part == "test")
    drawn = Drawn(changed, lambda feature: twins(numbers, feature, image_size=image_size, seed=seed)[1])
    return Split(id_names(numbers), x, y, groups, CLASSES[label], drawn)


def labels(ids: Ids, label: str) -> np.ndarray:
    """(N,) int64 class of each id, 0 .. len(CLASSES[label]) - 1."""
    check_label(label)
    shape, texture, color, _ = id_numbers(ids).T
    return {"shape": shape, "texture": texture, "color": color, "shape x color": 10 * shape + color}[label]


def check_label(label: object) -> None:
    if label not in CLASSES:
        raise unknown("label", label, CLASSES, place=PLACE)


def select(part: str, /, *, label: str, split: str, per_combination: int, test_images: int, seed: int) -> np.ndarray:
    """(N, 4) ids as numbers of one part, in order; the options are those of `load`. Nothing is rendered."""
    if part not in ("train", "test"):
        raise unknown("split", part, ("train", "test"), place=PLACE)
    if split not in _TEST_ORDERS:
        raise unknown("split", split, _TEST_ORDERS, place=PLACE)
    check_whole("per_combination", per_combination, least=1, most=2**20, place=PLACE)
    check_whole("test_images", test_images, least=1, most=1000 * per_combination - 1, place=PLACE)
    numbers = np.stack(np.unravel_index(np.arange(1000 * per_combination), (10, 10, 10, per_combination)), axis=1)
    check_label(label)
    order = _TEST_ORDERS[split](numbers, label, per_combination, test_images, seed)
    return numbers[np.sort(order[:test_images] if part == "test" else order[test_images:])]


def _any_images(numbers: np.ndarray, label: str, per: int, test_images: int, seed: int) -> np.ndarray:
    return np.argsort(hashed(numbers, seed, draw=SPLIT_DRAW), kind="stable")


def _of_each_combination(numbers: np.ndarray, label: str, per: int, test_images: int, seed: int) -> np.ndarray:
    _check_multiple(test_images, 1000, "split 'balanced' tests equally many images of each of the 1,000 combinations")
    order = _any_images(numbers, label, per, test_images, seed)
    return order[np.argsort(_depth(order // per), kind="stable")]


def _whole_combinations(numbers: np.ndarray, label: str, per: int, test_images: int, seed: int) -> np.ndarray:
    _check_multiple(test_images, per, "split 'combination' tests all per_combination images of a combination")
    kinds, n = numbers[::per], len(CLASSES[label])
    place = f"{PLACE}, split 'combination', where each of {n} classes needs a combination of its own in both parts"
    check_whole("test_images", test_images, least=n * per, most=(1000 - n) * per, place=place)
    order = _any_images(kinds, label, per, test_images, seed)
    order = order[np.argsort(_depth(labels(kinds, label)[order]), kind="stable")]
    return (order[:, None] * per + np.arange(per)).ravel()


_TEST_ORDERS = {"image": _any_images, "balanced": _of_each_combination, "combination": _whole_combinations}


def _depth(kinds: np.ndarray) -> np.ndarray:
    """(N,) how many of its kind stand before each: a b a a b -> 0 0 1 2 1."""
    by_kind = np.argsort(kinds, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(kinds[by_kind]) != 0])
    depth = np.empty(len(kinds), np.int64)
    depth[by_kind] = np.arange(len(kinds)) - np.repeat(starts, np.diff(np.r_[starts, len(kinds)]))
    return depth


def _check_multiple(test_images: int, unit: int, why: str) -> None:
    if test_images % unit:
        below = test_images // unit * unit
        raise InvalidInput(
            f"test_images = {test_images} in {PLACE}: {why}, so give a multiple of {unit}, "
            f"such as {below or below + unit}."
        )


def twins(
    ids: Ids, feature: str, *, image_size: int = REFERENCE, seed: int = 0, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Counterfactual twins: each image again, its geometry kept, in another color (or texture).

    The other value is one of the nine that are not the image's own, by hash of (seed, id).
    Returns ids (N,) str such as 'circle_dots_red_7:color=blue', and x (N, 3, H, W) uint8, both in the order of `ids`.
    Raises InvalidInput for another feature: a new shape would be no counterfactual of a group.
    """
    if feature not in TWINNED:
        raise unknown("feature", feature, TWINNED, place="trifeature.twins")
    numbers, column = id_numbers(ids), FIELDS.index(feature)
    step = 1 + picked(numbers, seed, draw=TWIN_DRAW + column, choices=9)
    values = np.array(NAMES[feature])[(numbers[:, column] + step) % 10].tolist()
    x = render(numbers, image_size=image_size, seed=seed, device=device, **{feature: values})
    names = [f"{i}:{feature}={v}" for i, v in zip(id_names(numbers), values, strict=True)]
    return np.array(names, dtype=str), x.cpu().numpy()
