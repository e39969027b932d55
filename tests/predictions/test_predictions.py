"""Predictions fit together or are refused: by sample id, never by order."""

import tracemalloc
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from kdlib import store
from kdlib.errors import InvalidInput, KdlibWarning, NotTrained, StoreError
from kdlib.measure import class_bias, fidelity
from kdlib.predictions import Predictions, softmax
from kdlib.predictions import collect as collecting
from kdlib.predictions.by_run import ByRun
from kdlib.predictions.collect import collect, collect_parts
from tests.simulated import study


def assemble(runs, read):
    return collecting.assemble(runs, [partial(dict, arrays) for arrays in read])


def arrays(logits, ids=("a", "b", "c"), labels=(0, 1, 1), names=("no", "yes"), sex=("f", "m", "f")):
    return {
        "logits": np.array(logits, np.float32),
        "labels": np.array(labels),
        "sample_ids": np.array(ids),
        "class_names": np.array(names),
        "group:sex": np.array(sex),
    }


def table(n):
    return pd.DataFrame(
        {
            "run_id": [f"r{i}" for i in range(n)],
            "study": "s",
            "model": "nds",
            "seed": range(n),
            "temperature": np.nan,
            "alpha": np.nan,
            "teacher_id": None,
        }
    )


ONE = [[2, 0], [0, 1], [3, 0]]
TWO = [[0, 1], [0, 2], [0, 4]]


def simple(**changes) -> Predictions:
    return replace(assemble(table(2), [arrays(ONE), arrays(TWO)]), **changes)


def test_accuracy_by_hand():
    p = simple()
    assert p.predicted.tolist() == [[0, 1, 0], [1, 1, 1]]
    assert p.accuracy.tolist() == pytest.approx([2 / 3, 2 / 3])
    assert p.n_classes == 2 and p.groups["sex"].tolist() == ["f", "m", "f"]
    assert p.probabilities[0][0].tolist() == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))])


def test_samples_are_aligned_by_id():
    shuffled = arrays([TWO[2], TWO[0], TWO[1]], ids=("c", "a", "b"), labels=(1, 0, 1), sex=("f", "f", "m"))
    assert np.array_equal(assemble(table(2), [arrays(ONE), shuffled]).probabilities, simple().probabilities)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (arrays(TWO, ids=("a", "b", "d")), "r1"),
        (arrays(TWO[:2], ids=("a", "b"), labels=(0, 1), sex=("f", "m")), "r1"),
        (arrays(TWO, labels=(0, 1, 0)), "r1"),
        (arrays(TWO, names=("yes", "no")), "r1"),
        (arrays([[0, 1], [0, np.nan], [0, 1]]), "r1"),
        (arrays([[0, 1], [0, np.inf], [0, 1]]), "r1"),
        (arrays(ONE), "r0 and r1"),
    ],
)
def test_runs_that_do_not_fit_together_are_refused(second, message):
    with pytest.raises(InvalidInput, match=message):
        assemble(table(2), [arrays(ONE), second])


def test_equal_classes_with_other_probabilities_only_warn():
    with pytest.warns(KdlibWarning, match="r0 and r1"):
        assemble(table(2), [arrays(ONE), arrays(np.array(ONE) * 2)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_ids": np.array(["a", "b", "b"])}, "'b'"),
        ({"sample_ids": np.array(["a", "b"])}, "2 .* 3 "),
        ({"labels": np.array([0, 1, 2])}, r"labels .*0 \.\. 2"),
        ({"labels": np.array([0, 1, -1])}, r"labels .*-1 \.\. 1"),
        ({"labels": np.array([0, 0.5, 1])}, "labels .*float64"),
        ({"labels": np.array(["0", "1", "1"])}, "labels .*<U1"),
        ({"labels": np.array([True, False, True])}, "labels .*bool"),
        ({"predicted": np.array([[0, 1, 0]])}, r"predicted .*\(1, 3\)"),
        ({"labels": np.array([[0], [1], [1]])}, r"\(3, 1\)"),
        ({"predicted": [[0, 1, 0], [1]]}, "predicted"),
        ({"class_names": ("no", "no")}, "no"),
        ({"groups": {"sex": np.array(["f"])}}, "'sex' .* 1 "),
        ({"runs": table(2).drop(columns="seed")}, "seed"),
        ({"probabilities": np.array([ONE, TWO], float)}, "probabilities of run r0 .*off by 2"),
        ({"probabilities": -np.ones((2, 3, 2))}, "probabilities"),
        ({"probabilities": np.full((2, 3, 2), np.nan)}, "r0 .*0, 0"),
        ({"probabilities": np.ones((2, 3, 3)) / 3}, r"r0 .*\(3, 3\)"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(InvalidInput, match=message):
        simple(**changes)


def test_no_samples_are_refused():
    with pytest.raises(InvalidInput):
        Predictions(table(1), np.zeros((1, 0), int), np.zeros(0, int), np.zeros(0, str), ("a", "b"))


def test_arms_come_in_order_of_seed():
    runs = table(3).assign(seed=[2, 0, 1], model=["ds", "nds", "ds"], temperature=[4.0, np.nan, 4.0])
    p = assemble(runs, [arrays(ONE), arrays(TWO), arrays([[1, 0], [1, 0], [0, 2]])])
    assert p.arm(model="ds", temperature=4).runs.seed.tolist() == [1, 2]
    assert p.arm(model="ds").predicted.tolist() == [[0, 0, 1], [0, 1, 0]]
    assert p.temperatures == [4.0]
    with pytest.raises(NotTrained, match="ds T=4, nds"):
        p.arm(model="ds", temperature=5)
    with pytest.raises(InvalidInput, match="'temprature'"):
        p.arm(temprature=4)


def test_softmax_sums_to_one_and_does_not_overflow():
    p = softmax(np.array([[1000.0, 0.0], [0.0, 0.0]], np.float32), temperature=2.0)
    assert p.tolist() == [[1, 0], [0.5, 0.5]]


def twinned(logits, twin, **changes):
    return arrays(logits, **changes) | {"twin:sex": np.array(twin, np.float32)}


def test_twins_are_aligned_by_id_and_follow_their_runs():
    shuffled = twinned(
        [TWO[2], TWO[0], TWO[1]], [[0, 3], [0, 1], [0, 2]], ids=("c", "a", "b"), labels=(1, 0, 1), sex=("f", "f", "m")
    )
    p = assemble(table(2), [twinned(ONE, [[1, 0], [2, 0], [3, 0]]), shuffled])
    expected = softmax(np.array([[[1, 0], [2, 0], [3, 0]], [[0, 1], [0, 2], [0, 3]]], np.float32))
    assert list(p.twins) == ["sex"] and np.array_equal(p.twins["sex"], expected)
    assert np.array_equal(p.take(np.array([1])).twins["sex"], expected[1:])
    assert np.array_equal(p.arm(seed=1).twins["sex"], expected[1:])


def test_twins_that_one_run_lacks_are_absent():
    assert simple().twins == {}
    for read in ([twinned(ONE, ONE), arrays(TWO)], [arrays(ONE), twinned(TWO, TWO)]):
        assert assemble(table(2), read).twins == {}


def test_twins_that_are_no_probabilities_are_refused():
    with pytest.raises(InvalidInput, match="r1 .*twin:sex"):
        assemble(table(2), [twinned(ONE, ONE), twinned(TWO, [[0, 1], [0, np.nan], [0, 1]])])
    whole = np.array(simple().probabilities)
    for twins, message in ((whole[:1], "sex"), (whole * 2, "sex")):
        with pytest.raises(InvalidInput, match=message):
            simple(twins={"sex": twins})


@pytest.fixture
def stored(tmp_path, tiny):
    """Every run of the tiny study on disk with drawn logits, but for one that failed and one that is missing."""
    rng, runs = np.random.default_rng(0), tiny.study("tiny").runs()
    for run in runs[:-2]:
        store.save(tmp_path, run, arrays=arrays(rng.normal(size=(3, 2))), weights=b"", provenance={})
    store.record_failure(tmp_path, runs[-1], "the loss was nan at epoch 0, step 2")
    return tmp_path


@pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")
def test_collect_names_what_is_absent(stored, tiny):
    p = collect(tiny.study("tiny"), runs_dir=stored)
    assert p.runs.model.tolist() == ["teacher", "teacher", "nds", "nds", "ds", "ds"]
    assert p.runs.teacher_id.iloc[4] == p.runs.run_id.iloc[0]
    assert p.absent == (
        "digits lenet5 ds seed 1 T=1: not trained",
        "digits lenet5 ds seed 1 T=4: the loss was nan at epoch 0, step 2",
    )


@pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")
def test_collect_refuses_damage_and_nothing_at_all(stored, tiny, tmp_path_factory):
    study = tiny.study("tiny")
    with pytest.raises(NotTrained, match="'tiny'"):
        collect_parts([study], runs_dir=tmp_path_factory.mktemp("empty"))
    with pytest.raises(NotTrained, match="'tiny'"):
        collect_parts([study], runs_dir=stored)
    assert list(collect_parts([replace(study, temperatures=())], runs_dir=stored)) == ["tiny"]
    path = store.folder(stored, study.runs()[0]) / "predictions.npz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match=study.runs()[0].id[:16]):
        collect(study, runs_dir=stored)


def save_with_validation(runs_dir, runs):
    """Three test and two validation images; every run is right on 2 of the 3, and on 1 of the 2."""
    for i, run in enumerate(runs):
        scale = i + 1
        validation = arrays(np.array(TWO[:2]) * scale, ids=("v0", "v1"), labels=(0, 1), sex=("m", "f"))
        both = arrays(np.array(ONE) * scale) | {f"validation:{name}": values for name, values in validation.items()}
        store.save(runs_dir, run, arrays=both, weights=b"", provenance={})


def test_the_validation_part_is_read_under_its_own_name(tiny, tmp_path):
    study = tiny.study("tiny")
    save_with_validation(tmp_path, study.runs())
    with pytest.warns(KdlibWarning):
        assert collect(study, runs_dir=tmp_path).sample_ids.tolist() == ["a", "b", "c"]
        found = collect(study, runs_dir=tmp_path, part="validation")
    assert found.sample_ids.tolist() == ["v0", "v1"] and found.groups["sex"].tolist() == ["m", "f"]
    with pytest.raises(InvalidInput, match="'train'"):
        collect(study, runs_dir=tmp_path, part="train")


@pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")
def test_every_part_that_the_runs_predicted_is_collected(tiny, tmp_path):
    study = tiny.study("tiny")
    other = replace(study, name="other", alpha=0.5)  # its students are not trained
    never = replace(study, name="never", data={**study.data, "train_images": 90})
    save_with_validation(tmp_path, study.runs())
    found = collect_parts([never, study, other], runs_dir=tmp_path)
    assert list(found) == ["tiny", "other"] and list(found["tiny"]) == ["test", "validation"]
    assert list(collect_parts([study], runs_dir=tmp_path, validation=False)["tiny"]) == ["test"]
    assert [p.accuracy.tolist() for p in found["tiny"].values()] == [pytest.approx([2 / 3] * 8), [0.5] * 8]
    assert [p.runs.model.tolist() for p in found["other"].values()] == [["teacher"] * 2 + ["nds"] * 2] * 2
    assert found["other"]["validation"].absent == found["other"]["test"].absent != ()
    with pytest.raises(NotTrained, match="'never'"):
        collect_parts([never], runs_dir=tmp_path)


@pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")
def test_runs_without_a_validation_part_have_the_test_part_alone(stored, tiny):
    assert list(collect_parts([replace(tiny.study("tiny"), temperatures=())], runs_dir=stored)["tiny"]) == ["test"]


@pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")
def test_a_validation_part_that_one_run_lacks_is_refused(tiny, tmp_path):
    *most, last = tiny.study("tiny").runs()
    save_with_validation(tmp_path, most)
    store.save(tmp_path, last, arrays=arrays(TWO), weights=b"", provenance={})
    with pytest.raises(InvalidInput, match=f"'validation' .*{last}"):
        collect_parts([tiny.study("tiny")], runs_dir=tmp_path)


def test_runs_that_predict_alike_are_named_unless_they_make_no_error():
    labels = np.array([0, 1, 0, 1])
    runs = pd.DataFrame(
        [
            {"run_id": f"run{s}", "study": "s", "model": "nds", "seed": s, "temperature": np.nan, "alpha": np.nan}
            for s in (0, 1)
        ]
    ).assign(teacher_id=None)
    alike = np.array([[0, 1, 1, 1]] * 2)
    with pytest.warns(KdlibWarning, match="run0 and run1"):
        Predictions(runs, alike, labels, np.array(list("abcd")), ("no", "yes"))
    Predictions(runs, np.stack([labels, labels]), labels, np.array(list("abcd")), ("no", "yes"))


# --- types of the world, and what a run says of itself ----------------------------------------------------------------


SEVENTEEN = np.array([*range(17), 16, 16])


def seventeen(labels, predicted, **more):
    names = tuple(f"class {c}" for c in range(17))
    return Predictions(table(1), predicted, labels, np.arange(19), names, **more)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int32, np.uint64, "UInt8", "Int64", list, "torch"])
def test_whole_numbers_of_any_kind_count_alike(kind):
    """16 * 17 + 16 is more than a byte holds."""
    said = np.where(np.arange(19) == 17, 2, SEVENTEEN)
    if kind == "torch":
        import torch

        given = [torch.tensor(values, dtype=torch.uint8) for values in (SEVENTEEN, said[None])]
    elif kind is list:
        given = [SEVENTEEN.tolist(), [said.tolist()]]
    elif isinstance(kind, str):
        given = [pd.Series(SEVENTEEN, dtype=kind), said[None].astype(kind.lower())]
    else:
        given = [SEVENTEEN.astype(kind), said[None].astype(kind)]
    p = seventeen(*given)
    assert p.labels.dtype == p.predicted.dtype == np.int64
    counts = class_bias.disagreement(seventeen(SEVENTEEN, SEVENTEEN[None]), p)
    assert counts[16, 2] == 1 and counts[16, 16] == 2 and counts.trace() == 18


@pytest.mark.parametrize("given", [SEVENTEEN + 0.0, SEVENTEEN > 3, pd.Series([*SEVENTEEN[:-1], None], dtype="Int64")])
def test_labels_that_are_no_whole_numbers_are_refused(given):
    with pytest.raises(InvalidInput, match="labels"):
        seventeen(given, SEVENTEEN[None])


def test_half_precision_is_computed_in_double():
    half = np.full((1, 19, 17), 1 / 17, np.float16)
    p = seventeen(SEVENTEEN, SEVENTEEN[None], probabilities=half, confidence=half.max(axis=2))
    assert p.probabilities[0].dtype == p.confidence.dtype == np.float64
    with pytest.raises(InvalidInput, match="confidence"):
        seventeen(SEVENTEEN, SEVENTEEN[None], confidence=np.full((1, 19), "1"))


def test_ids_of_several_types_are_compared_as_text():
    with pytest.raises(InvalidInput, match="'1'"):
        simple(sample_ids=np.array([1, "1", "a"], object))


def test_predicted_classes_that_contradict_the_probabilities_are_refused():
    p = simple()
    for at, name in ((0, "a"), (2, "c")):
        wrong = p.predicted.copy()
        wrong[1, at] = 0  # TWO says class 1 everywhere
        with pytest.raises(InvalidInput, match=f"r1 .*'no'.*'{name}'"):
            replace(p, predicted=wrong)
    tied = np.array(p.probabilities)
    tied[0, 0] = [0.4995, 0.5005]  # as near as half precision rounds
    assert replace(p, probabilities=tied).predicted[0, 0] == 0


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_confidence_lies_between_0_and_1(bad):
    given = np.full((2, 3), 0.9)
    given[1, 2] = bad
    with pytest.raises(InvalidInput, match=str(bad)):
        simple(probabilities=None, confidence=given)
    with pytest.raises(InvalidInput, match=r"\(2, 2\)"):
        simple(probabilities=None, confidence=given[:, :2])


def test_where_every_run_collapsed_no_run_is_left():
    p = simple()
    none = p.take(np.array([], int))
    assert len(none.runs) == len(none.probabilities) == 0


def test_runs_that_collapsed_are_named():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    predicted = np.stack([labels, rng.integers(0, 3, 300), np.full(300, 2), np.where(rng.random(300) < 0.2, 0, labels)])
    p = Predictions(table(4), predicted, labels, np.arange(300), ("a", "b", "c"))
    assert list(p.collapsed) == ["r1", "r2"] and "class 2" in p.collapsed["r2"]
    assert p.without_collapsed().runs["run_id"].tolist() == ["r0", "r3"]


# ----------------------------------------------------------------------------------------------- the table of runs


def of_all_roles():
    """Two teachers, NDS and DS each, all different."""
    p = study(n_classes=3, total=20, n_seeds=2, temperatures=(4,))
    ids = p.runs["run_id"].str.replace("-", " ")
    teachers = np.where(p.runs["model"] == "ds", "teacher " + p.runs["seed"].astype(str), None)
    return replace(p, runs=p.runs.assign(run_id=ids, teacher_id=teachers))


@pytest.mark.parametrize(
    "change",
    [
        lambda runs: runs.set_index(np.arange(len(runs))[::-1]),
        lambda runs: runs.set_index(np.zeros(len(runs), int)),
        lambda runs: runs.convert_dtypes(),
        lambda runs: runs.astype({"model": "category", "seed": np.uint8, "temperature": np.float32}),
        lambda runs: runs.assign(temperature=runs["temperature"].astype(object).where(runs["temperature"] > 0, None)),
    ],
    ids=["index backwards", "index of zeros", "nullable", "narrow", "objects"],
)
def test_partners_are_found_whatever_index_and_types_the_table_of_runs_has(change):
    p = of_all_roles()
    other = replace(p, runs=change(p.runs))
    assert other.arm(model="ds", temperature=4.0).runs["run_id"].tolist() == ["ds T4 0", "ds T4 1"]
    pd.testing.assert_frame_equal(fidelity.fidelity(other), fidelity.fidelity(p))


def test_a_list_of_class_names_is_a_tuple():
    assert simple(class_names=["no", "yes"]).class_names == ("no", "yes")


@pytest.mark.parametrize(
    ("column", "values", "word"),
    [
        ("run_id", ["r0", "r0"], "r0"),
        ("seed", [0, 0.5], "0.5"),
        ("seed", [0, None], "nan"),
        ("seed", [0, "one"], "one"),
        ("temperature", [1.0, "hot"], "hot"),
    ],
)
def test_a_run_twice_or_without_numbers_is_refused(column, values, word):
    with pytest.raises(InvalidInput, match=word):
        simple(runs=table(2).assign(**{column: values}))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"labels": np.ma.array([0, 1, 1], mask=[0, 0, 1])}, "labels.*masked"),
        ({"groups": {"sex": np.ma.array(["f", "m", "f"], mask=[0, 0, 1])}}, "sex.*masked"),
        ({"sample_ids": [b"a", b"\xe9", b"c"]}, "sample_ids"),
        ({"probabilities": torch.ones(2, 3, 2, requires_grad=True)}, "probabilities"),
    ],
)
def test_what_is_no_plain_array_is_refused(changes, word):
    with pytest.raises(InvalidInput, match=word):
        simple(**changes)


# ------------------------------------------------------------------------------------------- one run at a time


def of_size(n_runs, *, n=400, classes=200):
    """(table of runs, readers) of `n_runs` runs with drawn logits, made anew at every read; how often each was read."""
    names, ids, labels = np.arange(classes).astype(str), np.arange(n).astype(str), np.arange(n) % classes
    reads = np.zeros(n_runs, int)

    def read(run):
        reads[run] += 1
        logits = np.random.default_rng(run).normal(size=(n, classes)).astype(np.float16)
        return {"logits": logits, "labels": labels, "sample_ids": ids, "class_names": names}

    return table(n_runs), [partial(read, run) for run in range(n_runs)], reads


def peak(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_runs():
    """A run of 400 samples and 200 classes is 320 kB in single precision; its predicted classes are 3 kB."""

    def study_of(n_runs):
        runs, readers, _ = of_size(n_runs)
        p = collecting.assemble(runs, readers)
        few = p.take(np.arange(n_runs)[::-1]).of_samples(p.labels < 150)
        fidelity.calibration(p), fidelity.calibration(few), class_bias.disagreement(p, replace(p, runs=p.runs))

    study_of(2)  # what is imported at first use
    four, sixteen = (peak(lambda n=n: study_of(n)) for n in (4, 16))
    assert sixteen < four + 12 * 30_000 < 12 * 320_000


def test_every_run_is_read_once_to_be_collected_and_selections_read_nothing():
    runs, readers, reads = of_size(3)
    p = collecting.assemble(runs, readers)
    assert reads.tolist() == [2, 1, 1], "the first tells also what all share"
    few = p.take(np.array([2, 0])).of_samples(np.array([5, 1, 7]))
    few.probabilities[1:]
    assert reads.tolist() == [2, 1, 1]
    expected = softmax(readers[2]()["logits"])[[5, 1, 7]]
    assert np.array_equal(few.probabilities[0], expected) and few.probabilities[0].dtype == np.float32
    assert few.sample_ids.tolist() == ["5", "1", "7"] and few.probabilities.runs[0].shape == (3, 200)
    with pytest.raises(InvalidInput, match="r0 predicts '0'"):
        replace(p, predicted=np.zeros_like(p.predicted))


@pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")
def test_a_run_that_was_written_anew_after_it_was_collected_is_refused(stored, tiny):
    run = tiny.study("tiny").runs()[1]
    p = collect(replace(tiny.study("tiny"), temperatures=()), runs_dir=stored)
    found, about = store.read(stored, run)
    store.save(stored, run, arrays=found | {"logits": 2 * found["logits"]}, weights=b"", provenance=about)
    assert p.probabilities[0].shape == (3, 2)
    with pytest.raises(StoreError, match=f"{run.id[:16]} .*anew"):
        p.probabilities[1]


@pytest.mark.parametrize("form", [list, np.asarray, tuple, lambda runs: ByRun(runs.runs)])
def test_probabilities_come_as_an_array_a_list_or_run_by_run(form):
    p = simple()
    other = replace(p, probabilities=form(p.probabilities), twins={"sex": form(p.probabilities)})
    assert len(other.probabilities) == 2 and len(list(other.twins["sex"])) == 2
    for given in (other.probabilities, other.twins["sex"]):
        assert np.array_equal(given[1], p.probabilities[1]) and len(given[:1]) == 1
    with pytest.raises(InvalidInput, match="1 runs for 2"):
        replace(p, probabilities=form(p.probabilities[:1]))


@pytest.mark.parametrize(
    "given", [0.5, [0.5], [[[0.5, 0.5]] * 3, [[0.5, 0.5], [0.5]]], np.zeros((2, 0, 2)), ["a", "b"]]
)
def test_what_is_no_probabilities_of_runs_is_refused(given):
    with pytest.raises(InvalidInput, match="probabilities"):
        simple(probabilities=given)


def test_ids_in_order_and_ids_in_no_order_are_told_apart_alike():
    for ids in (["a", "b", "c"], ["c", "a", "b"]):
        assert simple(sample_ids=ids).sample_ids.tolist() == ids
    for ids in (["a", "a", "c"], ["c", "a", "c"]):
        with pytest.raises(InvalidInput, match=f"'{ids[0]}' stands twice"):
            simple(sample_ids=ids)
    p = simple()
    with pytest.raises(InvalidInput, match="'a' stands twice"):
        p.of_samples(np.array([0, 1, 0]))
