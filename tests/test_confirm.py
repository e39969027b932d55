"""What confirms: new seeds, a recipe that was chosen apart, results of every study as it was planned."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kdlib.studies import load_profile

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "figures/confirm"
AGAIN, FIRST, DRAWN, ABLATIONS = (
    load_profile(ROOT / f"params/{name}.yaml") for name in ("confirm", "real-small", "trifeature", "ablations")
)
BY_STUDY = pd.read_csv(FOLDER / "claims_by_study.csv")
CONFIRMING = [name for name in AGAIN.studies if name.endswith("-confirm")]  # the others go beyond, and judge no claim
each = pytest.mark.parametrize("study", [AGAIN.study(name) for name in CONFIRMING], ids=CONFIRMING)


@each
def test_no_seed_is_an_old_one(study):
    old = FIRST.study(study.name.removesuffix("-confirm"))
    seeds, before = ({run.seed for run in one.runs()} for one in (study, old))
    assert not seeds & before and study.dataset == old.dataset


CHOSEN = [*map(AGAIN.study, CONFIRMING), *DRAWN.studies.values(), *ABLATIONS.studies.values()]


@pytest.mark.parametrize("study", CHOSEN, ids=lambda one: one.name)
def test_the_recipe_is_among_those_that_were_tried(study):
    tried = pd.read_csv(ROOT / f"params/recipes/{study.name.removesuffix('-alpha06').removesuffix('-early')}.csv")
    for role, settings in (("teacher", study.teacher), ("nds", study.student)):
        rows = tried[tried["role"] == role]
        for key in ("model", "epochs", "batch_size", "optimizer", "lr"):
            rows = rows[rows[key] == settings[key]]
        assert len(rows), (role, settings)
    assert (tried["seed"] >= 900).all()


def test_what_goes_beyond_has_the_same_recipe_and_seeds_and_judges_no_claim():
    first = AGAIN.study("cifar100-confirm")
    for name in {*AGAIN.studies} - {*CONFIRMING}:
        study = AGAIN.study(name)
        assert (study.teacher, study.student, study.alpha) == (first.teacher, first.student, first.alpha)
        assert {run.seed for run in study.runs()} == {run.seed for run in first.runs()}
        assert name not in AGAIN.artefacts["claims"]


@each
def test_every_planned_run_is_in_the_results(study):
    rows = BY_STUDY[BY_STUDY["studies"] == study.name]
    assert set(rows["n_blocks"]) == {study.seeds} and {1, 7} <= set(rows["claim"])
    assert np.isfinite(rows["value"]).all() and set(rows["verdict"]) <= {"reproduced", "not reproduced", "inconclusive"}


def test_every_artefact_has_files():
    assert {name for name in AGAIN.artefacts if list(FOLDER.glob(f"{name}*.csv"))} == set(AGAIN.artefacts)
