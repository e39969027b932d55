"""The command: what it prints, its exit status, and errors in one line."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kdlib import cli, places, store
from kdlib.errors import DataError, InvalidInput
from kdlib.studies import load_profile
from kdlib.training import sweep
from kdlib.training.sweep import Progress

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def command(tiny_yaml, tmp_path, capsys):
    """Run the command on the tiny profile: (exit status, what it printed, what it complained)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.main([*arguments, "--profile", str(tiny_yaml), "--runs-dir", str(tmp_path / "runs")])
        return status, *capsys.readouterr()

    return run


def fill(folder, runs):
    for run in runs:
        arrays = {name: np.zeros(1) for name in store.ARRAYS}
        store.save(folder, run, arrays=arrays, weights=b"", provenance={})


def test_train_hands_on_its_arguments_and_sums_up(command, monkeypatch):
    seen = {}

    def train(studies, **arguments):
        seen.update(arguments, studies=[study.name for study in studies])
        return Progress(8, 5, trained=2, stopped=True, seconds=61.0)

    monkeypatch.setattr(sweep, "train", train)
    status, out, _ = command("train", "tiny", "--budget", "9m", "--workers", "2", "--device", "cpu", "--retry-failed")
    assert status == 3 and "tiny: 5 of 8 runs are there; stopped, start again to go on (2 trained now in 61 s)" in out
    assert seen["studies"] == ["tiny"] and 8 < seen["budget_minutes"] <= 9
    assert seen["workers"] == 2 and seen["device"] == "cpu" and seen["retry_failed"]


@pytest.fixture
def two_studies(tiny_yaml):
    """The tiny profile with a second study, 'later', before its artefacts."""
    text = tiny_yaml.read_text()
    study = text[text.index("  tiny:") : text.index("artefacts:")]
    tiny_yaml.write_text(text.replace("artefacts:", study.replace("tiny:", "later:") + "artefacts:"))


@pytest.mark.usefixtures("two_studies")
def test_without_names_all_studies_are_trained_in_the_order_of_the_profile(command, monkeypatch):
    seen = []

    def train(studies, **arguments):
        seen.extend(study.name for study in studies)
        return Progress(8, 8, trained=8)

    monkeypatch.setattr(sweep, "train", train)
    status, out, _ = command("train")
    assert status == 0 and seen == ["tiny", "later"] and "tiny: 8 of 8" in out and "later: 8 of 8" in out
    assert command("train", "later")[0] == 0 and seen == ["tiny", "later", "later"]


@pytest.mark.usefixtures("two_studies")
def test_a_study_without_its_data_is_named_and_the_next_one_trained(command, monkeypatch):
    def train(studies, **arguments):
        if studies[0].name == "tiny":
            raise DataError("no images in data/. Put them there.")
        return Progress(8, 8)

    monkeypatch.setattr(sweep, "train", train)
    status, out, _ = command("train")
    assert status == 1 and "tiny: not run: no images in data/. Put them there.\nlater: 8 of 8" in out


@pytest.mark.usefixtures("two_studies")
def test_a_budget_is_for_the_whole_call(command, monkeypatch):
    clock, left = [0.0], []
    monkeypatch.setattr(cli, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def train(study, *, budget_minutes, **arguments):
        left.append(budget_minutes)
        clock[0] += 60
        return Progress(8, 8)

    monkeypatch.setattr(sweep, "train", train)
    assert command("train", "--budget", "1.5m")[0] == 0 and left == [1.5, 0.5]
    status, out, _ = command("train", "--budget", "1m")
    assert status == 3 and out.endswith("later: no time left, start again to go on\n")


@pytest.mark.usefixtures("two_studies")
def test_a_study_that_no_artefact_shows_is_released_by_name_alone(command, tiny_yaml, tmp_path):
    tiny_yaml.write_text(tiny_yaml.read_text().replace("[tiny]", "[later]").replace("seeds: 2", "seeds: 1", 1))
    fill(tmp_path / "runs", load_profile(tiny_yaml).study("tiny").runs())  # runs that could not be released
    assert command("release") == (0, "", "")


def test_train_with_failed_runs_ends_with_status_1(command, monkeypatch):
    monkeypatch.setattr(sweep, "train", lambda *a, **k: Progress(8, 7, failed={"digits lenet5 nds seed 0": "loss nan"}))
    status, out, _ = command("train", "tiny")
    assert status == 1 and "failed: digits lenet5 nds seed 0: loss nan" in out


def test_status_counts_runs_and_finds_damage(command, tiny, tmp_path):
    runs = tiny.study("tiny").runs()
    fill(tmp_path / "runs", runs[:3])
    store.record_failure(tmp_path / "runs", runs[3], "the loss was nan")
    status, out, _ = command("status", "--verify")
    assert status == 1 and "tiny  8 runs: 3 done, 4 missing, 1 failed, 0 damaged" in out and "the loss was nan" in out
    (store.folder(tmp_path / "runs", runs[0]) / "weights.safetensors").write_bytes(b"x")
    assert "1 damaged" in command("status", "--verify")[1]
    assert "damaged" not in command("status")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "tyni"], "kdlib: unknown study 'tyni'"),
        (["train", "tiny", "--budget", "soon"], "--budget 'soon' is no time; write 90s, 9m or 1.5h"),
        (["train", "tiny", "--device", "tpu"], "unknown device 'tpu'"),
        (["reproduce", "table66"], "unknown artefact 'table66'"),
        (["reproduce", "fig3"], "unknown artefact 'fig3' in"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(command, arguments, message):
    status, out, error = command(*arguments)
    assert status == 2 and message in error and len(error.splitlines()) == 1 and not out


def test_no_command_is_refused_by_argparse(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([])
    assert stop.value.code == 2 and "COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("digits", 0, "digits comes with scikit-learn"),
        ("celeba", 1, "img_align_celeba/"),
        ("cifar", 2, "unknown data set 'cifar'"),
    ],
)
def test_fetch_ends_with_0_where_a_data_set_is_ready(name, status, message, tmp_path, capsys):
    assert cli.main(["fetch", name, "--root", str(tmp_path)]) == status
    assert message in "".join(capsys.readouterr())


@pytest.mark.parametrize(("text", "expected"), [("90s", 1.5), ("9m", 9), ("1.5h", 90), ("9", 9), (None, None)])
def test_times(text, expected):
    assert cli.minutes(text) == expected


@pytest.mark.parametrize("text", ["", "m", "-9m", "9 minutes", "nan", "1e3", "0s"])
def test_bad_times(text):
    with pytest.raises(InvalidInput):
        cli.minutes(text)


def test_reproduce_without_runs_names_the_command(command, tmp_path):
    status, out, _ = command("reproduce", "--no-train", "--out-dir", str(tmp_path / "out"))
    assert status == 0
    whole = places.command("train", "tiny", "--profile", str(tmp_path / "tiny.yaml"), runs=tmp_path / "runs")
    assert out.splitlines()[-1].endswith(f"not run: {whole}")
    assert json.loads((tmp_path / "out/summary.json").read_text())[0]["verdict"].startswith("not run")


@pytest.mark.parametrize("below", ["", "out"])
def test_an_output_folder_that_cannot_be_made_is_one_line(command, tmp_path, below):
    (tmp_path / "file").write_text("kept")
    status, out, error = command("reproduce", "--no-train", "--out-dir", str(tmp_path / "file" / below))
    assert status == 2 and not out and len(error.splitlines()) == 1 and str(tmp_path / "file" / below) in error
    assert (tmp_path / "file").read_text() == "kept"


def test_a_summary_that_cannot_be_written_is_one_line(command, tmp_path):
    (tmp_path / "out/summary.json").mkdir(parents=True)
    status, _, error = command("reproduce", "--no-train", "--out-dir", str(tmp_path / "out"))
    assert status == 2 and len(error.splitlines()) == 1 and "summary.json" in error


def test_a_terminal_that_has_no_arrow_ends_nothing(command, tmp_path, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252", write_through=True))
    monkeypatch.setattr(sweep, "train", lambda study, **_: Progress(8, 8))
    assert command("reproduce", "--out-dir", str(tmp_path / "out"))[0] == 0
    assert b"ResNet-8 ? LeNet-5" in written.getvalue()


def test_a_reader_that_stops_reading_is_no_error(tiny_yaml):
    command = f"{sys.executable} -m kdlib status --profile {tiny_yaml} | true"
    out = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert out.returncode == 0 and not out.stderr


@pytest.mark.parametrize(
    "shell", ["{} >/dev/full", "mkdir gone && cd gone && rmdir ../gone && {}"], ids=["full disk", "folder gone"]
)
def test_what_the_system_refuses_is_one_line(tiny_yaml, tmp_path, shell):
    command = shell.format(f"{sys.executable} -m kdlib status --profile {tiny_yaml}")
    given = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, env=given)
    assert out.returncode == 2 and re.fullmatch(r"kdlib: \[Errno \d+\].*\n", out.stderr)


def test_runs_below_a_file_are_one_line(command, tmp_path):
    (tmp_path / "runs").touch()
    status, _, complaint = command("train", "--device", "cpu")
    assert status == 2 and str(tmp_path / "runs") in complaint and complaint.count("\n") == 1


def test_streams_that_are_closed_end_nothing(tiny_yaml, monkeypatch):
    """A daemon has none; the bars of a training need one."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert cli.main(["status", "--profile", str(tiny_yaml)]) == 0
    with sys.stderr as stderr, sys.stdout:
        assert stderr.write("seen by nobody")


# --- audit ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_models(tmp_path, monkeypatch):
    """p.csv: v1 is right on 400 samples, v2 loses a tenth of class ant, all of them of site b."""
    monkeypatch.chdir(tmp_path)
    rows = ["sample_id,model,seed,y_true,y_pred,site"]
    for i in range(400):
        label, site = ("ant", "bee")[i % 2], ("a", "b")[i // 2 % 2]
        rows.append(f"s{i},v1,0,{label},{label},{site}")
        rows.append(f"s{i},v2,0,{label},{'bee' if i % 20 == 2 else label},{site}")
    (tmp_path / "p.csv").write_text("\n".join(rows), encoding="utf-8")


@pytest.mark.parametrize(
    "words,status",
    [
        ([], 0),
        (["--fail-on", "class_drop>0.3"], 0),
        (["--fail-on", "class_drop>0.02"], 1),
        (["--fail-on", "class_drop>0.12"], 3),
        (["--fail-on", "class_drop>0.12", "--undecided", "pass"], 0),
        (["--fail-on", "class_drop>0.02", "--fail-on", "class_drop>0.12", "--undecided", "pass"], 1),
        (["--sensitive", "site", "--fail-on", "fpr_difference>0.05", "--columns", "y_true=y_true"], 1),
        (["--fail-on", "eod>0.05"], 2),
        (["--sensitive", "place"], 2),
        (["--metric", "selection_rate"], 2),
        (["--out", "page.txt"], 2),
    ],
)
def test_audit_ends_with_the_status_of_its_limits(two_models, capsys, words, status):
    assert cli.main(["audit", "p.csv", "--baseline", "v1", *words]) == status
    said = capsys.readouterr()
    assert said.err.count("\n") == (status == 2) and Path("report.html").exists() == (status != 2)


def test_audit_needs_a_table_and_a_known_baseline(two_models, capsys):
    assert cli.main(["audit"]) == 2 and "--lm-eval" in capsys.readouterr().err
    assert cli.main(["audit", "p.csv", "--baseline", "v7"]) == 2 and "'v7'" in capsys.readouterr().err
    assert cli.main(["audit", "p.csv"]) == 2 and "v1, v2" in capsys.readouterr().err
    assert not Path("report.html").exists()


def test_audit_of_language_models(tmp_path, capsys, monkeypatch):
    """Logs that the real harness wrote of a teacher and seeds of its student, on two tasks."""
    monkeypatch.chdir(tmp_path)
    words = ["audit", "--lm-eval", str(ROOT / "tests/fixtures/lm_eval/logs"), "--baseline", "teacher"]
    assert cli.main([*words, "--sensitive", "task", "--fail-on", "eod>0.3"]) == 3
    assert "undecided by student, task" in capsys.readouterr().out
    assert "toy_sums" in Path("report.html").read_text(encoding="utf-8")
    assert cli.main([*words, "--sensitive", "topic"]) == 2 and "'topic'" in capsys.readouterr().err


def test_audit_never_replaces_the_table_that_it_reads(tmp_path, capsys):
    table = tmp_path / "a.runs.csv"
    table.write_text("sample_id,model,y_true,y_pred\n1,a,x,x\n2,a,y,x\n1,b,x,y\n2,b,y,y\n")
    before = table.read_bytes()
    assert cli.main(["audit", str(table), "--baseline", "a", "--out", str(tmp_path / "a.html")]) == 2
    assert "a.runs.csv would be replaced" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [table.name] and table.read_bytes() == before
