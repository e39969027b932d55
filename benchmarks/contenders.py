"""What is raced: a case (two nets, image size, recipe) and the loops that train its student, one step at a time.

Every loop is a generator of steps on synthetic images of the right shape: what is in the pictures does not change what
a step costs. kdlib's loop is the library's own, with single levers taken away where a contender says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cases import Case, build, synthetic_images, with_slices
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as picture

from kdlib import data, store
from kdlib.studies import Run
from kdlib.training import checkpoint, inference, logit_table, loop, schedule
from kdlib.training.process import through
from kdlib.training.teacher import Teacher, table_path
from kdlib.training.views import Views
from kdlib.training.views import make_views as views_of

LEVERS = {
    "table": "the teacher's logits from its table",
    "augmentation": "crop and flip on tensors",
    "memory": "memory kept between steps",
    "layout": "channels_last",
    "optimizer": "optimizer over all weights at once",
}


@dataclass(frozen=True)
class Contender:
    """loop: 'torchdistill', 'kdlib', or 'table' (the forward passes that fill it); off: levers that are taken away."""

    loop: str
    precision: str = "fp32"
    off: tuple[str, ...] = ()
    images: int = 0  # 0: as many as the case says

    def __str__(self) -> str:
        without = f" without {' and '.join(self.off)}" if self.off else ""
        return f"{self.loop} {self.precision}{without}" + (f", {self.images} images" if self.images else "")

    @property
    def prepared(self) -> bool:
        return self.loop != "torchdistill" and "memory" not in self.off

    def steps(self, case: Case) -> Iterator[int]:
        """Take step after step, yielding the number of images of each."""
        if self.loop == "torchdistill":
            import peer  # which needs torchdistill

            return peer.steps(case, self.precision)
        return table_steps(case, self.precision) if self.loop == "table" else kdlib_steps(case, self)


def make_run(case: Case, precision: str, *, teacher: Run | None = None) -> Run:
    """The run of one student, or of its teacher."""
    distilled = {"temperature": 4.0, "alpha": 0.8, "t_squared": True} if teacher else {}
    return Run(
        **{"temperature": None, "alpha": None, "t_squared": None, **distilled},
        dataset="synthetic",
        data={"images": case.images},
        model=case.student if teacher else case.teacher,
        role="ds" if teacher else "teacher",
        seed=0,
        teacher=teacher,
        loss_scale=1.0,
        epochs=case.epochs,
        batch_size=case.batch,
        optimizer="sgd",
        lr=0.01,
        momentum=0.9,
        weight_decay=0.001,
        schedule={"name": "constant"},
        warmup=0.0,
        augment={"crop": case.crop, "flip": case.flip},
        init="scratch",
        precision=precision,
    )


def make_views(case: Case, n: int, *, off: tuple[str, ...] = ()) -> Views:
    x, y = synthetic_images(case, n)
    names = tuple(f"class {i}" for i in range(case.classes))
    split = data.Split(np.arange(n).astype(str), x, y, {}, names)
    views = views_of(split, augment={"crop": case.crop, "flip": case.flip})
    kind = PillowViews if "augmentation" in off else PlainViews if "layout" in off else Views
    return kind(**vars(views))


class PlainViews(Views):
    """Views whose batches lie as PyTorch lays them out by default."""

    def batch(self, index: Tensor, view: Tensor) -> Tensor:
        return super().batch(index, view).contiguous()


class PillowViews(Views):
    """Views made one image at a time with Pillow, as data loaders make them."""

    def batch(self, index: Tensor, view: Tensor) -> Tensor:
        return torch.stack([self.one(i, v) for i, v in zip(index.tolist(), view.tolist(), strict=True)])

    def one(self, index: int, view: int) -> Tensor:
        (height, width), side, position = self.size, 2 * self.crop + 1, view // (1 + self.flip)
        inner = self.images[index, :, self.crop : self.crop + height, self.crop : self.crop + width]
        image = picture.pad(Image.fromarray(inner.permute(1, 2, 0).contiguous().numpy()), self.crop)
        image = picture.crop(image, position // side, position % side, height, width)
        image = picture.to_tensor(picture.hflip(image) if self.flip and view % 2 else image)
        return picture.normalize(image, (self.mean.flatten() / 255).tolist(), (self.std.flatten() / 255).tolist())


def empty_table(home: Path, shape: tuple[int, int, int]) -> None:
    """A finished logit table of zeros, so that steps can be measured without the hours that filling it takes."""
    through(logit_table.open_table(home, lambda view: np.zeros(shape[1:]), shape=shape, stop=lambda: False))


def kdlib_steps(case: Case, contender: Contender) -> Iterator[int]:
    """kdlib's own steps of one student."""
    off, n = contender.off, contender.images or case.images
    run = make_run(case, contender.precision, teacher=make_run(case, contender.precision))
    views = make_views(case, n, off=off)
    student = build(case, case.student)
    layout = torch.contiguous_format if "layout" in off else torch.channels_last
    student.to(memory_format=layout)
    state = checkpoint.State(student, schedule.make_optimizer(run, student))
    for group in state.optimizer.param_groups:
        group["foreach"] = "optimizer" not in off
    with tempfile.TemporaryDirectory() as folder:
        runs_dir = Path(folder)
        weights = checkpoint.packed(build(case, case.teacher).state_dict())
        store.save(runs_dir, run.teacher, arrays={"logits": np.zeros((1, 1))}, weights=weights, provenance={})
        empty_table(table_path(runs_dir, run, "drawn"), (case.views, n, case.classes))
        teacher = Teacher(run, views, case.classes, seen="drawn", runs_dir=runs_dir, stop=lambda: False)
        through(teacher.fill())
        teacher.model.to(memory_format=layout)
        if "layout" in off:
            student, teacher.model = with_slices(student), with_slices(teacher.model)
        if "table" in off:
            teacher.table = None
        state.model.train()
        while True:
            bounds = schedule.batch_bounds(n, run.batch_size)
            for (start, end), _ in zip(bounds, loop._steps(run, state, views, teacher), strict=True):
                yield end - start
            state.epoch, state.step, state.losses = (state.epoch + 1) % run.epochs, 0, []


def table_steps(case: Case, precision: str) -> Iterator[int]:
    """The forward passes that fill the teacher's table, a batch per step."""
    views = make_views(case, case.images)
    model = build(case, case.teacher).to(memory_format=torch.channels_last).eval()
    batch = views.forward_batch
    rng = np.random.default_rng(0)
    while True:
        start = int(rng.integers(case.images - batch + 1))
        view = int(rng.integers(views.count))
        index = np.arange(start, start + batch)
        (x,) = views.feed([(index, np.full_like(index, view))])
        with torch.inference_mode(), inference.autocast(precision, "cpu"):
            model(x).float()
        yield batch
