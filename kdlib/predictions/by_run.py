"""Probabilities of R runs without R x N x C numbers in memory: a sequence whose arrays are read when asked for.

`p.probabilities[run]` is (N, C), read from the run's folder or from the released file, and gone when nobody holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kdlib import files


@dataclass(eq=False)
class OneRun:
    """The probabilities of one run.

    read    gives them, (N, C) float
    shape   (N, C)
    fit     the predicted classes (N,) that they are known to fit; None before anyone compared them
    """

    read: Callable[[], np.ndarray]
    shape: tuple[int, ...]
    fit: np.ndarray | None = None

    @cached_property
    def digest(self) -> str:
        """Of two runs the same where every probability is."""
        return files.sha256(self.read().ravel())

    def of_samples(self, keep: np.ndarray) -> OneRun:
        fit = None if self.fit is None else self.fit[keep]
        return OneRun(lambda: self.read()[keep], (len(keep), *self.shape[1:]), fit)


class ByRun(Sequence[np.ndarray]):
    """R arrays (N, C), each read anew whenever it is asked for; a slice is another `ByRun`."""

    def __init__(self, runs: Iterable[OneRun]) -> None:
        self.runs = tuple(runs)

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, row: int | slice) -> np.ndarray | ByRun:
        return self.take(row) if isinstance(row, slice) else self.runs[row].read()

    def take(self, rows: np.ndarray | slice) -> ByRun:
        """The runs at these positions; nothing is read."""
        return ByRun(self.runs[row] for row in np.arange(len(self))[rows])

    def of_samples(self, keep: np.ndarray) -> ByRun:
        """The samples at these positions; nothing is read."""
        return ByRun(run.of_samples(keep) for run in self.runs)
