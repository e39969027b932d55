"""The wheel is whole: installed without the checkout it imports, has its data files, starts and reads predictions."""

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.data import test_own
from tests.test_your_own import SMALLER

ROOT = Path(__file__).resolve().parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]

IMPORTS = """
import importlib, importlib.metadata, json, pkgutil, sys
import kdlib

walked = [m.name for m in pkgutil.walk_packages(kdlib.__path__, "kdlib.")]
for name in walked:
    if name != "kdlib.__main__":
        importlib.import_module(name)
missing = []
for module, name in json.load(sys.stdin):
    try:
        hasattr(importlib.import_module(module), name) or importlib.import_module(f"{module}.{name}")
    except ImportError:
        missing.append(f"{module}: {name}")
scripts = [e.load().__module__ for e in importlib.metadata.distribution("kdlib").entry_points]
print(json.dumps({"file": kdlib.__file__, "modules": walked, "missing": missing, "scripts": scripts}))
"""

READS = """
import sys
from kdlib.predictions import collect
from kdlib.studies import load_profile

profile, folder = sys.argv[1:]
found = collect.collect(load_profile(profile).study("utkface"), runs_dir="none", released=folder)
print(len(found.runs), len(found.labels), len(found.absent))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built in a copy: setuptools leaves a build folder beside the sources, and would take files from an old one."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "kdlib", folder / "source/kdlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    subprocess.run([*PIP, "wheel", *options, folder / "source"], check=True)
    (built,) = folder.glob("kdlib-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel):
    site = wheel.parent / "site"
    subprocess.run([*PIP, "install", "--no-index", "--no-deps", "--target", site, wheel], check=True)
    return site


@pytest.fixture
def run(installed, tmp_path):
    """Runs Python on the installed wheel. With -S it reads no .pth file, such as that of kdlib's editable install."""
    paths = sysconfig.get_paths()
    path = os.pathsep.join(dict.fromkeys([str(installed), paths["purelib"], paths["platlib"]]))

    def python(*arguments, status=0, **options):
        command = [sys.executable, "-S", "-P", *arguments]
        environment = os.environ | {"PYTHONPATH": path}
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, **options)
        assert ran.returncode == status, ran.stderr
        return ran.stderr if status else ran.stdout

    return python


def sources():
    return sorted((ROOT / "kdlib").rglob("*.py"))


def dotted(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imported_by_name():
    """(module, name) of every `from kdlib... import name`, also of those inside functions."""
    nodes = [node for path in sources() for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "kdlib"]
    return sorted({(node.module, alias.name) for node in froms for alias in node.names})


def test_every_module_imports(run, installed):
    found = json.loads(run("-c", IMPORTS, input=json.dumps(imported_by_name())))
    assert Path(found["file"]) == installed / "kdlib/__init__.py"
    assert sorted(found["modules"]) == [dotted(path) for path in sources() if dotted(path) != "kdlib"]
    assert found["missing"] == [] and found["scripts"] == ["kdlib.cli"]


def test_every_data_file_is_there(wheel, installed):
    files = [path for path in (ROOT / "kdlib").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    names = sorted(path.relative_to(ROOT).as_posix() for path in files)
    packed = zipfile.ZipFile(wheel).namelist()
    assert sorted(n for n in packed if n.startswith("kdlib/") and not n.endswith(".py")) == names
    assert {Path(name).suffix for name in names} >= {".csv", ".mplstyle"}
    assert all((installed / name).read_bytes() == (ROOT / name).read_bytes() for name in names)


def test_the_command_starts(run):
    assert "usage:" in run("-m", "kdlib", "--help")


def test_released_predictions_can_be_read(run):
    said = run("-c", READS, ROOT / "params/real-small.yaml", ROOT / "figures/real-small/predictions")
    runs, samples, absent = map(int, said.split())
    assert runs > 0 and samples > 0 and absent == 0


USED = """
import kdlib

if __name__ == "__main__":
    study = kdlib.load_profile("my.yaml").study("pets")
    print(kdlib.train(study, device="cpu"))
    found = kdlib.collect(study)
    print(len(found.runs), len(found.labels), found.class_names, sorted(found.groups))
"""


def test_ones_own_study_works_in_any_folder_and_what_needs_a_checkout_is_said(run, tmp_path, monkeypatch):
    monkeypatch.setenv("KDLIB_DATA", "data")
    (tmp_path / "data").mkdir()
    test_own.npz(tmp_path / "data")
    assert "my.yaml is written" in run("-m", "kdlib", "init", "my.yaml")
    text = (tmp_path / "my.yaml").read_text(encoding="utf-8")
    for full, small in SMALLER.items():
        text = text.replace(full, small.replace("100", "9"))
    (tmp_path / "my.yaml").write_text(text, encoding="utf-8")
    said = run("-m", "kdlib", "train", "--profile", "my.yaml", "--device", "cpu")
    assert "6 of 6" in said and "test accuracy" in said and "pets: 6 of 6 runs are there" in said
    assert run("-m", "kdlib", "status", "--profile", "my.yaml").startswith("pets  6 runs: 6 done\n")
    assert "digits comes with scikit-learn" in run("-m", "kdlib", "fetch", "digits")
    (tmp_path / "used.py").write_text(USED, encoding="utf-8")
    assert "6 6 ('cat', 'ant', 'bee') ['size']" in run("used.py")
    for words in (["status"], ["reproduce", "fig1", "--profile", "my.yaml"]):
        assert "in a checkout" in run("-m", "kdlib", *words, status=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "my.yaml", "runs", "used.py"]


def test_a_table_is_read_and_audited_in_any_folder(run, tmp_path):
    rows = [
        f"s{i},{model},{i % 2},{(i % 2) ^ (i % wrong == 0)},{'fm'[i % 4 // 2]}"
        for i in range(40)
        for model, wrong in (("a", 9), ("b", 5))
    ]
    (tmp_path / "p.csv").write_text("\n".join(["sample_id,model,y_true,y_pred,sex", *rows]), encoding="utf-8")
    said = run("-m", "kdlib", "audit", "p.csv", "--baseline", "a", "--sensitive", "sex")
    assert said.endswith("report.html\n") and (tmp_path / "report.html").is_file()
    assert run("-c", "import kdlib; print(kdlib.read_table('p.csv').accuracy)") == "[0.875 0.8  ]\n"
