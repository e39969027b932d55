"""Reproducing: what fails is named and does not stop the rest, and nothing unfinished looks finished."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest

from kdlib import reproduce, store
from kdlib.catalogue import ARTEFACTS
from kdlib.errors import DataError, InvalidInput, ProfileError
from kdlib.training import sweep
from tests.conftest import as_in_a_terminal

from .conftest import TINY, make_project

PROFILE = TINY.replace("table06: [tiny]", "table06: [tiny]\n  fig1: [tiny]")
PARAMETERS = 'profile = "quick"\nruns_dir = ""\nout_dir = ""\ndevice = "auto"'
# What is not about kdlib in a notebook saves a file without loading it.
GOOD = """import os
from pathlib import Path
assert os.environ["OMP_NUM_THREADS"] == "1"
path = Path("../figures/tiny/accuracy.csv").resolve()
path.write_text("0.5")
with open(os.environ["KDLIB_SAVED"], "a") as saved:
    saved.write(f"{path}\\n")
"""
REAL = """from kdlib import notebook
from kdlib.show import tables
here = notebook.open("table06", profile=profile, runs_dir=runs_dir, out_dir=out_dir, device=device)
found = here.load()
rows = found["tiny"].predictions.runs[["model", "seed"]]
here.save_one(tables.text_table(rows.astype(str), "t"), rows, name="accuracy", shows="accuracy")"""


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
    monkeypatch.delenv("OMP_NUM_THREADS")  # which the tests set themselves
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
    name = ARTEFACTS["table06"].notebook
    write_notebook(project / "notebooks" / name, code=REAL)
    outcomes = run(workers=2)
    assert outcomes["table06"].verdict == "done; stand-in (data set digits is not in the paper and 1 more)"
    assert outcomes["table06"].outputs == [f"accuracy.{kind}" for kind in ("csv", "html", "json", "tex")]
    assert outcomes["fig1"].verdict.startswith("done")
    executed = nbformat.read(project / "figures/tiny/executed" / name, as_version=4)
    injected = next(cell.source for cell in executed.cells if "injected-parameters" in cell.metadata.get("tags", []))
    assert 'device = "none"' in injected and 'profile = "tiny"' in injected and str(project) not in injected
    assert "papermill" not in executed.metadata and not any("execution" in cell.metadata for cell in executed.cells)
    text = reproduce.summary(list(outcomes.values()))
    assert text.splitlines()[0].split() == ["artefact", "notebook", "output", "seconds", "verdict"]
    assert "table06   table06_class_bias.ipynb" in text


def test_the_same_results_are_the_same_file(project):
    code = "import sys, time\nfor i in range(3): print(i, flush=True); time.sleep(0.1)\nprint(i, file=sys.stderr)"
    executed, seen = project / "figures/tiny/executed", []
    for artefact in ("table06", "fig1"):
        write_notebook(project / "notebooks" / ARTEFACTS[artefact].notebook, code=code)
    run(workers=2)
    seen = [(executed / ARTEFACTS[artefact].notebook).read_text() for artefact in ("table06", "fig1")]
    assert seen[0] == seen[1]
    outputs = [output for cell in nbformat.reads(seen[0], as_version=4).cells for output in cell.get("outputs", [])]
    assert {o.name: o.text for o in outputs if o.output_type == "stream"} == {"stdout": "0\n1\n2\n", "stderr": "2\n"}


def test_a_warning_does_not_say_in_which_process_it_was_given(project):
    write_notebook(project / "notebooks/table06_class_bias.ipynb", code="import warnings\nwarnings.warn('few seeds')")
    run(artefacts=["table06"])
    notebook = nbformat.read(project / "figures/tiny/executed/table06_class_bias.ipynb", as_version=4)
    said = [output.text for cell in notebook.cells for output in cell.get("outputs", [])]
    assert said == ["UserWarning: few seeds\n"]


def test_a_notebook_that_fails_leaves_nothing_that_looks_finished_and_the_rest_still_runs(project):
    write_notebook(project / "notebooks/table06_class_bias.ipynb", code=f"{GOOD}raise ValueError('seeds ran away')")
    code = GOOD.replace("accuracy", "other")
    write_notebook(project / "notebooks" / ARTEFACTS["fig1"].notebook, code=code)
    made = project / "figures/tiny"
    (made / "executed").mkdir(parents=True)
    for path in (made / "executed/table06_class_bias.ipynb", made / "executed/fig1_class_accuracy.failed.ipynb"):
        path.write_text("from an earlier time")
    outcomes = run(workers=2)
    assert outcomes["table06"].verdict == "failed: ValueError: seeds ran away"
    assert outcomes["fig1"].verdict.startswith("done")
    left = sorted(str(path.relative_to(made)) for path in made.rglob("*") if path.is_file())
    assert left == ["executed/fig1_class_accuracy.ipynb", "executed/table06_class_bias.failed.ipynb", "other.csv"]


@pytest.mark.parametrize("sign", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_an_interrupt_ends_the_kernels_and_leaves_nothing_that_looks_finished(project, sign):
    code = f"{GOOD}import time\nPath('pid').with_stem(path.stem).write_text(str(os.getpid()))\ntime.sleep(100)"
    for artefact, name in (("table06", "one"), ("fig1", "two")):
        changed = code.replace("accuracy", name)
        write_notebook(project / "notebooks" / ARTEFACTS[artefact].notebook, code=changed)
    command = [sys.executable, "-P", "-m", "kdlib", "reproduce", "--profile", "tiny", "--no-train", "--workers", "2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, preexec_fn=as_in_a_terminal, **pipes)
    pids, patience = [project / "notebooks" / name for name in ("one", "two")], time.monotonic() + 180
    while not all(path.exists() and path.read_text() for path in pids) and time.monotonic() < patience:
        time.sleep(0.1)
    process.send_signal(sign)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said and "start the same command again" in said, said
    for path in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)
    left = sorted(path.name for path in (project / "figures/tiny").rglob("*") if path.is_file())
    assert left == ["fig1_class_accuracy.failed.ipynb", "table06_class_bias.failed.ipynb"]


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
    write_notebook(project / "notebooks" / ARTEFACTS["table06"].notebook, code=REAL)
    outcomes = run(artefacts=["table06"])
    assert outcomes["table06"].failed
    assert victim.id[:16] in outcomes["table06"].verdict and "rm -r" in outcomes["table06"].verdict
    assert len(list((project / "runs").glob("*/manifest.json"))) == 8


def test_a_study_that_cannot_be_trained_fails_its_artefacts_alone(project, monkeypatch):
    def train(study, **_):
        if study.name == "away":
            raise DataError("no images in svhn")
        return sweep.Progress(8, 8)

    monkeypatch.setattr(sweep, "train", train)
    away = TINY[TINY.index("  tiny:") : TINY.index("artefacts:")].replace("tiny:", "away:")
    text = PROFILE.replace("artefacts:", f"{away}artefacts:").replace("fig1: [tiny]", "fig1: [away]")
    (project / "params/tiny.yaml").write_text(text, encoding="utf-8")
    outcomes = run(workers=1, device="cpu")
    assert outcomes["fig1"].verdict.startswith("failed: ") and "svhn" in outcomes["fig1"].verdict
    assert outcomes["table06"].verdict.startswith("done")


def test_without_training_what_is_missing_names_its_command(project):
    import shutil

    shutil.rmtree(project / "runs")
    outcomes = run(train=False)
    assert outcomes["table06"].verdict == "not run: kdlib train tiny --profile tiny"


def test_an_artefact_of_the_papers_own_numbers_needs_no_study(project):
    profile = project / "params/tiny.yaml"
    profile.write_text(PROFILE + "  beyond_null_bands: []\n", encoding="utf-8")
    code = GOOD.replace("accuracy", "counts") + 'path.with_name("by_another.csv").write_text("not noted")'
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
    monkeypatch.setenv("KDLIB_DATA", "sets")  # below the folder of the command, not below notebooks/
    code = f"import os, sys\nassert sys.executable == {sys.executable!r}, sys.executable\n{GOOD}"
    code += f"assert os.environ['KDLIB_DATA'] == {str(project / 'sets')!r}"
    write_notebook(project / "notebooks" / ARTEFACTS["fig1"].notebook, code=code)
    assert run(artefacts=["fig1"])["fig1"].outputs == ["accuracy.csv"]


def test_the_longest_notebook_begins_first_and_outcomes_keep_their_order(project):
    before = [{"artefact": "table06", "seconds": 1.0}, {"artefact": "fig1", "seconds": 60.0}]
    (project / "figures/tiny").mkdir(parents=True, exist_ok=True)
    (project / "figures/tiny/summary.json").write_text(json.dumps(before), encoding="utf-8")
    said = []
    outcomes = reproduce.reproduce(profile="tiny", train=False, workers=1, say=said.append)
    begun = [line.split(":")[0] for line in said if not line.startswith((" ", "notebooks:"))]
    assert said[0] == "notebooks: about 61 s, by what was measured before"
    assert begun == ["fig1", "table06"] and [o.artefact for o in outcomes] == ["table06", "fig1"]
