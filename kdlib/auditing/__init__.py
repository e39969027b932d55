"""An audit of anyone's predictions: what changes from a baseline to other models, for classes, groups and individuals.

`audit` measures, the Report holds tidy tables and writes the page, the JSON, the CSVs and a model card. No torch.
"""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdlib import __version__, files
from kdlib.auditing import classes, gate, groups, individuals, page
from kdlib.auditing.compared import Compared, compared
from kdlib.errors import InvalidInput, KdlibWarning, require_known
from kdlib.measure import group_counts
from kdlib.measure.group_counts import Cells
from kdlib.measure.stats import require_share
from kdlib.predictions import Predictions, named_collapsed
from kdlib.show.save import harmless

TABLES = {"metrics", "classes", "class_counts", "groups", "differences", "runs", "samples", "calibration"}
TABLES |= {"fairlearn", "limits"}


@dataclass(frozen=True, eq=False)
class Report:
    """What an audit found. `print(report)` is the answer; `.html` is the page, `.write(path)` keeps all of it.

    about     what was compared: baseline, arms (the baseline first), samples, left_out, classes, sensitive, margin
    tables    {one of TABLES: DataFrame}, shares as fractions; what could not be measured is NaN, an empty table is left
              out
    """

    about: dict[str, Any]
    tables: dict[str, pd.DataFrame]

    def __str__(self) -> str:
        return "\n".join([*self.answer, *(f"Note: {text}" for text in self.warnings)])

    def _repr_html_(self) -> str:
        return page.framed(self.html)

    @cached_property
    def _view(self) -> dict[str, Any]:
        return page.view(self.about, self.tables)

    @cached_property
    def answer(self) -> tuple[str, ...]:
        """Three plain sentences, on classes, groups and individuals, 95 % intervals in brackets."""
        return page.sentences("answer.txt", self._view)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What must be known before a number is read."""
        return page.sentences("notes.txt", self._view)

    @property
    def html(self) -> str:
        """The page: one file, no network."""
        return page.render("page.html", self._view | {"answer": self.answer, "warnings": self.warnings})

    @property
    def card(self) -> str:
        """Markdown for a model card."""
        return page.render("card.md", self._view | {"answer": self.answer, "warnings": self.warnings})

    def to_json(self) -> str:
        """Everything as JSON; what is undefined is null."""
        tables = {name: _records(frame) for name, frame in self.tables.items()}
        whole = {"about": self.about, "answer": self.answer, "warnings": self.warnings, "tables": tables}
        return json.dumps(whole, indent=1, allow_nan=False)

    def write(self, out: str | Path) -> list[Path]:
        """Write the page `out`, and beside it, under the same name, .json, .md and one .csv a table. Returns the paths.

        An older report of that name is replaced. Raises InvalidInput for a name that is not an .html file, or where one
        of the others is there without the page (it is no older report's), StoreError where none can be written.
        """
        out = Path(out)
        if out.suffix.lower() not in (".html", ".htm") or out.is_dir():
            raise InvalidInput(f"the report {str(out)!r} is a page: name a file that ends in .html.")
        contents = {out: self.html, out.with_suffix(".json"): self.to_json() + "\n", out.with_suffix(".md"): self.card}
        for name, frame in self.tables.items():
            contents[out.with_suffix(f".{name}.csv")] = harmless(frame).to_csv(index=False, lineterminator="\n")
        if strange := [path for path in beside(out) if path.exists() and not out.exists()]:
            raise InvalidInput(
                f"{strange[0]} is there, and no report {out.name}: name another page, or move that file."
            )
        for path, text in contents.items():
            files.replace_file(path, text.encode("utf-8", "replace"))
        for path in {*beside(out)} - {*contents}:
            path.unlink(missing_ok=True)
        return list(contents)


def beside(out: Path) -> list[Path]:
    """The files that may stand beside a page."""
    return [out.with_suffix(f".{name}") for name in ("json", "md", *(f"{table}.csv" for table in sorted(TABLES)))]


def audit(
    predictions: Predictions,
    *,
    sensitive: str | Sequence[str] = (),
    missing: str = "error",
    baseline: str | None = None,
    out: str | Path | None = None,
    metrics: Sequence[str] = (),
    margin: float = 0.03,
    fail_on: Sequence[str] = (),
) -> Report:
    """What changes from the baseline to every other model of a table, from its predictions alone.

    sensitive  names of group columns (keys of predictions.groups)
    missing    samples without a value in one of them: "error" (refused), "group" (a group '(missing)' of their own) or
               "drop" (left out of the whole audit, and counted in it)
    baseline   a model, or an arm such as 'ds T=4'; None: the model called nds
    out        an .html file to write, with its tables beside it (`Report.write`)
    metrics    further metrics by group: names in fairlearn.metrics
    margin     the largest change of a class's accuracy that still counts as equivalent, a fraction
    fail_on    limits such as 'eod>0.05', 'class_drop>0.03' (`gate`); their outcome is in the table `limits`
    Models may have any name. Arms are a model's runs under one temperature or other numeric column of the runs; one run
    is enough for intervals over test samples, two or more are needed to know what seeds do.
    Raises InvalidInput for a baseline, feature, metric or limit that does not fit, UndefinedMetric for a single group.
    """
    if not isinstance(predictions, Predictions):
        what = f"{type(predictions).__name__} {str(predictions)[:80]!r}".splitlines()[0]
        raise InvalidInput(f"predictions is the {what}: read the table first, kdlib.audit(kdlib.read_table(...)).")
    sensitive = (sensitive,) if isinstance(sensitive, str) else tuple(dict.fromkeys(sensitive))
    require_share("margin", margin)
    require_known("missing", missing, ("error", "group", "drop"))
    limits = [gate.parse(text, grouped=bool(sensitive)) for text in fail_on]
    if metrics and not sensitive:
        raise InvalidInput(f"the metric {metrics[0]} is taken by group: name a sensitive feature.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KdlibWarning)  # the report says all of it itself
        n_given = len(predictions.labels)
        for name in sensitive if missing == "drop" else ():
            predictions = predictions.of_samples(group_counts.group_codes(predictions, name, missing=missing)[0] >= 0)
        found = compared(predictions, baseline)
        cells = {name: group_counts.prepare(found.predictions, sensitive=name, missing=missing) for name in sensitive}
        features = {name: counted for name, (counted, _) in cells.items()}
        tables = _measured(found, features, metrics, margin)
        tables["calibration"] = individuals.calibration(found, predictions, features)
    tables["limits"] = gate.check(limits, tables["metrics"], arms=found.judged)
    tables = {name: frame for name, frame in tables.items() if len(frame)}
    others = {"margin": float(margin), "left_out": n_given - len(predictions.labels)}
    report = Report(_about(found, predictions, features) | others, tables)
    if out is not None:
        report.write(out)
    return report


def _measured(
    found: Compared, features: Mapping[str, Cells], metrics: Sequence[str], margin: float
) -> dict[str, pd.DataFrame]:
    """All tables but calibration and limits."""
    p, rows, counted, parts = found.predictions, [], [], defaultdict(list)
    for pair in found:
        rows += [*classes.accuracy(pair), *individuals.changes(pair)]
        if pair.n_base:
            by_class = classes.changes(pair, p.class_names, margin=margin)
            ends = (by_class[name].to_numpy() for name in ("change", "all_low", "all_high"))
            rows.append({"arm": pair.name, "metric": "class_drop"} | classes.largest_drop(*ends, p.class_names))
            counted.append(classes.counts(pair, by_class["verdict"]) | {"lost_samples": individuals.n_lost(pair)})
            parts["classes"].append(by_class)
            parts["samples"].append(individuals.samples(pair, p))
    parts |= {"metrics": [pd.DataFrame(rows)], "runs": [found.runs.assign(metric="accuracy", value=p.accuracy)]}
    for name, cells in features.items():
        for table, frame in groups.measure(found, name, cells).items():
            parts[table].append(frame)
        parts["fairlearn"] += [groups.by_fairlearn(found, metric, name, cells) for metric in metrics]
    tables = {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items() if frames}
    order = ["arm", "sensitive", "metric", "mean", "sd", "low", "high", "where"]
    words = {"sensitive": "", "where": ""}
    metrics = tables["metrics"].reindex(columns=order).astype(dict.fromkeys(words, object)).fillna(words)
    return tables | {"metrics": _at_least_the_whole(metrics), "class_counts": pd.DataFrame(counted)}


def _at_least_the_whole(metrics: pd.DataFrame) -> pd.DataFrame:
    """Accuracy as a whole falls by a mean over classes, or groups: where it falls most it falls by no less."""
    whole = metrics[metrics["metric"] == "accuracy_drop"].set_index("arm")["low"].reindex(metrics["arm"]).to_numpy()
    parts = metrics["metric"].isin(["class_drop", "group_drop"])
    return metrics.assign(low=np.where(parts, np.fmax(metrics["low"], whole), metrics["low"]))


def _about(found: Compared, predictions: Predictions, features: Mapping[str, Cells]) -> dict[str, Any]:
    p, names = found.predictions, predictions.class_names
    about = {"kdlib": __version__, "baseline": found.arms.index[0], "arms": _records(found.arms.reset_index())}
    about |= {"judged": found.judged, "conditions": found.conditions, "runs": len(p.runs), "samples": len(p.labels)}
    about |= {"teachers": int(predictions.runs["teacher_id"].nunique()), "classes": p.n_classes}
    about |= {"positive": names[1] if len(names) == 2 else "", "copies": found.copies, "absent": [*predictions.absent]}
    about |= {"without_samples": [names[c] for c in np.setdiff1d(np.arange(p.n_classes), p.labels)]}
    about |= {"sensitive": {k: {"groups": cells.groups, **groups.coarse(cells)} for k, cells in features.items()}}
    return about | {"collapsed": named_collapsed(predictions)}


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON knows them, numbers to the last digit."""
    return json.loads(frame.to_json(orient="records", double_precision=15))
