"""An audit of anyone's predictions: what changes from a baseline to other models, for classes, groups and individuals.

`audit` measures, the Report holds tidy tables and writes the page, the JSON, the CSVs and a model card. No torch.
"""

from __future__ import annotations

import json
import warnings
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
from kdlib.errors import InvalidInput, KdlibWarning
from kdlib.measure import group_counts
from kdlib.measure.group_counts import Cells
from kdlib.measure.stats import require_share
from kdlib.predictions import Predictions
from kdlib.show.save import harmless


@dataclass(frozen=True, eq=False)
class Report:
    """What an audit found. `print(report)` is the answer; `.html` shows the page, `.write(path)` keeps all of it.

    about     what was compared: baseline, arms (the baseline first), samples, classes, sensitive, margin
    tables    {name: DataFrame}, shares as fractions: metrics, classes, class_counts, groups, differences, runs,
              samples, calibration, fairlearn, limits; what could not be measured is NaN, an empty table is left out
    warnings  what must be known before a number is read
    """

    about: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([*self.answer, *(f"Note: {text}" for text in self.warnings)])

    def _repr_html_(self) -> str:
        return page.framed(self.html)

    @cached_property
    def answer(self) -> tuple[str, ...]:
        """Three plain sentences with their uncertainty: classes, groups, individuals."""
        return page.answer(self.about, self.tables)

    @cached_property
    def html(self) -> str:
        """The page: one file, no network."""
        return page.html(self.about, self.tables, self.answer, self.warnings)

    @cached_property
    def card(self) -> str:
        """Markdown for a model card."""
        return page.card(self.about, self.tables, self.answer, self.warnings)

    def to_json(self) -> str:
        """Everything as JSON; what is undefined is null."""
        tables = {name: frame.to_dict("records") for name, frame in self.tables.items()}
        whole = {"about": self.about, "answer": self.answer, "warnings": self.warnings, "tables": tables}
        return json.dumps(_plain(whole), indent=1, allow_nan=False)

    def write(self, out: str | Path) -> list[Path]:
        """Write the page `out`, and beside it, under the same name, .json, .md and one .csv a table. Returns the paths.

        Raises InvalidInput for a name that is not an .html file, StoreError where the folder cannot be written.
        """
        out = Path(out)
        if out.suffix.lower() not in (".html", ".htm") or out.is_dir():
            raise InvalidInput(f"the report {str(out)!r} is a page: name a file that ends in .html.")
        contents = {out: self.html, out.with_suffix(".json"): self.to_json() + "\n", out.with_suffix(".md"): self.card}
        for name, frame in self.tables.items():
            contents[out.with_suffix(f".{name}.csv")] = harmless(frame).to_csv(index=False, lineterminator="\n")
        for path, text in contents.items():
            files.replace_file(path, text.encode("utf-8", "replace"))
        return list(contents)


def audit(
    predictions: Predictions,
    *,
    sensitive: str | Sequence[str] = (),
    baseline: str | None = None,
    out: str | Path | None = None,
    metrics: Sequence[str] = (),
    margin: float = 0.03,
    fail_on: Sequence[str] = (),
) -> Report:
    """What changes from the baseline to every other model of a table, from its predictions alone.

    sensitive  names of group columns (keys of predictions.groups)
    baseline   a model, or an arm such as 'ds T=4'; None: the model called nds
    out        an .html file to write, with its tables beside it (`Report.write`)
    metrics    further metrics by group: names in fairlearn.metrics
    margin     the largest change of a class's accuracy that still counts as equivalent, a fraction
    fail_on    limits such as 'eod>0.05', 'class_drop>0.03' (`gate`); their outcome is in the table `limits`
    Models may have any name. Arms are a model's runs under one temperature or other numeric column of the runs; one run
    is enough for intervals over test samples, two or more are needed to know what seeds do.
    Raises InvalidInput for a baseline, feature, metric or limit that does not fit, UndefinedMetric for a single group.
    """
    sensitive = (sensitive,) if isinstance(sensitive, str) else tuple(dict.fromkeys(sensitive))
    require_share("margin", margin)
    limits = [gate.parse(text, grouped=bool(sensitive)) for text in fail_on]
    if metrics and not sensitive:
        raise InvalidInput(f"the metric {metrics[0]} is taken by group: name a sensitive feature.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KdlibWarning)  # the report says all of it itself
        found = compared(predictions, baseline)
        features = {name: group_counts.prepare(found.predictions, sensitive=name)[0] for name in sensitive}
        confidence = _confidence(predictions, found.predictions.runs["run_id"])
        tables, told = _measured(found, confidence, features, metrics, margin)
    tables["limits"] = gate.check(limits, tables["metrics"], arms=found.judged)
    tables = {name: frame for name, frame in tables.items() if len(frame)}
    report = Report(_about(found, predictions, features, margin), tables, tuple(found.warnings + told))
    if out is not None:
        report.write(out)
    return report


def _confidence(predictions: Predictions, run_ids: pd.Series) -> np.ndarray | None:
    """(R, N) largest probabilities of these runs, read run by run."""
    rows = pd.Index(predictions.runs["run_id"]).get_indexer(run_ids)
    if predictions.probabilities is not None:
        return np.stack([predictions.probabilities[row].max(axis=1) for row in rows])
    return None if predictions.confidence is None else predictions.confidence[rows]


def _measured(
    found: Compared, confidence: np.ndarray | None, features: Mapping[str, Cells], metrics: Sequence[str], margin: float
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """All tables but the limits, and what the groups have to be warned of."""
    rows, by_class, counts, lost = classes.accuracy(found.alone), [], [], []
    for pair in found.pairs:
        changed = classes.changes(pair, found.predictions.class_names, margin=margin)
        drop = classes.largest_drop(
            *(changed[name].to_numpy() for name in ("change", "all_low", "all_high")), changed["class_name"]
        )
        rows += [*classes.accuracy(pair), {"arm": pair.name, "metric": "class_drop"} | drop, *individuals.changes(pair)]
        by_class.append(changed)
        counts.append(classes.counts(pair, changed["verdict"]))
        lost.append(individuals.samples(pair, found.predictions))
    rows.append({"arm": found.baseline, "metric": "disagreement", "mean": individuals.among_seeds(found.alone)})
    of_groups = [groups.measure(found, name, cells) for name, cells in features.items()]
    runs = found.predictions.runs[["run_id", "model", "seed"]].rename(columns={"model": "arm"})
    parts = {"metrics": [pd.DataFrame(rows)], "groups": [], "differences": []}
    parts["runs"] = [runs.assign(metric="accuracy", value=found.predictions.accuracy)]
    for frames in of_groups:
        for name, frame in frames.items():
            parts[name].append(frame)
    tables = {
        name: pd.concat(frames, ignore_index=True) if frames else pd.DataFrame() for name, frames in parts.items()
    }
    order = ["arm", "sensitive", "metric", "mean", "sd", "low", "high", "where"]
    tables["metrics"] = tables["metrics"].reindex(columns=order)
    for name in ("sensitive", "where"):
        tables["metrics"][name] = [text if isinstance(text, str) else "" for text in tables["metrics"][name]]
    tables |= {"classes": pd.concat(by_class, ignore_index=True), "class_counts": pd.DataFrame(counts)}
    tables |= {"samples": pd.concat(lost, ignore_index=True)}
    tables["calibration"] = individuals.calibration(found, confidence, features)
    named = [groups.by_fairlearn(found, metric, *feature) for metric in metrics for feature in features.items()]
    tables["fairlearn"] = _joined(named)
    return tables, [text for name, cells in features.items() for text in groups.told(cells, name)]


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _about(found: Compared, predictions: Predictions, features: Mapping[str, Cells], margin: float) -> dict[str, Any]:
    teachers = predictions.runs["teacher_id"].dropna()
    return {
        "kdlib": __version__,
        "baseline": found.baseline,
        "arms": found.arms.reset_index().to_dict("records"),
        "judged": found.judged,
        "conditions": found.conditions,
        "runs": len(found.predictions.runs),
        "teachers": int(teachers.nunique()),
        "samples": len(predictions.labels),
        "classes": predictions.n_classes,
        "positive": str(predictions.class_names[1]) if predictions.n_classes == 2 else "",
        "sensitive": {name: len(cells.groups) for name, cells in features.items()},
        "probabilities": predictions.probabilities is not None or predictions.confidence is not None,
        "margin": margin,
    }


def _plain(value: Any) -> Any:
    """As JSON knows it."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value
