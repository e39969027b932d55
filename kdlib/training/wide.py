"""Several narrow networks of one shape as a single wide one, for GPUs.

A convolution of 16 channels leaves most of a GPU's matrix units idle, and takes as long as one of 64. So the channels
of several networks lie side by side. Each answers from its own channels alone: convolutions are block-diagonal, and
what would mix networks stays 0.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from kdlib.models import CifarResNet, LeNet5

NARROW = (CifarResNet, LeNet5)  # whose layers are all known here


class Linears(nn.Module):
    """Linear layers side by side: (B, networks * inputs) -> (B, networks * outputs)."""

    def __init__(self, networks: int, one: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(one.weight.new_zeros(networks, *one.weight.shape))
        self.bias = nn.Parameter(one.bias.new_zeros(networks, *one.bias.shape))

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (len(self.weight), -1)).transpose(0, 1)  # (networks, B, inputs)
        return (x @ self.weight.transpose(1, 2) + self.bias[:, None]).transpose(0, 1).flatten(1)


def widened(networks: list[nn.Module]) -> nn.Module:
    """A network that maps (B, networks * channels, H, W) to (B, networks * C), with the weights of these."""
    count, wide = len(networks), copy.deepcopy(networks[0])
    for name, module in [*wide.named_modules()]:
        parent, _, last = name.rpartition(".")
        if new := _side_by_side(module, count):
            setattr(wide.get_submodule(parent), last, new)
        elif hasattr(module, "networks"):
            module.networks = count
    wide.to(networks[0].get_parameter(next(iter(networks[0].named_parameters()))[0]).device)
    wide.to(memory_format=torch.channels_last)
    with torch.no_grad():
        for name, value in wide.state_dict().items():
            for at, network in enumerate(networks):
                own = network.state_dict()[name]
                part(value, own, at).copy_(own)
    return wide.train(networks[0].training)


def _side_by_side(module: nn.Module, count: int) -> nn.Module | None:
    """A layer of zeros for `count` networks; None for what is the same for all."""
    if isinstance(module, nn.Conv2d):
        about = {name: getattr(module, name) for name in ("stride", "padding")}
        bias = module.bias is not None
        new = nn.Conv2d(count * module.in_channels, count * module.out_channels, module.kernel_size, bias=bias, **about)
        nn.init.zeros_(new.weight)
        return new
    if isinstance(module, nn.BatchNorm2d):
        return nn.BatchNorm2d(count * module.num_features, eps=module.eps, momentum=module.momentum)
    return Linears(count, module) if isinstance(module, nn.Linear) else None


def part(whole: Tensor, own: Tensor, at: int) -> Tensor:
    """Where in a wide network's tensor that of network number `at` lies, `own` being as large: a view."""
    if whole.shape == own.shape:  # one for all: how many batches were seen
        return whole
    if whole.shape[1:] == own.shape:
        return whole[at]
    there = whole[at * len(own) : (at + 1) * len(own)]
    return there[:, at * own.shape[1] : (at + 1) * own.shape[1]] if whole.ndim == 4 else there


def masks(wide: nn.Module, one: nn.Module) -> dict[str, Tensor]:
    """{name of a convolution's weight: 1 where it belongs to a network, 0 where it would mix two}."""
    found = {}
    for name, weight in wide.named_parameters():
        if weight.ndim == 4:
            own = one.get_parameter(name)
            found[name] = torch.zeros_like(weight)
            for at in range(len(weight) // len(own)):
                part(found[name], own, at).fill_(1)
    return found
