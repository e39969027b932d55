"""What is raced: pairs of the paper at their own size, their networks and images that anyone can make.

What is in the pictures does not change what a step costs, so they are noise of the right shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kdlib import models


@dataclass(frozen=True)
class Case:
    """A pair of the paper at its own size. images: in the bench; study_images: what whole studies are counted at."""

    title: str
    teacher: str
    student: str
    size: int
    classes: int
    batch: int
    temperatures: int
    images: int
    study_images: int
    crop: int = 4
    flip: bool = True
    epochs: int = 100

    @property
    def views(self) -> int:
        return (2 * self.crop + 1) ** 2 * (1 + self.flip)


CASES = {
    "a": Case("ResNet-56 to ResNet-20, 32 px", "resnet56", "resnet20", 32, 100, 128, 12, 2560, 50_000),
    "b": Case("ResNet-20 to LeNet-5, 224 px", "resnet20", "lenet5", 224, 10, 64, 12, 320, 6_000),
    "b-plain": Case(
        "ResNet-20 to LeNet-5, 224 px, no augmentation", "resnet20", "lenet5", 224, 10, 64, 12, 320, 6_000, 0, False
    ),
}


def synthetic_images(case: Case, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(images (N, 3, size, size) uint8, labels (N,)): noise."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (n, 3, case.size, case.size), dtype=np.uint8)
    return x, np.arange(n) % case.classes


def build(case: Case, name: str) -> torch.nn.Module:
    return models.seeded(lambda: models.build(name, classes=case.classes, image_size=case.size), 0)


def with_slices(model: torch.nn.Module) -> torch.nn.Module:
    """A net that is not channels_last: there slices, as others write the shortcut, are faster."""
    for block in model.modules():
        if isinstance(block, models.Block):
            block.subsample = lambda x, stride=block.stride: x[:, :, ::stride, ::stride]
    return model
