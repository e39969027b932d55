"""The page and what stands beside it: self-contained, text stays text, nothing leaves the folder."""

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import kdlib
from kdlib.errors import InvalidInput
from tests.auditing.worlds import binary, table

HOSTILE = ("<script>alert(1)</script>", "=cmd|' /C calc'!A0")


def hostile():
    p = binary(n=120)
    sex = np.where(p.groups["sex"] == "f", "<img src=x onerror=alert(1)>", "+SUM(1)")
    made = {(m, s): p.predicted[3 * i + s] for i, m in enumerate(("@base", "<b>new</b>")) for s in range(3)}
    return table(made, p.labels, groups={"../sex/<i>": sex}, classes=HOSTILE)


@pytest.fixture(scope="module")
def report():
    return kdlib.audit(
        hostile(), baseline="@base", sensitive="../sex/<i>", fail_on=["eod>0.2"], metrics=["selection_rate"]
    )


class Read(HTMLParser):
    """What a browser would see: (tag, attribute, value) of every tag, and the text."""

    def __init__(self, page):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found += [(tag, name, value) for name, value in [*attrs, ("", "")]]

    def handle_data(self, data):
        self.text += data


def test_names_are_text_on_the_page(report):
    read = Read(report.html)
    for name in (*HOSTILE, "<img src=x onerror=alert(1)>", "<b>new</b>", "../sex/<i>"):
        assert name in read.text
    assert not {tag for tag, *_ in read.found} & {"script", "img", "iframe", "object", "embed", "link", "base", "form"}
    assert not [name for _, name, _ in read.found if name.startswith("on")]
    assert "<script" not in report.card and "&lt;b&gt;new&lt;/b&gt;" in report.card


def test_the_page_needs_no_network(report):
    outside = [(tag, name, value) for tag, name, value in Read(report.html).found if "//" in (value or "")]
    assert outside and all((tag, name) == ("a", "href") for tag, name, _ in outside)
    assert all(value.startswith("https://arxiv.org/abs/") for *_, value in outside)
    assert "url(" not in report.html.split("</style>")[0] and "@import" not in report.html.split("</style>")[0]


def test_all_tags_close(report):
    """What HTML lets one leave open (li, td, th) aside."""
    for tag in ("section", "details", "table", "svg", "ul", "ol", "span", "p", "h2", "h3", "div", "tr", "main", "dl"):
        opened, closed = (len(re.findall(rf"<{slash}{tag}[\s>]", report.html)) for slash in ("", "/"))
        assert opened == closed, tag


def test_files_stand_beside_the_page_and_cells_start_no_formula(report, tmp_path):
    folder = tmp_path / "in" / "out"
    paths = report.write(folder / "report.html")
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(paths)
    assert {path.parent for path in paths} == {folder}
    for path in (path for path in paths if path.suffix == ".csv"):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                assert not [cell for cell in row if re.match(r"[=+@\t\r]|-(?![\d.])", cell)], path
    read = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert list(read) == ["about", "answer", "warnings", "tables"] and len(read["answer"]) == 3
    assert set(read["tables"]) == {path.suffixes[0][1:] for path in paths if path.suffix == ".csv"}
    assert HOSTILE[1] in {row["class_name"] for row in read["tables"]["classes"]}


@pytest.mark.parametrize("name", ["report", "report.json", "folder.html"])
def test_other_names_are_refused(report, tmp_path, name):
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InvalidInput, match=r"\.html"):
        report.write(tmp_path / name)


def test_one_seed_says_what_cannot_be_known():
    page = kdlib.audit(binary(seeds=1), baseline="v1").html
    assert "cannot be known from this table" in page and "What training again would change" in page
    assert "What training again would change" not in kdlib.audit(binary(), baseline="v1").html


def test_the_answer_is_three_sentences(report):
    answer = kdlib.audit(binary(drop=0.1), baseline="v1", sensitive="sex").answer
    assert len(answer) == 3 and all(sentence.endswith(".") and "[" in sentence for sentence in answer)
    assert re.match(r"Accuracy changes from 8\d\.\d % \(v1\) by −\d+\.\d points \[−", answer[0])
    assert "nothing is said about groups" in kdlib.audit(binary(), baseline="v1").answer[1]


def test_curves_where_a_numeric_column_varies():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    keys = [("dense", 0), ("dense", 1), *(("pruned", s) for s in range(6))]
    made = {key: np.where(rng.random(200) < 0.8, labels, 1 - labels) for key in keys}
    extra = {("pruned", s): {"sparsity": (0.5, 0.9, 0.99)[s // 2]} for s in range(6)}
    page = kdlib.audit(table(made, labels, extra=extra), baseline="dense").html
    assert page.count("pruned against sparsity</span>") == 3 and "0.99" in page
    assert 'id="curves"' not in kdlib.audit(binary(), baseline="v1").html


def test_many_classes_are_a_picture():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(60), 10)
    made = {(m, s): np.where(rng.random(600) < 0.7, labels, 0) for m in ("a", "b") for s in range(2)}
    page = kdlib.audit(table(made, labels, classes=[f"class {c}" for c in range(60)]), baseline="a").html
    assert page.count("<circle") == 60 and page.count('<tr><td class="name">class') == 12


def test_a_notebook_shows_the_page_in_a_frame(report):
    assert report._repr_html_().startswith("<iframe srcdoc=") and "<script" not in report._repr_html_()
    assert str(report).startswith("Accuracy changes")


def test_another_audit_leaves_no_table_of_the_one_before(tmp_path):
    page = tmp_path / "r.html"
    kdlib.audit(binary(), baseline="v1", sensitive="sex", fail_on=["eod>0.2"], out=page)
    before = {path.name for path in tmp_path.iterdir()}
    kdlib.audit(binary(), baseline="v1", out=page)
    gone = before - {path.name for path in tmp_path.iterdir()}
    assert {"r.limits.csv", "r.groups.csv", "r.differences.csv"} == gone


@pytest.mark.parametrize("given", ["p.csv", {"model": ["v1"]}])
def test_what_is_no_predictions_is_told_how_to_be_read(given):
    with pytest.raises(InvalidInput, match="read_table"):
        kdlib.audit(given)


def test_lost_samples_are_counted_though_few_are_shown():
    labels = np.zeros(200, int)
    found = {
        ("v1", 0): labels,
        ("v1", 1): np.r_[1, labels[1:]],
        ("v2", 0): 1 - labels,
        ("v2", 1): np.r_[0, 1 - labels[1:]],
    }
    report = kdlib.audit(table(found, np.r_[labels[:-1], 0]), baseline="v1")
    assert report.tables["class_counts"]["lost_samples"].item() == 199 and len(report.tables["samples"]) == 50
    assert "199, here the 10 surest" in report.html


@pytest.mark.parametrize("name", ["r.md", "r.runs.csv", "r.limits.csv"])
def test_a_file_that_is_no_older_reports_is_never_replaced(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InvalidInput, match=name):
        kdlib.audit(binary(), baseline="v1", out=tmp_path / "r.html")
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine"
