"""A study released and read again tells the same as its runs; anything else in the file's place is refused."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdlib import cli, files, store
from kdlib.errors import InvalidInput, KdlibWarning, NotTrained, StoreError
from kdlib.measure import fidelity, individual_runs
from kdlib.predictions import released
from kdlib.predictions.collect import collect, collect_parts
from kdlib.studies import load_profile
from tests.conftest import make_project

PROVENANCE = {
    "device": "cpu",
    "hardware": "a processor",
    "torch": "2",
    "seconds": 3.5,
    "date": "2026-01-02",
    "train_images": 60,
    "history": [{"epoch": 0, "loss": 1.0}],
}


def part(rng, *, classes, n):
    """A run's random logits, some certain beyond what fp16 probabilities could hold."""
    logits = rng.normal(size=(n, classes)) * rng.choice([1, 30], size=(n, 1))
    return {
        "logits": logits.astype(np.float32),
        "labels": np.arange(n) % classes,
        "sample_ids": np.array([f"image {i} of {n}" for i in range(n)]),
        "class_names": np.array([f"class {c}" for c in range(classes)]),
        "group:sex": np.array(["f", "m"])[np.arange(n) // 7 % 2],
        "features": (np.arange(n)[:, None] >> np.arange(3) & 1).astype(np.uint8),
        "twin:sex": logits[::-1].astype(np.float32),
    }


def fill(folder, study, *, classes, n=60, validation=0, twins=True):
    """Runs of random logits, on `validation` images of that part too, which have no twins."""
    rng = np.random.default_rng(0)
    for run in study.runs():
        arrays = part(rng, classes=classes, n=n)
        seen = part(rng, classes=classes, n=validation) if validation else {}
        arrays |= {f"validation:{name}": values for name, values in seen.items() if "twin:" not in name}
        arrays = {name: values for name, values in arrays.items() if twins or not name.startswith("twin:")}
        store.save(folder, run, arrays=arrays, weights=b"", provenance=PROVENANCE)


def write(study, runs_dir, folder):
    scalars = fidelity.scalars(collect(study, runs_dir=runs_dir))
    return released.write(study, runs_dir=runs_dir, folder=folder, scalars=scalars)


def test_what_the_test_part_alone_has_comes_back_and_the_other_part_lacks_it(study, tmp_path):
    """Posts have a validation part too, and twins and their words of the test part alone."""
    rng = np.random.default_rng(0)
    for run in study.runs():
        test, seen = part(rng, classes=2, n=60), part(rng, classes=2, n=20)
        test["group:sex_words"] = np.array(["some", "none"])[np.arange(60) % 2]
        del seen["twin:sex"]
        arrays = test | {f"validation:{name}": values for name, values in seen.items()}
        store.save(tmp_path / "runs", run, arrays=arrays, weights=b"", provenance=PROVENANCE)
    write(study, tmp_path / "runs", tmp_path / "out")
    for name in ("test", "validation"):
        ours = collect(study, runs_dir=tmp_path / "runs", part=name)
        back = collect(study, runs_dir=tmp_path / "nothing", released=tmp_path / "out", part=name)
        assert {k: v.tolist() for k, v in back.groups.items()} == {k: v.tolist() for k, v in ours.groups.items()}
        assert list(back.twins) == list(ours.twins) == (["sex"] if name == "test" else [])
        for feature, twin in ours.twins.items():
            np.testing.assert_allclose(back.twins[feature], twin, rtol=0.02, atol=1e-20)


@pytest.mark.parametrize(("classes", "twins"), [(2, True), (10, True), (2, False)])
def test_with_two_classes_or_twins_everything_comes_back(study, tmp_path, classes, twins):
    fill(tmp_path / "runs", study, classes=classes, twins=twins)
    path = write(study, tmp_path / "runs", tmp_path / "out")
    ours = collect(study, runs_dir=tmp_path / "runs")
    back = collect(study, runs_dir=tmp_path / "nothing", released=tmp_path / "out")
    assert np.array_equal(back.predicted, ours.predicted) and np.array_equal(back.labels, ours.labels)
    assert back.sample_ids.tolist() == ours.sample_ids.tolist() and back.class_names == ours.class_names
    assert back.groups["sex"].tolist() == ours.groups["sex"].tolist()
    assert ours.features.shape == (60, 3) and back.features is None
    columns = pq.read_table(path).column_names
    assert not [name for name in columns if "feature" in name], "annotations of people stay with the data set"
    assert back.runs[ours.runs.columns].equals(ours.runs) and back.absent == ()
    np.testing.assert_allclose(back.probabilities, ours.probabilities, rtol=0.02, atol=1e-20)
    assert {*back.twins} == {*ours.twins} == ({"sex"} if twins else set())
    for feature, twin in ours.twins.items():
        np.testing.assert_allclose(back.twins[feature], twin, rtol=0.02, atol=1e-20)
    kl = [fidelity.fidelity(p)["kl"] for p in (ours, back)]
    np.testing.assert_allclose(*kl, rtol=2e-3)


@pytest.mark.parametrize(("classes", "twins"), [(12, True), (10, False), (3, False)])
def test_what_needs_probabilities_that_are_not_released_comes_from_the_scalars(study, tmp_path, classes, twins):
    fill(tmp_path / "runs", study, classes=classes, twins=twins)
    write(study, tmp_path / "runs", tmp_path / "out")
    ours = collect(study, runs_dir=tmp_path / "runs")
    back = collect(study, runs_dir=tmp_path / "nothing", released=tmp_path / "out")
    assert np.array_equal(back.predicted, ours.predicted)
    assert back.probabilities is None and not back.twins
    np.testing.assert_allclose(back.confidence, np.max(ours.probabilities, axis=2), rtol=2e-3)
    np.testing.assert_allclose(fidelity.fidelity(back)["kl"], fidelity.fidelity(ours)["kl"])
    ece = [fidelity.calibration(p) for p in (ours, back)]
    np.testing.assert_allclose(*ece, atol=2e-3)
    assert back.arm(model="ds", temperature=4.0).confidence.shape == (2, 60)


@pytest.fixture
def release(study, tiny_yaml, tmp_path, monkeypatch):
    """Release runs of so many classes without twins by the command; its exit status."""

    def run(classes: int) -> int:
        fill(tmp_path / "runs", study, classes=classes, twins=False)
        monkeypatch.setattr(cli.places, "figures_dir", lambda profile: tmp_path / "figures")
        return cli.main(["release", "tiny", "--profile", str(tiny_yaml), "--runs-dir", str(tmp_path / "runs")])

    return run


def test_individual_fairness_by_features_is_released_in_their_place(study, tmp_path, release):
    assert release(classes=2) == 0
    ours = collect(study, runs_dir=tmp_path / "runs")
    back = collect(study, runs_dir=tmp_path / "nothing", released=tmp_path / "figures/predictions")
    near = individual_runs.frozen_embedding(ours)
    expected, found = individual_runs.by_feature(ours, embedding=near), individual_runs.by_feature(back)
    assert list(found) == list(expected) == ["sex"] and back.features is None
    pd.testing.assert_frame_equal(found["sex"], expected["sex"], check_like=True)


def test_a_study_is_released_where_individual_fairness_is_undefined(tmp_path, release, capsys):
    assert release(classes=12) == 0
    assert "tiny is released without individual fairness: k is 10, but label 0 has 5 samples" in capsys.readouterr().out
    assert (tmp_path / "figures/predictions/tiny.parquet").is_file()


@pytest.mark.parametrize("classes", [2, 12])
def test_the_validation_part_comes_back_beside_the_test_part(study, tmp_path, classes):
    fill(tmp_path / "runs", study, classes=classes, validation=36)
    path = write(study, tmp_path / "runs", tmp_path / "out")
    assert pq.read_table(path)["part"].to_pylist() == ["test"] * 60 + ["validation"] * 36
    ours = collect_parts([study], runs_dir=tmp_path / "runs")["tiny"]
    back = collect_parts([study], runs_dir=tmp_path / "nothing", released=tmp_path / "out")["tiny"]
    assert list(back) == list(ours) == ["test", "validation"]
    for name, n in (("test", 60), ("validation", 36)):
        assert back[name].predicted.shape == (8, n) and np.array_equal(back[name].predicted, ours[name].predicted)
        assert np.array_equal(back[name].labels, ours[name].labels)
        assert back[name].sample_ids.tolist() == ours[name].sample_ids.tolist()
        assert back[name].groups["sex"].tolist() == ours[name].groups["sex"].tolist()
    assert list(back["test"].twins) == (["sex"] if classes == 2 else []) and not back["validation"].twins
    assert "ece" in back["test"].runs and "ece" not in back["validation"].runs, "scalars are of the test part"


def test_without_a_validation_part_only_the_test_part_is_released(study, tmp_path):
    fill(tmp_path / "runs", study, classes=2)
    write(study, tmp_path / "runs", tmp_path / "out")
    assert list(collect_parts([study], runs_dir=tmp_path, released=tmp_path / "out")["tiny"]) == ["test"]
    with pytest.raises(InvalidInput, match="'validation'"):
        collect(study, runs_dir=tmp_path, released=tmp_path / "out", part="validation")


def test_trained_runs_come_before_released_ones(study, tmp_path):
    fill(tmp_path / "runs", study, classes=2)
    write(study, tmp_path / "runs", tmp_path / "out")
    assert collect(study, runs_dir=tmp_path / "runs", released=tmp_path / "out").runs.get("ece") is None
    gone = study.runs()[-1]
    (tmp_path / "other").mkdir()
    for run in study.runs()[:-1]:
        store.folder(tmp_path / "runs", run).rename(tmp_path / "other" / store.folder(tmp_path / "runs", run).name)
    found = collect_parts([study], runs_dir=tmp_path / "other", released=tmp_path / "out")["tiny"]["test"]
    assert len(found.runs) == len(study.runs()) and gone.id[:16] in set(found.runs["run_id"])


def test_a_study_that_is_not_whole_is_not_released(study, tmp_path):
    fill(tmp_path / "runs", study, classes=2)
    last = store.folder(tmp_path / "runs", study.runs()[-1])
    last.rename(last.with_name("elsewhere"))
    with pytest.raises(NotTrained, match=str(study.runs()[-1])):
        released.write(study, runs_dir=tmp_path / "runs", folder=tmp_path / "out", scalars={})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "ruin",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"<html>not found</html>",
        lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        lambda data: data[:5000] + bytes([data[5000] ^ 4]) + data[5001:],
    ],
    ids=["empty", "half", "html", "pointer", "one bit"],
)
def test_damaged_files_are_refused(study, tmp_path, ruin):
    fill(tmp_path / "runs", study, classes=10)
    path = write(study, tmp_path / "runs", tmp_path / "out")
    path.write_bytes(ruin(path.read_bytes()))
    with pytest.raises(StoreError, match="tiny.parquet"):
        collect(study, runs_dir=tmp_path / "nothing", released=tmp_path / "out")


def test_a_file_is_read_by_the_sum_beside_it_or_the_projects_own(study, tmp_path, monkeypatch):
    fill(tmp_path / "runs", study, classes=2)
    home = tmp_path / "figures/quick/predictions"
    path = write(study, tmp_path / "runs", home)
    assert files.sums(home) == {"tiny.parquet": files.sha256_of(path)}
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / path.name
    copy.write_bytes(path.read_bytes())
    with pytest.raises(StoreError, match="tiny.parquet"):  # nobody could tell whether it is whole
        released.read(copy.parent, study)
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert len(released.read(copy.parent, study)) == len(study.runs())
    copy.write_bytes(path.read_bytes() + b"0")
    with pytest.raises(StoreError, match="tiny.parquet"):
        released.read(copy.parent, study)
    (copy.parent / "SHA256SUMS").write_text("all is well")
    with pytest.raises(StoreError, match="all is well"):
        released.read(copy.parent, study)


def changed(path, *, columns=(), metadata=()):
    """The file with these columns {name: values} and changes {key: value} of its metadata, and a sum that fits.

    It is one from before `content`, unless the changes say it.
    """
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[b"kdlib"])
    about = {name: value for name, value in about.items() if name != "content"} | dict(metadata)
    for name, values in dict(columns).items():
        table = table.set_column(table.column_names.index(name), name, values)
    pq.write_table(table.replace_schema_metadata({"kdlib": json.dumps(about)}), path)
    files.write_sum(path)


@pytest.mark.parametrize(
    ("columns", "metadata", "told"),
    [
        ({"0:log 0": [pa.array(np.full(60, np.nan, np.float16))]}, {}, "0:log 0"),
        ({"0:log 0": [pa.array(np.full(60, 1, np.float16))]}, {}, "0:log 0"),
        ({"0:log 0": [pa.array(np.full(60, -9, np.float16))]}, {}, "sum to 1"),
        ({"0:log 0": [pa.array(["a"] * 60)]}, {}, "0:log 0"),
        ({"0:predicted": [pa.array(np.full(60, 2))]}, {}, "0:predicted"),
        ({"0:predicted": [pa.array(np.full(60, 0.5))]}, {}, "0:predicted"),
        ({"label": [pa.array([True, False] * 30)]}, {}, "label"),
        ({"sample_id": [pa.array(range(60))]}, {}, "sample_id"),
        ({"group:sex": [pa.array([None] + ["f"] * 59)]}, {}, "group:sex"),
        ({"group:sex": [pa.nulls(60, pa.string())]}, {}, "group:sex"),
        ({}, {"class_names": ["yes", "yes"]}, "'yes', 'yes'"),
        ({}, {"class_names": "no"}, "'no'"),
        ({}, {"class_names": ["a", "b", "c"]}, "sex 2"),
        ({}, {"runs": []}, "0 runs"),
        ({}, {"schema": "2"}, "'2'"),
    ],
)
def test_values_that_cannot_be_are_refused_though_the_sum_fits(study, tmp_path, columns, metadata, told):
    fill(tmp_path / "runs", study, classes=2)
    path = write(study, tmp_path / "runs", tmp_path / "out")
    changed(path, columns=columns, metadata=metadata)
    with pytest.raises(StoreError, match="tiny.parquet") as caught:
        released.read(tmp_path / "out", study)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ece", "0.1"), ("ece", np.nan), ("ece", np.inf), ("kl", -1), ("ece", 10**400), ("seed", 1), ("temperature", 2.0)],
)
def test_a_scalar_that_cannot_be_is_refused(study, tmp_path, name, value):
    """Not a number, not one that it could be, or a name that would replace what the recipe says."""
    fill(tmp_path / "runs", study, classes=2)
    path = write(study, tmp_path / "runs", tmp_path / "out")
    runs = json.loads(pq.read_table(path).schema.metadata[b"kdlib"])["runs"]
    for entry in runs:
        entry["scalars"][name] = value
    changed(path, metadata={"runs": runs})
    with pytest.raises(StoreError, match=name if value != 10**400 else "tiny.parquet"):
        released.read(tmp_path / "out", study)


@pytest.mark.parametrize("value", [-0.5, 0, np.nan, 1])
def test_of_two_classes_the_one_that_was_not_predicted_is_the_less_probable(study, tmp_path, value):
    fill(tmp_path / "runs", study, classes=2, twins=False)
    path = write(study, tmp_path / "runs", tmp_path / "out")
    changed(path, columns={"0:log other": pa.array(np.full(60, value, np.float16))})
    with pytest.raises(StoreError, match="0:log other"):
        released.read(tmp_path / "out", study)


def test_the_predicted_class_is_the_most_probable(study, tmp_path):
    fill(tmp_path / "runs", study, classes=12)
    path = write(study, tmp_path / "runs", tmp_path / "out")
    changed(path, columns={"0:log predicted": pa.array(np.full(60, -9, np.float16))})
    with pytest.raises(StoreError, match="0:log predicted is not of the most probable of 12"):
        released.read(tmp_path / "out", study)


def turned(table, name):
    """The first two values that differ have changed places."""
    values = table[name].to_numpy().copy()
    i = np.flatnonzero(values != values[0])[0]
    values[[0, i]] = values[[i, 0]]
    return pa.array(values)


@pytest.mark.parametrize("validation", [0, 12])
@pytest.mark.parametrize("name", ["sample_id", "label", "group:sex"])
def test_ids_labels_or_groups_that_changed_places_are_refused(study, tmp_path, name, validation):
    """All of it could be, but it is not what was released; a file from before `content` cannot say."""
    fill(tmp_path / "runs", study, classes=2, validation=validation)
    path = write(study, tmp_path / "runs", tmp_path / "out")
    table = pq.read_table(path)
    content = json.loads(table.schema.metadata[b"kdlib"])["content"]
    changed(path, metadata={"content": content})  # written anew, with nothing changed
    assert len(released.read(tmp_path / "out", study)) == len(study.runs())
    changed(path, columns={name: turned(table, name)}, metadata={"content": content})
    with pytest.raises(StoreError, match="not those that were released"):
        released.read(tmp_path / "out", study)
    changed(path)
    assert len(released.read(tmp_path / "out", study)) == len(study.runs())


@pytest.mark.parametrize("name", ["0:predicted", "0:log predicted"])
def test_values_of_a_run_that_changed_places_are_refused(study, tmp_path, name):
    fill(tmp_path / "runs", study, classes=12)
    path = write(study, tmp_path / "runs", tmp_path / "out")
    content = json.loads(pq.read_schema(path).metadata[b"kdlib"])["content"]
    changed(path, columns={name: turned(pq.read_table(path), name)}, metadata={"content": content})
    with pytest.raises(StoreError, match="tiny.parquet"):
        released.read(tmp_path / "out", study)


@pytest.mark.parametrize("what", ["columns", "metadata"])
def test_predictions_under_another_runs_name_are_refused(study, tmp_path, what):
    """The student of T = 1 and that of T = 4, one with the columns of the other: agreement with the teacher tells."""
    fill(tmp_path / "runs", study, classes=2)
    path = write(study, tmp_path / "runs", tmp_path / "out")
    table = pq.read_table(path)
    runs = json.loads(table.schema.metadata[b"kdlib"])["runs"]
    i, j = (next(k for k, e in enumerate(runs) if e["run"].get("temperature") == t) for t in (1, 4))
    both = {a: [f"{a}:{name}" for name in ("predicted", "log 0", "log 1")] for a in (i, j)}
    swapped = zip(both[i] + both[j], both[j] + both[i], strict=True)
    if what == "columns":
        changed(path, columns={to: table[source] for to, source in swapped})
    else:
        runs[i], runs[j] = runs[j], runs[i]
        changed(path, metadata={"runs": runs})
    with pytest.raises(StoreError, match="agrees with its teacher"):
        released.read(tmp_path / "out", study)


def test_a_recipe_that_does_not_fit_its_id_is_refused(study, tmp_path):
    fill(tmp_path / "runs", study, classes=2)
    path = write(study, tmp_path / "runs", tmp_path / "out")
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[b"kdlib"])
    about["runs"][0]["run"]["lr"] = 7.0
    pq.write_table(table.replace_schema_metadata({"kdlib": json.dumps(about)}), path)
    files.write_sum(path)
    with pytest.raises(StoreError, match="run 0 "):
        released.read(tmp_path / "out", study)


def test_the_command_releases_what_is_whole(tiny_yaml, tiny, tmp_path, capsys, monkeypatch):
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "runs", tiny.study("tiny"), classes=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KdlibWarning)
        assert cli.main(["release", "--profile", str(tiny_yaml), "--runs-dir", str(tmp_path / "runs")]) == 0
    path = tmp_path / "figures" / tiny.name / "predictions" / "tiny.parquet"
    assert path.is_file() and "tiny.parquet" in capsys.readouterr().out
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["seconds"] == 3.5 * len(tiny.study("tiny").runs()) and about["runs"][0]["hardware"] == "a processor"
    assert "history" not in about["runs"][0]


def test_in_a_checkout_nothing_need_be_said_of_where_predictions_are(tiny_yaml, tmp_path, monkeypatch):
    """Runs in runs/, released ones in the figures of the study's own profile, from any folder of the checkout."""
    home = tmp_path / "checkout"
    (home / "notebooks").mkdir(parents=True)
    make_project(home)
    monkeypatch.chdir(home / "notebooks")
    tiny = load_profile(tiny_yaml)
    study = tiny.study("tiny")
    with pytest.raises(NotTrained, match="'tiny'"):
        collect(study)
    fill(tmp_path / "elsewhere", study, classes=2)
    write(study, tmp_path / "elsewhere", home / "figures" / tiny.name / "predictions")
    assert "ece" in collect(study).runs and list(collect_parts([study])) == ["tiny"]
    with pytest.raises(NotTrained, match="'tiny'"):
        collect(replace(study, profile="another"))
    (tmp_path / "elsewhere").rename(home / "runs")
    assert "ece" not in collect(study).runs


def test_a_release_and_what_is_read_of_it_hold_one_run_at_a_time(study, tmp_path):
    """Columns come anew at every call, from the bytes whose sum was checked: what happens to the file is all one."""
    fill(tmp_path / "runs", study, classes=10)
    path = write(study, tmp_path / "runs", tmp_path / "out")
    back = collect(study, runs_dir=tmp_path / "nothing", released=tmp_path / "out")
    path.write_bytes(b"")
    first, again = back.probabilities[3], back.probabilities[3]
    assert first is not again and np.array_equal(first, again)
    assert [run.fit is not None for run in back.probabilities.runs] == [True] * len(study.runs())
