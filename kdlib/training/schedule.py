"""When a run does what: the learning rate, the order and views of each epoch, the bounds of batches, the optimizer."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from kdlib.studies import Run

INIT, EPOCH, STEP = 0, 1, 2  # random streams of a run


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
    """The run's optimizer: all weights at once, SGD on a GPU in one kernel.

    On CPU that kernel ("fused") would change the last bits of what was trained before; foreach gives the same as one
    parameter after the other.
    """
    common = {"lr": run.lr, "weight_decay": run.weight_decay}
    if run.optimizer == "sgd":
        fused = next(model.parameters()).device.type == "cuda"
        return torch.optim.SGD(model.parameters(), momentum=run.momentum, foreach=not fused, fused=fused, **common)
    return torch.optim.AdamW(model.parameters(), foreach=True, **common)
