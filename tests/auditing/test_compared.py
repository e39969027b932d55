"""What an audit compares: arms of any name, the baseline, copies, and what must be said before any number."""

import numpy as np
import pytest

import kdlib
from kdlib.auditing.compared import compared
from kdlib.errors import InvalidInput
from tests.auditing.worlds import binary, table

LABELS = np.array([0, 1] * 20)


def runs(*models, seeds=2):
    """{(model, seed): predictions that all differ}."""
    rng = np.random.default_rng(0)
    return {(m, s): np.where(rng.random(40) < 0.8, LABELS, 1 - LABELS) for m in models for s in range(seeds)}


def test_a_numeric_column_that_seeds_share_makes_arms_and_one_of_each_run_does_not():
    made = runs("dense", "pruned", seeds=4)
    made = {key: made[key] for key in made if key[0] == "pruned" or key[1] < 2}
    extra = {("pruned", s): {"sparsity": 0.5 if s < 2 else 0.9, "seconds": s + 0.1} for s in range(4)}
    found = compared(table(made, LABELS, extra=extra), "dense")
    assert list(found.arms.index) == ["dense", "pruned sparsity=0.5", "pruned sparsity=0.9"]
    assert found.conditions == ["sparsity"] and list(found.arms["n_runs"]) == [2, 2, 2]


def test_one_seed_at_each_sparsity_makes_arms_too():
    made = {("dense", 0): LABELS} | runs("pruned", seeds=3)
    p = table(made, LABELS, extra={("pruned", s): {"sparsity": s / 4} for s in range(3)})
    p.runs["seed"] = 0
    assert list(compared(p, "dense").arms.index)[1:] == [f"pruned sparsity={s / 4:g}" for s in range(3)]


def test_the_baseline_is_a_model_an_arm_or_nds():
    assert compared(table(runs("nds", "ds"), LABELS), None).arms.index[0] == "nds"
    assert list(compared(table(runs("v1", "v2"), LABELS), "v2").arms.index) == ["v2", "v1"]
    for wanted, named in ((None, "v1, v2"), ("v3", "'v3'"), ("v", "v1")):
        with pytest.raises(InvalidInput, match=named):
            compared(table(runs("v1", "v2"), LABELS), wanted)
    with pytest.raises(InvalidInput, match="two models or more"):
        compared(table(runs("v1"), LABELS), "v1")


def test_a_seed_twice_in_one_arm_is_refused():
    p = table(runs("v1", "v2"), LABELS)
    p.runs["seed"] = 0
    with pytest.raises(InvalidInput, match="v1 has seed 0 twice"):
        compared(p, "v1")


@pytest.mark.filterwarnings("ignore:runs .* predict the same class")
def test_a_copy_counts_once_and_is_named():
    made = runs("v1", "v2")
    made["v2", 1] = made["v2", 0]
    found = compared(table(made, LABELS), "v1")
    assert found.arms.loc["v2", "n_runs"] == 1 and len(found.predictions.runs) == 3
    told = kdlib.audit(table(made, LABELS), baseline="v1").warnings
    assert "v2 seed 0 and v2 seed 1 predict the same class for every sample, and count as one run." in told
    assert any(text.startswith("One run of v2") for text in told)


@pytest.mark.filterwarnings("ignore:runs .* predict the same class")
def test_a_copy_counts_once_though_the_baseline_predicts_the_same():
    made = {("v1", 0): np.zeros(40, int)} | {("v2", s): np.zeros(40, int) for s in range(3)}
    found = compared(table(made, LABELS), "v1")
    assert found.arms["n_runs"].to_dict() == {"v1": 1, "v2": 1}
    kdlib.audit(table(made, LABELS), baseline="v1")


def test_runs_without_an_error_are_no_copies():
    made = runs("v1") | {("v2", 0): LABELS, ("v2", 1): LABELS}
    assert compared(table(made, LABELS), "v1").arms.loc["v2", "n_runs"] == 2


def test_a_teacher_stands_last_and_is_not_judged():
    made = runs("teacher", "nds", "ds")
    p = table(made, LABELS, teachers={("ds", s): f"teacher-{s}" for s in range(2)})
    found = compared(p, None)
    assert list(found.arms.index) == ["nds", "ds", "teacher"] and found.judged == ["ds"]


def test_one_teacher_few_seeds_collapse_and_empty_classes_are_said():
    made = runs("v1", "v2") | {("v3", 0): np.zeros(40, int)}
    p = table(made, LABELS, classes=("no", "yes", "maybe"), teachers={("v2", s): "t" for s in range(2)})
    told = "\n".join(kdlib.audit(p, baseline="v1").warnings)
    for text in (
        "One run of v3",
        "Fewer than 5 seeds of v1, v2",
        "One teacher for all runs of v2",
        "v3 seed 0 predicts",
    ):
        assert text in told
    assert "No test sample of 1 of 3 classes: maybe" in told


def test_runs_made_from_the_baseline_are_paired_with_it():
    made = runs("dense", "pruned")
    p = table(made, LABELS, teachers={("pruned", s): f"dense-{1 - s}" for s in range(2)})
    _, pair = compared(p, "dense")
    assert pair.parents.tolist() == [1, 0] and pair.change[0].tolist() == [[0, -1, 1, 0], [-1, 0, 0, 1]]
    alone, pair = compared(binary(seeds=2), "v1")
    assert alone.name == "v1" and alone.n_base == 0 and len(alone.runs) == 2
    assert pair.parents is None and len(pair.change) == 2
