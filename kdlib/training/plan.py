"""In which order runs are trained, and which can start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from kdlib.studies import Run

AGAIN_SECONDS = 5  # after which a run that another process has is asked for again


def in_order(missing: list[Run]) -> list[Run]:
    """Runs without a teacher first, then students of one teacher after the other in turn.

    A worker that takes a student waits for its teacher. And the first student of a teacher fills its logit table:
    another one beside it would only wait for that.
    """
    turns = Counter()

    def turn(run: Run) -> int:
        turns[run.teacher] += run.teacher is not None
        return turns[run.teacher]

    return sorted(missing, key=turn)


class Plan:
    """Which runs wait to be started, and which have not ended; not_before: {run: monotonic seconds}. No Ray in it."""

    def __init__(self, runs: list[Run]) -> None:
        self.turn = {run: number for number, run in enumerate(runs)}
        self.waiting, self.unfinished = {*runs}, {*runs}
        self.not_before: dict[Run, float] = {}

    def ready(self, now: float) -> Iterator[Run]:
        """Those that could start, in turn: a student waits for its teacher."""
        for run in self.turn:
            if run in self.waiting and run.teacher not in self.unfinished and self.not_before.get(run, 0) <= now:
                yield run
