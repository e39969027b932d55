"""README and docs/ say what is there: artefacts, commands, files, and sections that a command wrote."""

import importlib.util
import json
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
GALLERY = ROOT / "figures/quick/gallery"
PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
TEXT = PAGES[ROOT / "README.md"]
ARTEFACT_ROWS = PAGES[ROOT / "docs/artefacts.md"].splitlines()
ROWS = {cells[1].strip(): cells for line in ARTEFACT_ROWS if len(cells := line.split("|")) == 8}
COMMANDS = set(cli.parser()._subparsers._group_actions[0].choices)


def test_the_readme_is_short():
    assert len(TEXT.splitlines()) <= 150


def test_every_artefact_has_a_row_and_every_row_an_artefact():
    assert set(ROWS) - {"artefact", "---"} == set(ARTEFACTS)


def test_every_notebook_is_in_its_row_and_the_reverse():
    linked = {
        name: re.findall(r"\(../notebooks/(.+?)\)", cells[3]) for name, cells in ROWS.items() if name in ARTEFACTS
    }
    assert linked == {name: [a.notebook] if a.notebook else [] for name, a in ARTEFACTS.items()}
    assert all((ROOT / "notebooks" / name[0]).is_file() for name in linked.values() if name)


@pytest.mark.parametrize("page", readme.PAGES)
def test_the_generated_sections_are_what_the_command_writes(page):
    assert readme.generated(page, PAGES[ROOT / page], GALLERY) == PAGES[ROOT / page]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_linked_files_exist(page):
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if "://" not in target:
            assert (page.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_named_exists(page):
    targets = set(re.findall(r"\bmake ([a-z-]+)\b(?=[ `\n])", "\n".join(_code(PAGES[page]))))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets), targets
    for line in _code(PAGES[page]):
        for command in re.findall(r"^kdlib ([a-z][^#\n]*)", line, re.MULTILINE):
            words = shlex.split(command)
            assert words[0] in COMMANDS
            if len(words) > 1 and not {word for word in words if word.isupper()}:
                cli.parser().parse_args(words)


def _code(text):
    """What stands in code: fenced, indented by four, or between backticks."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    indented = [line.strip() for line in re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)]
    return [*fenced, *indented, *re.findall(r"`([^`\n]+)`", text)]


def test_the_gallery_is_labelled_and_small():
    assert {path.name for path in GALLERY.iterdir()} - {readme.MINUTES} == set(readme.GALLERY)
    assert sum(path.stat().st_size for path in GALLERY.iterdir()) < 2**20


def test_without_its_marks_a_page_is_refused():
    with pytest.raises(InvalidInput, match="lacks the lines <!-- claims"):
        readme.with_section("no marks", "claims", "table")


def test_every_claim_has_a_row():
    board = TEXT[TEXT.index("<!-- claims") : TEXT.index("<!-- /claims")]
    assert re.findall(r"^\| (\d+)\. ", board, re.MULTILINE) == [str(n) for n in range(1, 13)]
    long = PAGES[ROOT / "docs/results.md"]
    assert re.findall(r"^### Claim (\d+)$", long, re.MULTILINE) == [str(n) for n in range(1, 13)]


def test_claims_of_which_a_part_alone_is_tested_say_so():
    long = PAGES[ROOT / "docs/results.md"]
    for claim, words in readme.NOT_TESTED.items():
        assert words in long[long.index(f"### Claim {claim}\n") : long.index(f"### Claim {claim + 1}\n")]
    assert "7. DS disagrees with its teacher less often than NDS does |" in TEXT and "dominates" not in TEXT


def test_one_row_by_hand():
    summary = [{"artefact": "fig3", "outputs": ["fig3_digits.csv", "fig3_digits.png"], "seconds": 3.6}]
    row = next(line for line in readme.artefact_table(summary).splitlines() if line.startswith("| fig3 "))
    assert "[fig3_temperature.ipynb](notebooks/fig3_temperature.ipynb)" in row and row.endswith(
        "| `fig3_digits.png` | 4 |"
    )


ROW = {"claim": 9, "says": "Lower.", "studies": "faces", "verdict": "inconclusive", "statistic": "DPD", "value": 0.0123}
ROW |= {"low": -0.01, "high": 0.034, "p": 0.2, "p_holm": 0.4, "sentence": "."}


def test_claims_have_a_section_each_and_a_line_a_study():
    other = ROW | {"studies": "posts", "verdict": "reproduced", "p": 0.0001, "p_holm": 0.0001}
    none = ROW | {"claim": 12, "verdict": "not run", "sentence": "Not run: too few."}
    lines = readme.claims_long(pd.DataFrame([ROW, other, none])).splitlines()
    assert "| faces | DPD | +1.23 (−1.00 to +3.40) points | 0.200 (Holm 0.400) | **not told from chance** |" in lines
    assert "| posts | DPD | +1.23 (−1.00 to +3.40) points | < 0.001 | **seen** |" in lines
    assert lines[-1] == "Not run: too few."


def test_the_short_board_leaves_empty_what_a_study_cannot_answer():
    few = ROW | {"studies": "posts", "p_holm": float("nan")}
    again = pd.DataFrame([ROW | {"studies": "faces-confirm", "verdict": "not reproduced"}])
    lines = readme.claims_short(pd.DataFrame([ROW, few]), again).splitlines()
    assert lines[0] == "| claim, as tested | faces | posts |"
    assert lines[10].endswith("teacher's | ○ ✗ |  |")
    assert readme.chance(few) == "0.200 (its design cannot answer)"


def test_shares_are_in_points_and_counts_as_they_are():
    count = ROW | {"statistic": "#SC at T = 40", "value": -6.0, "low": -25.4, "high": 13.4}
    assert readme.number(count) == "−6 (−25 to 13)"
    assert readme.number(ROW | {"statistic": "Kendall's tau", "value": 0.9, "low": float("nan")}) == "0.90"
    assert readme.chance(ROW | {"p": float("nan")}) == "bounds"


def test_looking_first_takes_less_than_a_minute():
    summary = json.loads((GALLERY / "summary.json").read_text(encoding="utf-8"))
    assert next(entry["seconds"] for entry in summary if entry["artefact"] == "fig3") < 60


def test_commands_have_minutes_only_where_they_were_measured(tmp_path):
    assert "minutes" not in readme.commands(tmp_path)
    (tmp_path / readme.MINUTES).write_text('{"reproduce": 20.4, "test": 11.6}', encoding="utf-8")
    assert readme.commands(tmp_path).splitlines()[1].startswith("    make test       # 12 minutes: ")


def test_the_first_table_comes_with_the_paragraph_before_it():
    text = "<!-- mark -->\nWhere.\n\n| a |\n|---|\n| 1 |\n\nMore.\n\n| b |"
    assert readme.first_table(text) == "Where.\n\n| a |\n|---|\n| 1 |"
