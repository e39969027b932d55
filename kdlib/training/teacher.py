"""What a student learns from: its teacher's logits for the view that the student sees, from a table or live."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdlib import files, store
from kdlib.studies import Run
from kdlib.training import logit_table
from kdlib.training.inference import Stop, autocast, forward_all, load_model
from kdlib.training.process import shared
from kdlib.training.views import AnyViews

TABLE_SHARED_BY = 2  # students that share a teacher's table, at the least: see `uses_table`

_filling: set[Path] = set()  # tables that a run in this process fills: its lock would keep another one here for ever


def uses_table(run: Run, n: int, views: int, classes: int) -> bool:
    """Whether the teacher's logits for all views are computed once instead of at every step.

    A table costs `views` forward passes of the training set, a live teacher `epochs` passes for each student. A run
    does not know how many students there are, and must not: it gives the same bits whatever else is trained, and table
    and live teacher differ in the last ones. So a table is made where two students pay for it. A lone student then
    pays at most twice what a live teacher costs; with more (the studies have 6 to 13) the table only gains.
    """
    return views <= TABLE_SHARED_BY * run.epochs and logit_table.fits((views, n, classes))


class Teacher:
    """Answers with the teacher's logits for the view that the student sees: from the table, once filled, or live."""

    def __init__(self, run: Run, views: AnyViews, classes: int, *, seen: str, runs_dir: Path, stop: Stop) -> None:
        self.precision, self.views, self.stop = run.teacher.precision, views, stop
        self.sha256 = store.weights_sha256(runs_dir, run.teacher)
        model = load_model(runs_dir, run.teacher, classes=classes, device=views.labels.device, **views.input)
        self.model = model.requires_grad_(False).eval()
        self.shape = views.count, len(views.labels), classes
        has_table = uses_table(run, len(views.labels), views.count, classes)
        self.path = table_path(runs_dir, run, seen) if has_table else None
        self.table: list[np.ndarray] | Tensor | None = None  # of each view on the host, or of all on the GPU

    def fill(self) -> Iterator[None]:
        """Compute what is missing of the table, and open it: a view at a time, once for all its students here."""
        if self.path is None:
            return
        while self.path in _filling:
            yield
        _filling.add(self.path)
        try:
            self.table = yield from logit_table.open_table(self.path, self._answer, shape=self.shape, stop=self.stop)
        finally:
            _filling.discard(self.path)
        device = self.views.labels.device
        if device.type == "cuda" and sum(view.nbytes for view in self.table) < torch.cuda.mem_get_info()[0] / 2:
            self.table = shared(self.path, lambda: _on(device, self.table), device)

    def _answer(self, view: int) -> np.ndarray:
        return forward_all(self.model, self.views, view, precision=self.precision, stop=self.stop).cpu().numpy()

    def logits(self, index: np.ndarray | Tensor, view: np.ndarray | Tensor, x: Tensor) -> Tensor:
        """(B, C) float32 for images index (B,) in views (B,), which the student sees as x.

        index and view are arrays in the eager loop, tensors on the device in a recorded step.
        """
        if isinstance(self.table, Tensor):
            return self.table[view, index].float()
        if self.table is not None:
            rows = [self.table[v][i] for v, i in zip(view, index, strict=True)]
            return torch.from_numpy(np.array(rows, np.float32)).to(x.device)
        with torch.no_grad(), autocast(self.precision, x.device):
            return self.model(x).float()


def _on(device: torch.device, table: list[np.ndarray]) -> Tensor:
    """(views, N, C) on a device."""
    whole = torch.empty((len(table), *table[0].shape), dtype=torch.from_numpy(table[0][:0].copy()).dtype, device=device)
    for mine, view in zip(whole, table, strict=True):
        mine.copy_(torch.from_numpy(view.copy()))
    return whole


def table_path(runs_dir: Path, run: Run, seen: str) -> Path:
    """The table of a student's teacher; students with the same teacher, data and augmentation share it.

    seen: the sha256 of the training data. It and the teacher's weights are in the name: those with the same id may be
    others, replaced or made on another machine.
    """
    key = files.sha256(files.to_json([seen, run.augment, store.weights_sha256(runs_dir, run.teacher)]))[:16]
    return runs_dir / "tables" / f"{run.teacher.id[:16]}-{key}"
