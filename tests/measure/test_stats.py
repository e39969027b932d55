"""Intervals over seeds, arms, corrections."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.errors import InvalidInput, KdlibWarning
from kdlib.measure import arms, stats
from tests import simulated

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=40).map(np.array)


def five_seeds(n_classes=4, temperatures=(2, 10), **options):
    return simulated.study(n_classes=n_classes, temperatures=temperatures, **options)


def test_t_interval_by_hand():
    # mean 3, sd sqrt(2.5), se sqrt(0.5) = 0.7071, t(4) at 97.5 % = 2.7764
    low, high = stats.t_interval(np.array([1, 2, 3, 4, 5]))
    assert (low, high) == pytest.approx((3 - 1.96324, 3 + 1.96324), abs=1e-4)


def test_the_jackknife_of_a_mean_has_its_standard_error():
    values = np.array([1.0, 2, 3, 4, 5])
    left_out = [np.delete(values, i).mean() for i in range(5)]
    assert stats.jackknife_error(left_out) == pytest.approx(np.sqrt(0.5))
    assert stats.jackknife_error(np.stack([left_out, left_out], axis=1)) == pytest.approx([np.sqrt(0.5)] * 2)


def test_errors_that_are_known_join_as_those_of_samples():
    a, b = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 2, 5])
    known = stats.of_variances(-1.5, np.array([a.var(ddof=1) / 5, b.var(ddof=1) / 3]), np.array([4, 2]))
    assert known == stats.of_parts(-1.5, a, b)
    assert stats.of_variances(2.0, np.zeros(2), np.array([4, 2])).p == 2 / 2**7  # nothing varies


def test_t_interval_equals_scipy_for_many_columns_at_once():
    from scipy import stats as scipy_stats

    values = np.random.default_rng(0).normal(size=(5, 7))
    theirs = scipy_stats.ttest_1samp(values, 0, axis=0).confidence_interval(0.95)
    np.testing.assert_allclose(stats.t_interval(values), (theirs.low, theirs.high), atol=1e-12)


@pytest.mark.parametrize(
    ("values", "message"), [([0.5], "1"), ([], "0"), ([0.5, np.nan], "nan"), ([0.5, np.inf], "inf")]
)
def test_t_interval_refuses(values, message):
    with pytest.raises(InvalidInput, match=message):
        stats.t_interval(values)


def test_by_arm_has_one_row_an_arm_in_a_fixed_order():
    predictions = five_seeds(temperatures=(10, 2))
    table = arms.by_arm(predictions, np.arange(20.0), share=False)
    assert list(table.columns) == ["model", "temperature", "n_seeds", "mean", "sd", "low", "high"]
    assert table.model.tolist() == ["teacher", "nds", "ds", "ds"]
    assert table.temperature.isna().tolist() == [True, True, False, False]
    assert table.temperature.tolist()[2:] == [2, 10]
    assert table["mean"].tolist() == [2, 7, 17, 12]  # T = 10 was trained before T = 2
    assert table.sd.tolist() == pytest.approx([np.sqrt(2.5)] * 4)


def test_an_interval_of_shares_ends_at_0_and_1():
    """One student of five at 9.6 %: the t-interval would reach from -24 to 158 %. Other ends stay where they are."""
    predictions = five_seeds()
    values = np.full(20, 0.5)
    values[:5] = [0.9, 0.95, 0.92, 0.93, 0.096]
    values[5:10] += 0.01 * np.arange(5)
    share, free = arms.by_arm(predictions, values), arms.by_arm(predictions, values, share=False)
    assert free.high[0] > 1 and share.high[0] == 1
    assert share[["mean", "sd"]].equals(free[["mean", "sd"]]) and share.loc[1:].equals(free.loc[1:])
    runs = predictions.runs.assign(accuracy=values, kl=values)
    rows = arms.tidy(predictions, runs, {"accuracy": "share", "kl": "nats"})
    assert rows.columns.tolist() == arms.TIDY
    assert rows[["model", "metric", "unit"]].iloc[[0, 4]].to_numpy().tolist() == [
        ["teacher", "accuracy", "share"],
        ["teacher", "kl", "nats"],
    ]
    assert rows.high[0] == 1 and rows.high[4] > 1, "a number that is no share may pass 1"
    with pytest.raises(InvalidInput, match="1.9"):
        arms.by_arm(predictions, values + 1)


def test_an_arm_with_a_run_that_collapsed_says_what_the_others_give():
    predictions = five_seeds()
    predicted = predictions.predicted.copy()
    predicted[7] = 1
    bad = replace(predictions, predicted=predicted)
    name = bad.runs["run_id"][7]
    with pytest.warns(KdlibWarning, match=f"{name}.*class 1") as caught:
        whole = arms.by_arm(bad, bad.accuracy)
    assert len(caught) == 1 and whole.n_seeds.tolist() == [5] * 4, "the first line keeps every run"
    others = np.delete(bad.accuracy[5:10], 2)
    assert f"collapsed in nds: run {name}" in str(caught[0].message)
    assert f"of the other 4 it is {others.mean():.4g} [" in str(caught[0].message)
    assert name not in set(bad.without_collapsed().runs["run_id"])


def test_by_arm_does_not_depend_on_the_order_of_runs():
    predictions, values = five_seeds(), np.random.default_rng(0).random(20)
    shuffled = np.random.default_rng(1).permutation(20)
    pd.testing.assert_frame_equal(
        arms.by_arm(predictions, values), arms.by_arm(predictions.take(shuffled), values[shuffled])
    )


def test_values_that_are_no_numbers_are_refused():
    with pytest.raises(InvalidInput, match="'high'"):
        stats.t_interval(["high", "low"])


def test_by_arm_refuses_one_seed_and_names_the_arm():
    predictions = five_seeds().take(np.arange(16))
    with pytest.raises(InvalidInput, match="ds T=10"):
        arms.by_arm(predictions, predictions.accuracy)


def test_by_arm_warns_once_of_two_to_four_seeds():
    predictions = five_seeds().take(np.r_[0:2, 5:10, 10:14])
    with pytest.warns(KdlibWarning, match=r"teacher \(2\), ds T=2 \(4\)") as caught:
        arms.by_arm(predictions, predictions.accuracy)
    assert len(caught) == 1


def test_by_arm_refuses_a_seed_that_stands_twice():
    predictions = five_seeds()
    predictions.runs.loc[1, "seed"] = 0
    with pytest.raises(InvalidInput, match="teacher.*0"):
        arms.by_arm(predictions, predictions.accuracy)


def test_by_arm_refuses_values_of_another_length():
    with pytest.raises(InvalidInput, match=r"\(20,\)"):
        arms.by_arm(five_seeds(), np.zeros(19))


def test_arms_of_other_models_come_last():
    runs = simulated.runs_table([("nds loss x0.2", None, range(2)), ("ds", 2, range(2)), ("teacher", None, range(2))])
    assert [arm.name for arm in arms.arm_rows(runs)] == ["teacher", "ds T=2", "nds loss x0.2"]


def test_corrections_by_hand():
    p = [0.01, 0.04, 0.03]
    assert stats.adjust(p, None).tolist() == p
    assert stats.adjust(p, "holm") == pytest.approx([0.03, 0.06, 0.06])
    assert stats.adjust(p, "bh") == pytest.approx([0.03, 0.04, 0.04])
    assert stats.adjust(p, "by") == pytest.approx(np.array([0.03, 0.04, 0.04]) * (1 + 1 / 2 + 1 / 3))


@settings(max_examples=15, deadline=None)
@given(P_VALUES)
def test_corrections_equal_statsmodels(p):
    from statsmodels.stats.multitest import multipletests

    for ours, theirs in (("holm", "holm"), ("bh", "fdr_bh"), ("by", "fdr_by")):
        np.testing.assert_allclose(stats.adjust(p, ours), multipletests(p, method=theirs)[1], atol=1e-12)


def test_corrections_equal_pingouin():
    import pingouin

    p = np.random.default_rng(0).random(50) ** 3
    for ours, theirs in (("holm", "holm"), ("bh", "fdr_bh"), ("by", "fdr_by")):
        np.testing.assert_allclose(stats.adjust(p, ours), pingouin.multicomp(p, method=theirs)[1], atol=1e-12)


@settings(max_examples=15, deadline=None)
@given(P_VALUES)
def test_adjusted_p_is_never_smaller_and_holm_is_the_stricter(p):
    holm, bh, by = (stats.adjust(p, name) for name in ("holm", "bh", "by"))
    assert (bh >= p - 1e-12).all() and (holm >= bh - 1e-12).all() and (by >= bh - 1e-12).all()
    assert max(holm.max(), by.max()) <= 1


def test_a_missing_p_stays_missing_and_is_not_counted():
    adjusted = stats.adjust([0.01, np.nan, 0.03], "holm")
    assert adjusted[[0, 2]] == pytest.approx([0.02, 0.03])
    assert np.isnan(adjusted[1])
    assert np.isnan(stats.adjust([np.nan], "bh")).all()


def test_unknown_corrections_and_impossible_p_are_refused():
    with pytest.raises(InvalidInput, match="bonferroni"):
        stats.adjust([0.1], "bonferroni")
    with pytest.raises(InvalidInput, match="1.5"):
        stats.adjust([0.1, 1.5], "holm")


def test_five_seeds_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        arms.check_seeds({"nds": 5})


# shrinkage and shares


def drawn_variances(rng, n, *, df, prior_df, prior=1.0):
    """Sample variances whose true ones follow Smyth's prior: prior * prior_df / chi2(prior_df)."""
    true = prior * (prior_df / rng.chisquare(prior_df, n) if np.isfinite(prior_df) else np.ones(n))
    return true, true * rng.chisquare(df, n) / df


@pytest.mark.parametrize("prior_df", [4, 10])
def test_shrinkage_finds_the_priors_degrees_of_freedom(prior_df):
    _, sample = drawn_variances(np.random.default_rng(0), 20_000, df=8, prior_df=prior_df)
    found = stats.shrink_variances(sample, np.zeros(len(sample)), df=8)
    assert found.prior_df == pytest.approx(prior_df, rel=0.1)
    # Smyth (2004): (d0 s0^2 + d s^2) / (d0 + d), here with s0^2 = 1
    np.testing.assert_allclose(found.variance, (prior_df + 8 * sample) / (prior_df + 8), rtol=0.1)


def test_equal_true_variances_are_shrunk_all_the_way():
    rng = np.random.default_rng(2)
    samples = [drawn_variances(rng, 100, df=8, prior_df=np.inf)[1] for _ in range(20)]
    shrunken = [stats.shrink_variances(sample, np.zeros(100), df=8).variance for sample in samples]
    assert np.median(np.ptp(shrunken, axis=1)) < 0.5
    assert np.median(np.ptp(samples, axis=1)) > 1.5


def test_shrunken_variances_are_closer_to_the_true_ones():
    true, sample = drawn_variances(np.random.default_rng(0), 100, df=8, prior_df=8)
    shrunken = stats.shrink_variances(sample, np.zeros(100), df=8).variance
    assert np.abs(np.log(shrunken / true)).mean() < 0.8 * np.abs(np.log(sample / true)).mean()


def test_the_prior_follows_a_trend_over_the_level():
    level = np.linspace(0.5, 0.99, 200)
    _, sample = drawn_variances(np.random.default_rng(0), 200, df=8, prior_df=np.inf, prior=np.exp(-6 * level))
    shrunken = stats.shrink_variances(sample, level, df=8).variance
    np.testing.assert_allclose(shrunken, np.exp(-6 * level), rtol=0.35)


def test_variances_of_zero_and_nan_take_no_part():
    _, sample = drawn_variances(np.random.default_rng(0), 40, df=8, prior_df=8)
    level = np.zeros(42)
    found = stats.shrink_variances(np.r_[sample, 0, np.nan], level, df=8)
    alone = stats.shrink_variances(sample, level[:40], df=8)
    assert found.prior_df == alone.prior_df
    np.testing.assert_allclose(found.variance[:40], alone.variance)
    assert found.variance[40] > 0 and np.isnan(found.variance[41])


def test_two_variances_are_left_as_they_are():
    found = stats.shrink_variances(np.array([1.0, 2.0, 0.0]), np.zeros(3), df=8)
    assert found.prior_df == 0 and found.variance.tolist() == [1, 2, 0]


def test_share_changed_by_hand_and_by_simulation():
    assert stats.share_changed([0.1, 0.2, 0.3, 0.9]) == 0.5  # one of four above 0.5: two unchanged, two changed
    assert stats.share_changed([0.9, 0.8, np.nan]) == 0
    rng = np.random.default_rng(0)
    assert stats.share_changed(np.r_[rng.random(7000), rng.random(3000) * 1e-3]) == pytest.approx(0.3, abs=0.03)
    with pytest.raises(InvalidInput):
        stats.share_changed([np.nan])


def test_an_interval_of_a_list_is_that_of_its_array():
    assert stats.mean_and_interval([0.1, 0.2, 0.4]) == stats.mean_and_interval(np.array([0.1, 0.2, 0.4]))
