"""Trains several runs at once in one process, a step of each in turn: small networks share a GPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from kdlib.errors import TrainingFailed
from kdlib.studies import Run
from kdlib.training import process
from kdlib.training.inference import Stop
from kdlib.training.plan import AGAIN_SECONDS, Plan
from kdlib.training.sweep import outcomes


@dataclass
class Place:
    """Where one run at a time is trained."""

    run: Run | None = None
    steps: Iterator[str | None] | None = None
    elsewhere: list[bool] = field(default_factory=list)  # whether another process has the run


def train_together(
    runs: list[Run], *, folder: Path, device: str, at_once: int, stop: Stop
) -> Iterator[tuple[Run, str]]:
    """Train these runs, at most `at_once` at a time: each as it ends, with what `sweep.outcomes` ends with.

    A student waits for its teacher. Where the GPU's memory is too small for so many, fewer are trained at a time.
    Raises as `outcomes`, and TrainingFailed where one alone is too large for the memory.
    """
    process.prepare_process()
    process.at_once = at_once
    plan = Plan(runs)
    places = [Place() for _ in range(at_once)]
    while plan.unfinished:
        for place in places:
            if place.run is None:
                if (run := next(plan.ready(time.monotonic()), None)) is None:
                    continue
                plan.waiting.discard(run)
                _begin(place, run, folder, device, stop)
            outcome = _advance(place)
            if outcome == "memory" and sum(one.run is not None for one in places) == 1:
                raise TrainingFailed(
                    f"{place.run} needs more memory than this GPU has. Take a larger one, or --device cpu."
                )
            if outcome in ("memory", "elsewhere"):
                plan.waiting.add(place.run)
                plan.not_before[place.run] = time.monotonic() + AGAIN_SECONDS
            elif outcome:
                plan.unfinished.discard(place.run)
                yield place.run, outcome
            if outcome:
                place.run = place.steps = None
            if outcome == "memory":
                places.remove(place)
                break
        if all(place.run is None for place in places) and plan.unfinished:
            time.sleep(0.1)  # another process has what is left


def _begin(place: Place, run: Run, folder: Path, device: str, stop: Stop) -> None:
    elsewhere: list[bool] = []
    options = {"stop": lambda: bool(elsewhere) or stop(), "waiting": lambda: elsewhere.append(True)}
    place.run, place.elsewhere, place.steps = run, elsewhere, outcomes(run, folder, device, **options)


def _advance(place: Place) -> str | None:
    """Take a step: None, or what came of the run if that was the last one."""
    try:
        outcome = next(place.steps)
    except torch.OutOfMemoryError:
        return "memory"
    return "elsewhere" if outcome == "stopped" and place.elsewhere else outcome
