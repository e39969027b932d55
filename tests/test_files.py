"""A claim holds a run among hosts that share a folder, and perhaps no locks; one of a host that is gone is taken."""

import multiprocessing
import os
import threading
import time
from contextlib import contextmanager

import pytest

from kdlib import files


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run"


def by(host, path, age=0):
    claim = path.with_name("run.claim")
    claim.write_text(f"{host} 1234")
    os.utime(claim, (time.time() - age,) * 2)
    return claim


def test_a_claim_stands_while_it_is_held_and_is_gone_after(path):
    with files.claimed(path):
        assert path.with_name("run.claim").read_text().startswith(files._host())
    assert not path.with_name("run.claim").exists()


def test_a_fresh_claim_of_another_host_is_kept_and_told(path):
    claim, told = by("other", path), []
    with pytest.raises(files.Stopped), files.claimed(path, stop=lambda: bool(told), waiting=lambda: told.append(1)):
        raise AssertionError("it was held twice")
    assert told and claim.read_text() == "other 1234"


@pytest.mark.parametrize(("host", "age"), [("other", files.CLAIM_SECONDS + 10), (files._host(), 0)])
def test_a_claim_of_whoever_is_gone_is_taken(path, host, age):
    claim = by(host, path, age)
    with files.claimed(path):
        assert claim.read_text() != f"{host} 1234"
    assert os.listdir(path.parent) in (["run"], [])


def test_a_claim_in_use_is_touched(path, monkeypatch):
    monkeypatch.setattr(files, "BEAT_SECONDS", 0.05)
    with files.claimed(path):
        claim = path.with_name("run.claim")
        os.utime(claim, (0, 0))
        time.sleep(0.5)
        assert claim.stat().st_mtime > 0
    assert threading.active_count() < 20


def _on_host(number, path, start):
    """A host whose locks hold nobody back; it notes when it holds the run."""

    @contextmanager
    def no_lock(path, **options):
        yield

    files.locked, files._host = no_lock, lambda: f"host {number}"
    start.wait()
    for _ in range(5):
        with files.claimed(path):
            fd = os.open(path.with_name("held"), os.O_CREAT | os.O_EXCL)  # FileExistsError if another holds it
            os.close(fd)
            time.sleep(0.002)
            path.with_name("held").unlink()


def test_hosts_without_a_common_lock_never_hold_a_run_together(path):
    context = multiprocessing.get_context("fork")
    start = context.Event()
    hosts = [context.Process(target=_on_host, args=(number, path, start)) for number in range(3)]
    for host in hosts:
        host.start()
    by("gone", path, files.CLAIM_SECONDS + 10)  # so that all of them begin by taking over
    start.set()
    for host in hosts:
        host.join(60)
    assert [host.exitcode for host in hosts] == [0, 0, 0]
