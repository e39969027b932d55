"""The choice of a recipe: by a fifth of the training data, never by test data, with seeds that no study has."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from kdlib import data
from kdlib.errors import InvalidInput
from kdlib.studies import load_profile
from tests.test_own_models import NETS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def tool():
    """The script as a module: tools/ is no package."""
    spec = importlib.util.spec_from_file_location("choose_recipe", ROOT / "tools/choose_recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_four_fifths_and_one_fifth_share_no_sample_and_miss_none(tool):
    split = data.load("digits", "train", train_images=100)
    train, held_out = tool.cut(split, 900)
    assert (len(train.y), len(held_out.y)) == (80, 20)
    assert {*train.ids} | {*held_out.ids} == {*split.ids}
    at = {id_: i for i, id_ in enumerate(split.ids)}
    for part in (train, held_out):
        rows = [at[id_] for id_ in part.ids]
        assert np.array_equal(part.x, split.x[rows]) and np.array_equal(part.y, split.y[rows])
    again, other = tool.cut(split, 900)[1], tool.cut(split, 901)[1]
    assert np.array_equal(again.ids, held_out.ids) and not np.array_equal(other.ids, held_out.ids)


def test_no_seed_of_a_study_is_used(tool):
    for path in (ROOT / "params").glob("*.yaml"):
        for study in load_profile(path).studies.values():
            assert max(run.seed for run in study.runs()) < tool.FIRST_SEED


def test_a_candidate_is_the_run_with_its_changes_alone(tool, study):
    (teacher,) = tool.candidates(study, "teacher", {"epochs": 2, "lr": 0.1}, 1)
    assert (teacher.role, teacher.seed, teacher.epochs, teacher.lr, teacher.model) == (
        "teacher",
        900,
        2,
        0.1,
        "resnet8",
    )
    students = tool.candidates(study, "nds", {"batch_size": 8}, 2)
    assert [(run.seed, run.batch_size, run.epochs, run.teacher) for run in students] == [
        (900, 8, 3, None),
        (901, 8, 3, None),
    ]
    with pytest.raises(InvalidInput, match="'epoch'.*student"):
        tool.candidates(study, "nds", {"epoch": 2}, 1)


def test_the_table_is_made_without_test_data_and_alike_every_time(tool, tiny_yaml, monkeypatch):
    load, parts = data.load, []

    def watched(name, part, /, **options):
        parts.append(part)
        return load(name, part, **options)

    monkeypatch.setattr(data, "load", watched)
    for _ in range(2):
        assert (
            tool.main(["tiny", f"--profile={tiny_yaml}", "--teacher", "{epochs: 1}", "--student", "{}", "{lr: 0.1}"])
            == 0
        )
    assert {*parts} == {"train"}
    with (tiny_yaml.parent / "recipes/tiny.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["role"], row["seed"], row["epochs"], row["lr"]) for row in rows[:3]] == [
        ("teacher", "900", "1", "0.02"),
        ("nds", "900", "3", "0.02"),
        ("nds", "900", "3", "0.1"),
    ]
    found = [[value for key, value in row.items() if key != "cpu_seconds"] for row in rows]
    assert len(found) == 6 and found[:3] == found[3:]
    assert all((row["train_images"], row["validation_images"]) == ("80", "20") for row in rows)
    assert all(float(row["validation_accuracy"]) * 20 % 1 == 0 for row in rows)


def test_a_network_of_the_profile_s_own_is_tried_too(tool, tiny_yaml):
    tiny_yaml.write_text(tiny_yaml.read_text(encoding="utf-8").replace("lenet5", "nets.py:mynet"), encoding="utf-8")
    (tiny_yaml.parent / "nets.py").write_text(NETS, encoding="utf-8")
    assert tool.main(["tiny", f"--profile={tiny_yaml}", "--student", "{}"]) == 0
    assert ",nets.py:mynet@" in (tiny_yaml.parent / "recipes/tiny.csv").read_text(encoding="utf-8")


def test_a_wrong_study_is_one_line_and_exit_status_2(tool, tiny_yaml, capsys):
    assert tool.main(["tyni", f"--profile={tiny_yaml}", "--student", "{}"]) == 2
    assert "'tyni'" in capsys.readouterr().err
