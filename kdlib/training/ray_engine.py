"""The engine "ray": a task per run on this machine, on all its GPUs or on a cluster; the results on disk are the same.

The disk is the truth. The driver asks the store before it submits a run, several drivers share a folder through the
claims of `files.claimed`, and whatever was lost is answered by starting the same command again. Ray is imported only
when it is asked for; tasks are all of it that is used.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import kdlib
from kdlib import files, places, store
from kdlib.errors import DataError, InvalidInput, KdlibError, StoreError, TrainingFailed
from kdlib.studies import Run
from kdlib.training.sweep import outcome_of

OLDEST = (2, 52)
CONNECT_SECONDS = 10
STARTS = 3  # a busy machine may take longer than Ray waits
RETRIES = 3  # of a run whose process or node is lost
AGAIN_SECONDS = 5  # after which a run that another process has is asked for again
ALONE_SECONDS = 120  # without a node that can train
STOP_SECONDS = 60  # in which running tasks write their checkpoints
SOCKET_PATH = 107 - len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
CONTEXT_BYTES, MARGIN, LEAST_SHARE = 2**30, 1.2, 0.1  # of a GPU: its context, our caution, ten runs at most


def check() -> None:
    """Raise InvalidInput unless Ray is there, and recent enough. Nothing of it is imported."""
    try:
        version = metadata.version("ray")
    except metadata.PackageNotFoundError:
        raise InvalidInput("engine 'ray' needs Ray, which is not installed: pip install 'kdlib[ray]'.") from None
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST:
        raise InvalidInput(
            f"Ray {version} is refused: below 2.52 a web page can run code through it (CVE-2025-62593). "
            "Update it: pip install -U 'kdlib[ray]'."
        )


# ---------------------------------------------------------------------------------------------------- start and connect


@contextmanager
def session(*, workers: int | None, device: str) -> Iterator[ModuleType]:
    """Ray, started here or connected to the cluster at RAY_ADDRESS, and left again; one that is there is used as it is.

    Raises TrainingFailed where it does not start, or the cluster does not answer within CONNECT_SECONDS.
    """
    check()
    before, address = signal.getsignal(signal.SIGTERM), os.environ.get("RAY_ADDRESS") or "local"
    if address not in ("local", "auto"):
        _check_address(address)
    # with the latter it listens on loopback alone, if it was not imported before
    alone = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"} if address == "local" else {}
    with _environment(RAY_USAGE_STATS_ENABLED="0", **alone):
        import ray

        if ray.is_initialized():
            yield ray
            return
        with _connected(ray, address) if address != "local" else _embedded(ray, workers, device):
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # Ray took it, and would leave without checkpoints
            yield ray


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if "://" in address or not (host and port.isdigit()):
        raise InvalidInput(f"RAY_ADDRESS is {address!r}; give host:port of a cluster that this machine is a node of.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> TrainingFailed:
    return TrainingFailed(
        f"no Ray cluster that lets us in answers at RAY_ADDRESS={address} within {CONNECT_SECONDS} s "
        f"({_first_line(error)}). Start one, or unset RAY_ADDRESS to train on this machine alone."
    )


@contextmanager
def _connected(ray: ModuleType, address: str) -> Iterator[None]:
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray has many kinds, and for a wrong token a plain one
        raise _unreachable(address, error) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _embedded(ray: ModuleType, workers: int | None, device: str) -> Iterator[None]:
    """Ray on this machine alone, behind a token, in a folder that goes with it.

    At its start Ray asks a link-local address which cloud it is on, whatever one sets, unless its home folder describes
    a cluster. So it gets a home of its own with an empty description; tasks get the user's back.
    """
    roomy = len(tempfile.gettempdir()) + len("/kdlib-12345678") <= SOCKET_PATH
    home = Path(tempfile.mkdtemp(prefix="kdlib-", dir=None if roomy else "/tmp"))
    (home / "ray_bootstrap_config.yaml").write_text("{}\n")
    options: dict[str, Any] = {"num_gpus": 0} if device == "cpu" else {}
    settings = {"HOME": str(home), "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE")}  # Ray sets it to "token"
    _forget_token()
    try:
        with _environment(**settings):
            for start in range(STARTS):
                try:
                    ray.init(
                        address="local",
                        num_cpus=max(workers or 0, places.cores()) if device != "cpu" else workers or places.cores(),
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level="ERROR",
                        object_store_memory=80 * 2**20,  # nothing passes through it; the least that Ray takes is 75 MiB
                        _temp_dir=str(home),
                        **options,
                    )
                    break
                except Exception as error:
                    ray.shutdown()
                    if start == STARTS - 1:
                        raise TrainingFailed(
                            f"Ray did not start in {STARTS} attempts: {_first_line(error)} Give it a quieter machine, "
                            "or use --engine local."
                        ) from error
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(home, ignore_errors=True)
        _forget_token()


def _forget_token() -> None:
    """The token of a Ray that was here before opens no other. Older ones keep none."""
    with suppress(ImportError, AttributeError):
        from ray._raylet import AuthenticationTokenLoader

        AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _environment(**values: str | None) -> Iterator[None]:
    """Environment variables, as long as it lasts; None leaves one as it is."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update({name: value for name, value in values.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


# -------------------------------------------------------------------------------------------------------- in the driver


@dataclass(frozen=True)
class Order:
    """What a task is told beside its run. probe: a file in the folder that its node must see."""

    folder: Path
    device: str
    probe: str
    kdlib: str
    environment: dict[str, str]


@dataclass
class Plan:
    """Which runs wait, and for what: no Ray in it.

    waiting: in turn. unfinished: all that have not ended. not_before: {run: monotonic seconds}.
    """

    waiting: list[Run]
    unfinished: set[Run] = field(default_factory=set)
    failed: set[Run] = field(default_factory=set)
    not_before: dict[Run, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.waiting, self.unfinished = [*self.waiting], {*self.waiting}
        self.turn = {run: number for number, run in enumerate(self.waiting)}

    def ready(self, now: float) -> Iterator[Run]:
        """Those that could start, in turn: a student waits for its teacher."""
        for run in [*self.waiting]:
            if run.teacher not in self.unfinished and self.not_before.get(run, 0) <= now:
                yield run

    def start(self, run: Run) -> None:
        self.waiting.remove(run)

    def again(self, run: Run, *, at: float) -> None:
        self.waiting = sorted([*self.waiting, run], key=self.turn.__getitem__)
        self.not_before[run] = at

    def end(self, run: Run, *, well: bool) -> None:
        self.unfinished.discard(run)
        if not well:
            self.failed.add(run)


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
    with session(workers=workers, device=device) as ray, _probe(folder) as probe:
        device = _device(ray, device)
        here = {"KDLIB_DATA": str(places.data_dir())} | _home()
        order = Order(folder, device, probe, code(), here)
        yield from _Driver(ray, order, missing, workers).run(deadline)


def _home() -> dict[str, str]:
    """The user's home for tasks of a Ray that has one of its own."""
    embedded = (os.environ.get("RAY_ADDRESS") or "local") == "local" and "HOME" in os.environ
    return {"HOME": os.environ["HOME"]} if embedded else {}


def _device(ray: ModuleType, wanted: str) -> str:
    """'cuda' where any node has a GPU and it is wanted. Raises InvalidInput where only 'cuda' would do."""
    gpus = ray.cluster_resources().get("GPU", 0)
    if wanted == "cuda" and not gpus:
        raise InvalidInput("device 'cuda' was asked for, but no node of Ray has a GPU. Use device 'auto' or 'cpu'.")
    return "cuda" if wanted != "cpu" and gpus else "cpu"


@contextmanager
def _probe(folder: Path) -> Iterator[str]:
    """A file in the folder, as long as it lasts, by which a node sees that it is the same folder."""
    with files.writing(folder):
        (folder / "locks").mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkstemp(prefix="probe-", dir=folder / "locks")[1])
    try:
        yield path.name
    finally:
        path.unlink(missing_ok=True)


class _Driver:
    """Submits what can start where there is room, and waits for what runs."""

    def __init__(self, ray: ModuleType, order: Order, runs: list[Run], workers: int | None) -> None:
        self.ray, self.order, self.workers = ray, order, workers
        self.plan, self.running, self.nodes, self.shares = Plan(runs), {}, {}, {}
        self.seen = time.monotonic()
        self.no_data: DataError | None = None
        self.task = ray.remote(max_retries=RETRIES, max_calls=0)(task)  # a GPU's worker, too, serves run after run
        if order.device == "cuda" and workers:
            per_gpu = math.ceil(workers / ray.cluster_resources()["GPU"])
            self.shares = {kind(run): 1 / per_gpu for run in runs}

    def run(self, deadline: float) -> Iterator[tuple[Run, str]]:
        try:
            while self.plan.unfinished and time.monotonic() < deadline:
                yield from self._start()
                wait = max(0.05, min(1, deadline - time.monotonic()))
                if self.running:
                    yield from self._ended(self.ray.wait([*self.running], timeout=wait)[0])
                elif self.plan.unfinished:
                    time.sleep(wait)
        finally:
            cancelled = self._cancel()
        yield from self._ended(cancelled)
        for run in [*self.plan.unfinished]:
            yield run, "stopped"
        if self.no_data:
            raise self.no_data

    def _start(self) -> Iterator[tuple[Run, str]]:
        """Submit what is ready, as far as there is room; what needs no training any more has ended.

        That is what another driver has trained meanwhile, and what cannot be: the students of a failed teacher.
        """
        free = self._free()
        for run in self.plan.ready(time.monotonic()):
            need = self._need(run)
            if len(self.running) >= (self.workers or math.inf) or not _fits(need, free):
                return
            self.plan.start(run)
            state = "failed" if run.teacher in self.plan.failed else store.state(self.order.folder, run)
            if state in ("done", "failed"):
                yield self._end(run, state)
            else:
                free.subtract(need)
                self._submit(run, need)

    def _submit(self, run: Run, need: Mapping[str, float]) -> None:
        where = {"scheduling_strategy": self._near(run)} if run.teacher in self.nodes else {}
        options = {"num_cpus": need["CPU"], "num_gpus": need.get("GPU", 0), "name": str(run), **where}
        self.running[self.task.options(**options).remote(run, self.order)] = run

    def _free(self) -> Counter:
        """What Ray has beyond what its tasks here asked for. Raises TrainingFailed after a while without a node."""
        free = Counter(self.ray.cluster_resources())
        for run in self.running.values():
            free.subtract(self._need(run))
        if self.running or _fits(self._need(None), free):
            self.seen = time.monotonic()
        elif time.monotonic() - self.seen > ALONE_SECONDS:
            raise TrainingFailed(
                f"for {ALONE_SECONDS} s no node of Ray had {_words(self._need(None))} to give. Finished runs are kept; "
                "start the same command again where there are nodes to go on."
            )
        return free

    def _need(self, run: Run | None) -> dict[str, float]:
        """What a run asks of Ray: a core, and of a GPU the whole until one of its kind has shown what it needs."""
        share = self.shares.get(kind(run), 1) if run else LEAST_SHARE
        return {"CPU": 1} | ({"GPU": share} if self.order.device == "cuda" else {})

    def _near(self, run: Run) -> Any:
        """The node where the run's teacher, and so the logit table, was used last; another where that has no room."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(self.nodes[run.teacher], soft=True, _spill_on_unavailable=True)

    def _ended(self, refs: Iterable[Any]) -> Iterator[tuple[Run, str]]:
        for ref in refs:
            run = self.running.pop(ref)
            outcome = self._outcome(ref, run)
            if outcome == "elsewhere":
                self.plan.again(run, at=time.monotonic() + AGAIN_SECONDS)
            elif outcome == "memory" and self.shares.get(kind(run), 1) < 1:
                self.shares[kind(run)] = min(1, 2 * self.shares[kind(run)])
                self.plan.again(run, at=0)
            elif outcome == "memory":
                yield self._end(run, "it needs more memory than a whole GPU has here. Use larger GPUs, or --device cpu")
            else:
                yield self._end(run, outcome)

    def _end(self, run: Run, outcome: str) -> tuple[Run, str]:
        self.plan.end(run, well=outcome == "done")
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
        except (lost.WorkerCrashedError, lost.NodeDiedError, lost.OutOfMemoryError, lost.LocalRayletDiedError) as error:
            return f"its process was lost {RETRIES + 1} times ({_first_line(error)}). Fewer workers need less memory"
        except lost.RayTaskError as error:
            return self._raised(error.cause, run)
        except lost.RayError as error:
            raise TrainingFailed(f"{run} could not be started by Ray: {_first_line(error)}") from error

    def _raised(self, error: BaseException, run: Run) -> str:
        """A data set that is missing keeps its own runs back, and is raised when the others have ended."""
        if isinstance(error, DataError):
            self.no_data = error
            for other in [one for one in self.plan.waiting if (one.dataset, one.data) == (run.dataset, run.data)]:
                self.plan.start(other)
                self.plan.end(other, well=False)
            return "failed"
        if isinstance(error, KdlibError):
            raise error
        raise TrainingFailed(f"{run}: {type(error).__name__}: {_first_line(error)}") from error

    def _cancel(self) -> list[Any]:
        """Let every task write a checkpoint; those that did, in time."""
        for ref in self.running:
            self.ray.cancel(ref)
        refs = [*self.running]
        return self.ray.wait(refs, num_returns=len(refs), timeout=STOP_SECONDS)[0] if refs else []


def _fits(need: Mapping[str, float], free: Mapping[str, float]) -> bool:
    return all(amount <= free.get(name, 0) + 1e-9 for name, amount in need.items())


def _words(need: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in need.items())


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# ------------------------------------------------------------------------------------------------------------ in a task


class _Elsewhere(Exception):
    """Another process has the run."""


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

    os.environ.update(order.environment)
    _check_node(order)
    stop: list[int] = []
    before = signal.signal(signal.SIGINT, lambda *_: stop.append(1))  # as Ray cancels a task
    try:
        outcome = outcome_of(run, order.folder, order.device, stop=lambda: bool(stop), waiting=_elsewhere)
    except _Elsewhere:
        outcome = "elsewhere"
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise
        outcome = "memory"
    finally:
        signal.signal(signal.SIGINT, before)
    return outcome, ray.get_runtime_context().get_node_id(), _memory(order.device)


def _elsewhere() -> None:
    raise _Elsewhere


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


def _memory(device: str) -> tuple[int, int] | None:
    if device != "cuda":
        return None
    import torch

    memory = torch.cuda.max_memory_reserved(), torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    return memory
