"""Tests on real data know it through KDLIB_DATA alone: `requires("cifar100")` skips one where it is absent."""

import os
from pathlib import Path

import pytest

ROOT = os.environ.get("KDLIB_DATA", "")


def requires(name: str) -> pytest.MarkDecorator:
    there = bool(ROOT) and (Path(ROOT) / name).is_dir()
    return pytest.mark.skipif(not there, reason="no real data")
