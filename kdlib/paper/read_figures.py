"""What figures 1 and 2 of the paper show, beside our own figures, and whether it agrees with the paper's tables.

The numbers were read off the published pictures: `reported_fig1.csv`, `reported_fig2.csv`. No torch.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats as distributions

from kdlib import files
from kdlib.data import PUBLISHED
from kdlib.errors import InvalidInput
from kdlib.paper.numbers import reported
from kdlib.paper.stand_in import SEEDS, stand_in_reasons
from kdlib.studies import Study

FIGURE_1, FIGURE_2 = (Path(__file__).with_name(f"reported_fig{n}.csv") for n in (1, 2))
CLASS_NAMES = {dataset: PUBLISHED["classes"][dataset].split() for dataset in ("cifar10", "svhn")}
# Test images of each class.
IMAGES = {"cifar10": (1000,) * 10, "svhn": (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595)}
EXACT = {"dot": 0.003, "partly hidden": 0.06, "hidden": np.nan}  # how exactly a dot is read, percentage points
# Dots that others cover, and the lowest and highest percent at which they can be.
HIDDEN = {("cifar10", 5, 6): (86.0, 87.0), ("svhn", 8, 4): (92.1, 93.0)}
DOT, CELL = ["dataset", "class_index", "temperature"], ["dataset", "student", "teacher_class", "student_class"]


def class_accuracies() -> pd.DataFrame:
    """Figure 1 of the paper: one row per data set (CIFAR-10, SVHN), class and temperature (2 .. 10).

    dataset, class_index (0 .. 9), temperature, accuracy_percent (mean of five seeds), significant (1 where the figure
    has a cross, else 0), read, and low and high, the percent between which the dot lies. Read off the lab's published
    picture: 110 dots to 0.003 points ('dot'), 68 that others cover in part to 0.06 ('partly hidden'). Two are covered
    ('hidden'): their accuracy is NaN. A cross stands in place of a dot and is read at its center.
    Raises StoreError for a file that is not the one SHA256SUMS lists, InvalidInput for a row that cannot be.
    """
    table = pd.read_csv(io.BytesIO(files.read_verified(FIGURE_1)))
    places = table[DOT].itertuples(index=False, name=None)
    ends = pd.DataFrame([HIDDEN.get(place, (np.nan, np.nan)) for place in places], columns=["low", "high"])
    mean, error, hidden = table["accuracy_percent"], table["read"].map(EXACT), ends["low"].notna()
    fine = mean.between(0, 100).where(~hidden, mean.isna()) & table["read"].isin(EXACT) & ~table.duplicated(DOT)
    fine &= (hidden == (table["read"] == "hidden")) & table["significant"].isin((0, 1))
    fine &= table["dataset"].isin(IMAGES) & table["class_index"].isin(range(10))
    _refuse(table[~fine], f"{FIGURE_1.name}: percent lie in 0 .. 100, blank for {[*HIDDEN]} alone; read: {[*EXACT]}.")
    return table.assign(low=(mean - error).fillna(ends["low"]), high=(mean + error).fillna(ends["high"]))


def disagreements() -> pd.DataFrame:
    """Figure 2 of the paper: mean counts over five seeds of test images that teacher and student put in two classes.

    dataset, student ('nds' or 'ds'), temperature (of DS: 9 on CIFAR-10, 7 on SVHN), teacher_class, student_class
    (0 .. 9, never the same), count. The printed numbers of all four matrices, read twice, 360 of 360 alike. They are
    whole and look cut off, not rounded: the colors fit 0.4 to 0.5 more. Raises as `class_accuracies`.
    """
    table = pd.read_csv(io.BytesIO(files.read_verified(FIGURE_2)))
    classes = table[["teacher_class", "student_class"]]
    fine = (table["count"] >= 0) & (table["count"] % 1 == 0) & ~table.duplicated(CELL)
    fine &= classes.isin(range(10)).all(axis=1) & (classes["teacher_class"] != classes["student_class"])
    fine &= table["dataset"].isin(IMAGES) & table["student"].isin(("nds", "ds"))
    _refuse(table[~fine], f"{FIGURE_2.name}: counts are whole, 0 or more, one for each two classes of 0 .. 9.")
    return table


def _refuse(rows: pd.DataFrame, rule: str) -> None:
    for row in rows.to_dict("records"):
        raise InvalidInput(f"{rule} Correct the row {row}.")


# ------------------------------------------------------------------------------------------------------- beside our own


def beside_classes(changes: pd.DataFrame, study: Study) -> pd.DataFrame:
    """`changes` (as `class_figures.class_accuracy` takes them) with figure 1, where the study is the paper's own.

    Adds paper_accuracy (0 .. 1) and paper_significant (1, 0); NaN where the figure has no dot to read. A stand-in, and
    a data set that the figure does not show, come back without them.
    """
    theirs = class_accuracies().query("dataset == @study.dataset")
    if theirs.empty or stand_in_reasons(study):
        return changes.copy()
    added = {"paper_accuracy": theirs["accuracy_percent"] / 100, "paper_significant": theirs["significant"]}
    return changes.merge(theirs[DOT[1:]].assign(**added), on=DOT[1:], how="left", validate="one_to_one")


def beside_matrices(counts: pd.DataFrame, study: Study) -> pd.DataFrame:
    """`counts` (of `class_figures.long_matrix`) and two more panels, those of figure 2 without a diagonal.

    A stand-in, and a data set that the figure does not show, come back as they are.
    """
    theirs = disagreements().query("dataset == @study.dataset")
    if theirs.empty or stand_in_reasons(study):
        return counts.copy()
    panels = np.where(theirs["student"] == "nds", "NDS", theirs["temperature"].map("DS, T = {:g}".format)) + ", paper"
    names = counts.drop_duplicates("teacher_index").set_index("teacher_index")["teacher"]
    theirs = theirs.rename(columns={"teacher_class": "teacher_index", "student_class": "student_index"})
    both = {"teacher": theirs["teacher_index"].map(names), "student": theirs["student_index"].map(names)}
    return pd.concat([counts, theirs.assign(panel=panels, **both)[counts.columns]], ignore_index=True)


# ------------------------------------------------------------------------------------------------- against each other


def falls() -> pd.DataFrame:
    """Claim 7 on the paper's own matrices: one row per data set for all classes, one for the pair that leads.

    dataset, classes, nds and ds (counts of test images on which teacher and student differ), fall = nds - ds, and what
    could be seen, as no spread over seeds is published: p, two-sided, of two independent binomials, as if each count
    were of one run and images were independent; seed_sd, the sd over seeds (images) below which Welch's test on five
    seeds an arm has p <= 0.05 for this fall.
    """
    rows, seen = [], distributions.t.ppf(0.975, 2 * SEEDS - 2) * np.sqrt(2 / SEEDS)
    for dataset, cells in disagreements().groupby("dataset"):
        pairs = np.sort(cells[["teacher_class", "student_class"]], axis=1)
        names = [" and ".join(CLASS_NAMES[dataset][c] for c in pair) for pair in pairs]
        counts = cells.assign(pair=names).pivot_table(index="pair", columns="student", values="count", aggfunc="sum")
        lead = counts["nds"].idxmax()
        for classes, two in (("all", counts.sum()), (lead, counts.loc[lead])):
            fall, variance = two["nds"] - two["ds"], (two * (1 - two / sum(IMAGES[dataset]))).sum()
            p = 2 * distributions.norm.sf(abs(fall) / np.sqrt(variance))
            rows.append((dataset, classes, two["nds"], two["ds"], fall, p, fall / seen))
    return pd.DataFrame(rows, columns=["dataset", "classes", "nds", "ds", "fall", "p", "seed_sd"])


def against_table_6() -> pd.DataFrame:
    """Figure 1 beside table 6, one row per data set and temperature.

    dataset, temperature, crosses (the classes that have one), n_crosses, n_significant_sc (of the table), low and high
    (between which the mean over classes lies that the figure shows, weighted by test images; percent), accuracy and nds
    (of DS and of NDS by the table, percent), difference = (low + high) / 2 - accuracy.
    """
    rows, table = [], reported("table06")
    students = table[table["model"] == "ds"].pivot(index=["dataset", "temperature"], columns="metric", values="mean")
    nds = table[(table["model"] == "nds") & (table["metric"] == "accuracy")].set_index("dataset")["mean"]
    for (dataset, t), dots in class_accuracies().sort_values("class_index").groupby(["dataset", "temperature"]):
        crosses = [CLASS_NAMES[dataset][c] for c in dots.loc[dots["significant"] == 1, "class_index"]]
        count, accuracy = students.loc[(dataset, t), ["n_significant_sc", "accuracy"]]
        low, high = np.average(dots[["low", "high"]], axis=0, weights=IMAGES[dataset])
        means = (low, high, accuracy, nds[dataset], (low + high) / 2 - accuracy)
        rows.append((dataset, t, ", ".join(crosses), len(crosses), int(count), *means))
    columns = ["crosses", "n_crosses", "n_significant_sc", "low", "high", "accuracy", "nds", "difference"]
    return pd.DataFrame(rows, columns=["dataset", "temperature", *columns])


def lowest_at() -> pd.DataFrame:
    """How many classes have their lowest dot in figure 1 at which temperature: one row per data set, one column per T.

    The two hidden dots are left out; both lie above their class's lowest.
    """
    dots = class_accuracies()
    lowest = dots.loc[dots.groupby(DOT[:2])["accuracy_percent"].idxmin()]
    return pd.crosstab(lowest["dataset"], lowest["temperature"])
