"""Folders are the same ones from wherever the command, Python or a notebook starts."""

from pathlib import Path

import pytest

from kdlib import places
from kdlib.errors import InvalidInput
from tests.conftest import make_project

CHECKOUT = Path(places.__file__).resolve().parents[1]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A checkout at 'a project', and a home folder beside it; we stand in the checkout."""
    project = tmp_path / "a project"
    for folder in (project / "notebooks/deep", tmp_path / "home"):
        folder.mkdir(parents=True)
    make_project(project)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(project)
    return project


@pytest.mark.parametrize("below", [".", "notebooks", "notebooks/deep"])
def test_the_project_is_found_from_any_folder_below_it(project, monkeypatch, below):
    monkeypatch.chdir(project / below)
    assert places.project_root() == project and places.figures_dir("quick") == project / "figures/quick"


def test_a_params_folder_of_the_users_own_is_not_ours(project, tmp_path, monkeypatch):
    (tmp_path / "theirs/params").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "theirs")
    assert places.project_root() == CHECKOUT
    monkeypatch.setattr(places, "__file__", str(tmp_path / "site-packages/kdlib/places.py"))  # no checkout at all
    assert places.runs_dir() == tmp_path / "theirs/runs"


@pytest.mark.parametrize(
    ("given", "below"),
    [
        ("sets", "a project/sets"),
        ('./it\'s "so"', 'a project/it\'s "so"'),
        ("../sets", "sets"),
        ("~/sets", "home/sets"),
        ("$HOME", "a project/$HOME"),
    ],
)
def test_a_path_means_the_same_in_a_command_in_a_notebook_and_in_the_environment(project, monkeypatch, given, below):
    expected = project.parent / below
    assert places.runs_dir(given) == places.figures_dir("quick", Path(given)) == expected
    monkeypatch.chdir(project / "notebooks")
    monkeypatch.setenv("KDLIB_DATA", given)
    assert places.runs_dir(given) == places.data_dir() == expected
    assert places.runs_dir(expected) == expected


def test_elsewhere_a_path_is_below_the_working_folder(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "home")
    assert places.runs_dir("r") == tmp_path / "home/r"


def test_a_linked_folder_is_the_one_it_leads_to(project):
    (project / "away").symlink_to(project.parent / "home")
    assert places.runs_dir("away/r") == project.parent / "home/r"


@pytest.mark.parametrize("given", ["~nobody-of-that-name/runs", "a\0b", 5])
def test_what_is_no_path_is_refused(given):
    with pytest.raises(InvalidInput) as refused:
        places.user_path(given)
    assert repr(str(given)) in str(refused.value)


def test_data_folder_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path))
    assert places.data_dir() == tmp_path
    assert places.data_dir(tmp_path / "given") == tmp_path / "given"
