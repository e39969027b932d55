"""The teacher's logit table: filled once, bit for bit the same after any stop, never half of it, never damaged."""

import json
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import filelock
import numpy as np
import pytest

from kdlib.errors import StoreError
from kdlib.files import Stopped
from kdlib.training import logit_table
from kdlib.training.logit_table import open_table

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (3, 5, 2)  # views, images, classes; batches of 2 make 3 a view
LOGITS = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def answer(view, start, end):
    return LOGITS[view, start:end]


def never():
    return False


def stop_after(times):
    asked = iter(range(10**9))
    return lambda: next(asked) >= times


def table(path, answer=answer, stop=never, batch=2):
    return open_table(path, answer, shape=SHAPE, batch=batch, stop=stop)


def test_it_holds_every_answer_and_is_filled_once(tmp_path):
    assert np.array_equal(table(tmp_path / "t.npy"), LOGITS)
    assert np.array_equal(table(tmp_path / "t.npy", answer=None), LOGITS)  # nobody is asked again
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.lock", "t.npy", "t.sha256"]
    assert np.array_equal(np.load(tmp_path / "t.npy"), LOGITS)


@pytest.mark.parametrize("stops", range(9))
def test_stopped_anywhere_it_goes_on_with_the_same_bytes(tmp_path, stops):
    whole = table(tmp_path / "whole.npy")
    with pytest.raises(Stopped):
        table(tmp_path / "cut.npy", stop=stop_after(stops))
    assert not (tmp_path / "cut.npy").exists()
    asked = []

    def noted(view, start, end):
        asked.append((view, start))
        return answer(view, start, end)

    assert np.array_equal(table(tmp_path / "cut.npy", answer=noted), whole)
    assert len(asked) == 9 - stops
    assert (tmp_path / "cut.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_it_goes_on_in_another_folder(tmp_path):
    with pytest.raises(Stopped):
        table(tmp_path / "here/t.npy", stop=stop_after(4))
    (tmp_path / "here").rename(tmp_path / "there")
    assert np.array_equal(table(tmp_path / "there/t.npy"), LOGITS)


@pytest.mark.parametrize("damage", ["flip", "truncate", "no file", "no mark", "garbage mark", "other batch"])
def test_an_unfinished_table_that_is_not_what_was_noted_starts_anew(tmp_path, damage):
    with pytest.raises(Stopped):
        table(tmp_path / "t.npy", stop=stop_after(4))
    file, mark = tmp_path / "t.partial", tmp_path / "t.safe"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    if damage == "flip":
        file.write_bytes(bytes(raw))
    elif damage == "truncate":
        file.write_bytes(bytes(raw[:-8]))
    elif damage.startswith("no "):
        (file if damage == "no file" else mark).unlink()
    elif damage == "garbage mark":
        mark.write_text("[]")
    batch = 3 if damage == "other batch" else 2
    assert np.array_equal(table(tmp_path / "t.npy", batch=batch), LOGITS)


def test_rows_after_the_note_are_written_again(tmp_path, monkeypatch):
    """kill -9 between two notes: what was appended since is dropped."""
    with pytest.raises(Stopped):
        table(tmp_path / "t.npy", stop=stop_after(4))
    assert json.loads((tmp_path / "t.safe").read_text())["rows"] == 7  # a view of 5 images, and a batch of 2
    with open(tmp_path / "t.partial", "ab") as file:
        file.write(b"half a row")
    assert np.array_equal(table(tmp_path / "t.npy"), LOGITS)


@pytest.mark.parametrize("damage", ["flip", "empty", "no digest"])
def test_a_damaged_table_is_made_again(tmp_path, damage):
    table(tmp_path / "t.npy")
    raw = bytearray((tmp_path / "t.npy").read_bytes())
    raw[-3] ^= 1
    if damage == "no digest":
        (tmp_path / "t.sha256").unlink()
    else:
        (tmp_path / "t.npy").write_bytes(b"" if damage == "empty" else bytes(raw))
    assert np.array_equal(table(tmp_path / "t.npy"), LOGITS)


def test_size_alone_decides_between_fp32_and_fp16():
    assert logit_table.dtype((162, 50_000, 10)) == np.float32  # 324 MB
    assert logit_table.dtype((162, 50_000, 100)) == np.float16  # 3.2 GB in fp32
    assert logit_table.fits((162, 50_000, 100)) and not logit_table.fits((162, 1_281_167, 1000))


def test_fp16_rounds_each_logit_by_at_most_a_thousandth(tmp_path, monkeypatch):
    monkeypatch.setattr(logit_table, "FP32_BYTES", 1)
    half = table(tmp_path / "t.npy")
    assert half.dtype == np.float16 and half.shape == SHAPE
    assert np.abs(half.astype(np.float32) - LOGITS).max() <= 2**-11 * np.abs(LOGITS).max()


def test_who_waits_for_another_process_can_be_stopped(tmp_path):
    held = filelock.FileLock(tmp_path / "t.lock")
    with held, pytest.raises(Stopped):
        table(tmp_path / "t.npy", stop=lambda: True)


def test_who_waited_finds_the_table_filled(tmp_path):
    inside, go = threading.Event(), threading.Event()

    def slowly(view, start, end):
        inside.set()
        go.wait()
        return answer(view, start, end)

    first = threading.Thread(target=table, args=(tmp_path / "t.npy", slowly))
    first.start()
    inside.wait()
    second = threading.Timer(0.2, go.set)
    second.start()
    assert np.array_equal(table(tmp_path / "t.npy", answer=None), LOGITS)
    first.join()


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from kdlib.errors import StoreError
from kdlib.training.logit_table import open_table
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    open_table(Path(sys.argv[1]), lambda view, start, end: np.full((end - start, 10), view, np.float32),
               shape=(4, 5000, 10), batch=500, stop=lambda: False)
except StoreError as error:
    print("StoreError", error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no file size limit on this system")
def test_a_full_disk_is_an_error_that_leaves_what_was_safe(tmp_path):
    def whole(view, start, end):
        return np.full((end - start, 10), view, np.float32)

    path, shape = tmp_path / "t.npy", (4, 5000, 10)
    with pytest.raises(Stopped):  # 4000 rows of 40 bytes are safe; the limit stands at 300,000 bytes
        open_table(path, whole, shape=shape, batch=500, stop=stop_after(8))
    out = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True)
    assert "StoreError cannot write the teacher's logit table" in out.stdout and "free space" in out.stdout
    assert not path.exists() and json.loads((tmp_path / "t.safe").read_text())["rows"] == 4000
    asked = []

    def counted(view, start, end):
        asked.append(start)
        return whole(view, start, end)

    done = open_table(path, counted, shape=shape, batch=500, stop=never)
    assert len(asked) == 32 and all((done[view] == view).all() for view in range(4))


KILLED = """
import os, signal, sys
from pathlib import Path
from kdlib.training import logit_table
sys.path.insert(0, sys.argv[2])
from tests.training.test_logit_table import answer, table
logit_table.SAFE_SECONDS = -1  # note after every batch
left = [int(sys.argv[3])]
for name in ("write_synced", "replace_file"):
    def counted(*args, real=getattr(logit_table.files, name)):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)
    setattr(logit_table.files, name, counted)
table(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("point", [1, 2, 3, 8, 17, 19, 20])
def test_killed_at_a_write_it_goes_on_with_the_same_bytes(tmp_path, point):
    out = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "t.npy", ROOT, str(point)], capture_output=True)
    assert out.returncode == -signal.SIGKILL
    assert np.array_equal(table(tmp_path / "t.npy"), LOGITS)


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "tables").write_text("a file")
    with pytest.raises(StoreError, match="tables"):
        table(tmp_path / "tables/t.npy")
