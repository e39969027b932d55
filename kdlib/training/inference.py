"""Answers of a trained network: logits for samples in one view, and a stored run's network.

Precision is the run's own; logits are float32.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from kdlib import models, store
from kdlib.errors import Damaged
from kdlib.files import Stopped
from kdlib.studies import Run
from kdlib.training.views import AnyViews

Stop = Callable[[], bool]
Device = torch.device | str


@torch.inference_mode()
def forward_all(
    model: nn.Module, views: AnyViews, view: int, *, precision: str = "fp32", stop: Stop = lambda: False
) -> Tensor:
    """(N, C) float32 logits of a model in eval mode for every sample in one view.

    stop is asked before every batch. Raises Stopped when it says so.
    """
    model.eval()
    n, size = len(views.labels), views.forward_batch
    parts = np.array_split(np.arange(n), range(size, n, size))
    logits = []
    for x in views.feed([(index, np.full_like(index, view)) for index in parts]):
        if stop():
            raise Stopped
        with autocast(precision, x.device):
            logits.append(model(x).float())
    return torch.cat(logits)


def autocast(precision: str, device: Device) -> torch.autocast:
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=precision == "bf16")


def load_model(runs_dir: Path, run: Run, *, classes: int, device: Device = "cpu", **input_: int) -> nn.Module:
    """A trained run's network for data with `input_` (`Views.input`).

    Raises StoreError where its weights are damaged or of another architecture.
    """
    model = models.build(run.model, source=store.read_code(runs_dir, run.model), classes=classes, **input_)
    try:
        model.load_state_dict(load_tensors(store.read_weights(runs_dir, run)))
    except (RuntimeError, ValueError, SafetensorError) as error:
        home = store.folder(runs_dir, run)
        raise Damaged(f"the weights of {run} in {home} do not fit {run.model}: {error}") from error
    return model.to(device, memory_format=torch.channels_last)
