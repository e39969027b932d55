"""Which of the paper's own counts of significant classes are more than chance, and more than a shift of accuracy?

Nothing is trained: the paper reports the accuracy of both arms behind every count, and that fixes what the count would
be if no class, or all classes alike, had changed. No torch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special
from scipy import stats as distributions

from kdlib.errors import InvalidInput
from kdlib.measure.class_bias import null_band
from kdlib.measure.class_nulls import ShiftModel, shifted, shifted_counts
from kdlib.measure.stats import require_share
from kdlib.paper.numbers import reported
from kdlib.paper.stand_in import SEEDS, STATED

SIZES = STATED["sizes"]  # classes, and test images of each
COUNTED_IN = ("table01", "table06", "table07", "table08")
PAIR = ["dataset", "teacher", "student", "alpha"]
REFERENCE = {"n_significant_sc": "nds", "n_significant_tc": "teacher"}


class Spread(NamedTuple):
    """What the paper does not report and the accuracy-shift null needs, so it is stated.

    class_sd   sd of the classes' log odds of being right, taken as normal: how much they differ in difficulty
    sampling   variance of a class's accuracy over seeds, in units of the binomial variance of its test images
    wobble     what seeds change beyond that, sd in arcsine radians: 0.03 are 1.5 points at 50 %, 0.9 at 90 %
    """

    class_sd: float
    sampling: float
    wobble: float

    def seed_sd(self, test_images: int) -> float:
        """Of a class over seeds, in arcsine radians."""
        return float(np.sqrt(self.sampling / test_images + self.wobble**2))


USUAL = Spread(class_sd=0.8, sampling=0.4, wobble=0.03)
# The largest counts: classes very different, seeds hardly. Less sampling than 0.2 would contradict the sd of the
# overall accuracies that the paper reports for CIFAR-100.
WIDEST = Spread(class_sd=1.1, sampling=0.2, wobble=0.015)
STANDINGS = ("up to chance", "up to an accuracy shift", "depends on the spread", "above both")


class Expected(NamedTuple):
    """A count's mean and interval under a null."""

    mean: float
    low: int
    high: int


@lru_cache(maxsize=1024)
def shift_band(
    accuracy_a: float, accuracy_b: float, *, classes: int, test_images: int, spread: Spread = USUAL
) -> Expected:
    """The paper's count where the log odds of all classes moved alike, from one overall accuracy to the other.

    `class_nulls.beyond_accuracy` for arms of which only the accuracy is known, fractions above 0 and below 1, with
    `test_images` of each class. The arms are independent: a student and its own teacher are not, so their count is
    lower. The interval is that of independent classes, as in `class_bias.null_band`.
    Raises InvalidInput for values out of range.
    """
    for name, value in (("accuracy_a", accuracy_a), ("accuracy_b", accuracy_b)):
        require_share(name, value)
    if min(classes, test_images) < 1 or min(spread) < 0 or spread.seed_sd(test_images) == 0:
        raise InvalidInput(
            f"{spread}, {classes} classes, {test_images} test images, {SEEDS} seeds: no spread may be negative, "
            "seeds must differ, and one class, one image and two seeds are the least."
        )
    profile = spread.class_sd * special.ndtri((np.arange(classes) + 0.5) / classes)
    sd, totals = np.full(classes, spread.seed_sd(test_images)), np.full(classes, test_images)
    arms = (shifted(profile, accuracy * totals.sum(), totals) for accuracy in (accuracy_a, accuracy_b))
    model, rng = ShiftModel(*arms, sd, totals, (SEEDS, SEEDS)), np.random.default_rng(0)
    found = [shifted_counts(rng, model, 1, "ratio")[0] for _ in range(int(np.clip(10_000 // classes, 10, 100)))]
    low, high = distributions.binom.ppf([0.025, 0.975], classes, np.mean(found) / classes)
    return Expected(float(np.mean(found)), int(low), int(high))


def reported_table() -> pd.DataFrame:
    """Every #SC and #TC of tables 1, 6, 7 and 8, once, with the accuracies of both arms.

    One row per count: artefact, dataset, teacher, student, alpha, temperature, metric ('n_significant_sc' or '_tc'),
    count, classes, accuracy_reference (of NDS or teacher) and accuracy (of DS), fractions.
    """
    table = pd.concat(map(reported, COUNTED_IN)).drop_duplicates([*PAIR, "model", "temperature", "metric"])
    accuracy = table[table["metric"] == "accuracy"].assign(accuracy=lambda rows: rows["mean"] / 100)
    students = accuracy[accuracy["model"] == "ds"][[*PAIR, "temperature", "accuracy"]]
    others = accuracy[accuracy["model"] != "ds"][[*PAIR, "model", "accuracy"]]
    counts = table[table["metric"].isin(REFERENCE)]
    counts = counts[["artefact", *PAIR, "temperature", "metric"]].assign(
        count=counts["mean"].astype(int),
        classes=[SIZES[name][0] for name in counts["dataset"]],
        model=counts["metric"].map(REFERENCE),
    )
    counts = counts.merge(others.rename(columns={"accuracy": "accuracy_reference"}), on=[*PAIR, "model"], how="left")
    return counts.drop(columns="model").merge(students, on=[*PAIR, "temperature"], how="left")


def reported_counts() -> pd.DataFrame:
    """`reported_table`, beside what chance and a shift of accuracy alone would give.

    Adds chance_low, chance_high (`class_bias.null_band`, 95 %); shift_mean, shift_low, shift_high (`shift_band`,
    USUAL), shift_widest (the upper end for WIDEST); standing, the first of STANDINGS whose upper end the count does not
    pass: 'depends on the spread' is above USUAL and not above WIDEST.
    """
    table = reported_table()
    return table.join(pd.DataFrame([_nulls(row) for row in table.to_dict("records")]))


def _nulls(row: dict[str, object]) -> dict[str, object]:
    classes, images = SIZES[row["dataset"]]
    low, high = null_band(classes, SEEDS, test_images=images)
    arms, size = (row["accuracy_reference"], row["accuracy"]), {"classes": classes, "test_images": images}
    usual, widest = (shift_band(*arms, **size, spread=spread) for spread in (USUAL, WIDEST))
    most = max(usual.high, widest.high)
    return {
        "chance_low": low,
        "chance_high": high,
        "shift_mean": usual.mean,
        "shift_low": usual.low,
        "shift_high": usual.high,
        "shift_widest": most,
        "standing": standing(row["count"], high, usual.high, most),
    }


def standing(count: float, *uppers: float) -> str:
    """The first of STANDINGS whose upper end (chance, usual shift, widest shift) the count does not pass."""
    return next((name for name, upper in zip(STANDINGS, uppers, strict=False) if count <= upper), STANDINGS[-1])


def standings(counts: pd.DataFrame) -> pd.DataFrame:
    """How many of `reported_counts` stand where: one row per pair of networks and metric, one column per standing."""
    table = counts.groupby([*PAIR, "metric"], sort=False)["standing"].value_counts().unstack(fill_value=0)
    table = table.reindex(columns=list(STANDINGS), fill_value=0)
    return table.assign(counts=table.sum(axis=1)).rename_axis(columns=None).reset_index()
