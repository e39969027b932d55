"""The files that set the project up agree with each other: dependencies, lock, conda entry, Makefile, ignore rules."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import kdlib
from kdlib import cli

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
LOCK_TEXT = (ROOT / "requirements.lock").read_text("utf-8")
# One package a line: its requirement, then its hashes.
LOCK_LINES = [line.split(" --hash=") for line in re.sub(r" \\\n +", " ", LOCK_TEXT).splitlines() if line[0] != "#"]
LOCK = {canonicalize_name(Requirement(line[0]).name): Requirement(line[0]) for line in LOCK_LINES}
CUDA = sorted(name for name in LOCK if name.startswith(("nvidia-", "cuda-")) or name == "triton")


def pin(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return specifier.version


def applies(name: str, *, sys_platform: str, python: str = "3.12.1") -> bool:
    """Whether the lock installs `name` on that platform."""
    system = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[sys_platform]
    machine = {"linux": "x86_64", "darwin": "arm64", "win32": "AMD64"}[sys_platform]
    place = {"sys_platform": sys_platform, "platform_system": system, "platform_machine": machine}
    place |= {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    return LOCK[name].marker is None or LOCK[name].marker.evaluate(place)


def test_lock_holds_exact_versions_alone():
    assert len(LOCK) == len(LOCK_LINES) > 100, "a package stands in the lock twice, or the lock is not whole"
    for (line, *_), requirement in zip(LOCK_LINES, LOCK.values(), strict=True):
        assert re.fullmatch(r"[a-z0-9.-]+==[a-z0-9.]+( ; .+)?", line), line
        assert requirement.url is None and pin(requirement)


def test_lock_has_a_hash_of_every_file_and_setup_asks_for_them():
    for line, *hashes in LOCK_LINES:
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", found) for found in hashes), line
    assert "--require-hashes -r requirements.lock" in (ROOT / "Makefile").read_text("utf-8")


def test_lock_names_no_place():
    assert not re.search(r"://|file:|@|/|^-", LOCK_TEXT, re.MULTILINE)


def test_actions_are_pinned_by_commit():
    workflows = sorted((ROOT / ".github/workflows").glob("*.yml"))
    used = [action for path in workflows for action in re.findall(r"uses: (.+)", path.read_text("utf-8"))]
    assert used and all(re.fullmatch(r"[a-z-]+/[a-z-]+@[0-9a-f]{40}  # v[0-9.]+", action) for action in used), used


OWN = "kdlib[ray,site,text,vision]"  # dev holds these extras too: the tests use them all
EXTRAS = ("dev", "ray", "site", "text", "vision")


@pytest.mark.parametrize(
    "text",
    PROJECT["dependencies"]
    + [text for extra in EXTRAS for text in PROJECT["optional-dependencies"][extra] if text != OWN]
    + PYPROJECT["build-system"]["requires"],
)
def test_every_dependency_is_pinned_within_its_range(text):
    requirement = Requirement(text)
    locked = LOCK[canonicalize_name(requirement.name)]
    assert pin(locked) in requirement.specifier
    assert locked.marker is None, "a dependency of ours is needed everywhere"


def test_torch_and_torchvision_belong_together():
    assert (pin(LOCK["torch"]), pin(LOCK["torchvision"])) == ("2.14.1", "0.29.1")


def test_cuda_is_for_linux_alone():
    assert len(CUDA) > 10
    for name in CUDA:
        where = [platform for platform in ("linux", "darwin", "win32") if applies(name, sys_platform=platform)]
        assert where == ["linux"], name


def test_conda_entry_has_the_same_pins():
    *conda, pip_packages = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    assert conda == [f"python{PROJECT['requires-python']}", "pip"], "a version named here would escape the lock"
    assert pip_packages == {"pip": ["-r requirements.lock"]}


def test_makefile_checks_the_python_that_the_project_requires():
    text = (ROOT / "Makefile").read_text("utf-8")
    low, high = re.search(r"\((\d+, \d+)\) <= v <= \((\d+, \d+)\)", text).groups()
    above = f"3.{int(high.split(', ')[1]) + 1}"
    assert PROJECT["requires-python"] == f">={low.replace(', ', '.')},<{above}"


def test_makefile_targets():
    text = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^([a-z-]+):", text, re.MULTILINE)
    assert targets[0] == "help", "the first target is the default one"
    assert {"setup", "reproduce", "test", "test-notebooks", "test-slow", "lint", "lab"} <= set(targets)
    assert sorted(re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)[1].split()) == sorted(targets)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_paper_gpu_is_one_command_that_kdlib_knows():
    asked = ["make", "--dry-run", "--no-print-directory", "paper-gpu", "BUDGET=90s", "RUNS_DIR=elsewhere"]
    said = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.replace("\\\n", "")
    words = re.search(r"-m kdlib (.+) \|\|", said)[1].split()
    known = cli.parser().parse_args(words)
    assert (known.profile, known.device, known.budget, known.runs_dir) == ("paper", "cuda", "90s", "elsewhere")
    assert known.studies == [] and said.rstrip().endswith(f"[ $? -eq {cli.MORE_TO_DO} ]")


def test_ci_script_can_be_run():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text("utf-8").splitlines()


def test_the_package_is_installed_whole():
    folder = ROOT / "kdlib"
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["*"]
    packaged = {path for pattern in patterns for path in folder.rglob(pattern)}
    files = {path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__"}
    assert {path for path in files if path.suffix != ".py"} == packaged
    assert all((path.parent / "__init__.py").exists() for path in files), "a folder without __init__.py is not packaged"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_ignore_rules(tmp_path):
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    ignored = ["runs/a/logits.safetensors", "data/cifar10/cifar10.npz", "figures/quick/fig1.png", ".venv/bin/python"]
    kept = ["kdlib/data/vision.py", "figures/quick/gallery/fig1.png", "figures/paper/fig1.png", "notebooks/fig1.ipynb"]
    asked = subprocess.run(["git", "check-ignore", *ignored, *kept], cwd=tmp_path, capture_output=True, text=True)
    assert asked.stdout.split() == ignored


def test_citation():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert (cff["cff-version"], cff["version"], cff["license"]) == ("1.2.0", kdlib.__version__, PROJECT["license"])
    paper = cff["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == ["Mohammadshahi", "Ioannou"]
    assert (paper["year"], paper["issn"], paper["url"][-10:]) == (2025, "2835-8856", "xBbj46Y2fN")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an archive tracks nothing")
def test_what_is_tracked_stays_small():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    sizes = {name: (ROOT / name).stat().st_size for name in listed.split("\0") if (ROOT / name).is_file()}
    assert sum(sizes.values()) < 38 * 2**20, sorted(sizes, key=sizes.get)[-5:]
