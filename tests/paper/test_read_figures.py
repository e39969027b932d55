"""Figures 1 and 2 as they were read off: what is refused, where they stand beside ours, and what they say."""

from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import test_proportions_2indep as two_proportions

from kdlib import files, notebook
from kdlib.errors import InvalidInput, StoreError
from kdlib.measure.class_bias import chance_rate, significant_classes
from kdlib.paper import numbers
from kdlib.paper import read_figures as r
from kdlib.show import class_figures
from tests import simulated
from tests.paper.test_numbers import cifar10

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.fixture(scope="module")
def dots():
    return r.class_accuracies()


@pytest.fixture(scope="module")
def against():
    return r.against_table_6().set_index(["dataset", "temperature"])


# -------------------------------------------------------------------------------------------------------------- reading


def test_every_class_has_a_dot_at_every_temperature(dots):
    assert dots.groupby(["dataset", "temperature"]).size().tolist() == [10] * 18
    assert dots["read"].value_counts().to_dict() == {"dot": 110, "partly hidden": 68, "hidden": 2}
    cat = dots.query("dataset == 'cifar10' and class_index == 3").set_index("temperature")["accuracy_percent"]
    assert (cat[3], cat[4], cat[10]) == (77.02, 77.02, 79.46)


def test_a_dot_lies_where_it_can_be_read_to(dots):
    first = dots.iloc[0]
    assert (first["low"], first["high"]) == pytest.approx((91.297, 91.303))
    ends = dots[dots["read"] == "hidden"].set_index("dataset")[["low", "high"]]
    assert ends.loc["cifar10"].tolist() == [86.0, 87.0] and ends.loc["svhn"].tolist() == [92.1, 93.0]
    assert (dots["high"] - dots["low"])[dots["read"] == "partly hidden"].to_numpy() == pytest.approx(0.12)


def test_seen_dots_are_means_of_five_whole_counts(dots):
    """Five runs of 1,000 images: the mean of a class is a multiple of 0.02 points."""
    seen = dots.query("dataset == 'cifar10' and read == 'dot'")["accuracy_percent"] * 50
    assert (seen - seen.round()).abs().max() < 1e-9


def test_matrices_have_every_pair_of_different_classes():
    counts = r.disagreements()
    assert counts.groupby(["dataset", "student"]).size().tolist() == [90] * 4
    assert counts["temperature"].dropna().groupby(counts["dataset"]).unique().map(list).to_dict() == {
        "cifar10": [9],
        "svhn": [7],
    }
    dog_for_cat = counts.query("dataset == 'cifar10' and teacher_class == 3 and student_class == 5")
    assert dog_for_cat.set_index("student")["count"].to_dict() == {"nds": 64, "ds": 61}


def test_images_of_each_class_are_those_of_the_test_set():
    assert (sum(r.IMAGES["cifar10"]), sum(r.IMAGES["svhn"])) == (10_000, 26_032)
    assert all(len(r.IMAGES[name]) == len(r.CLASS_NAMES[name]) == 10 for name in ("cifar10", "svhn"))


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """A file with one other value, and its sum beside it: a function from (constant, row, column, value)."""

    def write(constant, row, column, value):
        path = tmp_path / getattr(r, constant).name
        table = pd.read_csv(getattr(r, constant), dtype=object)
        table.loc[row, column] = value
        table.to_csv(path, index=False)
        files.write_sum(path)
        monkeypatch.setattr(r, constant, path)
        return path

    return write


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        (3, "accuracy_percent", "192.06"),
        (3, "accuracy_percent", "-0.5"),
        (3, "accuracy_percent", "nan"),  # none of the two that are hidden
        (49, "accuracy_percent", "86.4"),  # hidden, so nobody can have read it
        (49, "read", "dot"),
        (3, "read", "hidden"),
        (3, "read", "guessed"),
        (3, "class_index", "10"),
        (12, "class_index", "0"),  # there already
        (3, "significant", "2"),
        (3, "dataset", "cifar100"),
    ],
)
def test_a_dot_that_cannot_be_is_refused(changed, row, column, value):
    changed("FIGURE_1", row, column, value)
    with pytest.raises(InvalidInput, match=rf"reported_fig1\.csv.*'{column}': '?{value}"):
        r.class_accuracies()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("count", "-1"),
        ("count", "9.5"),
        ("count", "nan"),
        ("teacher_class", "10"),
        ("student_class", "0"),  # the teacher's own class
        ("student_class", "2"),  # there already
        ("student", "teacher"),
        ("dataset", "digits"),
    ],
)
def test_a_count_that_cannot_be_is_refused(changed, column, value):
    changed("FIGURE_2", 0, column, value)
    with pytest.raises(InvalidInput, match=rf"reported_fig2\.csv.*'{column}': '?{value}"):
        r.disagreements()


@pytest.mark.parametrize(("constant", "read"), [("FIGURE_1", r.class_accuracies), ("FIGURE_2", r.disagreements)])
def test_other_numbers_than_those_of_the_list_are_refused(changed, constant, read):
    path = changed(constant, 0, "temperature", "3")
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(StoreError, match=path.name):
        read()


# ------------------------------------------------------------------------------------------------------- beside our own


def predicted(*, temperatures, total=20, names=None):
    """Ten classes; a study whose runs get about 18 of 20 images of each class right."""
    rng = np.random.default_rng(0)
    arms = [("teacher", None), ("nds", None), *(("ds", float(t)) for t in temperatures)]
    return simulated.from_counts_of_arms(
        {arm: rng.binomial(total, 0.9, (5, 10)) for arm in arms}, total=total, class_names=names
    )


@pytest.fixture(scope="module")
def own():
    return predicted(temperatures=(2, 6, 9, 40), names=r.CLASS_NAMES["cifar10"])


@pytest.fixture(scope="module")
def changes(own):
    return pd.concat(
        significant_classes(own.arm(model="nds"), own.arm(model="ds", temperature=t)).assign(temperature=t)
        for t in own.temperatures
    )


def test_the_papers_dots_stand_beside_those_of_its_own_study(changes):
    both = r.beside_classes(changes, cifar10())
    pd.testing.assert_frame_equal(both[changes.columns], changes.reset_index(drop=True))
    found = both.set_index(["class_name", "temperature"])
    assert found.loc[("airplane", 2), ["paper_accuracy", "paper_significant"]].tolist() == pytest.approx([0.913, 1])
    assert found.loc[("truck", 6), ["paper_accuracy", "paper_significant"]].tolist() == pytest.approx([0.9456, 0])
    assert np.isnan(found.loc[("dog", 6), "paper_accuracy"]), "hidden"
    assert found.loc[found.index.get_level_values("temperature") == 40, "paper_accuracy"].isna().all()


def test_the_papers_matrices_stand_beside_those_of_its_own_study(own):
    ours = class_figures.disagreement_counts(own, near=9)
    both = r.beside_matrices(ours, cifar10())
    assert both["panel"].unique().tolist() == ["NDS", "DS, T = 9", "NDS, paper", "DS, T = 9, paper"]
    pd.testing.assert_frame_equal(both.iloc[: len(ours)], ours)
    paper = class_figures.as_matrix(both[both["panel"] == "DS, T = 9, paper"])
    assert (paper.loc["dog", "cat"], paper.loc["cat", "dog"]) == (81, 61), "rows: the teacher"
    assert np.isnan(np.diag(paper)).all() and class_figures.off_diagonal(paper).sum() == 819


@pytest.mark.parametrize("study", [replace(cifar10(), seeds=2), cifar10(dataset="digits"), cifar10(dataset="cifar100")])
def test_nothing_of_the_paper_stands_beside_another_study(own, changes, study):
    pd.testing.assert_frame_equal(r.beside_classes(changes, study), changes)
    ours = class_figures.disagreement_counts(own, near=9)
    pd.testing.assert_frame_equal(r.beside_matrices(ours, study), ours)


def run_cells(name, monkeypatch, *, profile):
    """What a notebook's cells but the last leave behind, its studies' predictions drawn; {name: value}."""

    def drawn(studies, **options):
        names = r.CLASS_NAMES.get(studies[0].dataset)
        return {s.name: {"test": predicted(temperatures=s.temperatures, names=names)} for s in studies}

    monkeypatch.setattr(notebook.collect, "collect_parts", drawn)
    left = {}
    for cell in nbformat.read(NOTEBOOKS / name, as_version=4).cells:
        if cell.cell_type == "code" and cell.id != "save":
            exec(cell.source, left)
            left |= {"profile": profile, "device": "none"}
    return left


@pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")
def test_notebooks_show_the_papers_figures_for_its_own_studies_alone(monkeypatch):
    own = run_cells("fig1_class_accuracy.ipynb", monkeypatch, profile="paper")
    assert all(frame["paper_accuracy"].notna().sum() == 89 for frame in own["changes"].values())
    assert {name: frame["paper_significant"].sum() for name, frame in own["changes"].items()} == {
        "cifar10-resnet": 6,
        "svhn-resnet": 4,
    }
    own = run_cells("fig2_disagreement.ipynb", monkeypatch, profile="paper")
    assert [frame["panel"].unique().tolist()[1:] for frame in own["counts"].values()] == [
        ["DS, T = 9", "NDS, paper", "DS, T = 9, paper"],
        ["DS, T = 7", "NDS, paper", "DS, T = 7, paper"],
    ]
    for name, data in (("fig1_class_accuracy.ipynb", "changes"), ("fig2_disagreement.ipynb", "counts")):
        (shown,) = run_cells(name, monkeypatch, profile="quick")[data].values()
        assert "paper_accuracy" not in shown and not shown.get("panel", pd.Series("")).str.contains("paper").any()


# ------------------------------------------------------------------------------------------------- against each other


def test_falls_as_the_matrices_print_them():
    found = r.falls().set_index(["dataset", "classes"])
    assert found[["nds", "ds", "fall"]].to_numpy().tolist() == [
        [867, 819, 48],
        [161, 142, 19],
        [1126, 1040, 86],
        [94, 83, 11],
    ]
    assert found.index.tolist() == [
        ("cifar10", "all"),
        ("cifar10", "cat and dog"),
        ("svhn", "all"),
        ("svhn", "1 and 7"),
    ]


@pytest.mark.parametrize("row", range(4))
def test_what_could_be_seen_of_a_fall(row):
    """Against statsmodels' two proportions, unpooled, and scipy's Welch test from means and sd."""
    found = r.falls().iloc[row]
    images = sum(r.IMAGES[found["dataset"]])
    expected = two_proportions(found["nds"], images, found["ds"], images, method="wald").pvalue
    assert found["p"] == pytest.approx(expected, rel=1e-9)
    sd = found["seed_sd"]
    assert stats.ttest_ind_from_stats(found["fall"], sd, 5, 0, sd, 5, equal_var=False).pvalue == pytest.approx(0.05)


def test_means_over_classes_are_weighted_by_their_images(dots, against):
    at = dots.query("dataset == 'svhn' and temperature == 2").set_index("class_index")
    mean = sum(at["accuracy_percent"] * np.array(r.IMAGES["svhn"])) / 26_032
    found = against.loc[("svhn", 2)]
    assert (found["low"] + found["high"]) / 2 == pytest.approx(mean) and found["high"] - found["low"] < 0.1
    # CIFAR-10 at T = 6 without dog: 817.76 percent in nine classes, dog between 86 and 87
    found = against.loc[("cifar10", 6)]
    assert found["low"] < 90.12 < found["high"] and found["high"] - found["low"] == pytest.approx(0.1624)


def test_differences_between_figure_1_and_table_6(against):
    found = against["difference"].round(2)
    assert found["cifar10"].tolist() == [-1.70, -0.99, -1.81, -1.00, -1.14, -0.57, -0.82, -1.01, -0.87]
    assert found["svhn"].tolist() == [-0.59, 0.0, -0.32, -0.40, -0.69, -0.70, -0.59, -0.55, -0.50]
    table = numbers.reported("table06").query("metric == 'accuracy' and dataset == 'svhn'").set_index("model")["mean"]
    assert against.loc["svhn", "nds"].unique().tolist() == [table["nds"]]


def test_crosses_by_temperature(against):
    crosses = against[against["n_crosses"] > 0].groupby("dataset")["crosses"].agg(list)
    assert crosses["cifar10"] == ["airplane, truck", "cat", "bird", "airplane", "truck"]
    assert crosses["svhn"] == ["3", "9", "8", "2"]
    other = against[against["n_crosses"] != against["n_significant_sc"]]
    assert other.index.tolist() == [("cifar10", 2)]
    assert other[["n_crosses", "n_significant_sc"]].to_numpy().tolist() == [[2, 1]]


def test_temperatures_of_the_lowest_dots(dots):
    found = r.lowest_at()
    assert found[2].to_dict() == {"cifar10": 8, "svhn": 5} and found.sum(axis=1).tolist() == [10, 10]
    wide = dots.pivot(index=["dataset", "class_index"], columns="temperature", values="accuracy_percent")
    assert (wide.idxmin(axis=1) == 2).groupby("dataset").sum().tolist() == [8, 5]
    hidden = dots[dots["read"] == "hidden"].set_index(["dataset", "class_index"])["low"]
    assert (hidden > wide.min(axis=1)[hidden.index]).all(), "what is left out is not the lowest"


# ---------------------------------------------------------------------------------------------------------- the prose


@pytest.fixture(scope="module")
def prose():
    cells = nbformat.read(NOTEBOOKS / "beyond_null_bands.ipynb", as_version=4).cells
    return " ".join(" ".join(cell.source for cell in cells if cell.cell_type == "markdown").split())


def test_the_page_on_falls_says_what_is_computed(prose):
    every = r.falls().query("classes == 'all'").set_index("dataset")
    p, sd = every["p"], every["seed_sd"]
    assert f"$p$ = {p['cifar10']:.2f} on CIFAR-10 and {p['svhn']:.2f} on SVHN" in prose
    assert f"far below {sd['cifar10']:.0f} and {sd['svhn']:.0f}" in prose
    table = numbers.reported("table06").query("metric == 'accuracy'").set_index(["dataset", "model", "temperature"])
    spread = {name: sum(r.IMAGES[name]) * table.loc[name]["std"] / 100 for name in every.index}
    both = [spread["cifar10"][at] for at in (("ds", 9), ("nds", np.nan))]
    assert f"an sd of {min(both):.0f} to {max(both):.0f} images on CIFAR-10" in prose
    assert {round(spread["svhn"][at]) for at in (("ds", 7), ("nds", np.nan))} == {21} and "and of 21 on SVHN" in prose


def test_the_page_on_pairs_says_what_is_printed(prose):
    leading = r.falls().query("classes != 'all'").set_index("dataset")["nds"]
    counts = r.disagreements().query("student == 'nds'")
    totals = counts.groupby("dataset")["count"].sum()
    assert f"cat and dog make {leading['cifar10'] / totals['cifar10']:.0%}".replace("%", " %") in prose
    assert f"1 and 7 make {leading['svhn'] / totals['svhn']:.0%} on SVHN".replace("%", " %") in prose
    cells = counts.assign(pair=[frozenset(pair) for pair in counts[["teacher_class", "student_class"]].to_numpy()])
    pairs = cells.groupby(["dataset", "pair"])["count"].sum().sort_values()
    assert leading["cifar10"] / pairs["cifar10"].iloc[-2] > 3, "more than three times the next pair"
    assert pairs["svhn"].index[-2] == {1, 4} and pairs["svhn"].iloc[-2] == 73
    assert f"1 and 4 make {73 / totals['svhn']:.0%}".replace("%", " %") in prose
    digits = counts.query("dataset == 'svhn'")
    parts = digits.groupby("teacher_class")["count"].sum() + digits.groupby("student_class")["count"].sum()
    order = parts.sort_values(ascending=False).index.tolist()
    assert order[0] == 3 and order.index(7) == 6, "3 leads and 7 stands seventh"


def test_the_page_on_likeness_says_how_many_images_more_are_right(prose, against):
    for dataset, t, words in (("cifar10", 9, "{:.0f} more"), ("svhn", 7, "{:.0f} more")):
        row, images = against.loc[(dataset, t)], sum(r.IMAGES[dataset]) / 100
        assert words.format(images * (row["accuracy"] - row["nds"])) in prose
        by_figure = images * ((row["low"] + row["high"]) / 2 - row["nds"])
        assert (f"{-by_figure:.0f} fewer" if by_figure < 0 else f"figure 1 says {by_figure:.0f} more") in prose


def test_the_page_on_crosses_says_what_chance_gives(prose, dots, against):
    expected = {}
    for dataset, crosses in against["n_crosses"].groupby("dataset"):
        expected[dataset] = 10 * (1 - np.prod(1 - crosses / 10))
        assert 90 * chance_rate(10, 5, test_images=round(np.mean(r.IMAGES[dataset]))) == pytest.approx(4, abs=0.1)
    assert f"on {expected['cifar10']:.1f} and {expected['svhn']:.1f} classes on average" in prose
    crossed = dots[dots["significant"] == 1].groupby("dataset")["class_index"]
    assert crossed.size().to_dict() == {"cifar10": 6, "svhn": 4} and crossed.nunique().tolist() == [4, 4]
    assert 5 not in set(crossed.get_group("cifar10")), "dog"
    lowest = dots.query("dataset == 'cifar10'").pivot(
        index="class_index", columns="temperature", values=["low", "high"]
    )
    sure = (lowest["high"][2] < lowest["low"].drop(columns=2).min(axis=1)).sum()
    assert sure == 7, "one of the 8 by no more than can be read"


def test_the_page_on_accuracies_says_where_they_differ(prose, against):
    span = against["difference"].groupby("dataset").agg(["min", "max"])
    low, high = -span.loc["cifar10", "max"], -span.loc["cifar10", "min"]
    assert f"{low:.1f} to {high:.1f} points below the table at every $T$" in prose
    svhn = against.loc["svhn"]
    agree = svhn["accuracy"].between(svhn["low"], svhn["high"])
    assert agree[agree].index.tolist() == [3]
    below = -svhn["difference"].drop(3)
    assert f"the figure lies {below.min():.1f} to {below.max():.1f} points below" in prose
    assert (against["accuracy"] > against["nds"]).all()
    above = against[against["low"] > against["nds"]]
    assert above.index.tolist() == [("cifar10", 8), *(("svhn", t) for t in (3, 4, 5, 7, 10))]
    assert (against["high"] < against["nds"]).sum() == 18 - len(above), "nothing is between"
    more = ((above["low"] + above["high"]) / 2 - above["nds"]).groupby("dataset").max().round(1)
    assert more.to_dict() == {"cifar10": 0.1, "svhn": 0.2}
    spread = numbers.reported("table06").query("metric == 'accuracy' and dataset == 'cifar10' and model == 'ds'")["std"]
    assert f"sd over seeds are {spread.min():.2f} to {spread.max():.2f}" in prose
