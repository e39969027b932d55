"""Runs under attack: flipped bits, random and malformed content, another teacher, leftovers, several processes."""

import json
import os
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdlib import files, store
from kdlib.errors import Damaged, KdlibError, KdlibWarning, StoreError
from kdlib.predictions.collect import collect
from kdlib.training import sweep
from tests.faults.ledger import injected
from tests.faults.runs import save

FILES = ["run.json", "predictions.npz", store.WEIGHTS, "manifest.json"]
SLOW = pytest.mark.slow
settings.register_profile("faults", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def reseal(home, name, data):
    """Content of another's making behind a manifest that vouches for it."""
    (home / name).write_bytes(data)
    manifest = json.loads((home / "manifest.json").read_bytes())
    manifest[name] = {"sha256": files.sha256(data), "bytes": len(data)}
    (home / "manifest.json").write_bytes(files.to_json(manifest))


# ------------------------------------------------------------------------------------------------------ flipped bits


@pytest.mark.parametrize("flips", [40, pytest.param(400, marks=SLOW)])
def test_no_flipped_bit_is_read_silently(tmp_path, student, flips):
    """In run.json, predictions, weights and manifest: our error, or exactly what was written (unread bytes)."""
    home, rng = save(tmp_path, student), np.random.default_rng(flips)
    right = store.read(tmp_path, student), store.read_weights(tmp_path, student)
    for i in range(flips):
        path = home / FILES[i % len(FILES)]
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(damaged))
        count = injected("a flipped bit in a file of a run")
        try:
            found = store.read(tmp_path, student), store.read_weights(tmp_path, student)
        except StoreError as error:
            assert home.name in str(error)
            count["found"] += 1
        else:
            assert found[0][1] == right[0][1] and found[1] == right[1]
            assert all(np.array_equal(found[0][0][name], right[0][0][name]) for name in right[0][0])
            count["harmless"] += 1
        path.write_bytes(whole)


# --------------------------------------------------------------------------------- malformed, behind a valid manifest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "run", "provenance", "sha256", "bytes", *FILES]), inner, max_size=4)
    ),
    max_leaves=8,
)


def fuzz(tmp_path, student, name, data):
    home = save(tmp_path, student)
    if name == "manifest.json":
        (home / name).write_bytes(data)
    else:
        reseal(home, name, data)
    count = injected("malformed content behind a valid manifest")
    with pytest.raises(Damaged) as caught:
        store.read(tmp_path, student)
    assert home.name in str(caught.value) and "rm -r" in str(caught.value)
    count["found"] += 1


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("run.json", b"[" * 100_000),
        ("run.json", b'{"id": 5, "provenance": {}}'),
        ("manifest.json", b"[" * 100_000),
        ("manifest.json", b'{"run.json": null}'),
        ("predictions.npz", b"PK\x05\x06" + bytes(18)),  # a zip archive of nothing
        ("predictions.npz", b"\x93NUMPY\x01\x00" + bytes(100)),
    ],
)
def test_malformed_content_behind_a_valid_manifest(tmp_path, student, name, data):
    fuzz(tmp_path, student, name, data)


@settings(settings.get_profile("faults"), max_examples=40)
@given(name=st.sampled_from(["run.json", "predictions.npz", "manifest.json"]), data=st.binary(max_size=200) | JSON)
def test_fuzzed_content_is_damage(tmp_path, student, name, data):
    fuzz(tmp_path, student, name, data if isinstance(data, bytes) else json.dumps(data).encode())


@SLOW
@settings(settings.get_profile("faults"), max_examples=20_000)
@given(name=st.sampled_from(["run.json", "predictions.npz", "manifest.json"]), data=st.binary(max_size=200) | JSON)
def test_fuzzed_content_is_damage_at_length(tmp_path, student, name, data):
    fuzz(tmp_path, student, name, data if isinstance(data, bytes) else json.dumps(data).encode())


@pytest.mark.parametrize("damage", [b"", b"null", b"\xff", b"[1]", b"[" * 100_000])
def test_a_damaged_mark_of_a_failed_run_is_named_and_stops_nothing_else(tmp_path, study, student, damage):
    store.failure_path(tmp_path, student).write_bytes(damage)
    assert store.state(tmp_path, student) == "failed"
    reason = store.failure(tmp_path, student)
    assert str(store.failure_path(tmp_path, student)) in reason and "--retry-failed" in reason
    assert sweep.train(study, runs_dir=tmp_path, device="none").failed == {str(student): reason}


# -------------------------------------------------------------------------------------------------------- the teacher


def test_a_student_of_another_teacher_is_refused_and_named(tmp_path, study, teacher, student):
    save(tmp_path, teacher, seed=1)
    save(tmp_path, student, seed=2, teacher_sha256=store.weights_sha256(tmp_path, teacher))
    store.read(tmp_path, student)
    home = save(tmp_path, teacher, seed=3)  # the same id, other weights
    for call in (store.read, store.provenance, store.verify):
        with pytest.raises(Damaged, match=home.name):
            call(tmp_path, student)
    with pytest.raises(StoreError, match=home.name):
        collect(study, runs_dir=tmp_path)
    progress = sweep.train(study, runs_dir=tmp_path, device="none")
    assert list(progress.failed) == [str(student)] and progress.done == 1


def test_older_students_do_not_say_whom_they_learned_from(tmp_path, teacher, student):
    save(tmp_path, teacher), save(tmp_path, student)
    save(tmp_path, teacher, seed=3)
    store.read(tmp_path, student)


def test_a_permission_is_no_damage(tmp_path, student, monkeypatch):
    home = save(tmp_path, student)

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(home), "read_bytes", denied)
    with pytest.raises(StoreError, match="manifest.json") as caught:
        store.read(tmp_path, student)
    assert not isinstance(caught.value, Damaged) and "rm -r" not in str(caught.value)


@pytest.mark.parametrize("name", ["run.json", "predictions.npz", store.WEIGHTS])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)], ids=["pipe", "device"])
def test_what_is_no_file_is_not_read_for_ever(tmp_path, student, name, make):
    home = save(tmp_path, student)
    (home / name).unlink()
    make(home / name)
    with pytest.raises(Damaged, match=name):
        store.verify(tmp_path, student)


# --------------------------------------------------------------------------------------------------- what is recorded


@pytest.mark.parametrize(("key", "values"), [("data_sha256", ("a", "b")), ("torch", ("2.11", "2.12"))])
def test_runs_of_one_arm_with_other_data_or_environments_are_named(tmp_path, study, runs, key, values):
    for seed, value in enumerate(values):
        save(tmp_path, runs["nds", seed, None], seed=seed, **{key: value})
    with pytest.warns(KdlibWarning, match=key) as caught:
        collect(study, runs_dir=tmp_path)
    assert all(value in str(caught[0].message) for value in values)


def test_collapsed_runs_are_named_where_a_study_stands(tmp_path, study, runs):
    save(tmp_path, runs["nds", 0, None], collapsed="predicts class 3 alone")
    save(tmp_path, runs["nds", 1, None], seed=1, collapsed=None)
    progress = sweep.train(study, runs_dir=tmp_path, device="none")
    assert progress.collapsed == {str(runs["nds", 0, None]): "predicts class 3 alone"} and progress.done == 2
    assert "class 3" in str(progress)


# ------------------------------------------------------------------------------------------- folders that are shared


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_the_umask_decides_who_can_read_a_run(tmp_path, student, mask):
    before = os.umask(mask)
    try:
        home = save(tmp_path / "runs", student)
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (home, *home.iterdir())}
    assert modes == {path: (0o777 if path.is_dir() else 0o666) & ~mask for path in modes}


def test_hidden_folders_of_other_makers_stay(tmp_path):
    theirs = tmp_path / ".editor-settings"  # eight letters as well
    theirs.mkdir()
    os.utime(theirs, (0, 0))
    files.remove_leftovers(tmp_path)
    assert theirs.exists()


def test_leftovers_of_killed_writes_go_after_a_day(tmp_path, student):
    kept = [tmp_path / ".git", tmp_path / "run/.checkpoint-0a1b2c3d", tmp_path / "new-12345678"]
    old = [
        tmp_path / ".run-0a1b2c3d",
        tmp_path / "x.partial/.checkpoint-0a1b2c3e",
        tmp_path / "tables/t/.0.logits-abcdef01",
    ]
    for folder in (*kept, *old):
        (folder / "inner").mkdir(parents=True)
    yesterday = time.time() - files.LEFT_OVER_SECONDS - 1
    for path in (*old, kept[0], kept[2]):
        os.utime(path, (yesterday, yesterday))
    files.remove_leftovers(tmp_path)
    assert [path.exists() for path in kept] == [True] * 3 and [path.exists() for path in old] == [False] * 3


SAVES = """
import sys
sys.path.insert(0, sys.argv[3])
from kdlib import store
from kdlib.studies import load_profile
from tests.faults.runs import save
for run in load_profile(sys.argv[1]).study("tiny").runs():
    with store.locked(sys.argv[2], run):
        if store.state(sys.argv[2], run) != "done":
            save(sys.argv[2], run)
            print(run.id)
"""


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_on_one_folder_write_every_run_once(tmp_path, tiny_yaml, study, processes):
    root = str(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    command = [sys.executable, "-c", SAVES, str(tiny_yaml), str(tmp_path / "runs"), root]
    all_of_them = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    said = [process.communicate()[0].split() for process in all_of_them]
    assert [process.returncode for process in all_of_them] == [0] * processes
    assert sorted(sum(said, [])) == sorted(run.id for run in study.runs())
    for run in study.runs():
        store.verify(tmp_path / "runs", run)


@pytest.mark.parametrize("flips", [20, pytest.param(400, marks=SLOW)])
def test_no_flipped_bit_in_a_sealed_file_is_read(tmp_path, flips):
    """Checkpoints and logit tables."""
    rng, content = np.random.default_rng(flips), np.random.default_rng(0).bytes(500)
    files.write_sealed(tmp_path / "sealed", content)
    whole = (tmp_path / "sealed").read_bytes()
    assert files.read_sealed(tmp_path / "sealed") == content and files.read_sealed(tmp_path / "none") is None
    for _ in range(flips):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        (tmp_path / "sealed").write_bytes(bytes(damaged))
        count = injected("a flipped bit in a checkpoint or logit table")
        assert files.read_sealed(tmp_path / "sealed") is None
        count["found"] += 1


def test_a_sealed_file_that_cannot_be_read_is_an_error_of_ours(tmp_path, monkeypatch):
    files.write_sealed(tmp_path / "sealed", b"content")

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(tmp_path), "read_bytes", denied)
    with pytest.raises(KdlibError, match="sealed"):
        files.read_sealed(tmp_path / "sealed")
