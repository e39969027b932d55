"""The released results of real-small: every number is finite and possible, and every study is shown whole.

Each table in figures/real-small was written by a notebook.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kdlib.claims import board
from kdlib.paper.numbers import TO_TEN
from kdlib.studies import load_profile

FOLDER = Path(__file__).resolve().parents[1] / "figures/real-small"
PROFILE = load_profile(FOLDER.parents[1] / "params/real-small.yaml")
NAMES = sorted(path.stem for path in FOLDER.glob("*.csv"))
ROWS = [name for name in NAMES if name[:7] in {f"table{n:02}" for n in (1, 2, 3, 4, 6, 7, 9)}]
DISPARITIES = [name for name in NAMES if name.startswith(("fig4", "fig5")) and not name.endswith("_joint")]
COUNTS = [name for name in NAMES if name.startswith(("fig3", "fig8")) and not name.endswith("_without_counts")]
FIDELITY = [
    name for name in NAMES if name.startswith("beyond_fidelity") and not name.endswith(("_teacher", "_samples"))
]
ENDS = ("_low", "_high")


def read(name):
    return pd.read_csv(FOLDER / f"{name}.csv")


def study_of(name):
    return PROFILE.study(json.loads((FOLDER / f"{name}.json").read_text())["study"])


def temperatures_of(name):
    """The temperatures of a study that an artefact shows."""
    low, high = (1 if name.startswith(("table02", "table03", "table04")) else 2, 10)
    every = sorted(study_of(name).temperatures)
    return [t for t in every if low <= t <= high] if name.startswith(TO_TEN) else every


def wide(rows):
    """One row per arm, one column per metric."""
    return rows.fillna({"temperature": 0}).pivot(index=["model", "temperature"], columns="metric", values="mean")


def check_arms(name, frame):
    """All temperatures, and as many seeds as the study has; teachers may be more."""
    study = study_of(name)
    assert sorted(frame["temperature"].dropna().unique()) == temperatures_of(name)
    models = frame.get("model", pd.Series("ds", frame.index))
    assert set(frame.loc[models != "teacher", "n_seeds"]) == {study.seeds}
    assert frame["n_seeds"].min() >= study.seeds >= 2


def test_every_artefact_of_the_profile_has_results():
    shown = {name for name in PROFILE.artefacts if any(file.startswith(name) for file in NAMES)}
    assert shown == set(PROFILE.artefacts)


@pytest.mark.parametrize("name", [name for name in NAMES if "study" in (FOLDER / f"{name}.json").read_text()])
def test_every_planned_run_is_there_or_named(name):
    about = json.loads((FOLDER / f"{name}.json").read_text())
    if "study" in about and not name.startswith(TO_TEN):
        assert about["runs"] + len(about["absent"]) == len(study_of(name).runs())


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_whole_and_possible(name):
    rows = read(name)
    check_arms(name, rows)
    assert not rows.duplicated(["model", "temperature", "metric"]).any()
    assert set(rows.loc[rows["mean"].isna(), "metric"]) <= {"null_band", "mean_ratio"}
    shares = rows[(rows["unit"] == "share") | rows["metric"].isin(["counterfactual", "inconsistency"])]
    assert shares["mean"].between(0, 1).all() and (rows["mean"].dropna() >= 0).all()
    both = rows.dropna(subset=["low", "high"])
    assert (both["low"] <= both["high"]).all()
    inside = both["mean"].between(both["low"], both["high"]) | both["mean"].isna()
    assert inside.all()
    assert (rows["sd"].dropna() >= 0).all()
    if name.startswith(("table02", "table03", "table09")):
        floors = rows[rows["metric"].str.endswith("_floor")]
        assert (floors["mean"] <= floors["high"]).all() and floors["metric"].nunique() == 5


@pytest.mark.parametrize("name", DISPARITIES)
def test_disparities_are_whole_and_possible(name):
    rows = read(name)
    check_arms(name, rows)
    assert rows["mean"].between(0, 1).all() and (rows["n_left_out"] == 0).all(), "a group lacks positives or negatives"
    arms = wide(rows)
    assert (arms["eod"] >= arms[["tpr_difference", "fpr_difference"]].max(axis=1) - 1e-12).all()
    assert arms[["eod_floor", "dpd_floor", "label_dpd"]].notna().all(axis=None)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_joint")])
def test_joint_intervals_hold_their_number_and_both_errors(name):
    rows = read(name)
    assert set(rows["against"]) == {"nds", "teacher"} and set(rows["temperature"]) == {10}
    assert (rows["mean"].between(rows["low"], rows["high"])).all() and (rows[["se_seeds", "se_rows"]] >= 0).all(
        axis=None
    )


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_whole_and_possible(name):
    rows = read(name)
    check_arms(name, rows)
    band = rows[rows["metric"] == "null_band"]
    assert len(band) == len(temperatures_of(name)) and (band["low"] <= band["high"]).all()
    found = wide(rows[rows["model"] == "ds"])[["n_significant_sc", "n_significant_tc"]]
    assert found.ge(0).all(axis=None) and found.le(100).all(axis=None) and (found % 1 == 0).all(axis=None)
    assert rows.loc[rows["metric"] == "accuracy", "mean"].between(0, 1).all()


def test_class_accuracies_are_whole():
    changes = read("fig1_cifar10")
    assert sorted(changes["temperature"].unique()) == temperatures_of("fig1_cifar10")
    assert (changes.groupby("temperature")["class_name"].nunique() == 10).all()
    assert changes[["mean_a", "mean_b"]].stack().between(0, 1).all()
    assert np.isfinite(changes[["sd_a", "sd_b", "p"]].to_numpy()).all()


def test_disagreements_count_every_test_image_once():
    counts = read("fig2_cifar10")
    images = json.loads((FOLDER / "fig2_cifar10.json").read_text())["test_samples"]
    assert counts["panel"].nunique() == 2 and len(counts) == 2 * 10**2
    assert counts.groupby("panel")["count"].sum().tolist() == pytest.approx([images, images])
    assert set(counts["teacher"]) == set(counts["student"])


def test_a_correction_finds_no_more():
    counts = read("beyond_sensitivity_cifar100")
    choice = ["temperature", "against", "test", "normalise"]
    wide = counts.pivot(index=choice, columns="correction", values="n_significant")
    assert (wide["bh"] <= wide["none"]).all()
    assert (counts["n_significant"] <= counts["classes"]).all() and counts["share_changed"].between(0, 1).all()


@pytest.mark.parametrize(("study", "n_classes"), [("cifar10", 10), ("cifar100", 100)])
def test_class_changes_have_ordered_intervals_and_known_verdicts(study, n_classes):
    changes, classes = read(f"beyond_class_changes_{study}"), read(f"beyond_class_changes_{study}_by_class")
    both = changes.dropna(subset=["low", "high"])
    assert set(both["metric"]) == {"change_sd", "slope"} and both["mean"].between(both["low"], both["high"]).all()
    found = wide(changes)
    assert (found["p_global"] * changes["permutations"][0] >= 1).all() and found["p_global"].max() <= 1
    assert found["share_changed"].between(0, 1).all()
    assert set(classes["verdict"]) <= {"changed", "equivalent", "inconclusive"} and len(classes) == n_classes
    assert (classes["g_low"] < classes["g_high"]).all()


@pytest.mark.parametrize("name", FIDELITY)
def test_flips_are_the_change_in_accuracy(name):
    rows = read(name)
    check_arms(name, rows)
    students, nds = (wide(rows[rows["model"] == model]) for model in ("ds", "nds"))
    flips = students["positive_flips"] - students["negative_flips"]
    assert flips.tolist() == pytest.approx((students["accuracy"] - nds["accuracy"].item()).tolist())
    assert (students["positive_flips"] + students["negative_flips"] <= students["churn"] + 1e-12).all()


def test_twelve_claims_each_with_a_verdict_and_a_sentence():
    rows, every = read("claims"), read("claims_by_study")
    assert rows["claim"].tolist() == list(range(1, 13)) and set(every["claim"]) == set(rows["claim"])
    assert set(rows["verdict"]) | set(rows["stand_in_verdict"]) <= set(board.VERDICTS)
    assert rows["sentence"].str.len().min() > 0
    assert set(rows["verdict"]) == {"not run"}, "a stand-in judged the paper"
    for prefix, frame in (("stand_in_", rows), ("", every)):
        both = frame.dropna(subset=f"{prefix}p_holm")  # NaN where the design cannot answer
        p, holm = both[f"{prefix}p"], both[f"{prefix}p_holm"]
        assert p.between(0, 1).all() and holm.between(0, 1).all() and (holm >= p).all()
        run = frame[frame[f"{prefix}verdict"] != "not run"]
        assert (run[f"{prefix}n_blocks"] >= 2).all() and np.isfinite(run[f"{prefix}value"]).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("theirs_table0") and "range" in name])
def test_what_the_paper_leaves_possible_is_a_range(name):
    limits = read(name)
    assert len(limits) and (limits["lowest"] <= limits["highest"]).all()


def test_celebas_counts_add_up():
    shares, rows = read("fig6_celeba"), read("table05_celeba").set_index("row")
    assert len(shares) == shares["attribute"].nunique() == 40
    assert shares["images"].is_monotonic_decreasing and shares["share"].between(0, 1, inclusive="neither").all()
    assert (abs(shares["share"] * 202_599 - shares["images"]) < 0.5).all()
    assert rows["young"].add(rows["not_young"]).tolist() == pytest.approx(rows["images"].tolist())
    assert rows["male"].add(rows["not_male"]).tolist() == pytest.approx(rows["images"].tolist())
    counts = rows[["young", "not_young", "male", "not_male"]]
    assert (counts.loc["smiling, all"] == counts.loc["smiling, printed as “Not Smiling”"]).all()
    random = rows.loc["not smiling, undersampled at random"]
    for row in ("not smiling, printed as “Smiling”", "not smiling, undersampled by kdlib"):
        assert abs(rows.loc[row, "young"] - random["young"]) < 4 * random["sd_young"]
        assert abs(rows.loc[row, "male"] - random["male"]) < 4 * random["sd_male"]
    assert rows.loc[["smiling, all", "not smiling, all"], "images"].sum() == 162_770
