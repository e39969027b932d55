"""`trifeature-biased` has exactly the counts that its dial asks for, and Trifeature's pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib import data
from kdlib.data import biased as b
from kdlib.data import trifeature as t
from kdlib.errors import InvalidInput

DIAL = {
    "label": "convex",
    "rho_train": 0.6,
    "rho_test": 0.0,
    "group_share": 0.5,
    "train_images": 400,
    "test_images": 200,
    "image_size": 16,
    "seed": 0,
}


def biased(part, **options):
    return data.load("trifeature-biased", part, **DIAL | options)


def crossed(split):
    """(2, 2) counts: label, cool / warm."""
    group = split.groups["color_set"]
    return np.array([[((split.y == y) & (group == a)).sum() for a in ("cool", "warm")] for y in (0, 1)])


def test_the_parts_have_exactly_the_counts_that_were_asked_for():
    train, test = biased("train"), biased("test")
    assert crossed(train).tolist() == [[160, 40], [40, 160]] and crossed(test).tolist() == [[50, 50], [50, 50]]
    assert np.corrcoef(train.y, train.groups["color_set"] == "warm")[0, 1] == pytest.approx(0.6)
    assert crossed(biased("train", group_share=0.2, rho_train=0.25)).tolist() == [[180, 20], [140, 60]]
    assert train.class_names == ("concave", "convex")
    assert train.y.dtype == np.int64 and train.x.shape == (400, 3, 16, 16)


def test_labels_are_sets_of_shapes_and_groups_sets_of_colors():
    split = biased("train")
    shape, _, color, index = np.array([i.split("_") for i in split.ids]).T
    for y, shapes in enumerate(b.SHAPE_SETS.values()):
        assert set(shape[split.y == y]) == set(shapes)
    for name, colors in b.COLOR_SETS.items():
        assert set(color[split.groups["color_set"] == name]) == set(colors)
    assert sorted(s for shapes in b.SHAPE_SETS.values() for s in shapes) == sorted(t.SHAPE_NAMES)
    assert not set(b.COLOR_SETS["cool"]) & set(b.COLOR_SETS["warm"])


def test_within_a_cell_all_combinations_are_equally_frequent():
    split = biased("test", test_images=2600, rho_test=0.2)
    cells = np.stack([split.y, split.groups["color_set"] == "warm"], axis=1) @ [2, 1]
    numbers = t.id_numbers(split.ids)[:, :3] @ [100, 10, 1]
    for cell, size in enumerate((4 * 5, 4 * 4, 6 * 5, 6 * 4)):
        of_cell = np.unique(numbers[cells == cell], return_counts=True)[1]
        assert len(of_cell) == 10 * size and np.ptp(of_cell) <= 1


def test_images_are_trifeatures_and_no_image_is_in_both_parts():
    train, test = biased("train", train_images=800), biased("test", test_images=800)
    assert len(set(train.ids)) == len(set(test.ids)) == 800 and not set(train.ids) & set(test.ids)
    assert (test.x[::100] == t.render(test.ids[::100], image_size=16).numpy()).all()
    again = biased("train", train_images=800, test_images=10)
    other = biased("train", train_images=800, seed=1)
    assert (again.ids == train.ids).all() and (again.x == train.x).all()  # the other part's size does not matter
    assert set(other.ids) != set(train.ids)


def test_fairlearn_measures_the_expected_disparity_on_the_constructed_data():
    from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

    test = biased("test", rho_test=0.25, group_share=0.2, test_images=1000)
    group = test.groups["color_set"]
    predicted = np.zeros(1000, int)
    wanted = {(0, "cool"): 0.2, (0, "warm"): 0.4, (1, "cool"): 0.8, (1, "warm"): 0.9}
    for (y, a), rate in wanted.items():
        cell = np.flatnonzero((test.y == y) & (group == a))
        predicted[cell[: round(rate * len(cell))]] = 1
    # base rates 0.4375 and 0.75: cool 0.4375 * 0.8 + 0.5625 * 0.2 = 0.4625, warm 0.75 * 0.9 + 0.25 * 0.4 = 0.775
    expected = {"dpd": 0.775 - 0.4625, "eod": max(0.9 - 0.8, 0.4 - 0.2)}
    assert demographic_parity_difference(test.y, predicted, sensitive_features=group) == pytest.approx(expected["dpd"])
    assert equalized_odds_difference(test.y, predicted, sensitive_features=group) == pytest.approx(expected["eod"])


@pytest.mark.parametrize(
    "options, told",
    [
        ({"rho_train": 1.5}, "rho.* 1.5"),
        ({"rho_train": 0.6, "group_share": 0.1}, "rho = 0.6 .*-0.3333 .. 0.3333"),
        ({"rho_train": float("nan")}, "rho.* nan"),
        ({"rho_train": "0.5"}, "rho.* '0.5'"),
        ({"group_share": 0}, "group_share.* 0"),
        ({"group_share": 1.0}, "group_share = 1.0"),
        ({"group_share": 0.01, "rho_train": 0.0, "train_images": 10}, "group_share = 0.01"),
        ({"train_images": 0}, "train_images.* 0"),
        ({"label": "convx"}, "'convx'"),
        ({"image_size": 3}, "image_size = 3"),
    ],
)
def test_impossible_dials_are_refused(options, told):
    with pytest.raises(InvalidInput, match=told):
        biased("train", **options)


def test_a_part_that_does_not_exist_is_refused():
    with pytest.raises(InvalidInput, match="'all'"):
        biased("all")


def test_twins_of_the_test_part_have_a_color_of_the_other_set_and_nothing_else_changed():
    test = biased("test")
    assert list(test.twins) == ["color_set"] and len(biased("train").twins) == 0
    x = test.twins["color_set"]
    assert x.shape == test.x.shape and x.dtype == np.uint8
    drawn = {}  # the color sets whose rendering of an image is its twin
    for name, colors in b.COLOR_SETS.items():
        same = []
        for color in colors:
            numbers = t.id_numbers(test.ids)
            numbers[:, 2] = t.COLOR_NAMES.index(color)
            images = t.render(numbers, geometry_of=test.ids, image_size=16).numpy()
            same.append((images == x).all(axis=(1, 2, 3)))
        assert min(map(np.sum, same)) > 5, "every color of the other set occurs"
        drawn[name] = np.any(same, axis=0)
    assert (drawn["warm"] == (test.groups["color_set"] == "cool")).all() and (drawn["cool"] != drawn["warm"]).all()
    backwards = b.color_set_twins(test.ids[::-1], image_size=16, seed=0)
    assert (backwards[::-1] == x).all()
    assert (b.color_set_twins(test.ids, image_size=16, seed=1) != x).any()


# ----------------------------------------------------------------------------------------------------------- the dial


def test_counts_by_hand():
    # rho 0.4, groups alike: both = 1000 (0.5 + 0.4 * 0.5) / 2
    assert b.cell_counts(1000, rho=0.4, group_share=0.5).tolist() == [[350, 150], [150, 350]]
    # sqrt(0.2 * 0.8) = 0.4: both = 1000 (0.2 + 0.25 * 0.4) / 2; base rates 150 / 200 and 350 / 800
    assert b.cell_counts(1000, rho=0.25, group_share=0.2).tolist() == [[450, 50], [350, 150]]
    assert b.base_rates(rho=0.25, group_share=0.2) == pytest.approx({"cool": 0.4375, "warm": 0.75})
    assert b.cell_counts(100, rho=1.0, group_share=0.5).tolist() == [[50, 0], [0, 50]]
    assert b.cell_counts(100, rho=-0.5, group_share=0.2).tolist() == [[30, 20], [50, 0]]


@settings(max_examples=50, deadline=None)
@given(st.integers(50, 3000), st.floats(0.05, 0.95), st.floats(-1, 1))
def test_counts_give_rho_and_shares_to_within_rounding(n, share, part_of_largest):
    rho = part_of_largest * b.largest_rho(share)
    counts = b.cell_counts(n, rho=rho, group_share=share)
    assert counts.sum() == n and counts.min() >= 0
    assert abs(counts[1].sum() - n / 2) <= 0.5 and abs(counts[:, 1].sum() - n * share) <= 0.5
    base = b.base_rates(rho=rho, group_share=share)
    for a, name in enumerate(b.GROUPS):
        assert abs(counts[1, a] - base[name] * counts[:, a].sum()) <= 2
