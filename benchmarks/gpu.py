"""How fast a GPU trains: single launches in one or more processes, CUDA graphs on streams, and packs in a wide network.

    python benchmarks/gpu.py eager|graphs|packs|teachers|large        on a machine with a GPU, a minute each at most

Prints a line of JSON for each measurement: image-students a second of all runs together, in the library's own steps on
random images, the teacher's table on the device. results/gpu.csv has what an H100 gave, results/gpu.json on which
machine and what was trained there.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor

from kdlib import models
from kdlib.studies import Run
from kdlib.training import cuda, loop, process, schedule
from kdlib.training.checkpoint import State
from kdlib.training.views import Views

IMAGES, CLASSES, SECONDS = 50_000, 100, 2.0


def make_run(model: str, role: str, batch: int) -> Run:
    """A run of the paper's recipe."""
    teacher = make_run("resnet56", "teacher", batch) if role == "ds" else None
    distilled = {"temperature": 4.0, "alpha": 0.8, "t_squared": True} if role == "ds" else {}
    return Run(
        **{"temperature": None, "alpha": None, "t_squared": None, **distilled},
        dataset="synthetic",
        data={},
        model=model,
        role=role,
        seed=0,
        teacher=teacher,
        loss_scale=1.0,
        epochs=100,
        batch_size=batch,
        optimizer="sgd",
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-3,
        schedule={"name": "step", "milestones": [0.3, 0.6, 0.9], "gamma": 0.1},
        warmup=0.0,
        augment={"crop": 4, "flip": True},
        init="scratch",
        precision="bf16",
    )


class Told:
    """A teacher whose table is on the device."""

    def __init__(self, table: Tensor) -> None:
        self.table = table

    def logits(self, index: Tensor, view: Tensor, x: Tensor) -> Tensor:
        return self.table[view, index].float()


def make_views(device: str, size: int, images: int, classes: int) -> Views:
    x = torch.randint(0, 256, (images, 3, size + 8, size + 8), dtype=torch.uint8, device=device)
    mean = torch.full((1, 3, 1, 1), 127.0, device=device)
    return Views(x, torch.randint(0, classes, (images,), device=device), 4, True, mean, mean / 2)


def make_state(run: Run, views: Views, classes: int, seed: int) -> State:
    build = lambda: models.build(run.model, classes=classes, image_size=views.size[0])  # noqa: E731
    model = models.seeded(build, seed).to(views.labels.device, memory_format=torch.channels_last).train()
    return State(model, schedule.make_optimizer(run, model))


def epochs(pack: cuda.Pack, member: cuda.Member) -> Iterator[None]:
    """The steps of a run, epoch after epoch."""
    while True:
        yield from pack.steps(member)
        yield from pack.finished(member)
        member.state.epoch, member.state.step, member.state.losses = member.state.epoch + 1, 0, []


def packs(
    model: str, role: str, plans: list[tuple[int, int]], *, device: str = "cuda", size: int = 32, batch: int = 128,
    images: int = IMAGES, classes: int = CLASSES, seconds: float = SECONDS,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """A measurement for each (networks in a pack, packs at once)."""
    process.prepare_process()
    views = make_views(device, size, images, classes)
    teacher = Told(torch.randn(views.count, images, classes, device=device).half()) if role == "ds" else None
    for networks, count in plans:
        lanes, firsts = [], []
        for _ in range(count):
            pack = cuda.Pack()
            for seed in range(networks):
                run = make_run(model, role, batch)
                member = cuda.Member(run, make_state(run, views, classes, seed), views, teacher)
                pack.members.append(member)
                lanes.append(epochs(pack, member))
            firsts.append(pack.members[0])
        steps_until(lambda firsts=firsts, count=count: taken(firsts) >= 8 * count, lanes)
        before, started = taken(firsts), time.perf_counter()
        steps_until(lambda started=started: time.perf_counter() - started >= seconds, lanes)
        if device == "cuda":
            torch.cuda.synchronize()
        pace = (taken(firsts) - before) * networks * batch / (time.perf_counter() - started)
        yield {"how": "packs", "network": model, "pixels": size, "together": networks, "at_once": count, "pace": pace}


def taken(members: list[cuda.Member]) -> int:
    return sum(member.state.epoch * len(member.losses) + member.state.step for member in members)


def steps_until(enough: Any, lanes: list[Iterator[None]]) -> None:
    while not enough():
        for lane in lanes:
            next(lane)


def eager(counts: tuple[int, ...] = (1, 4, 8, 12)) -> Iterator[dict[str, Any]]:
    """So many processes, each with a run of single launches, as a loop without graphs takes them."""
    context = get_context("spawn")
    told, asked = context.Queue(), [context.Queue() for _ in range(max(counts))]
    for queue in asked:
        context.Process(target=eager_process, args=(queue, told), daemon=True).start()
    for _ in asked:
        told.get(timeout=120)
    for count in counts:
        until = time.time() + SECONDS
        for queue in asked[:count]:
            queue.put(until)
        pace = sum(told.get(timeout=60) for _ in range(count)) / SECONDS
        yield {"how": "eager", "network": "resnet20", "pixels": 32, "together": 1, "at_once": count, "pace": pace}


def eager_process(asked: Any, told: Any) -> None:
    """Take steps until the time that is asked for; images that were trained on."""
    run, views = make_run("resnet20", "nds", 128), make_views("cuda", 32, IMAGES, CLASSES)
    state = make_state(run, views, CLASSES, 0)

    def steps() -> Iterator[None]:
        while True:
            yield from loop._steps(run, state, views, None)
            state.epoch, state.step, state.losses = state.epoch + 1, 0, []

    lane = steps()
    for _ in range(10):
        next(lane)
    told.put("warm")
    while True:
        until, count = asked.get(), 0
        while time.time() < until:
            next(lane)
            count += 1
        torch.cuda.synchronize()
        told.put(count * run.batch_size)


SECTIONS = {
    "eager": eager,
    "graphs": lambda: packs("resnet20", "ds", [(1, 2), (1, 4), (1, 8), (1, 16)]),
    "packs": lambda: packs("resnet20", "ds", [(4, 2), (4, 4), (6, 1), (6, 2), (8, 1)]),
    "teachers": lambda: packs("resnet56", "teacher", [(1, 1), (1, 5), (3, 1), (4, 1)]),
    "large": lambda: packs("lenet5", "ds", [(1, 1), (1, 8)], size=224, batch=64, images=6000, classes=10),
}

if __name__ == "__main__":
    for row in SECTIONS[sys.argv[1]]():
        print(json.dumps(row), flush=True)
