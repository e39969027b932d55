"""Measures how long the README's two commands take, from nothing: writes figures/quick/gallery/minutes.json.

`python tools/minutes.py`, on a quiet machine after `make setup`; `make reproduce` trains into a folder of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time

from kdlib import places


def minutes(*command: str) -> float:
    """Minutes of the clock that a command takes. Raises CalledProcessError where it fails."""
    started = time.monotonic()
    subprocess.run(command, cwd=places.project_root(), check=True)
    return (time.monotonic() - started) / 60


def main() -> None:
    """Time both commands and write what they took."""
    with tempfile.TemporaryDirectory() as folder:
        where = ("--runs-dir", f"{folder}/runs", "--out-dir", f"{folder}/figures")
        took = {"reproduce": minutes(sys.executable, "-m", "kdlib", "reproduce", *where)}
    took["test"] = minutes("make", "test")
    path = places.figures_dir("quick") / "gallery/minutes.json"
    path.write_text(json.dumps({name: round(value, 1) for name, value in took.items()}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
