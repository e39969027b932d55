"""Several runs at once in one process, and steps as CUDA graphs: on CPU the same code takes the steps unrecorded."""

import os
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors

from kdlib import data, models, store
from kdlib.errors import TrainingFailed
from kdlib.training import cuda, loop, process, sweep, together
from kdlib.training.checkpoint import State
from kdlib.training.process import through
from kdlib.training.schedule import make_optimizer
from kdlib.training.teacher import Teacher
from kdlib.training.views import make_views
from tests.conftest import train_run

CHANGES = [{}, {"momentum": 0.0}, {"epochs": 3, "lr": 0.01}]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def never():
    return False


@pytest.fixture
def all_together(tmp_path):
    def train(runs, *, at_once=3, stop=never, device="cpu", folder=tmp_path / "together"):
        return list(together.train_together(list(runs), folder=folder, device=device, at_once=at_once, stop=stop))

    return train


def weights(folder, run):
    return store.read_weights(folder, run)


def test_runs_trained_together_end_with_the_bits_of_each_alone(tmp_path, runs, all_together):
    outcomes = all_together(runs.values())
    assert [run for run, _ in outcomes if run.role == "teacher"] and {out for _, out in outcomes} == {"done"}
    for run in runs.values():
        train_run(run, runs_dir=tmp_path / "alone")
        assert weights(tmp_path / "alone", run) == weights(tmp_path / "together", run)


def test_a_stop_leaves_checkpoints_and_the_rest_goes_on_to_the_same_bits(tmp_path, runs, all_together):
    asked = iter(range(100_000))
    first = all_together(runs.values(), stop=lambda: next(asked) > 20)
    assert "stopped" in {out for _, out in first}
    assert list((tmp_path / "together").glob("*.partial/checkpoint"))
    all_together([run for run, out in first if out == "stopped"])
    for run in runs.values():
        train_run(run, runs_dir=tmp_path / "alone")
        assert weights(tmp_path / "alone", run) == weights(tmp_path / "together", run)


def test_a_student_waits_for_its_teacher_and_fails_with_it(runs, all_together, monkeypatch):
    steps = loop._steps

    def bad(run, state, *rest):
        for _ in steps(run, state, *rest):
            if run.role == "teacher":
                state.losses[-1] = torch.tensor(float("nan"))
            yield

    monkeypatch.setattr(loop, "_steps", bad)
    outcomes = dict(all_together(runs.values()))
    assert {run.role for run, out in outcomes.items() if out == "failed"} == {"teacher", "ds"}
    assert {run.role for run, out in outcomes.items() if out == "done"} == {"nds"}


def test_where_memory_is_short_fewer_are_trained_at_a_time(tmp_path, runs, all_together, monkeypatch):
    begun, real = [], loop.training
    nds = [run for run in runs.values() if run.role == "nds"]

    def short(run, **options):
        begun.append(run)
        if len(begun) == 2:
            raise torch.OutOfMemoryError("too little")
        yield from real(run, **options)

    monkeypatch.setattr(loop, "training", short)
    assert len(nds) >= 2 and {out for _, out in all_together(nds, at_once=2)} == {"done"}
    assert len(begun) == len(nds) + 1  # one was begun again


def test_one_that_is_too_large_alone_is_an_error(runs, all_together, monkeypatch):
    def short(run, **options):
        raise torch.OutOfMemoryError("too little")
        yield

    monkeypatch.setattr(loop, "training", short)
    with pytest.raises(TrainingFailed, match="more memory than this GPU"):
        all_together([run for run in runs.values() if run.role == "nds"], at_once=2)


def prepared(run, folder, device):
    """(state, views, teacher) at the start of a run, as the loop makes them."""
    split = data.load(run.dataset, "train", **run.data)
    views = make_views(split, augment=run.augment, device=device)
    build = lambda: models.build(run.model, classes=10, **views.input)  # noqa: E731
    model = models.seeded(build, 0).to(device, memory_format=torch.channels_last)
    teacher = None
    if run.teacher:
        teacher = Teacher(run, views, 10, seen="data", runs_dir=folder, stop=never)
        through(teacher.fill())
        if device == "cpu" and teacher.table is not None:
            teacher.table = torch.from_numpy(np.array(teacher.table))
    model.train()
    return State(model, make_optimizer(run, model)), views, teacher


def on_host(teacher):
    """A teacher whose table is read from the host, as the eager loop does it."""
    if teacher is not None and isinstance(teacher.table, torch.Tensor):
        teacher.table = [view.cpu().numpy() for view in teacher.table]
    return teacher


def fused(optimizer):
    """An optimizer that takes its rate from the device, as on a GPU."""
    optimizer.param_groups[0] |= {"foreach": False, "fused": True}
    return optimizer


def epochs(state, steps, note=lambda: None):
    """Step after step, epoch after epoch; steps: those of an epoch."""
    while True:
        yield from steps()
        note()
        state.history[-1]["loss"] = torch.stack(state.losses).mean().item()
        state.epoch, state.step, state.losses = state.epoch + 1, 0, []


def count(state):
    """Steps taken: three an epoch, one of them smaller."""
    return 3 * state.epoch + state.step


@pytest.fixture
def double(monkeypatch):
    """Everything in float64: in float32 what two orders of the same sums round differently grows from step to step."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("changes", CHANGES)
@pytest.mark.parametrize("size", [1, 3])
def test_a_pack_takes_the_steps_of_the_eager_loop(tmp_path, runs, size, device, changes, monkeypatch):
    """50 steps: weights, losses, norms of gradients; of three one leaves after 31. epochs 3: the teacher is live."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(cuda, "make_optimizer", lambda *about: fused(make_optimizer(*about)))
    usual = {"epochs": 25, "model": "resnet8", "augment": {"crop": 1, "flip": True}, "batch_size": 48}
    chosen = [replace(run, **usual | changes) for run in (runs["ds", 0, 4.0], runs["nds", 0, None], runs["ds", 1, 4.0])]
    until = dict(zip(chosen[:size], (50, 50, 31), strict=False))
    pack, ours = cuda.Pack(), {}
    for run in until:
        if run.teacher:
            train_run(run.teacher, runs_dir=tmp_path)
        state, views, teacher = prepared(run, tmp_path, device)
        fused(state.optimizer)
        pack.members.append(member := cuda.Member(run, state, views, teacher))
        ours[run] = member, epochs(state, partial(pack.steps, member), partial(pack.note, member))
    training = dict(ours)
    while training:
        for run, (member, steps) in [*training.items()]:
            next(steps)
            if count(member.state) == until[run]:
                pack.note(member)
                pack.leave(training.pop(run)[0])
    for run, (member, _) in ours.items():
        state, views, teacher = prepared(run, tmp_path, device)
        eager = epochs(state, partial(loop._steps, run, state, views, on_host(teacher)))
        while count(state) < until[run]:
            next(eager)
        for name, value in state.model.state_dict().items():
            assert torch.allclose(member.state.model.state_dict()[name], value, rtol=1e-6, atol=1e-6), name
        for mine, theirs in zip(member.state.history, state.history, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-6)
        assert torch.allclose(torch.stack(member.state.losses), torch.stack(state.losses).cpu(), atol=1e-6)


def test_what_draws_in_training_is_not_recorded(runs, tmp_path):
    run = runs["nds", 0, None]
    state, views, teacher = prepared(run, tmp_path, "cpu")
    assert not cuda.can_graph(run, state.model, views, teacher)  # no GPU's
    assert cuda._draws(torch.nn.Dropout(0.1)) and not cuda._draws(torch.nn.Dropout(0.0))
    assert not any(cuda._draws(module) for module in state.model.modules())


def on_cpu(runs, folder, device, at_once):
    """What the process that trains on a GPU does, without one."""
    return sweep._work_together(runs, folder, "cpu", at_once)


def test_a_sweep_on_a_gpu_hears_of_each_run_as_it_ends(tmp_path, tiny, runs, monkeypatch):
    monkeypatch.setattr(process, "choose_device", lambda wanted: "cuda")
    monkeypatch.setattr(sweep, "_work_together", on_cpu)
    lines = []
    progress = sweep.train(tiny.study("tiny"), runs_dir=tmp_path, device="cuda", workers=3, say=lines.append)
    assert progress.complete and progress.trained == len(runs)
    assert "3 at a time" in lines[0] and len(lines) == len(runs) + 1


def killed(runs, folder, device, at_once):
    os.kill(os.getpid(), 9)


def test_a_process_on_a_gpu_that_is_killed_is_an_error(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(process, "choose_device", lambda wanted: "cuda")
    monkeypatch.setattr(sweep, "_work_together", killed)
    with pytest.raises(TrainingFailed, match="SIGKILL"):
        sweep.train(tiny.study("tiny"), runs_dir=tmp_path, device="cuda")


@pytest.fixture
def packs(monkeypatch):
    """Train as on a GPU, unrecorded; the sizes of the packs that were built."""
    monkeypatch.setattr(cuda, "can_graph", lambda *_: True)
    monkeypatch.setattr(cuda, "PATIENCE", 0.2)
    monkeypatch.setattr(cuda, "make_optimizer", lambda *about: fused(make_optimizer(*about)))
    monkeypatch.setattr(loop, "make_optimizer", lambda *about: fused(make_optimizer(*about)))
    sizes, build = [], cuda.Pack._build
    monkeypatch.setattr(cuda.Pack, "_build", lambda self: (sizes.append(len(self.members)), build(self)))
    return sizes


def nearly_alike(one, other, run):
    """Whether a run ended in both folders with the same, but for the last bits."""
    mine, alone = (load_tensors(weights(folder, run)) for folder in (one, other))
    assert all(torch.allclose(mine[name], alone[name], atol=0.02) for name in alone), run
    mine, alone = (store.provenance(folder, run)["history"] for folder in (one, other))
    assert [entry.keys() for entry in mine] == [entry.keys() for entry in alone]
    assert [entry["loss"] for entry in mine] == pytest.approx([entry["loss"] for entry in alone], rel=0.02)


@pytest.mark.parametrize("at", [None, 25, 60])
def test_packs_are_formed_stop_and_go_on(tmp_path, runs, all_together, packs, monkeypatch, at):
    asked = iter(range(10**6))
    first = all_together(runs.values(), at_once=4, stop=lambda: at is not None and next(asked) > at)
    rest = [run for run, out in first if out == "stopped"]
    assert bool(rest) == (at is not None)
    assert {out for _, out in all_together(rest, at_once=4)} <= {"done"} and max(packs) > 1
    monkeypatch.undo()
    for run in runs.values():
        train_run(run, runs_dir=tmp_path / "alone")
        nearly_alike(tmp_path / "together", tmp_path / "alone", run)


def test_a_loss_that_is_not_finite_fails_its_own_run_alone(tmp_path, runs, all_together, packs, monkeypatch):
    """In a wide network 0 times infinity reaches the others: they are trained again, each for itself."""
    bad, real = runs["ds", 0, 4.0], cuda.loss_of

    def loss_of(run, logits, *rest):
        return real(run, logits / 0 if run == bad else logits, *rest)

    monkeypatch.setattr(cuda, "loss_of", loss_of)
    outcomes = dict(all_together(runs.values(), at_once=4))
    assert {run for run, out in outcomes.items() if out == "failed"} == {bad} and max(packs) > 1
    monkeypatch.undo()
    for run in {*runs.values()} - {bad}:
        train_run(run, runs_dir=tmp_path / "alone")
        nearly_alike(tmp_path / "together", tmp_path / "alone", run)
