"""What the paper leaves open or contradicts, and the DPD that its own accuracy and EOD leave possible."""

import numpy as np
import pytest

from kdlib.catalogue import ARTEFACTS
from kdlib.errors import InvalidInput
from kdlib.paper import attainable, silences


def test_every_remark_belongs_to_artefacts_and_says_all_three_things():
    for entry in silences.every():
        assert set(entry) == {"point", "artefacts", "known", "ours"} and all(entry.values())
        assert set(entry["artefacts"]) <= set(ARTEFACTS)


def test_points_are_named_once():
    points = [entry["point"] for entry in silences.every()]
    assert len(set(points)) == len(points)


@pytest.mark.parametrize(
    ("artefact", "word"),
    [
        ("table01", "426 of 1000"),
        ("table06", "a table header: ResNet-50"),
        ("table02", "9.05, 9.01, 8.86"),
        ("table04", "Lipschitz"),
        ("table05", "swapped"),
        ("table09", "13.4 points"),
        ("table10", "texture-label block"),
        ("fig1", "airplane, truck"),
        ("fig1", "77.02 % at T = 3"),
        ("fig1", "8 of 10 classes"),
        ("table06", "0.6 to 1.8 points below"),
        ("fig2", "867 to 819 of 10,000"),
        ("fig2", "cat → frog 9 and 17"),
        ("claims", "1,126 to"),
        ("fig3", "8 in figure 8"),
        ("fig4", "3.29"),
        ("fig5", "11.7"),
    ],
)
def test_each_contradiction_stands_where_it_belongs(artefact, word):
    assert silences.remarks(artefact)["known"].str.contains(word).any()


def test_an_unknown_artefact_is_named():
    with pytest.raises(InvalidInput, match="table6"):
        silences.remarks("table6")


def test_label_counts_are_of_the_official_splits():
    sizes = {"test": 19962, "validation": 19867}
    for counts in attainable.LABEL_COUNTS:
        total = sum(counts.positives) + sum(counts.negatives)
        assert total == (1924 if counts.dataset == "hatexplain" else sizes[counts.split])
    per_label = {}
    for c in attainable.LABEL_COUNTS:
        per_label.setdefault((c.dataset, c.label, c.split.split(",")[0]), set()).add(sum(c.positives))
    assert all(len(found) == 1 for found in per_label.values()), "positives differ between groupings of one split"


def test_the_reported_dpd_of_celeba_by_young_fits_the_validation_split_alone():
    found = attainable.ranges("table02")
    assert found.groupby("split")["inside"].all().to_dict() == {"test": False, "validation": True}
    teacher = found[(found["model"] == "teacher") & (found["split"] == "test")].iloc[0]
    assert (round(100 * teacher["highest"], 1), teacher["dpd"]) == (6.2, 0.0941)
    assert teacher["label_dpd"] == pytest.approx(0.0176, abs=1e-4)


def test_the_reported_dpd_of_eyeglasses_fits_no_split():
    found = attainable.ranges("table09").query("label == 'eyeglasses'")
    assert not found["inside"].any()
    lowest = found[found["model"] == "teacher"].set_index("split")["lowest"]
    assert (100 * lowest).round(1).to_dict() == {"test": 10.3, "validation": 12.0}


def test_hatexplain_takes_the_accuracy_that_all_features_share():
    found = attainable.ranges("table03").query("sensitive == 'race' and model == 'teacher' and split == 'test, any'")
    assert found["accuracy"].item() == 0.7579
    assert round(100 * found["lowest"].item(), 1) == 11.7
    assert not found["inside"].item()


def test_nothing_is_said_of_test_sets_that_the_paper_does_not_describe():
    assert attainable.ranges("table10").empty


def test_ranges_are_ranges():
    for artefact in ("table02", "table03", "table09"):
        found = attainable.ranges(artefact)
        assert (found["lowest"] <= found["highest"]).all()
        assert np.isfinite(found[["lowest", "highest"]]).all(axis=None)
