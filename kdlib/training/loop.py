"""The only training loop: one run, from its recipe to saved test predictions.

Everything random is drawn in advance from the run's own streams. So it changes nothing what else trains beside it, in
which order, or where it was interrupted. Training is a generator that yields after each step: whoever drives it may
drive others beside it, as `together` does on a GPU.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import kdlib
from kdlib import data, models, places, store
from kdlib.catalogue import DATASETS
from kdlib.collapse import collapsed
from kdlib.errors import DataError, TrainingFailed
from kdlib.files import Stopped
from kdlib.studies import Run
from kdlib.training import cuda
from kdlib.training.checkpoint import State, load_checkpoint, packed, save_checkpoint
from kdlib.training.inference import Stop, autocast, forward_all
from kdlib.training.objective import gradient_norms, loss_of
from kdlib.training.process import shared
from kdlib.training.schedule import INIT, STEP, batch_bounds, epoch_plan, learning_rate, make_optimizer
from kdlib.training.teacher import Teacher
from kdlib.training.views import AnyViews, make_views

CHECKPOINT_SECONDS = 60


@lru_cache(maxsize=3)
def _load(dataset: str, options: str, root: str, part: str) -> data.Split:
    return data.load(dataset, part, root=root, **json.loads(options))


def training(
    run: Run,
    *,
    runs_dir: Path,
    device: str = "cpu",
    stop: Stop = lambda: False,
    waiting: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Train one run, its teacher before it, and store it, a step at a time; it ends when the run is on disk.

    stop is asked before every step: when it says so, a checkpoint is written and Stopped raised. Started again, the
    run goes on and ends with the same bits (on CPU). waiting is called once when another process has it. Raises
    TrainingFailed, after recording it, for a loss that is not finite; StoreError where the disk refuses; DataError
    where the data set is not there.
    """
    if run.teacher and store.state(runs_dir, run.teacher) != "done":
        yield from training(run.teacher, runs_dir=runs_dir, device=device, stop=stop, waiting=waiting)
    with store.locked(runs_dir, run, stop=stop, waiting=waiting):
        state = store.state(runs_dir, run)
        if state == "done":
            return
        if state == "failed":
            raise TrainingFailed(f"{run} failed before: {store.failure(runs_dir, run)}. Use --retry-failed.")
        parts = {part: _part(run, part) for part in DATASETS[run.dataset].parts}
        for part in ("train", "test"):
            if not len(parts[part].y):
                raise DataError(f"{run.dataset} has no {part} samples with {run.data}. Take other options.")
        train = parts.pop("train")
        views = shared(
            (train.data_sha256, str(run.augment)),
            lambda: make_views(train, augment=run.augment, pad=DATASETS[run.dataset].pad, device=device),
            device,
        )
        others = {part: split for part, split in parts.items() if len(split.y)}
        judge = make_views(others["validation"], like=views, device=device) if keeps_best(run, others) else None
        seen = {"train": train.data_sha256} | {part: split.data_sha256 for part, split in others.items()}
        classes = len(train.class_names)
        about = {"judge": judge, "seen": seen, "runs_dir": runs_dir, "stop": stop}
        try:
            state = yield from _fit(run, views, classes, **about)
        except cuda.Infected:
            state = yield from _fit(run, views, classes, **about, alone=True)
        arrays = {}
        for part, split in others.items():
            prefix = "" if part == "test" else f"{part}:"
            found = _arrays(run, state.model, split, like=views)
            arrays |= {prefix + name: values for name, values in found.items()}
        if not np.isfinite(arrays["logits"]).all():  # the very last steps can ruin weights, their losses still fine
            raise _failed(run, runs_dir, "the logits of the trained network are not finite")
        logits = arrays["logits"]
        why = collapsed(logits.argmax(axis=1), arrays["labels"], n_classes=classes, probabilities=logits)
        provenance = _provenance(state, device) | {
            "train_images": len(train.y),
            "data_sha256": seen,
            "collapsed": why,
            "test_accuracy": float((logits.argmax(axis=1) == arrays["labels"]).mean()),
        }
        weights = packed(state.model.state_dict())
        if store.state(runs_dir, run) == "done":  # a host that was taken for gone is back, and another has trained it
            return
        store.save(runs_dir, run, arrays=arrays, weights=weights, provenance=provenance)


def _part(run: Run, part: str) -> data.Split:
    return _load(run.dataset, json.dumps(run.data, sort_keys=True), str(places.data_dir()), part)


def keeps_best(run: Run, parts: Iterable[str]) -> bool:
    """Whether the run ends with the weights of its best epoch. Raises DataError without a part that can tell."""
    if DATASETS[run.dataset].best_epoch and "validation" not in parts:
        raise DataError(f"{run.dataset} has no validation part here, by which {run} would choose its best epoch.")
    return DATASETS[run.dataset].best_epoch


def _fit(
    run: Run,
    views: AnyViews,
    classes: int,
    *,
    judge: AnyViews | None,
    seen: dict[str, str],
    runs_dir: Path,
    stop: Stop,
    alone: bool = False,
) -> Generator[None, None, State]:
    """Train, from a checkpoint where there is one. seen: the sha256 of each part of the data.

    alone: from the start, and in no pack.
    """
    source = store.read_code(runs_dir, run.model)
    build = partial(models.build, run.model, source=source, classes=classes, init=run.init, **views.input)
    model = models.seeded(build, int(run.rng(INIT).integers(2**63)))
    model, teacher = model.to(views.labels.device, memory_format=torch.channels_last), None
    if run.teacher:
        teacher = Teacher(run, views, classes, seen=seen["train"], runs_dir=runs_dir, stop=stop)
        yield from teacher.fill()
    state = State(model, make_optimizer(run, model), teacher=teacher.sha256 if teacher else None, data=seen)
    checkpoint = store.partial(runs_dir, run) / "checkpoint"
    if not alone:
        load_checkpoint(state, checkpoint)
    pack, steps = None, partial(_steps, run, state, views, teacher)
    if cuda.can_graph(run, model, views, teacher):
        pack, member = yield from cuda.joined(run, state, views, teacher, alone=alone)
        steps = partial(pack.steps, member)
    saved = started = time.monotonic()
    before = state.seconds
    try:
        while state.epoch < run.epochs:
            model.train()
            for _ in steps():
                now = time.monotonic()
                state.seconds = before + now - started
                if (stopping := stop()) or now - saved > CHECKPOINT_SECONDS:
                    if pack:
                        pack.give_back()
                        pack.note(member)
                    save_checkpoint(state, checkpoint)
                    saved = now
                if stopping:
                    raise Stopped
                yield
            if pack:
                yield from pack.finished(member)
                pack.note(member)
                if judge is not None:
                    pack.give_back()
            _close_epoch(run, state, runs_dir, judge)
        if pack:
            pack.give_back()
    finally:
        if pack:
            pack.leave(member)
    if state.best:
        model.load_state_dict(state.best)
    return state


def _steps(run: Run, state: State, views: AnyViews, teacher: Teacher | None) -> Iterator[None]:
    """Take the steps that are left of the current epoch, yielding after each."""
    n, device = len(views.labels), views.labels.device
    order, view = epoch_plan(run, state.epoch, n, views.count)
    bounds = batch_bounds(n, run.batch_size)
    batches = [(index := order[slice(*b)], view[index]) for b in bounds[state.step :]]
    dropout = int(run.rng(STEP, state.epoch).integers(2**62))
    for (index, seen), x in zip(batches, views.feed(batches), strict=True):
        step = state.step
        torch.manual_seed(dropout + step)  # for networks with dropout, which draw from torch's own generator
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(run, state.epoch + step / len(bounds))
        y = views.labels[torch.from_numpy(index).to(device)]
        answers = teacher.logits(index, seen, x) if teacher else None
        with autocast(run.precision, device):
            logits = state.model(x)
        logits = logits.float()
        loss, terms = loss_of(run, logits, answers, y)
        if step == 0:
            norms = {name: norm.item() for name, norm in gradient_norms(terms, logits).items()}
            state.history.append({"epoch": state.epoch, **norms})
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        state.losses.append(loss.detach())
        state.step = step + 1
        yield


def _close_epoch(run: Run, state: State, runs_dir: Path, judge: AnyViews | None) -> None:
    """Note the epoch's mean loss, and its validation accuracy where that decides which weights are kept.

    A loss that is not finite ends the run; asked once per epoch, it costs no waiting.
    """
    values = torch.stack(state.losses)
    bad = torch.nonzero(~torch.isfinite(values)).flatten()
    if len(bad):
        reason = f"the loss was {values[bad[0]].item()} at epoch {state.epoch}, step {bad[0].item()}"
        raise _failed(run, runs_dir, reason)
    state.history[-1]["loss"] = values.mean().item()
    if judge is not None:
        right = forward_all(state.model, judge, 0, precision=run.precision).argmax(dim=1) == judge.labels
        state.history[-1]["validation_accuracy"] = accuracy = right.float().mean().item()
        if accuracy > state.best_accuracy:
            state.best = {name: value.detach().clone() for name, value in state.model.state_dict().items()}
            state.best_accuracy = accuracy
    state.epoch, state.step, state.losses = state.epoch + 1, 0, []


def _failed(run: Run, runs_dir: Path, reason: str) -> TrainingFailed:
    """Record on disk why a run failed; the error to raise."""
    store.record_failure(runs_dir, run, reason)
    return TrainingFailed(f"{run}: {reason}. Lower the learning rate, {run.lr:g}, or train again with --retry-failed.")


def _arrays(run: Run, model: nn.Module, part: data.Split, *, like: AnyViews) -> dict[str, np.ndarray]:
    """What is stored of a run for one part."""

    def answers(x: np.ndarray) -> np.ndarray:
        views = make_views(replace(part, x=x), like=like, device=like.labels.device)
        return forward_all(model, views, 0, precision=run.precision).cpu().numpy()

    return {
        "logits": answers(part.x),
        "labels": part.y,
        "sample_ids": part.ids,
        "class_names": np.array(part.class_names),
        **{f"group:{name}": np.asarray(values) for name, values in part.groups.items()},
        **({} if part.features is None else {"features": part.features}),
        **{f"twin:{feature}": answers(images) for feature, images in part.twins.items()},
    }


def _provenance(state: State, device: str) -> dict[str, Any]:
    hardware = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
    return {
        "device": device,
        "hardware": hardware,
        **({"gpu_bytes": torch.cuda.max_memory_reserved()} if device.startswith("cuda") else {}),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "kdlib": kdlib.__version__,
        "system": platform.platform(),
        "flags": {
            "threads": torch.get_num_threads(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "matmul_precision": torch.get_float32_matmul_precision(),
        },
        "teacher_sha256": state.teacher,
        "seconds": round(state.seconds, 3),
        "date": time.strftime("%Y-%m-%d"),
        "history": state.history,
    }
