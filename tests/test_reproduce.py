"""Reproducing: what fails is named and does not stop the rest, and nothing unfinished looks finished."""

import json
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

from kdlib import reproduce, store
from kdlib.catalogue import ARTEFACTS
from kdlib.errors import InvalidInput, ProfileError

from .conftest import TINY, make_project

PROFILE = TINY.replace("table06: [tiny]", "table06: [tiny]\n  fig1: [tiny]")
PARAMETERS = 'profile = "quick"\nruns_dir = ""\nout_dir = ""\ndevice = "auto"'
GOOD = """from pathlib import Path
from kdlib import notebook
from kdlib.predictions import collect
from kdlib.show import save
from kdlib.training import sweep
here = notebook.open("table06", profile=profile, runs_dir=runs_dir, out_dir=out_dir, device=device)
sweep.train(here.studies, runs_dir=here.runs_dir, device=here.device)
p = collect.collect(here.studies[0], runs_dir=here.runs_dir)
path = Path(here.out_dir, "accuracy.csv")
path.write_text(str(p.accuracy.mean()))
save.note(path)"""


def write_notebook(path: Path, *, parameters: str = PARAMETERS, code: str = GOOD) -> None:
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(code)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    path.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, path)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small project of its own: one profile, two notebooks, and drawn predictions instead of training."""
    make_project(tmp_path)
    (tmp_path / "params/tiny.yaml").write_text(PROFILE, encoding="utf-8")
    for artefact in ("table06", "fig1"):
        write_notebook(tmp_path / "notebooks" / ARTEFACTS[artefact].notebook)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for run in reproduce.load_profile("tiny").study("tiny").runs():
        arrays = {
            "logits": rng.normal(size=(20, 2)).astype(np.float32),
            "labels": np.arange(20) % 2,
            "sample_ids": np.array([f"s{i}" for i in range(20)]),
            "class_names": np.array(["a", "b"]),
        }
        store.save(tmp_path / "runs", run, arrays=arrays, weights=b"", provenance={})
    return tmp_path


def run(**options):
    return {outcome.artefact: outcome for outcome in reproduce.reproduce(profile="tiny", **{"workers": 1, **options})}


def test_notebooks_are_run_and_their_outputs_listed(project):
    outcomes = run()
    assert not any(o.failed for o in outcomes.values())
    assert outcomes["table06"].outputs == ["accuracy.csv"]
    assert outcomes["table06"].verdict == "done; stand-in (data set digits is not in the paper and 1 more)"
    executed = nbformat.read(project / "figures/tiny/executed/table06_class_bias.ipynb", as_version=4)
    injected = next(cell.source for cell in executed.cells if "injected-parameters" in cell.metadata.get("tags", []))
    assert 'device = "none"' in injected and 'profile = "tiny"' in injected and str(project) not in injected
    assert "papermill" not in executed.metadata and not any("execution" in cell.metadata for cell in executed.cells)
    text = reproduce.summary(list(outcomes.values()))
    assert text.splitlines()[0].split() == ["artefact", "notebook", "output", "seconds", "verdict"]
    assert "table06   table06_class_bias.ipynb" in text


def test_the_same_results_are_the_same_file(project):
    code = "import sys, time\nfor i in range(3): print(i, flush=True); time.sleep(0.1)\nprint(i, file=sys.stderr)"
    write_notebook(project / "notebooks/table06_class_bias.ipynb", code=code)
    executed, seen = project / "figures/tiny/executed/table06_class_bias.ipynb", []
    for _ in range(2):
        run(artefacts=["table06"])
        seen.append(executed.read_text())
    assert seen[0] == seen[1]
    outputs = [output for cell in nbformat.reads(seen[0], as_version=4).cells for output in cell.get("outputs", [])]
    assert {o.name: o.text for o in outputs if o.output_type == "stream"} == {"stdout": "0\n1\n2\n", "stderr": "2\n"}


def test_a_notebook_that_fails_leaves_nothing_that_looks_finished_and_the_rest_still_runs(project):
    write_notebook(project / "notebooks/table06_class_bias.ipynb", code="x = 1\nraise ValueError('seeds ran away')")
    (project / "figures/tiny/executed").mkdir(parents=True)
    (project / "figures/tiny/executed/table06_class_bias.ipynb").write_text("from an earlier time")
    outcomes = run()
    assert outcomes["table06"].verdict == "failed: ValueError: seeds ran away"
    assert not (project / "figures/tiny/executed/table06_class_bias.ipynb").exists()
    assert (project / "figures/tiny/executed/table06_class_bias.failed.ipynb").exists()
    assert outcomes["fig1"].verdict.startswith("done")


@pytest.mark.parametrize(
    "parameters",
    [
        PARAMETERS + "\nseed = 0",
        PARAMETERS.replace("out_dir", "output_dir"),
        PARAMETERS.replace('\ndevice = "auto"', ""),
    ],
)
def test_a_notebook_with_other_parameters_is_refused(project, parameters):
    write_notebook(project / "notebooks/table06_class_bias.ipynb", parameters=parameters)
    outcomes = run(artefacts=["table06"])
    assert "it needs exactly profile, runs_dir, out_dir, device" in outcomes["table06"].verdict


@pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")
def test_a_damaged_run_is_named_and_nothing_is_lost(project):
    victim = reproduce.load_profile("tiny").study("tiny").runs()[0]
    path = store.folder(project / "runs", victim) / "predictions.npz"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(bytes(data))
    outcomes = run(artefacts=["table06"])
    assert outcomes["table06"].failed
    assert victim.id[:16] in outcomes["table06"].verdict and "Delete that folder" in outcomes["table06"].verdict
    assert len(list((project / "runs").glob("*/manifest.json"))) == 8


def test_a_study_that_cannot_be_trained_fails_its_artefacts_alone(project):
    text = PROFILE.replace(
        "artefacts:",
        TINY[TINY.index("  tiny:") : TINY.index("artefacts:")]
        .replace("tiny:", "away:")
        .replace("digits", "svhn")
        .replace("data: {train_images: 100}", "data: {}")
        + "artefacts:",
    )
    (project / "params/tiny.yaml").write_text(text.replace("fig1: [tiny]", "fig1: [away]"), encoding="utf-8")
    outcomes = run(workers=1, device="cpu")
    assert outcomes["fig1"].verdict.startswith("failed: ") and "svhn" in outcomes["fig1"].verdict
    assert outcomes["table06"].verdict.startswith("done")


def test_without_training_what_is_missing_names_its_command(project):
    import shutil

    shutil.rmtree(project / "runs")
    outcomes = run(train=False)
    assert outcomes["table06"].verdict == "not run: python -m kdlib train tiny --profile tiny"


def test_an_artefact_of_the_papers_own_numbers_needs_no_study(project):
    profile = project / "params/tiny.yaml"
    profile.write_text(PROFILE + "  beyond_null_bands: []\n", encoding="utf-8")
    code = (
        "from kdlib import places\nfrom kdlib.show import save\n"
        'path = places.figures_dir("tiny", out_dir) / "counts.csv"\n'
        'path.write_text("1")\nsave.note(path)\npath.with_name("by_another.csv").write_text("not noted")'
    )
    write_notebook(project / "notebooks" / ARTEFACTS["beyond_null_bands"].notebook, code=code)
    found = run(artefacts=["beyond_null_bands"], train=False)["beyond_null_bands"]
    assert (found.verdict, found.outputs) == ("done; the paper's own numbers", ["counts.csv"])


def test_a_notebook_that_writes_nothing_is_not_called_done(project):
    name = ARTEFACTS["fig1"].notebook
    write_notebook(project / "notebooks" / name, code="print('not run: the lists are not there')")
    found = run(artefacts=["fig1"])["fig1"]
    assert found.verdict == f"not run: nothing to show; executed/{name} says what it needs" and not found.failed
    assert (project / "figures/tiny/executed" / name).is_file()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"artefacts": ["table66"]}, ProfileError, "unknown artefact 'table66'"),
        ({"artefacts": ["fig8"]}, ProfileError, "unknown artefact 'fig8'.*tiny.yaml"),
        ({"device": "tpu"}, InvalidInput, "unknown device 'tpu'"),
    ],
)
def test_wrong_names_are_refused_before_anything_runs(project, options, error, message):
    with pytest.raises(error, match=message):
        run(**options)
    assert not (project / "figures").exists()


def test_the_summary_is_a_file_too(project):
    outcomes = list(run(artefacts=["fig1"]).values())
    reproduce.write_summary(outcomes, project / "deep/summary.json")
    assert json.loads((project / "deep/summary.json").read_text())[0]["artefact"] == "fig1"


def test_notebooks_run_in_this_python_whatever_kernelspec_is_called_python3(project, monkeypatch):
    hostile = project / "jupyter/kernels/python3/kernel.json"
    hostile.parent.mkdir(parents=True)
    argv = ["/nowhere/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    hostile.write_text(json.dumps({"argv": argv, "display_name": "other", "language": "python"}), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(project / "jupyter"))
    code = f"import sys\nassert sys.executable == {sys.executable!r}, sys.executable\n{GOOD}"
    write_notebook(project / "notebooks" / ARTEFACTS["fig1"].notebook, code=code.replace('"table06"', '"fig1"'))
    assert run(artefacts=["fig1"])["fig1"].outputs == ["accuracy.csv"]


def test_the_longest_notebook_begins_first_and_outcomes_keep_their_order(project):
    before = [{"artefact": "table06", "seconds": 1.0}, {"artefact": "fig1", "seconds": 60.0}]
    (project / "figures/tiny").mkdir(parents=True, exist_ok=True)
    (project / "figures/tiny/summary.json").write_text(json.dumps(before), encoding="utf-8")
    said = []
    outcomes = reproduce.reproduce(profile="tiny", train=False, workers=1, say=said.append)
    begun = [line.split(":")[0] for line in said if not line.startswith(" ")]
    assert begun == ["fig1", "table06"] and [o.artefact for o in outcomes] == ["table06", "fig1"]
