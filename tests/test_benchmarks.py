"""The benchmark counts what it says it counts, and its page is what its measurements give. Nothing is timed."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def contenders(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("contenders")


@pytest.fixture
def cases(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("cases").CASES


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("report")


@pytest.fixture
def tiny(cases):
    case = cases["a"]
    return replace(case, teacher="resnet8", student="resnet8", size=8, classes=5, batch=4, images=20, crop=1)


def test_a_student_pays_its_share_of_the_table(report, cases):
    case = cases["a"]
    assert report.share(case, 12) == pytest.approx(162 / 1200)  # 162 views for 12 students of 100 epochs
    assert report.share(cases["b-plain"], 1) == pytest.approx(0.01)
    measured = {("kdlib", "fp32", ""): pd.Series([2.0]), ("table", "fp32", ""): pd.Series([10.0])}
    measured["kdlib", "fp32", "table"] = pd.Series([9.0])
    assert report.student_ms(measured, case, "fp32")[0] == pytest.approx(2 + 1.35)
    assert report.student_ms(measured, case, "fp32", students=1)[0] == pytest.approx(2 + 16.2)
    assert report.student_ms(measured, case, "fp32", "table")[0] == 9  # a live teacher is in the step already


def test_ratios_are_taken_within_a_round(report):
    assert report.spread(pd.Series([2.0, 8.0, 4.0]) / pd.Series([1.0, 2.0, 4.0])) == "2.00x (1.00 to 4.00)"


@pytest.mark.parametrize("off", [(), ("table",), ("augmentation",), ("layout",), ("optimizer",), ("memory",)])
def test_every_lever_can_be_taken_away(contenders, tiny, off):
    assert set(off) <= set(contenders.LEVERS)
    steps = contenders.kdlib_steps(tiny, contenders.Contender("kdlib", "fp32", off))
    assert [next(steps) for _ in range(6)] == [4] * 6
    steps.close()


def test_pictures_made_one_by_one_are_the_views_made_at_once(contenders, tiny):
    at_once, one_by_one = contenders.make_views(tiny, 20), contenders.make_views(tiny, 20, off=("augmentation",))
    index = torch.arange(20)
    view = torch.arange(20) % at_once.count
    assert at_once.count == 18
    assert torch.allclose(at_once.batch(index, view), one_by_one.batch(index, view), atol=1e-5)


def test_the_committed_page_is_what_the_measurements_give(report):
    results = FOLDER / "results"
    rows = pd.read_csv(results / "measurements.csv", keep_default_na=False)
    about = json.loads((results / "environment.json").read_text(encoding="utf-8"))
    assert report.markdown(rows, about) == (results / "table.md").read_text(encoding="utf-8")
