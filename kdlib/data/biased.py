"""`trifeature-biased`: Trifeature's images with a binary label, a binary group, and a dial for their correlation.

Its disparities can be worked out on paper (`bias_dial.expected_disparity`), so it tests every fairness number. It is
also a study of its own: what does distillation do to a disparity whose cause is known?
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kdlib.data import Drawn, Split, check_whole
from kdlib.data.dial import GROUPS, PLACE, cell_counts
from kdlib.data.trifeature import (
    COLOR_NAMES,
    SHAPE_NAMES,
    SPLIT_DRAW,
    Ids,
    hashed,
    id_names,
    id_numbers,
    picked,
    render,
)

# The negative class (0) comes first, and so does the group that rho > 0 gives fewer positives.
LABEL_SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "convex": {
        "concave": ("plus", "tee", "star", "fivesquare"),
        "convex": ("triangle", "square", "circle", "rhombus", "pentagon", "trapezoid"),
    },
    "right-angled": {
        "slanted": ("triangle", "circle", "rhombus", "pentagon", "star", "trapezoid"),
        "right-angled": ("square", "plus", "tee", "fivesquare"),
    },
}
COLOR_SETS = dict(
    zip(GROUPS, (("green", "blue", "cyan", "purple", "ocean"), ("red", "yellow", "pink", "orange")), strict=True)
)
SET_DRAW = 110  # for the colors of twins; no draw of trifeature.py


def load_biased(
    part: str,
    /,
    *,
    root: str | Path | None,
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

    label        'convex' or 'right-angled': the positive class, half of each part
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
    n = check_whole(f"{part}_images", test_images if test else train_images, least=1, place=PLACE)
    counts = cell_counts(n, rho=rho_test if test else rho_train, group_share=group_share)
    sets = [(shapes, colors) for shapes in LABEL_SETS[label].values() for colors in COLOR_SETS.values()]
    cells = [_cell(*pair, n=m, test=test, seed=seed) for pair, m in zip(sets, counts.ravel(), strict=True)]
    numbers, cell = np.concatenate(cells), np.repeat(np.arange(4), counts.ravel())
    x = render(numbers, image_size=image_size, seed=seed).numpy()
    groups = {"color_set": np.array(tuple(COLOR_SETS))[cell % 2]}
    drawn = Drawn(("color_set",) * test, lambda _: color_set_twins(numbers, image_size=image_size, seed=seed))
    return Split(id_names(numbers), x, cell // 2, groups, tuple(LABEL_SETS[label]), drawn)


def color_set_twins(ids: Ids, *, image_size: int, seed: int) -> np.ndarray:
    """(N, 3, H, W) uint8: each image again, its geometry kept, in a color of the other set, by hash of (seed, id)."""
    numbers = id_numbers(ids)
    sets = {name: np.array([COLOR_NAMES.index(c) for c in colors]) for name, colors in COLOR_SETS.items()}
    cool, warm = (c[picked(numbers, seed, draw=SET_DRAW, choices=len(c))] for c in sets.values())
    twins = numbers.copy()
    twins[:, 2] = np.where(np.isin(numbers[:, 2], sets["warm"]), cool, warm)
    return render(twins, image_size=image_size, seed=seed, geometry_of=numbers).numpy()


def _cell(shapes: tuple[str, ...], colors: tuple[str, ...], *, n: int, test: bool, seed: int) -> np.ndarray:
    """(n, 4) numbers: the cell's combinations in the order of their hash, again and again with the next index."""
    kinds = np.array(
        [(SHAPE_NAMES.index(s), t, COLOR_NAMES.index(c), int(test)) for s in shapes for t in range(10) for c in colors]
    )
    kinds = kinds[np.argsort(hashed(kinds, seed, draw=SPLIT_DRAW), kind="stable")]
    times, place = np.divmod(np.arange(n), len(kinds))
    return kinds[place] + times[:, None] * [0, 0, 0, 2]
