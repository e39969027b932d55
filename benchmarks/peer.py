"""torchdistill's training loop, used as its image-classification example uses it, on the nets and images of a case.

Data loading (Pillow, one image at a time), the distillation box with its hooks, KDLoss, the metric logger and the loss
read at every step are torchdistill's and its example's. num_workers is 0: each loop here has one core to itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from cases import Case, build, synthetic_images, with_slices
from PIL import Image
from torch.utils.data import Dataset, RandomSampler
from torchdistill.core.distillation import get_distillation_box
from torchdistill.misc.log import MetricLogger, SmoothedValue
from torchvision import transforms

CPU = torch.device("cpu")


class Pictures(Dataset):
    """Images in memory, transformed when asked for, as torchvision's CIFAR classes do it."""

    def __init__(self, case: Case) -> None:
        x, self.labels = synthetic_images(case, case.images)
        self.images = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        crop = [transforms.RandomCrop(case.size, padding=case.crop)] if case.crop else []
        flip = [transforms.RandomHorizontalFlip()] if case.flip else []
        normalize = transforms.Normalize((0.5, 0.5, 0.5), (0.29, 0.29, 0.29))
        self.transform = transforms.Compose([*crop, *flip, transforms.ToTensor(), normalize])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def config(case: Case) -> dict:
    """The `train` part of a torchdistill configuration. Its alpha weights the labels, where kdlib's is 0.8."""
    logits = {f"{who}_module_{what}": value for who in ("student", "teacher") for what, value in PLACE.items()}
    term = {"key": "KDLoss", "kwargs": {**logits, "temperature": 4.0, "alpha": 0.2, "reduction": "batchmean"}}
    return {
        "num_epochs": case.epochs,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": RandomSampler},
            "kwargs": {"batch_size": case.batch, "num_workers": 0, "drop_last": False},
        },
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only"},
        "optimizer": {"key": "SGD", "kwargs": {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.001}},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": term, "weight": 1.0}}},
        },
    }


PLACE = {"path": ".", "io": "output"}


def steps(case: Case, precision: str) -> Iterator[int]:
    """Train a student, yielding the number of images of each step. bf16: its forward passes under autocast."""
    teacher, student = with_slices(build(case, case.teacher)).eval(), with_slices(build(case, case.student))
    box = get_distillation_box(teacher, student, {"train": Pictures(case)}, config(case), CPU, None, False, 1)
    epoch = 0
    while True:
        box.pre_epoch_process(epoch=epoch)
        log = MetricLogger(delimiter="  ")
        log.add_meter("lr", SmoothedValue(window_size=1, fmt="{value}"))
        for images, labels, extra in log.log_every(box.train_data_loader, 1000, f"Epoch: [{epoch}]"):
            images, labels = images.to(CPU), labels.to(CPU)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
                loss = box.forward_process(images, labels, extra)
            box.post_forward_process(loss=loss)
            log.update(loss=loss.item(), lr=box.optimizer.param_groups[0]["lr"])
            if torch.isnan(loss) or torch.isinf(loss):
                raise ValueError(f"the loss of torchdistill's loop is {loss}")
            yield len(images)
        box.post_epoch_process()
        epoch += 1
