"""Group fairness: hand-made counts, then fairlearn, then inputs on which fairlearn is silent, then properties."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.errors import InvalidInput, KdlibWarning, UndefinedMetric
from kdlib.measure import fairness, group_counts
from kdlib.predictions import Predictions

SCALARS = {
    "dpd": fairness.demographic_parity_difference,
    "eod": fairness.equalized_odds_difference,
    "tpr_difference": fairness.true_positive_rate_difference,
    "fpr_difference": fairness.false_positive_rate_difference,
}

# group a: TPR 1/2, FPR 0, selected 1/4; group b: TPR 3/3, FPR 1/4, selected 4/7
Y = np.array([1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0])
P = np.array([1, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0])
G = np.array(list("aaaabbbbbbb"))
EXPECTED = {"dpd": 4 / 7 - 1 / 4, "eod": 1 / 2, "tpr_difference": 1 / 2, "fpr_difference": 1 / 4}


def make(labels, predicted, groups, *, classes=None, model="ds", temperature=4.0):
    """Predictions of the rows of `predicted` as seeds of one arm."""
    predicted, labels = np.atleast_2d(predicted), np.asarray(labels)
    classes = classes or int(max(labels.max(), predicted.max())) + 1
    n = len(predicted)
    models = [model] * n if isinstance(model, str) else model
    runs = pd.DataFrame(
        {
            "run_id": [f"r{i}" for i in range(n)],
            "study": "s",
            "model": models,
            "seed": range(n),
            "temperature": temperature,
            "alpha": 0.8,
            "teacher_id": None,
        }
    )
    return Predictions(
        runs,
        predicted,
        labels,
        np.arange(len(labels)).astype(str),
        tuple(f"c{c}" for c in range(classes)),
        groups={"g": np.asarray(groups)},
    )


def noisy(seed, *, n=600, classes=2, groups=2, runs=1, accuracy=0.8):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    wrong = rng.random((runs, n)) > accuracy
    predicted = np.where(wrong, rng.integers(0, classes, (runs, n)), labels)
    return labels, predicted, np.array([f"g{g}" for g in rng.integers(0, groups, n)])


# --- numbers by hand -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCALARS)
def test_two_groups_by_hand(name):
    assert SCALARS[name](Y, P, sensitive_features=G) == pytest.approx(EXPECTED[name], abs=1e-15)


@pytest.mark.parametrize("convert", [list, pd.Series, lambda x: np.asarray(x, dtype=object), pd.Index])
def test_containers_do_not_matter(convert):
    assert fairness.equalized_odds_difference(convert(Y), convert(P), sensitive_features=convert(G)) == 0.5


@pytest.mark.parametrize("kind", [bool, float, np.int8, np.uint64])
def test_number_types_do_not_matter(kind):
    value = fairness.demographic_parity_difference(Y.astype(kind), P.astype(kind), sensitive_features=G)
    assert value == pytest.approx(9 / 28)


def test_group_fairness_by_hand():
    with pytest.warns(KdlibWarning, match="2 of 2"):
        row = fairness.group_fairness(make(Y, P, G), sensitive="g").iloc[0]
    for name, value in EXPECTED.items():
        assert row[name] == pytest.approx(value)
    assert row.accuracy == pytest.approx(9 / 11)
    assert row.label_dpd == pytest.approx(1 / 2 - 3 / 7)
    assert row.dpd_gap == pytest.approx(EXPECTED["dpd"] - (1 / 2 - 3 / 7))
    assert (row.n_left_out, row.left_out, row.n_small, row.n_dropped) == (0, "", 2, 0)
    assert row.small == (
        "group 'a', class 'c1': 2 positives, 2 negatives; group 'b', class 'c1': 3 positives, 4 negatives"
    )
    assert (row.run_id, row.model, row.seed, row.temperature) == ("r0", "ds", 0, 4.0)


def test_algorithm_1_by_hand():
    """Three classes, two groups of three, all classes once: group a right, group b predicts its class 2 as 0."""
    labels, predicted = [0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 0]
    with pytest.warns(KdlibWarning):
        row = fairness.group_fairness(make(labels, predicted, list("aaabbb")), sensitive="g").iloc[0]
    # class 0: selected 1/3 and 2/3, FPR 0 and 1/2; class 1: no difference; class 2: selected 1/3 and 0, TPR 1 and 0
    assert row.dpd == pytest.approx((1 / 3 + 0 + 1 / 3) / 3)
    assert row.tpr_difference == pytest.approx((0 + 0 + 1) / 3)
    assert row.fpr_difference == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert row.eod == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert row.label_dpd == 0


# --- fairlearn, where it is defined ---------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [2, 3, 10])
def test_rates_equal_fairlearn(groups):
    from fairlearn import metrics

    rates = {
        "dpd": metrics.selection_rate,
        "tpr_difference": metrics.true_positive_rate,
        "fpr_difference": metrics.false_positive_rate,
    }
    for seed in range(20):
        labels, predicted, group = noisy(seed, groups=groups, n=300 + seed)
        theirs = metrics.MetricFrame(metrics=rates, y_true=labels, y_pred=predicted[0], sensitive_features=group)
        theirs = theirs.difference()
        theirs["eod"] = max(theirs["tpr_difference"], theirs["fpr_difference"])
        for name, scalar in SCALARS.items():
            ours = scalar(labels, predicted[0], sensitive_features=group)
            assert ours == pytest.approx(theirs[name], abs=1e-12)


@pytest.mark.parametrize("groups", [2, 3, 10])
def test_differences_equal_fairlearn(groups):
    from fairlearn import metrics

    for seed in range(5):
        data = noisy(seed, groups=groups, n=300 + seed)
        labels, predicted, group = data[0], data[1][0], data[2]
        for name in ("demographic_parity_difference", "equalized_odds_difference"):
            ours, theirs = (
                getattr(module, name)(labels, predicted, sensitive_features=group) for module in (fairness, metrics)
            )
            assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(("classes", "groups"), [(3, 2), (10, 10), (4, 3)])
def test_algorithm_1_equals_fairlearn_one_versus_rest(classes, groups):
    from fairlearn import metrics

    labels, predicted, group = noisy(1, n=4000, classes=classes, groups=groups, runs=3)
    ours = fairness.group_fairness(make(labels, predicted, group), sensitive="g")
    dpd, eod = metrics.demographic_parity_difference, metrics.equalized_odds_difference
    for name, theirs in {"dpd": dpd, "eod": eod}.items():
        expected = [
            np.mean([theirs(labels == c, row == c, sensitive_features=group) for c in range(classes)])
            for row in predicted
        ]
        assert ours[name].tolist() == pytest.approx(expected, abs=1e-12)


def test_two_classes_score_class_1_alone():
    labels, predicted, group = noisy(2, n=500)
    row = fairness.group_fairness(make(labels, predicted, group), sensitive="g").iloc[0]
    for name, scalar in SCALARS.items():
        assert row[name] == pytest.approx(scalar(labels, predicted[0], sensitive_features=group), abs=1e-12)


# --- inputs on which fairlearn answers with a wrong 0 or 1 ----------------------------------------------------------

ONES = np.ones(11, int)
BAD_LABELS = {
    "probabilities": (P * 0.8 + 0.1, "0.9", "hard predictions"),
    "text": (np.where(P == 1, "yes", "no"), "'yes'", "0 and 1"),
    "text of digits": (P.astype(str), "'1'", "0 and 1"),
    "labels 1, 2": (P + 1, "2", "0 and 1"),
    "labels -1, 1": (2 * P - 1, "-1", "0 and 1"),
    "NaN": (np.where(P == 1, np.nan, 0.0), "nan in 5 of 11 places, first at position 0", "0 and 1"),
    "None": (np.where(P == 1, 1, None), "None", "0 and 1"),
    "several classes": (np.arange(11) % 3, "2", "group_fairness"),
    "two columns": (np.c_[1 - P, P], "(11, 2)", "one value"),
    "empty": (np.array([]), "(0,)", "at least one"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
@pytest.mark.parametrize("metric", SCALARS.values())
def test_labels_that_are_not_zero_and_one(metric, case):
    bad, value, remedy = BAD_LABELS[case]
    with pytest.raises(InvalidInput) as error:
        metric(Y, bad, sensitive_features=G)
    assert value in str(error.value) and remedy in str(error.value) and "y_pred" in str(error.value)
    with pytest.raises(InvalidInput, match="y_true"):
        metric(bad, P, sensitive_features=G)


BAD_GROUPS = {
    "missing None": (np.where(G == "a", None, G), InvalidInput, "missing for 4 of 11 samples, first at position 0"),
    "missing NaN": (np.where(G == "a", 0.0, np.nan), InvalidInput, "missing for 7 of 11"),
    "missing as numpy text": (np.array(["a", np.nan, *G[2:]]), InvalidInput, "1"),
    "missing empty text": (np.where(G == "a", "", G), InvalidInput, "0"),
    "missing pandas": (pd.Series(G).astype("category").where(np.arange(11) > 1), InvalidInput, "2"),
    "all missing": (np.full(11, np.nan), InvalidInput, "11"),
    "one group": (np.full(11, "a"), UndefinedMetric, "a"),
    "continuous": (np.linspace(0, 1, 11) + 0.01, InvalidInput, "0.01"),
    "continuous text": (np.char.mod("%.3f", np.linspace(0, 1, 11)), InvalidInput, "0.000"),
    "declared and empty": (pd.Series(pd.Categorical(G, categories=list("abc"))), UndefinedMetric, "c"),
    "two columns": (np.c_[G, G], InvalidInput, "11, 2"),
    "too short": (G[1:], InvalidInput, "'sensitive_features': 10"),
}


MIXED = {  # values of which two have one name, or two are one value
    "number and text": ([0, 1, "0", "1"], "0"),
    "text and truth value": ([True, False, "True", "False"], "True"),
    "number and truth value": ([1, 0, True, False], "True"),
    "several types and missing ones": ([0, None, "0", np.nan], "0"),
}


@pytest.mark.parametrize("case", MIXED)
@pytest.mark.parametrize("form", [lambda v: np.array(v, object), lambda v: pd.Series(v, dtype=object)])
def test_groups_of_one_name_are_refused_if_they_are_of_several_types(case, form):
    values, told = MIXED[case]
    with pytest.raises(InvalidInput, match=told):
        group_counts.encode_groups(form(values), "g", missing="drop")


@pytest.mark.parametrize(
    "values",
    [
        np.array([b"0", b"1", "0", "1"], object),
        np.array(["0", b"1", b"0", "1"], object),
        np.array([b"0", b"1", b"0", b"1"]),
        np.array([0, 1, 0, 1], np.uint8),
        pd.Series([0, 1, 0, 1], dtype="Int8"),
        pd.Series(["0", "1", "0", "1"], dtype="string"),
        pd.Series(["0", "1", "0", "1"]).astype("category"),
        ["0", "1", "0", "1"],
    ],
)
def test_one_group_is_one_whatever_holds_it(values):
    codes, names = group_counts.encode_groups(values, "g")
    assert codes.tolist() == [0, 1, 0, 1] and names == ("0", "1")


def test_bytes_of_an_unknown_encoding_stay_apart():
    codes, names = group_counts.encode_groups([b"caf\xe9", b"caf\xe8", b"caf\xe9"], "g")
    assert codes.tolist() == [1, 0, 1] and names == (r"caf\xe8", r"caf\xe9")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.ma.array([0, 1, 0, 1], mask=[0, 1, 0, 0]), "masked"),
        ([[0], [1, 2]], "array"),
        (torch.zeros(4, requires_grad=True), "array"),
        (np.array([1j, 2, 1j, 2]), "1j"),
    ],
)
def test_values_that_are_no_plain_array_are_refused(values, told):
    with pytest.raises(InvalidInput, match=told):
        group_counts.encode_groups(values, "g")


@pytest.mark.parametrize("kind", ["Int8", "boolean", "string"])
def test_a_missing_value_does_not_rename_the_other_groups(kind):
    values = pd.Series([0, 1, pd.NA], dtype=kind)
    whole = group_counts.encode_groups(values[:2], "g")[1]
    assert group_counts.encode_groups(values, "g", missing="drop")[1] == whole


@pytest.mark.parametrize("kind", [list, tuple, "rows of a table"])
def test_values_that_are_no_names_are_refused(kind):
    values = np.array([("a", 1), ("b", 2)] * 2, dtype=[("x", "U1"), ("y", int)])
    if kind != "rows of a table":
        values, rows = np.empty(4, object), values
        values[:] = [kind(row) for row in rows]
    with pytest.raises(InvalidInput, match="'a'"):
        group_counts.encode_groups(values, "g")


def test_whole_numbers_and_the_same_as_fractions_are_one_group():
    codes, _ = group_counts.encode_groups(np.array([1, 1.0, np.float32(1), 2], object), "g")
    assert codes.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("case", BAD_GROUPS)
@pytest.mark.parametrize("metric", SCALARS.values())
def test_groups_that_cannot_be_compared(metric, case):
    bad, kind, text = BAD_GROUPS[case]
    with pytest.raises(kind, match=text):
        metric(Y, P, sensitive_features=bad)


def test_ages_and_identifiers_are_no_groups():
    labels, predicted, _ = noisy(3, n=2000)
    ages = np.arange(2000) % 80
    for bad in (ages, ages.astype(str), np.char.add("person ", (np.arange(2000) // 2).astype(str))):
        with pytest.raises(InvalidInput):
            fairness.demographic_parity_difference(labels, predicted[0], sensitive_features=bad)
    states = np.char.add("state ", (np.arange(2000) % 50).astype(str))
    assert 0 < fairness.demographic_parity_difference(labels, predicted[0], sensitive_features=states) < 1


def test_group_without_positives_or_negatives_is_undefined_not_zero():
    labels = np.where(G == "a", 0, Y)
    with pytest.raises(UndefinedMetric, match="TPR.*'a'.*'1'.*0.*4"):
        fairness.equalized_odds_difference(labels, P, sensitive_features=G)
    assert fairness.false_positive_rate_difference(labels, P, sensitive_features=G) == 0.0
    with pytest.raises(UndefinedMetric, match="FPR.*'b'.*7.*0"):
        fairness.equalized_odds_difference(np.where(G == "b", 1, Y), P, sensitive_features=G)


def test_constant_labels_and_predictions():
    assert fairness.demographic_parity_difference(ONES, ONES, sensitive_features=G) == 0
    assert fairness.equalized_odds_difference(Y, ONES, sensitive_features=G) == 0
    with pytest.raises(UndefinedMetric, match="FPR"):
        fairness.equalized_odds_difference(ONES, P, sensitive_features=G)


def test_attribute_equal_to_label():
    assert fairness.demographic_parity_difference(Y, Y, sensitive_features=Y) == 1
    with pytest.raises(UndefinedMetric):
        fairness.equalized_odds_difference(Y, P, sensitive_features=Y)
    with pytest.warns(KdlibWarning), pytest.raises(UndefinedMetric, match="eod"):
        fairness.group_fairness(make(Y, P, Y.astype(str)), sensitive="g")


# --- several classes: what is left out is said ----------------------------------------------------------------------


def test_class_missing_in_a_group_is_named_and_left_out():
    labels, predicted, group = noisy(4, n=3000, classes=3, groups=3)
    labels = np.where((group == "g2") & (labels == 0), 1, labels)
    with pytest.warns(KdlibWarning, match="1 of 9.*'g2'.*'c0'"):
        row = fairness.group_fairness(make(labels, predicted, group), sensitive="g").iloc[0]
    assert row.n_left_out == 1 and row.left_out.startswith("group 'g2', class 'c0': 0 positives")
    two = group != "g2"
    expected = [
        fairness.true_positive_rate_difference(labels[two] == 0, predicted[0][two] == 0, sensitive_features=group[two])
    ]
    expected += [
        fairness.true_positive_rate_difference(labels == c, predicted[0] == c, sensitive_features=group) for c in (1, 2)
    ]
    assert row.tpr_difference == pytest.approx(np.mean(expected))


def test_exclude_below_leaves_small_groups_out_of_every_rate():
    labels, predicted, group = noisy(5, n=400, groups=2)
    small = np.arange(400) < 6
    with_small = np.where(small, "small", group)
    with pytest.warns(KdlibWarning, match="'small'.*5"):
        coarse = fairness.group_fairness(make(labels, predicted, with_small), sensitive="g").iloc[0]
    assert coarse.n_small == 1 and "'small'" in coarse.small and coarse.n_left_out == 0
    with pytest.warns(KdlibWarning, match="'small'"):
        row = fairness.group_fairness(make(labels, predicted, with_small), sensitive="g", exclude_below=5).iloc[0]
    assert row.n_small == 0 and row.n_left_out == 1
    for name, scalar in SCALARS.items():
        expected = scalar(labels[~small], predicted[0][~small], sensitive_features=group[~small])
        assert row[name] == pytest.approx(expected)


def test_missing_values_by_default_as_group_and_dropped():
    labels, predicted, group = noisy(6, n=400)
    group = np.where(np.arange(400) < 100, "", group)
    p = make(labels, predicted, group)
    with pytest.raises(InvalidInput, match="100 of 400"):
        fairness.group_fairness(p, sensitive="g")
    dropped = fairness.group_fairness(p, sensitive="g", missing="drop").iloc[0]
    assert dropped.n_dropped == 100 and dropped.accuracy == (labels == predicted[0])[100:].mean()
    assert dropped.dpd == fairness.demographic_parity_difference(
        labels[100:], predicted[0][100:], sensitive_features=group[100:]
    )
    own = fairness.group_fairness(p, sensitive="g", missing="group").iloc[0]
    filled = np.where(group == "", "unknown", group)
    assert own.dpd == fairness.demographic_parity_difference(labels, predicted[0], sensitive_features=filled)
    assert own.n_dropped == 0


def test_unknown_names_list_the_valid_ones():
    p = make(*noisy(7))
    with pytest.raises(InvalidInput, match="'G'"):
        fairness.group_fairness(p, sensitive="G")
    with pytest.raises(InvalidInput, match="drpo"):
        fairness.group_fairness(p, sensitive="g", missing="drpo")
    with pytest.raises(InvalidInput, match="-1"):
        fairness.group_fairness(p, sensitive="g", exclude_below=-1)
    with pytest.raises(InvalidInput, match="3"):
        fairness.floors(p, sensitive="g", draws=3)


def test_group_of_one():
    labels, predicted, group = noisy(14, n=300)
    alone = np.where(np.arange(300) == 0, "alone", group)
    with pytest.raises(UndefinedMetric, match="'alone'.*'1'"):
        fairness.equalized_odds_difference(labels, predicted[0], sensitive_features=alone)
    with pytest.warns(KdlibWarning, match="'alone'"):
        row = fairness.group_fairness(make(labels, predicted, alone), sensitive="g", exclude_below=1).iloc[0]
    for name, scalar in SCALARS.items():  # alone has no positive or no negative, so it leaves every rate
        assert row[name] == pytest.approx(scalar(labels[1:], predicted[0][1:], sensitive_features=group[1:]))


def test_class_that_the_test_set_lacks():
    """It has no TPR, but being predicted still counts in DPD and FPR."""
    labels, predicted, group = noisy(15, n=600, classes=3)
    labels = np.where(labels == 2, 0, labels)
    with pytest.warns(KdlibWarning, match="2 of 6"):
        row = fairness.group_fairness(make(labels, predicted, group), sensitive="g").iloc[0]
    expected = [
        fairness.demographic_parity_difference(labels == c, predicted[0] == c, sensitive_features=group)
        for c in range(3)
    ]
    assert row.dpd == pytest.approx(np.mean(expected)) and row.n_left_out == 2
    expected = [
        fairness.true_positive_rate_difference(labels == c, predicted[0] == c, sensitive_features=group)
        for c in range(2)
    ]
    assert row.tpr_difference == pytest.approx(np.mean(expected))


# --- floors ----------------------------------------------------------------------------------------------------------


def floors_by_arm(p, **options):
    """One row per arm: mean and 95th percentile of each floor side by side."""
    wide = fairness.floors(p, sensitive="g", **options).pivot(
        index=["model"], columns="metric", values=["mean", "high"]
    )
    return wide["mean"].join(wide["high"].add_suffix("_upper"))


def test_floor_of_two_groups_matches_the_normal_approximation():
    """19,962 rows, groups 77/23, half positive, no group effect: DPD 0.67 %, 95 % of draws below 1.65 %."""
    rng = np.random.default_rng(0)
    group = np.where(np.arange(19_962) < 15_371, "a", "b")
    labels = rng.permutation(np.arange(19_962) % 2)
    predicted = np.where(rng.random(19_962) < 0.925, labels, 1 - labels)
    row = floors_by_arm(make(labels, predicted, group), draws=400).iloc[0]
    sd = np.sqrt(0.25 * (1 / 15_371 + 1 / 4_591))
    assert row.dpd_overall_floor == pytest.approx(sd * np.sqrt(2 / np.pi), rel=0.15)
    assert row.dpd_overall_floor_upper == pytest.approx(1.96 * sd, rel=0.15)
    assert row.eod_floor == pytest.approx(0.0070, rel=0.15) and row.eod_floor_upper == pytest.approx(0.0142, rel=0.2)
    assert row.eod_blind == pytest.approx(0, abs=1e-12)


def test_floor_of_one_versus_rest_is_high_for_tpr_and_low_for_fpr():
    """6,000 images, ten classes, ten groups, 90 % right: chance alone gives 10-14 points of TPR, 1.2-1.6 of FPR."""
    labels, predicted, group = noisy(8, n=6000, classes=10, groups=10, accuracy=0.89)
    row = floors_by_arm(make(labels, predicted, group), draws=100).iloc[0]
    assert 0.10 < row.tpr_difference_floor < 0.14 and 0.010 < row.fpr_difference_floor < 0.017
    assert row.eod_floor < row.eod_floor_upper


def test_permutations_keep_labels_within_and_groups_overall():
    labels, predicted, group = noisy(9, n=200, classes=3, groups=3)
    cells, _ = group_counts.prepare(make(labels, predicted, group), sensitive="g", missing="error", exclude_below=0)
    before = pd.crosstab(labels, cells.codes).to_numpy()
    moved = 0
    for within, overall in fairness.permuted_groups(cells, 20, np.random.default_rng(0)):
        assert np.array_equal(pd.crosstab(labels, within), before)
        assert np.array_equal(np.bincount(overall), np.bincount(cells.codes))
        moved += not np.array_equal(pd.crosstab(labels, overall), before)
    assert moved > 15


def test_blind_part_by_hand():
    """Two classes: DPD_blind = |base rate gap| * |TPR - FPR|, and no difference in either rate."""
    labels, predicted, _ = noisy(10, n=1000)
    group = np.where((np.arange(1000) % 3 == 0) | (labels == 1) & (np.arange(1000) % 2 == 0), "a", "b")
    row = floors_by_arm(make(labels, predicted, group), draws=400).iloc[0]
    gap = fairness.demographic_parity_difference(labels, labels, sensitive_features=group)
    slope = predicted[0][labels == 1].mean() - predicted[0][labels == 0].mean()
    assert row.dpd_blind == pytest.approx(gap * slope) and row.dpd_blind > 0.1
    assert row.dpd_floor == pytest.approx(row.dpd_blind, abs=0.01)  # little noise beside so large a gap
    assert row.eod_blind == pytest.approx(0, abs=1e-12)


def test_floors_follow_the_seed_and_average_over_an_arm():
    labels, predicted, group = noisy(11, n=400, classes=3, runs=4)
    p = make(labels, predicted, group, model=["ds", "ds", "nds", "nds"], temperature=[4.0, 4.0, np.nan, np.nan])
    first, again = (floors_by_arm(p, draws=30, seed=1) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    other = floors_by_arm(p, draws=30, seed=2)
    assert (first.eod_floor != other.eod_floor).all() and (first.dpd_blind == other.dpd_blind).all()
    assert (fairness.floors(p, sensitive="g", draws=30)["n_seeds"] == 2).all()
    each = [floors_by_arm(p.take(np.array([row])), draws=30, seed=1).eod_floor.item() for row in range(4)]
    assert first.eod_floor[["nds", "ds"]].tolist() == pytest.approx([np.mean(each[2:]), np.mean(each[:2])])


def test_a_real_disparity_stands_above_its_floor():
    labels, predicted, group = noisy(12, n=2000)
    worse = (group == "g1") & (np.random.default_rng(0).random(2000) < 0.3)
    p = make(labels, np.where(worse, 1 - labels, predicted[0]), group)
    floor = floors_by_arm(p).iloc[0]
    assert fairness.group_fairness(p, sensitive="g").eod[0] > 3 * floor.eod_floor_upper


# --- the table -------------------------------------------------------------------------------------------------------


def test_table_has_one_row_an_arm_and_metric_with_means_and_intervals():
    labels, predicted, group = noisy(13, n=900, runs=10)
    temperature = [4.0] * 5 + [np.nan] * 5
    p = make(labels, predicted, group, model=["ds"] * 5 + ["nds"] * 5, temperature=temperature)
    table = fairness.table(p, sensitive="g").set_index(["model", "metric"])
    runs = fairness.group_fairness(p, sensitive="g")
    assert not table.index.duplicated().any() and (table.n_seeds == 5).all() and (table.n_dropped == 0).all()
    for model in ("ds", "nds"):
        for name in ("accuracy", "eod", "dpd", "tpr_difference", "fpr_difference", "dpd_gap"):
            values, row = runs[name][runs.model == model], table.loc[(model, name)]
            assert (row["mean"], row["sd"]) == pytest.approx((values.mean(), values.std()))
            assert row["low"] < row["mean"] < row["high"]
        assert table.loc[(model, "label_dpd"), "mean"] == pytest.approx(runs.label_dpd[0])
        assert table.loc[(model, "eod_floor"), "mean"] > 0


# --- properties ------------------------------------------------------------------------------------------------------

TABLES = st.tuples(st.integers(0, 10**6), st.sampled_from([2, 3, 5]), st.sampled_from([2, 3, 10]))
FEW_EXAMPLES = settings(max_examples=25, deadline=None)


def scores(labels, predicted, group):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KdlibWarning)
        runs = fairness.group_fairness(make(labels, predicted, group), sensitive="g")
    return runs[list(group_counts.DIFFERENCES)].iloc[0]


@FEW_EXAMPLES
@given(TABLES)
def test_range_relabelling_duplicates_and_order(table):
    seed, classes, groups = table
    labels, predicted, group = noisy(seed, n=400, classes=classes, groups=groups)
    base = scores(labels, predicted, group)
    assert base.between(0, 1).all() and base.eod >= base.tpr_difference
    order = np.random.default_rng(seed).permutation(400)
    renamed = np.char.add("z", np.char.replace(group, "g", "-"))
    for other in (
        scores(labels, predicted, renamed),
        scores(labels[order], predicted[:, order], group[order]),
        scores(np.tile(labels, 3), np.tile(predicted, 3), np.tile(group, 3)),
    ):
        assert other.to_numpy() == pytest.approx(base.to_numpy(), abs=1e-12)


@FEW_EXAMPLES
@given(TABLES)
def test_perfect_predictions_have_the_label_gap_and_no_eod(table):
    seed, classes, groups = table
    labels, _, group = noisy(seed, n=400, classes=classes, groups=groups)
    base = scores(labels, labels, group)
    shares = pd.crosstab(group, labels, normalize="index").to_numpy()
    gaps = shares.max(axis=0) - shares.min(axis=0)
    assert base.dpd == pytest.approx(gaps[1] if classes == 2 else gaps.mean()) and base.eod == 0


@FEW_EXAMPLES
@given(st.integers(0, 10**6), st.sampled_from([3, 10]))
def test_order_of_classes_does_not_matter(seed, classes):
    labels, predicted, group = noisy(seed, n=500, classes=classes)
    rename = np.random.default_rng(seed).permutation(classes)
    same = scores(rename[labels], rename[predicted], group)
    assert same.to_numpy() == pytest.approx(scores(labels, predicted, group).to_numpy(), abs=1e-12)


def test_what_numpy_would_drop_silently_is_refused():
    groups = ["a", "a", "b", "b"]
    masked = np.ma.masked_array([0, 1, 0, 1], mask=[0, 0, 0, 1])
    for bad in (masked, np.array([0, 1, 0, 1 + 1j]), [[0], [1, 0], [1]]):
        with pytest.raises(InvalidInput, match="y_pred"):
            fairness.demographic_parity_difference([0, 1, 0, 1], bad, sensitive_features=groups)
