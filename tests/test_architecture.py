"""Imports go down only, folder by folder; measuring needs no torch; every file says what it is for."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A room may import what stands on a lower floor. Rooms of one floor do not know each other.
FLOORS = (
    ("errors", "collapse", "__init__"),
    ("places", "files", "catalogue"),
    ("profiles",),
    ("studies",),
    ("store",),
    ("data", "progress"),
    ("predictions", "losses", "models", "library_models", "text_models", "own_models"),
    ("measure",),
    ("paper",),
    ("show", "claims"),
    ("training", "planning", "needs"),
    ("notebook", "auditing"),
    ("reproduce",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}
MAY_TRAIN = (
    "notebook",
    "reproduce",
    "cli",
    "__main__",
)  # where a run is missing; nothing else above training imports it
CORE = ("losses", "models", *(f"measure.{name}" for name in ("arms", "stats", "class_tests", "class_counts")))
CORE += tuple(f"measure.{name}" for name in ("class_bias", "fairness", "group_counts", "individual"))
TRAINS = ("losses", "models", "library_models", "text_models", "own_models", "data", "training")  # these may need torch
FILES = sorted((ROOT / "kdlib").rglob("*.py"))


def module(path: Path) -> str:
    """'measure.arms' for kdlib/measure/arms.py; 'measure' for kdlib/measure/__init__.py."""
    parts = path.relative_to(ROOT / "kdlib").with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


def imports(path: Path, *, top_only: bool = False) -> set[str]:
    """Full names of what a file imports; of kdlib its modules, such as 'kdlib.measure.arms'."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            known = {name for name in inner if name.removeprefix("kdlib.") in MODULES}
            found |= known | ({node.module} if len(known) < len(inner) else set())
    return found


def kdlib_imports(name: str, **options: bool) -> set[str]:
    """Modules of kdlib that one imports, without 'kdlib.' ahead; the package itself is '__init__'."""
    names = imports(MODULES[name], **options)
    return {n.removeprefix("kdlib.") if n != "kdlib" else "__init__" for n in names if n.split(".")[0] == "kdlib"}


def room(name: str) -> str:
    return name.split(".")[0]


def test_every_room_has_a_floor():
    assert {room(name) for name in MODULES} == set(FLOOR)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_down_only(name):
    for other in kdlib_imports(name):
        assert room(other) == room(name) or FLOOR[room(other)] < FLOOR[room(name)], f"{name} imports {other}"


@pytest.mark.parametrize("name", sorted(name for name in MODULES if FLOOR[room(name)] > FLOOR["training"]))
def test_what_stands_above_training_imports_its_sweep_alone(name):
    of_training = {other for other in kdlib_imports(name) if room(other) == "training"}
    assert of_training <= {"training.sweep"} and (not of_training or room(name) in MAY_TRAIN)


@pytest.mark.parametrize("name", sorted(name for name in MODULES if room(name) == "training"))
def test_training_imports_no_measures(name):
    assert not {room(other) for other in kdlib_imports(name)} & {"predictions", "measure", "paper", "claims", "show"}


@pytest.mark.parametrize("name", sorted(CORE))
def test_the_core_imports_itself_alone(name):
    allowed = {"__init__", "errors", "catalogue", "predictions", *CORE}
    assert kdlib_imports(name) <= allowed


@pytest.mark.parametrize("name", sorted(name for name in MODULES if room(name) not in TRAINS))
def test_no_module_but_training_names_torch(name):
    assert not {
        other for other in imports(MODULES[name]) if other.split(".")[0] in ("torch", "torchvision", "safetensors")
    }


def test_the_sweep_imports_training_only_when_a_run_is_missing():
    top = imports(MODULES["training.sweep"], top_only=True) - {"kdlib.training.plan"}  # which imports none of these
    assert not {name for name in top if name.startswith(("torch", "kdlib.training.", "kdlib.data", "kdlib.models"))}


def test_modules_do_not_import_each_other_in_circles():
    graph = {name: kdlib_imports(name, top_only=True) - {name} for name in MODULES}
    done: set[str] = set()
    while left := set(MODULES) - done:
        free = {name for name in left if graph[name] <= done}
        assert free, f"a circle of imports among {sorted(left)}"
        done |= free


def test_everything_but_training_loads_without_torch():
    names = [name for name in MODULES if room(name) not in TRAINS and name not in ("__main__", "__init__")]
    code = f"import sys, {', '.join(f'kdlib.{name}' for name in sorted([*names, 'training.sweep']))}"
    assert subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"]).returncode == 0


def test_pingouin_is_imported_nowhere():
    """It is GPL-3.0 and kdlib is MIT: notebooks, tests and docs use it, the library does not."""
    for path in FILES:
        assert "pingouin" not in {name.split(".")[0] for name in imports(path)}, path


def test_nothing_is_pickled():
    """Whoever unpickles a file runs what it says: runs are safetensors, npz and JSON."""
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not {name.split(".")[0] for name in imports(path)} & {
            "pickle",
            "cloudpickle",
            "dill",
            "joblib",
            "shelve",
        }
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name, options = ast.unparse(call.func), {option.arg: option.value for option in call.keywords}
            assert name not in ("torch.load", "torch.save", "pd.read_pickle") and not name.endswith(".to_pickle"), path
            if "allow_pickle" in options or name == "np.load":
                assert ast.unparse(options.get("allow_pickle", call)) == "False", f"{path}: {ast.unparse(call)}"


def test_nothing_is_printed_but_by_the_command():
    for name, path in MODULES.items():
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        calls = [n.func.id for n in tree if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
        assert name == "cli" or "print" not in calls, path


def test_every_file_says_what_it_is_for():
    for path in [*FILES, *(ROOT / "tests").rglob("test_*.py"), *(ROOT / "tools").glob("*.py")]:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_every_public_function_says_what_it_does():
    missing = []
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and len(ast.unparse(node).splitlines()) > 6 and not ast.get_docstring(node):
                missing.append(f"{path.name}: {node.name}")
    assert not missing


def test_tests_stand_in_the_folders_of_what_they_test():
    folders = {path.parent.name for path in FILES if path.parent.name != "kdlib"}
    for folder in folders:
        for path in (ROOT / "tests" / folder).glob("test_*.py"):
            assert path.stem.removeprefix("test_") in {
                m.split(".")[1] for m in MODULES if m.startswith(f"{folder}.")
            } | {folder}, path
