"""Figures show the numbers of their tables, say what they are of, fit on the page, and are saved with their data."""

import json
from dataclasses import replace
from io import BytesIO

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from kdlib.errors import InvalidInput, StoreError
from kdlib.measure import class_bias, fairness
from kdlib.paper.read_figures import against_table_6
from kdlib.predictions import softmax
from kdlib.show import class_figures, fairness_figures, image_figures, save, style
from kdlib.studies import load_profile
from tests import simulated

TITLE = "A study\nstand-in, not the paper's study"


@pytest.fixture(scope="module")
def found():
    p = simulated.study(n_classes=4, total=40, temperatures=(1, 4, 10, 40), effect=0.04)
    return simulated.with_groups(p, color=np.resize(["red", "green", "blue"], len(p.labels)))


@pytest.fixture(scope="module")
def changes(found):
    return class_figures.class_accuracy_rows(found)


@pytest.fixture(scope="module")
def rows(found):
    return fairness.table(found, sensitive="color")


@pytest.fixture(scope="module")
def counts(found):
    return class_bias.counts(found)


@pytest.fixture(scope="module")
def count_rows(found):
    return class_bias.table(found)


def counts_figure(rows, title=TITLE):
    return class_figures.significant_counts(rows, classes=4, title=title)


def matrices():
    first, second = np.array([[5, 1, 0], [2, 9, 0], [0, 4, 3.0]]), np.array([[9, 0, 0], [0, 8.6, 0.4], [0, 0, 6.0]])
    return pd.concat(
        [
            class_figures.long_matrix(first, ["a", "b", "c"], panel="NDS"),
            class_figures.long_matrix(second, ["a", "b", "c"], panel="DS, T = 4"),
        ]
    )


def labels(ax):
    return ax.get_legend_handles_labels()[1]


def artist(ax, label):
    handles, names = ax.get_legend_handles_labels()
    return handles[names.index(label)]


# ------------------------------------------------------------------------------------------------------------- pictures


def test_class_accuracy_has_a_dot_a_class_and_temperature(changes):
    ax = class_figures.class_accuracy(changes, title=TITLE).axes[0]
    for t, rows in changes.groupby("temperature"):
        dots = artist(ax, f"DS ± 1 sd, T = {t:g}").get_offsets()
        assert dots[:, 1].tolist() == pytest.approx(100 * rows["mean_b"].to_numpy())
        assert np.round(dots[:, 0]).tolist() == [0, 1, 2, 3]


def test_class_accuracy_crosses_exactly_the_significant(changes):
    for ax, column in zip(
        class_figures.class_accuracy(changes, title=TITLE).axes, ("mean_b", "difference"), strict=True
    ):
        crosses = [c for c in ax.collections if c.get_linewidth()[0] == style.CROSS["linewidth"]]
        heights = np.concatenate([c.get_offsets()[:, 1] for c in crosses])
        assert sorted(heights) == pytest.approx(sorted(100 * changes[changes["significant"]][column]))
        assert 0 < len(heights) < len(changes)
        others = [c for c in ax.collections if c not in crosses and c.get_zorder() < 6]
        above = [c for c in ax.collections if c.get_zorder() == 6]
        assert max(c.get_zorder() for c in others) < min(c.get_zorder() for c in crosses if c.get_path_effects())
        assert sum(len(c.get_offsets()) for c in above) == len(heights), "nothing but its own dot lies on a cross"


def test_an_interval_of_the_relative_accuracy_leaves_out_0_where_there_is_a_cross(changes):
    below = class_figures.class_accuracy(changes, title=TITLE).axes[1]
    bars = np.concatenate([bar.get_segments() for container in below.containers for bar in container[2]])
    apart = (bars[:, :, 1].min(axis=1) > 0) | (bars[:, :, 1].max(axis=1) < 0)
    assert apart.tolist() == changes["significant"].tolist() and 0 < apart.sum() < len(apart)


def test_the_teacher_stands_beside_its_students(changes, found):
    ax = class_figures.class_accuracy(changes, title=TITLE).axes[0]
    teacher = found.arm(model="teacher")
    expected = [100 * (teacher.predicted == teacher.labels)[:, teacher.labels == c].mean() for c in range(4)]
    assert [s[0, 1] for s in artist(ax, "teacher mean").get_segments()] == pytest.approx(expected)
    alone = class_figures.class_accuracy(changes.drop(columns="mean_teacher"), title=TITLE)
    assert "teacher mean" not in labels(alone.axes[0])


def test_class_accuracy_ticks_are_the_mean_of_nds(changes):
    ax = class_figures.class_accuracy(changes, title=TITLE).axes[0]
    expected = 100 * changes.drop_duplicates("class_index")["mean_a"]
    assert [s[0, 1] for s in artist(ax, "NDS mean").get_segments()] == pytest.approx(expected.tolist())


def test_the_papers_dots_and_crosses_are_hollow_and_only_where_there_are_any(changes):
    assert not [name for name in labels(class_figures.class_accuracy(changes, title=TITLE).axes[0]) if "paper" in name]
    changes = changes.reset_index(drop=True)
    known = changes["temperature"].isin([1, 4]).to_numpy()
    paper = changes.assign(paper_accuracy=np.where(known, 0.5, np.nan), paper_significant=np.where(known, 0.0, np.nan))
    paper.loc[1, ["paper_accuracy", "paper_significant"]] = 0.6, 1  # class 1 at the lowest T
    ax = class_figures.class_accuracy(paper, title="The paper's study").axes[0]
    ours, dots = artist(ax, "DS ± 1 sd, T = 4").get_offsets(), artist(ax, "DS, paper").get_offsets()
    assert len(dots) == 2 * 4 - 1 and set(dots[:, 1]) == {50}
    assert dots[-4:, 0].tolist() == pytest.approx(ours[:, 0].tolist()), "below or above ours of the same class and T"
    (cross,) = artist(ax, "DS differs from\nNDS, paper").get_offsets()
    assert cross.tolist() == pytest.approx([artist(ax, "DS ± 1 sd, T = 1").get_offsets()[1, 0], 60])
    assert not artist(ax, "DS, paper").get_facecolor().size, "hollow"


def test_disagreement_shares_one_scale_and_leaves_the_diagonal_out():
    axes = class_figures.disagreement(matrices(), title=TITLE).axes
    images = [ax.images[0] for ax in axes[:2]]
    assert [image.get_clim() for image in images] == [(0, 4)] * 2
    assert all(np.diag(image.get_array().mask).all() for image in images)
    assert images[0].get_array()[2, 1] == 4  # row: the teacher's c, column: the student's b


def test_disagreement_says_how_many():
    titles = [ax.get_title(loc="left") for ax in class_figures.disagreement(matrices(), title=TITLE).axes[:2]]
    assert "NDS" in titles[0]
    assert "7 of 24 images (29.2 %)" in titles[0]
    assert "0 of 24 images (1.7 %)" in titles[1]


def test_the_third_panel_is_what_distillation_changes():
    ax = class_figures.disagreement(matrices(), title=TITLE).axes[2]
    assert ax.get_title(loc="left") == "DS − NDS:\n−7 images"  # 0.4 less 7
    shown = ax.images[0].get_array()
    assert (shown[2, 1], shown[1, 2], ax.images[0].get_clim()) == (-4, 0.4, (-4, 4))
    assert {text.get_text() for text in ax.texts} == {"−1", "−2", "−4"}


def test_the_papers_matrices_stand_below_ours_in_the_same_scale_as_they_are_printed():
    printed = matrices().query("teacher_index != student_index").assign(count=lambda rows: 2 * rows["count"].round())
    both = pd.concat([matrices(), printed.assign(panel=printed["panel"] + ", paper")])
    axes = class_figures.disagreement(both, title="The paper's study").axes
    assert (
        axes[0].get_position().x0 == axes[3].get_position().x0 and axes[0].get_position().y0 > axes[3].get_position().y1
    )
    assert [ax.images[0].get_clim() for ax in axes] == [(0, 8), (0, 8), (-8, 8)] * 2
    assert {text.get_text() for text in axes[3].texts} == {"2", "4", "8"}
    assert "at least 14 of 24 images (58.3 %)" in axes[3].get_title(loc="left")
    assert all(np.diag(ax.images[0].get_array().mask).all() for ax in axes)


def test_the_accuracy_that_the_paper_says_twice():
    rows = against_table_6()
    left, right = class_figures.two_accuracies(rows, title="t").axes
    assert (left.get_title(loc="left"), right.get_title(loc="left")) == ("CIFAR-10", "SVHN")
    assert artist(left, "DS, table 6").get_ydata().tolist()[:2] == [90.76, 90.92]
    assert artist(right, "NDS, table 6").get_ydata() == [95.31, 95.31]
    line, _, (bars,) = artist(left, "DS, mean over the classes of figure 1").lines
    assert line.get_ydata()[0] == pytest.approx(89.064)
    assert bars.get_segments()[0][:, 1].tolist() == pytest.approx(rows.loc[0, ["low", "high"]].tolist())


def test_disagreement_writes_numbers_for_few_classes_only():
    assert {t.get_text() for t in class_figures.disagreement(matrices(), title=TITLE).axes[0].texts} == {"1", "2", "4"}
    many = class_figures.long_matrix(np.ones((40, 40)), [f"class {i}" for i in range(40)], panel="NDS")
    assert not class_figures.disagreement(many, title=TITLE).axes[0].texts


def test_disagreement_of_none_is_drawn():
    same = class_figures.long_matrix(np.diag([3.0, 4.0]), ["a", "b"], panel="NDS")
    assert "0 of 7 images" in class_figures.disagreement(same, title=TITLE).axes[0].get_title(loc="left")


def test_a_matrix_survives_becoming_rows():
    matrix = np.arange(9.0).reshape(3, 3)
    back = class_figures.as_matrix(
        class_figures.long_matrix(matrix, ["x", "a", "m"], panel="NDS").sample(frac=1, random_state=0)
    )
    assert back.to_numpy().tolist() == matrix.tolist()
    assert back.index.tolist() == back.columns.tolist() == ["x", "a", "m"]


def test_two_classes_of_one_name_stay_two():
    assert class_figures.as_matrix(class_figures.long_matrix(np.eye(2), ["a", "a"], panel="NDS")).shape == (2, 2)


def test_counts_and_band_above_accuracy_below(counts, count_rows):
    left, right = counts_figure(count_rows).axes
    assert artist(left, "#SC: DS and NDS").get_ydata().tolist() == counts["n_significant_sc"].tolist()
    assert artist(left, "#TC: DS and teacher").get_ydata().tolist() == counts["n_significant_tc"].tolist()
    assert artist(right, "DS").lines[0].get_ydata() == pytest.approx(100 * counts["accuracy_mean"].to_numpy())
    for model in ("teacher", "nds"):
        mean = 100 * style.of(count_rows, "accuracy", model)["mean"].item()
        assert artist(right, style.NAMES[model]).lines[0].get_ydata() == pytest.approx(mean)
    heights = artist(left, "chance alone (95 %)").get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (counts["null_low"].min(), counts["null_high"].max())
    assert left.get_ylabel() == "significant classes (of 4)"


def test_equal_counts_are_both_seen(count_rows):
    equal = count_rows.assign(mean=count_rows["mean"].where(count_rows["unit"] != "classes", 2))
    figure = counts_figure(equal)
    figure.draw_without_rendering()
    lines = [artist(figure.axes[0], name) for name in ("#SC: DS and NDS", "#TC: DS and teacher")]
    places = [line.get_transform().transform(line.get_xydata()) for line in lines]
    apart = (places[1] - places[0]) * 72 / figure.dpi
    assert apart[:, 0] == pytest.approx(8) and apart[:, 1] == pytest.approx(0), "in points; a marker has 5"


def with_numbers(rows, **numbers):
    return rows.assign(paper_mean=rows["metric"].map(numbers).astype(float))


def test_the_papers_counts_are_hollow_and_only_where_there_are_any(count_rows):
    assert not any("paper" in name for ax in counts_figure(count_rows).axes for name in labels(ax))
    left, right = counts_figure(with_numbers(count_rows, n_significant_sc=40, accuracy=0.5)).axes
    hollow = artist(left, "#SC, paper")
    assert set(hollow.get_ydata()) == {40}
    assert (hollow.get_markerfacecolor(), hollow.get_linestyle()) == ("none", "None")
    assert left.get_ylim()[1] > 40
    assert set(artist(right, "DS, paper").get_ydata()) == {50}
    assert "#TC, paper" not in labels(left)


def test_the_papers_fairness_is_hollow_in_percent(rows):
    shown = fairness_figures.group_fairness(with_numbers(rows, eod=0.02), sensitive="color", title=TITLE)
    assert set(artist(shown.axes[0], "DS, paper").get_ydata()) == {2}
    assert "DS, paper" not in labels(shown.axes[2])
    assert [len(artist(ax, "DS").lines[0].get_xdata()) for ax in shown.axes[:2]] == [3, 4], "the paper's two columns"


def test_counts_without_a_teacher_are_drawn(found):
    students = found.take(np.flatnonzero(found.runs["model"] != "teacher"))
    assert np.isnan(artist(counts_figure(class_bias.table(students)).axes[0], "#TC: DS and teacher").get_ydata()).all()


def test_panels_stand_on_any_ax(changes, count_rows, rows):
    axes = matplotlib.figure.Figure().subplots(2, 2).flat
    class_figures.class_accuracy_panel(axes[0], changes)
    class_figures.disagreement_panel(axes[1], class_figures.as_matrix(matrices().query("panel == 'NDS'")), largest=4)
    class_figures.significant_counts_panel(axes[2], count_rows, classes=4)
    fairness_figures.disparity_panel(axes[3], rows[~(rows["temperature"] > 4)], measure="eod")
    assert "NDS mean" in labels(axes[0]) and axes[1].images and "#SC: DS and NDS" in labels(axes[2])
    assert artist(axes[3], "DS").lines[0].get_xdata().tolist() == [1, 4]


def test_fairness_shows_means_levels_floor_and_labels(rows):
    axes = fairness_figures.group_fairness(rows, sensitive="color", title=TITLE).axes

    def percent(metric, model="ds"):
        return 100 * style.of(rows, metric, model)["mean"].to_numpy()

    assert len(axes) == 2 and axes[0].get_xscale() == "log", "the same data once"
    assert artist(axes[0], "DS").lines[0].get_ydata() == pytest.approx(percent("eod"))
    assert artist(axes[1], "DS").lines[0].get_ydata() == pytest.approx(percent("dpd"))
    assert artist(axes[0], "teacher").lines[0].get_ydata() == pytest.approx(percent("eod", "teacher"))
    assert artist(axes[1], "DPD of the labels").get_ydata()[0] == pytest.approx(percent("label_dpd")[0])
    assert "DPD of the labels" not in labels(axes[0])
    floor = artist(axes[0], "attribute-blind model: mean (floor)").get_ydata()
    assert floor == pytest.approx(percent("eod_floor"))


@pytest.mark.parametrize(("feature", "words"), [("gender_majority", "gender, majority"), ("male", "Male")])
def test_groups_are_named_in_words(rows, feature, words):
    shown = fairness_figures.group_fairness(rows, sensitive=feature, title=TITLE)
    assert shown.axes[0].get_ylabel() == f"EOD by {words} (%)"


@pytest.mark.parametrize(("temperatures", "scale"), [((2, 3, 10), "linear"), ((1, 4, 40), "log")])
def test_wide_spans_of_temperature_get_a_log_axis(count_rows, temperatures, scale):
    few = count_rows[count_rows["temperature"].isin([1, 4, 10])]
    few = few.assign(temperature=few["temperature"].map(dict(zip([1, 4, 10], map(float, temperatures), strict=True))))
    ax = counts_figure(few).axes[1]
    assert ax.get_xscale() == scale
    assert [t.get_text() for t in ax.get_xticklabels()] == [str(t) for t in temperatures]


def test_the_students_of_figure_2_are_at_the_nearest_temperature(found):
    rows = class_figures.disagreement_counts(found, near=9)
    assert rows["panel"].unique().tolist() == ["NDS", "DS, T = 10"]
    students, teacher = found.arm(model="ds", temperature=10), found.arm(model="teacher")
    matrix = class_figures.as_matrix(rows[rows["panel"] == "DS, T = 10"]).to_numpy()
    assert matrix.tolist() == class_bias.disagreement(teacher, students).tolist()


def test_image_grid_places_images_by_feature():
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((3, 3, 4, 4), np.uint8)
    cells = pd.DataFrame({"feature": ["color", "shape", "color"], "value": ["red", "star", "blue"]})
    axes = image_figures.image_grid(images, cells, title=TITLE).axes
    assert [ax.images[0].get_array()[0, 0, 0] for ax in axes if ax.images] == [0, 2, 1]
    with pytest.raises(InvalidInput, match="2 .* 3"):
        image_figures.image_grid(images[:2], cells, title=TITLE)


def softened():
    """Logits 0 and 2."""
    cat, dog = softmax(np.array([0.0, 2.0])).tolist()
    return image_figures.softening({"cat": cat, "dog": dog}, temperatures=(1, 10))


def test_softened_bars_are_the_probabilities():
    axes = image_figures.softened(softened(), title="t").axes
    assert [bar.get_height() for bar in axes[0].patches] == pytest.approx([0.1192, 0.8808], abs=1e-4)  # 1 / (1 + e^2)
    assert [bar.get_height() for bar in axes[1].patches] == pytest.approx([0.4502, 0.5498], abs=1e-4)  # 1 / (1 + e^0.2)


# ------------------------------------------------------------------------------------------------------ what all share


def every_figure(changes, count_rows, rows):
    images = np.zeros((2, 3, 8, 8), np.uint8)
    cells = pd.DataFrame({"feature": "shape", "value": ["star", "fivesquare"]})
    many = pd.concat([changes.assign(class_index=i, class_name=f"a rather long name {i}") for i in range(60)])
    title = "A long title of a study, with networks of long names, ResNet-56 → a student with a long name\nstand-in"
    yield class_figures.class_accuracy(changes, title=title)
    yield class_figures.class_accuracy(many.groupby(["class_index", "temperature"]).head(1), title=title)
    yield class_figures.class_accuracy(changes.assign(paper_accuracy=0.5, paper_significant=0), title=title)
    yield class_figures.two_accuracies(against_table_6(), title=title)
    yield class_figures.disagreement(matrices(), title=title)
    again = matrices().assign(teacher=lambda rows: "a rather long " + rows["teacher"])
    yield class_figures.disagreement(pd.concat([again, again.assign(panel=again["panel"] + ", paper")]), title=title)
    for n in (12, 25, 100):
        yield class_figures.disagreement(
            class_figures.long_matrix(np.ones((n, n)), [f"a rather long name {i}" for i in range(n)], panel="NDS"),
            title=title,
        )
    yield counts_figure(count_rows, title)
    yield fairness_figures.group_fairness(rows, sensitive="color", title=title)
    yield fairness_figures.group_fairness(with_numbers(rows, eod=0.02), sensitive="color", title=title)
    yield image_figures.image_grid(images, cells, title=title)
    yield image_figures.softened(softened(), title=title)


def test_no_text_is_cut_off(changes, count_rows, rows):
    for figure in every_figure(changes, count_rows, rows):
        figure.draw_without_rendering()
        page = figure.bbox.padded(1)
        for text in figure.findobj(matplotlib.text.Text):
            box = text.get_window_extent()
            if text.get_visible() and text.get_text() and text.get_figure() is figure and box.width:
                assert page.x0 <= box.x0, text
                assert box.x1 <= page.x1, text
                assert page.y0 <= box.y0, text
                assert box.y1 <= page.y1, text


def test_every_figure_says_stand_in(changes, count_rows, rows):
    for figure in every_figure(changes, count_rows, rows):
        assert "stand-in" in figure.get_suptitle() and figure.caption.endswith(".")


def luminance(color):
    return np.dot([0.299, 0.587, 0.114], to_rgb(color))


def test_teacher_nds_and_ds_differ_in_grey_marker_and_line():
    grey = [luminance(style.COLORS[model]) for model in ("teacher", "nds", "ds")]
    assert np.diff(sorted(grey)).min() > 0.15
    assert len(set(style.MARKERS.values())) == 3
    assert len({style.LINES[model] for model in ("teacher", "nds", "ds", "chance")}) == 4


def test_greens_darken_with_temperature():
    grey = [luminance(color[:3]) for color in style.greens(10)]
    assert (np.diff(grey) < 0).all()
    assert grey[0] - grey[-1] > 0.5


def test_the_callers_style_is_neither_used_nor_changed(count_rows):
    wanted = style.rendered(counts_figure(count_rows), "png")
    with matplotlib.rc_context({"font.size": 31, "axes.facecolor": "red", "savefig.dpi": 20}):
        before = dict(matplotlib.rcParams)
        got = style.rendered(counts_figure(count_rows), "png")
        assert dict(matplotlib.rcParams) == before
    assert got == wanted


def test_figures_show_themselves_in_notebooks(count_rows):
    assert imread(BytesIO(counts_figure(count_rows)._repr_png_())).shape[2] in (3, 4)


def test_the_caption_stands_below_the_picture_in_a_notebook(count_rows, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.publish_display_data", shown.append)
    figure = counts_figure(count_rows)
    figure._ipython_display_()
    assert "image/png" in shown[0] and shown[1]["text/markdown"] == figure.caption


def test_heading_says_stand_in_where_it_is_one():
    study = load_profile("quick").study("digits")
    assert style.heading(study).splitlines() == [study.title, "stand-in, not the paper's study"]
    assert style.heading(study, "5 seeds").endswith("\nstand-in, not the paper's study; 5 seeds")


def test_seeds_are_those_of_students(found):
    assert style.seeds(found.runs) == "5 seeds"
    more = found.runs[found.runs["model"] == "teacher"].assign(seed=lambda rows: rows["seed"] + 90)
    assert style.seeds(pd.concat([found.runs, more])) == "5 seeds"
    lost = found.runs.drop(found.runs.index[(found.runs["model"] == "ds") & (found.runs["seed"] == 1)][:1])
    assert style.seeds(lost) == "4 to 5 seeds"


def test_heading_of_the_papers_own_study_is_its_title():
    from tests.paper.test_numbers import cifar10

    assert style.heading(cifar10()) == "CIFAR-10, ResNet-56 → ResNet-20"


# --------------------------------------------------------------------------------------------------------------- saving


@pytest.fixture
def saved(found, counts, count_rows, tmp_path):
    study = load_profile("quick").study("digits")
    about = save.about(study, found, profile="quick", shows="counts")
    return counts, save.save(
        counts_figure(count_rows), counts, name="fig3_digits", out_dir=tmp_path / "new", about=about
    )


def test_a_figure_is_saved_with_its_data_and_what_it_is_of(saved, found, count_rows):
    counts, paths = saved
    assert [path.name for path in paths] == [f"fig3_digits.{kind}" for kind in ("png", "pdf", "csv", "json")]
    pd.testing.assert_frame_equal(pd.read_csv(paths[2]), counts, check_dtype=False)
    about = json.loads(paths[3].read_bytes())
    assert (about["profile"], about["study"], about["seeds"], about["shows"]) == ("quick", "digits", 5, "counts")
    assert about["stand_in"] == ["data set digits is not in the paper"]
    assert about["caption"] == counts_figure(count_rows).caption
    assert (about["runs"], about["test_samples"]) == (len(found.runs), len(found.labels))
    assert imread(paths[0]).ndim == 3
    assert paths[1].read_bytes().startswith(b"%PDF")


def test_saving_again_gives_the_same_bytes(saved, count_rows):
    counts, paths = saved
    before = [path.read_bytes() for path in paths]
    about = json.loads(paths[3].read_bytes())
    save.save(counts_figure(count_rows), counts, name="fig3_digits", out_dir=paths[0].parent, about=about)
    assert [path.read_bytes() for path in paths] == before


def test_absent_runs_are_named(found):
    study = load_profile("quick").study("digits")
    missing = replace(found, absent=("ds seed 3 T=4: failed",))
    assert save.about(study, missing, profile="quick", shows="")["absent"] == ["ds seed 3 T=4: failed"]


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(saved, tmp_path):
    (tmp_path / "file").write_text("")
    shown = image_figures.softened(softened(), title="t")
    with pytest.raises(StoreError) as error:
        save.save(shown, softened(), name="x", out_dir=tmp_path / "file", about={})
    assert str(tmp_path / "file") in str(error.value)


def test_names_that_look_like_formulas_are_saved_as_text(tmp_path):
    data = softened().assign(class_name=["=1+1", "@x", "-a", "plain"])
    paths = save.save(image_figures.softened(softened(), title="t"), data, name="x", out_dir=tmp_path, about={})
    assert pd.read_csv(paths[2])["class_name"].tolist() == ["'=1+1", "'@x", "'-a", "plain"]
