"""What a notebook opens: wrong parameters are told in one line, what is there in words, and files get their names."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kdlib import notebook, store
from kdlib.errors import InvalidInput, NotTrained, ProfileError
from kdlib.measure import class_bias
from kdlib.predictions import named_collapsed
from kdlib.show import tables
from kdlib.training import sweep
from tests import simulated
from tests.conftest import TINY, make_project
from tests.simulated_claims import with_teacher_ids

ROOT = Path(__file__).resolve().parents[1]
STUDY = TINY[TINY.index("  tiny:") : TINY.index("artefacts:")]
AWAY = STUDY.replace("tiny:", "away:").replace("train_images: 100", "train_images: 120")
PROFILE = TINY.replace("artefacts:", f"{AWAY}artefacts:").replace("[tiny]", "[tiny, away]\n  fig6: []")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose profile has one study with drawn predictions and one without runs."""
    make_project(tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params/tiny.yaml").write_text(PROFILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "notebooks")
    rng = np.random.default_rng(0)
    labels = np.arange(20) % 2
    for run in notebook.load_profile("tiny").study("tiny").runs():
        arrays = {
            "logits": (rng.normal(size=(20, 2)) + 4 * np.eye(2)[labels]).astype(np.float32),
            "labels": labels,
            "sample_ids": np.array([f"s{i}" for i in range(20)]),
            "class_names": np.array(["a", "b"]),
        }
        store.save(tmp_path / "runs", run, arrays=arrays, weights=b"", provenance={})
    return tmp_path


def opened(artefact="table06", **options):
    return notebook.open(artefact, **{"profile": "tiny", "device": "none"} | options)


@pytest.mark.parametrize(
    ("artefact", "options", "error", "value"),
    [
        ("table66", {}, ProfileError, "table66"),
        ("fig8", {}, ProfileError, "fig8"),
        ("table06", {"profile": "quik"}, ProfileError, "quik"),
        ("table06", {"device": "tpu"}, InvalidInput, "tpu"),
    ],
)
def test_a_wrong_parameter_is_one_line(project, artefact, options, error, value):
    with pytest.raises(error, match=value) as caught:
        opened(artefact, **options)
    (line,) = caught.value._render_traceback_()
    assert line == f"{error.__name__}: {caught.value}"


def test_a_profile_beside_the_notebook_or_in_the_project_or_at_home(project, monkeypatch):
    for folder in (project / "notebooks", project, project / "home"):
        folder.mkdir(exist_ok=True)
        (folder / f"{folder.name}.yaml").write_text(TINY, encoding="utf-8")
    monkeypatch.setenv("HOME", str(project / "home"))
    for given, folder in (
        ("notebooks.yaml", project / "notebooks"),
        (f"{project.name}.yaml", project),
        ("~/home.yaml", project / "home"),
    ):
        assert opened(profile=given).profile.path == folder / f"{folder.name}.yaml"
    with pytest.raises(ProfileError, match="away.yaml") as caught:
        opened(profile="away.yaml")
    looked = (project / "notebooks/away.yaml", project / "away.yaml")
    assert all(str(path) in str(caught.value) for path in looked), "where it was looked for"
    assert opened(runs_dir="~/r", out_dir="~/o").runs_dir == project / "home/r"


def test_it_says_what_there_is_and_how_to_run_the_rest(project):
    here = opened()
    assert "| tiny | " in repr(here) and "20 test" not in repr(here)
    found = here.load()
    assert list(found) == ["tiny"] and len(found["tiny"].predictions.runs) == 8
    text = here._repr_markdown_()
    (row,) = (line for line in text.splitlines() if line.startswith("| tiny |"))
    assert row.endswith("| 8 | 20 test | 0 |")
    assert "stand-in: data set digits is not in the paper" in row
    assert "    kdlib train away --profile tiny" in text.splitlines()
    assert [table.data.empty for table in here.not_run()] == [True]
    assert "train away" in here.not_run()[0].caption


def test_without_any_runs_nothing_is_shown(project, tmp_path):
    with pytest.raises(NotTrained, match="tiny"):
        opened(runs_dir=tmp_path / "empty").load()


def test_an_artefact_without_studies_says_so(project):
    assert "No study of ours is needed" in repr(opened("fig6"))


def test_entries_have_the_names_of_their_files(project):
    (among_others,) = opened().load().values()
    tiny = replace(among_others, alike=False)
    one = notebook.Shown(tiny.study, tiny.predictions, "gender_majority", "validation")
    assert one.name == "tiny_gender_majority_validation"
    assert one.title.endswith("tiny, groups by gender, majority, validation part (20 images)")
    assert tiny.title.endswith("\ntiny, alpha = 0.8") and tiny.heading == tiny.title.rpartition("\n")[0] + "; 2 seeds"
    asked = replace(tiny, asks="What else?")
    assert asked.heading == f"What else?\n{tiny.heading}" and asked.title == tiny.title
    assert among_others.heading == tiny.heading.replace("2 seeds", "tiny, alpha 0.8; 2 seeds")


def test_saving_names_files_and_says_what_they_are_of(project):
    here = opened()
    here.load()
    pairs = here.split({"tiny": ["color"]})
    frame = pd.DataFrame({"x": [1]})
    table = tables.text_table(frame.astype(str), "t")
    said = here.save({"tiny_color": table}, {"tiny_color": frame}, shows="by {sensitive}; {part}", end="_e")
    assert list(pairs) == ["tiny_color"]
    assert repr(said) == "table06_tiny_color_e.html, .tex, .csv, .json"
    about = json.loads((here.out_dir / "table06_tiny_color_e.json").read_text())
    assert (about["shows"], about["study"], about["profile"]) == ("by color; test", "tiny", "tiny")
    said = here.save_one(table, frame, shows="w", more=1)
    assert said.splitlines()[1:] == ["table06.html, .tex, .csv, .json"]
    assert json.loads((here.out_dir / "table06.json").read_text())["more"] == 1


def test_a_table_is_its_caption_as_plain_text():
    table = tables.text_table(pd.DataFrame({"x": ["1"]}), "A < B\nstand-in")
    assert repr(table) == "A < B\nstand-in" and "<table" in table._repr_html_()


def test_what_is_missing_is_trained(project, monkeypatch):
    asked = []
    monkeypatch.setattr(sweep, "train", lambda studies, **_: asked.append([s.name for s in studies]) or "8 of 16")
    here = opened(device="cpu")
    here.load()
    assert asked == [["tiny", "away"]] and "Trained: 8 of 16." in repr(here)
    opened(device="none").load()
    assert len(asked) == 1


@pytest.fixture
def one_collapsed(project, monkeypatch):
    """Five seeds an arm; the student of seed 2 at T = 4 gives class 1 for every image."""
    p = with_teacher_ids(simulated.study(n_classes=4, temperatures=(2, 4)))
    row = p.runs.index[p.runs["run_id"] == "ds-T4-2"][0]
    predicted = p.predicted.copy()
    predicted[row] = 1
    p = replace(p, predicted=predicted)
    monkeypatch.setattr(notebook.collect, "collect_parts", lambda *a, **k: {"tiny": {"test": p}})
    return p


@pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")
def test_a_run_that_collapsed_is_named_and_a_second_one_is_without_it(one_collapsed):
    here = opened()
    found = here.load()
    assert list(found) == ["tiny", "tiny_without_collapsed"]
    every, without = found.values()
    name = "ds T=4 seed 2 predicts class 1 alone"
    assert every.heading.endswith(f"\ncollapsed: {name}") and without.heading.endswith(f"\nwithout {name}")
    assert name in every.title and len(every.predictions.runs) == len(without.predictions.runs) + 1
    assert "| 20 |" in repr(here), "the runs that are there, the collapsed one too"
    rows = {key: class_bias.table(s.predictions) for key, s in found.items()}
    shown = {key: tables.class_bias_table(rows[key], title=s.title) for key, s in found.items()}
    assert all(name in table.caption for table in shown.values())
    assert (
        shown["tiny"].data.loc["DS, T = 4"].tolist() != shown["tiny_without_collapsed"].data.loc["DS, T = 4"].tolist()
    )
    assert (
        shown["tiny"].data.loc["DS, T = 2"].tolist() == shown["tiny_without_collapsed"].data.loc["DS, T = 2"].tolist()
    )
    here.save(shown, rows, shows="counts")
    about = [json.loads((here.out_dir / f"table06_{key}.json").read_text()) for key in found]
    assert about[0]["collapsed"] == [name] and "collapsed" not in about[1]
    assert list(here.split({"tiny_without_collapsed": ["color"]})) == ["tiny_without_collapsed_color"]


def test_without_it_no_arm_is_shown_that_one_run_is_left_of(one_collapsed, monkeypatch):
    few = one_collapsed.take(np.flatnonzero(one_collapsed.runs["seed"].isin([1, 2])))
    monkeypatch.setattr(notebook.collect, "collect_parts", lambda *a, **k: {"tiny": {"test": few}})
    found = opened().load()
    assert list(found) == ["tiny"] and "ds T=4 seed 2" in found["tiny"].heading


@pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")
def test_one_figure_of_several_studies_names_the_collapsed_runs_of_each(one_collapsed):
    here = opened()
    whole = one_collapsed.without_collapsed()
    here.found = {
        name: notebook.Shown(replace(here.studies[0], name=name), p, collapsed=tuple(named_collapsed(p)))
        for name, p in (("a", whole), ("b", one_collapsed))
    }
    assert here.heading.splitlines()[-1] == "collapsed in b: ds T=4 seed 2 predicts class 1 alone"
    assert "collapsed in a" not in here.heading


@pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")
def test_the_title_of_several_studies_says_in_what_they_differ(one_collapsed):
    here, quick = opened(), notebook.load_profile(ROOT / "params/quick.yaml")
    here.found = {n: notebook.Shown(quick.study(n), one_collapsed) for n in ("biased-0", "biased-40", "biased-80")}
    first = "Trifeature, biased, ρ 0/0.4/0.8 at 16 px (convex), ResNet-8 → LeNet-5"
    assert here.heading.splitlines() == [first, "stand-in, not the paper's study; 5 seeds"]
