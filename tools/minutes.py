"""Measures how long the README's two commands take, from nothing: writes figures/quick/gallery/minutes.json.

`python tools/minutes.py` in a fresh clone after `make setup`, on a quiet machine. `make reproduce` leaves what
tools/readme.py reads.
"""

from __future__ import annotations

import json
import subprocess
import time

from kdlib import places
from kdlib.errors import InvalidInput


def minutes(*command: str) -> float:
    """Minutes of the clock that a command takes. Raises CalledProcessError where it fails."""
    started = time.monotonic()
    subprocess.run(command, cwd=places.project_root(), check=True)
    return (time.monotonic() - started) / 60


def main() -> None:
    """Time both commands and write what they took. Raises InvalidInput where runs would not be trained anew."""
    if any(places.runs_dir().glob("*/run.json")):
        raise InvalidInput(f"{places.runs_dir()} has runs; measure in a fresh clone.")
    took = {"reproduce": minutes("make", "reproduce"), "test": minutes("make", "test")}
    path = places.figures_dir("quick") / "gallery/minutes.json"
    path.write_text(json.dumps({name: round(value, 1) for name, value in took.items()}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
