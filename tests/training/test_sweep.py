"""A sweep trains what is missing once, in any number of processes, and survives stops, failures and kills."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch

from kdlib import cli, store
from kdlib.errors import InvalidInput, KdlibError, TrainingFailed
from kdlib.predictions import collect
from kdlib.studies import load_profile
from kdlib.training import sweep
from kdlib.training.plan import in_order
from tests.conftest import TINY, as_in_a_terminal, make_project, train_run


def train_here(study, folder):
    """The same runs in this process, one after the other: what every sweep must equal."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for run in study.runs():
        train_run(run, runs_dir=folder)
    torch.set_num_threads(before)


def weights(folder, study):
    return [store.read_weights(folder, run) for run in study.runs()]


def test_everything_is_trained_once_and_workers_change_nothing(tmp_path, study):
    first = sweep.train(study, runs_dir=tmp_path / "two", workers=2, device="cpu")
    assert (first.planned, first.done, first.trained, first.failed, first.stopped) == (
        8,
        8,
        8,
        {},
        False,
    ) and first.complete
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "two").rglob("*") if p.is_file()}
    again = sweep.train(study, runs_dir=tmp_path / "two", workers=2, device="cpu")
    assert (again.done, again.trained) == (8, 0)
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "two").rglob("*") if p.is_file()}
    train_here(study, tmp_path / "one")
    assert weights(tmp_path / "one", study) == weights(tmp_path / "two", study)
    assert sweep.train(study, runs_dir=tmp_path / "one", device="none").complete


def test_a_budget_stops_in_time_and_what_it_left_goes_on_with_the_same_bits(tmp_path, study):
    study = replace(study, teacher={**study.teacher, "epochs": 40})
    progress = sweep.train(study, runs_dir=tmp_path / "cut", workers=1, device="cpu", budget_minutes=0.05)
    assert progress.stopped and progress.done < 8 and "stopped, start again" in str(progress)
    for folder in ("cut", "whole"):
        train_here(study, tmp_path / folder)
    assert weights(tmp_path / "cut", study) == weights(tmp_path / "whole", study)


def test_a_failed_run_is_named_its_students_left_out_and_the_rest_trained(tmp_path, study):
    students = replace(study, student={**study.student, "lr": 1e12})
    teachers = replace(study, teacher={**study.teacher, "lr": 1e12})
    progress = sweep.train([students, teachers], runs_dir=tmp_path, workers=1, device="cpu")
    assert progress.done == 4  # teachers of the first study, NDS of the second
    failed = [f"digits lenet5 {name}" for name in ("nds seed 0", "nds seed 1")]
    failed += [f"digits lenet5 ds seed {seed} T={temperature}" for seed in (0, 1) for temperature in (1, 4)]
    failed += [f"digits resnet8 teacher seed {seed}" for seed in (0, 1)]
    assert sorted(progress.failed) == sorted(failed)
    assert all("the loss was" in reason for reason in progress.failed.values())
    again = {"runs_dir": tmp_path, "workers": 1, "device": "cpu"}
    store.record_failure(tmp_path, students.runs()[2], "power cut")
    assert "power cut" in str(sweep.train(students, **again))  # not tried again ...
    retried = sweep.train(replace(students, temperatures=()), **again, retry_failed=True)  # ... unless asked
    assert len(retried.failed) == 2 and "power cut" not in str(retried)


def test_runs_without_a_teacher_are_started_first_then_students_of_different_teachers_in_turn(study):
    teacher0, teacher1, nds0, nds1, *students = study.runs()  # for each teacher T = 1, 4
    order = in_order([*students, nds0, teacher0, teacher1, nds1])
    assert order[:4] == [nds0, teacher0, teacher1, nds1]
    assert [(run.seed, run.temperature) for run in order[4:]] == [(0, 1), (1, 1), (0, 4), (1, 4)]


def test_device_none_trains_nothing(tmp_path, study):
    progress = sweep.train(study, runs_dir=tmp_path / "runs", device="none")
    assert (progress.planned, progress.done) == (8, 0) and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("given", ["tiny", None, ["tiny"]])
def test_what_is_no_study_is_not_trained(tmp_path, given):
    with pytest.raises(InvalidInput, match="tiny|None"):
        sweep.train(given, runs_dir=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "gpu"}, "'gpu'"),
        ({"engine": "slurm"}, "'slurm'"),
        ({"budget_minutes": 0}, "budget_minutes .* 0"),
        ({"budget_minutes": float("nan")}, "budget_minutes .*nan"),
        ({"workers": 0}, "workers .* 0"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_trained(tmp_path, study, change, message):
    with pytest.raises(InvalidInput, match=message):
        sweep.train(study, runs_dir=tmp_path / "runs", **change)
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path, study):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(KdlibError, match="runs"):
        sweep.train(study, runs_dir=tmp_path / "runs", workers=1, device="cpu")


COMMAND = [sys.executable, "-m", "kdlib", "train", "tiny", "--device", "cpu"]


def children(pid: int) -> set[int]:
    out = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return {int(word) for word in out.split()}


def gone(pids: set[int]) -> bool:
    for _ in range(100):
        if not any(os.path.exists(f"/proc/{pid}") for pid in pids):
            return True
        time.sleep(0.1)
    return False


LONGER = TINY.replace("resnet8, epochs: 3", "resnet8, epochs: 30")  # so long that one can be stopped while it trains


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    """(path of the profile, study, folder of its runs, never stopped)."""
    folder = tmp_path_factory.mktemp("longer")
    (folder / "tiny.yaml").write_text(LONGER, encoding="utf-8")
    study = load_profile(folder / "tiny.yaml").study("tiny")
    train_here(study, folder / "whole")
    return folder / "tiny.yaml", study, folder / "whole"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_or_interrupted_it_goes_on_and_ends_with_the_same_bits(tmp_path, longer, how):
    """kill -9 of the parent: its workers end by themselves, no half run counts, the next call finishes."""
    profile, study, whole = longer
    command = [*COMMAND, "--profile", str(profile), "--runs-dir", str(tmp_path / "runs")]
    process = subprocess.Popen(
        [*command, "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=as_in_a_terminal,
    )
    while process.poll() is None and not list((tmp_path / "runs").glob("locks/*")):
        time.sleep(0.05)
    time.sleep(0.5)
    workers = children(process.pid)
    assert process.poll() is None and workers, "the sweep ended before it could be killed"
    process.send_signal(how)
    error = process.communicate(timeout=120)[1]  # workers that live on keep it open
    assert gone(workers)
    if how == signal.SIGINT:
        assert process.returncode == 130 and "start the same command again to go on" in error
        assert list((tmp_path / "runs").glob("*.partial/checkpoint"))
    subprocess.run([*command, "--workers", "1"], check=True, capture_output=True)
    assert weights(tmp_path / "runs", study) == weights(whole, study)
    logits = [store.read(folder, study.runs()[-1])[0]["logits"] for folder in (tmp_path / "runs", whole)]
    assert np.array_equal(*logits)


def test_two_sweeps_on_one_folder_train_nothing_twice(tmp_path, tiny_yaml, study):
    command = [*COMMAND, "--workers", "1", "--profile", str(tiny_yaml), "--runs-dir", str(tmp_path / "runs")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert "\ntiny: 8 of 8 runs are there" in process.communicate()[0] and process.returncode == 0
    train_here(study, tmp_path / "whole")
    assert weights(tmp_path / "runs", study) == weights(tmp_path / "whole", study)


@pytest.mark.parametrize(
    ("module", "text", "message"),
    [  # the sweep needs the first, so a worker is dead before it could say anything; it imports the second for a run
        ("filelock", "def (", "exit status 1"),
        ("torch", "raise ImportError('half written')", "half written"),
    ],
)
def test_workers_that_cannot_start_end_the_sweep_and_say_why(
    tmp_path, study, monkeypatch, capfd, module, text, message
):
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)  # a worker's sys.path is its parent's, which has imported both already
    with pytest.raises(TrainingFailed, match=message):
        sweep.train(study, runs_dir=tmp_path / "runs", workers=2, device="cpu")
    assert module == "torch" or "SyntaxError" in capfd.readouterr().err
    assert not active_children()


def test_a_worker_that_is_killed_ends_the_sweep(tmp_path, study):
    def kill():
        while not list((tmp_path / "runs").glob("locks/*")):  # it trains
            time.sleep(0.01)
        os.kill(active_children()[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(TrainingFailed, match="SIGKILL"):
        sweep.train(study, runs_dir=tmp_path / "runs", workers=1, device="cpu")
    killer.join()
    assert not active_children()


# --------------------------------------------------------------------------------- slices, on machines that come and go


@pytest.fixture
def two_studies(tiny_yaml):
    """A profile of two studies that share teachers; a first slice ends before it does, and students read a table."""
    text = tiny_yaml.read_text().replace("resnet8, epochs: 3", "resnet8, epochs: 100")
    text = text.replace("lenet5, epochs: 3", "lenet5, epochs: 5")
    study = text[text.index("  tiny:") : text.index("artefacts:")]
    other = study.replace("tiny:", "other:") + "    t_squared: false\n"
    tiny_yaml.write_text(text.replace("artefacts:", other + "artefacts:").replace("[tiny]", "[tiny, other]"))
    return list(load_profile(tiny_yaml).studies.values())


def bring_back(folder: Path, home: Path) -> None:
    """What docs/gpu.md says: runs, checkpoints and failures, without the tables and the locks."""
    shutil.copytree(folder, home, ignore=shutil.ignore_patterns("tables", "locks"), dirs_exist_ok=True)


def in_slices(tmp_path, command) -> tuple[Path, int]:
    """Train on one machine after another until all is there: (the last one's runs folder, number of machines)."""
    folder, machines = tmp_path / "machine 1", 1
    while (status := cli.main([*command, "--runs-dir", str(folder), "--budget", f"{2**machines}s"])) == cli.MORE_TO_DO:
        machines += 1
        bring_back(folder, tmp_path / f"machine {machines}")
        shutil.rmtree(folder)
        folder = tmp_path / f"machine {machines}"
    assert status == 0
    return folder, machines


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")  # networks this small may agree on every class
def test_slices_on_machines_that_come_and_go_and_runs_of_two_machines_merged(
    tmp_path, tiny_yaml, two_studies, monkeypatch
):
    """The path to the paper's size: slices, moved, merged, released and read back end with the bits of one sweep."""
    train = ["train", "--profile", str(tiny_yaml), "--device", "cpu", "--workers", "1"]
    sliced, machines = in_slices(tmp_path, train)
    assert machines > 1 and list(sliced.glob("tables/*/*.logits"))

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder, study in zip((ours, theirs), two_studies, strict=True):
        train_here(study, folder)
        assert weights(folder, study) == weights(sliced, study)

    done = two_studies[0].runs()[-1]  # of ours alone; theirs began it, and failed
    store.record_failure(theirs, done, "power cut")
    store.partial(theirs, done).mkdir()
    (store.partial(theirs, done) / "checkpoint").write_bytes(b"half of one")
    (theirs / f".{done.id[:16]}-killed").mkdir()
    bring_back(theirs, ours)
    kept = {path: path.stat().st_mtime_ns for path in ours.rglob("*.*") if path.is_file()}
    assert cli.main([*train, "--runs-dir", str(ours)]) == 0
    assert kept == {path: path.stat().st_mtime_ns for path in ours.rglob("*.*") if path.is_file()}
    assert all(sweep.train(study, runs_dir=ours, device="none").complete for study in two_studies)

    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["release", "--profile", str(tiny_yaml), "--runs-dir", str(ours)]) == 0
    for study in two_studies:
        found = collect.collect(study, runs_dir=sliced)
        back = collect.collect(study, runs_dir="nowhere", released=tmp_path / "figures/tiny/predictions")
        assert np.array_equal(back.predicted, found.predicted) and back.absent == ()
