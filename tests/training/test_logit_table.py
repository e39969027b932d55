"""The teacher's logit table: filled once, bit for bit the same after any stop, never half of a view, never damaged."""

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
from kdlib.training.process import through
from kdlib.training.teacher import table_path
from tests.faults.runs import save

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (3, 5, 2)  # views, images, classes
LOGITS = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def never():
    return False


def answer(view):
    return LOGITS[view]


def table(home, answer=answer, stop=never):
    return through(open_table(home, answer, shape=SHAPE, stop=stop))


def stopped_at(home, view):
    """Fill the table as far as a stop in this view lets it."""

    def stopping(asked):
        if asked == view:
            raise Stopped
        return answer(asked)

    with pytest.raises(Stopped):
        table(home, stopping)


def test_it_holds_every_answer_and_is_filled_once(tmp_path):
    assert np.array_equal(table(tmp_path / "t"), LOGITS)
    assert np.array_equal(table(tmp_path / "t", answer=None), LOGITS)  # nobody is asked again
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t", "t.lock"]
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == ["0.logits", "1.logits", "2.logits"]


@pytest.mark.parametrize("view", range(3))
def test_stopped_anywhere_it_goes_on_with_the_same_bytes_in_another_folder_too(tmp_path, view):
    table(tmp_path / "whole")
    stopped_at(tmp_path / "here/t", view)
    (tmp_path / "here").rename(tmp_path / "there")
    asked = []

    def noted(view):
        asked.append(view)
        return answer(view)

    assert np.array_equal(table(tmp_path / "there/t", answer=noted), LOGITS)
    assert asked == list(range(view, 3))
    for file in (tmp_path / "whole").iterdir():
        assert file.read_bytes() == (tmp_path / "there/t" / file.name).read_bytes()


@pytest.mark.parametrize("damage", ["flip", "flip in the digest", "not hexadecimal", "truncate", "empty", "no file"])
def test_a_damaged_view_is_computed_again_and_no_other(tmp_path, damage):
    table(tmp_path / "t")
    path = tmp_path / "t/1.logits"
    raw, place = bytearray(path.read_bytes()), 3 if "digest" in damage else -3
    raw[place] = 0xFF if damage == "not hexadecimal" else raw[place] ^ 1
    path.write_bytes({"truncate": bytes(raw[:-8]), "empty": b""}.get(damage, bytes(raw)))
    if damage == "no file":
        path.unlink()
    asked = []
    assert np.array_equal(table(tmp_path / "t", answer=lambda view: asked.append(view) or LOGITS[view]), LOGITS)
    assert asked == [1]


def test_size_alone_decides_between_fp32_and_fp16():
    assert logit_table.dtype((162, 50_000, 10)) == np.float32  # 324 MB
    assert logit_table.dtype((162, 50_000, 100)) == np.float16  # 3.2 GB in fp32
    assert logit_table.fits((162, 50_000, 100)) and not logit_table.fits((162, 1_281_167, 1000))


def test_fp16_rounds_each_logit_by_at_most_a_thousandth(tmp_path, monkeypatch):
    monkeypatch.setattr(logit_table, "FP32_BYTES", 1)
    half = np.array(table(tmp_path / "t"))
    assert half.dtype == np.float16 and half.shape == SHAPE
    assert np.abs(half.astype(np.float32) - LOGITS).max() <= 2**-11 * np.abs(LOGITS).max()


def test_who_waits_for_another_process_can_be_stopped(tmp_path):
    held = filelock.FileLock(tmp_path / "t.lock")
    with held, pytest.raises(Stopped):
        table(tmp_path / "t", stop=lambda: True)


def test_who_waited_finds_the_table_filled(tmp_path):
    inside, go = threading.Event(), threading.Event()

    def slowly(view):
        inside.set()
        go.wait()
        return answer(view)

    first = threading.Thread(target=table, args=(tmp_path / "t", slowly))
    first.start()
    inside.wait()
    second = threading.Timer(0.2, go.set)
    second.start()
    assert np.array_equal(table(tmp_path / "t", answer=None), LOGITS)
    first.join()


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from kdlib.errors import StoreError
from kdlib.training.logit_table import open_table
from kdlib.training.process import through
from kdlib.training.teacher import table_path
from tests.faults.runs import save
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
try:
    through(open_table(Path(sys.argv[1]), lambda view: np.full((5000, 10), view, np.float32), shape=(4, 5000, 10),
                       stop=lambda: False))
except StoreError as error:
    print("StoreError", error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no file size limit on this system")
def test_a_full_disk_is_an_error_and_nothing_half_is_left(tmp_path):
    out = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path / "t"], capture_output=True, text=True, check=True)
    assert out.stdout.startswith("StoreError") and str(tmp_path / "t/0.logits") in out.stdout
    assert not list((tmp_path / "t").iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from kdlib import files
sys.path.insert(0, sys.argv[2])
from tests.training.test_logit_table import table
left = [int(sys.argv[3])]
for module, name in ((files, "write_synced"), (os, "replace"), (os, "fsync")):
    def counted(*args, real=getattr(module, name)):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)
    setattr(module, name, counted)
table(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("point", range(1, 10))
def test_killed_at_any_write_it_goes_on_with_the_same_bytes(tmp_path, point):
    out = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "t", ROOT, str(point)], capture_output=True)
    assert out.returncode == -signal.SIGKILL
    assert np.array_equal(table(tmp_path / "t"), LOGITS)


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "tables").write_text("a file")
    with pytest.raises(StoreError, match="tables"):
        table(tmp_path / "tables/t")


def test_a_table_belongs_to_the_weights_of_its_teacher_and_to_the_data(tmp_path, teacher, student):
    """Two teachers with the same id and other weights, as two machines train them."""
    found = set()
    for seed in (1, 2):
        save(tmp_path, teacher, seed=seed)
        found |= {table_path(tmp_path, student, seen) for seen in ("these images", "those images")}
    assert len(found) == 4 and all(path.parent == tmp_path / "tables" for path in found)
