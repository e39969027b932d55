"""Where things are: the project's folder, the default folders in it, and the cores of this machine.

The project's folder is the nearest parent that holds `params/`; papermill, JupyterLab and nbval start in
different folders and find the same one.
"""

import os
from pathlib import Path

from kdlib.errors import InvalidInput


def project_root(start: Path | str | None = None) -> Path:
    """The nearest folder at or above `start` (default: the working folder) that holds `params/`."""
    here = Path(start or Path.cwd()).resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if (folder / "params").is_dir():
            return folder
    raise InvalidInput(f"no folder with params/ at or above {here}. Start from the project's folder.")


def runs_dir(given: Path | str | None = None) -> Path:
    """Where runs are kept: `given`, else `runs/` of the project."""
    return Path(given).resolve() if given else project_root() / "runs"


def data_dir(given: Path | str | None = None) -> Path:
    """Where data sets are kept, one folder each: `given`, else $KDLIB_DATA, else `data/` of the project."""
    given = given or os.environ.get("KDLIB_DATA")
    return Path(given).resolve() if given else project_root() / "data"


def figures_dir(profile: str, given: Path | str | None = None) -> Path:
    """Where a profile's figures and tables go: `given`, else `figures/<profile>/` of the project."""
    return Path(given).resolve() if given else project_root() / "figures" / profile


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
