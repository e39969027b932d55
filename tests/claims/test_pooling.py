"""Pooled over data sets: by hand, with a second library's numbers, and how often the interval holds."""

import numpy as np
import pandas as pd
import pytest

from kdlib.claims.pooling import pooled


def spread(values, se, claim=7, names=None):
    names = names or [f"data{i}" for i in range(len(values))]
    return pd.DataFrame({"claim": claim, "studies": names, "value": values, "se": se})


def test_alike_data_sets_by_hand():
    """Three values 1, 2, 3 of error 1: mean 2, spread as expected of that error, so sd 1 / sqrt(3); t(0.975, 2)."""
    (row,) = pooled(spread([1.0, 2.0, 3.0], 1.0)).to_dict("records")
    assert (row["claim"], row["data_sets"], row["value"]) == (7, 3, pytest.approx(2))
    assert row["high"] - row["value"] == pytest.approx(4.302653 / np.sqrt(3), rel=1e-5)
    assert row["highest"] - row["value"] == pytest.approx(12.7062 / np.sqrt(3), rel=1e-4)  # t(0.975, 1), tau 0


def test_labels_of_one_data_set_are_one_unit():
    apart = pooled(spread([0.0, 1.0, 2.0, 9.0], 0.1))
    names = ["cifar10", "utkface", "celeba64-smiling", "celeba64-eyeglasses"]
    (row,) = pooled(spread([0.0, 1.0, 2.0, 9.0], 0.1, names=names)).to_dict("records")
    assert row["data_sets"] == 3 and row["value"] == pytest.approx((0 + 1 + 5.5) / 3, rel=1e-3)
    assert apart["data_sets"].item() == 4


def test_other_claims_and_two_data_sets_are_not_pooled():
    assert pooled(spread([1.0, 2.0, 3.0], 1.0, claim=8)).empty
    assert pooled(spread([1.0, 2.0], 1.0)).empty


def test_the_interval_holds_where_data_sets_differ():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(200):
        se = rng.uniform(0.5, 2, 5)
        row = pooled(spread(rng.normal(1, 2, 5) + rng.normal(0, se), se)).iloc[0]
        hits += row.low <= 1 <= row.high
    assert 0.90 <= hits / 200 <= 0.99
