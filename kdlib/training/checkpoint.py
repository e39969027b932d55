"""The state of a run in training, and its file: written whole, verified when read, resumed to the same bits."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from kdlib import files, store


@dataclass
class State:
    """All that changes while a run trains; what a checkpoint holds."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0  # in the epoch
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)  # of the current epoch's steps
    best: dict[str, Tensor] | None = None  # weights of the epoch with the best validation accuracy, if the run keeps it
    best_accuracy: float = -1.0
    teacher: str | None = None  # sha256 of its weights
    data: dict[str, str] | None = None  # sha256 of each part


POSITION = ("epoch", "step", "seconds", "history", "best_accuracy", "teacher", "data")


def save_checkpoint(state: State, path: Path) -> None:
    """Write the state behind the sha256 of its bytes; the checkpoint before it stays until this one is whole."""
    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    for i, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": value for name, value in values.items() if isinstance(value, Tensor)}
    tensors |= {f"best.{name}": value for name, value in (state.best or {}).items()}
    tensors["losses"] = torch.stack(state.losses) if state.losses else torch.zeros(0)
    position = json.dumps({name: getattr(state, name) for name in POSITION})
    files.write_sealed(path, packed(tensors, position=position))


def packed(tensors: dict[str, Tensor], **about: str) -> bytes:
    """A safetensors file of what may lie on any device; about: its metadata."""
    return save_tensors({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, about or None)


def load_checkpoint(state: State, path: Path) -> None:
    """Bring `state` to where the checkpoint was.

    Nothing changes if there is none, it is damaged, or of another teacher or other data.
    """
    payload = files.read_sealed(path)
    if payload is None:
        return
    header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
    learned_from = {"teacher": state.teacher, "data": state.data}
    position = learned_from | json.loads(header["__metadata__"]["position"])  # older ones do not say
    if any(position[name] != value for name, value in learned_from.items()):
        return
    tensors = load_tensors(payload)
    state.model.load_state_dict(store.under("model.", tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in store.under("optimizer.", tensors).items():
        i, name = key.split(".", 1)
        moments.setdefault(int(i), {})[name] = value
    state.optimizer.load_state_dict({"state": moments, "param_groups": state.optimizer.state_dict()["param_groups"]})
    for weight, values in state.optimizer.state.items():
        for name, value in values.items():
            if value.shape == weight.shape:  # lie as the weight does, which the optimizer of a GPU counts on
                values[name] = torch.empty_like(weight).copy_(value)
    for name in POSITION:
        setattr(state, name, position[name])
    state.best = store.under("best.", tensors) or None
    state.losses = list(tensors["losses"].unbind())
