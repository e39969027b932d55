"""Class bias in the paper's mode: accuracy by class, Welch's test, counts with their band, disagreement."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.errors import InvalidInput, KdlibWarning
from kdlib.measure import class_bias, class_counts, class_tests
from tests import simulated

NORMALISATIONS = list(class_tests.NORMALISATIONS)


def two_arms(seed=0, *, n_classes=20, total=100, n_seeds=5, change=0.0):
    """nds and ds T=4 whose class accuracies differ by `change` (a number, or one a class)."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, 0.9, n_classes)
    nds = simulated.drawn_counts(rng, truth, total=total, n_runs=n_seeds)
    ds = simulated.drawn_counts(rng, truth + change, total=total, n_runs=n_seeds)
    return (simulated.from_counts(nds, total=total), simulated.from_counts(ds, total=total, model="ds", temperature=4))


def ratios(predictions):
    accuracy = class_counts.correct_by_class(predictions) / class_counts.class_totals(predictions)
    return accuracy / predictions.accuracy[:, None]


# counts of right answers


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_right_answers_by_class_are_those_of_a_confusion_matrix(seed):
    from sklearn.metrics import confusion_matrix

    nds, _ = two_arms(seed, n_classes=5, total=30)
    theirs = [confusion_matrix(nds.labels, row, labels=range(5)).diagonal() for row in nds.predicted]
    assert np.array_equal(class_counts.correct_by_class(nds), theirs)


# the paper's test


def test_columns_and_means_of_significant_classes():
    nds = simulated.from_counts([[5, 8], [6, 8], [4, 8], [5, 7], [5, 9]], total=10, class_names=["cat", "dog"])
    ds = simulated.from_counts(
        [[9, 8], [8, 8], [9, 8], [9, 7], [8, 9]], total=10, model="ds", temperature=4, class_names=["cat", "dog"]
    )
    table = class_bias.significant_classes(nds, ds)
    assert list(table.columns) == [
        "class_index",
        "class_name",
        "mean_a",
        "sd_a",
        "mean_b",
        "sd_b",
        "difference",
        "statistic",
        "df",
        "p",
        "p_adjusted",
        "significant",
    ]
    assert table.class_name.tolist() == ["cat", "dog"]
    assert table.mean_a.tolist() == pytest.approx([0.5, 0.8])
    assert table.mean_b.tolist() == pytest.approx([0.86, 0.8])
    assert table.sd_a[0] == pytest.approx(np.sqrt(0.005))
    assert table.significant.tolist() == [True, True]  # the dog did not move, the ratio to the overall accuracy did
    assert table.statistic[0] > 0 > table.statistic[1]


@pytest.mark.parametrize("sizes", [(5, 5), (5, 3), (2, 7)])
@pytest.mark.filterwarnings("ignore:fewer than 5 seeds")
def test_welch_equals_scipy_and_pingouin(sizes):
    import pingouin
    from scipy import stats as scipy_stats

    nds, ds = two_arms(3, change=0.03, n_seeds=7)
    nds, ds = nds.take(np.arange(sizes[0])), ds.take(np.arange(sizes[1]))
    ours, a, b = class_bias.significant_classes(nds, ds), ratios(nds), ratios(ds)
    scipys = scipy_stats.ttest_ind(b, a, equal_var=False, axis=0)
    for column, theirs in (("statistic", scipys.statistic), ("p", scipys.pvalue), ("df", scipys.df)):
        np.testing.assert_allclose(ours[column], theirs, atol=1e-12, rtol=1e-12)
    pingouins = [pingouin.ttest(x, y, correction=True)["p_val"].iloc[0] for x, y in zip(b.T, a.T, strict=True)]
    np.testing.assert_allclose(ours.p, pingouins, atol=1e-12)


def test_p_of_exactly_the_level_is_significant():
    nds, ds = two_arms(1)
    p = class_bias.significant_classes(nds, ds).p[7]
    assert 0 < p < 1
    assert class_bias.significant_classes(nds, ds, level=p).significant[7]
    assert not class_bias.significant_classes(nds, ds, level=np.nextafter(p, 0)).significant[7]


def test_corrected_findings_are_fewer():
    nds, ds = two_arms(2, change=np.where(np.arange(20) % 2, 0.05, -0.05))
    raw, bh, holm = (class_bias.significant_classes(nds, ds, correction=c) for c in (None, "bh", "holm"))
    assert raw.significant.sum() > bh.significant.sum() >= holm.significant.sum()
    assert (holm.p_adjusted >= raw.p_adjusted).all()
    assert (holm.p == raw.p).all()


# what the normalisation does


@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_a_class_that_every_run_gets_right_has_not_changed(normalise):
    """Divided by overall accuracies that differ, its ratio differs with p = 1e-4 and less."""
    nds, ds = two_arms(0, change=0.08)
    perfect = [
        simulated.from_counts(
            np.c_[np.full(5, 100), class_counts.correct_by_class(p)], total=100, model=model, temperature=t
        )
        for p, model, t in ((nds, "nds", None), (ds, "ds", 4))
    ]
    from scipy import stats as scipy_stats

    assert scipy_stats.ttest_ind(*(ratios(p)[:, 0] for p in perfect), equal_var=False).pvalue < 1e-4
    row = class_bias.significant_classes(*perfect, normalise=normalise).iloc[0]
    assert (row.p, row.statistic, row.difference, row.significant) == (1, 0, 0, False)


@pytest.mark.parametrize("count", [0, 37, 100])
def test_the_same_count_in_every_run_is_a_tie_at_any_accuracy(count):
    nds, ds = ([[count, 50 + k] for k in range(5)], [[count, 60 + 2 * k] for k in range(5)])
    table = class_bias.significant_classes(
        simulated.from_counts(nds, total=100), simulated.from_counts(ds, total=100, model="ds", temperature=4)
    )
    assert table.p[0] == 1


def test_constant_but_unequal_arms_get_the_least_p_of_a_permutation():
    nds = simulated.from_counts([[80, 70]] * 5, total=100)
    ds = simulated.from_counts([[90, 60]] * 5, total=100, model="ds", temperature=4)
    table = class_bias.significant_classes(nds, ds, normalise="none")
    assert table.statistic.tolist() == [np.inf, -np.inf]
    assert table.p.tolist() == pytest.approx([2 / 252] * 2)


def test_values_that_differ_by_rounding_alone_are_equal():
    a, b = np.full((5, 1), 0.1 + 0.2), np.full((5, 1), 0.3)
    b[2] = 0.1 + 0.2
    assert a[0] != b[0]
    assert class_tests.compare_values(a, b, np.array([False]), test="welch").p == 1


@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")
def test_one_constant_arm_is_tested_as_usual():
    from scipy import stats as scipy_stats

    a, b = np.full((5, 1), 0.9), np.array([[0.8], [0.85], [0.82], [0.9], [0.84]])
    theirs = scipy_stats.ttest_ind(b, a, equal_var=False, axis=0)
    ours = class_tests.compare_values(a, b, np.array([False]), test="welch")
    assert ours.p == pytest.approx(theirs.pvalue, abs=1e-12)


def test_normalisations_by_hand():
    correct, totals = np.array([[50, 100]]), np.array([100, 100])
    expected = {
        "ratio": [0.5 / 0.75, 1 / 0.75],
        "difference": [-0.25, 0.25],
        "none": [0.5, 1],
        "logit": np.array([-1, 1]) * np.log(201) / 2,
        "arcsine": np.array([-1, 1]) * (np.arcsin(np.sqrt(100.375 / 100.75)) - np.pi / 4),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(class_tests.normalised(correct, totals, name), [values])


@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_classes_at_0_and_100_percent_give_numbers(normalise):
    nds = simulated.from_counts([[0, 10, 5 + k % 2, 3] for k in range(5)], total=10)
    ds = simulated.from_counts([[0, 10, 6 + k % 3, 3 + k % 2] for k in range(5)], total=10, model="ds", temperature=4)
    table = class_bias.significant_classes(nds, ds, normalise=normalise)
    assert table.p.between(0, 1).all()
    assert table.p[:2].tolist() == [1, 1]


def test_overall_accuracy_0_is_refused_under_the_ratio_alone():
    _, ds = two_arms(n_classes=3, total=10)
    useless = simulated.from_counts([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 0, 0]], total=10)
    with pytest.raises(InvalidInput, match="4"):
        class_bias.significant_classes(useless, ds)
    assert class_bias.significant_classes(useless, ds, normalise="difference").p.notna().all()


def test_one_class_is_never_affected_under_a_relative_hypothesis():
    nds, ds, totals = np.array([[5], [6], [7], [5], [4]]), np.array([[9], [8], [9], [8], [9]]), np.array([10])
    for normalise in ("ratio", "difference", "arcsine", "logit"):
        assert class_tests.compare(nds, ds, totals, normalise=normalise).p == 1
    assert class_tests.compare(nds, ds, totals, normalise="none").p < 0.01


def test_a_class_without_test_images_is_named_and_not_counted_in_the_correction():
    nds, ds = two_arms(5, n_classes=3, change=0.1)
    with_empty = [
        simulated.from_counts(
            np.c_[class_counts.correct_by_class(p), np.zeros(5, int)],
            model=model,
            temperature=t,
            total=[100, 100, 100, 0],
        )
        for p, model, t in ((nds, "nds", None), (ds, "ds", 4))
    ]
    with pytest.warns(KdlibWarning, match="3"):
        table = class_bias.significant_classes(*with_empty, correction="holm")
    assert np.isnan(table.p[3]) and not table.significant[3]
    without = class_bias.significant_classes(nds, ds, correction="holm")
    np.testing.assert_allclose(table.p_adjusted[:3], without.p_adjusted)


# invariance


@pytest.mark.parametrize("normalise", NORMALISATIONS)
@pytest.mark.parametrize("test", list(class_tests.TESTS))
def test_swapping_arms_flips_signs_only(test, normalise):
    nds, ds = two_arms(4, change=0.03)
    there, back = (class_bias.significant_classes(*p, test=test, normalise=normalise) for p in ((nds, ds), (ds, nds)))
    np.testing.assert_allclose(there[["difference", "statistic"]], -back[["difference", "statistic"]], atol=1e-12)
    np.testing.assert_allclose(there[["p", "df"]], back[["p", "df"]], atol=1e-12)


def test_the_order_of_samples_seeds_and_classes_does_not_matter():
    nds, ds = two_arms(4, change=0.03)
    expected = class_bias.significant_classes(nds, ds)
    rng = np.random.default_rng(0)
    rows, seeds, classes = rng.permutation(len(ds.labels)), rng.permutation(5), rng.permutation(20)
    moved = replace(ds, predicted=ds.predicted[:, rows], labels=ds.labels[rows], sample_ids=ds.sample_ids[rows])
    pd.testing.assert_frame_equal(class_bias.significant_classes(nds, moved), expected)
    pd.testing.assert_frame_equal(class_bias.significant_classes(nds, ds.take(seeds)), expected, check_exact=False)
    renamed = [
        replace(
            p,
            predicted=np.argsort(classes)[p.predicted],
            labels=np.argsort(classes)[p.labels],
            class_names=tuple(p.class_names[c] for c in classes),
        )
        for p in (nds, ds)
    ]
    by_name = class_bias.significant_classes(*renamed).set_index("class_name").loc[list(nds.class_names)]
    np.testing.assert_allclose(by_name.p, expected.p)


# what is refused, what is warned of


def test_unknown_names_list_the_valid_ones():
    nds, ds = two_arms()
    for option, message in (
        ({"test": "welsh"}, "welsh"),
        ({"level": 5}, "5"),
        ({"normalise": "ratios"}, "ratios"),
        ({"correction": "hol"}, "hol"),
    ):
        with pytest.raises(InvalidInput, match=message):
            class_bias.significant_classes(nds, ds, **option)


def test_several_arms_in_one_table_are_refused():
    study = simulated.study(temperatures=(2, 4))
    with pytest.raises(InvalidInput, match="ds T=2, ds T=4"):
        class_bias.significant_classes(study.arm(model="nds"), study.arm(model="ds"))


def test_other_classes_samples_and_labels_are_refused():
    nds, ds = two_arms()
    swapped = ("class 1", "class 0", *ds.class_names[2:])
    cases = {
        "'class 0'.*'class 1'": replace(ds, class_names=swapped),
        "new": replace(ds, class_names=(*ds.class_names[:-1], "new")),
        "20 and 21": replace(ds, class_names=(*ds.class_names, "zebra")),
        "'xs0000|'s0000": replace(ds, sample_ids=np.char.add("x", ds.sample_ids)),
        "s0000000": replace(ds, labels=(ds.labels + 1) % 20),
    }
    for message, other in cases.items():
        with pytest.raises(InvalidInput, match=message):
            class_bias.significant_classes(nds, other)
        with pytest.raises(InvalidInput, match=message):
            class_bias.disagreement(nds, other)


def test_an_arm_is_not_compared_with_itself():
    nds, _ = two_arms()
    with pytest.raises(InvalidInput, match="nds-0"):
        class_bias.significant_classes(nds, nds)


def test_one_seed_is_refused_and_two_to_four_are_warned_of():
    nds, ds = two_arms()
    with pytest.raises(InvalidInput, match="ds T=4"):
        class_bias.significant_classes(nds, ds.take(np.array([0])))
    with pytest.warns(KdlibWarning, match=r"ds T=4 \(3\)") as caught:
        table = class_bias.significant_classes(nds, ds.take(np.arange(3)))
    assert len(caught) == 1 and table.p.notna().all()


@pytest.mark.filterwarnings("ignore:runs .* predict the same class")
def test_one_run_posing_as_two_seeds_is_refused():
    nds, ds = two_arms()
    predicted = ds.predicted.copy()
    predicted[1] = predicted[0]
    copied = replace(ds, predicted=predicted)
    with pytest.raises(InvalidInput, match="ds-T4-0 and ds-T4-1"):
        class_bias.significant_classes(nds, copied)
    with pytest.raises(InvalidInput, match="ds-T4-0"):
        class_bias.counts(simulated_both(nds, copied))


@pytest.mark.filterwarnings("ignore:runs .* predict the same class")
def test_runs_without_an_error_may_agree():
    nds, ds = two_arms(n_classes=3, total=10)
    perfect = simulated.from_counts(np.full((5, 3), 10), total=10)
    assert class_bias.significant_classes(perfect, ds).p.notna().all()


def simulated_both(nds, ds):
    return replace(
        nds,
        runs=pd.concat([nds.runs, ds.runs], ignore_index=True),
        predicted=np.concatenate([nds.predicted, ds.predicted]),
    )


def test_one_teacher_for_all_seeds_is_said_to_be_pseudo_replication():
    nds, ds = two_arms()
    ds.runs["teacher_id"] = "teacher-0"
    with pytest.warns(KdlibWarning, match="ds T=4"):
        class_bias.significant_classes(nds, ds)


# counts and their band


def test_counts_has_a_row_a_temperature_and_agrees_with_the_tests():
    study = simulated.study(temperatures=(10, 2), effect=0.2, n_classes=20)
    table = class_bias.counts(study)
    assert list(table.columns) == [
        "temperature",
        "n_seeds",
        "accuracy_mean",
        "accuracy_sd",
        "n_significant_sc",
        "n_significant_tc",
        "null_low",
        "null_high",
        "classes",
    ]
    assert table.temperature.tolist() == [2, 10]
    for row in table.itertuples():
        ds = study.arm(model="ds", temperature=row.temperature)
        assert row.accuracy_mean == pytest.approx(ds.accuracy.mean())
        assert row.accuracy_sd == pytest.approx(ds.accuracy.std(ddof=1))
        for model, found in (("nds", row.n_significant_sc), ("teacher", row.n_significant_tc)):
            assert found == class_bias.significant_classes(study.arm(model=model), ds).significant.sum()
    assert table.n_significant_sc[1] > table.n_significant_sc[0]
    assert table.n_significant_sc[1] > table.null_high[1]
    assert (table.classes == 20).all() and (table.n_seeds == 5).all()


def test_counts_takes_the_options_of_the_tests():
    study = simulated.study(temperatures=(10,), effect=0.1)
    options = {"test": "moderated", "normalise": "none", "correction": "holm", "level": 0.2}
    table = class_bias.counts(study, **options)
    found = class_bias.significant_classes(study.arm(model="nds"), study.arm(model="ds"), **options)
    assert table.n_significant_sc[0] == found.significant.sum()
    assert table.null_high[0] <= 2  # Holm at 0.2: any false finding in one study of five


def test_counts_without_teachers_says_so_and_without_both_is_refused():
    study = simulated.study(temperatures=(2,))
    rows = np.arange(15)
    assert class_bias.counts(study.take(rows[5:])).n_significant_tc.isna().all()
    assert class_bias.counts(study.take(np.r_[0:5, 10:15])).n_significant_sc.isna().all()
    with pytest.raises(InvalidInput, match="ds T=2"):
        class_bias.counts(study.take(rows[10:]))
    with pytest.raises(InvalidInput, match="teacher, nds"):
        class_bias.counts(study.take(rows[:10]))


def test_counts_warns_once_and_names_the_arm_with_a_failed_run():
    study = simulated.study(temperatures=(2, 4)).take(np.arange(19))
    with pytest.warns(KdlibWarning, match=r"ds T=4 \(4\)") as caught:
        table = class_bias.counts(study)
    assert len(caught) == 1
    assert table.n_seeds.tolist() == [5, 4]


def test_counts_leaves_out_arms_of_other_models():
    study = simulated.study(temperatures=(2,))
    control = replace(study.arm(model="nds"), runs=study.arm(model="nds").runs.assign(model="nds loss x0.2"))
    other = simulated.from_counts(class_counts.correct_by_class(control) - 1, total=100, model="nds loss x0.2")
    both = simulated_both(study, other)
    pd.testing.assert_frame_equal(class_bias.counts(both), class_bias.counts(study))


@pytest.mark.parametrize(
    ("n_classes", "low", "high", "slack"), [(10, 0, 2, 1), (100, 1, 9, 1), (200, 4, 15, 1), (1000, 32, 58, 4)]
)
def test_null_band_for_five_seeds(n_classes, low, high, slack):
    found = class_bias.null_band(n_classes, 5)
    assert abs(found[0] - low) <= slack and abs(found[1] - high) <= slack


def test_null_band_honours_its_arguments():
    assert class_bias.null_band(100, 5, level=0.2)[0] > class_bias.null_band(100, 5)[1]
    assert class_bias.null_band(1000, 2)[1] < class_bias.null_band(1000, 10)[1]
    assert class_bias.null_band(100, 5, correction="bh")[1] <= 1
    assert class_bias.null_band(1000, (5, 2))[1] > class_bias.null_band(1000, 5)[1]  # Welch is liberal there
    assert class_bias.null_band(100, 5, test_images=1)[1] <= class_bias.null_band(100, 5)[1]


def test_null_band_of_a_handful_of_images():
    """A simulated run often gets none of them right."""
    assert class_bias.null_band(2, 2, test_images=1) == (0, 0)


@pytest.mark.parametrize("arguments", [(0, 5), (10, 1), (10, (5, 1))])
def test_null_band_refuses(arguments):
    with pytest.raises(InvalidInput):
        class_bias.null_band(*arguments)


def test_simulated_studies_without_effect_lie_in_the_band():
    """Nine of ten such studies at least: the band holds 95 %."""
    inside = []
    for seed in range(40):
        row = class_bias.counts(simulated.study(n_classes=40, temperatures=(4,), seed=seed)).iloc[0]
        inside.append(row.null_low <= row.n_significant_sc <= row.null_high)
    assert sum(inside) >= 35


# disagreement


def test_disagreement_by_hand():
    labels = np.array([0, 0, 1, 1])
    base = simulated.from_counts([[2, 2], [2, 1]], total=2)
    teacher = replace(
        base, predicted=np.array([[0, 0, 1, 1], [0, 1, 1, 1]]), runs=simulated.runs_table([("teacher", None, [0, 1])])
    )
    student = replace(
        base, predicted=np.array([[0, 1, 1, 0], [1, 1, 1, 0]]), runs=simulated.runs_table([("ds", 4, [0, 1])])
    )
    assert (base.labels == labels).all()
    # seed 0: (0,0) (0,1) (1,1) (1,0); seed 1: (0,1) (1,1) (1,1) (1,0)
    expected = np.array([[0.5, 1], [1, 1.5]])
    np.testing.assert_array_equal(class_bias.disagreement(teacher, student), expected)
    np.testing.assert_array_equal(class_bias.disagreement(student, teacher), expected.T)


@pytest.fixture
def noisy():
    rng = np.random.default_rng(0)
    nds, ds = two_arms(n_classes=6, total=20)
    return [replace(p, predicted=rng.integers(0, 6, p.predicted.shape)) for p in (nds, ds)]


def test_disagreement_equals_the_mean_of_confusion_matrices(noisy):
    from sklearn.metrics import confusion_matrix

    a, b = noisy
    theirs = [confusion_matrix(x, y, labels=range(6)) for x, y in zip(a.predicted, b.predicted, strict=True)]
    np.testing.assert_allclose(class_bias.disagreement(a, b), np.mean(theirs, axis=0))


def test_disagreement_sums_to_class_counts_and_ignores_order(noisy):
    a, b = noisy
    found = class_bias.disagreement(a, b)
    np.testing.assert_allclose(found.sum(axis=1), np.bincount(a.predicted.ravel(), minlength=6) / 5)
    np.testing.assert_allclose(found.sum(axis=0), np.bincount(b.predicted.ravel(), minlength=6) / 5)
    rows = np.random.default_rng(1).permutation(len(b.labels))
    moved = replace(b, predicted=b.predicted[:, rows], labels=b.labels[rows], sample_ids=b.sample_ids[rows])
    np.testing.assert_array_equal(class_bias.disagreement(a, moved.take(np.array([4, 2, 0, 1, 3]))), found)


def test_disagreement_pairs_by_seed_and_names_lone_seeds(noisy):
    a, b = noisy
    with pytest.warns(KdlibWarning, match="0"):
        found = class_bias.disagreement(a, b.take(np.arange(1, 5)))
    np.testing.assert_array_equal(found, class_bias.disagreement(a.take(np.arange(1, 5)), b.take(np.arange(1, 5))))
    with pytest.raises(InvalidInput, match="nds"):
        class_bias.disagreement(a.take(np.array([0])), b.take(np.array([1])))


def test_ten_seeds_of_five_are_not_warned_of():
    nds, ds = two_arms()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        class_bias.significant_classes(nds, ds)
