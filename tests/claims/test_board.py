"""The board of claims: who may judge, which word follows from which number, and what a reader is told."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kdlib.claims import board, on_counts, rules
from kdlib.claims.finding import Finding
from kdlib.errors import InvalidInput, NotTrained
from kdlib.measure.class_nulls import count_trend, trend_beyond_accuracy
from kdlib.paper.stand_in import stand_in_reasons
from kdlib.predictions import collect
from kdlib.studies import load_profile
from tests.simulated_claims import classes, grouped, signs, with_teacher_ids

pytestmark = pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")
PAPER, QUICK = load_profile("paper"), load_profile("quick")


def finding(**changes):
    values = dict(
        statistic="a number",
        value=1.0,
        low=0.5,
        high=1.5,
        p=0.01,
        toward=True,
        n_blocks=5,
        temperatures=(2.0, 10.0),
        text="The number is 1.",
    )
    return Finding(**{**values, **changes})


# ---------------------------------------------------------------------------------------------- from a number to a word


@pytest.mark.parametrize(
    ("changes", "p_holm", "expected"),
    [
        ({}, 0.05, "reproduced"),
        ({}, 0.051, "inconclusive"),
        ({"toward": False}, 0.01, "not reproduced"),
        ({"toward": False}, 0.2, "inconclusive"),
        ({"toward": None}, 0.01, "inconclusive"),
        ({"instead": "explained by accuracy"}, 0.01, "explained by accuracy"),
        ({"instead": "explained by accuracy"}, 0.2, "inconclusive"),
        ({"instead": "explained by accuracy", "toward": False}, 0.01, "explained by accuracy"),
        ({"flat": True}, 0.2, "not reproduced"),
        ({"flat": True}, 0.01, "reproduced"),
        ({"p": np.nan}, np.nan, "reproduced"),
        ({"p": np.nan, "toward": False}, np.nan, "not reproduced"),
        ({"p": np.nan, "toward": None}, np.nan, "inconclusive"),
    ],
)
def test_the_word_for_a_finding(changes, p_holm, expected):
    assert board.verdict(finding(**changes), p_holm) == expected


def test_holm_is_over_the_studies_of_one_claim():
    found = [finding(p=0.02), finding(p=0.03), finding(p=np.nan), "no run is there."]
    rows = board.judged(found, [1, 1, 1, 1])
    assert rows["p_holm"][:2].tolist() == [0.04, 0.04]
    assert rows["p_holm"][2:].isna().all()
    assert rows["verdict"].tolist() == ["reproduced", "reproduced", "reproduced", "not run"]
    apart = board.judged([finding(p=0.02)] * 3, [1, 2, 3])
    assert apart["p_holm"].tolist() == [0.02] * 3, "no correction spans claims"
    weaker = board.judged([finding(p=0.02)] * 3, [1, 1, 1])
    assert weaker["verdict"].tolist() == ["inconclusive"] * 3
    assert "p = 0.060" in weaker["sentence"][0]


def test_a_study_that_cannot_answer_by_its_design_takes_no_part():
    """Three temperatures in order have p = 1/3 at the least, whatever the data say."""
    rows = board.judged([finding(p=0.03), finding(p=0.04, least_p=1 / 3)], [2, 2])
    assert rows["p_holm"].tolist() == pytest.approx([0.03, np.nan], nan_ok=True)
    assert rows["verdict"].tolist() == ["reproduced", "inconclusive"]


def test_what_is_inconclusive_says_what_would_have_been_seen():
    rows = board.judged([finding(p=0.2, visible=0.013), finding(p=0.2, visible=4.2, unit="classes")], [1, 2])
    assert "would see a change of 1.30 points in 80 %" in rows["sentence"][0]
    assert "would see a change of 4.2 classes in 80 %" in rows["sentence"][1]


def test_the_sentence_ends_with_what_follows():
    other = finding(control="On another scale it is 0.", instead="explained by accuracy")
    rows = board.judged([finding(toward=False), other, "no run is there."], [1, 2, 3])
    assert rows["sentence"].tolist() == [
        "The number is 1. That is against the claim.",
        "The number is 1. On another scale it is 0. The number is as claimed, but what overall accuracy alone does is "
        "not ruled out.",
        "Not run: no run is there.",
    ]


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        (finding(), "reproduced"),
        (finding(toward=False), "inconclusive"),
        (finding(p=0.2), "inconclusive"),
        ("one block is left.", "inconclusive"),
    ],
)
def test_a_verdict_that_hangs_on_collapsed_runs_is_none(without, expected):
    hangs = finding(collapsed="ds T=4 seed 0 predicts class 1 alone", without=without)
    rows = board.judged([finding(), hangs], [3, 4])
    assert rows["verdict"].tolist() == ["reproduced", expected]
    assert "ds T=4 seed 0 predicts class 1 alone" in rows["sentence"][1] and "ds" not in rows["sentence"][0]
    assert rows["value"][1] == 1, "the number is that of all runs"


def with_one_collapsed(p, *, temperature):
    """One student of seed 0 gives class 0 for every image."""
    row = p.runs.index[(p.runs["temperature"] == temperature) & (p.runs["seed"] == 0)][0]
    predicted = p.predicted.copy()
    predicted[row] = 0
    return replace(p, predicted=predicted)


def test_one_student_at_chance_does_not_make_claim_4_reproduced():
    """Nine classes in ten change. One run at chance of five hides them: the counts fall to what chance gives."""
    p = with_teacher_ids(classes(lambda t: 0.1 * signs(10), n_classes=10, temperatures=(4,), total=400))
    worse, claim = with_one_collapsed(p, temperature=4), rules.CLAIMS[3]
    with_it = board.find(claim, [worse])
    assert board.verdict(with_it, np.nan) == "reproduced", "the trap"
    (row,) = board.judged([with_it], [4]).to_dict("records")
    assert row["verdict"] == "inconclusive" and "ds T=4 seed 0 predicts class 0 alone" in row["sentence"]
    (clean,) = board.judged([board.find(claim, [p])], [4]).to_dict("records")
    assert clean["verdict"] == "not reproduced" and "Collapsed" not in clean["sentence"]


@pytest.mark.parametrize("claim", rules.CLAIMS, ids=lambda claim: str(claim.number))
def test_without_any_student_no_rule_finds_anything(claim):
    """Teachers and NDS are trained first; and all runs of a study may collapse."""
    p = with_teacher_ids(classes(lambda t: 0.1 * signs(10), n_classes=10, temperatures=(4,), total=400))
    with pytest.raises(InvalidInput, match="'ds'"):
        board.find(claim, [p.take(np.flatnonzero(p.runs["model"] != "ds"))] * 2)


def test_a_study_that_collapsed_as_a_whole_has_no_verdict():
    p = with_teacher_ids(classes(lambda t: 0.1 * signs(10), n_classes=10, temperatures=(4,), total=400))
    predicted = np.tile(p.labels[::-1] * 0, (len(p.runs), 1))
    predicted[:, :: len(p.runs)] = np.arange(len(p.runs))[:, None] % 10  # or the runs would be one
    gone = replace(p, predicted=predicted)
    assert len(gone.collapsed) == len(p.runs)
    (row,) = board.judged([board.find(rules.CLAIMS[0], [gone])], [1]).to_dict("records")
    assert row["verdict"] == "inconclusive" and "no distilled student" in row["sentence"]


# ---------------------------------------------------------------------------------------------------- the twelve claims


def test_twelve_claims_each_with_its_primary_study_in_the_papers_profile():
    assert [claim.number for claim in rules.CLAIMS] == list(range(1, 13))
    for claim in rules.CLAIMS:
        assert set(claim.studies) <= set(PAPER.studies)
        assert not any(stand_in_reasons(PAPER.studies[name]) for name in claim.studies)
        assert claim.needs in ("one", "alpha", "data sets")


def test_the_claims_notebook_shows_the_primary_studies():
    shown = {study.name for study in PAPER.studies_for("claims")}
    assert shown == {name for claim in rules.CLAIMS for name in claim.studies}


# -------------------------------------------------------------------------------------------------------- who may judge


def simulated_of(study):
    """Predictions that stand for a study's runs: #SC rises with T, classes and groups as the study has."""
    temperatures = study.temperatures
    if study.dataset == "trifeature":
        p = grouped(lambda t: 0.25 - 0.04 * np.log2(t), temperatures=temperatures, n=1500)
    else:
        n = 40 if study.dataset == "cifar100" else 10
        effect = 0.12 if n == 40 else 0.0
        p = classes(
            lambda t: effect * signs(n) * min(t, 20 - t / 2) / 10,
            temperatures=temperatures,
            n_classes=n,
            teacher=0.03,
            fresh=study.fresh_teachers,
        )
        p = with_teacher_ids(p)
    alpha = p.runs["alpha"].where(p.runs["model"] != "ds", study.alpha)
    return replace(p, runs=p.runs.assign(alpha=alpha, study=study.name))


def fewer_permutations(*args, **options):
    return count_trend(*args, **{**options, "permutations": 399})


@pytest.fixture
def collected(monkeypatch):
    """Replaces runs on disk: a function from a study to predictions, or an error."""
    made = SimpleNamespace(of=simulated_of, read=[])

    def collected_of(study, *, runs_dir, released=None):
        made.read.append((study.name, runs_dir, released))
        return made.of(study)

    monkeypatch.setattr(collect, "collect", collected_of)
    monkeypatch.setattr(on_counts, "count_trend", fewer_permutations)
    monkeypatch.setattr(on_counts, "trend_beyond_accuracy", partial(trend_beyond_accuracy, draws=40))
    return made


def only(*names):
    """The paper's profile with these studies alone."""
    return replace(PAPER, studies={name: PAPER.studies[name] for name in names}, artefacts={})


def nothing(study):
    raise NotTrained(f"no run of study {study.name!r}")


def test_without_runs_every_claim_is_not_run_and_names_the_command(collected):
    collected.of = nothing
    rows = board.verdicts("paper", runs_dir="somewhere", released="elsewhere")
    assert rows["verdict"].tolist() == ["not run"] * 12
    assert rows["stand_in_verdict"].tolist() == ["not run"] * 12
    assert "kdlib train cifar100-resnet --profile paper" in rows["sentence"][0]
    assert set(collected.read) <= {(name, "somewhere", "elsewhere") for name in PAPER.studies}


def test_stand_ins_never_judge_the_paper(collected):
    rows = board.verdicts("quick", runs_dir="")
    assert rows["verdict"].tolist() == ["not run"] * 12
    assert rows["value"].isna().all()
    assert rows["sentence"].str.contains("only the paper's own study decides").all()
    assert (rows["stand_in_verdict"] != "not run").sum() >= 9


def test_the_same_rules_run_on_the_stand_ins(collected):
    rows = board.verdicts("quick", runs_dir="").set_index("claim")
    assert rows["stand_in"][[1, 2, 7]].tolist() == ["digits"] * 3
    assert rows["stand_in"][8] == "trifeature-shape-small"
    assert rows["stand_in"][12] == "digits, digits-alpha06"
    assert rows["stand_in_verdict"][5] == "not run"
    assert "four data sets" in rows["stand_in_sentence"][5]
    assert "no counterfactual twins" in rows["stand_in_sentence"][11]


def test_every_study_that_a_rule_can_work_with_has_its_row(collected):
    rows = board.by_study("quick", runs_dir="somewhere")
    studies = rows.groupby("claim")["studies"].agg(list)
    assert set(studies[7]) == set(QUICK.artefacts["claims"])
    assert set(studies[8]) == {"trifeature-shape-small"}, "no other has groups here"
    assert studies[5] == [""] and "four data sets" in rows.set_index("claim")["sentence"][5]
    assert studies[12] == ["digits, digits-alpha06"]
    assert rows["p"].notna().sum() > 10 and (rows["p_holm"].dropna() >= rows["p"][rows["p_holm"].notna()]).all()
    assert {read[1] for read in collected.read} == {"somewhere"}


def test_the_count_of_two_classes_is_asked_for_no_trend(collected):
    names = ["trifeature-shape-small"]
    two = replace(QUICK, studies={name: QUICK.studies[name] for name in names}, artefacts={"claims": names})
    rows = board.by_study(two, runs_dir="").set_index("claim")
    assert [rows["verdict"][number] for number in (2, 3, 6)] == ["not run"] * 3
    assert "2 are too few for a trend" in rows["sentence"][2] and rows["verdict"][1] != "not run"


def test_the_papers_own_studies_judge(collected):
    rows = board.verdicts(PAPER, runs_dir="").set_index("claim")
    assert rows["verdict"][2] == "reproduced"
    assert rows["p_holm"][2] >= rows["p"][2]
    assert (rows["n_blocks"][2], rows["n_temperatures"][2]) == (5, 9)
    assert rows["verdict"][4] == "reproduced"
    assert rows["verdict"][11] == "not run"
    assert "twins" in rows["sentence"][11]
    assert set(rows["stand_in"]) == {""}
    assert len([name for name, *_ in collected.read]) == len({name for name, *_ in collected.read}), "read twice"


def test_a_study_with_missing_runs_does_not_judge(collected):
    collected.of = lambda study: replace(simulated_of(study), absent=(f"{study.dataset} ds seed 3 T=4: not trained",))
    rows = board.verdicts(PAPER, runs_dir="")
    assert set(rows["verdict"]) == {"not run"}
    assert rows["sentence"].str.contains("runs are still missing").any()


def test_failed_runs_are_named_and_left_out(collected):
    collected.of = lambda study: replace(simulated_of(study), absent=("ds seed 3 T=4: failed, loss not finite",))
    rows = board.verdicts(only("cifar100-resnet"), runs_dir="").set_index("claim")
    assert "Left out because they failed: ds seed 3 T=4: failed, loss not finite." in rows["sentence"][2]
    assert rows["verdict"][2] == "reproduced"


def test_a_recipe_that_is_not_the_papers_does_not_judge(collected):
    profile = only("cifar100-resnet", "cifar10-resnet")
    longer = {name: replace(s, student={**s.student, "epochs": 200}) for name, s in profile.studies.items()}
    rows = board.verdicts(replace(profile, studies=longer), runs_dir="").set_index("claim")
    assert set(rows["verdict"]) == {"not run"}
    assert rows["stand_in"][4] == "cifar10-resnet", "the claim's own data set comes first"
    assert rows["stand_in_verdict"][2] == "reproduced"


def test_one_teacher_for_all_seeds_does_not_judge(collected):
    def one_teacher(study):
        p = simulated_of(study)
        first = p.runs["run_id"].where(p.runs["model"] == "teacher").dropna().iloc[0]
        return replace(p, runs=p.runs.assign(teacher_id=p.runs["teacher_id"].where(p.runs["model"] != "ds", first)))

    collected.of = one_teacher
    rows = board.verdicts(PAPER, runs_dir="")
    assert set(rows["verdict"]) == {"not run"}
    assert rows["sentence"].str.contains("pseudo-replication").all()


def test_the_board_is_a_plain_table(collected):
    rows = board.verdicts(QUICK, runs_dir="")
    columns = list(board.COLUMNS)
    assert rows.columns.tolist() == [
        "claim",
        "says",
        "study",
        "tested",
        *columns,
        "stand_in",
        *(f"stand_in_{name}" for name in columns),
    ]
    assert set(rows["verdict"]) | set(rows["stand_in_verdict"]) <= set(board.VERDICTS)
    assert rows["sentence"].str.endswith((".", "paper")).all()
    again = board.verdicts(QUICK, runs_dir="")
    pd.testing.assert_frame_equal(rows, again)


def test_an_unknown_profile_is_named():
    with pytest.raises(InvalidInput, match="quikc"):
        board.verdicts("quikc", runs_dir="")
