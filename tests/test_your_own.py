"""The notebooks for one's own data run as they are, on what scikit-learn ships, and end in files."""

import json
from pathlib import Path

import nbformat
import papermill
import pytest

from kdlib.data import own_profile
from tests.test_notebooks import FOLDER, YOURS, code

SMALLER = {
    "resnet20, epochs: 30": "resnet8, epochs: 2",
    "lenet5, epochs: 30": "lenet5, epochs: 2",
    "seeds: 5": "seeds: 2",
}
SMALLER |= {"# train_images: 1000  # fewer": "train_images: 100  # fewer", "[1, 2, 4, 10]": "[4]", "crop: 1": "crop: 0"}


def executed(name: str, folder: Path, **parameters: str) -> str:
    """Run a notebook; what its cells said."""
    options = {"kernel_name": "python3", "progress_bar": False, "cwd": folder}
    notebook = papermill.execute_notebook(FOLDER / name, folder / name, parameters, **options)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.get("name") == "stderr"], outputs
    return "\n".join(json.dumps(output) for output in outputs)


def test_every_one_is_run_here():
    assert YOURS == ["explore.ipynb", "your_own_predictions.ipynb", "your_own_study.ipynb"]


@pytest.mark.filterwarnings("default")
def test_your_own_predictions(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    said = executed("your_own_predictions.ipynb", tmp_path, out_dir=str(tmp_path / "out"))
    assert "Between groups by texture" in said
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"audit.html", "audit.json", "audit.md"}


@pytest.mark.filterwarnings("default")  # papermill's own
def test_your_own_study(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore::UserWarning")  # few seeds
    names = {}
    exec(next(cell.source for cell in code("your_own_study.ipynb") if cell.id == "data"), names)
    path = own_profile.write(tmp_path / "my.yaml", names["folder"])
    text = path.read_text(encoding="utf-8")
    for full, small in SMALLER.items():
        assert full in text
        text = text.replace(full, small)
    path.write_text(text, encoding="utf-8")
    given = {"profile": path, "runs_dir": tmp_path / "runs", "out_dir": tmp_path / "out"}
    said = executed("your_own_study.ipynb", tmp_path, **{key: str(value) for key, value in given.items()})
    assert "6 runs to train (teachers: 2, NDS: 2, DS: 2)" in said and "6 of 6" in said and "test accuracy" in said
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "fig1_sklearn-digits.png",
        "groups_sklearn-digits.html",
    }
    assert "stand-in" not in said and nbformat.read(tmp_path / "your_own_study.ipynb", 4).cells
