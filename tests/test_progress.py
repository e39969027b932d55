"""What people see while runs train: the plan first, then every run with its accuracy and the time that is left."""

import subprocess
import sys

import numpy as np
import pytest

from kdlib import progress, store


def finish(folder, run, seconds, accuracy=0.75):
    arrays = {name: np.zeros(1) for name in store.ARRAYS}
    store.save(folder, run, arrays=arrays, weights=b"", provenance={"seconds": seconds, "test_accuracy": accuracy})


def test_the_plan_and_each_run_with_what_is_left(tmp_path, study):
    runs, said = study.runs(), []  # 2 teachers, 2 NDS, 4 DS of 3 epochs
    with progress.Report(runs, done=[], folder=tmp_path, workers=2, say=said.append) as report:
        assert said == [
            "  8 runs to train (teachers: 2, NDS: 2, DS: 4), 2 at a time: the first one will show how long it takes"
        ]
        finish(tmp_path, runs[0], 240.0)
        report.finished(runs[0], "done")  # another teacher of 240 s, two at a time
        done = "  1 of 8  digits resnet8 teacher seed 0: test accuracy 75.0 %, 240 s"
        assert said[-1] == f"{done}; to come: about 2 min and what LeNet-5 takes"
        finish(tmp_path, runs[2], 6.0, accuracy=0.5)
        report.finished(runs[2], "done")  # a teacher of 240 s, five students of 6 s: 270 / 2
        assert said[-1] == "  2 of 8  digits lenet5 nds seed 0: test accuracy 50.0 %, 6 s; to come: about 2 min"
        store.record_failure(tmp_path, runs[1], "the loss was nan")
        report.finished(runs[1], "failed")
        report.finished(runs[3], "the run in x is damaged")
        assert said[-2:] == [
            "  3 of 8  digits resnet8 teacher seed 1: failed: the loss was nan",
            "  4 of 8  digits lenet5 nds seed 1: the run in x is damaged",
        ]


def test_runs_on_disk_say_before_the_first_how_long_it_takes(tmp_path, study):
    runs, said = study.runs(), []
    for run in runs[:4]:
        finish(tmp_path, run, 30.0)
    with progress.Report(runs[4:], done=runs[:4], folder=tmp_path, workers=1, say=said.append):
        assert said == ["  4 runs to train (DS: 4), 1 at a time: about 2 min"]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "1 s"), (59, "59 s"), (99.6, "2 min"), (300, "5 min"), (9000, "2.5 h")]
)
def test_times_in_words(seconds, said):
    assert progress.about_time(seconds) == f"about {said}"


def test_a_log_has_a_line_at_once():
    """Python keeps what it prints to a pipe in a buffer; whoever reads the log must not wait for its end."""
    code = "import os\nfrom kdlib import progress\nprogress.tell('a run'); os._exit(0)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "a run\n"
