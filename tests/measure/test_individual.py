"""Individual fairness: distances by hand, neighbors against scikit-learn, the two controls for softness."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.errors import InvalidInput, KdlibWarning, UndefinedMetric
from kdlib.measure import individual, individual_runs
from kdlib.predictions import Predictions, softmax
from tests.simulated import runs_table

# four points on a line, 0 1 3 7; three outputs certain of class 0 or 1, one undecided
LINE = np.array([[0.0], [1.0], [3.0], [7.0]])
SURE = np.array([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
MEASURES = (individual.mean_ratio, individual.lipschitz, individual.inconsistency)


def simulated(seed=0, *, n=400, runs=5, sharpness=(1.0,), classes=3):
    """Two dimensions in which class means lie apart; logits follow the position, with run noise; an arm a sharpness."""
    rng = np.random.default_rng(seed)
    labels, means = rng.integers(0, classes, n), rng.normal(size=(classes, 2))
    x = means[labels] + rng.normal(size=(n, 2))
    logits = -((x[:, None] - means) ** 2).sum(axis=2) / 2 + rng.normal(0, 0.3, (runs, n, classes))
    probabilities = np.concatenate([softmax(s * logits) for s in sharpness])
    table = runs_table([("ds", t + 1, range(runs)) for t in range(len(sharpness))])
    return x, Predictions(
        table,
        probabilities.argmax(axis=2),
        labels,
        np.arange(n).astype(str),
        tuple("abc"[:classes]),
        probabilities=probabilities,
    )


def by_sample(near):
    """The neighbors of each sample, ascending."""
    return [sorted(near.near[near.of == i].tolist()) for i in range(near.n)]


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_total_variation_by_hand():
    assert individual.total_variation(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1
    assert individual.total_variation(np.array([0.5, 0.5]), np.array([0.2, 0.8])) == pytest.approx(0.3)


def test_counterfactual_by_hand():
    twin = np.array([[1.0, 0.0], [0.0, 1.0], [0.3, 0.7], [0.0, 1.0]])
    assert individual.counterfactual(SURE, twin) == pytest.approx((0 + 1 + 0.2 + 0) / 4)
    assert individual.counterfactual(SURE, np.stack([twin, SURE], axis=1)) == pytest.approx(1.2 / 8)
    assert individual.counterfactual(SURE, SURE) == 0


def test_a_mean_of_ratios_by_hand():
    """Nearest: 0-1, 1-0, 3-1, 7-3 at distances 1 1 2 4; D 0 0 .5 .5."""
    near = individual.neighbors(LINE, k=1)
    unit = near.distance[0]  # of 1 on the line
    found = individual.mean_ratio(SURE, near)
    assert found == pytest.approx((0.5 / (2 * unit) + 0.5 / (4 * unit)) / 4)
    assert individual.share_too_near(near) == 0
    pairs = near.pairs(*individual.random_pairs(4))
    assert np.median(pairs.distance) == pytest.approx(1, abs=0.5)
    apart = individual.total_variation(SURE[pairs.of], SURE[pairs.near])
    assert individual.mean_ratio(SURE, pairs) == pytest.approx((apart / pairs.distance).mean())


def test_near_duplicates_are_left_out_of_a_mean_of_ratios():
    """Two copies of a point at distance 0.001: their pair would count a thousand times."""
    line, outputs = np.array([[0.0], [0.001], [1.0], [3.0], [7.0]]), np.vstack([[0.0, 1.0], SURE])
    near = individual.neighbors(line, k=2)
    kept = near.distance >= individual.CLOSEST
    ratio = individual.total_variation(outputs[near.of], outputs[near.near])[kept] / near.distance[kept]
    found = individual.mean_ratio(outputs, near)
    assert found == pytest.approx(np.average(ratio, weights=near.weight[kept]))
    assert individual.share_too_near(near) == pytest.approx(2 / 10)
    with pytest.raises(UndefinedMetric):
        individual.mean_ratio(SURE, near._replace(n=4, distance=near.distance / 1000))


def test_lipschitz_and_inconsistency_by_hand():
    """Nearest: 0-1, 1-0, 3-1, 7-3 at distances 1 1 2 4; D 0 0 .5 .5; the undecided output counts as class 0."""
    near = individual.neighbors(LINE, k=1)
    assert by_sample(near) == [[1], [0], [1], [2]]
    scale = near.distance[0]
    assert near.distance == pytest.approx(scale * np.array([1, 1, 2, 4]))
    assert individual.lipschitz(SURE, near) == pytest.approx((1.0 / 4) / (scale * 8 / 4))
    assert individual.inconsistency(SURE, near) == pytest.approx(1 / 4)


def test_neighbors_of_the_same_label_alone():
    near = individual.neighbors(LINE, k=1, labels=np.array([0, 1, 0, 1]))
    assert by_sample(near) == [[2], [3], [0], [1]]


def test_distance_one_is_the_median_random_pair():
    x = np.random.default_rng(0).normal(size=(2000, 8))
    near = individual.neighbors(x, k=1999)
    assert np.median(near.distance) == pytest.approx(1, abs=0.02)


def test_duplicates_are_neighbors_and_a_sample_is_not_its_own():
    x = np.repeat(np.arange(5.0), 2)[:, None]
    near = individual.neighbors(x, k=1)
    assert by_sample(near) == [[1], [0], [3], [2], [5], [4], [7], [6], [9], [8]] and near.distance.max() == 0
    p = np.tile([[0.9, 0.1], [0.2, 0.8]], (5, 1))
    with pytest.raises(UndefinedMetric):
        individual.lipschitz(p, near)
    assert individual.inconsistency(p, near) == 1


@pytest.mark.parametrize("kind", [np.float16, np.uint8, np.int16])
def test_an_embedding_of_any_width_has_the_neighbors_of_its_values(kind):
    x = np.random.default_rng(0).integers(0, 250, (40, 30)).astype(kind)
    narrow, wide = (individual.neighbors(values, k=3) for values in (x, x.astype(float)))
    assert np.array_equal(narrow.near, wide.near) and np.array_equal(narrow.distance, wide.distance)


def test_nearest_of_another_group_by_hand():
    found = individual.nearest_of_another_group(LINE, np.array(list("aabb")), labels=np.zeros(4))
    assert by_sample(found) == [[2], [2], [1], [1]] and found.weight.tolist() == [1] * 4
    with pytest.raises(UndefinedMetric, match="1.0.*'b'"):
        individual.nearest_of_another_group(LINE, np.array(list("abbb")), labels=np.array([0.0, 0, 1, 1]))


def test_what_is_tied_at_the_kth_distance_shares_its_weight_by_hand():
    """0, and 1 three times: of the sample at 0 all three at 1 are nearest; of one at 1 the other two are."""
    near = individual.neighbors(np.array([[0.0], [1], [1], [1], [5]]), k=2)
    assert by_sample(near) == [[1, 2, 3], [2, 3], [1, 3], [1, 2], [1, 2, 3]]
    assert near.weight[near.of == 0] == pytest.approx([1 / 3] * 3) and near.weight[near.of == 1].tolist() == [0.5] * 2
    p = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1], [0, 1]])  # inconsistent: 2 of 3, 2 of 2, 1 of 2, 1 of 2, 1 of 3
    found = individual.inconsistency(p, near)
    assert found == pytest.approx((2 / 3 + 1 + 1 / 2 + 1 / 2 + 1 / 3) / 5)
    nearer = individual.neighbors(np.array([[0.0], [1], [2], [2], [9]]), k=2)  # 0: 1, and half of each at 2
    assert nearer.weight[nearer.of == 0] == pytest.approx([1 / 2, 1 / 4, 1 / 4])


def test_an_embedding_that_ties_nearly_all_samples_is_refused(monkeypatch):
    monkeypatch.setattr(individual, "MOST_PAIRS", 300)
    with pytest.raises(InvalidInput, match="30"):
        individual.neighbors(np.tile([[0.0], [1.0]], (15, 1)), k=3)


# --- a second library ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_neighbors_equal_scikit_learn(kind):
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    x, labels = (rng.normal(size=(2600, 16)) + 50).astype(kind), rng.integers(0, 2, 2600)  # more rows than one chunk
    near = individual.neighbors(x, k=5, labels=labels)
    for label in (0, 1):
        same = np.flatnonzero(labels == label)
        distance, index = NearestNeighbors(n_neighbors=6).fit(x[same]).kneighbors(x[same])
        here = np.isin(near.of, same)
        rows = np.lexsort([near.distance[here], near.of[here]])
        assert (same[index[:, 1:]].ravel() == near.near[here][rows]).mean() > 0.999
        ratio = near.distance[here][rows] / distance[:, 1:].ravel()
        assert ratio.min() == pytest.approx(ratio.max(), rel=1e-4)


def test_temperature_is_the_minimum_of_scikit_learns_log_loss():
    from sklearn.metrics import log_loss

    _, p = simulated(1, sharpness=(3.0,))
    t = individual.fit_temperature(p.probabilities[0], p.labels)
    around = [individual.rescale(p.probabilities[0], factor * t) for factor in (0.9, 0.99, 1, 1.01, 1.1)]
    loss = [log_loss(p.labels, scaled) for scaled in around]
    assert np.argmin(loss) == 2


# --- the controls ----------------------------------------------------------------------------------------------------


def test_softening_lowers_the_raw_measures_and_calibration_undoes_it():
    with pytest.warns(KdlibWarning, match="ds-T1"):
        x, p = simulated(2, sharpness=(1.0, 0.25), n=600)
    twins = np.asarray(p.probabilities)[:, np.random.default_rng(0).permutation(600)]
    runs = individual_runs.by_run(p, embedding=individual.neighbors(x, k=5, labels=p.labels), twins=twins)
    arms = individual_runs.table(p, runs).pivot(index="temperature", columns="metric", values="mean")
    for name in ("lipschitz", "counterfactual"):
        assert arms[name][2] < 0.6 * arms[name][1]
        assert arms[f"{name}_calibrated"][2] == pytest.approx(arms[f"{name}_calibrated"][1], rel=1e-3)
        assert arms[f"{name}_relative"][2] == pytest.approx(arms[f"{name}_relative"][1], rel=0.15)
    assert arms.inconsistency[1] == arms.inconsistency[2] and arms.confidence[2] < arms.confidence[1]
    assert arms.fitted_temperature[1] / arms.fitted_temperature[2] == pytest.approx(4, rel=1e-3)


def test_rescale_by_hand():
    p = np.array([[0.8, 0.2], [0.5, 0.5]])
    assert individual.rescale(p, 1.0) == pytest.approx(p)
    assert individual.rescale(p, 0.5) == pytest.approx(np.array([[16 / 17, 1 / 17], [0.5, 0.5]]))
    assert np.isfinite(individual.rescale(np.array([[1.0, 0.0]], np.float32), 0.02)).all()


def test_each_half_is_scaled_by_the_other():
    _, p = simulated(3, sharpness=(3.0,))
    probabilities, labels = p.probabilities[0], p.labels
    t = individual.cross_fitted_temperature(probabilities, labels)
    first = individual.halves(len(labels))
    assert len(set(t)) == 2 and t[first][0] == individual.fit_temperature(probabilities[~first], labels[~first])
    flipped = np.where(first, (labels + 1) % 3, labels)  # what the first half says must not move its own temperature
    again = individual.cross_fitted_temperature(probabilities, flipped)
    assert (again[first] == t[first]).all() and (again[~first] != t[~first]).all()


def test_runs_table_matches_the_single_functions():
    x, p = simulated(4, runs=2)
    twins = np.stack([p.probabilities[::-1], p.probabilities], axis=2)
    near = individual.neighbors(x, k=7, labels=p.labels)
    runs = individual_runs.by_run(p, embedding=near, twins=twins)
    for run, row in enumerate(runs.itertuples()):
        assert row.lipschitz == individual.lipschitz(p.probabilities[run], near)
        assert row.counterfactual == individual.counterfactual(p.probabilities[run], twins[run])
        assert row.lipschitz_relative == pytest.approx(row.lipschitz / row.random_pairs)
    only = individual_runs.by_run(p, twins=twins)
    assert "lipschitz" not in only and only.counterfactual.tolist() == runs.counterfactual.tolist()
    pd.testing.assert_frame_equal(runs, individual_runs.by_run(p, embedding=near, twins=twins))


def test_a_sample_that_is_its_own_twin_does_not_dilute_the_measure():
    _, p = simulated(5, runs=2)
    words = np.arange(400) < 100
    given = replace(p, groups={"sex_words": np.where(words, "some", "none")})
    assert np.array_equal(individual_runs.with_twin(given, "sex"), words)
    assert individual_runs.with_twin(given, "age").all()
    twins = np.where(words[:, None], np.asarray(p.probabilities)[:, :, ::-1], p.probabilities)
    among, all_ = (individual_runs.by_run(given, twins=twins, among=rows) for rows in (words, None))
    for name in ("counterfactual", "counterfactual_calibrated", "counterfactual_relative"):
        assert (among[name] > 0.1).all() and among[name].tolist() == pytest.approx(4 * all_[name])
    assert among.random_pairs.tolist() == all_.random_pairs.tolist()
    with pytest.raises(UndefinedMetric):
        individual_runs.by_run(given, twins=twins, among=np.zeros(400, bool))
    with pytest.raises(InvalidInput, match=r"among.*\(3,\)"):
        individual_runs.by_run(given, twins=twins, among=words[:3])


# --- bad input -------------------------------------------------------------------------------------------------------


def test_bad_input_names_value_place_and_remedy():
    with pytest.raises(InvalidInput, match="4"):
        individual.neighbors(LINE, k=4)
    with pytest.raises(InvalidInput, match="0"):
        individual.neighbors(LINE, k=0)
    with pytest.raises(InvalidInput, match="-2"):
        individual.counterfactual(SURE * 4 - 2, SURE)
    with pytest.raises(InvalidInput, match="2, 0"):
        individual.counterfactual(np.where(SURE == 0.5, np.nan, SURE), SURE)
    with pytest.raises(InvalidInput, match=r"twins \(3, 2\)"):
        individual.counterfactual(SURE, SURE[:3])
    with pytest.raises(InvalidInput, match="row 1"):
        individual.neighbors(np.where(LINE == 1, np.nan, LINE), k=1)
    with pytest.raises(InvalidInput, match=r"labels.*\(3,\)"):
        individual.neighbors(LINE, k=1, labels=np.zeros(3))
    for measure in MEASURES:
        with pytest.raises(InvalidInput, match="4.*3"):
            measure(SURE[:3], individual.neighbors(LINE, k=1))
        with pytest.raises(InvalidInput, match="logits"):
            measure(SURE * 3, individual.neighbors(LINE, k=1))
    with pytest.raises(UndefinedMetric):
        individual.neighbors(np.ones((6, 3)), k=1)
    with pytest.raises(InvalidInput, match="3"):
        individual.cross_fitted_temperature(SURE[:3], np.array([0, 1, 0]))


@pytest.mark.parametrize("labels", [[-1, 0, 1, 0], [0, 1, 2, 0], [0.5, 0, 1, 0], [0, 1, 0], ["a", "b", "a", "b"]])
def test_labels_that_are_no_classes_have_no_temperature(labels):
    with pytest.raises(InvalidInput, match="labels"):
        individual.cross_fitted_temperature(SURE, np.array(labels))


def test_logits_are_not_scaled_as_probabilities():
    for scale in (individual.rescale, individual.fit_temperature):
        with pytest.raises(InvalidInput, match="logits"):
            scale(SURE * 3, np.array([0, 1, 0, 1]))


@pytest.mark.parametrize("k", [1.5, "2", None])
def test_a_number_of_neighbors_is_whole(k):
    with pytest.raises(InvalidInput, match=str(k)):
        individual.neighbors(LINE, k=k)


def test_table_needs_probabilities_and_something_to_compare():
    x, p = simulated(0, runs=2)
    with pytest.raises(InvalidInput, match="embedding"):
        individual_runs.by_run(p)
    with pytest.raises(InvalidInput, match="twins"):
        individual_runs.by_run(p, twins=p.probabilities[:1])
    bare = Predictions(p.runs, p.predicted, p.labels, p.sample_ids, p.class_names)
    with pytest.raises(InvalidInput, match="probabilities"):
        individual_runs.by_run(bare, embedding=individual.neighbors(x))


# --- properties ------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_scale_shift_and_order_do_not_matter(seed):
    x, p = simulated(seed, n=80, runs=1)
    probabilities = p.probabilities[0]
    near, further = individual.neighbors(x, k=3), individual.neighbors(7 * x + 3, k=3)
    for measure in MEASURES:
        base, moved = measure(probabilities, near), measure(probabilities, further)
        assert moved == pytest.approx(base, rel=1e-6) and base >= 0
        renamed = measure(probabilities[:, [2, 0, 1]], near)
        assert renamed == pytest.approx(base, rel=1e-9)
    constant = np.tile(probabilities[:1], (80, 1))
    assert individual.lipschitz(constant, near) == 0


@pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")  # some drawn runs predict alike
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([np.uint8, np.float16, np.float32, np.float64]))
def test_the_order_of_rows_changes_nothing_though_neighbors_are_tied(seed, kind):
    """Two attributes of four values each: most neighbors are tied, as in the drawn factors of Trifeature."""
    _, p = simulated(seed, n=80, runs=2)
    rng = np.random.default_rng(seed)
    factors, order = rng.integers(0, 4, (80, 2)), rng.permutation(80)
    x = np.concatenate([np.eye(4)[column] for column in factors.T], axis=1).astype(kind)
    p = replace(p, groups={"color": factors[:, 0].astype(str)}, features=x.astype(np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(individual, "RANDOM_PAIRS", 300)
        near = individual.neighbors(x, k=3, labels=p.labels)
        found = individual_runs.by_run(p, embedding=near, twins=individual_runs.all_twins(p)["color"])
        moved = replace(
            p,
            predicted=p.predicted[:, order],
            labels=p.labels[order],
            sample_ids=p.sample_ids[order],
            probabilities=np.asarray(p.probabilities)[:, order],
            groups={"color": p.groups["color"][order]},
            features=p.features[order],
        )
        near = individual.neighbors(x[order], k=3, labels=moved.labels)
        again = individual_runs.by_run(moved, embedding=near, twins=individual_runs.all_twins(moved)["color"])
    pd.testing.assert_frame_equal(found, again, rtol=1e-9)


def test_without_stored_twins_the_nearest_of_another_group_by_features_stands_in():
    rng = np.random.default_rng(0)
    p = Predictions(
        runs_table([("ds", 1, range(2))]),
        *(probabilities := rng.dirichlet([1, 1], size=(2, 8))).argmax(axis=2)[None],
        labels=np.array([0] * 4 + [1] * 4),
        sample_ids=np.arange(8).astype(str),
        class_names=("no", "yes"),
        probabilities=probabilities,
    )
    features = np.array([[0, 0], [0, 1], [9, 0], [9, 1], [0, 0], [0, 2], [9, 0], [9, 3]], np.uint8)
    groups = {"sex": np.array(["f", "m", "f", "m"] * 2)}
    given = replace(p, groups=groups, features=features)
    twins = individual_runs.all_twins(given)["sex"]
    assert by_sample(twins) == [[1], [0], [3], [2], [5], [4], [7], [6]]
    stored = replace(given, twins={"age": np.asarray(given.probabilities)[:, ::-1]})
    assert list(individual_runs.all_twins(stored)) == ["age"]
    assert individual_runs.all_twins(replace(given, features=None)) == {}
    with pytest.raises(InvalidInput, match="probabilities"):
        individual_runs.all_twins(replace(given, probabilities=None))
    assert individual_runs.twins_in_words(given, "sex") == "the nearest sample of another group by sex"
    known = replace(given, twins={"sex": np.asarray(given.probabilities)[:, ::-1]})
    assert individual_runs.twins_in_words(known, "sex") == "sex changed in 8 of 8 test samples"


def test_neighbors_are_near_by_features_or_by_what_was_drawn():
    x, p = simulated(3)
    features = (x - x.min()).astype(np.uint8)
    given = replace(p, groups={"sex": np.resize(["f", "m"], 400)}, features=features)
    near = individual_runs.frozen_embedding(given)
    assert by_sample(near) == by_sample(individual.neighbors(features, labels=p.labels))
    assert individual_runs.frozen_embedding(replace(given, features=None)) is None
    colors, textures = np.resize(["red", "blue"], 400), np.repeat(["solid", "dotted"], 200)
    drawn = individual_runs.frozen_embedding(replace(p, groups={"color": colors, "texture": textures}))
    both = np.stack([colors == "red", textures == "solid"], axis=1)
    assert by_sample(drawn) == by_sample(individual.neighbors(both, labels=p.labels))


def test_without_the_features_what_was_released_of_them_stands_in():
    x, p = simulated(3)
    features = (x - x.min()).astype(np.uint8)
    p = replace(p, groups={"sex": np.array(["f", "m"])[np.arange(400) // 2 % 2]}, features=features)
    near = individual_runs.frozen_embedding(p)
    ours, scalars = individual_runs.by_feature(p, embedding=near), individual_runs.scalars(p)
    assert list(ours) == ["sex"] and list(scalars) == p.runs["run_id"].tolist()
    columns = pd.DataFrame([scalars[run] for run in p.runs["run_id"]], index=p.runs.index)
    back = replace(p, runs=p.runs.join(columns), features=None)
    pd.testing.assert_frame_equal(individual_runs.by_feature(back)["sex"], ours["sex"], check_like=True)
    pd.testing.assert_frame_equal(
        individual_runs.table(back, individual_runs.by_feature(back)["sex"][ours["sex"].columns]),
        individual_runs.table(p, ours["sex"]),
    )
    stored = replace(p, features=None, twins={"sex": np.asarray(p.probabilities)[:, ::-1]})
    assert individual_runs.scalars(stored) == {}, "stored twins are released themselves"
    assert "lipschitz" not in individual_runs.by_feature(stored)["sex"]
    assert individual_runs.by_feature(replace(p, features=None)) == {}
