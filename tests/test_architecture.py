"""Imports go one way, measuring needs no torch, and modules stay small: checked from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BASE = {"errors", "catalogue", "celeba", "dial", "places", "studies", "store"}
TRAINING = {"losses", "models", "library_models", "text_models", "data", "views", "logit_table", "training"}
TOP = {"fetch", "reproduce", "readme", "cli", "__main__"}
MODULES = {p.stem if p.parent.name == "kdlib" else "data" for p in (ROOT / "kdlib").rglob("*.py")} - {"__init__"}
MEASURING = MODULES - BASE - TRAINING - TOP - {"sweep"}


def files(module: str) -> list[Path]:
    return sorted((ROOT / "kdlib/data").glob("*.py")) if module == "data" else [ROOT / f"kdlib/{module}.py"]


def imports(path: Path, *, top_only: bool = False) -> set[str]:
    """Full names of what a file imports; of kdlib its first level, such as 'kdlib.store'."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "kdlib":
            found |= {f"kdlib.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


def kdlib_imports(module: str) -> set[str]:
    names = set().union(*(imports(path) for path in files(module)))
    return {name.split(".")[1] for name in names if name.startswith("kdlib.")} - {module, "__version__"}


@pytest.mark.parametrize("module", sorted(BASE))
def test_the_base_imports_the_base_alone(module):
    assert kdlib_imports(module) <= BASE


@pytest.mark.parametrize("module", sorted(TRAINING))
def test_training_never_imports_measuring(module):
    assert kdlib_imports(module) <= BASE | TRAINING


@pytest.mark.parametrize("module", sorted(MEASURING))
def test_measuring_never_imports_training_nor_torch(module):
    assert kdlib_imports(module) <= BASE | MEASURING
    names = set().union(*(imports(path) for path in files(module)))
    assert not {name for name in names if name.split(".")[0] in ("torch", "torchvision", "safetensors")}


def test_the_sweep_imports_training_only_when_a_run_is_missing():
    top = imports(ROOT / "kdlib/training/sweep.py", top_only=True)
    assert not {"torch", "kdlib.training.loop", "kdlib.data", "kdlib.models"} & top
    assert kdlib_imports("sweep") <= BASE | {"training"}


def test_measuring_modules_do_not_import_each_other_in_circles():
    graph = {module: kdlib_imports(module) for module in MODULES}
    done: set[str] = set()
    while left := MODULES - done:
        free = {module for module in left if graph[module] <= done}
        assert free, f"a circle of imports among {sorted(left)}"
        done |= free


def test_everything_but_training_loads_without_torch():
    names = sorted(f"kdlib.{module}" for module in MODULES - TRAINING - {"__main__"})
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_pingouin_is_imported_only_where_it_is_used():
    """It is GPL-3.0; kdlib is MIT, and works without it until somebody asks for what it computes."""
    for module in MODULES:
        for path in files(module):
            assert "pingouin" not in {name.split(".")[0] for name in imports(path, top_only=True)}


def test_nothing_is_printed_but_by_the_command():
    for module in MODULES - {"cli"}:
        for path in files(module):
            calls = [
                node.func.id
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            ]
            assert "print" not in calls, path


def test_every_file_says_what_it_is_for():
    for path in [*(ROOT / "kdlib").rglob("*.py"), *(ROOT / "tests").glob("test_*.py")]:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_every_public_function_says_what_it_does():
    missing = []
    for path in (ROOT / "kdlib").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and len(ast.unparse(node).splitlines()) > 6 and not ast.get_docstring(node):
                missing.append(f"{path.name}: {node.name}")
    assert not missing
