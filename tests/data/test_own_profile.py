"""`kdlib init` writes a profile that can be trained as it is, for every format, and says what to do where it cannot."""

import subprocess

import numpy as np
import pytest
import yaml

from kdlib import cli, data
from kdlib.data import own_profile
from kdlib.errors import InvalidInput
from kdlib.studies import load_profile
from tests.data import test_own


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty folder with data/ in it, and the data folder of this process."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("write", "size", "groups"),
    [(test_own.npz, 8, "size"), (test_own.parquet, 32, "age"), (test_own.folders, 32, "none")],
)
def test_a_profile_for_every_format_is_whole(home, write, size, groups, capsys):
    write(home / "data")
    assert cli.main(["init", "my.yaml"]) == 0
    assert "my.yaml is written" in (said := capsys.readouterr().out) and "kdlib train --profile" in said
    text, profile = (home / "my.yaml").read_text(), load_profile("my.yaml")
    assert "# 12 train, 6 test images in 3 classes:" in text and f"; groups: {groups}\n" in text
    study = profile.study("pets")
    assert study.data["image_size"] == size and len(data.load("own", "train", **study.data).y) == 12
    of_groups = {"fig4", "table02"} if groups != "none" else set()
    assert set(profile.artefacts) == {"fig1", "fig2", "fig3", "table06"} | of_groups
    assert cli.main(["init", "my.yaml"]) == 2 and (home / "my.yaml").read_text() == text
    assert "is not written over" in capsys.readouterr().err


def test_names_are_read_as_text_whatever_they_are(home):
    for name in ("yes", "123", 'a "b" #c', "ünï", "p" * 100):
        folder = home / "data" / name
        test_own.npz(home / "data")
        (home / "data/pets").rename(folder)
        (folder / "pets.npz").rename(folder / f"{name}.npz")
        path = own_profile.write(home / "no.yaml", folder)
        (study,) = load_profile(path).studies.values()
        assert study.data["name"] == name and yaml.safe_load(path.read_text())["profile"] == "no"
        path.unlink()


def test_large_arrays_are_made_smaller_by_a_whole_factor(home):
    images = np.random.default_rng(0).integers(0, 256, (18, 96, 96), np.uint8)
    test_own.npz(home / "data", train_x=images[:12], test_x=images[12:])
    assert load_profile(own_profile.write("my.yaml")).study("pets").data["image_size"] == 48


def test_without_data_or_with_several_it_says_what_to_do(home):
    with pytest.raises(InvalidInput, match=r"train/<class>/  image files"):
        own_profile.write("my.yaml")
    test_own.npz(home / "data")
    (home / "data/plants/train").mkdir(parents=True)
    (home / "data/plants/test").mkdir()
    assert load_profile(own_profile.write("my.yaml")).study("pets"), "an empty folder holds none"
    for path in (home / "data/pets").glob("*"):
        (home / "data/other").mkdir(exist_ok=True)
        if path.is_file():
            (home / "data/other/other.npz").write_bytes(path.read_bytes())
    with pytest.raises(InvalidInput, match="holds other, pets: name one of them"):
        own_profile.write("mine.yaml")
    assert load_profile(own_profile.write("mine.yaml", "pets")).study("pets")


@pytest.mark.parametrize("given", ["my pets", "pets.npz"])
def test_what_lies_elsewhere_is_linked_by_the_command_that_is_told(home, given):
    test_own.npz(home)
    (home / "pets").rename(home / "my pets")
    (home / "my pets/pets.npz").rename(home / "my pets/my pets.npz")
    if given == "pets.npz":
        (home / "my pets/my pets.npz").rename(home / given)
    with pytest.raises(InvalidInput) as caught:
        own_profile.write("my.yaml", given)
    command = str(caught.value).partition(": ")[2]
    subprocess.run(command, shell=True, check=True)
    (linked,) = (home / "data").iterdir()
    assert load_profile(own_profile.write("my.yaml", f"data/{linked.name}")).studies


@pytest.mark.parametrize("name", ["my.txt", "my", "data"])
def test_a_profile_is_a_yaml_file(home, name):
    test_own.npz(home / "data")
    with pytest.raises(InvalidInput, match=name):
        own_profile.write(name)
