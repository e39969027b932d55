"""Ray beside the local engine on this machine, and a simulation of the paper's profile on 1, 8 and 64 GPUs.

    python benchmarks/cluster.py race      two workers, both engines in turn; writes results/cluster.csv
    python benchmarks/cluster.py simulate  writes the tables of docs/cluster.md from it and from the estimates below

The simulation takes runs in the engine's own order (`training.plan.Plan`). No GPU time is measured: a training step is
taken to be bound by memory, as 20 passes over what the layers put out, or by arithmetic, whichever is longer.
"""

from __future__ import annotations

import argparse
import heapq
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import pandas as pd  # noqa: E402

from kdlib import store  # noqa: E402
from kdlib.studies import Run, load_profile  # noqa: E402
from kdlib.training.plan import Plan  # noqa: E402
from kdlib.training.sweep import _in_order  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks/results/cluster.csv", ROOT / "docs/cluster.md"
ALONE = "ip link set lo up && "  # Ray asks a link-local address for its cloud; here nothing leaves the machine

# Estimates for one H200: assumptions, not measurements of this code.
FLOPS, BANDWIDTH, PASSES = 790e12, 4.3e12, 20  # measured peaks of the chip; passes over bf16 outputs in a training step
RUN_SECONDS = 15  # start, evaluation and writing of a run
DOLLARS = 3.0  # an hour of a GPU
CHECKPOINTS = 60  # an hour
TRAIN = {
    "cifar10": 50_000,
    "cifar100": 50_000,
    "svhn": 73_257,
    "tiny_imagenet": 100_000,
    "imagenet": 1_281_167,
    "celeba": 162_770,
    "celeba64": 10_000,
    "utkface": 16_593,
    "hatexplain": 15_383,
}
CLASSES = {"cifar10": 10, "svhn": 10, "cifar100": 100, "tiny_imagenet": 200, "imagenet": 1000, "trifeature": 10}
SIDES = {"cifar10": 32, "cifar100": 32, "svhn": 32, "tiny_imagenet": 64, "celeba64": 64, "utkface": 64}

PROFILE = """
profile: race
recipes:
  sgd: {optimizer: sgd, lr: 0.02, momentum: 0.9, weight_decay: 0.001, milestones: [0.5], gamma: 0.1, batch_size: 32}
studies:
  race:
    dataset: digits
    data: {train_images: 300}
    augment: {crop: 1}
    recipe: sgd
    teacher: {model: resnet8, epochs: 20}
    student: {model: lenet5, epochs: 40}
    temperatures: [1, 2, 4, 10]
    seeds: 2
artefacts:
  table06: [race]
"""


def simulate(runs: list[Run], seconds: Callable[[Run], float], slots: int) -> float:
    """Seconds until all are done, on so many GPUs or cores."""
    plan, now, running = Plan(runs), 0.0, []
    while plan.unfinished:
        for run in plan.ready(now):
            if len(running) == slots:
                break
            plan.waiting.discard(run)
            heapq.heappush(running, (now + seconds(run), plan.turn[run], run))
        now, _, run = heapq.heappop(running)
        plan.unfinished.discard(run)
    return now


# ------------------------------------------------------------------------------------------------------------- measured


def race(rounds: int) -> None:
    """Train the same small study with each engine in turn, `rounds` times."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        profile = Path(name, "race.yaml")
        profile.write_text(PROFILE)
        runs = [run for study in load_profile(profile).studies.values() for run in _in_order(study.runs())]
        for number in range(rounds):
            for engine in ("local", "ray") if number % 2 else ("ray", "local"):
                folder = Path(name, f"{engine}-{number}")
                command = [sys.executable, "-m", "kdlib", "train", "--device", "cpu", "--workers", "2"]
                command += ["--profile", str(profile), "--runs-dir", str(folder), "--engine", engine]
                inside = ["unshare", "-n", "sh", "-c", ALONE + 'exec "$@"', "--", *command]
                began = time.time()
                subprocess.run(inside, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
                each = {run: store.provenance(folder, run)["seconds"] for run in runs}
                first = min(path.stat().st_mtime for path in (folder / "locks").iterdir())
                wall = max((store.folder(folder, run) / "manifest.json").stat().st_mtime for run in runs) - first
                row = {"engine": engine, "round": number, "runs": len(runs), "start": first - began, "wall": wall}
                row |= {"training": sum(each.values()), "simulated": simulate(runs, each.__getitem__, 2)}
                rows.append(
                    {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}
                )
                print(rows[-1], flush=True)
                pd.DataFrame(rows).to_csv(RESULTS, index=False)


def measured() -> str:
    """Both engines side by side, as a paragraph."""
    rows = pd.read_csv(RESULTS)
    wall = rows.pivot(index="round", columns="engine", values="wall")
    ratio, ray = wall["local"] / wall["ray"], rows[rows.engine == "ray"]
    overhead = (2 * ray.wall - ray.training) / ray.runs
    ahead = ray.simulated / ray.wall
    return (
        f"Two workers on two CPU cores that other work shared, {len(ratio)} rounds, the engines in turn, "
        f"{ray.runs.iloc[0]} runs of a small study: Ray did {_spread(ratio)} of the local engine's work in the same "
        f"time, its start aside (median and range). It started in {_spread(ray.start)} s, torch's import included. "
        f"What a worker did beside training steps (data, evaluation, writing) took {_spread(overhead)} s a run. "
        "A ratio above 1 is the shared machine's doing: Ray adds work and saves none. "
        f"The simulation below gives {_spread(ahead)} of the measured time from the measured runs: it knows of no work "
        "beside training steps."
    )


def _spread(values: pd.Series) -> str:
    return f"{values.median():.2f} ({values.min():.2f} to {values.max():.2f})"


# ------------------------------------------------------------------------------------------------------------ estimated


@cache
def cost(model: str, dataset: str) -> tuple[float, float]:
    """(floating-point operations of a forward pass, bytes of bf16 that its layers put out), for a sample."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from kdlib import models

    text = dataset == "hatexplain"
    classes = CLASSES.get(dataset, 3 if text else 2)
    given = {"vocabulary": 30_522, "tokens": 128} if text else {"channels": 3, "image_size": SIDES.get(dataset, 224)}
    with torch.device("cpu" if text else "meta"):  # a transformer's mask asks for values
        net = models.build(model, classes=classes, init="scratch", **given).eval()
        side = given.get("image_size")
        x = torch.ones(1, 128, dtype=torch.int32) if text else torch.zeros(1, 3, side, side)
    out = [0]
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(lambda _, __, y: out.__setitem__(0, out[0] + 2 * y.numel()))
    with FlopCounterMode(display=False) as counted:
        net(x)
    return counted.get_total_flops(), out[0]


def forward_seconds(run: Run) -> float:
    """Of one sample; a training step takes three times as long."""
    flops, out = cost(run.model, run.dataset)
    return max(flops / FLOPS, PASSES / 3 * out / BANDWIDTH)


def samples(run: Run) -> int:
    if run.dataset == "trifeature":
        return 1000 * run.data["per_combination"] - run.data["test_images"]
    return TRAIN[run.dataset]


def views(run: Run) -> int:
    """How many views of an image augmentation can make; without end for random resized crops."""
    if run.augment.get("resized_crop"):
        return 2**62
    return (2 * run.augment.get("crop", 0) + 1) ** 2 * (1 + bool(run.augment.get("flip")))


def table_bytes(run: Run) -> int:
    """Of the teacher's logit table; 0 where the teacher answers live. As `teacher.uses_table` decides."""
    from kdlib.training import logit_table

    shape = views(run), samples(run), CLASSES.get(run.dataset, 2)
    if run.teacher is None or views(run) > 2 * run.epochs or not logit_table.fits(shape):
        return 0
    return shape[0] * shape[1] * shape[2] * logit_table.dtype(shape).itemsize


def estimate(runs: Iterable[Run]) -> dict[Run, float]:
    """{run: seconds on one GPU}. The first student of a teacher fills the table."""
    found, filled = {}, set()
    for run in runs:
        seconds = RUN_SECONDS + 3 * run.epochs * samples(run) * forward_seconds(run)
        if run.teacher and not table_bytes(run):
            seconds += run.epochs * samples(run) * forward_seconds(run.teacher)
        elif run.teacher and run.teacher not in filled:
            filled.add(run.teacher)
            seconds += views(run) * samples(run) * forward_seconds(run.teacher)
        found[run] = seconds
    return found


def rows(runs: list[Run], name: str) -> list[str]:
    each = estimate(runs)
    total = sum(each.values())
    chain = max(each[run] + each.get(run.teacher, 0) for run in runs)
    lines = []
    for gpus in (1, 8, 64):
        took = simulate(runs, each.__getitem__, gpus)
        busy = total / took / gpus
        lines.append(
            f"| {name} | {gpus} | {_hours(took)} | {_hours(gpus * took)} | {100 * busy:.0f} % | "
            f"{_hours(chain)} | {DOLLARS * gpus * took / 3600:,.0f} |"
        )
    return lines


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def tables() -> str:
    """What `simulate` writes into the page."""
    profile = load_profile("paper")
    studies = {name: study for name, study in profile.studies.items()}

    def of(*keep: str, without: str = "^$") -> list[Run]:
        chosen = [s for name, s in studies.items() if not re.search(without, name) and re.search("|".join(keep), name)]
        return list(dict.fromkeys(run for study in chosen for run in _in_order(study.runs())))

    sets = {
        "all studies": of(""),
        "without ImageNet and all of CelebA": of("", without="^imagenet-|^celeba-"),
        "`cifar100-resnet` alone": of("^cifar100-resnet$"),
    }
    sets = {name: list(dict.fromkeys(runs)) for name, runs in sets.items()}
    head = [
        "| runs | GPUs | hours | GPU-hours paid | busy | longest chain, hours | dollars |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    body = [line for name, runs in sets.items() for line in rows(runs, f"{name} ({len(runs):,})")]
    limits = []
    for name, runs in sets.items():
        each = estimate(runs)
        chain = max(each[run] + each.get(run.teacher, 0) for run in runs)
        last = max(runs, key=lambda run: each[run] + each.get(run.teacher, 0))
        limits.append(
            f"- {name}: {_hours(sum(each.values()))} GPU-hours in all. From about "
            f"{sum(each.values()) / chain:.0f} GPUs on the longest chain decides: {last.dataset}, {last.teacher.model} "
            f"and then one {last.model}."
        )
    return "\n".join([*head, *body, "", *limits, "", folder_load(sets["all studies"])])


def folder_load(runs: list[Run]) -> str:
    """What the shared folder has to hold and to bear."""
    each, weights = estimate(runs), {run: 4 * parameters(run.model, run.dataset) for run in runs}
    by_teacher = {run.teacher: table_bytes(run) for run in runs if table_bytes(run)}
    reads = max((run for run in runs if table_bytes(run)), key=lambda run: _read_rate(run, each))
    saved = sum(weights.values())
    peak = 64 * CHECKPOINTS / 3600 * 3 * max(weights.values())
    return (
        f"The shared folder ends with {saved / 1e9:,.0f} GB of weights (predictions come to that) and, until you "
        f"delete `tables/`, {sum(by_teacher.values()) / 1e9:,.0f} GB of logit tables, the largest "
        f"{max(by_teacher.values()) / 1e9:.1f} GB. 64 GPUs write checkpoints at {peak / 1e6:,.0f} MB/s at most, if all "
        f"train the largest network. A student reads its table at {_read_rate(reads, each) / 1e6:,.1f} MB/s at most "
        f"({reads.dataset}, {reads.model}), from the node's memory where students of one teacher stay together. "
        "A claim is touched every 30 s: 64 runs make about two small requests a second."
    )


def _read_rate(run: Run, each: dict[Run, float]) -> float:
    return run.epochs * samples(run) * table_bytes(run) / (views(run) * samples(run)) / each[run]


@cache
def parameters(model: str, dataset: str) -> int:
    import torch

    from kdlib import models

    text = dataset == "hatexplain"
    given = {"vocabulary": 30_522, "tokens": 128} if text else {"channels": 3, "image_size": SIDES.get(dataset, 224)}
    with torch.device("meta"):
        net = models.build(model, classes=CLASSES.get(dataset, 3 if text else 2), init="scratch", **given)
    return sum(values.numel() for values in net.parameters())


def write(text: str) -> None:
    """Put it between the page's markers."""
    page = PAGE.read_text(encoding="utf-8")
    marked = re.compile(r"(<!-- simulated: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
    PAGE.write_text(marked.sub(lambda found: f"{found[1]}{text}\n{found[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("race", "simulate"))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.what == "race":
        race(arguments.rounds)
    else:
        write(f"{measured()}\n\n{tables()}")
