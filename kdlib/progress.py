"""What people see while runs train: the plan, a line for each run that ends, and a bar where there is a terminal.

Lines go to stdout at once, so a notebook's cell and a log have them too. Every engine reports its runs here. No torch.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kdlib import store
from kdlib.catalogue import network
from kdlib.errors import StoreError
from kdlib.studies import Run

NAMES = {"teacher": "teachers", "nds": "NDS", "ds": "DS"}


def tell(line: str) -> None:
    """Write a line to stdout at once, above whatever bar there is."""
    tqdm.write(line)
    sys.stdout.flush()


class Report:
    """Says the plan when it is made, then what came of each run; used as `with Report(...) as report`.

    missing  the runs to train; workers: how many at a time
    done     runs that are on disk already: what they took says how long the others will
    say      called with each line
    """

    def __init__(
        self, missing: list[Run], *, done: Iterable[Run], folder: Path, workers: int, say: Callable[[str], None]
    ) -> None:
        self.left, self.total, self.folder, self.workers, self.say = [*missing], len(missing), folder, workers, say
        self.paces: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for run in done:
            self._note(run)
        roles = Counter(NAMES[run.role] for run in missing)
        what = ", ".join(f"{role}: {count}" for role, count in roles.items())
        expected = self._expected() or "the first one will show how long it takes"
        say(f"  {self.total} runs to train ({what}), {workers} at a time: {expected}")
        self.bar = tqdm(total=self.total, unit="run", desc="training", mininterval=1, disable=None)

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def finished(self, run: Run, outcome: str) -> None:
        """A run ended: 'done', 'failed', 'stopped', or what is damaged, in words."""
        self.left.remove(run)
        if outcome == "stopped":  # as all the others are that had not begun
            return
        about, told = {}, outcome
        if outcome == "done":
            about = self._note(run)
            told = f"test accuracy {100 * about.get('test_accuracy', np.nan):.1f} %, {about.get('seconds', 0):.0f} s"
        elif outcome == "failed":
            told = f"failed: {store.failure(self.folder, run)}"
        left = f"; to come: {self._expected()}" if about and self.left else ""
        self.say(f"  {self.total - len(self.left)} of {self.total}  {run}: {told}{left}")
        self.bar.update(outcome == "done")

    def _note(self, run: Run) -> dict:
        """What is known of a run on disk; empty where that cannot be read, which whoever uses the run is told."""
        try:
            about = store.provenance(self.folder, run)
        except StoreError:
            return {}
        if "seconds" in about:
            self.paces[_kind(run)].append(about["seconds"] / run.epochs)
        return about

    def _expected(self) -> str:
        """'about 5 min' for the runs that are left, by the seconds an epoch of those that ended; '' before the first.

        A network of which none ended yet is named: 'about 5 min and what LeNet-5 takes'.
        """
        if not self.paces:
            return ""
        paces = {kind: float(np.mean(seen)) for kind, seen in self.paces.items()}
        seconds = [paces[kind] * run.epochs for run in self.left if (kind := _kind(run)) in paces]
        others = dict.fromkeys(network(run.model).title for run in self.left if _kind(run) not in paces)
        parts = [about_time(sum(seconds) / self.workers)] if seconds else []
        return " and ".join([*parts, f"what {' and '.join(others)} takes"] if others else parts)


def about_time(seconds: float) -> str:
    """'about 40 s', 'about 5 min', 'about 2.5 h'."""
    for unit, size, most in (("s", 1, 100), ("min", 60, 100)):
        if round(seconds / size) < most:
            return f"about {max(1, round(seconds / size))} {unit}"
    return f"about {seconds / 3600:.1f} h"


def _kind(run: Run) -> tuple[str, ...]:
    return run.dataset, str(run.data), run.model
