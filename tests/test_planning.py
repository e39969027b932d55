"""What `kdlib plan` says: which claims a design can decide, the power, and the cost."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy import stats

from kdlib import cli, planning, store
from kdlib.catalogue import DATASETS
from kdlib.claims import on_counts, power
from kdlib.measure import stats as kdlib_stats
from kdlib.measure.class_nulls import count_trend
from kdlib.paper.read_figures import falls
from kdlib.paper.stand_in import all_reported
from kdlib.studies import load_profile
from tests.conftest import TINY, make_project
from tests.simulated import from_counts_of_arms

ROOT = Path(__file__).resolve().parents[1]
NINE, FIVE = tuple(range(2, 11)), (2, 3, 5, 7, 10)


@pytest.fixture(scope="module")
def digits():
    return load_profile("quick").studies["digits"]


@pytest.fixture(scope="module")
def paper():
    return load_profile("paper").studies


def simulated_study(first, students, temperatures):
    """Predictions of one study of `power._studies`."""
    arms = {("nds", None): first[0]} | {("ds", t): arm[0] for t, arm in zip(temperatures, students, strict=True)}
    return from_counts_of_arms(arms, total=100)


# --- what can be decided ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "change", "names"),
    [
        (1, {"temperatures": (1.0, 40.0)}, "from 2 to 10"),
        (2, {}, "p = 0.33"),  # 2 / 3! for three temperatures
        (2, {"temperatures": (2.0, 4.0, 6.0, 10.0)}, "p = 0.083"),
        (3, {"seeds": 1}, "one seed"),
        (4, {"dataset": "cifar100"}, "100 classes"),
        (5, {}, "profile has 0"),
        (6, {"temperatures": (10.0, 20.0)}, "no temperature of 40"),
        (6, {"seeds": 2}, "three"),
        (7, {"temperatures": ()}, "no student"),
        (8, {}, "digits has no sensitive feature"),
        (9, {"dataset": "utkface", "temperatures": (2.0, 5.0)}, "no temperature of 10"),
        (10, {"dataset": "utkface", "temperatures": (10.0,)}, "no temperature of 40"),
        (11, {"dataset": "utkface"}, "utkface has no counterfactual twins"),
        (11, {"dataset": "hatexplain", "temperatures": (10.0, 20.0)}, "from 1 to 10"),
        (12, {"temperatures": FIVE}, "alpha"),
        (2, {"dataset": "own"}, "classes are not known"),
        (2, {"dataset": "utkface"}, "2 classes"),
    ],
)
def test_what_no_data_can_decide_is_named(digits, claim, change, names):
    assert names in planning.obstacle(claim, replace(digits, **change))


def test_what_the_design_allows_has_no_obstacle(paper):
    every = [*paper.values()]
    able = {name: [c for c in range(1, 13) if not planning.obstacle(c, paper[name], every)] for name in paper}
    assert able["cifar100-resnet"] == [1, 2, 3, 5, 6, 7, 12]
    assert able["cifar10-resnet"] == [1, 2, 3, 4, 5, 6, 7]
    assert able["celeba-smiling"] == [1, 7, 8, 9, 10]
    assert able["trifeature-shape"] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert able["pilot-cifar100"] == []


def test_sizes_and_twins_are_those_of_released_predictions():
    for study in load_profile("real-small").studies.values():
        path = ROOT / "figures/real-small/predictions" / f"{study.name}.parquet"
        if path.is_file():
            table = pq.read_table(path, columns=["part"])
            classes, images = planning.sizes(study)
            schema = pq.read_schema(path)
            assert classes == len(json.loads(schema.metadata[b"kdlib"])["class_names"])
            assert images in (0, sum(part == "test" for part in table["part"].to_pylist()) / classes)
            assert DATASETS[study.dataset].twins == any("log twin:" in name for name in schema.names)


def test_sizes_of_what_is_drawn(digits):
    from kdlib.data import trifeature

    study = load_profile("quick").studies["trifeature-shape-small"]
    options = {name: study.data[name] for name in ("label", "split", "per_combination", "test_images", "seed")}
    ids = trifeature.select("test", **options)
    labels = trifeature.labels(ids, "shape")
    assert planning.sizes(study) == (len(set(labels.tolist())), len(ids) // 10) == (10, 100)
    assert planning.sizes(replace(study, data=study.data | {"label": "shape x color"})) == (100, 10)
    assert planning.sizes(digits) == (10, 149)  # 1,497 of 1,797 images


# --- power of counts --------------------------------------------------------------------------------------------------


def test_the_papers_counts():
    assert power.paper_counts("cifar100", "sc", 0.8, (2, 10, 40)) == ("cifar100", (0.05, 0.22, 0.09))
    assert power.paper_counts("digits", "tc", 0.8, (10, 40)) == ("cifar100", (0.11, 0.16))
    assert power.paper_counts("tiny_imagenet", "sc", 0.8, (2, 10))[0] == "tiny_imagenet"
    assert power.paper_counts("tiny_imagenet", "sc", 0.8, (10, 40))[0] == "cifar100"  # it has no count at 40


@pytest.mark.parametrize("seeds", [5, 10, pytest.param(20, marks=pytest.mark.slow)])
def test_the_papers_reversal_is_hardly_ever_seen_however_many_seeds(seeds):
    assert power.reversal_power(100, 100, seeds, (0.22, 0.09), (0.11, 0.16)) < 0.12


def test_the_papers_rise_is_seen_over_nine_temperatures_and_often_missed_over_five():
    nine, five = (
        power.trend_power(100, 100, 5, power.paper_counts("cifar100", "sc", 0.8, ts)[1]) for ts in (NINE, FIVE)
    )
    assert nine == pytest.approx(0.91, abs=0.06)
    assert five == pytest.approx(0.42, abs=0.12)


def test_without_a_rise_nothing_is_seen():
    flat = (0.1,) * 8 + (0.1001,)
    assert power.trend_power(100, 100, 5, flat) < 0.06  # half of 5 % is expected: one direction
    assert power.reversal_power(100, 100, 5, (0.1, 0.1), (0.1, 0.1)) < 0.02


def test_effects_are_the_counts_that_five_seeds_show():
    model, wanted = power._model(100, 100, 5), [0.1, 0.22, 0.4]
    first, students = power._studies(model, np.interp(wanted, *power._calibration(100, 100)), seed=3)
    shown = [power.counts_of_studies(first, arm, model.totals, "ratio").mean() / 100 for arm in students]
    assert shown == pytest.approx(wanted, abs=0.015)


def test_a_simulated_study_is_judged_by_the_rules_own_numbers():
    model = power._model(20, 100, 5)
    ten, forty = effects = [1.5, 0.2]
    found = power._contrasts(model, effects)[0]
    assert found == pytest.approx(
        on_counts.count_contrast(
            simulated_study(*power._studies(model, effects), (10, 40)), against="nds", low=10, high=40
        )
    )
    effects = np.linspace(forty, ten, 5)
    study = simulated_study(*power._studies(model, effects), FIVE)
    assert power._taus(model, effects)[0] == pytest.approx(count_trend(study, permutations=1).observed)


@pytest.mark.slow
def test_a_trend_is_seen_as_often_as_the_rule_sees_it():
    model, path = power._model(100, 100, 5), power.paper_counts("cifar100", "sc", 0.8, FIVE)[1]
    first, students = power._studies(model, np.interp(path, *power._calibration(100, 100)), seed=7)
    seen = []
    for i in range(100):
        p = simulated_study(first[i : i + 1], [arm[i : i + 1] for arm in students], FIVE)
        trend = count_trend(p, permutations=199)
        seen.append(trend.p <= 0.05 and trend.observed > 0)
    assert power.trend_power(100, 100, 5, path) == pytest.approx(np.mean(seen), abs=0.15)  # three standard errors


def test_ten_classes_and_one_temperature_tell_less_than_nine():
    assert power.few_power(1000, 5, 9) > 0.85 > power.few_power(1000, 2, 1)


# --- power of t-tests -------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose only study had the values 1 .. 5 % in claim 9, and two arms of them in claim 7."""
    make_project(tmp_path)
    (tmp_path / "params/tiny.yaml").write_text(TINY, encoding="utf-8")
    values = np.arange(1, 6) / 100
    one, two = kdlib_stats.t_test(values), kdlib_stats.tested(0, np.sqrt(2 / 5) * values.std(ddof=1), 8)
    rows = [(9, "tiny", one.low, one.high, 5), (7, "tiny", two.low, two.high, 5), (2, "tiny", np.nan, np.nan, 5)]
    path = tmp_path / "figures/tiny/claims_by_study.csv"
    path.parent.mkdir(parents=True)
    pd.DataFrame(rows, columns=["claim", "studies", "low", "high", "n_blocks"]).to_csv(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_spread_over_seeds_is_read_off_the_intervals_of_finished_studies(project):
    assert power.seed_sd(9, "digits", arms=1) == (pytest.approx(0.0158, abs=1e-4), "tiny")  # sd of 1 .. 5 is 1.58
    assert power.seed_sd(7, "digits", arms=2) == (pytest.approx(0.0158, abs=1e-4), "tiny")
    assert power.seed_sd(9, "utkface", arms=1)[1] == "tiny, other data"
    assert np.isnan(power.seed_sd(8, "digits", arms=1)[0])


def test_power_is_that_of_the_noncentral_t(project):
    study = replace(load_profile(ROOT / "params/real-small.yaml").studies["utkface"], seeds=5)
    row = planning.plan(study).set_index("claim").loc[9]
    sd, critical = np.std(np.arange(1, 6), ddof=1) / 100, stats.t.ppf(0.975, 4)
    away = 0.005 / sd * np.sqrt(5)
    assert row["power"] == pytest.approx(stats.nct.sf(critical, 4, away) + stats.nct.cdf(-critical, 4, away))
    assert row["visible"] == pytest.approx(kdlib_stats.tested(0, sd / np.sqrt(5), 4).visible, rel=1e-4)
    assert "0.5 points" in row["told"] and "tiny, other data" in row["told"]


def test_without_any_finished_study_power_is_not_made_up(project):
    (project / "figures/tiny/claims_by_study.csv").unlink()
    rows = planning.plan(load_profile(ROOT / "params/real-small.yaml").studies["utkface"]).set_index("claim")
    assert rows["decidable"][9] and rows[["power", "power_doubled", "visible"]].loc[9].isna().all()
    assert "1.7 sd" in rows["told"][9]  # n = 5: t and its 80 % by a table of the noncentral t


def test_sizes_of_changes_are_the_papers():
    rows = all_reported()
    sizes = {claim: 100 * size for claim, (_, size, _) in planning.CHANGES.items()}

    def means(metric, dataset, label, **only):
        keep = (
            (rows["metric"] == metric)
            & (rows["dataset"] == dataset)
            & (rows["label"] == label)
            & (rows["alpha"] == 0.8)
        )
        for column, value in only.items():
            keep &= rows[column] == value
        return (
            rows[keep]
            .drop_duplicates(["model", "temperature"])
            .set_index(["model", "temperature"])["mean"]
            .sort_index()
        )

    accuracy = means("accuracy", "cifar100", "class", teacher="resnet56")
    assert (accuracy["ds"].loc[2:10].mean() - accuracy["nds"]).item() == pytest.approx(sizes[1], abs=0.05)
    disagree = falls().set_index(["dataset", "classes"])["fall"]
    assert disagree["cifar10", "all"] / 100 == pytest.approx(sizes[7], abs=0.05)
    eod, dpd = (means(metric, "trifeature", "shape", sensitive="color") for metric in ("eod", "dpd"))
    to_ten = eod["ds"].loc[1:10]
    assert -np.polyfit(np.log2(to_ten.index), to_ten, 1)[0] == pytest.approx(sizes[8], abs=0.05)
    assert (dpd["teacher"] - dpd["ds"].loc[10]).item() == pytest.approx(sizes[9], abs=0.05)
    assert eod["ds"].loc[40] - eod["ds"].loc[10] == pytest.approx(sizes[10], abs=0.05)


# --- cost -------------------------------------------------------------------------------------------------------------


def finish(folder, run, seconds, device="cpu"):
    arrays = {name: np.zeros(1) for name in store.ARRAYS}
    store.save(folder, run, arrays=arrays, weights=b"", provenance={"seconds": seconds, "device": device})


@pytest.mark.parametrize(("device", "unit"), [("cpu", "core-hours"), ("cuda", "GPU-hours")])
def test_the_cost_is_that_of_finished_runs(study, runs, tmp_path, device, unit):
    for key, seconds in {("teacher", 0, None): 3600, ("nds", 0, None): 1800, ("ds", 0, 1.0): 7200}.items():
        finish(tmp_path, runs[key], seconds, device)
    told = planning.cost(study, runs_dir=tmp_path)
    # 2 teachers, 2 NDS and 4 DS: 2 + 1 + 8 hours, of which 1 + 0.5 + 2 are spent
    assert f"11 {unit} for 8 runs, 7.5 still to spend" in told


def test_what_was_never_measured_is_not_guessed(study, runs, tmp_path):
    for role in ("teacher", "nds"):
        finish(tmp_path, runs[role, 0, None], 60)
    told = planning.cost(study, runs_dir=tmp_path)
    assert (
        "lenet5 as ds" in told
        and "as nds" not in told
        and f"train tiny --profile {study.handle} --runs-dir {tmp_path} --budget 10m" in told
    )


def test_released_runs_are_scaled_by_epochs(tmp_path):
    """Teachers trained twice as long as the released ones (15 epochs), students half as long (20)."""
    released = load_profile("real-small").studies["cifar10"]
    study = replace(released, teacher=released.teacher | {"epochs": 30}, student=released.student | {"epochs": 10})
    entries = json.loads((ROOT / "figures/real-small/predictions/cifar10.json").read_bytes())["runs"]
    teachers = sum(entry["seconds"] for entry in entries if " teacher " in entry["run"])
    students = sum(entry["seconds"] for entry in entries if " teacher " not in entry["run"])
    told = planning.cost(study, runs_dir=tmp_path)
    assert f"about {(2 * teachers + students / 2) / 3600:.2g} core-hours for 35 runs" in told
    assert "scaled by epochs" in told
    of_its_own = planning.cost(released, runs_dir=tmp_path)
    assert f"about {(teachers + students) / 3600:.2g} core-hours" in of_its_own and "runs of its own" in of_its_own


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_says_a_line_a_claim(tiny_yaml, tmp_path, capsys):
    assert cli.main(["plan", str(tiny_yaml), "--runs-dir", str(tmp_path / "runs")]) == 0
    of_file = capsys.readouterr().out
    assert cli.main(["plan", "tiny", "--profile", str(tiny_yaml), "--runs-dir", str(tmp_path / "runs")]) == 0
    assert capsys.readouterr().out == of_file
    lines = of_file.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("  claim")] == [
        f"  claim {c}" for c in range(1, 13)
    ]
    assert "10 classes with about 169 test images each, seeds: 2, T = 1, 4" in of_file and "  cost: unknown" in of_file
    assert "do not predict" in of_file


def test_an_unknown_study_is_status_2(tiny_yaml, capsys):
    assert cli.main(["plan", "tinny", "--profile", str(tiny_yaml)]) == 2
    assert "tinny" in capsys.readouterr().err
