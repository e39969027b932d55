"""Norms of the loss terms as runs noted them: numbers that can be made by hand."""

import numpy as np
import pytest

from kdlib import store
from kdlib.errors import NotTrained
from kdlib.measure import gradient_norms


@pytest.fixture
def noted(tmp_path, tiny):
    """The tiny study on disk; students note 4 / T for the teacher's term, 1 + seed for the labels', two epochs."""
    study = tiny.study("tiny")
    for run in study.runs():
        value = {} if run.teacher is None else {"gradient_teacher": 4 / run.temperature}
        history = [{"epoch": e, "gradient_labels": 1 + run.seed + 2 * e, **value} for e in (0, 1)]
        store.save(
            tmp_path,
            run,
            arrays={name: np.zeros(1) for name in store.ARRAYS},
            weights=b"",
            provenance={"history": history},
        )
    return study, tmp_path


def test_gradients_are_those_that_runs_noted(noted):
    study, folder = noted
    norms = gradient_norms.gradients(study, runs_dir=folder)
    assert len(norms) == 2 * 2 * 2  # two temperatures, two seeds, two epochs
    assert norms[norms["temperature"] == 4]["teacher"].tolist() == [1.0] * 4
    found = gradient_norms.table(norms)
    found = found.assign(term=found["metric"].str.removeprefix("gradient_")).set_index(["temperature", "term"])
    assert found["mean"].to_dict() == {(1, "teacher"): 4, (1, "labels"): 2.5, (4, "teacher"): 1, (4, "labels"): 2.5}
    # seeds 0 and 1 have 2 and 3: mean 2.5, sd sqrt(0.5), t(0.975, 1) = 12.706
    assert found.loc[(1, "labels"), "high"] == pytest.approx(2.5 + 12.706 * 0.5, abs=1e-3)
    assert found.loc[(1, "teacher"), ["low", "high"]].tolist() == [4, 4] and (found["n_seeds"] == 2).all()


def test_a_study_without_students_says_how_to_train_it(tmp_path, tiny):
    with pytest.raises(NotTrained, match="tiny"):
        gradient_norms.gradients(tiny.study("tiny"), runs_dir=tmp_path)
