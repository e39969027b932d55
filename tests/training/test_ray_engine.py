"""Ray trains the same bits as the local engine, once each, whatever is killed; and no packet leaves the machine.

Ray's runtime lives in a network namespace of its own here: at its start it asks a link-local address for its cloud.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from kdlib import cli, places, store
from kdlib.errors import InvalidInput, StoreError, TrainingFailed
from kdlib.studies import load_profile
from kdlib.training import ray_engine, sweep
from kdlib.training.plan import Plan
from tests.conftest import TINY, as_in_a_terminal

ROOT = Path(__file__).resolve().parents[2]
UNSHARE = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
ALL_ROADS_LEAD_HOME = (  # every address is this machine's, so a packet to any other is seen, and goes nowhere
    "ip link set lo up && ip addr add 10.9.9.1/32 dev lo && ip route add local 0.0.0.0/0 dev lo src 10.9.9.1 && "
)
LONGER = TINY.replace("resnet8, epochs: 3", "resnet8, epochs: 30").replace("lenet5, epochs: 3", "lenet5, epochs: 60")
# Notes every run that is saved, in whatever process: PYTHONPATH reaches them all.
NOTES = """
import os, kdlib.store as store
save = store.save
def noted(runs_dir, run, **rest):
    home = save(runs_dir, run, **rest)
    with open(os.environ["KDLIB_SAVED"], "a") as file:
        file.write(run.id[:16] + "\\n")
    return home
store.save = noted
"""
LISTENS = """
import signal, socket, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
raw.bind(("lo", 0))
print("listening", flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
while True:
    packet, (_, protocol, *_) = raw.recvfrom(65535)
    to = socket.inet_ntoa(packet[16:20]) if protocol == 0x800 else "127.0.0.1"
    if not to.startswith("127.") and to != "10.9.9.1":
        print(to, flush=True)
"""


def no_namespace() -> str:
    """Why no network namespace can be made here; '' if one can."""
    if not shutil.which("unshare") or not shutil.which("ip"):
        return "needs unshare and ip, to keep Ray's question for its cloud on this machine"
    made = subprocess.run([*UNSHARE, "sh", "-c", ALL_ROADS_LEAD_HOME + "true"], capture_output=True, text=True)
    return f"no network namespace of its own can be made for Ray: {made.stderr.strip()}" if made.returncode else ""


WHY_NOT = no_namespace()
needs_namespace = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@pytest.fixture
def world(tmp_path):
    """(run a command in a namespace, folder): with a home of its own, and notes of what is saved."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "sitecustomize.py").write_text(NOTES)
    (tmp_path / "home").mkdir()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": f"{tmp_path / 'notes'}:{ROOT}",
        "KDLIB_SAVED": str(tmp_path / "saved"),
        "KDLIB_DATA": str(places.data_dir()),
    }

    def start(command: list[str], **options) -> subprocess.Popen:
        inside = [*UNSHARE, "bash", "-c", ALL_ROADS_LEAD_HOME + 'exec "$@"', "--", *command]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        how = {"env": environment, "process_group": 0, "preexec_fn": as_in_a_terminal}
        return subprocess.Popen(inside, **how, **pipes | options)

    return start, tmp_path


def train(profile: Path, folder: Path, *more: str) -> list[str]:
    command = [sys.executable, "-m", "kdlib", "train", "tiny", "--device", "cpu", "--engine", "ray"]
    return [*command, "--profile", str(profile), "--runs-dir", str(folder), *more]


def saved(folder: Path) -> list[str]:
    """Ids of the runs that were saved, once for each time."""
    path = folder / "saved"
    return sorted(path.read_text().split()) if path.exists() else []


def bits(folder: Path, study) -> list[bytes]:
    return [store.read_weights(folder, run) for run in study.runs()]


def local(study, folder: Path) -> list[bytes]:
    sweep.train(study, runs_dir=folder, device="cpu")
    return bits(folder, study)


def until(condition, process=None, seconds=90) -> None:
    for _ in range(seconds * 20):
        if condition():
            return
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


@pytest.fixture
def longer(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(LONGER)
    return path, load_profile(path).study("tiny")


@pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")
class TestRay:
    pytestmark = needs_namespace

    def test_the_bits_are_those_of_the_local_engine_and_nothing_leaves_the_machine(self, world, tiny_yaml, study):
        start, tmp_path = world
        listener = (
            f"{sys.executable} -c '{LISTENS}' > {tmp_path}/heard & until [ -s {tmp_path}/heard ]; do sleep .1; done"
        )
        command = [
            "bash",
            "-c",
            f'{listener}; "$@"; rc=$?; kill $!; exit $rc',
            "--",
            *train(tiny_yaml, tmp_path / "runs"),
        ]
        process = start(command)
        out, error = process.communicate(timeout=300)
        assert process.returncode == 0 and "8 of 8 runs are there" in out and "8 trained now" in out, error
        assert saved(tmp_path) == sorted(run.id[:16] for run in study.runs())
        assert bits(tmp_path / "runs", study) == local(study, tmp_path / "local")
        assert (tmp_path / "heard").read_text().split() == ["listening"]
        assert not list((tmp_path / "home").rglob("*"))
        assert not [line for line in error.splitlines() if "training" not in line]

    @pytest.mark.slow
    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupt_writes_checkpoints_and_the_same_command_ends_with_the_same_bits(self, world, longer, how):
        start, tmp_path = world
        profile, study = longer
        process = start(["sh", "-c", 'echo $$; exec "$@"', "--", *train(profile, tmp_path / "runs")])
        driver = int(process.stdout.readline())
        until(lambda: list((tmp_path / "runs").glob("locks/*.claim")), process)
        time.sleep(1)
        os.killpg(process.pid, how) if how == signal.SIGINT else os.kill(driver, how)  # a terminal's goes to all
        error = process.communicate(timeout=120)[1]
        assert process.returncode == 130 and "start the same command again to go on" in error, error
        assert list((tmp_path / "runs").glob("*.partial/checkpoint"))
        assert not list((tmp_path / "runs").glob("locks/*.claim"))
        process = start(train(profile, tmp_path / "runs"))
        process.communicate(timeout=300)
        assert process.returncode == 0
        assert bits(tmp_path / "runs", study) == local(study, tmp_path / "local")

    @pytest.mark.slow
    def test_of_two_nodes_one_is_killed_and_every_run_is_there_once(self, world, longer):
        start, tmp_path = world
        profile, study = longer
        nodes = start([sys.executable, "-c", TWO_NODES, str(tmp_path), *train(profile, tmp_path / "runs")])
        out, error = nodes.communicate(timeout=400)
        assert nodes.returncode == 0 and "8 of 8 runs are there" in out, error
        assert json.loads((tmp_path / "killed.json").read_text())["training"]
        assert saved(tmp_path) == sorted(run.id[:16] for run in study.runs())
        assert bits(tmp_path / "runs", study) == local(study, tmp_path / "local")

    @pytest.mark.slow
    def test_the_head_is_killed_and_the_same_command_goes_on(self, world, longer):
        start, tmp_path = world
        profile, study = longer
        process = start(train(profile, tmp_path / "runs"))
        until(lambda: saved(tmp_path), process)
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            words = path.read_bytes().split(b"\0")
            if words[0].endswith(b"gcs_server") and str(process.pid) in ancestors(path.parent.name):
                os.kill(int(path.parent.name), signal.SIGKILL)
        process.communicate(timeout=300)
        assert process.returncode
        process = start(train(profile, tmp_path / "runs"))
        process.communicate(timeout=300)
        assert process.returncode == 0
        assert saved(tmp_path) == sorted(run.id[:16] for run in study.runs())
        assert bits(tmp_path / "runs", study) == local(study, tmp_path / "local")

    @pytest.mark.slow
    def test_four_drivers_share_a_folder_and_train_nothing_twice(self, world, longer):
        start, tmp_path = world
        profile, study = longer
        command = train(profile, tmp_path / "runs", "--workers", "1")
        drivers = [start(command) for _ in range(3)] + [start([{"ray": "local"}.get(word, word) for word in command])]
        for driver in drivers:
            out, error = driver.communicate(timeout=400)
            assert driver.returncode == 0 and "8 of 8 runs are there" in out, error
        assert saved(tmp_path) == sorted(run.id[:16] for run in study.runs())
        assert bits(tmp_path / "runs", study) == local(study, tmp_path / "local")


def ancestors(pid: str) -> list[str]:
    found = [pid]
    while found[-1] not in ("0", "1"):
        found.append(Path(f"/proc/{found[-1]}/stat").read_text().rpartition(")")[2].split()[1])
    return found


# A head without cores, two nodes of one core each; the one that trains first is killed with all its processes.
TWO_NODES = """
import json, os, pathlib, subprocess, sys, time
folder, command = pathlib.Path(sys.argv[1]), sys.argv[2:]
home = folder / "home"
(home / "ray_bootstrap_config.yaml").write_text("{}")
os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", RAY_raylet_start_wait_time_s="120")
from ray.cluster_utils import Cluster
options = {"include_dashboard": False, "object_store_memory": 80 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **options})
nodes = [cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20) for _ in range(2)]
driver = subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": cluster.address})
claims = lambda: [*(folder / "runs/locks").glob("*.claim")]
while len(claims()) < 2 and driver.poll() is None:
    time.sleep(0.05)
time.sleep(1)
training = [path.name for path in claims()]
(folder / "killed.json").write_text(json.dumps({"training": training}))
cluster.remove_node(nodes[1], allow_graceful=False)
status = driver.wait()
cluster.shutdown()
sys.exit(status)
"""


# ---------------------------------------------------------------------------------------------------- without a runtime


@pytest.mark.parametrize(("version", "message"), [(None, r"kdlib\[ray\]"), ("2.51.3", "2.51.3 .*CVE-2025-62593")])
def test_ray_that_is_missing_or_too_old_is_refused_before_anything_changes(
    tmp_path, study, monkeypatch, version, message
):
    def found(name):
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", found)
    store.record_failure(tmp_path, study.runs()[0], "kept")
    with pytest.raises(InvalidInput, match=message):
        sweep.train(study, runs_dir=tmp_path, engine="ray", retry_failed=True)
    assert store.failure(tmp_path, study.runs()[0]) == "kept"


def test_a_student_waits_for_its_teacher_and_a_run_that_is_elsewhere_for_its_turn(runs):
    teacher, nds, student = runs["teacher", 0, None], runs["nds", 0, None], runs["ds", 0, 4.0]
    plan = Plan([teacher, nds, student])
    assert [*plan.ready(0)] == [teacher, nds]
    plan.not_before[teacher] = 5
    assert [*plan.ready(4)] == [nds] and [*plan.ready(5)] == [teacher, nds]
    plan.waiting.discard(teacher)
    assert [*plan.ready(5)] == [nds]
    plan.unfinished.discard(teacher)
    assert [*plan.ready(5)] == [nds, student]


def test_a_share_of_a_gpu_holds_the_context_and_a_fifth_more_than_the_peak():
    assert ray_engine.share(10 * 2**30, 80 * 2**30) == 0.17  # (1.2 * 10 + 1) / 80 = 0.1625
    assert ray_engine.share(0, 80 * 2**30) == ray_engine.LEAST_SHARE
    assert ray_engine.share(80 * 2**30, 24 * 2**30) > 1


def test_a_node_with_another_kdlib_or_another_folder_is_refused(tmp_path):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks/probe-1").touch()
    ray_engine._check_node(ray_engine.Order(tmp_path, "cpu", "probe-1", ray_engine.code(), {}))
    with pytest.raises(TrainingFailed, match="kdlib is .* 0.0 .*where this started. Install the same"):
        ray_engine._check_node(ray_engine.Order(tmp_path, "cpu", "probe-1", "0.0 (123)", {}))
    with pytest.raises(StoreError, match="--runs-dir"):
        ray_engine._check_node(ray_engine.Order(tmp_path, "cpu", "probe-2", ray_engine.code(), {}))


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
@pytest.mark.parametrize(
    "address", [pytest.param("127.0.0.1:1", marks=pytest.mark.slow), "ray://127.0.0.1:10001", "nowhere"]
)
def test_a_cluster_that_does_not_answer_is_an_error_within_a_minute(tmp_path, tiny_yaml, address):
    environment = {**os.environ, "RAY_ADDRESS": address, "HOME": str(tmp_path)}
    command = train(tiny_yaml, tmp_path / "runs")
    done = subprocess.run([*UNSHARE, *command], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "RAY_ADDRESS" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("template", ["one_node.sh", "array.sh"])
def test_a_cluster_that_takes_the_machine_back_reaches_kdlib_through_the_template(tmp_path, template):
    kdlib = tmp_path / "kdlib"
    kdlib.write_text('#!/bin/bash\ntrap "echo checkpoint > $0.stopped; exit 130" TERM\necho "$@" > $0.started\n')
    kdlib.write_text(kdlib.read_text() + "while true; do sleep 0.05; done\n")
    kdlib.chmod(0o755)
    folders = {"KDLIB_RUNS": "/shared/runs", "KDLIB_DATA": "/shared/data", "SLURM_JOB_ID": f"test-{os.getpid()}"}
    environment = {**os.environ, **folders, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    job = subprocess.Popen(["bash", ROOT / "docs/cluster" / template, "cifar100-resnet"], env=environment)
    until(lambda: (tmp_path / "kdlib.started").is_file() and (tmp_path / "kdlib.started").read_text(), job)
    time.sleep(0.2)
    job.terminate()
    assert job.wait(30) == 130 and (tmp_path / "kdlib.stopped").read_text() == "checkpoint\n"
    words = (tmp_path / "kdlib.started").read_text().split()
    assert cli.parser().parse_args(words).engine == "ray"
    assert not Path(f"/tmp/kdtest-{os.getpid()}").exists()


def test_the_template_for_several_nodes_is_a_script():
    assert subprocess.run(["bash", "-n", ROOT / "docs/cluster/several_nodes.sh"]).returncode == 0
