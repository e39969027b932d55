"""Cells from numbers that a person can check, escaped for HTML and LaTeX; the paper's columns only where given."""

import json

import numpy as np
import pandas as pd
import pytest

from kdlib.errors import InvalidInput
from kdlib.measure import class_bias, fairness
from kdlib.show import save, tables
from kdlib.studies import load_profile
from tests import simulated

ACCURACY = pd.DataFrame(
    {
        "model": ["teacher", "nds", "ds"],
        "temperature": [np.nan, np.nan, 4.0],
        "n_seeds": [5, 5, 5],
        "mean": [0.95, 0.9, 0.9125],
        "sd": [0.01, 0.02, 0.005],
        "low": [0.94, 0.88, 0.906],
        "high": [0.96, 0.92, 0.919],
    }
).assign(metric="accuracy", unit="share")
COUNTS = pd.DataFrame(
    {
        "model": "ds",
        "temperature": 4.0,
        "n_seeds": 5,
        "metric": ["n_significant_sc", "n_significant_tc", "null_band"],
        "unit": "classes",
        "mean": [3, np.nan, np.nan],
        "low": [np.nan, np.nan, 0],
        "high": [np.nan, np.nan, 2],
    }
)


@pytest.fixture
def rows():
    return pd.concat([ACCURACY, COUNTS], ignore_index=True)


@pytest.fixture(scope="module")
def found():
    p = simulated.study(n_classes=3, total=30, temperatures=(1, 4), effect=0.1)
    return simulated.with_groups(p, color=np.resize(["red", "green"], len(p.labels)))


def test_class_bias_cells(rows):
    shown = tables.class_bias_table(rows, title="A study").data
    assert shown.index.tolist() == ["Teacher", "NDS", "DS, T = 4"]
    assert shown["Accuracy (%)"].tolist() == ["95.00 ± 1.00", "90.00 ± 2.00", "91.25 ± 0.50"]
    assert shown["#SC"].tolist() == ["", "", "3"]
    assert shown["#TC"].tolist() == ["", "", ""]
    assert shown["chance alone"].tolist() == ["", "", "[0, 2]"]


def test_rows_of_real_measures_hold_every_number(found):
    long, counts = class_bias.table(found), class_bias.counts(found)
    assert len(long) == 4 + 3 * 2
    assert long[long["metric"] == "n_significant_sc"]["mean"].tolist() == counts["n_significant_sc"].tolist()
    assert long[long["metric"] == "null_band"]["high"].tolist() == counts["null_high"].tolist()
    assert tables.class_bias_table(long, title="t").data.shape == (4, 3)


def test_what_every_row_has_stands_once(found):
    table = tables.class_bias_table(class_bias.table(found), title="t")
    assert "chance alone" not in table.data and "chance alone in every row: [0, 1]" in table.caption
    other = class_bias.table(found)
    other.loc[other["metric"] == "null_band", "high"] = [1, 2]
    assert tables.class_bias_table(other, title="t").data["chance alone"].tolist() == ["", "", "[0, 1]", "[0, 2]"]


def test_fairness_cells(found):
    rows = fairness.table(found, sensitive="color")
    assert not rows.duplicated(["model", "temperature", "metric"]).any()
    table = tables.fairness_table(rows, title="t")
    shown = table.data
    nds = 100 * rows[rows["model"] == "nds"].set_index("metric")[["mean", "sd", "low", "high"]]
    assert shown.loc["NDS", "EOD"] == "{mean:.2f} ± {sd:.2f}".format(**nds.loc["eod"])
    assert shown.loc["NDS", "EOD floor"] == "{mean:.2f} (≤ {high:.2f})".format(**nds.loc["eod_floor"])
    assert f"label DPD in every row: {nds.loc['label_dpd', 'mean']:.2f}" in table.caption
    assert shown.columns.tolist() == [
        "Accuracy",
        "EOD",
        "TPR part",
        "FPR part",
        "EOD floor",
        "DPD",
        "|DPD − label DPD|",
        "DPD floor",
    ]


def test_the_caption_says_study_and_seeds(rows):
    caption = tables.class_bias_table(rows, title="A study\nstand-in, not the paper's study").caption
    assert caption.splitlines()[:2] == ["A study", "stand-in, not the paper's study"]
    assert "5 seeds, mean ± sd (95 % t-interval: ± 1.24 sd)" in caption  # 2.776 / sqrt(5)
    unequal = tables.class_bias_table(rows.assign(n_seeds=[10, 5, 4, 4, 4, 4]), title="t").caption
    assert "4 to 10 seeds, mean ± sd (95 % t-interval: ± 1.59 to ± 0.72 sd)" in unequal


def test_numbers_stand_below_each_other():
    cells = pd.DataFrame({"x": ["12.5 [−3.0, 1.0]", "−1.5 [2.0, 10.0]", ""], "words": ["a 1", "b 10", "c −1"]})
    contents = tables.rendered(tables.text_table(cells, "t"))
    page, wide, sign = contents["html"].decode(), "\u2007", "<span></span>"
    assert f">{sign}12.5 [<span>−</span>3.0, {wide}1.0]<" in page
    assert f"><span>−</span>{wide}1.5 [{sign}2.0, 10.0]<" in page
    assert ">b 10<" in page and ">c −\u20601<" in page
    assert r"\phantom{$-$}12.5 [$-$3.0, \phantom{0}1.0]" in contents["tex"].decode()
    assert tables.text_table(cells, "t").data.equals(cells)


def test_a_page_says_what_it_is_and_can_be_narrow():
    frame = pd.DataFrame({'a "b"': ["1"]})
    page = tables.rendered(tables.text_table(frame, "One < two\nmore", wrap=True))["html"].decode()
    assert '<html lang="en">' in page and "<title>One &lt; two</title>" in page and 'name="viewport"' in page
    assert 'td.col0::before { content: "a \\"b\\"" }' in page and 'class="stacked"' in page


def test_the_papers_columns_appear_only_where_there_are_numbers(rows):
    assert not any("paper" in name for name in tables.class_bias_table(rows, title="t").data)
    paper = {
        "paper_mean": [0.945, 0.93, np.nan, 1, np.nan, np.nan],
        "paper_sd": [0.002, np.nan, *[np.nan] * 4],
        "paper_inside": pd.array([True, False, pd.NA, pd.NA, pd.NA, pd.NA], "boolean"),
    }
    table = tables.class_bias_table(rows.assign(**paper), title="t")
    assert table.data.columns.tolist() == [
        "Accuracy (%)",
        "Accuracy (%), paper",
        "#SC",
        "#SC, paper",
        "#TC",
        "chance alone",
    ]
    assert table.data["Accuracy (%), paper"].tolist() == ["94.50 ± 0.20", "93.00 *", ""]
    assert table.data["#SC, paper"].tolist() == ["", "", "1"]
    assert table.caption.endswith("paper: as reported, in brackets ours − paper; * outside our interval")


def test_the_difference_and_the_source_stand_beside_the_papers_number(rows):
    paper = {
        "paper_mean": [0.945, 0.93, np.nan, 1, np.nan, np.nan],
        "difference": [0.005, -0.03, np.nan, 2, np.nan, 0],
        "paper_source": ["arxiv_v1", "final", None, "arxiv_v1", None, None],
        "paper_sd": np.nan,
    }
    table = tables.class_bias_table(rows.assign(**paper), title="t")
    assert table.data["Accuracy (%), paper"].tolist() == ["94.50 (+0.50)", "93.00 (−3.00)", ""]
    assert table.data["#SC, paper"].tolist() == ["", "", "1 (+2)"]
    assert "paper: as reported (arXiv v1, final text)" in table.caption


def individual_arms(paper=np.nan):
    values = {
        "accuracy": 0.9,
        "confidence": 0.8,
        "counterfactual": 0.0407,
        "counterfactual_calibrated": 0.05,
        "counterfactual_relative": 0.06,
    }
    rows = pd.DataFrame({"metric": [*values, "mean_ratio"], "mean": [*values.values(), np.nan], "sd": 0.001})
    rows = rows.assign(model="nds", temperature=np.nan, n_seeds=5, low=np.nan, high=np.nan)
    units = ["share", "share", *["ratio"] * 4]
    paper_mean = np.where(rows["metric"] == "mean_ratio", paper, np.nan)
    return rows.assign(unit=units, paper_mean=paper_mean, paper_sd=np.nan)


def test_individual_cells_are_ratios_and_hold_the_measures_that_are_there():
    shown = tables.individual_table(individual_arms(), title="t").data
    assert shown.columns.tolist() == [
        "Accuracy",
        "Confidence",
        "counterfactual",
        "counterfactual, calibrated",
        "counterfactual, relative",
    ]
    assert shown.loc["NDS"].tolist() == [
        "90.00 ± 0.10",
        "80.00 ± 0.10",
        "0.0407 ± 0.0010",
        "0.0500",
        "0.0600",
    ]


def test_the_papers_individual_measure_is_shown_but_compared_with_nothing():
    shown = tables.individual_table(individual_arms(0.124), title="t").data
    assert shown.loc["NDS", ["mean ratio", "mean ratio, paper"]].tolist() == ["", "0.1240"]


def test_a_study_without_runs_shows_the_papers_numbers_and_the_command():
    study = load_profile("paper").studies["cifar10-resnet"]
    table = tables.not_run_table(study, "table06", command="kdlib train cifar10-resnet")
    assert "not run: kdlib train cifar10-resnet" in table.caption
    assert table.data["Accuracy, paper"].loc[["NDS", "DS, T = 9"]].tolist() == ["90.72 ± 0.14", "91.53 ± 0.13"]
    assert table.data["#SC, paper"].loc["DS, T = 9"] == "1"
    quick = tables.not_run_table(load_profile("quick").studies["digits"], "table06", command="c")
    assert quick.data.empty
    assert quick.caption.endswith("not run: c")


def test_a_missing_metric_is_named(rows):
    with pytest.raises(InvalidInput, match="eod"):
        tables.fairness_table(rows, title="t")


def test_names_are_escaped_in_html_and_latex(rows):
    rows["model"] = rows["model"].replace("nds", "<b>nds & 5_%</b>")
    contents = tables.rendered(tables.class_bias_table(rows, title="<i>A & B_1</i>"))
    page, tex = contents["html"].decode(), contents["tex"].decode()
    assert "<b>" not in page
    assert "<i>" not in page
    assert "&lt;b&gt;nds &amp; 5_%" in page
    assert r"nds \& 5\_\%" in tex
    assert r"A \& B\_1" in tex


def test_latex_is_booktabs_in_plain_ascii(rows):
    tex = tables.rendered(tables.class_bias_table(rows, title="CIFAR-10, ResNet-56 → ResNet-20"))["tex"].decode()
    assert all(rule in tex for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert r"95.00 $\pm$ 1.00 & " in tex
    assert tex.isascii()


def test_a_table_is_saved_with_its_numbers(rows, tmp_path):
    table = tables.class_bias_table(rows, title="t")
    paths = save.save(table, rows, name="table06_x", out_dir=tmp_path, about={"shows": "counts"})
    assert [path.suffix for path in paths] == [".html", ".tex", ".csv", ".json"]
    pd.testing.assert_frame_equal(pd.read_csv(paths[2]), rows, check_dtype=False)
    assert json.loads(paths[3].read_bytes()) == {"shows": "counts"}
    before = [path.read_bytes() for path in paths]
    again = tables.class_bias_table(rows, title="t")
    save.save(again, rows, name="table06_x", out_dir=tmp_path, about={"shows": "counts"})
    assert [path.read_bytes() for path in paths] == before
