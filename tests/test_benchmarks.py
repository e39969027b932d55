"""The benchmark counts what it says it counts, and its page is what its measurements give. Nothing is timed."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from kdlib.paper import stand_in
from kdlib.training import cuda, schedule

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


def test_packs_are_measured_in_the_library_s_own_steps(monkeypatch):
    """On a CPU, where the same steps are taken unrecorded."""
    monkeypatch.syspath_prepend(str(FOLDER))
    gpu, make = importlib.import_module("gpu"), schedule.make_optimizer

    def fused(*about):
        optimizer = make(*about)
        optimizer.param_groups[0] |= {"foreach": False, "fused": True}
        return optimizer

    monkeypatch.setattr(schedule, "make_optimizer", fused)
    monkeypatch.setattr(cuda, "make_optimizer", fused)
    small = {"device": "cpu", "size": 8, "batch": 4, "images": 20, "classes": 5, "seconds": 0.1}
    (row,) = gpu.packs("resnet8", "ds", [(2, 1)], **small)
    assert row["pace"] > 0 and (row["together"], row["at_once"]) == (2, 1)
    measured = pd.read_csv(FOLDER / "results/gpu.csv")
    assert [*measured] == [*row] and set(measured.how) >= {"eager", "graphs", "packs"}


def test_what_the_page_says_of_gpus_is_what_was_measured():
    """The 70 trainings of CIFAR-100: 5 teachers, 65 students, 5 tables of 162 views, 50,000 images, 100 epochs."""
    paces = pd.read_csv(FOLDER / "results/gpu.csv")
    best = {name: rows.pace.max() for name, rows in paces[paces.pixels == 32].groupby("network")}
    known = json.loads((FOLDER / "results/gpu.json").read_text(encoding="utf-8"))
    epoch = 50_000
    seconds = epoch * (5 * 100 / best["resnet56"] + 65 * 100 / best["resnet20"] + 5 * 162 / known["table_pace"])
    page = (FOLDER.parent / "docs/gpu.md").read_text(encoding="utf-8")
    assert f"about {seconds / 60:.0f} minutes" in page and f"about {known['step']['kernels']} kernels" in page
    teacher, nds, without = (run["accuracy"] for run in known["runs"])
    theirs = stand_in.all_reported().query("dataset == 'cifar100' and student == 'resnet20' and metric == 'accuracy'")
    theirs = theirs.groupby("model")["mean"].first()
    assert abs(teacher - theirs["teacher"]) < 0.5
    assert f"{theirs['nds'] - nds:.1f} points less" in page and f"{theirs['nds'] - without:.1f} points\nbelow" in page
