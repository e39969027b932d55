"""Shared by all tests: a profile so small that it trains in seconds."""

import os
import signal
from pathlib import Path

import pytest

from kdlib.studies import Profile, Run, Study, load_profile

# The tests run side by side, and the threads of one would wait for a core that another has: drawing Trifeature took
# twenty times as long. Processes that a test starts inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

TINY = """
profile: tiny
recipes:
  sgd: {optimizer: sgd, lr: 0.02, momentum: 0.9, weight_decay: 0.001, milestones: [0.5], gamma: 0.1, batch_size: 32}
studies:
  tiny:
    dataset: digits
    data: {train_images: 100}
    augment: {crop: 1}
    recipe: sgd
    teacher: {model: resnet8, epochs: 3}
    student: {model: lenet5, epochs: 3}
    temperatures: [1, 4]
    seeds: 2
artefacts:
  table06: [tiny]
"""


def make_project(folder: Path) -> None:
    """Make a folder one that kdlib takes for its checkout. Without __init__.py it hides no package."""
    for name in ("params", "kdlib"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "kdlib/places.py").touch()


@pytest.fixture
def tiny_yaml(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture
def tiny(tiny_yaml: Path) -> Profile:
    return load_profile(tiny_yaml)


@pytest.fixture
def study(tiny: Profile) -> Study:
    return tiny.study("tiny")


@pytest.fixture
def runs(study: Study) -> dict[tuple[str, int, float | None], Run]:
    return {(run.role, run.seed, run.temperature): run for run in study.runs()}


@pytest.fixture
def teacher(runs) -> Run:
    return runs["teacher", 0, None]


@pytest.fixture
def student(runs) -> Run:
    return runs["ds", 0, 4.0]


def as_in_a_terminal() -> None:
    """A shell's background job, these tests among them, ignores Ctrl-C, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def train_run(run: Run, *, runs_dir: Path, **options) -> None:
    """Train a run to its end in this process; options: those of `loop.training`."""
    from kdlib.training import loop, process  # after the threads are set

    process.through(loop.training(run, runs_dir=Path(runs_dir), **options))
