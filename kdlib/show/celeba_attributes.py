"""Table 5 and figure 6 of the paper: how often CelebA's attributes occur, counted in the official lists. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler
from scipy import stats

from kdlib.data import celeba
from kdlib.errors import DataError
from kdlib.show import style, tables

COUNTED = ["young", "not_young", "male", "not_male"]
COLUMNS = ["row", "source", "images", *COUNTED, "sd_young", "sd_male"]
PRINTED = {"Smiling": (61793, 16287, 37780, 40300), "Not Smiling": (59765, 18315, 27259, 50821)}
# Each row stands under the other's name: the key says which it is.
PRINTED_AS = {"smiling": "Not Smiling", "not smiling": "Smiling"}
CONTRAST = {"color": style.COLORS["contrast"], "hatch": "////", "edgecolor": "white"}
ROLES = {
    "labels": (list(celeba.LABELS.values()), {"color": style.COLORS["labels"]}),
    "sensitive features": (list(celeba.GROUPS.values()), CONTRAST),
    "not used here": ([], {"color": "#C4C4C4"}),
}


def not_run(folder: Path) -> str:
    """'' where CelebA's lists are in `folder`; else what to do, for a notebook that then shows the paper alone."""
    try:
        celeba.list_files(folder)
    except DataError:
        return "not run: CelebA's attributes are not in its folder. `kdlib fetch celeba` says what to put where."
    return ""


def training_rows(attributes: pd.DataFrame | None) -> pd.DataFrame:
    """Table 5 of the paper: training images by Smiling, age and gender; None: the printed rows alone.

    attributes: `celeba.read_attributes`. One row per count: row (what is counted), source ('computed' or 'paper'),
    images, young, not_young, male, not_male, and sd_young, sd_male: the spread of an expected count over random
    choices, else 0. The paper undersamples those who do not smile at random: that row can be expected, the others are
    exact.
    """
    printed = {
        label: _row(f"{label}, printed as “{name}”", "paper", PRINTED[name]) for label, name in PRINTED_AS.items()
    }
    if attributes is None:
        return pd.DataFrame(printed.values(), columns=COLUMNS)
    train = attributes[attributes["part"] == "train"]
    smiling, others = (train[train["Smiling"] == smiles] for smiles in (True, False))
    kept = train[celeba.undersampled(train.index.to_numpy(), train["Smiling"].to_numpy())]
    rows = [
        _row("smiling, all", "computed", _counts(smiling)),
        printed["smiling"],
        _row("not smiling, all", "computed", _counts(others)),
        _expected(others, n=len(smiling)),
        _row("not smiling, undersampled by kdlib", "computed", _counts(kept[~kept["Smiling"]])),
        printed["not smiling"],
        _row("both, balanced by kdlib", "computed", _counts(kept)),
        _row("both, as printed", "paper", np.sum(list(PRINTED.values()), axis=0)),
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _counts(rows: pd.DataFrame) -> tuple[int, ...]:
    young, male = int(rows["Young"].sum()), int(rows["Male"].sum())
    return young, len(rows) - young, male, len(rows) - male


def _row(row: str, source: str, counts: Sequence[float], sd: Sequence[float] = (0, 0)) -> tuple[object, ...]:
    """Of COLUMNS."""
    return row, source, counts[0] + counts[1], *map(float, counts), *sd


def _expected(rows: pd.DataFrame, *, n: int) -> tuple[object, ...]:
    """n images drawn from `rows` at random: mean and sd of the counts (hypergeometric)."""
    drawn = stats.hypergeom(len(rows), np.array(_counts(rows)), n)
    return _row("not smiling, undersampled at random", "computed", drawn.mean(), drawn.std()[::2])


def training_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """`training_rows` for readers: counts, and in brackets percent of the row."""
    frame = pd.DataFrame(
        {
            "images": [f"{n:,.0f}" for n in rows["images"]],
            **{name.replace("_", " "): [_cell(row, name) for row in rows.to_dict("records")] for name in COUNTED},
        },
        index=rows["row"] + rows["source"].map({"paper": " (paper)", "computed": ""}),
    )
    return tables.text_table(frame.rename_axis(None), title)


def _cell(row: dict[str, Any], name: str) -> str:
    sd = row[f"sd_{name.removeprefix('not_')}"]
    spread = f" ± {sd:.0f}" if sd else ""
    return f"{row[name]:,.0f}{spread} ({100 * row[name] / row['images']:.2f})"


def attribute_shares(attributes: pd.DataFrame) -> pd.DataFrame:
    """Figure 6 of the paper: one row per attribute, the most frequent first.

    attribute (official name), images (that have it, of the whole data set), share (of all), and the shares of each part
    of the official split: train, validation, test. Fractions.
    """
    values = attributes.drop(columns="part")
    parts = values.groupby(attributes["part"]).mean().T.reindex(columns=celeba.PARTS)
    found = pd.DataFrame({"images": values.sum(), "share": values.mean()}).join(parts)
    return found.sort_values("images", ascending=False).rename_axis("attribute").reset_index()


@style.in_style
def attribute_bars(shares: pd.DataFrame, *, title: str) -> Figure:
    """Figure 6 of the paper, from `attribute_shares`: one bar per attribute; those that the paper uses are marked."""
    figure = style.new_figure(6.6, 0.19 * len(shares) + 1.2, title, caption="attribute_bars")
    ax = figure.subplots()
    used = [name for names, _ in ROLES.values() for name in names]
    for role, (names, look) in ROLES.items():
        rows = shares[shares["attribute"].isin(names) if names else ~shares["attribute"].isin(used)]
        bars = ax.barh(rows.index, 100 * rows["share"], height=0.72, label=role, linewidth=0, **look)
        ax.bar_label(bars, fmt="%.1f", fontsize=7, padding=2)
    ax.set_yticks(shares.index, shares["attribute"].str.replace("_", " "))
    ax.set(ylim=(len(shares) - 0.4, -0.6), xlim=(0, 100), xlabel="share of the images that have it (%)")
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
    ax.legend(loc="lower right")
    return figure
