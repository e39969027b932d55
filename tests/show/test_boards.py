"""The boards: every verdict with its number, colors that are not needed to read it, nothing that a page would run."""

import pandas as pd
import pytest

from kdlib.claims import board
from kdlib.show import boards, tables
from tests.claims.test_board import finding

WORDS = ("reproduced", "not reproduced", "explained by accuracy", "inconclusive", "not run")


@pytest.fixture
def claims_board():
    found = [
        finding(),
        finding(toward=False),
        finding(instead="explained by accuracy"),
        finding(toward=None),
        "no run.",
    ]
    judged, none = board.judged(found, [1, 1, 1, 1, 1]), board.judged(["none."] * 5, range(5))
    says = pd.DataFrame({"claim": range(1, 6), "says": "It <b>falls</b>.", "study": "a-study", "tested": "a | slope"})
    return says.join(judged).assign(stand_in="").join(none.add_prefix("stand_in_"))


def test_every_row_has_its_word_sentence_and_number(claims_board):
    shown = boards.claims_table(claims_board, title="Profile x").data
    paper = shown["on the paper"]
    assert paper.str.partition("\n")[0].tolist() == list(WORDS)
    assert paper[0] == "reproduced\nThe number is 1.\nwith Holm's correction p = 0.04; 5 blocks, 2 temperatures"
    assert paper[4] == "not run\nno run."
    assert shown["what is tested"].iloc[0] == "a | slope\n(study: a-study)"


def test_the_stand_in_is_named_before_its_sentence(claims_board):
    with_one = claims_board.assign(
        stand_in="digits",
        stand_in_verdict="reproduced",
        stand_in_sentence="It is 2.",
        stand_in_value=2.0,
        stand_in_n_blocks=5,
        stand_in_n_temperatures=3,
    )
    cell = boards.claims_table(with_one, title="t").data.iloc[0, -1]
    assert cell.startswith("reproduced\ndigits: It is 2.\n")
    assert boards.claims_table(with_one, title="t").data.columns[-1] == boards.ON_THE_STAND_IN


def test_without_a_stand_in_there_are_no_columns_for_it(claims_board):
    assert boards.claims_table(claims_board, title="t").data.columns.tolist() == [
        "claim",
        "what is tested",
        "on the paper",
    ]


def test_names_are_escaped_and_the_color_is_only_on_the_paper(claims_board):
    page = tables.rendered(boards.claims_table(claims_board, title="Profile <x>"))["html"].decode()
    assert "<b>" not in page
    assert "Profile &lt;x&gt;" in page
    for word, shade in boards.SHADES.items():
        assert page.count(shade) == 1, word


def test_shades_are_light_enough_for_black_text():
    for word in WORDS:
        red, green, blue = (int(boards.SHADES[word][i : i + 2], 16) for i in (1, 3, 5))
        assert 0.2126 * red + 0.7152 * green + 0.0722 * blue > 180


def test_markdown_is_one_table_with_a_row_a_claim(claims_board):
    text = boards.claims_markdown(claims_board, title="Profile x")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 5
    assert rows[0] == "| claim | verdict on the paper | tested, and found |"
    assert "a \\| slope" in rows[2]
    assert "**reproduced**" in rows[2]
    assert len({row.replace("\\|", "").count("|") for row in rows}) == 1
    with_one = boards.claims_markdown(claims_board.assign(stand_in="digits"), title="t")
    assert "on the stand-in (says nothing about the paper)" in with_one


def test_markdown_is_written(claims_board, tmp_path):
    path = boards.write_markdown(claims_board, tmp_path / "new" / "claims.md", title="Profile x")
    assert path.read_text(encoding="utf-8") == boards.claims_markdown(claims_board, title="Profile x")


def test_two_tables_on_a_page_do_not_share_their_style(claims_board):
    uuids = {
        boards.claims_table(claims_board, title="t").uuid,
        boards.remarks_table("table06").uuid,
        boards.attainable_table("table02").uuid,
    }
    assert len(uuids) == 3
    assert boards.remarks_table("table06").uuid in uuids


def test_remarks_hold_the_point_what_is_known_and_ours():
    shown = boards.remarks_table("table06").data
    assert shown.columns.tolist() == ["what is known", "ours"]
    assert shown.loc["networks for SVHN", "ours"] == "ResNet-56 → ResNet-20."


def test_the_attainable_range_stands_beside_each_reported_value():
    table = boards.attainable_table("table09")
    teacher = table.data.loc["eyeglasses by young: Teacher"]
    assert teacher.tolist() == ["98.57", "1.18", "2.14", "10.3 to 14.2 *", "12.0 to 16.0 *"]
    assert table.data.loc["smiling by young: DS, T = 10", "DPD possible, validation"] == "1.3 to 11.3"
    assert "eyeglasses by young 13.38 (test)" in table.caption
    assert table.data.index.tolist()[:3] == [f"eyeglasses by young: {arm}" for arm in ("Teacher", "NDS", "DS, T = 1")]


def test_where_no_counts_are_known_that_is_said():
    table = boards.attainable_table("table10")
    assert table.data.empty
    assert table.caption.endswith("The composition of these test sets is not known.")


@pytest.mark.parametrize("artefact", ["table01", "table06", "table09", "claims"])
def test_latex_is_plain_ascii(artefact):
    assert tables.rendered(boards.remarks_table(artefact))["tex"].decode().isascii()
