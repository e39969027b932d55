"""Norms of the loss terms as runs noted them: numbers that can be made by hand."""

import numpy as np
import pandas as pd
import pytest

from kdlib import store
from kdlib.errors import NotTrained
from kdlib.measure import gradient_norms
from kdlib.predictions import released
from kdlib.predictions.collect import collect
from tests.simulated import from_counts


@pytest.fixture
def noted(tmp_path, tiny):
    """The tiny study on disk; students note 4 / T for the teacher's term, 1 + seed for the labels', two epochs."""
    study = tiny.study("tiny")
    for run in study.runs():
        value = {} if run.teacher is None else {"gradient_teacher": 4 / run.temperature}
        history = [{"epoch": e, "gradient_labels": 1 + run.seed + 2 * e, **value} for e in (0, 1)]
        about = {"device": "cpu", "hardware": "", "torch": "2", "seconds": 1.0, "date": "2026-01-01", "train_images": 1}
        arrays = {
            "logits": np.random.default_rng(int(run.id[:8], 16)).normal(size=(6, 3)),
            "labels": np.arange(6) % 3,
            "sample_ids": np.array([f"image {i}" for i in range(6)]),
            "class_names": np.array(["a", "b", "c"]),
        }
        store.save(tmp_path, run, arrays=arrays, weights=b"", provenance=about | {"history": history})
    return study, tmp_path


def test_gradients_are_those_that_runs_noted(noted):
    study, folder = noted
    found = gradient_norms.table(collect(study, runs_dir=folder))
    found = found.assign(term=found["metric"].str.removeprefix("gradient_")).set_index(["temperature", "term"])
    assert found["mean"].to_dict() == {(1, "teacher"): 4, (1, "labels"): 2.5, (4, "teacher"): 1, (4, "labels"): 2.5}
    # seeds 0 and 1 have 2 and 3: mean 2.5, sd sqrt(0.5), t(0.975, 1) = 12.706
    assert found.loc[(1, "labels"), "high"] == pytest.approx(2.5 + 12.706 * 0.5, abs=1e-3)
    assert found.loc[(1, "teacher"), ["low", "high"]].tolist() == [4, 4] and (found["n_seeds"] == 2).all()


def test_what_is_released_has_them_too(noted, tmp_path):
    study, folder = noted
    before = collect(study, runs_dir=folder)
    released.write(study, runs_dir=folder, folder=tmp_path / "out", scalars=gradient_norms.scalars(before))
    after = collect(study, runs_dir=tmp_path / "none", released=tmp_path / "out")
    pd.testing.assert_frame_equal(gradient_norms.table(after), gradient_norms.table(before))


def test_predictions_without_them_say_so():
    drawn = from_counts([[3, 4], [4, 3]], total=5)
    with pytest.raises(NotTrained, match="train the study"):
        gradient_norms.table(drawn)
