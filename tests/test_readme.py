"""The README says what is there: artefacts, commands, files, and a table that a command wrote."""

import importlib.util
import re
import shlex

import pandas as pd
import pytest

from kdlib import cli, places
from kdlib.catalogue import ARTEFACTS
from kdlib.errors import InvalidInput

ROOT = places.project_root()
_SPEC = importlib.util.spec_from_file_location("readme", ROOT / "tools/readme.py")
readme = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(readme)
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = {cells[1].strip(): cells for line in TEXT.splitlines() if len(cells := line.split("|")) == 8}


def test_every_artefact_has_a_row_and_every_row_an_artefact():
    assert set(ROWS) - {"artefact", "---"} == set(ARTEFACTS)


def test_every_notebook_is_in_its_row_and_the_reverse():
    linked = {name: re.findall(r"\(notebooks/(.+?)\)", cells[3]) for name, cells in ROWS.items() if name in ARTEFACTS}
    assert linked == {name: [a.notebook] if a.notebook else [] for name, a in ARTEFACTS.items()}
    assert all((ROOT / "notebooks" / name[0]).is_file() for name in linked.values() if name)


def test_the_generated_sections_are_what_the_command_writes():
    assert readme.generated(TEXT, ROOT / "figures/quick/gallery") == TEXT


def test_linked_files_exist():
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / target).exists(), target


def test_every_command_named_exists():
    targets = set(re.findall(r"\bmake ([a-z-]+)", TEXT))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets and all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    for line in re.findall(r"-m (kdlib [^\n`#]+)", TEXT):
        cli.parser().parse_args(shlex.split(line)[1:])


def test_the_gallery_is_labelled_and_small():
    gallery = ROOT / "figures/quick/gallery"
    assert {path.name for path in gallery.iterdir()} == set(readme.GALLERY)
    assert sum(path.stat().st_size for path in gallery.iterdir()) < 2**20


def test_without_its_marks_the_readme_is_refused():
    with pytest.raises(InvalidInput, match="lacks the lines <!-- claims"):
        readme.with_section("no marks", "claims", "table")


def test_every_claim_has_a_row():
    board = TEXT[TEXT.index("<!-- claims") : TEXT.index("<!-- /claims")]
    assert re.findall(r"^\| (\d+)\. ", board, re.MULTILINE) == [str(n) for n in range(1, 13)]


def test_one_row_by_hand():
    summary = [{"artefact": "fig3", "outputs": ["fig3_digits.csv", "fig3_digits.png"], "seconds": 3.6}]
    row = next(line for line in readme.artefact_table(summary).splitlines() if line.startswith("| fig3 "))
    assert "[fig3_temperature.ipynb](notebooks/fig3_temperature.ipynb)" in row and row.endswith(
        "| `fig3_digits.png` | 4 |"
    )


def test_real_data_have_a_row_a_claim_and_a_line_a_study():
    row = {"claim": 9, "says": "Lower.", "studies": "faces", "verdict": "inconclusive", "statistic": "DPD"}
    row |= {"value": 0.012, "low": -0.01, "high": 0.034, "p": 0.2, "p_holm": 0.4, "n_blocks": 5, "n_temperatures": 1}
    other = row | {"studies": "posts", "verdict": "reproduced"}
    lines = readme.real_data_board(pd.DataFrame([row, other, row | {"claim": 12, "verdict": "not run"}])).splitlines()
    assert len(lines) == 3 and lines[2].count("<br>") == 1
    assert "faces: **not told from chance**, DPD: 0.012 [-0.01, 0.034]; p = 0.2, with Holm 0.4; 5 blocks" in lines[2]
    assert "posts: **seen**" in lines[2]


def test_the_first_table_comes_with_the_paragraph_before_it():
    text = "<!-- mark -->\nWhere.\n\n| a |\n|---|\n| 1 |\n\nMore.\n\n| b |"
    assert readme.first_table(text) == "Where.\n\n| a |\n|---|\n| 1 |"
