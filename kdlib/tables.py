"""Tables as people read them: one row an arm, cells with mean, spread and interval, as HTML and LaTeX (booktabs).

A table is made from rows of one value each: model, temperature, n_seeds, metric, unit ('share' or 'classes'), mean, sd,
low, high, and where `paper.beside` could add them, paper_mean, paper_sd, paper_inside. Shares are fractions, shown in
percent. No torch.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kdlib.errors import InvalidInput

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

ARM_NAMES = {"teacher": "Teacher", "nds": "NDS", "ds": "DS"}
ROW = ["model", "temperature", "n_seeds"]


def class_bias_rows(accuracy: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of every arm (stats.by_arm), #SC, #TC and the band of chance (class_bias.counts), one value a row."""
    arms = accuracy.assign(metric="accuracy", unit="share")
    found = [_of_students(counts, name, mean=counts[name]) for name in ("n_significant_sc", "n_significant_tc")]
    band = _of_students(counts, "null_band", low=counts["null_low"], high=counts["null_high"])
    return pd.concat([arms, *found, band], ignore_index=True)


def _of_students(counts: pd.DataFrame, metric: str, **values: pd.Series) -> pd.DataFrame:
    rows = counts[["temperature", "n_seeds"]].assign(model="ds", metric=metric, unit="classes")
    found = {name: values[name].astype("Float64").to_numpy(float, na_value=np.nan) for name in values}
    return rows.assign(**{"mean": np.nan, "sd": np.nan, "low": np.nan, "high": np.nan, **found})


def fairness_rows(arms: pd.DataFrame) -> pd.DataFrame:
    """The columns of fairness.table, one value a row: measures, label_dpd, and floors (high: their 95th percentile)."""
    measures = [_measure(arms, name, low=f"{name}_low", high=f"{name}_high", sd=f"{name}_sd")
                for name in ("accuracy", "eod", "tpr_difference", "fpr_difference", "dpd", "dpd_gap")]
    floors = [_measure(arms, name, high=f"{name}_upper") for name in ("eod_floor", "dpd_floor")]
    return pd.concat([*measures, *floors, _measure(arms, "label_dpd")], ignore_index=True)


def _measure(arms: pd.DataFrame, name: str, **parts: str) -> pd.DataFrame:
    found = {part: arms[parts[part]] if part in parts else np.nan for part in ("sd", "low", "high")}
    return arms[ROW].assign(metric=name, unit="share", mean=arms[name], **found)


# ------------------------------------------------------------------------------------------------- a cell, from one row


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _with_interval(row: pd.Series) -> str:
    return f"{_with_sd(row)} [{_percent(row['low'])}, {_percent(row['high'])}]"


def _with_sd(row: pd.Series) -> str:
    return f"{_percent(row['mean'])} ± {_percent(row['sd'])}"


def _alone(row: pd.Series) -> str:
    return _percent(row["mean"])


def _floor(row: pd.Series) -> str:
    return f"{_percent(row['mean'])} (≤ {_percent(row['high'])})"


def _count(row: pd.Series) -> str:
    return "" if np.isnan(row["mean"]) else f"{row['mean']:.0f}"


def _band(row: pd.Series) -> str:
    return f"[{row['low']:.0f}, {row['high']:.0f}]"


Columns = Mapping[str, tuple[str, Callable[[pd.Series], str]]]
CLASS_BIAS: Columns = {"accuracy": ("Accuracy (%)", _with_interval), "n_significant_sc": ("#SC", _count),
                       "n_significant_tc": ("#TC", _count), "null_band": ("chance alone", _band)}
CLASS_BIAS_NOTE = ("mean ± sd over seeds [95 % t-interval]; chance alone: 95 % band of a count where no class differs "
                   "and the two arms are independent")
FAIRNESS: Columns = {"accuracy": ("Accuracy", _with_sd), "eod": ("EOD", _with_interval),
                     "tpr_difference": ("TPR part", _with_sd), "fpr_difference": ("FPR part", _with_sd),
                     "eod_floor": ("EOD floor", _floor), "dpd": ("DPD", _with_interval),
                     "label_dpd": ("label DPD", _alone), "dpd_gap": ("|DPD − label DPD|", _with_sd),
                     "dpd_floor": ("DPD floor", _floor)}
FAIRNESS_NOTE = ("all in percent; mean ± sd over seeds [95 % t-interval]; label DPD: what a perfect classifier has; "
                 "floor: mean (≤ 95th percentile) for a model with the same errors that does not react to the group")


# ------------------------------------------------------------------------------------------------------------ the table


def class_bias_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """Tables 1, 6, 7 and 8 of the paper, from `class_bias_rows`, with the band of chance."""
    return arm_table(rows, columns=CLASS_BIAS, title=title, note=CLASS_BIAS_NOTE)


def fairness_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """Tables 2, 3, 9 and 10 of the paper, from `fairness_rows`, with both parts of EOD, the labels' DPD and floors."""
    return arm_table(rows, columns=FAIRNESS, title=title, note=FAIRNESS_NOTE)


def arm_table(rows: pd.DataFrame, *, columns: Columns, title: str, note: str = "") -> Styler:
    """A styled table: one row an arm, one column a metric, and the paper's numbers where the rows have them.

    rows: see the module. columns: metric -> (heading, how one row becomes a cell). title: figures.heading(study).
    note: how to read it, below the title. Raises InvalidInput for a metric that the rows do not have.
    """
    missing = [metric for metric in columns if metric not in set(rows["metric"])]
    if missing:
        raise InvalidInput(f"the rows lack {', '.join(missing)}; they have {', '.join(rows['metric'].unique())}.")
    arms = [_arm_name(*arm) for arm in rows[["model", "temperature"]].drop_duplicates().itertuples(index=False)]
    cells = {}
    for metric, (heading, shown) in columns.items():
        chosen = rows[rows["metric"] == metric]
        found = {_arm_name(row["model"], row["temperature"]): row for _, row in chosen.iterrows()}
        cells[heading] = [shown(found[arm]) if arm in found else "" for arm in arms]
        if _has_paper(found):
            cells[f"{heading}, paper"] = [_paper_cell(found[arm]) if arm in found else "" for arm in arms]
    outside = any(cell.endswith("*") for column in cells.values() for cell in column)
    lines = [title, _seeds(rows) + (f"; {note}" if note else ""), "* outside our interval" if outside else ""]
    return _styled(pd.DataFrame(cells, index=arms), "\n".join(filter(None, lines)))


def _seeds(rows: pd.DataFrame) -> str:
    fewest, most = rows["n_seeds"].min(), rows["n_seeds"].max()
    return f"{fewest} seeds" if fewest == most else f"{fewest} to {most} seeds"


def _arm_name(model: str, temperature: float) -> str:
    name = ARM_NAMES.get(model, model)
    return name if np.isnan(temperature) else f"{name}, T = {temperature:g}"


def _has_paper(of_metric: Mapping[str, pd.Series]) -> bool:
    return any(pd.notna(row.get("paper_mean")) for row in of_metric.values())


def _paper_cell(row: pd.Series) -> str:
    """'90.30 ± 0.20'; with an asterisk where it lies outside our interval."""
    if pd.isna(row["paper_mean"]):
        return ""
    if row["unit"] == "classes":
        return f"{row['paper_mean']:.0f}"
    spread = "" if pd.isna(row["paper_sd"]) else f" ± {_percent(row['paper_sd'])}"
    outside = " *" if pd.notna(row["paper_inside"]) and not row["paper_inside"] else ""
    return f"{_percent(row['paper_mean'])}{spread}{outside}"


def _styled(frame: pd.DataFrame, caption: str) -> Styler:
    cell = [("text-align", "left"), ("padding", "4px 12px"), ("border-bottom", "1px solid #DDDDDD")]
    above = [*cell[:2], ("caption-side", "top"), ("white-space", "pre-line")]
    whole = [("font-family", "system-ui, sans-serif"), ("font-size", "14px"), ("border-collapse", "collapse")]
    lines = [
        {"selector": "", "props": whole},
        {"selector": "caption", "props": above},
        {"selector": "th", "props": cell},
        {"selector": "td", "props": [*cell, ("white-space", "nowrap"), ("font-variant-numeric", "tabular-nums")]},
    ]
    shown = _escaped(frame, "html").set_caption(html.escape(caption, quote=False))
    return shown.set_table_styles(lines).set_uuid("kdlib")


def _escaped(frame: pd.DataFrame, language: str) -> Styler:
    shown = frame.style.format(escape=language)
    return shown.format_index(escape=language, axis=0).format_index(escape=language, axis=1)


def rendered(table: Styler) -> dict[str, bytes]:
    """{'html': ..., 'tex': ...}; the LaTeX needs booktabs and says so."""
    caption = html.unescape(table.caption or "")
    form = "l" * (1 + table.data.shape[1])
    body = _escaped(table.data, "latex").to_latex(hrules=True, column_format=form, caption=_latex(caption))
    page = table.to_html(doctype_html=True)
    return {"html": page.encode(), "tex": ("% needs \\usepackage{booktabs}\n" + _symbols(body)).encode()}


def _latex(text: str) -> str:
    escapes = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
               "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\n": "; "}
    return "".join(escapes.get(letter, letter) for letter in text)


def _symbols(text: str) -> str:
    for symbol, command in (("±", r"$\pm$"), ("≤", r"$\leq$"), ("→", r"$\to$"), ("−", "$-$")):
        text = text.replace(symbol, command)
    return text
