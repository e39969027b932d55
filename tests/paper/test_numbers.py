"""The paper's numbers as the paper has them, which studies are its own, and ours beside them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kdlib import catalogue
from kdlib.errors import InvalidInput
from kdlib.paper import numbers, stand_in
from kdlib.studies import Study, load_profile
from tests import simulated

STEP = {"name": "step", "milestones": [0.3, 0.6, 0.9], "gamma": 0.1}
SGD = {
    "optimizer": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 0.001,
    "warmup": 0.0,
    "batch_size": 128,
    "precision": "fp32",
    "init": "scratch",
    "schedule": STEP,
    "epochs": 100,
}
TRIFEATURE = catalogue.DATASETS["trifeature"].options


def cifar10(**changes):
    values = dict(
        name="cifar10",
        dataset="cifar10",
        data={},
        augment={"crop": 4, "flip": True},
        teacher={**SGD, "model": "resnet56"},
        student={**SGD, "model": "resnet20"},
        temperatures=(2.0, 9.0),
        alpha=0.8,
        t_squared=True,
        seeds=5,
    )
    return Study(**{**values, **changes})


def trifeature(*, batch_size=64, augment=None, **data):
    teacher, student = ({**SGD, "batch_size": batch_size, "model": name} for name in ("resnet20", "lenet5"))
    return cifar10(dataset="trifeature", data={**TRIFEATURE, **data}, teacher=teacher, student=student)


# ------------------------------------------------------------------------------------------------------------- reported


def test_every_number_is_there():
    artefacts = [f"table{n:02d}" for n in (1, 2, 4, 6, 8, 9, 10)] + ["fig4b", "fig5"]  # fig5 with table 3's
    counts = [len(numbers.reported(name)) for name in artefacts]
    assert sum(counts) == 687
    assert dict(zip(artefacts, counts, strict=True))["table06"] == 87


@pytest.mark.parametrize(
    ("artefact", "dataset", "model", "temperature", "metric", "mean"),
    [
        ("table01", "cifar100", "teacher", np.nan, "accuracy", 70.87),
        ("table07", "cifar100", "ds", 2, "n_significant_tc", 15),
        ("fig4b", "celeba", "ds", 10, "eod", 2.90),
    ],
)
def test_numbers_as_the_paper_prints_them(artefact, dataset, model, temperature, metric, mean):
    rows = numbers.reported(artefact)
    rows = rows[
        (rows["dataset"] == dataset)
        & (rows["model"] == model)
        & (rows["metric"] == metric)
        & ((rows["temperature"] == temperature) | (rows["temperature"].isna() & np.isnan(temperature)))
    ]
    assert rows.iloc[0]["mean"] == mean


def test_table_1_and_7_share_their_numbers():
    pd.testing.assert_frame_equal(numbers.reported("table01"), numbers.reported("table07"))


def test_a_table_cannot_be_changed_for_the_next_reader():
    mine = numbers.reported("table06")
    mine.loc[:, "mean"] = 0.0
    assert numbers.reported("table06")["mean"].max() > 90


@pytest.mark.parametrize("artefact", ["table99", "fig1", "", "table01+table07", "able06"])
def test_an_artefact_without_numbers_is_named_with_the_valid_ones(artefact):
    with pytest.raises(InvalidInput, match="table06"):
        numbers.reported(artefact)


def test_names_agree_with_the_catalogue():
    table = pd.concat([numbers.reported(f"table{n:02d}") for n in (1, 2, 3, 6, 9, 10)])
    assert set(table["dataset"]) <= {name for name, d in catalogue.DATASETS.items() if d.in_paper}
    assert set(table["teacher"]) | set(table["student"]) <= set(catalogue.MODELS)
    assert set(table["model"]) == {"teacher", "nds", "ds"}


# ------------------------------------------------------------------------------------------------------------ stand-ins


def test_the_papers_own_studies():
    assert stand_in.stand_in_reasons(cifar10()) == []
    assert stand_in.stand_in_reasons(trifeature()) == []


def test_what_the_paper_does_not_state_is_no_reason():
    study = cifar10(
        t_squared=False,
        temperatures=(1.0, 100.0),
        seeds=9,
        augment={"crop": 2, "flip": True},
        teacher={**SGD, "model": "resnet56", "momentum": 0.0, "precision": "bf16"},
    )
    assert stand_in.stand_in_reasons(study) == []


def test_every_study_of_the_quick_profile_is_a_stand_in():
    reasons = {name: stand_in.stand_in_reasons(study) for name, study in load_profile("quick").studies.items()}
    assert reasons["digits"] == ["data set digits is not in the paper"]
    assert "image size 16 instead of 224" in reasons["trifeature-shape-small"]
    assert all(reasons.values())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dataset": "digits"}, "data set digits is not in the paper"),
        ({"teacher": {**SGD, "model": "resnet32"}}, "ResNet-32 → ResNet-20 instead of ResNet-56 → ResNet-20"),
        ({"alpha": 0.6}, "alpha 0.6 instead of 0.8"),
        ({"augment": {"crop": 4}}, "no random flip"),
        ({"augment": {"flip": True}}, "no random crop"),
        ({"seeds": 3}, "3 seeds instead of 5"),
        ({"teacher": {**SGD, "model": "resnet56", "epochs": 40}}, "teacher: 40 epochs instead of 100"),
        ({"student": {**SGD, "model": "resnet20", "lr": 0.02}}, "student: lr 0.02 instead of 0.1"),
        (
            {"student": {**SGD, "model": "resnet20", "weight_decay": 5e-4}},
            "student: weight decay 0.0005 instead of 0.001",
        ),
        ({"student": {**SGD, "model": "resnet20", "batch_size": 64}}, "student: batch size 64 instead of 128"),
        (
            {"student": {**SGD, "model": "resnet20", "init": "pretrained"}},
            "student: init pretrained instead of scratch",
        ),
        (
            {"student": {**SGD, "model": "resnet20", "schedule": {"name": "cosine"}}},
            "student: schedule cosine instead of /10 at 0.3, 0.6, 0.9",
        ),
        (
            {"student": {**SGD, "model": "resnet20", "schedule": {**STEP, "gamma": 0.2}}},
            "student: schedule /5 at 0.3, 0.6, 0.9 instead of /10 at 0.3, 0.6, 0.9",
        ),
    ],
)
def test_each_difference_is_a_reason_of_its_own(change, reason):
    assert stand_in.stand_in_reasons(cifar10(**change)) == [reason]


@pytest.mark.parametrize(
    ("study", "reason"),
    [
        (trifeature(image_size=64), "image size 64 instead of 224"),
        (trifeature(split="balanced"), "split balanced instead of image"),
        (trifeature(per_combination=4), "per combination 4, the paper's numbers need 10 or more"),
        (trifeature(label="color"), "label color of trifeature is not in the paper"),
    ],
)
def test_options_of_the_data(study, reason):
    assert stand_in.stand_in_reasons(study) == [reason]


def test_the_size_of_trifeature_is_left_open():
    assert stand_in.stand_in_reasons(trifeature(per_combination=25, test_images=5000, seed=3)) == []
    assert stand_in.stand_in_reasons(trifeature(label="texture")) == []


def test_a_difference_that_both_share_is_said_once():
    short = {**SGD, "epochs": 40}
    study = cifar10(teacher={**short, "model": "resnet56"}, student={**short, "model": "resnet20"})
    assert stand_in.stand_in_reasons(study) == ["40 epochs instead of 100"]


def test_both_alphas_of_cifar100_are_the_papers():
    assert stand_in.stand_in_reasons(cifar10(dataset="cifar100", alpha=0.6)) == []
    assert stand_in.stand_in_reasons(cifar10(dataset="cifar100", alpha=0.5)) == ["alpha 0.5 instead of 0.6 or 0.8"]


# --------------------------------------------------------------------------------------------------------------- beside


def ours():
    return pd.DataFrame(
        {
            "model": ["teacher", "nds", "ds", "ds", "ds"],
            "temperature": [np.nan, np.nan, 9.0, 9.0, 11.0],
            "metric": ["accuracy", "accuracy", "accuracy", "n_significant_sc", "accuracy"],
            "mean": [0.90, 0.92, 0.93, 2.0, 0.9],
            "low": [0.80, 0.91, 0.925, np.nan, 0.8],
            "high": [0.99, 0.93, 0.935, np.nan, 1.0],
        }
    )


def reported_cifar10(model, metric, temperature=None):
    rows = numbers.reported("table06")
    rows = rows[(rows["dataset"] == "cifar10") & (rows["model"] == model) & (rows["metric"] == metric)]
    return rows[rows["temperature"] == temperature].iloc[0] if temperature else rows.iloc[0]


def test_the_papers_numbers_stand_beside_ours_in_our_unit():
    joined = numbers.beside(ours(), cifar10(), "table06")
    teacher, count = reported_cifar10("teacher", "accuracy"), reported_cifar10("ds", "n_significant_sc", 9)
    assert joined["paper_mean"][0] == pytest.approx(teacher["mean"] / 100)
    assert joined["paper_sd"][0] == pytest.approx(teacher["std"] / 100)
    assert joined["difference"][0] == pytest.approx(0.90 - teacher["mean"] / 100)
    assert joined["paper_mean"][3] == count["mean"]  # classes stay classes


def test_inside_is_about_our_interval_and_unknown_without_one():
    joined = numbers.beside(ours(), cifar10(), "table06")
    expected = [ours()["low"][i] <= joined["paper_mean"][i] <= ours()["high"][i] for i in range(3)]
    assert joined["paper_inside"].tolist()[:3] == expected
    assert expected[0]
    assert not all(expected)
    assert joined["paper_inside"].isna().tolist()[3:] == [True, True]  # no interval; no number at T = 11


def test_rows_keep_number_and_order():
    joined = numbers.beside(ours(), cifar10(), "table06")
    pd.testing.assert_frame_equal(joined[ours().columns.tolist()], ours())


def test_a_stand_in_gets_no_columns_of_the_paper():
    back = numbers.beside(ours(), replace(cifar10(), seeds=2), "table06")
    pd.testing.assert_frame_equal(back, ours())


def test_another_pair_or_artefact_lends_no_numbers():
    resnet = cifar10(dataset="cifar100")
    assert numbers.beside(ours(), resnet, "table06")["paper_mean"].isna().all()
    joined = numbers.beside(ours().assign(temperature=[np.nan, np.nan, 2, 2, 3]), resnet, "table01")
    assert joined["paper_mean"].tolist()[:4] == pytest.approx([0.7087, 0.6839, 0.6863, 5])


def test_the_validation_part_gets_no_columns_of_the_paper():
    pd.testing.assert_frame_equal(numbers.beside(ours(), cifar10(), "table06", part="validation"), ours())


def test_groups_are_matched_by_the_sensitive_feature():
    values = pd.DataFrame(
        {"model": ["nds"], "temperature": [np.nan], "metric": ["eod"], "mean": [0.1], "low": [0.0], "high": [1.0]}
    )
    rows = numbers.reported("table02").query("dataset == 'trifeature' and model == 'nds' and metric == 'eod'")
    by_color = numbers.beside(values, trifeature(), "table02", sensitive="color")
    assert by_color["paper_mean"].item() == pytest.approx(rows["mean"].item() / 100)
    assert numbers.beside(values, trifeature(), "table02", sensitive="texture")["paper_mean"].isna().all()
    assert numbers.beside(values, trifeature(), "table02")["paper_mean"].isna().all()


def test_the_text_that_a_number_is_from_stands_beside_it():
    joined = numbers.beside(ours(), cifar10(), "table06")
    assert joined["paper_source"].dropna().unique().tolist() == ["arxiv_v1"]


def test_numbers_of_a_study_without_runs():
    found = numbers.reported_for(cifar10(), "table06")
    assert set(found["unit"]) == {"share", "classes"}
    assert found.query("model == 'teacher'")["paper_mean"].item() == pytest.approx(0.9218)
    assert numbers.reported_for(cifar10(seeds=2), "table06").empty


@pytest.mark.parametrize(
    ("artefact", "study", "expected"),
    [
        ("table09", "celeba-smiling", ["young"]),
        ("fig4", "celeba-smiling", ["young", "male"]),
        ("table03", "hatexplain", ["gender", "race"]),
        ("table03", "hatexplain-scratch", []),
        ("table06", "cifar10-resnet", []),
    ],
)
def test_the_features_that_the_paper_reports(artefact, study, expected):
    assert numbers.reported_features(load_profile("paper").study(study), artefact) == expected


# --------------------------------------------------------------------------------------------- what an artefact shows


def test_figures_plot_the_numbers_of_tables():
    pd.testing.assert_frame_equal(numbers.reported("fig8"), numbers.reported("table07"))
    fig4 = numbers.reported("fig4")
    smiling = fig4.query("dataset == 'celeba' and label == 'smiling' and sensitive == 'young' and metric == 'dpd'")
    values = smiling.set_index("temperature")["mean"]
    assert values[[8, 9, 10]].tolist() == [9.05, 9.01, 8.86], "the final text's, not those of table 9 in v1"
    assert values[40] == 10.12
    assert not fig4.duplicated(["dataset", "label", "sensitive", "model", "temperature", "metric"]).any()


@pytest.mark.parametrize(
    ("artefact", "expected"),
    [
        ("table01", [2, 10]),
        ("table02", [1, 2, 10]),
        ("fig3", [2, 10]),
        ("table07", [1, 2, 10, 40]),
        ("fig8", [1, 2, 10, 40]),
        ("table06", [1, 2, 10, 40]),
    ],
)
def test_the_temperatures_that_an_artefact_shows(artefact, expected):
    p = simulated.study(temperatures=(1, 2, 10, 40), n_classes=2)
    shown = numbers.at_its_temperatures(p, artefact)
    assert shown.temperatures == expected
    assert len(shown.runs) == 10 + 5 * len(expected)


def test_a_profile_without_those_temperatures_shows_what_it_has():
    p = simulated.study(temperatures=(20, 40), n_classes=2)
    assert numbers.at_its_temperatures(p, "table01").temperatures == [20, 40]


def test_sensitive_features_are_the_papers_or_all():
    p = simulated.study(n_classes=2, temperatures=(2,))
    p = simulated.with_groups(p, **{name: np.resize(["a", "b"], len(p.labels)) for name in ("texture", "color")})
    assert numbers.sensitive_features(p, trifeature(), "table10") == ["color"]
    assert numbers.sensitive_features(p, trifeature(), "fig4") == ["color", "texture"]
    assert numbers.sensitive_features(p, cifar10(), "table10") == ["texture", "color"]


@pytest.mark.parametrize(
    ("artefact", "study", "expected"),
    [
        ("table02", "celeba-smiling", ["young"]),
        ("table02", "celeba64-smiling", ["young"]),
        ("table09", "celeba-eyeglasses", ["young", "male"]),
        ("table09", "celeba64-eyeglasses", ["male", "young"]),
        ("fig4", "celeba-smiling", ["young", "male"]),
        ("fig4", "utkface", ["male", "young"]),
    ],
)
def test_sensitive_features_of_faces(artefact, study, expected):
    p = simulated.study(n_classes=2, temperatures=(2,))
    p = simulated.with_groups(p, **{name: np.resize(["a", "b"], len(p.labels)) for name in ("male", "young")})
    assert numbers.sensitive_features(p, load_profile("paper").study(study), artefact) == expected


def test_what_cannot_be_set_beside_is_named():
    with pytest.raises(InvalidInput, match="low, high"):
        numbers.beside(ours().drop(columns=["low", "high"]), cifar10(), "table06")
    with pytest.raises(InvalidInput, match="table6"):
        numbers.beside(ours(), cifar10(), "table6")


@pytest.mark.parametrize(
    ("unit", "value"), [("percent", 170.87), ("percent", -0.5), ("classes", 2.5), ("classes", -1.0), ("ratio", np.nan)]
)
def test_a_reported_value_out_of_range_is_refused(unit, value):
    table = stand_in.all_reported()
    assert stand_in.in_range(table) is table
    place = table.index[table["unit"] == unit][3]
    with pytest.raises(InvalidInput, match=str(value)):
        stand_in.in_range(table.assign(mean=table["mean"].mask(table.index == place, value)))
