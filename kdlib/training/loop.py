"""The only training loop: one run, from its recipe to saved test predictions.

Everything random is drawn in advance from the run's own streams: what else
trains beside it, in which order, or where it was interrupted changes nothing.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from kdlib import data, losses, models, store
from kdlib.catalogue import DATASETS
from kdlib.errors import DataError, InvalidInput, StoreError, TrainingFailed
from kdlib.studies import Run
from kdlib.training import logit_table
from kdlib.training.logit_table import Stop, Stopped
from kdlib.training.views import Streamed, Texts, Views, make_views

AnyViews = Views | Streamed | Texts

INIT, EPOCH, STEP = 0, 1, 2  # random streams of a run
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
CHECKPOINT_SECONDS = 60
TABLE_SHARED_BY = 2  # students that share a teacher's table, at the least: see `uses_table`


def learning_rate(run: Run, epoch: float) -> float:
    """The rate at a moment of training, `epoch` in epochs since the start."""
    if epoch < run.warmup:
        return run.lr * (epoch + 1e-8) / run.warmup
    share = epoch / run.epochs
    if run.schedule["name"] == "step":
        passed = sum(share >= milestone - 1e-9 for milestone in run.schedule["milestones"])
        return run.lr * run.schedule["gamma"] ** passed
    if run.schedule["name"] == "cosine":
        done = (epoch - run.warmup) / max(run.epochs - run.warmup, 1e-8)
        return run.lr * 0.5 * (1 + math.cos(math.pi * done))
    return run.lr


def epoch_plan(run: Run, epoch: int, n: int, views: int) -> tuple[np.ndarray, np.ndarray]:
    """(order (N,), view of each image (N,)) of one epoch: a function of the run and the epoch alone."""
    rng = run.rng(EPOCH, epoch)
    return rng.permutation(n), rng.integers(views, size=n)


def batch_bounds(n: int, size: int) -> list[tuple[int, int]]:
    """Where batches start and end. A last batch of one would have no batch statistics, so it joins the one before."""
    starts = list(range(0, n, size))
    if len(starts) > 1 and n - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], n], strict=True))


def make_optimizer(run: Run, model: nn.Module) -> torch.optim.Optimizer:
    """The run's optimizer.

    foreach gives the same bits as one parameter after the other, with less Python. fused would be faster still, but
    it takes memory as it lies, and the moments of a resumed run lie in another order than its channels_last weights.
    """
    common = {"lr": run.lr, "weight_decay": run.weight_decay, "foreach": True}
    if run.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=run.momentum, **common)
    return torch.optim.AdamW(model.parameters(), **common)


# ---------------------------------------------------------------------------------------------- the teacher's answers


def uses_table(run: Run, n: int, views: int, classes: int) -> bool:
    """Whether the teacher's logits for all views are computed once instead of at every step.

    A table costs `views` forward passes of the training set, a live teacher `epochs` passes for each student. How many
    students there are a run does not know, and must not: it gives the same bits whatever else is trained, and table
    and live teacher differ in the last ones. So a table is made where two students pay for it. A lone student then
    pays at most twice what a live teacher costs; with more (the studies have 6 to 13) the table only gains.
    """
    return views <= TABLE_SHARED_BY * run.epochs and logit_table.fits((views, n, classes))


def teacher_table(
    path: Path, model: nn.Module, views: AnyViews, classes: int, *, precision: str, stop: Stop
) -> np.ndarray:
    """The teacher's logits for every view and image, (views, N, C), memory-mapped from `path`; computed if missing."""
    model.eval()

    def answer(view: int, start: int, end: int) -> np.ndarray:
        return forward(model, views, np.arange(start, end), view, precision=precision).cpu().numpy()

    shape = (views.count, len(views.labels), classes)
    return logit_table.open_table(path, answer, shape=shape, batch=views.forward_batch, stop=stop)


@torch.inference_mode()
def forward_all(model: nn.Module, views: AnyViews, view: int, *, precision: str = "fp32") -> Tensor:
    """(N, C) float32 logits of a model in eval mode for every sample in one view."""
    model.eval()
    n, device = len(views.labels), views.labels.device
    parts = np.array_split(np.arange(n), range(views.forward_batch, n, views.forward_batch))
    answers = []
    for x in views.feed((index, np.full_like(index, view)) for index in parts):
        with autocast(precision, device):
            answers.append(model(x).float())
    return torch.cat(answers)


@torch.inference_mode()
def forward(model: nn.Module, views: AnyViews, index: np.ndarray, view: int, *, precision: str) -> Tensor:
    """(B, C) float32 logits for samples index (B,) in one view."""
    rows = torch.from_numpy(index).to(views.labels.device)
    with autocast(precision, rows.device):
        return model(views.batch(rows, torch.full_like(rows, view))).float()


def autocast(precision: str, device: torch.device | str) -> torch.autocast:
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=precision == "bf16")


class Teacher:
    """Answers with the teacher's logits for the view that the student sees: from the table, or live."""

    def __init__(self, run: Run, views: AnyViews, classes: int, *, runs_dir: Path, device: str, stop: Stop) -> None:
        self.precision, self.table = run.teacher.precision, None
        model = load_model(runs_dir, run.teacher, classes=classes, device=device, **views.input)
        self.model = model.requires_grad_(False).eval()
        if uses_table(run, len(views.labels), views.count, classes):
            path = table_path(runs_dir, run)
            self.table = teacher_table(path, model, views, classes, precision=self.precision, stop=stop)

    def logits(self, index: np.ndarray, view: np.ndarray, x: Tensor) -> Tensor:
        """(B, C) float32 for images index (B,) in views (B,), which the student sees as x."""
        if self.table is not None:
            return torch.from_numpy(self.table[view, index].astype(np.float32)).to(x.device)
        with torch.no_grad(), autocast(self.precision, x.device):
            return self.model(x).float()


def table_path(runs_dir: Path, run: Run) -> Path:
    """Where the table of a student's teacher stands; students with the same teacher, data and augmentation share it."""
    key = hashlib.sha256(store.to_json([run.data, run.augment])).hexdigest()[:8]
    return runs_dir / "tables" / f"{run.teacher.id[:16]}-{key}-views.npy"


def load_model(runs_dir: Path, run: Run, *, classes: int, device: str = "cpu", **input_: int) -> nn.Module:
    """A trained run's network for data with `input_` (`Views.input`).

    Raises StoreError where its weights are damaged or of another architecture.
    """
    model = models.build(run.model, classes=classes, **input_)
    try:
        model.load_state_dict(load_tensors(store.read_weights(runs_dir, run)))
    except (RuntimeError, ValueError) as error:
        raise StoreError(
            f"the weights of {run} in {store.folder(runs_dir, run)} do not fit {run.model}: {error}"
        ) from error
    return model.to(device, memory_format=torch.channels_last)


# ------------------------------------------------------------------------------------------------------- one training


@dataclass
class State:
    """All that changes while a run trains; what a checkpoint holds."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0  # in the epoch
    seconds: float = 0.0
    history: list[dict[str, float]] | None = None
    losses: list[Tensor] | None = None  # of the current epoch's steps
    best: dict[str, Tensor] | None = None  # weights of the epoch with the best validation accuracy, if the run keeps it
    best_accuracy: float = -1.0


POSITION = ("epoch", "step", "seconds", "history", "best_accuracy")


def save_checkpoint(state: State, path: Path) -> None:
    """Write the state behind the sha256 of its bytes; the checkpoint before it stays until this one is whole."""
    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    for i, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": value for name, value in values.items() if isinstance(value, Tensor)}
    tensors |= {f"best.{name}": value for name, value in (state.best or {}).items()}
    tensors["losses"] = torch.stack(state.losses) if state.losses else torch.zeros(0)
    position = json.dumps({name: getattr(state, name) for name in POSITION})
    payload = save_tensors(
        {name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata={"position": position}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    store.replace_file(path, hashlib.sha256(payload).hexdigest().encode() + payload)


def load_checkpoint(state: State, path: Path) -> bool:
    """Bring `state` to where the checkpoint was. False, and nothing changed, if there is none or it is damaged."""
    raw = path.read_bytes() if path.is_file() else b""
    payload = raw[64:]
    if not payload or hashlib.sha256(payload).hexdigest().encode() != raw[:64]:
        return False
    header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
    tensors = load_tensors(payload)
    state.model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, i, name = key.split(".", 2)
            moments.setdefault(int(i), {})[name] = value
    state.optimizer.load_state_dict({"state": moments, "param_groups": state.optimizer.state_dict()["param_groups"]})
    position = json.loads(header["__metadata__"]["position"])
    for name in POSITION:
        setattr(state, name, position[name])
    state.best = {k.removeprefix("best."): v for k, v in tensors.items() if k.startswith("best.")} or None
    state.losses = list(tensors["losses"].unbind())
    return True


@lru_cache(maxsize=3)
def _load(dataset: str, options: str, root: str | None, split: str) -> data.Split:
    return data.load(dataset, split, root=root, **json.loads(options))


def train_run(
    run: Run, *, runs_dir: Path, data_root: Path | str | None = None, device: str = "cpu", stop: Stop = lambda: False
) -> None:
    """Train one run and store it; returns when it is on disk, at once if it was.

    stop is asked before every step: when it says so, a checkpoint is written and Stopped raised. Started again, the
    run goes on and ends with the same bits (on CPU). Raises TrainingFailed, after recording it, for a loss that is
    not finite; StoreError where the disk refuses; DataError where the data set is not there.
    """
    runs_dir = Path(runs_dir)
    with store.locked(runs_dir, run, stop=stop):
        if store.state(runs_dir, run) == "done":
            return
        parts = {part: _part(run, part, data_root) for part in DATASETS[run.dataset].parts}
        train = parts.pop("train")
        views = make_views(train, augment=run.augment, pad=DATASETS[run.dataset].pad, device=device)
        others = {part: split for part, split in parts.items() if len(split.y)}
        judge = make_views(others["validation"], like=views, device=device) if keeps_best(run, others) else None
        model = _fit(run, views, len(train.class_names), judge=judge, runs_dir=runs_dir, device=device, stop=stop)
        arrays = {}
        for part, split in others.items():
            prefix = "" if part == "test" else f"{part}:"
            found = _arrays(split, lambda x, split=split: _answers(run, model.model, replace(split, x=x), like=views))
            arrays |= {prefix + name: values for name, values in found.items()}
        if not np.isfinite(arrays["logits"]).all():  # the very last steps can ruin weights, their losses still fine
            raise _failed(run, runs_dir, "the logits of the trained network are not finite")
        store.save(
            runs_dir,
            run,
            arrays=arrays,
            weights=_weights(model.model),
            provenance=_provenance(model, device, len(train.y)),
        )


def _part(run: Run, part: str, data_root: Path | str | None) -> data.Split:
    return _load(run.dataset, json.dumps(run.data, sort_keys=True), data_root and str(data_root), part)


def keeps_best(run: Run, parts: Iterable[str]) -> bool:
    """Whether the run ends with the weights of its best epoch. Raises DataError without a part that can tell."""
    if DATASETS[run.dataset].best_epoch and "validation" not in parts:
        raise DataError(f"{run.dataset} has no validation part here, by which {run} would choose its best epoch.")
    return DATASETS[run.dataset].best_epoch


def _fit(
    run: Run, views: AnyViews, classes: int, *, judge: AnyViews | None, runs_dir: Path, device: str, stop: Stop
) -> State:
    model = models.seeded(
        lambda: models.build(run.model, classes=classes, init=run.init, **views.input),
        int(run.rng(INIT).integers(2**63)),
    )
    model = model.to(device, memory_format=torch.channels_last)
    state = State(model, make_optimizer(run, model), history=[], losses=[])
    checkpoint = store.partial(runs_dir, run) / "checkpoint"
    load_checkpoint(state, checkpoint)
    teacher = Teacher(run, views, classes, runs_dir=runs_dir, device=device, stop=stop) if run.teacher else None
    saved = started = time.monotonic()
    before = state.seconds
    while state.epoch < run.epochs:
        model.train()
        for _ in _steps(run, state, views, teacher):
            now = time.monotonic()
            state.seconds = before + now - started
            if (stopping := stop()) or now - saved > CHECKPOINT_SECONDS:
                save_checkpoint(state, checkpoint)
                saved = now
            if stopping:
                raise Stopped
        _close_epoch(run, state, runs_dir, judge)
    if state.best:
        model.load_state_dict(state.best)
    return state


def _steps(run: Run, state: State, views: AnyViews, teacher: Teacher | None):
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
        loss = run.loss_scale * loss_of(run, logits, answers, y)
        if step == 0:
            state.history.append({"epoch": state.epoch, **gradient_norms(run, logits.detach(), answers, y)})
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        state.losses.append(loss.detach())
        state.step = step + 1
        yield


def loss_of(run: Run, logits: Tensor, answers: Tensor | None, labels: Tensor) -> Tensor:
    if run.teacher is None:
        return F.cross_entropy(logits, labels)
    return losses.distillation_loss(
        logits, answers, labels, temperature=run.temperature, alpha=run.alpha, t_squared=run.t_squared
    )


def gradient_norms(run: Run, logits: Tensor, answers: Tensor | None, labels: Tensor) -> dict[str, float]:
    """Norm of the gradient of each term of the loss with respect to a batch's logits (B, C)."""
    z = logits.clone().requires_grad_()
    if run.teacher is None:
        terms = {"labels": F.cross_entropy(z, labels)}
    else:
        soft, hard = losses.distillation_terms(
            z, answers, labels, temperature=run.temperature, alpha=run.alpha, t_squared=run.t_squared
        )
        terms = {"teacher": soft, "labels": hard}
    return {
        f"gradient_{k}": torch.autograd.grad(term, z, retain_graph=True)[0].norm().item() for k, term in terms.items()
    }


def _close_epoch(run: Run, state: State, runs_dir: Path, judge: AnyViews | None) -> None:
    """Note the epoch's mean loss, and its validation accuracy where that decides which weights are kept.

    A loss that is not finite ends the run; asked once an epoch, it costs no waiting.
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
    return TrainingFailed(
        f"{run}: {reason}. Lower the learning rate ({run.lr:g}), or train it again with --retry-failed."
    )


def _weights(model: nn.Module) -> bytes:
    return save_tensors({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})


def _answers(run: Run, model: nn.Module, test: data.Split, *, like: Views) -> np.ndarray:
    """(N, C) logits for the samples of a split."""
    views = make_views(test, like=like, device=like.labels.device)
    return forward_all(model, views, 0, precision=run.precision).cpu().numpy()


def _arrays(test: data.Split, answers: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    """What is stored of a run for one part; answers: x (N, ...) -> logits (N, C)."""
    return {
        "logits": answers(test.x),
        "labels": test.y,
        "sample_ids": test.ids,
        "class_names": np.array(test.class_names),
        **{f"group:{name}": np.asarray(values) for name, values in test.groups.items()},
        **({} if test.features is None else {"features": test.features}),
        **{f"twin:{feature}": answers(images) for feature, images in test.twins.items()},
    }


def _provenance(state: State, device: str, train_images: int) -> dict[str, Any]:
    hardware = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
    return {
        "device": device,
        "hardware": hardware,
        "torch": torch.__version__,
        "seconds": round(state.seconds, 3),
        "date": time.strftime("%Y-%m-%d"),
        "train_images": train_images,
        "history": state.history,
    }


def prepare_process() -> None:
    """One thread, and freed memory kept: for a process that only trains, since both last as long as it does.

    By default glibc hands the large activations back to the system at every step and gets them anew, zeroed page by
    page: half of LeNet-5's step at 224 pixels. Other C libraries are left as they are.
    """
    torch.set_num_threads(1)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def choose_device(wanted: str) -> str:
    """'cpu', or 'cuda' where it is there and wanted ('auto' or 'cuda'). Raises InvalidInput for an absent GPU."""
    if wanted not in ("auto", "cpu", "cuda"):
        raise InvalidInput(f"unknown device {wanted!r}; valid: auto, cpu, cuda.")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("device 'cuda' was asked for, but torch finds no GPU here. Use device 'auto' or 'cpu'.")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
