"""Whether a study is the paper's own or a stand-in, and why: data set, pair and recipe against what the paper states.

Stand-ins are never set beside the paper's numbers, and never judge its claims. No torch.
"""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from kdlib import files
from kdlib.catalogue import DATASETS, network
from kdlib.errors import InvalidInput
from kdlib.studies import Study

REPORTED = Path(__file__).with_name("reported.csv")
SEEDS = 5

STATED = yaml.safe_load(Path(__file__).with_name("stated.yaml").read_text(encoding="utf-8"))
NOT_CHECKED = ("vit_base", "tinyvit")  # of which the recipe is in a paper of their own
FINE_TUNED = ("bert_base", "distilbert")  # the paper's networks for text


@lru_cache(maxsize=1)
def all_reported() -> pd.DataFrame:
    """Every row of reported.csv; see `numbers.reported`."""
    return in_range(pd.read_csv(io.BytesIO(files.read_verified(REPORTED))))


def in_range(table: pd.DataFrame) -> pd.DataFrame:
    """The table, unchanged. Raises InvalidInput for percent outside 0 .. 100, parts of a class, values below 0."""
    mean, unit = table["mean"], table["unit"]
    off = (unit == "percent") & ~mean.between(0, 100) | (unit == "classes") & (mean % 1 != 0) | ~(mean >= 0)
    for row in table[off].to_dict("records"):
        raise InvalidInput(
            f"{REPORTED.name}: {row['metric']} of {row['model']} in {row['artefact']} is {row['mean']} {row['unit']}. "
            "Percent lie in 0 .. 100, counts are whole. Correct the row."
        )
    return table


def stand_in_reasons(study: Study) -> list[str]:
    """Why a study is not the paper's own, in short phrases; empty if nothing that the paper states is different."""
    if study.simulated:
        return ["simulated, nothing was trained"]
    if not DATASETS[study.dataset].in_paper:
        return [f"data set {study.dataset} is not in the paper", *_seeds(study)]
    return [*_pair(study), *_data(study), *_augment(study), *_training(study), *_seeds(study)]


def _seeds(study: Study) -> list[str]:
    return [f"{study.seeds} seeds instead of {SEEDS}"] if study.seeds < SEEDS else []


def _of_study(study: Study) -> pd.DataFrame:
    """The rows of reported.csv with the study's data set and label."""
    table = all_reported()[all_reported()["dataset"] == study.dataset]
    return table[table["label"] == study.data["label"]] if "label" in study.data else table


def _pair(study: Study) -> list[str]:
    rows = _of_study(study)
    if rows.empty:
        return [f"label {study.data.get('label')} of {study.dataset} is not in the paper"]
    teacher, student = study.teacher["model"], study.student["model"]
    same = rows[(rows["teacher"] == teacher) & (rows["student"] == student)]
    if same.empty:
        pairs = rows[["teacher", "student"]].drop_duplicates().itertuples(index=False)
        return [f"{_titled(teacher, student)} instead of {' or '.join(_titled(*pair) for pair in pairs)}"]
    alphas = sorted(set(same["alpha"]))
    return [] if study.alpha in alphas else [_instead("alpha", study.alpha, " or ".join(map(_shown, alphas)))]


def _titled(teacher: str, student: str) -> str:
    return f"{network(teacher).title} → {network(student).title}"


def _data(study: Study) -> list[str]:
    usual = DATASETS[study.dataset].options
    reasons = [
        _instead(key, value, usual[key])
        for key, value in study.data.items()
        if key not in STATED["left_open"] and value != usual[key]
    ]
    return reasons + [
        f"{key.replace('_', ' ')} {study.data[key]}, the paper's numbers need {least} or more"
        for key, least in STATED["least"].items()
        if study.data.get(key, least) < least
    ]


def _augment(study: Study) -> list[str]:
    if study.dataset == "hatexplain":
        return []
    cropped = study.augment.get("crop") or study.augment.get("resized_crop")
    return ["no random crop"] * (not cropped) + ["no random flip"] * (not study.augment.get("flip"))


def _training(study: Study) -> list[str]:
    """Differences from the paper's recipe; those that teacher and student share are said once."""
    parts = {role: _recipe_reasons(study.dataset, getattr(study, role)) for role in ("teacher", "student")}
    shared = [reason for reason in parts["teacher"] if reason in parts["student"]]
    own = [f"{role}: {reason}" for role, reasons in parts.items() for reason in reasons if reason not in shared]
    return shared + own


def _recipe_reasons(dataset: str, part: dict[str, Any]) -> list[str]:
    if part["model"] in NOT_CHECKED:
        return [f"the recipe of {network(part['model']).title}'s own paper is not checked"]
    recipe = STATED["fine_tuned" if part["model"] in FINE_TUNED or dataset == "hatexplain" else "sgd"]
    wanted = {**recipe, "batch_size": STATED["batch_sizes"][dataset]}
    return [_instead(key, part[key], value) for key, value in wanted.items() if part[key] != value]


def _instead(key: str, ours: Any, paper: Any) -> str:
    said = f"{ours} epochs" if key == "epochs" else f"{key.replace('_', ' ')} {_shown(ours)}"
    return f"{said} instead of {_shown(paper)}"


def _shown(value: Any) -> str:
    """A number, a name or a schedule."""
    if not isinstance(value, dict):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if value["name"] != "step":
        return value["name"]
    return f"/{1 / value['gamma']:g} at {', '.join(f'{m:g}' for m in value['milestones'])}"
