"""The explorer shows the measures' numbers, follows every control, and tells what is not there."""

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from kdlib.measure import class_bias, class_nulls, fairness, fidelity
from kdlib.show.explorer import Explorer
from kdlib.studies import load_profile
from tests import simulated

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found():
    p = simulated.study(n_classes=4, total=40, temperatures=(1, 10), effect=0.15)
    return simulated.with_groups(p, color=np.resize(["red", "<b>"], len(p.labels)))


@pytest.fixture
def explorer(found):
    return Explorer({"one": found, "without groups": simulated.study(n_classes=2, total=30, temperatures=(4,))})


def numbers(text):
    return [float(word) for word in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", text)]


def pair(found):
    return found.arm(model="nds"), found.arm(model="ds", temperature=10.0)


def test_it_starts_with_nds_and_the_highest_temperature(explorer):
    assert (explorer.before.value, explorer.after.value) == ("nds", "ds T=10")
    assert bytes(explorer.picture.value[:4]) == b"\x89PNG"


@pytest.mark.parametrize("level, correction, normalise", [(0.05, None, "ratio"), (0.1, "bh", "logit")])
def test_the_count_and_its_bands_follow_the_controls(explorer, found, level, correction, normalise):
    explorer.level.value, explorer.correction.value, explorer.normalise.value = level, correction or "", normalise
    options = {"level": level, "correction": correction, "normalise": normalise}
    n = class_bias.significant_classes(*pair(found), **options)["significant"].sum()
    chance, shift = class_nulls.bands(*pair(found), **options)
    assert numbers(explorer.answer.value)[:2] == [n, 4]
    told = re.search(r"gives (\d+) to (\d+) in .* log odds, (\d+) to (\d+)", explorer.answer.value)
    assert [int(number) for number in told.groups()] == [*chance, *shift]


def test_disagreement_groups_and_samples_are_those_of_the_measures(explorer, found):
    a, b = pair(found)
    explorer.tabs.selected_index = 1
    counts = class_bias.disagreement(a, b)
    assert f"on {counts.sum() - np.trace(counts):.1f} of 160 samples" in explorer.answer.value
    explorer.tabs.selected_index = 2
    assert f"DPD {fairness.group_fairness(b, sensitive='color')['dpd'].mean():.1%}" in explorer.answer.value
    explorer.tabs.selected_index = 3
    changed = fidelity.changed(a, b)
    assert numbers(explorer.answer.value)[0] == len(changed)
    explorer.of_class.value = 2
    assert numbers(explorer.answer.value)[0] == (changed["label"] == found.class_names[2]).sum()


def test_another_source_brings_its_own_arms_and_says_what_it_lacks(explorer):
    explorer.tabs.selected_index = 2
    explorer.source.value = "without groups"
    assert explorer.after.options[-1] == "ds T=4" and "no groups" in explorer.answer.value
    explorer.after.value = "nds"
    explorer.tabs.selected_index = 0
    assert "nds" in explorer.answer.value and not len(explorer.picture.value), "an arm against itself is refused"


def test_a_warning_stands_below_the_answer():
    p = simulated.study(n_classes=4, total=40, n_seeds=3, temperatures=(4,))
    assert "fewer than 5 seeds in nds (3), ds T=4 (3)" in Explorer({"few": p}).answer.value


@pytest.mark.parametrize("values", [[0, 1], [None, "a"], [np.nan, 2.0]])
def test_groups_may_be_numbers_and_may_be_missing(found, values):
    """The samples of the second value are those of every second row."""
    half = np.resize(np.array(values, object if None in values else None), len(found.labels))
    shown = Explorer({"one": simulated.with_groups(found, half=half)})
    shown.tabs.selected_index = 3
    shown.of_group.value = shown.of_group.options[-1][1]
    changed = fidelity.changed(*pair(found))
    assert numbers(shown.answer.value)[0] == changed["sample_id"].isin(found.sample_ids[1::2]).sum() > 0


def test_a_single_class_has_no_disagreement():
    shown = Explorer({"one": simulated.study(n_classes=1, total=30, temperatures=(4,))})
    shown.tabs.selected_index = 1
    assert "disagree on 0.0 of 30 samples" in shown.answer.value and shown.picture.value


def test_pictures_are_those_of_the_data_set():
    """Digits, whose images scikit-learn ships: the samples of the data set are found by their ids."""
    study = load_profile("quick").study("digits")
    explorer = Explorer({"digits": study})
    images = explorer._pictures()
    assert {image.shape for image in images.values()} == {next(iter(images.values())).shape} and len(images) > 100


def test_the_notebook_answers_in_a_kernel():
    notebook = nbformat.read(ROOT / "notebooks" / "explore.ipynb", 4)
    moved = "explorer.level.value = 0.001\nprint(explorer.answer.value)"
    notebook.cells.append(nbformat.v4.new_code_cell("print(explorer.answer.value)"))
    notebook.cells.append(nbformat.v4.new_code_cell(moved))
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": ROOT}}).execute()
    before, after = (cell.outputs[0].text for cell in notebook.cells[-2:])
    assert "p ≤ 0.05" in before and "p ≤ 0.001" in after
    assert numbers(after)[0] < numbers(before)[0]
