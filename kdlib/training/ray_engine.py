"""The engine "ray": a task per run on this machine, on all its GPUs or on a cluster; the results on disk are the same.

The disk is the truth. The driver asks the store before it submits a run, several drivers share a folder through the
claims of `files.claimed`, and whatever was lost is answered by starting the same command again. Ray is imported only
when it is asked for; tasks are all of it that is used.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import kdlib
from kdlib import files, places, store
from kdlib.errors import DataError, InvalidInput, KdlibError, StoreError, TrainingFailed
from kdlib.studies import Run
from kdlib.training.plan import AGAIN_SECONDS, Plan
from kdlib.training.ray_start import cluster_address, first_line, session
from kdlib.training.sweep import outcome_of

RETRIES = 3  # of a run whose process or node is lost
ALONE_SECONDS = 120  # without a node that can train
STOP_SECONDS = 60  # in which running tasks write their checkpoints
CONTEXT_BYTES, MARGIN, LEAST_SHARE = 2**30, 1.2, 0.1  # of a GPU: its context, our caution, ten runs at most


# -------------------------------------------------------------------------------------------------------- in the driver


@dataclass(frozen=True)
class Order:
    """What a task is told beside its run. probe: a file in the folder that its node must see."""

    folder: Path
    device: str
    probe: str
    kdlib: str
    environment: dict[str, str]


def kind(run: Run) -> tuple[str, ...]:
    """Runs of one kind need the same memory of a GPU."""
    return run.dataset, repr(sorted(run.data.items())), run.model, run.role, str(run.batch_size), run.precision


def share(peak: int, total: int) -> float:
    """The share of a GPU of `total` bytes that a run needs which had `peak` bytes; above 1 where it does not fit."""
    return max(LEAST_SHARE, math.ceil(100 * (MARGIN * peak + CONTEXT_BYTES) / total) / 100)


def outcomes(
    missing: list[Run], folder: Path, *, device: str, deadline: float, workers: int | None
) -> Iterator[tuple[Run, str]]:
    """Train these runs: each as it ends with 'done', 'failed', 'stopped', or what is damaged or was lost.

    Closing it, a deadline and an interrupt all let the tasks write their checkpoints. Raises as `sweep.train`; where
    only one data set is missing, at the end.
    """
    probe, here = folder / "locks" / f"probe-{uuid.uuid4().hex}", {"KDLIB_DATA": str(places.data_dir())}
    if cluster_address() == "local" and "HOME" in os.environ:  # this Ray has a home of its own
        here["HOME"] = os.environ["HOME"]
    files.replace_file(probe, b"")
    try:
        with session(workers=workers, device=device) as ray:
            order = Order(folder, _device(ray, device), probe.name, code(), here)
            yield from _Driver(ray, order, missing, workers).run(deadline)
    finally:
        probe.unlink(missing_ok=True)


def _device(ray: Any, wanted: str) -> str:
    """'cuda' where any node has a GPU and it is wanted. Raises InvalidInput where only 'cuda' would do."""
    gpus = ray.cluster_resources().get("GPU", 0)
    if wanted == "cuda" and not gpus:
        raise InvalidInput("device 'cuda' was asked for, but no node of Ray has a GPU. Use device 'auto' or 'cpu'.")
    return "cuda" if wanted != "cpu" and gpus else "cpu"


class _Driver:
    """Submits what can start where there is room, and waits for what runs."""

    def __init__(self, ray: Any, order: Order, runs: list[Run], workers: int | None) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.ray, self.order, self.workers, self.near = ray, order, workers, NodeAffinitySchedulingStrategy
        self.plan, self.running, self.failed, self.nodes, self.shares = Plan(runs), {}, set(), {}, {}
        self.seen, self.no_data = time.monotonic(), None
        # max_calls: a GPU's worker, too, serves run after run
        self.task = ray.remote(num_cpus=1, max_retries=RETRIES, max_calls=0)(task)
        if order.device == "cuda" and workers:
            per_gpu = math.ceil(workers / (gpus := ray.cluster_resources()["GPU"]))
            if per_gpu * LEAST_SHARE > 1:
                raise InvalidInput(
                    f"workers is {workers}, and {gpus:g} GPUs train at most {gpus / LEAST_SHARE:g} runs."
                )
            self.shares = {kind(run): 1 / per_gpu for run in runs}

    def run(self, deadline: float) -> Iterator[tuple[Run, str]]:
        try:
            with _interrupts() as heard:
                yield from self._until(deadline, heard)
        finally:
            cancelled = self._cancel()
        yield from self._ended(cancelled)
        for run in [*self.plan.unfinished]:
            yield run, "stopped"
        if self.no_data:
            raise self.no_data

    def _until(self, deadline: float, heard: list[int]) -> Iterator[tuple[Run, str]]:
        """Start and wait, until all have ended or the time is over. Raises KeyboardInterrupt for one that was heard."""
        while self.plan.unfinished and time.monotonic() < deadline:
            if heard:
                raise KeyboardInterrupt
            yield from self._start()
            wait = max(0.05, min(1, deadline - time.monotonic()))
            if self.running:
                yield from self._ended(self.ray.wait([*self.running], timeout=wait)[0])
            elif self.plan.unfinished:
                time.sleep(wait)

    def _start(self) -> Iterator[tuple[Run, str]]:
        """Submit what is ready, as far as there is room; what needs no training any more has ended.

        That is what another driver has trained meanwhile, and what cannot be: the students of a failed teacher.
        """
        free = self._free()
        for run in self.plan.ready(time.monotonic()):
            need = self._need(run)
            if len(self.running) >= (self.workers or math.inf) or not _fits(need, free):
                return
            self.plan.waiting.discard(run)
            state = "failed" if run.teacher in self.failed else store.state(self.order.folder, run)
            if state in ("done", "failed"):
                yield self._end(run, state)
            else:
                free.subtract(need)
                options = {"num_gpus": need.get("GPU", 0), "name": str(run)}
                if node := self.nodes.get(run.teacher):  # where the logit table was used last, if it has room
                    options["scheduling_strategy"] = self.near(node, True, _spill_on_unavailable=True)
                self.running[self.task.options(**options).remote(run, self.order)] = run

    def _free(self) -> Counter:
        """What Ray has beyond what its tasks here asked for. Raises TrainingFailed after a while without a node."""
        free = Counter(self.ray.cluster_resources())
        for run in self.running.values():
            free.subtract(self._need(run))
        if self.running or _fits(self._need(None), free):
            self.seen = time.monotonic()
        elif time.monotonic() - self.seen > ALONE_SECONDS:
            why = f"for {ALONE_SECONDS} s no node of Ray had a core and, on '{self.order.device}', what else it takes"
            raise TrainingFailed(f"{why}. Finished runs are kept; start the same command again to go on.")
        return free

    def _need(self, run: Run | None) -> dict[str, float]:
        """What a run asks of Ray: a core, and of a GPU the whole until one of its kind has shown what it needs."""
        share = self.shares.get(kind(run), 1) if run else LEAST_SHARE
        return {"CPU": 1} | ({"GPU": share} if self.order.device == "cuda" else {})

    def _ended(self, refs: Iterable[Any]) -> Iterator[tuple[Run, str]]:
        for ref in refs:
            run = self.running.pop(ref)
            outcome = self._outcome(ref, run)
            if outcome == "elsewhere":
                self.plan.waiting.add(run)
                self.plan.not_before[run] = time.monotonic() + AGAIN_SECONDS
            elif outcome == "memory" and self.shares.get(kind(run), 1) < 1:
                self.shares[kind(run)] = min(1, 2 * self.shares[kind(run)])
                self.plan.waiting.add(run)
            elif outcome == "memory":
                yield self._end(run, "it needs more memory than a whole GPU has here. Use larger GPUs, or --device cpu")
            else:
                yield self._end(run, outcome)

    def _end(self, run: Run, outcome: str) -> tuple[Run, str]:
        self.plan.unfinished.discard(run)
        self.failed |= set() if outcome == "done" else {run}
        return run, outcome

    def _outcome(self, ref: Any, run: Run) -> str:
        """What came of a run: as `sweep.outcome_of` has it, 'elsewhere', 'memory', or in words how it was lost."""
        lost = self.ray.exceptions
        try:
            outcome, node, memory = self.ray.get(ref)
            self.nodes[run if run.role == "teacher" else run.teacher] = node
            if memory and not self.workers:
                self.shares.setdefault(kind(run), min(1, share(*memory)))
            return outcome
        except lost.TaskCancelledError:
            return "stopped"
        except lost.RayTaskError as error:
            return self._raised(error.cause, run)
        except lost.RayError as error:  # a process or node that died again and again, most often for lack of memory
            return f"Ray lost it {RETRIES + 1} times: {first_line(error)} Fewer workers need less memory"

    def _raised(self, error: BaseException, run: Run) -> str:
        """A data set that is missing keeps its own runs back, and is raised when the others have ended."""
        if isinstance(error, DataError):
            self.no_data = error
            same = {one for one in self.plan.waiting if (one.dataset, one.data) == (run.dataset, run.data)}
            self.plan.waiting -= same
            self.plan.unfinished -= same
            return "failed"
        if isinstance(error, KdlibError):
            raise error
        raise TrainingFailed(f"{run}: {type(error).__name__}: {first_line(error)}") from error

    def _cancel(self) -> list[Any]:
        """Let every task write a checkpoint; those that did, in time."""
        for ref in self.running:
            self.ray.cancel(ref)
        refs = [*self.running]
        return self.ray.wait(refs, num_returns=len(refs), timeout=STOP_SECONDS)[0] if refs else []


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """The interrupts that came: the exception of one that comes in a callback of Ray's is lost."""
    heard: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield heard
        return

    def note(number: int, frame: Any) -> None:
        heard.append(number)
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, before)


def _fits(need: Mapping[str, float], free: Mapping[str, float]) -> bool:
    return all(amount <= free.get(name, 0) + 1e-9 for name, amount in need.items())


# ------------------------------------------------------------------------------------------------------------ in a task


@lru_cache
def code() -> str:
    """kdlib's version and the start of the sha256 of its source: two machines with the same have the same kdlib."""
    home = Path(kdlib.__file__).parent
    source = b"".join(path.read_bytes() for path in sorted(home.rglob("*.py")))
    return f"{kdlib.__version__} ({files.sha256(source)[:12]})"


def task(run: Run, order: Order) -> tuple[str, str, tuple[int, int] | None]:
    """Train a run in Ray's process: (its outcome, the node's id, peak and total bytes of its GPU).

    Raises StoreError where the node does not see the folder, TrainingFailed where it has another kdlib.
    """
    import ray
    import torch

    os.environ.update(order.environment)
    _check_node(order)
    stop: list[str] = []
    before = signal.signal(signal.SIGINT, lambda *_: stop.append("stopped"))  # as Ray cancels a task
    options = {"stop": lambda: bool(stop), "waiting": lambda: stop.append("elsewhere")}
    try:
        outcome = outcome_of(run, order.folder, order.device, **options)
        outcome = stop[-1] if outcome == "stopped" else outcome
    except torch.OutOfMemoryError:
        outcome = "memory"
    finally:
        signal.signal(signal.SIGINT, before)
    memory = None
    if order.device == "cuda":
        memory = torch.cuda.max_memory_reserved(), torch.cuda.get_device_properties(0).total_memory
        torch.cuda.empty_cache()
    return outcome, ray.get_runtime_context().get_node_id(), memory


def _check_node(order: Order) -> None:
    node = socket.gethostname()
    if code() != order.kdlib:
        raise TrainingFailed(
            f"kdlib is {code()} on node {node}, and {order.kdlib} where this started. Install the same."
        )
    for patience in (0.1, 1, 3, 0):  # a network file system may show a new file late
        if (order.folder / "locks" / order.probe).is_file():
            return
        time.sleep(patience)
    raise StoreError(f"node {node} does not see this {order.folder}. Give --runs-dir a folder that all nodes share.")
