"""Tables as people read them: one row per arm, cells with mean, spread and interval, as HTML and LaTeX (booktabs).

A table is made from the rows of tidy.py. Shares are fractions, shown in percent; unit 'ratio' is shown as it is.
Tables of text are in boards.py. No torch.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kdlib import files
from kdlib.errors import InvalidInput
from kdlib.paper.numbers import FEATURES, reported_for
from kdlib.studies import Study

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

ARM_NAMES = {"teacher": "Teacher", "nds": "NDS", "ds": "DS"}
SOURCES = {"final": "final text", "arxiv_v1": "arXiv v1", "figure": "read off a figure"}
ONE_LINE = [("white-space", "nowrap"), ("font-variant-numeric", "tabular-nums")]
SYMBOLS = (
    ("±", r"$\pm$"),
    ("≤", r"$\leq$"),
    ("→", r"$\to$"),
    ("−", "$-$"),
    ("²", "$^2$"),
    ("–", "--"),
    ("“", "``"),
    ("”", "''"),
    ("×", r"$\times$"),
)


# ------------------------------------------------------------------------------------------------- a cell, from one row


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _with_interval(row: pd.Series) -> str:
    return f"{_with_sd(row)} [{_percent(row['low'])}, {_percent(row['high'])}]"


def _with_sd(row: pd.Series) -> str:
    return f"{_percent(row['mean'])} ± {_percent(row['sd'])}"


def _alone(row: pd.Series) -> str:
    return _percent(row["mean"])


def _ratio(row: pd.Series) -> str:
    return f"{row['mean']:.4f} ± {row['sd']:.4f}"


def _not_ours(row: pd.Series) -> str:
    return "not computed"


def _floor(row: pd.Series) -> str:
    return f"{_percent(row['mean'])} (≤ {_percent(row['high'])})"


def _count(row: pd.Series) -> str:
    return "" if np.isnan(row["mean"]) else f"{row['mean']:.0f}"


def _band(row: pd.Series) -> str:
    return f"[{row['low']:.0f}, {row['high']:.0f}]"


Columns = Mapping[str, tuple[str, Callable[[pd.Series], str]]]
CLASS_BIAS: Columns = {
    "accuracy": ("Accuracy (%)", _with_interval),
    "n_significant_sc": ("#SC", _count),
    "n_significant_tc": ("#TC", _count),
    "null_band": ("chance alone", _band),
}
CLASS_BIAS_NOTE = (
    "mean ± sd over seeds [95 % t-interval]; chance alone: 95 % band of a count where no class differs "
    "and the two arms are independent"
)
FAIRNESS: Columns = {
    "accuracy": ("Accuracy", _with_sd),
    "eod": ("EOD", _with_interval),
    "tpr_difference": ("TPR part", _with_sd),
    "fpr_difference": ("FPR part", _with_sd),
    "eod_floor": ("EOD floor", _floor),
    "dpd": ("DPD", _with_interval),
    "label_dpd": ("label DPD", _alone),
    "dpd_gap": ("|DPD − label DPD|", _with_sd),
    "dpd_floor": ("DPD floor", _floor),
}
FAIRNESS_NOTE = (
    "all in percent; mean ± sd over seeds [95 % t-interval]; label DPD: what a perfect classifier has; "
    "floor: mean (≤ 95th percentile) for a model with the same errors that does not react to the group"
)
INDIVIDUAL: Columns = {
    "accuracy": ("Accuracy", _with_sd),
    "confidence": ("Confidence", _with_sd),
    "counterfactual": ("Counterfactual", _ratio),
    "counterfactual_calibrated": ("calibrated", _ratio),
    "counterfactual_relative": ("relative to random pairs", _ratio),
    "lipschitz": ("Lipschitz", _ratio),
    "lipschitz_calibrated": ("Lipschitz, calibrated", _ratio),
    "lipschitz_relative": ("Lipschitz, relative", _ratio),
    "inconsistency": ("Inconsistency", _ratio),
}
NOT_PUBLIC: Columns = {"individual_fairness": ("measure of the paper, formula not public", _not_ours)}
INDIVIDUAL_NOTE = (
    "accuracy and confidence in percent, the others 0 .. 1 (Lipschitz: a ratio), mean ± sd over seeds; "
    "smaller: outputs more alike for inputs that are to be treated alike; calibrated: after temperature "
    "scaling of every model"
)


# ------------------------------------------------------------------------------------------------------------ the table


def class_bias_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """Tables 1, 6, 7 and 8 of the paper, from `tidy.class_bias`, with the band of chance."""
    return arm_table(rows, columns=CLASS_BIAS, title=title, note=CLASS_BIAS_NOTE)


def fairness_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """Tables 2, 3, 9 and 10 of the paper, from `tidy.fairness`, with both parts of EOD, the labels' DPD and floors."""
    return arm_table(rows, columns=FAIRNESS, title=title, note=FAIRNESS_NOTE)


def individual_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """Table 4 of the paper, from `tidy.individual`: the measures that the rows have, with their controls."""
    here = set(rows["metric"])
    columns = {metric: column for metric, column in INDIVIDUAL.items() if metric in here}
    extra = NOT_PUBLIC if _has_paper({i: row for i, row in rows.iterrows()}) else {}
    return arm_table(rows, columns={**columns, **extra}, title=title, note=INDIVIDUAL_NOTE)


def not_run_table(study: Study, artefact: str, *, command: str, sensitive: str | None = None) -> Styler:
    """A study without runs: what the paper reports where the study is its own, and the command that would run it.

    sensitive: the sensitive feature of the numbers; None takes the first that the artefact shows.
    """
    sensitive = sensitive or FEATURES.get(artefact, {}).get(study.dataset, (None,))[0]
    groups = f", groups by {sensitive}" if sensitive else ""
    rows = reported_for(study, artefact, sensitive=sensitive)
    arms = [arm_name(*arm) for arm in rows[["model", "temperature"]].drop_duplicates().itertuples(index=False)]
    headings = {
        metric: heading for columns in (CLASS_BIAS, FAIRNESS, NOT_PUBLIC) for metric, (heading, _) in columns.items()
    }
    cells = {}
    for metric, part in rows.groupby("metric", sort=False):
        found = {arm_name(row["model"], row["temperature"]): _paper_cell(row) for _, row in part.iterrows()}
        cells[f"{headings.get(metric, metric)}, paper"] = [found.get(arm, "") for arm in arms]
    return text_table(pd.DataFrame(cells, index=arms), f"{study.title}{groups}\nnot run: {command}")


def arm_table(rows: pd.DataFrame, *, columns: Columns, title: str, note: str = "") -> Styler:
    """One row per arm, one column per metric, and the paper's numbers where the rows have them.

    rows: see tidy.py. columns: metric -> (heading, how one row becomes a cell). title: style.heading(study).
    note: how to read it, below the title. Raises InvalidInput for a metric that the rows do not have.
    """
    missing = [metric for metric in columns if metric not in set(rows["metric"])]
    if missing:
        raise InvalidInput(f"the rows lack {', '.join(missing)}; they have {', '.join(rows['metric'].unique())}.")
    arms = [arm_name(*arm) for arm in rows[["model", "temperature"]].drop_duplicates().itertuples(index=False)]
    cells = {}
    for metric, (heading, shown) in columns.items():
        chosen = rows[rows["metric"] == metric]
        found = {arm_name(row["model"], row["temperature"]): row for _, row in chosen.iterrows()}
        cells[heading] = [shown(found[arm]) if arm in found else "" for arm in arms]
        if _has_paper(found):
            cells[f"{heading}, paper"] = [_paper_cell(found[arm]) if arm in found else "" for arm in arms]
    lines = [title, _seeds(rows) + (f"; {note}" if note else ""), _paper_note(rows)]
    return text_table(pd.DataFrame(cells, index=arms), "\n".join(filter(None, lines)))


def _paper_note(rows: pd.DataFrame) -> str:
    """How to read the paper's columns, and which text they are from; '' without any."""
    if "paper_mean" not in rows or rows["paper_mean"].isna().all():
        return ""
    sources = [SOURCES[name] for name in rows.get("paper_source", pd.Series(dtype=object)).dropna().unique()]
    origin = f" ({', '.join(sources)})" if sources else ""
    return f"paper: as reported{origin}, in brackets ours − paper; * outside our interval"


def _seeds(rows: pd.DataFrame) -> str:
    fewest, most = rows["n_seeds"].min(), rows["n_seeds"].max()
    return f"{fewest} seeds" if fewest == most else f"{fewest} to {most} seeds"


def arm_name(model: str, temperature: float) -> str:
    """NDS, or "DS, T = 4"."""
    name = ARM_NAMES.get(model, model)
    return name if np.isnan(temperature) else f"{name}, T = {temperature:g}"


def _has_paper(of_metric: Mapping[str, pd.Series]) -> bool:
    return any(pd.notna(row.get("paper_mean")) for row in of_metric.values())


def _paper_cell(row: pd.Series) -> str:
    """'90.30 ± 0.20 (+0.12)'; with an asterisk where it lies outside our interval."""
    if pd.isna(row["paper_mean"]):
        return ""
    shown = {"classes": "{:.0f}".format, "ratio": "{:.4f}".format}.get(row["unit"], _percent)
    spread = "" if pd.isna(row["paper_sd"]) else f" ± {shown(row['paper_sd'])}"
    ours = row.get("difference", np.nan)
    difference = "" if pd.isna(ours) else f" ({'−' if ours < 0 else '+'}{shown(abs(ours))})"
    outside = " *" if pd.notna(row.get("paper_inside")) and not row["paper_inside"] else ""
    return f"{shown(row['paper_mean'])}{spread}{difference}{outside}"


def text_table(frame: pd.DataFrame, caption: str, *, wrap: bool = False) -> Styler:
    """A table of text in the one look of all tables; wrap: cells may have several lines."""
    broken = [("white-space", "pre-line"), ("vertical-align", "top"), ("max-width", "36em")]
    cell = [("text-align", "left"), ("padding", "4px 12px"), ("border-bottom", "1px solid #DDDDDD")]
    above = [*cell[:2], ("caption-side", "top"), ("white-space", "pre" if frame.empty else "pre-line")]
    whole = [("font-family", "system-ui, sans-serif"), ("font-size", "14px"), ("border-collapse", "collapse")]
    lines = [
        {"selector": "", "props": whole},
        {"selector": "caption", "props": above},
        {"selector": "th", "props": cell},
        {"selector": "th", "props": [("vertical-align", "top")]},
        {"selector": "th.row_heading", "props": [] if wrap else ONE_LINE[:1]},
        {"selector": "td", "props": [*cell, *(broken if wrap else ONE_LINE)]},
    ]
    shown = _escaped(_table()(frame), "html").set_caption(html.escape(caption, quote=False))
    return shown.set_table_styles(lines).set_uuid(_name(frame, caption))


def _name(frame: pd.DataFrame, caption: str) -> str:
    """The same for the same table, another for another: on one page, the style of one table must not reach the next."""
    return "kdlib" + files.sha256(f"{caption}{list(frame.columns)}".encode())[:8]


@lru_cache(maxsize=1)
def _table() -> type[Styler]:
    from pandas.io.formats.style import Styler

    class Table(Styler):
        """Notebooks show it as HTML; as plain text it is its caption, where a Styler is an address in memory."""

        def __repr__(self) -> str:
            return html.unescape(self.caption or "")

    return Table


def _escaped(styler: Styler, language: str) -> Styler:
    shown = styler.format(escape=language)
    return shown.format_index(escape=language, axis=0).format_index(escape=language, axis=1)


def rendered(table: Styler) -> dict[str, bytes]:
    """{'html': ..., 'tex': ...}; the LaTeX needs booktabs and says so."""
    caption = html.unescape(table.caption or "")
    form = "l" * (1 + table.data.shape[1])
    body = _escaped(table.data.style, "latex").to_latex(hrules=True, column_format=form, caption=_latex(caption))
    page = table.to_html(doctype_html=True)
    return {"html": page.encode(), "tex": ("% needs \\usepackage{booktabs}\n" + _symbols(body)).encode()}


def _latex(text: str) -> str:
    escapes = {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\n": "; ",
    }
    return "".join(escapes.get(letter, letter) for letter in text)


def _symbols(text: str) -> str:
    for symbol, command in SYMBOLS:
        text = text.replace(symbol, command)
    return text
