"""Where things are: the project's folder, the default folders in it, and the cores of this machine.

papermill, JupyterLab and nbval start in different folders: here they find the same ones.
"""

import os
import shlex
import sys
from pathlib import Path

from kdlib.errors import InvalidInput


def project_root() -> Path:
    """The checkout of kdlib that the working folder is in, else the one this code is in, else the working folder.

    `params/` alone does not make one: anyone's project may have a folder of that name.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if (folder / "params").is_dir() and (folder / "kdlib" / "places.py").is_file():
            return folder
    return here


def user_path(given: Path | str) -> Path:
    """A path as people write it, made absolute: `~` is the home folder, a relative one is below the working folder.

    In the project's notebooks/, where kernels start, a relative one is below the project: a notebook and a command mean
    the same. Raises InvalidInput for what is no path.
    """
    try:
        here, root = Path.cwd(), project_root()
        return ((root if here == root / "notebooks" else here) / Path(given).expanduser()).resolve()
    except (OSError, RuntimeError, TypeError, ValueError) as error:  # no such home, a link to itself, a zero byte
        raise InvalidInput(f"{str(given)!r} is no path: {error}. Give that of a file or folder.") from error


def runs_dir(given: Path | str | None = None) -> Path:
    """Where runs are kept: `given`, else `runs/` of the project."""
    return user_path(given) if given else project_root() / "runs"


def data_dir(given: Path | str | None = None) -> Path:
    """Where data sets are kept, one folder each: `given`, else $KDLIB_DATA, else `data/` of the project."""
    given = given or os.environ.get("KDLIB_DATA")
    return user_path(given) if given else project_root() / "data"


def figures_dir(profile: str, given: Path | str | None = None) -> Path:
    """Where a profile's figures and tables go: `given`, else `figures/<profile>/` of the project."""
    return user_path(given) if given else project_root() / "figures" / profile


def released_dir(profile: str) -> Path:
    """Where a profile's released predictions are in the project."""
    return figures_dir(profile) / "predictions"


def command(*words: str, runs: Path | str | None = None) -> str:
    """A command of kdlib as a shell takes it in the project's folder; runs: the folder of runs, if not the default."""
    folder = ".venv/bin/" if Path(sys.prefix) == project_root() / ".venv" else ""
    given = () if runs is None or user_path(runs) == runs_dir() else ("--runs-dir", str(runs))
    return f"{folder}kdlib {shlex.join([*words, *given])}"


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
