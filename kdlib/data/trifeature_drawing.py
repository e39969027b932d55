"""How Trifeature's images are drawn, given their shapes, textures, colors and geometry.

All drawing is elementwise (add, multiply, compare, square root), so nothing depends on the batch. Lengths are in
reference pixels: those of the 224 x 224 image. Other sizes are the same picture, scaled.
"""

from __future__ import annotations

import math
from functools import cache, reduce

import numpy as np
import torch

from kdlib.data.trifeature import COLORS, GREY, REFERENCE, SCALE, SHAPES, TEMPLATE, TEXTURES, Geometry, turns

LINE, THIN_LINE = 3, 2  # widths of lines; thin for the textures whose lines stand closer
DROP, DROP_RATE = 7, 0.05  # rain: length of a drop, probability that one starts at a pixel
CANVAS = 332  # textures are drawn on this square: what any rotation and offset can reach of 448 x 448


def draw(numbers: np.ndarray, where: Geometry, image_size: int) -> torch.Tensor:
    """(N, 3, H, W) uint8 of numbers (N, 4), shape, texture, color, index, each drawn at its place in `where`."""
    out = torch.empty((len(numbers), 3, image_size, image_size), dtype=torch.uint8)
    for rows in _alike(numbers, image_size):
        out[torch.from_numpy(rows)] = _drawn(numbers[rows], Geometry(*(v[rows] for v in where)), image_size)
    return out


def _alike(numbers: np.ndarray, image_size: int) -> list[np.ndarray]:
    """Positions in pieces of the same shape and texture, small enough for a processor's cache."""
    most = max(1, 2**19 // (image_size * _oversampling(image_size)) ** 2)
    kind = numbers[:, 0] * 10 + numbers[:, 1]
    groups = [np.flatnonzero(kind == k) for k in np.unique(kind)]
    return [rows[i : i + most] for rows in groups for i in range(0, len(rows), most)]


def _oversampling(image_size: int) -> int:
    return math.ceil(REFERENCE / image_size)


def _drawn(numbers: np.ndarray, where: Geometry, image_size: int) -> torch.Tensor:
    """(n, 3, H, W) uint8, all of the shape and texture of the first."""
    shape, texture = tuple(SHAPES)[numbers[0, 0]], TEXTURES[numbers[0, 1]]
    times = _oversampling(image_size)
    mask = _shape_mask(shape, where, image_size * times)
    if texture != "solid":
        mask *= _texture_mask(texture, where, image_size * times)
    color = np.array(list(COLORS.values()), np.float32)[numbers[:, 2]]
    contrast = torch.from_numpy(color * 255 - np.float32(127.5))[:, :, None, None]
    # 128 = 127.5 + 0.5: grey and the rounding in one
    return (contrast * _area_average(mask, times)[:, None]).add_(GREY).to(torch.uint8)


def _area_average(mask: torch.Tensor, times: int) -> torch.Tensor:
    """(n, times H, times W) -> (n, H, W). Sums in a fixed order, whatever the batch."""
    if times == 1:
        return mask
    rows = reduce(lambda total, i: total + mask[:, i::times], range(1, times), mask[:, ::times])
    return reduce(lambda total, j: total + rows[:, :, j::times], range(1, times), rows[:, :, ::times]) * (1 / times**2)


def _shape_mask(shape: str, where: Geometry, grid: int) -> torch.Tensor:
    """(n, grid, grid) float, the share of each pixel that the shape covers: a ramp one pixel wide over its outline."""
    scale = grid / REFERENCE
    pixel = torch.arange(grid, dtype=torch.float32) + 0.5

    def beyond(polygon: np.ndarray) -> torch.Tensor:
        edges = zip(*_half_planes(polygon, where, scale, pixel), strict=True)
        return reduce(torch.maximum, (across[:, None, :] + down[:, :, None] for across, down in edges))

    if SHAPES[shape]:
        distance = reduce(torch.minimum, map(beyond, SHAPES[shape]))  # to the outline, in pixels, negative inside
    else:
        x, y = (pixel - _tensor(v * scale) for v in (where.x, where.y))
        distance = ((x * x)[:, None, :] + (y * y)[:, :, None]).sqrt_().sub_(TEMPLATE / 2 * scale)
    return distance.neg_().add_(0.5).clamp_(0, 1)


def _half_planes(
    polygon: np.ndarray, where: Geometry, scale: float, pixel: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two (edges, n, grid): their sum at (column, row) is the distance beyond that edge's line, in pixels.

    An edge's outward normal turns with the shape: clockwise on the screen, where y points down.
    """
    normal, reach = _edges(polygon)
    cos, sin = turns(where.turn)
    nx = normal[:, :1] * cos - normal[:, 1:] * sin
    ny = normal[:, :1] * sin + normal[:, 1:] * cos
    offset = scale * (reach[:, None] + nx * where.x + ny * where.y)
    nx, ny, offset = (_tensor(v) for v in (nx, ny, offset))
    return nx * pixel, ny * pixel - offset


def _edges(polygon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outward unit normals (edges, 2) and reaches (edges,): inside, normal . point <= reach. Corners go clockwise."""
    side = np.roll(polygon, -1, axis=0) - polygon
    normal = np.stack([side[:, 1], -side[:, 0]], axis=1) / np.hypot(side[:, 0], side[:, 1])[:, None]
    return normal, (normal * polygon).sum(axis=1)


def _tensor(values: np.ndarray) -> torch.Tensor:
    """float32, with one more axis at the end."""
    return torch.from_numpy(values.astype(np.float32))[..., None]


def _texture_mask(texture: str, where: Geometry, grid: int) -> torch.Tensor:
    """(n, grid, grid) float 0 or 1: the canvas under each pixel, turned about its center (nearest neighbor)."""
    scale, (cos, sin) = REFERENCE / grid, turns(where.texture_turn)
    pixel = (torch.arange(grid, dtype=torch.float32) + (0.5 - grid / 2)) * scale
    middle = (CANVAS - SCALE) / 2
    cos, sin, x, y = (_tensor(v) for v in (cos, sin, where.offset_x + middle, where.offset_y + middle))
    column = ((pixel * cos)[:, None, :] + (x + pixel * sin)[:, :, None]).floor_()
    row = ((y + pixel * cos)[:, :, None] - (pixel * sin)[:, None, :]).floor_()
    place = row.mul_(CANVAS).add_(column).long().flatten(1)
    canvas = _canvas(texture, where.key).expand(len(place), -1)
    return canvas.gather(1, place).view(-1, grid, grid)


def _canvas(texture: str, keys: np.ndarray) -> torch.Tensor:
    """(n or 1, CANVAS^2) float, 1 where the texture is on; noise and rain have one canvas per image."""
    if texture == "noise":
        return (_random_pixels(keys, CANVAS) < 0).flatten(1).float()
    if texture == "rain":
        # a pixel is wet if a drop starts there or up to DROP - 1 pixels above
        starts = _random_pixels(keys, CANVAS + DROP - 1) < round(2**32 * DROP_RATE) - 2**31
        return reduce(torch.logical_or, (starts[:, i : i + CANVAS] for i in range(DROP))).flatten(1).float()
    return torch.from_numpy(_pattern(texture)).flatten()[None]


def _random_pixels(keys: np.ndarray, rows: int) -> torch.Tensor:
    """(n, rows, CANVAS) int32, uniform over int32: a hash of (key, pixel), constants of lowbias32 (Wellons 2018)."""
    halves = keys.view(np.int32).reshape(-1, 2)  # two of 32 bits
    low, high = torch.from_numpy(halves.copy()).T[:, :, None]
    h = torch.arange(rows * CANVAS, dtype=torch.int32) ^ low
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
