"""The report in words and pictures: what the templates beside this file are filled with.

page.html is the page, card.md the model card, answer.txt and notes.txt the sentences of both. Everything a table's
owner named is text there, never markup: jinja2 escapes it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from functools import lru_cache, partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment

from kdlib.measure.arms import ENOUGH_SEEDS

Tables = Mapping[str, pd.DataFrame]
Rows = list[dict[str, Any]]
OUTCOMES = ("broken", "undecided", "kept")
MOVED = 10  # changed differences of groups that are shown
ALL, WORST = 24, 12  # classes up to which all stand in a table; else so many of those that fall most
NUMBERS = {"percent": ".1f", "points": "z.1f", "signed": "+z.1f"}  # filters of the templates
CURVES = {
    "accuracy": "accuracy (%)",
    "class_drop": "largest fall of a class (points)",
    "disagreement": "decided otherwise than the baseline (%)",
    "eod": "equalized odds difference (points)",
    "dpd": "demographic parity difference (points)",
}


def view(about: Mapping[str, Any], tables: Tables) -> dict[str, Any]:
    """What the templates know: `about`, rows of the tables, and parts of them as they are shown."""
    metrics, others = tables["metrics"].to_dict("records"), [arm["arm"] for arm in about["arms"][1:]]
    by_name = {(row["metric"], row["arm"], row["sensitive"]): row for row in metrics}
    known = [row for row in metrics if row["mean"] == row["mean"] and row["arm"] in about["judged"]]
    known.sort(key=itemgetter("mean"))
    counted = _rows(tables, "class_counts")
    shown = {"about": about, "others": others, "tables": sorted(tables), "enough": ENOUGH_SEEDS}
    shown["of"] = lambda metric, arm, sensitive="": by_name.get((metric, arm, sensitive), {})
    shown["judged"] = lambda metric, feature=None: [
        row for row in known if row["metric"] == metric and feature in (None, row["sensitive"])
    ]
    shown["counts"] = [row for row in counted if row["arm"] in about["judged"]]
    shown["arms"] = [_arm(about, tables, row) for row in counted]
    shown["features"] = [_feature(tables, name) for name in about["sensitive"]]
    shown["fairlearn"] = _fairlearn(tables)
    shown["calibration"] = _rows(tables, "calibration")
    shown["curves"] = [curve for column in about["conditions"] for curve in _curves(about, tables, column)]
    limits = sorted(_rows(tables, "limits"), key=lambda row: OUTCOMES.index(row["outcome"]))
    return shown | {"limits": limits}


def sentences(name: str, shown: Mapping[str, Any]) -> tuple[str, ...]:
    """The sentences of a template, each in one line."""
    return tuple(" ".join(text.split()) for text in render(name, shown).split("\x1e") if text.strip())


def render(name: str, shown: Mapping[str, Any]) -> str:
    """A template filled. Those that end in .html escape what they are given."""
    return _environment(name.endswith(".html")).get_template(name).render(shown)


def framed(page: str) -> str:
    """The page as a notebook shows it, apart from the notebook's own styles."""
    return f'<iframe srcdoc="{html.escape(page)}" style="width:100%;height:800px;border:1px solid #ddd"></iframe>'


@lru_cache(maxsize=2)
def _environment(escaped: bool) -> Environment:
    from jinja2 import Environment, FileSystemLoader

    made = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=escaped, trim_blocks=True)
    made.filters |= {name: partial(_hundredfold, form=form) for name, form in NUMBERS.items()}
    made.filters["plain"] = _plain_markdown
    made.globals |= {"place": _place}
    return made


def _hundredfold(value: float, form: str) -> str:
    """A share in percent or a difference in points, with a true minus sign; '–' where there is none."""
    return "–" if pd.isna(value) else format(100 * value, form).replace("-", "−")


def _plain_markdown(text: object) -> str:
    """Text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\`*_{}\[\]|#!~$])", r"\\\1", html.escape(" ".join(str(text).split()), quote=False))


def _place(value: float, low: float, high: float) -> float:
    """Where a value stands between low and high, 0 .. 100."""
    return 50.0 if pd.isna(value) else round(float(np.clip((value - low) / (high - low), 0, 1)) * 100, 2)


def _rows(tables: Tables, name: str) -> Rows:
    return tables[name].to_dict("records") if name in tables else []


def _arm(about: Mapping[str, Any], tables: Tables, counts: Mapping[str, Any]) -> dict[str, Any]:
    """One arm's classes, those that fall most first, and its lost samples."""
    rows = tables["classes"].query("arm == @counts['arm']").sort_values(["change", "class_name"], na_position="last")
    reach = min(1.0, 1.08 * max(float(rows[["low", "high"]].abs().max(axis=None)), about["margin"]))
    shown = rows if len(rows) <= ALL else rows.head(WORST)
    picture = rows.dropna(subset="change").to_dict("records") if len(rows) > ALL else []
    lost = [row for row in _rows(tables, "samples") if row["arm"] == counts["arm"]][:10]
    found = {"name": counts["arm"], "counts": counts, "reach": reach, "samples": lost}
    return found | {"rows": shown.to_dict("records"), "picture": picture}


def _feature(tables: Tables, sensitive: str) -> dict[str, Any]:
    """Rates of every arm by group; of several classes the accuracy alone, as rates one-vs-rest are in the tables."""
    rows = tables["groups"].query("sensitive == @sensitive")
    accuracy = rows.query("metric == 'accuracy'")
    rows = rows if rows["class_name"].nunique() == 2 else accuracy
    strips = {
        metric: {arm: part.to_dict("records") for arm, part in of_metric.groupby("arm", sort=False)}
        for metric, of_metric in rows.groupby("metric", sort=False)
    }
    worst = accuracy.loc[accuracy.groupby("arm")["mean"].idxmin()].set_index("arm").to_dict("index")
    pairs = tables["differences"].query("sensitive == @sensitive").dropna(subset="change")
    moved = pairs.loc[pairs["change"].abs().sort_values(ascending=False, kind="stable").index[:MOVED]]
    found = {"name": sensitive, "groups": accuracy.groupby("group", sort=False)["n"].max().to_dict(), "strips": strips}
    found["scales"] = {metric: _scale(of_metric) for metric, of_metric in rows.groupby("metric")}
    return found | {"worst": worst, "moved": moved.to_dict("records")}


def _scale(rows: pd.DataFrame) -> tuple[float, float]:
    """Tenths between which all intervals lie."""
    return np.floor(10 * rows["low"].min()) / 10, max(np.ceil(10 * rows["high"].max()) / 10, 0.1)


def _fairlearn(tables: Tables) -> Rows:
    """Means over runs: a part per metric and feature, a row per arm, a column per group."""
    if "fairlearn" not in tables:
        return []
    parts = []
    for (metric, sensitive), part in tables["fairlearn"].groupby(["metric", "sensitive"], sort=False):
        means = part.groupby(["arm", "group"], sort=False)["value"].mean().unstack()[[*part["group"].unique()]]
        rows = [{"arm": arm, "values": values.tolist()} for arm, values in means.iterrows()]
        parts.append({"metric": metric, "sensitive": sensitive, "columns": list(means), "means": rows})
    return parts


def _curves(about: Mapping[str, Any], tables: Tables, column: str) -> Rows:
    """One panel per metric, feature and model whose `column` varies: rows by x, its scale, and the baseline's mean."""
    found = []
    for model, part in pd.DataFrame(about["arms"]).dropna(subset=column).groupby("model", sort=False):
        at = part.set_index("arm")[column]
        for metric, title in CURVES.items() if at.nunique() > 1 else ():
            for sensitive, rows in tables["metrics"].query("metric == @metric").groupby("sensitive"):
                base = rows.loc[(rows["arm"] == about["baseline"]) & (metric != "disagreement"), "mean"].tolist()
                mine = rows.assign(x=rows["arm"].map(at)).dropna(subset=["x", "mean"]).sort_values("x")
                if len(mine) > 1:
                    name = f"{title}, {sensitive}" if sensitive else title
                    found.append({"title": name, "model": model, "column": column, **_panel(mine, base)})
    return found


def _panel(rows: pd.DataFrame, base: list[float]) -> dict[str, Any]:
    """What a panel shows; x is logarithmic where it spans more than a factor of ten."""
    x, values = rows["x"].to_numpy(float), [*rows[["mean", "low", "high"]].to_numpy(float).ravel(), *base]
    x = np.log(x) if x.min() > 0 and x.max() / x.min() > 10 else x
    low, high = np.nanmin(values), max(np.nanmax(values), np.nanmin(values) + 0.01)
    step = 10 ** np.floor(np.log10((high - low) / 2))
    step *= max(s for s in (1, 2, 5) if s * step <= (high - low) / 2)
    ticks = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step + 0.0
    points = rows.assign(label=[f"{value:g}" for value in rows["x"]], across=x).to_dict("records")
    scale = {"low": low, "high": high, "ends": (x.min(), x.max()), "ticks": ticks.tolist()}
    return {"points": points, "base": base, **scale}
