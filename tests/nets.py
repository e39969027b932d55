"""What tests ask of networks."""

from torch import nn


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers in a network."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
