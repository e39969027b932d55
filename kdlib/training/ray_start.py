"""Ray on this machine alone, or the connection to a cluster; the driver and its tasks are in `ray_engine`.

No packet leaves the machine where Ray is started here, and nothing stays in the user's home.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from kdlib import places
from kdlib.errors import InvalidInput, TrainingFailed

OLDEST = (2, 52)
CONNECT_SECONDS = 60  # of which Ray's import may take many
STARTS = 3  # a busy machine may take longer than Ray waits
SOCKET_PATH = 107 - len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")


def check() -> None:
    """Raise InvalidInput unless Ray is there, and recent enough. Nothing of it is imported."""
    try:
        version = metadata.version("ray")
    except metadata.PackageNotFoundError:
        raise InvalidInput("engine 'ray' needs Ray, which is not installed: pip install 'kdlib[ray]'.") from None
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST:
        why = f"Ray {version} is refused: below 2.52 a web page can run code through it (CVE-2025-62593)"
        raise InvalidInput(f"{why}. Update it: pip install -U 'kdlib[ray]'.")


@contextmanager
def session(*, workers: int | None, device: str) -> Iterator[Any]:
    """Ray, started here or connected to the cluster at RAY_ADDRESS, and left again; one that is there is used as it is.

    Raises TrainingFailed where it does not start, or the cluster does not answer within CONNECT_SECONDS.
    """
    check()
    address, before = cluster_address(), signal.getsignal(signal.SIGTERM)
    # with the latter it listens on loopback alone, unless it was imported before
    settings = {"RAY_USAGE_STATS_ENABLED": "0"}
    if address == "local":
        settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    with _environment(settings):
        import ray
    if ray.is_initialized():
        yield ray
        return
    folder = tempfile.gettempdir()
    short = folder if len(folder) + len("/kdlib-12345678") <= SOCKET_PATH else "/tmp"
    with tempfile.TemporaryDirectory(prefix="kdlib-", dir=short, ignore_cleanup_errors=True) as home:
        try:
            with _environment(settings):
                _connect(ray, address) if address != "local" else _start(ray, Path(home), workers, device)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # Ray took it, and would leave without checkpoints
            yield ray
        finally:
            ray.shutdown()
            _forget_token()


def cluster_address() -> str:
    """'local', 'auto', or host:port of a cluster."""
    address = os.environ.get("RAY_ADDRESS") or "local"
    if address not in ("local", "auto") and not re.fullmatch(r"[^/\s]+:\d{1,5}", address):
        raise InvalidInput(f"RAY_ADDRESS is {address!r}; give host:port of a cluster that this machine is a node of.")
    return address


def _connect(ray: Any, address: str) -> None:
    try:  # in a process of its own first: where something else listens Ray waits for minutes
        hello = f"import ray; ray.init({address!r}, log_to_driver=False)"
        subprocess.run([sys.executable, "-c", hello], capture_output=True, check=True, timeout=CONNECT_SECONDS)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray has many kinds, and for a wrong token a plain one
        why = f"no Ray cluster that lets us in answers at RAY_ADDRESS={address} within {CONNECT_SECONDS} s"
        raise TrainingFailed(f"{why}. Start one, or unset RAY_ADDRESS to train on this machine alone.") from error


def _start(ray: Any, home: Path, workers: int | None, device: str) -> None:
    """Start Ray on this machine alone, behind a token.

    At its start Ray asks a link-local address which cloud it is on, whatever one sets, unless its home folder describes
    a cluster. So it gets a home of its own with an empty description; tasks get the user's back.
    """
    (home / "ray_bootstrap_config.yaml").write_text("{}\n")
    cores = places.cores()
    size = {"num_cpus": workers or cores, "num_gpus": 0} if device == "cpu" else {"num_cpus": max(workers or 0, cores)}
    size["object_store_memory"] = 80 * 2**20  # nothing passes through it; the least that Ray takes is 75 MiB
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    _forget_token()
    for _ in range(STARTS):
        try:
            with _environment({"HOME": str(home)}):
                ray.init(address="local", _temp_dir=str(home), **size, **quiet)
            return
        except Exception as error:
            ray.shutdown()
            why = f"Ray did not start in {STARTS} attempts: {first_line(error)}"
    raise TrainingFailed(f"{why} Give it a quieter machine, or use --engine local.")


def _forget_token() -> None:
    """The token of a Ray that was here before opens no other. Older ones keep none."""
    with suppress(ImportError, AttributeError):
        from ray._raylet import AuthenticationTokenLoader

        AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """These environment variables for a moment; whatever changes others meanwhile, as Ray does, is undone as well."""
    before = {**os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in {*os.environ} - {*before}:
            del os.environ[name]
        os.environ.update(before)


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
