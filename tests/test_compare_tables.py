"""The comparison of two folders of tables: each kind of difference is found, and what may differ passes."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "tools/compare_tables.py"
TABLE = """\
temperature,class,n,low,p,verdict
1.0,cat,5,-0.25,0.5,equivalent
1.0,dog,5,0.125,,inconclusive
2.0,cat,3,0.5,1e-05,different
2.0,dog,3,1.0,0.75,equivalent
"""
ABOUT = {"kdlib": "0.1.0", "runs": 35, "absent": [], "checks": [{"kl": 0.25, "verdict": "reproduced"}]}
SUMMARY = [{"artefact": "fig1", "seconds": 1.5, "verdict": "done"}]


@pytest.fixture
def folders(tmp_path):
    for folder in (tmp_path / "before", tmp_path / "after"):
        (folder / "more").mkdir(parents=True)
        (folder / "fig1.csv").write_text(TABLE)
        (folder / "more/fig2.csv").write_text("name,n\na,1\nb,2\n")
        (folder / "fig1.json").write_text(json.dumps(ABOUT))
        (folder / "summary.json").write_text(json.dumps(SUMMARY))
        (folder / "fig1.png").write_bytes(b"a picture")
    return tmp_path


@pytest.fixture(scope="module")
def tool():
    """The script as a module: tools/ is no package."""
    spec = importlib.util.spec_from_file_location("compare_tables", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def compared(folders, tool, capsys):
    """A function that gives the differences found, after a look at status and last line."""

    def compare(mapping: str = "") -> list[str]:
        (folders / "mapping.yaml").write_text(mapping)
        status = tool.main([f"{folders}/before", f"{folders}/after", f"--columns={folders}/mapping.yaml"])
        *lines, last = capsys.readouterr().out.splitlines()
        assert status == (1 if lines else 0) and f", {len(lines)} difference" in last
        return lines

    return compare


def change(folders: Path, old: str, new: str, file: str = "fig1.csv"):
    path = folders / "after" / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_equal_folders_pass_and_all_is_counted(folders):
    command = [sys.executable, SCRIPT, folders / "before", folders / "after"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # 4 rows of 6 cells and 2 of 2; 4 values of fig1.json without its version, 2 of summary.json without its seconds
    counts = "6 rows, 34 values, 0 differences"
    assert done.stdout == f"2 CSV and 2 JSON files compared by value, 1 by name: {counts}\n"


@pytest.mark.parametrize(
    ("old", "new", "file"),
    [
        ("0.125", "0.125000000001", "fig1.csv"),
        ("1e-05", "0.00001", "fig1.csv"),
        ("1.0,0.75", "1,0.75", "fig1.csv"),  # the other numbers of the column are floats
        ("0.25", "0.250000000001", "fig1.json"),
        ("0.1.0", "0.2.0", "fig1.json"),
        ("1.5", "99.5", "summary.json"),
        ("a picture", "another picture", "fig1.png"),
    ],
)
def test_what_may_differ(folders, old, new, file, compared):
    change(folders, old, new, file)
    assert compared() == []


def test_columns_may_stand_in_another_order(folders, compared):
    (folders / "after/more/fig2.csv").write_text("n,name\n1,a\n2,b\n")
    assert compared() == []


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("0.125", "0.12500001", "row 2 (dog, 5, inconclusive): low: before '0.125', after '0.12500001'"),
        ("1.0,cat,5", "1.0,cat,6", "row 1 (cat, 5, equivalent): n: before '5', after '6'"),
        ("different", "equivalent", "row 3 (cat, 3, different): verdict: before 'different', after 'equivalent'"),
        ("0.5,1e-05", ",1e-05", "row 3 (cat, 3, different): low: before '0.5', after '' (lost)"),
        ("0.125,", "0.125,0.5", "row 2 (dog, 5, inconclusive): p: before '', after '0.5' (new)"),
        ("0.125,", "0.125,nan", "row 2 (dog, 5, inconclusive): p: before '', after 'nan' (new)"),
        ("0.75", "nan", "row 4 (dog, 3, equivalent): p: before '0.75', after 'nan'"),
        ("1.0,cat,5", "1.0,cat,5.0", "row 1 (cat, equivalent): n: before '5', after '5.0'"),
        ("2.0,cat,3,0.5,1e-05,different\n", "", "row 3 (cat, 3, different): lost"),
        ("3,1.0,0.75,equivalent\n", "3,1.0,0.75,equivalent\n3.0,cow,1,0.5,,new\n", "row 5 (cow, 1, new): new"),
    ],
)
def test_a_difference_in_a_table(folders, old, new, found, compared):
    change(folders, old, new)
    assert compared() == [f"fig1.csv: {found}"]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("reproduced", "not run", """checks[0].verdict: before '"reproduced"', after '"not run"'"""),
        ("0.25", "0.25000001", "checks[0].kl: before '0.25', after '0.25000001'"),
        ("0.25", "null", "checks[0].kl: before '0.25', after 'null' (lost)"),
        ("35", "36", "runs: before '35', after '36'"),
        ("35", "35.0", "runs: before '35', after '35.0'"),
        ('"runs": 35, ', "", "runs: before '35', after None (lost)"),
        ('"runs"', '"date": 1, "runs"', "date: before None, after '1' (new)"),
    ],
)
def test_a_difference_in_json(folders, old, new, found, compared):
    change(folders, old, new, "fig1.json")
    assert compared() == [f"fig1.json: {found}"]


def test_the_order_of_rows(folders, compared):
    lines = TABLE.splitlines(keepends=True)
    (folders / "after/fig1.csv").write_text("".join([lines[0], lines[2], lines[1], *lines[3:]]))
    assert compared() == ["fig1.csv: row 1 (cat, 5, equivalent): rows in another order, this one is row 2 after"]


def test_a_lost_row_is_named_where_rows_share_their_key(folders, compared):
    text = "model,temperature,mean\nds,1.0,0.5\nds,2.0,0.25\nds,5.0,0.125\n"
    (folders / "before/fig1.csv").write_text(text)
    (folders / "after/fig1.csv").write_text(text.replace("ds,1.0,0.5\n", ""))
    assert compared() == ["fig1.csv: row 1 (ds): lost"]


def test_every_float_of_a_column_lost(folders, compared):
    (folders / "before/fig1.csv").write_text("name,p\na,0.5\nb,0.25\n")
    (folders / "after/fig1.csv").write_text("name,p\na,\nb,\n")
    assert compared() == [
        "fig1.csv: row 1 (a): p: before '0.5', after '' (lost)",
        "fig1.csv: row 2 (b): p: before '0.25', after '' (lost)",
    ]


@pytest.mark.parametrize("file", ["more/fig2.csv", "fig1.json", "fig1.png"])
def test_a_file_on_one_side_alone(folders, file, compared):
    (folders / "after" / file).unlink()
    assert compared() == [f"{file}: lost file"]
    (folders / "after" / file).write_bytes((folders / "before" / file).read_bytes())
    (folders / "before" / file).unlink()
    assert compared() == [f"{file}: new file"]


@pytest.mark.parametrize("text", ["name,n\na\n", "n,n\n1,2\n"])
def test_a_file_that_is_no_table(folders, text, compared):
    (folders / "after/more/fig2.csv").write_text(text)
    (line,) = compared()
    assert line.startswith("more/fig2.csv: cannot be compared: ")


def test_a_lost_and_a_renamed_column(folders, compared):
    (folders / "after/more/fig2.csv").write_text("name\na\nb\n")
    assert compared() == ["more/fig2.csv: column n: lost"]
    (folders / "after/more/fig2.csv").write_text("name,count\na,1\nb,2\n")
    assert compared() == ["more/fig2.csv: column n: lost", "more/fig2.csv: column count: new"]
    assert compared("more/*.csv: {n: count}") == []
    assert compared("fig1*: {n: count}") != []
    (folders / "after/more/fig2.csv").write_text("name,count\na,1\nb,3\n")
    assert compared("more/*.csv: {n: count}") == ["more/fig2.csv: row 2 (b, 2): count: before '2', after '3'"]


def test_a_key_of_json_renamed(folders, compared):
    change(folders, '"kl"', '"divergence"', "fig1.json")
    assert len(compared()) == 2
    assert compared("fig1.json: {kl: divergence}") == []


def test_new_columns_and_new_values_of_the_mapping(folders, compared):
    change(folders, "0.125,", "0.125,0.5")
    (folders / "after/more/fig2.csv").write_text("name,n,sd\na,1,0.5\nb,2,0.5\n")
    change(folders, '"runs"', '"date": 1, "runs"', "fig1.json")
    mapping = "'*fig2.csv': {new: [sd]}\nfig1.csv: {new: [p]}\nfig1.json: {new: [date]}"
    assert len(compared()) == 3
    assert compared(mapping) == []
    change(folders, "0.75", "")  # the mapping never excuses a lost value
    assert compared(mapping) == ["fig1.csv: row 4 (dog, 3, equivalent): p: before '0.75', after '' (lost)"]


def test_renamed_files(folders, compared):
    for name in ("fig1.csv", "fig1.json", "fig1.png"):
        (folders / "after" / name).rename(folders / "after" / name.replace("fig1", "classes"))
    assert len(compared()) == 6
    assert compared("fig1.*: classes.*") == []
    change(folders, "35", "36", "classes.json")
    assert compared("fig1.*: classes.*") == ["fig1.json: runs: before '35', after '36'"]
    assert any("two files get this name" in line for line in compared("'*.csv': classes.csv"))


@pytest.mark.parametrize("mapping", ["- a list", "fig1.csv: [a, b]", "fig1.csv: {a: [b]}", "fig1.csv: {a: 1}", "{"])
def test_a_mapping_that_cannot_be_used(compared, capsys, mapping):
    with pytest.raises(SystemExit, match="2"):
        compared(mapping)
    assert "mapping.yaml cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    ["", "before", "before missing", "empty after", "after empty", "after after", "before after --columns=none.yaml"],
)
def test_bad_arguments(folders, tool, monkeypatch, arguments):
    (folders / "empty").mkdir()
    monkeypatch.chdir(folders)
    with pytest.raises(SystemExit, match="2"):
        tool.main(arguments.split())
