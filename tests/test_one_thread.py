"""A worker of a sweep trains with one thread, whatever torch would take: more would fight over the cores."""

import os
from dataclasses import replace
from functools import cache

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from kdlib.training import sweep


class Watching(int):
    """An option of the data that, unpickled in a worker, watches the steps there."""

    def __reduce__(self) -> tuple:
        return watch, (int(self), os.environ["NOTES"])


@cache
def watch(option: int, notes: str) -> int:
    """Note torch's number of threads now, before the worker has begun, and at every step of an optimizer."""

    def note(*_: object) -> None:
        with open(notes, "a", encoding="utf-8") as file:
            file.write(f"{torch.get_num_threads()}\n")

    note()
    register_optimizer_step_post_hook(note)
    return option


def test_a_worker_of_a_sweep_trains_with_one_thread(tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # what torch starts with in a worker, also where there is one core
    notes = tmp_path / "notes"
    monkeypatch.setenv("NOTES", str(notes))
    options = tiny.study("tiny").data | {"train_images": Watching(100)}
    study = replace(tiny.study("tiny"), seeds=1, temperatures=(4.0,), data=options)  # teacher, NDS, DS
    found = sweep.train(study, runs_dir=tmp_path / "runs", workers=1, device="cpu")
    assert found.complete and found.trained == 3
    before, *steps = map(int, notes.read_text(encoding="utf-8").split())
    assert before == 2
    assert steps == [1] * (3 * 3 * 4)  # runs, epochs, batches
