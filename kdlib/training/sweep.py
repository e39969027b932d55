"""Trains what is missing of a study, teachers before their students: one single-threaded process per core.

Nothing is trained twice, and a sweep that was interrupted, killed or out of budget goes on where it stopped.
torch is imported only in the processes that train.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import active_children, connection, get_context, parent_process
from pathlib import Path
from typing import Any

from kdlib import files, places, store
from kdlib.catalogue import DEVICES, network
from kdlib.errors import Damaged, InvalidInput, StoreError, TrainingFailed, require_known
from kdlib.progress import Report, tell
from kdlib.studies import Run, Study
from kdlib.training.plan import in_order

ENGINES = ("local", "ray")
ON_A_GPU = 16  # small networks at a time: they share it


@dataclass(frozen=True)
class Progress:
    """Where a study stands: numbers of runs planned, done, and trained in this call.

    failed: {run: reason}, with runs that are damaged or whose teacher is. collapsed: {run: reason}, done all the same.
    """

    planned: int
    done: int
    trained: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    collapsed: dict[str, str] = field(default_factory=dict)
    stopped: bool = False
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        return self.done == self.planned

    def __str__(self) -> str:
        if not self.planned:
            return "nothing to train: these predictions are drawn from a known truth"
        rest = "".join(f"; failed: {run}: {reason}" for run, reason in self.failed.items())
        rest += "".join(f"; collapsed: {run} {reason}" for run, reason in self.collapsed.items())
        stopped = "; stopped, start again to go on" if self.stopped else ""
        return f"{self.done} of {self.planned} runs are there{stopped}{rest}"


def train(
    study: Study | Iterable[Study],
    *,
    runs_dir: Path | str | None = None,
    device: str = "auto",
    engine: str = "local",
    budget_minutes: float | None = None,
    workers: int | None = None,
    retry_failed: bool = False,
    allow_code: bool = False,
    say: Callable[[str], None] = tell,
) -> Progress:
    """Train every run of a study (or several, the first in the order first) that is not on disk.

    engine          'local': processes on this machine; 'ray': tasks of Ray, on this machine or the cluster RAY_ADDRESS
    device          'auto', 'cpu', 'cuda', or 'none': train nothing, say what is there
    budget_minutes  stop cleanly after this time; the next call goes on, on another machine too
    workers         runs at a time; default one per core on CPU, on a GPU 16 small networks or one; with 'ray' what fits
    retry_failed    also train runs again that failed before
    allow_code      run the files that hold networks of the user's own (`model: nets.py:mynet`)
    say             called with the plan, then with a line for each run that ends; default: they are shown at once
    A run that fails is recorded, its students are left out, the others go on. An interrupt (Ctrl-C) writes
    checkpoints first. Raises InvalidInput for bad arguments, DataError where the data set is missing, StoreError,
    TrainingFailed where a training process cannot start or is killed, or no cluster answers.
    """
    _check_arguments(device, engine, budget_minutes, workers)
    folder = places.runs_dir(runs_dir)
    studies = list(study) if isinstance(study, Iterable) and not isinstance(study, str) else [study]
    if wrong := [one for one in studies if not isinstance(one, Study)]:
        raise InvalidInput(f"{wrong[0]!r} is no study: load_profile(...).study(name) gives one.")
    runs = list(dict.fromkeys(run for one in studies if not one.simulated for run in in_order(one.runs())))
    over = ("done",) if retry_failed else ("done", "failed")
    missing = [run for run in runs if device != "none" and store.state(folder, run) not in over]
    started, stopped, failed = time.monotonic(), False, {}
    if missing:
        _try_own_networks(studies, missing, folder, allow_code)
        files.remove_leftovers(folder)
        for run in missing:
            store.forget_failure(folder, run)
        deadline = math.inf if budget_minutes is None else time.monotonic() + 60 * budget_minutes
        done = [run for run in {*runs} - {*missing} if store.state(folder, run) == "done"]
        report = partial(Report, missing, done=done, folder=folder, say=say)
        by = _train_by_ray if engine == "ray" else _train_missing
        stopped, failed = by(missing, folder, device, deadline, workers, report)
    states, wrong, collapsed = states_of(runs, folder)
    done, trained = list(states.values()).count("done"), sum(states[run] == "done" for run in missing)
    return Progress(len(runs), done, trained, failed | wrong, collapsed, stopped, time.monotonic() - started)


def _try_own_networks(studies: list[Study], missing: list[Run], folder: Path, allow_code: bool) -> None:
    """Keep the code of the networks that are not kdlib's, and try each. Raises InvalidInput where it is not allowed."""
    used = [one for run in missing for one in (run, run.teacher) if one and "@" in one.model]
    if used and not allow_code:
        name = used[0].model.partition("@")[0]
        raise InvalidInput(
            f"{name} is code beside the profile, which training runs. Read it, then say so: --allow-code."
        )
    for source in {source for one in studies for source in one.code.values() if used}:
        store.save_code(folder, source)
    for run in {(run.model, run.dataset, str(run.data), run.init): run for run in used}.values():
        from kdlib.training import dry_run

        dry_run.check(run, folder)


def states_of(
    runs: Iterable[Run], folder: Path, *, verify: bool = False
) -> tuple[dict[Run, str], dict[str, str], dict[str, str]]:
    """{run: 'done', 'partial', 'missing', 'failed' or 'damaged'}, {run: why one of the latter}, {run: why collapsed}.

    verify: read every file of what is done, and compare its sha256.
    """
    states, wrong, collapsed = {run: store.state(folder, run) for run in runs}, {}, {}
    for run, state in states.items():
        if state == "failed":
            wrong[str(run)] = store.failure(folder, run)
        if state == "done":
            try:
                if reason := store.provenance(folder, run).get("collapsed"):
                    collapsed[str(run)] = reason
                if verify:
                    store.verify(folder, run)
            except StoreError as error:
                wrong[str(run)], states[run] = str(error), "damaged"
    return states, wrong, collapsed


def _check_arguments(device: str, engine: str, budget_minutes: float | None, workers: int | None) -> None:
    require_known("device", device, DEVICES)
    require_known("engine", engine, ENGINES)
    if engine == "ray":
        from kdlib.training import ray_start

        ray_start.check()
    if budget_minutes is not None and not (math.isfinite(budget_minutes) and budget_minutes > 0):
        raise InvalidInput(f"budget_minutes must be above 0, not {budget_minutes!r}; leave it out for no limit.")
    if workers is not None and workers < 1:
        raise InvalidInput(f"workers must be at least 1, not {workers!r}.")


def _train_missing(
    missing: list[Run],
    folder: Path,
    device: str,
    deadline: float,
    workers: int | None,
    report: Callable[..., Report],
) -> tuple[bool, dict[str, str]]:
    """Train these runs: whether it stopped before all were tried, and {run: what is damaged} where that kept it."""

    if device != "cpu":
        from kdlib.training.process import choose_device  # only torch knows what there is

        device = choose_device(device)
    on_gpu = device == "cuda"
    small = all(network(run.model).builder.startswith("models:") for run in missing)
    workers = min(workers or (places.cores() if not on_gpu else ON_A_GPU if small else 1), len(missing))
    context = get_context("spawn")
    stop = context.RawValue("b", 0)  # without a lock: a worker that is killed while it holds one blocks everybody
    here, there = context.Pipe(duplex=False)  # outcomes of the one process that trains on a GPU, as they come
    pool = ProcessPoolExecutor(
        1 if on_gpu else workers, mp_context=context, initializer=_start_worker, initargs=(stop, deadline, there)
    )
    others, outcomes = set(active_children()), {}
    try:
        if on_gpu:
            whole = pool.submit(_work_together, in_order(missing), folder, device, workers)
        else:
            futures = {pool.submit(_work, run, folder, device): run for run in in_order(missing)}
        started = set(active_children()) - others
        there.close()
        with report(workers=workers) as shown:
            for run, outcome in _told(whole, here) if on_gpu else _ended(futures):
                outcomes[str(run)] = outcome
                shown.finished(run, outcome)
        return _summed(outcomes)
    except BrokenProcessPool as error:
        pool.shutdown(wait=True)  # only then is it known how each process ended
        raise TrainingFailed(
            f"a training process ended by itself: {_ending(process.exitcode for process in started)}. Finished runs "
            "are kept; start the same command again to go on."
        ) from error
    except (ImportError, SyntaxError) as error:
        raise TrainingFailed(
            f"a training process cannot import what it needs: {type(error).__name__}: {error}. Install or mend it, "
            "then start the same command again to go on."
        ) from error
    finally:
        stop.value = 1  # on an interrupt too: the workers write checkpoints and return
        pool.shutdown(wait=True, cancel_futures=True)


def _ended(futures: dict[Future, Run]) -> Iterator[tuple[Run, str]]:
    """Runs of processes that train one at a time, as they end."""
    for future in as_completed(futures):
        yield futures[future], future.result()


def _told(whole: Future, here: Any) -> Iterator[tuple[Run, str]]:
    """Runs of a process that trains several at a time, as it tells of them."""
    with suppress(EOFError):
        while True:
            yield here.recv()
    whole.result()  # raises what ended it


def _train_by_ray(
    missing: list[Run],
    folder: Path,
    device: str,
    deadline: float,
    workers: int | None,
    report: Callable[..., Report],
) -> tuple[bool, dict[str, str]]:
    """As `_train_missing`, by tasks of Ray."""
    from kdlib.training import ray_engine

    outcomes, options = {}, {"device": device, "deadline": deadline, "workers": workers}
    with (
        report(workers=workers or places.cores()) as shown,
        closing(ray_engine.outcomes(missing, folder, **options)) as found,
    ):
        for run, outcome in found:
            outcomes[str(run)] = outcome
            shown.finished(run, outcome)
    return _summed(outcomes)


def _summed(outcomes: dict[str, str]) -> tuple[bool, dict[str, str]]:
    """Whether any run was stopped, and {run: outcome} of those that are damaged or lost."""
    plain = ("done", "stopped", "failed")
    return "stopped" in outcomes.values(), {run: out for run, out in outcomes.items() if out not in plain}


def session(engine: str, *, workers: int | None = None, device: str = "auto") -> AbstractContextManager[Any]:
    """What several calls of `train` share: a Ray that need not start for each. Nothing for the local engine."""
    _check_arguments(device, engine, None, workers)
    if engine == "local":
        return nullcontext()
    from kdlib.training import ray_start

    return ray_start.session(workers=workers, device=device)


def _ending(exit_codes: Iterable[int | None]) -> str:
    """How the process that broke the pool ended, in words; the pool ends the others by SIGTERM."""
    code = min({*exit_codes} - {None, -signal.SIGTERM}, default=None)
    if code is None:
        return "nobody saw how"
    if code >= 0:
        return f"exit status {code}; its last words stand above"
    name = signal.Signals(-code).name
    return f"{name}, most often because memory ran out (fewer workers need less)" if name == "SIGKILL" else name


# ------------------------------------------------------------------------------------------------ in a worker process

_shared: dict[str, Any] = {}


def _start_worker(stop: Any, deadline: float, outcomes: Any) -> None:
    """Imports nothing that could fail: the pool would not say why. `_work` does, and hands the error on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it, and asks for a clean stop
    _shared.update(stop=stop, deadline=deadline, outcomes=outcomes)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """A parent that was killed cannot stop its workers, so each looks out for itself."""
    connection.wait([parent_process().sentinel])
    os._exit(1)


def _stopping() -> bool:
    return bool(_shared["stop"].value) or time.monotonic() > _shared["deadline"]


def _work(run: Run, folder: Path, device: str) -> str:
    return "stopped" if _stopping() else outcome_of(run, folder, device, stop=_stopping)


def _work_together(runs: list[Run], folder: Path, device: str, at_once: int) -> None:
    """Train several at a time in this process, and tell each outcome to the parent when it is there."""
    from kdlib.training import together

    with closing(_shared["outcomes"]) as outcomes:
        for run, outcome in together.train_together(
            runs, folder=folder, device=device, at_once=at_once, stop=_stopping
        ):
            outcomes.send((run, outcome))


def outcome_of(run: Run, folder: Path, device: str, **options: Callable[[], Any]) -> str:
    """Train a run in this process, with `loop.training`'s options: its last `outcomes`."""
    from kdlib.training import process

    process.prepare_process()
    *_, outcome = outcomes(run, folder, device, **options)
    return outcome


def outcomes(run: Run, folder: Path, device: str, **options: Callable[[], Any]) -> Iterator[str | None]:
    """None after each step; at the end 'done', 'stopped', 'failed', or what is damaged. Raises other errors."""
    from kdlib.training import loop

    try:
        yield from loop.training(run, runs_dir=folder, device=device, **options)
    except files.Stopped:
        yield "stopped"
    except TrainingFailed:
        yield "failed"  # it is recorded on disk, and the rest of the study is worth having
    except Damaged as error:
        yield str(error)
    except OSError as error:
        raise StoreError(f"{run}: {error}") from error
    else:
        yield "done"
