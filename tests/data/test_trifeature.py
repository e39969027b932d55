"""Trifeature against its facts, one by one."""

import hashlib
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from kdlib import data
from kdlib.data import trifeature as t
from kdlib.errors import InvalidInput


def changed(ids, **features):
    """(N, 4) numbers of ids with another value of some features: one, or one for each id."""
    numbers = t.id_numbers(ids)
    for feature, values in features.items():
        values = [values] * len(numbers) if isinstance(values, str) else values
        numbers[:, t.FIELDS.index(feature)] = [t.NAMES[feature].index(value) for value in values]
    return numbers


def mask(ids, *, geometry_of=None, image_size=224, **features):
    """(N, H, W) 0 .. 1: how much each pixel shows of the color; white is 255 on 128."""
    white = changed(ids, color="white", **features)
    images = t.render(white, geometry_of=ids if geometry_of is None else geometry_of, image_size=image_size)
    return (images[:, 0].numpy().astype(float) - t.GREY) / 127


def some(shape="square", texture="solid", color="white", n=20):
    return [f"{shape}_{texture}_{color}_{i}" for i in range(n)]


def everything(per_combination=100):
    cells = np.indices((10, 10, 10, per_combination))
    return cells.reshape(4, -1).T


@pytest.fixture(scope="module")
def all_geometry():
    return t.geometry(everything())


# --- the picture ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 32, 50, 224, 300])
def test_size_and_type(size):
    x = t.render(some(n=3), image_size=size)
    assert tuple(x.shape) == (3, 3, size, size) and str(x.dtype) == "torch.uint8"


def test_background_is_grey_and_colors_are_the_papers():
    colors = {
        "red": (255, 0, 0),
        "green": (0, 255, 0),
        "blue": (0, 0, 255),
        "yellow": (255, 255, 0),
        "pink": (255, 102, 255),
        "cyan": (0, 255, 255),
        "purple": (77, 0, 128),
        "ocean": (26, 102, 128),
        "orange": (255, 153, 0),
        "white": (255, 255, 255),
    }
    assert tuple(colors) == t.COLOR_NAMES and t.GREY == 128
    ids = [f"square_solid_{c}_0" for c in colors]
    for image, x, y, color in zip(t.render(ids).numpy(), *t.geometry(ids)[2:4], colors.values(), strict=True):
        assert tuple(image[:, int(y), int(x)]) == color
        assert (image[:, [0, 0, -1, -1], [0, -1, 0, -1]] == 128).all()


def test_value_is_m_times_color_plus_the_rest_grey():
    ids = some("star", "dots", n=5)
    m = mask(ids, image_size=64)
    for color in ("ocean", "orange"):
        for channel, share in enumerate(t.COLORS[color]):
            value = m * share + (1 - m) * 0.5
            drawn = t.render(changed(ids, color=color), geometry_of=ids, image_size=64).numpy()[:, channel]
            assert np.abs(drawn - 255 * value).max() < 1.5  # two roundings and 127.5 against 128


AREAS = {  # of 128 x 128 pixels, by hand
    "triangle": 128 * 64 * 3**0.5 / 2,
    "square": 128**2,
    "plus": 128**2 * 5 / 9,
    "circle": np.pi * 64**2,
    "tee": 128**2 * 5 / 9,
    "rhombus": 128 * 76 / 2,
    "pentagon": 2.5 * 64**2 * np.sin(np.radians(72)),
    "star": 1.122570 * 64**2,
    "fivesquare": 128**2 * 5 / 9,
    "trapezoid": (60 + 128) / 2 * 96,
}


@pytest.mark.parametrize("shape", t.SHAPE_NAMES)
def test_shapes_have_their_area_at_every_angle_and_place_so_they_lie_inside_the_image(shape):
    areas = mask(some(shape, n=40)).sum(axis=(1, 2))
    assert np.abs(areas / AREAS[shape] - 1).max() < 0.01


@pytest.mark.parametrize("shape", t.SHAPE_NAMES)
def test_shapes_are_their_polygons_turned_and_placed_as_matplotlib_draws_them(shape):
    from matplotlib.patches import Polygon

    ids = some(shape, n=3)
    column, row = np.meshgrid(np.arange(224) + 0.5, np.arange(224) + 0.5)
    points = np.stack([column.ravel(), row.ravel()], axis=1)
    for m, turn, x, y in zip(mask(ids), *(t.geometry(ids)[i] for i in (0, 2, 3)), strict=True):
        a = np.radians(turn)
        rotate = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        corners = np.linspace(0, 2 * np.pi, 721)[:, None]
        parts = t.SHAPES[shape] or (64 * np.hstack([np.cos(corners), np.sin(corners)]),)
        inside = np.any([Polygon(p @ rotate.T + [x, y]).get_path().contains_points(points) for p in parts], axis=0)
        assert ((m.ravel() > 0.5) != inside).mean() < 0.001


def test_plus_and_fivesquare_share_a_board_of_nine():
    plus, fivesquare, square = (
        mask(["circle_solid_red_5".replace("circle", s)], geometry_of=["square_solid_red_5"])
        for s in ("plus", "fivesquare", "square")
    )
    overlap = (plus > 0.5) & (fivesquare > 0.5)
    assert overlap.mean() * 224**2 == pytest.approx(128**2 / 9, rel=0.05)  # the middle one
    assert not ((plus > 0.5) & (square < 0.5)).any() and not ((fivesquare > 0.5) & (square < 0.5)).any()


def test_rotations_and_offsets_are_uniform_over_their_whole_range(all_geometry):
    for turn in (all_geometry.turn, all_geometry.texture_turn):
        counts = np.bincount(turn + 45)
        assert len(counts) == 90 and turn.min() == -45 and np.abs(counts - 1e5 / 90).max() < 5 * (1e5 / 90) ** 0.5
    for offset in (all_geometry.offset_x, all_geometry.offset_y):
        counts = np.bincount(offset)
        assert len(counts) == 10 and np.abs(counts - 1e4).max() < 500


def test_positions_are_uniform_where_the_turned_template_fits(all_geometry):
    turn = np.radians(all_geometry.turn)
    half = 64 * (np.cos(turn) + np.abs(np.sin(turn)))
    for center in (all_geometry.x, all_geometry.y):
        assert (center >= half).all() and (center <= 224 - half).all()
        place = (center - half) / (224 - 2 * half)
        assert np.abs(np.histogram(place, 10, (0, 1))[0] - 1e4).max() < 500


def test_the_parts_of_a_geometry_are_independent_of_each_other_and_of_the_features(all_geometry):
    columns = np.stack([*map(np.asarray, all_geometry), *everything().T]).astype(float)
    columns = np.delete(columns, [2, 3], axis=0)  # x and y have room that depends on the turn
    assert np.abs(np.corrcoef(columns) - np.eye(len(columns))).max() < 0.02


SHARES = {
    "solid": 1,
    "stripes": 0.3,
    "grid": 0.51,
    "hexgrid": 0.36,
    "dots": 0.49,
    "noise": 0.5,
    "triangles": 0.41,
    "zigzags": 0.3,
    "rain": 1 - 0.95**7,
    "pluses": 0.45,
}  # of a tile; hexgrid: 1 - (8 / 10)^2


@pytest.mark.parametrize("texture", t.TEXTURES)
def test_textures_have_their_share_of_pixels(texture):
    ids = some(texture=texture)
    inside = mask(ids, texture="solid") == 1
    on = mask(ids)[inside]
    assert set(on) <= {0, 1} and on.mean() == pytest.approx(SHARES[texture], abs=0.02)


def upright(texture):
    """(64, 64) bool from the middle of a square whose texture is not turned."""
    ids = np.array(some(texture=texture, n=1000))
    ids = ids[t.geometry(ids).texture_turn == 0][:1]
    x, y = (int(v[0]) for v in t.geometry(ids)[2:4])
    return mask(ids)[0, y - 32 : y + 32, x - 32 : x + 32] > 0.5


def runs(line):
    """Lengths of the runs of True that touch neither end."""
    ends = np.flatnonzero(np.diff(np.r_[0, line, 0]))
    return [b - a for a, b in ends.reshape(-1, 2) if a > 0 and b < len(line)]


def test_lines_are_three_wide_and_ten_apart():
    stripes, grid = upright("stripes"), upright("grid")
    assert set(runs(stripes[:, 0])) == {3} and (stripes == stripes[:, :1]).all()
    assert (stripes[10:] == stripes[:-10]).all()
    assert set(runs(grid[~grid.all(axis=1)][0])) == set(runs(grid[:, ~grid.all(axis=0)][:, 0])) == {3}


def test_dots_have_a_squared_radius_of_16_and_pluses_arms_of_three():
    dots, pluses, zigzags = upright("dots"), upright("pluses"), upright("zigzags")
    assert max(max(runs(row), default=0) for row in dots) == 9  # -4 .. 4
    assert {r for line in (*pluses, *pluses.T) for r in runs(line)} == {3, 9}
    assert {r for column in zigzags.T for r in runs(column)} == {3} and (zigzags[:, 20:] == zigzags[:, :-20]).all()


def test_triangles_widen_downwards_and_hexagons_have_six_neighbors():
    from scipy.ndimage import label

    widths = [max(runs(row), default=0) for row in upright("triangles")]
    assert {1, 3, 5, 7, 9} <= set(widths)
    start = widths.index(0, 1) + 1
    assert widths[start : start + 9] == [1, 1, 3, 3, 5, 5, 7, 7, 9]
    cells = label(~upright("hexgrid"))[0]
    whole = [c for c in range(1, cells.max() + 1) if not ({c} & {*cells[0], *cells[-1], *cells[:, 0], *cells[:, -1]})]
    centers = np.array([np.argwhere(cells == c).mean(axis=0) for c in whole])
    middle = centers[np.argmin(np.abs(centers - 32).sum(axis=1))]
    distances = np.sort(np.hypot(*(centers - middle).T))[1:8]
    assert distances[:6] == pytest.approx(10, abs=0.7) and distances[6] > 16


def test_rain_falls_in_drops_of_seven_by_one():
    rain = upright("rain")
    vertical = [r for column in rain.T for r in runs(column)]
    assert min(vertical) == 7 and vertical.count(7) > len(vertical) / 2
    assert min(r for row in rain for r in runs(row)) == 1


def test_noise_is_a_coin_a_pixel():
    noise = upright("noise").astype(float)
    for near, far in ((noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1]), (noise[1:, 1:], noise[:-1, :-1])):
        assert abs(np.corrcoef(near.ravel(), far.ravel())[0, 1]) < 4 / 63
    a, b = (mask(["square_noise_red_0"], geometry_of=[g]) > 0.5 for g in ("square_noise_red_1", "square_noise_blue_1"))
    solid = mask(["square_solid_red_0"] * 2, geometry_of=["square_noise_red_1", "square_noise_blue_1"])
    both = (solid == 1).all(axis=0)
    assert both.sum() > 3000 and (a[0] == b[0])[both].mean() == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("size", [112, 56, 32])
def test_smaller_images_are_area_averages_of_the_large_one(size):
    ids = ["star_dots_white_1", "triangle_noise_red_2", "circle_solid_blue_3", "plus_rain_orange_4"]
    large, k = t.render(ids).numpy().astype(float), 224 // size
    average = large.reshape(4, 3, size, k, size, k).mean(axis=(3, 5))
    assert np.abs(average - t.render(ids, image_size=size).numpy()).max() <= 1.01


# --- an image depends on (seed, id) alone -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [224, 32, 45])
def test_any_order_and_batch_size_has_the_same_pixels(size):
    numbers = everything(2)[::37]
    whole = t.render(numbers, image_size=size).numpy()
    order = np.random.default_rng(0).permutation(len(numbers))
    assert (t.render(numbers[order], image_size=size).numpy() == whole[order]).all()
    one_by_one = [t.render(t.id_names(numbers[i : i + 1]), image_size=size).numpy()[0] for i in order[:20]]
    assert (np.stack(one_by_one) == whole[order[:20]]).all()
    assert (t.render(np.repeat(numbers[:1], 23, axis=0), image_size=size).numpy() == whole[0]).all()


def test_pixels_are_what_they_were_when_this_was_written():
    ids = [f"{s}_{x}_{c}_7" for s, x, c in zip(t.SHAPE_NAMES, t.TEXTURES, t.COLOR_NAMES, strict=True)]
    for size, digest in ((224, "cbf14b5ea81358cd"), (32, "7be73799131409a0")):
        pixels = t.render(ids, image_size=size, seed=1).numpy()
        assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == digest


def test_no_two_images_share_a_geometry(all_geometry):
    assert len(np.unique(np.stack([all_geometry.x, all_geometry.y], axis=1), axis=0)) == 100_000
    assert len(np.unique(all_geometry.key)) == 100_000
    circles = t.render(some("circle", n=300), image_size=64).numpy()
    assert len({image.tobytes() for image in circles}) == 300


def test_another_seed_is_another_image():
    a, b = (t.render(some(n=1), seed=s).numpy() for s in (0, 1))
    assert (a != b).any()
    assert not set(t.geometry(everything(1), seed=0).x) & set(t.geometry(everything(1), seed=1).x)


def test_ids_as_names_and_as_numbers():
    numbers = everything(3)[::211]
    names = t.id_names(numbers)
    assert (t.id_numbers(names) == numbers).all() and (t.id_numbers(list(names)) == numbers).all()
    assert t.id_names(np.array([[3, 4, 0, 17]]))[0] == "circle_dots_red_17"
    assert t.id_numbers([]).shape == (0, 4) and len(t.render([])) == 0


# --- twins ------------------------------------------------------------------------------------------------------------


def test_a_twin_of_another_color_has_the_same_mask():
    ids = [f"{s}_{x}_white_3" for s in ("star", "tee") for x in t.TEXTURES]
    white, red = (t.render(i, geometry_of=ids).numpy().astype(int) for i in (ids, changed(ids, color="red")))
    assert (red[:, 0] == white[:, 0]).all()  # both are 1 in the first channel
    assert (np.abs(white[:, 1] + red[:, 1] - 256) <= 1).all()  # 1 and 0 in the second
    assert (white[:, 1] != red[:, 1]).any()


def test_geometry_of_lends_position_and_noise_to_another_id():
    red, blue = ["square_noise_red_1", "star_rain_red_2"], ["square_noise_blue_7", "star_rain_blue_8"]
    borrowed = t.render(blue, geometry_of=red, image_size=64)
    assert (borrowed == t.render(changed(red, color="blue"), geometry_of=red, image_size=64)).all()
    assert (borrowed != t.render(blue, image_size=64)).any()


def test_a_twin_of_another_texture_lies_in_the_same_outline():
    ids = some("pentagon", n=4)
    solid, grid = mask(ids), mask(ids, texture=["grid", "dots", "noise", "rain"])
    assert (grid <= solid).all() and ((grid == solid) | (grid == 0)).all() and (grid < solid).any()


@pytest.mark.parametrize("feature", ["color", "texture"])
def test_twins_change_one_feature_to_a_drawn_other_value(feature):
    numbers = everything(1)
    twins, column = t.twin_numbers(numbers, feature), t.FIELDS.index(feature)
    assert (np.delete(twins, column, axis=1) == np.delete(numbers, column, axis=1)).all()
    for value in range(10):
        assert set(twins[numbers[:, column] == value, column]) == set(range(10)) - {value}
    assert (t.twin_numbers(t.id_names(numbers[::-1]), feature)[::-1] == twins).all()


def test_factors_are_all_but_the_shape():
    ids = ["circle_dots_red_7", "circle_dots_white_7", "circle_rain_red_7", "star_dots_red_7"]
    x = t.factors(ids, seed=3)
    assert x.shape == (4, 17) and x[0, :3].tolist() == [1, 0, 0] and x[1, :3].tolist() == [1, 1, 1]
    assert np.linalg.norm(x[0, 3:13] - x[2, 3:13]) == pytest.approx(1) and (x[0, 3:13] == x[1, 3:13]).all()
    where = t.geometry(ids, seed=3)
    assert x[:, 13:15] == pytest.approx((np.stack([where.x, where.y], axis=1) - 112) / 96)
    assert x[:, 15:] == pytest.approx(np.stack([where.turn, where.texture_turn], axis=1) / 90)
    assert (t.factors(ids, seed=4) != x).any() and (np.abs(x[:, 13:]) <= 0.5).all()


def test_the_test_part_has_a_twin_of_every_image_for_each_group_but_shape():
    options = {"per_combination": 1, "test_images": 200, "image_size": 16, "split": "image", "seed": 5}
    test = data.load("trifeature", "test", **options)
    assert list(test.twins) == ["color", "texture"]
    for feature, images in test.twins.items():
        assert images.shape == test.x.shape and images.dtype == np.uint8
        twins = t.twin_numbers(test.ids, feature, seed=5)
        assert (images == t.render(twins, geometry_of=test.ids, image_size=16, seed=5).numpy()).all()
    assert len(data.load("trifeature", "train", **options).twins) == 0
    assert list(data.load("trifeature", "test", **options, label="shape x color").twins) == ["texture"]


@pytest.mark.parametrize("most, drawn", [(1000, ["a", "b"]), (3 * 4 * 4, ["a", "b", "a"])])
def test_twins_are_drawn_when_asked_for_and_kept_where_they_are_small(monkeypatch, most, drawn):
    monkeypatch.setattr(data, "KEPT_BYTES", most)
    asked = []

    def draw(feature):
        asked.append(feature)
        return np.zeros((1, 3, 4, 4), np.uint8)

    twins = data.Drawn({feature: partial(draw, feature) for feature in ("a", "b")})
    assert len(twins) == 2 and "a" in twins and not asked
    assert [twins[feature].shape for feature in ("a", "b", "a")] == [(1, 3, 4, 4)] * 3
    assert asked == drawn
    with pytest.raises(KeyError):
        twins["c"]


# --- the parts --------------------------------------------------------------------------------------------------------

DEFAULTS = {"label": "shape", "split": "image", "per_combination": 100, "test_images": 6000, "seed": 0}


def both(**options):
    return (t.select(part, **DEFAULTS | options) for part in ("train", "test"))


def rows(numbers):
    return set(map(tuple, numbers.tolist()))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"split": "balanced"},
        {"split": "combination"},
        {"label": "texture"},
        {"split": "combination", "per_combination": 7, "test_images": 70},
    ],
)
def test_the_parts_are_disjoint_and_together_everything(options):
    train, test = both(**options)
    options = DEFAULTS | options
    assert len(test) == options["test_images"] and len(train) + len(test) == 1000 * options["per_combination"]
    assert rows(train) | rows(test) == rows(everything(options["per_combination"]))


def test_balanced_tests_every_combination_equally_often():
    train, test = both(split="balanced", per_combination=4, test_images=1000)
    for part, times in ((train, 3), (test, 1)):
        assert (np.bincount(part[:, :3] @ [100, 10, 1], minlength=1000) == times).all()
    assert len(set(test[:, 3])) == 4  # which of the four is drawn


@pytest.mark.parametrize(
    "label, held_out",
    [
        ("shape", 60),
        ("shape", 10),
        ("shape", 990),
        ("color", 55),
        ("texture", 60),
        ("shape x color", 100),
        ("shape x color", 900),
    ],
)
def test_held_out_combinations_are_whole_and_every_class_is_in_both_parts(label, held_out):
    train, test = both(split="combination", label=label, per_combination=3, test_images=3 * held_out)
    assert not rows(train[:, :3]) & rows(test[:, :3]) and len(rows(test[:, :3])) == held_out
    counts = [np.bincount(t.labels(part, label), minlength=len(t.CLASSES[label])) for part in (train, test)]
    assert min(map(min, counts)) > 0 and np.ptp(counts[1]) <= 3


@pytest.mark.parametrize("split", ["image", "balanced", "combination"])
def test_a_larger_test_part_contains_a_smaller_one_and_the_seed_matters(split):
    small, large, other = (
        rows(list(both(split=split, per_combination=10, test_images=n, seed=s))[1])
        for n, s in ((1000, 0), (2000, 0), (1000, 1))
    )
    assert small < large and small != other


def test_load_gives_labels_groups_and_the_pixels_of_render():
    options = {"per_combination": 2, "test_images": 1000, "image_size": 16, "split": "balanced", "seed": 5}
    test = data.load("trifeature", "test", **options)
    shape, texture, color, _ = t.id_numbers(test.ids).T
    assert test.class_names == t.SHAPE_NAMES and (test.y == shape).all() and test.y.dtype == np.int64
    assert set(test.groups) == {"color", "texture"}
    assert (test.groups["color"] == np.array(t.COLOR_NAMES)[color]).all()
    assert (test.groups["texture"] == np.array(t.TEXTURES)[texture]).all()
    assert test.x.shape == (1000, 3, 16, 16) and test.x.dtype == np.uint8
    assert (test.x[::50] == t.render(test.ids[::50], image_size=16, seed=5).numpy()).all()


@pytest.mark.parametrize(
    "label, groups", [("texture", {"shape", "color"}), ("color", {"shape", "texture"}), ("shape x color", {"texture"})]
)
def test_groups_are_the_features_that_are_not_the_label(label, groups):
    test = data.load("trifeature", "test", label=label, per_combination=1, test_images=100, image_size=16)
    assert set(test.groups) == groups
    names = [i.split("_") for i in test.ids]
    spelled = {
        "texture": [n[1] for n in names],
        "color": [n[2] for n in names],
        "shape x color": [f"{n[0]} x {n[2]}" for n in names],
    }[label]
    assert [test.class_names[y] for y in test.y] == spelled


@pytest.mark.parametrize(
    "options, told",
    [
        ({"split": "balanced", "test_images": 1500}, "test_images = 1500"),
        ({"split": "balanced", "test_images": 500}, "test_images = 500"),
        ({"split": "combination", "test_images": 1050}, "test_images = 1050"),
        ({"split": "combination", "test_images": 500}, "test_images = 500"),
        ({"split": "combination", "label": "shape x color"}, "test_images = 6000"),
        ({"test_images": 100_000}, "test_images = 100000"),
        ({"test_images": 0}, "test_images = 0"),
        ({"per_combination": 0}, "per_combination.* 0"),
        ({"per_combination": 1.5}, "per_combination.* 1.5"),
        ({"seed": -1}, "seed.* -1"),
        ({"label": "colour"}, "'colour'"),
        ({"split": "images"}, "'images'"),
    ],
)
def test_bad_options_are_refused_and_named(options, told):
    with pytest.raises(InvalidInput, match=told):
        data.load("trifeature", "train", **DEFAULTS | options)


@pytest.mark.parametrize(
    "ids, options, told",
    [
        (["circle_dots_red"], {}, "'circle_dots_red'"),
        (["circle_dots_red_-1"], {}, "red_-1"),
        (["circle_dots_red_07"], {}, "red_07"),
        (["circle_dots_read_7"], {}, "'read'"),
        ("circle_dots_red_7", {}, "shape \\(\\)"),
        (np.zeros((3, 3), int), {}, "\\(3, 3\\)"),
        ([[0, 0, 10, 1]], {}, "\\[0, 0, 10, 1\\]"),
        (np.zeros((1, 4)), {}, "float64"),
        (some(n=2), {"geometry_of": some(n=1)}, "1 geometry_of"),
        (some(n=1), {"image_size": 8}, "image_size = 8"),
        (some(n=1), {"seed": 0.5}, "seed = 0.5"),
    ],
)
def test_render_refuses_what_does_not_exist(ids, options, told):
    with pytest.raises(InvalidInput, match=told):
        t.render(ids, **options)


def test_names_that_do_not_exist_elsewhere():
    with pytest.raises(InvalidInput, match="'validation'"):
        data.load("trifeature", "validation")
    with pytest.raises(InvalidInput, match="'shape'"):
        t.twin_numbers(some(n=1), "shape")


def test_ids_and_geometry_do_without_torch():
    code = (
        "import sys; from kdlib.data import trifeature as t; t.geometry(['circle_dots_red_7']);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
