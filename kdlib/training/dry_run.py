"""Anyone's own networks are tried on two samples before anything is trained, so that a study does not fail halfway."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kdlib import data, models, own_models, store
from kdlib.errors import InvalidInput
from kdlib.studies import Run
from kdlib.training.checkpoint import packed
from kdlib.training.views import make_views


def check(run: Run, runs_dir: Path) -> None:
    """Build the run's network, and try it on two test samples of its data.

    Raises InvalidInput for one that cannot be built, fails, gives other than (2, classes) logits, has no weights that
    learn, or shares tensors, which a run's file cannot hold; DataError where the data are not there.
    """
    split, name = data.load(run.dataset, "test", **run.data), run.model.partition("@")[0]
    two = {key: getattr(split, key)[:2] for key in ("ids", "x", "y")}
    views, classes = make_views(replace(split, **two, twins={}, features=None)), len(split.class_names)
    source = store.read_code(runs_dir, run.model)
    build = partial(models.build, run.model, source=source, classes=classes, init=run.init, **views.input)
    network = models.seeded(build, 0)
    (x,) = views.feed([(np.arange(2), np.zeros(2, np.int64))])
    for training in (False, True):
        logits = _answer(network.train(training), x, name)
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if shape != (2, classes):
            raise InvalidInput(f"{name} gives {shape} for {tuple(x.shape)}; it has to give logits {(2, classes)}.")
    if not logits.requires_grad:
        raise InvalidInput(f"{name} has no weights that learn: its logits depend on no parameter.")
    try:
        packed(network.state_dict())
    except RuntimeError as error:
        raise InvalidInput(f"the weights of {name} cannot be saved: {own_models.told(error)}.") from error


def _answer(network: nn.Module, x: Tensor, name: str) -> object:
    try:
        with torch.random.fork_rng(devices=[]):
            return network(x)
    except Exception as error:
        raise InvalidInput(f"{name} fails on a batch {tuple(x.shape)}: {own_models.told(error)}.") from error
