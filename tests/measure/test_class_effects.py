"""Sizes and directions of class effects, verdicts a class, variance components: against truths that the tests set."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kdlib.errors import InvalidInput, KdlibWarning
from kdlib.measure import class_effects, class_nulls
from kdlib.measure.class_counts import CountedArm
from kdlib.measure.class_tests import compare_values
from tests import simulated

FINE = 1_000_000  # test images so many that counts hardly round
FIVE_RUNS = pd.DataFrame({"run_id": list("abcde"), "seed": range(5), "teacher_id": None})


def counts(values):
    return np.rint(FINE * np.clip(values, 0, 1)).astype(int)


def arm(values, **options):
    """Predictions of one arm whose class accuracies are `values` (R, C), to 1 in 1,000."""
    return simulated.from_counts(np.rint(1000 * np.asarray(values)).astype(int), total=1000, **options)


def ds(values):
    return arm(values, model="ds", temperature=4)


# Hedges' g


def test_g_equals_pingouin():
    import pingouin

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 6)), rng.normal(1, 1, size=(4, 6))
    theirs = [pingouin.compute_effsize(y, x, eftype="hedges") for x, y in zip(a.T, b.T, strict=True)]
    np.testing.assert_allclose(class_effects.hedges_g(a, b)[0], theirs, atol=1e-12)


@pytest.mark.parametrize("effect", [0, 1.5, 5])
def test_the_interval_of_g_covers_as_stated(effect):
    rng = np.random.default_rng(1)
    _, low, high = class_effects.hedges_g(rng.normal(size=(5, 4000)), rng.normal(effect, 1, (5, 4000)))
    assert ((low <= effect) & (effect <= high)).mean() == pytest.approx(0.95, abs=0.011)


def test_a_class_that_never_varies_has_no_effect_size():
    a = arm([[0.9, 0.5 + k / 100, 0.7] for k in range(5)])
    b = ds([[0.9, 0.6 + k / 100, 0.7 + k / 100] for k in range(5)])
    table = class_effects.class_verdicts(a, b, margin=0.02, normalise="none")
    # both arms: sd sqrt(2.5) points, difference 10 points, J = 1 - 3 / 31
    assert table.g[1] == pytest.approx((1 - 3 / 31) * 10 / np.sqrt(2.5))
    assert table.g_low[1] < table.g[1] < table.g_high[1]
    assert table[["g", "g_low", "g_high"]].iloc[0].isna().all() and (table.margin == 0.02).all()


def test_g_flips_its_sign_with_the_arms():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 8))
    there, back = class_effects.hedges_g(a, b), class_effects.hedges_g(b, a)
    np.testing.assert_allclose(there[0], -back[0])
    np.testing.assert_allclose(there[1], -back[2], atol=1e-9)


# verdicts


def test_verdicts_tell_changed_equivalent_and_unknown_apart():
    offsets = np.array([-2, -1, 0, 1, 2]) / 1000
    base = [0.7 + offsets, 0.7 + offsets, 0.7 + 40 * offsets, 0.6 + offsets, 0.8 - offsets]
    moved = [0.8 + offsets, 0.701 - offsets, 0.72 + 40 * offsets[::-1], 0.6 - offsets, 0.8 + offsets]
    table = class_effects.class_verdicts(
        arm(np.transpose(base)), ds(np.transpose(moved)), margin=0.02, normalise="none", test="welch"
    )
    assert table.verdict.tolist() == ["changed", "equivalent", "inconclusive", "equivalent", "equivalent"]
    assert table.difference.tolist() == pytest.approx([0.1, 0.001, 0.02, 0, 0])
    assert ((table.low <= table.difference) & (table.difference <= table.high)).all()


@pytest.mark.parametrize(("margin", "verdict"), [(0.0340, "inconclusive"), (0.0365, "equivalent")])
def test_five_seeds_with_an_sd_of_3_points_need_a_margin_of_3_and_a_half(margin, verdict):
    values = 0.7 + 0.03 / np.sqrt(2.5) * np.array([-2, -1, 0, 1, 2])  # sd 3 points; se 1.90, t(8) at 95 % 1.86: 3.53
    a, b = (np.c_[values, values[::-1]], np.c_[values[::-1], values])
    table = class_effects.class_verdicts(arm(a), ds(b), margin=margin, normalise="none", test="welch", correction=None)
    assert set(table.verdict) == {verdict}


def test_equivalence_is_falsely_found_in_at_most_the_level():
    rng = np.random.default_rng(0)
    for test in ("welch", "moderated"):
        for difference in (0.05, -0.05):
            a, b = rng.normal(0, 0.02, (5, 4000)), rng.normal(difference, 0.02, (5, 4000))
            found = compare_values(a, b, np.zeros(4000, bool), test=test)
            p = class_effects._p_equivalent(found, 0.05, 0.0079)
            assert 0.03 < (p <= 0.05).mean() < 0.06


def test_a_class_that_every_run_gets_right_is_equivalent_and_an_empty_one_unknown():
    rng = np.random.default_rng(0)
    nds, distilled = (np.c_[np.full(5, 100), rng.binomial(100, 0.7, 5), np.zeros(5, int)] for _ in range(2))
    arms = (
        simulated.from_counts(nds, total=[100, 100, 0]),
        simulated.from_counts(distilled, total=[100, 100, 0], model="ds", temperature=4),
    )
    with pytest.warns(KdlibWarning):
        table = class_effects.class_verdicts(*arms, margin=0.01)
    assert table.verdict[0] == "equivalent"
    assert table.verdict[2] == "inconclusive"


@pytest.mark.parametrize("margin", [0, -0.1, np.nan])
def test_a_margin_must_be_positive(margin):
    study = simulated.study()
    with pytest.raises(InvalidInput, match=str(margin)):
        class_effects.class_verdicts(study.arm(model="nds"), study.arm(model="ds", temperature=2.0), margin=margin)


# spread of the true change


def arms_with_change(rng, n_classes, spread, *, total=100):
    truth = rng.uniform(0.5, 0.85, n_classes)
    angle = 2 * np.arcsin(np.sqrt(truth)) + rng.normal(0, spread, n_classes)
    drawn = [rng.binomial(total, p, (5, n_classes)) for p in (truth, np.sin(angle / 2) ** 2)]
    return [
        CountedArm(name, name, np.nan, FIVE_RUNS, correct, np.full(n_classes, total))
        for name, correct in zip(("nds", "ds"), drawn, strict=True)
    ]


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.2])
def test_change_sd_recovers_the_spread_that_was_put_in(spread):
    rng = np.random.default_rng(0)
    found = pd.DataFrame([class_effects._change_sd(*arms_with_change(rng, 200, spread), "arcsine") for _ in range(60)])
    assert found.sd.median() == pytest.approx(spread, abs=0.012)
    assert ((found.low <= spread) & (spread <= found.high)).mean() >= 0.85  # 60 intervals of 95 %
    assert (found.low <= found.sd).all() and (found.sd <= found.high).all()


def test_change_sd_has_a_row_a_temperature_and_grows_with_the_effect():
    study = simulated.study(n_classes=40, temperatures=(10, 2), effect=0.2)
    table = class_effects.change_sd(study, normalise="difference")
    assert list(table.columns) == ["temperature", "sd", "low", "high"]
    assert table.temperature.tolist() == [2, 10]
    assert table.sd[1] == pytest.approx(0.2, abs=0.03)  # every class moves by 20 points, up or down
    assert table.high[0] < table.low[1]


def test_change_sd_refuses_runs_that_never_vary():
    same = {("nds", None): np.full((5, 3), 50), ("ds", 2): np.full((5, 3), 60)}
    with pytest.raises(InvalidInput, match="nds and ds"):
        class_effects.change_sd(simulated.from_counts_of_arms(same, total=100))


# direction


def inherited(rng, share, *, n_classes=100, n_seeds=5, teacher_noise=0.02):
    """(nds, teacher, ds) class values: ds goes `share` of the way to the teachers and copies its own one."""
    base, gap = rng.uniform(0.5, 0.8, n_classes), rng.normal(0, 0.03, n_classes)
    own = teacher_noise * rng.normal(size=(n_seeds, n_classes))
    noise = 0.02 * rng.normal(size=(2, n_seeds, n_classes))
    return base + noise[0], base + gap + own, base + share * gap + 0.5 * own + noise[1]


def slope(rng, share, **options):
    arms = [
        CountedArm(m, m, np.nan, FIVE_RUNS, counts(v), np.full(v.shape[1], FINE))
        for m, v in zip(("nds", "teacher", "ds"), inherited(rng, share, **options), strict=True)
    ]
    return class_effects._direction(*arms, "difference")


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_slope_is_the_share_of_the_way_to_the_teacher(share):
    rng = np.random.default_rng(0)
    found = pd.DataFrame([slope(rng, share) for _ in range(80)])
    assert found.slope.mean() == pytest.approx(share, abs=0.02)
    assert ((found.low <= share) & (share <= found.high)).mean() >= 0.88


def test_a_plain_regression_would_find_a_direction_where_there_is_none():
    rng = np.random.default_rng(0)
    naive = []
    for _ in range(80):
        nds, teacher, distilled = (x.mean(axis=0) for x in inherited(rng, 0.0))
        naive.append(np.polyfit(teacher - nds, distilled - nds, 1)[0])
    assert np.mean(naive) > 0.08


def test_direction_has_a_row_a_temperature():
    rng = np.random.default_rng(3)
    nds, teacher, near = inherited(rng, 0.9, n_classes=40)
    far = nds + rng.normal(0, 0.02, nds.shape)
    blocks = {("teacher", None): teacher, ("nds", None): nds, ("ds", 2): near, ("ds", 10): far}
    study = simulated.from_counts_of_arms({key: np.rint(1000 * v).astype(int) for key, v in blocks.items()}, total=1000)
    table = class_effects.direction(study)
    assert list(table.columns) == ["temperature", "n_seeds", "slope", "low", "high"]
    assert table.slope[0] == pytest.approx(0.9, abs=0.25)
    assert table.slope[1] == pytest.approx(0.0, abs=0.25)


def test_direction_needs_three_seeds_that_all_arms_share():
    study = simulated.study(temperatures=(2,))
    with pytest.raises(InvalidInput, match="2"), pytest.warns(KdlibWarning):
        class_effects.direction(study.take(np.r_[0:5, 5:10, 10:12]))


def test_direction_is_undefined_where_teacher_and_nds_have_one_profile():
    rng = np.random.default_rng(5)
    block = rng.normal(0.7, 0.02, (3, 5, 4))
    block[:2] -= block[:2].mean(axis=1, keepdims=True) - 0.7
    blocks = dict(zip((("nds", None), ("teacher", None), ("ds", 2)), np.rint(1000 * block).astype(int), strict=True))
    table = class_effects.direction(simulated.from_counts_of_arms(blocks, total=1000))
    assert table[["slope", "low", "high"]].isna().all(axis=None)


# trends of both


def world(rng, shares, *, n_classes=30, n_seeds=5, total=200):
    """Students of T = 1, 2, 4, 8 take these shares of the way to their own teacher."""
    noise = 0.02 * rng.standard_normal((2 + len(shares), n_seeds, n_classes))
    base, gap = rng.uniform(0.5, 0.8, n_classes), rng.normal(0, 0.06, n_classes)
    teacher = gap + noise[0]
    values = {("teacher", None): base + teacher, ("nds", None): base + noise[1]}
    values |= {("ds", 2.0**i): base + share * teacher + noise[2 + i] for i, share in enumerate(shares)}
    blocks = {key: np.rint(total * v.clip(0, 1)).astype(int) for key, v in values.items()}
    return simulated.from_counts_of_arms(blocks, total=total)


def trends_of(shares, *, studies, **options):
    """{measure: one row per simulated study}."""
    rng = np.random.default_rng(0)
    found = pd.concat(
        [class_effects.profile_trends(world(rng, shares, **options), normalise="difference") for _ in range(studies)]
    )
    return {measure: rows for measure, rows in found.groupby("measure")}


def test_what_is_inherited_alike_at_every_t_has_no_trend():
    found = trends_of((0.6, 0.6, 0.6, 0.6), studies=30)
    for rows in found.values():
        assert (rows.p <= 0.05).sum() <= 4  # of 30 at 5 %
    assert found["slope"].change.mean() == pytest.approx(0, abs=0.01)


def test_what_is_inherited_more_and_more_has_a_trend_in_both():
    found = trends_of((0.2, 0.4, 0.6, 0.8), studies=8)
    assert found["slope"].change.mean() == pytest.approx(0.2, abs=0.02)
    assert (found["slope"].low > 0).all() and (found["variance"].low > 0).all()
    # variance 0.06^2 of the gap times 0.04, 0.16, 0.36, 0.64 on T = 1, 2, 4, 8: 0.2 for each doubling
    assert found["variance"].change.mean() == pytest.approx(0.2 * 0.06**2, rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [3, 5, 10])
def test_trends_are_calibrated(n_seeds):
    most = 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KdlibWarning)  # three seeds are few
        for shares in ((0.6, 0.6, 0.6, 0.6), (0.0, 0.0, 0.0, 0.0)):
            found = trends_of(shares, studies=200, n_seeds=n_seeds)
            assert all((rows.p <= 0.05).mean() <= most for rows in found.values())


def test_the_trend_is_the_line_through_the_slopes_of_direction():
    study = world(np.random.default_rng(1), (0.1, 0.5, 0.2, 0.9))
    slopes = class_effects.direction(study)["slope"]
    found = class_effects.profile_trends(study)
    assert list(found.columns) == ["measure", "change", "low", "high", "p", "visible", "se", "n_seeds"]
    assert found.measure.tolist() == ["slope", "variance"]
    assert found.change[0] == pytest.approx(np.polyfit([0, 1, 2, 3], slopes, 1)[0])
    spread = class_effects.change_sd(study)["sd"] ** 2
    assert found.change[1] == pytest.approx(np.polyfit([0, 1, 2, 3], spread, 1)[0], rel=0.5)
    assert (found.n_seeds == 5).all()


def test_a_trend_needs_two_temperatures_and_three_seeds():
    study = world(np.random.default_rng(1), (0.5, 0.5))
    with pytest.raises(InvalidInput, match="1"):
        class_effects.profile_trends(study.take(np.r_[0:15]))
    with pytest.raises(InvalidInput, match="2"), pytest.warns(KdlibWarning):
        class_effects.profile_trends(study.take(np.r_[0:5, 5:10, 10:12, 15:17]))


# components of variance


def test_decomposition_recovers_the_components_that_were_put_in():
    rng = np.random.default_rng(0)
    n_classes, k, s, total = 100, 10, 5, 100
    sds = {"temperature": 0.04, "teacher": 0.05, "student": 0.03}
    shapes = {"temperature": (k, 1, n_classes), "teacher": (1, s, n_classes), "student": (k, s, n_classes)}
    value = 0.7 + sum(sd * rng.normal(size=shapes[component]) for component, sd in sds.items())
    study = simulated.drawn_per_image(
        rng,
        value.reshape(k * s, n_classes).clip(0, 1),
        total=total,
        arms=[("ds", t, range(s)) for t in range(1, k + 1)],
    )
    table = class_effects.decomposition(study).set_index("component")
    assert list(table.index) == ["temperature", "teacher", "student", "test images"]
    for component, sd in sds.items():
        assert table.variance[component] == pytest.approx(sd**2, rel=0.25)
    assert table.variance["test images"] == pytest.approx(0.7 * 0.3 / total, rel=0.1)
    assert table.share.sum() == pytest.approx(1)


def test_decomposition_does_not_depend_on_the_order_of_samples_and_runs():
    rng = np.random.default_rng(0)
    study = simulated.drawn_per_image(
        rng, rng.uniform(0.5, 0.9, (6, 4)), total=11, arms=[("ds", 1, range(3)), ("ds", 2, range(3))]
    )
    rows = rng.permutation(44)
    moved = replace(
        study, predicted=study.predicted[:, rows], labels=study.labels[rows], sample_ids=study.sample_ids[rows]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KdlibWarning)
        pd.testing.assert_frame_equal(
            class_effects.decomposition(moved.take(np.array([3, 1, 0, 2, 5, 4]))), class_effects.decomposition(study)
        )


def test_decomposition_refuses_what_it_cannot_split():
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidInput, match="1 .*5"):
        class_effects.decomposition(simulated.study(temperatures=(2,)))
    single = simulated.drawn_per_image(
        rng, rng.uniform(0.5, 0.9, (10, 2)), total=[1, 40], arms=[("ds", 1, range(5)), ("ds", 2, range(5))]
    )
    with pytest.raises(InvalidInput, match="class 0"):
        class_effects.decomposition(single)


# references


def test_an_unknown_or_missing_reference_is_named():
    study = simulated.study(temperatures=(2,))
    with pytest.raises(InvalidInput, match="ndss"):
        class_nulls.count_trend(study, against="ndss")
    with pytest.raises(InvalidInput, match="fresh teacher"):
        class_nulls.count_trend(study, against="fresh teacher")
    with pytest.raises(InvalidInput, match="ds"):
        class_effects.change_sd(study.arm(model="nds"))
