"""Where the paper is silent or contradicts itself, by artefact, with our choice. Read from silences.yaml. No torch."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pandas as pd
import yaml

from kdlib.catalogue import ARTEFACTS
from kdlib.errors import require_known

FILE = Path(__file__).with_name("silences.yaml")


@lru_cache(maxsize=1)
def every() -> tuple[dict[str, object], ...]:
    """All entries of silences.yaml: artefacts (names), point, known, ours."""
    return tuple(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def remarks(artefact: str) -> pd.DataFrame:
    """What is noted on an artefact: point, known, ours. Empty where nothing is.

    Raises InvalidInput for an unknown artefact.
    """
    require_known("artefact", artefact, ARTEFACTS)
    rows = [entry for entry in every() if artefact in entry["artefacts"]]
    return pd.DataFrame(rows, columns=["point", "known", "ours"])
