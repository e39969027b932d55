"""Runs that older code left on disk are read, and go on, as before: fixtures/runs.yaml says how they were made.

A machine that computes as the one that made them must end with the same bits; any other must come close.
"""

import hashlib
import json
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from kdlib import store
from kdlib.errors import StoreError
from kdlib.predictions import collect
from kdlib.studies import Run, load_profile
from kdlib.training import schedule, sweep
from tests.conftest import train_run

FIXTURES = Path(__file__).parent / "fixtures"
RUNS, WHOLE = FIXTURES / "runs", FIXTURES / "whole"
OLD, BROKEN = load_profile(FIXTURES / "runs.yaml").studies.values()
BROKEN = replace(BROKEN, student=BROKEN.student | {"lr": 1e12})
TEACHER, NDS, DS, STOPPED = OLD.runs()
COMPLETE = (TEACHER, NDS, DS)
REASON = "the loss was nan at epoch 0, step 1"

# Of each run: its address, how many of the 1,497 test images it gets right, first digits of the sha256 of its logits
# and of its weights. STOPPED is the run that was not stopped, in WHOLE.
WRITTEN = {
    TEACHER: ("24fe067eeca419c2", 1070, "747b366367ec34b5", "e409a7256d12671b"),
    NDS: ("5514bf1bde783356", 358, "4b6288571c54ab0c", "cb0cc790540932ee"),
    DS: ("de642761bedf3120", 333, "af428d20ba1189b1", "b7ca89255efdf0d0"),
    STOPPED: ("25078ce54801db76", 460, "d55dc1024fd5ea94", "9981d0a2a391d7be"),
}
ARITHMETIC = "6b0bd1d0d39ca66c"  # of the machine that made the runs


def digits(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def logits(folder: Path, run: Run) -> np.ndarray:
    return store.read(folder, run)[0]["logits"]


def arithmetic() -> str:
    """A name for how this machine computes: what ten steps in plain torch, nothing of kdlib, make of two networks.

    Their layers are those of LeNet-5 and of the ResNets, in the sizes of the runs here.
    """
    weights = hashlib.sha256()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        convolutions = [nn.Conv2d(3, 6, 5, padding=2), nn.MaxPool2d(2), nn.ReLU()]
        convolutions += [nn.Conv2d(6, 16, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()]
        linear = [nn.Linear(64, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
        residual = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        for width in (16, 32):
            residual += [nn.Conv2d(width, 2 * width, 3, 2, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU()]
        for net in (nn.Sequential(*convolutions, *linear), nn.Sequential(*residual, nn.Flatten(), nn.Linear(256, 10))):
            net = net.to(memory_format=torch.channels_last)
            optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.001, foreach=True)
            for size in [32] * 9 + [12]:
                x = torch.randn(size, 3, 8, 8).to(memory_format=torch.channels_last)
                z = net(x).log_softmax(1)
                (-z[:, 0].mean() - (z.detach() / 4).softmax(1).mul(z).sum(1).mean()).backward()
                optimizer.step()
                optimizer.zero_grad()
            for value in net.state_dict().values():
                weights.update(value.contiguous().numpy().tobytes())
    return weights.hexdigest()[:16]


@contextmanager
def counted_steps():
    """A list that grows by one at every step of an optimizer."""
    steps: list[int] = []
    hook = register_optimizer_step_post_hook(lambda *_: steps.append(len(steps)))
    try:
        yield steps
    finally:
        hook.remove()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """(folder, steps): the runs as they were left, and the one that was stopped trained to its end."""
    folder = shutil.copytree(RUNS, tmp_path_factory.mktemp("resumed") / "runs")
    with counted_steps() as steps:
        train_run(STOPPED, runs_dir=folder)
    return folder, len(steps)


@pytest.fixture(scope="module")
def anew(tmp_path_factory):
    """{complete run: the folder where the code of today has trained it from nothing; DS with the old teacher}."""
    alone, with_teacher = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("with_teacher")
    shutil.copytree(store.folder(RUNS, TEACHER), store.folder(with_teacher, TEACHER))
    folders = {TEACHER: alone, NDS: with_teacher, DS: with_teacher}
    for run, folder in folders.items():
        train_run(run, runs_dir=folder)
    return folders


def test_every_run_is_found_in_the_state_in_which_it_was_left():
    assert [store.state(RUNS, run) for run in OLD.runs()] == ["done", "done", "done", "partial"]
    assert [store.state(RUNS, run) for run in BROKEN.runs()] == ["done", "failed", "missing"]
    assert {path.name for path in RUNS.iterdir()} == {
        "24fe067eeca419c2",
        "5514bf1bde783356",
        "de642761bedf3120",
        "25078ce54801db76.partial",
        "cf72454d4233bc83.failed.json",
    }
    progress = sweep.train(BROKEN, runs_dir=RUNS, device="none")
    assert (progress.planned, progress.done) == (3, 1)
    assert progress.failed == {"digits lenet5 nds seed 0": REASON}


@pytest.mark.parametrize("run", WRITTEN, ids=str)
def test_a_complete_run_is_read_as_it_was_written(run):
    address, right, logits_digits, weights_digits = WRITTEN[run]
    folder = WHOLE if run == STOPPED else RUNS
    store.verify(folder, run)
    arrays, provenance = store.read(folder, run)
    assert store.folder(folder, run) == folder / address
    assert set(arrays) == {"logits", "labels", "sample_ids", "class_names"}
    assert arrays["logits"].shape == (1497, 10) and arrays["logits"].dtype == np.float32
    assert (arrays["logits"].argmax(1) == arrays["labels"]).sum() == right
    assert digits(arrays["logits"].tobytes()) == logits_digits
    assert arrays["sample_ids"][0] == "digits/0000" and arrays["class_names"].tolist() == list("0123456789")
    assert [row["epoch"] for row in provenance["history"]] == list(range(run.epochs))
    assert provenance["train_images"] == 300 and provenance["device"] == "cpu"
    if folder == RUNS:
        assert digits(store.read_weights(folder, run)) == weights_digits
    else:
        with pytest.raises(StoreError, match="but not its weights.safetensors"):
            store.read_weights(folder, run)


@pytest.mark.parametrize("path", [*RUNS.glob("*/run.json"), *RUNS.glob("*.failed.json")], ids=lambda path: path.name)
def test_every_file_describes_a_run_of_the_profile(path):
    about = json.loads(path.read_text(encoding="utf-8"))
    run = Run.from_dict(about["run"])
    assert run.id == about["id"] and run in OLD.runs() + BROKEN.runs()


def test_measuring_finds_old_runs():
    found = collect.collect(OLD, runs_dir=RUNS)
    assert found.runs["run_id"].tolist() == [WRITTEN[run][0] for run in COMPLETE]
    assert found.runs["model"].tolist() == ["teacher", "nds", "ds"] and found.temperatures == [1.0]
    assert found.runs["teacher_id"].dropna().to_dict() == {2: "24fe067eeca419c2"}
    assert found.accuracy == pytest.approx([1070 / 1497, 358 / 1497, 333 / 1497])
    assert found.absent == ("digits lenet5 ds seed 0 T=4: not trained",)


def test_why_an_old_run_failed_is_still_told():
    teacher, failed, missing = BROKEN.runs()
    assert teacher == TEACHER and store.failure(RUNS, failed) == REASON
    found = collect.collect(BROKEN, runs_dir=RUNS)
    assert found.accuracy == pytest.approx([1070 / 1497])
    assert found.absent == (f"{failed}: {REASON}", f"{missing}: not trained")


def test_what_a_run_draws_at_random_has_not_changed():
    """On every machine: the order of the images, their views, and the seed of the first weights."""
    order, views = schedule.epoch_plan(STOPPED, 1, 10, 9)
    assert order.tolist() == [5, 2, 9, 7, 1, 6, 0, 4, 8, 3]
    assert views.tolist() == [0, 5, 3, 0, 5, 1, 2, 7, 5, 1]
    assert STOPPED.rng(schedule.INIT).integers(2**63) == 2858859207251794619


def test_an_old_checkpoint_goes_on_where_it_stopped(resumed):
    folder, steps = resumed
    assert steps == 6 * 10 - 25  # of ten batches an epoch
    assert store.state(folder, STOPPED) == "done" and not store.partial(folder, STOPPED).exists()
    assert (
        len(list(folder.glob(f"tables/{STOPPED.teacher.id[:16]}-*/0.logits"))) == 1
    )  # made anew: 9 views are fewer than 2 x 6 epochs
    history, whole = (store.read(where, STOPPED)[1]["history"] for where in (folder, WHOLE))
    assert history[:2] == whole[:2]  # these came with the checkpoint
    assert [row["loss"] for row in history] == pytest.approx([row["loss"] for row in whole], abs=1e-3)
    assert np.abs(logits(folder, STOPPED) - logits(WHOLE, STOPPED)).max() < 1e-3


@pytest.mark.parametrize(("run", "close"), [(NDS, 1e-3), (DS, 1e-2)], ids=str)
def test_a_student_trained_anew_answers_as_the_old_one(anew, run, close):
    """Noise a few times that of rounding moved the logits of NDS by 2e-6 and those of DS by 2e-3."""
    assert np.abs(logits(anew[run], run) - logits(RUNS, run)).max() < close


def test_a_teacher_trained_anew_answers_as_the_old_one(anew):
    """The same noise can move its logits by 0.03, where it turns a ReLU on or off, but not its classes."""
    classes = logits(anew[TEACHER], TEACHER).argmax(1), logits(RUNS, TEACHER).argmax(1)
    assert (classes[0] == classes[1]).mean() > 0.95


def test_on_a_machine_that_computes_alike_every_bit_is_as_it_was(anew, resumed):
    if store.read(RUNS, TEACHER)[1]["torch"] != torch.__version__ or arithmetic() != ARITHMETIC:
        pytest.skip("this machine computes otherwise than the one that made the runs; the other tests compared them")
    trained = {**anew, STOPPED: resumed[0]}
    found = {
        str(run): (digits(logits(folder, run).tobytes()), digits(store.read_weights(folder, run)))
        for run, folder in trained.items()
    }
    assert found == {str(run): written[2:] for run, written in WRITTEN.items()}
