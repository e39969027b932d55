"""The quick profile, end to end: what `make reproduce` does.

Runs are kept in the project's runs/, so a second `make test` trains nothing.
"""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from kdlib import places, reproduce
from kdlib.catalogue import ARTEFACTS
from kdlib.data import celeba
from kdlib.show import celeba_attributes
from kdlib.studies import load_profile


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> tuple[list[reproduce.Outcome], Path]:
    out = tmp_path_factory.mktemp("quick")
    return reproduce.reproduce(profile="quick", out_dir=out, device="cpu"), out


def test_every_artefact_of_the_profile_is_made(quick):
    outcomes, _ = quick
    assert {o.artefact for o in outcomes} == set(load_profile("quick").artefacts)
    needs_lists = celeba_attributes.not_run(
        places.data_dir() / celeba.FOLDER
    )  # CelebA's, which figure 6 alone is made of
    other = {o.artefact: o.verdict for o in outcomes if not o.verdict.startswith("done")}
    assert set(other) == ({"fig6"} if needs_lists else set()), other
    assert all(o.outputs for o in outcomes if o.artefact not in other)


def test_every_run_is_on_disk_and_whole(quick):
    command = [sys.executable, "-m", "kdlib", "status", "--verify"]
    out = subprocess.run(command, cwd=places.project_root(), capture_output=True, text=True)
    assert out.returncode == 0 and "missing" not in out.stdout, out.stdout


def test_stand_ins_are_labelled_and_stand_beside_no_number_of_the_paper(quick):
    for path in quick[1].glob("*.json"):
        about = json.loads(path.read_text())
        if "study" in about:
            assert about["stand_in"], path.name
    for path in quick[1].glob("*.html"):
        counts = "table05" in path.name  # of CelebA's own lists, which are the paper's
        if not counts and "paper" in path.read_text().replace("paper's study", ""):
            assert "stand-in" in path.read_text(), path.name
    for path in quick[1].glob("table*.csv"):
        frame = pd.read_csv(path)
        compared = [c for c in frame if c.startswith("paper_")]
        assert not compared or frame[compared].isna().all(axis=None), path.name


def test_students_learn_and_distillation_moves_them_towards_their_teacher(quick):
    frame = pd.read_csv(quick[1] / "table06_digits.csv")
    accuracy = frame[frame["metric"] == "accuracy"].set_index("model")["mean"]
    assert accuracy["teacher"] > accuracy["nds"] > 0.6
    matrix = pd.read_csv(quick[1] / "fig2_digits.csv")
    off = matrix[matrix["teacher_index"] != matrix["student_index"]].groupby("panel", sort=False)["count"].sum()
    assert off.iloc[1] < off.iloc[0]


def test_executed_notebooks_hold_no_times_bars_or_machine_paths(quick):
    executed = sorted((quick[1] / "executed").glob("*.ipynb"))
    assert [p.name for p in executed] == sorted(ARTEFACTS[o.artefact].notebook for o in quick[0])
    for path in executed:
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                text = json.dumps(output)
                assert output.output_type != "error" and "it/s" not in text and "site-packages" not in text, path.name
                if output.get("name") == "stderr":  # what warns names a run, and neither place nor process
                    lines = output.text.splitlines()
                    assert all(line.startswith("KdlibWarning: ") for line in lines), f"{path.name}: {lines}"


def test_numbers_in_the_outputs_are_finite(quick):
    for path in quick[1].glob("*.csv"):
        values = pd.read_csv(path).select_dtypes("number")
        assert len(values) and not np.isinf(values.to_numpy()).any(), path.name
