"""The dial of `trifeature-biased`: counts and disparities that can be worked out by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.data import dial


def test_counts_by_hand():
    # rho 0.4, groups alike: both = 1000 (0.5 + 0.4 * 0.5) / 2
    assert dial.cell_counts(1000, rho=0.4, group_share=0.5).tolist() == [[350, 150], [150, 350]]
    # sqrt(0.2 * 0.8) = 0.4: both = 1000 (0.2 + 0.25 * 0.4) / 2; base rates 150 / 200 and 350 / 800
    assert dial.cell_counts(1000, rho=0.25, group_share=0.2).tolist() == [[450, 50], [350, 150]]
    assert dial.base_rates(rho=0.25, group_share=0.2) == pytest.approx({"cool": 0.4375, "warm": 0.75})
    assert dial.cell_counts(100, rho=1.0, group_share=0.5).tolist() == [[50, 0], [0, 50]]
    assert dial.cell_counts(100, rho=-0.5, group_share=0.2).tolist() == [[30, 20], [50, 0]]


@settings(max_examples=50, deadline=None)
@given(st.integers(50, 3000), st.floats(0.05, 0.95), st.floats(-1, 1))
def test_counts_give_rho_and_shares_to_within_rounding(n, share, part_of_largest):
    rho = part_of_largest * dial.largest_rho(share)
    counts = dial.cell_counts(n, rho=rho, group_share=share)
    assert counts.sum() == n and counts.min() >= 0
    assert abs(counts[1].sum() - n / 2) <= 0.5 and abs(counts[:, 1].sum() - n * share) <= 0.5
    base = dial.base_rates(rho=rho, group_share=share)
    for a, name in enumerate(dial.GROUPS):
        assert abs(counts[1, a] - base[name] * counts[:, a].sum()) <= 2
