"""Small files stand for official ones here, so nothing compares them with what is published, unless a test says so."""

import pytest

from kdlib.data import fetch


@pytest.fixture(autouse=True)
def unverified(request, monkeypatch):
    if "verified" not in request.node.name and "real" not in request.node.name:
        monkeypatch.setattr(fetch, "verify", lambda *given: None)
