"""Tables as people read them: one row per arm, cells with mean, spread and interval, as HTML and LaTeX (booktabs).

A table is made from the rows of `arms.tidy`. Shares are fractions, shown in percent; unit 'ratio' is shown as it is.
Tables of text are in boards.py. No torch.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from string import Formatter, Template
from typing import Any

import numpy as np
import pandas as pd
import yaml
from pandas.io.formats.style import Styler
from scipy.special import stdtrit

from kdlib import files
from kdlib.errors import InvalidInput
from kdlib.paper.numbers import FEATURES, reported_for
from kdlib.show import style
from kdlib.studies import Study

ARM_NAMES = {"teacher": "Teacher", "nds": "NDS", "ds": "DS"}
SOURCES = {"final": "final text", "arxiv_v1": "arXiv v1", "figure": "read off a figure"}
NUMBER = re.compile(r"([+−]?)(\d[\d,]*)(\.\d+)?")
DIGIT, SIGN = "\u2007", "\u2002"  # spaces in the place of a digit and of a sign that other cells of the column have
# What LaTeX needs of the letters that tables hold; pandas escapes cells, not captions.
ESCAPES = str.maketrans(
    {letter: f"\\{letter}" for letter in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\n": "; "}
)
SYMBOLS = str.maketrans(
    {"±": r"$\pm$", "≤": r"$\leq$", "→": r"$\to$", "−": "$-$", "×": r"$\times$"}
    | {"²": "$^2$", "–": "--", "“": "``", "”": "''", DIGIT: r"\phantom{0}", SIGN: r"\phantom{$-$}"}
)

# Where it is narrow, the cells of a row stack.
PAGE = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
# A column: its heading, and how a row of its metric becomes a cell. Shares come in percent.
Columns = Mapping[str, Sequence[str]]
WORDS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
MEAN, WITH_INTERVAL = "{mean:.2f}", "{mean:.2f} ± {sd:.2f} [{low:.2f}, {high:.2f}]"
ONCE = ("null_band", "label_dpd")  # mostly the same in every row
CLASS_BIAS, FAIRNESS, INDIVIDUAL = (WORDS[table]["columns"] for table in ("class_bias", "fairness", "individual"))
FAIRNESS_NOTE = WORDS["fairness"]["note"]


# ------------------------------------------------------------------------------------------------------------ the table


def class_bias_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """Tables 1, 6, 7 and 8 of the paper, from `class_bias.table`, with the band of chance."""
    return arm_table(rows, title=title, **WORDS["class_bias"])


def fairness_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """Tables 2, 3, 9 and 10 of the paper, from `fairness.table`, with both parts of EOD, the labels' DPD and floors."""
    return arm_table(rows, title=title, **WORDS["fairness"])


def individual_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """Table 4 of the paper, from `individual_runs.table`: the measures that the rows have, with their controls."""
    shown = rows[rows["mean"].notna() | rows.get("paper_mean", pd.Series(np.nan, rows.index)).notna()]
    return arm_table(rows, title=title, **of_metrics("individual", shown["metric"]))


def of_metrics(table: str, metrics: Iterable[str]) -> dict[str, Any]:
    """The columns of a table in tables.yaml that show one of these metrics, and its note, as `arm_table` takes them."""
    words, there = WORDS[table], set(metrics)
    return words | {"columns": {metric: column for metric, column in words["columns"].items() if metric in there}}


def joint_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """Change of group differences from NDS or the own teacher to DS, about models: over seeds and test samples.

    rows: `joint_intervals` at one temperature, with a column against; one line per pair of groups, in points.
    """
    numbers = 100 * rows[["mean", "low", "high", "se_seeds", "se_rows"]]
    pairs = "DS − " + rows["against"].map(ARM_NAMES) + ": " + rows["first"] + " − " + rows["second"]
    rows, words = rows.assign(**numbers, line=pairs)[rows["first"] != ""], WORDS["joint"]  # rates by group alone
    found = {heading: (rows[rows["metric"] == metric], form) for heading, (metric, form) in words["columns"].items()}
    return text_table(in_lines(rows, found), f"{title}\n{words['note']}")


def not_run_table(study: Study, artefact: str, *, command: str, sensitive: str | None = None) -> Styler:
    """A study without runs: what the paper reports where the study is its own, and the command that would run it.

    sensitive: the sensitive feature of the numbers; None takes the first that the artefact shows.
    """
    sensitive = sensitive or FEATURES.get(artefact, {}).get(study.dataset, (None,))[0]
    groups = f", groups by {sensitive}" if sensitive else ""
    headings = {metric: heading for metric, (heading, _) in (CLASS_BIAS | FAIRNESS | INDIVIDUAL).items()}
    rows = with_arm_names(reported_for(study, artefact, sensitive=sensitive))
    parts = rows.groupby("metric", sort=False)
    found = {f"{headings.get(metric, metric)}, paper": (part, _paper_cell) for metric, part in parts}
    return text_table(in_lines(rows, found), f"{study.title}{groups}\nnot run: {command}")


def arm_table(rows: pd.DataFrame, *, columns: Columns, title: str, note: str = "") -> Styler:
    """One row per arm, one column per metric, and the paper's numbers where the rows have them.

    rows: of `arms.tidy`. columns: metric -> (heading, how one row becomes a cell). title: style.heading(study).
    note: how to read it, below the title. What is the same in every row stands there and not in a column.
    Raises InvalidInput for a metric that the rows do not have.
    """
    missing = [metric for metric in columns if metric not in set(rows["metric"])]
    if missing:
        raise InvalidInput(f"the rows lack {', '.join(missing)}; they have {', '.join(rows['metric'].unique())}.")
    found, rows = {}, with_arm_names(rows)
    for metric, (heading, form) in columns.items():
        chosen = rows[rows["metric"] == metric]
        found[heading] = style.in_percent(chosen), form
        if style.has_paper(chosen):
            found[f"{heading}, paper"] = chosen, _paper_cell
    frame = in_lines(rows, found)
    named = [columns[metric][0] for metric in ONCE if metric in columns]
    same = [name for name in named if (frame[name] != "").sum() > 1 and set(frame[name]) <= {"", frame[name].max()}]
    once = "; ".join(f"{name} in every row: {frame[name].max()}" for name in same)
    lines = [title, "; ".join(filter(None, [_seeds(rows), note])), once, _paper_note(rows)]
    return text_table(frame.drop(columns=same), "\n".join(filter(None, lines)))


def filled(form: str, row: Mapping[str, Any]) -> str:
    """With true minus signs; '' where something that the form shows is missing."""
    shown = [name for _, name, _, _ in Formatter().parse(form) if name]
    text = "" if pd.isna([row[name] for name in shown]).any() else form.format(**row)
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


def in_lines(rows: pd.DataFrame, columns: Mapping[str, tuple[pd.DataFrame, str | Callable]]) -> pd.DataFrame:
    """Text side by side, a line for each value of the column `line` in the order of `rows`; empty where it has none.

    columns: {heading: (its rows, how one becomes a cell: a form for `filled`, or a function)}
    """
    found = {}
    for heading, (part, form) in columns.items():
        cell = partial(filled, form) if isinstance(form, str) else form
        found[heading] = pd.Series({row["line"]: cell(row) for row in part.to_dict("records")}, dtype=object)
    return pd.DataFrame(found, index=rows["line"].unique()).fillna("")


def with_arm_names(rows: pd.DataFrame) -> pd.DataFrame:
    """With the column `line`: the name of the arm."""
    return rows.assign(line=[*map(arm_name, rows["model"], rows["temperature"])])


def _paper_note(rows: pd.DataFrame) -> str:
    """How to read the paper's columns, and which text they are from; '' without any."""
    if not style.has_paper(rows):
        return ""
    sources = [SOURCES[name] for name in rows.get("paper_source", pd.Series(dtype=object)).dropna().unique()]
    origin = f" ({', '.join(sources)})" if sources else ""
    return f"paper: as reported{origin}, in brackets ours − paper; * outside our interval"


def _seeds(rows: pd.DataFrame) -> str:
    """'5 seeds, mean ± sd (95 % t-interval: ± 1.24 sd)': the interval is not written where the sd tells it."""
    ends = sorted({int(rows["n_seeds"].min()), int(rows["n_seeds"].max())})
    half = " to ".join(f"± {stdtrit(n - 1, 0.975) / np.sqrt(n):.2f}" for n in ends)
    return f"{' to '.join(map(str, ends))} seeds, mean ± sd (95 % t-interval: {half} sd)"


def arm_name(model: str, temperature: float) -> str:
    """NDS, or "DS, T = 4"."""
    name = ARM_NAMES.get(model, model)
    return name if np.isnan(temperature) else f"{name}, T = {temperature:g}"


def _paper_cell(row: dict[str, Any]) -> str:
    """'90.30 ± 0.20 (+0.12)'; with an asterisk where it lies outside our interval."""
    if pd.isna(row["paper_mean"]):
        return ""
    scale, digits = {"classes": (1, 0), "ratio": (1, 4)}.get(row["unit"], (100, 2))
    mean, sd, ours = (scale * row.get(name, np.nan) for name in ("paper_mean", "paper_sd", "difference"))
    spread = "" if np.isnan(sd) else f" ± {sd:.{digits}f}"
    difference = "" if np.isnan(ours) else f" ({'−' if ours < 0 else '+'}{abs(ours):.{digits}f})"
    outside = " *" if pd.notna(row.get("paper_inside")) and not row["paper_inside"] else ""
    return f"{mean:.{digits}f}{spread}{difference}{outside}"


def text_table(frame: pd.DataFrame, caption: str, *, wrap: bool = False) -> Styler:
    """A table of text in the one look of all tables; wrap: cells may have several lines, else numbers are aligned."""
    form = WORDS["wrapped" if wrap else "one_line"] | {"caption": "pre" if frame.empty else "pre-line"}
    lines = [{"selector": selector, "props": css.format(**form)} for selector, css in WORDS["css"]]
    shown = _escaped(Table(frame), "html").set_table_attributes(f'class="{"stacked" if wrap else "wide"}"')
    shown = shown.set_caption(html.escape(caption, quote=False))
    return shown.set_table_styles(lines).set_uuid(_name(frame, caption))


def _aligned(column: pd.Series) -> dict[str, str]:
    """{cell: with spaces ahead}, so that the decimal points of a column of numbers stand below each other."""
    cells = [*map(str, column)]
    if re.search("[A-Za-z]", "".join(cells)):
        return dict(zip(cells, cells, strict=True))
    found = [NUMBER.findall(cell) for cell in cells]
    places = [[numbers[k] for numbers in found if len(numbers) > k] for k in range(max(map(len, found), default=0))]
    widths = [(max(len(sign) for sign, _, _ in of), max(len(whole) for _, whole, _ in of)) for of in places]
    return {cell: _padded(cell, widths) for cell in cells}


def _padded(cell: str, widths: Sequence[tuple[int, int]]) -> str:
    """A cell whose numbers have room for a sign and for so many digits before the point."""
    place = iter(widths)

    def number(match: re.Match) -> str:
        (signs, digits), (sign, whole, rest) = next(place), match.groups(default="")
        return (sign or SIGN * signs) + DIGIT * (digits - len(whole)) + whole + rest

    return NUMBER.sub(number, cell)


def _name(frame: pd.DataFrame, caption: str) -> str:
    """The same for the same table, another for another: on one page, the style of one table must not reach the next."""
    return "kdlib" + files.sha256(f"{caption}{list(frame.columns)}".encode())[:8]


class Table(Styler):
    """Notebooks show it as HTML; as plain text it is its caption, where a Styler is an address in memory."""

    def __repr__(self) -> str:
        return html.unescape(self.caption or "")


def _in_html(column: pd.Series) -> Callable[[object], str]:
    """How a cell of the column becomes HTML: numbers aligned, with the same room for signs; text whole at a minus."""
    aligned, numbers = _aligned(column), not column.astype(str).str.contains("[A-Za-z]").any()

    def shown(cell: object) -> str:
        text = html.escape(aligned[str(cell)], quote=False)
        if numbers:
            return re.sub(f"[−{SIGN}](?=[{DIGIT}\\d])", lambda sign: f"<span>{sign[0].strip()}</span>", text)
        return re.sub(r"−(?=\d)", "−\u2060", text).replace(" %", "\u00a0%")

    return shown


def _escaped(styler: Styler, language: str) -> Styler:
    how = {name: _in_html(styler.data[name]) for name in styler.columns} if language == "html" else None
    shown = styler.format(how, escape=None if how else language)
    return shown.format_index(escape=language, axis=0).format_index(escape=language, axis=1)


def rendered(table: Styler) -> dict[str, bytes]:
    """{'html': a page for wide and narrow windows, 'tex': ...}; the LaTeX needs booktabs and says so."""
    caption = html.unescape(table.caption or "")
    form = "l" * (1 + table.data.shape[1])
    aligned = table.data.apply(lambda column: column.astype(str).map(_aligned(column)))
    body = _escaped(aligned.style, "latex").to_latex(
        hrules=True, column_format=form, caption=caption.translate(ESCAPES)
    )
    tex = "% needs \\usepackage{booktabs}\n" + body.translate(SYMBOLS)
    styled = table.to_html()
    css, body = styled.split("</style>", 1)
    labels = "".join(
        f"table.stacked td.col{i}::before {{ content: {json.dumps(str(name))} }}\n"
        for i, name in enumerate(table.columns)
    )
    title = html.escape(caption.partition("\n")[0], quote=False)
    page = PAGE.substitute(title=title, css=css.partition(">")[2], labels=labels, body=body.strip())
    return {"html": page.encode(), "tex": tex.encode()}
