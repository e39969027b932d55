"""What a run learned from, its teacher's weights and its data, is known by content wherever a run is kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from kdlib import files, store
from kdlib.collapse import collapsed
from kdlib.errors import KdlibWarning
from kdlib.predictions.collect import collect
from kdlib.studies import load_profile
from kdlib.training import loop
from tests.conftest import TINY, train_run


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """(study, its runs by role, a folder with a teacher and a student)."""
    folder = tmp_path_factory.mktemp("lineage")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    study = load_profile(folder / "tiny.yaml").study("tiny")
    runs = {(run.role, run.seed, run.temperature): run for run in study.runs()}
    torch.set_num_threads(1)
    train_run(runs["ds", 0, 4.0], runs_dir=folder / "runs")
    return study, runs, folder / "runs"


@pytest.fixture
def other_images(monkeypatch):
    """From here on the training images are other ones, though they have the same name and options."""
    read = loop._part

    def negative(run, part):
        split = read(run, part)
        return replace(split, x=255 - split.x) if part == "train" else split

    return lambda: monkeypatch.setattr(loop, "_part", negative)


def copied(folder, runs, to):
    """The files of these runs in another folder."""
    for run in runs:
        for path in store.folder(folder, run).iterdir():
            files.replace_file(store.folder(to, run) / path.name, path.read_bytes())
    return to


def stopped(run, folder, steps):
    """Train until the checkpoint after so many steps."""
    asked = iter(range(10**6))
    with pytest.raises(files.Stopped):
        train_run(run, runs_dir=folder, stop=lambda: next(asked) >= steps)
    assert (store.partial(folder, run) / "checkpoint").is_file()


def test_provenance_says_what_a_run_learned_from_and_whether_it_collapsed(project):
    study, runs, folder = project
    student, teacher = runs["ds", 0, 4.0], runs["teacher", 0, None]
    arrays, known = store.read(folder, student)
    assert known["teacher_sha256"] == files.sha256(store.read_weights(folder, teacher))
    assert store.provenance(folder, teacher)["teacher_sha256"] is None
    assert known["data_sha256"] == {p: loop._part(student, p).data_sha256 for p in ("train", "test")}
    predicted = arrays["logits"].argmax(axis=1)
    assert known["collapsed"] == collapsed(predicted, arrays["labels"], n_classes=10)


def test_a_run_that_answers_with_one_class_is_noted(project, tmp_path, monkeypatch):
    _, runs, _ = project
    answers = loop._arrays
    one = np.eye(10, dtype=np.float32)[3]
    monkeypatch.setattr(loop, "_arrays", lambda *a, **k: answers(*a, **k) | {"logits": np.tile(one, (1697, 1))})
    train_run(runs["nds", 0, None], runs_dir=tmp_path)
    assert "class 3" in store.provenance(tmp_path, runs["nds", 0, None])["collapsed"]


def test_a_checkpoint_of_another_teacher_is_dropped(project, tmp_path):
    """The teacher is replaced, by one with the same id and other weights, while its student is half trained."""
    _, runs, folder = project
    student, teacher = runs["ds", 0, 4.0], runs["teacher", 0, None]
    halted = copied(folder, [teacher], tmp_path / "halted")
    stopped(student, halted, 6)
    for where in (halted, tmp_path / "whole"):
        arrays, known = store.read(folder, teacher)
        weights = load_tensors(store.read_weights(folder, teacher))
        weights = {name: value + 0.01 if value.is_floating_point() else value for name, value in weights.items()}
        store.save(where, teacher, arrays=arrays, weights=save_tensors(weights), provenance=known)
        train_run(student, runs_dir=where)
    assert store.read_weights(halted, student) == store.read_weights(tmp_path / "whole", student)
    assert store.read_weights(halted, student) != store.read_weights(folder, student)


def test_a_checkpoint_and_a_table_of_other_data_are_made_anew(project, tmp_path, other_images):
    _, runs, folder = project
    teacher, student = runs["teacher", 0, None], replace(runs["ds", 0, 1.0], epochs=5)  # so long that a table pays
    halted = copied(folder, [teacher], tmp_path / "halted")
    whole = copied(folder, [teacher], tmp_path / "whole")
    stopped(student, halted, 15)  # after nine views of the table
    assert len(list((halted / "tables").glob("*/0.logits"))) == 1
    other_images()
    for where in (halted, whole):
        train_run(student, runs_dir=where)
    assert len(list((halted / "tables").glob("*/0.logits"))) == 2
    assert store.read_weights(halted, student) == store.read_weights(whole, student)


def test_a_student_of_other_data_than_its_teachers_is_named(project, tmp_path, other_images):
    study, runs, folder = project
    where = copied(folder, [runs["teacher", 0, None]], tmp_path)
    other_images()
    train_run(runs["ds", 0, 4.0], runs_dir=where)
    with pytest.warns(KdlibWarning, match="data_sha256") as caught:
        collect(study, runs_dir=where)
    assert all(str(runs[key]) in str(caught[0].message) for key in (("teacher", 0, None), ("ds", 0, 4.0)))
