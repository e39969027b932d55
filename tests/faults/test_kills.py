"""kill -9 while a run is written: what was there stays whole, the next start ends with the same bytes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdlib import files, store
from tests.faults.ledger import injected
from tests.faults.runs import save

ROOT = Path(__file__).resolve().parents[2]
# Dies at its n-th call of anything that writes; 0: counts them. First a run, then its checkpoint and a mark of failure.
KILLED = """
import os, pathlib, shutil, signal, sys
sys.path.insert(0, sys.argv[1])
from kdlib import files, store
from kdlib.studies import load_profile
from tests.faults.runs import save
run, other = load_profile(sys.argv[2]).study("tiny").runs()[:2]
at, calls = int(sys.argv[4]), [0]
places = [(os, name) for name in ("replace", "fsync", "mkdir", "unlink", "rmdir")]
for module, name in [*places, (files, "write_synced")]:
    def counted(*args, real=getattr(module, name), **options):
        calls[0] += 1
        if calls[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)
    setattr(module, name, counted)
save(sys.argv[3], run)
files.write_sealed(store.partial(sys.argv[3], other) / "checkpoint", b"new" * 100)
store.record_failure(sys.argv[3], other, "why")
save(sys.argv[3], other)
print(calls[0])
"""


def child(profile, folder, at=0):
    return subprocess.run(
        [sys.executable, "-c", KILLED, str(ROOT), str(profile), str(folder), str(at)], capture_output=True, text=True
    )


def prepared(folder, tiny):
    """A runs folder with an old checkpoint; the checkpoint."""
    checkpoint = store.partial(folder, tiny.study("tiny").runs()[1]) / "checkpoint"
    files.write_sealed(checkpoint, b"old")
    return checkpoint


def how_many(profile, folder, tiny):
    prepared(folder, tiny)
    return int(child(profile, folder).stdout)


def contents(home):
    return {path.name: path.read_bytes() for path in home.iterdir()}


def check_killed(tmp_path, tiny_yaml, tiny, at):
    """Killed at this call: every run is whole or not there, and saving again gives the bytes of an unkilled save."""
    run, other = tiny.study("tiny").runs()[:2]
    checkpoint = prepared(tmp_path / "runs", tiny)
    assert child(tiny_yaml, tmp_path / "runs", at).returncode == -signal.SIGKILL
    count = injected("kill -9 while a run is written")
    count["killed"] += 1
    count["lost"] += 1
    for one in (run, other):
        if store.state(tmp_path / "runs", one) == "done":
            store.verify(tmp_path / "runs", one)
    assert not checkpoint.exists() or files.read_sealed(checkpoint) in (b"old", b"new" * 100)
    for one in (run, other):
        assert contents(save(tmp_path / "runs", one)) == contents(save(tmp_path / "whole", one))
        assert store.state(tmp_path / "runs", one) == "done"
    count["lost"] -= 1
    count["found"] += 1


def test_killed_at_any_write(tmp_path, tiny_yaml, tiny):
    """Twenty places from the first to the last."""
    calls = how_many(tiny_yaml, tmp_path / "count", tiny)
    for at in np.unique(np.linspace(1, calls, 20).astype(int)):
        check_killed(tmp_path / str(at), tiny_yaml, tiny, int(at))


@pytest.mark.slow
def test_killed_two_hundred_times_at_random(tmp_path, tiny_yaml, tiny):
    calls = how_many(tiny_yaml, tmp_path / "count", tiny)
    for i, at in enumerate(np.random.default_rng(0).integers(1, calls + 1, size=200)):
        check_killed(tmp_path / str(i), tiny_yaml, tiny, int(at))


def test_a_full_disk_leaves_what_was_there(tmp_path):
    """RLIMIT_FSIZE in a child: an error of ours, the old file whole, nothing half beside it."""
    files.write_sealed(tmp_path / "checkpoint", b"old")
    code = """
import resource, signal, sys
from pathlib import Path
from kdlib import files
from kdlib.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    files.write_sealed(Path(sys.argv[1]), bytes(5000))
except StoreError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "checkpoint"], capture_output=True, text=True)
    assert done.stdout == "refused\n" and files.read_sealed(tmp_path / "checkpoint") == b"old"
    assert os.listdir(tmp_path) == ["checkpoint"]
