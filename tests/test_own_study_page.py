"""docs/own_study.md: its commands and its Python run as printed, on tiny data, in a project of their own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kdlib import own_models
from tests.conftest import make_project

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/own_study.md").read_text(encoding="utf-8")
SHELL, CODE = (re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE) for kind in ("sh", "python"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A checkout with tiny images in data/pets; its notebooks are copies, its Python is the real one."""
    folder = tmp_path_factory.mktemp("checkout")
    make_project(folder)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "data/pets").mkdir(parents=True)
    rng, parts = np.random.default_rng(0), {}
    for part, n in (("train", 24), ("test", 40)):
        labels = np.arange(n) % 2
        parts |= {f"{part}_x": (rng.integers(0, 128, (n, 8, 8)) + 100 * labels[:, None, None]).astype(np.uint8)}
        parts |= {f"{part}_y": labels}
    np.savez(folder / "data/pets/pets.npz", **parts)
    return folder


def run(command, project):
    given = {name: value for name, value in os.environ.items() if name != "KDLIB_DATA"} | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(["bash", "-ec", command], cwd=project, env=given, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def said(project):
    """What the commands of the page say."""
    return run(SHELL[0], project)


def test_the_commands_run_as_printed(said, project):
    assert "30 runs to train (teachers: 5, NDS: 5, DS: 20)" in said and "30 of 30 runs are there" in said
    assert (project / "figures/my/fig1_pets.png").is_file(), said
    assert re.search(r"^fig1 .*done; your own study pets$", said, re.MULTILINE)
    assert not [path.name for path in (project / "figures/my").iterdir() if "stand" in path.name]


@pytest.mark.usefixtures("said")
def test_the_python_runs_as_printed_and_needs_no_more_training(project):
    (project / "page.py").write_text(CODE[0], encoding="utf-8")
    assert run(".venv/bin/python page.py", project) == "" and (project / "fig1.png").is_file()


def test_the_network_is_one(project):
    network = own_models.build("nets.py:mynet@0", CODE[1], classes=3, channels=3, image_size=8)
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 3)
    assert all(part in SHELL[1] for part in ("train", "--allow-code")) and len(SHELL) == len(CODE) == 2
