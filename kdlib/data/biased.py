"""`trifeature-biased`: Trifeature's images with a binary label, a binary group, and a dial for their correlation.

Its disparities can be worked out on paper, so it tests every fairness number. It is
also a study of its own: what does distillation do to a disparity whose cause is known? The dial itself is plain
arithmetic: the data set is made by it, and measuring compares with it. torch is needed to draw alone.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import product

import numpy as np

from kdlib.data import Drawn, Root, Split, trifeature
from kdlib.errors import InvalidInput

PLACE = "data set 'trifeature-biased'"
# The negative class (0) comes first, and so does the group that rho > 0 gives fewer positives.
SHAPE_SETS = {
    "concave": ("plus", "tee", "star", "fivesquare"),
    "convex": ("triangle", "square", "circle", "rhombus", "pentagon", "trapezoid"),
}
COLOR_SETS = {"cool": ("green", "blue", "cyan", "purple", "ocean"), "warm": ("red", "yellow", "pink", "orange")}
GROUPS = tuple(COLOR_SETS)
SET_DRAW = 110  # for the colors of twins; no draw of trifeature.py


def load_biased(
    part: str,
    /,
    *,
    root: Root,
    label: str,
    rho_train: float,
    rho_test: float,
    group_share: float,
    train_images: int,
    test_images: int,
    image_size: int,
    seed: int,
) -> Split:
    """A binary label (two sets of shapes) and a binary group (two sets of colors) with a given correlation.

    label        'convex': the positive class, half of each part
    rho_train    correlation (phi) of being positive with being warm in the training part, -1 .. 1; 0: none. The groups'
                 sizes limit it: `largest_rho`
    rho_test     the same in the test part
    group_share  share of warm images, between 0 and 1
    The four counts are constructed, not drawn (`cell_counts`), and within them all combinations are equally frequent to
    within one. groups: {'color_set': 'warm' or 'cool'}. ids and pixels are Trifeature's, with even indices in
    training and odd ones in test. `root` is ignored.
    Raises InvalidInput for options that no data set can have.
    """
    test = part == "test"
    n = test_images if test else train_images
    counts = cell_counts(n, rho=rho_test if test else rho_train, group_share=group_share)
    sets = [(shapes, colors) for shapes in SHAPE_SETS.values() for colors in COLOR_SETS.values()]
    cells = [_cell(*pair, n=m, test=test, seed=seed) for pair, m in zip(sets, counts.ravel(), strict=True)]
    numbers, cell = np.concatenate(cells), np.repeat(np.arange(4), counts.ravel())
    x = trifeature.render(numbers, image_size=image_size, seed=seed).numpy()
    groups = {"color_set": np.array(GROUPS)[cell % 2]}
    twins = {"color_set": partial(color_set_twins, numbers, image_size=image_size, seed=seed)} if test else {}
    return Split(trifeature.id_names(numbers), x, cell // 2, groups, tuple(SHAPE_SETS), Drawn(twins))


def color_set_twins(ids: trifeature.Ids, *, image_size: int, seed: int) -> np.ndarray:
    """(N, 3, H, W) uint8: each image again, its geometry kept, in a color of the other set, by hash of (seed, id)."""
    numbers = trifeature.id_numbers(ids)
    sets = {name: np.array([trifeature.COLOR_NAMES.index(c) for c in colors]) for name, colors in COLOR_SETS.items()}
    cool, warm = (c[trifeature.picked(numbers, seed, draw=SET_DRAW, choices=len(c))] for c in sets.values())
    twins = numbers.copy()
    twins[:, 2] = np.where(np.isin(numbers[:, 2], sets["warm"]), cool, warm)
    return trifeature.render(twins, image_size=image_size, seed=seed, geometry_of=numbers).numpy()


def _cell(shapes: tuple[str, ...], colors: tuple[str, ...], *, n: int, test: bool, seed: int) -> np.ndarray:
    """(n, 4) numbers: the cell's combinations in the order of their hash, again and again with the next index."""
    numbers = (
        map(trifeature.SHAPE_NAMES.index, shapes),
        range(10),
        map(trifeature.COLOR_NAMES.index, colors),
        [int(test)],
    )
    kinds = np.array(list(product(*numbers)))
    kinds = kinds[np.argsort(trifeature.hashed(kinds, seed, draw=trifeature.SPLIT_DRAW), kind="stable")]
    times, place = np.divmod(np.arange(n), len(kinds))
    return kinds[place] + times[:, None] * [0, 0, 0, 2]


# ----------------------------------------------------------------------------------------------------------- the dial


def cell_counts(n: int, *, rho: float, group_share: float) -> np.ndarray:
    """(2, 2) int: how many of n images have label y (rows) and group a (columns: cool, warm).

    With g = group_share: n / 2 are positive, n g warm, n (g + rho sqrt(g (1 - g))) / 2 both; each is rounded to the
    nearest whole number, and the rest follows. Raises InvalidInput if there is no such table.
    """
    g = _check_dial(rho, group_share)
    shares = 0.5, g, (g + rho * math.sqrt(g * (1 - g))) / 2
    positive, warm, both = (math.floor(n * share + 0.5) for share in shares)
    if not 0 < warm < n:
        raise InvalidInput(f"group_share = {g!r} in {PLACE}: one group gets none of {n} images; give more images.")
    # at the largest rho the three roundings may disagree by one
    both = min(max(both, positive + warm - n, 0), positive, warm)
    return np.array([[n - positive - warm + both, warm - both], [positive - both, both]])


def _check_dial(rho: float, group_share: float) -> float:
    """group_share. Raises InvalidInput unless half of the labels can be positive with this correlation and group."""
    if not 0 < group_share < 1:
        raise InvalidInput(f"group_share = {group_share!r} in {PLACE}: give a share above 0 and below 1.")
    most = largest_rho(group_share)
    if not abs(rho) <= most + 1e-12:  # so NaN is refused too
        raise InvalidInput(
            f"rho = {rho!r} in {PLACE}: with group_share = {group_share!r} it lies within "
            f"-{most:.4f} .. {most:.4f}; give such a rho, or bring group_share nearer to 0.5."
        )
    return group_share


def largest_rho(group_share: float) -> float:
    """The correlation at which the smaller group has one label alone: sqrt(smaller share / larger share), 0 .. 1."""
    smaller = min(group_share, 1 - group_share)
    return math.sqrt(smaller / (1 - smaller))


def base_rates(*, rho: float, group_share: float) -> dict[str, float]:
    """P(Y = 1 | group): cool 1/2 - rho/2 sqrt(g / (1 - g)), warm 1/2 + rho/2 sqrt((1 - g) / g), g = group_share."""
    odds = math.sqrt((1 - group_share) / _check_dial(rho, group_share))
    return {"cool": 0.5 - rho / 2 / odds, "warm": 0.5 + rho / 2 * odds}
