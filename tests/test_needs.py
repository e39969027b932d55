"""One's own studies: needs are asked before training, nothing is called a stand-in, nothing is mixed."""

import json

import numpy as np
import pytest

from kdlib import cli, needs, notebook, places, reproduce, store
from kdlib.errors import ProfileError
from kdlib.measure import class_bias
from kdlib.show import tables
from kdlib.studies import load_profile
from kdlib.training.sweep import Progress
from tests.conftest import TINY, make_project
from tests.data import test_own

GROUPED = ("table02", "table03", "table09", "table10", "fig4", "fig5")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A profile with one's own data, read anew with other seeds and artefacts; drawn predictions in runs/."""
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path)
    (tmp_path / "data").mkdir()
    test_own.npz(tmp_path / "data", train_group_size=None, test_group_size=None)
    text = TINY.replace("profile: tiny", "profile: {profile}").replace("dataset: digits", "dataset: own")
    text = text.replace("train_images: 100", f'name: pets, image_size: 8, fingerprint: "{print_of(tmp_path)}"')

    def read(*artefacts, seeds=3, profile="mine"):
        given = text.replace("{profile}", profile).replace("seeds: 2", f"seeds: {seeds}")
        shown = "".join(f"  {artefact}: [tiny]\n" for artefact in artefacts)
        (tmp_path / "my.yaml").write_text(given.replace("  table06: [tiny]\n", shown), encoding="utf-8")
        return load_profile(tmp_path / "my.yaml")

    return read


def print_of(root):
    return test_own.own.fingerprint(root / "data/pets", 8)


def fill(profile, folder):
    rng = np.random.default_rng(0)
    for run in profile.study("tiny").runs():
        arrays = {"logits": (rng.normal(size=(30, 3)) + 2 * np.eye(3)[np.arange(30) % 3]).astype(np.float32)}
        arrays |= {"labels": np.arange(30) % 3}
        arrays |= {"sample_ids": np.arange(30).astype(str), "class_names": np.array(["ant", "bee", "cat"])}
        store.save(folder, run, arrays=arrays, weights=b"", provenance={"seconds": 1.0})


def test_what_an_artefact_lacks_is_said_in_words(mine, tmp_path):
    profile = mine("fig1", "fig2", "fig3", "table04", "table06", *GROUPED, "claims", "fig6", seeds=1)
    place = f"{tmp_path / 'my.yaml'}: artefacts."
    assert needs.lacking("fig2", profile) == []
    assert needs.lacking("fig1", profile) == [
        f"{place}fig1: it compares seeds, and study 'tiny' has 1. Take 2 or more."
    ]
    assert "has 1. Take 3 or more." in needs.lacking("fig3", profile)[0]
    for artefact in GROUPED:
        assert "it compares groups, and the data of study 'tiny' have none" in needs.lacking(artefact, profile)[0]
    assert "it shows trifeature or" in needs.lacking("table04", profile)[0]
    for artefact in ("claims", "fig6"):
        assert "it is about the paper" in needs.lacking(artefact, profile)[0]
    test_own.npz(tmp_path / "data")  # with groups; of other data, whose fingerprint training asks for
    assert needs.lacking("table06", mine("table06", "fig4")) == []


@pytest.mark.parametrize("name", ["quick", "real-small", "paper"])
def test_our_own_profiles_lack_nothing(name):
    profile = load_profile(name)
    assert [line for artefact in profile.artefacts for line in needs.lacking(artefact, profile)] == []


def test_it_is_asked_before_anything_is_trained_and_told_at_once(mine, tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    mine("fig1", "fig4", seeds=1)
    monkeypatch.setattr(reproduce.sweep, "train", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(ProfileError) as caught:
        reproduce.reproduce(profile="my.yaml", device="cpu")
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["artefacts.fig1", "artefacts.fig4"]
    with pytest.raises(ProfileError, match="artefacts.fig1: it compares seeds"):
        notebook.open("fig1", profile="my.yaml", device="cpu").load()
    assert not (tmp_path / "figures").exists()


def test_train_says_before_what_it_will_not_be_enough_for(mine, monkeypatch, capsys):
    mine("fig1", "fig2", "fig4", seeds=1)
    monkeypatch.setattr(cli.sweep, "train", lambda *_, **__: print("it trains") or Progress(4, 4))
    assert cli.main(["train", "--profile", "my.yaml"]) == 0
    first, second, _ = capsys.readouterr().out.split("\n", 2)
    assert first.startswith("Not enough for fig1, fig4. ") and second == "it trains"
    assert first.endswith("artefacts.fig1: it compares seeds, and study 'tiny' has 1. Take 2 or more.")
    mine("fig1", "fig2")
    assert cli.main(["train", "--profile", "my.yaml"]) == 0 and "Not enough" not in capsys.readouterr().out


def test_status_says_where_its_data_are_gone_or_changed(mine, tmp_path, capsys):
    mine("table06", seeds=2)
    status = ["status", "--profile", "my.yaml"]
    assert cli.main(status) == 0 and capsys.readouterr().out == "tiny  8 runs: 8 missing\n"
    test_own.npz(tmp_path / "data")  # with groups
    assert cli.main(status) == 1 and "\n    data: fingerprint " in capsys.readouterr().out
    (tmp_path / "data/pets").rename(tmp_path / "data/cats")
    assert cli.main(status) == 1 and f"\n    data: {tmp_path / 'data/pets'} has no" in capsys.readouterr().out


def test_nothing_of_it_is_called_a_stand_in(mine, tmp_path):
    profile = mine("table06", seeds=5)
    fill(profile, tmp_path / "runs")
    here = notebook.open("table06", profile="my.yaml", device="none")
    (shown,) = here.load().values()
    rows = here.beside(class_bias.table(shown.predictions), shown)
    table = tables.class_bias_table(rows, title=shown.title)
    assert shown.heading.splitlines()[0] == "tiny: pets at 8 px, ResNet-8 → LeNet-5" == table.caption.splitlines()[0]
    assert notebook.brief_kind(shown.study) == "your own study tiny" and "| your own |" in repr(here)
    here.save({"tiny": table}, {"tiny": rows}, shows="counts")
    about = json.loads((tmp_path / "figures/mine/table06_tiny.json").read_text())
    assert about["own"] is True and "stand_in" not in about
    texts = [path.read_text() for path in (tmp_path / "figures/mine").iterdir()]
    assert not any("stand" in text or "paper" in text for text in [*texts, repr(here), table.caption])
    here.save_one(table, rows, name="theirs_dpd", shows="the paper's own numbers")
    assert not list((tmp_path / "figures/mine").glob("theirs*")), "none of the paper's files"


def test_a_profile_called_quick_keeps_out_of_the_folder_of_ours(mine, tmp_path):
    (tmp_path / "params/quick.yaml").write_text(TINY.replace("tiny", "quick", 1), encoding="utf-8")
    assert load_profile("quick").name == "quick" == load_profile(tmp_path / "params/quick.yaml").name
    assert mine("table06", profile="quick").name == "quick-my" and mine("table06").name == "mine"
    here = notebook.open("table06", profile=mine("table06", profile="quick").path, device="none")
    assert here.out_dir == tmp_path / "figures/quick-my" and here.released == here.out_dir / "predictions"


def test_an_artefact_of_another_profile_names_that(capsys):
    assert cli.main(["reproduce", "fig5"]) == 2
    said = capsys.readouterr().err
    assert "unknown artefact 'fig5'" in said
    assert f"{places.command('reproduce', 'fig5', '--profile', 'real-small')}\n" in said


def test_commands_that_are_told_are_whole(mine, tmp_path):
    study = mine("table06").study("tiny")
    assert study.command() == f"kdlib train tiny --profile {tmp_path / 'my.yaml'}"
    assert study.command(tmp_path / "runs") == study.command()
    assert study.command("my runs").endswith("my.yaml --runs-dir 'my runs'")


def test_status_tells_released_from_missing(tiny_yaml, tmp_path, monkeypatch, capsys):
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    runs = load_profile(tiny_yaml).study("tiny").runs()
    (tmp_path / "figures/tiny/predictions").mkdir(parents=True)
    about = {"runs": [{"id": run.id} for run in runs[:5]]}
    (tmp_path / "figures/tiny/predictions/tiny.json").write_text(json.dumps(about), encoding="utf-8")
    store.save(
        tmp_path / "runs", runs[0], arrays={name: np.zeros(1) for name in store.ARRAYS}, weights=b"", provenance={}
    )
    assert cli.main(["status", "--profile", str(tiny_yaml)]) == 0
    assert capsys.readouterr().out == "tiny  8 runs: 1 done, 4 released, 3 missing\n"


def test_outside_a_checkout_it_says_what_needs_one(tiny_yaml, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(places, "project_root", lambda: tmp_path)
    assert cli.main(["status"]) == 2 and "kdlib init my.yaml" in capsys.readouterr().err
    assert cli.main(["reproduce", "--profile", str(tiny_yaml)]) == 2
    assert "the paper's notebooks are in kdlib's repository" in capsys.readouterr().err
