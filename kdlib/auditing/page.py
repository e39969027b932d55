"""The report in words and pictures: the answer in three sentences, the page (page.html) and the model card (card.md).

Everything a table's owner named is text here, never markup: jinja2 escapes it.
"""

from __future__ import annotations

import html as markup
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from jinja2 import Environment

Tables = Mapping[str, pd.DataFrame]
MOVED = 10  # changed differences of groups that are shown
ALL, WORST = 24, 12  # classes up to which all stand in a table; else so many of those that fall most
OUTCOMES = ("broken", "undecided", "kept")
CURVES = {
    "accuracy": "accuracy (%)",
    "class_drop": "largest fall of a class (points)",
    "disagreement": "decided otherwise than the baseline (%)",
    "eod": "equalized odds difference (points)",
    "dpd": "demographic parity difference (points)",
}


# ---------------------------------------------------------------------------------------------------------- the answer


def answer(about: Mapping[str, Any], tables: Tables) -> tuple[str, ...]:
    """Classes, groups, individuals: one sentence each, 95 % intervals in brackets."""
    return _of_classes(about, tables), _of_groups(about, tables), _of_individuals(about, tables)


def _of_classes(about: Mapping[str, Any], tables: Tables) -> str:
    falls, counts = _judged(about, tables, "class_drop"), tables["class_counts"]
    counts = counts[counts["arm"].isin(about["judged"])]
    moved = [
        row | {"mean": -row["mean"], "low": -row["high"], "high": -row["low"]}
        for row in _judged(about, tables, "accuracy_drop")
    ]
    said = ", ".join(f"{_count(counts[name])} {name}" for name in ("changed", "equivalent", "undecided"))
    worst = max(falls, key=lambda row: -np.inf if np.isnan(row["mean"]) else row["mean"])
    where = f"class {worst['where']}" + (f" in {worst['arm']}" if len(falls) > 1 else "")
    falls_most = f"{where} falls most, by {_points(worst)}" if worst["mean"] > 0 else "no class falls"
    of = f"of {about['classes']} classes{' in each' if len(falls) > 1 else ''}"
    return (
        f"Accuracy changes from {percent(_of(tables, 'accuracy', about['baseline'])['mean'])} % ({about['baseline']}) "
        f"by {_span(moved, _signed_points)}; {of}, within ±{100 * about['margin']:g} points: {said}; {falls_most}."
    )


def _of_groups(about: Mapping[str, Any], tables: Tables) -> str:
    if not about["sensitive"]:
        return "No sensitive feature was named, so nothing is said about groups."
    known = [row for row in _judged(about, tables, "eod") if not np.isnan(row["mean"])]
    if not known:
        return (
            f"Equalized odds by {', '.join(about['sensitive'])} are undefined: some group lacks positives or negatives."
        )
    feature = max(known, key=lambda row: row["mean"])["sensitive"]
    rows = [row for row in known if row["sensitive"] == feature]
    base = _of(tables, "eod", about["baseline"], feature)
    chance = [row["high"] for row in _judged(about, tables, "eod_floor") if row["sensitive"] == feature]
    beside = f"; chance alone gives up to {points(max(chance))}" if chance else ""
    others = " (most of the features named)" if len(about["sensitive"]) > 1 else ""
    return (
        f"Between groups by {feature}{others}, error rates differ by {_span(rows, _points)}, in {base['arm']} by "
        f"{_points(base)} (equalized odds difference){beside}."
    )


def _of_individuals(about: Mapping[str, Any], tables: Tables) -> str:
    base, alone = about["baseline"], _of(tables, "disagreement", about["baseline"])["mean"]
    seeds = f"two runs of {base} differ on {percent(alone)} %"
    apart, lost = (_span(_judged(about, tables, name), _percent) for name in ("disagreement", "negative_flips"))
    return (
        f"On {apart} of the samples the decision is another than that of {base}, on {lost} a right one became wrong; "
        f"{'what a new seed alone would change is not known' if np.isnan(alone) else seeds}."
    )


def _judged(about: Mapping[str, Any], tables: Tables, metric: str) -> list[dict[str, Any]]:
    found = tables["metrics"].query("metric == @metric")
    return found[found["arm"].isin(about["judged"])].to_dict("records")


def _of(tables: Tables, metric: str, arm: str, sensitive: str = "") -> dict[str, Any]:
    found = tables["metrics"].query("metric == @metric and arm == @arm")
    return found[found["sensitive"] == sensitive].to_dict("records")[0]


def _span(rows: Sequence[Mapping[str, Any]], form: Callable[[Mapping[str, Any]], str]) -> str:
    """One value in words, or the least and the greatest of several with their arms."""
    if len(rows) == 1:
        return form(rows[0])
    least, most = (pick(rows, key=lambda row: row["mean"]) for pick in (min, max))
    return f"{form(least)} ({least['arm']}) to {form(most)} ({most['arm']})"


def _count(values: pd.Series) -> str:
    return f"{values.min()}" if values.nunique() == 1 else f"{values.min()} to {values.max()}"


def _percent(row: Mapping[str, Any]) -> str:
    return f"{percent(row['mean'])} % [{percent(row['low'])}, {percent(row['high'])}]"


def _points(row: Mapping[str, Any]) -> str:
    return f"{points(row['mean'])} points [{points(row['low'])}, {points(row['high'])}]"


def _signed_points(row: Mapping[str, Any]) -> str:
    return f"{signed(row['mean'])} points [{signed(row['low'])}, {signed(row['high'])}]"


def percent(value: float) -> str:
    """A share in percent, '–' where there is none."""
    return "–" if pd.isna(value) else f"{100 * value:.1f}"


def points(value: float) -> str:
    """A difference in points, with a true minus sign."""
    return "–" if pd.isna(value) else f"{100 * value:z.1f}".replace("-", "−")


def signed(value: float) -> str:
    """A change in points, with its sign."""
    return "–" if pd.isna(value) else f"{100 * value:+z.1f}".replace("-", "−")


# ------------------------------------------------------------------------------------------------------------ the page


def html(about: Mapping[str, Any], tables: Tables, told: Sequence[str], warnings: Sequence[str]) -> str:
    """The whole page."""
    return _render("page.html", about, tables, told, warnings)


def card(about: Mapping[str, Any], tables: Tables, told: Sequence[str], warnings: Sequence[str]) -> str:
    """Markdown for a model card."""
    return _render("card.md", about, tables, told, warnings)


def framed(page: str) -> str:
    """The page as a notebook shows it, apart from the notebook's own styles."""
    return f'<iframe srcdoc="{markup.escape(page)}" style="width:100%;height:800px;border:1px solid #ddd"></iframe>'


def _render(name: str, about: Mapping[str, Any], tables: Tables, told: Sequence[str], warnings: Sequence[str]) -> str:
    frames = {key: frame.to_dict("records") for key, frame in tables.items() if key in ("metrics", "limits")}
    by_name: dict[tuple, dict] = {(r["metric"], r["arm"], r["sensitive"]): r for r in frames["metrics"]}
    others = [arm["arm"] for arm in about["arms"][1:]]
    view = {
        "about": about,
        "answer": told,
        "warnings": warnings,
        "limits": sorted(frames.get("limits", []), key=lambda row: OUTCOMES.index(row["outcome"])),
        "of": lambda metric, arm, sensitive="": by_name.get((metric, arm, sensitive), {}),
        "others": others,
        "arms": [_arm_view(about, tables, name) for name in others],
        "features": [_feature_view(tables, name) for name in about["sensitive"]],
        "calibration": _part(tables, "calibration"),
        "fairlearn": _fairlearn_view(tables),
        "curves": [curve for column in about["conditions"] for curve in _curves(about, tables, column)],
        "tables": sorted(tables),
    }
    return _environment(name).get_template(name).render(view)


@lru_cache(maxsize=2)
def _environment(name: str) -> Environment:
    from jinja2 import Environment, FileSystemLoader

    escaped = name.endswith(".html")
    made = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=escaped, trim_blocks=True)
    made.filters |= {"percent": percent, "points": points, "signed": signed, "plain": _plain_markdown}
    made.globals |= {"place": _place}
    return made


def _place(value: float, low: float, high: float) -> float:
    """Where a value stands between low and high, 0 .. 100."""
    return 50.0 if pd.isna(value) else round(float(np.clip((value - low) / (high - low), 0, 1)) * 100, 2)


def _plain_markdown(text: object) -> str:
    """Text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\`*_{}\[\]|#!~$])", r"\\\1", markup.escape(" ".join(str(text).split()), quote=False))


def _part(tables: Tables, name: str, **where: str) -> list[dict[str, Any]]:
    frame = tables.get(name, pd.DataFrame())
    for column, value in where.items():
        frame = frame[frame[column] == value] if column in frame else frame
    return frame.to_dict("records")


def _arm_view(about: Mapping[str, Any], tables: Tables, arm: str) -> dict[str, Any]:
    """One arm's classes, those that fall most first, and its lost samples."""
    rows = tables["classes"].query("arm == @arm").sort_values(["change", "class_name"], na_position="last")
    ends = rows[["low", "high"]].abs().to_numpy()
    reach = min(1.0, 1.08 * max(float(np.nanmax(ends)), about["margin"]))
    shown = rows if len(rows) <= ALL else rows.head(WORST)
    return {
        "name": arm,
        "counts": _part(tables, "class_counts", arm=arm)[0],
        "rows": shown.to_dict("records"),
        "picture": rows.dropna(subset="change").to_dict("records") if len(rows) > ALL else [],
        "reach": reach,
        "samples": _part(tables, "samples", arm=arm)[:10],
    }


def _feature_view(tables: Tables, sensitive: str) -> dict[str, Any]:
    """Rates of every arm by group; of several classes the accuracy alone, as rates one-vs-rest are in the tables."""
    rows = tables["groups"].query("sensitive == @sensitive")
    rows = rows if rows.query("metric == 'tpr'")["class_name"].nunique() == 1 else rows.query("metric == 'accuracy'")
    strips = {
        metric: {arm: part.to_dict("records") for arm, part in of_metric.groupby("arm", sort=False)}
        for metric, of_metric in rows.groupby("metric", sort=False)
    }
    groups = rows[["group", "n"]].query("group == group").groupby("group", sort=False)["n"].max()
    accuracy = tables["groups"].query("sensitive == @sensitive and metric == 'accuracy'")
    worst = accuracy.loc[accuracy.groupby("arm")["mean"].idxmin()].set_index("arm").to_dict("index")
    scales = {metric: _scale(of_metric) for metric, of_metric in rows.groupby("metric")}
    pairs = tables["differences"].query("sensitive == @sensitive").dropna(subset="change")
    moved = pairs.loc[pairs["change"].abs().sort_values(ascending=False, kind="stable").index[:MOVED]]
    found = {"strips": strips, "scales": scales, "worst": worst, "moved": moved.to_dict("records")}
    return {"name": sensitive, "groups": groups.to_dict(), **found}


def _scale(rows: pd.DataFrame) -> tuple[float, float]:
    """Tenths between which all intervals lie."""
    return np.floor(10 * rows["low"].min()) / 10, max(np.ceil(10 * rows["high"].max()) / 10, 0.1)


def _fairlearn_view(tables: Tables) -> list[dict[str, Any]]:
    """Means over runs: a part per metric and feature, a row per arm, a column per group."""
    frame, parts = tables.get("fairlearn"), []
    for (metric, sensitive), part in () if frame is None else frame.groupby(["metric", "sensitive"], sort=False):
        means = part.groupby(["arm", "group"], sort=False)["value"].mean().unstack()[[*part["group"].unique()]]
        rows = [{"arm": arm, "values": values.tolist()} for arm, values in means.iterrows()]
        parts.append({"metric": metric, "sensitive": sensitive, "columns": list(means), "means": rows})
    return parts


def _curves(about: Mapping[str, Any], tables: Tables, column: str) -> list[dict[str, Any]]:
    """One panel per metric, feature and model whose `column` varies: points in the picture, 300 by 150."""
    arms, found = pd.DataFrame(about["arms"]), []
    frame = tables["metrics"]
    for model, part in arms.groupby("model", sort=False):
        at = part.dropna(subset=column).set_index("arm")[column]
        if at.nunique() < 2:
            continue
        for (metric, sensitive), rows in frame[frame["metric"].isin(CURVES)].groupby(["metric", "sensitive"]):
            mine = rows.assign(x=rows["arm"].map(at)).dropna(subset="x").sort_values("x")
            base = rows.loc[rows["arm"] == about["baseline"], "mean"].dropna()
            if len(mine) > 1 and mine["mean"].notna().all():
                title = CURVES[metric] + (f", {sensitive}" if sensitive else "")
                line = None if metric == "disagreement" or base.empty else float(base.iloc[0])
                found.append({"title": title, "model": model, "column": column, **_panel(mine, line)})
    return sorted(found, key=lambda curve: [*CURVES.values()].index(curve["title"].split(", ")[0]))


def _round_numbers(low: float, high: float) -> np.ndarray:
    """Two to five multiples of 1, 2 or 5 times a power of ten."""
    size = 10 ** np.floor(np.log10((high - low) / 2))
    step = max(s * size for s in (1, 2, 5) if s * size <= (high - low) / 2)
    return np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step


def _panel(rows: pd.DataFrame, base: float | None) -> dict[str, Any]:
    """Where the points of a curve stand; logarithmic where x spans more than a factor of ten."""
    x, y = rows["x"].to_numpy(float), rows[["mean", "low", "high"]].to_numpy(float)
    steps = np.log(x) if x.min() > 0 and x.max() / x.min() > 10 else x
    low, high = (pick([*y.ravel(), *([] if base is None else [base])]) for pick in (np.nanmin, np.nanmax))
    low, high = low - 0.06 * (high - low or 0.01), high + 0.06 * (high - low or 0.01)
    across = 46 + 245 * (steps - steps.min()) / (steps.max() - steps.min())

    def down(value: float) -> float:
        return round(150 - 135 * (value - low) / (high - low), 1)

    return {
        "points": [
            {"x": round(a, 1), "label": f"{v:g}", "value": percent(m), "y": down(m), "top": down(h), "bottom": down(lo)}
            for a, v, (m, lo, h) in zip(across, x, y, strict=True)
        ],
        "ticks": [{"y": down(v), "label": f"{100 * v:z.3g}".replace("-", "−")} for v in _round_numbers(low, high)],
        "base": None if base is None else down(base),
    }
