"""A worker of a sweep trains with one thread, whatever torch would take: more would fight over the cores."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from kdlib.training import sweep


class Watching:
    """Given as the folder of the data, which digits do not need: unpickled in a worker, it watches the steps there."""

    def __init__(self, notes: Path) -> None:
        self.notes = notes

    def __reduce__(self) -> tuple:
        return watch, (self.notes,)


@cache
def watch(notes: Path) -> None:
    """Note torch's number of threads now, before the worker has begun, and at every step of an optimizer."""

    def note(*_: object) -> None:
        with open(notes, "a", encoding="utf-8") as file:
            file.write(f"{torch.get_num_threads()}\n")

    note()
    register_optimizer_step_post_hook(note)


def test_a_worker_of_a_sweep_trains_with_one_thread(tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # what torch starts with in a worker, also where there is one core
    study = replace(tiny.study("tiny"), seeds=1, temperatures=(4.0,))  # teacher, NDS, DS
    notes = tmp_path / "notes"
    found = sweep.train(study, runs_dir=tmp_path / "runs", data_root=Watching(notes), workers=1, device="cpu")
    assert found.complete and found.trained == 3
    before, *steps = map(int, notes.read_text(encoding="utf-8").split())
    assert before == 2
    assert steps == [1] * (3 * 3 * 4)  # runs, epochs, batches
