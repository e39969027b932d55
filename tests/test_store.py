"""A run's folder is whole or not there, and nothing damaged is ever read."""

import io
import json
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdlib import files, store
from kdlib.errors import StoreError

ARRAYS = {
    "logits": np.eye(3, dtype=np.float32),
    "labels": np.arange(3),
    "sample_ids": np.array(["a", "b", "ü"]),
    "class_names": np.array(["x", "y", "z"]),
    "group:sex": np.array(["f", "m", "f"]),
}

FILES = ["run.json", "predictions.npz", store.WEIGHTS, "manifest.json"]


@pytest.fixture
def run(tiny):
    return tiny.study("tiny").runs()[0]


@pytest.fixture
def saved(tmp_path, run):
    return store.save(tmp_path / "runs", run, arrays=ARRAYS, weights=b"weights", provenance={"seconds": 1.5})


def test_write_then_read_is_the_identity(tmp_path, run, saved):
    arrays, provenance = store.read(tmp_path / "runs", run)
    assert arrays.keys() == ARRAYS.keys()
    assert all(
        np.array_equal(arrays[name], ARRAYS[name]) and arrays[name].dtype == ARRAYS[name].dtype for name in ARRAYS
    )
    assert provenance == {"seconds": 1.5}
    assert store.read_weights(tmp_path / "runs", run) == b"weights"
    assert store.state(tmp_path / "runs", run) == "done"


def test_whoever_waits_for_a_run_of_another_stops_when_asked(tmp_path, run):
    holder = """import sys, time
from types import SimpleNamespace
from kdlib import store
with store.locked(sys.argv[1], SimpleNamespace(id=sys.argv[2])):
    print("held", flush=True)
    time.sleep(60)"""
    command = [sys.executable, "-c", holder, str(tmp_path), run.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(files.Stopped), store.locked(tmp_path, run, stop=lambda: True):
            pytest.fail("it is held by another")
        other.kill()


def test_nothing_is_left_beside_the_run(tmp_path, saved):
    assert [p.name for p in (tmp_path / "runs").iterdir()] == [saved.name]
    assert sorted(p.name for p in saved.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "delete", "html", "lfs"])
def test_every_damage_to_every_file_is_an_error_that_names_the_folder(tmp_path, run, saved, name, damage):
    path = saved / name
    data = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(
            {
                "flip": bytes(data),
                "truncate": bytes(data[:-3]),
                "empty": b"",
                "html": b"<html>404</html>",
                "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            }[damage]
        )
    with pytest.raises(StoreError, match=saved.name):
        store.verify(tmp_path / "runs", run)
    with pytest.raises(StoreError, match=saved.name):
        (store.read_weights if name == store.WEIGHTS else store.read)(tmp_path / "runs", run)


def test_a_students_weights_may_be_left_behind_a_teachers_may_not(tmp_path, tiny):
    runs = {run.role: run for run in tiny.study("tiny").runs()}
    for run in runs.values():
        home = store.save(tmp_path, run, arrays=ARRAYS, weights=b"weights", provenance={})
        (home / store.WEIGHTS).unlink()
        assert store.state(tmp_path, run) == "done" and store.read(tmp_path, run)[0].keys() == ARRAYS.keys()
    store.verify(tmp_path, runs["ds"])
    with pytest.raises(StoreError, match="weights.safetensors"):
        store.read_weights(tmp_path, runs["ds"])
    (store.folder(tmp_path, runs["ds"]) / store.WEIGHTS).write_bytes(b"others")
    with pytest.raises(StoreError, match="weights.safetensors"):
        store.verify(tmp_path, runs["ds"])
    with pytest.raises(StoreError, match="weights.safetensors"):
        store.verify(tmp_path, runs["teacher"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), name=st.sampled_from(FILES))
def test_random_bytes_raise_kdlibs_error_alone(tmp_path, run, data, name):
    home = store.save(tmp_path / "random", run, arrays=ARRAYS, weights=b"weights", provenance={})
    (home / name).write_bytes(data)
    with pytest.raises(StoreError):
        store.verify(tmp_path / "random", run)


def test_a_folder_that_holds_another_run_is_refused(tmp_path, tiny, saved):
    other = tiny.study("tiny").runs()[1]
    saved.rename(store.folder(tmp_path / "runs", other))
    with pytest.raises(StoreError, match=f"{saved.name}.*{other.id[:16]}"):
        store.read(tmp_path / "runs", other)


def test_pickled_arrays_are_refused(tmp_path, run, saved):
    buffer = io.BytesIO()
    with np.load(saved / "predictions.npz", allow_pickle=False) as archive:
        np.savez(buffer, **dict(archive) | {"features": np.array([{"a": 1}], dtype=object)})
    (saved / "predictions.npz").write_bytes(buffer.getvalue())
    manifest = json.loads((saved / "manifest.json").read_bytes())
    import hashlib

    manifest["predictions.npz"] = {
        "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "bytes": len(buffer.getvalue()),
    }
    (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="predictions.npz"):
        store.read(tmp_path / "runs", run)


FULL_DISK = """
import resource, sys
import numpy as np
from kdlib import store
from kdlib.errors import StoreError
from kdlib.studies import load_profile
run = load_profile(sys.argv[1]).study("tiny").runs()[int(sys.argv[3])]
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    logits = np.random.default_rng(0).random((500, 10))
    store.save(sys.argv[2], run, arrays={"logits": logits}, weights=b"w", provenance={})
except StoreError as error:
    print("StoreError", error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no file size limit on this system")
def test_a_full_disk_is_an_error_and_earlier_runs_are_intact(tmp_path, tiny_yaml, run, saved):
    out = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tiny_yaml, tmp_path / "runs", "1"], capture_output=True, text=True, check=True
    )
    assert "StoreError cannot write" in out.stdout and str(tmp_path / "runs") in out.stdout
    store.verify(tmp_path / "runs", run)
    assert [p.name for p in (tmp_path / "runs").iterdir()] == [saved.name]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_error(tmp_path, run):
    (tmp_path / "runs").mkdir(mode=0o500)
    with pytest.raises(StoreError, match=run.id[:16]):
        store.save(tmp_path / "runs", run, arrays=ARRAYS, weights=b"", provenance={})


def test_a_file_in_the_place_of_the_runs_folder_is_an_error(tmp_path, run):
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(StoreError, match=run.id[:16]):
        store.save(tmp_path / "runs", run, arrays=ARRAYS, weights=b"", provenance={})
    with pytest.raises(StoreError, match=run.id[:16]), store.locked(tmp_path / "runs", run):
        pass


def test_failures_are_kept_until_the_run_succeeds(tmp_path, run):
    store.record_failure(tmp_path, run, "the loss was nan at epoch 0, step 3")
    assert store.state(tmp_path, run) == "failed"
    assert store.failure(tmp_path, run) == "the loss was nan at epoch 0, step 3"
    store.save(tmp_path, run, arrays=ARRAYS, weights=b"", provenance={})
    assert store.state(tmp_path, run) == "done" and store.failure(tmp_path, run) is None


def test_replacing_a_file_keeps_the_old_one_if_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.replace_file(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(StoreError, match=str(path)):
        files.replace_file(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_folders_with_spaces_and_accents_work(tmp_path, run):
    folder = tmp_path / "mes résultats 1"
    store.save(folder, run, arrays=ARRAYS, weights=b"", provenance={})
    store.verify(folder, run)
