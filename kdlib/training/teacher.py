"""What a student learns from: its teacher's logits for the view that the student sees, from a table or live."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kdlib import files
from kdlib.studies import Run
from kdlib.training import logit_table
from kdlib.training.inference import autocast, forward, load_model
from kdlib.training.logit_table import Stop
from kdlib.training.views import AnyViews

TABLE_SHARED_BY = 2  # students that share a teacher's table, at the least: see `uses_table`


def uses_table(run: Run, n: int, views: int, classes: int) -> bool:
    """Whether the teacher's logits for all views are computed once instead of at every step.

    A table costs `views` forward passes of the training set, a live teacher `epochs` passes for each student. A run
    does not know how many students there are, and must not: it gives the same bits whatever else is trained, and table
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
        index = np.arange(start, end)
        return next(forward(model, views, [(index, np.full_like(index, view))], precision=precision)).cpu().numpy()

    shape = (views.count, len(views.labels), classes)
    return logit_table.open_table(path, answer, shape=shape, batch=views.forward_batch, stop=stop)


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
    key = files.sha256(files.to_json([run.data, run.augment]))[:8]
    return runs_dir / "tables" / f"{run.teacher.id[:16]}-{key}-views.npy"
