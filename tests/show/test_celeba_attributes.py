"""Table 5 and figure 6: counts of the official lists, the printed rows beside the rows that they are."""

import numpy as np
import pandas as pd
import pytest

from kdlib import places
from kdlib.data import celeba
from kdlib.show import celeba_attributes
from tests import celeba_files as files
from tests import real_data

pytestmark = pytest.mark.filterwarnings("ignore::kdlib.errors.KdlibWarning")  # small lists are not the published


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return celeba.read_attributes(files.write_lists(tmp_path_factory.mktemp("data")))


def test_the_printed_rows_stand_alone_without_attributes():
    rows = celeba_attributes.training_rows(None)
    assert rows["row"].tolist() == ["smiling, printed as “Not Smiling”", "not smiling, printed as “Smiling”"]
    assert rows["young"].tolist() == [59765, 61793]
    assert rows["images"].tolist() == [78080, 78080]
    assert (rows["young"] + rows["not_young"] == rows["male"] + rows["not_male"]).all()


def test_counts_by_hand(lists):
    """Of the 8 training images 1, 4 and 8 smile; of the other five 2, 5, 6 are young and 2, 3, 5 male."""
    rows = celeba_attributes.training_rows(lists).set_index("row")
    assert rows.loc["smiling, all", celeba_attributes.COUNTED].tolist() == [3, 0, 1, 2]
    assert rows.loc["not smiling, all", celeba_attributes.COUNTED].tolist() == [3, 2, 3, 2]
    assert (
        rows.loc["not smiling, undersampled by kdlib", "images"],
        rows.loc["both, balanced by kdlib", "images"],
    ) == (3, 6)


def test_what_undersampling_gives_on_average_is_the_mean_over_all_choices(lists):
    """3 of 5: ten choices, each as likely; young are 3 of the 5."""
    row = celeba_attributes.training_rows(lists).set_index("row").loc["not smiling, undersampled at random"]
    choices = [sum(kept) for kept in ((a, b, c) for a, b, c in _triples([1, 0, 1, 1, 0]))]
    assert row["young"] == pytest.approx(np.mean(choices)) == pytest.approx(1.8)
    assert row["sd_young"] == pytest.approx(np.std(choices)) == pytest.approx(0.6)


def _triples(values):
    n = len(values)
    return [(values[i], values[j], values[k]) for i in range(n) for j in range(i + 1, n) for k in range(j + 1, n)]


def test_the_table_shows_counts_spread_and_percent(lists):
    shown = celeba_attributes.training_table(celeba_attributes.training_rows(lists), title="A title").data
    assert shown.loc["smiling, all"].tolist() == ["3", "3 (100.00)", "0 (0.00)", "1 (33.33)", "2 (66.67)"]
    assert shown.loc["not smiling, undersampled at random", "young"] == "2 ± 1 (60.00)"
    assert shown.loc["both, as printed (paper)", "images"] == "156,160"


def test_shares_of_attributes_by_hand(lists):
    shares = celeba_attributes.attribute_shares(lists).set_index("attribute")
    assert shares.index[0] == "Young"
    assert shares.index[-1] == "Wearing_Hat"
    assert shares.loc["Smiling"].tolist() == [6, 6 / 12, 3 / 8, 1 / 2, 2 / 2]


def test_the_figure_has_a_bar_an_attribute_in_order_and_marks_those_that_are_used(lists):
    shares = celeba_attributes.attribute_shares(lists)
    figure = celeba_attributes.attribute_bars(shares, title="A title")
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == shares["attribute"].str.replace("_", " ").tolist()
    widths = {round(bar.get_y() + bar.get_height() / 2): bar.get_width() for bar in ax.patches}
    assert [widths[i] for i in range(5)] == pytest.approx((100 * shares["share"]).tolist())
    assert [len(bars) for bars in ax.containers] == [2, 2, 1]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the most frequent on top"
    assert figure._suptitle.get_text() == "A title"


def test_missing_lists_are_said_without_the_place_of_this_machine(tmp_path):
    said = celeba_attributes.not_run(tmp_path)
    assert said.startswith("not run: ") and "`kdlib fetch celeba`" in said
    assert str(tmp_path) not in said
    assert celeba_attributes.not_run(files.write_lists(tmp_path)) == ""


@real_data.requires("celeba")
def test_the_printed_rows_are_swapped():
    rows = celeba_attributes.training_rows(celeba.read_attributes(places.data_dir() / "celeba")).set_index("row")
    counts = rows[celeba_attributes.COUNTED]
    pd.testing.assert_series_equal(
        counts.loc["smiling, all"], counts.loc["smiling, printed as “Not Smiling”"], check_names=False
    )
    assert rows.loc["not smiling, all", "images"] == 84_690
    drawn, printed = (rows.loc[f"not smiling, {how}"] for how in ("undersampled at random", "printed as “Smiling”"))
    assert abs(printed["young"] - drawn["young"]) < drawn["sd_young"]
    assert abs(printed["male"] - drawn["male"]) < drawn["sd_male"]
